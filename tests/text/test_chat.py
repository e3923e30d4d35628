"""The mask: which tokens are trained. Expected values come from plain transformers: its rendering, its tokens, its decoding."""

from __future__ import annotations

import json
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tutelage.base.errors import DataError
from tutelage.base.records import Message
from tutelage.text import chat
from tutelage.text.chat import encode_document, encode_example, encode_prompt, encode_text, encode_texts, marked_text, stop_tokens
from tutelage.text.tokenizer import open_tokenizer

TEMPLATED = ("ours", "gpt2", "unigram", "llama2", "chatml", "qwen", "phi", "glm")
"""All but WordPiece, which loses case and spaces and so cannot be compared with its text."""
ALL = (*TEMPLATED, "wordpiece")

CONTROLS = ("<|pad|>", "<|bos|>", "<|eos|>", "<|user|>", "<|assistant|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|end|>",
            "<s>", "</s>", "<unk>", "[SEP]", "[CLS]", "[UNK]", "[INST]")
WORDS = ("fox", "latte", " ", "\n", "42", "é", "漢", "🙂", "a", "{", "?", "answer")
plain = st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map("".join).filter(lambda s: s.strip() == s)
typed = st.lists(st.sampled_from((*CONTROLS, "x", " ", "<|im_", "end|>", "\U00100000", "\U0010c000")), max_size=5).map("".join)
cheap = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def conversation(*contents: str) -> tuple[Message, ...]:
    return tuple(Message("assistant" if i % 2 else "user", c) for i, c in enumerate(contents))


def rendered(tokenizer, messages, **kwargs) -> str:
    return tokenizer.apply_chat_template([{"role": m.role, "content": m.content} for m in messages], tokenize=False, **kwargs)


def trained(encoded) -> list[int]:
    return [t for t, m in zip(encoded.tokens, encoded.response_mask, strict=True) if m]


def decode(tokenizer, ids) -> str:
    return tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def control_ids(tokenizer) -> set[int]:
    return {i for i, t in tokenizer.added_tokens_decoder.items() if t.special}


@pytest.mark.parametrize("name", ALL)
@cheap
@given(texts=st.lists(plain, min_size=2, max_size=2), answer=plain)
def test_tokens_are_those_of_the_whole_rendered_text(opened, name, texts, answer):
    tokenizer, messages = opened(name), conversation(texts[0], texts[1], "more?", answer)
    encoded = encode_example(tokenizer, messages[:-1], answer)
    whole = rendered(tokenizer, messages)
    if name == "glm":                                               # the one template here that never writes an end
        whole += tokenizer.eos_token
    expected = tokenizer(whole, add_special_tokens=False)["input_ids"]
    assert encoded.tokens == expected[:len(encoded.tokens)]
    assert not decode(tokenizer, expected[len(encoded.tokens):]).strip()        # only the template's trailing newline is cut


@pytest.mark.parametrize("name", TEMPLATED)
@cheap
@given(question=plain, answer=plain)
def test_trained_tokens_decode_to_the_response_and_its_terminator(opened, name, question, answer):
    tokenizer = opened(name)
    text = decode(tokenizer, trained(encode_example(tokenizer, conversation(question), answer)))
    terminator = tokenizer.convert_ids_to_tokens(stop_tokens(tokenizer)[-1])
    opening = {"gpt2": " ", "unigram": " ", "qwen": "<think>\n\n</think>\n\n"}.get(name, "")
    closing = " " + terminator if name == "llama2" else terminator
    if name in ("unigram", "llama2"):                               # NFKC, newlines and rare characters do not survive this tokenizer
        assert text.endswith(terminator) and text.count(terminator) == 1
    else:
        assert text == opening + answer + closing


@pytest.mark.parametrize("name", ALL)
@cheap
@given(question=plain, answer=plain)
def test_what_is_not_trained_is_the_prompt_that_is_sampled_from(opened, name, question, answer):
    tokenizer, prompt = opened(name), conversation(question)
    encoded = encode_example(tokenizer, prompt, answer)
    start = encoded.response_mask.index(True)
    assert all(encoded.response_mask[start:])
    assert encoded.tokens[:start] == encode_prompt(tokenizer, prompt)
    whole = tokenizer(rendered(tokenizer, prompt, add_generation_prompt=True), add_special_tokens=False)["input_ids"]
    assert encode_prompt(tokenizer, prompt) == whole


