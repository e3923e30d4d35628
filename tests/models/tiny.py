"""Tiny random models of many architectures, and a tokenizer to save beside them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers as hf
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

VOCAB = 61
PAD, BOS, EOS = 0, 1, 2
CONTEXT = 48

# Weights of this size make some tokens ten times likelier than others, so a wrong position or mask changes the log-probs visibly.
_COMMON: dict[str, Any] = {"vocab_size": VOCAB, "pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS, "initializer_range": 0.3}
_LLAMA = _COMMON | {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
                    "max_position_embeddings": CONTEXT}
_GPT = _COMMON | {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT}

CONFIGS: dict[str, Callable[[], hf.PreTrainedConfig]] = {
    "llama": lambda: hf.LlamaConfig(**_LLAMA),
    "gpt2": lambda: hf.GPT2Config(**_GPT),
    "gpt_neox": lambda: hf.GPTNeoXConfig(**_LLAMA),
    "qwen2": lambda: hf.Qwen2Config(**_LLAMA),
    "qwen3": lambda: hf.Qwen3Config(**_LLAMA, head_dim=8),
    "gemma2": lambda: hf.Gemma2Config(**_LLAMA, head_dim=8, query_pre_attn_scalar=8, sliding_window=6),
}
"""The architectures whose reward models are tested too."""

MORE_CONFIGS: dict[str, Callable[[], hf.PreTrainedConfig]] = {
    "mistral, sliding window": lambda: hf.MistralConfig(**_LLAMA, sliding_window=6),
    "opt, learned positions": lambda: hf.OPTConfig(**_COMMON, hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4,
                                                   max_position_embeddings=CONTEXT, word_embed_proj_dim=32, init_std=0.3),
    "bloom, positions from the mask": lambda: hf.BloomConfig(**_COMMON, hidden_size=32, n_layer=2, n_head=4),
    "mamba, no key/value cache": lambda: hf.MambaConfig(**_COMMON, hidden_size=32, num_hidden_layers=2),
    "gpt1, no cache at all": lambda: hf.OpenAIGPTConfig(**_GPT),
}


def tiny(name: str, seed: int = 0) -> hf.PreTrainedModel:
    """A random float32 causal LM in eval mode."""
    torch.manual_seed(seed)
    return hf.AutoModelForCausalLM.from_config((CONFIGS | MORE_CONFIGS)[name]()).float().eval()


def word_tokenizer(size: int = VOCAB) -> hf.PreTrainedTokenizerFast:
    """Words w3, w4, … with pad, bos and eos as ids 0, 1, 2."""
    names = ["<pad>", "<bos>", "<eos>", *(f"w{i}" for i in range(3, size))]
    model = Tokenizer(WordLevel({name: i for i, name in enumerate(names)}, unk_token="w3"))
    model.pre_tokenizer = Whitespace()
    return hf.PreTrainedTokenizerFast(tokenizer_object=model, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>")


def random_rows(lengths: list[int], seed: int = 0) -> list[list[int]]:
    """Rows of ordinary token ids, no specials."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, VOCAB, (n,), generator=generator).tolist() for n in lengths]


def right_padded(rows: list[list[int]], pad: int = PAD) -> tuple[torch.Tensor, torch.Tensor]:
    """(tokens, attention_mask), (B, T) each."""
    width = max(map(len, rows))
    tokens = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
    return tokens, torch.arange(width) < torch.tensor([[len(row)] for row in rows])


@torch.no_grad()
def lone_logprobs(model: hf.PreTrainedModel, row: list[int], temperature: float = 1.0) -> torch.Tensor:
    """(T,) log-probs of one unpadded row from a bare forward, in float64 after the logits; column 0 is 0."""
    logits = model(input_ids=torch.tensor([row])).logits[0].double() / temperature
    return torch.cat([torch.zeros(1, dtype=torch.float64), logits.log_softmax(-1)[:-1].gather(1, torch.tensor(row[1:])[:, None])[:, 0]])
