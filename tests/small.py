"""A small world for recipes: a tokenizer, a policy that has learnt to answer and stop, a reward model, and files of every kind."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from tutelage.base.config import RunConfig, load_values, merge
from tutelage.models.heads import ScoredModel
from tutelage.models.policy import open_policy, save_policy
from tutelage.recipes.ppo import PPOConfig
from tutelage.recipes.ppo_setup import Players, build
from tutelage.recipes.pretrain import PretrainConfig
from tutelage.recipes.reward_model import RewardConfig
from tutelage.recipes.sample import SampleConfig
from tutelage.recipes.sft import SFTConfig, train_sft
from tutelage.text.tokenizer import open_tokenizer, train_tokenizer
from tutelage.train.run import Run

CONTEXT = 48
ANIMALS = ("cat", "dog", "hen", "fox", "owl", "cow", "pig", "bee")
PLACES = ("barn", "wood", "yard", "pond", "hill", "nest")


@dataclass(frozen=True)
class Small:
    """Folders and files; read only."""

    tokenizer: Path
    base: Path
    sft: Path
    reward: Path
    corpus: Path
    demonstrations: Path
    prompts: Path
    pairs: Path


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def config(cls: type[RunConfig], run_dir: Path, *layers: dict[str, Any]) -> Any:
    """A config from nested layers, the last on top."""
    values: dict[str, Any] = {"run_dir": str(run_dir)}
    for layer in layers:
        values = merge(values, layer)
    return load_values(cls, values, where="test")


def make_small(root: Path) -> Small:
    rng = np.random.default_rng(0)
    words = [(ANIMALS[a], PLACES[p], ANIMALS[b]) for a, p, b in zip(*(rng.integers(0, n, 240) for n in (8, 6, 8)), strict=True)]
    corpus = write_rows(root / "corpus.jsonl", [{"text": f"{i}: the {a} sat in the {p} with a {b}."} for i, (a, p, b) in enumerate(words)])
    prompts = [f"where is {a} {i}?" for i, (a, _, _) in enumerate(words[:96])]
    tokenizer_dir = train_tokenizer([f"{i}: the {a} sat in the {p} with a {b}. where is?" for i, (a, p, b) in enumerate(words)],
                                    vocab_size=330, out_dir=root / "tokenizer")
    tokenizer = open_tokenizer(tokenizer_dir)
    torch.manual_seed(0)
    base = LlamaForCausalLM(LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
        max_position_embeddings=CONTEXT, tie_word_embeddings=True, pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, initializer_range=0.1)).eval()
    save_policy(base, tokenizer, root / "base")
    answers = [" ".join(["in the", p, *(["with", b] if i % 3 == 0 else [])]) for i, (_, p, b) in enumerate(words[:96])]
    small = Small(
        tokenizer_dir, root / "base", root / "sft" / "model", root / "reward", corpus,
        write_rows(root / "demonstrations.jsonl", [{"prompt": q, "completion": a} for q, a in zip(prompts, answers, strict=True)]),
        write_rows(root / "prompts.jsonl", [{"prompt": q} for q in prompts]),
        write_rows(root / "pairs.jsonl", [{"prompt": q, "chosen": f"{a} and the {ANIMALS[i % 8]} too", "rejected": a}
                                          for i, (q, a) in enumerate(zip(prompts, answers, strict=True))]))
    done = train_sft(sft_config(small, root / "sft-run", {"train": {"epochs": None, "max_steps": 70}, "optim": {"learning_rate": 1e-2}}))
    save_policy(open_policy(done["model"]), tokenizer, small.sft)
    reward = ScoredModel.from_policy(small.sft, seed=1).rescale_(1.0, 0.7)
    reward.save(small.reward, tokenizer)
    return small


def pretrain_config(small: Small, run_dir: Path, *over: dict[str, Any]) -> PretrainConfig:
    return config(PretrainConfig, run_dir, {
        "model": {"init": str(small.base), "context_tokens": 32}, "data": {"files": [str(small.corpus)], "eval_frac": 0.1},
        "train": {"epochs": None, "max_steps": 6, "batch_size": 6}, "eval": {"every_steps": 3, "sample_tokens": 3},
        "save": {"every_steps": 2}}, *over)


def sft_config(small: Small, run_dir: Path, *over: dict[str, Any]) -> SFTConfig:
    return config(SFTConfig, run_dir, {
        "model": {"policy": str(small.base)}, "data": {"files": [str(small.demonstrations)], "eval_frac": 0.15},
        "train": {"epochs": None, "max_steps": 6, "batch_size": 8}, "eval": {"every_steps": 5, "patience": None},
        "optim": {"learning_rate": 3e-3}}, *over)


def reward_config(small: Small, run_dir: Path, *over: dict[str, Any]) -> RewardConfig:
    return config(RewardConfig, run_dir, {
        "model": {"policy": str(small.sft)}, "data": {"files": [str(small.pairs)], "eval_frac": 0.2},
        "train": {"epochs": None, "max_steps": 6, "batch_size": 8}, "save": {"every_steps": 2}}, *over)


def sample_config(small: Small, run_dir: Path, *over: dict[str, Any]) -> SampleConfig:
    return config(SampleConfig, run_dir, {
        "model": {"policy": str(small.sft)}, "data": {"files": [str(small.prompts)], "limit": 10},
        "rollout": {"answers_per_prompt": 3, "max_tokens": 6}}, *over)


def ppo_config(small: Small, run_dir: Path, *over: dict[str, Any]) -> PPOConfig:
    return config(PPOConfig, run_dir, {
        "model": {"policy": str(small.sft), "reward": str(small.reward)}, "data": {"files": [str(small.prompts)]},
        "rollout": {"max_tokens": 6}, "algo": {"num_iterations": 2, "batch_size": 8, "minibatch_size": 4},
        "eval": {"every_iterations": 0}}, *over)


def open_players(cfg: PPOConfig) -> tuple[Players, Run]:
    """Players of a fresh run, which stays open."""
    run = Run.open(cfg, "ppo")
    return build(cfg, run), run


def weights(path: str | Path) -> dict[str, torch.Tensor]:
    """Every tensor below a folder by file and name, optimizer state included."""
    path = Path(path)
    return {f"{file.relative_to(path)}:{name}": t for file in sorted(path.rglob("*.safetensors")) for name, t in load_file(file).items()}


def same_weights(one: str | Path, other: str | Path) -> bool:
    """Bit for bit."""
    a, b = weights(one), weights(other)
    return bool(a) and a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def environment() -> dict[str, str]:
    """For subprocesses: this source tree, one thread, no network."""
    src = str(Path(__file__).parents[1] / "src")
    return os.environ | {"PYTHONPATH": src, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "HF_HUB_OFFLINE": "1"}
