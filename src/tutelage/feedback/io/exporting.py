"""The store's judgements as files of other tools: what stands, by whom, on which answers. Retracted and erased ones are nobody's business.

People are named by pseudonyms that stay the same in every export of one store and cannot be turned back without its key. An item whose
prompt's user did not consent stays here, and so does what only measured newcomers.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Connection, Row, Select, select

from tutelage.base.errors import ConfigError, did_you_mean
from tutelage.base.files import atomic_path
from tutelage.base.records import Demonstration, Judgement, JudgementKind, Response, prompt_from_json
from tutelage.base.times import utc_time
from tutelage.feedback.content import record_audit
from tutelage.feedback.errors import ContentError
from tutelage.feedback.io.keys import select_in
from tutelage.feedback.io.records import judgement_of
from tutelage.feedback.io.rows import OF_TASK
from tutelage.feedback.pseudonyms import key_of_store, pseudonym
from tutelage.feedback.schema import assignments, judgements, labelers, prompts, responses, retractions, tasks
from tutelage.feedback.standing import MEASURING
from tutelage.feedback.store import Store
from tutelage.feedback.writing import prompt_rows
from tutelage.text.arena import battles_of
from tutelage.text.argilla import record_of
from tutelage.text.content import RAW, Content
from tutelage.text.convert import WRITE_AS, cells_of, form_of, held
from tutelage.text.label_studio import task_of
from tutelage.text.layouts import Rules, mapped
from tutelage.text.long import long_row_of
from tutelage.text.oasst import tree_of
from tutelage.text.writers import WRITERS

_TASKS_AT_ONCE = 500
KINDS = ("comparison", "ranking", "rating", "label", "critique", "edit", "demonstration")
"""Kinds of judgements that files have a form for. Prompts people wrote and conversations are the store's own."""
_TRL = {"comparison": "preference", "ranking": "preference", "label": "unpaired", "demonstration": "prompt-completion"}

_RAW_HINT = ("plain-text prompts came in as text to be continued; into a new store they come as messages with: "
             "tutelage feedback import FILE --prompt-style chat")
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Form:
    """A format: how an item with its judgements becomes rows, as which files, and what of a judgement it has no place for."""

    rows: Callable[[Sequence[Judgement]], Rows]
    files: tuple[str, ...]
    leaves: tuple[str, ...] = ()


@dataclass
class Exported:
    """What came of it. skipped: reason -> judgements that the format cannot hold, or that must not leave."""

    rows: int = 0
    judgements: int = 0
    skipped: Counter[str] = field(default_factory=Counter)

    def nothing(self, message: str, hint: str) -> ContentError:
        """That there is nothing to write, with the reasons."""
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.skipped.items())
        return ContentError(f"{message}{f' ({reasons})' if reasons else ''}", hint=hint)


def _each(make: Callable[[Judgement], Rows]) -> Callable[[Sequence[Judgement]], Rows]:
    return lambda item: [row for judgement in item for row in make(judgement)]


def _said(layout: str) -> Callable[[Judgement], Rows]:
    """Rows of a layout that holds one judgement each, read back before they count."""
    def rows(judgement: Judgement) -> Rows:
        content = Content("judgement", _judged(judgement))
        made = WRITERS[layout](content)
        held(made, layout, content, Rules(prompt_style="raw" if isinstance(judgement.prompt, str) else "chat"))
        return made

    return rows


def _long(judgement: Judgement) -> Rows:
    row = long_row_of(judgement)
    read = mapped(cells_of(row), None)
    if any(read.get(name) != row[name] for name in ("prompt", "responses")):
        raise ValueError("its texts would not come back from CSV as they are")
    return [row]


def _trl(judgement: Judgement) -> Rows:
    if judgement.kind == "demonstration":
        _judged(judgement)
        return WRITERS["prompt-completion"](Content("demonstration", Demonstration(judgement.prompt, judgement.responses[0].text)))
    if judgement.kind not in _TRL:
        raise ValueError(f"TRL has no form for a {judgement.kind}")
    return _said(_TRL[judgement.kind])(judgement)


def _judged(judgement: Judgement) -> Judgement:
    if judgement.extra.get("skipped") or judgement.extra.get("open"):
        raise ValueError("nothing was judged")
    if "verdict" in judgement.extra:
        raise ValueError("a verdict that is neither yes nor no")
    return judgement


def _only_judged(item: Sequence[Judgement]) -> list[Judgement]:
    return [one for one in item if "skipped" not in one.extra] if len(item) > 1 else [_judged(item[0])]


_PAIRS_LEAVE = ("ties", "which answers were ranked together", "model", "sampling", "logprobs", "comment", "flags", "ratings", "both_bad",
                "all_bad", "sides", "item", "batch", "language", "user", "gold")
