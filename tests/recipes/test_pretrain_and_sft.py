from __future__ import annotations

import json
import math
import tempfile
from functools import partial
from pathlib import Path

import pytest
import torch

from tests.models.tiny import CONFIGS, MORE_CONFIGS, PAD, lone_logprobs, random_rows, tiny
from tests.small import pretrain_config, same_weights, sft_config, write_rows
from tutelage.base.errors import AuditError, ConfigError, DataError
from tutelage.base.split import split_of
from tutelage.models.batches import PackedBatch
from tutelage.models.folders import resolve_model
from tutelage.models.policy import open_policy, packed_logprobs, save_policy
from tutelage.recipes import pretrain as pretraining
from tutelage.recipes import sft as tuning
from tutelage.recipes.pretrain import pretrain
from tutelage.recipes.sft import train_sft
from tutelage.text.packing import pack_texts
from tutelage.text.tokenizer import open_tokenizer
from tutelage.train.audits import check_packing
from tutelage.train.optim import build_optimizer, clip_and_step
from tutelage.train.run import Run

TEXTS = random_rows([5, 9, 3, 14, 7, 2, 6], seed=3)
PACKS = {name: (CONFIGS | MORE_CONFIGS)[name] for name in (*CONFIGS, "mistral, sliding window")}


def rows_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


# -- packing --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PACKS)
def test_a_packed_text_has_the_logprobs_it_has_alone(name):
    model = tiny(name)
    packed = PackedBatch.stack(pack_texts(TEXTS, 16, pad_token_id=PAD))
    assert (packed.segment_ids.max(1).values > 1).any() and len(packed) > 1
    with torch.no_grad():
        logprobs = packed_logprobs(model, packed)
    check_packing(partial(packed_logprobs, model), packed)
    found = []
    for row in range(len(packed)):
        for segment in range(1, int(packed.segment_ids[row].max()) + 1):
            at = packed.segment_ids[row] == segment
            alone = lone_logprobs(model, packed.tokens[row, at].tolist())
            torch.testing.assert_close(logprobs[row, at][1:].double(), alone[1:], rtol=0, atol=1e-5)
            found.append(packed.tokens[row, at].tolist())
    assert sorted(found) == sorted(TEXTS)


@pytest.mark.parametrize("name", sorted(set(MORE_CONFIGS) - set(PACKS)))
def test_a_model_that_would_let_packed_texts_see_each_other_is_refused(name):
    with pytest.raises(AuditError, match="sees the text before it"):
        check_packing(partial(packed_logprobs, tiny(name)), PackedBatch.stack(pack_texts(TEXTS, 16, pad_token_id=PAD)))


def test_the_pretraining_loss_counts_each_token_once():
    # A text of n tokens has n - 1 predictions, however it is packed or cut; the loss is minus their mean log-prob.
    model = tiny("llama")
    batch = PackedBatch.stack(pack_texts(TEXTS, 16, pad_token_id=PAD))
    total = sum(len(text) - 1 for text in TEXTS)
    assert int(batch.trained_mask.sum()) == total
    with torch.no_grad():
        loss = pretraining.loss_of(model, batch, total)
    assert loss.item() == pytest.approx(-sum(float(lone_logprobs(model, text).sum()) for text in TEXTS) / total, abs=1e-5)


# -- micro-batches -----------------------------------------------------------------------------------------------------------


def gradients(model, loss, batch, size):
    model.zero_grad(set_to_none=True)
    for piece in batch.micro(size):
        loss(piece).backward()
    return [p.grad.clone() for p in model.parameters()]


def packed_case(small, tmp_path):
    model = tiny("llama")
    batch = PackedBatch.stack(pack_texts(TEXTS, 16, pad_token_id=PAD))
    return model, batch, lambda piece: pretraining.loss_of(model, piece, batch.trained_mask.sum())


