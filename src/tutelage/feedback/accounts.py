"""Who may come in: invite links, passwords, sessions, API tokens, roles. The store keeps only hashes of what opens a door.

Links, session keys and API tokens are 256 random bits, so a plain SHA-256 of them is safe to keep. Passwords are argon2id; a hash takes
tens of milliseconds and 64 MiB, so it is made outside a write, by at most two threads at once. Times are UTC seconds.
"""

from __future__ import annotations

import hashlib
import math
import secrets
import threading
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, and_, func, insert, or_, select, update

from tutelage.base.errors import TutelageError

from . import queue
from .content import add_labeler
from .schema import ROLES, Row, api_tokens, invites, labelers, sessions

if TYPE_CHECKING:
    from argon2 import PasswordHasher

MIN_PASSWORD_CHARS = 10
MAX_PASSWORD_CHARS = 500
MAX_NAME_CHARS = 60
FREE_FAILURES = 5
"""Wrong passwords in a row before an account is locked; each one more doubles the wait, from a minute up to an hour."""
SESSION_SECONDS = 14 * 86400.0
INVITE_SECONDS = 3 * 86400.0
SCOPES = ("judgements:read", "tasks:write", "scores:write")
"""What an API token can be for."""
_COMMON = frozenset("password12 passwordpassword 1234567890 12345678910 0123456789 qwertyuiop iloveyou12 letmein123 adminadmin "
                    "aaaaaaaaaa 1111111111 0000000000 correcthorse trustno1trustno1".split())
_ADMIN = (labelers.c.role == "admin", labelers.c.disabled_at.is_(None), labelers.c.password_hash.is_not(None))
"""Of an admin who can sign in: whom a file named has no password."""
_MAKES_TOKENS = ROLES[ROLES.index("lead"):]
"""Who may do on the pages what every scope allows; a token of somebody who no longer may opens nothing."""
_hashing = threading.BoundedSemaphore(2)


class AccountError(TutelageError):
    """A door stays shut: a link that is used up, a password that is wrong or too easy, a name that is taken."""


@dataclass(frozen=True, slots=True)
class Session:
    """A signed-in person, as one request sees them."""

    id: int
    labeler_id: int
    name: str
    role: str
    language: str
    settings: dict[str, Any]
    csrf_token: str
    created_at: float
    last_seen_at: float

    def may(self, role: str) -> bool:
        """Whether this person has `role` or one above it (labeler < expert < lead < admin)."""
        return ROLES.index(self.role) >= ROLES.index(role)


def digest(token: str) -> str:
    """What the store keeps of a link, session key or API token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


# Passwords -------------------------------------------------------------------------------------------------------------------------------


def hash_password(password: str, *, name: str = "") -> str:
    """argon2id of a password that passes the rules. Raises: AccountError that says which rule it breaks."""
    if len(password) < MIN_PASSWORD_CHARS:
        raise AccountError(f"the password has {len(password)} characters",
                           hint=f"choose one of {MIN_PASSWORD_CHARS} or more; a sentence is fine")
    if len(password) > MAX_PASSWORD_CHARS:
        raise AccountError(f"the password has {len(password)} characters", hint=f"choose one of at most {MAX_PASSWORD_CHARS}")
    if password.casefold() in _COMMON or len(set(password)) < 4 or (name and password.casefold() == name.casefold()):
        raise AccountError("that password is easily guessed", hint="choose another; a sentence of your own is fine")
    with _hashing:
        return _hasher().hash(_normal(password))


def password_matches(password_hash: str | None, password: str) -> bool:
    """Whether this is the password that was hashed. Takes as long where there is no hash: time does not tell who has an account."""
    from argon2.exceptions import InvalidHashError, VerificationError

    if len(password) > MAX_PASSWORD_CHARS:
        return False
    with _hashing:
        try:
            return _hasher().verify(password_hash or _nobodys_hash(), _normal(password)) and password_hash is not None
        except (VerificationError, InvalidHashError):
            return False


@cache
def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher

    return PasswordHasher()


@cache
def _nobodys_hash() -> str:
    return _hasher().hash(secrets.token_urlsafe())


def _normal(password: str) -> str:
    """The same password typed on another keyboard or system."""
    return unicodedata.normalize("NFKC", password)


# Invites ---------------------------------------------------------------------------------------------------------------------------------


def make_invite(conn: Connection, *, role: str, now: float, by: int | None = None, group: str | None = None, held_out: bool = False,
                seconds: float = INVITE_SECONDS) -> str:
    """A link's token, which makes one account of this role, once, until it expires. Only its hash is kept."""
    if role not in ROLES:
        raise AccountError(f"no role {role!r}", hint=f"one of {', '.join(ROLES)}")
    token = secrets.token_urlsafe(32)
    conn.execute(insert(invites).values(token_hash=digest(token), role=role, group=group, held_out=held_out, created_by=by,
                                        created_at=now, expires_at=now + seconds))
    return token


