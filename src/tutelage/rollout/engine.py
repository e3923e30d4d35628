"""The engine protocol between recipes and whatever generates, and the engine inside the training process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tutelage.base.errors import ArtifactError, ConfigError, DataError
from tutelage.base.records import Completion
from tutelage.models.policy import context_length, open_policy, resolve_model
from tutelage.rollout.cache import Decoder, open_decoder
from tutelage.rollout.sampling import Sampling, draw, uniforms
from tutelage.text.tokenizer import open_tokenizer

__all__ = ["Engine", "InProcessEngine", "Sampling", "Weights", "open_engine"]

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


class InProcessEngine:
    """Decodes with any Hugging Face causal LM of this process. Training may share it: then `sync` only stamps the version.

    Equal prompts are read once, finished rows leave the batch, and each row's draws are its own: a completion does not depend on
    max_batch, on the other rows or on their order (beyond the last bit of a matrix product).
    """

    def __init__(self, model: PreTrainedModel, pad_token_id: int, *, max_batch: int = 256) -> None:
        self.model, self.pad_token_id, self.max_batch, self.weight_version = model, pad_token_id, max_batch, 0
        self.context = context_length(model)

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling, *, row_ids: Sequence[int] | None = None) -> list[Completion]:
        """As Engine.generate."""
        budgets = [self.budget(row, prompt, sampling) for row, prompt in enumerate(prompts)]
        ids = range(len(prompts)) if row_ids is None else row_ids
        if len(ids) != len(prompts):
            raise ValueError(f"{len(ids)} row ids for {len(prompts)} prompts")
        tokens: list[list[int]] = [[] for _ in prompts]
        logprobs: list[list[float]] = [[] for _ in prompts]
        # Neighbours of like length need little padding, and equal prompts meet in one batch.
        order = sorted(range(len(prompts)), key=lambda row: (len(prompts[row]), tuple(prompts[row])))
        with self._eval_mode():
            for start in range(0, len(order), self.max_batch):
                batch = order[start:start + self.max_batch]
                for step in _decode(self.model, self.pad_token_id, [tuple(prompts[row]) for row in batch], [ids[row] for row in batch],
                                    [budgets[row] for row in batch], sampling):
                    for i, token, logprob in step:
                        tokens[batch[i]].append(token)
                        logprobs[batch[i]].append(logprob)
        stops = set(sampling.stop_tokens)
        return [Completion(tuple(t), tuple(lp), "stop" if t[-1] in stops else "length", self.weight_version)
                for t, lp in zip(tokens, logprobs, strict=True)]

    def stream(self, prompt: Sequence[int], sampling: Sampling, *, row_id: int = 0) -> Iterator[int]:
        """The tokens of generate([prompt], sampling, row_ids=[row_id]), one by one as they are drawn. Raises: DataError as there."""
        budget = self.budget(0, prompt, sampling)
        with self._eval_mode():
            for step in _decode(self.model, self.pad_token_id, [tuple(prompt)], [row_id], [budget], sampling):
                yield step[0][1]

    def budget(self, row: int, prompt: Sequence[int], sampling: Sampling) -> int:
        """Tokens a prompt's answer may have: max_tokens, or what the context leaves. row: its name in errors. Raises: DataError on none."""
        if not prompt:
            raise DataError(f"prompt {row} has no tokens", hint="give it at least the beginning-of-sequence token")
        if self.context is None:
            return sampling.max_tokens
        if len(prompt) >= self.context:
            raise DataError(f"prompt {row} has {len(prompt)} tokens; the model's context of {self.context} leaves no room for an answer",
                            hint="drop or shorten such prompts, or train with a larger context_tokens")
        return min(sampling.max_tokens, self.context - len(prompt))

    def sync(self, weights: Weights, version: int) -> None:
        """As Engine.sync. The engine's own module needs no copy. Raises: ArtifactError when the names or shapes differ."""
        if weights is not self.model:
            state = weights.state_dict() if isinstance(weights, nn.Module) else weights
            try:
                self.model.load_state_dict(state)
            except RuntimeError as error:
                raise ArtifactError(f"these weights do not fit the engine's model: {' '.join(str(error).split())[:160]}",
                                    hint="open the engine from the same model that is trained") from error
        self.weight_version = version

    def close(self) -> None:
        """Nothing outlives a call to generate."""

    @contextmanager
    def _eval_mode(self) -> Iterator[None]:
        training = self.model.training
        self.model.eval()
        try:
            yield
        finally:
            self.model.train(training)


