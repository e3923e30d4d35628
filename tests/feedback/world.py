"""Small stores to test on."""

from __future__ import annotations

from sqlalchemy import Connection

from tutelage.feedback import content
from tutelage.feedback.store import Store


def labelers(store: Store, number: int, **given) -> list[int]:
    """So many labelers, past their screening unless told otherwise."""
    given = {"screening": {"state": "passed"}} | given
    start = store.write(lambda conn: conn.exec_driver_sql("SELECT count(*) FROM labelers").scalar())
    return [store.write(lambda conn, n=n: content.add_labeler(conn, name=f"labeler {n}", now=store.now(), **given))
            for n in range(start, start + number)]


def comparison(conn: Connection, number: int, *, now: float, prompt: dict | None = None, authors=(None, None), **task) -> int:
    """A prompt with two answers, to be compared."""
    prompt_id = content.add_prompt(conn, content=f"question {number}", source="demo", now=now, **(prompt or {}))
    answers = [content.add_response(conn, prompt_id=prompt_id, text=f"answer {number}{side}", model="m", now=now, author_id=author)
               for side, author in zip("ab", authors, strict=True)]
    return content.add_task(conn, kind="comparison", prompt_id=prompt_id, response_ids=answers, now=now, **task)


def comparisons(store: Store, number: int, start: int = 0, **task) -> list[int]:
    return store.write(lambda conn: [comparison(conn, n, now=store.now(), **task) for n in range(start, start + number)])
