"""`tutelage data check FILE`, `tutelage data convert FILE --to LAYOUT --out FILE` and `tutelage data mask FILE --out FILE`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from tutelage.base.errors import ConfigError
from tutelage.base.log import setup_logging, visible

from .group import Group
from .output import only_json_on_stdout, print_failure, print_result

GOALS = ("texts", "prompts", "demonstrations", "judgements")
_SHOWN_CHARS = 600
"""Of a sample on the terminal; --json gives it whole."""
_SHOWN_REASONS = 10


@click.group(cls=Group)
def data() -> None:
    """Look into a data file, or write it in another layout (docs/data.md lists them) or without personal data."""


def _reading(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say how files are read."""
    options = [
        click.argument("files", nargs=-1, required=True, metavar="FILE…"),
        click.option("--layout", default="auto", metavar="NAME", help="The files' layout; by default it is told from the first rows."),
        click.option("--column", "columns", multiple=True, metavar="OURS=THEIRS", help="Where a column of ours stands: prompt=context."),
        click.option("--verdict", "verdicts", multiple=True, metavar="THEIRS=OURS",
                     help="What a verdict of the file is in our words: 0=tie."),
        click.option("--as", "goal", type=click.Choice(GOALS), help="Read as these only; by default all that the rows say."),
        click.option("--prompt-style", type=click.Choice(["chat", "raw"]), default="chat", show_default=True,
                     help="A prompt that is a string: one user message, or text to be continued."),
        click.option("--max-rejected-frac", type=click.FloatRange(0, 1), default=0.1, show_default=True,
                     help="Share of the rows that may be unusable."),
        click.option("--limit", type=click.IntRange(min=1), help="Rows to read at most."),
        click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout and nothing else."),
        click.option("-v", "--verbose", is_flag=True, help="A traceback with errors."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def reading_options(layout: str, columns: tuple[str, ...], verdicts: tuple[str, ...], **others: Any) -> Any:
    """tutelage.text.readers.ReadOptions. Raises: ConfigError for a column that is not OURS=THEIRS, or a verdict that is not THEIRS=OURS."""
    for flag, form, example, given in (("--column", "OURS=THEIRS", "prompt=context", columns),
                                       ("--verdict", "THEIRS=OURS", "0=tie", verdicts)):
        if wrong := next((one for one in given if "=" not in one), None):
            raise ConfigError(f"{flag} {wrong} is not of the form {form}", hint=f"for example {flag} {example}")
        names = [one.split("=", 1)[0] for one in given]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ConfigError(f"{flag} {twice} is given twice", hint="say each once")
    mapped, said = (dict(one.split("=", 1) for one in given) for given in (columns, verdicts))
    return {"layout": layout, "columns": mapped or None, "verdicts": said} | others


@data.command()
@_reading
@click.option("--model", type=click.Path(path_type=Path), metavar="FOLDER", help="Whose tokenizer and template render the samples.")
def check(files: tuple[str, ...], goal: Any, as_json: bool, verbose: bool, model: Path | None, **reading: Any) -> int:
    """Say what is in the files: layout, counts, lengths, duplicates, and three samples with the trained tokens between ⟦ and ⟧.

    Exit code 1 when more than --max-rejected-frac of the rows cannot be used.
    """
    setup_logging(1 if verbose else -1)
    with only_json_on_stdout(as_json):
        from tutelage.text.check import check as look
        from tutelage.text.check import rendered

        found = look(files, goal, reading_options(**reading))
        report = found.report() | {"samples": list(rendered(found, model))}
    if as_json:
        print_result(report, as_json)
    else:
        for line in _lines(report):
            print(visible(line))
    if (fault := found.fault(reading["max_rejected_frac"])) is None:
        return 0
    print_failure(str(fault), fault.hint)
    return fault.exit_code


@data.command()
@_reading
@click.option("--to", required=True, metavar="LAYOUT", help="The layout to write.")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="FILE",
              help="Ends in .jsonl, .jsonl.gz, .json, .csv or .parquet, which says in what form.")
@click.option("--skip", is_flag=True, help="Leave out rows that the layout cannot hold, and count them.")
def convert(files: tuple[str, ...], goal: Any, as_json: bool, verbose: bool, to: str, out: Path, skip: bool, **reading: Any) -> None:
    """Write the files' rows in another layout. Every row is read back first; one that would not say the same is refused."""
    setup_logging(int(verbose))
    with only_json_on_stdout(as_json):
        from tutelage.text.convert import convert as write

        done = write(files, to, out, goal=goal, skip=skip, options=reading_options(**reading))
    reasons: dict[str, int] = {}
    for rejected in done.rejected:
        reasons[rejected.reason] = reasons.get(rejected.reason, 0) + 1
    result = {"file": str(out), "from": ", ".join(done.layouts), "to": to, "rows_read": done.rows_read, "rows_written": done.rows_written,
              "rejected": reasons, "skipped": dict(done.skipped), "left_behind": sorted(done.left_behind)}
    print_result(result if as_json else {key: value for key, value in result.items() if value}, as_json)


@data.command()
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="FILE",
              help="Ends in .jsonl, .jsonl.gz, .json, .csv or .parquet for a file of rows; a plain text stays one.")
