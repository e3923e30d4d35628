"""The factory of the web apps: one store, one guard, one way to answer a page, a part of it, or an error."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import HTMLResponse, RedirectResponse, Response

from tutelage.base.errors import TutelageError
from tutelage.base.log import get_logger
from tutelage.base.times import utc_time
from tutelage.feedback.accounts import Session
from tutelage.feedback.errors import ErasedError, StoreError
from tutelage.feedback.store import Store

from .assets import Assets, check_vendored
from .limits import Limiter
from .markdown import plain
from .session import SignInNeeded, StaleForm, TooLong, csrf_field, read_form, written
from .site import HEADERS, SAFE_METHODS, Guard, Site, TooLarge
from .words import Words

log = get_logger("web")
_SAID_OF_STATUS = {403: "error_forbidden", 404: "error_not_found", 405: "error_not_found", 413: "error_too_large", 429: "error_too_often"}


@dataclass
class Web:
    """What every request may need; `app.state.web`."""

    store: Store
    site: Site
    assets: Assets
    words: Words
    pages: Environment
    requests: Limiter = field(default_factory=lambda: Limiter(per_minute=600, burst=120))
    """Of one signed-in session."""
    doors: Limiter = field(default_factory=lambda: Limiter(per_minute=40, burst=40))
    """Passwords and links tried from one address: a room full of new labelers comes in at once; guessing is what the lockout is for."""
    of_person: dict[str, Callable[[Session], Any]] = field(default_factory=dict)
    """What templates may ask about whoever is signed in, such as `news()`: looked up when the page first asks, and once for the page."""

    def html(self, request: Request, template: str, status: int = 200, /, **values: Any) -> Response:
        """A page from a template, in the words and colours of whoever asks."""
        session: Session | None = getattr(request.state, "session", None)
        settings: Mapping[str, Any] = session.settings if session else {}
        language = self.language(request)

        def t(key: str, /, **filled: Any) -> str:
            return self.words.say(language, key, **filled)

        known = {"t": t, "asset": self.assets.url, "language": language, "session": session, "theme": settings.get("theme", "auto"),
                 "shortcuts": settings.get("shortcuts", True), "partial": is_partial(request), "path": request.url.path,
                 "csrf": csrf_field(session) if session else "",
                 **({name: cache(partial(ask, session)) for name, ask in self.of_person.items()} if session else {})}
        return HTMLResponse(self.pages.get_template(template).render({**known, **values}), status)

    def told(self, request: Request, error: TutelageError) -> tuple[str, str | None]:
        """(message, hint) of an error for whoever asks: where the database is, and what to do about it, is for leads."""
        session: Session | None = getattr(request.state, "session", None)
        if not isinstance(error, StoreError) or (session is not None and session.may("lead")):
            return str(error), error.hint
        language = self.language(request)
        return error.what, self.words.say(language, "error_store_hint")

    def language(self, request: Request) -> str:
        """Of the signed-in person, else of the browser."""
        session: Session | None = getattr(request.state, "session", None)
        return session.language if session else self.words.choose(request.headers.get("accept-language"))


def create_app(store: Store, site: Site, *, package: str, title: str) -> FastAPI:
    """An app whose templates, words and static files are `package`'s beside those shared here."""
    check_vendored()
    app = FastAPI(title=title, docs_url=None, redoc_url=None, openapi_url=None)
    loader = ChoiceLoader([PackageLoader(package), PackageLoader("tutelage.web")])
    pages = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    pages.filters |= {"date": _date, "browser": _browser, "text": _text}
    web = Web(store, site, Assets("tutelage.web", package), Words(package), pages)
    app.state.web = web
    app.add_api_route("/static/{name}", web.assets.serve, methods=["GET"])
    app.add_exception_handler(SignInNeeded, _sign_in_needed)
    app.add_exception_handler(StaleForm, _stale_form)
    app.add_exception_handler(TooLong, _too_long)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _no_such_page)
    app.add_exception_handler(TooLarge, _too_large)
    app.add_exception_handler(TutelageError, _our_error)
    app.add_exception_handler(Exception, _unexpected)
    app.add_middleware(GZipMiddleware, minimum_size=500, compresslevel=6)
    app.add_middleware(Guard, site=site)
    return app


