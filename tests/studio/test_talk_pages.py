"""Talking to the assistant in a browser, and with which model server: one of the command line, one set in the web, none."""

from __future__ import annotations

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from tests.studio.conftest import Studio
from tests.studio.test_browser import PHONE, violations
from tests.studio.test_doors import csrf
from tests.studio.test_talk import begin, rows, running, send, two_answers  # noqa: F401 - fixtures among them
from tests.studio.test_work import action, heading
from tutelage.feedback import accounts
from tutelage.feedback.content import set_setting
from tutelage.feedback.conversations import start as start_conversation
from tutelage.feedback.errors import StoreError
from tutelage.feedback.schema import conversations, judgements, labelers
from tutelage.feedback.store import Store
from tutelage.studio.app import create_studio
from tutelage.web.site import Site

# The browser ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("look", [{"color_scheme": "light"}, {"color_scheme": "dark"}, PHONE])
def test_the_pages_are_accessible(studio, labeler, open_page, look):
    page = open_page(labeler, "/talk", **look)
    assert violations(page) == []
    page.get_by_role("button", name="Begin").click()
    page.get_by_label("What you say").fill("Tea?")
    assert violations(page) == []
    page.get_by_role("button", name="Send").click()
    page.get_by_role("heading", name="Which answer is better?").wait_for()
    page.locator("summary").first.click()
    assert violations(page) == [] and page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    if look is PHONE:
        return
    lead = open_page(studio.person("lead"), "/models", **look)
    assert violations(lead) == []


def test_a_conversation_needs_only_the_keyboard(studio, labeler, open_page):
    page = open_page(labeler, "/talk")
    page.keyboard.press("Enter")
    page.get_by_label("What you say").wait_for()
    for n, choice in enumerate("27"):
        page.keyboard.press("e")
        page.keyboard.type(f"Question {n}, with s and u in it")
        page.keyboard.press("Control+Enter")
        page.get_by_role("heading", name="Which answer is better?").wait_for()
        page.keyboard.press(choice)
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Take the choice back").wait_for()
        assert page.evaluate("document.activeElement.matches('[data-begin]')"), "keys are keys"
    page.keyboard.press("u")
    page.get_by_role("heading", name="Which answer is better?").wait_for()
    page.keyboard.press("7")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Take the choice back").wait_for()
    page.get_by_text("End the conversation").press("Enter")
    page.get_by_role("radio", name="3 of 4").press("Space")
    page.keyboard.press("Tab")
    page.keyboard.type("kind")
    page.keyboard.press("Control+Enter")
    page.get_by_role("heading", name="Your conversations").wait_for()
    found = rows(studio, judgements, labeler_id=labeler.id)
    assert [row["value"].get("strength", row["value"].get("rating")) for row in found] == [3, 3, 3, 3], "one of them taken back"


def test_what_a_task_asks_for_stays_above_the_conversation(studio, labeler):
    studio.task("conversation", (), extra={"question": "Ask for a <cake> recipe."})
    with studio.client(labeler) as client:
        page = client.get("/work")
        page = client.post("/talk", data={"csrf": csrf(page), "assignment": action(page).rpartition("/")[2]})
        assert "Ask for a &lt;cake&gt; recipe." in page.text
        for shown in (client.get(page.url.path), send(client, page), client.get(page.url.path)):
            assert "Ask for a &lt;cake&gt; recipe." in shown.text


def test_text_outlives_a_reload_and_works_without_scripts(studio, labeler, open_page):
    page = open_page(labeler, "/talk")
    page.get_by_role("button", name="Begin").click()
    with page.expect_response(lambda response: response.url.endswith("/draft")):
        page.get_by_label("What you say").fill("half a thought")
    address = page.url.removeprefix(studio.url)
    plain = open_page(labeler, address, java_script_enabled=False)
    assert plain.get_by_label("What you say").input_value() == "half a thought"
    plain.get_by_role("button", name="Send").click()
    plain.locator("[name=choice][value='3']").check(force=True)
    plain.get_by_role("button", name="Submit").click()
    plain.get_by_label("What you say").wait_for()
    assert len(rows(studio, judgements, labeler_id=labeler.id)) == 1


