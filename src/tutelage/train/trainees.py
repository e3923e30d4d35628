"""The model a recipe trains, opened as its config asks: all weights, or an adapter on a frozen base."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tutelage.base.errors import ConfigError
from tutelage.models.adapters import RoleScore, open_adapted_policy, open_adapted_reward
from tutelage.models.folders import is_scored
from tutelage.models.heads import ScoredModel
from tutelage.models.memory import compute_in_bf16, recompute_activations
from tutelage.models.policy import open_policy
from tutelage.train.precision import resolve_precision
from tutelage.train.sections import LoraSection, MemorySection


class Economises(Protocol):
    """The part of a recipe's config that says what is traded for memory."""

    @property
    def memory(self) -> MemorySection: ...
    @property
    def device(self) -> str: ...


class Trains(Economises, Protocol):
    """The part that says how its model is trained."""

    @property
    def lora(self) -> LoraSection: ...
    @property
    def seed(self) -> int: ...


def weights_name(cfg: Trains, role: str) -> str:
    """Where a checkpoint keeps what was trained: `model`, or the role's adapter."""
    return f"adapters/{role}" if cfg.lora.rank else "model"


def base_options(cfg: Trains) -> dict[str, Any]:
    """Keyword arguments of tutelage.models.adapters.Roles.open."""
    return {"device": cfg.device, "precision": resolve_precision(cfg.memory, cfg.device),
            "checkpointing": cfg.memory.checkpointing, "bits": cfg.memory.base}


def lora_options(cfg: Trains) -> dict[str, Any]:
    """Keyword arguments of Roles.begin."""
    return {"rank": cfg.lora.rank, "alpha": cfg.lora.alpha, "targets": cfg.lora.targets, "seed": cfg.seed}


def open_policy_to_train(cfg: Trains, source: Path, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """The policy in a folder, all of it or its adapter ready to be trained. Raises: ArtifactError, ConfigError."""
    if cfg.lora.rank:
        return open_adapted_policy(source, tokenizer=tokenizer, **base_options(cfg), **lora_options(cfg))
    return economise(cfg, open_policy(source, device=cfg.device, tokenizer=tokenizer))


def open_reward_to_train(cfg: Trains, source: Path, tokenizer: PreTrainedTokenizerBase) -> ScoredModel:
    """A reward model that goes on from the one in a folder, or starts from the policy there with a head drawn from the seed."""
    if cfg.lora.rank:
        return open_adapted_reward(source, tokenizer=tokenizer, **base_options(cfg), **lora_options(cfg))
    if is_scored(source):
        model = ScoredModel.open(source, device=cfg.device, tokenizer=tokenizer)
    else:
        model = ScoredModel.from_policy(source, seed=cfg.seed, device=cfg.device, tokenizer=tokenizer)
    economise(cfg, model.model)
    return model


def economise(cfg: Economises, model: PreTrainedModel) -> PreTrainedModel:
    """Apply the memory section to a whole model that is trained. Raises: ConfigError where a setting is for adapters only."""
    if cfg.memory.base != "full":
        raise ConfigError(f"memory.base={cfg.memory.base} needs a base that stays as it is",
                          hint="it is for adapters: set lora.rank, such as 16, in sft, reward or ppo")
    if cfg.memory.checkpointing:
        recompute_activations(model)
    return model


def throughout(cfg: Economises, model: PreTrainedModel) -> PreTrainedModel:
    """The model, computing all it is asked for in `memory.precision`: PPO's players must agree on each other's log-probs."""
    if resolve_precision(cfg.memory, cfg.device) == "bf16":
        compute_in_bf16(model.base_model)
        compute_in_bf16(model)
    return model


def audit_tolerance(cfg: Economises, *, whole: bool = False) -> float:
    """How far two ways to compute the same may lie apart, relative: bfloat16 has 8 bits.

    whole: the audit reads a model whose weights are all trained outside of its training steps, where it computes in float32.
    """
    return 0.05 if resolve_precision(cfg.memory, cfg.device) == "bf16" and not whole else 1e-3


def reopen_scored(cfg: Economises, model: ScoredModel, folder: Path, tokenizer: PreTrainedTokenizerBase) -> ScoredModel:
    """What was saved, opened again to be compared: an adapter on the base that is in memory, else the whole model."""
    if isinstance(model, RoleScore):
        return model.roles.load_scored("reopened", folder)
    return ScoredModel.open(folder, device=cfg.device, tokenizer=tokenizer)


def reopen_policy(cfg: Economises, model: Any, folder: Path, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """As reopen_scored, for a policy."""
    if (roles := getattr(model, "roles", None)) is not None:
        roles.load("reopened", folder)
        return roles.causal("reopened")
    return open_policy(folder, device=cfg.device, tokenizer=tokenizer)
