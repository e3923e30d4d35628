"""The playground: a labeler talks to the assistant, and each turn chooses between two answers (Bai et al. 2022)."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response

from tutelage.base.errors import TutelageError
from tutelage.feedback import conversations
from tutelage.feedback.accounts import Session
from tutelage.feedback.conversations import Conversation
from tutelage.feedback.errors import ContentError, QueueError
from tutelage.feedback.newcomers import may_work
from tutelage.feedback.pii import Masker
from tutelage.feedback.store import Store
from tutelage.feedback.values import GOOD
from tutelage.web.app import Web, go, is_partial, status_of
from tutelage.web.markdown import plain
from tutelage.web.session import OwnForm, Visitor, text_of

from . import forms
from .assistant import Assistant, AssistantError
from .view import Answer, Turn, answers_shown, load_task, texts_of, turns_shown
from .whole import answer_page, turn_page
from .work import other_page

router = APIRouter(prefix="/talk")
Id = Annotated[int, Path(ge=1, lt=2**31)]
MAX_MESSAGE = 20_000


@dataclass(frozen=True)
class TalkView:
    """What the template shows of a conversation. at: messages so far, by which a form that comes late is told.

    question: what the task asks of it, where it belongs to one.
    """

    id: int
    at: int
    open: bool
    turns: list[Turn]
    answers: list[Answer]
    waits: bool
    may_take_back: bool
    draft: Mapping[str, Any]
    draft_at: float
    base: str
    question: str | None
    allow_tie: bool = field(default=False, init=False)
    allow_both_bad: bool = field(default=True, init=False)


def may_talk(store: Store, assistant: Assistant, session: Session) -> bool:
    """Whether there is anybody to talk to for somebody."""
    return assistant.is_set() and _screened(store, session)


def _screened(store: Store, session: Session) -> bool:
    """Whether no screening test stands before them: what is chosen in a conversation counts as work does."""
    with store.read() as conn:
        return may_work(conn, session.labeler_id)


@router.get("")
def talks(request: Request, session: Visitor) -> Response:
    """One's conversations, and the way into a new one."""
    web: Web = request.app.state.web
    with web.store.read() as conn:
        mine = conversations.of_labeler(conn, session.labeler_id)
    return web.html(request, "talks.html", mine=mine)


@router.post("")
def begin(request: Request, session: Visitor, form: OwnForm) -> Response:
    """A new conversation, for oneself or for a task of the queue. Who may not talk now is sent to their work, which says why."""
    web: Web = request.app.state.web
    task = text_of(form, "assignment", 12)
    assignment_id = int(task) if task.isdecimal() else None
    if assignment_id is not None and assignment_id >= 2**31:
        raise HTTPException(404)
    if assignment_id is None and not may_talk(web.store, request.app.state.assistant, session):
        return go(request, "/work")
    found = web.store.write(lambda conn: conversations.start(conn, session.labeler_id, now=web.store.now(), assignment_id=assignment_id))
    return go(request, f"/talk/{found}")


@router.get("/{conversation_id}")
def talk(request: Request, session: Visitor, conversation_id: Id) -> Response:
    """Where a conversation stands."""
    return _page(request, session, conversation_id)


@router.post("/{conversation_id}/say")
def say(request: Request, session: Visitor, form: OwnForm, conversation_id: Id) -> Response:
    """Say something and get two answers. What was typed is kept before the models are asked, so that no failure of theirs loses it."""
    web: Web = request.app.state.web
    found, at, text = _own(request, session, conversation_id), _at(form), text_of(form, "text", MAX_MESSAGE)
    if found.state != "open" or found.turn is not None or len(found.messages) != at:      # sent before: from another tab, or twice
        return _left_behind(request, session, conversation_id, at, text)
    kept = conversations.draft_of_end(found.draft) | {"text": text}
    asked = web.store.now()
    took = forms.seconds(form, asked - found.since)
    try:
        web.store.write(lambda conn: conversations.keep_draft(conn, found.id, session.labeler_id, kept, now=web.store.now()))
        if found.assignment_id is None and not _screened(web.store, session):
            return go(request, "/work")
        said = None if found.waits else _masked(found.messages, text)
        if said == "":
            raise ContentError(web.words.say(session.language, "talk_empty"))
        with _asking(found.id):
            answers = request.app.state.assistant.two([*found.said, *([] if said is None else [{"role": "user", "content": said}])])
        now = web.store.now()
        done = web.store.write(lambda conn: conversations.reply(conn, found.id, session.labeler_id, at=at, text=said, answers=answers,
                                                                 now=now, seconds=took + max(now - asked, 0.0)))
    except AssistantError as error:
        told = web.words.say(session.language, f"talk_failed_{error.reason}")
        return _page(request, session, conversation_id, 503, error=told, hint=web.words.say(session.language, "talk_kept"),
                     spent=forms.spent(form))
    except TutelageError as error:
        return _refused(request, session, conversation_id, error, form)
    return _page(request, session, conversation_id) if done else _left_behind(request, session, conversation_id, at, text)


