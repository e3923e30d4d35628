"""The two stages only the embedded world has: making it, and its panel judging answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from tutelage.base.config import RunConfig
from tutelage.base.files import atomic_write_text
from tutelage.base.records import Message, Response
from tutelage.demo.panel import Panel
from tutelage.demo.world import write_world
from tutelage.train.run import Run


class WorldConfig(RunConfig):
    """Corpus, demonstrations and prompts of the embedded world, generated from the seed."""

    corpus_chars: int = Field(4_000_000, ge=10_000)
    """Characters of pretraining text."""
    num_demonstrations: int = Field(4000, ge=10)
    """Demonstrations, written by imagined people of varied care."""


class JudgeConfig(RunConfig):
    """The panel of simulated labelers judges sampled answers."""

    answers: str
    """answers.jsonl of a sample run."""
    judgements_per_item: int = Field(1, ge=1)
    """Different labelers per item."""


def make_world(cfg: WorldConfig) -> dict[str, Any]:
    """Write corpus.jsonl, demonstrations.jsonl, prompts-train.jsonl and prompts-heldout.jsonl."""
    with Run.open(cfg, "world") as run:
        if done := run.finished():
            return done
        files = write_world(run.folder, cfg.seed, corpus_chars=cfg.corpus_chars, num_demonstrations=cfg.num_demonstrations)
        return run.finish({"files": {name: str(path) for name, path in files.items()}})


def judge(cfg: JudgeConfig) -> dict[str, Any]:
    """Write judgements.jsonl: one row per item and labeler, in the shape all judgements share."""
    with Run.open(cfg, "judge", inputs={"answers": Path(cfg.answers)}) as run:
        if done := run.finished():
            return done
        panel = Panel(cfg.seed)
        rng = np.random.default_rng([cfg.seed, 4])
        lines = []
        for line in Path(cfg.answers).read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            prompt = tuple(Message(m["role"], m["content"]) for m in row["prompt"])
            responses = tuple(Response(r["text"], r["model"], r["sampling"]) for r in row["responses"])
            for labeler in rng.choice(panel.names, size=cfg.judgements_per_item, replace=False):
                lines.append(json.dumps(panel.judge(prompt, responses, str(labeler), rng).to_json(), ensure_ascii=False))
        atomic_write_text(run.folder / "judgements.jsonl", "\n".join(lines) + "\n")
        return run.finish({"file": str(run.folder / "judgements.jsonl"), "judgements": len(lines)})
