"""Rollouts before people: asked once, and scored by a rule that is held to numbers worked out by hand."""

from __future__ import annotations

import json
import random
from itertools import product

import pytest
from sqlalchemy import select, update

from tests.feedback.few import judgement, labeler, prompt, put, task
from tests.feedback.world import labelers
from tutelage.base.records import Judgement
from tutelage.feedback import queue, schema
from tutelage.feedback.erase import erase, find
from tutelage.feedback.likelihood import labeler_reliability
from tutelage.feedback.pseudonyms import key_of_store
from tutelage.feedback.rollouts import Asked, ask, ask_again, mean_scores, scores_of, standing
from tutelage.feedback.snapshot import freeze
from tutelage.feedback.trust import trust

PROMPTS = {"one": ("a",), "two": ("a", "b"), "four": ("a", "b", "c", "d")}


def asking(store, *names: str, overlap: int = 1, batch: str = "ppo run 0") -> list[int]:
    asked = [Asked(name, PROMPTS[name], tuple((-0.5,) for _ in PROMPTS[name])) for name in names]
    return store.write(lambda conn: ask(conn, asked, batch=batch, alone="rating", overlap=overlap, now=store.now(), model="run 0",
                                        sampling={"temperature": 1.0}))


def say(store, who: int, value: dict | None = None) -> int | None:
    """Somebody judges what the queue gives them; the answer on the left is best."""
    held = store.write(lambda conn: queue.claim(conn, who, now=store.now()))
    if held is None:
        return None
    said = value or {"rating": {"rating": 6}, "comparison": {"choice": 1}, "ranking": {"ranks": [0, 1, 1, 2]}}[held.kind]
    store.write(lambda conn: queue.submit(conn, assignment_id=held.assignment_id, labeler_id=who, value=said, now=store.now()))
    return held.task_id


def stands(store, ids, overlap: int = 1):
    with store.read() as conn:
        shown = conn.execute(select(schema.tasks.c.id, schema.tasks.c.response_ids).where(schema.tasks.c.id.in_(ids)))
        return standing(conn, {row.id: [1] * len(row.response_ids) for row in shown}, overlap=overlap)


@pytest.mark.parametrize(("kind", "value", "scores"), [
    ("rating", {"rating": 7}, [1.0]), ("rating", {"rating": 4}, [0.0]), ("rating", {"rating": 2}, [-2 / 3]),
    ("label", {"label": True}, [1.0]), ("label", {"label": False}, [-1.0]),
    ("comparison", {"ranks": [1, 0], "strength": 2}, [-1.0, 1.0]), ("comparison", {"ranks": [0, 0], "tie": True}, [0.0, 0.0]),
    ("comparison", {"ranks": [0, 0], "both_bad": True}, [-1.0, -1.0]), ("comparison", {"ranks": [0, 1], "both_bad": True}, [0.0, -1.0]),
    ("ranking", {"ranks": [0, 1, 2]}, [1.0, 0.0, -1.0]),                        # beats 2 of 2; 1 of 2; none
    ("ranking", {"ranks": [0, 1, 1, 2]}, [1.0, 0.0, 0.0, -1.0]),                # the middle two win 1, tie 1 and lose 1
    ("ranking", {"ranks": [0, 0, 1], "all_bad": True}, [-0.5, -0.5, -1.0])])
def test_a_verdict_scores_as_worked_out_by_hand(kind, value, scores):
    assert scores_of(kind, value, [1] * len(scores)) == pytest.approx(scores)


def test_an_answer_sampled_several_times_counts_as_often_and_ties_with_itself():
    # Of four answers a, a, b, c in the order b > a = a > c: b beats three, each a loses to one, ties one and beats one, c loses to three.
    assert scores_of("ranking", {"ranks": [1, 0, 2]}, [2, 1, 1]) == pytest.approx([0.0, 1.0, -1.0])
    assert scores_of("comparison", {"ranks": [0, 1]}, [3, 1]) == pytest.approx([1 / 3, -1.0])


def test_of_several_people_the_weighted_mean_counts():
    said = [({"ranks": [0, 1]}, 1.0), ({"ranks": [1, 0]}, 0.5)]
    assert mean_scores("comparison", said, [1, 1]) == pytest.approx([1 / 3, -1 / 3])


@pytest.fixture
def panel(store) -> dict[str, int]:
    """Three honest people and one who says the opposite, two of them on each of 120 pairs."""
    rng = random.Random(0)

    def work(conn):
        people = {name: labeler(conn, name, screening={"state": "passed"}) for name in ("ann", "bob", "cyd", "opp")}
        for number in range(120):
            made = task(conn, prompt(conn, f"q{number}"), ["x", "y"])
            for who in rng.sample(sorted(people), 2):
                right = (rng.random() < 0.9) != (who == "opp")
                ranks = [0, 1] if right == (number % 2 == 0) else [1, 0]
                judgement(conn, made, people[who], {"ranks": ranks}, sides=rng.choice([[0, 1], [1, 0]]))
        return people
    return store.write(work)


def test_people_are_trusted_as_by_a_reward_model_that_learns_from_a_snapshot(store, panel, tmp_path):
    with store.read() as conn:
        found = trust(conn)
        rows = (freeze(conn, tmp_path).path / "judgements.jsonl").read_text().splitlines()
    snapshot = labeler_reliability([Judgement.from_json(json.loads(row)) for row in rows])
    assert found.weights == pytest.approx(snapshot.weights, abs=1e-9) and found.weights["opp"] == 0.0 and found.weights["ann"] > 0.8


