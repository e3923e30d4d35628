"""From prompts and responses to token ids; the one place where `response_mask` is made.

Everything is one tokenisation of the whole rendered text; which tokens are trained follows from their character offsets. Prompt and
response are never tokenised apart, since a tokenizer may merge across the seam.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tutelage.base.errors import DataError, listed
from tutelage.base.limit import cpu_limit
from tutelage.base.records import Message, Prompt
from tutelage.text.codec import Codec, codec_of
from tutelage.text.lines import unwritable

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TrainOn = Literal["response", "assistant_turns"]
Span = tuple[int, int]
_RENDER_SECONDS = 2.0
"""Of processor time for one conversation, a thousand times what the longest needs, and as much again for every million characters."""
_FEW_TURNS = 8
_MOST_WRITTEN = 1_000_000
"""Characters beyond ten for each of the conversation."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of prompt and response, and which of them are trained (the response and the token that ends it)."""

    tokens: list[int]
    response_mask: list[bool]


def encode_prompt(tokenizer: PreTrainedTokenizerFast, prompt: Prompt) -> list[int]:
    """Token ids to sample from: a conversation with its generation prompt, or raw text as it stands (BOS as the tokenizer does).

    Control tokens typed in the text stay text. Raises: DataError when the template refuses the conversation.
    """
    codec = codec_of(tokenizer, _texts(prompt))
    if isinstance(prompt, str):
        return codec.encode(codec.raw_start + codec.mangle(prompt)).ids
    return codec.encode(_render(tokenizer, codec, prompt, add_generation_prompt=True)).ids


def encode_text(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Token ids of one document for pretraining: BOS as the tokenizer does, the text, EOS."""
    codec = codec_of(tokenizer, [text])
    return codec.encode(codec.raw_start + codec.mangle(text) + str(tokenizer.eos_token)).ids


def encode_texts(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    """`encode_text` of each text, several times faster together."""
    codec = codec_of(tokenizer, texts)
    return codec.encode_all([codec.raw_start + codec.mangle(text) + str(tokenizer.eos_token) for text in texts])


def encode_document(tokenizer: PreTrainedTokenizerFast, document: Prompt) -> list[int]:
    """Token ids of one document for pretraining: a text as `encode_text`, a conversation as the chat template renders it whole."""
    if isinstance(document, str):
        return encode_text(tokenizer, document)
    codec = codec_of(tokenizer, _texts(document))
    return codec.encode(_render(tokenizer, codec, document)).ids


def encode_example(tokenizer: PreTrainedTokenizerFast, prompt: Prompt, response: str | Sequence[Message], *,
                   train_on: TrainOn = "response", limit: int | None = None) -> Encoded:
    """Token ids and mask of a prompt with its response, ending at the last trained token, as a sampler would have left them.

    `train_on="response"` trains the last assistant turn, `"assistant_turns"` every assistant turn whose `trained` is True, those of
    the prompt included. A span runs from the end of the generation prompt to the turn's terminator (EOS, or the token with which the
    template ends a turn), terminator included; if the template writes none after the last turn, EOS is appended. A token that
    straddles the start of a response belongs to the prompt: it stands before the first token that a sampler could choose.
    limit: of tokens. A conversation of many turns that is longer comes without its mask: who sets a limit leaves it out.

    Raises: DataError when the template refuses the conversation, its spans cannot be told, or nothing would be trained.
    """
    if isinstance(prompt, str):
        if not isinstance(response, str):
            raise DataError("a raw text prompt has a response of several messages", hint="give the prompt as messages too")
        return _encode_raw(tokenizer, prompt, response)
    messages = (*prompt, *((Message("assistant", response),) if isinstance(response, str) else response))
    turns = _trained_turns(messages, train_on)
    codec = codec_of(tokenizer, _texts(messages))
    text = _render(tokenizer, codec, messages)
    if limit is not None and len(turns) > _FEW_TURNS:                # each turn's span costs a render of all before it
        start = _response_start(tokenizer, codec, messages[:turns[-1]], text) or 0
        before = codec.encode(text[:start]).ids
        if len(before) > limit:
            return Encoded(before, [False] * len(before))
    spans = _spans_by_prefix(tokenizer, codec, messages, turns, text) or _spans_by_markers(tokenizer, codec, messages, turns, text)
    for i, (start, end) in zip(turns, spans, strict=True):
        if messages[i].content.strip() and not _without_controls(codec, text, start, end).strip():
            raise DataError("the chat template leaves the answer out: only its end would be trained",
                            hint="give the tokenizer a template that writes assistant turns; `data check --model` shows what it writes")
    start, end = spans[-1]
    if turns[-1] == len(messages) - 1 and not text[:end].endswith(tuple(_terminators(tokenizer, codec))):
        text = text[:end] + str(tokenizer.eos_token)                # a template that ends no turn would never teach stopping
        spans[-1] = (start, len(text))
    return _masked(codec, text, spans)


def stop_tokens(tokenizer: PreTrainedTokenizerFast) -> tuple[int, ...]:
    """Ids that end a response: EOS first, then the chat template's end-of-turn token where it is another one."""
    codec = codec_of(tokenizer, [])
    names = _terminators(tokenizer, codec)
    return tuple(sorted((codec.ids[name] for name in names), key=lambda token_id: token_id != tokenizer.eos_token_id))


