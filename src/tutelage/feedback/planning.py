"""How many labels are enough: what agreement says of accuracy, and accuracy of majorities; labels for an interval, for a difference."""

from __future__ import annotations

import math
from statistics import NormalDist


def crowd_accuracy(agreement: float) -> float:
    """How often one labeler chooses as the crowd would, where two agree so often: a = q^2 + (1 - q)^2. Raises ValueError below a half."""
    if not 0.5 <= agreement <= 1:
        raise ValueError(f"agreement on two-way choices is {agreement}, below the half of coins or above 1")
    return (1 + math.sqrt(2 * agreement - 1)) / 2


def majority_accuracy(accuracy: float, labelers: int) -> float:
    """How often the majority of an odd number of independent labelers is right. Raises ValueError on an even number."""
    if labelers % 2 == 0:
        raise ValueError(f"{labelers} labelers may tie; ask for an odd number")
    return sum(math.comb(labelers, k) * accuracy**k * (1 - accuracy) ** (labelers - k) for k in range(labelers // 2 + 1, labelers + 1))


def labels_for_width(share: float, half_width: float, *, level: float = 0.95, per_cluster: float = 1.0, correlation: float = 0.0) -> float:
    """Labels for an interval of share +- half_width, times 1 + (m - 1) rho where m labels share a prompt or a person."""
    z = NormalDist().inv_cdf(0.5 + level / 2)
    return z * z * share * (1 - share) / half_width**2 * (1 + (per_cluster - 1) * correlation)


def comparisons_to_tell(win_rate: float, *, level: float = 0.95, power: float = 0.8) -> float:
    """Comparisons that tell a win rate from a half with this power."""
    z, reach = NormalDist().inv_cdf(0.5 + level / 2), NormalDist().inv_cdf(power)
    return ((z * 0.5 + reach * math.sqrt(win_rate * (1 - win_rate))) / (win_rate - 0.5)) ** 2
