"""Who judges what, when: tasks are claimed, held for a while, and judged, skipped, undone or given back.

Of each task `overlap` people are wanted; `tasks.free` counts those still wanted, less reservations and submissions. Every function here is
one step within a write of the store (`store.write(lambda conn: queue.claim(conn, 7, now=store.now()))`), and writes happen one after
another, so that no more people than wanted ever hold or have judged a task, and a place that is given back is there for the next.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from . import values
from .content import ERASED, clean, is_unwanted, record_audit
from .draws import COUNTED, Person, Pick, allowed, pick
from .errors import ContentError, ErasedError, KeptError, QueueError
from .guidelines import IN_FORCE
from .newcomers import count_answer
from .schema import KINDS
from .shares import from_document
from .sql import dump, load, run

FUTURE_SECONDS = 60.0                                               # a reservation made later than now by more: the clock was set back
DAY = 86400.0
_RANDOM = random.SystemRandom()
_COUNTED = ", ".join(repr(purpose) for purpose in COUNTED)


@dataclass(frozen=True)
class Claim:
    """A task held for a labeler. `sides`: position on the page -> index into `response_ids`. `draft`: what they had typed, as shown."""

    assignment_id: int
    task_id: int
    kind: str
    purpose: str
    prompt_id: int | None
    response_ids: tuple[int, ...]
    sides: tuple[int, ...]
    draft: Any
    expires_at: float

    @property
    def shown_ids(self) -> tuple[int, ...]:
        """The answers in the page's order."""
        return tuple(self.response_ids[side] for side in self.sides)


def claim(conn: Connection, labeler_id: int, *, now: float, kinds: Sequence[str] | None = None, without: Sequence[str] = (),
          seconds: float | None = None, rng: random.Random = _RANDOM) -> Claim | None:
    """The labeler's next task, held for them; the one they hold already, where they do. None: there is nothing for them now.

    Args: kinds: only these. without: none of these, for the time being. seconds: how long to hold it (default: the queue's setting).
    Raises: QueueError when there is no such labeler or their account is closed.
    """
    for kind in kinds or ():
        if kind not in KINDS:
            raise ContentError(f"there is no kind of task {kind!r}", hint=f"kinds are {', '.join(KINDS)}")
    release_expired(conn, now=now)
    person, failed = _person(conn, labeler_id, now)
    among = allowed(kinds, without)
    held = _held(conn, labeler_id, among)
    if held is not None or failed:
        return held
    chosen = _left_behind(conn, labeler_id, among) or pick(conn, person, kinds, rng, without)
    return None if chosen is None else _reserve(conn, chosen, labeler_id, now, seconds or person.shares.reservation_seconds, rng)


def resume(conn: Connection, labeler_id: int, *, kinds: Sequence[str] | None = None, without: Sequence[str] = ()) -> Claim | None:
    """The task this labeler holds (the newest, of several), if any. Only reads."""
    return _held(conn, labeler_id, allowed(kinds, without))


def give(conn: Connection, task_id: int, labeler_id: int, *, now: float, sides: Sequence[int] | None = None,
         guideline_version: str | None = None) -> Claim:
    """Hold a new task for somebody by name, outside all draws: what comes out of their own work, such as a turn of their conversation.

    It was made for them alone, so its p_select is the task's, and having written its prompt does not bar them. sides, guideline_version:
    of what was shown before it became a task, and under which guidelines; without sides it is shown now.
    Raises: QueueError when it is not open, or there is no such labeler.
    """
    person, _ = _person(conn, labeler_id, now)
    row = run(conn, """SELECT id, kind, purpose, prompt_id, response_ids, p_select FROM tasks
                       WHERE id = :task AND free > 0 AND state = 'open'""", task=task_id).fetchone()
    if row is None:
        raise QueueError("this task is not open")
    held = _reserve(conn, Pick(*(*row[:4], tuple(load(row[4])), row[5])), labeler_id, now, person.shares.reservation_seconds, _RANDOM)
    if sides is None:
        return held
    run(conn, "UPDATE assignments SET sides = :sides, guideline_version = :guideline WHERE id = :id",
        sides=dump(list(sides)), guideline=guideline_version, id=held.assignment_id)
    return replace(held, sides=tuple(sides))


