"""What --dry-run prints: the resolved config, the data as it will be read, the device plan, and a forecast from real steps."""

from __future__ import annotations

import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tutelage.base.config import RunConfig, dump_config
from tutelage.train.precision import resolve_precision
from tutelage.train.sections import MemorySection

Preview = dict[str, Any]


def probe(cfg: RunConfig, *, data: dict[str, Any], samples: list[str], total_steps: int, step: Callable[[int], object]) -> Preview:
    """Run two real steps on throw-away weights and forecast the whole run. The first warms caches up and is not timed."""
    step(0)
    started = time.perf_counter()
    step(1)
    return forecast(cfg, data=data, samples=samples, total_steps=total_steps, seconds_per_step=time.perf_counter() - started)


def forecast(cfg: RunConfig, *, data: dict[str, Any], samples: list[str], total_steps: int, seconds_per_step: float) -> Preview:
    """What --dry-run prints. The time leaves out evaluation and saving; memory is the peak of this process, which ran real steps."""
    memory = getattr(cfg, "memory", MemorySection())                # recipes without the section compute in float32
    folder = Path(cfg.run_dir or "runs")
    while not folder.exists():
        folder = folder.parent
    return {
        "config": dump_config(cfg),
        "data": data | {"samples": samples},
        "devices": {"device": cfg.device, "threads": torch.get_num_threads(), "precision": resolve_precision(memory, cfg.device)},
        "forecast": {
            "steps": total_steps,
            "seconds_per_step": round(seconds_per_step, 3),
            "seconds": round(seconds_per_step * total_steps, 1),
            "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            "disk_free_mb": shutil.disk_usage(folder).free // 2**20,
        },
    }
