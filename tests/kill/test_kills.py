"""SIGKILL at a random moment, then --resume: the ending of an undisturbed run, to the last bit, and nothing half-written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.kill.harness import Server, kill_stage

KILLS = {"pretrain": 25, "sft": 25, "reward": 25, "ppo": 25, "sample": 5, "evaluate": 5, "run": 10}


@contextmanager
def servers(count: int) -> Iterator[list[Server]]:
    started = [Server() for _ in range(count)]
    try:
        for server in started:
            server.ready()
        yield started
    finally:
        for server in started:
            server.close()


@pytest.fixture(scope="module")
def one() -> Iterator[list[Server]]:
    with servers(1) as started:
        yield started * 2


@pytest.fixture(scope="module")
def two() -> Iterator[list[Server]]:
    with servers(2) as started:
        yield started


def check(stage: str, kills: int, small, root, killing: Server, resuming: Server) -> None:
    row = kill_stage(stage, small, kills, root, seed=0, killing=killing, resuming=resuming)
    assert row.faults == []
    assert (row.kills, row.identical, row.torn) == (kills, kills, 0)


@pytest.mark.parametrize("stage", ["pretrain", "sft", "reward", "ppo"])
def test_a_killed_process_resumes_to_the_ending_of_an_undisturbed_one(small, tmp_path, one, stage):
    check(stage, 1, small, tmp_path, *one)


@pytest.mark.slow
@pytest.mark.parametrize("stage", KILLS)
def test_a_hundred_killed_processes_resume_to_the_ending_of_an_undisturbed_one(small, tmp_path, two, stage):
    check(stage, KILLS[stage], small, tmp_path, *two)