def submit(conn: Connection, *, assignment_id: int, labeler_id: int, value: Mapping[str, Any], now: float, seconds: float | None = None,
           interface_version: str | None = None) -> int:
    """Record what the labeler judged (as the page showed it, values.py). Returns the judgement's id; of a double submit, the first's.

    Its guideline version is the one in force when the task was given, whatever was saved since. A reservation that has run out still
    counts while its place is free. Raises: ContentError when the value cannot be; QueueError when the task is not theirs; ErasedError;
    KeptError, the value being kept as their draft, when the place was given to another or their account was closed.
    """
    row = _own(conn, assignment_id, labeler_id)
    if row.state == "submitted":
        return int(run(conn, "SELECT id FROM judgements WHERE assignment_id = :id AND attempt = :attempt",
                       id=row.id, attempt=row.attempt).fetchone()[0])
    made = values.stored(row.kind, value, row.sides)
    refusal = _refusal(conn, row, "submitted")
    if refusal:
        run(conn, "UPDATE assignments SET draft = :draft WHERE id = :id", draft=dump(clean(value)), id=row.id)
        raise refusal
    run(conn, "UPDATE assignments SET state = 'submitted', draft = NULL, ended_at = :now WHERE id = :id", now=now, id=row.id)
    judgement = run(conn, """
        INSERT INTO judgements (assignment_id, attempt, task_id, labeler_id, kind, value, sides, p_select, weight, seconds,
                                interface_version, guideline_version, created_at)
        VALUES (:id, :attempt, :task, :labeler, :kind, :value, :sides, :p_select, 1.0, :seconds, :interface, :guideline, :now)
        RETURNING id""",
        id=row.id, attempt=row.attempt, task=row.task_id, labeler=labeler_id, kind=row.kind, value=dump(made), sides=dump(row.sides),
        p_select=row.p_select, seconds=seconds, interface=interface_version, guideline=row.guideline_version, now=now).fetchone()
    run(conn, """UPDATE tasks SET state = 'done' WHERE id = :task AND free = 0 AND state = 'open'
                 AND NOT EXISTS (SELECT 1 FROM assignments WHERE task_id = :task AND state = 'reserved')""", task=row.task_id)
    if row.purpose == "screening":
        expected = load(run(conn, "SELECT expected FROM tasks WHERE id = :task", task=row.task_id).fetchone()[0])
        count_answer(conn, labeler_id, kind=row.kind, value=made, expected=expected, now=now)
    return int(judgement[0])


def skip(conn: Connection, *, assignment_id: int, labeler_id: int, reason: str, now: float) -> None:
    """Give the task back for good: this labeler will not see it again. Skipped by enough people, it waits for a lead (state `halted`)."""
    row = _own(conn, assignment_id, labeler_id)
    if row.state not in ("reserved", "expired"):
        raise QueueError(f"this task was {row.state} already", hint="go on to the next")
    if row.state == "reserved":
        _give_back(conn, row.task_id)
    run(conn, "UPDATE assignments SET state = 'skipped', reason = :reason, ended_at = :now WHERE id = :id",
        reason=clean(reason), now=now, id=row.id)
    if row.purpose in COUNTED:
        skips = run(conn, "SELECT count(*) FROM assignments WHERE task_id = :task AND state = 'skipped'", task=row.task_id).fetchone()[0]
        if skips >= row.shares.halt_after_skips and row.task_state == "open":
            run(conn, "UPDATE tasks SET state = 'halted' WHERE id = :task", task=row.task_id)
            record_audit(conn, action="task.halted", now=now, subject=f"task {row.task_id}", skips=skips)


