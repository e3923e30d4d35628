"""Words counted: how varied texts are, and what can be guessed without reading, the floor a reward model must clear.

The guesses are logistic regressions on word counts, and length. Plain numpy on a sparse count matrix kept as three arrays; Newton's
method with conjugate gradients, so it reaches the exact optimum of the same objective as scikit-learn's LogisticRegression:
|w|^2 / 2 + C * sum of losses, intercept unpenalised.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tutelage.base.stats import Floats

WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Sparse:
    """A (rows, columns) matrix by its entries; repeated entries add up. A difference holds each entry once."""

    rows: np.ndarray
    columns: np.ndarray
    values: Floats
    shape: tuple[int, int]

    def dot(self, weights: Floats) -> Floats:
        """(columns,) -> (rows,)"""
        return np.asarray(np.bincount(self.rows, weights=self.values * weights[self.columns], minlength=self.shape[0]), dtype=np.float64)

    def transpose_dot(self, residuals: Floats) -> Floats:
        """(rows,) -> (columns,)"""
        return np.asarray(np.bincount(self.columns, weights=self.values * residuals[self.rows], minlength=self.shape[1]), dtype=np.float64)

    def squared_transpose_dot(self, weights: Floats) -> Floats:
        """(rows,) -> (columns,): the same of the squared entries; repeated ones count apart, near enough for a preconditioner."""
        return np.asarray(np.bincount(self.columns, weights=self.values**2 * weights[self.rows], minlength=self.shape[1]), dtype=np.float64)

    def __sub__(self, other: Sparse) -> Sparse:
        cells = np.concatenate([self.rows * self.shape[1] + self.columns, other.rows * self.shape[1] + other.columns])
        cells, entry = np.unique(cells, return_inverse=True)
        values = np.bincount(entry, np.concatenate([self.values, -other.values]), cells.size)
        cells, values = cells[values != 0], values[values != 0]
        return Sparse(cells // self.shape[1], cells % self.shape[1], values, self.shape)


def words(text: str) -> list[str]:
    return WORD.findall(text.lower())


def distinct_n(texts: Sequence[str], n: int) -> float:
    """Share of distinct word n-grams among all n-grams of all texts (Li et al. 2016, arXiv:1510.03055); nan when there are none.

    It falls as the amount of text grows, so compare models on equally many answers to the same prompts.
    """
    grams = [tuple(words[i:i + n]) for words in (text.split() for text in texts) for i in range(len(words) - n + 1)]
    return len(set(grams)) / len(grams) if grams else math.nan


def vocabulary(texts: Sequence[str], *, max_words: int = 20000) -> dict[str, int]:
    """Word -> column, the most frequent first."""
    counts = Counter(word for text in texts for word in words(text))
    return {word: column for column, (word, _) in enumerate(counts.most_common(max_words))}


def count_words(texts: Sequence[str], vocab: dict[str, int]) -> Sparse:
    """(texts, words) counts; words outside the vocabulary are left out."""
    entries = [(row, vocab[word]) for row, text in enumerate(texts) for word in words(text) if word in vocab]
    rows, columns = np.array(entries, dtype=np.int64).reshape(-1, 2).T
    return Sparse(rows, columns, np.ones(len(entries)), (len(texts), len(vocab)))


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + exp(-x)) without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def fit_logistic(matrix: Sparse, targets: Floats, *, weights: Floats | None = None, intercept: bool, c: float = 1.0,
                 tolerance: float = 1e-6) -> tuple[Floats, float]:
    """Minimise |w|^2 / 2 + c * sum_i weights_i * cross-entropy(targets_i, sigmoid(x_i w + b)).

    Args: targets: (rows,) in [0, 1], soft labels welcome. tolerance: largest gradient entry, relative to the number of rows.
    Returns: (w, b); b is 0 without an intercept.
    """
    n, d = matrix.shape
    sample = c * (np.ones(n) if weights is None else weights)
    penalty = np.append(np.ones(d), 0.0)

    def logits(w: Floats) -> Floats:
        return matrix.dot(w[:d]) + w[d]

    def pull_back(residuals: Floats) -> Floats:
        return np.append(matrix.transpose_dot(residuals), residuals.sum() if intercept else 0.0)

    def objective(w: Floats) -> float:
        z = logits(w)
        return float(sample @ (np.logaddexp(0, z) - targets * z) + 0.5 * (penalty * w) @ w)

    w = np.zeros(d + 1)
    value = objective(w)
    for _ in range(100):
        p = sigmoid(logits(w))
        gradient = pull_back(sample * (p - targets)) + penalty * w
        if np.abs(gradient).max() <= tolerance * max(n, 1) * c:
            break
        curvature = sample * p * (1 - p)
        diagonal = np.append(matrix.squared_transpose_dot(curvature), curvature.sum() if intercept else 1.0) + penalty
        step = _conjugate_gradient(lambda v, h=curvature: pull_back(h * logits(v)) + penalty * v, -gradient, diagonal)
        scale = 1.0
        while (new := objective(w + scale * step)) > value + 1e-4 * scale * (gradient @ step) and scale > 1e-8:
            scale /= 2
        w, value = w + scale * step, new
    return w[:d], float(w[d])


def _conjugate_gradient(product, target: Floats, diagonal: Floats) -> Floats:
    """Solve H x = target for a positive definite H known by its products and diagonal (Hestenes and Stiefel 1952, Jacobi preconditioned:
    words differ a thousandfold in how often they occur)."""
    x, residual = np.zeros_like(target), target.copy()
    scaled = residual / diagonal
    direction, square = scaled.copy(), residual @ scaled
    stop = 1e-4 * square                # loosely: Newton corrects the rest
    for _ in range(250):
        if square <= stop:
            break
        image = product(direction)
        curvature = direction @ image
        if curvature <= 0:
            break
        x += square / curvature * direction
        residual -= square / curvature * image
        scaled = residual / diagonal
        square, before = residual @ scaled, square
        direction = scaled + square / before * direction
    return x


def with_log_length(counts: Sparse, texts: Sequence[str]) -> Sparse:
    """One column more: the natural logarithm of each text's characters."""
    n, d = counts.shape
    lengths = np.log([max(1, len(text)) for text in texts])
    return Sparse(np.append(counts.rows, np.arange(n)), np.append(counts.columns, np.full(n, d)), np.append(counts.values, lengths),
                  (n, d + 1))


