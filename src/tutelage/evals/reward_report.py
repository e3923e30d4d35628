"""How far a reward model can be trusted: accuracy beside its ceiling and beside guesses that never read the answer, and calibration.

Pairs: the score difference chosen - rejected is the log-odds that `chosen` is preferred (Bradley and Terry 1952).
Single answers: the score is the log-odds of a good rating. All returned values are plain dicts, ready for JSON.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tutelage.base.stats import (
    Estimate,
    Floats,
    auc,
    balanced_accuracy,
    bootstrap,
    estimate,
    finite,
    group_index,
    grouped_auc,
    rate_ci,
    same_length,
)
from tutelage.evals import words

CLEAR_GOLD_GAP = 0.1
"""|gold difference| from which a pair counts as clear: below it people disagree with themselves."""


Row = Mapping[str, Any]
"""A pair: {"chosen", "rejected", "chosen_score", "rejected_score"} and, where known, "prompt" (the id intervals are drawn by), "target"
(P(chosen preferred)), "weight", "gold_gap" (gold of chosen - rejected). A single answer: {"text", "label", "score"}, "prompt" as above."""


def bayes_ceiling(preference_probabilities: ArrayLike, *, weights: ArrayLike | None = None) -> float:
    """The accuracy nobody can beat on noisy labels: mean of max(p, 1 - p), p = P(one answer is preferred). nan when empty.

    weights: (n,) how often each pair is labelled, such as its chance of not being a tie.
    """
    p = finite("preference_probabilities", preference_probabilities)
    mass = np.ones_like(p) if weights is None else finite("weights", weights)
    return float(np.average(np.maximum(p, 1 - p), weights=mass)) if p.size else math.nan


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
    return rate_ci(_credit(margins, targets), weights=np.where(targets == 0.5, 0.0, weights), groups=prompts)


def lead(margins: ArrayLike, others: ArrayLike, *, targets: ArrayLike, weights: ArrayLike,
         prompts: Sequence[Hashable] | None) -> Estimate:
    """Accuracy by `margins` minus accuracy by `others` on the same pairs, each as `pair_accuracy` has it; bootstrapped by prompt."""
    margins, others, targets = finite("margins", margins), finite("others", others), finite("targets", targets)
    weights = np.where(targets == 0.5, 0.0, finite("weights", weights))
    index = group_index(prompts, margins.size)
    count = int(index.max()) + 1 if index.size else 0
    mass = np.bincount(index, weights)
    gain = np.bincount(index, weights * (_credit(margins, targets) - _credit(others, targets)))
    if not mass.sum():
        return estimate(math.nan, math.nan, math.nan, count)
    if np.count_nonzero(mass) == 1:                                  # one prompt drawn again and again would claim certainty
        return estimate(gain.sum() / mass.sum(), math.nan, math.nan, count)
    with np.errstate(invalid="ignore"):
        low, high = bootstrap(lambda rows: gain[rows].sum() / mass[rows].sum(), count)
    return estimate(gain.sum() / mass.sum(), low, high, count)


def accuracy_by(sizes: ArrayLike, margins: ArrayLike, *, edges: Sequence[float] | None = None, bins: int = 5,
                targets: ArrayLike | None = None, weights: ArrayLike | None = None,
                prompts: Sequence[Hashable] | None = None) -> list[dict[str, Any]]:
    """Accuracy within bins of |sizes| (a reward margin, a gold gap): [{"low", "high", "accuracy", "pairs"}], lowest first.

    pairs: how many count, ties and pairs of no weight left out; the accuracy's own "n" counts prompts.
    Bins hold equally many pairs unless `edges` are given; empty bins are left out; the last bin is closed on the right.
    """
    sizes, margins = np.abs(finite("sizes", sizes)), finite("margins", margins)
    if same_length(sizes=sizes, margins=margins) == 0:
        return []
    bounds = np.unique(np.quantile(sizes, np.linspace(0, 1, bins + 1))) if edges is None else np.asarray(edges, dtype=np.float64)
    if bounds.size == 1:
        bounds = np.array([bounds[0], bounds[0]])
    counts = np.ones(sizes.size, dtype=bool) if weights is None else np.asarray(weights) > 0
    counts &= True if targets is None else np.asarray(targets) != 0.5
    rows = []
    for low, high in zip(bounds[:-1], bounds[1:], strict=True):
        inside = (sizes >= low) & ((sizes <= high) if high == bounds[-1] else (sizes < high))
        if inside.any():
            rows.append({"low": float(low), "high": float(high), "pairs": int((inside & counts).sum()), "accuracy": pair_accuracy(
                margins[inside], targets=_pick(targets, inside), weights=_pick(weights, inside),
                prompts=None if prompts is None else [p for p, keep in zip(prompts, inside, strict=True) if keep])})
    return rows


def calibration(logits: ArrayLike, targets: ArrayLike, *, weights: ArrayLike | None = None, bins: int = 10,
                fold: bool = True, prompts: Sequence[Hashable] | None = None) -> dict[str, Any]:
    """Do the probabilities mean what they say?

    Args: logits: (n,) log-odds of a yes. targets: (n,) in [0, 1]. fold: count each pair from its predicted winner's side, so that
        confidence runs from 0.5 to 1 (which of two answers is called "chosen" carries no information); False for single answers.
        prompts: (n,) what the bins' intervals are drawn by.
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
        accuracy = rate_ci(targets[part], weights=weights[part], groups=None if prompts is None else [prompts[i] for i in part])
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


