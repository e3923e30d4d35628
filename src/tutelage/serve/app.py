"""The HTTP side: OpenAI's chat completions and model list, scores, health and metrics."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from tutelage import __version__
from tutelage.base.errors import DataError, did_you_mean
from tutelage.base.log import get_logger
from tutelage.base.records import Prompt
from tutelage.rollout import Sampling

from .errors import Refusal, busy, refuse
from .guard import Door, Guard
from .metrics import Metrics
from .served import Judge, Speaker
from .wire import ChatRequest, R, ScoreRequest, parse
from .worker import Job, Piece, ScoreJob, Worker

log = get_logger("serve")
T = TypeVar("T")
_PATHS = ("/v1/models", "/v1/chat/completions", "/score", "/healthz", "/metrics")


@dataclass
class Served:
    """What the endpoints share. max_tokens: of one answer, and what a request gets that names no number."""

    speakers: dict[str, Speaker]
    judge: Judge | None
    worker: Worker
    metrics: Metrics
    max_tokens: int
    started: int = field(default_factory=lambda: int(time.time()))
    clerk: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "text"))
    """Tokenises: a megabyte of text must keep neither the models nor other requests waiting."""
    at_the_clerk: int = 0

    async def encode(self, speaker: Speaker, prompt: Prompt) -> list[int]:
        """Token ids to answer from. Raises: Refusal when the prompt cannot be encoded, or too many are waiting for that."""
        if self.at_the_clerk >= self.worker.max_waiting:
            raise busy(self.at_the_clerk)
        self.at_the_clerk += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self.clerk, speaker.encode, prompt)
        except DataError as error:
            raise refuse(error, param="messages") from error
        finally:
            self.at_the_clerk -= 1

    def speaker(self, name: str | None) -> Speaker:
        """The model a request names; the first when it names none. Raises: Refusal."""
        if name is None:
            return next(iter(self.speakers.values()))
        if name in self.speakers:
            return self.speakers[name]
        if self.judge is not None and name == self.judge.identity.name:
            raise Refusal(400, f"{name} is a reward model: it scores answers at /score, it does not write any", param="model",
                          code="wrong_kind_of_model")
        raise _no_model(name, self.speakers)


def create_app(served: Served, door: Door) -> FastAPI:
    """The application; the worker must have been started."""
    app = FastAPI(title="tutelage", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/v1/models")
    async def models() -> Response:
        return JSONResponse({"object": "list", "data": _model_rows(served)})

    @app.get("/v1/models/{name}")
    async def model(name: str) -> Response:
        rows = {row["id"]: row for row in _model_rows(served)}
        if name not in rows:
            raise _no_model(name, rows)
        return JSONResponse(rows[name])

    @app.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        return await _chat(served, request)

    @app.post("/score")
    async def score(request: Request) -> Response:
        return await _score(served, request)

    @app.get("/healthz")
    async def healthz() -> Response:
        return JSONResponse({"status": "ok" if served.worker.alive else "stopping"}, 200 if served.worker.alive else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        return PlainTextResponse(served.metrics.render(), media_type="text/plain; version=0.0.4")

    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)
    app.add_middleware(_Counted, metrics=served.metrics)            # type: ignore[arg-type]  # its own idea of an ASGI app
    app.add_middleware(Guard, door=door)                            # type: ignore[arg-type]
    return app


async def _chat(served: Served, request: Request) -> Response:
    asked = await _body(request, ChatRequest)
    speaker = served.speaker(asked.model)
    prompt = asked.prompt(base_model=speaker.base_model)
    sampling = _sampling(served, asked, speaker)
    tokens = await served.encode(speaker, prompt)
    try:
        speaker.engine.budget(0, tokens, sampling)
    except DataError as error:
        context = speaker.engine.context
        raise Refusal(400, f"the messages have {len(tokens)} tokens; the model's context of {context} leaves no room for an answer",
                      param="messages", code="context_length_exceeded") from error
    events = asyncio.Queue[Piece | Refusal]()
    job = Job(speaker, tokens, sampling, asked.n or 1, asked.stop or (), _into(asyncio.get_running_loop(), events))
    served.worker.submit(job)
    head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": speaker.identity.name,
            "system_fingerprint": speaker.identity.sha256[:12], "tutelage": _provenance(speaker, sampling, asked.stop or ())}
    if asked.stream:
        return _Stream(served.worker, job, _chunks(asked, job, head, events))
    await _while_connected(request, _finished(job, events), lambda: served.worker.cancel(job))
    choices = [{"index": i, "message": {"role": "assistant", "content": answer.text, "refusal": None}} | _ending(asked, job, i)
               for i, answer in enumerate(job.answers)]
    return JSONResponse(head | {"object": "chat.completion", "choices": choices, "usage": _usage(job)})


async def _score(served: Served, request: Request) -> Response:
    asked = await _body(request, ScoreRequest)
    judge = served.judge
    if judge is None:
        raise Refusal(404, "no reward model is served; start the server with --reward RUN", code="no_reward_model")
    if asked.model not in (None, judge.identity.name):
        raise _no_model(str(asked.model), [judge.identity.name])
    events = asyncio.Queue[list[float] | Refusal]()
    job = ScoreJob(judge, asked.asked(), asked.responses, _into(asyncio.get_running_loop(), events))
    served.worker.submit(job)
    scores = await _while_connected(request, events.get(), lambda: served.worker.cancel(job))
    if isinstance(scores, Refusal):
        raise scores
    return JSONResponse({"object": "scores", "model": judge.identity.name, "scores": scores,
                         "tutelage": {"model": judge.identity.to_json(), "version": __version__}})


async def _body(request: Request, cls: type[R]) -> R:
    """Only JSON that says so: a form of another site can send text, but must ask first to send JSON, and nobody answers that question."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refusal(415, f"the body is {kind or 'of no type'}; send application/json", code="not_json")
    return parse(cls, await request.body())


