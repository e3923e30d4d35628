"""Requests to a server whose address somebody set: only to where they may go, for so long, of such a size.

A page that fetches what a user names can be turned on the machine's own network (server-side request forgery). So a name is resolved
here, once for each connection, every address it has is checked, and the connection goes to one of those: a name that changes its mind
between the check and the connection (DNS rebinding) gains nothing. Redirects are not followed and proxies of the environment not used.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from tutelage.base.errors import ConfigError, TutelageError
from tutelage.base.log import visible

MAX_BYTES = 4_000_000
"""Of an answer."""
CONNECT_SECONDS = 5.0
Reason = Literal["refused", "unreachable", "slow", "wrong"]
Resolve = Callable[..., Sequence[Any]]
IP = ipaddress.IPv4Address | ipaddress.IPv6Address
_CARRY_IPV4 = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "::/96", "::ffff:0:0:0/96")))
"""Networks whose addresses end in an IPv4 one: NAT64 (RFC 6052), IPv4-compatible (RFC 4291), IPv4-translated (RFC 2765)."""
_NOBODYS = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "64:ff9b:1::/48")))
"""The IETF's own, with a cloud's metadata at 192.0.0.192 (RFC 6890), and NAT64 within a site (RFC 8215); Python 3.11 calls them global."""
_open: set[socket.socket] = set()


class OutboundError(TutelageError):
    """No answer. reason: refused (may not go there), unreachable, slow (no time left), wrong (an error, or not what was asked for)."""

    def __init__(self, reason: Reason, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reason: Reason = reason


@dataclass(frozen=True)
class Server:
    """Where requests go. url: no slash at the end. by_operator: said on the command line by who runs this process, who may name this
    machine and the local network; anybody else may name public addresses with TLS only. key: sent as a bearer token, to this server only.
    """

    url: str
    by_operator: bool = False
    key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            whole = bool(parts.hostname) and (parts.port is None or parts.port > 0)
            (parts.hostname or "").encode("idna")
        except ValueError as error:
            raise ConfigError(f"{visible(self.url)[:200]} is not the address of a server: {error}") from error
        plain = re.fullmatch(r"[!-~]{1,500}", self.url) and not (parts.query or parts.fragment or "@" in parts.netloc)
        if not whole or not plain or parts.scheme not in ("http", "https") or self.url.endswith("/"):
            raise ConfigError(f"{visible(self.url)[:200]} is not the address of a server",
                              hint="give a scheme, a host and a path, such as https://models.example.org/v1")
        if parts.scheme == "http" and not self.by_operator:
            raise ConfigError("what people write would travel in the clear", hint="give an https:// address")

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def tls(self) -> bool:
        return urlsplit(self.url).scheme == "https"

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or (443 if self.tls else 80)


def may_reach(address: IP, *, by_operator: bool) -> bool:
    """Whether requests may go to an IP address. Addresses of cloud metadata are link-local: nobody may name them."""
    within = _embedded(address)
    if within is not None and not may_reach(within, by_operator=by_operator):
        return False
    if address.is_link_local or address.is_multicast or address.is_unspecified or any(address in network for network in _NOBODYS):
        return False
    return by_operator or (address.is_global and not (isinstance(address, ipaddress.IPv6Address) and address.is_site_local))


def _embedded(address: IP) -> IP | None:
    """The IPv4 address that an IPv6 address carries traffic to."""
    if not isinstance(address, ipaddress.IPv6Address):
        return None
    if any(address in network for network in _CARRY_IPV4):
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]


def addresses(server: Server, resolve: Resolve = socket.getaddrinfo) -> list[str]:
    """The IP addresses of a server, all checked. Raises: OutboundError when it has none, or one where requests may not go."""
    try:
        found = [str(row[4][0]) for row in resolve(server.host, server.port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError) as error:
        raise OutboundError("unreachable", f"no address is known for {server.host}", hint="check its name") from error
    for address in found:
        if not may_reach(ipaddress.ip_address(address), by_operator=server.by_operator):
            raise OutboundError("refused", f"{server.host} leads to where requests of this server may not go",
                                hint="whoever runs the studio can name a server on this machine or network: tutelage studio --models URL")
    return list(dict.fromkeys(found))


def ask(server: Server, path: str, body: Any = None, *, seconds: float, max_bytes: int = MAX_BYTES,
        resolve: Resolve = socket.getaddrinfo) -> dict[str, Any]:
    """The JSON object at a path below the server's address. body: sent as JSON by POST; None: GET.

    seconds: for everything after the name is resolved. Raises: OutboundError.
    """
    found = addresses(server, resolve)
    data = None if body is None else json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
    headers = {"Accept": "application/json", "Accept-Encoding": "identity", "Connection": "close", "User-Agent": "tutelage"}
    headers |= {"Content-Type": "application/json"} if data is not None else {}
    headers |= {"Authorization": f"Bearer {server.key}"} if server.key else {}
    with _connected(server, found, seconds) as sock:
        late = threading.Event()
        timer = threading.Timer(seconds, _end, (sock, late))        # bytes that come slowly one by one would outlast any socket's timeout
        timer.daemon = True
        timer.start()
        _open.add(sock)
        try:
            if isinstance(sock, ssl.SSLSocket):
                sock.do_handshake()
            connection = (http.client.HTTPSConnection if server.tls else http.client.HTTPConnection)(server.host, server.port)
            connection.sock = sock
            connection.request("GET" if data is None else "POST", urlsplit(server.url).path + path, data, headers)
            answer = connection.getresponse()
            given = answer.read(max_bytes + 1)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if not late.is_set() and not isinstance(error, TimeoutError):
                raise OutboundError("unreachable", f"the connection failed: {visible(str(error))[:200] or type(error).__name__}") from error
            late.set()
        finally:
            timer.cancel()
            _open.discard(sock)
    if late.is_set():
        raise OutboundError("slow", f"no whole answer within {seconds:g} s")
    return _object(answer.status, given, max_bytes)


@contextlib.contextmanager
def _connected(server: Server, found: Sequence[str], seconds: float) -> Iterator[socket.socket]:
    """A connection to the first address that takes one; addresses, not the name, which is not asked again. TLS has not shaken hands."""
    failed: OSError | None = None
    for address in found:
        try:
            sock = socket.create_connection((address, server.port), min(CONNECT_SECONDS, seconds))
        except OSError as error:
            failed = error
            continue
        sock.settimeout(seconds)
        if server.tls:
            sock = ssl.create_default_context().wrap_socket(sock, server_hostname=server.host, do_handshake_on_connect=False)
        with sock:
            yield sock
        return
    raise OutboundError("unreachable", f"nothing answers at {server.host} port {server.port}",
                        hint="is the server running? look at the address") from failed


def hang_up() -> None:
    """End all requests of this process, which is about to end itself: no model that is slow keeps it."""
    for sock in tuple(_open):
        _shut(sock)


def _end(sock: socket.socket, late: threading.Event) -> None:
    late.set()
    _shut(sock)


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _object(status: int, given: bytes, max_bytes: int) -> dict[str, Any]:
    if len(given) > max_bytes:
        raise OutboundError("wrong", f"the answer is larger than {max_bytes:,} bytes")
    if 300 <= status < 400:
        raise OutboundError("wrong", f"it answered {status}: redirects are not followed", hint="give the address it leads to")
    try:
        document = json.loads(given)
    except (ValueError, RecursionError):
        document = None
    if status != 200:
        said = document.get("error") if isinstance(document, dict) else None
        said = said.get("message") if isinstance(said, dict) else said
        raise OutboundError("wrong", f"it answered {status}" + (f": {visible(str(said))[:300]}" if said else ""))
    if not isinstance(document, dict):
        raise OutboundError("wrong", "the answer is not a JSON object", hint="does the address end with /v1?")
    return document
