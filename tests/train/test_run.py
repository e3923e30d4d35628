import json
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.small import environment
from tutelage.base.config import RunConfig
from tutelage.base.errors import ArtifactError, AuditError, ConfigError, TutelageError
from tutelage.base.files import folder_digest, verify_manifest, write_manifest
from tutelage.train.checkpoint import TrainState
from tutelage.train.run import Interrupted, Run
from tutelage.train.sections import SaveSection


class ToyConfig(RunConfig):
    rate: float = 0.1
    save: SaveSection = SaveSection()


class Boom(Exception):
    pass


class Training:
    """Steps of a run that writes its step count as weights; what happens at a step can be planted."""

    def __init__(self, folder: Path, *, at=None, total: int = 6, resume: bool = False, rate: float = 0.1, **save) -> None:
        self.cfg = ToyConfig(run_dir=folder, rate=rate, resume=resume, save=SaveSection(**save))
        self.at, self.total, self.done = at or {}, total, []

    def go(self) -> dict:
        with Run.open(self.cfg, "toy") as run:
            if finished := run.finished():
                return finished
            state = TrainState(values={"sum": 0})
            run.restore(state)
            for step in run.steps(self.total, write_models=self.write, state=state):
                self.at.get(step, lambda: None)()
                self.done.append(step)
                state.values["sum"] += step
                run.log(step, {"sum": state.values["sum"]})
            run.save(self.total, self.write, state)
            return run.finish({"sum": state.values["sum"]})

    def write(self, folder: Path) -> None:
        (folder / "model").mkdir()
        save_file({"w": torch.ones(3)}, folder / "model" / "model.safetensors")


def boom() -> None:
    raise Boom


def start_and_fail(folder: Path, step: int = 4, **save) -> Training:
    training = Training(folder, at={step: boom}, **({"every_steps": 2} | save))
    with pytest.raises(Boom):
        training.go()
    return training


def rows(folder: Path) -> list[tuple[int, int]]:
    return [(row["step"], row["sum"]) for row in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())]


CUMULATIVE = [(0, 0), (1, 1), (2, 3), (3, 6), (4, 10), (5, 15)]       # triangular numbers


def test_an_undisturbed_run_logs_each_step_once_and_marks_its_end(tmp_path):
    assert Training(tmp_path / "run").go()["sum"] == 15
    assert rows(tmp_path / "run") == CUMULATIVE
    assert (tmp_path / "run/latest").read_text().strip() == "step-000006"


def test_a_run_that_holds_work_is_refused_naming_what_is_there(tmp_path):
    start_and_fail(tmp_path)
    before = folder_digest(tmp_path)
    with pytest.raises(ConfigError, match="already holds a run.*ckpt, config.yaml, latest, lineage.json, metrics.jsonl") as error:
        Training(tmp_path).go()
    assert "--resume" in error.value.hint and error.value.exit_code == 2
    assert folder_digest(tmp_path) == before


def test_a_folder_with_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "config.yaml").write_text("of another program: true\n")
    (tmp_path / "thesis.tex").write_text("years of work")
    names = sorted(tmp_path.iterdir())
    with pytest.raises(ConfigError, match=r"not empty and holds no run \(config.yaml, thesis.tex\)"):
        Training(tmp_path, resume=True).go()
    assert sorted(tmp_path.iterdir()) == names and (tmp_path / "config.yaml").read_text() == "of another program: true\n"


@pytest.mark.parametrize("name", [".git/.x.tmp-12", ".thesis.tmp-2024", ".bashrc"])
def test_hidden_files_are_somebodys(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("years of work")
    with pytest.raises(ConfigError, match="is not empty and holds no run"):
        Training(tmp_path).go()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "run").write_text("x")
    with pytest.raises(ConfigError, match="run is a file"):
        Training(tmp_path / "run").go()


def test_a_run_that_failed_before_its_first_step_is_begun_anew_with_another_config(tmp_path):
    with pytest.raises(Boom), Run.open(ToyConfig(run_dir=tmp_path / "run"), "toy"):
        boom()                                                       # such as a data file that is not there
    assert Training(tmp_path / "run", rate=0.2).go()["sum"] == 15
    assert "0.2" in (tmp_path / "run/config.yaml").read_text()


