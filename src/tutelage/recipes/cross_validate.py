"""`tutelage evaluate --cv`: reward models judged on prompts they never saw, every prompt once; shipped recipes, fold by fold."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from tutelage.base.config import RunConfig
from tutelage.base.errors import ConfigError, DataError
from tutelage.base.files import atomic_write_text
from tutelage.base.log import get_logger
from tutelage.base.stats import Floats
from tutelage.evals.folds import Pairs, fold_report, guesses
from tutelage.evals.report import strict
from tutelage.recipes.pipeline import (
    PipelineConfig,
    PipelineSection,
    Plans,
    StageSection,
    check_data,
    check_trackers,
    fill,
    plan,
    run_stages,
    standard_verbs,
)
from tutelage.text.readers import read_judgements, read_sources
from tutelage.text.split import deal_folds, split_key, write_keys
from tutelage.train.sections import DataSection, Names

log = get_logger()

HELD_OUT = "held_out.txt"


class CrossValidationConfig(RunConfig):
    """Reward models over folds of prompts, beside guesses from length and words on the same folds."""

    data: PipelineSection = PipelineSection()
    judgements: DataSection
    """Pairs to deal into folds, by prompt as split_by has it; eval_frac does not count."""
    folds: int = Field(5, ge=2)
    """Folds of nearly equal size; each is held out once. split_seed deals them."""
    score: Names = Field(min_length=1)
    """Stages whose reward models are judged."""
    members: int = Field(1, ge=1)
    """Reward models of each of those in each fold, alike but for the seed; their margins are averaged."""
    before: dict[str, StageSection] = {}
    """Stages run once, before the folds; they must not read what the folds hold out."""
    stages: dict[str, StageSection]
    """Stages of every fold. ${judgements} is that section without the fold, ${held_out} the file of its prompts, ${fold} its folder."""
    title: str = "Cross-validation"
    """Heading of the report."""


@dataclass(frozen=True)
class Dealt:
    """The decided pairs with their folds. rows: (n,) the place of each among the judgements read; winner: (n,) its preferred answer."""

    pairs: Pairs
    rows: list[int]
    winner: list[int]


def cross_validate(cfg: CrossValidationConfig) -> dict[str, Any]:
    """Train and judge every fold; finished stages are not run again. Returns path, report, and of each judge the accuracies with intervals.

    Raises: before anything runs, ConfigError and DataError when a stage's config or the pairs are wrong, MissingExtraError for a tracker.
    """
    folder, section = folder_of(cfg), filled_judgements(cfg)
    dealt, (before, folds) = deal(cfg, section), plans_of(cfg, folder, section)
    for stages in (before, *folds):
        check_trackers(stages)
    run_stages(before)
    pairs = dealt.pairs
    models = {name: np.empty((cfg.members, len(pairs.keys))) for name in cfg.score}
    for fold, stages in enumerate(folds):
        log.info("== fold %d of %d", fold + 1, cfg.folds)
        inside, held = fold_folder(folder, fold), np.flatnonzero(pairs.folds == fold).tolist()
        inside.mkdir(parents=True, exist_ok=True)
        write_keys(inside / HELD_OUT, {pairs.keys[i] for i in held})
        run_stages(stages)
        for name, margins in models.items():
            for member in range(cfg.members):
                margins[member, held] = held_out_margins(inside / member_name(name, member), dealt, held)
    averaged = {name: margins.mean(0) for name, margins in models.items()}
    report = strict({"title": cfg.title, "members": cfg.members} | fold_report(pairs, averaged, guesses(pairs)))
    for name, margins in models.items():
        report["models"][name]["member_accuracy"] = [float(np.mean(np.sign(m) / 2 + 0.5)) for m in margins]
    atomic_write_text(folder / "report.json", json.dumps(report, indent=1))
    for line in table(report):
        log.info("%s", line)
    return {"path": str(folder), "report": str(folder / "report.json"), "pairs": report["pairs"], "groups": report["groups"],
            **{kind: {name: {part: judge[part] for part in ("accuracy", "near")} for name, judge in report[kind].items()}
               for kind in ("models", "guesses")}}


def folder_of(cfg: CrossValidationConfig) -> Path:
    """Where the folds' runs lie."""
    return Path(cfg.run_dir or "runs/cv")


def fold_folder(folder: Path, fold: int) -> Path:
    """Where the runs of one fold lie, and the file of its prompts."""
    return folder / f"fold-{fold}"


def filled_judgements(cfg: CrossValidationConfig) -> DataSection:
    """The judgements' section with ${data} in place."""
    return DataSection.model_validate(fill(cfg.judgements.model_dump(), {"data": cfg.data.root}))


def deal(cfg: CrossValidationConfig, section: DataSection) -> Dealt:
    """The decided pairs, dealt into folds by prompt. Raises: DataError when there are none, or fewer prompts than folds."""
    read = read_sources(read_judgements, section.each()).rows
    rows = [i for i, j in enumerate(read) if j.ranks is not None and len(j.ranks) == 2 and j.ranks[0] != j.ranks[1]]
    if not rows:
        raise DataError(f"no decided pair in {', '.join(section.all_files())}", hint="cross-validation judges reward models by pairs")
    kept = [read[i] for i in rows]
    keys = [split_key(j.prompt, by=section.split_by) for j in kept]
    fold_of = deal_folds(keys, cfg.folds, seed=section.split_seed)
    winner = [int(j.ranks is not None and j.ranks[0] > j.ranks[1]) for j in kept]
    shares = np.array([float(j.extra.get("target", np.nan)) for j in kept])                              # of the first answer
    pairs = Pairs([j.responses[w].text for j, w in zip(kept, winner, strict=True)],
                  [j.responses[1 - w].text for j, w in zip(kept, winner, strict=True)],
                  keys, np.array([fold_of[key] for key in keys]), np.where(np.array(winner) == 1, 1 - shares, shares))
    return Dealt(pairs, rows, winner)


