"""Setting up a reward model's training: its settings, the judgements it learns from, and the model it starts as."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from torch import nn

from tutelage.base.config import RunConfig, Section
from tutelage.base.errors import DataError
from tutelage.base.log import get_logger
from tutelage.base.records import Judgement, Prompt
from tutelage.base.split import Side, split_sides
from tutelage.feedback.likelihood import Reliability, as_preference, example_weights, labeler_reliability, read_as_opposite
from tutelage.models.heads import ScoredModel
from tutelage.models.policy import context_length, require_context, resolve_model
from tutelage.recipes.reward_model_scales import Scales
from tutelage.text.chat import Encoded, encode_example
from tutelage.text.readers import read_judgements, read_sources
from tutelage.text.tokenizer import open_tokenizer
from tutelage.train.run import Run
from tutelage.train.sections import Budget, DataSection, Epochs, LoraSection, MemorySection, Names, OptimSection, SaveSection, TrackSection
from tutelage.train.trainees import open_reward_to_train, weights_name

log = get_logger()


class ModelSection(Section):
    """Where to start."""

    policy: str
    """Where the reward model's weights come from: an SFT model, which gets a fresh head, or a reward model, which goes on with its own."""
    context_tokens: int | None = Field(None, ge=8)
    """Longest prompt + response; judgements with a longer one are left out and counted. None takes the model's own limit."""


class TrainSection(Budget):
    """Batches and length."""

    epochs: Epochs = 1.0
    batch_size: int = Field(32, ge=1)
    """Judgements per optimizer step; all answers to one prompt in one judgement count once."""
    batch_by: Literal["judgement", "prompt"] = "judgement"
    """What batch_size counts; prompt takes all judgements on each prompt into one step, where answers come up in many pairs."""


class AlgoSection(Section):
    """How judgements become a loss."""

    ties: Literal["drop", "half", "davidson"] = "half"
    """Equal ranks: left out, a soft target of 0.5, or their own outcome with Davidson's model, whose nu is learnt."""
    soft_targets: bool = True
    """A row's share of votes (`target`, `votes`) is what is learnt; false takes the side that won as certain."""
    strength_margin: float = Field(0.0, ge=0)
    """Score margin a labeler's strength of 1 asks for, score units, on top of a row's own `margin`; strength s asks for s times that."""
    strength_targets: list[Annotated[float, Field(ge=0.5, le=1)]] = []
    """In place of a margin: P(the preferred answer is better) of strength 1, 2, ..., such as [0.6, 0.75, 0.9, 0.98]; a row's own `target`
    stays. Empty takes every choice as certain."""
    min_strength: float = Field(0.0, ge=0)
    """Choices between two answers of less strength than this are left out; 2 leaves out the weakest step, as Bai et al. do."""
    balance_labels: bool = False
    """Weigh ratings so that good and bad ones count alike in sum, where nearly all are good."""
    normalize: bool = True
    """After training, recentre and rescale to mean 0, standard deviation 1 over the training answers."""

    @model_validator(mode="after")
    def _strength_says_one_thing(self) -> Self:
        if self.strength_margin and self.strength_targets:
            raise ValueError("strength_margin and strength_targets are two readings of one strength; give one")
        if self.strength_targets and not self.soft_targets:
            raise ValueError("strength_targets are soft targets, which soft_targets=false does not hear")
        return self


class PeopleSection(Section):
    """Whose judgements count, and how much."""

    group_weights: dict[str, Annotated[float, Field(ge=0)]] = {}
    """Group -> factor of its judgements' weights, such as {home: 2.0}; other groups have 1. So a minority can be heard."""
    inverse_probability: bool = False
    """Weigh each judgement by 1 / p_select, so that items chosen for being uncertain teach and test as if drawn evenly."""
    reliability: bool = False
    """Weigh each labeler's judgements by their skill, estimated from how they contradict others on the same pairs of answers."""
    opposed: Literal["mute", "flip"] = "mute"
    """With `reliability`, of somebody whose skill is surely below 0: leave their judgements unheard, or read their order of answers as its
    opposite."""
    held_out: Names = []
    """Labelers who never enter training, beside those whom a snapshot names; their judgements on held-out prompts are reported."""
    threshold_spread: float = Field(1.0, gt=0)
    """Standard deviation of a labeler's thresholds on a rating scale around the shared ones, log-odds; smaller trusts single labelers
    less."""
    learning_rate: float = Field(1e-2, gt=0)
    """Peak learning rate of what is learnt of people: thresholds and Davidson's nu."""

    @model_validator(mode="after")
    def _opposed_by_reliability(self) -> Self:
        if self.opposed == "flip" and not self.reliability:
            raise ValueError("opposed=flip is told by reliability, which is off: set people.reliability=true")
        return self