def pair_report(held: Sequence[Row], train: Sequence[Row] = (), *, scale: float = 1.0,
                preference_probabilities: ArrayLike | None = None) -> dict[str, Any]:
    """The reward model's page in the report, from held-out pairs.

    Args: held: scored pairs. train: the pairs it was trained on, from whose texts the baselines learn; without them there are none.
        scale: what turns a score difference back into log-odds, where scores were rescaled after training.
        preference_probabilities: P(a label prefers the first) of each held-out pair, where the labelers are simulated.
    Returns: {"accuracy", "ties", "by_margin", "calibration"}; with train "baselines": {"length", "bag_of_words"} as numbers and
        "baselines_ci" as estimates; with gold gaps "accuracy_vs_gold" (pairs of |gap| >= 0.1), "accuracy_vs_gold_ci",
        "accuracy_vs_gold_all", "gold_gap_min", "by_gold_gap"; with the probabilities "bayes_ceiling".
    """
    margins = _column(held, "chosen_score") - _column(held, "rejected_score")
    labels: dict[str, Any] = {"targets": _column(held, "target", 1.0), "weights": _column(held, "weight", 1.0), "prompts": _prompts(held)}
    report: dict[str, Any] = {
        "accuracy": pair_accuracy(margins, **labels), "ties": int((labels["targets"] == 0.5).sum()),
        "by_margin": accuracy_by(margins, margins, **labels),
        "calibration": calibration(margins * scale, **labels)}
    if train:
        chosen, rejected = _texts(held)
        guesses = {name: scorer.score(chosen) - scorer.score(rejected) for name, scorer in pair_baselines(train).items()}
        report["baselines_ci"] = {name: pair_accuracy(guess, **labels) for name, guess in guesses.items()}
        report["baselines"] = {name: rate["mean"] for name, rate in report["baselines_ci"].items()}
        report["above_bag_of_words"] = lead(margins, guesses["bag_of_words"], **labels)
    if held and all("gold_gap" in row for row in held):
        report |= gold_report(margins, _column(held, "gold_gap"), labels["prompts"])
    if preference_probabilities is not None:
        report["bayes_ceiling"] = bayes_ceiling(preference_probabilities)
    return report


def gold_report(margins: ArrayLike, gold_gaps: ArrayLike, prompts: Sequence[Hashable] | None = None) -> dict[str, Any]:
    """Does the score order answers as the true preference does? margins, gold_gaps: (n,) of the same pairs, either sign."""
    gaps = finite("gold_gaps", gold_gaps)
    agreement = finite("margins", margins) * np.sign(gaps)
    clear, apart = (rate_ci(0.5 * (1 + np.sign(agreement)), weights=keep.astype(np.float64), groups=prompts)
                    for keep in (np.abs(gaps) >= CLEAR_GOLD_GAP, gaps != 0))
    return {"accuracy_vs_gold": clear["mean"], "accuracy_vs_gold_ci": clear, "accuracy_vs_gold_all": apart, "gold_gap_min": CLEAR_GOLD_GAP,
            "by_gold_gap": accuracy_by(gaps, agreement, edges=(0.0, 0.05, 0.1, 0.2, 0.4, 1.0), weights=(gaps != 0) + 0.0, prompts=prompts)}


