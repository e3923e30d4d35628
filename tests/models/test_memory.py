"""bfloat16 with float32 masters, activations computed twice, and what is said when a library is missing."""

from __future__ import annotations

import sys

import pytest
import torch
from torch.testing import assert_close

from tests.models.tiny import CONFIGS, random_rows, right_padded, tiny
from tutelage.algos.losses import nll_loss
from tutelage.base.errors import MissingExtraError
from tutelage.models.folders import turn_off_dropout
from tutelage.models.memory import compute_in_bf16, quantized, recompute_activations, require_bitsandbytes
from tutelage.models.policy import token_logits, token_logprobs

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


# -- bfloat16 ---------------------------------------------------------------------------------------------------------


def test_bf16_computes_in_bf16_and_keeps_weights_and_gradients_in_float32():
    exact, model = tiny("llama"), tiny("llama")
    compute_in_bf16(model)
    logits = token_logits(model, TOKENS)
    assert logits.dtype == torch.bfloat16
    assert_close(logits.float(), token_logits(exact, TOKENS), rtol=0.05, atol=0.05 * logits.abs().max().item())
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


# -- bitsandbytes -----------------------------------------------------------------------------------------------------


def test_without_bitsandbytes_the_settings_that_need_it_name_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    assert quantized("full") == {}
    for call, setting in ((lambda: quantized("4bit"), "memory.base=4bit"),
                          (lambda: require_bitsandbytes("memory.optimizer=8bit"), "memory.optimizer=8bit")):
        with pytest.raises(MissingExtraError, match=f"{setting} needs bitsandbytes") as error:
            call()
        assert error.value.exit_code == 4 and error.value.hint == 'pip install "tutelage[quantized]"'
