"""PPO on the enumerable task: the shipped recipe, engine, networks and losses, with a reward table where the reward model would stand."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaForSequenceClassification, PreTrainedModel

from tutelage.base.records import Prompt
from tutelage.models.actor_critic import SeparateNetworks
from tutelage.models.heads import ScoredModel
from tutelage.proofs.solver import Array, gibbs
from tutelage.proofs.task import EOS, MAX_TOKENS, PAD, PROMPT, Task, random_model, tiny_tokenizer
from tutelage.recipes.ppo import ppo
from tutelage.recipes.ppo_setup import Players, PPOConfig
from tutelage.rollout import InProcessEngine, Rollout, Sampling
from tutelage.train.run import Run

SETTINGS: dict[str, dict[str, Any]] = {
    "model": {"policy": "in memory", "reward": "in memory"},
    "data": {"files": ["in memory"]},
    "rollout": {"max_tokens": MAX_TOKENS},
    "algo": {"num_iterations": 1000, "batch_size": 256, "minibatch_size": 128, "epochs": 2, "gae_lambda": 0.95,
             "whiten_advantages": "off",                             # at the optimum they vanish; whitened, their last noise would not
             "missing_eos_penalty": 0.0},                            # three tokens without EOS are a response like any other
    "critic": {"learning_rate": 3e-3},
    "optim": {"learning_rate": 2e-3, "schedule": "linear", "warmup_frac": 0.0, "min_lr_frac": 0.0, "beta2": 0.999},
    "eval": {"every_iterations": 0},
}
"""One for every beta and seed. What is not named here is the recipe's own default."""


def stationary_point(task: Task) -> Array:
    """(N,) probabilities: with k1 in the reward of every token and gamma = 1 the objective is E[r] - beta KL, whose maximiser is pi*."""
    return gibbs(task.ref_logprobs, task.rewards, task.beta)


def settings(task: Task, run_dir: Path) -> PPOConfig:
    """What the recipe is run with: SETTINGS, with beta as its kl_coef."""
    return PPOConfig.model_validate(SETTINGS | {"run_dir": run_dir, "seed": task.seed, "algo": SETTINGS["algo"] | {"kl_coef": task.beta}})


def train(task: Task, run_dir: Path) -> PreTrainedModel:
    """The policy that `ppo` makes of the reference."""
    cfg = settings(task, run_dir)
    with Run.open(cfg, "ppo") as run:
        players = build(task, cfg)
        ppo(players, cfg, run)
    return players.actor_critic.policy


def build(task: Task, cfg: PPOConfig) -> Players:
    """Policy and reference start equal; the critic is a stranger to both and says 0 at first."""
    policy = random_model(task.seed)
    return Players(
        SeparateNetworks(policy, fresh_critic(policy, task.seed)), task.reference.requires_grad_(False), TableReward.of(task),
        InProcessEngine(policy, PAD, max_batch=cfg.algo.batch_size), tiny_tokenizer(),
        Sampling(max_tokens=MAX_TOKENS, stop_tokens=(EOS,), seed=task.seed), prompts=["a b"], prompt_tokens=[list(PROMPT)])


def fresh_critic(policy: PreTrainedModel, seed: int) -> ScoredModel:
    """A network of the policy's shape with a head of zeros."""
    config = copy.deepcopy(policy.config)
    config.num_labels = 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        critic = ScoredModel(LlamaForSequenceClassification(config).float().eval())
    with torch.no_grad():
        critic.head.weight.zero_()
    return critic


@dataclass
class TableReward:
    """A score for each response there is."""

    table: dict[tuple[int, ...], float]

    @classmethod
    def of(cls, task: Task) -> TableReward:
        return cls(dict(zip(task.responses, task.rewards.tolist(), strict=True)))

    def __call__(self, prompts: Sequence[Prompt], rollout: Rollout) -> Tensor:
        return torch.tensor([self.table[c.tokens] for c in rollout.completions])
