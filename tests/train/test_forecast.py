"""A forecast adds up what it timed, a run tells the truth beside its own, and memory is what the process really held."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
import torch

from tests.small import environment, reward_config, sft_config
from tutelage.recipes import reward_model
from tutelage.recipes.sft import preview, train_sft
from tutelage.train import forecast as module
from tutelage.train.forecast import Watch, Work, duration, forecast, forget_peak, peak_memory_mb, tell_truth


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


def test_a_run_of_even_steps_is_forecast_exactly_and_its_truth_stands_beside(monkeypatch, tmp_path, caplog):
    clock = Clock(monkeypatch)
    watch = Watch(100, clock.now)
    clock.pass_(7.0)
    caplog.set_level("INFO", logger="tutelage")
    for step in range(100):
        clock.pass_(2.0 if step == 0 else 0.5)                       # the first holds the audits
        watch.step("cpu")
    assert watch.forecast == {"after_steps": 5, "seconds": 7.0 + 2.0 + 99 * 0.5}
    tell_truth(tmp_path, watch, 60.25, "cpu")
    cost = json.loads((tmp_path / "cost.json").read_text())
    assert cost["truth"]["seconds"] == 60.2 and cost["forecast"] == watch.forecast
    assert "took 60.2 s (forecast after 5 steps: 58.5 s), " in caplog.text


def test_a_run_of_three_steps_has_no_forecast():
    watch = Watch(3, 0.0)
    for _ in range(3):
        watch.step("cpu")
    assert watch.forecast is None


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
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has malloc_trim")
def test_what_the_stage_before_freed_goes_back_to_the_system():
    blocks = [torch.ones(16_000) for _ in range(4000)]              # 256 MB in pieces that malloc takes from its heap
    last = blocks[-1]                                               # holds the heap's end, so that free alone gives nothing back
    full = peak_memory_mb("cpu")
    del blocks
    forget_peak("cpu")
    assert full - peak_memory_mb("cpu") > 200
    assert last.sum() == 16_000


def test_the_peak_is_not_that_of_the_process_that_started_this_one():
    held = torch.ones(500 * 2**20)                                   # 2 GB
    code = "import torch; from tutelage.train.forecast import peak_memory_mb; print(peak_memory_mb('cpu'))"
    peak = int(subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True).stdout)
    assert peak < held.nbytes / 2**20


@pytest.mark.parametrize(("seconds", "said"), [(0.04, "0.0 s"), (119.9, "119.9 s"), (250, "4 min 10 s"), (7500, "2 h 5 min")])
def test_durations_read_well(seconds, said):
    assert duration(seconds) == said


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


def test_a_dry_run_leaves_nothing_and_a_run_tells_what_it_took(small, tmp_path, caplog):
    caplog.set_level("INFO", logger="tutelage")
    cfg = sft_config(small, tmp_path / "run", {"train": {"max_steps": 20}})
    found = preview(cfg)["forecast"]
    assert not (tmp_path / "run").exists() and found["steps"] == 20 and found["evaluation"]["times"] == 4
    started = time.monotonic()
    train_sft(cfg)
    cost = json.loads((tmp_path / "run" / "cost.json").read_text())
    assert 0 < cost["truth"]["seconds"] <= time.monotonic() - started + 0.1 and cost["forecast"]["after_steps"] == 3
    assert found["peak_memory_mb"] == pytest.approx(cost["truth"]["peak_memory_mb"], rel=0.15)       # the same process, the same shapes
