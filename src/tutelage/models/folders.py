"""Opening Hugging Face folders: where the model is, and one clear error for everything that can be wrong with it."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tutelage.base.errors import ArtifactError, listed
from tutelage.base.files import read_json_object
from tutelage.base.log import get_logger, quiet
from tutelage.models.peft_folders import adapter_base, is_adapter, open_merged, read_adapter_config

log = get_logger()

_LAYERS = re.compile(r"num_hidden_layers|num_layers|n_layers?")
_WITHOUT_CLASS = {
    "AutoModelForCausalLM": "a policy is a causal language model",
    "AutoModelForSequenceClassification": "take a reward model of another architecture, and critic.kind=shared in PPO",
}


def resolve_model(path: str | Path) -> Path:
    """The model folder meant by a path: that folder itself, a checkpoint (its `model/`, or its policy's or reward model's adapter), or
    a run (the checkpoint `latest` names).

    Raises: ArtifactError naming what was found instead.
    """
    path = Path(path)
    for folder in (path, path / "model", path / "adapters" / "policy", path / "adapters" / "reward"):
        if (folder / "config.json").is_file() or is_adapter(folder):
            return folder
    latest = path / "latest"
    if latest.is_file():
        name = latest.read_text(encoding="utf-8", errors="replace").strip()
        inside = Path(name).parts and "\0" not in name and not Path(name).is_absolute() and ".." not in Path(name).parts
        for checkpoint in (path / name, path / "ckpt" / name) if inside else ():
            if checkpoint.is_dir():
                return resolve_model(checkpoint)
        raise ArtifactError(f"{latest} names {name!r}, which is not there", hint="resume the run, or name one of its checkpoints")
    if not path.exists():
        raise ArtifactError(f"no model at {path}", hint="give a model folder, a checkpoint or a run; download models of a hub first")
    found = ", ".join(sorted(p.name for p in path.iterdir())[:6]) if path.is_dir() else "a file"
    raise ArtifactError(f"no model in {path} (found {found or 'nothing'})", hint="a model folder holds config.json and *.safetensors")


def architectures(folder: Path) -> list[str]:
    """The classes a model's config.json names; none where it names none. Raises: ArtifactError when the file is damaged."""
    config = read_json_object(folder / "config.json", hint="copy the model again: its config.json should be a JSON object")
    named = config.get("architectures")
    return [str(name) for name in named] if isinstance(named, list) else []


def is_scored(path: str | Path) -> bool:
    """Whether the model folder or run holds a reward model (or critic) and not a policy, by the architecture its config names."""
    folder = resolve_model(path)
    if is_adapter(folder):
        return read_adapter_config(folder).get("task_type") == "SEQ_CLS"
    return any(name.endswith("ForSequenceClassification") for name in architectures(folder))


def require_policy(folder: Path) -> None:
    """Raises: ArtifactError for a reward model: with tied embeddings it opens as a language model, which would write noise."""
    if is_scored(folder):
        raise ArtifactError(f"{folder} is a reward model: it scores answers, it does not write any",
                            hint="give the policy of an sft or ppo run")


