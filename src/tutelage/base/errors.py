"""Errors people read: one line that says what was found, one that says what to do."""

from __future__ import annotations


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
