"""The two networks PPO trains: separate, or one trunk with two heads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tutelage.algos.logprobs import entropy_from_logits, gather_logprobs
from tutelage.base.errors import ArtifactError
from tutelage.models.heads import ScoredModel
from tutelage.models.policy import check_right_padded, save_policy, token_logprobs_and_entropy


class ActorCritic(Protocol):
    """A policy that also says what each prefix is worth."""

    policy: PreTrainedModel

    def evaluate(self, tokens: Tensor, attention_mask: Tensor, *, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
        """(logprobs, values, entropy), each (B, T) aligned with tokens and 0 off the mask."""
        ...

    def values(self, tokens: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, T): value of the prefix before each token; column 0 is 0."""
        ...

    def last_values(self, tokens: Tensor, attention_mask: Tensor) -> Tensor:
        """(B,): value after the last real token, to bootstrap truncated rows with."""
        ...

    def networks(self) -> list[tuple[str, nn.Module]]:
        """What is trained: ("policy", …), ("critic", …). A shared trunk belongs to the policy."""
        ...

    def save(self, folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
        """Write `model/` and `critic/`."""
        ...


@dataclass
class SeparateNetworks:
    """A policy and a critic with nothing in common. The default: the two do not pull at each other's weights."""

    policy: PreTrainedModel
    critic: ScoredModel

    def evaluate(self, tokens: Tensor, attention_mask: Tensor, *, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
        logprobs, entropy = token_logprobs_and_entropy(self.policy, tokens, attention_mask, temperature=temperature)
        return logprobs, self.critic.values(tokens, attention_mask), entropy

    def values(self, tokens: Tensor, attention_mask: Tensor) -> Tensor:
        return self.critic.values(tokens, attention_mask)

    def last_values(self, tokens: Tensor, attention_mask: Tensor) -> Tensor:
        return self.critic.score(tokens, attention_mask)

    def networks(self) -> list[tuple[str, nn.Module]]:
        return [("policy", self.policy), ("critic", self.critic)]

    def save(self, folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
        save_policy(self.policy, tokenizer, folder / "model")
        self.critic.save(folder / "critic", tokenizer)


class SharedTrunk:
    """One transformer with a language-model head and a value head that starts at 0: half the memory and time."""

    def __init__(self, policy: PreTrainedModel, value_head: Path | None = None) -> None:
        self.policy = policy
        hidden_size = policy.config.get_text_config().hidden_size
        self.value_head = nn.Linear(hidden_size, 1).to(policy.device)
        with torch.no_grad():
            for parameter in self.value_head.parameters():
                parameter.zero_()
        if value_head is not None:
            try:
                self.value_head.load_state_dict(load_file(value_head))
            except (OSError, RuntimeError) as error:
                raise ArtifactError(
                    f"{value_head} holds no value head of width {hidden_size}", hint="resume from an older checkpoint"
                ) from error

    def _forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(logits, score of the prefix ending at each token): (B, T, V), (B, T)."""
        out = self.policy(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False, output_hidden_states=True)
        return out.logits, self.value_head(out.hidden_states[-1].float()).squeeze(-1)

    def evaluate(self, tokens: Tensor, attention_mask: Tensor, *, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
        mask = check_right_padded(attention_mask)
        logits, scores = self._forward(tokens)
        logprobs, entropy = gather_logprobs(logits, tokens, temperature=temperature), entropy_from_logits(logits, temperature=temperature)
        return torch.where(mask, logprobs, 0.0), _before(scores, mask), torch.where(mask, entropy, 0.0)

    def values(self, tokens: Tensor, attention_mask: Tensor) -> Tensor:
        return _before(self._forward(tokens)[1], check_right_padded(attention_mask))

    def last_values(self, tokens: Tensor, attention_mask: Tensor) -> Tensor:
        last = check_right_padded(attention_mask).long().sum(1) - 1
        return self._forward(tokens)[1].gather(1, last[:, None]).squeeze(1)

    def networks(self) -> list[tuple[str, nn.Module]]:
        return [("policy", self.policy), ("critic", self.value_head)]

    def save(self, folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
        save_policy(self.policy, tokenizer, folder / "model")
        self.save_head(folder)

    def save_head(self, folder: Path) -> None:
        """Write `critic/value_head.safetensors`."""
        (folder / "critic").mkdir()
        save_file(self.value_head.state_dict(), folder / "critic" / "value_head.safetensors")


def _before(scores: Tensor, mask: Tensor) -> Tensor:
    """Scores of prefixes ending at t -> values of prefixes before t."""
    return torch.where(mask, torch.cat([torch.zeros_like(scores[:, :1]), scores[:, :-1]], dim=1), 0.0)
