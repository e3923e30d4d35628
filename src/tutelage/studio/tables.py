"""The raw table behind a number, as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from starlette.responses import Response

from tutelage.feedback.intervals import Statistic
from tutelage.text.tables import safe_marked

SHOWN = 50
"""Rows of a table on a page; the CSV has all."""


class Table(NamedTuple):
    """columns: names. rows: as many cells each; None is an empty cell."""

    columns: Sequence[str]
    rows: Iterable[Sequence[Any]]


def csv_response(name: str, table: Table) -> Response:
    """A table as a file to keep. No cell is taken for a formula by a spreadsheet."""
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
