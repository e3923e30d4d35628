"""Prompts and their completions as padded tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tutelage.base.records import Completion

_TENSORS = ("tokens", "attention_mask", "response_mask", "logprobs", "finished", "prompt_lengths")


@dataclass(frozen=True)
class Rollout:
    """B answered prompts, right-padded to T tokens.

    tokens: (B, T) int64, prompt then response. attention_mask: (B, T) bool, true on both. response_mask: (B, T) bool, true on response
    tokens, the stop token included. logprobs: (B, T) float32 of the sampler, 0 off the response. finished: (B,) bool, the response ended
    with a stop token rather than at a limit. prompt_lengths: (B,) int64.
    """

    tokens: Tensor
    attention_mask: Tensor
    response_mask: Tensor
    logprobs: Tensor
    finished: Tensor
    prompt_lengths: Tensor
    prompt_tokens: tuple[tuple[int, ...], ...]
    completions: tuple[Completion, ...]

    @classmethod
    def collate(cls, prompts: Sequence[Sequence[int]], completions: Sequence[Completion], pad_token_id: int) -> Rollout:
        """One row per prompt and completion. Masks come from the lengths, so a pad id inside a response stays a token of it.

        Raises: ValueError on unequal numbers of prompts and completions, or none.
        """
        if len(prompts) != len(completions) or not prompts:
            raise ValueError(f"{len(prompts)} prompts and {len(completions)} completions make no rollout")
        rows = [[*p, *c.tokens] for p, c in zip(prompts, completions, strict=True)]
        width = max(map(len, rows))
        tokens = torch.tensor([row + [pad_token_id] * (width - len(row)) for row in rows])
        logprobs = torch.tensor([[0.0] * len(p) + list(c.logprobs) + [0.0] * (width - len(p) - len(c.tokens))
                                 for p, c in zip(prompts, completions, strict=True)])
        starts, ends = torch.tensor([[len(p) for p in prompts], [len(row) for row in rows]])
        column = torch.arange(width)
        mask = column < ends[:, None]
        finished = torch.tensor([c.finish_reason == "stop" for c in completions])
        return cls(tokens, mask, mask & (column >= starts[:, None]), logprobs, finished, starts,
                   tuple(map(tuple, prompts)), tuple(completions))

    def __len__(self) -> int:
        return len(self.completions)

    @property
    def response_lengths(self) -> Tensor:
        """(B,) tokens of each response."""
        return self.response_mask.sum(1)

    def select(self, indices: Tensor | Sequence[int] | slice) -> Rollout:
        """These rows in this order; T stays, so tensors made from the whole rollout can be indexed alike."""
        index = torch.arange(len(self), device=self.tokens.device)[indices]
        chosen = index.tolist()
        return replace(self, **{name: getattr(self, name)[index] for name in _TENSORS},
                       prompt_tokens=tuple(self.prompt_tokens[i] for i in chosen), completions=tuple(self.completions[i] for i in chosen))

    def to(self, device: str | torch.device) -> Rollout:
        """The same rollout on another device."""
        return replace(self, **{name: getattr(self, name).to(device) for name in _TENSORS})

    def texts(self, tokenizer: PreTrainedTokenizerBase) -> list[str]:
        """What a reader sees of each response: no control tokens, no space around."""
        return [str(tokenizer.decode(list(c.tokens), skip_special_tokens=True)).strip() for c in self.completions]