def marked_text(tokenizer: PreTrainedTokenizerFast, encoded: Encoded, *, marks: tuple[str, str] = ("⟦", "⟧")) -> str:
    """The text with its trained stretches between `marks`: what a person looks at to believe the mask."""
    parts, start, mask = [], 0, encoded.response_mask
    for end in range(1, len(mask) + 1):
        if end == len(mask) or mask[end] != mask[start]:
            piece = str(tokenizer.decode(encoded.tokens[start:end], skip_special_tokens=False, clean_up_tokenization_spaces=False))
            parts.append(f"{marks[0]}{piece}{marks[1]}" if mask[start] else piece)
            start = end
    return "".join(parts)


def _encode_raw(tokenizer: PreTrainedTokenizerFast, prompt: str, response: str) -> Encoded:
    codec = codec_of(tokenizer, [prompt, response])
    start = codec.raw_start + codec.mangle(prompt)
    # Mangled as one string: a control token may be typed half in the prompt and half in the response.
    text = codec.raw_start + codec.mangle(prompt + response) + str(tokenizer.eos_token)
    return _masked(codec, text, [(len(start), len(text))])


def _masked(codec: Codec, text: str, spans: Sequence[Span]) -> Encoded:
    encoding = codec.encode(text)
    mask, remaining = [], list(spans)
    for begin, _ in encoding.offsets:
        while remaining and begin >= remaining[0][1]:
            remaining.pop(0)
        mask.append(bool(remaining) and remaining[0][0] <= begin)
    if True not in mask:
        raise DataError("no token would be trained: the response is empty once rendered", hint="drop rows with empty responses")
    length = len(mask) - mask[::-1].index(True)                     # what a template writes after the terminator is never sampled
    return Encoded(encoding.ids[:length], mask[:length])


def _trained_turns(messages: Sequence[Message], train_on: TrainOn) -> list[int]:
    assistant = [i for i, m in enumerate(messages) if m.role == "assistant"]
    if not assistant:
        raise DataError("no token would be trained: the conversation has no assistant turn", hint="check the roles of its messages")
    turns = [i for i in (assistant[-1:] if train_on == "response" else assistant) if messages[i].trained]
    if not turns:
        which = "its last assistant turn is" if train_on == "response" else "every assistant turn is"
        raise DataError(f"no token would be trained: {which} marked trained=False", hint="drop the row, or train another kind of turn")
    return turns


def _spans_by_prefix(tokenizer: PreTrainedTokenizerFast, codec: Codec, messages: Sequence[Message], turns: Sequence[int],
                     text: str) -> list[Span]:
    """Spans from renders of prefixes, [] where this template's prefix is not how the whole begins."""
    terminators, spans = _terminators(tokenizer, codec), []
    for i in turns:
        start = _response_start(tokenizer, codec, messages[:i], text)
        if start is None:
            return []
        head = text if i == len(messages) - 1 else _render(tokenizer, codec, messages[:i + 1])
        exact = text.startswith(head)
        ends = [m.end() for m in codec.controls(text, start, len(head) if exact else None) if m[0] in terminators]
        if not ends and not exact:
            return []
        # Inside its own turn the last terminator counts; if history was rewritten after it, all we know is the next one.
        end = (ends[-1] if exact else ends[0]) if ends else len(head)
        spans.append((start, end))
    return spans


