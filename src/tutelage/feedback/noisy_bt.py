"""A noisy Bradley-Terry model of comparisons: who judges, who judges against the truth, who clicks, and on which side.

In one pair the better answer leads by d; labeler w's choice y (+1: the first answer, -1: the second; s: +1 where the first stood left) is

    P(y) = h_w sigma(y d) + f_w sigma(-y d) + g_w sigma(y s q_w),    h_w + f_w + g_w = 1,    d ~ N(0, spread^2).

The first and last term are crowd-kit's noisy Bradley-Terry model (skill h, bias q). The second is ours: without it the worst a labeler can
be is a guesser. Each pair's lead is integrated out: two labels a pair are too few to fit a lead for each, and a fitted one follows the
labels so closely that everybody looks skilled.

Whether disagreement comes of close pairs (a small spread) or of poor labelers (a small h) shows only in how three labels and more fall
together, so the reported skill is what both explanations agree on: (h - f) E tanh(|d| / 2), twice the share of pairs in which the labeler
chooses the better answer, less 1.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
from numpy.typing import ArrayLike

from tutelage.base.stats import Floats, group_index, same_length
from tutelage.feedback.intervals import Ints, added
from tutelage.feedback.reliability import START, Z95, Skill, bounded

PRIOR = np.array([4.0, 0.5, 0.5])
"""Judgements that each labeler starts with: honest, against, guessed. What is not yet known of a newcomer is assumed to be good."""
SPREAD, SPREAD_PAIRS = 2.3, 20.0
"""Standard deviation of leads to start from, and for how many pairs it counts: honest labelers then agree in 73% of pairs, as
InstructGPT's did (arXiv:2203.02155, section 3.4)."""
SIDE_PRIOR = 1.0
"""Guesses to the left, and as many to the right, that each labeler starts with."""
NODES = np.linspace(-3.9, 3.9, 20)
"""Leads in standard deviations; an even number, so that none is a draw."""
NODE_WEIGHTS = np.exp(-np.square(NODES) / 2) / np.exp(-np.square(NODES) / 2).sum()


@dataclass(frozen=True)
class NoisyBradleyTerry:
    """shares: (A, 3) h, f and g of each labeler. left: (A,) sigma(q), how often a guess goes left; 0.5 where sides are not known.

    first_better: (P,) P(d > 0 | all labels) of each pair. spread: standard deviation of leads.
    """

    skills: tuple[Skill, ...]
    shares: Floats
    left: Floats
    pairs: tuple[Hashable, ...]
    first_better: Floats
    spread: float
    iterations: int


def noisy_bradley_terry(pairs: Sequence[Hashable], labelers: Sequence[Hashable], first_won: ArrayLike,
                        first_on_left: ArrayLike | None = None, *, known: Mapping[Hashable, bool] | None = None, max_iterations: int = 500,
                        tolerance: float = 1e-4) -> NoisyBradleyTerry | str:
    """MAP fit by EM; the reason where there is nothing to learn from. Ties say nothing of a side here: leave them out.

    Args: pairs, labelers: (n,) which two answers, by whom; a pair's first answer is the same one in all its rows, wherever it was shown.
        first_won, first_on_left: (n,) bool. known: gold pair -> whether its first answer is better. tolerance: change of any
        skill in an iteration.
    The skills' intervals are normal, given everybody else's part.
    """
    won = np.asarray(first_won, dtype=bool)
    n = same_length(pairs=pairs, labelers=labelers, first_won=won)
    if n == 0:
        return "no comparisons"
    pair, labeler = group_index(pairs, n), group_index(labelers, n)
    names, people = tuple(dict.fromkeys(pairs)), int(labeler.max()) + 1
    allowed = _allowed(names, known or {})
    gold = allowed.sum(1) < len(NODES)
    shared = ((np.bincount(pair) > 1) | gold)[pair]
    if not shared.any():
        return "no pair was judged twice, and none has a known answer"
    side = np.zeros(n) if first_on_left is None else np.where(np.asarray(first_on_left, dtype=bool), 1.0, -1.0)
    same_length(pairs=pairs, first_on_left=side)
    fit = _Fit(pair, labeler, np.where(won, 1.0, -1.0), side, allowed, people)
    if gold.any():
        fit.step(np.where(gold, 1.0, START))
    changes = (fit.step(np.ones(len(names))) for _ in range(max_iterations))
    iterations = 1 + sum(1 for _ in takewhile(lambda change: change >= tolerance, changes))
    post = fit.posterior()
    skill, half, left = fit.skill(), fit.doubt(post), _sigmoid(fit.side_logit)
    given, compared = np.bincount(labeler, minlength=people), np.bincount(labeler[shared], minlength=people)
    skills = tuple(Skill(name, bounded(float(skill[w]), float(half[w]), int(compared[w])), int(given[w]), float(fit.shares[w, 2]),
                         None if first_on_left is None else float(left[w])) for w, name in enumerate(dict.fromkeys(labelers)))
    return NoisyBradleyTerry(skills, fit.shares, left, names, post[:, NODES > 0].sum(1), fit.spread, iterations)


