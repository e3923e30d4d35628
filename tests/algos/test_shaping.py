"""Running moments, reward normalisation and the price of not stopping."""

import pytest
import torch
from torch.testing import assert_close

from tutelage.algos.shaping import RunningMoments, gain_and_shift, missing_eos_penalty, missing_eos_score, normalize_scores

SCORES = 3.0 + 2.0 * torch.randn(50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def moments_of(*parts: torch.Tensor) -> RunningMoments:
    moments = RunningMoments()
    for part in parts:
        moments = moments.update(part)
    return moments


@pytest.mark.parametrize("sizes", [[50], [1] * 50, [7, 20, 23], [0, 49, 1]])
def test_running_moments_equal_those_of_everything_at_once(sizes):
    moments = moments_of(*SCORES.split(sizes))
    assert moments.count == 50
    assert_close([moments.mean, moments.std], [SCORES.numpy().mean(), SCORES.numpy().std()], rtol=0, atol=1e-12)


def test_running_moments_survive_an_offset_that_ruins_sums_of_squares():
    moments = moments_of(*(SCORES + 1e8).split(10))
    assert_close(moments.std, SCORES.numpy().std(), rtol=0, atol=1e-6)


def test_update_returns_a_new_state_and_leaves_the_old_one():
    before = moments_of(SCORES[:10])
    before.update(SCORES[10:])
    assert before == moments_of(SCORES[:10])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_score_that_is_not_finite_is_refused_before_it_enters_the_mean(bad):
    with pytest.raises(ValueError, match="1 of 3 scores are not finite"):
        RunningMoments().update(torch.tensor([1.0, bad, 2.0]))


def test_normalized_scores_are_z_scores_kept_within_the_clip():
    z = (SCORES.numpy() - SCORES.numpy().mean()) / SCORES.numpy().std()
    moments = moments_of(SCORES)
    assert_close(normalize_scores(SCORES, moments).numpy(), z, rtol=0, atol=1e-12)
    assert_close(normalize_scores(SCORES, moments, clip=0.8).numpy(), z.clip(-0.8, 0.8), rtol=0, atol=1e-12)


def test_scores_without_spread_become_zero_not_nan():
    same = torch.full((4,), 2.5)
    assert normalize_scores(same, moments_of(same)).tolist() == [0.0] * 4


def test_fact_09_gain_and_shift_give_the_scores_the_wanted_mean_and_std():
    for mean, std in [(0.0, 1.0), (-2.0, 3.0)]:
        gain, shift = gain_and_shift(SCORES, mean=mean, std=std)
        rescaled = gain * SCORES.numpy() + shift
        assert_close([rescaled.mean(), rescaled.std()], [mean, std], rtol=0, atol=1e-12)
        assert gain > 0                                             # better stays better
    with pytest.raises(ValueError, match="without spread"):
        gain_and_shift(torch.ones(5))


def test_fact_12_a_response_that_does_not_stop_is_punished():
    scores, finished = torch.tensor([2.0, -3.0, 0.5]), torch.tensor([True, False, False])
    assert missing_eos_score(scores, finished, -1.0).tolist() == [2.0, -1.0, -1.0]
    assert missing_eos_penalty(scores, finished, 1.0).tolist() == [2.0, -4.0, -0.5]
    assert missing_eos_score(torch.tensor([float("nan")]), torch.tensor([False])).tolist() == [-1.0]
    with pytest.raises(ValueError, match="would reward responses that do not end"):
        missing_eos_penalty(scores, finished, -1.0)
