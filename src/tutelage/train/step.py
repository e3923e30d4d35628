"""The optimizer step that pretraining and SFT share: whole batches in micro-batches, nothing but the loss differs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

import torch
from torch import Tensor, nn

from tutelage.base.errors import AuditError
from tutelage.models.batches import Batch
from tutelage.train import audits
from tutelage.train.optim import clip_and_step
from tutelage.train.run import Run
from tutelage.train.sections import OptimSection

B = TypeVar("B", bound=Batch)


def language_model_step(policy: nn.Module, optimizer: torch.optim.Optimizer, batch: B, num_tokens: Tensor,
                        loss_of: Callable[[nn.Module, B, Tensor], Tensor], optim: OptimSection, run: Run | None,
                        precision: AbstractContextManager[object]) -> dict[str, float]:
    """One optimizer step over the whole batch, in micro-batches that add up to it exactly. Returns the step's metrics.

    loss_of(policy, piece, num_tokens): sum of nats over the piece's trained tokens / num_tokens, those of the whole batch.
    precision: entered around each forward pass (tutelage.train.precision).
    Raises: AuditError when a loss is not finite; the batch is saved where there is a run, and no step is taken.
    """
    total = 0.0
    for piece in batch.micro(optim.microbatch_size):
        with precision:
            loss = loss_of(policy, piece, num_tokens)
        if not audits.check_finite(loss):
            raise run.save_bad_batch(vars(piece), "loss is not finite") if run else AuditError("loss is not finite")
        loss.backward()
        total += loss.item()
    (grad_norm,) = clip_and_step(optimizer, [policy], optim.max_grad_norm)
    return {"train/loss": total, "train/grad_norm": grad_norm, "train/learning_rate": optimizer.param_groups[0]["lr"],
            "train/tokens": int(num_tokens)}
