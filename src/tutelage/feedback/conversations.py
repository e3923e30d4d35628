"""Conversations with a model, as in Bai et al. 2022 (arXiv:2204.05862, section 2): each turn two answers, one is chosen and continues.

Every choice is a judgement like any other: a comparison task whose prompt is the conversation so far, made when the choice is. What is
not a judgement yet (messages, the turn that waits for a choice, a draft) is the document `messages` of the row.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, update

from . import queue
from .content import add_prompt, add_response, add_task, check_stands, clean
from .errors import ContentError, QueueError
from .guidelines import version_in_force
from .reports import tell_lead
from .schema import Row, assignments, conversations, judgements, prompts, responses, retractions, tasks

BATCH = "conversations"
_RANDOM = random.SystemRandom()


@dataclass(frozen=True)
class Sampled:
    """An answer as a model server gave it. model_hash: digest of the weights, where the server says it. logprobs: of its tokens."""

    text: str
    model: str | None = None
    model_hash: str | None = None
    sampling: Mapping[str, Any] | None = None
    logprobs: Sequence[float] | None = None


@dataclass(frozen=True)
class Turn:
    """Two answers that wait for a choice. sides: position on the page -> index into response_ids.

    at: since when they do. guidelines: the version in force then.
    """

    prompt_id: int
    response_ids: tuple[int, ...]
    sides: tuple[int, ...]
    at: float
    guidelines: str | None


@dataclass(frozen=True)
class Conversation:
    """messages: {"role", "content"}, and "task" where the answer was chosen. draft: form field -> what was entered, at draft_at.

    since: when something was last said or chosen, UTC seconds. wrote: seconds spent on what was said since it began or was last rated.
    """

    id: int
    labeler_id: int
    assignment_id: int | None
    state: str
    messages: tuple[dict[str, Any], ...]
    turn: Turn | None
    draft: Mapping[str, Any]
    draft_at: float
    rating: int | None
    comment: str | None
    since: float
    wrote: float

    @property
    def said(self) -> list[dict[str, str]]:
        """The messages as models take them."""
        return [{"role": message["role"], "content": message["content"]} for message in self.messages]

    @property
    def waits(self) -> bool:
        """Whether the last message has no answer yet, as where a task's prompt begins the conversation."""
        return self.turn is None and bool(self.messages) and self.messages[-1]["role"] == "user"

    @property
    def may_take_back(self) -> bool:
        """Whether the last thing that happened was a choice."""
        return self.state == "open" and self.turn is None and bool(self.messages) and "task" in self.messages[-1]


def start(conn: Connection, labeler_id: int, *, now: float, assignment_id: int | None = None) -> int:
    """The id of a conversation to go on with: the one of this task, or one in which nothing was said yet, else a new one.

    Raises: QueueError when the assignment is not a conversation of this labeler's.
    """
    messages: list[dict[str, Any]] = []
    if assignment_id is not None:
        row = conn.execute(select(assignments.c.task_id, prompts.c.content).join(tasks, tasks.c.id == assignments.c.task_id)
                           .outerjoin(prompts, prompts.c.id == tasks.c.prompt_id)
                           .where(assignments.c.id == assignment_id, assignments.c.labeler_id == labeler_id,
                                  tasks.c.kind == "conversation", assignments.c.state.in_(("reserved", "expired")))).first()
        if row is None:
            raise QueueError("there is no such task of yours", hint="go back to the start page and take the next one")
        check_stands(conn, row.task_id)
        begun = [{"role": "user", "content": row.content}] if isinstance(row.content, str) else row.content or []
        messages = [{"role": message["role"], "content": message["content"]} for message in begun]
    mine = select(conversations.c.id, conversations.c.messages, conversations.c.state).where(conversations.c.labeler_id == labeler_id)
    of_task = conversations.c.assignment_id == assignment_id if assignment_id is not None else conversations.c.assignment_id.is_(None)
    for found in conn.execute(mine.where(of_task).order_by(conversations.c.id.desc())):
        if assignment_id is not None:                               # its end was undone, or it is still open
            conn.execute(update(conversations).where(conversations.c.id == found.id).values(state="open", ended_at=None))
            return int(found.id)
        if found.state == "open" and not found.messages["messages"]:
            return int(found.id)
    return int(conn.execute(insert(conversations).values(
        labeler_id=labeler_id, assignment_id=assignment_id, messages={"messages": messages}, state="open", created_at=now)
        .returning(conversations.c.id)).scalar_one())


