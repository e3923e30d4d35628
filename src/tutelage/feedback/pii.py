"""Personal data in prompts, replaced by typed placeholders before anyone sees them: `write to [EMAIL_1] or call [PHONE_1]`.

What is found, what is not, and how well it was measured: docs/privacy.md. Deterministic; time grows with the length of the text alone.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

from tutelage.base.records import Prompt
from tutelage.feedback.pii_find import BLANK, cards, emails, handles, ibans, ips
from tutelage.feedback.pii_names import names
from tutelage.feedback.pii_phone import phones

PiiKind = Literal["email", "iban", "card", "ip", "phone", "handle", "name"]
KINDS: tuple[PiiKind, ...] = get_args(PiiKind)
"""In the order in which they claim a piece of text: what is one of the first is none of the later."""
_FINDERS: dict[PiiKind, Callable[[str], Iterator[tuple[int, int]]]] = {
    "email": emails, "iban": ibans, "card": cards, "ip": ips, "phone": phones, "handle": handles, "name": names}
_PLACEHOLDER = re.compile(r"\[(" + "|".join(kind.upper() for kind in KINDS) + r")_(\d{1,9})\]")
_INVISIBLE = re.compile("[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
                        "\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff]")
"""Characters that print nothing (Unicode's Default_Ignorable_Code_Point): an address with one of them inside is still that address."""


@dataclass(frozen=True, slots=True)
class Span:
    """Where personal data stood in the text as it was given, of what kind, and what stands there now. Never what it was."""

    start: int
    end: int
    kind: PiiKind
    placeholder: str


class Masker:
    """Masks the texts of one prompt, one after the other: the same address gets the same placeholder in all of them.

    kinds: what to look for. It remembers what it replaced, to tell repetitions, so let it go with the prompt.
    """

    def __init__(self, kinds: Collection[PiiKind] = KINDS) -> None:
        self.kinds = [kind for kind in KINDS if kind in kinds]
        self.counts: Counter[PiiKind] = Counter()
        self._seen: dict[tuple[PiiKind, str], str] = {}
        self._last: Counter[str] = Counter()

    def mask(self, text: str) -> tuple[str, list[Span]]:
        """(the text with placeholders, what was replaced in order). Placeholders already there are kept, their numbers not reused."""
        self.reserve(text)
        spans, pieces, done = list[Span](), list[str](), 0
        folded, original = fold(text)
        for start, end, kind in _spots(folded, self.kinds):
            span = Span(original(start), original(end - 1) + 1, kind, self._placeholder(kind, folded[start:end]))
            pieces += [text[done:span.start], span.placeholder]
            done = span.end
            spans.append(span)
        self.counts.update(span.kind for span in spans)
        return "".join([*pieces, text[done:]]), spans

    def reserve(self, text: str) -> None:
        """Give out no placeholder that a text holds already."""
        for kind, number in _PLACEHOLDER.findall(text):
            self._last[kind] = max(self._last[kind], int(number))

    def _placeholder(self, kind: PiiKind, value: str) -> str:
        key = (kind, _same(kind, value))
        if key not in self._seen:
            self._last[kind.upper()] += 1
            self._seen[key] = f"[{kind.upper()}_{self._last[kind.upper()]}]"
        return self._seen[key]


def mask_text(text: str, kinds: Collection[PiiKind] = KINDS) -> tuple[str, list[Span]]:
    """(the text with placeholders, what was replaced in order) of a text of its own."""
    return Masker(kinds).mask(text)


def mask_prompt(prompt: Prompt, kinds: Collection[PiiKind] = KINDS, masker: Masker | None = None
                ) -> tuple[Prompt, list[tuple[Span, ...]]]:
    """(the prompt with placeholders, what was replaced in each message); one tuple of spans where the prompt is raw text.

    masker: one that goes on to what belongs to the prompt, such as the answers beside it, in place of one for these kinds.
    """
    masker = masker or Masker(kinds)
    if isinstance(prompt, str):
        text, spans = masker.mask(prompt)
        return text, [tuple(spans)]
    # Numbers of placeholders in a later message must not be given out in an earlier one.
    for message in prompt:
        masker.reserve(message.content)
    masked = [masker.mask(message.content) for message in prompt]
    return (tuple(replace(message, content=text) for message, (text, _) in zip(prompt, masked, strict=True)),
            [tuple(spans) for _, spans in masked])


def fold(text: str) -> tuple[str, Callable[[int], int]]:
    """(the text as it reads, place in it -> place in the text): plain digits and letters for their wide and styled forms, one kind of
    dash and space, nothing for what prints nothing."""
    if text.isascii():
        return text, lambda at: at
    removed = [m.start() - i for i, m in enumerate(_INVISIBLE.finditer(text))]
    return text.translate(_FOLDED), lambda at: at + bisect_right(removed, at)


_BETWEEN = re.compile(r"[\W_]+")


class _Folding(dict[int, str | None]):
    """Code point -> what it reads as; filled as characters are met."""

    def __missing__(self, code: int) -> str | None:
        char = chr(code)
        self[code] = folded = None if _INVISIBLE.match(char) else _read_as(char)
        return folded


def _read_as(char: str) -> str:
    category = unicodedata.category(char)
    if category == "Nd":
        return str(unicodedata.decimal(char))
    if category == "Zs":
        return " "
    if category == "Pd" or char == "\u2212":
        return "-"
    if category == "Mn":
        return "\u02b0"                                             # a letter, so that what carries the mark stays one word
    if category == "No":
        return char                                                 # a square is not a digit of a number
    plain = unicodedata.normalize("NFKC", char)
    return plain if len(plain) == 1 else char


_FOLDED = _Folding()


def _spots(folded: str, kinds: Collection[PiiKind]) -> list[tuple[int, int, PiiKind]]:
    """What is found, in order and without overlaps. What one kind has claimed is blank for the later ones."""
    spots: list[tuple[int, int, PiiKind]] = []
    for kind in kinds:
        found = _joined(_FINDERS[kind](folded))
        if found:
            pieces, done = list[str](), 0
            for start, end in found:
                pieces += [folded[done:start], BLANK * (end - start)]
                done = end
            folded = "".join([*pieces, folded[done:]])
        spots += [(start, end, kind) for start, end in found]
    return sorted(spots)


def _joined(found: Iterator[tuple[int, int]]) -> list[tuple[int, int]]:
    """In order; two that overlap become one that reaches over both."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(found):
        if joined and start < joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _same(kind: PiiKind, value: str) -> str:
    """What two ways to write one value have in common."""
    if kind in ("phone", "card", "iban"):
        return _BETWEEN.sub("", value).upper()
    return " ".join(value.casefold().split())
