"""What labelers tell the lead beside their judgements, harm and questions, and what the lead answers."""

from __future__ import annotations

from sqlalchemy import Connection, func, insert, select, update

from .content import check_stands, clean, record_audit
from .errors import ContentError
from .schema import Row, assignments, labelers, reports, tasks

FROM_LABELERS = ("harm", "question")
VERDICTS = ("label_error", "model_error", "guideline_gap")
"""What a lead makes of a disagreement with a model (`triage`)."""
INBOX = (*FROM_LABELERS, "guideline_gap")
"""Kinds that wait for a lead; what triage settled at once is no message."""


def add_report(conn: Connection, *, kind: str, assignment_id: int, labeler_id: int, text: str, now: float) -> int:
    """A labeler's word about the task of an assignment of theirs. Returns its id. Raises: ContentError when it is empty or not theirs."""
    task_id = conn.scalar(select(assignments.c.task_id).where(assignments.c.id == assignment_id, assignments.c.labeler_id == labeler_id))
    if task_id is None:
        raise ContentError("there is no such task of yours")
    return tell_lead(conn, kind=kind, task_id=task_id, labeler_id=labeler_id, text=text, now=now)


def tell_lead(conn: Connection, *, kind: str, task_id: int | None, labeler_id: int, text: str, now: float) -> int:
    """Put a labeler's word into the inbox. task_id: what it is about, where that is a task.

    Raises: ContentError when it is empty; ErasedError.
    """
    if kind not in FROM_LABELERS:
        raise ContentError(f"no report of kind {kind!r}", hint=f"one of {', '.join(FROM_LABELERS)}")
    if not text.strip():
        raise ContentError("the message is empty", hint="write what the lead should know")
    check_stands(conn, task_id)
    return int(conn.execute(insert(reports).values(kind=kind, task_id=task_id, labeler_id=labeler_id, text=clean(text), state="open",
                                                   created_at=now).returning(reports.c.id)).scalar_one())


def open_reports(conn: Connection) -> int:
    """How many wait for a lead."""
    return int(conn.scalar(select(func.count()).where(reports.c.state == "open", reports.c.kind.in_(INBOX))) or 0)


def inbox(conn: Connection, *, state: str, limit: int = 100) -> list[Row]:
    """The open ones, oldest first, or the closed, last closed first: {id, kind, task_id, task_kind, task_state, text, answer, name: whose,
    answered_by: a name, created_at, answered_at}."""
    writer, lead = labelers.alias(), labelers.alias()
    order = reports.c.id if state == "open" else reports.c.answered_at.desc()
    rows = conn.execute(
        select(reports.c.id, reports.c.kind, reports.c.task_id, reports.c.text, reports.c.answer, reports.c.created_at,
               reports.c.answered_at, tasks.c.kind.label("task_kind"), tasks.c.state.label("task_state"), writer.c.name,
               lead.c.name.label("answered_by"))
        .outerjoin(tasks, tasks.c.id == reports.c.task_id).outerjoin(writer, writer.c.id == reports.c.labeler_id)
        .outerjoin(lead, lead.c.id == reports.c.answered_by)
        .where(reports.c.state == state, reports.c.kind.in_(INBOX)).order_by(order, reports.c.id).limit(limit)).mappings()
    return [dict(row) for row in rows]


def answer_report(conn: Connection, report_id: int, *, text: str, by_id: int, now: float) -> None:
    """Close a report, with an answer that its writer reads, or without. A closed one gets the new answer in place of the old.

    Raises: ContentError when there is none of that id, and for a question left without an answer; ErasedError for words about what was
        erased.
    """
    text, row = clean(text).strip(), conn.execute(
        select(reports.c.kind, reports.c.task_id).where(reports.c.id == report_id, reports.c.kind.in_(INBOX))).first()
    if row is None:
        raise ContentError(f"there is no report {report_id}")
    if text:
        check_stands(conn, row.task_id)
    if row.kind == "question" and not text:
        raise ContentError("the answer is empty", hint="write to the labeler who asked")
    conn.execute(update(reports).where(reports.c.id == report_id).values(state="closed", answer=text or None, answered_by=by_id,
                                                                         answered_at=now))
    record_audit(conn, action="answer report" if text else "close report", now=now, actor_id=by_id, subject=f"report {report_id}")


def reopen_report(conn: Connection, report_id: int, *, by_id: int, now: float) -> None:
    """It waits for a lead again; its answer stays to be read."""
    if conn.execute(update(reports).where(reports.c.id == report_id, reports.c.kind.in_(INBOX)).values(state="open")).rowcount != 1:
        raise ContentError(f"there is no report {report_id}")
    record_audit(conn, action="reopen report", now=now, actor_id=by_id, subject=f"report {report_id}")


def reports_of(conn: Connection, labeler_id: int) -> list[Row]:
    """What a labeler told or asked and what came back, newest first: {kind, text, state, answer, created_at, answered_at}; no names."""
    columns = (reports.c.kind, reports.c.text, reports.c.state, reports.c.answer, reports.c.created_at, reports.c.answered_at)
    rows = conn.execute(select(*columns).where(reports.c.labeler_id == labeler_id, reports.c.kind.in_(FROM_LABELERS))
                        .order_by(reports.c.id.desc())).mappings()
    return [dict(row) for row in rows]


def new_answers(conn: Connection, labeler_id: int, *, since: float) -> int:
    """Answers a labeler got after a time."""
    return int(conn.scalar(select(func.count()).where(reports.c.labeler_id == labeler_id, reports.c.kind.in_(FROM_LABELERS),
                                                      reports.c.answer.is_not(None), reports.c.answered_at > since)) or 0)
