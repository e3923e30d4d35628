"""How far people agree: raw, Cohen's, Fleiss's and Krippendorff's chance-corrected agreement, Kendall's tau for rankings.

Each returns a Statistic with an interval, or one without a value that says why: where only one value occurs, chance alone would agree
perfectly, so agreement beyond chance is undefined, not 1. All but Cohen's are one formula over pairs of labels of the same item,
1 - observed / expected disagreement, from one pass over the labels. Formulas and their sources: docs/quality.md.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tutelage.base.stats import Floats, group_index, same_length
from tutelage.feedback.intervals import RESAMPLES, Counted, Ints, Statistic, Sums, added, estimate, ratio, share, two_way, undefined
from tutelage.feedback.labels import Labels

Distance = Literal["nominal", "ordinal", "interval", "ratio"]
Weights = Literal["none", "linear", "quadratic"]


def raw_agreement(labels: Labels, *, seed: int = 0, resamples: int = RESAMPLES) -> Statistic:
    """Share of pairs of labels of the same item that agree; every pair counts once. `n` counts pairs. resamples=0: no interval."""
    counts = labels.counts()
    totals = counts.sum(1)
    pairs = int((totals * (totals - 1)).sum()) // 2
    if pairs == 0:
        return undefined("no item has two labels")
    sums = _pair_sums(labels, _distances(labels, "nominal"), per_label=False)
    agreed = 1 - sums.prompts[:, 0].sum() / sums.prompts[:, 1:].sum()
    if agreed in (0.0, 1.0):                                        # no resample differs; Wilson over prompts does not claim certainty
        judged = int((sums.prompts[:, 1:].sum(1) > 0).sum())
        part = share(agreed * judged, judged)
        return Statistic(float(agreed), pairs, part.low, part.high)
    return _with_interval(lambda rows: 1 - ratio(np.stack([rows[:, 0], rows[:, 1:].sum(1)], axis=1)), sums, pairs, seed, resamples, 0.0)


def krippendorff_alpha(labels: Labels, distance: Distance = "nominal", *, seed: int = 0, resamples: int = RESAMPLES) -> Statistic:
    """Krippendorff's alpha, for any number of labelers and missing labels. `n` counts labels of items that have two or more.

    Args: distance: nominal, ordinal (by the ranks of the values), interval or ratio (values are numbers). resamples: 0 for no interval.
    Source: Krippendorff 2019, Content Analysis, chapter 12; the ordinal distance is held at the whole sample's in resamples.
    """
    totals = np.bincount(labels.item, minlength=len(labels.items))
    n = int(totals[totals > 1].sum())
    delta = _distances(labels, distance)
    return _chance_corrected(labels, delta, n, 1 - 1 / max(n, 1), seed, resamples)


def fleiss_kappa(labels: Labels, *, seed: int = 0, resamples: int = RESAMPLES) -> Statistic:
    """Fleiss's kappa, for items that all have the same number of labels (two or more). `n` counts labels.

    Source: Fleiss 1971, Psychological Bulletin 76(5).
    """
    totals = np.bincount(labels.item, minlength=len(labels.items))
    if len(set(totals.tolist())) > 1:
        return undefined(f"items have {totals.min()} to {totals.max()} labels; Krippendorff's alpha allows that", len(labels))
    return _chance_corrected(labels, _distances(labels, "nominal"), len(labels), 1.0, seed, resamples)


def cohen_kappa(first: Sequence[Any], second: Sequence[Any], weights: Weights = "none", *, prompts: Sequence[Hashable] | None = None,
                seed: int = 0, resamples: int = RESAMPLES) -> Statistic:
    """Cohen's kappa of two labelers. `n` counts items both labeled. The interval is by prompt: two people cannot stand for others.

    Args: first, second: (n,) their labels of the same items, None where missing. weights: none, or by the (squared) difference of values.
    Source: Cohen 1960 and 1968.
    """
    groups = range(len(first)) if prompts is None else prompts
    same_length(first=first, second=second, prompts=groups)
    both = [i for i, (a, b) in enumerate(zip(first, second, strict=True)) if a is not None and b is not None]
    if not both:
        return undefined("no item was labeled by both")
    values = sorted({first[i] for i in both} | {second[i] for i in both})
    if len(values) == 1:
        return undefined(f"only one value occurs ({values[0]!r})", len(both))
    code, size = {value: i for i, value in enumerate(values)}, len(values)
    cell = np.array([code[first[i]] * size + code[second[i]] for i in both])
    prompt = group_index([groups[i] for i in both], len(both))
    tables = np.bincount(prompt * size**2 + cell, minlength=(int(prompt.max()) + 1) * size**2).reshape(-1, size**2).astype(np.float64)
    power = {"none": 0.0, "linear": 1.0, "quadratic": 2.0}[weights]
    gaps = 1.0 - np.eye(size) if weights == "none" else np.abs(np.subtract.outer(_numbers(values), _numbers(values))) ** power

    def kappa(rows: Floats) -> Floats:
        joint = rows.reshape(-1, size, size)
        expected = np.einsum("ri,ij,rj->r", joint.sum(2), gaps, joint.sum(1)) / rows.sum(1)
        return 1 - ratio(np.stack([np.einsum("rij,ij->r", joint, gaps), expected], axis=1))

    return _with_interval(kappa, Sums.of_prompts(tables), len(both), seed, resamples)


def kendall_tau_b(first: ArrayLike, second: ArrayLike) -> Statistic:
    """Kendall's tau-b of two rankings of the same K answers, with ties. `n` counts pairs of answers. No interval: one ranking each.

    Undefined where one of them ties all answers. Source: Kendall 1945, Biometrika 33(3).
    """
    a, b = (np.asarray(ranks, dtype=np.float64)[None] for ranks in (first, second))
    pairs = a.shape[1] * (a.shape[1] - 1) // 2
    tau = _tau_b(a, b)[0]
    if np.isnan(tau):
        return undefined("one ranking ties all answers" if pairs else "fewer than two answers", pairs)
    return Statistic(float(tau), pairs, why="a single pair of rankings")


def ranking_agreement(prompts: Sequence[Hashable], labelers: Sequence[Hashable], ranks: Sequence[Sequence[float]], *, seed: int = 0,
                      resamples: int = RESAMPLES) -> Statistic:
    """Mean of Kendall's tau-b over all pairs of rankings of the same prompt's answers. `n` counts those pairs.

    Args: prompts, labelers: (n,). ranks: (n,) rankings, each in the prompt's order of answers. Pairs in which one ranking ties all answers
        have no tau and are left out.
    Raises: ValueError where two rankings of a prompt have different lengths.
    """
    n = same_length(prompts=prompts, labelers=labelers, ranks=ranks)
    prompt, labeler = group_index(prompts, n), group_index(labelers, n)
    taus, pairs = _all_taus(prompt, ranks)
    if not len(taus):
        shared = n > 0 and np.bincount(prompt).max() > 1
        return undefined("in every pair of rankings one ties all answers" if shared else "no prompt has two rankings")
    parts = np.stack([taus, np.ones(len(taus))], axis=1)
    side = np.concatenate([pairs[:, 0], pairs[:, 1]])                                                  # each pair with both its labelers
    twice = np.concatenate([parts, parts])
    sums = Sums(added(parts, prompt[pairs[:, 0]]), added(twice, labeler[side]), lambda gradient: twice @ gradient,
                prompt[side], labeler[side])
    return _with_interval(ratio, sums, len(taus), seed, resamples)


@dataclass(frozen=True, slots=True)
class Difficulty:
    """Agreement on the items whose margin lies in [low, high]."""

    low: float
    high: float
    items: int
    raw: Statistic
    alpha: Statistic


def by_difficulty(labels: Labels, margin: ArrayLike, *, bins: int = 4, distance: Distance = "nominal", seed: int = 0,
                  resamples: int = RESAMPLES) -> list[Difficulty]:
    """Agreement in bins of equal size by an external margin, from hardest to easiest.

    People disagree more where answers are alike, so a labeler who gets hard items looks careless in an overall number (Bai et al. 2022,
    D.3). The margin must come from elsewhere (a reward model's score difference), never from the labels themselves.

    Args: margin: (I,) how far apart an item's answers are, in the order of `labels.items`; nan: not in any bin.
    """
    margins = np.abs(np.asarray(margin, dtype=np.float64))
    same_length(margin=margins, items=labels.items)
    order = np.argsort(margins, kind="stable")[: int(np.isfinite(margins).sum())]
    found = []
    for part in (part for part in np.array_split(order, bins) if part.size):
        here = labels.only(np.isin(labels.item, part))
        found.append(Difficulty(float(margins[part].min()), float(margins[part].max()), part.size,
                                raw_agreement(here, seed=seed, resamples=resamples),
                                krippendorff_alpha(here, distance, seed=seed, resamples=resamples)))
    return found


def with_others(labels: Labels) -> dict[Hashable, Statistic]:
    """Labeler -> how often they agree with other people's labels of the same items; each label counts once. `n` counts those labels.

    Wilson's interval.
    """
    return _agreement_by_labeler(labels, np.ones(len(labels), dtype=bool))


def with_experts(labels: Labels, experts: Collection[Hashable]) -> dict[Hashable, Statistic]:
    """The same with the experts' labels only; an expert is compared with the other experts."""
    return _agreement_by_labeler(labels, np.array([name in experts for name in labels.labelers], dtype=bool)[labels.labeler])


def _agreement_by_labeler(labels: Labels, against: NDArray[np.bool_]) -> dict[Hashable, Statistic]:
    """against: (n,) bool, the labels that everyone's are compared with, less their own."""
    size = len(labels.values)
    if not size:
        return {}
    _, cell = np.unique(labels.item * len(labels.labelers) + labels.labeler, return_inverse=True)
    own = np.bincount((cell * size + labels.value)[against], minlength=(int(cell.max(initial=-1)) + 1) * size).reshape(-1, size)[cell]
    theirs = labels.counts(against)[labels.item] - own                                                  # (n, K)
    compared = theirs.sum(1) > 0
    agreed = np.where(compared, theirs[np.arange(len(labels)), labels.value] / np.maximum(theirs.sum(1), 1), 0.0)
    sums = np.bincount(labels.labeler, agreed, len(labels.labelers))
    counts = np.bincount(labels.labeler[compared], minlength=len(labels.labelers))
    return {name: share(float(total), int(n), what="item labeled by both")
            for name, total, n in zip(labels.labelers, sums, counts, strict=True)}


def _chance_corrected(labels: Labels, delta: Floats, n: int, small_sample: float, seed: int, resamples: int) -> Statistic:
    """1 - observed / expected disagreement. small_sample: 1 - 1/n for alpha, whose chance draws without replacement; 1 for kappa."""
    if n == 0 or not (np.bincount(labels.item) > 1).any():
        return undefined("no item has two labels")
    sums = _pair_sums(labels, delta, per_label=True)
    seen = np.flatnonzero(sums.prompts[:, 1:].sum(0))
    if seen.size == 1:
        return undefined(f"only one value occurs ({labels.values[seen[0]]!r})", n)

    def corrected(rows: Floats) -> Floats:
        observed, margins = rows[:, 0], rows[:, 1:]
        expected = np.einsum("rc,ck,rk->r", margins, delta, margins)
        return 1 - small_sample * ratio(np.stack([observed * margins.sum(1), expected], axis=1))

    return _with_interval(corrected, sums, n, seed, resamples)


def _pair_sums(labels: Labels, delta: Floats, *, per_label: bool) -> Sums:
    """Disagreement of all ordered pairs of labels of the same item, and how often each value takes part: D = 1 + K.

    per_label: a pair among m labels weighs 1 / (m - 1), so that every label counts once; else every pair counts once.
    """
    counts = labels.counts()
    others = np.maximum(counts.sum(1) - 1, 0.0)
    norm = np.divide(1.0, others, out=np.zeros_like(others), where=others > 0) if per_label else (others > 0).astype(np.float64)
    mass = others * norm
    item, value, size = labels.item, labels.value, len(labels.values)
    against = norm[item] * (counts @ delta)[item, value]                                               # (n,) with the other labels
    people = len(labels.labelers)

    of_items = np.concatenate([np.bincount(item, against, len(counts))[:, None], counts * mass[:, None]], axis=1)
    of_labelers = np.zeros((people, 1 + size))
    of_labelers[:, 0] = 2 * np.bincount(labels.labeler, against, people)
    own = np.bincount(labels.labeler * size + value, (mass - norm)[item], people * size).reshape(people, size)
    met = np.stack([np.bincount(labels.labeler, column[item], people) for column in (norm[:, None] * counts).T], axis=1)
    of_labelers[:, 1:] = own + met

    def cells(gradient: Floats) -> Floats:
        return 2 * gradient[0] * against + (mass - norm)[item] * gradient[1:][value] + (norm * (counts @ gradient[1:]))[item]

    return Sums(added(of_items, labels.prompt), of_labelers, cells, labels.prompt[item], labels.labeler)


def _distances(labels: Labels, distance: Distance) -> Floats:
    """(K, K) squared distance between values."""
    size = len(labels.values)
    if distance == "nominal":
        return 1.0 - np.eye(size)
    if distance == "ordinal":                                               # (n_c/2 + all between + n_k/2)^2 is a difference of midranks
        counts = labels.counts()
        used = counts[counts.sum(1) > 1].sum(0)
        at = np.cumsum(used) - used / 2
        return np.square(np.subtract.outer(at, at))
    at = _numbers(labels.values)
    gaps = np.square(np.subtract.outer(at, at))
    if distance == "interval":
        return gaps
    return np.divide(gaps, np.square(np.add.outer(at, at)), out=np.zeros_like(gaps), where=gaps > 0)


def _numbers(values: Sequence[Any]) -> Floats:
    if bad := next((v for v in values if isinstance(v, str) or not np.isscalar(v)), None):
        raise ValueError(f"the distance of values needs numbers, and one is {bad!r}")
    return np.array(values, dtype=np.float64)


def _with_interval(statistic: Counted, sums: Sums, n: int, seed: int, resamples: int, lowest: float = -1.0) -> Statistic:
    """The interval stays where the statistic can be, from `lowest` to 1: two departures that are added can lead beyond."""
    value = float(statistic(sums.prompts.sum(0)[None])[0])
    found = two_way(statistic, sums, seed=seed, resamples=resamples) if resamples else "no interval was asked for"
    return estimate(value, n, found if isinstance(found, str) else (max(found[0], lowest), min(found[1], 1.0)))


def _tau_b(first: Floats, second: Floats) -> Floats:
    """(P, K) ranks each -> (P,) tau-b, nan where a row ties all."""
    i, j = np.triu_indices(first.shape[1], 1)
    a, b = np.sign(first[:, i] - first[:, j]), np.sign(second[:, i] - second[:, j])
    with np.errstate(invalid="ignore"):
        return (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))


def _all_taus(prompt: Ints, ranks: Sequence[Sequence[float]]) -> tuple[Floats, Ints]:
    """Every two rankings of a prompt: (P,) tau-b and (P, 2) rows, where it is defined."""
    order = np.argsort(prompt, kind="stable")
    by_prompt = np.split(order, np.flatnonzero(np.diff(prompt[order])) + 1)
    pairs = [pair for rows in by_prompt for pair in combinations(rows.tolist(), 2)]
    taus = np.full(len(pairs), np.nan)
    sizes = np.array([len(ranks[i]) for i, _ in pairs], dtype=np.int64)
    if any(len(ranks[i]) != len(ranks[j]) for i, j in pairs):
        raise ValueError("two rankings of one prompt have different lengths")
    for size in np.unique(sizes):
        at = np.flatnonzero(sizes == size)
        first, second = (np.array([ranks[pairs[k][side]] for k in at], dtype=np.float64) for side in (0, 1))
        taus[at] = _tau_b(first, second)
    kept = np.isfinite(taus)
    return taus[kept], np.array(pairs, dtype=np.int64).reshape(-1, 2)[kept]
