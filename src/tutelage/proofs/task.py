"""A task small enough to list every response: 5 tokens, at most 3 of them, one prompt, a reward table, a random reference."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from tutelage.proofs.solver import Array, scale_to_kl

VOCABULARY = ("<|pad|>", "<|eos|>", "a", "b", "c")
PAD, EOS = 0, 1
PROMPT = (2, 3)
MAX_TOKENS = 3
MAX_KL = 1.0
"""Nats that the optimum may lie away from the reference: farther away it can sit on responses the reference never samples."""

Response = tuple[int, ...]


@dataclass(frozen=True)
class Task:
    """One cell: a reward table over every response and the reference that KL is measured from.

    responses: N of them, all there are. rewards: (N,), the N(0, 1) table times scale. ref_logprobs: (N,).
    """

    beta: float
    seed: int
    reference: LlamaForCausalLM
    responses: tuple[Response, ...]
    rewards: Array
    ref_logprobs: Array
    scale: float


def make_task(beta: float, seed: int, *, scaled: bool = True) -> Task:
    """The task of a seed; the same seed has the same reference and the same table up to its scale, whatever beta is."""
    reference, responses = random_model(seed), all_responses()
    ref_logprobs = response_logprobs(reference, responses)
    table = np.random.default_rng(seed).standard_normal(len(responses))
    scale = scale_to_kl(ref_logprobs, table, beta, max_kl=MAX_KL) if scaled else 1.0
    return Task(beta, seed, reference, responses, scale * table, ref_logprobs, scale)


def all_responses(max_tokens: int = MAX_TOKENS) -> tuple[Response, ...]:
    """Every response: one that stops with EOS, or max_tokens tokens without it. The padding token is a token like the others here."""
    words = [t for t in range(len(VOCABULARY)) if t != EOS]
    stopped = [(*body, EOS) for length in range(max_tokens) for body in product(words, repeat=length)]
    return (*stopped, *product(words, repeat=max_tokens))


@torch.no_grad()
def response_logprobs(model: PreTrainedModel, responses: Iterable[Response], prompt: Response = PROMPT) -> Array:
    """(N,) log-probability of each response, from one plain float64 forward per prefix length: no padding, no mask, no cache."""
    exact = copy.deepcopy(model).double().eval()
    responses = list(responses)
    next_logprobs: dict[Response, Array] = {}
    for length in range(max(map(len, responses))):
        prefixes = sorted({r[:length] for r in responses if len(r) > length})
        logits = exact(input_ids=torch.tensor([prompt + prefix for prefix in prefixes]), use_cache=False).logits[:, -1].numpy()
        logits = logits - logits.max(1, keepdims=True)
        next_logprobs |= dict(zip(prefixes, logits - np.log(np.exp(logits).sum(1, keepdims=True)), strict=True))
    return np.array([sum(next_logprobs[r[:t]][token] for t, token in enumerate(r)) for r in responses])


def random_model(seed: int) -> LlamaForCausalLM:
    """A 2-layer Llama of width 32.

    Its weights are twice as wide as usual: next-token probabilities are then uneven enough that an entropy bonus could not pass for the KL
    (seeds 0 to 19: its optimum is 0.08 to 0.2 away), and even enough that sampling meets every response (the least likely has 0.002).
    """
    config = LlamaConfig(
        vocab_size=len(VOCABULARY), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
        max_position_embeddings=len(PROMPT) + MAX_TOKENS, tie_word_embeddings=False, initializer_range=0.04,
        pad_token_id=PAD, bos_token_id=None, eos_token_id=EOS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).float().eval()


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """The five tokens, in memory."""
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token="<|pad|>"))
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<|pad|>", eos_token="<|eos|>")