def sft_case(small, tmp_path):
    with Run.open(sft_config(small, tmp_path / "run"), "sft") as run:
        parts = tuning.build(run.cfg, run)
    batch = tuning.batch_of(parts, range(5), "cpu")
    return parts.policy, batch, lambda piece: tuning.loss_of(parts.policy, piece, batch.response_mask.sum())


@pytest.mark.parametrize("case", [packed_case, sft_case])
def test_gradients_do_not_depend_on_the_micro_batch(small, tmp_path, case):
    model, batch, loss = case(small, tmp_path)
    whole = gradients(model, loss, batch, None)
    for size in (1, 2):
        for a, b in zip(whole, gradients(model, loss, batch, size), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("recipe", "make"), [(pretrain, pretrain_config), (train_sft, sft_config)])
def test_micro_batches_change_neither_the_number_of_steps_nor_what_they_do(small, tmp_path, monkeypatch, recipe, make):
    steps, told = [], []
    monkeypatch.setattr("tutelage.train.step.clip_and_step", lambda *a: steps.append(1) or clip_and_step(*a))
    for size in (None, 1, 4):
        recipe(make(small, tmp_path / f"of-{size}", {"train": {"max_steps": 3}, "optim": {"microbatch_size": size}}))
        told.append([row[name] for row in rows_of(tmp_path / f"of-{size}") for name in ("train/loss", "train/grad_norm")])
    assert len(steps) == 9 and told[1] == pytest.approx(told[0], rel=1e-3) and told[2] == pytest.approx(told[0], rel=1e-3)


# -- pretraining ----------------------------------------------------------------------------------------------------------------


def test_pretraining_from_nothing_learns_a_tokenizer_and_lowers_the_bits_per_byte(small, tmp_path):
    over = {"model": {"init": None, "preset": "nano", "vocab_size": 330, "context_tokens": 32}, "train": {"max_steps": 40, "batch_size": 8},
            "eval": {"every_steps": 39}, "optim": {"learning_rate": 3e-3}}
    result = pretrain(pretrain_config(small, tmp_path / "run", over))
    first, last = (row["eval/bits_per_byte"] for row in rows_of(tmp_path / "run") if "eval/bits_per_byte" in row)
    # Before the first step every byte costs about log2(vocabulary) bits per token over the bytes of a token.
    assert last == result["bits_per_byte"] < 0.6 * first
    assert same_weights(resolve_model(tmp_path / "run"), result["model"]) and open_tokenizer(result["model"]).eos_token_id == 2


def test_bits_per_byte_are_those_of_the_whole_held_out_text(small, tmp_path):
    cfg = pretrain_config(small, tmp_path / "run")
    with Run.open(cfg, "pretrain") as run:
        parts = pretraining.build(cfg, run)
    found = pretraining.bits_per_byte(parts.policy, parts, cfg)
    texts = [json.loads(line)["text"] for line in small.corpus.read_text().splitlines()]
    held = [t for t in texts if split_of(t, eval_frac=0.1, seed=0) == "eval"]
    tokenizer, nats = open_tokenizer(small.base), 0.0
    for text in held:
        nats -= float(lone_logprobs(parts.policy, [1, *tokenizer(text, add_special_tokens=False)["input_ids"], 2]).sum())
    assert found == pytest.approx(nats / math.log(2) / sum(len(t.encode()) for t in held), rel=1e-5)


def test_pretraining_without_held_out_text_says_nothing_of_it(small, tmp_path, caplog):
    with caplog.at_level("INFO"):
        result = pretrain(pretrain_config(small, tmp_path / "run", {"data": {"eval_frac": 0}}))
    assert result["bits_per_byte"] is None and any(r.getMessage().startswith("step 0: The ") for r in caplog.records)


