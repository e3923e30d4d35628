"""Judgements from the tools that collect them: Label Studio, Argilla, OASST trees, the Chatbot Arena; as rows of the core layouts.

Sources: Label Studio's export format and tag reference; Argilla's record models; the OASST release (Köpf et al. 2023); FastChat's log and
clean-up scripts (Zheng et al. 2023).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tutelage.text.layouts import DIALOGUE, RATED, Goal, Layout, Row
from tutelage.text.trainers import Core
from tutelage.text.values import list_of, object_of, ranks_of, text_of

# -- OASST ---------------------------------------------------------------------------------------------------------------

_PEOPLE = {"prompter": "user", "assistant": "assistant"}


def _tree(row: Row, goal: Goal) -> Iterator[Core]:
    """Rankings of siblings for judgements; the best-ranked path below each of the prompter's turns for demonstrations and texts."""
    yield from _below(object_of(row["prompt"], "prompt"), [], goal)


def _below(node: Row, before: list[Row], goal: Goal) -> Iterator[Core]:
    if node.get("role") not in _PEOPLE:
        raise ValueError(f"role is {node.get('role')!r}, not prompter or assistant")
    path = [*before, {"role": _PEOPLE[node["role"]], "content": node.get("text")}]
    replies = [reply for reply in map(_node, list_of(node.get("replies") or [], "replies")) if not reply.get("deleted")]
    asked = node["role"] == "prompter"
    ranked = sorted((reply for reply in replies if isinstance(reply.get("rank"), int)), key=lambda reply: reply["rank"])
    if asked and goal == "prompts":
        yield "prompt", {"prompt": path}
    elif asked and goal == "judgements" and len(ranked) > 1:
        ranks = ranks_of([reply["rank"] for reply in ranked])
        yield "judgement", {"prompt": path, "kind": "ranking" if len(ranked) > 2 else "comparison", "ranks": ranks,
                            "responses": [{"text": reply.get("text")} for reply in ranked]}
    elif goal in ("demonstrations", "texts") and not asked and not replies:
        yield "messages", {"messages": path}
    follow = (ranked[:1] or replies[:1]) if asked and goal in ("demonstrations", "texts") else replies
    for reply in follow:
        yield from _below(reply, path, goal)


def _node(value: Any) -> Row:
    return object_of(value, "a reply")


