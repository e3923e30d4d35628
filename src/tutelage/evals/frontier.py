"""Reward against distance from the reference: how much KL bought how much reward, and whether the true reward has turned.

Distance is d = sqrt(KL(policy || reference)), KL in nats per response. Gao, Schulman and Hilton 2022 (arXiv:2210.10760) found
R(d) = d (alpha - beta d) for best-of-n and R(d) = d (alpha - beta ln d) for RL, R counted from the reference, R(0) = 0.
Their coefficients are fitted here per run, never assumed. RL spends far more KL than best-of-n for the same reward, so the two
are not to be compared at equal KL.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from tutelage.base.stats import Estimate, estimate, finite, same_length

Form = Literal["best_of_n", "rl"]


def bon_kl(n: int) -> float:
    """KL of best-of-n to its proposal, in nats: ln n - (n-1)/n. An upper bound, reached when no two answers score alike."""
    if n < 1:
        raise ValueError(f"best of {n}")
    return math.log(n) - (n - 1) / n


def distance(kl: float) -> float:
    """sqrt(KL); a KL estimated slightly below zero is zero."""
    return math.sqrt(max(kl, 0.0))


@dataclass(frozen=True, slots=True)
class GaoFit:
    """R(d) fitted by least squares. `peak_d` and `peak_reward` are nan where the fitted curve has no maximum.

    `beyond_data`: the peak lies past the largest d seen, so it is an extrapolation.
    """

    form: Form
    alpha: float
    beta: float
    rmse: float
    points: int
    peak_d: float
    peak_reward: float
    beyond_data: bool

    def __call__(self, d: ArrayLike) -> np.ndarray:
        """R at each d; 0 at d = 0."""
        return _basis(np.asarray(d, dtype=np.float64), self.form) @ np.array([self.alpha, self.beta])

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def _basis(d: np.ndarray, form: Form) -> np.ndarray:
    """(n,) -> (n, 2): R is linear in (alpha, beta)."""
    bend = d * d if form == "best_of_n" else d * np.log(np.where(d > 0, d, 1.0))
    return np.stack([d, -bend], axis=-1)


def fit_gao(d: ArrayLike, reward: ArrayLike, form: Form, *, min_d: float | None = None) -> GaoFit | None:
    """Least-squares fit of a Gao et al. form to rewards counted from the reference's (so that R(0) = 0).

    Args: d, reward: (n,). min_d: leave out points nearer than this; default 0.5 for "rl", whose slope at 0 is infinite and
        which the paper declares invalid near 0, and 0 for "best_of_n".
    Returns: None with fewer than three usable points at distinct d.
    Peaks: best-of-n d* = alpha / 2 beta, R* = alpha^2 / 4 beta; RL d* = exp(alpha / beta - 1), R* = beta d*.
    """
    d, reward = finite("d", d), finite("reward", reward)
    same_length(d=d, reward=reward)
    near = (0.5 if form == "rl" else 0.0) if min_d is None else min_d
    keep = (d > 0) & (d >= near)
    d, reward = d[keep], reward[keep]
    if np.unique(d).size < 3:
        return None
    (alpha, beta), *_ = np.linalg.lstsq(_basis(d, form), reward, rcond=None)
    rmse = float(np.sqrt(np.mean((_basis(d, form) @ [alpha, beta] - reward) ** 2)))
    peak_d = peak_reward = math.nan
    if beta > 0 and form == "best_of_n" and alpha > 0:
        peak_d, peak_reward = alpha / (2 * beta), alpha**2 / (4 * beta)
    elif beta > 0 and form == "rl" and alpha / beta < 50:
        peak_d = math.exp(alpha / beta - 1)
        peak_reward = beta * peak_d
    return GaoFit(form, float(alpha), float(beta), rmse, int(d.size), float(peak_d), float(peak_reward), bool(peak_d > d.max()))


@dataclass(frozen=True, slots=True)
class Peak:
    """The best point of a run and whether the run ended significantly below it.

    `index`: position of the best point. `drop`: best minus last, with an interval widened for having picked the best of several.
    `passed`: True when the drop's interval lies above 0; None when the points carry no interval, so nobody can tell.
    """

    index: int
    drop: Estimate
    passed: bool | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def find_peak(points: Sequence[Estimate | Mapping[str, float] | float], *, level: float = 0.95) -> Peak | None:
    """Has the run passed its peak? Points in training order, each an estimate (95% interval) or a bare number.

    The drop from the best point to the last is held against both points' errors. The best of k noisy points looks better than it
    is, so the quantile is Bonferroni's for the k - 1 points that might have been picked. None with no points.
    """
    rows = [p if isinstance(p, Mapping) else estimate(p, math.nan, math.nan, 0) for p in points]
    if not rows:
        return None
    means = np.array([row["mean"] for row in rows], dtype=np.float64)
    if not np.isfinite(means).any():
        return None
    index = int(np.nanargmax(means))
    last = int(np.flatnonzero(np.isfinite(means))[-1])
    drop = float(means[index] - means[last])
    if index == last:
        return Peak(index, estimate(0.0, 0.0, 0.0, len(rows)), False)
    ratio = NormalDist().inv_cdf(1 - (1 - level) / 2 / (len(rows) - 1)) / NormalDist().inv_cdf(0.975)
    half = ratio * math.hypot(rows[index]["mean"] - rows[index]["low"], rows[last]["high"] - rows[last]["mean"])
    return Peak(index, estimate(drop, drop - half, drop + half, len(rows)), bool(drop > half) if math.isfinite(half) else None)
