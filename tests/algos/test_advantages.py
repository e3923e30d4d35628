"""Rewards, GAE, group baselines and whitening against slow loops and closed forms."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import explained_variance_score
from torch.testing import assert_close

from tutelage.algos.advantages import (
    explained_variance,
    gae,
    group_normalized,
    kl_penalized_rewards,
    leave_one_out,
    whiten,
)

NAN = float("nan")
B, T = 4, 9
# Prompt first, padding last; row 1 has two tool turns, row 2 is one token long, row 3 fills the width.
MASK = torch.tensor([[0, 0, 1, 1, 1, 1, 0, 0, 0],
                     [0, 1, 1, 0, 0, 1, 0, 1, 0],
                     [0, 0, 0, 0, 1, 0, 0, 0, 0],
                     [0, 1, 1, 1, 1, 1, 1, 1, 1]], dtype=torch.bool)


def randn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def spoil(x: torch.Tensor, mask: torch.Tensor = MASK) -> torch.Tensor:
    return torch.where(mask, x, NAN)


def double_sum_gae(rewards, values, mask, gamma, gae_lambda, last_values):
    """A(t) = sum over l of (gamma lambda)^l * delta(t + l), written out over the list of masked positions."""
    out = np.zeros(mask.shape)
    for b in range(mask.shape[0]):
        at = [t for t in range(mask.shape[1]) if mask[b, t]]
        v = [values[b, t].item() for t in at] + [last_values[b].item()]
        delta = [rewards[b, t].item() + gamma * v[n + 1] - v[n] for n, t in enumerate(at)]
        for n, t in enumerate(at):
            out[b, t] = sum((gamma * gae_lambda) ** (m - n) * delta[m] for m in range(n, len(at)))
    return out


@given(st.lists(st.lists(st.booleans(), min_size=7, max_size=7), min_size=1, max_size=4), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=40)
def test_gae_matches_the_double_sum(rows, gamma, gae_lambda):
    mask = torch.tensor(rows)
    rewards, values, last_values = randn(*mask.shape, seed=1), randn(*mask.shape, seed=2), randn(len(rows), seed=3)
    expected = double_sum_gae(rewards, values, mask, gamma, gae_lambda, last_values)
    advantages, returns = gae(spoil(rewards, mask), spoil(values, mask), mask, gamma=gamma, gae_lambda=gae_lambda, last_values=last_values)
    assert_close(advantages.numpy(), expected, rtol=0, atol=1e-12)
    assert_close(returns.numpy(), np.where(mask, expected + values.numpy(), 0.0), rtol=0, atol=1e-12)


def test_gae_without_last_values_ends_every_row_at_value_zero():
    rewards, values = randn(B, T, seed=1), randn(B, T, seed=2)
    expected = double_sum_gae(rewards, values, MASK, 0.9, 0.8, torch.zeros(B))
    assert_close(gae(rewards, values, MASK, gamma=0.9, gae_lambda=0.8)[0].numpy(), expected, rtol=0, atol=1e-12)


def test_gae_at_lambda_one_is_the_monte_carlo_return_and_at_zero_one_step_td():
    rewards, values = randn(1, 4, seed=1), randn(1, 4, seed=2)
    mask = torch.ones(1, 4, dtype=torch.bool)
    _, returns = gae(rewards, values, mask, gamma=0.9, gae_lambda=1.0)
    r = rewards[0].numpy()
    discounted = [sum(0.9**k * r[t + k] for k in range(4 - t)) for t in range(4)]
    assert_close(returns[0].numpy(), np.array(discounted), rtol=0, atol=1e-12)
    _, returns = gae(rewards, values, mask, gamma=0.9, gae_lambda=0.0)
    assert_close(returns[0].numpy(), r + 0.9 * np.append(values[0, 1:].numpy(), 0.0), rtol=0, atol=1e-12)


def test_gae_of_the_true_values_is_zero():
    # A deterministic chain: the value of a prefix is the sum of the rewards to come, so no token is better than expected.
    rewards = randn(B, T, seed=1)
    values = torch.where(MASK, rewards, 0.0).flip(1).cumsum(1).flip(1)
    for gae_lambda in (0.0, 0.5, 1.0):
        assert gae(rewards, values, MASK, gamma=1.0, gae_lambda=gae_lambda)[0].abs().max() < 1e-12


def test_fact_33_gae_carries_the_accumulator_over_tool_turns():
    # A conversation with a tool's words in the middle has the advantages of the same conversation without them.
    rewards, values = randn(1, 5, seed=1), randn(1, 5, seed=2)
    plain = gae(rewards, values, torch.ones(1, 5, dtype=torch.bool), gamma=0.95, gae_lambda=0.9)
    spread = torch.tensor([0, 1, 5, 6, 9])                          # tool turns at 2..4 and 7..8
    mask = torch.zeros(1, 11, dtype=torch.bool)
    mask[0, spread] = True
    wide_rewards, wide_values = torch.full((1, 11), NAN).double(), torch.full((1, 11), NAN).double()
    wide_rewards[:, spread], wide_values[:, spread] = rewards, values
    for with_tools, without in zip(gae(wide_rewards, wide_values, mask, gamma=0.95, gae_lambda=0.9), plain, strict=True):
        assert_close(with_tools[:, spread], without, rtol=0, atol=1e-12)
        assert (with_tools[~mask] == 0).all()


def test_fact_33_the_score_lands_on_the_last_trainable_token():
    scores = torch.tensor([10.0, 20.0, 30.0, 40.0], dtype=torch.float64)
    rewards = kl_penalized_rewards(scores, randn(B, T, seed=1), randn(B, T, seed=2), MASK, kl_coef=0.0)
    expected = torch.zeros(B, T, dtype=torch.float64)
    for b, t in enumerate([5, 7, 4, 8]):                            # row 1 ends after a tool turn, not inside it
        expected[b, t] = scores[b]
    assert torch.equal(rewards, expected)


def test_a_truncated_row_is_bootstrapped_with_the_value_after_its_last_token():
    # peer-bugs.md 9. Cut after 3 tokens, the value there stands for what was not generated.
    rewards, values = randn(1, 6, seed=1), randn(1, 6, seed=2)
    whole = gae(rewards, values, torch.ones(1, 6, dtype=torch.bool), gamma=0.9, gae_lambda=0.0)[0]
    cut = torch.ones(1, 3, dtype=torch.bool)
    first = gae(rewards[:, :3], values[:, :3], cut, gamma=0.9, gae_lambda=0.0, last_values=values[:, 3])[0]
    assert_close(first, whole[:, :3], rtol=0, atol=1e-12)
    r, v = rewards[0], values[0]
    monte_carlo = gae(rewards[:, :3], values[:, :3], cut, gamma=0.9, gae_lambda=1.0, last_values=values[:, 3])[0]
    assert_close(monte_carlo[0, 0], r[0] + 0.9 * r[1] + 0.81 * r[2] + 0.729 * v[3] - v[0], rtol=0, atol=1e-12)


def test_what_the_critic_says_after_a_finished_response_changes_nothing():
    rewards, values = randn(B, T, seed=1), randn(B, T, seed=2)
    loud = torch.where(MASK, values, 1e6)
    for a, b in zip(gae(rewards, values, MASK), gae(rewards, loud, MASK), strict=True):
        assert torch.equal(a, b)


def test_gae_is_independent_of_row_order_and_extra_padding():
    rewards, values, last_values = randn(B, T, seed=1), randn(B, T, seed=2), randn(B, seed=3)
    advantages, returns = gae(rewards, values, MASK, last_values=last_values)
    order = torch.tensor([3, 1, 0, 2])
    shuffled = gae(rewards[order], values[order], MASK[order], last_values=last_values[order])
    padded = gae(*(torch.nn.functional.pad(x, (0, 3), value=NAN) for x in (rewards, values)),
                 torch.nn.functional.pad(MASK, (0, 3)), last_values=last_values)
    for a, b, c in zip((advantages, returns), shuffled, padded, strict=True):
        assert torch.equal(a[order], b)
        assert torch.equal(a, c[:, :T]) and (c[:, T:] == 0).all()


def test_fact_13_the_reward_is_minus_the_weighted_log_ratio_with_the_score_at_the_end():
    scores, logprobs, ref_logprobs = randn(B, seed=1), randn(B, T, seed=2), randn(B, T, seed=3)
    expected = np.zeros((B, T))
    for b in range(B):
        at = [t for t in range(T) if MASK[b, t]]
        for t in at:
            expected[b, t] = -0.3 * (logprobs[b, t] - ref_logprobs[b, t])
        expected[b, at[-1]] += scores[b]
    ours = kl_penalized_rewards(scores, spoil(logprobs), spoil(ref_logprobs), MASK, kl_coef=0.3)
    assert_close(ours.numpy(), expected, rtol=0, atol=1e-12)


def test_fact_13_undiscounted_rewards_sum_to_the_score_minus_the_kl_of_the_response():
    scores, logprobs, ref_logprobs = randn(B, seed=1), randn(B, T, seed=2), randn(B, T, seed=3)
    total = kl_penalized_rewards(scores, logprobs, ref_logprobs, MASK, kl_coef=0.3).sum(1)
    response_kl = np.array([(logprobs - ref_logprobs)[b][MASK[b]].sum().item() for b in range(B)])
    assert_close(total.numpy(), scores.numpy() - 0.3 * response_kl, rtol=0, atol=1e-12)


def test_a_response_as_likely_as_the_reference_pays_no_penalty():
    logprobs = randn(B, T, seed=2)
    rewards = kl_penalized_rewards(torch.zeros(B).double(), logprobs, logprobs, MASK, kl_coef=5.0)
    assert torch.equal(rewards, torch.zeros_like(rewards))


def test_leave_one_out_subtracts_the_mean_of_the_others():
    scores = randn(12, seed=1)
    expected = [scores[i] - np.mean([scores[j] for j in range(12) if j // 4 == i // 4 and j != i]) for i in range(12)]
    assert_close(leave_one_out(scores, 4).numpy(), np.array(expected), rtol=0, atol=1e-12)


def test_leave_one_out_leaves_the_policy_gradient_unbiased():
    # Two arms, two samples, every outcome enumerated: E[A * grad log p] = grad E[score]. Were the sample
    # in its own baseline, it would shrink. Any multiple of the others' mean passes, even its negative: the sign is the loop's above.
    logits = torch.tensor([0.3, -0.4], dtype=torch.float64, requires_grad=True)
    logp, reward = logits.log_softmax(0), torch.tensor([1.0, 3.0], dtype=torch.float64)
    surrogate = torch.zeros((), dtype=torch.float64)
    for i in range(2):
        for j in range(2):
            advantages = leave_one_out(reward[[i, j]], 2)
            surrogate = surrogate + (logp[i] + logp[j]).exp().detach() * (advantages * logp[[i, j]]).mean()
    found = torch.autograd.grad(surrogate, logits, retain_graph=True)[0]
    assert_close(found, torch.autograd.grad((logp.exp() * reward).sum(), logits)[0], rtol=0, atol=1e-12)


def test_group_normalized_is_the_z_score_of_each_group():
    scores = randn(12, seed=1)
    groups = scores.numpy().reshape(3, 4)
    expected = (groups - groups.mean(1, keepdims=True)) / (groups.std(1, ddof=1, keepdims=True) + 1e-6)
    assert_close(group_normalized(scores, 4).numpy(), expected.reshape(-1), rtol=0, atol=1e-12)
    assert group_normalized(torch.full((6,), 0.3), 3).tolist() == [0.0] * 6


@pytest.mark.parametrize("estimator", [leave_one_out, group_normalized])
def test_fact_35_group_baselines_refuse_a_single_sample_per_prompt(estimator):
    with pytest.raises(ValueError, match="at least 2 samples per prompt"):
        estimator(torch.randn(6), 1)
    with pytest.raises(ValueError, match="do not divide into groups of 4"):
        estimator(torch.randn(6), 4)


@pytest.mark.parametrize("estimator", [leave_one_out, group_normalized])
def test_group_baselines_see_neither_an_offset_nor_the_order_of_prompts(estimator):
    scores = randn(12, seed=1)
    assert_close(estimator(scores + 5.0, 4), estimator(scores, 4), rtol=0, atol=1e-12)
    order = torch.tensor([2, 0, 1])
    assert torch.equal(estimator(scores.view(3, 4)[order].reshape(-1), 4), estimator(scores, 4).view(3, 4)[order].reshape(-1))


def test_fact_14_whitening_divides_by_the_biased_variance_plus_1e_8():
    x = 3.0 + 0.01 * randn(B, T, seed=1)
    picked = x.numpy()[MASK.numpy()]
    expected = (picked - picked.mean()) / np.sqrt(picked.var(ddof=0) + 1e-8)
    assert_close(whiten(spoil(x), MASK)[MASK].numpy(), expected, rtol=0, atol=1e-12)
    assert (whiten(spoil(x), MASK)[~MASK] == 0).all()


def test_fact_14_advantages_lose_their_mean_and_rewards_keep_it():
    x = 3.0 + 2.0 * randn(B, T, seed=1)
    mean = x[MASK].mean().item()
    centred, kept = whiten(x, MASK)[MASK].numpy(), whiten(x, MASK, shift_mean=False)[MASK].numpy()
    assert_close([centred.mean(), kept.mean()], [0.0, mean], rtol=0, atol=1e-12)
    assert_close([centred.std(), kept.std()], [1.0, 1.0], rtol=0, atol=1e-8)


def test_explained_variance_equals_sklearn_and_is_one_for_a_perfect_critic():
    values, returns = randn(B, T, seed=1), randn(B, T, seed=2)
    expected = explained_variance_score(returns[MASK].numpy(), values[MASK].numpy())
    assert_close(explained_variance(spoil(values), spoil(returns), MASK).item(), expected, rtol=0, atol=1e-12)
    assert explained_variance(returns, returns, MASK).item() == 1.0


def test_unequal_shapes_are_refused():
    x = torch.zeros(B, T)
    with pytest.raises(ValueError, match="unequal shapes"):
        gae(x, x[:, 1:], MASK)
    with pytest.raises(ValueError, match="unequal shapes"):
        gae(x, x, MASK, last_values=torch.zeros(B, 1))
    with pytest.raises(ValueError, match="unequal shapes"):
        kl_penalized_rewards(torch.zeros(B), x, x[:, 1:], MASK, kl_coef=0.1)
    with pytest.raises(ValueError, match="scores"):
        kl_penalized_rewards(torch.zeros(B, 1), x, x, MASK, kl_coef=0.1)
