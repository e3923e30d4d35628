"""OASST's message trees: rankings of siblings, by each person where the tree tells, and the labels of messages (Köpf et al. 2023)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any

from tutelage.base.records import Judgement, Message, Prompt, name_from_json
from tutelage.text.content import turns_of
from tutelage.text.layouts import Asked, Goal, Layout, Row
from tutelage.text.sides import about_of, is_side, sides_of
from tutelage.text.trainers import Core
from tutelage.text.values import list_of, number_of, object_of, ranks_of

_PEOPLE = {"prompter": "user", "assistant": "assistant"}
_OF_NODE = (("language", "lang"), ("user", "user_id"))
"""What a message says of itself, by our names."""
_YES_NO = frozenset({"spam", "fails_task", "lang_mismatch", "pii", "not_appropriate", "hate_speech", "sexual_content", "political_content"})
"""Labels people answered with yes or no; the others lie on a scale from 0 to 1."""


def _tree(row: Row, goal: Asked) -> Iterator[Core]:
    """Rankings of siblings for judgements; the best-ranked path below each of the prompter's turns for demonstrations and texts."""
    yield from _below(object_of(row["prompt"], "prompt"), [], goal)


def _below(node: Row, before: list[Row], goal: Asked) -> Iterator[Core]:
    if not isinstance(node.get("role"), str) or node["role"] not in _PEOPLE:
        raise ValueError(f"role is {node.get('role')!r}, not prompter or assistant")
    path = [*before, {"role": _PEOPLE[node["role"]], "content": node.get("text")}]
    replies = [reply for reply in map(_node, list_of(node.get("replies") or [], "replies")) if not reply.get("deleted")]
    asked = node["role"] == "prompter"
    ranked = sorted((reply for reply in replies if isinstance(reply.get("rank"), int)), key=lambda reply: reply["rank"])
    if asked and goal == "prompts":
        yield "prompt", {"prompt": path}
    elif asked and goal == "feedback":
        yield from _feedback(node, path, replies, ranked)
    elif asked and goal == "judgements" and len(ranked) > 1:
        yield "judgement", _ranking(path, ranked, ranks_of([reply["rank"] for reply in ranked]))
    elif goal in ("demonstrations", "texts") and not asked and not replies:
        yield "messages", {"messages": path}
    follow = (ranked[:1] or replies[:1]) if asked and goal in ("demonstrations", "texts") else replies
    for reply in follow:
        yield from _below(reply, path, goal)


def _node(value: Any) -> Row:
    return object_of(value, "a reply")


def _ranking(path: list[Row], replies: Sequence[Row], ranks: list[int]) -> dict[str, Any]:
    return {"prompt": path, "kind": "ranking" if len(replies) > 2 else "comparison", "ranks": ranks,
            "responses": [{"text": reply.get("text")} | ({"model": reply["model_name"]} if reply.get("model_name") else {})
                          for reply in replies]}


def _feedback(node: Row, path: list[Row], replies: list[Row], ranked: list[Row]) -> Iterator[Core]:
    """Each person's ranking if the tree has them, else the merged one; then the labels of each reply."""
    about = {name: node[key] for name, key in _OF_NODE if node.get(key) is not None}
    by_id = {str(reply.get("message_id")): reply for reply in replies}
    events = list_of(object_of(node.get("events") or {}, "events").get("ranking") or [], "rankings")
    judged = [one for event in events for one in _event(object_of(event, "a ranking"), path, by_id)]
    if not judged and len(ranked) > 1:
        judged = [_ranking(path, ranked, ranks_of([reply["rank"] for reply in ranked]))]
    for one in judged:
        yield "judgement", one | about
    for reply in replies:
        labels = {str(name): object_of(label, "a label") for name, label in object_of(reply.get("labels") or {}, "labels").items()}
        if "quality" in labels:
            flags = [name for name in labels if name in _YES_NO and number_of(labels[name].get("value"), name) >= 0.5]
            said = {"rating": number_of(labels["quality"].get("value"), "quality")} | ({"flags": flags} if flags else {})
            answer = {"responses": [{"text": reply.get("text")}], "labels": labels}
            yield "judgement", {"prompt": path, "kind": "rating"} | answer | said | about


