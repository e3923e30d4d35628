"""A run, checkpoint or adapter as one plain Hugging Face folder that needs nothing beside it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from tutelage.base.errors import ConfigError
from tutelage.base.files import artifact_dir, folder_digest
from tutelage.base.log import get_logger
from tutelage.models.folders import is_scored
from tutelage.models.heads import ScoredModel
from tutelage.models.peft_folders import adapter_base, is_adapter
from tutelage.models.policy import open_policy, resolve_model, save_policy
from tutelage.text.tokenizer import open_tokenizer

log = get_logger()
MAX_LICENCE_BYTES = 1_000_000
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}


def export_model(source: str | Path, out: str | Path, *, dtype: str = "float32") -> dict[str, Any]:
    """Write the policy or reward model in `source` to the folder `out`, an adapter merged into its base.

    dtype: float32 or bf16, of the weights on disk; adapters are merged in float32 either way.
    Returns: path, kind and number of parameters. Raises: ConfigError when `out` holds something, ArtifactError when there is no model.
    """
    folder, out = resolve_model(source), Path(out)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ConfigError(f"{out} is there already", hint="name a new folder")
    tokenizer, base = open_tokenizer(folder), adapter_base(folder)
    scored = is_scored(folder)
    model = ScoredModel.open(folder, tokenizer=tokenizer) if scored else open_policy(folder, tokenizer=tokenizer)
    network = model.model if isinstance(model, ScoredModel) else model
    network.to(DTYPES[dtype])                                       # type: ignore[arg-type]  # not the shift: it is no weight
    with artifact_dir(out) as fresh:
        if isinstance(model, ScoredModel):
            model.save(fresh, tokenizer)
        else:
            save_policy(model, tokenizer, fresh)
        _copy_licences(base, fresh)
        made_of = f"- adapter: {folder} (sha256 {folder_digest(folder)})\n" if is_adapter(folder) else ""
        (fresh / "README.md").write_text(f"# {out.name}\n\nA {'reward model' if scored else 'causal language model'}, exported by tutelage "
                                         f"in {dtype}.\n\n- base: {base}\n{made_of}", encoding="utf-8")
    return {"path": str(out), "kind": "reward model" if scored else "policy", "parameters": sum(p.numel() for p in network.parameters()),
            "dtype": dtype, "merged": is_adapter(folder)}


def _copy_licences(base: Path, out: Path) -> None:
    """The licence files of a model, and those in its LICENSES/. Not what only looks like one: a link out of it, a device, a film.

    A hub's cache keeps every file behind a link of the model's own repository; that of a licence leads to a text of some kilobytes there.
    """
    cached = base.parent.name == "snapshots" and base.parents[1].name.startswith("models--")
    repository = (base.parents[1] if cached else base).resolve()
    for found in sorted((*base.glob("LICEN[CS]E*"), *base.glob("NOTICE*"), *base.glob("LICENSES/*"))):
        if not found.resolve().is_relative_to(repository) or not found.is_file():
            if not found.is_dir():
                log.warning("%s is not copied: it is no file of the model's own", found)
        elif found.stat().st_size > MAX_LICENCE_BYTES:
            log.warning("%s is not copied: %d bytes are no licence", found, found.stat().st_size)
        else:
            target = out / found.relative_to(base)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(found, target)
