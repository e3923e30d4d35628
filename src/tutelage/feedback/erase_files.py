"""An erased person in the files that were made of the store: snapshots lose their rows and names, runs that learnt from these are tainted.

A snapshot keeps its name, which is the hash of what it was, so that a trace finds it; its record says how many rows are gone, and nothing
trains from it any more.
"""

from __future__ import annotations

import contextlib
import html
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select, update

from ..base.config import dump_yaml, read_yaml
from ..base.errors import ArtifactError, ConfigError
from ..base.files import artifact_dir, atomic_write_text, is_leftover
from ..base.scratch import sweep
from ..base.snapshot import RECORD, ROWS, record_of
from .schema import audit, snapshots, trainings
from .snapshot import FREEZING

RUN_TEXTS = (".json", ".jsonl", ".yaml", ".log", ".txt", ".html")
SHORT = 3
"""Characters below which a name could be any word or number of a log."""
SAMPLES = "masks.txt"
"""Rows of the data as a run showed them, which cannot be told apart any more."""
_PEOPLE = ("labelers", "held_out_labelers")


@dataclass(frozen=True)
class Traces:
    """What files know a person by: ids of judgements and tasks that are theirs or went with theirs; a labeler's name, and now's."""

    judgements: frozenset[int]
    tasks: frozenset[int]
    name: str | None
    now_called: str

    def in_row(self, row: dict[str, Any]) -> bool:
        """Whether a row of a snapshot goes."""
        return row.get("judgement") in self.judgements or row.get("task") in self.tasks or (
            self.name is not None and row.get("labeler") == self.name)


@dataclass
class Tainted:
    """A snapshot that held them. rows: how many of its rows were theirs; None where its folder is gone, so nobody can tell.

    runs: folders of the trainings that the store started on it; running: those of them that have not ended.
    """

    hash: str
    path: Path
    rows: int | None
    runs: list[Path] = field(default_factory=list)
    running: list[Path] = field(default_factory=list)


def tainted_snapshots(conn: Connection, traces: Traces, subject_hash: str, since: float) -> list[Tainted]:
    """The snapshots that hold them, and those that were known to. One that is gone is named if it was made after the store knew them."""
    found = []
    for row in conn.execute(select(snapshots).order_by(snapshots.c.id)):
        path = Path(row.path)
        known = any(one["subject_hash"] == subject_hash for one in row.tainted or [])
        rows = sum(traces.in_row(one) for _, one in _rows(path / ROWS)) if (path / ROWS).is_file() else None
        named = traces.name is not None and any(traces.name in row.counts.get(kind, {}) for kind in _PEOPLE)
        if rows or named or known or (rows is None and row.created_at >= since):
            runs = conn.execute(select(trainings.c.run_dir, trainings.c.state).where(trainings.c.snapshot_id == row.id)).all()
            found.append(Tainted(row.hash, path, rows, [Path(run.run_dir) for run in runs if run.run_dir],
                                 [Path(run.run_dir) for run in runs if run.state == "running"]))
    return found


def snapshot_folders(conn: Connection) -> set[Path]:
    """Where snapshots were frozen, or begun to be."""
    begun = conn.scalars(select(audit.c.details).where(audit.c.action == "freeze"))
    return {Path(row.path).parent for row in conn.execute(select(snapshots.c.path))} | {Path(one["path"]) for one in begun if "path" in one}


def beside_snapshots(conn: Connection, folders: Iterable[Path], traces: Traces) -> list[str]:
    """What lies there that no row tells of, so nobody redacts it; what killed processes left of freezing is deleted first."""
    known = set(conn.scalars(select(snapshots.c.hash)))
    told = []
    for folder in sorted(folders):
        told += [f"a snapshot that is being frozen now in {folder}, which begins anew without them" for _ in sweep(folder, FREEZING)]
        for path in sorted(folder.glob(f"*/{RECORD}")):
            with contextlib.suppress(ArtifactError, OSError, ValueError):
                if (record_of(path.parent) or {}).get("hash") in known:
                    continue
                if rows := sum(traces.in_row(row) for _, row in _rows(path.with_name(ROWS))):
                    told.append(f"{path.parent}, of which the store has no record and {rows} rows may be theirs: delete it, unless it is "
                                "another store's")
    return told


def cut_off(path: Path) -> list[Path]:
    """What lies beside a file that is being written, or was when its process died."""
    there = path.parent.iterdir() if path.parent.is_dir() else ()
    return sorted(left for left in there if left.name.startswith(f".{path.name}.tmp-") and is_leftover(left.name))


