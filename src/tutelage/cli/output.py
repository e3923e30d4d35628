"""Results on stdout: lines for a person, or one JSON object and nothing else."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from tutelage.base.config import leaves


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
    for key, value in leaves(shown):
        print(f"{key}: {text(value)}")
    if next_command:
        print(f"next: {next_command}")


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
