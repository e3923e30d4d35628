"""Losses of the policy, the critic, the language model and the reward model. Tensors and numbers in, a scalar to minimise out.

Normalisation: a loss over tokens is a sum over the mask / num_tokens, a loss over judgements is a weighted sum / num_examples. Give the
count of the whole optimizer step and the losses of its micro-batches add up to the loss of the step: 8 micro-batches of 1 equal 1 batch
of 8. Every entry of a stats dict is detached and normalised like its loss, so stats of micro-batches add up too.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.algos.kl import k3
from tutelage.algos.masked import check_same_shape, masked_sum, token_mean

MAX_LOG_RATIO = 40.0
"""|log ratio| is cut here: e^40 leaves any clip range, and an infinite ratio would turn a gradient of exactly 0 into nan."""


def nll_loss(logprobs: Tensor, response_mask: Tensor, *, num_tokens: float | Tensor | None = None) -> Tensor:
    """Language-model loss: minus the mean log-prob of the tokens in the mask, nats per token.

    Args: logprobs: (B, T), of tokens[:, t]. response_mask: (B, T) bool. num_tokens: see `token_mean`. Raises: ValueError on unequal shapes.
    """
    return -token_mean(logprobs, response_mask, num_tokens=num_tokens)


def ppo_policy_loss(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, response_mask: Tensor, *, cliprange: float,
                    num_tokens: float | Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
    """Clipped surrogate: mean over tokens of max(-A * ratio, -A * clip(ratio, 1 - cliprange, 1 + cliprange)).

    Args: logprobs, old_logprobs: (B, T), now and at sampling, at one temperature. advantages: (B, T), constants.
        response_mask: (B, T) bool. cliprange: half-width of the clip. num_tokens: see `token_mean`.
    Returns: (loss, stats): `approx_kl`, k3 estimate of KL(old, new) in nats per token; `clipfrac`, share of tokens whose gradient the
        clip removes; `ratio`, mean of exp(logprobs - old_logprobs). On the first minibatch of a rollout they are 0, 0 and 1.
    Raises: ValueError on unequal shapes.
    Source: Schulman et al. 2017, arXiv:1707.06347, eq. 7.
    """
    check_same_shape(logprobs=logprobs, old_logprobs=old_logprobs, advantages=advantages, response_mask=response_mask)
    log_ratio = torch.where(response_mask, logprobs - old_logprobs, 0.0).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    advantages = torch.where(response_mask, advantages, 0.0)
    ratio = log_ratio.exp()
    unclipped = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - cliprange, 1 + cliprange)
    loss = token_mean(torch.maximum(unclipped, clipped), response_mask, num_tokens=num_tokens)
    with torch.no_grad():
        per_token = {"approx_kl": k3(torch.zeros_like(log_ratio), log_ratio),    # samples are of the old policy: d = log old - log new
                     "clipfrac": (clipped > unclipped).to(loss.dtype), "ratio": ratio}
        stats = {name: token_mean(x, response_mask, num_tokens=num_tokens) for name, x in per_token.items()}
    return loss, stats


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, response_mask: Tensor, *, cliprange_value: float,
               num_tokens: float | Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean over tokens of half the larger of (values - returns)^2 and the same with values kept within cliprange_value of old_values.

    Args: values, old_values: (B, T), now and at sampling. returns: (B, T), constants. response_mask: (B, T) bool.
        cliprange_value: half-width of the clip in reward units; math.inf for none. num_tokens: see `token_mean`.
    Returns: (loss, stats): `value_clipfrac`, share of tokens whose gradient the clip removes; `value_error`, mean unclipped squared error.
    Raises: ValueError on unequal shapes.
    Source: Schulman et al. 2017, code (OpenAI baselines, ppo2); Ziegler et al. 2019, code.
    """
    check_same_shape(values=values, old_values=old_values, returns=returns, response_mask=response_mask)
    values, old_values, returns = (torch.where(response_mask, x, 0.0) for x in (values, old_values, returns))
    near_old = torch.clamp(values, old_values - cliprange_value, old_values + cliprange_value)      # exactly values inside the range
    unclipped, clipped = (values - returns).square(), (near_old - returns).square()
    loss = 0.5 * token_mean(torch.maximum(unclipped, clipped), response_mask, num_tokens=num_tokens)
    with torch.no_grad():
        per_token = {"value_clipfrac": (clipped > unclipped).to(loss.dtype), "value_error": unclipped}
        stats = {name: token_mean(x, response_mask, num_tokens=num_tokens) for name, x in per_token.items()}
    return loss, stats


