"""The embedded world from outside: a corpus, demonstrations and prompts. The same seed gives the same bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.base.records import Demonstration, Message
from tutelage.demo.corpus import draw_question, texts
from tutelage.demo.people import choose, write_answer
from tutelage.demo.prompts import Split, questions


@dataclass(frozen=True)
class WorldPrompt:
    """A question as a prompt for a chat model."""

    text: str
    kind: str
    """help, unknown, decline or ambiguous."""

    @property
    def prompt(self) -> tuple[Message, ...]:
        return (Message("user", self.text),)


def corpus(seed: int, num_chars: int) -> Iterator[str]:
    """Texts of together `num_chars` characters or a little more. No held-out question is among them."""
    return texts(seed, num_chars)


def demonstrations(seed: int, n: int) -> list[Demonstration]:
    """`n` answers to training questions by ordinary people of varied care, none twice."""
    rng = np.random.default_rng([seed, 2])
    seen: dict[tuple[str, str], None] = {}
    while len(seen) < n:
        question = draw_question(rng)
        seen[question.text, write_answer(rng, question.item, choose(rng))] = None
    return [Demonstration((Message("user", question),), answer) for question, answer in seen]


def prompts(split: Split, seed: int) -> list[WorldPrompt]:
    """All questions of a split, each once, shuffled by the seed."""
    chosen = [WorldPrompt(q.text, q.kind) for q in questions() if q.split == split]
    order = np.random.default_rng([seed, 3]).permutation(len(chosen))
    return [chosen[i] for i in order]


def write_world(out_dir: Path, seed: int, *, corpus_chars: int = 4_000_000, num_demonstrations: int = 4000) -> dict[str, Path]:
    """Write corpus.jsonl, demonstrations.jsonl, prompts-train.jsonl and prompts-heldout.jsonl; returns the paths by stem."""
    out_dir.mkdir(parents=True, exist_ok=True)
    rows: dict[str, Iterable[dict[str, Any]]] = {
        "corpus": ({"text": text} for text in corpus(seed, corpus_chars)),
        "demonstrations": (
            {"prompt": [_turn("user", d.prompt[0].content)], "completion": [_turn("assistant", d.response)]}  # type: ignore[union-attr]
            for d in demonstrations(seed, num_demonstrations)
        ),
        "prompts-train": ({"prompt": [_turn("user", p.text)], "kind": p.kind} for p in prompts("train", seed)),
        "prompts-heldout": ({"prompt": [_turn("user", p.text)], "kind": p.kind} for p in prompts("heldout", seed)),
    }
    paths = {name: out_dir / f"{name}.jsonl" for name in rows}
    for name, lines in rows.items():
        paths[name].write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8", newline="\n")
    return paths


def _turn(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}
