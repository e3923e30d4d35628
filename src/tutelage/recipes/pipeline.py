"""A pipeline: stages in a file, each a verb with its config; they meet only through the folders they leave."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from tutelage.base.config import RunConfig, Section, load_values, merge
from tutelage.base.errors import ConfigError, did_you_mean
from tutelage.base.faults import shorten
from tutelage.base.log import get_logger

log = get_logger()


class StageSection(Section):
    """One stage."""

    verb: str
    """What to run: pretrain, sft, sample, contrast, reward, ppo, evaluate, or a verb of the caller's."""
    config: dict[str, Any] = {}
    """Its config. ${run} is the pipeline's folder, ${data} the data root, ${seed} the seed; other stages are ${run}/<name>."""
    like: str | None = None
    """Another stage whose config this one's is laid over."""
    expect_seconds: float | None = Field(None, gt=0)
    """Rough time on two cores, for the list shown at the start; None says nothing of it."""


class PipelineSection(Section):
    """Where foreign data lies."""

    root: str = "."
    """Put in place of ${data}."""


class PipelineConfig(RunConfig):
    """Stages run in order, each in its own folder of the pipeline's run directory; finished ones are not run again."""

    data: PipelineSection = PipelineSection()
    stages: dict[str, StageSection]
    """Name -> stage, in the order they run. A name is a folder's: letters, digits, `_`, `-` and `.`."""

    @field_validator("stages", mode="after")
    @classmethod
    def _names_of_folders(cls, stages: dict[str, StageSection]) -> dict[str, StageSection]:
        for name in stages:
            if not re.fullmatch(r"[\w-][\w.-]{,99}", name):         # it is joined to the run's folder, and must not lead out of it
                raise ValueError(f"{shorten(name)} cannot name a stage and its folder; letters, digits, _, - and . can")
        if not stages:
            raise ValueError("there is none, so nothing would be run")
        return stages


@dataclass(frozen=True)
class Verb:
    """A config class and the function that runs it."""

    config: type[RunConfig]
    run: Callable[[Any], dict[str, Any]]
    check: Callable[[Any], object] = lambda cfg: None
    """Called before any stage starts; raises ConfigError for what the config class alone cannot see."""


Plans = dict[str, tuple[Verb, RunConfig]]


def standard_verbs() -> dict[str, Verb]:
    """The verbs every pipeline knows."""
    from tutelage.recipes.contrast import ContrastConfig, make_contrasts
    from tutelage.recipes.evaluate import EvaluateConfig, evaluate
    from tutelage.recipes.ppo import PPOConfig, train_ppo
    from tutelage.recipes.ppo_setup import find_functions
    from tutelage.recipes.pretrain import PretrainConfig, pretrain
    from tutelage.recipes.reward_model import RewardConfig, train_reward_model
    from tutelage.recipes.sample import SampleConfig, sample_answers
    from tutelage.recipes.sft import SFTConfig, train_sft

    return {"pretrain": Verb(PretrainConfig, pretrain), "sft": Verb(SFTConfig, train_sft), "sample": Verb(SampleConfig, sample_answers),
            "contrast": Verb(ContrastConfig, make_contrasts), "reward": Verb(RewardConfig, train_reward_model),
            "ppo": Verb(PPOConfig, train_ppo, find_functions), "evaluate": Verb(EvaluateConfig, evaluate)}


def run_pipeline(
    cfg: PipelineConfig, verbs: Mapping[str, Verb] | None = None, *, on_stage: Callable[[str, dict[str, Any]], None] | None = None
) -> dict[str, Any]:
    """Run the stages that are not finished. Returns {"path", "stages": {name: result}}.

    verbs: what stages may name; the standard ones when None. on_stage(name, result) is called after each stage,
    finished ones included.
    Raises: ConfigError before anything runs when a stage's config is wrong, MissingExtraError when a tracker is not installed.
    """
    folder = Path(cfg.run_dir or "runs/pipeline")
    plans = plan(cfg, standard_verbs() if verbs is None else verbs, folder)
    check_trackers(plans)
    check_data(cfg)
    check_files(plans, folder)
    announce(cfg)
    return {"path": str(folder), "stages": run_stages(plans, on_stage=on_stage)}


