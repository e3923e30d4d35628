"""Language feedback: a critique, the model's revision after it, and an edit that is preferred to the original."""

from __future__ import annotations

import json
import re
import threading

import pytest
from sqlalchemy import select, update

from tests.studio.fake_models import SHA256
from tests.studio.test_browser import violations
from tests.studio.test_doors import csrf
from tests.studio.test_work import action, heading
from tutelage.base.records import Judgement
from tutelage.feedback import queue
from tutelage.feedback.likelihood import as_preference
from tutelage.feedback.newcomers import decide
from tutelage.feedback.schema import assignments, judgements, responses, tasks
from tutelage.feedback.snapshot import freeze

CRITIQUE = "It should say how long; write to ada@example.com."


@pytest.fixture(scope="module")
def running(talking):
    return talking


@pytest.fixture(autouse=True)
def a_better_answer(models):
    models.reset()
    models.answer = lambda body: ["Boil water and wait *four* minutes."]


@pytest.fixture
def labeler(studio):
    studio.task("critique", ("Boil water.",), prompt=[{"role": "user", "content": "How do I brew tea?"}])
    return studio.person()


def criticise(browser):
    page = browser.get("/work")
    return browser.post(action(page), data={"csrf": csrf(page), "text": CRITIQUE})


def revise(browser, page):
    return browser.post(re.search(r'action="([^"]+/revision)"', page.text)[1], data={"csrf": csrf(page)})


def mine(studio, labeler) -> list[dict]:
    with studio.store.read() as conn:
        return [dict(row) for row in conn.execute(select(judgements).where(judgements.c.labeler_id == labeler.id)
                                                  .order_by(judgements.c.id)).mappings()]


@pytest.mark.parametrize("text", ["Boil water and wait *four* minutes.", "Boil water, wait four minutes, pour."])
def test_what_is_left_of_a_revision_is_preferred_to_the_original(studio, labeler, browser, models, tmp_path, text):
    page = criticise(browser)
    assert heading(page) == "After your critique" and "Boil water." in page.text
    page = revise(browser, page)
    asked = [message["content"] for message in models.requests[0]["messages"]]
    assert asked[:2] == ["How do I brew tea?", "Boil water."] and "how long; write to [EMAIL_1]." in asked[2]
    assert "Boil water and wait *four* minutes.</textarea>" in page.text and "It should say how long" in page.text
    assert "secret-model" not in page.text
    browser.post(action(page), data={"csrf": csrf(page), "text": text})
    critique, edit = mine(studio, labeler)
    assert (critique["value"], edit["value"]) == ({"critique": CRITIQUE}, {"edit": text})
    with studio.store.read() as conn:
        extra = conn.scalar(select(tasks.c.extra).where(tasks.c.id == edit["task_id"]))
        kept = conn.execute(select(responses).where(responses.c.id == extra["revision"])).mappings().one()
        rows = (freeze(conn, tmp_path).path / "judgements.jsonl").read_text().splitlines()
        (original,) = conn.scalar(select(tasks.c.response_ids).where(tasks.c.id == edit["task_id"]))
    assert extra["critique"] == critique["id"] and kept["revises_id"] == original
    assert (kept["model_hash"], kept["text"]) == (SHA256, "Boil water and wait *four* minutes.")
    judgement = Judgement.from_json(next(row for row in map(json.loads, rows) if row["judgement"] == edit["id"]))
    pair = as_preference(judgement)
    assert [answer.text for answer in pair.responses] == [text, "Boil water."] and pair.ranks == (0, 1)


def test_who_gets_the_edit_after_the_critic_let_it_run_out_reads_neither_critique_nor_revision(studio, labeler, browser):
    revise(browser, criticise(browser))
    studio.store.write(lambda conn: conn.execute(update(assignments).where(assignments.c.labeler_id == labeler.id)
                                                 .where(assignments.c.state == "reserved").values(expires_at=1.0)))
    with studio.client(studio.person()) as other:
        page = other.get("/work")
        assert heading(page) == "Improve" and "Boil water.</textarea>" in page.text
        assert "It should say how long" not in page.text and "four" not in page.text and "/compare" not in page.text


