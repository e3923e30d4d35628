"""PPO from human feedback: roll out, score, assign credit, improve, record. Read `ppo` from top to bottom.

Source: Schulman et al. 2017 (arXiv:1707.06347); Ziegler et al. 2019 (1909.08593); Ouyang et al. 2022 (2203.02155);
Huang et al. 2024 (2403.17031).
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tutelage.algos.advantages import explained_variance, gae, kl_penalized_rewards, whiten
from tutelage.algos.kl import adaptive_kl_coef, k1
from tutelage.algos.losses import ppo_policy_loss, value_loss
from tutelage.algos.masked import token_mean
from tutelage.algos.shaping import RunningMoments, missing_eos_penalty, missing_eos_score, normalize_scores
from tutelage.base.log import get_logger, only_warnings
from tutelage.base.records import Prompt, prompt_text
from tutelage.models.actor_critic import ActorCritic
from tutelage.models.policy import packed_logprobs, token_logprobs
from tutelage.recipes.ppo_setup import Experience, Players, PPOConfig, build, describe_inputs, find_functions, pretraining_loss
from tutelage.rewards.base import check_scores
from tutelage.rewards.functions import Function
from tutelage.rewards.mix import MixedReward
from tutelage.rollout.batch import Rollout
from tutelage.train import audits
from tutelage.train.batches import rows_of_step
from tutelage.train.checkpoint import TrainState
from tutelage.train.forecast import free_memory_mb, peak_memory_mb
from tutelage.train.optim import build_optimizer, clip_and_step, lr_factor, set_lr
from tutelage.train.precision import resolve_precision
from tutelage.train.preview import Preview, describe
from tutelage.train.run import Run
from tutelage.train.sections import SaveSection, TrackSection
from tutelage.train.trainees import audit_tolerance, reopen_policy, throughout, weights_name

log = get_logger()

__all__ = ["PPOConfig", "ppo", "preview", "train_ppo"]


def train_ppo(cfg: PPOConfig, *, reward: Function | None = None) -> dict[str, Any]:
    """PPO from an SFT policy against a reward. Returns the run's result: path, model, last score and KL.

    reward(prompts, completions) -> one number each: added, with weight 1, to the rewards the config names, which may be none.
    """
    functions = find_functions(cfg, reward)
    with Run.open(cfg, "ppo", inputs=describe_inputs(cfg, functions)) as run:
        return run.finished() or ppo(build(cfg, run, functions), cfg, run)


@dataclass
class Progress:
    """What the loop carries from one iteration to the next beside the weights; saved with every checkpoint."""

    kl_coef: float
    moments: RunningMoments
    optimizer_steps: int = 0


def ppo(players: Players, cfg: PPOConfig, run: Run) -> dict[str, Any]:
    """The loop. Returns the run's result."""
    algo = cfg.algo
    networks = dict(players.actor_critic.networks())
    optimizer = build_optimizer([(networks["policy"], cfg.optim.learning_rate), (networks["critic"], cfg.critic.learning_rate)], cfg.optim,
                                kind=cfg.memory.optimizer)
    state = TrainState({"ppo": optimizer}, values={"kl_coef": algo.kl_coef, "moments": asdict(RunningMoments()), "optimizer_steps": 0})
    run.restore(state)
    at = Progress(state.values["kl_coef"], RunningMoments(**state.values["moments"]), state.values["optimizer_steps"])
    stats: dict[str, Any] = (run.metrics() or [{}])[-1]              # of the last iteration before an interruption

    def write_models(folder: Path) -> None:
        state.values.update(kl_coef=at.kl_coef, moments=asdict(at.moments), optimizer_steps=at.optimizer_steps)
        players.actor_critic.save(folder, players.tokenizer)

    for iteration in run.steps(algo.num_iterations, write_models=write_models, state=state, unit="iteration"):
        # Roll out: the policy answers, the frozen models score it.
        started = time.perf_counter()
        prompts, rollout = roll_out(players, cfg, iteration)
        rolled_out = time.perf_counter()
        mask, old_logprobs = rollout.response_mask, rollout.logprobs                                  # (B, T), (B, T)
        with torch.no_grad():
            ref_logprobs = token_logprobs(players.ref_policy, rollout.tokens, rollout.attention_mask,
                                          temperature=cfg.rollout.temperature, microbatch=cfg.optim.microbatch_size)   # (B, T)
            old_values = players.actor_critic.values(rollout.tokens, rollout.attention_mask)          # (B, T)
        raw_scores = check_scores(players.reward(prompts, rollout), prompts, rollout, players.tokenizer)          # (B,)
        scores = shape_scores(raw_scores, rollout, at, cfg)                                           # (B,)

        # Assign credit: the KL is paid token by token, the score arrives with the last one.
        rewards = kl_penalized_rewards(scores, old_logprobs, ref_logprobs, mask, kl_coef=at.kl_coef)  # (B, T)
        if algo.whiten_rewards:
            rewards = whiten(rewards, mask, shift_mean=False)
        advantages, returns = gae(rewards, old_values, mask, gamma=algo.gamma, gae_lambda=algo.gae_lambda,
                                  last_values=after_truncation(players.actor_critic, rollout) if algo.bootstrap_truncated else None)
        if algo.whiten_advantages == "batch":
            advantages = whiten(advantages, mask)

        # Improve: several clipped epochs over the same rollout, in shuffled minibatches.
        experience = Experience(rollout.tokens, rollout.attention_mask, mask, old_logprobs, old_values, advantages, returns)
        set_lr(optimizer, lr_factor(iteration, algo.num_iterations, cfg.optim))
        audit = iteration == run.start_step
        if audit:
            check_split(players, experience.select(slice(0, 4)), cfg)
        stats = improve(players, optimizer, experience, at, iteration, cfg, run, audit=audit)

        # Record what tells a healthy run from a hacked reward.
        kl = k1(old_logprobs, ref_logprobs).where(mask, torch.zeros(())).sum(1).mean().item()         # nats per response
        stats |= {
            "objective/score": raw_scores.mean().item(), "objective/score_std": raw_scores.std(unbiased=False).item(),
            "objective/kl": kl, "objective/kl_coef": at.kl_coef, "objective/reward": rewards.sum(1).mean().item(),
            "value/explained_variance": explained_variance(old_values, returns, mask).item(),
            "response/tokens": mask.sum(1).float().mean().item(), "response/finished_frac": rollout.finished.float().mean().item(),
            "train/learning_rate": optimizer.param_groups[0]["lr"],
            "time/rollout_seconds": rolled_out - started, "time/iteration_seconds": time.perf_counter() - started,
        }
        if isinstance(players.reward, MixedReward):
            stats |= {f"objective/score/{name}": mean for name, mean in players.reward.means.items()}
        run.log(iteration, stats)
        if algo.kl_target is not None:
            at.kl_coef = adaptive_kl_coef(at.kl_coef, kl, target=algo.kl_target, horizon=algo.kl_horizon, num_episodes=algo.batch_size)
        if cfg.eval.every_iterations and iteration % cfg.eval.every_iterations == 0:
            log.info("iteration %d: score %.2f, KL %.1f nats | %s -> %s", iteration, stats["objective/score"], round(kl, 1) + 0.0,
                     prompt_text(prompts[0])[:60], " ".join(rollout.texts(players.tokenizer)[0].split())[:140])

    saved = run.save(algo.num_iterations, write_models, state) / weights_name(cfg, "policy")
    check_saved(players, saved, cfg)
    return run.finish({"model": str(saved), "iterations": algo.num_iterations,
                       "score": stats.get("objective/score"), "kl": stats.get("objective/kl")})


