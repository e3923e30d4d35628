"""Files into the store: prompts, answers, tasks, people and judgements, in batches, and nothing twice.

The same file read again adds nothing, a longer one adds what is new, and the same pair shown the other way round is the same item
(keys.py). A judgement that a file holds twice counts twice: its place tells it from the first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from tutelage.base.errors import DataError
from tutelage.base.files import sha256_file
from tutelage.base.records import Judgement
from tutelage.feedback.content import record_audit
from tutelage.feedback.errors import ContentError
from tutelage.feedback.io.keys import Place
from tutelage.feedback.io.rows import Batch, Prepared, prepare
from tutelage.feedback.store import Store
from tutelage.text.feedback import TaskKind, read_feedback
from tutelage.text.lines import Rejected
from tutelage.text.readers import Files, expand_files

_ROWS_AT_ONCE = 2000
_MOST_REASONS, _MOST_LINES = 1000, 20


@dataclass
class Reason:
    """Rows rejected for one reason, and where the first of them stand."""

    rows: int = 0
    lines: list[str] = field(default_factory=list)


@dataclass
class Imported:
    """What came of it. new: what -> rows added; known: judgements, skips and open items that the store had already."""

    read: int = 0
    new: Counter[str] = field(default_factory=Counter)
    known: int = 0
    rejected: dict[str, Reason] = field(default_factory=dict)

    @property
    def num_rejected(self) -> int:
        return sum(reason.rows for reason in self.rejected.values())

    def reject(self, found: Rejected) -> None:
        name = found.reason if found.reason in self.rejected or len(self.rejected) < _MOST_REASONS else "other reasons"
        reason = self.rejected.setdefault(name, Reason())
        reason.rows += 1
        if len(reason.lines) < _MOST_LINES:
            reason.lines.append(f"{found.file}:{found.line}")


def import_files(store: Store, files: Files, *, to_judge: TaskKind | None = None, overlap: int | None = None, prefix: str = "",
                 batch: str | None = None, dry_run: bool = False, **reading: Any) -> Imported:
    """Read files of feedback into the store, a few thousand rows at a time, beside whatever else it does.

    to_judge: make items to be judged of the prompts or answers, whatever the file says of them. overlap: how many people an item is for;
    None: as many as judged it, one for an open one. prefix: put before labelers' names, where those of two files mean different people.
    batch: a name for these items; the same item in two batches is two. dry_run: read, and add nothing. reading: as every reader's
    (tutelage.text.readers.ReadOptions).
    Raises: DataError when a file cannot be read, at the line where it breaks: what stood before it is in the store then, and reading the
        mended file adds the rest.
    """
    done = Imported()
    for path in expand_files(files):
        digest = sha256_file(path)
        before = done.new.copy()
        for found in _batches(_prepared(path, digest, to_judge, prefix, batch, reading, done)):
            if dry_run:
                continue
            made = store.write(partial(_write, found, name=path.name, overlap=overlap, now=store.now()))
            done.new += made.new
            done.known += made.known
            for row in made.erased:
                done.reject(Rejected(path, row.place.line, "its prompt, an answer or who said it was erased here"))
        if done.new != before:
            added: dict[str, Any] = dict(done.new - before)
            store.write(partial(record_audit, action="feedback.import", now=store.now(), subject=path.name, sha256=digest, **added))
    return done


def _batches(rows: Iterator[Prepared]) -> Iterator[list[Prepared]]:
    """So many rows at a time; where the file breaks, first what stood before."""
    found: list[Prepared] = []
    try:
        for row in rows:
            found.append(row)
            if len(found) == _ROWS_AT_ONCE:
                yield found
                found = []
    except DataError:
        if found:
            yield found
        raise
    if found:
        yield found


def _write(rows: Sequence[Prepared], conn: Connection, **about: Any) -> Batch:
    return Batch(conn, rows, **about).write()


def _prepared(path: Path, digest: str, to_judge: TaskKind | None, prefix: str, batch: str | None, reading: dict[str, Any],
              done: Imported) -> Iterator[Prepared]:
    for _, line, part, item in read_feedback(path, to_judge=to_judge, **reading):
        done.read += 1
        if isinstance(item, Rejected):
            done.reject(item)
            continue
        try:
            yield prepare(item, _labeler(path, prefix, item), item.extra.get("batch", batch), Place(digest, line, part))
        except (ValueError, ContentError) as error:
            done.reject(Rejected(path, line, str(error)))


def _labeler(path: Path, prefix: str, item: Judgement) -> str | None:
    """Who said it; a judgement whose file names nobody is laid to the file."""
    if item.extra.get("open"):
        return None
    return prefix + (item.labeler or f"{path.name.partition('.')[0]} (not named)")
