"""Errors people read: one line that says what was found, one that says what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TutelageError(Exception):
    """A failure with a remedy. `exit_code` is what the command line returns."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(TutelageError):
    """The command or its configuration is wrong; nothing was started."""

    exit_code = 2


class DataError(TutelageError):
    """A data file cannot be used. The message names the file and, where known, the line."""


class ArtifactError(TutelageError):
    """A model folder, checkpoint or other artifact is missing, foreign or damaged."""


class AuditError(TutelageError):
    """A self-audit failed: what training relies on does not hold, so the run stops before it can mislead."""


class GateError(TutelageError):
    """A gate (evaluation threshold, over-optimisation guard) said no."""

    exit_code = 3


class MissingExtraError(TutelageError):
    """An optional package or engine is not installed."""

    exit_code = 4


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean X?)` for the nearest known word, else nothing."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {near[0]}?)" if near else ""


def listed(names: Iterable[str], most: int = 12) -> str:
    """Names found somewhere: the first few, each cut where it is long; `none` where there are none."""
    found = [" ".join(name.split())[:60] for name in names]
    return ", ".join(found[:most]) + (f" and {len(found) - most:,} more" if len(found) > most else "") or "none"
