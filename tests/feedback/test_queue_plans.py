"""No step of the queue reads a table from end to end: what SQLite and PostgreSQL say they would do."""

from __future__ import annotations

import json
import random
import shutil

import pytest

from tests.feedback.world import comparisons, labelers
from tutelage.feedback import content, draws, queue, sql
from tutelage.feedback.shares import set_shares
from tutelage.feedback.store import Store

LARGE = ("tasks", "assignments", "judgements", "prompts", "responses", "retractions", "labelers")


@pytest.fixture
def statements(store, monkeypatch):
    """Every statement of a labeler's day, with parameters, on a store large enough for indexes to pay."""
    person, other = labelers(store, 2)
    monkeypatch.setattr(draws, "SMALL", 64)
    monkeypatch.setattr(draws, "BLOCK", 16)
    comparisons(store, 200, overlap=2)
    for number, purpose in enumerate(("shared", "gold", "drift", "rollout", "adjudication")):
        comparisons(store, 2, start=1000 * (number + 1), purpose=purpose)
    comparisons(store, 1, start=9000, prompt={"warnings": ["violence"]})
    store.write(lambda conn: set_shares(conn, uniform=0.5, shared=0.2, gold=0.2, drift=0.2))
    seen: dict[str, dict] = {}

    def remembers(conn, statement, **parameters):
        seen[statement] = parameters
        return sql.run(conn, statement, **parameters)

    for module in (queue, draws):
        monkeypatch.setattr(module, "run", remembers)
    rng = random.Random(0)

    def day(conn):
        now = store.now()
        for round_ in range(60):
            claimed = queue.claim(conn, person, now=now, rng=rng)
            own = {"assignment_id": claimed.assignment_id, "labeler_id": person}
            queue.save_draft(conn, **own, draft={}, now=now)
            if round_ % 20 == 19:
                queue.skip(conn, **own, reason="", now=now)
            else:
                queue.submit(conn, **own, value={"choice": 1}, now=now)
        queue.submit(conn, **own, value={"choice": 1}, now=now) if round_ % 20 != 19 else None
        queue.claim(conn, other, now=now)
        claimed = queue.claim(conn, person, now=now)
        queue.submit(conn, assignment_id=claimed.assignment_id, labeler_id=person, value={"choice": 1}, now=now)
        queue.undo_last(conn, person, now=now)
        queue.release_expired(conn, now=now + 10_000)
        queue.set_priorities(conn, {1: 2.0})

    store.write(day)
    assert len(seen) > 25
    return seen


def scans_of_sqlite(conn, statement, parameters) -> list[str]:
    lines = [row[3] for row in sql.run(conn, f"EXPLAIN QUERY PLAN {statement}", **parameters)]
    return [line for line in lines if line.startswith("SCAN") and "CONSTANT ROW" not in line and "ix_tasks_warned" not in line]


def scans_of_postgresql(conn, statement, parameters) -> list[str]:
    plan, = sql.run(conn, f"EXPLAIN (FORMAT JSON) {statement}", **parameters).fetchone()
    todo, found = [(plan if isinstance(plan, list) else json.loads(plan))[0]["Plan"]], []
    while todo:
        node = todo.pop()
        todo += node.get("Plans", [])
        if node["Node Type"] == "Seq Scan" and node["Relation Name"] in LARGE:
            found.append(f"Seq Scan of {node['Relation Name']}")
    return found


def test_no_step_of_the_queue_reads_a_whole_table(store, statements):
    def plans(conn):
        if conn.dialect.name == "postgresql":                       # the tables are small here: ask what it does where it can choose
            conn.exec_driver_sql("SET LOCAL enable_seqscan = off")
        look = scans_of_postgresql if conn.dialect.name == "postgresql" else scans_of_sqlite
        return {statement: found for statement, parameters in statements.items() if (found := look(conn, statement, parameters))}

    assert store.write(plans) == {}


