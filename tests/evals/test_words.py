"""The baselines equal scikit-learn's on the same counts."""

import math

import numpy as np
import pytest
from sklearn import linear_model as linear
from sklearn.feature_extraction import text

from tutelage.evals import words

GOOD = "please thanks gladly here the steps kind sorry".split()
ALL = [*GOOD, *"no idiot whatever the a of it stuff never go away milk coffee train".split()]


def sentences(n, seed, tilt):
    rng = np.random.default_rng(seed)
    weights = np.array([1 + tilt * (w in GOOD) for w in ALL], dtype=float)
    return [" ".join(rng.choice(ALL, rng.integers(1, 15), p=weights / weights.sum())) for _ in range(n)]


@pytest.fixture(scope="module")
def counter():
    return text.CountVectorizer(token_pattern=r"\w+")


def test_pair_baseline_equals_sklearn_on_count_differences(counter):
    chosen, rejected = sentences(300, 0, 1.0), sentences(300, 1, 0.0)
    counter.fit(chosen + rejected)
    difference = (counter.transform(chosen) - counter.transform(rejected)).toarray()
    flip = np.where(np.arange(300) % 2, 1, -1)          # scikit-learn needs two classes; a flipped pair is the same pair
    oracle = linear.LogisticRegression(fit_intercept=False, tol=1e-10, max_iter=5000).fit(difference * flip[:, None], flip)
    expected = oracle.predict_proba(difference)[:, 1]
    scorer = words.fit_pairs(chosen, rejected)
    assert words.sigmoid(scorer.score(chosen) - scorer.score(rejected)) == pytest.approx(expected, abs=1e-4)


def test_labels_of_several_people_on_the_same_pairs_fit_as_every_label_by_itself(counter):
    rng = np.random.default_rng(8)
    one, other = sentences(60, 9, 1.0), sentences(60, 10, 0.0)
    asked = rng.integers(0, 60, 400)                                # each pair several times, in either order, won by either side
    sides = [(one[i], other[i]) if won else (other[i], one[i]) for i, won in zip(asked, rng.random(400) < 0.7, strict=True)]
    chosen, rejected = [a for a, _ in sides], [b for _, b in sides]
    counter.fit(one + other)
    difference = (counter.transform(chosen) - counter.transform(rejected)).toarray()
    flip = np.where(np.arange(400) % 2, 1, -1)
    oracle = linear.LogisticRegression(fit_intercept=False, tol=1e-10, max_iter=5000).fit(difference * flip[:, None], flip)
    scorer = words.fit_pairs(chosen, rejected)
    assert words.sigmoid(scorer.score(chosen) - scorer.score(rejected)) == pytest.approx(oracle.predict_proba(difference)[:, 1], abs=1e-4)


def test_label_baseline_equals_sklearn(counter):
    texts, labels = sentences(200, 2, 1.5) + sentences(60, 3, 0.0), np.repeat([1.0, 0.0], [200, 60])
    counter.fit(texts)
    oracle = linear.LogisticRegression(tol=1e-10, max_iter=5000).fit(counter.transform(texts), labels)
    new = sentences(50, 4, 0.5)
    assert words.sigmoid(words.fit_labels(texts, labels).score(new)) == pytest.approx(
        oracle.predict_proba(counter.transform(new))[:, 1], abs=1e-4)


def test_soft_target_equals_two_weighted_pairs():
    # -t log s(z) - (1-t) log s(-z) is a pair with weight t and its mirror with weight 1 - t.
    chosen, rejected = sentences(80, 5, 1.0), sentences(80, 6, 0.0)
    targets = np.random.default_rng(0).uniform(0, 1, 80)
    soft = words.fit_pairs(chosen, rejected, targets=targets)
    hard = words.fit_pairs(chosen + rejected, rejected + chosen, weights=np.concatenate([targets, 1 - targets]))
    probe = sentences(20, 7, 0.3)
    assert soft.score(probe) == pytest.approx(hard.score(probe), abs=1e-4)


def test_length_baseline_learns_its_direction_from_training_data():
    assert words.fit_length_pairs(["a b c"], ["a"]).sign == 1 and words.fit_length_pairs(["a"], ["a b c"]).sign == -1
    assert words.fit_length_labels(["a b c", "a"], np.array([0.0, 1.0])).sign == -1


def test_empty_texts_and_unknown_words_score_the_bias():
    scorer = words.fit_pairs(["yes thanks"], ["no"])
    assert scorer.score(["", "unseen words"]) == pytest.approx([0.0, 0.0])
    assert words.fit_pairs([""], [""]).score(["x"]) == pytest.approx([0.0])


def test_distinct_n_by_hand():
    texts = ["a b a b", "a b"]                      # unigrams: a b a b a b; bigrams: ab ba ab ab
    assert words.distinct_n(texts, 1) == pytest.approx(2 / 6)
    assert words.distinct_n(texts, 2) == pytest.approx(2 / 4)
    assert math.isnan(words.distinct_n(["a"], 2))
