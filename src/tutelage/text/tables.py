"""Rows of files of every kind: JSON lines and arrays, CSV, Parquet, Arrow, and data sets of the Hugging Face hub."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from tutelage.base.errors import ConfigError, DataError, MissingExtraError, listed
from tutelage.base.files import require_file
from tutelage.text.lines import (
    FREE_BYTES,
    MAX_GROWTH,
    MAX_ROW_BYTES,
    Rejected,
    first_bytes,
    read_json_array,
    read_json_lines,
    read_lines,
    reason_of,
)

Kind = Literal["lines", "array", "csv", "parquet", "arrow", "hub", "plain"]
Rows = Iterator[tuple[int, dict[str, Any] | Rejected]]
HUB = "hub:"
_JSON_SUFFIXES = (".jsonl", ".json", ".ndjson")
_WHENCE = "check where the file comes from"
_TEXT_SUFFIXES = (".txt", ".text", ".md")
_HUB_NAME = re.compile(r"hub:([\w./-]+?)(?:@([\w.-]+))?(?::([\w.\[\]:%-]+))?")
_FORMULA, _NUMBER = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]"), re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")
_BATCH_ROWS = 16
"""Rows of a table unpacked at a time: what bounds the memory is so many of the longest rows."""


class Cells(dict[str, Any]):
    """A row of a table of plain text: numbers, true and false, and lists are text still."""


def kind_of(path: Path) -> Kind:
    """What a file is, by its name, else by how it begins. Raises: DataError when it cannot be read."""
    if str(path).startswith(HUB):
        return "hub"
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    if suffix in (".csv", ".tsv"):
        return "csv"
    if suffix in (".parquet", ".arrow"):
        return "parquet" if suffix == ".parquet" else "arrow"
    if suffix in _TEXT_SUFFIXES:
        return "plain"
    head = first_bytes(path)
    if head.startswith(b"PAR1") and suffix not in _JSON_SUFFIXES:
        return "parquet"
    begins = head.lstrip()[:1]
    if suffix in _JSON_SUFFIXES:
        return "array" if begins == b"[" else "lines"
    return "lines" if begins == b"{" else "plain"


def read_rows(path: Path, kind: Kind | None = None) -> Rows:
    """(line or row number from 1, object) of a file of any kind but plain text; a row that is none becomes a Rejected.

    Raises: DataError naming the file when it cannot be read; MissingExtraError when a package for its kind is not installed.
    """
    readers = {"lines": read_json_lines, "array": read_json_array, "csv": _read_csv, "parquet": _read_parquet, "arrow": _read_arrow,
               "hub": _read_hub}
    return readers[kind or kind_of(path)](path)


def arrow_module(name: str, *, needed_for: str) -> Any:
    """A module of the `data` extra. Raises: MissingExtraError when it is not installed."""
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(f"{needed_for} needs the package {name.split('.')[0]}, which is not installed",
                                hint="pip install 'tutelage[data]'") from error


def _read_csv(path: Path) -> Rows:
    """Rows of comma- or tab-separated text (semicolons, if the header has no comma); an empty cell is an absent field."""
    csv.field_size_limit(MAX_ROW_BYTES)
    lines = (line for _, line in read_lines(path, keep_ends=True))  # a cell may hold a line end, of either kind
    head = next(lines)
    tabs = path.name.lower().removesuffix(".gz").endswith(".tsv")
    reader = csv.reader(chain([head], lines), delimiter="\t" if tabs else ";" if ";" in head and "," not in head else ",")
    names, start = [safe_unmarked(name) for name in _next_cells(path, reader, 1) or []], reader.line_num + 1
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{path}:1: the column {twice[0]!r} twice", hint="rename one of them")
    while (cells := _next_cells(path, reader, start)) is not None:
        number, start = start, reader.line_num + 1
        if len(cells) == len(names):
            yield number, Cells((name, safe_unmarked(cell)) for name, cell in zip(names, cells, strict=True) if cell)
        elif cells:
            yield number, Rejected(path, number, f"{len(cells)} cells under {len(names)} columns")


def safe_marked(cell: str) -> str:
    """The cell with an apostrophe before it where a spreadsheet would see a formula (= + - @ of either width, tab CR LF), and no number."""
    return f"'{cell}" if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else cell


def safe_unmarked(cell: str) -> str:
    """The cell as it was before `safe_marked`."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _next_cells(path: Path, reader: Iterator[list[str]], line: int) -> list[str] | None:
    """The next row, None after the last. Raises: DataError naming the line it begins in."""
    try:
        return next(reader, None)
    except csv.Error as error:
        raise DataError(f"{path}:{line}: not CSV: {error}", hint="check the quotes and line ends from this line on") from error


