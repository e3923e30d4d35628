"""The layouts whose rows we read ourselves, and what such a row says in our records. Those of other tools become these first."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any, Literal

from tutelage.base.records import SAYS, Demonstration, Judgement, Message, Prompt, Response, messages_from_json, name_from_json, prompt_text
from tutelage.text.spread import spread
from tutelage.text.tables import Cells
from tutelage.text.values import Row, answer_of, message_rows, number_of, text_of, transcript_of, writable
from tutelage.text.votes import credit_of_first, vote_share

Goal = Literal["texts", "prompts", "demonstrations", "judgements"]
Asked = Goal | Literal["feedback"]
"""What foreign rows are read for. `feedback`: all that people did with an item, skips and marks of gold included, for a store of it."""
DIALOGUE: tuple[Goal, ...] = ("demonstrations", "prompts", "texts")
PAIRS: tuple[Goal, ...] = ("judgements", "demonstrations", "prompts")
RATED: tuple[Goal, ...] = ("judgements", "prompts")
"""What a layout is read as, the fullest reading first. Rated answers are no demonstrations: people may have disliked them."""


@dataclass(frozen=True)
class Layout:
    """How the rows of a published layout are told, and what they can be read as.

    columns: what every row has. fits: what else it shows. rows: a foreign row as (core layout, row) pairs for a goal, ValueError with the
    reason if it is to be left out; None for the core layouts. unmistakable: what fits it is no other layout, whatever else it shows.
    """

    columns: frozenset[str]
    goals: tuple[Goal, ...]
    fits: Callable[[Row], bool] = lambda row: True
    rows: Callable[[Row, Asked], Iterable[tuple[str, Row]]] | None = None
    unmistakable: bool = False


def _is_transcript(row: Row) -> bool:
    return all(isinstance(row[side], str) and row[side].startswith("\n\nHuman:") for side in ("chosen", "rejected"))


_ANSWERED = {"chosen", "rejected", "responses", "response_a", "response_b", "label", "rating"}
CORE: dict[str, Layout] = {
    "text": Layout(frozenset({"text"}), ("texts",)),
    "messages": Layout(frozenset({"messages"}), DIALOGUE),
    "prompt": Layout(frozenset({"prompt"}), ("prompts",)),
    "prompt-completion": Layout(frozenset({"prompt", "completion"}), DIALOGUE),
    "preference": Layout(frozenset({"prompt", "chosen", "rejected"}), PAIRS),
    "preference-implicit": Layout(frozenset({"chosen", "rejected"}), PAIRS, lambda row: not _is_transcript(row)),
    "hh-rlhf": Layout(frozenset({"chosen", "rejected"}), PAIRS, _is_transcript),
    "choice": Layout(frozenset({"prompt", "response_a", "response_b", "winner"}), PAIRS),
    "unpaired": Layout(frozenset({"prompt", "completion", "label"}), RATED),
    "rating": Layout(frozenset({"prompt", "completion", "rating"}), RATED),
    "stepwise": Layout(frozenset({"prompt", "completions", "labels"}), RATED),
    "best-of": Layout(frozenset({"prompt", "responses", "best"}), RATED),
    "judgement": Layout(frozenset({"prompt", "responses"}), RATED),
    "vote": Layout(frozenset({"prompt", "model_a", "model_b", "winner"}), ("prompts",), lambda row: not row.keys() & _ANSWERED),
    "verdict": Layout(frozenset({"prompt", "verdict"}), ("prompts",), lambda row: not row.keys() & _ANSWERED, unmistakable=True),
}
"""TRL's names, hh-rlhf's transcripts, a choice between two or more, our own judgements; and what only a store of feedback can use: votes
between models whose answers are not told, and verdicts that are neither yes nor no."""

ABOUT = ("labeler", "group", "strength", "weight", "p_select", "seconds", "at")
"""Optional columns of every judgement, as fields of Judgement."""
PAIR_NUMBERS = ("margin", "target")
"""Optional columns of a pair: how much better in score units; P(chosen, or the first answer, is preferred), such as a share of votes."""
BESIDE = ("item", "batch", "comment", "language", "user", "annotation", "skipped", "open", "gold", "both_bad", "all_bad", "ratings",
          "flags", "sides", "consent")
"""Optional columns that a store of feedback keeps and training does not read."""
COLUMNS = frozenset().union(*(layout.columns for layout in CORE.values())) | {
    *ABOUT, *PAIR_NUMBERS, *BESIDE, "response", "votes", "ranks", "model", "model_a", "model_b"}
_NUMBERS = {"strength", "weight", "p_select", "seconds", "rating"}
_TRUTHS = {"label", "kto_tag", "both_bad", "all_bad", "skipped", "open", "gold"}
_TEXTS = {"critique", "edit", "comment", "labeler", "group", "item", "batch", "verdict", "model", "model_a", "model_b",
          "user", "customer", "scheme", "value"}
_LISTS = {"responses", "ranks", "votes", "completions", "labels", "ratings", "flags", "sides"}
_WORDED = {"winner", "label", "verdict"}


@dataclass(frozen=True)
class Rules:
    """How values are read. `columns`: our name -> dotted path. `mask_where`: assistant messages with these fields are not trained.
    `cut`: prompts keep what stands up to the first user turn. `where`: rows without these fields are passed over. `opening_words`: a
    text is parted into its first words, a raw prompt, and the rest, its completion. `verdicts`: of a verdict column, theirs -> ours.
    `blank`: an answer that was judged may be empty. `own_rows`: rows of the layout judgement are ours, so that a prompt in them that is
    a string is raw text, whatever `prompt_style` says."""

    columns: Mapping[str, str] | None = None
    prompt_style: Literal["chat", "raw"] = "chat"
    mask_where: Mapping[str, Any] | None = None
    cut: Literal["none", "first_turn"] = "none"
    where: Mapping[str, Any] | None = None
    opening_words: int | None = None
    verdicts: Mapping[str, str] = field(default_factory=dict)
    blank: bool = False
    own_rows: bool = True


def passes(row: Row, where: Mapping[str, Any]) -> bool:
    """Whether every field of `where` is there and equal; a cell of a table of text is compared as text."""
    as_text = isinstance(row, Cells)
    return all(name in row and (row[name].casefold() == str(value).casefold() if as_text else row[name] == value)
               for name, value in where.items())


def mapped(row: Row, columns: Mapping[str, str] | None) -> Row:
    """The row under our column names. Raises: ValueError when a path leads nowhere, or to several places."""
    if columns is None:
        return _typed_row(row) if isinstance(row, Cells) else row
    found = list(mapped_rows(row, Rules(columns)))
    if len(found) != 1:
        raise ValueError(f"{len(found)} values where one has a place")
    return found[0]


def mapped_rows(row: Row, rules: Rules) -> Iterator[Row]:
    """The row under our column names, or the several rows it holds (see spread.py). Raises: ValueError when a path leads nowhere."""
    if rules.columns is None:
        yield _typed_row(row) if isinstance(row, Cells) else row
        return
    columns = {"completion" if name == "response" else name: path for name, path in rules.columns.items()}
    for one in spread(row, columns):
        for name in rules.verdicts and _WORDED & one.keys() or ():
            one[name] = rules.verdicts.get(str(one[name]), one[name])
        yield _typed_row(one) if isinstance(row, Cells) else one


def _typed_row(row: Row) -> Row:
    return {name: _typed(name, value) if isinstance(value, str) else value for name, value in row.items()}


def parted(row: Row, opening_words: int) -> Row:
    """The row with its text's first words as `prompt` and the rest as `completion`. Raises: ValueError when there is no rest."""
    text = text_of(row.get("text"), "text")
    opening = re.match(rf"\s*\S+(?:\s+\S+){{{opening_words - 1}}}", text)
    if opening is None or not text[opening.end():].strip():
        raise ValueError(f"nothing stands after the first {opening_words} words")
    others = {name: value for name, value in row.items() if name != "text"}
    return others | {"prompt": text[:opening.end()], "completion": text[opening.end():]}


