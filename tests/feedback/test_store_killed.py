"""kill -9 of a process that writes, at random moments under load: every judgement it acknowledged is there, once."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time

import pytest
from sqlalchemy import select

from tests.feedback.world import comparisons, labelers
from tutelage.feedback import schema

PEOPLE = 8
# Threads claim, submit and now and then undo; a line is written only after the store said that it is on disk.
WRITER = """
import json, os, random, sys, threading
from tutelage.feedback import queue
from tutelage.feedback.store import Store
store = Store.open(sys.argv[1])
out = threading.Lock()
def say(*what):
    with out:
        os.write(1, (json.dumps(what) + "\\n").encode())
def labels(person):
    rng = random.Random()
    while True:
        claimed = store.write(lambda conn: queue.claim(conn, person, now=store.now()))
        if claimed is None:
            return
        value = {"choice": rng.randint(1, 8), "comment": "x" * rng.randint(1, 3000)}
        made = store.write(lambda conn: queue.submit(conn, assignment_id=claimed.assignment_id, labeler_id=person, value=value,
                                                     now=store.now()))
        say("judged", made, claimed.task_id, person, value["comment"])
        if rng.random() < 0.1:
            store.write(lambda conn: queue.undo_last(conn, person, now=store.now()))
            say("undone", made)
threads = [threading.Thread(target=labels, args=(person,)) for person in json.loads(sys.argv[2])]
say("ready")
[thread.start() for thread in threads]
[thread.join() for thread in threads]
say("all done")
"""


def kill_under_load(store, kills: int) -> None:
    people = labelers(store, PEOPLE)
    tasks = comparisons(store, 60, overlap=2)
    address = store.url.render_as_string(hide_password=False)
    judged: dict[int, tuple] = {}
    undone: set[int] = set()
    rng = random.Random(kills)
    for _ in range(kills):
        process = subprocess.Popen([sys.executable, "-c", WRITER, address, json.dumps(people)], stdout=subprocess.PIPE, text=True)
        assert json.loads(process.stdout.readline()) == ["ready"]
        lines = [process.stdout.readline() for _ in range(rng.randint(1, 60))]
        time.sleep(rng.uniform(0.0, 0.02))                          # some commits long
        process.send_signal(signal.SIGKILL)
        for line in [*lines, *process.stdout]:
            if not line.endswith("\n"):
                continue                                            # cut off by the kill: not acknowledged
            what, *said = json.loads(line)
            if what == "judged":
                judged[said[0]] = tuple(said[1:])
            elif what == "undone":
                undone.add(said[0])
        process.wait()
        check(store, judged, undone)
        tasks += comparisons(store, 40, start=len(tasks), overlap=2)
    assert len(judged) > 5 * kills


def check(store, judged: dict[int, tuple], undone: set[int]) -> None:
    with store.read() as conn:
        rows = {row["id"]: row for row in conn.execute(select(schema.judgements)).mappings()}
        retracted = conn.execute(select(schema.retractions.c.judgement_id)).scalars().all()
        states = conn.execute(select(schema.assignments.c.task_id, schema.assignments.c.state)).all()
        tasks = conn.execute(select(schema.tasks.c.id, schema.tasks.c.free, schema.tasks.c.overlap)).all()
        if store.url.get_backend_name() == "sqlite":
            assert conn.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
    for judgement, (task, labeler, comment) in judged.items():      # whole, as acknowledged
        row = rows[judgement]
        assert (row["task_id"], row["labeler_id"], row["value"]["comment"]) == (task, labeler, comment)
    assert undone <= set(retracted) and len(set(retracted)) == len(retracted)
    standing = [(row["task_id"], row["labeler_id"]) for row in rows.values() if row["id"] not in retracted]
    assert len(set(standing)) == len(standing)                      # none twice
    for task, free, overlap in tasks:
        assert free + sum(of == task and state in ("reserved", "submitted") for of, state in states) == overlap


def test_what_was_acknowledged_survives_three_kills(store):
    kill_under_load(store, 3)


@pytest.mark.slow
def test_what_was_acknowledged_survives_fifty_kills(store):
    kill_under_load(store, 50)
