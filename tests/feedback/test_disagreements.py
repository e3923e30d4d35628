"""The list of a reward model's strongest disagreements with people, as it is read back."""

from __future__ import annotations

import json

import pytest

from tests.feedback import few
from tutelage.base.snapshot import DISAGREEMENTS
from tutelage.feedback.disagreements import Disagreement, disagreements
from tutelage.feedback.triage import triage


def line(task, p, judgement=1):
    return json.dumps({"p": p, "side": "train", "task": task, "kind": "comparison", "prompt": "?", "responses": ["a", "b"],
                       "scores": [1.0, -1.0], "said": [{"p": p, "labeler": "amara", "judgement": judgement, "ranks": [0, 1]}]}) + "\n"


@pytest.fixture
def world(store, tmp_path):
    """Three judged tasks, and two trainings that are done."""
    def make(conn):
        amara, prompt = few.labeler(conn, "amara"), few.prompt(conn)
        found = [few.task(conn, prompt, [f"a{i}", f"b{i}"]) for i in range(3)]
        for task in found:
            few.judgement(conn, task, amara, {"ranks": [0, 1]})
        frozen = few.put(conn, "snapshots", hash="h", path="p", selection={}, counts={}, created_at=few.AT)
        for number, state in ((1, "done"), (2, "done"), (3, "failed"), (4, "running")):
            few.put(conn, "trainings", snapshot_id=frozen, run_dir=str(tmp_path / f"reward-{number}"), state=state, created_at=few.AT)
        return {"tasks": found, "amara": amara}
    return store.write(make)


def wrote(tmp_path, number, text):
    (tmp_path / f"reward-{number}" / "report").mkdir(parents=True)
    (tmp_path / f"reward-{number}" / DISAGREEMENTS).write_text(text, encoding="utf-8")


def test_the_newest_training_that_is_done_is_read_worst_first_without_what_was_triaged(store, world, tmp_path):
    first, second, third = world["tasks"]
    wrote(tmp_path, 1, line(first, 0.99))
    wrote(tmp_path, 2, line(second, 0.98, 7) + line(third, 0.95) + line(first, 0.91))
    store.write(lambda conn: triage(conn, task_id=third, verdict="guideline_gap", by_id=world["amara"], now=1.0))
    with store.read() as conn:
        found = disagreements(conn)
    assert found.training_id == 2 and found.triaged == 1
    assert [row.task_id for row in found.left] == [second, first]
    assert found.left[0] == Disagreement(second, 0.98, "train", (1.0, -1.0), {7: 0.98})


def test_a_list_that_is_gone_or_damaged_or_of_another_store_gives_what_can_be_read(store, world, tmp_path):
    with store.read() as conn:
        assert disagreements(conn).left == []
    rows = [line(999, 0.99), "{\n", "[1]\n", '{"task": "x", "p": 1, "side": "train", "scores": [], "said": []}\n',
            '{"task": null, "p": 0.99, "side": "train", "scores": [], "said": []}\n', line(world["tasks"][0], 0.93)]
    wrote(tmp_path, 2, "".join(rows))
    with store.read() as conn:
        assert [row.task_id for row in disagreements(conn).left] == [world["tasks"][0]]


def test_a_list_longer_than_a_statement_may_name_is_read(store, world, tmp_path):
    wrote(tmp_path, 2, "".join(line(number, 0.9) for number in range(1, 70_000)))        # PostgreSQL takes 65,535 parameters
    with store.read() as conn:
        assert len(disagreements(conn).left) == 3


def test_before_the_first_training_there_is_no_list(store):
    with store.read() as conn:
        found = disagreements(conn)
    assert (found.training_id, list(found.left), found.triaged) == (None, [], 0)
