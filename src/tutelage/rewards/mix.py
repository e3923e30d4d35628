"""Rewards as a config names them: models and functions, each with its weight."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from tutelage.base.config import Section
from tutelage.base.records import Prompt
from tutelage.models.folders import resolve_model
from tutelage.models.heads import ScoredModel
from tutelage.rewards.base import ModelReward, Reward, check_scores
from tutelage.rewards.functions import Function, FunctionReward, load_function
from tutelage.rollout.batch import Rollout
from tutelage.text.tokenizer import open_tokenizer


class StudioSection(Section):
    """People's verdicts on the rollouts, through the studio's queue."""

    database: str | None = None
    """SQLite file or postgresql://…; None: TUTELAGE_DATABASE_URL, else studio.db in your data folder."""
    kind: Literal["rating", "label"] = "rating"
    """How an answer that stands alone is judged: 1 to 7, or yes or no. Several answers to one prompt are compared or ranked."""
    overlap: int = Field(1, ge=1)
    """People whose verdict each task needs."""
    reliability: bool = True
    """Of several people, weigh each by their skill, estimated from how they contradict others in all comparisons and rankings there."""
    poll_seconds: float = Field(5.0, gt=0)
    """Pause between two looks into the store."""


class RewardSection(Section):
    """One of several rewards."""

    model: str | None = None
    """Reward model folder or run directory; or give `function` or `studio`."""
    function: str | None = None
    """Python function reward(prompts, completions) -> one number each: `module:function` or `file.py:function`. Needs --allow-code."""
    studio: StudioSection | None = None
    """People, who judge each rollout in the studio; the run waits for them."""
    weight: float = 1.0
    """What its score is multiplied by in the sum; below 0 it is a cost."""

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if [self.model, self.function, self.studio].count(None) != 2:
            raise ValueError("give one of model, function and studio")
        return self


@dataclass
class MixedReward:
    """The weighted sum of several rewards. `means` holds the mean score of each, unweighted, of the last call."""

    parts: dict[str, tuple[float, Reward]]
    policy_tokenizer: Any
    means: dict[str, float] = field(default_factory=dict)

    def __call__(self, prompts: Sequence[Prompt], rollout: Rollout) -> Tensor:
        total = torch.zeros(len(rollout), device=rollout.tokens.device)
        for name, (weight, reward) in self.parts.items():
            scores = check_scores(reward(prompts, rollout), prompts, rollout, self.policy_tokenizer, name=f"the reward {name}")
            self.means[name] = scores.mean().item()
            total = total + weight * scores
        return total


def load_functions(sections: Mapping[str, RewardSection]) -> dict[str, Function]:
    """The functions the sections name. Raises: ConfigError, also when the process may not run code."""
    return {name: load_function(section.function) for name, section in sections.items() if section.function is not None}


def open_reward(sections: Mapping[str, RewardSection], functions: Mapping[str, Function], policy_tokenizer: Any, device: str,
                open_model: Callable[..., ScoredModel] = ScoredModel.open, people: Mapping[str, Reward] = MappingProxyType({})) -> Reward:
    """The sum of the named rewards; just the one when it stands alone with weight 1. A function without a section weighs 1.

    open_model: how a reward model comes into memory, as ScoredModel.open, or sharing what is there. people: name -> what stands for the
    sections with `studio`.

    Raises: ArtifactError when a reward model cannot be opened.
    """
    parts: dict[str, tuple[float, Reward]] = {name: (1.0, FunctionReward(f, policy_tokenizer)) for name, f in functions.items()}
    for name, section in sections.items():
        if section.studio is not None:
            parts[name] = (section.weight, people[name])
        elif section.model is None:
            parts[name] = (section.weight, parts[name][1])
        else:
            folder = resolve_model(section.model)
            tokenizer = open_tokenizer(folder)
            model = open_model(folder, device=device, tokenizer=tokenizer).requires_grad_(False)
            parts[name] = (section.weight, ModelReward(model, tokenizer, policy_tokenizer))
    if len(parts) == 1 and (only := next(iter(parts.values())))[0] == 1.0:
        return only[1]
    return MixedReward(parts, policy_tokenizer)


def model_rewards(reward: Reward) -> list[ModelReward]:
    """The reward models a reward is made of."""
    found = [part for _, part in reward.parts.values()] if isinstance(reward, MixedReward) else [reward]
    return [part for part in found if isinstance(part, ModelReward)]
