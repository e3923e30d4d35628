"""Tokenizers of the kinds people bring, built here from a few sentences: each has one habit that breaks naive mask builders."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from tutelage.text.tokenizer import open_tokenizer, train_tokenizer

CORPUS = ["The quick brown fox jumps over the lazy dog.", "What can I get for you? A latte, please.\n\nHuman: yes\n\nAssistant: no",
          "answer question system user assistant think", "if (x) {\n    return 42;\n}\n\n", "naïve café — 漢字 🙂"] * 20

CHATML = """\
{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' }}
{%- if m.role == 'assistant' %}{% generation %}{{- m.content + '<|im_end|>' }}{% endgeneration %}{{- '\n' }}
{%- else %}{{- m.content + '<|im_end|>\n' }}{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"""

# As Qwen 3: a default system turn, thoughts stripped from every answer but the last, an empty thought added to the last.
QWEN = """\
{%- if messages[0].role != 'system' %}{{- '<|im_start|>system\nBe helpful.<|im_end|>\n' }}{%- endif %}
{%- for m in messages %}{%- set content = m.content.split('</think>')[-1].lstrip('\n') if m.role == 'assistant' else m.content %}
{{- '<|im_start|>' + m.role + '\n' }}
{%- if m.role == 'assistant' and loop.last %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}{{- content + '<|im_end|>\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"""

# As Llama 2: no generation prompt of its own, contents stripped, roles must alternate.
INST = """\
{%- for m in messages %}
{%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{- raise_exception('roles must alternate') }}{%- endif %}
{%- if m.role == 'user' %}{{- bos_token + '[INST] ' + m.content.strip() + ' [/INST]' }}
{%- else %}{{- ' ' + m.content.strip() + ' ' + eos_token }}{%- endif %}{%- endfor %}"""

PHI = """\
{%- for m in messages %}{{- '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>\n' }}{%- endif %}"""

# As GLM 4: the next role's token is what ends a turn, so nothing follows the last one.
GLM = """\
{%- for m in messages %}{{- '<|' + m.role + '|>\n' + m.content }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>\n' }}{%- endif %}"""

# Opens the answer with a thought that the full render does not have: no prefix.
NO_PREFIX = CHATML.replace("<|im_start|>assistant\n", "<|im_start|>assistant\n<think>\n")


def byte_bpe(special: list[str | AddedToken], template: str | None = None, **names: str) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=True)
    backend.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=360, show_progress=False, special_tokens=special,
                                                            initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return PreTrainedTokenizerFast(tokenizer_object=backend, chat_template=template, **names)


def unigram(template: str | None) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.Unigram())
    backend.normalizer, backend.decoder = normalizers.NFKC(), decoders.Metaspace(prepend_scheme="first")
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    backend.train_from_iterator(CORPUS, trainers.UnigramTrainer(vocab_size=150, show_progress=False, unk_token="<unk>",
                                                                special_tokens=["<unk>", "<s>", "</s>"]))
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, chat_template=template, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def wordpiece() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer, backend.decoder = normalizers.BertNormalizer(lowercase=True), decoders.WordPiece()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=200, show_progress=False,
                                                                  special_tokens=["[UNK]", "[CLS]", "[SEP]", "[PAD]"]))
    backend.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", bos_token="[CLS]", eos_token="[SEP]", pad_token="[PAD]")


def build(name: str) -> PreTrainedTokenizerFast:
    chatml = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    roles = [AddedToken(f"<|{r}|>", special=True, rstrip=True) for r in ("system", "user", "assistant", "tool", "end")]
    return {
        "gpt2": lambda: byte_bpe(["<|endoftext|>"], bos_token="<|endoftext|>", eos_token="<|endoftext|>", pad_token="<|endoftext|>"),
        "wordpiece": wordpiece,
        "unigram": lambda: unigram(None),
        "llama2": lambda: unigram(INST),
        "chatml": lambda: byte_bpe([*chatml, "<|pad|>"], CHATML, eos_token="<|endoftext|>", pad_token="<|pad|>"),
        "qwen": lambda: byte_bpe([*chatml, "<think>", "</think>"], QWEN, eos_token="<|im_end|>", pad_token="<|endoftext|>"),
        "phi": lambda: byte_bpe(["<|endoftext|>", *roles], PHI, eos_token="<|endoftext|>"),
        "glm": lambda: byte_bpe(["<|endoftext|>", *(f"<|{r}|>" for r in ("system", "user", "assistant", "tool"))], GLM,
                                eos_token="<|endoftext|>"),
        "no_prefix": lambda: byte_bpe(chatml, NO_PREFIX, eos_token="<|im_end|>"),
        "no_eos": lambda: byte_bpe(["<|endoftext|>"]),
    }[name]()


@pytest.fixture(scope="session")
def corpus() -> list[str]:
    return CORPUS


@pytest.fixture(scope="session")
def make_byte_bpe():
    return byte_bpe


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """Folder of a tokenizer by name; made once."""
    root = tmp_path_factory.mktemp("tokenizers")

    def folder(name: str) -> Path:
        path = root / name
        if not path.exists():
            if name == "ours":
                train_tokenizer(CORPUS, vocab_size=360, out_dir=path)
            else:
                build(name).save_pretrained(str(path))
        return path

    return folder


@pytest.fixture(scope="session")
def opened(saved):
    """An opened tokenizer by name; opened once."""
    cache = {}

    def tokenizer(name: str):
        if name not in cache:
            cache[name] = open_tokenizer(saved(name))
        return cache[name]

    return tokenizer
