"""Hostile model folders: pickles and code that must not run, damaged weights, impossible configurations, tokenizers and chat templates."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.hostile.judge import Bench, Call, Case

Damage = Callable[[Path, Path], None]
"""(model folder, file that code of it would leave) -> None."""


class Bomb:
    """Unpickled, it leaves a file."""

    def __init__(self, trap: Path) -> None:
        self.trap = trap

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.trap), "w")


def edit(name: str, **changes: Any) -> Damage:
    """Other values in one of the folder's JSON files; ... takes a key away."""

    def damage(folder: Path, trap: Path) -> None:
        file = folder / name
        found = json.loads(file.read_text())
        found.update({key: value for key, value in changes.items() if value is not ...})
        for key in [key for key, value in changes.items() if value is ...]:
            found.pop(key, None)
        file.write_text(json.dumps(found).replace("TRAP", str(trap)))

    return damage


def put(name: str, content: str | bytes) -> Damage:
    """Another content of one of the folder's files; TRAP stands for the file that code of it would leave."""

    def damage(folder: Path, trap: Path) -> None:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.replace("TRAP", str(trap)).encode())

    return damage


def together(*damages: Damage) -> Damage:
    def damage(folder: Path, trap: Path) -> None:
        for one in damages:
            one(folder, trap)

    return damage


def gone(name: str) -> Damage:
    return lambda folder, trap: (folder / name).unlink()


def pickled(name: str) -> Damage:
    """A pickle that runs code when it is opened, beside or in the place of weights."""
    return lambda folder, trap: (folder / name).write_bytes(pickle.dumps(Bomb(trap)))


def header(size: int, text: bytes = b"{}") -> bytes:
    """A safetensors file that says its header has so many bytes."""
    return struct.pack("<Q", size) + text


def tensors(**described: Any) -> bytes:
    """A safetensors file of 64 zero bytes, described so."""
    text = json.dumps(described).encode()
    return header(len(text), text) + bytes(64)