def mark(conn: Connection, found: Iterable[Tainted], traces: Traces, subject_hash: str, now: float) -> None:
    """Note in the store that these were tainted, and take the name out of what it keeps of them."""
    for one in found:
        row = conn.execute(select(snapshots.c.id, snapshots.c.counts, snapshots.c.tainted).where(snapshots.c.hash == one.hash)).one()
        notes = row.tainted or []
        if not any(note["subject_hash"] == subject_hash for note in notes):
            notes = [*notes, {"subject_hash": subject_hash, "at": now}]
        conn.execute(update(snapshots).where(snapshots.c.id == row.id).values(counts=_counts(row.counts, traces), tainted=notes))
        for number, result in conn.execute(select(trainings.c.id, trainings.c.result).where(trainings.c.snapshot_id == row.id)).all():
            conn.execute(update(trainings).where(trainings.c.id == number).values(result=renamed(result, traces)))


def redact_snapshot(path: Path, traces: Traces) -> int:
    """Take their rows and name out of a snapshot's folder. Returns how many rows went."""
    record = record_of(path)
    assert record is not None
    kept, gone = list[str](), 0
    for line, row in _rows(path / ROWS):
        if traces.in_row(row):
            gone += 1
        else:
            kept.append(line)
    named = record | {"counts": _counts(record.get("counts", {}), traces)}
    if not gone and named == record:
        return 0
    with artifact_dir(path) as made:
        atomic_write_text(made / ROWS, "".join(kept))
        named["erased"] = record.get("erased", 0) + gone
        atomic_write_text(made / RECORD, json.dumps(named, indent=1, ensure_ascii=False) + "\n")
    return gone


def redact_run(folder: Path, traces: Traces) -> list[Path]:
    """Take their words and name out of what a run wrote about its data; its weights are left. Returns the files that changed."""
    changed = []
    for path in _texts_of(folder):
        before = path.read_text(encoding="utf-8", errors="replace")
        after = _SAMPLES_GONE if path.name == SAMPLES else _redacted(path, before, traces)
        if after != before:
            atomic_write_text(path, after)
            changed.append(path)
    return changed


_SAMPLES_GONE = "The samples of the data that stood here are gone: people of that data were erased.\n"


def _texts_of(folder: Path) -> Iterator[Path]:
    """The files a run wrote beside its checkpoints, and what its process said."""
    if folder.is_dir():
        yield from (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix in RUN_TEXTS
                    and "ckpt" not in path.relative_to(folder).parts)
    if folder.with_suffix(".log").is_file():
        yield folder.with_suffix(".log")


def _redacted(path: Path, text: str, traces: Traces) -> str:
    if path.suffix == ".jsonl":
        return "".join(_redacted_line(line, traces) for line in text.splitlines(keepends=True))
    if path.suffix == ".json":
        return _redacted_line(text, traces, indent=1)
    if path.suffix == ".yaml":
        try:
            before = read_yaml(path)
        except ConfigError:                                         # nobody's settings
            return text
        after = renamed(before, traces)
        return text if after == before else dump_yaml(after)
    return text if traces.name is None else _standing_alone(traces.name).sub(lambda _: traces.now_called, text)


def _standing_alone(name: str) -> re.Pattern[str]:
    """The name where it is no part of a longer word; a short one only in quotes, or where a log tells somebody's weight."""
    either = "|".join(map(re.escape, dict.fromkeys((name, html.escape(name)))))
    if len(name) < SHORT:
        return re.compile(rf"(?<=reliability: )(?:{either})(?=: weight )|(?<=['\"])(?:{either})(?=['\"])")
    return re.compile(rf"(?<!\w)(?:{either})(?!\w)")


def _redacted_line(line: str, traces: Traces, indent: int | None = None) -> str:
    """A JSON text as it was where nothing of it goes; nothing where all of it does."""
    try:
        before = json.loads(line)
    except ValueError:                                              # cut off by a kill
        return line
    after = _without(before, traces)
    return line if after == before else "" if after is None else json.dumps(after, indent=indent, ensure_ascii=False) + "\n"


def _without(row: Any, traces: Traces) -> Any:
    """A row of report/disagreements.jsonl without what they said; None where it is about their texts. All else with the name changed."""
    if isinstance(row, dict):
        if row.get("task") in traces.tasks:
            return None
        if isinstance(row.get("said"), list):
            row = row | {"said": [said for said in row["said"] if not traces.in_row(said)]}
            if not row["said"]:
                return None
    return renamed(row, traces)


def renamed(document: Any, traces: Traces) -> Any:
    """The document with the name replaced where it is a whole key or text."""
    if traces.name is None:
        return document
    if isinstance(document, dict):
        return {_name(key, traces): renamed(value, traces) for key, value in document.items()}
    if isinstance(document, list):
        return [renamed(value, traces) for value in document]
    return _name(document, traces)


def _name(value: Any, traces: Traces) -> Any:
    return traces.now_called if value == traces.name else value


def _counts(counts: dict[str, Any], traces: Traces) -> dict[str, Any]:
    """A snapshot's counts with the name replaced where people are counted."""
    return counts | {kind: renamed(counts[kind], traces) for kind in _PEOPLE if kind in counts}


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            yield line, json.loads(line)
