"""`tutelage export`: one plain folder from a run, an adapter or a model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from tests.models.tiny import random_rows, right_padded, tiny, word_tokenizer
from tests.small import environment
from tutelage.base.files import verify_manifest
from tutelage.models.adapters import open_adapted_policy, open_adapted_reward
from tutelage.models.policy import save_policy

TOKENS, MASK = right_padded(random_rows([9]))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tutelage.cli.main", "export", *arguments]
    return subprocess.run(command, env=environment(), capture_output=True, text=True)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """A base with a licence, and a policy's and a reward model's adapter on it that are not 0."""
    root = tmp_path_factory.mktemp("export")
    save_policy(tiny("llama"), word_tokenizer(), root / "base")
    (root / "base" / "LICENSE").write_text("of the base")
    (root / "base" / "LICENSES").mkdir()
    (root / "base" / "LICENSES" / "data.txt").write_text("of its data")
    lora = {"tokenizer": word_tokenizer(), "rank": 2, "alpha": 4.0, "targets": []}
    policy, reward = open_adapted_policy(root / "base", **lora), open_adapted_reward(root / "base", **lora)
    with torch.no_grad():
        for parameter in (*policy.roles.parameters("policy"), *reward.roles.parameters("reward")):
            parameter.normal_(0, 0.1)
        save_policy(policy, word_tokenizer(), root / "policy")
        reward.rescale_(1.0, 0.25).save(root / "reward", word_tokenizer())
        (root / "said.json").write_text(json.dumps({"policy": policy(input_ids=TOKENS).logits.tolist(),
                                                    "reward": reward.score(TOKENS, MASK).tolist()}))
    return {name: root / name for name in ("base", "policy", "reward", "said.json")}


@pytest.mark.parametrize(("kind", "dtype"), [("policy", "float32"), ("reward", "float32"), ("policy", "bf16")])
def test_an_adapter_becomes_a_folder_that_plain_transformers_opens(folders, tmp_path, kind, dtype):
    done = run(str(folders[kind]), str(tmp_path / "out"), "--dtype", dtype, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["merged"] is True and json.loads(done.stdout)["dtype"] == dtype
    expected, wide = torch.tensor(json.loads(folders["said.json"].read_text())[kind]), dtype == "bf16"
    auto = AutoModelForCausalLM if kind == "policy" else AutoModelForSequenceClassification
    model = auto.from_pretrained(tmp_path / "out")
    with torch.no_grad():
        said = model(input_ids=TOKENS).logits
    assert model.dtype == (torch.bfloat16 if wide else torch.float32)
    said = said.float() if kind == "policy" else said[:, 0] + model.config.score_shift
    assert_close(said, expected, rtol=0, atol=0.05 * expected.abs().max().item() if wide else 5e-5)
    assert (tmp_path / "out" / "LICENSE").read_text() == "of the base"
    assert (tmp_path / "out" / "LICENSES" / "data.txt").read_text() == "of its data"
    assert str(folders["base"]) in (tmp_path / "out" / "README.md").read_text()
    verify_manifest(tmp_path / "out")


def test_a_folder_that_holds_something_is_left_alone(folders, tmp_path):
    (tmp_path / "mine.txt").write_text("dear to me")
    done = run(str(folders["policy"]), str(tmp_path))
    assert done.returncode == 2 and f"error: {tmp_path} is there already\nhint:  name a new folder" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_what_only_looks_like_a_licence_is_not_copied(tmp_path):
    secret, base, out = tmp_path / "secret", tmp_path / "base", tmp_path / "out"
    save_policy(tiny("llama"), word_tokenizer(), base)
    secret.mkdir()
    (secret / "id_rsa").write_text("-----BEGIN")
    (base / "LICENSE").symlink_to(secret / "id_rsa")
    (base / "LICENSES").symlink_to(secret)
    (base / "NOTICE").symlink_to("/dev/zero")
    os.mkfifo(base / "NOTICE.txt")
    (base / "LICENCE.mp4").write_bytes(bytes(2_000_000))
    (base / "LICENSE.md").write_text("of the base")
    done = run(str(base), str(out))
    assert done.returncode == 0 and "LICENCE.mp4 is not copied" in done.stderr and "/LICENSE is not copied" in done.stderr
    assert [p.name for p in out.iterdir() if p.name.startswith(("LICEN", "NOTICE"))] == ["LICENSE.md"]
    assert not any(b"BEGIN" in p.read_bytes() for p in out.rglob("*") if p.is_file())


def test_a_licence_in_the_hubs_cache_lies_behind_a_link_and_is_copied(tmp_path):
    repository = tmp_path / "models--we--ours"
    base, blob = repository / "snapshots" / "abc", repository / "blobs" / "123"
    save_policy(tiny("llama"), word_tokenizer(), base)
    blob.parent.mkdir()
    blob.write_text("of the base")
    (base / "LICENSE").symlink_to("../../blobs/123")
    assert run(str(base), str(tmp_path / "out")).returncode == 0
    assert (tmp_path / "out" / "LICENSE").read_text() == "of the base"