_IN_LINES = (".jsonl", ".jsonl.gz", ".json", ".parquet")
FORMS: dict[str, Form] = {
    "judgements": Form(_each(lambda judgement: [judgement.to_json()]), (".jsonl", ".jsonl.gz", ".json")),
    "csv": Form(_each(_long), (".csv",)),
    "label-studio": Form(lambda item: [task_of(item)], (".json", ".jsonl", ".jsonl.gz"),
                         ("group", "weight", "p_select", "batch", "language", "user", "sides", "sampling", "logprobs")),
    "argilla": Form(lambda item: [record_of(item)], (".json", ".jsonl", ".jsonl.gz"),
                    ("group", "weight", "p_select", "batch", "language", "user", "seconds", "at", "sides", "model", "sampling",
                     "logprobs", "gold")),
    "oasst": Form(lambda item: [tree_of(_only_judged(item))], (".jsonl", ".jsonl.gz"),
                  ("group", "weight", "p_select", "batch", "item", "sides", "sampling", "logprobs", "gold")),
    "arena": Form(lambda item: battles_of(_only_judged(item)), (".jsonl", ".jsonl.gz", ".json"),
                  ("batch", "user", "comment", "flags", "ratings", "sides", "sampling", "logprobs", "gold")),
    "hh-rlhf": Form(_each(_said("hh-rlhf")), (".jsonl", ".jsonl.gz"), _PAIRS_LEAVE),
    "trl": Form(_each(_trl), _IN_LINES, _PAIRS_LEAVE),
}


def export(store: Store, out: Path, to: str, *, names: bool = False, kinds: Sequence[str] = (), batch: str | None = None,
           everything: bool = False) -> Exported:
    """Write what people judged; `out` is whole or absent, and its suffix says in what form.

    to: one of FORMS. names: people by their names, not by pseudonyms. kinds: of these only. batch: items of this one only.
    everything: skips, and items that nobody judged, too.
    Raises: ConfigError on an unknown format, kind or suffix, or when `out` is there, or when TRL would need two files; ContentError when
        there is nothing to write.
    """
    if to not in FORMS:
        raise ConfigError(f"--to {to}: no such format{did_you_mean(to, FORMS)}", hint=f"one of: {', '.join(FORMS)}")
    if unknown := next((kind for kind in kinds if kind not in KINDS), None):
        raise ConfigError(f"--kind {unknown}: no kind of judgement that files hold{did_you_mean(unknown, KINDS)}",
                          hint=f"one of: {', '.join(KINDS)}")
    suffix = form_of(out, FORMS[to].files)
    done = Exported()
    key = None if names else store.write(key_of_store)
    _note(store, out, to, names)
    with store.read() as conn, atomic_path(out) as aside:
        if to == "trl":
            _one_type(conn, kinds or KINDS, batch)
        items = _items(conn, kinds or KINDS, batch, everything, key, done)
        WRITE_AS[suffix](aside, _written(items, FORMS[to], done))
        if not done.rows:
            raise done.nothing("nothing to export", _RAW_HINT if RAW in done.skipped else "look at: tutelage feedback stats")
    return done


def export_prompts(store: Store, out: Path, *, names: bool = False) -> Exported:
    """Write every prompt that may be used (`writing.prompt_rows`) as JSON lines. `skipped`: how many are held out, and so not there.

    Raises: ConfigError on another suffix, or when `out` is there; ContentError when there is no prompt.
    """
    suffix = form_of(out, FORMS["judgements"].files[:2])
    key = None if names else store.write(key_of_store)
    _note(store, out, "prompts", names)
    done = Exported()
    with store.read() as conn, atomic_path(out) as aside:
        rows = list(prompt_rows(conn, key, done.skipped))
        if not rows:
            raise done.nothing("there is no prompt that may be used", "have some written on the page Prompts of the studio, or import")
        WRITE_AS[suffix](aside, iter(rows))
    done.rows = len(rows)
    return done


def _note(store: Store, out: Path, to: str, names: bool) -> None:
    """Before a byte is written, so that an erasure names what was cut off, too."""
    store.write(lambda conn: record_audit(conn, action="feedback.export", now=store.now(), subject=out.name, path=str(out.resolve()),
                                          to=to, names=names))


def _one_type(conn: Connection, kinds: Sequence[str], batch: str | None) -> None:
    """TRL tells what a file is for by its columns, so one file holds one type."""
    query = select(tasks.c.kind).distinct().join(judgements).where(tasks.c.purpose.not_in(MEASURING))
    there = conn.execute(_limited(query, kinds, batch)).scalars()
    types = {_TRL[kind]: kind for kind in there if kind in _TRL}
    if len(types) > 1:
        raise ConfigError(f"there are {', '.join(sorted(types))} rows, and a file for TRL holds one type",
                          hint=f"say which, for example --kind {next(iter(types.values()))}")


def _limited(query: Select[Any], kinds: Sequence[str], batch: str | None) -> Select[Any]:
    query = query.where(tasks.c.kind.in_(kinds))
    return query if batch is None else query.where(tasks.c.batch == batch)


