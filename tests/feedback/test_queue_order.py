"""What comes next, and to whom: practice, screening, shares, rollouts, kinds, what somebody does not want to see."""

from __future__ import annotations

import random
from collections import Counter

from tests.feedback.test_queue import claim, judgements, shares_of, submit
from tests.feedback.world import comparisons, labelers
from tutelage.feedback import content, queue, schema
from tutelage.feedback.draws import Person, pick
from tutelage.feedback.shares import set_shares


def test_practice_comes_before_screening_and_screening_before_work(store):
    new, = labelers(store, 1, screening={"state": "new"})
    expert, = labelers(store, 1, screening={"state": "new"}, role="expert")
    work = comparisons(store, 2)
    store.write(lambda conn: content.set_setting(conn, "screening", {"at_most": 2}))
    screening = comparisons(store, 2, start=10, purpose="screening", expected={"ranks": [0, 0]})
    practice = comparisons(store, 2, start=20, purpose="practice")

    def next_of(person):
        claimed = claim(store, person)
        return claimed and (submit(store, claimed, person), claimed.task_id)[1]

    assert [next_of(new) for _ in range(5)] == [*practice, *screening, None]        # two wrong of at most two: failed
    store.write(lambda conn: conn.execute(schema.labelers.update().values(screening={"state": "passed"})))
    assert next_of(new) in work
    assert next_of(expert) in work
    store.write(lambda conn: conn.execute(schema.labelers.update().values(screening={"state": "failed"})))
    assert next_of(new) is None


def test_without_a_screening_test_everybody_works(store):
    new, = labelers(store, 1, screening={"state": "new"})
    work = comparisons(store, 1)
    assert claim(store, new).task_id == work[0]


def test_practice_and_calibration_items_go_to_everyone(store):
    people = labelers(store, 5)
    shared = comparisons(store, 2, purpose="shared")
    given = [claim(store, person) for person in people]
    assert {one.task_id for one in given} <= set(shared)
    for one, person in zip(given, people, strict=True):
        submit(store, one, person)
        submit(store, claim(store, person), person)
        assert claim(store, person) is None
    assert len(judgements(store)) == 10


def test_shared_gold_and_drift_come_at_their_shares(store):
    person, = labelers(store, 1)
    comparisons(store, 3)
    for start, purpose in ((10, "shared"), (20, "gold"), (30, "drift")):
        comparisons(store, 3, start=start, purpose=purpose)
    store.write(lambda conn: set_shares(conn, shared=0.2, gold=0.1, drift=0.05))
    who = Person(person, "labeler", True, frozenset(), shares_of(store))
    rng = random.Random(3)
    with store.read() as conn:
        drawn = Counter(pick(conn, who, None, rng).purpose for _ in range(1000))
    for purpose, share in {"shared": 0.2, "gold": 0.1, "drift": 0.05, "work": 0.65}.items():
        assert abs(drawn[purpose] / 1000 - share) < 4 * (share * (1 - share) / 1000) ** 0.5


def test_rollouts_that_training_waits_for_come_first_and_adjudication_goes_to_experts(store):
    person, = labelers(store, 1)
    expert, = labelers(store, 1, role="expert")
    comparisons(store, 2, priority=9.0)
    rollout, = comparisons(store, 1, start=10, purpose="rollout")
    disputed, = comparisons(store, 1, start=20, purpose="adjudication")
    assert claim(store, expert).task_id == disputed
    assert claim(store, person).task_id == rollout


def test_what_a_run_waits_for_is_given_though_its_kind_has_no_weight(store):
    person, = labelers(store, 1)
    comparisons(store, 1, purpose="work")
    rollout, = comparisons(store, 1, start=10, purpose="rollout")
    store.write(lambda conn: set_shares(conn, kind_weights={"comparison": 0}))
    held = claim(store, person)
    assert held.task_id == rollout
    submit(store, held, person)
    assert claim(store, person) is None, "work of that kind only when it is asked for"


def test_kinds_come_by_their_weights_and_at_weight_zero_only_when_asked_for(store):
    person, = labelers(store, 1)
    comparisons(store, 1)

    def add(conn):
        for kind in ("label", "edit", "critique"):
            prompt = content.add_prompt(conn, content=f"{kind}?", source="demo", now=store.now())
            answer = content.add_response(conn, prompt_id=prompt, text="yes", now=store.now())
            content.add_task(conn, kind=kind, prompt_id=prompt, response_ids=[answer], now=store.now())

    store.write(add)
    store.write(lambda conn: set_shares(conn, kind_weights={"comparison": 3, "label": 1, "edit": 0, "critique": 0}))
    who, rng = Person(person, "labeler", True, frozenset(), shares_of(store)), random.Random(1)
    with store.read() as conn:
        drawn = Counter(pick(conn, who, None, rng).kind for _ in range(800))
        assert pick(conn, who, ["edit"], rng).kind == "edit"
    assert set(drawn) == {"comparison", "label"} and abs(drawn["comparison"] / 800 - 0.75) < 0.06    # 4 standard errors


def test_opted_out_content_is_not_given_nor_more_of_it_than_the_cap(store, clock):
    tender, hardy = labelers(store, 1, settings={"avoid_warnings": ["violence"]})[0], labelers(store, 1)[0]
    violent = comparisons(store, 3, prompt={"warnings": ["violence"]}, overlap=2)
    other = comparisons(store, 1, start=10, prompt={"warnings": ["self_harm", "sexual"]}, overlap=2)
    plain = comparisons(store, 4, start=20, overlap=2)
    store.write(lambda conn: set_shares(conn, warned_a_day=2, uniform=0.5))

    def day(person):
        given = []
        while claimed := claim(store, person):
            submit(store, claimed, person)
            given.append(claimed.task_id)
        return given

    assert sorted(day(tender)) == sorted(other + plain)
    given = day(hardy)
    assert len(set(given) & set(violent + other)) == 2 and set(plain) <= set(given)
    clock.advance(86_401)
    assert len(day(hardy)) == 2                                     # the other two, a day later


def test_new_priorities_change_what_comes_next(store):
    person, = labelers(store, 1)
    store.write(lambda conn: set_shares(conn, uniform=0.0))
    tasks = comparisons(store, 5)
    assert store.write(lambda conn: queue.set_priorities(conn, {tasks[3]: 2.0, tasks[1]: 1.0, 999: 3.0})) == 2
    given = []
    while claimed := claim(store, person):
        submit(store, claimed, person)
        given.append(claimed.task_id)
    assert given == [tasks[3], tasks[1], tasks[0], tasks[2], tasks[4]]
