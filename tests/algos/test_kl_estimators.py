"""KL estimators on categorical distributions, where every expectation is a finite sum."""

import numpy as np
import pytest
import scipy.stats
import torch
from torch.testing import assert_close

from tutelage.algos.kl import adaptive_kl_coef, k1, k2, k3

generator = torch.Generator().manual_seed(0)
LOGITS = torch.randn(6, dtype=torch.float64, generator=generator)
REF_LOGPROBS = torch.randn(6, dtype=torch.float64, generator=generator).log_softmax(-1)
P, REF = LOGITS.softmax(-1), REF_LOGPROBS.exp()
KL, REVERSE_KL = scipy.stats.entropy(P, REF), scipy.stats.entropy(REF, P)


def gradient(function) -> torch.Tensor:
    logits = LOGITS.clone().requires_grad_()
    return torch.autograd.grad(function(logits.log_softmax(-1)), logits, allow_unused=True)[0]


TRUE_GRADIENT = gradient(lambda logp: (logp.exp() * (logp - REF_LOGPROBS)).sum())


def expected_loss(estimator):
    """Mean of the estimator over samples of the policy: the samples' weights P carry no gradient, as in a batch."""
    return lambda logp: (P * estimator(logp, REF_LOGPROBS)).sum()


def test_fact_31_k1_and_k3_are_unbiased_by_enumeration():
    for estimator in (k1, k3):
        assert_close((P * estimator(P.log(), REF_LOGPROBS)).sum().item(), KL, rtol=0, atol=1e-12)


def test_fact_31_k2_is_biased_and_right_to_second_order_near_the_reference():
    assert abs((P * k2(P.log(), REF_LOGPROBS)).sum().item() - KL) > 0.01
    near = (REF_LOGPROBS + 1e-3 * LOGITS).log_softmax(-1)
    true = scipy.stats.entropy(near.exp(), REF)
    assert_close((near.exp() * k2(near, REF_LOGPROBS)).sum().item(), true, rtol=1e-2, atol=0)


def test_fact_31_k1_can_be_negative_k2_and_k3_never():
    assert (k1(P.log(), REF_LOGPROBS) < 0).any()
    for estimator in (k2, k3):
        assert (estimator(P.log(), REF_LOGPROBS) > 0).all()
        assert estimator(REF_LOGPROBS, REF_LOGPROBS).tolist() == [0.0] * 6


def test_fact_31_as_a_loss_only_k2_has_the_gradient_of_the_kl():
    assert_close(gradient(expected_loss(k2)), TRUE_GRADIENT, rtol=0, atol=1e-12)
    assert_close(gradient(expected_loss(k1)), torch.zeros(6, dtype=torch.float64), rtol=0, atol=1e-12)
    other_kl = gradient(lambda logp: (REF * (REF_LOGPROBS - logp)).sum())
    assert_close(gradient(expected_loss(k3)), other_kl, rtol=0, atol=1e-12)
    assert (TRUE_GRADIENT - other_kl).abs().max() > 0.05


def test_fact_31_k1_in_the_reward_has_the_gradient_of_the_kl():
    # Policy gradient: E[k1 * grad log p], k1 held constant.
    scored = gradient(lambda logp: (P * k1(P.log(), REF_LOGPROBS) * logp).sum())
    assert_close(scored, TRUE_GRADIENT, rtol=0, atol=1e-12)


def test_estimators_equal_their_formulas_in_numpy():
    d = np.linspace(-3, 3, 13)
    a, b = torch.tensor(d) + 1.5, torch.full((13,), 1.5, dtype=torch.float64)
    for estimator, expected in [(k1, d), (k2, d**2 / 2), (k3, np.exp(-d) - 1 + d)]:
        assert_close(estimator(a, b).numpy(), expected, rtol=0, atol=1e-12)


def test_k3_keeps_its_digits_near_zero():
    d = torch.tensor([1e-7], dtype=torch.float64)
    assert_close(k3(d, torch.zeros(1).double()).item(), 1e-14 / 2, rtol=1e-6, atol=0)    # d^2/2; exp(-d) - 1 + d is 2% off here


@pytest.mark.parametrize("kl, expected", [
    (6.6, 0.15 * (1 + 0.1 * 64 / 10_000)),        # 10% over the target
    (5.4, 0.15 * (1 - 0.1 * 64 / 10_000)),
    (60.0, 0.15 * (1 + 0.2 * 64 / 10_000)),       # the error is cut at 20%
    (0.0, 0.15 * (1 - 0.2 * 64 / 10_000)),
    (6.0, 0.15),
])
def test_fact_02_the_adaptive_coefficient_follows_ziegler(kl, expected):
    assert_close(adaptive_kl_coef(0.15, kl, target=6.0, horizon=10_000, num_episodes=64), expected, rtol=0, atol=1e-15)


def test_fact_02_the_adaptive_coefficient_settles_where_the_kl_meets_its_target():
    # A plant whose KL falls as 1 / kl_coef: the controller must end at kl_coef = 0.5, where KL = 1 / 0.5 = 2 = target.
    kl_coef = 0.01
    for _ in range(4000):
        kl_coef = adaptive_kl_coef(kl_coef, 1 / kl_coef, target=2.0, horizon=10_000, num_episodes=256)
    assert_close(kl_coef, 0.5, rtol=1e-6, atol=0)
