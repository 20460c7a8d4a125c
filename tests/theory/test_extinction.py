"""Growth of a weak signal at finite width, against closed forms and sums of draws."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import digamma

from mflib.theory import _extinction, stable

RNG = 20_220_324


@pytest.mark.parametrize("width", [1, 2, 10, 784, 10**6])
def test_gaussian_growth_is_that_of_a_chi_square(width):
    expected = digamma(width / 2) - np.log(width / 2)
    assert _extinction.mean_log_growth(2.0, width) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("alpha", [0.6, 1.0, 1.3, 1.9, 1.999])
def test_one_neuron_has_the_logarithmic_moment_of_the_law(alpha):
    # E log|Z| = γ(1/α − 1) for a symmetric stable law (Zolotarev 1986, §3.6)
    expected = alpha * np.euler_gamma * (1 / alpha - 1) - np.log(2)
    assert _extinction.mean_log_growth(alpha, 1) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("alpha", [1.0, 1.5, 1.9])
@pytest.mark.parametrize("width", [5, 200])
def test_growth_is_the_mean_of_sums_of_draws(alpha, width):
    rng = np.random.default_rng(RNG)
    z = np.abs(stable.sample(alpha, (400_000 // width, width), rng=rng)) ** alpha
    logs = np.log(z.sum(axis=1) / (2 * width))
    error = logs.std() / len(logs) ** 0.5
    assert _extinction.mean_log_growth(alpha, width) == pytest.approx(logs.mean(), abs=4 * error)


def test_quadrature_has_converged(monkeypatch):
    points = [(a, n) for a in (1.0, 1.4, 1.9) for n in (3, 1000)]
    coarse = [_extinction.mean_log_growth(*point) for point in points]
    monkeypatch.setattr(_extinction, "_STEP", 0.025)
    fine = [_extinction.mean_log_growth(*point) for point in points]
    np.testing.assert_allclose(coarse, fine, rtol=0, atol=1e-10)


@pytest.mark.parametrize("alpha", [1.0, 1.5])
def test_heavy_tails_grow_with_the_logarithm_of_the_width(alpha):
    # T ≈ (c_α/α) log N: each factor e of width adds the same, up to corrections in 1/log N
    widths = [10**4, 10**6, 10**8]
    growth = np.exp([_extinction.mean_log_growth(alpha, n) for n in widths])
    slopes = np.diff(growth) / np.diff(np.log(widths))
    expected = stable.tail_constant(alpha) / alpha
    away = np.abs(slopes / expected - 1)
    assert away[1] < away[0] < 0.15