@router.post("/{conversation_id}/choose")
def choose(request: Request, session: Visitor, form: OwnForm, conversation_id: Id) -> Response:
    """Which answer is better; it continues."""
    web: Web = request.app.state.web
    found, now = _own(request, session, conversation_id), web.store.now()
    value = forms.value_of("comparison", form, 2)
    took = forms.seconds(form, now - found.turn.at if found.turn else 0.0)
    try:
        made = web.store.write(lambda conn: conversations.choose(conn, found.id, session.labeler_id, at=_at(form), value=value, now=now,
                                                                 seconds=took, interface_version=web.assets.version))
    except TutelageError as error:
        return _refused(request, session, conversation_id, error, form)
    before = _chosen_before(request, session, conversation_id, form) if made is None else None
    other = before and other_page(request, session, "comparison", *before, value, form, f"/talk/{conversation_id}")
    return other or _page(request, session, conversation_id)


@router.post("/{conversation_id}/back")
def back(request: Request, session: Visitor, form: OwnForm, conversation_id: Id) -> Response:
    """Take the last choice back."""
    web: Web = request.app.state.web
    found = _own(request, session, conversation_id)
    web.store.write(lambda conn: conversations.take_back(conn, found.id, session.labeler_id, now=web.store.now()))
    return _page(request, session, conversation_id)


@router.post("/{conversation_id}/draft")
def draft(request: Request, session: Visitor, form: OwnForm, conversation_id: Id) -> Response:
    """Keep what was entered so far."""
    web: Web = request.app.state.web
    found = _own(request, session, conversation_id)
    kept = {name: value for name, value in forms.fields(form).items() if name != "at"}
    if len(found.messages) != _at(form):                            # the draft of a page that was left behind is not saved
        return Response(status_code=409)
    web.store.write(lambda conn: conversations.keep_draft(conn, found.id, session.labeler_id, kept, now=web.store.now()))
    return Response(status_code=204)


@router.post("/{conversation_id}/end")
def end(request: Request, session: Visitor, form: OwnForm, conversation_id: Id) -> Response:
    """Rate the whole and close it; one that has ended stays as it is (a double click, another tab)."""
    web: Web = request.app.state.web
    found, now = _own(request, session, conversation_id), web.store.now()
    rating, comment = text_of(form, "rating", 5), text_of(form, "comment", MAX_MESSAGE)
    if found.state == "ended" and comment.strip() in ("", found.comment):
        return RedirectResponse("/talk", 303)
    took = forms.seconds(form, now - found.since)
    try:
        web.store.write(lambda conn: conversations.end(conn, found.id, session.labeler_id, now=now, comment=comment,
                                                       rating=int(rating) if rating.isdecimal() else None, seconds=took,
                                                       interface_version=web.assets.version))
    except QueueError:
        return _page(request, session, conversation_id, 409, error=web.words.say(session.language, "talk_ended_before"),
                     hint=web.words.say(session.language, "talk_left_hint"), unsent=comment)
    except TutelageError as error:
        return _refused(request, session, conversation_id, error, form)
    return RedirectResponse("/work" if found.assignment_id else "/talk", 303)


@router.post("/{conversation_id}/report")
def report(request: Request, session: Visitor, form: OwnForm, conversation_id: Id) -> Response:
    """Tell the lead of harm, or ask a question, about the turn at hand; the conversation stays."""
    web: Web = request.app.state.web
    found, kind, text = _own(request, session, conversation_id), text_of(form, "kind", 20), text_of(form, "text", 5000)
    web.store.write(lambda conn: conversations.report(conn, found.id, session.labeler_id, kind=kind, text=text, now=web.store.now()))
    if is_partial(request):
        return HTMLResponse(plain(web.words.say(session.language, "report_sent")))
    return go(request, f"/talk/{found.id}")


