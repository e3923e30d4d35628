"""Pages that stay open while what they show is erased."""

from __future__ import annotations

import pytest
from sqlalchemy import select, update

from tests.studio.test_browser import violations
from tests.studio.test_doors import csrf
from tests.studio.test_revision import criticise, revise
from tests.studio.test_work import action, heading
from tutelage.feedback.erase import erase, find
from tutelage.feedback.pseudonyms import key_of_store
from tutelage.feedback.schema import assignments, metadata, prompts, reports

PLANTED = "the walrus sings at noon"


@pytest.fixture(scope="module")
def running(talking):
    return talking


@pytest.fixture(autouse=True)
def _answers(models):
    models.reset()
    models.answer = lambda body: [f"kinder: {PLANTED}"]


@pytest.fixture
def erased(studio):
    """Call it to have the customer erased, as the command does it in another process."""
    def now():
        studio.store.write(lambda conn: erase(conn, find(conn, "user", "u-1", key_of_store(conn)), now=studio.store.now()))

    return now


def customers(studio, kind: str) -> None:
    studio.task(kind, ("Boil water.",))
    studio.store.write(lambda conn: conn.execute(update(prompts).where(prompts.c.id == select(prompts.c.id).order_by(
        prompts.c.id.desc()).limit(1).scalar_subquery()).values(user="u-1", source="customer")))


def kept(studio) -> bool:
    with studio.store.read() as conn:
        return PLANTED in repr([conn.execute(select(table)).all() for table in metadata.sorted_tables])


def test_a_page_that_was_open_says_that_nothing_was_kept_and_nothing_is(studio, labeler, browser, erased):
    customers(studio, "edit")
    page = browser.get("/work")
    erased()
    sent = {"csrf": csrf(page), "text": f"Better: {PLANTED}.", "kind": "harm", "reason": "other"}
    for way in ("/draft", "", "/report", "/skip"):
        told = browser.post(action(page) + way, data=sent)
        assert told.status_code == 410 and heading(told) == "what this is about was erased, so nothing that you wrote about it was kept"
        assert PLANTED not in told.text and "go on with the next task" in told.text
    with studio.store.read() as conn:
        assert conn.scalars(select(assignments.c.draft).where(assignments.c.labeler_id == labeler.id)).all() == [None]
        assert conn.scalars(select(reports.c.id).where(reports.c.labeler_id == labeler.id)).all() == []
    assert not kept(studio) and heading(browser.get("/work")) == "Nothing to do right now"


def test_a_revision_that_the_model_still_writes_is_dropped(studio, labeler, browser, models, erased):
    customers(studio, "critique")
    page = criticise(browser)
    models.answer = lambda body: (erased(), [f"kinder: {PLANTED}"])[1]
    assert revise(browser, page).status_code == 410 and not kept(studio)
    assert heading(browser.get("/work")) == "Nothing to do right now"


def test_in_a_browser_the_draft_goes_and_the_page_says_why(studio, labeler, open_page, erased):
    customers(studio, "edit")
    page = open_page(labeler)
    erased()
    page.locator("textarea[name=text]").first.fill(f"Better: {PLANTED}.")
    page.get_by_text("nothing that you write here is kept").wait_for()
    assert page.evaluate("JSON.stringify(localStorage)") == "{}" and violations(page) == [] and not kept(studio)


@pytest.mark.parametrize("sends", ["task", "report"])
def test_in_a_browser_nothing_stays_of_what_was_sent_at_once(studio, labeler, open_page, erased, sends):
    customers(studio, "edit")
    page = open_page(labeler)
    erased()
    page.route("**/draft", lambda route: route.abort())               # the answer comes before the draft is sent
    if sends == "report":
        page.keyboard.press("q")
        page.keyboard.type(PLANTED)
    else:
        page.locator("textarea[name=text]").first.fill(f"Better: {PLANTED}.")
    with page.expect_response(lambda response: response.status == 410):
        page.keyboard.press("Control+Enter")
    page.wait_for_function("text => !JSON.stringify([localStorage, sessionStorage]).includes(text)", arg=PLANTED)
    page.wait_for_timeout(300)                                         # what kept it may not keep it again
    assert PLANTED not in page.evaluate("JSON.stringify([localStorage, sessionStorage])") and not kept(studio)
