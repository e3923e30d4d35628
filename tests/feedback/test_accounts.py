"""Who may come in, on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from argon2 import PasswordHasher
from sqlalchemy import select

from tutelage.feedback import accounts
from tutelage.feedback.accounts import AccountError
from tutelage.feedback.content import add_labeler
from tutelage.feedback.schema import api_tokens, invites, labelers, metadata, sessions

LONG = "a sentence of one's own"


@pytest.fixture
def do(store, clock):
    """Runs a function of accounts in a write, at the clock's time where it takes one."""
    return lambda function, *arguments, **named: store.write(lambda conn: function(conn, *arguments, **named))


@pytest.fixture
def ann(do, clock) -> int:
    return do(accounts.add_account, name="Ann", role="labeler", password_hash="none", now=clock())


def test_one_link_makes_one_account_however_many_open_it_at_once(store, do, clock):
    token = do(accounts.make_invite, role="expert", now=clock(), group="west", held_out=True)

    def accept(i: int) -> int | str:
        try:
            return do(accounts.accept_invite, token, name=f"p{i}", password_hash="h", language="de", now=clock())
        except AccountError as error:
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(accept, range(8)))
    made = [result for result in results if isinstance(result, int)]
    with store.read() as conn:
        rows = conn.execute(select(labelers.c.id, labelers.c.role, labelers.c.group, labelers.c.held_out, labelers.c.language)).all()
    assert [tuple(row) for row in rows] == [(made[0], "expert", "west", True, "de")]


@pytest.mark.parametrize("seconds", [0.0, 10.0])
def test_a_link_ends_when_it_says(do, clock, seconds):
    token = do(accounts.make_invite, role="labeler", now=clock(), seconds=10.0)
    clock.advance(seconds)
    if seconds < 10:
        assert do(accounts.open_invite, token, now=clock())["role"] == "labeler"
    else:
        with pytest.raises(AccountError, match="expired"):
            do(accounts.open_invite, token, now=clock())


def test_the_first_link_is_made_anew_until_there_is_an_admin(do, clock):
    first, second = (do(accounts.first_admin_invite, now=clock()) for _ in range(2))
    with pytest.raises(AccountError, match="not valid"):
        do(accounts.open_invite, first, now=clock())
    do(accounts.accept_invite, second, name="Root", password_hash="h", language="en", now=clock())
    assert do(accounts.first_admin_invite, now=clock()) is None


@pytest.mark.parametrize("other", ["ann", "ANN ", "Ａnn", " Ann"])
def test_a_name_is_one_persons_however_it_is_typed(do, clock, ann, other):
    with pytest.raises(AccountError, match="taken"):
        do(accounts.add_account, name=other, role="labeler", password_hash="h", now=clock())
    assert do(accounts.find_login, other, now=clock())["id"] == ann


def test_a_name_that_a_file_brought_in_shuts_nobody_out(store, do, clock):
    do(add_labeler, name="ALICE", now=clock())
    alice = do(add_labeler, name="alice", now=clock(), password_hash="h")
    do(add_labeler, name="Alice", now=clock())
    assert do(accounts.find_login, "Alice", now=clock())["id"] == alice
    with pytest.raises(AccountError, match="taken"):
        do(accounts.add_account, name="aLICE", role="labeler", password_hash="h", now=clock())


def test_a_password_is_argon2id_and_matches_itself_alone():
    kept = accounts.hash_password("Ünïcode sentence")
    assert kept.startswith("$argon2id$") and PasswordHasher().verify(kept, "Ünïcode sentence")
    assert accounts.password_matches(kept, "U\u0308ni\u0308code sentence"), "composed or not"
    assert not accounts.password_matches(kept, "unicode sentence") and not accounts.password_matches(None, "anything at all")
    assert not accounts.password_matches("not a hash", "anything at all")


def test_wrong_passwords_lock_for_longer_and_longer_and_a_right_one_forgives(do, clock, ann):
    waits = []
    for _ in range(accounts.FREE_FAILURES + 8):
        do(accounts.note_login, ann, succeeded=False, now=clock())
        waited = 0
        while True:
            try:
                do(accounts.find_login, "Ann", now=clock())
                break
            except AccountError:
                clock.advance(60)
                waited += 1
        waits.append(waited)
    assert waits == [0] * 4 + [1, 2, 4, 8, 16, 32, 60, 60, 60]
    do(accounts.note_login, ann, succeeded=True, now=clock())
    do(accounts.note_login, ann, succeeded=False, now=clock())
    assert do(accounts.find_login, "Ann", now=clock()) is not None


def test_tries_that_are_under_way_count(do, clock, ann):
    for _ in range(accounts.FREE_FAILURES):
        assert do(accounts.try_login, "ann", now=clock())["id"] == ann, "and its password is being hashed"
    with pytest.raises(AccountError, match="locked"):
        do(accounts.try_login, "ann", now=clock())
    do(accounts.note_login, ann, succeeded=True, now=clock())
    assert do(accounts.try_login, "ann", now=clock()) and do(accounts.try_login, "nobody", now=clock()) is None


