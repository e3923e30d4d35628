"""Judgements as a preference model learns from them: each what it says about answers, with the weight it has.

No tensors here: `tutelage.recipes.reward_model` turns these rows into one likelihood. A pair says who is better, by a margin or with a
probability; an edit is a pair, its author having preferred the edited answer; a rating stands on its labeler's own scale.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import Any, Literal, NamedTuple

from tutelage.base.errors import ConfigError, DataError
from tutelage.base.records import Judgement, Response, prompt_text
from tutelage.feedback import reliability
from tutelage.feedback.noisy_bt import noisy_bradley_terry


def as_preference(judgement: Judgement, *, strength_targets: Sequence[float] = (), min_strength: float = 0.0) -> Judgement | None:
    """What a judgement says of answers, as pairs, rankings, ratings or labels; None when it says nothing of them.

    An edit, also one beside a critique, becomes the pair (edited, original), edited preferred. A pair of less strength than `min_strength`
    says nothing (Bai et al. 2022, section 2.2, keep what is above the weakest step). strength_targets: P(the preferred answer is better) of
    strength 1, 2, ..., which becomes the row's `target` where it has none.
    Raises: DataError on a strength that has no target.
    """
    if judgement.kind in ("critique", "edit"):
        original, edited = judgement.responses[0], judgement.edit
        if edited is None or edited.split() == original.text.split():
            return None
        return replace(judgement, kind="comparison", responses=(Response(edited), original), ranks=(0, 1))
    ranks, strength = judgement.ranks, judgement.strength
    if judgement.kind != "comparison" or ranks is None or len(ranks) != 2 or ranks[0] == ranks[1] or strength is None:
        return judgement
    if strength < min_strength:
        return None
    if not strength_targets or "target" in judgement.extra:
        return judgement
    if strength not in range(1, len(strength_targets) + 1):
        raise DataError(f"a strength of {strength:g} has no target: {len(strength_targets)} are given, for 1 to {len(strength_targets)}",
                        hint="give algo.strength_targets one probability for each step of the scale")
    target = strength_targets[int(strength) - 1]
    return replace(judgement, extra={**judgement.extra, "target": target if ranks[0] < ranks[1] else 1.0 - target})


def example_weights(judgements: Sequence[Judgement], *, trust: Mapping[str, float] | None = None,
                    group_weights: Mapping[str, float] | None = None, inverse_probability: bool = False) -> list[float]:
    """How much each judgement counts: its own weight x its labeler's reliability x its group's weight / p_select, mean as before.

    trust: labeler -> share of what they say that is to be believed, >= 0; who is not in it counts fully.
    group_weights: group -> factor, which gives a minority's preferences weight; other groups have 1.
    inverse_probability: weigh by 1 / p_select, so that sums over what was chosen for judging estimate sums over all there was to choose
        from (Horvitz and Thompson 1952, JASA 47:663); divided by their mean they are a ratio estimate, biased by order 1 / n (Hajek 1971).
        The queue's p_select is of one draw: then this holds while what was drawn is a small part of what is open.
    The mean weight stays that of the judgements' own weights, so that the learning rate means the same.
    Raises: ConfigError for a group nobody belongs to; DataError on a p_select that is no probability.
    """
    groups, people = dict(group_weights or {}), trust or {}
    if unknown := [name for name in groups if name not in {j.group for j in judgements}]:
        known = sorted({j.group for j in judgements if j.group is not None})
        raise ConfigError(f"group_weights: no judgement is of the group {unknown[0]!r}", hint=f"there are: {', '.join(known) or 'none'}")
    weights = []
    for j in judgements:
        if inverse_probability and not 0 < j.p_select <= 1:
            raise DataError(f"p_select is {j.p_select!r}, not a probability above 0",
                            hint="mend it, or turn people.inverse_probability off")
        weights.append(j.weight * people.get(j.labeler or "", 1.0) * groups.get(j.group or "", 1.0)
                       / (j.p_select if inverse_probability else 1.0))
    before, after = sum(j.weight for j in judgements), sum(weights)
    return [w * before / after for w in weights] if after > 0 else weights


@dataclass(frozen=True)
class Reliability:
    """weights: labeler -> in [0, 1], the most skilled has 1. told: a line for each who lost weight, or why nobody was weighed.

    opposed: who surely says the opposite of what others find, and is to be read so.
    """

    skills: tuple[reliability.Skill, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)
    told: tuple[str, ...] = ()
    opposed: frozenset[str] = frozenset()

    def report(self) -> dict[str, Any]:
        """labeler -> weight, skill with its interval, and how many labels of pairs they gave."""
        return {str(s.labeler): {"weight": self.weights.get(str(s.labeler), 1.0), "skill": s.skill.value, "low": s.skill.low,
                                 "high": s.skill.high, "why": s.skill.why, "labels": s.labels, "guesses": s.guesses, "left": s.left,
                                 "read_as_opposite": str(s.labeler) in self.opposed}
                for s in self.skills}


def read_as_opposite(judgement: Judgement) -> Judgement:
    """Who is surely opposed to everybody else: their order of answers turned round; what says nothing of an order counts nothing."""
    if judgement.ranks is None or judgement.edit is not None:
        return replace(judgement, weight=0.0)
    extra, last = dict(judgement.extra), max(judgement.ranks)
    if "target" in extra:
        extra["target"] = 1.0 - extra["target"]
    return replace(judgement, ranks=tuple(last - rank for rank in judgement.ranks), extra=extra)


class Order(NamedTuple):
    """Some answers as one person ranked them. answers: what each is known by, in an order that anybody would put them in (ids, texts).

    sides: position on the page -> place among these; None where that is not known.
    """

    labeler: str
    answers: Sequence[Any]
    ranks: Sequence[int]
    sides: Sequence[int] | None


def labeler_reliability(judgements: Sequence[Judgement], *, opposed: Literal["mute", "flip"] = "mute") -> Reliability:
    """`reliability_of` all that ranks answers. Edits are nobody else's, and anonymous rows nobody's."""
    return reliability_of([Order(j.labeler, [(prompt_text(j.prompt), answer.text) for answer in j.responses], j.ranks, j.extra.get("sides"))
                           for j in judgements if j.edit is None and j.labeler is not None and j.ranks is not None], opposed=opposed)


def reliability_of(orders: Iterable[Order], *, opposed: Literal["mute", "flip"] = "mute") -> Reliability:
    """How far each labeler is to be believed, from who contradicts whom: `noisy_bradley_terry` of all pairs of answers they order.

    A ranking is its pairs; ties say nothing of a side. Who only rates or says yes and no keeps their weight. Which answer stood left is
    heard where all are of two answers and tell it.
    """
    pairs, people = list[tuple[Any, Any]](), list[str]()
    won, left = list[bool](), list[bool]()
    for labeler, answers, ranks, sides in orders:
        for a, b in permutations(range(len(answers)), 2):
            if ranks[a] != ranks[b] and answers[a] < answers[b]:
                pairs.append((answers[a], answers[b]))
                people.append(labeler)
                won.append(ranks[a] < ranks[b])
                if sides and len(answers) == 2:
                    left.append(sides[0] == a)
    fit = noisy_bradley_terry(pairs, people, won, left if len(left) == len(won) else None)
    if isinstance(fit, str):
        return Reliability(told=(f"nobody is weighed by reliability: {fit}",))
    names = [str(s.labeler) for s in fit.skills]
    found = reliability.example_weights(fit.skills, names, opposed=opposed)
    flipped = frozenset(name for name, flip in zip(names, found.flipped, strict=True) if flip)
    return Reliability(fit.skills, dict(zip(names, found.weight.tolist(), strict=True)), found.told, flipped)
