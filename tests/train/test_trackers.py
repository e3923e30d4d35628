"""Trackers are shown every row, and nothing they do harms a run: they may be missing, broken, slow, loud or hang."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.small import environment
from tests.train.test_run import Boom, Training, boom
from tutelage.base.config import RunConfig
from tutelage.base.errors import ConfigError, MissingExtraError
from tutelage.train import trackers
from tutelage.train.run import Run
from tutelage.train.sections import SaveSection, TrackSection

# Stands in for the library `wandb`: writes what it is given to a file, and misbehaves as the environment asks.
FAKE = '''\
import json, os, sys, time
ask = os.environ.get("ASK", "")
if ask == "break on import":
    raise ImportError("its own dependency is broken")
if ask == "hang on import":
    time.sleep(600)
def write(*what):
    with open(os.environ["GIVEN"], "a") as file:
        file.write(json.dumps(what) + "\\n")
class Run:
    id = "abc"
    def log(self, metrics, step):
        if ask == "break at step 3" and step == 3:
            raise ConnectionError("the network is gone")
        if ask == "hang at step 3" and step == 3:
            time.sleep(600)
        if ask == "exit at step 3" and step == 3:
            os._exit(7)
        write("log", step, metrics)
    def finish(self, exit_code):
        if ask == "hang at the end":
            time.sleep(600)
        write("finish", exit_code)
def init(**about):
    if ask == "no network":
        raise TimeoutError("could not reach the server")
    print("chatter of a library")
    write("init", about["id"], about["project"], about["name"], about["config"])
    return Run()
'''


class TrackedConfig(RunConfig):
    rate: float = 0.1
    save: SaveSection = SaveSection()
    track: TrackSection = TrackSection()


class Tracked(Training):
    """The toy training of test_run.py with a tracker."""

    def __init__(self, folder: Path, *, to=("wandb",), track=None, **more) -> None:
        super().__init__(folder, **more)
        self.cfg = TrackedConfig(run_dir=folder, rate=self.cfg.rate, resume=self.cfg.resume, save=self.cfg.save,
                                 track=TrackSection(to=list(to), **(track or {})))


@pytest.fixture
def library(tmp_path, monkeypatch):
    """Make `wandb` the fake; library(ask) sets what it does, library.given() is what it was given."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/wandb.py").write_text(FAKE)
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    monkeypatch.setenv("GIVEN", str(tmp_path / "given"))
    monkeypatch.setattr(trackers, "CLOSE_SECONDS", 20.0)

    def given() -> list[list]:
        file = tmp_path / "given"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def ask(what: str) -> None:
        monkeypatch.setenv("ASK", what)

    ask.given = given
    return ask


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def logged(given: list[list]) -> list[list]:
    return [entry[1:] for entry in given if entry[0] == "log"]


def test_a_tracker_is_shown_the_settings_and_every_row_and_told_the_end(tmp_path, library):
    Tracked(tmp_path / "run", track={"project": "mine"}).go()
    first, *_, last = library.given()
    assert first[:4] == ["init", None, "mine", "run"] and first[4]["rate"] == 0.1 and first[4]["track.to"] == ["wandb"]
    assert last == ["finish", 0]
    assert logged(library.given()) == [[row["step"], {"seconds": row["seconds"], "sum": row["sum"]}] for row in rows(tmp_path / "run")]
    assert "chatter of a library" in (tmp_path / "run/track/wandb.log").read_text()


def test_a_resumed_run_goes_on_in_the_same_place_and_sends_no_row_twice(tmp_path, library):
    with pytest.raises(Boom):
        Tracked(tmp_path / "run", at={5: boom}, every_steps=2).go()  # rows 0 to 4 sent, checkpoint at 4
    assert library.given()[-1] == ["finish", 1]
    resumed = Tracked(tmp_path / "run", resume=True, every_steps=2)
    resumed.go()
    assert resumed.done == [4, 5]
    assert [entry[1] for entry in library.given() if entry[0] == "init"] == [None, "abc"]
    assert [step for step, _ in logged(library.given())] == [0, 1, 2, 3, 4, 5] and library.given()[-1] == ["finish", 0]