def _event(event: Row, path: list[Row], by_id: Mapping[str, Row]) -> Iterator[dict[str, Any]]:
    """One person's ranking of the siblings that are still there."""
    names = [str(name) for name in list_of(event.get("ranked_message_ids"), "ranked_message_ids")]
    ranks = event.get("ranks") or list(range(len(names)))
    kept = [(by_id[name], rank) for name, rank in zip(names, ranks, strict=True) if name in by_id]
    if len(kept) > 1 and not event.get("not_rankable"):
        who = {"labeler": name_from_json(event["user_id"], "user_id")} if event.get("user_id") is not None else {}
        about = {name: event[name] for name in ("at", "seconds") if event.get(name) is not None}
        if len(kept) == len(names):                                 # what was said of each is numbered from best to worst
            about |= about_of({name: said for name, said in event.items() if is_side(name)}, len(kept))
        yield _ranking(path, [reply for reply, _ in kept], ranks_of([rank for _, rank in kept])) | who | about


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


def tree_of(judgements: Sequence[Judgement]) -> dict[str, Any]:
    """The tree of one ranked prompt: its path, the answers as replies, and each named person's ranking as an event.

    A reply's `rank` orders the sums of the ranks it was given, equal sums equal. Messages are named by the hash of the whole.
    Raises: ValueError when a tree has no place for it.
    """
    first = judgements[0]
    path = _path(first.prompt)
    whole = json.dumps([[m.content for m in path], [r.text for r in first.responses]], ensure_ascii=False)
    name = blake2b(whole.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    given = [j for j in judgements if j.ranks is not None]
    if not given:
        raise ValueError("nobody ranked it, and a tree holds ranked answers")
    ranks = ranks_of([sum(j.ranks[i] for j in given if j.ranks) for i in range(len(first.responses))])
    replies: list[dict[str, Any]] = [
        {"message_id": f"{name}-{len(path)}.{i}", "parent_id": f"{name}-{len(path) - 1}", "text": r.text, "role": "assistant", "rank": rank,
         "replies": []} | ({"model_name": r.model} if r.model else {})
        for i, (r, rank) in enumerate(zip(first.responses, ranks, strict=True))]
    events = [_event_of(j, [reply["message_id"] for reply in replies]) for j in given if j.labeler]
    for i, message in reversed(list(enumerate(path))):
        role = "prompter" if message.role == "user" else "assistant"
        node: dict[str, Any] = {"message_id": f"{name}-{i}", "text": message.content, "role": role, "replies": replies}
        last = i == len(path) - 1                                   # whose question it is, and what was said of its answers
        told = {key: first.extra[ours] for ours, key in _OF_NODE if last and ours in first.extra}
        told |= {"events": {"ranking": events}} if events and last else {}
        replies = [node | ({"parent_id": f"{name}-{i - 1}"} if i else {}) | told]
    return {"message_tree_id": replies[0]["message_id"], "tree_state": "ready_for_export", "prompt": replies[0]}


def _event_of(judgement: Judgement, names: list[str]) -> dict[str, Any]:
    """Ids from best to worst, as OASST has them, and the ranks themselves, which can be equal."""
    order = sorted(range(len(names)), key=lambda i: (judgement.ranks or ())[i])
    about = {"at": judgement.at, "seconds": judgement.seconds}
    by_place = {name: [judgement.extra[name][i] for i in order] for name in ("ratings", "flags") if name in judgement.extra}
    sides = sides_of(replace(judgement, extra={**judgement.extra, **by_place}))
    return {"type": "ranking", "user_id": judgement.labeler, "ranked_message_ids": [names[i] for i in order],
            "ranks": [(judgement.ranks or ())[i] for i in order], **sides} | {k: v for k, v in about.items() if v is not None}


def _path(prompt: Prompt) -> Sequence[Message]:
    """The turns, which must alternate and end with a question. Raises: ValueError."""
    system, turns = turns_of(prompt)
    if system:
        raise ValueError("a tree has no place for a system turn")
    if len(turns) % 2 == 0 or any(m.role != ("user", "assistant")[i % 2] for i, m in enumerate(turns)):
        raise ValueError("its turns do not alternate between user and assistant")
    return turns


_GOALS: tuple[Goal, ...] = ("judgements", "demonstrations", "prompts", "texts")
OASST: dict[str, Layout] = {
    "oasst-tree": Layout(frozenset({"message_tree_id", "prompt"}), _GOALS, lambda row: isinstance(row["prompt"], Mapping), _tree),
    "oasst-messages": Layout(frozenset({"message_tree_id", "message_id", "text", "role"}), _GOALS, rows=_tree),
}
