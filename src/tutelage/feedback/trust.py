"""How far each labeler of a store is to be believed: as a reward model weighs them that learns from a snapshot of all it holds."""

from __future__ import annotations

from sqlalchemy import Connection, Text, select, type_coerce

from .likelihood import Order, Reliability, reliability_of
from .schema import judgements, labelers, responses, tasks
from .snapshot import JUDGED, OUT, PURPOSES
from .sql import load, loader


def trust(conn: Connection) -> Reliability:
    """By all comparisons and rankings that a snapshot takes, of people who are not held out (docs/feedback.md, Reliability)."""
    ids, values = loader(), loader()
    gone = set(conn.scalars(select(responses.c.id).where(responses.c.text.is_(None))))
    rows = conn.execute(                                            # documents as text: equal ones are read once
        select(labelers.c.name, *(type_coerce(column, Text) for column in (tasks.c.response_ids, judgements.c.value, judgements.c.sides)))
        .select_from(JUDGED)
        .where(judgements.c.kind.in_(("comparison", "ranking")), tasks.c.purpose.in_(PURPOSES), ~labelers.c.held_out, OUT.is_(None))
        .order_by(judgements.c.id))
    return reliability_of(Order(name, ids(answers), ranks, load(sides) or None) for name, answers, value, sides in rows
                          if (ranks := values(value).get("ranks")) is not None and gone.isdisjoint(ids(answers)))
