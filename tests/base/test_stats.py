"""Statistics against scipy and scikit-learn, and against what an interval promises: its coverage."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from tutelage.base import stats


@pytest.mark.parametrize("dof", [1, 2, 3, 7, 30, 199, 1500])
@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
def test_student_quantile_equals_scipy(dof, level):
    assert stats.t_quantile(level, dof) == pytest.approx(scipy.stats.t.ppf(0.5 + level / 2, dof), rel=1e-9)


def test_mean_ci_equals_scipy_t_interval():
    values = np.random.default_rng(1).normal(3, 2, 40)
    low, high = scipy.stats.t.interval(0.95, 39, loc=values.mean(), scale=scipy.stats.sem(values))
    assert stats.mean_ci(values) == pytest.approx({"mean": values.mean(), "low": low, "high": high, "n": 40}, rel=1e-9)


def test_mean_ci_counts_each_prompt_once():
    repeated = stats.mean_ci([1.0, 1.0, 1.0, 4.0, 7.0], groups=["a", "a", "a", "b", "c"])
    assert repeated == stats.mean_ci([1.0, 4.0, 7.0])


def test_mean_ci_admits_ignorance():
    assert math.isnan(stats.mean_ci([])["mean"])
    one = stats.mean_ci([2.0])
    assert one["mean"] == 2.0 and math.isnan(one["low"]) and one["n"] == 1


def test_values_that_are_not_finite_are_refused_by_name():
    with pytest.raises(ValueError, match="scores_a: 1 of 2"):
        stats.win_rate([math.nan, 1.0], [0.0, 0.0])


@pytest.mark.parametrize(("successes", "n"), [(0, 5), (5, 5), (37, 50), (783, 1500)])
def test_wilson_equals_scipy(successes, n):
    oracle = scipy.stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
    got = stats.wilson(successes, n)
    assert (got["low"], got["high"]) == pytest.approx((oracle.low, oracle.high), abs=1e-12)


def test_paired_difference_is_near_the_normal_interval_and_repeats_with_its_seed():
    rng = np.random.default_rng(2)
    a, b = rng.normal(1, 1, 300), rng.normal(0.5, 1, 300)
    got = stats.paired_difference(a, b, seed=3)
    half = 1.96 * (a - b).std(ddof=1) / math.sqrt(300)
    assert got["mean"] == pytest.approx((a - b).mean(), abs=1e-12)
    assert got["low"] == pytest.approx(got["mean"] - half, abs=0.1 * half)
    assert got["high"] == pytest.approx(got["mean"] + half, abs=0.1 * half)
    assert got == stats.paired_difference(a, b, seed=3)


def test_pairing_cancels_how_hard_the_prompts_are():
    rng = np.random.default_rng(4)
    hard = rng.normal(0, 10, 200)
    got = stats.paired_difference(hard + 1, hard + rng.normal(0, 0.1, 200))
    assert got["high"] - got["low"] < 0.05


def test_bootstrap_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(5)
    hits = 0
    for seed in range(200):
        values = rng.normal(0, 1, 60)
        low, high = stats.bootstrap(lambda rows, v=values: v[rows].mean(), 60, seed=seed, resamples=400)
        hits += low <= 0 <= high
    assert 0.88 <= hits / 200 <= 0.99


def test_grouped_rate_is_wider_than_pretending_answers_to_one_prompt_are_independent():
    rng = np.random.default_rng(6)
    prompt_wins = rng.random(50) < 0.6
    outcomes, groups = np.repeat(prompt_wins, 8).astype(float), np.repeat(np.arange(50), 8).tolist()
    grouped, naive = stats.rate_ci(outcomes, groups=groups), stats.rate_ci(outcomes)
    low, high = (stats.wilson(prompt_wins.sum(), 50)[k] for k in ("low", "high"))
    assert grouped["n"] == 50 and grouped["mean"] == pytest.approx(naive["mean"])
    assert grouped["high"] - grouped["low"] == pytest.approx(high - low, rel=0.15)
    assert grouped["high"] - grouped["low"] > 2 * (naive["high"] - naive["low"])


def test_prompts_that_all_win_the_same_share_do_not_make_a_rate_certain():
    one = stats.rate_ci([1, 0, 1], groups=["a", "a", "a"])
    assert one["mean"] == pytest.approx(2 / 3) and one["n"] == 1 and one["high"] - one["low"] > 0.6
    halves = stats.rate_ci([1, 0, 1, 0, 1, 0], groups=["a", "a", "b", "b", "c", "c"])
    assert halves == pytest.approx(stats.wilson(1.5, 3))


def test_weight_two_counts_as_two_rows_of_the_same_group():
    doubled = stats.rate_ci([1, 1, 0, 0.5], groups=["a", "a", "b", "c"])
    assert stats.rate_ci([1, 0, 0.5], weights=[2, 1, 1]) == pytest.approx(doubled)
    assert stats.rate_ci([1, 0, 1, 1], weights=[1, 1, 1, 0]) == stats.wilson(2, 3)


def test_win_rate_without_ties_is_wilson_and_ties_count_half():
    assert stats.win_rate([1, 2, 3, 0], [0, 0, 0, 1]) == stats.wilson(3, 4)
    tied = stats.win_rate([1, 1, 0, 2], [1, 0, 1, 1])
    assert tied["mean"] == 0.625
    assert stats.win_rate([1, 1, 0, 2], [1, 0, 1, 1], ties=0.0)["mean"] == 0.5


def test_win_rate_of_a_model_against_itself_is_not_certain():
    same = stats.win_rate([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert same["mean"] == 0.5 and same["low"] < 0.3 and same["high"] > 0.7


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=20))
def test_win_rates_of_both_sides_add_to_one(pairs):
    a, b = zip(*pairs, strict=True)
    assert stats.win_rate(a, b)["mean"] + stats.win_rate(b, a)["mean"] == pytest.approx(1.0)


def test_auc_equals_sklearn_with_ties():
    rng = np.random.default_rng(7)
    labels, scores = rng.random(300) < 0.8, rng.integers(0, 12, 300) + 0.0
    scores[labels] += rng.integers(0, 4, int(labels.sum()))
    assert stats.auc(labels, scores)["mean"] == pytest.approx(metrics.roc_auc_score(labels, scores), abs=1e-12)


def test_auc_interval_equals_the_double_sum_of_delong():
    # Written from the definition: psi over all pairs, variances of its row and column means.
    rng = np.random.default_rng(8)
    yes, no = rng.normal(1, 1, 25), rng.normal(0, 1, 40)
    psi = (yes[:, None] > no[None, :]) + 0.5 * (yes[:, None] == no[None, :])
    se = math.sqrt(psi.mean(1).var(ddof=1) / 25 + psi.mean(0).var(ddof=1) / 40)
    got = stats.auc([True] * 25 + [False] * 40, np.concatenate([yes, no]))
    assert (got["low"], got["high"]) == pytest.approx((psi.mean() - 1.959963985 * se, psi.mean() + 1.959963985 * se), abs=1e-8)


def test_grouped_auc_equals_sklearn_and_each_draw_of_its_bootstrap_is_an_auc_of_the_drawn_groups():
    rng = np.random.default_rng(17)
    groups = np.repeat(np.arange(12), 10)
    labels, scores = rng.random(120) < 0.8, rng.integers(0, 9, 120) + 0.0
    got = stats.grouped_auc(labels, scores, groups.tolist(), seed=3, resamples=200)
    assert got["mean"] == pytest.approx(metrics.roc_auc_score(labels, scores), abs=1e-12) and got["n"] == 12
    areas = []
    for drawn in np.random.default_rng(3).multinomial(12, np.full(12, 1 / 12), size=200):
        rows = np.repeat(np.arange(120), drawn[groups])
        areas.append(metrics.roc_auc_score(labels[rows], scores[rows]))
    assert (got["low"], got["high"]) == pytest.approx(tuple(np.quantile(areas, [0.025, 0.975])), abs=1e-12)


def test_the_difference_of_two_grouped_aucs_is_paired():
    rng = np.random.default_rng(18)
    labels, scores = rng.random(200) < 0.7, rng.normal(size=200)
    groups = (np.arange(200) // 4).tolist()
    same = stats.grouped_auc(labels, scores, groups, minus=scores * 3 + 1)
    assert (same["mean"], same["low"], same["high"]) == (0.0, 0.0, 0.0)
    other = stats.grouped_auc(labels, scores, groups, minus=-scores)
    assert other["mean"] == pytest.approx(2 * stats.auc(labels, scores)["mean"] - 1)


def test_auc_of_perfect_separation_keeps_doubt_and_of_one_class_is_undefined():
    perfect = stats.auc([0, 0, 0, 1, 1], [1, 2, 3, 4, 5])
    assert perfect["mean"] == 1.0 and perfect["low"] < 0.5
    assert math.isnan(stats.auc([1, 1], [0.1, 0.2])["mean"])


def test_grouped_auc_of_perfect_separation_and_of_one_group_keeps_doubt():
    perfect = stats.grouped_auc([0, 0, 1, 1, 1], [1.0, 2.0, 3.0, 4.0, 5.0], ["a", "b", "a", "c", "c"])
    assert perfect == stats.wilson(2, 2) | {"n": 3}
    assert stats.grouped_auc([1, 0], [0.0, 1.0], ["a", "b"])["high"] == stats.wilson(0, 1)["high"]
    one = stats.grouped_auc([1, 0, 1, 0], [2.0, 1.0, 1.0, 2.0], ["a"] * 4)
    assert one["mean"] == 0.5 and math.isnan(one["low"]) and math.isnan(one["high"])


def test_balanced_accuracy_equals_sklearn_and_its_interval_covers():
    rng = np.random.default_rng(9)
    labels = rng.random(400) < 0.86
    hits = 0
    for _ in range(200):
        right = rng.random(400) < np.where(labels, 0.8, 0.6)
        predictions = np.where(right, labels, ~labels)
        got = stats.balanced_accuracy(labels, predictions)
        hits += got["low"] <= 0.7 <= got["high"]
    assert got["mean"] == pytest.approx(metrics.balanced_accuracy_score(labels, predictions), abs=1e-12)
    assert 0.91 <= hits / 200 <= 0.99


def test_balanced_accuracy_by_prompt_is_as_wide_as_if_each_prompt_were_asked_once():
    rng = np.random.default_rng(10)
    labels, right = rng.random(60) < 0.7, rng.random(60) < 0.75
    predictions = np.where(right, labels, ~labels)
    once = stats.balanced_accuracy(labels, predictions)
    prompts = np.repeat(np.arange(60), 9).tolist()                   # nine turns a prompt, all alike: no more is known than from one
    grouped = stats.balanced_accuracy(np.repeat(labels, 9), np.repeat(predictions, 9), groups=prompts)
    assert grouped["mean"] == pytest.approx(once["mean"]) and grouped["n"] == 60
    assert grouped["high"] - grouped["low"] == pytest.approx(once["high"] - once["low"], rel=0.15)
    alone = stats.balanced_accuracy([1, 0, 1, 0], [1, 0, 0, 0], groups=["p"] * 4)
    assert alone["mean"] == 0.75 and math.isnan(alone["low"])
    assert stats.balanced_accuracy([1, 0], [1, 0], groups=["p", "q"])["low"] < 0.5
