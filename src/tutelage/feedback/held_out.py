"""Does it hold for people whose labels it never saw? Win rates and reward accuracy for training labelers, held-out ones and each group."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tutelage.base.stats import Floats, group_index, same_length
from tutelage.feedback import intervals
from tutelage.feedback.intervals import RESAMPLES, Statistic, Sums, added, estimate, ratio, two_way, undefined


@dataclass(frozen=True)
class HeldOut:
    """training, held_out: share of outcomes among those labelers' judgements. gap: training - held_out. groups: of each group's labelers.

    InstructGPT's reward models: 72.4% right on the labelers they were trained on, 69.6% on others (arXiv:2203.02155, section 4.1).
    """

    training: Statistic
    held_out: Statistic
    gap: Statistic
    groups: dict[Hashable, Statistic]


def held_out(outcomes: ArrayLike, prompts: Sequence[Hashable], labelers: Sequence[Hashable], groups: Sequence[Hashable],
             is_held_out: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES) -> HeldOut:
    """Shares with intervals by prompt and by labeler. `n` counts judgements.

    Args: outcomes: (n,) in [0, 1], whether the reward model agreed with the judgement, or the answer watched won it; a half for a tie.
        prompts, labelers, groups: (n,) whose. is_held_out: (n,) bool, whether the labeler's judgements stay out of training.
    """
    values, out = np.asarray(outcomes, dtype=np.float64), np.asarray(is_held_out, dtype=bool)
    n = same_length(outcomes=values, prompts=prompts, labelers=labelers, groups=groups, is_held_out=out)

    def of(rows: np.ndarray, nobody: str) -> Statistic:
        at = np.flatnonzero(rows).tolist()
        found = intervals.mean(values[at], [prompts[i] for i in at], [labelers[i] for i in at], seed=seed, resamples=resamples)
        return found if found.n else undefined(nobody)

    names = list(dict.fromkeys(groups))
    group = group_index(groups, n)
    trained, kept = of(~out, "no judgement of a training labeler"), of(out, "no judgement of a held-out labeler")
    return HeldOut(trained, kept, _gap(values, out, group_index(prompts, n), group_index(labelers, n), seed, resamples),
                   {name: of(group == i, "no judgement") for i, name in enumerate(names)})


def _gap(values: Floats, out: np.ndarray, prompt: np.ndarray, labeler: np.ndarray, seed: int, resamples: int) -> Statistic:
    if out.all() or not out.any():
        return undefined("all labelers are held out" if out.any() else "no labeler is held out", values.size)
    parts = np.stack([values * ~out, ~out, values * out, out], axis=1).astype(np.float64)

    def gap(sums: Floats) -> Floats:
        return ratio(sums[:, :2]) - ratio(sums[:, 2:])

    sums = Sums(added(parts, prompt), added(parts, labeler), lambda gradient: parts @ gradient, prompt, labeler)
    return estimate(float(gap(parts.sum(0)[None])[0]), values.size, two_way(gap, sums, seed=seed, resamples=resamples))
