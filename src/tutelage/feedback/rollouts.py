"""Answers of a PPO run, put before people as tasks, and what they say of them as scores.

An answer alone is rated (1 to 7) or labelled (yes or no); several answers to one prompt are compared (2) or ranked (3 to 9). A score lies
in [-1, 1], whatever the kind:

- rating r: (r - 4) / 3, the middle of the scale being 0 (the scale of Ouyang et al. 2022, arXiv:2203.02155, table 3);
- yes or no: 1 or -1;
- K answers in an order: wins less losses against the other K - 1, over K - 1 (the count of Borda 1784, on [-1, 1]). An answer that was
  sampled several times is shown once, and counts as often as it was sampled, tied with itself. These add up to 0: an order says which
  answer is better, and nothing of how good they all are. Marked as all bad, each loses 1, down to -1.

Of several people the mean, weighted by `judgements.weight` and by how far each is to be believed (trust.py). Labelers who are held out
judge, and their verdicts are not used.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, select, update

from ..base.records import Prompt, prompt_to_json
from . import queue
from .content import ANSWERS, add_prompt, add_response, add_task, clean
from .io.keys import select_in
from .schema import Row, assignments, judgements, labelers, prompts, responses, retractions, tasks

PURPOSE = "rollout"
MOST = ANSWERS["ranking"][1]
"""Answers that one task shows."""


@dataclass(frozen=True)
class Asked:
    """Answers to one prompt that are judged together: no two alike, at most MOST. logprobs: of each answer's tokens."""

    prompt: Prompt
    texts: tuple[str, ...]
    logprobs: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Standing:
    """How far people are with a rollout's tasks. halted: tasks that five people skipped, which wait for a lead. short: tasks that are done
    without enough verdicts that count, since some were taken back or came from labelers who are held out.

    scores: task -> one of each of its answers, of those that are judged; 0 for what was erased, which nobody can judge any more.
    """

    tasks: int
    halted: int
    short: list[int]
    scores: dict[int, list[float]]

    @property
    def done(self) -> bool:
        return len(self.scores) == self.tasks


def ask(conn: Connection, asked: Sequence[Asked], *, batch: str, alone: str, overlap: int, now: float, model: str,
        sampling: Mapping[str, Any]) -> list[int]:
    """The task of each, new or as it was asked before; what else was asked under this name of a batch is taken back.

    alone: "rating" or "label", for answers that stand alone. Within one write, so that a process killed in here has asked for all or none.
    """
    rows = conn.execute(select(tasks.c.id, tasks.c.prompt_id, tasks.c.response_ids).where(tasks.c.batch == batch,
                                                                                          tasks.c.purpose == PURPOSE)).all()
    texts = {row.id: row.text for row in select_in(conn, responses.c.id, (i for row in rows for i in row.response_ids), *responses.c)}
    there = {(row.prompt_id, tuple(texts[i] for i in row.response_ids)): row.id for row in rows}
    ids = []
    for one in asked:
        prompt_id = add_prompt(conn, content=prompt_to_json(one.prompt), source="import", now=now, extra={"batch": batch})
        known = there.pop((prompt_id, tuple(map(clean, one.texts))), None)
        if known is None:
            kind = alone if len(one.texts) == 1 else "comparison" if len(one.texts) == 2 else "ranking"
            shown = [add_response(conn, prompt_id=prompt_id, text=text, model=model, sampling=sampling, logprobs=logprobs, now=now)
                     for text, logprobs in zip(one.texts, one.logprobs, strict=True)]
            known = add_task(conn, kind=kind, prompt_id=prompt_id, response_ids=shown, overlap=overlap, purpose=PURPOSE, batch=batch,
                             now=now)
        ids.append(known)
    queue.withdraw(conn, sorted(there.values()), now=now)
    return ids


def standing(conn: Connection, sampled: Mapping[int, Sequence[int]], *, overlap: int, trusted: Mapping[str, float] | None = None
             ) -> Standing:
    """What people have said so far. Only reads.

    sampled: task -> how often each of its answers was. trusted: labeler -> what their verdicts' weights are multiplied by; who is not in it
    counts fully. Where that leaves nothing of a task's verdicts, they count as if nobody were weighed.
    """
    rows, said = _tasks(conn, [*sampled]), _verdicts(conn, [*sampled])
    scores: dict[int, list[float]] = {}
    for row in rows:
        if row["gone"]:
            scores[row["id"]] = [0.0] * len(row["response_ids"])
        elif len(said[row["id"]]) >= overlap:
            scores[row["id"]] = mean_scores(row["kind"], _weighed(said[row["id"]], trusted or {}), sampled[row["id"]])
    open_ = [row for row in rows if row["id"] not in scores]
    short = [row["id"] for row in open_ if row["state"] == "done"]
    return Standing(len(rows), sum(row["state"] == "halted" for row in open_), short, scores)


