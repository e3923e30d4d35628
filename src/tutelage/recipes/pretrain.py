"""Pretraining: next-token prediction on plain text, from a size preset or an existing model."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from tutelage.algos.losses import nll_loss
from tutelage.base.config import RunConfig, Section
from tutelage.base.errors import DataError
from tutelage.base.log import get_logger
from tutelage.base.records import Prompt, prompt_text
from tutelage.base.split import split_sides
from tutelage.models import new_policy, open_policy, resolve_model, save_policy
from tutelage.models.batches import PackedBatch
from tutelage.models.policy import packed_logprobs, require_context
from tutelage.rollout import InProcessEngine, Sampling
from tutelage.text.chat import Encoded, encode_document, encode_prompt, encode_texts, marked_text
from tutelage.text.packing import pack_texts
from tutelage.text.readers import expand_files, input_files, read_documents, read_sources
from tutelage.text.tokenizer import open_tokenizer, train_tokenizer
from tutelage.train import audits
from tutelage.train.batches import rows_of_step
from tutelage.train.checkpoint import TrainState
from tutelage.train.forecast import Work, forecast, from_now
from tutelage.train.optim import build_optimizer, lr_factor, set_lr
from tutelage.train.precision import computing
from tutelage.train.preview import Preview, describe, write_aside
from tutelage.train.run import Run
from tutelage.train.sections import Budget, DataSection, Epochs, MemorySection, OptimSection, SaveSection, TrackSection
from tutelage.train.step import language_model_step
from tutelage.train.trainees import economise

log = get_logger()


class ModelSection(Section):
    """A new model from a preset, or an existing one to go on with."""

    preset: str = "nano"
    """Size: nano, micro, mini or small (docs/pretrain.md lists them)."""
    vocab_size: int = Field(1280, ge=300)
    """Tokens in the vocabulary learnt from the data."""
    context_tokens: int = Field(256, ge=16)
    """Longest sequence the model can read."""
    tokenizer: str | None = None
    """Folder of an existing tokenizer; None learns one from the training text."""
    init: str | None = None
    """Model folder to continue from; preset, vocab_size and tokenizer are then taken from it."""


class TrainSection(Budget):
    """Batches and length."""

    epochs: Epochs = 1.0
    batch_size: int = Field(32, ge=1)
    """Packed rows per optimizer step, each of context_tokens."""


class EvalSection(Section):
    """What is measured while it trains."""

    every_steps: int = Field(50, ge=1)
    """Steps between two measurements."""
    max_rows: int = Field(64, ge=1)
    """Held-out packed rows per measurement."""
    sample_prompts: list[str] = ["The ", "To "]
    """Texts to continue and print at each measurement."""
    sample_tokens: int = Field(24, ge=1)
    """Length of those continuations, tokens."""


class PretrainConfig(RunConfig):
    """Next-token prediction on plain text; samples packed side by side never see each other."""

    model: ModelSection = ModelSection()
    data: DataSection
    render: Literal["lines", "chat"] = "lines"
    """How a conversation becomes text: `role: content` lines, or the chat template with its control tokens."""
    train: TrainSection = TrainSection()
    optim: OptimSection = OptimSection()
    memory: MemorySection = MemorySection()
    eval: EvalSection = EvalSection()
    save: SaveSection = SaveSection()
    track: TrackSection = TrackSection()


@dataclass
class Parts:
    """What a pretraining step needs."""

    policy: Any
    tokenizer: Any
    train: PackedBatch
    held_out: PackedBatch
    held_out_bytes: int
    files: list[Path]


def pretrain(cfg: PretrainConfig) -> dict[str, Any]:
    """Train a base model. Returns the run's result: path, held-out bits per byte."""
    inputs: dict[str, Any] = {"data": input_files(cfg.data.each(), cfg.data.held_out)}
    if cfg.model.init:
        inputs["init"] = resolve_model(cfg.model.init)
    elif cfg.model.tokenizer:
        inputs["tokenizer"] = cfg.model.tokenizer
    with Run.open(cfg, "pretrain", inputs=inputs) as run:
        if done := run.finished():
            return done
        parts = build(cfg, run)
        policy = parts.policy
        optimizer = build_optimizer([(policy, cfg.optim.learning_rate)], cfg.optim, kind=cfg.memory.optimizer)
        total_steps = cfg.train.steps(len(parts.train), cfg.train.batch_size)
        state = TrainState({"policy": optimizer}, values={"bits_per_byte": None})
        run.restore(state)

        def write_models(folder: Path) -> None:
            save_policy(policy, parts.tokenizer, folder / "model")

        for step in run.steps(total_steps, write_models=write_models, state=state):
            batch = parts.train.select(rows_of_step(step, len(parts.train), cfg.train.batch_size, cfg.seed))
            set_lr(optimizer, lr_factor(step, total_steps, cfg.optim))
            if step == run.start_step:
                check_split(policy, batch)
            stats: dict[str, Any] = train_step(policy, optimizer, batch, cfg, run)
            if step % cfg.eval.every_steps == 0 or step + 1 == total_steps:
                stats["eval/bits_per_byte"] = state.values["bits_per_byte"] = bits_per_byte(policy, parts, cfg)
                bits = "" if stats["eval/bits_per_byte"] is None else f"{stats['eval/bits_per_byte']:.3f} bits/byte | "
                log.info("step %d: %s%s", step, bits, " | ".join(continuations(policy, parts.tokenizer, cfg)))
            run.log(step, stats)

        return run.finish(
            {
                "model": str(run.save(total_steps, write_models, state) / "model"),
                "bits_per_byte": state.values["bits_per_byte"],
                "parameters": sum(p.numel() for p in policy.parameters()),
                "steps": total_steps,
            }
        )


