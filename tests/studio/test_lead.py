"""A lead's rooms over plain HTTP: guidelines in versions, the inbox of reports, items."""

from __future__ import annotations

import json
import re

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import delete, select, update

from tests.studio.test_doors import csrf
from tests.studio.test_work import action, heading
from tutelage.feedback import accounts
from tutelage.feedback.errors import StoreError
from tutelage.feedback.schema import judgements, labelers, reports, settings, tasks
from tutelage.feedback.store import Store
from tutelage.studio.app import create_studio
from tutelage.web.site import Site

PAGES = ("/lead/items", "/lead/reports", "/lead/reports?closed=1", "/lead/guidelines", "/lead/screening", "/lead/adjudication",
         "/lead/writing",
         "/lead/disagreements")


def base(page) -> str:
    """The version that the editor's form would be saved over."""
    return re.search(r'name="base" value="(.*?)"', page.text)[1]


@pytest.fixture
def lead(studio, lead):
    """A lead of a studio without guidelines and reports."""
    studio.store.write(lambda conn: conn.execute(delete(settings).where(settings.c.name.startswith("guidelines"))))
    studio.store.write(lambda conn: conn.execute(update(reports).values(state="closed")))
    return lead


@pytest.mark.parametrize("path", [*PAGES, "/lead/tasks/1", "/lead/guidelines/1"])
def test_labelers_and_experts_find_no_lead_page(studio, browser, path):
    with studio.client(studio.person("expert")) as expert:
        assert browser.get(path).status_code == expert.get(path).status_code == 404
    assert "/lead" not in browser.get("/me").text


@pytest.mark.parametrize("path", ["/lead/guidelines", "/lead/reports/1", "/lead/tasks/1/halt", "/lead/tasks/1/open", "/lead/tasks/1/copies",
                                  "/lead/screening/1", "/lead/screening/test", "/lead/adjudication", "/lead/adjudication/1",
                                  "/lead/disagreements/1", "/lead/writing", "/lead/writing/answers"])
def test_a_form_sent_by_a_labeler_does_nothing(studio, browser, path):
    assert browser.post(path, data={"csrf": csrf(browser.get("/me")), "text": "Mine now."}).status_code == 404
    with studio.store.read() as conn:
        assert conn.scalar(select(reports.c.id).where(reports.c.answer == "Mine now.")) is None


def test_saved_guidelines_are_what_labelers_read_and_what_judgements_name(studio, labeler, browser, lead):
    page = lead.get("/lead/guidelines")
    for number, text in ((1, "Be **kind**."), (2, "Be **honest**.")):
        page = lead.post("/lead/guidelines", data={"csrf": csrf(page), "base": base(page), "text": text})
        assert f"In force: version {number}" in page.text
        studio.task("label", ("One.",))
        task = browser.get("/work")
        browser.post(action(task), data={"csrf": csrf(task), "label": "yes"})
    assert "guidelines have changed" not in browser.get("/work").text, "they had never read any"
    assert "Be <strong>honest</strong>." in browser.get("/guidelines").text
    lead.post("/lead/guidelines", data={"csrf": csrf(page), "base": "2", "text": "Be brief."})
    assert "The guidelines have changed: version 3" in browser.get("/work").text
    browser.get("/guidelines")
    assert "guidelines have changed" not in browser.get("/work").text
    assert "Be <strong>kind</strong>." in lead.get("/lead/guidelines/1").text
    with studio.store.read() as conn:
        kept = conn.scalars(select(judgements.c.guideline_version).where(judgements.c.labeler_id == labeler.id)).all()
    assert kept == ["1", "2"]


def test_a_preview_saves_nothing_and_a_second_lead_overwrites_nothing(studio, lead):
    page = lead.get("/lead/guidelines")
    shown = lead.post("/lead/guidelines", data={"csrf": csrf(page), "base": "", "text": "# Try", "preview": "yes"})
    assert 'class="md1"' in shown.text and "In force" not in shown.text
    with studio.client(studio.person("lead")) as other:
        theirs = other.get("/lead/guidelines")
        assert "In force: version 1" in lead.post("/lead/guidelines", data={"csrf": csrf(page), "base": "", "text": "First."}).text
        late = other.post("/lead/guidelines", data={"csrf": csrf(theirs), "base": "", "text": "Hours of work."})
    assert late.status_code == 422 and "saved while you wrote" in late.text and "Hours of work." in late.text and "First." in late.text
    assert base(late) == "1", "saved again knowingly, it goes over version 1"


