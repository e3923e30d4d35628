from __future__ import annotations

import signal

import pytest

from tests.small import config
from tutelage.base.config import RunConfig
from tutelage.base.errors import ConfigError
from tutelage.recipes.pipeline import PipelineConfig, Verb, announce, fill, plan, preview, run_pipeline, standard_verbs
from tutelage.train.checkpoint import TrainState
from tutelage.train.run import Interrupted, Run


class ToyConfig(RunConfig):
    word: str = "none"
    size: int = 1
    source: str | None = None


class Kitchen:
    """A verb that writes its word, and remembers how often it worked."""

    def __init__(self) -> None:
        self.worked: list[str] = []

    def cook(self, cfg: ToyConfig) -> dict:
        with Run.open(cfg, "cook") as run:
            if done := run.finished():
                return done
            if cfg.word == "stop":
                for _ in run.steps(3, write_models=lambda folder: None, state=TrainState()):
                    signal.raise_signal(signal.SIGINT)
            if cfg.word == "burn":
                raise RuntimeError("burnt")
            self.worked.append(cfg.word)
            return run.finish({"word": cfg.word, "size": cfg.size, "source": cfg.source, "seed": cfg.seed})


@pytest.fixture
def kitchen():
    return Kitchen()


def run(kitchen, folder, stages, **over):
    cfg = config(PipelineConfig, folder, {"stages": stages} | over)
    return run_pipeline(cfg, {"cook": Verb(ToyConfig, kitchen.cook)})


def stage(**said) -> dict:
    return {"verb": "cook", "config": said}


def test_stages_run_in_order_each_in_its_folder_with_names_filled_in(kitchen, tmp_path):
    result = run(kitchen, tmp_path, {"one": stage(word="a"), "two": stage(word="b", source="${run}/one", size="${seed}")}, seed=7)
    assert kitchen.worked == ["a", "b"] and result["path"] == str(tmp_path)
    two = result["stages"]["two"]
    assert (two["source"], two["size"], two["seed"], two["path"]) == (f"{tmp_path}/one", 7, 7, f"{tmp_path}/two")


def test_finished_stages_are_not_run_again(kitchen, tmp_path):
    stages = {"one": stage(word="a"), "two": stage(word="burn")}
    with pytest.raises(RuntimeError):
        run(kitchen, tmp_path, stages)
    again = run(kitchen, tmp_path, stages | {"two": stage(word="b")})              # it left nothing, so it may be mended
    assert kitchen.worked == ["a", "b"] and again["stages"]["one"]["word"] == "a"


def test_a_finished_stage_with_another_config_is_refused_by_name(kitchen, tmp_path):
    run(kitchen, tmp_path, {"one": stage(word="a")})
    with pytest.raises(ConfigError, match=r'one was started with another config: word \("a" then, "z" now\)'):
        run(kitchen, tmp_path, {"one": stage(word="z")})


def test_a_pipeline_goes_on_under_another_name_of_its_folder_and_after_a_move(kitchen, tmp_path, monkeypatch):
    stages = {"one": stage(word="a"), "two": stage(word="b", source="${run}/one")}
    monkeypatch.chdir(tmp_path)
    run(kitchen, "pp", stages)
    for name in ("./pp", tmp_path / "pp"):
        run(kitchen, name, stages)
    (tmp_path / "pp").rename(tmp_path / "moved")
    run(kitchen, "moved", stages)
    assert kitchen.worked == ["a", "b"]
    with pytest.raises(ConfigError, match=r'source \("pp/one" then, "moved/two" now\)'):
        run(kitchen, "moved", stages | {"two": stage(word="b", source="${run}/two")})


@pytest.mark.parametrize(("second", "says"), [
    (stage(sise=3), r"stages.two.config: sise: .*did you mean size"), (stage(size="many"), r"stages.two.config: size"),
    ({"verb": "bake"}, r"stages.two.verb: no verb 'bake'"), ({"verb": "cok"}, r"no verb 'cok' \(did you mean cook\?\)"),
    (stage(word="${nowhere}/x"), r"\$\{nowhere\} is not known"),
    ({"verb": "cook", "like": "three"}, r"stages.two.like: no stage 'three'"),
    ({"verb": "cook", "like": "two"}, "two is like two, without end"),
    (stage(source="${run}/onn"), r"stages.two: no stage onn \(did you mean one\?\)"),
    (stage(source="${run}/two/x"), r"stages.two: \$\{run\}/two is not made before it")])
