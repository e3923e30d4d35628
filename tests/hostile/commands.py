"""Hostile command lines: what is typed at a chat, rewards in Python, names and places to write to."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.hostile.judge import Bench, Call, Case
from tests.hostile.models import CODE

REWARDS: dict[str, str] = {
    "raises": "def reward(p, c): raise ValueError('\\x1b[2J' * 999)",
    "exits": "import sys\ndef reward(p, c): sys.exit(0)",
    "exits when read": "raise SystemExit(0)",
    "returns text": "def reward(p, c): return 'good'",
    "returns too few": "def reward(p, c): return [1.0]",
    "returns nan": "def reward(p, c): return [float('nan')] * len(c)",
    "returns infinity": "def reward(p, c): return [float('inf')] * len(c)",
    "returns nothing": "def reward(p, c): pass",
    "returns huge numbers": "def reward(p, c): return [10**999] * len(c)",
    "returns maps": "def reward(p, c): return {x: 1 for x in c}",
    "returns lists": "def reward(p, c): return [[1.0]] * len(c)",
    "never stops calling": "def reward(p, c): return reward(p, c)",
    "takes nothing": "def reward(): return []",
    "is no function": "reward = 3",
    "is not there": "other = 3",
    "is no Python": "def reward(:",
    "is empty": "",
    "is not utf-8": "# \xff",
    "wants a module": "import nothing_of_the_kind",
    "changes what it is given": "def reward(p, c):\n    c.clear(); p.clear()\n    return [0.0] * 4",
    "is a class": "class reward:\n    def __init__(self, p, c): pass",
    "interrupts": "def reward(p, c): raise KeyboardInterrupt",
}
SPECS = (
    "code.py",
    ":reward",
    "code.py:",
    "code.py:reward:more",
    "code.py:__import__('os')",
    "/dev/zero.py:reward",
    "os:system",
    "os.path:join",
    "..code:reward",
    "http://a/b.py:reward",
    "\x1b[2J:reward",
    "code.py:reward\x1b[2J",
    "x" * 10_000 + ":reward",
    "builtins:print",
    "nothing_of_the_kind:reward",
)

Make = Callable[[Bench], list[Call]]


def ppo(bench: Bench, *more: str | Path, codes: tuple[int, ...] = (1, 2), **environment: str) -> Call:
    small = bench.small
    return Call(
        [
            "ppo",
            f"model.policy={small.sft}",
            f'data.files=["{small.prompts}"]',
            "algo.batch_size=4",
            "algo.minibatch_size=2",
            "algo.num_iterations=1",
            "rollout.max_tokens=2",
            "eval.every_iterations=0",
            "--run-dir",
            bench.out / "run",
            "-q",
            *more,
        ],
        codes,
        environment=environment,
    )


def typed(text: bytes) -> Make:
    return lambda bench: [Call(["chat", bench.small.sft, "--max-tokens", "2", "-q"], (0, 1), typed=text)]


def asked(*flags: str) -> Make:
    return lambda bench: [Call(["chat", bench.small.sft, "--max-tokens", "2", "-q", *flags], (0, 1, 2))]


def converted(out: str, before: Callable[[Path], object] = lambda path: None, to: str = "messages") -> Make:
    """`data convert` to a name in the folder of the input, which it must not take."""

    def make(bench: Bench) -> list[Call]:
        treasure = bench.folder / "treasure.jsonl"
        treasure.write_bytes(bench.small.demonstrations.read_bytes())
        path = bench.folder / out
        before(path)
        return [Call(["data", "convert", treasure, "--to", to, "--out", path])]

    return make


def line(*arguments: str, codes: tuple[int, ...] = (1, 2)) -> Make:
    return lambda bench: [
        Call(
            [
                a.replace("SFT", str(bench.small.sft)).replace("ROWS", str(bench.small.demonstrations)).replace("OUT", str(bench.out))
                for a in arguments
            ],
            codes,
        )
    ]


def piped(*arguments: str) -> Make:
    """The arguments with a pipe of the input's own in the place of PIPE. Never a real device: a command that broke would break it."""

    def make(bench: Bench) -> list[Call]:
        pipe = bench.folder / "pipe"
        os.mkfifo(pipe)
        return line(*(argument.replace("PIPE", str(pipe)) for argument in arguments))(bench)

    return make


