"""Characters that a database cannot hold, and numbers too large for it, wherever somebody can send them: on both databases."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import pytest
from sqlalchemy import select, update
from starlette.testclient import TestClient

from tests.feedback.conftest import address, clock, migrated_postgresql, migrated_sqlite, new_postgresql, store  # noqa: F401 - fixtures
from tutelage.feedback import accounts
from tutelage.feedback.io.importing import import_files
from tutelage.feedback.schema import invites, labelers, prompts, responses, tasks
from tutelage.studio.app import create_studio
from tutelage.web.site import Site

ODD, KEPT = "a\0b", "a\ufffdb"
HALF = "a\0b\ud800c"


@pytest.fixture
def site(store):  # noqa: F811
    """A studio on either database; a browser with an admin's session, a program with a token for everything."""
    def make(conn):
        who = accounts.add_account(conn, name="root", role="admin", password_hash="none", now=store.now())
        conn.execute(update(labelers).values(screening={"state": "passed"}))
        return accounts.open_session(conn, who, now=store.now()), accounts.make_api_token(conn, who, name="x", scopes=accounts.SCOPES,
                                                                                          now=store.now())
    key, token = store.write(make)
    app = create_studio(store, site := Site(port=8600))
    browser = TestClient(app, base_url=site.url, cookies={site.cookie: key}, raise_server_exceptions=False)
    program = TestClient(app, base_url=site.url + "/api/v1", headers={"authorization": f"Bearer {token}"}, raise_server_exceptions=False)
    csrf = re.search(r'name="csrf" value="(\w+)"', browser.get("/me").text)[1]
    return SimpleNamespace(post=lambda path, **form: browser.post(path, data={"csrf": csrf} | form), program=program)


def test_what_people_and_programs_send_is_kept_as_the_database_can_hold_it(site, store):  # noqa: F811
    assert site.post("/people/invites", role="labeler", group=ODD).status_code == 200
    assert site.post("/people/tokens", name=ODD, scope="tasks:write").status_code < 500
    item = {"prompt": ODD, "responses": [{"text": ODD, "model": ODD}], "kind": "label", "batch": ODD, "user": ODD, "language": ODD,
            "question": ODD, "key": ODD}
    sent = site.program.post("/tasks", content=json.dumps({"items": [item]}), headers={"content-type": "application/json"})
    assert sent.status_code == 201, sent.text
    scores = {"model": ODD, "scores": [{"response_id": sent.json()["items"][0]["response_ids"][0], "score": 1.0}]}
    before = site.program.get("/responses", params={"model": ODD})
    assert before.status_code == 200 and before.text.count("\n") == 1
    assert site.program.post("/scores", content=json.dumps(scores), headers={"content-type": "application/json"}).status_code == 200
    with store.read() as conn:
        assert conn.scalar(select(invites.c.group)) == KEPT
        assert conn.execute(select(prompts.c.content, prompts.c.user, prompts.c.language)).one() == (KEPT,) * 3
        assert conn.execute(select(responses.c.text, responses.c.model)).one() == (KEPT,) * 2 and conn.scalar(select(tasks.c.batch)) == KEPT


@pytest.mark.parametrize("field", ["labeler", "group", "language", "user", "batch", "item", "comment", "model", "sampling"])
def test_a_row_of_a_file_that_holds_some_is_refused_or_kept_so(store, tmp_path, field):  # noqa: F811
    row = {"prompt": "p", "responses": [{"text": "a"}], "kind": "label", "label": True, "labeler": "ann"}
    odd = row | {field: HALF} if field not in ("model", "sampling") else row | {
        "responses": [{"text": "a", field: HALF if field == "model" else {HALF: HALF}}]}
    (tmp_path / "a.jsonl").write_text(json.dumps(row | {"prompt": "q"}) + "\n" + json.dumps(odd))
    done = import_files(store, tmp_path / "a.jsonl")
    assert done.new["judgements"] + done.num_rejected == 2


def test_so_are_the_names_that_an_import_gives(store, tmp_path):  # noqa: F811
    (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": "p", "chosen": "a", "rejected": "b", "labeler": "ann"}))
    import_files(store, tmp_path / "a.jsonl", batch=HALF, prefix=HALF)
    with store.read() as conn:
        assert conn.scalar(select(labelers.c.name)) == "a\ufffdb\ufffdcann" and conn.scalar(select(tasks.c.batch)) == "a\ufffdb\ufffdc"


@pytest.mark.parametrize("number", ["2147483648", "99999999999", "999999999999"])
def test_a_conversation_for_a_task_whose_number_is_too_large_is_not_there(site, number):
    assert site.post("/talk", assignment=number).status_code == 404
