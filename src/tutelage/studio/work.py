"""The labeler's way: the next task, its answer, and everything one can do instead of answering."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from sqlalchemy import Connection, select
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response

from tutelage.base.errors import TutelageError
from tutelage.feedback import accounts, queue, revisions, writing
from tutelage.feedback import guidelines as rules
from tutelage.feedback.about import done_today
from tutelage.feedback.accounts import Session
from tutelage.feedback.errors import ContentError, ErasedError, QueueError, StoreError
from tutelage.feedback.newcomers import standing_of
from tutelage.feedback.pii import mask_text
from tutelage.feedback.reports import add_report
from tutelage.feedback.schema import judgements, labelers, tasks
from tutelage.feedback.standing import MEASURING
from tutelage.feedback.values import agrees, stored
from tutelage.web.app import Web, is_partial, status_of
from tutelage.web.markdown import plain, render
from tutelage.web.session import OwnForm, Visitor, text_of, written

from . import forms, say
from .assistant import AssistantError, revision_messages
from .news import GUIDELINES
from .view import TaskView, content_of_assignment, load_task, whole_answer
from .whole import answer_page, turn_page

router = APIRouter()
Id = Annotated[int, Path(ge=1, lt=2**31)]
SKIP_REASONS = ("knowledge", "unclear", "broken", "uneasy", "other")


@router.get("/work")
def work(request: Request, session: Visitor, show: int = 0) -> Response:
    """The task at hand, or a new one. show: the assignment whose content warning was read."""
    return _next(request, session, shown_id=show)


@router.post("/work/undo")
def undo(request: Request, session: Visitor, form: OwnForm) -> Response:
    """Take the last submission back, to change it."""
    web: Web = request.app.state.web
    web.store.write(lambda conn: writing.undo_last(conn, session.labeler_id, now=web.store.now()))
    return _next(request, session, notice=web.words.say(session.language, "undone"))


@router.post("/work/{assignment_id}")
def submit(request: Request, session: Visitor, form: OwnForm, assignment_id: Id) -> Response:
    """Take an answer and give the next task, in one go."""
    web: Web = request.app.state.web
    view, now = _own_task(request, session, assignment_id), web.store.now()
    value = forms.value_of(view.kind, form, len(view.answers), view.form)
    took = forms.seconds(form, now - view.claimed_at)
    version, again = web.assets.version, view.state == "submitted"
    try:
        judgement_id = web.store.write(lambda conn: queue.submit(
            conn, assignment_id=assignment_id, labeler_id=session.labeler_id, value=value, seconds=took, now=now,
            interface_version=version))
    except ErasedError:
        raise                                                       # a page of its own, without what was entered
    except TutelageError as error:
        message, hint = web.told(request, error)
        return _task_page(request, session, view, status_of(error, 422), error=message, hint=hint, entered=forms.fields(form),
                          spent=forms.spent(form))
    counts = _value_of(request, judgement_id)
    if (other := other_page(request, session, view.kind, counts, view.sides, value, form, "/work")) is not None:
        return other
    if view.purpose == "practice" and view.expected:
        return _practice_page(request, session, view, judgement_id)
    tested = view.purpose == "screening"
    if tested and _passed(request, session):
        return _next(request, session, notice=web.words.say(session.language, "screening_passed_now"))
    if view.kind == "critique" and view.purpose not in MEASURING and request.app.state.assistant.is_set():
        return web.html(request, "revision.html", view=view)
    said = web.words.say(session.language, "submitted_before" if again else "submitted")
    return _next(request, session, notice=said, may_undo=not again and not tested)


@router.post("/work/{assignment_id}/revision")
def revision(request: Request, session: Visitor, form: OwnForm, assignment_id: Id) -> Response:
    """Have the model rewrite what was criticised, and give that back to be accepted or changed."""
    web: Web = request.app.state.web
    with web.store.read() as conn:
        about = revisions.criticised(conn, assignment_id, session.labeler_id)
    edit_id = about.edit_id
    try:
        if edit_id is None:
            made = request.app.state.assistant.one(revision_messages(about.prompt, about.answer, mask_text(about.critique)[0]))
            edit_id = web.store.write(lambda conn: revisions.add_revision(conn, about, made, session.labeler_id, now=web.store.now()))
    except AssistantError:
        return _next(request, session, notice=web.words.say(session.language, "revision_failed"))
    view = _own_task(request, session, edit_id)
    return _task_page(request, session, view) if view.state == "reserved" else _next(request, session)


@router.post("/work/{assignment_id}/compare")
def compare(request: Request, session: Visitor, form: OwnForm, assignment_id: Id) -> Response:
    """Instead of editing a revision that is no better, say how it compares with the original."""
    web: Web = request.app.state.web
    view, notice = _own_task(request, session, assignment_id), None
    try:
        web.store.write(lambda conn: revisions.compare_instead(conn, assignment_id, session.labeler_id, now=web.store.now()))
    except QueueError as error:
        if view.state != "skipped":                                  # said before: the comparison is the task at hand
            notice = web.told(request, error)[0]
    return _next(request, session, notice=notice)


@router.post("/work/{assignment_id}/draft")
def draft(request: Request, session: Visitor, form: OwnForm, assignment_id: Id) -> Response:
    """Keep what was entered so far."""
    web: Web = request.app.state.web
    now = web.store.now()
    kept = {"at": now, "fields": forms.fields(form)}
    web.store.write(lambda conn: queue.save_draft(conn, assignment_id=assignment_id, labeler_id=session.labeler_id, draft=kept, now=now))
    return Response(status_code=204)


@router.post("/work/{assignment_id}/skip")
def skip(request: Request, session: Visitor, form: OwnForm, assignment_id: Id) -> Response:
    """Give the task to somebody else, with the reason."""
    web: Web = request.app.state.web
    reason, words = text_of(form, "reason", 20), text_of(form, "text", 2000).strip()
    if reason not in SKIP_REASONS:
        raise HTTPException(404)
    said = f"{reason}: {words}" if words else reason
    web.store.write(lambda conn: queue.skip(conn, assignment_id=assignment_id, labeler_id=session.labeler_id, reason=said,
                                            now=web.store.now()))
    return _next(request, session, notice=web.words.say(session.language, "skipped"))


@router.post("/work/{assignment_id}/never")
def never(request: Request, session: Visitor, form: OwnForm, assignment_id: Id) -> Response:
    """Opt out of the kinds of content this task was marked with, and give it to somebody else."""
    web: Web = request.app.state.web
    view, now = _own_task(request, session, assignment_id), web.store.now()

    def work(conn: Connection) -> None:
        unwanted = sorted({*session.settings.get("avoid_warnings", []), *view.warnings})
        accounts.set_setting_of(conn, session.labeler_id, avoid_warnings=unwanted)
        queue.skip(conn, assignment_id=assignment_id, labeler_id=session.labeler_id, reason="uneasy", now=now)
        queue.give_back_unwanted(conn, session.labeler_id, now=now)

    web.store.write(work)
    return _next(request, session, notice=web.words.say(session.language, "skipped"))


@router.post("/work/{assignment_id}/report")
def report(request: Request, session: Visitor, form: OwnForm, assignment_id: Id) -> Response:
    """Tell the lead of harm, or ask a question; the task stays."""
    web: Web = request.app.state.web
    kind, text = text_of(form, "kind", 20), text_of(form, "text", 5000)
    web.store.write(lambda conn: add_report(conn, kind=kind, assignment_id=assignment_id, labeler_id=session.labeler_id, text=text,
                                            now=web.store.now()))
    said = web.words.say(session.language, "report_sent")
    return HTMLResponse(plain(said)) if is_partial(request) else _next(request, session, notice=said)


@router.get("/work/{assignment_id}/answers/{at}")
def answer(request: Request, session: Visitor, assignment_id: Id, at: int) -> Response:
    """One answer, whole, as plain text in a page of its own."""
    web: Web = request.app.state.web
    with web.store.read() as conn:
        text = whole_answer(conn, assignment_id, session.labeler_id, at)
    return answer_page(request, text, at)


@router.get("/work/{assignment_id}/turns/{at}")
def turn(request: Request, session: Visitor, assignment_id: Id, at: int) -> Response:
    """One message of the prompt, whole."""
    web: Web = request.app.state.web
    with web.store.read() as conn:
        content = content_of_assignment(conn, assignment_id, session.labeler_id)
    return turn_page(request, content, at)


@router.get("/guidelines")
def guidelines(request: Request, session: Visitor) -> Response:
    """What the lead asks for."""
    web: Web = request.app.state.web
    with web.store.read() as conn:
        found = rules.current(conn)
    if session.settings.get(GUIDELINES) != found.version:
        web.store.write(lambda conn: accounts.set_setting_of(conn, session.labeler_id, **{GUIDELINES: found.version}))
    text = found.text or web.words.say(session.language, "guidelines_none")
    return web.html(request, "guidelines.html", shown=found, html=render(text, None))


def _own_task(request: Request, session: Session, assignment_id: int) -> TaskView:
    """Raises: 404 for a task that is somebody else's, or is not there, alike."""
    with request.app.state.web.store.read() as conn:
        view = load_task(conn, assignment_id, session.labeler_id)
    if view is None:
        raise HTTPException(404)
    return view


