"""The Chatbot Arena: the raw log, cleaned battles, and the table of 55,000. An `ip` is never read.

Source: FastChat's log and clean-up scripts (Zheng et al. 2023).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from tutelage.base.records import Judgement, in_words, name_from_json
from tutelage.base.times import from_iso, to_iso
from tutelage.text.content import columns_about, joined, turns_of
from tutelage.text.layouts import RATED, Asked, Layout, Row
from tutelage.text.trainers import Core, about
from tutelage.text.values import list_of, number_of, object_of, text_of

_BOTH_BAD = "tie (bothbad)"
_WINNERS = {"model_a": [0, 1], "model_b": [1, 0], "tie": [0, 0], _BOTH_BAD: [0, 0]}
_VOTES = {"leftvote": "model_a", "rightvote": "model_b", "tievote": "tie", "bothbad_vote": _BOTH_BAD}
_THUMBS = {"upvote": True, "downvote": False}
_NO_ANSWER = re.compile(r"NETWORK ERROR DUE TO HIGH TRAFFIC|\$MODERATION\$|API REQUEST ERROR", re.IGNORECASE)
_NAMES = re.compile(r"\b(chatgpt|gpt-?[34]|openai|anthropic|claude|vicuna|koala|lmsys|chatglm|open assistant|llama-?[23]|mistral|qwen)\b",
                    re.IGNORECASE)


def _battle(row: Row, goal: Asked) -> Iterator[Core]:
    talks = [list_of(row[side], side) for side in ("conversation_a", "conversation_b")]
    told = about(row) | {"labeler": _name(row, "judge"), "both_bad": row.get("both_bad")}
    if goal == "feedback":
        told |= {"item": _name(row, "question_id"), "language": row.get("language"),
                 "at": None if row.get("tstamp") is None else to_iso(number_of(row["tstamp"], "tstamp"))}
    yield from _duel(talks, row["winner"], told, [row.get("model_a"), row.get("model_b")], goal)


def _name(row: Row, column: str) -> str | None:
    return None if row.get(column) is None else name_from_json(row[column], column)


def _battle_cells(row: Row, goal: Asked) -> Iterator[Core]:
    """The 55k file: lists written out as text, a column for each outcome; a tie there may also mean that both were bad."""
    asked = list_of(row["prompt"], "prompt")
    talks = []
    for side in ("response_a", "response_b"):
        pairs = zip(asked, list_of(row[side], side), strict=False)
        talks.append([turn for question, said in pairs for turn in
                      ({"role": "user", "content": question}, {"role": "assistant", "content": said})])
    won = [name for name in ("winner_model_a", "winner_model_b", "winner_tie") if str(row.get(name)).lower() in ("1", "1.0", "true")]
    if len(won) != 1:
        raise ValueError("not exactly one of winner_model_a, winner_model_b and winner_tie is set")
    told = {"item": str(row["id"])} if goal == "feedback" and "id" in row else {}
    yield from _duel(talks, won[0].removeprefix("winner_"), told, [row.get("model_a"), row.get("model_b")], goal)


def _event(row: Row, goal: Asked) -> Iterator[Core]:
    """A line of the raw log: a vote between two, or a thumb for one."""
    event = row["type"]
    if not isinstance(event, str) or event not in {*_VOTES, *_THUMBS}:
        raise ValueError(f"the event {event if isinstance(event, str) else in_words(event)} is no vote")
    told = {"at": to_iso(number_of(row["tstamp"], "tstamp"))} if goal == "feedback" else {}
    states = [object_of(state, "a state") for state in
              ([row.get("state")] if event in _THUMBS else list_of(row.get("states"), "states"))]
    if len(states) != (1 if event in _THUMBS else 2):
        raise ValueError(f"{len(states)} states where two should be")
    talks, models = [_talk(state) for state in states], [state.get("model_name") for state in states]
    if event in _VOTES:
        yield from _duel(talks, _VOTES[event], told, models, goal)
        return
    [turns] = _turns(talks)
    if goal == "prompts":
        yield "prompt", {"prompt": turns[:1]}
        return
    yield "judgement", {"prompt": turns[:-1], "kind": "label", "label": _THUMBS[event], **told,
                        "responses": [{"text": _answer(turns), "model": models[0]}]}


def _talk(state: Row) -> list[dict[str, Any]]:
    offset = state.get("offset") or 0
    if type(offset) is not int:
        raise ValueError(f"offset is {in_words(offset)}, not a whole number")
    turns = [turn for turn in list_of(state.get("messages"), "messages")[offset:] if isinstance(turn, list)]
    asks = (list_of(state.get("roles"), "roles") or [None])[0]
    return [{"role": "user" if turn[0] == asks else "assistant", "content": turn[1]} for turn in turns if len(turn) == 2]


def _turns(talks: list[list[Any]]) -> list[list[dict[str, Any]]]:
    turns = [[{"role": t.get("role"), "content": t.get("content")} for t in (object_of(t, "a turn") for t in talk)] for talk in talks]
    if not all(turns):
        raise ValueError("a conversation without turns")
    return turns


def _duel(talks: list[list[Any]], winner: Any, told: dict[str, Any], models: list[Any], goal: Asked) -> Iterator[Core]:
    turns = _turns(talks)
    if turns[0][:1] != turns[1][:1]:
        raise ValueError("the conversations begin with different questions")
    if goal == "prompts":
        yield "prompt", {"prompt": turns[0][:1]}
        return
    if not isinstance(winner, str) or winner not in _WINNERS:
        raise ValueError(f"winner is {in_words(winner)}, not one of {', '.join(_WINNERS)}")
    if turns[0][:-1] != turns[1][:-1]:
        raise ValueError("the conversations differ in more than the last turn")
    yield "judgement", {"prompt": turns[0][:-1], "kind": "comparison", "ranks": _WINNERS[winner],
                        "responses": [{"text": _answer(talk), "model": m} for talk, m in zip(turns, models, strict=True)],
                        **{name: value for name, value in told.items() if value is not None},
                        **({"both_bad": True} if winner == _BOTH_BAD else {}), **({"sides": [0, 1]} if goal == "feedback" else {})}


def _answer(turns: list[dict[str, Any]]) -> str:
    """The last turn. Raises: ValueError when it is an error message, or names a model, so that the vote was not blind."""
    answer = text_of(turns[-1]["content"], "an answer")
    if _NO_ANSWER.search(answer):
        raise ValueError("an answer is an error message")
    if named := _NAMES.search(answer):
        raise ValueError(f"an answer names a model or its maker ({named[0].lower()}), so the vote was not blind")
    return answer


def battles_of(judgements: Sequence[Judgement]) -> list[dict[str, Any]]:
    """A cleaned battle for each judgement of one pair. Raises: ValueError when it has no form there."""
    return [_battle_of(judgement) for judgement in judgements]


def _battle_of(judgement: Judgement) -> dict[str, Any]:
    turns_of(judgement.prompt)
    ranks = judgement.ranks
    if ranks is None or len(ranks) != 2:
        raise ValueError(f"a {judgement.kind} of {len(judgement.responses)} answers, where a choice between two has a place")
    bad = judgement.extra.get("both_bad")                           # of a choice the Arena's words cannot say it
    tie = _BOTH_BAD if bad else "tie"
    winner = tie if ranks[0] == ranks[1] else "model_a" if ranks[0] < ranks[1] else "model_b"
    names = [r.model or name for r, name in zip(judgement.responses, ("a", "b"), strict=True)]
    told = {"judge": judgement.labeler, "question_id": judgement.extra.get("item"), "language": judgement.extra.get("language"),
            "tstamp": None if judgement.at is None else from_iso(judgement.at), "both_bad": True if bad and ranks[0] != ranks[1] else None}
    others = {name: value for name, value in columns_about(judgement).items() if name not in ("labeler", "at")}
    return {"model_a": names[0], "model_b": names[1], "winner": winner, **others,
            **{name: value for name, value in told.items() if value is not None},
            "conversation_a": joined(judgement.prompt, judgement.responses[0].text),
            "conversation_b": joined(judgement.prompt, judgement.responses[1].text)}


ARENA: dict[str, Layout] = {
    "arena-battle": Layout(frozenset({"conversation_a", "conversation_b", "winner"}), RATED, rows=_battle),
    "arena-55k": Layout(frozenset({"prompt", "response_a", "response_b", "winner_model_a", "winner_model_b", "winner_tie"}), RATED,
                        rows=_battle_cells),
    "arena-log": Layout(frozenset({"tstamp", "type"}), RATED, lambda row: "states" in row or "state" in row, _event),
}
