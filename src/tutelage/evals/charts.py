"""The report's charts: lines with bands, dots with whiskers, bars, a histogram, a reliability diagram. Each returns a `Figure`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeGuard

import numpy as np

from tutelage.evals import svg
from tutelage.evals.svg import WIDTH, Figure, Scale, domain, duration, number

MANY_POINTS = 60
"""From so many points on a line is drawn smoothed over its faint raw course."""
TABLE_ROWS = 40


@dataclass(frozen=True, slots=True)
class Series:
    """One line. `low` and `high` bound its band; `color` is a colour class; `dots` marks each point; nan breaks the line."""

    label: str
    x: Sequence[float]
    y: Sequence[float | None]
    color: str
    low: Sequence[float | None] | None = None
    high: Sequence[float | None] | None = None
    dash: str = ""
    dots: bool = False
    in_table: bool = True


@dataclass(frozen=True, slots=True)
class Mark:
    """A point called out by words."""

    x: float
    y: float
    label: str
    color: str = "k-ink"
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Dot:
    """A value with its interval on a labelled row."""

    label: str
    mean: float
    low: float | None
    high: float | None
    color: str = "k-ink"
    note: str = ""


def line_chart(series: Sequence[Series], *, title: str, desc: str, x_label: str, y_label: str, marks: Sequence[Mark] = (),
               rules: Sequence[tuple[float, str]] = (), include_y: Sequence[float] = (), include_x: Sequence[float] = (),
               width: float = WIDTH, height: float = 290) -> Figure:
    """Lines, direct labels at their right ends, confidence bands, marked points, and horizontal `rules` (value, label)."""
    marks = [m for m in marks if _known(m.y)]
    ys = [v for s in series for part in (s.y, s.low or (), s.high or ()) for v in part]
    ys += [v for m in marks for v in (m.y, m.low, m.high)]
    labels = [s.label for s in series if s.label and _last(s) is not None]
    right = max([24.0, *(svg.text_width(label) + 14 for label in labels)])
    y_low, y_high = domain(ys, include=[*include_y, *(value for value, _ in rules)])
    frame = _Frame(width, height, left=10 + max(svg.text_width(t) for t in svg.tick_labels(svg.ticks(y_low, y_high)) or ["0"]), right=right)
    x = Scale(*domain([v for s in series for v in s.x] + [m.x for m in marks], include=include_x, pad=0.02), frame.left, width - right)
    y = Scale(y_low, y_high, height - frame.bottom, frame.top)
    parts = [frame.axes(x, y, x_label, y_label)]
    for value, label in rules:
        parts.append(svg.line(frame.left, y(value), width - right, y(value), color="k-mute", dash="4 4"))
        parts.append(svg.note(frame.left + 4, y(value) - 5, label))
    for s in series:
        parts.append(_line(s, x, y))
    for m in marks:
        parts.append(_mark(m, x, y, frame))
    ends = [(s, end) for s in series if s.label and (end := _last(s)) is not None]
    heights = svg.spread([y(end[1]) for _, end in ends], 16, frame.top, height - frame.bottom)
    parts += [svg.text(width - right + 8, at + 4, s.label, color=s.color, kind="strong") for (s, _), at in zip(ends, heights, strict=True)]
    return Figure(title, desc, width, height, "".join(parts), *_line_table(series, marks, x_label, y_label))


def dot_plot(dots: Sequence[Dot], *, title: str, desc: str, x_label: str, rules: Sequence[tuple[float, str]] = (),
             include: Sequence[float] = (), width: float = WIDTH, row_height: float = 32) -> Figure:
    """One row per dot: label, interval as a whisker, value as text. `rules` are vertical reference lines (value, label)."""
    shown = [(d, f"{number(d.mean)}{' ' + d.note if d.note else ''}") for d in dots]
    left = 14 + max([svg.text_width(d.label) for d in dots] or [0.0])
    right = 14 + max([svg.text_width(value) for _, value in shown] or [0.0])
    top, bottom = 10.0 + 16 * len(rules), 40.0
    height = top + row_height * len(dots) + bottom
    x = Scale(*domain([v for d in dots for v in (d.mean, d.low, d.high)], include=[*include, *(v for v, _ in rules)]), left, width - right)
    values = svg.ticks(x.low, x.high)
    parts = [svg.line(x(v), top, x(v), height - bottom) for v in values]
    parts += [svg.note(x(v), height - bottom + 17, label, anchor="middle")
              for v, label in zip(values, svg.tick_labels(values), strict=True)]
    parts.append(svg.note((left + width - right) / 2, height - 5, x_label, anchor="middle"))
    for row, (value, label) in enumerate(sorted(rules, reverse=True)):      # a line each, highest value first: no rule crosses a label
        parts.append(svg.line(x(value), 16 * row + 16, x(value), height - bottom, color="k-mute", width=1.4, dash="4 4"))
        end = x(value) > (left + width - right) / 2
        parts.append(svg.note(x(value) + (4 if end else -4), 16 * row + 11, label, anchor="end" if end else "start"))
    for row, (d, words) in enumerate(shown):
        y = top + row_height * (row + 0.5)
        parts.append(svg.text(0, y + 4.5, d.label, color=d.color, kind="strong"))
        parts.append(svg.text(width, y + 4.5, words, anchor="end"))
        if _known(d.mean):
            if _known(d.low) and _known(d.high):
                parts.append(svg.line(x(d.low), y, x(d.high), y, color=d.color, width=2.4))
                parts += [svg.line(x(v), y - 4.5, x(v), y + 4.5, color=d.color, width=2.4) for v in (d.low, d.high)]
            parts.append(svg.circle(x(d.mean), y, 5.5, color=d.color))
    rows = [(d.label, number(d.mean), number(d.low), number(d.high), d.note) for d in dots]
    return Figure(title, desc, width, height, "".join(parts), ("", x_label, "95 % low", "95 % high", "note"), rows)


def timeline(seconds: Mapping[str, float], *, title: str, desc: str, pending: Sequence[str] = (), width: float = WIDTH) -> Figure:
    """Stages one after another along the time they took; stages not run yet are listed without a bar."""
    names = [*seconds, *pending]
    left = 14 + max([svg.text_width(name) for name in names] or [0.0])
    right, row_height, total = 84.0, 28.0, sum(seconds.values())
    height = row_height * len(names) + 38
    x = Scale(0.0, total or 1.0, left, width - right)
    unit, per = ("minutes", 60.0) if total >= 180 else ("seconds", 1.0)
    values = svg.ticks(0, (total or 1.0) / per, count=5)
    parts = [svg.line(x(v * per), 0, x(v * per), height - 36) for v in values]
    parts += [svg.note(x(v * per), height - 20, label, anchor="middle")
              for v, label in zip(values, svg.tick_labels(values), strict=True)]
    parts.append(svg.note((left + width - right) / 2, height - 4, unit, anchor="middle"))
    start = 0.0
    for row, name in enumerate(names):
        y = row_height * row
        parts.append(svg.text(0, y + 18, name, color="k-ink" if name in seconds else "k-mute"))
        if name in seconds:
            parts.append(svg.rect(x(start), y + 6, max(x(start + seconds[name]) - x(start), 2), row_height - 12, color="k-sft", radius=3))
            parts.append(svg.note(x(start + seconds[name]) + 7, y + 18, duration(seconds[name])))
            start += seconds[name]
        else:
            parts.append(svg.note(left, y + 18, "not run yet"))
    rows = [(name, duration(seconds[name]) if name in seconds else "not run yet") for name in names]
    return Figure(title, desc, width, height, "".join(parts), ("stage", "time"), rows)


def histogram(groups: Mapping[str, Sequence[float]], colors: Mapping[str, str], *, title: str, desc: str, x_label: str, bins: int = 24,
              include: Sequence[float] = (), width: float = WIDTH, row_height: float = 58) -> Figure:
    """One small histogram per group, stacked on a common axis, heights as shares so that groups compare; nan is left out."""
    kept = {name: np.asarray([v for v in values if _known(v)], dtype=np.float64) for name, values in groups.items()}
    kept = {name: values for name, values in kept.items() if values.size}
    low, high = domain([float(v) for values in kept.values() for v in (values.min(), values.max())], include=include, pad=0.0)
    edges = np.linspace(low, high, bins + 1)
    left = 14 + max([svg.text_width(name) for name in kept] or [0.0])
    height = row_height * len(kept) + 40
    x = Scale(low, high, left, width - 8)
    shares = {name: np.histogram(values, edges)[0] / values.size for name, values in kept.items()}
    tallest = max([float(s.max()) for s in shares.values()] or [1.0])
    ticks = svg.ticks(low, high)
    parts = [svg.line(x(v), 4, x(v), height - 38) for v in ticks]
    for row, (name, share) in enumerate(shares.items()):
        floor = row_height * (row + 1)
        parts.append(svg.text(0, floor - 6, name, color=colors.get(name, "k-c1"), kind="strong"))
        for a, b, s in zip(edges[:-1], edges[1:], share, strict=True):
            tall = (row_height - 10) * s / tallest
            parts.append(svg.rect(x(a) + 0.5, floor - tall, x(b) - x(a) - 1, tall, color=colors.get(name, "k-c1"), opacity=0.75))
        parts.append(svg.line(left, floor, width - 8, floor, color="k-mute"))
    parts += [svg.note(x(v), height - 21, label, anchor="middle")
              for v, label in zip(ticks, svg.tick_labels(ticks), strict=True)]
    parts.append(svg.note((left + width - 8) / 2, height - 5, x_label, anchor="middle"))
    rows = [(name, str(v.size), *(number(float(q)) for q in np.quantile(v, [0.1, 0.5, 0.9]))) for name, v in kept.items()]
    return Figure(title, desc, width, height, "".join(parts), ("", "n", "10th percentile", "median", "90th percentile"), rows)


def reliability(bins: Sequence[Mapping[str, Any]], *, title: str, desc: str, low: float = 0.5, color: str = "k-ppo",
                width: float = WIDTH, height: float = 320) -> Figure:
    """What the model's confidence promised (x) against what came true (y), with intervals; on the diagonal it keeps its word."""
    frame = _Frame(width, height, left=46, right=24)
    truth = [v for b in bins for v in (b["accuracy"]["low"], b["accuracy"]["mean"]) if _known(v)]
    floor = max(0.0, math.floor(10 * min([low, *truth])) / 10)
    x, y = Scale(low, 1.0, frame.left, width - frame.right), Scale(floor, 1.0, height - frame.bottom, frame.top)
    parts = [frame.axes(x, y, "confidence", "share that came true"), svg.line(x(low), y(low), x(1), y(1), color="k-mute", dash="4 4")]
    parts.append(svg.note(width - frame.right - 4, height - frame.bottom - 8, "dashed: keeps its word", anchor="end"))
    for b in bins:
        rate = b["accuracy"]
        if _known(rate["low"]) and _known(rate["high"]):
            parts.append(svg.line(x(b["confidence"]), y(rate["low"]), x(b["confidence"]), y(rate["high"]), color=color, width=2))
        parts.append(svg.circle(x(b["confidence"]), y(rate["mean"]), 4.5, color=color))
    rows = [(number(b["confidence"]), number(b["accuracy"]["mean"]), number(b["accuracy"]["low"]), number(b["accuracy"]["high"]),
             str(b["accuracy"]["n"])) for b in bins]
    return Figure(title, desc, width, height, "".join(parts), ("confidence", "came true", "95 % low", "95 % high", "n"), rows)


