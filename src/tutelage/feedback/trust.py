"""How far each labeler of a store is to be believed: as a reward model weighs them that learns from a snapshot of all it holds."""

from __future__ import annotations

from sqlalchemy import Connection

from .likelihood import Order, Reliability, reliability_of
from .snapshot import PURPOSES
from .sql import load, loader, run


def trust(conn: Connection) -> Reliability:
    """By all comparisons and rankings that stand, of people who are not held out (docs/feedback.md, Reliability). Reads each once."""
    ids, values = loader(), loader()
    rows = run(conn, f"""
        SELECT l.name, t.response_ids, j.value, j.sides FROM judgements j
        JOIN tasks t ON t.id = j.task_id JOIN labelers l ON l.id = j.labeler_id
        WHERE j.kind IN ('comparison', 'ranking') AND t.purpose IN ({', '.join(f"'{purpose}'" for purpose in PURPOSES)})
              AND NOT l.held_out AND l.erased_at IS NULL AND j.value IS NOT NULL
              AND NOT EXISTS (SELECT 1 FROM retractions r WHERE r.judgement_id = j.id)
        ORDER BY j.id""")
    return reliability_of(Order(name, ids(answers), ranks, load(sides) or None) for name, answers, value, sides in rows
                          if (ranks := values(value).get("ranks")) is not None)
