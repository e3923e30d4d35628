"""Read the data people have into our records, one row at a time; what cannot be used is listed, not lost and not fatal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from glob import glob
from itertools import chain, islice
from pathlib import Path
from typing import Any, Generic, Literal, TypedDict, TypeVar, Unpack

from tutelage.base.errors import ConfigError, DataError
from tutelage.base.records import Demonstration, Judgement, Prompt
from tutelage.text.layouts import (
    LAYOUTS,
    Rules,
    check_columns,
    detect,
    mapped,
    to_demonstration,
    to_document,
    to_judgement,
    to_prompt,
    to_text,
)
from tutelage.text.lines import Rejected, is_jsonl, read_json_rows, read_lines, unwritable

Row = TypeVar("Row")
Files = Path | str | Sequence[Path | str]
_PREVIEW_ROWS = 20
"""The layout is detected from this many rows."""

_PAIRS = ("preference", "preference-implicit", "hh-rlhf")
_READS = {
    "texts": ("text", "messages", "prompt-completion"),
    "prompts": tuple(name for name in LAYOUTS if name != "text"),
    "demonstrations": ("messages", "prompt-completion", *_PAIRS),
    "judgements": ("judgement", "unpaired", "rating", *_PAIRS),
}


class ReadOptions(TypedDict, total=False):
    """Options of every reader."""

    layout: str
    """A name of LAYOUTS, or "auto" (default): told from the first rows, refused when ambiguous."""
    columns: Mapping[str, str] | None
    """Our column name -> dotted path in the file: {"prompt": "context", "response": "reply.content", "label": "reward"}."""
    prompt_style: Literal["chat", "raw"]
    """What a prompt given as a string is: one user message (default) or raw text. Our own judgements always say themselves."""
    mask_where: Mapping[str, Any] | None
    """Assistant messages with all these fields are kept but not trained: {"kind": "call"}."""
    cut: Literal["none", "first_turn"]
    """first_turn: a prompt ends with its first user turn, and each is read once, however many contexts begin with it."""
    text_unit: Literal["paragraph", "line", "file"]
    """What one document of a plain text file is; paragraphs (default) are parted by blank lines. Prompts are always lines."""
    max_rejected_frac: float
    """More rejected rows than this share are an error; 0.1 by default."""
    limit: int | None
    """Read so many good rows at most; None (default) reads all."""


@dataclass(frozen=True)
class ReadResult(Generic[Row]):
    """What the files hold. `layout`: as detected or given, one name per kind of file."""

    rows: list[Row]
    layout: str
    rejected: list[Rejected] = field(default_factory=list)

    def reasons(self) -> dict[str, int]:
        """How many rows were rejected for each reason, most frequent first."""
        return dict(Counter(r.reason for r in self.rejected).most_common())


def read_texts(files: Files, **options: Unpack[ReadOptions]) -> ReadResult[str]:
    """Documents to pretrain on, from plain text, `text`, conversations or prompt-completion rows. Raises: DataError, ConfigError."""
    return _collected(files, "texts", to_text, options)


def read_documents(files: Files, **options: Unpack[ReadOptions]) -> ReadResult[Prompt]:
    """As read_texts, with conversations kept as messages, for those who render them themselves. Raises: DataError, ConfigError."""
    return _collected(files, "texts", to_document, options)


def read_prompts(files: Files, **options: Unpack[ReadOptions]) -> ReadResult[Prompt]:
    """Prompts from rows of any layout that has them, or from the lines of a plain text file. Raises: DataError, ConfigError."""
    return _collected(files, "prompts", to_prompt, options)


def read_demonstrations(files: Files, **options: Unpack[ReadOptions]) -> ReadResult[Demonstration]:
    """Prompts with a response to imitate; of pairs the chosen side. Raises: DataError, ConfigError."""
    return _collected(files, "demonstrations", to_demonstration, options)


def read_judgements(files: Files, **options: Unpack[ReadOptions]) -> ReadResult[Judgement]:
    """What people judged: our own rows, pairs, labels or ratings. Raises: DataError, ConfigError."""
    return _collected(files, "judgements", to_judgement, options)


def iter_texts(files: Files, **options: Unpack[ReadOptions]) -> Iterator[str | Rejected]:
    """As read_texts, one at a time, for what does not fit in memory. Rejected rows come among the others and are not counted."""
    return (item for _, item in _items(files, "texts", to_text, options))


def iter_prompts(files: Files, **options: Unpack[ReadOptions]) -> Iterator[Prompt | Rejected]:
    """As read_prompts, one at a time; see iter_texts."""
    return (item for _, item in _items(files, "prompts", to_prompt, options))


def iter_demonstrations(files: Files, **options: Unpack[ReadOptions]) -> Iterator[Demonstration | Rejected]:
    """As read_demonstrations, one at a time; see iter_texts."""
    return (item for _, item in _items(files, "demonstrations", to_demonstration, options))


def iter_judgements(files: Files, **options: Unpack[ReadOptions]) -> Iterator[Judgement | Rejected]:
    """As read_judgements, one at a time; see iter_texts."""
    return (item for _, item in _items(files, "judgements", to_judgement, options))


def read_sources(read: Callable[..., ReadResult[Row]], sources: Sequence[tuple[Files, ReadOptions]]) -> ReadResult[Row]:
    """One reader over several groups of files, each with its own layout and columns; rows in the order of the sources."""
    found = [read(files, **options) for files, options in sources]
    return ReadResult([row for one in found for row in one.rows], ", ".join(dict.fromkeys(one.layout for one in found)),
                      [rejected for one in found for rejected in one.rejected])


Make = Callable[[Mapping[str, Any], str, Rules], Row]


def _collected(files: Files, goal: str, make: Make[Row], options: ReadOptions) -> ReadResult[Row]:
    limit = options.get("max_rejected_frac", 0.1)
    rows: list[Row] = []
    rejected: list[Rejected] = []
    layouts: dict[str, None] = {}
    for layout, item in _items(files, goal, make, options):
        layouts[layout] = None
        if isinstance(item, Rejected):
            rejected.append(item)
        else:
            rows.append(item)
            if len(rows) == options.get("limit"):
                break
    if options.get("cut", "none") != "none":
        rows = list(dict.fromkeys(rows))
    result = ReadResult(rows, ", ".join(layouts), rejected)
    if rejected and (not rows or len(rejected) > limit * (len(rows) + len(rejected))):
        reason, count = next(iter(result.reasons().items()))
        first = next(r for r in rejected if r.reason == reason)
        raise DataError(f"{first.file}:{first.line}: {reason} ({count} such rows; {len(rejected)} of {len(rows) + len(rejected)} rejected)",
                        hint=f"mend them, map the columns, or allow more with max_rejected_frac (now {limit})")
    if not rows:
        raise DataError(f"no {goal} in {', '.join(str(p) for p in expand_files(files))}", hint="the files hold blank lines only")
    return result


def _items(files: Files, goal: str, make: Make[Row], options: ReadOptions) -> Iterator[tuple[str, Row | Rejected]]:
    wanted, columns = options.get("layout", "auto"), options.get("columns")
    if wanted != "auto" and wanted not in LAYOUTS:
        raise ConfigError(f"layout={wanted}: no such layout", hint=f"one of: auto, {', '.join(LAYOUTS)}")
    if columns is not None:
        check_columns(columns)
    rules = Rules(columns, options.get("prompt_style", "chat"), options.get("mask_where"), options.get("cut", "none"))
    for path in expand_files(files):
        if is_jsonl(path):
            yield from _json_items(path, goal, make, wanted, rules)
        elif goal not in ("texts", "prompts"):
            raise DataError(f"{path} is plain text, which holds no {goal}", hint="give JSON lines, one object per row")
        else:
            unit = "line" if goal == "prompts" else options.get("text_unit", "paragraph")
            for number, text in _documents(path, unit):
                why = unwritable(text)
                yield "plain text", (Rejected(path, number, why) if why else _from_plain(text, goal, make, rules))


def _json_items(path: Path, goal: str, make: Make[Row], wanted: str, rules: Rules) -> Iterator[tuple[str, Row | Rejected]]:
    stream = ((number, _mapped(path, number, row, rules)) for number, row in read_json_rows(path))
    preview = list(islice(stream, _PREVIEW_ROWS))
    usable = [row for _, row in preview if not isinstance(row, Rejected)]
    if preview and not usable:
        number, row = preview[0]
        raise DataError(f"{path}:{number}: {row.reason if isinstance(row, Rejected) else ''}; so for each of the first {len(preview)} rows",
                        hint="check that the file is JSON lines and that the columns are named right")
    if not preview:
        return
    layout = detect(usable, str(path)) if wanted == "auto" else wanted
    if layout not in _READS[goal]:
        raise DataError(f"{path} has the layout {layout}, which is not read as {goal}",
                        hint=f"{goal} come from: {', '.join(_READS[goal])}; name the columns to use, for example columns={{prompt: prompt, "
                             "response: completion}")
    for number, row in chain(preview, stream):
        yield layout, row if isinstance(row, Rejected) else _made(path, number, row, layout, make, rules)


def _mapped(path: Path, number: int, row: Mapping[str, Any] | Rejected, rules: Rules) -> Mapping[str, Any] | Rejected:
    try:
        return row if isinstance(row, Rejected) else mapped(row, rules.columns)
    except ValueError as error:
        return Rejected(path, number, str(error))


def _made(path: Path, number: int, row: Mapping[str, Any], layout: str, make: Make[Row], rules: Rules) -> Row | Rejected:
    missing = LAYOUTS[layout] - row.keys()
    if missing:
        return Rejected(path, number, f"no field {', '.join(sorted(missing))}")
    try:
        return make(row, layout, rules)
    except (ValueError, TypeError) as error:
        return Rejected(path, number, str(error))


def _from_plain(text: str, goal: str, make: Make[Row], rules: Rules) -> Row:
    return make({"text": text}, "text", rules) if goal == "texts" else make({"prompt": text}, "prompt", rules)


def _documents(path: Path, unit: str) -> Iterator[tuple[int, str]]:
    """(first line, text) of each document of a plain text file; blank documents are skipped."""
    start, held = 1, list[str]()
    for number, line in read_lines(path):
        if unit == "line" or (unit == "paragraph" and not line.strip()):
            held = [*held, line] if unit == "line" else held
            if any(text.strip() for text in held):
                yield start, "\n".join(held)
            start, held = number + 1, []
        else:
            held.append(line)
    if any(text.strip() for text in held):
        yield start, "\n".join(held)


def expand_files(files: Files) -> list[Path]:
    """Paths of the files named, patterns such as `data/*.jsonl.gz` spelt out in order. Raises: ConfigError, DataError when none matches."""
    paths = []
    for name in [str(files)] if isinstance(files, Path | str) else map(str, files):
        matches = sorted(glob(name, recursive=True)) if any(c in name for c in "*?[") and not Path(name).exists() else [name]
        if not matches:
            raise DataError(f"no file matches {name}", hint="check the folder and the pattern")
        paths += [Path(match) for match in matches]
    if not paths:
        raise ConfigError("no data files are given", hint="name at least one file")
    return paths


__all__ = ["Files", "ReadOptions", "ReadResult", "Rejected", "expand_files", "iter_demonstrations", "iter_judgements", "iter_prompts",
           "iter_texts", "read_demonstrations", "read_documents", "read_judgements", "read_prompts", "read_sources", "read_texts"]