def test_what_is_entered_about_the_whole_outlives_turns_and_a_lost_browser(studio, labeler, open_page):
    page = open_page(labeler, "/talk")
    page.keyboard.press("Enter")
    page.get_by_label("What you say").fill("Tea?")
    page.get_by_role("button", name="Send").click()
    page.get_by_role("heading", name="Which answer is better?").wait_for()
    page.keyboard.press("d")
    page.get_by_role("radio", name="2 of 4").press("Space")
    with page.expect_response(lambda response: response.url.endswith("/draft")):
        page.get_by_label("I thought the assistant was").fill("brief and")
    page.keyboard.press("Escape")
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    page.get_by_label("What you say").fill("And coffee?")
    page.get_by_role("button", name="Send").click()
    page.get_by_role("heading", name="Which answer is better?").wait_for()
    plain = open_page(labeler, re.sub(r"/(say|choose)$", "", page.url.removeprefix(studio.url)), java_script_enabled=False)
    assert plain.get_by_label("I thought the assistant was").input_value() == "brief and"
    plain.get_by_role("button", name="Save and end").click()
    assert rows(studio, judgements, labeler_id=labeler.id)[-1]["value"] == {"rating": 2, "comment": "brief and"}


def test_while_the_assistant_writes_the_page_says_so_and_takes_no_second_click(studio, labeler, open_page, models):
    models.answer = lambda body: (time.sleep(0.8), ["a", "b"])[1]
    page = open_page(labeler, "/talk")
    page.get_by_role("button", name="Begin").click()
    page.get_by_label("What you say").fill("Tea?")
    assert not page.get_by_text("The assistant is writing").is_visible()
    page.get_by_role("button", name="Send").dblclick()
    page.get_by_text("The assistant is writing").wait_for()
    page.get_by_role("heading", name="Which answer is better?").wait_for()
    assert len(models.requests) == 1 and page.get_by_role("alert").count() == 0


# With a server set in the web, and with none ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain_studio(start, tmp_path_factory):
    """A studio whose command line names no model server."""
    database = tmp_path_factory.mktemp("studio") / "studio.db"
    _, said = start("--db", str(database), "--port", "0", lines=2)
    with Store.open(database) as store:
        yield Studio(re.search(r"http://\S+", said[0])[0], "", store)


@pytest.mark.parametrize("address", ["http://127.0.0.1:{port}/v1", "https://127.0.0.1:{port}/v1", "https://localhost:{port}/v1",
                                     "https://169.254.169.254/latest", "https://[::ffff:127.0.0.1]:{port}/v1", "file:///etc/passwd",
                                     "https://2130706433:{port}/v1", "https://10.0.0.1/v1"])
def test_a_lead_cannot_point_the_studio_at_its_own_machine_or_network(plain_studio, models, address):
    url = address.format(port=models.server.server_port)
    with plain_studio.client(plain_studio.person("lead")) as lead:
        refused = lead.post("/models", data={"csrf": csrf(lead.get("/models")), "url": url})
        assert refused.status_code == 422 and 'role="alert"' in refused.text and models.requests == []
        assert 'href="/talk"' not in lead.get("/work").text, "nothing was set"


def test_an_address_in_the_database_is_checked_again_when_it_is_used(start, models, tmp_path_factory):
    database = tmp_path_factory.mktemp("studio") / "studio.db"
    with Store.open(database) as store:
        url = f"https://localhost:{models.server.server_port}/v1"
        store.write(lambda conn: set_setting(conn, "models", {"url": url, "names": ["secret-model-x"]}))
        _, said = start("--db", str(database), "--port", "0", lines=2)
        studio = Studio(re.search(r"http://\S+", said[0])[0], "", store)
        with studio.client(studio.person()) as client:
            page = send(client, begin(client), text="Tea?")
            assert page.status_code == 503 and "cannot be reached" in page.text and models.requests == []


