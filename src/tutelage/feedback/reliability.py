"""How far each labeler can be trusted, as an example weight for training.

Two models estimate it from the labels alone, `dawid_skene` for labels and `noisy_bt` for comparisons. Both give a signed skill: 1 always
tells the truth, 0 says nothing about it (whatever the habit), below 0 tells the opposite. A skill becomes a weight, never a deletion, and
who loses weight is told. Agreement fixes skill up to one sign for all, so both assume that most labelers are honest; gold items lift that.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tutelage.base.stats import Floats
from tutelage.feedback.intervals import Statistic, undefined

Z95 = NormalDist().inv_cdf(0.975)
START = 0.05
"""Weight of other items in the first step where there are gold items: gold says who is honest before the majority does."""


@dataclass(frozen=True, slots=True)
class Skill:
    """What a model says of one labeler. skill: -1 to 1, its `n` counts labels that could be compared. labels: all they gave.

    guesses: share of labels given without looking, left: how often those go to the answer on the left (noisy Bradley-Terry only).
    """

    labeler: Hashable
    skill: Statistic
    labels: int
    guesses: float | None = None
    left: float | None = None


def bounded(skill: float, half: float, n: int) -> Statistic:
    """A skill with its interval, kept in [-1, 1]; undefined where no label could be compared."""
    if n == 0:
        return undefined("no item shared with another labeler, none of known answer")
    return Statistic(skill, n, max(skill - half, -1.0), min(skill + half, 1.0))


@dataclass(frozen=True)
class Weights:
    """weight: (n,) in [0, 1]. flipped: (n,) bool, labels to be read as their opposite. told: a line for every labeler who lost weight."""

    weight: Floats
    flipped: NDArray[np.bool_]
    told: tuple[str, ...]


def example_weights(skills: Sequence[Skill], labelers: Sequence[Hashable], *, opposed: Literal["mute", "flip"] = "mute") -> Weights:
    """Weights for training examples by who gave them: skill over the best labeler's skill.

    Near a difference of zero the log-likelihood of a choice has a gradient of skill / 2 where a plain one has 1/2, so the skill is the
    weight with which noisy labels are used best. Below zero, `mute` gives 0; `flip` reads the labels as their opposite, but only where the
    whole interval is below zero: it says of a person the opposite of what they said. Who could not be compared gets the median weight.

    Args: labelers: (n,) who gave each example. Raises: KeyError for one without a Skill.
    """
    values = {s.labeler: s.skill.value for s in skills if s.skill.value is not None}
    best = max(values.values(), default=0.0)
    if best <= 0:
        told_all = ("no labeler's skill is known to be above 0: nothing is weighed",)
        return Weights(np.ones(len(labelers)), np.zeros(len(labelers), dtype=bool), told_all)
    middle = max(float(np.median(list(values.values()))), 0.0) / best
    weight, flipped, told = {}, {}, []
    for s in skills:
        value, high = s.skill.value, s.skill.high
        flipped[s.labeler] = opposed == "flip" and high is not None and high < 0
        weight[s.labeler] = middle if value is None else abs(value) / best if flipped[s.labeler] else max(value, 0.0) / best
        if value is None:
            told.append(f"{s.labeler}: weight {middle:.2f}, the median, for {s.labels} labels: {s.skill.why}")
        elif flipped[s.labeler] or weight[s.labeler] < 1:
            what = ", read as the opposite" if flipped[s.labeler] else ""
            told.append(f"{s.labeler}: weight {weight[s.labeler]:.2f}{what} for {s.labels} labels: skill {s.skill}")
    return Weights(np.array([weight[w] for w in labelers]), np.array([flipped[w] for w in labelers], dtype=bool), tuple(told))
