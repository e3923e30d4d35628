"""What `tutelage data mask` does: a file read and written row by row, its personal data replaced."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from tutelage.base.errors import ConfigError, DataError, did_you_mean
from tutelage.base.files import atomic_path
from tutelage.feedback.pii import KINDS, Masker, PiiKind
from tutelage.text.convert import FORMATS, WRITE_AS, form_of
from tutelage.text.lines import Rejected, read_lines
from tutelage.text.readers import check_rejected
from tutelage.text.tables import kind_of, read_rows

_PIECE_CHARS = 1 << 16
"""A plain text is masked in pieces that end at the first blank line after so many characters, or at a line after sixteen times as many."""


def mask_file(file: Path, out: Path, keep: Collection[str] = ()) -> dict[str, Any]:
    """Write `file` to `out` without personal data; `out` is whole or absent.

    keep: kinds that stay as they are. Returns: what was done, with the number of spans per kind.
    Raises: ConfigError on an unknown kind or form, or when `out` is there; DataError when the file cannot be read or too many rows not.
    """
    for kind in keep:
        if kind not in KINDS:
            raise ConfigError(f"--keep {kind}: no such kind{did_you_mean(kind, KINDS)}", hint=f"one of: {', '.join(KINDS)}")
    kinds = [kind for kind in KINDS if kind not in keep]
    done = _mask_plain(file, out, kinds) if kind_of(file) == "plain" else _mask_rows(file, out, kinds)
    masked = done.pop("masked")
    return {"file": str(out)} | done | {"masked": {kind: masked[kind] for kind in KINDS if masked[kind]}}


def _mask_rows(file: Path, out: Path, kinds: Collection[PiiKind]) -> dict[str, Any]:
    counts, rejected, rows, rows_with_any = Counter[str](), list[Rejected](), 0, 0

    def masked_rows() -> Iterator[dict[str, Any]]:
        nonlocal rows, rows_with_any
        for number, row in read_rows(file):
            if isinstance(row, Rejected):
                rejected.append(row)
                continue
            masker = Masker(kinds)
            for text in _texts(row):
                masker.reserve(text)
            done = {name: _masked(value, masker) for name, value in row.items()}
            rows, rows_with_any = rows + 1, rows_with_any + bool(masker.counts)
            counts.update(masker.counts)
            yield _writable(done, file, number)

    suffix = form_of(out)
    with atomic_path(out) as aside:
        WRITE_AS[suffix](aside, masked_rows())
        check_rejected(rows, rejected, {})
    reasons = Counter(one.reason for one in rejected)
    return {"rows": rows, "rows_with_any": rows_with_any, "rejected": dict(reasons), "masked": counts}


def _mask_plain(file: Path, out: Path, kinds: Collection[PiiKind]) -> dict[str, Any]:
    if out.exists():
        raise ConfigError(f"--out {out} is already there", hint="remove it first, or choose another name")
    if out.name.endswith((*FORMATS, ".gz")):
        raise ConfigError(f"--out {out}: {file} is plain text and stays so", hint="end the name in .txt")
    masker, lines = Masker(kinds), 0
    with atomic_path(out) as aside, open(aside, "w", encoding="utf-8", newline="\n") as target:
        for piece in _pieces(file):
            lines += piece.count("\n") + 1
            target.write(masker.mask(piece)[0] + "\n")
    return {"lines": lines, "masked": masker.counts}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _masked(value: Any, masker: Masker) -> Any:
    """The value with every text in it masked, those inside a text that is itself JSON too; names of fields stay."""
    if isinstance(value, dict):
        return {name: _masked(item, masker) for name, item in value.items()}
    if isinstance(value, list):
        return [_masked(item, masker) for item in value]
    if not isinstance(value, str):
        return value
    if value[:1] in "[{" and value[-1:] in "]}":
        try:
            inner = json.loads(value)
        except (ValueError, RecursionError):
            inner = None
        if isinstance(inner, dict | list):
            done = _masked(inner, masker)
            return value if done == inner else json.dumps(done, ensure_ascii=False)
    return masker.mask(value)[0]


def _writable(row: dict[str, Any], file: Path, number: int) -> dict[str, Any]:
    """Raises: DataError where a table holds what JSON cannot, such as a date."""
    try:
        json.dumps(row, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DataError(f"{file}:{number}: {error}", hint="convert that column to text or numbers first") from error
    return row


def _pieces(file: Path) -> Iterator[str]:
    held, chars = list[str](), 0
    for _, line in read_lines(file):
        held.append(line)
        chars += len(line) + 1
        if chars >= (_PIECE_CHARS if not line.strip() else 16 * _PIECE_CHARS):
            yield "\n".join(held)
            held, chars = [], 0
    if held:
        yield "\n".join(held)
