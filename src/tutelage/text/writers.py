"""Rows of each layout from what was said: the other direction of layouts.py and trainers.py.

The tools that collect judgements have theirs beside their reader, since they hold what several people made of one item.

A writer returns the rows that hold one content, or raises ValueError with the reason why the layout cannot hold it. That nothing else
was lost on the way is checked by the caller, who reads the rows back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tutelage.base.records import Judgement, Message, Prompt, Response, prompt_to_json
from tutelage.text.arena import battles_of
from tutelage.text.argilla import record_of
from tutelage.text.content import (
    Content,
    columns_about,
    conversation_of,
    demonstration_of,
    joined,
    judgement_of,
    pairs_of,
    turns_of,
)
from tutelage.text.label_studio import task_of
from tutelage.text.long import long_row_of
from tutelage.text.oasst import tree_of

Rows = list[dict[str, Any]]
Writer = Callable[[Content], Rows]


def _text(content: Content) -> Rows:
    if content.kind != "text":
        raise ValueError(f"a {content.kind} is more than plain text")
    return [{"text": content.value}]


def _messages(content: Content) -> Rows:
    return [{"messages": prompt_to_json(conversation_of(content))}]


def _prompt(content: Content) -> Rows:
    if content.kind != "prompt":
        raise ValueError(f"a {content.kind} is more than a prompt")
    return [{"prompt": prompt_to_json(content.value)}]


def _prompt_completion(content: Content) -> Rows:
    if content.kind == "demonstration" and not isinstance(content.value.response, str):
        return [{"prompt": prompt_to_json(content.value.prompt), "completion": prompt_to_json(content.value.response)}]
    prompt, response = demonstration_of(content)
    return [{"prompt": prompt_to_json(prompt), "completion": _answer(prompt, response)}]


def _preference(content: Content) -> Rows:
    return [{"prompt": prompt_to_json(prompt), "chosen": _answer(prompt, chosen), "rejected": _answer(prompt, rejected), **about}
            for prompt, chosen, rejected, about in pairs_of(content)]


def _preference_implicit(content: Content) -> Rows:
    return [{"chosen": joined(prompt, chosen), "rejected": joined(prompt, rejected), **about}
            for prompt, chosen, rejected, about in pairs_of(content)]


def _hh(content: Content) -> Rows:
    return [{"chosen": _transcript(prompt, chosen), "rejected": _transcript(prompt, rejected), **about}
            for prompt, chosen, rejected, about in pairs_of(content)]


def _choice(content: Content) -> Rows:
    judgement = judgement_of(content, "comparison")
    a, b = _two(judgement)
    assert judgement.ranks is not None
    winner = "tie" if judgement.ranks[0] == judgement.ranks[1] else "a" if judgement.ranks[0] < judgement.ranks[1] else "b"
    return [{"prompt": prompt_to_json(judgement.prompt), "response_a": a, "response_b": b, "winner": winner, **columns_about(judgement)}]


def _unpaired(content: Content) -> Rows:
    judgement = judgement_of(content, "label")
    return [{"prompt": prompt_to_json(judgement.prompt), "completion": _answer(judgement.prompt, judgement.responses[0].text),
             "label": judgement.label, **columns_about(judgement)}]


def _rating(content: Content) -> Rows:
    judgement = judgement_of(content, "rating")
    return [{"prompt": prompt_to_json(judgement.prompt), "completion": _answer(judgement.prompt, judgement.responses[0].text),
             "rating": judgement.rating, **columns_about(judgement)}]


def _stepwise(content: Content) -> Rows:
    judgement = judgement_of(content, "label")
    if "steps" not in judgement.extra:
        raise ValueError("the answer was not labelled step by step")
    return [{"prompt": prompt_to_json(judgement.prompt), "completions": judgement.extra["steps"], "labels": judgement.extra["step_labels"],
             **columns_about(judgement)}]


def _judgement(content: Content) -> Rows:
    return [judgement_of(content, "comparison", "ranking", "label", "rating", "critique", "edit").to_json()]


def _alpaca_fields(prompt: Prompt, question: str = "instruction") -> dict[str, Any]:
    """system, history and the last question; a conversation of any other shape has no place in alpaca's fields."""
    system, turns = turns_of(prompt)
    if any(m.role == "tool" for m in turns):
        raise ValueError("it has a turn of a tool")
    if len(turns) % 2 == 0 or any(m.role != ("user", "assistant")[i % 2] for i, m in enumerate(turns)):
        raise ValueError("its turns do not alternate between user and assistant")
    history = [[turns[i].content, turns[i + 1].content] for i in range(0, len(turns) - 1, 2)]
    fields: dict[str, Any] = {question: turns[-1].content} | ({"input": ""} if question == "instruction" else {})
    return fields | ({"system": system} if system else {}) | ({"history": history} if history else {})


