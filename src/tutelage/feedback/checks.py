"""Signs of labels given without reading: sides, speed, straight lines, copies, votes against everybody, drift.

Each check looks at one labeler at a time and says how sure it is; where it is a test, `flagged` allows for there being as many tests as
labelers (Holm). A flag asks a lead to look. None of these removes a label.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from tutelage.base.near import near_earlier
from tutelage.base.stats import Floats, finite, group_index, same_length
from tutelage.feedback.intervals import Statistic, share

FAMILY_ERROR = 0.05
"""Probability with which a check flags anybody at all where nobody deserves it."""
READING_FLOOR = 10.0
"""Words per second nobody reads at: twice the fastest of Brysbaert 2019's readers (300 words a minute)."""
TOLERATED = 0.1
"""Share of judgements that may be too fast, as when the same prompt comes again."""


@dataclass(frozen=True, slots=True)
class Sides:
    """left: share of choices for the answer on the left. p_value: of so uneven a share where sides are drawn evenly."""

    labeler: Hashable
    left: Statistic
    p_value: float
    flagged: bool


def position_bias(chose_left: ArrayLike, labelers: Sequence[Hashable]) -> list[Sides]:
    """Does a labeler prefer a side? Sides are drawn at random, so whatever the answers, half of the choices fall on each.

    Args: chose_left: (n,) bool, of decided comparisons; ties have no side. The p-value is of the exact two-sided sign test.
    """
    lefts = [(name, int(chose.sum()), chose.size) for name, chose in _by_labeler(np.asarray(chose_left, dtype=bool), labelers)]
    p_values = [sign_test(k, n) for _, k, n in lefts]
    return [Sides(name, share(k, n), p, flag) for (name, k, n), p, flag in zip(lefts, p_values, holm(p_values), strict=True)]


@dataclass(frozen=True, slots=True)
class Speed:
    """too_fast: share of judgements below the reading floor. words_per_second: median."""

    labeler: Hashable
    too_fast: Statistic
    words_per_second: float
    flagged: bool


def speed(seconds: ArrayLike, words: ArrayLike, labelers: Sequence[Hashable], *, floor: float = READING_FLOOR) -> list[Speed]:
    """Who judges faster than anybody reads? Flagged where more than a tenth of the judgements surely are.

    Args: seconds: (n,) time spent. words: (n,) length of all that was shown. floor: words per second.
    """
    taken, length = finite("seconds", seconds), finite("words", words)
    same_length(seconds=taken, words=length, labelers=labelers)
    rates = length / np.maximum(taken, 1e-3)
    found = []
    for name, own in _by_labeler(rates, labelers):
        part = share(int((own > floor).sum()), own.size)
        found.append(Speed(name, part, float(np.median(own)), part.low is not None and part.low > TOLERATED))
    return found


@dataclass(frozen=True, slots=True)
class StraightLine:
    """longest: most equal positions in a row, `position` which. bits: entropy of the labeler's positions; 0 is always the same one.

    p_value: bound on so long a run where each position is drawn with the frequency that it has with the other labelers.
    """

    labeler: Hashable
    longest: int
    position: Hashable
    bits: float
    p_value: float
    flagged: bool


def straight_lining(positions: Sequence[Hashable], labelers: Sequence[Hashable]) -> list[StraightLine]:
    """Who clicks the same position again and again? Rows in the order of time.

    The bound is the expected number of runs of that length, sum_v p_v^L (1 + (n - L) (1 - p_v)); each p_v counts one more of its own, so
    that a position only this labeler uses is not impossible.

    Args: positions: (n,) what was clicked: a side, a step of a scale, a rating.
    """
    n = same_length(positions=positions, labelers=labelers)
    code, names = group_index(positions, n), list(dict.fromkeys(positions))
    everybody = np.bincount(code, minlength=len(names)).astype(np.float64)
    lines: list[tuple[Hashable, int, int, float, float]] = []
    for name, own in _by_labeler(code, labelers):
        mine = np.bincount(own, minlength=len(names))
        others = everybody - mine + 1
        longest, position = _longest_run(own)
        p = others / others.sum()
        expected = float((p**longest * (1 + (own.size - longest) * (1 - p))).sum())
        used = mine[mine > 0] / own.size
        lines.append((name, longest, position, float(-(used * np.log2(used)).sum()), min(expected, 1.0)))
    flags = holm([line[4] for line in lines])
    return [StraightLine(name, longest, names[position], abs(bits), p, flag)
            for (name, longest, position, bits, p), flag in zip(lines, flags, strict=True)]


def near_copies(texts: Sequence[str], sources: Sequence[str] = ()) -> list[str | None]:
    """For each demonstration, in the order of time, the source or earlier demonstration that it nearly repeats; None where it is new.

    Args: sources: texts that must not be copied, such as the answers of models.
    """
    every = [*sources, *texts]
    return [None if at is None else every[at] for at in near_earlier(every)[len(sources):]]


@dataclass(frozen=True, slots=True)
class VoteTest:
    """evidence: the largest that either product reached, `after` that many votes. p_value: 2 / evidence, valid at any time."""

    labeler: Hashable
    evidence: float
    after: int
    p_value: float
    flagged: bool


