"""What the store knows about one person, for that person."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, case, func, select

from .conversations import BATCH
from .flow import DAY, PAID_SECONDS
from .newcomers import DECIDED
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
_UNBLINDS = ("sides", "p_select")
_OPEN = ("reserved", "expired")
"""States of an assignment that can still be submitted."""


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
    numbers are left out; and so is, while they can still judge by it, what would tell where an answer came from or which is right."""
    by_owner = {assignments: assignments.c.labeler_id, judgements: judgements.c.labeler_id, reports: reports.c.labeler_id,
                conversations: conversations.c.labeler_id, sessions: sessions.c.labeler_id, api_tokens: api_tokens.c.labeler_id,
                prompts: prompts.c.author_id, responses: responses.c.author_id}
    found: dict[str, Any] = {"labelers": _rows(conn, labelers, labelers.c.id == labeler_id)}
    for row in found["labelers"]:
        row["screening"] = _screening(row["screening"] or {})
    found |= {table.name: _rows(conn, table, owner == labeler_id) for table, owner in by_owner.items()}
    mine = select(judgements.c.id).where(judgements.c.labeler_id == labeler_id)
    _blind(conn, found, labeler_id)
    return found | {"retractions": _rows(conn, retractions, retractions.c.judgement_id.in_(mine))}


def _screening(standing: Row) -> Row:
    """Where they stand in the screening; how many were right once that is decided, as after each item it would tell whether that was."""
    shown = {name: value for name, value in standing.items() if name != "by"}
    if shown.get("state") not in DECIDED and "test" in shown:
        shown["test"] = {name: value for name, value in shown["test"].items() if name != "right"}
    return shown


def _blind(conn: Connection, found: dict[str, Any], labeler_id: int) -> None:
    """Take out of what is open, or can be opened again by an undo, on which side which answer stood and how likely the item was drawn.

    A gold item is always drawn, and the first answer of a task often comes from the same model.
    """
    talks = {row["id"] for row in found["conversations"] if row["state"] == "open"}
    for row in found["conversations"]:
        if row["id"] in talks and (row["messages"] or {}).get("turn"):
            shown = {name: value for name, value in row["messages"]["turn"].items() if name not in ("responses", "sides")}
            row["messages"] = row["messages"] | {"turn": shown}
    given = [row["assignment_id"] for row in found["judgements"] if row["assignment_id"] is not None]
    open_ = {row["id"] for row in found["assignments"] if row["state"] in _OPEN} | set(given[-1:])
    of_talks = conn.execute(select(assignments.c.id, tasks.c.extra).join(tasks, tasks.c.id == assignments.c.task_id)
                            .where(assignments.c.labeler_id == labeler_id, tasks.c.batch == BATCH)) if talks else ()
    open_ |= {id_ for id_, extra in of_talks if (extra or {}).get("conversation") in talks}
    for row in found["assignments"] + found["judgements"]:
        if row.get("assignment_id", row["id"]) in open_:
            for name in _UNBLINDS:
                del row[name]


def _rows(conn: Connection, table: Table, where: Any) -> list[Row]:
    columns = [column for column in table.c if column.name not in _SECRET | _BY_OTHERS]
    return [dict(row) for row in conn.execute(select(*columns).where(where).order_by(table.c.id)).mappings()]