def load(conn: Connection, conversation_id: int, labeler_id: int) -> Conversation | None:
    """A conversation of this labeler's; None when there is none of that id, when it is another's, or erased."""
    row = conn.execute(select(conversations).where(conversations.c.id == conversation_id,
                                                   conversations.c.labeler_id == labeler_id)).mappings().first()
    if row is None or row["messages"] is None:
        return None
    document = row["messages"]
    turn, draft = document.get("turn"), document.get("draft") or {}
    return Conversation(row["id"], labeler_id, row["assignment_id"], row["state"], tuple(document["messages"]),
                        None if turn is None else Turn(turn["prompt"], tuple(turn["responses"]), tuple(turn["sides"]), turn["at"],
                                                          turn.get("guidelines")),
                        draft.get("fields", {}), draft.get("at", 0.0), row["rating"], row["comment"],
                        document.get("since", row["created_at"]), document.get("wrote", 0.0))


def of_labeler(conn: Connection, labeler_id: int, *, limit: int = 50) -> list[Row]:
    """Somebody's conversations, newest first: {id, state, rating, created_at, turns, first: what they said first}."""
    rows = conn.execute(select(conversations).where(conversations.c.labeler_id == labeler_id, conversations.c.messages.is_not(None))
                        .order_by(conversations.c.id.desc()).limit(limit)).mappings()
    found = []
    for row in rows:
        said = [message["content"] for message in row["messages"]["messages"] if message["role"] == "user"]
        found.append({name: row[name] for name in ("id", "state", "rating", "created_at")} | {
            "turns": len(said), "first": said[0] if said else ""})
    return found


def keep_draft(conn: Connection, conversation_id: int, labeler_id: int, fields: Mapping[str, Any], *, now: float) -> None:
    """Keep what was entered so far in the place of what was kept before. Raises: QueueError."""
    found = _open(conn, conversation_id, labeler_id)
    _save(conn, found, now, messages=found.messages, turn=found.turn, draft=fields)


def draft_of_end(draft: Mapping[str, Any]) -> dict[str, Any]:
    """What of a draft is about the whole conversation, and so outlives the turn at hand."""
    return {name: draft[name] for name in ("rating", "comment") if name in draft}


def reply(conn: Connection, conversation_id: int, labeler_id: int, *, at: int, text: str | None, answers: Sequence[Sampled],
          now: float, seconds: float = 0.0) -> bool:
    """Add what the labeler said (None: the last message waits for its answer) and the two answers to it, which now wait for a choice.

    seconds: that it took to say and be answered; they are of the judgement that ends the conversation.
    at: messages there were when the answers were asked for; False, and nothing is done, when there are others by now (two tabs, a double
    click). Two answers of the same words leave nothing to choose: the conversation goes on with them. Raises: QueueError; ContentError.
    """
    found = _open(conn, conversation_id, labeler_id)
    if len(found.messages) != at or found.turn is not None:
        return False
    messages = [*found.messages, *([{"role": "user", "content": clean(text)}] if text is not None else [])]
    if not messages or messages[-1]["role"] != "user" or not messages[-1]["content"].strip():
        raise ContentError("the message is empty", hint="write something to the assistant")
    content = [{"role": message["role"], "content": message["content"]} for message in messages]
    prompt_id = add_prompt(conn, content=content, source="labeler", author_id=labeler_id, now=now, extra={"conversation": found.id})
    ids = [add_response(conn, prompt_id=prompt_id, text=answer.text, model=answer.model, model_hash=answer.model_hash,
                        sampling=answer.sampling, logprobs=answer.logprobs, now=now) for answer in answers]
    if len({answer.text for answer in answers}) == 1:
        messages.append({"role": "assistant", "content": clean(answers[0].text)})
        _save(conn, found, now, messages=messages, turn=None, wrote=found.wrote + seconds, since=now)
        return True
    sides = list(range(len(ids)))
    _RANDOM.shuffle(sides)
    turn = Turn(prompt_id, tuple(ids), tuple(sides), now, version_in_force(conn))
    _save(conn, found, now, messages=messages, turn=turn, wrote=found.wrote + seconds, since=now)
    return True


