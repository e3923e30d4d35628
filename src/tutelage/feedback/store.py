"""The store of prompts, answers, tasks and judgements: SQLite by default, PostgreSQL by address.

Every write goes through one thread (writer.py), which commits in groups: `write` returns when what it wrote is on disk. On SQLite a group
begins with BEGIN IMMEDIATE, on PostgreSQL with an advisory lock, so that writes of all processes happen one after another on both and
what the queue proves of itself on one holds on the other. Reads see one moment of the database and never wait for a write.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError

from ..base.files import atomic_path, fsync
from . import migrations
from .content import holdable, record_audit
from .errors import StoreError
from .find import add_functions
from .location import APPLICATION_ID, check_file, locate, need_psycopg, shown
from .schema import metadata
from .writer import Writer

T = TypeVar("T")
OLDEST_SQLITE = (3, 35)                                             # RETURNING
BUSY_SECONDS = 30
WRITE_LOCK = 0x5475_746C_6167_6501                                  # PostgreSQL's advisory lock that stands for BEGIN IMMEDIATE


class Store:
    """An open database. `read()` and `write(work)` are all there is to it; what can be asked and done is in the rooms' functions."""

    def __init__(self, url: URL, clock: Callable[[], float]) -> None:
        self.url, self._clock = url, clock
        self._reader, writing = _engines(url)
        self._engines = self._reader, writing
        self._writer = Writer(writing, self._explain)

    @classmethod
    def open(cls, url: str | Path | None = None, *, clock: Callable[[], float] = time.time, make: bool = True) -> Store:
        """Open the database, made or brought to this version's tables first.

        Args: url: a SQLite file or postgresql://...; None: TUTELAGE_DATABASE_URL, else studio.db in the user's data folder.
            clock: UTC seconds. make: a SQLite file that is not there is made, else refused: whoever only reads has mistyped its name.
        Raises: StoreError when it is from a newer version, of another program, on a network file system or cannot be reached.
        """
        at = locate(url)
        if at.get_backend_name() == "sqlite":
            path = Path(str(at.database))
            if not make and not path.exists():
                raise StoreError(f"there is no database {path}",
                                 hint="name it with --db; `tutelage feedback import` and `tutelage studio` make one")
            _prepare_sqlite(path)
        else:
            need_psycopg()
            _prepare_postgresql(at)
        return cls(at, clock)

    def now(self) -> float:
        """UTC seconds since 1970, by the store's clock."""
        return self._clock()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that cannot write and sees the database as it was when it began."""
        try:
            with self._reader.connect() as conn, conn.begin():
                yield conn
        except Exception as error:
            told = self._explain(error)
            raise told from (error if told is not error else None)

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on the writer's connection; return what it returned once it is on disk.

        An exception undoes what this work wrote and nothing else, and is raised here. The work may run twice, so it must only act on the
        connection. Raises: StoreError when it could not be written (disk full, read-only, link lost): then it is not there.
        """
        if self._writer.is_current():
            raise RuntimeError("write() inside a work: use the connection it was given")
        return self._writer.submit(work).result()

    async def write_async(self, work: Callable[[Connection], T]) -> T:
        """`write` for an event loop. The write happens even when the waiting task is cancelled."""
        made: T = await self._writer.submit_async(work)
        return made

    def backup(self, path: Path) -> Path:
        """Copy the database, as it is now, to a new file, while it is in use. To restore: `Store.open` it, or put it in the other's place.

        Raises: StoreError when the file exists, the copy cannot be written or does not pass SQLite's check, or the store is on PostgreSQL.
        """
        path = Path(path)
        if self.url.get_backend_name() != "sqlite":
            raise StoreError("a PostgreSQL database is backed up with its own tools",
                             hint=f"pg_dump --format=custom --file {path} '{shown(self.url.set(drivername='postgresql'))}'")
        if path.is_symlink() or path.exists():                      # a link to nowhere, too: it would be replaced, and its target noted
            raise StoreError(f"{path} exists", hint="name a new file: a backup never takes the place of another")
        if holdable(str(path.resolve())) != str(path.resolve()):
            raise StoreError(f"{str(path)!r} is no name in UTF-8", hint="name the backup in letters that UTF-8 has")
        # Noted before a byte is written, so that an erasure names what was cut off, too.
        self.write(lambda conn: record_audit(conn, action="backup", now=self.now(), subject=path.name, path=str(path.resolve())))
        try:
            with atomic_path(path) as aside:
                aside.touch(mode=0o600)
                source = sqlite3.connect(f"file:{_quoted(str(self.url.database))}?mode=ro", uri=True, timeout=BUSY_SECONDS)
                try:
                    source.execute("VACUUM INTO ?", (str(aside),))   # one read transaction; no freed page, so nothing erased, comes along
                finally:
                    source.close()
                _check_copy(aside)
        except sqlite3.Error as error:
            raise StoreError(f"{path}: the backup failed: {error}",
                             hint="look at the disk's free space; the store itself is untouched") from error
        return path

    def scrub(self) -> str | None:
        """Write the database anew without freed pages, which still hold what was erased. Returns why it could not be done now, else None.

        SQLite: VACUUM, and the log emptied; PostgreSQL: VACUUM FULL of every table, which waits for whoever uses one,
        and of its statistics, which hold samples of the columns.
        """
        if self.url.get_backend_name() == "sqlite":
            return _scrub_sqlite(Path(str(self.url.database)))
        engine = create_engine(self.url, isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as conn:
                for table in metadata.sorted_tables:
                    conn.exec_driver_sql(f"VACUUM (FULL, ANALYZE) {table.name}")
                conn.exec_driver_sql("VACUUM FULL pg_statistic")
        except DBAPIError as error:
            return str(self._explain(error))
        finally:
            engine.dispose()
        return None

    def close(self) -> None:
        """Finish the queued writes and let go of the database."""
        self._writer.close()
        for engine in self._engines:
            engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _explain(self, error: BaseException) -> BaseException:
        return explain(error, shown(self.url))


def explain(error: BaseException, where: str) -> BaseException:
    """A database's error as one line with a remedy; others as they are."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    if isinstance(cause, sqlite3.Error):
        code = getattr(cause, "sqlite_errorname", "")
    elif hasattr(cause, "sqlstate"):                                # psycopg's, whose failed connections have no state
        code = cause.sqlstate or type(cause).__name__
    else:
        return error
    for prefixes, message, hint in _REMEDIES:
        if code.startswith(prefixes):
            told = StoreError(f"{where}: {message}", hint=hint, what=message)
            told.__cause__ = error
            return told
    return error


_REMEDIES = (
    (("SQLITE_FULL", "53100"), "the disk is full; this was not saved", "make room, then send it again: the store goes on by itself"),
    (("SQLITE_READONLY", "SQLITE_PERM", "25006", "42501"), "the database is read-only; this was not saved",
     "check the file's and its folder's owner and whether the disk is mounted read-only"),
    (("SQLITE_IOERR",), "the disk could not be written or read; this was not saved",
     "look at the disk (full, quota, failing), then send it again"),
    (("SQLITE_BUSY", "SQLITE_LOCKED"), f"another process held the database for {BUSY_SECONDS} s; this was not saved",
     "look for a process that writes to it for long, then send it again"),
    (("SQLITE_CANTOPEN",), "the database cannot be opened", "check that its folder exists and may be written"),
    (("SQLITE_CORRUPT", "SQLITE_NOTADB"), "the database is damaged", "stop, keep the file, and restore the last backup (docs/store.md)"),
    (("OperationalError", "08", "57P", "3D", "28"), "the database server cannot be reached or refuses",
     "check the address, the user and the server, then send it again: the store connects by itself"),
)


def _engines(url: URL) -> tuple[Engine, Engine]:
    """(reader, writer): transactions of the first cannot write, those of the second begin alone."""
    if url.get_backend_name() == "sqlite":
        reader = create_engine(url, pool_size=8, max_overflow=32, pool_timeout=BUSY_SECONDS, connect_args={"timeout": BUSY_SECONDS})
        writer = create_engine(url, pool_size=1, max_overflow=0, pool_reset_on_return=None, connect_args={"timeout": BUSY_SECONDS})
        event.listen(reader, "connect", lambda connection, _: _pragmas(connection, "query_only=ON"))
        event.listen(writer, "connect", lambda connection, _: _pragmas(connection))
        event.listen(reader, "connect", lambda connection, _: add_functions(connection))
        event.listen(reader, "begin", lambda conn: conn.exec_driver_sql("BEGIN"))
        event.listen(writer, "begin", lambda conn: conn.exec_driver_sql("BEGIN IMMEDIATE"))
    else:
        reader = create_engine(url, pool_size=8, max_overflow=32, pool_pre_ping=True, isolation_level="REPEATABLE READ")
        reader = reader.execution_options(postgresql_readonly=True)
        writer = create_engine(url, pool_size=1, max_overflow=0, pool_reset_on_return=None, pool_pre_ping=True)
        # Every question the queue asks has its index; a planner that has not counted the table yet would rather read all of it. One that
        # may not do so calls what is left without an index so dear that it is compiled first, for 50 ms.
        event.listen(writer, "begin", lambda conn: conn.exec_driver_sql(
            f"SELECT pg_advisory_xact_lock({WRITE_LOCK}), set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true)"))
    return reader, writer


def _pragmas(connection: Any, *more: str) -> None:
    connection.isolation_level = None                               # the driver begins nothing by itself
    for pragma in ("synchronous=FULL", "fullfsync=ON", "foreign_keys=ON", *more):    # fullfsync: on macOS fsync alone stops short
        connection.execute(f"PRAGMA {pragma}")


def _prepare_sqlite(path: Path) -> None:
    """Make the file, or check it and bring it to this version."""
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise StoreError(f"SQLite {sqlite3.sqlite_version} is too old, {'.'.join(map(str, OLDEST_SQLITE))} is needed",
                         hint="use a newer Python or set TUTELAGE_DATABASE_URL to a PostgreSQL database")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        check_file(path)
        if not path.exists():
            _create_sqlite(path)
        else:
            _migrate_sqlite(path)
    except OSError as error:
        raise StoreError(f"{path} cannot be made: {error.strerror}", hint="check that its folder may be written") from error
    except (DBAPIError, sqlite3.Error) as error:
        raise explain(error, str(path)) from error


def _create_sqlite(path: Path) -> None:
    """A new database, made aside and linked into place whole: a file that is there is never half-made, whoever else makes it too."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)   # readable by its owner only
    os.close(handle)
    aside = Path(name)
    try:
        connection = sqlite3.connect(aside)
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
        _migrate_sqlite(aside)
        fsync(aside)
        try:
            os.link(aside, path)
        except FileExistsError:
            _migrate_sqlite(path)                                   # another process was quicker
        fsync(path.parent)
    finally:
        for suffix in ("", "-wal", "-shm"):
            Path(name + suffix).unlink(missing_ok=True)


def _migrate_sqlite(path: Path) -> None:
    engine = create_engine(URL.create("sqlite", database=str(path)), connect_args={"timeout": BUSY_SECONDS})
    # Off while tables are copied, which foreign keys would take for deletions; checked before the commit.
    event.listen(engine, "connect", lambda connection, _: _pragmas(connection, "foreign_keys=OFF"))
    event.listen(engine, "begin", lambda conn: conn.exec_driver_sql("BEGIN IMMEDIATE"))
    try:
        with engine.begin() as conn:
            migrations.upgrade(conn)
            orphan = conn.exec_driver_sql("PRAGMA foreign_key_check").first()
            if orphan:
                raise StoreError(f"{path}: a row of {orphan[0]} refers to none in {orphan[2]}; the database was left as it was",
                                 hint="restore the last backup, or report this with the database's revision")
    finally:
        engine.dispose()


def _prepare_postgresql(url: URL) -> None:
    engine = _engines(url)[1]
    try:
        with engine.begin() as conn:
            migrations.upgrade(conn)
    except DBAPIError as error:
        raise explain(error, shown(url)) from error
    finally:
        engine.dispose()


def _scrub_sqlite(path: Path) -> str | None:
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("VACUUM")                                # into the log; the checkpoint writes it over every page of the file
        busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    except sqlite3.Error as error:
        return str(explain(error, str(path)))
    finally:
        connection.close()
    return "somebody reads the database without end, so its log could not be emptied" if busy else None


def _check_copy(path: Path) -> None:
    connection = sqlite3.connect(path)
    try:
        found = connection.execute("PRAGMA quick_check").fetchone()[0]
        connection.execute("PRAGMA journal_mode=WAL")               # the copy is as ready for use as the original
    finally:
        connection.close()
    if found != "ok":
        raise StoreError(f"the copy is damaged: {found}",
                         hint="the database itself may be damaged: stop the studio, keep its files and look at earlier backups")


def _quoted(path: str) -> str:
    from urllib.parse import quote

    return quote(os.path.abspath(path))
