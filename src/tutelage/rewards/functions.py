"""Rewards that are plain Python functions: given by the caller, or named in a config and then run only with permission."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from tutelage.base.errors import AuditError, ConfigError, did_you_mean
from tutelage.base.permission import require_code
from tutelage.base.records import Prompt
from tutelage.rewards.base import check_scores, last_user_text
from tutelage.rollout.batch import Rollout

Function = Callable[[list[str], list[str]], Sequence[float]]


@dataclass
class FunctionReward:
    """Any function of texts: reward(prompts, completions) -> one number each. A prompt is what the person asked last."""

    function: Function
    policy_tokenizer: Any

    def __call__(self, prompts: Sequence[Prompt], rollout: Rollout) -> Tensor:
        name = getattr(self.function, "__name__", type(self.function).__name__)
        try:
            returned = self.function([last_user_text(p) for p in prompts], rollout.texts(self.policy_tokenizer))
        except (Exception, SystemExit) as error:
            raise AuditError(f"the reward function {name} raised {_told(error)}", hint="nothing was updated; -v shows where") from error
        return check_scores(_numbers(returned, name, len(rollout)).to(rollout.tokens.device), prompts, rollout, self.policy_tokenizer,
                            name=f"the reward function {name}")


def load_function(spec: str) -> Function:
    """The function that `module:function` or `file.py:function` names; a file is run, a module imported.

    Raises: ConfigError without permission (tutelage.base.permission), and when it cannot be had or called.
    """
    require_code(f"the reward function {spec}")
    where, _, name = spec.rpartition(":")
    if not where or not name.isidentifier():
        raise ConfigError(f"{spec!r} is not of the form module:function or file.py:function")
    try:
        module = _run_file(Path(where)) if where.endswith(".py") else importlib.import_module(where)
    except (Exception, SystemExit) as error:
        raise ConfigError(f"cannot import {where}: {_told(error)}",
                          hint="a path ends in .py; a module is installed or on PYTHONPATH") from error
    function = getattr(module, name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        raise ConfigError(f"{where} has no function {name}{did_you_mean(name, known)}", hint=f"it has {', '.join(known) or 'none'}")
    try:
        inspect.signature(function).bind([], [])
    except TypeError as error:
        raise ConfigError(f"{spec} cannot be called with (prompts, completions): {error}") from error
    except ValueError:                                              # some callables have no signature to look at
        pass
    return function


def source_of(function: Function) -> Path | str:
    """The file a function was written in, for the lineage; where there is none (a notebook, a built-in) its name.

    The same in every process, because a resumed run must be given what it began with: no address of an object.
    """
    while isinstance(function, functools.partial):
        function = function.func
    written: Any = function if hasattr(function, "__qualname__") else type(function)     # an object that can be called
    code = getattr(function, "__code__", None) or getattr(inspect.getattr_static(written, "__call__", None), "__code__", None)
    path = Path(code.co_filename) if code is not None else None
    return path if path is not None and path.is_file() else f"{written.__module__}.{written.__qualname__}"


def _run_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None             # the name ends in .py
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _numbers(returned: Any, name: str, count: int) -> Tensor:
    """(count,) float32. Raises: AuditError when it is not `count` numbers."""
    hint = "return one number per completion, in order"
    if isinstance(returned, (str, bytes, Mapping)):
        raise AuditError(f"the reward function {name} returned a {type(returned).__name__}, not a list of numbers", hint=hint)
    try:
        values = [float(value) for value in returned]
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise AuditError(f"the reward function {name} did not return numbers: {_told(error)}", hint=hint) from error
    if len(values) != count:
        raise AuditError(f"the reward function {name} returned {len(values)} scores for {count} answers", hint=hint)
    return torch.tensor(values, dtype=torch.float32)


def _told(error: BaseException) -> str:
    """Kind, message and place of an error, on one line."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename != __file__ and "importlib" not in frame.filename]
    place = f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""
    message = " ".join(str(error).split())
    return f"{type(error).__name__}{': ' if message else ''}{message[:160]}{place}"