def build(cfg: PretrainConfig, run: Run | None) -> Parts:
    """Read and split the text, learn or open the tokenizer, pack, and make the model."""
    files = expand_files(cfg.data.all_files())
    sides: dict[str, list[Prompt]] = {"train": [], "eval": []}
    documents = read_sources(read_documents, cfg.data.each()).rows
    for document, side in zip(documents, split_sides(documents, **cfg.data.split_options(), keep_near=True), strict=True):
        sides[str(side)].append(document if cfg.render == "chat" else prompt_text(document))
    if not sides["train"]:
        raise DataError(
            f"no training text in {', '.join(cfg.data.all_files())} ({len(sides['eval'])} texts, all held out)", hint="lower data.eval_frac"
        )
    restart = run.weights_dir("model", "") if run else ""
    source = restart or (resolve_model(cfg.model.init) if cfg.model.init else None)
    if source is None and cfg.model.tokenizer is None:
        place: AbstractContextManager[str] = nullcontext(str(run.folder)) if run else TemporaryDirectory(prefix="tutelage-preview-")
        with place as folder:
            learnt = train_tokenizer([prompt_text(document) for document in sides["train"]], vocab_size=cfg.model.vocab_size,
                                     out_dir=Path(folder) / "tokenizer")
            tokenizer = open_tokenizer(learnt)
    else:
        tokenizer = open_tokenizer(source or str(cfg.model.tokenizer))
    if source is None:
        policy: Any = new_policy(cfg.model.preset, tokenizer, context_tokens=cfg.model.context_tokens, seed=cfg.seed)
    else:
        policy = open_policy(source, device=cfg.device, tokenizer=tokenizer)
        require_context(policy, cfg.model.context_tokens, source, "model.context_tokens")
    economise(cfg, policy.to(cfg.device)).train()

    def pack(side: list[Prompt]) -> PackedBatch:
        texts = [d for d in side if isinstance(d, str)]
        tokens = encode_texts(tokenizer, texts) + [encode_document(tokenizer, d) for d in side if not isinstance(d, str)]
        return PackedBatch.stack(pack_texts(tokens, cfg.model.context_tokens, pad_token_id=tokenizer.pad_token_id), cfg.device)

    held_out = pack(sides["eval"])
    return Parts(policy, tokenizer, pack(sides["train"]), held_out, sum(num_bytes(d) for d in sides["eval"]), files)


def num_bytes(document: Prompt) -> int:
    """UTF-8 bytes of a text, or of what the messages of a conversation say."""
    return len(document.encode()) if isinstance(document, str) else sum(len(m.content.encode()) for m in document)


def loss_of(policy: Any, batch: PackedBatch, num_tokens: Tensor | int) -> Tensor:
    """Mean negative log-likelihood in nats per token over num_tokens; segments isolated by their position ids."""
    return nll_loss(packed_logprobs(policy, batch), batch.trained_mask, num_tokens=num_tokens)


