"""The precision in which training computes."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal

import torch

from tutelage.train.sections import MemorySection


def computing(memory: MemorySection, device: str) -> AbstractContextManager[object]:
    """A context for the forward passes that are trained through: matrix products in bfloat16 where `memory.precision` asks for it.

    Weights and what is summed (losses, softmax, norms) stay float32 (torch.autocast), so an update smaller than bfloat16's 3 digits is
    not lost. Rollouts and measurements run outside of it: a float32 reader of the saved model would see other log-probs, by 1e-2.
    """
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=resolve_precision(memory, device) == "bf16")


def resolve_precision(memory: MemorySection, device: str) -> Literal["float32", "bf16"]:
    """What `memory.precision` means on this machine: auto is bf16 where there are instructions for it."""
    if memory.precision != "auto":
        return memory.precision
    return "bf16" if multiplies_bf16(torch.device(device).type) else "float32"


def multiplies_bf16(kind: str) -> bool:
    """Whether this machine has instructions for products of bfloat16; without them they are slower than float32's."""
    if kind == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return kind == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
