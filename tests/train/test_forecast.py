"""A forecast adds up what it timed, and memory is what the process really held."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from tests.small import environment, reward_config, sft_config
from tutelage.recipes import reward_model
from tutelage.recipes.sft import preview, train_sft
from tutelage.train import forecast as module
from tutelage.train.forecast import Work, forecast, forget_peak, peak_memory_mb


class Clock:
    """Stands for `time`: nothing passes but what is said to."""

    def __init__(self, monkeypatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(module.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)

    def pass_(self, seconds: float) -> None:
        self.now += seconds


def test_the_seconds_are_set_up_plus_every_kind_of_work_times_its_mean(monkeypatch):
    clock = Clock(monkeypatch)
    started = clock.now
    clock.pass_(3.0)                                                 # data and models are opened
    works = {"step": Work(200, lambda i: clock.pass_(0.25), largest=lambda: clock.pass_(50.0)),        # the largest warms up, untimed
             "evaluation": Work(4, lambda i: clock.pass_(2.0)), "nothing": Work(0, lambda i: pytest.fail("not asked for"))}
    found = forecast(works, started=started, device="cpu")
    assert found["seconds"] == 3.0 + 200 * 0.25 + 4 * 2.0 and found["setup_seconds"] == 3.0
    assert (found["steps"], found["seconds_per_step"]) == (200, 0.25)
    assert found["evaluation"] == {"times": 4, "seconds_each": 2.0}


def test_the_timed_pieces_are_spread_over_the_whole_run(monkeypatch):
    # Pieces that grow from 0 to 1 s: the mean of eight must be near the run's mean of 0.5, and all belong to the run.
    clock, done = Clock(monkeypatch), []
    work = Work(1000, lambda i: (done.append(i), clock.pass_(i / 1000)))
    assert abs(work.seconds_each() - 0.5) < 0.06
    assert len(done) == 9 and done[0] == 0 and all(0 <= i < 1000 for i in done)
    assert max(b - a for a, b in zip(sorted(done[1:]), sorted(done[1:])[1:], strict=False)) < 250


def test_slow_pieces_are_timed_once(monkeypatch):
    clock, done = Clock(monkeypatch), []
    assert Work(50, lambda i: (done.append(i), clock.pass_(60.0))).seconds_each() == 60.0
    assert len(done) == 2                                            # the one that warms up, and the one


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux lets a process forget its peak")
def test_the_peak_is_that_of_what_came_after_it_was_forgotten():
    forget_peak("cpu")
    before = peak_memory_mb("cpu")
    held = torch.ones(60 * 2**20)                                    # 240 MB
    assert 235 < peak_memory_mb("cpu") - before < 260
    del held
    forget_peak("cpu")
    assert peak_memory_mb("cpu") - before < 100


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
def test_the_peak_is_not_that_of_the_process_that_started_this_one():
    held = torch.ones(500 * 2**20)                                   # 2 GB
    code = "import torch; from tutelage.train.forecast import peak_memory_mb; print(peak_memory_mb('cpu'))"
    peak = int(subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True).stdout)
    assert peak < held.nbytes / 2**20


def test_scoring_is_timed_on_answers_of_a_length_from_the_longest_down(small, tmp_path, monkeypatch):
    pieces: list[list[int]] = []
    read = reward_model.read_answers

    def reading(parts, answers, device):
        if not torch.is_grad_enabled():
            pieces.append([len(answer.tokens) for answer in answers])
        return read(parts, answers, device)

    monkeypatch.setattr(reward_model, "read_answers", reading)
    reward_model.preview(reward_config(small, tmp_path / "run", {"eval": {"every_steps": 1}}))
    together = [length for piece in pieces for length in piece]
    assert max(together) == pieces[0][0] and len(pieces) > 3        # the first is for memory
    assert all(piece == sorted(piece, reverse=True) for piece in pieces) and min(together) < max(together)


def test_a_reward_models_report_is_made_once_with_its_baselines(small, tmp_path, monkeypatch):
    made: list[bool] = []
    report = reward_model.held_out_report
    monkeypatch.setattr(reward_model, "held_out_report", lambda *a: made.append("baselines" in (found := report(*a))["pairs"]) or found)
    assert reward_model.preview(reward_config(small, tmp_path / "run"))["forecast"]["report"]["times"] == 1
    assert made == [True]


def test_a_reward_models_largest_step_is_done_first(small, tmp_path, monkeypatch):
    done: list[int] = []
    monkeypatch.setattr(reward_model, "train_step", lambda parts, optimizer, items, cfg, run: done.append(
        sum(len(answer.tokens) for answer in reward_model.answers_of(items))))
    reward_model.preview(reward_config(small, tmp_path / "run", {"train": {"max_steps": 8}}))
    assert len(done) == 9 and done[0] == max(done) > min(done)      # eight to time, after the one that needs the most memory


def test_a_dry_run_leaves_nothing_and_forecasts_the_memory_of_the_run(small, tmp_path):
    cfg = sft_config(small, tmp_path / "run", {"train": {"max_steps": 20}})
    found = preview(cfg)["forecast"]
    assert not (tmp_path / "run").exists() and found["steps"] == 20 and found["evaluation"]["times"] == 4
    forget_peak("cpu")
    train_sft(cfg)
    assert found["peak_memory_mb"] == pytest.approx(peak_memory_mb("cpu"), rel=0.15)     # the same process, the same shapes
