"""Agreement against published values, other people's libraries and what must not matter."""

from __future__ import annotations

import itertools
import math
import time

import krippendorff
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats import inter_rater

from tutelage.base.errors import DataError
from tutelage.feedback import agreement
from tutelage.feedback.labels import Labels

nan = math.nan
# Krippendorff 2011, "Computing Krippendorff's alpha-reliability"; four observers, twelve units.
FOUR_BY_TWELVE = [[1, 2, 3, 3, 2, 1, 4, 1, 2, nan, nan, nan], [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, nan, 3],
                  [nan, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, nan], [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, nan]]
# Fleiss 1971: ten subjects, five categories, fourteen raters.
TEN_BY_FIVE = np.array([[0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1], [7, 7, 0, 0, 0],
                        [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7]])


def of_matrix(matrix, scale=None) -> Labels:
    """Rows are labelers, columns items."""
    cells = [(i, w, v) for w, row in enumerate(matrix) for i, v in enumerate(row)]
    items, labelers, values = zip(*cells, strict=True)
    return Labels.of(items, labelers, values, scale=scale)


def of_counts(table) -> Labels:
    """Rows are items, columns values; who said it is not known, so the slots stand for people."""
    rows = [(i, slot, k) for i, row in enumerate(table) for slot, k in enumerate(np.repeat(np.arange(len(row)), row).tolist())]
    return Labels.of(*zip(*rows, strict=True))


def alpha(labels, distance="nominal"):
    return agreement.krippendorff_alpha(labels, distance, resamples=0).value


@pytest.mark.parametrize(("distance", "expected"), [("nominal", 0.7434), ("ordinal", 0.8154), ("interval", 0.8491), ("ratio", 0.7974)])
def test_alpha_of_krippendorffs_example(distance, expected):
    assert alpha(of_matrix(FOUR_BY_TWELVE), distance) == pytest.approx(expected, abs=5e-5)


def test_alpha_of_four_items_with_three_labels_each():
    assert alpha(of_matrix(np.array([list("AAA"), list("AAB"), list("BBB"), list("ABB")]).T.tolist())) == pytest.approx(0.3889, abs=5e-5)


def test_fleiss_kappa_of_fleiss_table():
    assert agreement.fleiss_kappa(of_counts(TEN_BY_FIVE), resamples=0).value == pytest.approx(0.20993, abs=5e-6)


def test_cohen_kappa_of_a_two_by_two_table():
    first, second = zip(*[pair for pair, n in {(0, 0): 40, (0, 1): 20, (1, 0): 10, (1, 1): 30}.items() for _ in range(n)], strict=True)
    assert agreement.cohen_kappa(first, second, resamples=0).value == pytest.approx(0.40, abs=1e-12)


def test_quadratic_kappa_of_six_ratings():
    found = agreement.cohen_kappa((1, 2, 3, 3, 2, 1), (1, 3, 3, 2, 2, 2), "quadratic", resamples=0)
    assert found.value == pytest.approx(0.5714, abs=5e-5)


@pytest.mark.parametrize(("first", "second", "expected"), [("1234", "1324", 0.6667), ("1224", "1324", 0.9129)])
def test_kendalls_tau_of_two_rankings(first, second, expected):
    assert agreement.kendall_tau_b([int(r) for r in first], [int(r) for r in second]).value == pytest.approx(expected, abs=5e-5)


matrices = st.integers(2, 5).flatmap(lambda people: st.integers(2, 12).flatmap(lambda items: st.lists(
    st.lists(st.sampled_from([1.0, 2.0, 3.0, 5.0, nan]), min_size=items, max_size=items), min_size=people, max_size=people)))


@settings(max_examples=150)
@given(matrices, st.sampled_from(["nominal", "ordinal", "interval", "ratio"]))
def test_alpha_equals_the_krippendorff_package(matrix, distance):
    shared = np.array(matrix)[:, (~np.isnan(matrix)).sum(0) > 1]
    seen = np.unique(shared[~np.isnan(shared)])
    found = agreement.krippendorff_alpha(of_matrix(matrix), distance, resamples=0)
    if seen.size < 2:
        assert found.value is None and found.why in ("no item has two labels", *(f"only one value occurs ({v!r})" for v in seen.tolist()))
    else:
        assert found.value == pytest.approx(krippendorff.alpha(shared, level_of_measurement=distance), abs=1e-9)


