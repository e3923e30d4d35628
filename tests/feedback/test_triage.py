"""What follows from a disagreement between a reward model and people."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from tests.feedback import few
from tutelage.feedback import queue, schema
from tutelage.feedback.errors import ContentError
from tutelage.feedback.triage import triage


@pytest.fixture
def world(store):
    """A comparison that two people judged alike, a labeler who has not, an expert who has, another who has not, and a lead."""
    def make(conn):
        passed = {"screening": {"state": "passed"}}
        people = {name: few.labeler(conn, name, role=role, **passed) for name, role in (
            ("amara", "labeler"), ("bo", "labeler"), ("eve", "expert"), ("finn", "expert"), ("lea", "lead"))}
        task = few.task(conn, few.prompt(conn), ["on the mat", "no idea"])
        for name in ("amara", "eve"):
            few.judgement(conn, task, people[name], {"ranks": [0, 1], "strength": 3, "step": 2})
        return people | {"task": task}
    return store.write(make)


def row(store, table, number):
    with store.read() as conn:
        return conn.execute(select(table).where(table.c.id == number)).one()


def test_a_label_error_goes_to_an_expert_who_has_not_judged_it(store, world):
    made = store.write(lambda conn: triage(conn, task_id=world["task"], verdict="label_error", by_id=world["lea"], now=5.0, text="read it"))
    report, follows = row(store, schema.reports, made.report_id), row(store, schema.tasks, made.task_id)
    assert (report.kind, report.task_id, report.labeler_id, report.text, report.state) == (
        "label_error", world["task"], world["lea"], "read it", "closed")
    assert follows.purpose == "adjudication" and follows.extra == {"triaged": world["task"]}
    assert follows.response_ids == row(store, schema.tasks, world["task"]).response_ids
    claimed = {name: store.write(lambda conn, who=world[name]: queue.claim(conn, who, now=store.now())) for name in ("eve", "bo", "finn")}
    assert claimed["eve"] is None and claimed["bo"] is None and claimed["finn"].task_id == made.task_id


def test_a_model_error_becomes_a_gold_item_with_what_people_agree_on(store, world):
    made = store.write(lambda conn: triage(conn, task_id=world["task"], verdict="model_error", by_id=world["lea"], now=5.0, text="it is"))
    follows = row(store, schema.tasks, made.task_id)
    assert follows.purpose == "gold" and follows.expected == {"ranks": [0, 1], "reasons": "it is"}


def test_where_people_disagree_a_gold_item_needs_the_leads_answer(store, world):
    wrong = store.write(lambda conn: few.judgement(conn, world["task"], world["bo"], {"ranks": [1, 0]}))
    given = {"task_id": world["task"], "verdict": "model_error", "by_id": world["lea"], "now": 5.0}
    with pytest.raises(ContentError, match=f"people do not agree on task {world['task']}"):
        store.write(lambda conn: triage(conn, **given))
    with store.read() as conn:
        assert conn.execute(select(schema.reports)).first() is None
    store.write(lambda conn: few.put(conn, "retractions", judgement_id=wrong, reason="undone", created_at=6.0))
    made = store.write(lambda conn: triage(conn, **given, expected={"ranks": [1, 0]}))
    assert row(store, schema.tasks, made.task_id).expected["ranks"] == [1, 0]


def test_what_was_taken_back_has_no_say_in_what_is_gold(store, world):
    wrong = store.write(lambda conn: few.judgement(conn, world["task"], world["bo"], {"ranks": [1, 0]}))
    store.write(lambda conn: few.put(conn, "retractions", judgement_id=wrong, reason="undone", created_at=6.0))
    made = store.write(lambda conn: triage(conn, task_id=world["task"], verdict="model_error", by_id=world["lea"], now=5.0))
    assert row(store, schema.tasks, made.task_id).expected["ranks"] == [0, 1]


def test_a_guideline_gap_stays_open_and_makes_no_task(store, world):
    made = store.write(lambda conn: triage(conn, task_id=world["task"], verdict="guideline_gap", by_id=world["lea"], now=5.0, text="cats?"))
    assert made.task_id is None and row(store, schema.reports, made.report_id).state == "open"


def test_a_second_verdict_an_unknown_one_and_an_unknown_task_are_refused(store, world):
    def given(**more):
        return lambda conn: triage(conn, **{"task_id": world["task"], "verdict": "guideline_gap", "by_id": world["lea"], "now": 5.0} | more)
    store.write(given())
    for more, words in (({"verdict": "label_error"}, "triaged before, as guideline_gap"),
                        ({"verdict": "no_error"}, "verdict is 'no_error'"), ({"task_id": 99}, "no task 99")):
        with pytest.raises(ContentError, match=words):
            store.write(given(**more))


def test_who_triaged_a_label_error_is_not_asked_to_judge_it_but_another_lead_is(store, world):
    """They have read the scores and what people said: the adjudication is blind."""
    other = store.write(lambda conn: few.labeler(conn, "lou", role="lead", screening={"state": "passed"}))
    made = store.write(lambda conn: triage(conn, task_id=world["task"], verdict="label_error", by_id=world["lea"], now=5.0))
    assert store.write(lambda conn: queue.claim(conn, world["lea"], now=6.0)) is None
    assert store.write(lambda conn: queue.claim(conn, other, now=6.0)).task_id == made.task_id