def save_draft(conn: Connection, *, assignment_id: int, labeler_id: int, draft: Any, now: float, seconds: float | None = None) -> float:
    """Keep what the labeler has typed so far, and hold the task on. Returns until when.

    Raises: KeptError, the draft being kept, when the reservation had run out and another has the place; QueueError when it was submitted;
    ErasedError when what it is about was erased, which the draft may repeat.
    """
    row = _own(conn, assignment_id, labeler_id)
    if row.state == "submitted":
        raise QueueError("this task was submitted already", hint="undo the submission to change it")
    run(conn, "UPDATE assignments SET draft = :draft WHERE id = :id", draft=dump(clean(draft)), id=row.id)
    refusal = _refusal(conn, row, "saved")
    if refusal:
        raise refusal
    until = max(row.expires_at, now + (seconds or row.shares.reservation_seconds))
    run(conn, "UPDATE assignments SET expires_at = :until WHERE id = :id", until=until, id=row.id)
    return float(until)


def undo_last(conn: Connection, labeler_id: int, *, now: float, seconds: float | None = None) -> Claim:
    """Take back the labeler's latest submission: it is retracted, and the same task is theirs again with what they had said as the draft.

    Another task they were given since and have not begun goes back to the queue; the edit that follows a critique ends with it, since it
    was made for them of what they said (`revisions`). Raises: QueueError when there is nothing to undo, the
    submission was a practice or screening item, whose answer may have been shown, or a lead overruled others by it or let them stand.
    """
    row = run(conn, """SELECT j.id, j.assignment_id, j.value, j.kind, j.sides, t.purpose, t.id, r.id, t.extra
                       FROM judgements j JOIN tasks t ON t.id = j.task_id LEFT JOIN retractions r ON r.judgement_id = j.id
                       WHERE j.labeler_id = :labeler AND j.assignment_id IS NOT NULL ORDER BY j.id DESC LIMIT 1""",
              labeler=labeler_id).fetchone()
    if row is None or row[7] is not None or row[2] is None:
        raise QueueError("there is nothing to undo", hint="only the latest submission can be undone, once")
    judgement, assignment, value, kind, sides, purpose, task = row[:7]
    if kind == "comparison" and "conversation" in load(row[8]):
        raise QueueError("the latest was a choice within a conversation", hint="take it back there")
    if purpose in ("practice", "screening"):
        raise QueueError(f"a {purpose} answer stands", hint="go on to the next item")
    if purpose == "adjudication" and "settled" in load(row[8]):
        raise QueueError("a lead settled by this judgement what stands", hint="ask the lead to take that back first")
    person, _ = _person(conn, labeler_id, now)
    release_expired(conn, now=now)
    untouched = run(conn, """SELECT a.id, a.task_id, t.extra FROM assignments a JOIN tasks t ON t.id = a.task_id
                             WHERE a.labeler_id = :labeler AND a.state = 'reserved' AND a.draft IS NULL""", labeler=labeler_id).fetchall()
    for other, other_task, extra in untouched:
        if load(extra).get("critique") == judgement:
            withdraw(conn, [other_task], now=now)
            continue
        run(conn, "UPDATE assignments SET state = 'expired', ended_at = :now WHERE id = :id", now=now, id=other)
        _give_back(conn, other_task)
    run(conn, "INSERT INTO retractions (judgement_id, by_id, reason, created_at) VALUES (:judgement, :labeler, 'undone', :now)",
        judgement=judgement, labeler=labeler_id, now=now)
    held = run(conn, "SELECT claimed_at FROM assignments WHERE labeler_id = :labeler AND state = 'reserved'", labeler=labeler_id)
    now = max([now, *(row[0] + 0.001 for row in held)])            # the newest of what they hold, also when the clock was set back
    run(conn, f"""UPDATE assignments SET state = 'reserved', attempt = attempt + 1, draft = :draft, claimed_at = :now, expires_at = :until,
                  ended_at = NULL, guideline_version = {IN_FORCE[conn.dialect.name]} WHERE id = :id""",
        draft=dump(values.shown(kind, load(value), load(sides))), now=now, until=now + (seconds or person.shares.reservation_seconds),
        id=assignment)
    run(conn, "UPDATE tasks SET state = 'open' WHERE id = :task AND state = 'done'", task=task)
    undone = _held(conn, labeler_id, None)
    assert undone is not None and undone.assignment_id == assignment
    return undone


