"""Trackers: other places that are shown a run's metrics. metrics.jsonl stays the truth, and nothing they do can stop a run.

Each tracker's library lives in a process of its own (sinks.py) which follows metrics.jsonl. It may import slowly, raise, lose the network
or hang; the run never waits for it before its end, and then no longer than CLOSE_SECONDS.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tutelage.base.errors import MissingExtraError
from tutelage.base.log import get_logger
from tutelage.train.sections import TrackSection
from tutelage.train.sinks import About, track_dir

log = get_logger()

CLOSE_SECONDS = 30.0
"""How long a finished run waits for its trackers to take the last rows."""
EXTRAS = {"tensorboard": "track"}
"""Tracker -> the extra that installs it, where that is not its own name."""


def check_installed(names: Sequence[str]) -> None:
    """Raises: MissingExtraError with the command that installs the first tracker whose library is missing."""
    for name in names:
        if find_spec(name) is None:
            raise MissingExtraError(f"track.to names {name}, which is not installed",
                                    hint=f"pip install 'tutelage[{EXTRAS.get(name, name)}]', or take it out of track.to")


class Tracker:
    """One tracker of one run, from its start to its end."""

    def __init__(self, name: str, folder: Path, track: TrackSection, config: Mapping[str, Any]) -> None:
        self.name, self.folder = name, folder
        self._told = False
        about = About(name, str(folder.absolute()), track.project, track.name or folder.absolute().name, dict(config), CLOSE_SECONDS)
        self._log = track_dir(folder) / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._log.parent.mkdir(exist_ok=True)
            with self._log.open("ab") as out:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "tutelage.train.sinks"], stdin=subprocess.PIPE, stdout=out, stderr=out, start_new_session=True,
                    env=os.environ | {"PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)})
        except OSError as error:
            self._tell(str(error))
        self._say(json.dumps(asdict(about)))

    def look(self) -> None:
        """Tell, once, that it has stopped, if it has."""
        if self._process is not None and self._process.poll():
            self._tell(self._last_words())

    def end(self, how: str) -> None:
        """Tell it that the run is `done` or has `failed`; it then hands over what is left."""
        self._say(how)
        if self._process is not None and self._process.stdin is not None:
            try:
                self._process.stdin.close()
            except OSError:                                          # what was not yet said has no reader
                pass

    def wait(self) -> None:
        """Wait for its end, for CLOSE_SECONDS and a little more."""
        if self._process is None:
            return
        for seconds in (2.0, CLOSE_SECONDS + 3):
            try:
                self._process.wait(seconds)
                break
            except subprocess.TimeoutExpired:
                log.info("waiting for %s to take the last rows", self.name)
        else:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self.look()

    def _say(self, line: str) -> None:
        if self._process is None or self._process.stdin is None:
            return
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except OSError:                                              # it has ended; `look` says why
            pass

    def _last_words(self) -> str:
        lines = [line.strip() for line in self._log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        return lines[-1][:200] if lines else f"it ended with exit code {self._process.returncode if self._process else None}"

    def _tell(self, why: str) -> None:
        if not self._told:
            log.warning("%s takes no more metrics: %s (see %s; the run goes on, metrics.jsonl has every row)", self.name, why, self._log)
        self._told = True