@click.option("--keep", multiple=True, metavar="KIND", help="Leave this kind as it is: email, iban, card, ip, phone, handle or name.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout and nothing else.")
@click.option("-v", "--verbose", is_flag=True, help="A traceback with errors.")
def mask(file: Path, out: Path, keep: tuple[str, ...], as_json: bool, verbose: bool) -> None:
    """Write the file again with [EMAIL_1], [PHONE_1] and the like for personal data, and say how much there was (docs/privacy.md).

    All texts of a row are masked, whatever its layout; the same address in a row gets the same placeholder.
    """
    setup_logging(int(verbose))
    with only_json_on_stdout(as_json):
        from .mask import mask_file

        done = mask_file(file, out, keep)
    print_result(done if as_json else {key: value for key, value in done.items() if value}, as_json)


def _lines(report: dict[str, Any]) -> Iterator[str]:
    kinds = ", ".join(f"{count:,} {kind}{'s' if count != 1 else ''}" for kind, count in report["kinds"].items())
    yield f"layout      {report['layout']}"
    yield f"rows        {report['rows']:,} ({kinds})" if report["rows"] else "rows        none"
    yield f"rejected    {report['rejected']:,}"
    for reason, about in list(report["reasons"].items())[:_SHOWN_REASONS]:
        yield f"              {about['rows']:,} x {reason} (first: {about['first']})"
    if (more := len(report["reasons"]) - _SHOWN_REASONS) > 0:
        yield f"              and {more:,} other reasons"
    if "turns" in report:
        yield "turns       " + ", ".join(f"{count:,} {role}" for role, count in report["turns"].items())
    for part, numbers in report["characters"].items():
        yield f"{part:<12}" + ", ".join(f"{name} {value:,}" for name, value in numbers.items()) + " characters"
    if "chosen_is_longer_frac" in report:
        yield f"longer      the preferred answer, in {report['chosen_is_longer_frac']:.0%} of the pairs whose answers differ in length"
    if "labels_true_frac" in report:
        yield f"labels      {report['labels_true_frac']:.0%} true"
    yield "duplicates  " + ", ".join(f"{count:,} {what}" for what, count in report["duplicates"].items())
    for sample in report["samples"]:
        yield f"\n{sample['at']}"
        for text in sample["texts"]:
            yield "  " + _shortened(text).replace("\n", "\n  ")
        if sample["verdict"]:
            yield f"  -> {sample['verdict']}"


def _shortened(text: str) -> str:
    """Beginning and end: the end is what is trained."""
    left_out = len(text) - _SHOWN_CHARS
    return text if left_out <= 0 else f"{text[:_SHOWN_CHARS // 2]} […{left_out:,} characters…] {text[-_SHOWN_CHARS // 2:]}"
