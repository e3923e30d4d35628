"""Numbers that say how sure they are, or why they cannot be said: Wilson's interval for shares, a two-way bootstrap for the rest.

Labels are not independent: those of one prompt share its difficulty, those of one person share their habits. So an interval that is to
hold for other prompts and other people has to resample both (feedback-facts: "bootstrap by prompt and by labeler, not by row").
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tutelage.base.stats import Floats, group_index, same_length, t_quantile, wilson

Ints = NDArray[np.int64]
Counted = Callable[[Floats], Floats]
"""(R, D) sums, one row a resample -> (R,) values of a statistic; nan where a resample leaves it undefined."""
RESAMPLES = 2000
_MAX_UNDEFINED = 0.05
"""Share of resamples that may be undefined before no interval is given."""
_CHUNK = 4_000_000


@dataclass(frozen=True, slots=True)
class Statistic:
    """A number with its interval, or the reason why there is none. `value`, `low` and `high` are None, never nan, where they are unknown.

    n: how many of what the statistic counts (labels, pairs, prompts: its function says which). why: why there is no value or no interval.
    """

    value: float | None
    n: int
    low: float | None = None
    high: float | None = None
    why: str | None = None

    def __str__(self) -> str:
        if self.value is None:
            return f"undefined: {self.why} (n = {self.n})"
        return f"{self.value:.3f} " + (f"[{self.low:.3f}, {self.high:.3f}]" if self.low is not None else f"({self.why})") + f" n = {self.n}"


def undefined(why: str, n: int = 0) -> Statistic:
    return Statistic(None, n, why=why)


def share(successes: float, n: int, *, what: str = "labels", level: float = 0.95) -> Statistic:
    """Share of successes among n with Wilson's interval; undefined when there is nothing to count. what: names the n in the reason."""
    if n == 0:
        return undefined(f"no {what}")
    part = wilson(successes, n, level=level)
    return Statistic(part["mean"], n, part["low"], part["high"])


def shares(success: ArrayLike, key: Sequence[Hashable], *, what: str = "labels", level: float = 0.95) -> dict[Hashable, Statistic]:
    """key (labeler, group, week ...) -> share of successes, in order of appearance. success: (n,) bool or in [0, 1]: a half is a tie."""
    outcomes = np.asarray(success, dtype=np.float64)
    same_length(success=outcomes, key=key)
    index, names = group_index(key, outcomes.size), list(dict.fromkeys(key))
    sums, counts = np.bincount(index, outcomes, len(names)), np.bincount(index, minlength=len(names))
    return {name: share(float(total), int(n), what=what, level=level) for name, total, n in zip(names, sums, counts, strict=True)}


@dataclass(frozen=True)
class Sums:
    """What a statistic is made of, D sums over all labels, told apart by prompt and by labeler.

    prompts: (P, D) each prompt's part; their total is what the statistic is computed from.
    labelers: (A, D) all that a labeler has a part in: where a statistic counts pairs of labels, each pair stands with both its labelers.
    cells: gradient (D,) -> (n,) what each label has to do with it, in the same sense; `prompt` and `labeler`, (n,), say whose it is.
    """

    prompts: Floats
    labelers: Floats
    cells: Callable[[Floats], Floats]
    prompt: Ints
    labeler: Ints

    @classmethod
    def of_prompts(cls, prompts: Floats) -> Sums:
        """For what only prompts are resampled."""
        nobody = np.zeros(0, dtype=np.int64)
        return cls(prompts, np.zeros((0, prompts.shape[1])), lambda _: np.zeros(0), nobody, nobody)


