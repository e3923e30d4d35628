"""Forks processes of `tutelage` from one that has imported everything, so that hundreds of them cost no import time.

Each line on stdin is a request, each line on stdout its answer: {"arguments", "output"} -> process id; {"wait": pid} -> exit code.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from typing import NoReturn

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
            work(request["arguments"], request["output"])
        print(answer, flush=True)


def work(arguments: list[str], output: str) -> NoReturn:
    """As `tutelage ARGUMENTS <&- >OUTPUT 2>&1` in a process of its own."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    code: object = 1
    try:
        tutelage(arguments)
    except SystemExit as end:
        code = end.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    serve()
