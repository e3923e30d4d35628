"""The Python door: what docs/python.md promises can be imported with the arguments it lists, and train runs what it is given."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import tutelage
from tests.small import environment, ppo_config, same_weights, sft_config
from tutelage.base.config import RunConfig
from tutelage.base.errors import ConfigError
from tutelage.recipes.pipeline import standard_verbs
from tutelage.recipes.sft import train_sft
from tutelage.rollout import InProcessEngine, Sampling, open_engine

PAGE = (Path(__file__).parents[1] / "docs" / "python.md").read_text(encoding="utf-8")
LISTED = dict(re.findall(r"^\| `(tutelage\.[\w.]+)` \| ?`?([^|`]*?)`? ?\|$", PAGE, re.M))
DESIGN = {  # the interface as it was designed: argument names, keyword-only ones after the star, in order
    "algos.kl.k1": "logprobs ref_logprobs", "algos.kl.k2": "logprobs ref_logprobs", "algos.kl.k3": "logprobs ref_logprobs",
    "algos.advantages.gae": "rewards values response_mask * gamma gae_lambda last_values",
    "algos.advantages.leave_one_out": "scores group_size", "algos.advantages.group_normalized": "scores group_size",
    "algos.advantages.kl_penalized_rewards": "scores logprobs ref_logprobs response_mask * kl_coef",
    "algos.advantages.whiten": "x mask shift_mean",
    "algos.losses.ppo_policy_loss": "logprobs old_logprobs advantages response_mask * cliprange num_tokens",
    "algos.losses.value_loss": "values old_values returns response_mask * cliprange_value num_tokens",
    "algos.losses.bradley_terry_loss": "chosen_scores rejected_scores * target margin weight",
    "algos.losses.ranking_loss": "scores ranks * weight ties", "algos.losses.binary_reward_loss": "scores labels * weight",
    "rollout.open_engine": "model engine", "rollout.Engine.sync": "self weights version", "rollout.Engine.close": "self",
    "rollout.Engine.generate": "self prompts sampling", "train": "config",
}


def found(name: str) -> Any:
    """What a dotted name of the table means, imported as a user would."""
    parts = name.split(".")
    if name == "tutelage.train":
        return tutelage.train.__call__                               # the room is callable
    for cut in range(len(parts) - 1, 0, -1):
        try:
            value: Any = import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            value = getattr(value, part)
        return value
    raise AssertionError(name)


def arguments(function: Any) -> str:
    """A signature without its annotations."""
    signature = inspect.signature(function)
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=signature.empty))


@pytest.mark.parametrize("name", LISTED)
def test_a_listed_name_is_there_and_takes_what_the_page_says(name):
    thing = found(name)
    assert LISTED[name] == (arguments(thing) if LISTED[name] else ""), name


@pytest.mark.parametrize("name", DESIGN)
def test_a_name_of_the_design_is_listed_and_its_first_arguments_are_the_designed_ones(name):
    assert f"tutelage.{name}" in LISTED
    given = list(inspect.signature(found(f"tutelage.{name}")).parameters.values())
    positional, _, keywords = (part.split() for part in DESIGN[name].partition("*"))
    assert [p.name for p in given if p.kind is p.POSITIONAL_OR_KEYWORD][: len(positional)] == positional
    assert [p.name for p in given if p.kind is p.KEYWORD_ONLY][: len(keywords)] == keywords


def test_every_name_of_the_package_is_listed_and_every_recipe_has_its_config_there():
    assert {f"tutelage.{name}" for name in tutelage.__all__} <= set(LISTED)
    assert {verb.config.__name__ for verb in standard_verbs().values()} <= set(tutelage.__all__) <= set(dir(tutelage))
    with pytest.raises(AttributeError, match="no attribute 'Trainer'"):
        _ = tutelage.Trainer


def test_importing_the_package_imports_nothing_heavy():
    heavy = "{'torch', 'transformers', 'pydantic', 'numpy', 'click'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", f"import sys, tutelage; dir(tutelage); tutelage.train; assert not {heavy}, {heavy}"],
                          capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr


def test_an_object_a_mapping_and_a_file_train_the_same_weights(small, tmp_path):
    few = {"train": {"max_steps": 2}, "eval": {"every_steps": 2}}
    configs = {name: sft_config(small, tmp_path / name, few) for name in ("here", "object", "mapping", "file")}
    expected = train_sft(configs["here"])
    values = configs["file"].model_dump(mode="json")
    file = tmp_path / "sft.json.yaml"
    file.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in {"verb": "sft", **values}.items()), encoding="utf-8")
    results = [tutelage.train(configs["object"]), tutelage.train({"verb": "sft", **configs["mapping"].model_dump()}), tutelage.train(file)]
    assert all(same_weights(result["model"], expected["model"]) for result in results)
    assert tutelage.train(tmp_path / "file" / "config.yaml", resume=True) == results[2]  # its verb is in its lineage; it is finished


def test_a_pipeline_runs_from_a_mapping_and_hands_what_it_is_given_on(small, tmp_path):
    stage = sft_config(small, tmp_path, {"train": {"max_steps": 1}}).model_dump(mode="json", exclude={"run_dir", "resume"})
    seen: list[str] = []
    result = tutelage.train({"verb": "run", "run_dir": tmp_path / "all", "stages": {"tuned": {"verb": "sft", "config": stage}}},
                            on_stage=lambda name, _: seen.append(name))
    assert seen == ["tuned"] and Path(result["stages"]["tuned"]["model"]).is_dir()


def test_a_reward_of_ones_own_goes_in_by_name(small, tmp_path):
    asked: list[str] = []

    def reward(prompts, completions):
        asked.extend(prompts)
        return [float(len(text)) for text in completions]

    config = ppo_config(small, tmp_path / "run", {"model": {"reward": None}, "algo": {"num_iterations": 1}})
    tutelage.train(config, reward=reward)
    assert len(asked) == config.algo.batch_size


class Other(RunConfig):
    """Of no verb."""


@pytest.mark.parametrize(("given", "said"), [
    ({"model": {"policy": "m"}}, "the mapping does not say which verb it is for"),
    ({"verb": ["sft"]}, r"verb: \['sft'\] is no verb"), ({"verb": "sfft"}, r"verb: 'sfft' is no verb to train with \(did you mean sft\?\)"),
    ({"verb": "sft", "model": {"policy": "m"}, "dta": {}}, "config: "),
    (Other(), "no verb takes a Other"), (3, "train was given int"), ("nowhere.yaml", "nowhere.yaml: no such file")])
def test_what_cannot_be_trained_is_one_line_with_a_remedy(given, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=said) as caught:
        tutelage.train(given)
    assert "\n" not in str(caught.value).split("config: dta")[0].rstrip()


def test_the_error_that_the_page_shows_is_the_one_that_comes(capsys):
    code, said = re.search(r"```python\n(try:.*?)```\n\n```\n(.*?)```", PAGE, re.S).groups()
    exec(code, {"tutelage": tutelage})
    assert capsys.readouterr().out == said


@pytest.mark.parametrize("lineage", ["{", "[]", '{"verb": 3}', "{}"])
def test_a_lineage_that_is_not_ours_says_no_verb(tmp_path, lineage):
    (tmp_path / "config.yaml").write_text("model: {policy: m}\n")
    (tmp_path / "lineage.json").write_text(lineage)
    with pytest.raises(ConfigError, match="does not say which verb|is no verb to train with"):
        tutelage.train(tmp_path / "config.yaml")


def test_a_file_without_a_verb_is_refused_and_the_command_line_refuses_the_wrong_one(tmp_path, capsys):
    from tutelage.cli.main import main

    file = tmp_path / "mine.yaml"
    file.write_text("model: {policy: m}\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml does not say which verb"):
        tutelage.train(file)
    file.write_text("verb: reward\nmodel: {policy: m}\n")
    with pytest.raises(SystemExit) as ended:
        main(["sft", str(file)])
    assert ended.value.code == 2 and "mine.yaml is for the verb reward, not sft" in capsys.readouterr().err


def test_an_engine_opens_from_a_folder_as_from_an_open_model(small):
    engine = open_engine(small.sft)
    assert isinstance(engine, InProcessEngine)
    prompts, sampling = [[1, 20, 30], [5, 6]], Sampling(max_tokens=5, seed=3)
    assert engine.generate(prompts, sampling) == open_engine(engine.model).generate(prompts, sampling)
    with pytest.raises(ConfigError, match="no engine 'vlm'"):
        open_engine(small.sft, "vlm")  # type: ignore[arg-type]
