"""Files of people's feedback, as a store of it wants them: each judgement with who, when and on which item; skips; items to be judged.

Every layout is read by the same code that training reads it by; this asks that code for all it knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, cast

from tutelage.base.errors import DataError
from tutelage.base.records import SAYS, Judgement, JudgementKind, Prompt, Response, in_words, name_from_json
from tutelage.base.times import from_iso
from tutelage.text.detect import LAYOUTS
from tutelage.text.layouts import BESIDE, CORE, Rules, about_judgement, judgement_of, prompt_of, sound, to_demonstration, to_judgement
from tutelage.text.lines import Rejected, read_lines, reason_of
from tutelage.text.readers import Files, ReadOptions, expand_files, open_rows, rules_of
from tutelage.text.values import Row, answer_of, list_of, number_of, object_of, ranks_of, text_of, verdict_of, yes_or_no
from tutelage.text.votes import credit_of_first, is_both_bad

TaskKind = Literal["comparison", "ranking", "rating", "label", "critique", "edit", "demonstration"]
_ONLY_HERE = ("vote", "verdict")
"""Layouts that hold judgements which no training takes."""
_VERDICTS = frozenset({"winner", "label", "rating"})
_ANSWER = re.compile(r"(?:response|answer|output|completion)(_?(?:[a-z]|[0-9]{1,2}))?")
"""Columns that hold an answer each: response_a and response_b, answer1 and answer2, output; `model` of the same ending is its model."""
MOST_COMPARED = 16
"""Answers of one row of which every two may become a comparison: 120 of them."""
Item = tuple[Path, int, int, Judgement | Rejected]
"""File, line, which of the line's judgements, and it."""


def read_feedback(files: Files, *, to_judge: TaskKind | None = None, **options: Any) -> Iterator[Item]:
    """What the files hold, one judgement at a time. Options are those of every reader (tutelage.text.readers.ReadOptions).

    A judgement whose `extra` says `skipped` or `open` has no verdict: its labeler passed over the item, or nobody judged it yet.
    to_judge: make open items of this kind of every prompt, or of the answers to it; what the file says of them is not read.
    prompt_style="chat", where it is given, holds for our own judgements too.
    Raises: DataError when a file cannot be read or its layout not be told; ConfigError for an unknown layout or column.
    """
    for path in expand_files(files):
        yield from open_feedback(path, to_judge=to_judge, **options)[1]


def open_feedback(path: Path, *, to_judge: TaskKind | None = None, **options: Any) -> tuple[str, Iterator[Item]]:
    """(layout, items) of one file, as read_feedback; most errors come at once, those of a line when it is reached."""
    given = cast(ReadOptions, options)
    rules = replace(rules_of(given), blank=True)
    if given.get("prompt_style") == "chat":                         # asked for, not only usual
        rules = replace(rules, own_rows=False)
    found = open_rows(path, None, given, rules)
    if found is None:
        next(read_lines(path))                                      # says so if it is no text at all
        raise DataError(f"{path} is plain text, which holds no feedback", hint="give JSON lines or a table")
    layout, rows = found
    if to_judge is None and layout in LAYOUTS and layout not in _ONLY_HERE and LAYOUTS[layout].goals in (("prompts",), ("texts",)):
        raise DataError(f"{path} has the layout {layout}, in which nothing is judged",
                        hint="map the columns that say who judged what, or have its prompts or answers judged: --as")
    return layout, _numbered(path, rows, layout, rules, to_judge)


def _numbered(path: Path, rows: Iterator[tuple[int, Row | Rejected]], layout: str, rules: Rules, to_judge: TaskKind | None
              ) -> Iterator[Item]:
    line, part = 0, 0
    for number, row in rows:
        line, part = number, 0 if number != line else part
        items = [row] if isinstance(row, Rejected) else _items(path, number, row, layout, rules, to_judge)
        for item in items:
            yield path, number, part, item
            part += 1


