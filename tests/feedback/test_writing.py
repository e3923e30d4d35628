"""Prompts that people write: asked for, answered, taken out, on both databases."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from sqlalchemy import event, select, update

from tests.feedback.world import labelers
from tutelage.feedback import erase, queue, writing
from tutelage.feedback.content import add_prompt, add_task, prompt_hash
from tutelage.feedback.errors import ContentError
from tutelage.feedback.io.exporting import export_prompts
from tutelage.feedback.pseudonyms import key_of_store
from tutelage.feedback.schema import assignments, judgements, prompts, tasks
from tutelage.feedback.store import Store
from tutelage.text.readers import read_prompts

FEW = {"text": "Say the opposite.", "style": "few_shot",
       "examples": [{"prompt": "hot", "response": "cold"}, {"prompt": "wet", "response": "dry"}]}


def ask(store, lead, **given):
    given = {"style": "plain", "count": 2, "question": "", **given}
    return store.write(lambda conn: writing.ask_for_prompts(conn, by_id=lead, now=store.now(), **given))


def write(store, person, value):
    def work(conn):
        claimed = queue.claim(conn, person, now=store.now(), kinds=["prompt"])
        return queue.submit(conn, assignment_id=claimed.assignment_id, labeler_id=person, value=value, now=store.now(), seconds=30.0)
    return store.write(work)


def written(store):
    with store.read() as conn:
        return writing.newest(conn, 10)


def test_what_is_asked_for_is_written_once_each_and_waits_for_an_answer(store):
    lead, ann, bob = labelers(store, 3)
    ask(store, lead)
    write(store, ann, {"text": "How do I brew tea?", "style": "plain"})
    write(store, bob, FEW)
    with store.read() as conn:
        assert writing.wanted(conn) == 0
    newest, first = written(store)
    assert first.messages == [{"role": "user", "content": "How do I brew tea?"}] and first.task_id is None
    assert newest.messages == [{"role": "user", "content": "Say the opposite.\n\nhot"}, {"role": "assistant", "content": "cold"},
                               {"role": "user", "content": "wet"}]

    def answers(conn):
        return writing.ask_for_answers(conn, by_id=lead, now=store.now())
    made = store.write(answers)
    assert len(made) == 2 and store.write(answers) == [], "nothing is asked for twice"
    assert [one.task_id for one in written(store)] == made[::-1]
    with store.read() as conn:
        assert set(conn.scalars(select(tasks.c.kind).where(tasks.c.id.in_(made)))) == {"demonstration"}


def test_personal_data_in_a_written_prompt_is_replaced_before_it_is_kept(store):
    lead, ann = labelers(store, 2)
    ask(store, lead)
    write(store, ann, {"text": "Write to ada@example.com or +1 212 555 0123, not to [EMAIL_1].", "style": "plain"})
    write(store, ann, {"text": "Who is this?", "style": "few_shot", "examples": [
        {"prompt": "bob@example.org", "response": "Mail BOB@example.org."}, {"prompt": "+1 212 555 0199", "response": "No, [EMAIL_1]."}]})
    store.write(lambda conn: writing.ask_for_answers(conn, by_id=lead, now=store.now()))
    with store.read() as conn:
        assert [[message["content"] for message in content] for content in conn.scalars(select(prompts.c.content).order_by(prompts.c.id))] \
            == [["Write to [EMAIL_2] or [PHONE_1], not to [EMAIL_1]."],
                ["Who is this?\n\n[EMAIL_2]", "Mail [EMAIL_2].", "[PHONE_1]"]]
        kept = str([conn.execute(select(table)).all() for table in (judgements, assignments, prompts)])
    assert "example." not in kept and "212" not in kept, "nor can it be had of what they gave"
    with store.read() as conn:
        assert conn.scalars(select(judgements.c.value).where(judgements.c.id == 2)).one()["examples"][1]["response"] == "No, [EMAIL_1]."


def test_the_newest_are_shown_and_all_are_counted(store):
    lead, ann = labelers(store, 2)
    ask(store, lead, count=4)
    for text in ("One.", "Two.", "Three."):
        write(store, ann, {"text": text, "style": "plain"})

    def look():
        with store.read() as conn:
            return writing.written(conn), [one.messages[0]["content"] for one in writing.newest(conn, 2)], writing.wanted(conn)
    assert look() == ((3, 3), ["Three.", "Two."], 1)
    store.write(lambda conn: writing.ask_for_answers(conn, by_id=lead, now=store.now()))
    store.write(lambda conn: add_task(conn, kind="demonstration", prompt_id=1, batch=writing.BATCH, now=store.now(),
                                      extra={"erased": True}))
    write(store, ann, {"text": "Four.", "style": "plain"})
    assert look() == ((4, 1), ["Four.", "Three."], 0)


def test_what_people_wrote_is_found_without_reading_all_judgements(tmp_path):
    with Store.open(tmp_path / "studio.db") as store, store.read() as conn:
        asked = []

        def plan(conn, cursor, statement, parameters, context, many):
            if statement.startswith("SELECT"):
                asked.append([row[3] for row in cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)])
        event.listen(conn, "after_cursor_execute", plan)
        writing.newest(conn, 2), writing.written(conn), writing.wanted(conn), list(writing.prompt_rows(conn, None, Counter()))
    scanned = [step for steps in asked for step in steps if step.startswith(("SCAN judgements", "SCAN tasks", "SCAN answers"))]
    assert len(asked) >= 5 and scanned == []


def test_a_prompt_that_was_taken_back_is_none(store):
    lead, ann = labelers(store, 2)
    ask(store, lead)
    write(store, ann, {"text": "Never mind.", "style": "plain"})
    store.write(lambda conn: writing.undo_last(conn, ann, now=store.now()))
    assert written(store) == []


def test_a_prompt_longer_in_all_than_a_text_may_be_is_refused_to_its_writer_and_stops_no_other(store):
    lead, ann = labelers(store, 2)
    ask(store, lead)
    long = {"text": "a" * 300_000, "style": "few_shot", "examples": [{"prompt": "b" * 300_000, "response": "c"}]}
    with pytest.raises(ContentError, match="a prompt of 600,001 characters is too long"):
        write(store, ann, long)
    write(store, ann, long | {"text": "short"})
    assert len(store.write(lambda conn: writing.ask_for_answers(conn, by_id=lead, now=store.now()))) == 1


@pytest.mark.parametrize(("given", "says"), [({"style": "haiku"}, "style is 'haiku'"), ({"count": 0}, "0 prompts at once"),
                                             ({"count": 1001}, "1,001 prompts at once"),
                                             ({"style": "user_based", "question": " "}, "no use is described")])
def test_what_nobody_could_write_is_not_asked_for(store, given, says):
    with pytest.raises(ContentError, match=says):
        ask(store, labelers(store, 1)[0], **given)


def test_the_file_of_prompts_is_read_by_training_and_holds_what_may_be_used(store, tmp_path):
    lead, ann = labelers(store, 2)
    ask(store, lead)
    write(store, ann, {"text": "How do I brew tea?", "style": "plain"})
    write(store, ann, FEW)

    def others(conn):
        writing.ask_for_answers(conn, by_id=lead, now=store.now())
        for text, consent in (("Yes, use this.", True), ("Keep this private.", False)):
            add_prompt(conn, content=text, source="customer", user="cust-7", consent=consent, now=store.now())
    store.write(others)
    assert export_prompts(store, tmp_path / "p.jsonl").rows == 3
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert [row["source"] for row in rows] == ["labeler", "labeler", "customer"]
    assert "cust-7" not in str(rows) and len({row["user"] for row in rows}) == 2, "pseudonyms, one for each person"
    read = read_prompts(tmp_path / "p.jsonl").rows
    assert [prompt if isinstance(prompt, str) else prompt[-1].content for prompt in read] == ["How do I brew tea?", "wet", "Yes, use this."]


def usable(store):
    """(last words of each prompt, those that are held out)."""
    skipped = Counter()
    with store.read() as conn:
        rows = list(writing.prompt_rows(conn, None, skipped))
    return [row["prompt"] if isinstance(row["prompt"], str) else row["prompt"][-1]["content"] for row in rows], skipped["held out"]


def test_prompts_of_held_out_users_and_labelers_are_in_no_file_and_counted_there(store, tmp_path):
    lead, ann = labelers(store, 2)
    held, = labelers(store, 1, held_out=True)
    ask(store, lead, count=3)
    for person, text in ((ann, "Mine."), (ann, "How do I pay?"), (held, "Kept apart.")):
        write(store, person, {"text": text, "style": "plain"})
    assert usable(store) == (["Mine.", "How do I pay?"], 1)

    def others(conn):
        writing.ask_for_answers(conn, by_id=lead, now=store.now())
        for text, split in (("Yes, use this.", "train"), ("A user's who is held out.", "held_out")):
            add_prompt(conn, content=text, source="customer", user=f"a {split} user", split=split, now=store.now())
        add_prompt(conn, content="Without consent, so in no count.", source="customer", split="held_out", consent=False, now=store.now())
        conn.execute(update(prompts).where(prompts.c.hash == prompt_hash([{"role": "user", "content": "How do I pay?"}]))
                     .values(source="customer", user="a held-out user", split="held_out", author_id=None))
    store.write(others)
    assert usable(store) == (["Mine.", "Yes, use this."], 3), "nor what somebody else wrote in a held-out user's words"
    done = export_prompts(store, tmp_path / "p.jsonl")
    assert (done.rows, done.skipped) == (2, {"held out": 3})


def test_what_two_people_wrote_in_the_same_words_is_one_prompt(store):
    lead, ann, bob = labelers(store, 3)
    ask(store, lead, count=3)
    for person, text in ((ann, "Tea?"), (bob, "Tea?"), (bob, "Coffee?")):
        write(store, person, {"text": text, "style": "plain"})
    assert usable(store) == (["Tea?", "Coffee?"], 0)
    store.write(lambda conn: writing.ask_for_answers(conn, by_id=lead, now=store.now()))
    assert usable(store) == (["Tea?", "Coffee?"], 0)


def test_a_prompt_that_was_undone_after_it_was_asked_for_is_in_no_file_and_answered_by_nobody(store):
    lead, ann, bob = labelers(store, 3)
    ask(store, lead, count=3)
    write(store, bob, {"text": "Both asked.", "style": "plain"})
    write(store, ann, {"text": "Both asked.", "style": "plain"})
    store.write(lambda conn: writing.undo_last(conn, ann, now=store.now()))
    write(store, ann, {"text": "Never mind.", "style": "plain"})

    def others(conn):
        asked = writing.ask_for_answers(conn, by_id=lead, now=store.now())
        add_prompt(conn, content=[{"role": "user", "content": "Said in a talk."}], source="labeler", author_id=ann, now=store.now(),
                   extra={"conversation": 1})
        return asked
    kept, gone = store.write(others)
    assert usable(store)[0] == ["Both asked.", "Never mind.", "Said in a talk."]
    store.write(lambda conn: writing.undo_last(conn, ann, now=store.now()))
    assert usable(store)[0] == ["Both asked.", "Said in a talk."] and [one.task_id for one in written(store)] == [kept]
    with store.read() as conn:
        assert dict(conn.execute(select(tasks.c.id, tasks.c.state).where(tasks.c.kind == "demonstration")).all()) == {
            kept: "open", gone: "done"}
    write(store, ann, {"text": "Better so.", "style": "plain"})
    assert len(store.write(lambda conn: writing.ask_for_answers(conn, by_id=lead, now=store.now()))) == 1
    assert usable(store)[0] == ["Both asked.", "Better so.", "Said in a talk."]


def test_an_erased_writers_prompts_are_in_no_file_and_in_no_list(store, tmp_path):
    lead, ann = labelers(store, 2)
    ask(store, lead)
    write(store, ann, {"text": "My secret recipe.", "style": "plain"})
    store.write(lambda conn: writing.ask_for_answers(conn, by_id=lead, now=store.now()))
    def gone(conn):
        erase.erase(conn, erase.find(conn, "labeler", "labeler 1", key_of_store(conn)), now=store.now())
    store.write(gone)
    assert written(store) == []
    with pytest.raises(ContentError, match="no prompt that may be used"):
        export_prompts(store, tmp_path / "p.jsonl")


def test_what_a_labeler_writes_is_answered_also_where_the_same_words_are_kept_without_consent(store):
    lead, ann = labelers(store, 2)
    words = [{"role": "user", "content": "How do I brew tea?"}]
    store.write(lambda conn: add_prompt(conn, content=words, source="customer", consent=False, user="u", now=store.now()))
    ask(store, lead, count=1)
    write(store, ann, {"text": "How do I brew tea?", "style": "plain"})
    [made] = store.write(lambda conn: writing.ask_for_answers(conn, by_id=lead, now=store.now()))
    with store.read() as conn:
        assert conn.scalar(select(prompts.c.consent).join(tasks, tasks.c.prompt_id == prompts.c.id).where(tasks.c.id == made))