def run_stages(plans: Plans, *, on_stage: Callable[[str, dict[str, Any]], None] | None = None) -> dict[str, Any]:
    """Run planned stages in order; a finished one returns its result at once. Returns name -> result."""
    from tutelage.train.run import Interrupted

    results: dict[str, Any] = {}
    for name, (verb, stage_cfg) in plans.items():
        log.info("== %s", name)
        started = time.monotonic()
        try:
            results[name] = verb.run(stage_cfg)
        except Interrupted as stop:
            stop.hint = "run the same command again: finished stages are kept, and this one goes on where it stopped"
            raise
        log.info("== %s: %.0f s", name, time.monotonic() - started)
        if on_stage is not None:
            on_stage(name, results[name])
    return results


def plan(cfg: PipelineConfig, verbs: Mapping[str, Verb], folder: Path, names: Mapping[str, Any] | None = None) -> Plans:
    """Every stage's verb and resolved config, checked before the first one starts. names: what ${name} stands for, beside the usual."""
    plans: Plans = {}
    names = {"run": str(folder), "data": cfg.data.root, "seed": cfg.seed} | dict(names or {})
    for name, stage in cfg.stages.items():
        if stage.verb not in verbs:
            raise ConfigError(f"stages.{name}.verb: no verb {stage.verb!r}{did_you_mean(stage.verb, verbs)}",
                              hint=f"there are {', '.join(sorted(verbs))}")
        verb = verbs[stage.verb]
        written = _written(cfg, name)
        if names["run"] == str(folder):                             # else ${run} is that of the folds' common stages
            _check_stages_named(name, written, list(plans), list(cfg.stages), folder)
        values = fill(written, names)
        values |= {"run_dir": str(folder / name), "resume": True}
        values = {"seed": cfg.seed, "device": cfg.device} | values
        stage_cfg = load_values(verb.config, values, where=f"stages.{name}.config")
        verb.check(stage_cfg)
        plans[name] = (verb, stage_cfg)
    return plans


def _check_stages_named(name: str, written: dict[str, Any], before: Sequence[str], stages: Sequence[str], folder: Path) -> None:
    """Raises: ConfigError when a stage's config names one that is not there, or comes later; better now than after those before it."""
    for named in re.findall(r"\$\{run\}/([\w.-]+)", "\n".join(strings(written))):
        if named in before or (folder / named).exists():
            continue
        if named in stages:
            raise ConfigError(f"stages.{name}: ${{run}}/{named} is not made before it", hint=f"move the stage {named} up")
        raise ConfigError(f"stages.{name}: no stage {named}{did_you_mean(named, before)}",
                          hint=f"before it come: {', '.join(before) or 'none'}")


def check_trackers(plans: Plans) -> None:
    """Raises: MissingExtraError when a tracker that a stage names is not installed."""
    from tutelage.train.sections import TrackSection
    from tutelage.train.trackers import check_installed

    for _, stage_cfg in plans.values():
        check_installed(getattr(stage_cfg, "track", TrackSection()).to)


def check_files(plans: Plans, folder: Path) -> None:
    """Raises: ConfigError when a stage reads a data file that is not there and that no stage makes; better now than hours later."""
    from tutelage.train.sections import DataSection

    for name, (_, stage_cfg) in plans.items():
        section = getattr(stage_cfg, "data", None)
        for file in section.all_files() if isinstance(section, DataSection) else ():
            if not (Path(file).is_relative_to(folder) or file.startswith("hub:") or Path(file).exists() or glob(file, recursive=True)):
                raise ConfigError(f"stages.{name}: no file {file}", hint=f"paths are seen from where you start the run, {Path.cwd()}")


