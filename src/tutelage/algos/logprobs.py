"""Log-probabilities and entropies of a causal language model, aligned with the tokens they belong to.

The logits at position t - 1 speak about the token at t. Everything here is shifted once, in this file, so that column t of a result
belongs to `tokens[:, t]`; column 0, which no logits predict, is 0.

The logits are by far the largest tensor of a step (8 x 1024 x 32,000 in float32 is 1 GB), so nothing of their size is stored for the
backward pass: it computes the softmax again, a few rows at a time, and only at positions whose gradient is not zero. Prompt and
padding therefore cost nothing there, and nan in padding stays where it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_ELEMENTS = 1 << 22
"""Logits worked on at once; in float32 each temporary takes 16 MB."""


def gather_logprobs(logits: Tensor, tokens: Tensor, *, temperature: float = 1.0) -> Tensor:
    """log p(tokens[:, t] | tokens[:, :t]) under softmax(logits / temperature).

    Args: logits: (B, T, V) of the model fed with tokens, any float type; softmax runs in float32 or wider.
        tokens: (B, T) int, 0 <= id < V, padding included.
        temperature: what the sampler divided by; with another one the ratio and the KL are of two different policies.
    Returns: (B, T) in float32 (float64 for float64 logits); column 0 is 0; columns after the last real token are to be masked.
    Raises: ValueError on unequal shapes or temperature <= 0 (greedy decoding has no log-probabilities).
    """
    _check(logits, temperature)
    if tokens.shape != logits.shape[:2]:
        raise ValueError(f"tokens {tuple(tokens.shape)} do not match logits {tuple(logits.shape)}")
    following = torch.roll(tokens, -1, dims=1)                      # the last column meets a token it does not predict and is cut off
    return _shift_right(_NextLogprobs.apply(logits, following, temperature))


def entropy_from_logits(logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Entropy in nats of the distribution that tokens[:, t] was drawn from, softmax(logits / temperature); differentiable.

    Args: logits: (B, T, V). temperature: > 0. Returns: (B, T) as `gather_logprobs`; column 0 is 0. Raises: ValueError as there.
    """
    _check(logits, temperature)
    return _shift_right(_NextEntropy.apply(logits, temperature))


def _check(logits: Tensor, temperature: float) -> None:
    if logits.ndim != 3:
        raise ValueError(f"logits must be (B, T, V), found {tuple(logits.shape)}")
    if not temperature > 0:
        raise ValueError(f"temperature={temperature} must be positive")


def _shift_right(x: Tensor) -> Tensor:
    return F.pad(x[:, :-1], (1, 0))


def _wide(logits: Tensor) -> torch.dtype:
    return torch.promote_types(logits.dtype, torch.float32)


def _chunks(rows: Tensor, vocab: int) -> Iterator[Tensor]:
    return iter(rows.split(max(1, CHUNK_ELEMENTS // vocab)))


class _NextLogprobs(torch.autograd.Function):
    """(B, T, V), (B, T) -> (B, T): log p of the given id at each position. Gradient: (1[id] - p) / temperature."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, ids: Tensor, temperature: float) -> Tensor:
        flat, flat_ids = logits.reshape(-1, logits.shape[-1]), ids.reshape(-1, 1)
        parts = []
        for rows, picked in zip(_chunks(flat, flat.shape[-1]), _chunks(flat_ids, flat.shape[-1]), strict=True):
            scaled = rows.to(_wide(logits)) / temperature
            parts.append(scaled.log_softmax(1).gather(1, picked).squeeze(1))    # not x - logsumexp(x): at |x| = 1e4 that rounds to 1e-3
        ctx.save_for_backward(logits, ids)
        ctx.temperature = temperature
        return torch.cat(parts).view(ids.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        logits, ids = ctx.saved_tensors
        flat, flat_ids, flat_grad = logits.reshape(-1, logits.shape[-1]), ids.reshape(-1), grad.reshape(-1)
        out = torch.zeros_like(flat)
        for at in _chunks(flat_grad.nonzero().squeeze(1), flat.shape[-1]):
            g = flat_grad[at, None] / ctx.temperature
            d = -g * (flat[at].to(grad.dtype) / ctx.temperature).softmax(1)
            d.scatter_add_(1, flat_ids[at, None], g)
            out[at] = d.to(out.dtype)
        return out.view_as(logits), None, None


class _NextEntropy(torch.autograd.Function):
    """(B, T, V) -> (B, T): -sum p log p at each position. Gradient: -p (log p + entropy) / temperature."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, temperature: float) -> Tensor:
        flat = logits.reshape(-1, logits.shape[-1])
        parts = [torch.special.entr((rows.to(_wide(logits)) / temperature).softmax(1)).sum(1) for rows in _chunks(flat, flat.shape[-1])]
        entropy = torch.cat(parts).view(logits.shape[:2])
        ctx.save_for_backward(logits, entropy)
        ctx.temperature = temperature
        return entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        logits, entropy = ctx.saved_tensors
        flat, flat_entropy, flat_grad = logits.reshape(-1, logits.shape[-1]), entropy.reshape(-1), grad.reshape(-1)
        out = torch.zeros_like(flat)
        for at in _chunks(flat_grad.nonzero().squeeze(1), flat.shape[-1]):
            p = (flat[at].to(grad.dtype) / ctx.temperature).softmax(1)
            d = -(torch.xlogy(p, p) + p * flat_entropy[at, None])   # xlogy: 0 at p = 0, where log p is -inf
            out[at] = (d * flat_grad[at, None] / ctx.temperature).to(out.dtype)
        return out.view_as(logits), None
