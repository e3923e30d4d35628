"""Before the app: whose server this is called, how much may be sent, and the key."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from urllib.parse import urlsplit

from tutelage.base.errors import ConfigError
from tutelage.web.site import ASGIApp, Receive, Scope, Send, bounded, check_site_url, is_address, is_loopback

from .errors import Refusal

MAX_BODY_BYTES = 1_000_000
OPEN = ("/healthz",)
"""Paths that need no key."""


@dataclass(frozen=True)
class Door:
    """host, port: where the server listens. public_url: how it is reached through a proxy with TLS. api_key: what clients must show."""

    host: str = "127.0.0.1"
    port: int = 8100
    public_url: str | None = None
    api_key: str | None = None

    def __post_init__(self) -> None:
        if self.public_url is not None:
            check_site_url(self.public_url, "give what clients use, such as https://models.example.org")
        if not is_loopback(self.host) and (self.public_url is None or self.api_key is None):
            raise ConfigError(f"--host {self.host} would let the whole network use the models",
                              hint="put a proxy with TLS before it, and a key: --behind-tls https://models.example.org --api-key-env NAME")

    @property
    def url(self) -> str:
        """Where OpenAI clients find it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.public_url.rstrip('/') if self.public_url else f'http://{host}:{self.port}'}/v1"

    def knows(self, host_header: str) -> bool:
        """Whether a Host header means this server. A page whose name was pointed here (DNS rebinding) sends a name; it cannot send an
        address, so any address will do."""
        try:
            name = urlsplit(f"//{host_header}").hostname or ""
        except ValueError:                                          # such as half a bracket
            return False
        return name in ("localhost", urlsplit(self.public_url or "").hostname) or is_address(name)

    def opens_to(self, authorization: str) -> bool:
        """Whether the Authorization header shows the key, or none is needed."""
        return self.api_key is None or hmac.compare_digest(authorization.encode(), f"Bearer {self.api_key}".encode())


class Guard:
    """ASGI middleware that lets through only requests meant for this server, of a bounded size, with the key."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self.app, self.door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope["path"], {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]})
        if refusal is not None:
            await refusal.response()(scope, receive, send)
            return
        await self.app(scope, bounded(receive, MAX_BODY_BYTES, _too_large), send)

    def _refusal(self, path: str, headers: dict[str, str]) -> Refusal | None:
        if not self.door.knows(headers.get("host", "")):
            return Refusal(421, f"this server is {self.door.url}; it does not answer for another host name", code="wrong_host")
        if path not in OPEN and not self.door.opens_to(headers.get("authorization", "")):
            return Refusal(401, "a wrong API key, or none; send it as Authorization: Bearer KEY", code="invalid_api_key",
                           headers={"WWW-Authenticate": "Bearer"})
        return None


def _too_large() -> Refusal:
    return Refusal(413, f"the body is larger than {MAX_BODY_BYTES:,} bytes; send less at once", code="too_large")