def votes_against_everybody(pairs: Sequence[Hashable], first_won: ArrayLike, labelers: Sequence[Hashable]) -> list[VoteTest]:
    """FastChat's test of a voter: the product of 1 / (2 p) over their votes, p being a vote's rank among everybody else's on that pair.

    With decided votes each factor has a mean of at most 1 where the voter is like the others, so the product passes 1 / 0.05 at any time
    with a probability of at most 0.05; twice that, as votes for the first and for the second answer are both tested. FastChat flags each
    voter there; among 65 honest ones that would be several, so here Holm's rule decides. Whoever often chooses what few choose is found,
    right or wrong. The vote itself counts among the others' as one, so p is never 0.

    Args: pairs: (n,) what was compared, e.g. two models. first_won: (n,) bool, rows in the order of time.
    Source: lm-sys/FastChat, elo_analysis.py (outlier_detect); its p counts all of a voter's own votes.
    """
    won = np.asarray(first_won, dtype=bool)
    n = same_length(pairs=pairs, first_won=won, labelers=labelers)
    pair, labeler = group_index(pairs, n), group_index(labelers, n)
    _, cell = np.unique(pair * (int(labeler.max(initial=0)) + 1) + labeler, return_inverse=True)

    def others(votes: np.ndarray) -> Floats:
        return np.bincount(pair, votes)[pair].astype(np.float64) - np.bincount(cell, votes)[cell]

    wins, losses = others(won), others(~won)
    at_most = np.where(won, 1.0, (1 + losses) / (1 + wins + losses))
    at_least = np.where(won, (1 + wins) / (1 + wins + losses), 1.0)
    reached: list[tuple[Hashable, float, int, float]] = []
    for name, rows in _by_labeler(np.arange(n), labelers):
        product = np.maximum(*(np.cumsum(-np.log(2 * p[rows])) for p in (at_most, at_least)))
        best = int(product.argmax())
        evidence = math.exp(min(float(product[best]), 700.0))
        reached.append((name, evidence, best + 1, min(1.0, 2 / evidence)))
    return [VoteTest(*row, flagged=flag) for row, flag in zip(reached, holm([row[3] for row in reached]), strict=True)]


@dataclass(frozen=True, slots=True)
class Drift:
    """periods: (start, share of wins) of each. z: trend over periods in standard errors, above 0 where wins become more."""

    periods: tuple[tuple[float, Statistic], ...]
    z: float
    p_value: float
    flagged: bool


def drift(won: ArrayLike, at: ArrayLike, period: float) -> Drift | str:
    """Do people judge the same fixed pairs as they used to? The reason where there is no telling.

    The test of trend is Cochran and Armitage's, r sqrt(n - 1). It asks for pairs that stay the same and are shown all along, one answer of
    each being the baseline (Stiennon et al. 2020 slip SFT against reference into most batches).

    Args: won: (n,) bool or a half for ties, whether the answer watched was preferred. at: (n,) times. period: length of one, same unit.
    """
    wins, times = finite("won", won), finite("at", at)
    n = same_length(won=wins, at=times)
    if n == 0:
        return "no judgements of fixed pairs"
    index = np.floor((times - times.min()) / period).astype(np.int64)
    start = float(times.min())
    found = tuple((start + period * int(k), share(float(wins[index == k].sum()), int((index == k).sum()))) for k in np.unique(index))
    if len(found) < 2 or np.ptp(wins) == 0:
        return "all fixed pairs were judged alike" if len(found) > 1 else "all judgements of fixed pairs lie in one period"
    z = float(np.corrcoef(index, wins)[0, 1]) * math.sqrt(n - 1)
    p_value = 2 * NormalDist().cdf(-abs(z))
    return Drift(found, z, p_value, p_value < FAMILY_ERROR)


def sign_test(successes: int, n: int) -> float:
    """Exact two-sided p-value of so many successes among n fair coins."""
    k = np.arange(min(successes, n - successes) + 1)
    if 2 * (len(k) - 1) >= n:
        return 1.0
    logs = [math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) - n * math.log(2) for i in k.tolist()]
    return min(1.0, 2 * float(np.exp(logs).sum()))


def holm(p_values: Sequence[float], level: float = FAMILY_ERROR) -> list[bool]:
    """Which of several tests stand so that any false one among them has a probability of at most `level` (Holm 1979)."""
    stand, order = [False] * len(p_values), np.argsort(p_values, kind="stable").tolist()
    for rank, i in enumerate(order):
        if p_values[i] > level / (len(p_values) - rank):
            break
        stand[i] = True
    return stand


def _by_labeler(rows: np.ndarray, labelers: Sequence[Hashable]) -> list[tuple[Hashable, np.ndarray]]:
    """Each labeler's rows, in their order."""
    index = group_index(labelers, same_length(rows=rows, labelers=labelers))
    order = np.argsort(index, kind="stable")
    parts = np.split(rows[order], np.flatnonzero(np.diff(index[order])) + 1)
    return list(zip(dict.fromkeys(labelers), parts, strict=True)) if len(rows) else []


def _longest_run(codes: np.ndarray) -> tuple[int, int]:
    """Length and value of the first longest run."""
    starts = np.flatnonzero(np.diff(codes, prepend=codes[0] - 1))
    lengths = np.diff(np.append(starts, codes.size))
    best = int(lengths.argmax())
    return int(lengths[best]), int(codes[starts[best]])
