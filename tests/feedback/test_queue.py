from __future__ import annotations

import pytest
from sqlalchemy import select

from tests.feedback.world import comparisons, labelers
from tutelage.feedback import queue, schema
from tutelage.feedback.errors import KeptError, QueueError

A_MUCH_BETTER = {"choice": 1}


def claim(store, labeler, **given):
    return store.write(lambda conn: queue.claim(conn, labeler, now=store.now(), **given))


def submit(store, claimed, labeler, value=A_MUCH_BETTER, **given):
    return store.write(lambda conn: queue.submit(conn, assignment_id=claimed.assignment_id, labeler_id=labeler, value=value,
                                                 now=store.now(), seconds=3.0, **given))


def judgements(store):
    with store.read() as conn:
        return conn.execute(select(schema.judgements).order_by(schema.judgements.c.id)).mappings().all()


def test_a_task_goes_to_as_many_people_as_are_wanted_and_no_more(store):
    people = labelers(store, 3)
    task, = comparisons(store, 1, overlap=2)
    first, second, third = (claim(store, person) for person in people)
    assert (first.task_id, second.task_id, third) == (task, task, None)
    assert submit(store, first, people[0]) != submit(store, second, people[1])
    assert [claim(store, person) for person in people] == [None] * 3
    with store.read() as conn:
        assert conn.execute(select(schema.tasks.c.state, schema.tasks.c.free)).one() == ("done", 0)


def test_who_asks_again_gets_what_they_hold(store):
    person, = labelers(store, 1)
    comparisons(store, 5)
    first = claim(store, person)
    assert claim(store, person) == first
    with store.read() as conn:
        assert queue.resume(conn, person) == first
    assert claim(store, person, kinds=["ranking"]) is None
    submit(store, first, person)
    assert claim(store, person).task_id != first.task_id


def test_what_was_on_the_left_is_stored_and_undone_by_the_store(store):
    person, = labelers(store, 1)
    comparisons(store, 40)
    seen = set()
    for _ in range(40):
        claimed = claim(store, person)
        submit(store, claimed, person, {"choice": 2})               # what is shown as A is clearly better
        stored = judgements(store)[-1]
        better = claimed.response_ids[stored["value"]["ranks"].index(0)]
        assert (better, stored["sides"], stored["value"]["strength"]) == (claimed.shown_ids[0], list(claimed.sides), 3)
        seen.add(claimed.sides)
    assert seen == {(0, 1), (1, 0)}


def test_a_double_submit_finds_the_first(store):
    person, = labelers(store, 1)
    comparisons(store, 1)
    claimed = claim(store, person)
    assert submit(store, claimed, person) == submit(store, claimed, person, {"choice": 8})
    assert [row["value"]["strength"] for row in judgements(store)] == [4]


def test_forged_ids_and_other_peoples_tasks_are_told_apart_by_nobody(store):
    mine, other = labelers(store, 2)
    comparisons(store, 1)
    claimed = claim(store, other)
    told = set()
    for forged in (claimed.assignment_id, 999, 0, -1, 2**31, 2**63, 2**70, "1", None, True):
        for act in (lambda conn, a: queue.submit(conn, assignment_id=a, labeler_id=mine, value=A_MUCH_BETTER, now=0.0),
                    lambda conn, a: queue.skip(conn, assignment_id=a, labeler_id=mine, reason="", now=0.0),
                    lambda conn, a: queue.save_draft(conn, assignment_id=a, labeler_id=mine, draft={}, now=0.0)):
            with pytest.raises(QueueError) as error:
                store.write(lambda conn, act=act, forged=forged: act(conn, forged))
            told.add(str(error.value))
    assert told == {"there is no such task of yours"}
    assert submit(store, claimed, other)


def test_a_reservation_that_ran_out_goes_to_the_next(store, clock):
    first, second = labelers(store, 2)
    comparisons(store, 1)
    held = claim(store, first, seconds=600)
    clock.advance(599)
    assert claim(store, second) is None
    clock.advance(2)
    assert claim(store, second).task_id == held.task_id


def test_a_late_submission_counts_while_its_place_is_free(store, clock):
    person, other = labelers(store, 2)
    comparisons(store, 1)
    held = claim(store, person, seconds=600)
    clock.advance(10_000)
    store.write(lambda conn: queue.release_expired(conn, now=store.now()))
    assert submit(store, held, person)
    assert claim(store, other) is None


def test_a_late_submission_whose_place_was_given_away_is_kept_as_a_draft(store, clock):
    person, other = labelers(store, 2)
    comparisons(store, 1)
    held = claim(store, person, seconds=600)
    clock.advance(601)
    taken = claim(store, other)
    with pytest.raises(KeptError, match="ran out"):
        submit(store, held, person, {"choice": 3, "comment": "an hour of thought"})
    submit(store, taken, other)
    assert len(judgements(store)) == 1
    with store.read() as conn:
        draft = conn.execute(select(schema.assignments.c.draft).where(schema.assignments.c.labeler_id == person)).scalar()
    assert draft == {"choice": 3, "comment": "an hour of thought"}


def test_undo_gives_the_same_task_back_with_what_was_said(store):
    person, = labelers(store, 1)
    comparisons(store, 3)
    claimed = claim(store, person)
    first = submit(store, claimed, person, {"choice": 3, "comment": "hm"})
    claim(store, person)                                            # the page has gone on to the next task
    undone = store.write(lambda conn: queue.undo_last(conn, person, now=store.now()))
    assert (undone.assignment_id, undone.sides, undone.draft) == (claimed.assignment_id, claimed.sides, {"choice": 3, "comment": "hm"})
    assert claim(store, person) == undone
    second = submit(store, undone, person, {"choice": 6})
    with store.read() as conn:
        retracted = conn.execute(select(schema.retractions.c.judgement_id)).scalars().all()
    assert second != first and retracted == [first] and len(judgements(store)) == 2
