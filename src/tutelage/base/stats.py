"""Estimates with an interval: means, rates, win rates, AUC. Numpy only; held in tests to scipy, statsmodels and scikit-learn.

Every estimate is a plain dict {"mean", "low", "high", "n"}, ready for JSON. The unit of resampling is the prompt: answers to
one prompt are not independent, so where several share one, pass its id in `groups`. What cannot be known is nan, never a guess.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
RESAMPLES = 4000


class Estimate(TypedDict):
    """A number and how sure it is: `low` and `high` bound its confidence interval, `n` counts independent units."""

    mean: float
    low: float
    high: float
    n: int


def estimate(mean: float, low: float, high: float, n: int) -> Estimate:
    return {"mean": float(mean), "low": float(low), "high": float(high), "n": int(n)}


def finite(name: str, values: ArrayLike) -> Floats:
    """A 1-d float64 array. Raises ValueError when it has another shape or holds nan or infinity."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}, expected one dimension")
    bad = int(np.count_nonzero(~np.isfinite(array)))
    if bad:
        raise ValueError(f"{name}: {bad} of {array.size} values are not finite")
    return array


def same_length(**arrays: Sequence | NDArray) -> int:
    """The common length. Raises ValueError naming every length when they differ."""
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError("unequal lengths: " + ", ".join(f"{name} {n}" for name, n in lengths.items()))
    return next(iter(lengths.values()))


def group_index(groups: Sequence[Hashable] | None, n: int) -> NDArray[np.int64]:
    """Group ids -> 0..G-1 in order of appearance; each row its own group when None."""
    if groups is None:
        return np.arange(n)
    if len(groups) != n:
        raise ValueError(f"{len(groups)} groups for {n} values")
    seen: dict[Hashable, int] = {}
    return np.array([seen.setdefault(g, len(seen)) for g in groups], dtype=np.int64)


def group_means(values: Floats, groups: Sequence[Hashable] | None) -> Floats:
    """(n,) -> (G,) mean of each group."""
    index = group_index(groups, values.size)
    return np.bincount(index, weights=values) / np.bincount(index) if values.size else values


@lru_cache(maxsize=1024)
def t_quantile(level: float, dof: int) -> float:
    """Two-sided Student quantile: P(|T| <= t) = level.

    With t = sqrt(dof) tan(a) the density becomes cos(a)^(dof-1), smooth enough for Gauss-Legendre; then bisection on a.
    """
    nodes, weights = np.polynomial.legendre.leggauss(96)
    log_scale = math.log(2) + math.lgamma((dof + 1) / 2) - math.lgamma(dof / 2) - 0.5 * math.log(math.pi)
    low, high = 0.0, math.atan(max(700.0, 60 * dof**0.5) / dof**0.5)
    for _ in range(80):
        angle = (low + high) / 2
        points = angle * (nodes + 1) / 2
        inside = angle / 2 * float(weights @ np.exp(log_scale + (dof - 1) * np.log(np.cos(points))))
        low, high = (angle, high) if inside < level else (low, angle)
    return dof**0.5 * math.tan((low + high) / 2)


def mean_ci(values: ArrayLike, *, groups: Sequence[Hashable] | None = None, level: float = 0.95) -> Estimate:
    """Mean with Student's t interval.

    Args: values: (n,). groups: (n,) prompt ids; each prompt counts once, by the mean of its answers.
    Returns: nan bounds when there are fewer than two prompts, a nan mean when there is none.
    """
    means = group_means(finite("values", values), groups)
    if means.size == 0:
        return estimate(math.nan, math.nan, math.nan, 0)
    mean = means.mean()
    if means.size == 1:
        return estimate(mean, math.nan, math.nan, 1)
    half = t_quantile(level, means.size - 1) * means.std(ddof=1) / math.sqrt(means.size)
    return estimate(mean, mean - half, mean + half, means.size)


def wilson(successes: float, n: int, *, level: float = 0.95) -> Estimate:
    """Share of successes with Wilson's score interval, which stays in [0, 1] and does not collapse at 0 or 1 (Wilson 1927)."""
    if n == 0:
        return estimate(math.nan, math.nan, math.nan, 0)
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}")
    z, p = NormalDist().inv_cdf(0.5 + level / 2), successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return estimate(p, min(max(centre - half, 0.0), p), max(min(centre + half, 1.0), p), n)


