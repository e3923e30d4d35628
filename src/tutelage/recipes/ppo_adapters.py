"""PPO's players with LoRA: policy, reference, critic and every reward model that stands on the policy's base share it in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoModel, AutoModelForSequenceClassification, PreTrainedTokenizerBase

from tutelage.models.actor_critic import ActorCritic, SeparateNetworks, SharedTrunk
from tutelage.models.adapters import Roles, RoleScore
from tutelage.models.folders import require_policy
from tutelage.models.peft_folders import adapter_base, is_adapter
from tutelage.models.policy import save_policy
from tutelage.recipes.ppo_setup import PPOConfig, critic_start
from tutelage.rewards.base import Reward
from tutelage.rewards.functions import Function
from tutelage.rewards.mix import open_reward
from tutelage.train.run import Run
from tutelage.train.trainees import base_options, lora_options


@dataclass
class AdapterNetworks(SeparateNetworks):
    """A policy and a critic that are adapters. They share what is frozen and nothing that is trained."""

    critic: RoleScore

    def networks(self) -> list[tuple[str, nn.Module]]:
        policy = self.policy.roles.parameters("policy")             # type: ignore[union-attr, operator, arg-type]
        return [("policy", nn.ParameterList(policy)), ("critic", nn.ParameterList(self.critic.own_parameters()))]

    def save(self, folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
        self.policy.roles.save("policy", folder / "adapters" / "policy", tokenizer)                # type: ignore[union-attr, operator]
        self.critic.save(folder / "adapters" / "critic", tokenizer)


class AdapterTrunk(SharedTrunk):
    """One adapter with two heads."""

    def save(self, folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
        save_policy(self.policy, tokenizer, folder / "adapters" / "policy")
        self.save_head(folder)


class Bases:
    """Every base model of a run, in memory once, and the reward models on them."""

    def __init__(self, cfg: PPOConfig, source: Path, tokenizer: Any) -> None:
        self.options = base_options(cfg)
        require_policy(source)
        self.policy = Roles.open(source, tokenizer=tokenizer, **self.options)
        self.by_folder = {self.policy.base.resolve(): self.policy}
        self.rewards: dict[Path, RoleScore] = {}

    def open_reward(self, folder: Path, *, tokenizer: Any, device: str) -> RoleScore:
        """A reward model: an adapter on its base, or a whole model that is a base itself."""
        if folder not in self.rewards:
            base = adapter_base(folder).resolve()
            roles = self.by_folder.get(base)
            if roles is None or not roles.reads(tokenizer):          # rows for tokens of its own would be the policy's to sample
                kind = AutoModel if is_adapter(folder) else AutoModelForSequenceClassification
                roles = self.by_folder[base] = Roles.open(folder, auto_class=kind, tokenizer=tokenizer, **self.options)
            self.rewards[folder] = (roles.load_scored(f"reward{len(self.rewards)}", folder) if is_adapter(folder) else roles.whole_scored())
        return self.rewards[folder]


def build_on_one_base(cfg: PPOConfig, run: Run, source: Path, functions: Mapping[str, Function], tokenizer: Any,
                      people: Mapping[str, Reward]) -> tuple[ActorCritic, Any, Reward]:
    """(policy and critic, reference, reward). The reference is the base itself, or the adapter that the policy starts from.

    A reward model with another base brings that one, which a critic that starts from it shares.
    Raises: ConfigError when the settings do not go together, ArtifactError when a folder cannot be opened.
    """
    bases = Bases(cfg, source, tokenizer)
    roles = bases.policy
    roles.begin("policy", Path(run.weights_dir("adapters/policy", source)), **lora_options(cfg))
    if is_adapter(source):
        roles.load("reference", source)
    reward = open_reward(cfg.all_rewards(), functions, tokenizer, cfg.device, bases.open_reward, people)
    ref_policy = roles.causal("reference" if is_adapter(source) else None)
    if cfg.critic.kind == "shared":
        saved = run.weights_dir("critic", "")
        return AdapterTrunk(roles.causal("policy"), Path(saved) / "value_head.safetensors" if saved else None), ref_policy, reward
    return AdapterNetworks(roles.causal("policy"), open_critic(cfg, run, bases, source, tokenizer)), ref_policy, reward


def open_critic(cfg: PPOConfig, run: Run, bases: Bases, source: Path, tokenizer: Any) -> RoleScore:
    """A critic on the base it starts from: the policy's, or that of a reward model, whose head it then takes too."""
    start, saved = critic_start(cfg, tokenizer), run.weights_dir("adapters/critic", "")
    if start is None:
        if saved:
            return bases.policy.load_scored("critic", Path(saved), trained=True)
        bases.policy.begin("critic", source, **lora_options(cfg))
        return bases.policy.scored("critic", seed=cfg.seed)
    folder, weight = start
    model = bases.rewards[folder]
    if saved:
        return model.roles.load_scored("critic", Path(saved), trained=True)
    if is_adapter(folder):
        critic = model.roles.load_scored("critic", folder, trained=True)
        model.roles.require_rank("critic", cfg.lora.rank, folder)
        return critic.rescale_(weight, 0.0)
    model.roles.begin("critic", folder, **lora_options(cfg))
    critic = model.roles.scored("critic")
    critic.head.load_state_dict(model.head.state_dict())
    critic.score_shift.copy_(model.score_shift)
    return critic.rescale_(weight, 0.0)
