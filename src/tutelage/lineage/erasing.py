"""Erase a person everywhere the store and the ledger can name, and tell what they cannot: the store's rows, snapshots, reports of runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from tutelage.base.errors import ArtifactError
from tutelage.base.files import read_json_object
from tutelage.feedback.erase import Found, Subject, erase, find, gather, sources
from tutelage.feedback.erase_files import (
    Tainted,
    Traces,
    beside_snapshots,
    cut_off,
    mark,
    redact_run,
    redact_snapshot,
    snapshot_folders,
    tainted_snapshots,
)
from tutelage.feedback.pseudonyms import key_of_store
from tutelage.feedback.schema import api_tokens, audit, labelers
from tutelage.feedback.store import Store

_LEFT = ("feedback.export", "backup", "download")
"""Lines of the audit log that say what left the store."""


@dataclass
class Erased:
    """What came of it, or what would (dry_run). counts: rows of the store by what they are.

    snapshots: what held them: {"snapshot", "rows"}; rows None where the folder is gone. tainted: runs that learnt from these, or from a run
    that did: {"run", "verb"}. redacted: files of runs that named them. scrubbed: whether no freed page of the database holds them any more.
    unreached: what a person has to look after: copies that left, by date, and models.
    """

    who: str
    pseudonym: str
    erased_before: str | None
    dry_run: bool
    counts: dict[str, int]
    snapshots: list[dict[str, Any]] = field(default_factory=list)
    tainted: list[dict[str, Any]] = field(default_factory=list)
    redacted: list[str] = field(default_factory=list)
    scrubbed: bool = False
    unreached: list[str] = field(default_factory=list)


def erase_person(store: Store, what: str, name: str, *, runs: Iterable[Path] = (), by_id: int | None = None, dry_run: bool = False
                 ) -> Erased:
    """Erase a labeler by name, or a customer ("user") by the id of their prompts. Done again, it finishes what was cut off.

    runs: folders in which runs are looked for, beside those that the store started. dry_run: tells what would go and changes nothing, but
    for the store's key, which is drawn if it was not.
    Raises: ContentError when there is nobody so called; AccountError rather than leave the studio without an admin.
    """
    key = store.write(key_of_store)
    with store.read() as conn:
        subject = find(conn, what, name, key)
        found = gather(conn, subject)
    if not dry_run:
        found = store.write(lambda conn: erase(conn, subject, now=store.now(), by_id=by_id))
    with store.read() as conn:
        traces = _traces(conn, subject, found)
        snapshots = tainted_snapshots(conn, traces, subject.hash, subject.since)
        copies = _copies(conn, subject, found)
    tainted = runs_made_of([*runs, *(run for one in snapshots for run in one.runs)], {one.hash for one in snapshots})
    told = Erased(f"{what} {name}", subject.pseudonym, _day(subject.erased_at), dry_run, found.counts(),
                  [{"snapshot": str(one.path), "rows": one.rows} for one in snapshots], tainted)
    if not dry_run:
        _clean_files(store, snapshots, tainted, traces, subject, told)
        with store.read() as conn:
            told.unreached += beside_snapshots(conn, snapshot_folders(conn), traces)
    told.unreached += [*copies, *_for_people(store, snapshots, tainted)]
    return told


def runs_made_of(folders: Iterable[Path], hashes: set[str]) -> list[dict[str, Any]]:
    """Runs in these folders, at any depth, that read one of the snapshots, or what such a run made: {"run", "verb"}, by name."""
    records: dict[Path, dict[str, Any]] = {}
    for file in {file.resolve() for folder in folders if folder.is_dir() for file in folder.rglob("lineage.json")}:
        try:
            records[file.parent] = read_json_object(file, hint="")
        except ArtifactError:
            continue                                                # not a run's, or cut off: it names no parent
    found = {run for run, record in records.items() if any(entry.get("snapshot") in hashes for entry in _parents(record))}
    before = -1
    while len(found) > before:
        before = len(found)
        found |= {run for run, record in records.items()
                  if any("run" in entry and Path(entry["run"]).resolve() in found for entry in _parents(record))}
    return [{"run": str(run), "verb": records[run].get("verb")} for run in sorted(found)]


def _parents(record: dict[str, Any]) -> list[dict[str, Any]]:
    parents = record.get("parents")
    entries = [entry for parent in (parents.values() if isinstance(parents, dict) else ())
               for entry in (parent if isinstance(parent, list) else [parent])]
    return [entry for entry in entries if isinstance(entry, dict)]


def _traces(conn: Connection, subject: Subject, found: Found) -> Traces:
    now_called = subject.what
    if subject.labeler_id is not None:
        now_called = conn.scalar(select(labelers.c.name).where(labelers.c.id == subject.labeler_id)) or now_called
    return Traces(frozenset(found.judgements), frozenset(found.tasks), subject.name if subject.what == "labeler" else None, now_called)


def _clean_files(store: Store, snapshots: list[Tainted], tainted: list[dict[str, Any]], traces: Traces, subject: Subject, told: Erased
                 ) -> None:
    store.write(lambda conn: mark(conn, snapshots, traces, subject.hash, store.now()))
    for one in snapshots:
        if one.rows is not None:
            redact_snapshot(one.path, traces)
    busy = {run.resolve() for one in snapshots for run in one.running}
    for run in dict.fromkeys([*(run for one in snapshots for run in one.runs), *(Path(row["run"]) for row in tainted)]):
        if run.resolve() not in busy:
            told.redacted += [str(path) for path in redact_run(run, traces) if str(path) not in told.redacted]
    why = store.scrub()
    told.scrubbed = why is None
    if why is not None:
        told.unreached.append(f"freed pages of the database: {why}; erase again when nobody uses it")


def _copies(conn: Connection, subject: Subject, found: Found) -> list[str]:
    """Files that left the store since it knew them, and those they came in, each with its date."""
    told = []
    for row in conn.execute(select(audit, labelers.c.name).outerjoin(labelers, labelers.c.id == audit.c.actor_id)
                            .where(audit.c.action.in_(_LEFT), audit.c.at >= subject.since).order_by(audit.c.at)):
        called = f"in which they are called {subject.name if row.details.get('names') else subject.pseudonym}"
        kind = {"feedback.export": f"the export of {_day(row.at)}, {called}", "backup": f"the backup of {_day(row.at)}",
                "download": f"what {row.name} downloaded on {_day(row.at)}, {called}"}[row.action]
        path = row.details.get("path")
        told.append(f"{kind}: {path or (row.action == 'download' and row.subject) or 'a file whose name is no longer known'}")
        told += [f"what was written of it until it was cut off: {left}" for left in cut_off(Path(path))] if path else []
    told += [f"what the program {row.name} read, last on {_day(row.last_seen_at)}" for row in conn.execute(select(api_tokens).where(
        api_tokens.c.last_seen_at >= subject.since).order_by(api_tokens.c.id)) if "judgements:read" in row.scopes]
    told += [f"{name or 'a file'} they came in with, {count} row{'s' * (count > 1)} (sha256 {file[:16]}…)" for file, (count, name) in
             sources(conn, found).items()]
    return told


def _for_people(store: Store, snapshots: list[Tainted], tainted: list[dict[str, Any]]) -> list[str]:
    """What cannot be redacted, or only known to be there."""
    told = [f"the snapshot {one.path}, which is not there any more" for one in snapshots if one.rows is None]
    told += [f"the weights of {row['run']}{_with_names(Path(row['run']))}: delete the run, and train it again" for row in tainted]
    told += [f"{run}, which is being trained now: stop it, and erase again" for one in snapshots for run in one.running]
    if store.url.get_backend_name() == "postgresql":
        told.append("PostgreSQL's write-ahead log until it is recycled, its archive, replicas and dumps")
    return [*told, "copies that were made without this tool, and drafts in their own browser"]


def _with_names(run: Path) -> str:
    """What names people beside a reward model's weights: the scales of those who rated (recipes.reward_model_scales)."""
    return " and people.json beside them, which names who rated" if next(run.glob("**/people.json"), None) is not None else ""


def _day(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")