def bradley_terry_loss(chosen_scores: Tensor, rejected_scores: Tensor, *, target: Tensor | float = 1.0, margin: Tensor | float = 0.0,
                       weight: Tensor | None = None, num_examples: float | Tensor | None = None) -> Tensor:
    """-target * log s(d) - (1 - target) * log s(-d) with d = chosen - rejected - margin and s the logistic function.

    Args: chosen_scores, rejected_scores: (B,). target: P(chosen is preferred), a number or (B,), for soft labels.
        margin: how much better chosen is, in score units, a number or (B,); at the minimum chosen - rejected = margin + logit(target).
        weight: (B,) >= 0. num_examples: pairs (or sum of weights) of the whole optimizer step; None: the sum of weights.
    Returns: a scalar. Raises: ValueError on unequal shapes.
    Source: Bradley and Terry 1952; Ouyang et al. 2022, arXiv:2203.02155, eq. 1; margin: Touvron et al. 2023, arXiv:2307.09288, eq. 2.
    """
    check_same_shape(chosen_scores=chosen_scores, rejected_scores=rejected_scores)
    return _weighted_mean(_logistic_loss(chosen_scores - rejected_scores - margin, target), weight, num_examples)


def binary_reward_loss(scores: Tensor, labels: Tensor, *, weight: Tensor | None = None,
                       num_examples: float | Tensor | None = None) -> Tensor:
    """Logistic loss of single-answer ratings: a score is the log-odds that a person says yes.

    Args: scores: (B,). labels: (B,), bool or P(yes) in [0, 1]. weight, num_examples: as in `bradley_terry_loss`.
    Returns: a scalar. Raises: ValueError on unequal shapes.
    """
    check_same_shape(scores=scores, labels=labels)
    return _weighted_mean(_logistic_loss(scores, labels.to(scores.dtype)), weight, num_examples)


def cumulative_link_loss(scores: Tensor, ratings: Tensor, thresholds: Tensor, *, weight: Tensor | None = None,
                         num_examples: float | Tensor | None = None) -> Tensor:
    """Minus the log-probability of ratings on an ordered scale of K steps: P(rating <= k) = s(thresholds[k] - score), s logistic.

    Only the order of the steps counts, not their distances, which a person's thresholds tell: a lenient one has low thresholds. With K = 2
    and threshold 0 it is `binary_reward_loss`.

    Args: scores: (B,), log-odds units. ratings: (B,) int, 0 (worst) to K - 1. thresholds: (B, K - 1) each row's own, or (K - 1,) for all;
        strictly increasing. weight, num_examples: as in `bradley_terry_loss`.
    Returns: a scalar. Raises: ValueError on unequal shapes, a rating off the scale, or thresholds that do not increase.
    Source: McCullagh 1980, JRSS B 42:109 (proportional odds); thresholds of each rater: Tutz and Hennevogl 1996, CSDA 22:537.
    """
    check_same_shape(scores=scores, ratings=ratings)
    edges = thresholds.expand(len(scores), -1)                                   # (B, K - 1)
    top = edges.shape[1]
    if len(ratings) and not 0 <= int(ratings.min()) <= int(ratings.max()) <= top:
        raise ValueError(f"ratings from {int(ratings.min())} to {int(ratings.max())} do not lie on a scale of 0 to {top}")
    if bool((edges[:, 1:] <= edges[:, :-1]).any()):
        raise ValueError("thresholds do not increase")
    upper = edges.gather(1, ratings.clamp_max(top - 1)[:, None]).squeeze(1)      # of the step itself; the last step has none
    lower = edges.gather(1, (ratings - 1).clamp_min(0)[:, None]).squeeze(1)      # of the step below; the first has none
    inside = (ratings > 0) & (ratings < top)
    # s(a) - s(b) = s(a) s(-b) (1 - e^(b - a)): each factor keeps its digits where the difference of two numbers near 1 would lose them.
    width = torch.where(inside, upper - lower, 1.0)
    log_p = (torch.where(ratings < top, F.logsigmoid(upper - scores), 0.0) + torch.where(ratings > 0, F.logsigmoid(scores - lower), 0.0)
             + torch.where(inside, torch.log(-torch.expm1(-width)), 0.0))
    return _weighted_mean(-log_p, weight, num_examples)


