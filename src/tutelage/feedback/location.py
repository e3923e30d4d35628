"""Where the database is, and whether it may be there."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from ..base.errors import ConfigError, MissingExtraError, did_you_mean
from .errors import StoreError

APPLICATION_ID = 0x5475_746C                                        # "Tutl" in SQLite's header: a file of ours
MOUNTS = Path("/proc/self/mountinfo")
# File systems that other machines can write to, or that cannot share memory between processes: WAL's index is such memory.
NETWORK = {"nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "ncpfs", "afs", "9p", "drvfs", "ceph", "glusterfs", "lustre", "beegfs", "gpfs",
           "ocfs2", "gfs2", "orangefs", "pvfs2", "davfs", "vboxsf", "virtiofs", "prl_fs", "fuse.sshfs", "fuse.s3fs", "fuse.gcsfuse",
           "fuse.rclone", "fuse.glusterfs", "fuse.ceph", "fuse.ceph-fuse", "fuse.davfs2", "fuse.smbnetfs", "fuse.vmhgfs-fuse",
           "fuse.grpcfuse", "fuse.juicefs", "fuse.mergerfs", "fuse.google-drive-ocamlfuse", "fuse.beegfs", "fuse.seaweedfs"}


def locate(url: str | Path | None = None) -> URL:
    """The database's address: as given, or TUTELAGE_DATABASE_URL, or studio.db in the user's data folder. A plain path is a SQLite file.

    Raises: ConfigError when the address cannot be read or names a database that is not supported.
    """
    given = url if url is not None else os.environ.get("TUTELAGE_DATABASE_URL") or None
    if given is None:
        given = data_folder() / "studio.db"
    if isinstance(given, Path) or "://" not in given:
        return URL.create("sqlite", database=str(Path(given).expanduser()))
    try:
        made = make_url(given)
    except (ArgumentError, ValueError):
        raise ConfigError("the database's address cannot be read", hint="write postgresql://user@host/name or a file's path") from None
    backend = made.drivername.partition("+")[0]
    if backend in ("postgres", "postgresql"):
        return made.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise ConfigError(f"the store does not run on {backend}{did_you_mean(backend, ['sqlite', 'postgresql'])}",
                          hint="write postgresql://user@host/name or a file's path")
    if not made.database or made.database == ":memory:" or made.database.startswith("file:"):
        raise ConfigError("the store needs a file of its own", hint="write sqlite:////full/path/studio.db or only the path")
    return made.set(drivername="sqlite")


def data_folder() -> Path:
    """Where what people said is kept unless another place is named: TUTELAGE_HOME, else the user's data folder."""
    import platformdirs

    return Path(os.environ.get("TUTELAGE_HOME") or platformdirs.user_data_dir("tutelage"))


def shown(url: URL) -> str:
    """The address as errors print it, without the password."""
    return str(url.database) if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)


def need_psycopg() -> None:
    """Raises MissingExtraError when PostgreSQL's driver is not installed."""
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("PostgreSQL needs psycopg, which is not installed", hint="pip install 'tutelage[postgres]'") from error


def check_file(path: Path) -> None:
    """Raises StoreError when `path` cannot be a store: a network file system, an empty file, or a file of something else."""
    system = file_system(path)
    if system in NETWORK:
        raise StoreError(f"{path} is on a network file system ({system}), where SQLite's locks do not hold and judgements would be lost",
                         hint="put it on a local disk (TUTELAGE_DATABASE_URL=/local/studio.db), or use PostgreSQL (postgresql://...)")
    if not path.exists():
        return
    if not path.is_file():
        raise StoreError(f"{path} is not a file", hint="name the database file itself, such as studio.db")
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}", hint="check who owns it") from error
    if not header:
        raise StoreError(f"{path} is empty, not a studio's database", hint="restore a backup, or delete it to begin with a new one")
    if not header.startswith(b"SQLite format 3\0"):
        raise StoreError(f"{path} is not a SQLite database", hint="name the studio's own file")
    if int.from_bytes(header[68:72], "big") != APPLICATION_ID:
        raise StoreError(f"{path} is a SQLite database of another program",
                         hint="name the studio's own file; it makes a new one where there is none")


def file_system(path: Path) -> str | None:
    """The type of file system that `path` is or would be on, as the kernel names it; None where the kernel does not say (not Linux)."""
    try:
        mounts = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    target = Path(os.path.realpath(path))
    found: tuple[int, str] | None = None
    for line in mounts:                                             # id parent device root MOUNT options [fields...] - TYPE source options
        before, _, after = line.partition(" - ")
        mount = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), before.split(" ")[4]))
        if target.is_relative_to(mount) and (found is None or len(mount.parts) >= found[0]):
            found = len(mount.parts), after.split(" ")[0]           # the last of equals: a mount over a mount hides it
    return found[1] if found else None
