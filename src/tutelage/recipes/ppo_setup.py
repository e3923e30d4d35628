"""PPO's settings and its players: who answers, who scores, what is read. The loop itself is in ppo.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor

from tutelage.algos.losses import nll_loss
from tutelage.base.config import RunConfig, Section
from tutelage.base.errors import ConfigError, DataError
from tutelage.base.log import get_logger
from tutelage.base.records import Prompt
from tutelage.base.split import split_of, split_sides
from tutelage.models.actor_critic import ActorCritic, SeparateNetworks, SharedTrunk
from tutelage.models.batches import Batch, PackedBatch
from tutelage.models.heads import ScoredModel
from tutelage.models.policy import context_length, open_policy, packed_logprobs, require_context, resolve_model
from tutelage.recipes.ppo_people import named, open_people
from tutelage.rewards.base import ModelReward, Reward
from tutelage.rewards.functions import Function, source_of
from tutelage.rewards.mix import RewardSection, StudioSection, load_functions, model_rewards, open_reward
from tutelage.rollout import Engine, InProcessEngine, Sampling
from tutelage.text.chat import encode_prompt, encode_texts, stop_tokens
from tutelage.text.packing import pack_texts
from tutelage.text.readers import expand_files, input_files, read_prompts, read_sources, read_texts
from tutelage.text.tokenizer import open_tokenizer
from tutelage.train.batches import rows_of_step
from tutelage.train.run import Run
from tutelage.train.sections import DataSection, LoraSection, MemorySection, Names, OptimSection, SaveSection, TrackSection
from tutelage.train.trainees import economise, throughout

log = get_logger()
STUDIO = "studio"
"""model.reward of a run that people reward; a folder of that name is written ./studio."""


class ModelSection(Section):
    """Who takes part."""

    policy: str
    """SFT model: where the policy starts and what it is held near (the reference)."""
    reward: str | None = None
    """Reward model folder or run directory, or `studio`: people score each rollout; several, or functions, go into `rewards`."""


class CriticSection(Section):
    """The value network."""

    kind: Literal["separate", "shared"] = "separate"
    """separate: a network of its own; shared: a value head on the policy's trunk (half the time and memory; the two pull at each other)."""
    init: Literal["auto", "reward", "policy"] = "auto"
    """Whose weights a separate critic starts from; the head too, when from the reward model. auto: the reward model (of several
    the heaviest) if it reads the policy's tokens, else the policy."""
    learning_rate: float = Field(3e-4, gt=0)
    """Peak learning rate of the critic (of the value head alone when shared)."""
    warmup_iterations: int = Field(0, ge=0)
    """First iterations in which only the critic learns."""


class RolloutSection(Section):
    """How responses are drawn. Nothing is cut off (top_k, top_p), or the log-probs would be of another distribution."""

    temperature: float = Field(1.0, gt=0)
    """Logits are divided by it, when sampling and in every log-prob."""
    max_tokens: int = Field(64, ge=1)
    """Longest response, tokens."""
    answers_per_prompt: int = Field(1, ge=1)
    """Responses to each prompt of an iteration; people compare or rank them."""
    batch_size: int = Field(256, ge=1)
    """Sequences decoded side by side."""


