"""Retrain: freeze what people said and start a reward model on it in another process, one at a time.

The process outlives the one that started it. What it is doing is read from its run folder (metrics.jsonl, result.json) whenever somebody
looks; who looks first after its end records it, with the time at which the run last wrote. One that failed and was resumed by hand is
running again, and done when it is.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, select, update

from tutelage.base.snapshot import REPORT

from .content import record_audit
from .errors import RetrainError
from .schema import labelers, snapshots, trainings
from .snapshot import Selection, Snapshot, freeze_and_record
from .store import Store

PROGRAM = (sys.executable, "-m", "tutelage.cli.main")
_LOG_TAIL, _MOST_WARNINGS = 20_000, 100
_MODEL = ("config.json", "adapter_config.json", "model", "adapters", "latest")
"""What a model's folder, a checkpoint's or a run's holds one of."""
STARTING_SECONDS = 60.0
"""How long a training may have no process: its starter may be between the row and the process."""


@dataclass(frozen=True)
class Training:
    """One row of `trainings` as it stands. state: running, done or failed. metrics: the last row of metrics.jsonl, {} before the first.

    result: the run's result.json once it is done; {"error", "resume"} when it failed: what it said, and the command that goes on,
    unless it failed before there was anything to go on with.
    judgements: in its snapshot. created_by: who started it, by name; None: nobody with an account.
    """

    id: int
    state: str                                                       # as the row says, until somebody looks
    run_dir: Path
    snapshot: Path
    pid: int | None
    created_at: float
    ended_at: float | None
    metrics: dict[str, Any]
    result: dict[str, Any]
    judgements: int
    created_by: str | None = None

    @property
    def log(self) -> Path:
        """What the process said."""
        return self.run_dir.with_suffix(".log")

    @property
    def last_line(self) -> str:
        """The last that the process said; empty before its first word."""
        return next(reversed(_lines(self.log)), "")

    @property
    def warnings(self) -> list[str]:
        """What it warned of, each thing once: judgements left out and why, as `tutelage reward` says it. At most _MOST_WARNINGS."""
        found: dict[str, None] = {}
        for line in _all_lines(self.log):
            if line.startswith("warning: ") and len(found) < _MOST_WARNINGS:
                found[line.removeprefix("warning: ")] = None
        return list(found)

    @property
    def report(self) -> dict[str, Any]:
        """report/reward.json of the run (docs/reward.md); {} where there is none."""
        try:
            found = json.loads((self.run_dir / REPORT).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def start(store: Store, *, policy: str | Path, folder: Path, overrides: Sequence[str] = (), selection: Selection | None = None,
          created_by: int | None = None, program: Sequence[str] = PROGRAM) -> Training:
    """Freeze a snapshot into `folder`/snapshots and train from it in `folder`/trainings.

    policy: where the weights come from, as `model.policy` of `tutelage reward`. overrides: more settings of it, section.key=value.
    Raises: RetrainError while another runs, where `policy` holds no model, and for settings that are none; DataError when there is nothing
    to freeze. Then nothing was frozen or started.
    """
    if not any((Path(policy) / name).exists() for name in _MODEL):
        raise RetrainError(f"there is no model in {policy}", hint="give an SFT or reward model's folder, or a run's that trained one")
    if (running := current(store)) is not None:
        raise _busy(running.id)
    _check_settings(program, policy, overrides)

    def enter(conn: Connection, frozen: Snapshot, known: int) -> tuple[int, Path]:
        if conn.dialect.name == "postgresql":                        # SQLite's writes come one after another; here two servers might write
            conn.exec_driver_sql("LOCK TABLE trainings IN SHARE ROW EXCLUSIVE MODE")
        taken = conn.scalar(select(trainings.c.id).where(trainings.c.state == "running"))
        if taken is not None:
            raise _busy(taken)
        number = int(conn.execute(insert(trainings).values(snapshot_id=known, run_dir="", state="running", created_by=created_by,
                                                           created_at=store.now()).returning(trainings.c.id)).scalar_one())
        run_dir = (folder / "trainings" / f"reward-{number}").resolve()
        conn.execute(update(trainings).where(trainings.c.id == number).values(run_dir=str(run_dir)))
        record_audit(conn, action="retrain", now=store.now(), actor_id=created_by, subject=f"training {number}", snapshot=frozen.hash)
        return number, run_dir

    frozen, (number, run_dir) = freeze_and_record(store, folder / "snapshots", selection, enter, created_by=created_by)
    command = [*program, "reward", f"model.policy={policy}", f"data.files=[{json.dumps(str(frozen.path.resolve()))}]", *overrides,
               "--run-dir", str(run_dir)]
    try:
        run_dir.parent.mkdir(parents=True, exist_ok=True)
        with run_dir.with_suffix(".log").open("wb") as log:          # its stdout is the result, which is in result.json
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True)
    except OSError as error:
        _turn(store, look(store, number), "failed", {"error": str(error)})
        raise RetrainError(f"the training could not be started: {error}") from error
    store.write(lambda conn: conn.execute(update(trainings).where(trainings.c.id == number).values(pid=process.pid)))
    return look(store, number)


