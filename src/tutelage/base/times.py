"""Times in two forms: UTC seconds since 1970, which databases and arithmetic want, and ISO 8601 text, which files hold."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any


def to_iso(seconds: float) -> str:
    """Seconds since 1970 as text in UTC, to the microsecond. Raises: ValueError for a time no calendar has."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (OverflowError, OSError, ValueError):
        raise ValueError(f"{seconds!r} is no time") from None


def from_iso(value: Any) -> float:
    """ISO 8601 text, UTC where it names no zone, or a number of seconds, as seconds since 1970. Raises: ValueError for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    try:
        found = datetime.fromisoformat(value)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{value!r} is no time (ISO 8601, or seconds since 1970)") from None
