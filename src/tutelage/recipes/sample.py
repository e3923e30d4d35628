"""Sampling: K answers per prompt at a temperature, with their log-probs and the model's identity."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import Field

from tutelage.base.config import RunConfig, Section
from tutelage.base.errors import DataError
from tutelage.base.files import atomic_write_text, folder_digest
from tutelage.base.progress import progress
from tutelage.base.records import prompt_to_json
from tutelage.base.split import split_sides
from tutelage.models.policy import open_policy, resolve_model
from tutelage.rollout import InProcessEngine, Sampling
from tutelage.text.chat import encode_prompt, stop_tokens
from tutelage.text.readers import input_files, read_prompts, read_sources
from tutelage.text.tokenizer import open_tokenizer
from tutelage.train.run import Run
from tutelage.train.sections import DataSection


class ModelSection(Section):
    """Who answers."""

    policy: str
    """Model folder or run directory."""


class RolloutSection(Section):
    """How answers are drawn."""

    answers_per_prompt: int = Field(2, ge=1)
    """K, independent samples."""
    temperature: float = Field(1.0, ge=0)
    """Logits are divided by it; 0 takes the likeliest token."""
    top_k: int = Field(0, ge=0)
    """Keep the k likeliest tokens; 0 keeps all."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Keep the smallest set of tokens with this much probability."""
    max_tokens: int = Field(64, ge=1)
    """Longest response, tokens."""
    batch_size: int = Field(256, ge=1)
    """Sequences decoded side by side."""


class SampleConfig(RunConfig):
    """K answers per prompt, written as one JSON line per prompt in the judgement layout, ready for labelers."""

    model: ModelSection
    data: DataSection
    rollout: RolloutSection = RolloutSection()
    side: Literal["train", "eval", "all"] = "all"
    """Which side of the split to answer."""


def sample_answers(cfg: SampleConfig) -> dict[str, Any]:
    """Write answers.jsonl: {"prompt", "responses": [{"text", "model", "sampling", "logprobs"}]}. Returns path, file and counts."""
    source = resolve_model(cfg.model.policy)
    with Run.open(cfg, "sample", inputs={"policy": source, "data": input_files(cfg.data.each(), cfg.data.held_out)}) as run:
        if done := run.finished():
            return done
        tokenizer = open_tokenizer(source)
        engine = InProcessEngine(
            open_policy(source, device=cfg.device, tokenizer=tokenizer), tokenizer.pad_token_id, max_batch=cfg.rollout.batch_size
        )
        identity = f"{cfg.model.policy}@{folder_digest(source)[:12]}"
        prompts = read_side(cfg)
        sampling = Sampling(temperature=cfg.rollout.temperature, top_k=cfg.rollout.top_k, top_p=cfg.rollout.top_p,
                            max_tokens=cfg.rollout.max_tokens, stop_tokens=stop_tokens(tokenizer), seed=cfg.seed)
        described = {
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": cfg.seed,
        }
        k, lines, truncated = cfg.rollout.answers_per_prompt, [], 0
        per_chunk = max(1, cfg.rollout.batch_size // k)
        with progress(total=len(prompts), label="sample", unit="prompt") as bar:
            for start in range(0, len(prompts), per_chunk):
                chunk = prompts[start : start + per_chunk]
                tokens = [encode_prompt(tokenizer, p) for p in chunk for _ in range(k)]
                completions = engine.generate(tokens, sampling, row_ids=list(range(start * k, start * k + len(tokens))))
                truncated += sum(c.finish_reason == "length" for c in completions)
                for i, prompt in enumerate(chunk):
                    responses = [
                        {
                            "text": str(tokenizer.decode(list(c.tokens), skip_special_tokens=True)).strip(),
                            "model": identity,
                            "sampling": described,
                            "logprobs": [round(x, 5) for x in c.logprobs],
                        }
                        for c in completions[i * k : (i + 1) * k]
                    ]
                    lines.append(json.dumps({"prompt": prompt_to_json(prompt), "responses": responses}, ensure_ascii=False))
                bar.update(len(chunk))
        atomic_write_text(run.folder / "answers.jsonl", "\n".join(lines) + "\n")
        return run.finish({"file": str(run.folder / "answers.jsonl"), "prompts": len(prompts), "answers": len(prompts) * k,
                           "truncated_frac": truncated / max(1, len(prompts) * k), "model": identity})


def read_side(cfg: SampleConfig) -> list[Any]:
    """The prompts of the chosen side. Raises: DataError when there are none."""
    data = cfg.data
    found = read_sources(read_prompts, data.each()).rows
    kept = [p for p, side in zip(found, split_sides(found, **data.side_options()), strict=True) if cfg.side in ("all", side)]
    if not kept:
        raise DataError(f"none of the {len(found)} prompts of {', '.join(data.all_files())} is on the {cfg.side} side of the split",
                        hint="choose another side, or another data.eval_frac")
    return kept


def preview(cfg: SampleConfig) -> dict[str, Any]:
    """What --dry-run shows."""
    from tutelage.base.config import dump_config
    from tutelage.base.records import prompt_text

    prompts = read_side(cfg)
    return {"config": dump_config(cfg), "data": {"prompts": len(prompts), "samples": [prompt_text(p) for p in prompts[:3]]},
            "devices": {"device": cfg.device}, "forecast": {"answers": len(prompts) * cfg.rollout.answers_per_prompt}}
