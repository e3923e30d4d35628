"""Sizes of the Llama-architecture models trained from nothing, and how one is made."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from tutelage.base.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Preset:
    """Widths of a model. Heads are 64 wide, a layout that serving engines read."""

    hidden_size: int
    num_layers: int
    num_heads: int
    ffn_size: int


PRESETS = {
    "nano": Preset(hidden_size=128, num_layers=4, num_heads=2, ffn_size=352),
    "micro": Preset(hidden_size=256, num_layers=4, num_heads=4, ffn_size=704),
    "mini": Preset(hidden_size=512, num_layers=8, num_heads=8, ffn_size=1408),
    "small": Preset(hidden_size=768, num_layers=12, num_heads=12, ffn_size=2112),
}


def preset_config(preset: str, tokenizer: PreTrainedTokenizerBase, *, context_tokens: int) -> LlamaConfig:
    """The Hugging Face configuration of a preset. Raises: ConfigError on an unknown name or a context without room."""
    if preset not in PRESETS:
        raise ConfigError(f"no model size called {preset!r}", hint=f"choose one of {', '.join(PRESETS)}")
    if context_tokens < 2:
        raise ConfigError(f"context_tokens={context_tokens} has no room for a prompt and an answer", hint="use 128 or more")
    size = PRESETS[preset]
    return LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=size.hidden_size, intermediate_size=size.ffn_size, num_hidden_layers=size.num_layers,
        num_attention_heads=size.num_heads, num_key_value_heads=size.num_heads, head_dim=size.hidden_size // size.num_heads,
        max_position_embeddings=context_tokens, tie_word_embeddings=True, attention_dropout=0.0,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id)


def new_policy(preset: str, tokenizer: PreTrainedTokenizerBase, *, context_tokens: int, seed: int) -> LlamaForCausalLM:
    """A randomly initialised float32 causal LM; the same seed gives the same weights, and the caller's random state is left alone."""
    config = preset_config(preset, tokenizer, context_tokens=context_tokens)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).float().eval()
