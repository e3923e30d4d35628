"""The judgements that stand, in memory: what quality and throughput are computed from.

Texts are left in the database, but for demonstrations and what they might copy; of other answers the number of words comes along.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection

from tutelage.base.times import in_calendar
from tutelage.feedback.items import OVERRULED, source_of
from tutelage.feedback.sql import load, loader, run

MEASURING = ("practice", "screening")
"""Purposes that measure newcomers, who are told the answer or sent away: no part of what is said of labels."""
Moment = tuple[int, int, int]


class Person(NamedTuple):
    """A labeler."""

    name: str
    role: str
    group: str | None
    held_out: bool


class Item(NamedTuple):
    """A judged task. words: of its answers together, by the spaces between them. models: who wrote each, None where that is not known.

    margin: of two answers, how far apart the newest scores hold them; None without scores. source: the task that an adjudication item was
    made of; None of others.
    """

    kind: str
    purpose: str
    batch: str
    prompt: int | None
    expected: Mapping[str, Any] | None
    words: int
    models: tuple[str | None, ...]
    margin: float | None
    source: int | None = None


class Said(NamedTuple):
    """One judgement, to be read only: equal values are one object.

    sides: position on the page -> answer; empty where that is not known. at: UTC seconds. here: given in this studio, not imported, so that
    items came in an order, and answers on sides, that were drawn.
    """

    id: int
    task: int
    labeler: int
    value: Mapping[str, Any]
    sides: list[int]
    seconds: float | None
    at: float
    here: bool


@dataclass(frozen=True)
class Standing:
    """Everything said that counts, oldest first, but for practice and screening. people, items: by their ids in the store.

    sources: what models answered where people were asked for a demonstration. overruled: what a lead retracted because an expert said the
    opposite; no part of `said`.
    """

    said: list[Said]
    people: Mapping[int, Person]
    items: Mapping[int, Item]
    sources: list[str]
    moment: Moment
    overruled: list[Said]

    def of(self, *kinds: str) -> list[Said]:
        """Those on these kinds of task."""
        return [one for one in self.said if self.items[one.task].kind in kinds]


def moment(conn: Connection) -> Moment:
    """What changes when anything is said, taken back, or decided by a lead: the newest ids."""
    newest = "(SELECT COALESCE(MAX(id), 0) FROM {})"
    row = run(conn, "SELECT " + ", ".join(newest.format(table) for table in ("judgements", "retractions", "audit"))).fetchone()
    return int(row[0]), int(row[1]), int(row[2])


def read_standing(conn: Connection) -> Standing:
    """All that counts now."""
    people = {row[0]: Person(row[1], row[2], row[3], bool(row[4]))
              for row in run(conn, 'SELECT id, name, role, "group", held_out FROM labelers ORDER BY id')}
    left_out = ", ".join(f"'{purpose}'" for purpose in MEASURING)
    rows = run(conn, f"""SELECT t.id, t.kind, t.purpose, t.batch, t.prompt_id, t.expected, t.response_ids, t.extra FROM tasks t
                         WHERE t.purpose NOT IN ({left_out}) AND EXISTS (SELECT 1 FROM judgements j WHERE j.task_id = t.id)""").fetchall()
    answers = {row[0]: (row[1], row[2]) for row in run(conn, """
        SELECT id, model, CASE WHEN text IS NULL THEN 0 ELSE LENGTH(text) - LENGTH(REPLACE(text, ' ', '')) + 1 END FROM responses""")}
    scores = dict(run(conn, """SELECT response_id, score FROM scores
                               WHERE model = (SELECT model FROM scores ORDER BY created_at DESC, id DESC LIMIT 1)""").fetchall())
    items = {}
    for task, kind, purpose, batch, prompt, expected, response_ids, extra in rows:
        ids = load(response_ids)
        shown, scored = [answers[response] for response in ids], [scores.get(response) for response in ids]
        first, second = scored if len(scored) == 2 else (None, None)
        items[task] = Item(kind, purpose, batch or "", prompt, load(expected), sum(words for _, words in shown), tuple(m for m, _ in shown),
                           None if first is None or second is None else abs(first - second),
                           source_of(load(extra)) if purpose == "adjudication" else None)
    said = run(conn, """SELECT j.id, j.task_id, j.labeler_id, j.value, j.sides, j.seconds, j.created_at, j.assignment_id, r.id
                        FROM judgements j LEFT JOIN retractions r ON r.judgement_id = j.id
                        WHERE j.value IS NOT NULL AND (r.id IS NULL OR r.reason LIKE :overruled)
                        ORDER BY j.id""", overruled=OVERRULED + "%")
    shared = loader()
    kept: tuple[list[Said], list[Said]] = [], []
    for row in said:
        if row[1] in items:
            one = Said(row[0], row[1], row[2], shared(row[3]), shared(row[4]), row[5], in_calendar(row[6]), row[7] is not None)
            kept[row[8] is not None].append(one)
    sources = run(conn, """SELECT r.text FROM responses r WHERE r.text IS NOT NULL AND r.model IS NOT NULL AND EXISTS (
                               SELECT 1 FROM tasks t WHERE t.prompt_id = r.prompt_id AND t.kind = 'demonstration') ORDER BY r.id""")
    return Standing(kept[0], people, items, [row[0] for row in sources], moment(conn), kept[1])
