"""The exact answer itself: by hand, by perturbation, by a general-purpose optimiser."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from scipy.stats import entropy

from tutelage.proofs.solver import gibbs, kl_divergence, scale_to_kl, total_variation

RNG = np.random.default_rng(0)


def objective(probs, ref_logprobs, rewards, beta):
    """E[r] - beta KL(pi || pi_ref), KL by scipy."""
    return probs @ rewards - beta * entropy(probs, np.exp(ref_logprobs))


def random_case(size=85):
    return log_softmax(RNG.normal(size=size)), RNG.normal(size=size)


def test_gibbs_matches_two_responses_by_hand():
    # 3/4 e^(1/2 ln 3 / 1/2) = 9/4 against 1/4: probabilities 9/10 and 1/10.
    assert_allclose(gibbs(np.log([0.75, 0.25]), np.array([math.log(3) / 2, 0.0]), 0.5), [0.9, 0.1], rtol=1e-14)


def test_equal_rewards_leave_the_reference_as_it_is():
    ref_logprobs, _ = random_case()
    assert_allclose(gibbs(ref_logprobs, np.full(85, 1e4), 0.1), np.exp(ref_logprobs), rtol=1e-9)


@pytest.mark.parametrize("beta", [0.1, 0.5, 1.0])
def test_no_perturbation_of_the_optimum_is_better(beta):
    ref_logprobs, rewards = random_case()
    best = gibbs(ref_logprobs, rewards, beta)
    top = objective(best, ref_logprobs, rewards, beta)
    for size in (1e-3, 1e-1, 1.0):
        for _ in range(100):
            other = softmax(np.log(best) + size * RNG.normal(size=best.size))
            assert objective(other, ref_logprobs, rewards, beta) < top


@pytest.mark.parametrize("beta", [0.1, 0.5, 1.0])
def test_scipy_climbs_to_the_same_point(beta):
    ref_logprobs, rewards = random_case(12)

    def loss(logits):
        probs = softmax(logits)
        gain = rewards - beta * (np.log(probs) - ref_logprobs)                   # dJ/dp up to a constant
        return -objective(probs, ref_logprobs, rewards, beta), -probs * (gain - probs @ gain)

    found = minimize(loss, np.zeros(12), jac=True, method="BFGS", options={"gtol": 1e-10, "maxiter": 10_000})
    assert_allclose(softmax(found.x), gibbs(ref_logprobs, rewards, beta), atol=1e-6)


def test_total_variation_is_the_largest_gap_over_all_sets():
    p, q = softmax(RNG.normal(size=8)), softmax(RNG.normal(size=8))
    sets = np.array([[bool(bits >> i & 1) for i in range(8)] for bits in range(256)])
    assert_allclose(total_variation(p, q), np.abs(sets @ (p - q)).max(), rtol=1e-12)


def test_kl_divergence_equals_scipy_and_skips_zeros():
    p, q = np.array([0.5, 0.5, 0.0]), np.array([0.2, 0.3, 0.5])
    assert_allclose(kl_divergence(p, q), entropy(p, q), rtol=1e-14)


@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_scaled_rewards_put_the_optimum_at_the_asked_distance(beta):
    ref_logprobs, rewards = random_case()
    scale = scale_to_kl(ref_logprobs, rewards, beta, max_kl=0.5)
    optimum = softmax(ref_logprobs + scale * rewards / beta)
    assert 0 < scale < 1
    assert_allclose(entropy(optimum, np.exp(ref_logprobs)), 0.5, rtol=1e-9)


def test_rewards_whose_optimum_is_near_stay_unscaled():
    ref_logprobs, rewards = random_case()
    assert scale_to_kl(ref_logprobs, rewards, 5.0, max_kl=1.0) == 1.0
