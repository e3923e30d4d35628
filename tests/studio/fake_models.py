"""A model server that does what a test says: for what a real one would not do at will, such as dying or lying."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SHA256 = "ab" * 32


class FakeModels:
    """answer: from a request's body to the texts it gives, or an int, the status of a failure. requests: the bodies that came."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.answer: Callable[[dict[str, Any]], list[str] | int] = lambda body: []
        self.rows: list[dict[str, Any]] = []
        self.reset()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._send(200, {"object": "list", "data": fake.rows})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                fake.requests.append(body)
                given = fake.answer(body)
                if isinstance(given, int):
                    self._send(given, {"error": {"message": "secret-model-x is out of memory"}})
                    return
                choices = [{"index": i, "message": {"role": "assistant", "content": text}, "finish_reason": "stop",
                            "tutelage": {"tokens": [1, 2], "logprobs": [-0.5, -0.25]}} for i, text in enumerate(given)]
                known = {"model": {"sha256": SHA256}, "sampling": {"temperature": 1.0, "seed": 7, "stop": []}}
                self._send(200, {"model": body["model"], "choices": choices, "tutelage": known})

            def _send(self, status: int, body: Any) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def reset(self) -> None:
        """Two different answers to everything."""
        self.requests.clear()
        self.answer = lambda body: [f"answer {len(self.requests)}.{i}" for i in range(body["n"])]
        self.rows = [{"id": "judge-r", "tutelage": {"kind": "reward"}}, {"id": "secret-model-x"}, {"id": "secret-model-y"}]
