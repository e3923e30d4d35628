"""A labeler in a real browser, with the keyboard, against the installed wheel."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from sqlalchemy import select

from tests.studio.conftest import PASSWORD
from tests.studio.test_doors import invite
from tutelage.feedback import accounts
from tutelage.feedback.content import set_setting
from tutelage.feedback.schema import reports

AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_bytes()
AXE_SHA256 = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"          # axe-core 4.14.1, dist of its npm package
KINDS = {"comparison": ("One **bold** answer.", "`code`\n\n```\nblock\n```\n\n[link](https://a.example)"),
         "ranking": ("a", "b", "c", "d", "e"),
         "rating": ("One.",), "label": ("One.",), "critique": ("One.",), "edit": ("One.",), "demonstration": (), "prompt": ()}
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}


def violations(page) -> list[str]:
    """What axe finds against WCAG 2.2 A and AA, and its best practices."""
    assert hashlib.sha256(AXE).hexdigest() == AXE_SHA256
    page.evaluate(AXE.decode())
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = page.evaluate("tags => axe.run(document, {runOnly: tags})", tags)
    return [f"{row['id']}: {node['html'][:120]}" for row in found["violations"] for node in row["nodes"]]


def saved(page) -> None:
    page.get_by_text("Saved.").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_task_page_has_no_accessibility_violation(studio, labeler, open_page, kind, scheme):
    studio.task(kind, KINDS[kind])
    page = open_page(labeler, color_scheme=scheme)
    for summary in page.locator("summary").all():
        summary.click()
    assert violations(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_other_pages_have_none_either(studio, open_page, scheme):
    admin = studio.person("admin")
    studio.task(warnings=("violence",))
    for path in ("/work", "/me", "/people", "/guidelines", "/nowhere"):
        assert violations(open_page(admin, path, color_scheme=scheme)) == [], path
    for path in ("/login", invite(studio)):
        assert violations(open_page(None, path, color_scheme=scheme)) == [], path


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_wider_than_a_phone_and_every_target_can_be_hit(studio, labeler, open_page, kind):
    studio.task(kind, tuple(f"{text} {'word ' * 60} {'x' * 90}" for text in KINDS[kind]))
    page = open_page(labeler, **PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    sizes = page.evaluate("""[...document.querySelectorAll('button, summary, .step, .rank, .row')].filter(e => e.getClientRects().length)
                             .map(e => e.getBoundingClientRect()).map(r => Math.min(r.width, r.height))""")
    assert min(sizes) >= 24, "WCAG 2.2, 2.5.8"


@pytest.mark.parametrize("language", ["en", "de"])
@pytest.mark.parametrize(("kind", "steps", "width"), [("rating", 7, 40), ("comparison", 8, 36)])
def test_on_a_phone_the_scale_has_a_line_of_its_own_with_its_ends_above(studio, labeler, open_page, kind, steps, width, language):
    studio.store.write(lambda conn: accounts.set_language(conn, labeler.id, language))
    studio.task(kind, KINDS[kind])
    page = open_page(labeler, **PHONE)
    boxes = [box.bounding_box() for box in page.locator(".step").all()]
    assert len(boxes) == steps and min(box["width"] for box in boxes) >= width and min(box["height"] for box in boxes) >= 40
    ends = [end.bounding_box() for end in page.locator(".scale .end").all()]
    assert len(ends) == 2 and max(end["y"] + end["height"] for end in ends) <= boxes[0]["y"]
    assert page.locator("button.primary").bounding_box()["y"] >= boxes[0]["y"] + boxes[0]["height"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_comparing_takes_two_keys_and_the_next_task_comes_in_one_request(studio, labeler, open_page):
    for _ in range(3):
        studio.task()
    page = open_page(labeler)
    page.wait_for_load_state("networkidle")                         # the first visit's icon comes when it likes
    requests = []
    page.on("request", lambda request: requests.append(f"{request.method} {request.url.removeprefix(studio.url)}"))
    for n in range(3):
        page.keyboard.press("2")
        page.keyboard.press("Enter")
        page.get_by_text(f"{n + 1} today").wait_for()
    assert [v["strength"] for v in studio.values(labeler)] == [3, 3, 3]
    asked = [request for request in requests if "/draft" not in request]
    assert len(asked) == 3 and all(re.fullmatch(r"POST /work/\d+", request) for request in asked), asked
    page.keyboard.press("u")
    page.get_by_text("Taken back").wait_for()
    assert page.locator("[name=choice]:checked").get_attribute("value") == "2"


def test_ranking_needs_only_the_keyboard(studio, labeler, open_page):
    studio.task("ranking", ("aa", "bb", "cc", "dd", "ee"))
    page = open_page(labeler)
    shown = re.findall(r"<p>(\w\w)</p>", page.content())
    for key in "31224":                                               # each number ranks the marked answer, then the mark moves on
        page.keyboard.press(key)
    assert page.locator("#order").inner_text().split() == "B > C = D > A > E".split()
    for key in "jj" + "j" + "5":                                      # all have a rank, so the mark went on to A: to D from there
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    saved(page)
    ranks = dict(zip(shown, (2, 0, 1, 4, 3), strict=True))
    assert studio.values(labeler)[0]["ranks"] == [ranks[text] for text in ("aa", "bb", "cc", "dd", "ee")]


def test_ranking_again_goes_from_answer_to_answer_and_the_keys_say_so(studio, labeler, open_page):
    studio.task("ranking", ("aa", "bb", "cc", "dd"))
    page = open_page(labeler)
    for key in "1111" + "4321":
        page.keyboard.press(key)
    assert page.locator("#order").inner_text().split() == "D > C > B > A".split()
    page.keyboard.press("?")
    rows = dict(zip(page.locator("#keys-list dt").all_inner_texts(), page.locator("#keys-list dd").all_inner_texts(), strict=True))
    assert "goes on to the next without a rank" in rows["1 … 4"] and "move the mark" in rows["j, k"] and "1" not in rows
    assert violations(page) == []


def test_ranking_works_with_tab_and_arrows_and_with_the_buttons(studio, labeler, open_page):
    studio.task("ranking", ("aa", "bb", "cc", "dd"))
    page = open_page(labeler)
    page.locator("[name=rank_0]").first.focus()
    page.keyboard.press("Space")
    page.keyboard.press("ArrowRight")
    assert page.locator("[name=rank_0]:checked").get_attribute("value") == "2"
    for name in ("one rank worse", "one rank better", "one rank better", "one rank better"):
        page.get_by_role("button", name=f"Answer B: {name}").click()
    assert page.locator("[name=rank_1]:checked").get_attribute("value") == "1"
    assert page.locator("#order").inner_text().split() == ["B", ">", "A"]


@pytest.mark.parametrize("key", ["y", "n"])
def test_yes_and_no_are_one_key(studio, labeler, open_page, key):
    studio.task("label", ("One.",))
    page = open_page(labeler)
    page.keyboard.press(key)
    saved(page)
    assert studio.values(labeler) == [{"label": key == "y"}]


def test_flags_and_rating_by_key(studio, labeler, open_page):
    studio.task("rating", ("One.",))
    page = open_page(labeler)
    for key in "ck5":
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    saved(page)
    assert studio.values(labeler) == [{"rating": 5, "flags": ["hallucination", "harmful_advice"]}]


def test_writing_and_submitting_without_the_mouse(studio, labeler, open_page):
    studio.task("critique", ("One.",))
    page = open_page(labeler)
    page.keyboard.press("e")
    page.keyboard.type("s is no skip, q no question here")
    page.keyboard.press("Control+Enter")
    saved(page)
    assert studio.values(labeler) == [{"critique": "s is no skip, q no question here"}]


@pytest.mark.parametrize(("key", "words"), [("s", "Skip this task"), ("h", "Send the report"), ("q", "Send the question")])
def test_the_other_ways_out_are_one_key_and_a_few_words_away(studio, labeler, open_page, key, words):
    studio.task()
    page = open_page(labeler)
    page.keyboard.press(key)
    if key == "s":
        page.keyboard.press("Space")
    else:
        page.keyboard.type("look at this")
    page.get_by_role("button", name=words).press("Enter")
    page.get_by_text("Skipped." if key == "s" else "Sent. Thank you").wait_for()


@pytest.mark.parametrize("by", ["key", "click", "tap"])
def test_a_form_that_opens_at_the_end_of_the_page_is_seen_whole(studio, labeler, open_page, by):
    studio.task(answers=("line\n\n" * 30, "short"))
    page = open_page(labeler, **PHONE if by == "tap" else {"viewport": {"width": 1280, "height": 700}})
    skip = page.locator("summary[data-key=s]")
    page.keyboard.press("s") if by == "key" else skip.tap() if by == "tap" else skip.click()
    page.locator(".pop[open]").wait_for()
    page.wait_for_timeout(200)
    box = page.locator(".pop[open]").bounding_box()
    assert box["y"] >= 0 and box["y"] + box["height"] <= page.viewport_size["height"]


@pytest.mark.parametrize("key", ["h", "q"])
def test_what_was_sent_leaves_its_box_and_the_keys_are_keys_again(studio, labeler, open_page, key):
    studio.task()
    page = open_page(labeler)
    page.keyboard.press(key)
    page.keyboard.type("look at this")
    page.keyboard.press("Control+Enter")
    page.get_by_text("Sent. Thank you").wait_for()
    box = page.locator(".pop textarea").nth(int(key == "q"))
    page.wait_for_function("document.activeElement.tagName === 'H1'")  # the text is there a moment before what follows it is done
    assert box.input_value() == "" and not box.is_visible()
    assert page.get_by_text("Sent. Thank you").is_visible() and violations(page) == []
    page.keyboard.press("2")
    page.keyboard.press("Control+Enter")                              # the task, and no second report
    saved(page)
    with studio.store.read() as conn:
        assert list(conn.scalars(select(reports.c.text).where(reports.c.labeler_id == labeler.id))) == ["look at this"]


def test_guidelines_and_keys_open_over_the_page_and_nothing_is_lost(studio, labeler, open_page):
    studio.store.write(lambda conn: set_setting(conn, "guidelines", {"version": "7", "text": "# Be **kind**"}))
    studio.task()
    page = open_page(labeler)
    page.keyboard.press("6")
    page.keyboard.press("g")
    page.get_by_text("Be kind").wait_for()
    assert violations(page) == []
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    rows = page.locator("#keys-list dt").all_inner_texts()
    assert {"1", "8", "t", "b", "s", "h", "q", "g", "Enter"} <= set(rows) and violations(page) == []
    page.keyboard.press("Escape")
    assert page.locator("[name=choice]:checked").get_attribute("value") == "6"


def test_a_page_whose_session_ended_says_so_and_the_text_is_there_again_after_signing_in(studio, labeler, open_page):
    studio.task("critique", ("One.",))
    page = open_page(labeler)
    box = page.locator("textarea[name=text]").first
    box.fill("before")
    page.get_by_text("Draft saved").wait_for()
    studio.store.write(lambda conn: accounts.revoke_sessions(conn, labeler.id, now=studio.store.now()))
    box.fill("typed after the session had ended")
    page.get_by_text("nothing more is saved").wait_for()
    assert page.locator("#saved").inner_text() == "" and box.input_value() == "typed after the session had ended"
    box.fill("typed last")
    page.keyboard.press("Control+Enter")                              # at once: the timers that keep drafts have not run
    page.get_by_text("You are signed out, so nothing was sent").wait_for()
    assert page.locator("textarea[readonly]").input_value() == "typed last" and violations(page) == []
    key = studio.store.write(lambda conn: accounts.open_session(conn, labeler.id, now=studio.store.now()))
    page.context.add_cookies([{"name": studio.cookie, "value": key, "url": studio.url}])
    page.get_by_role("link", name="Sign in").click()                  # signed in by now: straight on to the task
    assert page.locator("textarea[name=text]").first.input_value() == "typed last"


def test_a_report_outlives_a_reload_until_it_is_sent(studio, labeler, open_page):
    studio.task()
    page = open_page(labeler)
    page.keyboard.press("q")
    page.keyboard.type("is tea food?")
    page.reload()
    harm, question = page.locator(".pop textarea").all()
    assert question.is_visible() and question.input_value() == "is tea food?" and harm.input_value() == ""
    page.get_by_role("button", name="Send the question").click()
    page.get_by_text("Sent. Thank you").wait_for()
    page.reload()
    assert not question.is_visible() and question.input_value() == ""


def test_a_page_from_before_a_new_sign_in_says_so_and_the_text_is_there_again(studio, labeler, open_page):
    studio.task("critique", ("One.",))
    page = open_page(labeler)
    box = page.locator("textarea[name=text]").first
    box.fill("before")
    page.get_by_text("Draft saved").wait_for()
    key = studio.store.write(lambda conn: accounts.open_session(conn, labeler.id, now=studio.store.now()))
    page.context.add_cookies([{"name": studio.cookie, "value": key, "url": studio.url}])             # as in another tab
    box.fill("typed after that")
    page.get_by_text("nothing more is saved").wait_for()
    assert page.locator("#saved").inner_text() == ""
    page.keyboard.press("Control+Enter")
    page.get_by_text("so nothing was sent").wait_for()
    assert page.locator("textarea[readonly]").input_value() == "typed after that" and violations(page) == []
    page.get_by_role("link", name="To the start").click()
    assert page.locator("textarea[name=text]").first.input_value() == "typed after that"


def test_text_outlives_a_reload_an_outage_and_another_browser(studio, labeler, open_page):
    studio.task("critique", ("One.",))
    page = open_page(labeler)
    with page.expect_response(lambda response: response.url.endswith("/draft")):
        page.locator("textarea[name=text]").first.fill("kept on the server")
    assert open_page(labeler).locator("textarea[name=text]").first.input_value() == "kept on the server"
    page.context.set_offline(True)
    page.locator("textarea[name=text]").first.fill("kept in this browser")
    page.wait_for_timeout(400)
    page.keyboard.press("Control+Enter")
    page.get_by_text("Not sent").wait_for()
    assert page.locator("textarea[name=text]").first.input_value() == "kept in this browser"
    page.context.set_offline(False)
    page.reload()
    assert page.locator("textarea[name=text]").first.input_value() == "kept in this browser"
    page.locator("textarea[name=text]").first.press("Control+Enter")
    saved(page)
    assert studio.values(labeler) == [{"critique": "kept in this browser"}]


def test_a_double_click_submits_once(studio, labeler, open_page):
    studio.task(), studio.task()
    page = open_page(labeler)
    page.keyboard.press("1")
    page.get_by_role("button", name="Submit").dblclick()
    page.get_by_text("1 today").wait_for()
    assert len(studio.values(labeler)) == 1


def test_what_is_missing_is_said_beside_what_is_there(studio, labeler, open_page):
    studio.task()
    page = open_page(labeler)
    page.keyboard.press("Enter")
    page.get_by_role("alert").wait_for()
    assert "choose a step" in page.get_by_role("alert").inner_text() and violations(page) == []


def test_without_scripts_the_same_forms_work(studio, labeler, open_page):
    studio.task("ranking", ("aa", "bb", "cc", "dd")), studio.task()
    page = open_page(labeler, java_script_enabled=False)
    for _ in range(2):
        if page.get_by_role("heading", name="Compare").count():
            page.locator("[name=choice][value='3']").check(force=True)
        else:
            for at, rank in enumerate("1223"):
                page.locator(f"[name=rank_{at}][value='{rank}']").check(force=True)
        page.get_by_role("button", name="Submit").click()
    assert len(studio.values(labeler)) == 2 and page.get_by_text("Nothing to do").count()


def test_keys_can_be_switched_off(studio, open_page):
    person = studio.person(shortcuts=False)
    studio.task()
    page = open_page(person)
    page.keyboard.press("1")
    assert page.locator("[name=choice]:checked").count() == 0 and not page.locator("kbd").first.is_visible()


def test_hostile_answers_do_nothing_in_a_browser(studio, labeler, open_page):
    hostile = ("<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script> ![p](https://evil.example/p.png)",
               "\u202eright to left\u202c <div hx-get='/me' hx-trigger='load'>x</div> [a](javascript:document.title='owned')")
    studio.task(answers=hostile)
    page = open_page(labeler, path="/login")
    seen: list[str] = []
    page.on("request", lambda request: seen.append(request.url))
    page.goto(studio.url + "/work")
    page.wait_for_timeout(300)
    assert page.title() == "Compare" and page.locator(".answer a, .answer img").count() == 0
    assert all(url.startswith(studio.url) for url in seen) and not [url for url in seen if url.endswith("/me")]


def test_an_endless_answer_is_folded_and_one_key_away(studio, labeler, open_page):
    studio.task(answers=("line\n\n" * 200, "short"))
    page = open_page(labeler)
    folded = page.locator(".answer").first.bounding_box()["height"]
    page.keyboard.press("x")
    heights = [page.locator(".answer").nth(at).bounding_box()["height"] for at in (0, 1)]
    assert max(heights) > 3 * folded


def test_the_first_visit_is_small_and_the_next_asks_for_the_page_only(studio, labeler, open_page):
    studio.task(answers=("word " * 250, "word " * 250), overlap=9)
    page = open_page(labeler, path="/work")
    sizes = "performance.getEntries().map(e => e.transferSize).filter(size => size > 0)"
    first = page.evaluate(sizes)
    assert len(first) <= 5 and sum(first) < 60_000
    page.goto(studio.url + "/me")
    page.goto(studio.url + "/work")
    assert len(page.evaluate(sizes)) <= 3


def test_a_labelers_first_minute(studio, open_page):
    """From the link to the expert's reasons, by keyboard alone."""
    studio.task(purpose="practice", expected={"ranks": [0, 1], "strength": 3, "reasons": "Because it **helps**."})
    page = open_page(None, invite(studio))
    page.keyboard.type("Minute One")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Compare").wait_for()
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    page.get_by_text("Because it helps.").wait_for()
    assert violations(page) == []
    page.keyboard.press("Enter")
    page.get_by_text("Nothing to do").wait_for()
