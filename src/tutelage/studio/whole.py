"""What was cut on a page: one text, whole, as plain text in a page of its own."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from tutelage.web.app import Web
from tutelage.web.markdown import plain


def answer_page(request: Request, text: str | None, at: int) -> Response:
    """The answer at a place on the page. Raises: 404 for None."""
    web: Web = request.app.state.web
    return _page(request, f"{web.words.say(web.language(request), 'answer')} {chr(ord('A') + at)}", text)


def turn_page(request: Request, content: Any, at: int) -> Response:
    """One message of a prompt as it is kept. Raises: 404 where there is none."""
    web: Web = request.app.state.web
    turns = [{"role": "text", "content": content}] if isinstance(content, str) else content or []
    if not 0 <= at < len(turns):
        raise HTTPException(404)
    return _page(request, web.words.say(web.language(request), f"role_{turns[at]['role']}"), turns[at]["content"])


def _page(request: Request, title: str, text: str | None) -> Response:
    if text is None:
        raise HTTPException(404)
    web: Web = request.app.state.web
    return web.html(request, "whole.html", heading=title, html=plain(text))
