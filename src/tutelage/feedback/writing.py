"""Prompts that people write: asked for by a lead, answered by others as demonstrations, and taken out for sampling and PPO.

The three ways to write one are those of Ouyang et al. 2022, arXiv:2203.02155, appendix A.1: plain (any task, diverse), few-shot (an
instruction with pairs of query and reply), user-based (for a use that somebody described).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, func, or_, select

from . import queue
from .content import add_prompt, add_task, prompt_hash, record_audit
from .errors import ContentError
from .pseudonyms import pseudonym
from .schema import judgements, labelers, prompts, retractions, tasks
from .values import STYLES

BATCH = "written prompts"
MOST_ASKED = 1000
_ANSWERS = tasks.alias("answers")
_WRITTEN = _ANSWERS.c.extra["written"].as_integer()
"""Of a task of BATCH: the judgement that is its prompt."""
_TO_WRITE = tasks.c.kind == "prompt", tasks.c.prompt_id.is_(None)
"""The second is so of all of them, and has an index: in a store of many judgements they are few."""


@dataclass(frozen=True)
class Written:
    """A prompt as somebody wrote it. messages: as a conversation whose last turn waits for an answer. task_id: of its demonstration."""

    judgement_id: int
    labeler_id: int
    style: str
    messages: list[dict[str, str]]
    at: float
    task_id: int | None


def ask_for_prompts(conn: Connection, *, style: str, count: int, question: str, by_id: int, now: float) -> list[int]:
    """Tasks to write `count` prompts, each by whoever comes first. question: what is wanted, shown above the field; may be empty.

    Raises: ContentError on a style that is none, a count out of range, and a user-based one that describes no use.
    """
    if style not in STYLES:
        raise ContentError(f"style is {style[:40]!r}", hint=f"it is one of {', '.join(STYLES)}")
    if not 1 <= count <= MOST_ASKED:
        raise ContentError(f"{count:,} prompts at once", hint=f"from 1 to {MOST_ASKED:,}")
    if style == "user_based" and not question.strip():
        raise ContentError("no use is described", hint="say who asks the assistant, and for what")
    extra = {"style": style, **({"question": question.strip()} if question.strip() else {})}
    made = [add_task(conn, kind="prompt", now=now, extra=extra) for _ in range(count)]
    record_audit(conn, action="ask for prompts", actor_id=by_id, subject=style, tasks=count, now=now)
    return made


def wanted(conn: Connection) -> int:
    """Prompts that are asked for and not written yet."""
    return int(conn.scalar(select(func.coalesce(func.sum(tasks.c.free), 0)).where(*_TO_WRITE, tasks.c.state == "open")) or 0)


def written(conn: Connection) -> tuple[int, int]:
    """(prompts that people wrote and that stand, those of them that nobody was asked to answer yet)."""
    found, unasked = (conn.scalar(query.with_only_columns(func.count())) for query in (_standing(), _unasked()))
    return int(found or 0), int(unasked or 0)


def newest(conn: Connection, count: int) -> list[Written]:
    """The newest of what people wrote and stands, newest first."""
    rows = conn.execute(_standing().order_by(judgements.c.id.desc()).limit(count)).all()
    asked = select(_WRITTEN, _ANSWERS.c.id).where(_ANSWERS.c.batch == BATCH, _WRITTEN.in_([row.id for row in rows]))
    answers = {judgement: task for judgement, task in conn.execute(asked)}
    return [Written(row.id, row.labeler_id, row.value.get("style", "plain"), messages_of(row.value), row.created_at, answers.get(row.id))
            for row in rows]


def ask_for_answers(conn: Connection, *, by_id: int, now: float, overlap: int = 1) -> list[int]:
    """A demonstration task for each prompt that people wrote and that has none yet. Returns their ids. Its author may be who answers."""
    made = []
    for one in conn.execute(_unasked().order_by(judgements.c.id)).all():
        prompt_id = add_prompt(conn, content=messages_of(one.value), source="labeler", author_id=one.labeler_id, now=now)
        made.append(add_task(conn, kind="demonstration", prompt_id=prompt_id, overlap=overlap, batch=BATCH, now=now,
                             extra={"written": one.id}))
    if made:
        record_audit(conn, action="ask for answers", actor_id=by_id, tasks=len(made), now=now)
    return made


def undo_last(conn: Connection, labeler_id: int, *, now: float) -> queue.Claim:
    """`queue.undo_last`, after which nobody is asked any more to answer the prompt that was undone, if it was one."""
    undone = queue.undo_last(conn, labeler_id, now=now)
    if undone.kind == "prompt":
        gone = select(judgements.c.id).where(judgements.c.assignment_id == undone.assignment_id)
        queue.withdraw(conn, list(conn.scalars(select(_ANSWERS.c.id).where(_ANSWERS.c.batch == BATCH, _WRITTEN.in_(gone)))), now=now)
    return undone


def messages_of(value: Mapping[str, Any]) -> list[dict[str, str]]:
    """What was written as messages. Of a few-shot one every pair but the last is a turn with its reply, and the last query waits."""
    text, pairs = value["text"], value.get("examples", ())
    if not pairs:
        return [{"role": "user", "content": text}]
    messages = [{"role": "user", "content": f"{text}\n\n{pairs[0]['prompt']}"}]
    for before, pair in zip(pairs, pairs[1:], strict=False):
        messages += [{"role": "assistant", "content": before["response"]}, {"role": "user", "content": pair["prompt"]}]
    return messages


def prompt_rows(conn: Connection, key: str | None, skipped: Counter[str]) -> Iterator[dict[str, Any]]:
    """Every prompt that may be used, once: {"prompt", "source", "user"}, as `sample` and `ppo` read them. key: of pseudonyms; None: names.

    Those of customers with their consent, those people wrote, those that were brought in; none that was erased, and none of a user or
    labeler who is held out, since whoever reads the file may train on all of it: skipped["held out"] is how many these are.
    """
    held_out = set(conn.scalars(_stored().with_only_columns(prompts.c.hash).where(or_(prompts.c.split != "train", labelers.c.held_out))))
    held_out |= {prompt_hash(messages_of(one.value)) for one in conn.execute(_standing().where(labelers.c.held_out))}
    seen = set[str]()
    for digest, content, source, who in _usable(conn):
        if digest not in seen:
            seen.add(digest)
            if digest in held_out:
                skipped["held out"] += 1
            else:
                yield {"prompt": content, "source": source, **({"user": pseudonym(who, key)} if who else {})}


def _usable(conn: Connection) -> Iterator[tuple[str, Any, str, str | None]]:
    """(hash, content, source, whose) of prompts, some twice: as somebody wrote them, and as they are stored."""
    for one in conn.execute(_standing().order_by(judgements.c.id)):
        messages = messages_of(one.value)
        yield prompt_hash(messages), messages, "labeler", one.name
    for row in conn.execute(_stored().where(prompts.c.content.is_not(None), prompts.c.consent).order_by(prompts.c.id)):
        if row.source != "labeler" or "conversation" in row.extra:      # else its writer's, who may have taken it back: it is above, or not
            yield row.hash, row.content, row.source, row.user or row.author


def _stored() -> Select[Any]:
    return select(prompts, labelers.c.name.label("author")).outerjoin(labelers, prompts.c.author_id == labelers.c.id)


def _standing() -> Select[Any]:
    return (select(judgements.c.id, judgements.c.labeler_id, judgements.c.value, judgements.c.created_at, labelers.c.name)
            .select_from(tasks).join(judgements, judgements.c.task_id == tasks.c.id)
            .join(labelers, labelers.c.id == judgements.c.labeler_id)
            .outerjoin(retractions, retractions.c.judgement_id == judgements.c.id)
            .where(*_TO_WRITE, judgements.c.value.is_not(None), retractions.c.id.is_(None), labelers.c.erased_at.is_(None)))


def _unasked() -> Select[Any]:
    return _standing().where(judgements.c.id.not_in(select(_WRITTEN).where(_ANSWERS.c.batch == BATCH, _WRITTEN.is_not(None))))
