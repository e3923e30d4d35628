"""Values of a row as what they should be, or a ValueError that says what they are instead."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.base.errors import listed
from tutelage.base.records import Message, in_words, messages_from_json
from tutelage.text.lines import unwritable

Row = Mapping[str, Any]
_FIELD, _INNER = re.compile(r"\{([^{}]+)\}"), re.compile(r"<([^<>]+)>")
MAX_NAME_CHARS = 200
_SPEAKER = re.compile(r"\n\n(Human|Assistant):")


def text_of(value: Any, name: str) -> str:
    """A text that is not blank and can be stored."""
    if not isinstance(value, str):
        raise ValueError(f"{name} is {in_words(value)}, not text")
    if not value.strip():
        raise ValueError(f"{name} is empty")
    return writable(value, name)


def writable(text: str, name: str) -> str:
    """The text, if it can be tokenised and stored."""
    if why := unwritable(text):
        raise ValueError(f"{name} holds {why}")
    return text


def number_of(value: Any, name: str) -> float:
    """A finite number; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise ValueError(f"{name} is {in_words(value)}, not a finite number")
    return value


def object_of(value: Any, name: str) -> Row:
    """A JSON object."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} is {in_words(value)}, not an object")
    return value


def list_of(value: Any, name: str) -> list[Any]:
    """A JSON list, also one written out as text, as tables of text hold it."""
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise ValueError(f"{name} is not a list") from None
    if not isinstance(value, list):
        raise ValueError(f"{name} is {in_words(value)}, not a list")
    return value


def ranks_of(values: Sequence[Any]) -> list[int]:
    """Ranks counted from 0 without gaps, equal where they were equal."""
    order = sorted({number_of(value, "a rank") for value in values})
    return [order.index(value) for value in values]


def yes_or_no(choices: Sequence[Any]) -> bool | None:
    """What the words people use for yes and no say; None for any other choice, or several."""
    yes = {"yes", "good", "positive", "accept", "accepted", "true", "like", "up"}
    no = {"no", "bad", "negative", "reject", "rejected", "false", "dislike", "down"}
    said = {str(choice).strip().lower() for choice in choices}
    return bool(said & yes) if len(said) == 1 and said & (yes | no) else None


def verdict_of(value: Any, name: str = "a verdict") -> str:
    """The name of a class that is neither yes nor no, or of something else: a short text, or a number as text."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{name} is {in_words(value)}, not a short text")
    text = text_of(str(value), name)
    if len(text) > MAX_NAME_CHARS:
        raise ValueError(f"{name} has {len(text)} characters, more than {MAX_NAME_CHARS}")
    return text


def message_rows(value: Any) -> Sequence[Row]:
    """A message or a list of them as objects whose content is text: parts are joined, calls of tools are written out."""
    rows = [value] if isinstance(value, Mapping) else value
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise ValueError(f"{in_words(value)} where text or a list of messages should be")
    return [row if isinstance(row.get("content"), str) and not row.get("tool_calls") else _flat(row) for row in rows]


def answer_of(value: Any, name: str, *, blank: bool = False) -> str:
    """The text of one answer, given as text, as a message or as a list of one message. blank: it may be empty, if it is text."""
    if isinstance(value, str):
        return writable(value, name) if blank else text_of(value, name)
    messages = messages_from_json(message_rows(value))
    if len(messages) != 1 or messages[0].role != "assistant":
        raise ValueError(f"{name} is not one assistant message ({', '.join(m.role for m in messages) or 'no messages'})")
    return text_of(messages[0].content, name)


def transcript_of(text: str) -> tuple[Message, ...]:
    """The messages of a transcript of `\\n\\nHuman:` and `\\n\\nAssistant:`."""
    before, *parts = _SPEAKER.split(text)
    if before.strip() or not parts:
        raise ValueError("the transcript does not begin with a speaker")
    speakers = zip(parts[::2], parts[1::2], strict=True)
    return tuple(Message("user" if who == "Human" else "assistant", said.strip()) for who, said in speakers)


def value_at(row: Row, path: str) -> Any:
    """What a path stands for: the value there, with `<path>` in it replaced by the value there; or text with `{path}` filled in."""
    if path in row:
        return row[path]
    if "{" in path:
        return _FIELD.sub(lambda field: _shown(at_path(row, field[1]), field[1]), path)
    return at_path(row, _INNER.sub(lambda inner: _shown(at_path(row, inner[1]), inner[1]), path) if "<" in path else path)


def _shown(value: Any, path: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{path} is {in_words(value)}, which cannot stand in a text")
    return str(value)


def at_path(row: Row, path: str) -> Any:
    """The value at a dotted path; numbers index lists."""
    value: Any = row
    for part in ([path] if path in row else path.split(".")):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.lstrip("-").isdigit() and -len(value) <= int(part) < len(value):
            value = value[int(part)]
        else:
            raise ValueError(f"no field {path} (fields: {listed(row, 8)})")
    return value


def _flat(row: Row) -> Row:
    content, calls = row.get("content"), row.get("tool_calls") or []
    if isinstance(content, list):
        parts = [object_of(part, "a part of a message") for part in content]
        other = next((part for part in parts if not isinstance(part.get("text"), str)), None)
        if other is not None:
            raise ValueError(f"a message holds a part of type {other.get('type')}, and only text is read")
        content = "".join(part["text"] for part in parts)
    if calls:
        written = [json.dumps(_call(object_of(call, "a tool call")), ensure_ascii=False) for call in list_of(calls, "tool_calls")]
        content = "\n".join([content, *written] if content else written)
    return {**row, "content": content}


def _call(call: Row) -> Row:
    """OpenAI's {type, function: {name, arguments}} as {name, arguments}; arguments may be JSON in a string."""
    function = object_of(call.get("function", call), "a tool call's function")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            pass
    return {"name": function.get("name"), "arguments": arguments}
