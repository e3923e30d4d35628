"""Masked operations against numpy on the selected entries."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from tutelage.algos.masked import check_same_shape, is_last, masked_mean, masked_sum, masked_var, token_mean

NAN = float("nan")
masks = st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=4).map(lambda rows: torch.tensor(rows))


def some(mask: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """Random float64 of the mask's shape with nan wherever the mask is False."""
    x = torch.randn(mask.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.where(mask, x, NAN)


@given(masks)
@settings(max_examples=30)
def test_sum_mean_and_variance_equal_numpy_on_the_selection(mask):
    x = some(mask)
    picked = x.numpy()[mask.numpy()]
    assert_close(masked_sum(x, mask).item(), picked.sum(), rtol=0, atol=1e-12)
    if picked.size:
        assert_close(masked_mean(x, mask).item(), picked.mean(), rtol=0, atol=1e-12)
        assert_close(masked_var(x, mask).item(), picked.var(ddof=0), rtol=0, atol=1e-12)
    for b, row in enumerate(mask.numpy()):
        if row.any():
            values = x[b].numpy()[row]
            assert_close(masked_mean(x, mask, dim=1)[b].item(), values.mean(), rtol=0, atol=1e-12)
            assert_close(masked_var(x, mask, dim=1)[b].item(), values.var(ddof=0), rtol=0, atol=1e-12)


def test_nan_off_the_mask_reaches_neither_value_nor_gradient():
    mask = torch.tensor([[True, False, True, True]])
    for function, expected in [(masked_sum, [1.0, 0, 1, 1]), (masked_mean, [1 / 3, 0, 1 / 3, 1 / 3])]:
        x = torch.tensor([[1.0, NAN, 2.0, 6.0]], dtype=torch.float64, requires_grad=True)
        function(x, mask).backward()
        assert_close(x.grad, torch.tensor([expected], dtype=torch.float64), rtol=0, atol=1e-12)
    x = torch.tensor([[1.0, NAN, 2.0, 6.0]], dtype=torch.float64, requires_grad=True)
    masked_var(x, mask).backward()
    assert_close(x.grad, 2 / 3 * torch.tensor([[-2.0, 0, -1, 3]], dtype=torch.float64), rtol=0, atol=1e-12)     # 2 (x - mean) / n


def test_an_empty_mask_has_sum_mean_and_variance_zero():
    x, mask = torch.full((2, 3), NAN), torch.zeros(2, 3, dtype=torch.bool)
    for function in (masked_sum, masked_mean, masked_var):
        assert function(x, mask).item() == 0.0
        assert function(x, mask, dim=1).tolist() == [0.0, 0.0]


def test_token_means_of_parts_with_the_whole_count_add_up_to_the_mean_of_the_whole():
    mask = torch.tensor([[True] * 6, [True, True] + [False] * 4, [False] * 6])
    x = some(mask)
    parts = [token_mean(x[b : b + 1], mask[b : b + 1], num_tokens=8) for b in range(3)]
    assert_close(sum(parts).item(), np.nanmean(x.numpy()), rtol=0, atol=1e-12)
    assert_close(token_mean(x, mask).item(), np.nanmean(x.numpy()), rtol=0, atol=1e-12)


@given(masks)
@settings(max_examples=30)
def test_is_last_marks_the_last_true_of_each_row_and_nothing_else(mask):
    expected = torch.zeros_like(mask)
    for b, row in enumerate(mask.tolist()):
        if any(row):
            expected[b, max(t for t, kept in enumerate(row) if kept)] = True
    assert torch.equal(is_last(mask), expected)


def test_unequal_shapes_are_refused_by_name():
    with pytest.raises(ValueError, match=r"rewards \(2, 3\), values \(2, 4\)"):
        check_same_shape(rewards=torch.zeros(2, 3), values=torch.zeros(2, 4))
    with pytest.raises(ValueError, match="unequal shapes"):
        masked_sum(torch.zeros(2, 3), torch.ones(2, 1, dtype=torch.bool))      # would broadcast silently otherwise
