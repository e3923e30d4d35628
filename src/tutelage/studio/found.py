"""A lead looks for items."""

from __future__ import annotations

from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from tutelage.feedback.find import PAGE, find_tasks
from tutelage.feedback.schema import KINDS, PURPOSES
from tutelage.web.app import Web

from .people import Lead

router = APIRouter(prefix="/lead")
STATES = ("open", "done", "halted")
SHOWN_CHARS = 160


@router.get("/items")
def items(request: Request, session: Lead, kind: str = Query("", max_length=20), purpose: str = Query("", max_length=20),
          state: str = Query("", max_length=20), batch: str = Query("", max_length=200), text: str = Query("", max_length=200),
          page: int = Query(0, ge=0, le=1_000_000)) -> Response:
    """Items, newest first, those that were asked for."""
    web: Web = request.app.state.web
    asked = {"kind": kind, "purpose": purpose, "state": state, "batch": batch.strip(), "text": text.strip()}
    with web.store.read() as conn:
        rows = find_tasks(conn, page=page, **asked)
    turn = {name: "/lead/items?" + urlencode(asked | {"page": at}) for name, at in (("newer", page - 1), ("older", page + 1))}
    return web.html(request, "lead_items.html", rows=rows[:PAGE], asked=asked, kinds=KINDS, purposes=PURPOSES, states=STATES,
                    chars=SHOWN_CHARS, newer=turn["newer"] if page else None, older=turn["older"] if len(rows) > PAGE else None)
