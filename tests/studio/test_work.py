"""A labeler's work over plain HTTP, as a browser without scripts does it (what gets in its way: test_work_interrupted.py)."""

from __future__ import annotations

import re
import time

import pytest
from sqlalchemy import select, update

from tests.studio.test_doors import csrf
from tutelage.feedback.schema import assignments, judgements, labelers, reports, tasks
from tutelage.feedback.values import FLAGS


def action(page) -> str:
    """Where the task's form goes."""
    return re.search(r'id="task" method="post" action="([^"]+)"', page.text)[1]


def heading(page) -> str:
    return re.sub(r"<[^>]+>", "", re.search(r"<h1[^>]*>(.*?)</h1>", page.text, re.S)[1]).strip()


GIVEN = [
    ("rating", ("One.",), {"rating": "6", "flag": ["opinion", "hallucination"]}, {"rating": 6, "flags": ["hallucination", "opinion"]}),
    ("label", ("One.",), {"label": "no"}, {"label": False}),
    ("critique", ("One.",), {"text": "Too short.\r\nAnd rude."}, {"critique": "Too short.\nAnd rude."}),
    ("edit", ("One.",), {"text": "Two."}, {"edit": "Two."}),
    ("demonstration", (), {"text": "An answer."}, {"text": "An answer."}),
    ("prompt", (), {"text": "Write a poem."}, {"text": "Write a poem.", "style": "plain"}),
    ("comparison", ("One.", "Two."), {"choice": "tie"}, {"ranks": [0, 0], "tie": True}),
    ("comparison", ("One.", "Two."), {"both_bad": "yes"}, {"ranks": [0, 0], "both_bad": True}),
]


@pytest.mark.parametrize(("kind", "answers", "fields", "kept"), GIVEN, ids=[row[0] for row in GIVEN])
def test_what_is_entered_is_what_is_kept(studio, labeler, browser, kind, answers, fields, kept):
    studio.task(kind, answers)
    page = browser.get("/work")
    done = browser.post(action(page), data={"csrf": csrf(page)} | fields)
    assert done.status_code == 200 and studio.values(labeler) == [kept] and heading(done) == "Nothing to do right now"


@pytest.mark.parametrize("choice", range(1, 9))
def test_a_step_of_the_scale_prefers_the_answer_that_stood_there(studio, labeler, browser, choice):
    studio.task("comparison", ("alpha", "beta"))
    page = browser.get("/work")
    letters = dict(re.findall(r'class="badge">([AB])</span>.*?<p>(\w+)</p>', page.text, re.S))
    browser.post(action(page), data={"csrf": csrf(page), "choice": str(choice)})
    better = letters["A" if choice <= 4 else "B"]
    (value,) = studio.values(labeler)
    assert value["ranks"] == ([0, 1] if better == "alpha" else [1, 0]) and value["strength"] == [4, 3, 2, 1, 1, 2, 3, 4][choice - 1]


def test_a_ranking_with_ties_is_kept_in_the_tasks_order(studio, labeler, browser):
    texts = ("aa", "bb", "cc", "dd", "ee")
    studio.task("ranking", texts)
    page = browser.get("/work")
    shown = re.findall(r'<div class="said" dir="auto"><p>(\w\w)</p>', page.text)
    wanted = {"aa": 1, "bb": 2, "cc": 2, "dd": 5, "ee": 4}
    browser.post(action(page), data={"csrf": csrf(page)} | {f"rank_{at}": str(wanted[text]) for at, text in enumerate(shown)})
    assert studio.values(labeler) == [{"ranks": [0, 1, 1, 3, 2]}]


def test_a_writer_reads_that_personal_data_is_replaced_and_sees_their_prompt_without_it(studio, labeler, browser):
    studio.task("prompt", extra={"style": "plain"})
    page = browser.get("/work")
    assert "are replaced by placeholders before anyone sees them" in page.text
    browser.post(action(page), data={"csrf": csrf(page), "text": "Write to ada@example.com."})
    assert "Write to [EMAIL_1]." in browser.get("/me").text and "ada@example.com" not in browser.get("/me").text
    assert "ada@example.com" not in browser.get("/me/everything.json").text


