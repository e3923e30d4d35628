"""A recipe small enough to test the command line with."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from tutelage.base.config import RunConfig, Section
from tutelage.base.errors import GateError


class ToyOptim(Section):
    learning_rate: float = 1e-3
    """Step size."""


class ToyConfig(RunConfig):
    name: str = "toy"
    optim: ToyOptim = ToyOptim()


def preview(cfg: ToyConfig) -> dict[str, Any]:
    return {"config": "as the recipe sees it", "data": {"layout": "text", "samples": ["one\ntwo", "three"]},
            "devices": {"device": cfg.device}, "forecast": {"seconds": 1.5, "memory": float("nan")}}


def train_toy(cfg: ToyConfig) -> dict[str, Any]:
    print("chatter of a library")
    if cfg.name == "gate":
        raise GateError("the gate said no", hint="train longer")
    if cfg.name == "bug":
        raise ValueError("index out of range\nsecond line")
    if cfg.name == "full":
        raise OSError(28, "No space left on device")
    if cfg.name == "denied":
        raise PermissionError(13, "Permission denied", "/etc/shadow")
    if cfg.name == "stop":
        raise KeyboardInterrupt
    if cfg.name == "wait":
        try:
            print("ready", file=sys.stderr, flush=True)
            time.sleep(60)
        finally:
            print("saved", file=sys.stderr, flush=True)
    return {"path": cfg.run_dir or Path("runs/toy"), "score": 0.123456, "loss": float("inf"), "name": cfg.name, "resume": cfg.resume,
            "seed": cfg.seed, "rate": cfg.optim.learning_rate, "next": "tutelage chat runs/toy"}