def _date(at: float) -> str:
    return utc_time(at).strftime("%Y-%m-%d %H:%M UTC")


def _text(written: str | None) -> Markup:
    """What somebody wrote, with nothing in it that is not seen."""
    return plain(written or "")


def _browser(user_agent: str | None) -> str:
    """`Firefox 145, Linux`: the two names of a browser's long self-description that people know."""
    agent = user_agent or ""
    names = re.findall(r"(Edg|OPR|Firefox|Chrome|HeadlessChrome|Safari)/(\d+)", agent)
    systems = re.findall(r"Android|iPhone|iPad|Windows|Macintosh|Linux", agent)
    return ", ".join([*(" ".join(name) for name in names[:1]), *systems[:1]]) or agent[:40]


def is_partial(request: Request) -> bool:
    """Whether htmx asks for the main part of a page, which it puts into the page that is there."""
    return request.headers.get("hx-request") == "true"


def go(request: Request, url: str) -> Response:
    """Send the browser to a page of ours. htmx, which would follow a redirect and put the page inside the page, is told otherwise."""
    return Response(status_code=204, headers={"hx-redirect": url}) if is_partial(request) else RedirectResponse(url, 303)


def error_page(request: Request, status: int, message: str, hint: str | None = None) -> Response:
    """One sentence of what happened, one of what to do."""
    return request.app.state.web.html(request, "error.html", status, message=message, hint=hint)


async def _sign_in_needed(request: Request, error: Exception) -> Response:
    """The way to the sign-in page; for a form, that it was not taken, with what was written in it, to be kept by whoever wrote it."""
    if request.method in SAFE_METHODS:
        return go(request, "/login" if request.url.path == "/" else f"/login?next={quote(request.url.path)}")
    is_form = request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
    form = await read_form(request) if is_form else FormData()
    return _not_taken(request, 401, "signed_out", form)


def _stale_form(request: Request, error: Exception) -> Response:
    assert isinstance(error, StaleForm)
    return _not_taken(request, 403, "stale", error.form)


def _too_long(request: Request, error: Exception) -> Response:
    assert isinstance(error, TooLong)
    return _not_taken(request, 413, "error_too_large", error.form)


def _not_taken(request: Request, status: int, why: str, form: FormData) -> Response:
    response: Response = request.app.state.web.html(request, "not_taken.html", status, why=why, written=written(form))
    response.headers["hx-retarget"] = "#main"
    return response


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    web: Web = request.app.state.web
    key = _SAID_OF_STATUS.get(error.status_code, "error_unexpected")
    language = web.language(request)
    return error_page(request, error.status_code, web.words.say(language, key), web.words.say(language, f"{key}_hint"))


def _no_such_page(request: Request, error: Exception) -> Response:
    return _http_error(request, HTTPException(404))


def _too_large(request: Request, error: Exception) -> Response:
    return _http_error(request, HTTPException(413))


def status_of(error: TutelageError, otherwise: int = 409) -> int:
    """503 where nothing can be written or read now, such as on a full disk; 410 for what was erased."""
    return 503 if isinstance(error, StoreError) else 410 if isinstance(error, ErasedError) else otherwise


def _our_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, TutelageError)
    return error_page(request, status_of(error), *request.app.state.web.told(request, error))


def _unexpected(request: Request, error: Exception) -> Response:
    log.error("%s %s", request.method, request.url.path, exc_info=error)
    response = _http_error(request, HTTPException(500))
    response.headers.update(HEADERS)                                  # this one is sent from outside the guard
    return response
