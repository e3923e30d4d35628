"""`tutelage export SOURCE OUT`: one plain model folder, adapters merged."""

from __future__ import annotations

from pathlib import Path

import click

from tutelage.base.files import disk_errors
from tutelage.base.log import setup_logging

from .output import only_json_on_stdout, print_result


@click.command()
@click.argument("source")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--dtype", type=click.Choice(["float32", "bf16"]), default="float32", show_default=True, help="Of the weights on disk.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout and nothing else.")
@click.option("-q", "--quiet", is_flag=True, help="Warnings only.")
@click.option("-v", "--verbose", is_flag=True, help="A traceback with errors.")
def export(source: str, out: Path, dtype: str, as_json: bool, quiet: bool, verbose: bool) -> None:
    """Write the model of a run, checkpoint, adapter or model folder to OUT, a plain Hugging Face folder that needs nothing beside it.

    A LoRA adapter is merged into its base. A reward model keeps its score_shift in config.json.
    """
    setup_logging(1 if verbose else -1 if quiet else 0)
    with only_json_on_stdout(as_json), disk_errors(out):
        from tutelage.recipes.export import export_model

        result = export_model(source, out, dtype=dtype)
    print_result(result, as_json)