def _next(request: Request, session: Session, *, notice: str | None = None, may_undo: bool = False, shown_id: int = 0) -> Response:
    """The open reservation or a new one, behind its content warning; or that there is nothing to do."""
    web: Web = request.app.state.web
    without = () if request.app.state.assistant.is_set() else ("conversation",)     # nobody to talk to: they wait, other work goes on
    try:
        claim = web.store.write(lambda conn: queue.claim(conn, session.labeler_id, now=web.store.now(), without=without))
    except StoreError as error:                                      # what came before is done; only the next task cannot be held now
        with web.store.read() as conn:
            claim = queue.resume(conn, session.labeler_id, without=without)
        if claim is None:
            message, hint = web.told(request, error)
            return web.html(request, "error.html", 503, message=f"{notice or ''} {message}".strip(), hint=hint)
    if claim is None:
        with web.store.read() as conn:
            standing, none_yet = standing_of(conn, session.labeler_id), conn.scalar(select(tasks.c.id).limit(1)) is None
        return web.html(request, "idle.html", none_yet=none_yet, notice=notice, may_undo=may_undo,
                        progress=_progress(request, session), standing=standing)
    view = _own_task(request, session, claim.assignment_id)
    unwanted = set(view.warnings) & set(session.settings.get("avoid_warnings", ()))
    if view.warnings and shown_id != view.assignment_id and (unwanted or not view.draft):
        kinds = ", ".join(web.words.say(session.language, f"warning_{kind}", otherwise=kind) for kind in view.warnings)
        return web.html(request, "warning.html", view=view, kinds=kinds, notice=notice, may_undo=may_undo)
    return _task_page(request, session, view, notice=notice, may_undo=may_undo)


