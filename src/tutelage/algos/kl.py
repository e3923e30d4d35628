"""Estimators of KL(policy || reference) from samples of the policy, and the adaptive coefficient.

With d = log p - log p_ref at a token drawn from the policy (Schulman 2020, joschu.net/blog/kl-approx.html):

    k1 = d                 unbiased, noisy, can be negative   -> in the reward, where PPO treats it as a constant
    k2 = d^2 / 2           biased, low variance               -> as a loss: its gradient, and only its, is the KL's
    k3 = exp(-d) - 1 + d   unbiased, never negative           -> to look at

As a loss on samples from the policy, the gradient of k1 is zero in expectation (the score function's mean) and that of k3 is the
gradient of the *other* KL, KL(reference || policy). All three are differentiable in both arguments; a reward takes them detached.
"""

from __future__ import annotations

import torch
from torch import Tensor


def k1(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """log p - log p_ref, any one shape, nats. Put this one in the reward."""
    return logprobs - ref_logprobs


def k2(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Half the squared log-ratio, nats. Use this one as a loss."""
    return (logprobs - ref_logprobs).square() / 2


def k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """exp(-d) - 1 + d, nats, >= 0. Report this one."""
    d = logprobs - ref_logprobs
    return torch.expm1(-d) + d                                      # expm1: exp(-d) - 1 loses every digit at small d


def adaptive_kl_coef(kl_coef: float, kl: float, *, target: float, horizon: float, num_episodes: int) -> float:
    """The next kl_coef, which steers the measured KL towards a target.

    Args: kl_coef: now. kl: measured mean KL per response, nats. target: nats per response, > 0.
        horizon: episodes in which a KL off by 20% or more (the error is cut there) moves the coefficient by about 20%.
        num_episodes: responses since the last call.
    Source: Ziegler et al. 2019, arXiv:1909.08593, section 2.2 (horizon counted in episodes, as in its code).
    """
    error = min(max(kl / target - 1.0, -0.2), 0.2)
    return kl_coef * (1.0 + error * num_episodes / horizon)
