"""Dawid and Skene's model of labels: each labeler's confusions and each item's truth, found together by EM."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tutelage.base.stats import Floats
from tutelage.feedback.intervals import added
from tutelage.feedback.labels import Labels
from tutelage.feedback.reliability import START, Z95, Skill, bounded

TINY = 1e-10
"""Smallest probability in a logarithm, as in crowd-kit."""


@dataclass(frozen=True)
class DawidSkene:
    """prior: (C,) of the true values. confusion: (A, C, C) P(labeler says k | truth is c). posterior: (I, C) of each item's truth."""

    labels: Labels
    prior: Floats
    confusion: Floats
    posterior: Floats
    iterations: int

    def skills(self) -> list[Skill]:
        """Informedness, (sum of the diagonal - 1) / (C - 1): sensitivity + specificity - 1 for two values. 0 for any fixed habit.

        The interval is normal, from the expected number of items of each true value, as if their truth were known.
        """
        labels, size = self.labels, len(self.labels.values)
        met = added(self.posterior[labels.item], labels.labeler)            # (A, C) expected items by truth
        totals = np.bincount(labels.item, minlength=len(labels.items))
        alone = (totals == 1) & (self.posterior.max(1) < 1)                 # an item of known truth is not alone
        compared = np.bincount(labels.labeler[~alone[labels.item]], minlength=len(labels.labelers))
        diagonal = np.diagonal(self.confusion, axis1=1, axis2=2)
        skill = (diagonal.sum(1) - 1) / (size - 1)
        softened = (diagonal * met + 1) / (met + 2)                         # so that no error is not no doubt
        half = Z95 * np.sqrt((softened * (1 - softened) / (met + 2)).sum(1)) / (size - 1)
        given = np.bincount(labels.labeler, minlength=len(labels.labelers))
        return [Skill(name, bounded(float(skill[w]), float(half[w]), int(compared[w])), int(given[w]))
                for w, name in enumerate(labels.labelers)]


def dawid_skene(labels: Labels, *, known: Mapping[Hashable, Any] | None = None, smoothing: float = 1.0, max_iterations: int = 300,
                tolerance: float = 1e-6) -> DawidSkene | str:
    """EM for the truth of items and the confusions of labelers, from majority votes on; the reason where there is nothing to learn from.

    E: T_jc ~ p_c prod_w e^w[c, y_jw]. M: p_c = mean_j T_jc, e^w[c, k] ~ sum_j T_jc 1[y_jw = k] + smoothing * (the same of all together).

    Args: known: item -> true value, for gold items. smoothing: pseudo-items of each true value; 0 is the method as published.
    Source: Dawid and Skene 1979, Applied Statistics 28(1).
    """
    size, items = len(labels.values), len(labels.items)
    if size < 2:
        return f"only one value occurs ({labels.values[0]!r})" if size else "no labels"
    fixed = _known_truth(labels, known or {})
    gold = fixed.any(1, keepdims=True)
    truth = np.where(gold, fixed, labels.counts() / labels.counts().sum(1, keepdims=True))
    weight = np.where(gold, 1.0, START) if gold.any() else np.ones((items, 1))
    before, iterations = np.inf, 0
    while iterations < max_iterations:
        iterations += 1
        prior, confusion = truth.mean(0), _confusions(labels, truth * weight, smoothing)
        said = np.log(np.maximum(confusion, TINY))[labels.labeler, :, labels.value]                    # (n, C)
        log_joint = np.log(np.maximum(prior, TINY)) + added(said, labels.item)
        top = log_joint.max(1, keepdims=True)
        joint = np.exp(log_joint - top)
        likelihood = float((top[:, 0] + np.log(joint.sum(1))).sum())
        truth, weight = np.where(gold, fixed, joint / joint.sum(1, keepdims=True)), np.ones_like(weight)
        if abs(likelihood - before) < tolerance * max(items, 1):
            break
        before = likelihood
    return DawidSkene(labels, prior, confusion, truth, iterations)


def _confusions(labels: Labels, truth: Floats, smoothing: float) -> Floats:
    """(A, C, C): row c is what is said where the truth is c."""
    size, people = len(labels.values), len(labels.labelers)
    cell = labels.labeler * size + labels.value
    said = np.stack([np.bincount(cell, truth[labels.item, c], people * size).reshape(people, size) for c in range(size)], axis=1)
    together = said.sum(0) / np.maximum(said.sum((0, 2))[:, None], TINY)
    said = said + smoothing * together
    return said / np.maximum(said.sum(2, keepdims=True), TINY)


def _known_truth(labels: Labels, known: Mapping[Hashable, Any]) -> Floats:
    fixed = np.zeros((len(labels.items), len(labels.values)))
    for i, item in enumerate(labels.items):
        if item in known:
            fixed[i, labels.values.index(known[item])] = 1.0
    return fixed