def two_way(statistic: Counted, sums: Sums, *, seed: int = 0, resamples: int = RESAMPLES, level: float = 0.95) -> tuple[float, float] | str:
    """Percentile interval of a statistic over resampled prompts and resampled labelers, or the reason why there is none.

    Prompts are drawn with replacement, labelers too, and the two departures from the sample are added. Both contain the noise of single
    labels, which must count once: the labelers' part is therefore shrunk to what it has beyond the noise of its (prompt, labeler) cells, by
    the linearised statistic. (Weights multiplied as in Owen's pigeonhole bootstrap would count that noise up to seven times for pairs.)
    With fewer than three labelers, or none that differs from the others beyond noise, prompts alone are resampled.
    Source: the variance is that of two-way clustering, Cameron, Gelbach and Miller 2011, for pairs as in Aronow, Samii and Assenova 2015.
    """
    prompts = sums.prompts[sums.prompts.any(1)]                             # those with a part in it
    if len(prompts) < 2:
        return "one prompt has no interval"
    rows, repeats = np.unique(prompts, axis=0, return_counts=True)          # few kinds of prompts: 5 votes of 3 values come in 21
    rng, values = np.random.default_rng(seed), np.empty(resamples)
    extra = _beyond_noise(statistic, sums, level) * sums.labelers[sums.labelers.any(1)]
    people = len(extra)
    step = max(1, _CHUNK // (len(rows) + people))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn = rng.multinomial(len(prompts), repeats / len(prompts), size=size) @ rows
        if extra.any():
            drawn = drawn + (rng.multinomial(people, np.full(people, 1 / people), size=size) - 1) @ extra
        values[start:start + size] = statistic(drawn)
    if np.isnan(values).mean() > _MAX_UNDEFINED:
        return f"{np.isnan(values).mean():.0%} of the resamples are undefined"
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return "every resample gives the same" if low == high else (float(low), float(high))


def _beyond_noise(statistic: Counted, sums: Sums, level: float) -> float:
    """Factor for the labelers' part: sqrt of the share of its variance beyond the noise of cells, widened where labelers are few."""
    people = int(sums.labelers.any(1).sum())
    if people < 3:
        return 0.0
    gradient = _gradient(statistic, sums.prompts.sum(0))
    of_labelers = float(np.square(sums.labelers @ gradient).sum())
    _, cell = np.unique(sums.prompt * len(sums.labelers) + sums.labeler, return_inverse=True)
    noise = float(np.square(np.bincount(cell, sums.cells(gradient))).sum())
    if not of_labelers > noise:                                             # also where either is nan
        return 0.0
    few = t_quantile(level, people - 1) / NormalDist().inv_cdf(0.5 + level / 2)  # a handful of people says little of people at large
    return few * float(np.sqrt((1 - noise / of_labelers) * people / (people - 1)))


def _gradient(statistic: Counted, at: Floats) -> Floats:
    steps = np.diag(np.full(at.size, 1e-6 * max(float(np.abs(at).sum()), 1e-12)))
    return (statistic(at + steps) - statistic(at - steps)) / (2 * steps.diagonal())


def mean(outcomes: ArrayLike, prompts: Sequence[Hashable], labelers: Sequence[Hashable], *, seed: int = 0, resamples: int = RESAMPLES,
         level: float = 0.95) -> Statistic:
    """Mean of outcomes with a two-way interval; Wilson's where every outcome is 0 or every one is 1. `n` counts outcomes.

    Args: outcomes: (n,), e.g. whether the reward model agreed with the label. prompts, labelers: (n,) whose they are.
    """
    values = np.asarray(outcomes, dtype=np.float64)
    n = same_length(outcomes=values, prompts=prompts, labelers=labelers)
    if n == 0:
        return undefined("no labels")
    prompt, labeler = group_index(prompts, n), group_index(labelers, n)
    parts = np.stack([values, np.ones(n)], axis=1)
    sums = Sums(added(parts, prompt), added(parts, labeler), lambda gradient: parts @ gradient, prompt, labeler)
    if values.min() == values.max() and values[0] in (0.0, 1.0):
        part = share(float(values[0]) * len(sums.prompts), len(sums.prompts), level=level)
        return Statistic(part.value, n, part.low, part.high)
    found = two_way(ratio, sums, seed=seed, resamples=resamples, level=level)
    if not isinstance(found, str):                                          # the sum of two departures can lead beyond any outcome
        found = max(found[0], float(values.min())), min(found[1], float(values.max()))
    return estimate(float(values.mean()), n, found)


def estimate(value: float, n: int, interval: tuple[float, float] | str) -> Statistic:
    """A value with what `two_way` found."""
    return Statistic(value, n, why=interval) if isinstance(interval, str) else Statistic(value, n, *interval)


def ratio(sums: Floats) -> Floats:
    """(R, 2) -> (R,) first over second."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(sums[:, 1] > 0, sums[:, 0] / sums[:, 1], np.nan)


def added(parts: Floats, index: Ints) -> Floats:
    """(n, D) rows added up by index -> (G, D)."""
    return np.stack([np.bincount(index, column) for column in parts.T], axis=1)
