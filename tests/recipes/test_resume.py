"""A run killed anywhere and resumed ends with the weights of an undisturbed one, bit for bit."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.small import environment, ppo_config, pretrain_config, reward_config, same_weights, sft_config, weights
from tutelage.base.config import dump_config
from tutelage.base.errors import ConfigError
from tutelage.recipes.ppo import train_ppo
from tutelage.recipes.pretrain import pretrain
from tutelage.recipes.reward_model import train_reward_model
from tutelage.recipes.sft import train_sft
from tutelage.train.run import Run

PPO = {"algo": {"num_iterations": 4, "kl_target": 0.5, "kl_horizon": 50, "normalize_scores": True, "score_clip": 3.0},
       "save": {"every_steps": 1}}
RECIPES = {
    "pretrain": (pretrain, pretrain_config, {}, 6),
    "sft": (train_sft, sft_config, {"eval": {"every_steps": 2}, "save": {"every_steps": 2}}, 6),
    "reward": (train_reward_model, reward_config, {}, 6),
    "ppo": (train_ppo, ppo_config, PPO, 4),
    "ppo, critic warm-up": (train_ppo, ppo_config, PPO | {"critic": {"warmup_iterations": 3}}, 4),
    "ppo, shared trunk": (train_ppo, ppo_config, PPO | {"critic": {"kind": "shared", "warmup_iterations": 2}}, 4),
}
ONLY_TIMING = {"seconds", "time/rollout_seconds", "time/iteration_seconds"}


class Killed(BaseException):
    """As kill -9: nothing may catch it and tidy up."""


def kill_at(step: int, monkeypatch) -> None:
    log = Run.log

    def logged(self, at, metrics):
        if at == step:
            raise Killed
        log(self, at, metrics)

    monkeypatch.setattr(Run, "log", logged)


def rows(folder: Path) -> list[dict]:
    return [
        {k: v for k, v in json.loads(line).items() if k not in ONLY_TIMING} for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]


def last_checkpoint(folder: Path) -> Path:
    return sorted((folder / "ckpt").iterdir())[-1]


@pytest.fixture(scope="module")
def undisturbed(small, tmp_path_factory):
    done = {}

    def of(name: str) -> Path:
        if name not in done:
            recipe, make, over, _ = RECIPES[name]
            done[name] = tmp_path_factory.mktemp("undisturbed") / "run"
            recipe(make(small, done[name], over))
        return done[name]

    return of


@pytest.mark.parametrize("name", RECIPES)
def test_a_resumed_run_ends_with_the_weights_and_metrics_of_an_undisturbed_one(small, tmp_path, monkeypatch, undisturbed, name):
    recipe, make, over, total = RECIPES[name]
    folder = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(total - 1, patch)                                    # after the last checkpoint but one, before the end
        recipe(make(small, folder, over))
    assert not (folder / "result.json").exists() and (folder / "ckpt").exists()
    recipe(make(small, folder, over, {"resume": True}))
    assert same_weights(last_checkpoint(folder), last_checkpoint(undisturbed(name)))          # weights, critic, optimizer, moments
    assert rows(folder) == rows(undisturbed(name))
    state = [json.loads((last_checkpoint(f) / "train/state.json").read_text()) for f in (folder, undisturbed(name))]
    assert state[0] == state[1]


@pytest.mark.parametrize("name", ["pretrain", "sft", "reward", "ppo"])
def test_a_run_killed_between_its_last_checkpoint_and_its_end_finishes_with_the_same_result(
    small, tmp_path, monkeypatch, undisturbed, name
):
    recipe, make, over, _ = RECIPES[name]
    folder = tmp_path / "run"

    def killed(self, result):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Run, "finish", killed)
        recipe(make(small, folder, over))
    again = recipe(make(small, folder, over, {"resume": True}))
    expected = json.loads((undisturbed(name) / "result.json").read_text())
    for result in (again, expected):
        result.pop("seconds"), result.pop("path"), result.pop("model"), result.pop("report", None)
    assert json.loads(json.dumps(again)) == expected
    assert same_weights(last_checkpoint(folder), last_checkpoint(undisturbed(name))) and rows(folder) == rows(undisturbed(name))


def test_another_reading_of_the_same_data_is_other_data(small, tmp_path, monkeypatch):
    rows = [{"q": f"what is {n}?", "a": "this", "b": "that"} for n in range(24)]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def read_as(answer: str) -> None:
        info = {"mine": {"file_name": "mine.jsonl", "columns": {"prompt": "q", "response": answer}}}
        (tmp_path / "dataset_info.json").write_text(json.dumps(info))

    over = {"data": {"files": [str(tmp_path / "mine.jsonl")]}, "save": {"every_steps": 2}}
    read_as("a")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(4, patch)
        train_sft(sft_config(small, tmp_path / "run", over))
    read_as("b")
    with pytest.raises(ConfigError, match="data: .*dataset_info.json has changed"):
        train_sft(sft_config(small, tmp_path / "run", {**over, "resume": True}))


def test_the_state_that_ppo_carries_is_in_its_checkpoint(undisturbed):
    state = json.loads((last_checkpoint(undisturbed("ppo")) / "train/state.json").read_text())["values"]
    assert state["kl_coef"] != 0.05 and state["moments"]["count"] == 32 and state["optimizer_steps"] == 16
    assert {name.split("/")[0] for name in weights(last_checkpoint(undisturbed("ppo")))} == {"critic", "model", "train"}


# -- real processes ------------------------------------------------------------------------------------------------------


LONG = {"train": {"max_steps": 120}, "eval": {"every_steps": 5}}
UNHURRIED = """
import sys, time
from tutelage.cli.main import main
from tutelage.train.run import Run
log = Run.log
Run.log = lambda *row: (log(*row), time.sleep(0.1))     # so that the signal comes in time on a busy machine
main(["sft", sys.argv[1]])
"""


def start(small, folder: Path, file: Path) -> subprocess.Popen:
    file.write_text(dump_config(sft_config(small, folder, LONG)))
    return subprocess.Popen([sys.executable, "-c", UNHURRIED, str(file)], env=environment(), text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def has_rows(process: subprocess.Popen, folder: Path, count: int) -> bool:
    assert process.poll() is None, process.communicate()[1]
    file = folder / "metrics.jsonl"
    return file.exists() and len(file.read_text().splitlines()) >= count


@pytest.fixture(scope="module")
def killed_processes(small, tmp_path_factory):
    """Three real runs, stopped by three signals after some steps: signal -> (folder, exit code, stderr)."""
    root = tmp_path_factory.mktemp("signals")
    started = {signum: (root / signum.name, start(small, root / signum.name, root / f"{signum.name}.yaml"))
               for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)}
    outcome = {}
    while waiting := {s: started[s] for s in started if s not in outcome}:
        for signum, (folder, process) in waiting.items():
            if not has_rows(process, folder, 8):
                continue
            if signum == signal.SIGTERM:
                cfg = sft_config(small, folder, yaml.safe_load((root / "SIGTERM.yaml").read_text()), {"resume": True})
                with pytest.raises(ConfigError, match="another process is running in"):
                    train_sft(cfg)
            process.send_signal(signum)
            outcome[signum] = (folder, process)
        time.sleep(0.01)
    stderr = {signum: process.communicate(timeout=60)[1] for signum, (_, process) in outcome.items()}
    return {signum: (folder, process.returncode, stderr[signum]) for signum, (folder, process) in outcome.items()}


@pytest.fixture(scope="module")
def long_sft(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("long") / "run"
    train_sft(sft_config(small, folder, LONG))
    return folder


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_process_stopped_by_a_signal_resumes_to_the_same_weights(small, tmp_path, killed_processes, long_sft, signum, code):
    killed, returncode, stderr = killed_processes[signum]
    assert returncode == code
    if signum != signal.SIGKILL:
        said = [line for line in stderr.splitlines() if line.startswith(("error:", "hint:"))]
        assert len(said) == 2 and "checkpoint saved" in said[0]
        assert said[1].endswith(f"tutelage sft {killed}/config.yaml --run-dir {killed} --resume")
    folder = Path(shutil.copytree(killed, tmp_path / "copy"))
    done = len(rows(folder))
    result = train_sft(sft_config(small, folder, yaml.safe_load((killed / "config.yaml").read_text()),
                                  {"resume": True, "run_dir": str(folder)}))
    assert 8 <= done < 120 and result["steps"] == 120
    assert same_weights(Path(result["model"]), long_sft / "ckpt" / (long_sft / "latest").read_text().strip() / "model")
    assert rows(folder) == rows(long_sft)
