"""Train a byte-level tokenizer, and open anybody's so that the rest of the project can rely on it."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tutelage.base.errors import ArtifactError, ConfigError, DataError, listed
from tutelage.base.files import read_json_object
from tutelage.base.log import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

log = logging.getLogger("tutelage.text")

SPECIAL_TOKENS = ("<|pad|>", "<|bos|>", "<|eos|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
"""Ids 0 to 6 of every tokenizer trained here."""

MIN_VOCAB_SIZE = 256 + len(SPECIAL_TOKENS)
"""Every byte and every special token; below this some text could not be written."""

CHAT_TEMPLATE = """\
{{- bos_token }}
{%- for message in messages %}
    {%- if message['role'] not in ('system', 'user', 'assistant', 'tool') %}
        {{- raise_exception('unknown role ' ~ message['role']) }}
    {%- endif %}
    {{- '<|' ~ message['role'] ~ '|>' }}
    {%- if message['role'] == 'assistant' %}
        {%- generation %}{{- message['content'] ~ eos_token }}{%- endgeneration %}
    {%- else %}
        {{- message['content'] ~ eos_token }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>' }}{%- endif %}
"""
"""`<|bos|>`, then per message `<|role|>content<|eos|>`; generation markers so that other trainers find the same mask."""

_PLAIN_TEMPLATE = """\
{%- for message in messages %}
    {%- if message['role'] == 'assistant' %}
        {{- '\\n\\nAssistant: ' ~ message['content'] ~ eos_token }}
    {%- elif message['role'] == 'user' %}
        {{- '\\n\\nHuman: ' ~ message['content'] }}
    {%- else %}
        {{- '\\n\\n' ~ message['role'] | capitalize ~ ': ' ~ message['content'] }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '\\n\\nAssistant:' }}{%- endif %}
