"""The KL frontier: known forms are recovered, and a peak is called only when it is there."""

import math

import numpy as np
import pytest
from scipy import integrate, optimize, special

from tutelage.base.stats import estimate
from tutelage.evals import frontier


def test_best_of_n_kl_equals_the_integral_over_the_maximum_of_n_uniforms():
    # Best-of-n has density n u^(n-1) in the proposal's quantile u.
    for n in (2, 16, 1000):
        kl, _ = integrate.quad(lambda u, n=n: special.xlogy(n * u ** (n - 1), n * u ** (n - 1)), 0, 1, limit=500)
        assert frontier.bon_kl(n) == pytest.approx(kl, abs=1e-6)
    assert frontier.bon_kl(1) == 0
    assert frontier.bon_kl(1000) == pytest.approx(5.91, abs=0.005) and frontier.bon_kl(60000) == pytest.approx(10.0, abs=0.01)


@pytest.mark.parametrize(("form", "curve"), [("best_of_n", lambda d: d * (0.8 - 0.2 * d)), ("rl", lambda d: d * (0.8 - 0.4 * math.log(d)))])
def test_fit_recovers_a_known_curve_and_its_peak(form, curve):
    d = np.linspace(0.5, 3.5, 12)
    fit = frontier.fit_gao(d, [curve(x) for x in d], form)
    best = optimize.minimize_scalar(lambda x: -curve(x), bounds=(0.1, 20), method="bounded", options={"xatol": 1e-10})
    assert fit.rmse < 1e-12 and fit.alpha == pytest.approx(0.8)
    assert fit.peak_d == pytest.approx(best.x, abs=1e-5) and fit.peak_reward == pytest.approx(-best.fun, abs=1e-9)
    assert not fit.beyond_data
    assert fit([0.0, 2.0]) == pytest.approx([0.0, curve(2.0)])


def test_fit_equals_scipy_curve_fit_on_noise():
    rng = np.random.default_rng(0)
    d = rng.uniform(0.5, 4, 30)
    reward = d * (0.7 - 0.3 * np.log(d)) + rng.normal(0, 0.05, 30)
    expected, _ = optimize.curve_fit(lambda x, a, b: x * (a - b * np.log(x)), d, reward, p0=(1, 1))
    fit = frontier.fit_gao(d, reward, "rl")
    assert (fit.alpha, fit.beta) == pytest.approx(tuple(expected), abs=1e-6)


def test_a_curve_that_only_rises_has_no_peak():
    fit = frontier.fit_gao([1, 2, 3, 4], [1.0, 2.1, 3.3, 4.6], "best_of_n")
    assert fit.beta < 0 and math.isnan(fit.peak_d) and math.isnan(fit.peak_reward)


def test_a_peak_past_the_data_is_called_an_extrapolation():
    d = np.linspace(0.5, 1.5, 6)
    assert frontier.fit_gao(d, d * (1 - 0.1 * d), "best_of_n").beyond_data


def test_points_near_zero_do_not_bend_the_rl_form():
    d = np.array([0.01, 0.05, 0.1, 0.6, 1.0, 1.5, 2.0])
    reward = d * (0.8 - 0.4 * np.log(d))
    reward[:3] = 5.0
    assert frontier.fit_gao(d, reward, "rl").beta == pytest.approx(0.4)


def test_too_few_points_are_not_fitted():
    assert frontier.fit_gao([1.0, 2.0], [1.0, 1.5], "rl") is None
    assert frontier.fit_gao([0.0, 0.0, 0.0, 1.0], [0.0] * 4, "best_of_n") is None


def points(means, half):
    return [estimate(m, m - half, m + half, 100) for m in means]


def test_a_clear_fall_after_the_maximum_is_a_passed_peak():
    peak = frontier.find_peak(points([0.3, 0.6, 0.8, 0.5, 0.4], 0.05))
    assert peak.index == 2 and peak.passed is True and peak.drop["mean"] == pytest.approx(0.4) and peak.drop["low"] > 0


def test_a_dip_that_recovers_or_a_fall_within_its_error_is_not_a_passed_peak():
    assert frontier.find_peak(points([0.3, 0.8, 0.4, 0.79], 0.05)).passed is False
    assert frontier.find_peak(points([0.3, 0.6, 0.58], 0.05)).passed is False
    assert frontier.find_peak(points([0.3, 0.6, 0.9], 0.05)).passed is False


def test_without_intervals_nobody_can_tell():
    assert frontier.find_peak([0.1, 0.9, 0.2]).passed is None
    assert frontier.find_peak([]) is None and frontier.find_peak([math.nan]) is None


def test_a_flat_noisy_run_is_rarely_called_over_optimised():
    rng = np.random.default_rng(1)
    calls = [frontier.find_peak(points(rng.normal(0, 1, 12), 1.96)).passed for _ in range(1000)]
    assert np.mean(calls) < 0.05
