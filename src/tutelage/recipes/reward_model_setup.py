"""Setting up a reward model's training: its settings, the judgements it learns from, and the model it starts as."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tutelage.base.config import RunConfig, Section
from tutelage.base.errors import DataError
from tutelage.base.log import get_logger
from tutelage.base.records import Judgement, Prompt
from tutelage.models.heads import ScoredModel
from tutelage.models.policy import context_length, require_context, resolve_model
from tutelage.text.chat import Encoded, encode_example
from tutelage.text.readers import read_judgements, read_sources
from tutelage.text.split import split_sides
from tutelage.text.tokenizer import open_tokenizer
from tutelage.train.run import Run
from tutelage.train.sections import Budget, DataSection, Epochs, LoraSection, MemorySection, OptimSection, SaveSection, TrackSection
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
    """Equal ranks: left out, a soft target of 0.5, or their own outcome with Davidson's model."""
    soft_targets: bool = True
    """A row's share of votes (`target`, `votes`) is what is learnt; false takes the side that won as certain."""
    strength_margin: float = Field(0.0, ge=0)
    """Score margin a labeler's strength of 1 asks for, score units, on top of a row's own `margin`; strength s asks for s times that."""
    balance_labels: bool = False
    """Weigh ratings so that good and bad ones count alike in sum, where nearly all are good."""
    normalize: bool = True
    """After training, recentre and rescale to mean 0, standard deviation 1 over the training answers."""


class EvalSection(Section):
    """What is measured while it trains."""

    every_steps: int | None = Field(None, ge=1)
    """Steps between two measurements on the held-out judgements; None measures at the end only."""


class RewardConfig(RunConfig):
    """A reward model from judgements: one epoch by default, since more overfits fast."""

    model: ModelSection
    data: DataSection
    train: TrainSection = TrainSection()
    algo: AlgoSection = AlgoSection()
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
    side_of = split_sides([row.prompt for row in found.rows], **data.side_options())
    encoded: dict[tuple[Prompt, str], Encoded] = {}                  # an answer may stand in many pairs
    for row, (judgement, side) in enumerate(zip(found.rows, side_of, strict=True)):
        if side is None:
            continue
        for text in (r.text for r in judgement.responses):
            if (judgement.prompt, text) not in encoded:
                encoded[judgement.prompt, text] = encode_example(tokenizer, judgement.prompt, text)
        answers = [encoded[judgement.prompt, r.text] for r in judgement.responses]
        usable = judgement.label is not None or (
            judgement.ranks is not None and (len(set(judgement.ranks)) > 1 or cfg.algo.ties != "drop"
                                                or ("target" in judgement.extra and cfg.algo.soft_targets))
        )
        alike = len(answers) > 1 and len({tuple(a.tokens) for a in answers}) == 1       # to this tokenizer, which may lower all letters
        if not usable or alike or max(len(a.tokens) for a in answers) > limit:
            left_out += 1
            continue
        sides[side].append(Item(answers, judgement, row))
    if cfg.algo.balance_labels:
        sides["train"] = balanced(sides["train"])
    if left_out:
        log.warning("%d of %d judgements were left out (longer than %d tokens, or nothing to learn from)", left_out, len(found.rows), limit)
    if not sides["train"]:
        raise DataError(f"no usable judgement in {', '.join(data.all_files())} ({len(found.rows)} read, {left_out} left out)",
                        hint="a judgement needs ranks or a label, and answers within model.context_tokens")
    return Parts(reward_model, tokenizer, sides["train"], sides["eval"], found.layout, left_out)


def balanced(items: list[Item]) -> list[Item]:
    """The same judgements with ratings weighed so that the good ones and the bad ones have equal sums; the mean weight stays 1."""
    labelled = [it.judgement.label for it in items if it.judgement.label is not None]
    share = sum(map(bool, labelled)) / max(1, len(labelled))
    if share in (0.0, 1.0):
        return items
    factor = {True: 0.5 / share, False: 0.5 / (1 - share), None: 1.0}
    weights = [it.judgement.weight * factor[it.judgement.label] for it in items]
    return [dataclasses.replace(it, judgement=dataclasses.replace(it.judgement, weight=w)) for it, w in zip(items, weights, strict=True)]
