"""What clients send: checked, named fields, and one clear line for what this server does not do."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from tutelage.base.config import MAX_SEED
from tutelage.base.errors import did_you_mean
from tutelage.base.faults import shorten
from tutelage.base.records import Message, Prompt

from .errors import Refusal

MAX_CHOICES = 8
"""Answers to one request."""
MAX_RESPONSES = 64
"""Responses in one request for scores."""

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "tools": (None, []), "functions": (None, []), "tool_choice": (None, "none", "auto"), "function_call": (None, "none", "auto"),
    "response_format": (None, {"type": "text"}), "logit_bias": (None, {}), "presence_penalty": (None, 0), "frequency_penalty": (None, 0),
    "repetition_penalty": (None, 1), "top_logprobs": (None, 0), "audio": (None,), "modalities": (None, ["text"]), "prediction": (None,),
    "web_search_options": (None,), "tool_calls": (None, []),
}
"""Fields that would change the answer in a way this server cannot: the values with which they ask for nothing. Others are ignored."""


class _Wire(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False, frozen=True)

    @model_validator(mode="after")
    def _asks_for_nothing_else(self) -> Self:
        for name, value in (self.model_extra or {}).items():
            if value not in _NEUTRAL.get(name, (value,)):
                raise Refusal(400, f"{name} is not supported by this server; leave it out", param=name, code="unsupported_parameter")
        return self


class Part(_Wire):
    """A piece of a message."""

    type: str
    text: str | None = None


class ChatMessage(_Wire):
    """One turn, as clients write it."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]

    def text(self) -> str:
        """Its content. Raises: Refusal for anything but text."""
        if isinstance(self.content, str):
            return self.content
        for part in self.content:
            if part.type != "text" or part.text is None:
                raise Refusal(400, f"message content of type {part.type} is not supported by this server; send text",
                              param="messages", code="unsupported_content")
        return "\n".join(part.text or "" for part in self.content)

    def message(self) -> Message:
        """The turn as every room knows it; OpenAI's newer name for the system is developer."""
        return Message("system" if self.role == "developer" else self.role, self.text())


class StreamOptions(_Wire):
    """How a stream ends."""

    include_usage: bool | None = None


StopString = Annotated[str, Field(min_length=1, max_length=200)]
StopStrings = Annotated[list[StopString], Field(max_length=16), BeforeValidator(lambda stop: [stop] if isinstance(stop, str) else stop)]


class ChatRequest(_Wire):
    """POST /v1/chat/completions. A field given as null is as one left out."""

    model: str | None = None
    messages: list[ChatMessage] = Field(min_length=1)
    n: int | None = Field(None, ge=1, le=MAX_CHOICES)
    temperature: float | None = Field(None, ge=0)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=0, le=MAX_SEED)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    seed: int | None = Field(None, ge=0, le=MAX_SEED)
    stop: StopStrings | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: bool | None = None

    @model_validator(mode="after")
    def _temperature_divides(self) -> Self:
        if self.temperature and self.temperature < 1e-6:
            raise ValueError("temperature is 0 (greedy) or at least 1e-6")
        return self

    def prompt(self, *, base_model: bool) -> Prompt:
        """The conversation; for a base model, which knows no turns, the text to continue. Raises: Refusal when there is no such text."""
        messages = tuple(m.message() for m in self.messages)
        if not base_model:
            return messages
        if len(messages) > 1 or messages[0].role != "user":
            raise Refusal(400, "this is a base model: it knows no turns and continues a text; send that as a single user message",
                          param="messages", code="base_model")
        return messages[0].content


class ScoreRequest(_Wire):
    """POST /score: responses to one prompt, which is a text or a conversation."""

    model: str | None = None
    prompt: str | None = None
    messages: list[ChatMessage] | None = Field(None, min_length=1)
    responses: list[str] = Field(min_length=1, max_length=MAX_RESPONSES)
    prompt_style: Literal["chat", "raw"] = "chat"
    """Whether a string prompt is one user message or raw text to continue, as data.prompt_style in training."""

    @model_validator(mode="after")
    def _one_prompt(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either prompt or messages")
        return self

    def asked(self) -> Prompt:
        """The prompt as the reward model's data had it."""
        if self.messages is not None:
            return tuple(m.message() for m in self.messages)
        assert self.prompt is not None
        return self.prompt if self.prompt_style == "raw" else (Message("user", self.prompt),)


R = TypeVar("R", bound=_Wire)


def parse(cls: type[R], body: bytes) -> R:
    """A request from its JSON. Raises: Refusal that names the first field at fault."""
    try:
        return cls.model_validate_json(body)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
    # A field that may be several things is named by its own path, without pydantic's names for them.
    path = [str(part) for part in fault["loc"] if isinstance(part, int) or part.isidentifier() and part.islower() and part != "str"]
    message = fault["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if fault["type"] in ("json_invalid", "model_type"):
        message = f"the body is not a JSON object: {message}"
    elif fault["type"] == "missing":
        message = "is required"
    elif fault["type"] != "value_error":
        near = did_you_mean(str(fault["input"]), ("system", "user", "assistant")) if fault["type"] == "literal_error" else ""
        message = f"{message}, got {shorten(fault['input'])}{near}"
    name = ".".join(path)
    raise Refusal(400, f"{name}: {message}" if name else message, param=name or None, code="invalid_value")
