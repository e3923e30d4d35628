"""Judgements of one kind as labels, and the agreement that fits the kind. Shared by `feedback stats` and the studio's quality page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

from tutelage.feedback.agreement import (
    Distance,
    cohen_kappa,
    fleiss_kappa,
    krippendorff_alpha,
    ranking_agreement,
    raw_agreement,
)
from tutelage.feedback.intervals import RESAMPLES, Statistic
from tutelage.feedback.labels import Labels
from tutelage.feedback.values import STEPS

TIED_STEP = (1 + STEPS) / 2
"""Where a tie lies on the scale from A much better to B much better, which has no middle of its own."""


class _Draws(TypedDict):
    """Of the bootstrap."""

    seed: int
    resamples: int


@dataclass
class Series:
    """Judgements of one kind, as parallel lists. steps: of comparisons, None without one. ranks: of rankings, in the task's order."""

    items: list[int] = field(default_factory=list)
    prompts: list[int | None] = field(default_factory=list)
    labelers: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    steps: list[float | None] = field(default_factory=list)
    ranks: list[list[int]] = field(default_factory=list)

    def add(self, kind: str, value: Mapping[str, Any], *, item: int, prompt: int | None, labeler: str) -> None:
        """Take a judgement in, unless its kind is not a label."""
        label = label_of(kind, value)
        if label is None:
            return
        self.items.append(item)
        self.prompts.append(prompt)
        self.labelers.append(labeler)
        self.values.append(label)
        self.steps.append(value.get("step", TIED_STEP if kind == "comparison" and len(set(value["ranks"])) == 1 else None))
        if kind == "ranking":
            self.ranks.append(value["ranks"])

    def labels(self) -> Labels:
        return Labels.of(self.items, self.labelers, self.values, prompts=self.prompts)


def label_of(kind: str, value: Mapping[str, Any]) -> Any:
    """The label that agreement compares; None for kinds that are not labels."""
    if kind in ("comparison", "ranking") and "ranks" in value:
        best = [place for place, rank in enumerate(value["ranks"]) if rank == 0]
        return len(value["ranks"]) if len(best) > 1 else best[0]      # a tie for the first place is a label of its own
    if kind == "rating":
        return value["rating"]
    return str(value.get("verdict", value.get("label"))) if kind == "label" else None


def agreement(kind: str, series: Series, *, seed: int = 0, resamples: int = RESAMPLES) -> dict[str, Statistic]:
    """What fits the kind, by name: raw, alpha; of two labelers Cohen's kappa; of more, where all items have equally many labels, Fleiss's.

    alpha_steps is ordinal, over the eight steps of a comparison with ties in the middle. kappa_weighted is quadratic, tau_b of rankings.
    """
    labels, more = series.labels(), _Draws(seed=seed, resamples=resamples)
    found = {"raw": raw_agreement(labels, **more)}
    distances: tuple[Distance, ...] = ("nominal", "ordinal", "interval") if kind == "rating" else ("nominal",)
    for distance in distances:
        found[f"alpha_{distance}"] = krippendorff_alpha(labels, distance, **more)
    if any(step not in (None, TIED_STEP) for step in series.steps):
        steps = Labels.of(series.items, series.labelers, series.steps, prompts=series.prompts)
        found["alpha_steps"] = krippendorff_alpha(steps, "ordinal", **more)
    if len(labels.labelers) == 2:
        first, second = _of_two(series)
        found["kappa"] = cohen_kappa(first, second, **more)
        if kind == "rating":
            found["kappa_weighted"] = cohen_kappa(first, second, "quadratic", **more)
    elif kind != "rating" and (fleiss := fleiss_kappa(labels, **more)).value is not None:
        found["fleiss"] = fleiss
    if series.ranks:
        found["tau_b"] = ranking_agreement(series.items, series.labelers, series.ranks, **more)
    return found


def _of_two(series: Series) -> list[list[Any]]:
    """What each of two labelers said of every item; the last word where one spoke twice."""
    by_item: dict[int, dict[str, Any]] = defaultdict(dict)
    for item, labeler, value in zip(series.items, series.labelers, series.values, strict=True):
        by_item[item][labeler] = value
    return [[said.get(name) for said in by_item.values()] for name in dict.fromkeys(series.labelers)]