def _sampling(served: Served, asked: ChatRequest, speaker: Speaker) -> Sampling:
    wanted = asked.max_completion_tokens or asked.max_tokens or served.max_tokens
    if wanted > served.max_tokens:
        raise Refusal(400, f"max_tokens={wanted}: this server writes at most {served.max_tokens} (its --max-tokens)", param="max_tokens",
                      code="invalid_value")
    return Sampling(temperature=1.0 if asked.temperature is None else asked.temperature, top_p=asked.top_p or 1.0, top_k=asked.top_k or 0,
                    max_tokens=wanted, stop_tokens=speaker.stop_tokens,
                    seed=secrets.randbelow(2**31) if asked.seed is None else asked.seed)


def _provenance(speaker: Speaker, sampling: Sampling, stops: Sequence[str]) -> dict[str, Any]:
    """With which an answer can be made again, and traced: answer i of a request is row i of this seed."""
    return {"model": speaker.identity.to_json(),
            "sampling": {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k,
                         "max_tokens": sampling.max_tokens, "stop": list(stops), "seed": sampling.seed},
            "version": __version__}


async def _finished(job: Job, events: asyncio.Queue[Piece | Refusal]) -> None:
    left = len(job.answers)
    while left:
        event = await events.get()
        if isinstance(event, Refusal):
            raise event
        left -= event.finish is not None


async def _chunks(asked: ChatRequest, job: Job, head: dict[str, Any], events: asyncio.Queue[Piece | Refusal]) -> AsyncIterator[str]:
    """Server-sent events. Who answers stands in the first chunk only; what was drawn in each answer's last."""
    more = {"usage": None} if (with_usage := bool(asked.stream_options and asked.stream_options.include_usage)) else {}
    named = {key: value for key, value in head.items() if key != "tutelage"} | {"object": "chat.completion.chunk"}

    def chunk(*choices: dict[str, Any], **also: Any) -> str:
        return _event(named | {"choices": choices} | more | also)

    def said(index: int, delta: dict[str, Any]) -> dict[str, Any]:
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}

    for i in range(len(job.answers)):
        yield chunk(said(i, {"role": "assistant", "content": ""}), **({} if i else {"tutelage": head["tutelage"]}))
    left = len(job.answers)
    while left:
        event = await events.get()
        if isinstance(event, Refusal):
            yield _event(event.body())
            return
        if event.text:
            yield chunk(said(event.answer, {"content": event.text}))
        if event.finish:
            left -= 1
            yield chunk(said(event.answer, {}) | _ending(asked, job, event.answer))
    if with_usage:
        yield chunk(usage=_usage(job))
    yield "data: [DONE]\n\n"


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, separators=(',', ':'))}\n\n"      # ASCII: some clients take U+2028 for the end of a line


