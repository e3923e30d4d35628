"""LLaMA-Factory's dataset_info.json: what it says about a file beside it, as a layout and rows under that layout's names.

Source: LLaMA-Factory's data/README.md and its parser of that file; columns it leaves out have no default once it names any.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.base.errors import DataError
from tutelage.base.records import in_words
from tutelage.text.values import Row

NAME = "dataset_info.json"
_MAX_BYTES = 16 << 20
_ALPACA = {"prompt": "instruction", "query": "input", "response": "output"}
_ALSO = {"system": "system", "history": "history", "chosen": "chosen", "rejected": "rejected", "kto_tag": "kto_tag"}
_TAGS = {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt", "observation_tag": "observation",
         "function_tag": "function_call", "system_tag": "system"}


@dataclass(frozen=True)
class Described:
    """One entry. columns: a layout's name -> the file's; tags: how turns are written, for conversations."""

    layout: str
    columns: Mapping[str, str]
    tags: Mapping[str, str] | None

    def row(self, row: Row) -> Row:
        """The row under the layout's own names. Raises: ValueError when a turn is not an object."""
        named = {ours: row[theirs] for ours, theirs in self.columns.items() if theirs in row}
        if self.tags is None:
            return named
        for name in ("conversations", "chosen", "rejected"):
            if isinstance(named.get(name), list):
                named[name] = [self._turn(turn) for turn in named[name]]
            elif isinstance(named.get(name), Mapping):
                named[name] = self._turn(named[name])
        return named

    def _turn(self, turn: Any) -> Row:
        if not isinstance(turn, Mapping) or self.tags is None:
            raise ValueError(f"a turn is {in_words(turn)}, not an object")
        roles = {self.tags[name]: usual for name, usual in _TAGS.items() if name in self.tags}
        said = str(turn.get(self.tags.get("role_tag", "from")))
        return {"from": roles.get(said, said), "value": turn.get(self.tags.get("content_tag", "value"))}


def describe(path: Path) -> Described | None:
    """What dataset_info.json beside a file says about it, None when there is none or it does not name the file.

    Raises: DataError when it names the file and cannot be followed.
    """
    beside = path.parent / NAME
    try:
        if not beside.is_file() or beside.stat().st_size > _MAX_BYTES:
            return None
        entries = json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None                                                 # other tools leave files of this name too
    found = [entry for entry in (entries.values() if isinstance(entries, dict) else ())
             if isinstance(entry, dict) and entry.get("file_name") == path.name]
    if not found:
        return None
    described = [_followed(beside, entry) for entry in found]
    if any(other != described[0] for other in described):
        raise DataError(f"{beside} describes {path.name} in {len(found)} ways", hint="say which layout: layout=alpaca, for example")
    return described[0]


def _followed(beside: Path, entry: Mapping[str, Any]) -> Described:
    formatting, given, tags = entry.get("formatting", "alpaca"), entry.get("columns"), entry.get("tags")
    if formatting not in ("alpaca", "sharegpt", "openai"):
        raise _not_followed(beside, entry, f"formatting {formatting!r}")
    for name in ("columns", "tags"):
        if not isinstance(names := entry.get(name) or {}, dict) or not all(isinstance(column or "", str) for column in names.values()):
            raise _not_followed(beside, entry, f"{name} should say a name for each name")
    names = (_ALPACA if formatting == "alpaca" else {"messages": "conversations"}) | _ALSO
    columns = {ours: theirs for ours, theirs in ((usual, (given or {}).get(name)) for name, usual in names.items()) if theirs}
    if given is None:
        columns = {usual: usual for name, usual in names.items() if name not in ("system", "history", "kto_tag")}
    if entry.get("ranking"):
        suffix = "-preference"
        columns.pop("output", None)
    else:
        suffix = "-kto" if "kto_tag" in columns else ""
        columns = {ours: theirs for ours, theirs in columns.items() if ours not in ("chosen", "rejected")}
    if formatting == "alpaca" and suffix == "" and "output" not in columns and "instruction" in columns:
        return Described("text", {"text": columns["instruction"]}, None)             # pretraining: only `prompt` is named
    usual_tags = _TAGS if formatting == "sharegpt" else _TAGS | {"role_tag": "role", "content_tag": "content", "user_tag": "user",
                                                                 "assistant_tag": "assistant", "observation_tag": "tool"}
    return Described(("alpaca" if formatting == "alpaca" else "sharegpt") + suffix, columns,
                     None if formatting == "alpaca" else usual_tags if tags is None else tags)


def _not_followed(beside: Path, entry: Mapping[str, Any], why: str) -> DataError:
    return DataError(f"{beside}: the entry of {entry.get('file_name')} cannot be followed ({why})",
                     hint="mend it, or say the layout yourself: layout=alpaca, for example")