@settings(max_examples=100)
@given(st.integers(2, 30), st.integers(2, 6), st.integers(2, 5), st.integers(0, 10**6))
def test_fleiss_kappa_equals_statsmodels_and_is_alpha_without_its_small_sample_term(items, people, values, seed):
    table = np.random.default_rng(seed).multinomial(people, np.full(values, 1 / values), size=items)
    kappa = agreement.fleiss_kappa(of_counts(table), resamples=0)
    if (table.sum(0) > 0).sum() < 2:
        assert kappa.value is None
        return
    assert kappa.value == pytest.approx(inter_rater.fleiss_kappa(table), abs=1e-9)
    assert 1 - alpha(of_counts(table)) == pytest.approx((1 - kappa.value) * (1 - 1 / table.sum()), abs=1e-9)


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=30), st.sampled_from(["none", "linear", "quadratic"]))
def test_cohen_kappa_equals_scikit_learn(pairs, weights):
    first, second = zip(*pairs, strict=True)
    found = agreement.cohen_kappa(first, second, weights, resamples=0)
    if len(set(first) | set(second)) == 1:
        assert found.value is None and "only one value" in found.why
    else:                                                           # all four steps given: sklearn weighs by position, we by value
        expected = cohen_kappa_score(first, second, labels=[1, 2, 3, 4], weights=None if weights == "none" else weights)
        assert found.value == pytest.approx(expected, abs=1e-9)


@settings(max_examples=100)
@given(st.integers(2, 9).flatmap(lambda k: st.lists(st.lists(st.integers(0, 4), min_size=k, max_size=k), min_size=2, max_size=4)))
def test_tau_b_equals_scipy_and_its_mean_leaves_out_what_has_none(rankings):
    taus = []
    for a, b in itertools.combinations(rankings, 2):
        expected = scipy.stats.kendalltau(a, b).statistic
        found = agreement.kendall_tau_b(a, b)
        if math.isnan(expected):
            assert found.value is None and found.why == "one ranking ties all answers"
        else:
            assert found.value == pytest.approx(expected, abs=1e-12)
            taus.append(expected)
    mean = agreement.ranking_agreement(["p"] * len(rankings), range(len(rankings)), rankings)
    assert mean.n == len(taus)
    assert mean.value is None if not taus else mean.value == pytest.approx(np.mean(taus), abs=1e-12)


@settings(max_examples=60)
@given(matrices, st.randoms(use_true_random=False))
def test_the_order_of_rows_and_the_names_of_people_items_and_nominal_values_do_not_matter(matrix, rng):
    rows = [(i, w, v) for w, row in enumerate(matrix) for i, v in enumerate(row)]
    names = rng.sample(["x", "y", "z", "w"], 4)
    renamed = {1.0: names[0], 2.0: names[1], 3.0: names[2], 5.0: names[3]}
    other = [(f"item {-i}", f"person {9 - w}", renamed.get(v)) for i, w, v in rows]
    rng.shuffle(other)
    one, two = Labels.of(*zip(*rows, strict=True)), Labels.of(*zip(*other, strict=True))
    for statistic in (agreement.raw_agreement, agreement.krippendorff_alpha, agreement.fleiss_kappa):
        a, b = statistic(one, resamples=0), statistic(two, resamples=0)
        assert a.n == b.n and (a.value is None) == (b.value is None)
        assert a.value is None or a.value == pytest.approx(b.value, abs=1e-9)


def test_raw_agreement_counts_every_pair_once():
    labels = of_matrix([["a", "a", "b"], ["a", "b", None], ["a", "b", None]])       # 3 of 3 pairs, 1 of 3, none
    assert agreement.raw_agreement(labels).value == pytest.approx(4 / 6)
    assert agreement.raw_agreement(labels).n == 6


