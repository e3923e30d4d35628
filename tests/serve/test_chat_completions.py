"""Answers over HTTP: those of the engine, whole or in pieces, whoever else asks."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from tests.serve.conftest import CHAT, Alone, Server, events
from tests.small import Small
from tutelage.base.files import folder_digest
from tutelage.base.records import Message

ASKED = [{"role": "user", "content": "where is cat 3?"}]
PROMPT = [Message("user", "where is cat 3?")]


def openai_client(server: Server, key: str = "any") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.0}, {"temperature": 0.7, "top_p": 0.9}, {"top_k": 4}, {"max_tokens": 3}],
                         ids=str)
def test_each_answer_is_the_engines_row_of_that_seed(server: Server, alone: Alone, settings):
    body = server.post({"model": "sft", "messages": ASKED, "n": 2, "seed": 5, "logprobs": True} | settings).json()
    for row, choice in enumerate(body["choices"]):
        text, tokens, logprobs, finish = alone.answer(PROMPT, row, seed=5, **settings)
        assert (choice["index"], choice["message"]["content"], choice["finish_reason"]) == (row, text, finish)
        assert choice["tutelage"]["tokens"] == list(tokens)
        assert choice["tutelage"]["logprobs"] == pytest.approx(list(logprobs), abs=1e-5)
        content = choice["logprobs"]["content"]
        assert [entry["logprob"] for entry in content] == choice["tutelage"]["logprobs"][: len(content)]
        assert len(tokens) - len(content) == (finish == "stop")     # the token that ends an answer is none of its text
    assert body["usage"]["completion_tokens"] == sum(len(c["tutelage"]["tokens"]) for c in body["choices"])


def test_a_stream_in_pieces_is_the_whole_answer(server: Server):
    request = {"model": "sft", "messages": ASKED, "n": 3, "seed": 2, "temperature": 1.3, "logprobs": True}
    whole = server.post(request).json()
    with server.client.stream("POST", CHAT, json=request | {"stream": True, "stream_options": {"include_usage": True}}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        *chunks, last = events(response)
    assert last == "[DONE]" and all(chunk["object"] == "chat.completion.chunk" for chunk in chunks)
    assert chunks[0]["tutelage"] == whole["tutelage"] and all("tutelage" not in chunk for chunk in chunks[1:])
    assert chunks[-1]["usage"] == whole["usage"] and chunks[-1]["choices"] == []
    for choice in whole["choices"]:
        parts = [c for chunk in chunks for c in chunk["choices"] if c["index"] == choice["index"]]
        assert parts[0]["delta"] == {"role": "assistant", "content": ""}
        assert "".join(part["delta"].get("content", "") for part in parts) == choice["message"]["content"]
        assert [part["finish_reason"] for part in parts] == [None] * (len(parts) - 1) + [choice["finish_reason"]]
        assert (parts[-1]["logprobs"], parts[-1]["tutelage"]) == (choice["logprobs"], choice["tutelage"])


def test_twenty_at_once_get_what_each_would_get_alone(server: Server, alone: Alone):
    requests = [{"model": "sft", "messages": [{"role": "user", "content": f"where is {'cat dog hen fox'.split()[i % 4]} {i}?"}], "seed": i,
                 "temperature": (0.0, 0.7, 1.0, 1.5)[i % 4], "max_tokens": (5, 9, 1024)[i % 3], "top_p": (1.0, 0.9)[i % 2],
                 "n": 1 + i % 2, "stream": i % 5 == 0} for i in range(20)]
    before, barrier = server.metrics(), threading.Barrier(20)

    def ask(request: dict) -> list[str]:
        barrier.wait()
        if not request["stream"]:
            return [choice["message"]["content"] for choice in server.post(request).json()["choices"]]
        texts = [""] * request["n"]
        with server.client.stream("POST", CHAT, json=request) as response:
            for chunk in events(response)[:-1]:
                for choice in chunk["choices"]:
                    texts[choice["index"]] += choice["delta"].get("content", "")
        return texts

    for _ in range(3):
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(ask, requests))
        for request, texts in zip(requests, answers, strict=True):
            message = Message("user", request["messages"][0]["content"])
            settings = {name: request[name] for name in ("seed", "temperature", "max_tokens", "top_p")}
            assert texts == [alone.answer([message], row, **settings)[0] for row in range(request["n"])]
    after = server.metrics()
    tokens, steps = (after[name] - before[name] for name in ('tutelage_completion_tokens_total{model="sft"}',
                                                             'tutelage_steps_total{model="sft"}'))
    assert tokens > 1.5 * steps                                     # they shared steps


def test_an_answer_says_who_gave_it_and_how_it_can_be_had_again(server: Server, small: Small):
    body = server.post({"messages": ASKED, "temperature": 1.5}).json()      # no model named: the first; no seed: one is drawn
    again = server.post({"model": "sft", "messages": ASKED} | body["tutelage"]["sampling"]).json()
    assert again["choices"] == body["choices"] and again["tutelage"] == body["tutelage"]
    assert body["tutelage"]["model"] == {"name": "sft", "kind": "policy", "sha256": folder_digest(small.sft), "folder": "model"}
    assert folder_digest(small.sft).startswith(body["system_fingerprint"])
    seeds = {server.post({"messages": ASKED, "max_tokens": 1}).json()["tutelage"]["sampling"]["seed"] for _ in range(4)}
    assert len(seeds) == 4


def test_a_stop_string_ends_an_answer_before_it(server: Server, alone: Alone):
    text, tokens, _, _ = alone.answer(PROMPT, temperature=0)
    request = {"messages": ASKED, "temperature": 0, "stop": [text[4:7], "never"]}
    whole = server.post(request).json()
    with server.client.stream("POST", CHAT, json=request | {"stream": True}) as response:
        pieces = [c["delta"].get("content", "") for chunk in events(response)[:-1] for c in chunk["choices"]]
    assert "".join(pieces) == whole["choices"][0]["message"]["content"] == text[:4].strip()
    assert whole["choices"][0]["finish_reason"] == "stop" and whole["usage"]["completion_tokens"] < len(tokens)


def test_control_tokens_that_people_type_stay_text(server: Server, alone: Alone):
    eos = alone.tokenizer.eos_token
    asked = [Message("user", f"where is{eos} cat 3?"), Message("assistant", f"{eos}<|user|>"), Message("user", "and dog?")]
    body = server.post({"messages": [{"role": m.role, "content": m.content} for m in asked], "seed": 1}).json()
    assert body["choices"][0]["message"]["content"] == alone.answer(asked, seed=1)[0]
    assert body["usage"]["prompt_tokens"] > len(alone.tokenizer.apply_chat_template(
        [{"role": m.role, "content": m.content} for m in asked], add_generation_prompt=True)["input_ids"])


def test_the_openai_client_chats_streams_lists_and_understands_errors(server: Server, alone: Alone):
    client, expected = openai_client(server), alone.answer(PROMPT, seed=3)[0]
    assert [model.id for model in client.models.list()] == ["sft", "long", "reward"]
    assert client.models.retrieve("long").object == "model"
    done = client.chat.completions.create(model="sft", messages=ASKED, seed=3, n=2, logprobs=True, user="somebody")
    assert done.choices[0].message.content == expected and len(done.choices) == 2
    assert done.choices[0].logprobs.content[0].logprob <= 0 and done.model_extra["tutelage"]["sampling"]["seed"] == 3
    in_parts = [{"role": "user", "content": [{"type": "text", "text": "where is cat 3?"}]}]
    stream = client.chat.completions.create(model="sft", messages=in_parts, seed=3, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == expected
    with client.chat.completions.stream(model="sft", messages=ASKED, seed=3) as streamed:
        assert streamed.get_final_completion().choices[0].message.content == expected
    with pytest.raises(openai.NotFoundError, match=r"no model 'sfd' here \(did you mean sft\?\); there is sft, long") as missing:
        client.chat.completions.create(model="sfd", messages=ASKED)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="tools is not supported") as refused:
        client.chat.completions.create(model="sft", messages=ASKED, tools=[{"type": "function", "function": {"name": "f"}}])
    assert refused.value.param == "tools"


def test_scores_are_the_reward_models_own(server: Server, small: Small):
    from tutelage.models.heads import ScoredModel
    from tutelage.text.chat import encode_example
    from tutelage.text.tokenizer import open_tokenizer

    model, tokenizer = ScoredModel.open(small.reward), open_tokenizer(small.reward)

    def plain(prompt, response) -> float:
        import torch
        row = torch.tensor([encode_example(tokenizer, prompt, response).tokens])
        with torch.no_grad():
            return float(model.score(row, torch.ones_like(row)))

    responses = ["in the barn", "no", ""]
    for asked, prompt in (({"prompt": "where is cat 3?"}, tuple(PROMPT)), ({"messages": ASKED}, tuple(PROMPT)),
                          ({"prompt": "where is cat 3?", "prompt_style": "raw"}, "where is cat 3?")):
        body = server.post(asked | {"responses": responses}, "/score").json()
        assert body["scores"] == pytest.approx([plain(prompt, response) for response in responses], abs=1e-5)
        assert body["tutelage"]["model"]["sha256"] == folder_digest(small.reward) and body["model"] == "reward"


def test_models_are_listed_with_their_identity(server: Server, small: Small, long_model):
    rows = {row["id"]: row for row in server.client.get("/v1/models").json()["data"]}
    assert {name: row["tutelage"]["sha256"] for name, row in rows.items()} == {
        "sft": folder_digest(small.sft), "long": folder_digest(long_model), "reward": folder_digest(small.reward)}
    assert {name: (row["tutelage"]["kind"], row["context_tokens"]) for name, row in rows.items()} == {
        "sft": ("policy", 48), "long": ("policy", 20_000), "reward": ("reward", 48)}
    assert server.client.get("/v1/models/sft").json() == rows["sft"] and server.client.get("/v1/models/none").status_code == 404


def test_someone_who_hangs_up_stops_the_answer(server: Server):
    endless = {"model": "long", "messages": ASKED, "temperature": 0, "n": 2}
    left = 'tutelage_answers_left_total{model="long"}'
    before = server.metrics().get(left, 0)
    with server.client.stream("POST", CHAT, json=endless | {"stream": True}) as response:
        lines = response.iter_lines()
        for _ in range(20):
            next(lines)
        assert server.metrics()['tutelage_rows{model="long"}'] == 2
    server.until(lambda now: now['tutelage_rows{model="long"}'] == 0 and now.get(left, 0) == before + 2)
    with pytest.raises(Exception, match="(?i)timed? ?out"):
        server.post(endless, timeout=0.5)
    drawn = server.until(lambda now: now['tutelage_rows{model="long"}'] == 0 and now.get(left, 0) == before + 4)
    assert server.metrics()['tutelage_completion_tokens_total{model="long"}'] == drawn['tutelage_completion_tokens_total{model="long"}']


def test_a_short_question_is_answered_while_a_long_answer_is_written(server: Server):
    with server.client.stream("POST", CHAT, json={"model": "long", "messages": ASKED, "temperature": 0, "stream": True}) as response:
        lines = response.iter_lines()
        next(lines)
        for model in ("sft", "long"):                               # beside it, and in its own batch
            assert server.post({"model": model, "messages": ASKED, "max_tokens": 2}).json()["usage"]["completion_tokens"] <= 2
        assert server.post({"prompt": "a", "responses": ["b"]}, "/score").status_code == 200
        assert json.loads(next(line for line in lines if line).removeprefix("data: "))["choices"]
