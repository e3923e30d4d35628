"""Requests to an address somebody set: where they may go, and what servers that mean ill get from them. Real sockets."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tutelage.base.errors import ConfigError
from tutelage.web import outbound
from tutelage.web.outbound import OutboundError, Server, ask, may_reach


def whole_request(connection: socket.socket) -> bytes:
    """Head and body, which may come apart; closing with bytes unread would reset the connection before the answer is read."""
    got = b""
    while part := connection.recv(65536):
        got += part
        head, end, body = got.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.I)
        if not got.startswith((b"GET ", b"POST ")) or (end and len(body) >= (int(length[1]) if length else 0)):
            break
    return got


class Local:
    """A server on this machine that does what a function says with each connection, once it has read the request's head."""

    def __init__(self, act: Callable[[socket.socket], object]) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port, self.act, self.heads = self.listener.getsockname()[1], act, list[str]()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self.heads.append(whole_request(connection).decode("latin-1"))
            self.act(connection)


@pytest.fixture
def local() -> Iterator[Callable[..., Local]]:
    running = []

    def start(act: Callable[[socket.socket], object] | bytes) -> Local:
        running.append(server := Local(act if callable(act) else lambda connection: connection.sendall(act)))
        return server

    yield start
    for server in running:
        server.listener.close()


def answer(body: bytes, status: str = "200 OK", *more: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *more]
    return "\r\n".join([*head, "", ""]).encode() + body


def refused(server: Server, **options: object) -> OutboundError:
    with pytest.raises(OutboundError) as caught:
        ask(server, "/x", {}, **{"seconds": 5.0} | options)
    return caught.value


def here(port: int, scheme: str = "http") -> Server:
    return Server(f"{scheme}://127.0.0.1:{port}/v1", by_operator=True)


# Addresses of RFC 6890 and of the clouds' metadata services, and IPv6 addresses that carry to one of them.
@pytest.mark.parametrize("address", [
    "127.0.0.1", "127.9.9.9", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.100.100.200", "0.0.0.0", "0.1.2.3",
    "224.0.0.1", "255.255.255.255", "198.18.0.1", "192.0.2.1", "240.0.0.1", "::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1",
    "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a9fe:a9fe::",
    "2001:0:4136:e378:8000:63bf:80ff:fffe", "2001:db8::1",
    "::127.0.0.1", "::169.254.169.254", "::ffff:0:127.0.0.1", "64:ff9b:1::7f00:1", "fec0::1", "192.0.0.192"])
def test_an_address_set_in_the_web_reaches_nothing_of_this_machine_or_network(address):
    assert not may_reach(ipaddress.ip_address(address), by_operator=False)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "64:ff9b::5db8:d822", "::ffff:0:93.184.216.34"])
def test_public_addresses_are_reached(address):
    assert may_reach(ipaddress.ip_address(address), by_operator=False)


@pytest.mark.parametrize(("address", "may"), [("127.0.0.1", True), ("::1", True), ("192.168.1.9", True), ("169.254.169.254", False),
                                              ("fe80::1", False), ("::ffff:169.254.169.254", False), ("0.0.0.0", False),
                                              ("::169.254.169.254", False), ("192.0.0.192", False), ("fec0::1", True)])
def test_the_operator_may_name_this_machine_and_network_but_not_the_metadata(address, may):
    assert may_reach(ipaddress.ip_address(address), by_operator=True) == may


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1", "[::1]", "[::ffff:7f00:1]"])
def test_no_spelling_of_this_machine_gets_past_the_check(local, host):
    server = local(answer(b"{}"))
    error = refused(Server(f"https://{host}:{server.port}/v1"))
    assert error.reason in ("refused", "unreachable") and server.heads == [] and "--models" in (error.hint or "--models")


def test_a_name_that_changes_its_mind_after_the_check_gains_nothing(local, monkeypatch):
    server, tried = local(answer(b"{}")), []
    replies = [["93.184.216.34"], ["127.0.0.1"], ["127.0.0.1"]]

    def resolve(host, port, **_):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in replies.pop(0)]

    def connect(address, timeout):
        tried.append(address[0])
        raise ConnectionRefusedError

    rebound = Server(f"https://rebound.example:{server.port}/v1")
    with monkeypatch.context() as patched:
        patched.setattr(outbound.socket, "create_connection", connect)
        assert refused(rebound, resolve=resolve).reason == "unreachable"
    assert tried == ["93.184.216.34"], "the address that was checked, not the name"
    assert refused(rebound, resolve=resolve).reason == "refused" and server.heads == []