def test_few_shot_prompts_carry_their_examples(studio, labeler, browser):
    studio.task("prompt", extra={"style": "few_shot", "question": "Write an instruction with examples."})
    page = browser.get("/work")
    assert "Write an instruction with examples." in page.text
    entered = {"text": "Translate.", "query_1": "Hund", "reply_1": "dog", "query_2": "", "reply_2": ""}
    browser.post(action(page), data={"csrf": csrf(page)} | entered)
    assert studio.values(labeler) == [{"text": "Translate.", "style": "few_shot", "examples": [{"prompt": "Hund", "response": "dog"}]}]


def test_the_page_does_not_tell_where_an_answer_came_from(studio, labeler, browser):
    task = studio.task()
    with studio.store.read() as conn:
        ids = conn.scalar(select(tasks.c.response_ids).where(tasks.c.id == task))
    page = browser.get("/work").text
    assert "secret-model-x" not in page
    page = re.sub(r'name="csrf" value="\w+"|/static/\S+|/work/\d+', "", page)
    assert not [number for number in ids if re.search(rf"\b{number}\b", page) and number > 9], "no number of the store either"


def test_sides_differ_between_people_and_stay_for_one(studio):
    studio.task("comparison", ("alpha", "beta"), overlap=40)
    seen = set()
    for _ in range(16):
        with studio.client(studio.person()) as client:
            orders = {tuple(re.findall(r"<p>(alpha|beta)</p>", client.get("/work").text)) for _ in range(2)}
            assert len(orders) == 1
            seen |= orders
    assert seen == {("alpha", "beta"), ("beta", "alpha")}


@pytest.mark.parametrize(("kind", "answers", "fields", "said"), [
    ("comparison", ("One.", "Two."), {}, "nothing was chosen"), ("comparison", ("One.", "Two."), {"choice": "9"}, "choice is 9"),
    ("ranking", ("a", "b", "c", "d"), {"rank_0": "1", "rank_1": "2"}, "ranks"), ("rating", ("One.",), {"rating": "8"}, "rating is 8"),
    ("rating", ("One.",), {"rating": "5", "flag": ["nonsense"]}, "no flag"), ("label", ("One.",), {"label": "maybe"}, "label"),
    ("critique", ("One.",), {"text": "  "}, "critique is empty"), ("demonstration", (), {}, "text is")])
def test_what_cannot_be_kept_is_said_and_what_was_entered_stays_on_the_page(studio, labeler, browser, kind, answers, fields, said):
    studio.task(kind, answers)
    page = browser.get("/work")
    refused = browser.post(action(page), data={"csrf": csrf(page)} | fields)
    assert refused.status_code == 422 and said in refused.text and studio.values(labeler) == []
    if fields.get("rating") == "5":
        assert re.search(r'name="rating" value="5"[^>]* checked', refused.text)


def test_a_prompt_that_is_cut_says_so_and_its_whole_is_a_link_away(studio, labeler, browser, lead):
    task = studio.task(prompt=[{"role": "user", "content": "short"}, {"role": "user", "content": "word " * 5000 + "ENDMARK"}])
    page, item = browser.get("/work"), lead.get(f"/lead/tasks/{task}")
    for client, shown in ((browser, page), (lead, item)):
        (link,) = re.findall(r'<a href="([^"]+)" target="_blank">Cut here[^<]*25,007', shown.text)
        whole = client.get(link)
        assert "ENDMARK" not in shown.text and "ENDMARK" in whole.text and link.endswith("/turns/1")
        assert client.get(link.replace("turns/1", "turns/2")).status_code == 404
    with studio.client(studio.person()) as other:
        assert other.get(action(page) + "/turns/1").status_code == 404


def test_guidelines_are_shown_whole_and_too_long_ones_refused(studio, browser, lead):
    token, base = (re.search(rf'name="{name}" value="(\w*)"', lead.get("/lead/guidelines").text)[1] for name in ("csrf", "base"))
    form = {"csrf": token, "base": base, "text": "rule " * 9000 + "ENDMARK"}
    assert "ENDMARK</p>" in lead.post("/lead/guidelines", data=form | {"preview": "yes"}).text
    saved = lead.post("/lead/guidelines", data=form)
    assert saved.status_code == 200 and "ENDMARK</p>" in saved.text and "ENDMARK</p>" in browser.get("/guidelines").text
    assert lead.post("/lead/guidelines", data=form | {"text": "rule " * 10_001}).status_code == 422