def plans_of(cfg: CrossValidationConfig, folder: Path, section: DataSection) -> tuple[Plans, list[Plans]]:
    """(stages to run before, stages of each fold); those that are judged stand once for each member.

    Raises: ConfigError when a stage's config is wrong or a file is missing.
    """
    for name in cfg.score:
        if name not in cfg.stages or cfg.stages[name].verb != "reward":
            raise ConfigError(f"score: {name!r} is not a reward stage of `stages` ({', '.join(cfg.stages)})")
    check_data(PipelineConfig(data=cfg.data, stages=cfg.before | cfg.stages))

    def planned(stages: dict[str, StageSection], inside: Path, **names: Any) -> Plans:
        part = PipelineConfig(run_dir=inside, seed=cfg.seed, device=cfg.device, data=cfg.data, stages=stages)
        return plan(part, standard_verbs(), inside, {"run": str(folder), **names})

    folds = []
    for fold in range(cfg.folds):
        inside = fold_folder(folder, fold)
        file = str(inside / HELD_OUT)
        judgements = section.model_dump(mode="json") | {"held_out": file}
        stages = planned(cfg.stages, inside, fold=str(inside), held_out=file, judgements=judgements)
        folds.append({
            member_name(name, member): (verb, stage.model_copy(update={"run_dir": inside / member_name(name, member),
                                                                       "seed": stage.seed + member}))
            for name, (verb, stage) in stages.items() for member in range(cfg.members if name in cfg.score else 1)})
    return planned(cfg.before, folder), folds


def member_name(stage: str, member: int) -> str:
    """The folder of one member; the first has the stage's own name, so that later stages can go on from it."""
    return f"{stage}-{member}" if member else stage


def held_out_margins(run: Path, dealt: Dealt, held: list[int]) -> Floats:
    """(len(held),) of those pairs: score of the preferred answer less that of the other, as log-odds, by the reward model of a run.

    Raises: DataError when the run left one of them out, so that no number can be given for it.
    """
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    lines = (run / "scores.jsonl").read_text(encoding="utf-8").splitlines()
    scores = {line["row"]: line["scores"] for line in map(json.loads, lines)}
    if missing := sum(dealt.rows[i] not in scores for i in held):
        raise DataError(f"{run} left out {missing} of its {len(held)} held-out pairs (answers too long)",
                        hint="start from a model with more context_tokens, or leave those pairs out of `judgements`")
    first_less_second = np.array([scores[dealt.rows[i]][0] - scores[dealt.rows[i]][1] for i in held])
    return result["bt_scale"] * np.where(np.array(dealt.winner)[held] == 0, first_less_second, -first_less_second)


def table(report: dict[str, Any]) -> list[str]:
    """What a person wants to see: accuracies in per cent, and how far each model is ahead, in points, with intervals."""

    def shown(found: dict[str, Any], sign: str = "") -> str:
        if found["mean"] is None:
            return "none"
        bounds = ", ".join("?" if found[end] is None else f"{100 * found[end]:{sign}.1f}" for end in ("low", "high"))
        return f"{100 * found['mean']:{sign}.1f} [{bounds}]"

    names = [*report["models"], *report["guesses"]]
    width = max(len(name) for name in names) + 8                     # "  over " and a space behind the longest
    rows = [("", f"{report['pairs']} pairs", f"{report['near_pairs']} of like length")]
    rows += [(name, shown(judge["accuracy"]), shown(judge["near"])) for name, judge in (report["models"] | report["guesses"]).items()]
    for name, ahead in report["leads"].items():
        rows += [(name, "", "")] + [(f"  over {other}", shown(by["all"], "+"), shown(by["near"], "+")) for other, by in ahead.items()]
    return [f"{name:<{width}}{everywhere:<24}{near}".rstrip() for name, everywhere, near in rows]


def preview(cfg: CrossValidationConfig) -> dict[str, Any]:
    """What --dry-run shows: the folds, and every stage's resolved config of the first one."""
    section = filled_judgements(cfg)
    pairs, (before, folds) = deal(cfg, section).pairs, plans_of(cfg, folder_of(cfg), section)
    return {"data": {"pairs": len(pairs.keys), "folds": [{"pairs": int((pairs.folds == f).sum()), "prompts": len(
                {k for k, own in zip(pairs.keys, pairs.folds, strict=True) if own == f})} for f in range(cfg.folds)],
                     "before": {name: stage.model_dump(mode="json") for name, (_, stage) in before.items()},
                     "stages": {name: stage.model_dump(mode="json") for name, (_, stage) in folds[0].items()}},
            "devices": {"device": cfg.device}, "forecast": {"seconds": expected_seconds(cfg)}}


def expected_seconds(cfg: CrossValidationConfig) -> float | None:
    """Rough time of everything on two cores; None where a stage does not say."""
    stages = [(stage, 1) for stage in cfg.before.values()]
    stages += [(stage, cfg.folds * (cfg.members if name in cfg.score else 1)) for name, stage in cfg.stages.items()]
    told = [stage.expect_seconds * times for stage, times in stages if stage.expect_seconds is not None]
    return sum(told) if len(told) == len(stages) else None
