"""bfloat16 with float32 masters, activations computed twice, and what is said when a library is missing."""

from __future__ import annotations

import sys

import pytest
import torch
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from tests.models.tiny import CONFIGS, random_rows, right_padded, tiny, word_tokenizer
from tutelage.algos.losses import nll_loss
from tutelage.base.errors import MissingExtraError
from tutelage.models.adapters import Roles
from tutelage.models.folders import turn_off_dropout
from tutelage.models.heads import require_token_head
from tutelage.models.memory import compute_in_bf16, quantized, recompute_activations, require_bitsandbytes
from tutelage.models.policy import save_policy, token_logits, token_logprobs
from tutelage.rollout import InProcessEngine, Sampling

TOKENS, MASK = right_padded(random_rows([9, 14, 4]))


def loss_of(model) -> torch.Tensor:
    return nll_loss(token_logprobs(model, TOKENS, MASK), MASK)


def gradients(model) -> list[torch.Tensor]:
    loss_of(model).backward()
    grads = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    return grads


@pytest.mark.parametrize("name", CONFIGS)
def test_computing_activations_twice_leaves_every_gradient_as_it_was(name):
    plain, twice = tiny(name), tiny(name)
    turn_off_dropout(twice)                                          # as load_pretrained does
    recompute_activations(twice)
    assert twice.training
    for one, other in zip(gradients(plain), gradients(twice), strict=True):
        assert torch.equal(one, other)


def test_computing_activations_twice_keeps_fewer_of_them():
    def kept(model) -> int:
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: (sizes.append(t.numel()), t)[1], lambda t: t):
            loss_of(model)
        return sum(sizes)

    twice = tiny("llama")
    recompute_activations(twice)
    assert kept(twice) < kept(tiny("llama")) / 2


@pytest.mark.parametrize("name", CONFIGS)
def test_activations_computed_again_are_those_of_the_role_they_had(tmp_path, name):
    save_policy(tiny(name), word_tokenizer(), tmp_path)

    def joint_gradients(checkpointing: bool) -> list[torch.Tensor]:
        roles = Roles.open(tmp_path, tokenizer=word_tokenizer(), checkpointing=checkpointing)
        generator = torch.Generator().manual_seed(0)
        for role in ("policy", "critic"):
            roles.add(role, rank=3, alpha=6.0, targets=[], seed=0)
            for p in roles.parameters(role):
                p.data.copy_(torch.randn(p.shape, generator=generator) / 8)
        policy, critic = roles.causal("policy"), roles.scored("critic")
        loss = loss_of(policy) + critic.values(TOKENS, MASK).square().mean()
        roles.enter(None)                                            # as another role's forward pass would
        loss.backward()
        return [p.grad for role in ("policy", "critic") for p in roles.parameters(role)]

    for one, other in zip(joint_gradients(False), joint_gradients(True), strict=True):
        assert torch.equal(one, other)


# -- a base of fewer bits ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [128, 48])
@pytest.mark.parametrize("kind", ["8bit", "4bit"])
def test_adapters_on_a_quantised_base_get_the_gradients_of_its_weights_also_after_reading_without_gradients(tmp_path, kind, width):
    wide = CONFIGS["llama"]()
    wide.hidden_size, wide.intermediate_size, wide.head_dim, wide.initializer_range = width, 128, width // 4, 0.08
    torch.manual_seed(0)
    save_policy(AutoModelForCausalLM.from_config(wide), word_tokenizer(), tmp_path / "packed")
    values = AutoModelForCausalLM.from_pretrained(tmp_path / "packed", dtype=torch.float32, **quantized(kind)).dequantize()
    save_policy(values.float(), word_tokenizer(), tmp_path / "plain")                     # what the packed weights stand for

    def adapter_gradients(name: str, bits: str) -> list[torch.Tensor]:
        roles = Roles.open(tmp_path / name, tokenizer=word_tokenizer(), bits=bits)
        roles.add("policy", rank=2, alpha=4.0, targets=[], seed=0)
        generator = torch.Generator().manual_seed(0)
        for p in roles.parameters("policy"):
            p.data.copy_(torch.randn(p.shape, generator=generator) / 8)
        policy = roles.causal("policy")
        with torch.no_grad():
            loss_of(policy)
        loss_of(policy).backward()
        return [p.grad for p in roles.parameters("policy")]

    for one, other in zip(adapter_gradients("packed", kind), adapter_gradients("plain", "full"), strict=True):
        assert (one - other).norm() < 0.1 * other.norm()             # products in bfloat16, or of 8-bit activations


# -- bfloat16 ---------------------------------------------------------------------------------------------------------


