"""What the finished trainings say: accuracy against the number of labels, and for whom the newest reward model is right."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from tutelage.feedback.intervals import Statistic, undefined
from tutelage.feedback.schema import snapshots, trainings

ENOUGH_PROMPTS = 10
"""Held-out prompts below which nothing is said of one person, group or kind."""


@dataclass(frozen=True)
class Trained:
    """A finished training. judgements: of its snapshot. accuracy: share of what people said of held-out prompts that it has right."""

    id: int
    ended_at: float
    judgements: int
    accuracy: Statistic


@dataclass(frozen=True)
class Newest:
    """Of the newest training's report. who: (side, name) -> accuracy, where side is all, training, held_out, gap, group or labeler; of
    groups and labelers those with the most held-out prompts first.

    curve: (judgements, accuracy) of a bag-of-words model refitted on shares of the labels; empty unless the training asked for it.
    """

    id: int
    who: dict[tuple[str, str], Statistic]
    curve: list[tuple[int, Statistic]]


def trained(conn: Connection) -> list[Trained]:
    """All that are done, oldest first."""
    rows = conn.execute(select(trainings.c.id, trainings.c.run_dir, trainings.c.ended_at, trainings.c.result, snapshots.c.counts)
                        .join(snapshots).where(trainings.c.state == "done").order_by(trainings.c.id))
    return [Trained(row.id, row.ended_at, row.counts["judgements"],
                    as_statistic((_report(row).get("people") or {}).get("all"), "no report, or nothing held out to count")) for row in rows]


def newest(conn: Connection) -> Newest | str:
    """What the newest finished training's report says, or why there is nothing to say."""
    row = conn.execute(select(trainings.c.id, trainings.c.run_dir, trainings.c.result).where(trainings.c.state == "done")
                       .order_by(trainings.c.id.desc()).limit(1)).first()
    if row is None:
        return "no training is done"
    report = _report(row)
    if not report:
        return f"training {row.id} left no report, or it is gone"
    people = report.get("people") or {}
    sides = {("all", ""): "all", ("training", ""): "training_labelers", ("held_out", ""): "held_out_labelers", ("gap", ""): "gap"}
    who = {key: as_statistic(people.get(field), "nothing held out of theirs to count") for key, field in sides.items()}
    who |= {(side, one): found for side in ("group", "labeler") for one, found in most_first(people.get(f"{side}s"))}
    curve = (report.get("labels_worth") or {}).get("curve", [])
    return Newest(row.id, who, [(point["judgements"], as_statistic(point["accuracy"], "no held-out pairs")) for point in curve])


def _report(row: Any) -> dict[str, Any]:
    """A training's report; {} where it left none, or it is gone."""
    try:
        found = json.loads(Path(row.run_dir, (row.result or {}).get("report") or "").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def as_statistic(found: Mapping[str, Any] | None, why: str) -> Statistic:
    """An estimate of a report ({"mean", "low", "high", "n"}, what is not known being null) as a statistic."""
    if not found or found.get("mean") is None:
        return undefined(why)
    return Statistic(found["mean"], found["n"], found["low"], found["high"])


def of_few(found: Mapping[str, Any] | None) -> Statistic:
    """An estimate of some of the people, which may have been held out on too few prompts to be said."""
    made = as_statistic(found, "nothing held out of theirs to count")
    if made.value is None or made.n >= ENOUGH_PROMPTS:
        return made
    return undefined(f"too few held-out prompts, {made.n} of at least {ENOUGH_PROMPTS}", made.n)


def most_first(found: Mapping[str, Mapping[str, Any]] | None) -> list[tuple[str, Statistic]]:
    """Such estimates by name, those of the most held-out prompts first."""
    return sorted(((name, of_few(one)) for name, one in (found or {}).items()), key=lambda one: -one[1].n)
