"""How far a reward model can be trusted: accuracy beside its ceiling and beside guesses that never read the answer, and calibration.

Pairs: the score difference chosen - rejected is the log-odds that `chosen` is preferred (Bradley and Terry 1952).
Single answers: the score is the log-odds of a good rating. All returned values are plain dicts, ready for JSON.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tutelage.evals import words
from tutelage.evals.stats import Estimate, Floats, auc, balanced_accuracy, finite, rate_ci, same_length

CLEAR_GOLD_GAP = 0.1
"""|gold difference| from which a pair counts as clear: below it people disagree with themselves."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Compared answers, one row each. `prompts` are the ids by which intervals are drawn; `targets` is P(chosen preferred)."""

    chosen: Sequence[str]
    rejected: Sequence[str]
    targets: Sequence[float] | None = None
    weights: Sequence[float] | None = None
    prompts: Sequence[Hashable] | None = None


def bayes_ceiling(preference_probabilities: ArrayLike) -> float:
    """The accuracy nobody can beat on noisy labels: mean of max(p, 1 - p), p = P(one answer is preferred). nan when empty."""
    p = finite("preference_probabilities", preference_probabilities)
    return float(np.maximum(p, 1 - p).mean()) if p.size else math.nan


def pair_accuracy(margins: ArrayLike, *, targets: ArrayLike | None = None, weights: ArrayLike | None = None,
                  prompts: Sequence[Hashable] | None = None) -> Estimate:
    """Share of pairs on which the score agrees with the label; interval by prompt.

    Args: margins: (n,) chosen - rejected; an equal score is half right. targets: (n,) P(chosen preferred); agreement with a soft
        label is the target itself. Labels that say "tie" (0.5) have no right answer and are left out.
    """
    margins = finite("margins", margins)
    targets = np.ones_like(margins) if targets is None else finite("targets", targets)
    weights = np.ones_like(margins) if weights is None else finite("weights", weights)
    same_length(margins=margins, targets=targets, weights=weights)
    credit = np.where(margins > 0, targets, np.where(margins < 0, 1 - targets, 0.5))
    return rate_ci(credit, weights=np.where(targets == 0.5, 0.0, weights), groups=prompts)


def accuracy_by(sizes: ArrayLike, margins: ArrayLike, *, edges: Sequence[float] | None = None, bins: int = 5,
                targets: ArrayLike | None = None, weights: ArrayLike | None = None,
                prompts: Sequence[Hashable] | None = None) -> list[dict[str, Any]]:
    """Accuracy within bins of |sizes| (a reward margin, a gold gap): [{"low", "high", "accuracy"}], lowest first.

    Bins hold equally many pairs unless `edges` are given; empty bins are left out; the last bin is closed on the right.
    """
    sizes, margins = np.abs(finite("sizes", sizes)), finite("margins", margins)
    if same_length(sizes=sizes, margins=margins) == 0:
        return []
    edges = np.unique(np.quantile(sizes, np.linspace(0, 1, bins + 1))) if edges is None else np.asarray(edges, dtype=np.float64)
    if edges.size == 1:
        edges = np.array([edges[0], edges[0]])
    rows = []
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        inside = (sizes >= low) & ((sizes <= high) if high == edges[-1] else (sizes < high))
        if inside.any():
            rows.append({"low": float(low), "high": float(high), "accuracy": pair_accuracy(
                margins[inside], targets=_pick(targets, inside), weights=_pick(weights, inside),
                prompts=None if prompts is None else [p for p, keep in zip(prompts, inside, strict=True) if keep])})
    return rows


