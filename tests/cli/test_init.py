"""`tutelage init`: what it reads, what it writes, what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub import errors as hub
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.small import write_rows
from tutelage.base.config import load_config
from tutelage.cli.init_config import RATES, ModelFacts, Rates, batch_size, microbatch, model_facts
from tutelage.cli.main import main
from tutelage.models.policy import open_policy, resolve_model
from tutelage.recipes.pipeline import PipelineConfig, plan, run_pipeline, standard_verbs
from tutelage.recipes.sft import build


@pytest.fixture
def init(monkeypatch, capsys, tmp_path):
    """Run init in an empty folder; returns (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["init", *map(str, arguments)])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def planned(file: Path | str, *overrides: str):
    cfg, _ = load_config(PipelineConfig, Path(file), overrides, env={})
    return cfg, {name: stage for name, (_, stage) in plan(cfg, standard_verbs(), Path("run")).items()}


def test_demonstrations_and_preferences_become_four_stages_that_run(init, small, tmp_path):
    code, out, err = init("--model", small.sft, "--data", small.demonstrations, "--data", small.pairs, "--no-forecast")
    assert code == 0, err
    assert "96 rows of layout prompt-completion, read as demonstrations" in err
    assert "96 rows of layout preference, read as judgements" in err
    assert out.splitlines()[-1].endswith("run aligned/align.yaml") and "tutelage chat aligned/run/ppo" in out
    cfg, stages = planned("aligned/align.yaml", *(f"stages.{name}.config.train={{max_steps: 2, epochs: null, batch_size: 4}}"
                                                   for name in ("sft", "reward")),
                          "stages.ppo.config.algo={num_iterations: 1, batch_size: 4, minibatch_size: 2}",
                          "stages.evaluate.config.max_prompts=4")
    assert list(stages) == ["sft", "reward", "ppo", "evaluate"]
    assert {stage.data.eval_frac for stage in stages.values()} == {0.2} and stages["ppo"].data.files == [str(small.pairs)]
    result = run_pipeline(cfg)
    assert set(result["stages"]["evaluate"]["models"]) == {"before", "ppo"}
    assert Path("aligned/run/ppo/latest").exists()


def test_adapters_learn_where_a_rank_is_asked_for_and_the_run_ends_with_an_aligned_adapter(init, small, tmp_path):
    code, out, err = init("--model", small.sft, "--data", small.demonstrations, "--data", small.pairs, "--lora", 2, "--no-forecast")
    assert code == 0, err
    cfg, stages = planned("aligned/align.yaml", *(f"stages.{name}.config.train={{max_steps: 2, epochs: null, batch_size: 4}}"
                                                   for name in ("sft", "reward")),
                          "stages.ppo.config.algo={num_iterations: 1, batch_size: 4, minibatch_size: 2}",
                          "stages.evaluate.config.max_prompts=4")
    assert [stages[name].lora.rank for name in ("sft", "reward", "ppo")] == [2, 2, 2]
    run_pipeline(cfg)
    assert json.loads((resolve_model("aligned/run/ppo") / "adapter_config.json").read_text())["r"] == 2


def test_models_of_over_a_hundred_million_parameters_learn_through_adapters_unless_told_otherwise(small, monkeypatch):
    assert model_facts(small.sft, None).rank == 0
    monkeypatch.setattr("tutelage.cli.init_config.count_parameters", lambda folder: 270_000_000)
    assert (model_facts(small.sft, None).rank, model_facts(small.sft, 0).rank, model_facts(small.sft, 64).rank) == (16, 0, 64)


def test_the_forecast_has_the_steps_that_the_config_asks_for(init, small):
    code, out, err = init("--model", small.sft, "--data", small.demonstrations, "--json")
    assert code == 0, err
    told = json.loads(out)
    _, stages = planned("aligned/align.yaml")
    assert list(stages) == list(told["forecast"]) == ["sft"] and told["forecast"]["sft"]["seconds"] > 0
    assert told["data"] == {str(small.demonstrations): {"layout": "prompt-completion", "read_as": "demonstrations", "rows": 96,
                                                        "left_out": 0}}
    assert stages["sft"].train.batch_size * 100 >= 96 * stages["sft"].train.epochs or stages["sft"].train.batch_size == 4