def other_page(request: Request, session: Session, kind: str, counts: dict[str, Any], sides: Sequence[int], sent: dict[str, Any],
               form: OwnForm, back: str) -> Response | None:
    """What counts beside what was sent now, where another tab had submitted something else; None where they are the same."""
    web: Web = request.app.state.web
    now = None
    with contextlib.suppress(ContentError):                          # what cannot be is no answer that was lost
        now = stored(kind, sent, sides)
    if now is None or now == counts:
        return None
    counted, told = (say.in_words(web.words, session.language, kind, value, sides) for value in (counts, now))
    return web.html(request, "other.html", 409, counts=counted, now=told, written=written(form), back=back)


def _value_of(request: Request, judgement_id: int) -> dict[str, Any]:
    """What a judgement says; nothing where it was erased."""
    with request.app.state.web.store.read() as conn:
        return conn.scalar(select(judgements.c.value).where(judgements.c.id == judgement_id)) or {}


def _task_page(request: Request, session: Session, view: TaskView, status: int = 200, *, entered: dict[str, Any] | None = None,
               spent: float | None = None, notice: str | None = None, may_undo: bool = False, error: str | None = None,
               hint: str | None = None) -> Response:
    """spent: seconds on the same page before an error, by its clock, which goes on from there."""
    web: Web = request.app.state.web
    view = view if entered is None else replace(view, draft=entered)
    return web.html(request, "work.html", status, view=view, progress=_progress(request, session), notice=notice, may_undo=may_undo,
                    spent="" if spent is None else spent, error=error, hint=hint)


def _practice_page(request: Request, session: Session, view: TaskView, judgement_id: int) -> Response:
    """What the expert said of the same task, and why."""
    web: Web = request.app.state.web
    value = _value_of(request, judgement_id)
    expected = view.expected or {}
    return web.html(request, "practice.html", view=view, agrees=agrees(view.kind, value, expected),
                    mine=say.in_words(web.words, session.language, view.kind, value, view.sides),
                    theirs=say.in_words(web.words, session.language, view.kind, expected, view.sides),
                    reasons=render(str(expected.get("reasons", "")), None))


def _passed(request: Request, session: Session) -> bool:
    """Whether they are past their screening."""
    with request.app.state.web.store.read() as conn:
        standing = conn.scalar(select(labelers.c.screening).where(labelers.c.id == session.labeler_id)) or {}
    return bool(standing.get("state") == "passed")


def _progress(request: Request, session: Session) -> dict[str, Any]:
    web: Web = request.app.state.web
    with web.store.read() as conn:
        done = done_today(conn, session.labeler_id, now=web.store.now())
    minutes = int(done.seconds // 60)
    return {"count": done.judgements, "seconds": done.seconds, "clock": f"{minutes // 60}:{minutes % 60:02}"}
