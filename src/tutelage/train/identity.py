"""Whether what goes on is the run a directory holds: its settings, inputs and machine, each against what it began with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tutelage.base.config import leaves, read_yaml
from tutelage.base.errors import ConfigError
from tutelage.base.files import read_json_object

FREE = ("resume", "run_dir", "track")
"""Settings that may change on resume: they cannot change what is learnt."""
REPAIR = "restore that file from a copy, or use a new --run-dir"


def check_config(folder: Path, config_text: str) -> None:
    """Raises: ConfigError naming the settings that differ from those the run began with."""
    before, now = _settings(folder / "config.yaml"), dict(leaves(yaml.safe_load(config_text)))
    homes = [None if values.get("run_dir") is None else Path(values["run_dir"]).parent for values in (before, now)]
    changed = [f"{key} ({_shown(before, key)} then, {_shown(now, key)} now)" for key in sorted(before.keys() | now.keys())
               if not _same(before.get(key), now.get(key), homes) and key.split(".")[0] not in FREE]
    if changed:
        raise ConfigError(f"{folder} was started with another config: {_few(changed)}",
                          hint="resume with the same settings, or use a new --run-dir")


def check_apart(folder: Path, inputs: Mapping[str, Any]) -> None:
    """Raises: ConfigError when a run's folder is, or lies in, a folder that it is made of: that would not be the same on resume."""
    for name, value in inputs.items():
        source = None if isinstance(value, list) else Path(value)
        if source is not None and source.is_dir() and folder.resolve().is_relative_to(source.resolve()):
            raise ConfigError(f"{folder} lies in {source}, the {name} it is made of, and what the run writes there would change it",
                              hint="choose another --run-dir, beside that folder")


def check_inputs(folder: Path, parents: Mapping[str, Any]) -> None:
    """Raises: ConfigError naming the files or model folders whose content is not what the run began with."""
    before = _lineage(folder).get("parents")
    if not isinstance(before, dict):
        raise ConfigError(f"{folder / 'lineage.json'} does not say what this run was made of", hint=REPAIR)
    changed = [f"{name}: {what}" for name in sorted(before.keys() | parents.keys())
               for what in _differences(_entries(before.get(name)), _entries(parents.get(name)))]
    if changed:
        raise ConfigError(f"{folder} was started from other inputs: {_few(changed)}",
                          hint="put the old files back to go on with it, or use a new --run-dir")


def changed_machine(folder: Path, made_of: Mapping[str, Any]) -> list[str]:
    """What may make the last bits differ from here on, such as `torch 2.13.0 then, 2.14.0 now`."""
    before = _lineage(folder)
    then, now = ({**(record["versions"] if isinstance(record.get("versions"), dict) else {}), "threads": record.get("threads")}
                 for record in (before, made_of))
    return [f"{name} {then.get(name)} then, {now.get(name)} now" for name in now if then.get(name) != now.get(name)]


def _settings(file: Path) -> dict[str, Any]:
    """Dotted keys of a run's config.yaml. Raises: ConfigError when it is damaged."""
    try:
        return dict(leaves(read_yaml(file)))
    except ConfigError as error:
        raise ConfigError(f"{file} is damaged, so it cannot be told how this run began", hint=REPAIR) from error


def _same(before: Any, now: Any, homes: list[Path | None]) -> bool:
    """Whether two values of a setting are equal, or one place beside the run: a pipeline may have moved with all its stages, or be named
    in another way. homes: the folder that the run's lay in then and lies in now."""
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        return all(_same(one, other, homes) for one, other in zip(before, now, strict=True))
    if before == now or not isinstance(before, str) or not isinstance(now, str):
        return bool(before == now)
    then, today = (Path(value).relative_to(home) if home is not None and Path(value).is_relative_to(home) else None
                   for value, home in zip((before, now), homes, strict=True))
    return then is not None and then == today


def _lineage(folder: Path) -> dict[str, Any]:
    return read_json_object(folder / "lineage.json", hint=REPAIR)


def _entries(parent: Any) -> dict[str, str | None]:
    """Path (or hub name) -> sha256 of a parent, which is one entry or a list of them."""
    entries = parent if isinstance(parent, list) else [] if parent is None else [parent]
    return {str(entry.get("path") or entry.get("name")): entry.get("sha256") for entry in entries if isinstance(entry, dict)}


def _differences(before: Mapping[str, str | None], now: Mapping[str, str | None]) -> list[str]:
    if list(before.values()) == list(now.values()) and None not in now.values():
        return []                                                    # the same content, wherever it lies now
    return ([f"{path} has changed" for path in now if path in before and before[path] != now[path]]
            + [f"{path} was not there" for path in now if path not in before] + [f"{path} is gone" for path in before if path not in now])


def _shown(values: Mapping[str, Any], key: str) -> str:
    return json.dumps(values[key], ensure_ascii=False) if values.get(key) is not None else "none"


def _few(items: list[str]) -> str:
    return "; ".join(items[:4]) + (f"; and {len(items) - 4} more" if len(items) > 4 else "")
