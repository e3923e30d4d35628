"""Who asks, and whether the form they sent is theirs: the dependencies every route names."""

from __future__ import annotations

import contextlib
import hmac
import re
import secrets
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.responses import Response

from tutelage.feedback import accounts
from tutelage.feedback.accounts import Session
from tutelage.feedback.content import holdable
from tutelage.feedback.errors import StoreError

SEEN_EVERY_SECONDS = 300.0
_TOKEN_BYTES = 32
WRITTEN = re.compile(r"text|comment|question|columns|(query|reply)_\d")
"""Fields that hold what people write at length, and no secrets: shown again where a form cannot be taken."""


class SignInNeeded(Exception):
    """Nobody is signed in; the app answers with the sign-in page."""


class StaleForm(Exception):
    """The form is of no page of this session, such as of one that was open when its reader signed in anew; the app gives its text back."""

    def __init__(self, form: FormData) -> None:
        super().__init__()
        self.form = form


def current(request: Request) -> Session:
    """The signed-in person of a request. Raises: SignInNeeded; 429 for more requests than a person makes."""
    web = request.app.state.web
    key, now = request.cookies.get(web.site.cookie), web.store.now()
    session: Session | None = None
    if key:
        with web.store.read() as conn:
            session = accounts.find_session(conn, key, now=now)
    if session is None:
        raise SignInNeeded
    if web.requests.wait(str(session.id)):
        raise HTTPException(429)
    if now - session.last_seen_at > SEEN_EVERY_SECONDS:
        with contextlib.suppress(StoreError):                        # on a full disk pages can still be read
            web.store.write(lambda conn: accounts.note_seen(conn, session.id, now=now))
    request.state.session = session
    return session


Visitor = Annotated[Session, Depends(current)]


class TooLong(Exception):
    """Somebody wrote more than a field takes; the app gives it back."""

    def __init__(self, form: FormData) -> None:
        super().__init__()
        self.form = form


def at_least(role: str) -> Callable[[Session], Session]:
    """A dependency: the signed-in person, who has this role or one above it. Others are told that there is no such page."""

    def check(session: Visitor) -> Session:
        if not session.may(role):
            raise HTTPException(404)
        return session

    return check


async def read_form(request: Request) -> FormData:
    """A form of text fields; files are not taken."""
    return await request.form(max_files=0, max_fields=200, max_part_size=2_000_000)


async def own_form(request: Request, session: Visitor) -> FormData:
    """A form that came from a page given to this very session. Raises: StaleForm for any other."""
    return _checked(await read_form(request), request, session)


async def own_upload(request: Request, session: Visitor) -> FormData:
    """The same with one file."""
    return _checked(await request.form(max_files=1, max_fields=20, max_part_size=100_000), request, session)


def _checked(form: FormData, request: Request, session: Session) -> FormData:
    given = form.get("csrf") or request.headers.get("x-csrf-token")
    if not isinstance(given, str) or not hmac.compare_digest(_unmask(given), session.csrf_token):
        raise StaleForm(form)
    return form


AnyForm = Annotated[FormData, Depends(read_form)]
OwnForm = Annotated[FormData, Depends(own_form)]
OwnUpload = Annotated[FormData, Depends(own_upload)]


def csrf_field(session: Session) -> str:
    """The session's form token under a fresh mask: compressed pages would otherwise betray a constant bit by bit (BREACH)."""
    mask = secrets.token_bytes(_TOKEN_BYTES)
    return (mask + _xor(mask, bytes.fromhex(session.csrf_token))).hex()


def _unmask(given: str) -> str:
    try:
        raw = bytes.fromhex(given)
    except ValueError:
        return ""
    return _xor(raw[:_TOKEN_BYTES], raw[_TOKEN_BYTES:]).hex() if len(raw) == 2 * _TOKEN_BYTES else ""


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def sign_in(request: Request, response: Response, labeler_id: int) -> None:
    """Open a session and give its key to the browser."""
    web = request.app.state.web
    agent = request.headers.get("user-agent")
    key = web.store.write(lambda conn: accounts.open_session(conn, labeler_id, now=web.store.now(), user_agent=agent))
    response.set_cookie(web.site.cookie, key, max_age=int(accounts.SESSION_SECONDS), httponly=True, samesite="lax",
                        secure=web.site.public_url is not None, path="/")


def sign_out(request: Request, response: Response) -> None:
    """Make the browser forget its key; the session itself is revoked in the store."""
    site = request.app.state.web.site
    response.delete_cookie(site.cookie, path="/", secure=site.public_url is not None)


def knock(request: Request) -> None:
    """Count a try at a door (a password, a link) from this address. Raises: 429 for too many in a minute."""
    if request.app.state.web.doors.wait(request.client.host if request.client else ""):
        raise HTTPException(429)


def written(form: FormData) -> list[str]:
    """What somebody wrote in a form that cannot be taken, to be shown to them."""
    return [value for name, value in form.multi_items() if WRITTEN.fullmatch(name) and isinstance(value, str) and value.strip()]


def text_of(form: Any, name: str, limit: int = 1_000_000) -> str:
    """A text field of a form, with line ends as \\n, as databases can hold it; empty when absent.

    Raises: TooLong above `limit` characters, counted as browsers do, to whom the end of a line is one.
    """
    value = form.get(name)
    if not isinstance(value, str):
        return ""
    text = value.replace("\r\n", "\n")
    if len(text) > limit:
        raise TooLong(form)
    return holdable(text)
