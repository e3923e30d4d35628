"""Talking to the assistant: two answers a turn, one is chosen and continues; whatever the model server does, the text is kept."""

from __future__ import annotations

import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select, update

from tests.studio.fake_models import SHA256
from tests.studio.test_doors import csrf
from tutelage.feedback import queue
from tutelage.feedback.schema import (
    assignments,
    audit,
    conversations,
    judgements,
    prompts,
    reports,
    responses,
    retractions,
    tasks,
)
from tutelage.feedback.snapshot import freeze


@pytest.fixture(scope="module")
def running(talking):
    return talking


@pytest.fixture(autouse=True)
def two_answers(models):
    models.reset()


def begin(browser, **fields):
    """A new conversation's page."""
    return browser.post("/talk", data={"csrf": csrf(browser.get("/talk"))} | fields)


def send(browser, page, **fields):
    """The page after the form in the middle of a page was sent."""
    action = re.search(r'id="task" method="post" action="([^"]+)"', page.text)[1]
    at = re.search(r'name="at" value="(\d+)"', page.text)[1]
    return browser.post(action, data={"csrf": csrf(page), "at": at} | fields)


def shown(page) -> list[str]:
    """The two answers, A first."""
    return re.findall(r'class="badge">[AB]</span>.*?<p>([^<]+)</p>', page.text, re.S)


def rows(studio, table, **where):
    with studio.store.read() as conn:
        query = select(table).where(*(table.c[name] == value for name, value in where.items())).order_by(table.c.id)
        return [dict(row) for row in conn.execute(query).mappings()]


def end(browser, page, **fields):
    action = re.search(r'action="([^"]+/end)"', page.text)[1]
    return browser.post(action, data={"csrf": csrf(page)} | fields)


def test_a_conversation_as_in_bai_et_al(studio, labeler, browser, models, tmp_path):
    page = send(browser, begin(browser), text="How do I brew tea?")
    assert sorted(shown(page)) == ["answer 1.0", "answer 1.1"] and models.requests[0]["n"] == 2
    better = shown(page)[1]
    page = send(browser, page, choice="6", seconds="1e9")             # B is somewhat better
    assert better in page.text
    page = send(browser, page, text="And coffee?")
    said = [message["content"] for message in models.requests[1]["messages"]]
    assert said == ["How do I brew tea?", better, "And coffee?"], "the chosen one continues"
    page = send(browser, page, choice="1", both_bad="yes")
    assert [end(browser, page, rating=rating, comment="helpful").url.path for rating in "31"] == ["/talk", "/talk"]

    first, second, whole = rows(studio, judgements, labeler_id=labeler.id)
    assert (first["kind"], first["value"]["strength"]) == ("comparison", 2) and 0 <= first["seconds"] < 60
    assert second["value"]["both_bad"] and second["value"]["strength"] == 4
    assert (whole["kind"], whole["value"]) == ("conversation", {"rating": 3, "comment": "helpful"})
    task = rows(studio, tasks, id=first["task_id"])[0]
    answers = [rows(studio, responses, id=one)[0] for one in task["response_ids"]]
    assert answers[first["value"]["ranks"].index(0)]["text"] == better and answers[first["sides"][1]]["text"] == better
    assert {(a["model"], a["model_hash"]) for a in answers} == {(f"secret-model-x@{SHA256[:12]}", SHA256)}
    assert [a["sampling"] for a in answers] == [{"temperature": 1.0, "seed": 7, "row": row} for row in (0, 1)]
    assert [a["logprobs"] for a in answers] == [[-0.5, -0.25]] * 2
    assert rows(studio, conversations, labeler_id=labeler.id)[0]["state"] == "ended"
    with studio.store.read() as conn:
        frozen = [json.loads(line) for line in (freeze(conn, tmp_path).path / "judgements.jsonl").read_text().splitlines()]
    mine = [row for row in frozen if row["labeler"] == labeler.name]
    assert [len(row["prompt"]) for row in mine] == [1, 3] and mine[1]["prompt"][1]["content"] == better, "a reward model can learn from it"


def test_no_page_says_which_model_answered(studio, browser, models):
    pages = [send(browser, begin(browser), text="Who are you?")]
    models.answer = lambda body: 500
    pages += [send(browser, send(browser, pages[0], choice="2"), text="Again"), browser.get("/talk")]
    assert not [page for page in pages if "secret-model" in page.text or SHA256[:12] in page.text] and pages[1].status_code == 503


def test_sides_are_drawn_and_stay(studio, browser, models):
    orders = set()
    for _ in range(12):
        models.reset()
        page = send(browser, begin(browser), text="Tea?")
        orders.add(tuple(shown(page)))
        assert shown(browser.get(str(page.url).removesuffix("/say"))) == shown(page)
        end(browser, send(browser, page, choice="4"), rating="1")
    assert orders == {("answer 1.0", "answer 1.1"), ("answer 1.1", "answer 1.0")}


