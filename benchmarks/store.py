"""How many judgements a second the store acknowledges, and how long a labeler waits for the next task.

usage: python benchmarks/store.py [--url URL] [--clients 24] [--seconds 20] [--judgements 1000000] [--rate 200] [--parts throughput,latency]

throughput: one process has the store open and answers on a unix socket (asyncio); --clients other processes, each one labeler, claim a
task and submit a judgement as fast as they are answered, at overlap 2. An answer is sent when what it acknowledges is committed and
fsynced. Afterwards the database is compared with every judgement the clients were promised.
latency: the same, on a store that holds --judgements judgements by these labelers and 100,000 open tasks, with --rate claims a second at
fixed times, each followed by a submission; a claim's wait counts from when it was due, so that no slow answer hides behind the next.

--url: a new SQLite file (default: in a temporary folder) or an empty PostgreSQL database. Prints one JSON object a part.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event, text

from tutelage.base.errors import TutelageError
from tutelage.feedback import content, queue
from tutelage.feedback.store import Store

OPEN_TASKS = 100_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url")
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--judgements", type=int, default=1_000_000)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--parts", default="throughput,latency")
    for hidden in ("--serve", "--client", "--labeler", "--pace"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.url, options.serve))
    elif options.client:
        client(options.client, int(options.labeler), options.seconds, float(options.pace or 0))
    else:
        with tempfile.TemporaryDirectory() as folder:
            for part in options.parts.split(","):
                url = options.url or str(Path(folder) / f"{part}.db")
                made = measure(url, Path(folder), options, 0 if part == "throughput" else options.judgements, part)
                print(json.dumps({"part": part, "database": "PostgreSQL" if "://" in url else "SQLite", **machine()} | made), flush=True)


def machine() -> dict[str, Any]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cores": cores, "load_before": round(os.getloadavg()[0], 1), "python": platform.python_version()}


def measure(url: str, folder: Path, options: argparse.Namespace, judgements: int, part: str) -> dict[str, Any]:
    """Fill a store, let the clients loose, compare what they were promised with what is there."""
    started = time.perf_counter()
    with Store.open(url) as store:
        fill(store, options.clients, judgements)
    filled = time.perf_counter() - started
    here, address = str(Path(__file__)), str(folder / f"{part}.socket")
    server = process(here, "--serve", address, "--url", url)
    pace = options.clients / options.rate if part == "latency" else 0
    clients = [process(here, "--client", address, "--labeler", str(n + 1), "--seconds", str(options.seconds), "--pace", str(pace))
               for n in range(options.clients)]
    for one in clients:                                             # all are ready before any begins
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    results = [json.loads(one.communicate()[0]) for one in clients]
    told = json.loads(server.communicate("stop\n")[0])
    acknowledged = [tuple(row) for one in results for row in one["acknowledged"]]
    claims, submits = (sorted(wait for one in results for wait in one[name]) for name in ("claims", "submits"))
    return {"clients": options.clients, "seconds": options.seconds, "fill_seconds": round(filled, 1), "judgements_before": judgements,
            "claims_and_submits_a_second": round(len(acknowledged) / options.seconds, 1),
            "claim_ms": quantiles(claims), "submit_ms": quantiles(submits), "errors": Counter(e for one in results for e in one["errors"]),
            **compare(url, acknowledged), "works_a_commit": round(told["works"] / max(1, told["commits"]), 1),
            "server_cpu_seconds": told["cpu"]}


def process(*command: str) -> subprocess.Popen[str]:
    """This file in a process of its own, ready."""
    started = subprocess.Popen([sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    started.stdout.readline()
    return started


def quantiles(waits: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(waits, n=1000)
    values = {"p50": cuts[499], "p95": cuts[949], "p99": cuts[989], "max": waits[-1]}
    return {name: round(1000 * value, 1) for name, value in values.items()}


def compare(url: str, acknowledged: list[tuple[int, ...]]) -> dict[str, int]:
    """Promised and not there (lost), there and not promised or twice (extra), tasks given to more people than wanted (over_assigned)."""
    with Store.open(url) as store, store.read() as conn:
        rows = conn.execute(text("SELECT j.id, j.task_id, j.labeler_id FROM judgements j WHERE j.interface_version = 'bench'")).all()
        over = conn.execute(text("""
            SELECT count(*) FROM (SELECT a.task_id FROM assignments a JOIN tasks t ON t.id = a.task_id
                                  WHERE a.state IN ('reserved', 'submitted') GROUP BY a.task_id, t.overlap
                                  HAVING count(*) > t.overlap) AS over""")).scalar()
    there = Counter((row.id, row.task_id, row.labeler_id) for row in rows)
    promised = Counter(acknowledged)
    return {"lost": (promised - there).total(), "extra": (there - promised).total(), "over_assigned": int(over or 0)}


def fill(store: Store, clients: int, judgements: int) -> None:
    """Labelers, open tasks, and tasks with two judgements each. Plain SQL: through the queue it would take an hour."""
    now = store.now()
    done = judgements // 2

    def work(conn: Connection) -> None:
        for number in range(clients):
            content.add_labeler(conn, name=f"labeler {number}", now=now, screening={"state": "passed"})
        many = {"tasks": done + OPEN_TASKS, "prompts": 50_000, "done": done, "now": now, "clients": clients}
        for statement in FILL:
            if conn.dialect.name == "sqlite":                       # where a document is its text
                statement = statement.replace("AS JSONB", "AS TEXT")
            conn.execute(text(statement), {name: many[name] for name in many if f":{name}" in statement})

    store.write(work)
    if store.url.get_backend_name() == "postgresql":
        store.write(lambda conn: conn.exec_driver_sql("ANALYZE"))


_NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < CAST(:{} AS INTEGER)) SELECT "
_EACH_PROMPT, _EACH_TASK, _EACH_DONE = (_NUMBERS.format(many) for many in ("prompts", "tasks", "done"))
_HALF = (                                                           # of the judgements: the first or the second of each task
    f"""INSERT INTO assignments (task_id, labeler_id, state, attempt, p_select, sides, claimed_at, expires_at, ended_at) {_EACH_DONE}
        i + 1, 1 + (i + HALF) % :clients, 'submitted', 0, 1.0, CAST('[0, 1]' AS JSONB), :now - 90000 - i, :now - 90000 - i,
        :now - 90000 - i FROM n WHERE :done > 0""",
    f"""INSERT INTO judgements (assignment_id, attempt, task_id, labeler_id, kind, value, sides, p_select, weight, seconds, created_at)
        {_EACH_DONE} i + 1 + HALF * :done, 0, i + 1, 1 + (i + HALF) % :clients, 'comparison',
        CAST('{{"ranks": [0, 1], "strength": 3, "step": 2}}' AS JSONB), CAST('[0, 1]' AS JSONB), 1.0, 1.0, 12.5, :now - 90000 - i
        FROM n WHERE :done > 0""",
)
FILL = (
    f"""INSERT INTO prompts (hash, content, source, consent, warnings, extra, created_at) {_EACH_PROMPT}
        'hash ' || i, CAST('"How is number ' || i || ' made?"' AS JSONB), 'demo', TRUE, CAST('[]' AS JSONB), CAST('{{}}' AS JSONB), :now
        FROM n""",
    *(f"""INSERT INTO responses (prompt_id, text, model, created_at) {_EACH_PROMPT}
          i + 1, 'They {verb} it, as ' || i || ' others.', 'm', :now FROM n""" for verb in ("make", "take")),
    f"""INSERT INTO tasks (kind, prompt_id, response_ids, overlap, free, priority, draw, warnings, p_select, purpose, state, extra,
                           created_at)
        {_EACH_TASK} 'comparison', i % :prompts + 1,
        CAST('[' || (i % :prompts + 1) || ', ' || (i % :prompts + 1 + :prompts) || ']' AS JSONB), 2,
        CASE WHEN i < :done THEN 0 ELSE 2 END, (i % 1000) / 1000.0, (CAST(i AS BIGINT) * 1000003 % 999983) / 999983.0, '', 1.0, 'work',
        CASE WHEN i < :done THEN 'done' ELSE 'open' END, CAST('{{}}' AS JSONB), :now FROM n""",
    *(statement.replace("HALF", half) for half in "01" for statement in _HALF),
)


async def serve(url: str, address: str) -> None:
    """The store behind a socket: a line asks, a line answers once it is on disk. Ends when its input does."""
    store, counts = Store.open(url), Counter[str]()
    event.listen(store._engines[1], "commit", lambda conn: counts.update(commits=1))

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            asked = json.loads(line)
            counts["works"] += 1
            try:
                if asked[0] == "claim":
                    made = await store.write_async(lambda conn, who=asked[1]: queue.claim(conn, who, now=store.now()))
                    answer = made and [made.assignment_id, made.task_id]
                else:
                    answer = await store.write_async(lambda conn, asked=asked: queue.submit(
                        conn, assignment_id=asked[2], labeler_id=asked[1], value={"choice": asked[3]}, now=store.now(), seconds=5.0,
                        interface_version="bench"))
            except TutelageError as error:
                answer = {"error": str(error)}
            writer.write(json.dumps(answer).encode() + b"\n")

    server = await asyncio.start_unix_server(talk, address)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    server.close()
    store.close()
    print(json.dumps({**counts, "cpu": round(time.process_time(), 1)}))
    os._exit(0)                                                     # clients that are gone need no goodbye


def client(address: str, labeler: int, seconds: float, pace: float) -> None:
    """One labeler: claims and submits for so long, as fast as answered, or at a claim every `pace` seconds."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    lines = connection.makefile("rw")

    def ask(*what: Any) -> Any:
        lines.write(json.dumps(what) + "\n")
        lines.flush()
        return json.loads(lines.readline())

    print("ready", flush=True)
    sys.stdin.readline()
    acknowledged, claims, submits, errors = [], [], [], []
    begin = due = time.perf_counter()
    due += pace * labeler / 24                                      # the clients take turns
    while (now := time.perf_counter()) < begin + seconds:
        if pace:
            if now < due:
                time.sleep(due - now)
            now, due = due, due + pace
        claimed = ask("claim", labeler)
        between = time.perf_counter()
        claims.append(between - now)
        if not isinstance(claimed, list):
            errors.append(str(claimed))
            continue
        judgement = ask("submit", labeler, claimed[0], 1 + claimed[1] % 8)
        submits.append(time.perf_counter() - between)
        if isinstance(judgement, int):
            acknowledged.append((judgement, claimed[1], labeler))
        else:
            errors.append(str(judgement))
    print(json.dumps({"acknowledged": acknowledged, "claims": claims, "submits": submits, "errors": errors}))


if __name__ == "__main__":
    main()
