"""What --dry-run forecasts of each stage beside what the stage took.

    python benchmarks/forecast.py RUN [RUN ...]          finished pipelines, such as runs/film, or single runs

Each stage's dry run is a process of its own on the settings and inputs the run recorded; the truth is the run's cost.json. Prints a
markdown table. Time is told in wall-clock seconds, so both have to have the machine to themselves.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

VERBS = ("pretrain", "sft", "reward", "ppo")


def stages(folder: Path) -> list[Path]:
    """The runs in a pipeline's folder, in the order they were made; the folder itself where it is a run."""
    inside = sorted(folder.rglob("cost.json"), key=lambda file: file.stat().st_mtime)
    return [file.parent for file in inside if json.loads((file.parent / "lineage.json").read_text()).get("verb") in VERBS]


def dry_run(run: Path) -> dict[str, Any]:
    """The forecast of a process that sees what the run saw."""
    verb = json.loads((run / "lineage.json").read_text())["verb"]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tutelage.cli.main", verb, str(run / "config.yaml"), "resume=false", "--run-dir", f"{folder}/run",
                   "--dry-run", "--json", "-q"]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{run}: {done.stderr.strip()}")
    return json.loads(done.stdout)["forecast"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    print("| stage | forecast | took | | forecast | peak | |\n|---|---|---|---|---|---|---|")
    for run in (stage for folder in parser.parse_args().runs for stage in stages(folder)):
        told, truth = dry_run(run), json.loads((run / "cost.json").read_text())["truth"]
        cells = [f"{run.parent.name}, `{run.name}`"]
        for name, unit in (("seconds", "s"), ("peak_memory_mb", "MB")):
            cells += [f"{told[name]:.0f} {unit}", f"{truth[name]:.0f} {unit}", f"{told[name] / truth[name] - 1:+.0%}"]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
