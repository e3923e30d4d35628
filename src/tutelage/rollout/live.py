"""A batch that rows join and leave while it decodes: what a server of many people's questions needs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from tutelage.base.records import FinishReason
from tutelage.rollout.cache import ROOM, Decoder
from tutelage.rollout.engine import InProcessEngine, prefill
from tutelage.rollout.sampling import Sampling, draw, row_generator


class Ask(NamedTuple):
    """A prompt to answer. row_id: names the row for the random draws, as in Engine.generate."""

    prompt: tuple[int, ...]
    sampling: Sampling
    row_id: int = 0


class Drawn(NamedTuple):
    """One token of the row `add` called `key`; finish is None while the row goes on."""

    key: int
    token: int
    logprob: float
    finish: FinishReason | None


@dataclass
class _Row:
    key: int
    sampling: Sampling
    uniforms: np.random.Generator
    left: int
    """Tokens it may still draw; 0 once it has ended or was dropped."""
    token: int = -1
    """The last one drawn."""

    def take(self, token: int, logprob: float) -> Drawn:
        self.token, self.left = token, self.left - 1
        finish: FinishReason | None = "stop" if token in self.sampling.stop_tokens else None if self.left else "length"
        if finish:
            self.left = 0
        return Drawn(self.key, token, logprob, finish)


class LiveBatch:
    """Rows of one model, each with its own sampling. In turns: `add` and `drop` as wished, `draw`, `drop` again, `advance`.

    A row's tokens are those of generate([prompt], sampling, row_ids=[row_id]), whatever else is in the batch and whenever it came.
    """

    def __init__(self, engine: InProcessEngine) -> None:
        self.engine, self.model = engine, engine.model.eval()
        self._rows: list[_Row] = []
        self._decoder: Decoder | None = None
        self._logits = torch.empty(0)                               # (rows, V), of the next token
        self._added = 0

    def __len__(self) -> int:
        return sum(row.left > 0 for row in self._rows)

    def add(self, asks: Sequence[Ask]) -> list[int]:
        """Read the prompts, equal ones once. Returns a key for each row. Raises: DataError as Engine.generate; then none was added."""
        budgets = [self.engine.budget(row, ask.prompt, ask.sampling) for row, ask in enumerate(asks)]
        width = max(len(ask.prompt) for ask in asks)
        decoder, logits = prefill(self.model, self.engine.pad_token_id, [ask.prompt for ask in asks], width + min(ROOM, max(budgets)))
        if self._decoder is None:
            self._decoder, self._logits = decoder, logits
        else:
            self._decoder.join(decoder)
            self._logits = torch.cat([self._logits, logits])
        keys = list(range(self._added, self._added + len(asks)))
        self._rows += [_Row(key, ask.sampling, row_generator(ask.sampling.seed, ask.row_id), budget)
                       for key, ask, budget in zip(keys, asks, budgets, strict=True)]
        self._added += len(asks)
        return keys

    def drop(self, keys: Collection[int]) -> None:
        """Let rows leave before their end; keys that have left already do no harm."""
        for row in self._rows:
            if row.key in keys:
                row.left = 0

    @torch.no_grad()
    def draw(self) -> list[Drawn]:
        """The next token of every row; those that end with it leave."""
        live = [i for i, row in enumerate(self._rows) if row.left]
        alike: dict[tuple[float, int, float], list[int]] = {}
        for i in live:
            sampling = self._rows[i].sampling
            alike.setdefault((sampling.temperature, sampling.top_k, sampling.top_p), []).append(i)
        drawn: dict[int, Drawn] = {}
        for rows in alike.values():
            u = torch.tensor([self._rows[i].uniforms.random() for i in rows], dtype=torch.float64, device=self.model.device)
            logits = self._logits if len(rows) == len(self._rows) else self._logits[rows]
            tokens, logprobs = draw(logits, u, self._rows[rows[0]].sampling)
            drawn |= {i: self._rows[i].take(token, logprob)
                      for i, token, logprob in zip(rows, tokens.tolist(), logprobs.tolist(), strict=True)}
        return [drawn[i] for i in live]

    @torch.no_grad()
    def advance(self) -> None:
        """Read the tokens just drawn, of the rows that stay."""
        stay = [i for i, row in enumerate(self._rows) if row.left]
        if not stay:
            self._rows, self._decoder, self._logits = [], None, torch.empty(0)
            return
        assert self._decoder is not None
        if len(stay) < len(self._rows):
            self._rows = [self._rows[i] for i in stay]
            self._decoder.keep(torch.tensor(stay, device=self.model.device))
        self._logits = self._decoder.step(torch.tensor([row.token for row in self._rows], device=self.model.device))