def test_a_question_is_answered_and_the_labeler_sees_it_on_the_next_page(studio, labeler, browser, lead):
    studio.task(overlap=2)
    page = browser.get("/work")
    browser.post(action(page) + "/report", data={"csrf": csrf(page), "kind": "question", "text": "What is <tea>\u202e?"})
    inbox = lead.get("/lead/reports")
    assert "What is &lt;tea&gt;" in inbox.text and "U+202E" in inbox.text and labeler.name in inbox.text
    assert re.search(r'href="/lead"[^>]*>Lead <span class="count">1<', inbox.text)
    to = re.search(r'action="(/lead/reports/\d+)"', inbox.text)[1]
    empty = lead.post(to, data={"csrf": csrf(inbox), "text": " "})
    assert empty.status_code == 409 and re.search(rf'action="{to}".*answer is empty.*autofocus', empty.text, re.S), "above its own box"
    done = lead.post(to, data={"csrf": csrf(inbox), "text": "A *hot* drink."})
    assert "Nothing here." in done.text and '<span class="count">' not in done.text
    assert "Your lead has answered you" in browser.get("/work").text
    mine = browser.get("/me").text
    assert "A <em>hot</em> drink." in mine and "lead-" not in mine, "no name of the lead"
    assert "Your lead has answered you" not in browser.get("/work").text
    closed = lead.get("/lead/reports?closed=1")
    assert "Nothing here." not in lead.post(to + "/open", data={"csrf": csrf(closed)}).text


def test_a_harm_report_leads_to_its_item_which_can_leave_the_queue_and_come_back(studio, labeler, browser, lead):
    task = studio.task(overlap=3)
    page = browser.get("/work")
    browser.post(action(page) + "/report", data={"csrf": csrf(page), "kind": "harm", "text": "Insults."})
    browser.post(action(page), data={"csrf": csrf(page), "choice": "3"})
    inbox = lead.get("/lead/reports")
    assert f'href="/lead/tasks/{task}"' in inbox.text
    item = lead.get(f"/lead/tasks/{task}")
    assert heading(item).startswith(f"Item {task}") and labeler.name in item.text and "somewhat better" in item.text
    assert "secret-model-x" not in item.text
    out = lead.post(f"/lead/tasks/{task}/halt", data={"csrf": csrf(item)})
    assert "out of the queue" in out.text
    with studio.client(studio.person()) as other:
        assert heading(other.get("/work")) == "Nothing to do right now"
        lead.post(f"/lead/tasks/{task}/open", data={"csrf": csrf(item)})
        assert heading(other.get("/work")) == "Compare"
    with studio.store.read() as conn:
        assert conn.scalar(select(tasks.c.state).where(tasks.c.id == task)) == "open"
    assert lead.get("/lead/tasks/999999").status_code == 404


def test_a_newcomer_takes_the_test_and_passes_into_work(studio, lead):
    for _ in range(3):
        studio.task("label", ("One.",), purpose="screening", expected={"label": True})
    studio.task()
    lead.post("/lead/screening/test", data={"csrf": csrf(lead.get("/lead/screening")), "good": "90", "poor": "30", "at_most": "10"})
    with studio.client(studio.person(screened=False)) as newcomer:
        for left in (2, 1, 0):
            page = newcomer.get("/work")
            assert "This is the test before the work" in page.text
            page = newcomer.post(action(page), data={"csrf": csrf(page), "label": "yes"})
            assert ("This is the test" in page.text) == bool(left)
        assert "you passed" in page.text and heading(page) == "Compare"


