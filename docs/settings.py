"""Writes the settings tables of the docs from the config classes: `python docs/settings.py` rewrites them in place.

A table stands between `<!-- settings: VERB -->` and `<!-- end -->`. Sections that several verbs share are written once, in run.md
(`<!-- settings: shared -->`); a verb's own table then lists only where its default is another.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tutelage.base.config import RunConfig, Section
from tutelage.cli.verbs import configured
from tutelage.train.sections import DataSection, LoraSection, MemorySection, OptimSection, SaveSection, SourceSection, TrackSection

DOCS = Path(__file__).parent
SHARED: dict[str, type[Section]] = {"data": DataSection, "optim": OptimSection, "lora": LoraSection, "memory": MemorySection,
                                    "save": SaveSection, "track": TrackSection}
MARKED = re.compile(r"(<!-- settings: (\w+) -->\n).*?(<!-- end -->)", re.S)
Row = tuple[str, Any, str]


def config_of(verb: str) -> type[Section]:
    """The config class of a verb."""
    return getattr(importlib.import_module(configured()[verb].module), configured()[verb].config)


def rows(cls: type[Section], prefix: str = "", defaults: Section | None = None) -> Iterator[Row]:
    """(dotted key, default, description) of every setting; `NAME` and `N` stand for a key of a mapping and a place in a list."""
    for name, field in cls.model_fields.items():
        key, default = prefix + name, getattr(defaults, name) if defaults is not None else _default(field)
        inner, form = _section_of(field.annotation)
        if inner is None:
            yield key, default, _description(cls, name)
        elif form == "one" and not (default is None and SHARED.get(name) is inner):
            yield from rows(inner, f"{key}.", default if isinstance(default, Section) else None)
        elif form == "optional":
            yield key, default, f"{_description(cls, name)} A section: see [the shared settings](run.md#shared-settings)."
        else:
            yield key, default, _description(cls, name)
            place = f"{key}.{'NAME' if form == 'mapping' else 'N'}."
            # A source's fields are described just above, as those of the shared `data`.
            known = SourceSection.model_fields if issubclass(inner, SourceSection) else {}
            yield from (row for row in rows(inner, place) if row[0].removeprefix(place) not in known)


def table(verb: str) -> str:
    """The markdown table of a verb, or of the shared sections."""
    if verb == "shared":
        found = [*rows(RunConfig), *(row for name, cls in SHARED.items() for row in rows(cls, f"{name}."))]
        return _markdown(found)
    common = {key: default for key, default, _ in rows(RunConfig)}
    for name, cls in SHARED.items():
        if (field := config_of(verb).model_fields.get(name)) and issubclass(_section_of(field.annotation)[0] or Section, cls):
            common |= {key: default for key, default, _ in rows(cls, f"{name}.")}
    return _markdown([row for row in rows(config_of(verb)) if row[0] not in common or common[row[0]] != row[1]])


def rewrite(text: str) -> str:
    """A page with its tables as they should be."""
    return MARKED.sub(lambda m: f"{m[1]}{table(m[2])}\n{m[3]}", text)


def _markdown(found: list[Row]) -> str:
    lines = [f"| `{key}` | {_shown(default)} | {what.replace('|', chr(92) + '|')} |" for key, default, what in found]
    return "\n".join(["| setting | default | meaning |", "|---|---|---|", *lines])


def _default(field: FieldInfo) -> Any:
    return field.get_default(call_default_factory=True)


def _shown(default: Any) -> str:
    if default is PydanticUndefined:
        return "required"
    if default is None:
        return "none"
    text = default if isinstance(default, str) else json.dumps(default, ensure_ascii=False)
    return "`" + text.replace("\n", "\\n") + "`"


def _description(cls: type[Section], name: str) -> str:
    """The docstring under a field, or under the field it overrides; the choices too, where the words do not name them."""
    said = [base.model_fields[name].description for base in cls.__mro__ if issubclass(base, Section) and name in base.model_fields]
    words = " ".join(next((text for text in said if text), "").replace("<", "&lt;").split())
    annotation = cls.model_fields[name].annotation
    choices = next((get_args(part) for part in (annotation, *get_args(annotation)) if get_origin(part) is Literal), ())
    if all(str(choice) in words for choice in choices):
        return words
    return f"{words} One of {', '.join(f'`{choice}`' for choice in choices)}."


def _section_of(annotation: Any) -> tuple[type[Section] | None, str]:
    """(the section class inside an annotation, how it is held: one, optional, list, mapping)."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation, "one"
    forms = {list: "list", dict: "mapping", Union: "optional", UnionType: "optional"}
    for part in get_args(annotation):
        if isinstance(part, type) and issubclass(part, Section):
            return part, forms.get(get_origin(annotation), "one")
    return None, ""


if __name__ == "__main__":
    for page in sorted(DOCS.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        if (new := rewrite(text)) != text:
            page.write_text(new, encoding="utf-8")
            print(f"rewrote {page}")
