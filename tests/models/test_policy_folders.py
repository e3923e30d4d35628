import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

from tests.models.tiny import CONFIGS, EOS, MORE_CONFIGS, PAD, VOCAB, tiny, word_tokenizer
from tutelage.base.errors import ArtifactError
from tutelage.models.folders import fit_vocabulary, resolve_model, turn_off_dropout
from tutelage.models.heads import ScoredModel
from tutelage.models.policy import open_policy, save_policy


@pytest.fixture
def folder(tmp_path):
    save_policy(tiny("llama"), word_tokenizer(), tmp_path / "model")
    return tmp_path / "model"


def damaged(folder, match):
    """The folder is refused in one line with a remedy."""
    with pytest.raises(ArtifactError, match=match) as caught:
        open_policy(folder)
    assert "\n" not in str(caught.value) and caught.value.hint
    return caught.value


@pytest.mark.parametrize("name", [*CONFIGS, *MORE_CONFIGS])
def test_a_saved_policy_opens_here_and_in_plain_transformers_with_equal_logits(name, tmp_path):
    model, tokens = tiny(name), torch.tensor([[3, 9, 4, 30]])
    save_policy(model, word_tokenizer(), tmp_path)
    for reopened in (open_policy(tmp_path), hf.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)):
        assert torch.equal(reopened(input_ids=tokens).logits, model(input_ids=tokens).logits)


def test_the_tokenizer_is_saved_beside_the_model(folder):
    assert hf.AutoTokenizer.from_pretrained(folder).get_vocab() == word_tokenizer().get_vocab()


def test_servers_stop_at_the_tokenizers_eos_and_at_any_the_model_already_had(tmp_path):
    model = tiny("llama")
    model.generation_config.eos_token_id = [7, 8]                   # what a chat-tuned base may bring along
    save_policy(model, word_tokenizer(), tmp_path)
    settings = json.loads((tmp_path / "generation_config.json").read_text())
    assert settings["eos_token_id"] == [EOS, 7, 8] and settings["pad_token_id"] == PAD
    assert (settings["do_sample"], settings["top_k"], settings.get("temperature", 1.0), settings.get("top_p", 1.0)) == (True, 0, 1.0, 1.0)
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["eos_token_id"], config["pad_token_id"]) == (EOS, PAD)


def test_transformers_generate_with_the_saved_settings_samples_the_whole_distribution(tmp_path):
    # transformers fills what is unset with top_k=50, of another distribution than training's.
    save_policy(tiny("llama"), word_tokenizer(), tmp_path)
    model = hf.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    out = model.generate(torch.tensor([[3, 4]]), max_new_tokens=5, min_new_tokens=5, return_dict_in_generate=True, output_scores=True)
    assert all(torch.isfinite(scores[0]).sum() >= VOCAB - 1 for scores in out.scores)     # all but the EOS held back by min_new_tokens


