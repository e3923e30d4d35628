"""Folders for work in between: gone when it is done, and swept by the next who comes along when its process died.

Whose process lives is told by a lock that dies with it, since numbers of processes come again, in containers with every start.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def scratch_dir(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder `PREFIX…` in `parent`, readable by its owner only, locked as long as the block runs and deleted after it."""
    made, handle = _locked(parent, prefix)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        os.close(handle)


def sweep(parent: Path, prefix: str) -> list[Path]:
    """Delete the scratch folders whose processes are gone. Returns those in which work goes on, or that cannot be deleted."""
    left = []
    for folder in sorted(parent.glob(f"{prefix}*")):
        try:
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:                                             # gone just now, or somebody else's
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
        except OSError:
            left.append(folder)
        finally:
            os.close(handle)
    return left


def _locked(parent: Path, prefix: str) -> tuple[Path, int]:
    """A new folder and the handle that locks it; another one where a sweep came between the two."""
    while True:
        made = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        try:
            handle = os.open(made, os.O_RDONLY)
        except FileNotFoundError:
            continue
        with suppress(OSError):                          # a file system without locks: nobody can sweep there either
            fcntl.flock(handle, fcntl.LOCK_EX)
        if made.exists():
            return made, handle
        os.close(handle)