def _items(path: Path, number: int, row: Row, layout: str, rules: Rules, to_judge: TaskKind | None) -> list[Judgement | Rejected]:
    row = {name: value for name, value in row.items() if value is not None}
    try:
        missing = LAYOUTS[layout].columns - row.keys() if layout != "oasst-messages" else frozenset()
        if to_judge is not None and layout in CORE and missing and missing <= _VERDICTS:
            layout, missing = "prompt", frozenset()                 # in this row nothing was judged yet
        if missing:
            raise ValueError(f"no field {', '.join(sorted(missing))}")
        foreign = LAYOUTS[layout].rows
        cores = [(layout, row)] if foreign is None else list(foreign(row, "feedback"))
        judged = [_checked(to_feedback(core, name, rules)) for name, core in cores]
        if to_judge is not None:
            judged = [replace(judged[0], responses=_answers_beside(row))] if layout == "prompt" else judged
            return [*_to_judge(judged, to_judge)]
        if any(one.kind == "demonstration" and not {"open", "skipped"} & one.extra.keys() and one.labeler is None for one in judged):
            raise ValueError("an answer that nobody is said to have written or judged")
        return [*judged] or [Rejected(path, number, "nothing in it was judged")]
    except (ValueError, TypeError, RecursionError) as error:
        return [Rejected(path, number, reason_of(error))]


def to_feedback(row: Row, layout: str, rules: Rules) -> Judgement:
    """What a row of a core layout says, verdict or none. Raises: ValueError with the reason."""
    beside = {name: row[name] for name in BESIDE if name in row}
    if layout == "judgement":
        judgement = judgement_of({name: value for name, value in row.items() if name != "verdict"}, rules)
        if "verdict" in row:
            judgement = replace(judgement, extra={**judgement.extra, "verdict": row["verdict"]})
        return judgement if "kind" in row else _open_if_unsaid(judgement)
    if layout in ("vote", "verdict"):
        judgement = _without_answers(row, layout, rules)
    elif layout == "prompt":
        judgement = _bare(prompt_of(row["prompt"], rules), (), "demonstration", {"open": True})
    elif layout in ("prompt-completion", "messages"):
        made = to_demonstration(row, layout, rules)
        if not isinstance(made.response, str):
            raise ValueError("the response has several turns")
        judgement = _bare(made.prompt, (Response(made.response, _model(row, "model")),), "demonstration", {}, **about_judgement(row))
    elif layout == "text":
        raise ValueError("a text, in which nothing is judged")
    else:
        judgement = _with_models(to_judgement(row, layout, rules), row)
    if "winner" in row:                                             # its words tell the answers by their place
        beside |= {"sides": [0, 1]} | ({"both_bad": True} if is_both_bad(row["winner"]) else {})
    return replace(judgement, extra={**judgement.extra, **beside})


def _without_answers(row: Row, layout: str, rules: Rules) -> Judgement:
    """A vote between two models, or a verdict, whose answers may not be told; `untold` says that they are not."""
    prompt = prompt_of(row["prompt"], rules)
    if layout == "vote":
        names = (name_from_json(row["model_a"], "model_a"), name_from_json(row["model_b"], "model_b"))
        credit = credit_of_first(row["winner"], names)
        return _bare(prompt, tuple(Response("", name) for name in names), "comparison", {"untold": True}, **about_judgement(row),
                     ranks=(int(credit < 0.5), int(credit > 0.5)))
    text = answer_of(row["completion"], "completion", blank=True) if "completion" in row else ""
    answer = Response(text, _model(row, "model"))
    told = {} if "completion" in row else {"untold": True}
    return _bare(prompt, (answer,), "label", {"verdict": row["verdict"], **told}, **about_judgement(row))


def _bare(prompt: Prompt, responses: tuple[Response, ...], kind: JudgementKind, extra: Mapping[str, Any], **about: Any) -> Judgement:
    return Judgement(prompt, responses, kind, extra=extra, **about)


def _with_models(judgement: Judgement, row: Row) -> Judgement:
    columns = ("model_a", "model_b") if len(judgement.responses) == 2 else ("model",)
    names = [_model(row, name) for name in columns]
    if len(names) != len(judgement.responses) or not any(names):
        return judgement
    return replace(judgement, responses=tuple(r if name is None else replace(r, model=name)
                                              for r, name in zip(judgement.responses, names, strict=True)))


def _model(row: Row, column: str) -> str | None:
    return None if row.get(column) is None else name_from_json(row[column], column)


def _open_if_unsaid(judgement: Judgement) -> Judgement:
    """Answers without a word about them are there to be judged, as `tutelage sample` writes them."""
    if judgement.kind == "demonstration" or judgement.extra.get("skipped") or judgement.extra.get("open") or "verdict" in judgement.extra:
        return judgement
    if any(getattr(judgement, name) is not None for name in SAYS.values()):
        return judgement
    kind: JudgementKind = "rating" if len(judgement.responses) == 1 else "comparison" if len(judgement.responses) == 2 else "ranking"
    return replace(judgement, kind=kind, extra={**judgement.extra, "open": True})


