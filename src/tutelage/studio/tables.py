"""The raw table behind a number, as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from fastapi import Request
from starlette.responses import Response

from tutelage.feedback.content import record_audit
from tutelage.feedback.intervals import Statistic
from tutelage.text.tables import safe_marked
from tutelage.web.app import Web
from tutelage.web.session import Session

SHOWN = 50
"""Rows of a table on a page; the CSV has all."""
PEOPLE = {"labeler", "name"}
"""Columns in which people are named."""


class Table(NamedTuple):
    """columns: names. rows: as many cells each; None is an empty cell."""

    columns: Sequence[str]
    rows: Iterable[Sequence[Any]]


def note_download(request: Request, session: Session, file: str, *, names: bool) -> None:
    """Before a byte is sent, so that an erasure can name what left and who took it. names: people stand in it by name, not by pseudonym."""
    web: Web = request.app.state.web
    web.store.write(lambda conn: record_audit(conn, action="download", now=web.store.now(), actor_id=session.labeler_id, subject=file,
                                              names=names))


def csv_response(request: Request, session: Session, name: str, table: Table) -> Response:
    """A table as a file to keep. One with people in it is noted."""
    if PEOPLE & set(table.columns):
        note_download(request, session, f"{name}.csv", names=True)
    return csv_file(name, table)


def csv_file(name: str, table: Table) -> Response:
    """No cell of it is taken for a formula by a spreadsheet."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(table.columns)
    for row in table.rows:
        writer.writerow([safe_marked(cell) if isinstance(cell, str) else cell for cell in row])
    return Response(out.getvalue().encode("utf-8", "replace"), media_type="text/csv; charset=utf-8",
                    headers={"content-disposition": f'attachment; filename="{name}.csv"'})


def columns_of(name: str) -> list[str]:
    """The columns of a statistic."""
    return [name, f"{name}_low", f"{name}_high", f"{name}_n", f"{name}_why"]


def cells_of(found: Statistic | None) -> list[Any]:
    """A statistic's cells; all empty where it does not fit."""
    return [None] * 5 if found is None else [found.value, found.low, found.high, found.n, found.why]
