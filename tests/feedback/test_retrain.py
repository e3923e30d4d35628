"""Retraining from a store: one at a time, in a process of its own, whose end is noticed however it came."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import select

from tests.feedback import few
from tutelage.cli.main import main
from tutelage.feedback import retrain, schema
from tutelage.feedback.errors import RetrainError
from tutelage.feedback.retrain import STARTING_SECONDS, Training, current, look, newest, start, stop
from tutelage.feedback.snapshot import open_snapshot
from tutelage.feedback.store import Store

# In place of `tutelage`: writes the run folder as `tutelage reward` does, then waits to be let go, or fails.
PROGRAM = """
import json, pathlib, sys, time
if "config" in sys.argv:
    sys.exit("error: train.wrong: unknown key\\nhint:  look elsewhere" if "train.wrong=1" in sys.argv else 0)
run = pathlib.Path(sys.argv[sys.argv.index("--run-dir") + 1])
run.mkdir(parents=True)
if "fail=1" not in sys.argv:
    (run / "config.yaml").touch()
(run / "argv.json").write_text(json.dumps(sys.argv[1:]))
(run / "metrics.jsonl").write_text('{"step": 0, "train/loss": 0.7}\\n{"step": 1, "train/loss": 0.6}\\n{"st')
if "fail=1" in sys.argv:
    sys.stderr.write("error: no such model\\nhint:  look elsewhere\\n"); sys.exit(1)
while not (run / "go").exists() and "go=1" not in sys.argv:
    time.sleep(0.01)
(run / "result.json").write_text('{"steps": 2}')
sys.stderr.write("it learns\\n"); print("steps: 2")
"""


@pytest.fixture(autouse=True)
def policy(tmp_path, monkeypatch):
    """runs/sft, where the tests are run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "sft").mkdir(parents=True)
    (tmp_path / "runs" / "sft" / "config.json").touch()


@pytest.fixture
def begin(store, tmp_path):
    def judged(conn):
        few.judgement(conn, few.task(conn, few.prompt(conn), ["a", "b"]), few.labeler(conn, "amara"), {"ranks": [0, 1]})
    store.write(judged)
    started: list[Training] = []

    def call(*overrides: str, by: Store = store) -> Training:
        started.append(start(by, policy="runs/sft", folder=tmp_path / "data", overrides=overrides, program=(sys.executable, "-c", PROGRAM)))
        return started[-1]

    yield call
    for training in started:
        try:
            os.kill(training.pid or 0, signal.SIGKILL)
        except ProcessLookupError:
            pass


def until(met, seconds: float = 60.0):
    end = time.monotonic() + seconds
    while not (found := met()):
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.02)
    return found


def test_it_trains_from_what_was_frozen_shows_its_progress_and_records_its_result(store, begin):
    training = begin("train.epochs=2")
    assert training.state == "running" and current(store).id == training.id
    until(lambda: look(store, training.id).metrics)
    assert look(store, training.id).metrics == {"step": 1, "train/loss": 0.6}
    (training.run_dir / "go").touch()
    done = until(lambda: (now := look(store, training.id)).state != "running" and now)
    assert (done.state, done.result, current(store)) == ("done", {"steps": 2}, None) and done.ended_at == store.now()
    frozen = open_snapshot(training.snapshot)
    assert frozen.counts["judgements"] == 1
    assert json.loads((training.run_dir / "argv.json").read_text()) == [
        "reward", "model.policy=runs/sft", f'data.files=["{training.snapshot}"]', "train.epochs=2", "--run-dir", str(training.run_dir)]
    with store.read() as conn:
        assert conn.scalar(select(schema.audit.c.details).where(schema.audit.c.action == "retrain"))["snapshot"] == frozen.hash


@pytest.mark.parametrize(("go", "last"), [("go=1", "result.json"), ("fail=1", "../reward-1.log")])
def test_it_ended_when_it_last_wrote_and_not_when_somebody_looks(store, begin, clock, go, last):
    training = begin(go)
    until(lambda: (training.run_dir / "result.json").exists() or not retrain._runs(store, training))
    until(lambda: not retrain._runs(store, training))
    for name in ("../reward-1.log", "metrics.jsonl", last):
        if (trace := training.run_dir / name).exists():
            os.utime(trace, (training.created_at + 8, training.created_at + 8))
    clock.advance(80)
    ended = look(store, training.id)
    assert ended.state in ("done", "failed") and ended.ended_at - ended.created_at == pytest.approx(8, abs=1e-3)


def test_the_command_tells_what_the_process_says_and_its_result_once(tmp_path, monkeypatch, capfd):
    with Store.open(tmp_path / "studio.db") as store:
        store.write(lambda conn: few.judgement(conn, few.task(conn, few.prompt(conn), ["a", "b"]), few.labeler(conn, "amara"),
                                               {"ranks": [0, 1]}))
    monkeypatch.setitem(start.__kwdefaults__, "program", (sys.executable, "-c", PROGRAM))
    with pytest.raises(SystemExit, match="^0$"):
        main(["feedback", "retrain", "--policy", "runs/sft", "--db", str(tmp_path / "studio.db"), "--out", str(tmp_path), "go=1"])
    said = capfd.readouterr()
    assert said.out.splitlines()[-1] == "steps: 2" and said.err == "it learns\n"


def test_a_second_one_waits_until_the_first_has_ended_also_in_another_server(store, begin, address, monkeypatch):
    first = begin()
    with Store.open(address) as other, pytest.raises(RetrainError, match=f"training {first.id} is still running"):
        begin(by=other)
    with monkeypatch.context() as patched, pytest.raises(RetrainError, match="still running"):
        patched.setattr(retrain, "current", lambda store: None)       # another server's row comes between the look and the write
        begin()
    until(first.run_dir.exists)
    (first.run_dir / "go").touch()
    until(lambda: current(store) is None)
    assert begin().id != first.id