def test_weights_open_in_the_dtype_asked_for_not_the_files(tmp_path):
    save_policy(tiny("llama").to(torch.bfloat16), word_tokenizer(), tmp_path)
    assert {p.dtype for p in open_policy(tmp_path).parameters()} == {torch.float32}
    assert {p.dtype for p in open_policy(tmp_path, dtype=torch.bfloat16).parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("padding", [0, 8, 24])
def test_weights_lie_where_the_allocator_puts_them_however_long_the_files_header_is(folder, padding):
    # A matrix product rounds by where its operands begin in a 64-byte line: a resumed run must find them as the first one did.
    file = folder / "model.safetensors"
    save_file(load_file(file), file, metadata={"format": "pt", "note": "x" * padding})
    for model in (open_policy(folder), ScoredModel.from_policy(folder, seed=0)):
        assert {tensor.data_ptr() % 64 for tensor in model.parameters()} == {0}


def test_a_run_a_checkpoint_and_a_folder_all_lead_to_the_model(folder, tmp_path):
    checkpoint = tmp_path / "run" / "ckpt" / "step-000200"
    checkpoint.mkdir(parents=True)
    shutil.move(folder, checkpoint / "model")
    for name in ("step-000200", "ckpt/step-000200\n"):
        (tmp_path / "run" / "latest").write_text(name)
        assert resolve_model(tmp_path / "run") == checkpoint / "model"
    assert resolve_model(checkpoint) == resolve_model(checkpoint / "model") == checkpoint / "model"
    (tmp_path / "run" / "latest").write_text("ckpt/step-000300")
    with pytest.raises(ArtifactError, match="step-000300"):
        resolve_model(tmp_path / "run")


def test_what_is_no_model_is_named(tmp_path):
    damaged(tmp_path / "nowhere", "no model at")
    (tmp_path / "notes.txt").write_text("hello")
    damaged(tmp_path, "found notes.txt")
    damaged(tmp_path / "notes.txt", "found a file")


def test_a_missing_config_is_named(folder):
    (folder / "config.json").unlink()
    damaged(folder, "no model in")


@pytest.mark.parametrize("keep", [0, 5, 200, -1])
def test_truncated_weights_are_refused(folder, keep):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    damaged(folder, "model.safetensors is damaged")


def test_a_header_of_noise_is_refused(folder):
    file = folder / "model.safetensors"
    file.write_bytes(b"\xff" * 64 + file.read_bytes()[64:])
    damaged(folder, "model.safetensors is damaged")


@pytest.mark.parametrize("text", ["", "{", '{"model_type": "no-such-architecture"}', '{"vocab_size": 3}', "[]"])
def test_an_unusable_config_is_refused(folder, text):
    (folder / "config.json").write_text(text)
    damaged(folder, "cannot open the model|config.json (cannot be read|holds a JSON list)")


def test_weights_of_other_sizes_than_the_config_are_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": 64}))
    damaged(folder, "cannot open the model")


def test_missing_tensors_are_not_filled_with_random_numbers(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    damaged(folder, "lacks 1 weights.*up_proj")


def test_a_missing_shard_is_refused(folder):
    with_shards = hf.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    (folder / "model.safetensors").unlink()
    with_shards.save_pretrained(folder, max_shard_size="20KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1 and open_policy(folder)
    shards[0].unlink()
    damaged(folder, "cannot open the model")


def test_an_index_does_not_lead_out_of_the_folder(folder):
    shutil.move(folder / "model.safetensors", folder.parent / "other.safetensors")
    save_file({"x": torch.zeros(1)}, folder / "some.safetensors", metadata={"format": "pt"})
    names = load_file(folder.parent / "other.safetensors")
    for path in ("../other.safetensors", str(folder.parent / "other.safetensors")):
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(names, path)}))
        damaged(folder, "names weights outside its folder")


def test_weights_that_may_not_be_read_are_not_called_damaged(folder, monkeypatch):
    opened = Path.open

    def refuse(path, *args, **options):
        if path.suffix == ".safetensors":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *args, **options)

    monkeypatch.setattr(Path, "open", refuse)                        # to root every file is readable
    assert "permissions" in damaged(folder, "model.safetensors may not be read").hint


def test_weights_of_nan_are_named_as_such(folder):
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    damaged(folder, "answers with nan")