def calibration(logits: ArrayLike, targets: ArrayLike, *, weights: ArrayLike | None = None, bins: int = 10,
                fold: bool = True) -> dict[str, Any]:
    """Do the probabilities mean what they say?

    Args: logits: (n,) log-odds of a yes. targets: (n,) in [0, 1]. fold: count each pair from its predicted winner's side, so that
        confidence runs from 0.5 to 1 (which of two answers is called "chosen" carries no information); False for single answers.
    Returns: {"ece", "brier", "log_loss", "temperature", "log_loss_tempered", "bins": [{"low", "high", "confidence", "accuracy"}]}.
        Bins hold equally many rows. ece: mean |accuracy - confidence| over bins, weighted (Naeini et al. 2015). temperature: the
        divisor of the logits that minimises log-loss (Guo et al. 2017, arXiv:1706.04599): above 1 is over-confident.
    """
    logits, targets = finite("logits", logits), finite("targets", targets)
    weights = np.ones_like(logits) if weights is None else finite("weights", weights)
    if same_length(logits=logits, targets=targets, weights=weights) == 0 or weights.sum() == 0:
        return {"ece": math.nan, "brier": math.nan, "log_loss": math.nan, "temperature": math.nan, "log_loss_tempered": math.nan,
                "bins": []}
    if fold:
        targets, logits = np.where(logits < 0, 1 - targets, targets), np.abs(logits)
    p = words.sigmoid(logits)
    rows, gap = [], 0.0
    for part in np.array_split(np.argsort(p, kind="stable"), min(bins, p.size)):
        if not (mass := weights[part].sum()):
            continue
        confidence = float(p[part] @ weights[part] / mass)
        accuracy = rate_ci(targets[part], weights=weights[part])
        gap += mass * abs(accuracy["mean"] - confidence)
        rows.append({"low": float(p[part].min()), "high": float(p[part].max()), "confidence": confidence, "accuracy": accuracy})
    temperature = fit_temperature(logits, targets, weights)
    return {"ece": float(gap / weights.sum()), "brier": float((p - targets) ** 2 @ weights / weights.sum()),
            "log_loss": _log_loss(logits, targets, weights), "temperature": temperature,
            "log_loss_tempered": _log_loss(logits / temperature, targets, weights) if temperature > 0 else math.nan, "bins": rows}


def fit_temperature(logits: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None) -> float:
    """T that minimises the log-loss of sigmoid(logits / T).

    Found by bisection on the slope, which is monotone in 1/T. nan when no positive finite T is best: every row right (T would go
    to 0), or scores that carry nothing or less (T would go to infinity).
    """
    logits, targets = finite("logits", logits), finite("targets", targets)
    weights = np.ones_like(logits) if weights is None else finite("weights", weights)

    def slope(log_sharpness: float) -> float:
        return float(weights @ (logits * (words.sigmoid(logits * math.exp(log_sharpness)) - targets)))

    low, high = -12.0, 12.0
    if slope(low) >= 0 or slope(high) <= 0:
        return math.nan
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return math.exp(-(low + high) / 2)


def pair_report(chosen_scores: ArrayLike, rejected_scores: ArrayLike, pairs: Pairs, *, train: Pairs | None = None,
                gold_gaps: ArrayLike | None = None, preference_probabilities: ArrayLike | None = None) -> dict[str, Any]:
    """The reward model's page in the report, from held-out pairs.

    Args: chosen_scores, rejected_scores: (n,) rewards. train: the pairs it was trained on, from which the baselines learn; without
        them there are none. gold_gaps: (n,) gold(chosen) - gold(rejected), where a gold is known. preference_probabilities: (n,)
        P(a label prefers the first), where the labelers are simulated; gives the ceiling.
    Returns: {"accuracy", "by_margin", "calibration", "ties", ...}; with gold "accuracy_vs_gold" (pairs of |gap| >= 0.1),
        "accuracy_vs_gold_ci", "accuracy_vs_gold_all", "by_gold_gap"; with the ceiling "bayes_ceiling"; with train "baselines":
        {"length", "bag_of_words"} as numbers and "baselines_ci" as estimates.
    """
    chosen_scores, rejected_scores = finite("chosen_scores", chosen_scores), finite("rejected_scores", rejected_scores)
    same_length(chosen_scores=chosen_scores, rejected_scores=rejected_scores, chosen=pairs.chosen, rejected=pairs.rejected)
    margins = chosen_scores - rejected_scores
    labels: dict[str, Any] = {"targets": pairs.targets, "weights": pairs.weights, "prompts": pairs.prompts}
    targets = np.ones_like(margins) if pairs.targets is None else finite("targets", pairs.targets)
    report: dict[str, Any] = {
        "accuracy": pair_accuracy(margins, **labels), "ties": int((targets == 0.5).sum()),
        "by_margin": accuracy_by(margins, margins, **labels),
        "calibration": calibration(margins, targets, weights=pairs.weights)}
    if gold_gaps is not None:
        gaps = finite("gold_gaps", gold_gaps)
        agreement = margins * np.sign(gaps)
        clear = np.abs(gaps) >= CLEAR_GOLD_GAP
        report["accuracy_vs_gold_ci"] = _gold_accuracy(agreement, clear, pairs.prompts)
        report["accuracy_vs_gold"] = report["accuracy_vs_gold_ci"]["mean"]
        report["accuracy_vs_gold_all"] = _gold_accuracy(agreement, gaps != 0, pairs.prompts)
        report["gold_gap_min"] = CLEAR_GOLD_GAP
        report["by_gold_gap"] = accuracy_by(gaps, agreement, edges=(1e-9, 0.05, 0.1, 0.2, 0.4, 1.0), prompts=pairs.prompts)
    if preference_probabilities is not None:
        report["bayes_ceiling"] = bayes_ceiling(preference_probabilities)
    if train is not None:
        report["baselines_ci"] = {name: pair_accuracy(scorer.score(pairs.chosen) - scorer.score(pairs.rejected), **labels)
                                  for name, scorer in pair_baselines(train).items()}
        report["baselines"] = {name: rate["mean"] for name, rate in report["baselines_ci"].items()}
    return report


