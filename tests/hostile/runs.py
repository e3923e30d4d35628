"""Hostile run directories and checkpoints: forged manifests, links, torn and foreign files, records of the wrong kind."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.hostile.judge import Bench, Call, Case
from tests.hostile.models import CODE, edit, link, pickled, put
from tutelage.base.files import MANIFEST, write_manifest

Damage = Callable[[Path, Bench], None]
LAST = "ckpt/step-000004"
BRACKETS = "[" * 10**5
SETTINGS = ["train.max_steps=6", "train.epochs=null", "train.batch_size=4", "save.every_steps=2", "eval.every_steps=100"]


def run_of(bench: Bench) -> Path:
    """A copy of an SFT run that was stopped after its last checkpoint but one."""
    good = bench.small.base.parent.parent / "hostile-run"
    if not good.exists():
        made = bench.out / "run"
        bench.judge(
            Call(
                [
                    "sft",
                    f"model.policy={bench.small.base}",
                    f'data.files=["{bench.small.demonstrations}"]',
                    *SETTINGS,
                    "--run-dir",
                    made,
                    "-q",
                ],
                (0,),
            )
        )
        shutil.rmtree(made / "ckpt/step-000006")
        (made / "result.json").unlink()
        (made / "latest").write_text("step-000004\n")
        made.rename(good)
    return Path(shutil.copytree(good, bench.folder / "run"))


def file(name: str, content: str | bytes) -> Damage:
    return lambda run, bench: put(name, content)(run, bench.trap)


def changed(name: str, **values: Any) -> Damage:
    return lambda run, bench: edit(name, **values)(run, bench.trap)


def linked(name: str, to: str = "") -> Damage:
    """A link in the place of a file: to what is named, else to a file of somebody's that must stay as it is."""

    def damage(run: Path, bench: Bench) -> None:
        treasure = bench.folder / "treasure"
        treasure.write_text('{"step": 0, "seconds": 1.0}\n')
        link(name, to or str(treasure))(run, bench.trap)

    return damage


def sealed(*damages: Damage) -> Damage:
    """The last checkpoint changed by somebody who also wrote its manifest anew."""

    def damage(run: Path, bench: Bench) -> None:
        for one in damages:
            one(run, bench)
        write_manifest(run / LAST)

    return damage


def forged(**files: Any) -> Damage:
    return file(f"{LAST}/{MANIFEST}", json.dumps({"files": files}))


def made(name: str, make: Callable[[Path], object]) -> Damage:
    """Something else in the place of a file."""

    def damage(run: Path, bench: Bench) -> None:
        path = run / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        make(path)

    return damage


def state(**values: Any) -> Damage:
    """Other values in the last checkpoint's training state, with a manifest that holds."""
    name = f"{LAST}/train/state.json"
    return sealed(lambda run, bench: edit(name, values=json.loads((run / name).read_text())["values"] | values)(run, bench.trap))