def test_pretraining_goes_on_from_a_model_whose_tokenizer_gains_a_pad_token(tmp_path, small):
    tokenizer = open_tokenizer(small.base)
    model = tiny("llama")
    model.resize_token_embeddings(len(tokenizer))
    tokenizer.pad_token = tokenizer.eos_token                         # as GPT-2's users do
    model.save_pretrained(tmp_path / "model"), tokenizer.save_pretrained(tmp_path / "model")
    raw = json.loads((tmp_path / "model/tokenizer.json").read_text())
    raw["added_tokens"] = [t for t in raw["added_tokens"] if t["content"] != "<|pad|>"]
    raw["model"]["vocab"] = {("<|was-pad|>" if k == "<|pad|>" else k): v for k, v in raw["model"]["vocab"].items()}
    (tmp_path / "model/tokenizer.json").write_text(json.dumps(raw))
    assert open_tokenizer(tmp_path / "model").pad_token_id == len(tokenizer)                          # one more than there are embeddings
    result = pretrain(pretrain_config(small, tmp_path / "run", {"model": {"init": str(tmp_path / "model")}}))
    assert open_policy(result["model"]).get_input_embeddings().weight.shape[0] == len(tokenizer) + 1


def test_a_context_longer_than_the_model_reads_is_refused(small, tmp_path):
    with pytest.raises(ConfigError, match=r"model.context_tokens=64, but .*base reads 48"):
        pretrain(pretrain_config(small, tmp_path / "run", {"model": {"context_tokens": 64}}))


@pytest.mark.parametrize(("recipe", "make"), [(pretrain, pretrain_config), (train_sft, sft_config)])
def test_a_batch_larger_than_the_data_is_refused(small, tmp_path, recipe, make):
    with pytest.raises(ConfigError, match=r"train.batch_size=500 is more than the \d+ rows to train on"):
        recipe(make(small, tmp_path / "run", {"train": {"batch_size": 500}}))


# -- SFT ------------------------------------------------------------------------------------------------------------------------


def planted_losses(monkeypatch, losses):
    left = iter(losses)
    monkeypatch.setattr(tuning, "held_out_loss", lambda *a: next(left))


def test_sft_keeps_the_checkpoint_with_the_lowest_held_out_loss_and_latest_points_to_it(small, tmp_path, monkeypatch):
    planted_losses(monkeypatch, [3.0, 2.0, 2.5, 2.2])
    result = train_sft(sft_config(small, tmp_path / "run", {"train": {"max_steps": 8}, "eval": {"every_steps": 2}}))
    assert (result["best_loss"], result["best_step"], result["steps"]) == (2.0, 4, 8)
    assert resolve_model(tmp_path / "run") == tmp_path / "run/ckpt/step-000004/model" == Path(result["model"])
    assert [row.get("eval/loss") for row in rows_of(tmp_path / "run")] == [None, 3.0, None, 2.0, None, 2.5, None, 2.2]


def test_sft_stops_after_measurements_without_a_new_best(small, tmp_path, monkeypatch):
    planted_losses(monkeypatch, [3.0, 2.0, 2.5, 2.2, 1.0])
    result = train_sft(sft_config(small, tmp_path / "run", {"train": {"max_steps": 10}, "eval": {"every_steps": 2, "patience": 2}}))
    assert (result["best_step"], result["steps"]) == (4, 8)


def test_keeping_few_checkpoints_never_costs_the_best_one(small, tmp_path, monkeypatch):
    planted_losses(monkeypatch, [1.0, 2.0, 3.0, 4.0])
    over = {"train": {"max_steps": 8}, "eval": {"every_steps": 2}, "save": {"every_steps": 2, "keep_last": 1}}
    result = train_sft(sft_config(small, tmp_path / "run", over))
    assert result["best_step"] == 2 and open_policy(result["model"]) is not None and open_policy(tmp_path / "run") is not None
    assert len(list((tmp_path / "run/ckpt").iterdir())) == 2