@pytest.mark.parametrize("name", ALL)
@cheap
@given(first=typed, second=typed, answer=typed)
def test_typed_control_tokens_stay_text(opened, name, first, second, answer):
    tokenizer, special = opened(name), control_ids(opened(name)) - {opened(name).unk_token_id}
    bare = encode_example(tokenizer, conversation("a", "b", "c"), "d")
    encoded = encode_example(tokenizer, conversation(f"a{first}", f"b{second}", "c"), f"d{answer}")
    assert [t for t in encoded.tokens if t in special] == [t for t in bare.tokens if t in special]
    if name in ("ours", "chatml", "qwen", "gpt2", "glm"):           # byte-level: every character survives
        assert f"a{first}" in decode(tokenizer, encoded.tokens) and f"d{answer}" in decode(tokenizer, trained(encoded))


@pytest.mark.parametrize("name", ("ours", "gpt2", "chatml"))
@cheap
@given(prompt=typed.filter(len), response=typed)
def test_raw_text_is_one_tokenisation_with_bos_by_convention_and_eos(opened, name, prompt, response):
    tokenizer = opened(name)
    encoded = encode_example(tokenizer, prompt, response)
    start = encoded.response_mask.index(True)
    bos = [tokenizer.bos_token_id] if name == "ours" else []
    expected = tokenizer(prompt + response, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert encoded.tokens == bos + expected + [tokenizer.eos_token_id]
    assert all(encoded.response_mask[start:]) and encoded.response_mask[-1]
    assert encode_text(tokenizer, prompt + response) == encoded.tokens
    assert decode(tokenizer, encoded.tokens[:start]).removeprefix(tokenizer.bos_token or "-" if bos else "-").startswith(prompt)


def test_a_token_across_the_seam_belongs_to_the_prompt(opened):
    tokenizer = opened("ours")
    whole = tokenizer("The qu", add_special_tokens=False)["input_ids"]
    assert decode(tokenizer, whole[-1:]) == " qu"                   # one token across the seam
    encoded = encode_example(tokenizer, "The q", "uick")
    start = encoded.response_mask.index(True)
    assert encoded.tokens[1:] == [*tokenizer("The quick", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    assert decode(tokenizer, encoded.tokens[:start]) == "<|bos|>The qu" and decode(tokenizer, trained(encoded)) == "ick<|eos|>"


@pytest.mark.parametrize("name", ("ours", "unigram", "llama2", "wordpiece"))
def test_a_bos_is_never_doubled(opened, name):
    tokenizer = opened(name)
    for tokens in (encode_prompt(tokenizer, conversation("hi")), encode_prompt(tokenizer, "hi"), encode_text(tokenizer, "hi"),
                   encode_prompt(tokenizer, f"{tokenizer.bos_token}hi"), encode_example(tokenizer, "hi", "ho").tokens):
        assert tokens.count(tokenizer.bos_token_id) == 1 and tokens[0] == tokenizer.bos_token_id


@pytest.mark.parametrize("name", ("ours", "chatml", "qwen", "gpt2", "phi"))
def test_assistant_turns_trains_every_turn_not_marked_otherwise(opened, name):
    tokenizer = opened(name)
    prompt = (Message("user", "one?"), Message("assistant", "call", trained=False), Message("tool", "result"),
              Message("assistant", "first answer"), Message("user", "two?"))
    terminator = tokenizer.convert_ids_to_tokens(stop_tokens(tokenizer)[-1])
    every = decode(tokenizer, trained(encode_example(tokenizer, prompt, "second answer", train_on="assistant_turns")))
    last = decode(tokenizer, trained(encode_example(tokenizer, prompt, "second answer")))
    # Qwen's empty thought and the plain template's space open the answers.
    assert every.replace("<think>\n\n</think>\n\n", "").replace(" ", "") == f"firstanswer{terminator}secondanswer{terminator}"
    assert last.replace("<think>\n\n</think>\n\n", "").replace(" ", "") == f"secondanswer{terminator}"


def test_a_turn_without_a_terminator_ends_with_its_content(opened):
    tokenizer = opened("glm")
    encoded = encode_example(tokenizer, conversation("q", "a", "r"), "b", train_on="assistant_turns")
    assert decode(tokenizer, trained(encoded)) == "ab<|endoftext|>"


@pytest.mark.parametrize("name", ("ours", "chatml", "gpt2", "phi"))
def test_a_conversation_may_start_with_the_assistant(opened, name):
    tokenizer, prompt = opened(name), (Message("assistant", "Welcome!"), Message("user", "hi"))
    encoded = encode_example(tokenizer, prompt, "Hello.", train_on="assistant_turns")
    terminator = tokenizer.convert_ids_to_tokens(stop_tokens(tokenizer)[-1])
    assert decode(tokenizer, trained(encoded)).replace(" ", "") == f"Welcome!{terminator}Hello.{terminator}"


def test_a_response_of_several_messages_is_trained_as_asked(opened):
    tokenizer = opened("ours")
    response = (Message("assistant", "call"), Message("tool", "result"), Message("assistant", "done"))
    assert marked_text(tokenizer, encode_example(tokenizer, conversation("go"), response)) == (
        "<|bos|><|user|>go<|eos|><|assistant|>call<|eos|><|tool|>result<|eos|><|assistant|>⟦done<|eos|>⟧")
    assert marked_text(tokenizer, encode_example(tokenizer, conversation("go"), response, train_on="assistant_turns")) == (
        "<|bos|><|user|>go<|eos|><|assistant|>⟦call<|eos|>⟧<|tool|>result<|eos|><|assistant|>⟦done<|eos|>⟧")


def test_generation_markers_serve_where_the_prompt_is_no_prefix(opened):
    tokenizer = opened("no_prefix")
    encoded = encode_example(tokenizer, conversation("q", "a", "r"), "b", train_on="assistant_turns")
    assert decode(tokenizer, trained(encoded)) == "a<|im_end|>b<|im_end|>"


def test_markers_that_leave_out_the_terminator_are_stretched_to_it(saved):
    from tutelage.text.tokenizer import open_tokenizer

    tokenizer = open_tokenizer(saved("no_prefix"))
    tokenizer.chat_template = tokenizer.chat_template.replace("m.content + '<|im_end|>' }}{% endgeneration %}{{- '\n' }}",
                                                             "m.content }}{% endgeneration %}{{- '<|im_end|>\n' }}")
    encoded = encode_example(tokenizer, conversation("q", "a", "r"), "b", train_on="assistant_turns")
    assert decode(tokenizer, trained(encoded)) == "a<|im_end|>b<|im_end|>"


def test_a_template_that_rewrites_history_without_markers_is_refused(saved):
    from tutelage.text.tokenizer import open_tokenizer

    tokenizer = open_tokenizer(saved("no_prefix"))
    tokenizer.chat_template = tokenizer.chat_template.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    with pytest.raises(DataError, match="cannot tell which tokens are the response"):
        encode_example(tokenizer, conversation("q"), "b")


def test_a_refusing_template_is_named_with_the_roles_it_saw(opened):
    with pytest.raises(DataError, match=r"refuses this conversation \(assistant, user.*roles must alternate"):
        encode_prompt(opened("llama2"), (Message("assistant", "Welcome!"), Message("user", "hi")))


def test_an_all_false_mask_is_an_error_that_names_its_cause(opened):
    tokenizer = opened("ours")
    with pytest.raises(DataError, match="no assistant turn"):
        encode_example(tokenizer, conversation("q"), (Message("tool", "x"),))
    with pytest.raises(DataError, match="last assistant turn is marked trained=False"):
        encode_example(tokenizer, conversation("q"), (Message("assistant", "x", trained=False),))
    with pytest.raises(DataError, match="every assistant turn is marked trained=False"):
        encode_example(tokenizer, conversation("q"), (Message("assistant", "x", trained=False),), train_on="assistant_turns")


@pytest.mark.parametrize("template", [
    "{% for m in messages %}{% if m.role == 'user' %}U:{{ m.content }}\n{% endif %}{% endfor %}A:", "hello", " ",
    "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}<|eos|>{% endfor %}"])
def test_a_template_that_leaves_the_answer_out_is_refused(saved, template):
    tokenizer = open_tokenizer(saved("ours"))
    tokenizer.chat_template = template
    with pytest.raises(DataError, match=r"the answer out|cannot tell which tokens are the response"):
        encode_example(tokenizer, conversation("what?"), "this")


def test_merges_that_are_skipped_by_chance_in_training_are_not_skipped_here(saved, tmp_path):
    shutil.copytree(saved("ours"), tmp_path / "t")
    spec = json.loads((tmp_path / "t/tokenizer.json").read_text())
    spec["model"]["dropout"] = 0.5
    (tmp_path / "t/tokenizer.json").write_text(json.dumps(spec))
    text = "the quick brown fox jumps over the lazy dog"
    usual = encode_text(open_tokenizer(saved("ours")), text)
    assert [encode_text(open_tokenizer(tmp_path / "t"), text) for _ in range(5)] == 5 * [usual]


def test_stop_tokens_hold_the_template_s_end_of_turn_too(opened):
    ids = {name: opened(name).convert_tokens_to_ids for name in ("chatml", "qwen", "phi", "ours", "glm", "gpt2")}
    assert stop_tokens(opened("chatml")) == (ids["chatml"]("<|endoftext|>"), ids["chatml"]("<|im_end|>"))
    assert stop_tokens(opened("phi")) == (ids["phi"]("<|endoftext|>"), ids["phi"]("<|end|>"))
    for name, token in (("qwen", "<|im_end|>"), ("ours", "<|eos|>"), ("glm", "<|endoftext|>"), ("gpt2", "<|endoftext|>")):
        assert stop_tokens(opened(name)) == (ids[name](token),)


def test_our_mask_is_what_transformers_finds_by_generation_markers(opened):
    tokenizer, messages = opened("ours"), conversation("q", "first", "r", "second")
    peer = tokenizer.apply_chat_template([{"role": m.role, "content": m.content} for m in messages], return_dict=True,
                                         return_assistant_tokens_mask=True)
    encoded = encode_example(tokenizer, messages[:-1], "second", train_on="assistant_turns")
    assert encoded.tokens == peer["input_ids"] and [int(m) for m in encoded.response_mask] == peer["assistant_masks"]


@pytest.mark.parametrize("name", TEMPLATED)
def test_a_document_is_the_template_s_text_whole_or_a_text_with_its_end(opened, name):
    tokenizer = opened(name)
    talk = conversation("latte", "a fox", "42", "answer")
    text = rendered(tokenizer, talk)
    assert encode_document(tokenizer, talk) == tokenizer(text, add_special_tokens=False)["input_ids"]
    assert encode_document(tokenizer, "a fox") == encode_text(tokenizer, "a fox")


@pytest.mark.parametrize("name", ALL)
def test_texts_encoded_together_equal_texts_encoded_one_by_one(opened, name):
    texts = ["a plain line", "typed <|eos|> stays text", "", "ünïcode 🙂"]
    assert encode_texts(opened(name), texts) == [encode_text(opened(name), text) for text in texts]



@pytest.mark.parametrize("template", [
    "{{ 1 // 0 }}", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{% for i in range(10**9) %}{% endfor %}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}", "{% include '/etc/passwd' %}"])
def test_a_template_that_fails_in_any_way_is_named(saved, template):
    tokenizer = open_tokenizer(saved("ours"))
    tokenizer.chat_template = template
    with pytest.raises(DataError, match="the chat template refuses this conversation"):
        encode_prompt(tokenizer, conversation("?"))


def test_a_conversation_longer_than_the_limit_is_told_without_a_render_for_every_turn(opened, monkeypatch):
    tokenizer, renders = opened("ours"), []
    plain_render = chat._render
    monkeypatch.setattr(chat, "_render", lambda *args, **options: renders.append(1) or plain_render(*args, **options))
    messages = conversation(*["fox"] * 400)
    long = encode_example(tokenizer, messages[:-1], "fox", train_on="assistant_turns", limit=48)
    assert len(long.tokens) > 48 and len(renders) < 10
    whole = encode_example(tokenizer, messages[:-1], "fox", train_on="assistant_turns")
    same = encode_example(tokenizer, messages[:-1], "fox", train_on="assistant_turns", limit=len(whole.tokens))
    assert same == whole and long.tokens == whole.tokens[:len(long.tokens)]
