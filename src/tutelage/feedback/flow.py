"""How the work goes: what is done each day, what comes of what is given out, what waits, and what it costs. Counted by the database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from sqlalchemy import Connection

from tutelage.feedback.content import record_audit
from tutelage.feedback.draws import COUNTED
from tutelage.feedback.errors import ContentError
from tutelage.feedback.intervals import Statistic, share
from tutelage.feedback.sql import load, run

DAY = 86400
PAID_SECONDS = 1800.0
"""Of one judgement, paid at most: who leaves a page open overnight has not worked all night."""
SOON_SECONDS = 600.0
"""Reservations that end within this time are told as running out."""
RATE_SET = "pay per hour"
"""The audit line that says when a rate was set, by which past work is paid."""
OUTCOMES = ("submitted", "skipped", "expired", "revoked", "reserved")


class Done(NamedTuple):
    """What one labeler did of one kind on one day (days since 1970, UTC). seconds: capped; judgements: those that count; given: all."""

    labeler: int
    kind: str
    day: int
    judgements: int
    given: int
    seconds: float
    over: float


class Yield(NamedTuple):
    """What became of the tasks of a kind that were given out. label_yield: submitted of those that have ended."""

    kind: str
    claimed: int
    outcomes: Mapping[str, int]
    label_yield: Statistic


class Waiting(NamedTuple):
    """Open and halted tasks of a purpose and kind. untouched: nobody judged it or holds it. second: some of those wanted do, not all.

    Both are None for purposes that want everybody, whose tasks are never used up.
    held: reservations now. soon: those of them that end in ten minutes. oldest: when the oldest open task was made, UTC seconds.
    """

    purpose: str
    kind: str
    open: int
    untouched: int | None
    second: int | None
    held: int
    soon: int
    halted: int
    oldest: float | None


class Pay(NamedTuple):
    """Of one labeler in a month (2026-03), by the rate of then: two rows where it was changed within the month.

    hours: capped; hours_over: what the cap left out. pay: None where the rate is not known.
    """

    month: str
    labeler: str
    group: str | None
    given: int
    hours: float
    hours_over: float
    pay_per_hour: float | None
    pay: float | None


class Cost(NamedTuple):
    """Of a kind: items that have a judgement that counts. cost: in the unit of pay_per_hour. unpaid: hours of people without a rate.

    per_item: undefined where somebody's rate is not known, since their items would look free.
    """

    kind: str
    items: int
    judgements: int
    hours: float
    unpaid: float
    cost: float | None

    @property
    def per_item(self) -> float | None:
        return self.cost / self.items if self.cost is not None and self.items and not self.unpaid else None


@dataclass(frozen=True)
class Rate:
    """A labeler as pay knows them. pay_per_hour: now. before: (day, rate) of each time it was set, oldest first. account: can sign in."""

    id: int
    name: str
    group: str | None
    pay_per_hour: float | None
    before: tuple[tuple[int, float | None], ...] = ()
    account: bool = False

    def on(self, day: int) -> float | None:
        """The rate of a day's work: what was last set until then; of days before the first, that one."""
        set_by_then = [rate for at, rate in self.before if at <= day] or [rate for _, rate in self.before[:1]] or [self.pay_per_hour]
        return set_by_then[-1]


def work_done(conn: Connection) -> list[Done]:
    """All that was given here (not imported), oldest day first. What was taken back took time too: it is in `given` and in the seconds."""
    day = "j.created_at / 86400" if conn.dialect.name == "sqlite" else "FLOOR(j.created_at / 86400)"    # PostgreSQL's CAST rounds
    rows = run(conn, f"""
        SELECT labeler_id, kind, day, SUM(counts), COUNT(*), SUM(CASE WHEN seconds > :cap THEN :cap ELSE seconds END),
               SUM(CASE WHEN seconds > :cap THEN seconds - :cap ELSE 0.0 END)
        FROM (SELECT j.labeler_id, j.kind, CAST({day} AS INTEGER) AS day, COALESCE(j.seconds, 0.0) AS seconds,
                     CASE WHEN j.value IS NULL OR r.id IS NOT NULL THEN 0 ELSE 1 END AS counts
              FROM judgements j LEFT JOIN retractions r ON r.judgement_id = j.id WHERE j.assignment_id IS NOT NULL) AS given
        GROUP BY labeler_id, kind, day ORDER BY day, labeler_id, kind""", cap=PAID_SECONDS)
    return [Done(row[0], row[1], int(row[2]), int(row[3]), int(row[4]), float(row[5]), float(row[6])) for row in rows]


