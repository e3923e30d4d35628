"""What a decoder remembers of the tokens so far: a preallocated key/value cache, or the tokens themselves."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Protocol, Self

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

ROOM = 64
"""Columns beyond the longest row that a decoder is given when it has to grow."""


class Decoder(Protocol):
    """Rows that grow by one token per step. `prefill` and `step` return the logits of the next token, (rows, V)."""

    def prefill(self, prompts: Sequence[Sequence[int]], copies: Tensor) -> Tensor:
        """Read the distinct prompts and make row i continue prompts[copies[i]]; copies count up from 0 when they are all different."""
        ...

    def step(self, tokens: Tensor) -> Tensor:
        """Append tokens (rows,) to the rows."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Drop every row but these."""
        ...

    def join(self, other: Self) -> None:
        """Append the rows of another decoder of the same model below these; it is used up."""
        ...


def open_decoder(model: PreTrainedModel, pad_token_id: int, capacity: int) -> Decoder:
    """The fastest decoder that is exact for this architecture. capacity: tokens of the longest row, prompt included; beyond it it grows."""
    if "past_key_values" in inspect.signature(model.forward).parameters:
        cache = DynamicCache(config=model.config)
        # Linear-attention and other recurrent states are not exact under left padding: those models read their tokens again.
        if all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers):
            return CachedDecoder(model, cache, pad_token_id, capacity)
    return RereadingDecoder(model, pad_token_id, capacity)


class PreallocatedLayer(DynamicLayer):
    """Keys and values of one layer in buffers of full length: a step writes one column where DynamicLayer copies everything."""

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity, self.length = capacity, 0

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
            self.key_buffer, self.value_buffer = (x.new_empty(*x.shape[:2], self.capacity, x.shape[3]) for x in (key_states, value_states))
        start, self.length = self.length, self.length + key_states.shape[2]
        self.key_buffer[:, :, start:self.length] = key_states
        self.value_buffer[:, :, start:self.length] = value_states
        return self._view()

    def batch_select_indices(self, indices: Tensor) -> None:
        if self.is_initialized:
            self.key_buffer, self.value_buffer = self.key_buffer[indices], self.value_buffer[indices]
            self._view()

    def get_seq_length(self) -> int:
        return self.length

    def resize(self, width: int, capacity: int) -> None:
        """Keep the last `width` columns, empty ones before them where there are fewer, in buffers of another capacity."""
        kept = min(width, self.length)
        for name in ("key_buffer", "value_buffer"):
            old = getattr(self, name)
            new = old.new_zeros(*old.shape[:2], capacity, old.shape[3])     # what is masked must still be a number
            new[:, :, width - kept:width] = old[:, :, self.length - kept:self.length]
            setattr(self, name, new)
        self.capacity, self.length = capacity, width
        self._view()

    def join(self, other: PreallocatedLayer) -> None:
        """Append the rows of a layer of the same width and capacity."""
        self.key_buffer = torch.cat([self.key_buffer, other.key_buffer])
        self.value_buffer = torch.cat([self.value_buffer, other.value_buffer])
        self._view()

    def _view(self) -> tuple[Tensor, Tensor]:
        self.keys, self.values = self.key_buffer[:, :, :self.length], self.value_buffer[:, :, :self.length]
        return self.keys, self.values


class WindowLayer(DynamicSlidingWindowLayer):
    """Keys and values of the last columns only, for a layer that sees no further back."""

    def resize(self, width: int, capacity: int) -> None:
        """As PreallocatedLayer.resize; this layer has no buffers."""
        assert self.keys is not None and self.values is not None
        held, kept = self.keys.shape[2], min(width, self.sliding_window - 1)
        before = (0, 0, max(0, kept - held), 0)
        self.keys, self.values = (pad(x[:, :, max(0, held - kept):], before) for x in (self.keys, self.values))
        self.cumulative_length = width

    def join(self, other: WindowLayer) -> None:
        """As PreallocatedLayer.join."""
        assert self.keys is not None and self.values is not None and other.keys is not None and other.values is not None
        self.keys, self.values = torch.cat([self.keys, other.keys]), torch.cat([self.values, other.values])


