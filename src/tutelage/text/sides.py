"""What a judgement says beside its verdict, as the answers to named questions that tools for judging can hold.

strength: 1 to 4. flags: names of what was ticked. comment: text. both_bad, all_bad: nobody should imitate either, or any. Of several
answers each may have its own: rating-1, flags-1, rating-2, …
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tutelage.base.records import Judgement
from tutelage.text.values import list_of, number_of

MARKS = ("both_bad", "all_bad")
PLAIN = ("strength", "flags", "comment", *MARKS)
_OF_ANSWER = re.compile(r"(rating|flags)-([1-9])")


def is_side(name: Any) -> bool:
    """Whether a question of this name says more of another one's answer."""
    return isinstance(name, str) and (name in PLAIN or _OF_ANSWER.fullmatch(name) is not None)


def sides_of(judgement: Judgement) -> dict[str, Any]:
    """Question -> answer of all that was said beside the verdict."""
    extra = judgement.extra
    sides: dict[str, Any] = {"strength": judgement.strength, "comment": extra.get("comment")} | {mark: extra.get(mark) for mark in MARKS}
    if judgement.kind in ("comparison", "ranking"):
        for i in range(len(judgement.responses)):
            sides[f"rating-{i + 1}"] = (extra.get("ratings") or {i: None})[i]
            sides[f"flags-{i + 1}"] = (extra.get("flags") or {i: None})[i]
    else:
        sides["flags"] = extra.get("flags")
    return {name: value for name, value in sides.items() if value is not None and value is not False and value != []}


def about_of(sides: Mapping[str, Any], num_answers: int) -> dict[str, Any]:
    """The columns of a judgement row that these answers make: the other direction of `sides_of`. Raises: ValueError."""
    about: dict[str, Any] = {mark: True for mark in MARKS if sides.get(mark)}
    if "strength" in sides:
        about["strength"] = number_of(sides["strength"], "strength")
    if "comment" in sides:
        about["comment"] = str(sides["comment"])
    if "flags" in sides:
        about["flags"] = [str(flag) for flag in list_of(sides["flags"], "flags")]
    for name in ("rating", "flags"):
        given = {int(found[2]): value for side, value in sides.items() if (found := _OF_ANSWER.fullmatch(side)) and found[1] == name}
        if not given:
            continue
        if max(given) > num_answers:
            raise ValueError(f"{name}-{max(given)}, where there are {num_answers} answers")
        by_answer = [given.get(i + 1, [] if name == "flags" else None) for i in range(num_answers)]
        about["ratings" if name == "rating" else "flags"] = by_answer
    return about