def test_what_is_undefined_says_why_and_is_never_one():
    alike, alone = of_matrix([["yes"] * 5, ["yes"] * 5]), of_matrix([["yes", None], [None, "no"]])
    for statistic in (agreement.krippendorff_alpha, agreement.fleiss_kappa):
        assert statistic(alike).value is None and statistic(alike).why == "only one value occurs ('yes')"
        assert statistic(alone).value is None and statistic(alone).why == "no item has two labels"
    assert agreement.raw_agreement(alone).why == "no item has two labels"
    assert agreement.cohen_kappa(["yes", None], [None, "no"]).why == "no item was labeled by both"
    assert agreement.raw_agreement(Labels.of([], [], [])).why == "no item has two labels"
    assert agreement.fleiss_kappa(of_matrix(FOUR_BY_TWELVE)).why == "items have 1 to 4 labels; Krippendorff's alpha allows that"
    assert agreement.raw_agreement(alike).value == 1.0 and agreement.raw_agreement(alike).low < 0.6  # five items do not prove certainty
    assert "undefined: only one value occurs" in str(agreement.krippendorff_alpha(alike))


def test_a_value_off_the_scale_is_refused_by_name():
    with pytest.raises(DataError, match="a label is 8, the scale is 1, 2, 3"):
        Labels.of(["i"], ["w"], [8], scale=[1, 2, 3])
    with pytest.raises(DataError, match="a label is 0, the scale is 1, 2, 3"):
        Labels.of(["i"], ["w"], [0], scale=[1, 2, 3])
    with pytest.raises(ValueError, match="needs numbers, and one is 'a'"):
        alpha(of_matrix([["b", "a"], ["b", "b"]]), "interval")


def test_an_ordinal_scale_is_the_one_given_not_the_alphabet():
    words, numbers = ["bad", "fair", "good"], [1, 2, 3]
    said = np.random.default_rng(0).integers(0, 3, (3, 40))
    by_words = of_matrix([[words[v] for v in row] for row in said], scale=words[::-1])
    assert alpha(by_words, "ordinal") == pytest.approx(alpha(of_matrix([[numbers[v] for v in row] for row in said]), "ordinal"))


def simulated(seed, items, people, overlap, right, values=3):
    """Item i's truth is said with probability right[w], else any value. -> Labels."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, values, items)
    item = np.repeat(np.arange(items), overlap)
    labeler = np.concatenate([rng.permutation(people)[:overlap] for _ in range(items)])
    said = np.where(rng.random(item.size) < np.asarray(right)[labeler], truth[item], rng.integers(0, values, item.size))
    return Labels.of(item.tolist(), labeler.tolist(), said.tolist())


def test_agreement_rises_from_hard_to_easy_items():
    hard, easy = simulated(1, 200, 6, 3, [0.2] * 6), simulated(2, 200, 6, 3, [0.9] * 6)
    both = Labels.of([f"hard {i}" for i in hard.item] + [f"easy {i}" for i in easy.item], [*hard.labeler, *easy.labeler],
                     [hard.values[v] for v in hard.value] + [easy.values[v] for v in easy.value])
    margin = [0.1 if name.startswith("hard") else -2.0 for name in both.items]       # its sign says which answer won
    low, high = agreement.by_difficulty(both, margin, bins=2)
    assert (low.items, high.items, low.high, high.low) == (200, 200, 0.1, 2.0)
    assert low.raw.high < high.raw.low and low.alpha.high < high.alpha.low
    assert low.alpha.value == pytest.approx(alpha(hard)) and high.alpha.value == pytest.approx(alpha(easy))


def test_agreement_of_each_with_others_and_with_experts():
    rows = [("i", "ann", 1), ("i", "bob", 1), ("i", "eve", 2), ("j", "ann", 1), ("j", "eve", 1), ("k", "bob", 2), ("i", "ann", 1)]
    labels = Labels.of(*zip(*rows, strict=True))
    others = agreement.with_others(labels)                          # ann twice on i: half right each, then right; her own do not count
    assert others["ann"].value == pytest.approx((0.5 + 1 + 0.5) / 3) and others["bob"].value == pytest.approx(2 / 3)
    experts = agreement.with_experts(labels, {"eve"})
    assert (experts["ann"].value, experts["ann"].n) == (pytest.approx(1 / 3), 3)
    assert (experts["bob"].value, experts["eve"].why) == (0.0, "no item labeled by both")


def test_alpha_with_its_interval_of_20000_items_by_five_takes_less_than_a_second():
    labels = simulated(3, 20_000, 40, 5, [0.7] * 40, values=5)
    start = time.process_time()
    found = agreement.krippendorff_alpha(labels, "ordinal")
    assert time.process_time() - start < 1.0
    assert found.low < found.value < found.high
