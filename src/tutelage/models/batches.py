"""Batches of tensors that models read: padded rows and packed rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor


@dataclass
class Batch:
    """Tensors that share their first dimension."""

    def select(self, rows: Any) -> Self:
        """The same batch, these rows only (a slice, list or index tensor)."""
        return type(self)(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))

    def micro(self, size: int | None) -> Iterator[Self]:
        """Consecutive pieces of at most `size` rows; the whole batch when None."""
        size = size or len(self)
        for start in range(0, len(self), size):
            yield self.select(slice(start, start + size))


@dataclass
class TokenBatch(Batch):
    """tokens, attention_mask, response_mask: (B, T), right-padded; both masks bool."""

    tokens: Tensor
    attention_mask: Tensor
    response_mask: Tensor


def pad_tokens(rows: Sequence[tuple[Sequence[int], Sequence[bool]]], pad_token_id: int, device: str | torch.device = "cpu") -> TokenBatch:
    """(tokens, response_mask) rows of any length -> one right-padded batch."""
    width = max(len(tokens) for tokens, _ in rows)
    tokens_out = torch.full((len(rows), width), pad_token_id, dtype=torch.long)
    attention_mask = torch.zeros((len(rows), width), dtype=torch.bool)
    response_mask = torch.zeros((len(rows), width), dtype=torch.bool)
    for i, (tokens, mask) in enumerate(rows):
        tokens_out[i, : len(tokens)] = torch.as_tensor(tokens)
        attention_mask[i, : len(tokens)] = True
        response_mask[i, : len(tokens)] = torch.as_tensor(mask)
    return TokenBatch(tokens_out.to(device), attention_mask.to(device), response_mask.to(device))


@dataclass
class PackedBatch(Batch):
    """tokens, segment_ids, position_ids: (B, T). Segment 0 is padding; positions restart in each segment, which isolates them."""

    tokens: Tensor
    segment_ids: Tensor
    position_ids: Tensor

    @classmethod
    def stack(cls, rows: Iterable[Any], device: str = "cpu") -> PackedBatch:
        """Rows of numpy arrays (tutelage.text.packing.PackedRow) as one batch; no rows make a batch of length 0."""
        rows = list(rows)
        columns = [[r.tokens for r in rows], [r.segment_ids for r in rows], [r.position_ids for r in rows]]
        return cls(*(torch.from_numpy(np.stack(c) if c else np.empty((0, 0), np.int64)).to(device) for c in columns))

    @property
    def trained_mask(self) -> Tensor:
        """(B, T) bool: tokens with a predecessor in their own segment."""
        mask = torch.zeros_like(self.segment_ids, dtype=torch.bool)
        mask[:, 1:] = (self.segment_ids[:, 1:] == self.segment_ids[:, :-1]) & (self.segment_ids[:, 1:] > 0)
        return mask
