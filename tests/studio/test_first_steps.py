"""What the first people of a new studio are told: it is so."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from tests.feedback import few
from tutelage.feedback import accounts
from tutelage.feedback.store import Store
from tutelage.studio.app import create_studio
from tutelage.web.site import Site


@pytest.fixture
def empty(tmp_path):
    """The store of a studio in which nothing happened yet."""
    with Store.open(tmp_path / "studio.db") as store:
        yield store


def visitor(store: Store, role: str | None) -> TestClient:
    """Somebody's browser; None: nobody is signed in."""
    site, cookies = Site(port=8600), {}
    if role:
        number = store.write(lambda conn: accounts.add_account(conn, name=role, role=role, password_hash="none", now=store.now()))
        key = store.write(lambda conn: accounts.open_session(conn, number, now=store.now(), user_agent="test"))
        cookies[site.cookie] = key
    return TestClient(create_studio(store, site), base_url=site.url, cookies=cookies)


def link(store: Store, role: str) -> str:
    return "/join/" + store.write(lambda conn: accounts.make_invite(conn, role=role, now=store.now()))


def test_practice_is_promised_to_those_who_get_it(empty):
    client, said = visitor(empty, None), "A practice task follows"
    assert said not in client.get(link(empty, "labeler")).text, "there is none"
    empty.write(lambda conn: few.task(conn, few.prompt(conn), ["a", "b"], purpose="practice", free=2, expected={"ranks": [0, 1]}))
    assert [role for role in ("labeler", "expert", "lead", "admin") if said in client.get(link(empty, role)).text] == ["labeler"]


def test_a_new_studio_says_what_to_do_first_to_leads_and_that_there_is_nothing_to_labelers(empty):
    first = [f'href="{path}"' for path in ("/lead/import", "/lead/guidelines", "/people")]
    for role, told in (("labeler", False), ("lead", True)):
        page = visitor(empty, role).get("/work").text
        assert "There are no tasks yet" in page and "done or with others" not in page
        assert all((step in page.partition("<main")[2]) == told for step in first)
    empty.write(lambda conn: few.task(conn, few.prompt(conn), ["a", "b"], state="done"))
    page = visitor(empty, "expert").get("/work").text
    assert "done or with others" in page and "no tasks yet" not in page