def rates(conn: Connection) -> dict[int, Rate]:
    """id -> labeler."""
    before: dict[int, list[tuple[int, float | None]]] = defaultdict(list)
    for at, subject, details in run(conn, "SELECT at, subject, details FROM audit WHERE action = :action ORDER BY at, id", action=RATE_SET):
        before[int(subject)].append((int(at // DAY), load(details).get("pay_per_hour")))
    return {row[0]: Rate(row[0], row[1], row[2], row[3], tuple(before[row[0]]), bool(row[4]))
            for row in run(conn, 'SELECT id, name, "group", pay_per_hour, password_hash IS NOT NULL FROM labelers ORDER BY name')}


def set_rate(conn: Connection, labeler_id: int, pay_per_hour: float | None, *, by_id: int, now: float) -> None:
    """Say what an hour of somebody's work costs from today on; None: it is not known. What was done before keeps its rate.

    Raises: ContentError for a rate that is none.
    """
    if pay_per_hour is not None and not 0 <= pay_per_hour < 1e6:
        raise ContentError(f"the pay per hour is {pay_per_hour}", hint="give a number from 0 on, in any currency")
    if not run(conn, "UPDATE labelers SET pay_per_hour = :pay WHERE id = :id", pay=pay_per_hour, id=labeler_id).rowcount:
        raise ContentError("there is no such labeler")
    record_audit(conn, actor_id=by_id, action=RATE_SET, subject=str(labeler_id), pay_per_hour=pay_per_hour, now=now)


def throughput(done: Sequence[Done]) -> list[tuple[int, dict[str, int]]]:
    """(day, judgements that count by kind), every day from the first to the last."""
    by_day: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for one in done:
        by_day[one.day][one.kind] += one.judgements
    return [(day, dict(by_day[day])) for day in range(min(by_day), max(by_day) + 1)] if by_day else []


def yields(conn: Connection) -> list[Yield]:
    """By kind, how much of what was given out came back as a judgement."""
    by_kind: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(OUTCOMES, 0))
    for kind, state, count in run(conn, """SELECT t.kind, a.state, COUNT(*) FROM assignments a JOIN tasks t ON t.id = a.task_id
                                           WHERE a.state <> 'barred' GROUP BY t.kind, a.state ORDER BY t.kind"""):
        by_kind[kind][state] = int(count)
    totals = {kind: sum(found.values()) for kind, found in by_kind.items()}
    return [Yield(kind, totals[kind], found, share(found["submitted"], totals[kind] - found["reserved"], what="task that has ended"))
            for kind, found in by_kind.items()]


def waiting(conn: Connection, *, now: float) -> list[Waiting]:
    """The queue by purpose and kind."""
    held = {(row[0], row[1]): (int(row[2]), int(row[3])) for row in run(conn, """
        SELECT t.purpose, t.kind, COUNT(*), SUM(CASE WHEN a.expires_at < :soon THEN 1 ELSE 0 END)
        FROM assignments a JOIN tasks t ON t.id = a.task_id WHERE a.state = 'reserved' GROUP BY t.purpose, t.kind""",
                                                                    soon=now + SOON_SECONDS)}
    rows = run(conn, """
        SELECT purpose, kind, SUM(CASE WHEN state = 'open' THEN 1 ELSE 0 END),
               SUM(CASE WHEN state = 'open' AND free = overlap THEN 1 ELSE 0 END),
               SUM(CASE WHEN state = 'open' AND free > 0 AND free < overlap THEN 1 ELSE 0 END),
               SUM(CASE WHEN state = 'halted' THEN 1 ELSE 0 END), MIN(CASE WHEN state = 'open' THEN created_at END)
        FROM tasks WHERE state <> 'done' GROUP BY purpose, kind ORDER BY purpose, kind""")
    found = []
    for purpose, kind, opened, untouched, second, halted, oldest in rows:
        used_up = (int(untouched), int(second)) if purpose in COUNTED else (None, None)
        now_held, soon = held.get((purpose, kind), (0, 0))
        found.append(Waiting(purpose, kind, int(opened), used_up[0], used_up[1], now_held, soon, int(halted), oldest))
    return found


def pay(done: Sequence[Done], people: Mapping[int, Rate]) -> list[Pay]:
    """By month, labeler and rate, newest month first."""
    sums: dict[tuple[str, int, float | None], list[float]] = defaultdict(lambda: [0, 0.0, 0.0])
    for one in done:
        month = datetime.fromtimestamp(one.day * DAY, UTC).strftime("%Y-%m")
        for at, value in enumerate((one.given, one.seconds / 3600, one.over / 3600)):
            sums[month, one.labeler, people[one.labeler].on(one.day)][at] += value
    found = []
    for (month, labeler, rate), (given, hours, over) in sums.items():
        who = people[labeler]
        found.append(Pay(month, who.name, who.group, int(given), hours, over, rate, None if rate is None else hours * rate))
    return sorted(sorted(found, key=lambda row: row.labeler), key=lambda row: row.month, reverse=True)


def costs(conn: Connection, done: Sequence[Done], people: Mapping[int, Rate]) -> list[Cost]:
    """By kind. Hours of people whose rate is not known are no part of the cost, and are told; with no rate at all there is no cost."""
    items = {row[0]: int(row[1]) for row in run(conn, """
        SELECT j.kind, COUNT(DISTINCT j.task_id) FROM judgements j
        WHERE j.assignment_id IS NOT NULL AND j.value IS NOT NULL
              AND NOT EXISTS (SELECT 1 FROM retractions r WHERE r.judgement_id = j.id) GROUP BY j.kind""")}
    found = []
    for kind in sorted({one.kind for one in done}):
        own = [one for one in done if one.kind == kind]
        rated = [(one.seconds / 3600, rate) for one in own if (rate := people[one.labeler].on(one.day)) is not None]
        unpaid = sum(one.seconds for one in own if people[one.labeler].on(one.day) is None) / 3600
        found.append(Cost(kind, items.get(kind, 0), sum(one.judgements for one in own), unpaid + sum(part for part, _ in rated), unpaid,
                          sum(part * rate for part, rate in rated) if rated else None))
    return found
