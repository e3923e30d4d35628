"""The models that are served, and who they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tutelage.base.errors import AuditError
from tutelage.base.files import read_json_object
from tutelage.base.records import Prompt
from tutelage.lineage.ledger import describe_input
from tutelage.models.heads import ScoredModel
from tutelage.models.peft_folders import adapter_base, is_adapter, weights_digest
from tutelage.models.policy import resolve_model
from tutelage.rewards.base import ModelReward
from tutelage.rollout import InProcessEngine
from tutelage.text.chat import encode_prompt, stop_tokens
from tutelage.text.tokenizer import open_tokenizer


@dataclass(frozen=True)
class Identity:
    """Who answered. sha256: of the model folder, as lineage.json names inputs, so an answer leads on to its run and data.

    base_sha256: of the base's configuration and weights where the folder is an adapter. run, verb: the run it lies in and its stage.
    folder: where in the run, or its own name.
    """

    name: str
    kind: Literal["policy", "reward"]
    sha256: str
    folder: str
    base_sha256: str | None = None
    run: str | None = None
    verb: str | None = None

    def to_json(self) -> dict[str, str]:
        """What is known of it."""
        return {key: value for key, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Speaker:
    """A policy that answers. A base model continues raw text."""

    identity: Identity
    engine: InProcessEngine
    tokenizer: Any
    base_model: bool = False
    stop_tokens: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop_tokens", stop_tokens(self.tokenizer))

    def encode(self, prompt: Prompt) -> list[int]:
        """Token ids to answer from; control tokens typed in it stay text. Raises: DataError."""
        return encode_prompt(self.tokenizer, prompt)


@dataclass(frozen=True)
class Judge:
    """A reward model that scores."""

    identity: Identity
    reward: ModelReward

    def scores(self, prompt: Prompt, responses: Sequence[str]) -> list[float]:
        """One number per response. Raises: DataError on what it cannot read, AuditError when a score is no number."""
        found: list[float] = self.reward.score_texts([prompt] * len(responses), responses).tolist()
        if not all(map(math.isfinite, found)):
            raise AuditError(f"the reward model {self.identity.name} gives {found}", hint="serve another checkpoint")
        return found


def open_judge(name: str, path: Path, device: str) -> Judge:
    """The reward model of a folder, checkpoint or run. Raises: ArtifactError when it is none."""
    folder = resolve_model(path)
    tokenizer = open_tokenizer(folder)
    model = ScoredModel.open(folder, device=device, tokenizer=tokenizer)
    return Judge(identify(name, folder, "reward"), ModelReward(model, tokenizer, tokenizer))


def identify(name: str, folder: Path, kind: Literal["policy", "reward"]) -> Identity:
    """The identity of a model folder, which is read whole."""
    found = describe_input(folder)
    base = weights_digest(adapter_base(folder)) if is_adapter(folder) else None
    if "run" not in found:
        return Identity(name, kind, found["sha256"], folder.name, base)
    run = Path(found["run"])
    made_of = read_json_object(run / "lineage.json", hint="restore that file, or serve a copy of the model folder outside the run")
    return Identity(name, kind, found["sha256"], folder.relative_to(run).as_posix(), base, run.resolve().name, str(made_of.get("verb")))