def test_of_a_revision_that_is_no_better_people_say_how_it_compares(studio, labeler, browser, tmp_path):
    page = revise(browser, criticise(browser))
    edit = action(page)
    page = browser.post(edit + "/compare", data={"csrf": csrf(page)})
    assert heading(page) == "Compare" and action(browser.post(edit + "/compare", data={"csrf": csrf(page)})) == action(page), "once"
    shown = re.findall(r'class="badge">[AB]</span>.*?<p>(.+?)</p>', page.text, re.S)
    step = 1 if shown[0] == "Boil water." else 8
    done = browser.post(action(page), data={"csrf": csrf(page), "choice": str(step)})
    assert heading(done) == "Nothing to do right now"
    with studio.store.read() as conn:
        rows = (freeze(conn, tmp_path).path / "judgements.jsonl").read_text().splitlines()
    said = [Judgement.from_json(row) for row in map(json.loads, rows) if row["judgement"] == mine(studio, labeler)[-1]["id"]]
    assert [[answer.text for answer in one.responses] for one in said] == [["Boil water.", "Boil water and wait *four* minutes."]]
    assert said[0].ranks == (0, 1) and said[0].strength == 4
    with studio.client(studio.person()) as other:
        assert heading(other.get("/work")) == "Nothing to do right now", "what was made for the critic goes to nobody else"
        assert other.post(edit + "/compare", data={"csrf": csrf(other.get("/me"))}).status_code == 404


def test_an_edit_that_ran_out_and_went_to_another_stays_theirs_whatever_the_critics_old_tab_says(studio, labeler, browser):
    old_tab = revise(browser, criticise(browser))
    studio.store.write(lambda conn: conn.execute(update(assignments).where(assignments.c.labeler_id == labeler.id)
                                                 .where(assignments.c.state == "reserved").values(expires_at=1.0)))
    with studio.client(studio.person()) as other:
        page = other.get("/work")
        other.post(action(page) + "/draft", data={"csrf": csrf(page), "text": "Half of it"})
        said = browser.post(action(old_tab) + "/compare", data={"csrf": csrf(old_tab)})
        assert heading(said) == "Nothing to do right now" and "it was given to others" in said.text
        done = other.post(action(page), data={"csrf": csrf(page), "text": "Boil it, wait."})
        assert done.status_code == 200 and heading(done) == "Nothing to do right now"
        refused = browser.post(action(old_tab) + "/compare", data={"csrf": csrf(old_tab)})
        assert heading(refused) == "Nothing to do right now", "nor when it was judged"
    with studio.store.read() as conn:
        assert conn.scalar(select(judgements.c.value).order_by(judgements.c.id.desc())) == {"edit": "Boil it, wait."}


def test_an_edit_that_ran_out_and_that_nobody_took_is_still_the_critics_to_compare(studio, labeler, browser):
    page = revise(browser, criticise(browser))
    studio.store.write(lambda conn: conn.execute(update(assignments).where(assignments.c.labeler_id == labeler.id)
                                                 .where(assignments.c.state == "reserved").values(expires_at=1.0)))
    studio.store.write(lambda conn: queue.release_expired(conn, now=studio.store.now()))
    assert heading(browser.post(action(page) + "/compare", data={"csrf": csrf(page)})) == "Compare"
    with studio.client(studio.person()) as other:
        assert heading(other.get("/work")) == "Nothing to do right now"


def test_only_a_revision_can_be_compared_instead(studio, labeler, browser):
    page = browser.get("/work")
    assert heading(browser.post(action(page) + "/compare", data={"csrf": csrf(page)})) == "Criticise"


def test_it_is_asked_for_once_and_comes_back_after_a_reload(studio, labeler, browser, models):
    page = criticise(browser)
    first, again = revise(browser, page), revise(browser, page)
    assert action(first) == action(again) == action(browser.get("/work")) and len(models.requests) == 1
    browser.post(action(first), data={"csrf": csrf(first), "text": "Done."})
    assert heading(revise(browser, page)) == "Nothing to do right now"


def test_when_the_model_fails_the_critique_is_kept_and_work_goes_on(studio, labeler, browser, models):
    models.answer = lambda body: 500
    page = revise(browser, criticise(browser))
    assert page.status_code == 200 and "could not rewrite" in page.text and heading(page) == "Nothing to do right now"
    assert [row["value"] for row in mine(studio, labeler)] == [{"critique": CRITIQUE}]


