"""The process: a socket, the models, and an orderly end."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from types import FrameType

import uvicorn

from tutelage.base.log import get_logger
from tutelage.web.server import Server, config

from .app import Served, create_app
from .guard import Door
from .metrics import Metrics
from .served import Judge, Speaker
from .worker import Worker

log = get_logger("serve")

GRACE_SECONDS = 10
"""After SIGTERM: for the answers that have begun."""


def serve(speakers: Sequence[Speaker], judge: Judge | None, door: Door, listener: socket.socket, *, max_rows: int, max_waiting: int,
          max_tokens: int, ready: Callable[[], object]) -> None:
    """Answer requests until SIGTERM or Ctrl-C; then refuse what waits and finish what has begun. `ready` is called once it runs."""
    metrics = Metrics()
    for identity in (*(speaker.identity for speaker in speakers), *([judge.identity] if judge else [])):
        metrics.set("tutelage_info", 1, model=identity.name, kind=identity.kind, sha256=identity.sha256)
        log.info("%s: %s %s%s", identity.name, identity.kind, identity.sha256[:12], f", run {identity.run}" if identity.run else "")
    worker = Worker(speakers, metrics, max_rows=max_rows, max_waiting=max_waiting)
    worker.start()
    served = Served({speaker.identity.name: speaker for speaker in speakers}, judge, worker, metrics, max_tokens)
    options = config(create_app(served, door), grace_seconds=GRACE_SECONDS, log_config=None, log_level="critical", ws="none",
                     lifespan="off")
    try:
        _Server(options, worker, ready).run([listener])
    finally:
        worker.stop()
        served.clerk.shutdown()
    log.info("stopped")


class _Server(Server):
    """Tells the worker when it has begun to stop. A signal is its orderly end, so it is not raised again afterwards."""

    def __init__(self, options: uvicorn.Config, worker: Worker, ready: Callable[[], object]) -> None:
        super().__init__(options)
        self.worker, self.ready = worker, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        log.info("stopping; answers that have begun have %d seconds", GRACE_SECONDS)
        self.worker.drain()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit                          # a second one means now
        self.should_exit = True
