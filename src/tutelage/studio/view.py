"""A task as one labeler sees it. Nothing that tells one answer's origin from another's gets this far: no model, no number of the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from markupsafe import Markup
from sqlalchemy import Connection, select

from tutelage.feedback.schema import assignments, judgements, prompts, responses, retractions, tasks
from tutelage.feedback.values import FLAGS
from tutelage.web.markdown import MAX_CHARS, render

FOLD_CHARS = 2_500
FOLD_LINES = 40
"""Beyond either, a text is folded until asked for."""
FLAG_KEYS = "abcdefijklm"
"""Letters that no other action of the page has."""


class Turn(NamedTuple):
    """One message of the prompt; role `text` for a prompt that is text to be continued. cut: not whole on this page."""

    role: str
    html: Markup
    chars: int
    cut: bool


class Answer(NamedTuple):
    """One answer, at a place on the page. chars: of the whole text. folds: shown in part at first. cut: not whole on this page."""

    at: int
    letter: str
    html: Markup
    chars: int
    folds: bool
    cut: bool


class Flag(NamedTuple):
    name: str
    key: str


@dataclass(frozen=True)
class TaskView:
    """What a template shows of a reserved task. draft: form field -> what was entered. draft_at: when, UTC seconds; 0: never.

    original: what an edit begins from. critique: after which a model rewrote the answer, where the edit begins from that.
    """

    assignment_id: int
    kind: str
    purpose: str
    state: str
    turns: Sequence[Turn]
    answers: Sequence[Answer]
    sides: Sequence[int]
    warnings: Sequence[str]
    draft: Mapping[str, Any]
    draft_at: float
    expected: Mapping[str, Any] | None
    claimed_at: float
    critique: str | None = None
    question: str | None = None
    form: str = "plain"
    original: str = ""
    allow_tie: bool = True
    allow_both_bad: bool = True
    flags: Sequence[Flag] = field(default=tuple(Flag(name, key) for name, key in zip(FLAGS, FLAG_KEYS, strict=True)))

    @property
    def base(self) -> str:
        """Below which the pages of this task are."""
        return f"/work/{self.assignment_id}"


@dataclass(frozen=True)
class ItemView:
    """What a lead's page shows of a task: its answers in the task's own order, and still not where they came from."""

    id: int
    kind: str
    purpose: str
    state: str
    turns: Sequence[Turn]
    answers: Sequence[Answer]
    warnings: Sequence[str]
    expected: Mapping[str, Any] | None
    question: str | None
    overlap: int
    free: int

    @property
    def base(self) -> str:
        """Below which the pages of this item are."""
        return f"/lead/tasks/{self.id}"


def load_item(conn: Connection, task_id: int) -> ItemView | None:
    """A task, as leads look at it."""
    row = conn.execute(select(tasks, prompts.c.content, prompts.c.warnings.label("kinds"))
                       .outerjoin(prompts, prompts.c.id == tasks.c.prompt_id).where(tasks.c.id == task_id)).mappings().first()
    if row is None:
        return None
    answers = [_answer(at, text) for at, text in enumerate(texts_of(conn, row["response_ids"]))]
    return ItemView(row["id"], row["kind"], row["purpose"], row["state"], turns_shown(row["content"]), answers, row["kinds"] or [],
                    row["expected"], (row["extra"] or {}).get("question"), row["overlap"], row["free"])


def whole_item_answer(conn: Connection, task_id: int, at: int) -> str | None:
    """The text of a task's answer."""
    ids = conn.scalar(select(tasks.c.response_ids).where(tasks.c.id == task_id)) or []
    return texts_of(conn, ids)[at] if 0 <= at < len(ids) else None


def load_task(conn: Connection, assignment_id: int, labeler_id: int) -> TaskView | None:
    """The task of an assignment, if it is this labeler's."""
    row = conn.execute(
        select(assignments.c.state, assignments.c.sides, assignments.c.draft, assignments.c.claimed_at, tasks.c.kind, tasks.c.purpose,
               tasks.c.response_ids, tasks.c.expected, tasks.c.extra, prompts.c.content, prompts.c.warnings)
        .join(tasks, tasks.c.id == assignments.c.task_id).outerjoin(prompts, prompts.c.id == tasks.c.prompt_id)
        .where(assignments.c.id == assignment_id, assignments.c.labeler_id == labeler_id)).mappings().first()
    if row is None:
        return None
    sides = list(row["sides"]) or list(range(len(row["response_ids"])))
    answers = answers_shown(conn, row["response_ids"], sides)
    draft, extra = row["draft"] or {}, row["extra"] or {}
    if draft and "fields" not in draft:                              # after an undo or a refusal the queue keeps what was said itself
        draft = {"fields": fields_of(row["kind"], draft), "at": row["claimed_at"]}
    critique = critique_of(conn, extra["critique"], labeler_id) if "critique" in extra else None
    begun_from = extra["revision"] if critique is not None else next(iter(row["response_ids"]), 0)
    original = texts_of(conn, [begun_from])[0] if row["kind"] == "edit" else ""
    return TaskView(
        assignment_id, row["kind"], row["purpose"], row["state"], turns_shown(row["content"]), answers, sides, row["warnings"] or [],
        draft.get("fields", {}), draft.get("at", 0.0), row["expected"], row["claimed_at"], question=extra.get("question"),
        critique=critique, form=extra.get("style", "plain"), original=original,
        allow_tie=extra.get("tie", True), allow_both_bad=extra.get("both_bad", True))


