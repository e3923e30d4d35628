"""The one form of every recipe's verb: `VERB [CONFIG] [section.key=value …]` with the common flags."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from tutelage.base.config import Origins, leaves, load_config, written_verb
from tutelage.base.errors import ConfigError
from tutelage.base.files import disk_errors
from tutelage.base.log import setup_logging, visible
from tutelage.base.permission import allow_code

from .output import only_json_on_stdout, plain, print_result, text
from .verbs import FLAGGED, Recipe


def recipe_command(verb: str, default: Recipe) -> click.Command:
    """The click command of one recipe."""
    others = {flag: other for (of, flag), other in FLAGGED.items() if of == verb}

    def call(arguments: tuple[str, ...], dry_run: bool, as_json: bool, quiet: bool, verbose: bool, with_code: bool = False, **flags: Any
             ) -> None:
        setup_logging(1 if verbose else -1 if quiet else 0)
        flag = next((flag for flag in others if flags.pop(flag)), None)
        recipe, called = (others[flag], f"{verb} --{flag}") if flag else (default, verb)
        path, overrides = split_arguments(arguments)
        if path is not None and (written := written_verb(path)) not in (None, verb, called):
            raise ConfigError(f"{path} is for the verb {written}, not {called}", hint=f"tutelage {written} {path}")
        given = {key: value for key, value in flags.items() if value is not None and value is not False}
        with only_json_on_stdout(as_json), allow_code() if with_code else nullcontext():
            module = importlib.import_module(recipe.module)
            cfg, origins = load_config(getattr(module, recipe.config), path, overrides, flags=given)
            if dry_run:
                result = {"config": cfg.model_dump(mode="json"), "origins": origins} | _without_config(module.preview(cfg))
            else:
                with disk_errors(cfg.run_dir or Path.cwd()):
                    result = getattr(module, recipe.function)(cfg)
        if dry_run and not as_json:
            print_preview(cfg.model_dump(mode="json"), origins, plain(result))
        else:
            print_result(result, as_json)

    return click.Command(verb, callback=call, params=_parameters(default, others), short_help=default.summary,
                         help=f"{default.summary}\n\n`tutelage config show {verb}` lists its settings, `tutelage config schema {verb}` "
                              "describes them.")


def split_arguments(arguments: Sequence[str]) -> tuple[Path | None, list[str]]:
    """The config file, if any, and the overrides. Raises ConfigError when there are two files."""
    overrides = [a for a in arguments if re.match(r"[\w.-]+=", a)]
    files = [a for a in arguments if a not in overrides]
    if len(files) > 1:
        raise ConfigError(f"command line: {files[1]!r} is not of the form section.key=value, and {files[0]!r} is already the config file",
                          hint="one config file at most; it may name a parent with include:")
    return (Path(files[0]) if files else None), overrides


def print_preview(values: dict[str, Any], origins: Origins, preview: dict[str, Any]) -> None:
    """The resolved config with the origin of each key, then what the run would do."""
    print("config")
    print_config(values, origins)
    for name, part in preview.items():
        if name not in ("config", "origins"):
            print(f"\n{name}")
            for line in _lines(part, "  "):
                print(visible(line))


def print_config(values: dict[str, Any], origins: Origins) -> None:
    """One `key: value  # origin` line per key."""
    rows = [(f"  {key}: {text(value)}", origins[key]) for key, value in leaves(values)]
    width = max(len(row) for row, _ in rows)
    for row, origin in rows:
        print(visible(row if origin == "default" else f"{row:<{min(width, 60)}}  # {origin}"))


def _without_config(preview: dict[str, Any]) -> dict[str, Any]:
    return {name: part for name, part in preview.items() if name != "config"}


def _lines(value: Any, indent: str) -> list[str]:
    """Nested values as indented lines; text keeps its own line breaks."""
    if isinstance(value, dict):
        lines = []
        for key, item in value.items():
            inner = _lines(item, indent + "  ")
            short = len(inner) == 1 and not isinstance(item, (dict, list))
            lines += [f"{indent}{key}: {inner[0].strip()}"] if short else [f"{indent}{key}:", *inner]
        return lines
    if isinstance(value, list):
        items = [_lines(item, indent + "  ") or [""] for item in value]
        return [line for first, *others in items for line in [f"{indent}- {first.strip()}", *others]]
    return [indent + line for line in text(value).strip("\n").splitlines() or [""]]


def _parameters(recipe: Recipe, others: Mapping[str, Recipe]) -> list[click.Parameter]:
    code = click.Option(["--allow-code", "with_code"], is_flag=True, help="Run the Python functions the config names.")
    return [
        *(click.Option([f"--{flag}"], is_flag=True, help=other.summary) for flag, other in others.items()),
        click.Argument(["arguments"], nargs=-1, metavar="[CONFIG] [section.key=value …]"),
        click.Option(["--run-dir"], metavar="FOLDER", help="Folder of the run."),
        click.Option(["--resume"], is_flag=True, help="Continue an interrupted run from its last checkpoint."),
        click.Option(["--seed"], type=int, help="Seeds everything random in the run."),
        click.Option(["--device"], metavar="NAME", help="Where tensors live, as torch names it."),
        click.Option(["--dry-run"], is_flag=True, help="Print the resolved config, the data, the devices and a forecast; do nothing."),
        *([code] if recipe.runs_code else []),
        click.Option(["--json", "as_json"], is_flag=True, help="One JSON object on stdout and nothing else."),
        click.Option(["-q", "--quiet"], is_flag=True, help="Warnings only."),
        click.Option(["-v", "--verbose"], is_flag=True, help="More log, and a traceback with errors."),
    ]
