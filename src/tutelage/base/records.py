"""The records every room shares: messages, completions, examples and judgements.

A prompt is a tuple of messages (a conversation) or a string (raw text, continued as it stands).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length"]
JudgementKind = Literal["comparison", "ranking", "label", "rating", "critique", "edit", "demonstration"]
SAYS: dict[str, str] = {"comparison": "ranks", "ranking": "ranks", "label": "label", "rating": "rating", "critique": "critique",
                        "edit": "edit"}
"""The field without which a judgement of a kind says nothing."""
MOST_PEOPLE = 1000
"""Of whom one item may be wanted (`overlap`): by the command, on the page and through the API alike."""
_NUMBERS, _NAMES, _TEXTS = ("rating", "strength", "weight", "p_select", "seconds"), ("labeler", "group"), ("kind", "critique", "edit")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. `trained=False` keeps an assistant turn out of the loss."""

    role: Role
    content: str
    trained: bool = True


Prompt = str | tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Completion:
    """What an engine returns for one prompt: response token ids (EOS included when it stopped) and their log-probs."""

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: FinishReason
    weight_version: int = 0


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A prompt and the response to imitate; a tuple of messages when the response has several turns."""

    prompt: Prompt
    response: str | tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two answers to one prompt, down-converted from any judgement.

    target: P(chosen is preferred), 1.0 for a plain choice, 0.5 for a tie. margin: how much better, in score units.
    """

    prompt: Prompt
    chosen: str
    rejected: str
    target: float = 1.0
    margin: float = 0.0
    weight: float = 1.0
    labeler: str | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """One candidate answer and where it came from."""

    text: str
    model: str | None = None
    sampling: Mapping[str, Any] | None = None
    logprobs: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one labeler said about one or more answers to a prompt. One shape, simulated or human, file or store.

    A demonstration is the labeler's own answer, which stands in `responses`.

    ranks: one int per response, 0 is best, equal is a tie. label: yes/no on a single answer. rating: a number on a scale.
    strength: how sure, 1 (barely) to 4 (much better). p_select: probability with which the item was chosen for judging.
    seconds: time spent. at: ISO 8601 time.
    """

    prompt: Prompt
    responses: tuple[Response, ...]
    kind: JudgementKind
    ranks: tuple[int, ...] | None = None
    label: bool | None = None
    rating: float | None = None
    critique: str | None = None
    edit: str | None = None
    strength: float | None = None
    labeler: str | None = None
    group: str | None = None
    weight: float = 1.0
    p_select: float = 1.0
    seconds: float | None = None
    at: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.ranks is not None and len(self.ranks) != len(self.responses):
            raise ValueError(f"{len(self.ranks)} ranks for {len(self.responses)} responses")
        if not self.responses and self.kind != "demonstration":
            raise ValueError("a judgement needs at least one response")
        if self.weight < 0:
            raise ValueError(f"weight is {self.weight!r}, below 0")

    def comparisons(self, *, ties: Literal["drop", "half"] = "drop") -> list[Comparison]:
        """Every pair this judgement implies; a tie is dropped or becomes a target of 0.5."""
        if self.ranks is None:
            return []
        pairs = []
        for i, j in combinations(range(len(self.responses)), 2):
            best, worst = (i, j) if self.ranks[i] <= self.ranks[j] else (j, i)
            tied = self.ranks[i] == self.ranks[j]
            if tied and ties == "drop":
                continue
            pairs.append(Comparison(self.prompt, self.responses[best].text, self.responses[worst].text,
                                    target=0.5 if tied else 1.0, margin=0.0 if tied else float(self.extra.get("margin", 0.0)),
                                    weight=self.weight, labeler=self.labeler))
        return pairs

    def to_json(self) -> dict[str, Any]:
        """The published JSONL layout; absent fields are left out."""
        row: dict[str, Any] = {"prompt": prompt_to_json(self.prompt), "responses": [_response_to_json(r) for r in self.responses],
                               "kind": self.kind}
        for name in ("ranks", "label", "rating", "critique", "edit", "strength", "labeler", "group", "weight", "p_select", "seconds", "at"):
            value = getattr(self, name)
            if value is not None:
                row[name] = list(value) if isinstance(value, tuple) else value
        return row | dict(self.extra)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Judgement:
        """Read the published layout. Raises ValueError that names the field at fault."""
        known = {f for f in cls.__dataclass_fields__ if f not in ("prompt", "responses", "ranks", "extra")}
        if "prompt" not in row or (not row.get("responses") and row.get("kind") != "demonstration"):
            raise ValueError("a judgement row needs 'prompt' and a non-empty 'responses'")
        if not isinstance(row.get("responses") or [], list | tuple):
            raise ValueError(f"responses is {in_words(row['responses'])}, not a list")
        ranks = row.get("ranks")
        extra = {k: v for k, v in row.items() if k not in cls.__dataclass_fields__ and v is not None}
        for name in ("margin", "target"):
            if name in extra and not _is_number(extra[name]):
                raise ValueError(f"{name} is {in_words(extra[name])}, not a finite number")
        if not 0 <= extra.get("target", 0) <= 1:
            raise ValueError(f"target is {extra['target']!r}, not a probability")
        return cls(prompt=prompt_from_json(row["prompt"]), responses=tuple(_response_from_json(r) for r in row.get("responses") or ()),
                   ranks=None if ranks is None else _ranks_from_json(ranks),
                   kind=_field_from_json("kind", row["kind"]) if row.get("kind") else
                   ("ranking" if ranks is not None and len(ranks) > 2 else "comparison"),
                   extra=extra,
                   **{k: _field_from_json(k, row[k]) for k in known if row.get(k) is not None and k != "kind"})


def name_from_json(value: Any, field: str) -> str:
    """A name is text, or the number that stands for one: 7 is "7". Raises: ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{field} is {in_words(value)}, not a name (text or a number)")
    return str(value)


