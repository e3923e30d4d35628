"""The same quantities from TRL, written by other people."""

import torch
from torch.testing import assert_close
from trl.trainer import utils as trl_utils

from tutelage.algos.advantages import group_normalized
from tutelage.algos.logprobs import entropy_from_logits, gather_logprobs

LOGITS = torch.randn(3, 6, 13, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
TOKENS = torch.randint(0, 13, (3, 6), generator=torch.Generator().manual_seed(1))


def test_logprobs_equal_trl():
    expected = trl_utils.selective_log_softmax(LOGITS[:, :-1], TOKENS[:, 1:], temperature=0.7)
    assert_close(gather_logprobs(LOGITS, TOKENS, temperature=0.7)[:, 1:], expected, rtol=0, atol=1e-12)


def test_entropy_equals_trl_in_value_and_gradient():
    ours, theirs = LOGITS.clone().requires_grad_(), LOGITS.clone().requires_grad_()
    a, b = entropy_from_logits(ours)[:, 1:], trl_utils.entropy_from_logits(theirs[:, :-1])
    assert_close(a, b, rtol=0, atol=1e-12)
    a.square().sum().backward()
    b.square().sum().backward()
    assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-12)


def test_group_deviation_equals_trl():
    # Groups of 5: TRL forms n / (n - 1) in float32, and 5 / 4 is exact there (4 / 3 is off by 3e-8).
    scores = torch.randn(15, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    deviation = trl_utils.nanstd(scores.view(-1, 5), dim=1).repeat_interleave(5)
    centred = scores - scores.view(-1, 5).mean(1).repeat_interleave(5)
    assert_close(group_normalized(scores, 5, eps=1e-4), centred / (deviation + 1e-4), rtol=0, atol=1e-12)
