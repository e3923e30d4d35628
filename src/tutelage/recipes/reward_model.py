"""Reward model: a scalar head on the SFT model, trained on judgements (pairs, K-way rankings, single-answer labels)."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch

from tutelage.base.files import atomic_write_text
from tutelage.base.records import Prompt
from tutelage.models.policy import resolve_model
from tutelage.recipes.reward_model_disagreements import from_a_store, write_disagreements
from tutelage.recipes.reward_model_loss import ROWS_PER_FORWARD, loss_of, read_answers
from tutelage.recipes.reward_model_report import held_out_report, write_people_report
from tutelage.recipes.reward_model_setup import Item, Parts, RewardConfig, build
from tutelage.text.chat import Encoded, marked_text
from tutelage.text.readers import input_files
from tutelage.train import audits
from tutelage.train.batches import rows_of_step
from tutelage.train.checkpoint import TrainState
from tutelage.train.forecast import Work, forecast, from_now
from tutelage.train.optim import build_optimizer, clip_and_step, lr_factor, set_lr
from tutelage.train.precision import computing
from tutelage.train.preview import Preview, describe, write_aside
from tutelage.train.run import Run
from tutelage.train.trainees import audit_tolerance, reopen_scored, weights_name


def train_reward_model(cfg: RewardConfig) -> dict[str, Any]:
    """Train, recentre, save and report. Returns path, model and the held-out report."""
    inputs: dict[str, Any] = {"policy": resolve_model(cfg.model.policy), "data": input_files(cfg.data.each(), cfg.data.held_out)}
    with Run.open(cfg, "reward", inputs=inputs) as run:
        if done := run.finished():
            return done
        parts, weights = build(cfg, run), weights_name(cfg, "reward")
        reward_model, scales = parts.reward_model, parts.scales
        optimizer = optimizer_of(parts, cfg)
        batches = batch_units(parts.train, cfg)
        total_steps = cfg.train.steps(len(batches), cfg.train.batch_size)
        state = TrainState({"reward": optimizer}, values={"bt_scale": None}, tensors=scales.state_dict())     # None: not normalised yet
        run.restore(state)
        scales.load_state_dict(state.tensors)
        audits.dump_masks(
            run.folder / "masks.txt",
            [(marked_text(parts.tokenizer, a), sum(a.response_mask)) for item in parts.train[:4] for a in item.answers],
        )

        def write_models(folder: Path) -> None:
            reward_model.save(folder / weights, parts.tokenizer)
            scales.save(folder / weights)
            state.tensors = scales.state_dict()

        for step in run.steps(total_steps, write_models=write_models, state=state):
            items = items_of_step(step, batches, cfg)
            set_lr(optimizer, lr_factor(step, total_steps, cfg.optim))
            if step == run.start_step:
                few = items[:4]
                audits.check_microbatch_gradients(lambda rows, few=few: loss_of(parts, few[rows], len(few), cfg)[0],    # type: ignore[misc]
                                                  parts.trained, len(few), tolerance=audit_tolerance(cfg, whole=not cfg.lora.rank))
            stats = train_step(parts, optimizer, items, cfg, run)
            if cfg.eval.every_steps and (step + 1) % cfg.eval.every_steps == 0:
                stats |= quick_look(parts, cfg)
            run.log(step, stats)

        bt_scale = state.values["bt_scale"]
        if bt_scale is None:
            bt_scale = state.values["bt_scale"] = normalize(parts, cfg) if cfg.algo.normalize else 1.0
        saved = run.save(total_steps, write_models, state) / weights
        check_saved(parts, saved, cfg)
        held = all_scores(parts, parts.held_out, cfg)
        atomic_write_text(run.folder / "scores.jsonl", "".join(
            json.dumps({"row": item.row, "scores": own}) + "\n" for item, own in zip(parts.held_out, held, strict=True)))
        report = held_out_report(parts, cfg, bt_scale, held)
        written = write_people_report(run.folder, parts, cfg, held)
        sides = {"held_out": held} | ({"train": all_scores(parts, parts.train, cfg)} if from_a_store(parts) else {})
        listed = write_disagreements(run.folder, parts, sides)
        return run.finish({"model": str(saved), "steps": total_steps, "rows": len(parts.train), "bt_scale": bt_scale,
                           "report": str(written), "disagreements": listed, **report})


def optimizer_of(parts: Parts, cfg: RewardConfig) -> torch.optim.Optimizer:
    """AdamW over the model and over what is learnt of people, each with its own learning rate."""
    return build_optimizer([(parts.reward_model, cfg.optim.learning_rate), (parts.scales, cfg.people.learning_rate)], cfg.optim,
                           kind=cfg.memory.optimizer)


def batch_units(items: list[Item], cfg: RewardConfig) -> list[list[Item]]:
    """What `train.batch_size` counts: single judgements, or all judgements on a prompt together (Ouyang et al. 2022, section 3.5)."""
    if cfg.train.batch_by == "judgement":
        return [[item] for item in items]
    by_prompt: dict[Prompt, list[Item]] = {}
    for item in items:
        by_prompt.setdefault(item.judgement.prompt, []).append(item)
    return list(by_prompt.values())


def items_of_step(step: int, units: list[list[Item]], cfg: RewardConfig) -> list[Item]:
    """The judgements of one optimizer step."""
    return [item for unit in rows_of_step(step, len(units), cfg.train.batch_size, cfg.seed) for item in units[unit]]


def longest(item: Item) -> int:
    """Tokens of the item's longest row."""
    return max(len(answer.tokens) for answer in item.answers)