class CachedDecoder:
    """Left-padded rows over a key/value cache; positions count real tokens only."""

    def __init__(self, model: PreTrainedModel, cache: DynamicCache, pad_token_id: int, capacity: int) -> None:
        self.layers: list[Any] = [WindowLayer(layer.sliding_window) if isinstance(layer, DynamicSlidingWindowLayer)
                                  else PreallocatedLayer(capacity) for layer in cache.layers]
        cache.layers = self.layers
        self.model, self.cache, self.pad_token_id, self.capacity = model, cache, pad_token_id, capacity
        accepted = inspect.signature(model.forward).parameters
        self.takes_positions = "position_ids" in accepted
        self.last_only = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}

    def prefill(self, prompts: Sequence[Sequence[int]], copies: Tensor) -> Tensor:
        device, width = self.model.device, max(len(p) for p in prompts)
        self.length = width
        self.mask = torch.ones(len(prompts), self.capacity, dtype=torch.long, device=device)
        tokens = torch.full((len(prompts), width), self.pad_token_id, device=device)
        for row, prompt in enumerate(prompts):
            self.mask[row, :width - len(prompt)] = 0
            tokens[row, width - len(prompt):] = torch.tensor(prompt, device=device)
        positions = (self.mask[:, :width].cumsum(1) - 1).clamp_(min=0)
        logits = self._forward(tokens, positions)
        self.next_position = positions[:, -1:] + 1
        if len(copies) == len(prompts):                             # all distinct, already in order
            return logits
        self.keep(copies)
        return logits[copies]

    def step(self, tokens: Tensor) -> Tensor:
        if self.length == self.capacity:
            self._resize(self.length, self.length + ROOM)
        self.length += 1
        logits = self._forward(tokens[:, None], self.next_position)
        self.next_position = self.next_position + 1
        return logits

    def keep(self, rows: Tensor) -> None:
        self.cache.batch_select_indices(rows)
        self.mask, self.next_position = self.mask[rows], self.next_position[rows]

    def join(self, other: CachedDecoder) -> None:
        # Only rows that have left ever filled the columns before the longest one that is here: they go.
        width = int(torch.cat([self.next_position, other.next_position]).max())
        for decoder in (self, other):
            decoder._resize(width, width + ROOM)
        for mine, theirs in zip(self.layers, other.layers, strict=True):
            mine.join(theirs)
        self.mask, self.next_position = torch.cat([self.mask, other.mask]), torch.cat([self.next_position, other.next_position])

    def _resize(self, width: int, capacity: int) -> None:
        """End the rows at column `width`, which none is longer than."""
        for layer in self.layers:
            layer.resize(width, capacity)
        kept = min(width, self.length)
        mask = self.mask.new_zeros(len(self.mask), capacity)
        mask[:, width - kept:width] = self.mask[:, self.length - kept:self.length]
        mask[:, width:] = 1
        self.mask, self.length, self.capacity = mask, width, capacity

    def _forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        extra: dict[str, Any] = {"position_ids": positions} if self.takes_positions else {}
        return self.model(input_ids=tokens, attention_mask=self.mask[:, :self.length], past_key_values=self.cache, use_cache=True,
                          **self.last_only, **extra).logits[:, -1]


class RereadingDecoder:
    """Right-padded rows read from the start at each step: slow, and right for every causal model, with or without a cache of its own."""

    def __init__(self, model: PreTrainedModel, pad_token_id: int, capacity: int) -> None:
        self.model, self.pad_token_id, self.capacity = model, pad_token_id, capacity

    def prefill(self, prompts: Sequence[Sequence[int]], copies: Tensor) -> Tensor:
        device = self.model.device
        tokens = torch.full((len(prompts), self.capacity), self.pad_token_id, device=device)
        for row, prompt in enumerate(prompts):
            tokens[row, :len(prompt)] = torch.tensor(prompt, device=device)
        self.lengths = torch.tensor([len(p) for p in prompts], device=device)[copies]
        self.tokens = tokens[copies]
        return self._forward()

    def step(self, tokens: Tensor) -> Tensor:
        if int(self.lengths.max()) == self.tokens.shape[1]:
            self.tokens = pad(self.tokens, (0, ROOM), value=self.pad_token_id)
        self.tokens[torch.arange(len(tokens), device=tokens.device), self.lengths] = tokens
        self.lengths = self.lengths + 1
        return self._forward()

    def keep(self, rows: Tensor) -> None:
        self.tokens, self.lengths = self.tokens[rows], self.lengths[rows]

    def join(self, other: RereadingDecoder) -> None:
        capacity = max(self.tokens.shape[1], other.tokens.shape[1])
        self.tokens = torch.cat([pad(t, (0, capacity - t.shape[1]), value=self.pad_token_id) for t in (self.tokens, other.tokens)])
        self.lengths = torch.cat([self.lengths, other.lengths])

    def _forward(self) -> Tensor:
        tokens = self.tokens[:, :int(self.lengths.max())]
        logits = self.model(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False).logits
        return logits[torch.arange(len(tokens), device=tokens.device), self.lengths - 1]
