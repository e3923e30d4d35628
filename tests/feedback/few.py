"""A few people, prompts and judgements in a store, written straight into its tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, insert

from tutelage.feedback import schema

AT = 1_700_000_000.0
QUESTION = [{"role": "user", "content": "where is the cat?"}]


def put(conn: Connection, table: str, **values: Any) -> int:
    """A row of a table; its id."""
    return int(conn.execute(insert(getattr(schema, table)).values(**values)).inserted_primary_key[0])


def labeler(conn: Connection, name: str, **more: Any) -> int:
    return put(conn, "labelers", **{"name": name, "created_at": AT} | more)


def prompt(conn: Connection, content: Any = QUESTION, **more: Any) -> int:
    return put(conn, "prompts", **{"hash": f"{content}{more}", "content": content, "source": "labeler", "created_at": AT} | more)


def task(conn: Connection, prompt_id: int, texts: Sequence[str], kind: str = "comparison", **more: Any) -> int:
    ids = [put(conn, "responses", prompt_id=prompt_id, text=text, created_at=AT) for text in texts]
    given = {"kind": kind, "prompt_id": prompt_id, "response_ids": ids, "overlap": 2, "free": 0, "created_at": AT}
    return put(conn, "tasks", **given | more)


def judgement(conn: Connection, task_id: int, labeler_id: int, value: Any, kind: str = "comparison", **more: Any) -> int:
    return put(conn, "judgements", **{"task_id": task_id, "labeler_id": labeler_id, "kind": kind, "value": value, "created_at": AT,
                                      "guideline_version": "2"} | more)
