"""The door for programs: items in, scores in, judgements out. A bearer token with a scope, JSON both ways, no cookie and no form."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator
from sqlalchemy import Connection
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from tutelage.base.errors import TutelageError
from tutelage.base.log import get_logger
from tutelage.base.records import MOST_PEOPLE
from tutelage.feedback import accounts, programs
from tutelage.feedback.content import holdable, record_audit
from tutelage.feedback.errors import StoreError
from tutelage.feedback.programs import NewItem
from tutelage.feedback.pseudonyms import key_of_store
from tutelage.feedback.schema import Row
from tutelage.feedback.scores import Score, add_scores
from tutelage.web.app import Web, status_of
from tutelage.web.limits import Limiter
from tutelage.web.session import SEEN_EVERY_SECONDS, knock
from tutelage.web.site import MAX_BODY_BYTES, TooLarge

from .me import WARNINGS

log = get_logger("studio")
_JSON_HINT = "send one JSON object in UTF-8, with Content-Type: application/json (docs/api.md)"
MAX_ITEMS, MAX_SCORES, MAX_ROWS = 500, 5000, 1000


class _Sent(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _holdable(cls, value: Any) -> Any:
        return holdable(value) if isinstance(value, str) else value


def _known(warning: str) -> str:
    """Raises: ValueError for a warning that nobody could opt out of."""
    if warning not in WARNINGS:
        raise ValueError(f"{warning!r} is no content warning; known are {', '.join(WARNINGS)}")
    return warning


class AnswerSent(_Sent):
    """An answer to a prompt, and where it came from."""

    text: str
    model: str | None = Field(None, max_length=300)
    model_hash: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    sampling: dict[str, Any] | None = None
    logprobs: list[float] | None = None


class ItemSent(_Sent):
    """A prompt, its answers, and how they are to be judged; without a kind they are only kept. Of kind prompt: one to be written."""

    prompt: str | list[dict[str, Any]] | None = None
    responses: list[AnswerSent] = Field(default_factory=list, max_length=9)
    kind: Literal["demonstration", "comparison", "ranking", "rating", "label", "critique", "edit", "conversation", "prompt"] | None = None
    style: Literal["plain", "few_shot", "user_based"] | None = None
    overlap: int = Field(1, ge=1, le=MOST_PEOPLE)
    p_select: float = Field(1.0, gt=0, le=1)
    purpose: Literal["work", "shared", "gold", "drift", "practice", "screening", "rollout"] = "work"
    expected: dict[str, Any] | None = None
    batch: str | None = Field(None, max_length=200)
    question: str | None = Field(None, max_length=2000)
    source: Literal["import", "customer"] = "import"
    user: str | None = Field(None, max_length=200)
    consent: bool | None = None
    language: str = Field("en", max_length=20)
    warnings: list[Annotated[str, AfterValidator(_known)]] = Field(default_factory=list, max_length=10)
    key: str | None = Field(None, max_length=200)


class ItemsSent(_Sent):
    items: list[ItemSent] = Field(min_length=1, max_length=MAX_ITEMS)


class ScoreSent(_Sent):
    response_id: int = Field(ge=1, lt=2**31)
    score: float
    spread: float | None = None


class ScoresSent(_Sent):
    model: str = Field(max_length=300)
    scores: list[ScoreSent] = Field(min_length=1, max_length=MAX_SCORES)


def _bearer(scope: str) -> Callable[[Request], Row]:
    """A dependency: the token of a request, which may do `scope`. Raises: 401 for none or a wrong one, 403 without the scope, 429."""

    def check(request: Request) -> Row:
        web: Web = request.app.state.web
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        now = web.store.now()
        with web.store.read() as conn:
            row = accounts.find_api_token(conn, token.strip(), now=now) if kind.lower() == "bearer" and token else None
        if row is None:
            knock(request)
            raise HTTPException(401, "send a token that is known here: Authorization: Bearer tut_…", {"www-authenticate": "Bearer"})
        if scope not in row["scopes"]:
            raise HTTPException(403, f"this token may not do that; it needs the scope {scope}")
        if wait := request.app.state.limiter.wait(str(row["id"])):
            raise HTTPException(429, "too many requests", {"retry-after": str(int(wait) + 1)})
        if now - (row["last_seen_at"] or 0.0) > SEEN_EVERY_SECONDS:
            with contextlib.suppress(StoreError):                    # on a full disk judgements can still be read
                web.store.write(lambda conn: accounts.note_token_seen(conn, row["id"], now=now))
        return row

    return check


Tasks = Annotated[Row, Depends(_bearer("tasks:write"))]
Scores = Annotated[Row, Depends(_bearer("scores:write"))]
Judgements = Annotated[Row, Depends(_bearer("judgements:read"))]
After = Annotated[int, Query(ge=0, lt=2**31)]
Limit = Annotated[int, Query(ge=1, le=MAX_ROWS)]


def create_api(web: Web) -> FastAPI:
    """The application, to be mounted below the studio's, whose guard stands before it."""
    app = FastAPI(title="tutelage studio, for programs", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.web, app.state.limiter = web, Limiter(per_minute=600, burst=60)
    app.add_api_route("/tasks", add_items, methods=["POST"])
    app.add_api_route("/scores", post_scores, methods=["POST"])
    app.add_api_route("/responses", to_score, methods=["GET"])
    app.add_api_route("/judgements", judgements, methods=["GET"])
    app.add_api_route("/retractions", retractions, methods=["GET"])
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(TutelageError, _our_error)
    app.add_exception_handler(RequestValidationError, _not_as_asked)
    app.add_exception_handler(TooLarge, _too_large)
    app.add_exception_handler(Exception, _unexpected)
    return app


def add_items(request: Request, token: Tasks, sent: ItemsSent) -> Response:
    """All of the items, or none and the reason."""
    web: Web = request.app.state.web
    now = web.store.now()
    items = [NewItem(**item.model_dump(exclude={"responses"}), responses=tuple(answer.model_dump() for answer in item.responses))
             for item in sent.items]

    def work(conn: Connection) -> list[dict[str, Any]]:
        made = [programs.add_item(conn, item, at, now=now) for at, item in enumerate(items)]
        record_audit(conn, actor_id=token["labeler_id"], action="api tasks", subject=token["name"], items=len(made), now=now)
        return made

    return JSONResponse({"items": web.store.write(work)}, 201)


def post_scores(request: Request, token: Scores, sent: ScoresSent) -> Response:
    """A reward model's scores, and with them the order of what is open."""
    web: Web = request.app.state.web
    now, given = web.store.now(), [Score(one.response_id, one.score, one.spread) for one in sent.scores]

    def work(conn: Connection) -> int:
        record_audit(conn, actor_id=token["labeler_id"], action="api scores", subject=sent.model, scores=len(given), now=now)
        return add_scores(conn, sent.model, given, now=now)

    return JSONResponse({"scores": len(given), "tasks": web.store.write(work)})


def to_score(request: Request, token: Scores, model: Annotated[str, Query(max_length=300), AfterValidator(holdable)], after: After = 0,
             limit: Limit = 200) -> Response:
    """Answers in open tasks that `model` has not scored yet: {"response_id", "prompt", "text"} a line."""
    with request.app.state.web.store.read() as conn:
        return _lines(programs.unscored(conn, model, after=after, limit=limit))


def judgements(request: Request, token: Judgements, after: After = 0, limit: Limit = 200) -> Response:
    """Judgements that stand, one a line, oldest first, in the layout of `feedback export --to judgements`, with the `id` to go on after."""
    web: Web = request.app.state.web
    key = web.store.write(key_of_store)
    with web.store.read() as conn:
        return _lines(programs.judgement_rows(conn, key, after=after, limit=limit))


def retractions(request: Request, token: Judgements, after: After = 0, limit: Limit = 200) -> Response:
    """Judgements that no longer stand: {"id", "judgement_id", "reason", "at"} a line."""
    with request.app.state.web.store.read() as conn:
        return _lines(programs.retraction_rows(conn, after=after, limit=limit))


def _lines(rows: Iterable[dict[str, Any]]) -> Response:
    return Response("".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows),
                    media_type="application/jsonl; charset=utf-8")


def _error(status: int, message: str, hint: str | None = None, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": {"message": message, **({"hint": hint} if hint else {})}}, status, headers)


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 400:                                    # what FastAPI says of a body that is no text, or lists too deep
        return _error(422, "the body cannot be read as JSON", _JSON_HINT)
    return _error(error.status_code, str(error.detail), headers=dict(error.headers or {}))


def _our_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, TutelageError)
    return _error(status_of(error, 422), str(error), error.hint)


def _not_as_asked(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    fault = error.errors()[0]
    if fault["type"] == "json_invalid":
        return _error(422, f"the body is not JSON from character {fault['loc'][-1]} on: {fault['ctx']['error']}", _JSON_HINT)
    where = ".".join(str(part) for part in fault["loc"] if part not in ("body", "query"))
    return _error(422, f"{where}: {fault['msg']}" if where else str(fault["msg"]))


def _too_large(request: Request, error: Exception) -> Response:
    return _error(413, f"at most {MAX_BODY_BYTES / 1e6:g} MB can be sent at once")


def _unexpected(request: Request, error: Exception) -> Response:
    log.error("%s %s", request.method, request.url.path, exc_info=error)
    return _error(500, "the studio failed at this request; its log says why")
