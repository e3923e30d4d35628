"""The Python door: one function that runs any verb from a config object, a mapping or a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tutelage.base.config import RunConfig, load_config, load_values, written_verb
from tutelage.base.errors import ConfigError, did_you_mean
from tutelage.base.files import disk_errors
from tutelage.recipes.pipeline import PipelineConfig, Verb, run_pipeline, standard_verbs


def train(config: RunConfig | Mapping[str, Any] | str | Path, *, resume: bool = False, **inputs: Any) -> dict[str, Any]:
    """As tutelage.train, where it is described."""
    verbs = standard_verbs() | {"run": Verb(PipelineConfig, run_pipeline)}
    if isinstance(config, RunConfig):
        verb, cfg = _verb_of_object(config, verbs), config
    elif isinstance(config, Mapping):
        settings = dict(config)
        verb = _known(settings.pop("verb", None), verbs, "the mapping")
        cfg = load_values(verb.config, settings, where="config")
    elif isinstance(config, str | Path):
        verb = _known(_verb_of_file(Path(config)), verbs, str(config))
        cfg, _ = load_config(verb.config, Path(config))
    else:
        raise ConfigError(f"train was given {type(config).__name__}", hint="give a config object, a mapping or the path of a config file")
    if resume:
        cfg = cfg.model_copy(update={"resume": True})
    with disk_errors(cfg.run_dir or Path.cwd()):
        return verb.run(cfg, **inputs)


def _verb_of_object(config: RunConfig, verbs: Mapping[str, Verb]) -> Verb:
    for verb in verbs.values():
        if isinstance(config, verb.config):
            return verb
    raise ConfigError(f"no verb takes a {type(config).__name__}",
                      hint=f"give one of {', '.join(verb.config.__name__ for verb in verbs.values())}")


def _verb_of_file(path: Path) -> str | None:
    """What the file says, or what the run it lies in was."""
    try:
        return written_verb(path) or str(json.loads((path.parent / "lineage.json").read_text(encoding="utf-8"))["verb"])
    except (OSError, ValueError, KeyError, TypeError):                # there is none, or it is not ours
        return None


def _known(name: Any, verbs: Mapping[str, Verb], where: str) -> Verb:
    if name is None:
        raise ConfigError(f"{where} does not say which verb it is for", hint=f"add verb: one of {', '.join(verbs)}")
    if not isinstance(name, str) or name not in verbs:
        raise ConfigError(f"{where}: verb: {name!r} is no verb to train with{did_you_mean(str(name), verbs)}",
                          hint=f"one of {', '.join(verbs)}")
    return verbs[name]