def test_who_does_not_pass_is_told_kindly_and_a_lead_can_let_them_in(studio, lead):
    for _ in range(3):
        studio.task("label", ("One.",), purpose="screening", expected={"label": True})
    studio.task(overlap=9)
    lead.post("/lead/screening/test", data={"csrf": csrf(lead.get("/lead/screening")), "good": "90", "poor": "30", "at_most": "10"})
    person = studio.person(screened=False)
    with studio.client(person) as newcomer:
        for _ in range(2):
            page = newcomer.get("/work")
            page = newcomer.post(action(page), data={"csrf": csrf(page), "label": "no"})
        assert heading(page) == "Thank you for taking the test" and "nothing more about you" in page.text
        found = lead.get("/lead/screening")
        assert re.search(rf"{person.name}</td>.*?0 of 2.*?not passed", found.text, re.S)
        lead.post(f"/lead/screening/{person.id}", data={"csrf": csrf(found), "state": "passed"})
        assert heading(newcomer.get("/work")) == "Compare"
    assert lead.post(f"/lead/screening/{person.id}", data={"csrf": csrf(found), "state": "king"}).status_code == 409


def test_a_test_that_items_cannot_decide_waits_for_the_lead_and_says_so(studio, lead):
    for _ in range(3):
        studio.task("label", ("One.",), purpose="screening", expected={"label": True})
    lead.post("/lead/screening/test", data={"csrf": csrf(lead.get("/lead/screening")), "good": "90", "poor": "30", "at_most": "160"})
    nobody = re.findall(r'class="count">(\d+)', lead.get("/lead/screening").text)
    with studio.client(person := studio.person(screened=False)) as newcomer:
        page = newcomer.get("/work")
        for said in ("yes", "no", "yes"):
            page = newcomer.post(action(page), data={"csrf": csrf(page), "label": said})
        assert heading(page) == "Thank you, those were all the items" and "your lead looks" in page.text
    page = lead.get("/lead/screening").text
    assert re.search(rf"{person.name}</td>.*?2 of 3.*?waits for you", page, re.S)
    counts = re.findall(r'class="count">(\d+)', page)
    assert int(counts[0]) == int((nobody or ["0"])[0]) + 1 and counts[-1] == "1", "beside Lead, and beside Screening"


def test_a_first_test_item_stops_nobody_who_is_at_work(studio, lead):
    lead.post("/lead/screening/test", data={"csrf": csrf(lead.get("/lead/screening")), "good": "75", "poor": "60", "at_most": "160"})
    task = studio.task("label", ("One.",))
    studio.task("label", ("Two.",))
    with studio.client(studio.person(screened=False)) as worker:
        page = worker.get("/work")
        page = worker.post(action(page), data={"csrf": csrf(page), "label": "yes"})
        found = lead.get(f"/lead/tasks/{task}")
        lead.post(f"/lead/tasks/{task}/copies", data={"csrf": csrf(found), "purpose": "screening", "right": "0"})
        page = worker.post(action(page), data={"csrf": csrf(page), "label": "yes"})
        assert "those were all the items" not in page.text
    assert "not given yet: there are 1 items, and no result comes with fewer than 14" in lead.get("/lead/screening").text


@pytest.mark.parametrize("numbers", [("60", "75", "10"), ("x", "50", "10"), ("90", "", "10"), ("90", "50", "0"), ("nan", "50", "10")])
def test_a_test_that_tells_nobody_apart_is_refused(studio, lead, numbers):
    page = lead.get("/lead/screening")
    refused = lead.post("/lead/screening/test", data={"csrf": csrf(page)} | dict(zip(("good", "poor", "at_most"), numbers, strict=True)))
    assert refused.status_code == 422 and 'role="alert"' in refused.text


def test_a_lead_makes_a_practice_item_of_a_task_with_the_right_answer_and_reasons(studio, lead):
    task = studio.task()
    page = lead.get(f"/lead/tasks/{task}")
    form = {"csrf": csrf(page), "purpose": "practice"}
    refused = lead.post(f"/lead/tasks/{task}/copies", data=form | {"text": "Kept <here>."})
    assert refused.status_code == 422 and "needs its answer" in refused.text and "Kept &lt;here&gt;." in refused.text
    made = lead.post(f"/lead/tasks/{task}/copies", data=form | {"right": "1", "text": "It is **kinder**."})
    assert "B is better" in made.text and re.search(r"/lead/tasks/\d+$", str(made.url))
    studio.store.write(lambda conn: conn.execute(update(tasks).where(tasks.c.id == task).values(state="halted")))
    with studio.client(studio.person(screened=False)) as newcomer:
        page = newcomer.get("/work")
        assert "practice" in page.text
        told = newcomer.post(action(page), data={"csrf": csrf(page), "choice": "1"})
        assert "It is <strong>kinder</strong>." in told.text


