"""What a judgement may say, kind by kind, and how what was seen on the page becomes what is stored.

The page shows answers in an order of its own (`sides`: position on the page -> index into the task's answers). What comes in speaks of
positions on the page; what is stored speaks of the task's answers, so that nobody who reads it needs to know what was on the left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..base.errors import did_you_mean
from ..base.faults import shorten
from .content import clean
from .errors import ContentError
from .pii import Masker

STEPS = 8                                                           # A much better ... B much better (Bai et al. 2022); no middle
LIKERT = 7
GOOD = 4                                                            # a conversation's Bad-Good
# The yes/no questions asked of each answer (Ouyang et al. 2022, table 3).
FLAGS = ("fails_instruction", "inappropriate_for_assistant", "hallucination", "satisfies_constraint", "sexual", "violent",
         "encourages_harm", "denigrates", "harmful_advice", "opinion", "moral_judgment")
STYLES = ("plain", "few_shot", "user_based")
MAX_PROMPT = 500_000                                                # characters of a prompt, which is one text with its first example

KNOWN_BY = {"comparison": "ranks", "ranking": "ranks", "label": "label", "rating": "rating"}
"""Kinds whose right answer can be known, and the field of `tasks.expected` that says it."""

_TEXTS = ("text", "prompt", "response")                             # of a prompt, in the order in which they are read
_COMMON = {"comment"}
_MAY = {"comparison": {"choice", "tie", "both_bad", "ratings", "flags"}, "ranking": {"ranks", "all_bad", "ratings", "flags"},
        "rating": {"rating", "flags"}, "label": {"label"}, "critique": {"critique", "edit"}, "edit": {"edit", "critique"},
        "demonstration": {"text"}, "prompt": {"text", "style", "examples"}, "conversation": {"rating"}}


def stored(kind: str, value: Any, sides: Sequence[int]) -> dict[str, Any]:
    """What the store keeps of a judgement as it came from the page. Raises ContentError that names the field at fault.

    comparison: {"choice": 1..8} is "A much better" to "B much better", A being the first on the page -> {"ranks": [0, 1] | [1, 0],
        "strength": 4 (much) .. 1 (barely), "step": 1..8 with the task's first answer as A}. {"tie": true} -> {"ranks": [0, 0], "tie"};
        {"both_bad": true} beside a choice, or alone, which ties them.
    ranking: {"ranks": [one a position, equal is a tie]} -> {"ranks": from 0 without gaps}; optional "all_bad".
    rating: {"rating": 1..7, "flags": [names]}. label: {"label": bool}. critique: {"critique", "edit"?}. edit: {"edit", "critique"?}.
    demonstration: {"text"}. prompt: {"text", "style"?, "examples"?: [{"prompt", "response"}]}; masked (pii.py).
    conversation: {"rating": 1..4}.
    comparison and ranking may carry "ratings" (1..7 or null) and "flags" (names) a position. All may carry "comment".
    """
    if not isinstance(value, Mapping):
        raise ContentError(f"a judgement is {type(value).__name__}, not an object")
    value = {name: given for name, given in clean(value).items() if given is not None}
    for name in value:
        if name not in _MAY[kind] | _COMMON:
            raise ContentError(f"a {kind} has no {shorten(name)}{did_you_mean(name[:40], _MAY[kind] | _COMMON)}",
                               hint=f"it takes {', '.join(sorted(_MAY[kind]))}")
    made = _OF_KIND[kind](value, sides)
    if "ratings" in value:
        given = _list("ratings", value, sides)
        made["ratings"] = _by_answer([None if rating is None else _whole("ratings", rating, 1, LIKERT) for rating in given], sides)
    if "flags" in value and kind != "rating":
        made["flags"] = _by_answer([_flags(names) for names in _list("flags", value, sides)], sides)
    if "comment" in value:
        made["comment"] = _text("comment", value)
    return made


def shown(kind: str, value: Mapping[str, Any], sides: Sequence[int]) -> dict[str, Any]:
    """The inverse of `stored`: what the page showed when this was given. For undo, and for a labeler's view of their own judgements."""
    made = {name: given for name, given in value.items() if name not in ("step", "strength")}
    if kind == "comparison":
        del made["ranks"]
        if "step" in value:
            made["choice"] = value["step"] if sides[0] == 0 else STEPS + 1 - value["step"]
    elif kind == "ranking":
        made["ranks"] = [value["ranks"][side] for side in sides]
    for name in ("ratings", "flags"):
        if name in value and kind != "rating":
            made[name] = [value[name][side] for side in sides]
    return made


def agrees(kind: str, value: Mapping[str, Any], expected: Mapping[str, Any]) -> bool | None:
    """Whether a stored value is the expected one: same order, same yes or no, at most one point apart; None where that cannot be said."""
    name = KNOWN_BY.get(kind)
    if name is None or value.get(name) is None or expected.get(name) is None:
        return None
    if name == "rating":
        return bool(abs(value[name] - expected[name]) <= 1)
    return list(value[name]) == list(expected[name]) if name == "ranks" else bool(value[name]) == bool(expected[name])


def _comparison(value: Mapping[str, Any], sides: Sequence[int]) -> dict[str, Any]:
    tie, both_bad = (_true(name, value) for name in ("tie", "both_bad"))
    marks = {name: True for name, given in (("tie", tie), ("both_bad", both_bad)) if given}
    if "choice" not in value:
        if not marks:
            raise ContentError("nothing was chosen", hint="choose a step from 1 (A much better) to 8 (B much better), a tie, or both bad")
        return {"ranks": [0, 0], **marks}
    if tie:
        raise ContentError("both a tie and a choice", hint="give one of them")
    choice = _whole("choice", value["choice"], 1, STEPS)
    step = choice if sides[0] == 0 else STEPS + 1 - choice
    half = STEPS // 2
    ranks, strength = ([0, 1], half + 1 - step) if step <= half else ([1, 0], step - half)
    return {"ranks": ranks, "strength": strength, "step": step, **marks}


def _ranking(value: Mapping[str, Any], sides: Sequence[int]) -> dict[str, Any]:
    ranks = _by_answer([_whole("ranks", rank, 0, 1_000) for rank in _list("ranks", value, sides)], sides)
    order = sorted(set(ranks))
    return {"ranks": [order.index(rank) for rank in ranks], **({"all_bad": True} if _true("all_bad", value) else {})}


def _rating(value: Mapping[str, Any], _: Sequence[int]) -> dict[str, Any]:
    return {"rating": _whole("rating", value.get("rating"), 1, LIKERT), "flags": _flags(value.get("flags", []))}


def _label(value: Mapping[str, Any], _: Sequence[int]) -> dict[str, Any]:
    if not isinstance(value.get("label"), bool):
        raise ContentError(f"label {_found(value.get('label'))}", hint="it is true or false")
    return {"label": value["label"]}


def _critique(value: Mapping[str, Any], _: Sequence[int]) -> dict[str, Any]:
    return {"critique": _text("critique", value), **({"edit": _text("edit", value)} if "edit" in value else {})}


def _edit(value: Mapping[str, Any], _: Sequence[int]) -> dict[str, Any]:
    return {"edit": _text("edit", value), **({"critique": _text("critique", value)} if "critique" in value else {})}


def _demonstration(value: Mapping[str, Any], _: Sequence[int]) -> dict[str, Any]:
    return {"text": _text("text", value)}


def _prompt(value: Mapping[str, Any], _: Sequence[int]) -> dict[str, Any]:
    """Others read and answer it, so personal data in its texts is replaced, numbered as one; nothing keeps what stood there."""
    made: dict[str, Any] = {"text": _text("text", value)}
    if "style" in value:
        if value["style"] not in STYLES:
            raise ContentError(f"style is {shorten(value['style'])}", hint=f"it is one of {', '.join(STYLES)}")
        made["style"] = value["style"]
    if "examples" in value:
        rows = value["examples"]
        if not isinstance(rows, list) or not all(isinstance(row, dict) and set(row) == {"prompt", "response"} for row in rows):
            raise ContentError("examples are not a list of {prompt, response}")
        made["examples"] = [{name: _text(name, row) for name in _TEXTS[1:]} for row in rows]
    masker, texts = Masker(), [(row, name) for row in (made, *made.get("examples", ())) for name in _TEXTS if name in row]
    for row, name in texts:
        masker.reserve(row[name])
    for row, name in texts:
        row[name] = masker.mask(row[name])[0]
    if (long := sum(len(row[name]) for row, name in texts)) > MAX_PROMPT:
        raise ContentError(f"a prompt of {long:,} characters is too long", hint=f"all its parts together may have {MAX_PROMPT:,}")
    return made


def _conversation(value: Mapping[str, Any], _: Sequence[int]) -> dict[str, Any]:
    return {"rating": _whole("rating", value.get("rating"), 1, GOOD)}


_OF_KIND = {"comparison": _comparison, "ranking": _ranking, "rating": _rating, "label": _label, "critique": _critique, "edit": _edit,
            "demonstration": _demonstration, "prompt": _prompt, "conversation": _conversation}


def _by_answer(by_position: Sequence[Any], sides: Sequence[int]) -> list[Any]:
    """From the page's order to the task's."""
    made = [None] * len(sides)
    for position, side in enumerate(sides):
        made[side] = by_position[position]
    return made


def _list(name: str, value: Mapping[str, Any], sides: Sequence[int]) -> list[Any]:
    given = value.get(name)
    if not isinstance(given, list) or len(given) != len(sides):
        raise ContentError(f"{name} {_found(given)}", hint=f"give a list of {len(sides)}, one for each answer")
    return given


def _flags(names: Any) -> list[str]:
    if not isinstance(names, list):
        raise ContentError(f"flags are {shorten(names)}, not a list of names")
    for name in names:
        if name not in FLAGS:
            raise ContentError(f"there is no flag {shorten(name)}{did_you_mean(str(name)[:40], FLAGS)}",
                               hint=f"flags are {', '.join(FLAGS)}")
    return [flag for flag in FLAGS if flag in names]


def _whole(name: str, given: Any, low: int, high: int) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or not low <= given <= high:
        raise ContentError(f"{name} {_found(given)}", hint=f"it is a whole number from {low} to {high}")
    return given


def _true(name: str, value: Mapping[str, Any]) -> bool:
    if not isinstance(value.get(name, False), bool):
        raise ContentError(f"{name} is {shorten(value[name])}, not true or false")
    return bool(value.get(name, False))


def _text(name: str, value: Mapping[str, Any]) -> str:
    given = value.get(name)
    if not isinstance(given, str) or not given.strip():
        raise ContentError(f"{name} {'is empty' if isinstance(given, str) else _found(given)}", hint="write it, or skip the task")
    return given


def _found(given: Any) -> str:
    return "is missing" if given is None else f"is {shorten(given)}"
