"""One judge for every hostile input: the command line is run on it in a process of its own, and nothing may come to harm."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import stat
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.kill.harness import Server
from tests.small import Small

PATIENCE_SECONDS = 300
"""After so long a command hangs: a hundred times what the slowest takes."""
MEMORY = 3 << 30
"""Bytes of address space beyond what an idle process has; a bomb that goes off meets this wall and not the machine's."""
MOST_LINES, MOST_CHARACTERS = 16, 1_500
"""Of what a failure says: a few lines that a person can read."""
_BARE = re.compile(r"^(\w+: )?([\w.]+\.)?[A-Z]\w*(Error|Exception|Warning|Interrupt)\b", re.MULTILINE)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x80-\x9f]")


@dataclass(frozen=True)
class Call:
    """A command line to judge.

    codes: the exit codes it may have. says: what a failure must name, a regular expression. environment: variables. typed: its stdin.
    may_change: names in the bench's folder that it is asked to write.
    """

    arguments: Sequence[str | Path]
    codes: tuple[int, ...] = (1, 2)
    says: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    typed: bytes = b""
    may_change: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """One hostile input: `make` lays it out in a bench's folder and returns the commands that meet it."""

    name: str
    make: Callable[[Bench], Sequence[Call]]


class Bench:
    """Where one input is laid out and judged. `folder`: the input, which must stay as it is; `out`: empty, where results may go;
    `trap`: a file that exists only if code of the input has run."""

    def __init__(self, server: Server, small: Small, root: Path) -> None:
        self.server, self.small, self.root = server, small, root
        self.folder, self.out, self.trap = root / "in", root / "out", root / "code-has-run"
        for folder in (self.folder, self.out, root / "tmp"):
            folder.mkdir(parents=True)

    def judge(self, call: Call) -> str:
        """Run the command; what it says on stdout. Fails naming everything that is wrong."""
        house, before = self.small.base.parent, census(self.folder)
        treasure = census(house)
        code, out, err = self._run(call)
        lines = err.splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        changed = [name for name in sorted(census(self.folder).items() ^ before.items())
                   if not name[0].startswith(call.may_change or ("//",))]
        told = err[: 4 * MOST_CHARACTERS]
        faults = {
            f"it hangs: not done after {PATIENCE_SECONDS} s": code == -signal.SIGKILL,
            f"exit code {code}, not one of {call.codes}": code not in call.codes,
            "a traceback": "Traceback" in out + err,
            "a bug, not a verdict": "(bug;" in err,
            "a bare exception": bool(_BARE.search(err)),
            f"exit code {code} with {len(errors)} errors": bool(errors) != bool(code),
            f"no hint in what it says, or more than {MOST_LINES} lines": bool(errors) and not (
                len(lines) <= MOST_LINES and max(map(len, lines)) <= MOST_CHARACTERS),
            f"errors that do not say {call.says!r}": bool(code) and re.search(call.says, "\n".join(errors)) is None,
            "control characters for the terminal": bool(_CONTROLS.search(out + err)),
            "more than one JSON object on stdout": "--json" in call.arguments and not _is_one_object(out),
            "code of the input has run": self.trap.exists(),
            f"the input was changed: {changed[:4]}": bool(changed),
            "what lay elsewhere was changed": census(house) != treasure,
            "something left in the folder for temporary files": any((self.root / "tmp").iterdir()),
        }
        found = [fault for fault, is_so in faults.items() if is_so]
        assert not found, f"{'; '.join(found)}\n$ tutelage {' '.join(map(str, call.arguments))}\n{told}"
        return out

    def _run(self, call: Call) -> tuple[int, str, str]:
        files = {name: self.root / f"{name}.txt" for name in ("typed", "output", "errors")}
        for name, file in files.items():
            file.write_bytes(call.typed if name == "typed" else b"")
        pid = self.server.start(
            *map(str, call.arguments), output=files["output"], errors=str(files["errors"]), input=str(files["typed"]),
            folder=str(self.out), memory=MEMORY,
            environment={"TMPDIR": str(self.root / "tmp"), "TOKENIZERS_PARALLELISM": "false", **call.environment})
        watch = threading.Timer(PATIENCE_SECONDS, os.kill, (pid, signal.SIGKILL))   # its id is nobody else's before `wait`
        watch.start()
        code = self.server.wait(pid)
        watch.cancel()
        out, err = (files[name].read_text(encoding="utf-8", errors="replace") for name in ("output", "errors"))
        return code, out, err


def census(root: Path) -> dict[str, str]:
    """Everything below a folder by name: kind, permissions and content."""
    found = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            status = path.lstat()
            kind = stat.filemode(status.st_mode)
            content = os.readlink(path) if stat.S_ISLNK(status.st_mode) else ""
            if stat.S_ISREG(status.st_mode):
                content = f"{status.st_size} {status.st_mtime_ns}"
                if status.st_size < 1 << 24:
                    content = hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path.relative_to(root))] = f"{kind} {content}"
    return found


def _is_one_object(out: str) -> bool:
    try:
        return isinstance(json.loads(out), dict)
    except ValueError:
        return False
