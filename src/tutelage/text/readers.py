"""Read the data people have into our records, one row at a time; what cannot be used is listed, not lost and not fatal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from glob import glob
from itertools import chain, islice
from pathlib import Path
from typing import Any, Generic, Literal, TypedDict, TypeVar, Unpack

from tutelage.base.errors import ConfigError, DataError
from tutelage.base.log import get_logger
from tutelage.base.records import Demonstration, Judgement, Prompt
from tutelage.base.snapshot import RECORD, ROWS
from tutelage.text.dataset_info import NAME as DATASET_INFO
from tutelage.text.dataset_info import describe
from tutelage.text.detect import LAYOUTS, check_columns, check_layout, detect, readable_as
from tutelage.text.layouts import Goal, Rules, mapped_rows, parted, passes, to_demonstration, to_document, to_judgement, to_prompt, to_text
from tutelage.text.lines import Rejected, read_lines, reason_of, unwritable
from tutelage.text.oasst import gather_trees
from tutelage.text.tables import HUB, kind_of, read_rows

log = get_logger()
Row = TypeVar("Row")
Files = Path | str | Sequence[Path | str]
_PREVIEW_ROWS = 20
"""The layout is detected from this many rows."""


class ReadOptions(TypedDict, total=False):
    """Options of every reader."""

    layout: str
    """A name of tutelage.text.detect.LAYOUTS, or "auto" (default): told from the first rows, refused when ambiguous."""
    columns: Mapping[str, str] | None
    """Our column name -> dotted path in the file: {"prompt": "context", "response": "reply.content", "label": "reward"}. A `*` in it
    makes a row of each vote (see tutelage.text.spread)."""
    verdicts: Mapping[str, str]
    """What the file's verdicts are in our words: {"0": "tie"}."""
    prompt_style: Literal["chat", "raw"]
    """What a prompt given as a string is: one user message (default) or raw text. Our own judgements, unless their
    columns are mapped, always say themselves."""
    mask_where: Mapping[str, Any] | None
    """Assistant messages with all these fields are kept but not trained: {"kind": "call"}."""
    cut: Literal["none", "first_turn"]
    """first_turn: a prompt ends with its first user turn, and each is read once, however many contexts begin with it."""
    where: Mapping[str, Any] | None
    """Rows whose fields equal all of these are read, others passed over: {"strict": True}."""
    opening_words: int | None
    """A row's `text` is parted: so many words are a raw prompt, the rest its completion."""
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


def read_sources(read: Callable[..., ReadResult[Row]], sources: Sequence[tuple[Files, Mapping[str, Any]]]) -> ReadResult[Row]:
    """One reader over several groups of files, each with its own layout and columns; rows in the order of the sources.

    Says in the log what each was read as, and what was left out of it.
    """
    found = [read(files, **options) for files, options in sources]
    for (files, _), one in zip(sources, found, strict=True):
        names = str(files) if isinstance(files, Path | str) else ", ".join(map(str, files))
        log.info("read %d rows of %s as %s", len(one.rows), names, one.layout)
        for reason, count in one.reasons().items():
            first = next(r for r in one.rejected if r.reason == reason)
            log.warning("%d rows left out: %s (first: %s:%d)", count, reason, first.file, first.line)
    return ReadResult([row for one in found for row in one.rows], ", ".join(dict.fromkeys(one.layout for one in found)),
                      [rejected for one in found for rejected in one.rejected])


Make = Callable[[Mapping[str, Any], str, Rules], Row]


def _collected(files: Files, goal: Goal, make: Make[Row], options: ReadOptions) -> ReadResult[Row]:
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
    check_rejected(len(rows), rejected, options)
    if not rows:
        hint = "no row has the fields and values of data.where" if options.get("where") else "the files hold blank lines only"
        raise DataError(f"no {goal} in {', '.join(str(p) for p in expand_files(files))}", hint=hint)
    return ReadResult(rows, ", ".join(layouts), rejected)


