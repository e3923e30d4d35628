"""Files into the store: prompts, answers, tasks, people and judgements, in batches, and nothing twice.

The same file read again adds nothing, a longer one adds what is new, and the same pair shown the other way round is the same item
(keys.py). A judgement that a file holds twice counts twice: its place tells it from the first.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from tutelage.base.errors import ConfigError, DataError, TutelageError
from tutelage.base.files import sha256_file
from tutelage.base.records import Judgement
from tutelage.feedback.content import NO_CONSENT, holdable, record_audit
from tutelage.feedback.errors import ContentError
from tutelage.feedback.io.customers import Choice, choose, masked
from tutelage.feedback.io.keys import Place
from tutelage.feedback.io.rows import Batch, Prepared, prepare, user_of
from tutelage.feedback.splits import UserPrompt
from tutelage.feedback.store import Store
from tutelage.text.feedback import TaskKind, open_feedback
from tutelage.text.lines import Rejected
from tutelage.text.readers import Files, expand_files
from tutelage.text.values import MAX_NAME_CHARS

_ROWS_AT_ONCE = 200
"""Rows in one write, for which whoever claims or submits waits: 2000 are half as fast again, and the wait is three times as long."""
MOST_LOOKED_AT = 10_000
"""Rows of which a dry run counts what they would add: it holds them all."""
_MOST_REASONS, _MOST_LINES = 1000, 20


@dataclass
class Reason:
    """Rows rejected for one reason, and where the first of them stand."""

    rows: int = 0
    lines: list[str] = field(default_factory=list)


@dataclass
class Imported:
    """What came of it. new: what -> rows added; known: judgements, skips and open items that the store had already, or that the file
    holds twice; known_tasks: the open items of them. layouts: as which the files were read. counted: False for a dry run of more than
    MOST_LOOKED_AT rows, which does not say what is new and what is known.

    Of customers' files: masked: rows in which personal data was replaced, and of which kinds how much; left_out: why -> rows whose prompts
    may not be used.
    """

    read: int = 0
    new: Counter[str] = field(default_factory=Counter)
    known: int = 0
    known_tasks: int = 0
    rejected: dict[str, Reason] = field(default_factory=dict)
    layouts: list[str] = field(default_factory=list)
    counted: bool = True
    masked_rows: int = 0
    masked: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)

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
                 batch: str | None = None, source: str = "import", dry_run: bool = False, **reading: Any) -> Imported:
    """Read files of feedback into the store, a few hundred rows at a time, beside whatever else it does.

    to_judge: make items to be judged of the prompts or answers, whatever the file says of them. overlap: how many people an item is for;
    None: as many as judged it, one for an open one. prefix: put before labelers' names, where those of two files mean different people.
    batch: a name for these items; the same item in two batches is two. source: whose prompts these are; a "customer"'s are masked, and
    used as `customers.choose` says, for which the files are read twice. dry_run: count what would be added, and add nothing. reading: as
    every reader's (tutelage.text.readers.ReadOptions).
    Raises: ConfigError for a batch's name of more than MAX_NAME_CHARS; DataError when no row is as `where` says, or a file cannot be read,
        at the line where it breaks: what stood before it is in the store then, and reading the mended file adds the rest. The hint says how
        much that is, and the audit log has its line, with `broke_off`.
    """
    done = Imported()
    prefix, batch = holdable(prefix), None if batch is None else holdable(batch)
    if batch is not None and len(batch) > MAX_NAME_CHARS:
        raise ConfigError(f"a batch's name of {len(batch):,} characters", hint=f"at most {MAX_NAME_CHARS}")
    paths = expand_files(files)
    read = partial(_prepared, to_judge=to_judge, prefix=prefix, batch=batch, source=source, reading=reading, now=store.now())
    choice = _choice(store, chain.from_iterable(read(path, "", done=Imported()) for path in paths)) if source == "customer" else None
    held: list[Prepared] = []
    digests: dict[str, Path] = {}
    for path in paths:
        digest = sha256_file(path)
        digests[digest] = path
        before = done.new.copy()
        batches = _batches(_used(read(path, digest, done=done), choice, done))
        if dry_run:
            for found in batches:                                   # those beyond are read too, for what is wrong with them, and let go
                held += found[:MOST_LOOKED_AT + 1 - len(held)]
            continue
        whole = False
        try:
            for found in batches:
                made = store.write(partial(_write, found, name=path.name, overlap=overlap, source=source, now=store.now()))
                _count(done, made, digests)
            whole = True
        except TutelageError as error:
            error.hint = _what_is_in(done, path, error.hint)
            raise
        finally:                                                    # also where it breaks off: what came in names its file
            if done.new != before:
                added: dict[str, Any] = dict(done.new - before) | ({} if whole else {"broke_off": True})
                store.write(partial(record_audit, action="feedback.import", now=store.now(), subject=path.name, sha256=digest, **added))
    if reading.get("where") and not done.read:
        said = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in reading["where"].items())
        raise DataError(f"no row of {', '.join(path.name for path in paths)} has {said}",
                        hint="check the field's name, and its value as the file writes it: 1, true and words are different values")
    done.counted = len(held) <= MOST_LOOKED_AT
    if dry_run and done.counted:
        with store.read() as conn:
            _count(done, Batch(conn, held, name="", overlap=overlap, source=source, now=store.now()).look(), digests)
    return done


def _what_is_in(done: Imported, path: Path, hint: str | None) -> str | None:
    """The hint with what is in the store already, of this file and of those before it."""
    added = {name: count for name, count in done.new.items() if count}
    if not added:
        return hint
    there = f"in the store already, from {path.name} and the files before it: {', '.join(f'{n:,} {name}' for name, n in added.items())}"
    return "; ".join(filter(None, (hint, there, "give the mended file again, and only the rest is added")))


def _count(done: Imported, made: Batch, digests: Mapping[str, Path]) -> None:
    done.new += made.new
    done.known += made.known
    done.known_tasks += made.known_tasks
    for row in made.erased:
        done.reject(Rejected(digests[row.place.file], row.place.line, "its prompt, an answer or who said it was erased here"))
    for row in made.no_consent:
        done.reject(Rejected(digests[row.place.file], row.place.line, NO_CONSENT))


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


def _choice(store: Store, rows: Iterable[Prepared]) -> Choice:
    found = (((row.hash, user_of(row.judgement)), _whose(row)) for row in rows)
    with store.read() as conn:
        return choose(conn, found)


def _whose(row: Prepared) -> UserPrompt:
    return UserPrompt(row.judgement.prompt, "customer", user_of(row.judgement), bool(row.judgement.extra.get("consent")))


def _used(rows: Iterator[Prepared], choice: Choice | None, done: Imported) -> Iterator[Prepared]:
    """The rows that come in, each with the side its prompt is on."""
    for row in rows:
        key = row.hash, user_of(row.judgement)
        if choice is None:
            yield row
        elif key in choice.splits:
            yield replace(row, split=choice.splits[key])
        else:
            done.left_out[choice.left_out[key]] += 1


def _prepared(path: Path, digest: str, *, to_judge: TaskKind | None, prefix: str, batch: str | None, source: str,
              reading: dict[str, Any], now: float, done: Imported) -> Iterator[Prepared]:
    layout, items = open_feedback(path, to_judge=to_judge, **reading)
    done.layouts += [] if layout in done.layouts else [layout]
    for _, line, part, item in items:
        done.read += 1
        if isinstance(item, Rejected):
            done.reject(item)
            continue
        try:
            if source == "customer":
                item, counts = masked(item)
                done.masked_rows += bool(counts)
                done.masked.update(counts)
            elif item.extra.get("consent") is False:
                raise ContentError("it says that there is no consent")
            yield prepare(item, _labeler(path, prefix, item), item.extra.get("batch", batch), Place(digest, line, part), now=now)
        except (ValueError, ContentError) as error:
            done.reject(Rejected(path, line, str(error)))


def _labeler(path: Path, prefix: str, item: Judgement) -> str | None:
    """Who said it; a judgement whose file names nobody is laid to the file."""
    if item.extra.get("open"):
        return None
    return prefix + (item.labeler or f"{path.name.partition('.')[0]} (not named)")
