"""What labelers tell and ask, and how it is answered."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from tests.feedback import few
from tutelage.feedback import reports, schema
from tutelage.feedback.errors import ContentError


@pytest.fixture
def world(store):
    """Two labelers with a task each, what they told and asked of it, and a lead. A verdict of triage that is settled is no message."""
    def make(conn):
        people = {name: few.labeler(conn, name) for name in ("amara", "bo", "lea")}
        task = few.task(conn, few.prompt(conn), ["on the mat", "no idea"])
        for name in ("amara", "bo"):
            given = few.put(conn, "assignments", task_id=task, labeler_id=people[name], claimed_at=few.AT, expires_at=few.AT)
            for at, kind in enumerate(("harm", "question")):
                people[f"{name} {kind}"] = reports.add_report(conn, kind=kind, assignment_id=given, labeler_id=people[name],
                                                              now=few.AT + at, text=f"{kind} of {name}")
        few.put(conn, "reports", kind="label_error", task_id=task, labeler_id=people["lea"], state="closed", created_at=few.AT)
        return people | {"task": task}
    return store.write(make)


def answer(store, world, which, text, at=few.AT + 9):
    store.write(lambda conn: reports.answer_report(conn, world[which], text=text, by_id=world["lea"], now=at))


def test_the_inbox_is_a_queue_and_who_asked_alone_gets_the_answer(store, world):
    answer(store, world, "amara question", "On the mat.")
    with store.read() as conn:
        waiting, closed = (reports.inbox(conn, state=state) for state in ("open", "closed"))
        assert [row["text"] for row in waiting] == ["harm of amara", "harm of bo", "question of bo"] and reports.open_reports(conn) == 3
        (row,) = closed
        assert (row["name"], row["answer"], row["answered_by"], row["task_kind"]) == ("amara", "On the mat.", "lea", "comparison")
        assert [row["answer"] for row in reports.reports_of(conn, world["amara"])] == ["On the mat.", None]
        assert [row["answer"] for row in reports.reports_of(conn, world["bo"])] == [None, None]
        assert [reports.new_answers(conn, world[name], since=few.AT) for name in ("amara", "bo")] == [1, 0]
        assert reports.new_answers(conn, world["amara"], since=few.AT + 9) == 0, "read by then"
        assert "lea" not in str(reports.reports_of(conn, world["amara"])), "nor who answered"


def test_harm_can_be_closed_without_a_word_and_a_question_cannot(store, world):
    answer(store, world, "bo harm", "")
    with pytest.raises(ContentError, match="answer is empty"):
        answer(store, world, "bo question", " \n")
    with store.read() as conn:
        assert reports.open_reports(conn) == 3 and reports.new_answers(conn, world["bo"], since=0.0) == 0


def test_a_report_opened_again_waits_with_its_answer_and_everything_is_in_the_audit_log(store, world):
    answer(store, world, "bo question", "Perhaps.")
    store.write(lambda conn: reports.reopen_report(conn, world["bo question"], by_id=world["lea"], now=few.AT + 10))
    with store.read() as conn:
        row = next(row for row in reports.inbox(conn, state="open") if row["id"] == world["bo question"])
        assert row["answer"] == "Perhaps."
        assert list(conn.scalars(select(schema.audit.c.action))) == ["answer report", "reopen report"]


def test_a_report_that_is_not_there_or_no_message_cannot_be_answered(store, world):
    with store.read() as conn:
        verdict = conn.scalar(select(schema.reports.c.id).where(schema.reports.c.kind == "label_error"))
    for number in (verdict, 999):
        with pytest.raises(ContentError, match=f"no report {number}"):
            store.write(lambda conn, n=number: reports.answer_report(conn, n, text="x", by_id=world["lea"], now=1.0))
        with pytest.raises(ContentError, match=f"no report {number}"):
            store.write(lambda conn, n=number: reports.reopen_report(conn, n, by_id=world["lea"], now=1.0))
