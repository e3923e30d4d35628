"""Tokenise rendered text so that only the template's own control tokens become control tokens.

A user who types `<|eos|>` must not end the turn. The trick: a private copy of the tokenizer knows its control tokens under
private-use aliases of equal length only. Message contents are mangled before the template sees them, so what still reads as a
control token afterwards was written by the template; those get their alias, the contents get their text back, and one pass over
the whole text gives tokens and character offsets. Because it is one pass, merges, added spaces and stripping around control
tokens are exactly the tokenizer's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from tutelage.base.errors import ArtifactError, DataError
from tutelage.text.tokenizer import adds_bos

if TYPE_CHECKING:
    from tokenizers import Encoding
    from transformers import PreTrainedTokenizerFast

_BLOCKS = (0x10C000, 0x108000, 0x104000, 0x100000)
"""Starts of private-use code points; each block is two halves, aliases in the text and mangled contents."""
_HALF = 0x1FF0
_PRIVATE = re.compile("[\U00100000-\U0010ffff]")
_MARKER = re.compile(r"<[|｜].+[|｜]>")
"""Role markers that some tokenizers add without the special flag. Others such as <think> are content and stay as they are."""


class Codec:
    """One tokenizer's control tokens under aliases.

    `ids` maps each control token to its id; `raw_start` is the BOS with which the tokenizer begins raw text, or nothing;
    `template_fault` is why the chat template was stopped, once it was.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, block: int) -> None:
        from tokenizers import Tokenizer

        self.template_fault: TimeoutError | None = None
        self.raw_start = str(tokenizer.bos_token) if adds_bos(tokenizer) else ""
        spec = json.loads(tokenizer.backend_tokenizer.to_str())
        special = set(tokenizer.all_special_tokens)
        added = [t for t in spec["added_tokens"] if t["special"] or t["content"] in special or _MARKER.fullmatch(t["content"])]
        if len(added) >= _HALF:
            raise ArtifactError(f"the tokenizer has {len(added)} control tokens, more than {_HALF - 1} can be kept apart from text")
        self.ids: dict[str, int] = {t["content"]: t["id"] for t in added}
        names = sorted(self.ids, key=len, reverse=True)             # longest first: the leftmost-longest match of the tokenizer
        self._pattern = re.compile("|".join(map(re.escape, names)) or r"(?!)")
        self._alias = {name: _alias(name, block, i) for i, name in enumerate(names)}
        self._mangled = {name: _alias(name, block + _HALF, i) for i, name in enumerate(names)}
        self._restored = {mangled: name for name, mangled in self._mangled.items()}
        self._mangled_pattern = re.compile("|".join(self._restored) or r"(?!)")
        try:
            self._backend = Tokenizer.from_str(json.dumps(_renamed(spec, self._alias)))
        except Exception as error:                                  # tokenizers raises bare Exception
            raise ArtifactError(f"the tokenizer's control tokens cannot be kept apart from text: {error}",
                                hint="a control token must not be a part of other tokens; see the special tokens in tokenizer_config.json"
                                ) from error
        if any(self._backend.token_to_id(self._alias[name]) != token_id for name, token_id in self.ids.items()):
            raise ArtifactError("the tokenizer's control tokens do not keep their ids when it is copied",
                                hint="save it again with the tokenizers library and check tokenizer.json")

    def mangle(self, text: str) -> str:
        """Hide control tokens typed in `text`, one character for one."""
        return self._pattern.sub(lambda m: self._mangled[m[0]], text)

    def restore(self, text: str) -> str:
        """Undo `mangle`."""
        return self._mangled_pattern.sub(lambda m: self._restored[m[0]], text)

    def controls(self, text: str, start: int = 0, end: int | None = None) -> list[re.Match[str]]:
        """The control tokens that stand unmangled in text[start:end]."""
        return list(self._pattern.finditer(text, start, len(text) if end is None else end))

    def encode(self, text: str) -> Encoding:
        """Tokens and character offsets of a text whose plain parts are mangled. Adds nothing of its own."""
        return self._backend.encode(self.restore(self._pattern.sub(lambda m: self._alias[m[0]], text)), add_special_tokens=False)

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of many texts at once, on every core; as `encode`, without offsets."""
        aliased = [self.restore(self._pattern.sub(lambda m: self._alias[m[0]], text)) for text in texts]
        return [encoding.ids for encoding in self._backend.encode_batch_fast(aliased, add_special_tokens=False)]


_codecs: WeakKeyDictionary[Any, dict[tuple[int, int], Codec]] = WeakKeyDictionary()


def codec_of(tokenizer: PreTrainedTokenizerFast, texts: Iterable[str]) -> Codec:
    """The codec of a tokenizer whose aliases do not occur in `texts`; built once (about a second for 150,000 tokens)."""
    private = {ord(c) & ~0x3FFF for text in texts if not text.isascii() for c in _PRIVATE.findall(text)}
    block = next((b for b in _BLOCKS if b not in private), None)
    if block is None:
        raise DataError("the text uses every private-use block of plane 16, where control tokens are kept apart from text",
                        hint="remove the private-use characters (U+100000 and above)")
    known = _codecs.setdefault(tokenizer, {})
    key = (len(tokenizer), block)                                   # a token added later makes a new codec
    if key not in known:
        known[key] = Codec(tokenizer, block)
    return known[key]


def _alias(name: str, block: int, index: int) -> str:
    return chr(block + index) + chr(block + _HALF - 1) * (len(name) - 1)


def _renamed(spec: dict[str, Any], alias: dict[str, str]) -> dict[str, Any]:
    """The tokenizer's JSON with control tokens renamed wherever text could reach them, nothing added, padded or truncated."""
    model = spec["model"]
    if model["type"] == "Unigram":                                  # its lattice would find a typed "</s>" in the vocabulary
        model["vocab"] = [[alias.get(piece, piece), score] for piece, score in model["vocab"]]
    else:
        model["vocab"] = {alias.get(piece, piece): token_id for piece, token_id in model["vocab"].items()}
        if "dropout" in model:                                      # merges skipped by chance: a text would be other tokens each time
            model["dropout"] = None
        if model.get("unk_token") is not None:
            model["unk_token"] = alias.get(model["unk_token"], model["unk_token"])
    for token in spec["added_tokens"]:
        if token["content"] in alias:
            token.update(content=alias[token["content"]], normalized=False)
    return spec | {"model": model, "post_processor": None, "truncation": None, "padding": None}
