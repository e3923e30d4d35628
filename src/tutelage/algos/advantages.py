"""From scores to credit per token: KL-penalised rewards, GAE, group baselines, whitening."""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.algos.kl import k1
from tutelage.algos.masked import check_same_shape, is_last, masked_mean, masked_var


def kl_penalized_rewards(scores: Tensor, logprobs: Tensor, ref_logprobs: Tensor, response_mask: Tensor, *, kl_coef: float) -> Tensor:
    """Reward per token: -kl_coef * (log p - log p_ref), plus the score on the last response token.

    Args: scores: (B,). logprobs, ref_logprobs: (B, T), at sampling and by the reference. response_mask: (B, T) bool.
        kl_coef: reward units per nat.
    Returns: (B, T), 0 off the mask; a row with no response token keeps no trace of its score. Raises: ValueError on unequal shapes.
    Source: Ziegler et al. 2019, arXiv:1909.08593, section 2; the estimator is k1, the one whose expected sum is the KL.
    """
    check_same_shape(logprobs=logprobs, ref_logprobs=ref_logprobs, response_mask=response_mask)
    if scores.shape != logprobs.shape[:1]:
        raise ValueError(f"scores {tuple(scores.shape)} do not match logprobs {tuple(logprobs.shape)}")
    penalty = torch.where(response_mask, -kl_coef * k1(logprobs, ref_logprobs), 0.0)
    return penalty + torch.where(is_last(response_mask), scores[:, None], 0.0)


def gae(rewards: Tensor, values: Tensor, response_mask: Tensor, *, gamma: float = 1.0, gae_lambda: float = 0.95,
        last_values: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Generalized advantage estimates; the value after the end of a finished response is 0.

    values[:, t] is the value of the prefix before token t, so with n(t) the next masked position after t:

        delta(t) = rewards(t) + gamma * values(n(t)) - values(t),    A(t) = delta(t) + gamma * gae_lambda * A(n(t))

    and after the last masked position the next value is last_values (0 if None) and the next A is 0. Positions in a hole of the mask
    (tool turns) are no steps: both the accumulator and the next value are carried over them, undiscounted, and rewards there are not read.

    Args: rewards, values: (B, T) float. response_mask: (B, T) bool.
        gamma: discount per token, in [0, 1]. gae_lambda: in [0, 1]; 1 is Monte Carlo, 0 is one-step TD.
        last_values: (B,) value after the last token of a truncated row, 0 for a finished one; None: every row ended.
    Returns: (advantages, returns), (B, T) each, 0 off the mask, not whitened; returns = advantages + values.
    Raises: ValueError on unequal shapes.
    Source: Schulman et al. 2016, arXiv:1506.02438, section 3.
    """
    check_same_shape(rewards=rewards, values=values, response_mask=response_mask)
    rewards, values = torch.where(response_mask, rewards, 0.0), torch.where(response_mask, values, 0.0)
    next_value = torch.zeros_like(values[:, 0]) if last_values is None else last_values.to(values.dtype)
    check_same_shape(last_values=next_value, one_value_per_row=values[:, 0])
    accumulated = torch.zeros_like(next_value)
    columns = []
    for t in reversed(range(values.shape[1])):
        here = response_mask[:, t]
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        accumulated = torch.where(here, delta + gamma * gae_lambda * accumulated, accumulated)
        next_value = torch.where(here, values[:, t], next_value)
        columns.append(accumulated)
    advantages = torch.where(response_mask, torch.stack(columns[::-1], dim=1), 0.0)
    return advantages, advantages + values


def leave_one_out(scores: Tensor, group_size: int) -> Tensor:
    """Each score minus the mean of the *other* scores of its group.

    Args: scores: (P * G,), a group in adjacent rows. group_size: G >= 2. Returns: (P * G,).
    Raises: ValueError when G < 2 (a lone sample has no baseline) or does not divide the batch.
    Source: Kool et al. 2019; Ahmadian et al. 2024, arXiv:2402.14740 (RLOO).
    """
    groups = _groups(scores, group_size)
    others = (groups.sum(1, keepdim=True) - groups) / (group_size - 1)
    return (groups - others).reshape(-1)


def group_normalized(scores: Tensor, group_size: int, *, eps: float = 1e-6) -> Tensor:
    """Each score minus its group's mean, over the group's standard deviation (n - 1) plus eps; 0 in a group of equal scores.

    Args, Raises: as `leave_one_out`. Returns: (P * G,). Source: Shao et al. 2024, arXiv:2402.03300, section 4.1.2.
    """
    groups = _groups(scores, group_size)
    centred = groups - groups.mean(1, keepdim=True)
    return (centred / (groups.std(1, keepdim=True) + eps)).reshape(-1)


def _groups(scores: Tensor, group_size: int) -> Tensor:
    if group_size < 2:
        raise ValueError(f"group_size={group_size}: a group baseline needs at least 2 samples per prompt")
    if scores.ndim != 1 or scores.shape[0] % group_size:
        raise ValueError(f"scores {tuple(scores.shape)} do not divide into groups of {group_size}")
    return scores.view(-1, group_size)


def whiten(x: Tensor, mask: Tensor, shift_mean: bool = True, *, eps: float = 1e-8) -> Tensor:
    """Mean 0 and (biased) variance 1 over the mask; shift_mean=False keeps the mean. x, mask: (B, T). Returns: (B, T), 0 off the mask.

    Advantages are whitened to zero mean; rewards keep theirs, which says how good the responses are.
    Source: Ziegler et al. 2019, code: variance divided by n, 1e-8 under the root.
    """
    mean = masked_mean(x, mask)
    white = (torch.where(mask, x, 0.0) - mean) * torch.rsqrt(masked_var(x, mask) + eps)
    return torch.where(mask, white if shift_mean else white + mean, 0.0)


def explained_variance(values: Tensor, returns: Tensor, response_mask: Tensor) -> Tensor:
    """1 - Var(returns - values) / Var(returns) over the mask: 1 is a perfect critic, 0 a constant one, below 0 worse than that.

    values, returns, response_mask: (B, T). Returns: a scalar; nan when the returns do not vary.
    """
    return 1.0 - masked_var(returns - values, response_mask) / masked_var(returns, response_mask)
