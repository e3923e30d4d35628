"""How the next token is chosen: settings, per-row randomness, and the draw itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tutelage.base.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Sampling:
    """Settings of one call to an engine.

    temperature: divides the logits; 0 takes the likeliest token. top_k: keep that many tokens; 0 keeps all. top_p: of those, keep the
    fewest likeliest whose probability reaches it; 1 keeps all. max_tokens: per response. stop_tokens: ids that end a response and belong
    to it. seed: with the row id and the position it determines the draw.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    max_tokens: int = 64
    stop_tokens: tuple[int, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        rules = {"temperature": (0 <= self.temperature < float("inf"), "0 (greedy) or more"), "top_k": (self.top_k >= 0, "0 (off) or more"),
                 "top_p": (0 < self.top_p <= 1, "above 0, at most 1 (off)"), "max_tokens": (self.max_tokens >= 1, "1 or more"),
                 "seed": (self.seed >= 0, "0 or more")}
        for name, (holds, want) in rules.items():
            if not holds:
                raise ConfigError(f"{name}={getattr(self, name)} cannot be sampled with", hint=f"{name} is {want}")

    @property
    def logprob_temperature(self) -> float:
        """The temperature log-probs refer to: the sampler's; 1 for greedy decoding, whose own distribution is a single point."""
        return self.temperature or 1.0


def uniforms(seed: int, row_ids: Sequence[int], length: int) -> np.ndarray:
    """(rows, length) float64 in [0, 1): the number at (row, position) depends on seed, row id and position and on nothing else."""
    out = np.empty((len(row_ids), length))
    for row, row_id in enumerate(row_ids):
        row_generator(seed, row_id).random(out=out[row])
    return out


def row_generator(seed: int, row_id: int) -> np.random.Generator:
    """The numbers of one row, position by position. Philox is counter-based: (seed, row id) is its key, the position its counter."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, row_id], dtype=np.uint64)))


def draw(logits: Tensor, u: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """One token per row by inverting the cumulative distribution, whose sum runs in float64.

    Args: logits: (B, V). u: (B,) float64 uniforms in [0, 1).
    Returns: (tokens, logprobs), (B,) each; log-probs in float32 of softmax(logits / temperature) before top-k and top-p cut it, as a
    training forward computes them.
    """
    scaled = logits.float()
    if sampling.logprob_temperature != 1.0:
        scaled = scaled / sampling.logprob_temperature
    scaled = scaled - scaled.amax(1, keepdim=True)
    weights = scaled.exp()
    if sampling.temperature == 0:
        tokens, total = logits.argmax(1), weights.sum(1, dtype=torch.float64)
    else:
        cumulative = weights.cumsum(1, dtype=torch.float64)
        total = cumulative[:, -1]
        if sampling.top_k or sampling.top_p < 1:
            cumulative = torch.where(kept(weights, top_k=sampling.top_k, top_p=sampling.top_p), weights, 0.0).cumsum(1, dtype=torch.float64)
        # right=True: the first token whose cumulative weight exceeds the target, so a token of weight 0 is never drawn.
        tokens = torch.searchsorted(cumulative, (u * cumulative[:, -1])[:, None], right=True).squeeze(1).clamp_(max=logits.shape[1] - 1)
    return tokens, scaled.gather(1, tokens[:, None]).squeeze(1) - total.log().float()


def kept(weights: Tensor, *, top_k: int, top_p: float) -> Tensor:
    """(B, V) bool: which tokens of unnormalised probabilities (B, V) survive top-k, then top-p on what is left; ties go to the lower id."""
    ordered, order = weights.sort(dim=1, descending=True, stable=True)
    keep = torch.ones_like(ordered, dtype=torch.bool)
    if 0 < top_k < weights.shape[1]:
        keep[:, top_k:] = False
    if top_p < 1:
        left = torch.where(keep, ordered, 0.0).double()
        keep &= left.cumsum(1) - left < top_p * left.sum(1, keepdim=True)     # what stands before it has not reached top_p yet
    return torch.zeros_like(keep).scatter_(1, order, keep)
