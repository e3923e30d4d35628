"""The studio against `tutelage serve`, with a model of this project's own."""

from __future__ import annotations

import re

from sqlalchemy import select

from tests.serve.conftest import start as serve
from tests.studio.conftest import Studio
from tests.studio.test_talk import begin, send, shown
from tutelage.feedback.schema import responses
from tutelage.feedback.store import Store

KEY = "a-key-of-sixteen-or-more"


def test_a_turn_with_tutelage_serve_can_be_traced_and_made_again(start, small, tmp_path, monkeypatch):
    server = serve(tmp_path / "log", f"sft={small.sft}", "--reward", str(small.reward), "--api-key-env", "SERVE_KEY", key=KEY,
                   SERVE_KEY=KEY)
    monkeypatch.setenv("STUDIO_KEY", KEY)
    _, said = start("--db", str(tmp_path / "studio.db"), "--port", "0", "--models", server.url + "/v1", "--models-key-env", "STUDIO_KEY",
                    lines=2)
    try:
        with Store.open(tmp_path / "studio.db") as store:
            studio = Studio(re.search(r"http://\S+", said[0])[0], "", store)
            with studio.client(studio.person()) as client:
                page = send(client, begin(client), text="where is cat 3?")
                assert page.status_code == 200 and len(shown(page)) == 2
                assert send(client, page, choice="3").status_code == 200
            with store.read() as conn:
                kept = conn.execute(select(responses).order_by(responses.c.id)).mappings().all()
        identity = server.client.get("/v1/models/sft").json()["tutelage"]
        assert {row["model_hash"] for row in kept} == {identity["sha256"]}
        told = kept[0]["sampling"]
        again = server.post({"messages": [{"role": "user", "content": "where is cat 3?"}], "n": 2, "logprobs": True, "seed": told["seed"],
                             "temperature": told["temperature"], "max_tokens": told["max_tokens"]}).json()["choices"]
        assert [row["text"] for row in kept] == [choice["message"]["content"] for choice in again]
        assert [row["logprobs"] for row in kept] == [choice["tutelage"]["logprobs"] for choice in again]
    finally:
        assert server.end() == 0
