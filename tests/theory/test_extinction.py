"""Growth of a weak signal at finite width, against closed forms and sums of draws."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import digamma

from mflib.theory import _extinction, levy, stable

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


@pytest.mark.parametrize("alpha", [1.0, 1.4, 2.0])
def test_signals_die_out_below_the_line_and_not_above(alpha):
    rng, width, layers = np.random.default_rng(RNG), 60, 250
    line = float(levy.finite_width_gain(alpha, width))
    log_q = {}
    for factor in (0.8, 1.25):
        q = np.full(20, 1e-6)
        for _ in range(layers):
            z = np.abs(stable.sample(alpha, (20, width), rng=rng))
            x = np.tanh((q[:, None] / 2) ** (1 / alpha) * z)
            q = np.maximum((factor * line) ** alpha * np.mean(x**alpha, axis=1), 1e-280)
        log_q[factor] = np.log(q)
    # far below 1 the walk has the drift ±α log 1.25 a layer and a spread of about √layers
    assert np.median(log_q[0.8]) < np.log(1e-6) - 0.15 * alpha * layers / 2
    assert np.median(log_q[1.25]) > np.log(1e-3)


def test_the_line_scales_with_the_slope_at_0():
    at_tanh = levy.finite_width_gain([1.2, 2.0], 300)
    erf = levy.finite_width_gain([1.2, 2.0], 300, activation="erf")
    np.testing.assert_allclose(erf / at_tanh, np.sqrt(np.pi) / 2, rtol=1e-12)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"alpha": 0.4, "width": 10}, r"alpha = 0\.4 is out of range"),
        ({"alpha": 1.5, "width": 0}, r"width = 0 is out of range"),
        ({"alpha": 1.5, "width": 2.5}, r"width = 2\.5 must be a whole number"),
        ({"alpha": 1.5, "width": 10, "activation": "sigmoid"}, r"take an activation with"),
        ({"alpha": 1.5, "width": 10, "activation": "relu"}, r"take an activation with"),
    ],
)
def test_what_has_no_such_line_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        levy.finite_width_gain(**values)


@pytest.mark.parametrize("D_b", [0.0, 0.3])
def test_the_gain_of_a_length_has_that_length(D_b):
    alpha, log_q = np.array([[1.0], [1.5], [1.9]]), np.log([0.5, 2.0])
    gain = levy.gain_of("tanh", alpha, log_q, D_b)
    found = levy.fixed_point("tanh", alpha, gain**alpha, D_b).log_q
    np.testing.assert_allclose(found, np.broadcast_to(log_q, found.shape), atol=1e-8)


def test_the_gain_of_a_length_below_the_floats_is_found():
    gain = levy.gain_of("tanh", 1.9, -6000.0)
    assert float(levy.fixed_point("tanh", 1.9, gain**1.9).log_q) == pytest.approx(-6000, rel=1e-9)


def test_no_gain_has_a_length_below_that_of_its_biases():
    with pytest.raises(ValueError, match="at least D_b"):
        levy.gain_of("tanh", 1.5, np.log(0.1), 0.2)
    with pytest.raises(ValueError, match="must be finite"):
        levy.gain_of("tanh", 1.5, -np.inf)