def pair_baselines(train: Sequence[Row]) -> dict[str, words.WordScorer | words.LengthScorer]:
    """What length and words alone teach, from the pairs the reward model was trained on."""
    chosen, rejected = _texts(train)
    targets, weights = _column(train, "target", 1.0), _column(train, "weight", 1.0)
    return {"length": words.fit_length_pairs(chosen, rejected, targets=targets, weights=weights),
            "bag_of_words": words.fit_pairs(chosen, rejected, targets=targets, weights=weights)}


def label_report(held: Sequence[Row], train: Sequence[Row] = (), *, scale: float = 1.0) -> dict[str, Any]:
    """The reward model's page when people rated single answers, from held-out ratings (label: good or not).

    Returns: {"auc", "balanced_accuracy", "positive_frac", "calibration"} and, with train ratings, "baselines" as AUCs, "baselines_ci"
        and "above_bag_of_words", the difference of the AUCs. Intervals are drawn by prompt where the rows name theirs. Balanced
        accuracy calls as many answers good as there are, so it does not hang on where the scores' zero is; nor does the calibration,
        which first shifts the scores so that they predict as many good answers as there are.
    """
    scores, truth = _column(held, "score"), np.array([bool(row["label"]) for row in held], dtype=bool)
    logits, prompts = scores * scale, _prompts(held)

    def area(values: Floats, minus: Floats | None = None) -> Estimate:
        return auc(truth, values) if prompts is None else grouped_auc(truth, values, prompts, minus=minus)

    report: dict[str, Any] = {
        "auc": area(scores), "positive_frac": float(truth.mean()) if truth.size else math.nan,
        "balanced_accuracy": balanced_accuracy(truth, _as_many_as(truth, scores), groups=prompts),
        "calibration": calibration(logits + _offset(logits, truth), truth.astype(np.float64), fold=False, prompts=prompts)}
    if train:
        texts, known = [row["text"] for row in train], np.array([bool(row["label"]) for row in train], dtype=np.float64)
        scorers: dict[str, words.WordScorer | words.LengthScorer] = {
            "length": words.fit_length_labels(texts, known), "bag_of_words": words.fit_labels(texts, known)}
        guesses = {name: scorer.score([row["text"] for row in held]) for name, scorer in scorers.items()}
        report["baselines_ci"] = {name: area(guess) for name, guess in guesses.items()}
        report["baselines"] = {name: found["mean"] for name, found in report["baselines_ci"].items()}
        if prompts is not None:
            report["above_bag_of_words"] = area(scores, guesses["bag_of_words"])
    return report


def _credit(margins: Floats, targets: Floats) -> Floats:
    """How far each pair is right; an equal score is half right."""
    return np.where(margins > 0, targets, np.where(margins < 0, 1 - targets, 0.5))


def _column(rows: Sequence[Row], name: str, default: float | None = None) -> Floats:
    return finite(name, [row[name] if default is None else row.get(name, default) for row in rows])


def _prompts(rows: Sequence[Row]) -> list[Hashable] | None:
    return [row["prompt"] for row in rows] if rows and all("prompt" in row for row in rows) else None


def _texts(rows: Sequence[Row]) -> tuple[list[str], list[str]]:
    return [row["chosen"] for row in rows], [row["rejected"] for row in rows]


def _offset(logits: Floats, truth: np.ndarray) -> float:
    """The constant that makes the mean predicted probability equal the share of good answers; 0 when all are alike."""
    if not 0 < truth.sum() < truth.size:
        return 0.0
    low, high = -50.0 - logits.max(), 50.0 - logits.min()
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if words.sigmoid(logits + middle).mean() < truth.mean() else (low, middle)
    return (low + high) / 2


def _as_many_as(truth: np.ndarray, scores: Floats) -> np.ndarray:
    """Call the best-scored answers good, as many as are; equal scores all fall on one side."""
    good = int(truth.sum())
    return scores >= np.sort(scores)[::-1][good - 1] if good else np.zeros(truth.size, dtype=bool)


def _pick(values: ArrayLike | None, keep: np.ndarray) -> np.ndarray | None:
    return None if values is None else np.asarray(values)[keep]


def _log_loss(logits: Floats, targets: Floats, weights: Floats) -> float:
    """Weighted mean cross-entropy in nats."""
    return float(weights @ (np.logaddexp(0, logits) - targets * logits) / weights.sum())
