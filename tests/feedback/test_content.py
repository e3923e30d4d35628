"""What is judged, and by whom."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from tutelage.feedback import content, schema
from tutelage.feedback.errors import ContentError, StoreError


def add_prompt(store, text, **given):
    return store.write(lambda conn: content.add_prompt(conn, content=text, source="demo", now=store.now(), **given))


def test_a_copy_of_a_prompt_is_the_prompt(store):
    first = add_prompt(store, [{"role": "user", "content": "hello"}], user="ann")
    assert add_prompt(store, [{"content": "hello", "role": "user"}], user="bob") == first
    assert add_prompt(store, "hello") != first
    with store.read() as conn:
        assert conn.execute(select(schema.prompts.c.content, schema.prompts.c.user).order_by(schema.prompts.c.id)).all() == [
            ([{"role": "user", "content": "hello"}], "ann"), ("hello", None)]


def test_a_copy_of_a_prompt_brings_its_warnings_to_the_prompt_and_to_the_tasks_there_are(store):
    def work(conn):
        made = [content.add_prompt(conn, content="gory", source="import", now=1.0, warnings=marked) for marked in ((), ("hate",))]
        task = content.add_task(conn, kind="demonstration", prompt_id=made[0], now=1.0)
        again = content.add_prompt(conn, content="gory", source="import", now=2.0, warnings=("violence", "hate"))
        content.add_prompt(conn, content="gory", source="import", now=3.0)
        content.add_prompt(conn, content="other", source="import", now=3.0, warnings=("abuse",))
        later = content.add_task(conn, kind="demonstration", prompt_id=again, now=3.0)
        return task, later

    made = store.write(work)
    with store.read() as conn:
        assert list(conn.scalars(select(schema.prompts.c.warnings).order_by(schema.prompts.c.id))) == [["hate", "violence"], ["abuse"]]
        assert [conn.scalar(select(schema.tasks.c.warnings).where(schema.tasks.c.id == task)) for task in made] == [" hate violence "] * 2


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(codec=None), min_size=1))
def test_any_text_comes_back_as_it_was(store, text):
    made = store.write(lambda conn: content.add_response(conn, prompt_id=1, text=text, now=0.0)) if add_prompt(store, "p") == 1 else 0
    with store.read() as conn:
        found = conn.execute(select(schema.responses.c.text).where(schema.responses.c.id == made)).scalar()
    assert found == "".join("\ufffd" if c == "\0" or 0xD800 <= ord(c) < 0xE000 else c for c in text)


def test_documents_keep_null_apart_from_nothing(store):
    prompt = add_prompt(store, "p")
    store.write(lambda conn: content.add_response(conn, prompt_id=prompt, text="a", logprobs=[-0.5, -1e-9], sampling={"top_p": 1.0},
                                                  now=0.0))
    store.write(lambda conn: conn.execute(schema.prompts.update().values(content=None)))
    with store.read() as conn:
        assert conn.execute(select(schema.responses.c.logprobs, schema.responses.c.sampling)).one() == ([-0.5, -1e-9], {"top_p": 1.0})
        assert conn.exec_driver_sql("SELECT count(*) FROM prompts WHERE content IS NULL").scalar() == 1


@pytest.mark.parametrize(("given", "told"), [
    ({"kind": "comparision", "response_ids": [1, 2]}, "did you mean comparison"),
    ({"kind": "comparison", "response_ids": [1]}, "with 1 answers"), ({"kind": "comparison", "response_ids": [1, 1]}, "twice"),
    ({"kind": "comparison", "response_ids": [1, 3]}, "3 is not an answer to prompt 1"),
    ({"kind": "comparison", "response_ids": [1, 99]}, "99 is not an answer"), ({"kind": "demonstration", "prompt_id": 99}, "no prompt 99"),
    ({"kind": "demonstration", "prompt_id": None}, "needs a prompt"), ({"kind": "prompt"}, "has no prompt yet"),
    ({"kind": "comparison", "response_ids": [1, 2], "overlap": 0}, "overlap 0"), ({"kind": "demonstration", "p_select": 0.0}, "p_select 0"),
    ({"kind": "demonstration", "purpose": "fun"}, "purpose is 'fun'"),
])
def test_a_task_that_cannot_be_is_refused(store, given, told):
    for text in ("one", "two"):
        prompt = add_prompt(store, text)
        for side in "ab":
            store.write(lambda conn, p=prompt, s=side: content.add_response(conn, prompt_id=p, text=s, now=0.0))
    with pytest.raises(ContentError, match=told):
        store.write(lambda conn: content.add_task(conn, now=0.0, **{"prompt_id": 1} | given))


@pytest.mark.parametrize(("text", "told"), [
    ("", "empty"), ("  ", "empty"), ([], "empty"), ([{"role": "robot", "content": "x"}], "robot"), (7, "7, not text or a list of messages"),
])
def test_a_prompt_that_cannot_be_is_refused(store, text, told):
    with pytest.raises(ContentError, match=told):
        add_prompt(store, text)


def test_names_of_labelers_are_their_own(store):
    def add(name, **more):
        return store.write(lambda conn: content.add_labeler(conn, name=name, now=0.0, **more))

    add("ann")
    for name, more, told in (("ann", {}, "already"), (" ", {}, "needs a name"), ("bob", {"role": "boss"}, "role is 'boss'")):
        with pytest.raises(ContentError, match=told):
            add(name, **more)


def test_settings_and_audit_are_kept(store):
    store.write(lambda conn: content.set_setting(conn, "guidelines", {"version": 2, "text": "be kind"}))
    store.write(lambda conn: content.set_setting(conn, "plain", "text"))
    store.write(lambda conn: content.set_setting(conn, "plain", "changed"))
    store.write(lambda conn: content.record_audit(conn, action="seen", now=5.0, subject="x", number=3))
    with store.read() as conn:
        assert content.setting(conn, "guidelines") == {"version": 2, "text": "be kind"}
        assert content.setting(conn, "plain") == "changed" and content.setting(conn, "absent", 7) == 7
        assert conn.execute(select(schema.audit.c.action, schema.audit.c.details)).one() == ("seen", {"number": 3})
    store.write(lambda conn: content.set_setting(conn, "plain", None))
    with store.read() as conn:
        assert content.setting(conn, "plain") is None


def test_a_row_that_refers_to_nothing_is_not_stored(store):
    with pytest.raises(Exception, match=r"(?i)foreign key") as error:
        store.write(lambda conn: content.add_response(conn, prompt_id=12345, text="a", now=0.0))
    assert not isinstance(error.value, StoreError)                  # a mistake of ours, not a trouble of the disk's


def test_no_task_is_made_of_a_prompt_without_consent(store):
    kept = add_prompt(store, "how sore", consent=False)
    copies = "how sore", [{"role": "user", "content": "how sore"}]
    assert [add_prompt(store, copy) for copy in copies] == [kept, kept], "a copy is the prompt, and does not make it usable"
    with pytest.raises(ContentError, match="without consent"):
        store.write(lambda conn: content.add_task(conn, kind="demonstration", prompt_id=kept, now=store.now()))


@pytest.mark.parametrize("own", ["labeler", "customer"])
def test_the_same_words_of_somebody_who_gives_them_are_a_prompt_of_their_own(store, own):
    kept = add_prompt(store, "how sore", consent=False, user="u")
    ann = store.write(lambda conn: content.add_labeler(conn, name="ann", now=store.now()))
    given = {"source": "labeler", "author_id": ann} if own == "labeler" else {"source": "customer", "user": "v"}
    made = [store.write(lambda conn: content.add_prompt(conn, content="how sore", now=store.now(), **given)) for _ in range(2)]
    assert made[0] == made[1] != kept and add_prompt(store, "how sore") == made[0]
    store.write(lambda conn: content.add_task(conn, kind="demonstration", prompt_id=made[0], now=store.now()))
    with store.read() as conn:
        row = conn.execute(select(schema.prompts).where(schema.prompts.c.id == kept)).one()
    assert (row.user, row.consent) == ("u", False)
