"""How well a policy predicts what people wrote as the assistant: perplexity per token and bits per byte, with intervals by conversation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
import torch

from tutelage.base.stats import Estimate, Floats, bootstrap, estimate
from tutelage.models.batches import pad_tokens
from tutelage.models.policy import token_logprobs
from tutelage.text.chat import Encoded


class Likelihood(TypedDict):
    """`perplexity`: exp of nats per trained token, the tokens that end turns included; comparable between models of one tokenizer only.
    `bits_per_byte`: the same nats over the UTF-8 bytes of the trained turns, whatever the tokenizer."""

    perplexity: Estimate
    bits_per_byte: Estimate
    tokens: int


@torch.no_grad()
def likelihood(policy: Any, tokenizer: Any, examples: Sequence[Encoded], *, batch_size: int = 16) -> Likelihood:
    """Of the trained tokens of held-out conversations, under the policy at temperature 1."""
    nats, tokens, size = np.zeros(len(examples)), np.zeros(len(examples)), np.zeros(len(examples))
    device = next(policy.parameters()).device
    for start in range(0, len(examples), batch_size):
        part = slice(start, start + batch_size)
        batch = pad_tokens([(e.tokens, e.response_mask) for e in examples[part]], tokenizer.pad_token_id, device)
        logprobs = token_logprobs(policy, batch.tokens, batch.attention_mask)                             # (B, T)
        nats[part] = -logprobs.where(batch.response_mask, 0.0).sum(1).double().cpu().numpy()
        tokens[part] = batch.response_mask.sum(1).cpu().numpy()
        size[part] = [trained_bytes(tokenizer, e) for e in examples[part]]
    per_token, bits = ratio_ci(nats, tokens), ratio_ci(nats / math.log(2), size)
    perplexity = estimate(math.exp(per_token["mean"]), math.exp(per_token["low"]), math.exp(per_token["high"]), per_token["n"])
    return {"perplexity": perplexity, "bits_per_byte": bits, "tokens": int(tokens.sum())}


def trained_bytes(tokenizer: Any, example: Encoded) -> int:
    """UTF-8 bytes of the trained tokens, control tokens such as EOS left out."""
    kept = [token for token, trained in zip(example.tokens, example.response_mask, strict=True) if trained]
    return len(tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False).encode())


def ratio_ci(numerators: Floats, denominators: Floats, *, seed: int = 0) -> Estimate:
    """sum / sum with a bootstrap interval over rows; nan without rows, nan bounds with one."""
    n = len(numerators)
    if n == 0 or denominators.sum() == 0:
        return estimate(math.nan, math.nan, math.nan, n)
    if n == 1:
        return estimate(float(numerators[0] / denominators[0]), math.nan, math.nan, n)
    low, high = bootstrap(lambda rows: float(numerators[rows].sum() / denominators[rows].sum()), n, seed=seed)
    return estimate(float(numerators.sum() / denominators.sum()), low, high, n)
