"""What scores an answer: one call from rollouts to numbers, whatever stands behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from tutelage.text.chat import encode_example


class Reward(Protocol):
    """Scores of a rollout's responses."""

    def __call__(self, prompts: Sequence[Prompt], rollout: Rollout) -> Tensor:
        """prompts: one per row. Returns: (B,) float32, finite. Raises: AuditError naming the first answer without a finite score."""
        ...


@dataclass
class ModelReward:
    """A reward model that reads the policy's own tokens; with another tokenizer the text is encoded again."""

    model: ScoredModel
    tokenizer: Any
    policy_tokenizer: Any
    microbatch: int = 128

    def __post_init__(self) -> None:
        self._same_tokens = self.tokenizer.get_vocab() == self.policy_tokenizer.get_vocab()

    @torch.no_grad()
    def __call__(self, prompts: Sequence[Prompt], rollout: Rollout) -> Tensor:
        if not self._same_tokens:
            return check_scores(self.score_texts(prompts, rollout.texts(self.policy_tokenizer)), prompts, rollout, self.policy_tokenizer)
        scores = [
            self.model.score(t, m)
            for t, m in zip(rollout.tokens.split(self.microbatch), rollout.attention_mask.split(self.microbatch), strict=True)
        ]
        return check_scores(torch.cat(scores), prompts, rollout, self.policy_tokenizer)

    @torch.no_grad()
    def score_texts(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> Tensor:
        """(B,) scores of answers given as text; EOS is appended as in the model's training."""
        rows = [encode_example(self.tokenizer, p, t) for p, t in zip(prompts, texts, strict=True)]
        limit = context_length(self.model.model)
        for prompt, row in zip(prompts, rows, strict=True):
            if limit and len(row.tokens) > limit:
                raise DataError(
                    f"prompt + answer has {len(row.tokens)} tokens, the reward model reads {limit}: {prompt_text(prompt)[:60]!r}",
                    hint="leave long prompts out, or train the reward model with a longer context",
                )
        out = []
        for start in range(0, len(rows), self.microbatch):
            batch = pad_tokens(
                [(r.tokens, r.response_mask) for r in rows[start : start + self.microbatch]],
                self.tokenizer.pad_token_id,
                self.model.score_shift.device,
            )
            out.append(self.model.score(batch.tokens, batch.attention_mask))
        return torch.cat(out)


@dataclass
class FunctionReward:
    """Any function of texts: reward(prompts, completions) -> one number each."""

    function: Callable[[list[str], list[str]], Sequence[float]]
    policy_tokenizer: Any

    def __call__(self, prompts: Sequence[Prompt], rollout: Rollout) -> Tensor:
        texts = rollout.texts(self.policy_tokenizer)
        scores = self.function([last_user_text(p) for p in prompts], texts)
        if len(scores) != len(texts):
            raise AuditError(
                f"the reward function returned {len(scores)} scores for {len(texts)} answers",
                hint="return one number per completion, in order",
            )
        return check_scores(torch.tensor([float(s) for s in scores]), prompts, rollout, self.policy_tokenizer)


def last_user_text(prompt: Prompt) -> str:
    """What the person asked last; the whole of a raw prompt."""
    if isinstance(prompt, str):
        return prompt
    return next((m.content for m in reversed(prompt) if m.role == "user"), "")


def check_scores(scores: Tensor, prompts: Sequence[Prompt], rollout: Rollout, tokenizer: Any) -> Tensor:
    """The scores, if there is a finite one per row. Raises: AuditError naming the first answer without; a nan would poison every weight."""
    if scores.shape != (len(rollout),):
        raise AuditError(f"the reward gave scores of shape {tuple(scores.shape)} for {len(rollout)} answers",
                         hint="return one number per answer, in order")
    bad = (~torch.isfinite(scores)).nonzero().flatten().tolist()
    if bad:
        row = bad[0]
        raise AuditError(
            f"reward is {scores[row].item()} for {len(bad)} of {len(scores)} answers, first "
            f"{rollout.texts(tokenizer)[row][:80]!r} to {prompt_text(prompts[row])[:80]!r}",
            hint="make the reward return a finite number for every answer; nothing was updated",
        )
    return scores