def choose(conn: Connection, conversation_id: int, labeler_id: int, *, at: int, value: Mapping[str, Any], now: float,
           seconds: float | None = None, interface_version: str | None = None) -> int | None:
    """Record which of the two answers is better, as the page showed them; that one continues. Returns the judgement's id.

    None when the choice was made already. Raises: ContentError when nothing was chosen; QueueError.
    """
    found = _open(conn, conversation_id, labeler_id)
    if found.turn is None or len(found.messages) != at:
        return None
    if "choice" not in value or value["choice"] is None:
        raise ContentError("nothing was chosen", hint="choose a step from 1 (A much better) to 8 (B much better)")
    task = _reported(conn, found.turn, unjudged=True)
    if task is None:
        task = _new_task(conn, found, found.turn, now)
    else:
        conn.execute(update(tasks).where(tasks.c.id == task).values(state="open"))
    held = queue.give(conn, task, labeler_id, now=now, sides=found.turn.sides, guideline_version=found.turn.guidelines)
    judgement = queue.submit(conn, assignment_id=held.assignment_id, labeler_id=labeler_id, value=value, now=now, seconds=seconds,
                             interface_version=interface_version)
    ranks = conn.execute(select(judgements.c.value).where(judgements.c.id == judgement)).scalar_one()["ranks"]
    text = conn.scalar(select(responses.c.text).where(responses.c.id == found.turn.response_ids[ranks.index(0)]))
    _save(conn, found, now, messages=[*found.messages, {"role": "assistant", "content": text, "task": task}], turn=None,
          since=now)
    return judgement


def chosen(conn: Connection, found: Conversation, at: int) -> tuple[dict[str, Any], list[int]] | None:
    """What was chosen of the two answers to the first `at` messages, and their sides on the page; None where there was no choice."""
    task = found.messages[at].get("task") if 0 <= at < len(found.messages) else None
    row = conn.execute(select(judgements.c.value, judgements.c.sides).where(judgements.c.task_id == task)
                       .order_by(judgements.c.id.desc()).limit(1)).first()
    return None if row is None else (row.value or {}, row.sides)


def take_back(conn: Connection, conversation_id: int, labeler_id: int, *, now: float) -> None:
    """Undo the last choice: its judgement is retracted, and the same two answers wait again. Raises: QueueError when there is none."""
    found = _open(conn, conversation_id, labeler_id)
    if not found.may_take_back:
        raise QueueError("there is nothing to take back", hint="only the last choice can be, before something is said to it")
    task = found.messages[-1]["task"]
    row = conn.execute(select(judgements.c.id, judgements.c.sides, tasks.c.prompt_id, tasks.c.response_ids, retractions.c.reason)
                       .join(tasks, tasks.c.id == judgements.c.task_id).outerjoin(retractions).where(tasks.c.id == task)).one()
    if row.reason is not None:
        raise QueueError("this choice counts no more: it was overruled", hint="go on with the conversation, or end it")
    conn.execute(insert(retractions).values(judgement_id=row.id, by_id=labeler_id, reason="undone", created_at=now))
    turn = Turn(row.prompt_id, tuple(row.response_ids), tuple(row.sides), now, version_in_force(conn))
    _save(conn, found, now, messages=found.messages[:-1], turn=turn, since=now)


