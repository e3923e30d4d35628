"""Progress with an ETA: a bar on a terminal, one plain log line per interval elsewhere; always on stderr."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Self, TypeVar

from .log import get_logger

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

T = TypeVar("T")

_bars: Bars | None = None  # one live display for all open bars: nested displays overwrite each other
_open = 0


def progress(total: int, label: str, unit: str = "steps", *, start: int = 0, interval_seconds: float = 10.0) -> Progress:
    """Follow `total` units of work, of which `start` were done before.

    `with progress(100, "ppo", "iterations") as bar: bar.update(note="score 0.31")`, or `for i in progress(100, "ppo", "iterations")`.
    """
    return Progress(total, label, unit, start=start, interval_seconds=interval_seconds)


def track(items: Sequence[T], label: str, unit: str = "rows") -> Iterator[T]:
    """Iterate over a sequence under a progress bar."""
    with progress(len(items), label, unit) as bar:
        for item in items:
            yield item
            bar.update()


class Progress:
    """One followed piece of work. `done` counts units finished; `clock` returns seconds and exists for tests."""

    def __init__(self, total: int, label: str, unit: str, *, start: int = 0, interval_seconds: float = 10.0,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self.total, self.label, self.unit, self.done = total, label, unit, start
        self._before, self._interval, self._clock = start, interval_seconds, clock
        self._start = self._last_line = clock()
        self._task: int | None = None
        self._note = ""

    def __enter__(self) -> Self:
        global _open
        self._start = self._last_line = self._clock()
        if _wants_bars():
            _open += 1
            self._task = _display().add_task(self.label, total=self.total, completed=self.done, unit=self.unit, note="")
        return self

    def __exit__(self, *_: object) -> None:
        global _open
        if self._task is None:
            self._log()
            return
        bars = _display()
        bars.remove_task(self._task)  # type: ignore[arg-type]
        self._task = None
        _open -= 1
        if _open == 0:
            _close_display()
        self._log()

    def __iter__(self) -> Iterator[int]:
        with self:
            for i in range(self.done, self.total):
                yield i
                self.update()

    def update(self, amount: int = 1, note: str | None = None) -> None:
        """Count finished units; `note` is shown beside the bar until the next one."""
        self.done += amount
        self._note = note if note is not None else self._note
        if self._task is not None:
            _display().update(self._task, completed=self.done, note=self._note)  # type: ignore[arg-type]
        elif self._clock() - self._last_line >= self._interval and self.done < self.total:
            self._last_line = self._clock()
            self._log()

    def eta_seconds(self) -> float | None:
        """Seconds left at the mean pace so far; None before one unit is done."""
        if self.done == self._before:
            return None
        return (self._clock() - self._start) / (self.done - self._before) * max(self.total - self.done, 0)

    def _log(self) -> None:
        spent, left = self._clock() - self._start, self.eta_seconds()
        parts = [f"{self.label} {self.done}/{self.total} {self.unit}", f"{spent:.0f} s"]
        if left:
            parts.append(f"about {left:.0f} s left")
        if self._note:
            parts.append(self._note)
        get_logger().info(", ".join(parts))


def print_above_bars(text: str) -> bool:
    """Print to stderr above the open bars; False when there are none."""
    if _bars is None:
        return False
    _bars.console.print(text, markup=False, highlight=False, soft_wrap=True)
    return True


def _wants_bars() -> bool:
    """On a terminal, unless the screen shows warnings only."""
    quiet = any(type(h) is not logging.FileHandler and h.level > logging.INFO for h in get_logger().handlers)
    return sys.stderr.isatty() and not quiet


def _display() -> Bars:
    global _bars
    if _bars is None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        _bars = Bars(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[unit]}"),
                     TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}", markup=False),
                     console=Console(stderr=True))
        _bars.start()
    return _bars


def _close_display() -> None:
    global _bars
    if _bars is not None:
        _bars.stop()
        _bars = None