def pair_baselines(train: Pairs) -> dict[str, words.WordScorer | words.LengthScorer]:
    """What length and words alone teach, from the pairs the reward model was trained on."""
    targets = None if train.targets is None else finite("targets", train.targets)
    weights = None if train.weights is None else finite("weights", train.weights)
    return {"length": words.fit_length_pairs(train.chosen, train.rejected),
            "bag_of_words": words.fit_pairs(train.chosen, train.rejected, targets=targets, weights=weights)}


def rating_report(scores: ArrayLike, labels: ArrayLike, texts: Sequence[str], *, train_texts: Sequence[str] | None = None,
                  train_labels: ArrayLike | None = None) -> dict[str, Any]:
    """The reward model's page when people rated single answers, from held-out ratings (labels: good or not).

    Returns: {"auc", "balanced_accuracy", "positive_frac", "calibration"} and, with train ratings, "baselines" as AUCs and
        "baselines_ci". Balanced accuracy calls as many answers good as there are, so it does not hang on where the scores' zero is.
    """
    scores, truth = finite("scores", scores), np.asarray(labels).astype(bool)
    same_length(scores=scores, labels=truth, texts=texts)
    report: dict[str, Any] = {
        "auc": auc(truth, scores), "positive_frac": float(truth.mean()) if truth.size else math.nan,
        "balanced_accuracy": balanced_accuracy(truth, _as_many_as(truth, scores)),
        "calibration": calibration(scores, truth.astype(np.float64), fold=False)}
    if train_texts is not None and train_labels is not None:
        known = np.asarray(train_labels, dtype=np.float64)
        scorers = {"length": words.fit_length_labels(train_texts, known), "bag_of_words": words.fit_labels(train_texts, known)}
        report["baselines_ci"] = {name: auc(truth, scorer.score(texts)) for name, scorer in scorers.items()}
        report["baselines"] = {name: area["mean"] for name, area in report["baselines_ci"].items()}
    return report


def _as_many_as(truth: np.ndarray, scores: Floats) -> np.ndarray:
    """Call the best-scored answers good, as many as are; equal scores all fall on one side."""
    good = int(truth.sum())
    return scores >= np.sort(scores)[::-1][good - 1] if good else np.zeros(truth.size, dtype=bool)


def _gold_accuracy(agreement: Floats, keep: np.ndarray, prompts: Sequence[Hashable] | None) -> Estimate:
    chosen = None if prompts is None else [p for p, kept in zip(prompts, keep, strict=True) if kept]
    return pair_accuracy(agreement[keep], prompts=chosen)


def _pick(values: ArrayLike | None, keep: np.ndarray) -> np.ndarray | None:
    return None if values is None else np.asarray(values)[keep]


def _log_loss(logits: Floats, targets: Floats, weights: Floats) -> float:
    """Weighted mean cross-entropy in nats."""
    return float(weights @ (np.logaddexp(0, logits) - targets * logits) / weights.sum())
