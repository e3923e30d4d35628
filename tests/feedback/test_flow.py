"""Throughput, yield, queue, pay and cost, counted by hand; what finished trainings say, from their own files."""

from __future__ import annotations

import json

import pytest

from tests.feedback import few
from tutelage.feedback import flow, learning
from tutelage.feedback.errors import ContentError

DAY = 86400
MONDAY = 1_699_833_600.0                                              # 2023-11-13 00:00 UTC
A = {"ranks": [0, 1]}


@pytest.fixture
def worked(store):
    """Two people, three comparisons over two days, one taken back, one imported; amara gets 12 an hour."""
    def work(conn):
        people = {"amara": few.labeler(conn, "amara", pay_per_hour=12.0), "bo": few.labeler(conn, "bo", group="b")}
        tasks = [few.task(conn, few.prompt(conn, f"q{i}"), ["a", "b"], state="done") for i in range(3)]
        for number, (task, name, at, seconds) in enumerate(((0, "amara", 0, 600.0), (0, "bo", 1, 300.0), (1, "amara", 2 * DAY, 5400.0),
                                                             (2, "bo", 2 * DAY + 5, None))):
            held = few.put(conn, "assignments", task_id=tasks[task], labeler_id=people[name], state="submitted", claimed_at=MONDAY + at,
                           expires_at=MONDAY + at)
            judgement = few.judgement(conn, tasks[task], people[name], A, assignment_id=held, seconds=seconds, created_at=MONDAY + at)
            if number == 1:
                few.put(conn, "retractions", judgement_id=judgement, reason="undone", created_at=MONDAY)
        few.judgement(conn, tasks[2], people["amara"], A, seconds=99.0, created_at=MONDAY)
        return people | {"tasks": tasks}
    return store.write(work)


def test_days_without_work_are_days_and_imports_are_none(store, worked):
    with store.read() as conn:
        done = flow.work_done(conn)
    monday = int(MONDAY) // DAY
    assert flow.throughput(done) == [(monday, {"comparison": 1}), (monday + 1, {}), (monday + 2, {"comparison": 2})]
    assert flow.throughput([]) == []


