"""What reward models say of answers, and how that orders the queue: first what they are least sure of (docs/feedback.md).

The queue's uniform share is drawn by lot whatever the order, and each draw keeps its probability (draws.py), so estimates stay unbiased.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from sqlalchemy import Connection, select

from ..base.faults import shorten
from ..base.records import prompt_from_json, prompt_to_json
from . import queue
from .content import clean, prompt_hash
from .errors import ContentError
from .io.keys import select_in
from .schema import prompts, responses, scores, tasks
from .sql import run

MAX_MODEL_NAME = 200
LIMIT = 1_000_000
"""Of scores on both sides of 0, and of spreads: what lies beyond is a mistake, and what is computed within is finite."""


class Score(NamedTuple):
    """A reward model's score of a response. spread: its standard deviation, where the model is an ensemble that tells it."""

    response_id: int
    score: float
    spread: float | None = None


def add_scores(conn: Connection, model: str, given: Sequence[Score], *, now: float) -> int:
    """Keep what a model says, in the place of what it said before, and put the open tasks with these answers in their new order.

    Returns how many tasks got a priority. Raises: ContentError that names the first response that is not there, or number that is none.
    """
    if not model.strip() or len(model) > MAX_MODEL_NAME:
        raise ContentError("the model that scores has no name" if not model.strip() else "the model's name is too long",
                           hint=f"give one of 1 to {MAX_MODEL_NAME} characters")
    for one in given:
        for name, value, low in (("score", one.score, -LIMIT), ("spread", one.spread, 0)):
            if value is not None and not low <= value <= LIMIT:     # nan too
                raise ContentError(f"response {one.response_id}: {name} is {shorten(value)}",
                                   hint=f"it is a number from {low:,} to {LIMIT:,}")
    there = {row.id: row.prompt_id for row in select_in(conn, responses.c.id, (one.response_id for one in given), responses.c.id,
                                                        responses.c.prompt_id)}
    if missing := next((one.response_id for one in given if one.response_id not in there), None):
        raise ContentError(f"there is no response {missing}; nothing was kept")
    for one in given:
        run(conn, """INSERT INTO scores (response_id, model, score, spread, created_at) VALUES (:response, :model, :score, :spread, :now)
                     ON CONFLICT (response_id, model) DO UPDATE
                     SET score = excluded.score, spread = excluded.spread, created_at = excluded.created_at""",
            response=one.response_id, model=clean(model), score=float(one.score), spread=one.spread, now=now)
    return _reorder(conn, there)


def find_response(conn: Connection, prompt: Any, text: str) -> int:
    """The id of an answer by its words and its prompt's, as files name it. Raises: ContentError when there is none."""
    try:
        content = prompt_to_json(prompt_from_json(clean(prompt)))
    except ValueError as error:
        raise ContentError(str(error)) from error
    found = conn.execute(select(responses.c.id).join(prompts, prompts.c.id == responses.c.prompt_id)
                         .where(prompts.c.hash == prompt_hash(content), responses.c.text == clean(text)).limit(1)).scalar()
    if found is None:
        raise ContentError("the store has no such prompt with such an answer")
    return int(found)


def _reorder(conn: Connection, changed: Mapping[int, int]) -> int:
    """changed: response -> its prompt."""
    rows = [row for row in select_in(conn, tasks.c.prompt_id, changed.values(), tasks.c.id, tasks.c.response_ids, tasks.c.state)
            if row.state == "open" and not changed.keys().isdisjoint(row.response_ids)]
    said: dict[str, dict[int, Score]] = defaultdict(dict)
    for row in select_in(conn, scores.c.response_id, (i for task in rows for i in task.response_ids), *scores.c):
        said[row.model][row.response_id] = Score(row.response_id, row.score, row.spread)
    found = {row.id: doubt(row.response_ids, list(said.values())) for row in rows}
    finite = {task: value for task, value in found.items() if value is not None and math.isfinite(value)}   # not so: kept before LIMIT was
    return queue.set_priorities(conn, finite)


def doubt(response_ids: Sequence[int], models: Sequence[Mapping[int, Score]]) -> float | None:
    """How unsure reward models are of answers to one prompt; None when they say nothing of it.

    P(the first of two is better) = sigmoid(score - score). Several models: the standard deviation of their P, the rule `spread` of
    docs/feedback.md. One that tells the spread of its own members: what that makes of P, to first order, P (1 - P) sqrt(s1^2 + s2^2).
    One without: 1/2 - |P - 1/2|, the rule `close`. More than two answers: the mean over their pairs. One answer: the standard deviation
    of its scores, or its spread. A model counts where it scored every answer. Each is a number >= 0, comparable within one of these cases.
    """
    whole = [[model[i] for i in response_ids] for model in models if response_ids and all(i in model for i in response_ids)]
    if not whole:
        return None
    if len(response_ids) == 1:
        return statistics.pstdev(one[0].score for one in whole) if len(whole) > 1 else whole[0][0].spread
    return statistics.fmean(_of_pair([(model[a], model[b]) for model in whole]) for a, b in combinations(range(len(response_ids)), 2))


def _of_pair(pairs: Sequence[tuple[Score, Score]]) -> float:
    chances = [_sigmoid(first.score - second.score) for first, second in pairs]
    if len(chances) > 1:
        return statistics.pstdev(chances)
    (first, second), p = pairs[0], chances[0]
    if first.spread is None or second.spread is None:
        return 0.5 - abs(p - 0.5)
    return p * (1 - p) * math.hypot(first.spread, second.spread)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else 1 - 1 / (1 + math.exp(x))
