"""Find tasks: by kind, batch, state, purpose, and what stands in their prompt or answers."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from sqlalchemy import ColumnElement, Connection, Text, and_, func, literal_column, or_, select
from sqlalchemy.dialects.postgresql import JSONB

from .content import holdable
from .schema import Row, prompts, responses, tasks

PAGE = 50


def find_tasks(conn: Connection, *, text: str = "", page: int = 0, **fields: str) -> list[Row]:
    """{id, kind, purpose, batch, state, said: the last message of the prompt}, newest first: a PAGE of them, and one more where there are
    more.

    text: what somebody says in the prompt, or what stands in an answer, in capitals or not (on PostgreSQL as the database's locale has it).
    fields: kind, purpose, state, batch; an empty one is not looked at.
    """
    query = select(tasks.c.id, tasks.c.kind, tasks.c.purpose, tasks.c.batch, tasks.c.state, prompts.c.content).outerjoin(
        prompts, prompts.c.id == tasks.c.prompt_id)
    for name in ("kind", "purpose", "state", "batch"):
        if fields.get(name):
            query = query.where(tasks.c[name] == holdable(fields[name]))
    if text:
        asked, answered = _WITH[conn.dialect.name](holdable(text))
        query = query.where(or_(asked, select(responses.c.id).where(responses.c.prompt_id == tasks.c.prompt_id, answered).exists()))
    rows = conn.execute(query.order_by(tasks.c.id.desc()).limit(PAGE + 1).offset(page * PAGE)).all()
    return [{"id": row.id, "kind": row.kind, "purpose": row.purpose, "batch": row.batch, "state": row.state, "said": _said(row.content)}
            for row in rows]


def add_functions(connection: sqlite3.Connection) -> None:
    """What the search needs of SQLite, whose own knows the capitals of ASCII only."""
    connection.create_function("prompt_holds", 2, _prompt_holds, deterministic=True)
    connection.create_function("text_holds", 2, _text_holds, deterministic=True)


def _text_holds(text: str | None, folded: str) -> bool:
    return text is not None and folded in text.casefold()


def _prompt_holds(stored: str | None, folded: str) -> bool:
    """stored: JSON, in which letters may be written as \\u00c4 and which has words of its own; so it is read first."""
    content = None if stored is None else json.loads(stored)
    said = [content] if isinstance(content, str) else [turn["content"] for turn in content or ()]
    return any(_text_holds(text, folded) for text in said)


def _with_sqlite(text: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """(of a prompt, of an answer) whether it holds the text."""
    folded = text.casefold()
    return func.prompt_holds(prompts.c.content, folded) == 1, func.text_holds(responses.c.text, folded) == 1


def _with_postgresql(text: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    def holds(said: ColumnElement[Any]) -> ColumnElement[bool]:
        return said.op("#>>", return_type=Text())(literal_column("'{}'")).icontains(text, autoescape=True)

    said = func.jsonb_path_query(prompts.c.content, literal_column("'$.content'"), type_=JSONB).column_valued("said")
    in_turns = select(said).where(holds(said)).exists()
    return (or_(and_(func.jsonb_typeof(prompts.c.content) == "string", holds(prompts.c.content)), in_turns),
            responses.c.text.icontains(text, autoescape=True))


_WITH = {"sqlite": _with_sqlite, "postgresql": _with_postgresql}


def _said(content: Any) -> str:
    """The last message; empty where there is no prompt, or it was erased."""
    return str(content if isinstance(content, str) else content[-1]["content"]) if content else ""