def first_admin_invite(conn: Connection, *, now: float) -> str | None:
    """A link for the first admin, or None where there is one. An earlier such link that nobody used is revoked: it may have been lost."""
    if conn.scalar(select(func.count()).select_from(labelers).where(*_ADMIN)):
        return None
    conn.execute(update(invites).where(invites.c.created_by.is_(None), invites.c.role == "admin", invites.c.used_at.is_(None),
                                       invites.c.revoked_at.is_(None)).values(revoked_at=now))
    return make_invite(conn, role="admin", now=now, seconds=86400.0)


def open_invite(conn: Connection, token: str, *, now: float) -> Row:
    """The invite of a link. Raises: AccountError when it is unknown, used, revoked or expired."""
    row = conn.execute(select(invites).where(invites.c.token_hash == digest(token))).mappings().first()
    hint = "ask the person who sent it for a new one"
    if row is None or row["revoked_at"] is not None:
        raise AccountError("this invite link is not valid", hint=hint)
    if row["used_at"] is not None:
        raise AccountError("this invite link was used already", hint="if it was you, sign in; otherwise " + hint)
    if row["expires_at"] <= now:
        raise AccountError("this invite link has expired", hint=hint)
    return dict(row)


def accept_invite(conn: Connection, token: str, *, name: str, password_hash: str, language: str, now: float) -> int:
    """Make the account a link stands for. Returns the labeler's id. Raises: AccountError; the link then still works."""
    invite = open_invite(conn, token, now=now)
    labeler_id = add_account(conn, name=name, role=invite["role"], password_hash=password_hash, language=language, now=now,
                             group=invite["group"], held_out=invite["held_out"])
    # Of two who open the link at the same moment, in two processes, the second changes no row.
    used = conn.execute(update(invites).where(invites.c.id == invite["id"], invites.c.used_at.is_(None))
                        .values(used_at=now, used_by=labeler_id))
    if used.rowcount != 1:
        raise AccountError("this invite link was used already", hint="ask the person who sent it for a new one")
    return labeler_id


def add_account(conn: Connection, *, name: str, role: str, password_hash: str, now: float, language: str = "en",
                group: str | None = None, held_out: bool = False) -> int:
    """A person who can sign in. Returns their id. Raises: AccountError for a name that cannot be used or is taken."""
    name = clean_name(name)
    if _named(conn, name) is not None:
        raise AccountError(f"the name {name} is taken", hint="choose another")
    return add_labeler(conn, name=name, role=role, group=group, held_out=held_out, language=language, password_hash=password_hash, now=now)


def clean_name(name: str) -> str:
    """A name as it is kept: composed, single spaces. Raises: AccountError for an empty, long or invisible one."""
    name = " ".join(unicodedata.normalize("NFKC", name).split())
    if not name or len(name) > MAX_NAME_CHARS:
        raise AccountError("the name is empty" if not name else f"the name has {len(name)} characters",
                           hint=f"choose one of 1 to {MAX_NAME_CHARS} characters; a pseudonym is fine")
    odd = next((c for c in name if unicodedata.category(c)[0] == "C"), None)
    if odd is not None:
        raise AccountError(f"the name holds an invisible character (U+{ord(odd):04X})", hint="type the name again by hand")
    return name