def _alpaca(content: Content) -> Rows:
    prompt, response = demonstration_of(content)
    return [_alpaca_fields(prompt) | {"output": response}]


def _alpaca_pairs(content: Content) -> Rows:
    return [_alpaca_fields(prompt) | {"chosen": chosen, "rejected": rejected} | about
            for prompt, chosen, rejected, about in pairs_of(content)]


def _alpaca_labels(content: Content) -> Rows:
    judgement = judgement_of(content, "label")
    said = {"output": judgement.responses[0].text, "kto_tag": judgement.label}
    return [_alpaca_fields(judgement.prompt) | said | columns_about(judgement)]


def _query(content: Content) -> Rows:
    prompt, response = demonstration_of(content)
    return [_alpaca_fields(prompt, "query") | {"response": response}]


def _question(content: Content) -> Rows:
    prompt, response = demonstration_of(content)
    return [{"question": _only_question(prompt), "answer": response}]


def _question_pairs(content: Content) -> Rows:
    return [_alpaca_fields(prompt, "question") | {"chosen": chosen, "rejected": rejected} | about
            for prompt, chosen, rejected, about in pairs_of(content)]


def _sharegpt_fields(prompt: Prompt, *, odd: bool) -> dict[str, Any]:
    """LLaMA-Factory holds people and tools to odd places, the model to even ones. odd: whether the last turn is not the model's."""
    system, turns = turns_of(prompt)
    if len(turns) % 2 != odd or any((m.role == "assistant") != i % 2 for i, m in enumerate(turns)):
        raise ValueError("its turns do not alternate between the assistant and others")
    names = {"user": "human", "assistant": "gpt", "tool": "observation"}
    return {"conversations": [{"from": names[m.role], "value": m.content} for m in turns]} | ({"system": system} if system else {})


def _sharegpt(content: Content) -> Rows:
    return [_sharegpt_fields(conversation_of(content), odd=False)]


def _sharegpt_pairs(content: Content) -> Rows:
    return [_sharegpt_fields(prompt, odd=True) | about
            | {"chosen": {"from": "gpt", "value": chosen}, "rejected": {"from": "gpt", "value": rejected}}
            for prompt, chosen, rejected, about in pairs_of(content)]


def _sharegpt_labels(content: Content) -> Rows:
    judgement = judgement_of(content, "label")
    turns_of(judgement.prompt)
    whole = (*judgement.prompt, Message("assistant", judgement.responses[0].text))
    return [_sharegpt_fields(whole, odd=False) | {"kto_tag": judgement.label} | columns_about(judgement)]  # type: ignore[arg-type]


def _openrlhf(content: Content) -> Rows:
    prompt, response = demonstration_of(content)
    return [{"input": prompt_to_json(prompt), "output": response}]


def _openrlhf_pairs(content: Content) -> Rows:
    return [{"input" if name == "prompt" else name: value for name, value in row.items()} for row in _preference(content)]


def _openrlhf_labels(content: Content) -> Rows:
    names = {"prompt": "input", "completion": "output"}
    return [{names.get(name, name): value for name, value in row.items()} for row in _unpaired(content)]


def _nemo(content: Content) -> Rows:
    judgement = judgement_of(content, "comparison")
    texts, ranks = _two(judgement), judgement.ranks or ()
    turns_of(judgement.prompt)
    return [{"context": prompt_to_json(judgement.prompt), **columns_about(judgement),
             "completions": [{"rank": rank, "completion": [{"role": "assistant", "content": text}]}
                             for rank, text in sorted(zip(ranks, texts, strict=True))]}]


