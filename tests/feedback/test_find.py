"""Tasks are found by what stands in them, in both databases."""

from __future__ import annotations

import pytest

from tests.feedback import few
from tutelage.feedback.content import add_prompt
from tutelage.feedback.find import find_tasks


def test_a_prompt_is_found_by_what_is_said_in_it_however_it_was_stored(store):
    # An import writes JSON as SQLAlchemy does, with escapes; add_prompt writes letters as they are.
    def make(conn):
        turns = [{"role": "user", "content": "Was ist ÄTHER?"}, {"role": "assistant", "content": "Nichts."},
                 {"role": "user", "content": "So?"}]
        raw = few.prompt(conn, "Äther und \\u00c4 sind Straßen\n", source="import")
        added = add_prompt(conn, content=[{"role": "user", "content": "Äther, bitte"}], source="import", now=few.AT)
        return [few.task(conn, prompt_id, ["Über", "ja"]) for prompt_id in (few.prompt(conn, turns, source="import"), raw, added)]
    turns, raw, added = store.write(make)

    def found(text):
        with store.read() as conn:
            return [row["id"] for row in find_tasks(conn, text=text)]
    assert set(found("Äther")) | set(found("ÄTHER")) == {added, raw, turns}
    if store.url.get_backend_name() == "sqlite":                    # PostgreSQL does as the database's locale says
        assert found("Äther") == found("äther") == found("über") == [added, raw, turns] and found("straßen\n") == [raw]
    assert found("user") == found("role") == found("content") == found('", "') == found("u00e4") == []
    assert found("nichts") == [turns] and found("\\u00c4") == [raw] and found("nichts so") == found("\0") == []


def test_an_erased_prompt_is_found_by_nothing_and_hides_no_other(store):
    def make(conn):
        gone = few.task(conn, few.prompt(conn, None, source="import"), ["left", "b"])
        return gone, few.task(conn, few.prompt(conn, "none", source="import"), ["a", "b"])
    gone, there = store.write(make)
    with store.read() as conn:
        found = [[row["id"] for row in find_tasks(conn, text=text)] for text in ("none", "left")]
    assert found == [[there], [gone]]


def test_text_is_found_in_prompts_and_answers_as_it_was_written(store):
    def make(conn):
        quoted, plain = (add_prompt(conn, content=content, source="import", now=few.AT) for content in (
            [{"role": "user", "content": 'Say "Äpfel" 100%\nplainly'}], "plain words"))
        return few.task(conn, quoted, ["a", "b"]), few.task(conn, plain, ["RARE one", "c"]), few.task(conn, None, [])
    asked, answered, bare = store.write(make)

    def found(text):
        with store.read() as conn:
            return [row["id"] for row in find_tasks(conn, text=text)]
    assert found('say "Äpfel" 100%\nplain') == [asked] and found("rare") == [answered] and found("words") == [answered]
    assert found("100_") == [] and found("") == [bare, answered, asked]
    with store.read() as conn:
        assert [row["said"] for row in find_tasks(conn)] == ["", "plain words", 'Say "Äpfel" 100%\nplainly']


@pytest.mark.parametrize("name", ["kind", "purpose", "state", "batch"])
def test_what_no_database_can_hold_is_found_nowhere(store, name):
    store.write(lambda conn: few.task(conn, None, []))
    with store.read() as conn:
        assert find_tasks(conn, **{name: "a\0b"}) == []