def test_pickles_are_not_opened(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    damaged(folder, "pickled weights only")
    save_file({"x": torch.zeros(1)}, folder / "adapter.safetensors")      # safe weights of something else do not vouch for the pickle
    damaged(folder, "the weights are 1 tensors")
    (folder / "adapter.safetensors").unlink()
    (folder / "pytorch_model.bin").unlink()
    damaged(folder, "no .*safetensors")


def test_code_shipped_with_a_model_does_not_run(folder, tmp_path):
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.EvilConfig", "AutoModelForCausalLM": "evil.EvilModel"}}
    (folder / "config.json").write_text(json.dumps(config))
    assert "never run" in damaged(folder, "cannot open the model").hint
    assert not (tmp_path / "ran").exists()


_ENCODER = {"vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
            "max_position_embeddings": 48, "pad_token_id": PAD, "bos_token_id": 1, "eos_token_id": EOS}


@pytest.mark.parametrize("config", [hf.BertConfig(**_ENCODER), hf.RobertaConfig(**_ENCODER)], ids=lambda c: c.model_type)
def test_what_sees_to_the_right_is_no_policy(config, tmp_path):
    # transformers opens them as causal models, with a warning that nobody reads.
    hf.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    assert "decoder" in damaged(tmp_path, "does not read from left to right").hint


def test_what_transformers_cannot_open_as_a_language_model_is_no_policy(tmp_path):
    hf.ViTModel(hf.ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)).save_pretrained(tmp_path)
    damaged(tmp_path, r"AutoModelForCausalLM of transformers does not know the architecture of .* \(vit\)")


def test_a_tokenizer_larger_than_the_models_vocabulary_is_refused(folder):
    word_tokenizer(VOCAB + 4).save_pretrained(folder)
    with pytest.raises(ArtifactError, match=f"ids up to {VOCAB + 3}, its model only {VOCAB} embeddings"):
        open_policy(folder, tokenizer=word_tokenizer())


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox"])           # untied, tied, untied
def test_a_tokenizer_that_gained_a_pad_token_gets_the_mean_embedding(name, tmp_path, caplog):
    tokenizer = word_tokenizer()
    save_policy(tiny(name), tokenizer, tmp_path)
    tokenizer.add_special_tokens({"pad_token": "<|new|>"})
    with caplog.at_level("INFO", logger="tutelage"):
        model, before = open_policy(tmp_path, tokenizer=tokenizer), open_policy(tmp_path)
    assert "1 embeddings added" in caplog.text
    assert model.config.vocab_size == VOCAB + 1 and model.config.pad_token_id == VOCAB
    inputs, outputs = ([getattr(m, f"get_{side}_embeddings")() for m in (model, before)] for side in ("input", "output"))
    for new, old in (inputs, outputs):
        assert torch.equal(new.weight[:VOCAB], old.weight)
        torch.testing.assert_close(new.weight[VOCAB], old.weight.mean(0))
    tokens = torch.tensor([[3, 4, 5]])
    torch.testing.assert_close(model(input_ids=tokens).logits[..., :VOCAB], before(input_ids=tokens).logits, rtol=0, atol=1e-6)


def test_a_tokenizer_without_pad_is_refused(folder):
    tokenizer = word_tokenizer()
    tokenizer.pad_token = None
    with pytest.raises(ArtifactError, match="no pad token"):
        fit_vocabulary(tiny("llama"), tokenizer, folder)


def test_a_damaged_tokenizer_is_named(folder):
    (folder / "tokenizer.json").write_text('{"model": ')
    with pytest.raises(ArtifactError, match="tokenizer.json is damaged"):
        open_policy(folder, tokenizer=word_tokenizer())


def test_dropout_is_off_in_training_but_stays_in_the_config(tmp_path):
    save_policy(tiny("gpt2"), word_tokenizer(), tmp_path)
    model, tokens = open_policy(tmp_path).train(), torch.tensor([[3, 4, 5, 6]])
    assert torch.equal(model(input_ids=tokens).logits, model.eval()(input_ids=tokens).logits)
    assert model.config.resid_pdrop == 0.1


def test_functional_attention_dropout_is_turned_off_too():
    config = CONFIGS["llama"]()
    config.attention_dropout = 0.5
    model, tokens = hf.AutoModelForCausalLM.from_config(config).train(), torch.tensor([[3, 4, 5, 6]])
    assert not torch.equal(model(input_ids=tokens).logits, model(input_ids=tokens).logits)
    turn_off_dropout(model)
    assert torch.equal(model(input_ids=tokens).logits, model(input_ids=tokens).logits)
