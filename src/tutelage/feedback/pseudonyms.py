"""What stands for a person outside the store, and in it once they are erased: keyed hashes, the same ones each time.

The key is drawn once, lies in the store's settings and never leaves it, so that nobody outside can try names.
"""

from __future__ import annotations

import hmac
import secrets

from sqlalchemy import Connection, insert, select

from .schema import settings

_KEY = "export_key"


def key_of_store(conn: Connection) -> str:
    """The store's key, drawn at the first call."""
    found = conn.scalar(select(settings.c.value).where(settings.c.name == _KEY))
    if found is None:
        conn.execute(insert(settings).values(name=_KEY, value=(found := secrets.token_hex(16))))
    return str(found)


def pseudonym(name: str, key: str | None) -> str:
    """What stands for a person outside; their name where there is no key."""
    return name if key is None else f"person-{_digest(name, key)[:12]}"


def tombstone(what: str, name: str, key: str) -> str:
    """By what something erased is known again. what: "labeler", "user", or "prompt", whose name is its hash."""
    return _digest(f"{what}\0{name}", key)


def _digest(text: str, key: str) -> str:
    return hmac.digest(bytes.fromhex(key), text.encode("utf-8", "surrogatepass"), "sha256").hex()