def check_data(cfg: PipelineConfig) -> None:
    """Raises: ConfigError when a stage reads a file of the data root that is not there, or only a link or .. to one elsewhere; better now
    than after the stages before it."""
    root = Path(cfg.data.root).resolve()
    for name, stage in cfg.stages.items():
        for written in sorted({leaf for leaf in strings(stage.config) if leaf.startswith("${data}")}):
            path = fill(written, {"data": cfg.data.root})
            found = [path] if Path(path).exists() else glob(path, recursive=True)
            if not found:
                raise ConfigError(f"stages.{name}: no file {path}",
                                  hint=f"data.root is {cfg.data.root}; give the folder that holds it: data.root=FOLDER")
            outside = next((one for one in found if not Path(one).resolve().is_relative_to(root)), None)
            if outside is not None:                                  # data that others packed may point at your own files
                raise ConfigError(f"stages.{name}: {outside} leads out of data.root, to {Path(outside).resolve()}",
                                  hint="if you mean that file, give its own path, without ${data}")


def strings(value: Any) -> Iterator[str]:
    """Every string in nested dicts and lists."""
    if isinstance(value, str):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from strings(item)


def _written(cfg: PipelineConfig, name: str, above: tuple[str, ...] = ()) -> dict[str, Any]:
    """A stage's config as written, laid over that of the stage it is like, and so on."""
    stage = cfg.stages[name]
    if stage.like is None:
        return stage.config
    if stage.like not in cfg.stages:
        raise ConfigError(f"stages.{name}.like: no stage {stage.like!r}; the stages are {', '.join(cfg.stages)}")
    if stage.like in (*above, name):
        raise ConfigError(f"stages.{name}.like: {' is like '.join((*above, name, stage.like))}, without end")
    return merge(_written(cfg, stage.like, (*above, name)), stage.config)


def preview(cfg: PipelineConfig) -> dict[str, Any]:
    """What --dry-run shows: every stage's resolved config; nothing is read, since later stages need what earlier ones make."""
    folder = Path(cfg.run_dir or "runs/pipeline")
    plans = plan(cfg, standard_verbs(), folder)
    try:
        check_files(plans, folder)
    except ConfigError as error:                                     # settings can be looked at before there are data
        log.warning("%s; a run would stop here", error)
    told = [stage.expect_seconds for stage in cfg.stages.values() if stage.expect_seconds is not None]
    forecast = {"seconds": sum(told)} if len(told) == len(cfg.stages) else {
        "seconds": None, "note": "later stages need what earlier ones make; --dry-run of one verb measures it"}
    return {
        "data": {
            "stages": {name: {"verb": cfg.stages[name].verb, "config": stage.model_dump(mode="json")} for name, (_, stage) in plans.items()}
        },
        "devices": {"device": cfg.device},
        "forecast": forecast,
    }


def fill(value: Any, names: Mapping[str, Any]) -> Any:
    """Put ${name} in place; a string that is nothing but ${name} takes the value's type."""
    if isinstance(value, dict):
        return {k: fill(v, names) for k, v in value.items()}
    if isinstance(value, list):
        return [fill(v, names) for v in value]
    if not isinstance(value, str):
        return value
    if (whole := re.fullmatch(r"\$\{(\w+)\}", value)) and whole[1] in names:
        return names[whole[1]]
    unknown = [n for n in re.findall(r"\$\{(\w+)\}", value) if n not in names]
    if unknown:
        raise ConfigError(f"${{{unknown[0]}}} is not known here", hint=f"known: {', '.join('${' + n + '}' for n in names)}")
    return re.sub(r"\$\{(\w+)\}", lambda m: str(names[m[1]]), value)


def announce(cfg: PipelineConfig) -> None:
    """The list of stages, with the time each is expected to take where the file says it."""
    total: float | None = 0.0
    for name, stage in cfg.stages.items():
        line = f"  {name:<14} {stage.verb:<9}"
        total = None if total is None or stage.expect_seconds is None else total + stage.expect_seconds
        if stage.expect_seconds is not None:
            line += f" about {stage.expect_seconds:3.0f} s"
        if total is not None:
            line += f", done at about {int(total) // 60}:{int(total) % 60:02}"
        log.info(line.rstrip())
