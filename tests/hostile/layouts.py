"""Rows of every layout with one place of them spoilt: whatever stands there, the row is read or left out with a reason."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from typing import Any

from tests.hostile.judge import Bench, Call, Case

HUMAN, GPT = {"from": "human", "value": "tea?"}, {"from": "gpt", "value": "yes"}
USER, YES, NO = ({"role": role, "content": text} for role, text in (("user", "tea?"), ("assistant", "yes"), ("assistant", "no")))
_NODE = {"message_id": "a", "role": "prompter", "text": "tea?", "rank": None}

ROWS: dict[str, dict[str, Any]] = {
    "text": {"text": "a teapot"},
    "messages": {"messages": [USER, YES]},
    "prompt": {"prompt": "tea?"},
    "prompt-completion": {"prompt": [USER], "completion": "yes"},
    "preference": {"prompt": "tea?", "chosen": "yes", "rejected": "no", "margin": 1, "weight": 2, "target": 0.9, "labeler": "ann"},
    "preference-implicit": {"chosen": [USER, YES], "rejected": [USER, NO]},
    "hh-rlhf": {"chosen": "\n\nHuman: tea?\n\nAssistant: yes", "rejected": "\n\nHuman: tea?\n\nAssistant: no"},
    "choice": {"prompt": "tea?", "response_a": "yes", "response_b": "no", "winner": "a", "votes": ["a", "b"]},
    "unpaired": {"prompt": "tea?", "completion": "yes", "label": True, "strength": 1, "seconds": 2, "at": "now"},
    "rating": {"prompt": "tea?", "completion": "yes", "rating": 3},
    "stepwise": {"prompt": "2 + 2?", "completions": ["2 + 2", "4"], "labels": [True, True]},
    "judgement": {"prompt": [USER], "responses": [{"text": "yes", "logprobs": [-1.0]}, {"text": "no"}], "kind": "ranking", "ranks": [0, 1],
                  "p_select": 0.5, "group": "a"},
    "alpaca": {"instruction": "tea?", "input": "now", "output": "yes", "system": "be brief", "history": [["hi", "hello"]]},
    "alpaca-preference": {"instruction": "tea?", "chosen": "yes", "rejected": "no"},
    "alpaca-kto": {"instruction": "tea?", "output": "yes", "kto_tag": True},
    "sharegpt": {"conversations": [HUMAN, GPT], "system": "be brief", "tools": "[]"},
    "sharegpt-preference": {"conversations": [HUMAN], "chosen": GPT, "rejected": {"from": "gpt", "value": "no"}},
    "sharegpt-kto": {"conversations": [HUMAN, GPT], "kto_tag": False},
    "openrlhf": {"input": "tea?", "output": "yes"},
    "openrlhf-preference": {"input": [USER], "chosen": "yes", "rejected": "no"},
    "openrlhf-kto": {"input": "tea?", "output": "yes", "label": 1},
    "verl": {"data_source": "a", "prompt": [USER], "reward_model": {"style": "rule", "ground_truth": "yes"}},
    "nemo-rl": {"context": [USER], "completions": [{"rank": 0, "completion": [YES]}, {"rank": 1, "completion": [NO]}]},
    "swift-preference": {"messages": [USER, YES], "rejected_response": "no"},
    "swift-preference-messages": {"messages": [USER, YES], "rejected_messages": [USER, NO]},
    "swift-kto": {"messages": [USER, YES], "label": False},
    "query-response": {"query": "tea?", "response": "yes", "history": [["hi", "hello"]]},
    "question-answer": {"question": "tea?", "answer": "yes"},
    "question-preference": {"question": "tea?", "chosen": "yes", "rejected": "no"},
    "ultrachat": {"prompt": "tea?", "messages": [USER, YES]},
    "ultrafeedback": {"prompt": "tea?", "chosen": [USER, YES], "rejected": [USER, NO], "messages": [USER, YES]},
    "hh-red-team": {"transcript": "\n\nHuman: tea?\n\nAssistant: yes"},
    "summarize-comparisons": {"info": {"post": "long", "title": "a", "subreddit": "b"}, "choice": 1, "worker": "ann",
                              "summaries": [{"text": "yes", "policy": "a"}, {"text": "no", "policy": "b"}]},
    "oasst-tree": {"message_tree_id": "a", "tree_state": "ready", "prompt": _NODE | {"replies": [
        {"message_id": "b", "role": "assistant", "text": "yes", "rank": 0, "replies": []},
        {"message_id": "c", "role": "assistant", "text": "no", "rank": 1, "replies": []}]}},
    "oasst-messages": _NODE | {"message_tree_id": "a", "parent_id": None},
    "arena-battle": {"conversation_a": [USER, YES], "conversation_b": [USER, NO], "winner": "model_a", "model_a": "a", "model_b": "b",
                     "judge": "ann", "tstamp": 1.0},
    "arena-55k": {"prompt": '["tea?"]', "response_a": '["yes"]', "response_b": '["no"]', "winner_model_a": 1, "winner_model_b": 0,
                  "winner_tie": 0},
    "arena-log": {"tstamp": 1.0, "type": "leftvote", "models": ["a", "b"], "states": [
        {"model_name": "a", "offset": 0, "messages": [["USER", "tea?"], ["ASSISTANT", "yes"]]},
        {"model_name": "b", "offset": 0, "messages": [["USER", "tea?"], ["ASSISTANT", "no"]]}]},
    "label-studio": {"data": {"prompt": "tea?", "answer1": "yes", "answer2": "no"}, "annotations": [
        {"completed_by": 1, "lead_time": 2.0, "was_cancelled": False, "result": [
            {"from_name": "p", "to_name": "p", "type": "pairwise", "value": {"selected": "left"}}]}]},
    "argilla": {"fields": {"prompt": "tea?", "response": "yes"}, "responses": [
        {"values": {"rating": {"value": 3}}, "status": "submitted", "user_id": "ann"}]},
}
"""One good row of every layout."""

WRONG: tuple[Any, ...] = (None, True, 0, -1, 1e300, 10**4000, "", " ", "\0", "\ud800", "x" * 10**5, [], [None], [[]], [[[1]]], [0.5, "a"],
                          {}, {"": None}, {"role": "user"}, [{"role": "assistant", "content": {"a": 1}}], {"value": {"value": {}}}, "[{", "NaN",  # noqa: E501
                          [{"role": "user", "content": "a"}] * 99, {"id": [], "text": []}, [{"from": [], "value": 1}], ["a", ["b"]])
"""What may stand where something else should."""


def places(value: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where something stands in a row, the containers too."""
    inner: Sequence[tuple[str | int, Any]] = list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(
        value, list) else []
    for key, item in inner:
        yield (*at, key)
        yield from places(item, (*at, key))


def spoilt(row: dict[str, Any], place: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    """The row with another value in a place."""
    row = copy.deepcopy(row)
    here: Any = row
    for key in place[:-1]:
        here = here[key]
    here[place[-1]] = value
    return row


def cases() -> Iterator[tuple[Case, bool]]:
    """One file for every place of every layout: what may stand there wrongly, row by row. Every second place of a deep row is slow's."""
    for layout, good in ROWS.items():
        for number, place in enumerate(places(good)):
            def make(bench: Bench, layout: str = layout, good: dict[str, Any] = good, place: tuple[str | int, ...] = place
                     ) -> Sequence[Call]:
                file = bench.folder / "a.jsonl"
                rows = [good, *(spoilt(good, place, value) for value in WRONG)]
                file.write_text("".join(json.dumps(row) + "\n" for row in rows))
                reading = ["--layout", layout, "--max-rejected-frac", "1"]
                return [Call(["data", "check", file, *reading, "--json"], (0, 1))]

            yield Case(f"layout {layout}: {'.'.join(map(str, place))}", make), len(place) > 2 and number % 2 == 1