def test_a_fault_in_a_later_stage_is_found_before_the_first_runs(kitchen, tmp_path, second, says):
    with pytest.raises(ConfigError, match=says):
        run(kitchen, tmp_path / "run", {"one": stage(word="a"), "two": second})
    assert kitchen.worked == [] and not (tmp_path / "run").exists()


def test_a_stage_may_be_like_another_that_is_like_another(kitchen, tmp_path):
    stages = {"one": stage(word="a", size=1), "two": {"verb": "cook", "like": "one", "config": {"size": 2}},
              "three": {"verb": "cook", "like": "two", "config": {"source": "s"}}}
    result = run(kitchen, tmp_path, stages)["stages"]
    assert [(r["word"], r["size"], r["source"]) for r in result.values()] == [("a", 1, None), ("a", 2, None), ("a", 2, "s")]


def test_a_name_alone_keeps_its_type_and_one_in_text_becomes_text():
    assert fill({"a": ["${seed}", "s-${seed}"]}, {"seed": 3}) == {"a": [3, "s-3"]}
    with pytest.raises(ConfigError, match="is not known") as error:
        fill("x/${sed}", {"seed": 3})
    assert "${seed}" in error.value.hint


def test_an_interrupted_pipeline_says_that_the_whole_is_run_again(kitchen, tmp_path):
    with pytest.raises(Interrupted) as error:
        run(kitchen, tmp_path, {"one": stage(word="stop")})
    assert error.value.exit_code == 130 and "run the same command again" in error.value.hint


def test_every_standard_verb_takes_a_config_and_runs_a_function():
    for name, verb in standard_verbs().items():
        assert issubclass(verb.config, RunConfig) and callable(verb.run), name


def test_the_list_at_the_start_gives_only_times_that_the_file_gives(caplog):
    told = {"one": stage() | {"expect_seconds": 50}, "two": stage() | {"expect_seconds": 19.6}, "three": stage()}
    with caplog.at_level("INFO"):
        announce(PipelineConfig(stages=told))
    assert [line.split() for line in caplog.messages] == [
        "one cook about 50 s, done at about 0:50".split(), "two cook about 20 s, done at about 1:09".split(), ["three", "cook"]]


@pytest.mark.parametrize(("seconds", "forecast"), [((5, 7), 12), ((5, None), None)])
def test_the_forecast_of_a_pipeline_is_none_rather_than_made_up(tmp_path, seconds, forecast):
    stages = {f"s{i}": {"verb": "sft", "config": {"model": {"policy": "m"}, "data": {"files": "f"}}, "expect_seconds": s}
              for i, s in enumerate(seconds)}
    assert preview(PipelineConfig(run_dir=tmp_path, stages=stages))["forecast"]["seconds"] == forecast


def test_data_that_no_stage_makes_are_asked_for_before_the_first_runs(tmp_path, caplog):
    (tmp_path / "here.jsonl").write_text("{}")
    config = {"model": {"policy": "m"}, "data": {"files": [str(tmp_path / "*.jsonl"), "${run}/before/made.jsonl", "nope.jsonl"]}}
    stages = {"before": {"verb": "sft", "config": {"model": {"policy": "m"}, "data": {"files": str(tmp_path / "here.jsonl")}}},
              "after": {"verb": "sft", "config": config}}
    cfg = PipelineConfig(run_dir=tmp_path / "run", stages=stages)
    with pytest.raises(ConfigError, match="^stages.after: no file nope.jsonl$"):
        run_pipeline(cfg)
    assert not (tmp_path / "run").exists()
    preview(cfg)
    assert "no file nope.jsonl; a run would stop here" in caplog.text


def test_a_stage_that_names_its_device_keeps_it_and_the_others_have_the_pipelines(kitchen, tmp_path):
    cfg = config(PipelineConfig, tmp_path, {"stages": {"one": stage(device="cuda:1"), "two": stage()}})
    plans = plan(cfg, {"cook": Verb(ToyConfig, kitchen.cook)}, tmp_path)
    assert [stage_cfg.device for _, stage_cfg in plans.values()] == ["cuda:1", "cpu"]