def train_step(parts: Parts, optimizer: torch.optim.Optimizer, items: list[Item], cfg: RewardConfig, run: Run | None) -> dict[str, float]:
    """One optimizer step; a prompt's answers always share a forward pass."""
    size = cfg.optim.microbatch_size or len(items)
    items = sorted(items, key=longest)                               # rows of like length share a forward pass: less padding, the same sum
    total, right, pairs = 0.0, 0.0, 0.0
    for start in range(0, len(items), size):
        piece = items[start : start + size]
        with computing(cfg.memory, cfg.device):
            loss, counts = loss_of(parts, piece, len(items), cfg)
        if not audits.check_finite(loss):
            tokens = torch.tensor([t for item in piece for a in item.answers for t in a.tokens])
            raise (run.save_bad_batch({"tokens": tokens}, "reward loss is not finite") if run else ValueError("loss is not finite"))
        loss.backward()
        total, right, pairs = total + loss.item(), right + counts["right"], pairs + counts["pairs"]
    grad_norm, *_ = clip_and_step(optimizer, parts.trained, cfg.optim.max_grad_norm)
    return {"train/loss": total, "train/accuracy": right / pairs if pairs else None, "train/grad_norm": grad_norm,
            "train/learning_rate": optimizer.param_groups[0]["lr"]}


@torch.no_grad()
def all_scores(parts: Parts, items: list[Item], cfg: RewardConfig) -> list[list[float]]:
    """Scores of each item's answers."""
    if not items:
        return []
    parts.reward_model.eval()
    flat = iter(read_answers(parts, [a for item in items for a in item.answers], cfg.device).tolist())
    parts.reward_model.train()
    return [[next(flat) for _ in item.answers] for item in items]


def normalize(parts: Parts, cfg: RewardConfig, *, max_items: int = 512) -> float:
    """Shift and scale to mean 0, standard deviation 1 over training answers; the order of answers cannot change.

    Returns: the standard deviation before, which turns a score difference back into log-odds.
    Source: Ziegler et al. 2019; the gain goes into the head, the shift into config.json (`score_shift`).
    """
    flat = torch.tensor([s for row in all_scores(parts, parts.train[:max_items], cfg) for s in row])
    mean, std = flat.mean().item(), max(flat.std(unbiased=False).item(), 1e-6)
    parts.reward_model.rescale_(1 / std, -mean / std)
    parts.scales.rescale_(1 / std, -mean / std)
    return std


