"""Kills runs with SIGKILL at random moments, resumes them, and compares the endings with that of an undisturbed run.

`python -m tests.kill.harness --kills 25` prints the table of docs/resume.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from tests.small import Small, config, environment, make_small, ppo_config, pretrain_config, reward_config, sample_config, sft_config
from tutelage.base.config import RunConfig, dump_config
from tutelage.base.errors import ArtifactError
from tutelage.base.files import verify_manifest
from tutelage.recipes.evaluate import EvaluateConfig
from tutelage.recipes.pipeline import PipelineConfig


def _pretrain(small: Small, folder: Path) -> RunConfig:
    """From nothing: the tokenizer is learnt too."""
    return pretrain_config(small, folder, {"model": {"init": None, "preset": "nano", "vocab_size": 320},
                                           "train": {"max_steps": 10}, "save": {"every_steps": 2, "keep_last": 2}})


def _sft(small: Small, folder: Path) -> RunConfig:
    """Best-held-out tracking beside keep_last."""
    return sft_config(small, folder, {"train": {"max_steps": 20}, "eval": {"every_steps": 3, "patience": 4},
                                      "optim": {"learning_rate": 2e-2}, "save": {"every_steps": 2, "keep_last": 2}})


def _reward(small: Small, folder: Path) -> RunConfig:
    return reward_config(small, folder, {"train": {"max_steps": 16}, "eval": {"every_steps": 4}})


def _ppo(small: Small, folder: Path) -> RunConfig:
    """Everything that a loop carries: KL controller, running moments, critic warm-up, pretraining mix. Answers are decoded one by one,
    since products with a single row are the ones whose rounding hangs on where the weights lie in memory."""
    return ppo_config(small, folder, {
        "model": {"policy": str(foreign(small))}, "rollout": {"batch_size": 1},
        "algo": {"num_iterations": 6, "kl_target": 0.5, "kl_horizon": 50, "normalize_scores": True, "score_clip": 3.0},
        "critic": {"warmup_iterations": 2}, "ptx": {"files": [str(small.corpus)], "coef": 0.5, "batch_size": 2, "context_tokens": 32},
        "save": {"every_steps": 1, "keep_last": 3}})


def _sample(small: Small, folder: Path) -> RunConfig:
    return sample_config(small, folder, {"data": {"limit": 90}, "rollout": {"batch_size": 12}})


def _evaluate(small: Small, folder: Path) -> RunConfig:
    return config(EvaluateConfig, folder, {
        "models": {"base": {"path": str(small.base), "plain": True}, "sft": {"path": str(small.sft)}}, "reward": str(small.reward),
        "data": {"files": [str(small.prompts)]}, "all_prompts": True, "max_prompts": 40, "rollout": {"max_tokens": 6}})


def _pipeline(small: Small, folder: Path) -> RunConfig:
    """Three stages; the same command goes on with whichever was killed."""
    stages = {"sft": _sft(small, folder), "sample": _sample(small, folder), "ppo": _ppo(small, folder)}
    ours = {"run_dir", "resume", "seed", "device"}                   # a stage gets these from its pipeline
    written = {verb: {"verb": verb, "config": cfg.model_dump(mode="json", exclude=ours, exclude_defaults=True)}
               for verb, cfg in stages.items()}
    written["sample"]["config"]["model"] = {"policy": "${run}/sft"}
    return config(PipelineConfig, folder, {"stages": written})


def foreign(small: Small) -> Path:
    """The policy as another tool would have saved it: the same weights behind a header of another length."""
    folder = small.sft.parent / "foreign"
    if not folder.exists():
        shutil.copytree(small.sft, folder)
        weights = load_file(folder / "model.safetensors")
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt", "tool": "of somebody else"})
    return folder


STAGES: dict[str, Callable[[Small, Path], RunConfig]] = {
    "pretrain": _pretrain, "sft": _sft, "reward": _reward, "ppo": _ppo, "sample": _sample, "evaluate": _evaluate, "run": _pipeline}


class Server:
    """Handle of a tests.kill.server process."""

    def __init__(self) -> None:
        self.process = subprocess.Popen([sys.executable, "-m", "tests.kill.server"], env=environment(), cwd=Path(__file__).parents[2],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(self, *arguments: str, output: Path, **setting: Any) -> int:
        """Returns the new process's id. setting: more of tests.kill.server's request."""
        return self._ask({"arguments": arguments, "output": str(output), **setting})

    def wait(self, pid: int) -> int:
        """Exit code; minus the signal's number when one ended the process."""
        return self._ask({"wait": pid})

    def ready(self) -> None:
        assert self.process.stdout is not None and self.process.stdout.readline() == "ready\n"

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _ask(self, request: dict[str, Any]) -> int:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@dataclass
class Row:
    """What became of the kills of one stage."""

    stage: str
    seconds: float
    """Of the undisturbed run."""
    kills: int = 0
    identical: int = 0
    torn: int = 0
    """Artifacts found half-written under their own name."""
    writing: int = 0
    """Kills that came while a file or checkpoint was being written."""
    before_first: int = 0
    """Kills before the first checkpoint."""
    faults: list[str] = field(default_factory=list)