@router.get("/{conversation_id}/answers/{at}")
def answer(request: Request, session: Visitor, conversation_id: Id, at: int) -> Response:
    """One answer of the turn that waits, whole, as plain text."""
    web: Web = request.app.state.web
    found = _own(request, session, conversation_id)
    if found.turn is None or not 0 <= at < len(found.turn.sides):
        raise HTTPException(404)
    with web.store.read() as conn:
        text = texts_of(conn, found.turn.response_ids)[found.turn.sides[at]]
    return answer_page(request, text, at)


@router.get("/{conversation_id}/turns/{at}")
def turn(request: Request, session: Visitor, conversation_id: Id, at: int) -> Response:
    """One message of the conversation, whole."""
    return turn_page(request, _own(request, session, conversation_id).said, at)


_asked: set[int] = set()
_lock = threading.Lock()


@contextmanager
def _asking(conversation_id: int) -> Iterator[None]:
    """One question of a conversation at a time. Raises: AssistantError for a second (a double click, another tab)."""
    with _lock:
        if conversation_id in _asked:
            raise AssistantError("busy", "this conversation is being answered")
        _asked.add(conversation_id)
    try:
        yield
    finally:
        with _lock:
            _asked.discard(conversation_id)


def _left_behind(request: Request, session: Session, conversation_id: int, at: int, text: str) -> Response:
    """The answer to words from a page that the conversation has left behind: where they are not what was said there, they are shown."""
    messages = _own(request, session, conversation_id).messages
    if not text.strip() or (0 <= at < len(messages) and messages[at]["content"] == _masked(messages[:at], text)):
        return _page(request, session, conversation_id)
    say = request.app.state.web.words.say
    return _page(request, session, conversation_id, 409, error=say(session.language, "talk_left"),
                 hint=say(session.language, "talk_left_hint"), unsent=text)


def _chosen_before(request: Request, session: Session, conversation_id: int, form: FormData) -> tuple[dict[str, Any], list[int]] | None:
    """What another tab chose on the same page, and the sides it had."""
    found = _own(request, session, conversation_id)
    with request.app.state.web.store.read() as conn:
        return conversations.chosen(conn, found, _at(form))


def _masked(before: Sequence[Mapping[str, Any]], text: str) -> str:
    """What was typed without addresses, numbers and names: others see it later, and the model server may be somebody else's."""
    masker = Masker()
    for message in before:
        masker.reserve(message["content"])
    return masker.mask(text.strip())[0]


def _own(request: Request, session: Session, conversation_id: int) -> Conversation:
    """Raises: 404 for a conversation that is somebody else's, or is not there, alike."""
    with request.app.state.web.store.read() as conn:
        found = conversations.load(conn, conversation_id, session.labeler_id)
    if found is None:
        raise HTTPException(404)
    return found


def _at(form: Any) -> int:
    text = text_of(form, "at", 9)
    return int(text) if text.isdecimal() else -1


def _refused(request: Request, session: Session, conversation_id: int, error: TutelageError, form: FormData) -> Response:
    """The page with what was entered, and why that was not taken."""
    message, hint = request.app.state.web.told(request, error)
    return _page(request, session, conversation_id, status_of(error, 422), error=message, hint=hint, entered=forms.fields(form),
                 spent=forms.spent(form))


def _page(request: Request, session: Session, conversation_id: int, status: int = 200, *, error: str | None = None,
          hint: str | None = None, entered: Mapping[str, Any] = MappingProxyType({}), spent: float | None = None,
          unsent: str = "") -> Response:
    web: Web = request.app.state.web
    found = _own(request, session, conversation_id)
    with web.store.read() as conn:
        answers = answers_shown(conn, found.turn.response_ids, found.turn.sides) if found.turn else []
        task = load_task(conn, found.assignment_id, session.labeler_id) if found.assignment_id else None
    view = TalkView(found.id, len(found.messages), found.state == "open", turns_shown(found.said), answers, found.waits,
                    found.may_take_back, {**found.draft, **entered}, found.draft_at, f"/talk/{found.id}",
                    task.question if task else None)
    return web.html(request, "talk.html", status, view=view, error=error, hint=hint, good=GOOD, limit=MAX_MESSAGE,
                    spent="" if spent is None else spent, unsent=unsent)