def check_rejected(num_good: int, rejected: Sequence[Rejected], options: ReadOptions) -> None:
    """Raises: DataError naming the most frequent reason when more than `max_rejected_frac` of the rows are unusable."""
    limit, total = options.get("max_rejected_frac", 0.1), num_good + len(rejected)
    if rejected and (not num_good or len(rejected) > limit * total):
        reason, count = Counter(r.reason for r in rejected).most_common(1)[0]
        first = next(r for r in rejected if r.reason == reason)
        raise too_many_rejected(f"{first.file}:{first.line}", reason, count, len(rejected), total,
                                hint=f"mend them, map the columns, or allow more with max_rejected_frac (now {limit})")


def too_many_rejected(first: str, reason: str, count: int, num_rejected: int, total: int, *, hint: str) -> DataError:
    """The error of files of whose rows too many are unusable. first: where the most frequent reason is first met; count: how often."""
    return DataError(f"{first}: {reason} ({count} such rows; {num_rejected} of {total} rejected)", hint=hint)


def _items(files: Files, goal: Goal, make: Make[Row], options: ReadOptions) -> Iterator[tuple[str, Row | Rejected]]:
    rules = rules_of(options)
    for path in expand_files(files):
        found = open_rows(path, goal, options, rules)
        if found is not None:
            layout, rows = found
            for number, row in rows:
                if isinstance(row, Rejected):
                    yield layout, row
                else:
                    yield from ((layout, item) for item in made(path, number, row, layout, goal, make, rules))
        elif goal not in ("texts", "prompts"):
            raise DataError(f"{path} is plain text, which holds no {goal}", hint="give JSON lines, one object per row")
        else:
            yield from (("plain text", item) for _, item in plain_items(path, goal, make, rules, options))


def plain_items(path: Path, goal: Goal, make: Make[Row], rules: Rules, options: ReadOptions) -> Iterator[tuple[int, Row | Rejected]]:
    """(first line, record) of each document of a plain text file, or of each line that is a prompt."""
    unit = "line" if goal == "prompts" else options.get("text_unit", "paragraph")
    name = "prompt" if goal == "prompts" else "text"
    for number, text in _documents(path, unit):
        why = unwritable(text)
        yield number, Rejected(path, number, why) if why else make({name: text}, name, rules)


def rules_of(options: ReadOptions) -> Rules:
    """The options that every row is read by. Raises: ConfigError on an unknown layout or column."""
    check_layout(options.get("layout", "auto"))
    if (columns := options.get("columns")) is not None:
        check_columns(columns)
    return Rules(columns, options.get("prompt_style", "chat"), options.get("mask_where"), options.get("cut", "none"),
                 options.get("where"), options.get("opening_words"), options.get("verdicts", {}), own_rows=columns is None)


_KINDS = {"array": "one JSON list of objects", "parquet": "the right table", "arrow": "the right table", "hub": "the right data set"}
"""What a file of each kind should be, by whose rows nothing can be told; JSON lines otherwise."""
Found = tuple[str, Iterator[tuple[int, Mapping[str, Any] | Rejected]]]


def open_rows(path: Path, goal: Goal | None, options: ReadOptions, rules: Rules) -> Found | None:
    """(layout, numbered rows under our column names) of a file, None if it is plain text; goal None accepts every layout.

    Raises: DataError when the file cannot be read, its layout cannot be told, or holds nothing of the goal.
    """
    kind = kind_of(path)
    if kind == "plain":
        return None
    wanted = options.get("layout", "auto")
    described = describe(path) if wanted == "auto" and rules.columns is None and kind != "hub" else None
    name_columns = (lambda row: [described.row(row)]) if described else partial(mapped_rows, rules=rules)
    stream = ((number, named) for number, row in read_rows(path, kind)
              if rules.where is None or isinstance(row, Rejected) or passes(row, rules.where)
              for named in _mapped(path, number, row, name_columns, rules.opening_words))
    preview = list(islice(stream, _PREVIEW_ROWS))
    usable = [row for _, row in preview if not isinstance(row, Rejected)]
    if preview and not usable:
        number, row = preview[0]
        raise DataError(f"{path}:{number}: {row.reason if isinstance(row, Rejected) else ''}; so for each of the first {len(preview)} rows",
                        hint=("check the table's first line and its cells" if kind == "csv" else
                              f"check that the file is {_KINDS.get(kind, 'JSON lines')}") + ", and that the columns are named right")
    layout = described.layout if described else wanted if wanted != "auto" else detect(usable, str(path), goal) if usable else "none"
    if described:
        log.info("%s is %s, as %s beside it says", path, layout, DATASET_INFO)
    if usable and goal is not None and goal not in LAYOUTS[layout].goals:
        raise DataError(f"{path} has the layout {layout}, which is not read as {goal}",
                        hint=f"{goal} come from: {', '.join(readable_as(goal))}; name the columns to use, for example "
                             "columns={prompt: prompt, response: completion}")
    rows = chain(preview, stream)
    return layout, gather_trees(rows) if layout == "oasst-messages" else rows


