"""Erase a person: a labeler, or a customer by the id that their prompts carry. What they wrote is gone; that something was there stays.

Rows stay, so that nothing refers to nowhere: their texts become null, judgements get a retraction, and a tombstone (a keyed hash) keeps an
import from bringing the person back. What hangs on their texts goes with them: answers to their prompts, edits of their answers, and what
others said of these, since it may repeat them. Files that were made of the store: erase_files.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, delete, func, insert, or_, select, update

from ..base.errors import did_you_mean
from . import queue
from .accounts import check_another_admin
from .content import ERASED, record_audit
from .errors import ContentError
from .io.keys import select_in
from .pseudonyms import key_of_store, pseudonym, tombstone
from .schema import (
    Row,
    api_tokens,
    assignments,
    audit,
    conversations,
    invites,
    judgements,
    labelers,
    origins,
    prompts,
    reports,
    responses,
    retractions,
    sessions,
    tasks,
    tombstones,
)

REASON = "erased"
_AT_ONCE = 500


@dataclass(frozen=True)
class Subject:
    """Who is to be erased. what: "labeler" or "user". name: theirs, or the customer's id. labeler_id: None for a user.

    hash: their tombstone. pseudonym: what exports call them. erased_at: None unless they were erased before; then `prompts` says which of
    them were theirs, since a user's id is gone from them.
    """

    what: str
    name: str
    labeler_id: int | None
    hash: str
    pseudonym: str
    since: float
    erased_at: float | None = None
    prompts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Found:
    """Ids of the rows that speak of a person. own: their judgements; others: those of other people on what goes with their texts."""

    prompts: list[int]
    responses: list[int]
    tasks: list[int]
    own: list[int]
    others: list[int]
    assignments: list[int]
    reports: list[int]
    answers: list[int]
    conversations: list[int]
    audit: list[int]
    since: float

    @property
    def judgements(self) -> list[int]:
        return self.own + self.others

    def counts(self) -> dict[str, int]:
        """How many rows of what lose their content."""
        names = {"prompts": self.prompts, "answers": self.responses, "tasks": self.tasks, "judgements": self.own,
                 "judgements_of_others": self.others, "drafts_and_skips": self.assignments, "reports": self.reports,
                 "answers_to_reports": self.answers, "conversations": self.conversations, "audit": self.audit}
        return {name: len(ids) for name, ids in names.items() if ids}


def find(conn: Connection, what: str, name: str, key: str) -> Subject:
    """The person of that name, also one who was erased before. Raises: ContentError when the store knows nobody so called."""
    about = (what, name), tombstone(what, name, key), pseudonym(name, key)
    stone = conn.execute(select(tombstones).where(tombstones.c.subject_hash == about[1]).order_by(tombstones.c.id.desc())).first()
    if what == "labeler":
        row = conn.execute(select(labelers.c.id, labelers.c.created_at).where(labelers.c.name == name)).first()
        if row is not None:
            return Subject(*about[0], row.id, *about[1:], row.created_at)
    else:
        first = conn.execute(select(prompts.c.created_at).where(prompts.c.user == name).order_by(prompts.c.created_at)).first()
        if first is not None:
            return Subject(*about[0], None, *about[1:], first[0], None, tuple(stone.what["prompts"]) if stone else ())
    if stone is not None:
        return Subject(*about[0], stone.what.get("labeler"), *about[1:], stone.what["since"], stone.at, tuple(stone.what["prompts"]))
    names = labelers.c.name if what == "labeler" else prompts.c.user
    known = list(conn.scalars(select(names).where(names.is_not(None)).distinct()))
    raise ContentError(f"the store knows no {what} {name!r}{did_you_mean(name, known)}",
                       hint="names are on the page People and in: tutelage feedback stats --json")


def gather(conn: Connection, subject: Subject) -> Found:
    """Everything that speaks of them. Only reads."""
    who = subject.labeler_id
    asked = _prompts_of(conn, subject)
    answers = set(_ids(conn, responses, responses.c.prompt_id, asked))
    if who is not None:
        answers |= set(conn.scalars(select(responses.c.id).where(responses.c.author_id == who)))
        answers |= _after_critiques(conn, who)
    answers = _with_revisions(conn, answers)
    work = _tasks_of(conn, asked, answers)
    own = [] if who is None else list(conn.scalars(select(judgements.c.id).where(judgements.c.labeler_id == who)))
    others = sorted(set(_ids(conn, judgements, judgements.c.task_id, work)) - set(own))
    held = set(_ids(conn, assignments, assignments.c.task_id, work))
    talks = set(_ids(conn, conversations, conversations.c.assignment_id, held))
    said, answered = set(_ids(conn, reports, reports.c.task_id, work)), set[int]()
    if who is not None:
        held |= set(conn.scalars(select(assignments.c.id).where(assignments.c.labeler_id == who)))
        talks |= set(conn.scalars(select(conversations.c.id).where(conversations.c.labeler_id == who)))
        said |= set(conn.scalars(select(reports.c.id).where(reports.c.labeler_id == who)))
        answered = set(conn.scalars(select(reports.c.id).where(reports.c.answered_by == who))) - said
    return Found(sorted(asked), sorted(answers), sorted(work), own, others, sorted(held), sorted(said), sorted(answered), sorted(talks),
                 [row.id for row in conn.execute(select(audit)) if _speaks_of(row, subject)], subject.since)


def erase(conn: Connection, subject: Subject, *, now: float, by_id: int | None = None) -> Found:
    """Take their content out of the store's rows, within one write. What was found is returned: its ids name rows of snapshots.

    Raises: AccountError rather than leave the studio without an admin.
    """
    found = gather(conn, subject)
    if subject.labeler_id is not None:
        check_another_admin(conn, subject.labeler_id)
        queue.revoke(conn, subject.labeler_id, now=now)
        _known_answers(conn, subject.labeler_id)
        _close_account(conn, subject, now)
    queue.withdraw(conn, found.tasks, now=now)
    _hide_hashes(conn, found.prompts)
    _set(conn, prompts, found.prompts, content=None, user=None, extra={}, erased_at=now)
    _set(conn, responses, found.responses, text=None, logprobs=None, sampling=None, erased_at=now)
    _set(conn, tasks, found.tasks, expected=None, extra={ERASED: True})
    _set(conn, judgements, found.judgements, value=None)
    _set(conn, assignments, found.assignments, draft=None, reason=None)
    _set(conn, reports, found.reports, text=None, answer=None)
    _set(conn, reports, found.answers, answer=None)
    _set(conn, conversations, found.conversations, messages=None, comment=None, rating=None)
    _retract(conn, found.judgements, now, by_id)
    for row in select_in(conn, audit.c.id, found.audit, *audit.c):
        conn.execute(update(audit).where(audit.c.id == row.id).values(subject=_plain(row.subject), details=_plain_details(row.details)))
    told = {"what": subject.what, "labeler": subject.labeler_id, "prompts": found.prompts, "since": subject.since, "counts": found.counts()}
    if subject.erased_at is None or found.prompts != list(subject.prompts):
        conn.execute(insert(tombstones).values(subject_hash=subject.hash, what=told, by_id=by_id, at=now))
    record_audit(conn, action="erase", now=now, actor_id=by_id, subject=f"{subject.what} {subject.labeler_id or ''}".strip(),
                 tombstone=subject.hash, **found.counts())
    return found


def erasures(conn: Connection) -> int:
    """A number that grows with each erasure: what was read of the store under another one may hold somebody who is gone."""
    return int(conn.scalar(select(func.max(audit.c.id)).where(audit.c.action == "erase")) or 0)


def is_erased(conn: Connection, what: str, names: Iterable[str]) -> set[str]:
    """Those of the names who were erased."""
    if conn.scalar(select(tombstones.c.id).limit(1)) is None:
        return set()
    key = key_of_store(conn)
    hashes = {tombstone(what, name, key): name for name in names}
    return {hashes[row.subject_hash] for row in select_in(conn, tombstones.c.subject_hash, hashes, tombstones.c.subject_hash)}


def sources(conn: Connection, found: Found) -> dict[str, tuple[int, str | None]]:
    """sha256 of the files that these rows were imported from -> (number of rows, the file's name, where the audit log has it)."""
    ours = {"judgement": set(found.own), "again": set(found.own), "response": set(found.responses), "task": set(found.tasks)}
    counts: dict[str, int] = {}
    for row in conn.execute(select(origins.c.key, origins.c.row_id, origins.c.file)):
        if row.row_id in ours.get(row.key.partition(":")[0], ()):
            counts[row.file] = counts.get(row.file, 0) + 1
    names = {row.details.get("sha256"): row.subject for row in conn.execute(select(audit).where(audit.c.action == "feedback.import"))}
    return {file: (count, names.get(file)) for file, count in counts.items()}


def _prompts_of(conn: Connection, subject: Subject) -> set[int]:
    if subject.labeler_id is None:
        return set(conn.scalars(select(prompts.c.id).where(prompts.c.user == subject.name))) | set(subject.prompts)
    own = (prompts.c.source == "labeler") & (prompts.c.user == subject.name)
    return set(conn.scalars(select(prompts.c.id).where(or_(prompts.c.author_id == subject.labeler_id, own)))) | set(subject.prompts)


def _with_revisions(conn: Connection, answers: set[int]) -> set[int]:
    """Also what was made of these answers, and of that."""
    made_of = conn.execute(select(responses.c.id, responses.c.revises_id).where(responses.c.revises_id.is_not(None))).all()
    found, before = set(answers), -1
    while len(found) > before:
        before = len(found)
        found |= {made for made, of in made_of if of in found}
    return found


def _after_critiques(conn: Connection, labeler_id: int) -> set[int]:
    """What models made of their critiques, which it may repeat: tasks that were held for them name it."""
    theirs = select(tasks.c.extra).join(assignments).where(assignments.c.labeler_id == labeler_id, tasks.c.kind == "edit")
    return {extra["revision"] for extra in conn.scalars(theirs) if "revision" in extra}


def _tasks_of(conn: Connection, asked: set[int], answers: set[int]) -> set[int]:
    """Tasks on these prompts, or that show one of these answers."""
    around = {row.prompt_id for row in select_in(conn, responses.c.id, answers, responses.c.prompt_id)}
    rows = select_in(conn, tasks.c.prompt_id, asked | around, tasks.c.id, tasks.c.prompt_id, tasks.c.response_ids)
    return {row.id for row in rows if row.prompt_id in asked or not answers.isdisjoint(row.response_ids)}


def _known_answers(conn: Connection, labeler_id: int) -> None:
    """What they said as an expert or lead stands once more with gold items: their comments and reasons go from there too."""
    details = conn.scalars(select(audit.c.details).where(audit.c.actor_id == labeler_id)).all()
    made = {found[name] for found in details for name in ("follows", "made") if name in found}
    texts = set(conn.scalars(select(reports.c.text).where(reports.c.labeler_id == labeler_id)))
    for value in conn.scalars(select(judgements.c.value).where(judgements.c.labeler_id == labeler_id, judgements.c.value.is_not(None))):
        texts.update(_texts(value))
    for row in conn.execute(select(tasks.c.id, tasks.c.expected).where(tasks.c.expected.is_not(None))).all():
        kept = {name: value for name, value in row.expected.items()
                if not isinstance(value, str) or (row.id not in made and value not in texts)}
        if kept != row.expected:
            conn.execute(update(tasks).where(tasks.c.id == row.id).values(expected=kept))


def _hide_hashes(conn: Connection, ids: list[int]) -> None:
    """Put the hashes of prompts under the store's key: they still tell a copy, and nobody can try words on them."""
    key = key_of_store(conn)
    for row in select_in(conn, prompts.c.id, ids, prompts.c.id, prompts.c.hash, prompts.c.erased_at):
        if row.erased_at is None:
            conn.execute(update(prompts).where(prompts.c.id == row.id).values(hash=tombstone("prompt", row.hash, key)))


def _close_account(conn: Connection, subject: Subject, now: float) -> None:
    """Nobody can sign in as them, and nothing says who they were."""
    who = subject.labeler_id
    conn.execute(delete(sessions).where(sessions.c.labeler_id == who))
    conn.execute(delete(api_tokens).where(api_tokens.c.labeler_id == who))
    conn.execute(update(invites).where(invites.c.used_by == who).values(group=None))
    conn.execute(update(labelers).where(labelers.c.id == who).values(
        name=_free_name(conn, f"erased {who}"), role="labeler", group=None, language="en", screening={"state": "erased"}, settings={},
        pay_per_hour=None, password_hash=None, failed_logins=0, locked_until=None, disabled_at=now, erased_at=now))


def _free_name(conn: Connection, name: str) -> str:
    while conn.scalar(select(labelers.c.id).where(labelers.c.name == name, labelers.c.erased_at.is_(None))) is not None:
        name += "'"
    return name


def _retract(conn: Connection, ids: list[int], now: float, by_id: int | None) -> None:
    there = {row.judgement_id for row in select_in(conn, retractions.c.judgement_id, ids, retractions.c.judgement_id)}
    rows = [{"judgement_id": id_, "by_id": by_id, "reason": REASON, "created_at": now} for id_ in ids if id_ not in there]
    if rows:
        conn.execute(insert(retractions), rows)


def _speaks_of(row: Any, subject: Subject) -> bool:
    """Whether a line of the audit log names them, or is of their own doing with words of their choosing in it."""
    if row.actor_id is not None and row.actor_id == subject.labeler_id:
        return _plain(row.subject) != row.subject or _plain_details(row.details) != row.details
    return subject.name in (row.subject, *_texts(row.details))


def _texts(document: Any) -> Iterable[str]:
    if isinstance(document, Mapping):
        for value in document.values():
            yield from _texts(value)
    elif isinstance(document, list):
        for value in document:
            yield from _texts(value)
    elif isinstance(document, str):
        yield document


def _plain(text: str | None) -> str | None:
    """What of an audit line's subject stays: a number, or the kind and number of a row."""
    return text if text is None or re.fullmatch(r"(\w+ )?\d+", text) else None


def _plain_details(details: Row) -> Row:
    """Numbers and hashes."""
    return {name: value for name, value in details.items()
            if isinstance(value, bool | int | float) or (isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value))}


def _ids(conn: Connection, table: Table, column: Any, values: Iterable[int]) -> list[int]:
    return [int(row.id) for row in select_in(conn, column, values, table.c.id)]


def _set(conn: Connection, table: Table, ids: list[int], **values: Any) -> None:
    for at in range(0, len(ids), _AT_ONCE):
        conn.execute(update(table).where(table.c.id.in_(ids[at:at + _AT_ONCE])).values(**values))
