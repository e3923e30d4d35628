"""`tutelage config show VERB` and `tutelage config schema VERB`."""

from __future__ import annotations

import importlib
import json

import click

from tutelage.base.config import Section, config_schema, leaves, load_config
from tutelage.base.errors import ConfigError, did_you_mean
from tutelage.base.outline import outline

from .group import Group
from .output import print_result
from .training import print_config, split_arguments
from .verbs import configured


@click.group(cls=Group)
def config() -> None:
    """Show or describe the settings of a verb."""


@config.command()
@click.argument("verb")
@click.argument("arguments", nargs=-1, metavar="[CONFIG] [section.key=value …]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout: {config, origins}.")
def show(verb: str, arguments: tuple[str, ...], as_json: bool) -> None:
    """The settings of VERB, and where each was set.

    Without CONFIG and overrides: every setting with its default, and which of them must be given.
    """
    cls = _config_class(verb)
    values, required = outline(cls)
    if required and not arguments:
        origins = {key: "required" if key in required else "default" for key, _ in leaves(values)}
    else:
        cfg, origins = load_config(cls, *split_arguments(arguments))
        values = cfg.model_dump(mode="json")
    if as_json:
        print_result({"config": values, "origins": origins}, as_json)
    else:
        print_config(values, origins)


@config.command()
@click.argument("verb")
def schema(verb: str) -> None:
    """The JSON Schema of VERB's config file, for editors."""
    print(json.dumps(config_schema(_config_class(verb)), indent=2))


def _config_class(verb: str) -> type[Section]:
    if verb not in configured():
        raise ConfigError(f"no settings for a verb {verb!r}{did_you_mean(verb, configured())}",
                          hint=f"these verbs have settings: {', '.join(configured())}")
    return getattr(importlib.import_module(configured()[verb].module), configured()[verb].config)
