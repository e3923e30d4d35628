"""A scalar head on any architecture: reward models (score of a response) and critics (value of a prefix)."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from tutelage.base.errors import ArtifactError
from tutelage.base.log import quiet
from tutelage.models.folders import fit_vocabulary, is_scored, load_pretrained, require_complete, resolve_model
from tutelage.models.policy import check_right_padded, computes_exactly, set_special_tokens


class ScoredModel(nn.Module):
    """A Hugging Face sequence-classification model with one label, read at every token.

    On disk it is a plain folder that AutoModelForSequenceClassification opens. Such heads have no bias, so the constant part of the score
    is `score_shift` in config.json: our score = the plain model's logit + score_shift.
    """

    score_shift: Tensor

    def __init__(self, model: PreTrainedModel, score_shift: float = 0.0) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("score_shift", torch.tensor(float(score_shift), dtype=torch.float32))
        find_head(model)                                            # fail now, not at the first score

    @classmethod
    def from_policy(cls, policy_path: str | Path, seed: int, *, tokenizer: PreTrainedTokenizerBase | None = None,
                    dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu") -> ScoredModel:
        """A copy of a policy's transformer with a new head ~ N(0, 1/sqrt(d + 1)), bias 0 (Stiennon et al. 2020's code).

        Raises: ArtifactError when the folder cannot be opened or lacks transformer weights.
        """
        folder = resolve_model(policy_path)
        model, missing = load_pretrained(AutoModelForSequenceClassification, folder, dtype=dtype, num_labels=1)
        head_name, head = find_head(model)
        require_complete(folder, {name for name in missing if not name.startswith(head_name + ".")})
        if tokenizer is not None:
            fit_vocabulary(model, tokenizer, folder)
        draw_head(head, seed)
        return require_token_head(cls(model), folder).to(device)

    @classmethod
    def open(cls, path: str | Path, *, tokenizer: PreTrainedTokenizerBase | None = None, dtype: torch.dtype = torch.float32,
             device: str | torch.device = "cpu") -> ScoredModel:
        """Open a saved reward model or critic, ours or anyone's. Raises: ArtifactError, also when the head itself is not on disk."""
        folder = resolve_model(path)
        model, missing = load_pretrained(AutoModelForSequenceClassification, folder, dtype=dtype)
        if model.config.num_labels != 1:
            labels = f"has {model.config.num_labels} labels, a reward model has one"
            raise ArtifactError(f"{folder} {labels if is_scored(folder) else 'is no reward model: it writes text'}",
                                hint="train one with: tutelage reward")
        require_complete(folder, missing)
        if tokenizer is not None:
            fit_vocabulary(model, tokenizer, folder)
        return require_token_head(cls(model, getattr(model.config, "score_shift", 0.0)), folder).to(device)

    def save(self, folder: str | Path, tokenizer: PreTrainedTokenizerBase) -> None:
        """Write a plain Hugging Face folder, head included, tokenizer beside it."""
        self.model.config.score_shift = float(self.score_shift)
        set_special_tokens(self.model, tokenizer)
        with quiet():
            self.model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)

    @property
    def head(self) -> nn.Linear:
        return find_head(self.model)[1]

    def token_scores(self, tokens: Tensor, attention_mask: Tensor) -> Tensor:
        """Score of the prefix ending at each token.

        Args: tokens: (B, T) right-padded. attention_mask: (B, T), true on real tokens.
        Returns: (B, T) float32, score_shift included, 0 off the mask. Raises: ValueError when a row is not right-padded.
        """
        mask = check_right_padded(attention_mask)
        # No mask is needed on right padding (see policy.token_logits); the ones keep models quiet that ask for a mask.
        hidden = self.model.base_model(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False).last_hidden_state
        with torch.autocast(hidden.device.type, enabled=False):      # a score of 3 digits would tie answers that differ
            scores = self.head(hidden.to(self.head.weight.dtype)).squeeze(-1).float() + self.score_shift.float()
        return torch.where(mask, scores, 0.0)

    def score(self, tokens: Tensor, attention_mask: Tensor) -> Tensor:
        """Score of each whole row, read at its last real token. Args as token_scores. Returns: (B,). Raises: ValueError on an empty row."""
        scores = self.token_scores(tokens, attention_mask)
        last = attention_mask.long().sum(1) - 1
        if bool((last < 0).any()):
            raise ValueError("a row without tokens has no score")
        return scores.gather(1, last[:, None]).squeeze(1)

    def values(self, tokens: Tensor, attention_mask: Tensor) -> Tensor:
        """Value of the prefix before each token, as a critic: column t is the score of the prefix ending at t - 1; column 0 is 0.

        Args as token_scores. Returns: (B, T), 0 off the mask.
        """
        scores = self.token_scores(tokens, attention_mask)
        return torch.where(attention_mask.bool(), torch.cat([torch.zeros_like(scores[:, :1]), scores[:, :-1]], 1), 0.0)

    @torch.no_grad()
    def rescale_(self, gain: float, shift: float) -> Self:
        """score <- gain * score + shift, in place: the gain goes into the head's weight, the rest into score_shift.

        Raises: ValueError unless gain > 0, which would turn preferences round.
        """
        if not gain > 0:
            raise ValueError(f"gain={gain} must be positive")
        self.head.weight.mul_(gain)
        if self.head.bias is not None:
            self.head.bias.mul_(gain)
        self.score_shift.mul_(gain).add_(shift)
        return self