def test_the_last_moment_of_a_day_is_of_that_day(store, worked):
    def work(conn):
        held = few.put(conn, "assignments", task_id=worked["tasks"][1], labeler_id=worked["bo"], claimed_at=0.0, expires_at=1.0)
        few.judgement(conn, worked["tasks"][1], worked["bo"], A, assignment_id=held, created_at=MONDAY + DAY - 0.25)
    store.write(work)
    with store.read() as conn:
        assert flow.throughput(flow.work_done(conn))[0] == (int(MONDAY) // DAY, {"comparison": 2})


def test_pay_counts_all_time_up_to_the_cap_and_is_unknown_without_a_rate(store, worked):
    with store.read() as conn:
        amara, bo = flow.pay(flow.work_done(conn), flow.rates(conn))
    # 600 s, and half an hour of an hour and a half; 300 s that were taken back took bo's time all the same.
    assert (amara.month, amara.labeler, amara.given, amara.hours, amara.hours_over) == ("2023-11", "amara", 2, pytest.approx(2 / 3), 1.0)
    assert amara.pay == pytest.approx(8.0) and (bo.given, bo.hours, bo.pay) == (2, pytest.approx(1 / 12), None)


def test_a_rise_is_paid_from_its_day_on_and_what_was_done_before_keeps_its_rate(store, worked):
    for rate, at in ((12.0, MONDAY + 9), (30.0, MONDAY + DAY)):
        store.write(lambda conn, rate=rate, at=at: flow.set_rate(conn, worked["amara"], rate, by_id=worked["bo"], now=at))
    with store.read() as conn:
        done, people = flow.work_done(conn), flow.rates(conn)
    rows = [(row.hours, row.pay_per_hour, row.pay) for row in flow.pay(done, people) if row.labeler == "amara"]
    # 600 s on Monday at 12; half an hour on Wednesday at 30.
    assert rows == [(pytest.approx(1 / 6), 12.0, pytest.approx(2.0)), (0.5, 30.0, pytest.approx(15.0))]
    with store.read() as conn:
        assert flow.costs(conn, done, people)[0].cost == pytest.approx(17.0)


def test_an_item_costs_the_pay_by_the_items_with_a_judgement_that_counts_when_all_pay_is_known(store, worked):
    with store.read() as conn:
        [cost] = flow.costs(conn, flow.work_done(conn), flow.rates(conn))
    assert (cost.items, cost.judgements, cost.unpaid, cost.cost) == (3, 3, pytest.approx(1 / 12), pytest.approx(8.0))
    assert cost.per_item is None, "amara's pay by her items and bo's would be too little"
    store.write(lambda conn: flow.set_rate(conn, worked["bo"], 6.0, by_id=worked["bo"], now=MONDAY))
    with store.read() as conn:
        assert flow.costs(conn, flow.work_done(conn), flow.rates(conn))[0].per_item == pytest.approx((8.0 + 0.5) / 3)
    store.write(lambda conn: flow.set_rate(conn, worked["amara"], None, by_id=worked["bo"], now=MONDAY))
    with store.read() as conn:
        assert flow.costs(conn, flow.work_done(conn), flow.rates(conn))[0].per_item is None


def test_a_rate_is_a_number_of_somebody_there(store, worked):
    for labeler, rate in ((worked["bo"], -1.0), (worked["bo"], float("nan")), (999, 3.0)):
        with pytest.raises(ContentError):
            store.write(lambda conn, labeler=labeler, rate=rate: flow.set_rate(conn, labeler, rate, by_id=worked["bo"], now=0.0))


def test_yield_is_of_what_has_ended(store, worked):
    states = ("skipped", "expired", "reserved", "barred")
    def work(conn):
        for i, state in enumerate(states):
            someone = few.labeler(conn, f"s{i}")
            few.put(conn, "assignments", task_id=worked["tasks"][0], labeler_id=someone, state=state, claimed_at=0.0, expires_at=1.0)
    store.write(work)
    with store.read() as conn:
        [found] = flow.yields(conn)
    assert (found.claimed, found.label_yield.value, found.label_yield.n) == (7, pytest.approx(4 / 6), 6)
    assert found.outcomes == {"submitted": 4, "skipped": 1, "expired": 1, "revoked": 0, "reserved": 1}


def test_the_queue_tells_who_waits_for_a_second_and_what_runs_out(store, worked):
    def work(conn):
        made = [few.task(conn, few.prompt(conn, f"w{i}"), ["a", "b"], state=state, free=free, created_at=few.AT - i)
                for i, (state, free) in enumerate((("open", 2), ("open", 1), ("open", 0), ("halted", 2)))]
        few.task(conn, few.prompt(conn, "gold"), ["a", "b"], state="open", free=2, purpose="gold")
        for task, name, until in ((made[1], "amara", 599.0), (made[2], "bo", 601.0)):
            few.put(conn, "assignments", task_id=task, labeler_id=worked[name], state="reserved", claimed_at=few.AT,
                    expires_at=few.AT + until)
    store.write(work)
    with store.read() as conn:
        gold, work_ = flow.waiting(conn, now=few.AT)
    assert work_ == ("work", "comparison", 3, 1, 1, 2, 1, 1, few.AT - 2)
    assert gold[:5] == ("gold", "comparison", 1, None, None)


def test_trainings_tell_accuracy_by_labels_and_for_whom(store, tmp_path):
    rate = {"mean": 0.7, "low": 0.6, "high": 0.8, "n": 50}
    report = {"people": {"all": rate, "training_labelers": rate | {"mean": 0.72}, "held_out_labelers": {"mean": None, "n": 0}, "gap": None,
                         "groups": {"b": rate}, "labelers": {"cy": rate | {"n": 9}, "bo": rate | {"n": 10}}, "kinds": {}},
              "labels_worth": {"curve": [{"judgements": 30, "accuracy": rate}]}}
    (tmp_path / "reward.json").write_text(json.dumps(report))

    def work(conn, number, result):
        snapshot = few.put(conn, "snapshots", hash=str(number), path="x", selection={}, counts={"judgements": number}, created_at=0.0)
        few.put(conn, "trainings", snapshot_id=snapshot, run_dir=str(tmp_path), state="done", result=result, created_at=0.0, ended_at=9.0)
    store.write(lambda conn: work(conn, 40, {"pairs": {"accuracy": rate | {"mean": 0.5}}}))
    with store.read() as conn:
        assert learning.newest(conn) == "training 1 left no report, or it is gone"
    store.write(lambda conn: work(conn, 80, {"labels": {}, "report": str(tmp_path / "reward.json")}))
    with store.read() as conn:
        first, second = learning.trained(conn)
        newest = learning.newest(conn)
    assert (first.judgements, first.accuracy.why, second.judgements, second.accuracy) == (
        40, "no report, or nothing held out to count", 80, newest.who["all", ""]), "the number that the training's own page tells"
    assert newest.who["training", ""].value == 0.72 and newest.who["held_out", ""].value is None and newest.who["group", "b"].high == 0.8
    assert newest.who["labeler", "bo"].value == 0.7 and newest.who["labeler", "cy"].value is None, "of nine prompts nothing is said"
    assert list(newest.who)[-2:] == [("labeler", "bo"), ("labeler", "cy")]
    assert [(count, accuracy.low) for count, accuracy in newest.curve] == [(30, 0.6)]


def test_no_training_says_so(store):
    with store.read() as conn:
        assert learning.newest(conn) == "no training is done" and learning.trained(conn) == []
