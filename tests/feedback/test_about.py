"""What the store tells one person about themselves."""

from __future__ import annotations

import pytest

from tests.feedback import few
from tutelage.feedback import conversations, flow, queue, schema
from tutelage.feedback.about import done_today, everything_about
from tutelage.feedback.conversations import Sampled
from tutelage.feedback.newcomers import count_answer, decide
from tutelage.feedback.store import Store

MONDAY = 1_699_833_600.0                                              # 2023-11-13 00:00 UTC
GIVEN = (("yesterday", -1.0, 10.0, None), ("stands", 0.0, 60.0, None), ("undone", 1.0, 30.0, "undone"),
         ("overruled", 2.0, 40.0, "overruled by item 9"), ("its prompt erased", 3.0, 5.0, "erased"),
         ("left open overnight", 4.0, 9e4, None), ("without a clock", 5.0, None, None), ("practice", 6.0, 20.0, None))


@pytest.fixture
def amara(store) -> int:
    def work(conn):
        who = few.labeler(conn, "amara", pay_per_hour=36.0)
        for number, (name, at, seconds, why) in enumerate(GIVEN):
            task = few.task(conn, few.prompt(conn, f"q{number}"), ["a", "b"], purpose="practice" if name == "practice" else "work")
            held = few.put(conn, "assignments", task_id=task, labeler_id=who, claimed_at=MONDAY, expires_at=MONDAY)
            value = None if why == "erased" else {"ranks": [0, 1]}
            made = few.judgement(conn, task, who, value, assignment_id=held, seconds=seconds, created_at=MONDAY + at)
            if why:
                few.put(conn, "retractions", judgement_id=made, reason=why, created_at=MONDAY)
        few.judgement(conn, task, who, {"ranks": [0, 1]}, seconds=7.0, created_at=MONDAY + 6)     # imported
        return who
    return store.write(work)


def test_today_counts_what_was_given_and_not_undone_and_the_time_that_is_paid(store, amara):
    with store.read() as conn:
        today = done_today(conn, amara, now=MONDAY + 3600)
        [pay] = flow.pay([one for one in flow.work_done(conn) if one.day == int(MONDAY) // 86400], flow.rates(conn))
    assert today == (5, 60.0 + 30.0 + 40.0 + 5.0 + 1800.0 + 20.0), "five, of seven since midnight: one taken back, one practice"
    assert pay.hours * 3600 == pytest.approx(today.seconds), "the time that their page tells is the time that is paid"


def test_a_long_history_does_not_make_today_slower(tmp_path):
    def steps(history: int) -> int:
        with Store.open(tmp_path / f"{history}.db") as store:
            def fill(conn):
                who = few.labeler(conn, "amara")
                task = few.task(conn, few.prompt(conn), ["a", "b"])
                given = {"task_id": task, "labeler_id": who, "kind": "comparison"}
                conn.execute(schema.judgements.insert(), [given | {"created_at": MONDAY - i}
                                                          for i in range(history, 0, -1)])
                few.judgement(conn, task, who, {"ranks": [0, 1]}, created_at=MONDAY + 1)
                return who
            who, count = store.write(fill), [0]
            with store.read() as conn:
                driver = conn.connection.driver_connection
                driver.set_progress_handler(lambda: count.__setitem__(0, count[0] + 1), 1)
                done_today(conn, who, now=MONDAY + 60)
                driver.set_progress_handler(None, 0)
            return count[0]

    assert steps(3000) < 1.2 * steps(300)


def blinded(rows: list[dict]) -> list[bool]:
    """Of each row, whether it tells neither on which side what stood nor how likely it was drawn."""
    assert all(("sides" in row) == ("p_select" in row) for row in rows)
    return ["sides" not in row for row in rows]


def test_ones_copy_does_not_unblind_what_can_still_be_judged_or_changed(store):
    def work(conn):
        who = few.labeler(conn, "amara", role="expert")
        few.judgement(conn, few.task(conn, few.prompt(conn, "imported"), ["a", "b"]), who, {"ranks": [0, 1]})
        for number in range(2):
            task = few.task(conn, few.prompt(conn, f"q{number}"), ["a", "b"], free=1, p_select=1.0)
            queue.give(conn, task, who, now=store.now())
        return who

    who = store.write(work)

    def told():
        with store.read() as conn:
            found = everything_about(conn, who)
        return blinded(found["assignments"]), blinded(found["judgements"])

    assert told() == ([True, True], [False])
    for held, after in ((1, ([True, True], [False, True])), (2, ([False, True], [False, False, True]))):
        store.write(lambda conn, held=held: queue.submit(conn, assignment_id=held, labeler_id=who, value={"choice": 1}, now=store.now()))
        assert told() == after, "the last can be taken back"
    store.write(lambda conn: queue.undo_last(conn, who, now=store.now()))
    assert told() == ([False, True], [False, False, True])


def test_ones_copy_does_not_unblind_a_conversation_that_goes_on(store):
    who = store.write(lambda conn: few.labeler(conn, "amara", role="expert"))
    mine = {"labeler_id": who, "now": store.now()}
    talk = store.write(lambda conn: conversations.start(conn, **mine))

    def told():
        with store.read() as conn:
            found = everything_about(conn, who)
        return found["conversations"][0]["messages"].get("turn"), blinded(found["assignments"]), blinded(found["judgements"])

    def say(at):
        answers = [Sampled(f"one {at}", "m"), Sampled(f"other {at}", "n")]
        store.write(lambda conn: conversations.reply(conn, talk, at=at, text="hello", answers=answers, **mine))
        return told()[0]

    assert set(say(0)) == {"prompt", "at", "guidelines"}
    store.write(lambda conn: conversations.choose(conn, talk, at=1, value={"choice": 2}, **mine))
    say(2)
    assert told()[1:] == ([True], [True])
    store.write(lambda conn: conversations.choose(conn, talk, at=3, value={"choice": 2}, **mine))
    assert told() == (None, [True, True], [True, True])
    store.write(lambda conn: conversations.end(conn, talk, rating=3, comment="", **mine))
    assert told()[1] == [False, False, True], "it has ended, and only the rating can be taken back"


def test_ones_copy_does_not_tell_after_each_item_of_a_screening_whether_it_was_right(store):
    who = store.write(lambda conn: few.labeler(conn, "amara", screening={"state": "new"}))

    def told():
        with store.read() as conn:
            return everything_about(conn, who)["labelers"][0]["screening"]

    for label in (True, False):
        store.write(lambda conn, label=label: count_answer(conn, who, kind="label", value={"label": label}, expected={"label": True},
                                                           now=1.0))
    assert told()["state"] == "new" and told()["test"]["asked"] == 2 and "right" not in told()["test"]
    lead = store.write(lambda conn: few.labeler(conn, "lead", role="lead"))
    store.write(lambda conn: decide(conn, who, "passed", by_id=lead, now=2.0))
    assert told()["test"]["right"] == 1 and "by" not in told()
