"""Forks processes of `tutelage` from one that has imported everything, so that hundreds of them cost no import time.

Each line on stdin is a request, each line on stdout its answer: {"wait": pid} -> exit code, and a process to start -> its id:
{"arguments", "output", "errors": a file for stderr, else output's, "input": a file for stdin, "folder": where it works,
"environment": variables over the server's, "memory": bytes of address space that it may take beyond what it starts with}.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from tutelage.cli.main import main as tutelage
from tutelage.cli.verbs import RECIPES


def serve() -> None:
    for recipe in RECIPES.values():
        import_module(recipe.module)
    import_module("transformers.models.llama.modeling_llama")
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        elif not (answer := os.fork()):
            work(request)
        print(answer, flush=True)


def work(request: dict[str, Any]) -> NoReturn:
    """As `cd FOLDER; ENVIRONMENT tutelage ARGUMENTS <INPUT >OUTPUT 2>ERRORS` in a process of its own."""
    os.environ.update(request.get("environment", {}))
    tempfile.tempdir = None                                          # TMPDIR is looked at anew
    os.dup2(os.open(request.get("input", os.devnull), os.O_RDONLY), 0)
    sys.stdin = open(0, encoding="utf-8", closefd=False)             # the server's own has begun to read
    for number, name in ((1, request["output"]), (2, request.get("errors", request["output"]))):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.chdir(request.get("folder", "."))
    if "memory" in request and (sizes := Path("/proc/self/statm")).exists():       # elsewhere the system does not hold to the limit
        limit = int(sizes.read_text().split()[0]) * resource.getpagesize() + request["memory"]
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    code: object = 1
    try:
        tutelage(request["arguments"])
    except SystemExit as end:
        code = end.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    serve()
