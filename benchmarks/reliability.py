"""What one careless and one adversarial labeler of six cost a reward model, and how much of it reliability weighting wins back.

    python benchmarks/reliability.py [--seeds 10] [--pairs 300] [--overlap 2]

The embedded world's simulated panel judges answers that its imagined people wrote, each pair by two of six labelers drawn evenly. The
labels are of the same pairs by the same people: `clean`, all six honest; `spoilt`, the fifth says the opposite of what they think and the
sixth hardly looks (the panel's own careless labeler); `weighed`, the spoilt ones with the weights that `people.reliability` gives;
`flipped`, the same with `people.opposed=flip`;
`without`, those two left out by name, which is weighting without a mistake. The reward model is bag-of-words Bradley-Terry (the report's
baseline), fitted from scratch each time. Accuracy: share of 3,000 fresh pairs, by prompts nobody was asked, ordered as the world's gold
preference orders them, where it is clear (0.1 apart). Intervals are bootstrapped over seeds.
Prints a table and one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tutelage.base.records import Judgement
from tutelage.base.stats import bootstrap, mean_ci
from tutelage.demo import gold
from tutelage.demo.panel import LABELERS, Panel
from tutelage.demo.people import choose, write_answer
from tutelage.demo.prompts import Split, questions
from tutelage.evals.reward_report import CLEAR_GOLD_GAP
from tutelage.evals.words import fit_pairs
from tutelage.feedback.likelihood import example_weights, labeler_reliability, read_as_opposite

ADVERSE, CARELESS = "elin", "falk"
HONEST_SIXTH = replace(LABELERS[0], name=CARELESS, group="home", leaning=dict.fromkeys(LABELERS[0].leaning, 1.0))
Pair = tuple[str, str, str]
"""A question and two different answers."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--overlap", type=int, default=2)
    options = parser.parse_args()
    rows = [one_seed(seed, options.pairs, options.overlap) for seed in range(options.seeds)]
    table = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    print(f"{options.seeds} seeds, {options.pairs} pairs, overlap {options.overlap}; accuracy against clear gold preferences, %")
    for name in ("clean", "spoilt", "weighed", "flipped", "without"):
        print(f"{name:10}{told(table[name], lambda x: 100 * float(x.mean()))}")
    clean, spoilt = table["clean"], table["spoilt"]
    print(f"cost, points           {told(np.stack([clean, spoilt], 1), lambda x: 100 * float((x[:, 0] - x[:, 1]).mean()))}")
    for name in ("weighed", "flipped", "without"):
        both = np.stack([table[name] - spoilt, clean - spoilt], 1)
        print(f"won back, {name:8} %   {told(both, lambda x: 100 * float(x[:, 0].sum() / x[:, 1].sum()))}")
    names = [x.name for x in LABELERS]
    print("mean weights: " + ", ".join(f"{name} {table[name].mean():.2f}" for name in names))
    print(json.dumps({name: mean_ci(values) for name, values in table.items()}))


def told(values: np.ndarray, statistic: Callable[[np.ndarray], float]) -> str:
    """A statistic of the seeds, (S, ...), with its bootstrap interval."""
    low, high = bootstrap(lambda rows: statistic(values[rows]), len(values))
    return f"{statistic(values):.1f} [{low:.1f}, {high:.1f}]"


def one_seed(seed: int, num_pairs: int, overlap: int) -> dict[str, float]:
    """Accuracy of each way to train, and each labeler's weight."""
    rng = np.random.default_rng([seed, 77])
    train, test = pairs("train", num_pairs, rng), pairs("heldout", 3000, rng)
    labels = judged(Panel(seed), train, overlap, rng)
    spoilt = labels["spoilt"]
    trust, flip = labeler_reliability(spoilt), labeler_reliability(spoilt, opposed="flip")
    turned = [read_as_opposite(j) if j.labeler in flip.opposed else j for j in spoilt]
    found = {"clean": (labels["clean"], {}), "spoilt": (spoilt, {}), "weighed": (spoilt, trust.weights),
             "flipped": (turned, flip.weights),
             "without": (spoilt, {ADVERSE: 0.0, CARELESS: 0.0})}
    return {name: accuracy(said, weights, test) for name, (said, weights) in found.items()} | dict(trust.weights)


def pairs(split: Split, count: int, rng: np.random.Generator) -> list[Pair]:
    """Two answers each by people of the crowd, as a model that imitates them would give."""
    asked, found = [q for q in questions() if q.split == split], []
    while len(found) < count:
        question = asked[int(rng.integers(len(asked)))]
        one, other = (write_answer(rng, question.item, choose(rng)) for _ in range(2))
        if one != other:
            found.append((question.text, one, other))
    return found


def judged(panel: Panel, train: list[Pair], overlap: int, rng: np.random.Generator) -> dict[str, list[Judgement]]:
    """The labels of all six if they were honest, and as they are. Honest ones are the same in both."""
    careless = panel.labeler(CARELESS)
    labels: dict[str, list[Judgement]] = {"clean": [], "spoilt": []}
    for question, one, other in train:
        for who in rng.choice(len(LABELERS), overlap, replace=False):
            name = panel.names[who]
            panel.labelers = tuple(HONEST_SIXTH if x.name == CARELESS else x for x in panel.labelers)
            said = panel.judge(question, [one, other], name, rng)
            labels["clean"].append(said)
            if name == ADVERSE:
                said = replace(said, ranks=tuple(max(said.ranks or ()) - rank for rank in said.ranks or ()))
            elif name == CARELESS:
                panel.labelers = tuple(careless if x.name == CARELESS else x for x in panel.labelers)
                said = panel.judge(question, [one, other], name, rng)
            labels["spoilt"].append(said)
    return labels


def accuracy(said: list[Judgement], trust: dict[str, float], test: list[Pair]) -> float:
    """Of the bag-of-words reward model that learnt from these judgements, weighed by the shipped function."""
    rows = [(pair, weight) for j, weight in zip(said, example_weights(said, trust=trust), strict=True) for pair in j.comparisons()]
    model = fit_pairs([pair.chosen for pair, _ in rows], [pair.rejected for pair, _ in rows], weights=np.array([w for _, w in rows]))
    gaps = np.array([gold.score(q, a) - gold.score(q, b) for q, a, b in test])
    clear = np.abs(gaps) >= CLEAR_GOLD_GAP
    margins = model.score([a for _, a, _ in test]) - model.score([b for _, _, b in test])
    return float((np.sign(margins) == np.sign(gaps))[clear].mean())


if __name__ == "__main__":
    main()