def _named(conn: Connection, name: str) -> int | None:
    """Whose name it is, whatever its case: an account's, before somebody's whom a file named. SQLite's lower() knows ASCII only."""
    wanted = " ".join(unicodedata.normalize("NFKC", name).split()).casefold()
    rows = conn.execute(select(labelers.c.id, labelers.c.name).order_by(labelers.c.password_hash.is_(None), labelers.c.id))
    return next((row.id for row in rows if row.name.casefold() == wanted), None)


def list_invites(conn: Connection) -> list[Row]:
    """All invites, newest first, without their hashes."""
    columns = [c for c in invites.c if c.name != "token_hash"]
    return [dict(row) for row in conn.execute(select(*columns).order_by(invites.c.id.desc())).mappings()]


def revoke_invite(conn: Connection, invite_id: int, *, now: float) -> bool:
    """Whether an open invite was closed."""
    return conn.execute(update(invites).where(invites.c.id == invite_id, invites.c.used_at.is_(None), invites.c.revoked_at.is_(None))
                        .values(revoked_at=now)).rowcount == 1


# Signing in ------------------------------------------------------------------------------------------------------------------------------


def find_login(conn: Connection, name: str, *, now: float) -> Row | None:
    """{id, password_hash} of an account that may sign in, by name. Raises: AccountError while it is locked."""
    columns = (labelers.c.id, labelers.c.password_hash, labelers.c.locked_until)
    row = conn.execute(select(*columns).where(labelers.c.id == _named(conn, name), labelers.c.disabled_at.is_(None),
                                              labelers.c.erased_at.is_(None))).mappings().first()
    if row is not None and row["locked_until"] is not None and row["locked_until"] > now:
        minutes = math.ceil((row["locked_until"] - now) / 60)
        raise AccountError("too many wrong passwords: this account is locked", hint=f"try again in {minutes} minutes" if minutes > 1
                           else "try again in a minute")
    return dict(row) if row is not None else None


def try_login(conn: Connection, name: str, *, now: float) -> Row | None:
    """`find_login`, and the try counted as a wrong one before its password is hashed: of many at once no more are tried than one by one."""
    account = find_login(conn, name, now=now)
    if account is not None:
        note_login(conn, account["id"], succeeded=False, now=now)
    return account


def note_login(conn: Connection, labeler_id: int, *, succeeded: bool, now: float) -> None:
    """Count a wrong password, locking the account for longer and longer, or forget the wrong ones after a right one."""
    if succeeded:
        conn.execute(update(labelers).where(labelers.c.id == labeler_id).values(failed_logins=0, locked_until=None))
        return
    failed = conn.execute(update(labelers).where(labelers.c.id == labeler_id).values(failed_logins=labelers.c.failed_logins + 1)
                          .returning(labelers.c.failed_logins)).scalar_one()
    if failed >= FREE_FAILURES:
        wait = min(3600.0, 60.0 * 2.0 ** min(failed - FREE_FAILURES, 6))
        conn.execute(update(labelers).where(labelers.c.id == labeler_id).values(locked_until=now + wait))


def set_password(conn: Connection, labeler_id: int, password_hash: str, *, now: float, keep: int | None = None) -> None:
    """A new password; it signs the person out everywhere but in the session `keep`."""
    conn.execute(update(labelers).where(labelers.c.id == labeler_id)
                 .values(password_hash=password_hash, failed_logins=0, locked_until=None))
    revoke_sessions(conn, labeler_id, now=now, keep=keep)


# Sessions --------------------------------------------------------------------------------------------------------------------------------


def open_session(conn: Connection, labeler_id: int, *, now: float, user_agent: str | None = None) -> str:
    """Sign a person in. Returns the key for their cookie."""
    key = secrets.token_urlsafe(32)
    conn.execute(insert(sessions).values(token_hash=digest(key), labeler_id=labeler_id, csrf_token=secrets.token_hex(32),
                                         user_agent=(user_agent or "")[:200], created_at=now, last_seen_at=now,
                                         expires_at=now + SESSION_SECONDS))
    return key


