"""Near duplicates, against every pair compared in full."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.base.near import near_any, near_earlier
from tutelage.base.records import Message
from tutelage.base.split import split_of, split_sides

WORDS = "the a quick brown fox jumps over lazy dog please tell me how to make green tea at home without any sugar or milk today".split()


@cache
def grams(text: str) -> frozenset[str]:
    words = re.findall(r"[^\W_]+", text.casefold())
    text = " " + (" ".join(words) or text.casefold()) + " "
    return frozenset(text[i:i + 3] for i in range(max(len(text) - 2, 1)))


def likeness(one: str, other: str) -> float:
    """Jaccard of character trigrams of the words between single spaces, written out; 0 where the numbers differ."""
    if re.findall(r"\d+", one) != re.findall(r"\d+", other):
        return 0.0
    return len(grams(one) & grams(other)) / len(grams(one) | grams(other))


def sentences(count: int, seed: int) -> list[str]:
    """Sentences of which many are a word, a letter or a number away from another."""
    rng = random.Random(seed)
    out = [" ".join(rng.choices(WORDS, k=rng.randint(3, 20))) for _ in range(count // 3)]
    while len(out) < count:
        text = rng.choice(out).split()
        change = rng.randrange(4)
        at = rng.randrange(len(text))
        text[at] = (rng.choice(WORDS), text[at][:-1] + "x", f"{text[at]} {rng.randint(1, 3)}", f"{text[at]}, {rng.choice(WORDS)}")[change]
        out.append(" ".join(text))
    return out


def test_it_finds_what_comparing_every_pair_finds():
    texts, others = sentences(600, seed=1), sentences(600, seed=1)[1:200:2] + sentences(60, seed=2)
    expected = [any(likeness(text, other) >= 0.8 for other in others) for text in texts]
    found = near_any(texts, others)
    missed = sum(e and not f for e, f in zip(expected, found, strict=True))
    assert not any(f and not e for e, f in zip(expected, found, strict=True))        # nothing is found that is not there
    assert 100 < sum(expected) < 500 and missed <= 1                                # each is missed with probability 0.0002 at most


def test_of_two_copies_the_later_names_the_earlier():
    texts = sentences(300, seed=3)
    found = near_earlier(texts)
    expected = [any(likeness(text, earlier) >= 0.8 for earlier in texts[:i]) for i, text in enumerate(texts)]
    assert all(other is None or other < i and likeness(texts[i], texts[other]) >= 0.8 for i, other in enumerate(found))
    assert 50 < sum(expected) < 250 and sum(e != (f is not None) for e, f in zip(expected, found, strict=True)) <= 1
    assert near_earlier([]) == [] and near_earlier(["Same.", "same"]) == [None, 0]


@settings(max_examples=60)
@given(st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=5), st.integers(0, 4), st.sampled_from(["upper", "space", "mark"]))
def test_case_spacing_and_punctuation_never_hide_a_duplicate(texts, at, how):
    words = texts[at % len(texts)]
    twin = {"upper": words.upper(), "space": "  " + words.replace(" ", "   "), "mark": words + "?!"}[how]
    if re.sub(r"[\W_]+", " ", twin.casefold()).strip() == re.sub(r"[\W_]+", " ", words.casefold()).strip() != "":
        assert near_any([twin], texts) == [True]


def test_other_numbers_make_another_question_and_short_ones_differ_by_a_word():
    question = "convert the number {} from decimal to binary and explain each step of the way to a child"
    assert near_any([question.format(5)], [question.format(10)]) == [False]
    assert near_any([question.format("five")], [question.format("fives")]) == [True]
    assert near_any(["is a cat big"], ["is a dog big"]) == [False] and near_any([], ["a"]) == near_any(["a"], [])[1:] == []


def test_a_form_filled_with_many_numbers_does_not_hide_the_one_with_the_same_number():
    form = "convert the number {} from decimal to binary and explain each step of the way to a {}child"
    others = [form.format(i, "") for i in range(1000, 3000)]
    assert near_any([form.format(2999, "little "), form.format(3000, "little ")], others) == [True, False]


def test_no_prompt_trained_on_nearly_repeats_a_held_out_one_and_held_out_ones_stay_so():
    prompts = sentences(600, seed=3)
    sides = split_sides(prompts, eval_frac=0.1, seed=0)
    held = [p for p, side in zip(prompts, sides, strict=True) if side == "eval"]
    assert [side == "eval" for side in sides] == [split_of(p, eval_frac=0.1, seed=0) == "eval" for p in prompts]
    assert not any(likeness(p, h) >= 0.8 for p, side in zip(prompts, sides, strict=True) if side == "train" for h in held)
    assert 0 < sides.count(None) < sides.count("train")
    kept = split_sides(prompts, eval_frac=0.1, seed=0, keep_near=True)
    assert kept == [side or "train" for side in sides]
    assert split_sides(prompts, eval_frac=0.0, seed=0) == ["train"] * 600


def test_conversations_are_compared_by_what_splits_them(caplog):
    def talk(first: str, later: str) -> tuple[Message, ...]:
        return (Message("user", first), Message("assistant", "yes?"), Message("user", later))
    question = "please tell me how to make green tea at home"
    rows = [talk(question, f"and {word} then") for word in WORDS] + [talk(f"hey {question}", word) for word in WORDS]
    seed = next(s for s in range(99) if split_of(rows[0], eval_frac=0.5, seed=s, by="first_turn") == "eval"
                and split_of(rows[-1], eval_frac=0.5, seed=s, by="first_turn") == "train")
    assert set(split_sides(rows, eval_frac=0.5, seed=seed, by="first_turn")) == {"eval", None}
    assert "25 of 25 training rows left out: their prompts nearly repeat held-out ones" in caplog.text


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_another_process_finds_the_same(hash_seed):
    texts = [f"{WORDS[i % 7]} {' '.join(WORDS[i % 5:i % 11 + 9])} {WORDS[i % 13]}" for i in range(150)]
    code = "import sys; from tutelage.base.near import near_any; print(near_any(sys.argv[1:101], sys.argv[101:]))"
    done = subprocess.run([sys.executable, "-c", code, *texts], env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(sys.path)},
                          capture_output=True, text=True, check=True)
    found = near_any(texts[:100], texts[100:])
    assert done.stdout.strip() == str(found) and set(found) == {True, False}