def _check_settings(program: Sequence[str], policy: str | Path, overrides: Sequence[str]) -> None:
    """Raises: RetrainError in the words with which the program refuses these settings: they are another room's."""
    asked = [*program, "config", "show", "reward", f"model.policy={policy}", "data.files=[snapshot]", *overrides]
    try:
        told = subprocess.run(asked, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    except OSError as error:
        raise RetrainError(f"the training could not be started: {error}") from error
    if told.returncode:
        said = dict(line.split(": ", 1) for line in told.stderr.splitlines() if ": " in line)
        raise RetrainError(said.get("error", "the settings are not taken"), hint=said.get("hint", "").strip() or None)


def current(store: Store) -> Training | None:
    """The training that runs now, if any; those that have ended, or go on since somebody resumed them, are recorded as such."""
    with store.read() as conn:
        rows = conn.execute(select(trainings.c.id, trainings.c.state, trainings.c.run_dir).where(trainings.c.state != "done")
                            .order_by(trainings.c.id.desc())).all()
    moved = [look(store, row.id) for row in rows if row.state == "running" or _result(Path(row.run_dir)).exists()
             or _held(Path(row.run_dir))]
    return next((found for found in moved if found.state == "running"), None)


def look(store: Store, training_id: int) -> Training:
    """How a training stands; its end is recorded by the first who looks. Raises: RetrainError when there is none of that id."""
    found = _read(store, training_id)
    if found.state == "done" or (found.state == "running" and _runs(store, found)):
        return found
    if _held(found.run_dir):                                         # resumed by hand
        if found.state == "failed":
            _turn(store, found, "running", None)
        return _read(store, training_id)
    result = _result(found.run_dir)                                  # looked for after the process: it may have ended just now
    if result.exists():
        _turn(store, found, "done", json.loads(result.read_text(encoding="utf-8")))
    elif found.state == "running":
        begun = {"resume": f"tutelage reward {found.run_dir / 'config.yaml'} --run-dir {found.run_dir} --resume"}
        _turn(store, found, "failed", {"error": found.result.get("error") or _last_words(found.log)} | (
            begun if (found.run_dir / "config.yaml").exists() else {}))
    return _read(store, training_id)


def newest(store: Store, limit: int = 50) -> list[Training]:
    """The last trainings, newest first, each as it stands."""
    current(store)                                                   # what has ended or goes on is recorded as such
    with store.read() as conn:
        rows = conn.execute(_ROWS.order_by(trainings.c.id.desc()).limit(limit)).all()
    return [_made(row) for row in rows]


def stop(store: Store, training_id: int, *, by_id: int) -> None:
    """Ask the process of a training to stop; it saves what it has first, and the end is recorded when somebody looks.

    Raises: RetrainError when it does not run, has no process yet, or one that somebody started by hand.
    """
    found = look(store, training_id)
    if found.state == "running" and not _runs(store, found):
        raise RetrainError(f"training {training_id} was resumed by hand", hint="stop it where it was resumed")
    if found.state != "running" or found.pid is None:
        raise RetrainError(f"training {training_id} {'is only starting' if found.state == 'running' else 'does not run'}")

    def note(conn: Connection) -> None:
        conn.execute(update(trainings).where(trainings.c.id == training_id, trainings.c.state == "running").values(
            result={"error": "stopped by a lead"}))
        record_audit(conn, action="stop training", now=store.now(), actor_id=by_id, subject=f"training {training_id}")

    store.write(note)
    try:
        os.kill(found.pid, signal.SIGTERM)
    except ProcessLookupError:
        pass                                                         # it ended by itself just now


_ROWS = (select(trainings, snapshots.c.path, snapshots.c.counts, labelers.c.name)
         .join(snapshots, snapshots.c.id == trainings.c.snapshot_id).outerjoin(labelers, labelers.c.id == trainings.c.created_by))


def _read(store: Store, training_id: int) -> Training:
    with store.read() as conn:
        row = conn.execute(_ROWS.where(trainings.c.id == training_id)).first()
    if row is None:
        raise RetrainError(f"there is no training {training_id}")
    return _made(row)


def _made(row: Any) -> Training:
    run_dir = Path(row.run_dir)
    return Training(row.id, row.state, run_dir, Path(row.path), row.pid, row.created_at, row.ended_at, _last_metrics(run_dir),
                    row.result or {}, int(row.counts.get("judgements", 0)), row.name)


def _turn(store: Store, found: Training, state: str, result: dict[str, Any] | None) -> None:
    """Record a new state, unless another who looked was quicker. It ended when it last wrote, not when somebody looks."""
    ended = None if state == "running" else min(store.now(), max(found.created_at, _last_written(found)))
    store.write(lambda conn: conn.execute(update(trainings).where(trainings.c.id == found.id, trainings.c.state == found.state).values(
        state=state, result=result, ended_at=ended)))


def _result(run_dir: Path) -> Path:
    """What a run leaves when it is done."""
    return run_dir / "result.json"


def _last_written(found: Training) -> float:
    """When a run left its result, or else the last trace of its work, UTC seconds; 0 where it left none."""
    result = _result(found.run_dir)
    traces = (result,) if result.exists() else (found.log, found.run_dir / "metrics.jsonl")
    return max((trace.stat().st_mtime for trace in traces if trace.exists()), default=0.0)


def _held(run_dir: Path) -> bool:
    """Whether a process works in the run's folder, whoever started it: it holds the folder's lock as long as it lives."""
    try:
        with (run_dir / ".lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _runs(store: Store, found: Training) -> bool:
    """Whether the process that was started for it is there, or may be about to."""
    if found.pid is None:
        return store.now() - found.created_at <= STARTING_SECONDS
    return _is_process_of(found.pid, found.run_dir)


def _is_process_of(pid: int, run_dir: Path) -> bool:
    """Whether the process is there. Where the system tells command lines, a stranger who got its number is not taken for it."""
    try:
        if os.waitpid(pid, os.WNOHANG)[0] == pid:                    # a child of ours that has ended waits to be asked
            return False
    except ChildProcessError:
        pass                                                         # started by another process, which may be gone
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return False                                                 # somebody else's: ours has our rights
    command = Path(f"/proc/{pid}/cmdline")
    return not command.exists() or os.fsencode(run_dir) in command.read_bytes()


def _last_metrics(run_dir: Path) -> dict[str, Any]:
    try:
        lines = (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    for line in reversed(lines):
        try:
            return dict(json.loads(line))
        except ValueError:                                           # it is being written
            continue
    return {}


def _last_words(log: Path) -> str:
    """The error that a log ends with, or that it ends without one."""
    lines = _lines(log)
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return errors[-1] if errors else "the process is gone without a word of why" + (f"; its last line: {lines[-1]}" if lines else "")


def _lines(log: Path) -> list[str]:
    """The last lines of a log that say something, at most _LOG_TAIL bytes of them."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LOG_TAIL))
            return [line for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    except FileNotFoundError:
        return []


def _all_lines(log: Path) -> Iterator[str]:
    """Every line of a log from its beginning, which may have grown long, in pieces of at most _LOG_TAIL bytes."""
    try:
        with log.open("rb") as file:
            while piece := file.readline(_LOG_TAIL):
                yield from piece.decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return


def _busy(number: int) -> RetrainError:
    return RetrainError(f"training {number} is still running", hint="one at a time; wait for it, or stop its process")
