"""Whether this process may run Python code that a config names. A config cannot grant that to itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from .errors import ConfigError

_allowed = ContextVar("allow_code", default=False)


@contextmanager
def allow_code() -> Iterator[None]:
    """Inside, code named by a config may run: what --allow-code means."""
    token = _allowed.set(True)
    try:
        yield
    finally:
        _allowed.reset(token)


def require_code(what: str) -> None:
    """Raises: ConfigError unless the person who started this process allowed code."""
    if not _allowed.get():
        raise ConfigError(f"{what} is Python code, which a config may not run by itself", hint="read that code, then add --allow-code")
