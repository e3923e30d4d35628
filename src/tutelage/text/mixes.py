"""Instruction mixes: rows of many tasks put into words by templates, and drawn in proportion to their size up to a cap.

Source: Wei et al. 2022 (FLAN, arXiv:2109.01652, sections 2.1 and 2.4: ten templates a task, each example by one of them;
examples-proportional mixing up to 3,000); Raffel et al. 2020 (T5, arXiv:1910.10683, section 3.5.2, the formula).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.base.errors import DataError
from tutelage.base.records import Demonstration, Message, Prompt, in_words
from tutelage.text.layouts import mapped
from tutelage.text.lines import Rejected, reason_of
from tutelage.text.readers import Files, check_rejected, expand_files
from tutelage.text.tables import kind_of, read_rows
from tutelage.text.values import Row, text_of

_PLACE = re.compile(r"\{\{|\}\}|\{[\w.-]+\}")
_BRACES = {"{{": "{", "}}": "}"}


@dataclass(frozen=True)
class Template:
    """One way to put a row into words. {field} stands for a field of the row, {a.b} for one inside it; {{ and }} are braces."""

    prompt: str
    response: str

    def __post_init__(self) -> None:
        """Raises: ValueError for a brace that is neither doubled nor around a field's name."""
        for text in (self.prompt, self.response):
            if set("{}") & set(_PLACE.sub("", text)):
                raise ValueError(f"{text!r} has a brace that is not around a field's name; write it twice for the brace itself")

    def answer_field(self) -> str | None:
        """The field that is the whole response, if the response is nothing else."""
        return self.response[1:-1] if _PLACE.fullmatch(self.response) and self.response not in _BRACES else None


def fields_of(templates: Iterable[Template]) -> list[str]:
    """The fields of a row that templates speak of, each once."""
    places = [place for t in templates for place in _PLACE.findall(t.prompt + t.response) if place not in _BRACES]
    return [name for name in dict.fromkeys(place[1:-1] for place in places) if name != "options"]


@dataclass
class Task:
    """Demonstrations of one task, and of each what the split goes by, and the answers it could have had: its own among them, or () if the
    task does not name them."""

    name: str
    rows: list[Demonstration] = field(default_factory=list)
    keys: list[Prompt] = field(default_factory=list)
    choices: list[tuple[str, ...]] = field(default_factory=list)

    @classmethod
    def of(cls, name: str, rows: list[Demonstration]) -> Task:
        """Rows that needed no template."""
        return cls(name, rows, [row.prompt for row in rows], [()] * len(rows))

    def extend(self, other: Task) -> None:
        """Take the rows of another source of the task."""
        self.rows += other.rows
        self.keys += other.keys
        self.choices += other.choices


def mixing_rates(sizes: Sequence[int], cap: int | None) -> np.ndarray:
    """(tasks,) share of each task in what is trained: min(size, cap) over the sum of them."""
    taken = np.minimum(sizes, max(sizes) if cap is None else cap)
    return taken / taken.sum()


def rows_of_mixture(step: int, sizes: Sequence[int], cap: int, batch_size: int, seed: int) -> np.ndarray:
    """Row numbers of 0-based `step`, rows of all tasks being numbered one task after the other; a function of (seed, step) alone.

    An epoch holds min(size, cap) rows of each task, shuffled together, in whole batches (all rows when they do not fill one). A larger task
    goes on in the next epoch where it stopped in this one, so each of its rows is seen once before any is seen again.
    """
    per_epoch = max(1, int(np.minimum(sizes, cap).sum()) // batch_size)
    epoch, position = divmod(step, per_epoch)
    found, start = [], 0
    for task, size in enumerate(sizes):
        if not size:
            continue
        taken = min(size, cap)
        places = np.arange(epoch * taken, (epoch + 1) * taken)
        for turn in np.unique(places // size):
            order = np.random.default_rng((seed, task, turn)).permutation(size)
            found.append(start + order[places[places // size == turn] % size])
        start += size
    order = np.random.default_rng((seed, len(sizes), epoch)).permutation(np.concatenate(found))
    return order[position * batch_size : (position + 1) * batch_size]


def read_task(name: str, files: Files, templates: Sequence[Template], words: Mapping[str, Mapping[str, str]], *, seed: int,
              limit: int | None = None) -> tuple[Task, list[Rejected]]:
    """Rows of files in no layout, each put into words by a template drawn at random, and those that could not be.

    words: field -> value as text -> what to call it. Where a template's response is such a field, its words are the row's choices, and
    {options} in its prompt lists them. The split goes by the fields that any template uses, so that neither the template drawn nor
    the words that all rows of a task share decide it. Raises: DataError when more than a tenth of the rows cannot be put into words.
    """
    rng = np.random.default_rng(seed)
    task, rejected = Task(name), list[Rejected]()
    key = " ".join(f"{{{name}}}" for name in fields_of(templates))
    for path, number, row in _rows(files, name):
        template = templates[int(rng.integers(len(templates)))]
        try:
            if isinstance(row, Rejected):
                raise ValueError(row.reason)
            choices = tuple(words.get(template.answer_field() or "", {}).values())
            prompt, response = (fill(text, row, words, choices) for text in (template.prompt, template.response))
            task.extend(Task(name, [Demonstration((Message("user", prompt),), response)], [fill(key, row, words)], [choices]))
        except ValueError as error:
            rejected.append(Rejected(path, number, reason_of(error)))
        if len(task.rows) == limit:
            break
    check_rejected(len(task.rows), rejected, {})
    return task, rejected


def _rows(files: Files, task: str) -> Iterator[tuple[Path, int, Row | Rejected]]:
    """(file, line, row) of every file. Raises: DataError for one that has no fields."""
    for path in expand_files(files):
        if kind_of(path) == "plain":
            raise DataError(f"{path} is plain text, which has no fields for the templates of task {task}",
                            hint="give JSON lines or a table")
        for number, row in read_rows(path):
            yield path, number, row


def fill(template: str, row: Mapping[str, Any], words: Mapping[str, Mapping[str, str]], choices: Sequence[str] = ()) -> str:
    """A template with the row's values. Raises: ValueError when a field is missing, or holds no text or number, or the text is empty."""
    fields = {place[1:-1] for place in _PLACE.findall(template) if place not in _BRACES}
    if choices:
        fields.discard("options")
    values = mapped(row, {f"{{{name}}}": name for name in fields})
    said = {place: _said(place[1:-1], value, words) for place, value in values.items()}
    said |= _BRACES | ({"{options}": "\n".join(f"- {choice}" for choice in choices)} if choices else {})
    return text_of(_PLACE.sub(lambda match: said[match[0]], template), "the text")


def _said(name: str, value: Any, words: Mapping[str, Mapping[str, str]]) -> str:
    if not isinstance(value, str | bool | int | float):
        raise ValueError(f"{name} is {in_words(value)}, not text or a number")
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if name not in words:
        return text
    if text not in words[name]:
        raise ValueError(f"{name} is {text!r}, for which there is no word (there are: {', '.join(words[name])})")
    return words[name][text]
