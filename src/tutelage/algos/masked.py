"""Sums, means and variances over a mask. What lies off the mask is never read, so nan in padding is harmless.

`torch.where`, not multiplication: 0 * nan is nan, in the value and in the gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor


def check_same_shape(**tensors: Tensor) -> None:
    """Raises ValueError naming every shape when the tensors do not agree."""
    if len({t.shape for t in tensors.values()}) > 1:
        raise ValueError("unequal shapes: " + ", ".join(f"{name} {tuple(t.shape)}" for name, t in tensors.items()))


def masked_sum(x: Tensor, mask: Tensor, dim: int | None = None) -> Tensor:
    """Sum of x where mask is True. x, mask: any one shape, mask bool. dim None: over everything."""
    check_same_shape(x=x, mask=mask)
    kept = torch.where(mask, x, 0.0)
    return kept.sum() if dim is None else kept.sum(dim)


def masked_mean(x: Tensor, mask: Tensor, dim: int | None = None) -> Tensor:
    """Mean of x where mask is True; the mean over an empty mask is 0."""
    count = mask.sum() if dim is None else mask.sum(dim)
    return masked_sum(x, mask, dim) / count.clamp_min(1)


def masked_var(x: Tensor, mask: Tensor, dim: int | None = None) -> Tensor:
    """Biased variance of x where mask is True (divided by n, not n - 1); over an empty mask it is 0."""
    mean = masked_mean(x, mask, dim)
    centred = torch.where(mask, x, 0.0) - (mean if dim is None else mean.unsqueeze(dim))
    return masked_mean(centred.square(), mask, dim)


def token_mean(x: Tensor, response_mask: Tensor, *, num_tokens: float | Tensor | None = None) -> Tensor:
    """Sum over the mask / num_tokens: how every loss over tokens is normalised here.

    Args: x: (B, T). response_mask: (B, T) bool.
        num_tokens: response tokens of the whole optimizer step, so that the losses of its micro-batches (and of its ranks) add up
        to the loss of the step; None: the mask's own count.
    Returns: a scalar; 0 when the mask is empty and num_tokens is None.
    """
    return masked_mean(x, response_mask) if num_tokens is None else masked_sum(x, response_mask) / num_tokens


def is_last(mask: Tensor) -> Tensor:
    """(B, T) bool, True at the last True of each row of mask (B, T) and nowhere else; a row without any stays False."""
    after = mask.flip(1).cumsum(1).flip(1)                          # how many True from here to the end, this one included
    return mask & (after == 1)
