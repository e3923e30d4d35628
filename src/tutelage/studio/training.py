"""Retrain: a lead starts a reward model on what people said, watches it learn, and reads whom it agrees with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from tutelage.base.errors import TutelageError
from tutelage.feedback import retrain
from tutelage.feedback.errors import RetrainError
from tutelage.feedback.intervals import Statistic
from tutelage.feedback.learning import ENOUGH_PROMPTS, as_statistic, most_first, of_few
from tutelage.web.app import Web, go, is_partial
from tutelage.web.session import OwnForm

from . import charts
from .people import Id, Lead
from .tables import SHOWN, Table, cells_of, columns_of, csv_response

router = APIRouter(prefix="/lead/training")


@dataclass(frozen=True)
class Trainer:
    """What a click on Retrain does, as whoever started the server said; nothing of it comes from a page.

    policy: where the weights come from, as `model.policy` of `tutelage reward`. folder: where snapshots/ and trainings/ lie.
    overrides: more of its settings, section.key=value.
    """

    policy: str
    folder: Path
    overrides: tuple[str, ...] = ()


@router.get("")
def trainings(request: Request, session: Lead) -> Response:
    """What was trained, what is being trained, and the button."""
    return _page(request)


@router.post("")
def start(request: Request, session: Lead, form: OwnForm) -> Response:
    """Freeze what people said and train from it."""
    web: Web = request.app.state.web
    trainer: Trainer | None = request.app.state.trainer
    if trainer is None:
        raise HTTPException(404)
    try:
        retrain.start(web.store, policy=trainer.policy, folder=trainer.folder, overrides=trainer.overrides, created_by=session.labeler_id)
    except TutelageError as error:
        return _page(request, 409, error=str(error), hint=error.hint)
    return go(request, "/lead/training")


@router.get("/now")
def now(request: Request, session: Lead) -> Response:
    """How the running one stands, for the page that asks every two seconds; when it has ended, the whole page anew."""
    web: Web = request.app.state.web
    running = retrain.current(web.store)
    if running is None or not is_partial(request):
        return go(request, "/lead/training")
    return web.html(request, "lead_training_now.html", running=running, now=web.store.now())


@dataclass(frozen=True)
class Told:
    """What a training's report says. overall, labelers, groups, kinds: (name, accuracy). gap: see docs/reward.md.

    curve: (judgements, accuracy), without: (labeler, their judgements, change of accuracy), both of refitted models: retrained.
    """

    overall: list[tuple[str, Statistic]]
    labelers: list[tuple[str, Statistic]]
    groups: list[tuple[str, Statistic]]
    kinds: list[tuple[str, Statistic]]
    gap: Statistic
    curve: list[tuple[int, Statistic]]
    without: list[tuple[str, int, Statistic]]
    retrained: str


@router.get("/{training_id}.csv")
def table(request: Request, session: Lead, training_id: Id) -> Response:
    """All that the page of one of them tells, as a table."""
    told = _told(_look(request, training_id).report)
    parts = {"overall": told.overall, "labeler": told.labelers, "group": told.groups, "kind": told.kinds, "gap": [("", told.gap)]}
    rows = [[part, name, None, *cells_of(found)] for part, of_part in parts.items() for name, found in of_part]
    rows += [["judgements", None, count, *cells_of(found)] for count, found in told.curve]
    rows += [["without", name, count, *cells_of(found)] for name, count, found in told.without]
    return csv_response(request, session, f"training-{training_id}", Table(["part", "name", "judgements", *columns_of("accuracy")], rows))


@router.get("/{training_id}")
def training(request: Request, session: Lead, training_id: Id) -> Response:
    """What one of them learnt, of whom."""
    web: Web = request.app.state.web
    found = _look(request, training_id)
    told = _told(found.report)

    def t(key: str) -> str:
        return web.words.say(session.language, key)

    names = {"all": t("people_all"), "training_labelers": t("people_training"), "held_out_labelers": t("people_held")}
    beside = _beside(found.result)
    return web.html(request, "lead_trained.html", training=found, told=told, overall=[(names[part], one) for part, one in told.overall],
                    kinds=[(t(f"title_{kind}"), one) for kind, one in told.kinds], beside=beside, no_better=_no_better(beside), shown=SHOWN,
                    enough=ENOUGH_PROMPTS, chart=charts.by_judgements(told.curve, title=t("worth_curve")))


@router.post("/{training_id}/stop")
def stop(request: Request, session: Lead, form: OwnForm, training_id: Id) -> Response:
    """Stop the one that runs."""
    web: Web = request.app.state.web
    try:
        retrain.stop(web.store, training_id, by_id=session.labeler_id)
    except RetrainError as error:
        return _page(request, 409, error=str(error), hint=error.hint)
    return go(request, "/lead/training")


def _page(request: Request, status: int = 200, error: str | None = None, hint: str | None = None) -> Response:
    web: Web = request.app.state.web
    found = retrain.newest(web.store)
    running = next((one for one in found if one.state == "running"), None)
    rows = [(one, _statistic(_people(one.report).get("all"))) for one in found]
    return web.html(request, "lead_training.html", status, trainer=request.app.state.trainer, running=running, rows=rows,
                    now=web.store.now(), error=error, hint=hint)


def _people(report: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a report that names whom the model agrees with; {} of a training without one."""
    found = report.get("people")
    return found if isinstance(found, dict) else {}


def _look(request: Request, training_id: int) -> retrain.Training:
    """Raises: 404 where there is none of that id."""
    try:
        return retrain.look(request.app.state.web.store, training_id)
    except RetrainError:
        raise HTTPException(404) from None


def _told(report: Mapping[str, Any]) -> Told:
    people, worth = _people(report), report.get("labels_worth") or {}
    sides = ("all", "training_labelers", "held_out_labelers") if people else ()
    return Told([(side, _statistic(people.get(side))) for side in sides], most_first(people.get("labelers")),
                most_first(people.get("groups")), most_first(people.get("kinds")), of_few(people.get("gap")),
                [(point["judgements"], _statistic(point["accuracy"])) for point in worth.get("curve", [])], _without(worth),
                worth.get("retrained", ""))


def _beside(result: Mapping[str, Any]) -> dict[str, tuple[str, Statistic]]:
    """`model` and the baselines -> (accuracy, or auc where nobody compared answers, the number), on the same held-out judgements."""
    measure, found = ("accuracy", result["pairs"]) if "pairs" in result else ("auc", result.get("labels") or {})
    told = {"model": found[measure], **(found.get("baselines_ci") or {})} if found else {}
    return {name: (measure, _statistic(one)) for name, one in told.items()}


def _no_better(beside: Mapping[str, tuple[str, Statistic]]) -> list[str]:
    """What the model's accuracy is not above: a coin, length, bag_of_words."""
    values = {"coin": 0.5} | {name: one.value for name, (_, one) in beside.items() if one.value is not None}
    model = values.pop("model", None)
    return [] if model is None else [name for name, value in values.items() if model <= value]


def _without(worth: Mapping[str, Any]) -> list[tuple[str, int, Statistic]]:
    """(labeler, judgements, change of accuracy without them), those who gave the most first."""
    found = [(name, int(one["judgements"]), of_few(one["change"])) for name, one in (worth.get("without") or {}).items()]
    return sorted(found, key=lambda one: -one[1])


def _statistic(found: Mapping[str, Any] | None) -> Statistic:
    return as_statistic(found, "nothing held out to count")


def duration(seconds: float) -> str:
    """`4:07` minutes, or `1:04:07` hours."""
    minutes, rest = divmod(int(max(seconds, 0)), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