def _typed(name: str, value: str) -> Any:
    """A cell of a table of text as what its column means: a number, true or false, a list, or JSON if it holds messages."""
    try:
        if name in _NUMBERS or name in PAIR_NUMBERS:
            return float(value)
        if name in _TEXTS:
            return value
        if name in _TRUTHS or value.startswith(("[{", '{"role"', '{"from"')) or (name in _LISTS and value.startswith("[")):
            return json.loads(value.lower() if name in _TRUTHS else value)
    except (ValueError, RecursionError):
        pass                                                        # left as text, for the reader of that column to refuse
    return value


def to_prompt(row: Row, layout: str, rules: Rules) -> Prompt:
    """The prompt of a row, up to its first user turn if `rules.cut` says so. Raises: ValueError with the reason."""
    prompt = _whole_prompt(row, layout, rules)
    if rules.cut == "none" or isinstance(prompt, str):
        return prompt
    first = next((i for i, m in enumerate(prompt) if m.role == "user"), None)
    if first is None:
        raise ValueError("no user turn to cut the prompt after")
    return prompt[:first + 1]


def _whole_prompt(row: Row, layout: str, rules: Rules) -> Prompt:
    """The prompt of a row; of a whole conversation what precedes its last answer."""
    if layout == "messages":
        messages = _messages(row["messages"], rules)
        cut = _last(messages, lambda m: m.role == "assistant") if messages[-1].role == "assistant" else len(messages)
        if not cut:
            raise ValueError("the conversation has nothing before its answer")
        return messages[:cut]
    if CORE[layout].columns == CORE["hh-rlhf"].columns:
        return _sides(row, layout, rules)[0]
    return _judgement(row, rules).prompt if layout == "judgement" else prompt_of(row["prompt"], rules)