class AlgoSection(Section):
    """The algorithm."""

    num_iterations: int = Field(100, ge=1)
    """Rollouts, each followed by its updates."""
    batch_size: int = Field(128, ge=1)
    """Responses per iteration."""
    minibatch_size: int = Field(32, ge=1)
    """Responses per optimizer step."""
    epochs: int = Field(2, ge=1)
    """Passes over each rollout."""
    kl_coef: float = Field(0.05, ge=0)
    """Reward units per nat of log p - log p_ref; the start when kl_target is given."""
    kl_target: float | None = Field(None, gt=0)
    """Nats per response to hold by adapting kl_coef; None keeps kl_coef fixed."""
    kl_horizon: int = Field(10_000, ge=1)
    """Episodes over which the adaptive coefficient reacts."""
    gamma: float = Field(1.0, ge=0, le=1)
    """Discount per token."""
    gae_lambda: float = Field(0.95, ge=0, le=1)
    """1 is Monte Carlo, 0 is one-step TD."""
    cliprange: float = Field(0.2, gt=0)
    """Half-width of the ratio's clip."""
    cliprange_value: float = Field(0.2, gt=0)
    """Half-width of the value clip, reward units."""
    vf_coef: float = Field(0.5, ge=0)
    """Weight of the value loss."""
    ent_coef: float = Field(0.0, ge=0)
    """Weight of the entropy bonus, reward units per nat; off by default, as it is brittle for text."""
    whiten_rewards: bool = False
    """Scale token rewards to variance 1, mean kept."""
    whiten_advantages: Literal["batch", "minibatch", "off"] = "batch"
    """Advantages to mean 0, variance 1: over the whole rollout (each token's credit is the same in every epoch), per minibatch, or not."""
    normalize_scores: bool = False
    """Scores minus their running mean over their running standard deviation."""
    score_clip: float | None = Field(None, gt=0)
    """Keep scores within plus or minus this, score units; None does not clip."""
    missing_eos_penalty: float = Field(1.0, ge=0)
    """Taken off the score of a response that did not end within max_tokens, score units."""
    missing_eos_score: float | None = None
    """Score of a response that did not end within max_tokens, whatever the reward model makes of the fragment; None lowers its own
    score by missing_eos_penalty, which a policy outruns where the reward model has never seen a fragment and likes it."""
    bootstrap_truncated: bool = False
    """Treat a response cut off at max_tokens as going on: the critic's value after it stands in for its score, instead of its score."""
    target_kl: float | None = Field(None, gt=0)
    """Leave the epochs early when a minibatch's approx_kl passes this, nats per token; None never does."""

    @model_validator(mode="after")
    def _whole_minibatches(self) -> Self:
        if self.batch_size % self.minibatch_size:
            raise ValueError(f"batch_size={self.batch_size} is not a multiple of minibatch_size={self.minibatch_size}")
        return self

    @model_validator(mode="after")
    def _one_verdict_on_the_cut(self) -> Self:
        if self.missing_eos_score is not None and self.bootstrap_truncated:
            raise ValueError("missing_eos_score and bootstrap_truncated both stand in for the score of a response cut off; give one")
        return self


class PtxSection(Section):
    """PPO-ptx: pretraining text mixed into the updates, against forgetting (Ouyang et al. 2022, eq. 2)."""

    files: Names = []
    """Pretraining text; empty turns the mix off."""
    coef: float = Field(0.0, ge=0)
    """Weight of its loss; InstructGPT's 27.8 stands beside a loss summed differently, so begin near 1 here."""
    batch_size: int = Field(8, ge=1)
    """Packed rows per optimizer step."""
    context_tokens: int = Field(128, ge=16)
    """Width of a packed row."""
    eval_frac: float = Field(0.05, ge=0, lt=1)
    """Share of the texts held out, as in pretraining, so that what PPO costs on held-out text can still be measured."""

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if bool(self.files) != bool(self.coef):
            raise ValueError("files and coef go together: give both, or neither")
        return self


class EvalSection(Section):
    """What a person sees while it trains."""

    every_iterations: int = Field(10, ge=0)
    """Iterations between two printed sample answers; 0 prints none."""


class PPOConfig(RunConfig):
    """Proximal policy optimisation of an SFT policy against a reward."""

    model: ModelSection
    rewards: dict[str, RewardSection] = {}
    """Name -> reward, in place of model.reward; the score is the sum of weight times score."""
    data: DataSection
    rollout: RolloutSection = RolloutSection()
    algo: AlgoSection = AlgoSection()
    critic: CriticSection = CriticSection()
    ptx: PtxSection = PtxSection()
    optim: OptimSection = OptimSection(learning_rate=1e-4, schedule="linear", warmup_frac=0.0, beta2=0.999)
    eval: EvalSection = EvalSection()
    lora: LoraSection = LoraSection()
    memory: MemorySection = MemorySection()
    save: SaveSection = SaveSection()
    track: TrackSection = TrackSection()

    @model_validator(mode="after")
    def _one_place_for_rewards(self) -> Self:
        if self.model.reward is not None and self.rewards:
            raise ValueError("rewards: give either model.reward or rewards")
        return self

    @model_validator(mode="after")
    def _whole_groups(self) -> Self:
        if self.algo.batch_size % self.rollout.answers_per_prompt:
            raise ValueError(f"algo.batch_size={self.algo.batch_size} is not a multiple of rollout.answers_per_prompt="
                             f"{self.rollout.answers_per_prompt}")
        return self

    def all_rewards(self) -> dict[str, RewardSection]:
        """Every reward by name; `model.reward` is called reward."""
        if self.model.reward == STUDIO:
            return {"reward": RewardSection(studio=StudioSection())}
        return self.rewards if self.model.reward is None else {"reward": RewardSection(model=self.model.reward)}