ENTRY = {"sha256": "0" * 64, "bytes": 9}
RUNS: dict[str, Damage] = {
    "a manifest of a file above": forged(**{"../../../../treasure": ENTRY}),
    "a manifest of a whole path": forged(**{"/etc/passwd": ENTRY}),
    "a manifest of a device": forged(**{"/dev/zero": {"sha256": "0" * 64, "bytes": 0}}),
    "a manifest of nothing": forged(),
    "a manifest of wrong kinds": forged(a=3),
    "a manifest of nan": forged(a={"sha256": "x", "bytes": float("nan")}),
    "a manifest of a number of 400 digits": forged(a={"sha256": "x", "bytes": 10**400}),
    "a manifest of a list": file(f"{LAST}/{MANIFEST}", "[]"),
    "a manifest of brackets": file(f"{LAST}/{MANIFEST}", BRACKETS),
    "a manifest of noise": file(f"{LAST}/{MANIFEST}", bytes(range(256))),
    "a manifest of no bytes": file(f"{LAST}/{MANIFEST}", ""),
    "a manifest that is a link to a device": linked(f"{LAST}/{MANIFEST}", "/dev/zero"),
    "a manifest that is a pipe": made(f"{LAST}/{MANIFEST}", os.mkfifo),
    "a manifest that is a folder": made(f"{LAST}/{MANIFEST}", Path.mkdir),
    "weights torn": file(f"{LAST}/model/model.safetensors", b"\0" * 1000),
    "weights pickled": lambda run, bench: pickled(f"{LAST}/model/model.safetensors")(run, bench.trap),
    "weights that are a pipe": made(f"{LAST}/model/model.safetensors", os.mkfifo),
    "weights pickled and sealed": sealed(lambda run, bench: pickled(f"{LAST}/model/model.safetensors")(run, bench.trap)),
    "code for the model, sealed": sealed(
        changed(f"{LAST}/model/config.json", auto_map={"AutoModelForCausalLM": "evil.M"}, model_type="evil"),
        file(f"{LAST}/model/evil.py", CODE),
    ),
    "no model, sealed": sealed(made(f"{LAST}/model", lambda path: None)),
    "no training state, sealed": sealed(made(f"{LAST}/train", lambda path: None)),
    "a state of noise, sealed": sealed(file(f"{LAST}/train/state.json", b"\xff\xfe")),
    "a state of brackets, sealed": sealed(file(f"{LAST}/train/state.json", BRACKETS)),
    "a state of a list, sealed": sealed(file(f"{LAST}/train/state.json", "[]")),
    "values of a list, sealed": sealed(changed(f"{LAST}/train/state.json", values=[1, 2])),
    "values of null, sealed": sealed(changed(f"{LAST}/train/state.json", values=None)),
    "a best step of text": state(best_step="x"),
    "a best step of -5": state(best_step=-5),
    "a best step of 10^12": state(best_step=10**12),
    "a best step above": state(best_step="../../x"),
    "a best step of a list": state(best_step=[1]),
    "a best loss of text": state(best_loss="low"),
    "bad evals of text": state(bad_evals="many"),
    "bad evals of null": state(bad_evals=None),
    "unseen of a number": state(unseen=3),
    "tensors of noise, sealed": sealed(file(f"{LAST}/train/state.safetensors", bytes(range(256)))),
    "tensors pickled, sealed": sealed(lambda run, bench: pickled(f"{LAST}/train/state.safetensors")(run, bench.trap)),
    "no tensors, sealed": sealed(file(f"{LAST}/train/state.safetensors", b"\x02\0\0\0\0\0\0\0{}")),
    "tensors of other names, sealed": sealed(
        file(
            f"{LAST}/train/state.safetensors",
            b"\x3a\0\0\0\0\0\0\0"
            + json.dumps({"a/b/c/d": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).ljust(58).encode()
            + b"\0" * 4,
        )
    ),
    "latest above": file("latest", "../../treasure\n"),
    "latest of itself": file("latest", "./\n"),
    "latest a whole path": file("latest", "/etc\n"),
    "latest of nothing": file("latest", ""),
    "latest of noise": file("latest", bytes(range(256))),
    "latest of escapes": file("latest", "\x1b[2J\x07\n"),
    "latest of nul": file("latest", "a\0b\n"),
    "latest a folder": made("latest", Path.mkdir),
    "latest a long name": file("latest", "n" * 10**5),
    "a checkpoint of no number": made("ckpt/step-abc", Path.mkdir),
    "a checkpoint of a long number": made("ckpt/step-" + "9" * 60, Path.mkdir),
    "a checkpoint of 200 digits": made("ckpt/step-" + "9" * 200, Path.mkdir),
    "a checkpoint in other digits": made("ckpt/step-٤٤", Path.mkdir),
    "a checkpoint that is a file": made("ckpt/step-000009", lambda path: path.write_text("x")),
    "an empty checkpoint": made("ckpt/step-000009", Path.mkdir),
    "a checkpoint that is a link out": made("ckpt/step-000009", lambda path: path.symlink_to("../../..")),
    "a checkpoint that is a link to itself": made("ckpt/step-000009", lambda path: path.symlink_to("step-000009")),
    "checkpoints that are a file": made("ckpt", lambda path: path.write_text("x")),
    "checkpoints that are a link to nowhere": made("ckpt", lambda path: path.symlink_to("no")),
    "metrics of noise": file("metrics.jsonl", bytes(range(256))),
    "metrics of brackets": file("metrics.jsonl", BRACKETS),
    "metrics of wrong kinds": file("metrics.jsonl", '{"step": "x", "seconds": []}\n'),
    "metrics of nan": file("metrics.jsonl", '{"step": 0, "seconds": NaN}\n' * 4),
    "metrics of a huge step": file("metrics.jsonl", '{"step": ' + "9" * 4000 + ', "seconds": 1.0}\n'),
    "metrics that are a link": linked("metrics.jsonl"),
    "metrics that are a folder": made("metrics.jsonl", Path.mkdir),
    "metrics that are a pipe": made("metrics.jsonl", os.mkfifo),
    "a config of noise": file("config.yaml", bytes(range(256))),
    "a config of python": file("config.yaml", "!!python/object/apply:os.system ['touch TRAP']\n"),
    "a config of a list": file("config.yaml", "[a]\n"),
    "a config of brackets": file("config.yaml", BRACKETS),
    "a config that is a link": linked("config.yaml"),
    "a config of laughs": file(
        "config.yaml",
        "a: &a {x: 1, y: 2}\n"
        + "".join(f"{b}: &{b} {{x: *{a}, y: *{a}, z: *{a}, u: *{a}}}\n" for a, b in zip("abcdefghijklmn", "bcdefghijklmno", strict=True)),
    ),
    "a lineage of noise": file("lineage.json", bytes(range(256))),
    "a lineage of brackets": file("lineage.json", BRACKETS),
    "a lineage of a list": file("lineage.json", "[]"),
    "a lineage of nothing": file("lineage.json", "{}"),
    "parents of a list": changed("lineage.json", parents=[1]),
    "parents of wrong kinds": changed("lineage.json", parents={"policy": 3, "data": [3, None, {"path": []}]}),
    "versions of a list": changed("lineage.json", versions=[1]),
    "a lineage that is a pipe": made("lineage.json", os.mkfifo),
    "a result of noise": file("result.json", bytes(range(256))),
    "a result of brackets": file("result.json", BRACKETS),
    "a result of null": file("result.json", "null"),
    "a result of a list": file("result.json", "[]"),
    "a result of nothing": file("result.json", "{}"),
    "a result of escapes": file("result.json", '{"path": "\\u001b[2J"}'),
    "a result that is a link": linked("result.json"),
    "a lock that is a folder": made(".lock", Path.mkdir),
    "a lock that is a pipe": made(".lock", os.mkfifo),
    "a lock that is a link": linked(".lock"),
    "masks that are a link": linked("masks.txt"),
    "masks that are a folder": made("masks.txt", Path.mkdir),
    "a leftover that is a link out": made("ckpt/.step-000009.tmp-999999-abcdef01", lambda path: path.symlink_to("../../..")),
    "an old one that is a link out": made("ckpt/.step-000009.old-999999-abcdef01", lambda path: path.symlink_to("../../..")),
    "a leftover that is a file": made("ckpt/.step-000009.tmp-999999-abcdef01", lambda path: path.write_text("x")),
    "nothing but a config": lambda run, bench: [
        shutil.rmtree(run / "ckpt"),
        *(p.unlink() for p in run.iterdir() if p.is_file() and p.name != "config.yaml"),
    ][0],
    "somebody's thesis": lambda run, bench: [shutil.rmtree(run), run.mkdir(), (run / "thesis.tex").write_text("years")][0],
    "a run that is a file": lambda run, bench: [shutil.rmtree(run), run.write_text("x")][0],
    "a run that is a link to a folder of others": lambda run, bench: [
        shutil.rmtree(run),
        (bench.folder / "other").mkdir(),
        (bench.folder / "other/a").write_text("x"),
        run.symlink_to("other"),
    ][0],
    "a run that is a pipe": lambda run, bench: [shutil.rmtree(run), os.mkfifo(run)][0],
}
"""What is wrong with a run that was stopped -> how to make it so."""

OTHER: dict[str, list[str]] = {
    "another rate": ["optim.learning_rate=0.1"],
    "another batch": ["train.batch_size=3"],
    "another seed": ["--seed", "9"],
    "other data": ["data.files=[/etc/hostname]"],
    "another model": ["model.policy=/etc"],
    "a seed of nan": ["seed=.nan"],
    "another device": ["--device", "\x1b[2J"],
    "fewer steps": ["train.max_steps=1"],
    "another context": ["model.context_tokens=9"],
}
"""Settings with which nobody may go on."""


def cases() -> Iterator[tuple[Case, bool]]:
    """Every run met by --resume, and by one of the commands that open runs as models."""
    for number, (name, damage) in enumerate(RUNS.items()):

        def make(bench: Bench, damage: Damage = damage, number: int = number) -> Sequence[Call]:
            run = run_of(bench)
            damage(run, bench)
            opened = [
                Call(["export", run, bench.out / "exported", "-q"], (0, 1, 2)),
                Call(["chat", run, "--prompt", "where is cat 1?", "--max-tokens", "2", "-q"], (0, 1, 2)),
            ][number % 2]
            resumed = Call(
                [
                    "sft",
                    f"model.policy={bench.small.base}",
                    f'data.files=["{bench.small.demonstrations}"]',
                    *SETTINGS,
                    "--run-dir",
                    run,
                    "--resume",
                    "-q",
                ],
                (0, 1, 2),
                may_change=("run/",),
            )
            return [opened, resumed]

        yield Case(f"run: {name}", make), False
    for name, over in OTHER.items():

        def other(bench: Bench, over: list[str] = over) -> Sequence[Call]:
            run = run_of(bench)
            return [Call(["sft", run / "config.yaml", "--run-dir", run, "--resume", "-q", *over], (1, 2), may_change=("run/.lock",))]

        yield Case(f"resume with {name}", other), False
