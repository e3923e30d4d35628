"""How the work goes, for leads: throughput, yield, the queue, pay, cost and what reward models learn, each with its table as CSV."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from tutelage.feedback import flow, learning, retrain
from tutelage.feedback.accounts import Session
from tutelage.feedback.errors import ContentError
from tutelage.feedback.store import Store
from tutelage.web.app import Web, go
from tutelage.web.session import OwnForm, text_of

from . import charts, forms
from .charts import Point
from .people import Admin, Id, Lead
from .tables import SHOWN, Table, cells_of, columns_of, csv_response

router = APIRouter(prefix="/dashboard")
SHOWN_DAYS = 60


@dataclass(frozen=True)
class Flow:
    """Everything the page tells, read at one moment."""

    now: float
    done: list[flow.Done]
    people: dict[int, flow.Rate]
    throughput: list[tuple[int, dict[str, int]]]
    yields: list[flow.Yield]
    waiting: list[flow.Waiting]
    pay: list[flow.Pay]
    costs: list[flow.Cost]
    trained: list[learning.Trained]
    newest: learning.Newest | str


@router.get("")
def dashboard(request: Request, session: Lead, pay: int = 0) -> Response:
    """The page. pay: with the list of everybody's pay per hour open."""
    return _page(request, session, pay_open=bool(pay))


def _page(request: Request, session: Session, status: int = 200, *, pay_open: bool = False, failed: int = 0, entered: str = "",
          error: str | None = None, hint: str | None = None) -> Response:
    """failed: whose pay per hour could not be set to what was entered."""
    web: Web = request.app.state.web
    running = retrain.current(web.store)                              # one that has ended is recorded as such, and told below
    found = read_flow(web.store)

    def t(key: str, **values: Any) -> str:
        return web.words.say(session.language, key, **values)

    counts = [(day, sum(by_kind.values())) for day, by_kind in found.throughput]
    days = [Point(_day(day), count) for day, count in counts[-SHOWN_DAYS:]]
    trained = [(row.judgements, row.accuracy) for row in found.trained]
    curve = [] if isinstance(found.newest, str) else found.newest.curve
    given = {one.labeler for one in found.done}
    return web.html(request, "dashboard.html", status, found=found, running=running, shown=SHOWN,
                    paid=[one for one in found.people.values() if one.account or one.id in given], cap=round(flow.PAID_SECONDS / 60),
                    nobody_talks=not request.app.state.assistant.is_set() and any(
                        row.kind == "conversation" and row.open for row in found.waiting),
                    today=dict(counts).get(int(found.now // flow.DAY), 0),
                    days=charts.bars(days, title=t("dashboard_throughput")) if days else None,
                    trained=charts.by_judgements(trained, title=t("dashboard_learning")),
                    curve=charts.by_judgements(curve, title=t("dashboard_curve")), pay_open=pay_open, failed=failed, entered=entered,
                    error=error, hint=hint)


@router.post("/pay/{labeler_id}")
def set_rate(request: Request, session: Admin, form: OwnForm, labeler_id: Id) -> Response:
    """Say what an hour of somebody's work costs; an empty field: it is not known."""
    web: Web = request.app.state.web
    given, now = text_of(form, "pay_per_hour", 20).strip(), web.store.now()
    try:
        rate = _number(given)
        web.store.write(lambda conn: flow.set_rate(conn, labeler_id, rate, by_id=session.labeler_id, now=now))
    except ContentError as error:
        return _page(request, session, 422, pay_open=True, failed=labeler_id, entered=given, error=str(error), hint=error.hint)
    return go(request, "/dashboard?pay=1#pay")


@router.get("/{name}.csv")
def table(request: Request, session: Lead, name: str) -> Response:
    """A table behind the page."""
    if name not in TABLES:
        raise HTTPException(404)
    return csv_response(request, session, name, TABLES[name](read_flow(request.app.state.web.store)))


def read_flow(store: Store) -> Flow:
    """How the work goes now."""
    now = store.now()
    with store.read() as conn:
        done, people = flow.work_done(conn), flow.rates(conn)
        return Flow(now, done, people, flow.throughput(done), flow.yields(conn), flow.waiting(conn, now=now), flow.pay(done, people),
                    flow.costs(conn, done, people), learning.trained(conn), learning.newest(conn))


def _number(given: str) -> float | None:
    """18.50 or 18,50. Raises: ContentError for what is none."""
    if not given:
        return None
    try:
        return forms.number(given)
    except ValueError as error:
        raise ContentError(f"the pay per hour is {given!r}", hint="give a number from 0 on, in any currency") from error


def _day(day: int) -> str:
    return datetime.fromtimestamp(day * flow.DAY, UTC).strftime("%m-%d")


def _date(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")


def _throughput(found: Flow) -> Table:
    return Table(["day", "labeler", "kind", "judgements", "given", "seconds"],
                 ([_date(one.day * flow.DAY), found.people[one.labeler].name, one.kind, one.judgements, one.given, one.seconds + one.over]
                  for one in found.done))


def _yield(found: Flow) -> Table:
    return Table(["kind", "claimed", *flow.OUTCOMES, *columns_of("label_yield")],
                 ([row.kind, row.claimed, *row.outcomes.values(), *cells_of(row.label_yield)] for row in found.yields))


def _queue(found: Flow) -> Table:
    return Table(["purpose", "kind", "open", "untouched", "waiting_for_another", "held", "held_ending_soon", "halted", "oldest_open"],
                 ([*row[:8], None if row.oldest is None else datetime.fromtimestamp(row.oldest, UTC).isoformat()] for row in found.waiting))


def _pay(found: Flow) -> Table:
    return Table(["month", "labeler", "group", "judgements", "hours", "hours_over_cap", "pay_per_hour", "pay"],
                 ([row.month, row.labeler, row.group, row.given, round(row.hours, 4), round(row.hours_over, 4), row.pay_per_hour,
                   None if row.pay is None else round(row.pay, 2)] for row in found.pay))


def _cost(found: Flow) -> Table:
    return Table(["kind", "items", "judgements", "hours", "hours_without_rate", "cost", "cost_per_item"],
                 ([*row[:3], round(row.hours, 4), round(row.unpaid, 4), row.cost, row.per_item] for row in found.costs))


def _learning(found: Flow) -> Table:
    curve = [] if isinstance(found.newest, str) else [[found.newest.id, "bag of words", None, count, *cells_of(accuracy)]
                                                      for count, accuracy in found.newest.curve]
    return Table(["training", "model", "day", "judgements", *columns_of("accuracy")],
                 [[row.id, "reward model", _date(row.ended_at), row.judgements, *cells_of(row.accuracy)] for row in found.trained] + curve)


def _accuracy(found: Flow) -> Table:
    rows = [] if isinstance(found.newest, str) else [[found.newest.id, side, name, *cells_of(accuracy)]
                                                     for (side, name), accuracy in found.newest.who.items()]
    return Table(["training", "whose", "name", *columns_of("accuracy")], rows)


TABLES: dict[str, Callable[[Flow], Table]] = {
    "throughput": _throughput, "yield": _yield, "queue": _queue, "pay": _pay, "cost": _cost, "learning": _learning, "accuracy": _accuracy}
