"""What labelers tell the lead beside their judgements: harm, questions."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select

from .content import clean
from .errors import ContentError
from .schema import assignments, reports

FROM_LABELERS = ("harm", "question")


def add_report(conn: Connection, *, kind: str, assignment_id: int, labeler_id: int, text: str, now: float) -> int:
    """A labeler's word about the task of an assignment of theirs. Returns its id. Raises: ContentError when it is empty or not theirs."""
    if kind not in FROM_LABELERS:
        raise ContentError(f"no report of kind {kind!r}", hint=f"one of {', '.join(FROM_LABELERS)}")
    if not text.strip():
        raise ContentError("the message is empty", hint="write what the lead should know")
    task_id = conn.scalar(select(assignments.c.task_id).where(assignments.c.id == assignment_id, assignments.c.labeler_id == labeler_id))
    if task_id is None:
        raise ContentError("there is no such task of yours")
    return int(conn.execute(insert(reports).values(kind=kind, task_id=task_id, labeler_id=labeler_id, text=clean(text), state="open",
                                                   created_at=now).returning(reports.c.id)).scalar_one())
