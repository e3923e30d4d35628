"""Long tables, a row for each {item, user, scheme, value}, as Potato's users keep them; ours carry prompt and answers beside it.

`user` is who judged. Whose prompt it is, `user` everywhere else, stands in `customer`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from tutelage.base.records import SAYS, Judgement, name_from_json
from tutelage.text.layouts import RATED, Asked, Layout, Row
from tutelage.text.trainers import Core
from tutelage.text.values import number_of, text_of, verdict_of, yes_or_no

_OURS = ("item", "user", "scheme", "value")
_NOBODY, _CUSTOMER = "(nobody)", "customer"


def _cell_row(row: Row, goal: Asked) -> Iterator[Core]:
    others = {name: value for name, value in row.items() if name not in _OURS}
    if goal == "prompts":
        yield "prompt", {"prompt": others.get("prompt", row["item"])}
        return
    about = {} if row["user"] == _NOBODY else {"labeler": name_from_json(row["user"], "user")}
    if "prompt" in row and "responses" in row and row["scheme"] in (*SAYS, "demonstration"):
        told = row["item"] != _name_of(others)
        if _CUSTOMER in others:
            others["user"] = others.pop(_CUSTOMER)
        yield "judgement", others | about | {"kind": row["scheme"]} | _said(row) | ({"item": str(row["item"])} if told else {})
    elif goal == "feedback":
        yield "judgement", _foreign(row) | about
    else:
        raise ValueError("no prompt and responses")


def _said(row: Row) -> dict[str, Any]:
    scheme, value = row["scheme"], row["value"]
    if scheme == "demonstration" or row.get("skipped") or row.get("open"):
        return {}
    if scheme in ("critique", "edit"):
        return {scheme: value}
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        found = None
    if scheme == "label" and not isinstance(found, bool):
        return {"verdict": verdict_of(value)}
    return {SAYS[scheme]: found}


def _foreign(row: Row) -> dict[str, Any]:
    """Somebody else's table: the item's text, if a column has it, is what was judged; the scheme keeps questions apart."""
    text = next((row[name] for name in ("text", "displayed_text") if row.get(name)), "")
    about = {"prompt": text_of(str(row["item"]), "item"), "responses": [{"text": text}], "batch": str(row["scheme"])}
    value = row["value"]
    if (said := yes_or_no([value])) is not None:
        return about | {"kind": "label", "label": said}
    try:
        return about | {"kind": "rating", "rating": number_of(json.loads(str(value)), "value")}
    except (ValueError, RecursionError):
        return about | {"kind": "label", "verdict": verdict_of(value)}


def long_row_of(judgement: Judgement) -> dict[str, Any]:
    """The row of one judgement. An item without a name is named by its content."""
    row = judgement.to_json()
    if "user" in row:
        row[_CUSTOMER] = row.pop("user")
    kind = row.pop("kind")
    said = row.pop(SAYS.get(kind, ""), None)
    if judgement.extra.get("skipped") or judgement.extra.get("open"):
        said = "(skipped)" if judgement.extra.get("skipped") else "(open)"
    elif kind == "demonstration":
        said = judgement.responses[0].text
    elif said is None:
        said = row.pop("verdict", None)
    return {"item": row.pop("item", None) or _name_of(row), "user": row.pop("labeler", _NOBODY), "scheme": kind, "value": said, **row}


def _name_of(row: Row) -> str:
    content = json.dumps([row["prompt"], row["responses"]], sort_keys=True, ensure_ascii=False)
    return f"item-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def _is_long(row: Mapping[str, Any]) -> bool:
    return not row.keys() & {"winner", "chosen", "label"}


LONG = Layout(frozenset({"item", "user", "scheme", "value"}), RATED, _is_long, _cell_row, unmistakable=True)
