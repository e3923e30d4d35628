"""Evaluation: models side by side on held-out prompts, the reward model on fresh samples, the frontier, the report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.base.errors import ArtifactError, DataError
from tutelage.base.log import get_logger
from tutelage.base.progress import progress
from tutelage.base.records import prompt_text
from tutelage.evals.report import write_report
from tutelage.evals.words import WordScorer, fit_labels
from tutelage.lineage.ledger import ancestors, code_revision
from tutelage.models.heads import ScoredModel
from tutelage.models.policy import open_policy, resolve_model
from tutelage.recipes.evaluate_measures import (
    Answers,
    EvaluateConfig,
    Gold,
    Judges,
    Preference,
    answer,
    bits_per_byte,
    dialogue_likelihood,
    frontier,
    held_out_prompts,
    reward_summary,
    samples,
    stage_seconds,
    summary,
    trained_stages,
)
from tutelage.text.readers import expand_files, input_files, read_judgements, read_sources
from tutelage.text.tokenizer import open_tokenizer
from tutelage.train.run import Run, checkpoints_of, read_metrics

log = get_logger()

__all__ = ["EvaluateConfig", "evaluate", "preview"]

def evaluate(cfg: EvaluateConfig, *, gold: Gold | None = None, preference: Preference | None = None) -> dict[str, Any]:
    """Compare the models and write report/index.html and report/report.json.

    gold(prompt, answer): the true preference where it is known (the embedded world). preference(prompt, a, b): (P(a is preferred), P(b
    is)) by the people who labelled, the rest being ties, for the Bayes ceiling.
    """
    entries = {name: resolve_model(e.path) for name, e in cfg.models.items()}
    sections = {"data": cfg.data, "dialogues": cfg.dialogues, "second_opinion": cfg.second_opinion}
    files = {"text_files": cfg.text_files, "demonstrations": cfg.demonstrations}
    inputs: dict[str, Any] = {**entries, "reward": resolve_model(cfg.reward)}
    inputs |= {name: input_files(section.each(), section.held_out) for name, section in sections.items() if section}
    inputs |= {name: expand_files(named) for name, named in files.items() if named}
    if cfg.frontier.run and not checkpoints_of(Path(cfg.frontier.run)):
        raise ArtifactError(f"frontier.run: {cfg.frontier.run} holds no checkpoints", hint="name the run directory of a PPO run")
    with Run.open(cfg, "evaluate", inputs=inputs) as run:
        if done := run.finished():
            return done
        reward_folder = resolve_model(cfg.reward)
        reward_tokenizer = open_tokenizer(reward_folder)
        judges = Judges(ScoredModel.open(reward_folder, device=cfg.device, tokenizer=reward_tokenizer), reward_tokenizer, gold, preference,
                        word_judge(cfg))
        prompts = held_out_prompts(cfg)
        reference = "sft" if "sft" in cfg.models else next(iter(cfg.models))
        stages = trained_stages(cfg, reference)
        ref_policy = open_policy(entries[reference], device=cfg.device)
        drawn = {"frontier.run": resolve_model(cfg.frontier.run)} if cfg.frontier.run else {}
        alike = one_vocabulary(entries | drawn, reference)
        answers: dict[str, Answers] = {}
        bits: dict[str, float | None] = {}
        fluency: dict[str, dict[str, Any]] = {}
        with progress(total=len(cfg.models), label="evaluate", unit="model") as bar:
            for name, entry in cfg.models.items():
                answers[name] = answer(cfg, entry, entries[name], prompts, ref_policy if name in alike else None, judges)
                bits[name] = bits_per_byte(cfg, entries[name])
                fluency[name] = dialogue_likelihood(cfg, entries[name])
                bar.update()
        report: dict[str, Any] = {
            "title": cfg.title,
            "models": {name: summary(a, answers[reference], str(entries[name]), bits[name], prompts) | fluency[name]
                       for name, a in answers.items()},
            "reward_model": reward_summary(cfg, reward_folder, answers[reference], prompts, judges, entries[reference], ref_policy),
            "frontier": frontier(cfg, prompts, ref_policy, judges) if "frontier.run" in alike else [],
            "curves": {stage: read_metrics(folder) for stage, folder in stages.items()},
            "seconds": {stage: seconds for stage, folder in stages.items() if (seconds := stage_seconds(folder)) is not None},
            "samples": samples(cfg, prompts, answers),
            "distributions": {"gold": {name: a.gold for name, a in answers.items() if a.gold}},
            "provenance": {"ancestors": ancestors(run.folder), "seed": cfg.seed, "code": code_revision()},
        }
        write_report(run.folder / "report", report)
        return run.finish(
            {
                "report": str(run.folder / "report" / "index.html"),
                "models": {n: {k: m[k] for k in ("gold", "proxy", "kl", "length", "win_rate_vs_sft")} for n, m in report["models"].items()},
            }
        )


def one_vocabulary(entries: Mapping[str, Path], reference: str) -> set[str]:
    """The models whose token ids mean what the reference's do; of the others there is no KL to it, and the log says so."""
    words = open_tokenizer(entries[reference]).get_vocab()
    alike = {name for name, folder in entries.items() if open_tokenizer(folder).get_vocab() == words}
    if others := [name for name in entries if name not in alike]:
        log.warning("no KL of %s: the token ids are not those of %s", ", ".join(others), reference)
    return alike


def word_judge(cfg: EvaluateConfig) -> WordScorer | None:
    """A bag of words that tells good answers from bad, learnt from `second_opinion`; None when not asked for.

    Raises: DataError when those ratings are all alike.
    """
    if cfg.second_opinion is None:
        return None
    rated = [j for j in read_sources(read_judgements, cfg.second_opinion.each()).rows if j.label is not None]
    labels = np.array([float(bool(j.label)) for j in rated])
    if len(set(labels)) < 2:
        raise DataError(f"second_opinion: the {len(rated)} ratings of {', '.join(cfg.second_opinion.all_files())} are not of both kinds",
                        hint="give single answers with a label, good ones and bad ones")
    return fit_labels([j.responses[0].text for j in rated], labels)


def preview(cfg: EvaluateConfig) -> dict[str, Any]:
    """What --dry-run shows."""
    from tutelage.base.config import dump_config

    prompts = held_out_prompts(cfg)
    return {"config": dump_config(cfg), "data": {"held_out_prompts": len(prompts), "samples": [prompt_text(p) for p in prompts[:3]]},
            "devices": {"device": cfg.device}, "forecast": {"answers": len(prompts) * sum(e.best_of for e in cfg.models.values())}}