def test_bf16_computes_in_bf16_and_keeps_weights_and_gradients_in_float32():
    exact, model = tiny("llama"), tiny("llama")
    compute_in_bf16(model)
    logits = token_logits(model, TOKENS)
    assert logits.dtype == torch.bfloat16
    assert_close(logits.float(), token_logits(exact, TOKENS), rtol=0.1, atol=0.1 * logits.abs().max().item())
    assert not torch.equal(logits.float(), token_logits(exact, TOKENS))
    loss_of(model).backward()
    assert {p.grad.dtype for p in model.parameters()} == {p.dtype for p in model.parameters()} == {torch.float32}


def test_bf16_does_not_lose_updates_smaller_than_its_epsilon():
    # A weight near 0.3 moves by 1e-5 a step: bfloat16's spacing there is 2^-9 = 2e-3, so in bfloat16 it would never move at all.
    rate, steps = 1e-5, 20
    model, rounded = tiny("llama"), tiny("llama").to(torch.bfloat16)
    compute_in_bf16(model)
    for trained in (model, rounded):
        optimizer = torch.optim.AdamW(trained.parameters(), lr=rate, weight_decay=0.0)
        before = [p.detach().clone() for p in trained.parameters()]
        for _ in range(steps):
            loss_of(trained).backward()
            optimizer.step()
            optimizer.zero_grad()
        large = [(p - b)[b.abs() > 0.25] for p, b in zip(trained.parameters(), before, strict=True)]
        moved = torch.cat([x.abs().float() for x in large])
        if trained is model:
            assert 0.3 * rate * steps < moved.median() < 1.2 * rate * steps          # Adam's steps are about the rate each
        else:
            assert moved.max() == 0                                  # the loss that masters are there to prevent


def test_a_lora_base_is_stored_in_bf16_and_its_adapters_and_heads_in_float32(tmp_path):
    save_policy(tiny("qwen2"), word_tokenizer(), tmp_path)
    roles = Roles.open(tmp_path, tokenizer=word_tokenizer(), precision="bf16")
    roles.add("policy", rank=2, alpha=4.0, targets=[], seed=0)
    policy, critic, reference = roles.causal("policy"), roles.scored("policy"), roles.causal(None)
    assert {p.dtype for p in roles.parameters("policy")} == {critic.head.weight.dtype} == {torch.float32}
    assert {p.dtype for p in policy.parameters() if not p.requires_grad} == {torch.bfloat16}
    assert torch.equal(token_logits(policy, TOKENS), token_logits(reference, TOKENS))
    (loss_of(policy) + critic.values(TOKENS, MASK).square().mean()).backward()
    assert {p.grad.dtype for p in roles.parameters("policy")} == {torch.float32}


def test_a_head_whose_scores_are_near_0_by_chance_is_no_classifier_that_pools(tmp_path):
    save_policy(tiny("llama"), word_tokenizer(), tmp_path)
    scored = Roles.open(tmp_path, tokenizer=word_tokenizer(), precision="bf16").scored(None)
    row = torch.tensor([[i for i in range(4) if i != scored.model.config.pad_token_id][:3]])             # what the check reads
    with torch.no_grad():
        hidden = scored.model.base_model(input_ids=row, use_cache=False).last_hidden_state[0].float()
        weight = scored.head.weight
        weight -= weight @ hidden.T @ torch.linalg.pinv(hidden.T)   # at right angles to all that is seen
        assert (hidden @ weight.T).abs().max() < 1e-5 < weight.norm()
    require_token_head(scored, tmp_path)                            # rounding is small beside usual scores, not beside these


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2"])
def test_generation_works_in_bf16_and_between_training_passes(tmp_path, name):
    save_policy(tiny(name), word_tokenizer(), tmp_path)
    roles = Roles.open(tmp_path, tokenizer=word_tokenizer(), precision="bf16", checkpointing=True)
    roles.add("policy", rank=2, alpha=4.0, targets=[], seed=0)
    policy = roles.causal("policy")
    loss_of(policy).backward()
    (answer,) = InProcessEngine(policy, 0).generate([[5, 6, 7]], Sampling(max_tokens=6, stop_tokens=(2,), seed=0))
    assert policy.training and len(answer.tokens) in range(1, 7)
    row, width = [5, 6, 7, *answer.tokens], 3 + len(answer.tokens)
    with torch.no_grad():
        logprobs = token_logprobs(policy, torch.tensor([row]), torch.ones(1, width, dtype=torch.bool))[0, 3:]
    assert_close(torch.tensor(answer.logprobs), logprobs, rtol=0, atol=0.3)              # bfloat16 has 8 bits; these are in nats


# -- bitsandbytes -----------------------------------------------------------------------------------------------------


def test_without_bitsandbytes_the_settings_that_need_it_name_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    assert quantized("full") == {}
    for call, setting in ((lambda: quantized("4bit"), "memory.base=4bit"),
                          (lambda: require_bitsandbytes("memory.optimizer=8bit"), "memory.optimizer=8bit")):
        with pytest.raises(MissingExtraError, match=f"{setting} needs bitsandbytes") as error:
            call()
        assert error.value.exit_code == 4 and error.value.hint == 'pip install "tutelage[quantized]"'
