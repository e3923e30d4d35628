"""Supervised fine-tuning on demonstrations: loss on responses only, the best held-out checkpoint wins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from tutelage.algos.losses import nll_loss
from tutelage.base.config import RunConfig, Section
from tutelage.base.errors import DataError
from tutelage.base.log import get_logger
from tutelage.base.records import Demonstration
from tutelage.base.split import split_sides
from tutelage.models.batches import TokenBatch, pad_tokens
from tutelage.models.policy import context_length, require_context, resolve_model, save_policy, token_logprobs
from tutelage.recipes.sft_mix import MixSection, Trial, measure, read_tasks, rows_per_epoch, rows_to_train, tell, trials
from tutelage.text.chat import Encoded, encode_example, marked_text
from tutelage.text.readers import input_files
from tutelage.text.tokenizer import open_tokenizer
from tutelage.train import audits
from tutelage.train.checkpoint import TrainState
from tutelage.train.forecast import Work, forecast, from_now
from tutelage.train.optim import build_optimizer, lr_factor, set_lr
from tutelage.train.precision import computing
from tutelage.train.preview import Preview, describe, write_aside
from tutelage.train.run import Run
from tutelage.train.sections import Budget, Epochs, LoraSection, MemorySection, OptimSection, SaveSection, TrackSection
from tutelage.train.step import language_model_step
from tutelage.train.trainees import audit_tolerance, open_policy_to_train, reopen_policy, weights_name

log = get_logger()


class ModelSection(Section):
    """Where to start."""

    policy: str
    """Model folder or run directory."""
    context_tokens: int | None = Field(None, ge=8)
    """Longest prompt + response; longer rows are left out and counted. None takes the model's own limit."""


class TrainSection(Budget):
    """Batches and length."""

    epochs: Epochs = 4.0
    batch_size: int = Field(32, ge=1)
    """Demonstrations per optimizer step."""
    train_on: Literal["response", "assistant_turns"] = "response"
    """Train the last response, or every assistant turn of a conversation that is not masked."""


class EvalSection(Section):
    """What is measured while it trains."""

    every_steps: int = Field(50, ge=1)
    """Steps between two measurements of the held-out loss."""
    patience: int | None = Field(3, ge=1)
    """Stop after so many measurements without a new best; None trains to the end. The best checkpoint is kept either way."""
    max_rows: int = Field(256, ge=1)
    """Held-out demonstrations per measurement; rows of a held-out task that are measured before and after."""


class SFTConfig(RunConfig):
    """Supervised fine-tuning of a base model on demonstrations."""

    model: ModelSection
    data: MixSection
    train: TrainSection = TrainSection()
    optim: OptimSection = OptimSection(learning_rate=5e-4)
    lora: LoraSection = LoraSection()
    memory: MemorySection = MemorySection()
    eval: EvalSection = EvalSection()
    save: SaveSection = SaveSection()
    track: TrackSection = TrackSection()


@dataclass
class Parts:
    """What an SFT step needs."""

    policy: Any
    tokenizer: Any
    train: list[Encoded]
    held_out: list[Encoded]
    layout: str
    too_long: int
    sizes: list[int]
    """Training rows of each task; `train` holds them one task after the other."""
    unseen: dict[str, list[Trial]]
    """Rows of the tasks that are never trained."""


