"""Refusals in the shape that OpenAI clients read: {"error": {message, type, param, code}}."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

from tutelage.base.errors import TutelageError

_TYPES = {429: "rate_limit_error", 500: "server_error", 503: "server_error"}


class Refusal(Exception):
    """An answer that is an error. status: of HTTP. param: the field at fault. code: a word programs can act on."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None,
                 headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.headers = status, message, param, code, headers or {}

    def body(self) -> dict[str, Any]:
        """The JSON object."""
        return {"error": {"message": self.message, "type": _TYPES.get(self.status, "invalid_request_error"), "param": self.param,
                          "code": self.code}}

    def response(self) -> JSONResponse:
        """The whole HTTP answer."""
        return JSONResponse(self.body(), self.status, self.headers)


def refuse(error: TutelageError, status: int = 400, *, param: str | None = None, code: str | None = None) -> Refusal:
    """An error of ours as a refusal: what was found, what to do."""
    return Refusal(status, f"{error}; {error.hint}" if error.hint else str(error), param=param, code=code)


def busy(waiting: int) -> Refusal:
    """Too many are waiting."""
    return Refusal(429, f"{waiting} requests are waiting already; try again in a moment", code="queue_full", headers={"Retry-After": "1"})


def stopping() -> Refusal:
    """The server has been told to stop."""
    return Refusal(503, "the server is stopping; try again when it is back", code="stopping", headers={"Retry-After": "5"})
