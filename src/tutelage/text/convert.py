"""From any layout that is read to any that is written: each row is read back before it counts as held."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Any

from tutelage.base.errors import ConfigError, DataError, did_you_mean
from tutelage.base.files import atomic_path
from tutelage.text.content import Content, left_behind, to_content, what_is_lost
from tutelage.text.detect import LAYOUTS, layouts_of
from tutelage.text.layouts import Goal, Rules, mapped
from tutelage.text.lines import Rejected
from tutelage.text.readers import Files, ReadOptions, check_rejected, expand_files, made, open_rows, plain_items, rules_of
from tutelage.text.tables import Cells, arrow_module, safe_marked
from tutelage.text.writers import WRITERS

FORMATS = (".jsonl", ".jsonl.gz", ".json", ".csv", ".parquet")
_TABLE_ROWS = 1000


@dataclass
class Converted:
    """What came of it.

    layouts: in the order of the files. skipped: reason -> rows that the layout cannot hold. left_behind: names of metadata that it has no
    place for.
    """

    layouts: dict[str, None] = field(default_factory=dict)
    rows_read: int = 0
    rows_written: int = 0
    rejected: list[Rejected] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    left_behind: set[str] = field(default_factory=set)


def convert(files: Files, to: str, out: Path, *, goal: Goal | None = None, skip: bool = False,
            options: ReadOptions | None = None) -> Converted:
    """Write what the files say in another layout, row by row; `out` is whole or absent. Its suffix, one of FORMATS, says in what form.

    goal: leave out the rest, such as the rejected sides when demonstrations are wanted; None takes all a row says.
    skip: leave out rows that the layout cannot hold; else the first of them ends it.
    Raises: ConfigError on an unknown layout or suffix, or when `out` is there; DataError when a file cannot be read, a row not be held, or
        more than max_rejected_frac of the rows are unusable; MissingExtraError for Parquet without pyarrow.
    """
    options = options or {}
    if to not in WRITERS:
        known = f"{to} can be read but not written" if to in LAYOUTS else f"no such layout{did_you_mean(to, WRITERS)}"
        raise ConfigError(f"--to {to}: {known}", hint=f"one of: {', '.join(WRITERS)}")
    suffix = form_of(out)
    result = Converted()
    with atomic_path(out) as aside:
        WRITE_AS[suffix](aside, _converted(files, to, suffix, goal, skip, options, result))
        check_rejected(result.rows_read, result.rejected, options)
        if not result.rows_read:
            raise DataError(f"no rows in {', '.join(map(str, expand_files(files)))}", hint="the files hold blank lines only")
        if not result.rows_written:
            raise DataError(f"{to} can hold none of the {result.rows_read} rows: {', '.join(result.skipped)}", hint="choose another layout")
    return result


def form_of(out: Path, forms: Sequence[str] = FORMATS) -> str:
    """The suffix, one of `forms`, that says in what form a new file is written. Raises: ConfigError on another, or when `out` is there."""
    suffix = next((s for s in sorted(forms, key=len, reverse=True) if out.name.endswith(s)), None)
    if suffix is None:
        raise ConfigError(f"{out}: unknown form", hint=f"end the name in {' or '.join(forms)}")
    if out.exists():
        raise ConfigError(f"{out} is already there", hint="remove it first, or choose another name")
    return suffix


def contents(files: Files, goal: Goal | None, options: ReadOptions, *, fullest: bool = False
             ) -> Iterator[tuple[str, Path, int, Content | Rejected]]:
    """(layout, file, line, what it says) of every row of the files. Plain text is its documents.

    goal: what to read them as; None takes all they say, or with `fullest` what training would first read them as.
    """
    rules = rules_of(options)
    for path in expand_files(files):
        found = open_rows(path, goal, options, rules)
        layout, rows = found or ("plain text", iter(()))
        asked: Goal = goal or (LAYOUTS[layout].goals[0] if layout in LAYOUTS else "texts")
        make = partial(_content, goal=asked if fullest else goal)
        if found is None:
            yield from ((layout, path, number, item) for number, item in plain_items(path, asked, make, rules, options))
        for number, row in rows:
            items = [row] if isinstance(row, Rejected) else made(path, number, row, layout, asked, make, rules)
            yield from ((layout, path, number, item) for item in items)


def _content(row: Mapping[str, Any], layout: str, rules: Rules, *, goal: Goal | None) -> Content:
    return to_content(row, layout, rules, goal)


def _converted(files: Files, to: str, suffix: str, goal: Goal | None, skip: bool, options: ReadOptions, result: Converted
               ) -> Iterator[dict[str, Any]]:
    back_rules = Rules(prompt_style=options.get("prompt_style", "chat"))
    for layout, path, line, content in contents(files, goal, options):
        if result.rows_read == options.get("limit"):
            return
        result.layouts[layout] = None
        if isinstance(content, Rejected):
            result.rejected.append(content)
            continue
        result.rows_read += 1
        try:
            rows = WRITERS[to](content)
            back = held(rows, to, content, back_rules, in_csv=suffix == ".csv")
        except ValueError as error:
            if not skip:
                raise DataError(f"{path}:{line}: the layout {to}{' in CSV' if suffix == '.csv' else ''} cannot hold this row: {error}",
                                hint="choose another layout, leave out what it has no place for (--as), or such rows (--skip)") from error
            result.skipped[str(error)] += 1
            continue
        result.left_behind |= left_behind(content, back)
        result.rows_written += len(rows)
        yield from rows


def held(rows: list[dict[str, Any]], to: str, content: Content, rules: Rules, *, in_csv: bool = False) -> list[Content]:
    """What a reader makes of rows that were just written. Raises: ValueError when it is not what they were to say."""
    # A table of text brings back what a reader makes of its cells, which may be less than what went in.
    read = [mapped(cells_of(row), None) for row in rows] if in_csv else rows
    back = [one for row in read for one in _read_back(row, to, content, rules)]
    if lost := what_is_lost(content, back):
        raise ValueError(lost)
    return back


def _read_back(row: Mapping[str, Any], to: str, content: Content, rules: Rules) -> Iterator[Content]:
    """What a reader makes of a row just written; the layout must be told from the row itself, so that nobody needs to name it."""
    if layouts_of(row) != {to}:
        raise ValueError(f"it would read as {' or '.join(sorted(layouts_of(row))) or 'nothing known'}")
    foreign, goal = LAYOUTS[to].rows, _goal_of(content)
    for name, core in [(to, row)] if foreign is None else foreign(row, goal):
        yield to_content(core, name, rules, None if content.kind in ("conversation", "text") else goal)


def _goal_of(content: Content) -> Goal:
    goals: dict[str, Goal] = {"text": "texts", "conversation": "texts", "prompt": "prompts", "demonstration": "demonstrations"}
    return goals.get(content.kind, "judgements")


def _write_lines(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        _dump(file, rows)


def _write_packed(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    with open(path, "wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed:
        with io.TextIOWrapper(packed, encoding="utf-8", newline="\n") as file:
            _dump(file, rows)


def _dump(file: IO[str], rows: Iterator[dict[str, Any]]) -> None:
    file.writelines(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def _write_array(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write("[")
        file.writelines(("," if i else "") + "\n" + json.dumps(row, ensure_ascii=False, allow_nan=False) for i, row in enumerate(rows))
        file.write("\n]\n")


def _write_csv(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    """Two passes over lines written aside: the columns are known only at the end."""
    with _spooled(path, rows) as file:
        names = list(dict.fromkeys(name for line in file for name in json.loads(line)))
        file.seek(0)
        with open(path, "w", encoding="utf-8", newline="") as out:
            writer = csv.writer(out)                                # its CRLF makes it quote a lone CR too, which LF alone would not
            writer.writerow([safe_marked(name) for name in names])
            for line in file:
                cells = cells_of(json.loads(line))
                writer.writerow([safe_marked(cells.get(name, "")) for name in names])


def cells_of(row: Mapping[str, Any]) -> Cells:
    """A row as the text of its cells; an empty one is an absent field to whoever reads it."""
    cells = {name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for name, value in row.items()}
    return Cells({name: cell for name, cell in cells.items() if cell})


def _write_parquet(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    arrow, parquet = (arrow_module(name, needed_for="writing Parquet") for name in ("pyarrow", "pyarrow.parquet"))
    with _spooled(path, rows) as file:
        def tables(schema: Any = None) -> Iterator[Any]:
            file.seek(0)
            while found := [json.loads(line) for line in islice(file, _TABLE_ROWS)]:
                names = schema.names if schema else list(dict.fromkeys(name for row in found for name in row))
                yield arrow.Table.from_pylist([{name: row.get(name) for name in names} for row in found], schema=schema)

        try:
            schema = arrow.unify_schemas([table.schema for table in tables()], promote_options="permissive")
            with parquet.ParquetWriter(path, schema) as writer:
                for table in tables(schema):
                    writer.write_table(table)
        except arrow.ArrowException as error:
            raise DataError(f"Parquet cannot hold these rows: {str(error).splitlines()[0]}", hint="write .jsonl instead") from error


def _spooled(path: Path, rows: Iterator[dict[str, Any]]) -> IO[str]:
    """The rows as JSON lines in a nameless file beside `path`, at its start."""
    from tempfile import TemporaryFile

    file = TemporaryFile("w+", encoding="utf-8", newline="\n", dir=path.parent)
    _dump(file, rows)
    file.seek(0)
    return file


WRITE_AS = {".jsonl": _write_lines, ".jsonl.gz": _write_packed, ".json": _write_array, ".csv": _write_csv, ".parquet": _write_parquet}
"""Suffix -> function of (path, rows) that writes them."""
