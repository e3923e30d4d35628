"""The table of architectures: tiny random folders as transformers saves them, and what becomes of each in the shipped recipes.

To extend it, add a row to ARCHITECTURES, or call `run_through` with more layers of settings (adapters, precision).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import transformers as hf
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from torch import Tensor

from tests.small import ANIMALS, PLACES, config, write_rows
from tutelage.base.records import Message
from tutelage.models import actor_critic
from tutelage.models.heads import ScoredModel
from tutelage.recipes import sft
from tutelage.recipes.ppo import PPOConfig, train_ppo
from tutelage.recipes.reward_model import RewardConfig, train_reward_model
from tutelage.recipes.sft import SFTConfig, train_sft
from tutelage.rollout import InProcessEngine, Sampling
from tutelage.text.chat import encode_prompt
from tutelage.text.tokenizer import open_tokenizer

CONTEXT = 96
PROMPTS = [f"where is {ANIMALS[i % 8]} {i}?" for i in range(24)]
ANSWERS = [f"in the {PLACES[i % 6]}" for i in range(24)]
CORPUS = [f"\n\nHuman: {q}\n\nAssistant: {a} [INST] [/INST] user model" for q, a in zip(PROMPTS, ANSWERS, strict=True)]

CHATML = ("{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
          "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
INST = ("{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
        "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}")
TURNS = ("{{ bos_token }}{% for m in messages %}{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' "
         "+ m['content'] + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}")
PHI3 = ("{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}")


@functools.cache
def family(name: str, template: str | None = None, extra: tuple[str, ...] = (), **special: str) -> Any:
    """A tokenizer of transformers' own class, trained on our few sentences: byte-level or sentencepiece-like BPE, or unigram."""
    tokenizer = getattr(hf, name)().train_new_from_iterator(CORPUS, 320)
    if extra:
        tokenizer.add_special_tokens({"extra_special_tokens": list(extra)})
    if special:
        tokenizer.add_special_tokens(special)
    tokenizer.chat_template = template
    return tokenizer


@functools.cache
def bare() -> Any:
    """Merges and nothing else: no pad, no EOS, no BOS, no template."""
    tokenizer = Tokenizer(BPE())
    tokenizer.train_from_iterator(CORPUS, BpeTrainer(vocab_size=120, show_progress=False))
    return hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer)


# Weights of this size make some tokens ten times likelier than others, so a wrong position or mask changes the log-probs visibly.
_ALL = {"initializer_range": 0.2, "init_std": 0.2}
_LLAMA = _ALL | {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
                 "max_position_embeddings": CONTEXT}
_GPT = _ALL | {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT}
_EXPERTS = {"num_experts_per_tok": 2, "num_local_experts": 4}


@dataclass(frozen=True)
class Architecture:
    """model_type and sizes of a tiny model, its family's kind of tokenizer, and what is special about it."""

    model_type: str
    sizes: Mapping[str, Any]
    tokenizer: Callable[[], Any]
    about: str
    scored: bool = True
    """Whether transformers has a sequence-classification class for it; else its reward model is of another architecture."""


def _qwen() -> Any:
    return family("Qwen2Tokenizer", CHATML, ("<|im_start|>",), eos_token="<|im_end|>", pad_token="<|endoftext|>")


def _mistral() -> Any:
    return family("LlamaTokenizer", INST)


def _gemma() -> Any:
    return family("GemmaTokenizer", TURNS, ("<start_of_turn>", "<end_of_turn>"))


