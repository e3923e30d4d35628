"""Consent, prefixes, the cap and the sides, against what comparing each with each would give."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.base.records import Message
from tutelage.feedback import splits
from tutelage.feedback.splits import MIN_PREFIX, MIN_SHARE, UserPrompt, prefix_groups, select_prompts


def are_one(a: str, b: str) -> bool:
    """The rule as the documentation says it."""
    common = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return a == b or (common >= MIN_PREFIX and common >= MIN_SHARE * min(len(a), len(b)))


def closure(texts: list[str]) -> list[list[int]]:
    """Groups by comparing each with each until nothing moves."""
    group = list(range(len(texts)))
    moved = True
    while moved:
        moved = False
        for i in range(len(texts)):
            for j in range(i):
                if group[i] != group[j] and are_one(texts[i], texts[j]):
                    old, new = max(group[i], group[j]), min(group[i], group[j])
                    group = [new if g == old else g for g in group]
                    moved = True
    return sorted(sorted(i for i, g in enumerate(group) if g == name) for name in set(group))


# Pieces as long as the rule's lengths, so that prefixes of every kind meet.
TEXTS = st.lists(st.tuples(st.sampled_from(["", "a" * 40, "a" * 100, "a" * 130, "b" * 99, "b" * 100]), st.sampled_from(["", "x" * 30,
    "y" * 66, "x" * 80]),
                           st.sampled_from(["", "p", "q" * 60, "z" * 100])).map("".join), max_size=14)


@settings(max_examples=300)
@given(TEXTS)
def test_the_groups_are_those_that_comparing_each_with_each_gives(texts):
    assert sorted(sorted(group) for group in prefix_groups(texts)) == closure(texts)


def test_a_longer_text_before_and_one_after_are_both_one_with_the_short_one_between():
    # The short one names 100 characters; the long ones name more than they share with it.
    short, before, after = "m" * 100 + "m", "m" * 100 + "a" * 300, "m" * 100 + "z" * 300
    assert sorted(map(sorted, prefix_groups([after, short, before]))) == [[0, 1, 2]]
    assert sorted(map(sorted, prefix_groups([after, before]))) == [[0], [1]]


def prompts(count: int, users: int, seed: int, **more) -> list[UserPrompt]:
    rng = random.Random(seed)
    words = "tea milk cup hot cold leaf water sugar spoon pot brew steep green black lemon mint".split()
    return [UserPrompt(" ".join(rng.choices(words, k=12)) + f" {i}", "customer", f"u{rng.randrange(users)}", consent=True, **more)
            for i in range(count)]


def test_without_consent_a_customers_prompt_is_on_no_side_and_does_not_displace_another():
    shared = "Summarise the following report about the harbour in three sentences, plainly and without any of the figures: " + "x" * 20
    rows = [UserPrompt(shared + "A", "customer", "u1"), UserPrompt(shared + "B", "customer", "u2", consent=True), UserPrompt("hello",
        "labeler", "ann")]
    for seed in range(20):
        done = select_prompts(rows, eval_frac=0.5, seed=seed)
        assert done.sides[0] is None and done.sides[1] is not None and done.sides[2] is not None
        assert done.left_out == {"no consent": [0]}


def test_a_user_is_wholly_on_one_side_and_stays_there_when_others_come():
    rows = prompts(600, 60, seed=1)
    done = select_prompts(rows, eval_frac=0.3, seed=4)
    more = select_prompts(rows + prompts(300, 90, seed=2), eval_frac=0.3, seed=4)
    side_of: dict[str | None, set] = {}
    for row, side, later in zip(rows, done.sides, more.sides, strict=False):
        side_of.setdefault(row.user, set()).update({side, later} - {None})
    assert all(len(sides) <= 1 for sides in side_of.values())
    held = sum(sides == {"eval"} for sides in side_of.values())
    assert 6 <= held <= 30                                          # 18 expected of 60, standard deviation 3.5
    assert done.sides != select_prompts(rows, eval_frac=0.3, seed=5).sides


def test_a_customer_and_a_labeler_of_the_same_name_are_two_people():
    sides = {(source, seed): select_prompts([UserPrompt(source, source, "7", consent=True)], eval_frac=0.5, seed=seed).sides[0]
             for source in ("customer", "labeler") for seed in range(40)}
    assert any(sides["customer", seed] != sides["labeler", seed] for seed in range(40))


def test_at_most_200_prompts_of_a_user_are_kept_whatever_their_order():
    rows = prompts(450, 1, seed=3) + prompts(30, 3, seed=9)
    done = select_prompts(rows, eval_frac=0.0, seed=0)
    kept = {row.prompt for row, side in zip(rows, done.sides, strict=True) if side}
    assert sum(side is not None for side in done.sides[:450]) <= 200 and len(done.left_out["beyond the user's share"]) >= 250
    shuffled = random.Random(0).sample(rows, len(rows))
    again = select_prompts(shuffled, eval_frac=0.0, seed=0)
    assert {row.prompt for row, side in zip(shuffled, again.sides, strict=True) if side} == kept
    for favoured in (rows[:200], sorted(rows[:450], key=lambda row: row.prompt)[:200], sorted(rows[:450],
                                                                                              key=lambda row: len(row.prompt))[:200]):
        assert 50 < len(kept & {row.prompt for row in favoured}) < 130    # by hash: some 85 of any 200
    assert sum(s is not None for s in select_prompts([UserPrompt(r.prompt, "labeler", "ann") for r in rows], eval_frac=0,
                                                     seed=0).sides) > 400


@settings(max_examples=60)
@given(st.lists(st.tuples(TEXTS.map(lambda texts: "".join(texts[:1])), st.sampled_from(["u1", "u2", None]), st.booleans(),
                          st.sampled_from(["customer", "labeler"])), max_size=12), st.integers(0, 3), st.randoms(use_true_random=False))
def test_every_prompt_is_on_a_side_or_has_one_reason_and_order_changes_nothing(rows, seed, rng):
    given_rows = [UserPrompt(text, source, user, consent) for text, user, consent, source in rows]
    done = select_prompts(given_rows, eval_frac=0.5, seed=seed, max_per_user=2)
    reasons = [i for places in done.left_out.values() for i in places]
    assert sorted(reasons + [i for i, side in enumerate(done.sides) if side]) == list(range(len(rows)))
    shuffled = rng.sample(given_rows, len(given_rows))
    again = select_prompts(shuffled, eval_frac=0.5, seed=seed, max_per_user=2)
    outcome = [sorted((str(row), str(side)) for row, side in zip(r, s.sides, strict=True)) for r, s in ((given_rows, done), (shuffled,
        again))]
    assert outcome[0] == outcome[1]
    kept = [str(row.prompt) for row, side in zip(given_rows, done.sides, strict=True) if side]
    assert not any(are_one(kept[i], kept[j]) for i in range(len(kept)) for j in range(i))


def test_prompts_without_a_user_fall_by_their_words_and_near_repeats_do_not_face_each_other():
    question = "what is the best way to make a cup of green tea at home with cold water"
    rows = [UserPrompt(question), UserPrompt(question + " please"), UserPrompt("so " + question)]
    for seed in range(30):
        sides = select_prompts(rows, eval_frac=0.5, seed=seed).sides
        assert {"train", "eval"} - set(sides)
    told = (Message("system", "You are kind."), Message("user", question))
    assert len({select_prompts([UserPrompt(p)], eval_frac=0.5, seed=1).sides[0] for p in (question, told, question.upper())}) == 1


@pytest.mark.parametrize("first", [Message("system", "You are the assistant of a tea shop. " * 20), Message("assistant",
    "Welcome to the tea shop! " * 9)])
def test_a_long_system_turn_or_greeting_does_not_make_questions_one(first):
    rows = [UserPrompt((first, Message("user", text))) for text in ("How long does mint steep?", "Do you deliver to Oslo?")]
    assert None not in select_prompts(rows, eval_frac=0, seed=0).sides


def test_contexts_cut_from_one_growing_conversation_are_one():
    turns = (Message("user",
                     "Please plan a week of cheap dinners for two people who like beans, rice and greens but no cheese at all, ever."),
             Message("assistant", "Monday: beans."), Message("user", "And Tuesday?"), Message("assistant", "Rice."), Message("user",
                 "Thanks."))
    rows = [UserPrompt(turns[:n]) for n in (1, 3, 5)] + [UserPrompt(turns[0].content)]
    done = select_prompts(rows, eval_frac=0, seed=0)
    assert sum(side is not None for side in done.sides) == 1 and len(done.left_out["shares a long prefix"]) == 3


def test_twenty_thousand_prompts_with_one_prefix_or_none_take_seconds_at_most():
    for texts in ([f"{'the same opening of a prompt ' * 8}{i}" for i in range(20_000)], [f"{i} is another question" for i in range(20_000)],
                  ["a" * i for i in range(1, 2_000)]):
        started = time.process_time()
        groups = prefix_groups(texts)
        assert time.process_time() - started < 3                    # measured: 0.1 s; each with each would be 200 million comparisons
        assert sum(map(len, groups)) == len(texts)


def test_the_rule_reads_as_documented():
    assert (MIN_PREFIX, MIN_SHARE, splits.MAX_PER_USER) == (100, 0.6, 200)