def to_text(row: Row, layout: str, rules: Rules) -> str:
    """One document to pretrain on; conversations become `role: content` lines. Raises: ValueError with the reason."""
    return prompt_text(to_document(row, layout, rules))


def to_document(row: Row, layout: str, rules: Rules) -> Prompt:
    """One document to pretrain on, a conversation as its messages. Raises: ValueError with the reason."""
    if layout == "text":
        return text_of(row["text"], "text")
    if layout == "messages":
        return _messages(row["messages"], rules)
    example = to_demonstration(row, layout, replace(rules, prompt_style="raw"))
    if isinstance(example.prompt, str):
        return example.prompt + str(example.response)
    answer = (Message("assistant", example.response),) if isinstance(example.response, str) else example.response
    return (*example.prompt, *answer)


def to_demonstration(row: Row, layout: str, rules: Rules) -> Demonstration:
    """A prompt and the response to imitate: the completion, the preferred side of a pair, or a conversation's last trained answer.

    Raises: ValueError with the reason.
    """
    if layout == "messages":
        messages = _messages(row["messages"], rules)
        cut = _last(messages, lambda m: m.role == "assistant" and m.trained)
        if not cut:
            raise ValueError("the conversation has nothing before its answer")
        return Demonstration(messages[:cut], messages[cut].content)
    if layout == "prompt-completion":
        prompt, response = prompt_of(row["prompt"], rules), row["completion"]
        if isinstance(response, str):
            return Demonstration(prompt, text_of(response, "completion"))
        turns = _messages(response, rules)
        if isinstance(prompt, str):
            raise ValueError("the completion is messages but the prompt is raw text")
        _last(turns, lambda m: m.role == "assistant" and m.trained)
        return Demonstration(prompt, turns[0].content if len(turns) == 1 else turns)
    prompt, chosen, _ = _sides(row, layout, rules)
    return Demonstration(prompt, chosen)


def to_judgement(row: Row, layout: str, rules: Rules) -> Judgement:
    """A pair becomes a comparison, a label or rating a judgement of one answer. Raises: ValueError with the reason."""
    if layout == "judgement":
        return _judgement(row, rules)
    about = about_judgement(row)
    if layout in ("unpaired", "rating", "stepwise"):
        return _of_one_answer(row, layout, rules, about)
    extra = {name: number_of(row[name], name) for name in PAIR_NUMBERS if row.get(name) is not None}
    if not 0 <= extra.get("target", 0) <= 1:
        raise ValueError(f"target is {extra['target']}, not between 0 and 1")
    if layout == "choice":
        return _choice(row, rules, about, extra)
    if layout == "best-of":
        return _best(row, rules, about)
    prompt, chosen, rejected = _sides(row, layout, rules)
    if chosen == rejected:
        raise ValueError("chosen and rejected are the same text")
    return Judgement(prompt, (Response(chosen), Response(rejected)), "comparison", ranks=(0, 1), extra=extra, **about)


