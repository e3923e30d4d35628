"""Label Studio's JSON: a task with what each annotator made of it, read and written. Source: its export format and tag reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from tutelage.base.records import Judgement, name_from_json
from tutelage.text.content import plain_prompt
from tutelage.text.layouts import DIALOGUE, RATED, Asked, Layout, Row
from tutelage.text.sides import about_of, is_side, sides_of
from tutelage.text.trainers import Core
from tutelage.text.values import list_of, object_of, text_of, verdict_of, yes_or_no

PROMPTS = ("prompt", "question", "messages", "instruction")
ANSWERS = ("answer", "response", "completion", "output")
_JUDGED = {*ANSWERS, "answer1", "items"}
_MAIN_OF_SEVERAL = ("pairwise", "ranker")


def _task(row: Row, goal: Asked) -> Iterator[Core]:
    """One judgement for each main result of each annotation; for `feedback` also who skipped it, or that nobody judged it yet."""
    data = object_of(row["data"], "data")
    asked = _asked(data)
    if goal == "prompts":
        yield "prompt", {"prompt": asked}
        return
    item: dict[str, Any] = {"prompt": asked} | ({"item": str(row["id"])} if goal == "feedback" and "id" in row else {})
    found, other = False, ""
    for annotation in (object_of(a, "an annotation") for a in list_of(row["annotations"], "annotations")):
        about = item | _annotator(annotation, goal)
        results = [object_of(result, "a result") for result in list_of(annotation.get("result") or [], "result")]
        if annotation.get("was_cancelled") or not results:
            if goal == "feedback":
                found = True
                yield "judgement", about | _unjudged(data) | {"skipped": True}
            continue
        for judged in _judged(data, results, goal):
            found = True
            yield "judgement", about | judged
        other = other or str(results[0].get("type"))
    if goal == "feedback" and not row["annotations"]:
        yield "judgement", item | _unjudged(data) | {"open": True}
    elif not found and other:
        raise ValueError(f"results of the type {other} judge no answer")
    elif not found:
        raise ValueError("nobody answered (no text area filled in, or skipped)" if _has_no_answers(row) else
                         "nobody judged the task (no annotation, or skipped)")


def _has_no_answers(row: Row) -> bool:
    """Whether the task shows people a question alone, for them to answer."""
    return isinstance(row["data"], Mapping) and not row["data"].keys() & _JUDGED


def _written(row: Row, goal: Asked) -> Iterator[Core]:
    """What each person wrote who was shown a question."""
    if goal in ("prompts", "feedback"):
        yield from _task(row, goal)
        return
    for _, core in _task(row, "judgements"):
        if core["kind"] == "demonstration":
            yield "prompt-completion", {"prompt": core["prompt"], "completion": core["responses"][0]["text"]}


def _asked(data: Row) -> Any:
    """The prompt as a conversation."""
    found = next((data[name] for name in PROMPTS if name in data), None)
    if found is None:
        raise ValueError(f"data has no prompt (fields: {', '.join(list(data)[:8]) or 'none'})")
    return found if isinstance(found, list) else [{"role": "user", "content": text_of(found, "prompt")}]


def _annotator(annotation: Row, goal: Asked) -> dict[str, Any]:
    who = annotation.get("completed_by")
    who = who.get("email", who.get("id")) if isinstance(who, Mapping) else who
    about = {"labeler": None if who is None else name_from_json(who, "completed_by"),
             "seconds": annotation.get("lead_time"), "at": annotation.get("created_at")}
    if goal == "feedback":
        about |= {"annotation": str(annotation["id"]) if "id" in annotation else None, "gold": annotation.get("ground_truth") or None}
    return {name: value for name, value in about.items() if value is not None}


def _judged(data: Row, results: list[Row], goal: Asked) -> Iterator[dict[str, Any]]:
    """What one annotation says: its main results, each with the side results that go with it."""
    several = any(result.get("type") in _MAIN_OF_SEVERAL for result in results)
    main, sides = list[Row](), dict[str, Any]()
    for result in results:
        name, kind = result.get("from_name"), result.get("type")
        if is_side(name):
            sides[str(name)] = _answer(result)
        elif several and kind == "textarea":                        # words beside a choice between answers explain it
            sides["comment"] = _answer(result)
        elif not several or kind in _MAIN_OF_SEVERAL:
            main.append(result)
    for result in main or results:
        for judged in _result(data, result, goal):
            yield judged | (_in_order(data, judged, sides) if main and sides else {})


def _in_order(data: Row, judged: Mapping[str, Any], sides: Mapping[str, Any]) -> dict[str, Any]:
    """The sides by the judgement's answers: of a ranking they are numbered as the items are, and its answers stand best first."""
    about = about_of(sides, len(judged["responses"]))
    if "items" in data and judged.get("ranks") is not None:
        place = [list(_items(data).values()).index(answer) for answer in judged["responses"]]
        about |= {name: [about[name][i] for i in place] for name in ("ratings", "flags") if name in about}
    return about


