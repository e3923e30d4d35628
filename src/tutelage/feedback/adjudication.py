"""Where people contradict each other an expert judges anew; what that overrules, a lead says, and everybody can see.

An adjudication item is a copy of the task for who has not judged it. Its judgement stands beside the others until a lead settles it: either
all stand, or those that contradict it are retracted, with the item as the reason and a line in the audit log. Both can be taken back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, insert, select, update

from .content import record_audit
from .errors import ContentError
from .items import OVERRULED, copy_task, judgements_of_task, source_of
from .schema import Row, judgements, retractions, tasks
from .sql import loader, run
from .values import LIKERT

DISPUTABLE = ("work", "shared", "rollout")
CONTRADICTED = ("comparison", "ranking", "rating", "label")
"""Kinds whose judgements can say the opposite."""
RECENT = 100_000
"""Judgements looked at for disputes, the newest: what a page waits half a second for."""
_MIDDLE = (LIKERT + 1) / 2
_JUDGED = (select(judgements.c.id).outerjoin(retractions).where(judgements.c.task_id == tasks.c.id, retractions.c.id.is_(None))
           .correlate(tasks).exists())


class Dispute(NamedTuple):
    """A task on which people contradict each other. strength: of the worst contradiction, above 0 to 1. people: who judged it."""

    task_id: int
    kind: str
    strength: float
    people: int


class Disputes(NamedTuple):
    """listed: the strongest. found: how many there are. all: whether every judgement was looked at, not the newest RECENT only."""

    listed: list[Dispute]
    found: int
    all: bool


class Adjudicated(NamedTuple):
    """An adjudication item that was judged. task_id: what it was made of. said: the judgement. against: those it contradicts, of those that
    stand, and overruled: those retracted because of it. settled: `kept`, `overruled` or None."""

    item_id: int
    task_id: int
    kind: str
    said: Row
    against: list[Row]
    overruled: list[Row]
    settled: str | None


def contradiction(kind: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """How far two judgements of the same answers say the opposite: 0 where they do not, up to 1.

    Comparisons: opposite sides, by the sum of their strengths. Yes and no: 1. Ratings on both sides of the middle, by their distance.
    Rankings: with more pairs of answers ordered oppositely than alike, by the share of these. A tie contradicts nothing.
    """
    if kind == "comparison" and "ranks" in one and "ranks" in other:
        (a, b), (c, d) = one["ranks"], other["ranks"]
        return (one.get("strength", 2) + other.get("strength", 2)) / 8 if (a - b) * (c - d) < 0 else 0.0
    if kind == "label" and "label" in one and "label" in other:
        return float(one["label"] != other["label"])
    if kind == "rating" and "rating" in one and "rating" in other:
        a, b = one["rating"] - _MIDDLE, other["rating"] - _MIDDLE
        return abs(a - b) / (LIKERT - 1) if a * b < 0 else 0.0
    if kind == "ranking" and "ranks" in one and "ranks" in other:
        signs = [(one["ranks"][i] - one["ranks"][j]) * (other["ranks"][i] - other["ranks"][j])
                 for i, j in combinations(range(len(one["ranks"])), 2)]
        alike, opposite = sum(sign > 0 for sign in signs), sum(sign < 0 for sign in signs)
        return opposite / len(signs) if opposite > alike else 0.0
    return 0.0


def disputes(conn: Connection, *, limit: int = 100) -> Disputes:
    """Tasks on which people contradict each other and no expert was asked, strongest first. Of who spoke twice the last word counts."""
    rows = run(conn, f"""
        SELECT j.task_id, j.kind, j.labeler_id, j.value FROM judgements j JOIN tasks t ON t.id = j.task_id
        WHERE t.purpose IN ({_listed(DISPUTABLE)}) AND j.kind IN ({_listed(CONTRADICTED)}) AND j.value IS NOT NULL
              AND NOT EXISTS (SELECT 1 FROM retractions r WHERE r.judgement_id = j.id)
        ORDER BY j.id DESC LIMIT :most""", most=RECENT + 1).fetchall()
    loaded = loader()
    said: dict[int, tuple[str, dict[int, Any]]] = {}
    for task_id, kind, labeler, value in rows[:RECENT]:
        said.setdefault(task_id, (kind, {}))[1].setdefault(labeler, loaded(value))
    asked = {source_of(extra) for extra in conn.scalars(select(tasks.c.extra).where(tasks.c.purpose == "adjudication"))}
    found = [Dispute(task_id, kind, _strongest(kind, list(values.values())), len(values))
             for task_id, (kind, values) in said.items() if len(values) > 1 and task_id not in asked]
    found = sorted((one for one in found if one.strength > 0), key=lambda one: -one.strength)
    return Disputes(found[:limit], len(found), len(rows) <= RECENT)


def _strongest(kind: str, values: Sequence[Mapping[str, Any]]) -> float:
    """The worst contradiction. A shared item has hundreds of judgements, which say a dozen different things."""
    different = {tuple(str(value.get(name)) for name in ("ranks", "strength", "label", "rating")): value for value in values}
    return max((contradiction(kind, one, other) for one, other in combinations(different.values(), 2)), default=0.0)


def _listed(words: Sequence[str]) -> str:
    return ", ".join(f"'{word}'" for word in words)


def send(conn: Connection, task_ids: Sequence[int], *, by_id: int, now: float) -> list[int]:
    """Ask an expert about these. Returns the items made. Raises: ContentError for one that was sent before."""
    return [copy_task(conn, task_id, purpose="adjudication", by_id=by_id, now=now, why="disputed") for task_id in task_ids]


def waiting(conn: Connection) -> list[int]:
    """Adjudication items that nobody has judged yet, oldest first."""
    return list(conn.scalars(select(tasks.c.id).where(tasks.c.purpose == "adjudication", tasks.c.state == "open", ~_JUDGED)
                             .order_by(tasks.c.id)))


def adjudicated(conn: Connection, *, limit: int = 50) -> list[Adjudicated]:
    """Items that an expert has judged, those first that are to be settled, then the newest."""
    items = conn.execute(select(tasks.c.id, tasks.c.extra).where(tasks.c.purpose == "adjudication", _JUDGED)).all()
    newest = sorted(items, key=lambda item: ("settled" in item.extra, -item.id))[:limit]
    found = [outcome for item in newest if (outcome := outcome_of(conn, item.id)) is not None]
    return sorted(found, key=lambda one: (one.settled is not None, -one.said["id"]))


def outcome_of(conn: Connection, item_id: int) -> Adjudicated | None:
    """What became of one; None while nobody has judged it, and for a task that is none."""
    item = conn.execute(select(tasks.c.purpose, tasks.c.extra).where(tasks.c.id == item_id)).first()
    source = source_of(item.extra) if item is not None and item.purpose == "adjudication" else None
    said = next((row for row in reversed(judgements_of_task(conn, item_id)) if row["retracted"] is None and row["value"] is not None), None)
    if item is None or source is None or said is None:
        return None
    rows = judgements_of_task(conn, source)
    against = [row for row in rows if row["retracted"] is None and row["value"] is not None
               and contradiction(row["kind"], said["value"], row["value"]) > 0]
    return Adjudicated(item_id, source, said["kind"], said, against, [row for row in rows if row["retracted"] == _reason(item_id)],
                       item.extra.get("settled"))


def settle(conn: Connection, item_id: int, *, overrule: bool, by_id: int, now: float) -> int:
    """Retract the judgements that the item's contradicts, or let all stand. Returns how many were retracted.

    Raises: ContentError when nobody has judged the item, or it was settled before.
    """
    found = _outcome(conn, item_id)
    if found.settled is not None:
        raise ContentError(f"item {item_id} was settled before: {found.settled}", hint="take that back first")
    ids = [row["id"] for row in found.against] if overrule else []
    for judgement_id in ids:
        conn.execute(insert(retractions).values(judgement_id=judgement_id, by_id=by_id, reason=_reason(item_id), created_at=now))
    _note(conn, item_id, "overruled" if overrule else "kept")
    record_audit(conn, action="overrule" if overrule else "let stand", now=now, actor_id=by_id, subject=f"task {found.task_id}",
                 item=item_id, judgements=ids)
    return len(ids)


def unsettle(conn: Connection, item_id: int, *, by_id: int, now: float) -> int:
    """Take a settlement back: what was retracted by it counts again. Returns how many judgements.

    Raises: ContentError where there is none.
    """
    found = _outcome(conn, item_id)
    if found.settled is None:
        raise ContentError(f"item {item_id} is not settled")
    ids = [row["id"] for row in found.overruled]
    conn.execute(delete(retractions).where(retractions.c.judgement_id.in_(ids), retractions.c.reason == _reason(item_id)))
    _note(conn, item_id, None)
    record_audit(conn, action="take settlement back", now=now, actor_id=by_id, subject=f"task {found.task_id}", item=item_id,
                 judgements=ids)
    return len(ids)


def _outcome(conn: Connection, item_id: int) -> Adjudicated:
    found = outcome_of(conn, item_id)
    if found is None:
        raise ContentError(f"nobody has judged an adjudication item {item_id}")
    return found


def _note(conn: Connection, item_id: int, settled: str | None) -> None:
    extra = dict(conn.scalar(select(tasks.c.extra).where(tasks.c.id == item_id)) or {})
    extra.pop("settled", None)
    conn.execute(update(tasks).where(tasks.c.id == item_id).values(extra=extra | ({"settled": settled} if settled else {})))


def _reason(item_id: int) -> str:
    return f"{OVERRULED}{item_id}"
