"""What a fault in a config is called: where it stands, which key, what was found there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from .errors import did_you_mean

_OTHERS_CALL_IT = {"lr": "learning_rate", "num_train_epochs": "epochs", "num_epochs": "epochs", "per_device_train_batch_size": "batch_size",
                   "max_length": "context_tokens", "max_seq_length": "context_tokens", "gradient_checkpointing": "checkpointing",
                   "model_name_or_path": "policy", "output_dir": "run_dir"}
"""A setting's name in other trainers -> here."""


def explain(cls: type[BaseModel], values: Any, origins: Mapping[str, str], fault: Mapping[str, Any], path: Path | None) -> str:
    """`where: key: what (did you mean …?)` for one pydantic fault of `values`, whose keys come from `origins`, or else from `path`."""
    loc = _written_path(fault["loc"], values)
    key = ".".join(loc)
    where = origin_of(origins, key) or (str(path) if path else "config")
    return f"{where}: {key + ': ' if key else ''}{_what(cls, loc, fault)}"


def _what(cls: type[BaseModel], loc: Sequence[str], fault: Mapping[str, Any]) -> str:
    kind, message, given = fault["type"], fault["msg"], fault["input"]
    if kind == "extra_forbidden":
        near = did_you_mean(loc[-1], _known_keys(cls, loc[:-1]))
        elsewhere = [key for key in _all_keys(cls) if key.split(".")[-1] in (loc[-1], _OTHERS_CALL_IT.get(loc[-1]))]
        return "unknown key" + (near or (f" (did you mean {elsewhere[0]}?)" if elsewhere else ""))
    if kind == "missing":
        return "is required and was not given" + _set_first(cls, loc)
    if kind == "value_error":
        return message.removeprefix("Value error, ")
    if kind in ("model_type", "model_attributes_type"):
        return f"should be a section of keys, got {shorten(given)}"
    message = message.removeprefix("Input ").split(",")[0]
    near = did_you_mean(str(given), re.findall(r"'([^']+)'", message)) if kind in ("literal_error", "enum") else ""
    return f"{message}, got {shorten(given)}{near}"


def _set_first(cls: type[BaseModel], loc: Sequence[str]) -> str:
    """`: set model.policy` for a section that is missing: the keys it cannot do without, or else its first."""
    here = [cls]
    for name in loc:
        here = [section for c in here if name in c.model_fields for section in _sections(c.model_fields[name].annotation)]
    fields = [field for section in here[:1] for field in section.model_fields.items()]
    needed = [name for name, field in fields if field.is_required()] or [name for name, _ in fields[:1]]
    return f": set {', '.join('.'.join((*loc, name)) for name in needed)}" if needed else ""


def _written_path(loc: Sequence[str | int], values: Any) -> list[str]:
    """A pydantic location without the union tags, which the user never wrote."""
    written, here = [], values
    for i, part in enumerate(loc):
        if isinstance(here, dict) and part in here or isinstance(here, list) and isinstance(part, int) and part < len(here):
            here = here[part]  # type: ignore[index]
        elif i < len(loc) - 1 or not isinstance(here, dict):
            continue
        written.append(str(part))
    return written


def _sections(annotation: Any) -> list[type[BaseModel]]:
    """Every section class inside an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for arg in get_args(annotation) for section in _sections(arg)]


def _known_keys(cls: type[BaseModel], loc: Sequence[str]) -> list[str]:
    here = [cls]
    for name in loc:
        here = [section for c in here if name in c.model_fields for section in _sections(c.model_fields[name].annotation)] or here
    return [name for c in here for name in c.model_fields]


def _all_keys(cls: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in cls.model_fields.items():
        yield prefix + name
        for section in _sections(field.annotation):
            yield from _all_keys(section, f"{prefix}{name}.")


def origin_of(origins: Mapping[str, str], key: str) -> str | None:
    """Where a key, or the nearest section around it, was set."""
    while key and key not in origins:
        key = key.rpartition(".")[0]
    return origins.get(key)


def shorten(value: Any, limit: int = 40) -> str:
    """A value as Python writes it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= limit else text[:limit] + "…"
