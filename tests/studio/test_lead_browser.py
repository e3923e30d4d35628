"""A lead in a real browser, against the installed wheel."""

from __future__ import annotations

import contextlib
import re

import pytest
from sqlalchemy import select

from tests.feedback import few
from tests.small import ANIMALS, Small
from tests.studio.conftest import Person, Studio
from tests.studio.test_browser import PHONE, violations
from tutelage.feedback import guidelines
from tutelage.feedback.reports import add_report
from tutelage.feedback.schema import reports
from tutelage.feedback.store import Store

PAGES = ("/lead/items", "/lead/reports", "/lead/reports?closed=1", "/lead/guidelines", "/lead/guidelines/1", "/lead/screening",
         "/lead/training",
         "/lead/disagreements", "/lead/adjudication", "/lead/import", "/lead/writing")


def question(studio, labeler):
    """A labeler asks about the task at hand."""
    given = {"assignment_id": studio.claim(labeler).assignment_id, "labeler_id": labeler.id, "now": studio.store.now()}
    studio.store.write(lambda conn: add_report(conn, kind="question", text="What is tea?", **given))


@pytest.fixture
def lead(studio):
    """A lead for whom a question waits, on a task somebody judged."""
    lead, labeler, task = studio.person("lead"), studio.person(), studio.task()
    question(studio, labeler)

    def work(conn):
        few.judgement(conn, task, labeler.id, {"ranks": [0, 1], "strength": 2, "step": 3})
        base = guidelines.version_in_force(conn)
        guidelines.save(conn, text=f"# Be **kind**, {task}\n\n- and honest", base=base, by_id=lead.id, now=studio.store.now())

    studio.store.write(work)
    lead.task = task
    return lead


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_lead_page_has_an_accessibility_violation(lead, open_page, scheme):
    page = open_page(lead, color_scheme=scheme)
    for path in (*PAGES, f"/lead/tasks/{lead.task}"):
        page.goto(re.match(r"http://[^/]+", page.url)[0] + path)
        assert page.locator("h1").count() == 1 and violations(page) == [], path


def test_guidelines_that_are_not_saved_are_not_left_without_a_question(lead, open_page):
    page, asked = open_page(lead, "/lead/guidelines"), []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))

    def leaves() -> bool:
        before = len(asked)
        with contextlib.suppress(pytest.importorskip("playwright.sync_api").Error):                  # dismissed: it stays
            page.goto(re.match(r"http://[^/]+", page.url)[0] + "/lead/reports", timeout=5_000)
        return len(asked) == before

    box = page.locator("textarea[name=text]")
    box.click()
    page.keyboard.type("Above all: ")
    assert not leaves() and asked == ["beforeunload"] and "Above all: " in box.input_value()
    page.get_by_role("button", name="Preview").click()               # no question: the text goes with it
    page.get_by_role("heading", name="Preview").wait_for()
    box.click()
    assert len(asked) == 1 and not leaves() and "Above all: " in box.input_value()
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Above all").last.wait_for()
    box.click()
    assert leaves()


def test_no_lead_page_is_wider_than_a_phone(lead, open_page):
    page = open_page(lead, **PHONE)
    for path in (*PAGES, f"/lead/tasks/{lead.task}"):
        page.goto(re.match(r"http://[^/]+", page.url)[0] + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path


@pytest.fixture
def trained_on(start, small: Small, tmp_path):
    """A studio of its own that can train: 40 judgements of amara's, all alike, and one of bo's to the contrary, which no model sees."""
    database = tmp_path / "studio.db"
    with Store.open(database) as store:
        def judged(conn):
            people = [few.labeler(conn, name, group="home", screening={"state": "passed"}) for name in ("amara", "bo")]
            for i in range(41):
                asked = [{"role": "user", "content": f"where is {ANIMALS[i % 8]} {i}?"}]
                task = few.task(conn, few.prompt(conn, asked, split="train" if i % 4 else "held_out"), ["in the barn with a cat", "no"])
                few.judgement(conn, task, people[i == 4], {"ranks": [1, 0] if i == 4 else [0, 1], "strength": 4})
            return people

        amara, _ = store.write(judged)
        settings = ("train.max_steps=200", "train.batch_size=8", "train.epochs=null", "optim.learning_rate=0.005")
        _, said = start("--db", str(database), "--port", "0", "--policy", str(small.sft), "--out", str(tmp_path),
                        *(part for one in settings for part in ("--train", one)))
        studio = Studio(re.search(r"http://\S+", said[0])[0], "", store)
        studio.task()
        question(studio, Person(amara, "amara", ""))
        yield studio


@pytest.mark.slow
def test_a_leads_day(trained_on, chromium):
    """Guidelines written, a question answered, a model trained on what people said, its strongest disagreement triaged by one key."""
    studio = trained_on
    lead = studio.person("lead")
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    context.add_cookies([{"name": studio.cookie, "value": lead.key, "url": studio.url}])
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.set_default_timeout(20_000)

    page.goto(studio.url + "/lead")
    assert page.locator(".top .count").inner_text().startswith("1")
    page.get_by_label("Answer, which").fill("A drink.")
    page.get_by_role("button", name="Answer and close").click()
    page.get_by_text("Nothing here.").wait_for()

    page.get_by_role("link", name="Guidelines", exact=True).click()
    page.get_by_label("Markdown").fill("# Be kind\n\nTea is a drink.")
    page.keyboard.press("Control+Enter")
    page.get_by_text("In force: version 1").wait_for()

    page.get_by_role("link", name="Training", exact=True).click()
    page.get_by_role("button", name="Retrain").click()
    page.get_by_text("Training 1 is running").wait_for()
    page.locator("#now dt", has_text="train/loss").wait_for(timeout=60_000)
    assert violations(page) == []
    page.get_by_role("cell", name="done").wait_for(timeout=60_000)           # the page comes anew by itself
    page.locator("tbody a").first.click()
    page.get_by_role("heading", name="Against the number of labels").wait_for()
    assert re.search(r"amara\s+100.0%", page.inner_text("main")) and violations(page) == []

    page.get_by_role("link", name="Disagreements", exact=True).click()
    page.get_by_text("1 to look at, 0 done").wait_for()
    assert "bo" in page.locator("tbody").inner_text() and violations(page) == []
    page.keyboard.press("l")
    page.get_by_text("An expert judges the same answers anew").wait_for()
    page.get_by_text("Nothing is left to look at of training 1").wait_for()
    context.close()
    assert wrong == []
    with studio.store.read() as conn:
        assert sorted(conn.scalars(select(reports.c.kind))) == ["label_error", "question"]
