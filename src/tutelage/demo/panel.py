"""Six simulated labelers who judge by the gold preference, each through a leaning, a liking for length, a noise and a habit of the eye.

A labeler's utility of an answer is the mean of the gold's four parts under a leaning, plus a little for length. To each of K answers a
Gumbel noise is added, and a bonus to the one that happens to be shown first; the sums are ranked, and neighbours closer than `tie` are a
tie. The difference of two Gumbels is logistic, so for a pair every probability has a closed form, and so has the Bayes ceiling.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np

from tutelage.base.records import Judgement, Message, Prompt, Response
from tutelage.demo.gold import Assessment, assess

CLOCK_START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
GOOD_ENOUGH = 0.6
"""Utility from which a single answer tends to get a yes."""


@dataclass(frozen=True)
class Labeler:
    """leaning: weight multiplier per part. length_liking: most that length can add, at far more than 24 words. noise: Gumbel scale.
    first: bonus of the answer shown first. tie: largest difference called a tie; all in units of utility. seconds: typical time per answer.
    """

    name: str
    group: str
    leaning: Mapping[str, float]
    length_liking: float
    noise: float
    first: float
    tie: float
    seconds: float

    def utility(self, assessment: Assessment) -> float:
        """What this labeler would feel without noise; about 0..1."""
        weights = {p: self.leaning[p] * w for p, w in assessment.part_weights.items()}
        liking = sum(w * assessment.parts[p] for p, w in weights.items()) / sum(weights.values())
        return liking + self.length_liking * math.tanh((assessment.words - 24) / 12)


def _leaning(helpful: float, honest: float, harmless: float, polite: float) -> dict[str, float]:
    return {"helpful": helpful, "honest": honest, "harmless": harmless, "polite": polite}


LABELERS = (
    Labeler("amara", "workshop", _leaning(1.5, 1.0, 0.8, 0.7), 0.020, 0.075, 0.005, 0.015, 14.0),
    Labeler("bruno", "workshop", _leaning(1.3, 1.2, 0.9, 0.6), 0.000, 0.090, 0.010, 0.020, 11.0),
    Labeler("chiyo", "library", _leaning(0.9, 1.5, 1.1, 0.8), -0.010, 0.075, 0.005, 0.010, 17.0),
    Labeler("dario", "library", _leaning(1.0, 1.1, 1.4, 0.9), 0.030, 0.085, 0.015, 0.025, 12.0),
    Labeler("elin", "home", _leaning(0.8, 0.9, 1.1, 1.5), 0.015, 0.080, 0.005, 0.015, 13.0),
    Labeler("falk", "home", _leaning(1.0, 1.0, 1.0, 1.0), 0.030, 0.900, 0.250, 0.100, 2.5),
)
"""The last one is careless: nearly random, fast, and fond of whatever stands first."""


class Panel:
    """The labelers of one seed: the same six, each leaning varied by a few percent. A simulated clock runs for each of them."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([seed, 4])
        self.labelers: tuple[Labeler, ...] = tuple(
            replace(x, leaning={p: w * float(rng.uniform(0.92, 1.08)) for p, w in x.leaning.items()}) for x in LABELERS
        )
        self._clock = {x.name: CLOCK_START + timedelta(minutes=7 * i) for i, x in enumerate(self.labelers)}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(x.name for x in self.labelers)

    def labeler(self, name: str) -> Labeler:
        """Raises KeyError for a name that is not on the panel."""
        return {x.name: x for x in self.labelers}[name]

    def judge(
        self, prompt: Prompt, responses: Sequence[str | Response], labeler: str, rng: np.random.Generator, *, p_select: float = 1.0,
        first: int | None = None,
    ) -> Judgement:
        """Rank the answers (0 is best, equal is a tie). strength: 1 barely to 4 much better, from the winner's lead over the next.

        first: the answer that is shown first; None: any, evenly.
        """
        who, shown = self.labeler(labeler), [_response(r) for r in responses]
        if len(shown) < 2:
            raise ValueError(f"a ranking needs two answers or more, got {len(shown)}; use rate() for a single one")
        felt = np.array([who.utility(assess(_question(prompt), r.text)) for r in shown]) + rng.gumbel(scale=who.noise, size=len(shown))
        felt[int(rng.integers(len(shown))) if first is None else first] += who.first
        order = np.argsort(-felt, kind="stable")
        gaps = -np.diff(felt[order])
        ranks = np.zeros(len(shown), dtype=int)
        ranks[order[1:]] = np.cumsum(gaps >= who.tie)
        seconds = self._spend(who, len(shown), rng)
        return Judgement(
            prompt,
            tuple(shown),
            "comparison" if len(shown) == 2 else "ranking",
            ranks=tuple(int(r) for r in ranks),
            strength=float(1 + np.searchsorted([0.08, 0.18, 0.32], gaps[0])),
            labeler=who.name,
            group=who.group,
            p_select=p_select,
            seconds=seconds,
            at=self._clock[who.name].isoformat(),
        )

    def rate(self, prompt: Prompt, response: str | Response, labeler: str, rng: np.random.Generator, *, p_select: float = 1.0) -> Judgement:
        """Yes or no to a single answer."""
        who, shown = self.labeler(labeler), _response(response)
        felt = who.utility(assess(_question(prompt), shown.text)) + rng.logistic(scale=who.noise)
        seconds = self._spend(who, 1, rng)
        return Judgement(
            prompt,
            (shown,),
            "label",
            label=bool(felt > GOOD_ENOUGH),
            labeler=who.name,
            group=who.group,
            p_select=p_select,
            seconds=seconds,
            at=self._clock[who.name].isoformat(),
        )

    def preference_probability(self, prompt: Prompt, a: str, b: str, labelers: Sequence[str] | None = None) -> float:
        """P(a is preferred | not a tie) of a labeler drawn evenly (from `labelers`, default all), exactly.

        max(p, 1 - p) of it, averaged over pairs with the weight of not being tied, is what the best possible predictor reaches.
        """
        wins, losses = self.outcomes(prompt, a, b, labelers)
        return wins / (wins + losses)

    def tie_probability(self, prompt: Prompt, a: str, b: str, labelers: Sequence[str] | None = None) -> float:
        """P(tie) of a labeler drawn evenly, exactly."""
        return 1.0 - sum(self.outcomes(prompt, a, b, labelers))

    def outcomes(self, prompt: Prompt, a: str, b: str, labelers: Sequence[str] | None = None) -> tuple[float, float]:
        """(P(a wins), P(b wins)), exactly: means over labelers (default all) and over which answer is shown first. The rest is ties."""
        question = _question(prompt)
        first, second = assess(question, a), assess(question, b)
        wins = losses = 0.0
        chosen = self.labelers if labelers is None else [self.labeler(n) for n in labelers]
        for who in chosen:
            lead = who.utility(first) - who.utility(second)
            for bonus in (who.first, -who.first):
                wins += _sigmoid((lead + bonus - who.tie) / who.noise) / 2
                losses += _sigmoid((-lead - bonus - who.tie) / who.noise) / 2
        return wins / len(chosen), losses / len(chosen)

    def _spend(self, who: Labeler, answers: int, rng: np.random.Generator) -> float:
        seconds = round(float(who.seconds * answers * rng.lognormal(0.0, 0.35)), 1)
        self._clock[who.name] += timedelta(seconds=seconds)
        return seconds


def _response(response: str | Response) -> Response:
    return Response(response) if isinstance(response, str) else response


def _question(prompt: Prompt) -> str:
    """The last thing the user said."""
    if isinstance(prompt, str):
        return prompt
    asked: list[Message] = [m for m in prompt if m.role == "user"]
    return asked[-1].content if asked else ""


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))
