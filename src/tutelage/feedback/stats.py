"""What the store holds and how far its people agree: counts, agreement by batch and kind, position, speed. One pass over the judgements."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from sqlalchemy import Connection, Row, func, select

from tutelage.base.errors import ConfigError, did_you_mean, listed
from tutelage.feedback.agreement import with_others
from tutelage.feedback.intervals import RESAMPLES, Statistic, share
from tutelage.feedback.schema import assignments, judgements, labelers, prompts, responses, retractions, tasks
from tutelage.feedback.series import Series, agreement
from tutelage.feedback.standing import MEASURING

_ROWS_AT_ONCE = 5000


@dataclass
class _Person:
    """compared, agreed: their labels that others gave one too, and how many of those agreements there were."""

    group: str | None
    judgements: int = 0
    compared: int = 0
    agreed: float = 0.0
    seconds: list[float] = field(default_factory=list)


def stats(conn: Connection, *, batch: str | None = None, seed: int = 0, resamples: int = RESAMPLES) -> dict[str, Any]:
    """Counts and agreement of the judgements that stand (of one batch, if one is named), as plain values. Those that measure newcomers
    are left out, as on the quality page, and counted.

    Agreement is told for each batch and kind: comparisons by who won, a tie being a third label; rankings by their single best answer and
    by tau-b; yes or no and verdicts by their word; ratings by three distances. Statistics are {"value", "low", "high", "n"} and, where one
    is unknown, "why". resamples: of their bootstrap; 0 gives no intervals. Raises: ConfigError when there is no such batch.
    """
    if batch is not None:
        _check_batch(conn, batch)
    counts: dict[str, Counter[str]] = {name: Counter() for name in ("kinds", "groups", "splits")}
    series: defaultdict[tuple[str, str], Series] = defaultdict(Series)
    people: dict[str, _Person] = {}
    first_wins, times = Counter[bool](), list[float]()
    measuring = 0
    for row in _rows(conn, batch):
        if row.purpose in MEASURING:
            measuring += 1
            continue
        for name, value in (("kinds", row.kind), ("groups", row.group), ("splits", row.split)):
            counts[name][value or "(none)"] += 1
        person = people.setdefault(row.name, _Person(row.group))
        person.judgements += 1
        if row.seconds is not None:
            person.seconds.append(row.seconds)
        times = [min([*times[:1], row.created_at]), max([*times[1:], row.created_at])]
        series[row.batch or "", row.kind].add(row.kind, row.value, item=row.task_id, prompt=row.prompt_id, labeler=row.name)
        if row.kind == "comparison" and row.sides and len(set(row.value["ranks"])) == 2:
            first_wins[row.value["ranks"][row.sides[0]] == 0] += 1
    agreements = [{"batch": name, "kind": kind, **_agreement(kind, found, people, seed, resamples)}
                 for (name, kind), found in sorted(series.items()) if found.values]
    return {"judgements": counts["kinds"].total(), "practice_and_screening": measuring, **_sizes(conn),
            **{name: dict(found.most_common()) for name, found in counts.items()},
            **(dict(zip(("from", "to"), times, strict=True)) if times else {}), "agreement": agreements,
            "first_shown_wins": told(share(first_wins[True], first_wins.total(), what="decided comparison whose sides are known")),
            "seconds": _middle([second for person in people.values() for second in person.seconds]),
            "people": [{"labeler": name, "group": person.group, "judgements": person.judgements, "seconds": _middle(person.seconds),
                        "agrees_with_others": told(share(person.agreed, person.compared, what="item that others judged too"))}
                       for name, person in sorted(people.items(), key=lambda found: (-found[1].judgements, found[0]))]}


def told(found: Statistic) -> dict[str, Any]:
    """A statistic as plain values."""
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n} | ({} if found.why is None else {"why": found.why})


def _rows(conn: Connection, batch: str | None) -> Iterator[Row[*tuple[Any, ...]]]:
    """The judgements that stand."""
    query = (select(judgements.c.kind, judgements.c.value, judgements.c.sides, judgements.c.seconds, judgements.c.created_at,
                    judgements.c.task_id, tasks.c.prompt_id, tasks.c.batch, tasks.c.purpose, labelers.c.name, labelers.c.group,
                    prompts.c.split)
             .select_from(judgements.join(tasks).join(labelers, judgements.c.labeler_id == labelers.c.id)
                          .outerjoin(prompts, tasks.c.prompt_id == prompts.c.id)
                          .outerjoin(retractions, retractions.c.judgement_id == judgements.c.id))
             .where(retractions.c.id.is_(None), judgements.c.value.is_not(None)).order_by(judgements.c.id))
    if batch is not None:
        query = query.where(tasks.c.batch == batch)
    for page in conn.execute(query, execution_options={"yield_per": _ROWS_AT_ONCE}).partitions():
        yield from page


def _check_batch(conn: Connection, batch: str) -> None:
    """Raises: ConfigError when no item is in a batch of this name."""
    known = [str(name) for name in conn.scalars(select(tasks.c.batch).where(tasks.c.batch.is_not(None)).distinct().order_by(tasks.c.batch))]
    if batch not in known:
        raise ConfigError(f"there is no batch {batch!r}{did_you_mean(batch, known)}",
                          hint=f"one of: {listed(known)}" if known else "no item of this store is in a batch")


def _agreement(kind: str, series: Series, people: Mapping[str, _Person], seed: int, resamples: int) -> dict[str, Any]:
    """What is known of one batch and kind; adds each labeler's part to `people`."""
    labels = series.labels()
    for name, part in with_others(labels).items():
        person = people[str(name)]
        person.compared += part.n
        person.agreed += (part.value or 0.0) * part.n
    return {"judgements": len(labels), "items": len(labels.items), "labelers": len(labels.labelers)} | {
        name: told(statistic) for name, statistic in agreement(kind, series, seed=seed, resamples=resamples).items()}


def _sizes(conn: Connection) -> dict[str, Any]:
    """How many rows there are of what else the store holds."""
    sizes = {table.name: int(conn.execute(select(func.count()).select_from(table)).scalar_one())
             for table in (tasks, prompts, responses, labelers)}
    by_state = conn.execute(select(tasks.c.state, func.count()).group_by(tasks.c.state)).all()
    skipped = conn.execute(select(func.count()).select_from(assignments).where(assignments.c.state == "skipped")).scalar_one()
    return sizes | {"tasks_by_state": {state: int(count) for state, count in by_state}, "skips": int(skipped)}


def _middle(seconds: list[float]) -> float | None:
    return median(seconds) if seconds else None