def _answer(result: Row) -> Any:
    value = object_of(result.get("value"), "value")
    if result.get("type") == "textarea":
        return "\n".join(map(str, list_of(value.get("text"), "text")))
    return value.get(str(result.get("type")))


def _result(data: Row, result: Row, goal: Asked) -> Iterator[dict[str, Any]]:
    kind, value = result.get("type"), object_of(result.get("value"), "value")
    if kind == "pairwise":
        ranks = {"left": [0, 1], "right": [1, 0], "none": [0, 0]}
        selected = value.get("selected")
        if not isinstance(selected, str) or selected not in ranks:
            raise ValueError(f"selected is {selected!r}, not left, right or none")
        yield {"kind": "comparison", "responses": _two(data), "ranks": ranks[selected]} | ({"sides": [0, 1]} if goal == "feedback" else {})
    elif kind == "ranker":
        yield _ranked(_items(data), value.get("ranker"))
    elif kind == "textarea" and not data.keys() & _JUDGED:
        yield {"kind": "demonstration", "responses": [{"text": _answer(result)}]}
    elif kind in ("rating", "number", "choices", "textarea"):
        response = {"responses": _one(data)}
        if kind in ("rating", "number"):
            yield {"kind": "rating", "rating": value.get(kind), **response}
        elif kind == "choices":
            yield {"kind": "label", **_choice(list_of(value.get("choices"), "choices"), goal), **response}
        else:
            word = "edit" if "edit" in str(result.get("from_name")).lower() else "critique"
            yield {"kind": word, word: _answer(result), **response}


def _choice(choices: list[Any], goal: Asked) -> dict[str, Any]:
    """Yes or no; as feedback, which keeps words that no training takes, any other one too."""
    said = yes_or_no(choices)
    if said is None and goal == "feedback" and len(choices) == 1:
        return {"verdict": verdict_of(choices[0])}
    if said is None:
        raise ValueError(f"the choice {', '.join(sorted(map(str, choices))) or '(none)'} is not a plain yes or no")
    return {"label": said}


def _unjudged(data: Row) -> dict[str, Any]:
    """Kind and answers of a task as its data show them, where no result says more."""
    if "answer1" in data:
        return {"kind": "comparison", "responses": _two(data)}
    if "items" in data:
        answers = list(_items(data).values())
        return {"kind": "ranking" if len(answers) > 2 else "comparison", "responses": answers}
    if any(name in data for name in ANSWERS):
        return {"kind": data.get("kind", "rating"), "responses": _one(data)}
    return {"kind": "demonstration", "responses": []}


def _answers(data: Row, texts: Sequence[Any]) -> list[dict[str, Any]]:
    models = data.get("models") or [None] * len(texts)
    return [{"text": text} | ({"model": model} if model else {}) for text, model in zip(texts, models, strict=True)]


def _two(data: Row) -> list[dict[str, Any]]:
    return _answers(data, [data.get("answer1"), data.get("answer2")])


def _one(data: Row) -> list[dict[str, Any]]:
    return _answers(data, [next((data[name] for name in ANSWERS if name in data), None)])


def _items(data: Row) -> dict[str, dict[str, Any]]:
    items = [object_of(item, "an item") for item in list_of(data.get("items"), "items")]
    answers = _answers(data, [item.get("body", item.get("title")) for item in items])
    return {str(item.get("id")): answer for item, answer in zip(items, answers, strict=True)}


def _ranked(items: Mapping[str, dict[str, Any]], ranker: Any) -> dict[str, Any]:
    """A ranker's list of ids, best first, or its buckets in order; ids of one bucket are tied, as Label Studio keeps no order in them."""
    buckets = ranker if isinstance(ranker, list) else [list_of(ids, "a bucket") for ids in object_of(ranker, "ranker").values()]
    groups = [bucket if isinstance(bucket, list) else [bucket] for bucket in buckets if bucket != []]
    rank = {str(i): place for place, group in enumerate(groups) for i in group}
    if len(rank) < 2 or not rank.keys() <= items.keys():
        raise ValueError("the ranker names fewer than two items, or some that data.items does not have")
    return {"kind": "ranking" if len(rank) > 2 else "comparison", "ranks": list(rank.values()), "responses": [items[i] for i in rank]}


