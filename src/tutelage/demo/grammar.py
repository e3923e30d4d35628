"""The sentences people write in the embedded world: filled from templates, and recognised again.

A template such as `To {do}, use {tool}.` says what a sentence does (its role, here `head`) and which phrases it may hold.
Recognising is exact: every slot must hold a phrase that some item really has there.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache

from tutelage.demo.tables import KINDS, Item, items, sentence_table

SLOT_FIELDS = {"tool": ("tool", "bad"), "step": ("steps", "careless"), "why": ("why", "myth")}
"""Slots that hold right and wrong phrases alike; every other slot holds the field of its own name."""
MAX_SENTENCE_CHARS = 240

Source = tuple[str, str, str]
"""(kind, item key, field) a phrase comes from."""


@dataclass(frozen=True)
class Claim:
    """One reading of a sentence: what it does, and for each slot the sources of the phrase in it."""

    kind: str
    role: str
    phrases: tuple[str, ...]
    sources: tuple[frozenset[Source], ...]


@dataclass(frozen=True)
class Reading:
    """A recognised sentence. `exact` is False when only capitals or spaces differ from what the grammar writes."""

    exact: bool
    claims: tuple[Claim, ...]


@dataclass(frozen=True)
class _Template:
    kind: str
    role: str
    text: str
    pattern: re.Pattern[str]
    slots: tuple[str, ...]


def split_sentences(text: str) -> list[str]:
    """Sentences with their end marks; a line break ends one too."""
    return [s for line in text.splitlines() for s in re.split(r"(?<=[.!?])\s+", line.strip()) if s]


CONTRACTIONS = (
    ("I'm ", "I am "),
    ("can't ", "cannot "),
    ("won't ", "will not "),
    ("don't ", "do not "),
    ("it's ", "it is "),
    ("that's ", "that is "),
    ("let's ", "let us "),
    ("I'll ", "I will "),
    ("we'll ", "we will "),
    ("you'll ", "you will "),
    ("I'd ", "I would "),
)


def expand(sentence: str) -> str:
    """Contractions written out: they are good English too."""
    sentence = sentence.replace("\u2019", "'")
    if "'" in sentence:
        for short, long in CONTRACTIONS:
            sentence = sentence.replace(short, long).replace(short[:1].upper() + short[1:], long[:1].upper() + long[1:])
    return sentence


def fill(template: str, *phrases: str) -> str:
    """Put phrases into a template's slots, in order."""
    rest = iter(phrases)
    return re.sub(r"\{\w+\}", lambda _: next(rest), template)


@lru_cache(maxsize=200_000)
def read_sentence(sentence: str) -> Reading | None:
    """Every way the grammar understands a sentence, or None."""
    if len(sentence) > MAX_SENTENCE_CHARS:
        return None
    flat = expand(" ".join(sentence.split()))
    first = flat.split(" ", 1)[0].strip(",:.").lower()
    claims, exact, given = [], False, expand(sentence)
    for template in _templates().get(first, ()):
        match = template.pattern.fullmatch(flat)
        if match is None:
            continue
        found = [_phrases(template.kind)[slot].get(text.lower()) for slot, text in zip(template.slots, match.groups(), strict=True)]
        if all(f is not None for f in found):
            phrases = tuple(f[0] for f in found if f)
            claims.append(Claim(template.kind, template.role, phrases, tuple(f[1] for f in found if f)))
            exact = exact or fill(template.text, *phrases) == given
    return Reading(exact, tuple(claims)) if claims else None


@cache
def _templates() -> dict[str, list[_Template]]:
    """First word -> templates. Several sentences in one template are read one by one."""
    out: dict[str, list[_Template]] = defaultdict(list)
    for kind, role, text in template_sentences():
        slots = tuple(re.findall(r"\{(\w+)\}", text))
        pattern = re.compile(re.sub(r"\\\{\w+\\\}", "(.+?)", re.escape(text)), re.IGNORECASE)
        out[text.split(" ", 1)[0].strip(",:.").lower()].append(_Template(kind, role, text, pattern, slots))
    return out


def template_sentences() -> Iterator[tuple[str, str, str]]:
    """(kind, role, one sentence) over the whole table, each once."""
    seen = set()
    for kind in ("any", *KINDS):
        for role, templates in sentence_table()[kind].items():
            for template in templates:
                for sentence in split_sentences(template):
                    if (kind, role.rstrip("1234"), sentence) not in seen:
                        seen.add((kind, role.rstrip("1234"), sentence))
                        yield kind, role.rstrip("1234"), sentence


@cache
def _phrases(kind: str) -> dict[str, dict[str, tuple[str, frozenset[Source]]]]:
    """slot -> lower-case phrase -> (phrase, its sources)."""
    slots = {s for k, _, text in template_sentences() if k == kind for s in re.findall(r"\{(\w+)\}", text)}
    out: dict[str, dict[str, tuple[str, frozenset[Source]]]] = {}
    for slot in slots:
        sources: dict[str, set[Source]] = defaultdict(set)
        for item, field, phrase in slot_phrases(kind, slot):
            sources[phrase].add((kind, item.key, field))
        out[slot] = {phrase.lower(): (phrase, frozenset(s)) for phrase, s in sources.items()}
    return out


def slot_phrases(kind: str, slot: str) -> Iterator[tuple[Item, str, str]]:
    """(item, field, phrase) of everything a slot may hold."""
    for item in items()[kind].values():  # type: ignore[index]
        for field in SLOT_FIELDS.get(slot, (slot,)):
            for phrase in item.fields[field]:
                yield item, field, phrase


@cache
def word_pairs() -> frozenset[tuple[str, str]]:
    """Neighbouring words anywhere in the grammar, lower case: a rough measure of what reads like a sentence."""
    pairs: set[tuple[str, str]] = set()
    for kind, _, text in template_sentences():
        edge: set[str] = {"^"}
        for piece in re.findall(r"\{\w+\}|[\w']+", text):
            if piece.startswith("{"):
                phrases = [re.findall(r"[\w']+", p.lower()) for _, _, p in slot_phrases(kind, piece[1:-1])]
            else:
                phrases = [[piece.lower()]]
            pairs.update((left, words[0]) for words in phrases for left in edge)
            pairs.update(pair for words in phrases for pair in zip(words, words[1:], strict=False))
            edge = {words[-1] for words in phrases}
        pairs.update((left, "$") for left in edge)
    return frozenset(pairs)