def test_what_a_snapshot_leaves_out_makes_nobody_believed(store, panel, tmp_path):
    # On as many pairs again ann and opp are of one mind against bob and cyd; of none of these may a model learn.
    def work(conn):
        pairs = [task(conn, prompt(conn, f"not {n}", consent=n % 2 > 0), ["x", "y"]) for n in range(120)]
        for made, who in product(pairs, panel):
            judgement(conn, made, panel[who], {"ranks": [0, 1] if who in ("ann", "opp") else [1, 0]}, sides=[0, 1])
        answers = select(schema.tasks.c.response_ids).where(schema.tasks.c.id.in_(pairs[1::2]))
        erased = [ids[0] for ids in conn.scalars(answers)]
        conn.execute(schema.responses.update().where(schema.responses.c.id.in_(erased)).values(text=None, erased_at=1.0))
    with store.read() as conn:
        before = trust(conn)
    store.write(work)
    with store.read() as conn:
        assert trust(conn).weights == before.weights and before.weights["opp"] == 0.0
        assert freeze(conn, tmp_path).counts["left_out"] == {"erased": 240, "prompts without consent": 240}


def test_who_cannot_be_believed_weighs_little_beside_others_and_stands_where_nobody_else_judged(store, panel):
    both, alone = asking(store, "one", overlap=2) + asking(store, "one", batch="ppo run 1")
    store.write(lambda conn: [judgement(conn, made, panel[who], {"rating": rating}, "rating") for made, who, rating in (
        (both, "ann", 7), (both, "opp", 1), (alone, "opp", 1))])
    with store.read() as conn:
        weighed = standing(conn, {both: [1], alone: [1]}, overlap=1, trusted=trust(conn).weights).scores
        plain = standing(conn, {both: [1], alone: [1]}, overlap=1).scores
    assert (weighed, plain) == ({both: [1.0], alone: [-1.0]}, {both: [0.0], alone: [-1.0]})


def test_nobody_is_weighed_where_no_two_people_judged_the_same(store):
    with store.read() as conn:
        assert (trust(conn).weights, trust(conn).told) == ({}, ("nobody is weighed by reliability: no comparisons",))


def test_what_people_say_of_a_rollout_comes_back_by_task_in_the_rollout_s_order(store):
    ids, [who] = asking(store, "one", "two", "four"), labelers(store, 1)
    assert not stands(store, ids).done and stands(store, ids).tasks == 3
    for _ in ids:
        say(store, who)
    found = stands(store, ids)
    assert found.done and found.scores[ids[0]] == [pytest.approx(2 / 3)]
    with store.read() as conn:
        sides = dict(conn.execute(select(schema.assignments.c.task_id, schema.assignments.c.sides)).all())
        rows = conn.execute(select(schema.responses)).all()
    left, right = sides[ids[1]]
    assert found.scores[ids[1]][left] == 1.0 and found.scores[ids[1]][right] == -1.0
    assert {(row.model, tuple(row.logprobs), row.sampling["temperature"]) for row in rows} == {("run 0", (-0.5,), 1.0)}


def test_the_same_rollout_is_asked_once_and_another_one_under_its_name_takes_its_place(store):
    first = asking(store, "one", "two")
    assert asking(store, "one", "two") == first and asking(store, "two", "one") == first[::-1]
    assert set(asking(store, "one", "two", batch="ppo run 1")).isdisjoint(first)
    again = asking(store, "two", "four")
    assert again[0] == first[1] and again[1] not in first
    with store.read() as conn:
        assert conn.scalar(select(schema.tasks.c.state).where(schema.tasks.c.id == first[0])) == "done"


def test_a_verdict_that_was_taken_back_or_is_a_held_out_labeler_s_does_not_count_and_another_is_asked_for(store):
    ids, [aside] = asking(store, "one"), labelers(store, 1, held_out=True)
    say(store, aside)
    found = stands(store, ids)
    assert (found.done, found.short) == (False, ids)
    store.write(lambda conn: ask_again(conn, ids, overlap=1))
    [who, other] = labelers(store, 2)
    assert say(store, aside) is None and say(store, who) == ids[0] and stands(store, ids).done
    with store.read() as conn:
        row = conn.execute(select(schema.judgements).where(schema.judgements.c.labeler_id == who)).one()
    store.write(lambda conn: put(conn, "retractions", judgement_id=row.id, reason="overruled", created_at=1.0))
    store.write(lambda conn: ask_again(conn, stands(store, ids).short, overlap=1))
    assert say(store, other) == ids[0] and stands(store, ids).done


def test_as_many_people_as_wanted_are_waited_for(store):
    ids, people = asking(store, "two", overlap=2), labelers(store, 3)
    say(store, people[0])
    assert not stands(store, ids, overlap=2).done
    say(store, people[1])
    assert stands(store, ids, overlap=2).done and say(store, people[2]) is None


def test_tasks_that_wait_for_a_lead_are_told_and_what_was_erased_scores_nothing(store):
    ids = asking(store, "one", "two")
    store.write(lambda conn: conn.execute(update(schema.tasks).where(schema.tasks.c.id == ids[0]).values(state="halted")))
    assert stands(store, ids).halted == 1
    store.write(lambda conn: conn.execute(update(schema.prompts).values(user="u-1")))
    store.write(lambda conn: erase(conn, find(conn, "user", "u-1", key_of_store(conn)), now=store.now()))
    assert stands(store, ids).scores == {ids[0]: [0.0], ids[1]: [0.0, 0.0]}