class EvalSection(Section):
    """What is measured while it trains."""

    every_steps: int | None = Field(None, ge=1)
    """Steps between two measurements on the held-out judgements; None measures at the end only."""
    labels_worth: bool = False
    """At the end: held-out accuracy against the number of labels and without each labeler, of a bag-of-words reward model refitted each
    time, not of this one."""


class RewardConfig(RunConfig):
    """A reward model from judgements: one epoch by default, since more overfits fast."""

    model: ModelSection
    data: DataSection
    train: TrainSection = TrainSection()
    algo: AlgoSection = AlgoSection()
    people: PeopleSection = PeopleSection()
    optim: OptimSection = OptimSection(learning_rate=3e-4)
    lora: LoraSection = LoraSection()
    memory: MemorySection = MemorySection()
    eval: EvalSection = EvalSection()
    save: SaveSection = SaveSection()
    track: TrackSection = TrackSection()


@dataclass
class Item:
    """One judgement, encoded: K answers to one prompt with ranks, or one answer with a label."""

    answers: list[Encoded]
    judgement: Judgement
    row: int = -1
    """Its place among the judgements read."""

    @property
    def target(self) -> float | None:
        """P(first answer preferred) when the row gives a soft one, such as a share of votes."""
        value = self.judgement.extra.get("target")
        return None if value is None else float(value)


@dataclass
class Parts:
    """What a reward step needs."""

    reward_model: ScoredModel
    tokenizer: Any
    train: list[Item]
    held_out: list[Item]
    layout: str
    left_out: int
    scales: Scales = field(default_factory=Scales)
    reliability: Reliability = Reliability()

    @property
    def trained(self) -> list[nn.Module]:
        """The model, and what is learnt of people where there is anything."""
        return [self.reward_model, *([self.scales] if any(True for _ in self.scales.parameters()) else [])]


def build(cfg: RewardConfig, run: Run | None) -> Parts:
    """Start from the SFT weights with a fresh head; read, split and encode the judgements."""
    source = resolve_model(cfg.model.policy)
    if run:
        source = Path(run.weights_dir(weights_name(cfg, "reward"), source))
    tokenizer = open_tokenizer(source)
    reward_model = open_reward_to_train(cfg, source, tokenizer)
    data = cfg.data
    found = read_sources(read_judgements, data.each())
    require_context(reward_model.model, cfg.model.context_tokens, source, "model.context_tokens")
    limit = cfg.model.context_tokens or context_length(reward_model.model) or 10**9
    sides: dict[str, list[Item]] = {"train": [], "eval": []}
    left_out = 0
    encoded: dict[tuple[Prompt, str], Encoded] = {}                  # an answer may stand in many pairs
    for row, (said, side) in enumerate(zip(found.rows, sides_of(found.rows, cfg), strict=True)):
        if side is None:
            continue
        judgement = as_preference(said, strength_targets=cfg.algo.strength_targets, min_strength=cfg.algo.min_strength)
        if judgement is None or not usable(judgement, cfg):
            left_out += 1
            continue
        for text in (r.text for r in judgement.responses):
            if (judgement.prompt, text) not in encoded:
                encoded[judgement.prompt, text] = encode_example(tokenizer, judgement.prompt, text)
        answers = [encoded[judgement.prompt, r.text] for r in judgement.responses]
        alike = len(answers) > 1 and len({tuple(a.tokens) for a in answers}) == 1       # to this tokenizer, which may lower all letters
        if alike or max(len(a.tokens) for a in answers) > limit:
            left_out += 1
            continue
        sides[side].append(Item(answers, judgement, row))
    sides["eval"] = weighted(sides["eval"], cfg, people=False)
    scales = Scales([it.judgement for it in sides["train"]], ties=cfg.algo.ties == "davidson").to(cfg.device)
    if not scales.rates:                                             # no ratings to learn from, or all of them alike
        before = sum(map(len, sides.values()))
        sides = {side: [it for it in items if it.judgement.rating is None] for side, items in sides.items()}
        left_out += before - sum(map(len, sides.values()))
    trusted = Reliability()
    if cfg.people.reliability:
        trusted = labeler_reliability([it.judgement for it in sides["train"]], opposed=cfg.people.opposed)
        sides["train"] = [it if it.judgement.labeler not in trusted.opposed else
                          dataclasses.replace(it, judgement=read_as_opposite(it.judgement)) for it in sides["train"]]
    for line in trusted.told:
        log.info("reliability: %s", line)
    sides["train"] = weighted(sides["train"], cfg, trust=trusted.weights)
    if cfg.algo.balance_labels:
        sides["train"] = balanced(sides["train"])
    if left_out:
        log.warning("%d of %d judgements were left out (longer than %d tokens, or nothing to learn from)", left_out, len(found.rows), limit)
    if not sides["train"]:
        raise DataError(f"no usable judgement in {', '.join(data.all_files())} ({len(found.rows)} read, {left_out} left out)",
                        hint="a judgement needs ranks, a label, a rating or an edit, and answers within model.context_tokens")
    return Parts(reward_model, tokenizer, sides["train"], sides["eval"], found.layout, left_out, scales, trusted)