def train_step(policy: Any, optimizer: torch.optim.Optimizer, batch: PackedBatch, cfg: PretrainConfig, run: Run | None) -> dict[str, float]:
    """One optimizer step over the whole batch. Returns its metrics."""
    return language_model_step(policy, optimizer, batch, batch.trained_mask.sum(), loss_of, cfg.optim, run,
                               computing(cfg.memory, cfg.device))


def check_split(policy: Any, batch: PackedBatch) -> None:
    """Audit: the gradient of four rows equals that of its two halves, and packed texts do not see each other."""
    audits.check_packing(partial(packed_logprobs, policy), batch)
    few = batch.select(slice(0, 4))
    audits.check_microbatch_gradients(lambda rows: loss_of(policy, few.select(rows), few.trained_mask.sum()), [policy], len(few))


@torch.no_grad()
def bits_per_byte(policy: Any, parts: Parts, cfg: PretrainConfig) -> float | None:
    """Negative log2-likelihood of the held-out text over its UTF-8 bytes (EOS included in the first, not in the second)."""
    if not len(parts.held_out):
        return None
    policy.eval()
    rows = range(min(len(parts.held_out), cfg.eval.max_rows))
    nats = num_tokens = 0.0
    for start in rows[:: cfg.train.batch_size]:
        batch = parts.held_out.select(slice(start, min(start + cfg.train.batch_size, len(rows))))
        nats += loss_of(policy, batch, 1).item()
        num_tokens += batch.trained_mask.sum().item()
    policy.train()
    bytes_per_token = parts.held_out_bytes / max(1, int(parts.held_out.trained_mask.sum()))
    return nats / max(1.0, num_tokens) / math.log(2) / bytes_per_token


def continuations(policy: Any, tokenizer: Any, cfg: PretrainConfig) -> list[str]:
    """Greedy-free samples at temperature 0.8, for a person to watch the model learn."""
    policy.eval()
    engine = InProcessEngine(policy, tokenizer.pad_token_id)
    prompts = [encode_prompt(tokenizer, p) for p in cfg.eval.sample_prompts]
    sampling = Sampling(temperature=0.8, max_tokens=cfg.eval.sample_tokens, stop_tokens=(tokenizer.eos_token_id,), seed=cfg.seed)
    texts = [
        p + tokenizer.decode(c.tokens, skip_special_tokens=True)
        for p, c in zip(cfg.eval.sample_prompts, engine.generate(prompts, sampling), strict=True)
    ]
    policy.train()
    return [" ".join(t.split()) for t in texts]


def preview(cfg: PretrainConfig) -> Preview:
    """What --dry-run shows: data as read, three packed rows, and a forecast from real steps on a throw-away model."""
    started = from_now(cfg.device)
    parts = build(cfg, None)
    policy, optimizer = parts.policy, build_optimizer([(parts.policy, cfg.optim.learning_rate)], cfg.optim, kind=cfg.memory.optimizer)
    total_steps, size = cfg.train.steps(len(parts.train), cfg.train.batch_size), cfg.train.batch_size
    samples = []
    for batch in (parts.train.select(slice(i, i + 1)) for i in range(min(3, len(parts.train)))):
        samples.append(marked_text(parts.tokenizer, Encoded(batch.tokens[0].tolist(), batch.trained_mask[0].tolist()))[:400])

    def step(i: int) -> None:
        train_step(policy, optimizer, parts.train.select(rows_of_step(i, len(parts.train), size, cfg.seed)), cfg, None)

    works = {
        "step": Work(total_steps, step),
        "evaluation": Work(1 + -(-total_steps // cfg.eval.every_steps),
                           lambda i: (bits_per_byte(policy, parts, cfg), continuations(policy, parts.tokenizer, cfg))),
        "checkpoint": Work(1 + (total_steps // cfg.save.every_steps if cfg.save.every_steps else 0),
                           lambda i: write_aside(lambda folder: save_policy(policy, parts.tokenizer, folder / "model"), optimizer)),
    }
    data = {"layout": "text", "files": [str(f) for f in parts.files], "train_rows": len(parts.train), "held_out_rows": len(parts.held_out)}
    return describe(cfg, data=data, samples=samples, forecast=forecast(works, started=started, device=cfg.device))