def test_undo_brings_the_task_back_as_it_was_filled_in(studio, labeler, browser):
    studio.task("rating", ("One.",))
    page = browser.get("/work")
    done = browser.post(action(page), data={"csrf": csrf(page), "rating": "3", "flag": "violent"})
    assert 'data-key="u"' in done.text
    back = browser.post("/work/undo", data={"csrf": csrf(done)})
    assert re.search(r'name="rating" value="3"[^>]* checked', back.text) and re.search(r'value="violent"[^>]* checked', back.text)
    browser.post(action(back), data={"csrf": csrf(back), "rating": "5"})
    assert studio.values(labeler) == [{"rating": 5, "flags": []}]
    assert "taken back" in browser.get("/me").text, "both stay to be seen"


def test_ones_own_page_tells_what_was_asked_and_what_was_practice(studio):
    for purpose, asked in (("practice", "Is <tea> hot?"), ("work", "Which " + "long " * 40)):
        studio.task("label", ("One.",), purpose=purpose, prompt=[{"role": "user", "content": asked}], expected={"label": True})
        with studio.client(person := studio.person(screened=False)) as client:
            page, day = client.get("/work"), time.time() // 86400
            client.post(action(page), data={"csrf": csrf(page), "label": "yes"})
            [row] = re.findall(r"<td>Yes or no.*?</td>", client.get("/me").text)
            assert ("practice" in row) == (purpose == "practice") and len(row) < 200
            assert ("Is &lt;tea&gt; hot?" if purpose == "practice" else "Which long long") in row
            given = re.findall(r"(\d+) today", client.get("/work").text)
            assert given == ["0" if purpose == "practice" else "1"] or (given == ["0"] and time.time() // 86400 > day), person
        studio.store.write(lambda conn: conn.execute(update(tasks).values(state="halted")))


def test_a_skipped_task_does_not_come_again_and_the_reason_is_kept(studio, labeler, browser):
    studio.task()
    page = browser.get("/work")
    done = browser.post(action(page) + "/skip", data={"csrf": csrf(page), "reason": "unclear", "text": "which tea?"})
    assert heading(done) == "Nothing to do right now" and heading(browser.get("/work")) == "Nothing to do right now"
    with studio.store.read() as conn:
        assert conn.scalar(select(assignments.c.reason).where(assignments.c.labeler_id == labeler.id)) == "unclear: which tea?"
    studio.store.write(lambda conn: conn.execute(update(tasks).values(state="halted")))
    with studio.client(studio.person("lead")) as lead:
        assert "It is not clear what is asked: which tea?" in lead.get("/lead/adjudication").text


@pytest.mark.parametrize("kind", ["harm", "question"])
def test_a_word_to_the_lead_is_kept_and_the_task_stays(studio, labeler, browser, kind):
    task = studio.task()
    page = browser.get("/work")
    told = browser.post(action(page) + "/report", data={"csrf": csrf(page), "kind": kind, "text": "Look at this."})
    assert "Sent." in told.text and action(told) == action(page)
    with studio.store.read() as conn:
        row = conn.execute(select(reports).where(reports.c.labeler_id == labeler.id)).mappings().one()
    assert (row["kind"], row["task_id"], row["text"], row["state"]) == (kind, task, "Look at this.", "open")


def test_a_draft_comes_back_in_another_browser(studio, labeler, browser):
    studio.task("critique", ("One.",))
    page = browser.get("/work")
    assert browser.post(action(page) + "/draft", data={"csrf": csrf(page), "text": "half a thou"}).status_code == 204
    with studio.client(labeler) as elsewhere:
        assert "half a thou" in elsewhere.get("/work").text


def test_content_that_was_warned_of_is_not_in_the_page_until_asked_for(studio, labeler, browser):
    studio.task(answers=("gruesome one", "gruesome two"), warnings=("violence",))
    page = browser.get("/work")
    assert heading(page) == "Before you look" and "violence" in page.text and "gruesome" not in page.text
    shown = browser.get(re.search(r'href="(/work\?show=\d+)"', page.text)[1])
    assert "gruesome one" in shown.text


def test_what_came_before_a_warning_can_be_taken_back_there(studio, labeler, browser):
    studio.task("label", ("One.",))
    page = browser.get("/work")
    studio.task(warnings=("violence",))
    page = browser.post(action(page), data={"csrf": csrf(page), "label": "yes"})
    assert heading(page) == "Before you look" and "Saved." in page.text
    back = browser.post(re.search(r'action="(/work/undo)"', page.text)[1], data={"csrf": csrf(page)})
    assert heading(back) == "Yes or no" and studio.values(labeler) == []


def test_opting_out_gives_a_begun_task_back_and_it_is_not_given_again_while_its_draft_is_kept(studio, labeler, browser):
    task = studio.task("demonstration", (), warnings=("violence",), prompt="Something gruesome.")
    held, token = studio.claim(labeler), csrf(browser.get("/me"))
    browser.post(f"/work/{held.assignment_id}/draft", data={"csrf": token, "text": "begun"})
    assert "gruesome" in browser.get("/work").text, "who has begun has read the warning"
    browser.post("/me/settings", data={"csrf": token, "unwanted": "violence", "shortcuts": "yes"})
    with studio.store.read() as conn:
        assert conn.scalar(select(tasks.c.free).where(tasks.c.id == task)) == 1, "somebody else can have it at once"
    assert heading(browser.get("/work")) == "Nothing to do right now"
    browser.post(f"/work/{held.assignment_id}/draft", data={"csrf": token, "text": "begun, and typed on in another tab"})
    again = browser.get("/work")                                    # typing on takes it again, but it stands behind its warning
    assert heading(again) != "Nothing to do right now" and "gruesome" not in again.text
    browser.post("/me/settings", data={"csrf": token, "unwanted": "violence", "shortcuts": "yes"})
    assert heading(browser.get("/work")) == "Nothing to do right now"
    with studio.store.read() as conn:
        assert conn.scalar(select(assignments.c.draft).where(assignments.c.id == held.assignment_id))["fields"] == {
            "text": "begun, and typed on in another tab"}
    browser.post("/me/settings", data={"csrf": token, "shortcuts": "yes"})
    assert "typed on in another tab" in browser.get("/work").text


def test_who_opts_out_of_some_content_never_gets_it(studio, labeler, browser):
    studio.task(warnings=("violence",))
    page = browser.get("/work")
    never = re.search(r'action="(/work/\d+/never)"', page.text)[1]
    assert heading(browser.post(never, data={"csrf": csrf(page)})) == "Nothing to do right now"
    studio.task(warnings=("hate", "violence"))
    assert heading(browser.get("/work")) == "Nothing to do right now"
    studio.task(warnings=("hate",))
    assert heading(browser.get("/work")) == "Before you look"
    with studio.store.read() as conn:
        assert conn.scalar(select(labelers.c.settings).where(labelers.c.id == labeler.id)) == {"avoid_warnings": ["violence"]}


def test_a_judgement_says_how_long_and_under_which_pages_and_guidelines(studio, labeler, browser):
    studio.task("label", ("One.",))
    page = browser.get("/work")
    browser.post(action(page), data={"csrf": csrf(page), "label": "yes", "seconds": "1e9"})
    with studio.store.read() as conn:
        row = conn.execute(select(judgements).where(judgements.c.labeler_id == labeler.id)).mappings().one()
    assert 0 <= row["seconds"] < 60 and re.fullmatch(r"[0-9a-f]{12}", row["interface_version"])


@pytest.mark.parametrize(("clock", "least", "most"), [("0.0", 0.0, 0.0), ("2.5", 2.5, 2.5), ("", 600.0, 660.0), ("nan", 600.0, 660.0)])
def test_the_page_s_clock_counts_and_ours_only_where_it_has_none(studio, labeler, browser, clock, least, most):
    studio.task("label", ("One.",))
    page = browser.get("/work")
    studio.store.write(lambda conn: conn.execute(update(assignments).where(assignments.c.labeler_id == labeler.id).values(
        claimed_at=assignments.c.claimed_at - 600.0)))
    wrong = browser.post(action(page), data={"csrf": csrf(page), "seconds": clock})
    assert wrong.status_code == 422
    kept = re.search(r'name="seconds" value="([^"]*)"', wrong.text)[1]
    assert kept == (clock if clock not in ("", "nan") else ""), "its clock goes on from where the error stopped it"
    browser.post(action(wrong), data={"csrf": csrf(wrong), "label": "yes", "seconds": kept})
    with studio.store.read() as conn:
        assert least <= conn.scalar(select(judgements.c.seconds).where(judgements.c.labeler_id == labeler.id)) <= most


HOSTILE = ("<script>alert(1)</script>![x](https://evil.example/p.png)[a](javascript:alert(1))", "\u202etxet \u200bhidden" + "A" * 200_000)


def test_hostile_and_endless_answers_are_shown_and_can_be_judged(studio, labeler, browser):
    studio.task(answers=HOSTILE, prompt=[{"role": "user", "content": "<b onclick=x>" + HOSTILE[0]}])
    page = browser.get("/work")
    assert not [live for live in ("<script>alert", "onclick=x>", "<img", 'href="javascript') if live in page.text]
    assert len(page.content) < 60_000 and "U+202E" in page.text
    whole = [browser.get(action(page) + f"/answers/{at}").text for at in (0, 1)]
    assert sum("A" * 200_000 in text for text in whole) == 1
    assert browser.post(action(page), data={"csrf": csrf(page), "choice": "4"}).status_code == 200


def test_the_question_of_a_task_hides_nothing_either(studio, labeler, browser):
    studio.task("label", ("One.",), extra={"question": "Is it <b>good</b>\u202e?"})
    page = browser.get("/work")
    assert "Is it &lt;b&gt;good&lt;/b&gt;" in page.text and "U+202E" in page.text and "\u202e" not in page.text


def test_an_answer_of_300_kb_can_be_written_and_one_of_5_mb_cannot(studio, labeler, browser):
    studio.task("critique", ("One.",))
    page = browser.get("/work")
    assert browser.post(action(page), data={"csrf": csrf(page), "text": "y" * 5_000_000}).status_code == 413
    assert browser.post(action(page), data={"csrf": csrf(page), "text": "ü" * 300_000}).status_code == 200
    assert len(studio.values(labeler)[0]["critique"]) == 300_000


def test_the_end_of_a_line_counts_once_and_what_is_too_long_is_given_back(studio, labeler, browser):
    studio.task("critique", ("One.",))
    page = browser.get("/work")
    lines = "ab\r\n" * 1666                                           # 4,998 to a browser, which sends 6,664
    sent = {"csrf": csrf(page), "kind": "question"}
    assert browser.post(action(page) + "/report", data=sent | {"text": lines}).status_code == 200
    refused = browser.post(action(page) + "/report", data=sent | {"text": lines + "abc"})
    assert refused.status_code == 413 and "ab\nab\nabc</textarea>" in refused.text.replace("\r\n", "\n")


def test_files_are_not_taken(studio, labeler, browser):
    studio.task("critique", ("One.",))
    page = browser.get("/work")
    sent = browser.post(action(page), data={"csrf": csrf(page), "text": "x"}, files={"text": ("a.txt", b"x" * 100)})
    assert 400 <= sent.status_code < 500


def test_the_flags_are_instructgpts_eleven_each_with_a_key_of_its_own(studio, labeler, browser):
    studio.task("rating", ("One.",))
    found = re.findall(r'name="flag" value="(\w+)"[^>]*data-key="(\w)"', browser.get("/work").text)
    keys = [key for _, key in found]
    assert [name for name, _ in found] == list(FLAGS) and len(set(keys)) == 11 and not set(keys) & set("ghqsux?1234567")


def test_the_wire_is_small(studio, labeler, browser):
    studio.task(answers=("word " * 250, "word " * 250))
    page = browser.get("/work")
    files = re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text)
    sizes = []
    for path in ["/work", *files]:
        with browser.stream("GET", path) as response:
            assert response.headers.get("content-encoding") == "gzip" or path.endswith(".svg")
            sizes.append(sum(len(chunk) for chunk in response.iter_raw()))
            assert path == "/work" or "immutable" in response.headers["cache-control"]
    assert sum(sizes) < 60_000, dict(zip(["/work", *files], sizes, strict=True))


def test_htmx_gets_the_main_part_only_and_after_signing_out_the_door(studio, labeler, browser):
    studio.task(overlap=2)
    part = browser.get("/work", headers={"HX-Request": "true"}).text
    assert "<html" not in part and 'id="task"' in part
    with studio.client() as nobody:
        answered = nobody.get("/work", headers={"HX-Request": "true"})
        assert answered.status_code == 204 and answered.headers["hx-redirect"] == "/login?next=/work"
