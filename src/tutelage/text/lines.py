"""Lines and JSON rows of a file, plain or gzipped, one at a time; a file that cannot be read says why in one line."""

from __future__ import annotations

import codecs
import gzip
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from tutelage.base.errors import DataError
from tutelage.base.files import require_file

MAX_ROW_BYTES = 64 << 20
"""A longer line or JSON value is refused unread, so that no file can fill the memory with one of them."""
MAX_GROWTH, FREE_BYTES = 200, 1 << 26
"""What is unpacked beyond so many bytes must not have grown more than so many times: text grows 3 to 30 times, a bomb a thousand."""
_PIECE = 1 << 20
_BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"PAR1": "Parquet", b"ARROW1": "Arrow", b"PK\x03\x04": "a zip archive",
         b"\x28\xb5\x2f\xfd": "zstd"}
_UNWRITABLE = re.compile("[\x00\ud800-\udfff]")
_MOST_REASON = 200
"""Characters."""
_SPACE = re.compile(r"[ \t\n\r]*")
_TOO_LONG = f"a line of more than {MAX_ROW_BYTES >> 20} MiB"


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that was left out, and why. `line`: where it begins; the row's number in a table without lines."""

    file: Path
    line: int
    reason: str


def read_lines(path: Path, *, keep_ends: bool = False) -> Iterator[tuple[int, str]]:
    """(line number from 1, text without its line end, unless that is kept). Gzip is told by content, a UTF-8 byte order mark is dropped.

    Raises: DataError naming file and line when the file is missing, empty, truncated, corrupt, not UTF-8, or a line never ends.
    """
    for number, line in _lines(path, keep_ends=keep_ends):
        if line is None:
            raise DataError(f"{path}:{number}: {_TOO_LONG}", hint="check that the file is what it should be, or break it into lines")
        yield number, line


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any] | Rejected]]:
    """(line number, object) of a JSON-lines file; a line that is not one object becomes a Rejected. Blank lines are skipped.

    Refused in a row: NaN and Infinity, which no schema means; a key given twice, since one value would silently vanish.
    Raises: DataError as read_lines, but for a line too long, which is one rejected row.
    """
    for number, line in _lines(path):
        if line is None:
            yield number, Rejected(path, number, _TOO_LONG)
        elif line and not line.isspace():
            try:
                row = _STRICT.decode(line)
            except (ValueError, RecursionError) as error:
                yield number, Rejected(path, number, "NUL bytes" if "\0" in line else reason_of(error))
            else:
                yield number, row if isinstance(row, dict) else Rejected(path, number, f"a JSON {type(row).__name__}, not an object")


def read_json_array(path: Path) -> Iterator[tuple[int, dict[str, Any] | Rejected]]:
    """(line number, object) of each element of a file that is one JSON array; the array is never held whole.

    Raises: DataError as read_lines; also where the array itself is broken, since what follows cannot be told apart.
    """
    window = _Window(path)
    if window.next_char() != "[":
        raise DataError(f"{path}:{window.line}: not a JSON array", hint="give one JSON object per line, or one array of objects")
    window.at += 1
    while (char := window.next_char()) != "]":
        if char == ",":
            window.at += 1
            continue
        row, line = window.value(), window.line
        yield line, row if isinstance(row, dict | Rejected) else Rejected(path, line, f"a JSON {type(row).__name__}, not an object")
    window.at += 1
    if window.next_char():
        raise DataError(f"{path}:{window.line}: text after the end of the JSON array", hint="give one array, or one object per line")


def unwritable(text: str) -> str | None:
    """Why a text cannot be tokenised and stored again, or None."""
    found = _UNWRITABLE.search(text)
    return None if found is None else "a NUL character" if found[0] == "\0" else "half a surrogate pair"


def first_bytes(path: Path, count: int = 4096) -> bytes:
    """How a file begins, unpacked if it is gzip, without its byte order mark. Raises: DataError when it cannot be read."""
    with _explained(path, lambda: 1):
        with open_binary(path) as stream:
            return stream.read(count).removeprefix(codecs.BOM_UTF8)


def open_binary(path: Path) -> BinaryIO:
    """The bytes of a regular file, unpacked if they are gzip. Raises: DataError, OSError."""
    require_file(path)
    file = open(path, "rb")
    head = file.read(2)
    file.seek(0)
    if head == b"\x1f\x8b":
        return io.BufferedReader(_Unpacked(path, file), _PIECE)  # type: ignore[return-value]
    if head and path.suffix.lower() == ".gz":
        file.close()
        raise DataError(f"{path} is named .gz but is not gzip data", hint="rename it, or compress it")
    return file


