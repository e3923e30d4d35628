"""What can be traded for memory: bfloat16 compute, activations computed twice, optimizer states and bases in fewer bits."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from tutelage.base.errors import ArtifactError, MissingExtraError


def compute_in_bf16(model: nn.Module) -> None:
    """Let `model` compute its forward passes in bfloat16 where that is safe (torch.autocast).

    The weights keep the type they have. Trained ones are float32: they are their own masters, so an update smaller than bfloat16's 3
    digits is not lost, and gradients add up in float32.
    """
    forward, kind = model.forward, next(model.parameters()).device.type

    @functools.wraps(forward)
    def in_bf16(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(kind, dtype=torch.bfloat16):
            return forward(*args, **kwargs)

    model.forward = in_bf16                                         # type: ignore[method-assign]


def recompute_activations(model: PreTrainedModel, as_now: Callable[[], AbstractContextManager[object]] = nullcontext) -> None:
    """Keep one activation per layer for the backward pass and compute the others again (gradient checkpointing).

    as_now: called in the forward pass; what it returns is entered around the second computation, to restore what that one depends on
    (the role of a shared base). Layers do this in train mode only; dropout is off here, so that mode changes nothing else.
    Raises: ArtifactError when the architecture cannot.
    """
    # transformers 5.23 renamed it and warns about the old name.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    try:
        enable({"use_reentrant": False, "context_fn": lambda: (nullcontext(), as_now())})
    except ValueError as error:
        raise ArtifactError(f"{type(model).__name__} cannot compute activations twice: {str(error).splitlines()[0][:120]}",
                            hint="leave memory.checkpointing off, and lower optim.microbatch_size instead") from error
    model.train()


def quantized(kind: str) -> dict[str, Any]:
    """Keyword arguments that make from_pretrained keep a frozen base in fewer bits: `full`, `8bit` or `4bit` (NF4).

    Raises: MissingExtraError without bitsandbytes.
    """
    if kind == "full":
        return {}
    require_bitsandbytes(f"memory.base={kind}")
    from transformers import BitsAndBytesConfig

    if kind == "8bit":
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    return {"quantization_config": BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                                                      bnb_4bit_compute_dtype=torch.bfloat16)}


def keep_differentiable(model: PreTrainedModel) -> None:
    """Let a base of 4 bits be trained through after it was read without gradients.

    bitsandbytes 0.50 packs the weights of a layer for inference in its first eval pass on a processor with bfloat16 instructions; its
    product with packed weights has no backward, so adapters of lower layers would get wrong gradients from then on, with a warning only.
    (It also packs only widths that are multiples of 64.)
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False               # type: ignore[assignment]


def require_bitsandbytes(setting: str) -> Any:
    """The bitsandbytes module. Raises: MissingExtraError naming the setting that needs it."""
    try:
        return importlib.import_module("bitsandbytes")
    except ImportError as error:
        raise MissingExtraError(f"{setting} needs bitsandbytes, which is not installed",
                                hint='pip install "tutelage[quantized]"') from error