def test_a_killed_process_is_noticed_and_the_next_one_may_start(store, begin):
    training = begin()
    until(lambda: look(store, training.id).metrics)
    os.kill(training.pid, signal.SIGKILL)
    failed = until(lambda: (now := look(store, training.id)).state == "failed" and now)
    assert failed.result == {"error": "the process is gone without a word of why",
                             "resume": f"tutelage reward {training.run_dir}/config.yaml --run-dir {training.run_dir} --resume"}
    assert begin().state == "running"


def test_one_that_failed_and_was_resumed_by_hand_runs_again_and_is_done_when_it_is(store, begin):
    training = begin("fail=1")
    until(lambda: look(store, training.id).state == "failed")
    with (training.run_dir / ".lock").open("w") as lock:             # as train.run holds it while a process works there
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert current(store).id == training.id and newest(store)[0].state == "running"
        assert (look(store, training.id).result, look(store, training.id).ended_at) == ({}, None)
        with pytest.raises(RetrainError, match="still running"):
            begin()
        lea = store.write(lambda conn: few.labeler(conn, "lea", role="lead"))
        with pytest.raises(RetrainError, match="was resumed by hand"):
            stop(store, training.id, by_id=lea)
    assert look(store, training.id).state == "failed", "it was killed once more"
    (training.run_dir / "result.json").write_text('{"steps": 9}')
    assert current(store) is None and newest(store)[0].result == {"steps": 9} and newest(store)[0].state == "done"
    with store.read() as conn:
        assert conn.scalar(select(schema.trainings.c.state)) == "done"


def test_an_error_is_told_in_the_words_of_the_process(store, begin):
    training = begin("fail=1")
    failed = until(lambda: (now := look(store, training.id)).state == "failed" and now)
    assert failed.result == {"error": "no such model"}, "and of a run that never opened, no way to resume it"


def test_without_a_model_to_begin_from_nothing_is_frozen(store, tmp_path):
    (tmp_path / "empty").mkdir()
    for policy in ("/nonexistent", "empty"):
        with pytest.raises(RetrainError, match=f"there is no model in {policy}"):
            start(store, policy=policy, folder=tmp_path / "data")
    assert not (tmp_path / "data").exists() and newest(store) == []


def test_a_stranger_with_the_process_number_and_a_row_without_one_are_not_taken_for_it(store, begin, clock):
    training = begin()
    os.kill(training.pid, signal.SIGKILL)
    with store.read() as conn:
        given = dict(conn.execute(select(schema.trainings)).mappings().one())
    stranger = given | {"id": training.id + 1, "pid": os.getppid()}
    nobody = given | {"id": training.id + 2, "pid": None}
    store.write(lambda conn: [few.put(conn, "trainings", **row) for row in (stranger, nobody)])
    assert look(store, training.id + 1).state == ("failed" if os.path.exists("/proc/self/cmdline") else "running")
    assert look(store, training.id + 2).state == "running"
    clock.advance(STARTING_SECONDS + 1)
    assert look(store, training.id + 2).state == "failed"


def test_a_lead_stops_one_and_that_is_what_it_says_then(store, begin):
    training = begin()
    until(lambda: look(store, training.id).metrics)
    lea = store.write(lambda conn: few.labeler(conn, "lea", role="lead"))
    stop(store, training.id, by_id=lea)
    failed = until(lambda: (now := look(store, training.id)).state == "failed" and now)
    assert failed.result["error"] == "stopped by a lead" and failed.result["resume"].endswith("--resume")
    with pytest.raises(RetrainError, match="does not run"):
        stop(store, training.id, by_id=lea)
    with store.read() as conn:
        assert conn.execute(select(schema.audit.c.action, schema.audit.c.actor_id)).all()[-1] == ("stop training", lea)


def test_all_trainings_newest_first_and_the_last_words_of_one(store, begin):
    first = begin("fail=1")
    until(lambda: look(store, first.id).state == "failed")
    second = begin()
    found = newest(store)
    assert [(one.id, one.state, one.judgements) for one in found] == [(second.id, "running", 1), (first.id, "failed", 1)]
    assert found[1].last_line == "hint:  look elsewhere" and found[1].report == {}


def test_what_it_warned_of_is_told_however_much_it_said_after(tmp_path):
    told = Training(1, "done", tmp_path / "reward-1", tmp_path, None, 1.0, 2.0, {}, {}, 0)
    assert told.warnings == []
    steps = "reward: 12% of 900 steps\n" * 40_000
    told.log.write_text(f"warning: 34 judgements were left out\nwarning: é\n{steps}warning: é\n" + "x" * 100_000)
    assert told.warnings == ["34 judgements were left out", "é"]


def test_a_setting_that_is_none_is_refused_before_anything_is_frozen(store, begin, tmp_path):
    with pytest.raises(RetrainError, match="train.wrong: unknown key") as refused:
        begin("train.wrong=1")
    assert refused.value.hint == "look elsewhere" and not (tmp_path / "data").exists()
    with store.read() as conn:
        assert not conn.execute(select(schema.trainings.c.id)).all() and not conn.execute(select(schema.snapshots.c.id)).all()


def test_the_settings_are_those_of_the_training_itself(store, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(retrain.__file__).parents[2]))          # the tests are run elsewhere than where they lie
    with pytest.raises(RetrainError, match="train.batch_siz: unknown key"):
        start(store, policy="runs/sft", folder=tmp_path / "data", overrides=["train.batch_siz=16"])
