"""Cross-validation's numbers: every pair is judged by models that never saw its prompt, and so are the guesses they must beat.

Pairs on one prompt share their answers and their readers, so intervals are drawn by prompt (`keys`), not by pair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tutelage.base.stats import Floats
from tutelage.evals import words
from tutelage.evals.reward_report import calibration, lead, pair_accuracy

NEAR = 0.2
"""Two answers are of like length when the shorter lacks at most this share of the longer's characters."""


@dataclass(frozen=True)
class Pairs:
    """Decided pairs. keys: what intervals are drawn by. folds: (n,) the fold each was held out in. shares: (n,) of the votes, those for
    `chosen`; nan where there are none."""

    chosen: Sequence[str]
    rejected: Sequence[str]
    keys: Sequence[str]
    folds: np.ndarray
    shares: Floats

    @property
    def near(self) -> np.ndarray:
        """(n,) whether both answers are of like length."""
        one, other = (np.array([float(len(text)) for text in side]) for side in (self.chosen, self.rejected))
        return np.abs(one - other) <= NEAR * np.maximum(one, other)


def guesses(pairs: Pairs) -> dict[str, Floats]:
    """Margins (n,) of what never understands a word, each learnt from the other folds: length in characters, words, both."""
    out = {name: np.zeros(len(pairs.keys)) for name in ("length", "bag_of_words", "words_and_length")}
    for fold in np.unique(pairs.folds):
        learnt = np.flatnonzero(pairs.folds != fold).tolist()
        chosen, rejected = [pairs.chosen[i] for i in learnt], [pairs.rejected[i] for i in learnt]
        scorers: dict[str, words.LengthScorer | words.WordScorer] = {
            "length": words.fit_length_pairs(chosen, rejected, unit="characters"), "bag_of_words": words.fit_pairs(chosen, rejected),
            "words_and_length": words.fit_pairs(chosen, rejected, with_length=True)}
        held = np.flatnonzero(pairs.folds == fold).tolist()
        for name, scorer in scorers.items():
            out[name][held] = scorer.score([pairs.chosen[i] for i in held]) - scorer.score([pairs.rejected[i] for i in held])
    return out


def fold_report(pairs: Pairs, models: Mapping[str, Floats], others: Mapping[str, Floats]) -> dict[str, Any]:
    """What held-out margins (n,) say of models and of other judges of the same pairs.

    Returns: {"pairs", "near_pairs", "groups", "models", "guesses", "leads"}; per judge {"accuracy", "near" (pairs of like length), "folds"}
        and, per model, "votes": how well its probabilities foretell the votes, where there are any. leads[model][other] = {"all", "near"}:
        the paired difference in accuracy.
    """
    return {
        "pairs": len(pairs.keys), "near_pairs": int(pairs.near.sum()), "groups": len(set(pairs.keys)),
        "models": {name: judged(pairs, margins) | against_votes(pairs, margins) for name, margins in models.items()},
        "guesses": {name: judged(pairs, margins) for name, margins in others.items()},
        "leads": {name: {other: leads(pairs, margins, theirs) for other, theirs in ({**others, **models}).items() if other != name}
                  for name, margins in models.items()},
    }


def judged(pairs: Pairs, margins: Floats) -> dict[str, Any]:
    """Accuracy over all pairs, over those of like length, and in each fold."""
    return {"accuracy": pair_accuracy(margins, prompts=pairs.keys),
            "near": pair_accuracy(margins, weights=pairs.near.astype(np.float64), prompts=pairs.keys),
            "folds": [pair_accuracy(margins[pairs.folds == fold])["mean"] for fold in np.unique(pairs.folds)]}


def against_votes(pairs: Pairs, margins: Floats) -> dict[str, Any]:
    """Calibration of the margins, as log-odds, against the shares of votes; {} where there are none."""
    known = np.isfinite(pairs.shares)
    if not known.any():
        return {}
    found = calibration(margins[known], pairs.shares[known])
    return {"votes": {name: found[name] for name in ("log_loss", "temperature", "log_loss_tempered")}}


def leads(pairs: Pairs, margins: Floats, others: Floats) -> dict[str, Any]:
    """Accuracy by `margins` less accuracy by `others`."""
    whole = np.ones_like(margins)
    return {name: lead(margins, others, targets=whole, weights=weights, prompts=pairs.keys)
            for name, weights in (("all", whole), ("near", pairs.near.astype(np.float64)))}
