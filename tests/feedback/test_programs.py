"""What programs put in and take out, on both databases; the HTTP side is tested in tests/studio/test_api.py."""

from __future__ import annotations

import pytest

from tests.feedback.few import judgement, prompt, task
from tutelage.feedback import programs, queue
from tutelage.feedback.content import add_labeler
from tutelage.feedback.errors import ContentError
from tutelage.feedback.programs import NewItem
from tutelage.feedback.pseudonyms import key_of_store
from tutelage.feedback.schema import PURPOSES, responses
from tutelage.feedback.scores import Score, add_scores

TWO = ({"text": "Boil water."}, {"text": "No.", "sampling": {"temperature": 1.0}, "logprobs": [-0.5]})


def add(store, **fields):
    item = NewItem(**{"prompt": "Tea?", "responses": TWO, "kind": "comparison"} | fields)
    return store.write(lambda conn: programs.add_item(conn, item, 3, now=store.now()))


def out(store, after: int = 0, limit: int = 10) -> list[dict]:
    key = store.write(key_of_store)
    with store.read() as conn:
        return list(programs.judgement_rows(conn, key, after=after, limit=limit))


@pytest.fixture
def judged(store):
    """Three judgements by one person; their ids."""
    person = store.write(lambda conn: add_labeler(conn, name="ann", now=store.now(), screening={"state": "passed"}))
    made = []
    for n in range(3):
        add(store, prompt=f"Tea {n}?")
        held = store.write(lambda conn: queue.claim(conn, person, now=store.now()))
        made.append(store.write(lambda conn, held=held: queue.submit(conn, assignment_id=held.assignment_id, labeler_id=person,
                                                                     value={"choice": 1}, now=store.now())))
    return person, made


def test_a_page_whose_answers_were_erased_does_not_end_the_reading(store, judged):
    _, ids = judged
    rows = out(store)
    assert [row["id"] for row in rows] == ids
    store.write(lambda conn: conn.execute(responses.update().where(responses.c.id.in_(rows[0]["response_ids"])).values(text=None)))
    assert [row["id"] for row in out(store, limit=1)] == [ids[1]] and [row["id"] for row in out(store, after=ids[1])] == [ids[2]]


def test_what_only_measured_newcomers_is_not_given_out(store, judged):
    person, ids = judged
    for purpose in PURPOSES:
        store.write(lambda conn, purpose=purpose: judgement(conn, task(conn, prompt(conn, purpose), ["a", "b"], purpose=purpose), person,
                                                            {"ranks": [0, 1]}))
    told = [row["prompt"] for row in out(store, after=ids[-1])]
    assert sorted(told) == sorted(set(PURPOSES) - {"practice", "screening"})


def test_what_was_undone_is_among_the_retractions(store, judged):
    person, ids = judged
    store.write(lambda conn: queue.undo_last(conn, person, now=store.now()))
    with store.read() as conn:
        told = programs.retraction_rows(conn, after=0, limit=10)
        assert programs.retraction_rows(conn, after=told[-1]["id"], limit=10) == []
    assert [(row["judgement_id"], row["reason"]) for row in told] == [(ids[2], "undone")] and len(out(store)) == 2


def test_answers_wait_for_a_score_of_each_model(store):
    made = add(store)["response_ids"]
    store.write(lambda conn: add_scores(conn, "rm", [Score(made[0], 1.0)], now=store.now()))
    with store.read() as conn:
        left = {model: [row["response_id"] for row in programs.unscored(conn, model, after=0, limit=10)] for model in ("rm", "other")}
    assert left == {"rm": made[1:], "other": made}


def test_a_key_stands_for_one_item(store):
    first = add(store, key="a")
    assert add(store, key="a") == first and add(store, key="b")["task_id"] != first["task_id"]


def test_an_error_names_the_item(store):
    with pytest.raises(ContentError, match="items.3: a ranking with 10 answers"):
        add(store, kind="ranking", responses=[{"text": str(n)} for n in range(10)])


def test_an_item_is_not_given_to_people_without_consent_whoever_sends_it(store):
    with pytest.raises(ContentError, match=r"items\.3: a prompt without consent is not given"):
        add(store, consent=False)
    assert add(store, consent=False, kind=None)["task_id"] is None
    with pytest.raises(ContentError, match=r"items\.3: this prompt is kept without consent"):
        add(store)
