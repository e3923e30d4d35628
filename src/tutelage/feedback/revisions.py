"""Language feedback: a person's critique, a model's revision after it, and what the person makes of that.

The revision becomes an edit task for whoever wrote the critique: it is shown back, accepted or changed, and what they leave is preferred
to the original, as every edit is (likelihood.as_preference). Where the revision is no better, they compare it with the original instead.
Nothing is preferred until a person said so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from . import queue
from .content import add_response, add_task, check_stands
from .conversations import Sampled
from .errors import QueueError
from .io.keys import Place, key_of, known, remember
from .newcomers import may_work
from .schema import assignments, judgements, prompts, responses, retractions, tasks
from .standing import MEASURING


@dataclass(frozen=True)
class Criticised:
    """An answer and what its critic said. edit_id: the critic's assignment to edit the revision, where there is one already."""

    judgement_id: int
    prompt_id: int
    prompt: Any
    response_id: int
    answer: str
    critique: str
    edit_id: int | None


def criticised(conn: Connection, assignment_id: int, labeler_id: int) -> Criticised:
    """What an assignment's critique was about.

    Raises: QueueError when this labeler gave none in it, or took it back; when it was part of practice or the test, or they have the test
    before them or failed it, since the edit that follows is work.
    """
    row = conn.execute(
        select(judgements.c.id, judgements.c.value, tasks.c.prompt_id, tasks.c.response_ids, prompts.c.content)
        .join(assignments, assignments.c.id == judgements.c.assignment_id).join(tasks, tasks.c.id == judgements.c.task_id)
        .join(prompts, prompts.c.id == tasks.c.prompt_id).outerjoin(retractions, retractions.c.judgement_id == judgements.c.id)
        .where(assignments.c.id == assignment_id, assignments.c.labeler_id == labeler_id, judgements.c.kind == "critique",
               judgements.c.value.is_not(None), retractions.c.id.is_(None), tasks.c.purpose.not_in(MEASURING))).first()
    if row is None or not may_work(conn, labeler_id):
        raise QueueError("there is no such critique of yours", hint="go back to the start page and take the next task")
    answer = conn.execute(select(responses.c.id, responses.c.text).where(responses.c.id == row.response_ids[0])).one()
    before = known(conn, [_key(row.id)]).get(_key(row.id))
    return Criticised(row.id, row.prompt_id, row.content, answer.id, answer.text or "", row.value["critique"], before and before[0])


def _key(judgement_id: int) -> str:
    return key_of("revision", judgement_id)


def add_revision(conn: Connection, about: Criticised, revision: Sampled, labeler_id: int, *, now: float) -> int:
    """Keep a revision and hold its edit for the critic. Returns the assignment's id; of a second try, the first's.

    Raises: ErasedError when what was criticised was erased while the model wrote; QueueError when the critique was taken back.
    """
    stands = conn.execute(select(judgements.c.task_id, retractions.c.id).select_from(judgements.outerjoin(retractions))
                          .where(judgements.c.id == about.judgement_id)).one()
    check_stands(conn, stands.task_id)
    if stands.id is not None:                                       # as it also is where who criticised was erased
        raise QueueError("this critique was taken back, so its revision was dropped", hint="go back to the start page")
    if before := known(conn, [_key(about.judgement_id)]).get(_key(about.judgement_id)):
        return before[0]
    made = add_response(conn, prompt_id=about.prompt_id, text=revision.text, model=revision.model, model_hash=revision.model_hash,
                        sampling=revision.sampling, logprobs=revision.logprobs, revises_id=about.response_id, now=now)
    task = add_task(conn, kind="edit", prompt_id=about.prompt_id, response_ids=[about.response_id], now=now,
                    extra={"revision": made, "critique": about.judgement_id})
    held = queue.give(conn, task, labeler_id, now=now)
    remember(conn, {_key(about.judgement_id): (held.assignment_id, Place("studio", 0, 0))})
    return held.assignment_id


def compare_instead(conn: Connection, assignment_id: int, labeler_id: int, *, now: float) -> int:
    """Whoever holds the edit of a revision finds it no better: the edit ends, and original and revision are theirs to compare.

    Returns the comparison's assignment. Raises: QueueError when they hold no such edit, or it ran out and went to another.
    """
    row = conn.execute(
        select(tasks.c.id, tasks.c.prompt_id, tasks.c.response_ids, tasks.c.extra, tasks.c.free, tasks.c.state.label("task_state"),
               assignments.c.state).join(assignments, assignments.c.task_id == tasks.c.id)
        .where(assignments.c.id == assignment_id, assignments.c.labeler_id == labeler_id, tasks.c.kind == "edit",
               assignments.c.state.in_(("reserved", "expired")))).first()
    if row is None or "revision" not in (row.extra or {}):
        raise QueueError("there is no such revision of yours", hint="go back to the start page and take the next task")
    if row.state == "expired" and (row.free == 0 or row.task_state != "open"):
        raise QueueError("the time for this task ran out and it was given to others", hint="go on with the next task")
    queue.skip(conn, assignment_id=assignment_id, labeler_id=labeler_id, reason="no better", now=now)
    queue.withdraw(conn, [row.id], now=now)
    task = add_task(conn, kind="comparison", prompt_id=row.prompt_id, response_ids=[*row.response_ids, row.extra["revision"]], now=now)
    return queue.give(conn, task, labeler_id, now=now).assignment_id