def end(conn: Connection, conversation_id: int, labeler_id: int, *, rating: Any, comment: str, now: float,
        seconds: float = 0.0, interface_version: str | None = None) -> int:
    """Close it with a rating, 1 (bad) to 4 (good), and a comment: a judgement of the kind conversation, whose id is returned.

    seconds: of the rating; those of all that was said are added. Choices have had their own.

    Where it was begun for a task that meanwhile went to another, it counts for itself. Raises: ContentError; QueueError.
    """
    found = _open(conn, conversation_id, labeler_id)
    if not found.messages:
        raise ContentError("nothing was said yet")
    told: dict[str, Any] = {"value": {"rating": rating, "comment": comment.strip() or None}, "now": now, "labeler_id": labeler_id,
                            "seconds": round(found.wrote + seconds, 1), "interface_version": interface_version}
    assignment, judgement = found.assignment_id, None
    if assignment is not None:
        try:
            judgement = queue.submit(conn, assignment_id=assignment, **told)
        except QueueError:
            assignment = None
    if judgement is None:
        task = add_task(conn, kind="conversation", now=now, batch=BATCH, extra={"conversation": found.id})
        assignment = queue.give(conn, task, labeler_id, now=now).assignment_id
        judgement = queue.submit(conn, assignment_id=assignment, **told)
    _save(conn, found, now, messages=found.messages, turn=found.turn, wrote=0.0, since=now)
    conn.execute(update(conversations).where(conversations.c.id == found.id)
                 .values(state="ended", rating=rating, comment=clean(comment.strip()) or None, ended_at=now, assignment_id=assignment))
    return judgement


def report(conn: Connection, conversation_id: int, labeler_id: int, *, kind: str, text: str, now: float) -> int:
    """A labeler's word about the turn at hand, or about the last choice where nothing waits for one. Returns its id.

    Leads see items and no conversations, so a turn that waits becomes one that nobody is given, and which the choice is of.
    Raises: QueueError when the conversation is not theirs; ContentError when the word is empty.
    """
    found = load(conn, conversation_id, labeler_id)
    if found is None:
        raise QueueError("there is no such conversation of yours")
    task = found.messages[-1].get("task") if found.messages else None
    if found.turn is not None and (task := _reported(conn, found.turn)) is None:
        task = _new_task(conn, found, found.turn, now)
        queue.withdraw(conn, [task], now=now)
    return tell_lead(conn, kind=kind, task_id=task, labeler_id=labeler_id, text=text, now=now)


def _new_task(conn: Connection, found: Conversation, turn: Turn, now: float) -> int:
    return add_task(conn, kind="comparison", now=now, prompt_id=turn.prompt_id, response_ids=turn.response_ids, batch=BATCH,
                    extra={"conversation": found.id})


def _reported(conn: Connection, turn: Turn, *, unjudged: bool = False) -> int | None:
    """The newest task of these two answers: a report made it, or a choice that was taken back. unjudged: one that nobody has or had."""
    query = select(tasks.c.id, tasks.c.response_ids).where(tasks.c.prompt_id == turn.prompt_id, tasks.c.batch == BATCH)
    if unjudged:
        query = query.where(tasks.c.state == "done", tasks.c.free == tasks.c.overlap)
    return next((row.id for row in conn.execute(query.order_by(tasks.c.id.desc())) if tuple(row.response_ids) == turn.response_ids), None)


def _open(conn: Connection, conversation_id: int, labeler_id: int) -> Conversation:
    found = load(conn, conversation_id, labeler_id)
    if found is None or found.state != "open":
        raise QueueError("this conversation has ended" if found else "there is no such conversation of yours", hint="begin another")
    return found


def _save(conn: Connection, found: Conversation, now: float, *, messages: Sequence[Mapping[str, Any]], turn: Turn | None,
          draft: Mapping[str, Any] | None = None, wrote: float | None = None, since: float | None = None) -> None:
    """Keep where it stands, and hold its task on. draft: None, the turn having ended, leaves what was entered about the whole."""
    document: dict[str, Any] = {"messages": list(messages), "wrote": found.wrote if wrote is None else wrote,
                                "since": found.since if since is None else since}
    draft = draft_of_end(found.draft) if draft is None else draft
    if turn is not None:
        document["turn"] = {"prompt": turn.prompt_id, "responses": list(turn.response_ids), "sides": list(turn.sides), "at": turn.at,
                            "guidelines": turn.guidelines}
    if draft:
        document["draft"] = {"fields": clean(draft), "at": now}
    conn.execute(update(conversations).where(conversations.c.id == found.id).values(messages=document))
    if found.assignment_id is not None:
        try:
            queue.save_draft(conn, assignment_id=found.assignment_id, labeler_id=found.labeler_id, draft={"fields": {}, "at": now}, now=now)
        except QueueError:
            pass                                                    # it ran out and another has it; the conversation itself goes on
