"""The three runs on real input: plans without data; with the data sets they run whole in miniature and nothing held out is trained on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tutelage.base.config import load_config
from tutelage.base.split import split_key, split_sides, write_keys
from tutelage.evals.folds import guesses, judged
from tutelage.recipes.cross_validate import CrossValidationConfig, cross_validate, deal, filled_judgements, plans_of
from tutelage.recipes.evaluate import word_judge
from tutelage.recipes.pipeline import PipelineConfig, plan, run_pipeline, standard_verbs
from tutelage.text.readers import read_demonstrations, read_documents, read_judgements, read_prompts, read_sources

CONFIGS = Path(__file__).parents[2] / "configs"
READERS = {"pretrain": read_documents, "sft": read_demonstrations, "reward": read_judgements, "ppo": read_prompts,
           "ppo_dear": read_prompts, "evaluate": read_prompts}
SHORT = {
    "pretrain": ["model.vocab_size=512", "train.max_steps=3", "train.batch_size=2", "data.limit=60", "eval.max_rows=4",
                 "eval.sample_tokens=4"],
    "sft": ["train.epochs=null", "train.max_steps=2", "train.batch_size=2", "data.limit=60", "eval.max_rows=4"],
    "reward": ["train.epochs=null", "train.max_steps=2", "train.batch_size=4", "eval.every_steps=null", "data.limit=150"],
    "ppo": ["algo.num_iterations=2", "algo.batch_size=8", "algo.minibatch_size=4", "algo.epochs=1", "rollout.max_tokens=8",
            "data.limit=200", "save.every_steps=null"],
    "evaluate": ["max_prompts=6", "rollout.max_tokens=8", "models.best_of_n.best_of=2", "max_dialogues=4", "dialogues.limit=60",
                 "data.limit=200", "frontier.max_prompts=2"]}


def pipeline(name: str, root: Path, *overrides: str) -> PipelineConfig:
    return load_config(PipelineConfig, CONFIGS / f"{name}.yaml", [f"data.root={root}", *overrides], {})[0]


def arguments(root: Path, *overrides: str) -> CrossValidationConfig:
    return load_config(CrossValidationConfig, CONFIGS / "arguments.yaml", [f"data.root={root}", *overrides], {})[0]


@pytest.mark.parametrize(("name", "by"), [("film", "opening"), ("harmless", "first_turn")])
def test_every_stage_of_a_pipeline_holds_out_by_one_rule(tmp_path, name, by):
    cfg = pipeline(name, tmp_path / "nowhere")
    plans = plan(cfg, standard_verbs(), tmp_path)
    assert {(c.data.eval_frac, c.data.split_by, c.data.split_seed) for _, c in plans.values()} == {(0.2, by, 0)}
    assert sum(stage.expect_seconds for stage in cfg.stages.values()) <= 20 * 60


@pytest.mark.parametrize("name", ["film", "harmless"])
def test_no_prompt_lies_on_two_sides_of_any_stage(data_root, tmp_path, name):
    plans = plan(pipeline(name, data_root), standard_verbs(), tmp_path)
    sides: dict[str, set[str]] = {"train": set(), "eval": set()}
    for stage, (_, cfg) in plans.items():
        prompts = [getattr(row, "prompt", row) for row in read_sources(READERS[stage], cfg.data.each()).rows]
        for prompt, side in zip(prompts, split_sides(prompts, **cfg.data.split_options(), keep_near=True), strict=True):
            sides[side].add(split_key(prompt, by=cfg.data.split_by))
    assert not sides["train"] & sides["eval"] and len(sides["eval"]) > 300


@pytest.mark.slow
def test_the_second_opinion_on_films_shares_hardly_a_text_with_the_reward_model_and_can_tell_good_from_bad(data_root, tmp_path):
    _, cfg = plan(pipeline("film", data_root), standard_verbs(), tmp_path)["evaluate"]
    _, taught = plan(pipeline("film", data_root), standard_verbs(), tmp_path)["reward"]
    reviews = read_sources(read_judgements, cfg.second_opinion.each()).rows
    rated = read_sources(read_judgements, taught.data.each()).rows
    texts = {f"{j.prompt}{j.responses[0].text}".strip() for j in rated}
    lines = {line.strip() for j in reviews for line in f"{j.prompt}{j.responses[0].text}".split("\n")}
    assert len(texts & lines) < 0.001 * len(texts)                   # half a dozen like "terrible ."
    scores = word_judge(cfg).score([j.responses[0].text for j in rated])
    labels = np.array([j.label for j in rated])
    assert np.mean((scores > np.median(scores)) == labels) > 0.62


@pytest.mark.slow
@pytest.mark.parametrize("name", ["film", "harmless"])
def test_the_pipelines_run_in_miniature(data_root, tmp_path, name):
    cfg = pipeline(name, data_root, f'run_dir="{tmp_path / "run"}"')
    short = [f"stages.{stage}.config.{line}" for stage in cfg.stages for line in SHORT.get(stage, ())]
    result = run_pipeline(pipeline(name, data_root, f'run_dir="{tmp_path / "run"}"', *short))
    assert list(result["stages"]) == list(cfg.stages)
    report = json.loads((tmp_path / "run" / "evaluate" / "report" / "report.json").read_text(encoding="utf-8"))
    assert report["models"].keys() == cfg.stages["evaluate"].config["models"].keys()
    assert (report["models"]["ppo"]["win_rate_by_words"] is not None) == (name == "film")


def test_folds_of_arguments_keep_topics_apart_and_the_guesses_are_the_published_yardsticks(data_root):
    cfg = arguments(data_root)
    dealt = deal(cfg, filled_judgements(cfg))
    pairs = dealt.pairs
    assert len(pairs.keys) == 10117 and len(set(pairs.keys)) == 14 and pairs.near.sum() == 1961
    assert all(len({f for f, k in zip(pairs.folds, pairs.keys, strict=True) if k == key}) == 1 for key in set(pairs.keys))
    assert 0.8 < np.nanmean(pairs.shares) < 0.84                     # four votes in five agree with the verdict
    length = judged(pairs, np.array([len(a) - len(b) for a, b in zip(pairs.chosen, pairs.rejected, strict=True)], dtype=float))
    assert length["accuracy"]["mean"] == pytest.approx(0.771, abs=5e-4) and length["near"]["mean"] == pytest.approx(0.583, abs=2e-3)


@pytest.mark.slow
def test_words_on_folds_of_arguments_reach_the_known_accuracy(data_root):
    cfg = arguments(data_root)
    pairs = deal(cfg, filled_judgements(cfg)).pairs
    found = {name: judged(pairs, margins) for name, margins in guesses(pairs).items()}
    assert {name: round(judge["accuracy"]["mean"], 2) for name, judge in found.items()} == {
        "length": 0.77, "bag_of_words": 0.73, "words_and_length": 0.74}                                   # the data set's yardsticks


def test_no_stage_of_a_fold_reads_an_argument_on_a_held_out_topic(data_root, tmp_path):
    cfg = arguments(data_root)
    section = filled_judgements(cfg)
    dealt, (before, folds) = deal(cfg, section), plans_of(cfg, tmp_path, section)
    of_topic = {key: int(fold) for key, fold in zip(dealt.pairs.keys, dealt.pairs.folds, strict=True)}
    some = {name: stage.data for name, (_, stage) in folds[0].items()}
    topics = {name: list({row.prompt for row in read_sources(READERS[name], some[stage].each()).rows})
              for name, stage in (("sft", "sft"), ("reward", "soft"))}
    for fold in range(cfg.folds):
        (tmp_path / f"fold-{fold}").mkdir()
        write_keys(tmp_path / f"fold-{fold}" / "held_out.txt", [key for key, f in of_topic.items() if f == fold])
        for name, (_, stage) in folds[fold].items():
            prompts = topics["sft" if name == "sft" else "reward"]
            assert stage.data.files == some["sft" if name == "sft" else "soft"].files
            sides = split_sides(prompts, **stage.data.side_options())
            trained = {split_key(p) for p, side in zip(prompts, sides, strict=True) if side == "train"}
            assert trained == {key for key, f in of_topic.items() if f != fold}
    _, pretrain = before["pretrain"]
    assert not any("convincing" in file for file in pretrain.data.all_files())


@pytest.mark.slow
def test_the_cross_validation_runs_in_miniature(data_root, tmp_path):
    short = [f"before.pretrain.config.{line}" for line in SHORT["pretrain"]] + [
        "before.pretrain.config.model.context_tokens=640",           # few tokens make long texts
        "stages.sft.config.train={epochs: null, max_steps: 1, batch_size: 2}", "stages.soft.config.train.max_steps=1",
        "stages.soft.config.train.epochs=null", "members=1", "folds=2"]
    result = cross_validate(arguments(data_root, f'run_dir="{tmp_path / "run"}"', *short))
    assert result["models"].keys() == {"soft", "majority"} and result["pairs"] == 10117
