"""The screening test: where newcomers stand, whom it removes, and what it asks for."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from tutelage.base.errors import TutelageError
from tutelage.feedback import newcomers
from tutelage.feedback.errors import ContentError
from tutelage.web.app import Web, go
from tutelage.web.session import OwnForm, text_of

from .forms import number
from .people import Id, Lead
from .tables import Table, cells_of, columns_of, csv_response

router = APIRouter(prefix="/lead/screening")


@router.get("")
def screening(request: Request, session: Lead) -> Response:
    """Everybody who is or was to be screened."""
    return _page(request)


@router.get("/groups.csv")
def groups(request: Request, session: Lead) -> Response:
    """Whom the test removes, as a table."""
    with request.app.state.web.store.read() as conn:
        found = newcomers.groups_passed(conn)
    return csv_response(request, session, "screening", Table(["group", *columns_of("passed"), *columns_of("difference"), "flagged"],
                                           ([row.group, *cells_of(row.passed), *cells_of(row.difference), row.flagged] for row in found)))


@router.post("/test")
def test(request: Request, session: Lead, form: OwnForm) -> Response:
    """Change the test for those who have not begun."""
    web: Web = request.app.state.web
    try:
        numbers = [number(text_of(form, name, 20)) / 100 for name in ("good", "poor")]
        most = int(number(text_of(form, "at_most", 10)))             # 20.5 is 20, and what is too few or many is told below
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
        people, groups = newcomers.newcomers(conn), newcomers.groups_passed(conn)
        now, items = newcomers.test_now(conn), newcomers.items(conn)
    rates = sorted({now.poor, round((now.poor + now.good) / 2, 3), now.good})
    return web.html(request, "lead_screening.html", status, error=error, hint=hint, test=now, items=items, people=people, groups=groups,
                    lengths=[(rate, *now.characteristic(rate)) for rate in rates])