def test_resume_with_another_config_names_the_keys_that_differ(tmp_path):
    start_and_fail(tmp_path)
    with pytest.raises(ConfigError, match=r"rate \(0.1 then, 0.2 now\); save.keep_last \(none then, 3 now\)"):
        Training(tmp_path, resume=True, rate=0.2, every_steps=2, keep_last=3).go()


def made_of(root: Path) -> dict:
    """Two files and a model folder, as Run.open takes them."""
    for name in ("a.jsonl", "b.jsonl", "model/config.json"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(name)
    return {"data": [root / "a.jsonl", root / "b.jsonl"], "policy": root / "model"}


@pytest.mark.parametrize(("change", "says"), [
    (lambda root: (root / "b.jsonl").write_text("other"), r"other inputs: data: \S*/b.jsonl has changed$"),
    (lambda root: (root / "model/config.json").write_text("{}"), r"other inputs: policy: \S*/model has changed$"),
    (lambda root: (root / "model/more.json").write_text("{}"), r"other inputs: policy: \S*/model has changed$")])
def test_resume_with_changed_inputs_is_refused_and_names_them(tmp_path, change, says):
    inputs, folder = made_of(tmp_path), tmp_path / "run"
    with Run.open(ToyConfig(run_dir=folder), "toy", inputs=inputs) as run:
        run.log(0, {})
    with Run.open(ToyConfig(run_dir=folder, resume=True), "toy", inputs=inputs):
        pass                                                         # unchanged, it may be entered
    change(tmp_path)
    before = folder_digest(folder)
    with pytest.raises(ConfigError, match=says):
        Run.open(ToyConfig(run_dir=folder, resume=True), "toy", inputs=inputs)
    assert folder_digest(folder) == before


def test_resume_with_more_or_fewer_input_files_is_refused_and_names_them(tmp_path):
    inputs, folder = made_of(tmp_path), tmp_path / "run"
    with Run.open(ToyConfig(run_dir=folder), "toy", inputs=inputs) as run:
        run.log(0, {})
    with pytest.raises(ConfigError, match=r"data: \S*/b.jsonl is gone$"):
        Run.open(ToyConfig(run_dir=folder, resume=True), "toy", inputs=inputs | {"data": inputs["data"][:1]})
    with pytest.raises(ConfigError, match=r"ptx: \S*/a.jsonl was not there$"):
        Run.open(ToyConfig(run_dir=folder, resume=True), "toy", inputs=inputs | {"ptx": inputs["data"][:1]})


def test_inputs_that_moved_but_are_the_same_are_no_other_inputs(tmp_path):
    inputs, folder = made_of(tmp_path), tmp_path / "run"
    with Run.open(ToyConfig(run_dir=folder), "toy", inputs=inputs) as run:
        run.log(0, {})
    (tmp_path / "model").rename(tmp_path / "elsewhere")
    with Run.open(ToyConfig(run_dir=folder, resume=True), "toy", inputs=inputs | {"policy": tmp_path / "elsewhere"}):
        pass


def test_a_run_in_a_folder_that_it_is_made_of_is_refused_before_it_begins(tmp_path):
    inputs = made_of(tmp_path)
    for folder in (tmp_path / "model", tmp_path / "model/runs/one"):
        with pytest.raises(ConfigError, match=r"lies in \S*/model, the policy it is made of|is not empty"):
            Run.open(ToyConfig(run_dir=folder), "toy", inputs=inputs)
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["config.json"]


def test_resume_on_another_number_of_threads_says_that_bits_may_differ(tmp_path, caplog):
    start_and_fail(tmp_path)
    lineage = json.loads((tmp_path / "lineage.json").read_text())
    (tmp_path / "lineage.json").write_text(json.dumps(lineage | {"threads": 64}))
    Training(tmp_path, resume=True, every_steps=2).go()
    assert f"not bit for bit: threads 64 then, {torch.get_num_threads()} now" in caplog.text


def test_every_step_draws_what_it_drew_before_it_was_killed(tmp_path):
    def drawing(folder: Path, **more) -> list[tuple[float, float, float]]:
        """What the three generators gave at each step, with one more draw at a step that fails."""
        drawn = []
        at = {step: lambda: drawn.append((random.random(), float(np.random.rand()), float(torch.rand(())))) for step in range(6)}
        training = Training(folder, at=at | more.pop("at", {}), every_steps=2, **more)
        try:
            training.go()
        except Boom:
            pass
        return drawn

    whole = drawing(tmp_path / "whole")
    assert len(set(whole)) == 6
    first = drawing(tmp_path / "run", at={5: boom})
    assert first == whole[:5] and drawing(tmp_path / "run", resume=True) == whole[4:]


def test_resume_goes_on_at_the_checkpoint_and_drops_the_rows_past_it(tmp_path):
    start_and_fail(tmp_path, step=5)                                 # rows 0..4 logged, checkpoint after 4 steps
    assert [step for step, _ in rows(tmp_path)] == [0, 1, 2, 3, 4]
    resumed = Training(tmp_path, resume=True, every_steps=2)
    assert resumed.go()["sum"] == 15
    assert resumed.done == [4, 5] and rows(tmp_path) == CUMULATIVE


def test_a_torn_last_row_is_dropped_on_resume(tmp_path):
    start_and_fail(tmp_path, step=3)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "su')
    Training(tmp_path, resume=True, every_steps=2).go()
    assert rows(tmp_path) == CUMULATIVE


def test_resume_before_the_first_checkpoint_starts_at_the_beginning(tmp_path):
    start_and_fail(tmp_path, step=1)
    resumed = Training(tmp_path, resume=True, every_steps=2)
    resumed.go()
    assert resumed.done == [0, 1, 2, 3, 4, 5] and rows(tmp_path) == CUMULATIVE


def test_the_clock_of_a_resumed_run_goes_on(tmp_path):
    start_and_fail(tmp_path)
    lines = [json.loads(line) | {"seconds": 100.0} for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert Training(tmp_path, resume=True, every_steps=2).go()["seconds"] >= 100


@pytest.mark.parametrize("damage", ["truncated", "changed", "missing"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, caplog, damage):
    start_and_fail(tmp_path, step=5)
    file = tmp_path / "ckpt/step-000004/model/model.safetensors"
    data = file.read_bytes()
    file.unlink() if damage == "missing" else file.write_bytes(data[:-4] if damage == "truncated" else data[:-1] + b"\x01")
    resumed = Training(tmp_path, resume=True, every_steps=2)
    assert resumed.go()["sum"] == 15 and resumed.done == [2, 3, 4, 5]
    assert [r.message for r in caplog.records if str(file) in r.getMessage()] != []


@pytest.mark.parametrize(("name", "content", "says"), [
    ("config.yaml", b"", "config.yaml is damaged"), ("config.yaml", b"\xff\xfe", "config.yaml is damaged"),
    ("config.yaml", b"a: [b", "config.yaml is damaged"), ("config.yaml", b"- a", "config.yaml is damaged"),
    ("result.json", b"", "result.json cannot be read"), ("result.json", b"\xff", "result.json cannot be read"),
    ("result.json", b"[]", "result.json holds a JSON list")])
def test_a_damaged_record_of_the_run_is_named_and_left_as_it_is(tmp_path, name, content, says):
    Training(tmp_path).go()
    (tmp_path / name).write_bytes(content)
    before = folder_digest(tmp_path)
    with pytest.raises(TutelageError, match=says) as error:
        Training(tmp_path, resume=True).go()
    assert error.value.hint and folder_digest(tmp_path) == before


@pytest.mark.parametrize(("content", "says"), [(b"", "cannot be read"), (b"[]", "holds a JSON list"), (b"{}", "does not say what")])
def test_a_damaged_lineage_is_named_where_it_is_needed(tmp_path, content, says):
    start_and_fail(tmp_path)
    (tmp_path / "lineage.json").write_bytes(content)
    with pytest.raises(TutelageError, match=f"lineage.json {says}") as error:
        Run.open(ToyConfig(run_dir=tmp_path, resume=True, save=SaveSection(every_steps=2)), "toy", inputs={})
    assert error.value.hint


@pytest.mark.parametrize("damage", [b"\xff\xfe\x00\n", b"[]\n", b"{}\n", b"3\n", b'{"step": "2", "seconds": 1}\n'])
def test_metrics_that_are_no_rows_are_dropped_on_resume(tmp_path, damage):
    start_and_fail(tmp_path, step=3)
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(damage)
    Training(tmp_path, resume=True, every_steps=2).go()
    assert rows(tmp_path) == CUMULATIVE


def test_what_is_no_checkpoint_is_passed_over(tmp_path):
    start_and_fail(tmp_path, step=5)
    (tmp_path / "ckpt/step-best").mkdir()
    (tmp_path / "ckpt/step-000099").write_text("a file")
    resumed = Training(tmp_path, resume=True, every_steps=2)
    assert resumed.go()["sum"] == 15 and resumed.done == [4, 5] and (tmp_path / "ckpt/step-000099").read_text() == "a file"


@pytest.mark.parametrize(("name", "content"), [("state.json", b"{}"), ("state.json", b"[]"), ("state.json", b'{"step": 3, "values": 3}'),
                                               ("state.json", b"\xff"), ("state.safetensors", b""), ("state.safetensors", b"\xff" * 9)])
def test_a_training_state_that_is_foreign_is_named(tmp_path, name, content):
    TrainState().save(tmp_path, 3)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ArtifactError, match="cannot be read|holds a JSON list") as error:
        TrainState().load(tmp_path)
    assert str(tmp_path) in str(error.value) and "older checkpoint" in error.value.hint


def test_when_the_best_checkpoint_is_damaged_the_run_goes_back_to_before_it(tmp_path, caplog):
    start_and_fail(tmp_path, step=5)
    for state in tmp_path.glob("ckpt/*/train/state.json"):           # as a recipe that tracks its best writes it
        saved = json.loads(state.read_text())
        state.write_text(json.dumps(saved | {"values": saved["values"] | {"best_step": 2}}))
        write_manifest(state.parents[1])
    (tmp_path / "ckpt/step-000002/model/model.safetensors").write_bytes(b"")
    resumed = Training(tmp_path, resume=True, every_steps=2)
    assert resumed.go()["sum"] == 15 and resumed.done == list(range(6))
    assert "step-000002/model/model.safetensors: damaged" in caplog.text


def test_keep_last_does_not_count_damaged_checkpoints_of_a_later_step(tmp_path):
    start_and_fail(tmp_path, step=5)                                 # checkpoints 2 and 4
    (tmp_path / "ckpt/step-000004/MANIFEST.json").write_text("{")
    with Run.open(ToyConfig(run_dir=tmp_path, resume=True, save=SaveSection(every_steps=2)), "toy") as run:
        assert run.start_step == 2
    run.cfg = ToyConfig(run_dir=tmp_path, save=SaveSection(keep_last=1))
    run.save(3, Training(tmp_path).write, TrainState())              # such as a new best
    assert (tmp_path / "ckpt/step-000003").exists() and not (tmp_path / "ckpt/step-000002").exists()
    verify_manifest(tmp_path / "ckpt/step-000003")


def test_what_a_killed_process_left_half_written_is_cleared_on_resume(tmp_path):
    start_and_fail(tmp_path, step=5)
    (tmp_path / ".metrics.jsonl.tmp-0123456789ab").write_text("half")
    (tmp_path / "ckpt/.step-000006.tmp-1-01234567").mkdir()          # of process 1, which lives
    (tmp_path / "ckpt/step-000004").rename(tmp_path / "ckpt/.step-000004.old-1-01234567")        # about to be replaced when it was killed
    resumed = Training(tmp_path, resume=True, every_steps=2)
    assert resumed.go()["sum"] == 15 and resumed.done == [4, 5]
    assert [p.name for p in tmp_path.rglob(".*")] == [".lock"]


def test_when_every_checkpoint_is_damaged_the_run_says_that_it_starts_over(tmp_path, caplog):
    start_and_fail(tmp_path)
    for file in tmp_path.glob("ckpt/*/MANIFEST.json"):
        file.unlink()
    resumed = Training(tmp_path, resume=True, every_steps=2)
    assert resumed.go()["sum"] == 15 and resumed.done == list(range(6))
    assert "starting from the beginning" in caplog.text


def test_a_finished_run_returns_its_result_and_keeps_every_row(tmp_path):
    training = Training(tmp_path)
    result = training.go()
    for checkpoint in (tmp_path / "ckpt").iterdir():                 # as SFT: its best checkpoint lies before its last row
        checkpoint.rename(checkpoint.with_name("step-000003"))
    again = Training(tmp_path, resume=True)
    assert again.go() == result and again.done == [] and rows(tmp_path) == CUMULATIVE


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_finishes_the_step_saves_and_names_the_command_to_go_on(tmp_path, signum, code):
    training = Training(tmp_path, at={2: lambda: signal.raise_signal(signum)})
    before = signal.getsignal(signum)
    with pytest.raises(Interrupted, match="after step 3 of 6; checkpoint saved") as error:
        training.go()
    assert error.value.exit_code == code and error.value.hint == f"tutelage toy {tmp_path}/config.yaml --run-dir {tmp_path} --resume"
    assert signal.getsignal(signum) is before                        # handlers are only borrowed
    resumed = Training(tmp_path, resume=True)
    assert resumed.go()["sum"] == 15 and resumed.done == [3, 4, 5] and rows(tmp_path) == CUMULATIVE


def test_the_command_to_go_on_can_be_pasted_when_the_folder_has_a_space(tmp_path):
    with pytest.raises(Interrupted) as error:
        Training(tmp_path / "my run", at={0: lambda: signal.raise_signal(signal.SIGTERM)}).go()
    folder = str(tmp_path / "my run")
    assert shlex.split(error.value.hint) == ["tutelage", "toy", f"{folder}/config.yaml", "--run-dir", folder, "--resume"]


def test_a_signal_in_the_last_step_loses_nothing(tmp_path):
    with pytest.raises(Interrupted, match="after step 6 of 6"):
        Training(tmp_path, at={5: lambda: signal.raise_signal(signal.SIGTERM)}).go()
    resumed = Training(tmp_path, resume=True)
    assert resumed.go()["sum"] == 15 and resumed.done == []


def test_a_second_signal_stops_at_once(tmp_path):
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    training = Training(tmp_path, at={2: twice})
    with pytest.raises(Interrupted, match="before its first checkpoint") as error:
        training.go()
    assert error.value.exit_code == 130 and error.value.hint.endswith("--resume")
    assert training.done == [0, 1] and not (tmp_path / "ckpt").exists()


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143)])
def test_a_signal_between_steps_names_the_last_checkpoint_and_the_command(tmp_path, error, code):
    with pytest.raises(Interrupted, match="before its first checkpoint") as before:
        with Run.open(ToyConfig(run_dir=tmp_path / "new"), "toy"):
            raise error                                              # such as while it reads its data
    start_and_fail(tmp_path / "run")
    with pytest.raises(Interrupted, match="with step-000004 as last checkpoint") as after:
        with Run.open(ToyConfig(run_dir=tmp_path / "run", resume=True, save=SaveSection(every_steps=2)), "toy"):
            raise error
    assert before.value.exit_code == after.value.exit_code == code and after.value.hint.endswith("--resume")
    assert Training(tmp_path / "new").go()["sum"] == Training(tmp_path / "run", resume=True, every_steps=2).go()["sum"] == 15