def test_the_held_out_loss_is_the_mean_over_held_out_response_tokens(small, tmp_path):
    cfg = sft_config(small, tmp_path / "run")
    with Run.open(cfg, "sft") as run:
        parts = tuning.build(cfg, run)
    total = tokens = 0.0
    for example in parts.held_out:
        mask = torch.tensor(example.response_mask)
        total -= float(lone_logprobs(parts.policy, example.tokens)[mask].sum())
        tokens += int(mask.sum())
    assert len(parts.held_out) > 5 and tuning.held_out_loss(parts.policy, parts, cfg) == pytest.approx(total / tokens, rel=1e-5)


def test_only_the_response_and_its_eos_are_trained(small, tmp_path):
    cfg = sft_config(small, tmp_path / "run", {"train": {"max_steps": 1}})
    train_sft(cfg)
    first = (tmp_path / "run/masks.txt").read_text().split("\n\n")[0]
    assert first.startswith("<|bos|><|user|>where is") and first.count("⟦") == 1
    assert first.split("⟦")[1].endswith("<|eos|>⟧") and "<|assistant|>⟦" in first


def test_rows_that_are_too_long_are_counted_and_left_out(small, tmp_path, caplog):
    answers = ["in the barn" if i % 4 else "the cat " * 60 for i in range(40)]
    file = write_rows(tmp_path / "d.jsonl", [{"prompt": f"where is {i}?", "completion": a} for i, a in enumerate(answers)])
    result = train_sft(sft_config(small, tmp_path / "run", {"data": {"files": [str(file)], "eval_frac": 0}, "train": {"max_steps": 1}}))
    assert result["rows"] == 30 and "10 of 40 demonstrations are longer than 48 tokens and were left out" in caplog.text
    with pytest.raises(DataError, match="fits into 8 tokens"):
        train_sft(sft_config(small, tmp_path / "other", {"data": {"files": [str(file)]}, "model": {"context_tokens": 8}}))


def test_weights_that_are_not_saved_are_seen(small, tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "save_policy", lambda model, tokenizer, folder: save_policy(open_policy(small.sft), tokenizer, folder))
    with pytest.raises(AuditError, match="gives outputs that differ"):
        train_sft(sft_config(small, tmp_path / "run"))


def test_a_loss_that_is_no_number_saves_its_batch_and_moves_nothing(small, tmp_path, monkeypatch):
    cfg = sft_config(small, tmp_path / "run")
    with Run.open(cfg, "sft") as run:
        parts = tuning.build(cfg, run)
        before = {name: t.clone() for name, t in parts.policy.state_dict().items()}
        loss_of = tuning.loss_of
        monkeypatch.setattr(tuning, "loss_of", lambda *a: loss_of(*a) * float("nan"))
        optimizer = build_optimizer([(parts.policy, 1.0)], cfg.optim)
        with pytest.raises(AuditError, match="loss is not finite; the batch is in .*bad_batch.safetensors"):
            tuning.train_step(parts.policy, optimizer, tuning.batch_of(parts, range(4), "cpu"), cfg, run)
    assert all(torch.equal(t, before[name]) for name, t in parts.policy.state_dict().items())


def test_when_all_text_is_held_out_the_advice_is_to_hold_out_less(small, tmp_path):
    over = {"model": {"init": None, "vocab_size": 300}, "data": {"eval_frac": 0.999999}}
    with pytest.raises(DataError, match="no training text in .* all held out") as caught:
        pretrain(pretrain_config(small, tmp_path / "run", over))
    assert "eval_frac" in caught.value.hint


def test_a_dry_run_of_pretraining_leaves_no_tokenizer_behind(small, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    parts = pretraining.build(pretrain_config(small, tmp_path / "run", {"model": {"init": None, "vocab_size": 300}}), None)
    assert not list(scratch.iterdir())
    parts.tokenizer.save_pretrained(tmp_path / "saved")             # what the forecast times: the folder it came from is not needed
    assert (tmp_path / "saved" / "tokenizer.json").is_file()
