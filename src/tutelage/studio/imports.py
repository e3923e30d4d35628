"""Bring in a file of feedback: what it holds is said first, then it is added, as `tutelage feedback import` does."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any, get_args

from fastapi import APIRouter, Request
from starlette.datastructures import UploadFile
from starlette.responses import Response

from tutelage.base.errors import TutelageError
from tutelage.base.scratch import scratch_dir, sweep
from tutelage.feedback.content import record_audit
from tutelage.feedback.io.importing import Imported, import_files
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


@router.get("")
def choose(request: Request, session: Lead) -> Response:
    """The page to choose a file on."""
    return _page(request)


@router.post("")
def bring_in(request: Request, session: Lead, form: OwnUpload) -> Response:
    """Read a file; add what it holds, or only say what that is. Nothing of it is kept as a file."""
    web: Web = request.app.state.web
    given, look, as_kind = form.get("file"), "look" in form, text_of(form, "as", 20)
    source = "customer" if form.get("customers") == "yes" else "import"
    if not isinstance(given, UploadFile) or not given.filename:
        return _page(request, 422, error="no file was chosen", hint="choose one")
    name = _name(given.filename)
    if name is None:
        return _page(request, 422, error="that is no file of a kind that is read here", hint=f"one of {', '.join(SUFFIXES)}")
    with scratch_dir(Path(tempfile.gettempdir()), UPLOADS) as folder, given.file as sent:
        path = folder / name
        path.write_bytes(sent.read())
        try:
            done = import_files(web.store, path, source=source, dry_run=look,
                                to_judge=as_kind if as_kind in KINDS else None)                    # type: ignore[arg-type]
        except TutelageError as error:
            return _page(request, 422, error=str(error).replace(f"{folder}/", ""), hint=error.hint)
    if not look:
        web.store.write(lambda conn: record_audit(conn, action="import", now=web.store.now(), actor_id=session.labeler_id, subject=name,
                                                  read=done.read))
    return _page(request, done=done, look=look, name=name, reasons=_reasons(done, folder))


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


def _page(request: Request, status: int = 200, **said: Any) -> Response:
    web: Web = request.app.state.web
    known: dict[str, Any] = {"done": None, "look": False, "name": "", "reasons": [], "error": None, "hint": None}
    return web.html(request, "lead_import.html", status, **(known | said), kinds=KINDS, suffixes=", ".join(SUFFIXES),
                    most=f"{MAX_BODY_BYTES / 1e6:g} MB")