def train_sft(cfg: SFTConfig) -> dict[str, Any]:
    """Fine-tune, keep the checkpoint with the lowest held-out loss. Returns path, model, best loss and step."""
    inputs: dict[str, Any] = {"policy": resolve_model(cfg.model.policy), "data": input_files(cfg.data.each(), cfg.data.held_out)}
    with Run.open(cfg, "sft", inputs=inputs) as run:
        if done := run.finished():
            return done
        parts, weights = build(cfg, run), weights_name(cfg, "policy")
        policy = parts.policy
        optimizer = build_optimizer([(policy, cfg.optim.learning_rate)], cfg.optim, kind=cfg.memory.optimizer)
        total_steps = cfg.train.steps(rows_per_epoch(parts.sizes, cfg.data.cap), cfg.train.batch_size)
        state = TrainState({"policy": optimizer}, values={"best_loss": None, "best_step": 0, "bad_evals": 0, "unseen": None})
        run.restore(state)
        if state.values.get("unseen") is None:
            state.values["unseen"] = measure_unseen(policy, parts, cfg)
        run.best_step, step = state.values["best_step"], run.start_step - 1
        audits.dump_masks(run.folder / "masks.txt", [(marked_text(parts.tokenizer, e), sum(e.response_mask)) for e in parts.train[:8]])

        def write_models(folder: Path) -> None:
            save_policy(policy, parts.tokenizer, folder / weights)

        for step in run.steps(total_steps, write_models=write_models, state=state):
            batch = batch_of(parts, step_rows(step, parts, cfg), cfg.device)
            set_lr(optimizer, lr_factor(step, total_steps, cfg.optim))
            if step == run.start_step:
                few = batch.select(slice(0, 4))
                audits.check_microbatch_gradients(
                    lambda rows, few=few: loss_of(policy, few.select(rows), few.response_mask.sum()), [policy], len(few),  # type: ignore[misc]
                    tolerance=audit_tolerance(cfg, whole=not cfg.lora.rank)
                )
            stats = train_step(policy, optimizer, batch, cfg, run)
            last = step + 1 == total_steps
            measured = parts.held_out and ((step + 1) % cfg.eval.every_steps == 0 or last)
            if measured:
                stats["eval/loss"] = held_out_loss(policy, parts, cfg)
            run.log(step, stats)                                     # before a checkpoint says that this step is done
            if measured and (state.values["best_loss"] is None or stats["eval/loss"] < state.values["best_loss"]):
                state.values.update(best_loss=stats["eval/loss"], best_step=step + 1, bad_evals=0)
                run.best_step = step + 1
                run.save(step + 1, write_models, state)
            elif measured:
                state.values["bad_evals"] += 1
            if cfg.eval.patience and state.values["bad_evals"] >= cfg.eval.patience:
                log.info("held-out loss has not fallen for %d measurements; stopping at step %d", cfg.eval.patience, step + 1)
                break
        best = run.mark_latest(state.values["best_step"]) if parts.held_out else run.save(total_steps, write_models, state)
        if not parts.held_out or state.values["best_step"] == step + 1:
            check_saved(policy, parts, best / weights, cfg)
        result = {"model": str(best / weights), "best_loss": state.values["best_loss"], "best_step": state.values["best_step"],
                  "steps": step + 1, "rows": len(parts.train)}
        if parts.unseen:
            is_best = not parts.held_out or state.values["best_step"] == step + 1
            after = measure_unseen(policy if is_best else reopen_policy(cfg, policy, best / weights, parts.tokenizer), parts, cfg)
            result["tasks"] = {name: {"before": state.values["unseen"][name], "after": after[name]} for name in after}
        return run.finish(result)


def build(cfg: SFTConfig, run: Run | None) -> Parts:
    """Open the model, read, split and encode the demonstrations."""
    source = resolve_model(cfg.model.policy)
    if run:
        source = Path(run.weights_dir(weights_name(cfg, "policy"), source))
    tokenizer = open_tokenizer(source)
    policy = open_policy_to_train(cfg, source, tokenizer)
    policy.train()
    data = cfg.data
    tasks, layout = read_tasks(data, cfg.seed)
    require_context(policy, cfg.model.context_tokens, source, "model.context_tokens")
    limit = cfg.model.context_tokens or context_length(policy) or 10**9
    sides: dict[str, list[Encoded]] = {"train": [], "eval": []}
    too_long, sizes, hidden = 0, [], data.held_out_tasks()
    trained = [task for task in tasks if task.name not in hidden]
    sides_of = iter(split_sides([key for task in trained for key in task.keys], **data.side_options()))
    for task in trained:
        before = len(sides["train"])
        for row, side in zip(task.rows, sides_of, strict=False):     # the rows of the next task stay in the iterator
            assert isinstance(row, Demonstration)
            if side is None:
                continue
            encoded = encode_example(tokenizer, row.prompt, row.response, train_on=cfg.train.train_on, limit=limit)
            if len(encoded.tokens) > limit:
                too_long += 1
            else:
                sides[side].append(encoded)
        sizes.append(len(sides["train"]) - before)
    if too_long:
        log.warning("%d of %d demonstrations are longer than %d tokens and were left out", too_long,
                    sum(len(task.rows) for task in trained), limit)
    if not sides["train"]:
        names = ", ".join(data.all_files())
        raise DataError(f"no demonstration of {names} fits into {limit} tokens" if too_long else f"no training demonstration in {names}",
                        hint="raise model.context_tokens, or shorten the rows")
    if trained[0].name:
        tell([task.name for task in trained], sizes, data.cap)
    unseen = {task.name: trials(tokenizer, task, limit, cfg.eval.max_rows, cfg.seed) for task in tasks if task.name in hidden}
    for name in [name for name, rows in unseen.items() if not rows]:
        raise DataError(f"no row of the held-out task {name} fits into {limit} tokens",
                        hint="raise model.context_tokens, or leave the task out")
    return Parts(policy, tokenizer, sides["train"], sides["eval"], layout, too_long, sizes, unseen)


