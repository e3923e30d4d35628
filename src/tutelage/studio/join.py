"""The doors: an invite link, signing in, signing out."""

from __future__ import annotations

import re

from fastapi import APIRouter, Depends, Request
from starlette.responses import RedirectResponse, Response

from tutelage.feedback import accounts
from tutelage.feedback.accounts import AccountError
from tutelage.feedback.newcomers import practice_waits
from tutelage.web.app import Web, error_page
from tutelage.web.session import AnyForm, OwnForm, SignInNeeded, Visitor, current, knock, sign_in, sign_out, text_of

router = APIRouter()
START = "/work"


@router.get("/")
def start(request: Request) -> Response:
    """Where one goes from the bare address."""
    return RedirectResponse(START, 303)


@router.get("/join/{token}")
def invite(request: Request, token: str) -> Response:
    """The page of an invite link."""
    web: Web = request.app.state.web
    try:
        with web.store.read() as conn:
            found = accounts.open_invite(conn, token, now=web.store.now())
    except AccountError as error:
        return error_page(request, 404, str(error), error.hint)
    return _join_page(request, 200, role=found["role"])


@router.post("/join/{token}", dependencies=[Depends(knock)])
def accept(request: Request, token: str, form: AnyForm) -> Response:
    """Make the account of a link and sign in."""
    web: Web = request.app.state.web
    name, language, now = text_of(form, "name", 1000), text_of(form, "language", 20), web.store.now()
    language = language if language in web.words.languages else web.language(request)
    role = None
    try:
        with web.store.read() as conn:
            role = accounts.open_invite(conn, token, now=now)["role"]  # before the work of hashing a password
        password_hash = accounts.hash_password(text_of(form, "password", 10_000), name=name)
        labeler_id = web.store.write(lambda conn: accounts.accept_invite(conn, token, name=name, password_hash=password_hash,
                                                                         language=language, now=now))
    except AccountError as error:
        return _join_page(request, 422, role=role, name=name, error=str(error), hint=error.hint)
    response = RedirectResponse(START, 303)
    sign_in(request, response, labeler_id)
    return response


@router.get("/login")
def login_page(request: Request, next: str = "") -> Response:  # noqa: A002 - the name people see in the address
    """The sign-in page, or straight on for who is signed in."""
    try:
        current(request)
    except SignInNeeded:
        return _login_page(request, 200, back=next)
    return RedirectResponse(_own_path(next), 303)


@router.post("/login", dependencies=[Depends(knock)])
def login(request: Request, form: AnyForm) -> Response:
    """Sign in with name and password."""
    web: Web = request.app.state.web
    name, back, now = text_of(form, "name", 1000), text_of(form, "next", 2000), web.store.now()
    try:
        account = web.store.write(lambda conn: accounts.try_login(conn, name, now=now))
    except AccountError:
        account = None                                               # locked: told like a name nobody has, or it would tell names
    matches = accounts.password_matches(account["password_hash"] if account else None, text_of(form, "password", 10_000))
    if account is None or not matches:
        language = web.language(request)
        return _login_page(request, 401, back=back, name=name, error=web.words.say(language, "login_wrong"),
                           hint=web.words.say(language, "login_wrong_hint"))
    labeler_id: int = account["id"]
    web.store.write(lambda conn: accounts.note_login(conn, labeler_id, succeeded=True, now=now))
    response = RedirectResponse(_own_path(back), 303)
    sign_in(request, response, labeler_id)
    return response


@router.post("/logout")
def logout(request: Request, session: Visitor, form: OwnForm) -> Response:
    """End this session."""
    web: Web = request.app.state.web
    web.store.write(lambda conn: accounts.revoke_session(conn, session.id, now=web.store.now()))
    response = RedirectResponse("/login", 303)
    sign_out(request, response)
    return response


def _own_path(path: str) -> str:
    """A path of this site; anything that might lead elsewhere becomes the start."""
    return path if re.fullmatch(r"/(?!/)[\w/\-]*", path) else START


def _join_page(request: Request, status: int, *, role: str | None, name: str = "", error: str | None = None,
               hint: str | None = None) -> Response:
    """role: what the link makes of them; None where the link is no longer good."""
    web: Web = request.app.state.web
    with web.store.read() as conn:
        practice = role == "labeler" and practice_waits(conn)
    return web.html(request, "join.html", status, languages=web.words.languages, practice=practice, name=name, error=error, hint=hint)


def _login_page(request: Request, status: int, back: str, name: str = "", error: str | None = None, hint: str | None = None) -> Response:
    return request.app.state.web.html(request, "login.html", status, next=back, name=name, error=error, hint=hint)
