"""Who is here, for leads; who may come in and as what, for admins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from sqlalchemy import Connection, select
from starlette.responses import Response

from tutelage.base.errors import TutelageError
from tutelage.base.times import utc_time
from tutelage.feedback import accounts
from tutelage.feedback.accounts import AccountError, Session
from tutelage.feedback.content import record_audit
from tutelage.feedback.location import data_folder
from tutelage.feedback.schema import ROLES, labelers
from tutelage.lineage.erasing import erase_person
from tutelage.web.app import Web, go
from tutelage.web.session import OwnForm, at_least, text_of

from .tables import Table, csv_response

router = APIRouter(prefix="/people")
Lead = Annotated[Session, Depends(at_least("lead"))]
Admin = Annotated[Session, Depends(at_least("admin"))]
SHOWN = 200
"""People on the page; a file may have named thousands."""
Id = Annotated[int, Path(ge=1, lt=2**31)]


@router.get("")
def people(request: Request, session: Lead, find: Annotated[str, Query(max_length=200)] = "") -> Response:
    """Those whose name holds `find`, who have an account first; open links, sessions and tokens for admins."""
    return _page(request, session, find=find.strip())


@router.get("/everybody.csv")
def table(request: Request, session: Lead) -> Response:
    """Everybody, also those whom the page has no room for."""
    with request.app.state.web.store.read() as conn:
        rows = accounts.list_people(conn)
    columns = ["name", "role", "group", "held_out", "has_account", "since", "shut_out", "erased"]
    return csv_response(request, session, "people", Table(columns, ([
        row["name"], row["role"], row["group"], row["held_out"], row["has_account"], utc_time(row["created_at"]).isoformat(),
        row["disabled_at"] is not None, row["erased_at"] is not None] for row in rows)))


@router.post("/invites")
def invite(request: Request, session: Lead, form: OwnForm) -> Response:
    """Make a link; leads invite labelers and experts, admins anybody. The link is shown once, on the page that answers."""
    web: Web = request.app.state.web
    role, group = text_of(form, "role", 20), text_of(form, "group", 100).strip() or None
    if role not in _may_invite(session):
        return _page(request, session, 422, error=f"{session.role}s cannot invite a {role or 'nobody'}", hint="choose another role")
    now, held_out = web.store.now(), text_of(form, "held_out") == "yes"

    def work(conn: Connection) -> str:
        record_audit(conn, actor_id=session.labeler_id, action="invite", subject=role, group=group, now=now)
        return accounts.make_invite(conn, role=role, now=now, by=session.labeler_id, group=group, held_out=held_out)

    return _page(request, session, link=f"{web.site.url}/join/{web.store.write(work)}")


@router.post("/invites/{invite_id}/revoke")
def revoke_invite(request: Request, session: Admin, form: OwnForm, invite_id: Id) -> Response:
    """Close a link that nobody used yet."""
    return _do(request, session, "revoke invite", invite_id, lambda conn, now: accounts.revoke_invite(conn, invite_id, now=now))


@router.post("/{labeler_id}/role")
def set_role(request: Request, session: Admin, form: OwnForm, labeler_id: Id) -> Response:
    """Give somebody another role."""
    role = text_of(form, "role", 20)
    return _do(request, session, f"role {role}", labeler_id, lambda conn, _: accounts.set_role(conn, labeler_id, role))


@router.post("/{labeler_id}/disable")
def disable(request: Request, session: Admin, form: OwnForm, labeler_id: Id) -> Response:
    """Shut somebody out at once."""
    return _do(request, session, "disable", labeler_id, lambda conn, now: accounts.disable(conn, labeler_id, now=now))


@router.post("/{labeler_id}/enable")
def enable(request: Request, session: Admin, form: OwnForm, labeler_id: Id) -> Response:
    """Let somebody in again."""
    return _do(request, session, "enable", labeler_id, lambda conn, now: accounts.enable(conn, labeler_id))


@router.post("/{labeler_id}/erase")
def erase(request: Request, session: Admin, form: OwnForm, labeler_id: Id) -> Response:
    """Erase somebody for good, whose name was typed to confirm it. The page that answers says what cannot be reached."""
    web: Web = request.app.state.web
    with web.store.read() as conn:
        name = conn.scalar(select(labelers.c.name).where(labelers.c.id == labeler_id, labelers.c.erased_at.is_(None)))
    try:
        if name is None or text_of(form, "name", 500).strip() != name:
            raise AccountError(web.words.say(session.language, "people_erase_other"),
                               hint=web.words.say(session.language, "people_erase_other_hint"))
        told = erase_person(web.store, "labeler", name, runs=[data_folder() / "trainings"], by_id=session.labeler_id)
    except TutelageError as error:
        return _page(request, session, 409, error=str(error), hint=error.hint)
    if labeler_id == session.labeler_id:
        return go(request, "/login")
    return _page(request, session, erased=told)


@router.post("/sessions/{session_id}/revoke")
def revoke_session(request: Request, session: Admin, form: OwnForm, session_id: Id) -> Response:
    """Sign somebody out."""
    return _do(request, session, "revoke session", session_id, lambda conn, now: accounts.revoke_session(conn, session_id, now=now))


@router.post("/tokens")
def make_token(request: Request, session: Admin, form: OwnForm) -> Response:
    """Make an API token. It is shown once, on the page that answers."""
    web: Web = request.app.state.web
    name, scopes, now = text_of(form, "name", 200), [str(scope) for scope in form.getlist("scope")], web.store.now()

    def work(conn: Connection) -> str:
        record_audit(conn, actor_id=session.labeler_id, action="make token", subject=name, scopes=scopes, now=now)
        return accounts.make_api_token(conn, session.labeler_id, name=name, scopes=scopes, now=now)

    try:
        return _page(request, session, token=web.store.write(work))
    except TutelageError as error:
        return _page(request, session, 422, error=str(error), hint=error.hint)


@router.post("/tokens/{token_id}/revoke")
def revoke_token(request: Request, session: Admin, form: OwnForm, token_id: Id) -> Response:
    """Close an API token."""
    return _do(request, session, "revoke token", token_id, lambda conn, now: accounts.revoke_api_token(conn, token_id, now=now))


def _may_invite(session: Session) -> tuple[str, ...]:
    return ROLES if session.may("admin") else ROLES[:2]


def _do(request: Request, session: Session, action: str, subject: int, change: Callable[[Connection, float], Any]) -> Response:
    """One change, with a line in the audit log, and the page anew."""
    web: Web = request.app.state.web
    now = web.store.now()

    def work(conn: Connection) -> None:
        change(conn, now)
        record_audit(conn, actor_id=session.labeler_id, action=action, subject=str(subject), now=now)

    try:
        web.store.write(work)
    except TutelageError as error:
        return _page(request, session, 409, error=str(error), hint=error.hint)
    return go(request, "/people")


def _page(request: Request, session: Session, status: int = 200, find: str = "", **said: Any) -> Response:
    web: Web = request.app.state.web
    now = web.store.now()
    with web.store.read() as conn:
        found = [row for row in accounts.list_people(conn) if find.casefold() in row["name"].casefold()]
        links = [row for row in accounts.list_invites(conn) if not row["used_at"] and not row["revoked_at"] and row["expires_at"] > now]
        sessions = accounts.list_sessions(conn, now=now) if session.may("admin") else []
        tokens = [row for row in accounts.list_api_tokens(conn) if not row["revoked_at"]] if session.may("admin") else []
    everybody = sorted(found, key=lambda row: not row["has_account"])[:SHOWN]
    return web.html(request, "people.html", status, everybody=everybody, more=len(found) - len(everybody), find=find, links=links,
                    sessions=sessions, tokens=tokens, now=now, may_invite=_may_invite(session), scopes=accounts.SCOPES, roles=ROLES,
                    **({"link": None, "token": None, "erased": None, "error": None, "hint": None} | said))
