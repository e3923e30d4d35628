"""What the store knows about one person, for that person."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, case, func, select

from .flow import DAY, PAID_SECONDS
from .schema import (
    Row,
    api_tokens,
    assignments,
    conversations,
    judgements,
    labelers,
    prompts,
    reports,
    responses,
    retractions,
    sessions,
    tasks,
)

_SECRET = {"password_hash", "token_hash", "csrf_token"}
_BY_OTHERS = {"answered_by", "by_id"}
"""Which lead it was, whom labelers are not told."""


class Done(NamedTuple):
    """judgements: given, and not undone, practice left out; what others overruled or erased since was work all the same.

    seconds: as pay counts them, with practice.
    """

    judgements: int
    seconds: float


def done_today(conn: Connection, labeler_id: int, *, now: float) -> Done:
    """What somebody gave since midnight UTC."""
    midnight = now - now % DAY
    # Everybody's first of today, by the index of times (+ 0: not by walking the ids): of a labeler's own there may be a hundred thousand
    # before it, and each page asks.
    first = select(func.min(judgements.c.id + 0)).where(judgements.c.created_at >= midnight).scalar_subquery()
    undone = func.coalesce(retractions.c.reason, "") == "undone"
    counted = case((undone, 0), (tasks.c.purpose == "practice", 0), else_=1)
    paid = case((judgements.c.seconds > PAID_SECONDS, PAID_SECONDS), else_=judgements.c.seconds)
    row = conn.execute(
        select(func.coalesce(func.sum(counted), 0), func.coalesce(func.sum(paid), 0.0))
        .select_from(judgements)
        .join(tasks, tasks.c.id == judgements.c.task_id)
        .outerjoin(retractions, retractions.c.judgement_id == judgements.c.id)
        .where(judgements.c.labeler_id == labeler_id, judgements.c.id >= first, judgements.c.assignment_id.is_not(None),
               judgements.c.created_at >= midnight)).one()
    return Done(int(row[0]), float(row[1]))


def recent_judgements(conn: Connection, labeler_id: int, *, limit: int = 100) -> list[Row]:
    """The last things somebody gave, newest first: {id, kind, value, sides, seconds, created_at, purpose, retracted: reason or None,
    prompt: its content, or None where there is none}."""
    rows = conn.execute(
        select(judgements.c.id, judgements.c.kind, judgements.c.value, judgements.c.sides, judgements.c.seconds, judgements.c.created_at,
               tasks.c.purpose, prompts.c.content.label("prompt"), retractions.c.reason.label("retracted"))
        .join(tasks, tasks.c.id == judgements.c.task_id).outerjoin(prompts, prompts.c.id == tasks.c.prompt_id)
        .outerjoin(retractions, retractions.c.judgement_id == judgements.c.id)
        .where(judgements.c.labeler_id == labeler_id).order_by(judgements.c.id.desc()).limit(limit)).mappings()
    return [dict(row) for row in rows]


def everything_about(conn: Connection, labeler_id: int) -> dict[str, Any]:
    """All rows that are about somebody or by them, by table, as JSON can hold them. Hashes of what opens doors and other people's
    numbers are left out."""
    by_owner = {assignments: assignments.c.labeler_id, judgements: judgements.c.labeler_id, reports: reports.c.labeler_id,
                conversations: conversations.c.labeler_id, sessions: sessions.c.labeler_id, api_tokens: api_tokens.c.labeler_id,
                prompts: prompts.c.author_id, responses: responses.c.author_id}
    found: dict[str, Any] = {"labelers": _rows(conn, labelers, labelers.c.id == labeler_id)}
    for row in found["labelers"]:
        row["screening"] = {name: value for name, value in (row["screening"] or {}).items() if name != "by"}
    found |= {table.name: _rows(conn, table, owner == labeler_id) for table, owner in by_owner.items()}
    mine = select(judgements.c.id).where(judgements.c.labeler_id == labeler_id)
    return found | {"retractions": _rows(conn, retractions, retractions.c.judgement_id.in_(mine))}


def _rows(conn: Connection, table: Table, where: Any) -> list[Row]:
    columns = [column for column in table.c if column.name not in _SECRET | _BY_OTHERS]
    return [dict(row) for row in conn.execute(select(*columns).where(where).order_by(table.c.id)).mappings()]