def ask_again(conn: Connection, short: Sequence[int], *, overlap: int) -> None:
    """Open tasks anew for as many people as their verdicts are short of `overlap`."""
    said = _verdicts(conn, short)
    held = Counter(row.task_id for row in select_in(conn, assignments.c.task_id, short, assignments.c.task_id, assignments.c.state)
                   if row.state == "reserved")
    for row in _tasks(conn, short):
        missing = overlap - len(said[row["id"]]) - held[row["id"]]
        if row["state"] == "done" and missing > 0:
            conn.execute(update(tasks).where(tasks.c.id == row["id"]).values(
                overlap=tasks.c.overlap + missing - row["free"], free=missing, state="open"))


def mean_scores(kind: str, said: Sequence[tuple[Mapping[str, Any], float]], sampled: Sequence[int]) -> list[float]:
    """Each answer's score over people. said: (value, weight) of each verdict, not all of weight 0."""
    total = sum(weight for _, weight in said)
    each = [(scores_of(kind, value, sampled), weight) for value, weight in said]
    return [sum(scores[at] * weight for scores, weight in each) / total for at in range(len(sampled))]


def scores_of(kind: str, value: Mapping[str, Any], sampled: Sequence[int]) -> list[float]:
    """One person's verdict as scores in [-1, 1], in the task's order; the rule stands at the top of this file.

    sampled: how often each answer was.
    """
    if kind == "rating":
        return [(value["rating"] - 4) / 3]
    if kind == "label":
        return [1.0 if value["label"] else -1.0]
    ranks, bad = value["ranks"], bool(value.get("both_bad") or value.get("all_bad"))
    others = sum(sampled) - 1
    led = [sum(times * ((rank < other) - (rank > other)) for other, times in zip(ranks, sampled, strict=True)) / others for rank in ranks]
    return [max(lead - bad, -1.0) for lead in led]


def _tasks(conn: Connection, task_ids: Sequence[int]) -> list[Row]:
    """id, kind, state, free, response_ids, and gone: its prompt or an answer was erased."""
    columns = (tasks.c.id, tasks.c.kind, tasks.c.state, tasks.c.free, tasks.c.response_ids, tasks.c.prompt_id)
    rows = [dict(row._mapping) for row in select_in(conn, tasks.c.id, task_ids, *columns)]
    asked = select_in(conn, prompts.c.id, (row["prompt_id"] for row in rows), prompts.c.id, prompts.c.erased_at)
    shown = select_in(conn, responses.c.id, (i for row in rows for i in row["response_ids"]), responses.c.id, responses.c.erased_at)
    erased = {row.id for row in asked if row.erased_at is not None}, {row.id for row in shown if row.erased_at is not None}
    return [row | {"gone": row["prompt_id"] in erased[0] or not erased[1].isdisjoint(row["response_ids"])} for row in rows]


class _Verdict(NamedTuple):
    """One that counts. weight: its own, above 0."""

    value: Mapping[str, Any]
    weight: float
    labeler: str


def _weighed(said: Sequence[_Verdict], trusted: Mapping[str, float]) -> list[tuple[Mapping[str, Any], float]]:
    found = [(one.value, one.weight * trusted.get(one.labeler, 1.0)) for one in said]
    return found if any(weight > 0 for _, weight in found) else [(one.value, one.weight) for one in said]


def _verdicts(conn: Connection, task_ids: Sequence[int]) -> defaultdict[int, list[_Verdict]]:
    """Task -> the verdicts that count."""
    found = defaultdict[int, list[_Verdict]](list)
    for at in range(0, len(task_ids), 500):
        rows = conn.execute(
            select(judgements.c.task_id, judgements.c.value, judgements.c.weight, labelers.c.name)
            .join(labelers, judgements.c.labeler_id == labelers.c.id)
            .outerjoin(retractions, retractions.c.judgement_id == judgements.c.id)
            .where(judgements.c.task_id.in_(task_ids[at:at + 500]), retractions.c.id.is_(None), judgements.c.value.is_not(None),
                   judgements.c.weight > 0, labelers.c.held_out.is_(False)).order_by(judgements.c.id))
        for row in rows:
            found[row.task_id].append(_Verdict(row.value, row.weight, row.name))
    return found