OTHERS: dict[str, Make] = {
    # -- what is typed
    "typed noise": typed(bytes(range(128, 256)) + b"\n"),
    "typed nul": typed(b"a\0b\n"),
    "typed escapes": typed(b"\x1b[2J\x1b]0;x\x07\n"),
    "typed nothing": typed(b""),
    "typed blanks": typed(b"\n \n\t\n"),
    "typed a megabyte": typed(b"a" * 10**6 + b"\n"),
    "typed control tokens": typed(b"<|eos|><|user|>\n"),
    "typed commands of nobody": typed(b"/evil\n/QUIT\n/../../etc\n/\n"),
    "typed 50 questions": typed(b"where is cat?\n" * 50),
    "typed utf-16": typed("where?\n".encode("utf-16")),
    "typed half a surrogate": typed(b"\xed\xa0\x80\n"),
    "a prompt of nothing": asked("--prompt", ""),
    "a prompt of blanks": asked("--prompt", " \n "),
    "a prompt of escapes": asked("--prompt", "\x1b[2J"),
    "a prompt of no utf-8": asked("--prompt", "\udcff\udcfe"),
    "a prompt of 100000 letters": asked("--prompt", "a" * 10**5),
    "a prompt as json": asked("--prompt", "hi", "--json"),
    "a temperature of nan": asked("--prompt", "a", "--temperature", "nan"),
    "a temperature of inf": asked("--prompt", "a", "--temperature", "inf"),
    "a temperature of 10^-300": asked("--prompt", "a", "--temperature", "1e-300"),
    "a seed of 2^64": asked("--prompt", "a", "--seed", str(2**64)),
    "10^18 tokens": asked("--prompt", "a", "--max-tokens", str(10**18)),
    "a device of escapes": asked("--prompt", "a", "--device", "\x1b[2J"),
    "json without a prompt": asked("--json"),
    # -- where things are written
    "convert onto its input": converted("treasure.jsonl"),
    "convert onto a link to its input": converted("link.jsonl", lambda path: path.symlink_to("treasure.jsonl")),
    "convert onto a folder": converted("folder.jsonl", Path.mkdir),
    "convert without a form": converted("treasure"),
    "convert below a file": converted("treasure.jsonl/a.jsonl"),
    "convert onto a pipe": converted("pipe.jsonl", os.mkfifo),
    "convert below a pipe": converted("pipe/a.jsonl", lambda path: os.mkfifo(path.parent)),
    "convert to nobody": line("data", "convert", "ROWS", "--to", "\x1b[2J", "--out", "OUT/a.jsonl"),
    "convert to a long name": line("data", "convert", "ROWS", "--to", "messages", "--out", "OUT/" + "n" * 300 + ".jsonl"),
    "export onto the model": line("export", "SFT", "SFT"),
    "export into the model": line("export", "SFT", "SFT/config.json"),
    "export onto a pipe": piped("export", "SFT", "PIPE"),
    "export below a pipe": piped("export", "SFT", "PIPE/a"),
    "export of nothing": line("export", "", "OUT/a"),
    "export of a device": line("export", "/dev/zero", "OUT/a"),
    "export of the root": line("export", "/", "OUT/a"),
    "export of escapes": line("export", "\x1b[2J", "OUT/a"),
    "init onto a pipe": piped("init", "--model", "SFT", "--data", "ROWS", "--no-forecast", "--out", "PIPE"),
    "init of a name above": line("init", "--model", "../../etc", "--data", "ROWS", "--out", "OUT"),
    "init of a hub's name without a network": line("init", "--model", "someone/evil", "--data", "ROWS", "--out", "OUT"),
    "init of a url": line("init", "--model", "http://localhost/a", "--data", "ROWS", "--out", "OUT"),
    "init with a column of nobody": line("init", "--model", "SFT", "--data", "ROWS", "--column", "a=b=c", "--out", "OUT"),
    "init with data from nowhere": line("init", "--model", "SFT", "--data", "", "--out", "OUT"),
    "init with a rank of 10^9": line(
        "init", "--model", "SFT", "--data", "ROWS", "--lora", str(10**9), "--out", "OUT", "--no-forecast", codes=(0, 1, 2)
    ),
    "a run below a file": line("sft", "model.policy=SFT", "data.files=[ROWS]", "--run-dir", "ROWS/run"),
    "a run below a pipe": piped("sft", "model.policy=SFT", "data.files=[ROWS]", "--run-dir", "PIPE/run"),
    "a run onto a pipe": piped("sft", "model.policy=SFT", "data.files=[ROWS]", "--run-dir", "PIPE"),
    "a run of a long name": line("sft", "model.policy=SFT", "data.files=[ROWS]", "--run-dir", "OUT/" + "n" * 300),
    "a run in the model": line("sft", "model.policy=SFT", "data.files=[ROWS]", "--run-dir", "SFT"),
    # -- what is asked for
    "nothing": line(codes=(0,)),
    "a verb of nobody": line("\x1b[2J"),
    "a verb of a megabyte": line("v" * 10**5),
    "a flag of nobody": line("sft", "--\x1b[2J"),
    "two files": line("sft", "a.yaml", "b.yaml"),
    "dashes": line("sft", "--", "-", "--"),
    "a number for a flag": line("sft", "--seed", "x"),
    "a seed of 5000 digits": line("sft", "--seed", "9" * 5000),
    "config of nobody": line("config", "show", "../../etc"),
    "schema of nobody": line("config", "schema", "\x1b[2J"),
    "check of nothing": line("data", "check"),
    "check of the root": line("data", "check", "/"),
    "check of a device": line("data", "check", "/dev/zero"),
    "check of stdin": line("data", "check", "/dev/stdin"),
    "check of memory": line("data", "check", "/proc/self/mem"),
    "check of a bracket": line("data", "check", "[" * 999),
    "check of a hub without a network": line("data", "check", "hub:someone/evil", codes=(1, 4)),
    "check of a hub's path": line("data", "check", "hub:../../etc@a:b", codes=(1, 2, 4)),
    "check as a layout of nobody": line("data", "check", "ROWS", "--layout", "\x1b[2J"),
    "check with a column of nobody": line("data", "check", "ROWS", "--column", "prompt=" + "a." * 10**4),
    "check with no column": line("data", "check", "ROWS", "--column", "prompt"),
    "check with a share of nan": line("data", "check", "ROWS", "--max-rejected-frac", "nan", codes=(0, 1, 2)),
    "check by a model that is none": line("data", "check", "ROWS", "--model", "/dev/zero"),
    "evaluate nothing": line("evaluate"),
    "evaluate a list": line("evaluate", "models=[a]", "reward=b", "data.files=[ROWS]"),
    "evaluate names of escapes": line("evaluate", 'models={"\x1b[2J": {path: a}}', "reward=b", "data.files=[ROWS]"),
    "evaluate folds of nothing": line("evaluate", "--cv", "folds=0"),
    "prove with a beta of nan": line("prove", "ppo", "--beta", "nan"),
    "prove with a beta of 0": line("prove", "ppo", "--beta", "0"),
    "prove nobody": line("prove", "\x1b[2J"),
    "run nothing": line("run", ""),
    "run a folder": line("run", "OUT"),
    "run a device": line("run", "/dev/zero"),
}


