"""What the server does not do, and how it says so."""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx2
import openai
import pytest

from tests.serve.conftest import CHAT, Server, events
from tests.small import Small
from tutelage.base.errors import ConfigError
from tutelage.cli.main import main
from tutelage.serve.errors import Refusal
from tutelage.serve.guard import Door
from tutelage.serve.wire import ChatRequest, parse
from tutelage.web.listen import listen

ASKED = [{"role": "user", "content": "where is cat 3?"}]
KEY = "0123456789abcdefXYZ"


def refused(response: httpx2.Response, status: int) -> dict:
    """The error object of an answer of this status."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"]
    return error


@pytest.mark.parametrize(("body", "param", "says"), [
    ({"messages": []}, "messages", "at least 1"),
    ({}, "messages", "is required"),
    ({"messages": [{"role": "usr", "content": "a"}]}, "messages.0.role", r"got 'usr' \(did you mean user\?\)"),
    ({"messages": [{"role": "tool", "content": "a"}]}, "messages.0.role", "got 'tool'"),
    ({"messages": [{"role": "user", "content": None}]}, "messages.0.content", "string"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages", "image_url is not supp"),
    ({"messages": [{"role": "assistant", "content": "a", "tool_calls": [{"id": "1"}]}]}, "tool_calls", "not supported"),
    ({"n": 9}, "n", "less than or equal to 8, got 9"),
    ({"n": "2"}, "n", "valid integer, got '2'"),
    ({"temperature": -0.1}, "temperature", "greater than or equal to 0"),
    ({"temperature": 1e-9}, None, "0 .greedy. or at least"),
    ({"top_p": 0}, "top_p", "greater than 0"),
    ({"max_tokens": 0}, "max_tokens", "greater"),
    ({"max_tokens": 15_001}, "max_tokens", "at most 15000"),
    ({"seed": -1}, "seed", "greater"),
    ({"seed": 2**70}, "seed", "less"),
    ({"stop": ""}, "stop.0", "at least 1"),
    ({"stop": ["a"] * 17}, "stop", "at most 16"),
    ({"tools": [{"type": "function"}]}, "tools", "tools is not supported by this server; leave it out"),
    ({"response_format": {"type": "json_object"}}, "response_format", "not supported"),
    ({"presence_penalty": 0.5}, "presence_penalty", "not supported"),
    ({"top_logprobs": 3}, "top_logprobs", "not supported"),
    ({"model": "reward"}, "model", "reward is a reward model: it scores answers at /score"),
    ({"messages": [{"role": "user", "content": "cat " * 60}]}, "messages", "the model's context of 48 leaves no room for an answer"),
], ids=str)
def test_a_request_at_fault_is_told_which_field_and_why(server: Server, body, param, says):
    error = refused(server.post({"messages": ASKED} | body if body else {}), 400)
    assert error["param"] == param and error["type"] == "invalid_request_error"
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(error["message"])


def test_a_prompt_longer_than_the_context_has_openais_code(server: Server):
    assert refused(server.post({"messages": [{"role": "user", "content": "cat " * 60}]}), 400)["code"] == "context_length_exceeded"


def test_what_asks_for_nothing_and_what_nobody_knows_is_ignored(server: Server):
    plain = server.post({"messages": ASKED, "seed": 1}).json()
    neutral = {"tools": [], "tool_choice": "none", "response_format": {"type": "text"}, "presence_penalty": 0, "logit_bias": {},
               "user": "u", "store": True, "metadata": {"a": "b"}, "parallel_tool_calls": True, "n": None, "stop": None}
    assert server.post({"messages": ASKED, "seed": 1} | neutral).json()["choices"] == plain["choices"]


@pytest.mark.parametrize("body", [
    b"", b"{", b"[]", b'"text"', b'{"messages": NaN}', b"\xff\xfe", b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
    b'{"a": ' * 5000 + b"1" + b"}" * 5000], ids=lambda body: repr(body[:20]))
def test_a_body_that_is_no_json_object_is_refused(server: Server, body):
    for path in (CHAT, "/score"):
        refused(server.client.post(path, content=body, headers={"content-type": "application/json"}), 400)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "text/json"])
def test_a_page_of_another_site_cannot_post(server: Server, kind):
    # These are the types that a browser sends across sites without asking; for JSON it asks with OPTIONS, and no answer allows it.
    content = json.dumps({"messages": ASKED, "prompt": "a", "responses": ["b"]}).encode()
    for path in (CHAT, "/score"):
        refused(server.client.post(path, content=content, headers={"content-type": kind}), 415)
        asked = server.client.options(path, headers={"origin": "https://evil.example", "access-control-request-method": "POST",
                                                     "access-control-request-headers": "content-type"})
        assert asked.status_code == 405 and not [name for name in asked.headers if name.startswith("access-control")]
    answered = server.client.post(CHAT, json={"messages": ASKED, "max_tokens": 1}, headers={"origin": "https://evil.example"})
    assert not [name for name in answered.headers if name.startswith("access-control")]


@pytest.mark.parametrize(("host", "status"), [
    ("evil.example", 421), ("evil.example:8100", 421), ("127.0.0.1.evil.example", 421), ("localhost.evil.example", 421), ("", 421),
    ("[::1", 421), ("localhost", 200), ("LOCALHOST:1", 200), ("127.0.0.1:9", 200), ("[::1]:8100", 200), ("192.168.1.7", 200)])
def test_only_its_own_names_and_addresses_reach_the_server(server: Server, host, status):
    assert server.client.get("/v1/models", headers={"host": host}).status_code == status


def test_a_large_body_is_refused_however_it_is_sent(server: Server):
    large = json.dumps({"messages": [{"role": "user", "content": "a" * 1_000_000}]}).encode()
    json_type = {"content-type": "application/json"}
    assert refused(server.client.post(CHAT, content=large, headers=json_type), 413)["code"] == "too_large"
    pieces = (large[i : i + 50_000] for i in range(0, len(large), 50_000))
    assert refused(server.client.post(CHAT, content=pieces, headers=json_type), 413)["code"] == "too_large"
    fits = large[:900_000] + b'"}]}'
    assert refused(server.client.post(CHAT, content=fits, headers=json_type), 400)["code"] == "context_length_exceeded"


@pytest.mark.parametrize(("body", "says"), [
    ({"responses": ["a"]}, "give either prompt or messages"),
    ({"prompt": "a", "messages": ASKED, "responses": ["a"]}, "give either prompt or messages"),
    ({"prompt": "a", "responses": []}, "at least 1"), ({"prompt": "a", "responses": ["a"] * 65}, "at most 64"),
    ({"prompt": "a", "responses": [1]}, "responses.0: should be a valid string, got 1"),
    ({"prompt": "a", "responses": ["cat " * 60]}, "the reward model reads 48"),
    ({"prompt": "a", "responses": ["b"], "prompt_style": "row"}, "'chat' or 'raw'")], ids=str)
def test_scores_that_cannot_be_given(server: Server, body, says):
    assert says in refused(server.post(body, "/score"), 400)["message"]
    assert refused(server.post({"prompt": "a", "responses": ["b"], "model": "sft"}, "/score"), 404)["code"] == "model_not_found"


def test_other_paths_and_methods_are_named(server: Server):
    assert "/v1/chat/completions" in refused(server.client.get("/"), 404)["message"]
    assert refused(server.client.get("/docs"), 404) and refused(server.client.get("/openapi.json"), 404)
    refused(server.client.get(CHAT), 405)
    refused(server.client.post("/v1/embeddings", json={}), 404)


def test_a_small_server_under_load_and_its_end(long_model, starting, tmp_path):
    """One process: the key, a full queue, and SIGTERM while answers are written."""
    server = starting(tmp_path / "log", str(long_model), "--max-batch", "8", "--max-waiting", "2", "--max-tokens", "15000",
                      "--api-key-env", "SERVE_KEY", key=KEY, SERVE_KEY=KEY)
    bare = httpx2.Client(base_url=server.url, trust_env=False)
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": KEY}, {"authorization": "Bearer é".encode()}):
        for path in ("/v1/models", "/metrics", "/nowhere"):
            assert refused(bare.get(path, headers=headers), 401)["code"] == "invalid_api_key"
    assert bare.get("/healthz").json() == {"status": "ok"}
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong", max_retries=0).models.list()
    refused(server.post({"prompt": "a", "responses": ["b"]}, "/score"), 404)                # no reward model

    endless = {"messages": ASKED, "temperature": 0, "n": 8, "max_tokens": 150}
    with ThreadPoolExecutor(3) as pool:
        with server.client.stream("POST", CHAT, json=endless | {"stream": True, "max_tokens": 15_000}) as first:
            lines = first.iter_lines()
            next(lines)
            waiting = [pool.submit(server.post, endless) for _ in range(2)]
            server.until(lambda now: now["tutelage_waiting"] == 2)
            over = server.post(endless)
            assert refused(over, 429)["code"] == "queue_full" and over.headers["retry-after"] == "1"
        done = [one.result() for one in waiting]                    # the first hung up: they have their turn
        assert [one.status_code for one in done] == [200, 200] and done[0].json()["choices"] == done[1].json()["choices"]

        with server.client.stream("POST", CHAT, json=endless | {"stream": True}) as begun:
            waits = pool.submit(server.post, endless)
            server.until(lambda now: now["tutelage_waiting"] == 1)
            server.process.send_signal(signal.SIGTERM)
            left = waits.result()
            assert refused(left, 503)["code"] == "stopping" and left.headers["retry-after"]
            *chunks, last = events(begun)
        assert last == "[DONE]" and sum(chunk["choices"][0]["finish_reason"] == "length" for chunk in chunks) == 8
    assert server.process.wait(timeout=20) == 0
    with pytest.raises(httpx2.ConnectError):
        server.client.get("/healthz")
    assert "Traceback" not in server.log.read_text() and server.log.read_text().endswith("stopped\n")


def test_connections_do_not_wait_for_acknowledgements():
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()), listener.accept()[0] as connection:
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize(("door", "says"), [
    ({"host": "0.0.0.0"}, "would let the whole network"), ({"host": "192.168.1.7", "api_key": KEY}, "would let the whole network"),
    ({"host": "::", "public_url": "https://models.example.org"}, "would let the whole network"),
    ({"public_url": "http://models.example.org"}, "is not the address of a site"), ({"public_url": "https://a/b"}, "is not the address")])
def test_an_open_door_needs_tls_and_a_key(door, says):
    with pytest.raises(ConfigError, match=says):
        Door(**door)


@pytest.mark.skipif(sys.platform != "linux", reason="needs prlimit")
def test_half_open_connections_keep_nobody_out_and_end_no_answer(small: Small, long_model, starting, tmp_path):
    server = starting(tmp_path / "log", f"sft={small.sft}", str(long_model), "--max-tokens", "15000")
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (512, 512))
    with server.client.stream("POST", CHAT, json={"model": "long", "messages": ASKED, "max_tokens": 300, "stream": True}) as answer:
        lines = answer.iter_lines()
        next(lines)
        held = [socket.create_connection(("127.0.0.1", server.client.base_url.port)) for _ in range(600)]
        try:
            for one in held:
                with contextlib.suppress(OSError):                   # the server has hung up on it
                    one.sendall(b"POST /v1/chat/comple")
            assert server.post({"model": "sft", "messages": ASKED, "max_tokens": 3}).status_code == 200
        finally:
            for one in held:
                one.close()
        assert list(lines)[-2] == "data: [DONE]"


def test_behind_a_proxy_the_public_name_is_known():
    door = Door("0.0.0.0", 8100, "https://models.example.org/", KEY)
    assert door.url == "https://models.example.org/v1" and door.knows("models.example.org") and not door.knows("example.org")
    assert Door("::1").url == "http://[::1]:8100/v1"


@pytest.mark.parametrize(("arguments", "says"), [
    (["MODEL", "MODEL"], "two models are called model"), (["a b=MODEL"], "'a b' is no name for a model"),
    (["nowhere"], "no model at nowhere"), (["MODEL", "--host", "0.0.0.0"], "would let the whole network"),
    (["MODEL", "--api-key-env", "SHORT"], "SHORT holds no key"), (["MODEL", "--port", "TAKEN"], "cannot listen at 127.0.0.1 port"),
    (["REWARD"], "is a reward model"), (["MODEL", "--reward", "MODEL"], "two models"),
    (["MODEL", "--reward", "r=MODEL"], "is no reward model")], ids=str)
def test_a_command_that_cannot_serve_says_why_in_one_line(small: Small, arguments, says, capsys, monkeypatch):
    monkeypatch.setenv("SHORT", "secret")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        values = {"MODEL": str(small.sft), "REWARD": str(small.reward), "TAKEN": str(taken.getsockname()[1])}
        with pytest.raises(SystemExit) as ended:
            main(["serve", *(values.get(a) or a.replace("=MODEL", f"={small.sft}") for a in arguments)])
    out, err = capsys.readouterr()
    errors = [line for line in err.splitlines() if line.startswith("error:")]
    assert ended.value.code in (1, 2) and len(errors) == 1 and says in errors[0] and out == ""


def test_a_base_model_continues_one_text():
    asked = parse(ChatRequest, json.dumps({"messages": ASKED}).encode())
    assert asked.prompt(base_model=True) == "where is cat 3?"
    several = parse(ChatRequest, json.dumps({"messages": ASKED * 2}).encode())
    with pytest.raises(Refusal, match="knows no turns"):
        several.prompt(base_model=True)
