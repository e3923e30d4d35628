"""The screening test: where newcomers stand, whom it removes, and what it asks for."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from tutelage.base.errors import TutelageError
from tutelage.feedback import newcomers
from tutelage.feedback.errors import ContentError
from tutelage.feedback.intervals import Statistic
from tutelage.web.app import Web, go
from tutelage.web.session import OwnForm, text_of

from .people import Id, Lead

router = APIRouter(prefix="/lead/screening")


@router.get("")
def screening(request: Request, session: Lead) -> Response:
    """Everybody who is or was to be screened."""
    return _page(request)


@router.post("/test")
def test(request: Request, session: Lead, form: OwnForm) -> Response:
    """Change the test for those who have not begun."""
    web: Web = request.app.state.web
    try:
        numbers = [float(text_of(form, name, 20)) / 100 for name in ("good", "poor")]
        most = int(text_of(form, "at_most", 10))
    except ValueError:
        return _page(request, 422, error="a number is missing", hint="give two percentages and the most items")
    try:
        web.store.write(lambda conn: newcomers.set_test(conn, good=numbers[0], poor=numbers[1], at_most=most, by_id=session.labeler_id,
                                                        now=web.store.now()))
    except ContentError as error:
        return _page(request, 422, error=str(error), hint=error.hint)
    return go(request, "/lead/screening")


@router.post("/{labeler_id}")
def decide(request: Request, session: Lead, form: OwnForm, labeler_id: Id) -> Response:
    """Let somebody in, or not."""
    web: Web = request.app.state.web
    state = text_of(form, "state", 20)
    try:
        web.store.write(lambda conn: newcomers.decide(conn, labeler_id, state, by_id=session.labeler_id, now=web.store.now()))
    except TutelageError as error:
        return _page(request, 409, error=str(error), hint=error.hint)
    return go(request, "/lead/screening")


def _page(request: Request, status: int = 200, error: str | None = None, hint: str | None = None) -> Response:
    web: Web = request.app.state.web
    with web.store.read() as conn:
        people, now, items = newcomers.newcomers(conn), newcomers.test_now(conn), newcomers.items(conn)
        groups = newcomers.groups_passed(newcomers.screenings(conn))
    rates = sorted({now.poor, round((now.poor + now.good) / 2, 3), now.good})
    return web.html(request, "lead_screening.html", status, error=error, hint=hint, test=now, items=items,
                    people=[(one, as_estimate(one.right)) for one in people],
                    groups=[(one, as_estimate(one.passed), as_estimate(one.difference)) for one in groups],
                    lengths=[(rate, *now.characteristic(rate)) for rate in rates])


def as_estimate(found: Statistic) -> dict[str, Any]:
    """As the filters of numbers take it."""
    return {"mean": found.value, "low": found.low, "high": found.high}
