"""One's own page: what one gave, settings, sessions, password, a copy of everything."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from sqlalchemy import Connection
from starlette.responses import Response

from tutelage.feedback import accounts, queue
from tutelage.feedback.about import everything_about, recent_judgements
from tutelage.feedback.accounts import AccountError
from tutelage.feedback.reports import reports_of
from tutelage.web.app import Web, go
from tutelage.web.markdown import render
from tutelage.web.session import OwnForm, Visitor, text_of

from .news import SEEN, news_of
from .say import in_words

router = APIRouter(prefix="/me")
THEMES = ("auto", "light", "dark")
WARNINGS = ("sexual", "violence", "self_harm", "hate", "abuse")
"""Kinds of content a prompt can be marked with, and a labeler can opt out of."""


@router.get("")
def me(request: Request, session: Visitor) -> Response:
    """One's own page, with the answers of leads, which are read from now on."""
    web: Web = request.app.state.web
    if news_of(web.store, session).answers:
        web.store.write(lambda conn: accounts.set_setting_of(conn, session.labeler_id, **{SEEN: web.store.now()}))
    return _page(request, session)


@router.get("/everything.json")
def everything(request: Request, session: Visitor) -> Response:
    """All that is kept about whoever asks."""
    with request.app.state.web.store.read() as conn:
        found = everything_about(conn, session.labeler_id)
    return Response(json.dumps(found, ensure_ascii=False, indent=1), media_type="application/json",
                    headers={"content-disposition": 'attachment; filename="about-me.json"'})


@router.post("/settings")
def settings(request: Request, session: Visitor, form: OwnForm) -> Response:
    """Language, colours, keys, and what one does not want to see."""
    web: Web = request.app.state.web
    theme, language = text_of(form, "theme", 20), text_of(form, "language", 20)
    unwanted = [kind for kind in WARNINGS if kind in form.getlist("unwanted")]

    def work(conn: Connection) -> None:
        accounts.set_setting_of(conn, session.labeler_id, theme=theme if theme in THEMES[1:] else None, avoid_warnings=unwanted or None,
                                shortcuts=None if text_of(form, "shortcuts") == "yes" else False)
        queue.give_back_unwanted(conn, session.labeler_id, now=web.store.now())
        if language in web.words.languages:
            accounts.set_language(conn, session.labeler_id, language)

    web.store.write(work)
    return go(request, "/me")


@router.post("/password")
def password(request: Request, session: Visitor, form: OwnForm) -> Response:
    """A new password, for who knows the present one."""
    web: Web = request.app.state.web
    now = web.store.now()
    try:
        account = web.store.write(lambda conn: accounts.try_login(conn, session.name, now=now))
        if account is None or not accounts.password_matches(account["password_hash"], text_of(form, "old", 10_000)):
            raise AccountError(web.words.say(session.language, "me_password_wrong"))
        web.store.write(lambda conn: accounts.note_login(conn, session.labeler_id, succeeded=True, now=now))
        new = accounts.hash_password(text_of(form, "new", 10_000), name=session.name)
    except AccountError as error:
        return _page(request, session, 422, error=str(error), hint=error.hint)
    web.store.write(lambda conn: accounts.set_password(conn, session.labeler_id, new, now=now, keep=session.id))
    return _page(request, session, notice=web.words.say(session.language, "me_password_changed"))


@router.post("/sessions/{session_id}/revoke")
def revoke(request: Request, session: Visitor, form: OwnForm, session_id: Annotated[int, Path(ge=1, lt=2**31)]) -> Response:
    """Sign oneself out somewhere else."""
    web: Web = request.app.state.web
    web.store.write(lambda conn: accounts.revoke_session(conn, session_id, now=web.store.now(), labeler_id=session.labeler_id))
    return go(request, "/me")


def _page(request: Request, session: accounts.Session, status: int = 200, **said: str | None) -> Response:
    web: Web = request.app.state.web
    with web.store.read() as conn:
        given = recent_judgements(conn, session.labeler_id)
        sessions = accounts.list_sessions(conn, now=web.store.now(), labeler_id=session.labeler_id)
        told = reports_of(conn, session.labeler_id)
    told = [row | {"html": render(row["answer"])} if row["answer"] else row for row in told]
    rows = [row | {"asked": _asked(row["prompt"]),
                   "said": in_words(web.words, session.language, row["kind"], row["value"], row["sides"])} for row in given]
    return web.html(request, "me.html", status, given=rows, told=told, sessions=sessions, warnings=WARNINGS, themes=THEMES,
                    languages=web.words.languages, **({"error": None, "hint": None, "notice": None} | said))


def _asked(content: Any) -> str:
    """What was asked last; empty for a task without a prompt, or whose prompt was erased."""
    if isinstance(content, str):
        return content
    return next((turn["content"] for turn in reversed(content or []) if turn["role"] == "user"), "")
