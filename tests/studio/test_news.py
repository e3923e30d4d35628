"""What every page of a lead asks for beside its own: the numbers in the navigation."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event

from tests.feedback import few
from tutelage.feedback import accounts, newcomers
from tutelage.feedback.store import Store
from tutelage.studio import app, news
from tutelage.web.site import Site


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "studio.db") as store:
        store.write(lambda conn: [few.task(conn, few.prompt(conn, f"q{i}"), ["a"], kind="label", purpose="screening", free=1, overlap=1,
                                           expected={"label": True}) for i in range(20)])
        yield store


def lead_of(store) -> TestClient:
    def work(conn):
        number = accounts.add_account(conn, name="lea", role="lead", password_hash="none", now=store.now())
        return accounts.open_session(conn, number, now=store.now(), user_agent="test")
    site = Site(port=8600)
    client = TestClient(app.create_studio(store, site), base_url=site.url)
    client.cookies.set(site.cookie, store.write(work))
    return client


def in_the_middle_of_the_test(store, names) -> None:
    """New labelers who have answered some of the test."""
    standing = {"state": "new", "test": newcomers.Screening(right=3, asked=4).to_json()}
    store.write(lambda conn: [few.labeler(conn, name, password_hash="x", screening=standing) for name in names])


@pytest.mark.parametrize("path", ["/lead/guidelines", "/lead/screening", "/people"])
def test_a_leads_page_asks_as_many_statements_for_forty_newcomers_as_for_two(store, path):
    lead, asked, told = lead_of(store), [], []
    event.listen(store._reader, "before_cursor_execute", lambda *given: asked.append(given[2]))
    for names in (["n1", "n2"], [f"m{i}" for i in range(38)]):
        in_the_middle_of_the_test(store, names)
        asked.clear()
        assert lead.get(path).status_code == 200
        told.append(len(asked))
    assert told[0] == told[1] > 0


@pytest.mark.parametrize("path", ["/lead/guidelines", "/people"])
def test_a_page_looks_the_news_up_once(store, monkeypatch, path):
    looked = []
    monkeypatch.setattr(app, "news_of", lambda store, session: looked.append(session) or news.News(2, 3, 0, None))
    page = lead_of(store).get(path)
    assert page.status_code == 200 and len(looked) == 1 and '<span class="count">5<' in page.text
