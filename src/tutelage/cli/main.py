"""The front door: `tutelage VERB [CONFIG] [section.key=value …]`. Imports nothing heavy, so that --help is instant."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import Any, NoReturn

import click

from tutelage import __version__
from tutelage.base.errors import TutelageError, did_you_mean

from .group import Group
from .output import print_failure
from .verbs import COMMANDS, RECIPES

_SPINS = "1000"
"""How long an OpenMP thread of torch spins for its peers before it sleeps. GOMP's own 300,000 turns suit an idle machine only: with a
neighbour on one of two cores a training step took 80 times as long, with 1,000 turns 9 times, and an idle machine saw no difference."""


class LazyGroup(Group):
    """Verbs are listed from tables and imported when called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*RECIPES, *COMMANDS]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name in RECIPES:
            from .training import recipe_command

            return recipe_command(name, RECIPES[name])
        if name in COMMANDS:
            module, attribute = COMMANDS[name].target.split(":")
            return getattr(importlib.import_module(module), attribute)
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(name, verb.summary) for name, verb in (RECIPES | COMMANDS).items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]},
             epilog="`tutelage VERB --help` tells more about one verb.")
@click.version_option(__version__, prog_name="tutelage")
def cli() -> None:
    """Raise a language model: from raw text to an assistant people prefer, with the people in the loop."""


class Terminated(SystemExit):
    """SIGTERM arrived. Passes through `except Exception`, so a recipe can save and let it go on."""

    def __init__(self) -> None:
        super().__init__(143)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 1 failed, 2 usage or config, 3 a gate said no, 4 missing extra, 130 or 143 on a signal."""
    ours = arguments is None                                         # the process, which is then no test's
    arguments = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
    signal.signal(signal.SIGTERM, _on_sigterm)
    _mend_streams()
    try:
        code = cli.main(arguments, prog_name="tutelage", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        code = 1
    except Terminated:
        code = _report("terminated", None, 143, arguments, last=ours)
    except (KeyboardInterrupt, click.Abort):
        code = _report("interrupted", None, 130, arguments, last=ours)
    except SystemExit:
        raise
    except BaseException as error:                                   # a panic in a library's Rust is none of Exception's
        code = _report(*_explain(error), arguments, last=ours)
    if ours:
        _turn_deaf()
    try:
        sys.stdout.flush()
    except OSError:  # what could not be written is not tried again on the way out
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code if isinstance(code, int) else 0)


def _explain(error: BaseException) -> tuple[str, str | None, int]:
    """(message, hint, exit code) of a failure."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return "a verb is missing", f"see {error.ctx.command_path} --help", 2
    if isinstance(error, click.UsageError):
        ctx = error.ctx
        hint = f"see {ctx.command_path} --help" if ctx else None
        message = error.format_message()
        if isinstance(error, click.NoSuchOption):  # click's own words name every near flag, on their own line
            message = f"no flag {error.option_name}{did_you_mean(error.option_name, _flags(ctx))}"
        return message, hint, 2
    if isinstance(error, click.ClickException):
        return error.format_message(), None, error.exit_code
    if isinstance(error, TutelageError):
        return str(error), error.hint, error.exit_code
    if isinstance(error, OSError) and error.strerror:  # the machine said no, wherever it was asked
        return f"{error.filename or 'a file or the output'}: {error.strerror}", "check this path, its permissions and the disk", 1
    first = (str(error).splitlines() or [""])[0]
    return f"unexpected {type(error).__name__}: {first} (bug; rerun with -v for the traceback)", None, 1


def _flags(ctx: click.Context | None) -> list[str]:
    return [flag for parameter in ctx.command.get_params(ctx) for flag in parameter.opts if flag.startswith("--")] if ctx else []


def _report(message: str, hint: str | None, code: int, arguments: Sequence[str], *, last: bool) -> int:
    """Tell a failure: `error:` and `hint:` on stderr, or one JSON object on stdout. Returns the exit code. last: then the process ends."""
    if last:
        _turn_deaf()
    if _given(arguments, "-v", "--verbose"):
        traceback.print_exc()
    if _given(arguments, "--json"):
        answer: dict[str, Any] = {"error": message, "hint": hint, "exit_code": code}
        with contextlib.suppress(OSError):
            print(json.dumps(answer), flush=True)
    print_failure(message, hint)
    return code


def _mend_streams() -> None:
    """Streams the caller closed lead nowhere, and a character that a terminal cannot show becomes a question mark, not the end of a run."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - it stays open to the end
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace" if name == "stdout" else "backslashreplace")


def _given(arguments: Sequence[str], *flags: str) -> bool:
    """Whether a flag was typed, also when parsing failed before it was reached."""
    before_dashes = list(arguments)[: list(arguments).index("--")] if "--" in arguments else arguments
    return any(flag in before_dashes for flag in flags)


def _turn_deaf() -> None:
    """All that is left is to say how it ended: to this an impatient signal would add a traceback."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)


def _on_sigterm(signal_number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends the process at once
    raise Terminated


if __name__ == "__main__":
    main()