def find_session(conn: Connection, key: str, *, now: float) -> Session | None:
    """Who a cookie's key stands for; None when it is unknown, revoked or expired, or its owner is disabled."""
    row = conn.execute(
        select(sessions.c.id, sessions.c.labeler_id, labelers.c.name, labelers.c.role, labelers.c.language, labelers.c.settings,
               sessions.c.csrf_token, sessions.c.created_at, sessions.c.last_seen_at)
        .join(labelers, labelers.c.id == sessions.c.labeler_id)
        .where(sessions.c.token_hash == digest(key), sessions.c.revoked_at.is_(None), sessions.c.expires_at > now,
               labelers.c.disabled_at.is_(None), labelers.c.erased_at.is_(None))).mappings().first()
    return None if row is None else Session(**row)


def note_seen(conn: Connection, session_id: int, *, now: float) -> None:
    """A session was used."""
    conn.execute(update(sessions).where(sessions.c.id == session_id).values(last_seen_at=now))


def list_sessions(conn: Connection, *, now: float, labeler_id: int | None = None) -> list[Row]:
    """Sessions that are open now, of one person or of everybody, last used first; no keys."""
    query = (select(sessions.c.id, sessions.c.labeler_id, labelers.c.name, sessions.c.user_agent, sessions.c.created_at,
                    sessions.c.last_seen_at, sessions.c.expires_at)
             .join(labelers, labelers.c.id == sessions.c.labeler_id)
             .where(sessions.c.revoked_at.is_(None), sessions.c.expires_at > now).order_by(sessions.c.last_seen_at.desc()))
    if labeler_id is not None:
        query = query.where(sessions.c.labeler_id == labeler_id)
    return [dict(row) for row in conn.execute(query).mappings()]


def revoke_session(conn: Connection, session_id: int, *, now: float, labeler_id: int | None = None) -> bool:
    """Whether an open session was closed; `labeler_id`: only if it is this person's."""
    mine = sessions.c.labeler_id == labeler_id if labeler_id is not None else sessions.c.id == session_id
    return conn.execute(update(sessions).where(sessions.c.id == session_id, mine, sessions.c.revoked_at.is_(None))
                        .values(revoked_at=now)).rowcount == 1


def revoke_sessions(conn: Connection, labeler_id: int, *, now: float, keep: int | None = None) -> int:
    """Sign a person out everywhere, but in the session `keep`. Returns how many were open."""
    others = sessions.c.id != keep if keep is not None else sessions.c.id.is_not(None)
    return conn.execute(update(sessions).where(and_(sessions.c.labeler_id == labeler_id, others, sessions.c.revoked_at.is_(None)))
                        .values(revoked_at=now)).rowcount


# People ----------------------------------------------------------------------------------------------------------------------------------


def list_people(conn: Connection) -> list[Row]:
    """Everybody, by name; no hashes, but has_account: whether they can sign in, as those whom a file named cannot."""
    columns = [*(c for c in labelers.c if c.name != "password_hash"), labelers.c.password_hash.is_not(None).label("has_account")]
    return [dict(row) for row in conn.execute(select(*columns).order_by(func.lower(labelers.c.name))).mappings()]


def set_role(conn: Connection, labeler_id: int, role: str) -> None:
    """Give a person another role. Raises: AccountError for an unknown role, and rather than leave the studio without an admin."""
    if role not in ROLES:
        raise AccountError(f"no role {role!r}", hint=f"one of {', '.join(ROLES)}")
    if role != "admin":
        check_another_admin(conn, labeler_id)
    conn.execute(update(labelers).where(labelers.c.id == labeler_id).values(role=role))