def ordered_thresholds(first: Tensor, log_gaps: Tensor) -> Tensor:
    """(..., K - 1) increasing thresholds from (..., 1) the first and (..., K - 2) the logs of the gaps between them, all of them free."""
    return torch.cat([first, first + log_gaps.exp().cumsum(-1)], -1)


def ranking_loss(scores: Tensor, ranks: Tensor, *, weight: Tensor | None = None, ties: Literal["drop", "half", "davidson"] = "drop",
                 davidson_log_nu: Tensor | float = 0.0, margin: Tensor | float = 0.0,
                 num_examples: float | Tensor | None = None) -> Tensor:
    """K judged answers to one prompt as one batch element: the mean over its pairs of minus the log-probability of what was said.

    A prompt with many answers thus weighs as much as one with two (all its pairs share one forward pass, and counting them apart overfits).

    Args: scores: (P, K). ranks: (P, K) int, smaller is better, equal is a tie, negative is no answer there (its score is never read).
        weight: (P,) >= 0.
        ties: "drop" leaves tied pairs out; "half" takes them as a target of 1/2; "davidson" gives a tie its own probability,
            P(i beats j) : P(tie) : P(j beats i) = e^(d/2) : nu : e^(-d/2) with d = scores_i - scores_j, for decided pairs too.
        davidson_log_nu: log nu, a number or a learnable scalar; at nu = 1 equal answers tie one time in three.
        margin: how much better the better answer of each decided pair is, in score units, a number or (P,); as in `bradley_terry_loss`.
        num_examples: prompts (or sum of weights) of the whole optimizer step, counting those with a pair to learn from; None: counted here.
    Returns: a scalar. Raises: ValueError on unequal shapes or an unknown `ties`.
    Source: Ouyang et al. 2022, arXiv:2203.02155, eq. 1 (ties dropped); Davidson 1970, JASA 65:317.
    """
    check_same_shape(scores=scores, ranks=ranks)
    if ties not in ("drop", "half", "davidson"):
        raise ValueError(f"ties={ties!r} is not one of drop, half, davidson")
    i, j = torch.triu_indices(scores.shape[1], scores.shape[1], offset=1, device=scores.device)
    pairs = (ranks[:, i] >= 0) & (ranks[:, j] >= 0)                              # (P, K(K-1)/2)
    difference = torch.where(pairs, scores[:, i] - scores[:, j], 0.0)
    outcome = torch.sign(ranks[:, j] - ranks[:, i])                              # 1: i is better, 0: tied, -1: j is better
    if ties == "drop":
        pairs = pairs & (outcome != 0)
    asked = margin[:, None] if isinstance(margin, Tensor) else margin
    difference = difference - outcome * asked
    if ties == "davidson":
        loss = _davidson_loss(difference, outcome, davidson_log_nu)
    else:
        loss = _logistic_loss(difference, (outcome + 1) / 2)
    count = pairs.sum(1)
    per_prompt = masked_sum(loss, pairs, dim=1) / count.clamp_min(1)
    heard = (count > 0).to(scores.dtype)
    return _weighted_mean(per_prompt, heard if weight is None else heard * weight, num_examples)


def _logistic_loss(logit: Tensor, target: Tensor | float) -> Tensor:
    """Cross-entropy of logit against P = target. logsigmoid, because log(1 + exp(x)) overflows and softplus rounds beyond 20."""
    return -(target * F.logsigmoid(logit) + (1 - target) * F.logsigmoid(-logit))


def _davidson_loss(difference: Tensor, outcome: Tensor, log_nu: Tensor | float) -> Tensor:
    tie = torch.zeros_like(difference) + log_nu
    log_odds = torch.stack([difference / 2, tie, -difference / 2])               # i better, tied, j better
    return log_odds.logsumexp(0) - torch.where(outcome == 0, tie, outcome * difference / 2)


def _weighted_mean(losses: Tensor, weight: Tensor | None, num_examples: float | Tensor | None) -> Tensor:
    """Sum of weight * loss / num_examples, or / the sum of weights; 0 where all weights are 0."""
    if weight is None:
        weight = torch.ones_like(losses)
    check_same_shape(weight=weight, losses=losses)
    if num_examples is None:
        total = weight.sum()
        num_examples = torch.where(total > 0, total, 1.0)
    return (weight * losses).sum() / num_examples