@dataclass(frozen=True, slots=True)
class WordScorer:
    """A score per text from its words alone; from its length too where there is a weight more than words."""

    vocab: dict[str, int]
    weights: Floats
    bias: float

    def score(self, texts: Sequence[str]) -> Floats:
        counts = count_words(texts, self.vocab)
        return (with_log_length(counts, texts) if len(self.weights) > len(self.vocab) else counts).dot(self.weights) + self.bias


def fit_pairs(chosen: Sequence[str], rejected: Sequence[str], *, targets: Floats | None = None, weights: Floats | None = None,
              c: float = 1.0, with_length: bool = False) -> WordScorer:
    """Bag-of-words reward model: logistic regression on differences of word counts, as Bradley-Terry would have it.

    Labels of the same two texts are one row with the mean target and the sum of weights, which has the same optimum.
    """
    n = len(chosen)
    won, mass = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for a, b, target, weight in zip(chosen, rejected, np.ones(n) if targets is None else targets,
                                    np.ones(n) if weights is None else weights, strict=True):
        won[min(a, b), max(a, b)] += weight * (target if a <= b else 1 - target)
        mass[min(a, b), max(a, b)] += weight
    first, second = [a for a, _ in mass], [b for _, b in mass]
    total = np.array(list(mass.values()), dtype=np.float64)
    share = np.divide([won[pair] for pair in mass], total, out=np.zeros_like(total), where=total > 0)
    vocab = vocabulary([*first, *second])
    one, other = count_words(first, vocab), count_words(second, vocab)
    if with_length:
        one, other = with_log_length(one, first), with_log_length(other, second)
    w, bias = fit_logistic(one - other, share, weights=total, intercept=False, c=c)
    return WordScorer(vocab, w, bias)


def fit_labels(texts: Sequence[str], labels: Floats, *, c: float = 1.0) -> WordScorer:
    """Bag-of-words classifier of single answers."""
    vocab = vocabulary(texts)
    w, bias = fit_logistic(count_words(texts, vocab), np.asarray(labels, dtype=np.float64), intercept=True, c=c)
    return WordScorer(vocab, w, bias)


@dataclass(frozen=True, slots=True)
class LengthScorer:
    """Longer is better (`sign` 1) or worse (-1), whichever the training data said."""

    sign: float
    unit: Literal["words", "characters"] = "words"

    def score(self, texts: Sequence[str]) -> Floats:
        sizes = [len(words(text)) if self.unit == "words" else len(text) for text in texts]
        return self.sign * np.array(sizes, dtype=np.float64)


def fit_length_pairs(chosen: Sequence[str], rejected: Sequence[str], *, targets: Floats | None = None, weights: Floats | None = None,
                     unit: Literal["words", "characters"] = "words") -> LengthScorer:
    """Whether the longer answer won more often, a soft label counting for both sides by its share."""
    longer = LengthScorer(1.0, unit)
    won = np.sign(longer.score(chosen) - longer.score(rejected)) * (1.0 if targets is None else 2 * targets - 1)
    return LengthScorer(1.0 if (won * (1.0 if weights is None else weights)).sum() >= 0 else -1.0, unit)


def fit_length_labels(texts: Sequence[str], labels: Floats) -> LengthScorer:
    lengths, labels = LengthScorer(1.0).score(texts), np.asarray(labels, dtype=np.float64)
    return LengthScorer(1.0 if (lengths - lengths.mean()) @ (labels - labels.mean()) >= 0 else -1.0)
