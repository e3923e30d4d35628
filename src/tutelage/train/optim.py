"""Optimizer and learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

from tutelage.base.errors import AuditError
from tutelage.models.memory import require_bitsandbytes
from tutelage.train.sections import OptimSection


def lr_factor(step: int, total_steps: int, optim: OptimSection) -> float:
    """Learning rate of 0-based `step` as a share of the peak. Step 0 of a warm-up is 1/warmup, never 0, so no step is wasted."""
    warmup_steps = round(optim.warmup_frac * total_steps)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if optim.schedule == "constant":
        return 1.0
    if optim.schedule == "wsd":
        decay_steps = max(1, round(optim.decay_frac * total_steps))
        left = min(1.0, (total_steps - step) / decay_steps)
        return optim.min_lr_frac + (1 - optim.min_lr_frac) * left
    done = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    left = (1 + math.cos(math.pi * done)) / 2 if optim.schedule == "cosine" else 1 - done
    return optim.min_lr_frac + (1 - optim.min_lr_frac) * left


def build_optimizer(modules: Iterable[tuple[nn.Module, float]], optim: OptimSection, *, kind: str = "float32") -> torch.optim.Optimizer:
    """AdamW over (module, peak learning rate) pairs. A tensor shared by two modules is listed once, under the first.

    kind: float32, or 8bit for moments in 8 bits each. Raises: MissingExtraError when those need what is not installed.
    """
    groups: list[dict[str, Any]] = []
    seen: set[int] = set()
    for module, peak in modules:
        for decay in (True, False):
            params = [p for p in module.parameters() if p.requires_grad and (p.ndim >= 2) == decay and id(p) not in seen]
            seen.update(id(p) for p in params)
            if params:
                groups.append({"params": params, "lr": peak, "peak_lr": peak, "weight_decay": optim.weight_decay if decay else 0.0})
    if kind == "8bit":
        return _eight_bit(groups, optim)
    return torch.optim.AdamW(groups, betas=(optim.beta1, optim.beta2), eps=optim.eps, fused=True)


def _eight_bit(groups: list[dict[str, Any]], optim: OptimSection) -> torch.optim.Optimizer:
    """AdamW with moments in 8 bits (small tensors keep 32), whose state is flat: that is what checkpoints hold."""

    class AdamW(require_bitsandbytes("memory.optimizer=8bit").optim.AdamW8bit):                       # type: ignore[misc]
        def state_dict(self) -> dict[str, Any]:
            found = super().state_dict()                            # it hides its tensors one level down, from FSDP
            flat = {i: {k: v for k, v in entry.items() if not isinstance(v, dict)} for i, entry in found["state"].items()}
            for i, entry in found["state"].items():
                for inner in entry.values():
                    flat[i] |= inner if isinstance(inner, dict) else {}
            return {**found, "state": flat}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            counted = {i: {**entry, "step": int(entry["step"])} for i, entry in state_dict["state"].items()}
            super().load_state_dict({**state_dict, "state": counted})

    return cast("torch.optim.Optimizer", AdamW(groups, betas=(optim.beta1, optim.beta2), eps=optim.eps))


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Scale every group's peak learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor


def clip_and_step(optimizer: torch.optim.Optimizer, modules: Iterable[nn.Module], max_grad_norm: float) -> list[float]:
    """Clip each module's gradient to max_grad_norm, step, clear. Returns the norms before clipping.

    Raises: AuditError when a gradient is not finite; the weights are then untouched.
    """
    norms: list[Tensor] = []
    for module in modules:
        norms.append(nn.utils.clip_grad_norm_(module.parameters(), max_grad_norm))
    values = [float(n) for n in norms]
    if not all(math.isfinite(v) for v in values):
        optimizer.zero_grad(set_to_none=True)
        raise AuditError(f"gradient norm is {values}; no step was taken", hint="lower optim.learning_rate")
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return values
