"""What a decoder remembers of the tokens so far: a preallocated key/value cache, or the tokens themselves."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer


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


def open_decoder(model: PreTrainedModel, pad_token_id: int, capacity: int) -> Decoder:
    """The fastest decoder that is exact for this architecture. capacity: tokens of the longest row, prompt included."""
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

    def _view(self) -> tuple[Tensor, Tensor]:
        self.keys, self.values = self.key_buffer[:, :, :self.length], self.value_buffer[:, :, :self.length]
        return self.keys, self.values


class CachedDecoder:
    """Left-padded rows over a key/value cache; positions count real tokens only."""

    def __init__(self, model: PreTrainedModel, cache: DynamicCache, pad_token_id: int, capacity: int) -> None:
        cache.layers = [PreallocatedLayer(capacity) if type(layer) is DynamicLayer else layer for layer in cache.layers]
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
        self.length += 1
        logits = self._forward(tokens[:, None], self.next_position)
        self.next_position = self.next_position + 1
        return logits

    def keep(self, rows: Tensor) -> None:
        self.cache.batch_select_indices(rows)
        self.mask, self.next_position = self.mask[rows], self.next_position[rows]

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
        self.tokens[torch.arange(len(tokens), device=tokens.device), self.lengths] = tokens
        self.lengths = self.lengths + 1
        return self._forward()

    def keep(self, rows: Tensor) -> None:
        self.tokens, self.lengths = self.tokens[rows], self.lengths[rows]

    def _forward(self) -> Tensor:
        tokens = self.tokens[:, :int(self.lengths.max())]
        logits = self.model(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False).logits
        return logits[torch.arange(len(tokens), device=tokens.device), self.lengths - 1]
