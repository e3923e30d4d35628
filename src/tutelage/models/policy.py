"""Causal language models: open, save, and the log-probabilities training needs."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from tutelage.algos.logprobs import entropy_from_logits, gather_logprobs
from tutelage.base.errors import ArtifactError, ConfigError
from tutelage.base.log import quiet
from tutelage.models.batches import PackedBatch
from tutelage.models.folders import fit_vocabulary, load_pretrained, require_complete, require_policy, resolve_model


def open_policy(path: str | Path, *, tokenizer: PreTrainedTokenizerBase | None = None, dtype: torch.dtype = torch.float32,
                device: str | torch.device = "cpu") -> PreTrainedModel:
    """Open any Hugging Face causal LM from a model folder, checkpoint or run directory; eval mode, dropout off.

    Args: tokenizer: the one it will be used with; the embeddings grow to fit it and its pad id is set.
        dtype: of the weights in memory; never taken from the file, as training a bf16 checkpoint in bf16 loses small updates.
    Raises: ArtifactError when there is no such model, it is damaged, or it does not read from left to right.
    """
    folder = resolve_model(path)
    require_policy(folder)
    model, missing = load_pretrained(AutoModelForCausalLM, folder, dtype=dtype)
    require_complete(folder, missing)
    require_causal(model, folder)
    if tokenizer is not None:
        fit_vocabulary(model, tokenizer, folder)
    return model.to(device)                                         # type: ignore[arg-type]  # the stub types a decorator wrongly


@torch.no_grad()
def require_causal(model: PreTrainedModel, folder: Path) -> None:
    """AutoModelForCausalLM also opens encoders, which see what stands to the right, and decoders that wait for an encoder.

    Raises: ArtifactError when the logits at a token depend on a later one, cannot be computed, or are no numbers.
    """
    embeddings: Tensor = model.get_input_embeddings().weight        # type: ignore[assignment]
    tokens = torch.tensor([[3, 4, 0], [3, 4, 1]], device=model.device) % len(embeddings)
    try:
        one, other = logits = token_logits(model, tokens).float()
        if logits.isnan().any():
            raise ArtifactError(f"{folder} ({type(model).__name__}) answers with nan: some of its weights are no numbers, or too large",
                                hint="restore the folder from its source, or use a checkpoint from before its training went wrong")
        gaps = (one - other).abs().amax(1)                          # what the third token changes at each place: nothing at the first two
        causal = float(gaps[:2].max()) <= (1e-4 if computes_exactly(model) else 0.05) * float(gaps[2])
    except (TypeError, ValueError, IndexError, RuntimeError, AssertionError):
        causal = False
    if not causal:
        raise ArtifactError(f"{folder} ({type(model).__name__}) does not read from left to right as a causal language model does",
                            hint="encoders and encoder-decoders cannot be trained here; use a decoder such as Llama")


def computes_exactly(model: PreTrainedModel) -> bool:
    """Whether its sums round as float32 does: not in bfloat16, nor from weights in 8 or 4 bits."""
    return model.dtype == torch.float32 and getattr(model.config, "quantization_config", None) is None


def save_policy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: str | Path) -> None:
    """Write a plain Hugging Face folder that servers stop with: the tokenizer's EOS is in its generation settings.

    Ids that already ended generation still do. The generation settings sample the model as it is (temperature 1, nothing cut off).
    A policy that is an adapter on a base (tutelage.models.adapters) is written as its PEFT folder.
    """
    if (roles := getattr(model, "roles", None)) is not None:
        return roles.save(model.role, folder, tokenizer)
    known = model.generation_config.eos_token_id
    stops = [tokenizer.eos_token_id, *([known] if isinstance(known, int) else known or [])]
    stops = list(dict.fromkeys(i for i in stops if i is not None))
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=stops[0] if len(stops) == 1 else stops, pad_token_id=tokenizer.pad_token_id,
        do_sample=True, temperature=1.0, top_k=0, top_p=1.0)
    set_special_tokens(model, tokenizer)
    with quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def set_special_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """The configuration names the ids training used: sequence-classification heads find the last token by the pad id."""
    config = model.config.get_text_config()
    config.pad_token_id, config.eos_token_id = tokenizer.pad_token_id, tokenizer.eos_token_id


def context_length(model: PreTrainedModel) -> int | None:
    """Tokens the model has positions for; None where nothing bounds it (relative positions)."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def require_context(model: PreTrainedModel, tokens: int | None, folder: str | Path, setting: str) -> None:
    """Raises: ConfigError when a setting asks for longer rows than the model has positions for. Beyond them one architecture stops with an
    index error, and another computes what it never learnt and nobody will read: its config.json keeps the shorter length."""
    own = context_length(model)
    if tokens is not None and own is not None and tokens > own:
        raise ConfigError(f"{setting}={tokens}, but {folder} reads {own}", hint=f"lower {setting}")


