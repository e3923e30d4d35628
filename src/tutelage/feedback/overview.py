"""How far the labels of a store can be trusted, in one look: agreement by batch and over time, each labeler, drift."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from tutelage.feedback import checks
from tutelage.feedback.agreement import Difficulty, by_difficulty, krippendorff_alpha, raw_agreement
from tutelage.feedback.each_labeler import EachLabeler, each_labeler, fixed_pairs, near_copies, period_of
from tutelage.feedback.intervals import Statistic
from tutelage.feedback.series import Series, agreement
from tutelage.feedback.standing import Said, Standing

RESAMPLES = 500
"""Of the bootstrap behind an interval: its ends are then sure to about a tenth of its width."""


@dataclass(frozen=True)
class Agreement:
    """Of one batch and kind. found: statistic by name, as `series.agreement` has them."""

    batch: str
    kind: str
    judgements: int
    items: int
    labelers: int
    found: dict[str, Statistic]


@dataclass(frozen=True)
class Period:
    """Agreement on the items of a kind whose last label fell into [start, start + seconds). alpha: ordinal for ratings, else nominal."""

    kind: str
    start: float
    seconds: float
    labels: int
    raw: Statistic
    alpha: Statistic


@dataclass(frozen=True)
class Overview:
    """difficulty: agreement on comparisons by how far apart the newest scores hold the answers, hardest first; empty without scores.

    drift: of the fixed pairs, or why there is no telling. copies: (what was written, what it nearly repeats).
    """

    judgements: int
    agreements: list[Agreement]
    periods: list[Period]
    labelers: list[EachLabeler]
    difficulty: list[Difficulty]
    drift: checks.Drift | str
    copies: list[tuple[Said, str]]


def overview(standing: Standing) -> Overview:
    """Everything the quality page tells."""
    fixed, copies = fixed_pairs(standing), near_copies(standing)
    times = [one.at for one, _ in fixed]
    drift = checks.drift([won for _, won in fixed], times, period_of(times))
    return Overview(len(standing.said), agreements(standing), over_time(standing), each_labeler(standing, copies), by_margin(standing),
                    drift, copies)


def agreements(standing: Standing, *, resamples: int = RESAMPLES) -> list[Agreement]:
    """By batch and kind, as `tutelage feedback stats` tells them."""
    rows: dict[tuple[str, str], Series] = defaultdict(Series)
    for one in standing.said:
        item = standing.items[one.task]
        rows[item.batch, item.kind].add(item.kind, one.value, item=one.task, prompt=item.prompt, labeler=standing.people[one.labeler].name)
    return [Agreement(batch, kind, len(series.items), len(set(series.items)), len(set(series.labelers)),
                      agreement(kind, series, resamples=resamples)) for (batch, kind), series in sorted(rows.items()) if series.values]


def over_time(standing: Standing, *, resamples: int = RESAMPLES) -> list[Period]:
    """By kind and day, or week where there are more than two months. An item counts when its last label came: then it could agree."""
    last: dict[int, float] = {one.task: one.at for one in standing.said}
    seconds = period_of(list(last.values()))
    rows: dict[tuple[str, float], Series] = defaultdict(Series)
    for one in standing.said:
        kind, start = standing.items[one.task].kind, last[one.task] // seconds * seconds
        rows[kind, start].add(kind, one.value, item=one.task, prompt=standing.items[one.task].prompt, labeler=str(one.labeler))
    found = []
    for (kind, start), series in sorted(rows.items()):
        if series.values:
            labels = series.labels()
            alpha = krippendorff_alpha(labels, "ordinal" if kind == "rating" else "nominal", resamples=resamples)
            found.append(Period(kind, start, seconds, len(labels), raw_agreement(labels, resamples=resamples), alpha))
    return found


def by_margin(standing: Standing, *, resamples: int = RESAMPLES) -> list[Difficulty]:
    """Who gets answers that are alike looks careless in an overall number; the margin is a model's, so not of these labels' making."""
    series = Series()
    for one in standing.of("comparison"):
        if standing.items[one.task].margin is not None:
            series.add("comparison", one.value, item=one.task, prompt=standing.items[one.task].prompt, labeler=str(one.labeler))
    labels = series.labels()
    margins = [standing.items[int(str(task))].margin for task in labels.items]
    return by_difficulty(labels, [float(margin or 0.0) for margin in margins], resamples=resamples) if margins else []
