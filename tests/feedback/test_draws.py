"""Which task comes next: the probability that is stored is the one it was drawn with, and estimates through it are unbiased."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from tests.feedback.world import comparisons, labelers
from tutelage.feedback import content, draws, queue, schema
from tutelage.feedback.draws import Person, pick
from tutelage.feedback.shares import Shares, set_shares, shares

ONLY_WORK = Shares(shared=0, gold=0, drift=0)


def person(number: int, **shares) -> Person:
    return Person(number, "labeler", True, frozenset(), Shares(shared=0, gold=0, drift=0, **shares))


def had(store, labeler, tasks):
    """The labeler has judged these."""
    store.write(lambda conn: [conn.execute(schema.assignments.insert().values(
        task_id=task, labeler_id=labeler, state="submitted", claimed_at=0.0, expires_at=0.0)) for task in tasks])


@pytest.mark.parametrize("uniform", [0.0, 0.2, 1.0])
def test_tasks_come_as_often_as_is_stored(store, uniform):
    labeler, = labelers(store, 1)
    tasks = [comparisons(store, 1, start=number, overlap=2, priority=float(number % 5))[0] for number in range(12)]
    had(store, labeler, tasks[4:6])                                 # the first of those with the highest priority is among them
    rng, trials = random.Random(0), 600
    with store.read() as conn:
        drawn = [pick(conn, person(labeler, uniform=uniform), None, rng) for _ in range(trials)]
    stored = {one.task_id: one.p_select for one in drawn}
    expected = {task: uniform / 10 + (1 - uniform) * (task == tasks[9]) for task in tasks if task not in tasks[4:6]}
    assert all(abs(stored[task] - expected[task]) < 1e-12 for task in stored)
    counts = Counter(one.task_id for one in drawn)
    for task, p in expected.items():
        assert abs(counts[task] / trials - p) <= 4.5 * (p * (1 - p) / trials) ** 0.5, task


def test_a_large_pool_is_drawn_from_without_being_listed_and_with_its_true_probability(store, monkeypatch):
    monkeypatch.setattr(draws, "SMALL", 64)
    monkeypatch.setattr(draws, "BLOCK", 16)
    labeler, = labelers(store, 1)
    tasks = comparisons(store, 400)
    value = {task: 1.0 + (number % 7) for number, task in enumerate(tasks)}
    rng, trials = random.Random(1), 1500
    drawn = store.write(lambda conn: [pick(conn, person(labeler, uniform=0.5), None, rng) for _ in range(trials)])
    # Inverse probabilities of single draws sum to the whole pool: E[y / p] = sum of y.
    estimates = [value[one.task_id] / one.p_select for one in drawn]
    mean = sum(estimates) / trials
    error = (sum((x - mean) ** 2 for x in estimates) / trials / trials) ** 0.5
    assert abs(mean - sum(value.values())) < 4 * error < 0.2 * sum(value.values())
    lots = [one for one in drawn if one.task_id != tasks[0]]
    assert len({one.task_id for one in lots}) > 300 and abs(len(lots) / trials - 0.5) < 0.06


class Forced(random.Random):
    """Draws by lot or by priority; of the blocks this one, of its tasks this one."""

    def __init__(self, by_lot: bool, block: int = 0, task: int = 0) -> None:
        super().__init__(0)
        self.coins, self.block, self.task, self.blocks, self.tasks = [0.99, 0.5, 0.0 if by_lot else 0.99], block, task, 0, 0

    def random(self) -> float:
        return self.coins.pop(0)                                     # of the shared items, of the kinds, of the lot

    def randrange(self, blocks: int) -> int:
        self.blocks = blocks
        return self.block

    def choice(self, tasks: list) -> object:
        self.tasks = len(tasks)
        return tasks[self.task]


def test_who_has_had_most_of_a_large_pool_draws_each_of_the_rest_with_the_stored_probability(store, monkeypatch):
    monkeypatch.setattr(draws, "SMALL", 64)
    monkeypatch.setattr(draws, "BLOCK", 16)
    labeler, = labelers(store, 1)
    tasks, uniform = comparisons(store, 300, overlap=2), 0.2
    had(store, labeler, [task for number, task in enumerate(tasks) if number % 5])
    true, stored = Counter(), {}

    def every_draw(conn):
        def drawn(p: float, rng: Forced) -> Forced:
            one = pick(conn, person(labeler, uniform=uniform), None, rng)
            true[one.task_id] += p
            stored[one.task_id] = one.p_select
            return rng

        drawn(1 - uniform, Forced(False))
        blocks = drawn(0, Forced(True)).blocks
        for block in range(blocks):
            number = drawn(0, Forced(True, block)).tasks
            for task in range(number):
                drawn(uniform / blocks / number, Forced(True, block, task))

    store.write(every_draw)
    assert set(true) == set(tasks[::5]) and sum(true.values()) == pytest.approx(1)
    assert stored == pytest.approx(dict(true))


def test_estimates_stay_unbiased_while_the_queue_empties(tmp_path, migrated_sqlite):
    """The pool's mean, from judgements that took the best first: plainly wrong by their mean, right through the stored probabilities.

    At each draw, what was judged before plus y / p of this draw is an unbiased estimate of the pool's sum (Farquhar et al. 2021,
    arXiv:2101.11665, R_PURE); so is the mean of these over the draws.
    """
    import shutil

    from tutelage.feedback.store import Store

    with Store.open(shutil.copy(migrated_sqlite, tmp_path / "studio.db"), clock=lambda: 1e9) as store:
        labeler, = labelers(store, 1)
        tasks = [comparisons(store, 1, start=number, priority=float(number))[0] for number in range(8)]
        value = {task: float(number**2) for number, task in enumerate(tasks)}
        store.write(lambda conn: set_shares(conn, uniform=0.5, shared=0, gold=0, drift=0))
        rng = random.Random(2)

        def one_pass(conn):
            """Judge five of the eight, then forget it. Returns (plain mean, unbiased estimate)."""
            judged, estimates = [], []
            conn.exec_driver_sql("SAVEPOINT one_pass")
            for _ in range(5):
                claimed = queue.claim(conn, labeler, now=1e9, rng=rng)
                p, = conn.exec_driver_sql("SELECT p_select FROM assignments WHERE id = ?", (claimed.assignment_id,)).one()
                queue.submit(conn, assignment_id=claimed.assignment_id, labeler_id=labeler, value={"choice": 1}, now=1e9)
                estimates.append(sum(judged) + value[claimed.task_id] / p)
                judged.append(value[claimed.task_id])
            conn.exec_driver_sql("ROLLBACK TO SAVEPOINT one_pass")
            return sum(judged) / 5, sum(estimates) / 5 / len(tasks)

        passes = store.write(lambda conn: [one_pass(conn) for _ in range(400)])
    truth = sum(value.values()) / len(value)
    plain, unbiased = (sum(column) / len(passes) for column in zip(*passes, strict=True))
    error = (sum((estimate - unbiased) ** 2 for _, estimate in passes) / len(passes) ** 2) ** 0.5
    assert abs(unbiased - truth) < 4 * error < 0.25 * truth
    assert plain > 1.3 * truth


def test_a_kind_that_is_left_out_waits_and_one_of_weight_zero_comes_no_more_for_it(store):
    labeler, = labelers(store, 1)
    comparisons(store, 1)

    def add(conn):
        for purpose in ("work", "shared", "gold"):
            content.add_task(conn, kind="conversation", purpose=purpose, now=store.now())
        prompt = content.add_prompt(conn, content="label?", source="demo", now=store.now())
        answer = content.add_response(conn, prompt_id=prompt, text="yes", now=store.now())
        content.add_task(conn, kind="label", prompt_id=prompt, response_ids=[answer], now=store.now())

    store.write(add)
    store.write(lambda conn: set_shares(conn, kind_weights={"label": 0}, shared=0.4, gold=0.4))
    rng = random.Random(1)
    with store.read() as conn:
        who = Person(labeler, "labeler", True, frozenset(), shares(conn))
        assert {pick(conn, who, None, rng, ("conversation",)).kind for _ in range(100)} == {"comparison"}
    held, given = (store.write(lambda conn, only=only: queue.claim(conn, labeler, now=store.now(), **only))
                   for only in ({"kinds": ["conversation"]}, {"without": ["conversation"]}))
    assert (held.kind, given.kind) == ("conversation", "comparison"), "what is held already waits too"
    with store.read() as conn:
        assert queue.resume(conn, labeler, without=["conversation"]) == given
