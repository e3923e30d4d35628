"""Models of the Hugging Face hub, fetched when a person asks for one by name and never otherwise."""

from __future__ import annotations

import re
from pathlib import Path

from tutelage.base.errors import ArtifactError
from tutelage.base.log import get_logger
from tutelage.models.folders import resolve_model

log = get_logger()

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_WANTED = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]


def find_or_fetch(model: str) -> Path:
    """The folder of a model: a path as resolve_model takes it, or a hub name, which is downloaded unless the hub's cache has it.

    Raises: ArtifactError when there is no such model, it is behind terms nobody accepted, or the hub cannot be reached.
    """
    if Path(model).exists() or not _HUB_NAME.fullmatch(model):
        return resolve_model(model)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    log.info("%s is no folder here; asking the hub (what it sends is kept in the hub's cache)", model)
    try:
        folder = snapshot_download(model, allow_patterns=_WANTED, ignore_patterns=["*/*"])
    except GatedRepoError as error:
        raise ArtifactError(f"the hub gives {model} only to those who accepted its terms",
                            hint="accept them on the model's page, then log in: hf auth login") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ArtifactError(f"no model {model}: there is no such folder here and no such name on the hub",
                            hint="check the spelling; a private model needs a login: hf auth login") from error
    except LocalEntryNotFoundError as error:                         # offline, or no route
        raise ArtifactError(f"no folder {model} here, and the hub cannot be reached to look for a model of that name",
                            hint="fetch the model where there is a network, copy its folder here, and give that folder") from error
    except Exception as error:                                       # the hub's HTTP library has kinds of its own; a full disk
        said = str(error).strip().split("\n")[0]
        raise ArtifactError(f"{model} could not be fetched from the hub: {type(error).__name__}: {said}",
                            hint="try again, or fetch the model elsewhere, copy its folder here, and give that folder") from error
    return resolve_model(folder)
