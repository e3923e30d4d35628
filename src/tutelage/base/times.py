"""Times in two forms: UTC seconds since 1970, which databases and arithmetic want, and ISO 8601 text, which files hold."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

LAST = 253402300799.0                                               # the last second of the year 9999


def to_iso(seconds: float) -> str:
    """Seconds since 1970 as text in UTC, to the microsecond. Raises: ValueError for a time no calendar has."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (OverflowError, OSError, ValueError):
        raise ValueError(f"{seconds!r} is no time") from None


def in_calendar(seconds: float) -> float:
    """A time that is in the store, for pages and files: one that no calendar has, as of milliseconds taken for seconds, at its end."""
    return min(max(seconds, 0.0), LAST)


def utc_time(seconds: float) -> datetime:
    """The same as a date and time in UTC."""
    return datetime.fromtimestamp(in_calendar(seconds), UTC)


def from_iso(value: Any) -> float:
    """ISO 8601 text, UTC where it names no zone, or a number of seconds, as seconds since 1970. Raises: ValueError for anything else."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
        found = datetime.fromisoformat(value)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{repr(value)[:40]} is no time (ISO 8601, or seconds since 1970)") from None