def link(name: str, to: str) -> Damage:
    def damage(folder: Path, trap: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(to)

    return damage


CODE = "open('TRAP', 'w')\n"
WEIGHTS = "model.safetensors"
F32 = {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]}
_SHIPPED = {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M", "AutoTokenizer": ["evil.T", "evil.T"]}

MODELS: dict[str, Damage] = {
    # -- code
    "pickled weights in the place of safetensors": together(gone(WEIGHTS), pickled("pytorch_model.bin")),
    "pickled weights beside safetensors": pickled("pytorch_model.bin"),
    "a pickle named safetensors": pickled(WEIGHTS),
    "pickled training arguments": pickled("training_args.bin"),
    "a pickled optimizer": pickled("optimizer.pt"),
    "a pickled index": together(gone(WEIGHTS), put("pytorch_model.bin.index.json", '{"weight_map": {"a": "a.bin"}}'), pickled("a.bin")),
    "an index of pickles": together(gone(WEIGHTS), put("model.safetensors.index.json", '{"weight_map": {"a": "a.bin"}}'), pickled("a.bin")),
    "flax weights": together(gone(WEIGHTS), put("flax_model.msgpack", b"\x81\xa1a\x01")),
    "keras weights": together(gone(WEIGHTS), put("tf_model.h5", b"\x89HDF")),
    "a pickled vocabulary": together(gone("tokenizer.json"), pickled("vocab.pkl")),
    "a pickled tokenizer": together(gone("tokenizer.json"), pickled("tokenizer.pkl")),
    "code for the model": together(edit("config.json", auto_map=_SHIPPED), put("evil.py", CODE)),
    "code for a kind of its own": together(
        edit("config.json", auto_map=_SHIPPED, model_type="evil", architectures=["M"]), put("evil.py", CODE)
    ),
    "code for the model from a hub": edit("config.json", auto_map={"AutoModelForCausalLM": "someone/evil--evil.M"}, model_type="evil"),
    "code for the tokenizer": together(
        edit("tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T", "evil.T"]}, tokenizer_class="T"), put("evil.py", CODE)
    ),
    "trust_remote_code in the config": together(
        edit("config.json", auto_map=_SHIPPED, trust_remote_code=True, model_type="evil"), put("evil.py", CODE)
    ),
    "code for generating": together(edit("generation_config.json", custom_generate="TRAP"), put("generate.py", CODE)),
    "a module beside the model": together(put("torch.py", CODE), put("transformers.py", CODE), put("sitecustomize.py", CODE)),
    "an attention from a hub": edit("config.json", _attn_implementation="someone/evil", attn_implementation="someone/evil"),
    "a quantizer of its own": edit("config.json", quantization_config={"quant_method": "evil"}),
    "a quantizer that is a list": edit("config.json", quantization_config=[1]),
    "bitsandbytes without a device": edit("config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}),
    "an adapter of pickles": together(
        put("adapter_config.json", '{"peft_type": "LORA", "base_model_name_or_path": "."}'), pickled("adapter_model.bin")
    ),
    "an adapter with code": together(
        put(
            "adapter_config.json",
            '{"peft_type": "LORA", "base_model_name_or_path": "evil", "auto_mapping": {"parent_library": "evil", "base_model_class": "M"}}',
        ),
        put("evil.py", CODE),
    ),
    # -- weights
    "weights of no bytes": put(WEIGHTS, b""),
    "weights of seven bytes": put(WEIGHTS, b"1234567"),
    "weights of text": put(WEIGHTS, "hello, this is no model"),
    "a header of 2^63 bytes": put(WEIGHTS, header(1 << 63)),
    "a header of 2^64 - 1 bytes": put(WEIGHTS, header((1 << 64) - 1)),
    "a header of 99 GB": put(WEIGHTS, header(99 << 30)),
    "a header of 100 MB": put(WEIGHTS, header(100 << 20)),
    "a header of no bytes": put(WEIGHTS, header(0, b"")),
    "a header that is a list": put(WEIGHTS, header(2, b"[]")),
    "a header of brackets": put(WEIGHTS, header(10**5, b"[" * 10**5)),
    "a header that is no utf-8": put(WEIGHTS, header(4, b"\xff\xfe\xfd\xfc")),
    "a header without tensors": put(WEIGHTS, header(2)),
    "offsets past the end": put(WEIGHTS, tensors(a=F32 | {"data_offsets": [0, 1 << 40]})),
    "offsets backwards": put(WEIGHTS, tensors(a=F32 | {"data_offsets": [64, 0]})),
    "offsets below 0": put(WEIGHTS, tensors(a=F32 | {"data_offsets": [-64, 0]})),
    "a shape below 0": put(WEIGHTS, tensors(a=F32 | {"shape": [-4, -4]})),
    "a shape of 2^62": put(WEIGHTS, tensors(a=F32 | {"shape": [1 << 62, 4]})),
    "a shape that overflows to its size": put(WEIGHTS, tensors(a=F32 | {"shape": [1 << 32, 1 << 32, 16]})),
    "a dtype of nobody": put(WEIGHTS, tensors(a=F32 | {"dtype": "F99"})),
    "tensors of one place": put(WEIGHTS, tensors(a=F32, b=F32)),
    "tensors of other names": put(WEIGHTS, tensors(a=F32)),
    "a tensor without a name": put(WEIGHTS, tensors(**{"": F32})),
    "metadata of numbers": put(WEIGHTS, tensors(__metadata__={"format": 3}, a=F32)),
    "metadata of another framework": put(WEIGHTS, tensors(__metadata__={"format": "mlx"}, a=F32)),
    "weights that are a folder": together(gone(WEIGHTS), lambda folder, trap: (folder / WEIGHTS).mkdir()),
    "weights that are a device": link(WEIGHTS, "/dev/zero"),
    "weights that link to themselves": link(WEIGHTS, WEIGHTS),
    "an index that leaves the folder": together(
        gone(WEIGHTS), put("model.safetensors.index.json", '{"metadata": {}, "weight_map": {"lm_head.weight": "../../../../etc/passwd"}}')
    ),
    "an index of nothing": together(gone(WEIGHTS), put("model.safetensors.index.json", "{}")),
    "an index that is a list": together(gone(WEIGHTS), put("a.safetensors", tensors(a=F32)), put("model.safetensors.index.json", "[1]")),
    "an index beside the weights": put("model.safetensors.index.json", '{"weight_map": {"a": ["b"]}}'),
    # -- configuration
    "no layers": edit("config.json", num_hidden_layers=0),
    "-1 layers": edit("config.json", num_hidden_layers=-1),
    "10^9 layers": edit("config.json", num_hidden_layers=10**9),
    "10^5 layers": edit("config.json", num_hidden_layers=10**5),
    "half a layer": edit("config.json", num_hidden_layers=1.5),
    "layers in words": edit("config.json", num_hidden_layers="two"),
    "layers of null": edit("config.json", num_hidden_layers=None),
    "layers of true": edit("config.json", num_hidden_layers=True),
    "a list of layers": edit("config.json", num_hidden_layers=[2]),
    "width 0": edit("config.json", hidden_size=0),
    "width -1": edit("config.json", hidden_size=-1),
    "width 10^12": edit("config.json", hidden_size=10**12),
    "width 2^63": edit("config.json", hidden_size=1 << 63),
    "width 10^6": edit("config.json", hidden_size=10**6),
    "width in words": edit("config.json", hidden_size="32"),
    "no heads": edit("config.json", num_attention_heads=0),
    "-2 heads": edit("config.json", num_attention_heads=-2),
    "7 heads": edit("config.json", num_attention_heads=7),
    "heads of null": edit("config.json", num_attention_heads=None),
    "no key heads": edit("config.json", num_key_value_heads=0),
    "3 key heads": edit("config.json", num_key_value_heads=3),
    "head of -4": edit("config.json", head_dim=-4),
    "head of 10^9": edit("config.json", head_dim=10**9),
    "an inner width of -1": edit("config.json", intermediate_size=-1),
    "an inner width of 10^12": edit("config.json", intermediate_size=10**12),
    "a vocabulary of -1": edit("config.json", vocab_size=-1),
    "a vocabulary of 0": edit("config.json", vocab_size=0),
    "a vocabulary of 10^12": edit("config.json", vocab_size=10**12),
    "a vocabulary of 3": edit("config.json", vocab_size=3),
    "a vocabulary of null": edit("config.json", vocab_size=None),
    "a context of -1": edit("config.json", max_position_embeddings=-1),
    "a context of 0": edit("config.json", max_position_embeddings=0),
    "a context of 10^15": edit("config.json", max_position_embeddings=10**15),
    "a context in words": edit("config.json", max_position_embeddings="long"),
    "a context of null": edit("config.json", max_position_embeddings=None),
    "an activation of its own": edit("config.json", hidden_act="__import__('os')"),
    "an activation of null": edit("config.json", hidden_act=None),
    "an epsilon of nan": edit("config.json", rms_norm_eps=float("nan")),
    "an epsilon in words": edit("config.json", rms_norm_eps="x"),
    "rotations of nobody": edit("config.json", rope_parameters={"rope_type": "evil", "rope_theta": 1e4}),
    "rotations of a list": edit("config.json", rope_parameters=[1]),
    "rotations of -1": edit("config.json", rope_parameters={"rope_type": "linear", "factor": -1, "rope_theta": -1}),
    "rotations of 0": edit("config.json", rope_parameters={"rope_type": "default", "rope_theta": 0}),
    "dropout of 2": edit("config.json", attention_dropout=2),
    "dropout in words": edit("config.json", attention_dropout="x"),
    "a start of inf": edit("config.json", initializer_range=float("inf")),
    "a pad id of 10^9": edit("config.json", pad_token_id=10**9),
    "a pad id of -5": edit("config.json", pad_token_id=-5),
    "a pad id in words": edit("config.json", pad_token_id="pad"),
    "an eos id of 10^9": edit("config.json", eos_token_id=10**9),
    "an eos id of a list of lists": edit("config.json", eos_token_id=[[1]]),
    "a bos id of a map": edit("config.json", bos_token_id={}),
    "no model_type": edit("config.json", model_type=...),
    "model_type a list": edit("config.json", model_type=["llama"]),
    "model_type of nobody": edit("config.json", model_type="evil"),
    "model_type of escapes": edit("config.json", model_type="\x1b[2J\x07"),
    "an encoder": edit("config.json", model_type="bert", architectures=["BertForMaskedLM"]),
    "model_type with a path": edit("config.json", model_type="../../evil"),
    "architectures of a word": edit("config.json", architectures="LlamaForCausalLM"),
    "architectures of nobody": edit("config.json", architectures=["os.system"]),
    "architectures of numbers": edit("config.json", architectures=[1, None]),
    "a dtype of its own": edit("config.json", dtype="evil"),
    "a dtype of a list": edit("config.json", dtype=[1]),
    "tied of a word": edit("config.json", tie_word_embeddings="maybe"),
    "labels of nan": edit("config.json", num_labels=float("nan")),
    "a text_config of a list": edit("config.json", text_config=[1]),
    "a config in a config": edit("config.json", text_config={"num_hidden_layers": -1}),
    "use_cache of a list": edit("config.json", use_cache=[1]),
    "a config of null": put("config.json", "null"),
    "a config of a list": put("config.json", "[]"),
    "a config of brackets": put("config.json", "[" * 10**5),
    "a config of noise": put("config.json", bytes(range(256))),
    "a config of no bytes": put("config.json", ""),
    "a config twice": put("config.json", '{"model_type": "llama"}{"model_type": "gpt2"}'),
    "a config of nan": put("config.json", "NaN"),
    "a config of a pickle": pickled("config.json"),
    "a config that links to itself": link("config.json", "config.json"),
    "a config of a device": link("config.json", "/dev/zero"),
    "a config of 20 MB of spaces": put("config.json", " " * (20 << 20)),
    "generation settings of a list": put("generation_config.json", "[1]"),
    "generation settings of noise": put("generation_config.json", b"\xff\xfe"),
    "generation settings of wrong kinds": edit("generation_config.json", temperature="hot", top_k=[1], eos_token_id="x"),
    "generation settings of nan": edit("generation_config.json", temperature=float("nan"), max_new_tokens=-1),
    # -- tokenizer
    "a tokenizer of no bytes": put("tokenizer.json", ""),
    "a tokenizer of noise": put("tokenizer.json", bytes(range(256))),
    "a tokenizer of a list": put("tokenizer.json", "[]"),
    "a tokenizer of null": put("tokenizer.json", "null"),
    "a tokenizer of brackets": put("tokenizer.json", "[" * 10**5),
    "a tokenizer without a model": edit("tokenizer.json", model=...),
    "a tokenizer without words": edit("tokenizer.json", model={"type": "BPE", "vocab": {}, "merges": []}),
    "merges of nobody": edit("tokenizer.json", model={"type": "BPE", "vocab": {"a": 0}, "merges": [["x", "y"]]}),
    "ids of 10^9": edit("tokenizer.json", model={"type": "WordLevel", "vocab": {"a": 10**9, "b": 0}, "unk_token": "b"}),
    "ids below 0": edit("tokenizer.json", model={"type": "WordLevel", "vocab": {"a": -1}, "unk_token": "a"}),
    "one id of two words": edit("tokenizer.json", model={"type": "WordLevel", "vocab": {"a": 0, "b": 0}, "unk_token": "a"}),
    "a unigram of nan": edit("tokenizer.json", model={"type": "Unigram", "vocab": [["a", None]], "unk_id": 0}),
    "a unigram whose unknown is nobody": edit("tokenizer.json", model={"type": "Unigram", "vocab": [["a", -1.0]], "unk_id": 99}),
    "a regex that never ends": edit(
        "tokenizer.json",
        pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a|a|aa)*$|(x+x+)+y"}, "behavior": "Isolated", "invert": False},
    ),
    "a regex that is none": edit(
        "tokenizer.json", pre_tokenizer={"type": "Split", "pattern": {"Regex": "((("}, "behavior": "Isolated", "invert": False}
    ),
    "a normalizer that grows": edit(
        "tokenizer.json",
        normalizer={"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "aa" * 50}] * 4},
    ),
    "a normalizer that empties": edit("tokenizer.json", normalizer={"type": "Replace", "pattern": {"Regex": "."}, "content": ""}),
    "a decoder of nobody": edit("tokenizer.json", decoder={"type": "Evil"}),
    "a post-processor of unknown tokens": edit(
        "tokenizer.json",
        post_processor={
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "zz", "type_id": 0}}],
            "pair": [],
            "special_tokens": {},
        },
    ),
    "added tokens of an empty word": edit(
        "tokenizer.json",
        added_tokens=[
            {"id": 0, "content": "", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        ],
    ),
    "added tokens of wrong kinds": edit("tokenizer.json", added_tokens=[{"id": "x", "content": 3}]),
    "no added tokens": edit("tokenizer.json", added_tokens=[]),
    "tokenizer settings of a list": put("tokenizer_config.json", "[]"),
    "tokenizer settings of noise": put("tokenizer_config.json", b"\xff"),
    "tokenizer settings of brackets": put("tokenizer_config.json", "[" * 10**5),
    "a tokenizer class of os": edit("tokenizer_config.json", tokenizer_class="os.system"),
    "a tokenizer class of a list": edit("tokenizer_config.json", tokenizer_class=[1]),
    "an eos token of a number": edit("tokenizer_config.json", eos_token=5),
    "an eos token of a list": edit("tokenizer_config.json", eos_token=["a"]),
    "an eos token of a letter": edit("tokenizer_config.json", eos_token="e"),
    "an eos token of no letters": edit("tokenizer_config.json", eos_token=""),
    "a pad token of a map": edit("tokenizer_config.json", pad_token={"content": 3}),
    "a length of -1": edit("tokenizer_config.json", model_max_length=-1),
    "a length of nan": edit("tokenizer_config.json", model_max_length=float("nan")),
    "a length of a list": edit("tokenizer_config.json", model_max_length=[1]),
    "more special tokens of a map": edit("tokenizer_config.json", extra_special_tokens={"a": 3}),
    "more special tokens of numbers": edit("tokenizer_config.json", extra_special_tokens=[1, None]),
    "10000 special tokens": edit("tokenizer_config.json", extra_special_tokens=[f"<|x{i}|>" for i in range(10_000)]),
    "special tokens of escapes": edit("tokenizer_config.json", eos_token="\x1b[2J"),
    "special_tokens_map of a list": put("special_tokens_map.json", "[1]"),
    "a padding side of nobody": edit("tokenizer_config.json", padding_side="up"),
    "added_tokens_decoder of wrong kinds": edit("tokenizer_config.json", added_tokens_decoder={"x": 3}),
}
"""What is wrong with a folder -> how to make it so."""

