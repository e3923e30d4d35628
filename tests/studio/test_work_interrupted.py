"""What gets in the way of a labeler's work: a second click or tab, the end of a reservation or a session, somebody else's task."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select, update

from tests.studio.test_doors import csrf
from tests.studio.test_work import action
from tutelage.feedback import accounts, queue
from tutelage.feedback.schema import assignments, judgements


def test_a_double_submit_counts_once_and_says_so(studio, labeler, browser):
    studio.task()
    page = browser.get("/work")
    form = {"csrf": csrf(page), "choice": "2"}
    with ThreadPoolExecutor(8) as pool:
        codes = [r.status_code for r in pool.map(lambda _: browser.post(action(page), data=form), range(8))]
    assert codes == [200] * 8 and len(studio.values(labeler)) == 1
    assert "counts once" in browser.post(action(page), data=form | {"choice": "7"}).text and studio.values(labeler)[0]["strength"] == 3


def test_two_tabs_show_the_same_task_and_the_second_answer_does_not_replace_the_first(studio, labeler, browser):
    studio.task("critique", ("One.",))
    first, second = browser.get("/work"), browser.get("/work")
    assert action(first) == action(second)
    browser.post(action(first), data={"csrf": csrf(first), "text": "from the first tab"})
    other = browser.post(action(second), data={"csrf": csrf(second), "text": "from the second tab"})
    assert other.status_code == 409 and "submitted already" in other.text and "from the first tab" in other.text
    assert re.findall(r"<textarea readonly[^>]*>\n(.*?)</textarea>", other.text) == ["from the second tab"], "not lost without a word"
    same = browser.post(action(second), data={"csrf": csrf(second), "text": "from the first tab"})
    assert same.status_code == 200 and "counts once" in same.text and "readonly" not in same.text
    assert studio.values(labeler) == [{"critique": "from the first tab"}]


def test_a_task_that_ran_out_and_went_to_another_keeps_the_text_on_the_page(studio, labeler, browser):
    studio.task("critique", ("One.",))
    page = browser.get("/work")
    studio.store.write(lambda conn: conn.execute(update(assignments).where(assignments.c.labeler_id == labeler.id).values(expires_at=1.0)))
    other = studio.person()
    assert studio.claim(other).kind == "critique"
    text = "fifteen minutes of research"
    late = browser.post(action(page), data={"csrf": csrf(page), "text": text})
    assert late.status_code == 422 and "ran out" in late.text and text in late.text and studio.values(labeler) == []
    with studio.store.read() as conn:
        assert conn.scalar(select(assignments.c.draft).where(assignments.c.labeler_id == labeler.id)) == {"critique": text}


def test_a_task_that_ran_out_and_is_still_free_is_taken_after_all(studio, labeler, browser):
    studio.task("critique", ("One.",))
    page = browser.get("/work")
    studio.store.write(lambda conn: conn.execute(update(assignments).where(assignments.c.labeler_id == labeler.id).values(expires_at=1.0)))
    studio.store.write(lambda conn: queue.release_expired(conn, now=studio.store.now()))
    assert browser.post(action(page), data={"csrf": csrf(page), "text": "late"}).status_code == 200
    assert studio.values(labeler) == [{"critique": "late"}]


@pytest.mark.parametrize(("entered", "kept"), [("12.5", 12.5), ("", 0.0), ("-3", 0.0), ("nan", 0.0), ("inf", 0.0), ("1e9", 3600.0)])
def test_a_clock_that_was_set_back_pays_what_the_page_counted_and_never_less_than_nothing(studio, labeler, browser, entered, kept):
    studio.task()
    page = browser.get("/work")
    studio.store.write(lambda conn: conn.execute(update(assignments).where(assignments.c.labeler_id == labeler.id)
                                                 .values(claimed_at=assignments.c.claimed_at + 7200)))
    assert browser.post(action(page), data={"csrf": csrf(page), "choice": "2", "seconds": entered}).status_code == 200
    with studio.store.read() as conn:
        assert conn.scalar(select(judgements.c.seconds).where(judgements.c.labeler_id == labeler.id)) == kept


def test_somebody_shut_out_in_the_middle_of_a_task_gets_no_further(studio, labeler, browser):
    studio.task()
    page = browser.get("/work")
    studio.store.write(lambda conn: accounts.disable(conn, labeler.id, now=studio.store.now()))
    assert studio.claim(studio.person()).assignment_id != int(action(page).rpartition("/")[2]), "somebody else has the task at once"
    refused = browser.post(action(page), data={"csrf": csrf(page), "choice": "1"})
    assert refused.status_code == 401 and "You are signed out" in refused.text and studio.values(labeler) == []


@pytest.mark.parametrize("partial", [False, True])
def test_who_was_signed_out_gets_back_what_they_typed_and_no_password(studio, labeler, browser, partial):
    studio.task("prompt", extra={"style": "few_shot"})
    page = browser.get("/work")
    studio.store.write(lambda conn: accounts.revoke_sessions(conn, labeler.id, now=studio.store.now()))
    entered = {"csrf": csrf(page), "text": "An hour of <work>.", "query_1": "Hund", "password": "my secret", "old": "my secret"}
    refused = browser.post(action(page), data=entered, headers={"HX-Request": "true"} if partial else {})
    assert refused.status_code == 401 and ("<html" in refused.text) is not partial
    assert re.findall(r"<textarea readonly[^>]*>\n(.*?)</textarea>", refused.text, re.S) == ["An hour of &lt;work&gt;.", "Hund"]
    assert "my secret" not in refused.text and 'href="/login"' in refused.text
    assert browser.post(action(page) + "/draft", data=entered).status_code == 401, "the page must not say that this was saved"


@pytest.mark.parametrize("partial", [False, True])
def test_a_page_from_before_a_new_sign_in_gives_back_what_was_typed_on_it(studio, labeler, browser, partial):
    studio.task("prompt", extra={"style": "plain"})
    page = browser.get("/work")
    entered = {"csrf": csrf(page), "text": "An hour of <work>."}
    browser.cookies.clear()
    browser.cookies.set(studio.cookie, studio.store.write(lambda conn: accounts.open_session(conn, labeler.id, now=studio.store.now())))
    refused = browser.post(action(page), data=entered, headers={"HX-Request": "true"} if partial else {})
    assert refused.status_code == 403 and ("<html" in refused.text) is not partial and "signed in anew" in refused.text
    assert re.findall(r"<textarea readonly[^>]*>\n(.*?)</textarea>", refused.text, re.S) == ["An hour of &lt;work&gt;."]
    assert browser.post(action(page) + "/draft", data=entered).status_code == 403 and studio.values(labeler) == []


@pytest.mark.parametrize("path", ["/work/{id}", "/work/{id}/draft", "/work/{id}/skip", "/work/{id}/report", "/work/{id}/never"])
def test_other_peoples_tasks_and_invented_ones_are_the_same_nothing(studio, labeler, browser, path):
    other = studio.person()
    studio.task()
    theirs = studio.claim(other).assignment_id
    token = csrf(browser.get("/me"))
    form = {"csrf": token, "choice": "1", "reason": "other", "kind": "harm", "text": "x"}
    answers = [browser.post(path.format(id=number), data=form) for number in (theirs, 2_000_000_000)]
    codes = [answer.status_code for answer in answers]
    assert codes[0] == codes[1] >= 400
    with studio.store.read() as conn:
        assert conn.scalar(select(assignments.c.state).where(assignments.c.id == theirs)) == "reserved"
        assert conn.scalar(select(judgements.c.id).where(judgements.c.assignment_id == theirs)) is None
    assert browser.get(f"/work/{theirs}/answers/0").status_code == 404
