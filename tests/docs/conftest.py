"""A whole circle small enough for a test: every verb once, on the embedded world, with every optional metric switched on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tutelage.base.config import load_values
from tutelage.cli.demo_stages import JudgeConfig, WorldConfig, judge, make_world
from tutelage.demo import gold
from tutelage.demo.panel import Panel
from tutelage.recipes import evaluate, ppo, pretrain, reward_model, sample, sft


@dataclass(frozen=True)
class Circle:
    """Verb -> run directory, and what each returned."""

    runs: dict[str, Path]
    results: dict[str, dict[str, Any]]

    def metrics(self, verb: str) -> set[str]:
        """Names logged by a verb in any row."""
        rows = [json.loads(line) for line in (self.runs[verb] / "metrics.jsonl").read_text().splitlines()]
        return {name for row in rows for name in row} - {"step", "seconds"}

    def report(self) -> dict[str, Any]:
        return json.loads((self.runs["evaluate"] / "report" / "report.json").read_text())


@pytest.fixture(scope="session")
def circle(tmp_path_factory) -> Circle:
    root = tmp_path_factory.mktemp("circle")
    runs, results = {}, {}

    def run(verb: str, cls: type, function: Any, **values: Any) -> None:
        runs[verb] = root / verb
        results[verb] = function(load_values(cls, values | {"run_dir": str(root / verb)}, where=verb))

    def files(verb: str, name: str, **more: Any) -> dict[str, Any]:
        return {"files": [str(root / verb / name)]} | more

    def steps(n: int, size: int = 4) -> dict[str, Any]:
        return {"max_steps": n, "epochs": None, "batch_size": size}

    run("world", WorldConfig, make_world, corpus_chars=20_000, num_demonstrations=60)
    run("pretrain", pretrain.PretrainConfig, pretrain.pretrain, data=files("world", "corpus.jsonl", eval_frac=0.1), train=steps(3),
        model={"vocab_size": 400}, eval={"max_rows": 2, "sample_tokens": 2})
    (root / "odd.jsonl").write_text("\n".join(json.dumps({"number": i, "odd": i % 2 == 1}) for i in range(6)))
    tasks = [files("world", "demonstrations.jsonl", task="talk"),
             {"files": [str(root / "odd.jsonl")], "task": "odd", "held_out": True, "words": {"odd": {"true": "Yes.", "false": "No."}},
              "templates": [{"prompt": "Is {number} odd?", "response": "{odd}"}]}]
    run("sft", sft.SFTConfig, sft.train_sft, data={"sources": tasks, "eval_frac": 0.2}, train=steps(3),
        model={"policy": str(root / "pretrain")}, eval={"every_steps": 2, "max_rows": 4})
    run("sample", sample.SampleConfig, sample.sample_answers, data=files("world", "prompts-train.jsonl", limit=24),
        model={"policy": str(root / "sft")}, rollout={"max_tokens": 8})
    run("judge", JudgeConfig, judge, answers=str(root / "sample" / "answers.jsonl"))
    rated = [{"prompt": f"Is {i} good?", "completion": "Yes." * (1 + i % 3), "label": i % 2 == 0} for i in range(24)]
    (root / "rated.jsonl").write_text("\n".join(map(json.dumps, rated)))
    judged = {"sources": [files("judge", "judgements.jsonl"), {"files": [str(root / "rated.jsonl")]}], "eval_frac": 0.4}
    run("reward", reward_model.RewardConfig, reward_model.train_reward_model, data=judged, train=steps(3), eval={"every_steps": 2},
        model={"policy": str(root / "sft")})
    run("ppo", ppo.PPOConfig, ppo.train_ppo, data=files("world", "prompts-train.jsonl", limit=24), rollout={"max_tokens": 8},
        model={"policy": str(root / "sft"), "reward": str(root / "reward")},
        algo={"num_iterations": 2, "batch_size": 4, "minibatch_size": 2, "epochs": 1},
        ptx={"files": [str(root / "world" / "corpus.jsonl")], "coef": 1.0, "batch_size": 1})
    config = evaluate.EvaluateConfig
    run("evaluate", config, lambda cfg: evaluate.evaluate(cfg, gold=gold.score, preference=Panel(0).outcomes),
        models={"base": {"path": str(root / "pretrain"), "plain": True}, "sft": {"path": str(root / "sft")},
                "best_of_n": {"path": str(root / "sft"), "best_of": 2}, "ppo": {"path": str(root / "ppo")}},
        reward=str(root / "reward"), data=files("world", "prompts-heldout.jsonl"), all_prompts=True, max_prompts=4,
        rollout={"max_tokens": 8}, text_files=[str(root / "world" / "corpus.jsonl")],
        dialogues=files("world", "demonstrations.jsonl", eval_frac=0.3), max_dialogues=3,
        second_opinion={"files": [str(root / "rated.jsonl")]},
        frontier={"run": str(root / "ppo"), "max_prompts": 2}, curves={"ppo": str(root / "ppo")})
    return Circle(runs, results)
