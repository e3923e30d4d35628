"""What a reward model learns of people beside the score: how readily they call a tie, where the steps of their rating scales lie."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.algos.losses import ordered_thresholds
from tutelage.base.errors import DataError
from tutelage.base.records import Judgement

MOST_LEVELS = 20
NAME = "people.json"


class Scales(nn.Module):
    """Numbers that turn scores into what people say. Empty where nobody rates and ties have no probability of their own.

    levels: the ratings there are, lowest first. A labeler's thresholds are the shared ones plus deviations of their own (of the first
    threshold, and of the logs of the gaps), which start at 0 and are held near 0: who has rated little is taken for everybody.
    """

    gain: Tensor
    shift: Tensor

    def __init__(self, judgements: Sequence[Judgement] = (), *, ties: bool = False) -> None:
        super().__init__()
        rated = [j for j in judgements if j.rating is not None]
        count = Counter(float(j.rating) for j in rated if j.rating is not None)
        self.levels = tuple(sorted(count))
        if len(self.levels) > MOST_LEVELS:
            raise DataError(f"the ratings have {len(self.levels)} different values, which is no scale of steps",
                            hint=f"round them to {MOST_LEVELS} values or fewer")
        self.num_rated = len(rated)
        self.labelers = {name: i for i, name in enumerate(sorted({j.labeler for j in rated if j.labeler is not None}))}
        self.register_buffer("gain", torch.tensor(1.0))
        self.register_buffer("shift", torch.tensor(0.0))
        if len(self.levels) > 1:
            below = torch.tensor([count[level] for level in self.levels], dtype=torch.float64).cumsum(0)[:-1]
            at = torch.logit((below / len(rated)).clamp(1e-6, 1 - 1e-6))      # where they lie if all answers were alike
            self.shared = nn.Parameter(torch.cat([at[:1], at.diff().log()]).float())
            self.own = nn.Parameter(torch.zeros(len(self.labelers), len(self.levels) - 1))
        if ties:
            share = min(max(_tied_share(judgements), 0.005), 0.9)
            self.log_nu = nn.Parameter(torch.tensor(math.log(2 * share / (1 - share))))       # nu / (nu + 2) is the share

    @property
    def rates(self) -> bool:
        """Whether there is a scale to rate on."""
        return len(self.levels) > 1

    def steps(self, ratings: Iterable[float | None]) -> Tensor:
        """(B,) places of ratings on the scale; the nearest for one that training never saw."""
        scale = torch.tensor(self.levels, dtype=torch.float64)
        at = torch.tensor([0.0 if rating is None else rating for rating in ratings], dtype=torch.float64)
        return (at[:, None] - scale).abs().argmin(1).to(self.gain.device)

    def thresholds(self, labelers: Iterable[str | None]) -> Tensor:
        """(B, K - 1) of each labeler, log-odds; the shared ones of a labeler who has not rated in training."""
        rows = torch.tensor([self.labelers.get(name or "", len(self.labelers)) for name in labelers], device=self.gain.device)
        free = self.shared + torch.cat([self.own, self.own.new_zeros(1, self.own.shape[1])])[rows]
        return ordered_thresholds(free[:, :1], free[:, 1:])

    def prior(self, spread: float) -> Tensor:
        """Minus the log of the normal prior of all deviations, standard deviation `spread`, up to a constant."""
        return self.own.square().sum() / (2 * spread**2) if self.rates else self.gain.new_zeros(())

    @torch.no_grad()
    def rescale_(self, gain: float, shift: float) -> None:
        """Follow the scores, of which the model now gives gain * score + shift; parameters stay in log-odds."""
        self.shift.mul_(gain).add_(shift)
        self.gain.mul_(gain)

    def side(self, rating: float | None) -> int:
        """1 above the middle of the scale, -1 below, 0 in it."""
        place = 2 * int(self.steps([rating])) - len(self.levels) + 1
        return (place > 0) - (place < 0)

    def log_odds(self, score: float) -> float:
        """A score as the model gives it, in the units it was trained in."""
        return (score - self.shift.item()) / self.gain.item()

    def middle(self, labeler: str | None) -> float:
        """The log-odds at the middle of a labeler's scale: its middle threshold, or between the two around its middle step."""
        edges = self.thresholds([labeler])[0].tolist()
        return (edges[(len(edges) - 1) // 2] + edges[len(edges) // 2]) / 2

    @torch.no_grad()
    def told(self) -> dict[str, Any]:
        """For people: nu, and every labeler's thresholds in units of the model's scores."""
        found: dict[str, Any] = {"log_odds_per_score": 1 / self.gain.item()}
        if hasattr(self, "log_nu"):
            found["tie_nu"] = self.log_nu.exp().item()
        if self.rates:
            names = [None, *self.labelers]
            rows = (self.thresholds(names) * self.gain + self.shift).tolist()
            found |= {"rating_levels": list(self.levels), "thresholds": {name or "": row for name, row in zip(names, rows, strict=True)}}
        return found

    def save(self, folder: Path) -> None:
        """Write people.json beside the head, if there is anything to tell."""
        if any(True for _ in self.parameters()):
            (folder / NAME).write_text(json.dumps(self.told(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _tied_share(judgements: Sequence[Judgement]) -> float:
    """Share of all pairs of answers ranked alike; 0 where there are none."""
    pairs = [one == other for j in judgements if j.ranks is not None for one, other in combinations(j.ranks, 2)]
    return sum(pairs) / len(pairs) if pairs else 0.0
