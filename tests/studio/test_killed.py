"""kill -9 of the studio at random moments while people work in it: what a page said was taken is in the store, once."""

from __future__ import annotations

import random
import re
import signal
import threading
import time
from collections import Counter
from http.client import HTTPException

import pytest
from sqlalchemy import func, select

from tests.feedback.world import comparisons
from tests.studio.visit import Visit
from tutelage.feedback import accounts, schema
from tutelage.feedback.store import Store

PEOPLE, OVERLAP = 8, 2


class Worker(threading.Thread):
    """Judges until told to stop. Where the server goes away in the middle of a submission, the same form is sent again."""

    def __init__(self, url: str, cookie: str, labeler_id: int) -> None:
        super().__init__()
        self.visit, self.labeler_id, self.over = Visit(url, cookie), labeler_id, threading.Event()
        self.taken: list[tuple[int, int]] = []                      # assignment, choice: a page said so
        self.resent, self.strange = 0, list[str]()
        self._rng = random.Random(labeler_id)

    def run(self) -> None:
        page = None
        while not self.over.is_set():
            page = page or self._through(self.visit.work)
            if page is None or page.assignment_id is None:
                page = None
                self.over.wait(0.05)
                continue
            choice = self._rng.randint(1, 8)
            sent, judged = page, self._through(lambda page=page, choice=choice: self.visit.judge(page, choice=str(choice)))
            if judged is not None and judged.status == 200 and judged.refused is None:
                self.taken.append((int(sent.assignment_id), choice))
            elif judged is not None:
                self.strange.append(f"{judged.status} {judged.refused}")
            page = judged

    def _through(self, ask):
        """What the server answers, asked again for as long as it is down."""
        for attempt in range(10**6):
            try:
                answer = ask()
            except (OSError, HTTPException):
                if self.over.is_set():
                    return None
                self.visit.again()
                time.sleep(0.05)
            else:
                self.resent += attempt > 0
                return answer


def kill_while_people_work(start, folder, kills: int) -> None:
    database, rng = folder / "studio.db", random.Random(kills)
    process, said = start("--db", str(database), "--port", "0", lines=2)
    url = re.search(r"http://\S+", said[0])[0]
    port = url.rpartition(":")[2]
    with Store.open(database) as store:
        now = store.now()
        people = store.write(lambda conn: [accounts.add_account(conn, name=f"p{i}", role="labeler", password_hash="none", now=now)
                                           for i in range(PEOPLE)])
        store.write(lambda conn: conn.execute(schema.labelers.update().values(screening={"state": "passed"})))
        keys = store.write(lambda conn: [accounts.open_session(conn, who, now=now) for who in people])
        tasks = comparisons(store, 200, overlap=OVERLAP)
        workers = [Worker(url, f"tutelage-{port}={key}", who) for key, who in zip(keys, people, strict=True)]
        for worker in workers:
            worker.start()
        for _ in range(kills):
            seen = sum(len(worker.taken) for worker in workers)
            limit = time.monotonic() + 60
            while sum(len(worker.taken) for worker in workers) < seen + rng.randint(1, 40) and time.monotonic() < limit:
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.02))                        # some commits long
            process.send_signal(signal.SIGKILL)
            process.wait()
            check(store, workers)
            tasks += comparisons(store, 40, start=len(tasks), overlap=OVERLAP)
            process, _ = start("--db", str(database), "--port", port)
        limit = time.monotonic() + 60
        while any(worker.resent == 0 for worker in workers) and time.monotonic() < limit:
            time.sleep(0.05)
        for worker in workers:
            worker.over.set()
        for worker in workers:
            worker.join()
        check(store, workers)
    assert [one for worker in workers for one in worker.strange] == []
    assert sum(len(worker.taken) for worker in workers) > 5 * kills and all(worker.resent for worker in workers)


def check(store: Store, workers: list[Worker]) -> None:
    said = {(assignment, worker.labeler_id): choice for worker in workers for assignment, choice in [*worker.taken]}
    with store.read() as conn:
        rows = conn.execute(select(schema.judgements.c.assignment_id, schema.judgements.c.labeler_id, schema.judgements.c.value,
                                   schema.judgements.c.sides)).all()
        given = conn.execute(select(schema.assignments.c.task_id, func.count()).where(
            schema.assignments.c.state.in_(("reserved", "submitted"))).group_by(schema.assignments.c.task_id)).all()
    there = Counter((row.assignment_id, row.labeler_id) for row in rows)
    assert {key for key in said if there[key] != 1} == set()         # none lost
    assert max(there.values(), default=0) <= 1                       # none twice, though forms were sent again
    # Step 1 is "A is much better" of the page: its first side was ranked first.
    steps = {(row.assignment_id, row.labeler_id): row.value["step"] if row.sides == [0, 1] else 9 - row.value["step"] for row in rows}
    assert {key: steps[key] for key in said} == said
    assert max((count for _, count in given), default=0) <= OVERLAP


def test_what_the_studio_said_it_took_outlives_kill_9(start, tmp_path):
    kill_while_people_work(start, tmp_path, kills=3)


@pytest.mark.slow
def test_what_the_studio_said_it_took_outlives_fifty_kills(start, tmp_path):
    kill_while_people_work(start, tmp_path, kills=50)
