"""What tells rows apart that were imported: keys, and the table `origins` that remembers them with the place they came from.

A key is the hash of what a row is: an answer's of its prompt, text and model; a task's of its kind, batch, prompt and answers in any
order; a judgement's of its task, labeler, verdict and time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

from sqlalchemy import Column, Connection, Row, Table, func, insert, select, text

from tutelage.feedback.schema import origins

_AT_ONCE = 500                                                      # values in one IN (…): SQLite's lowest limit of parameters is 999


class Place(NamedTuple):
    """A file by its sha256, a line of it, and which of the line's judgements."""

    file: str
    line: int
    part: int


def key_of(what: str, *parts: Any) -> str:
    """32 hex digits that only the same parts give."""
    said = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return f"{what}:{blake2b(said.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()}"


def known(conn: Connection, keys: Iterable[str]) -> dict[str, tuple[int, Place]]:
    """Key -> (row, where it came from) of those the store remembers."""
    return {row.key: (row.row_id, Place(row.file, row.line, row.part)) for row in select_in(conn, origins.c.key, keys, *origins.c)}


def remember(conn: Connection, rows: Mapping[str, tuple[int, Place]]) -> None:
    insert_all(conn, origins, origin_rows(rows))


def origin_rows(rows: Mapping[str, tuple[int, Place]]) -> list[dict[str, Any]]:
    return [{"key": key, "row_id": id_, **place._asdict()} for key, (id_, place) in rows.items()]


def select_in(conn: Connection, column: Column[Any], values: Iterable[Any], *columns: Column[Any]) -> list[Row[*tuple[Any, ...]]]:
    """Rows in which `column` is one of the values, however many they are."""
    distinct = list(dict.fromkeys(values))
    return [row for at in range(0, len(distinct), _AT_ONCE)
            for row in conn.execute(select(*columns).where(column.in_(distinct[at:at + _AT_ONCE])))]


def insert_all(conn: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """One statement for all of the rows, which have the same columns."""
    if rows:
        conn.execute(insert(table), rows)


def new_ids(conn: Connection, table: Table, count: int) -> list[int]:
    """Ids for rows about to be added; taken beforehand, since asking for them row by row costs seven times as much."""
    if not count:
        return []
    if conn.dialect.name == "sqlite":                               # nobody else writes while we do
        last = conn.execute(select(func.coalesce(func.max(table.c.id), 0))).scalar_one()
        return list(range(last + 1, last + 1 + count))
    drawn = text(f"SELECT nextval(pg_get_serial_sequence('{table.name}', 'id')) FROM generate_series(1, :count)")
    return [int(id_) for id_ in conn.execute(drawn, {"count": count}).scalars()]