def _ending(asked: ChatRequest, job: Job, index: int) -> dict[str, Any]:
    """How an answer ended, with log-probs where they were asked for: at the sampling temperature, before top-k and top-p cut."""
    answer = job.answers[index]
    if not asked.logprobs:
        return {"logprobs": None, "finish_reason": answer.finish}
    tokenizer, content = job.speaker.tokenizer, []
    for token, logprob in zip(answer.tokens, answer.logprobs, strict=True):
        if token not in job.speaker.stop_tokens:                    # OpenAI's list is of the text
            text = str(tokenizer.decode([token], skip_special_tokens=False))
            whole = None if "\ufffd" in text else list(text.encode())
            content.append({"token": text, "logprob": logprob, "bytes": whole, "top_logprobs": []})
    return {"logprobs": {"content": content, "refusal": None}, "finish_reason": answer.finish,
            "tutelage": {"tokens": answer.tokens, "logprobs": answer.logprobs}}


def _usage(job: Job) -> dict[str, int]:
    prompt, completion = len(job.asks[0].prompt), sum(len(answer.tokens) for answer in job.answers)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _model_rows(served: Served) -> list[dict[str, Any]]:
    def row(model: Speaker | Judge, context: int | None) -> dict[str, Any]:
        return {"id": model.identity.name, "object": "model", "created": served.started, "owned_by": "tutelage",
                "context_tokens": context, "tutelage": model.identity.to_json()}

    rows = [row(speaker, speaker.engine.context) for speaker in served.speakers.values()]
    return rows + ([row(served.judge, served.judge.reward.limit)] if served.judge is not None else [])


def _no_model(name: str, known: Sequence[str] | dict[str, Any]) -> Refusal:
    return Refusal(404, f"no model {name[:80]!r} here{did_you_mean(name[:80], known)}; there is {', '.join(known)}", param="model",
                   code="model_not_found")


def _into(loop: asyncio.AbstractEventLoop, events: asyncio.Queue[T]) -> Callable[[T], None]:
    """From the worker's thread into a request's queue."""
    def deliver(event: T) -> None:
        with contextlib.suppress(RuntimeError):                     # the loop has closed: nobody is left to tell
            loop.call_soon_threadsafe(events.put_nowait, event)
    return deliver


async def _while_connected(request: Request, work: Awaitable[T], cancel: Callable[[], None]) -> T:
    """The result of the work, unless the client hangs up first. Raises: Refusal, which nobody reads, when it did."""
    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    tasks = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done():
            return tasks[0].result()
        raise Refusal(499, "the client hung up", code="hung_up")
    finally:
        for task in tasks:
            task.cancel()
        cancel()


class _Stream(StreamingResponse):
    """Server-sent events of a job, which ends when nobody reads them any more."""

    def __init__(self, worker: Worker, job: Job, chunks: AsyncIterator[str]) -> None:
        super().__init__(chunks, media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self.worker, self.job = worker, job

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.worker.cancel(self.job)


class _Counted:
    """ASGI middleware that counts requests and their time."""

    def __init__(self, app: Callable[..., Awaitable[None]], metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in _PATHS else "other"
        started, status = time.perf_counter(), 500

        async def noted(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            self.metrics.add("tutelage_requests_total", path=path, status=str(status))
            self.metrics.add("tutelage_request_seconds_total", time.perf_counter() - started, path=path)


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return error.response()


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path[:80]
    what = {404: f"there is nothing at {path}; there are {', '.join(_PATHS)}", 405: f"{request.method} is not for {path}"}
    return Refusal(error.status_code, what.get(error.status_code, str(error.detail)), headers=dict(error.headers or {})).response()


def _unexpected(request: Request, error: Exception) -> Response:
    log.error("%s %s", request.method, request.url.path, exc_info=error)
    return Refusal(500, "the server failed at this request; its log says why").response()
