"""Snapshots: the judgements of a moment as a folder that never changes, so that a model can say what it learnt from.

judgements.jsonl holds base.records.Judgement rows, oldest first; snapshot.json says how many of what there are and what was left out.
The sha256 of the rows is the snapshot's name: the same judgements give the same bytes, on SQLite and on PostgreSQL.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, insert, select

from tutelage.base.errors import ArtifactError, ConfigError, DataError, did_you_mean
from tutelage.base.files import artifact_dir, atomic_write_text, verify_manifest, writing
from tutelage.base.records import SAYS, Judgement, Response, prompt_from_json
from tutelage.base.snapshot import RECORD, ROWS, record_of
from tutelage.base.times import utc_time
from tutelage.feedback.schema import PURPOSES as ALL_PURPOSES
from tutelage.feedback.schema import judgements, labelers, prompts, responses, retractions, snapshots, tasks

PURPOSES = ("work", "shared", "adjudication", "rollout")
"""Judgements of these tasks are taken unless others are named; practice, screening, gold and drift items measure people."""
Found = Row[*tuple[Any, ...]]
_ROWS_AT_ONCE = 500
_NAME_LENGTH = 16


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
    """A frozen folder. counts: as in snapshot.json; what was left out, and why, is among them."""

    path: Path
    hash: str
    selection: dict[str, Any]
    counts: dict[str, Any] = field(repr=False)


def freeze(conn: Connection, folder: Path, selection: Selection | None = None) -> Snapshot:
    """Write the selected judgements into `folder`/<first digits of their hash>; one that is there already is kept as it is.

    conn: only reads, so that people can go on submitting; the row of the table is `record`'s. Retracted and erased judgements are left out
    and counted, and so are those on prompts without consent.
    Raises: DataError when nothing is selected; ArtifactError when a snapshot of that name is there and damaged.
    """
    selection, counts = selection or Selection(), Counts()
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".freezing-", dir=folder) as aside:
            rows, digest = Path(aside, ROWS), hashlib.sha256()
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
                record = {"hash": name, "selection": _plain(selection), "counts": counts.told()}
                with artifact_dir(target) as made:
                    os.rename(rows, made / ROWS)
                    atomic_write_text(made / RECORD, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
            elif (record_of(target) or {}).get("erased"):
                raise ArtifactError(f"{target} is this snapshot without people who were erased, and the store has them again",
                                    hint="was a backup restored? erase them again: tutelage feedback erase")
    return open_snapshot(target)


def open_snapshot(folder: Path) -> Snapshot:
    """A frozen folder, held to its manifest. Raises: ArtifactError when it is none, or was changed."""
    record = record_of(folder)
    if record is None:
        raise ArtifactError(f"{folder} holds no snapshot (no {RECORD})", hint="freeze judgements with: tutelage feedback snapshot")
    verify_manifest(folder)
    return Snapshot(folder, record["hash"], record["selection"], record["counts"])


def record(conn: Connection, snapshot: Snapshot, *, now: float, created_by: int | None = None) -> int:
    """The id of the snapshot's row; the one that is there when the same judgements were frozen before."""
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
        select(judgements, tasks.c.response_ids, tasks.c.purpose, tasks.c.prompt_id, prompts.c.content, prompts.c.split, prompts.c.consent,
               labelers.c.name.label("labeler"), labelers.c.group, labelers.c.held_out, labelers.c.erased_at,
               retractions.c.id.label("retraction"))
        .select_from(judgements.join(tasks).join(prompts, tasks.c.prompt_id == prompts.c.id)
                     .join(labelers, judgements.c.labeler_id == labelers.c.id)
                     .outerjoin(retractions, retractions.c.judgement_id == judgements.c.id))
        .where(*wanted).order_by(judgements.c.id))
    for batch in conn.execute(query, execution_options={"yield_per": _ROWS_AT_ONCE}).partitions():
        answers = _responses(conn, {i for row in batch for i in row.response_ids})
        for row in batch:
            found = _out(row) or _judgement(row, [answers.get(i) for i in row.response_ids])
            if isinstance(found, Judgement):
                yield row, found
            else:
                counts.left_out[found] += 1


def _out(row: Found) -> str | None:
    """Why a judgement does not count, whatever it says."""
    if row.retraction is not None:
        return "retracted"
    if row.value is None or row.content is None or row.erased_at is not None:
        return "erased"
    return None if row.consent else "prompts without consent"


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
