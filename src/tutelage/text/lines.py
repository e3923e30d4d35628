"""Lines and JSON rows of a file, plain or gzipped, one at a time; a file that cannot be read says why in one line."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from tutelage.base.errors import DataError

JSON_SUFFIXES = (".jsonl", ".json", ".ndjson")
TEXT_SUFFIXES = (".txt", ".text", ".md")
_BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"PAR1": "Parquet", b"PK\x03\x04": "a zip archive", b"\x28\xb5\x2f\xfd": "zstd"}
_UNWRITABLE = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that was left out, and why."""

    file: Path
    line: int
    reason: str


def is_jsonl(path: Path) -> bool:
    """By the name, else by the first character that is not a space. Raises: DataError when the file cannot be read."""
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if suffix.lower() in JSON_SUFFIXES + TEXT_SUFFIXES:
        return suffix.lower() in JSON_SUFFIXES
    return next((line.lstrip().startswith("{") for _, line in read_lines(path) if line.strip()), False)


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number from 1, text without its line end). Gzip is told by content, a UTF-8 byte order mark is dropped.

    Raises: DataError naming file and line when the file is missing, empty, truncated, corrupt or not UTF-8.
    """
    number = 0
    try:
        with _opened(path) as stream:
            for number, raw in enumerate(stream, start=1):
                raw = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
                yield number, raw.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}:{number}: not UTF-8 (byte 0x{error.object[error.start]:02x} at column {error.start + 1})",
                        hint="convert it, for example: iconv -f latin1 -t utf-8") from error
    except EOFError as error:
        raise DataError(f"{path}:{number + 1}: the gzip file is truncated", hint="copy or download it again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}:{number + 1}: the gzip file is damaged ({error})", hint="copy or download it again") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}", hint="check the path and its permissions") from error
    if not number:
        raise DataError(f"{path} is empty", hint="check how the file was made, or leave it out")


def read_json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | Rejected]]:
    """(line number, object) of a JSON-lines file; a line that is not one object becomes a Rejected. Blank lines are skipped.

    Refused in a row: NaN and Infinity, which no schema means; a key given twice, since one value would silently vanish.
    Raises: DataError as read_lines; also when the file is one JSON array.
    """
    for number, line in read_lines(path):
        if not line.strip():
            continue
        if number == 1 and line.lstrip().startswith("["):
            raise DataError(f"{path}:1: a JSON array, not JSON lines", hint="write one object per line: jq -c '.[]' FILE")
        try:
            row = json.loads(line, parse_constant=_no_constant, object_pairs_hook=_no_duplicates)
        except (ValueError, RecursionError) as error:
            reason = f"not JSON: {error.msg}" if isinstance(error, json.JSONDecodeError) else str(error)
            yield number, Rejected(path, number, "NUL bytes" if "\0" in line else reason)
            continue
        yield number, row if isinstance(row, dict) else Rejected(path, number, f"a JSON {type(row).__name__}, not an object")


def unwritable(text: str) -> str | None:
    """Why a text cannot be tokenised and stored again, or None."""
    found = _UNWRITABLE.search(text)
    return None if found is None else "a NUL character" if found[0] == "\0" else "half a surrogate pair"


def _opened(path: Path) -> BinaryIO:
    with open(path, "rb") as stream:
        head = stream.read(4)
    kind = next((name for mark, name in _BOMS.items() if head.startswith(mark)), None)
    if kind is not None:
        raise DataError(f"{path}:1: {kind}, not UTF-8 text", hint="convert it to UTF-8 text or JSON lines first")
    if head.startswith(b"\x1f\x8b"):
        return gzip.open(path, "rb")  # type: ignore[return-value]
    if head and path.suffix == ".gz":
        raise DataError(f"{path} is named .gz but is not gzip data", hint="rename it, or compress it")
    return open(path, "rb")


def _no_constant(name: str) -> None:
    raise ValueError(f"the number {name}")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(k for k in keys if keys.count(k) > 1)!r} twice")
    return row