def test_a_clock_that_jumps_changes_nothing(tmp_path, monkeypatch):
    days = iter([3e5, -4e9, 0.0, 1e10] * 1000)
    monkeypatch.setattr(time, "time", lambda: next(days))
    start_and_fail(tmp_path)
    assert Training(tmp_path, resume=True, every_steps=2).go()["seconds"] < 60 and rows(tmp_path) == CUMULATIVE
    assert all(0 <= json.loads(line)["seconds"] < 60 for line in (tmp_path / "metrics.jsonl").read_text().splitlines())


HOLDING = """
import sys, time
from tutelage.base.config import RunConfig
from tutelage.train.run import Run
with Run.open(RunConfig(run_dir=sys.argv[1]), "toy") as run:
    print("inside", flush=True)
    time.sleep(60)
"""


def test_the_lock_goes_with_a_process_that_is_killed(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLDING, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment())
    assert process.stdout.readline() == "inside\n"
    with pytest.raises(ConfigError, match="another process is running in"):
        Run.open(RunConfig(run_dir=tmp_path), "toy")
    process.kill()
    process.wait()
    with Run.open(RunConfig(run_dir=tmp_path), "toy"):
        pass


def test_a_second_process_in_the_same_folder_is_refused(tmp_path):
    with Run.open(ToyConfig(run_dir=tmp_path), "toy") as run:
        run.log(0, {})
        with pytest.raises(ConfigError, match="another process is running in"):
            Run.open(ToyConfig(run_dir=tmp_path, resume=True), "toy")
    Run.open(ToyConfig(run_dir=tmp_path, resume=True), "toy").__exit__()             # released at the end


