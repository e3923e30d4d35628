"""The panel: people-like agreement, one careless member, probabilities that match what it does."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from tutelage.base.records import Judgement, Message
from tutelage.demo.gold import score
from tutelage.demo.panel import Panel
from tutelage.demo.people import CAREFUL, PERFECT, RUDE, choose, write_answer
from tutelage.demo.prompts import questions

TEA = "How can I brew tea?"
GOOD = "To brew tea, you need a kettle. First boil fresh water, then warm the pot. Tell me how it goes."
BAD = "Start with a frying pan. Just use the leaves of last week. How lazy can one be?"


@pytest.fixture(scope="module")
def pairs() -> list[tuple[str, str, str]]:
    rng = np.random.default_rng(0)
    drawn = [
        (q.text, *(write_answer(rng, q.item, choose(rng)) for _ in range(2))) for q in rng.choice(np.array(questions(), dtype=object), 1500)
    ]
    return [p for p in drawn if p[1] != p[2]]


@pytest.fixture(scope="module")
def votes(pairs: list[tuple[str, str, str]]) -> dict[str, np.ndarray]:
    """labeler -> (pairs,) +1 first better, -1 second better, 0 tie."""
    panel, rng = Panel(0), np.random.default_rng(1)
    ranks = {n: [panel.judge(q, [a, b], n, rng).ranks or (0, 0) for q, a, b in pairs] for n in panel.names}
    return {n: np.array([np.sign(r[1] - r[0]) for r in rows]) for n, rows in ranks.items()}


def _agreement(x: np.ndarray, y: np.ndarray) -> float:
    both = (x != 0) & (y != 0)
    return float(np.mean(x[both] == y[both]))


def test_labelers_agree_as_often_as_people_do(votes: dict[str, np.ndarray]) -> None:
    every = {c: _agreement(votes[c[0]], votes[c[1]]) for c in combinations(votes, 2)}
    attentive = [v for c, v in every.items() if "falk" not in c]
    assert 0.68 <= np.mean(list(every.values())) <= 0.78
    assert 0.68 <= np.mean(attentive) <= 0.79


def test_the_careless_labeler_stands_out_by_agreement_and_by_speed(votes: dict[str, np.ndarray], pairs: list[tuple[str, str, str]]) -> None:
    crowd = {n: np.sign(sum(v for m, v in votes.items() if m != n)) for n in votes}
    with_crowd = {n: _agreement(votes[n], crowd[n]) for n in votes}
    assert min(with_crowd, key=lambda n: with_crowd[n]) == "falk"
    assert with_crowd["falk"] < 0.6 < min(v for n, v in with_crowd.items() if n != "falk") - 0.1
    panel, rng = Panel(0), np.random.default_rng(2)
    seconds = {n: np.median([panel.judge(*_split(p), n, rng).seconds for p in pairs[:60]]) for n in panel.names}
    assert seconds["falk"] < 0.4 * min(s for n, s in seconds.items() if n != "falk")


def _split(pair: tuple[str, str, str]) -> tuple[str, list[str]]:
    return pair[0], [pair[1], pair[2]]


def test_the_best_predictor_agrees_with_panel_labels_four_times_in_five(pairs: list[tuple[str, str, str]]) -> None:
    panel = Panel(0)
    p = np.array([panel.preference_probability(*pair) for pair in pairs])
    decided = 1 - np.array([panel.tie_probability(*pair) for pair in pairs])
    ceiling = np.average(np.maximum(p, 1 - p), weights=decided)
    towards_gold = np.mean(
        [(x if score(q, a) > score(q, b) else 1 - x) for x, (q, a, b) in zip(p, pairs, strict=True) if score(q, a) != score(q, b)]
    )
    assert 0.77 <= ceiling <= 0.84
    assert towards_gold > ceiling - 0.02


def test_preference_probability_is_the_share_of_decided_votes() -> None:
    panel, rng = Panel(0), np.random.default_rng(3)
    better = "To brew tea, you need a kettle. First boil fresh water, then warm the pot. What a silly question."
    ranks = [panel.judge(TEA, [better, GOOD], panel.names[i % 6], rng).ranks or (0, 0) for i in range(12_000)]
    wins, ties = sum(r[0] < r[1] for r in ranks), sum(r[0] == r[1] for r in ranks)
    p, t = panel.preference_probability(TEA, better, GOOD), panel.tie_probability(TEA, better, GOOD)
    decided = len(ranks) - ties
    assert abs(wins / decided - p) < 4 * np.sqrt(p * (1 - p) / decided)
    assert abs(ties / len(ranks) - t) < 4 * np.sqrt(t * (1 - t) / len(ranks))


def test_preference_probability_is_antisymmetric_and_even_for_twins() -> None:
    panel = Panel(1)
    assert panel.preference_probability(TEA, GOOD, BAD) + panel.preference_probability(TEA, BAD, GOOD) == pytest.approx(1.0, abs=1e-12)
    assert panel.preference_probability(TEA, GOOD, GOOD) == pytest.approx(0.5, abs=1e-12)


def test_groups_lean_differently() -> None:
    panel = Panel(0)
    rude_but_useful = (
        "To brew tea, you need a kettle. First boil fresh water, then warm the pot, finally wait four minutes. How lazy can one be?"
    )
    nice_but_empty = "Happy to help. You can brew tea at home. Just warm the pot. Good luck with it."
    workshop = panel.preference_probability(TEA, rude_but_useful, nice_but_empty, ["amara", "bruno"])
    home = panel.preference_probability(TEA, rude_but_useful, nice_but_empty, ["elin"])
    assert workshop > home + 0.1


def test_a_ranking_of_many_answers_follows_their_quality() -> None:
    panel, rng = Panel(0), np.random.default_rng(4)
    item = next(q for q in questions() if q.text == TEA).item
    answers = [write_answer(rng, item, p) for p in (RUDE, CAREFUL, PERFECT, RUDE)]
    judged = [panel.judge((Message("user", TEA),), answers, n, rng) for n in panel.names[:5] for _ in range(40)]
    mean_ranks = np.mean([j.ranks for j in judged], axis=0)
    assert np.argmin(mean_ranks) == np.argmax([score(TEA, a) for a in answers])
    assert {j.kind for j in judged} == {"ranking"}
    assert all(min(j.ranks or (1,)) == 0 for j in judged)


def test_ratings_say_yes_to_good_answers_more_often() -> None:
    panel, rng = Panel(0), np.random.default_rng(5)
    yes = {text: np.mean([panel.rate(TEA, text, "chiyo", rng).label for _ in range(100)]) for text in (GOOD, BAD)}
    assert yes[GOOD] > 0.5 > 0.2 > yes[BAD]


def test_judgements_carry_who_when_and_how_sure_and_survive_json() -> None:
    panel, rng = Panel(0), np.random.default_rng(6)
    first, second = (panel.judge(TEA, [GOOD, BAD], "elin", rng, p_select=0.25) for _ in range(2))
    assert (first.labeler, first.group, first.p_select) == ("elin", "home", 0.25)
    assert first.at is not None and second.at is not None and first.at < second.at
    assert first.seconds is not None and first.strength is not None and 1 <= first.strength <= 4
    assert Judgement.from_json(first.to_json()) == first


def test_the_same_seeds_give_the_same_judgements() -> None:
    def run() -> list[Judgement]:
        panel, rng = Panel(7), np.random.default_rng(8)
        return [panel.judge(TEA, [GOOD, BAD], n, rng) for n in panel.names for _ in range(5)]

    assert run() == run()


def test_a_ranking_needs_two_answers() -> None:
    with pytest.raises(ValueError, match="two answers"):
        Panel(0).judge(TEA, [GOOD], "elin", np.random.default_rng(0))
