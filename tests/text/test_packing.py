"""Packing loses nothing and wastes little."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.text.packing import pack_texts, plan

CAPACITY = 20
lengths_of = st.lists(st.integers(0, CAPACITY), max_size=60)


@given(lengths_of)
def test_every_index_once_and_no_bin_over_capacity(lengths):
    bins = plan(lengths, CAPACITY)
    assert sorted(i for b in bins for i in b) == list(range(len(lengths)))
    assert all(b and sum(lengths[i] for i in b) <= CAPACITY for b in bins)


@given(st.lists(st.integers(1, CAPACITY), max_size=60))
def test_no_two_bins_could_be_one(lengths):
    loads = sorted(sum(lengths[i] for i in b) for b in plan(lengths, CAPACITY))
    assert len(loads) < 2 or loads[0] + loads[1] > CAPACITY


def fewest_bins(lengths: list[int], capacity: int) -> int:
    """The optimum by trying every assignment, bins in order of first use."""
    best = len(lengths)

    def place(rest: list[int], loads: list[int]) -> None:
        nonlocal best
        if len(loads) >= best:
            return
        if not rest:
            best = len(loads)
            return
        for k in range(len(loads)):
            if loads[k] + rest[0] <= capacity:
                place(rest[1:], [*loads[:k], loads[k] + rest[0], *loads[k + 1:]])
        place(rest[1:], [*loads, rest[0]])

    place(sorted(lengths, reverse=True), [])
    return best


@given(st.lists(st.integers(1, CAPACITY), min_size=1, max_size=8))
def test_bins_are_within_johnson_s_bound_of_the_optimum(lengths):
    assert len(plan(lengths, CAPACITY)) <= 11 / 9 * fewest_bins(lengths, CAPACITY) + 6 / 9


def test_long_texts_are_placed_first():
    assert len(plan([6] * 6 + [14] * 6, CAPACITY)) == 6             # in the given order the short ones would fill two bins alone


def test_a_hundred_thousand_texts_are_planned_in_seconds_at_two_percent_waste():
    lengths = np.random.default_rng(0).integers(10, 500, 100_000).tolist()
    began = time.process_time()
    bins = plan(lengths, 1024)
    assert time.process_time() - began < 5 and sum(lengths) / (len(bins) * 1024) > 0.98


def test_what_cannot_fit_is_refused():
    with pytest.raises(ValueError, match="length 9 exceeds the capacity of 8"):
        plan([3, 9], 8)


@given(st.lists(st.lists(st.integers(1, 999), max_size=40), max_size=12), st.integers(2, 16))
def test_rows_hold_every_prediction_of_every_text_once_and_no_other(texts, context):
    def predictions(tokens):
        return [(*tokens[max(0, i - 1):i], t) for i, t in enumerate(tokens) if i]

    found, lone = [], 0
    for row in pack_texts(texts, context, pad_token_id=0):
        assert [len(x) for x in row] == [context] * 3
        assert not row.tokens[row.segment_ids == 0].any()
        for segment in range(1, row.segment_ids.max() + 1):
            where = np.flatnonzero(row.segment_ids == segment)
            assert where.tolist() == list(range(where[0], where[-1] + 1))
            assert row.position_ids[where].tolist() == list(range(len(where)))
            found += predictions(row.tokens[where].tolist())
            lone += len(where) == 1
    assert sorted(found) == sorted(p for text in texts for p in predictions(text))
    assert lone == sum(len(text) == 1 for text in texts)