def test_keep_last_deletes_the_oldest_by_number_but_never_the_best(tmp_path):
    run = Run.open(ToyConfig(run_dir=tmp_path, save=SaveSection(keep_last=2)), "toy")
    run.best_step = 5
    write = Training(tmp_path).write
    for step in (5, 999_999, 1_000_000, 1_000_001):                  # names of unequal length do not sort as numbers do
        run.save(step, write, TrainState())
    assert {p.name for p in (tmp_path / "ckpt").iterdir()} == {"step-000005", "step-1000000", "step-1000001"}
    run.__exit__()
    run = Run.open(ToyConfig(run_dir=tmp_path, save=SaveSection(keep_last=2), resume=True), "toy")
    assert run.start_step == 1_000_001
    run.__exit__()


def test_a_number_that_is_not_finite_is_logged_as_null(tmp_path):
    with Run.open(ToyConfig(run_dir=tmp_path), "toy") as run:
        run.log(0, {"a": float("nan"), "b": torch.tensor(2.0), "c": None, "d": float("inf")})
        (row,) = run.metrics()
    assert (row["a"], row["b"], row["c"], row["d"]) == (None, 2.0, None, None)


def test_a_bad_batch_is_saved_beside_the_run(tmp_path):
    from safetensors.torch import load_file

    with Run.open(ToyConfig(run_dir=tmp_path), "toy") as run:
        error = run.save_bad_batch({"tokens": torch.arange(4), "note": "not a tensor"}, "loss is not finite")
    assert isinstance(error, AuditError) and str(tmp_path / "bad_batch.safetensors") in str(error)
    assert load_file(tmp_path / "bad_batch.safetensors")["tokens"].tolist() == [0, 1, 2, 3]


