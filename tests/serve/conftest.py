"""Real server processes over tiny models, and how to talk to them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.small import Small, environment
from tutelage.models import new_policy, save_policy
from tutelage.rollout import InProcessEngine, Sampling, open_engine
from tutelage.text.chat import encode_prompt, stop_tokens
from tutelage.text.tokenizer import open_tokenizer

CHAT = "/v1/chat/completions"


@dataclass
class Server:
    """A process that serves, and a client of it."""

    process: subprocess.Popen[str]
    url: str
    client: httpx2.Client
    log: Path

    def post(self, body: dict[str, Any], path: str = CHAT, **options: Any) -> httpx2.Response:
        return self.client.post(path, json=body, **options)

    def metrics(self) -> dict[str, float]:
        """Name and labels -> value."""
        lines = self.client.get("/metrics").text.splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}

    def until(self, holds: Callable[[dict[str, float]], bool], seconds: float = 20) -> dict[str, float]:
        """The metrics as soon as something holds of them."""
        deadline = time.monotonic() + seconds
        while not holds(found := self.metrics()):
            assert time.monotonic() < deadline, found
            time.sleep(0.02)
        return found

    def end(self) -> int:
        """Ask it to stop. Returns its exit code."""
        self.client.close()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)


def start(log: Path, *arguments: str, key: str | None = None, **more: str) -> Server:
    """A server on a free port, once it answers."""
    process = subprocess.Popen([sys.executable, "-m", "tutelage.cli.main", "serve", *arguments, "--port", "0", "--json"], text=True,
                               stdout=subprocess.PIPE, stderr=log.open("w"), env=environment() | more)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, log.read_text()
    url = json.loads(line)["url"].removesuffix("/v1")
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return Server(process, url, httpx2.Client(base_url=url, headers=headers, timeout=60, trust_env=False), log)


@pytest.fixture(scope="session")
def long_model(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model whose greedy answers do not end."""
    folder, tokenizer = tmp_path_factory.mktemp("long") / "long", open_tokenizer(small.tokenizer)
    save_policy(new_policy("nano", tokenizer, context_tokens=20_000, seed=0), tokenizer, folder)
    return folder


@pytest.fixture(scope="session")
def server(small: Small, long_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = start(tmp_path_factory.mktemp("server") / "log", f"sft={small.sft}", str(long_model), "--reward", str(small.reward),
                    "--max-tokens", "15000")
    yield running
    assert running.end() == 0
    assert "Traceback" not in running.log.read_text()


@pytest.fixture
def starting() -> Iterator[Callable[..., Server]]:
    """`start`, whose processes do not outlive a test that fails."""
    processes = []

    def start_one(*arguments: Any, **options: Any) -> Server:
        processes.append((one := start(*arguments, **options)).process)
        return one

    yield start_one
    for process in processes:
        process.kill()
        process.wait()


@dataclass
class Alone:
    """The same model in this process: what the server must answer."""

    tokenizer: Any
    engine: InProcessEngine

    def answer(self, messages: Any, row: int = 0, **settings: Any) -> tuple[str, tuple[int, ...], tuple[float, ...], str]:
        """(text, tokens, log-probs, how it ended) of row `row`."""
        sampling = Sampling(**({"max_tokens": 1024, "stop_tokens": stop_tokens(self.tokenizer)} | settings))
        (done,) = self.engine.generate([encode_prompt(self.tokenizer, tuple(messages))], sampling, row_ids=[row])
        text = str(self.tokenizer.decode(list(done.tokens), skip_special_tokens=True)).strip()
        return text, done.tokens, done.logprobs, done.finish_reason


@pytest.fixture(scope="session")
def alone(small: Small) -> Alone:
    engine = open_engine(small.sft)
    assert isinstance(engine, InProcessEngine)
    return Alone(open_tokenizer(small.sft), engine)


def events(response: httpx2.Response) -> list[Any]:
    """The data of server-sent events, [DONE] as text."""
    lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]
