"""LoRA on other people's architectures: sft, reward and ppo, then every adapter opened by plain peft and by our own export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from tests.models.architectures import ARCHITECTURES, TOKENS, save_plain, write_data
from tests.models.test_architectures import ROWS, llama_reward  # noqa: F401 (a fixture)
from tests.small import config
from tutelage.models.adapters import Roles
from tutelage.models.peft_folders import read_adapter_config
from tutelage.recipes.export import export_model
from tutelage.recipes.ppo import PPOConfig, train_ppo
from tutelage.recipes.reward_model import RewardConfig, train_reward_model
from tutelage.recipes.sft import SFTConfig, train_sft

MASK = torch.ones_like(TOKENS)


@pytest.fixture
def seen(monkeypatch) -> dict[str, torch.Tensor]:
    """What the roles in memory say of TOKENS when they are saved, by role."""
    said: dict[str, torch.Tensor] = {}
    save = Roles.save

    def saving(self: Roles, role: str, folder: Any, tokenizer: Any, **more: Any) -> None:
        with torch.no_grad():
            if head := more.get("head"):
                hidden = self._view(self.trunk, role)(input_ids=TOKENS, attention_mask=MASK, use_cache=False).last_hidden_state
                said[role] = head[1](hidden[:, -1])[:, 0] + more["score_shift"]
            else:
                said[role] = self.causal(role)(input_ids=TOKENS, attention_mask=MASK, use_cache=False).logits
        save(self, role, folder, tokenizer, **more)

    monkeypatch.setattr(Roles, "save", saving)
    return said


@pytest.mark.parametrize("name", ROWS)
def test_lora_leaves_adapters_that_peft_and_our_export_open_with_equal_numbers(name, tmp_path, llama_reward, seen):  # noqa: F811
    architecture, data, base = ARCHITECTURES[name], write_data(tmp_path / "data"), save_plain(ARCHITECTURES[name], tmp_path / "base")
    short = {"train": {"epochs": None, "max_steps": 2, "batch_size": 4}, "optim": {"learning_rate": 1e-2}}

    def stage(cls: Any, verb: str, values: dict[str, Any]) -> Any:
        return config(cls, tmp_path / verb, {"data": {"files": [data[verb]], "eval_frac": 0.2}, "lora": {"rank": 3, "alpha": 6.0}}, values)

    sft = train_sft(stage(SFTConfig, "sft", {"model": {"policy": str(base)}, **short, "eval": {"every_steps": 1}}))["model"]
    assert_policy_opens(Path(sft), seen["policy"], tmp_path / "sft-whole")
    reward = str(llama_reward)
    if architecture.scored:
        reward = train_reward_model(stage(RewardConfig, "reward", {"model": {"policy": sft}, **short}))["model"]
        assert_score_opens(Path(reward), seen["reward"], tmp_path / "reward-whole")
    done = train_ppo(stage(PPOConfig, "ppo", {
        "model": {"policy": sft, "reward": reward}, "critic": {"kind": "separate" if architecture.scored else "shared"},
        "rollout": {"max_tokens": 6}, "algo": {"num_iterations": 2, "batch_size": 4, "minibatch_size": 2},
        "optim": {"learning_rate": 1e-3}, "eval": {"every_iterations": 0}}))
    assert_policy_opens(Path(done["model"]), seen["policy"], tmp_path / "ppo-whole")
    if architecture.scored:
        assert_score_opens(Path(done["model"]).parent / "critic", seen["critic"], tmp_path / "critic-whole")


def assert_policy_opens(adapter: Path, ours: torch.Tensor, out: Path) -> None:
    export_model(adapter, out)
    with torch.no_grad():
        plain = AutoPeftModelForCausalLM.from_pretrained(adapter, dtype=torch.float32)(input_ids=TOKENS, use_cache=False).logits
        whole = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)(input_ids=TOKENS, use_cache=False).logits
    base = AutoModelForCausalLM.from_pretrained(read_adapter_config(adapter)["base_model_name_or_path"], dtype=torch.float32)
    with torch.no_grad():
        untrained = base(input_ids=TOKENS, use_cache=False).logits
    rows = untrained.shape[-1]                                       # what the tokenizer gained peft fills at random
    assert ours.shape == whole.shape and (ours - whole).abs().max() <= 2e-5
    assert (ours - plain)[..., :rows].abs().max() <= 2e-5
    assert (ours[..., :rows] - untrained).abs().max() > 1e-3


def assert_score_opens(adapter: Path, ours: torch.Tensor, out: Path) -> None:
    raw = read_adapter_config(adapter)
    base = AutoModelForSequenceClassification.from_pretrained(raw["base_model_name_or_path"], num_labels=1, dtype=torch.float32)
    export_model(adapter, out)
    whole = AutoModelForSequenceClassification.from_pretrained(out, dtype=torch.float32)
    with torch.no_grad():
        plain = PeftModel.from_pretrained(base, adapter).eval()(input_ids=TOKENS, use_cache=False).logits[:, 0] + raw["score_shift"]
        merged = whole(input_ids=TOKENS, use_cache=False).logits[:, 0] + whole.config.score_shift
    assert (ours - plain).abs().max() <= 2e-5 and (ours - merged).abs().max() <= 2e-5
