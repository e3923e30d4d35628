"""What programs put into the store and take out of it, row by row; files go through feedback/io."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, exists, select

from ..base.faults import shorten
from ..base.records import Response, prompt_from_json, prompt_text
from ..base.times import utc_time
from .content import add_prompt, add_response, add_task
from .errors import ContentError
from .io.exporting import KINDS, pseudonym
from .io.keys import Place, key_of, known, remember, select_in
from .io.records import judgement_of
from .items import KNOWN
from .pii import Masker
from .schema import judgements, labelers, prompts, responses, scores, tasks
from .schema import retractions as retracted
from .snapshot import JUDGED, OUT
from .standing import MEASURING
from .values import FLAGS, GOOD, LIKERT, STEPS


@dataclass(frozen=True)
class NewItem:
    """A prompt with answers, as a program sends it. key: the program's own name for it, so that sending it twice adds it once.

    source customer: somebody's own words. They are masked before they are stored, answers too, and given out with consent only.
    """

    prompt: Any = None
    responses: Sequence[Mapping[str, Any]] = ()
    kind: str | None = None
    style: str | None = None
    overlap: int = 1
    p_select: float = 1.0
    purpose: str = "work"
    expected: Mapping[str, Any] | None = None
    batch: str | None = None
    question: str | None = None
    source: str = "import"
    user: str | None = None
    consent: bool | None = None
    language: str = "en"
    warnings: Sequence[str] = ()
    key: str | None = None


def add_item(conn: Connection, item: NewItem, at: int, *, now: float) -> dict[str, Any]:
    """{"prompt_id", "response_ids", "task_id"}. at: its place among those sent, which an error names. Raises: ContentError."""
    try:
        return _add_item(conn, item, now)
    except ContentError as error:
        raise ContentError(f"items.{at}: {error}", hint=error.hint) from error


def _add_item(conn: Connection, item: NewItem, now: float) -> dict[str, Any]:
    customers = item.source == "customer"
    if customers and item.consent is None:
        raise ContentError("a customer's prompt does not say whether they consent", hint="give consent: true or false")
    if item.kind and item.consent is False:
        raise ContentError("a prompt without consent is not given to people", hint="leave kind out: then it is only kept")
    if item.purpose in KNOWN and item.expected is None:
        raise ContentError(f"a {item.purpose} item without expected", hint="it holds the known answer, as a judgement of the kind says it")
    _check_answers(item.responses)
    if item.expected is not None:
        _check_expected(item.expected, item.kind, len(item.responses))
    name = None if item.key is None else key_of("api", item.key)
    if name is not None and item.kind is None:
        raise ContentError("a key is for items with a kind", hint="the same prompt is kept once anyway")
    if name is not None and (before := known(conn, [name]).get(name)):
        row = conn.execute(select(tasks.c.id, tasks.c.prompt_id, tasks.c.response_ids).where(tasks.c.id == before[0])).one()
        return {"prompt_id": row.prompt_id, "response_ids": row.response_ids, "task_id": row.id}
    if item.kind == "prompt":
        return {"prompt_id": None, "response_ids": [], "task_id": _to_be_written(conn, item, name, now)}
    if item.prompt is None or item.style is not None:
        raise ContentError("no prompt" if item.prompt is None else "a style is for items of the kind prompt")
    masker = Masker() if customers else None
    prompt_id = add_prompt(conn, content=_masked(item.prompt, masker), source=item.source, now=now, user=item.user, language=item.language,
                           consent=item.consent is not False, warnings=item.warnings)
    ids = [add_response(conn, prompt_id=prompt_id, now=now, **{**answer, "text": _masked(answer["text"], masker)})
           for answer in item.responses]
    task = None
    if item.kind is not None:
        task = add_task(conn, kind=item.kind, now=now, prompt_id=prompt_id, response_ids=ids, overlap=item.overlap, p_select=item.p_select,
                        purpose=item.purpose, batch=item.batch, expected=item.expected,
                        extra={"question": item.question} if item.question else {})
        if name is not None:
            remember(conn, {name: (task, Place("api", 0, 0))})
    return {"prompt_id": prompt_id, "response_ids": ids, "task_id": task}


def _check_answers(answers: Sequence[Mapping[str, Any]]) -> None:
    """Raises: ContentError for one without words, and for two that are the same, as in files (io/rows.py)."""
    for at, answer in enumerate(answers):
        if not answer["text"].strip():
            raise ContentError(f"responses.{at} is empty", hint="an answer has words")
    if len({(answer["text"], answer.get("model")) for answer in answers}) < len(answers):
        raise ContentError("two of its answers are the same", hint="leave one out, or say which model gave which")


def _to_be_written(conn: Connection, item: NewItem, name: str | None, now: float) -> int:
    """A task to write a prompt. Raises: ContentError when it comes with a prompt, answers or what is right."""
    if item.prompt is not None or item.responses or item.expected is not None or item.source == "customer":
        raise ContentError("an item of the kind prompt comes with a prompt, with answers, or with what only these have",
                           hint="it takes style, question, overlap, purpose, batch and key: the prompt is what people write")
    extra = {"style": item.style or "plain", **({"question": item.question} if item.question else {})}
    task = add_task(conn, kind="prompt", now=now, overlap=item.overlap, purpose=item.purpose, batch=item.batch, extra=extra)
    if name is not None:
        remember(conn, {name: (task, Place("api", 0, 0))})
    return task


_EXPECTED = {"comparison": ("ranks", "strength", "tie", "both_bad"), "ranking": ("ranks", "all_bad"), "rating": ("rating", "flags"),
             "conversation": ("rating",), "label": ("label",), "critique": ("critique", "edit"), "edit": ("edit", "critique"),
             "demonstration": ("text",)}
"""What the known answer of a kind may hold beside reasons; the first must be there."""


def _check_expected(expected: Mapping[str, Any], kind: str | None, answers: int) -> None:
    """Raises: ContentError that names what is not as judgements of the kind have it, which pages would stumble over."""
    def whole(value: Any, low: int, high: int) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high

    def ranks(value: Any) -> bool:                                  # from 0 without gaps
        return (isinstance(value, list) and len(value) == answers and all(whole(one, 0, answers - 1) for one in value)
                and max(value, default=-1) < len(set(value)))

    good = {"ranks": ranks, "strength": lambda v: whole(v, 1, STEPS // 2), "label": lambda v: isinstance(v, bool),
            "rating": lambda v: whole(v, 1, GOOD if kind == "conversation" else LIKERT),
            "flags": lambda v: isinstance(v, list) and all(one in FLAGS for one in v),
            **{name: lambda v: isinstance(v, str) for name in ("reasons", "critique", "edit", "text")},
            **{name: lambda v: isinstance(v, bool) for name in ("tie", "both_bad", "all_bad")}}
    if kind is None:
        raise ContentError("expected is for items with a kind", hint="say how it is judged, or leave expected out")
    may = (*_EXPECTED[kind], "reasons")
    for name, value in expected.items():
        if name not in may or not good[name](value):
            raise ContentError(f"expected.{name} is {shorten(value)}", hint=f"it holds what a {kind} would: {', '.join(may)}")
    if may[0] not in expected:
        raise ContentError(f"expected has no {may[0]}", hint=f"it holds what a {kind} would: {', '.join(may)}")


def _masked(content: Any, masker: Masker | None) -> Any:
    """A text, or messages, without personal data. Raises: ContentError when messages are none."""
    if masker is None:
        return content
    if isinstance(content, str):
        return masker.mask(content)[0]
    try:
        masker.reserve(prompt_text(prompt_from_json(content)))
    except ValueError as error:
        raise ContentError(str(error)) from error
    return [{**message, "content": masker.mask(message["content"])[0]} for message in content]


def unscored(conn: Connection, model: str, *, after: int, limit: int) -> list[dict[str, Any]]:
    """Answers of prompts with open tasks that a model has no score of: {"response_id", "prompt", "text"}, by id."""
    open_task = exists().where(tasks.c.prompt_id == responses.c.prompt_id, tasks.c.state == "open")
    there = exists().where(scores.c.response_id == responses.c.id, scores.c.model == model)
    rows = conn.execute(select(responses.c.id, responses.c.text, prompts.c.content).join(prompts, prompts.c.id == responses.c.prompt_id)
                        .where(responses.c.id > after, responses.c.text.is_not(None), prompts.c.content.is_not(None), open_task, ~there)
                        .order_by(responses.c.id).limit(limit))
    return [{"response_id": row.id, "prompt": row.content, "text": row.text} for row in rows]


def judgement_rows(conn: Connection, key: str, *, after: int, limit: int) -> Iterator[dict[str, Any]]:
    """Judgements that stand, by id: base.records' layout, with "id" and "task_id"; people by their pseudonyms.

    What was erased, retracted or said of prompts without consent is left out, and so are practice and screening, prompts that people wrote
    and conversations, as in exports (feedback/io/exporting.py).
    """
    query = (
        select(judgements, tasks.c.response_ids, prompts.c.content, labelers.c.name, labelers.c.group, labelers.c.held_out)
        .select_from(JUDGED).where(OUT.is_(None), judgements.c.kind.in_(KINDS), tasks.c.purpose.not_in(MEASURING))
        .order_by(judgements.c.id))
    while limit > 0 and (rows := conn.execute(query.where(judgements.c.id > after).limit(limit)).all()):
        after = rows[-1].id
        answers = {row.id: row for row in select_in(conn, responses.c.id, (i for row in rows for i in row.response_ids), *responses.c)}
        for row in rows:
            shown = [answers[i] for i in row.response_ids]
            if all(answer.text is not None for answer in shown):
                limit -= 1
                yield _judgement_row(row, shown, key)


def _judgement_row(row: Any, answers: Sequence[Any], key: str) -> dict[str, Any]:
    told = [Response(answer.text, answer.model, answer.sampling, None if answer.logprobs is None else tuple(answer.logprobs))
            for answer in answers]
    extra = {**({"sides": row.sides} if row.sides else {}), **({"held_out_labeler": True} if row.held_out else {})}
    said = judgement_of(row.kind, prompt_from_json(row.content), told, row.value, at=row.created_at, extra=extra, group=row.group,
                        labeler=pseudonym(row.name, key), weight=row.weight, p_select=row.p_select, seconds=row.seconds)
    return {"id": row.id, "task_id": row.task_id, "response_ids": row.response_ids, **said.to_json()}


def retraction_rows(conn: Connection, *, after: int, limit: int) -> list[dict[str, Any]]:
    """Judgements that were undone, overruled or erased, in the order in which that happened."""
    rows = conn.execute(select(retracted).where(retracted.c.id > after).order_by(retracted.c.id).limit(limit))
    return [{"id": row.id, "judgement_id": row.judgement_id, "reason": row.reason, "at": utc_time(row.created_at).isoformat()}
            for row in rows]