def test_an_endless_answer_of_an_item_is_one_link_away(studio, lead):
    task = studio.task(answers=("A" * 30_000, "short"))
    link = re.search(rf'href="(/lead/tasks/{task}/answers/0)"', lead.get(f"/lead/tasks/{task}").text)[1]
    assert "A" * 30_000 in lead.get(link).text
    for at in ("2", "-1", "x"):
        assert lead.get(f"/lead/tasks/{task}/answers/{at}").status_code == 404


def test_what_is_kept_about_somebody_is_theirs_whole_without_keys_models_and_other_people(studio, labeler, browser, lead):
    studio.task()
    page = browser.get("/work")
    browser.post(action(page) + "/report", data={"csrf": csrf(page), "kind": "question", "text": "Which tea?"})
    inbox = lead.get("/lead/reports")
    lead.post(re.search(r'action="(/lead/reports/\d+)"', inbox.text)[1], data={"csrf": csrf(inbox), "text": "Any tea."})
    lead.post(f"/lead/screening/{labeler.id}", data={"csrf": csrf(inbox), "state": "passed"})
    browser.post(action(page), data={"csrf": csrf(page), "choice": "2"})
    answer = browser.get("/me/everything.json")
    found = answer.json()
    assert [(row["text"], row["answer"]) for row in found["reports"]] == [("Which tea?", "Any tea.")]
    assert [row["value"]["strength"] for row in found["judgements"]] == [3] and found["labelers"][0]["name"] == labeler.name
    assert found["labelers"][0]["screening"]["state"] == "passed"
    names = set(re.findall(r'"(\w+)":', answer.text))
    assert not names & {"answered_by", "by_id", "by", "csrf_token"} and "hash" not in "".join(names) and "secret-model" not in answer.text


def test_a_lead_asks_for_prompts_has_them_answered_and_takes_them_out(studio, lead):
    studio.store.write(lambda conn: conn.execute(update(tasks).where(tasks.c.kind.in_(["prompt", "demonstration"])).values(state="halted")))
    writer = studio.person()
    with studio.client(writer) as browser:
        page = lead.get("/lead/writing")
        refused = lead.post("/lead/writing", data={"csrf": csrf(page), "style": "user_based", "count": "1", "question": ""})
        assert refused.status_code == 422 and "no use is described" in refused.text and 'value="user_based" checked' in refused.text
        wanted = {"style": "user_based", "count": "1", "question": "A cook plans a dinner."}
        page = lead.post("/lead/writing", data={"csrf": csrf(page)} | wanted)
        assert "1 asked for and free to be written" in page.text
        work = browser.get("/work?kind=prompt")
        assert "A cook plans a dinner." in work.text
        browser.post(action(work), data={"csrf": csrf(work), "text": "What goes with <b>leek</b>?"})
    page = lead.get("/lead/writing")
    assert "What goes with &lt;b&gt;leek&lt;/b&gt;?" in page.text and "0 asked for" in page.text
    found = [json.loads(line) for line in lead.get("/lead/writing/prompts.jsonl").text.splitlines()]
    assert {"role": "user", "content": "What goes with <b>leek</b>?"} in [row["prompt"][-1] for row in found]
    lead.post("/lead/writing/answers", data={"csrf": csrf(page)})
    with studio.client(studio.person()) as other:
        assert "What goes with &lt;b&gt;leek&lt;/b&gt;?" in other.get("/work?kind=demonstration").text
        with studio.client(writer) as browser:
            browser.post("/work/undo", data={"csrf": csrf(browser.get("/me"))})
        assert "leek" not in other.get("/work?kind=demonstration").text + lead.get("/lead/writing/prompts.jsonl").text


