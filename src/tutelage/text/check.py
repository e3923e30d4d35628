"""What is in a data file: layout, counts, lengths, duplicates, and rows to look at. One pass, a few bytes per row."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.base.errors import DataError
from tutelage.base.records import Prompt
from tutelage.base.split import split_key
from tutelage.text.content import Content
from tutelage.text.convert import contents
from tutelage.text.layouts import Goal
from tutelage.text.lines import Rejected
from tutelage.text.readers import Files, ReadOptions, too_many_rejected

NUM_SAMPLES = 3
_MOST_RENDERED = 200_000
"""Characters of a sample; a longer one is not tokenised only to be looked at."""


@dataclass
class Checked:
    """What was found. rejected: reason -> [count, first file:line]. lengths: characters of each part, one number per row or answer."""

    layouts: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    rejected: dict[str, tuple[int, str]] = field(default_factory=dict)
    lengths: dict[str, array[int]] = field(default_factory=dict)
    roles: Counter[str] = field(default_factory=Counter)
    longer_chosen: Counter[bool] = field(default_factory=Counter)
    labels: Counter[bool] = field(default_factory=Counter)
    row_keys: array[int] = field(default_factory=lambda: array("Q"))
    prompt_keys: array[int] = field(default_factory=lambda: array("Q"))
    samples: list[tuple[str, Content]] = field(default_factory=list)

    def report(self) -> dict[str, Any]:
        """Everything but the samples as plain values; quantiles of lengths, and how many rows repeat an earlier one."""
        out: dict[str, Any] = {"layout": ", ".join(self.layouts), "rows": self.rows, "kinds": dict(self.kinds.most_common()),
                               "rejected": sum(count for count, _ in self.rejected.values()),
                               "reasons": {reason: {"rows": count, "first": first} for reason, (count, first) in
                                           sorted(self.rejected.items(), key=lambda item: -item[1][0])}}
        if self.roles:
            out["turns"] = dict(self.roles.most_common())
        out["characters"] = {part: _quantiles(values) for part, values in self.lengths.items()}
        if decided := sum(self.longer_chosen.values()):
            out["chosen_is_longer_frac"] = self.longer_chosen[True] / decided
        if rated := sum(self.labels.values()):
            out["labels_true_frac"] = self.labels[True] / rated
        out["duplicates"] = {"rows": _repeats(self.row_keys)} | ({"prompts": _repeats(self.prompt_keys)} if self.prompt_keys else {})
        return out


    def fault(self, max_rejected_frac: float) -> DataError | None:
        """What keeps the files from being used, None if nothing does: no row, or more than this share rejected."""
        num_rejected = sum(count for count, _ in self.rejected.values())
        total = self.rows + num_rejected
        if not total:
            return DataError("no row in the files", hint="they hold blank lines only")
        if self.rows and not num_rejected > max_rejected_frac * total:
            return None
        reason, (count, first) = max(self.rejected.items(), key=lambda item: item[1][0])
        return too_many_rejected(first, reason, count, num_rejected, total,
                                 hint=f"mend them, map the columns (--column), or raise --max-rejected-frac (now {max_rejected_frac})")


def check(files: Files, goal: Goal | None, options: ReadOptions) -> Checked:
    """Read all of the files and say what is there. Raises: DataError when a file cannot be read or its layout not be told."""
    found = Checked()
    for layout, path, line, item in contents(files, goal, options, fullest=True):
        found.layouts[layout] += 1
        if isinstance(item, Rejected):
            count, first = found.rejected.get(item.reason, (0, f"{path}:{line}"))
            found.rejected[item.reason] = count + 1, first
            continue
        _count(found, item)
        if len(found.samples) < NUM_SAMPLES:
            found.samples.append((f"{path}:{line}", item))
        if found.rows == options.get("limit"):
            break
    return found


def _count(found: Checked, content: Content) -> None:
    found.rows += 1
    found.kinds[content.value.kind if content.kind == "judgement" else content.kind] += 1
    prompt, parts = _parts(content)
    for name, part in parts:
        length = len(part) if isinstance(part, str) else sum(len(m.content) for m in part)
        found.lengths.setdefault(name, array("Q")).append(length)
    if prompt is not None:
        found.prompt_keys.append(_key(split_key(prompt)))
        if not isinstance(prompt, str):
            found.roles.update(m.role for m in prompt)
    if content.kind == "judgement":
        found.labels.update([content.value.label] if content.value.label is not None else [])
        found.longer_chosen.update(len(pair.chosen) > len(pair.rejected) for pair in content.value.comparisons()
                                   if len(pair.chosen) != len(pair.rejected))
    found.row_keys.append(_key(repr(content.value)))


def _parts(content: Content) -> tuple[Prompt | None, list[tuple[str, Prompt]]]:
    """(prompt, (name, text or messages) of each part whose length is told)."""
    value = content.value
    if content.kind == "text":
        return None, [("text", value)]
    if content.kind == "prompt":
        return value, [("prompt", value)]
    answers = [response.text for response in value.responses] if content.kind == "judgement" else [value.response]
    return value.prompt, [("prompt", value.prompt), *(("answer", answer) for answer in answers)]


def rendered(found: Checked, model: Path | None) -> Iterator[dict[str, Any]]:
    """Where each sample stands, and its text as a model reads it, with what is trained between marks.

    model: whose tokenizer and chat template; None takes this project's own template over bytes. Raises: ArtifactError for a bad folder.
    """
    from tempfile import TemporaryDirectory

    from tutelage.text.tokenizer import MIN_VOCAB_SIZE, open_tokenizer, train_tokenizer

    with TemporaryDirectory() as folder:
        tokenizer = open_tokenizer(model or train_tokenizer(["a"], vocab_size=MIN_VOCAB_SIZE, out_dir=Path(folder)))
        for where, content in found.samples:
            yield {"at": where, "texts": _texts(tokenizer, content), "verdict": _verdict(content)}


def _texts(tokenizer: Any, content: Content) -> list[str]:
    size = sum(len(part) if isinstance(part, str) else sum(len(m.content) for m in part) for _, part in _parts(content)[1])
    if size > _MOST_RENDERED:
        return [f"too long to be shown: {size:,} characters"]
    try:
        return list(_marked(tokenizer, content))
    except DataError as error:
        return [f"cannot be trained on: {error}"]


def _verdict(content: Content) -> str | None:
    """What was said of the answers, in one line."""
    if content.kind != "judgement":
        return None
    judgement = content.value
    if judgement.ranks is not None:
        return "ranks " + ", ".join(map(str, judgement.ranks)) + " (0 is best)"
    name = judgement.kind
    return f"{name}: {getattr(judgement, name)}"


def _marked(tokenizer: Any, content: Content) -> Iterator[str]:
    from tutelage.text.chat import Encoded, encode_document, encode_example, encode_prompt, marked_text

    value = content.value
    if content.kind == "prompt":
        tokens = encode_prompt(tokenizer, value)
        yield marked_text(tokenizer, Encoded(tokens, [False] * len(tokens)))
    elif content.kind == "text":
        tokens = encode_document(tokenizer, value)
        yield marked_text(tokenizer, Encoded(tokens, [True] * len(tokens)))
    elif content.kind == "judgement":
        for response in value.responses:
            yield marked_text(tokenizer, encode_example(tokenizer, value.prompt, response.text))
    else:
        yield marked_text(tokenizer, encode_example(tokenizer, value.prompt, value.response))


def _quantiles(values: array[int]) -> dict[str, int]:
    numbers = np.quantile(np.frombuffer(values, dtype=np.uint64), [0, 0.5, 0.95, 1], method="lower")
    return dict(zip(("min", "median", "p95", "max"), map(int, numbers), strict=True))


def _repeats(keys: array[int]) -> int:
    return len(keys) - len(np.unique(np.frombuffer(keys, dtype=np.uint64)))


def _key(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