def release_expired(conn: Connection, *, now: float) -> int:
    """Give back the places of reservations that have run out. Every claim does it first. Returns how many.

    A reservation made in the future means that the clock was set back; it is moved to now, keeping its length, so that it ends after all.
    """
    rows = run(conn, """SELECT id, task_id, 0 FROM assignments WHERE state = 'reserved' AND expires_at <= :now
                        UNION ALL SELECT id, task_id, 1 FROM assignments WHERE state = 'reserved' AND claimed_at > :future""",
               now=now, future=now + FUTURE_SECONDS).fetchall()
    ended = 0
    for assignment, task, future in rows:
        if future:
            run(conn, "UPDATE assignments SET expires_at = :now + (expires_at - claimed_at), claimed_at = :now WHERE id = :id",
                now=now, id=assignment)
        else:
            run(conn, "UPDATE assignments SET state = 'expired', ended_at = :now WHERE id = :id", now=now, id=assignment)
            _give_back(conn, task)
            ended += 1
    return ended


def revoke(conn: Connection, labeler_id: int, *, now: float) -> int:
    """Give back all that a labeler holds, as when their account is closed. Their drafts stay. Returns how many."""
    rows = run(conn, "SELECT id, task_id FROM assignments WHERE labeler_id = :labeler AND state = 'reserved'",
               labeler=labeler_id).fetchall()
    for assignment, task in rows:
        run(conn, "UPDATE assignments SET state = 'revoked', ended_at = :now WHERE id = :id", now=now, id=assignment)
        _give_back(conn, task)
    return len(rows)


def give_back_unwanted(conn: Connection, labeler_id: int, *, now: float) -> int:
    """Give back what a labeler holds of the content they have opted out of by now. Their drafts stay. Returns how many.

    What they have begun does not count against `warned_a_day`.
    """
    rows = run(conn, """SELECT a.id, a.task_id, t.warnings, l.settings FROM assignments a JOIN tasks t ON t.id = a.task_id
                        JOIN labelers l ON l.id = a.labeler_id WHERE a.labeler_id = :labeler AND a.state = 'reserved'""",
               labeler=labeler_id).fetchall()
    unwanted = [(assignment, task) for assignment, task, warnings, settings in rows if is_unwanted(warnings, load(settings))]
    for assignment, task in unwanted:
        run(conn, "UPDATE assignments SET state = 'expired', ended_at = :now WHERE id = :id", now=now, id=assignment)
        _give_back(conn, task)
    return len(unwanted)


def withdraw(conn: Connection, task_ids: Sequence[int], *, now: float) -> None:
    """Give these tasks to nobody any more; who holds one finds it revoked."""
    for task in task_ids:
        held = run(conn, """UPDATE assignments SET state = 'revoked', ended_at = :now WHERE task_id = :task AND state = 'reserved'""",
                   task=task, now=now).rowcount
        for _ in range(held):
            _give_back(conn, task)
        run(conn, "UPDATE tasks SET state = 'done' WHERE id = :task", task=task)


def set_priorities(conn: Connection, priorities: Mapping[int, float]) -> int:
    """Put open tasks in a new order, highest first: scores of a reward model or an ensemble. Returns how many of the ids are tasks."""
    return sum(run(conn, "UPDATE tasks SET priority = :priority WHERE id = :id", priority=float(priority), id=task).rowcount
               for task, priority in priorities.items())


