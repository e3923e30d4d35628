"""Training in bfloat16: what is computed in it, and what is not."""

from __future__ import annotations

import json

import pytest
import torch

from tests.small import sft_config, weights
from tutelage.models.heads import ScoredModel
from tutelage.models.policy import open_policy
from tutelage.recipes import sft
from tutelage.recipes.sft import train_sft
from tutelage.train import precision
from tutelage.train.precision import computing, resolve_precision
from tutelage.train.sections import MemorySection

BF16 = MemorySection(precision="bf16")


def gradients(policy, parts, memory):
    batch = sft.batch_of(parts, range(4), "cpu")
    with computing(memory, "cpu"):
        loss = sft.loss_of(policy, batch, batch.response_mask.sum())
    loss.backward()
    found = torch.cat([p.grad.flatten() for p in policy.parameters()])
    policy.zero_grad()
    return loss, found


def test_bf16_gives_float32_gradients_near_those_of_float32(small, tmp_path):
    parts = sft.build(sft_config(small, tmp_path / "run"), None)
    exact_loss, exact = gradients(parts.policy, parts, MemorySection())
    loss, found = gradients(parts.policy, parts, BF16)
    assert loss.dtype == found.dtype == torch.float32
    assert loss.item() != exact_loss.item() and loss.item() == pytest.approx(exact_loss.item(), rel=2**-7)    # 8 bits of mantissa
    assert torch.cosine_similarity(found, exact, dim=0) > 0.99


def test_a_run_in_bf16_saves_float32_weights_and_measures_in_float32(small, tmp_path):
    result = train_sft(sft_config(small, tmp_path / "run", {"memory": {"precision": "bf16"}, "train": {"max_steps": 4, "epochs": None}}))
    assert {w.dtype for w in weights(result["model"]).values()} == {torch.float32}
    cfg = sft_config(small, tmp_path / "again")
    parts = sft.build(cfg, None)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    measured = next(row["eval/loss"] for row in rows if row.get("eval/loss") is not None and row["step"] + 1 == result["best_step"])
    assert sft.held_out_loss(open_policy(result["model"]).train(), parts, cfg) == pytest.approx(measured, rel=1e-6)


def test_auto_is_bf16_only_where_the_machine_multiplies_it(monkeypatch):
    for able, name in ((True, "bf16"), (False, "float32")):
        monkeypatch.setattr(precision, "multiplies_bf16", lambda kind, able=able: able)
        assert resolve_precision(MemorySection(precision="auto"), "cpu") == name
    assert resolve_precision(MemorySection(), "cpu") == "float32" and resolve_precision(BF16, "cpu") == "bf16"


def test_scores_keep_float32s_digits_when_a_reward_model_trains_in_bf16(small):
    model = ScoredModel.from_policy(small.sft, seed=0)
    tokens = torch.arange(5, 17)[None]
    with torch.no_grad(), computing(BF16, "cpu"):
        score = model.score(tokens, torch.ones_like(tokens))
        hidden = model.model.base_model(input_ids=tokens, use_cache=False).last_hidden_state[:, -1]
    exact = hidden.float() @ model.head.weight.T.float()
    assert score.item() == pytest.approx(exact.item() + model.score_shift.item(), rel=1e-6)
