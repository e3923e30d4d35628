"""The screening test: gold items one after another until it is clear that a newcomer is good enough or is not; and whom it turns away.

Twenty items cannot tell 75% right from 60%; the sequential test asks as many as it needs (Wald 1945) and states its errors exactly.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from tutelage.base.stats import same_length
from tutelage.feedback.intervals import Statistic, share, undefined

Decision = Literal["continue", "pass", "fail"]
MOST_ITEMS = 500
"""Of a test that a lead sets: nobody takes a longer one, and its errors are computed whenever somebody looks at them."""


@dataclass(frozen=True, slots=True)
class Screening:
    """Where one newcomer stands. Immutable and a plain row, so it can be saved after every answer and resumed.

    good, poor: shares of right answers to be told apart. false_pass, false_fail: bounds of Wald's test for passing a poor newcomer, for
    failing a good one. at_most: items, after which the likelier of the two is taken. `characteristic` gives the errors that result.
    """

    good: float = 0.75
    poor: float = 0.60
    false_pass: float = 0.05
    false_fail: float = 0.05
    at_most: int = 160
    right: int = 0
    asked: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.poor < self.good < 1 or not 0 < self.false_pass < 0.5 or not 0 < self.false_fail < 0.5:
            raise ValueError(f"a screening needs 0 < poor < good < 1 and errors below 0.5, not {self}")
        if not 0 <= self.right <= self.asked <= self.at_most:
            raise ValueError(f"{self.right} right of {self.asked} asked, at most {self.at_most}")

    def answered(self, correct: bool) -> Screening:
        """The state after one more gold item. Raises ValueError where the test is over."""
        if self.decision != "continue":
            raise ValueError(f"the screening is over ({self.decision} after {self.asked} items)")
        return replace(self, right=self.right + bool(correct), asked=self.asked + 1)

    @property
    def decision(self) -> Decision:
        odds = self._log_odds(self.right, self.asked)
        if odds >= self._passes:
            return "pass"
        if odds <= self._fails:
            return "fail"
        return "continue" if self.asked < self.at_most else "pass" if odds > 0 else "fail"

    @property
    def enough(self) -> int:
        """Items with which the test can end either way: who is always right passes by then, and who is always wrong fails."""
        def ends(items: int) -> bool:
            return all(replace(self, right=right, asked=items).decision != "continue" for right in (0, items))

        return next((items for items in range(1, self.at_most) if ends(items)), self.at_most)

    def characteristic(self, rate: float) -> tuple[float, float]:
        """(probability to pass, expected number of items) of a newcomer who is right at this rate, exactly, from the first item on."""
        alive, passed, items = np.ones(1), 0.0, 0.0                  # alive[right]: chance to be there, undecided
        for asked in range(1, self.at_most + 1):
            items += float(alive.sum())
            reached = np.append(alive, 0.0) * (1 - rate) + np.append(0.0, alive) * rate
            odds = self._log_odds(np.arange(asked + 1), asked)
            passes = odds >= self._passes if asked < self.at_most else odds > 0
            passed += float(reached[passes].sum())
            alive = np.where(passes | (odds <= self._fails), 0.0, reached)
        return passed, items

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Screening:
        """A test of more than MOST_ITEMS is cut to them. Raises ValueError on a state that cannot be, TypeError on unknown fields."""
        made = cls(**row)
        return replace(made, at_most=min(made.at_most, max(MOST_ITEMS, made.asked + 1)))

    @property
    def _passes(self) -> float:
        return math.log((1 - self.false_fail) / self.false_pass)

    @property
    def _fails(self) -> float:
        return math.log(self.false_fail / (1 - self.false_pass))

    def _log_odds(self, right: Any, asked: int) -> Any:
        return right * math.log(self.good / self.poor) + (asked - right) * math.log((1 - self.good) / (1 - self.poor))


@dataclass(frozen=True, slots=True)
class GroupPassed:
    """passed: share of the group that passes. difference: to everybody else's share, below 0 where the test removes more of this group.

    flagged: the difference's interval leaves 0 out.
    """

    group: Hashable
    passed: Statistic
    difference: Statistic
    flagged: bool


def passed_by_group(passed: ArrayLike, groups: Sequence[Hashable]) -> list[GroupPassed]:
    """Which groups a screen removes: people are not the same for having the same opinions, and a test of agreement removes minorities.

    Args: passed: (n,) bool, one a person whose screening is over. The difference's interval is Newcombe's (1998, method 10).
    """
    success = np.asarray(passed, dtype=bool)
    n = same_length(passed=success, groups=groups)
    found = []
    for name in dict.fromkeys(groups):
        inside = np.array([group == name for group in groups])
        own = share(int(success[inside].sum()), int(inside.sum()))
        rest = share(int(success[~inside].sum()), int((~inside).sum()), what="other group")
        gap = difference(own, rest, n)
        found.append(GroupPassed(name, own, gap, gap.low is not None and gap.high is not None and not gap.low <= 0 <= gap.high))
    return found


def difference(one: Statistic, other: Statistic, n: int) -> Statistic:
    """one - other of independent shares with Wilson's intervals, by Newcombe's rule."""
    for part in (one, other):
        if part.value is None:
            return undefined(part.why or "", n)
    assert one.value is not None and one.low is not None and one.high is not None
    assert other.value is not None and other.low is not None and other.high is not None
    gap = one.value - other.value
    return Statistic(gap, n, gap - math.hypot(one.value - one.low, other.high - other.value),
                     gap + math.hypot(one.high - one.value, other.value - other.low))
