"""The queue's promises under any order of what labelers, clocks and leads may do (Hypothesis), and from many processes at once."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test
from sqlalchemy import select

from tests.feedback.conftest import Clock, emptied
from tests.feedback.world import comparison, comparisons, labelers
from tutelage.feedback import queue, schema
from tutelage.feedback.errors import KeptError, QueueError
from tutelage.feedback.store import Store

PEOPLE = 3
HOLD = 600.0


class Studio(RuleBasedStateMachine):
    """Three labelers, of whom any may have written an answer, and a clock that jumps."""

    claims = Bundle("claims")

    def __init__(self, address: str) -> None:
        super().__init__()
        self.clock = Clock()
        self.store = Store.open(address, clock=self.clock)
        self.people = labelers(self.store, PEOPLE)
        self.tasks: dict[int, int | None] = {}                      # task -> who wrote one of its answers
        self.acknowledged: dict[int, tuple] = {}                    # judgement -> (task, labeler, step)
        self.undone: set[int] = set()

    def teardown(self) -> None:
        self.store.close()

    def now(self) -> float:
        return self.store.now()

    @rule(overlap=st.integers(1, 3), author=st.sampled_from([None, *range(PEOPLE)]), priority=st.sampled_from([0.0, 1.0]))
    def add(self, overlap, author, priority):
        author = None if author is None else self.people[author]
        task = self.store.write(lambda conn: comparison(conn, len(self.tasks), now=self.now(), overlap=overlap, priority=priority,
                                                        authors=(None, author)))
        self.tasks[task] = author

    @rule(who=st.integers(0, PEOPLE - 1), target=claims)
    def claim(self, who):
        person = self.people[who]
        claimed = self.store.write(lambda conn: queue.claim(conn, person, now=self.now(), seconds=HOLD))
        if claimed is None:                                         # then nothing was open to them: nobody is starved
            with self.store.read() as conn:
                met = set(conn.execute(select(schema.assignments.c.task_id).where(
                    schema.assignments.c.labeler_id == person, schema.assignments.c.state != "expired")).scalars())
                wanted = conn.execute(select(schema.tasks.c.id).where(schema.tasks.c.free > 0, schema.tasks.c.state == "open")).scalars()
            assert set(wanted) <= met
        return claimed, person

    @rule(claimed=claims, choice=st.integers(1, 8))
    def submit(self, claimed, choice):                              # also again, late, after an undo or a skip, and of nothing
        claimed, person = claimed
        if claimed is None:
            return
        try:
            judgement = self.store.write(lambda conn: queue.submit(
                conn, assignment_id=claimed.assignment_id, labeler_id=person, value={"choice": choice}, now=self.now()))
        except KeptError:
            with self.store.read() as conn:
                draft = conn.execute(select(schema.assignments.c.draft).where(schema.assignments.c.id == claimed.assignment_id)).scalar()
            assert draft == {"choice": choice}
            return
        if judgement not in self.acknowledged:
            self.acknowledged[judgement] = claimed.task_id, person, choice if claimed.sides[0] == 0 else 9 - choice

    @rule(claimed=claims)
    def skip(self, claimed):
        self.quietly(claimed, lambda conn, a, p: queue.skip(conn, assignment_id=a, labeler_id=p, reason="no", now=self.now()))

    @rule(claimed=claims)
    def save_draft(self, claimed):
        self.quietly(claimed, lambda conn, a, p: queue.save_draft(conn, assignment_id=a, labeler_id=p, draft={"comment": "x"},
                                                                  now=self.now()))

    @rule(claimed=consumes(claims), thief=st.integers(0, PEOPLE - 1))
    def steal(self, claimed, thief):
        if claimed[0] is not None and self.people[thief] != claimed[1]:
            with pytest.raises(QueueError, match="no such task of yours"):
                self.store.write(lambda conn: queue.submit(conn, assignment_id=claimed[0].assignment_id, labeler_id=self.people[thief],
                                                           value={"choice": 1}, now=self.now()))

    @rule(who=st.integers(0, PEOPLE - 1), target=claims)
    def undo(self, who):
        person = self.people[who]
        mine = [judgement for judgement, (_, labeler, _) in self.acknowledged.items() if labeler == person]
        try:
            claimed = self.store.write(lambda conn: queue.undo_last(conn, person, now=self.now()))
        except QueueError:
            assert not mine or max(mine) in self.undone
            return None, person
        self.undone.add(max(mine))
        return claimed, person

    @rule(who=st.integers(0, PEOPLE - 1))
    def revoke(self, who):
        self.store.write(lambda conn: queue.revoke(conn, self.people[who], now=self.now()))

    @rule(seconds=st.sampled_from([1.0, HOLD / 2, HOLD + 1, 86_400.0, -86_400.0]), seen=st.booleans())
    def pass_time(self, seconds, seen):
        self.clock.advance(seconds)
        if seen:                                                    # what ran out goes back before anyone claims
            self.store.write(lambda conn: queue.release_expired(conn, now=self.now()))

    def quietly(self, claimed, act):
        if claimed[0] is None:
            return
        try:
            self.store.write(lambda conn: act(conn, claimed[0].assignment_id, claimed[1]))
        except QueueError:
            pass

    @invariant()
    def promises_hold(self):
        tables = schema.tasks, schema.assignments, schema.judgements, schema.retractions
        with self.store.read() as conn:
            tasks, assignments, judgements, retractions = (conn.execute(select(table)).mappings().all() for table in tables)
        states = Counter((one["task_id"], one["state"]) for one in assignments)
        retracted = {one["judgement_id"] for one in retractions}
        standing = Counter((one["task_id"], one["labeler_id"]) for one in judgements if one["id"] not in retracted)
        for task in tasks:                                          # as many places as wanted, each free, held or judged
            assert task["free"] + states[task["id"], "reserved"] + states[task["id"], "submitted"] == task["overlap"]
            judged = sum(count for (of, _), count in standing.items() if of == task["id"])
            assert judged == states[task["id"], "submitted"] <= task["overlap"]
            assert (task["state"] == "done") == (judged == task["overlap"]) or task["state"] == "halted"
        assert set(standing.values()) <= {1}                        # nobody twice
        assert all(self.tasks[task] != labeler for task, labeler in standing)   # nobody their own
        found = {one["id"]: (one["task_id"], one["labeler_id"], one["value"]["step"]) for one in judgements}
        assert found == self.acknowledged and retracted == self.undone          # nothing lost, nothing changed, nothing unasked


def run(address, examples: int) -> None:
    run_state_machine_as_test(lambda: Studio(address()), settings=settings(
        max_examples=examples, stateful_step_count=30, suppress_health_check=list(HealthCheck)))


def fresh(request, tmp_path, database):
    """Gives the address of an empty store at each call."""
    if database == "postgresql":
        address = request.getfixturevalue("migrated_postgresql")
        return lambda: emptied(address)
    template = request.getfixturevalue("migrated_sqlite")

    def copy():
        for left in tmp_path.glob("studio.db*"):
            left.unlink()
        return str(shutil.copy(template, tmp_path / "studio.db"))
    return copy


def test_no_order_of_events_breaks_the_queue(request, tmp_path):
    run(fresh(request, tmp_path, "sqlite"), 15)


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_no_order_of_many_events_breaks_the_queue(request, tmp_path, database):
    run(fresh(request, tmp_path, database), 150)


WORKER = """
import json, sys
from tutelage.feedback import queue
from tutelage.feedback.store import Store
address, people = sys.argv[1], json.loads(sys.argv[2])
done = []
with Store.open(address) as store:
    print("ready", flush=True); sys.stdin.readline()
    while people:
        for person in list(people):
            claimed = store.write(lambda conn: queue.claim(conn, person, now=store.now()))
            if claimed is None:
                people.remove(person)
            else:
                done.append(store.write(lambda conn: queue.submit(conn, assignment_id=claimed.assignment_id, labeler_id=person,
                                                                  value={"choice": 1}, now=store.now())))
print(json.dumps(done))
"""


def test_many_processes_give_each_task_to_as_many_as_are_wanted(store):
    """Four processes with writers of their own, three labelers each, on one database."""
    people = labelers(store, 12)
    tasks = comparisons(store, 40, overlap=3)
    address = store.url.render_as_string(hide_password=False)
    workers = [subprocess.Popen([sys.executable, "-c", WORKER, address, json.dumps(people[n::4])], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, text=True) for n in range(4)]
    for worker in workers:
        worker.stdout.readline()
    acknowledged = [judgement for worker in workers for judgement in json.loads(worker.communicate("go\n", timeout=120)[0])]
    assert [worker.returncode for worker in workers] == [0] * 4
    with store.read() as conn:
        rows = conn.execute(select(schema.judgements.c.id, schema.judgements.c.task_id, schema.judgements.c.labeler_id)).all()
        states = conn.execute(select(schema.tasks.c.state, schema.tasks.c.free)).all()
    assert sorted(acknowledged) == sorted(row.id for row in rows)
    assert Counter(row.task_id for row in rows) == dict.fromkeys(tasks, 3) and len({row[1:] for row in rows}) == 120
    assert set(states) == {("done", 0)}