@dataclass
class Experience(Batch):
    """One rollout with its credit; (B, T) each."""

    tokens: Tensor
    attention_mask: Tensor
    response_mask: Tensor
    old_logprobs: Tensor
    old_values: Tensor
    advantages: Tensor
    returns: Tensor

    def trimmed(self) -> Self:
        """Without the columns that are padding in every row."""
        width = int(self.attention_mask.sum(1).max())
        return self.select((slice(None), slice(0, width)))


@dataclass
class Players:
    """Everything the loop talks to."""

    actor_critic: ActorCritic
    ref_policy: Any
    reward: Reward
    engine: Engine
    tokenizer: Any
    sampling: Sampling
    prompts: list[Prompt]
    prompt_tokens: list[list[int]]
    pretraining: PackedBatch | None = None
    layout: str = "given"
    left_out: int = 0


def find_functions(cfg: PPOConfig, given: Function | None = None) -> dict[str, Function]:
    """The reward functions by name: those of the config, and the caller's own as `given`.

    Raises: ConfigError when one cannot be had (or the process may not run code), and when there is no reward at all.
    """
    if given is not None and "given" in cfg.all_rewards():           # one of the two would not be heard
        raise ConfigError("rewards.given: that is the name of the reward passed as a function", hint="give the config's another name")
    functions = load_functions(cfg.all_rewards()) | ({} if given is None else {"given": given})
    if not functions and not cfg.all_rewards():
        raise ConfigError("nothing scores the answers", hint="give model.reward=FOLDER or =studio, or rewards.NAME.model or .function")
    return functions


def describe_inputs(cfg: PPOConfig, functions: Mapping[str, Function] = MappingProxyType({})) -> dict[str, Any]:
    """Parents for the lineage."""
    names = {name: "reward" if cfg.model.reward else f"reward {name}" for name in (*cfg.all_rewards(), *functions)}
    inputs: dict[str, Any] = {"policy": resolve_model(cfg.model.policy)}
    inputs |= {names[name]: resolve_model(part.model) for name, part in cfg.all_rewards().items() if part.model is not None}
    inputs |= {names[name]: named(part.studio) for name, part in cfg.all_rewards().items() if part.studio is not None}
    inputs |= {names[name]: source_of(function) for name, function in functions.items()}
    inputs["data"] = input_files(cfg.data.each(), cfg.data.held_out)
    return inputs | ({"ptx": expand_files(cfg.ptx.files)} if cfg.ptx.files else {})


def build(cfg: PPOConfig, run: Run, functions: Mapping[str, Function] = MappingProxyType({}), *, ask: bool = True) -> Players:
    """Open the models (from the last checkpoint when resuming) and read the prompts of the training side.

    ask: False puts no rollout before people, and scores what they would with 0.
    """
    source = resolve_model(cfg.model.policy)
    tokenizer = open_tokenizer(source)
    people = open_people(cfg.all_rewards(), tokenizer, run, cfg.rollout.model_dump(include={"temperature", "max_tokens"}), ask=ask)
    if cfg.lora.rank:
        from tutelage.recipes.ppo_adapters import build_on_one_base

        actor_critic, ref_policy, reward = build_on_one_base(cfg, run, source, functions, tokenizer, people)
    else:
        policy = throughout(cfg, economise(cfg, open_policy(run.weights_dir("model", source), device=cfg.device, tokenizer=tokenizer)))
        ref_policy = throughout(cfg, open_policy(source, device=cfg.device, tokenizer=tokenizer).requires_grad_(False))
        reward = open_reward(cfg.all_rewards(), functions, tokenizer, cfg.device, people=people)
        for judge in model_rewards(reward):
            throughout(cfg, judge.model.model)
        actor_critic = open_actor_critic(cfg, run, policy, source, tokenizer)
    if cfg.ptx.files:
        require_context(actor_critic.policy, cfg.ptx.context_tokens, source, "ptx.context_tokens")
    prompts, prompt_tokens, layout, left_out = read_training_prompts(cfg, tokenizer, actor_critic, model_rewards(reward))
    sampling = Sampling(
        temperature=cfg.rollout.temperature, max_tokens=cfg.rollout.max_tokens, stop_tokens=stop_tokens(tokenizer), seed=cfg.seed
    )
    return Players(
        actor_critic, ref_policy, reward,
        InProcessEngine(actor_critic.policy, tokenizer.pad_token_id, max_batch=cfg.rollout.batch_size),
        tokenizer, sampling, prompts, prompt_tokens,
        pack_pretraining(cfg, tokenizer) if cfg.ptx.files else None, layout, left_out)