def _swift_pairs(content: Content) -> Rows:
    return [{"messages": joined(prompt, chosen), "rejected_response": rejected, **about}
            for prompt, chosen, rejected, about in pairs_of(content) if turns_of(prompt)]


def _swift_labels(content: Content) -> Rows:
    judgement = judgement_of(content, "label")
    turns_of(judgement.prompt)
    return [{"messages": joined(judgement.prompt, judgement.responses[0].text), "label": judgement.label, **columns_about(judgement)}]


def _ultrachat(content: Content) -> Rows:
    messages = conversation_of(content)
    return [{"prompt": messages[0].content, "messages": prompt_to_json(messages)}]


def _oasst(content: Content) -> Rows:
    return [tree_of([judgement_of(content, "comparison", "ranking")])]


def _arena(content: Content) -> Rows:
    return battles_of([judgement_of(content, "comparison")])


def _label_studio(content: Content) -> Rows:
    return [task_of([judgement_of(content, "comparison", "ranking", "label", "rating", "critique", "edit")])]


def _label_studio_answers(content: Content) -> Rows:
    prompt, answer = demonstration_of(content)
    return [task_of([Judgement(prompt, (Response(answer),), "demonstration")])]


def _argilla(content: Content) -> Rows:
    return [record_of([judgement_of(content, "comparison", "ranking", "label", "rating", "critique", "edit")])]


def _long(content: Content) -> Rows:
    return [long_row_of(judgement_of(content, "comparison", "ranking", "label", "rating", "critique", "edit"))]


def _answer(prompt: Prompt, text: str) -> Any:
    """TRL wants both sides of a row in one form: text after text, messages after messages."""
    return text if isinstance(prompt, str) else [{"role": "assistant", "content": text}]


def _transcript(prompt: Prompt, answer: str) -> str:
    turns_of(prompt)
    names = {"user": "Human", "assistant": "Assistant"}
    messages = [m for m in (*prompt, Message("assistant", answer)) if isinstance(m, Message)]
    if others := [m.role for m in messages if m.role not in names]:
        raise ValueError(f"a transcript has no place for a {others[0]} turn")
    return "".join(f"\n\n{names[m.role]}: {m.content}" for m in messages)


def _only_question(prompt: Prompt) -> str:
    system, turns = turns_of(prompt)
    if system or len(turns) != 1:
        raise ValueError("its prompt is more than one question")
    return turns[0].content


def _two(judgement: Judgement) -> tuple[str, str]:
    if len(judgement.responses) != 2:
        raise ValueError(f"{len(judgement.responses)} answers, where two have a place")
    return judgement.responses[0].text, judgement.responses[1].text


WRITERS: dict[str, Writer] = {
    "text": _text, "messages": _messages, "prompt": _prompt, "prompt-completion": _prompt_completion, "preference": _preference,
    "preference-implicit": _preference_implicit, "hh-rlhf": _hh, "choice": _choice, "unpaired": _unpaired, "rating": _rating,
    "stepwise": _stepwise, "judgement": _judgement, "alpaca": _alpaca, "alpaca-preference": _alpaca_pairs, "alpaca-kto": _alpaca_labels,
    "sharegpt": _sharegpt, "sharegpt-preference": _sharegpt_pairs, "sharegpt-kto": _sharegpt_labels, "openrlhf": _openrlhf,
    "openrlhf-preference": _openrlhf_pairs, "openrlhf-kto": _openrlhf_labels, "nemo-rl": _nemo, "swift-preference": _swift_pairs,
    "swift-kto": _swift_labels, "query-response": _query, "question-answer": _question, "question-preference": _question_pairs,
    "ultrachat": _ultrachat, "oasst-tree": _oasst, "arena-battle": _arena, "label-studio": _label_studio,
    "label-studio-answers": _label_studio_answers, "argilla": _argilla, "long": _long,
}
"""The layouts that can be written. The others are read only: logs, and files that say what our records do not."""
