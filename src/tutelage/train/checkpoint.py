"""Training state on disk: safetensors for tensors, JSON for the rest, never pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tutelage.base.errors import ArtifactError
from tutelage.base.faults import shorten
from tutelage.base.files import read_json_object

OLDER = "resume from an older checkpoint"


@dataclass
class TrainState:
    """What a recipe needs beside its weights to go on as if it had never stopped.

    values: JSON-able numbers (best loss, KL coefficient, running moments); tensors: anything else; optimizers: by name.
    """

    optimizers: Mapping[str, torch.optim.Optimizer] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def save(self, folder: Path, step: int) -> None:
        """Write state.safetensors and state.json into an existing folder."""
        tensors = {f"tensor/{name}": t.contiguous() for name, t in self.tensors.items()}
        for name, optimizer in self.optimizers.items():
            for index, state in optimizer.state_dict()["state"].items():
                for key, value in state.items():
                    tensors[f"optimizer/{name}/{index}/{key}"] = torch.as_tensor(value).detach().clone().contiguous()
        save_file(tensors, folder / "state.safetensors")
        (folder / "state.json").write_text(json.dumps({"step": step, "values": self.values}, indent=1), encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Fill optimizers, values and tensors from a folder `save` wrote. Raises: ArtifactError when it cannot be read."""
        try:
            found: dict[str, dict[int, dict[str, Tensor]]] = {name: {} for name in self.optimizers}
            with safe_open(folder / "state.safetensors", framework="pt") as file:
                for key in file.keys():  # noqa: SIM118 (a safetensors handle is no dict)
                    kind, rest = key.split("/", 1)
                    if kind == "tensor":
                        self.tensors[rest] = file.get_tensor(key).clone()     # out of the mapped file, which may be deleted
                    else:
                        name, index, entry = rest.split("/")
                        found[name].setdefault(int(index), {})[entry] = file.get_tensor(key).clone()
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise ArtifactError(f"training state in {folder} cannot be read: {error}", hint=OLDER) from error
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict({"state": found[name], "param_groups": optimizer.state_dict()["param_groups"]})
        for name, value in saved_values(folder).items():
            start = self.values.get(name)
            if not isinstance(value, (type(start), int, float, dict) if start is None or isinstance(start, float) else type(start)):
                raise ArtifactError(f"training state in {folder} cannot be read: {name} is {shorten(value)}", hint=OLDER)
            self.values[name] = value


def saved_values(folder: Path) -> dict[str, Any]:
    """`values` of the training state saved in a folder. Raises: ArtifactError when it cannot be read."""
    try:
        values = dict(read_json_object(folder / "state.json", hint=OLDER)["values"])
        if not isinstance(values.get("best_step", 0), int):
            raise ValueError(f"best_step is {shorten(values['best_step'])}")
        return values
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"training state in {folder} cannot be read: {error}", hint=OLDER) from error