def _of_one_answer(row: Row, layout: str, rules: Rules, about: dict[str, Any]) -> Judgement:
    prompt = prompt_of(row["prompt"], rules)
    if layout == "stepwise":
        steps, labels = row["completions"], row["labels"]
        if not isinstance(steps, list) or not isinstance(labels, list) or len(steps) != len(labels) or not steps:
            raise ValueError("completions and labels are not lists of one length")
        if any(label not in (0, 1) or isinstance(label, str) for label in labels):
            raise ValueError("labels are not all true or false")
        text = "\n".join(text_of(step, "a completion") for step in steps)       # as TRL joins them
        return Judgement(prompt, (Response(text),), "label", label=all(labels), **about,
                         extra={"steps": steps, "step_labels": [bool(label) for label in labels]})
    response = Response(answer_of(row["completion"], "completion", blank=rules.blank))
    if layout == "rating":
        return Judgement(prompt, (response,), "rating", rating=number_of(row["rating"], "rating"), **about)
    if row["label"] not in (0, 1) or isinstance(row["label"], str):
        raise ValueError(f"label is {row['label']!r}, not true, false, 0 or 1")
    return Judgement(prompt, (response,), "label", label=bool(row["label"]), **about)


def _choice(row: Row, rules: Rules, about: dict[str, Any], extra: dict[str, Any]) -> Judgement:
    """Both answers in the order they were shown; with votes, P(the first is preferred) is their share."""
    first, second = (answer_of(row[side], side, blank=rules.blank) for side in ("response_a", "response_b"))
    if first == second:
        raise ValueError("response_a and response_b are the same text")
    paths = {"response_a": "response_a", "response_b": "response_b"} | dict(rules.columns or {})
    names = (paths["response_a"].split(".")[-1], paths["response_b"].split(".")[-1])
    credit = credit_of_first(row["winner"], names)
    if row.get("votes") is not None:
        extra = extra | {"target": vote_share(row["votes"], names)}
    return Judgement(prompt_of(row["prompt"], rules), (Response(first), Response(second)), "comparison",
                     ranks=(int(credit < 0.5), int(credit > 0.5)), extra=extra, **about)


def _best(row: Row, rules: Rules, about: dict[str, Any]) -> Judgement:
    """One of several answers was picked, by its number from 0; the others are tied behind it."""
    answers, best = row["responses"], row["best"]
    if not isinstance(answers, list) or len(answers) < 2 or isinstance(best, bool) or best not in range(len(answers)):
        raise ValueError(f"best is {best!r}, not the number, from 0, of one of several responses")
    return Judgement(prompt_of(row["prompt"], rules), tuple(Response(answer_of(a, "a response", blank=rules.blank)) for a in answers),
                     "ranking" if len(answers) > 2 else "comparison", ranks=tuple(int(i != best) for i in range(len(answers))), **about)


def _sides(row: Row, layout: str, rules: Rules) -> tuple[Prompt, str, str]:
    """(prompt, chosen, rejected); an implicit prompt is what both sides begin with."""
    if layout == "choice":
        judgement = to_judgement(row, layout, rules)
        pairs = judgement.comparisons()
        if not pairs:
            raise ValueError("a tie, so no side is the better one")
        return judgement.prompt, pairs[0].chosen, pairs[0].rejected
    chosen, rejected = row["chosen"], row["rejected"]
    if layout == "preference":
        prompt = prompt_of(row["prompt"], rules)
        if not (isinstance(chosen, list) and isinstance(rejected, list) and len(chosen) > 1 < len(rejected)):
            return prompt, answer_of(chosen, "chosen"), answer_of(rejected, "rejected")
        whole, chosen_text, rejected_text = _sides_of_messages(_messages(chosen, rules), _messages(rejected, rules))
        if prompt not in (whole, whole[-1].content, whole[-1:]):             # UltraFeedback and others give the prompt twice
            raise ValueError("the chosen conversation does not begin with the prompt")
        return whole, chosen_text, rejected_text
    if layout == "hh-rlhf":
        return _sides_of_messages(transcript_of(text_of(chosen, "chosen")), transcript_of(text_of(rejected, "rejected")))
    if not isinstance(chosen, str) or not isinstance(rejected, str):
        return _sides_of_messages(_messages(chosen, rules), _messages(rejected, rules))
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(chosen, rejected, strict=False)))
    shared = len(chosen[:shared].rstrip()) if chosen[:shared][-1:].isspace() else max(chosen.rfind(" ", 0, shared), 0)
    return prompt_of(chosen[:shared], rules), text_of(chosen[shared:], "chosen"), text_of(rejected[shared:], "rejected")


