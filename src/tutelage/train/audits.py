"""Self-audits: cheap checks, on by default, of what training silently relies on. Each raises AuditError naming what it found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from tutelage.base.errors import AuditError
from tutelage.base.files import atomic_write_text
from tutelage.models.batches import PackedBatch


def dump_masks(path: Path, rows: Sequence[tuple[str, int]]) -> None:
    """Write rows, (text with the trained tokens marked, number of trained tokens), for a person to look at.

    Raises: AuditError when a row trains nothing at all.
    """
    for number, (_, trained_tokens) in enumerate(rows):
        if not trained_tokens:
            raise AuditError(
                f"row {number} has no trained token", hint="the prompt fills the context, or the chat template has no assistant turn"
            )
    atomic_write_text(path, "\n\n".join(text for text, _ in rows) + "\n")


def check_first_minibatch(ratio: Tensor, approx_kl: float, clipfrac: float, *, tolerance: float = 1e-3) -> None:
    """Before the first update the policy is the one that sampled: ratio 1, KL 0, clip fraction 0 (fact 37).

    ratio: (N,) over response tokens. A mismatch means rollout and training forward differ (dropout, dtype, padding, temperature)
    or that the rollout used stale weights.
    """
    worst = float((ratio - 1).abs().max()) if ratio.numel() else 0.0
    if not (worst <= tolerance and abs(approx_kl) <= tolerance and clipfrac == 0):                  # nan must not pass
        raise AuditError(
            f"first minibatch: ratio differs from 1 by {worst:.2g}, KL {approx_kl:.2g}, clip fraction {clipfrac:.2g}; expected 1, 0, 0",
            hint="the rollout did not come from these weights at this temperature; dropout must be off",
        )


def check_fresh_rollout(weight_versions: Iterable[int], expected: int) -> None:
    """Every completion was sampled from the weights last handed to the engine."""
    stale = sorted({v for v in weight_versions if v != expected})
    if stale:
        raise AuditError(f"rollout came from weight version {stale}, expected {expected}", hint="call engine.sync before engine.generate")


def check_microbatch_gradients(
    loss_of: Callable[[slice], Tensor], modules: Iterable[nn.Module], num_rows: int, *, tolerance: float = 1e-3
) -> None:
    """The gradient of a batch equals the sum over its two halves; loss_of(rows) must divide by the whole batch's token count.

    Leaves gradients cleared. tolerance: relative to the largest entry, float32.
    """
    if num_rows < 2:
        return
    params = [p for m in modules for p in m.parameters() if p.requires_grad]

    def gradient(pieces: Sequence[slice]) -> list[Tensor]:
        for piece in pieces:
            loss_of(piece).backward()
        grads = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in params]
        for p in params:
            p.grad = None
        return grads

    half = num_rows // 2
    whole, split = gradient([slice(0, num_rows)]), gradient([slice(0, half), slice(half, num_rows)])
    scale = float(torch.stack([g.abs().max() for g in whole]).max())
    gap = float(torch.stack([(a - b).abs().max() for a, b in zip(whole, split, strict=True)]).max())
    if not gap <= tolerance * max(scale, 1e-8):                      # nan must not pass
        raise AuditError(f"gradients differ by {gap:.2g} (largest entry {scale:.2g}) between one batch and its two halves",
                         hint="a loss divides by its micro-batch instead of the whole batch; please report this")


@torch.no_grad()
def check_packing(logprobs_of: Callable[[PackedBatch], Tensor], packed: PackedBatch, *, tolerance: float = 1e-3) -> None:
    """A text packed behind another has the log-probs (B, T) it has alone, which models that make their own positions do not give."""
    shared = (packed.segment_ids == 2).sum(1) > 1
    if not bool(shared.any()):
        return
    row = packed.select(shared.nonzero()[0])
    at = row.segment_ids[0] == 2
    alone = row.select((slice(None), at))
    gap = float((logprobs_of(row)[0, at][1:] - logprobs_of(alone)[0][1:]).abs().max())
    if not gap <= tolerance:
        raise AuditError(f"a packed text's log-probs differ by up to {gap:.2g} from those it has alone: this model sees the text before it",
                         hint="its architecture ignores position ids; use one with rotary or learned absolute positions, such as Llama")


def check_reload(before: Tensor, after: Tensor, folder: Path, *, tolerance: float = 1e-5) -> None:
    """A saved model gives the outputs it had in memory (the reward head included)."""
    gap = float((before - after).abs().max())
    if not gap <= tolerance * max(1.0, float(before.abs().max())):
        raise AuditError(f"the model saved in {folder} gives outputs that differ by {gap:.2g} from those in memory",
                         hint="a head or an embedding was not saved; do not use this folder")


def check_finite(loss: Tensor) -> bool:
    """True when the loss is a number. The caller saves the batch and stops otherwise (Run.save_bad_batch)."""
    return bool(torch.isfinite(loss.detach()).all())
