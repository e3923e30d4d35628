"""Raise a language model from raw text to an assistant people prefer, with the people in the loop.

`train` and the names below are the Python door (docs/python.md). Importing this package imports nothing heavy; they open when used.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tutelage.base.config import RunConfig
    from tutelage.base.errors import TutelageError
    from tutelage.recipes.contrast import ContrastConfig
    from tutelage.recipes.door import train
    from tutelage.recipes.evaluate import EvaluateConfig
    from tutelage.recipes.pipeline import PipelineConfig
    from tutelage.recipes.ppo import PPOConfig
    from tutelage.recipes.pretrain import PretrainConfig
    from tutelage.recipes.reward_model import RewardConfig
    from tutelage.recipes.sample import SampleConfig
    from tutelage.recipes.sft import SFTConfig

__version__ = "0.1.0"
__all__ = ["ContrastConfig", "EvaluateConfig", "PPOConfig", "PipelineConfig", "PretrainConfig", "RewardConfig", "SFTConfig", "SampleConfig",
           "TutelageError", "train"]

_HOME = {
    "ContrastConfig": "recipes.contrast", "EvaluateConfig": "recipes.evaluate", "PPOConfig": "recipes.ppo",
    "PipelineConfig": "recipes.pipeline", "PretrainConfig": "recipes.pretrain", "RewardConfig": "recipes.reward_model",
    "SFTConfig": "recipes.sft", "SampleConfig": "recipes.sample", "TutelageError": "base.errors",
}
"""Where the names of this package come from."""


class _Train(ModuleType):
    """The room `tutelage.train`, which can also be called: importing anything from it puts it where a function of that name would be."""

    def __call__(self, config: RunConfig | Mapping[str, Any] | str | Path, *, resume: bool = False, **inputs: Any) -> dict[str, Any]:
        """Run one verb, or a whole pipeline, as the command line would. Returns its result, as --json prints it.

        Args:
            config: a config object, such as SFTConfig(…); or its settings as a mapping, with the verb under "verb"; or the path of a YAML
                or TOML file that says `verb:`, holds a pipeline's `stages:`, or lies in a run directory.
            resume: go on with an interrupted run; of a finished one, return the result.
            inputs: what the verb's function takes beside its config, such as `reward` of ppo: a function (prompts, completions) -> scores.
        Raises: TutelageError, with what was found as its text and what to do as its `hint`. A run stopped by a signal has saved before.
        """
        from tutelage.recipes.door import train

        return train(config, resume=resume, **inputs)


if not TYPE_CHECKING:
    train = import_module("tutelage.train")                          # its own file holds nothing but a docstring
    train.__class__ = _Train


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"tutelage.{_HOME[name]}"), name)
    raise AttributeError(f"module 'tutelage' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
