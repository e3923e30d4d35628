"""What a snapshot of judgements looks like on disk: a folder that is never changed, known by the sha256 of its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .errors import ArtifactError
from .files import read_json_object

ROWS, RECORD = "judgements.jsonl", "snapshot.json"
REPORT, DISAGREEMENTS = "report/reward.json", "report/disagreements.jsonl"
"""Where the run of a reward model that learnt from one tells whom it agrees with, and where it is surest that people are wrong."""


def record_of(path: Path) -> dict[str, Any] | None:
    """The record of the snapshot that a folder is, or that a file of rows lies in; None for any other path.

    Raises: ArtifactError when the record is damaged.
    """
    folder = path.parent if path.name == ROWS else path
    if not (folder / RECORD).is_file():
        return None
    record = read_json_object(folder / RECORD, hint="freeze the judgements again: tutelage feedback snapshot")
    if not isinstance(record.get("hash"), str):
        raise ArtifactError(f"{folder / RECORD} names no hash", hint="freeze the judgements again: tutelage feedback snapshot")
    return record


def check_rows(path: Path, sha256: str) -> str | None:
    """The hash of the snapshot that a file of rows lies in, None for any other file.

    sha256: of the file as it is. Raises: ArtifactError when that is not the snapshot's own, so somebody changed it.
    """
    record = record_of(path) if path.name == ROWS else None
    if record is None:
        return None
    if record["hash"] != sha256 and record.get("erased"):
        raise ArtifactError(f"{path} lost {record['erased']} rows since it was frozen, of people who were erased",
                            hint="freeze the judgements again and train from that: tutelage feedback snapshot")
    if record["hash"] != sha256:
        raise ArtifactError(f"{path} is not what was frozen: its sha256 is {sha256[:12]}…, the snapshot's {record['hash'][:12]}…",
                            hint="a snapshot is never edited; freeze the judgements again: tutelage feedback snapshot")
    return str(record["hash"])
