"""The screening test against simulation and Wald, groups against statsmodels, held-out people, and numbers for planning."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import confint_proportions_2indep

from tutelage.feedback import planning
from tutelage.feedback.held_out import held_out
from tutelage.feedback.screening import Screening, passed_by_group


def run(rate, rng) -> Screening:
    state = Screening()
    while state.decision == "continue":
        state = state.answered(bool(rng.random() < rate))
    return state


@pytest.mark.parametrize(("rate", "passes"), [(0.75, 0.95), (0.60, 0.05)])
def test_a_screening_tells_75_from_60_percent_with_the_stated_errors(rate, passes):
    passed, items = Screening().characteristic(rate)
    assert abs(passed - passes) < 0.015                             # stopping overshoots the bound, the end at 160 items cuts some short
    rng = np.random.default_rng(1)
    ends = [run(rate, rng) for _ in range(1500)]
    assert np.mean([e.decision == "pass" for e in ends]) == pytest.approx(passed, abs=0.025)
    assert np.mean([e.asked for e in ends]) == pytest.approx(items, rel=0.06)
    step = rate * math.log(0.75 / 0.6) + (1 - rate) * math.log(0.25 / 0.4)                             # Wald: E n = E log odds / E step
    assert items == pytest.approx((2 * passes - 1) * math.log(19) / step, rel=0.15)


def test_twenty_items_could_not_tell_them_apart():
    twenty = Screening(at_most=20)
    assert twenty.characteristic(0.60)[0] > 0.2


@given(st.lists(st.booleans(), max_size=200))
def test_a_screening_saved_after_any_answer_goes_on_as_if_nothing_had_happened(answers):
    state = saved = Screening()
    for correct in answers:
        if state.decision != "continue":
            with pytest.raises(ValueError, match="the screening is over"):
                state.answered(correct)
            break
        state = state.answered(correct)
        saved = Screening.from_json(json.loads(json.dumps(saved.to_json()))).answered(correct)
        assert saved == state
    assert state.asked <= 160


@pytest.mark.parametrize("row", [{"right": 3, "asked": 2}, {"asked": 999}, {"good": 0.5, "poor": 0.6}, {"false_pass": 0.7}])
def test_a_state_that_cannot_be_is_refused(row):
    with pytest.raises(ValueError):
        Screening.from_json(row)


def test_all_right_passes_and_all_wrong_fails_in_the_fewest_items():
    right = wrong = Screening()
    while right.decision == "continue":
        right = right.answered(True)
    while wrong.decision == "continue":
        wrong = wrong.answered(False)
    assert (right.decision, right.asked) == ("pass", math.ceil(math.log(19) / math.log(1.25)))
    assert (wrong.decision, wrong.asked) == ("fail", math.ceil(math.log(19) / math.log(1.6)))


def test_the_group_that_a_screen_removes_is_named_with_newcombes_interval():
    passed = [True] * 45 + [False] * 5 + [True] * 20 + [False] * 20 + [True] * 8 + [False] * 2
    a, b, c = passed_by_group(passed, ["a"] * 50 + ["b"] * 40 + ["c"] * 10)
    low, high = confint_proportions_2indep(20, 40, 53, 60, method="newcomb")
    assert (b.difference.low, b.difference.high) == pytest.approx((low, high), abs=1e-9)
    assert b.flagged and b.difference.value == pytest.approx(0.5 - 53 / 60) and a.flagged and not c.flagged
    assert passed_by_group([True, False], ["only", "only"])[0].difference.why == "no other group"


def labelled(seed, gap):
    rng = np.random.default_rng(seed)
    prompt, who = np.repeat(np.arange(300), 4), np.concatenate([rng.permutation(10)[:4] for _ in range(300)])
    out = who >= 7
    right = rng.random(prompt.size) < np.where(out, 0.7 - gap, 0.7)
    return right, prompt.tolist(), who.tolist(), np.where(who % 2, "home", "library").tolist(), out


def test_a_gap_between_training_and_held_out_labelers_is_found_and_not_invented():
    wide = held_out(*labelled(1, 0.2))
    right, _, _, groups, out = labelled(1, 0.2)
    assert (wide.training.value, wide.held_out.value) == pytest.approx((right[~out].mean(), right[out].mean()))
    assert wide.gap.value == pytest.approx(right[~out].mean() - right[out].mean()) and wide.gap.low > 0
    assert {name: s.n for name, s in wide.groups.items()} == {name: groups.count(name) for name in ("home", "library")}
    none = [held_out(*labelled(seed, 0.0), resamples=400).gap for seed in range(24)]
    assert np.mean([g.low <= 0 <= g.high for g in none]) >= 0.875


def test_without_held_out_labelers_the_gap_is_undefined():
    right, prompt, who, groups, out = labelled(1, 0.0)
    found = held_out(right, prompt, who, groups, np.zeros_like(out))
    assert found.gap.why == "no labeler is held out" and found.held_out.why == "no judgement of a held-out labeler"


# feedback-facts 4.7: agreement -> q, majority of 3, of 5, labels for +-5, 3, 2 points.
TABLE = [(0.63, 0.755, 0.849, 0.902, (358, 995, 2239)), (0.726, 0.836, 0.928, 0.966, (306, 849, 1910)),
         (0.77, 0.867, 0.952, 0.981, (272, 756, 1701))]


@pytest.mark.parametrize(("agreement", "q", "of_three", "of_five", "labels"), TABLE)
def test_what_agreement_says_of_accuracy_and_how_many_labels_it_takes(agreement, q, of_three, of_five, labels):
    found = planning.crowd_accuracy(agreement)
    assert found == pytest.approx(q, abs=5e-4)
    assert (planning.majority_accuracy(found, 3), planning.majority_accuracy(found, 5)) == pytest.approx((of_three, of_five), abs=1e-3)
    for half_width, expected in zip((0.05, 0.03, 0.02), labels, strict=True):
        assert planning.labels_for_width(agreement, half_width) == pytest.approx(expected, abs=1)
    assert planning.labels_for_width(agreement, 0.05, per_cluster=5, correlation=0.1) == pytest.approx(1.4 * labels[0], abs=1)


@pytest.mark.parametrize(("win_rate", "comparisons"), [(0.55, 783), (0.52, 4903), (0.60, 194)])
def test_comparisons_to_tell_a_win_rate_from_a_half(win_rate, comparisons):
    assert round(planning.comparisons_to_tell(win_rate)) == pytest.approx(comparisons, abs=1)


def test_agreement_below_chance_and_even_panels_are_refused():
    with pytest.raises(ValueError, match="below the half"):
        planning.crowd_accuracy(0.4)
    with pytest.raises(ValueError, match="may tie"):
        planning.majority_accuracy(0.8, 4)