def test_a_session_ends_by_time_by_revoking_and_with_its_owner(do, clock, ann):
    keys = [do(accounts.open_session, ann, now=clock()) for _ in range(3)]
    seen = [do(accounts.find_session, key, now=clock()) for key in keys]
    assert [one.labeler_id for one in seen] == [ann] * 3 and seen[0].may("labeler") and not seen[0].may("expert")
    assert do(accounts.revoke_session, seen[0].id, now=clock()) and not do(accounts.revoke_session, seen[0].id, now=clock())
    assert not do(accounts.revoke_session, seen[1].id, now=clock(), labeler_id=ann + 1)
    assert do(accounts.set_password, ann, "h", now=clock(), keep=seen[1].id) is None
    assert [do(accounts.find_session, key, now=clock()) is not None for key in keys] == [False, True, False]
    later = clock.advance(accounts.SESSION_SECONDS)
    assert do(accounts.find_session, keys[1], now=later) is None and do(accounts.list_sessions, now=later) == []


def test_whoever_is_shut_out_is_out_with_every_key(do, clock, ann):
    do(accounts.add_account, name="Root", role="admin", password_hash="h", now=clock())
    key = do(accounts.open_session, ann, now=clock())
    token = do(accounts.make_api_token, ann, name="script", scopes=["tasks:write"], now=clock())
    do(accounts.disable, ann, now=clock())
    assert do(accounts.find_session, key, now=clock()) is None and do(accounts.find_login, "Ann", now=clock()) is None
    assert do(accounts.find_api_token, token, now=clock()) is None
    do(accounts.enable, ann)
    assert do(accounts.find_login, "Ann", now=clock()) is not None and do(accounts.find_session, key, now=clock()) is None


def test_the_last_admin_can_neither_go_nor_step_down(do, clock, ann):
    root = do(accounts.add_account, name="Root", role="admin", password_hash="h", now=clock())
    for change in (lambda: do(accounts.disable, root, now=clock()), lambda: do(accounts.set_role, root, "lead")):
        with pytest.raises(AccountError, match="only admin"):
            change()
    imported = do(add_labeler, name="from a file", now=clock())
    do(accounts.set_role, imported, "admin")
    with pytest.raises(AccountError, match="only admin"):
        do(accounts.set_role, root, "labeler")
    do(accounts.set_role, ann, "admin")
    do(accounts.disable, root, now=clock())


def test_there_is_a_first_link_while_no_admin_can_sign_in(do, clock):
    do(add_labeler, name="from a file", role="admin", now=clock())
    assert do(accounts.first_admin_invite, now=clock()) is not None


def test_a_token_opens_nothing_once_its_maker_is_no_lead(do, clock, ann):
    do(accounts.set_role, ann, "admin")
    token = do(accounts.make_api_token, ann, name="script", scopes=["tasks:write"], now=clock())
    found = {}
    for role in ("admin", "lead", "expert", "labeler"):
        do(accounts.add_account, name=f"root {role}", role="admin", password_hash="h", now=clock())
        do(accounts.set_role, ann, role)
        found[role] = do(accounts.find_api_token, token, now=clock()) is not None
    assert found == {"admin": True, "lead": True, "expert": False, "labeler": False}


def test_an_api_token_opens_its_scopes_until_it_ends(do, clock, ann):
    do(accounts.set_role, ann, "lead")
    token = do(accounts.make_api_token, ann, name="scores", scopes=["scores:write"], now=clock(), seconds=60.0)
    assert do(accounts.find_api_token, token, now=clock())["labeler_id"] == ann
    assert do(accounts.find_api_token, token, now=clock())["scopes"] == ["scores:write"]
    assert do(accounts.find_api_token, token + "x", now=clock()) is None
    assert do(accounts.find_api_token, token, now=clock() + 60) is None
    number = do(accounts.list_api_tokens)[0]["id"]
    assert do(accounts.revoke_api_token, number, now=clock())
    assert do(accounts.find_api_token, token, now=clock()) is None
    for scopes in ([], ["everything"]):
        with pytest.raises(AccountError, match="scope"):
            do(accounts.make_api_token, ann, name="x", scopes=scopes, now=clock())


def test_nothing_that_opens_a_door_is_in_the_store(store, do, clock, ann):
    secrets = [do(accounts.make_invite, role="labeler", now=clock()), do(accounts.open_session, ann, now=clock()),
               do(accounts.make_api_token, ann, name="x", scopes=["tasks:write"], now=clock())]
    with store.read() as conn:
        kept = [str(value) for table in metadata.sorted_tables for row in conn.execute(table.select()) for value in row]
    assert len(secrets) == 3 and not [secret for secret in secrets if any(secret in value for value in kept)]
    with store.read() as conn:
        hashes = [conn.scalar(select(table.c.token_hash)) for table in (invites, sessions, api_tokens)]
    assert hashes == [accounts.digest(secret) for secret in secrets]


def test_settings_change_one_by_one_and_go_away(store, do, ann):
    do(accounts.set_setting_of, ann, theme="dark", shortcuts=False)
    do(accounts.set_setting_of, ann, theme=None, avoid_warnings=["hate"])
    with store.read() as conn:
        assert conn.scalar(select(labelers.c.settings).where(labelers.c.id == ann)) == {"shortcuts": False, "avoid_warnings": ["hate"]}
