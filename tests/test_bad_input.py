"""The table of bad input: one `error:` line naming what was found, a `hint:`, exit code 1 or 2, and nothing that was there is touched."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models.tiny import tiny
from tests.small import ppo_config, pretrain_config, reward_config, same_weights, sample_config, sft_config, write_rows
from tutelage.base.config import dump_config
from tutelage.base.files import folder_digest
from tutelage.cli.main import main
from tutelage.recipes.sft import train_sft
from tutelage.text.tokenizer import open_tokenizer

MAKE = {"pretrain": pretrain_config, "sft": sft_config, "reward": reward_config, "ppo": ppo_config, "sample": sample_config}


@pytest.fixture
def cli(capfd, tmp_path):
    """cli(verb, config, *overrides) -> (exit code, error lines, hint lines) of the command line."""

    def run(verb: str, cfg, *overrides: str) -> tuple[int, list[str], list[str]]:
        file = tmp_path / "config.yaml"
        file.write_text(dump_config(cfg))
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([verb, str(file), *overrides, "-q"])
        out, err = capfd.readouterr()
        assert "Traceback" not in err and "unexpected" not in err and out == "", err
        lines = err.splitlines()
        return stop.value.code, [x for x in lines if x.startswith("error:")], [x for x in lines if x.startswith("hint:")]

    return run


def refused(outcome, *says: str, code: int = 1, hint: bool = True) -> None:
    found_code, errors, hints = outcome
    assert found_code == code and len(errors) == 1 and len(hints) == int(hint), outcome
    for part in says:
        assert part in errors[0], errors[0]


# -- data files -----------------------------------------------------------------------------------------------------------------


def missing(folder: Path) -> Path:
    return folder / "gone.jsonl"


def empty(folder: Path) -> Path:
    (folder / "empty.jsonl").write_text("")
    return folder / "empty.jsonl"


def blank(folder: Path) -> Path:
    (folder / "blank.jsonl").write_text("\n\n  \n")
    return folder / "blank.jsonl"


def truncated(folder: Path) -> Path:
    rows = "".join(json.dumps({"prompt": f"where is {i}?", "completion": str(i * 7919)}) + "\n" for i in range(500))
    (folder / "cut.jsonl.gz").write_bytes(gzip.compress(rows.encode())[:120])
    return folder / "cut.jsonl.gz"


def not_gzip(folder: Path) -> Path:
    (folder / "plain.jsonl.gz").write_text('{"prompt": "a"}\n')
    return folder / "plain.jsonl.gz"


def latin1(folder: Path) -> Path:
    (folder / "latin1.jsonl").write_bytes('{"prompt": "caf\xe9", "completion": "x"}\n'.encode("latin1"))
    return folder / "latin1.jsonl"


def utf16(folder: Path) -> Path:
    (folder / "utf16.jsonl").write_bytes('{"prompt": "a", "completion": "x"}\n'.encode("utf-16"))
    return folder / "utf16.jsonl"


def not_json(folder: Path) -> Path:
    (folder / "notes.jsonl").write_text("dear diary\nthis is no JSON\n")
    return folder / "notes.jsonl"


def foreign(folder: Path) -> Path:
    return write_rows(folder / "foreign.jsonl", [{"question": "a", "reply": "b"}] * 5)


def a_folder(folder: Path) -> Path:
    (folder / "folder.jsonl").mkdir()
    return folder / "folder.jsonl"


FILES = [(missing, "No such file"), (empty, "is empty"), (blank, ""), (truncated, "truncated"), (not_gzip, "not gzip data"),
         (latin1, "not UTF-8"), (utf16, "UTF-16"), (not_json, "not JSON"), (foreign, "question"), (a_folder, "directory")]


@pytest.mark.parametrize("verb", ["pretrain", "sft", "reward", "ppo", "sample"])
@pytest.mark.parametrize(("make_file", "says"), FILES, ids=[f.__name__ for f, _ in FILES])
def test_a_data_file_that_cannot_be_read_is_named(small, tmp_path, cli, verb, make_file, says):
    file = make_file(tmp_path)
    refused(cli(verb, MAKE[verb](small, tmp_path / "run", {"data": {"files": [str(file)]}})), file.name, says)
    assert not (tmp_path / "run/ckpt").exists()


@pytest.mark.parametrize("verb", ["pretrain", "sft", "reward", "ppo", "sample"])
def test_a_run_that_failed_on_its_data_may_be_started_again_in_its_folder(small, tmp_path, cli, verb):
    refused(cli(verb, MAKE[verb](small, tmp_path / "run", {"data": {"files": [str(tmp_path / "gone.jsonl")]}})), "gone.jsonl")
    refused(cli(verb, MAKE[verb](small, tmp_path / "run", {"data": {"files": [str(tmp_path / "lost.jsonl")]}})), "lost.jsonl")


# -- keys and sizes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("verb", "override", "says"), [
    ("sft", "optim.lerning_rate=1e-3", "did you mean learning_rate"), ("pretrain", "model.vocab_size=10", "model.vocab_size"),
    ("sft", "train.batch_size=0", "train.batch_size"), ("sft", "train.batch_size=5000", "train.batch_size=5000 is more than the"),
    ("pretrain", "train.batch_size=5000", "is more than the"), ("reward", "train.batch_size=5000", "is more than the"),
    ("ppo", "algo.minibatch_size=3", "batch_size=8 is not a multiple of minibatch_size=3"),
    ("ppo", "algo.minibatch_size=16", "not a multiple"),
    ("ppo", "optim.learning_rate=nan", "optim.learning_rate"), ("pretrain", "model.context_tokens=4096", "reads 48"),
    ("sft", "train.epochs=-1", "train.epochs: should be"), ("reward", "train.epochs=1e308", "train.epochs: should be"),
    ("pretrain", "train.epochs=0", "train.epochs: should be"), ("sft", "lora.rank=1000000", "lora.rank: should be"),
    ("sft", "train.epochs=2", "exactly one of max_steps and epochs"), ("sft", "data.layout=messsages", "no such layout"),
    ("ppo", "rollout.temperature=0", "rollout.temperature"), ("pretrain", "data.files=[]", "files")])
def test_impossible_settings_are_refused_with_exit_code_2(small, tmp_path, cli, verb, override, says):
    code, errors, hints = cli(verb, MAKE[verb](small, tmp_path / "run"), override)
    assert code == 2 and len(errors) == 1 and says in errors[0], (errors, hints)


@pytest.mark.parametrize(("verb", "override", "says"), [
    ("ppo", "rollout.max_tokens=60", "leaves room for 60 response tokens in a context of 48"),
    ("sft", "model.context_tokens=8", "fits into 8 tokens"), ("reward", "model.context_tokens=8", "no usable judgement")])
def test_a_context_too_small_for_the_prompts_is_named(small, tmp_path, cli, verb, override, says):
    refused(cli(verb, MAKE[verb](small, tmp_path / "run"), override), says)


def test_a_prompt_longer_than_the_context_is_named_when_it_must_be_answered(small, tmp_path, cli):
    file = write_rows(tmp_path / "p.jsonl", [{"prompt": "cat " * 80}])
    refused(cli("sample", sample_config(small, tmp_path / "run", {"data": {"files": [str(file)]}})), "context of 48 leaves no room")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:99", "hpu", "vulkan", "meta"])    # torch refuses each with another error, or only late
def test_a_device_that_cannot_be_used_is_named(small, tmp_path, cli, name):
    refused(cli("sft", sft_config(small, tmp_path / "run", {"device": name})), f"device={name} cannot be used", code=2)
    assert not (tmp_path / "run").exists()


# -- models -------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def model(small, tmp_path) -> Path:
    return Path(shutil.copytree(small.sft, tmp_path / "model"))


def edit_json(file: Path, change) -> None:
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))


def cut_weights(folder: Path) -> str:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    return "model.safetensors is damaged"


def no_config(folder: Path) -> str:
    (folder / "config.json").unlink()
    return "no model in"


def broken_config(folder: Path) -> str:
    (folder / "config.json").write_text("{")
    return "config.json"


def no_weights(folder: Path) -> str:
    (folder / "model.safetensors").unlink()
    return "has no *.safetensors"


def lacking_weights(folder: Path) -> str:
    tensors = load_file(folder / "model.safetensors")
    tensors.pop(next(name for name in tensors if "mlp" in name))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return "lacks 1 weights"


def no_tokenizer(folder: Path) -> str:
    for file in folder.glob("tokenizer*"):
        file.unlink()
    return "cannot open the tokenizer"


def text_for_a_length(folder: Path) -> str:
    edit_json(folder / "tokenizer_config.json", lambda c: c.update(model_max_length="long"))
    return "model_max_length is 'long'"


def a_control_token_inside_words(folder: Path) -> str:
    edit_json(folder / "tokenizer_config.json", lambda c: c.update(extra_special_tokens=["a"]))
    return "control tokens cannot be kept apart from text"


def a_pipe(folder: Path) -> str:
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")
    return "is not a file"


def broken_index(folder: Path) -> str:
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    (folder / "model.safetensors.index.json").write_text('{"metadata": {}, "weight_map": {}}')
    return "cannot open the model"


def missing_package(folder: Path) -> str:
    edit_json(folder / "config.json", lambda c: c.update(quantization_config={"quant_method": "gptq", "bits": 4}))
    return "requires optimum"


def larger_tokenizer(folder: Path) -> str:
    tokenizer = open_tokenizer(folder)
    tokenizer.add_tokens(["<extra>"])
    tokenizer.save_pretrained(folder)
    return "its tokenizer has ids up to 330, its model only 330 embeddings"


DAMAGE = [cut_weights, no_config, broken_config, no_weights, lacking_weights, no_tokenizer,
          larger_tokenizer, broken_index, missing_package, text_for_a_length, a_control_token_inside_words]


@pytest.mark.parametrize("verb", ["sft", "ppo", "sample"])
@pytest.mark.parametrize("damage", DAMAGE, ids=lambda f: f.__name__)
def test_a_damaged_model_is_named_and_left_as_it_is(small, tmp_path, cli, model, damage, verb):
    says = damage(model)
    before = folder_digest(model)
    refused(cli(verb, MAKE[verb](small, tmp_path / "run", {"model": {"policy": str(model)}})), says)
    assert folder_digest(model) == before


def test_a_pipe_in_the_place_of_weights_is_named_and_not_waited_for(small, tmp_path, cli, model):
    says = a_pipe(model)
    refused(cli("sample", sample_config(small, tmp_path / "run", {"model": {"policy": str(model)}})), says)


def test_weights_that_the_config_has_no_place_for_are_told(model, caplog):
    from tutelage.models.policy import open_policy

    open_policy(model)
    assert caplog.text == ""
    edit_json(model / "config.json", lambda c: c.update(num_hidden_layers=1))
    open_policy(model)
    assert "has no place for (model.layers.1." in caplog.text


def test_a_missing_model_is_named(small, tmp_path, cli):
    refused(cli("sft", sft_config(small, tmp_path / "run", {"model": {"policy": str(tmp_path / "nowhere")}})), "no model at", "nowhere")
    assert not (tmp_path / "run").exists()


def test_a_policy_in_the_place_of_a_reward_model_is_refused(small, tmp_path, cli):
    code, errors, _ = cli("ppo", ppo_config(small, tmp_path / "run", {"model": {"reward": str(small.sft)}}))
    assert code == 1 and len(errors) == 1 and str(small.sft) in errors[0]


def test_a_tokenizer_without_pad_eos_or_template_is_made_safe_not_refused(small, tmp_path, cli, model):
    (model / "chat_template.jinja").unlink()
    edit_json(model / "tokenizer_config.json", lambda c: [c.pop("pad_token"), c.pop("eos_token")])
    with pytest.raises(AssertionError, match='"file"|answers'):       # it runs: stdout holds its result
        cli("sample", sample_config(small, tmp_path / "run", {"model": {"policy": str(model)}}))
    assert len((tmp_path / "run/answers.jsonl").read_text().splitlines()) == 10


def test_weights_that_are_not_numbers_stop_ppo_before_an_update(small, tmp_path, cli):
    folder = Path(shutil.copytree(small.reward, tmp_path / "nan"))
    tensors = load_file(folder / "model.safetensors")
    tensors["score.weight"].fill_(float("nan"))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    refused(cli("ppo", ppo_config(small, tmp_path / "run", {"model": {"reward": str(folder)}})), "reward is nan for 8 of 8 answers")
    assert not (tmp_path / "run/ckpt").exists()


def test_a_checkpoint_that_is_damaged_before_resume_is_named_and_survived(small, tmp_path, cli, capfd):
    cfg = sft_config(small, tmp_path / "run", {"save": {"every_steps": 2}, "eval": {"every_steps": 100}})
    train_sft(cfg)
    (tmp_path / "run/result.json").unlink()
    weights = tmp_path / "run/ckpt/step-000006/model/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    result = train_sft(cfg.model_copy(update={"resume": True}))
    assert result["steps"] == 6 and json.loads((tmp_path / "run/result.json").read_text())["best_step"] == 6


def test_an_occupied_folder_is_refused_by_every_verb_and_not_touched(small, tmp_path, cli):
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter.tex").write_text("years")
    before = folder_digest(folder)
    for verb, make in MAKE.items():
        refused(cli(verb, make(small, folder)), "not empty and holds no run (chapter.tex)", code=2)
    assert folder_digest(folder) == before and [p.name for p in folder.iterdir()] == ["chapter.tex"]


# -- a full disk ------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 700 kB, which only root may make, and in a container often not even root."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("this machine does not let root mount a tmpfs")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_named_and_earlier_checkpoints_stay_whole(small, small_disk, tmp_path, cli):
    from tutelage.base.files import verify_manifest

    cfg = sft_config(small, small_disk / "run", {"save": {"every_steps": 1}, "eval": {"every_steps": 100}})
    refused(cli("sft", cfg), "no room on the disk for", "run/ckpt/step-")
    kept = sorted((small_disk / "run/ckpt").iterdir())
    assert kept and all(p.name.startswith("step-") for p in kept)     # nothing half written is left
    for folder in kept:
        verify_manifest(folder)
    assert (small_disk / "run/latest").read_text().strip() == kept[-1].name


@pytest.mark.parametrize("verb", MAKE)
def test_a_read_only_disk_is_named_and_what_it_holds_is_left_alone(small, small_disk, tmp_path, cli, verb):
    cfg = MAKE[verb](small, small_disk / "run")
    (small_disk / "run").mkdir()
    assert subprocess.run(["mount", "-o", "remount,ro", str(small_disk)]).returncode == 0
    refused(cli(verb, cfg), f"cannot write {small_disk}/run: Read-only file system")
    assert not list((small_disk / "run").iterdir())


def test_a_disk_that_fills_up_is_gone_on_with_once_there_is_room(small, small_disk, tmp_path, cli):
    over = {"save": {"every_steps": 1}, "eval": {"every_steps": 100}}
    refused(cli("sft", sft_config(small, small_disk / "run", over)), "no room on the disk for")
    assert subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)]).returncode == 0
    resumed = train_sft(sft_config(small, small_disk / "run", over, {"resume": True}))
    whole = train_sft(sft_config(small, tmp_path / "whole", over))
    assert same_weights(Path(resumed["model"]).parent, Path(whole["model"]).parent)


def test_a_model_of_another_kind_is_named(small, tmp_path, cli):
    gpt = tiny("gpt2")
    gpt.save_pretrained(tmp_path / "gpt")                            # 61 embeddings
    open_tokenizer(small.sft).save_pretrained(tmp_path / "gpt")      # 330 ids
    refused(cli("sample", sample_config(small, tmp_path / "run", {"model": {"policy": str(tmp_path / "gpt")}})), "only 61 embeddings")
    assert torch.is_tensor(load_file(tmp_path / "gpt/model.safetensors")["transformer.wte.weight"])
