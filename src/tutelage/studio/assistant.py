"""The model server that labelers talk to: any that speaks OpenAI's chat completions, `tutelage serve` first of all. Over HTTP only."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection

from tutelage.base.errors import ConfigError, TutelageError
from tutelage.base.log import get_logger
from tutelage.feedback.content import set_setting, setting
from tutelage.feedback.conversations import Sampled
from tutelage.feedback.store import Store
from tutelage.web.outbound import OutboundError, Reason, Server, ask

log = get_logger("studio")

SETTING = "models"
ANSWER_SECONDS = 50.0
"""For both answers of a turn. The page itself gives up after 60."""
LIST_SECONDS = 10.0
AT_ONCE = 16
"""Questions open at a time, fewer than the threads that answer pages: a slow model keeps nobody from their work."""
TEMPERATURE = 1.0
_MAX_NAME = 200
_SAMPLING = ("temperature", "top_p", "top_k", "max_tokens", "seed")

Messages = Sequence[Mapping[str, str]]


class AssistantError(TutelageError):
    """No answer. reason: why, as far as a labeler is told; the message is for leads and the log, and may name a model."""

    def __init__(self, reason: Reason | Literal["busy", "none"], message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


@dataclass(frozen=True)
class Chosen:
    """The lead's setting. url: of the server, None where none was set in the web. names: one model, or two that answer a turn each."""

    url: str | None = None
    names: tuple[str, ...] = ()


class Assistant:
    """The server in force, and what is asked of it. `given`: from the command line, which wins over what was set in the web."""

    def __init__(self, store: Store, given: Server | None = None) -> None:
        self.store, self.given = store, given
        self._places = threading.BoundedSemaphore(AT_ONCE)
        self._first: str | None = None                              # the server's first model, once it was asked
        with store.read() as conn:
            self.use(chosen(conn))

    def use(self, chosen: Chosen) -> None:
        """Go by a setting from now on."""
        self.chosen, self._first = chosen, None
        try:
            self.server = self.given or (Server(chosen.url) if chosen.url else None)
        except ConfigError as error:                                # kept by another version, with other rules
            log.warning("the model server set on the page Models is not used: %s", error)
            self.server = None

    def is_set(self) -> bool:
        """Whether there is anybody to talk to."""
        return self.server is not None

    def names(self, server: Server | None = None) -> list[str]:
        """The models of a server (default: the one in force) that answer. Raises: AssistantError."""
        rows = self._ask(server or self._server(), "/models", None, LIST_SECONDS).get("data")
        found = [row for row in rows if isinstance(row, dict) and _is_name(row.get("id"))] if isinstance(rows, list) else []
        names = [row["id"] for row in found if _of(row, "tutelage", "kind") != "reward"]
        if not names:
            raise AssistantError("wrong", "it lists no model that answers", hint="does the address end with /v1?")
        return names

    def two(self, messages: Messages) -> list[Sampled]:
        """Two answers: sampled from one model, or one from each of two. Raises: AssistantError."""
        until = time.monotonic() + ANSWER_SECONDS
        if len(self.chosen.names) == 2:
            return [self._sample(messages, name, 1, until)[0] for name in self.chosen.names]
        return self._sample(messages, self._name(), 2, until)

    def one(self, messages: Messages) -> Sampled:
        """One answer, of the first model. Raises: AssistantError."""
        return self._sample(messages, self._name(), 1, time.monotonic() + ANSWER_SECONDS)[0]

    def _name(self) -> str:
        if self.chosen.names:
            return self.chosen.names[0]
        self._first = self._first or self.names()[0]
        return self._first

    def _sample(self, messages: Messages, name: str, n: int, until: float) -> list[Sampled]:
        """n answers. A server that does not know `n` gives one; then it is asked again."""
        found: list[Sampled] = []
        for _ in range(n):
            body = {"model": name, "messages": list(messages), "n": n - len(found), "temperature": TEMPERATURE, "logprobs": True}
            found += _answers(self._ask(self._server(), "/chat/completions", body, max(1.0, until - time.monotonic())), name)
            if len(found) >= n:
                return found[:n]
        raise AssistantError("wrong", "it gave fewer answers than it was asked for")

    def _server(self) -> Server:
        if self.server is None:
            raise AssistantError("none", "no model server is set")
        return self.server

    def _ask(self, server: Server, path: str, body: Any, seconds: float) -> dict[str, Any]:
        if not self._places.acquire(blocking=False):
            raise AssistantError("busy", f"{AT_ONCE} questions are open at the model server already")
        try:
            return ask(server, path, body, seconds=seconds)
        except OutboundError as error:
            self._first = None
            log.warning("the model server, %s: %s", path, error)
            raise AssistantError(error.reason, str(error), hint=error.hint) from error
        finally:
            self._places.release()


def revision_messages(prompt: Any, answer: str, critique: str) -> list[dict[str, str]]:
    """How a model is asked to mend its answer after a person's critique (Bai et al. 2022b, arXiv:2212.08073, section 3.1, with a person
    in the critic's place). prompt: as prompts keep it."""
    before = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [
        {"role": message["role"], "content": message["content"]} for message in prompt]
    return [*before, {"role": "assistant", "content": answer}, {"role": "user", "content": (
        f"Somebody read your last answer and said what should be better:\n\n{critique}\n\n"
        "Write that answer again so that it is. Give only the new answer, with nothing before or after it.")}]


def chosen(conn: Connection) -> Chosen:
    """The lead's setting as it is kept."""
    kept = setting(conn, SETTING) or {}
    return Chosen(kept.get("url"), tuple(kept.get("names") or ()))


def keep(conn: Connection, setting_: Chosen) -> None:
    """Keep it; `Assistant.use` follows once it is written."""
    set_setting(conn, SETTING, {"url": setting_.url, "names": list(setting_.names)} if setting_ != Chosen() else None)


def _answers(body: Mapping[str, Any], asked: str) -> list[Sampled]:
    """What a chat completion holds, of whatever server: its text, and who said it and how, where it tells that."""
    sha256 = _of(body, "tutelage", "model", "sha256")
    known = isinstance(sha256, str) and re.fullmatch(r"[0-9a-f]{64}", sha256)
    name = body["model"] if _is_name(body.get("model")) else asked
    sampling: dict[str, float] = {"temperature": TEMPERATURE}
    for key in _SAMPLING:
        told = _of(body, "tutelage", "sampling", key)
        if isinstance(told, int | float) and math.isfinite(told):
            sampling[key] = told
    found = []
    choices = body.get("choices")
    for row, choice in enumerate(choices if isinstance(choices, list) else []):
        text = _of(choice, "message", "content")
        if isinstance(text, str):
            found.append(Sampled(text, f"{name}@{sha256[:12]}" if known else name, sha256 if known else None, {**sampling, "row": row},
                                 _logprobs(choice)))
    if not found:
        raise AssistantError("wrong", "the answer holds no text")
    return found


def _logprobs(choice: Any) -> list[float] | None:
    """Of each token: as `tutelage serve` gives them, the end token's too, or as OpenAI does; None unless all are numbers."""
    rows = _of(choice, "tutelage", "logprobs")
    if rows is None:
        listed = _of(choice, "logprobs", "content")
        rows = [_of(row, "logprob") for row in listed] if isinstance(listed, list) else None
    if not isinstance(rows, list) or not rows:
        return None
    good = all(isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) for value in rows)
    return [float(value) for value in rows] if good else None


def _of(document: Any, *path: str) -> Any:
    """What stands at a path of a document that may be anything."""
    for name in path:
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and 0 < len(name) <= _MAX_NAME and name.isprintable()
