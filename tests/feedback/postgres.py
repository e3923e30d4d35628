"""A real PostgreSQL for the tests: made in a temporary folder, reachable by a socket there and nowhere else."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def binaries() -> Path | None:
    """The folder of pg_ctl and initdb: on the path, or where Debian keeps them."""
    found = shutil.which("pg_ctl")
    folders = [str(Path(found).parent)] if found else sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
    return Path(folders[0]) if folders else None


@contextmanager
def cluster(bin_folder: Path, *, fsync: bool = False) -> Iterator[str]:
    """A server's address, without a database's name. It runs as another user where this process is root's, which PostgreSQL refuses."""
    user = None
    if os.geteuid() == 0:
        names = {entry.pw_name for entry in pwd.getpwall()}
        user = "postgres" if "postgres" in names else "nobody"
    folder = Path(tempfile.mkdtemp(prefix="tutelage-pg-"))
    if user:
        shutil.chown(folder, user)
    data = folder / "data"

    def call(*command: str) -> None:
        subprocess.run([str(bin_folder / command[0]), *command[1:]], check=True, user=user, cwd=folder, capture_output=True, timeout=120)

    options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c max_connections=200"
    options += "" if fsync else " -c fsync=off -c synchronous_commit=off -c full_page_writes=off"
    try:
        call("initdb", "-D", str(data), "-U", "tutelage", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        call("pg_ctl", "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql://tutelage@/{{name}}?host={folder}"
        finally:
            call("pg_ctl", "-D", str(data), "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
