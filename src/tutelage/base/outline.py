"""The settings of a config class before anybody has given any."""

from __future__ import annotations

from typing import Any

from pydantic_core import PydanticUndefined

from .config import Section


def outline(cls: type[Section]) -> tuple[dict[str, Any], list[str]]:
    """(nested defaults, dotted keys that have none and must be given; their value is None)."""
    values: dict[str, Any] = {}
    required: list[str] = []
    for name, field in cls.model_fields.items():
        default = field.get_default(call_default_factory=True)
        inner = field.annotation
        if default is PydanticUndefined and isinstance(inner, type) and issubclass(inner, Section):
            values[name], lacking = outline(inner)
            required += [f"{name}.{key}" for key in lacking]
        elif default is PydanticUndefined:
            values[name] = None
            required.append(name)
        else:
            values[name] = default.model_dump(mode="json") if isinstance(default, Section) else default
    return values, required
