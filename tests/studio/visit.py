"""One person's browser, without the drawing: the requests that htmx sends, over a connection that is kept open."""

from __future__ import annotations

import gzip
import re
from http.client import HTTPConnection
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlencode, urlsplit


class Page(NamedTuple):
    """assignment_id: of the task on it, if there is one. csrf: the token its forms send. refused: the message of an alert."""

    status: int
    text: str
    assignment_id: int | None
    csrf: str | None
    refused: str | None


class Visit:
    """A signed-in session. Raises: OSError or http.client.HTTPException when the server is gone; `again` opens a new connection."""

    def __init__(self, url: str, cookie: str, timeout: float = 30.0) -> None:
        self._address, self._cookie, self._timeout = urlsplit(url), cookie, timeout
        self.again()

    def again(self) -> None:
        self._connection = HTTPConnection(str(self._address.hostname), self._address.port, timeout=self._timeout)

    def work(self) -> Page:
        """The task at hand, or the next."""
        return self._ask("GET", "/work")

    def judge(self, page: Page, **fields: str) -> Page:
        """Submit the page's task. Returns the page with the next one."""
        return self._ask("POST", f"/work/{page.assignment_id}", {"csrf": str(page.csrf), "seconds": "7.5", **fields})

    def _ask(self, method: str, path: str, fields: dict[str, str] | None = None) -> Page:
        headers = {"cookie": self._cookie, "accept-encoding": "gzip", "hx-request": "true"}
        if fields is not None:
            headers["content-type"] = "application/x-www-form-urlencoded"
        self._connection.request(method, path, urlencode(fields) if fields else None, headers)
        answer = self._connection.getresponse()
        body = answer.read()
        text = (gzip.decompress(body) if answer.headers.get("content-encoding") == "gzip" else body).decode()
        task, csrf = re.search(r'data-assignment="(\d+)"', text), re.search(r'name="csrf" value="(\w+)"', text)
        refused = re.search(r'role="alert">(?:<strong>)?([^<]*)', text)
        return Page(answer.status, text, int(task[1]) if task else None, csrf[1] if csrf else None, refused[1] if refused else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._connection.close()
