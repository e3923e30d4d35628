import json
import shlex
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tutelage.base.config import RunConfig
from tutelage.base.errors import ArtifactError, AuditError, ConfigError, TutelageError
from tutelage.base.files import folder_digest
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
    with pytest.raises(ConfigError, match="rate, save.keep_last differ"):
        Training(tmp_path, resume=True, rate=0.2, every_steps=2, keep_last=3).go()


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
    with pytest.raises(KeyboardInterrupt):
        training.go()
    assert training.done == [0, 1] and not (tmp_path / "ckpt").exists()


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
    assert state.load(tmp_path) == 3 and state.values["mean"] == 0.1 + 0.2 and torch.equal(state.tensors["t"], torch.arange(3))
    assert torch.equal(trained(optimizer, weight, range(3, 6)), undisturbed)
