"""What labels are worth: accuracy against how many there are, and without each labeler.

What is retrained, from nothing each time, is the bag-of-words reward model (`words.fit_pairs`), the baseline that every report names: as
many trainings of a real one would take days. It shows whether more labels of this kind still help, and whose; not how far a language
model would get.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tutelage.base.stats import Floats
from tutelage.evals.reward_report import lead, pair_accuracy
from tutelage.evals.words import fit_pairs

SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
Row = Mapping[str, Any]
"""A pair that a judgement decides: {"chosen", "rejected", "weight", "prompt", "judgement": which one, "labeler": who, or None}."""


def labels_worth(train: Sequence[Row], held_out: Sequence[Row], *, seed: int = 0) -> dict[str, Any] | None:
    """{"retrained", "curve": [{"judgements", "accuracy"}], "without": {labeler: {"judgements", "change"}}}; None where a side has no pairs.

    curve: nested subsets of the training judgements, drawn by `seed`, each holding the one before it. change: accuracy without that
    labeler's judgements less that with them, on the same held-out pairs; above 0 the labels harm.
    """
    if not train or not held_out:
        return None
    better, worse = [row["chosen"] for row in held_out], [row["rejected"] for row in held_out]
    mass, prompts = np.array([row["weight"] for row in held_out]), [row["prompt"] for row in held_out]

    def margins(rows: Sequence[Row]) -> Floats:
        model = fit_pairs([row["chosen"] for row in rows], [row["rejected"] for row in rows], weights=np.array([r["weight"] for r in rows]))
        return model.score(better) - model.score(worse)

    names = list(dict.fromkeys(row["judgement"] for row in train))
    place = dict(zip(names, np.random.default_rng(seed).permutation(len(names)).tolist(), strict=True))
    curve = []
    for count in sorted({round(share * len(names)) for share in SHARES} - {0}):
        found = margins([row for row in train if place[row["judgement"]] < count])
        curve.append({"judgements": count, "accuracy": pair_accuracy(found, weights=mass, prompts=prompts)})
    whole, without = margins(train), {}
    for labeler in sorted({row["labeler"] for row in train if row["labeler"] is not None}):
        rest = [row for row in train if row["labeler"] != labeler]
        own = {row["judgement"] for row in train if row["labeler"] == labeler}
        without[labeler] = {"judgements": len(own), "change": lead(margins(rest), whole, targets=np.ones(len(mass)), weights=mass,
                                                                   prompts=prompts) if rest else None}
    return {"retrained": "bag of words", "curve": curve, "without": without}
