"""What happens to a score before it becomes a reward: rescaling, running normalisation, clipping, the price of not stopping."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class RunningMoments:
    """Count, mean and sum of squared deviations of all scores seen so far, in double precision. `update` returns a new one.

    Three plain numbers, so a checkpoint stores them exactly. Source: Chan, Golub, LeVeque 1979 (pairwise update).
    """

    count: int = 0
    mean: float = 0.0
    squared_deviations: float = 0.0

    @property
    def std(self) -> float:
        """Biased standard deviation; 0 before the second distinct score."""
        return math.sqrt(self.squared_deviations / self.count) if self.count else 0.0

    def update(self, scores: Tensor) -> RunningMoments:
        """Moments after scores (any shape) too. Raises ValueError on nan or infinity, which would never leave the mean again."""
        x = scores.detach().double()
        if not torch.isfinite(x).all():
            raise ValueError(f"{int((~torch.isfinite(x)).sum())} of {x.numel()} scores are not finite")
        if not x.numel():
            return self
        count = self.count + x.numel()
        shift = x.mean().item() - self.mean
        within = (x - x.mean()).square().sum().item()
        between = shift * shift * self.count * x.numel() / count
        return RunningMoments(count, self.mean + shift * x.numel() / count, self.squared_deviations + within + between)


def normalize_scores(scores: Tensor, moments: RunningMoments, *, clip: float | None = None) -> Tensor:
    """(scores - mean) / std, then kept within [-clip, clip]. scores: any shape. A std of 0 (one score, or all equal) divides by 1.

    Source: Zheng et al. 2023, arXiv:2307.04964 (reward normalisation and clipping; clipping is what stabilises).
    """
    normal = (scores - moments.mean) / (moments.std or 1.0)
    return normal if clip is None else normal.clamp(-clip, clip)


def gain_and_shift(scores: Tensor, *, mean: float = 0.0, std: float = 1.0) -> tuple[float, float]:
    """(gain, shift) such that gain * scores + shift has the given mean and (biased) standard deviation.

    Applied to a reward model with scores of reference-policy samples. Raises: ValueError when the scores do not vary or are not finite.
    Source: Ziegler et al. 2019, code (reward normalisation before and after training).
    """
    seen = RunningMoments().update(scores)
    if seen.std == 0:
        raise ValueError(f"{seen.count} scores without spread cannot be rescaled to std {std}")
    gain = std / seen.std
    return gain, mean - gain * seen.mean


def missing_eos_penalty(scores: Tensor, finished: Tensor, penalty: float) -> Tensor:
    """Scores lowered by penalty where the response did not end. scores: (B,). finished: (B,) bool. Raises: ValueError when penalty < 0.

    Keeps the order among unfinished responses. Source: Huang et al. 2024, arXiv:2403.17031, EOS trick, as TRL states it.
    """
    if penalty < 0:
        raise ValueError(f"penalty={penalty} would reward responses that do not end; give a positive number")
    return torch.where(finished, scores, scores - penalty)


def missing_eos_score(scores: Tensor, finished: Tensor, score: float = -1.0) -> Tensor:
    """Scores replaced by score where the response did not end, whatever the reward model thought of the fragment. (B,), (B,) bool.

    Choose it below what finished responses get. Source: Ziegler et al. 2019, rejection step; Huang et al. 2024, arXiv:2403.17031.
    """
    return torch.where(finished, scores, score)