def test_a_model_that_does_not_answer_keeps_no_studio_from_ending(start, models, tmp_path_factory):
    gate = threading.Event()
    models.answer = lambda body: (gate.wait(40), ["a", "b"])[1]
    database = tmp_path_factory.mktemp("studio") / "studio.db"
    process, said = start("--db", str(database), "--port", "0", "--models", models.url, lines=2)
    with Store.open(database) as store, ThreadPoolExecutor(1) as pool:
        studio = Studio(re.search(r"http://\S+", said[0])[0], "", store)
        with studio.client(studio.person()) as client:
            pool.submit(lambda: send(client, begin(client), text="Tea?"))
            while not models.requests:
                time.sleep(0.05)
            process.terminate()
            process.wait(20)
            gate.set()
        with store.read() as conn:
            kept = conn.scalar(select(conversations.c.messages))
    assert kept["draft"]["fields"] == {"text": "Tea?"}


def test_without_a_server_conversations_wait_and_keep_nobody_from_other_work(plain_studio):
    for _ in range(8):
        plain_studio.task("conversation", ())
    plain_studio.task("label", ("The only other work.",))
    with plain_studio.client(plain_studio.person()) as client:
        page = client.get("/work")
        assert "The only other work." in page.text and 'href="/talk"' not in page.text
        page = client.post(action(page), data={"csrf": csrf(page), "label": "yes"})
        assert heading(page) == "Nothing to do right now" and "nobody to talk to" in client.get("/talk").text
        begun = client.post("/talk", data={"csrf": csrf(client.get("/me"))})
        assert (begun.url.path, heading(begun)) == ("/work", "Nothing to do right now")
    with plain_studio.client(plain_studio.person("lead")) as lead:
        assert "Conversations wait" in lead.get("/dashboard").text


def test_who_has_not_passed_the_screening_talks_to_nobody(studio, models):
    studio.store.write(lambda conn: set_setting(conn, "screening", {"at_most": 1}))
    studio.task("comparison", purpose="screening", expected={"ranks": [0, 1]})
    newcomer = studio.person(screened=False)
    with studio.client(newcomer) as client:
        assert 'href="/talk"' not in client.get("/me").text and "nobody to talk to" in client.get("/talk").text
        assert client.post("/talk", data={"csrf": csrf(client.get("/me"))}).url.path == "/work"
    begun = studio.person()
    with studio.client(begun) as client:
        page = begin(client)
        failed = update(labelers).where(labelers.c.id == begun.id).values(screening={"state": "failed"})
        studio.store.write(lambda conn: conn.execute(failed))
        assert send(client, page, text="fifteen minutes of thought").url.path == "/work" and models.requests == []
        assert "fifteen minutes of thought</textarea>" in client.get(page.url.path).text


def test_on_a_full_disk_what_was_said_stays_on_the_page(tmp_path, monkeypatch):
    with Store.open(tmp_path / "studio.db") as store:
        number = store.write(lambda conn: accounts.add_account(conn, name="ann", role="expert", password_hash="none", now=store.now()))
        key = store.write(lambda conn: accounts.open_session(conn, number, now=store.now(), user_agent="test"))
        begun = store.write(lambda conn: start_conversation(conn, number, now=store.now()))
        client = TestClient(create_studio(store, site := Site(port=8600)), base_url=site.url, cookies={site.cookie: key})
        token = csrf(client.get(f"/talk/{begun}"))

        def full(work):
            raise StoreError("the database cannot be written: the disk is full")

        monkeypatch.setattr(store, "write", full)
        page = client.post(f"/talk/{begun}/say", data={"csrf": token, "at": "0", "text": "fifteen minutes of thought"})
    assert page.status_code == 503 and "the disk is full" in page.text and "fifteen minutes of thought</textarea>" in page.text
