"""The protocol between recipes and whatever generates: token ids in, token ids and their log-probs out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import Tensor, nn

from tutelage.base.records import Completion
from tutelage.rollout.sampling import Sampling

Weights = nn.Module | Mapping[str, Tensor]


class Engine(Protocol):
    """Generates with the weights of its last `sync`."""

    weight_version: int

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling, *, row_ids: Sequence[int] | None = None) -> list[Completion]:
        """One completion per prompt, in order. row_ids: name the rows for the random draws; default 0, 1, ….

        Raises: DataError when a prompt is empty or leaves no room in the context.
        """
        ...

    def sync(self, weights: Weights, version: int) -> None:
        """Take these weights; completions carry `version` from now on."""
        ...

    def close(self) -> None:
        """Free what the engine holds."""
        ...
