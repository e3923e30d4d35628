"""How fast feedback comes into a store and goes out: python benchmarks/feedback_files.py [--judgements 100000]

Comparisons of answers of 300 characters, three people to a pair, in our own JSON lines, into a new SQLite store with fsync.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import tempfile
import time
from pathlib import Path

from tutelage.feedback.io.exporting import export
from tutelage.feedback.io.importing import import_files
from tutelage.feedback.stats import stats
from tutelage.feedback.store import Store


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--judgements", type=int, default=100_000)
    args = parser.parse_args()
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with open(folder / "in.jsonl", "w", encoding="utf-8") as file:
            for number in range(args.judgements):
                pair = number // 3
                answers = [{"text": f"answer {pair}{side} ".ljust(300, "x"), "model": "m"} for side in "ab"]
                file.write(json.dumps({"prompt": [{"role": "user", "content": f"question {pair // 2}"}], "responses": answers,
                                       "ranks": rng.choice([[0, 1], [1, 0], [0, 0]]), "labeler": f"person {rng.randrange(40)}",
                                       "seconds": 7.5, "at": "2026-03-02T09:00:00+00:00"}) + "\n")
        print(f"{args.judgements:,} judgements, {(folder / 'in.jsonl').stat().st_size / 1e6:.0f} MB")
        with Store.open(folder / "studio.db") as store:
            _timed("import", lambda: import_files(store, folder / "in.jsonl"))
            _timed("import again", lambda: import_files(store, folder / "in.jsonl"))
            _timed("export to judgements", lambda: export(store, folder / "out.jsonl", "judgements"))
            _timed("export to label-studio", lambda: export(store, folder / "out.json", "label-studio"))
            with store.read() as conn:
                _timed("stats without intervals", lambda: stats(conn, resamples=0))


def _timed(what: str, work) -> None:
    start, cpu = time.perf_counter(), time.process_time()
    work()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(f"{what:<24} {time.perf_counter() - start:6.1f} s ({time.process_time() - cpu:.1f} s of a core), memory at most {most:.0f} MB")


if __name__ == "__main__":
    main()
