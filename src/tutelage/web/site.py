"""Where a web app is reached, and the guard before it: host, origin, size, headers."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tutelage.base.errors import ConfigError

MAX_BODY_BYTES = 4_000_000
"""Of any request: four times the longest text that people write or edit here."""
CSP = ("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
       "frame-ancestors 'none'; base-uri 'none'")
HEADERS = {
    "content-security-policy": CSP, "x-content-type-options": "nosniff", "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin", "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
SAFE_METHODS = ("GET", "HEAD")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True)
class Site:
    """host, port: where the server listens. public_url: how people reach it through a proxy with TLS; None: only this machine does."""

    host: str = "127.0.0.1"
    port: int = 8600
    public_url: str | None = None

    def __post_init__(self) -> None:
        if self.public_url is None and not is_loopback(self.host):
            raise ConfigError(f"--host {self.host} would send passwords over the network in the clear",
                              hint="put a proxy with TLS before it and say its address: --behind-tls https://studio.example.org")
        if self.public_url is not None:
            check_site_url(self.public_url, "give what people type, such as https://studio.example.org")

    @property
    def url(self) -> str:
        """How people reach it, without a slash at the end."""
        return self.public_url.rstrip("/") if self.public_url else f"http://{self._name}:{self.port}"

    @property
    def _name(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def origins(self) -> frozenset[str]:
        """Origins whose pages may send forms here, which are those that the Host header may name."""
        if self.public_url:
            return frozenset({self.url.lower()})
        return frozenset(f"http://{name}:{self.port}" for name in (*LOOPBACK, self._name))

    @property
    def cookie(self) -> str:
        """The session cookie's name; cookies know no ports, so two sites on this machine need two names."""
        return "__Host-tutelage" if self.public_url else f"tutelage-{self.port}"


def check_site_url(url: str, hint: str) -> None:
    """Raises: ConfigError unless --behind-tls names a site that speaks TLS, and no page of one."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or parts.path.strip("/") or parts.query or parts.username:
        raise ConfigError(f"--behind-tls {url} is not the address of a site", hint=hint)


def is_address(name: str) -> bool:
    """Whether a host is an IP address, not a name."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    return host == "localhost" or is_address(host) and ipaddress.ip_address(host).is_loopback


def bounded(receive: Receive, most: int, too_large: Callable[[], Exception]) -> Receive:
    """The body of a request, which raises `too_large` when more than `most` bytes came, whatever the length header said."""
    received = 0

    async def within() -> MutableMapping[str, Any]:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > most:
            raise too_large()
        return message

    return within


class Guard:
    """ASGI middleware that lets through only requests meant for this site, of a bounded size, and adds the security headers.

    The Host check stops pages that point a name of theirs at this machine (DNS rebinding); the origin check stops forms of other sites,
    sign-in forms included, which no session's token could protect.
    """

    def __init__(self, app: ASGIApp, site: Site) -> None:
        self.app, self.site = app, site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if self.site.public_url:
            # The proxy before us appends the address it was called from; what the caller wrote himself stands before it.
            forwarded = headers.get("x-forwarded-for", "").rsplit(",", 1)[-1].strip()
            scope["client"] = (forwarded, 0) if forwarded else scope.get("client")
            scope["scheme"] = "https"
        refusal = self._refusal(scope["method"], headers)
        if refusal is not None:
            await _plain(send, *refusal)
            return

        async def with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                extra = HEADERS | {"cache-control": "no-store"}
                if self.site.public_url:
                    extra["strict-transport-security"] = "max-age=31536000"
                added = [(name.encode(), value.encode()) for name, value in extra.items() if name.encode() not in present]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        await self.app(scope, bounded(receive, MAX_BODY_BYTES, TooLarge), with_headers)

    def _refusal(self, method: str, headers: dict[str, str]) -> tuple[int, str] | None:
        """(status, text) for a request that is not let through."""
        host = f"{'https' if self.site.public_url else 'http'}://{headers.get('host', '').lower()}"
        if host not in self.site.origins:
            return 421, f"This server is {self.site.url}; it does not answer for another host name."
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MAX_BODY_BYTES:
            return 413, f"Too large: at most {MAX_BODY_BYTES / 1e6:g} MB can be sent at once."
        if method in SAFE_METHODS:
            return None
        origin, fetch_site = headers.get("origin"), headers.get("sec-fetch-site")
        if (origin is not None and origin.lower() not in self.site.origins) or fetch_site in ("cross-site", "same-site"):
            return 403, "This form was sent from another site, so nothing was done."
        return None


class TooLarge(Exception):
    """More came than MAX_BODY_BYTES, whatever the length header said."""


async def _plain(send: Send, status: int, text: str) -> None:
    body = text.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode()),
               *((k.encode(), v.encode()) for k, v in HEADERS.items())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