@dataclass(frozen=True)
class _Groups:
    """Rows in the order of their group, and where each group starts; every group has a row."""

    order: Ints
    starts: Ints

    @classmethod
    def of(cls, index: Ints) -> _Groups:
        order = np.argsort(index, kind="stable")
        return cls(order, np.flatnonzero(np.diff(index[order], prepend=-1)))

    def sums(self, table: Floats, at: Ints) -> Floats:
        """(G, Q) sums over each group's rows of table[at]; at: (n,) rows of the table."""
        return np.add.reduceat(table[at[self.order]], self.starts, axis=0)


class _Fit:
    """EM over nodes of the lead. Rows of one labeler, choice and side are alike: K kinds in all, at most four each."""

    def __init__(self, pair: Ints, labeler: Ints, choice: Floats, side: Floats, allowed: Floats, people: int) -> None:
        self.pair, self.people, self.allowed = pair, people, allowed
        kinds = labeler * 6 + (choice > 0) * 3 + (side + 1).astype(np.int64)
        used, self.kind = np.unique(kinds, return_inverse=True)
        self.by_pair, self.by_kind = _Groups.of(pair), _Groups.of(self.kind)
        self.who, self.choice, self.side = used // 6, np.where(used % 6 >= 3, 1.0, -1.0), (used % 3 - 1).astype(np.float64)
        self.shares = np.tile(PRIOR / PRIOR.sum(), (people, 1))                                        # (A, 3)
        self.side_logit, self.spread = np.zeros(people), SPREAD

    def terms(self) -> Floats:
        """(3, K, Q) what each reason gives to the probability of a choice of each kind, at each lead."""
        follows = _sigmoid(np.outer(self.choice, NODES) * self.spread)
        clicks = np.broadcast_to(_sigmoid(self.choice * self.side * self.side_logit[self.who])[:, None], follows.shape)
        return self.shares[self.who].T[:, :, None] * np.stack([follows, 1 - follows, clicks])

    def posterior(self) -> Floats:
        """(P, Q) probability of each lead."""
        logs = self.by_pair.sums(np.log(self.terms().sum(0)), self.kind) + np.log(NODE_WEIGHTS)
        weights = np.exp(logs - logs.max(1, keepdims=True)) * self.allowed
        return weights / weights.sum(1, keepdims=True)

    def step(self, weight: Floats) -> float:
        """One iteration, in which each pair has a weight, (P,). Returns the largest change of a skill."""
        before = self.skill()
        post, terms = self.posterior(), self.terms()
        reasons = (terms / terms.sum(0) * self.by_kind.sums(post * weight[:, None], self.pair)).sum(2)      # (3, K) expected judgements
        shares = added(reasons.T, self.who) + PRIOR
        self.shares = shares / shares.sum(1, keepdims=True)
        to_left, to_right = (np.bincount(self.who, reasons[2] * (self.choice * self.side == end), self.people) for end in (1, -1))
        self.side_logit = np.log(to_left + SIDE_PRIOR) - np.log(to_right + SIDE_PRIOR)
        pairs = len(post)
        seen = float((post @ np.square(NODES)).sum()) * self.spread**2
        self.spread = float(np.sqrt((seen + SPREAD_PAIRS * SPREAD**2) / (pairs + SPREAD_PAIRS)))
        return float(np.abs(self.skill() - before).max())

    def skill(self) -> Floats:
        """(A,) twice the share of pairs in which the better answer is chosen, less 1, apart from clicks."""
        return (self.shares[:, 0] - self.shares[:, 1]) * self.clarity()

    def clarity(self) -> float:
        """E tanh(|d| / 2): what the best labeler can reach on these pairs."""
        return float(NODE_WEIGHTS @ np.tanh(np.abs(NODES) * self.spread / 2))

    def doubt(self, post: Floats) -> Floats:
        """(A,) half-width of the skills' 95% intervals: Fisher information of h - f where others' labels alone tell the lead."""
        probability, follows = self.terms().sum(0)[self.kind], np.tanh(NODES * self.spread / 2)         # (n, Q), (Q,)
        without = post[self.pair] / probability
        told = (without @ follows) / without.sum(1)                                                    # (n,) what others make of it
        who = self.who[self.kind]
        follows_lead = (self.shares[:, 0] - self.shares[:, 1])[who]
        information = np.bincount(who, np.square(told) / (1 - np.square(follows_lead * told)), self.people)
        with np.errstate(divide="ignore"):
            return self.clarity() * Z95 / np.sqrt(information)


def _allowed(pairs: tuple[Hashable, ...], known: Mapping[Hashable, bool]) -> Floats:
    """(P, Q) 1 where a lead is possible: gold pairs have its sign."""
    allowed = np.ones((len(pairs), len(NODES)))
    for i, pair in enumerate(pairs):
        if pair in known:
            allowed[i] = (NODES > 0) == known[pair]
    return allowed


def _sigmoid(x: Floats) -> Floats:
    return 0.5 * (1.0 + np.tanh(x / 2))
