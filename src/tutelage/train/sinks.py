"""The far side of a tracker: a process that follows a run's metrics.jsonl and hands its rows to one library.

`python -m tutelage.train.sinks` reads from stdin one line that says what to follow, then waits there for how the run ended: `done`,
`failed`, or nothing at all when its process was killed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tutelage.base.files import atomic_write_text

POLL_SECONDS = 0.5
QUIET = {"DO_NOT_TRACK": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "WANDB_ERROR_REPORTING": "false", "HF_HUB_DISABLE_TELEMETRY": "1",
         "GRADIO_ANALYTICS_ENABLED": "False"}
"""What keeps these libraries from reporting to their makers; what the user has set stands."""


@dataclass(frozen=True)
class About:
    """The run to follow, as trackers.py describes it on stdin."""

    sink: str
    folder: str
    project: str
    name: str
    config: dict[str, Any]
    """Dotted key -> value."""
    close_seconds: float
    """How long after the run's end this process may still take."""


class Sink(Protocol):
    """Where rows go. `identity` is what the library needs to go on with the same run after a resume."""

    identity: str | None

    def log(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def close(self, *, failed: bool) -> None: ...


class TensorBoard:
    """Event files in the run's folder: `tensorboard --logdir runs`."""

    identity: str | None = None

    def __init__(self, about: About, identity: str | None) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer = EventFileWriter(str(track_dir(about.folder) / "tensorboard"))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._writer.add_event(Event(step=step, wall_time=time.time(), summary=Summary(value=values)))
        self._writer.flush()

    def close(self, *, failed: bool) -> None:
        self._writer.close()


class Trackio:
    """trackio's own place (TRACKIO_DIR, or a server or Space its variables name): `trackio show`."""

    identity: str | None

    def __init__(self, about: About, identity: str | None) -> None:
        import trackio

        self._run = trackio.init(project=about.project, name=about.name, config=about.config, resume="allow" if identity else "never",
                                 embed=False, auto_log_gpu=False, auto_log_cpu=False)
        self.identity = about.name                                   # by which it knows a run

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def close(self, *, failed: bool) -> None:
        self._run.finish()


class Wandb:
    """Weights & Biases, online or offline as WANDB_MODE says; its local files lie in the run's folder."""

    identity: str | None

    def __init__(self, about: About, identity: str | None) -> None:
        import wandb

        self._run = wandb.init(project=about.project, name=about.name, id=identity, resume="allow", config=about.config,
                               dir=str(track_dir(about.folder)))
        self.identity = self._run.id

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def close(self, *, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


class MLflow:
    """The server or database MLFLOW_TRACKING_URI names."""

    identity: str | None

    def __init__(self, about: About, identity: str | None) -> None:
        import mlflow

        self._mlflow = mlflow
        mlflow.set_experiment(about.project)
        self.identity = mlflow.start_run(run_id=identity, run_name=about.name).info.run_id
        if identity is None:
            mlflow.log_params({key: str(value)[:500] for key, value in about.config.items()})        # the longest it takes everywhere

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._mlflow.log_metrics(dict(metrics), step=step)

    def close(self, *, failed: bool) -> None:
        self._mlflow.end_run("FAILED" if failed else "FINISHED")


SINKS: dict[str, Callable[[About, str | None], Sink]] = {"tensorboard": TensorBoard, "trackio": Trackio, "wandb": Wandb, "mlflow": MLflow}


def track_dir(folder: str | Path) -> Path:
    """Where trackers keep their files in a run's folder."""
    return Path(folder) / "track"


def follow(about: About, ended: Callable[[float], str | None]) -> None:
    """Hand every row to the sink until the run has ended and none is left. What a process before this one handed over is not sent again:
    a resumed run makes the same rows.

    ended(seconds): waits so long at most for how the run ended; None while it has not.
    """
    memory = track_dir(about.folder) / f"{about.sink}.json"
    known: dict[str, Any] = json.loads(memory.read_text(encoding="utf-8")) if memory.exists() else {"identity": None, "step": -1}
    sink = SINKS[about.sink](about, known["identity"])
    rows, how = Rows(Path(about.folder) / "metrics.jsonl"), None
    while True:
        fresh = [row for row in rows.new() if row["step"] > known["step"]]
        for row in fresh:
            sink.log(row["step"], {name: float(value) for name, value in row.items() if name != "step" and isinstance(value, (int, float))})
        if fresh or known["identity"] != sink.identity:
            known = {"identity": sink.identity, "step": max([known["step"], *(row["step"] for row in fresh)])}
            atomic_write_text(memory, json.dumps(known))
        if how is not None:
            break
        how = ended(POLL_SECONDS)
    sink.close(failed=how != "done")


class Rows:
    """The complete rows that were added to a file since they were last asked for."""

    def __init__(self, file: Path) -> None:
        self._file, self._offset = file, 0

    def new(self) -> Iterator[dict[str, Any]]:
        if not self._file.exists():
            return
        with self._file.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        yield from map(json.loads, whole.splitlines())


def main() -> None:
    """Follow the run stdin tells of; end soon after it does, whatever a library may be waiting for."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)                        # meant for the run, whose end is told on stdin
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    about = About(**json.loads(sys.stdin.readline()))
    how, told = "", threading.Event()

    def listen() -> None:
        nonlocal how
        how = sys.stdin.readline().strip()
        told.set()
        time.sleep(about.close_seconds)
        print(f"its last rows were not taken within {about.close_seconds:g} s", flush=True)
        os._exit(1)

    threading.Thread(target=listen, daemon=True).start()
    follow(about, lambda seconds: how if told.wait(seconds) else None)


if __name__ == "__main__":
    main()
