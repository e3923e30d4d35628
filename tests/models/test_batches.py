import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.models.tiny import PAD
from tutelage.models.batches import PackedBatch, TokenBatch, pad_tokens
from tutelage.text.packing import pack_texts

ROWS = st.lists(st.lists(st.tuples(st.integers(0, 60), st.booleans()), min_size=1, max_size=9), min_size=1, max_size=6)


@given(ROWS)
def test_padding_keeps_every_row_and_masks_what_is_not_there(rows):
    batch = pad_tokens([([t for t, _ in row], [m for _, m in row]) for row in rows], PAD)
    assert batch.tokens.shape == batch.attention_mask.shape == batch.response_mask.shape == (len(rows), max(map(len, rows)))
    for i, row in enumerate(rows):
        assert batch.attention_mask[i].tolist() == [True] * len(row) + [False] * (batch.tokens.shape[1] - len(row))
        assert batch.tokens[i][batch.attention_mask[i]].tolist() == [t for t, _ in row]
        assert batch.response_mask[i][: len(row)].tolist() == [m for _, m in row] and not batch.response_mask[i][len(row) :].any()
        assert (batch.tokens[i][len(row) :] == PAD).all()


@given(ROWS, st.integers(1, 7))
def test_micro_batches_together_are_the_batch(rows, size):
    batch = pad_tokens([([t for t, _ in row], [m for _, m in row]) for row in rows], PAD)
    pieces = list(batch.micro(size))
    assert all(len(piece) <= size and isinstance(piece, TokenBatch) for piece in pieces) and len(pieces) == -(-len(rows) // size)
    for name in ("tokens", "attention_mask", "response_mask"):
        assert torch.equal(torch.cat([getattr(piece, name) for piece in pieces]), getattr(batch, name))
    (whole,) = batch.micro(None)
    assert torch.equal(whole.tokens, batch.tokens)


@given(st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=20), min_size=1, max_size=8), st.integers(2, 12))
def test_every_token_but_a_texts_first_is_trained_exactly_once(texts, width):
    batch = PackedBatch.stack(pack_texts(texts, width, pad_token_id=PAD))
    assert int(batch.trained_mask.sum()) == sum(len(text) - 1 for text in texts)
    assert not batch.trained_mask[batch.position_ids == 0].any() and not batch.trained_mask[batch.segment_ids == 0].any()


def test_no_rows_make_an_empty_batch():
    batch = PackedBatch.stack([])
    assert len(batch) == 0 and int(batch.trained_mask.sum()) == 0


def test_rows_are_selected_by_slice_list_or_tensor():
    batch = pad_tokens([([i, i + 1], [False, True]) for i in range(5)], PAD)
    for rows in (slice(1, 3), [1, 2], torch.tensor([1, 2])):
        assert batch.select(rows).tokens[:, 0].tolist() == [1, 2]
    with pytest.raises(IndexError):
        batch.select([9])