def token_logits(model: PreTrainedModel, tokens: Tensor) -> Tensor:
    """Logits (B, T, V) of right-padded tokens (B, T).

    Real tokens of a causal model never see what is to their right, so right padding needs no mask; without one the attention takes its
    fast causal path. The mask of ones says so to models that derive positions from it.
    """
    return model(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False).logits


def token_logprobs(model: PreTrainedModel, tokens: Tensor, attention_mask: Tensor, *, temperature: float = 1.0,
                   microbatch: int | None = None) -> Tensor:
    """log p(tokens[:, t] | tokens[:, :t]) under the model at a temperature.

    Args: tokens: (B, T) right-padded. attention_mask: (B, T), true on real tokens. temperature: the sampler's.
        microbatch: rows per forward; None: all at once. The result does not depend on it.
    Returns: (B, T) float32 aligned with tokens; 0 in column 0 and off the mask. Raises: ValueError when a row is not right-padded.
    """
    return torch.cat([torch.where(mask, gather_logprobs(token_logits(model, rows), rows, temperature=temperature), 0.0)
                      for rows, mask in _chunks(tokens, attention_mask, microbatch)])


def token_logprobs_and_entropy(model: PreTrainedModel, tokens: Tensor, attention_mask: Tensor, *, temperature: float = 1.0,
                               microbatch: int | None = None) -> tuple[Tensor, Tensor]:
    """As token_logprobs, with the entropy in nats of the distribution each token was drawn from; (B, T) both."""
    logprobs, entropies = [], []
    for rows, mask in _chunks(tokens, attention_mask, microbatch):
        logits = token_logits(model, rows)
        logprobs.append(torch.where(mask, gather_logprobs(logits, rows, temperature=temperature), 0.0))
        entropies.append(torch.where(mask, entropy_from_logits(logits, temperature=temperature), 0.0))
    return torch.cat(logprobs), torch.cat(entropies)


def packed_logprobs(model: PreTrainedModel, batch: PackedBatch) -> Tensor:
    """log p of each token given those before it in its own text, (B, T); what `batch.trained_mask` leaves out means nothing.

    Positions that restart keep the texts of a row apart, in models that take them (tutelage.train.audits.check_packing).
    """
    return gather_logprobs(model(input_ids=batch.tokens, position_ids=batch.position_ids, use_cache=False).logits, batch.tokens)


def check_right_padded(attention_mask: Tensor) -> Tensor:
    """The mask as bool. Raises: ValueError when a real token follows padding; without a mask it would see that padding."""
    mask = attention_mask.bool()
    if bool((mask[:, 1:] & ~mask[:, :-1]).any()):
        raise ValueError("tokens must be right-padded: a real token follows padding")
    return mask


def _chunks(tokens: Tensor, attention_mask: Tensor, microbatch: int | None) -> list[tuple[Tensor, Tensor]]:
    mask = check_right_padded(attention_mask)
    size = microbatch or max(1, len(tokens))
    return list(zip(tokens.split(size), mask.split(size), strict=True))
