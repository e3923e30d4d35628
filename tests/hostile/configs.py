"""Hostile config files, command lines and variables: bombs, tags, circles, and a wrong value for every setting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module

from tests.hostile.judge import Bench, Call, Case
from tutelage.base.config import leaves
from tutelage.base.outline import outline
from tutelage.cli.verbs import configured

_LAUGHS = "\n".join(
    [
        "a: &a [lol, lol]",
        *(
            f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}]"
            for a, b in zip("abcdefghij", "bcdefghijk", strict=True)
        ),
    ]
)
_LAUGHING_KEYS = "\n".join(
    [
        "a: &a {x: 1, y: 2}",
        *(
            f"{b}: &{b} {{x: *{a}, y: *{a}, z: *{a}, u: *{a}, v: *{a}, w: *{a}}}"
            for a, b in zip("abcdefghij", "bcdefghijk", strict=True)
        ),
    ]
)

FILES: dict[str, str | bytes] = {
    "empty.yaml": "",
    "blank.yaml": " \n\n",
    "a comment.yaml": "# nothing\n",
    "a scalar.yaml": "hello\n",
    "a list.yaml": "- a\n- b\n",
    "a number.yaml": "3\n",
    "null.yaml": "null\n",
    "two documents.yaml": "seed: 1\n---\nseed: 2\n",
    "tabs.yaml": "model:\n\tpolicy: a\n",
    "an open bracket.yaml": "data: {files: [a\n",
    "an open quote.yaml": 'seed: "1\n',
    "a colon.yaml": ":\n",
    "at sign.yaml": "seed: @1\n",
    "not utf-8.yaml": b"seed: \xff\n",
    "utf-16.yaml": "seed: 1\n".encode("utf-16"),
    "nul.yaml": "seed: 1\0\n",
    "bell.yaml": "seed: \x07\n",
    "noise.yaml": bytes(range(256)),
    "a pickle.yaml": b"\x80\x04\x95" + b"\0" * 60,
    "a gzip.yaml": b"\x1f\x8b\x08" + b"\0" * 60,
    "laughs.yaml": _LAUGHS,
    "laughing keys.yaml": _LAUGHING_KEYS,
    "an anchor in itself.yaml": "a: &a [*a]\n",
    "a section in itself.yaml": "model: &m {policy: a, more: *m}\n",
    "an alias of nothing.yaml": "seed: *nothing\n",
    "merge keys.yaml": "a: &a {seed: 1}\n<<: *a\n",
    "merge keys without end.yaml": "a: &a {<<: *a}\n",
    "python object.yaml": "seed: !!python/object/apply:os.system ['touch TRAP']\n",
    "python name.yaml": "seed: !!python/name:os.system\n",
    "python module.yaml": "seed: !!python/module:os\n",
    "python new.yaml": "!!python/object/new:os.system [touch TRAP]\n",
    "python in a list.yaml": "data: {files: [!!python/object/apply:subprocess.run [[touch, TRAP]]]}\n",
    "a tag of its own.yaml": "seed: !mine 3\n",
    "a binary.yaml": "seed: !!binary AAAA\n",
    "a set.yaml": "data: !!set {a, b}\n",
    "a timestamp.yaml": "seed: 2001-12-14t21:59:43.10-05:00\n",
    "a key that is a list.yaml": "? [a, b]\n: 1\n",
    "a key twice.yaml": "seed: 1\nseed: 2\n",
    "a key that is null.yaml": "~: 1\n",
    "a key of escapes.yaml": '"\\e[2J\\a": 1\n',
    "a value of escapes.yaml": 'model: {policy: "\\e[2J\\a"}\ndata: {files: [a]}\n',
    "a key of half a surrogate.yaml": '"\\ud800": 1\n',
    "a value of half a surrogate.yaml": 'model: {policy: "\\ud800"}\ndata: {files: [a]}\n',
    "unicode keys.yaml": "ｓｅｅｄ: 1\nмодель: 2\nseed\u200b: 3\n",
    "dots in keys.yaml": "model.policy: a\n",
    "a dunder.yaml": "__class__: x\n__init__: y\n",
    "model_config.yaml": "model_config: {extra: allow}\n",
    "model_fields.yaml": "model_fields: {}\nmodel_dump: 1\n",
    "a key of a megabyte.yaml": "k" * 10**6 + ": 1\n",
    "1000 unknown keys.yaml": "\n".join(f"k{i}: 1" for i in range(1000)),
    "a list of 9000.yaml": "data: {files: [" + "a, " * 9_000 + "a]}\n",
    "brackets 100000 deep.yaml": "data: " + "[" * 10**5 + "\n",
    "closed brackets 5000 deep.yaml": "data: " + "[" * 5000 + "]" * 5000 + "\n",
    "sections 3000 deep.yaml": "{a: " * 3000 + "1" + "}" * 3000 + "\n",
    "indented 2000 deep.yaml": "\n".join(" " * i + "a:" for i in range(2000)),
    "an int of 5000 digits.yaml": "seed: " + "9" * 5000 + "\n",
    "a hexadecimal of 5000 digits.yaml": "seed: 0x" + "f" * 5000 + "\n",
    "a float of a megabyte.yaml": "optim: {learning_rate: 0." + "1" * 10**6 + "}\n",
    "an octal.yaml": "seed: 0o777777777777777777777777\n",
    "include itself.yaml": "include: include itself.yaml\n",
    "include nothing.yaml": "include: nowhere.yaml\n",
    "include a list.yaml": "include: [a, b]\n",
    "include a folder.yaml": "include: .\n",
    "include a device.yaml": "include: /dev/zero\n",
    "include passwd.yaml": "include: /etc/passwd\n",
    "include null.yaml": "include:\n",
    "include a url.yaml": "include: http://localhost/a.yaml\n",
    "verb a list.yaml": "verb: [sft]\n",
    "verb unknown.yaml": "verb: rm -rf\n",
    "verb of another.yaml": "verb: reward\nmodel: {policy: a}\n",
    "sections as lists.yaml": "model: [a]\ndata: [b]\n",
    "sections as words.yaml": "model: a\ndata: b\n",
    "sections as null.yaml": "model:\ndata:\n",
    "nan everywhere.yaml": "seed: .nan\noptim: {learning_rate: .nan}\n",
    "infinite.yaml": "optim: {learning_rate: .inf, max_grad_norm: -.inf}\n",
    "yes and no.yaml": "resume: yes\n",
    "files of a number.yaml": "data: {files: 3}\n",
    "files of nothing.yaml": "model: {policy: a}\ndata: {files: []}\n",
    "files of numbers.yaml": "model: {policy: a}\ndata: {files: [1, 2]}\n",
    "empty.toml": "",
    "not toml.toml": "model: {policy: a}\n",
    "a key twice.toml": "seed = 1\nseed = 2\n",
    "an open string.toml": 'seed = "1\n',
    "brackets 100000 deep.toml": "a = " + "[" * 10**5 + "\n",
    "closed brackets 5000 deep.toml": "a = " + "[" * 5000 + "]" * 5000 + "\n",
    "a table 5000 deep.toml": "[" + "a." * 5000 + "a]\nb = 1\n",
    "dates.toml": "seed = 1979-05-27T07:32:00Z\n",
    "nan.toml": "[optim]\nlearning_rate = nan\n",
    "an int of 5000 digits.toml": "seed = " + "9" * 5000 + "\n",
    "nul.toml": "seed = 1\0\n",
    "not utf-8.toml": b"seed = \xff\n",
    "a list of tables.toml": "[[model]]\npolicy = 'a'\n",
    "quoted keys.toml": '"\\u001b[2J" = 1\n"" = 2\n',
    "inline tables.toml": "model = {policy = 'a', policy = 'b'}\n",
    "no suffix": "seed: @\n",
    "json.json": '{"seed": "x", "seed": 1}',
    "a web page.yaml": "<!DOCTYPE html>\n<html>: <body>\n",
}
"""File name -> content, with TRAP for the file that code in it would leave."""

READS = "data: {root: ROOT}\nstages: {a: {verb: sft, config: {model: {policy: MODEL}, data: {files: [FILE]}}}}\n"
REWARDED = "stages: {a: {verb: ppo, config: {model: {policy: MODEL}, rewards: {r: {function: CODE}}, data: {files: [x]}}}}\n"

PIPELINES: dict[str, str] = {
    "a stage that leaves the folder": "stages: {../../../in/evil: {verb: sft, config: CONFIG}}\n",
    "a stage with a whole path": "stages: {ROOT/evil: {verb: sft, config: CONFIG}}\n",
    "a stage called ..": "stages: {..: {verb: sft, config: CONFIG}}\n",
    "a stage called .": "stages: {.: {verb: sft, config: CONFIG}}\n",
    "a stage without a name": 'stages: {"": {verb: sft, config: CONFIG}}\n',
    "a stage of a name of escapes": 'stages: {"\\e[2J": {verb: sft, config: CONFIG}}\n',
    "a stage with nul in its name": 'stages: {"a\\0b": {verb: sft, config: CONFIG}}\n',
    "a stage of a long name": "stages: {" + "n" * 300 + ": {verb: sft, config: CONFIG}}\n",
    "no stages": "stages: {}\n",
    "stages in a list": "stages: [a]\n",
    "an unknown verb": "stages: {a: {verb: os.system, config: {}}}\n",
    "a verb that is a list": "stages: {a: {verb: [sft]}}\n",
    "like itself": "stages: {a: {verb: sft, like: a}}\n",
    "like in a circle": "stages: {a: {verb: sft, like: b}, b: {verb: sft, like: a}}\n",
    "like nobody": "stages: {a: {verb: sft, like: z}}\n",
    "an unknown name": "stages: {a: {verb: sft, config: {model: {policy: '${home}'}}}}\n",
    "a name in a name": "stages: {a: {verb: sft, config: {model: {policy: '${${run}}'}}}}\n",
    "a name that calls": 'stages: {a: {verb: sft, config: {model: {policy: \'${__import__("os").system("touch TRAP")}\'}}}}\n',
    "a format string": "stages: {a: {verb: sft, config: {model: {policy: '{0.__class__}%s$(touch TRAP)'}, data: {files: [x]}}}}\n",
    "run_dir in a stage": "stages: {a: {verb: sft, config: {run_dir: ../../in, model: {policy: nowhere}, data: {files: [x]}}}}\n",
    "${run} that leaves": "stages: {a: {verb: sft, config: {model: {policy: '${run}/../../in/nowhere'}, data: {files: ['${run}/../x']}}}}\n",  # noqa: E501
    "data that leaves its root": READS.replace("FILE", "'${data}/../secret.jsonl'"),
    "a link out of the data root": READS.replace("FILE", "'${data}/link.jsonl'"),
    "a pattern of links out of the data root": READS.replace("FILE", "'${data}/*.jsonl'"),
    "a link to a folder out of the data root": READS.replace("FILE", "'${data}/folder/secret.jsonl'"),
    "a data root of escapes": 'data: {root: "\\e[2J"}\nstages: {a: {verb: sft, config: {data: {files: ["${data}/x"]}}}}\n',
    "code of a file": REWARDED.replace("CODE", "CODE:reward"),
    "code of a module": REWARDED.replace("CODE", "antigravity:fly"),
    "a stage of a thousand": "stages: {" + ", ".join(f"s{i}: {{verb: sft}}" for i in range(1000)) + "}\n",
    "expected seconds of nan": "stages: {a: {verb: sft, expect_seconds: .nan, config: CONFIG}}\n",
    "a seed below 0": "seed: -1\nstages: {a: {verb: sft, config: CONFIG}}\n",
}

OVERRIDES = (
    "=",
    "seed=",
    "seed",
    "seed=x",
    "=1",
    "a b=1",
    ".=1",
    "model..policy=a",
    "model.policy.x.y.z=1",
    "data.files=[",
    "data.files=[[[",
    "data.files={",
    "data.files=" + "[" * 10**4,
    'data.files="',
    "seed=" + "9" * 5000,
    "seed=1e400",
    "seed=-0",
    "seed=٣",
    "data.files=&a [*a]",
    "data.files=!!python/name:os.system",
    "model=null",
    "model=[]",
    "data={files: [a], files: [b]}",
    "__class__.x=1",
    "optim.learning_rate=.nan",
    "optim.learning_rate=1e-400",
    "data.files=[a]\0",
    "model.policy=\x1b[2J",
    "k" * 10**4 + "=1",
    "data.sources=[{files: [a]}, 3]",
    "data.where={a: {b: c}}",
    "data.columns={prompt: [a]}",
    "data.mask_where=[1]",
    "lora.targets=3",
)

VARIABLES = {
    "TUTELAGE_SEED": "x",
    "TUTELAGE_OPTIM__LEARNING_RATE": "{",
    "TUTELAGE_DATA__FILES": "[" * 10**4,
    "TUTELAGE_MODEL__POLICY__X__Y": "1",
    "TUTELAGE_DATA__": "1",
    "TUTELAGE___": "1",
    "TUTELAGE_____": "[]",
    "TUTELAGE_RUN_DIR": "[]",
    "TUTELAGE_RESUME": "maybe",
    "TUTELAGE_DEVICE": "\x1b[2J",
    "TUTELAGE_TRAIN__EPOCHS": "9" * 5000,
    "TUTELAGE_OPTIM": "a",
    "TUTELAGE_OPTIM__BETA1": "NaN",
    "TUTELAGE_DATA__COLUMNS": "{a: &x [*x]}",
    "TUTELAGE_EVAL__EVERY_STEPS": "-1",
}

WRONG: tuple[str, ...] = (
    ".nan",
    "-1",
    "[]",
    "{}",
    "[[1]]",
    "hello",
    "{a: {b: c}}",
    "1e999",
    "-1e-400",
    '"\\0"',
    "~",
    "99999999999999999999999",
    "true",
    "[.inf]",
    "0",
)


def cases() -> Iterator[tuple[Case, bool]]:
    """Every one a file, a command line or a variable of its own."""
    for name, text in FILES.items():

        def file(bench: Bench, name: str = name, text: str | bytes = text) -> Sequence[Call]:
            path = bench.folder / name
            path.write_bytes(
                text
                if isinstance(text, bytes)
                else text.replace("TRAP", str(bench.trap)).encode("utf-8", "surrogatepass")
            )
            return [Call(["sft", path, "--dry-run", "-q"])]

        yield Case(f"config {name}", file), False
    for name, text in PIPELINES.items():
        yield Case(f"pipeline: {name}", lambda bench, text=text: pipeline(bench, text)), False
    for number, override in enumerate(OVERRIDES):

        def line(bench: Bench, override: str = override) -> Sequence[Call]:
            return [
                Call(
                    ["config", "show", "sft", "model.policy=a", "data.files=[b]", override.replace("\0", "\\0")], (0, 2)
                )
            ]

        yield Case(f"override {number}: {override[:40]!r}", line), False
    for variable, value in VARIABLES.items():

        def environment(bench: Bench, variable: str = variable, value: str = value) -> Sequence[Call]:
            return [
                Call(
                    ["config", "show", "sft", "model.policy=a", "data.files=[b]"], (0, 2), environment={variable: value}
                )
            ]

        yield Case(f"variable {variable}", environment), False
    for verb, key, value, is_slow in wrong_values():

        def wrong(bench: Bench, verb: str = verb, key: str = key, value: str = value) -> Sequence[Call]:
            text = value
            for part in reversed(key.split(".")):
                text = "{" + f"{part}: {text}" + "}"
            (bench.folder / "a.yaml").write_text(text + "\n")
            return [Call(["config", "show", verb, bench.folder / "a.yaml"], (0, 2))]

        yield Case(f"setting {verb} {key}: {value}", wrong), is_slow


def wrong_values() -> Iterator[tuple[str, str, str, bool]]:
    """(verb, setting, wrong value, whether it is slow's) for every setting of every verb; what verbs share is judged at once for one."""
    seen: set[str] = set()
    for verb, recipe in configured().items():
        values, required = outline(getattr(import_module(recipe.module), recipe.config))
        for number, (key, _) in enumerate(leaves(values)):
            yield verb, key, WRONG[(number + len(seen)) % len(WRONG)], key in seen or number % 2 == 1
            seen.add(key)


def pipeline(bench: Bench, text: str) -> Sequence[Call]:
    """A pipeline file beside a data root with links out of it, and beside code that must not run."""
    inside, outside = bench.folder / "root", bench.folder / "secret.jsonl"
    inside.mkdir()
    outside.write_bytes(bench.small.demonstrations.read_bytes())
    (inside / "link.jsonl").symlink_to(outside)
    (inside / "folder").symlink_to(bench.folder)
    code = bench.folder / "code.py"
    code.write_text(
        f"open({str(bench.trap)!r}, 'w')\n\ndef reward(prompts, completions):\n    return [0.0] * len(prompts)\n"
    )
    good = f"{{model: {{policy: {bench.small.base}}}, data: {{files: [{bench.small.demonstrations}]}}, "
    good += "train: {max_steps: 1, epochs: null}}"
    for name, path in {
        "CONFIG": good,
        "ROOT": inside,
        "MODEL": bench.small.base,
        "CODE": code,
        "TRAP": bench.trap,
    }.items():
        text = text.replace(name, str(path))
    (bench.folder / "a.yaml").write_text(text)
    return [Call(["run", bench.folder / "a.yaml", "--run-dir", bench.out / "run", "-q"], (1, 2))]