def bootstrap(statistic: Callable[[NDArray[np.int64]], float], n: int, *, seed: int = 0, resamples: int = RESAMPLES,
              level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of `statistic(indices)`, indices drawn with replacement from 0..n-1 (Efron 1979)."""
    rng = np.random.default_rng(seed)
    draws = np.array([statistic(rng.integers(0, n, n)) for _ in range(resamples)])
    low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_difference(values_a: ArrayLike, values_b: ArrayLike, *, groups: Sequence[Hashable] | None = None, seed: int = 0,
                      level: float = 0.95) -> Estimate:
    """Mean of a - b over the same prompts, bootstrapped by prompt, so that how hard a prompt is cancels out."""
    a, b = finite("values_a", values_a), finite("values_b", values_b)
    same_length(values_a=a, values_b=b)
    differences = group_means(a - b, groups)
    n = differences.size
    if n < 2:
        return estimate(differences.mean() if n else math.nan, math.nan, math.nan, n)
    low, high = bootstrap(lambda rows: differences[rows].mean(), n, seed=seed, level=level)
    return estimate(differences.mean(), low, high, n)


def rate_ci(outcomes: ArrayLike, *, weights: ArrayLike | None = None, groups: Sequence[Hashable] | None = None, seed: int = 0,
            level: float = 0.95) -> Estimate:
    """Weighted share of outcomes in [0, 1]: a half is a tie.

    Wilson's interval when every group holds one unweighted yes or no, or when all groups have the same share (where a bootstrap
    would claim certainty); else a bootstrap over groups. `n` counts groups.
    """
    outcomes = finite("outcomes", outcomes)
    weights = np.ones_like(outcomes) if weights is None else finite("weights", weights)
    same_length(outcomes=outcomes, weights=weights)
    if outcomes.size and (outcomes.min() < 0 or outcomes.max() > 1 or weights.min() < 0):
        raise ValueError("outcomes must lie in [0, 1] and weights must not be negative")
    outcomes, groups = outcomes[weights > 0], None if groups is None else [g for g, w in zip(groups, weights, strict=True) if w > 0]
    weights = weights[weights > 0]
    index = group_index(groups, outcomes.size)
    count = int(index.max()) + 1 if index.size else 0
    if count == 0:
        return estimate(math.nan, math.nan, math.nan, 0)
    plain = count == outcomes.size and np.ptp(weights) == 0 and bool(np.isin(outcomes, (0.0, 1.0)).all())
    mean = float(outcomes @ weights / weights.sum())
    total = np.bincount(index, weights=outcomes * weights)
    mass = np.bincount(index, weights=weights)
    if plain or np.allclose(total / mass, mean, rtol=0, atol=1e-12):
        return wilson(min(mean * count, count), count, level=level) | {"mean": mean}
    low, high = bootstrap(lambda rows: total[rows].sum() / mass[rows].sum(), count, seed=seed, level=level)
    return estimate(mean, low, high, count)


def win_rate(scores_a: ArrayLike, scores_b: ArrayLike, *, ties: float = 0.5, groups: Sequence[Hashable] | None = None, seed: int = 0,
             level: float = 0.95) -> Estimate:
    """How often a's answer scores above b's to the same prompt; a tie counts `ties`. Interval as in `rate_ci`."""
    a, b = finite("scores_a", scores_a), finite("scores_b", scores_b)
    same_length(scores_a=a, scores_b=b)
    return rate_ci(np.where(a == b, ties, (a > b).astype(np.float64)), groups=groups, seed=seed, level=level)


def midranks(values: Floats) -> Floats:
    """Ranks from 1, ties sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def auc(labels: ArrayLike, scores: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Area under the ROC curve, i.e. P(score of a yes > score of a no) + half of P(equal), with DeLong's interval.

    Where the classes are perfectly separated DeLong's variance is 0 whatever the sample size; Wilson over the smaller class
    stands in. Source: DeLong et al. 1988; fast form by Sun and Xu 2014. nan with a single class.
    """
    scores, labels = finite("scores", scores), np.asarray(labels).astype(bool)
    same_length(labels=labels, scores=scores)
    yes, no = scores[labels], scores[~labels]
    if yes.size == 0 or no.size == 0:
        return estimate(math.nan, math.nan, math.nan, scores.size)
    ranks = midranks(np.concatenate([yes, no]))
    above_no = (ranks[:yes.size] - midranks(yes)) / no.size             # for each yes: share of noes below it
    below_yes = 1 - (ranks[yes.size:] - midranks(no)) / yes.size        # for each no: share of yeses above it
    area = float(above_no.mean())
    variance = sum(part.var(ddof=1) / part.size for part in (above_no, below_yes) if part.size > 1)
    if variance == 0:
        smaller = min(yes.size, no.size)
        return wilson(area * smaller, smaller, level=level) | {"n": int(scores.size)}
    half = NormalDist().inv_cdf(0.5 + level / 2) * math.sqrt(variance)
    return estimate(area, max(area - half, 0.0), min(area + half, 1.0), scores.size)


def grouped_auc(labels: ArrayLike, scores: ArrayLike, groups: Sequence[Hashable], *, minus: ArrayLike | None = None, seed: int = 0,
                resamples: int = RESAMPLES, level: float = 0.95) -> Estimate:
    """AUC where rows come in groups (turns of one conversation), bootstrapped by group; DeLong's interval would count them as independent.

    Where the classes are perfectly separated, so that no draw differs, Wilson over the groups of the rarer class stands in.
    Args: minus: other scores of the same rows; then the estimate is of AUC(scores) - AUC(minus). `n` counts groups. nan with one class;
        nan bounds with one group.
    """
    scores, labels = finite("scores", scores), np.asarray(labels).astype(bool)
    same_length(labels=labels, scores=scores, groups=groups)
    index = group_index(groups, scores.size)
    count = int(index.max()) + 1 if index.size else 0
    if labels.all() or not labels.any():
        return estimate(math.nan, math.nan, math.nan, count)

    def wins(values: Floats) -> Floats:
        """(G, G): over yes of group g and no of group h, how many yes score above the no, ties half."""
        beaten = np.sign(values[labels][:, None] - values[~labels][None]) / 2 + 0.5
        table = np.zeros((count, count))
        np.add.at(table, (index[labels][:, None], index[~labels][None]), beaten)
        return table

    table = wins(scores) - (wins(finite("minus", minus)) if minus is not None else 0)
    area = float(table.sum()) / float(labels.sum() * (~labels).sum())
    if count == 1:
        return estimate(area, math.nan, math.nan, count)
    if minus is None and area in (0.0, 1.0):
        smaller = min(np.unique(index[labels]).size, np.unique(index[~labels]).size)
        return wilson(area * smaller, smaller, level=level) | {"n": count}
    chances = np.outer(np.bincount(index[labels], minlength=count), np.bincount(index[~labels], minlength=count)).astype(np.float64)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples).astype(np.float64)   # (R, G)
    with np.errstate(invalid="ignore"):
        areas = ((drawn @ table) * drawn).sum(1) / ((drawn @ chances) * drawn).sum(1)
    low, high = np.nanquantile(areas, [(1 - level) / 2, (1 + level) / 2])
    return estimate(area, low, high, count)


def balanced_accuracy(labels: ArrayLike, predictions: ArrayLike, *, groups: Sequence[Hashable] | None = None, seed: int = 0,
                      level: float = 0.95) -> Estimate:
    """Mean of the two classes' recalls; its interval joins their Wilson intervals (MOVER: Zou and Donner 2008).

    Args: groups: (n,) prompt ids; the interval is then bootstrapped by prompt and `n` counts prompts. Where no draw differs, each class's
        Wilson interval counts the prompts it comes up in. nan with one class; nan bounds with one prompt.
    """
    labels, predictions = np.asarray(labels).astype(bool), np.asarray(predictions).astype(bool)
    same_length(labels=labels, predictions=predictions)
    index, right = group_index(groups, labels.size), labels == predictions
    n = int(index.max()) + 1 if index.size else 0
    if labels.all() or not labels.any():
        return estimate(math.nan, math.nan, math.nan, n)
    sides = [labels == side for side in (True, False)]
    recalls = [float(right[side].mean()) for side in sides]
    mean = sum(recalls) / 2
    if n == 1:
        return estimate(mean, math.nan, math.nan, n)
    if groups is not None:
        hits, all_of = (np.stack([np.bincount(index[side & of], minlength=n) for side in sides]) for of in (right, np.ones_like(right)))
        with np.errstate(invalid="ignore"):
            low, high = bootstrap(lambda rows: (hits[:, rows].sum(1) / all_of[:, rows].sum(1)).mean(), n, seed=seed, level=level)
        if low < high:
            return estimate(mean, low, high, n)
    counts = [np.unique(index[side]).size for side in sides]
    parts = [wilson(recall * count, count, level=level) for recall, count in zip(recalls, counts, strict=True)]
    down = math.hypot(*(part["mean"] - part["low"] for part in parts)) / 2
    up = math.hypot(*(part["high"] - part["mean"] for part in parts)) / 2
    return estimate(mean, mean - down, mean + up, n)