def test_preferences_alone_start_from_the_model_and_ask_the_prompts_given(init, small):
    assert init("--model", small.sft, "--data", small.pairs, "--data", small.prompts, "--out", "here", "--no-forecast")[0] == 0
    _, stages = planned("here/align.yaml")
    assert list(stages) == ["reward", "ppo", "evaluate"]
    assert stages["reward"].model.policy == stages["ppo"].model.policy == str(small.sft)
    assert stages["ppo"].data.files == stages["evaluate"].data.files == [str(small.prompts)]


def test_a_foreign_file_is_read_by_the_columns_that_are_named(init, small):
    rows = write_rows(Path("mine.jsonl"), [{"question": f"is {i} odd?", "reply": {"text": "yes"}} for i in range(30)])
    code, _, err = init("--model", small.sft, "--data", rows, "--no-forecast")
    assert code == 1 and "no known layout has the columns question, reply" in err and "--column prompt=context" in err
    code, _, err = init("--model", small.sft, "--data", rows, "--no-forecast", "--column", "prompt=question",
                        "--column", "response=reply.text")
    assert code == 0, err
    assert planned("aligned/align.yaml")[1]["sft"].data.columns == {"prompt": "question", "response": "reply.text"}


def test_a_file_that_dataset_info_describes_is_read_as_it_says_by_init_and_by_the_stage(init, small):
    write_rows(Path("mine.jsonl"), [{"q": f"is {i} odd?", "a": "yes"} for i in range(30)])
    Path("dataset_info.json").write_text(json.dumps({"mine": {"file_name": "mine.jsonl", "columns": {"prompt": "q", "response": "a"}}}))
    code, _, err = init("--model", small.sft, "--data", "mine.jsonl", "--no-forecast")
    assert code == 0 and "30 rows of layout alpaca, read as demonstrations" in err, err
    stage = planned("aligned/align.yaml", "stages.sft.config.train={max_steps: 1, epochs: null, batch_size: 2}")[1]["sft"]
    parts = build(stage, None)
    assert len(parts.train) + len(parts.held_out) == 30


def test_lines_of_blanks_are_no_prompts(init, small):
    Path("blank.txt").write_text("\n \n\n")
    code, _, err = init("--model", small.sft, "--data", small.pairs, "--data", "blank.txt", "--no-forecast")
    assert code == 1 and "error: blank.txt holds no prompts" in err and not Path("aligned").exists()


def test_two_files_of_different_layouts_become_sources_of_one_stage(init, small):
    talks = write_rows(Path("talks.jsonl"), [{"messages": [{"role": "user", "content": f"{i}?"}, {"role": "assistant", "content": "no"}]}
                                             for i in range(12)])
    assert init("--model", small.sft, "--data", small.demonstrations, "--data", talks, "--no-forecast")[0] == 0
    sources = planned("aligned/align.yaml")[1]["sft"].data.sources
    assert [(source.files, source.layout) for source in sources] == [([str(small.demonstrations)], "prompt-completion"),
                                                                     (["talks.jsonl"], "messages")]


@pytest.mark.parametrize(("rows", "said", "hint"), [
    ([{"prompt": "a?", "completion": "b", "chosen": "c", "rejected": "d"}] * 3, "the layout is ambiguous", "--layout "),
    ([{"prompt": "a?"}] * 3, "prompts only, so there is nothing to learn from", "add --data"),
    ([{"text": "once upon a time"}] * 3, "layout text holds nothing to learn answers from", "tutelage pretrain"),
    ([], "rows.jsonl is empty", ""),
    ([{"prompt": "a?", "completion": ""}] * 3, "completion is empty (3 such rows; 3 of 3 rejected)", "map the columns, for example: --")])
def test_data_it_cannot_use_is_one_line_and_nothing_is_written(init, small, rows, said, hint):
    code, out, err = init("--model", small.sft, "--data", write_rows(Path("rows.jsonl"), rows))
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code in (1, 2) and len(errors) == 1 and said in errors[0] and hint in err and not out and not Path("aligned").exists()


def test_what_is_there_already_is_not_written_over(init, small):
    Path("aligned").mkdir()
    Path("aligned/align.yaml").write_text("mine")
    code, _, err = init("--model", small.sft, "--data", small.demonstrations)
    assert code == 2 and "aligned/align.yaml is there already" in err and Path("aligned/align.yaml").read_text() == "mine"


def refusal(kind: type[Exception]) -> Exception:
    """An error of the hub without the HTTP response that its constructor wants."""
    return kind.__new__(kind)