def made(path: Path, number: int, row: Mapping[str, Any], layout: str, goal: Goal, make: Make[Row], rules: Rules) -> list[Row | Rejected]:
    """The records that one row makes; several where a foreign row holds several judgements."""
    if None in row.values():
        row = {name: value for name, value in row.items() if value is not None}
    try:
        missing = LAYOUTS[layout].columns - row.keys() if layout != "oasst-messages" else ()
        if missing:
            return [Rejected(path, number, f"no field {', '.join(sorted(missing))}")]
        foreign = LAYOUTS[layout].rows
        if foreign is None:
            return [make(row, layout, rules)]
        records: list[Row | Rejected] = [make(core, name, rules) for name, core in foreign(row, goal)]
        return records or [Rejected(path, number, f"nothing to read as {goal}")]
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        return [Rejected(path, number, reason_of(error))]


def _mapped(path: Path, number: int, row: Mapping[str, Any] | Rejected,
            name_columns: Callable[[Mapping[str, Any]], Iterable[Mapping[str, Any]]], opening_words: int | None
            ) -> Iterator[Mapping[str, Any] | Rejected]:
    if isinstance(row, Rejected):
        yield row
        return
    try:
        for named in name_columns(row):
            yield named if opening_words is None else parted(named, opening_words)
    except ValueError as error:
        yield Rejected(path, number, reason_of(error))


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
    """Paths of the files named, patterns such as `data/*.jsonl.gz` spelt out in order; names of hub data sets stay as they are.

    The folder of a snapshot of judgements stands for its rows.
    Raises: ConfigError, DataError when none matches.
    """
    paths = []
    for name in [str(files)] if isinstance(files, Path | str) else map(str, files):
        is_pattern = any(c in name for c in "*?[") and not name.startswith(HUB) and not Path(name).exists()
        matches = sorted(glob(name, recursive=True)) if is_pattern else [name]
        if not matches:
            raise DataError(f"no file matches {name}", hint="check the folder and the pattern")
        paths += [Path(match, ROWS) if Path(match, RECORD).is_file() else Path(match) for match in matches]
    if not paths:
        raise ConfigError("no data files are given", hint="name at least one file")
    return paths


def input_files(sources: Sequence[tuple[Files, Mapping[str, Any]]], held_out: str | None = None) -> list[Path]:
    """All that is read for some sources: their files, each dataset_info.json that says how to read one, and a file of held-out prompts.

    Raises: ConfigError, DataError when no file matches.
    """
    paths: list[Path] = []
    for files, options in [*sources, *([(held_out, {})] if held_out else [])]:
        found = expand_files(files)
        told = options.get("layout", "auto") == "auto" and options.get("columns") is None
        paths += [*found, *(path.parent / DATASET_INFO for path in found if told and kind_of(path) != "hub" and describe(path))]
    return list(dict.fromkeys(paths))


__all__ = ["Files", "ReadOptions", "ReadResult", "Rejected", "expand_files", "input_files", "iter_demonstrations", "iter_judgements",
           "iter_prompts", "iter_texts", "read_demonstrations", "read_documents", "read_judgements", "read_prompts", "read_sources",
           "read_texts"]