@dataclass(frozen=True, slots=True)
class _Frame:
    """Margins and axes of a chart with two scales."""

    width: float
    height: float
    left: float
    right: float
    top: float = 30
    bottom: float = 42

    def axes(self, x: Scale, y: Scale, x_label: str, y_label: str) -> str:
        across, up = svg.ticks(x.low, x.high), svg.ticks(y.low, y.high)
        parts = [svg.line(self.left, y(v), self.width - self.right, y(v)) for v in up]
        parts += [svg.note(self.left - 7, y(v) + 4, label, anchor="end")
                  for v, label in zip(up, svg.tick_labels(up), strict=True)]
        parts += [svg.note(x(v), self.height - self.bottom + 18, label, anchor="middle")
                  for v, label in zip(across, svg.tick_labels(across), strict=True)]
        parts.append(svg.line(self.left, self.height - self.bottom, self.width - self.right, self.height - self.bottom, color="k-mute"))
        parts.append(svg.note((self.left + self.width - self.right) / 2, self.height - 5, x_label, anchor="middle"))
        parts.append(svg.note(0, 12, y_label))
        return "".join(parts)


def _line(s: Series, x: Scale, y: Scale) -> str:
    """A series as shapes: band, faint raw course where there is much, line or dots."""
    parts: list[str] = []
    low, high = s.low or [None] * len(s.x), s.high or [None] * len(s.x)
    for solid, group in groupby(zip(s.x, s.y, low, high, strict=True), key=lambda row: _known(row[1])):
        if not solid:
            continue
        run = list(group)
        upper = [(x(a), y(above)) for a, _, below, above in run if _known(below) and _known(above)]
        lower = [(x(a), y(below)) for a, _, below, above in run if _known(below) and _known(above)]
        if len(upper) > 1:
            parts.append(svg.polygon(upper + lower[::-1], color=s.color))
        points = [(x(a), float(value)) for a, value, _, _ in run if _known(value)]
        if len(points) > MANY_POINTS:
            parts.append(svg.polyline([(a, y(b)) for a, b in _thin(points)], color=s.color, width=1, opacity=0.3))
            points = _thin(_smooth(points))
        if len(points) == 1 or s.dots:
            parts += [svg.circle(a, y(b), 3.5, color=s.color) for a, b in points]
        if len(points) > 1:
            parts.append(svg.polyline([(a, y(b)) for a, b in points], color=s.color, dash=s.dash, width=1.6 if s.dash else 2.2))
    return "".join(parts)