TEMPLATES: dict[str, str] = {
    "loops in loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "loops in loops in loops": "{% for i in range(9999) %}{% for j in range(9999) %}{% for k in range(9999) %}{{ i }}{% endfor %}{% endfor %}{% endfor %}",  # noqa: E501
    "a macro that calls itself": "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
    "a macro that forks": "{% macro f(n) %}{{ f(n + 1) }}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
    "a range too long": "{% for i in range(10 ** 9) %}{% endfor %}",
    "an 'a' 10^8 times": "{{ 'a' * 100000000 }}",
    "an 'a' 10^11 times": "{{ 'a' * 100000000000 }}",
    "an 'a' 10^8.0 times": "{{ 'a' * 1e8 }}",
    "a string that doubles": "{% set ns = namespace(x='aaaaaaaaaa') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",  # noqa: E501
    "a list that doubles": "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x | length }}",  # noqa: E501
    "a tower of powers": "{{ 9 ** 9 ** 9 }}",
    "a power": "{{ 10 ** 10 ** 8 }}",
    "a width of 10^10": "{{ 'a' | center(10000000000) }}",
    "a format of 10^10": "{{ '%10000000000d' | format(1) }}",
    "a format by method": "{{ '{:>10000000000}'.format(1) }}",
    "a padding of 10^10": "{{ 'a'.ljust(10000000000) }}",
    "all combinations": "{% for a in messages | batch(1) %}{{ a | pprint }}{% endfor %}{{ 0 / 0 }}",
    "lorem ipsum": "{{ lipsum(n=10000000) }}",
    "a cycle": "{% set l = [] %}{% set _ = l.append(l) %}{{ l }}{{ l | tojson }}",
    "subclasses": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals of a function": "{{ raise_exception.__globals__ }}",
    "globals of cycler": "{{ cycler.__init__.__globals__.os.popen('touch TRAP').read() }}",
    "self": "{{ self.__init__.__globals__.__builtins__ }}",
    "attr": "{{ messages | attr('__class__') }}",
    "an attribute by format": "{{ '{0.__class__.__base__}'.format(messages) }}",
    "format_map": "{{ '{x.__class__}'.format_map({'x': messages}) }}",
    "import": "{% import 'os' as os %}",
    "include": "{% include '/etc/passwd' %}",
    "extends": "{% extends '/etc/passwd' %}",
    "lipsum's globals": "{{ lipsum.__globals__['os'].system('touch TRAP') }}",
    "namespace's globals": "{{ namespace.__init__.__globals__ }}",
    "joiner": "{{ joiner.__init__.__globals__.__builtins__.open('TRAP', 'w') }}",
    "strftime": "{{ strftime_now('%' * 100000) }}",
    "changes its input": "{{ messages.append(1) }}{{ messages.clear() }}",
    "an undefined name": "{{ nothing.at.all }}",
    "a division by 0": "{{ 1 / 0 }}",
    "raises": "{{ raise_exception('no') }}",
    "raises escapes": "{{ raise_exception('\\x1b[2J\\x07') }}",
    "raises a book": "{{ raise_exception('x' * 1000000) }}",
    "raises lines": "{{ raise_exception('a\\nb\\n' * 1000) }}",
    "an open block": "{% for m in messages %}",
    "an unknown tag": "{% evil %}",
    "an open brace": "{{ messages",
    "nothing": " ",
    "half a surrogate": "{{ '\\ud800' }}",
    "control tokens": "{{ '<|eos|>' * 1000 }}",
    "only the last message": "{{ messages[-1].content }}",
    "another text each time": "{{ range(9) | random }}{{ messages }}",
    "the answer first": "{% for m in messages | reverse %}{{ m.content }}{% endfor %}",
    "generation that never ends": "{% generation %}{% for m in messages %}{{ m.content }}{% endfor %}",
    "generation in generation": "{% for m in messages %}{% generation %}{% generation %}{{ m.content }}{% endgeneration %}{% endgeneration %}{% endfor %}",  # noqa: E501
    "a name of a megabyte": "{{ " + "x" * 10**6 + " }}",
    "brackets 10000 deep": "{{ " + "(" * 10**4 + "1" + ")" * 10**4 + " }}",
    "ifs 500 deep": "{% if 1 %}" * 500 + "{% endif %}" * 500,
}
"""Chat templates. TRAP is the file that code in one would leave."""
SLOW = {"loops in loops in loops", "a string that doubles", "a list that doubles", "lorem ipsum", "a normalizer that grows to a book"}
"""Seconds of work before they are stopped: only `make test-all` has the time."""


