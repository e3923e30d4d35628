"""Which published layout a row has, and what it says in our records."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import takewhile
from typing import Any, Literal

from tutelage.base.errors import ConfigError, DataError
from tutelage.base.records import Demonstration, Judgement, Message, Prompt, Response, messages_from_json, prompt_text
from tutelage.text.lines import unwritable

LAYOUTS: dict[str, frozenset[str]] = {
    "text": frozenset({"text"}),
    "messages": frozenset({"messages"}),
    "prompt": frozenset({"prompt"}),
    "prompt-completion": frozenset({"prompt", "completion"}),
    "preference": frozenset({"prompt", "chosen", "rejected"}),
    "preference-implicit": frozenset({"chosen", "rejected"}),
    "hh-rlhf": frozenset({"chosen", "rejected"}),
    "unpaired": frozenset({"prompt", "completion", "label"}),
    "rating": frozenset({"prompt", "completion", "rating"}),
    "judgement": frozenset({"prompt", "responses"}),
}
"""The columns that make a layout: TRL's names, hh-rlhf's transcripts, and our own judgements."""

_ABOUT = ("labeler", "group", "strength", "weight", "p_select", "seconds", "at")
"""Optional columns of every judgement, as fields of Judgement."""
_COLUMNS = frozenset().union(*LAYOUTS.values()) | {*_ABOUT, "response", "margin"}
_SAYS = {"comparison": "ranks", "ranking": "ranks", "label": "label", "rating": "rating", "critique": "critique", "edit": "edit"}
"""The field without which a judgement of a kind says nothing."""
_SPEAKER = re.compile(r"\n\n(Human|Assistant):")
_NUMBERS = {"strength", "weight", "p_select", "seconds", "rating"}


@dataclass(frozen=True)
class Rules:
    """How values are read. `columns`: our name -> dotted path. `mask_where`: assistant messages with these fields are not trained.
    `cut`: prompts keep what stands up to the first user turn."""

    columns: Mapping[str, str] | None = None
    prompt_style: Literal["chat", "raw"] = "chat"
    mask_where: Mapping[str, Any] | None = None
    cut: Literal["none", "first_turn"] = "none"


def check_columns(columns: Mapping[str, str]) -> None:
    """Raises: ConfigError when the map names a column that no layout has."""
    for name in columns:
        if name not in _COLUMNS:
            near = get_close_matches(name, _COLUMNS, n=1)
            raise ConfigError(f"columns.{name}: no layout has this column" + (f" (did you mean {near[0]}?)" if near else ""),
                              hint=f"map onto: {', '.join(sorted(_COLUMNS))}")


def mapped(row: Mapping[str, Any], columns: Mapping[str, str] | None) -> Mapping[str, Any]:
    """The row under our column names. Raises: ValueError when a path leads nowhere."""
    if columns is None:
        return row
    return {"completion" if name == "response" else name: _at(row, path) for name, path in columns.items()}


def layouts_of(row: Mapping[str, Any]) -> set[str]:
    """The layouts a row may have, most specific only: {prompt, completion, label} is not also {prompt}."""
    found = {name for name, needed in LAYOUTS.items() if needed <= row.keys()}
    found = {name for name in found if not any(LAYOUTS[name] < LAYOUTS[other] for other in found)}
    if "hh-rlhf" in found:                                          # the same columns; told apart by what the strings hold
        transcripts = all(isinstance(row[side], str) and row[side].startswith("\n\nHuman:") for side in ("chosen", "rejected"))
        found.discard("preference-implicit" if transcripts else "hh-rlhf")
    return found


def detect(rows: Sequence[Mapping[str, Any]], where: str) -> str:
    """The one layout that the first rows of a file agree on.

    Raises: DataError that names the candidates when there are several, or the columns found when there is none.
    """
    found = set().union(*(layouts_of(row) for row in rows))
    if len(found) == 1:
        return found.pop()
    columns = ", ".join(dict.fromkeys(key for row in rows for key in row)) or "none"
    if found:
        raise DataError(f"{where}: the layout is ambiguous: {' or '.join(sorted(found))} (columns: {columns})",
                        hint=f"say which: layout={sorted(found)[0]}")
    raise DataError(f"{where}: no known layout has the columns {columns}",
                    hint="map them, for example: columns={prompt: context, response: reply.content}")


def to_prompt(row: Mapping[str, Any], layout: str, rules: Rules) -> Prompt:
    """The prompt of a row, up to its first user turn if `rules.cut` says so. Raises: ValueError with the reason."""
    prompt = _whole_prompt(row, layout, rules)
    if rules.cut == "none" or isinstance(prompt, str):
        return prompt
    first = next((i for i, m in enumerate(prompt) if m.role == "user"), None)
    if first is None:
        raise ValueError("no user turn to cut the prompt after")
    return prompt[:first + 1]


def _whole_prompt(row: Mapping[str, Any], layout: str, rules: Rules) -> Prompt:
    """The prompt of a row; of a whole conversation what precedes its last answer."""
    if layout == "messages":
        messages = _messages(row["messages"], rules)
        cut = _last(messages, lambda m: m.role == "assistant") if messages[-1].role == "assistant" else len(messages)
        if not cut:
            raise ValueError("the conversation has nothing before its answer")
        return messages[:cut]
    if LAYOUTS[layout] == LAYOUTS["hh-rlhf"]:
        return _sides(row, layout, rules)[0]
    return _judgement(row).prompt if layout == "judgement" else _prompt(row["prompt"], rules)


def to_text(row: Mapping[str, Any], layout: str, rules: Rules) -> str:
    """One document to pretrain on; conversations become `role: content` lines. Raises: ValueError with the reason."""
    return prompt_text(to_document(row, layout, rules))


def to_document(row: Mapping[str, Any], layout: str, rules: Rules) -> Prompt:
    """One document to pretrain on, a conversation as its messages. Raises: ValueError with the reason."""
    if layout == "text":
        return _text(row["text"], "text")
    if layout == "messages":
        return _messages(row["messages"], rules)
    example = to_demonstration(row, layout, replace(rules, prompt_style="raw"))
    if isinstance(example.prompt, str):
        return example.prompt + str(example.response)
    answer = (Message("assistant", example.response),) if isinstance(example.response, str) else example.response
    return (*example.prompt, *answer)


def to_demonstration(row: Mapping[str, Any], layout: str, rules: Rules) -> Demonstration:
    """A prompt and the response to imitate: the completion, the preferred side of a pair, or a conversation's last trained answer.

    Raises: ValueError with the reason.
    """
    if layout == "messages":
        messages = _messages(row["messages"], rules)
        cut = _last(messages, lambda m: m.role == "assistant" and m.trained)
        if not cut:
            raise ValueError("the conversation has nothing before its answer")
        return Demonstration(messages[:cut], messages[cut].content)
    if layout == "prompt-completion":
        prompt, response = _prompt(row["prompt"], rules), row["completion"]
        if isinstance(response, str):
            return Demonstration(prompt, _text(response, "completion"))
        turns = _messages(response, rules)
        if isinstance(prompt, str):
            raise ValueError("the completion is messages but the prompt is raw text")
        _last(turns, lambda m: m.role == "assistant" and m.trained)
        return Demonstration(prompt, turns[0].content if len(turns) == 1 else turns)
    prompt, chosen, _ = _sides(row, layout, rules)
    return Demonstration(prompt, chosen)


def to_judgement(row: Mapping[str, Any], layout: str, rules: Rules) -> Judgement:
    """A pair becomes a comparison, a label or rating a judgement of one answer. Raises: ValueError with the reason."""
    if layout == "judgement":
        return _judgement(row)
    about: dict[str, Any] = {name: _number(row[name], name) if name in _NUMBERS else str(row[name])
                             for name in _ABOUT if row.get(name) is not None}
    if layout in ("unpaired", "rating"):
        prompt, response = _prompt(row["prompt"], rules), Response(_answer(row["completion"], "completion"))
        if layout == "rating":
            return Judgement(prompt, (response,), "rating", rating=_number(row["rating"], "rating"), **about)
        if row["label"] not in (0, 1) or isinstance(row["label"], str):
            raise ValueError(f"label is {row['label']!r}, not true, false, 0 or 1")
        return Judgement(prompt, (response,), "label", label=bool(row["label"]), **about)
    prompt, chosen, rejected = _sides(row, layout, rules)
    if chosen == rejected:
        raise ValueError("chosen and rejected are the same text")
    extra = {"margin": _number(row["margin"], "margin")} if row.get("margin") is not None else {}
    return Judgement(prompt, (Response(chosen), Response(rejected)), "comparison", ranks=(0, 1), extra=extra, **about)


def _sides(row: Mapping[str, Any], layout: str, rules: Rules) -> tuple[Prompt, str, str]:
    """(prompt, chosen, rejected); an implicit prompt is what both sides begin with."""
    chosen, rejected = row["chosen"], row["rejected"]
    if layout == "preference":
        return _prompt(row["prompt"], rules), _answer(chosen, "chosen"), _answer(rejected, "rejected")
    if layout == "hh-rlhf":
        chosen, rejected = _transcript(_text(chosen, "chosen")), _transcript(_text(rejected, "rejected"))
    elif isinstance(chosen, str) and isinstance(rejected, str):
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(chosen, rejected, strict=False)))
        shared = len(chosen[:shared].rstrip()) if chosen[:shared][-1:].isspace() else max(chosen.rfind(" ", 0, shared), 0)
        return _prompt(chosen[:shared], rules), _text(chosen[shared:], "chosen"), _text(rejected[shared:], "rejected")
    else:
        chosen, rejected = _messages(chosen, rules), _messages(rejected, rules)
    together = zip(chosen, rejected, strict=False)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], together))
    shared = min(shared, len(chosen) - 1, len(rejected) - 1)
    if not shared or len(chosen) - shared > 1 or len(rejected) - shared > 1:
        raise ValueError("chosen and rejected differ in more than the last turn")
    if chosen[-1].role != "assistant" or rejected[-1].role != "assistant":
        raise ValueError("the last turn is not the assistant's")
    return chosen[:shared], _text(chosen[-1].content, "chosen"), _text(rejected[-1].content, "rejected")


def _transcript(text: str) -> tuple[Message, ...]:
    before, *parts = _SPEAKER.split(text)
    if before.strip() or not parts:
        raise ValueError("the transcript does not begin with a speaker")
    speakers = zip(parts[::2], parts[1::2], strict=True)
    return tuple(Message("user" if who == "Human" else "assistant", said.strip()) for who, said in speakers)


def _prompt(value: Any, rules: Rules) -> Prompt:
    if not isinstance(value, str):
        return _messages(value, rules)
    return (Message("user", _text(value, "prompt")),) if rules.prompt_style == "chat" else _text(value, "prompt")


def _answer(value: Any, name: str) -> str:
    """The text of one answer, given as text, as a message or as a list of one message."""
    if isinstance(value, str):
        return _text(value, name)
    messages = messages_from_json(_listed(value))
    if len(messages) != 1 or messages[0].role != "assistant":
        raise ValueError(f"{name} is not one assistant message ({', '.join(m.role for m in messages) or 'no messages'})")
    return _text(messages[0].content, name)


def _messages(value: Any, rules: Rules) -> tuple[Message, ...]:
    rows = _listed(value)
    messages = messages_from_json(rows)
    if not messages:
        raise ValueError("an empty list of messages")
    for message in messages:
        _writable(message.content, f"content of a {message.role} message")
    if not rules.mask_where:
        return messages
    hidden = [all(row.get(field) == wanted for field, wanted in rules.mask_where.items()) for row in rows]
    return tuple(replace(m, trained=False) if hide and m.role == "assistant" else m for m, hide in zip(messages, hidden, strict=True))


def _listed(value: Any) -> Sequence[Mapping[str, Any]]:
    rows = [value] if isinstance(value, Mapping) else value
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise ValueError(f"{type(value).__name__} where text or a list of messages should be")
    return rows


def _judgement(row: Mapping[str, Any]) -> Judgement:
    judgement = Judgement.from_json(row)
    for text in (prompt_text(judgement.prompt), *(r.text for r in judgement.responses), judgement.critique, judgement.edit):
        if text is not None:
            _writable(text, "a text")
    if judgement.kind not in _SAYS:
        raise ValueError(f"kind is {judgement.kind!r}, not one of {', '.join(_SAYS)}")
    if getattr(judgement, _SAYS[judgement.kind]) is None:
        raise ValueError(f"a {judgement.kind} without {_SAYS[judgement.kind]}")
    if judgement.label is not None and not isinstance(judgement.label, bool):
        raise ValueError(f"label is {judgement.label!r}, not true or false")
    for name in _NUMBERS:
        if getattr(judgement, name) is not None:
            _number(getattr(judgement, name), name)
    return judgement


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} is {type(value).__name__}, not text")
    if not value.strip():
        raise ValueError(f"{name} is empty")
    return _writable(value, name)


def _writable(text: str, name: str) -> str:
    if why := unwritable(text):
        raise ValueError(f"{name} holds {why}")
    return text


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} is {value!r}, not a finite number")
    return value


def _last(messages: Sequence[Message], wanted: Any) -> int:
    found = [i for i, m in enumerate(messages) if wanted(m) and m.content.strip()]
    if not found:
        raise ValueError("no trained assistant turn")
    return found[-1]


def _at(row: Any, path: str) -> Any:
    value = row
    for part in ([path] if isinstance(row, Mapping) and path in row else path.split(".")):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.lstrip("-").isdigit() and -len(value) <= int(part) < len(value):
            value = value[int(part)]
        else:
            raise ValueError(f"no field {path} (fields: {', '.join(_names(row))})")
    return value


def _names(row: Any) -> Iterable[str]:
    return list(row)[:8] if isinstance(row, Mapping) else ["none"]
