"""How long a run will take and how much memory it will need, from real pieces of its work; and the truth beside it at the end."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tutelage.base.files import atomic_write_text
from tutelage.base.log import get_logger

log = get_logger()

TIMED_PIECES, TIMED_SECONDS = 8, 20.0
"""A kind of work is timed on so many pieces at most, and no further than so many seconds (one piece always)."""
GIVE_BACK_STEPS = 25
"""Steps between two returns of freed memory to the system."""


@dataclass(frozen=True)
class Work:
    """A kind of work that a run does `times` times. do(i) does piece i as the run would, on weights that are thrown away.

    largest: does the piece that needs the most memory; it also warms caches up, so it is not timed.
    """

    times: float
    do: Callable[[int], object]
    largest: Callable[[], object] | None = None

    def seconds_each(self) -> float:
        """Mean over pieces spread evenly over the run: early and late, short and long rows alike."""
        (self.largest or (lambda: self.do(0)))()
        count = max(1, min(TIMED_PIECES, round(self.times)))
        spent: list[float] = []
        while len(spent) < count and sum(spent) < TIMED_SECONDS:
            # By the golden section: whatever number of pieces there is time for, they lie evenly.
            piece = int((0.5 + 0.618034 * len(spent)) % 1.0 * max(1.0, self.times))
            started = time.perf_counter()
            self.do(piece)
            spent.append(time.perf_counter() - started)
        return sum(spent) / len(spent)


def forecast(works: Mapping[str, Work], *, started: float, device: str) -> dict[str, Any]:
    """Do the largest and some other pieces of each work; `step` is the one that trains. started: `from_now` before anything was opened.

    Returns: seconds of the whole run, Python's own start left out; peak memory of this process (of the GPU, where that is the device) in
    MB, measured while the largest pieces were done; what each kind of work takes; memory free now.
    """
    setup = time.perf_counter() - started
    each = {name: work.seconds_each() for name, work in works.items() if work.times > 0}
    seconds = setup + sum(works[name].times * one for name, one in each.items())
    others = {name: {"times": round(works[name].times), "seconds_each": round(one, 3)} for name, one in each.items() if name != "step"}
    return {"steps": round(works["step"].times), "seconds_per_step": round(each["step"], 4), "setup_seconds": round(setup, 1), **others,
            "seconds": round(seconds, 1), "peak_memory_mb": peak_memory_mb(device), "free_memory_mb": free_memory_mb(device)}


class Watch:
    """How long a run that is going on will take, told once a twentieth of its steps is done (three at least).

    Of its memory only what it took so far is known by then: longer rows may come. That is for a dry run to forecast.
    """

    def __init__(self, total: int, started: float) -> None:
        """started: time.monotonic() when the run began."""
        self.total, self.started, self.done = total, started, 0
        self.at = max(3, round(0.05 * total))
        self.forecast: dict[str, float] | None = None

    def step(self, device: str) -> None:
        """One step is done."""
        self.done += 1
        if self.done % GIVE_BACK_STEPS == 0:
            give_back_freed()
        if self.done == 1:
            self.first = time.monotonic()                           # it warms caches up and holds the audits, so it is not typical
        if self.done == self.at < self.total:
            each = (time.monotonic() - self.first) / (self.done - 1)
            seconds = self.first - self.started + each * (self.total - 1)
            self.forecast = {"after_steps": self.done, "seconds": round(seconds, 1)}
            log.info("about %s in all; %d MB of memory at the peak so far", duration(seconds), peak_memory_mb(device))


def tell_truth(folder: Path, watch: Watch | None, seconds: float, device: str) -> None:
    """Log what the run took beside what was forecast, and write both to cost.json."""
    truth = {"seconds": round(seconds, 1), "peak_memory_mb": peak_memory_mb(device)}
    expected = watch.forecast if watch else None
    said = f" (forecast after {expected['after_steps']} steps: {duration(expected['seconds'])})" if expected else ""
    log.info("took %s%s, %d MB of memory at the peak", duration(seconds), said, truth["peak_memory_mb"])
    atomic_write_text(folder / "cost.json", json.dumps({"truth": truth, "forecast": expected}, indent=1) + "\n")


def duration(seconds: float) -> str:
    """`12.3 s` below two minutes, else `4 min 10 s`, `2 h 5 min`."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = round(seconds) // 60
    return f"{minutes} min {round(seconds) % 60} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


# -- memory -----------------------------------------------------------------------------------------------------------


def from_now(device: str) -> float:
    """Forget the peak of memory. Returns: the moment, for `forecast`."""
    forget_peak(device)
    return time.perf_counter()


def give_back_freed() -> None:
    """Return freed memory to the system. glibc keeps it, in pieces that tensors of the next rows' lengths do not fit."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):           # not every Linux has glibc
            ctypes.CDLL(None).malloc_trim(0)


def forget_peak(device: str) -> None:
    """Let the peak be that of what follows, where the system can (Linux and CUDA); else it stays the process's.

    What the stage before has freed goes back to the system first: a pipeline's stages share one process.
    """
    gc.collect()
    give_back_freed()
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    try:
        Path("/proc/self/clear_refs").write_text("5")               # resets the high-water mark of resident memory
    except OSError:
        pass


def peak_memory_mb(device: str) -> int:
    """Most memory in use at once: of tensors on the GPU where that is the device, else resident memory of this process."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device) // 2**20
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.split("VmHWM:")[1].split()[0]) // 1024     # getrusage's also counts the process that started this one
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (2**20 if sys.platform == "darwin" else 1024)


def free_memory_mb(device: str) -> int | None:
    """Memory that could be had now, None where the system does not say."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0]) // 2**20
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("MemAvailable:")), None)
