"""Numbers of a cross-validation: guesses learn from other folds alone, intervals go by prompt."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from tutelage.evals import words
from tutelage.evals.folds import Pairs, fold_report, guesses

RNG = np.random.default_rng(0)


def made(n: int = 120, keys: int = 12) -> Pairs:
    """Better answers say `good` nine times in ten; every prompt has words of its own that tell its pairs perfectly."""
    chosen, rejected, names = [], [], []
    for i in range(n):
        key = i % keys
        word, other = ("good", "bad") if RNG.random() < 0.9 else ("bad", "good")
        chosen.append(f"{word} secret{key}" + " x" * int(RNG.integers(5)))
        rejected.append(f"{other} wrong{key}" + " x" * int(RNG.integers(5)))
        names.append(f"prompt {key}")
    return Pairs(chosen, rejected, names, np.array([int(name.split()[1]) % 3 for name in names]), np.where(RNG.random(n) < 0.5, 0.8, 0.6))


def test_guesses_know_nothing_of_the_fold_they_judge():
    pairs = made()
    found = guesses(pairs)["bag_of_words"]
    says = np.array([text.startswith("good") for text in pairs.chosen])
    assert np.array_equal(found > 0, says)                           # words of other prompts carry over, their secrets do not
    inside = words.fit_pairs(pairs.chosen, pairs.rejected)
    assert (inside.score(pairs.chosen) > inside.score(pairs.rejected)).mean() > says.mean()


def test_words_with_length_are_scikit_learns_logistic_regression_with_one_column_more():
    pairs = made()
    ours = words.fit_pairs(pairs.chosen, pairs.rejected, with_length=True, c=0.3)
    columns = [*ours.vocab]

    def matrix(texts):
        return np.array([[*map(text.split().count, columns), np.log(len(text))] for text in texts])

    difference = matrix(pairs.chosen) - matrix(pairs.rejected)
    theirs = LogisticRegression(C=0.3, fit_intercept=False, tol=1e-10, max_iter=10_000)
    n = len(difference)
    theirs.fit(np.vstack([difference, -difference]), [1] * n + [0] * n, sample_weight=np.full(2 * n, 0.5))
    assert np.allclose(ours.weights, theirs.coef_[0], atol=1e-4)
    assert np.allclose(ours.score(pairs.chosen[:5]), matrix(pairs.chosen[:5]) @ ours.weights)


def test_the_report_counts_right_pairs_over_all_over_those_of_like_length_and_by_fold():
    pairs = Pairs(["aaaa", "aaaaaaaaaa", "aaaaa", "aa"], ["bbbb", "bbbbbbbb", "bbb", "bbbbbbb"], ["p", "p", "q", "r"],
                  np.array([0, 0, 1, 1]), np.array([1.0, 0.6, np.nan, 0.8]))
    model, other = np.array([1.0, -1.0, 0.0, 2.0]), np.array([-1.0, -1.0, 1.0, 1.0])
    report = fold_report(pairs, {"model": model}, {"other": other})
    assert (report["pairs"], report["near_pairs"], report["groups"]) == (4, 2, 3)      # 8 of 10 characters is like, 3 of 5 is not
    found = report["models"]["model"]
    assert found["accuracy"]["mean"] == 2.5 / 4 and found["accuracy"]["n"] == 3
    assert found["near"]["mean"] == 0.5 and found["folds"] == [0.5, 0.75]
    p = 1 / (1 + np.exp(-model[[0, 1, 3]]))
    shares = np.array([1.0, 0.6, 0.8])
    assert found["votes"]["log_loss"] == pytest.approx(-np.mean(shares * np.log(p) + (1 - shares) * np.log(1 - p)))
    assert report["leads"]["model"]["other"]["all"]["mean"] == pytest.approx((2.5 - 2) / 4)
    assert report["leads"]["model"]["other"]["near"]["mean"] == pytest.approx(0.5)


def test_pairs_of_one_prompt_widen_the_interval():
    n = 200
    right = np.repeat(RNG.random(10) < 0.7, 20)
    pairs = Pairs(["a"] * n, ["b"] * n, [f"{i // 20}" for i in range(n)], np.arange(n) // 100, np.full(n, np.nan))
    alone = Pairs(["a"] * n, ["b"] * n, [f"{i}" for i in range(n)], np.arange(n) // 100, np.full(n, np.nan))
    margins = np.where(right, 1.0, -1.0)
    wide, narrow = (fold_report(p, {"m": margins}, {})["models"]["m"]["accuracy"] for p in (pairs, alone))
    assert wide["high"] - wide["low"] > 2.5 * (narrow["high"] - narrow["low"]) and wide["mean"] == narrow["mean"]
