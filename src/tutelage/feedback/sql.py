"""Plain SQL for the statements that run hundreds of times a second.

The driver is asked directly: a statement through SQLAlchemy costs three times as much as one through sqlite3, and claiming a task takes
ten of them. Both databases understand what is written here; parameters are `:name` and documents go in and out as JSON.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

_PARAMETER = re.compile(r"(?<!:):([a-z_0-9]+)")


def run(conn: Connection, statement: str, **parameters: Any) -> Any:
    """Run a statement within the connection's transaction. Returns the driver's cursor: rows are tuples."""
    driver: Any = conn.connection.driver_connection
    return driver.execute(_psycopg(statement) if conn.dialect.name == "postgresql" else statement, parameters)


@functools.cache
def _psycopg(statement: str) -> str:
    return _PARAMETER.sub(r"%(\1)s", statement.replace("%", "%%"))


def dump(document: Any) -> str | None:
    """A document as a parameter; None stays null."""
    return None if document is None else json.dumps(document, ensure_ascii=False, allow_nan=False)


def load(document: Any) -> Any:
    """An object or list from a row: SQLite gives its text, psycopg what the text says (so not for a document that is itself text)."""
    return json.loads(document) if isinstance(document, str) else document


def loader() -> Callable[[Any], Any]:
    """`load` for many rows: equal documents are read once and are one object, to be read only. Verdicts are a few hundred, given often."""
    seen: dict[str, Any] = {}

    def loaded(document: Any) -> Any:
        if not isinstance(document, str):                            # psycopg has read it already
            return document
        if document not in seen:
            seen[document] = load(document)
        return seen[document]

    return loaded
