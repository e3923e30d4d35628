"""The little that charts need of SVG: scales, ticks, text, colours, and figures that stand in a page or alone in a file.

Colours are classes whose `color` the style sheet sets for light and dark; shapes draw in currentColor. All text is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from tutelage.base.files import atomic_write_text

WIDTH = 480
"""Default width in user units: legible unscaled on a desk and at three quarters on a phone."""

# Okabe and Ito's colour-blind-safe set, darkened for white paper where it lacks contrast and lightened for dark.
_COLORS = {
    "base": ("#6f6f7a", "#a5a5b0"), "prompted": ("#a87400", "#e6b63c"), "sft": ("#0072b2", "#5cb8ec"),
    "best_of_n": ("#00805d", "#35c79b"), "ppo": ("#cc5200", "#ff8d52"), "ppo_ptx": ("#a8488a", "#e59ccb")}
_EXTRA = ("c1", "c2", "c3")
_EXTRA_COLORS = {"c1": ("#3f4a9c", "#9aa5f5"), "c2": ("#7a5c2e", "#cfae7a"), "c3": ("#2f7d8c", "#7ccbd9")}
_INK = {"ink": ("#1d1d22", "#ececf0"), "mute": ("#63636e", "#a6a6b2"), "grid": ("#e3e3e6", "#35353d"), "paper": ("#ffffff", "#1b1b20")}


def chart_style() -> str:
    """CSS for charts, in a page or a lone file. Light by default, dark where the reader prefers it."""
    colors = _COLORS | _EXTRA_COLORS | _INK
    light = "".join(f".k-{name}{{color:{pair[0]}}}" for name, pair in colors.items())
    dark = "".join(f".k-{name}{{color:{pair[1]}}}" for name, pair in colors.items())
    return (
        "svg text{font:13px system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',sans-serif;font-variant-numeric:tabular-nums;"
        "fill:currentColor}svg text.small{font-size:12px}svg text.strong{font-weight:650}svg text.head{font-size:15px;font-weight:650}"
        "svg text.halo{paint-order:stroke;stroke-width:4px;stroke-linejoin:round}"
        f"svg text.halo{{stroke:{_INK['paper'][0]}}}{light}"
        f"@media (prefers-color-scheme:dark){{svg text.halo{{stroke:{_INK['paper'][1]}}}{dark}}}"
        # Paper is white whatever the screen was.
        f"@media print{{svg text.halo{{stroke:{_INK['paper'][0]}}}{light}}}")


def color_of(name: str, names: Sequence[str] = ()) -> str:
    """The colour class of a model: its own where it has one, else one by its place among the `names` that have none."""
    if name in _COLORS:
        return f"k-{name}"
    others = [other for other in names if other not in _COLORS]
    return f"k-{_EXTRA[others.index(name) % len(_EXTRA)]}" if name in others else f"k-{_EXTRA[0]}"


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing and what it draws: `columns` and `rows` are the table behind it, cells as text."""

    title: str
    desc: str
    width: float
    height: float
    body: str
    columns: tuple[str, ...] = ()
    rows: Sequence[tuple[str, ...]] = ()

    def inline(self, figure_id: str) -> str:
        """For a page, which carries `chart_style`. figure_id: unique in the page."""
        return (f'<svg viewBox="0 0 {_n(self.width)} {_n(self.height)}" role="img" aria-labelledby="{figure_id}-t {figure_id}-d">'
                f'<title id="{figure_id}-t">{escape(self.title)}</title><desc id="{figure_id}-d">{escape(self.desc)}</desc>'
                f"{self.body}</svg>")

    def standalone(self) -> str:
        """A complete SVG file with its style and its title drawn on top."""
        return beside([self], title=self.title, desc=self.desc)


def beside(figures: Sequence[Figure], *, title: str, desc: str, gap: float = 40, pad: float = 20) -> str:
    """A complete SVG file with figures side by side, each under its title."""
    head = 34
    width = 2 * pad + sum(f.width for f in figures) + gap * (len(figures) - 1)
    height = 2 * pad + head + max(f.height for f in figures)
    parts, x = [f'<rect class="k-paper" width="{_n(width)}" height="{_n(height)}" rx="10" fill="currentColor"/>'], pad
    for figure in figures:
        parts.append(text(x, pad + 14, figure.title, kind="head"))
        parts.append(f'<g transform="translate({_n(x)} {_n(pad + head)})">{figure.body}</g>')
        x += figure.width + gap
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_n(width)} {_n(height)}" width="{_n(width)}" height="{_n(height)}" '
            f'role="img" aria-labelledby="t d"><title id="t">{escape(title)}</title><desc id="d">{escape(desc)}</desc>'
            f"<style>{chart_style()}</style>{''.join(parts)}</svg>\n")


def write_svg(path: Path, figures: Sequence[Figure], *, title: str, desc: str) -> None:
    """Write figures side by side into one .svg file that needs nothing else."""
    atomic_write_text(path, beside(figures, title=title, desc=desc))


def number(value: float | None, digits: int = 3) -> str:
    """A number for people: about `digits` significant, below 1 that many decimals; "undefined" for nan, infinity and None."""
    return numbers([value], digits)[0]


def numbers(values: Sequence[float | None], digits: int = 3) -> list[str]:
    """Numbers that belong together, with as many decimals for all as the largest needs."""
    finite = [abs(v) for v in values if v is not None and math.isfinite(v)]
    largest = max(finite, default=0.0)
    if 0 < largest < 2 * 10.0**-digits or largest >= 1e9:
        form = f".{digits - 1}g"
    else:
        form = f",.{max(0, digits - 1 - math.floor(math.log10(largest))) if largest >= 1 else digits}f"
    return ["undefined" if v is None or not math.isfinite(v) else "0" if v == 0 else f"{v:{form}}".replace("e-0", "e-").replace("-", "−")
            for v in values]


