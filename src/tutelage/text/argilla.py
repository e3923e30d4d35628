"""Argilla's records: the server's REST interface, and what its SDK writes, which has lost the ranks of every ranking.

Source: the record models of Argilla 2; that the SDK keeps a ranking's values and drops its ranks is argilla#5712.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tutelage.base.records import Judgement, name_from_json
from tutelage.text.content import plain_prompt
from tutelage.text.layouts import RATED, Asked, Layout, Row
from tutelage.text.sides import about_of, is_side, sides_of
from tutelage.text.trainers import Core
from tutelage.text.values import list_of, number_of, object_of, ranks_of, text_of, verdict_of, yes_or_no

_PROMPTS = ("prompt", "instruction", "question", "chat", "context")
_ANSWERS = ("response", "completion", "answer", "output")
_LOST = "a ranking as Argilla's SDK writes it, without its ranks (argilla#5712); export it over the REST interface"


def _record(row: Row, goal: Asked) -> Iterator[Core]:
    """One judgement for each main answer of each user; over REST `responses` is a list by user, in the SDK's file an object by question."""
    yield from _read(object_of(row["fields"], "fields"), row, row["responses"], goal)


def _flat_record(row: Row, goal: Asked) -> Iterator[Core]:
    """The SDK's flattened form: fields are columns, `question.responses` lists values beside their `.users` and `.status`."""
    by_question: dict[str, Any] = {}
    for name in (name.removesuffix(".responses") for name in row if name.endswith(".responses")):
        values, users = (list_of(row.get(f"{name}.responses{part}") or [], name) for part in ("", ".users"))
        states = list_of(row.get(f"{name}.responses.status") or ["submitted"] * len(values), name)
        if not len(values) == len(users) == len(states):
            raise ValueError(f"{name} has {len(values)} values, {len(users)} users and {len(states)} states")
        by_question[name] = [{"value": value, "user_id": user, "status": state}
                             for value, user, state in zip(values, users, states, strict=True)]
    yield from _read(row, row, by_question, goal)


def _read(fields: Row, row: Row, responses: Any, goal: Asked) -> Iterator[Core]:
    prompt = next((fields[name] for name in _PROMPTS if name in fields), None)
    if prompt is None:
        raise ValueError(f"fields have no prompt (fields: {', '.join(list(fields)[:8]) or 'none'})")
    asked = prompt if isinstance(prompt, list) else [{"role": "user", "content": text_of(prompt, "prompt")}]
    if goal == "prompts":
        yield "prompt", {"prompt": asked}
        return
    named = str(row["id"]) if goal == "feedback" and row.get("id") is not None else None
    item: dict[str, Any] = {"prompt": asked} | ({"item": named} if named else {})
    kind = object_of(row.get("metadata") or {}, "metadata").get("kind")
    found = False
    by_rest = isinstance(responses, list)
    for who, status, values in _by_user(responses):
        about = item | ({} if who is None else {"labeler": who})
        if status == "discarded" and goal == "feedback":
            found = True
            yield "judgement", about | _unjudged(fields, kind) | {"skipped": True}
        elif status == "submitted":
            for judged in _judged(fields, values, goal, by_rest=by_rest):
                found = True
                yield "judgement", about | judged
    if goal == "feedback" and not responses:
        yield "judgement", item | _unjudged(fields, kind) | {"open": True}
    elif not found:
        raise ValueError("nobody submitted a ranking, rating or label for the record")


def _by_user(responses: Any) -> Iterator[tuple[str | None, str, dict[str, Any]]]:
    """(user, status, question -> value) of everyone who answered."""
    if isinstance(responses, list):
        for response in (object_of(r, "a response") for r in responses):
            values = {name: object_of(answer, "a value").get("value") for name, answer in
                      object_of(response.get("values") or {}, "values").items()}
            yield _who(response), response.get("status") or "submitted", values
        return
    users: dict[tuple[str | None, str], dict[str, Any]] = {}
    for question, answers in object_of(responses, "responses").items():
        for answer in (object_of(a, "a response") for a in list_of(answers, str(question))):
            users.setdefault((_who(answer), answer.get("status") or "submitted"), {})[question] = answer.get("value")
    yield from ((who, status, values) for (who, status), values in users.items())


def _who(response: Row) -> str | None:
    return None if response.get("user_id") is None else name_from_json(response["user_id"], "user_id")


def _judged(fields: Row, values: Mapping[str, Any], goal: Asked, *, by_rest: bool) -> Iterator[dict[str, Any]]:
    main = {name: value for name, value in values.items() if not is_side(name) and value is not None}
    sides = {name: value for name, value in values.items() if is_side(name) and value is not None}
    if not main:
        main, sides = sides, {}
    for name, value in main.items():
        if not by_rest and _is_lost_ranking(fields, name, value):
            raise ValueError(_LOST)
        judged = _answered(fields, name, value, goal)
        if judged:
            yield judged | about_of(sides, len(judged["responses"]))


