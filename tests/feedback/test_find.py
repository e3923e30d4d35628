"""Tasks are found by what stands in them, in both databases."""

from __future__ import annotations

from tests.feedback import few
from tutelage.feedback.content import add_prompt
from tutelage.feedback.find import find_tasks


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
