"""Log-probs and entropies against scipy, closed-form gradients and finite differences."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from torch.autograd import gradcheck
from torch.testing import assert_close

from tutelage.algos import logprobs as module
from tutelage.algos.logprobs import entropy_from_logits, gather_logprobs

B, T, V = 3, 5, 7


def sample(seed: int = 0, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(B, T, V, dtype=torch.float64, generator=generator)
    return logits, torch.randint(0, V, (B, T), generator=generator)


def slow_logprobs(logits: torch.Tensor, tokens: torch.Tensor, temperature: float) -> np.ndarray:
    out = np.zeros((B, T))
    for b in range(B):
        for t in range(1, T):
            z = logits[b, t - 1].double().numpy() / temperature
            out[b, t] = z[tokens[b, t]] - scipy.special.logsumexp(z)
    return out


@pytest.mark.parametrize("temperature", [0.5, 0.7, 1.0, 2.0])
def test_fact_10_logprobs_are_of_the_temperature_scaled_logits(temperature):
    logits, tokens = sample()
    assert_close(gather_logprobs(logits, tokens, temperature=temperature).numpy(), slow_logprobs(logits, tokens, temperature),
                 rtol=0, atol=1e-12)


def test_column_t_belongs_to_token_t_and_column_0_is_zero():
    # Logits that say with near-certainty "the next id is (t + 1) mod V" make log p ~ 0 for exactly that token sequence.
    tokens = torch.arange(T).expand(B, T)
    logits = 1e4 * torch.nn.functional.one_hot(tokens + 1, V).double()
    assert gather_logprobs(logits, tokens).tolist() == [[0.0] * T] * B
    assert gather_logprobs(logits, (tokens + 1) % V)[:, 1:].max() < -9e3
    assert gather_logprobs(*sample())[:, 0].tolist() == [0.0] * B
    assert entropy_from_logits(sample()[0])[:, 0].tolist() == [0.0] * B


def test_probabilities_of_every_possible_token_sum_to_one():
    logits, tokens = sample()
    total = sum(gather_logprobs(logits, torch.full_like(tokens, v), temperature=0.7).exp() for v in range(V))
    assert_close(total[:, 1:], torch.ones(B, T - 1, dtype=torch.float64), rtol=0, atol=1e-12)


def test_the_gradient_of_a_logprob_is_onehot_minus_softmax_over_temperature():
    logits, tokens = sample()
    logits.requires_grad_()
    gather_logprobs(logits, tokens, temperature=0.7)[1, 3].backward()
    expected = np.zeros((B, T, V))
    expected[1, 2] = (np.eye(V)[tokens[1, 3]] - scipy.special.softmax(logits[1, 2].detach().numpy() / 0.7)) / 0.7
    assert_close(logits.grad.numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_gradients_pass_finite_differences(temperature):
    logits, tokens = sample()
    logits.requires_grad_()
    assert gradcheck(lambda z: gather_logprobs(z, tokens, temperature=temperature), logits)
    assert gradcheck(lambda z: entropy_from_logits(z, temperature=temperature), logits)


def test_entropy_equals_scipy_and_that_of_a_uniform_choice_is_log_v():
    logits, _ = sample()
    ours = entropy_from_logits(logits, temperature=0.7)[:, 1:].numpy()
    assert_close(ours, scipy.stats.entropy(scipy.special.softmax(logits[:, :-1].numpy() / 0.7, axis=-1), axis=-1), rtol=0, atol=1e-12)
    assert_close(entropy_from_logits(torch.zeros(1, 2, V).double())[0, 1].item(), np.log(V), rtol=0, atol=1e-12)


def test_a_forbidden_token_has_entropy_and_gradients_without_nan():
    logits, tokens = sample()
    logits[..., 3] = -torch.inf
    logits.requires_grad_()
    (entropy_from_logits(logits).sum() + gather_logprobs(logits, torch.full_like(tokens, 2)).sum()).backward()
    assert torch.isfinite(logits.grad).all()
    without = scipy.stats.entropy(scipy.special.softmax(np.delete(logits.detach().numpy()[:, :-1], 3, axis=-1), axis=-1), axis=-1)
    assert_close(entropy_from_logits(logits.detach())[:, 1:].numpy(), without, rtol=0, atol=1e-12)


def test_logits_of_ten_thousand_neither_overflow_nor_lose_digits_in_float32():
    logits, tokens = sample()
    for offset in (1e4, -1e4):
        shifted = (logits.float() + offset).requires_grad_()       # what float32 holds of it is the exact input of both sides
        assert_close(gather_logprobs(shifted, tokens).detach().double().numpy(), slow_logprobs(shifted.detach(), tokens, 1.0),
                     rtol=1e-6, atol=1e-6)
        (gather_logprobs(shifted, tokens).sum() + entropy_from_logits(shifted).sum()).backward()
        assert torch.isfinite(shifted.grad).all()
    spread = (1e4 * logits.float().sign()).requires_grad_()
    (gather_logprobs(spread, tokens).sum() + entropy_from_logits(spread).sum()).backward()
    assert torch.isfinite(gather_logprobs(spread, tokens)).all() and torch.isfinite(spread.grad).all()


def test_half_precision_logits_are_reduced_in_float32():
    logits, tokens = sample(scale=5.0)
    low = logits.bfloat16()
    ours = gather_logprobs(low, tokens, temperature=0.7)
    assert ours.dtype == torch.float32 and entropy_from_logits(low).dtype == torch.float32
    assert_close(ours.double().numpy(), slow_logprobs(low, tokens, 0.7), rtol=1e-6, atol=1e-6)
    low.requires_grad_()
    gather_logprobs(low, tokens).sum().backward()
    assert low.grad.dtype == torch.bfloat16


def test_the_chunk_size_changes_nothing(monkeypatch):
    logits, tokens = sample()

    def run() -> list[torch.Tensor]:
        z = logits.clone().requires_grad_()
        picked, entropy = gather_logprobs(z, tokens, temperature=0.7), entropy_from_logits(z, temperature=0.7)
        (picked.sum() + 0.3 * entropy.square().sum()).backward()
        return [picked.detach(), entropy.detach(), z.grad]

    whole = run()
    for elements in (1, 4 * V):                                    # one row at a time; 15 rows as 4 + 4 + 4 + 3
        monkeypatch.setattr(module, "CHUNK_ELEMENTS", elements)
        for a, b in zip(whole, run(), strict=True):
            assert torch.equal(a, b)


def test_nan_logits_in_padding_stay_out_of_the_gradient():
    logits, tokens = sample()
    clean, dirty = logits.clone().requires_grad_(), logits.clone()
    dirty[:, 3:] = torch.nan                                        # predicts tokens 4..: padding
    dirty.requires_grad_()
    mask = torch.zeros(B, T, dtype=torch.bool)
    mask[:, 1:4] = True
    for z in (clean, dirty):
        torch.where(mask, gather_logprobs(z, tokens) + entropy_from_logits(z), 0.0).sum().backward()
    assert torch.equal(clean.grad, dirty.grad)


def test_nothing_as_large_as_the_logits_is_kept_for_the_backward_pass():
    logits, tokens = sample()
    logits.requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        gather_logprobs(logits, tokens, temperature=0.7).sum() + entropy_from_logits(logits, temperature=0.7).sum()
    large = [x for x in kept if x.numel() >= logits[:, :-1].numel()]
    assert large and all(x.data_ptr() == logits.data_ptr() for x in large)     # the model's own output, not a copy


def test_row_order_is_irrelevant_and_bits_do_not_change():
    logits, tokens = sample()
    order = torch.tensor([2, 0, 1])
    assert torch.equal(gather_logprobs(logits[order], tokens[order]), gather_logprobs(logits, tokens)[order])


def test_wrong_shapes_and_greedy_temperature_are_refused():
    logits, tokens = sample()
    with pytest.raises(ValueError, match=r"tokens \(3, 4\) do not match logits"):
        gather_logprobs(logits, tokens[:, 1:])
    with pytest.raises(ValueError, match=r"must be \(B, T, V\)"):
        gather_logprobs(logits[0], tokens[0])
    for temperature in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="must be positive"):
            gather_logprobs(logits, tokens, temperature=temperature)
