from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
from sqlalchemy import select

from tests.feedback.world import comparison, comparisons, labelers
from tutelage.feedback import content, queue, schema
from tutelage.feedback.errors import ContentError, KeptError, QueueError
from tutelage.feedback.shares import Shares, set_shares, shares

A_MUCH_BETTER = {"choice": 1}


def claim(store, labeler, **given):
    return store.write(lambda conn: queue.claim(conn, labeler, now=store.now(), **given))


def submit(store, claimed, labeler, value=A_MUCH_BETTER, **given):
    return store.write(lambda conn: queue.submit(conn, assignment_id=claimed.assignment_id, labeler_id=labeler, value=value,
                                                 now=store.now(), seconds=3.0, **given))


def shares_of(store):
    with store.read() as conn:
        return shares(conn)


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


@pytest.mark.parametrize("back", [30.0, 7200.0])
def test_a_submission_is_undone_after_the_clock_was_set_back_beside_a_task_that_was_begun(store, clock, back):
    person, = labelers(store, 1)
    comparisons(store, 2)
    first = claim(store, person)
    submit(store, first, person)
    second = claim(store, person)
    store.write(lambda conn: queue.save_draft(conn, assignment_id=second.assignment_id, labeler_id=person, draft={}, now=store.now()))
    clock.advance(-back)
    undone = store.write(lambda conn: queue.undo_last(conn, person, now=store.now()))
    assert undone.assignment_id == first.assignment_id and claim(store, person) == undone, "it is the task at hand"
    submit(store, undone, person)
    assert claim(store, person).assignment_id == second.assignment_id


def test_only_the_latest_submission_is_undone_and_once(store):
    person, = labelers(store, 1)
    comparisons(store, 3)

    def undo():
        return store.write(lambda conn: queue.undo_last(conn, person, now=store.now()))

    with pytest.raises(QueueError, match="nothing to undo"):
        undo()
    submit(store, claim(store, person), person)
    submit(store, claim(store, person), person)
    undo()
    with pytest.raises(QueueError, match="nothing to undo"):
        undo()


def test_a_task_undone_is_open_until_it_is_submitted_again(store):
    person, other = labelers(store, 2)
    comparisons(store, 1)
    submit(store, claim(store, person), person)
    undone = store.write(lambda conn: queue.undo_last(conn, person, now=store.now()))
    assert claim(store, other) is None                              # the place is still theirs

    def state():
        with store.read() as conn:
            return conn.execute(select(schema.tasks.c.state)).scalar()

    assert state() == "open"
    submit(store, undone, person)
    assert state() == "done"


def test_a_task_skipped_goes_to_others_and_after_enough_skips_to_a_lead(store):
    people = labelers(store, 4)
    store.write(lambda conn: set_shares(conn, halt_after_skips=3))
    task, = comparisons(store, 1)
    for person in people[:3]:
        held = claim(store, person)
        store.write(lambda conn, h=held, p=person: queue.skip(conn, assignment_id=h.assignment_id, labeler_id=p, reason="odd",
                                                              now=store.now()))
        assert claim(store, person) is None
    assert claim(store, people[3]) is None
    with store.read() as conn:
        assert conn.execute(select(schema.tasks.c.state, schema.tasks.c.free)).one() == ("halted", 1)
        assert conn.execute(select(schema.audit.c.action, schema.audit.c.subject)).one() == ("task.halted", f"task {task}")


def test_nobody_judges_their_own_text(store):
    author, other = labelers(store, 2)

    def add(conn):
        own_answer = comparison(conn, 1, now=store.now(), authors=(None, author))
        own_prompt = comparison(conn, 2, now=store.now(), prompt={"author_id": author})
        prompt = content.add_prompt(conn, content="question 2", source="demo", now=store.now())
        return own_answer, own_prompt, content.add_task(conn, kind="demonstration", prompt_id=prompt, now=store.now())

    own_answer, own_prompt, demonstration = store.write(add)
    held = claim(store, author)
    assert held.task_id == demonstration                            # to answer one's own prompt is no judgement of it
    submit(store, held, author, {"text": "mine"})
    assert claim(store, author) is None
    for _ in range(2):
        submit(store, claim(store, other), other)
    assert {row["task_id"] for row in judgements(store) if row["labeler_id"] == other} <= {own_answer, own_prompt, demonstration}