def in_words(value: Any) -> str:
    """A value of JSON in people's words, the value itself where it is short: reasons count rows, and long ones would be one each."""
    if value is None:
        return "missing"
    if isinstance(value, str | int | float):
        shown = json.dumps(value, ensure_ascii=False)
        return shown if len(shown) <= 20 else "text" if isinstance(value, str) else shown[:20] + "…"
    return "an object" if isinstance(value, Mapping) else "a list" if isinstance(value, list | tuple) else f"a {type(value).__name__}"


def _field_from_json(name: str, value: Any) -> Any:
    """One field of a judgement as the record holds it. Raises: ValueError that says what was found and what is wanted."""
    if name in _NAMES:
        return name_from_json(value, name)
    if name in _NUMBERS and not _is_number(value):
        raise ValueError(f"{name} is {in_words(value)}, not a finite number")
    if name in _TEXTS and not isinstance(value, str):
        raise ValueError(f"{name} is {in_words(value)}, not text")
    return value


def messages_from_json(rows: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    """[{role, content, trained?}] -> messages. Raises ValueError on an unknown role or a content that is not text."""
    if not isinstance(rows, list | tuple):
        raise ValueError(f"messages are {in_words(rows)}, not a list")
    messages = []
    for row in rows:
        if not isinstance(row, Mapping):
            raise ValueError(f"a message is {in_words(row)}, not an object with role and content")
        role, content = row.get("role"), row.get("content")
        if role not in ("system", "user", "assistant", "tool"):
            raise ValueError(f"role is {role!r}, not one of system, user, assistant, tool")
        if not isinstance(content, str):
            raise ValueError(f"content of a {role} message is {in_words(content)}, not text")
        trained = row.get("trained")                                # null where a table's other messages have the field
        messages.append(Message(role, content, trained is None or bool(trained)))
    return tuple(messages)


def prompt_from_json(value: Any) -> Prompt:
    """A string stays raw text; a list of messages becomes a conversation."""
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return messages_from_json(value)
    raise ValueError(f"prompt is {in_words(value)}, not text or a list of messages")


def prompt_to_json(prompt: Prompt) -> str | list[dict[str, Any]]:
    if isinstance(prompt, str):
        return prompt
    return [{"role": m.role, "content": m.content} | ({} if m.trained else {"trained": False}) for m in prompt]


def prompt_text(prompt: Prompt) -> str:
    """Plain text of a prompt, for people, keys and baselines; never for a model."""
    return prompt if isinstance(prompt, str) else "\n".join(f"{m.role}: {m.content}" for m in prompt)


def _response_to_json(response: Response) -> dict[str, Any]:
    row: dict[str, Any] = {"text": response.text}
    if response.model is not None:
        row["model"] = response.model
    if response.sampling is not None:
        row["sampling"] = dict(response.sampling)
    if response.logprobs is not None:
        row["logprobs"] = list(response.logprobs)
    return row


def _ranks_from_json(value: Any) -> tuple[int, ...]:
    """Whole numbers from 0, also where a table wrote them as 1.0; rounding anything else would make ties nobody gave."""
    if not isinstance(value, list | tuple) or not all(_is_rank(rank) for rank in value):
        raise ValueError(f"ranks are {value!r}, not a list of whole numbers from 0 (best)")
    return tuple(int(rank) for rank in value)


def _is_rank(value: Any) -> bool:
    return _is_number(value) and 0 <= value < 2**31 and value == int(value)


def _response_from_json(row: Any) -> Response:
    if isinstance(row, str):
        return Response(row)
    if not isinstance(row, Mapping):
        raise ValueError(f"a response is {in_words(row)}, not text or an object")
    if "messages" in row and "text" not in row:
        messages = messages_from_json(row["messages"])
        text = "\n".join(m.content for m in messages if m.role == "assistant")
    elif isinstance(row.get("text"), str):
        text = row["text"]
    else:
        raise ValueError("a response needs 'text' or 'messages'")
    model, sampling, logprobs = (row.get(name) for name in ("model", "sampling", "logprobs"))
    if sampling is not None and not isinstance(sampling, Mapping):
        raise ValueError(f"sampling of a response is {in_words(sampling)}, not an object")
    if logprobs is not None and not (isinstance(logprobs, list | tuple) and all(_is_number(one) for one in logprobs)):
        raise ValueError("logprobs of a response are not a list of numbers")
    return Response(text, None if model is None else name_from_json(model, "model"), sampling,
                    None if logprobs is None else tuple(logprobs))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
