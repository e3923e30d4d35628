"""Adapter folders as the peft library writes them: what they hold, which base they belong to, and how they become whole models."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from tutelage.base.errors import ArtifactError, listed
from tutelage.base.files import read_json_object, sha256_file
from tutelage.base.limit import cpu_limit

CONFIG, WEIGHTS, OURS = "adapter_config.json", "adapter_model.safetensors", "tutelage.json"
_PLAIN = re.compile(r"[\w.-]*")
_PATTERN_SECONDS = 5.0
"""Of processor time for all patterns of an adapter on all names of its base, which are done in a tenth of one."""


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and not a whole model."""
    return (folder / CONFIG).is_file()


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """adapter_config.json, with `score_shift` and `base_sha256` from our own file beside it (0 and None in other people's folders).

    Raises: ArtifactError when it is damaged, of another kind than LoRA, or its weights are pickled.
    """
    hint = "copy the folder again, or use an earlier checkpoint"
    try:
        raw = read_json_object(folder / CONFIG, hint=hint)
        ours = read_json_object(folder / OURS, hint=hint) if (folder / OURS).is_file() else {}
        kind, base = raw["peft_type"], raw["base_model_name_or_path"]
        found = {**raw, "base_model_name_or_path": str(base), "score_shift": _number("score_shift", ours.get("score_shift", 0.0)),
                 "base_sha256": ours.get("base_sha256")}
        for name, value in (("lora_alpha", raw.get("lora_alpha", 1)), *(raw.get("alpha_pattern") or {}).items()):
            _number(name, value)
    except (ArtifactError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = str(error) if isinstance(error, ArtifactError | ValueError) else f"{type(error).__name__}: {error}"
        raise ArtifactError(f"{folder} is a damaged adapter: {why[:300]}", hint=hint) from error
    if kind != "LORA":
        raise ArtifactError(f"{folder} is an adapter of type {kind}", hint="only LoRA is known here; merge it with the peft library first")
    if not (folder / WEIGHTS).is_file():
        raise ArtifactError(f"{folder} has no {WEIGHTS}", hint="pickled adapters can run code when opened; save it as safetensors")
    return found


def _number(name: str, value: object) -> float:
    """Raises: ValueError for what is none, or infinite: it would be multiplied into every weight."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e30:
        raise ValueError(f"{name} is {str(value)[:40]}, not a number")
    return float(value)


def adapter_base(folder: Path, *, verify: bool = False) -> Path:
    """The whole model's folder that an adapter stands on; a whole model's folder is its own.

    verify: read the base whole, to be sure that the adapter was trained on it (ours say on what; other people's do not).
    Raises: ArtifactError when the base is not there, is an adapter itself, or is another one.
    """
    if not is_adapter(folder):
        return folder
    raw = read_adapter_config(folder)
    base = Path(raw["base_model_name_or_path"])
    if is_adapter(base):                                            # perhaps this one, or one that stands on this one
        raise ArtifactError(f"{folder} cannot be opened: its base is an adapter itself ({base})",
                            hint=f"merge that one first (tutelage export), or name a whole model in {folder / CONFIG}")
    if not (base / "config.json").is_file():
        raise ArtifactError(f"{folder} stands on {base}, which is no model folder here",
                            hint=f"put its base there, or name where it is in {folder / CONFIG}: base_model_name_or_path")
    if verify and raw["base_sha256"] not in (None, weights_digest(base)):
        raise ArtifactError(f"{folder} was trained on other weights than {base} holds now", hint="restore that folder as it was")
    return base


def weights_digest(base: Path) -> str:
    """sha256 over a model folder's configuration and weights: what an adapter was trained on, wherever that folder is moved."""
    files = [base / "config.json", *sorted(base.glob("*.safetensors"))]
    return hashlib.sha256("".join(f"{file.name} {sha256_file(file)}\n" for file in files).encode()).hexdigest()


def check_patterns(folder: Path, raw: dict[str, Any], names: Iterable[str]) -> None:
    """Hold the patterns in an adapter's configuration to the names of the modules that PEFT will try them on.

    Raises: ArtifactError for one that is no pattern, or that takes so long that it may have no end (in the main thread only).
    """
    names, pattern = list(names), ""
    try:
        with cpu_limit(_PATTERN_SECONDS):
            for pattern, form in _patterns(raw):
                compiled = re.compile(form.replace("PATTERN", pattern))
                for name in names:
                    compiled.fullmatch(name)
    except (re.error, OverflowError, RecursionError, TimeoutError) as error:
        raise ArtifactError(f"{folder / CONFIG} names modules by a pattern that cannot be used ({listed([pattern])}): {error}",
                            hint="list the modules by name there") from error


def _patterns(raw: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Every name that is more than a name, and what PEFT makes of it (check_target_module_exists and get_pattern_key there)."""
    forms = {"target_modules": "PATTERN", "exclude_modules": "PATTERN", "modules_to_save": r"(^|.*\.)PATTERN($|\..*)",
             "layers_pattern": r"(?:^|.*?\.)PATTERN\.(?P<idx>\d+)\..*",
             "rank_pattern": r"(.*\.)?(PATTERN)$", "alpha_pattern": r"(.*\.)?(PATTERN)$"}
    for key, form in forms.items():
        found = raw.get(key) or ()
        if form == "PATTERN" and not isinstance(found, str):
            continue                                                # a list of these is compared, not matched
        for pattern in [found] if isinstance(found, str) else found:
            if isinstance(pattern, str) and not _PLAIN.fullmatch(pattern):
                yield pattern, form


def open_merged(load: Callable[..., tuple[Any, set[str]]], auto_class: Any, folder: Path, **kwargs: Any) -> tuple[Any, set[str]]:
    """The adapter's base with the adapter merged into it, as `load` (tutelage.models.folders.load_pretrained) opens whole models.

    Returns: (model, names missing from both folders); a head that the adapter brings is not missing. Raises: ArtifactError.
    """
    from peft import LoraConfig, PeftModel, get_peft_model_state_dict

    raw = read_adapter_config(folder)
    if raw.get("task_type") == "SEQ_CLS":
        kwargs["num_labels"] = 1
    model, missing = load(auto_class, adapter_base(folder, verify=True), **kwargs)
    check_patterns(folder, raw, (name for name, _ in model.named_modules()))
    try:
        config = LoraConfig.from_pretrained(str(folder))
        config.task_type = None                                     # PEFT's class for policies refuses models that score
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")                         # about what does not fit, which is an error here
            adapted = PeftModel.from_pretrained(model, str(folder), config=config)
            taken = {name for name in get_peft_model_state_dict(adapted) if ".lora_" in name}
            with safe_open(folder / WEIGHTS, framework="pt") as file:
                saved = {name for name in file.keys() if ".lora_" in name}  # noqa: SIM118 (a safetensors handle is no dict)
            if taken != saved:                                      # PEFT leaves the base as it is there
                raise ValueError(f"{len(saved - taken)} of its {len(saved)} tensors have no place there, {len(taken - saved)} are missing")
            model = adapted.merge_and_unload()
    except (ValueError, RuntimeError, KeyError, TypeError, AttributeError, OverflowError, OSError, SafetensorError) as error:
        raise ArtifactError(f"{folder} does not fit {raw['base_model_name_or_path']}: {' '.join(str(error).split())[:160]}",
                            hint="use the base it was trained on") from error
    model.config.score_shift = raw["score_shift"]
    heads = tuple(f"{name}." for name in raw.get("modules_to_save") or ())
    return model, {name for name in missing if not name.startswith(heads)}
