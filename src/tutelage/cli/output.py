"""Results on stdout: lines for a person, or one JSON object and nothing else."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tutelage.base.log import visible

_MOST_LINES, _MOST_CHARACTERS = 10, 1_000
"""Of an error: what it quotes from a file may be of any length."""


@contextlib.contextmanager
def only_json_on_stdout(active: bool) -> Iterator[None]:
    """While active, whatever a library prints goes to stderr."""
    with contextlib.redirect_stdout(sys.stderr) if active else contextlib.nullcontext():
        yield


def print_result(result: Mapping[str, Any], as_json: bool) -> None:
    """A result as JSON (nan and infinity become null), or as `key: value` lines with the next command last."""
    shown = plain(result)
    if as_json:
        print(json.dumps(shown, allow_nan=False), flush=True)
        return
    next_command = shown.pop("next", None)
    for line in lines(shown):
        print(visible(line))
    if next_command:
        print(f"next: {as_called(next_command)}")


def lines(result: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """`key: value` of everything in a result; an estimate takes one line, and a list of rows is left to --json."""
    for name, value in result.items():
        if isinstance(value, Mapping) and {"mean", "low", "high"} <= value.keys():
            rows = f", n {value['n']}" if "n" in value else ""
            yield f"{prefix}{name}: {text(value['mean'])} ({text(value['low'])} to {text(value['high'])}{rows})"
        elif isinstance(value, Mapping) and value:
            yield from lines(value, f"{prefix}{name}.")
        elif not (isinstance(value, list) and value and isinstance(value[0], Mapping)):
            yield f"{prefix}{name}: {text(value)}"


def as_called(command: str) -> str:
    """A command of ours as it can be typed here: with the path this process was started by, where `tutelage` is not on the PATH."""
    here = Path(sys.argv[0])
    found = here.name == "tutelage" and shutil.which("tutelage") is None
    return command.replace("tutelage", str(here), 1) if found else command


def print_failure(message: str, hint: str | None) -> None:
    """`error:` lines and a `hint:` on stderr, if it is still there."""
    told = visible(message).split("\n")
    more = len(told) - _MOST_LINES
    shown = told if more <= 0 else [*told[: _MOST_LINES], f"and {more} more"]
    with contextlib.suppress(OSError):
        for line in shown:
            print("error: " + (line if len(line) <= _MOST_CHARACTERS else line[: _MOST_CHARACTERS - 1] + "…"), file=sys.stderr)
        if hint:
            print(f"hint:  {visible(hint)}", file=sys.stderr, flush=True)


def plain(value: Any) -> Any:
    """JSON-able values only: paths become text, numbers JSON cannot hold become null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def text(value: Any) -> str:
    """A value as a person reads it."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
