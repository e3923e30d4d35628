"""Guidelines in versions: none is changed or lost, and two leads do not overwrite each other."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from tests.feedback import few
from tests.feedback.world import comparisons, labelers
from tutelage.feedback import conversations, guidelines, queue, schema
from tutelage.feedback.content import set_setting
from tutelage.feedback.conversations import Sampled
from tutelage.feedback.errors import ContentError


@pytest.fixture
def lea(store) -> int:
    return store.write(lambda conn: few.labeler(conn, "lea", role="lead"))


def save(store, text, base, by, now=5.0):
    return store.write(lambda conn: guidelines.save(conn, text=text, base=base, by_id=by, now=now))


def test_each_save_is_a_new_version_and_old_ones_stay(store, lea):
    assert [save(store, "Be kind.", None, lea), save(store, "Be honest.", "1", lea, 6.0)] == ["1", "2"]
    with store.read() as conn:
        assert guidelines.current(conn) == guidelines.Guidelines("2", "Be honest.", 6.0, "lea")
        assert [(one.version, one.text) for one in guidelines.versions(conn)] == [("2", "Be honest."), ("1", "Be kind.")]
        assert guidelines.version(conn, "1").text == "Be kind." and guidelines.version(conn, "9") is None
        assert list(conn.scalars(select(schema.audit.c.subject))) == ["version 1", "version 2"]


def test_what_a_program_wrote_is_kept_as_a_version_too(store, lea):
    store.write(lambda conn: set_setting(conn, "guidelines", {"version": "7", "text": "Of the demo."}))
    assert save(store, "Of the lead.", "7", lea) == "8"
    with store.read() as conn:
        found = [(one.version, one.text, one.by) for one in guidelines.versions(conn)]
    assert found == [("8", "Of the lead.", "lea"), ("7", "Of the demo.", None)]


def test_a_version_whose_base_is_no_longer_in_force_is_refused(store, lea):
    save(store, "First.", None, lea)
    with pytest.raises(ContentError, match="version 1 was saved while you wrote"):
        save(store, "Written by another meanwhile.", None, lea)
    with store.read() as conn:
        assert guidelines.current(conn).text == "First."


def test_the_same_text_makes_no_version_and_an_empty_or_endless_one_is_refused(store, lea):
    save(store, "First.", None, lea)
    assert save(store, " First.\n", "1", lea) == "1"
    for text, words in ((" \n", "empty"), ("x" * 50_001, "50,001 characters")):
        with pytest.raises(ContentError, match=words):
            save(store, text, "1", lea)
    with store.read() as conn:
        assert len(guidelines.versions(conn)) == 1


def by_version(store) -> list[str | None]:
    with store.read() as conn:
        return list(conn.scalars(select(schema.judgements.c.guideline_version).order_by(schema.judgements.c.id)))


def submit(store, claim, who) -> None:
    store.write(lambda conn: queue.submit(conn, assignment_id=claim.assignment_id, labeler_id=who, value={"choice": 1}, now=store.now()))


def test_a_judgement_is_by_the_guidelines_that_were_in_force_when_its_task_was_given(store, lea):
    who, = labelers(store, 1)
    comparisons(store, 2)
    before = store.write(lambda conn: queue.claim(conn, who, now=store.now()))
    save(store, "Be kind.", None, lea)
    submit(store, before, who)
    given = store.write(lambda conn: queue.claim(conn, who, now=store.now()))
    save(store, "Be honest.", "1", lea)
    submit(store, given, who)
    assert by_version(store) == [None, "1"]
    submit(store, store.write(lambda conn: queue.undo_last(conn, who, now=store.now())), who)
    assert by_version(store) == [None, "1", "2"], "shown again, it is judged anew"


def test_a_task_that_ran_out_and_is_given_again_is_by_the_guidelines_of_then(store, lea, clock):
    who, = labelers(store, 1)
    comparisons(store, 1)
    save(store, "Be kind.", None, lea)
    store.write(lambda conn: queue.claim(conn, who, now=store.now()))
    save(store, "Be honest.", "1", lea)
    clock.advance(1e5)
    submit(store, store.write(lambda conn: queue.claim(conn, who, now=store.now())), who)
    assert by_version(store) == ["2"]


def test_a_choice_in_a_conversation_is_by_the_guidelines_of_when_its_answers_were_shown(store, lea):
    who, = labelers(store, 1)
    save(store, "Be kind.", None, lea)

    def begin(conn):
        found = conversations.start(conn, who, now=store.now())
        conversations.reply(conn, found, who, at=0, text="Tea?", answers=[Sampled("yes"), Sampled("no")], now=store.now())
        return found

    talk = store.write(begin)
    save(store, "Be honest.", "1", lea)
    store.write(lambda conn: conversations.choose(conn, talk, who, at=1, value={"choice": 1}, now=store.now()))
    store.write(lambda conn: conversations.take_back(conn, talk, who, now=store.now()))
    store.write(lambda conn: conversations.choose(conn, talk, who, at=1, value={"choice": 1}, now=store.now()))
    assert by_version(store) == ["1", "2"]
