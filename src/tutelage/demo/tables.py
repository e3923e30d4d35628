"""The facts of the embedded world: what can be asked about, and the phrases that belong to it.

Four kinds of question: `help` (how to do something), `unknown` (what the assistant cannot know), `decline` (what it should not help
with) and `ambiguous` (where it should ask back). Every fact lives in `data/*.toml`; a phrase that is a right fact of one item never is
one of another, except tools and causes, which are shared.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal, get_args

Kind = Literal["help", "unknown", "decline", "ambiguous"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FILES: dict[Kind, tuple[str, ...]] = {
    "help": ("kitchen", "house", "outdoors", "habits"),
    "unknown": ("unknown",),
    "decline": ("decline",),
    "ambiguous": ("ambiguous",),
}


@dataclass(frozen=True)
class Item:
    """One thing people ask about. `fields` maps a field's name to its phrases (most have one)."""

    kind: Kind
    key: str
    fields: Mapping[str, tuple[str, ...]]

    def __getitem__(self, field: str) -> str:
        """The only (or first) phrase of a field."""
        return self.fields[field][0]

    def __hash__(self) -> int:
        return hash((self.kind, self.key))


def table(name: str) -> dict[str, Any]:
    """One data file, parsed."""
    return tomllib.loads(resources.files("tutelage.demo").joinpath(f"data/{name}.toml").read_text(encoding="utf-8"))


@cache
def sentence_table() -> dict[str, dict[str, list[str]]]:
    """kind (or `any`, `causes`) -> role -> sentence templates."""
    return table("sentences")


@cache
def items() -> dict[Kind, dict[str, Item]]:
    """All items by kind and key, in the order of the files."""
    causes = sentence_table()["causes"]
    out: dict[Kind, dict[str, Item]] = {kind: {} for kind in KINDS}
    for kind, names in FILES.items():
        for name in names:
            for key, row in table(name).items():
                fields = {field: (value,) if isinstance(value, str) else tuple(value) for field, value in row.items()}
                if kind == "unknown":
                    fields["cause"] = tuple(causes[row["group"]])
                out[kind][key] = Item(kind, key, fields)
    return out
