"""What a row says, whatever its layout; what it takes for another layout to say the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from tutelage.base.records import Demonstration, Judgement, Message, Prompt, prompt_to_json
from tutelage.text.layouts import PAIR_NUMBERS, Goal, Rules, to_demonstration, to_document, to_judgement, to_prompt, to_text
from tutelage.text.values import Row

Kind = Literal["text", "conversation", "prompt", "demonstration", "judgement"]
_KINDS: dict[str, Kind] = {"text": "text", "messages": "conversation", "prompt": "prompt", "prompt-completion": "demonstration"}
_METADATA = ("labeler", "group", "seconds", "at")
"""What a layout may leave behind and still hold the judgement; told when it does."""
_WEIGHED = ("strength", "weight", "p_select")
"""What training may use: never left behind."""
RAW = "the prompt is raw text to continue, not a conversation"
"""Why many a format cannot hold something."""


@dataclass(frozen=True)
class Content:
    """One thing said: a text, a conversation, a prompt, a demonstration or a judgement."""

    kind: Kind
    value: Any


def to_content(row: Row, layout: str, rules: Rules, goal: Goal | None = None) -> Content:
    """All that a row of a core layout says, or what it says for one goal. Raises: ValueError with the reason."""
    kind = _KINDS.get(layout, "judgement")
    if goal == "prompts" or (goal is None and kind == "prompt"):
        return Content("prompt", to_prompt(row, layout, rules))
    if goal == "demonstrations" or (goal is None and kind == "demonstration"):
        return Content("demonstration", to_demonstration(row, layout, rules))
    if goal == "judgements" or (goal is None and kind == "judgement"):
        return Content("judgement", to_judgement(row, layout, rules))
    if kind == "conversation":
        return Content("conversation", to_document(row, layout, rules))
    return Content("text", to_text(row, layout, rules))


def conversation_of(content: Content) -> tuple[Message, ...]:
    """The messages of a conversation, or of a demonstration that is one. Raises: ValueError for anything else."""
    if content.kind == "conversation":
        return cast("tuple[Message, ...]", content.value)
    if content.kind == "demonstration":
        example: Demonstration = content.value
        if isinstance(example.prompt, str):
            raise ValueError(RAW)
        answer = (Message("assistant", example.response),) if isinstance(example.response, str) else example.response
        return (*example.prompt, *answer)
    raise ValueError(f"a {content.kind} is not a conversation with an answer")


def demonstration_of(content: Content) -> tuple[Prompt, str]:
    """Prompt and answer of a demonstration, or of a conversation that ends with the assistant. Raises: ValueError."""
    if content.kind == "demonstration" and isinstance(content.value.response, str):
        return content.value.prompt, content.value.response
    messages = conversation_of(content)
    if messages[-1].role != "assistant" or len(messages) < 2:
        raise ValueError("the conversation does not end with an answer")
    return messages[:-1], messages[-1].content


def judgement_of(content: Content, *kinds: str) -> Judgement:
    """The judgement, if it is of one of these kinds. Raises: ValueError."""
    if content.kind != "judgement":
        raise ValueError(f"a {content.kind} judges nothing")
    if content.value.kind not in kinds:
        raise ValueError(f"a judgement of the kind {content.value.kind}, not {' or '.join(kinds)}")
    return cast(Judgement, content.value)


def pairs_of(content: Content) -> list[tuple[Prompt, str, str, dict[str, Any]]]:
    """(prompt, chosen, rejected, columns about it) of every pair a comparison or ranking implies. Raises: ValueError when it has ties."""
    judgement = judgement_of(content, "comparison", "ranking")
    pairs = judgement.comparisons(ties="half")
    if any(pair.target == 0.5 for pair in pairs):
        raise ValueError("answers are tied, which a chosen and a rejected one cannot say")
    about = columns_about(judgement)
    if "target" in about:
        about["target"] = _target(judgement)                        # chosen comes first now
    return [(judgement.prompt, pair.chosen, pair.rejected, about) for pair in pairs]


def columns_about(judgement: Judgement) -> dict[str, Any]:
    """The optional columns of a judgement that say more than their defaults."""
    values = {name: getattr(judgement, name) for name in (*_METADATA, *_WEIGHED)}
    usual = {name: None for name in values} | {"weight": 1.0, "p_select": 1.0}
    extra = {name: judgement.extra[name] for name in PAIR_NUMBERS if name in judgement.extra}
    return {name: value for name, value in values.items() if value != usual[name]} | extra


def turns_of(prompt: Prompt) -> tuple[str, Sequence[Message]]:
    """(system text, the other turns) of a conversation. Raises: ValueError for raw text."""
    if isinstance(prompt, str):
        raise ValueError(RAW)
    system = prompt[0].content if prompt and prompt[0].role == "system" else ""
    turns = prompt[1:] if system else prompt
    if any(m.role == "system" for m in turns) or not turns:
        raise ValueError("it has a system turn that is not its first, or nothing else")
    return system, turns


def plain_prompt(prompt: Prompt) -> Any:
    """A lone question as text, a conversation as messages. Raises: ValueError for raw text."""
    system, turns = turns_of(prompt)
    return prompt_to_json(prompt) if system or len(turns) != 1 or turns[0].role != "user" else turns[0].content


def joined(prompt: Prompt, answer: str) -> Any:
    """Prompt and answer as one text, or one list of messages."""
    return prompt + answer if isinstance(prompt, str) else [*prompt_to_json(prompt), {"role": "assistant", "content": answer}]


def what_is_lost(content: Content, back: Sequence[Content]) -> str | None:
    """Why what was read back from another layout does not say what was written, metadata aside; None if it does."""
    if content.kind != "judgement":
        return None if len(back) == 1 and _said(content) == _said(back[0]) else "its texts would not come back as they are"
    read = [c.value for c in back if c.kind == "judgement"]
    if _judged([content.value]) == _judged(read):
        return None
    numbers = set(columns_about(content.value)) - set(_METADATA)
    gone = sorted(numbers - set().union(*(columns_about(judgement) for judgement in read)))
    return f"it has no place for {', '.join(gone)}" if gone else "its texts or verdict would not come back as they are"


def left_behind(content: Content, back: Sequence[Content]) -> set[str]:
    """Names of the metadata that a judgement had and that did not come back."""
    if content.kind != "judgement":
        return set()
    return _metadata([content.value]) - _metadata([c.value for c in back])


def _said(content: Content) -> Any:
    if content.kind == "demonstration" and isinstance(content.value.prompt, str):
        return content.value
    return conversation_of(content) if content.kind in ("conversation", "demonstration") else (content.kind, content.value)


def _judged(judgements: Iterable[Judgement]) -> Counter[Any]:
    """Every pair, label, rating, critique and edit said, each with what weighs it."""
    found: Counter[Any] = Counter()
    for judgement in judgements:
        weighed = tuple(getattr(judgement, name) for name in _WEIGHED)
        target = _target(judgement)
        for pair in judgement.comparisons(ties="half"):
            sides = (pair.chosen, pair.rejected) if pair.target != 0.5 else tuple(sorted((pair.chosen, pair.rejected)))
            found[(judgement.prompt, sides, pair.target, pair.margin, target, weighed)] += 1
        if judgement.ranks is None:
            texts = tuple(r.text for r in judgement.responses)
            said = (judgement.label, judgement.rating, judgement.critique, judgement.edit)
            found[(judgement.prompt, texts, judgement.kind, said, weighed)] += 1
    return found


def _metadata(judgements: Iterable[Judgement]) -> set[str]:
    found = set[str]()
    for judgement in judgements:
        found |= {name for name in _METADATA if getattr(judgement, name) is not None} | (set(judgement.extra) - set(PAIR_NUMBERS))
        found |= {f"responses.{name}" for name in ("model", "sampling", "logprobs")
                  if any(getattr(response, name) is not None for response in judgement.responses)}
    return found


def _target(judgement: Judgement) -> float | None:
    """P(the preferred answer is the better one), where a row says how sure people were."""
    target, ranks = judgement.extra.get("target"), judgement.ranks
    return target if target is None or ranks is None or ranks[0] <= ranks[1] else round(1 - float(target), 12)