def test_nobody_elses_critique_is_rewritten(studio, labeler, browser, models):
    page = criticise(browser)
    with studio.client(studio.person()) as other:
        refused = other.post(re.search(r'action="([^"]+/revision)"', page.text)[1], data={"csrf": csrf(other.get("/me"))})
    assert refused.status_code == 409 and models.requests == []


@pytest.mark.parametrize("purpose", ["practice", "screening"])
def test_of_a_practice_or_screening_critique_no_work_is_made(studio, models, purpose):
    for _ in range(15):                                              # enough for the test to be given: fourteen right answers pass
        studio.task(purpose="screening", expected={"ranks": [0, 1]})
    critique = studio.task("critique", ("Boil water.",), purpose=purpose, priority=1.0)
    with studio.client(studio.person(screened=False)) as newcomer:
        page = newcomer.get("/work")
        edit = action(page) + "/revision"
        after = newcomer.post(action(page), data={"csrf": csrf(page), "text": CRITIQUE})
        assert heading(after) == "Compare test" and "/revision" not in after.text
        assert newcomer.post(edit, data={"csrf": csrf(after)}).status_code == 409 and models.requests == []
        assert heading(newcomer.get("/work")) == "Compare test"
    with studio.store.read() as conn:
        (prompt,) = conn.scalars(select(tasks.c.prompt_id).where(tasks.c.id == critique))
        assert conn.scalars(select(tasks.c.kind).where(tasks.c.prompt_id == prompt)).all() == ["critique"]


def test_who_failed_the_screening_gets_no_revision_of_an_old_critique(studio, labeler, browser, models):
    page = criticise(browser)
    lead = studio.person("lead").id
    studio.store.write(lambda conn: decide(conn, labeler.id, "failed", by_id=lead, now=studio.store.now()))
    assert revise(browser, page).status_code == 409 and models.requests == []


def test_a_critique_taken_back_is_not_rewritten(studio, labeler, browser, models):
    page = criticise(browser)
    browser.post("/work/undo", data={"csrf": csrf(page)})
    assert revise(browser, page).status_code == 409 and models.requests == []


def test_the_edit_of_a_critique_that_is_taken_back_goes_to_nobody(studio, labeler, browser, models):
    page = revise(browser, criticise(browser))
    edit = action(page)
    page = browser.post("/work/undo", data={"csrf": csrf(page)})
    assert heading(page) == "Criticise"
    with studio.client(studio.person()) as other:
        assert heading(other.get("/work")) == "Nothing to do right now"
    page = browser.post(action(page), data={"csrf": csrf(page), "text": "Say for how long."})
    again = revise(browser, page)
    assert heading(again) == "Improve" and action(again) != edit and "Say for how long." in again.text


def test_in_a_browser_the_revision_comes_by_itself(studio, labeler, open_page, models):
    gate, page = threading.Event(), open_page(labeler)
    models.answer = lambda body: (gate.wait(20), ["Boil water and wait *four* minutes."])[1]
    page.keyboard.press("e")
    page.keyboard.type("Say how long.")
    page.keyboard.press("Control+Enter")
    page.get_by_role("heading", name="After your critique").wait_for()
    assert violations(page) == []
    gate.set()
    page.get_by_label("The new answer").wait_for()
    assert violations(page) == [] and page.get_by_label("The new answer").input_value() == "Boil water and wait *four* minutes."
    page.keyboard.press("e")
    page.keyboard.type(" Then pour.")
    page.keyboard.press("Control+Enter")
    page.get_by_text("Nothing to do").wait_for()
    assert mine(studio, labeler)[1]["value"] == {"edit": "Boil water and wait *four* minutes. Then pour."}


def test_without_scripts_it_is_a_button_away(studio, labeler, open_page):
    page = open_page(labeler, java_script_enabled=False)
    page.locator("textarea[name=text]").first.fill("Say how long.")
    page.get_by_role("button", name="Submit").click()
    page.get_by_role("button", name="Show the new answer").click()
    page.get_by_role("button", name="Submit").click()
    assert mine(studio, labeler)[1]["value"] == {"edit": "Boil water and wait *four* minutes."}
