"""How fast and in how much memory preference rows are read, checked, converted and split.

usage: python benchmarks/read_rows.py [--rows 1000000] [--gigabytes 0] [--folder FOLDER]

Writes --rows preference rows of about 600 bytes, then in a fresh process each: reads them into judgements one at a time, reads them into a
list, runs `data check`, runs `data convert`, and looks for near duplicates between a twentieth of a million distinct prompts and the rest.
Prints seconds of processor time and the peak of resident memory. --gigabytes N also streams a file of that size through the reader.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROW_BYTES = 600


def write(path: Path, rows: int) -> None:
    fill = ("you boil the water and wait a while. " * 6, "I do not know, ask another person. " * 5)
    with open(path, "w") as file:
        for i in range(rows):
            file.write(json.dumps({"prompt": f"Question {i}: what is the best way to make tea number {i % 977}? " * 2,
                                   "chosen": f"Answer {i}: {fill[0]}", "rejected": f"Answer {i}: {fill[1]}"}) + "\n")


def measure(what: str, path: Path) -> None:
    from tutelage.base.near import near_any
    from tutelage.text.check import check
    from tutelage.text.convert import convert
    from tutelage.text.readers import iter_judgements, read_judgements

    started, clock = time.process_time(), time.perf_counter()
    if what == "iterate":
        count = sum(1 for _ in iter_judgements(path))
    elif what == "hold":
        count = len(read_judgements(path).rows)
    elif what == "check":
        count = check(path, None, {}).report()["rows"]
    elif what == "convert":
        count = convert(path, "sharegpt-preference", path.with_suffix(".out.jsonl")).rows_written
        path.with_suffix(".out.jsonl").unlink()
    else:
        rows = [row.prompt[0].content for row in iter_judgements(path)]
        started, clock = time.process_time(), time.perf_counter()
        count = len(near_any(rows[len(rows) // 20:], rows[:len(rows) // 20]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{what:<8} {count:>11,} rows  {time.process_time() - started:6.1f} s of processor  {time.perf_counter() - clock:6.1f} s  "
          f"{peak:6.0f} MB at most", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--gigabytes", type=float, default=0)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--measure", nargs=2, metavar=("WHAT", "FILE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure[0], Path(arguments.measure[1]))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        jobs = [("rows.jsonl", arguments.rows, ["iterate", "hold", "check", "convert", "near"])]
        if arguments.gigabytes:
            jobs.append(("large.jsonl", int(arguments.gigabytes * 1e9 / ROW_BYTES), ["iterate", "check"]))
        for name, rows, steps in jobs:
            path = Path(folder) / name
            write(path, rows)
            print(f"{name}: {rows:,} rows, {path.stat().st_size / 1e9:.2f} GB")
            for step in steps:
                subprocess.run([sys.executable, __file__, "--measure", step, str(path)], check=True, env=os.environ)
            path.unlink()


if __name__ == "__main__":
    main()