def sides_of(rows: Sequence[Judgement], cfg: RewardConfig) -> list[Side | None]:
    """The side of each judgement: rows that say `split: held_out` decide it, as a snapshot's do, else the hash of the prompt.

    None for one that nearly repeats a held-out prompt, and for what held-out labelers say of prompts that are trained on.
    """
    named = [row.prompt for row in rows if row.extra.get("split") == "held_out"]
    options = cfg.data.side_options() | ({"held_out": named} if named and cfg.data.held_out is None else {})
    sides = [None if side == "train" and is_held_out(row, cfg) else side
             for row, side in zip(rows, split_sides([row.prompt for row in rows], **options), strict=True)]
    if aside := sum(side is None and is_held_out(row, cfg) for row, side in zip(rows, sides, strict=True)):
        log.info("%d judgements of held-out labelers are not trained on", aside)
    return sides


def is_held_out(judgement: Judgement, cfg: RewardConfig) -> bool:
    """Whether the labeler is one who judges but never enters training."""
    return bool(judgement.extra.get("held_out_labeler")) or judgement.labeler in cfg.people.held_out


def usable(judgement: Judgement, cfg: RewardConfig) -> bool:
    """Whether there is something to learn from it."""
    if judgement.ranks is None:
        return judgement.label is not None or judgement.rating is not None
    soft = "target" in judgement.extra and cfg.algo.soft_targets
    return len(set(judgement.ranks)) > 1 or cfg.algo.ties != "drop" or soft


def weighted(items: list[Item], cfg: RewardConfig, *, people: bool = True, trust: Mapping[str, float] | None = None) -> list[Item]:
    """The same judgements with the weights that training gives them; without `people`, for tests, those of the sampler alone."""
    weights = example_weights([it.judgement for it in items], trust=trust, group_weights=cfg.people.group_weights if people else None,
                              inverse_probability=cfg.people.inverse_probability)
    return [dataclasses.replace(it, judgement=dataclasses.replace(it.judgement, weight=w)) for it, w in zip(items, weights, strict=True)]


def balanced(items: list[Item]) -> list[Item]:
    """The same judgements with ratings weighed so that the good ones and the bad ones have equal sums; the mean weight stays 1."""
    labelled = [it.judgement.label for it in items if it.judgement.label is not None]
    share = sum(map(bool, labelled)) / max(1, len(labelled))
    if share in (0.0, 1.0):
        return items
    factor = {True: 0.5 / share, False: 0.5 / (1 - share), None: 1.0}
    weights = [it.judgement.weight * factor[it.judgement.label] for it in items]
    return [dataclasses.replace(it, judgement=dataclasses.replace(it.judgement, weight=w)) for it, w in zip(items, weights, strict=True)]
