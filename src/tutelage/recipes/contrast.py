"""Pairs without labels: what a person wrote at some point of a conversation against a turn that belongs elsewhere.

A reward model with few labels first learns from such pairs that an answer must fit what was said, then from people what they like.
Source: preference model pretraining, Askell et al. 2021 (arXiv:2112.00861, section 4); random turns as negatives, Gao et al. 2020
(DialogRPT, arXiv:2009.06978).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from pydantic import Field

from tutelage.base.config import RunConfig
from tutelage.base.errors import DataError
from tutelage.base.files import atomic_write_text
from tutelage.base.records import Judgement, Message, Response
from tutelage.text.readers import input_files, read_documents, read_sources
from tutelage.train.run import Run
from tutelage.train.sections import DataSection

Turn = tuple[int, int]
"""(conversation, position in it)."""


class ContrastConfig(RunConfig):
    """Conversations to pairs that need no labels, written as judgements."""

    data: DataSection
    turns_per_conversation: int = Field(2, ge=1)
    """Assistant turns drawn from each conversation; every one makes a pair."""
    max_chars: int | None = Field(None, ge=1)
    """Turns with more context than this are not drawn, characters; None draws any."""


def make_contrasts(cfg: ContrastConfig) -> dict[str, Any]:
    """Write judgements.jsonl. Returns path, file and the number of pairs. Raises: DataError when no conversation has a turn to contrast."""
    with Run.open(cfg, "contrast", inputs={"data": input_files(cfg.data.each(), cfg.data.held_out)}) as run:
        if done := run.finished():
            return done
        talks = [t for t in read_sources(read_documents, cfg.data.each()).rows if not isinstance(t, str)]
        lines = [json.dumps(pair.to_json(), ensure_ascii=False) for pair in contrasts(talks, cfg)]
        if not lines:
            raise DataError(f"no assistant turn to contrast in {', '.join(cfg.data.all_files())}",
                            hint="give conversations (layout messages)")
        atomic_write_text(run.folder / "judgements.jsonl", "\n".join(lines) + "\n")
        return run.finish({"file": str(run.folder / "judgements.jsonl"), "pairs": len(lines)})


def contrasts(talks: list[tuple[Message, ...]], cfg: ContrastConfig) -> Iterator[Judgement]:
    """Each drawn turn beside, in turn, one of another conversation that begins with the same word (right act, wrong words) and another
    one of the same conversation (right words, wrong time)."""
    rng = np.random.default_rng(cfg.seed)
    turns = {i: [j for j, m in enumerate(talk) if j and m.role == "assistant" and m.content.strip()] for i, talk in enumerate(talks)}
    alike: dict[str, list[Turn]] = {}
    for i, places in turns.items():
        for j in places:
            alike.setdefault(first_word(talks[i][j]), []).append((i, j))
    for i, places in turns.items():
        near = [j for j in places if cfg.max_chars is None or sum(len(m.content) for m in talks[i][:j]) <= cfg.max_chars]
        for number, j in enumerate(rng.permutation(near)[: cfg.turns_per_conversation]):
            wanted = talks[i][j].content
            elsewhere, here = alike[first_word(talks[i][j])], [(i, k) for k in places]
            pools = (elsewhere, here) if (i + number) % 2 else (here, elsewhere)
            other = next((found for pool in pools if (found := other_text(talks, pool, wanted, rng)) is not None), None)
            if other is not None:
                yield Judgement(talks[i][:j], (Response(wanted), Response(other)), "comparison", ranks=(0, 1), labeler="contrast")


def other_text(talks: list[tuple[Message, ...]], pool: list[Turn], wanted: str, rng: np.random.Generator, *, tries: int = 8) -> str | None:
    """A random turn of the pool that says something else; None when a few draws find none."""
    for place in rng.integers(len(pool), size=tries):
        i, j = pool[place]
        if talks[i][j].content.casefold().split() != wanted.casefold().split():
            return talks[i][j].content
    return None


def first_word(message: Message) -> str:
    return message.content.split(maxsplit=1)[0].casefold()


def preview(cfg: ContrastConfig) -> dict[str, Any]:
    """What --dry-run shows."""
    from tutelage.base.config import dump_config

    talks = [t for t in read_sources(read_documents, cfg.data.each()).rows if not isinstance(t, str)]
    pairs = list(contrasts(talks, cfg))
    return {"config": dump_config(cfg), "data": {"conversations": len(talks), "pairs": len(pairs),
                                                 "samples": [[r.text for r in pair.responses] for pair in pairs[:3]]}}