def task_of(judgements: Sequence[Judgement]) -> dict[str, Any]:
    """The task of one item with an annotation for each judgement; all have one prompt, one list of answers and one kind.

    Raises: ValueError when Label Studio has no form for it.
    """
    first = judgements[0]
    texts, kind = [r.text for r in first.responses], first.kind
    data: dict[str, Any] = {"prompt": plain_prompt(first.prompt)}
    if kind == "comparison" and len(texts) == 2:
        data |= {"answer1": texts[0], "answer2": texts[1]}
    elif kind in ("ranking", "comparison"):
        data["items"] = [{"id": str(i), "title": f"Answer {i + 1}", "body": text} for i, text in enumerate(texts)]
    elif kind != "demonstration":
        data |= {"answer": texts[0]} | ({} if kind == "rating" else {"kind": kind})
    if any(r.model for r in first.responses) and kind != "demonstration":
        data["models"] = [r.model for r in first.responses]
    task = {"data": data, "annotations": [_annotation(j) for j in judgements if not j.extra.get("open")]}
    return task | ({"id": first.extra["item"]} if "item" in first.extra else {})


def _annotation(judgement: Judgement) -> dict[str, Any]:
    skipped = bool(judgement.extra.get("skipped"))
    about = {"completed_by": judgement.labeler, "lead_time": judgement.seconds, "created_at": judgement.at,
             "id": judgement.extra.get("annotation"), "ground_truth": judgement.extra.get("gold")}
    return {"result": [] if skipped else _results(judgement), "was_cancelled": skipped} | {
        name: value for name, value in about.items() if value is not None}


def _results(judgement: Judgement) -> list[dict[str, Any]]:
    kind, ranks = judgement.kind, judgement.ranks
    if kind == "comparison" and ranks is not None and len(ranks) == 2:
        selected = "none" if ranks[0] == ranks[1] else "left" if ranks[0] < ranks[1] else "right"
        main = {"type": "pairwise", "from_name": "pairwise", "to_name": "pairwise", "value": {"selected": selected}}
    elif ranks is not None:
        order = sorted(zip(ranks, map(str, range(len(ranks))), strict=True))
        buckets = [[i for _, i in group] for _, group in groupby(order, key=lambda pair: pair[0])]
        ranker: Any = ([b[0] for b in buckets] if all(len(b) == 1 for b in buckets) else
                       {f"place {place}": bucket for place, bucket in enumerate(buckets, start=1)})
        main = {"type": "ranker", "from_name": "rank", "to_name": "items", "value": {"ranker": ranker}}
    else:
        said = judgement.extra.get("verdict") if judgement.label is None else "yes" if judgement.label else "no"
        forms: dict[str, tuple[str, dict[str, Any]]] = {
            "label": ("choices", {"choices": [said]}), "rating": ("rating", {"rating": judgement.rating}),
            "critique": ("textarea", {"text": [judgement.critique]}), "edit": ("textarea", {"text": [judgement.edit]}),
            "demonstration": ("textarea", {"text": [r.text for r in judgement.responses]})}
        form, value = forms[kind]
        main = {"type": form, "from_name": kind, "to_name": "prompt" if kind == "demonstration" else "answer", "value": value}
    return [main, *_side_results(judgement, str(main["to_name"]))]


def _side_results(judgement: Judgement, to_name: str) -> Iterator[dict[str, Any]]:
    for name, said in sides_of(judgement).items():
        if name == "comment":
            form, value = "textarea", {"text": [said]}
        elif name == "strength" or name.startswith("rating"):
            form, value = "rating", {"rating": said}
        else:
            form, value = "choices", {"choices": [name] if said is True else said}
        yield {"type": form, "from_name": name, "to_name": to_name, "value": value}


_COLUMNS = frozenset({"data", "annotations"})
LABEL_STUDIO: dict[str, Layout] = {
    "label-studio": Layout(_COLUMNS, RATED, lambda row: not _has_no_answers(row), _task),
    "label-studio-answers": Layout(_COLUMNS, DIALOGUE, _has_no_answers, _written),
}