def _is_lost_ranking(fields: Row, question: str, value: Any) -> bool:
    """A list in an SDK file is a ranking or several labels; a ranking names fields or numbers, or its question says so."""
    if not isinstance(value, list):
        return False
    names = [str(v.get("value")) if isinstance(v, Mapping) else str(v) for v in value]
    return "rank" in question.lower() or any(name in fields or name.isdigit() for name in names)


def _answered(fields: Row, question: str, value: Any, goal: Asked) -> dict[str, Any] | None:
    if isinstance(value, list) and value and all(isinstance(v, Mapping) and "rank" in v for v in value):
        texts = [fields.get(str(v.get("value"))) for v in value]
        if None in texts:
            raise ValueError(f"the ranking names {value[texts.index(None)].get('value')!r}, which is no field")
        return {"kind": "ranking" if len(value) > 2 else "comparison", "responses": [{"text": text} for text in texts],
                "ranks": ranks_of([v["rank"] for v in value])}
    if question == "demonstration" and isinstance(value, str):
        return {"kind": "demonstration", "responses": [{"text": value}]}
    answer = next((fields[name] for name in _ANSWERS if name in fields), None)
    if answer is None:
        return None
    responses = {"responses": [{"text": answer}]}
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"kind": "rating", **responses, "rating": number_of(value, "rating")}
    if isinstance(value, list) and value and goal == "feedback" and all(isinstance(v, str) for v in value):
        return {"kind": "label", **responses, "verdict": verdict_of(", ".join(sorted(value)))}
    if isinstance(value, str):
        if (said := yes_or_no([value])) is not None:
            return {"kind": "label", **responses, "label": said}
        for word in ("critique", "edit"):
            if word in question.lower():
                return {"kind": word, **responses, word: value}
        if goal == "feedback":
            return {"kind": "label", **responses, "verdict": verdict_of(value)}
    return None


def _unjudged(fields: Row, kind: Any) -> dict[str, Any]:
    """Kind and answers of a record as its fields show them; `kind` is what our own metadata says of one with a single answer."""
    several = [name for name in fields if str(name).startswith("response-")]
    if several:
        return {"kind": "ranking" if len(several) > 2 else "comparison", "responses": [{"text": fields[name]} for name in several]}
    answer = next((fields[name] for name in _ANSWERS if name in fields), None)
    return {"kind": "demonstration", "responses": []} if answer is None else {"kind": kind or "rating", "responses": [{"text": answer}]}


def record_of(judgements: Sequence[Judgement]) -> dict[str, Any]:
    """The record of one item, as the REST interface takes it, with a response for each judgement.

    Raises: ValueError when it has no form there.
    """
    first = judgements[0]
    texts = [r.text for r in first.responses]
    fields: dict[str, Any] = {"prompt": plain_prompt(first.prompt)}
    if first.kind in ("comparison", "ranking"):
        fields |= {f"response-{i}": text for i, text in enumerate(texts, start=1)}
    elif first.kind != "demonstration":
        fields |= {"response": texts[0]}
    responses = [_response(j) for j in judgements if not j.extra.get("open")]
    record: dict[str, Any] = {"fields": fields, "responses": responses, "status": "completed" if responses else "pending",
                              "metadata": {"kind": first.kind}}
    return record | ({"id": first.extra["item"]} if "item" in first.extra else {})


def _response(judgement: Judgement) -> dict[str, Any]:
    user = {"user_id": judgement.labeler} if judgement.labeler else {}
    if judgement.extra.get("skipped"):
        return {"values": {}, "status": "discarded", **user}
    verdict = judgement.extra.get("verdict") if judgement.label is None else "yes" if judgement.label else "no"
    main: Any = {"label": verdict, "rating": judgement.rating, "critique": judgement.critique, "edit": judgement.edit,
                 "demonstration": judgement.responses[0].text}.get(judgement.kind)
    if judgement.ranks is not None:
        main = [{"value": f"response-{i}", "rank": rank + 1} for i, rank in enumerate(judgement.ranks, start=1)]
    sides = {name: "yes" if said is True else said for name, said in sides_of(judgement).items()}
    values = {name: {"value": value} for name, value in ({judgement.kind: main} | sides).items() if value is not None}
    return {"values": values, "status": "submitted", **user}


def _is_flat(row: Row) -> bool:
    """A column whose name ends in `.responses.users` is seen nowhere else, whatever fields stand beside it."""
    return any(str(name).endswith(".responses.users") for name in row)


ARGILLA: dict[str, Layout] = {
    "argilla": Layout(frozenset({"fields", "responses"}), RATED, rows=_record),
    "argilla-flat": Layout(frozenset({"status"}), RATED, _is_flat, _flat_record, unmistakable=True),
}