@torch.no_grad()
def require_token_head(scored: ScoredModel, folder: Path) -> ScoredModel:
    """The same model, if the plain one reads its score at the last token through the head alone, as a decoder's classifier does.

    Raises: ArtifactError for others, such as BERT's, which pool: read at the last token they would give scores they were not trained to.
    """
    pad = scored.model.config.get_text_config().pad_token_id
    row = torch.tensor([[t for t in range(4) if t != pad][:3]], device=scored.score_shift.device)
    try:
        prefix = scored.token_scores(row, torch.ones_like(row))[0, 1:] - scored.score_shift
        plain = torch.stack([scored.model(input_ids=row[:, :n], use_cache=False).logits[0, 0] for n in (2, 3)]).float()
        tolerance, size = 1e-3, float(plain.abs().max())
        if not computes_exactly(scored.model):                      # a sum that is near 0 by chance rounds as its terms do
            tolerance, size = 0.05, max(size, float(scored.head.weight.norm()))
        alike = float((prefix - plain).abs().max()) <= tolerance * size + 1e-6
        alike |= not torch.isfinite(plain).all()                    # broken weights: whoever asks for a score says so
    except (TypeError, ValueError, IndexError, RuntimeError, AssertionError):
        alike = False
    if not alike:
        raise ArtifactError(f"{folder} ({type(scored.model).__name__}) does not score a text at its last token, reading from left to right",
                            hint="a reward model is a decoder with a linear head, such as LlamaForSequenceClassification")
    return scored


@torch.no_grad()
def draw_head(head: nn.Linear, seed: int) -> None:
    """A new reward head: weight ~ N(0, 1/sqrt(d + 1)), bias 0 (Stiennon et al. 2020's code). The same seed gives the same head."""
    generator = torch.Generator().manual_seed(seed)
    head.weight.copy_(torch.randn(head.weight.shape, generator=generator) / (head.in_features + 1) ** 0.5)
    if head.bias is not None:
        head.bias.zero_()


def find_head(model: PreTrainedModel) -> tuple[str, nn.Linear]:
    """Name and layer of the one linear map from hidden states to the score. Raises: ArtifactError where there is no single one."""
    heads = [(name, child) for name, child in model.named_children() if isinstance(child, nn.Linear) and child.out_features == 1]
    if len(heads) != 1:
        raise ArtifactError(f"{type(model).__name__} has {len(heads)} linear heads of one output, not one",
                            hint="its classification head is not a single linear layer; choose another base architecture")
    return heads[0]
