"""How long the lead's pages take with many judgements: python benchmarks/quality_page.py [judgements=100000]."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from fastapi.testclient import TestClient
from sqlalchemy import Connection, insert

from tutelage.feedback import accounts, schema
from tutelage.feedback.store import Store
from tutelage.studio.app import create_studio
from tutelage.web.site import Site

PEOPLE, DAYS, AT = 50, 50, 1_700_000_000.0
LEAD = PEOPLE + 1
KINDS = ("comparison", "comparison", "ranking", "rating", "label")
ANSWERS = {"comparison": 2, "ranking": 4, "rating": 1, "label": 1}


def fill(conn: Connection, judgements: int, rng: np.random.Generator) -> None:
    """So many judgements by fifty people over fifty days, two on each task, seven in ten of them right."""
    people = [{"id": i, "name": f"person {i}", "group": "ab"[i % 2], "screening": {}, "created_at": AT, "pay_per_hour": 15.0}
              for i in range(1, PEOPLE + 1)]
    conn.execute(insert(schema.labelers), people)
    conn.execute(insert(schema.labelers).values(id=LEAD, name="lead", role="lead", created_at=AT))
    rows: dict[str, list[dict]] = {name: [] for name in ("prompts", "responses", "tasks", "assignments", "judgements")}
    for task in range(1, judgements // 2 + 1):
        kind = KINDS[task % len(KINDS)]
        rows["prompts"].append({"id": task, "hash": str(task), "content": "what?", "source": "import", "created_at": AT})
        ids = [len(rows["responses"]) + 1 + i for i in range(ANSWERS[kind])]
        rows["responses"] += [{"id": i, "prompt_id": task, "text": "some words " * 60, "model": f"m{i % 3}", "created_at": AT} for i in ids]
        rows["tasks"].append({"id": task, "kind": kind, "prompt_id": task, "response_ids": ids, "overlap": 2, "free": 0, "draw": 0.5,
                              "state": "done", "created_at": AT, "batch": f"batch {task % 4}"})
        for labeler in rng.choice(PEOPLE, 2, replace=False):
            number = len(rows["judgements"]) + 1
            at = AT + 86400.0 * DAYS * task / (judgements // 2) + float(rng.uniform(0, 3600))
            sides = rng.permutation(len(ids)).tolist()
            own = {"id": number, "task_id": task, "labeler_id": int(labeler) + 1, "sides": sides}
            rows["assignments"].append(own | {"state": "submitted", "claimed_at": at - 60, "expires_at": at + 3600, "ended_at": at})
            rows["judgements"].append(own | {"kind": kind, "value": value(kind, rng), "seconds": float(rng.lognormal(3.5, 0.4)),
                                             "created_at": at, "assignment_id": number})
    for name, made in rows.items():
        conn.execute(insert(getattr(schema, name)), made)


def value(kind: str, rng: np.random.Generator) -> dict:
    if kind == "rating":
        return {"rating": int(np.clip(rng.normal(4.5, 1.2), 1, 7)), "flags": []}
    if kind == "label":
        return {"label": bool(rng.random() < 0.7)}
    if kind == "ranking":
        return {"ranks": np.argsort(np.arange(4) + rng.normal(0, 1.5, 4)).tolist()}
    step = int(rng.integers(1, 5)) if rng.random() < 0.7 else int(rng.integers(5, 9))
    return {"ranks": [0, 1] if step < 5 else [1, 0], "step": step, "strength": abs(2 * step - 9) // 2 + 1}


def main(judgements: int) -> None:
    with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder, "studio.db")) as store:
        store.write(lambda conn: fill(conn, judgements, np.random.default_rng(0)))
        site = Site()
        key = store.write(lambda conn: accounts.open_session(conn, LEAD, now=store.now(), user_agent=None))
        with TestClient(create_studio(store, site), base_url=site.url) as client:
            client.cookies.set(site.cookie, key)
            print(f"{judgements:,} judgements, seconds, and of the processor:")
            for what, path in (("quality, the first time", "/quality"), ("quality, from then on", "/quality"), ("dashboard", "/dashboard"),
                               ("every label as CSV", "/quality/judgements.csv")):
                start, before = time.perf_counter(), time.process_time()
                assert client.get(path).status_code == 200
                print(f"  {what:<24}{time.perf_counter() - start:6.2f}{time.process_time() - before:6.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