def percent(value: float | None, digits: int = 0) -> str:
    return "undefined" if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f} %".replace("-", "−")


def duration(seconds: float | None) -> str:
    """0.42 s, 41 s, 7 min 05 s, 2 h 03 min."""
    if seconds is None or not math.isfinite(seconds):
        return "undefined"
    if seconds < 10:
        return f"{number(seconds, 2)} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def ticks(low: float, high: float, *, count: int = 5) -> list[float]:
    """Round numbers (1, 2, 2.5 or 5 times a power of ten) within [low, high], about `count` of them."""
    if not high > low:
        return [low]
    power = 10.0 ** math.floor(math.log10((high - low) / max(count - 1, 1)))
    step = min((m * power for m in (1, 2, 2.5, 5, 10)), key=lambda s: abs((high - low) / s - (count - 1)))
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def tick_labels(values: Sequence[float]) -> list[str]:
    """Labels with one number of decimals for all."""
    if not values:
        return []
    if max(abs(v) for v in values) >= 1e6:
        return [f"{v:.3g}" for v in values]
    decimals = next((d for d in range(7) if all(abs(round(v, d) - v) < 1e-9 * max(1.0, abs(v)) for v in values)), 7)
    return [f"{v:,.{decimals}f}".replace("-", "−") for v in values]


@dataclass(frozen=True, slots=True)
class Scale:
    """Data to user units, linear."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        span = (self.high - self.low) or 1.0
        return self.start + (min(max(value, self.low), self.high) - self.low) / span * (self.end - self.start)


def domain(values: Iterable[float | None], *, include: Iterable[float] = (), pad: float = 0.06) -> tuple[float, float]:
    """A range that holds all finite values with a little air; never empty. `include` bounds get no air beyond them."""
    finite = [float(v) for v in values if v is not None and math.isfinite(v)]
    fixed = list(include)
    if not finite and not fixed:
        return 0.0, 1.0
    low, high = min(finite or fixed), max(finite or fixed)
    air = pad * (high - low) if high > low else 0.1 * abs(high) or 0.5
    low, high = low - air, high + air
    if fixed:
        low = min(fixed) if min(fixed) <= min(finite or fixed) else low
        high = max(fixed) if max(fixed) >= max(finite or fixed) else high
    return low, high if high > low else low + 1.0


def text(x: float, y: float, content: str, *, color: str = "k-ink", kind: str = "", anchor: str = "start") -> str:
    classes = f"{color} {kind}".strip()
    anchored = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text class="{classes}" x="{_n(x)}" y="{_n(y)}"{anchored}>{escape(content)}</text>'


def note(x: float, y: float, content: str, *, anchor: str = "start") -> str:
    """Small quiet text, legible over lines."""
    return text(x, y, content, color="k-mute", kind="small halo", anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, *, color: str = "k-grid", width: float = 1, dash: str = "") -> str:
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return (f'<line class="{color}" x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}" stroke="currentColor" '
            f'stroke-width="{_n(width)}" stroke-linecap="round"{dashed}/>')


def circle(x: float, y: float, r: float, *, color: str, hollow: bool = False) -> str:
    if hollow:
        return f'<circle class="{color}" cx="{_n(x)}" cy="{_n(y)}" r="{_n(r)}" fill="none" stroke="currentColor" stroke-width="1.8"/>'
    return f'<circle class="{color}" cx="{_n(x)}" cy="{_n(y)}" r="{_n(r)}" fill="currentColor"/>'


def rect(x: float, y: float, width: float, height: float, *, color: str, opacity: float = 1, radius: float = 0) -> str:
    return (f'<rect class="{color}" x="{_n(x)}" y="{_n(y)}" width="{_n(max(width, 0))}" height="{_n(max(height, 0))}" rx="{_n(radius)}" '
            f'fill="currentColor" fill-opacity="{_n(opacity)}"/>')


def polyline(points: Sequence[tuple[float, float]], *, color: str, width: float = 2, dash: str = "", opacity: float = 1) -> str:
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    path = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
    return (f'<polyline class="{color}" points="{path}" fill="none" stroke="currentColor" stroke-width="{_n(width)}" '
            f'stroke-opacity="{_n(opacity)}" stroke-linejoin="round" stroke-linecap="round"{dashed}/>')


def polygon(points: Sequence[tuple[float, float]], *, color: str, opacity: float = 0.15) -> str:
    path = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
    return f'<polygon class="{color}" points="{path}" fill="currentColor" fill-opacity="{_n(opacity)}"/>'


def text_width(content: str, size: float = 14.5) -> float:
    """An upper estimate of a text's width in user units, in bold and in the widest of the fonts asked for; wide scripts count double."""
    def em(c: str) -> float:
        return 1.05 if ord(c) > 0x2E80 else 0.4 if c in "ilj.,:;'|! ()" else 0.8 if c.isupper() or c in "mw%" else 0.65

    return size * sum(map(em, content))


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move label positions apart to at least `gap`, as little as needed, keeping their order and, where it fits, [low, high]."""
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    placed = [0.0] * len(positions)
    for rank, i in enumerate(order):
        placed[i] = max(positions[i], low if rank == 0 else placed[order[rank - 1]] + gap)
    ceiling = high
    for i in reversed(order):
        placed[i] = min(placed[i], ceiling)
        ceiling = placed[i] - gap
    return placed


def _n(value: float) -> str:
    """Coordinates with one decimal (opacities with two): what the eye can see."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if abs(value) < 1 else f"{value:.1f}".rstrip("0").rstrip(".")
