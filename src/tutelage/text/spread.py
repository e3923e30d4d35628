"""Rows that hold several judgements: `columns` with a `*` in their paths make a row of each.

votes.*.vote stands for the vote of every element of votes, annotator_* for every field of that form. `#` in the same place is what the
`*` stands for: the key, or the number of the element from 1. One exception: responses=answer_* alone is the list of a row's answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tutelage.base.records import in_words
from tutelage.text.values import Row, at_path, value_at


def spread(row: Row, columns: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The row under our column names, once for each thing the `*` stands for; elements in which every starred column is null are no rows.

    Raises: ValueError when a path leads nowhere.
    """
    starred = [name for name, path in columns.items() if "*" in path and path not in row]
    if not starred:
        yield {name: value_at(row, path) for name, path in columns.items()}
        return
    if starred == ["responses"] and (answers := _listed(row, columns)):
        yield answers
        return
    for key, shown in _places(row, columns[starred[0]]):
        found = {name: shown if path.endswith("#") and path not in row else value_at(row, path.replace("*", key))
                 for name, path in columns.items()}
        if any(found[name] is not None for name in starred):
            yield found


def _listed(row: Row, columns: Mapping[str, str]) -> dict[str, Any] | None:
    """The row with a list of the answers that its columns hold one by one; None where each place holds a list of its own."""
    if any(path.endswith("#") and path not in row for path in columns.values()):
        return None
    path = columns["responses"]
    answers = [value_at(row, path.replace("*", key)) for key, _ in _places(row, path)]
    if any(isinstance(answer, list) for answer in answers):
        return None
    others = {name: value_at(row, path) for name, path in columns.items() if name != "responses"}
    return others | {"responses": [answer for answer in answers if answer is not None]}


def _places(row: Row, path: str) -> list[tuple[str, str]]:
    """(what to put in the place of `*`, what `#` says) of everything it stands for."""
    before, _, after = path.partition("*")
    if "*" in after:
        raise ValueError(f"{path} has more than one *")
    holder, _, prefix = before.rpartition(".") if "<" not in before else ("", "", "")
    if "<" in before:                                               # answers.<comparisons.*.0>: the star stands in the inner path
        holder = before.rpartition("<")[2].rstrip(".")
    suffix = after.partition(".")[0].partition(">")[0]
    value = at_path(row, holder) if holder else row
    if isinstance(value, list):
        return [(str(i), str(i + 1)) for i in range(len(value))]
    if not isinstance(value, Mapping):
        raise ValueError(f"{holder} is {in_words(value)}, where a list or an object should be")
    edges = len(prefix) + len(suffix)
    names = [key[len(prefix):len(key) - len(suffix)] for key in value
             if key.startswith(prefix) and key.endswith(suffix) and len(key) > edges]
    if not names:
        raise ValueError(f"no field {path} (fields: {', '.join(list(value)[:8]) or 'none'})")
    return [(name, name) for name in names]