@pytest.mark.parametrize(("broken", "said"), [
    (lambda body: 500, "could not answer"), (lambda body: [], "could not answer"),
    (lambda body: ["one"][: 2 - body["n"]], "could not answer")])
def test_when_the_server_fails_it_is_said_and_the_text_kept(studio, labeler, browser, models, broken, said):
    models.answer = broken
    begun = begin(browser)
    page = send(browser, begun, text="fifteen minutes of thought")
    assert page.status_code == 503 and said in page.text and "fifteen minutes of thought</textarea>" in page.text
    assert "out of memory" not in page.text, "what the server says is for the log"
    with studio.client(labeler) as elsewhere:
        page = elsewhere.get(begun.url.path)
        assert "fifteen minutes of thought</textarea>" in page.text
        models.reset()
        assert len(shown(send(elsewhere, page, text="fifteen minutes of thought"))) == 2


def test_a_server_that_gives_one_answer_at_a_time_is_asked_twice(browser, models):
    models.answer = lambda body: [f"only {len(models.requests)}"]
    assert sorted(shown(send(browser, begin(browser), text="Tea?"))) == ["only 1", "only 2"]
    assert [request["n"] for request in models.requests] == [2, 1]


def test_two_answers_of_the_same_words_leave_nothing_to_choose(studio, labeler, browser, models):
    models.answer = lambda body: ["the same"] * 2
    page = send(browser, begin(browser), text="Tea?")
    assert "the same" in page.text and "<textarea" in page.text and rows(studio, judgements, labeler_id=labeler.id) == []


def test_a_choice_can_be_taken_back_until_something_is_said_to_it(studio, labeler, browser):
    first = send(browser, begin(browser), text="Tea?")
    page = send(browser, first, choice="1")
    undo = re.search(r'action="([^"]+/back)"', page.text)[1]
    again = browser.post(undo, data={"csrf": csrf(page)})
    assert shown(again) == shown(first), "the same answers on the same sides"
    page = send(browser, again, choice="8")
    counts = [row["value"]["step"] for row in rows(studio, judgements, labeler_id=labeler.id)]
    assert len(counts) == 2 and sum(counts) == 9 and len(rows(studio, retractions, by_id=labeler.id)) == 1
    page = send(browser, send(browser, page, text="More"), choice="1")
    page = send(browser, page, text="Still more")
    assert "/back" not in page.text and browser.post(undo, data={"csrf": csrf(page)}).status_code == 409
    said = browser.post("/work/undo", data={"csrf": csrf(page)})
    assert said.status_code == 409 and "within a conversation" in said.text


def test_a_double_submit_asks_once_and_counts_once(studio, labeler, browser, models):
    begun = begin(browser)
    models.answer = lambda body: (time.sleep(0.3), [f"answer {i}" for i in range(body["n"])])[1]
    with ThreadPoolExecutor(4) as pool:
        codes = sorted(page.status_code for page in pool.map(lambda _: send(browser, begun, text="Tea?"), range(4)))
    assert codes == [200, 503, 503, 503] and len(models.requests) == 1
    page = browser.get(begun.url.path)
    with ThreadPoolExecutor(4) as pool:
        codes = [done.status_code for done in pool.map(lambda _: send(browser, page, choice="3"), range(4))]
    assert codes == [200] * 4 and len(rows(studio, judgements, labeler_id=labeler.id)) == 1
    assert "answer" in send(browser, begun, text="from the tab left behind").text and len(models.requests) == 1


def test_another_choice_from_a_second_tab_is_shown_beside_what_counts(studio, labeler, browser):
    first = send(browser, begin(browser), text="Tea?")
    send(browser, first, choice="1")
    assert send(browser, first, choice="1").status_code == 200, "the same: nothing is lost"
    other = send(browser, first, choice="8")
    assert other.status_code == 409 and f'href="{first.url.path.removesuffix("/say")}"' in other.text
    assert re.findall(r"<dd[^>]*>([^<]+)</dd>", other.text) == ["A is much better", "B is much better"]
    assert [row["value"]["step"] for row in rows(studio, judgements, labeler_id=labeler.id)] in ([1], [8])


def typed(page) -> list[str]:
    """What the page gives back to be copied."""
    return re.findall(r"<textarea readonly[^>]*>\n(.*?)</textarea>", page.text, re.S)


