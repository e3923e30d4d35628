"""Snapshots: the judgements of a moment as a folder that never changes, so that a model can say what it learnt from.

judgements.jsonl holds base.records.Judgement rows, oldest first; snapshot.json says how many of what there are and what was left out.
The sha256 of the rows is the snapshot's name: the same judgements give the same bytes, on SQLite and on PostgreSQL.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, case, insert, or_, select

from tutelage.base.errors import ArtifactError, ConfigError, DataError, TutelageError, did_you_mean
from tutelage.base.files import artifact_dir, atomic_write_text, fsync, remove_dir, verify_manifest, writing
from tutelage.base.records import SAYS, Judgement, Response, prompt_from_json
from tutelage.base.scratch import scratch_dir, sweep
from tutelage.base.snapshot import RECORD, ROWS, record_of
from tutelage.base.times import utc_time
from tutelage.feedback.content import record_audit
from tutelage.feedback.erase import erasures
from tutelage.feedback.schema import PURPOSES as ALL_PURPOSES
from tutelage.feedback.schema import judgements, labelers, prompts, responses, retractions, snapshots, tasks
from tutelage.feedback.store import Store

PURPOSES = ("work", "shared", "adjudication", "rollout")
"""Judgements of these tasks are taken unless others are named; practice, screening, gold and drift items measure people."""
FREEZING = ".freezing-"
"""What the folders begin with in which rows lie while they are frozen."""
Found = Row[*tuple[Any, ...]]
T = TypeVar("T")
JUDGED = (judgements.join(tasks).join(prompts, tasks.c.prompt_id == prompts.c.id).join(labelers, judgements.c.labeler_id == labelers.c.id)
          .outerjoin(retractions, retractions.c.judgement_id == judgements.c.id))
"""Every judgement with its task, prompt and labeler."""
OUT = case((retractions.c.id.is_not(None), "retracted"),
           (or_(judgements.c.value.is_(None), prompts.c.content.is_(None), labelers.c.erased_at.is_not(None)), "erased"),
           (~prompts.c.consent, "prompts without consent"))
"""Why one of JUDGED does not count, whatever it says; null where it does."""
_ROWS_AT_ONCE = 500
_NAME_LENGTH = 16
_TRIES = 5


@dataclass(frozen=True)
class Selection:
    """Which judgements: of these kinds, given on tasks of these purposes, before a time (UTC seconds), under these guidelines (all)."""

    kinds: tuple[str, ...] = tuple(SAYS)
    purposes: tuple[str, ...] = PURPOSES
    before: float | None = None
    guideline_versions: tuple[str, ...] = ()


def check_selection(selection: Selection) -> Selection:
    """The selection, if its words are known. Raises: ConfigError naming the nearest."""
    for what, given, known in (("kind", selection.kinds, tuple(SAYS)), ("purpose", selection.purposes, ALL_PURPOSES)):
        for name in given:
            if name not in known:
                raise ConfigError(f"there is no {what} {name!r} of judgements{did_you_mean(name, known)}",
                                  hint=f"one of {', '.join(known)}")
    return selection


@dataclass(frozen=True)
class Snapshot:
    """A frozen folder. counts: as in snapshot.json; what was left out, and why, is among them.

    Of one that was frozen just now: made: whether that made the folder, which else was there. erasures: `erase.erasures` when it was read.
    """

    path: Path
    hash: str
    selection: dict[str, Any]
    counts: dict[str, Any] = field(repr=False)
    made: bool = field(default=False, compare=False)
    erasures: int | None = field(default=None, compare=False)


class OutdatedError(TutelageError):
    """What was frozen cannot be recorded: somebody was erased meanwhile, or the folder is gone."""


def freeze_and_record(store: Store, folder: Path, selection: Selection | None, enter: Callable[[Connection, Snapshot, int], T], *,
                      created_by: int | None = None) -> tuple[Snapshot, T]:
    """Freeze, and record it in one write with `enter`, which gets the snapshot and its row's id. Returns both.

    Somebody who is erased meanwhile is in none: it is frozen anew. What `enter` refuses leaves no folder behind that no erasure would find.
    Raises: as `freeze` and `enter` do; OutdatedError when people are erased faster than can be frozen.
    """
    def recorded(frozen: Snapshot, conn: Connection) -> T:
        return enter(conn, frozen, record(conn, frozen, now=store.now(), created_by=created_by))

    # Where it is frozen is noted first: an erasure looks there for what a killed process left.
    store.write(lambda conn: record_audit(conn, action="freeze", now=store.now(), path=str(folder.resolve())))
    for left in reversed(range(_TRIES)):
        with store.read() as conn:
            frozen = freeze(conn, folder, selection)
        try:
            return frozen, store.write(partial(recorded, frozen))
        except BaseException as error:
            with suppress(TutelageError):                           # the first error is told; an erasure names what stays
                _take_away(store, frozen)
            if not (left and isinstance(error, OutdatedError)):
                raise
    raise AssertionError("the last try returned or raised")


def _take_away(store: Store, frozen: Snapshot) -> None:
    """Delete a folder that was made just now and that no row tells of. Under the write lock, so that nobody records it meanwhile."""
    def work(conn: Connection) -> None:
        known = conn.execute(select(snapshots.c.id).where(snapshots.c.hash == frozen.hash)).first()
        if known is None and frozen.path.exists():
            remove_dir(frozen.path)

    if frozen.made:
        store.write(work)


def freeze(conn: Connection, folder: Path, selection: Selection | None = None) -> Snapshot:
    """Write the selected judgements into `folder`/<first digits of their hash>; one that is there already is kept as it is.

    conn: only reads, so that people can go on submitting; the row of the table is `record`'s. Retracted and erased judgements are left out
    and counted, and so are those on prompts without consent.
    Raises: DataError when nothing is selected; ArtifactError when a snapshot of that name is there and damaged.
    """
    selection, counts, made = selection or Selection(), Counts(), False
    erased = erasures(conn)                                         # of the same moment as the rows
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder, FREEZING)
        with scratch_dir(folder, FREEZING) as aside:
            rows, digest = aside / ROWS, hashlib.sha256()
            with rows.open("wb") as out:
                for found, judgement in _selected(conn, selection, counts):
                    line = _line(judgement)
                    if line is None:
                        counts.left_out["text that cannot be stored"] += 1
                        continue
                    digest.update(line)
                    out.write(line)
                    counts.add(found, judgement)
            if not counts.total:
                raise DataError(f"nothing to freeze: {counts.told_left_out() or 'no judgement is selected'}",
                                hint="choose other kinds or purposes, or collect judgements first")
            name = digest.hexdigest()
            target = folder / name[:_NAME_LENGTH]
            if not target.exists():
                made = _put(rows, target, {"hash": name, "selection": _plain(selection), "counts": counts.told()})
            if not made and (record_of(target) or {}).get("erased"):
                raise ArtifactError(f"{target} is this snapshot without people who were erased, and the store has them again",
                                    hint="was a backup restored? erase them again: tutelage feedback erase")
    return replace(open_snapshot(target), made=made, erasures=erased)


def _put(rows: Path, target: Path, record: dict[str, Any]) -> bool:
    """Make the folder beside its rows, where a sweep finds it, and give it its name. False: another was quicker."""
    with artifact_dir(rows.with_name(target.name)) as made:
        os.rename(rows, made / ROWS)
        atomic_write_text(made / RECORD, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    try:
        os.rename(rows.with_name(target.name), target)
    except OSError:
        if not target.exists():
            raise
        return False
    fsync(target.parent)
    return True


def open_snapshot(folder: Path) -> Snapshot:
    """A frozen folder, held to its manifest. Raises: ArtifactError when it is none, or was changed."""
    record = record_of(folder)
    if record is None:
        raise ArtifactError(f"{folder} holds no snapshot (no {RECORD})", hint="freeze judgements with: tutelage feedback snapshot")
    verify_manifest(folder)
    return Snapshot(folder, record["hash"], record["selection"], record["counts"])


def record(conn: Connection, snapshot: Snapshot, *, now: float, created_by: int | None = None) -> int:
    """The id of the snapshot's row; the one that is there when the same judgements were frozen before.

    Raises: OutdatedError when somebody was erased since it was read, or another process took its folder away.
    """
    if (snapshot.erasures is not None and erasures(conn) != snapshot.erasures) or not snapshot.path.exists():
        raise OutdatedError("somebody was erased while their judgements were frozen", hint="freeze again")
    known = conn.execute(select(snapshots.c.id).where(snapshots.c.hash == snapshot.hash)).scalar()
    if known is not None:
        return int(known)
    made = conn.execute(insert(snapshots).values(hash=snapshot.hash, path=str(snapshot.path.resolve()), selection=snapshot.selection,
                                                 counts=snapshot.counts, created_by=created_by, created_at=now))
    return int(made.inserted_primary_key[0])                         # type: ignore[index]  # a row was inserted, so it has a key


class Counts:
    """What a snapshot holds, and what it does not."""

    def __init__(self) -> None:
        self.by: dict[str, Counter[str]] = {name: Counter() for name in (
            "kinds", "labelers", "held_out_labelers", "groups", "splits", "purposes", "interface_versions", "guideline_versions")}
        self.left_out: Counter[str] = Counter()
        self.total, self._prompts = 0, set[int]()
        self._first, self._last = math.inf, -math.inf

    def add(self, row: Found, judgement: Judgement) -> None:
        self.total += 1
        self._prompts.add(row.prompt_id)
        self._first, self._last = min(self._first, row.created_at), max(self._last, row.created_at)
        values = {"kinds": judgement.kind, "held_out_labelers" if row.held_out else "labelers": row.labeler, "groups": row.group or "",
                  "splits": row.split, "purposes": row.purpose, "interface_versions": row.interface_version or "",
                  "guideline_versions": row.guideline_version or ""}
        for name, value in values.items():
            self.by[name][value] += 1

    def told(self) -> dict[str, Any]:
        """As snapshot.json has it; "" stands for judgements that do not say."""
        return {"judgements": self.total, "prompts": len(self._prompts), "first": _iso(self._first), "last": _iso(self._last),
                **{name: dict(sorted(found.items())) for name, found in self.by.items()}, "left_out": dict(sorted(self.left_out.items()))}

    def told_left_out(self) -> str:
        return ", ".join(f"{count} {why}" for why, count in self.left_out.most_common())


def _selected(conn: Connection, selection: Selection, counts: Counts) -> Iterator[tuple[Found, Judgement]]:
    """The judgements that stand, in the order they were given; the others are counted. One statement, so one moment of the store."""
    wanted: list[ColumnElement[bool]] = [judgements.c.kind.in_(selection.kinds), tasks.c.purpose.in_(selection.purposes)]
    if selection.before is not None:
        wanted.append(judgements.c.created_at < selection.before)
    if selection.guideline_versions:
        wanted.append(judgements.c.guideline_version.in_(selection.guideline_versions))
    query = (
        select(judgements, tasks.c.response_ids, tasks.c.purpose, tasks.c.prompt_id, prompts.c.content, prompts.c.split,
               labelers.c.name.label("labeler"), labelers.c.group, labelers.c.held_out, OUT.label("out"))
        .select_from(JUDGED).where(*wanted).order_by(judgements.c.id))
    for batch in conn.execute(query, execution_options={"yield_per": _ROWS_AT_ONCE}).partitions():
        answers = _responses(conn, {i for row in batch for i in row.response_ids})
        for row in batch:
            found = row.out or _judgement(row, [answers.get(i) for i in row.response_ids])
            if isinstance(found, Judgement):
                yield row, found
            else:
                counts.left_out[found] += 1


def _judgement(row: Found, shown: Sequence[Found | None]) -> Judgement | str:
    """The judgement, or why it cannot be one."""
    answers = [answer for answer in shown if answer is not None and answer.text is not None]
    if len(answers) < len(shown):
        return "erased"
    value = row.value
    said = {name: value.get(name) for name in ("rating", "label", "critique", "edit", "strength")}
    ranks = value.get("ranks")
    if ranks is None and (value.get("tie") or value.get("both_bad")):
        ranks = [0] * len(shown)
    extra = {name: value[name] for name in ("ratings", "flags", "both_bad", "all_bad", "step", "comment") if value.get(name) is not None}
    extra |= {"judgement": row.id, "task": row.task_id, "purpose": row.purpose, "sides": row.sides or None,
              "interface_version": row.interface_version, "guideline_version": row.guideline_version,
              "split": row.split, "held_out_labeler": True if row.held_out else None}
    if value.get(SAYS[row.kind]) is None and ranks is None:
        return f"a {row.kind} without {SAYS[row.kind]}"
    try:
        return Judgement(prompt_from_json(row.content), tuple(map(_response, answers)), row.kind,
                         ranks=None if ranks is None else tuple(ranks), **said, labeler=row.labeler, group=row.group, weight=row.weight,
                         p_select=row.p_select, seconds=row.seconds, at=_iso(row.created_at),
                         extra={name: what for name, what in extra.items() if what is not None})
    except (ValueError, TypeError) as error:
        return f"unusable ({error})"


def _response(row: Found) -> Response:
    return Response(row.text, row.model, row.sampling, None if row.logprobs is None else tuple(row.logprobs))


def _responses(conn: Connection, ids: set[int]) -> dict[int, Found]:
    columns = (responses.c.id, responses.c.text, responses.c.model, responses.c.sampling, responses.c.logprobs)
    return {row.id: row for row in conn.execute(select(*columns).where(responses.c.id.in_(sorted(ids))))}


def _line(judgement: Judgement) -> bytes | None:
    """One row's bytes. Keys are sorted, because PostgreSQL keeps documents in an order of its own."""
    try:
        return (json.dumps(judgement.to_json(), ensure_ascii=False, sort_keys=True, allow_nan=False) + "\n").encode()
    except UnicodeEncodeError:
        return None


def _iso(seconds: float) -> str:
    return utc_time(seconds).isoformat()


def _plain(selection: Selection) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(selection)))
