"""`tutelage feedback erase`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tutelage.base.errors import ConfigError
from tutelage.base.log import setup_logging, visible

from .output import only_json_on_stdout, print_result

if TYPE_CHECKING:
    from tutelage.lineage.erasing import Erased


@click.command("erase")
@click.option("--labeler", metavar="NAME", help="Somebody who judged or wrote here.")
@click.option("--user", metavar="ID", help="A customer, by the id that their prompts carry.")
@click.option("--runs", multiple=True, type=click.Path(path_type=Path), metavar="FOLDER",
              help="Where runs lie; may be given several times.  [default: runs, and trainings of your data folder]")
@click.option("--dry-run", is_flag=True, help="Tell what would go, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--db", metavar="URL",
              help="SQLite file or postgresql://…  [default: TUTELAGE_DATABASE_URL, else studio.db in your data folder]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout and nothing else.")
@click.option("-v", "--verbose", is_flag=True, help="A traceback with errors.")
def erase_command(labeler: str | None, user: str | None, runs: tuple[Path, ...], dry_run: bool, yes: bool, db: str | None, as_json: bool,
                  verbose: bool) -> None:
    """Erase a person: what they wrote goes from the store, snapshots and reports; what cannot be reached is told. There is no way back."""
    setup_logging(int(verbose))
    if (labeler is None) == (user is None):
        raise ConfigError("nobody was named" if labeler is None else "a labeler and a user at once",
                          hint="give --labeler NAME or --user ID, one of them")
    what, name = ("labeler", labeler) if labeler is not None else ("user", user or "")
    with only_json_on_stdout(as_json):
        from tutelage.feedback.location import data_folder
        from tutelage.feedback.store import Store
        from tutelage.lineage.erasing import erase_person

        if not (yes or dry_run):
            click.confirm(f"Erase the {what} {name} for good?", abort=True, err=True)
        with Store.open(db, make=False) as store:
            done = erase_person(store, what, name, runs=runs or (Path("runs"), data_folder() / "trainings"), dry_run=dry_run)
    if as_json:
        print_result(asdict(done), as_json)
    else:
        _print(done)


def _print(done: Erased) -> None:
    print(visible(f"{done.who}" + (f" (erased before, on {done.erased_before})" if done.erased_before else "")
                  + (": this would go" if done.dry_run else ": erased")))
    print("store       " + (", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in done.counts.items()) or "nothing"))
    for one in done.snapshots:
        rows = "its folder is gone" if one["rows"] is None else f"{one['rows']:,} rows go" if done.dry_run else f"{one['rows']:,} rows gone"
        print(visible(f"snapshot    {one['snapshot']}: {rows}"))
    for run in done.tainted:
        print(visible(f"tainted     {run['run']} ({run['verb']})"))
    for path in done.redacted:
        print(visible(f"redacted    {path}"))
    if not done.dry_run:
        print("free pages  " + ("written over" if done.scrubbed else "still there"))
    print("not reached, so look after it:")
    for line in done.unreached:
        print(visible(f"  {line}"))
