"""A lead's hand on single tasks."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from tests.feedback import few
from tutelage.feedback import items, queue, schema
from tutelage.feedback.errors import ContentError


@pytest.fixture
def world(store):
    """A comparison with two opinions, one of them taken back by another judge, and people who have not judged it."""
    def make(conn):
        passed = {"screening": {"state": "passed"}}
        people = {name: few.labeler(conn, name, role=role, **passed) for name, role in (
            ("amara", "labeler"), ("bo", "labeler"), ("cy", "labeler"), ("lea", "lead"))}
        task = few.task(conn, few.prompt(conn), ["on the mat", "no idea"], overlap=3, free=1, extra={"question": "Which?", "secret": 1})
        few.judgement(conn, task, people["amara"], {"ranks": [0, 1], "strength": 3, "step": 2})
        few.judgement(conn, task, people["bo"], {"ranks": [1, 0], "strength": 1})
        undone = few.judgement(conn, task, people["bo"], {"ranks": [0, 0], "tie": True})
        few.put(conn, "retractions", judgement_id=undone, reason="undone", created_at=few.AT)
        return people | {"task": task}
    return store.write(make)


def copy(store, world, purpose, **more):
    return store.write(lambda conn: items.copy_task(conn, world["task"], **{"purpose": purpose, "by_id": world["lea"], "now": 5.0} | more))


def test_opinions_are_the_different_answers_that_stand(store, world):
    with store.read() as conn:
        assert items.opinions(conn, world["task"]) == [{"ranks": [0, 1]}, {"ranks": [1, 0]}]
        assert [row["retracted"] for row in items.judgements_of_task(conn, world["task"])] == [None, None, "undone"]


def test_a_gold_item_made_of_a_task_is_given_to_who_has_not_judged_it(store, world):
    made = copy(store, world, "gold", expected={"ranks": [0, 1]}, reasons="It answers.")
    with store.read() as conn:
        task = conn.execute(select(schema.tasks).where(schema.tasks.c.id == made)).one()
        barred = set(conn.scalars(select(schema.assignments.c.labeler_id).where(schema.assignments.c.task_id == made)))
    assert (task.purpose, task.expected, task.extra) == ("gold", {"ranks": [0, 1], "reasons": "It answers."},
                                                         {"question": "Which?", "made of": world["task"]})
    assert barred == {world["amara"], world["bo"]}


def test_what_cannot_be_made_is_refused(store, world):
    copy(store, world, "shared")
    for purpose, more, words in (("gold", {}, "needs its answer"), ("practice", {"expected": {"both_bad": True}}, "needs its answer"),
                                 ("work", {}, "purpose is 'work'"), ("shared", {}, "has an item for shared already")):
        with pytest.raises(ContentError, match=words):
            copy(store, world, purpose, **more)
    with pytest.raises(ContentError, match="no task 99"):
        store.write(lambda conn: items.copy_task(conn, 99, purpose="drift", by_id=world["lea"], now=5.0))


def test_a_halted_task_is_given_to_nobody_until_it_is_opened_again(store, world):
    def claim():
        return store.write(lambda conn: queue.claim(conn, world["cy"], now=store.now()))
    store.write(lambda conn: items.halt_task(conn, world["task"], by_id=world["lea"], now=5.0))
    assert claim() is None
    given = {"task_id": world["task"], "labeler_id": world["amara"], "claimed_at": few.AT, "expires_at": few.AT}
    store.write(lambda conn: few.put(conn, "assignments", state="skipped", reason="unclear", **given))
    with store.read() as conn:
        assert items.halted_tasks(conn) == [{"id": world["task"], "kind": "comparison", "reasons": ["unclear"]}]
    with pytest.raises(ContentError, match="is not open"):
        store.write(lambda conn: items.halt_task(conn, world["task"], by_id=world["lea"], now=5.0))
    store.write(lambda conn: items.open_task(conn, world["task"], by_id=world["lea"], now=6.0))
    assert claim().task_id == world["task"]


def test_a_halted_task_that_nobody_more_is_wanted_for_is_done_when_it_is_opened(store, world):
    store.write(lambda conn: conn.execute(schema.tasks.update().values(free=0, state="halted")))
    store.write(lambda conn: items.open_task(conn, world["task"], by_id=world["lea"], now=6.0))
    with store.read() as conn:
        assert conn.scalar(select(schema.tasks.c.state)) == "done"
