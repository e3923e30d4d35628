"""Where people contradict each other an expert judges, and a lead says what that overrules."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from tests.feedback import few
from tutelage.feedback import adjudication, queue, schema
from tutelage.feedback.errors import ContentError, QueueError

LEFT, RIGHT, TIE = {"ranks": [0, 1], "strength": 4}, {"ranks": [1, 0], "strength": 2}, {"ranks": [0, 0], "tie": True}


@pytest.mark.parametrize(("kind", "one", "other", "strength"), [
    ("comparison", LEFT, RIGHT, 0.75), ("comparison", LEFT, LEFT, 0.0), ("comparison", LEFT, TIE, 0.0),
    ("comparison", {"ranks": [0, 1]}, {"ranks": [1, 0]}, 0.5), ("label", {"label": True}, {"label": False}, 1.0),
    ("label", {"label": True}, {"label": True}, 0.0), ("rating", {"rating": 1}, {"rating": 7}, 1.0),
    ("rating", {"rating": 4}, {"rating": 7}, 0.0),
    ("rating", {"rating": 5}, {"rating": 7}, 0.0), ("ranking", {"ranks": [0, 1, 2]}, {"ranks": [2, 1, 0]}, 1.0),
    ("ranking", {"ranks": [0, 1, 2]}, {"ranks": [1, 0, 2]}, 0.0), ("ranking", {"ranks": [0, 1, 2]}, {"ranks": [1, 2, 0]}, 2 / 3),
    ("critique", {"critique": "a"}, {"critique": "b"}, 0.0)])
def test_what_contradicts_what(kind, one, other, strength):
    assert adjudication.contradiction(kind, one, other) == adjudication.contradiction(kind, other, one) == pytest.approx(strength)


@pytest.fixture
def world(store):
    """Three tasks: one that people contradict each other on, one strongly, one not; an expert who judged none of them, and a lead."""
    def make(conn):
        passed = {"screening": {"state": "passed"}}
        people = {name: few.labeler(conn, name, role=role, **passed) for name, role in (
            ("amara", "labeler"), ("bo", "labeler"), ("eve", "expert"), ("lea", "lead"))}
        prompt = few.prompt(conn)
        weak, strong, none = (few.task(conn, prompt, [f"a{i}", f"b{i}"]) for i in range(3))
        barely = {"ranks": [0, 1], "strength": 1}, {"ranks": [1, 0], "strength": 1}
        for task, values in ((weak, barely), (strong, (LEFT, RIGHT)), (none, (LEFT, TIE))):
            for name, value in zip(("amara", "bo"), values, strict=True):
                people[f"{name} {task}"] = few.judgement(conn, task, people[name], value)
        return people | {"weak": weak, "strong": strong, "none": none}
    return store.write(make)


def judged(store, world, choice_for_first: int) -> int:
    """The strong one is sent and judged by the expert. Returns the item."""
    (item,) = store.write(lambda conn: adjudication.send(conn, [world["strong"]], by_id=world["lea"], now=1.0))

    def work(conn):
        claim = queue.claim(conn, world["eve"], now=store.now())
        assert claim.task_id == item
        choice = choice_for_first if claim.sides[0] == 0 else 9 - choice_for_first
        queue.submit(conn, assignment_id=claim.assignment_id, labeler_id=world["eve"], value={"choice": choice}, now=store.now())
    store.write(work)
    return item


def test_disputes_are_listed_strongest_first_until_an_expert_was_asked(store, world):
    with store.read() as conn:
        found = [(one.task_id, one.strength, one.people) for one in adjudication.disputes(conn).listed]
    assert found == [(world["strong"], 0.75, 2), (world["weak"], 0.25, 2)]
    (item,) = store.write(lambda conn: adjudication.send(conn, [world["strong"]], by_id=world["lea"], now=1.0))
    with store.read() as conn:
        assert [one.task_id for one in adjudication.disputes(conn).listed] == [world["weak"]] and adjudication.waiting(conn) == [item]
    with pytest.raises(ContentError, match="has an item for adjudication already"):
        store.write(lambda conn: adjudication.send(conn, [world["strong"]], by_id=world["lea"], now=1.0))


def test_what_was_taken_back_contradicts_nobody(store, world):
    store.write(lambda conn: few.put(conn, "retractions", judgement_id=world[f"bo {world['strong']}"], reason="undone", created_at=1.0))
    with store.read() as conn:
        assert [one.task_id for one in adjudication.disputes(conn).listed] == [world["weak"]]


def test_nothing_is_overruled_until_a_lead_says_so_and_then_it_says_by_what(store, world):
    item = judged(store, world, 8)
    against = world[f"amara {world['strong']}"]
    with store.read() as conn:
        (found,) = adjudication.adjudicated(conn)
        assert conn.execute(select(schema.retractions)).first() is None and adjudication.waiting(conn) == []
    assert (found.item_id, found.task_id, [row["id"] for row in found.against], found.settled) == (item, world["strong"], [against], None)
    assert store.write(lambda conn: adjudication.settle(conn, item, overrule=True, by_id=world["lea"], now=2.0)) == 1
    with store.read() as conn:
        row = conn.execute(select(schema.retractions)).one()
        assert (row.judgement_id, row.by_id, row.reason) == (against, world["lea"], f"overruled by item {item}")
        told = conn.execute(select(schema.audit.c.action, schema.audit.c.details).order_by(schema.audit.c.id.desc())).first()
        assert told == ("overrule", {"item": item, "judgements": [against]})
    with pytest.raises(ContentError, match="settled before: overruled"):
        store.write(lambda conn: adjudication.settle(conn, item, overrule=False, by_id=world["lea"], now=2.0))


def test_overruling_can_be_taken_back_and_other_retractions_stay(store, world):
    item = judged(store, world, 8)
    store.write(lambda conn: few.put(conn, "retractions", judgement_id=world[f"bo {world['weak']}"], reason="undone", created_at=1.0))
    store.write(lambda conn: adjudication.settle(conn, item, overrule=True, by_id=world["lea"], now=2.0))
    assert store.write(lambda conn: adjudication.unsettle(conn, item, by_id=world["lea"], now=3.0)) == 1
    with store.read() as conn:
        assert list(conn.scalars(select(schema.retractions.c.reason))) == ["undone"]
        assert adjudication.outcome_of(conn, item).settled is None
    with pytest.raises(ContentError, match="is not settled"):
        store.write(lambda conn: adjudication.unsettle(conn, item, by_id=world["lea"], now=3.0))


def test_what_a_settlement_rests_on_is_not_undone_until_that_was_taken_back(store, world):
    item = judged(store, world, 8)

    def undo():
        return store.write(lambda conn: queue.undo_last(conn, world["eve"], now=store.now()))

    for overrule in (True, False):
        store.write(lambda conn, overrule=overrule: adjudication.settle(conn, item, overrule=overrule, by_id=world["lea"], now=2.0))
        with pytest.raises(QueueError, match="a lead settled by this judgement"):
            undo()
        store.write(lambda conn: adjudication.unsettle(conn, item, by_id=world["lea"], now=3.0))
    assert undo().task_id == item
    with store.read() as conn:
        assert list(conn.scalars(select(schema.retractions.c.reason))) == ["undone"], "what was overruled counts again"


def test_all_can_stand(store, world):
    item = judged(store, world, 8)
    assert store.write(lambda conn: adjudication.settle(conn, item, overrule=False, by_id=world["lea"], now=2.0)) == 0
    with store.read() as conn:
        assert conn.execute(select(schema.retractions)).first() is None and adjudication.outcome_of(conn, item).settled == "kept"


def test_what_nobody_judged_cannot_be_settled(store, world):
    (item,) = store.write(lambda conn: adjudication.send(conn, [world["weak"]], by_id=world["lea"], now=1.0))
    for number in (item, world["strong"], 999):
        with pytest.raises(ContentError, match="nobody has judged"):
            store.write(lambda conn, n=number: adjudication.settle(conn, n, overrule=True, by_id=world["lea"], now=2.0))


def test_old_disputes_are_found_behind_thousands_of_newer_judgements_and_the_end_of_the_look_is_told(store, world, monkeypatch):
    def fill(conn):
        newer = few.task(conn, few.prompt(conn, "newer"), ["a", "b"])
        people = [few.labeler(conn, f"p{number}") for number in range(3)]
        conn.execute(schema.judgements.insert(), [{"task_id": newer, "labeler_id": people[number % 3], "kind": "comparison", "value": LEFT,
                                                   "created_at": few.AT} for number in range(6_000)])
    store.write(fill)
    with store.read() as conn:
        found = adjudication.disputes(conn, limit=1)
    assert ([one.task_id for one in found.listed], found.found, found.all) == ([world["strong"]], 2, True)
    monkeypatch.setattr(adjudication, "RECENT", 6_001)
    with store.read() as conn:
        assert adjudication.disputes(conn) == ([], 0, False)


def test_who_contradicts_only_themselves_is_no_dispute(store, world):
    for value in (LEFT, RIGHT):
        store.write(lambda conn, value=value: few.judgement(conn, world["none"], world["amara"], value))
    with store.read() as conn:
        assert world["none"] not in [one.task_id for one in adjudication.disputes(conn).listed]


def test_what_is_to_be_settled_is_not_hidden_by_newer_items_that_are(store, world):
    old = judged(store, world, 8)

    def settled(conn):
        for number in range(3):
            made = few.task(conn, few.prompt(conn, f"newer {number}"), ["a", "b"], purpose="adjudication",
                            extra={"disputed": world["weak"], "settled": "kept"})
            few.judgement(conn, made, world["eve"], LEFT)
    store.write(settled)
    with store.read() as conn:
        assert [(one.item_id, one.settled) for one in adjudication.adjudicated(conn, limit=1)] == [(old, None)]