ARCHITECTURES: dict[str, Architecture] = {
    "llama": Architecture("llama", _LLAMA, lambda: family("LlamaTokenizer"), "sentencepiece-like BPE; no pad, no template"),
    "llama, unigram": Architecture("llama", _LLAMA, lambda: family("T5Tokenizer"), "unigram; no BOS, no template"),
    "llama, bare tokenizer": Architecture("llama", _LLAMA, bare, "no pad, EOS, BOS or template"),
    "mistral": Architecture("mistral", _LLAMA | {"sliding_window": 6}, _mistral, "sliding window; a template with [INST]"),
    "mixtral": Architecture("mixtral", _LLAMA | _EXPERTS, _mistral, "mixture of experts"),
    "qwen2": Architecture("qwen2", _LLAMA | {"tie_word_embeddings": True}, _qwen,
                          "byte-level BPE; ChatML, whose end of turn is EOS; tied embeddings"),
    "qwen3": Architecture("qwen3", _LLAMA | {"head_dim": 8}, lambda: family("Qwen2Tokenizer"), "normed queries and keys; pad equal to EOS"),
    "gemma2": Architecture("gemma2", _LLAMA | {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 6}, _gemma,
                           "soft-capped logits, norm offsets, every other layer a sliding window; turns end with another token than EOS"),
    "gemma3": Architecture("gemma3_text", _LLAMA | {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 6}, _gemma,
                           "two rotary bases, sliding windows"),
    "gpt2": Architecture("gpt2", _GPT, lambda: family("GPT2Tokenizer"), "learned positions; no pad, no template; tied embeddings"),
    "gpt_neox": Architecture("gpt_neox", _LLAMA, lambda: family("GPTNeoXTokenizer"), "parallel residual, partial rotary"),
    "gptj": Architecture("gptj", _GPT | {"rotary_dim": 4}, lambda: family("GPT2Tokenizer"), "output layer with bias"),
    "phi": Architecture("phi", _LLAMA, lambda: family("CodeGenTokenizer"), "output layer with bias; partial rotary"),
    "phi3": Architecture("phi3", _LLAMA | {"sliding_window": 6, "pad_token_id": 0},
                         lambda: family("LlamaTokenizer", PHI3, ("<|user|>", "<|assistant|>", "<|end|>")),
                         "fused projections; turns end with another token than EOS"),
    "opt": Architecture("opt", _ALL | {"hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
                                       "word_embed_proj_dim": 32, "max_position_embeddings": CONTEXT},
                        lambda: family("GPT2Tokenizer", pad_token="<pad>"), "learned positions with an offset"),
    "bloom": Architecture("bloom", _ALL | {"hidden_size": 32, "n_layer": 2, "n_head": 4}, lambda: family("GPTNeoXTokenizer"),
                          "ALiBi: no positions at all"),
    "falcon": Architecture("falcon", _LLAMA, lambda: family("GPT2Tokenizer"), "one key/value head for all queries"),
    "stablelm": Architecture("stablelm", _LLAMA, lambda: family("GPTNeoXTokenizer"), "layer norms, partial rotary"),
    "olmo2": Architecture("olmo2", _LLAMA, lambda: family("GPTNeoXTokenizer"), "norms after the blocks"),
    "gpt_oss": Architecture("gpt_oss", _LLAMA | _EXPERTS | {"head_dim": 8, "sliding_window": 6}, _qwen,
                            "attention sinks, mixture of experts, sliding windows"),
    "granite": Architecture("granite", _LLAMA, lambda: family("GPT2Tokenizer"), "scaled logits and residuals", scored=False),
    "cohere2": Architecture("cohere2", _LLAMA | {"sliding_window": 6}, lambda: family("CohereTokenizer"),
                            "every fourth layer without positions", scored=False),
    "mamba": Architecture("mamba", _ALL | {"hidden_size": 32, "num_hidden_layers": 2}, lambda: family("GPTNeoXTokenizer"),
                          "a state instead of attention", scored=False),
    "lfm2": Architecture("lfm2", _LLAMA | {"layer_types": ["conv", "full_attention"]}, _qwen,
                         "convolutions beside attention", scored=False),
}
"""Every row is a name, a folder that transformers alone writes, and what is unusual about it."""


def save_plain(architecture: Architecture, folder: Path) -> Path:
    """The folder as its authors would have saved it: nothing of ours takes part."""
    tokenizer = architecture.tokenizer()
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    sizes = ids | dict(architecture.sizes) | {"vocab_size": len(tokenizer)}
    torch.manual_seed(0)
    model = hf.AutoModelForCausalLM.from_config(hf.AutoConfig.for_model(architecture.model_type, **sizes)).float()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_data(folder: Path) -> dict[str, str]:
    """Demonstrations, pairs and prompts."""
    folder.mkdir(exist_ok=True)
    pairs = list(zip(PROMPTS, ANSWERS, strict=True))
    return {
        "sft": str(write_rows(folder / "demonstrations.jsonl", [{"prompt": q, "completion": a} for q, a in pairs])),
        "reward": str(write_rows(folder / "pairs.jsonl", [{"prompt": q, "chosen": f"{a} now", "rejected": a} for q, a in pairs])),
        "ppo": str(write_rows(folder / "prompts.jsonl", [{"prompt": q} for q in PROMPTS])),
    }