def load_pretrained(auto_class: Any, folder: Path, *, dtype: torch.dtype, **kwargs: Any) -> tuple[PreTrainedModel, set[str]]:
    """`auto_class.from_pretrained` without remote code, pickles or chatter. Returns the model in eval mode and the names missing from disk.

    An adapter folder is opened as a whole model: its base with the adapter merged into it.

    Raises: ArtifactError, one line, for a folder that is incomplete, damaged, pickled or of an unknown architecture.
    """
    if is_adapter(folder):
        return open_merged(load_pretrained, auto_class, folder, dtype=dtype, **kwargs)
    _check_weights(folder)
    _check_layers(folder)
    try:
        with quiet():
            model, info = auto_class.from_pretrained(folder, dtype=dtype, use_safetensors=True, trust_remote_code=False,
                                                     local_files_only=True, output_loading_info=True, **kwargs)
    except Exception as error:                                       # the library raises many kinds; each means: not with this folder
        if "Unrecognized configuration class" in str(error):
            raise ArtifactError(f"{auto_class.__name__} of transformers does not know the architecture of {folder} ({_model_type(folder)})",
                                hint=_WITHOUT_CLASS.get(auto_class.__name__, "use another architecture")) from error
        hint = "restore the folder from its source, or use another checkpoint"
        if "trust_remote_code" in str(error):
            hint = "code shipped with a model is never run; use an architecture that transformers knows"
        raise ArtifactError(f"cannot open the model in {folder}: {_first_line(error)}", hint=hint) from error
    unused = [name for name in sorted(info["unexpected_keys"]) if name.startswith(f"{model.base_model_prefix}.")]   # the others are heads
    if unused:
        log.warning("%s holds %d weights that its config.json has no place for (%s%s): is it the config of another model?", folder,
                    len(unused), ", ".join(unused[:2]), ", …" if len(unused) > 2 else "")
    turn_off_dropout(model)
    _own_memory(model)
    return model.eval(), set(info["missing_keys"])


def require_complete(folder: Path, missing: set[str]) -> None:
    """Raises: ArtifactError when weights were absent, which transformers would fill with random numbers and a warning."""
    if missing:
        names = ", ".join(sorted(missing)[:3])
        raise ArtifactError(f"{folder} lacks {len(missing)} weights of its architecture ({names}{', …' if len(missing) > 3 else ''})",
                            hint="it was saved from another kind of model, or incompletely")