def gather_trees(rows: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    """The flat file's messages, which stand tree by tree, as trees. What is no message passes through."""
    first, tree = 0, None
    nodes: dict[str, dict[str, Any]] = {}
    for line, row in rows:
        if not isinstance(row, Mapping) or "message_id" not in row:
            yield line, row
            continue
        if tree is not None and row.get("message_tree_id") != tree["message_tree_id"]:
            yield first, tree
            tree, nodes = None, {}
        node = {**row, "replies": []}
        parent = nodes.get(str(row.get("parent_id")))
        nodes[str(row["message_id"])] = node
        if parent is not None:
            parent["replies"].append(node)
        elif tree is None:
            first, tree = line, {"message_tree_id": row.get("message_tree_id"), "prompt": node}
    if tree is not None:
        yield first, tree


# -- Chatbot Arena -------------------------------------------------------------------------------------------------------

_WINNERS = {"model_a": [0, 1], "model_b": [1, 0], "tie": [0, 0], "tie (bothbad)": [0, 0]}
_VOTES = {"leftvote": "model_a", "rightvote": "model_b", "tievote": "tie", "bothbad_vote": "tie (bothbad)"}
_NO_ANSWER = re.compile(r"NETWORK ERROR DUE TO HIGH TRAFFIC|\$MODERATION\$|API REQUEST ERROR", re.IGNORECASE)
_NAMES = re.compile(r"\b(chatgpt|gpt-?[34]|openai|anthropic|claude|vicuna|koala|lmsys|chatglm|open assistant|llama-?[23]|mistral|qwen)\b",
                    re.IGNORECASE)


def _battle(row: Row, goal: Goal) -> Iterator[Core]:
    talks = [list_of(row[side], side) for side in ("conversation_a", "conversation_b")]
    yield from _duel(talks, row["winner"], row.get("judge"), [row.get("model_a"), row.get("model_b")], goal)


def _battle_cells(row: Row, goal: Goal) -> Iterator[Core]:
    """The 55k file: lists written out as text, a column for each outcome."""
    asked = list_of(row["prompt"], "prompt")
    talks = []
    for side in ("response_a", "response_b"):
        pairs = zip(asked, list_of(row[side], side), strict=False)
        talks.append([turn for question, said in pairs for turn in
                      ({"role": "user", "content": question}, {"role": "assistant", "content": said})])
    won = [name for name in ("winner_model_a", "winner_model_b", "winner_tie") if str(row.get(name)).lower() in ("1", "1.0", "true")]
    if len(won) != 1:
        raise ValueError("not exactly one of winner_model_a, winner_model_b and winner_tie is set")
    yield from _duel(talks, won[0].removeprefix("winner_"), None, [row.get("model_a"), row.get("model_b")], goal)


def _vote(row: Row, goal: Goal) -> Iterator[Core]:
    """A line of the raw log. Its `ip` is not read."""
    if row["type"] not in _VOTES:
        raise ValueError(f"the event {row['type']} is no vote between two")
    states = [object_of(state, "a state") for state in list_of(row["states"], "states")]
    if len(states) != 2:
        raise ValueError(f"{len(states)} states where two should be")
    talks = []
    for state in states:
        turns = [turn for turn in list_of(state.get("messages"), "messages")[state.get("offset") or 0:] if isinstance(turn, list)]
        talks.append([{"role": "user" if turn[0] == list_of(state.get("roles"), "roles")[0] else "assistant", "content": turn[1]}
                      for turn in turns if len(turn) == 2])
    yield from _duel(talks, _VOTES[row["type"]], None, [state.get("model_name") for state in states], goal)


def _duel(talks: list[list[Any]], winner: Any, judge: Any, models: list[Any], goal: Goal) -> Iterator[Core]:
    turns = [[{"role": t.get("role"), "content": t.get("content")} for t in (object_of(t, "a turn") for t in talk)] for talk in talks]
    if not all(turns) or turns[0][:1] != turns[1][:1]:
        raise ValueError("the conversations begin with different questions")
    if goal == "prompts":
        yield "prompt", {"prompt": turns[0][:1]}
        return
    if winner not in _WINNERS:
        raise ValueError(f"winner is {winner!r}, not one of {', '.join(_WINNERS)}")
    if turns[0][:-1] != turns[1][:-1]:
        raise ValueError("the conversations differ in more than the last turn")
    answers = [text_of(talk[-1]["content"], "an answer") for talk in turns]
    for answer in answers:
        if _NO_ANSWER.search(answer):
            raise ValueError("an answer is an error message")
        if named := _NAMES.search(answer):
            raise ValueError(f"an answer names a model or its maker ({named[0].lower()}), so the vote was not blind")
    yield "judgement", {"prompt": turns[0][:-1], "kind": "comparison", "ranks": _WINNERS[winner],
                        "responses": [{"text": a, "model": m} for a, m in zip(answers, models, strict=True)],
                        **({"labeler": str(judge)} if judge else {}), **({"both_bad": True} if winner == "tie (bothbad)" else {})}


# -- Label Studio --------------------------------------------------------------------------------------------------------

def _task(row: Row, goal: Goal) -> Iterator[Core]:
    """One judgement for each result of each annotation that was not cancelled."""
    data = object_of(row["data"], "data")
    if goal == "prompts":
        yield "prompt", {"prompt": _asked(data)}
        return
    found = False
    for annotation in (object_of(a, "an annotation") for a in list_of(row["annotations"], "annotations")):
        results = [] if annotation.get("was_cancelled") else list_of(annotation.get("result") or [], "result")
        for result in results:
            for judged in _result(data, object_of(result, "a result")):
                found = True
                yield "judgement", {"prompt": _asked(data), **judged, **_annotator(annotation)}
    if not found:
        raise ValueError("nobody judged the task (no annotation, or skipped)")


_JUDGED = ("answer", "response", "completion", "output", "answer1", "items")


def _has_no_answers(row: Row) -> bool:
    """Whether the task shows people a question alone, for them to answer."""
    return isinstance(row["data"], Mapping) and not row["data"].keys() & set(_JUDGED)


def _answers(row: Row, goal: Goal) -> Iterator[Core]:
    """What each person wrote who was shown a question."""
    asked = _asked(object_of(row["data"], "data"))
    if goal == "prompts":
        yield "prompt", {"prompt": asked}
        return
    annotations = [object_of(annotation, "an annotation") for annotation in list_of(row["annotations"], "annotations")]
    results = [object_of(result, "a result") for annotation in annotations if not annotation.get("was_cancelled")
               for result in list_of(annotation.get("result") or [], "result")]
    written = [object_of(result.get("value"), "value") for result in results if result.get("type") == "textarea"]
    if not written:
        raise ValueError("nobody answered (no text area filled in, or skipped)")
    for value in written:
        yield "prompt-completion", {"prompt": asked, "completion": "\n".join(map(str, list_of(value.get("text"), "text")))}


def _asked(data: Row) -> Any:
    """The prompt as a conversation."""
    found = next((data[name] for name in ("prompt", "question", "messages", "instruction") if name in data), None)
    if found is None:
        raise ValueError(f"data has no prompt (fields: {', '.join(list(data)[:8]) or 'none'})")
    return found if isinstance(found, list) else [{"role": "user", "content": text_of(found, "prompt")}]


def _annotator(annotation: Row) -> dict[str, Any]:
    who = annotation.get("completed_by")
    who = who.get("email", who.get("id")) if isinstance(who, Mapping) else who
    about = {"labeler": None if who is None else str(who), "seconds": annotation.get("lead_time"), "at": annotation.get("created_at")}
    return {name: value for name, value in about.items() if value is not None}


def _result(data: Row, result: Row) -> Iterator[dict[str, Any]]:
    kind, value = result.get("type"), object_of(result.get("value"), "value")
    if kind == "pairwise":
        ranks = {"left": [0, 1], "right": [1, 0], "none": [0, 0]}
        selected = value.get("selected")
        if selected not in ranks:
            raise ValueError(f"selected is {selected!r}, not left, right or none")
        yield {"kind": "comparison", "responses": [{"text": data.get(f"answer{i}")} for i in (1, 2)], "ranks": ranks[selected]}
    elif kind == "ranker":
        items = {str(item.get("id")): item for item in (object_of(i, "an item") for i in list_of(data.get("items"), "items"))}
        yield _ranked(items, value.get("ranker"))
    elif kind in ("rating", "choices", "textarea"):
        answer = next((data[name] for name in _JUDGED[:4] if name in data), None)
        response = {"responses": [{"text": answer}]}
        if kind == "rating":
            yield {"kind": "rating", "rating": value.get("rating"), **response}
        elif kind == "choices":
            yield {"kind": "label", "label": _yes(list_of(value.get("choices"), "choices")), **response}
        else:
            said = "\n".join(map(str, list_of(value.get("text"), "text")))
            word = "edit" if "edit" in str(result.get("from_name")).lower() else "critique"
            yield {"kind": word, word: said, **response}


def _ranked(items: Mapping[str, Row], ranker: Any) -> dict[str, Any]:
    """A ranker's list of ids, best first, or its buckets in order; ids of one bucket are tied, as Label Studio keeps no order in them."""
    buckets = ranker if isinstance(ranker, list) else [list_of(ids, "a bucket") for ids in object_of(ranker, "ranker").values()]
    groups = [bucket if isinstance(bucket, list) else [bucket] for bucket in buckets if bucket != []]
    rank = {str(i): place for place, group in enumerate(groups) for i in group}
    if len(rank) < 2 or not rank.keys() <= items.keys():
        raise ValueError("the ranker names fewer than two items, or some that data.items does not have")
    return {"kind": "ranking" if len(rank) > 2 else "comparison", "ranks": list(rank.values()),
            "responses": [{"text": items[i].get("body", items[i].get("title"))} for i in rank]}


def _yes(choices: list[Any]) -> bool:
    yes = {"yes", "good", "positive", "accept", "accepted", "true", "like", "up"}
    no = {"no", "bad", "negative", "reject", "rejected", "false", "dislike", "down"}
    said = {str(choice).strip().lower() for choice in choices}
    if len(said) == 1 and said & (yes | no):
        return bool(said & yes)
    raise ValueError(f"the choice {', '.join(sorted(said)) or '(none)'} is not a plain yes or no")


# -- Argilla -------------------------------------------------------------------------------------------------------------

def _record(row: Row, goal: Goal) -> Iterator[Core]:
    """A record of the server's REST interface: `responses` is a list, each by one user over all questions."""
    fields = object_of(row["fields"], "fields")
    prompt = next((fields[name] for name in ("prompt", "instruction", "question", "chat", "context") if name in fields), None)
    if prompt is None:
        raise ValueError(f"fields have no prompt (fields: {', '.join(list(fields)[:8]) or 'none'})")
    asked = prompt if isinstance(prompt, list) else [{"role": "user", "content": text_of(prompt, "prompt")}]
    if goal == "prompts":
        yield "prompt", {"prompt": asked}
        return
    if not isinstance(row["responses"], list):
        raise ValueError("responses as the SDK writes them, which loses equal ranks; export over the REST interface")
    found = False
    for response in (object_of(r, "a response") for r in row["responses"]):
        if response.get("status", "submitted") != "submitted":
            continue
        for answer in object_of(response.get("values") or {}, "values").values():
            judged = _answered(fields, object_of(answer, "a value").get("value"))
            if judged:
                found = True
                who = response.get("user_id")
                yield "judgement", {"prompt": asked, **judged, **({} if who is None else {"labeler": str(who)})}
    if not found:
        raise ValueError("nobody submitted a ranking, rating or label for the record")


def _answered(fields: Row, value: Any) -> dict[str, Any] | None:
    if isinstance(value, list) and value and all(isinstance(v, Mapping) and "rank" in v for v in value):
        texts = [fields.get(str(v.get("value"))) for v in value]
        if None in texts:
            raise ValueError(f"the ranking names {value[texts.index(None)].get('value')!r}, which is no field")
        return {"kind": "ranking" if len(value) > 2 else "comparison", "responses": [{"text": text} for text in texts],
                "ranks": ranks_of([v["rank"] for v in value])}
    answer = next((fields[name] for name in ("response", "completion", "answer", "output") if name in fields), None)
    if answer is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"kind": "rating", "responses": [{"text": answer}], "rating": value}
    if isinstance(value, str) and value.strip().lower() in ("yes", "no", "good", "bad"):
        return {"kind": "label", "responses": [{"text": answer}], "label": _yes([value])}
    return None


PLATFORMS: dict[str, Layout] = {
    "oasst-tree": Layout(frozenset({"message_tree_id", "prompt"}), ("judgements", "demonstrations", "prompts", "texts"),
                         lambda row: isinstance(row["prompt"], Mapping), _tree),
    "oasst-messages": Layout(frozenset({"message_tree_id", "message_id", "text", "role"}),
                             ("judgements", "demonstrations", "prompts", "texts"), rows=_tree),
    "arena-battle": Layout(frozenset({"conversation_a", "conversation_b", "winner"}), RATED, rows=_battle),
    "arena-55k": Layout(frozenset({"prompt", "response_a", "response_b", "winner_model_a", "winner_model_b", "winner_tie"}), RATED,
                        rows=_battle_cells),
    "arena-log": Layout(frozenset({"tstamp", "type", "states"}), RATED, rows=_vote),
    "label-studio": Layout(frozenset({"data", "annotations"}), RATED, lambda row: not _has_no_answers(row), _task),
    "label-studio-answers": Layout(frozenset({"data", "annotations"}), DIALOGUE, _has_no_answers, _answers),
    "argilla": Layout(frozenset({"fields", "responses"}), RATED, rows=_record),
}
