"""Training our tokenizer, opening other people's."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken

from tutelage.base.errors import ArtifactError, ConfigError, DataError
from tutelage.base.records import Message
from tutelage.text.chat import encode_prompt, encode_text
from tutelage.text.tokenizer import MIN_VOCAB_SIZE, SPECIAL_TOKENS, open_tokenizer, train_tokenizer

EVERYONE = ("ours", "gpt2", "wordpiece", "unigram", "llama2", "chatml", "qwen", "phi", "glm")


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text())
def test_any_text_comes_back_unchanged(opened, text):
    tokenizer = opened("ours")
    tokens = encode_text(tokenizer, text)
    assert tokenizer.decode(tokens[1:-1], clean_up_tokenization_spaces=False) == text
    assert not set(tokens[1:-1]) & set(range(len(SPECIAL_TOKENS)))


def test_the_same_texts_in_any_order_give_the_same_files(tmp_path, corpus):
    folders = [train_tokenizer(texts, vocab_size=400, out_dir=tmp_path / name) for name, texts in (("a", corpus), ("b", corpus[::-1]))]
    files = [{p.name: p.read_bytes() for p in folder.iterdir()} for folder in folders]
    assert files[0] == files[1] and sorted(files[0]) == ["chat_template.jinja", "tokenizer.json", "tokenizer_config.json"]


def test_special_tokens_have_ids_0_to_6_and_all_bytes_are_tokens(opened):
    tokenizer = opened("ours")
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == [0, 1, 2, 3, 4, 5, 6]
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    assert len({tuple(encode_text(tokenizer, chr(c))) for c in range(128)}) == 128 and len(tokenizer) == 360


def test_our_template_writes_a_role_token_the_content_and_eos(opened):
    messages = [{"role": r, "content": r[0]} for r in ("system", "user", "assistant", "tool")]
    assert opened("ours").apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == (
        "<|bos|><|system|>s<|eos|><|user|>u<|eos|><|assistant|>a<|eos|><|tool|>t<|eos|><|assistant|>")


def test_an_impossible_vocabulary_and_an_empty_corpus_are_refused(tmp_path, corpus):
    with pytest.raises(ConfigError, match=f"vocab_size={MIN_VOCAB_SIZE - 1} cannot hold"):
        train_tokenizer(corpus, vocab_size=MIN_VOCAB_SIZE - 1, out_dir=tmp_path)
    with pytest.raises(DataError, match="no text"):
        train_tokenizer([""], vocab_size=400, out_dir=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", EVERYONE)
def test_padding_is_on_the_right_with_a_token_that_is_not_eos(opened, name):
    tokenizer = opened(name)
    padded = tokenizer(["fox", "the quick brown fox"], padding=True)
    assert tokenizer.pad_token_id != tokenizer.eos_token_id and tokenizer.padding_side == "right"
    assert padded["input_ids"][0][-1] == tokenizer.pad_token_id and padded["attention_mask"][0][-1] == 0


def test_a_shared_or_missing_pad_makes_a_new_token_and_the_vocabulary_grows(saved):
    from transformers import AutoTokenizer

    for name in ("gpt2", "glm"):
        before, after = AutoTokenizer.from_pretrained(saved(name)), open_tokenizer(saved(name))
        assert (after.pad_token, after.pad_token_id, len(after)) == ("<|pad|>", len(before), len(before) + 1)


@pytest.mark.parametrize("spare", ("<|finetune_right_pad_id|>", "<|reserved_special_token_7|>", "<unused7>"))
def test_an_unused_reserved_token_is_taken_before_a_new_one(tmp_path, make_byte_bpe, spare):
    make_byte_bpe(["<|eos|>", spare], eos_token="<|eos|>").save_pretrained(str(tmp_path))
    tokenizer = open_tokenizer(tmp_path)
    assert tokenizer.pad_token == spare and len(tokenizer) == 360


def test_a_reserved_token_that_the_template_writes_is_not_taken(tmp_path, make_byte_bpe):
    template = "{{ '<|reserved_special_token_7|>' + messages[0].content }}"
    make_byte_bpe(["<|eos|>", "<|reserved_special_token_7|>"], template, eos_token="<|eos|>").save_pretrained(str(tmp_path))
    assert open_tokenizer(tmp_path).pad_token == "<|pad|>"


def test_what_was_mended_survives_saving(saved, tmp_path):
    tokenizer = open_tokenizer(saved("gpt2"))
    tokenizer.save_pretrained(str(tmp_path))
    again = open_tokenizer(tmp_path)
    prompt = (Message("user", "hi"),)
    assert (again.pad_token_id, len(again), again.chat_template) == (tokenizer.pad_token_id, len(tokenizer), tokenizer.chat_template)
    assert encode_prompt(again, prompt) == encode_prompt(tokenizer, prompt)


def test_a_tokenizer_without_template_gets_plain_text_and_no_new_token(opened):
    tokenizer = opened("gpt2")
    assert tokenizer.decode(encode_prompt(tokenizer, (Message("system", "Be kind."), Message("user", "hi")))) == (
        "\n\nSystem: Be kind.\n\nHuman: hi\n\nAssistant:")


def test_our_tokenizer_without_its_template_file_gets_it_back(tmp_path, corpus, opened):
    train_tokenizer(corpus, vocab_size=400, out_dir=tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    assert open_tokenizer(tmp_path).chat_template == opened("ours").chat_template


def test_a_tokenizer_without_eos_gets_one_that_ends_its_examples(saved, caplog):
    with caplog.at_level("INFO", logger="tutelage"):
        tokenizer = open_tokenizer(saved("no_eos"))
    assert tokenizer.eos_token == "<|eos|>" and "names no EOS token" in caplog.text and tokenizer.pad_token_id != tokenizer.eos_token_id
    assert encode_text(tokenizer, "fox")[-1] == tokenizer.eos_token_id == tokenizer.get_vocab()["<|eos|>"]


def test_a_missing_eos_is_the_control_token_the_model_stops_at(tmp_path, make_byte_bpe):
    make_byte_bpe(["<|end|>", "<|start|>"]).save_pretrained(str(tmp_path))
    ids = open_tokenizer(tmp_path).get_vocab()
    for settings_, eos in (({"eos_token_id": ids["a"]}, "<|eos|>"), ({"eos_token_id": [ids["<|end|>"], 5]}, "<|end|>"), ({}, "<|eos|>")):
        (tmp_path / "generation_config.json").write_text(json.dumps(settings_))
        assert open_tokenizer(tmp_path).eos_token == eos
    for settings_ in ('{"eos_token_id": [[1]]}', '{"eos_token_id": {}}', '{"eos_token_id": [{}, 1.5, "x", null]}', "[" * 100_000, "[1]"):
        (tmp_path / "generation_config.json").write_text(settings_)
        assert open_tokenizer(tmp_path).eos_token == "<|eos|>", settings_[:40]
    (tmp_path / "generation_config.json").unlink()
    os.mkfifo(tmp_path / "generation_config.json")                  # opening it would wait for ever
    assert open_tokenizer(tmp_path).eos_token == "<|eos|>"


def test_a_missing_empty_or_damaged_folder_is_one_line(tmp_path, saved):
    with pytest.raises(ArtifactError, match="no tokenizer folder"):
        open_tokenizer(tmp_path / "nowhere")
    with pytest.raises(ArtifactError, match="cannot open the tokenizer"):
        open_tokenizer(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((saved("ours") / name).read_bytes())
    (tmp_path / "tokenizer.json").write_text((saved("ours") / "tokenizer.json").read_text()[:2000])
    with pytest.raises(ArtifactError, match="cannot open the tokenizer") as caught:
        open_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


def test_role_markers_without_the_special_flag_are_control_tokens_too(tmp_path, make_byte_bpe):
    marks = [AddedToken(f"<|{r}|>", special=False, normalized=False) for r in ("user", "assistant")]
    template = "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content }}{% endfor %}"
    tokenizer = make_byte_bpe(["<|eos|>"], template, eos_token="<|eos|>")
    tokenizer.add_tokens(marks)
    tokenizer.save_pretrained(str(tmp_path))
    tokenizer = open_tokenizer(tmp_path)
    ids = encode_prompt(tokenizer, (Message("user", "a<|assistant|>b"),))
    assert ids[0] == tokenizer.convert_tokens_to_ids("<|user|>") and tokenizer.convert_tokens_to_ids("<|assistant|>") not in ids


def test_the_room_imports_no_torch_and_no_transformers():
    rooms = ("chat", "codec", "layouts", "lines", "packing", "readers", "tokenizer")
    code = f"import sys; [__import__(f'tutelage.text.{{r}}') for r in {rooms}]; print({{'torch', 'transformers'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_folder_has_what_other_tools_read(saved):
    config = json.loads((saved("ours") / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast" and config["eos_token"] == "<|eos|>" != config["pad_token"]
