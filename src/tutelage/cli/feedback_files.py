"""`tutelage feedback import`, `export`, `stats` and `simulate`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tutelage.base.errors import ConfigError
from tutelage.base.log import setup_logging
from tutelage.base.records import MOST_PEOPLE

from .data import reading_options
from .output import only_json_on_stdout, print_result

if TYPE_CHECKING:
    from tutelage.feedback.io.importing import Imported

TO_JUDGE = ("comparison", "ranking", "rating", "label", "critique", "edit", "demonstration")
FORMATS = ("judgements", "csv", "label-studio", "argilla", "oasst", "arena", "hh-rlhf", "trl")
_SHOWN = 12
"""Rows of a table on the terminal; --json gives all."""


def everywhere(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every verb here."""
    options = [
        click.option("--db", metavar="URL",
                     help="SQLite file or postgresql://…  [default: TUTELAGE_DATABASE_URL, else studio.db in your data folder]"),
        click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout and nothing else."),
        click.option("-v", "--verbose", is_flag=True, help="A traceback with errors."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command("import")
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@click.option("--layout", default="auto", metavar="NAME", help="The files' layout; by default it is told from the first rows.")
@click.option("--column", "columns", multiple=True, metavar="OURS=THEIRS",
              help="Where a column of ours stands: labeler=votes.*.worker; a * makes a judgement of each.")
@click.option("--verdict", "verdicts", multiple=True, metavar="THEIRS=OURS", help="What a verdict of the file is in our words: 0=tie.")
@click.option("--where", multiple=True, metavar="FIELD=VALUE", help="Read only rows whose field says so: strict=true.")
@click.option("--prompt-style", type=click.Choice(["chat", "raw"]),
              help="A prompt that is a string: one user message, or text to be continued.  [default: raw in our own judgements, else chat]")
@click.option("--as", "to_judge", type=click.Choice(TO_JUDGE), help="Make items to be judged so of the prompts or answers in the files.")
@click.option("--overlap", type=click.IntRange(1, MOST_PEOPLE), metavar="N",
              help="People wanted for each item.  [default: as many as judged it, one for an open item]")
@click.option("--labelers", "prefix", default="", metavar="PREFIX", help="Put before labelers' names, which else mean the same person.")
@click.option("--batch", metavar="NAME", help="A name for these items; the same item in two batches is two.")
@click.option("--source", type=click.Choice(["import", "customer"]), default="import", show_default=True,
              help="Whose prompts these are. A customer's are masked, used with their consent only, and at most 200 of each user.")
@click.option("--max-rejected-frac", type=click.FloatRange(0, 1), default=0.1, show_default=True,
              help="More rejected rows than this share make the exit code 1.")
@click.option("--dry-run", is_flag=True, help="Count what would be added, and add nothing.")
@everywhere
def import_command(files: tuple[str, ...], db: str | None, as_json: bool, verbose: bool, where: tuple[str, ...], to_judge: Any,
                   overlap: int | None, prefix: str, batch: str | None, source: str, max_rejected_frac: float, dry_run: bool,
                   **reading: Any) -> int:
    """Bring files of feedback into the store. What is there already is not added again, so a file may be given twice."""
    setup_logging(int(verbose))
    with only_json_on_stdout(as_json):
        from tutelage.feedback.io.importing import import_files
        from tutelage.feedback.store import Store

        options = reading_options(where=_fields(where) or None, **{name: value for name, value in reading.items() if value is not None})
        with Store.open(db) as store:
            done = import_files(store, list(files), to_judge=to_judge, overlap=overlap, prefix=prefix, batch=batch, source=source,
                                dry_run=dry_run, **options)
    reasons = {reason: {"rows": found.rows, "lines": found.lines} for reason, found in
               sorted(done.rejected.items(), key=lambda item: -item[1].rows)}
    if as_json:
        said = {"read": done.read, "layouts": done.layouts, "new": dict(done.new), "known": done.known, "known_tasks": done.known_tasks,
                "counted": done.counted, "rejected": done.num_rejected, "reasons": reasons}
        if source == "customer":
            said |= {"masked_rows": done.masked_rows, "masked": dict(done.masked), "left_out": dict(done.left_out)}
        print_result(said, as_json)
    else:
        _print_import(done, reasons, customers=source == "customer", dry_run=dry_run)
    return int(done.num_rejected > max_rejected_frac * done.read)


def _print_import(done: Imported, reasons: dict[str, dict[str, Any]], *, customers: bool, dry_run: bool) -> None:
    if dry_run:
        print(f"layout    {', '.join(done.layouts)}")
    print(f"read      {done.read:,}")
    if done.counted:
        print("new       " + (", ".join(_counted(count, table) for table, count in done.new.items() if count) or "nothing"))
        print(f"known     {done.known:,}" + (f" ({_counted(done.known_tasks, 'tasks')})" if done.known_tasks else ""))
    else:
        print("new       not counted in a dry run of so many rows")
    if customers:
        print(f"masked    {_counted(done.masked_rows, 'rows')}{_listed(done.masked)}")
        print(f"left out  {_counted(done.left_out.total(), 'rows')}{_listed(done.left_out)}")
    print(f"rejected  {done.num_rejected:,}")
    for reason, found in list(reasons.items())[:_SHOWN]:
        more = "" if found["rows"] == 1 else f", {found['rows']:,} rows"
        print(f"            {reason} (first: {found['lines'][0]}{more})")


def _listed(counts: Counter[str]) -> str:
    return f" ({', '.join(f'{count:,} {what}' for what, count in counts.most_common())})" if counts else ""


def _fields(where: tuple[str, ...]) -> dict[str, Any]:
    """--where as a field -> value map. Raises: ConfigError for one that is not FIELD=VALUE."""
    found: dict[str, Any] = {}
    for one in where:
        name, equals, value = one.partition("=")
        if not equals:
            raise ConfigError(f"--where {one} is not of the form FIELD=VALUE", hint="for example --where strict=true")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


@click.command("export")
@click.argument("out", type=click.Path(path_type=Path), metavar="OUT")
@click.option("--to", required=True, metavar="FORMAT", help=f"One of {', '.join(FORMATS)}.")
@click.option("--kind", "kinds", multiple=True, metavar="KIND", help="Judgements of this kind only; may be given several times.")
@click.option("--batch", metavar="NAME", help="Items of this batch only.")
@click.option("--names", is_flag=True, help="People by their names; without it by pseudonyms that stay the same in every export.")
@click.option("--everything", is_flag=True, help="Skips, and items that nobody judged yet, too.")
@everywhere
def export_command(out: Path, db: str | None, as_json: bool, verbose: bool, to: str, kinds: tuple[str, ...], batch: str | None, names: bool,
                   everything: bool) -> None:
    """Write what people judged for another tool. OUT's suffix says in what form; retracted and erased judgements stay here."""
    setup_logging(int(verbose))
    with only_json_on_stdout(as_json):
        from tutelage.feedback.io.exporting import FORMS, export
        from tutelage.feedback.store import Store

        with Store.open(db, make=False) as store:
            done = export(store, out, to, names=names, kinds=kinds, batch=batch, everything=everything)
    result = {"file": str(out), "rows": done.rows, "judgements": done.judgements, "skipped": dict(done.skipped.most_common()),
              "no_place_for": list(FORMS[to].leaves)}
    print_result(result if as_json else {name: value for name, value in result.items() if value}, as_json)


@click.command("prompts")
@click.argument("out", type=click.Path(path_type=Path), metavar="OUT.jsonl")
@click.option("--names", is_flag=True, help="People by their names; without it by pseudonyms that stay the same in every export.")
@everywhere
def prompts_command(out: Path, db: str | None, as_json: bool, verbose: bool, names: bool) -> None:
    """Write every prompt that may be used, of labelers, customers and files, as `tutelage sample` and `tutelage ppo` read them.

    Those of users and labelers who are held out stay here, and are counted.
    """
    setup_logging(int(verbose))
    with only_json_on_stdout(as_json):
        from tutelage.feedback.io.exporting import export_prompts
        from tutelage.feedback.store import Store

        with Store.open(db, make=False) as store:
            done = export_prompts(store, out, names=names)
    result = {"file": str(out), "prompts": done.rows, "skipped": dict(done.skipped)}
    print_result(result if as_json else {name: value for name, value in result.items() if value}, as_json)


@click.command("stats")
@click.option("--batch", metavar="NAME", help="Judgements of this batch only.")
@click.option("--resamples", type=click.IntRange(min=0), default=500, show_default=True,
              help="Of the bootstrap behind the intervals; 0 leaves them out.")
@everywhere
def stats_command(db: str | None, as_json: bool, verbose: bool, batch: str | None, resamples: int) -> None:
    """Count what the store holds and say how far its people agree, with 95 % intervals."""
    setup_logging(int(verbose))
    with only_json_on_stdout(as_json):
        from tutelage.feedback.stats import stats
        from tutelage.feedback.store import Store

        with Store.open(db, make=False) as store, store.read() as conn:
            found = stats(conn, batch=batch, resamples=resamples)
    if as_json:
        print_result(found, as_json)
    else:
        _print_stats(found)


@click.command("simulate")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Judgements to give at most; without it until nothing is open.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seeds the panel.")
@everywhere
def simulate_command(db: str | None, as_json: bool, verbose: bool, limit: int | None, seed: int) -> None:
    """Have the embedded world's panel judge the open comparisons, rankings and labels. For trying things out: they know that world only."""
    setup_logging(int(verbose))
    with only_json_on_stdout(as_json):
        from tutelage.demo.at_work import simulate
        from tutelage.feedback.store import Store

        with Store.open(db, make=False) as store:
            done = simulate(store, seed=seed, limit=limit)
    print_result({"judgements": sum(done.values()), "labelers": done}, as_json)


def _print_stats(found: dict[str, Any]) -> None:
    sizes = ", ".join(_counted(found[name], name) for name in ("tasks", "prompts", "responses", "labelers", "skips"))
    print(f"judgements  {found['judgements']:,} ({', '.join(f'{count:,} {kind}' for kind, count in found['kinds'].items()) or 'none'})")
    if found["practice_and_screening"]:
        print(f"left out    {_counted(found['practice_and_screening'], 'judgements')} of practice and screening")
    print(f"store       {sizes}")
    for name in ("groups", "splits"):
        if set(found[name]) - {"(none)", "train"}:
            print(f"{name:<12}" + ", ".join(f"{value} {count:,}" for value, count in found[name].items()))
    if found["first_shown_wins"]["n"]:
        print(f"sides       the answer shown first won {_statistic(found['first_shown_wins'])} of the decided comparisons")
    for row in found["agreement"][:_SHOWN]:
        print(f"\n{row['batch'] or '(no batch)'}: {_counted(row['judgements'], row['kind'] + ' judgements')} of "
              f"{_counted(row['items'], 'items')} by {_counted(row['labelers'], 'labelers')}")
        for name, value in row.items():
            if isinstance(value, dict):
                print(f"  {name:<15}{_statistic(value)}")
    _print_left_out(len(found["agreement"]), "batches")
    print(f"\n{'labeler':<32}{'judgements':>11}{'seconds':>9}  agrees with others")
    for person in found["people"][:_SHOWN]:
        seconds = "" if person["seconds"] is None else f"{person['seconds']:.1f}"
        print(f"{person['labeler'][:31]:<32}{person['judgements']:>11,}{seconds:>9}  {_statistic(person['agrees_with_others'])}")
    _print_left_out(len(found["people"]), "labelers")


def _print_left_out(count: int, what: str) -> None:
    if count > _SHOWN:
        print(f"… and {count - _SHOWN:,} more {what} (--json has them all)")


def _statistic(found: dict[str, Any]) -> str:
    if found["value"] is None:
        return f"undefined: {found['why']}"
    between = f"{found['low']:.2f} to {found['high']:.2f}" if found["low"] is not None else f"no interval: {found['why']}"
    return f"{found['value']:.2f} ({between})"


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what.removesuffix('s') if count == 1 else what}"
