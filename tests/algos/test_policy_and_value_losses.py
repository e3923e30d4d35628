"""PPO's losses and the language-model loss against slow loops, finite differences, special cases and invariances."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch.autograd import gradcheck
from torch.testing import assert_close

from tutelage.algos.logprobs import gather_logprobs
from tutelage.algos.losses import nll_loss, ppo_policy_loss, value_loss

NAN = float("nan")
MASK = torch.tensor([[0, 0, 1, 1, 1, 1, 0, 0],
                     [0, 1, 1, 0, 0, 1, 1, 0],
                     [0, 0, 0, 0, 1, 0, 0, 0],
                     [0, 1, 1, 1, 1, 1, 1, 1]], dtype=torch.bool)
B, T = MASK.shape
NUM_TOKENS = int(MASK.sum())


def randn(seed: int, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(B, T, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


NEW, OLD, ADVANTAGES = randn(1, 0.3) - 2, randn(2, 0.3) - 2, randn(3)
VALUES, OLD_VALUES, RETURNS = randn(4), randn(5), randn(6)


def policy_loss(new, mask=MASK, old=OLD, advantages=ADVANTAGES, **kwargs):
    return ppo_policy_loss(new, old, advantages, mask, cliprange=0.2, **kwargs)


def critic_loss(values, mask=MASK, old=OLD_VALUES, returns=RETURNS, **kwargs):
    return value_loss(values, old, returns, mask, cliprange_value=0.3, **kwargs)


TOKEN_LOSSES = {"policy": (lambda x, rows=slice(None), **kw: policy_loss(x, MASK[rows], OLD[rows], ADVANTAGES[rows], **kw)[0], NEW),
                "value": (lambda x, rows=slice(None), **kw: critic_loss(x, MASK[rows], OLD_VALUES[rows], RETURNS[rows], **kw)[0], VALUES),
                "nll": (lambda x, rows=slice(None), **kw: nll_loss(x, MASK[rows], **kw), NEW)}


def test_the_policy_loss_matches_a_loop_over_tokens():
    terms, kls, clipped, ratios = [], [], [], []
    for b, t in MASK.nonzero().tolist():
        ratio, a = math.exp(NEW[b, t] - OLD[b, t]), ADVANTAGES[b, t].item()
        limited = min(max(ratio, 0.8), 1.2)
        terms.append(min(ratio * a, limited * a))
        kls.append(ratio - 1 - math.log(ratio))
        clipped.append(limited * a < ratio * a)
        ratios.append(ratio)
    loss, stats = policy_loss(NEW)
    assert_close(loss.item(), -np.mean(terms), rtol=0, atol=1e-12)
    for name, expected in [("approx_kl", kls), ("clipfrac", clipped), ("ratio", ratios)]:
        assert_close(stats[name].item(), np.mean(expected), rtol=0, atol=1e-12)
    assert 0 < np.mean(clipped) < 1


def test_at_ratio_one_the_gradient_is_that_of_reinforce():
    new = OLD.clone().requires_grad_()
    policy_loss(new)[0].backward()
    assert_close(new.grad, torch.where(MASK, -ADVANTAGES / NUM_TOKENS, 0.0), rtol=0, atol=1e-12)


def test_fact_37_on_the_first_minibatch_ratio_is_1_and_kl_and_clip_fraction_are_0():
    _, stats = policy_loss(OLD.clone())
    assert {name: x.item() for name, x in stats.items()} == {"approx_kl": 0.0, "clipfrac": 0.0, "ratio": 1.0}
    _, stats = critic_loss(OLD_VALUES.clone())
    assert stats["value_clipfrac"].item() == 0.0


def test_fact_37_a_temperature_forgotten_in_training_shows_in_the_first_ratio():
    logits = torch.randn(B, T, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    tokens = torch.randint(0, 11, (B, T), generator=torch.Generator().manual_seed(1))
    old = gather_logprobs(logits, tokens, temperature=0.7)
    assert policy_loss(gather_logprobs(logits, tokens, temperature=0.7), old=old)[1]["approx_kl"].item() == 0.0
    assert policy_loss(gather_logprobs(logits, tokens), old=old)[1]["approx_kl"].item() > 0.01


@pytest.mark.parametrize("ratio, advantage, gradient", [
    (1.5, 1.0, 0.0), (0.5, -1.0, 0.0),              # already moved the wanted way, far enough: the clip holds it
    (1.5, -1.0, 1.5), (0.5, 1.0, -0.5),             # moved the wrong way: pulled back with its full weight
    (1.1, 1.0, -1.1), (0.9, -1.0, 0.9),             # inside the clip range: free
])
def test_the_clip_removes_the_gradient_only_of_what_has_moved_far_enough(ratio, advantage, gradient):
    new = torch.tensor([[math.log(ratio)]], dtype=torch.float64, requires_grad=True)
    mask = torch.ones(1, 1, dtype=torch.bool)
    loss, stats = ppo_policy_loss(new, torch.zeros_like(new), torch.full_like(new, advantage), mask, cliprange=0.2)
    loss.backward()
    assert_close(new.grad.item(), gradient, rtol=0, atol=1e-12)
    assert stats["clipfrac"].item() == float(gradient == 0.0)


def test_approx_kl_over_samples_of_the_old_policy_is_kl_old_new():
    # Ten tokens drawn in exact proportion to the old policy turn the sample mean into the expectation.
    old, new = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.2, 0.6])
    drawn = np.repeat([0, 1, 2], [5, 3, 2])
    x, y = torch.tensor(np.log(new[drawn]))[None], torch.tensor(np.log(old[drawn]))[None]
    _, stats = ppo_policy_loss(x, y, torch.ones_like(x), torch.ones_like(x, dtype=torch.bool), cliprange=0.2)
    assert_close(stats["approx_kl"].item(), scipy.stats.entropy(old, new), rtol=0, atol=1e-12)


def test_the_policy_gradient_over_enumerated_tokens_is_the_exact_gradient_of_the_expected_reward():
    # One-token responses, every token once, weighted by its probability through the advantage: d/dlogits sum(p * reward).
    logits = torch.tensor([0.2, -0.5, 1.0], dtype=torch.float64, requires_grad=True)
    reward = torch.tensor([1.0, 3.0, -2.0], dtype=torch.float64)
    logp = logits.log_softmax(0)
    p = logp.exp().detach()
    loss, _ = ppo_policy_loss(logp[:, None], logp.detach()[:, None], (p * reward)[:, None], torch.ones(3, 1, dtype=torch.bool),
                              cliprange=0.2, num_tokens=1)
    found = torch.autograd.grad(loss, logits, retain_graph=True)[0]
    assert_close(found, -torch.autograd.grad((logp.exp() * reward).sum(), logits)[0], rtol=0, atol=1e-12)


def test_the_value_loss_matches_a_loop_over_tokens():
    terms, clipped, errors = [], [], []
    for b, t in MASK.nonzero().tolist():
        v, old, target = VALUES[b, t].item(), OLD_VALUES[b, t].item(), RETURNS[b, t].item()
        near = min(max(v, old - 0.3), old + 0.3)
        terms.append(0.5 * max((v - target) ** 2, (near - target) ** 2))
        clipped.append((near - target) ** 2 > (v - target) ** 2)
        errors.append((v - target) ** 2)
    loss, stats = critic_loss(VALUES)
    assert_close(loss.item(), np.mean(terms), rtol=0, atol=1e-12)
    assert_close(stats["value_clipfrac"].item(), np.mean(clipped), rtol=0, atol=1e-12)
    assert_close(stats["value_error"].item(), np.mean(errors), rtol=0, atol=1e-12)
    assert 0 < np.mean(clipped) < 1


@pytest.mark.parametrize("value, gradient", [
    (0.1, 0.1 - 1.0),        # within 0.3 of the old value 0: free
    (0.5, 0.0),              # moved towards the return 1 by more than 0.3: held
    (-0.5, -0.5 - 1.0),      # moved away from it: pulled back with its full weight
])
def test_fact_15_the_value_is_clipped_around_the_old_value(value, gradient):
    values = torch.tensor([[value]], dtype=torch.float64, requires_grad=True)
    old, target = torch.zeros(1, 1).double(), torch.ones(1, 1).double()
    value_loss(values, old, target, torch.ones(1, 1, dtype=torch.bool), cliprange_value=0.3)[0].backward()
    assert_close(values.grad.item(), gradient, rtol=0, atol=1e-12)


def test_an_infinite_value_clip_leaves_half_the_mean_squared_error():
    loss, stats = value_loss(VALUES, OLD_VALUES, RETURNS, MASK, cliprange_value=math.inf)
    assert_close(loss.item(), 0.5 * (VALUES - RETURNS)[MASK].square().mean().item(), rtol=0, atol=1e-12)
    assert stats["value_clipfrac"].item() == 0.0


def test_the_language_model_loss_is_cross_entropy_over_the_mask():
    logits = torch.randn(B, T, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    tokens = torch.randint(0, 11, (B, T), generator=torch.Generator().manual_seed(1))
    labels = torch.where(MASK, tokens, -100)[:, 1:]
    expected = torch.nn.functional.cross_entropy(logits[:, :-1].reshape(-1, 11), labels.reshape(-1), ignore_index=-100)
    assert_close(nll_loss(gather_logprobs(logits, tokens), MASK), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", TOKEN_LOSSES)
def test_gradients_pass_finite_differences(name):
    loss, x = TOKEN_LOSSES[name]
    assert gradcheck(loss, x.clone().requires_grad_())


@pytest.mark.parametrize("name", TOKEN_LOSSES)
@pytest.mark.parametrize("split", [[1, 1, 1, 1], [2, 2], [3, 1]])
def test_fact_34_losses_and_gradients_of_micro_batches_add_up_to_those_of_the_batch(name, split):
    # Rows carry 4, 4, 1 and 7 tokens, so a mean of micro-batch means would be wrong.
    loss, x = TOKEN_LOSSES[name]
    whole = x.clone().requires_grad_()
    whole_loss = loss(whole)
    whole_loss.backward()
    parts, total, start = x.clone().requires_grad_(), 0.0, 0
    for size in split:
        rows = slice(start, start + size)
        part = loss(parts[rows], rows, num_tokens=NUM_TOKENS)
        part.backward()
        total, start = total + part.item(), start + size
    assert_close(total, whole_loss.item(), rtol=0, atol=1e-12)
    assert_close(parts.grad, whole.grad, rtol=0, atol=1e-12)


def test_fact_34_stats_of_micro_batches_add_up_too():
    _, whole = policy_loss(NEW)
    rows = [slice(b, b + 1) for b in range(B)]
    parts = [policy_loss(NEW[r], MASK[r], OLD[r], ADVANTAGES[r], num_tokens=NUM_TOKENS)[1] for r in rows]
    for name, expected in whole.items():
        assert_close(sum(part[name] for part in parts), expected, rtol=0, atol=1e-12)


def test_nan_in_padding_changes_neither_loss_nor_gradient():
    def spoil(x):
        return torch.where(MASK, x, NAN)

    for clean, dirty, x in [
        (policy_loss, lambda z: policy_loss(z, old=spoil(OLD), advantages=spoil(ADVANTAGES)), NEW),
        (critic_loss, lambda z: critic_loss(z, old=spoil(OLD_VALUES), returns=spoil(RETURNS)), VALUES),
        (lambda z: (nll_loss(z, MASK), {}), lambda z: (nll_loss(z, MASK), {}), NEW),
    ]:
        a, b = x.clone().requires_grad_(), spoil(x).requires_grad_()
        (loss_a, stats_a), (loss_b, stats_b) = clean(a), dirty(b)
        loss_a.backward()
        loss_b.backward()
        assert torch.equal(loss_a, loss_b) and torch.equal(a.grad, b.grad)
        assert all(torch.equal(stats_a[name], stats_b[name]) for name in stats_a)


def test_row_order_is_irrelevant():
    order = torch.tensor([2, 3, 0, 1])
    for loss, x in TOKEN_LOSSES.values():
        assert_close(loss(x[order], order), loss(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("log_ratio", [1e4, -1e4])
@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_a_ratio_beyond_all_bounds_gives_finite_numbers_in_float32(log_ratio, advantage):
    new = torch.tensor([[log_ratio, -1.0]], requires_grad=True)
    old, mask = torch.tensor([[0.0, -1.0]]), torch.ones(1, 2, dtype=torch.bool)
    loss, stats = ppo_policy_loss(new, old, torch.full((1, 2), advantage), mask, cliprange=0.2)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(new.grad).all() and all(torch.isfinite(x) for x in stats.values())
    assert_close(new.grad[0, 1].item(), -advantage / 2, rtol=1e-6, atol=0)         # its neighbour learns as if it were alone


def test_a_micro_batch_without_response_tokens_has_loss_and_gradient_zero():
    nothing = torch.zeros_like(MASK)
    for loss in (lambda x: policy_loss(x, nothing)[0], lambda x: critic_loss(x, nothing)[0], lambda x: nll_loss(x, nothing)):
        x = NEW.clone().requires_grad_()
        value = loss(x)
        value.backward()
        assert value.item() == 0.0 and (x.grad == 0).all()


def test_unequal_shapes_are_refused():
    for call in (lambda: policy_loss(NEW[:, 1:]), lambda: critic_loss(VALUES[:1]), lambda: nll_loss(NEW[:, 1:], MASK)):
        with pytest.raises(ValueError, match="unequal shapes"):
            call()
