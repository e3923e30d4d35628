"""Layouts of other trainers and of published data sets, as rows of the core layouts.

Sources: the data documentation and readers of LLaMA-Factory (alpaca, sharegpt), OpenRLHF, verl, NeMo-RL, ms-swift and axolotl; the files of
UltraChat and UltraFeedback as binarized, hh-rlhf's red team (Ganguli et al. 2022) and summarize_from_feedback (Stiennon et al. 2020).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tutelage.base.records import prompt_to_json
from tutelage.text.layouts import ABOUT, DIALOGUE, PAIR_NUMBERS, PAIRS, RATED, Asked, Layout, Row
from tutelage.text.values import list_of, object_of, ranks_of, text_of, transcript_of

Core = tuple[str, Row]
_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "function_call": "assistant", "system": "system",
          "observation": "tool", "tool": "tool", "function_response": "tool"}


def about(row: Row) -> dict[str, Any]:
    """Who judged, how sure and when, where a row says so in our words."""
    return {name: row[name] for name in (*ABOUT, *PAIR_NUMBERS) if name in row}


def _alpaca_prompt(row: Row, question: str = "instruction") -> list[Row]:
    """system, history of [user, assistant], then the instruction with its input on a line of its own."""
    turns = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    for pair in list_of(row.get("history") or [], "history"):
        if not isinstance(pair, list) or len(pair) != 2:
            raise ValueError("history is not a list of [user, assistant]")
        turns += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    asked = text_of(row[question], question) + (f"\n{row['input']}" if question == "instruction" and row.get("input") else "")
    return [*turns, {"role": "user", "content": asked}]


def _alpaca(row: Row, goal: Asked) -> Iterator[Core]:
    yield "prompt-completion", {"prompt": _alpaca_prompt(row), "completion": row["output"]}


def _alpaca_pairs(row: Row, goal: Asked) -> Iterator[Core]:
    yield "preference", {"prompt": _alpaca_prompt(row), "chosen": row["chosen"], "rejected": row["rejected"], **about(row)}


def _alpaca_labels(row: Row, goal: Asked) -> Iterator[Core]:
    yield "unpaired", {"prompt": _alpaca_prompt(row), "completion": row["output"], "label": row["kto_tag"], **about(row)}


def _turn(turn: Any) -> Row:
    """{from, value} as {role, content}; the latter passes through."""
    turn = object_of(turn, "a turn of the conversation")
    if "role" in turn:
        return turn
    if not isinstance(turn.get("from"), str) or turn["from"] not in _ROLES:
        raise ValueError(f"a turn is from {turn.get('from')!r}, not one of {', '.join(_ROLES)}")
    return {"role": _ROLES[turn["from"]], "content": turn.get("value")}


def _sharegpt_messages(row: Row) -> list[Row]:
    system = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    return [*system, *map(_turn, list_of(row["conversations"], "conversations"))]


def _sharegpt(row: Row, goal: Asked) -> Iterator[Core]:
    yield "messages", {"messages": _sharegpt_messages(row)}


def _sharegpt_pairs(row: Row, goal: Asked) -> Iterator[Core]:
    sides = {side: _turn(row[side]) for side in ("chosen", "rejected")}
    yield "preference", {"prompt": _sharegpt_messages(row), **sides, **about(row)}


def _sharegpt_labels(row: Row, goal: Asked) -> Iterator[Core]:
    messages = _some(_sharegpt_messages(row))
    yield "unpaired", {"prompt": messages[:-1], "completion": messages[-1], "label": row["kto_tag"], **about(row)}


def _openrlhf(row: Row, goal: Asked) -> Iterator[Core]:
    yield "prompt-completion", {"prompt": row["input"], "completion": row["output"]}


def _openrlhf_pairs(row: Row, goal: Asked) -> Iterator[Core]:
    yield "preference", {**row, "prompt": row["input"]}


def _openrlhf_labels(row: Row, goal: Asked) -> Iterator[Core]:
    yield "unpaired", {**row, "prompt": row["input"], "completion": row["output"]}


def _as_prompt(row: Row, goal: Asked) -> Iterator[Core]:
    yield "prompt", row


def _as_messages(row: Row, goal: Asked) -> Iterator[Core]:
    yield "messages", row


def _nemo(row: Row, goal: Asked) -> Iterator[Core]:
    """Any number of completions, rank 0 the best."""
    found = [object_of(entry, "a completion") for entry in list_of(row["completions"], "completions")]
    if len(found) < 2:
        raise ValueError("fewer than two completions, so nothing is compared")
    texts = [entry.get("completion") for entry in found]
    yield ("judgement", {"prompt": row["context"] if isinstance(row["context"], list) else [{"role": "user", "content": row["context"]}],
                         "responses": [text if isinstance(text, str) else {"messages": text} for text in texts],
                         "ranks": ranks_of([entry.get("rank") for entry in found]), **about(row)})


def _some(value: Any) -> list[Any]:
    messages = list_of(value, "messages")
    if not messages:
        raise ValueError("an empty list of messages")
    return messages


def _swift_pairs(row: Row, goal: Asked) -> Iterator[Core]:
    """messages end with the chosen answer; rejected_response replaces it, or rejected_messages the whole."""
    messages = _some(row["messages"])
    if "rejected_messages" in row:
        yield "preference-implicit", {"chosen": messages, "rejected": row["rejected_messages"], **about(row)}
    else:
        yield "preference", {"prompt": messages[:-1], "chosen": messages[-1], "rejected": row["rejected_response"], **about(row)}


def _swift_labels(row: Row, goal: Asked) -> Iterator[Core]:
    messages = _some(row["messages"])
    yield "unpaired", {"prompt": messages[:-1], "completion": messages[-1], "label": row["label"], **about(row)}


def _query(row: Row, goal: Asked) -> Iterator[Core]:
    yield "prompt-completion", {"prompt": _alpaca_prompt(row, "query"), "completion": row["response"]}


def _question(row: Row, goal: Asked) -> Iterator[Core]:
    yield "prompt-completion", {"prompt": _alpaca_prompt(row, "question"), "completion": row["answer"]}


def _question_pairs(row: Row, goal: Asked) -> Iterator[Core]:
    yield "preference", {"prompt": _alpaca_prompt(row, "question"), "chosen": row["chosen"], "rejected": row["rejected"], **about(row)}


def _repeats_its_prompt(row: Row) -> bool:
    first = row["messages"][0] if isinstance(row["messages"], list) and row["messages"] else None
    return isinstance(first, dict) and first.get("content") == row["prompt"]


def _repeats_the_chosen(row: Row) -> bool:
    return bool(row["messages"] == row["chosen"])


def _as_pair(row: Row, goal: Asked) -> Iterator[Core]:
    yield "preference", row


def _red_team(row: Row, goal: Asked) -> Iterator[Core]:
    messages = transcript_of(text_of(row["transcript"], "transcript"))
    yield "messages", {"messages": prompt_to_json(messages[:1] if goal == "prompts" else messages)}


def _summaries(row: Row, goal: Asked) -> Iterator[Core]:
    """Reddit posts are laid out as in the paper, other articles as they are; both end where a summary begins."""
    info = object_of(row["info"], "info")
    if info.get("post"):
        prompt = f"SUBREDDIT: r/{info.get('subreddit')}\nTITLE: {info.get('title')}\nPOST: {info['post']}\nTL;DR:"
    else:
        prompt = f"{text_of(info.get('article'), 'article')}\nTL;DR:"
    summaries = [object_of(s, "a summary") for s in list_of(row["summaries"], "summaries")]
    if len(summaries) != 2 or row["choice"] not in (0, 1):
        raise ValueError("not two summaries and a choice of 0 or 1")
    yield "judgement", {"prompt": prompt, "responses": [{"text": s.get("text"), "model": s.get("policy")} for s in summaries],
                        "kind": "comparison", "ranks": [row["choice"], 1 - row["choice"]], "labeler": row.get("worker")}


def _no_instruction(row: Row) -> bool:
    return "instruction" not in row


def _columns(*names: str) -> frozenset[str]:
    return frozenset(names)


TRAINERS: dict[str, Layout] = {
    "alpaca": Layout(_columns("instruction", "output"), DIALOGUE, rows=_alpaca),
    "alpaca-preference": Layout(_columns("instruction", "chosen", "rejected"), PAIRS, rows=_alpaca_pairs),
    "alpaca-kto": Layout(_columns("instruction", "output", "kto_tag"), RATED, rows=_alpaca_labels),
    "sharegpt": Layout(_columns("conversations"), DIALOGUE, rows=_sharegpt),
    "sharegpt-preference": Layout(_columns("conversations", "chosen", "rejected"), PAIRS, rows=_sharegpt_pairs),
    "sharegpt-kto": Layout(_columns("conversations", "kto_tag"), RATED, rows=_sharegpt_labels),
    "openrlhf": Layout(_columns("input", "output"), DIALOGUE, _no_instruction, _openrlhf),
    "openrlhf-preference": Layout(_columns("input", "chosen", "rejected"), PAIRS, _no_instruction, _openrlhf_pairs),
    "openrlhf-kto": Layout(_columns("input", "output", "label"), RATED, _no_instruction, _openrlhf_labels),
    "verl": Layout(_columns("data_source", "prompt", "reward_model"), ("prompts",), rows=_as_prompt),
    "nemo-rl": Layout(_columns("context", "completions"), RATED, rows=_nemo),
    "swift-preference": Layout(_columns("messages", "rejected_response"), PAIRS, rows=_swift_pairs),
    "swift-preference-messages": Layout(_columns("messages", "rejected_messages"), PAIRS, rows=_swift_pairs),
    "swift-kto": Layout(_columns("messages", "label"), RATED, rows=_swift_labels),
    "query-response": Layout(_columns("query", "response"), DIALOGUE, rows=_query),
    "question-answer": Layout(_columns("question", "answer"), DIALOGUE, rows=_question),
    "question-preference": Layout(_columns("question", "chosen", "rejected"), PAIRS, rows=_question_pairs),
    "ultrachat": Layout(_columns("prompt", "messages"), DIALOGUE, _repeats_its_prompt, _as_messages),
    "ultrafeedback": Layout(_columns("prompt", "chosen", "rejected", "messages"), PAIRS, _repeats_the_chosen, _as_pair),
    "hh-red-team": Layout(_columns("transcript"), ("prompts", "texts"), rows=_red_team),
    "summarize-comparisons": Layout(_columns("info", "summaries", "choice"), RATED, rows=_summaries),
}
"""Told by the columns; a tool's own options may name others, which `columns` maps."""
