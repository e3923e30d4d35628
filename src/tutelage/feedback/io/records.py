"""A judgement as files hold it and as the store does: base.records.Judgement and `judgements.value`, in both directions.

What the record has no field for stands in its `extra`: both_bad, all_bad, ratings, flags, comment, verdict, and skipped or open where
there is no judgement yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.base.records import Judgement, JudgementKind, Prompt, Response
from tutelage.base.times import utc_time
from tutelage.feedback.values import STEPS

FIELDS = ("rating", "label", "critique", "edit", "strength")
BESIDE = ("ratings", "flags", "both_bad", "all_bad", "comment", "verdict")
_OF_EACH = ("ranks", "ratings", "flags")


def value_of(judgement: Judgement, order: Sequence[int]) -> dict[str, Any]:
    """What the store keeps of it. order: for each of the task's answers its place among the judgement's."""
    value: dict[str, Any] = {name: getattr(judgement, name) for name in FIELDS if getattr(judgement, name) is not None}
    for name in ("rating", "strength"):                             # a table's 4.0 is the page's 4
        if name in value and value[name] == int(value[name]):
            value[name] = int(value[name])
    value |= {name: judgement.extra[name] for name in BESIDE if name in judgement.extra}
    if judgement.ranks is not None:
        value["ranks"] = list(judgement.ranks)
    if judgement.kind == "demonstration" and judgement.responses:
        value["text"] = judgement.responses[0].text
    for name in _OF_EACH if len(order) > 1 else ():
        if name in value:
            value[name] = [value[name][place] for place in order]
    if judgement.kind == "comparison" and "ranks" in value:
        value |= _of_two(value)
    return value


def _of_two(value: Mapping[str, Any]) -> dict[str, Any]:
    """The marks that go with a choice between two: a tie's, and the step of the scale that a whole strength stands for."""
    first, second = value["ranks"]
    if first == second:
        return {} if value.get("both_bad") else {"tie": True}
    half, strength = STEPS // 2, value.get("strength", 0)
    if strength not in range(1, half + 1):
        return {}
    return {"step": half + 1 - int(strength) if first < second else half + int(strength)}


def judgement_of(kind: JudgementKind, prompt: Prompt, answers: Sequence[Response], value: Mapping[str, Any], *, at: float | None,
                 extra: Mapping[str, Any], **about: Any) -> Judgement:
    """A stored value as a record. about: labeler, group, weight, p_select, seconds. Raises: ValueError when it cannot be one."""
    said: dict[str, Any] = {name: value.get(name) for name in FIELDS}
    ranks = value.get("ranks")
    if ranks is None and (value.get("tie") or value.get("both_bad")):
        ranks = [0] * len(answers)
    shown = (Response(value["text"]),) if kind == "demonstration" and "text" in value else tuple(answers)
    beside = {name: value[name] for name in BESIDE if value.get(name) not in (None, False, [])}
    return Judgement(prompt, shown, kind, ranks=None if ranks is None else tuple(ranks), **said, **about,
                     at=None if at is None else utc_time(at).isoformat(), extra={**beside, **extra})
