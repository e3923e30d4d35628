"""From the fields of a form to what a judgement says, in the words of `feedback.values`: positions on the page, as they were shown."""

from __future__ import annotations

import math
from typing import Any

from starlette.datastructures import FormData

from tutelage.web.session import text_of

MAX_EXAMPLES = 5
MOST_SECONDS = 3600.0
"""As long as a task is held: believed of a page while our own clock says nonsense."""


def value_of(kind: str, form: FormData, answers: int, style: str = "plain") -> dict[str, Any]:
    """What was entered; `feedback.values.stored` says what is wrong with it."""
    if kind == "comparison":
        choice = text_of(form, "choice", 20)
        value: dict[str, Any] = {"tie": True} if choice == "tie" else {"choice": _number(choice)}
        return value | ({"both_bad": True} if form.get("both_bad") else {})
    if kind == "ranking":
        return {"ranks": [_number(text_of(form, f"rank_{at}", 20)) for at in range(answers)]}
    if kind == "rating":
        return {"rating": _number(text_of(form, "rating", 20)), "flags": [str(name) for name in form.getlist("flag")]}
    if kind == "label":
        return {"label": {"yes": True, "no": False}.get(text_of(form, "label", 20))}
    if kind == "prompt":
        examples = [{"prompt": text_of(form, f"query_{i}"), "response": text_of(form, f"reply_{i}")} for i in range(1, MAX_EXAMPLES + 1)]
        given = [row for row in examples if row["prompt"].strip() or row["response"].strip()]
        return {"text": text_of(form, "text"), "style": style} | ({"examples": given} if given else {})
    name = {"critique": "critique", "edit": "edit"}.get(kind, "text")
    return {name: text_of(form, "text")}


def fields(form: FormData) -> dict[str, Any]:
    """What was entered, by field, as a draft keeps it."""
    kept: dict[str, Any] = {name: text_of(form, name) for name in form if name not in ("csrf", "seconds", "flag")}
    return kept | ({"flag": [str(name) for name in form.getlist("flag")]} if "flag" in form else {})


def number(text: str) -> float:
    """A number as people and pages write it: 18, 18.50, 18,50, 1e3. Raises: ValueError for others, also those Python takes (1_000, nan)."""
    found = float(text.replace(",", ".").replace("_", "no"))
    if not math.isfinite(found):
        raise ValueError(f"{text!r} is no finite number")
    return found


def spent(form: FormData) -> float | None:
    """Seconds by the page's own clock, which stops when nobody looks; None of a page without one (no JavaScript)."""
    try:
        counted = number(text_of(form, "seconds", 20))
    except ValueError:
        return None
    return counted if counted >= 0 else None


def seconds(form: FormData, most: float) -> float:
    """How long it took by the page's clock, but not longer than by ours; by ours where the page has none.

    most: by ours. Below 0 our clock was set back meanwhile, and the page's is believed, up to MOST_SECONDS.
    """
    counted = spent(form)
    if most < 0:
        return round(min(counted or 0.0, MOST_SECONDS), 1)
    return round(most if counted is None else min(counted, most), 1)


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 6 else None
