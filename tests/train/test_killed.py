"""A run killed at any line of the code that keeps it, and resumed, leaves what an undisturbed one leaves."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.small import environment

SCRIPT = '''
import json, os, signal, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from tutelage.base.config import RunConfig
from tutelage.train.checkpoint import TrainState
from tutelage.train.run import Run
from tutelage.train.sections import SaveSection

class ToyConfig(RunConfig):
    save: SaveSection = SaveSection(every_steps=2, keep_last=2)

def train(folder, resume):
    """Seven steps; the best comes at step 3, and step 4 is saved twice."""
    with Run.open(ToyConfig(run_dir=folder, resume=resume), "toy", inputs={"data": Path(__file__)}) as run:
        if run.finished():
            return
        weight = torch.zeros(4)
        state = TrainState(values={"best_step": 0, "sum": 0}, tensors={"weight": weight})
        run.restore(state)
        run.best_step, weight = state.values["best_step"], state.tensors["weight"]
        def write(to):
            (to / "model").mkdir()
            save_file({"weight": weight}, to / "model" / "model.safetensors")
        for step in run.steps(7, write_models=write, state=state):
            weight += torch.rand(4) * (step + 1)
            state.values["sum"] += step
            run.log(step, {"sum": state.values["sum"], "weight": weight.sum()})
            if step in (2, 3):
                run.best_step = state.values["best_step"] = 3
                run.save(step + 1, write, state)
        run.save(7, write, state)
        run.finish({"sum": state.values["sum"]})

def forked(work):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def counting(work, limit=None):
    """Run it; SIGKILL before the limit-th line of run.py, checkpoint.py, identity.py or files.py. Returns the number of lines."""
    lines = 0
    def on_line(frame, event, arg):
        nonlocal lines
        if event == "line":
            lines += 1
            if lines == limit:
                os.kill(os.getpid(), signal.SIGKILL)
        return on_line
    def on_call(frame, event, arg):
        name = frame.f_code.co_filename
        return on_line if name.endswith(("train/run.py", "train/checkpoint.py", "train/identity.py", "base/files.py")) else None
    sys.settrace(on_call)
    work()
    sys.settrace(None)
    return lines

import logging
logging.getLogger("tutelage").addHandler(logging.NullHandler())
root, stride, twice = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "twice"
train(root / "undisturbed", False)
total = counting(lambda: train(root / "counted", False))
killed = []
for limit in range(1, total + 1, stride):
    folder = root / f"kill-{limit:05d}"
    code = forked(lambda: counting(lambda: train(folder, False), limit))
    assert code == -signal.SIGKILL, (limit, code)
    if twice:
        forked(lambda: counting(lambda: train(folder, True), limit % 200 + 50))
    killed.append([folder.name, forked(lambda: train(folder, True))])
print(json.dumps({"total": total, "killed": killed}))
'''


def left(folder: Path) -> dict[str, str]:
    """sha256 of every file but those that name the folder or the time."""
    found = {}
    for file in (p for p in folder.rglob("*") if p.is_file() and p.name not in ("config.yaml", "lineage.json", "cost.json", ".lock")):
        data = file.read_bytes()
        if file.name in ("metrics.jsonl", "result.json"):
            rows = [json.loads(text) for text in (data.decode().splitlines() if file.suffix == ".jsonl" else [data.decode()])]
            data = json.dumps([{k: v for k, v in row.items() if k not in ("seconds", "path")} for row in rows]).encode()
        found[str(file.relative_to(folder))] = hashlib.sha256(data).hexdigest()
    return found


def kill_all(root: Path, stride: int, times: str) -> int:
    script = root / "toy.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, str(script), str(root), str(stride), times], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    expected = left(root / "undisturbed")
    assert {p.name for p in (root / "undisturbed/ckpt").iterdir()} == {"step-000003", "step-000006", "step-000007"}
    for name, code in outcome["killed"]:
        assert code == 0 and left(root / name) == expected, name
    return len(outcome["killed"])


def test_a_run_killed_at_lines_all_along_its_way_leaves_what_an_undisturbed_one_leaves(tmp_path):
    assert kill_all(tmp_path, 29, "once") > 40


@pytest.mark.slow
@pytest.mark.parametrize("times", ["once", "twice"])
def test_a_run_killed_at_any_line_leaves_what_an_undisturbed_one_leaves(tmp_path, times):
    assert kill_all(tmp_path, 1, times) > 1000
