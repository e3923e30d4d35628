"""Whom a reward model has learnt: how far it agrees with each person, group and kind of task, and with people it never learnt from.

A row is one thing a person said of answers, with what the model makes of it: {"right": 1, 0 or 0.5, "prompt": the id intervals are drawn
by, "labeler", "group", "kind", "held_out": whether the labeler never enters training, "weight"}. None may stand for labeler and group.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tutelage.base.stats import Estimate, bootstrap, estimate, finite, group_index, rate_ci, same_length, t_quantile, wilson

Row = Mapping[str, Any]


def people_report(rows: Sequence[Row]) -> dict[str, Any]:
    """{"all", "training_labelers", "held_out_labelers", "gap", "labelers": {name: }, "groups", "kinds"}, accuracies with intervals.

    gap: accuracy on training labelers less that on held-out ones, drawn by prompt; it is what a model owes to knowing its teachers
    (InstructGPT: 72.4 against 69.6). None where there are no held-out ones.
    """
    sides = {held: [row for row in rows if bool(row["held_out"]) == held] for held in (False, True)}
    return {"all": _accuracy(rows), "training_labelers": _accuracy(sides[False]), "held_out_labelers": _accuracy(sides[True]),
            "gap": _gap(sides[False], sides[True]) if all(sides.values()) else None,
            **{f"{name}s": {value: _accuracy(own) for value, own in _by(rows, name).items()} for name in ("labeler", "group", "kind")}}


def concordance(scores: ArrayLike, ratings: ArrayLike, *, raters: Sequence[Hashable], prompts: Sequence[Hashable] | None = None,
                level: float = 0.95) -> Estimate:
    """Of two answers that one person rated differently, how often the better rated scores higher; equal scores are half right.

    With one rater and two ratings it is the AUC (Harrell et al. 1982). The interval is a jackknife over prompts (Quenouille 1956), with
    Student's quantile; where every pair is right, or wrong, Wilson over the prompts stands in. `n` counts prompts. nan without a pair.
    """
    scores, ratings = finite("scores", scores), finite("ratings", ratings)
    same_length(scores=scores, ratings=ratings, raters=raters)
    index, people = group_index(prompts, scores.size), group_index(raters, scores.size)
    count = int(index.max()) + 1 if index.size else 0
    right, pairs = np.zeros(count), np.zeros(count)                  # of the pairs that a prompt takes part in
    total_right = total_pairs = 0.0
    for person in range(int(people.max()) + 1 if people.size else 0):
        at = np.flatnonzero(people == person)
        order = np.sign(ratings[at][:, None] - ratings[at][None])
        credit = np.where(order != 0, (order * np.sign(scores[at][:, None] - scores[at][None]) + 1) / 2, 0.0)
        for table, of_prompt in ((credit, right), ((order != 0).astype(np.float64), pairs)):
            within = np.where(index[at][:, None] == index[at][None], table, 0.0)
            np.add.at(of_prompt, index[at], table.sum(1) - within.sum(1) / 2)
        total_right, total_pairs = total_right + credit.sum() / 2, total_pairs + (order != 0).sum() / 2
    if not total_pairs:
        return estimate(math.nan, math.nan, math.nan, count)
    mean = total_right / total_pairs
    heard = pairs > 0
    n = int(heard.sum())
    if mean in (0.0, 1.0):
        return wilson(mean * n, n, level=level)
    if n < 3:
        return estimate(mean, math.nan, math.nan, n)
    with np.errstate(invalid="ignore", divide="ignore"):
        without = ((total_right - right) / (total_pairs - pairs))[heard]
    if not np.isfinite(without).all():                               # all pairs hang on one prompt
        return estimate(mean, math.nan, math.nan, n)
    half = t_quantile(level, n - 1) * math.sqrt((n - 1) / n * float(((without - without.mean()) ** 2).sum()))
    return estimate(mean, max(mean - half, 0.0), min(mean + half, 1.0), n)


def _accuracy(rows: Sequence[Row]) -> Estimate:
    return rate_ci([row["right"] for row in rows], weights=[row["weight"] for row in rows], groups=[row["prompt"] for row in rows])


def _by(rows: Sequence[Row], name: str) -> dict[str, list[Row]]:
    """Rows by the value of a field, those without one left out."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row[name] is not None:
            found.setdefault(row[name], []).append(row)
    return dict(sorted(found.items()))


def _gap(ours: Sequence[Row], others: Sequence[Row]) -> Estimate:
    """Accuracy on some rows less that on others; the same prompts are drawn for both, so that how hard they are cancels out."""
    index = group_index([row["prompt"] for row in [*ours, *others]], len(ours) + len(others))
    count = int(index.max()) + 1
    sums = []
    for rows, own in ((ours, index[: len(ours)]), (others, index[len(ours) :])):
        mass = np.array([row["weight"] for row in rows])
        sums.append((np.bincount(own, mass * [row["right"] for row in rows], count), np.bincount(own, mass, count)))

    def gap(drawn: Any) -> float:
        with np.errstate(invalid="ignore"):
            (a, n), (b, m) = ((right[drawn].sum(), mass[drawn].sum()) for right, mass in sums)
            return float(np.divide(a, n) - np.divide(b, m))

    mean = gap(slice(None))
    low, high = bootstrap(gap, count) if count > 1 else (math.nan, math.nan)
    return estimate(mean, low, high, count)
