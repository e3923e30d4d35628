"""What judgements say of answers, and how much each counts."""

from __future__ import annotations

import numpy as np
import pytest

from tutelage.base.errors import ConfigError, DataError
from tutelage.base.records import Judgement, Response
from tutelage.feedback.likelihood import as_preference, example_weights, labeler_reliability, read_as_opposite


def judged(kind: str = "comparison", texts: tuple[str, ...] = ("a", "b"), **said) -> Judgement:
    return Judgement("p", tuple(map(Response, texts)), kind, **said)


def test_an_edit_is_a_pair_that_its_author_prefers_with_everything_else_kept():
    edit = judged("edit", ("it rains",), edit="It rains today.", labeler="amara", group="home", weight=0.5, p_select=0.2)
    assert as_preference(edit) == judged("comparison", ("It rains today.", "it rains"), ranks=(0, 1), edit="It rains today.",
                                         labeler="amara", group="home", weight=0.5, p_select=0.2)
    assert as_preference(judged("edit", ("it  rains\n",), edit="it rains")) is None                     # nothing was changed
    assert as_preference(judged("critique", ("a",), critique="too short")) is None
    both = judged("critique", ("a",), critique="too short", edit="a, b")
    assert as_preference(both) == judged("comparison", ("a, b", "a"), ranks=(0, 1), critique="too short", edit="a, b")


@pytest.mark.parametrize("ranks, expected", [((0, 1), 0.9), ((1, 0), pytest.approx(0.1))])
def test_a_strength_becomes_the_probability_that_the_first_answer_is_better(ranks, expected):
    targets = [0.6, 0.75, 0.9, 0.98]
    assert as_preference(judged(ranks=ranks, strength=3.0), strength_targets=targets).extra == {"target": expected}
    for left_alone in (judged(ranks=(0, 0), strength=3), judged(ranks=ranks), judged(ranks=ranks, strength=3, extra={"target": 0.7}),
                       judged("ranking", ("a", "b", "c"), ranks=(0, 1, 2), strength=3), judged("label", ("a",), label=True)):
        assert as_preference(left_alone, strength_targets=targets) == left_alone
    for strength in (0, 2.5, 5):
        with pytest.raises(DataError, match="has no target: 4 are given, for 1 to 4"):
            as_preference(judged(ranks=ranks, strength=strength), strength_targets=targets)


def test_choices_below_the_least_strength_are_left_out_but_ties_and_silent_ones_stay():
    kept = [judged(ranks=(0, 1), strength=2), judged(ranks=(0, 1)), judged(ranks=(0, 0), strength=1)]
    assert [as_preference(j, min_strength=2) for j in [*kept, judged(ranks=(0, 1), strength=1)]] == [*kept, None]


def test_weights_multiply_and_keep_their_mean():
    rows = [judged(ranks=(0, 1), labeler="amara", group="home", weight=2.0), judged(ranks=(0, 1), labeler="falk", group="home"),
            judged(ranks=(0, 1), labeler="falk"), judged(ranks=(0, 1))]
    found = example_weights(rows, trust={"falk": 0.25}, group_weights={"home": 3.0})
    raw = np.array([6.0, 0.75, 0.25, 1.0])
    assert found == pytest.approx(raw * 5 / raw.sum()) and example_weights(rows) == [2.0, 1.0, 1.0, 1.0]
    assert example_weights(rows[1:3], trust={"falk": 0.0}) == [0.0, 0.0]
    with pytest.raises(ConfigError, match="no judgement is of the group 'house'"):
        example_weights(rows, group_weights={"house": 2.0})


def test_weights_by_inverse_probability_undo_what_the_sampler_preferred():
    # 400 items, each with the share of people who prefer its first answer; the more uncertain, the likelier an item is to be chosen.
    # The truth is the mean over all items, which the sample's plain mean misses and the weighted one meets.
    rng = np.random.default_rng(0)
    value = rng.beta(4, 2, 400)
    chance = 0.1 + 0.8 * (1 - np.abs(2 * value - 1))
    plain, weighted = [], []
    for _ in range(600):
        chosen = np.flatnonzero(rng.random(400) < chance)
        weights = np.array(example_weights([judged(ranks=(0, 1), p_select=float(chance[i])) for i in chosen], inverse_probability=True))
        plain.append(value[chosen].mean())
        weighted.append((weights * value[chosen]).mean())
        assert weights.mean() == pytest.approx(1)
    truth, error = value.mean(), np.std(weighted) / 600**0.5
    assert abs(np.mean(plain) - truth) > 30 * error
    assert abs(np.mean(weighted) - truth) < 4 * error + 1e-3 * truth              # the ratio's own bias is of order 1 / 200


def test_a_sum_weighted_by_inverse_probability_has_the_populations_sum_as_its_exact_expectation():
    # Three items, every sample of them with its probability: no simulation, no ratio.
    value, chance = np.array([1.0, -2.0, 5.0]), np.array([0.2, 0.5, 0.9])
    total = 0.0
    for bits in range(1, 8):
        chosen = np.array([bits >> i & 1 for i in range(3)], dtype=bool)
        p = np.where(chosen, chance, 1 - chance).prod()
        rows = [judged(ranks=(0, 1), p_select=float(c)) for c in chance[chosen]]
        weights = np.array(example_weights(rows, inverse_probability=True))
        sums = (1 / chance[chosen]).sum()                            # undoes the division by the mean
        total += p * (weights * value[chosen]).sum() * sums / chosen.sum()
    assert total == pytest.approx(value.sum())