def test_a_tracker_may_be_added_or_taken_away_on_resume(tmp_path, library):
    with pytest.raises(Boom):
        Training(tmp_path / "run", at={5: boom}, every_steps=2).go()
    (tmp_path / "run/config.yaml").write_text((tmp_path / "run/config.yaml").read_text() + "track: {to: [], project: p, name: null}\n")
    assert Tracked(tmp_path / "run", resume=True, every_steps=2).go()["sum"] == 15
    assert [step for step, _ in logged(library.given())] == [0, 1, 2, 3, 4, 5]       # what came before is sent too


def test_a_run_begun_anew_is_another_run_there(tmp_path, library):
    with pytest.raises(Boom), Run.open(Tracked(tmp_path / "run").cfg, "toy"):
        time.sleep(3)
        raise Boom                                                   # before its first row
    Tracked(tmp_path / "run", rate=0.2).go()
    assert [entry[1] for entry in library.given() if entry[0] == "init"] == [None, None]


@pytest.mark.parametrize(("ask", "says"), [
    ("break on import", "ImportError: its own dependency is broken"), ("no network", "TimeoutError: could not reach the server"),
    ("break at step 3", "ConnectionError: the network is gone"), ("exit at step 3", "")])
def test_a_tracker_that_fails_is_told_of_once_and_the_run_is_as_if_it_were_not_there(tmp_path, library, caplog, ask, says):
    library(ask)
    slow = {step: lambda: time.sleep(0.7) for step in range(6)}      # so that it has failed before the end
    result = Tracked(tmp_path / "run", at=slow).go()
    assert result["sum"] == 15 and len(rows(tmp_path / "run")) == 6
    (told,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told.startswith("wandb takes no more metrics: ") and says in told and "wandb.log" in told and "\n" not in told


@pytest.mark.parametrize("ask", ["hang on import", "hang at step 3", "hang at the end"])
def test_a_tracker_that_hangs_holds_a_run_up_at_its_end_only_and_not_for_long(tmp_path, library, caplog, monkeypatch, ask):
    monkeypatch.setattr(trackers, "CLOSE_SECONDS", 2.0)
    library(ask)
    training = Tracked(tmp_path / "run")
    started = time.monotonic()
    assert training.go()["sum"] == 15 and time.monotonic() - started < 300
    assert json.loads((tmp_path / "run/result.json").read_text())["seconds"] < 60     # the steps did not wait
    (told,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told.startswith("wandb takes no more metrics: its last rows were not taken within 2 s")


def test_a_tracker_whose_process_cannot_start_does_not_stop_a_run(tmp_path, library, caplog, monkeypatch):
    def refuse(*_, **__):
        raise OSError(12, "Cannot allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", refuse)
        assert Tracked(tmp_path / "run").go()["sum"] == 15
    assert caplog.text.count("wandb takes no more metrics: [Errno 12] Cannot allocate memory") == 1


def test_a_tracker_that_is_not_installed_is_named_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    for name, extra in (("tensorboard", "track"), ("mlflow", "mlflow")):
        with pytest.raises(MissingExtraError, match=f"track.to names {name}, which is not installed") as error:
            Tracked(tmp_path / "run", to=[name]).go()
        assert error.value.exit_code == 4 and f"pip install 'tutelage[{extra}]'" in error.value.hint
    assert not (tmp_path / "run").exists()


def test_one_tracker_may_stand_without_brackets():
    assert TrackSection.model_validate({"to": "wandb"}).to == ["wandb"]


def test_an_unknown_tracker_is_refused():
    with pytest.raises(ValueError, match="tensorboard"):
        TrackSection(to=["tensorbored"])


KILLED = """
import sys, time
from pathlib import Path
from tests.train.test_trackers import Tracked
Tracked(Path(sys.argv[1]), at={step: lambda: time.sleep(0.5) for step in range(600)}, total=600).go()
"""


def test_a_trackers_process_ends_soon_after_its_run_was_killed_and_does_not_keep_its_lock(tmp_path, library):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "run")], cwd=Path(__file__).parents[2],
                               env=environment() | {"PYTHONPATH": os.pathsep.join([str(tmp_path / "lib"), *sys.path])})
    deadline = time.monotonic() + 300
    while len(logged(library.given())) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with Run.open(TrackedConfig(run_dir=tmp_path / "run", resume=True), "toy"):
        pass                                                         # the lock is free at once
    while library.given()[-1][0] != "finish" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert library.given()[-1] == ["finish", 1]
    steps = [step for step, _ in logged(library.given())]
    assert steps == list(range(len(steps)))


