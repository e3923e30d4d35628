"""The socket that a server of ours listens on."""

from __future__ import annotations

import socket

from tutelage.base.errors import ConfigError


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one. Who connects before the server is up waits. Raises: ConfigError."""
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=512)
    except OSError as error:
        raise ConfigError(f"cannot listen at {host} port {port}: {error.strerror or error}",
                          hint="choose another --port (0 takes a free one), or an address of this machine") from error
    # Connections inherit it. asyncio, which sets it on its own, overlooks sockets made here; without it a whole answer waits 40 ms for
    # the client's acknowledgement of its header.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
