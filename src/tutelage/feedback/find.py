"""Find tasks: by kind, batch, state, purpose, and what stands in their prompt or answers."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, Text, cast, or_, select

from .schema import Row, prompts, responses, tasks

PAGE = 50


def find_tasks(conn: Connection, *, text: str = "", page: int = 0, **fields: str) -> list[Row]:
    """{id, kind, purpose, batch, state, said: the last message of the prompt}, newest first: a PAGE of them, and one more where there are
    more.

    text: what stands in the prompt or an answer, in capitals or not (SQLite knows those of ASCII only).
    fields: kind, purpose, state, batch; an empty one is not looked at.
    """
    query = select(tasks.c.id, tasks.c.kind, tasks.c.purpose, tasks.c.batch, tasks.c.state, prompts.c.content).outerjoin(
        prompts, prompts.c.id == tasks.c.prompt_id)
    for name in ("kind", "purpose", "state", "batch"):
        if fields.get(name):
            query = query.where(tasks.c[name] == fields[name])
    if text:
        as_stored = json.dumps(text, ensure_ascii=False)[1:-1]                # a prompt is kept as JSON, an answer as it is
        answers = select(responses.c.id).where(responses.c.prompt_id == tasks.c.prompt_id,
                                               responses.c.text.icontains(text, autoescape=True))
        query = query.where(or_(cast(prompts.c.content, Text).icontains(as_stored, autoescape=True), answers.exists()))
    rows = conn.execute(query.order_by(tasks.c.id.desc()).limit(PAGE + 1).offset(page * PAGE)).all()
    return [{"id": row.id, "kind": row.kind, "purpose": row.purpose, "batch": row.batch, "state": row.state, "said": _said(row.content)}
            for row in rows]


def _said(content: Any) -> str:
    """The last message; empty where there is no prompt, or it was erased."""
    return str(content if isinstance(content, str) else content[-1]["content"]) if content else ""