def open_actor_critic(cfg: PPOConfig, run: Run, policy: Any, source: Path, tokenizer: Any) -> ActorCritic:
    """The policy with the critic the config asks for, or with the one of the last checkpoint."""
    saved = run.weights_dir("critic", "")
    if cfg.critic.kind == "shared":
        return SharedTrunk(policy, Path(saved) / "value_head.safetensors" if saved else None)
    if saved:
        critic = ScoredModel.open(saved, device=cfg.device)
    elif start := critic_start(cfg, tokenizer):
        folder, weight = start
        critic = ScoredModel.open(folder, device=cfg.device).rescale_(weight, 0.0)
    else:
        critic = ScoredModel.from_policy(source, cfg.seed, tokenizer=tokenizer, device=cfg.device)
    throughout(cfg, economise(cfg, critic.model))
    return SeparateNetworks(policy, critic)


def critic_start(cfg: PPOConfig, tokenizer: Any) -> tuple[Path, float] | None:
    """The reward model a separate critic starts from and its weight in the score; None: the policy.

    Raises: ConfigError when critic.init=reward and none reads the tokens the policy writes.
    """
    if cfg.critic.init == "policy":
        return None
    models = [(part.weight, resolve_model(part.model)) for part in cfg.all_rewards().values() if part.model is not None and part.weight > 0]
    readers = [(weight, folder) for weight, folder in models if open_tokenizer(folder).get_vocab() == tokenizer.get_vocab()]
    if readers:
        weight, folder = max(readers, key=lambda reader: reader[0])
        return folder, weight
    why = f"from {models[0][1]}: its tokenizer is not the policy's" if models else "from a reward model: there is none"
    if cfg.critic.init == "reward":
        raise ConfigError(f"the critic cannot start {why}", hint="set critic.init=policy")
    log.info("the critic starts from the policy; it cannot start %s", why)
    return None


def read_training_prompts(cfg: PPOConfig, tokenizer: Any, actor_critic: ActorCritic, judges: Sequence[ModelReward]
                          ) -> tuple[list[Prompt], list[list[int]], str, int]:
    """(prompts, their token ids, layout, number left out because prompt and response do not fit everybody's context)."""
    data, room = cfg.data, cfg.rollout.max_tokens
    found = read_sources(read_prompts, data.each())
    limits = [context_length(actor_critic.policy), *(judge.limit for judge in judges if judge.reads_policy_tokens)]
    if isinstance(actor_critic, SeparateNetworks):
        limits.append(context_length(actor_critic.critic.model))
    context = min((limit for limit in limits if limit is not None), default=None)
    others = [(judge, judge.limit) for judge in judges if not judge.reads_policy_tokens and judge.limit is not None]
    prompts, prompt_tokens, left_out = [], [], 0
    for prompt, side in zip(found.rows, split_sides(found.rows, **data.side_options()), strict=True):
        if side != "train":
            continue
        tokens = encode_prompt(tokenizer, prompt)
        fits = context is None or len(tokens) + room <= context
        if fits and all(len(encode_prompt(judge.tokenizer, prompt)) + room <= limit for judge, limit in others):
            prompts.append(prompt)
            prompt_tokens.append(tokens)
        else:
            left_out += 1
    narrowest = min([limit for limit in [context, *(limit for _, limit in others)] if limit is not None], default=None)
    if left_out:
        log.warning("%d of %d prompts are left out: with %d response tokens they pass the context of %s", left_out, left_out + len(prompts),
                    room, narrowest)
    if not prompts:
        raise DataError(f"no prompt of {', '.join(data.all_files())} leaves room for {room} response tokens in a context of {narrowest}",
                        hint="lower rollout.max_tokens, or shorten the prompts")
    return prompts, prompt_tokens, found.layout, left_out


def pack_pretraining(cfg: PPOConfig, tokenizer: Any) -> PackedBatch:
    """The training side of the pretraining text in packed rows."""
    found = read_texts(cfg.ptx.files).rows
    texts = [t for t in found if split_of(t, eval_frac=cfg.ptx.eval_frac, seed=cfg.data.split_seed, by=cfg.data.split_by) == "train"]
    return PackedBatch.stack(
        pack_texts(encode_texts(tokenizer, texts), cfg.ptx.context_tokens, pad_token_id=tokenizer.pad_token_id),
        cfg.device,
    )


def pretraining_loss(players: Players, step: int, cfg: PPOConfig) -> Tensor:
    """Nats per token of the policy on the step's pretraining rows."""
    packed = players.pretraining
    assert packed is not None
    batch = packed.select(rows_of_step(step, len(packed), cfg.ptx.batch_size, cfg.seed + 1))
    return nll_loss(packed_logprobs(players.actor_critic.policy, batch), batch.trained_mask)