def test_guidelines_that_cannot_be_written_now_stay_on_the_page(tmp_path, monkeypatch):
    with Store.open(tmp_path / "studio.db") as store:
        number = store.write(lambda conn: accounts.add_account(conn, name="lea", role="lead", password_hash="none", now=store.now()))
        key = store.write(lambda conn: accounts.open_session(conn, number, now=store.now(), user_agent="test"))
        client = TestClient(create_studio(store, site := Site(port=8600)), base_url=site.url, cookies={site.cookie: key})
        token = csrf(client.get("/lead/guidelines"))

        def full(work):
            raise StoreError("the database cannot be written: the disk is full", hint="make room")

        monkeypatch.setattr(store, "write", full)
        page = client.post("/lead/guidelines", data={"csrf": token, "text": "An hour of thought."})
    assert page.status_code == 503 and "the disk is full" in page.text and "An hour of thought.</textarea>" in page.text


def test_names_that_hide_something_are_shown_as_what_they_are(studio, labeler, lead):
    hidden = "ann\u202egnp\u200b"
    studio.store.write(lambda conn: conn.execute(update(labelers).where(labelers.c.id == labeler.id)
                                                 .values(name=f"{labeler.name}{hidden}", group=f"group {hidden}")))
    task = studio.task("rating", ("One.",), batch=f"batch {hidden}", overlap=2, extra={"question": f"Ask {hidden}"})
    held = studio.claim(labeler)
    with studio.client(labeler) as browser, studio.client(studio.person("admin")) as admin:
        page = browser.get("/work")
        browser.post(f"/work/{held.assignment_id}/report", data={"csrf": csrf(page), "kind": "question", "text": hidden})
        browser.post(f"/work/{held.assignment_id}", data={"csrf": csrf(page), "rating": "2"})
        them = f"/people?find={labeler.name}"
        told = [page, *map(lead.get, (them, "/lead/reports", f"/lead/tasks/{task}")), admin.get(them)]
        long = [*map(lead.get, ("/quality", "/dashboard", "/lead/screening")), admin.get("/dashboard")]
    for one in [*told, *long]:
        words = re.sub(r'<[^<>]*?"[^<>]*>|<[^<>]*>', "", one.text)      # what is read; attributes hold names as they are
        assert not re.search("[\u202e\u200b]", words), (one.url.path, words[max(0, words.find("\u202e") - 90):][:100])
        assert "U+202E" in words or one in long, one.url.path            # of many people those lists show some


def test_a_lead_finds_items_by_what_they_say_and_where_they_are(studio, lead):
    quoted = [{"role": "user", "content": 'Say "Äpfel" 100% plainly'}]
    asked = studio.task("label", ("Plain.",), prompt=quoted, batch="found-1")
    answered = studio.task("rating", ("A rare wörd_x.",), purpose="shared", batch="found-1")
    for _ in range(51):
        studio.task("label", ("One.",), batch="found-many")

    def found(**query):
        page = lead.get("/lead/items", params=query)
        return [int(one) for one in re.findall(r'<td><a href="/lead/tasks/(\d+)"', page.text)], page.text

    assert found(batch="found-1")[0] == [answered, asked], "newest first"
    assert found(text='say "Äpfel" 100%')[0] == [asked] and found(text="wörd_x")[0] == [answered] and found(text="wörd.x")[0] == []
    assert found(batch="found-1", kind="label")[0] == found(batch="found-1", purpose="work")[0] == [asked]
    assert found(batch="found-1", state="done")[0] == [] and "There is no such item." in found(text="nowhere at all")[1]
    first, page = found(batch="found-many")
    older = re.search(r'<a href="(/lead/items[^"]*)">Older', page)[1].replace("&amp;", "&")
    assert len(first) == 50 and len(re.findall('href="/lead/tasks/', lead.get(older).text)) == 1


def test_a_lead_enters_the_right_ranks_of_a_ranking_that_nobody_has_judged(studio, lead):
    task = studio.task("ranking", ("One.", "Two.", "Three."))
    page = lead.get(f"/lead/tasks/{task}")
    form = {"csrf": csrf(page), "purpose": "gold", "text": "Two is best."}
    for wrong in ("1 2", "1 x 2", ""):
        assert lead.post(f"/lead/tasks/{task}/copies", data=form | {"ranks": wrong}).status_code == 422, wrong
    made = lead.post(f"/lead/tasks/{task}/copies", data=form | {"ranks": "3 1 3"})
    with studio.store.read() as conn:
        assert conn.scalar(select(tasks.c.expected).where(tasks.c.id == int(made.url.path.rpartition("/")[2]))) == {
            "ranks": [1, 0, 1], "reasons": "Two is best."}