def test_the_far_side_of_a_tracker_does_not_import_torch():
    code = "import sys, tutelage.train.sinks\nassert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], env=environment()).returncode == 0


def test_two_runs_with_trackers_cannot_share_a_folder(tmp_path, library):
    with Run.open(Tracked(tmp_path / "run").cfg, "toy"), pytest.raises(ConfigError, match="another process"):
        Run.open(Tracked(tmp_path / "run", resume=True).cfg, "toy")


# -- the real libraries ---------------------------------------------------------------------------------------------------------------


def need(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")


def test_tensorboard_reads_back_what_was_logged(tmp_path):
    need("tensorboard")
    Tracked(tmp_path / "run", to=["tensorboard"]).go()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "run/track/tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("sum")] == [(0, 0), (1, 1), (2, 3), (3, 6), (4, 10), (5, 15)]


def test_tensorboard_has_each_step_once_after_a_resume(tmp_path):
    need("tensorboard")
    with pytest.raises(Boom):
        Tracked(tmp_path / "run", to=["tensorboard"], at={5: boom}, every_steps=2).go()
    Tracked(tmp_path / "run", to=["tensorboard"], resume=True, every_steps=2).go()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "run/track/tensorboard"))
    events.Reload()
    assert [e.step for e in events.Scalars("sum")] == [0, 1, 2, 3, 4, 5]


def test_trackio_has_each_step_once_after_a_resume_and_another_run_of_that_name_apart(tmp_path, monkeypatch):
    need("trackio")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    Tracked(tmp_path / "other/run", to=["trackio"], track={"project": "mine"}, total=1).go()
    with pytest.raises(Boom):
        Tracked(tmp_path / "run", to=["trackio"], track={"project": "mine"}, at={5: boom}, every_steps=2).go()
    Tracked(tmp_path / "run", to=["trackio"], track={"project": "mine"}, resume=True, every_steps=2).go()
    with sqlite3.connect(tmp_path / "trackio/mine.db") as database:
        found = list(database.execute("SELECT run_id, run_name, step, metrics FROM metrics ORDER BY id"))
    assert len({run for run, *_ in found}) == 2 and {name for _, name, *_ in found} == {"run"}
    values = [(step, json.loads(metrics)["sum"]) for _, _, step, metrics in found]
    assert values == [(0, 0), (0, 0), (1, 1), (2, 3), (3, 6), (4, 10), (5, 15)]


def test_wandb_offline_takes_every_row(tmp_path, monkeypatch):
    need("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    Tracked(tmp_path / "run", to=["wandb"], track={"project": "mine"}).go()
    (summary,) = (tmp_path / "run/track/wandb").glob("offline-run-*/*.wandb")
    assert summary.stat().st_size > 0
    said = (tmp_path / "run/track/wandb.log").read_text()
    assert "sum 15" in said and json.loads((tmp_path / "run/track/wandb.json").read_text())["step"] == 5


@pytest.mark.slow
def test_mlflow_reads_back_what_was_logged_and_how_it_ended(tmp_path, monkeypatch):
    need("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setattr(trackers, "CLOSE_SECONDS", 120.0)            # it makes its database first
    with pytest.raises(Boom):
        Tracked(tmp_path / "run", to=["mlflow"], track={"project": "mine"}, at={5: boom}, every_steps=2).go()
    Tracked(tmp_path / "run", to=["mlflow"], track={"project": "mine"}, resume=True, every_steps=2).go()
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    assert run.info.status == "FINISHED" and run.data.params["rate"] == "0.1" and run.info.run_name == "run"
    assert [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "sum")] == [
        (0, 0), (1, 1), (2, 3), (3, 6), (4, 10), (5, 15)]
