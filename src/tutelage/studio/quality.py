"""Can the labels be trusted? For leads: agreement, each labeler and what the checks found, drift, and the tables behind it as CSV."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from tutelage.base.times import utc_time
from tutelage.feedback.checks import Drift
from tutelage.feedback.each_labeler import Flag
from tutelage.feedback.series import label_of
from tutelage.web.app import Web

from . import charts
from .charts import Point
from .newest import Newest, Told
from .people import Lead
from .tables import SHOWN, Table, cells_of, columns_of, csv_response

router = APIRouter(prefix="/quality")
SHOWN_CHARS = 200


@router.get("")
def quality(request: Request, session: Lead) -> Response:
    """The page."""
    web: Web = request.app.state.web
    told = _newest(request).get()
    found = told.overview

    def t(key: str, **values: Any) -> str:
        return web.words.say(session.language, key, **values)

    rows = [(row, [t(f"check_{flag.check}", **_in_words(flag, t)) for flag in row.flags]) for row in found.labelers[:SHOWN]]
    flagged = [row.person.name for row in found.labelers if row.flags]
    kinds = sorted({period.kind for period in found.periods})
    points = {kind: [Point(_day(p.start), p.raw.value, p.raw.low, p.raw.high) for p in found.periods if p.kind == kind] for kind in kinds}
    titles = {kind: web.words.say(session.language, "quality_over_time_of", kind=t(f"title_{kind}")) for kind in kinds}
    over_time = [(kind, charts.intervals(points[kind], title=titles[kind])) for kind in kinds]
    copies = [(name_of(told, one.labeler), one.value["text"][:SHOWN_CHARS], source[:SHOWN_CHARS]) for one, source in found.copies[:SHOWN]]
    return web.html(request, "quality.html", told=told, found=found, rows=rows, flagged=flagged, over_time=over_time, copies=copies,
                    shown=SHOWN, weekly=bool(found.periods) and found.periods[0].seconds > 86400, drift_chart=_drift_chart(found.drift, t))


@router.get("/{name}.csv")
def table(request: Request, session: Lead, name: str) -> Response:
    """A table behind the page."""
    if name not in TABLES:
        raise HTTPException(404)
    return csv_response(request, session, name, TABLES[name](_newest(request).get()))


def _newest(request: Request) -> Newest:
    """One for the app."""
    state = request.app.state
    if not hasattr(state, "newest"):
        state.newest = Newest(state.web.store)
    newest: Newest = state.newest
    return newest


def name_of(told: Told, labeler: int) -> str:
    """The name of a labeler."""
    return told.standing.people[labeler].name


def _in_words(flag: Flag, t: Callable[..., str]) -> dict[str, Any]:
    """What a flag says, as the words of its check are filled in."""
    made: dict[str, Any] = {name: value for name, value in flag.said.items() if not isinstance(value, float)}
    made |= {name: f"{value:.0%}" if name == "share" else f"{value:.2g}" for name, value in flag.said.items() if isinstance(value, float)}
    return made | ({"kind": t(f"title_{made['kind']}")} if "kind" in made else {}) | (
        {"which": t(f"reliability_{made['which']}")} if "which" in made else {})


def _drift_chart(drift: Drift | str, t: Callable[..., str]) -> Any:
    if isinstance(drift, str):
        return None
    return charts.intervals([Point(_day(start), won.value, won.low, won.high) for start, won in drift.periods], title=t("quality_drift"))


def _day(at: float) -> str:
    return utc_time(at).strftime("%m-%d")


def _date(at: float) -> str:
    return utc_time(at).strftime("%Y-%m-%d")


def _agreement(told: Told) -> Table:
    return Table(["batch", "kind", "judgements", "items", "labelers", "statistic", "value", "low", "high", "n", "why"],
                 ([row.batch, row.kind, row.judgements, row.items, row.labelers, name, *cells_of(found)]
                  for row in told.overview.agreements for name, found in row.found.items()))


def _over_time(told: Told) -> Table:
    return Table(["kind", "from", "days", "labels", *columns_of("raw"), *columns_of("alpha")],
                 ([p.kind, _date(p.start), round(p.seconds / 86400), p.labels, *cells_of(p.raw), *cells_of(p.alpha)]
                  for p in told.overview.periods))


def _labelers(told: Told) -> Table:
    parts = ("others", "experts", "gold", "pairs", "labels")
    return Table(["labeler", "role", "group", "held_out", "judgements", "median_seconds", *(c for part in parts for c in columns_of(part)),
                  "flags"],
                 ([row.person.name, row.person.role, row.person.group, row.person.held_out, row.judgements, row.seconds,
                   *(cell for part in parts for cell in cells_of(getattr(row, part))), " ".join(flag.check for flag in row.flags)]
                  for row in told.overview.labelers))


def _judgements(told: Told) -> Table:
    """What every agreement is computed from: one row a label."""
    items = told.standing.items
    rows = ((one, items[one.task], label_of(items[one.task].kind, one.value)) for one in told.standing.said)
    return Table(["judgement", "task", "prompt", "batch", "kind", "purpose", "labeler", "label", "step", "seconds", "at"],
                 ([one.id, one.task, item.prompt, item.batch, item.kind, item.purpose, name_of(told, one.labeler), label,
                   one.value.get("step"), one.seconds, utc_time(one.at).isoformat()]
                  for one, item, label in rows if label is not None))


def _difficulty(told: Told) -> Table:
    return Table(["margin_from", "margin_to", "items", *columns_of("raw"), *columns_of("alpha")],
                 ([row.low, row.high, row.items, *cells_of(row.raw), *cells_of(row.alpha)] for row in told.overview.difficulty))


def _drift(told: Told) -> Table:
    drift = told.overview.drift
    rows = [] if isinstance(drift, str) else [[_date(start), *cells_of(won)] for start, won in drift.periods]
    return Table(["from", *columns_of("first_answer_won")], rows)


def _copies(told: Told) -> Table:
    return Table(["judgement", "task", "labeler", "text", "repeats"],
                 ([one.id, one.task, name_of(told, one.labeler), one.value["text"], source] for one, source in told.overview.copies))


TABLES: dict[str, Callable[[Told], Table]] = {
    "agreement": _agreement, "over-time": _over_time, "labelers": _labelers, "judgements": _judgements,
    "difficulty": _difficulty, "drift": _drift, "copies": _copies}
