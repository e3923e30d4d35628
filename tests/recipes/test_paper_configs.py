"""Presets of published recipes: they load, plan, say where each number is from, and run on a tiny model."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import signal
from pathlib import Path

import pytest

from tests.small import write_rows
from tutelage.base.config import load_config, load_values
from tutelage.cli.main import main
from tutelage.recipes.pipeline import PipelineConfig, plan, run_pipeline, standard_verbs

PAPERS = sorted((Path(__file__).parents[2] / "configs" / "papers").glob("*.yaml"))
NUMBER = re.compile(r"[:\s\[{]-?\d")
TINY = {
    "sft": ["train.epochs=null", "train.max_steps=2", "train.batch_size=4", "model.context_tokens=null", "eval.max_rows=4",
            "optim.microbatch_size=2"],
    "reward": ["train.epochs=null", "train.max_steps=2", "train.batch_size=4", "model.context_tokens=null"],
    "ppo": ["algo.num_iterations=2", "algo.batch_size=8", "algo.minibatch_size=4", "algo.epochs=1", "rollout.max_tokens=6",
            "critic.warmup_iterations=0", "save.every_steps=null"],
}


def config(path: Path, root: Path, run: Path, *, tiny: bool) -> PipelineConfig:
    written, _ = load_config(PipelineConfig, path, [], {})
    overrides = [f"stages.{name}.config.{line}" for name, stage in written.stages.items() for line in TINY[stage.verb]] if tiny else []
    if tiny:
        overrides += [f"stages.{name}.config.ptx.{key}" for name, stage in written.stages.items() if "ptx" in stage.config
                      for key in ("batch_size=2", "context_tokens=32")]
    return load_config(PipelineConfig, path, [f"data.root={root}", f'run_dir="{run}"', *overrides], {})[0]


def test_the_recipes_the_docs_promise_are_there():
    assert [p.stem for p in PAPERS] == ["bai_2022", "instructgpt", "n_details_2023", "n_plus_details_2024", "secrets_2023", "stiennon_2020",
                                        "ziegler_2019"]


@pytest.mark.parametrize("path", PAPERS, ids=lambda p: p.stem)
def test_every_number_says_where_it_is_from(path):
    head, _, body = path.read_text(encoding="utf-8").partition("run_dir:")
    assert "What differs, and why" in head and "arXiv" in head + body or "Huang, Liu" in head
    lines = body.splitlines()
    for i, line in enumerate(lines[1:], 1):
        setting, _, comment = line.partition("#")
        if NUMBER.search(re.sub(r'"[^"]*"', "", setting)):
            mark = comment or lines[i + 1].strip() if i + 1 < len(lines) else comment
            assert re.search(r"\[(\w[\w. ]*|\?)\]|see above", mark), f"{path.name}: {line}"


@pytest.mark.parametrize("path", PAPERS, ids=lambda p: p.stem)
def test_every_stage_loads_and_asks_for_what_the_header_says(path, tmp_path, capsys):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        main(["run", str(path), f"data.root={tmp_path}", "--dry-run", "--json"])
    signal.signal(signal.SIGTERM, before)
    shown = json.loads(capsys.readouterr().out)
    assert not ended.value.code and {"ppo", "reward"} <= shown["data"]["stages"].keys()
    head = path.read_text(encoding="utf-8").partition("run_dir:")[0]
    plans = plan(config(path, Path("ROOT"), tmp_path / "run", tiny=False), standard_verbs(), tmp_path / "run")
    needed = {Path(f).name for _, cfg in plans.values() for f in [*cfg.data.all_files(), *getattr(getattr(cfg, "ptx", None), "files", [])]}
    if "include:" not in path.read_text(encoding="utf-8"):
        assert all(name in head for name in needed), needed


def small_root(small, root: Path) -> Path:
    """The files the recipes ask for, made of the small world's."""
    root.mkdir()
    shutil.copytree(small.sft, root / "base")
    pairs = [json.loads(line) for line in small.pairs.read_text().splitlines()]
    for name, source in {"demonstrations": small.demonstrations, "prompts": small.prompts, "pretraining": small.corpus}.items():
        shutil.copy(source, root / f"{name}.jsonl")
    for name in ("comparisons", "forum", "preferences"):
        shutil.copy(small.pairs, root / f"{name}.jsonl")
    write_rows(root / "rankings.jsonl", [
        {"prompt": row["prompt"], "responses": [{"text": row["chosen"]}, {"text": row["rejected"]}, {"text": "no"}, {"text": "nowhere"}],
         "kind": "ranking", "ranks": [0, 1, 1, 1]} for row in pairs])
    return root


@pytest.mark.parametrize("path", [pytest.param(p, marks=[] if p.stem == "n_details_2023" else [pytest.mark.slow]) for p in PAPERS],
                         ids=lambda p: p.stem)
def test_a_recipe_previews_and_runs_in_miniature(path, small, tmp_path):
    root = small_root(small, tmp_path / "data")
    cfg = config(path, root, tmp_path / "run", tiny=True)
    plans = plan(cfg, standard_verbs(), tmp_path / "run")
    done = run_pipeline(cfg)["stages"]
    assert list(done) == list(cfg.stages) and all("model" in result for result in done.values())
    for name, (verb, stage) in plans.items():                       # each stage's own --dry-run, on what the stages before it left
        fresh = load_values(type(stage), stage.model_dump() | {"run_dir": None, "resume": False}, where=name)
        preview = importlib.import_module(verb.run.__module__).preview(fresh)
        assert preview["forecast"]["steps"] == 2 and preview["data"]["samples"]