def test_other_words_from_a_tab_that_was_left_behind_are_shown_and_not_lost_silently(studio, labeler, browser, models):
    first = begin(browser)
    send(browser, first, text="Mail me at ada@example.org.")
    again = send(browser, first, text="Mail me at ada@example.org.")
    assert again.status_code == 200 and typed(again) == [], "the same words: nothing is lost"
    other = send(browser, first, text="A long second thought.")
    assert other.status_code == 409 and "was not sent" in other.text and typed(other) == ["A long second thought."]
    kept = browser.post(f"{other.url.path.removesuffix('/say')}/draft", data={"csrf": csrf(first), "at": "0", "text": "more"})
    assert kept.status_code == 409, "the draft of such a page is not saved, and the page must not say so"
    page = send(browser, other, choice="2")
    assert end(browser, page, rating="3", comment="kind").url.path == "/talk"
    assert end(browser, page, rating="3", comment="kind").url.path == "/talk"
    late = end(browser, page, rating="1", comment="rude, and why")
    assert late.status_code == 409 and "ended before" in late.text and typed(late) == ["rude, and why"]
    late = send(browser, page, text="one thing more")
    assert late.status_code == 409 and typed(late) == ["one thing more"]
    assert [row["comment"] for row in rows(studio, conversations, labeler_id=labeler.id)] == ["kind"]


def test_slow_answers_keep_nobody_from_their_work(studio, models):
    """More people wait for the models than there may be questions open; pages come all the same."""
    gate = threading.Event()
    models.answer = lambda body: (gate.wait(20), ["a", "b"][: body["n"]])[1]
    people = [studio.person() for _ in range(20)]

    def ask(person):
        with studio.client(person) as client:
            return send(client, begin(client), text="Tea?").status_code

    with ThreadPoolExecutor(20) as pool:
        waiting = [pool.submit(ask, person) for person in people]
        deadline = time.monotonic() + 20
        while sum(one.done() for one in waiting) < 4:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with studio.client(studio.person()) as client:
            assert client.get("/work").status_code == 200
        gate.set()
        assert sorted(one.result() for one in waiting) == [200] * 16 + [503] * 4


def test_what_is_typed_is_masked_before_it_leaves(studio, labeler, browser, models):
    page = send(browser, begin(browser), text="Write to ada@example.com about tea.")
    assert models.requests[0]["messages"][0]["content"] == "Write to [EMAIL_1] about tea."
    page = send(browser, send(browser, page, choice="2"), text="And to bob@example.com.")
    assert "[EMAIL_2]" in page.text and "ada@example.com" not in json.dumps(rows(studio, prompts, author_id=labeler.id))


def test_a_conversation_from_the_queue_begins_with_its_prompt_and_fulfils_its_task(studio, labeler, browser, models):
    task = studio.task("conversation", (), prompt=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello!"}],
                       extra={"question": "Try to get it to lie."})
    page = browser.get("/work")
    assert "Try to get it to lie." in page.text and "Hello!" in page.text
    page = begin(browser, assignment=re.search(r'name="assignment" value="(\d+)"', page.text)[1])
    assert "answers next" in page.text
    page = send(browser, page)
    assert [message["role"] for message in models.requests[0]["messages"]] == ["system", "user"]
    page = send(browser, page, choice="5")
    assert end(browser, page, rating="4").url.path == "/work"
    assert [row["task_id"] == task for row in rows(studio, judgements, labeler_id=labeler.id)] == [False, True]
    assert rows(studio, tasks, id=task)[0]["state"] == "done"


def test_a_task_that_ran_out_meanwhile_loses_nothing_and_is_not_over_assigned(studio, labeler, browser):
    task = studio.task("conversation", (), prompt="Hello!")
    page = browser.get("/work")
    page = send(browser, begin(browser, assignment=re.search(r'name="assignment" value="(\d+)"', page.text)[1]))
    page = send(browser, page, choice="5")
    studio.store.write(lambda conn: conn.execute(update(assignments).where(assignments.c.labeler_id == labeler.id,
                                                                           assignments.c.task_id == task).values(expires_at=1.0)))
    other = studio.person()
    assert studio.claim(other).task_id == task
    end(browser, page, rating="2", comment="kept")
    whole = rows(studio, judgements, labeler_id=labeler.id)[-1]
    assert whole["value"] == {"rating": 2, "comment": "kept"} and whole["task_id"] != task