def disable(conn: Connection, labeler_id: int, *, now: float) -> None:
    """Shut a person out at once: no session, token or password of theirs works any more, and what they hold goes to others. What they
    judged stays."""
    check_another_admin(conn, labeler_id)
    conn.execute(update(labelers).where(labelers.c.id == labeler_id, labelers.c.disabled_at.is_(None)).values(disabled_at=now))
    queue.revoke(conn, labeler_id, now=now)
    revoke_sessions(conn, labeler_id, now=now)
    conn.execute(update(api_tokens).where(api_tokens.c.labeler_id == labeler_id, api_tokens.c.revoked_at.is_(None)).values(revoked_at=now))


def enable(conn: Connection, labeler_id: int) -> None:
    """Let a person in again, who must sign in anew."""
    conn.execute(update(labelers).where(labelers.c.id == labeler_id).values(disabled_at=None, failed_logins=0, locked_until=None))


def set_setting_of(conn: Connection, labeler_id: int, **changes: Any) -> None:
    """Change some of a person's own settings; None takes one away."""
    current = conn.scalar(select(labelers.c.settings).where(labelers.c.id == labeler_id)) or {}
    merged = {key: value for key, value in {**current, **changes}.items() if value is not None}
    conn.execute(update(labelers).where(labelers.c.id == labeler_id).values(settings=merged))


def set_language(conn: Connection, labeler_id: int, language: str) -> None:
    conn.execute(update(labelers).where(labelers.c.id == labeler_id).values(language=language))


def check_another_admin(conn: Connection, labeler_id: int) -> None:
    """Raises: AccountError where this is the only admin who can sign in."""
    admins = set(conn.scalars(select(labelers.c.id).where(*_ADMIN)))
    if admins == {labeler_id}:
        raise AccountError("this is the only admin", hint="make somebody else an admin first")


# API tokens ------------------------------------------------------------------------------------------------------------------------------


def make_api_token(conn: Connection, labeler_id: int, *, name: str, scopes: Sequence[str], now: float, seconds: float | None = None) -> str:
    """A key for programs, limited to `scopes`. Returned once; only its hash is kept."""
    wrong = [scope for scope in scopes if scope not in SCOPES]
    if wrong or not scopes:
        raise AccountError(f"no scope {wrong[0]!r}" if wrong else "a token without a scope opens nothing",
                           hint=f"some of {', '.join(SCOPES)}")
    token = "tut_" + secrets.token_urlsafe(32)
    conn.execute(insert(api_tokens).values(token_hash=digest(token), labeler_id=labeler_id, name=clean_name(name),
                                           scopes=sorted(set(scopes)), created_at=now,
                                           expires_at=None if seconds is None else now + seconds))
    return token


def find_api_token(conn: Connection, token: str, *, now: float) -> Row | None:
    """{id, labeler_id, name, scopes, last_seen_at} of a token that is good now, else None."""
    row = conn.execute(
        select(api_tokens.c.id, api_tokens.c.labeler_id, api_tokens.c.name, api_tokens.c.scopes, api_tokens.c.last_seen_at)
        .join(labelers, labelers.c.id == api_tokens.c.labeler_id)
        .where(api_tokens.c.token_hash == digest(token), api_tokens.c.revoked_at.is_(None), labelers.c.disabled_at.is_(None),
               labelers.c.erased_at.is_(None), labelers.c.role.in_(_MAKES_TOKENS),
               or_(api_tokens.c.expires_at.is_(None), api_tokens.c.expires_at > now))).mappings().first()
    return None if row is None else dict(row)


def note_token_seen(conn: Connection, token_id: int, *, now: float) -> None:
    """A token was used."""
    conn.execute(update(api_tokens).where(api_tokens.c.id == token_id).values(last_seen_at=now))


def list_api_tokens(conn: Connection) -> list[Row]:
    """All API tokens, newest first, without their hashes."""
    columns = [c for c in api_tokens.c if c.name != "token_hash"]
    return [dict(row) for row in conn.execute(select(*columns).order_by(api_tokens.c.id.desc())).mappings()]


def revoke_api_token(conn: Connection, token_id: int, *, now: float) -> bool:
    """Whether an open token was closed."""
    return conn.execute(update(api_tokens).where(api_tokens.c.id == token_id, api_tokens.c.revoked_at.is_(None))
                        .values(revoked_at=now)).rowcount == 1
