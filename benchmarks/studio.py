"""How long a page of the studio takes while 200 people work in it, and how many it gives at most.

usage: python benchmarks/studio.py [--sessions 200] [--seconds 60] [--think 5 15] [--judgements 100000] [--closed 20] [--url URL]

The server is `tutelage studio` in a process of its own, on a store that holds --judgements judgements. Each session is one person on one
kept connection who submits a comparison, is given the next one in the same answer, and thinks for a time drawn from --think seconds before
the next: what is counted is from the press of the button to the last byte. Then, for --closed seconds, nobody thinks: each session asks
again as soon as it is answered, which is the most this server can do with the clients on the same cores. Prints one JSON object a part.

--url: an empty PostgreSQL database instead of a new SQLite file.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.store import fill, machine
from tests.studio.visit import Page, Visit
from tutelage.feedback import accounts
from tutelage.feedback.store import Store


class Person(threading.Thread):
    """Judges one task after the other. Waits in seconds, of submissions alone."""

    def __init__(self, visit: Visit, number: int) -> None:
        super().__init__(daemon=True)
        self.visit, self.rng = visit, random.Random(number)
        self.think: tuple[float, float] | None = (0.0, 0.0)         # None: stop
        self.waits: list[float] = []
        self.wrong: Counter[str] = Counter()

    def run(self) -> None:
        page = self.visit.work()
        while (think := self.think) is not None:
            time.sleep(self.rng.uniform(*think))
            begin = time.perf_counter()
            page = self._judge(page)
            self.waits.append(time.perf_counter() - begin)

    def _judge(self, page: Page) -> Page:
        if page.assignment_id is None:
            self.wrong[f"no task: {page.status}"] += 1
            return self.visit.work()
        answer = self.visit.judge(page, choice=str(self.rng.randint(1, 8)))
        if answer.status != 200 or answer.refused:
            self.wrong[f"{answer.status} {answer.refused}"] += 1
            return self.visit.work()
        return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url")
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--think", type=float, nargs=2, default=(5.0, 15.0))
    parser.add_argument("--judgements", type=int, default=100_000)
    parser.add_argument("--closed", type=float, default=20.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = options.url or str(Path(folder) / "studio.db")
        with Store.open(url) as store:
            fill(store, options.sessions, options.judgements)
            keys = store.write(lambda conn: [accounts.open_session(conn, 1 + i, now=store.now()) for i in range(options.sessions)])
        server = subprocess.Popen([sys.executable, "-m", "tutelage.cli.main", "studio", "--db", url, "--port", "0"], text=True,
                                  stdout=subprocess.PIPE)
        assert server.stdout is not None
        address = re.search(r"http://\S+", server.stdout.readline())
        assert address is not None, "the studio did not start"
        cookie = f"tutelage-{address[0].rpartition(':')[2]}"
        people = [Person(Visit(address[0], f"{cookie}={key}"), number) for number, key in enumerate(keys)]
        about = {"sessions": options.sessions, "judgements_before": options.judgements, **machine()}
        for person in people:
            person.think = tuple(options.think)
            person.start()
        time.sleep(options.think[1])                                # everybody has their first page
        print(json.dumps({"part": "working", "think_seconds": options.think, **about, **measured(people, options.seconds)}), flush=True)
        for person in people:
            person.think = (0.0, 0.0)
        time.sleep(options.think[1])                                # whoever still thinks is done
        print(json.dumps({"part": "as fast as answered", **about, **measured(people, options.closed)}), flush=True)
        for person in people:
            person.think = None
        for person in people:
            person.join(60)
        server.terminate()
        server.wait()


def measured(people: list[Person], seconds: float) -> dict[str, Any]:
    """What the sessions waited for in so many seconds from now."""
    begin = [len(person.waits) for person in people]
    wrong = sum((person.wrong for person in people), Counter())
    time.sleep(seconds)
    waits = sorted(wait for person, start in zip(people, begin, strict=True) for wait in person.waits[start:])
    cuts = statistics.quantiles(waits, n=100)
    return {"seconds": seconds, "pages": len(waits), "pages_a_second": round(len(waits) / seconds, 1),
            "ms": {"p50": round(1000 * cuts[49], 1), "p95": round(1000 * cuts[94], 1), "p99": round(1000 * cuts[98], 1),
                   "max": round(1000 * waits[-1], 1)},
            "errors": dict(sum((person.wrong for person in people), Counter()) - wrong)}


if __name__ == "__main__":
    main()