@pytest.mark.parametrize("p", [0.0, -0.1, 1.5, float("nan")])
def test_a_p_select_that_is_no_probability_is_refused_where_it_is_used(p):
    row = judged(ranks=(0, 1), p_select=p)
    assert example_weights([row]) == [1.0]
    with pytest.raises(DataError, match="not a probability above 0"):
        example_weights([row], inverse_probability=True)


def panel_of(rng: np.random.Generator, honesty: dict[str, float], pairs: int) -> list[Judgement]:
    """Two of them judge each pair and say the truth with their own probability; sides at random, the answers' order too."""
    said, names = [], sorted(honesty)
    for i in range(pairs):
        for who in rng.choice(names, 2, replace=False):
            right = rng.random() < honesty[who]
            texts = (f"good {i}", f"bad {i}") if rng.random() < 0.5 else (f"bad {i}", f"good {i}")
            first_is_good = texts[0].startswith("good")
            said.append(judged(texts=texts, ranks=(0, 1) if right == first_is_good else (1, 0), labeler=str(who),
                               extra={"sides": [0, 1] if rng.random() < 0.5 else [1, 0]}))
    return said


def test_reliability_finds_who_guesses_and_who_says_the_opposite_whatever_order_answers_stand_in():
    honesty = dict.fromkeys(("amara", "bruno", "chiyo", "dario"), 0.9) | {"elin": 0.1, "falk": 0.5}
    said = panel_of(np.random.default_rng(0), honesty, 600)
    found = labeler_reliability(said)
    assert found.weights["elin"] == 0 and found.weights["falk"] < 0.4
    assert all(found.weights[name] > 0.85 for name in ("amara", "bruno", "chiyo", "dario"))
    assert {"elin", "falk"} <= {line.split(":")[0] for line in found.told}
    report = found.report()
    assert report["falk"]["labels"] == sum(j.labeler == "falk" for j in said) and report["falk"]["high"] < report["amara"]["low"]
    assert labeler_reliability([j for j in said if j.labeler == "amara"]).weights == {}                # nothing shared: nobody is weighed


def test_who_is_surely_opposed_can_be_read_as_the_opposite_and_nobody_else_is():
    honesty = dict.fromkeys(("amara", "bruno", "chiyo", "dario"), 0.9) | {"elin": 0.1, "falk": 0.5}
    found = labeler_reliability(panel_of(np.random.default_rng(0), honesty, 600), opposed="flip")
    assert found.opposed == {"elin"} and found.weights["elin"] > 0.8
    assert any(line.startswith("elin: weight") and "read as the opposite" in line for line in found.told)
    assert {name for name, row in found.report().items() if row["read_as_opposite"]} == {"elin"}


def test_the_opposite_of_an_order_is_that_order_turned_round_and_of_anything_else_nothing():
    assert read_as_opposite(judged(texts=("a", "b", "c", "d"), ranks=(0, 2, 1, 1))).ranks == (2, 0, 1, 1)
    assert read_as_opposite(judged(texts=("a", "b"), ranks=(0, 1), extra={"target": 0.9})).extra["target"] == pytest.approx(0.1)
    assert read_as_opposite(judged(texts=("a",), kind="label", label=True)).weight == 0
    assert read_as_opposite(judged(texts=("a", "b"), ranks=(0, 1), edit="a")).weight == 0


def test_a_careless_labelers_side_is_found_where_sides_are_told_and_not_guessed_where_they_are_not():
    rng = np.random.default_rng(1)
    said = panel_of(rng, dict.fromkeys(("amara", "bruno", "chiyo"), 0.9), 300)
    clicks = []
    for j in panel_of(rng, {"falk": 0.5, "amara": 0.9}, 300):
        left = j.extra["sides"][0]
        clicks.append(j if j.labeler == "amara" else judged(texts=tuple(r.text for r in j.responses), labeler="falk", extra=j.extra,
                                                            ranks=(0, 1) if left == 0 else (1, 0)))
    skills = {s.labeler: s for s in labeler_reliability(said + clicks).skills}
    assert skills["falk"].left > 0.8 and skills["falk"].guesses > 0.7
    bare = [judged(texts=tuple(r.text for r in j.responses), ranks=j.ranks, labeler=j.labeler) for j in said + clicks]
    assert {s.left for s in labeler_reliability(bare).skills} == {None}


def test_a_ranking_counts_as_its_pairs_and_ties_and_anonymous_rows_not_at_all():
    ranked = judged("ranking", ("a", "b", "c"), ranks=(0, 1, 1), labeler="amara")
    rows = [ranked, judged("ranking", ("c", "b", "a"), ranks=(2, 1, 0), labeler="bo"), judged(ranks=(0, 1)),
            judged(ranks=(0, 0), labeler="bo")]
    assert {s.labeler: s.labels for s in labeler_reliability(rows).skills} == {"amara": 2, "bo": 3}