@pytest.mark.parametrize(("model", "raised", "said"), [
    ("nowhere", None, "no model at nowhere"),
    ("some/model", hub.LocalEntryNotFoundError("offline"), "no folder some/model here, and the hub cannot be reached"),
    ("some/model", refusal(hub.RepositoryNotFoundError), "no model some/model: there is no such folder here"),
    ("some/model", TimeoutError("too slow\nmore"), "some/model could not be fetched from the hub: TimeoutError: too slow"),
    ("some/model", refusal(hub.GatedRepoError), "only to those who accepted its terms")])
def test_a_model_that_cannot_be_had_is_one_line(init, small, monkeypatch, model, raised, said):
    def snapshot_download(*args: object, **kwargs: object) -> str:
        raise raised

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    code, _, err = init("--model", model, "--data", small.demonstrations)
    assert code == 1 and len([line for line in err.splitlines() if line.startswith("error: ")]) == 1 and said in err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_one_line(init, small):
    code, _, err = init("--model", small.sft, "--data", small.demonstrations, "--device", "cuda")
    assert code == 2 and "device=cuda cannot be used: torch finds no GPU" in err and not Path("aligned").exists()


def test_a_hub_model_is_used_from_where_the_hub_put_it(init, small, monkeypatch):
    asked: list[tuple] = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *args, **kwargs: asked.append((args, kwargs)) or str(small.sft))
    assert init("--model", "some/model", "--data", small.demonstrations, "--no-forecast")[0] == 0
    assert asked[0][0] == ("some/model",) and not any(name.endswith((".py", ".bin")) for name in asked[0][1]["allow_patterns"])
    assert planned("aligned/align.yaml")[1]["sft"].model.policy == str(small.sft)


def test_sizes_come_from_the_headers_and_equal_the_opened_models(small):
    facts, policy = model_facts(small.sft, None), open_policy(small.sft)
    assert facts.parameters == sum(p.numel() for p in policy.parameters())                  # tied weights are one, on disk and here
    assert (facts.layers, facts.hidden, facts.vocab) == (2, 32, policy.config.vocab_size)


def test_rates_fall_with_size_and_are_the_published_ones_at_a_billion():
    def rates(parameters: int, rank: int = 0) -> Rates:
        return ModelFacts(Path("."), parameters, 1, 1, 1, rank).rates

    assert (rates(1_300_000_000).sft, rates(1_000_000_000).ppo) == (1e-5, 3e-6)
    assert (rates(1_300_000_000, 16).sft, rates(1_000_000_000, 4).ppo) == (1e-4, 3e-5)     # ten times, as "LoRA Without Regret" found
    for name in ("sft", "reward", "ppo", "critic"):
        assert sorted((getattr(row, name) for row in RATES), reverse=True) == [getattr(row, name) for row in RATES]


def test_a_known_model_gets_the_rows_that_fit():
    # Gemma 3 270M: 18 layers of 640, 262,144 tokens. 512 tokens keep 512 (68·18·640 + 16·262144) = 2.55 GB a row; in 16 GB there is room
    # for 0.7·16 − 0.04·268 = 0.48 GB: one row. In 64 GB: (44.8 − 10.7) / 2.55 = 13 rows, so 8.
    gemma = ModelFacts(Path("."), 268_000_000, 18, 640, 262_144)
    assert (microbatch(gemma, 512, 16e9), microbatch(gemma, 512, 64e9)) == (1, 8)
    # With adapters one base: (11.2 − 1.07) / 2.55 = 3.97 rows, so 2.
    assert microbatch(replace(gemma, rank=16), 512, 16e9) == 2


@settings(max_examples=50)
@given(st.integers(1, 10**10), st.integers(1, 10**4), st.floats(1e9, 1e12))
def test_a_microbatch_is_a_power_of_two_and_grows_with_memory(parameters, tokens, memory):
    facts = ModelFacts(Path("."), parameters, 4, 64, 1000)
    rows = microbatch(facts, tokens, memory)
    assert rows in (1, 2, 4, 8, 16, 32, 64) and microbatch(facts, tokens, 2 * memory) >= rows


@settings(max_examples=50)
@given(st.integers(1, 10**6), st.sampled_from([1, 3, 100]))
def test_batches_leave_a_hundred_steps_where_the_rows_allow_it(rows, epochs):
    size = batch_size(rows, epochs)
    assert size in (4, 8, 16, 32) and (size == 4 or rows * epochs / size >= 100)