def test_one_bad_address_among_good_ones_is_enough():
    rows = [(0, 0, 0, "", (address, 443)) for address in ("93.184.216.34", "10.0.0.1")]
    assert refused(Server("https://a.example/v1"), resolve=lambda *_, **__: rows).reason == "refused"


def test_a_redirect_is_not_followed(local):
    other = local(answer(b"{}"))
    first = local(answer(b"", "307 Temporary Redirect", f"location: http://127.0.0.1:{other.port}/v1/x"))
    error = refused(here(first.port))
    assert error.reason == "wrong" and "redirects" in str(error) and other.heads == []


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_server_that_says_nothing_is_given_up_in_time(local, scheme):
    server, began = local(lambda connection: time.sleep(20)), time.monotonic()
    assert refused(here(server.port, scheme), seconds=0.4).reason == "slow" and time.monotonic() - began < 15


@pytest.mark.parametrize("begin", [b"HTTP/1.1 200 OK\r\nx-", b"HTTP/1.1 200 OK\r\n\r\n{", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_a_server_that_drips_is_given_up_in_time(local, begin):
    def drip(connection: socket.socket) -> None:
        connection.sendall(begin)
        while True:
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" if b"100" in begin else b"a")
            time.sleep(0.02)

    server, began = local(drip), time.monotonic()
    assert refused(here(server.port), seconds=0.5).reason == "slow" and time.monotonic() - began < 15


@pytest.mark.parametrize("sent", [answer(b"x" * 3000), b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 3000,
                                  b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"bb8\r\n" + b"x" * 3000 + b"\r\n0\r\n\r\n"])
def test_an_endless_answer_is_cut_off(local, sent):
    error = refused(here(local(sent).port), max_bytes=1000)
    assert error.reason == "wrong" and "1,000 bytes" in str(error)


def test_an_answer_without_end_is_left_at_the_limit_not_at_the_deadline(local):
    def pour(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b"x" * 65536)

    assert refused(here(local(pour).port), seconds=4.0, max_bytes=1_000_000).reason == "wrong"


def test_who_hangs_up_waits_for_nobody(local):
    server = local(lambda connection: time.sleep(20))
    caught: list[OutboundError] = []
    asking = threading.Thread(target=lambda: caught.append(refused(here(server.port), seconds=15.0)))
    asking.start()
    while not server.heads:
        time.sleep(0.01)
    outbound.hang_up()
    asking.join(5)
    assert not asking.is_alive() and caught[0].reason == "unreachable"


@pytest.mark.parametrize("sent", [answer(b"<html>"), answer(b"[1]"), answer(b"[" * 100_000), answer(b"\xff\xfe"), answer(b"null"),
                                  answer(json.dumps({"error": {"message": "no\x1b[31m model"}}).encode(), "404 Not Found"),
                                  answer(b'{"error": [[]]}', "500 Oops"), answer(b"", "204 No Content"),
                                  b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{\"cut\": "])
def test_what_is_not_an_object_is_said_in_one_line(local, sent):
    error = refused(here(local(sent).port))
    assert error.reason == "wrong" and str(error).isprintable() and len(str(error)) < 400


@pytest.mark.parametrize("sent", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 500, b"HTTP/1.1 99999 ?\r\n\r\n"])
def test_what_is_not_http_is_said_too(local, sent):
    assert refused(here(local(sent).port)).reason == "unreachable"


def test_the_key_and_the_body_go_to_the_server_and_the_answer_comes_back(local):
    server = local(answer(b'{"choices": []}'))
    found = ask(Server(f"http://127.0.0.1:{server.port}/v1", by_operator=True, key="secret-key-of-mine"), "/chat", {"a": "ü"}, seconds=5)
    head, _, body = server.heads[0].partition("\r\n\r\n")
    assert found == {"choices": []} and head.startswith("POST /v1/chat HTTP/1.1") and "Authorization: Bearer secret-key-of-mine" in head
    assert json.loads(body.encode("latin-1")) == {"a": "ü"} and "cookie" not in head.lower()


@pytest.mark.parametrize("url", [
    "", "models.example", "ftp://a.example", "file:///etc/passwd", "http://", "https://a.example/", "https://user:pw@a.example/v1",
    "https://a.example/v1?x=1", "https://a.example/v1#x", "https://a.example:0/v1", "https://a.example:99999/v1", "https://[::1/v1",
    "https://a.example/v1 HTTP/1.1\r\nx: y", "https://a.example\u3002evil.example/v1", "https://" + "a" * 600])
def test_what_is_no_address_of_a_server_is_refused(url):
    with pytest.raises(ConfigError):
        Server(url, by_operator=True)


def test_an_address_set_in_the_web_must_use_tls():
    with pytest.raises(ConfigError, match="in the clear"):
        Server("http://models.example.org/v1")
