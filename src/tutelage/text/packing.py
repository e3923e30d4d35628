"""Several short texts in one row of tokens, none of them dropped and none seeing another."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class PackedRow(NamedTuple):
    """One row of `context_tokens` tokens, (T,) int64 each."""

    tokens: NDArray[np.int64]
    segment_ids: NDArray[np.int64]
    """1, 2, … for the texts of the row, 0 for padding. A token may attend to its own segment only."""
    position_ids: NDArray[np.int64]
    """Restart at 0 with each segment."""


def plan(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Bins of indices whose lengths sum to at most `capacity`: best fit, longest first.

    At most 11/9 of the optimum plus one bin (Johnson 1974), and no two bins could be merged. Deterministic; O(n log n) but for the
    upkeep of the sorted list of open bins.
    Raises: ValueError when a length exceeds the capacity: the caller cuts or reports it.
    """
    longest = max(lengths, default=0)
    if longest > capacity:
        raise ValueError(f"length {longest} exceeds the capacity of {capacity}")
    bins: list[list[int]] = []
    open_bins: list[tuple[int, int]] = []                           # (space left, bin), sorted
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        length = lengths[index]
        at = bisect_left(open_bins, (length, -1))
        if at < len(open_bins):
            space, number = open_bins.pop(at)
        else:
            space, number = capacity, len(bins)
            bins.append([])
        bins[number].append(index)
        insort(open_bins, (space - length, number))
    return bins


def pack_texts(token_lists: Sequence[Sequence[int]], context_tokens: int, *, pad_token_id: int) -> Iterator[PackedRow]:
    """Rows of isolated texts. A text longer than the context is cut into pieces that overlap by one token.

    The overlap makes every token but a text's first the target of exactly one prediction, as if the text had not been cut; a loss or
    bits per byte therefore counts each of them once. Texts without tokens are left out.
    """
    if context_tokens < 2:
        raise ValueError(f"context_tokens={context_tokens} leaves nothing to predict; at least 2")
    pieces = [tokens[start:start + context_tokens] for tokens in token_lists
              for start in range(0, max(len(tokens) - 1, min(len(tokens), 1)), context_tokens - 1)]
    for members in plan([len(piece) for piece in pieces], context_tokens):
        row = PackedRow(np.full(context_tokens, pad_token_id, np.int64), np.zeros(context_tokens, np.int64),
                        np.zeros(context_tokens, np.int64))
        at = 0
        for segment, member in enumerate(members, start=1):
            length = len(pieces[member])
            row.tokens[at:at + length] = pieces[member]
            row.segment_ids[at:at + length] = segment
            row.position_ids[at:at + length] = np.arange(length)
            at += length
        yield row
