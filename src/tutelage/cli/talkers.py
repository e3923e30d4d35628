"""What `chat` and `serve` share: which model a path means, and opening one that answers."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage.base.errors import ArtifactError
from tutelage.base.files import read_json_object
from tutelage.base.log import get_logger

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = get_logger()

POLICY_VERBS = ("ppo", "sft", "pretrain")
"""Stages that leave a policy, the most finished first."""


@dataclass(frozen=True)
class Talker:
    """A policy and its tokenizer. A base model knows no turns: it continues a text."""

    folder: Path
    policy: PreTrainedModel
    tokenizer: Any
    base_model: bool


def open_talker(folder: Path, device: str) -> Talker:
    """Open the model in a folder, as `find_policy` gives it. Raises: ArtifactError when it writes no answers."""
    from tutelage.models.folders import require_policy
    from tutelage.models.policy import open_policy
    from tutelage.text.tokenizer import open_tokenizer
    from tutelage.train.run import check_device

    check_device(device)
    require_policy(folder)
    tokenizer = open_tokenizer(folder)
    policy = open_policy(folder, device=device, tokenizer=tokenizer)
    base_model = any(_knows_no_turns(parent) for parent in folder.parents)
    log.info("%s: %.1f million parameters%s", folder, policy.num_parameters() / 1e6,
             "; a base model, it continues your text" if base_model else "")
    return Talker(folder, policy, tokenizer, base_model)


def find_policy(path: Path) -> Path:
    """The model folder a path means: as resolve_model, or of a folder of runs the last policy, of ppo, else sft, else pretrain.

    Raises: ArtifactError when there is none.
    """
    from tutelage.models.policy import resolve_model

    runs = [p for p in path.iterdir() if _verb_of(p)] if path.is_dir() and not _verb_of(path) else []
    for verb in POLICY_VERBS:
        # The stage named as its verb first (ppo before its variant ppo_ptx), then the latest.
        for run in sorted((r for r in runs if _verb_of(r) == verb), key=lambda r: (r.name == verb, r.stat().st_mtime), reverse=True):
            with contextlib.suppress(ArtifactError):                # interrupted before its first checkpoint: the stage before it
                return resolve_model(run)
    if runs:
        raise ArtifactError(f"no policy in {path} yet (found {', '.join(sorted(r.name for r in runs))})",
                            hint="finish its pretrain, sft or ppo stage first")
    return resolve_model(path)


def _verb_of(run: Path) -> str | None:
    """The verb whose run lies in a folder; None when it is no run directory."""
    try:
        return str(read_json_object(run / "lineage.json", hint="")["verb"])
    except (ArtifactError, KeyError):
        return None


def _knows_no_turns(run: Path) -> bool:
    """Whether a folder is a pretraining run that never saw the chat template."""
    if _verb_of(run) != "pretrain":
        return False
    from tutelage.base.config import load_config
    from tutelage.recipes.pretrain import PretrainConfig

    return load_config(PretrainConfig, run / "config.yaml", env={})[0].render != "chat"
