"""Whether it pays to have people judge first what a reward model is least sure of: labels needed by uncertainty-driven and even selection.

    python benchmarks/selection.py [--seeds 10] [--pool 1500] [--labels 600]

Pool: pairs of answers as the embedded world's people write them, nothing filtered, which is what an SFT model that imitates them samples.
Each pair has one label, by a labeler of the panel drawn evenly (one of six is careless), the same whoever selects it. A reward model
(bag-of-words Bradley-Terry, ridge 1) is refitted after every 50 labels; the first 50 are drawn evenly. Then four in five draws take the
pair on which five such models, each fitted on a bootstrap sample of the labels, disagree most (`spread`: standard deviation of P), or
are least decided (`close`: mean P nearest a half), and one in five is drawn evenly: the queue's rule, with its p_select.
Accuracy: share of 3,000 fresh pairs, by prompts nobody was asked, ordered as gold orders them, where it is clear.
The estimate: the share of the whole pool in which the longer answer is preferred, from the selected labels alone, plainly and by p_select
(each draw's is (what was drawn before + (y - 1/2) / p) / pool + 1/2, unbiased; Farquhar, Gal and Rainforth 2021, arXiv:2101.11665).
Intervals are bootstrapped over seeds. Prints a table and one JSON object.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field

import numpy as np
from reliability import Pair, pairs, told

from tutelage.base.stats import Floats, bootstrap
from tutelage.demo import gold
from tutelage.demo.panel import Panel
from tutelage.evals.reward_report import CLEAR_GOLD_GAP
from tutelage.evals.words import Sparse, count_words, fit_logistic, sigmoid, vocabulary

ROUND, MEMBERS, UNIFORM = 50, 5, 0.2
RULES = ("uniform", "spread", "close")


@dataclass(frozen=True)
class World:
    """counts: (pool, words) of the first answer less the second; y: (pool,) 1 the first is preferred, 0 not, half a tie. test: likewise,
    clear pairs only; gaps: (test,) gold of the first less the second. longer: (pool,) whether the first answer is the longer."""

    counts: Sparse
    y: Floats
    longer: np.ndarray
    test: Sparse
    gaps: Floats


@dataclass
class Run:
    """accuracy: after each round. estimates: error of the pool's share, `plain` and by `p_select`."""

    accuracy: list[float] = field(default_factory=list)
    estimates: dict[str, float] = field(default_factory=dict)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--pool", type=int, default=1500)
    parser.add_argument("--labels", type=int, default=600)
    options = parser.parse_args()
    runs = {rule: [] for rule in RULES}                              # type: dict[str, list[Run]]
    for seed in range(options.seeds):
        world = made(seed, options.pool)
        for rule in RULES:
            runs[rule].append(select(world, rule, options.labels, np.random.default_rng([seed, 79])))
    curves = {rule: np.array([run.accuracy for run in own]) for rule, own in runs.items()}               # (S, rounds)
    at = ROUND * np.arange(1, curves["uniform"].shape[1] + 1)
    print(f"{options.seeds} seeds, pool of {options.pool}; accuracy against clear gold preferences, %, after so many labels")
    print("labels    " + " ".join(f"{n:5}" for n in at))
    for rule, curve in curves.items():
        print(f"{rule:10}" + " ".join(f"{100 * x:5.1f}" for x in curve.mean(0)))
    even = curves["uniform"]
    for rule in RULES[1:]:
        gain = curves[rule].mean(1) - even.mean(1)                   # rounds lie evenly: the mean is the area over the width
        print(f"{rule}: mean height of its curve less that of uniform, points {told(gain, lambda x: 100 * float(x.mean()))}; "
              f"share of the labels to reach uniform's last accuracy {share_needed(curves[rule], even)}")
    for rule in RULES:
        for name in ("plain", "p_select"):
            errors = np.array([run.estimates[name] for run in runs[rule]])
            print(f"{rule}, {name}: error of the estimated share, points {told(errors, lambda x: 100 * float(x.mean()))}, "
                  f"root mean square {100 * float(np.sqrt(np.square(errors).mean())):.1f}")
    print(json.dumps({rule: curve.tolist() for rule, curve in curves.items()}))