@dataclass(frozen=True)
class _Own:
    """An assignment of the labeler who asks, with what of its task and of the settings is needed."""

    id: int
    task_id: int
    state: str
    attempt: int
    p_select: float
    sides: list[int]
    claimed_at: float
    expires_at: float
    kind: str
    purpose: str
    free: int
    task_state: str
    guideline_version: str | None
    closed: bool
    shares: Any


def _own(conn: Connection, assignment_id: int, labeler_id: int) -> _Own:
    """Raises QueueError, in the same words, when there is none of that id and when it is another's; ErasedError."""
    row = run(conn, """SELECT a.id, a.task_id, a.state, a.attempt, a.p_select, a.sides, a.claimed_at, a.expires_at, t.kind, t.purpose,
                              t.free, t.state, a.guideline_version, l.disabled_at, l.erased_at,
                              (SELECT value FROM settings WHERE name = 'queue'), t.extra
                       FROM assignments a JOIN tasks t ON t.id = a.task_id JOIN labelers l ON l.id = a.labeler_id
                       WHERE a.id = :id AND a.labeler_id = :labeler AND a.state <> 'barred'""",
              id=assignment_id, labeler=labeler_id).fetchone() if _is_id(assignment_id) and _is_id(labeler_id) else None
    if row is None:
        raise QueueError("there is no such task of yours", hint="go back to the start page and take the next one")
    if row[14] is not None or ERASED in load(row[16]):
        raise ErasedError
    return _Own(*(*row[:5], load(row[5]), *row[6:13], row[13] is not None, from_document(load(row[15]))))


def _refusal(conn: Connection, row: _Own, done: str) -> QueueError | None:
    """Why an assignment cannot be gone on with. One that had run out takes its place again, where that is still free."""
    if row.closed:
        return KeptError(f"this account is closed; what you wrote is kept, but not {done}", hint="ask a lead")
    if row.state == "reserved":
        return None
    if row.state == "expired":
        if row.task_state == "open" and row.free > 0:
            if row.purpose in COUNTED:
                run(conn, "UPDATE tasks SET free = free - 1 WHERE id = :task", task=row.task_id)
            run(conn, "UPDATE assignments SET state = 'reserved', ended_at = NULL WHERE id = :id", id=row.id)
            return None
        return KeptError(f"the time for this task ran out and it was given to others; what you wrote is kept, but not {done}",
                         hint="take the next task; a lead can open this one again")
    return KeptError(f"this task was {row.state}; what you wrote is kept, but not {done}", hint="take the next task")


def _person(conn: Connection, labeler_id: int, now: float) -> tuple[Person, bool]:
    """(who asks, whether they failed the screening)."""
    row = run(conn, """SELECT role, screening, settings, disabled_at, erased_at, (SELECT value FROM settings WHERE name = 'queue'),
                              EXISTS (SELECT 1 FROM tasks WHERE free > 0 AND state = 'open' AND warnings <> '')
                       FROM labelers WHERE id = :labeler""", labeler=labeler_id).fetchone() if _is_id(labeler_id) else None
    if row is None:
        raise QueueError("there is no such labeler")
    if row[3] is not None or row[4] is not None:
        raise QueueError("this account is closed", hint="ask a lead")
    standing, shares = load(row[1]), from_document(load(row[5]))
    state = standing.get("state")
    avoids = frozenset(load(row[2]).get("avoid_warnings", ()))
    if row[6] and "*" not in avoids:
        warned = run(conn, """SELECT count(*) FROM assignments a JOIN tasks t ON t.id = a.task_id
                              WHERE a.labeler_id = :labeler AND a.claimed_at > :since AND t.warnings <> '' AND a.state <> 'barred'""",
                     labeler=labeler_id, since=now - DAY).fetchone()[0]
        avoids |= {"*"} if warned >= shares.warned_a_day else set()
    return Person(labeler_id, row[0], state == "passed" or row[0] != "labeler", avoids, shares, "test" in standing), state == "failed"


