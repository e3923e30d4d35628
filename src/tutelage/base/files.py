"""Files that are whole or absent: written aside, fsynced, renamed; folders carry a manifest of sha256."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import ArtifactError, DataError, TutelageError

MANIFEST = "MANIFEST.json"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LEFTOVER = re.compile(r"\.(.+)\.(?:tmp-[0-9a-f]{12}|(tmp|old)-\d+-[0-9a-f]{8})")
"""`atomic_path`'s and `artifact_dir`'s names, as nobody else would choose them."""
_DISK = (*_FULL, errno.EROFS, errno.EIO)


def atomic_write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data`, or leave it as it was. Raises TutelageError naming the path when it cannot be written."""
    with atomic_path(path) as aside:
        aside.write_bytes(data)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to, which takes its place, fsynced, when the block succeeds and is removed when it fails.

    Raises: TutelageError naming `path` when it cannot be written.
    """
    path = Path(path)
    aside = path.with_name(f".{path.name}.tmp-{uuid.uuid4().hex[:12]}")
    if path.exists() and not path.is_file() and not path.is_dir():    # a rename takes the place of devices too, for all who use them
        raise TutelageError(f"cannot write {path}: it is there and no regular file", hint="name a file")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield aside
            fsync(aside)
            os.replace(aside, path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        fsync(path.parent)


def atomic_write_text(path: Path, text: str) -> None:
    """UTF-8 text, whole or not at all; newlines are kept as given."""
    atomic_write_bytes(path, text.encode("utf-8"))


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Any OSError in here, where nothing but `path` is written, becomes a TutelageError that names it."""
    try:
        yield
    except OSError as error:
        raise _write_error(path, error) from error


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """A full, read-only or failing disk while writing `path` becomes a TutelageError that says so, whichever library hit it."""
    try:
        yield
    except TutelageError:
        raise
    except Exception as error:
        # safetensors and torch wrap the system's error into their own, keeping only its words and number.
        number = re.search(r"\(os error (\d+)\)", str(error))
        code = error.errno if isinstance(error, OSError) else int(number[1]) if number else None
        if code in _DISK:
            raise _write_error(path, OSError(code, os.strerror(code))) from error
        raise


