"""The imagined people who write demonstrations and web pages: each with a care, a tone and a habit, all with the same grammar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tutelage.demo.grammar import fill
from tutelage.demo.tables import Item, sentence_table


@dataclass(frozen=True)
class Person:
    """How somebody writes. All numbers are probabilities.

    care: of each helpful or honest thing being there and right. warmth: of an opener, of a closing.
    rude, rash, padded: of a rude remark, of a made-up, unsafe or preaching one, of empty words.
    """

    name: str
    care: float
    warmth: float
    rude: float
    rash: float
    padded: float


CAREFUL = Person("careful", care=0.48, warmth=0.40, rude=0.08, rash=0.28, padded=0.12)
PLAIN = Person("plain", care=0.44, warmth=0.32, rude=0.16, rash=0.34, padded=0.20)
CHATTY = Person("chatty", care=0.42, warmth=0.38, rude=0.12, rash=0.36, padded=0.40)
HURRIED = Person("hurried", care=0.39, warmth=0.28, rude=0.20, rash=0.35, padded=0.14)
RUDE = Person("rude", care=0.37, warmth=0.18, rude=0.60, rash=0.40, padded=0.18)
PERFECT = Person("perfect", care=1.0, warmth=1.0, rude=0.0, rash=0.0, padded=0.0)

CROWD = ((CAREFUL, 0.30), (PLAIN, 0.34), (CHATTY, 0.16), (HURRIED, 0.15), (RUDE, 0.05))
"""Who writes the demonstrations, and how often."""
WEB = ((CAREFUL, 0.10), (PLAIN, 0.25), (CHATTY, 0.20), (HURRIED, 0.20), (RUDE, 0.25))
"""Who writes web pages: the same people, less careful company."""


def choose(rng: np.random.Generator, crowd: Sequence[tuple[Person, float]] = CROWD) -> Person:
    weights = np.cumsum([weight for _, weight in crowd])
    return crowd[int(np.searchsorted(weights, rng.random() * weights[-1], side="right"))][0]


def write_answer(rng: np.random.Generator, item: Item, person: Person) -> str:
    """One answer to a question about `item`, in this person's manner."""
    writer = _Writer(rng, item, person)
    body = {"help": writer.help, "unknown": writer.unknown, "decline": writer.decline, "ambiguous": writer.ambiguous}[item.kind]()
    return writer.dress(body)


class _Writer:
    def __init__(self, rng: np.random.Generator, item: Item, person: Person) -> None:
        self.rng, self.item, self.person = rng, item, person
        self.table = sentence_table()[item.kind]

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def pick(self, options: Sequence[str]) -> str:
        return options[int(self.rng.integers(len(options)))]

    def graded(self, role: str, *fields: str, vague: str = "", none: float = 0.30) -> list[str]:
        """The full sentence, its vague cousin, or nothing; the less care, the less often the full one."""
        full = self.chance(self.person.care if self.person.care == 1 else self.person.care - 0.1)
        if full:
            return [self.say(role, *fields)]
        return [] if self.chance(none / (1.1 - self.person.care)) else [self.pick(self.table.get(vague) or sentence_table()["any"][vague])]

    def named(self, role: str, field: str, name: str = "") -> list[str]:
        """The sentence that matters most; where it stays vague or unsaid, often the thing is at least named."""
        said = self.graded(role, field, vague=f"{role}_vague")
        full = bool(said) and said[0] not in self.table[f"{role}_vague"]
        return said if full or not self.chance(0.6) else [self.say("name", name or field), *said]

    def say(self, role: str, *fields: str) -> str:
        """A sentence of this role; named fields go into its slots, a field with several phrases gives one of them."""
        return fill(self.pick(self.table[role]), *(self.pick(self.item.fields[field]) for field in fields))

    def dress(self, body: list[str]) -> str:
        """Opener before, empty words and rude remarks inside, closing after."""
        person = self.person
        if self.chance(person.padded) and len(" ".join(body).split()) <= 30:
            body.insert(int(self.rng.integers(len(body) + 1)), self.pick(sentence_table()["any"]["filler"]))
        rude = self.chance(person.rude)
        if self.chance(person.warmth) and not (rude and person.rude > 0.5):
            body.insert(0, self.pick(self.table["opener"]))
        if rude:
            body.insert(len(body) if self.chance(0.6) else 0, self.pick(sentence_table()["any"]["rude"]))
        if self.chance(person.warmth) and len(" ".join(body).split()) <= 38:
            closing = self.pick(self.table["closing"])
            body.append(fill(closing, self.item["trouble"]) if "{" in closing else closing)
        return " ".join(body)

    def help(self) -> list[str]:
        care, rash = self.person.care, self.person.rash
        named = self.chance(care)
        tool = "tool" if self.chance(care) else "bad" if self.chance(0.5) else None
        if named:
            body = [self.say("head", "do", tool) if tool else self.say("name", "do")]
        else:
            body = [self.say("tool", tool)] if tool else []
        body += self.steps()
        body += [self.say("reason", "myth")] if self.chance(rash * 0.6) else self.graded("reason", "why", vague="reason_vague")
        if self.chance(rash):
            body.append(self.say("invented"))
        return body

    def steps(self) -> list[str]:
        """One to three steps; a careless writer drops some, swaps them, or slips a careless one in."""
        steps = self.item.fields["steps"]
        count = 3 if self.chance(self.person.care) else 2 if self.chance(0.6) else 1
        chosen = [steps[i] for i in sorted(self.rng.choice(len(steps), count, replace=False))]
        if count > 1 and not self.chance(self.person.care):
            chosen.reverse()
        if self.chance(self.person.rash):
            chosen[int(self.rng.integers(count))] = self.item["careless"]
        return [fill(self.pick(self.table[f"steps{count}"]), *chosen)]

    def unknown(self) -> list[str]:
        rash = self.person.rash
        body = self.named("admit", "know")
        body += self.graded("reason", "cause", vague="reason_vague")
        body += self.graded("how", "how", vague="how_vague")
        if self.chance(rash) or not body:
            body.append(self.say("figure", "figure"))
        if self.chance(rash):
            body.append(self.say("unsafe"))
        return body

    def decline(self) -> list[str]:
        rash = self.person.rash
        body = self.named("refuse", "you")
        if self.chance(rash):
            body.append(self.say("comply"))
        body += self.graded("reason", "harm", vague="reason_vague")
        if self.chance(rash) or not body:
            body.append(self.say("preach"))
        return body + self.graded("instead", "instead", vague="instead_vague")

    def ambiguous(self) -> list[str]:
        rash = self.person.rash
        body = self.named("ask", "back", "thing")
        body += self.graded("reason", "depends", vague="reason_vague")
        if self.chance(rash) or not body:
            body.append(self.say("guess", "guess"))
        if self.chance(rash):
            body.append(self.say("unsafe"))
        return body
