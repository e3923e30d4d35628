"""Which layout a file has: told from its first rows, said aloud, never guessed between two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from tutelage.base.errors import ConfigError, DataError, did_you_mean, listed
from tutelage.text.label_studio import LABEL_STUDIO
from tutelage.text.layouts import COLUMNS, CORE, Goal, Layout, Row
from tutelage.text.platforms import PLATFORMS
from tutelage.text.trainers import TRAINERS

LAYOUTS: dict[str, Layout] = CORE | TRAINERS | PLATFORMS
"""Every layout that can be read, by name."""


def layouts_of(row: Row) -> set[str]:
    """The layouts a row may have, most specific only: {prompt, completion, label} is not also {prompt}."""
    found = {name for name, layout in LAYOUTS.items() if layout.columns <= row.keys() and layout.fits(row)}
    found = {name for name in found if LAYOUTS[name].unmistakable} or found
    return {name for name in found if not any(LAYOUTS[name].columns < LAYOUTS[other].columns for other in found)}


def detect(rows: Sequence[Row], where: str, goal: Goal | None) -> str:
    """The one layout that the first rows of a file agree on. A column that is null in all of them is not there.

    goal: None takes a project of Label Studio whose tasks ask for judgements here and for answers there, as the store does.

    Raises: DataError that names the candidates when there are several, or the columns found when there is none.
    """
    present = dict.fromkeys(key for row in rows for key, value in row.items() if value is not None)
    found = set[str]().union(*(layouts_of({key: value for key, value in row.items() if key in present}) for row in rows))
    if len(found) == 1:
        return found.pop()
    if goal is None and found and found <= LABEL_STUDIO.keys():
        return "label-studio"
    columns = listed(present)
    if found:
        raise DataError(f"{where}: the layout is ambiguous: {' or '.join(sorted(found))} (columns: {columns})",
                        hint=f"say which: layout={sorted(found)[0]}")
    raise DataError(f"{where}: no known layout has the columns {columns}", hint=_mapping_of([*present]))


def _mapping_of(columns: Sequence[str]) -> str:
    """How to map columns: exactly, where they are those of a layout but for their case."""
    usual = {name.strip().lower(): name for name in columns}
    named = {name: theirs for name, theirs in usual.items() if name in COLUMNS}
    if not layouts_of(dict.fromkeys(named, "")):
        named = {"prompt": "context", "response": "reply.content"}
    pairs, flags = ", ".join(f"{a}: {b}" for a, b in named.items()), " ".join(f"--column {a}={b}" for a, b in named.items())
    return f"map them, for example: columns={{{pairs}}} in a config, {flags} of `tutelage data`"


def check_layout(name: str) -> None:
    """Raises: ConfigError when there is no such layout."""
    if name != "auto" and name not in LAYOUTS:
        raise ConfigError(f"layout={name}: no such layout{did_you_mean(name, LAYOUTS)}", hint=f"one of: auto, {', '.join(LAYOUTS)}")


def check_columns(columns: Mapping[str, str]) -> None:
    """Raises: ConfigError when the map names a column that no layout has, or opens a brace that it does not close."""
    for name, path in columns.items():
        if path.count("{") != path.count("}"):
            raise ConfigError(f"columns.{name}: {path} has a brace without its other half",
                              hint="a field stands in a text as {field}; without braces the path itself names it")
        if name not in COLUMNS:
            near = get_close_matches(name, COLUMNS, n=1)
            raise ConfigError(f"columns.{name}: no layout has this column" + (f" (did you mean {near[0]}?)" if near else ""),
                              hint=f"map onto: {', '.join(sorted(COLUMNS))}")


def readable_as(goal: Goal) -> list[str]:
    """Names of the layouts that a goal is read from."""
    return [name for name, layout in LAYOUTS.items() if goal in layout.goals]
