"""Charts drawn on the server as inline SVG: marks with classes, no script, no style. The table behind each is beside it or a CSV away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

from markupsafe import Markup

from tutelage.feedback.intervals import Statistic

WIDTH, HEIGHT = 720, 220
LEFT, RIGHT, TOP, BOTTOM = 54, 12, 12, 30
_LABELS = 8
"""Names under the x axis, at most."""


@dataclass(frozen=True)
class Point:
    """A value with its interval at a place; value None: there is none. x: where on the axis; None: in order, evenly."""

    label: str
    value: float | None
    low: float | None = None
    high: float | None = None
    x: float | None = None


def intervals(points: Sequence[Point], *, title: str, low: float = 0.0, high: float = 1.0, percent: bool = True) -> Markup:
    """Dots with whiskers, joined by a line; the y axis shows [low, high] and more where a value lies outside."""
    known = [point for point in points if point.value is not None]
    bounds = [bound for p in known for bound in (p.value, p.low, p.high) if bound is not None]
    axis = _Axis(min([low, *bounds]), max([high, *bounds]), percent)
    xs = _places(points)
    parts, line = axis.grid(), []
    for point, x in zip(points, xs, strict=True):
        if point.value is None:
            continue
        if point.low is not None and point.high is not None:
            parts.append(f'<line class="whisker" x1="{x:.1f}" x2="{x:.1f}" y1="{axis.y(point.low):.1f}" y2="{axis.y(point.high):.1f}"/>')
        parts.append(f'<circle class="dot" cx="{x:.1f}" cy="{axis.y(point.value):.1f}" r="3.5"/>')
        line.append(f"{x:.1f},{axis.y(point.value):.1f}")
    parts.append(f'<polyline class="line" points="{" ".join(line)}"/>')
    return _svg(parts + _names(points, xs), title)


def by_judgements(found: Sequence[tuple[int, Statistic]], *, title: str) -> Markup | None:
    """Accuracy against the number of judgements, at its place on the x axis; None without any."""
    points = [Point(f"{count:,}", accuracy.value, accuracy.low, accuracy.high, count) for count, accuracy in found]
    return intervals(points, title=title, low=0.4) if points else None


def bars(points: Sequence[Point], *, title: str) -> Markup:
    """A bar from 0 for each count."""
    axis = _Axis(0.0, max([1.0, *(point.value or 0.0 for point in points)]), percent=False)
    xs, parts = _places(points), axis.grid()
    width = max(1.0, min(40.0, 0.7 * (WIDTH - LEFT - RIGHT) / max(len(points), 1)))
    for point, x in zip(points, xs, strict=True):
        top = axis.y(point.value or 0.0)
        parts.append(f'<rect class="bar" x="{x - width / 2:.1f}" y="{top:.1f}" width="{width:.1f}" height="{HEIGHT - BOTTOM - top:.1f}"/>')
    return _svg(parts + _names(points, xs), title)


class _Axis:
    """The y axis: round steps, at most five."""

    def __init__(self, low: float, high: float, percent: bool) -> None:
        self.step = _round_step((high - low) / 4 or 1.0)
        self.low, self.high = floor(low / self.step + 1e-9) * self.step, ceil(high / self.step - 1e-9) * self.step
        self.percent = percent

    def y(self, value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (self.high - value) / (self.high - self.low)

    def grid(self) -> list[str]:
        parts = []
        for i in range(round((self.high - self.low) / self.step) + 1):
            value = self.low + i * self.step
            text = f"{100 * value:.0f}%" if self.percent else f"{value:g}" if self.step < 1 else f"{value:,.0f}"
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{self.y(value):.1f}" y2="{self.y(value):.1f}"/>'
                         f'<text class="tick" x="{LEFT - 6}" y="{self.y(value) + 4:.1f}" text-anchor="end">{text}</text>')
        return parts


def _round_step(size: float) -> float:
    """The smallest of 1, 2, 2.5, 5 times a power of ten that is not below a size."""
    power = 10.0 ** floor(log10(size))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= size * (1 - 1e-9))


def _places(points: Sequence[Point]) -> list[float]:
    """Where each point stands, in the middle of its share of the width or by its own x."""
    width, given = WIDTH - LEFT - RIGHT, [point.x for point in points if point.x is not None]
    if len(given) < len(points):
        return [LEFT + width * (i + 0.5) / len(points) for i in range(len(points))]
    high = max(given, default=1.0) or 1.0
    return [LEFT + 0.97 * width * x / high for x in given]


def _names(points: Sequence[Point], xs: Sequence[float]) -> list[str]:
    every = ceil(len(points) / _LABELS) or 1
    return [f'<text class="tick" x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(point.label)}</text>'
            for i, (point, x) in enumerate(zip(points, xs, strict=True)) if i % every == 0]


def _svg(parts: Sequence[str], title: str) -> Markup:
    return Markup(f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>')
