"""Keys, which come from the environment only: a command line is seen by everybody on the machine."""

from __future__ import annotations

import os

from tutelage.base.errors import ConfigError


def key_from(variable: str | None) -> str | None:
    """The key in an environment variable; None where none is named. Raises: ConfigError when it holds none, or one easily guessed."""
    if variable is None:
        return None
    key = os.environ.get(variable, "")
    if len(key) < 16 or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"the environment variable {variable} holds no key", hint="set it to at least 16 letters and digits")
    return key