class _Unpacked(io.RawIOBase):
    """Gzip data, refused when it grows as no text does."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file, self._gzip, self._grown = path, file, gzip.GzipFile(fileobj=file), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._gzip.read1(len(buffer))
        buffer[:len(data)] = data
        self._grown += len(data)
        if self._grown > FREE_BYTES and self._grown > MAX_GROWTH * self._file.tell():
            raise DataError(f"{self._path} grows to more than {MAX_GROWTH} times its size: a gzip bomb, not text",
                            hint="unpack it yourself if you know better")
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


class _Window:
    """A stretch of a long JSON text that moves on. `at`: where we stand; `line`: its line number from 1."""

    def __init__(self, path: Path) -> None:
        self.path, self.text, self.at, self.line = path, "", 0, 1
        self._pieces, self._lines_inside = _pieces(path), 0

    def next_char(self) -> str:
        """The next character that is not a space, "" at the end of the file."""
        while True:
            end = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]
            self._pass(end)
            if end < len(self.text):
                return self.text[end]
            if not self._more():
                return ""

    def value(self) -> Any:
        """The JSON value here, or a Rejected for one that reads well but is refused. Moves behind it; `line` stays at its start."""
        while True:
            try:
                row, end = _STRICT.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                self._more_or_stop(error)
                continue
            except (ValueError, RecursionError) as error:
                row = Rejected(self.path, self.line, reason_of(error))
                try:
                    end = _LAX.raw_decode(self.text, self.at)[1]
                except (ValueError, RecursionError) as broken:
                    self._more_or_stop(broken)
                    continue
            start, self.at = self.at, end
            self._lines_inside = self.text.count("\n", start, end)
            return row

    def _pass(self, end: int) -> None:
        self.line += self._lines_inside + self.text.count("\n", self.at, end)
        self.at, self._lines_inside = end, 0

    def _more_or_stop(self, error: Exception) -> None:
        if not self._more():
            raise DataError(f"{self.path}:{self.line}: the JSON array is broken off or damaged here ({reason_of(error)})",
                            hint="copy or download it again; JSON lines bear a damaged row, an array does not") from error

    def _more(self) -> bool:
        """Read on, doubling what is held from `at`, so that a long value is not parsed too often. Returns: whether there was more."""
        held = self.text[self.at:]
        if len(held) > MAX_ROW_BYTES:
            raise DataError(f"{self.path}:{self.line}: a JSON value of more than {MAX_ROW_BYTES >> 20} MiB, or a damaged one",
                            hint="write one object per line: jq -c '.[]' FILE")
        parts, size = [held], 0
        while size <= len(held) and (piece := next(self._pieces, None)) is not None:
            parts.append(piece)
            size += len(piece)
        self.text, self.at = "".join(parts), 0
        return size > 0


def _lines(path: Path, *, keep_ends: bool = False) -> Iterator[tuple[int, str | None]]:
    """As read_lines, with None for a line too long to hold."""
    number = 0
    with _explained(path, lambda: number), open_binary(path) as stream:
        _refuse_foreign(path, stream.peek(8)[:8])  # type: ignore[attr-defined]
        while raw := stream.readline(MAX_ROW_BYTES + 1):
            number += 1
            if len(raw) > MAX_ROW_BYTES:
                while raw and raw[-1:] != b"\n":
                    raw = stream.readline(MAX_ROW_BYTES)
                yield number, None
                continue
            if number == 1:
                raw = raw.removeprefix(codecs.BOM_UTF8)
            line = raw.decode("utf-8")
            yield number, line if keep_ends else line.removesuffix("\n").removesuffix("\r")
    if not number:
        raise DataError(f"{path} is empty", hint="check how the file was made, or leave it out")


def _pieces(path: Path) -> Iterator[str]:
    """The text of a file, a piece at a time."""
    line, decoder = 1, codecs.getincrementaldecoder("utf-8-sig")()
    with _explained(path, lambda: line), open_binary(path) as stream:
        while raw := stream.read(_PIECE):
            piece = decoder.decode(raw)
            yield piece
            line += piece.count("\n")
        yield decoder.decode(b"", final=True)


@contextmanager
def _explained(path: Path, line: Any) -> Iterator[None]:
    """What goes wrong with the bytes of a file as a DataError naming file and line."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise DataError(f"{path}:{line()}: not UTF-8 (byte 0x{error.object[error.start]:02x} at column {error.start + 1})",
                        hint="convert it, for example: iconv -f latin1 -t utf-8") from error
    except EOFError as error:
        raise DataError(f"{path}:{line() + 1}: the gzip file is truncated", hint="copy or download it again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}:{line() + 1}: the gzip file is damaged ({error})", hint="copy or download it again") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}", hint="check the path and its permissions") from error


def _refuse_foreign(path: Path, head: bytes) -> None:
    kind = next((name for mark, name in _BOMS.items() if head.startswith(mark)), None)
    if kind is not None:
        raise DataError(f"{path}:1: {kind}, not UTF-8 text", hint="convert it to UTF-8 text or JSON lines first")


def reason_of(error: Exception) -> str:
    """Why a row is left out, on one line: what an error quotes from a row may be of any length, and Python's own words help nobody."""
    if isinstance(error, TypeError | OverflowError):
        return "a field holds another type of value than this layout has there"
    why = f"not JSON: {error.msg}" if isinstance(error, json.JSONDecodeError) else " ".join(str(error).split())
    return why if len(why) <= _MOST_REASON else why[: _MOST_REASON - 1] + "…"


def _no_constant(name: str) -> None:
    raise ValueError(f"the number {name}")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {twice!r} twice")
    return row


_STRICT = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_no_duplicates)
_LAX = json.JSONDecoder()