def _written(items: Iterator[list[Judgement]], form: Form, done: Exported) -> Iterator[dict[str, Any]]:
    for item in items:
        for group in [item] if len(item) == 1 else [item, *([one] for one in item)]:
            try:
                rows = form.rows(group)
            except ValueError as error:
                if len(group) == 1:
                    done.skipped[str(error)] += 1
                continue
            done.rows += len(rows)
            done.judgements += sum("open" not in one.extra and "skipped" not in one.extra for one in group)
            yield from rows
            if group is item:
                break                                               # else one by one: what a format can hold of them, it gets


def _items(conn: Connection, kinds: Sequence[str], batch: str | None, everything: bool, key: str | None, done: Exported
           ) -> Iterator[list[Judgement]]:
    """The judgements of each task, in the order they were given; after them its skips, where everything is wanted."""
    query = _limited(select(tasks, prompts.c.content, prompts.c.consent, prompts.c.user, prompts.c.language)
                     .join(prompts, tasks.c.prompt_id == prompts.c.id), kinds, batch).order_by(tasks.c.id)
    last = 0
    while page := conn.execute(query.where(tasks.c.id > last).limit(_TASKS_AT_ONCE)).all():
        last = page[-1].id
        answers = {row.id: row for row in select_in(conn, responses.c.id, (i for task in page for i in task.response_ids), *responses.c)}
        said, skips = _judgements_of(conn, [task.id for task in page]), _skips_of(conn, [task.id for task in page] if everything else [])
        for task in page:
            found = _item(task, [answers[i] for i in task.response_ids], said[task.id], skips[task.id], everything, key, done)
            if found:
                yield found


def _judgements_of(conn: Connection, ids: Sequence[int]) -> Mapping[int, list[Row[*tuple[Any, ...]]]]:
    query = (select(judgements, labelers.c.name, labelers.c.group, labelers.c.erased_at, retractions.c.id.label("retraction"))
             .join(labelers, judgements.c.labeler_id == labelers.c.id)
             .outerjoin(retractions, retractions.c.judgement_id == judgements.c.id)
             .where(judgements.c.task_id.in_(ids)).order_by(judgements.c.id))
    found = defaultdict(list)
    for row in conn.execute(query):
        found[row.task_id].append(row)
    return found


def _skips_of(conn: Connection, ids: Sequence[int]) -> Mapping[int, list[Row[*tuple[Any, ...]]]]:
    query = (select(assignments, labelers.c.name, labelers.c.group, labelers.c.erased_at)
             .join(labelers, assignments.c.labeler_id == labelers.c.id)
             .where(assignments.c.task_id.in_(ids), assignments.c.state == "skipped").order_by(assignments.c.id))
    found = defaultdict(list)
    for row in conn.execute(query):
        found[row.task_id].append(row)
    return found


def _item(task: Row[*tuple[Any, ...]], answers: Sequence[Row[*tuple[Any, ...]]], said: Sequence[Row[*tuple[Any, ...]]],
          skips: Sequence[Row[*tuple[Any, ...]]], everything: bool, key: str | None, done: Exported) -> list[Judgement]:
    """What may leave of one task."""
    untold = "untold" in task.extra
    if task.purpose in MEASURING:
        done.skipped.update(["practice or screening"] * len(said))
        return []
    if not task.consent:
        done.skipped["prompts without consent"] += len(said)
        return []
    if task.content is None or any(answer.text is None and not untold for answer in answers):
        done.skipped["erased"] += len(said)
        return []
    told = {name: task.extra[name] for name in OF_TASK if name in task.extra}
    told |= {name: value for name, value in (("batch", task.batch), ("user", task.user and pseudonym(task.user, key))) if value}
    told |= {} if task.language == "en" else {"language": task.language}
    shown = [Response(row.text or "", row.model, row.sampling, None if row.logprobs is None else tuple(row.logprobs)) for row in answers]
    kind, prompt = cast(JudgementKind, task.kind), prompt_from_json(task.content)
    gold = None if task.expected is None else {name: value for name, value in task.expected.items() if name != "reasons"}
    item = []
    for row in said:
        if row.value is None or row.erased_at is not None or row.retraction is not None:
            done.skipped["erased" if row.retraction is None else "retracted"] += 1
            continue
        marked = told | ({"gold": True} if row.value == gold else {}) | ({"sides": row.sides} if row.sides else {})
        item.append(judgement_of(kind, prompt, shown, row.value, at=row.created_at, extra=marked, labeler=pseudonym(row.name, key),
                                 group=row.group, weight=row.weight, p_select=row.p_select, seconds=row.seconds))
    for row in skips:
        item.append(Judgement(prompt, tuple(shown), kind, labeler=pseudonym(row.name, key), group=row.group,
                              at=utc_time(row.ended_at or row.claimed_at).isoformat(), extra={**told, "skipped": True}))
    if everything and not item and task.state == "open":
        item.append(Judgement(prompt, tuple(shown), kind, p_select=task.p_select, extra={**told, "open": True}))
    return item