def _response_start(tokenizer: PreTrainedTokenizerFast, codec: Codec, before: Sequence[Message], text: str) -> int | None:
    if before:
        head = _render(tokenizer, codec, before, add_generation_prompt=True)
        return len(head) if text.startswith(head) else None
    # Many templates cannot render nothing; their generation prompt is the same after a question.
    question = [Message("user", "?")]
    opening = _render(tokenizer, codec, question, add_generation_prompt=True)[len(_render(tokenizer, codec, question)):]
    at = text.find(opening)
    return at + len(opening) if opening and at >= 0 else None


def _spans_by_markers(tokenizer: PreTrainedTokenizerFast, codec: Codec, messages: Sequence[Message], turns: Sequence[int],
                      text: str) -> list[Span]:
    """Spans from the template's {% generation %} blocks, one per assistant turn, stretched to the terminator that follows."""
    from transformers.utils.chat_template_utils import render_jinja_template

    marked: list[Span] = []
    names: dict[str, Any] = dict(tokenizer.special_tokens_map)
    template = tokenizer.get_chat_template()
    if "generation" in template and "endgeneration" in template:
        with _template_at_work(codec, messages):
            found: Any = render_jinja_template([_rows(codec, messages)], chat_template=template, return_assistant_tokens_mask=True,
                                               add_generation_prompt=False, **names)[1]
        marked = [(start, end) for start, end in found[0]]
    assistant = [i for i, m in enumerate(messages) if m.role == "assistant"]
    if len(marked) != len(assistant):
        raise DataError("cannot tell which tokens are the response: this chat template changes earlier text when the answer is added",
                        hint="use a template whose prompt is a prefix of the whole, or add {% generation %} blocks to it")
    terminators, spans = _terminators(tokenizer, codec), []
    for i, (start, end) in zip(assistant, marked, strict=True):
        if i in turns:
            after = next(iter(codec.controls(text, end)), None)
            inside = [m.end() for m in codec.controls(text, start, end) if m[0] in terminators]
            follows = after is not None and after[0] in terminators and not text[end:after.start()].strip()
            spans.append((start, inside[-1] if inside else after.end() if follows and after else end))
    return spans


def _without_controls(codec: Codec, text: str, start: int, end: int) -> str:
    """What people or models wrote in a stretch of rendered text."""
    written, at = "", start
    for control in codec.controls(text, start, end):
        written, at = written + text[at:control.start()], control.end()
    return written + text[at:end]


def _terminators(tokenizer: PreTrainedTokenizerFast, codec: Codec) -> frozenset[str]:
    """EOS, and the control token that this template writes right after an assistant turn."""
    eos, probe = str(tokenizer.eos_token), "the quick brown fox"
    try:
        text = _render(tokenizer, codec, [Message("user", "?"), Message("assistant", probe)])
    except DataError:
        return frozenset([eos])
    end = text.rfind(probe) + len(probe)
    first = next(iter(codec.controls(text, end)), None)
    return frozenset([eos] if first is None or text[end:first.start()].strip() else [eos, first[0]])


def _render(tokenizer: PreTrainedTokenizerFast, codec: Codec, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
    """The template's text over mangled contents."""
    with _template_at_work(codec, messages):
        text = str(tokenizer.apply_chat_template(_rows(codec, messages), tokenize=False, add_generation_prompt=add_generation_prompt))
        if (why := unwritable(text)) and not any(unwritable(m.content) for m in messages):     # a model may write a NUL
            raise ValueError(f"it writes {why}")
        if len(text) > _MOST_WRITTEN + 10 * sum(len(m.content) for m in messages):
            raise ValueError(f"it writes {len(text):,} characters")
    return text


@contextmanager
def _template_at_work(codec: Codec, messages: Sequence[Message]) -> Iterator[None]:
    """A template is a program: it may fail in any way a program can, and it may have no end. Raises: DataError."""
    try:
        if codec.template_fault is not None:                         # not again for each of a million rows
            raise codec.template_fault
        with cpu_limit(_RENDER_SECONDS * (1 + sum(len(m.content) for m in messages) / 1e6)):
            yield
    except Exception as error:
        codec.template_fault = error if isinstance(error, TimeoutError) else None
        why = " ".join(str(error).split())[:300] or type(error).__name__
        raise DataError(f"the chat template refuses this conversation ({listed(m.role for m in messages)}): {why}",
                        hint="reshape the conversation to what the template accepts, or give the tokenizer another template") from error


def _rows(codec: Codec, messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": m.role, "content": codec.mangle(m.content)} for m in messages]


def _texts(prompt: Prompt | Sequence[Message]) -> list[str]:
    return [prompt] if isinstance(prompt, str) else [m.content for m in prompt]
