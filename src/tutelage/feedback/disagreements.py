"""What the newest reward model holds to be the other way than people said, less what a lead has triaged."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, select

from tutelage.base.snapshot import DISAGREEMENTS

from .io.keys import select_in
from .reports import VERDICTS
from .schema import reports, tasks, trainings


@dataclass(frozen=True)
class Disagreement:
    """One task. p: the model's probability of the opposite, mean over people. side: "held_out" or "train", what it learnt from.

    scores: of the answers, in the task's order. said: judgement id -> p of that judgement.
    """

    task_id: int
    p: float
    side: str
    scores: tuple[float, ...]
    said: dict[int, float]

    @property
    def most(self) -> float:
        """The highest p of a single judgement, for which the task is listed."""
        return max(self.said.values(), default=self.p)


@dataclass(frozen=True)
class Listed:
    """What is left to triage of a training's list, by p, and how many of it were triaged. training_id: None before the first."""

    training_id: int | None
    left: Sequence[Disagreement]
    triaged: int


def disagreements(conn: Connection) -> Listed:
    """Of the newest training that is done. Tasks that are not in this store are left out."""
    newest = conn.execute(select(trainings.c.id, trainings.c.run_dir).where(trainings.c.state == "done")
                          .order_by(trainings.c.id.desc()).limit(1)).first()
    if newest is None:
        return Listed(None, (), 0)
    found = {row.task_id: row for row in read_disagreements(Path(newest.run_dir))}
    there = {row.id for row in select_in(conn, tasks.c.id, found, tasks.c.id)}
    done = set(conn.scalars(select(reports.c.task_id).where(reports.c.kind.in_(VERDICTS)))) & there
    return Listed(newest.id, [row for number, row in found.items() if number in there - done], len(done))


def read_disagreements(run_dir: Path) -> Iterator[Disagreement]:
    """Rows of a run's list that name a task; none where the run has no list. A line that says nothing of the kind is left out."""
    try:
        lines = (run_dir / DISAGREEMENTS).read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            row = json.loads(line)
            said = {int(one["judgement"]): float(one["p"]) for one in row["said"] if one.get("judgement") is not None}
            if row["task"] is not None:
                yield Disagreement(int(row["task"]), float(row["p"]), str(row["side"]), tuple(map(float, row["scores"])), said)
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
