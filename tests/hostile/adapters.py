"""Hostile adapter folders: bases that lead in a circle, patterns without an end, numbers that no weight can hold."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tests.hostile.judge import Bench, Call, Case

Damage = Callable[[Path], None]
CONFIG, OURS = "adapter_config.json", "tutelage.json"


def edit(**changes: Any) -> Damage:
    """Other values in the adapter's configuration."""
    return lambda folder: put(CONFIG, json.dumps(json.loads((folder / CONFIG).read_text()) | changes))(folder)


def put(name: str, content: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).write_text(content)

    return damage


def pipe(name: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return damage


def on_itself(folder: Path) -> None:
    """A whole model's files beside it, so that it could be taken for one."""
    base = Path(json.loads((folder / CONFIG).read_text())["base_model_name_or_path"])
    for name in ("config.json", "model.safetensors"):
        shutil.copy(base / name, folder)
    edit(base_model_name_or_path=str(folder))(folder)


def in_a_ring(folder: Path) -> None:
    on_itself(folder)
    other = folder.with_name("other")
    shutil.copytree(folder, other)
    edit(base_model_name_or_path=str(other))(folder)


ADAPTERS: dict[str, Damage] = {
    "on itself": on_itself,
    "in a ring of two": in_a_ring,
    "on nothing": edit(base_model_name_or_path=""),
    "on a list": edit(base_model_name_or_path=[1]),
    "on a name of nul": edit(base_model_name_or_path="\0"),
    "settings of brackets": put(CONFIG, "[" * 10**5),
    "settings of a number": put(CONFIG, "1"),
    "settings of no bytes": put(CONFIG, ""),
    "our settings of brackets": put(OURS, "[" * 10**5),
    "our settings of a list": put(OURS, "[1]"),
    "our settings of a pipe": pipe(OURS),
    "a shift of 400 digits": put(OURS, '{"score_shift": ' + "9" * 400 + "}"),
    "a shift of nan": put(OURS, '{"score_shift": NaN}'),
    "a shift in words": put(OURS, '{"score_shift": "x"}'),
    "a sha256 of a list": put(OURS, '{"base_sha256": [1]}'),
    "modules by a pattern without an end": edit(target_modules="(.*)*(.*)*x$"),
    "modules by half a pattern": edit(target_modules="("),
    "modules by a pattern 10000 deep": edit(target_modules="(" * 10**4 + ")" * 10**4),
    "modules of a number": edit(target_modules=3),
    "modules of nobody": edit(target_modules=["evil"]),
    "modules of numbers": edit(target_modules=[1, None]),
    "no modules": edit(target_modules=None),
    "left out by half a pattern": edit(exclude_modules="("),
    "left out by a pattern without an end": edit(exclude_modules="(.*)*(.*)*x$"),
    "saved by half a pattern": edit(modules_to_save=["("]),
    "ranks by half a pattern": edit(rank_pattern={"(": 2}),
    "ranks by a pattern without an end": edit(rank_pattern={"(.*)*(.*)*x": 2}),
    "ranks of a list": edit(rank_pattern=[1]),
    "ranks of nan": edit(rank_pattern={"q_proj": float("nan")}),
    "alphas of nan": edit(alpha_pattern={"q_proj": float("nan")}),
    "alphas of a list": edit(alpha_pattern=[1]),
    "an alpha of nan": edit(lora_alpha=float("nan")),
    "an alpha of 400 digits": edit(lora_alpha=10**400),
    "an alpha in words": edit(lora_alpha="x"),
    "an alpha of null": edit(lora_alpha=None),
    "rank 0": edit(r=0),
    "rank -1": edit(r=-1),
    "rank in words": edit(r="x"),
    "a rank of 400 digits": edit(r=10**400),
    "a rank of 10^9": edit(r=10**9),
    "layers by half a pattern": edit(layers_to_transform=[0], layers_pattern="("),
    "dropout of 5": edit(lora_dropout=5),
    "a bias of nobody": edit(bias="evil"),
    "a start of nobody": edit(init_lora_weights="evil"),
    "a key of nobody": edit(evil=1),
    "a kind of a list": edit(peft_type=["LORA"]),
    "a task of a list": edit(task_type=["CAUSAL_LM"]),
}
"""What is wrong with an adapter -> how to make it so."""


def adapter(bench: Bench) -> Path:
    """A good one on the policy."""
    folder = bench.folder / "adapter"
    folder.mkdir()
    start = "base_model.model.model.layers"
    weights = {f"{start}.{layer}.self_attn.q_proj.lora_{side}.weight": torch.full(shape, 0.01)
               for layer in range(2) for side, shape in (("A", (2, 32)), ("B", (32, 2)))}
    save_file(weights, folder / "adapter_model.safetensors", {"format": "pt"})
    put(CONFIG, json.dumps({"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": str(bench.small.sft), "r": 2,
                            "lora_alpha": 4, "target_modules": ["q_proj"]}))(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(bench.small.sft / name, folder)
    return folder


def doors(bench: Bench, folder: Path, number: int) -> Call:
    """Merged, or as a role to train on, by turns. What opens all the same may be used."""
    trained = ["sft", f"model.policy={folder}", f'data.files=["{bench.small.demonstrations}"]', "train.max_steps=1", "train.epochs=null",
               "train.batch_size=4", "lora.rank=2", "--run-dir", bench.out / "run", "-q"]
    merged = ["chat", folder, "--prompt", "where is cat 1?", "--max-tokens", "3", "-q"]
    return Call((merged, trained)[number % 2], (0, 1, 2))


def cases() -> Iterator[tuple[Case, bool]]:
    for number, (name, damage) in enumerate(ADAPTERS.items()):

        def make(bench: Bench, damage: Damage = damage, number: int = number) -> Sequence[Call]:
            folder = adapter(bench)
            damage(folder)
            return [doors(bench, folder, number)]

        yield Case(f"adapter: {name}", make), False
