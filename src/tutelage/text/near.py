"""Which texts nearly repeat others: MinHash to find candidates, character trigrams to decide. The same answer on every machine.

Source: Broder 1997, "On the resemblance and containment of documents"; bands as in Leskovec, Rajaraman, Ullman, "Mining of Massive
Datasets", section 3.4.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from hashlib import blake2b
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

Shape = tuple[str, str]
"""(the numbers of a text, its words between single spaces)."""
MIN_LIKENESS = 0.8
"""Share of all their trigrams that two texts must have in common to be near duplicates."""
_BANDS, _BAND_HASHES = 12, 3
"""Texts as alike as that share a band with probability 1 - (1 - 0.8**3)**12 = 0.9998."""
_CHUNK = 2048
_MAX_BUCKET, _MAX_COMPARED = 64, 8
"""Candidates kept per band, and compared in full per text: what bounds the work where everything is made from one form."""
_WORDS, _NUMBERS = re.compile(r"[\W_]+"), re.compile(r"\d+")


def near_any(texts: Sequence[str], others: Sequence[str]) -> list[bool]:
    """For each text whether it nearly repeats one of the others.

    Case, punctuation and spacing do not count; texts with different numbers are different, however alike the rest. Time grows with the
    length of both lists: 20 to 55 s for a million texts on one core.
    """
    shapes = [_shape(text) for text in others]
    held = _signatures(shapes)
    buckets: dict[tuple[int, int], list[int]] = defaultdict(list)
    for band, keys in enumerate(_band_keys(held, shapes)):
        for i, key in enumerate(keys.tolist()):
            if len(bucket := buckets[band, key]) < _MAX_BUCKET:
                bucket.append(i)
    known = [np.array(sorted(key for b, key in buckets if b == band), dtype=np.uint64) for band in range(_BANDS)]
    found: list[bool] = []
    for start in range(0, len(texts), _CHUNK):
        chunk = [_shape(text) for text in texts[start:start + _CHUNK]]
        signatures = _signatures(chunk)
        keys_here = _band_keys(signatures, chunk)
        hits = np.stack([np.isin(keys_here[band], known[band]) for band in range(_BANDS)])         # (bands, texts)
        for i, shape in enumerate(chunk):
            at = {other for band in np.flatnonzero(hits[:, i]) for other in buckets[int(band), int(keys_here[band][i])]}
            found.append(_repeated(shape, signatures[i], held, shapes, sorted(at)) is not None)
    return found


def near_earlier(texts: Sequence[str]) -> list[int | None]:
    """For each text the index of an earlier one that it nearly repeats, in the same sense; None where it is new."""
    shapes = [_shape(text) for text in texts]
    held = _signatures(shapes)
    keys = np.stack(_band_keys(held, shapes), axis=1).tolist() if shapes else []                       # (texts, bands)
    buckets: dict[tuple[int, int], list[int]] = defaultdict(list)
    found: list[int | None] = []
    for i, own in enumerate(keys):
        at = {other for band, key in enumerate(own) for other in buckets[band, key]}
        found.append(_repeated(shapes[i], held[i], held, shapes, sorted(at)))
        for band, key in enumerate(own):
            if len(bucket := buckets[band, key]) < _MAX_BUCKET:
                bucket.append(i)
    return found


def _repeated(shape: Shape, signature: NDArray[np.uint32], held: NDArray[np.uint32], shapes: Sequence[Shape],
              candidates: list[int]) -> int | None:
    """The candidate that a text nearly repeats."""
    if not candidates:
        return None
    agreeing = (held[candidates] == signature).sum(axis=1)
    best = np.argsort(-agreeing, kind="stable")[:_MAX_COMPARED]
    numbers, own = shape[0], _trigrams(shape[1])
    for other in (candidates[i] for i in best):
        if shapes[other][0] == numbers:
            theirs = _trigrams(shapes[other][1])
            if len(own & theirs) >= MIN_LIKENESS * len(own | theirs):
                return other
    return None


def _shape(text: str) -> Shape:
    words = _WORDS.sub(" ", text.casefold()).strip()
    return " ".join(_NUMBERS.findall(words)), f" {words or text} "


def _trigrams(shaped: str) -> set[str]:
    return {shaped[i:i + 3] for i in range(max(1, len(shaped) - 2))}


def _signatures(shapes: Sequence[Shape]) -> NDArray[np.uint32]:
    """(texts, hashes) smallest value of each hash function over a text's trigrams."""
    out = np.empty((len(shapes), _BANDS * _BAND_HASHES), dtype=np.uint32)
    for start in range(0, len(shapes), _CHUNK):
        points = [np.frombuffer(words.ljust(3).encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
                  for _, words in shapes[start:start + _CHUNK]]
        trigrams = np.concatenate([p[:-2] << np.uint64(42) | p[1:-1] << np.uint64(21) | p[2:] for p in points])
        trigrams *= np.uint64(0x9E3779B97F4A7C15)
        trigrams ^= trigrams >> np.uint64(29)
        first = np.cumsum([0, *(len(p) - 2 for p in points[:-1])])
        for i in range(out.shape[1]):
            mixed = (trigrams * _odd(i) >> np.uint64(32)).astype(np.uint32)
            out[start:start + len(points), i] = np.minimum.reduceat(mixed, first)
    return out


def _band_keys(signatures: NDArray[np.uint32], shapes: Sequence[Shape]) -> list[NDArray[np.uint64]]:
    """Per band one key for each text, equal where all of the band's hashes and the numbers in the texts are."""
    numbers = np.array([crc32(numbers.encode()) for numbers, _ in shapes], dtype=np.uint64) * _odd(99)
    wide = signatures.astype(np.uint64).reshape(len(signatures), _BANDS, _BAND_HASHES)
    return [sum((wide[:, band, i] * _odd(100 + i) for i in range(_BAND_HASHES)), numbers) for band in range(_BANDS)]


def _odd(i: int) -> np.uint64:
    """A fixed odd multiplier of 64 bits."""
    return np.uint64(int.from_bytes(blake2b(str(i).encode(), digest_size=8).digest(), "big") | 1)