def test_a_draft_is_kept_and_holds_the_task(store, clock):
    person, other = labelers(store, 2)
    comparisons(store, 1)
    held = claim(store, person, seconds=600)

    def save(draft):
        return store.write(lambda conn: queue.save_draft(conn, assignment_id=held.assignment_id, labeler_id=person, draft=draft,
                                                         now=store.now(), seconds=600))
    clock.advance(500)
    assert save({"comment": "thinking \0\ud800"}) == store.now() + 600
    clock.advance(500)
    assert claim(store, other) is None
    assert claim(store, person).draft == {"comment": "thinking \ufffd\ufffd"}
    clock.advance(700)                                              # it runs out, and nobody has taken it: typing on takes it again
    store.write(lambda conn: queue.release_expired(conn, now=store.now()))
    assert save({"comment": "more"}) == store.now() + 600
    clock.advance(700)
    taken = claim(store, other)
    with pytest.raises(KeptError, match="given to others"):
        save({"comment": "all of it"})
    store.write(lambda conn: queue.skip(conn, assignment_id=taken.assignment_id, labeler_id=other, reason="", now=store.now()))
    again = claim(store, person)
    assert (again.assignment_id, again.sides, again.draft) == (held.assignment_id, held.sides, {"comment": "all of it"})


def test_a_clock_set_back_or_forward_hides_no_work(store, clock):
    person, other = labelers(store, 2)
    comparisons(store, 1)
    clock.advance(86_400 * 365)                                     # a wrong year, put right while the task is held
    held = claim(store, person, seconds=600)
    clock.advance(-86_400 * 365)
    assert claim(store, other) is None
    with store.read() as conn:
        assert queue.resume(conn, person).expires_at == store.now() + 600
    clock.advance(601)
    assert claim(store, other).task_id == held.task_id
    clock.advance(86_400 * 365)                                     # forward: it runs out early, and is still taken while its place is free
    store.write(lambda conn: queue.release_expired(conn, now=store.now()))
    assert submit(store, held, person)


def test_who_is_shut_out_in_the_middle_of_a_task_loses_no_word_and_gives_back_the_place(store):
    person, other = labelers(store, 2)
    comparisons(store, 1)
    held = claim(store, person)
    shut = schema.labelers.update().where(schema.labelers.c.id == person).values(disabled_at=store.now())
    store.write(lambda conn: (conn.execute(shut), queue.revoke(conn, person, now=store.now())))
    with pytest.raises(KeptError, match="account is closed"):
        submit(store, held, person, {"choice": 2})
    with pytest.raises(QueueError, match="account is closed"):
        claim(store, person)
    with store.read() as conn:
        assert conn.execute(select(schema.assignments.c.draft)).scalar() == {"choice": 2}
    assert claim(store, other).task_id == held.task_id and judgements(store) == []


def test_a_judgement_carries_how_it_was_made(store):
    person, = labelers(store, 1)
    comparisons(store, 1, p_select=0.25)
    claimed = claim(store, person)
    submit(store, claimed, person, interface_version="1.2")
    row, = judgements(store)
    assert (row["seconds"], row["interface_version"], row["guideline_version"], row["created_at"]) == (3.0, "1.2", None, store.now())
    assert (row["p_select"], row["kind"], row["labeler_id"], row["sides"]) == (0.25, "comparison", person, list(claimed.sides))


def test_the_second_practice_answer_cannot_be_bettered_by_undoing(store):
    person, = labelers(store, 1, screening={"state": "new"})
    comparisons(store, 1, purpose="practice")
    submit(store, claim(store, person), person)
    with pytest.raises(QueueError, match="practice answer stands"):
        store.write(lambda conn: queue.undo_last(conn, person, now=store.now()))


def test_settings_out_of_range_are_refused_by_name(store):
    for changes, told in (({"uniform": 1.5}, "queue.uniform is 1.5"), ({"unifrom": 0.1}, "did you mean uniform"),
                          ({"shared": 0.6, "gold": 0.6}, "add up"), ({"kind_weights": {"rankings": 1}}, "did you mean ranking"),
                          ({"reservation_seconds": 1}, "too low")):
        with pytest.raises(ContentError, match=told):
            store.write(lambda conn, changes=changes: set_shares(conn, **changes))
    assert shares_of(store) == Shares()


def test_every_setting_of_the_queue_is_in_the_docs_with_its_default():
    page = (Path(__file__).parents[2] / "docs" / "store.md").read_text(encoding="utf-8").split("<!-- settings -->\n")[1].split("\n\n")[0]
    listed = {row.split("|")[1].strip(" `"): row.split("|")[2].strip() for row in page.splitlines()[2:]}
    assert listed == {name: "1 each" if name == "kind_weights" else f"{value:g}" for name, value in asdict(Shares()).items()}
