"""Which task a labeler is given next.

Work is drawn, kind by kind: with probability `uniform` a task at random among all that are open, else the one of highest priority. The
probability with which this draw gave this task is kept (`p_select`, times that with which the task itself was sampled), so that a share of
the queue can speak for all of it: over one draw, the expected value of y / p_select is the sum of y over the tasks open to the labeler.
It holds within a kind. Exact while fewer than SMALL tasks of the kind are open. Above that a lot falls on one of the blocks of some BLOCK
tasks first; where this labeler has had all of a block, the highest priority comes instead, whose stored probability leaves that out: of who
has had nine tenths of what is open that is one block in a thousand.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from .newcomers import is_tested
from .schema import KINDS
from .shares import Shares
from .sql import load, run

SMALL = 256                                                         # open tasks of a kind up to which all are listed
BLOCK = 64                                                          # tasks listed for a lot among more
NEAR = 200                                                          # tasks stepped over before those that nobody has had come first
COUNTED = ("work", "rollout", "adjudication")                       # wanted from `overlap` people; other purposes from everyone
_WANTED = "t.free > 0 AND t.state = 'open'"                         # as in the partial indexes, letter for letter
_UNTOUCHED = "t.free = t.overlap AND t.state = 'open'"
_HAD = "COALESCE((SELECT a.state FROM assignments a WHERE a.task_id = t.id AND a.labeler_id = :labeler), 'expired')"
_TASK = "SELECT t.id, t.kind, t.purpose, t.prompt_id, t.response_ids, t.p_select, t.draw"


@dataclass(frozen=True)
class Person:
    """Who asks, as far as the queue must know. `begun`: the screening test. `avoids`: content warnings, `*` for all."""

    id: int
    role: str
    screened: bool
    avoids: frozenset[str]
    shares: Shares
    begun: bool = False


@dataclass(frozen=True)
class Pick:
    """A task chosen, not yet reserved."""

    task_id: int
    kind: str
    purpose: str
    prompt_id: int | None
    response_ids: tuple[int, ...]
    p_select: float


def allowed(kinds: Sequence[str] | None, without: Sequence[str]) -> Sequence[str] | None:
    """The kinds that may be given; None: all."""
    return tuple(kind for kind in kinds or KINDS if kind not in without) if without else kinds


def pick(conn: Connection, person: Person, kinds: Sequence[str] | None, rng: random.Random, without: Sequence[str] = ()) -> Pick | None:
    """What comes next for them; None: nothing, now. kinds: only these. without: none of these."""
    among = allowed(kinds, without)
    if not person.screened:
        if practice := _first(conn, person, "practice", None):
            return practice
        if is_tested(conn, person.id, begun=person.begun):
            return _first(conn, person, "screening", None)          # None: all done and no verdict yet, they wait for it
    urgent = ("adjudication", "rollout") if person.role != "labeler" else ("rollout",)
    for purpose in urgent:
        for kind in _kinds(conn, person, purpose, kinds, without, rng):
            if found := _top(conn, _frame(person, purpose, kind)):
                return _made(found, 1.0)
    coin = rng.random()
    for purpose, share in (("shared", person.shares.shared), ("gold", person.shares.gold), ("drift", person.shares.drift)):
        if 0 <= coin < share and (item := _first(conn, person, purpose, among, rng)):
            return item
        coin -= share
    for kind in _kinds(conn, person, "work", kinds, without, rng):
        if drawn := _draw(conn, _frame(person, "work", kind), person.shares.uniform, rng):
            return drawn
    return _first(conn, person, "shared", among, rng)


def _draw(conn: Connection, frame: _Frame, uniform: float, rng: random.Random) -> Pick | None:
    """One task of the frame, by lot or by priority, with the probability of that."""
    far = run(conn, f"SELECT t.draw FROM tasks t WHERE {frame.where} ORDER BY t.draw LIMIT 1 OFFSET {SMALL - 1}", **frame.values).fetchone()
    by_lot = rng.random() < uniform
    if far is None:
        rows = run(conn, f"{_TASK} FROM tasks t WHERE {frame.where} AND {_HAD} = 'expired' ORDER BY t.priority DESC, t.id",
                   **frame.values, labeler=frame.labeler).fetchall()
        if not rows:
            return None
        row = rng.choice(rows) if by_lot else rows[0]
        return _made(row, uniform / len(rows) + (1 - uniform) * (row is rows[0]))
    top = _top(conn, frame)
    if top is None:
        return None
    # The SMALL-th of even lots in [0, 1) lies at far, so about SMALL / far are open: of that, not of the lot, or it would not be fair.
    blocks = max(1, int(SMALL / far[0] / BLOCK))
    if by_lot and (fresh := _block(conn, _TASK, frame, rng.randrange(blocks), blocks)):
        row = rng.choice(fresh)
        if row[0] != top[0]:
            return _made(row, uniform / (blocks * len(fresh)))
    (beside,), = _block(conn, "SELECT COUNT(*)", frame, int(top[6] * blocks), blocks)
    return _made(top, 1 - uniform + uniform / (blocks * beside))    # a lot may fall on it too


def _block(conn: Connection, select: str, frame: _Frame, number: int, blocks: int) -> list[Any]:
    """What of one of so many blocks this labeler has not had."""
    return run(conn, f"{select} FROM tasks t WHERE {frame.where} AND t.draw >= :low AND t.draw < :high AND {_HAD} = 'expired'",
               **frame.values, labeler=frame.labeler, low=number / blocks, high=(number + 1) / blocks).fetchall()


def _top(conn: Connection, frame: _Frame) -> Any:
    """The open task of highest priority that this labeler has not had.

    Whoever judges most has had most of what is open and waits for a second opinion. Rather than step over all of that at each claim, after
    NEAR such tasks the best of those that nobody has had comes first, and only when there is none the others.
    """
    for limit in (8, NEAR):
        rows = run(conn, f"{_TASK}, {_HAD} FROM tasks t WHERE {frame.where} ORDER BY t.priority DESC, t.id LIMIT {limit}",
                   **frame.values, labeler=frame.labeler).fetchall()
        found = next((row for row in rows if row[-1] == "expired"), None)
        if found or len(rows) < limit:
            return found
    for where in (frame.where.replace(_WANTED, _UNTOUCHED), frame.where):
        found = run(conn, f"{_TASK} FROM tasks t WHERE {where} AND {_HAD} = 'expired' ORDER BY t.priority DESC, t.id LIMIT 1",
                    **frame.values, labeler=frame.labeler).fetchone()
        if found:
            return found
    return None


def _first(conn: Connection, person: Person, purpose: str, kinds: Sequence[str] | None, rng: random.Random | None = None) -> Pick | None:
    """The first item of those meant for everyone that this labeler has not had, or with `rng` any of the first dozens."""
    frame = _frame(person, purpose, *(kinds or ()))
    rows = run(conn, f"{_TASK} FROM tasks t WHERE {frame.where} AND {_HAD} = 'expired' ORDER BY t.priority DESC, t.id "
                     f"LIMIT {BLOCK if rng else 1}", **frame.values, labeler=frame.labeler).fetchall()
    return _made(rng.choice(rows) if rng else rows[0], 1.0) if rows else None


def _kinds(conn: Connection, person: Person, purpose: str, asked: Sequence[str] | None, without: Sequence[str],
           rng: random.Random) -> list[str]:
    """Kinds with open tasks of this purpose, in an order drawn by their weights."""
    there = run(conn, _KINDS_THERE, purpose=purpose).fetchone()
    # A kind of weight 0 comes when it is asked for, by them, or by a lead or a run that waits for it.
    weights = {kind: person.shares.kind_weights.get(kind, 1.0) or (1.0 if asked or purpose != "work" else 0.0)
               for kind, found in zip(KINDS, there, strict=True) if found and (asked is None or kind in asked) and kind not in without}
    # Efraimidis and Spirakis 2006: sorting by u^(1/w) draws without replacement by weight.
    keys = {kind: rng.random() ** (1 / weight) for kind, weight in weights.items() if weight > 0}
    return sorted(keys, key=keys.__getitem__, reverse=True)


_KINDS_THERE = "SELECT " + ", ".join(
    f"EXISTS (SELECT 1 FROM tasks t WHERE t.purpose = :purpose AND t.kind = '{kind}' AND {_WANTED})" for kind in KINDS)


@dataclass(frozen=True)
class _Frame:
    """The tasks a draw is among: a condition on `tasks t`, its values, and who asks."""

    where: str
    values: dict[str, Any]
    labeler: int


def _frame(person: Person, purpose: str, *kinds: str) -> _Frame:
    where, values = f"t.purpose = :purpose AND {_WANTED}", {"purpose": purpose}
    if len(kinds) == 1:
        where, values = where + " AND t.kind = :kind", values | {"kind": kinds[0]}
    elif kinds:
        where += f" AND t.kind IN ({', '.join(repr(kind) for kind in KINDS if kind in kinds)})"
    if "*" in person.avoids:
        where += " AND t.warnings = ''"
    else:
        for number, warning in enumerate(sorted(person.avoids)):
            where, values = f"{where} AND t.warnings NOT LIKE :avoid_{number}", values | {f"avoid_{number}": f"% {warning} %"}
    return _Frame(where, values, person.id)


def _made(row: Any, p_draw: float) -> Pick:
    return Pick(row[0], row[1], row[2], row[3], tuple(load(row[4])), row[5] * p_draw)
