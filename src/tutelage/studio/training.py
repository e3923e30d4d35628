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
from tutelage.web.app import Web, go, is_partial
from tutelage.web.session import OwnForm

from .people import Id, Lead

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


@router.get("/{training_id}")
def training(request: Request, session: Lead, training_id: Id) -> Response:
    """What one of them learnt, of whom."""
    web: Web = request.app.state.web
    try:
        found = retrain.look(web.store, training_id)
    except RetrainError:
        raise HTTPException(404) from None
    report = found.report
    return web.html(request, "lead_trained.html", training=found, people=_people(report), worth=report.get("labels_worth"))


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
    rows = [(one, _people(one.report)) for one in found]
    return web.html(request, "lead_training.html", status, trainer=request.app.state.trainer, running=running, rows=rows,
                    now=web.store.now(), error=error, hint=hint)


def _people(report: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a report that names whom the model agrees with; {} of a training without one."""
    found = report.get("people")
    return found if isinstance(found, dict) else {}


def duration(seconds: float) -> str:
    """`4:07` minutes, or `1:04:07` hours."""
    minutes, rest = divmod(int(max(seconds, 0)), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def share(found: Mapping[str, Any] | None) -> str:
    """An estimate as `72.4 % [68.1, 76.2]`; empty where there was nothing to count."""
    return _told(found, "{:.1f} %", "{:.1f}")


def points(found: Mapping[str, Any] | None) -> str:
    """A difference of shares as `+2.8 points [-0.3, +5.9]`; empty where there was nothing to count."""
    return _told(found, "{:+.1f} points", "{:+.1f}")


def _told(found: Mapping[str, Any] | None, form: str, bound: str) -> str:
    if not found or found.get("mean") is None:
        return ""
    low, high = found.get("low"), found.get("high")
    interval = "" if low is None or high is None else f" [{bound.format(100 * low)}, {bound.format(100 * high)}]"
    return form.format(100 * found["mean"]) + interval
