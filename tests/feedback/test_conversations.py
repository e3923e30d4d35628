"""Conversations in the store, on both databases: what is chosen is a judgement, and nothing is given to anybody else."""

from __future__ import annotations

import pytest
from sqlalchemy import func, insert, select, update

from tutelage.feedback import conversations, queue
from tutelage.feedback.content import add_labeler, add_prompt, add_task
from tutelage.feedback.conversations import Sampled
from tutelage.feedback.errors import ContentError, QueueError
from tutelage.feedback.schema import assignments, judgements, reports, retractions, tasks

TWO = [Sampled("left", "m@1", "ab" * 32, {"temperature": 1.0}, [-1.0]), Sampled("right")]


@pytest.fixture
def people(store):
    def work(conn):
        return [add_labeler(conn, name=name, now=store.now(), screening={"state": "passed"}) for name in ("ann", "bob")]

    return store.write(work)


def talk(store, labeler: int, **begin) -> tuple[int, conversations.Conversation]:
    """A conversation in which two answers wait for a choice."""
    def work(conn):
        found = conversations.start(conn, labeler, now=store.now(), **begin)
        conversations.reply(conn, found, labeler, at=0, text="Tea?", answers=TWO, now=store.now())
        return found

    found = store.write(work)
    return found, load(store, found, labeler)


def load(store, found: int, labeler: int) -> conversations.Conversation:
    with store.read() as conn:
        loaded = conversations.load(conn, found, labeler)
    assert loaded is not None
    return loaded


def choose(store, found: int, labeler: int, choice: int, at: int = 1) -> int | None:
    return store.write(lambda conn: conversations.choose(conn, found, labeler, at=at, value={"choice": choice}, now=store.now()))


@pytest.mark.parametrize("choice", range(1, 9))
def test_the_answer_that_stood_where_was_chosen_continues(store, people, choice):
    found, waiting = talk(store, people[0])
    choose(store, found, people[0], choice)
    side = waiting.turn.sides[0 if choice <= 4 else 1]
    assert load(store, found, people[0]).said[-1] == {"role": "assistant", "content": TWO[side].text}


def test_a_choice_is_a_finished_task_that_the_queue_gives_to_nobody(store, people, clock):
    found, _ = talk(store, people[0])
    judgement = choose(store, found, people[0], 2)
    assert judgement is not None and choose(store, found, people[0], 7) is None, "the second of a double click"
    clock.advance(1e6)
    assert store.write(lambda conn: queue.claim(conn, people[1], now=store.now())) is None
    with store.read() as conn:
        assert conn.execute(select(tasks.c.state, tasks.c.free, tasks.c.overlap, tasks.c.p_select)).all() == [("done", 0, 1, 1.0)]
        assert conn.execute(select(judgements.c.p_select, judgements.c.kind)).all() == [(1.0, "comparison")]


def test_a_choice_that_was_overruled_is_not_taken_back(store, people):
    found, _ = talk(store, people[0])
    judgement = choose(store, found, people[0], 2)
    store.write(lambda conn: conn.execute(insert(retractions).values(judgement_id=judgement, reason="overruled by item 9", created_at=1.0)))
    with pytest.raises(QueueError, match="it was overruled"):
        store.write(lambda conn: conversations.take_back(conn, found, people[0], now=store.now()))
    assert len(load(store, found, people[0]).messages) == 2, "the conversation goes on from it"


def test_a_choice_of_a_page_left_behind_does_not_judge_the_next_two_answers(store, people):
    found, _ = talk(store, people[0])
    choose(store, found, people[0], 2)
    store.write(lambda conn: conversations.reply(conn, found, people[0], at=2, text="More", answers=TWO, now=store.now()))
    assert choose(store, found, people[0], 7, at=1) is None and load(store, found, people[0]).turn is not None
    assert choose(store, found, people[0], 7, at=3) is not None


def test_a_failed_choice_leaves_no_task_behind(store, people):
    found, _ = talk(store, people[0])
    for value in ({"choice": 9}, {"tie": True}, {"both_bad": True}, {}):
        with pytest.raises(ContentError):
            store.write(lambda conn, value=value: conversations.choose(conn, found, people[0], at=1, value=value, now=store.now()))
    with store.read() as conn:
        assert conn.scalar(select(func.count()).select_from(tasks)) == 0
        assert conn.scalar(select(func.count()).select_from(assignments)) == 0


def test_what_is_reported_of_a_turn_and_chosen_in_it_is_of_one_task(store, people):
    found, _ = talk(store, people[0])
    def report(kind):
        return store.write(lambda conn: conversations.report(conn, found, people[0], kind=kind, text="Look.", now=store.now()))
    for kind in ("harm", "question", "harm"):
        report(kind)
    assert store.write(lambda conn: queue.claim(conn, people[1], now=store.now())) is None
    choose(store, found, people[0], 2)
    with store.read() as conn:
        (task,) = conn.execute(select(tasks.c.id, tasks.c.state, tasks.c.free)).all()
        assert task[1:] == ("done", 0) and conn.scalars(select(judgements.c.task_id)).all() == [task.id]
        assert set(conn.scalars(select(reports.c.task_id))) == {task.id}
    store.write(lambda conn: conversations.take_back(conn, found, people[0], now=store.now()))
    report("question")
    choose(store, found, people[0], 7)
    with store.read() as conn:
        assert set(conn.scalars(select(reports.c.task_id))) == {task.id}
        assert conn.scalar(select(func.count()).select_from(tasks)) == 2, "the second choice is no second judgement of the first's task"
        assert len(conn.scalars(select(judgements.c.task_id)).all()) == 2


