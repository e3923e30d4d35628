"""Hostile input through the real doors: 0 tracebacks, 0 hangs, 0 code executed, 0 artifacts harmed (docs/hostile.md)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hostile import adapters, commands, configs, data_files, layouts, models, runs
from tests.hostile.judge import Bench, Case
from tests.kill.harness import Server

CASES = [(case, slow) for room in (data_files, layouts, configs, models, adapters, runs, commands) for case, slow in room.cases()]


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    started = Server()
    started.ready()
    yield started
    started.close()


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name, marks=[pytest.mark.slow] if slow else []) for case, slow in CASES])
def test_hostile_input_is_refused_or_read_and_nothing_comes_to_harm(server, small, tmp_path, case: Case):
    bench = Bench(server, small, tmp_path)
    for call in case.make(bench):
        bench.judge(call)


def test_at_least_five_hundred_inputs_are_judged(capsys):
    names = [case.name for case, _ in CASES]
    with capsys.disabled():
        print(f"\n{len(names)} hostile inputs, {sum(slow for _, slow in CASES)} of them in `make test-all` only")
    assert len(set(names)) == len(names) >= 500