def step_rows(step: int, parts: Parts, cfg: SFTConfig) -> Any:
    """Training rows of a step."""
    return rows_to_train(step, parts.sizes, cfg.data.cap, cfg.train.batch_size, cfg.seed)


def measure_unseen(policy: Any, parts: Parts, cfg: SFTConfig) -> dict[str, dict[str, float]]:
    """Every held-out task with these weights."""
    return measure(policy, parts.tokenizer.pad_token_id, parts.unseen, batch_size=cfg.optim.microbatch_size or cfg.train.batch_size,
                   device=cfg.device)


def batch_of(parts: Parts, rows: Any, device: str, *, side: str = "train") -> TokenBatch:
    examples = getattr(parts, side)
    return pad_tokens([(examples[i].tokens, examples[i].response_mask) for i in rows], parts.tokenizer.pad_token_id, device)


def loss_of(policy: Any, batch: TokenBatch, num_tokens: Tensor | int) -> Tensor:
    """Negative log-likelihood of the response tokens in nats, over num_tokens."""
    logprobs = token_logprobs(policy, batch.tokens, batch.attention_mask)                                # (B, T)
    return nll_loss(logprobs, batch.response_mask, num_tokens=num_tokens)


def train_step(policy: Any, optimizer: torch.optim.Optimizer, batch: TokenBatch, cfg: SFTConfig, run: Run | None) -> dict[str, float]:
    """One optimizer step over the whole batch. Returns its metrics."""
    return language_model_step(policy, optimizer, batch, batch.response_mask.sum(), loss_of, cfg.optim, run,
                               computing(cfg.memory, cfg.device))


@torch.no_grad()
def held_out_loss(policy: Any, parts: Parts, cfg: SFTConfig) -> float:
    """Nats per response token over the first held-out demonstrations."""
    policy.eval()
    rows = range(min(len(parts.held_out), cfg.eval.max_rows))
    nats = num_tokens = 0.0
    for start in rows[:: cfg.train.batch_size]:
        batch = batch_of(parts, rows[start : start + cfg.train.batch_size], cfg.device, side="held_out")
        nats += loss_of(policy, batch, 1).item()
        num_tokens += batch.response_mask.sum().item()
    policy.train()
    return nats / num_tokens


@torch.no_grad()
def check_saved(policy: Any, parts: Parts, folder: Path, cfg: SFTConfig) -> None:
    """Audit: the saved folder gives the log-probs that are in memory."""
    batch = batch_of(parts, range(min(4, len(parts.train))), cfg.device)
    policy.eval()
    reopened = reopen_policy(cfg, policy, folder, parts.tokenizer).eval()
    before, after = (
        torch.where(batch.response_mask, token_logprobs(m, batch.tokens, batch.attention_mask), 0.0) for m in (policy, reopened)
    )
    audits.check_reload(before, after, folder)


def preview(cfg: SFTConfig) -> Preview:
    """What --dry-run shows."""
    started = from_now(cfg.device)
    parts = build(cfg, None)
    optimizer = build_optimizer([(parts.policy, cfg.optim.learning_rate)], cfg.optim, kind=cfg.memory.optimizer)
    total_steps, size = cfg.train.steps(rows_per_epoch(parts.sizes, cfg.data.cap), cfg.train.batch_size), cfg.train.batch_size
    evaluations = -(-total_steps // cfg.eval.every_steps) if parts.held_out else 0
    by_length = sorted(range(len(parts.train)), key=lambda i: -len(parts.train[i].tokens))

    def step(rows: Any) -> None:
        train_step(parts.policy, optimizer, batch_of(parts, rows, cfg.device), cfg, None)

    works = {
        "step": Work(total_steps, lambda i: step(step_rows(i, parts, cfg)),
                     largest=lambda: step([by_length[0], *by_length[-size + 1 :]][:size])),      # one long row pads all the others
        "evaluation": Work(evaluations, lambda i: held_out_loss(parts.policy, parts, cfg)),
        "held-out tasks": Work(2 if parts.unseen else 0, lambda i: measure_unseen(parts.policy, parts, cfg)),
        "checkpoint": Work(max(1, evaluations) + (total_steps // cfg.save.every_steps if cfg.save.every_steps else 0),
                           lambda i: write_aside(lambda folder: save_policy(parts.policy, parts.tokenizer, folder / "model"), optimizer)),
    }
    data = {"layout": parts.layout, "train_rows": len(parts.train), "held_out_rows": len(parts.held_out), "too_long_rows": parts.too_long,
            "held_out_tasks": {name: len(rows) for name, rows in parts.unseen.items()}}
    return describe(cfg, data=data, samples=[marked_text(parts.tokenizer, e) for e in parts.train[:3]],
                    forecast=forecast(works, started=started, device=cfg.device))