def test_training_state_comes_back_bit_for_bit(tmp_path):
    def trained(optimizer: torch.optim.Optimizer, weight: torch.Tensor, steps: range) -> torch.Tensor:
        for step in steps:
            weight.grad = torch.sin(weight.detach() * (step + 1))
            optimizer.step()
        return weight

    def fresh(start: torch.Tensor) -> tuple[torch.nn.Parameter, torch.optim.AdamW]:
        weight = torch.nn.Parameter(start.clone())
        return weight, torch.optim.AdamW([weight], lr=0.1, fused=True)

    start = torch.linspace(-1, 1, 7)
    undisturbed = trained(*reversed(fresh(start)), range(6))
    weight, optimizer = fresh(start)
    trained(optimizer, weight, range(3))
    TrainState({"o": optimizer}, {"mean": 0.1 + 0.2}, {"t": torch.arange(3)}).save(tmp_path, 3)
    weight, optimizer = fresh(weight.detach())
    state = TrainState({"o": optimizer})
    state.load(tmp_path)
    for name in ("state.safetensors", "state.json"):                 # nothing stays tied to the files
        (tmp_path / name).write_bytes(b"")
    assert state.values["mean"] == 0.1 + 0.2 and torch.equal(state.tensors["t"], torch.arange(3))
    assert torch.equal(trained(optimizer, weight, range(3, 6)), undisturbed)