def doors(bench: Bench, model: Path, number: int) -> Sequence[Call]:
    """Every folder meets one of the commands that open models, by turns. What opens all the same may be used."""
    data, codes = bench.small, (0, 1, 2)
    return [
        [Call(["chat", model, "--prompt", "where is cat 1?", "--max-tokens", "3", "-q"], codes)],
        [
            Call(
                [
                    "sample",
                    f"model.policy={model}",
                    f'data.files=["{data.prompts}"]',
                    "data.limit=4",
                    "rollout.max_tokens=2",
                    "rollout.answers_per_prompt=2",
                    "--run-dir",
                    bench.out / "run",
                    "-q",
                ],
                codes,
            )
        ],
        [Call(["export", model, bench.out / "exported", "-q"], codes)],
        [
            Call(
                [
                    "sft",
                    f"model.policy={model}",
                    f'data.files=["{data.demonstrations}"]',
                    "train.max_steps=1",
                    "train.epochs=null",
                    "train.batch_size=4",
                    "--dry-run",
                    "-q",
                ],
                codes,
            )
        ],
        [
            Call(
                [
                    "reward",
                    f"model.policy={model}",
                    f'data.files=["{data.pairs}"]',
                    "train.max_steps=1",
                    "train.epochs=null",
                    "train.batch_size=4",
                    "--run-dir",
                    bench.out / "run",
                    "-q",
                ],
                codes,
            )
        ],
        [
            Call(
                [
                    "ppo",
                    f"model.policy={data.sft}",
                    f"model.reward={model}",
                    f'data.files=["{data.prompts}"]',
                    "algo.batch_size=4",
                    "algo.minibatch_size=2",
                    "rollout.max_tokens=3",
                    "algo.num_iterations=1",
                    "--run-dir",
                    bench.out / "run",
                    "-q",
                ],
                codes,
            )
        ],
        [Call(["init", "--model", model, "--data", data.demonstrations, "--no-forecast", "--out", bench.out, "-q"], codes)],
        [Call(["data", "check", data.demonstrations, "--model", model, "--json"], codes)],
    ][number % 8]


def cases() -> Iterator[tuple[Case, bool]]:
    """Damaged copies of a good folder, and of one whose chat template is another."""
    for number, (name, damage) in enumerate(MODELS.items()):
        yield Case(f"model: {name}", lambda bench, damage=damage, number=number: opened(bench, damage, number)), name in SLOW
    for number, (name, template) in enumerate(TEMPLATES.items()):
        damage = put("chat_template.jinja", template)
        door = (0, 1, 3, 7)[number % 4]
        yield Case(f"template: {name}", lambda bench, damage=damage, door=door: opened(bench, damage, door)), name in SLOW


def opened(bench: Bench, damage: Damage, door: int) -> Sequence[Call]:
    """The calls that meet a damaged copy: of the reward model where that is what is opened, else of the policy."""
    model = bench.folder / "model"
    shutil.copytree(bench.small.reward if door % 8 == 5 else bench.small.sft, model)
    damage(model, bench.trap)
    return doors(bench, model, door)
