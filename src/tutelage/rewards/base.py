"""What scores an answer: one call from rollouts to numbers, whatever stands behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from tutelage.base.errors import AuditError, DataError
from tutelage.base.records import Prompt, prompt_text
from tutelage.models.batches import pad_tokens
from tutelage.models.heads import ScoredModel
from tutelage.models.policy import context_length
from tutelage.rollout.batch import Rollout
from tutelage.text.chat import encode_example, stop_tokens
from tutelage.text.tokenizer import reads_alike


class Reward(Protocol):
    """Scores of a rollout's responses."""

    def __call__(self, prompts: Sequence[Prompt], rollout: Rollout) -> Tensor:
        """prompts: one per row. Returns: (B,) float32, finite. Raises: AuditError naming the first answer without a finite score."""
        ...


@dataclass
class ModelReward:
    """A reward model. It reads the policy's own tokens where both read text alike; else the text again, through its own chat template."""

    model: ScoredModel
    tokenizer: Any
    policy_tokenizer: Any
    microbatch: int = 128

    def __post_init__(self) -> None:
        self.reads_policy_tokens = reads_alike(self.tokenizer, self.policy_tokenizer)
        self.limit = context_length(self.model.model)
        """Tokens the model can read; None where nothing bounds it."""

    @torch.no_grad()
    def __call__(self, prompts: Sequence[Prompt], rollout: Rollout) -> Tensor:
        if self.reads_policy_tokens:
            pieces = zip(rollout.tokens.split(self.microbatch), rollout.attention_mask.split(self.microbatch), strict=True)
            scores = torch.cat([self.model.score(tokens, mask) for tokens, mask in pieces])
        else:
            rows = self._encode(prompts, rollout.texts(self.policy_tokenizer))
            stops = stop_tokens(self.tokenizer)
            for row, (tokens, done) in enumerate(zip(rows, rollout.finished.tolist(), strict=True)):
                if not done and tokens[-1] in stops:                # an answer cut off gets no end it did not write
                    tokens = tokens[:-1]
                rows[row] = tokens[:self.limit]                     # more tokens than it has positions for: it judges the beginning
            scores = self._score(rows)
        return check_scores(scores, prompts, rollout, self.policy_tokenizer)

    @torch.no_grad()
    def score_texts(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> Tensor:
        """(B,) scores of answers given as text; EOS is appended as in the model's training."""
        rows = self._encode(prompts, texts)
        for prompt, tokens in zip(prompts, rows, strict=True):
            if self.limit and len(tokens) > self.limit:
                raise DataError(
                    f"prompt + answer has {len(tokens)} tokens, the reward model reads {self.limit}: {prompt_text(prompt)[:60]!r}",
                    hint="leave long prompts out, or train the reward model with a longer context",
                )
        return self._score(rows)

    def _encode(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> list[list[int]]:
        return [encode_example(self.tokenizer, p, t).tokens for p, t in zip(prompts, texts, strict=True)]

    def _score(self, rows: Sequence[list[int]]) -> Tensor:
        out = []
        for start in range(0, len(rows), self.microbatch):
            batch = pad_tokens([(tokens, [False] * len(tokens)) for tokens in rows[start : start + self.microbatch]],
                               self.tokenizer.pad_token_id, self.model.score_shift.device)
            out.append(self.model.score(batch.tokens, batch.attention_mask))
        return torch.cat(out)


def last_user_text(prompt: Prompt) -> str:
    """What the person asked last; the whole of a raw prompt."""
    if isinstance(prompt, str):
        return prompt
    return next((m.content for m in reversed(prompt) if m.role == "user"), "")


def check_scores(scores: Tensor, prompts: Sequence[Prompt], rollout: Rollout, tokenizer: Any, *, name: str = "the reward") -> Tensor:
    """The scores, if there is a finite one per row. Raises: AuditError naming the first answer without; a nan would poison every weight."""
    if scores.shape != (len(rollout),):
        raise AuditError(f"{name} gave scores of shape {tuple(scores.shape)} for {len(rollout)} answers",
                         hint="return one number per answer, in order")
    bad = (~torch.isfinite(scores)).nonzero().flatten().tolist()
    if bad:
        row = bad[0]
        raise AuditError(
            f"{name} is {scores[row].item()} for {len(bad)} of {len(scores)} answers, first "
            f"{rollout.texts(tokenizer)[row][:80]!r} to {prompt_text(prompts[row])[:80]!r}",
            hint="make the reward return a finite number for every answer; nothing was updated",
        )
    return scores
