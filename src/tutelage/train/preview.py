"""What --dry-run prints: the resolved config, the data as it will be read, the device plan, and a forecast from real work."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tutelage.base.config import RunConfig, dump_config
from tutelage.base.files import artifact_dir
from tutelage.train.checkpoint import TrainState
from tutelage.train.precision import resolve_precision
from tutelage.train.sections import MemorySection

Preview = dict[str, Any]


def describe(cfg: RunConfig, *, data: dict[str, Any], samples: list[str], forecast: dict[str, Any]) -> Preview:
    """What --dry-run prints. forecast: of tutelage.train.forecast."""
    folder = Path(cfg.run_dir or "runs")
    while not folder.exists():
        folder = folder.parent
    memory: MemorySection = getattr(cfg, "memory", MemorySection())
    return {
        "config": dump_config(cfg),
        "data": data | {"samples": samples},
        "devices": {"device": cfg.device, "threads": torch.get_num_threads(), "precision": resolve_precision(memory, cfg.device)},
        "forecast": forecast | {"disk_free_mb": shutil.disk_usage(folder).free // 2**20},
    }


def write_aside(write_models: Callable[[Path], None], optimizer: torch.optim.Optimizer) -> None:
    """A checkpoint that is written whole, as in a run, and thrown away."""
    with tempfile.TemporaryDirectory(prefix="tutelage-preview-") as scratch, artifact_dir(Path(scratch) / "checkpoint") as folder:
        write_models(folder)
        (folder / "train").mkdir()
        TrainState({"trained": optimizer}).save(folder / "train", 0)
