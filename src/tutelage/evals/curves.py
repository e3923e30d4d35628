"""Training metrics as small charts: which belong together, what they are called, and how to read them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tutelage.evals.charts import Series, line_chart
from tutelage.evals.svg import Figure, number

SIDES = {"train": ("train", "k-sft"), "eval": ("held out", "k-ppo")}
"""Metrics that differ only in this prefix share a chart."""

CATALOG: dict[str, tuple[str, str, str]] = {
    "bits_per_byte": ("Bits per byte", "bits per byte", "How well it predicts text; lower is better, 8 is knowing nothing."),
    "loss": ("Loss", "nats", "Falls, then flattens. Held-out rising while train falls is over-fitting."),
    "accuracy": ("Accuracy", "share of pairs ordered right", "Climbs from a half towards the labels’ ceiling; near 1 it memorises."),
    "objective/score": ("Score", "reward model’s score", "What PPO raises. Smooth and slowing is healthy; a jump is a trick found."),
    "objective/kl": ("KL to the reference", "nats per answer", "The price of the score. Steady growth is fine; an explosion is collapse."),
    "policy/entropy": ("Entropy", "nats per token", "Falls as the policy commits itself; at zero it no longer explores."),
    "value/explained_variance": ("Value explained variance", "share", "How much of the returns the critic foresees: 0 nothing, 1 all."),
    "policy/clipfrac": ("Clip fraction", "share of tokens", "Tokens whose update was cut. Above 0.3 is too fast; 0 late is normal."),
    "policy/approx_kl": ("Update size", "nats per token", "KL between before and after an iteration; spikes are steps too long."),
    "response/tokens": ("Answer length", "tokens", "Creeping growth is often the first sign of a gamed reward."),
    "response/finished_frac": ("Answers that end", "share", "Should be near 1: the rest ran into the limit."),
}
"""Panel -> title, unit, how to read it. Panels not listed are drawn after these, folded away."""


@dataclass
class Panel:
    """One chart: metrics that share a name and differ in their side."""

    key: str
    lines: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)

    @property
    def how(self) -> str:
        return CATALOG[self.key][2] if self.key in CATALOG else ""

    def figure(self) -> Figure:
        title, unit, _ = CATALOG.get(self.key, (self.key, "", ""))
        series = []
        for place, (side, (steps, values)) in enumerate(sorted(self.lines.items(), key=lambda item: item[0] != "train")):
            label, color = SIDES.get(side, ("", ("k-ppo", "k-sft", "k-c1")[place % 3]))
            alone = len(self.lines) == 1
            series.append(Series("" if alone else label, steps, values, "k-c1" if alone else color, dots=len(steps) <= 12))
        ends = [v for _, values in self.lines.values() for v in values if math.isfinite(v)]
        desc = f"{title}: from {number(ends[0])} to {number(ends[-1])}" if ends else f"{title}: undefined"
        return line_chart(series, title=title, desc=desc, x_label="step", y_label=unit, height=230)


def panels(rows: Sequence[Mapping[str, Any]]) -> tuple[list[Panel], list[Panel]]:
    """Metrics rows -> (panels to show, panels to fold away). A row is {"step": int, metric: number}; None and nan break a line."""
    found: dict[str, Panel] = {}
    for place, row in enumerate(rows):
        step = row.get("step", row.get("iteration", place))
        for metric, value in row.items():
            if metric in ("step", "iteration") or isinstance(value, bool) or not (value is None or isinstance(value, (int, float))):
                continue
            key, side = _panel_of(metric)
            steps, values = found.setdefault(key, Panel(key)).lines.setdefault(side, ([], []))
            steps.append(float(step))
            values.append(math.nan if value is None else float(value))
    drawn = {key: panel for key, panel in found.items() if any(math.isfinite(v) for _, vs in panel.lines.values() for v in vs)}
    return [drawn[key] for key in CATALOG if key in drawn], [panel for key, panel in sorted(drawn.items()) if key not in CATALOG]


def _panel_of(metric: str) -> tuple[str, str]:
    side, _, name = metric.partition("/")
    return (name, side) if side in SIDES and name else (metric, "")