def _answers_beside(row: Row) -> tuple[Response, ...]:
    """The answers that stand beside a prompt in columns of their own, in the columns' order."""
    found = [(name, match[1] or "") for name in row if (match := _ANSWER.fullmatch(name))]
    return tuple(Response(answer_of(row[name], name, blank=True), text_of(row[f"model{end}"], "model") if f"model{end}" in row else None)
                 for name, end in found)


def _to_judge(judged: list[Judgement], kind: TaskKind) -> Iterator[Judgement]:
    """Open items of one kind: of several answers a comparison takes every two, a rating or label each. Raises: ValueError."""
    for one in judged:
        answers = one.responses
        if kind == "demonstration":
            groups: list[tuple[Response, ...]] = [()]
        elif kind == "comparison":
            if len(answers) > MOST_COMPARED:
                raise ValueError(f"{len(answers)} answers, and of more than {MOST_COMPARED} not every two are compared")
            groups = list(combinations(answers, 2))
        else:
            groups = [answers] if kind == "ranking" else [(answer,) for answer in answers]
        if not groups or (kind == "ranking" and len(answers) < 2):
            raise ValueError(f"{len(answers)} answers, too few for a {kind}")
        kept = {name: one.extra[name] for name in ("item", "batch", "language", "user", "consent") if name in one.extra}
        yield from (_bare(one.prompt, group, kind, {"open": True, **kept}) for group in groups)


def _checked(judgement: Judgement) -> Judgement:
    """The judgement with everything a store will want of it in its usual form. Raises: ValueError."""
    sound(judgement)
    extra = dict(judgement.extra)
    if judgement.kind not in (*SAYS, "demonstration"):
        raise ValueError(f"kind is {judgement.kind!r}, not one of {', '.join(SAYS)} and demonstration")
    if "untold" in extra and any(r.text or not r.model for r in judgement.responses):
        raise ValueError("an answer that is neither told nor named by its model")
    for name in ("item", "batch", "comment", "language", "user", "annotation"):
        if name in extra:
            extra[name] = verdict_of(extra[name], name) if name != "comment" else text_of(extra[name], name)
    for name in ("skipped", "open", "gold", "both_bad", "all_bad"):
        if extra.pop(name, None) not in (None, False, 0, "false"):
            extra[name] = True
    if "consent" in extra:
        extra["consent"] = extra["consent"] in (True, "1") or yes_or_no([extra["consent"]]) is True
    label = judgement.label
    if "verdict" in extra:
        extra["verdict"] = verdict_of(extra["verdict"])
        label = yes_or_no([extra["verdict"]])
        if label is not None:
            del extra["verdict"]
    if judgement.at is not None:
        from_iso(judgement.at)
    sides = extra.get("sides") or list(range(len(judgement.responses)))
    if not isinstance(sides, list) or set(map(type, sides)) - {int} or sorted(sides) != list(range(len(judgement.responses))):
        raise ValueError(f"sides are {in_words(sides)}, not an order of the answers (a list of their numbers, from 0)")
    for name in ("flags", "ratings"):
        if name in extra:
            extra[name] = _by_answer(name, extra[name], judgement)
    if "labels" in extra:
        object_of(extra["labels"], "labels")
    judgement = replace(judgement, label=label, extra=extra, ranks=None if judgement.ranks is None else tuple(ranks_of(judgement.ranks)))
    unsaid = extra.get("skipped") or extra.get("open") or "verdict" in extra or judgement.kind == "demonstration"
    if not unsaid and getattr(judgement, SAYS[judgement.kind]) is None:
        raise ValueError(f"a {judgement.kind} without {SAYS[judgement.kind]}")
    return judgement


def _by_answer(name: str, value: Any, judgement: Judgement) -> list[Any]:
    """Names of flags, or a list of them or a rating for each of several answers."""
    several = judgement.kind in ("comparison", "ranking")
    if not isinstance(value, list) or (several and len(value) != len(judgement.responses)):
        raise ValueError(f"{name} is not a list" + (" with one entry for each answer" if several else " of names"))
    entries = value if name == "ratings" or not several else [one for names in value for one in list_of(names, name)]
    for one in entries:
        if name == "ratings" and one is not None:
            number_of(one, "one of the ratings")
        elif name == "flags" and not isinstance(one, str):
            raise ValueError(f"flags holds {in_words(one)}, not names only")
    return value