def kill_stage(stage: str, small: Small, kills: int, root: Path, *, seed: int, killing: Server, resuming: Server) -> Row:
    """An undisturbed run, then `kills` runs that are killed once and resumed. The two servers hash strings differently, as processes do."""
    rng = random.Random(f"{stage} {seed}")
    started = time.monotonic()
    assert launch(killing, stage, small, root / "undisturbed") == 0, (root / "undisturbed.txt").read_text()
    row = Row(stage, time.monotonic() - started)
    expected = fingerprint(root / "undisturbed")
    while row.kills < kills:
        folder = root / f"kill-{row.kills:03d}"
        moment = rng.uniform(0, row.seconds)
        if launch(killing, stage, small, folder, kill_after=moment) == 0:
            shutil.rmtree(folder)                                    # it was quicker than the kill
            continue
        torn, writing = inspect(folder)
        row.kills, row.torn, row.writing = row.kills + 1, row.torn + len(torn), row.writing + writing
        row.before_first += not list(folder.rglob("step-*"))
        code = launch(resuming, stage, small, folder, resume=True)
        found = fingerprint(folder) if code == 0 else {}
        different = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        row.identical += not different
        if torn or different:
            row.faults.append(f"{folder} killed after {moment:.3f} s: torn {torn}, exit code {code}, different {different[:5]}")
        else:
            shutil.rmtree(folder)
    return row


def launch(server: Server, stage: str, small: Small, folder: Path, *, resume: bool = False, kill_after: float | None = None) -> int:
    """Run a stage in a process of its own, killed after some seconds if asked. Returns its exit code."""
    file = folder.with_suffix(".yaml")
    file.write_text(dump_config(STAGES[stage](small, folder)), encoding="utf-8")
    pid = server.start(stage, str(file), *(["--resume"] if resume else []), output=folder.with_suffix(".txt"))
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(pid, signal.SIGKILL)                                 # one that ended is not reaped before `wait`: nobody else has its id
    return server.wait(pid)


def inspect(folder: Path) -> tuple[list[str], bool]:
    """(what is half-written under its own name, whether something was being written) in the directory of a killed run."""
    torn = []
    for checkpoint in folder.glob("**/ckpt/step-*"):
        try:
            verify_manifest(checkpoint)
        except ArtifactError as error:
            torn.append(str(error))
    for file in (*folder.glob("**/*.json"), *folder.glob("**/answers.jsonl")):
        if any(part.startswith(".") for part in file.relative_to(folder).parts):
            continue
        try:
            for text in file.read_text().splitlines() if file.suffix == ".jsonl" else [file.read_text()]:
                json.loads(text)
        except ValueError as error:
            torn.append(f"{file}: {error}")
    torn += [f"{latest} names {name}" for latest in folder.glob("**/latest")
             if not (latest.parent / "ckpt" / (name := latest.read_text().strip())).exists()]
    return torn, any(".tmp-" in path.name or ".old-" in path.name for path in folder.rglob(".*"))


def fingerprint(folder: Path) -> dict[str, str]:
    """sha256 of every file of a run: weights, optimizer, tokenizer, manifests, metrics and result, without times and its own path."""
    found = {}
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        name, data = str(file.relative_to(folder)), file.read_bytes()
        if file.name in ("config.yaml", "lineage.json", "cost.json", ".lock"):    # these name the folder or the time
            continue
        if file.name in ("metrics.jsonl", "result.json"):
            rows = [json.loads(text) for text in (data.splitlines() if file.suffix == ".jsonl" else [data])]
            data = json.dumps([{k: v for k, v in row.items() if not k.endswith("seconds")} for row in rows]).encode()
        found[name] = hashlib.sha256(data.replace(str(folder).encode(), b"RUN")).hexdigest()
    return found


def table(rows: list[Row]) -> str:
    """Markdown."""
    lines = ["| stage | kills | before the first checkpoint | while something was being written | identical endings | torn artifacts |",
             "|---|---|---|---|---|---|"]
    total = Row("together", 0.0, *(sum(getattr(row, name) for row in rows) for name in ("kills", "identical", "torn", "writing",
                                                                                        "before_first")))
    return "\n".join(lines + [f"| {r.stage} | {r.kills} | {r.before_first} | {r.writing} | {r.identical} | {r.torn} |"
                              for r in (*rows, total)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=25, help="per stage")
    parser.add_argument("--stages", nargs="+", default=["pretrain", "sft", "reward", "ppo"], choices=STAGES)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    started = time.monotonic()
    root = Path(tempfile.mkdtemp(prefix="kills-"))
    servers = Server(), Server()
    (root / "small").mkdir()
    small = make_small(root / "small")
    rows = []
    for server in servers:
        server.ready()
    for stage in given.stages:
        (root / stage).mkdir()
        rows.append(kill_stage(stage, small, given.kills, root / stage, seed=given.seed, killing=servers[0], resuming=servers[1]))
        print(json.dumps(asdict(rows[-1])), file=sys.stderr, flush=True)
    for server in servers:
        server.close()
    print(table(rows))
    print(f"\n{time.monotonic() - started:.0f} s")
    if not any(row.faults for row in rows):
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