def cases() -> Iterator[tuple[Case, bool]]:
    for name, code in REWARDS.items():

        def reward(bench: Bench, code: str = code, name: str = name) -> Sequence[Call]:
            path = bench.folder / "code.py"
            path.write_bytes(code.encode("latin1"))
            codes = (0, 1) if name.startswith("changes") else (1, 2, 130)
            return [ppo(bench, f"rewards.r.function={path}:reward", "--allow-code", codes=codes)]

        yield Case(f"a reward that {name}", reward), False
    for number, spec in enumerate(SPECS):

        def named(bench: Bench, spec: str = spec, number: int = number) -> Sequence[Call]:
            path = bench.folder / "code.py"
            path.write_text(CODE.replace("TRAP", str(bench.trap)) + "def reward(p, c): return [0.0] * len(c)\n")
            spec = spec.replace("code.py", str(path)) if spec.startswith("code.py") else spec
            key = {"PYTHONPATH": str(bench.folder), "TUTELAGE_ALLOW_CODE": "1"}
            if number % 2:
                return [ppo(bench, **key, TUTELAGE_REWARDS__R__FUNCTION=spec)]
            return [
                ppo(bench, f"rewards.r.function={spec}", "allow_code=true"),
                ppo(bench, f"rewards.r.function={spec}", "--dry-run", **key),
            ]

        yield Case(f"a reward named {spec[:30]!r}", named), False
    for name, make in OTHERS.items():
        yield Case(f"command: {name}", make), False