def _read_parquet(path: Path) -> Rows:
    parquet = arrow_module("pyarrow.parquet", needed_for=f"reading {path}")
    arrow = arrow_module("pyarrow", needed_for=f"reading {path}")
    number = grown = 0
    require_file(path)
    try:
        with parquet.ParquetFile(path, buffer_size=1 << 20) as file:
            _refuse_bomb(path, file.metadata)
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                grown += batch.nbytes
                if grown > FREE_BYTES and grown > MAX_GROWTH * path.stat().st_size:      # one cell, a million times its number
                    raise DataError(f"{path} grows to more than {MAX_GROWTH} times its size: a bomb, not text", hint=_WHENCE)
                yield from _unpacked(path, batch, number)
                number += batch.num_rows
    except (arrow.ArrowException, OSError, MemoryError) as error:
        raise _damaged(path, number, error) from error


def _read_arrow(path: Path) -> Rows:
    """The stream form that `datasets` caches, or the file form."""
    arrow = arrow_module("pyarrow", needed_for=f"reading {path}")
    number = 0
    require_file(path)
    try:
        with arrow.memory_map(str(path)) as source:
            is_file = source.read(6) == b"ARROW1"
            source.seek(0)
            reader = arrow.ipc.open_file(source) if is_file else arrow.ipc.open_stream(source)
            batches = (reader.get_batch(i) for i in range(reader.num_record_batches)) if is_file else reader
            for batch in batches:
                batch.validate(full=True)                            # a text may be said to begin far outside the file
                for start in range(0, batch.num_rows, _BATCH_ROWS):
                    part = batch.slice(start, _BATCH_ROWS)
                    yield from _unpacked(path, part, number)
                    number += part.num_rows
    except (arrow.ArrowException, OSError, MemoryError) as error:
        raise _damaged(path, number, error) from error


def _unpacked(path: Path, batch: Any, before: int) -> Rows:
    """The rows of a batch, `before` of the file's ahead of them. A value that Python cannot hold costs its row and not the file."""
    rows: list[dict[str, Any] | Rejected]
    try:
        rows = [_row(cells) for cells in batch.to_pylist()]
    except (ValueError, OverflowError):                              # arrow's own errors are ValueErrors too
        arrow = arrow_module("pyarrow", needed_for=f"reading {path}")
        columns = [(name, column.cast(arrow.timestamp(column.type.unit)) if getattr(column.type, "tz", None) else column)
                   for name, column in zip(batch.schema.names, batch.columns, strict=True)]      # UTC: not every machine knows every zone
        rows = [_one_row(path, before + 1 + index, columns, index) for index in range(batch.num_rows)]
    yield from enumerate(rows, start=before + 1)


def _one_row(path: Path, number: int, columns: list[tuple[str, Any]], index: int) -> dict[str, Any] | Rejected:
    cells = {}
    for name, column in columns:
        try:
            cells[name] = column[index].as_py()
        except (ValueError, OverflowError) as error:
            return Rejected(path, number, f"the column {listed([name])} holds what cannot be read ({reason_of(error)})")
    return _row(cells)


def _read_hub(path: Path) -> Rows:
    """Rows of `hub:owner/name`, `hub:owner/name@config:split`; streamed, the split is `train` if none is named."""
    found = _HUB_NAME.fullmatch(str(path))
    if found is None:
        raise ConfigError(f"{path}: not a data set of the hub", hint="write hub:owner/name, or hub:owner/name@config:split")
    datasets = arrow_module("datasets", needed_for=f"reading {path}")
    name, config, split = found.groups()
    try:
        for number, row in enumerate(datasets.load_dataset(name, config, split=split or "train", streaming=True), start=1):
            yield number, _row(row)
    except Exception as error:  # the library raises many kinds, network failures among them; every one means that it cannot be read
        raise DataError(f"cannot read {path}: {_first_line(error)}", hint="check the name, @config and :split, and the network") from error


def _refuse_bomb(path: Path, metadata: Any) -> None:
    for group in range(metadata.num_row_groups):
        for index in range(metadata.row_group(group).num_columns):
            column = metadata.row_group(group).column(index)
            growth = column.total_uncompressed_size // max(column.total_compressed_size, 1)
            if column.total_uncompressed_size > FREE_BYTES and growth > MAX_GROWTH:
                raise DataError(f"{path}: the column {column.path_in_schema} grows to {growth} times its size: a bomb, not text",
                                hint=_WHENCE)


def _without_nulls(value: Any) -> Any:
    """Tables spell every absent field as null, at any depth; of the columns themselves the reader sees to it."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _row(cells: dict[str, Any]) -> dict[str, Any]:
    return {name: _without_nulls(value) for name, value in cells.items()}


def _damaged(path: Path, number: int, error: Exception) -> DataError:
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
        return DataError(f"cannot read {path}: {error.strerror or error}", hint="check the path and its permissions")
    return DataError(f"{path}:{number + 1}: damaged ({_first_line(error)})", hint="copy or download it again")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
