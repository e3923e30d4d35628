"""What a lead makes of a disagreement between a reward model and people, and what follows from it.

A label error goes to adjudication, a model error becomes a gold item (people were right where a model is sure of the opposite), and a gap
in the guideline stays open until somebody answers it. Who judged the task, or triaged it, is never given what follows. The judgements
themselves are not touched: what the adjudicator says stands beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select

from .content import check_stands, clean, record_audit
from .errors import ContentError
from .items import copy_task, opinions
from .reports import VERDICTS
from .schema import reports, tasks

_BECOMES = {"label_error": "adjudication", "model_error": "gold"}


@dataclass(frozen=True)
class Triaged:
    """Rows made: the report, and the task that follows; None after a guideline gap."""

    report_id: int
    task_id: int | None


def triage(conn: Connection, *, task_id: int, verdict: str, by_id: int, now: float, text: str = "",
           expected: Mapping[str, Any] | None = None) -> Triaged:
    """Store a verdict on a task, and make the task that follows from it.

    expected: the gold item's answer, as judgements store it; None takes what everybody said who judged the task. text: the lead's reasons,
    which labelers read when they get the gold item wrong.
    Raises: ContentError for an unknown verdict or task, a second one on the same task, and a gold item whose answer people disagree on.
    """
    if verdict not in VERDICTS:
        raise ContentError(f"verdict is {verdict!r}", hint=f"one of {', '.join(VERDICTS)}")
    if conn.scalar(select(tasks.c.id).where(tasks.c.id == task_id)) is None:
        raise ContentError(f"there is no task {task_id}")
    check_stands(conn, task_id)
    before = conn.scalar(select(reports.c.kind).where(reports.c.task_id == task_id, reports.c.kind.in_(VERDICTS)))
    if before is not None:
        raise ContentError(f"task {task_id} was triaged before, as {before}", hint="each disagreement is triaged once")
    text, follows = clean(text), None
    if verdict in _BECOMES:
        known = (expected or _agreed(conn, task_id)) if verdict == "model_error" else None
        follows = copy_task(conn, task_id, purpose=_BECOMES[verdict], by_id=by_id, now=now, expected=known, reasons=text, why="triaged",
                            not_for=(by_id,))
    report = conn.execute(insert(reports).values(kind=verdict, task_id=task_id, labeler_id=by_id, text=text, created_at=now,
                                                 state="closed" if follows else "open").returning(reports.c.id)).scalar_one()
    record_audit(conn, action="triage", now=now, actor_id=by_id, subject=f"task {task_id}", verdict=verdict, follows=follows)
    return Triaged(int(report), follows)


def _agreed(conn: Connection, task_id: int) -> dict[str, Any]:
    """What everybody said whose judgement of the task stands."""
    said = opinions(conn, task_id)
    if len(said) != 1:
        raise ContentError(f"people do not agree on task {task_id}" if said else f"nobody's answer to task {task_id} can be gold",
                           hint="a gold item needs its right answer: choose which of the answers given is right" if said else
                                "a gold item needs its right answer: make one of the item itself, where it can be entered")
    return said[0]