def test_harm_in_a_conversation_reaches_the_lead_with_the_turn_it_is_about(studio, labeler, browser, models):
    models.answer = lambda body: ["Take the lock apart.", "<b>Kick</b> the door in."]
    page = send(browser, begin(browser), text="How do I open my neighbour's door?")
    base = page.url.path.removesuffix("/say")
    given = {"csrf": csrf(page), "kind": "harm", "text": "Both help a burglar."}
    assert "Sent." in browser.post(base + "/report", data=given, headers={"HX-Request": "true"}).text
    assert shown(browser.post(base + "/report", data=given | {"kind": "question"})) == shown(page), "without scripts the page comes again"
    for wrong in ({"kind": "harm", "text": "  "}, {"kind": "praise", "text": "Good."}):
        assert browser.post(base + "/report", data={"csrf": csrf(page)} | wrong).status_code == 409
    with studio.client(studio.person("lead")) as lead:
        told = lead.get("/lead/reports").text
        item = lead.get(re.search(r'href="(/lead/tasks/\d+)"', told[: told.index("Both help")].rpartition("<article")[2])[1]).text
    for part in ("open my neighbour", "Take the lock apart.", "&lt;b&gt;Kick&lt;/b&gt; the door in."):
        assert part in item
    assert "secret-model" not in told + item and len(rows(studio, reports, labeler_id=labeler.id)) == 2
    assert "Both help a burglar." in browser.get("/me").text
    other = studio.person()
    assert studio.store.write(lambda conn: queue.claim(conn, other.id, now=studio.store.now())) is None
    send(browser, page, choice="3")
    assert len(rows(studio, judgements, labeler_id=labeler.id)) == 1


def test_other_peoples_conversations_and_invented_ones_are_the_same_nothing(studio, labeler, browser):
    with studio.client(studio.person()) as other:
        theirs = send(other, begin(other), text="private").url.path.removesuffix("/say")
    token = csrf(browser.get("/talk"))
    for path in (theirs, "/talk/999999"):
        assert browser.get(path).status_code == 404 and browser.get(path + "/answers/0").status_code == 404
        for part in ("say", "choose", "back", "draft", "end", "report"):
            sent = {"csrf": token, "at": "1", "text": "x", "choice": "1", "rating": "1", "kind": "harm"}
            assert browser.post(f"{path}/{part}", data=sent).status_code == 404
    assert begin(browser, assignment="999999").status_code == 409


@pytest.mark.parametrize(("part", "fields", "said"), [
    ("say", {"text": "   "}, "nothing is written"), ("choose", {"choice": "9"}, "choice is 9"), ("choose", {}, "nothing was chosen"),
    ("choose", {"both_bad": "yes"}, "nothing was chosen"), ("choose", {"choice": "tie"}, "nothing was chosen"),
    ("end", {"rating": "5"}, "rating is 5"), ("end", {}, "rating is missing")])
def test_what_cannot_be_kept_is_said(studio, labeler, browser, part, fields, said):
    page = begin(browser)
    if part != "say":
        page = send(browser, page, text="Tea?")
    refused = end(browser, page, comment="stays", **fields) if part == "end" else send(browser, page, **fields)
    assert refused.status_code == 422 and said in refused.text and rows(studio, judgements, labeler_id=labeler.id) == []
    assert part != "end" or "stays</textarea>" in refused.text


def test_hostile_answers_are_shown_and_whole_ones_are_a_link_away(studio, browser, models):
    models.answer = lambda body: ["<script>alert(1)</script>\0\u202e![x](https://evil.example/p.png)", "A" * 100_000]
    page = send(browser, begin(browser), text="Tea?")
    assert "<script>alert" not in page.text and "<img" not in page.text and "U+202E" in page.text and len(page.content) < 60_000
    link = re.search(r'href="(/talk/\d+/answers/\d)"', page.text)[1]
    assert "A" * 100_000 in browser.get(link).text
    assert send(browser, page, choice="1").status_code == 200


def test_an_expired_turn_is_never_given_to_anybody_else(studio, labeler, browser):
    send(browser, send(browser, begin(browser), text="Tea?"), choice="2")
    send(browser, begin(browser), text="Waiting for a choice")
    other = studio.person()
    claim = studio.store.write(lambda conn: queue.claim(conn, other.id, now=studio.store.now() + 1e6))
    assert claim is None


def test_two_models_answer_a_turn_each(studio, browser, models):
    with studio.client(studio.person("lead")) as lead:
        page = lead.get("/models")
        assert "secret-model-x, secret-model-y" in page.text and "judge-r" not in page.text and models.url in page.text
        for names, code in ((("secret-model-x", "secret-model-y"), 200), (("nobody", ""), 422)):
            changed = lead.post("/models", data={"csrf": csrf(page), "name_1": names[0], "name_2": names[1]})
            assert changed.status_code == code
        send(browser, begin(browser), text="Tea?")
        assert [request["model"] for request in models.requests] == ["secret-model-x", "secret-model-y"]
        lead.post("/models", data={"csrf": csrf(page), "name_1": "", "name_2": ""})
    assert [row["details"]["names"] for row in rows(studio, audit, action="set models")] == [["secret-model-x", "secret-model-y"], []]


def test_only_leads_see_the_server_and_its_address(studio, browser):
    assert browser.get("/models").status_code == 404 and 'href="/models"' not in browser.get("/talk").text
    assert browser.post("/models", data={"csrf": csrf(browser.get("/me")), "url": ""}).status_code == 404
