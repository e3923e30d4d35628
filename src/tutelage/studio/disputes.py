"""Where people and a reward model, or people among themselves, say the opposite: a lead reads, and says what it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from sqlalchemy import Connection
from starlette.responses import Response

from tutelage.base.errors import TutelageError
from tutelage.feedback import adjudication
from tutelage.feedback.accounts import Session
from tutelage.feedback.disagreements import Disagreement, disagreements
from tutelage.feedback.items import halted_tasks, judgements_of_task, opinions
from tutelage.feedback.triage import triage
from tutelage.web.app import Web, go, status_of
from tutelage.web.session import OwnForm, text_of

from .people import Id, Lead
from .say import in_words
from .view import load_item

router = APIRouter(prefix="/lead")
LISTED = 50


@router.get("/disagreements")
def disagree(request: Request, session: Lead, at: int = 0) -> Response:
    """What the newest reward model holds to be the other way, one at a time. at: the task to look at; 0: the worst."""
    return _disagreements(request, session, at)


@router.post("/disagreements/{task_id}")
def judge(request: Request, session: Lead, form: OwnForm, task_id: Id) -> Response:
    """Say what a disagreement is, and see the next."""
    web: Web = request.app.state.web
    verdict, text, chosen = text_of(form, "verdict", 20), text_of(form, "text", 5000), text_of(form, "right", 3)
    with web.store.read() as conn:
        said = opinions(conn, task_id)
        following = [row.task_id for row in _from(disagreements(conn).left, task_id)[1:]]
    expected = said[int(chosen)] if chosen.isdecimal() and int(chosen) < len(said) else None
    try:
        made = web.store.write(lambda conn: triage(conn, task_id=task_id, verdict=verdict, by_id=session.labeler_id, now=web.store.now(),
                                                   text=text, expected=expected))
    except TutelageError as error:
        return _disagreements(request, session, task_id, status_of(error, 422), text=text, error=str(error), hint=error.hint)
    return _disagreements(request, session, following[0] if following else 0, made=made, verdict=verdict)


def _disagreements(request: Request, session: Session, at: int, status: int = 200, **said: Any) -> Response:
    web: Web = request.app.state.web
    with web.store.read() as conn:
        listed = disagreements(conn)
        order = _from(listed.left, at)
        shown = order[0] if order else None
        view = load_item(conn, shown.task_id) if shown else None
        rows = judgements_of_task(conn, shown.task_id) if shown else []
        choices = opinions(conn, shown.task_id) if shown else []
    places = range(len(view.answers) if view else 0)
    scores = shown.scores if shown and view and len(shown.scores) == len(view.answers) else []
    known = {"made": None, "verdict": None, "text": "", "error": None, "hint": None}
    return web.html(
        request, "lead_disagreements.html", status, **(known | said), listed=listed, shown=shown, view=view, listed_at_most=LISTED,
        scores=[web.words.say(session.language, "model_score", score=f"{score:+.2f}") for score in scores],
        following=order[1].task_id if len(order) > 1 else None,
        rows=[row | {"said": in_words(web.words, session.language, row["kind"], row["value"], places)} for row in rows],
        choices=[in_words(web.words, session.language, view.kind, one, places) for one in choices] if view else [])


def _from(left: Any, task_id: int) -> list[Disagreement]:
    """The list from a task on, and then round from its start; from its start where the task is not on it."""
    at = next((place for place, row in enumerate(left) if row.task_id == task_id), 0)
    return [*left[at:], *left[:at]]


# Adjudication ----------------------------------------------------------------------------------------------------------------------------


@router.get("/adjudication")
def adjudicate(request: Request, session: Lead) -> Response:
    """Where people contradict each other, what waits for an expert, and what experts said."""
    return _adjudication(request, session)


@router.post("/adjudication")
def send(request: Request, session: Lead, form: OwnForm) -> Response:
    """Ask an expert about the marked ones."""
    marked = [int(number) for number in map(str, form.getlist("task")) if number.isdecimal() and len(number) < 10]
    return _settle(request, session, lambda conn, now: adjudication.send(conn, marked, by_id=session.labeler_id, now=now))


@router.post("/adjudication/{item_id}")
def settle(request: Request, session: Lead, form: OwnForm, item_id: Id) -> Response:
    """Let everything stand, overrule what contradicts the expert, or take that back."""
    outcome, by = text_of(form, "outcome", 20), session.labeler_id
    if outcome == "back":
        return _settle(request, session, lambda conn, now: adjudication.unsettle(conn, item_id, by_id=by, now=now))
    overrule = {"overrule": True, "keep": False}.get(outcome)
    if overrule is None:
        return _adjudication(request, session, 422, error="nothing was chosen", hint="use a button of the page")
    return _settle(request, session, lambda conn, now: adjudication.settle(conn, item_id, overrule=overrule, by_id=by, now=now))


def _settle(request: Request, session: Session, change: Callable[[Connection, float], Any]) -> Response:
    web: Web = request.app.state.web
    try:
        web.store.write(lambda conn: change(conn, web.store.now()))
    except TutelageError as error:
        return _adjudication(request, session, status_of(error), error=str(error), hint=error.hint)
    return go(request, "/lead/adjudication")


def _adjudication(request: Request, session: Session, status: int = 200, error: str | None = None, hint: str | None = None) -> Response:
    web: Web = request.app.state.web
    with web.store.read() as conn:
        disputed, waiting, judged = adjudication.disputes(conn), adjudication.waiting(conn), adjudication.adjudicated(conn)
        halted = [row | {"reasons": [_skipped(web, session, reason) for reason in row["reasons"]]} for row in halted_tasks(conn)]

    def told(row: dict[str, Any]) -> dict[str, Any]:
        sides = range(len((row["value"] or {}).get("ranks", (0, 0))))
        return row | {"said": in_words(web.words, session.language, row["kind"], row["value"], sides)}

    outcomes = [one._replace(said=told(one.said), against=list(map(told, one.against)), overruled=list(map(told, one.overruled)))
                for one in judged]
    return web.html(request, "lead_adjudication.html", status, disputed=disputed, waiting=waiting, outcomes=outcomes, halted=halted,
                    recent=adjudication.RECENT, error=error, hint=hint)


def _skipped(web: Web, session: Session, reason: str) -> str:
    """A reason to skip, `unclear: in their own words`, as it stood on the page."""
    name, colon, words = reason.partition(":")
    return web.words.say(session.language, f"skip_{name}", otherwise=name) + colon + words
