"""Where people and a reward model disagree: a lead's triage over plain HTTP."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import insert, select, update

from tests.feedback.test_disagreements import line
from tests.studio.test_doors import csrf
from tests.studio.test_work import heading
from tutelage.base.snapshot import DISAGREEMENTS
from tutelage.feedback import queue
from tutelage.feedback.schema import reports, snapshots, tasks, trainings


@pytest.fixture
def judged(studio):
    """Makes a task that people judge with these choices (of the task's first answer: 1 to 8). Returns its id."""
    def make(*choices: int) -> int:
        task = studio.task(overlap=len(choices))
        for choice in choices:
            person = studio.person()
            claim = studio.claim(person)
            given = {"assignment_id": claim.assignment_id, "labeler_id": person.id, "now": studio.store.now(),
                     "value": {"choice": choice if claim.sides[0] == 0 else 9 - choice}}
            studio.store.write(lambda conn, given=given: queue.submit(conn, **given))
        return task

    return make


@pytest.fixture
def trained(studio, tmp_path):
    """Records a training that is done, whose model disagrees about these tasks."""
    def make(*rows: tuple[int, float]) -> None:
        (tmp_path / "report").mkdir()
        (tmp_path / DISAGREEMENTS).write_text("".join(line(task, p) for task, p in rows), encoding="utf-8")

        def work(conn):
            conn.execute(update(trainings).values(state="failed"))
            frozen = conn.execute(insert(snapshots).values(hash=str(tmp_path), path="p", selection={}, counts={}, created_at=1.0)
                                  .returning(snapshots.c.id)).scalar_one()
            conn.execute(insert(trainings).values(snapshot_id=frozen, run_dir=str(tmp_path), state="done", created_at=1.0))

        studio.store.write(work)

    return make


def verdict(client, page, task, **more):
    return client.post(f"/lead/disagreements/{task}", data={"csrf": csrf(page)} | more)


def of_task(studio, task):
    with studio.store.read() as conn:
        return conn.execute(select(reports.c.kind, reports.c.state, reports.c.text).where(reports.c.task_id == task)).all()


def test_one_click_each_and_the_next_worst_comes(studio, lead, judged, trained):
    first, second, third = judged(1, 2), judged(2), judged(7)
    trained((first, 0.991), (second, 0.97), (third, 0.93))
    page = lead.get("/lead/disagreements")
    assert "surest that people are wrong" not in page.text and "97.0% on average, 97.0% at most" in page.text
    assert "99.1% likely" in page.text and "3 to look at, 0 done" in page.text and "secret-model-x" not in page.text
    page = verdict(lead, page, first, verdict="label_error", text="Read again.")
    assert "An expert judges the same answers anew" in page.text and "97.0% likely" in page.text
    page = verdict(lead, page, second, verdict="model_error")
    assert "gold item" in page.text and "93.0% likely" in page.text
    page = verdict(lead, page, third, verdict="guideline_gap", text="Are cats things?")
    assert "Nothing is left to look at" in page.text
    assert of_task(studio, first) == [("label_error", "closed", "Read again.")]
    assert of_task(studio, third) == [("guideline_gap", "open", "Are cats things?")]
    with studio.store.read() as conn:
        found = conn.execute(select(tasks.c.extra, tasks.c.purpose).where(tasks.c.purpose.in_(("gold", "adjudication")))).all()
    made = {row.extra["triaged"]: row.purpose for row in found if row.extra.get("triaged") in (first, second)}
    assert made == {first: "adjudication", second: "gold"}
    assert "Are cats things?" in lead.get("/lead/reports").text
    with studio.client(studio.person("expert")) as expert:
        assert heading(expert.get("/work")) == "Compare"


def test_later_goes_on_without_a_word_and_a_second_verdict_is_refused(studio, lead, judged, trained):
    first, second = judged(1), judged(8)
    trained((first, 0.99), (second, 0.97))
    page = lead.get("/lead/disagreements")
    later = re.search(r'href="(/lead/disagreements\?at=\d+)"[^>]*data-key="j"', page.text)[1]
    assert later.endswith(f"={second}") and "97.0% likely" in lead.get(later).text
    verdict(lead, page, first, verdict="guideline_gap")
    again = verdict(lead, page, first, verdict="label_error")
    assert again.status_code == 422 and "was triaged before" in again.text
    assert verdict(lead, page, second, verdict="nonsense").status_code == 422 and of_task(studio, second) == []


def test_where_people_disagree_the_lead_says_what_is_right(studio, lead, judged, trained):
    task = judged(1, 8)
    trained((task, 0.95))
    page = lead.get("/lead/disagreements")
    refused = verdict(lead, page, task, verdict="model_error", text="kept here")
    assert refused.status_code == 422 and "people do not agree" in refused.text and "kept here" in refused.text
    assert "choose which of the answers given is right" in refused.text and "expected=" not in refused.text
    assert "gold item" in verdict(lead, page, task, verdict="model_error", right="1").text
    with studio.store.read() as conn:
        made = conn.scalar(select(tasks.c.expected).where(tasks.c.purpose == "gold").order_by(tasks.c.id.desc()).limit(1))
    assert made["ranks"] == [1, 0]


def test_without_a_training_the_page_says_so(studio, lead):
    studio.store.write(lambda conn: conn.execute(update(trainings).values(state="failed")))
    assert "No reward model has been trained here yet" in lead.get("/lead/disagreements").text


def test_a_dispute_goes_to_an_expert_and_the_lead_overrules_for_everybody_to_see(studio, lead):
    task = studio.task(overlap=2)
    people = [studio.person(), studio.person()]
    for person, choice in zip(people, (1, 8), strict=True):
        claim = studio.claim(person)
        given = {"assignment_id": claim.assignment_id, "labeler_id": person.id, "now": studio.store.now(),
                 "value": {"choice": choice if claim.sides[0] == 0 else 9 - choice}}
        studio.store.write(lambda conn, given=given: queue.submit(conn, **given))
    page = lead.get("/lead/adjudication")
    assert f'value="{task}">' in page.text and "checked" not in page.text, "what is sent is marked one by one"
    sent = lead.post("/lead/adjudication", data={"csrf": csrf(page), "task": str(task)})
    assert f'name="task" value="{task}"' not in sent.text and "waiting)" in sent.text
    expert = studio.person("expert")
    claim = studio.claim(expert)
    given = {"assignment_id": claim.assignment_id, "labeler_id": expert.id, "now": studio.store.now(),
             "value": {"choice": 2 if claim.sides[0] == 0 else 7}}
    studio.store.write(lambda conn: queue.submit(conn, **given))
    page = lead.get("/lead/adjudication")
    assert re.search(rf"{expert.name}.*{people[1].name}: B is much better", page.text, re.S)
    with studio.client(people[1]) as labeler:
        assert "overruled" not in labeler.get("/me").text
        done = lead.post(f"/lead/adjudication/{claim.task_id}", data={"csrf": csrf(page), "outcome": "overrule"})
        assert "Take that back" in done.text and "overruled by an expert" in labeler.get("/me").text
        lead.post(f"/lead/adjudication/{claim.task_id}", data={"csrf": csrf(page), "outcome": "back"})
        assert "overruled" not in labeler.get("/me").text
    assert lead.post(f"/lead/adjudication/{claim.task_id}", data={"csrf": csrf(page), "outcome": "x"}).status_code == 422
    assert lead.post(f"/lead/adjudication/{task}", data={"csrf": csrf(page), "outcome": "keep"}).status_code == 409