@contextmanager
def artifact_dir(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` that takes its place, complete and with MANIFEST.json, when the block succeeds.

    An existing target stays untouched until then; when the block fails the temporary folder is removed. What a process killed
    in here left behind is cleared, and a target it had just moved out of the way put back, by the next call for the same target.
    Where the target is a link, the folder it leads to is written and the link stays.
    """
    target = Path(os.path.realpath(target)) if Path(target).is_symlink() else Path(target)
    if target.exists() and not target.is_dir():
        raise TutelageError(f"cannot write the folder {target}: it is there and no folder", hint="name a folder")
    name = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
    aside, old = target.with_name(f".{target.name}.tmp-{name}"), target.with_name(f".{target.name}.old-{name}")
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _clear_after_killed(target)
        aside.mkdir()
    try:
        with disk_errors(target):
            yield aside
            write_manifest(aside)
            for folder, _, files in os.walk(aside):
                for file in files:
                    fsync(Path(folder, file))
                fsync(Path(folder))
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    if target.exists():
        os.rename(target, old)
    try:
        os.rename(aside, target)
    except BaseException:
        if old.exists():
            os.rename(old, target)
        shutil.rmtree(aside, ignore_errors=True)
        raise
    fsync(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def remove_dir(folder: Path) -> None:
    """Delete a folder so that a process killed in here leaves it whole or gone: it is renamed aside first."""
    aside = folder.with_name(f".{folder.name}.tmp-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    os.rename(folder, aside)
    shutil.rmtree(aside, ignore_errors=True)


def clear_leftovers(folder: Path) -> None:
    """Tidy what killed processes left half-written in a folder. Only for one who knows that nobody else writes there now."""
    for left in list(folder.iterdir()):
        match = _LEFTOVER.fullmatch(left.name)
        if match:
            _clear(left, folder / match[1], "old" if match[2] == "old" else "tmp")


def is_leftover(name: str) -> bool:
    """Whether a file or folder of this name is what `clear_leftovers` takes for half-written."""
    return _LEFTOVER.fullmatch(name) is not None


def write_manifest(folder: Path) -> None:
    """MANIFEST.json: {"files": {relative path: {"sha256", "bytes"}}} of every file in the folder."""
    files = {name: {"sha256": sha256_file(folder / name), "bytes": (folder / name).stat().st_size} for name in _files(folder)}
    atomic_write_text(folder / MANIFEST, json.dumps({"files": files}, indent=1) + "\n")


def verify_manifest(folder: Path) -> None:
    """Hold every file to its sha256. Raises ArtifactError naming the first that is missing or damaged."""
    path = Path(folder) / MANIFEST
    hint = f"delete {folder} and make it again, or resume from an older checkpoint"
    if not path.exists():
        raise ArtifactError(f"{path}: no such file, so {folder} was never finished", hint=hint)
    try:
        files = read_json_object(path, hint=hint)["files"].items()
        expected = [(str(name), str(entry["sha256"]), int(entry["bytes"])) for name, entry in files]
        if any(Path(name).is_absolute() or ".." in Path(name).parts for name, _, _ in expected):
            raise ValueError("names of files elsewhere")
    except (ArtifactError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        raise ArtifactError(f"{path}: damaged, not a manifest", hint=hint) from None
    for name, digest, size in expected:
        file = Path(folder) / name
        try:
            if not file.is_file():
                raise ArtifactError(f"{file}: missing, though {MANIFEST} lists it", hint=hint)
            if file.stat().st_size != size:
                raise ArtifactError(f"{file}: damaged, {file.stat().st_size} bytes where {MANIFEST} says {size}", hint=hint)
            if sha256_file(file) != digest:
                raise ArtifactError(f"{file}: damaged, its sha256 is not the one in {MANIFEST}", hint=hint)
        except OSError as error:
            raise ArtifactError(f"{file}: cannot be read ({error.strerror or error})", hint=hint) from error


def read_json_object(path: Path, *, hint: str) -> dict[str, Any]:
    """The object in a JSON file that a run or a model was left with. Raises: ArtifactError naming the file when it holds anything else."""
    try:
        require_file(Path(path))
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (DataError, OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} cannot be read: {str(error) or type(error).__name__}", hint=hint) from error
    if not isinstance(found, dict):
        raise ArtifactError(f"{path} holds a JSON {type(found).__name__}, not an object", hint=hint)
    return found


def require_file(path: Path) -> None:
    """Raises: DataError for what is there and is no regular file: a pipe is waited for without end, and so is the end of a device."""
    if path.exists() and not path.is_file():
        kind = "a directory" if path.is_dir() else "a pipe or device"
        raise DataError(f"{path} is {kind}, not a file", hint="name the files in a folder, for example with a pattern: 'data/*.jsonl'")


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digest(folder: Path) -> str:
    """Hex sha256 over the names and contents of a folder's files, the manifest left out: the identity of an artifact."""
    digest = hashlib.sha256()
    for name in _files(Path(folder)):
        digest.update(f"{sha256_file(Path(folder) / name)}  {name}\n".encode())
    return digest.hexdigest()


def _files(folder: Path) -> list[str]:
    """Relative names of the files below a folder, sorted, the manifest left out."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in names if name != MANIFEST)


def _clear_after_killed(target: Path) -> None:
    """Tidy what processes that are no more left beside a target."""
    name = re.compile(rf"\.{re.escape(target.name)}\.(tmp|old)-(\d+)-\w+")
    for left in list(target.parent.iterdir()):
        match = name.fullmatch(left.name)
        if match is not None and not _alive(int(match[2])):
            _clear(left, target, match[1])


def _clear(left: Path, target: Path, kind: str) -> None:
    """Delete what was being written; put back what had been moved out of the way for something that never came."""
    if kind == "old" and not target.exists():
        os.rename(left, target)
    elif left.is_dir() and not left.is_symlink():
        shutil.rmtree(left, ignore_errors=True)
    else:
        left.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # someone else's process
        pass
    return True


def fsync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_error(path: Path, error: OSError) -> TutelageError:
    if error.errno in _FULL:
        return _full_error(path)
    return TutelageError(f"cannot write {path}: {error.strerror or error}", hint="choose another place, or make this one writable")


def _full_error(path: Path) -> TutelageError:
    folder = next(p for p in [Path(path), *Path(path).absolute().parents] if p.is_dir())
    free = shutil.disk_usage(folder).free / 1e6
    return TutelageError(f"no room on the disk for {path} ({free:.0f} MB free)",
                         hint="free some space or write elsewhere, then run again, a run with --resume; what was there is untouched")