@torch.no_grad()
def check_saved(parts: Parts, folder: Path, cfg: RewardConfig) -> None:
    """Audit: the saved folder scores as the model in memory does, head and shift included."""
    reopened = reopen_scored(cfg, parts.reward_model, folder, parts.tokenizer).eval()
    few = (parts.held_out or parts.train)[:4]
    before = torch.tensor([s for row in all_scores(parts, few, cfg) for s in row])
    after = torch.tensor([s for row in all_scores(Parts(reopened, parts.tokenizer, [], [], "", 0), few, cfg) for s in row])
    audits.check_reload(before, after, folder)


def quick_look(parts: Parts, cfg: RewardConfig) -> dict[str, float]:
    """Held-out pair accuracy and AUC of the ratings as they stand, to see when it stops learning and starts to memorise."""
    report = held_out_report(dataclasses.replace(parts, train=[]), cfg, 1.0, all_scores(parts, parts.held_out, cfg))
    found = {"eval/accuracy": report.get("pairs", {}).get("accuracy"), "eval/auc": report.get("labels", {}).get("auc")}
    return {name: value["mean"] for name, value in found.items() if value is not None}


def shown(parts: Parts, item: Item) -> str:
    """A judgement's answers as the model reads them, each under what was said of it."""
    said = item.judgement
    marks = ([f"rank {rank}" for rank in said.ranks] if said.ranks is not None else
             [f"rating {said.rating:g}"] if said.rating is not None else ["good" if said.label else "bad"])
    return "\n".join(f"[{mark}] {marked_text(parts.tokenizer, answer).strip()}" for mark, answer in zip(marks, item.answers, strict=True))


def answers_of(items: list[Item]) -> list[Encoded]:
    """Their answers, each once."""
    return list({id(answer): answer for item in items for answer in item.answers}.values())


def preview(cfg: RewardConfig) -> Preview:
    """What --dry-run shows."""
    started = from_now(cfg.device)
    parts = build(cfg, None)
    model, units = parts.reward_model, batch_units(parts.train, cfg)
    optimizer = optimizer_of(parts, cfg)
    total_steps = cfg.train.steps(len(units), cfg.train.batch_size)
    looks = 1 + (total_steps // cfg.eval.every_steps if cfg.eval.every_steps else 0)
    to_score = looks * len(answers_of(parts.held_out)) + (len(answers_of(parts.train[:512])) if cfg.algo.normalize else 0)
    to_score += len(answers_of(parts.train)) if from_a_store(parts) else 0
    by_length = sorted(answers_of(parts.train), key=lambda answer: -len(answer.tokens))

    def step(i: int) -> None:
        train_step(parts, optimizer, items_of_step(i, units, cfg), cfg, None)

    def tokens_at_once(i: int) -> int:                               # of the last micro-batch, which holds the longest
        items = sorted(items_of_step(i, units, cfg), key=longest)[-(cfg.optim.microbatch_size or len(parts.train)) :]
        return sum(len(answer.tokens) for answer in answers_of(items))

    @torch.no_grad()
    def score(i: int) -> None:
        start = int(i * ROWS_PER_FORWARD / to_score * max(1, len(by_length) - ROWS_PER_FORWARD + 1))
        read_answers(parts, by_length[start : start + ROWS_PER_FORWARD], cfg.device)

    works = {
        "step": Work(total_steps, step, largest=lambda: step(max(range(0, total_steps, 1 + total_steps // 500), key=tokens_at_once))),
        f"scoring of {ROWS_PER_FORWARD}": Work(to_score / ROWS_PER_FORWARD, score),
        "report": Work(1, lambda i: held_out_report(parts, cfg, 1.0, [[0.0] * len(item.answers) for item in parts.held_out]),
                       largest=lambda: None),                        # its baselines learn from all training texts: once is enough
        "checkpoint": Work(1 + (total_steps // cfg.save.every_steps if cfg.save.every_steps else 0),
                           lambda i: write_aside(lambda folder: model.save(folder / "model", parts.tokenizer), optimizer)),
    }
    data = {"layout": parts.layout, "train_rows": len(parts.train), "held_out_rows": len(parts.held_out), "left_out_rows": parts.left_out}
    return describe(cfg, data=data, samples=[shown(parts, item) for item in parts.train[:3]],
                    forecast=forecast(works, started=started, device=cfg.device))
