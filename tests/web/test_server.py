"""Connections that send nothing, or half of something, over real sockets."""

from __future__ import annotations

import re
import resource
import socket
import subprocess
import sys
import threading
import time

import httpx2
import pytest
import uvicorn

from tutelage.web import server
from tutelage.web.listen import listen

HALF = b"GET / HTTP/1.1\r\nHost: 127.0.0.1"
WHOLE = HALF + b"\r\n\r\n"


async def app(scope, receive, send):
    """Answers once the body has come."""
    if scope["type"] == "http":
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def port(monkeypatch):
    """Of a server in this process that is patient for a short time."""
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.5)
    monkeypatch.setattr(server, "BODY_SECONDS", 1.5)
    with listen("127.0.0.1", 0) as listener:
        running = server.Server(uvicorn.Config(app, http=server.Connection, lifespan="off", log_level="error", timeout_keep_alive=30))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
        thread.start()
        yield listener.getsockname()[1]
        running.should_exit = True
        thread.join()


def hung_up_at(connection: socket.socket, *pieces: bytes, every: float = 0.5) -> float:
    """When the server hangs up on who sends one piece after another, by the monotonic clock."""
    connection.settimeout(20)
    for piece in pieces:
        try:
            connection.sendall(piece)
        except OSError:
            break
        time.sleep(every)
    try:
        while connection.recv(1000):
            pass
    except ConnectionError:
        pass
    return time.monotonic()


@pytest.mark.parametrize(("pieces", "seconds"), [
    ((), 0.5), ((HALF,), 0.5), ([bytes([byte]) for byte in HALF], 0.5),
    ((b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n", *(b"x",) * 30), 1.5), ((WHOLE, HALF), 0.6)])
def test_who_does_not_come_to_an_end_is_hung_up_on(port, pieces, seconds):
    began = time.monotonic()                                        # before the server's clock begins, which is as soon as it accepts
    with socket.create_connection(("127.0.0.1", port)) as connection:
        assert seconds - 0.1 < hung_up_at(connection, *pieces) - began < seconds + 9      # all of the pieces take 15


def test_who_reads_keeps_the_connection_for_the_next_request(port):
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        for _ in range(2):
            connection.sendall(WHOLE)
            answer = b""
            while not answer.endswith(b"\r\n\r\nok"):                  # head and body may come one after the other
                answer += (more := connection.recv(1000))
                assert more, "hung up on"
            time.sleep(0.8)


def test_half_open_connections_make_room_for_who_has_something_to_ask(port, monkeypatch):
    monkeypatch.setattr(server, "HEAD_SECONDS", 60)
    monkeypatch.setattr(server, "most_connections", lambda descriptors: 20)
    held = [socket.create_connection(("127.0.0.1", port)) for _ in range(60)]
    try:
        for one in held:
            one.sendall(HALF)
        assert httpx2.get(f"http://127.0.0.1:{port}/", timeout=5).text == "ok"
        asked = time.monotonic()
        assert hung_up_at(held[0]) < asked + 15, "the oldest made room"
        held[-1].settimeout(0.2)
        with pytest.raises(TimeoutError):
            held[-1].recv(10)
    finally:
        for one in held:
            one.close()


def test_connections_leave_descriptors_for_files():
    assert server.most_connections(1024) == 512 and server.most_connections(100) == 32


@pytest.mark.skipif(sys.platform != "linux", reason="needs prlimit")
def test_without_a_descriptor_left_the_studio_says_so_once_and_goes_on(tmp_path):
    script = ("import sys; sys.path[:0] = sys.argv[1:]; from tests.web.test_server import app; from tutelage.web import server, listen\n"
              "server.most_connections = lambda descriptors: 10_000\n"
              "with listen.listen('127.0.0.1', 0) as s: print(s.getsockname()[1], flush=True); server.serve(app, s)")
    said = tmp_path / "said"
    with said.open("w") as file:
        process = subprocess.Popen([sys.executable, "-c", script, *sys.path], stdout=subprocess.PIPE, stderr=file, text=True,
                                   preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60)))
    try:
        port = int(re.search(r"\d+", process.stdout.readline())[0])
        held = [socket.create_connection(("127.0.0.1", port)) for _ in range(90)]
        deadline = time.monotonic() + 60
        while not said.read_text() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(2.5)                                              # it tries again each second, and says nothing more
        for one in held:
            one.close()
        assert httpx2.get(f"http://127.0.0.1:{port}/", timeout=30).text == "ok"
        assert said.read_text().count("descriptor") == 1 and len(said.read_text()) < 400
    finally:
        process.terminate()
        process.wait(10)
