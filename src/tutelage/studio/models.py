"""Which model server people talk to, and which of its models: a page for leads."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from sqlalchemy import Connection
from starlette.responses import Response

from tutelage.base.errors import ConfigError, TutelageError, did_you_mean
from tutelage.feedback.accounts import Session
from tutelage.feedback.content import record_audit
from tutelage.web.app import Web, go
from tutelage.web.outbound import Server
from tutelage.web.session import OwnForm, at_least, text_of

from . import assistant
from .assistant import Assistant, AssistantError, Chosen

router = APIRouter(prefix="/models")
Lead = Annotated[Session, Depends(at_least("lead"))]


@router.get("")
def page(request: Request, session: Lead) -> Response:
    """The server in force and its models, as it lists them now."""
    return _page(request)


@router.post("")
def change(request: Request, session: Lead, form: OwnForm) -> Response:
    """Set the server and its models, once the server has answered. Without an address, none is set."""
    web: Web = request.app.state.web
    talker: Assistant = request.app.state.assistant
    url, names = text_of(form, "url", 1000).strip().rstrip("/"), [text_of(form, f"name_{i}", 300).strip() for i in (1, 2)]
    try:
        chosen = _checked(talker, url, tuple(name for name in names if name))
    except TutelageError as error:
        return _page(request, 422, entered=(url, names), error=str(error), hint=error.hint)
    now = web.store.now()

    def work(conn: Connection) -> None:
        assistant.keep(conn, chosen)
        record_audit(conn, actor_id=session.labeler_id, action="set models", subject=chosen.url, names=list(chosen.names), now=now)

    web.store.write(work)
    talker.use(chosen)
    return go(request, "/models")


def _checked(talker: Assistant, url: str, names: tuple[str, ...]) -> Chosen:
    """The setting, if it works. Raises: ConfigError, AssistantError."""
    server = talker.given or (Server(url) if url else None)
    if server is None:
        return Chosen()
    known = talker.names(server)
    for name in names:
        if name not in known:
            raise ConfigError(f"the server has no model {name!r}{did_you_mean(name, known)}", hint=f"it has {', '.join(known[:20])}")
    return Chosen(None if talker.given else url, names)


def _page(request: Request, status: int = 200, entered: tuple[str, list[str]] | None = None, error: str | None = None,
          hint: str | None = None) -> Response:
    web: Web = request.app.state.web
    talker: Assistant = request.app.state.assistant
    known: list[str] = []
    if talker.is_set() and error is None:
        try:
            known = talker.names()
        except AssistantError as failed:
            error, hint = str(failed), failed.hint
    url, names = entered or (talker.chosen.url or "", list(talker.chosen.names))
    return web.html(request, "models.html", status, given=talker.given.url if talker.given else None, url=url, known=known,
                    names=[*names, "", ""][:2], error=error, hint=hint)
