"""The coffee bar's pipeline: plans without data; with the data set it runs whole in miniature, and no conversation lies on two sides."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tutelage.base.config import load_config
from tutelage.base.errors import ConfigError
from tutelage.base.split import split_key, split_of
from tutelage.recipes.pipeline import PipelineConfig, plan, run_pipeline, standard_verbs
from tutelage.text.readers import read_demonstrations, read_documents, read_judgements, read_prompts, read_sources

CONFIG = Path(__file__).parents[2] / "configs" / "coffee.yaml"
READERS = {"pretrain": read_documents, "contrast": read_documents, "sft": read_demonstrations,
           "reward": read_judgements, "ppo": read_prompts, "evaluate": read_prompts}
SMALL = {
    "pretrain": ["model.vocab_size=512", "train.max_steps=3", "train.batch_size=2", "data.limit=120", "eval.max_rows=4",
                 "eval.sample_tokens=4"],
    "sft": ["train.epochs=null", "train.max_steps=2", "train.batch_size=2", "data.limit=60", "eval.max_rows=4"],
    "contrast": ["data.limit=120"],
    "fitting": ["train.max_steps=2", "train.batch_size=4"],
    "reward": ["train.epochs=null", "train.max_steps=2", "train.batch_size=4", "eval.every_steps=null", "data.limit=150"],
    "ppo": ["algo.num_iterations=2", "algo.batch_size=8", "algo.minibatch_size=4", "algo.epochs=1", "rollout.max_tokens=8",
            "data.limit=200", "save.every_steps=null"],
    "evaluate": ["max_prompts=6", "rollout.max_tokens=8", "models.best_of_n.best_of=2", "max_dialogues=4", "dialogues.limit=60",
                 "data.limit=300", "frontier.max_prompts=2"]}


def config(root: Path, *overrides: str) -> PipelineConfig:
    return load_config(PipelineConfig, CONFIG, [f"data.root={root}", *overrides], {})[0]


def test_the_config_plans_without_the_data(tmp_path):
    plans = plan(config(tmp_path / "nowhere"), standard_verbs(), tmp_path)
    assert list(plans) == ["pretrain", "sft", "contrast", "fitting", "reward", "ppo", "evaluate"]
    splits = {(c.data.eval_frac, c.data.split_by, c.data.split_seed) for _, c in plans.values()} | {
        (d.eval_frac, d.split_by, d.split_seed) for d in [plans["evaluate"][1].dialogues]}
    assert len(splits) == 1 and next(iter(splits))[1] == "first_turn"
    assert sum(s.expect_seconds for s in config(tmp_path).stages.values()) <= 20 * 60


def test_without_the_data_the_run_stops_in_one_line_that_names_the_file(tmp_path):
    with pytest.raises(ConfigError, match="^stages.pretrain: no file .*coffee_orders/dialogues.jsonl.gz$") as caught:
        run_pipeline(config(tmp_path / "nowhere", f'run_dir="{tmp_path / "run"}"'))
    assert caught.value.exit_code == 2 and "data.root=FOLDER" in str(caught.value.hint)
    assert not (tmp_path / "run").exists()


def test_no_conversation_lies_on_two_sides_of_any_stage(data_root, tmp_path):
    plans = plan(config(data_root), standard_verbs(), tmp_path)
    sides: dict[str, set[str]] = {"train": set(), "eval": set()}
    for stage, (_, cfg) in plans.items():
        if stage == "fitting":                                      # reads what contrast writes
            continue
        data, seen = cfg.data, {"train": 0, "eval": 0}
        for row in read_sources(READERS[stage], data.each()).rows:
            prompt = getattr(row, "prompt", row)
            side = split_of(prompt, eval_frac=data.eval_frac, seed=data.split_seed, by=data.split_by)
            seen[side] += 1
            sides[side].add(split_key(next(m for m in prompt if m.role == "user").content) if any(m.role == "user" for m in prompt) else "")
        assert seen["eval"] > 100
    assert not sides["train"] & sides["eval"] and len(sides["eval"]) > 500


def test_the_whole_pipeline_runs_in_miniature(data_root, tmp_path):
    overrides = [f"stages.{stage}.config.{line}" for stage, lines in SMALL.items() for line in lines]
    run = tmp_path / "run"
    result = run_pipeline(config(data_root, f'run_dir="{run}"', *overrides))
    assert list(result["stages"]) == list(SMALL)
    report = json.loads((run / "evaluate" / "report" / "report.json").read_text(encoding="utf-8"))
    assert {"base", "sft", "best_of_n", "ppo"} == report["models"].keys()
    panel = report["reward_model"]
    assert panel["accuracy"]["n"] > 2 and panel["labels"]["auc"]["n"] > 5 and 0.5 < panel["labels"]["positive_frac"] < 1
    assert {"mean", "low", "high", "n"} <= panel["above_bag_of_words"].keys() and "above_bag_of_words" in panel["labels"]
    row = report["models"]["ppo"]
    assert row["win_rate_by"] == "proxy" and row["gold"] is None
    assert 1 < row["perplexity"]["mean"] <= 2 * 512 and row["dialogue_bits_per_byte"]["mean"] > 0
    greeting = json.loads((run / "evaluate" / "result.json").read_text(encoding="utf-8"))
    assert greeting["models"]["ppo"]["win_rate_vs_sft"]["n"] == 6
