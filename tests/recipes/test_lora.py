"""LoRA through the recipes: sft and reward train adapters only, and what they leave can be opened by anybody."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from tests.recipes.test_resume import Killed, kill_at, last_checkpoint, rows
from tests.small import reward_config, same_weights, sft_config
from tutelage.base.errors import ArtifactError, ConfigError, MissingExtraError
from tutelage.models.heads import ScoredModel
from tutelage.models.policy import open_policy, resolve_model, save_policy, token_logprobs
from tutelage.models.presets import new_policy
from tutelage.recipes.export import export_model
from tutelage.recipes.reward_model import train_reward_model
from tutelage.recipes.sft import train_sft
from tutelage.text.tokenizer import open_tokenizer

LORA = {"lora": {"rank": 4, "alpha": 8.0}}


@pytest.fixture(scope="module")
def trained(small, tmp_path_factory) -> dict[str, Path]:
    """An SFT adapter on the base, and a reward adapter that goes on from it."""
    root = tmp_path_factory.mktemp("lora")
    train_sft(sft_config(small, root / "sft", LORA, {"model": {"policy": str(small.sft)}}))
    train_reward_model(reward_config(small, root / "reward", LORA, {"model": {"policy": str(root / "sft")}}))
    return {"sft": root / "sft", "reward": root / "reward"}


def rows_of(small) -> tuple[torch.Tensor, torch.Tensor]:
    tokens = torch.tensor(open_tokenizer(small.sft)("where is cat 3? in the barn")["input_ids"])[None]
    return tokens, torch.ones_like(tokens, dtype=torch.bool)


def test_what_a_run_leaves_is_small_and_found_by_its_folder(small, trained):
    adapter = resolve_model(trained["sft"])
    assert adapter.parent.parent.name.startswith("step-") and adapter.parts[-2:] == ("adapters", "policy")
    names = load_file(adapter / "adapter_model.safetensors")
    assert names and all(".lora_" in name for name in names)
    reward = load_file(resolve_model(trained["reward"]) / "adapter_model.safetensors")
    assert {name for name in reward if ".lora_" not in name} == {"base_model.model.score.weight"}
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == str(small.sft)
    assert not (adapter.parent.parent / "model").exists()


@pytest.mark.parametrize("kind", ["sft", "reward"])
def test_exported_and_unmerged_models_agree(small, trained, tmp_path, kind):
    done = export_model(trained[kind], tmp_path / "out")
    assert done["merged"] and not (tmp_path / "out" / "adapter_config.json").exists()
    tokens, mask = rows_of(small)
    with torch.no_grad():
        if kind == "sft":
            one, other = (token_logprobs(open_policy(f), tokens, mask) for f in (trained[kind], tmp_path / "out"))
        else:
            one, other = (ScoredModel.open(f).score(tokens, mask) for f in (trained[kind], tmp_path / "out"))
    assert_close(one, other, rtol=1e-5, atol=1e-5)
    with pytest.raises(ConfigError, match="is there already"):
        export_model(trained[kind], tmp_path / "out")


def test_settings_that_do_not_go_together_say_so(small, trained, tmp_path):
    for name, over, says in [("b", {"lora": {"rank": 2}, "model": {"policy": str(trained["sft"])}}, "adapter of rank 4, and lora.rank=2"),
                             ("c", {"lora": {"rank": 0}, "memory": {"base": "4bit"}}, "needs a base that stays as it is")]:
        with pytest.raises(ConfigError, match=says):
            train_sft(sft_config(small, tmp_path / name, LORA, over))


def test_without_bitsandbytes_its_settings_end_with_exit_code_4(small, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes", None)
    for name, over in [("a", {"memory": {"optimizer": "8bit"}}), ("b", LORA | {"memory": {"base": "4bit"}})]:
        with pytest.raises(MissingExtraError) as error:
            train_sft(sft_config(small, tmp_path / name, over))
        assert error.value.exit_code == 4


@pytest.mark.parametrize("recipe", ["sft", "reward"])
def test_a_resumed_run_with_adapters_ends_with_the_weights_and_metrics_of_an_undisturbed_one(small, trained, tmp_path, monkeypatch, recipe):
    train, make, over = {
        "sft": (train_sft, sft_config, {"eval": {"every_steps": 2}, "save": {"every_steps": 2}}),
        "reward": (train_reward_model, reward_config, {"model": {"policy": str(trained["sft"])}}),
    }[recipe]
    train(make(small, tmp_path / "undisturbed", LORA, over))
    last = len(rows(tmp_path / "undisturbed")) - 1
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(last, patch)
        train(make(small, tmp_path / "killed", LORA, over))
    train(make(small, tmp_path / "killed", LORA, over, {"resume": True}))
    assert same_weights(last_checkpoint(tmp_path / "killed"), last_checkpoint(tmp_path / "undisturbed"))
    assert rows(tmp_path / "killed") == rows(tmp_path / "undisturbed") and len(rows(tmp_path / "killed")) == last + 1


@pytest.mark.parametrize(("train", "make", "base"), [(train_sft, sft_config, "8bit"), (train_sft, sft_config, "4bit"),
                                                     (train_reward_model, reward_config, "4bit")])
def test_with_bitsandbytes_a_quantised_base_and_8_bit_moments_resume_to_the_same_weights(small, tmp_path, monkeypatch, train, make, base):
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is an extra: pip install tutelage[quantized]")
    tokenizer = open_tokenizer(small.sft)
    save_policy(new_policy("micro", tokenizer, context_tokens=48, seed=0), tokenizer, tmp_path / "wide")
    over = {"model": {"policy": str(tmp_path / "wide")}, "lora": {"rank": 64}, "memory": {"optimizer": "8bit", "base": base},
            "save": {"every_steps": 2}}
    train(make(small, tmp_path / "undisturbed", over))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(5, patch)
        train(make(small, tmp_path / "killed", over))
    done = train(make(small, tmp_path / "killed", over, {"resume": True}))
    assert same_weights(last_checkpoint(tmp_path / "killed"), last_checkpoint(tmp_path / "undisturbed"))
    moments = load_file(Path(done["model"]).parent.parent / "train" / "state.safetensors")
    assert torch.uint8 in {t.dtype for name, t in moments.items() if name.endswith("state1")}


def test_widths_that_bitsandbytes_cannot_pack_are_one_line(small, tmp_path):
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is an extra: pip install tutelage[quantized]")
    with pytest.raises(ArtifactError, match="bitsandbytes cannot compute .* in 4bit: ") as error:
        train_sft(sft_config(small, tmp_path / "run", LORA, {"memory": {"base": "4bit"}}))       # 32 wide
    assert "multiples of 64" in str(error.value.hint)


@pytest.mark.parametrize("lora", [{}, LORA], ids=["whole", "lora"])
@pytest.mark.parametrize("memory", [{"precision": "bf16"}, {"checkpointing": True}, {"precision": "bf16", "checkpointing": True}],
                         ids=["bf16", "checkpointing", "both"])
def test_every_recipe_runs_with_every_memory_setting(small, tmp_path, lora, memory):
    over = (lora, {"memory": memory, "optim": {"microbatch_size": 3}})
    sft = train_sft(sft_config(small, tmp_path / "sft", *over, {"model": {"policy": str(small.sft)}}))
    reward = train_reward_model(reward_config(small, tmp_path / "reward", *over, {"model": {"policy": sft["model"]}}))
    assert sft["steps"] == reward["steps"] == 6
