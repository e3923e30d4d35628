"""Bring in a file of feedback: what it holds is said first, then it is added, as `tutelage feedback import` does."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from fastapi import APIRouter, Request
from starlette.datastructures import UploadFile
from starlette.responses import Response

from tutelage.base.errors import ConfigError, TutelageError
from tutelage.base.scratch import scratch_dir, sweep
from tutelage.feedback.accounts import Session
from tutelage.feedback.content import record_audit
from tutelage.feedback.io.importing import MOST_LOOKED_AT, Imported, import_files
from tutelage.text.feedback import TaskKind
from tutelage.web.app import Web
from tutelage.web.session import OwnUpload, text_of
from tutelage.web.site import MAX_BODY_BYTES

from .people import Lead

router = APIRouter(prefix="/lead/import")
KINDS = get_args(TaskKind)
SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".jsonl.gz", ".json.gz", ".csv.gz", ".tsv.gz")
UPLOADS = "tutelage-import-"
"""What the folders in the system's temporary one begin with in which a file lies while it is read."""
_SHOWN = 20
_FIELDS = ("as", "columns", "batch", "overlap", "chat", "customers")
_HINTS = (("--column", "import_hint_columns"), ("--as", "import_hint_as"), ("layout=", "import_hint_columns"))
"""What a hint speaks of that is an option of the command, and what to do on the page instead."""


@router.get("")
def choose(request: Request, session: Lead) -> Response:
    """The page to choose a file on."""
    return _page(request, session)


@router.post("")
def bring_in(request: Request, session: Lead, form: OwnUpload) -> Response:
    """Read a file; add what it holds, or only say what that would be. Nothing of it is kept as a file, and the page keeps the choices."""
    web: Web = request.app.state.web
    given, look, entered = form.get("file"), "look" in form, {name: text_of(form, name, 5000) for name in _FIELDS}
    if not isinstance(given, UploadFile) or not given.filename:
        return _page(request, session, 422, entered, error="no file was chosen", hint="choose one")
    name = _name(given.filename)
    if name is None:
        return _page(request, session, 422, entered, error="that is no file of a kind that is read here",
                     hint=f"one of {', '.join(SUFFIXES)}")
    with scratch_dir(Path(tempfile.gettempdir()), UPLOADS) as folder, given.file as sent:
        path = folder / name
        path.write_bytes(sent.read())
        try:
            done = import_files(web.store, path, dry_run=look, **_options(entered))
        except TutelageError as error:
            return _page(request, session, 422, entered, error=str(error).replace(f"{folder}/", ""), hint=error.hint)
    if not done.read:
        return _page(request, session, 422, entered, error=f"{name} holds no row",
                     hint="choose another; a table's first line names its columns")
    if not look:
        web.store.write(lambda conn: record_audit(conn, action="import", now=web.store.now(), actor_id=session.labeler_id, subject=name,
                                                  read=done.read))
    return _page(request, session, entered=entered, done=done, look=look, name=name, reasons=_reasons(done, folder))


def _options(entered: Mapping[str, str]) -> dict[str, Any]:
    """What was entered as options of `import_files`. Raises: ConfigError in the page's words."""
    overlap = entered["overlap"].strip()
    if overlap and not (overlap.isdecimal() and len(overlap) < 5 and int(overlap)):
        raise ConfigError(f"{overlap!r} people for each item", hint="a whole number from 1, or nothing for as many as judged it")
    columns: dict[str, str] = {}
    for line in filter(None, map(str.strip, entered["columns"].split("\n"))):
        ours, equals, theirs = (part.strip() for part in line.partition("="))
        if not (ours and equals and theirs):
            raise ConfigError(f"the column {line!r} is not of the form ours=theirs", hint="for example prompt=question")
        if ours in columns:
            raise ConfigError(f"the column {ours} is mapped twice: to {columns[ours]} and to {theirs}", hint="say each once")
        columns[ours] = theirs
    style = {"prompt_style": "chat"} if entered["chat"] == "yes" else {}
    return style | {
        "to_judge": entered["as"] if entered["as"] in KINDS else None, "columns": columns or None,
        "batch": entered["batch"].strip() or None, "overlap": int(overlap) if overlap else None,
        "source": "customer" if entered["customers"] == "yes" else "import"}


def sweep_uploads() -> None:
    """Delete what a studio that was killed had of a file that was being read: of customers' files nothing in it is masked."""
    sweep(Path(tempfile.gettempdir()), UPLOADS)


def _name(given: str) -> str | None:
    """A file name without anything that could be more than that; None where it does not end as a file that is read."""
    plain = re.sub(r"[^\w.-]", "_", re.split(r"[/\\]", given)[-1])[-60:].lstrip(".")
    return plain if plain.lower().endswith(SUFFIXES) else None


def _reasons(done: Imported, folder: Path) -> list[tuple[str, int, str]]:
    """(why, rows, where the first stands) of what was rejected, most first."""
    found = sorted(done.rejected.items(), key=lambda item: -item[1].rows)[:_SHOWN]
    return [(why.replace(f"{folder}/", ""), reason.rows, reason.lines[0].rpartition("/")[2]) for why, reason in found]


def _page(request: Request, session: Session, status: int = 200, entered: Mapping[str, str] | None = None, **said: Any) -> Response:
    web: Web = request.app.state.web
    known: dict[str, Any] = {"done": None, "look": False, "name": "", "reasons": [], "error": None, "hint": None}
    hint = next((web.words.say(session.language, key) for flag, key in _HINTS if flag in (said.get("hint") or "")), said.get("hint"))
    return web.html(request, "lead_import.html", status, **(known | said | {"hint": hint}), entered=entered or dict.fromkeys(_FIELDS, ""),
                    kinds=KINDS, suffixes=", ".join(SUFFIXES), most=f"{MAX_BODY_BYTES / 1e6:g} MB", most_looked=MOST_LOOKED_AT)
