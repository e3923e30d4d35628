"""The guidelines people judge by, in versions: none is ever changed or lost, since judgements say under which of them they were given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from .content import clean, record_audit, set_setting, setting
from .errors import ContentError
from .schema import labelers, settings
from .sql import run

NAME = "guidelines"                                                 # the setting with those in force; each version is "guidelines:VERSION"
MAX_CHARS = 50_000
IN_FORCE = {"sqlite": f"(SELECT json_extract(value, '$.version') FROM settings WHERE name = '{NAME}')",
            "postgresql": f"(SELECT value ->> 'version' FROM settings WHERE name = '{NAME}')"}
"""The version in force, as plain SQL by the dialect's name: for statements that must not read the text each time."""


@dataclass(frozen=True)
class Guidelines:
    """One version. text: Markdown; None where none were ever written. at: UTC seconds, by: who saved it; None where nobody noted it."""

    version: str | None = None
    text: str | None = None
    at: float | None = None
    by: str | None = None


def current(conn: Connection) -> Guidelines:
    """Those in force."""
    return _made(conn, setting(conn, NAME, {}))


def version_in_force(conn: Connection) -> str | None:
    """Its name alone, which each assignment keeps for its judgement."""
    name: str | None = run(conn, f"SELECT {IN_FORCE[conn.dialect.name]}").fetchone()[0]
    return name


def version(conn: Connection, name: str) -> Guidelines | None:
    """One version, old or in force; None where there is none of that name."""
    return next((found for found in versions(conn) if found.version == name), None)


def versions(conn: Connection) -> list[Guidelines]:
    """All of them, newest first."""
    kept = conn.scalars(select(settings.c.value).where(settings.c.name.startswith(f"{NAME}:", autoescape=True))).all()
    found = [_made(conn, value) for value in kept]
    now = current(conn)
    if now.version is not None and now.version not in {one.version for one in found}:
        found.append(now)                                           # written by a program, which keeps no versions
    return sorted(found, key=lambda one: (one.at or 0.0, _number(one.version)), reverse=True)


def save(conn: Connection, *, text: str, base: str | None, by_id: int, now: float) -> str:
    """Put a new text in force. base: the version it was written over. Returns its version; the same text again makes none.

    Raises: ContentError when it is empty or too long, or when another version came into force since `base` was read.
    """
    text, before = clean(text).strip(), current(conn)
    if not text:
        raise ContentError("the guidelines are empty", hint="write what labelers should go by")
    if len(text) > MAX_CHARS:
        raise ContentError(f"guidelines of {len(text):,} characters are too long", hint=f"shorten them to {MAX_CHARS:,}")
    if before.version != base:
        raise ContentError(f"version {before.version} was saved while you wrote", hint="compare it with yours below, and save again")
    if before.version is not None and before.text == text:
        return before.version
    if before.version is not None and setting(conn, f"{NAME}:{before.version}") is None:
        set_setting(conn, f"{NAME}:{before.version}", setting(conn, NAME))
    made = str(1 + max((_number(one.version) for one in versions(conn)), default=0))
    for name in (NAME, f"{NAME}:{made}"):
        set_setting(conn, name, {"version": made, "text": text, "at": now, "by": by_id})
    record_audit(conn, action="guidelines", now=now, actor_id=by_id, subject=f"version {made}")
    return made


def _made(conn: Connection, value: dict[str, Any]) -> Guidelines:
    by = value.get("by")
    name = None if by is None else conn.scalar(select(labelers.c.name).where(labelers.c.id == by))
    return Guidelines(value.get("version"), value.get("text"), value.get("at"), name)


def _number(name: str | None) -> int:
    """A version's number; 0 for one that a program named otherwise."""
    return int(name) if name is not None and name.isdecimal() and len(name) < 10 else 0
