"""One thread that writes. Work that waits together is committed together, so that one fsync serves many."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine

from .errors import StoreError, keeps_writes

MAX_GROUP = 256                                                     # works that share a commit
MAX_GROUP_SECONDS = 0.05                                            # and for how long one may be gathered

Work = Callable[[Connection], Any]


@dataclass
class _Waiting:
    work: Work
    future: Future[Any] | asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None


class Writer:
    """Runs works one after another, each in a savepoint of its own, and answers when the group they were in is on disk.

    A work may run a second time, when the group it was in failed at another's doing: it must not act on anything but its connection.
    """

    def __init__(self, engine: Engine, explain: Callable[[BaseException], BaseException]) -> None:
        """engine: its connections begin transactions that lock others out. explain: what a database's error is to the user."""
        self._engine, self._explain = engine, explain
        self._waiting: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Work) -> Future[Any]:
        """Queue a work. The future holds what it returned, once that is committed and fsynced."""
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()                       # from here on it is done, whether or not the asker still waits
        self._put(_Waiting(work, future))
        return future

    def submit_async(self, work: Work) -> asyncio.Future[Any]:
        """The same for the running event loop, whose futures of one group are answered in one call."""
        future = asyncio.get_running_loop().create_future()
        self._put(_Waiting(work, future))
        return future

    def _put(self, waiting: _Waiting) -> None:
        with self._lock:
            if self._closed:
                raise StoreError("the store is closed", hint="it was asked to write after it was shut down")
            self._waiting.put(waiting)

    def is_current(self) -> bool:
        """Whether the caller runs on the writer's own thread."""
        return self._thread is threading.current_thread()

    def close(self) -> None:
        """Finish what is queued, then stop."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            group = [first]
            try:
                conn = self._gather(group)
                try:
                    self._commit(conn)
                except BaseException as error:
                    if self._engine.dialect.name == "postgresql":   # it may have been committed before the link broke: do not do it twice
                        raise _Doubtful from error
                    raise
            except _Doubtful as doubt:
                _fail(group, self._explain(doubt.__cause__ or doubt))
            except BaseException as error:
                self._one_by_one(group, error)
            _answer(group)

    def _gather(self, group: list[_Waiting]) -> Connection:
        """Run the first work and all that arrived meanwhile, in one transaction, which is returned open."""
        conn = self._engine.connect()
        try:
            conn.begin()
            until = time.monotonic() + MAX_GROUP_SECONDS
            self._attempt(conn, group[0])
            while len(group) < MAX_GROUP and time.monotonic() < until:
                try:
                    waiting = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if waiting is None:
                    self._waiting.put(None)                         # close() came: this group is the last
                    break
                group.append(waiting)
                self._attempt(conn, waiting)
            return conn
        except BaseException:
            _drop(conn)
            raise

    def _attempt(self, conn: Connection, waiting: _Waiting) -> None:
        """Run one work in a savepoint. Raises only what ended the whole transaction."""
        driver: Any = conn.connection.driver_connection
        driver.execute("SAVEPOINT work")
        try:
            waiting.result, waiting.error = waiting.work(conn), None
        except BaseException as error:
            waiting.result, waiting.error = None, self._explain(error)
            if not keeps_writes(error):
                try:
                    driver.execute("ROLLBACK TO SAVEPOINT work")
                except Exception:                                   # the error took the transaction with it: disk full, link lost
                    raise error from None
        driver.execute("RELEASE SAVEPOINT work")

    def _commit(self, conn: Connection) -> None:
        try:
            conn.commit()
            conn.close()
        except BaseException:
            _drop(conn)
            raise

    def _one_by_one(self, group: list[_Waiting], error: BaseException) -> None:
        """The group's transaction is lost. Each work gets one of its own, so that only what cannot be written fails."""
        if len(group) == 1:
            return _fail(group, self._explain(error))
        for waiting in group:
            try:
                conn = self._engine.connect()
                try:
                    conn.begin()
                    self._attempt(conn, waiting)
                except BaseException:
                    _drop(conn)
                    raise
                self._commit(conn)
            except BaseException as again:
                waiting.error = self._explain(again)


class _Doubtful(Exception):
    """A commit that failed without saying whether it had happened."""


def _fail(group: list[_Waiting], error: BaseException) -> None:
    for waiting in group:
        waiting.error = error


def _drop(conn: Connection) -> None:
    """Give up a connection whose transaction failed; the next group gets another."""
    try:
        conn.invalidate()
    finally:
        conn.close()


def _answer(group: list[_Waiting]) -> None:
    loops: dict[asyncio.AbstractEventLoop, list[_Waiting]] = {}
    for waiting in group:
        if isinstance(waiting.future, asyncio.Future):
            loops.setdefault(waiting.future.get_loop(), []).append(waiting)
        else:
            _tell([waiting])
    for loop, waiters in loops.items():
        try:
            loop.call_soon_threadsafe(_tell, waiters)
        except RuntimeError:                                        # the loop was closed: nobody waits any more
            pass


def _tell(group: list[_Waiting]) -> None:
    for waiting in group:
        if waiting.future.done():                                   # cancelled: the work is done all the same
            continue
        if waiting.error is not None:
            waiting.future.set_exception(waiting.error)
        else:
            waiting.future.set_result(waiting.result)
