"""The lead's rooms: guidelines, and what labelers report and ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from sqlalchemy import Connection
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from tutelage.base.errors import TutelageError
from tutelage.feedback import guidelines
from tutelage.feedback.accounts import Session
from tutelage.feedback.errors import ContentError
from tutelage.feedback.items import KNOWN, MADE, copy_task, halt_task, judgements_of_task, open_task, right_answers
from tutelage.feedback.reports import answer_report, inbox, reopen_report
from tutelage.feedback.values import stored
from tutelage.web.app import Web, go, status_of
from tutelage.web.markdown import render
from tutelage.web.session import OwnForm, text_of

from .people import Id, Lead
from .say import in_words
from .view import content_of_task, load_item, whole_item_answer
from .whole import answer_page, turn_page

router = APIRouter(prefix="/lead")


@router.get("")
def start(request: Request, session: Lead) -> Response:
    """Where a lead begins."""
    return RedirectResponse("/lead/reports", 303)


# Guidelines ------------------------------------------------------------------------------------------------------------------------------


@router.get("/guidelines")
def edit(request: Request, session: Lead) -> Response:
    """The guidelines, to be rewritten, and every version there was."""
    return _guidelines(request)


@router.post("/guidelines")
def save(request: Request, session: Lead, form: OwnForm) -> Response:
    """Put a new version in force, or show how it would look."""
    web: Web = request.app.state.web
    text, base = text_of(form, "text"), text_of(form, "base", 50) or None
    if "preview" in form:
        return _guidelines(request, text=text, base=base, preview=render(text, guidelines.MAX_CHARS))
    try:
        web.store.write(lambda conn: guidelines.save(conn, text=text, base=base, by_id=session.labeler_id, now=web.store.now()))
    except TutelageError as error:
        return _guidelines(request, status_of(error, 422), text=text, error=str(error), hint=error.hint)
    return go(request, "/lead/guidelines")


@router.get("/guidelines/{name}")
def old(request: Request, session: Lead, name: str) -> Response:
    """One version as labelers saw it."""
    web: Web = request.app.state.web
    with web.store.read() as conn:
        found = guidelines.version(conn, name)
    if found is None:
        raise HTTPException(404)
    return web.html(request, "lead_version.html", shown=found, html=render(found.text or "", None))


def _guidelines(request: Request, status: int = 200, **said: Any) -> Response:
    """The editor. What was typed over another version stays beside what is in force now, and is saved over that."""
    web: Web = request.app.state.web
    with web.store.read() as conn:
        now, kept = guidelines.current(conn), guidelines.versions(conn)
    known = {"text": now.text or "", "base": now.version, "preview": None, "error": None, "hint": None}
    return web.html(request, "lead_guidelines.html", status, **(known | said), now=now, kept=kept, html=render(now.text or "", None))


# Reports ---------------------------------------------------------------------------------------------------------------------------------


@router.get("/reports")
def reports(request: Request, session: Lead, closed: int = 0) -> Response:
    """What labelers report and ask; `closed`: what was answered."""
    return _reports(request, closed=bool(closed))


@router.post("/reports/{report_id}")
def answer(request: Request, session: Lead, form: OwnForm, report_id: Id) -> Response:
    """Answer a report, or close it. What cannot be taken stays in its box."""
    text = text_of(form, "text", 5000)
    try:
        return _do(request, "/lead/reports", lambda conn, now: answer_report(conn, report_id, text=text, by_id=session.labeler_id, now=now))
    except TutelageError as error:
        return _reports(request, status_of(error), failed=report_id, text=text, error=str(error), hint=error.hint)


@router.post("/reports/{report_id}/open")
def reopen(request: Request, session: Lead, form: OwnForm, report_id: Id) -> Response:
    """Put a closed report back into the inbox."""
    return _do(request, "/lead/reports", lambda conn, now: reopen_report(conn, report_id, by_id=session.labeler_id, now=now))


def _reports(request: Request, status: int = 200, *, closed: bool = False, failed: int = 0, text: str = "", error: str | None = None,
             hint: str | None = None) -> Response:
    """failed: the report whose answer, `text`, could not be taken."""
    web: Web = request.app.state.web
    with web.store.read() as conn:
        rows = inbox(conn, state="closed" if closed else "open")
    return web.html(request, "lead_reports.html", status, rows=rows, closed=closed, failed=failed, text=text, error=error, hint=hint)


# Items -----------------------------------------------------------------------------------------------------------------------------------


@router.get("/tasks/{task_id}")
def item(request: Request, session: Lead, task_id: Id) -> Response:
    """A task, and what everybody said of it."""
    return _item(request, session, task_id)


@router.get("/tasks/{task_id}/answers/{at}")
def whole(request: Request, session: Lead, task_id: Id, at: int) -> Response:
    """One answer of it, whole, as plain text in a page of its own."""
    web: Web = request.app.state.web
    with web.store.read() as conn:
        text = whole_item_answer(conn, task_id, at)
    return answer_page(request, text, at)


@router.get("/tasks/{task_id}/turns/{at}")
def turn(request: Request, session: Lead, task_id: Id, at: int) -> Response:
    """One message of its prompt, whole."""
    web: Web = request.app.state.web
    with web.store.read() as conn:
        content = content_of_task(conn, task_id)
    return turn_page(request, content, at)


@router.post("/tasks/{task_id}/copies")
def make(request: Request, session: Lead, form: OwnForm, task_id: Id) -> Response:
    """Make a practice, screening, gold, shared, drift or adjudication item of the same answers."""
    web: Web = request.app.state.web
    purpose, right, reasons = text_of(form, "purpose", 20), text_of(form, "right", 3), text_of(form, "text", 5000)
    ranks = text_of(form, "ranks", 100).split()
    with web.store.read() as conn:
        known, view = right_answers(conn, task_id), load_item(conn, task_id)
    expected = known[int(right)] if right.isdecimal() and int(right) < len(known) else None
    try:
        if ranks and view is not None and view.kind == "ranking":
            expected = stored("ranking", {"ranks": [int(rank) if rank.isdecimal() else rank for rank in ranks]}, range(len(view.answers)))
        made = web.store.write(lambda conn: copy_task(conn, task_id, purpose=purpose, by_id=session.labeler_id, now=web.store.now(),
                                                      expected=expected, reasons=reasons))
    except ContentError as error:
        return _item(request, session, task_id, 422, text=reasons, error=str(error), hint=error.hint)
    return go(request, f"/lead/tasks/{made}")


@router.post("/tasks/{task_id}/halt")
def halt(request: Request, session: Lead, form: OwnForm, task_id: Id) -> Response:
    """Give a task to nobody any more."""
    return _do(request, f"/lead/tasks/{task_id}", lambda conn, now: halt_task(conn, task_id, by_id=session.labeler_id, now=now))


@router.post("/tasks/{task_id}/open")
def open_again(request: Request, session: Lead, form: OwnForm, task_id: Id) -> Response:
    """Put a halted task back into the queue."""
    return _do(request, f"/lead/tasks/{task_id}", lambda conn, now: open_task(conn, task_id, by_id=session.labeler_id, now=now))


def _item(request: Request, session: Session, task_id: int, status: int = 200, text: str = "", error: str | None = None,
          hint: str | None = None) -> Response:
    web: Web = request.app.state.web
    with web.store.read() as conn:
        view, said, known = load_item(conn, task_id), judgements_of_task(conn, task_id), right_answers(conn, task_id)
    if view is None:
        raise HTTPException(404)
    kind, sides = view.kind, range(len(view.answers))

    def told(value: Any) -> str:
        return in_words(web.words, session.language, kind, value, sides)

    return web.html(request, "lead_item.html", status, view=view, rows=[row | {"said": told(row["value"])} for row in said],
                    expected=told(view.expected), known=[told(one) for one in known], text=text, error=error, hint=hint,
                    purposes=MADE if known or kind == "ranking" else MADE[len(KNOWN):])


def _do(request: Request, then: str, change: Callable[[Connection, float], Any]) -> Response:
    """One change, and a page to look at it. What is refused is told by the app's page for errors."""
    web: Web = request.app.state.web
    web.store.write(lambda conn: change(conn, web.store.now()))
    return go(request, then)
