"""The process that answers: uvicorn, with an end to its patience. Who opens connections and sends nothing keeps nobody else out."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from tutelage.base.log import get_logger

log = get_logger("web")

KEEP_ALIVE_SECONDS = 75
"""A person reads for longer than the 5 seconds after which uvicorn would close the connection."""
HEAD_SECONDS, BODY_SECONDS = 15.0, 120.0
"""Within which the head of a request must have come, counted from its first byte or the opening; and its body, which may be a file."""
_AT_ONCE, _WAITING = 128, 512
"""Connections taken in one turn of the event loop; that wait in the kernel."""
_OTHER_FILES = 256
"""Descriptors for databases, uploads, trainings."""
_SAID_EVERY_SECONDS = 60.0


def serve(app: Any, listener: socket.socket) -> None:
    """Answer until SIGTERM or Ctrl-C; what has begun has five seconds to end."""
    Server(config(app, grace_seconds=5, log_level="warning")).run(sockets=[listener])


def config(app: Any, *, grace_seconds: int, **options: Any) -> uvicorn.Config:
    """Of a `Server`; grace_seconds: for what has begun when it is to stop."""
    return uvicorn.Config(app, http=Connection, backlog=_AT_ONCE, access_log=False, server_header=False, proxy_headers=False,
                          timeout_graceful_shutdown=grace_seconds, timeout_keep_alive=KEEP_ALIVE_SECONDS, **options)


def most_connections(descriptors: int) -> int:
    """How many may be open of a process that may hold so many descriptors: those of two turns, and other files, fit beside them."""
    return max(32, descriptors - 2 * _AT_ONCE - _OTHER_FILES)


class Server(uvicorn.Server):
    """Waits for descriptors quietly where there are none left."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for one in sockets or ():
            one.listen(_WAITING)                                     # asyncio has set it to what it takes at once
        self._said = -_SAID_EVERY_SECONDS
        asyncio.get_running_loop().set_exception_handler(self._tell)

    def _tell(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """asyncio tries to accept again each second, and would tell each time, with a traceback for every connection that waits."""
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in (errno.EMFILE, errno.ENFILE):
            loop.default_exception_handler(context)
        elif loop.time() - self._said >= _SAID_EVERY_SECONDS:
            self._said = loop.time()
            log.warning("no file descriptor is left for another connection (ulimit -n); those who connect wait")


class Connection(H11Protocol):
    """One connection, closed when a request does not come to its end. Where there are too many, the one idle longest makes room."""

    _awaited: str | None = None
    _timer: asyncio.TimerHandle | None = None
    _since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if soft != resource.RLIM_INFINITY and len(self.connections) > most_connections(soft):
            idle = [one for one in self.connections if isinstance(one, Connection) and one.is_idle and not one.transport.is_closing()]
            min(idle, key=lambda one: one._since, default=self).transport.abort()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered: none began, its head has not come whole, or the last one was answered."""
        return self.cycle is None or self.cycle.response_complete

    def _watch(self) -> None:
        """Begin to wait for what is to come now. More bytes of the same do not move its end."""
        awaited = "head" if self.is_idle else "body" if self.cycle.more_body else None
        if awaited != self._awaited or awaited is None:
            self._stop()
            self._awaited, self._since = awaited, self.loop.time()
            if awaited is not None:
                self._timer = self.loop.call_later(HEAD_SECONDS if awaited == "head" else BODY_SECONDS, self._give_up)

    def on_response_complete(self) -> None:
        self._stop()                                                 # from here on the wait is for another request, uvicorn's to end
        self._since = self.loop.time()
        super().on_response_complete()

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()

    def _stop(self) -> None:
        self._awaited = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
