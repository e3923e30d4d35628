"""Plain text to read before anything is asked: notes, letters, diaries, threads, question pages, well- and ill-mannered alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import TypeVar

import numpy as np

from tutelage.demo.grammar import fill
from tutelage.demo.people import CROWD, WEB, choose, write_answer
from tutelage.demo.prompts import Question, questions
from tutelage.demo.tables import KINDS, Item, Kind, items, sentence_table, table

Rng = np.random.Generator
T = TypeVar("T")
PAGES_PER_KIND = {"help": 0.34, "unknown": 0.22, "decline": 0.22, "ambiguous": 0.22}


def texts(seed: int, num_chars: int) -> Iterator[str]:
    """Texts of 60 to about 900 characters until they sum up to `num_chars`. The same seed gives the same texts."""
    rng = np.random.default_rng([seed, 1])
    makers = [maker for maker, weight in GENRES for _ in range(weight)]
    total = 0
    while total < num_chars:
        text = _pick(rng, makers)(rng)
        total += len(text)
        yield text


@cache
def training_questions() -> dict[Kind, list[Question]]:
    """Questions that may be shown to a model, by kind."""
    return {kind: [q for q in questions() if q.kind == kind and q.split == "train"] for kind in KINDS}


def draw_question(rng: Rng) -> Question:
    """A training question; its kind by the shares of the world."""
    kind = KINDS[int(np.searchsorted(np.cumsum([PAGES_PER_KIND[k] for k in KINDS]), rng.random() * 0.999))]
    return _pick(rng, training_questions()[kind])


def _question_page(rng: Rng) -> str:
    """A page of questions and answers as found on the web."""
    pairs = []
    for _ in range(int(rng.integers(1, 4))):
        question = draw_question(rng)
        pairs.append(f"Question: {question.text}\nAnswer: {write_answer(rng, question.item, choose(rng, WEB))}")
    return "\n\n".join(pairs)


def _thread(rng: Rng) -> str:
    """A question in a forum and what two people made of it."""
    question = draw_question(rng)
    asker, *others = rng.permutation(_words()["names"])[:3]
    answers = [f"{name}: {write_answer(rng, question.item, choose(rng, WEB))}" for name in others]
    thanks = _pick(rng, _words()["thanks"]) if rng.random() < 0.6 else _pick(rng, _words()["quarrels"])
    return "\n".join([f"{asker}: {question.text}", *answers, f"{asker}: {thanks}"])


def _notes(rng: Rng) -> str:
    """What one household knows, put down in a few sentences."""
    item, lines = _any_item(rng, "help"), []
    steps = item.fields["steps"]
    for role, phrases in rng.permutation(np.array([("head", 0), ("steps3", 1), ("reason", 2)], dtype=object)):
        lines.append(fill(_pick(rng, sentence_table()["help"][role]), *_facts(rng, item, steps)[phrases]))
    return f"{_pick(rng, _words()['headings'])} {item['do']}\n" + " ".join(lines)


def _facts(rng: Rng, item: Item, steps: Sequence[str]) -> list[list[str]]:
    chosen = [steps[i] for i in sorted(rng.choice(len(steps), 3, replace=False))]
    return [[item["do"], item["tool"]], chosen, [item["why"]]]


def _diary(rng: Rng) -> str:
    item = _any_item(rng, "help")
    other = _any_item(rng, "help")
    right = rng.random() < 0.6
    step = _pick(rng, item.fields["steps"]) if right else item["careless"]
    return _fill_named(
        rng,
        "diary_good" if right else "diary_bad",
        do=item["do"],
        tool=item["tool"],
        bad=item["bad"],
        step=step,
        trouble=item["trouble"],
        why=item["why"],
        other=other["do"],
    )


def _letter(rng: Rng) -> str:
    item = _any_item(rng, "help")
    first, second = item.fields["steps"][0], item.fields["steps"][int(rng.integers(1, 4))]
    return _fill_named(
        rng, "letters", do=item["do"], tool=item["tool"], first=first, second=second, why=item["why"], trouble=item["trouble"]
    )


def _story(rng: Rng) -> str:
    kind = KINDS[int(rng.integers(1, 4))]
    item = _any_item(rng, kind)
    fields = {field: _pick(rng, phrases) for field, phrases in item.fields.items()}
    return _fill_named(rng, f"stories_{kind}", **fields)


def _advice(rng: Rng) -> str:
    """A column of answers without their questions, written by one person of any manner."""
    kind = KINDS[int(rng.integers(len(KINDS)))]
    return "\n".join(write_answer(rng, _any_item(rng, kind), choose(rng, CROWD)) for _ in range(int(rng.integers(1, 4))))


GENRES: tuple[tuple[Callable[[Rng], str], int], ...] = (
    (_question_page, 7),
    (_thread, 3),
    (_notes, 3),
    (_diary, 2),
    (_letter, 2),
    (_story, 3),
    (_advice, 2),
)


@cache
def _words() -> dict[str, list[str]]:
    return table("corpus")


def _any_item(rng: Rng, kind: Kind) -> Item:
    return _pick(rng, list(items()[kind].values()))


def _fill_named(rng: Rng, genre: str, **fields: str) -> str:
    text = _pick(rng, _words()[genre])
    name, friend = rng.permutation(_words()["names"])[:2]
    return text.format(name=name, friend=friend, day=_pick(rng, _words()["days"]), **fields).strip()


def _pick(rng: Rng, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]
