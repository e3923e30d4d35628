"""A run directory: resolved config, metrics, log, lineage, checkpoints; what makes a run traceable and resumable."""

from __future__ import annotations

import fcntl
import json
import math
import random
import shlex
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch

from tutelage.base.config import RunConfig, dump_config, leaves
from tutelage.base.errors import ArtifactError, AuditError, ConfigError, TutelageError, listed
from tutelage.base.files import (
    artifact_dir,
    atomic_write_text,
    clear_leftovers,
    fsync,
    is_leftover,
    read_json_object,
    remove_dir,
    verify_manifest,
    writing,
)
from tutelage.base.log import get_logger
from tutelage.base.progress import progress
from tutelage.lineage.ledger import describe_run
from tutelage.train.checkpoint import TrainState, saved_values
from tutelage.train.forecast import Watch, forget_peak, tell_truth
from tutelage.train.identity import changed_machine, check_apart, check_config, check_inputs
from tutelage.train.sections import TrackSection
from tutelage.train.sinks import track_dir
from tutelage.train.trackers import Tracker, check_installed

log = get_logger()

WriteModels = Callable[[Path], None]


class Interrupted(TutelageError):
    """Stopped by a signal, after a checkpoint where there was something to save; exit code 130 or 143."""

    def __init__(self, signum: int, message: str, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = 128 + signum


class Run:
    """One run of one verb in one directory. Open it with `Run.open`; use it as a context manager."""

    def __init__(self, folder: Path, cfg: RunConfig, verb: str) -> None:
        self.folder, self.cfg, self.verb = folder, cfg, verb
        self.start_step = 0
        self.started = time.monotonic()
        self.best_step: int | None = None
        """A checkpoint that `save.keep_last` must not delete."""
        self._watch: Watch | None = None
        self._checkpoint: Path | None = None
        self._signum: int | None = None
        self._lock: TextIO | None = None
        self._track: TrackSection = getattr(cfg, "track", TrackSection())
        self._trackers: list[Tracker] = []

    @classmethod
    def open(cls, cfg: RunConfig, verb: str, *, inputs: Mapping[str, Path | str | list[Path]] | None = None) -> Run:
        """Create the run's directory, or enter it again with `resume`. A run that failed before it left anything is begun anew.

        inputs: name -> model folder or data files this run is made of; their digests go into lineage.json and must be the same on resume
            (None: not looked at).
        Raises: ConfigError when the directory holds a run and resume is off, holds another config, other inputs or something else, or is in
            use; and when the device is not there. MissingExtraError when a tracker is not installed.
        """
        folder = Path(cfg.run_dir) if cfg.run_dir else Path("runs") / verb
        config_text = dump_config(cfg)
        run = cls(folder, cfg, verb)
        check_device(cfg.device)
        check_installed(run._track.to)
        forget_peak(cfg.device)
        run._check_folder(config_text)                               # before anything is written there
        check_apart(folder, inputs or {})
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            run._take_lock()
        try:
            going_on = run._check_folder(config_text)                # again: another process may have been quicker
            made_of = describe_run(verb, config_text, inputs or {}, seed=cfg.seed) | {"threads": torch.get_num_threads()}
            if going_on:
                if inputs is not None:
                    check_inputs(folder, made_of["parents"])
                if run.finished() is None and (changed := changed_machine(folder, made_of)):
                    log.warning("%s goes on, but not bit for bit: %s", folder, "; ".join(changed))
            run._tidy()
            if not going_on:
                shutil.rmtree(track_dir(folder), ignore_errors=True)
                atomic_write_text(folder / "lineage.json", json.dumps(made_of, indent=1))
                atomic_write_text(folder / "config.yaml", config_text)
            run._find_checkpoint()
            if not (folder / "result.json").exists():
                config = dict(leaves(cfg.model_dump(mode="json")))
                run._trackers = [Tracker(name, folder, run._track, config) for name in run._track.to]
        except BaseException:
            run._unlock()
            raise
        return run

    def _check_folder(self, config_text: str) -> bool:
        """Whether the folder holds a run to go on with. Raises: ConfigError when it may not be entered."""
        folder, found = self.folder, _contents(self.folder)
        odd = next((path for path in folder.iterdir() if path.exists() and not (path.is_file() or path.is_dir())), None) if found else None
        if odd is not None:                                          # reading it would have no end
            raise ConfigError(f"{odd} is a pipe or device, not a run's", hint="remove it, or choose another --run-dir")
        if not (folder / "config.yaml").exists() or not (folder / "lineage.json").exists():
            if set(found) - {"lineage.json"}:
                raise ConfigError(f"{folder} is not empty and holds no run ({listed(found, 6)})", hint="choose another --run-dir")
            return False
        if not ({"result.json", "metrics.jsonl", "ckpt"} & set(found)):
            return False
        if not self.cfg.resume:
            raise ConfigError(f"{folder} already holds a run ({listed(found, 6)})",
                              hint=f"go on with it: --run-dir {folder} --resume; or choose another --run-dir")
        check_config(folder, config_text)
        return True

    def _tidy(self) -> None:
        """Clear what a killed process was writing; with the lock held nobody else is."""
        inside = [p for p in self.folder.iterdir() if p.is_dir() and not p.is_symlink() and not p.name.startswith(".")]
        for folder in (self.folder, *inside):
            clear_leftovers(folder)

    def _find_checkpoint(self) -> None:
        """Where to go on: the newest checkpoint whose manifest holds, and metrics up to it."""
        checkpoints = checkpoints_of(self.folder)
        for folder in reversed(checkpoints):
            try:
                verify_manifest(folder)
                best = saved_values(folder / "train").get("best_step")
                if best:                                             # that one must be whole too, or the run would end in a damaged model
                    verify_manifest(folder.with_name(_name_of(best)))
                self._checkpoint, self.start_step = folder, _step_of(folder)
                break
            except ArtifactError as error:
                log.warning("%s; using the checkpoint before it", error)
        if checkpoints and self._checkpoint is None:
            log.warning("no checkpoint of %s can be used; starting from the beginning", self.folder)
        if (self.folder / "result.json").exists() or not (self.folder / "metrics.jsonl").exists():
            return
        rows = [row for row in self.metrics() if row["step"] < self.start_step]   # the others will be made again
        atomic_write_text(self.folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        self.started -= rows[-1]["seconds"] if rows else 0.0

    # -- metrics ------------------------------------------------------------------------------------------------------

    def log(self, step: int, metrics: Mapping[str, float | int | str | None]) -> None:
        """Append one row to metrics.jsonl. A non-finite number is written as null, since JSON has no other word for it."""
        row: dict[str, Any] = {"step": step, "seconds": round(time.monotonic() - self.started, 3)}
        for name, value in metrics.items():
            item = getattr(value, "item", None)                     # of a tensor or an array
            number = value if item is None else item()
            row[name] = None if isinstance(number, float) and not math.isfinite(number) else number
        file = self.folder / "metrics.jsonl"
        with writing(file), file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")
        for tracker in self._trackers:
            tracker.look()

    def metrics(self) -> list[dict[str, Any]]:
        """Every row logged so far."""
        return read_metrics(self.folder)

    # -- steps and checkpoints ----------------------------------------------------------------------------------------

    def steps(self, total: int, *, write_models: WriteModels, state: TrainState, unit: str = "step") -> Iterator[int]:
        """Yield the 0-based steps still to do, with progress; save on schedule, and on SIGINT or SIGTERM before stopping.

        write_models(folder) writes the weights (`model/` at least) into a new checkpoint folder.
        """
        save = getattr(self.cfg, "save", None)
        every = save.every_steps if save else None
        self._watch = Watch(total, self.started) if not self.start_step else None
        old = {s: signal.signal(s, self._on_signal) for s in (signal.SIGINT, signal.SIGTERM)} if _in_main_thread() else {}
        try:
            with progress(total=total, label=self.verb, unit=unit, start=self.start_step) as bar:
                for step in range(self.start_step, total):
                    seed_everything(self.cfg.seed, step)
                    yield step
                    bar.update()
                    if self._watch is not None:
                        self._watch.step(self.cfg.device)
                    if self._signum is not None:
                        self.save(step + 1, write_models, state)
                        raise self._interrupted(self._signum, f"after step {step + 1} of {total}; checkpoint saved")
                    if every and (step + 1) % every == 0 and step + 1 < total:
                        self.save(step + 1, write_models, state)
        finally:
            for signum, handler in old.items():
                signal.signal(signum, handler)

    def save(self, step: int, write_models: WriteModels, state: TrainState) -> Path:
        """Write ckpt/step-N atomically (written aside, fsynced, renamed) and point `latest` at it."""
        target = self.folder / "ckpt" / _name_of(step)
        with artifact_dir(target) as folder:
            write_models(folder)
            (folder / "train").mkdir()
            state.save(folder / "train", step)
            if (self.folder / "metrics.jsonl").exists():
                fsync(self.folder / "metrics.jsonl")                 # a checkpoint promises the rows of the steps before it
        atomic_write_text(self.folder / "latest", target.name + "\n")
        self._forget(step)
        return target

    def _forget(self, step: int) -> None:
        """Delete checkpoints up to `step` beyond the last few, but never the best. Those past it are of a damaged future, soon remade."""
        save = getattr(self.cfg, "save", None)
        if save and save.keep_last:
            for stale in [p for p in checkpoints_of(self.folder) if _step_of(p) <= step][: -save.keep_last]:
                if _step_of(stale) != self.best_step:
                    remove_dir(stale)

    def mark_latest(self, step: int) -> Path:
        """Point `latest` at an earlier checkpoint (the best one) and return it."""
        target = self.folder / "ckpt" / _name_of(step)
        atomic_write_text(self.folder / "latest", target.name + "\n")
        return target

    def restore(self, state: TrainState) -> None:
        """Load optimizers and values of the checkpoint to go on from, if any (weights are opened from `weights_dir`)."""
        if self._checkpoint is not None:
            state.load(self._checkpoint / "train")

    def weights_dir(self, name: str, fallback: Path | str) -> Path | str:
        """Where to open weights from: the last checkpoint's folder `name` when resuming, else `fallback`."""
        return fallback if self._checkpoint is None else self._checkpoint / name

    # -- end ----------------------------------------------------------------------------------------------------------

    def finish(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """Write result.json, which marks the run as done, and return it."""
        done = {"path": str(self.folder), "verb": self.verb, "seconds": round(time.monotonic() - self.started, 1), **result}
        tell_truth(self.folder, self._watch, done["seconds"], self.cfg.device)
        if checkpoints := checkpoints_of(self.folder):
            self._forget(_step_of(checkpoints[-1]))                  # what a process killed after its last save did not come to
        atomic_write_text(self.folder / "result.json", json.dumps(done, indent=1))
        return done

    def finished(self) -> dict[str, Any] | None:
        """The result when this run is done, else None. Raises: ArtifactError when it is damaged."""
        file = self.folder / "result.json"
        return read_json_object(file, hint="delete it and run again with --resume: its last steps are made anew") if file.exists() else None

    def save_bad_batch(self, tensors: Mapping[str, Any], why: str) -> AuditError:
        """Save the batch that broke training; returns the error to raise."""
        from safetensors.torch import save_file

        path = self.folder / "bad_batch.safetensors"
        save_file({k: v.detach().contiguous() for k, v in tensors.items() if hasattr(v, "detach")}, path)
        return AuditError(f"{why}; the batch is in {path}", hint="lower optim.learning_rate, or look for broken rows in that batch")

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None = None, error: BaseException | None = None, trace: object = None) -> None:
        self._unlock()
        for tracker in self._trackers:
            tracker.end("done" if kind is None else "failed")
        for tracker in self._trackers:
            tracker.wait()
        terminated = isinstance(error, SystemExit) and error.code == 128 + signal.SIGTERM
        if terminated or isinstance(error, KeyboardInterrupt):       # between steps, or a second signal: at once
            saved = checkpoints_of(self.folder)
            raise self._interrupted(signal.SIGTERM if terminated else self._signum or signal.SIGINT,
                                    f"with {saved[-1].name} as last checkpoint" if saved else "before its first checkpoint") from error

    @property
    def interrupted(self) -> bool:
        """Whether a signal asked to stop after this step."""
        return self._signum is not None

    def _interrupted(self, signum: int, when: str) -> Interrupted:
        command = ["tutelage", self.verb, f"{self.folder}/config.yaml", "--run-dir", str(self.folder), "--resume"]
        return Interrupted(signum, f"stopped by signal {signum} {when}", shlex.join(command))

    def _on_signal(self, signum: int, frame: object) -> None:
        if self._signum is not None:  # a second signal: the person means now
            raise KeyboardInterrupt
        log.warning("signal %d: finishing this step, then saving a checkpoint (once more to stop at once)", signum)
        self._signum = signum

    def _take_lock(self) -> None:
        """A lock of the system's, which goes with its process however that ends."""
        self._lock = (self.folder / ".lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"another process is running in {self.folder}", hint="wait for it, or choose another --run-dir") from error

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Rows of a run's metrics.jsonl up to the first that is no row: the torn last line of a killed process, or damage."""
    file = folder / "metrics.jsonl"
    rows: list[dict[str, Any]] = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not isinstance(row, dict) or not isinstance(row.get("step"), int) or not isinstance(row.get("seconds"), int | float):
            break
        if not abs(row["seconds"]) < 1e15:                           # nan too
            break
        rows.append(row)
    return rows


def checkpoints_of(run: Path) -> list[Path]:
    """The checkpoint folders of a run, oldest first; what else lies among them is passed over."""
    return sorted((p for p in (run / "ckpt").glob("step-*") if p.name[5:].isdecimal() and p.is_dir()), key=_step_of)


def seed_everything(seed: int, step: int) -> None:
    """Seed Python's, numpy's and torch's generators for one step, so that none of them has a past that a resumed run would lack."""
    number = int(np.random.SeedSequence((seed, step)).generate_state(1)[0])
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


def _name_of(step: int) -> str:
    return f"step-{step:06d}"


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))


def _contents(folder: Path) -> list[str]:
    """Names in a folder, but for our lock, what a killed run left half-written and a Mac's notes; none when there is no folder.

    Raises: ConfigError when it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file", hint="choose another --run-dir")
    names = sorted(p.name for p in folder.iterdir()) if folder.exists() else []
    return [name for name in names if name not in (".lock", ".DS_Store") and not is_leftover(name)]


def check_device(name: str) -> None:
    """Raises: ConfigError unless tensors can be made and read there."""
    # How torch refuses depends on why: RuntimeError for a name it does not know, AssertionError for a build without that device,
    # NotImplementedError for one without its kernels, ImportError for a backend that is a package of its own.
    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        raise ConfigError(f"device={name} cannot be used: {str(error).splitlines()[0]}", hint="cpu always works") from error


def _in_main_thread() -> bool:
    import threading

    return threading.current_thread() is threading.main_thread()
