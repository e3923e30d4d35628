"""`tutelage feedback`: judgements into the store, out of it, counted, and frozen for a reward model to train from."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from tutelage.base.log import setup_logging

from .feedback_erase import erase_command
from .feedback_files import export_command, import_command, prompts_command, simulate_command, stats_command
from .feedback_scores import scores_command
from .group import Group
from .output import only_json_on_stdout, print_result


@click.group(cls=Group)
def feedback() -> None:
    """What people said: bring it in, count it, take it out, freeze it, train on it (docs/feedback.md, docs/feedback-files.md)."""


for _command in (import_command, export_command, prompts_command, scores_command, stats_command, simulate_command, erase_command):
    feedback.add_command(_command)


@feedback.command()
@click.option("--db", "database", metavar="URL",
              help="SQLite file or postgresql://…  [default: TUTELAGE_DATABASE_URL, else studio.db in your data folder]")
@click.option("--out", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Where snapshots lie, each in a folder named by its hash.  [default: snapshots in your data folder]")
@click.option("--kind", "kinds", multiple=True, metavar="KIND", help="Judgements of this kind only; may be given several times.")
@click.option("--purpose", "purposes", multiple=True, metavar="NAME",
              help="On tasks of this purpose only, such as gold, which is left out otherwise.")
@click.option("--guideline", "guidelines", multiple=True, metavar="VERSION", help="Given under this version of the guidelines only.")
@click.option("--before", type=click.DateTime(), metavar="TIME", help="Given before this time, UTC: 2026-03-01 or 2026-03-01T12:00:00.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout and nothing else.")
@click.option("-v", "--verbose", is_flag=True, help="A traceback with errors.")
def snapshot(database: str | None, out: Path | None, kinds: tuple[str, ...], purposes: tuple[str, ...], guidelines: tuple[str, ...],
             before: datetime | None, as_json: bool, verbose: bool) -> None:
    """Freeze the store's judgements into a folder that never changes, for `tutelage reward data.files=[FOLDER]`."""
    setup_logging(int(verbose))
    with only_json_on_stdout(as_json):
        from tutelage.feedback.location import data_folder
        from tutelage.feedback.snapshot import PURPOSES, Selection, check_selection, freeze_and_record
        from tutelage.feedback.store import Store

        selection = check_selection(Selection(kinds or Selection().kinds, purposes or PURPOSES,
                                              before.replace(tzinfo=UTC).timestamp() if before else None, guidelines))
        with Store.open(database, make=False) as store:
            found, _ = freeze_and_record(store, out or data_folder() / "snapshots", selection, lambda conn, frozen, known: None)
    print_result({"snapshot": str(found.path), "hash": found.hash, **found.counts,
                  "next": f"tutelage reward model.policy=runs/sft 'data.files=[{found.path}]' --run-dir runs/reward"}, as_json)


@feedback.command()
@click.argument("overrides", nargs=-1, metavar="[section.key=value]…")
@click.option("--policy", required=True, metavar="FOLDER", help="Where the weights come from: model.policy of `tutelage reward`.")
@click.option("--db", "database", metavar="URL", help="As for snapshot.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Where snapshots/ and trainings/ lie.  [default: your data folder]")
@click.option("--no-wait", is_flag=True, help="Start it and return; it goes on by itself.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout and nothing else.")
@click.option("-v", "--verbose", is_flag=True, help="A traceback with errors.")
def retrain(overrides: tuple[str, ...], policy: str, database: str | None, out: Path | None, no_wait: bool, as_json: bool, verbose: bool
            ) -> None:
    """Freeze the store's judgements and train a reward model from them in a process of its own; one at a time."""
    setup_logging(int(verbose))
    with only_json_on_stdout(as_json):
        import time

        from tutelage.feedback.errors import RetrainError
        from tutelage.feedback.location import data_folder
        from tutelage.feedback.retrain import look, start
        from tutelage.feedback.store import Store

        with Store.open(database, make=False) as store:
            training = start(store, policy=policy, folder=out or data_folder(), overrides=overrides)
            told = 0
            while training.state == "running" and not no_wait:
                time.sleep(0.5)
                training, told = look(store, training.id), _tell(training.log, told)
        if training.state == "failed":
            resume = training.result.get("resume")
            raise RetrainError(f"training {training.id} failed: {training.result['error']}",
                               hint=f"all it said: {training.log}" + (f"; go on with: {resume}" if resume else ""))
    print_result({"training": training.id, "state": training.state, "snapshot": str(training.snapshot), "run_dir": str(training.run_dir),
                  "log": str(training.log), **training.result}, as_json)


def _tell(log: Path, told: int) -> int:
    """Show what a training has said beyond `told` bytes; how far it is stands there too. Returns the bytes told now."""
    with log.open("rb") as file:
        file.seek(told)
        said = file.read()
    sys.stderr.write(said.decode("utf-8", "replace"))
    sys.stderr.flush()
    return told + len(said)