def run_through(name: str, folder: Path, other_reward: Path | None, *layers: Mapping[str, Any]) -> dict[str, float]:
    """sft, reward and ppo on one architecture, then every result opened by transformers alone.

    other_reward: a reward model of another architecture and tokenizer, for those that have no head. layers: more settings for each stage,
    laid over the table's own, such as {"adapter": …}; a key that a stage does not have is an error of the config.
    Returns: max |difference| between the model in memory when it was saved and plain transformers: `sft`, `reward` (score_shift added) and
    `ppo` over logits or scores, and `sampler`, of the log-probs our engine reports and those of a plain forward of each answer alone.
    """
    architecture, data = ARCHITECTURES[name], write_data(folder / "data")
    base = save_plain(architecture, folder / "base")
    short = {"train": {"epochs": None, "max_steps": 2, "batch_size": 4}, "optim": {"learning_rate": 1e-3}}

    def stage(cls: Any, verb: str, values: dict[str, Any]) -> Any:
        return config(cls, folder / verb, {"data": {"files": [data[verb]], "eval_frac": 0.2}}, values, *layers)

    gaps = {}
    with ExitStack() as stack:
        seen = _spy(stack)
        done = train_sft(stage(SFTConfig, "sft", {"model": {"policy": str(base)}, **short, "eval": {"every_steps": 1}}))
        gaps["sft"] = _gap(seen["policy"], _plain_logits(done["model"]))
        reward = str(other_reward)
        if architecture.scored:
            reward = train_reward_model(stage(RewardConfig, "reward", {"model": {"policy": done["model"]}, **short}))["model"]
            gaps["reward"] = _gap(seen["scored"], _plain_scores(reward))
        done = train_ppo(stage(PPOConfig, "ppo", {
            "model": {"policy": done["model"], "reward": reward}, "critic": {"kind": "separate" if architecture.scored else "shared"},
            "rollout": {"max_tokens": 6}, "algo": {"num_iterations": 2, "batch_size": 4, "minibatch_size": 2},
            "optim": {"learning_rate": 1e-3}, "eval": {"every_iterations": 0}}))
        gaps["ppo"] = _gap(seen["policy"], _plain_logits(done["model"]))
    gaps["sampler"] = _sampler_gap(done["model"])
    return gaps


TOKENS = torch.tensor([[7, 9, 30, 11, 5, 60, 8, 40, 12, 33, 9, 71, 3, 90, 10, 22]])
"""Any tokens every vocabulary of the table has."""


def _spy(stack: ExitStack) -> dict[str, Tensor]:
    """Fills `policy` and `scored` with what the models in memory say of TOKENS whenever they are saved."""
    seen: dict[str, Tensor] = {}

    def watch(save: Callable[..., None], look: Callable[[Any], tuple[str, Tensor]]) -> Callable[..., None]:
        def saving(model: Any, *args: Any) -> None:
            with torch.no_grad():
                key, value = look(model)
                seen[key] = value
            save(model, *args)
        return saving

    for module in (sft, actor_critic):
        stack.enter_context(patch.object(module, "save_policy", watch(
            module.save_policy, lambda m: ("policy", m(input_ids=TOKENS, attention_mask=torch.ones_like(TOKENS), use_cache=False).logits))))
    stack.enter_context(patch.object(ScoredModel, "save", watch(
        ScoredModel.save, lambda m: ("scored", m.score(TOKENS, torch.ones_like(TOKENS))))))
    return seen


def _plain_logits(folder: str) -> Tensor:
    with torch.no_grad():
        return hf.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(input_ids=TOKENS, use_cache=False).logits


def _plain_scores(folder: str) -> Tensor:
    plain = hf.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        return plain(input_ids=TOKENS, use_cache=False).logits[:, 0] + plain.config.score_shift


def _gap(one: Tensor, other: Tensor) -> float:
    assert torch.isfinite(one).all() and one.abs().max() > 0
    return float((one - other).abs().max())


@torch.no_grad()
def _sampler_gap(folder: str) -> float:
    tokenizer = open_tokenizer(folder)
    plain_tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    assert plain_tokenizer.get_vocab() == tokenizer.get_vocab() and plain_tokenizer.eos_token_id == tokenizer.eos_token_id
    plain = hf.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    prompts = [encode_prompt(tokenizer, [Message("user", q)]) for q in (PROMPTS[0], PROMPTS[10], "where?", "in the barn or in the wood?")]
    completions = InProcessEngine(plain, tokenizer.pad_token_id).generate(prompts * 2, Sampling(max_tokens=12))
    worst = 0.0
    for prompt, done in zip(prompts * 2, completions, strict=True):
        logits = plain(input_ids=torch.tensor([[*prompt, *done.tokens]]), use_cache=False).logits[0, len(prompt) - 1:-1].double()
        alone = logits.log_softmax(-1).gather(1, torch.tensor(done.tokens)[:, None])[:, 0]
        worst = max(worst, _gap(torch.tensor(done.logprobs).double(), alone))
    return worst