def _mark(m: Mark, x: Scale, y: Scale, frame: _Frame) -> str:
    at, up = x(m.x), y(m.y)
    parts = []
    if _known(m.low) and _known(m.high):
        parts.append(svg.line(at, y(m.low), at, y(m.high), color=m.color, width=2))
    parts.append(svg.circle(at, up, 6, color=m.color, hollow=True))
    wide = svg.text_width(m.label) / 2
    middle = min(max(at, frame.left + wide), frame.width - wide - 2)
    above = up - 13 if up - 13 > frame.top + 8 else up + 23
    return "".join([*parts, svg.text(middle, above, m.label, color=m.color, kind="strong small halo", anchor="middle")])


def _line_table(series: Sequence[Series], marks: Sequence[Mark], x_label: str,
                y_label: str) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The numbers behind a line chart; long series by every k-th point."""
    rows: list[tuple[str, ...]] = []
    for s in series:
        if not s.in_table:
            continue
        for i in np.unique(np.linspace(0, max(len(s.x) - 1, 0), min(len(s.x), TABLE_ROWS)).round().astype(int)):
            interval = "" if s.low is None or s.high is None else f"{number(s.low[i])} to {number(s.high[i])}"
            rows.append((s.label, number(s.x[i]), number(s.y[i]), interval))
    rows += [(m.label, number(m.x), number(m.y), f"{number(m.low)} to {number(m.high)}" if _known(m.low) else "") for m in marks]
    return ("", x_label, y_label, "95 % interval"), rows


def _smooth(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """A running mean under a Hann window a twelfth of the line wide."""
    window = np.hanning(2 * max(3, len(points) // 24) + 3)
    values = np.convolve([b for _, b in points], window, mode="same") / np.convolve(np.ones(len(points)), window, mode="same")
    return [(a, float(v)) for (a, _), v in zip(points, values, strict=True)]


def _thin(points: Sequence[tuple[float, float]], limit: int = 300) -> list[tuple[float, float]]:
    """At most `limit` points, first and last among them."""
    if len(points) <= limit:
        return list(points)
    return [points[i] for i in np.linspace(0, len(points) - 1, limit).round().astype(int)]


def _known(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _last(s: Series) -> tuple[float, float] | None:
    return next(((a, b) for a, b in reversed(list(zip(s.x, s.y, strict=True))) if _known(b)), None)