def made(seed: int, size: int) -> World:
    """Everything but who selects what."""
    rng = np.random.default_rng([seed, 78])
    panel, pool, test = Panel(seed), pairs("train", size, rng), pairs("heldout", 3000, rng)
    said = [panel.judge(q, [a, b], str(rng.choice(panel.names)), rng).ranks or () for q, a, b in pool]
    vocab = vocabulary([text for _, a, b in pool for text in (a, b)])
    gaps = np.array([gold.score(q, a) - gold.score(q, b) for q, a, b in test])
    clear = np.abs(gaps) >= CLEAR_GOLD_GAP
    return World(counted(pool, vocab), np.array([0.5 * (1 + np.sign(ranks[1] - ranks[0])) for ranks in said]),
                 np.array([len(a) > len(b) for _, a, b in pool]),
                 counted([pair for pair, kept in zip(test, clear, strict=True) if kept], vocab), gaps[clear])


def counted(found: list[Pair], vocab: dict[str, int]) -> Sparse:
    """(pairs, words) counts of the first answer less the second."""
    return count_words([a for _, a, _ in found], vocab) - count_words([b for _, _, b in found], vocab)


def select(world: World, rule: str, labels: int, rng: np.random.Generator) -> Run:
    """Draw labels by a rule, refitting after each round."""
    size, chosen, run = len(world.y), [], Run()
    open_ = np.ones(size, dtype=bool)
    about = np.where(world.longer, world.y, 1 - world.y)             # (pool,) the longer answer is preferred
    drawn, estimates = 0.0, []
    priority = np.zeros(size)
    for n in range(labels):
        uniform = 1.0 if rule == "uniform" or n < ROUND else UNIFORM
        top = int(np.argmax(np.where(open_, priority, -np.inf)))
        there = int(open_.sum())
        one = int(rng.choice(np.flatnonzero(open_))) if rng.random() < uniform else top
        p_select = uniform / there + (1 - uniform) * (one == top)
        estimates.append(0.5 + (drawn + (about[one] - 0.5) / p_select) / size)
        drawn += about[one] - 0.5
        open_[one] = False
        chosen.append(one)
        if len(chosen) % ROUND == 0:
            model = fit(world, np.array(chosen))
            run.accuracy.append(float((np.sign(world.test.dot(model)) == np.sign(world.gaps)).mean()))
            if rule != "uniform":
                members = [sigmoid(world.counts.dot(fit(world, rng.choice(chosen, len(chosen))))) for _ in range(MEMBERS)]
                priority = np.std(members, axis=0) if rule == "spread" else -np.abs(np.mean(members, axis=0) - 0.5)
    truth = about.mean()
    run.estimates = {"plain": float(about[chosen].mean() - truth), "p_select": float(np.mean(estimates) - truth)}
    return run


def fit(world: World, chosen: np.ndarray) -> Floats:
    """(words,) of a Bradley-Terry model on these labels; one that is there twice counts twice."""
    times = np.bincount(chosen, minlength=len(world.y))
    place = np.cumsum(times > 0) - 1
    inside = times[world.counts.rows] > 0
    part = Sparse(place[world.counts.rows[inside]], world.counts.columns[inside], world.counts.values[inside],
                  (int((times > 0).sum()), world.counts.shape[1]))
    return fit_logistic(part, world.y[times > 0], weights=times[times > 0].astype(np.float64), intercept=False)[0]


def share_needed(curve: Floats, even: Floats) -> str:
    """Labels at which the mean curve first reaches uniform's last accuracy, over all labels; above 1 where it never does."""
    def first(rows: np.ndarray) -> float:
        reached = np.append(curve[rows].mean(0) >= even[rows].mean(0)[-1], True)
        return float(np.argmax(reached) + 1) / curve.shape[1]

    low, high = bootstrap(first, len(curve))
    return f"{first(np.arange(len(curve))):.2f} [{low:.2f}, {high:.2f}]"


if __name__ == "__main__":
    main()
