"""Every question of the embedded world, and the way back from a question's text to what it is about."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Literal

from tutelage.demo.tables import KINDS, Item, Kind, items, table

Split = Literal["train", "heldout"]
HELDOUT_FRAC = 0.15
ASKED_FIELD: dict[Kind, str] = {"help": "do", "unknown": "ask", "decline": "want", "ambiguous": "asks"}


@dataclass(frozen=True)
class Question:
    """One prompt of the world: its text, what it is about, and the side it is kept on for ever."""

    text: str
    item: Item
    split: Split

    @property
    def kind(self) -> Kind:
        return self.item.kind


@cache
def questions() -> tuple[Question, ...]:
    """All questions. A held-out one is a template and an item that each occur in training, but never together."""
    out = []
    templates_of = table("prompts")
    for kind in KINDS:
        for item in items()[kind].values():
            for template in templates_of[kind]:
                for phrase in item.fields[ASKED_FIELD[kind]]:
                    out.append(Question(template.replace("{x}", phrase), item, split_of(kind, template, phrase)))
    return tuple(out)


def split_of(kind: str, template: str, phrase: str) -> Split:
    """Fixed by a hash, not by a seed: what one run held out no other run ever trained on."""
    digest = hashlib.sha256(f"{kind}|{template}|{phrase}".encode()).digest()
    return "heldout" if int.from_bytes(digest[:4], "big") < HELDOUT_FRAC * 2**32 else "train"


@lru_cache(maxsize=65536)
def find_question(text: str) -> Question | None:
    """The question meant by a text: the same words, nearly the same (a typo, a greeting more), or other words around what is asked about
    ("how to brew tea"); None outside the world."""
    words = _words(text)
    exact = _by_words().get(" ".join(words))
    if exact is not None or not words or len(words) > 60:
        return exact
    overlap: Counter[int] = Counter()
    for word in set(words):
        overlap.update(_by_word().get(word, ()))
    best, best_likeness = None, 0.75
    for index, shared in overlap.most_common(40):
        question = questions()[index]
        likeness = shared / len(set(words) | set(_words(question.text)))
        if likeness > best_likeness:
            best, best_likeness = question, likeness
    return best or _asked_about(words)


def _asked_about(words: list[str]) -> Question | None:
    """A question whose own phrase stands in the text word for word; the longest one."""
    for length in range(min(len(words), 12), 1, -1):
        for start in range(len(words) - length + 1):
            found = _by_phrase().get(" ".join(words[start : start + length]))
            if found is not None:
                return found
    return None


def _words(text: str) -> list[str]:
    """Lower-case words of at most 1,000 characters; a leading `user:` (a printed conversation) is not part of the question."""
    return re.findall(r"[a-z0-9']+", re.sub(r"^\s*user:\s*", "", text[:1000].lower()))


@cache
def _by_words() -> dict[str, Question]:
    return {" ".join(_words(q.text)): q for q in questions()}


@cache
def _by_phrase() -> dict[str, Question]:
    return {" ".join(_words(phrase)): q for q in questions() for phrase in q.item.fields[ASKED_FIELD[q.kind]] if phrase in q.text}


@cache
def _by_word() -> dict[str, list[int]]:
    index: dict[str, list[int]] = defaultdict(list)
    for i, question in enumerate(questions()):
        for word in set(_words(question.text)):
            index[word].append(i)
    return index
