"""Intervals against statsmodels and against what they promise: how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.sandwich_covariance import cov_cluster_2groups

from tutelage.feedback import agreement, intervals
from tutelage.feedback.labels import Labels


@pytest.mark.parametrize(("hits", "n"), [(0, 7), (7, 7), (3, 11), (180, 400)])
def test_a_share_has_wilsons_interval(hits, n):
    found = intervals.share(hits, n)
    assert (found.low, found.high) == pytest.approx(proportion_confint(hits, n, method="wilson"), abs=1e-12)


def test_a_share_of_nothing_is_undefined():
    found = intervals.share(0, 0, what="gold items")
    assert found.value is None and found.low is None and found.why == "no gold items"


def test_shares_are_told_apart_by_key():
    found = intervals.shares([True, False, 0.5, True], ["b", "a", "b", "b"])
    assert list(found) == ["b", "a"] and found["b"].value == pytest.approx(2.5 / 3) and found["a"].n == 1


def crossed(seed, prompts=400, people=60, overlap=5, of_prompt=0.25, of_person=0.25):
    """Right or wrong answers, with effects of the prompt and of the person."""
    rng = np.random.default_rng(seed)
    prompt = np.repeat(np.arange(prompts), overlap)
    person = np.concatenate([rng.permutation(people)[:overlap] for _ in range(prompts)])
    p = 0.5 + rng.uniform(-of_prompt, of_prompt, prompts)[prompt] + rng.uniform(-of_person, of_person, people)[person]
    return (rng.random(prompt.size) < p).astype(float), prompt, person


@pytest.mark.parametrize("seed", [0, 1])
def test_the_interval_of_a_mean_is_as_wide_as_two_way_clustered_errors(seed):
    from statsmodels.regression.linear_model import OLS

    right, prompt, person = crossed(seed)
    both = cov_cluster_2groups(OLS(right, np.ones_like(right)).fit(), prompt, person, use_correction=False)[0][0, 0]
    found = intervals.mean(right, prompt.tolist(), person.tolist(), resamples=8000)
    assert found.n == right.size
    # Ours corrects for sixty people not being all people: 60/59, and Student's quantile for the normal one.
    assert found.high - found.low == pytest.approx(2 * 1.96 * both**0.5, rel=0.05)


def test_one_seed_gives_one_interval_and_another_seed_nearly_the_same():
    right, prompt, person = crossed(3)
    one, again, other = (intervals.mean(right, prompt.tolist(), person.tolist(), seed=s) for s in (0, 0, 1))
    assert one == again and one != other and one.low == pytest.approx(other.low, abs=0.01)


def test_certainty_is_not_claimed_where_all_are_right():
    found = intervals.mean([1.0] * 12, [f"p{i // 2}" for i in range(12)], ["ann", "bob"] * 6)                 # six prompts, not twelve rows
    assert found.value == 1.0 and found.low == pytest.approx(proportion_confint(6, 6, method="wilson")[0])
    assert intervals.mean([], [], []).why == "no labels"
    assert intervals.mean([0.0, 1.0], ["p", "p"], ["ann", "bob"]).why == "one prompt has no interval"


def labels_of(seed, prompts, people, overlap, spread):
    """Two values; a person knows the truth with a probability of 0.7 give or take the spread, times the item's ease, else guesses."""
    rng = np.random.default_rng(seed)
    knows, ease = (0.7 + rng.uniform(-spread, spread, n) for n in (people, prompts))
    item = np.repeat(np.arange(prompts), overlap)
    person = np.concatenate([rng.permutation(people)[:overlap] for _ in range(prompts)])
    truth = rng.integers(0, 2, prompts)
    said = np.where(rng.random(item.size) < knows[person] * ease[item], truth[item], rng.integers(0, 2, item.size))
    return Labels.of(item.tolist(), person.tolist(), said.tolist())


def test_an_interval_does_not_leave_what_the_number_can_be():
    # One of four people is wrong in every other item: the labelers' departures, added to the items', would lead to 1.13 and 1.10.
    items, people = [i for i in range(20) for _ in range(4)], list(range(4)) * 20
    right = [float(who > 0 or item % 2 == 0) for item, who in zip(items, people, strict=True)]
    for found in (intervals.mean(right, items, people), agreement.raw_agreement(Labels.of(items, people, right))):
        assert found.low < found.value < found.high == 1.0


@pytest.mark.parametrize(("people", "spread", "least"), [(6, 0.0, 0.90), (30, 0.3, 0.85)])
def test_95_percent_of_the_intervals_of_alpha_hold_what_endless_people_and_prompts_would_give(people, spread, least):
    # Alpha in the limit: knowing together / (knows together, else 1/2): E[knows]^2 E[ease^2], values being equally common.
    truth = 0.7**2 * (0.7**2 + spread**2 / 3)
    found = [agreement.krippendorff_alpha(labels_of(seed, 300, people, 3, spread), resamples=400) for seed in range(100)]
    assert np.mean([f.low <= truth <= f.high for f in found]) >= least
    real = 2 * 1.96 * np.std([f.value for f in found])
    assert 0.8 < np.mean([f.high - f.low for f in found]) / real < 1.35                                 # nor much too wide


def test_resampling_prompts_alone_would_be_too_sure_where_people_differ():
    labels = labels_of(1, 2000, 8, 3, 0.3)
    both = agreement.krippendorff_alpha(labels)
    delta = 1.0 - np.eye(2)
    sums = agreement._pair_sums(labels, delta, per_label=True)
    alone = intervals.two_way(lambda rows: 1 - rows[:, 0] * rows[:, 1:].sum(1) / np.einsum("rc,ck,rk->r", rows[:, 1:], delta, rows[:, 1:]),
                              intervals.Sums.of_prompts(sums.prompts))
    assert both.high - both.low > 1.5 * (alone[1] - alone[0])