def roll_out(players: Players, cfg: PPOConfig, iteration: int) -> tuple[list[Prompt], Rollout]:
    """batch_size responses from the current policy; prompts in shuffled epochs, each response with its own random stream."""
    size, each = cfg.algo.batch_size, cfg.rollout.answers_per_prompt
    rows = rows_of_step(iteration, len(players.prompts), min(size // each, len(players.prompts)), cfg.seed)
    rows = np.repeat(np.resize(rows, size // each), each)            # fewer prompts than responses: prompts repeat
    players.engine.sync(players.actor_critic.policy, version=iteration)
    prompt_tokens = [players.prompt_tokens[i] for i in rows]
    completions = players.engine.generate(prompt_tokens, players.sampling, row_ids=[iteration * size + i for i in range(size)])
    rollout = Rollout.collate(prompt_tokens, completions, players.tokenizer.pad_token_id).to(cfg.device)
    audits.check_fresh_rollout((c.weight_version for c in completions), iteration)
    if resolve_precision(cfg.memory, cfg.device) == "bf16":          # a decoder rounds otherwise than the forward pass that trains
        with torch.no_grad():
            again = token_logprobs(players.actor_critic.policy, rollout.tokens, rollout.attention_mask,
                                   temperature=cfg.rollout.temperature, microbatch=cfg.optim.microbatch_size)
        rollout = replace(rollout, logprobs=torch.where(rollout.response_mask, again, 0.0))
    return [players.prompts[i] for i in rows], rollout


def shape_scores(scores: Tensor, rollout: Rollout, at: Progress, cfg: PPOConfig) -> Tensor:
    """Scores as rewarded: normalised by running moments, clipped, replaced or lowered where the answer did not end. (B,) -> (B,)

    With bootstrap_truncated an answer cut off is an episode that goes on (Pardo et al. 2018, arXiv:1712.00378): its score is not due yet,
    and the critic's value after its last token, which `gae` adds, stands for it. Paying both would count the answer twice. The penalty
    for not ending is the price of the cut itself and stays.
    """
    algo = cfg.algo
    if algo.normalize_scores:
        at.moments = at.moments.update(scores)
        scores = normalize_scores(scores, at.moments, clip=algo.score_clip)
    elif algo.score_clip is not None:
        scores = scores.clamp(-algo.score_clip, algo.score_clip)
    if algo.bootstrap_truncated:
        scores = torch.where(rollout.finished, scores, 0.0)
    if algo.missing_eos_score is not None:
        return missing_eos_score(scores, rollout.finished, algo.missing_eos_score)
    return missing_eos_penalty(scores, rollout.finished, algo.missing_eos_penalty)


@torch.no_grad()
def after_truncation(actor_critic: ActorCritic, rollout: Rollout) -> Tensor:
    """(B,): value after the last token of a row cut off by the length limit, 0 for a row that ended."""
    return torch.where(rollout.finished, 0.0, actor_critic.last_values(rollout.tokens, rollout.attention_mask))


def improve(players: Players, optimizer: torch.optim.Optimizer, experience: Experience, at: Progress, iteration: int, cfg: PPOConfig,
            run: Run, *, audit: bool) -> dict[str, float]:
    """Clipped epochs over one rollout. Returns means over its optimizer steps."""
    algo = cfg.algo
    seen: list[dict[str, float]] = []
    train_policy = iteration >= cfg.critic.warmup_iterations
    for epoch in range(algo.epochs):
        order = torch.from_numpy(np.random.default_rng((cfg.seed, iteration, epoch)).permutation(len(experience)))
        for start in range(0, len(experience), algo.minibatch_size):
            batch = experience.select(order[start : start + algo.minibatch_size]).trimmed()
            if algo.whiten_advantages == "minibatch":
                batch.advantages = whiten(batch.advantages, batch.response_mask)
            stats = ppo_step(players, optimizer, batch, at.optimizer_steps, cfg, run, train_policy=train_policy, audit=audit and not seen)
            at.optimizer_steps += 1
            seen.append(stats)
            if algo.target_kl is not None and stats["policy/approx_kl"] > algo.target_kl:
                return _means(seen) | {"policy/early_stop": 1.0}
    return _means(seen) | {"policy/early_stop": 0.0}


def ppo_step(players: Players, optimizer: torch.optim.Optimizer, batch: Experience, step: int, cfg: PPOConfig, run: Run,
             *, train_policy: bool, audit: bool) -> dict[str, float]:
    """One optimizer step on one minibatch, in micro-batches that add up to it exactly."""
    num_tokens, networks = batch.response_mask.sum(), dict(players.actor_critic.networks())
    totals: dict[str, float] = {}
    for piece in batch.micro(cfg.optim.microbatch_size):
        loss, stats, ratio = ppo_loss(players.actor_critic, piece, num_tokens, cfg, train_policy=train_policy)
        if audit:
            audits.check_first_minibatch(ratio, stats["policy/approx_kl"].item(), stats["policy/clipfrac"].item(),
                                         tolerance=audit_tolerance(cfg))
        if not audits.check_finite(loss):
            raise run.save_bad_batch(vars(piece), "PPO loss is not finite")
        loss.backward()
        for name, value in stats.items():
            totals[name] = totals.get(name, 0.0) + value.item()
    if players.pretraining is not None and train_policy:
        ptx_loss = pretraining_loss(players, step, cfg)
        (cfg.ptx.coef * ptx_loss).backward()
        totals["ptx/loss"] = ptx_loss.item()
    if not train_policy:                                             # a shared trunk also hears the value loss
        networks["policy"].zero_grad(set_to_none=True)
    totals["policy/grad_norm"], totals["value/grad_norm"] = clip_and_step(optimizer, networks.values(), cfg.optim.max_grad_norm)
    return totals


def ppo_loss(actor_critic: ActorCritic, batch: Experience, num_tokens: Tensor | int, cfg: PPOConfig, *, train_policy: bool = True
             ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Policy loss + vf_coef * value loss - ent_coef * entropy, sums over num_tokens. Returns (loss, stats, ratios on the mask)."""
    algo, mask = cfg.algo, batch.response_mask
    logprobs, values, entropy = actor_critic.evaluate(batch.tokens, batch.attention_mask, temperature=cfg.rollout.temperature)  # (B, T)
    policy_loss, policy_stats = ppo_policy_loss(logprobs, batch.old_logprobs, batch.advantages, mask, cliprange=algo.cliprange,
                                                num_tokens=num_tokens)
    critic_loss, value_stats = value_loss(values, batch.old_values, batch.returns, mask, cliprange_value=algo.cliprange_value,
                                          num_tokens=num_tokens)
    mean_entropy = token_mean(entropy, mask, num_tokens=num_tokens)
    loss = algo.vf_coef * critic_loss
    if train_policy:
        loss = loss + policy_loss - algo.ent_coef * mean_entropy
    stats = {"policy/loss": policy_loss, "policy/approx_kl": policy_stats["approx_kl"], "policy/clipfrac": policy_stats["clipfrac"],
             "policy/ratio": policy_stats["ratio"], "policy/entropy": mean_entropy, "value/loss": critic_loss,
             "value/clipfrac": value_stats["value_clipfrac"]}
    return loss, {name: x.detach() for name, x in stats.items()}, (logprobs - batch.old_logprobs)[mask].exp().detach()


def check_split(players: Players, few: Experience, cfg: PPOConfig) -> None:
    """Audit: the gradient of a few rows equals the sum over their halves, and packed pretraining texts do not see each other."""
    actor_critic, num_tokens, tolerance = players.actor_critic, few.response_mask.sum(), audit_tolerance(cfg)
    modules = [module for _, module in actor_critic.networks()]
    audits.check_microbatch_gradients(lambda rows: ppo_loss(actor_critic, few.select(rows), num_tokens, cfg)[0], modules, len(few),
                                      tolerance=tolerance)
    if players.pretraining is not None:
        audits.check_packing(partial(packed_logprobs, actor_critic.policy), players.pretraining, tolerance=tolerance)


@torch.no_grad()
def check_saved(players: Players, folder: Path, cfg: PPOConfig) -> None:
    """Audit: the saved policy gives the log-probs that are in memory."""
    tokens = torch.tensor([players.prompt_tokens[0]])
    policy = players.actor_critic.policy
    reopened = throughout(cfg, reopen_policy(cfg, policy, folder, players.tokenizer))
    tokens = tokens.to(policy.device)
    mask = torch.ones_like(tokens, dtype=torch.bool)
    audits.check_reload(token_logprobs(policy, tokens, mask), token_logprobs(reopened, tokens, mask), folder)


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    """Mean of each statistic over the steps that have it."""
    return {name: float(np.mean([r[name] for r in rows if name in r])) for name in {n: None for r in rows for n in r}}


def preview(cfg: PPOConfig) -> Preview:
    """What --dry-run shows: prompts as read, and a forecast from three real iterations in a throw-away run."""
    import tempfile

    functions, started = find_functions(cfg), time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="tutelage-preview-") as scratch:
        few = cfg.algo.model_copy(update={"num_iterations": min(3, cfg.algo.num_iterations)})
        short = cfg.model_copy(update={"run_dir": Path(scratch) / "run", "resume": False, "algo": few, "track": TrackSection(),
                                       "save": SaveSection()})
        with Run.open(short, "ppo") as run:
            players = build(short, run, functions, ask=False)
            setup = time.perf_counter() - started
            with only_warnings():
                ppo(players, short, run)
            spent = [row["time/iteration_seconds"] for row in run.metrics()]
    ends = time.perf_counter() - started - setup - sum(spent)        # a checkpoint, and opening it again, about as long each
    each = sum(spent[1:]) / len(spent[1:]) if spent[1:] else spent[0]
    saves = cfg.algo.num_iterations // cfg.save.every_steps if cfg.save.every_steps else 0
    found = {"steps": cfg.algo.num_iterations, "seconds_per_step": round(each, 3), "setup_seconds": round(setup, 1),
             "seconds": round(setup + spent[0] + each * (cfg.algo.num_iterations - 1) + ends * (1 + saves / 2), 1),
             "peak_memory_mb": peak_memory_mb(cfg.device), "free_memory_mb": free_memory_mb(cfg.device)}
    data = {"layout": players.layout, "train_prompts": len(players.prompts), "left_out_prompts": players.left_out}
    return describe(cfg, data=data, samples=[players.tokenizer.decode(t) for t in players.prompt_tokens[:3]], forecast=found)
