"""`tutelage feedback scores`: what reward models say of answers, for the order of the queue."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tutelage.base.errors import DataError
from tutelage.base.log import setup_logging

from .feedback_files import everywhere
from .output import only_json_on_stdout, print_result

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tutelage.feedback.scores import Score
    from tutelage.text.lines import Rejected


@click.command("scores")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE")
@click.option("--model", required=True, metavar="NAME", help="Whose scores these are; a second model's stand beside them.")
@everywhere
def scores_command(file: Path, model: str, db: str | None, as_json: bool, verbose: bool) -> None:
    """Read a reward model's scores and ask people first about what it is least sure of.

    FILE holds a JSON object a line: {"response_id": 7, "score": 0.3}, or {"prompt": …, "text": …, "score": 0.3} for an answer known by its
    words; "spread" beside it is the standard deviation among an ensemble's members.
    """
    setup_logging(int(verbose))
    with only_json_on_stdout(as_json):
        from tutelage.feedback.content import record_audit
        from tutelage.feedback.scores import add_scores
        from tutelage.feedback.store import Store
        from tutelage.text.lines import read_json_lines

        rows = list(read_json_lines(file))
        with Store.open(db, make=False) as store:
            def work(conn: Connection) -> tuple[int, int]:
                given = [_score(conn, file, number, row) for number, row in rows]
                record_audit(conn, action="feedback.scores", now=store.now(), subject=model, scores=len(given))
                return len(given), add_scores(conn, model, given, now=store.now())

            count, reordered = store.write(work)
    print_result({"scores": count, "tasks": reordered}, as_json)


def _score(conn: Connection, file: Path, number: int, row: dict[str, Any] | Rejected) -> Score:
    """Raises: DataError that names the line."""
    from tutelage.feedback.errors import ContentError
    from tutelage.feedback.scores import Score, find_response

    if not isinstance(row, dict):
        raise DataError(f"{file}:{number}: {row.reason}")

    def number_at(name: str) -> float | None:
        value = row.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise DataError(f"{file}:{number}: {name} is no number")
        return value

    score, response_id = number_at("score"), row.get("response_id")
    by_id = isinstance(response_id, int) and 0 < response_id < 2**31
    if score is None or not (by_id or {"prompt", "text"} <= row.keys()):
        raise DataError(f"{file}:{number}: a row holds score, and response_id or prompt and text",
                        hint="see: tutelage feedback scores --help")
    try:
        known = int(row["response_id"]) if by_id else find_response(conn, row["prompt"], str(row["text"]))
    except ContentError as error:
        raise DataError(f"{file}:{number}: {error}", hint=error.hint) from error
    return Score(known, score, number_at("spread"))