"""
"""For a foreign tokenizer without a template: plain words, no new tokens. The space after the colon opens the answer, where
byte-level tokenizers keep a space with the word that follows it."""

_MOST_GROWTH = 10_000
_PAD_NAMES = ("<|pad|>", "<pad>", "[PAD]", "<|finetune_right_pad_id|>")
_RESERVED = re.compile(r"<\|reserved_special_token_\d+\|>|<unused_?\d+>|<\|extra_\d+\|>|<\|dummy_\d+\|>")


def train_tokenizer(texts: Iterable[str], *, vocab_size: int, out_dir: Path) -> Path:
    """Learn byte-level BPE and write a Hugging Face tokenizer folder; the same texts in any order give the same files.

    Lossless: no normalisation, every byte is a token, so decode(encode(text)) == text.
    The vocabulary is smaller than `vocab_size` when the texts hold fewer distinct merges.

    Args: texts: streamed once. vocab_size: tokens, special ones included. out_dir: made if missing.
    Returns: out_dir. Raises: ConfigError on an impossible size, DataError when there is no text.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    if vocab_size < MIN_VOCAB_SIZE:
        raise ConfigError(f"vocab_size={vocab_size} cannot hold 256 bytes and {len(SPECIAL_TOKENS)} special tokens",
                          hint=f"set it to {MIN_VOCAB_SIZE} or more")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=list(SPECIAL_TOKENS), show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    seen = [0]
    tokenizer.train_from_iterator(_counted(texts, seen), trainer=trainer)
    if not seen[0]:
        raise DataError("no text to train a tokenizer on", hint="check that the data files are not empty")
    # Raw text starts with BOS everywhere, in plain transformers too, as it did in pretraining.
    tokenizer.post_processor = processors.TemplateProcessing(single="<|bos|> $A", special_tokens=[("<|bos|>", 1)])
    out_dir.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(out_dir / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|bos|>", "eos_token": "<|eos|>", "pad_token": "<|pad|>",
              "padding_side": "right", "clean_up_tokenization_spaces": False}
    (out_dir / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (out_dir / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    return out_dir


def open_tokenizer(path: Path | str) -> PreTrainedTokenizerFast:
    """Open a tokenizer folder and make it safe to train with: right padding, pad != EOS, a chat template.

    A missing EOS is taken from the model's generation settings, else it is a new `<|eos|>`. A missing or shared pad token is replaced
    by an unused reserved token, else by a new `<|pad|>`. With new tokens len(tokenizer) may exceed the model's embedding rows, which
    the caller resizes. A missing template becomes ours if its role tokens exist, else a plain-text one that needs no new tokens.

    Raises: ArtifactError when the folder is missing or holds no fast tokenizer.
    """
    path = Path(path)
    if not path.is_dir():
        raise ArtifactError(f"no tokenizer folder at {path}", hint="give a folder that holds tokenizer.json")
    from transformers import AutoTokenizer

    tokenizer: Any
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(str(path), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the library raises many kinds; every one of them means that this folder cannot be opened
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ArtifactError(f"cannot open the tokenizer in {path}: {reason}",
                            hint="the folder needs a readable tokenizer.json and tokenizer_config.json") from error
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise ArtifactError(f"the tokenizer in {path} has no tokenizer.json form ({type(tokenizer).__name__})",
                            hint="convert it to a fast tokenizer and save it again")
    if not isinstance(tokenizer.model_max_length, int | float):
        raise ArtifactError(f"the tokenizer in {path} is damaged: model_max_length is {tokenizer.model_max_length!r}, not a number",
                            hint="correct or remove it in tokenizer_config.json")
    _refuse_impossible(tokenizer.backend_tokenizer, path)
    tokenizer.padding_side = "right"
    if not tokenizer.eos_token:                                 # without one a model could never learn to stop
        tokenizer.add_special_tokens({"eos_token": _stop_of_model(tokenizer, path) or "<|eos|>"})
        log.info("the tokenizer in %s names no EOS token; using %s (id %d)", path, tokenizer.eos_token, tokenizer.eos_token_id)
    _ensure_pad(tokenizer)
    if not tokenizer.chat_template:
        ours = all(token in tokenizer.get_vocab() for token in SPECIAL_TOKENS)
        tokenizer.chat_template = CHAT_TEMPLATE if ours else ("{{- bos_token }}" if adds_bos(tokenizer) else "") + _PLAIN_TEMPLATE
        log.info("the tokenizer in %s has no chat template; using %s", path, "ours" if ours else "plain Human/Assistant text")
    return cast("PreTrainedTokenizerFast", tokenizer)


def reads_alike(one: PreTrainedTokenizerFast, other: PreTrainedTokenizerFast) -> bool:
    """Whether both turn a conversation into the same token ids: same vocabulary, same end of text, same chat template, same BOS habit."""
    return (one.eos_token == other.eos_token and one.chat_template == other.chat_template and adds_bos(one) == adds_bos(other)
            and one.get_vocab() == other.get_vocab())


def adds_bos(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether this tokenizer, by its own convention, starts raw text with BOS."""
    ids = tokenizer("a", add_special_tokens=True)["input_ids"]
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    return tokenizer.bos_token_id is not None and ids[:1] == [tokenizer.bos_token_id] and plain[:1] != ids[:1]


def _refuse_impossible(backend: Any, path: Path) -> None:
    """Raises: ArtifactError for steps that the tokenizers library takes as they are and then breaks on, or has no end with."""
    growth, normalizer = 1, [] if backend.normalizer is None else [json.loads(backend.normalizer.__getstate__())]
    while normalizer:
        step = normalizer.pop()
        normalizer += step.get("normalizers", [])
        growth *= max(1, len(step["content"])) if step["type"] == "Replace" else 1
    if growth > _MOST_GROWTH:
        raise ArtifactError(f"the tokenizer in {path} may write {growth:,} characters for one (its normalizer)",
                            hint="restore tokenizer.json from its source")
    processor = [] if backend.post_processor is None else [json.loads(backend.post_processor.__getstate__())]
    while processor:
        step = processor.pop()
        processor += step.get("processors", [])
        named = {piece["SpecialToken"]["id"] for piece in (*step.get("single", []), *step.get("pair", [])) if "SpecialToken" in piece}
        if lost := named - step.get("special_tokens", {}).keys() if step["type"] == "TemplateProcessing" else set():
            raise ArtifactError(f"the tokenizer in {path} puts {listed(sorted(lost))} around texts, which it does not know",
                                hint="restore tokenizer.json from its source")


def _stop_of_model(tokenizer: PreTrainedTokenizerFast, path: Path) -> str | None:
    """The control token at which the model beside it stops, by its own settings; an ordinary token there is a left-over default."""
    for name in ("generation_config.json", "config.json"):
        try:
            stops = read_json_object(path / name, hint="copy the model again").get("eos_token_id")
        except ArtifactError:                                       # not there, or whoever opens the model will say what is wrong with it
            continue
        for token_id in stops if isinstance(stops, list) else [stops]:
            if isinstance(token_id, int) and token_id in tokenizer.added_tokens_decoder:
                return str(tokenizer.added_tokens_decoder[token_id].content)
    return None


def _ensure_pad(tokenizer: PreTrainedTokenizerFast) -> None:
    # Padding is masked. With pad == EOS a masked pad looks like a masked EOS to every later tool, and models never learn to stop.
    if tokenizer.pad_token is not None and tokenizer.pad_token_id != tokenizer.eos_token_id:
        return
    found = "no pad token" if tokenizer.pad_token is None else f"pad equal to EOS ({tokenizer.eos_token})"
    tokenizer.add_special_tokens({"pad_token": _unused_token(tokenizer) or "<|pad|>"})      # setting the attribute gives it no id
    log.info("the tokenizer has %s; padding with %s (id %d)", found, tokenizer.pad_token, tokenizer.pad_token_id)


def _unused_token(tokenizer: PreTrainedTokenizerFast) -> str | None:
    added = {token.content for token in tokenizer.added_tokens_decoder.values()}
    taken = set(tokenizer.special_tokens_map.values()) - {tokenizer.pad_token}
    template = str(tokenizer.chat_template or "")
    named = [name for name in _PAD_NAMES if name in added]
    reserved = sorted((name for name in added if _RESERVED.fullmatch(name)), key=lambda name: (len(name), name), reverse=True)
    return next((name for name in (*named, *reserved) if name not in taken and name not in template), None)


def _counted(texts: Iterable[str], seen: list[int]) -> Iterator[str]:
    for text in texts:
        seen[0] += bool(text)
        yield text