_CLAIM = "SELECT a.id, a.task_id, t.kind, t.purpose, t.prompt_id, t.response_ids, a.sides, a.draft, a.expires_at"


def _held(conn: Connection, labeler_id: int, kinds: Sequence[str] | None) -> Claim | None:
    rows = run(conn, f"""{_CLAIM}, a.claimed_at FROM assignments a JOIN tasks t ON t.id = a.task_id
                         WHERE a.labeler_id = :labeler AND a.state = 'reserved'""", labeler=labeler_id).fetchall()
    rows = [row for row in rows if kinds is None or row[2] in kinds]
    if not rows:
        return None
    row = max(rows, key=lambda row: (row[9], row[0]))               # sorted here: by the database, all they ever claimed would be looked at
    return Claim(*(*row[:5], tuple(load(row[5])), tuple(load(row[6])), load(row[7]), row[8]))


def _left_behind(conn: Connection, labeler_id: int, kinds: Sequence[str] | None) -> Pick | None:
    """The task this labeler last let run out after typing something, where its place is still free: they get it again first.

    Not where they opted out of its content since.
    """
    row = run(conn, """SELECT a.draft IS NOT NULL AND t.free > 0 AND t.state = 'open', t.id, t.kind, t.purpose, t.prompt_id,
                              t.response_ids, a.p_select, t.warnings, l.settings
                       FROM assignments a JOIN tasks t ON t.id = a.task_id JOIN labelers l ON l.id = a.labeler_id
                       WHERE a.labeler_id = :labeler AND a.state = 'expired' ORDER BY a.id DESC LIMIT 1""", labeler=labeler_id).fetchone()
    if row is None or not row[0] or (kinds is not None and row[2] not in kinds) or is_unwanted(row[7], load(row[8])):
        return None
    return Pick(*(*row[1:5], tuple(load(row[5])), row[6]))


def _reserve(conn: Connection, chosen: Pick, labeler_id: int, now: float, seconds: float, rng: random.Random) -> Claim:
    """Hold a task. One this labeler had let run out keeps its sides, which its draft speaks of."""
    sides = list(range(len(chosen.response_ids)))
    rng.shuffle(sides)
    if chosen.purpose in COUNTED:
        run(conn, "UPDATE tasks SET free = free - 1 WHERE id = :task", task=chosen.task_id)
    row = run(conn, f"""INSERT INTO assignments (task_id, labeler_id, state, attempt, p_select, sides, claimed_at, expires_at,
                                                 guideline_version)
                        VALUES (:task, :labeler, 'reserved', 0, :p_select, :sides, :now, :until, {IN_FORCE[conn.dialect.name]})
                        ON CONFLICT (task_id, labeler_id) DO UPDATE SET state = 'reserved', p_select = excluded.p_select,
                            claimed_at = excluded.claimed_at, expires_at = excluded.expires_at, ended_at = NULL,
                            guideline_version = excluded.guideline_version
                        RETURNING id, sides, draft""",
              task=chosen.task_id, labeler=labeler_id, p_select=chosen.p_select, sides=dump(sides), now=now, until=now + seconds).fetchone()
    return Claim(row[0], chosen.task_id, chosen.kind, chosen.purpose, chosen.prompt_id, chosen.response_ids, tuple(load(row[1])),
                 load(row[2]), now + seconds)


def _give_back(conn: Connection, task_id: int) -> None:
    """One more person is wanted."""
    run(conn, f"UPDATE tasks SET free = free + 1 WHERE id = :task AND purpose IN ({_COUNTED})", task=task_id)


def _is_id(given: Any) -> bool:
    return isinstance(given, int) and not isinstance(given, bool) and 0 < given < 2**31