def test_a_choice_is_taken_where_the_lead_gave_the_reported_turn_to_others(store, people):
    found, _ = talk(store, people[0])
    store.write(lambda conn: conversations.report(conn, found, people[0], kind="harm", text="Look.", now=store.now()))
    store.write(lambda conn: conn.execute(update(tasks).values(state="open")))
    held = store.write(lambda conn: queue.claim(conn, people[1], now=store.now()))
    assert choose(store, found, people[0], 2) is not None
    assert store.write(lambda conn: queue.resume(conn, people[1])) == held


def test_an_ended_conversation_takes_nothing_more(store, people):
    found, _ = talk(store, people[0])
    choose(store, found, people[0], 2)
    store.write(lambda conn: conversations.end(conn, found, people[0], rating=4, comment=" ", now=store.now()))
    for act in (lambda conn: conversations.reply(conn, found, people[0], at=2, text="More", answers=TWO, now=store.now()),
                lambda conn: conversations.end(conn, found, people[0], rating=1, comment="", now=store.now()),
                lambda conn: conversations.take_back(conn, found, people[0], now=store.now())):
        with pytest.raises(QueueError, match="has ended"):
            store.write(act)
    with store.read() as conn:
        assert conn.scalars(select(judgements.c.value).where(judgements.c.kind == "conversation")).all() == [{"rating": 4}]


def test_undoing_the_end_opens_the_conversation_again(store, people):
    found, _ = talk(store, people[0])
    choose(store, found, people[0], 2)
    store.write(lambda conn: conversations.end(conn, found, people[0], rating=4, comment="good", now=store.now()))
    held = store.write(lambda conn: queue.undo_last(conn, people[0], now=store.now()))
    assert held.kind == "conversation"
    again = store.write(lambda conn: conversations.start(conn, people[0], now=store.now(), assignment_id=held.assignment_id))
    assert again == found and len(load(store, found, people[0]).said) == 2
    store.write(lambda conn: conversations.end(conn, found, people[0], rating=1, comment="", now=store.now()))


def test_the_time_of_all_that_was_said_is_of_the_judgement_that_ends_it_and_told_once(store, people, clock):
    found = store.write(lambda conn: conversations.start(conn, people[0], now=store.now()))
    for at, seconds in ((0, 40.0), (2, 20.0)):
        clock.advance(60)
        store.write(lambda conn, at=at, seconds=seconds: conversations.reply(conn, found, people[0], at=at, text="Tea?", answers=TWO,
                                                                             now=store.now(), seconds=seconds))
        clock.advance(9)
        store.write(lambda conn, at=at: conversations.choose(conn, found, people[0], at=at + 1, value={"choice": 1}, now=store.now(),
                                                             seconds=5.0))
        store.write(lambda conn: conversations.keep_draft(conn, found, people[0], {"text": "so"}, now=store.now() + 99))
        assert load(store, found, people[0]).since == store.now(), "a draft is nothing said"
    store.write(lambda conn: conversations.end(conn, found, people[0], rating=4, comment="", now=store.now(), seconds=7.0))
    held = store.write(lambda conn: queue.undo_last(conn, people[0], now=store.now()))
    store.write(lambda conn: conversations.start(conn, people[0], now=store.now(), assignment_id=held.assignment_id))
    store.write(lambda conn: conversations.end(conn, found, people[0], rating=1, comment="", now=store.now(), seconds=3.0))
    with store.read() as conn:
        assert conn.scalars(select(judgements.c.seconds).order_by(judgements.c.id)).all() == [5.0, 5.0, 67.0, 3.0]


def test_saying_something_holds_the_task_on(store, people, clock):
    task = store.write(lambda conn: add_task(conn, kind="conversation", now=store.now()))
    held = store.write(lambda conn: queue.claim(conn, people[0], now=store.now()))
    found, _ = talk(store, people[0], assignment_id=held.assignment_id)
    for _ in range(3):
        clock.advance(3000)
        store.write(lambda conn: conversations.keep_draft(conn, found, people[0], {"text": "hm"}, now=store.now()))
        assert store.write(lambda conn: queue.claim(conn, people[1], now=store.now())) is None
    with pytest.raises(QueueError):
        store.write(lambda conn: conversations.start(conn, people[1], now=store.now(), assignment_id=held.assignment_id))
    assert held.task_id == task


def test_a_task_that_is_not_open_cannot_be_given(store, people):
    prompt = store.write(lambda conn: add_prompt(conn, content="Tea?", source="labeler", author_id=people[0], now=store.now()))
    task = store.write(lambda conn: add_task(conn, kind="demonstration", prompt_id=prompt, now=store.now()))
    store.write(lambda conn: queue.give(conn, task, people[0], now=store.now()))
    with pytest.raises(QueueError, match="not open"):
        store.write(lambda conn: queue.give(conn, task, people[1], now=store.now()))
