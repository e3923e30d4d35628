"""What an artifact was made of: content digests of its parents, so that each answer leads back to its data."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from tutelage.base.files import folder_digest, read_json_object, require_file, sha256_file
from tutelage.base.snapshot import check_rows


def describe_run(verb: str, config_text: str, inputs: Mapping[str, Path | str | list[Path]], *, seed: int) -> dict[str, Any]:
    """The content of lineage.json: code, versions, config digest and the digest of every input.

    inputs: name -> a folder, a file, or a list of files; a name that is no path (a hub id) is recorded as it stands.
    """
    return {
        "verb": verb,
        "seed": seed,
        "config_sha256": hashlib.sha256(config_text.encode()).hexdigest(),
        "parents": {name: describe_input(value) for name, value in inputs.items()},
        "code": code_revision(),
        "versions": {name: _version(name) for name in ("tutelage", "torch", "transformers", "tokenizers", "numpy")}
        | {"python": platform.python_version(), "machine": platform.machine()},
    }


def describe_input(value: Path | str | list[Path]) -> Any:
    """Path and sha256 of a file, folder or list of them. What lies inside a run or a snapshot also names it, so a trace can walk on.

    Raises: ArtifactError when a snapshot's rows are not what was frozen, DataError where one of a list, which are data files, is none.
    """
    if isinstance(value, list):
        for file in value:
            require_file(file)
        return [describe_input(v) for v in value]
    path = Path(value)
    if not path.exists():
        return {"name": str(value)}
    run = next((p for p in (path, *path.parents) if (p / "lineage.json").exists()), None)
    sha256 = folder_digest(path) if path.is_dir() else sha256_file(path)
    snapshot = check_rows(path, sha256)
    return {"path": str(path), "sha256": sha256} | ({"run": str(run)} if run else {}) | ({"snapshot": snapshot} if snapshot else {})


def ancestors(run: Path) -> list[dict[str, Any]]:
    """Every run this one was made of, nearest first: {"run", "verb", "parents"}. A lineage file that is gone ends its branch."""
    seen: set[Path] = set()
    queue, found = [Path(run)], []
    while queue:
        folder = queue.pop(0)
        file = folder / "lineage.json"
        if folder.resolve() in seen or not file.exists():
            continue
        seen.add(folder.resolve())
        record = read_json_object(file, hint="restore that file, or make the run again")
        found.append({"run": str(folder), "verb": record.get("verb"), "parents": record.get("parents", {})})
        for parent in found[-1]["parents"].values():
            for entry in parent if isinstance(parent, list) else [parent]:
                if "run" in entry:
                    queue.append(Path(entry["run"]))
    return found


def code_revision() -> dict[str, Any] | None:
    """Commit of the checkout this package runs from and whether it has changes; None when it is installed from a wheel."""
    here = Path(__file__).resolve().parent

    def git(*args: str) -> str:
        return subprocess.run(["git", "-C", str(here), *args], capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        if git("ls-files", "--error-unmatch", str(Path(__file__).resolve())):
            return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        pass
    return None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