def _sides_of_messages(chosen: tuple[Message, ...], rejected: tuple[Message, ...]) -> tuple[tuple[Message, ...], str, str]:
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(chosen, rejected, strict=False)))
    shared = min(shared, len(chosen) - 1, len(rejected) - 1)
    if not shared or len(chosen) - shared > 1 or len(rejected) - shared > 1:
        raise ValueError("chosen and rejected differ in more than the last turn")
    if chosen[-1].role != "assistant" or rejected[-1].role != "assistant":
        raise ValueError("the last turn is not the assistant's")
    return chosen[:shared], text_of(chosen[-1].content, "chosen"), text_of(rejected[-1].content, "rejected")


def prompt_of(value: Any, rules: Rules) -> Prompt:
    if not isinstance(value, str):
        return _messages(value, rules)
    raw = rules.prompt_style == "raw" or rules.opening_words is not None
    return text_of(value, "prompt") if raw else (Message("user", text_of(value, "prompt")),)


def _messages(value: Any, rules: Rules) -> tuple[Message, ...]:
    rows = message_rows(value)
    messages = messages_from_json(rows)
    if not messages:
        raise ValueError("an empty list of messages")
    for message in messages:
        writable(message.content, f"content of a {message.role} message")
    if not rules.mask_where:
        return messages
    hidden = [all(row.get(field) == wanted for field, wanted in rules.mask_where.items()) for row in rows]
    return tuple(replace(m, trained=False) if hide and m.role == "assistant" else m for m, hide in zip(messages, hidden, strict=True))


def judgement_of(row: Row, rules: Rules) -> Judgement:
    """A row of the layout judgement, with or without a verdict. Raises: ValueError."""
    judgement = Judgement.from_json(row)
    if rules.own_rows or not isinstance(judgement.prompt, str):
        return judgement
    return replace(judgement, prompt=prompt_of(judgement.prompt, rules))


def _judgement(row: Row, rules: Rules) -> Judgement:
    judgement = sound(judgement_of(row, rules))
    if judgement.kind not in SAYS:
        raise ValueError(f"kind is {judgement.kind!r}, not one of {', '.join(SAYS)}")
    if getattr(judgement, SAYS[judgement.kind]) is None:
        raise ValueError(f"a {judgement.kind} without {SAYS[judgement.kind]}")
    return judgement


def sound(judgement: Judgement) -> Judgement:
    """The judgement, if its texts can be stored and its numbers are numbers. Raises: ValueError."""
    for text in (prompt_text(judgement.prompt), *(r.text for r in judgement.responses), judgement.critique, judgement.edit):
        if text is not None:
            writable(text, "a text")
    if judgement.label is not None and not isinstance(judgement.label, bool):
        raise ValueError(f"label is {judgement.label!r}, not true or false")
    for name in _NUMBERS:
        if getattr(judgement, name) is not None:
            number_of(getattr(judgement, name), name)
    return judgement


def about_judgement(row: Row) -> dict[str, Any]:
    """Fields of a Judgement that the optional columns hold. Raises: ValueError."""
    return {name: number_of(row[name], name) if name in _NUMBERS else name_from_json(row[name], name)
            for name in ABOUT if row.get(name) is not None}


def _last(messages: Sequence[Message], wanted: Any) -> int:
    found = [i for i, m in enumerate(messages) if wanted(m) and m.content.strip()]
    if not found:
        raise ValueError("no trained assistant turn")
    return found[-1]