def critique_of(conn: Connection, judgement_id: int, labeler_id: int) -> str | None:
    """The words of a critique that stands, for whoever wrote it: others who come by its edit later make their own of the answer."""
    value = conn.scalar(select(judgements.c.value).outerjoin(retractions, retractions.c.judgement_id == judgements.c.id)
                        .where(judgements.c.id == judgement_id, judgements.c.labeler_id == labeler_id, retractions.c.id.is_(None)))
    return value["critique"] if value else None


def whole_answer(conn: Connection, assignment_id: int, labeler_id: int, at: int) -> str | None:
    """The text at a place on the page of a labeler's task."""
    row = conn.execute(select(assignments.c.sides, tasks.c.response_ids).join(tasks, tasks.c.id == assignments.c.task_id)
                       .where(assignments.c.id == assignment_id, assignments.c.labeler_id == labeler_id)).first()
    if row is None or not 0 <= at < len(row.response_ids):
        return None
    side = row.sides[at] if row.sides else at
    return texts_of(conn, row.response_ids)[side]


def answers_shown(conn: Connection, response_ids: Sequence[int], sides: Sequence[int]) -> list[Answer]:
    """Answers in the page's order."""
    texts = texts_of(conn, response_ids)
    return [_answer(at, texts[side]) for at, side in enumerate(sides)]


def texts_of(conn: Connection, response_ids: Sequence[int]) -> list[str]:
    """The texts of answers; empty where one was erased."""
    found = {row.id: row.text for row in conn.execute(select(responses.c.id, responses.c.text).where(responses.c.id.in_(response_ids)))}
    return [found.get(response_id) or "" for response_id in response_ids]


def turns_shown(content: Any) -> list[Turn]:
    """The messages of a prompt as it is kept."""
    if isinstance(content, str):
        content = [{"role": "text", "content": content}]
    return [Turn(turn["role"], render(turn["content"]), len(turn["content"]), len(turn["content"]) > MAX_CHARS) for turn in content or []]


def content_of_task(conn: Connection, task_id: int) -> Any:
    """A task's prompt as it is kept; None where it has none, or there is no such task."""
    return conn.scalar(select(prompts.c.content).join(tasks, tasks.c.prompt_id == prompts.c.id).where(tasks.c.id == task_id))


def content_of_assignment(conn: Connection, assignment_id: int, labeler_id: int) -> Any:
    """The same of a task that was given to this labeler."""
    return conn.scalar(select(prompts.c.content).join(tasks, tasks.c.prompt_id == prompts.c.id)
                       .join(assignments, assignments.c.task_id == tasks.c.id)
                       .where(assignments.c.id == assignment_id, assignments.c.labeler_id == labeler_id))


def _answer(at: int, text: str) -> Answer:
    folds = len(text) > FOLD_CHARS or text.count("\n") > FOLD_LINES
    return Answer(at, chr(ord("A") + at), render(text), len(text), folds, len(text) > MAX_CHARS)


def fields_of(kind: str, shown: Mapping[str, Any]) -> dict[str, Any]:
    """The form fields that would give a value, as the page showed it: what is filled in again after an undo."""
    if kind == "comparison":
        choice = "tie" if shown.get("tie") else str(shown["choice"]) if "choice" in shown else None
        made: dict[str, Any] = {"choice": choice, "both_bad": "yes" if shown.get("both_bad") else None}
    elif kind == "ranking":
        made = {f"rank_{at}": str(rank + 1) for at, rank in enumerate(shown["ranks"])}
    elif kind == "rating":
        made = {"rating": str(shown["rating"]), "flag": list(shown.get("flags", []))}
    elif kind == "prompt":
        made = {"text": shown["text"]}
        for i, example in enumerate(shown.get("examples", []), 1):
            made |= {f"query_{i}": example["prompt"], f"reply_{i}": example["response"]}
    elif kind == "label":
        made = {}
    else:
        made = {"text": shown.get("text") or shown.get("critique" if kind == "critique" else "edit")}
    return {name: value for name, value in made.items() if value is not None}