HISTORY = (                                                         # what this labeler has judged waits for a second opinion
    """INSERT INTO tasks SELECT NULL, kind, prompt_id, response_ids, 2, 1, 1.0, draw, warnings, p_select, purpose, batch, expected, state,
       extra, created_at FROM tasks CROSS JOIN (SELECT 1 FROM tasks LIMIT 8) LIMIT {history}""",
    """INSERT INTO assignments (task_id, labeler_id, state, attempt, p_select, sides, claimed_at, expires_at)
       SELECT id, 1, 'submitted', 0, 1.0, '[0, 1]', id, id FROM tasks WHERE priority = 1.0""",
    """INSERT INTO judgements (assignment_id, attempt, task_id, labeler_id, kind, value, sides, p_select, weight, created_at)
       SELECT id, 0, task_id, 1, 'comparison', '{{}}', '[0, 1]', 1.0, 1.0, id FROM assignments""",
)


def test_a_long_history_makes_no_step_longer(tmp_path, migrated_sqlite, monkeypatch):
    """Instructions of SQLite's machine for each step, for a labeler with 300 judgements and one with 3,000, in stores of as many tasks."""
    def steps(history: int) -> dict[str, int]:
        path = tmp_path / f"{history}.db"
        shutil.copy(migrated_sqlite, path)
        with Store.open(path, clock=lambda: 1e9) as store:
            person, = labelers(store, 1)
            comparisons(store, 400)
            count, used = [0], {}

            def work(conn):
                for statement in HISTORY:
                    conn.exec_driver_sql(statement.format(history=history))
                driver = conn.connection.driver_connection
                driver.set_progress_handler(lambda: count.__setitem__(0, count[0] + 1), 1)

                def counted(name, step):
                    count[0] = 0
                    result = step()
                    used[name] = count[0]
                    return result

                rng, now = random.Random(0), store.now()
                held = counted("claim", lambda: queue.claim(conn, person, now=now, rng=rng))
                own = {"assignment_id": held.assignment_id, "labeler_id": person, "now": now}
                counted("resume", lambda: queue.claim(conn, person, now=now, rng=rng))
                counted("draft", lambda: queue.save_draft(conn, **own, draft={}))
                counted("submit", lambda: queue.submit(conn, **own, value={"choice": 1}))
                counted("undo", lambda: queue.undo_last(conn, person, now=now))
                counted("skip", lambda: queue.skip(conn, **own, reason=""))
                driver.set_progress_handler(None, 0)

            store.write(work)
            return used

    short, long = steps(300), steps(3000)
    assert {name: long[name] for name in long if long[name] > 1.2 * short[name]} == {}


def test_a_postgresql_that_has_not_counted_its_tables_reads_none_from_end_to_end(new_postgresql, clock):
    with Store.open(new_postgresql(), clock=clock) as store:
        person, = labelers(store, 1)
        comparisons(store, 300, overlap=2)

        def read_whole(conn):
            claimed = queue.claim(conn, person, now=store.now())
            queue.submit(conn, assignment_id=claimed.assignment_id, labeler_id=person, value={"choice": 1}, now=store.now())
            return sql.run(conn, "SELECT relname, seq_scan FROM pg_stat_xact_user_tables WHERE seq_scan > 0").fetchall()

        whole = {name for name, _ in store.write(read_whole)}
    assert not whole & set(LARGE)


def test_a_prompt_is_added_to_many_in_as_many_steps_as_to_few(tmp_path, migrated_sqlite):
    with Store.open(shutil.copy(migrated_sqlite, tmp_path / "studio.db")) as store:
        def steps(conn) -> int:
            count, driver = [0], conn.connection.driver_connection
            driver.set_progress_handler(lambda: count.__setitem__(0, count[0] + 1), 1)
            content.add_prompt(conn, content=f"one more? {store.now()}", source="demo", now=store.now())
            driver.set_progress_handler(None, 0)
            return count[0]

        few = store.write(steps)
        comparisons(store, 1000)
        assert store.write(steps) < 1.2 * few


def test_nothing_that_is_written_to_postgresql_is_compiled_first(new_postgresql):
    # What runs for a millisecond would be compiled for fifty: with `enable_seqscan` off the planner thinks it dear.
    with Store.open(new_postgresql()) as store:
        comparisons(store, 1)
        asked = "EXPLAIN (ANALYZE, FORMAT JSON) SELECT id FROM prompts WHERE language IS NULL"
        plan = store.write(lambda conn: conn.exec_driver_sql(asked).scalar())
    assert plan[0]["Plan"]["Total Cost"] > 1e6 and "JIT" not in plan[0]
