"""The exact answer, by listing every response: numpy only, and nothing of algos/, so that an error there cannot hide in both."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def gibbs(ref_logprobs: Array, rewards: Array, beta: float) -> Array:
    """pi*(y) proportional to pi_ref(y) exp(r(y) / beta): the one maximiser of E[r] - beta KL(pi || pi_ref).

    Args: ref_logprobs, rewards: (N,), one per response; all of them together. beta: > 0, reward units per nat.
    Returns: (N,) probabilities. Source: Ziegler et al. 2019, arXiv:1909.08593, section 2.2; derivation in docs/prove.md.
    """
    log_weights = ref_logprobs + rewards / beta
    weights = np.exp(log_weights - log_weights.max())
    return weights / weights.sum()


def total_variation(p: Array, q: Array) -> float:
    """Half the sum of |p - q|: the largest difference in probability the two give to any set of responses, 0 to 1."""
    return 0.5 * float(np.abs(p - q).sum())


def kl_divergence(p: Array, q: Array) -> float:
    """KL(p || q) in nats, where 0 log 0 = 0."""
    here = p > 0
    return float((p[here] * np.log(p[here] / q[here])).sum())


def scale_to_kl(ref_logprobs: Array, rewards: Array, beta: float, *, max_kl: float) -> float:
    """The largest factor s <= 1 for which KL(pi* || pi_ref) of the rewards s * r is at most max_kl nats.

    That KL rises with s: its derivative is s Var(r) / beta^2 under pi*. Bisection to the last digits.
    """
    reference = np.exp(ref_logprobs)

    def kl(scale: float) -> float:
        return kl_divergence(gibbs(ref_logprobs, scale * rewards, beta), reference)

    if kl(1.0) <= max_kl:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if kl(middle) <= max_kl else (low, middle)
    return low