def open_engine(model: str | Path | PreTrainedModel, engine: Literal["auto", "in-process"] = "auto", *, device: str = "cpu") -> Engine:
    """What generates with a model: a folder, checkpoint or run, opened on `device`, or a model that is open already.

    engine: auto takes the only kind there is yet, in this process. Raises: ArtifactError when there is no model, or it has no pad token;
    ConfigError on another engine.
    """
    if engine not in ("auto", "in-process"):
        raise ConfigError(f"no engine {engine!r}", hint="one of auto, in-process")
    if not isinstance(model, PreTrainedModel):
        folder = resolve_model(model)
        model = open_policy(folder, device=device, tokenizer=open_tokenizer(folder))
    pad_token_id = model.config.get_text_config().pad_token_id
    if pad_token_id is None:
        raise ArtifactError("the model's config has no pad_token_id", hint="set model.config.pad_token_id to its tokenizer's")
    return InProcessEngine(model, pad_token_id)


@torch.no_grad()
def prefill(model: PreTrainedModel, pad_token_id: int, prompts: Sequence[tuple[int, ...]], capacity: int) -> tuple[Decoder, Tensor]:
    """A decoder that has read the prompts, equal ones once, and the logits (rows, V) of each row's first token."""
    distinct = {prompt: i for i, prompt in enumerate(dict.fromkeys(prompts))}
    decoder = open_decoder(model, pad_token_id, capacity)
    return decoder, decoder.prefill(list(distinct), torch.tensor([distinct[prompt] for prompt in prompts], device=model.device))


def _decode(model: PreTrainedModel, pad_token_id: int, prompts: Sequence[tuple[int, ...]], row_ids: Sequence[int], budgets: Sequence[int],
            sampling: Sampling) -> Iterator[list[tuple[int, int, float]]]:
    """Per step, (row, token, log-prob) of every unfinished row. Rows are indices into prompts."""
    device = model.device
    u = torch.from_numpy(uniforms(sampling.seed, row_ids, max(budgets))).to(device)
    stops = torch.tensor(sampling.stop_tokens, dtype=torch.long, device=device)
    budget = torch.tensor(budgets, device=device)
    rows, alive = torch.arange(len(prompts), device=device), torch.ones(len(prompts), dtype=torch.bool, device=device)
    decoder, logits = prefill(model, pad_token_id, prompts, max(map(len, prompts)) + max(budgets))
    for position in range(max(budgets)):
        tokens, logprobs = draw(logits, u[rows, position], sampling)
        yield [(i, token, logprob) for i, token, logprob, live in
               zip(rows.tolist(), tokens.tolist(), logprobs.tolist(), alive.tolist(), strict=True) if live]
        alive = alive & ~torch.isin(tokens, stops) & (budget[rows] > position + 1)
        finished = int((~alive).sum())
        if finished == len(alive):
            return
        with torch.no_grad():
            # Dropping rows copies the cache: not for every single one, but a row whose context is full has no position left to go on to.
            if finished * 8 >= len(alive) or bool((budget[rows] <= position + 1).any()):
                stay = alive.nonzero().squeeze(1)
                rows, tokens, alive = rows[stay], tokens[stay], alive[stay]
                decoder.keep(stay)
            logits = decoder.step(tokens)