def fit_vocabulary(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Set the pad id and make every token id of `tokenizer` have an embedding.

    A tokenizer that gained tokens since it was read (a pad token, say) gets rows equal to the mean of the old ones, so the new tokens are
    neither likely nor extreme. A folder whose own tokenizer does not fit its weights is broken.
    Raises: ArtifactError for such a folder, and for a tokenizer without pad token.
    """
    if tokenizer.pad_token_id is None:
        raise ArtifactError(f"the tokenizer for {folder} has no pad token", hint="open it with tutelage.text, which adds one")
    rows, stored = _vocabulary_weights(model)[0].shape[0], _stored_vocabulary(adapter_base(folder))
    if stored > rows:
        raise ArtifactError(f"{folder}: its tokenizer has ids up to {stored - 1}, its model only {rows} embeddings",
                            hint="tokenizer and weights are of different models; restore the folder from its source")
    needed = max(tokenizer.get_vocab().values()) + 1
    if needed > rows:
        with quiet(), torch.no_grad():
            model.resize_token_embeddings(needed, mean_resizing=False)
            for weight in _vocabulary_weights(model):
                weight[rows:] = weight[:rows].mean(0)
        log.info("%s: %d embeddings added for tokens the tokenizer gained (mean of the others)", folder, needed - rows)
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id


def turn_off_dropout(model: nn.Module) -> None:
    """Dropout rates of every module to 0: a policy whose log-probs change from call to call has a ratio that is not 1.

    The configuration is left alone, so a saved model keeps its author's rates.
    """
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in list(vars(module).items()):
            if name.endswith(("dropout", "dropout_p", "dropout_prob")) and isinstance(value, float):   # functional dropout in attention
                setattr(module, name, 0.0)


def _own_memory(model: nn.Module) -> None:
    """Copy weights out of the mapped file, to where torch's allocator puts them.

    A matrix product rounds differently when its operands begin at another offset from a 64-byte line, and in a file that offset hangs
    on the length of its header: a resumed run would drift from one that was never stopped.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()


def _check_weights(folder: Path) -> None:
    shards = sorted(folder.glob("*.safetensors"))
    for index in folder.glob("*.safetensors.index.json"):
        _check_index(index)
    if not shards:
        pickles = sorted(p.name for p in (*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")))
        if pickles:
            raise ArtifactError(f"{folder} holds pickled weights only ({pickles[0]})",
                                hint="pickles can run code when opened; convert them to safetensors")
        raise ArtifactError(f"{folder} has no *.safetensors", hint="the folder is incomplete; save or copy the model again")
    for shard in shards:
        if not shard.is_file():
            raise ArtifactError(f"{shard} is not a file, or a link that leads nowhere", hint="copy the model again, links resolved")
        try:
            with shard.open("rb"), safe_open(shard, framework="pt"):     # safe_open alone takes what it may not read for absent
                pass
        except PermissionError as error:
            raise ArtifactError(f"{shard} may not be read by you", hint="change its permissions") from error
        except (SafetensorError, OSError) as error:
            raise ArtifactError(f"{shard} is damaged: {_first_line(error)} ({shard.stat().st_size:,} bytes)",
                                hint="copy the file again, or use an earlier checkpoint") from error


def _check_index(index: Path) -> None:
    """Raises: ArtifactError when it names files elsewhere: who was given a folder did not agree to what lies beside it."""
    try:
        named = read_json_object(index, hint="copy the model again").get("weight_map")
    except ArtifactError:                                            # whoever needs it will say so; whole weights do not
        return
    for name in named.values() if isinstance(named, dict) else ():
        if isinstance(name, str) and (Path(name).is_absolute() or ".." in Path(name).parts):
            raise ArtifactError(f"{index} names weights outside its folder ({listed([name])})", hint="copy the model again, whole")


def _check_layers(folder: Path) -> None:
    """Raises: ArtifactError for a number of layers that these weights cannot be. A library would build that many before it looks."""
    num_tensors = 0
    for shard in folder.glob("*.safetensors"):
        with safe_open(shard, framework="pt") as file:
            num_tensors += len(file.keys())
    hint = "copy the model again: its config.json should be a JSON object"
    sections = [read_json_object(folder / "config.json", hint=hint)]
    while sections:
        section = sections.pop()
        sections += [value for value in section.values() if isinstance(value, dict)]
        for name, value in section.items():
            if _LAYERS.fullmatch(name) and isinstance(value, int) and not 0 <= value <= num_tensors:
                raise ArtifactError(f"{folder / 'config.json'}: {name} is {value}, and the weights are {num_tensors} tensors",
                                    hint="restore the folder from its source, or use another checkpoint")


def count_parameters(folder: Path) -> int:
    """How many numbers a folder's weights are, from the headers of its files; shared ones count once. Raises: ArtifactError."""
    _check_weights(folder)
    total = 0
    for shard in folder.glob("*.safetensors"):
        with safe_open(shard, framework="pt") as file:
            total += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())
    return total


def _model_type(folder: Path) -> str:
    return str(json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type"))


def _vocabulary_weights(model: PreTrainedModel) -> list[Tensor]:
    """Every parameter with one row per token: the embedding first, then the output layer's where it has its own."""
    layers = [model.get_input_embeddings(), model.get_output_embeddings()]
    found = [getattr(layer, name, None) for layer in layers for name in ("weight", "bias")]
    return list({id(weight): weight for weight in found if weight is not None}.values())


def _stored_vocabulary(folder: Path) -> int:
    """Number of ids the tokenizer saved in the folder may produce; 0 if it holds none."""
    file = folder / "tokenizer.json"
    if not file.is_file():
        return 0
    try:
        return max(Tokenizer.from_file(str(file)).get_vocab(with_added_tokens=True).values(), default=-1) + 1
    except Exception as error:                                      # tokenizers raises bare Exception on a malformed file
        raise ArtifactError(f"{file} is damaged: {_first_line(error)}", hint="copy the file again") from error


def _first_line(error: BaseException) -> str:
    text = re.sub(r"\s+", " ", str(error)).strip() or type(error).__name__
    return text if len(text) <= 200 else text[:199] + "…"
