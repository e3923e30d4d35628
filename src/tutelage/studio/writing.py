"""Prompts by people: a lead asks for them, reads them, has them answered, and takes them out as a file."""

from __future__ import annotations

import json
from collections import Counter

from fastapi import APIRouter, Request
from starlette.responses import Response

from tutelage.base.errors import TutelageError
from tutelage.feedback import writing
from tutelage.feedback.pseudonyms import key_of_store
from tutelage.feedback.values import STYLES
from tutelage.web.app import Web, go
from tutelage.web.session import OwnForm, text_of

from .people import Lead
from .tables import note_download
from .view import turns_shown

router = APIRouter(prefix="/lead/writing")
SHOWN = 50


@router.get("")
def look(request: Request, session: Lead) -> Response:
    """What was written, and the form to ask for more."""
    return _page(request)


@router.post("")
def ask(request: Request, session: Lead, form: OwnForm) -> Response:
    """Put tasks to write prompts into the queue."""
    web: Web = request.app.state.web
    style, count, question = text_of(form, "style", 20), text_of(form, "count", 6), text_of(form, "question", 2000)
    try:
        web.store.write(lambda conn: writing.ask_for_prompts(conn, style=style, count=int(count) if count.isdecimal() else 0,
                                                             question=question, by_id=session.labeler_id, now=web.store.now()))
    except TutelageError as error:
        return _page(request, 422, error=str(error), hint=error.hint, style=style, count=count, question=question)
    return go(request, "/lead/writing")


@router.post("/answers")
def answers(request: Request, session: Lead, form: OwnForm) -> Response:
    """Have every prompt answered that was not asked yet."""
    web: Web = request.app.state.web
    web.store.write(lambda conn: writing.ask_for_answers(conn, by_id=session.labeler_id, now=web.store.now()))
    return go(request, "/lead/writing")


@router.get("/prompts.jsonl")
def prompts(request: Request, session: Lead) -> Response:
    """Every prompt that may be used, as `sample` and `ppo` read them."""
    web: Web = request.app.state.web
    key = web.store.write(key_of_store)
    note_download(request, session, "prompts.jsonl", names=False)
    with web.store.read() as conn:
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in writing.prompt_rows(conn, key, Counter()))
    return Response(lines, media_type="application/jsonl; charset=utf-8",
                    headers={"content-disposition": 'attachment; filename="prompts.jsonl"'})


def _page(request: Request, status: int = 200, *, error: str | None = None, hint: str | None = None, style: str = "plain",
          count: str = "20", question: str = "") -> Response:
    web: Web = request.app.state.web
    with web.store.read() as conn:
        shown = [(one, turns_shown(one.messages)) for one in writing.newest(conn, SHOWN)]
        (found, unasked), wanted = writing.written(conn), writing.wanted(conn)
    return web.html(request, "lead_writing.html", status, shown=shown, found=found, wanted=wanted, styles=STYLES, unasked=unasked,
                    most=writing.MOST_ASKED, style=style, count=count, question=question, error=error, hint=hint)
