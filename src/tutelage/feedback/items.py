"""A lead's hand on single tasks: look at what was said, take one out of the queue, make another of the same answers for another purpose."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection, insert, select, update

from .content import add_task, check_stands, clean, record_audit
from .errors import ContentError
from .schema import Row, assignments, judgements, labelers, retractions, tasks
from .values import LIKERT

KNOWN_BY = ("ranks", "label", "rating")
"""What of a judgement can be right or wrong."""
KNOWN = ("practice", "screening", "gold")
"""Purposes that need the answer."""
MADE = (*KNOWN, "shared", "drift", "adjudication")
"""Purposes a lead can give a copy of a task."""

OVERRULED = "overruled by item "
"""How the reason begins of a judgement that was retracted because an expert said the opposite."""
_SOURCE = ("triaged", "disputed")                                   # what an item's notes name the task it was made of by


def source_of(extra: Mapping[str, Any] | None) -> int | None:
    """The task that an adjudication item was made of, by its notes."""
    return next((int(extra[name]) for name in _SOURCE if name in extra), None) if extra else None


def judgements_of_task(conn: Connection, task_id: int) -> list[Row]:
    """{id, labeler_id, name, group, kind, value, seconds, guideline_version, created_at, retracted: reason or None}, oldest first."""
    rows = conn.execute(
        select(judgements.c.id, judgements.c.labeler_id, labelers.c.name, labelers.c.group, judgements.c.kind, judgements.c.value,
               judgements.c.seconds, judgements.c.guideline_version, judgements.c.created_at, retractions.c.reason.label("retracted"))
        .join(labelers, labelers.c.id == judgements.c.labeler_id).outerjoin(retractions, retractions.c.judgement_id == judgements.c.id)
        .where(judgements.c.task_id == task_id).order_by(judgements.c.id)).mappings()
    return [dict(row) for row in rows]


def opinions(conn: Connection, task_id: int) -> list[dict[str, Any]]:
    """The different answers that stand, of those that can be right or wrong, in the order they were first given."""
    found: list[dict[str, Any]] = []
    for row in judgements_of_task(conn, task_id):
        value = {} if row["value"] is None or row["retracted"] else row["value"]
        said = {name: value[name] for name in KNOWN_BY if value.get(name) is not None}
        if said and said not in found:
            found.append(said)
    return found


def right_answers(conn: Connection, task_id: int) -> list[dict[str, Any]]:
    """What can be said to be right of a task: every answer its kind has, where they can be listed, and all that people gave."""
    kind = conn.scalar(select(tasks.c.kind).where(tasks.c.id == task_id))
    made: dict[str, list[dict[str, Any]]] = {
        "comparison": [{"ranks": ranks} for ranks in ([0, 1], [1, 0], [0, 0])], "label": [{"label": True}, {"label": False}],
        "rating": [{"rating": step} for step in range(1, LIKERT + 1)]}
    known = made.get(str(kind), [])
    return known + [one for one in opinions(conn, task_id) if one not in known]


def copy_task(conn: Connection, task_id: int, *, purpose: str, by_id: int, now: float, expected: Mapping[str, Any] | None = None,
              reasons: str = "", why: str = "made of", not_for: Collection[int] = ()) -> int:
    """A task of the same kind and answers for another purpose; who judged the first, or is in not_for, is never given it. Returns its id.

    expected: the answer, as judgements store it, of practice, screening and gold items. reasons: what labelers read beside it.
    Raises: ContentError for an unknown task or purpose, an answer that is missing, and a second such task; ErasedError.
    """
    task = conn.execute(select(tasks).where(tasks.c.id == task_id)).first()
    if task is None:
        raise ContentError(f"there is no task {task_id}")
    check_stands(conn, task_id)
    if purpose not in MADE:
        raise ContentError(f"purpose is {purpose!r}", hint=f"one of {', '.join(MADE)}")
    known = None
    if purpose in KNOWN:
        if not expected or not set(expected) & set(KNOWN_BY):
            raise ContentError(f"a {purpose} item needs its answer", hint="choose what is right")
        known = {**expected, "reasons": clean(reasons)}
    twins = conn.execute(select(tasks.c.id, tasks.c.extra).where(tasks.c.prompt_id == task.prompt_id, tasks.c.purpose == purpose)).all()
    twin = next((row.id for row in twins if (row.extra or {}).get(why) == task_id), None)
    if twin is not None:
        raise ContentError(f"task {task_id} has an item for {purpose} already", hint=f"it is task {twin}")
    made = add_task(conn, kind=task.kind, prompt_id=task.prompt_id, response_ids=task.response_ids, now=now, batch=task.batch,
                    purpose=purpose, expected=known, extra={**_shown_as(task.extra or {}), why: task_id})
    _bar(conn, made, {*conn.scalars(select(judgements.c.labeler_id).where(judgements.c.task_id == task_id)), *not_for}, now)
    record_audit(conn, action="make item", now=now, actor_id=by_id, subject=f"task {task_id}", purpose=purpose, made=made)
    return made


def halted_tasks(conn: Connection, *, limit: int = 50) -> list[Row]:
    """What is out of the queue, newest first: {id, kind, reasons: of those who skipped it}."""
    found = conn.execute(select(tasks.c.id, tasks.c.kind).where(tasks.c.state == "halted").order_by(tasks.c.id.desc()).limit(limit)).all()
    reasons: dict[int, list[str]] = {row.id: [] for row in found}
    of_these = assignments.c.task_id.in_(reasons) & (assignments.c.state == "skipped")
    for row in conn.execute(select(assignments.c.task_id, assignments.c.reason).where(of_these).order_by(assignments.c.id)):
        reasons[row.task_id].append(row.reason or "")
    return [{"id": row.id, "kind": row.kind, "reasons": reasons[row.id]} for row in found]


def halt_task(conn: Connection, task_id: int, *, by_id: int, now: float) -> None:
    """Give it to nobody any more; who holds it now may still submit. Raises: ContentError where it is not open."""
    _turn(conn, task_id, "open", "halted", by_id, now)


def open_task(conn: Connection, task_id: int, *, by_id: int, now: float) -> None:
    """Put a halted task back into the queue, or to those that are done where nobody more is wanted.

    Raises: ContentError where it is not halted.
    """
    wanted = conn.scalar(select(tasks.c.free).where(tasks.c.id == task_id))
    held = conn.scalar(select(assignments.c.id).where(assignments.c.task_id == task_id, assignments.c.state == "reserved").limit(1))
    _turn(conn, task_id, "halted", "open" if wanted or held is not None else "done", by_id, now)


def _turn(conn: Connection, task_id: int, before: str, after: str, by_id: int, now: float) -> None:
    if conn.execute(update(tasks).where(tasks.c.id == task_id, tasks.c.state == before).values(state=after)).rowcount != 1:
        raise ContentError(f"task {task_id} is not {before}")
    record_audit(conn, action=f"task.{after}", now=now, actor_id=by_id, subject=f"task {task_id}")


def _shown_as(extra: Mapping[str, Any]) -> dict[str, Any]:
    """What of a task's notes changes how its page looks."""
    return {name: extra[name] for name in ("question", "style", "tie", "both_bad") if name in extra}


def _bar(conn: Connection, task_id: int, people: set[int], now: float) -> None:
    """Never give the task to these; its answers' authors are barred already."""
    already = set(conn.scalars(select(assignments.c.labeler_id).where(assignments.c.task_id == task_id)))
    for labeler_id in sorted(people - already):
        conn.execute(insert(assignments).values(task_id=task_id, labeler_id=labeler_id, state="barred", claimed_at=now, expires_at=now,
                                                reason="knows it from before"))
