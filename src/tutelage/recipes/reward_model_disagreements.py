"""Where a reward model and people disagree most, for a lead to read: is it the label, the model, or the guideline?"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tutelage.base.files import atomic_write_text
from tutelage.base.records import Judgement, prompt_to_json
from tutelage.base.snapshot import DISAGREEMENTS
from tutelage.recipes.reward_model_report import decided
from tutelage.recipes.reward_model_scales import Scales
from tutelage.recipes.reward_model_setup import Item, Parts

SURE = 0.9
"""P that the model gives to the opposite of what somebody said, from which it is listed."""


def from_a_store(parts: Parts) -> bool:
    """Whether what was trained on names the tasks it was said on, so that it can be triaged there."""
    return any("task" in item.judgement.extra for item in parts.train)


def write_disagreements(folder: Path, parts: Parts, sides: dict[str, list[list[float]]]) -> int:
    """Write report/disagreements.jsonl of a run. sides: "held_out" or "train" -> scores of its items. Returns the number of rows."""
    judged = ((side, item, own) for side, scores in sides.items()
              for item, own in zip({"held_out": parts.held_out, "train": parts.train}[side], scores, strict=True))
    rows = disagreements(judged, parts.scales)
    atomic_write_text(folder / DISAGREEMENTS, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return len(rows)


def disagreements(judged: Iterable[tuple[str, Item, list[float]]], scales: Scales) -> list[dict[str, Any]]:
    """What somebody said and the model holds to be the other way with P > 0.9, worst first.

    judged: (side of the split, item, scores of its answers). One row holds all that was said of the same answers: {"p": its mean over
    people, "side", "task": the store's id or None, "kind", "prompt", "responses", "scores", "said": [{"p", "labeler", what they said}]}.
    So where people contradict each other the row stands lower than where they all contradict the model.
    """
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for side, item, scores in judged:
        p, judgement = against(item, scores, scales), item.judgement
        if p is None:
            continue
        texts, task = tuple(r.text for r in judgement.responses), judgement.extra.get("task")
        kind = "edit" if judgement.edit is not None else judgement.kind
        row = found.setdefault((task, kind, judgement.prompt, texts), {
            "p": 0.0, "side": side, "task": task, "kind": kind, "prompt": prompt_to_json(judgement.prompt), "responses": list(texts),
            "scores": scores, "said": []})
        row["said"].append({"p": round(p, 4)} | _told(judgement))
    rows = [row for row in found.values() if max(said["p"] for said in row["said"]) > SURE]
    for row in rows:
        row["p"] = round(sum(said["p"] for said in row["said"]) / len(row["said"]), 4)
    return sorted(rows, key=lambda row: -row["p"])


def against(item: Item, scores: list[float], scales: Scales) -> float | None:
    """P that the model gives to the opposite of what was said; of a ranking, of its worst pair. None where nothing has an opposite: a tie,
    the middle of a scale."""
    said = item.judgement
    leads = [scales.log_odds(scores[worse]) - scales.log_odds(scores[better]) for better, worse in decided(item)]
    if said.label is not None:
        leads = [scales.log_odds(scores[0]) * (-1 if said.label else 1)]
    elif said.ranks is None and (side := scales.side(said.rating)):
        leads = [(scales.middle(said.labeler) - scales.log_odds(scores[0])) * side]
    return 0.5 * (1 + math.tanh(max(leads) / 2)) if leads else None


def _told(judgement: Judgement) -> dict[str, Any]:
    """Who said what, and which row of the store that is."""
    about = {"labeler": judgement.labeler, "group": judgement.group, "judgement": judgement.extra.get("judgement"), "at": judgement.at,
             "ranks": None if judgement.ranks is None else list(judgement.ranks), "strength": judgement.strength,
             "label": judgement.label, "rating": judgement.rating}
    return {name: value for name, value in about.items() if value is not None}
