"""Spectra of the Jacobian: algebraic laws, closed moments, limits, sampled matrices, faults."""

from __future__ import annotations

import math
import time

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mpf
from scipy import special

from mflib.theory import activations, isometry, mean_field
from mflib.theory._freeprob import SlopeLaw

from . import reference, tolerances

NAMES = activations.names()
ELU = activations.from_callable(lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), "elu")
SELU = activations.from_callable(
    lambda x: 1.0507 * np.where(x > 0, x, 1.6733 * np.expm1(np.minimum(x, 0))), "selu"
)
BENT = activations.from_callable(lambda x: x / 2 + x * x / 6, "x/2 + x²/6")
SOFTPLUS = activations.from_callable(lambda x: np.logaddexp(0, x), "softplus")
EASED = activations.from_callable(lambda x: x + np.tanh(x) / 2, "x + tanh(x)/2")


def critical_weights(name, q):
    return 1 / float(reference.slope_square(name, mpf(q)))


def total(spectrum):
    return spectrum.continuous_mass + sum(mass for _, mass in spectrum.atoms)


# --- algebraic laws ---


def algebraic_densities(p, sigma_w2, depth, gaussian, lam):
    """Return −Im x/π of all roots for φ′² in {0, 1}: x solves a polynomial (companion matrix).

    M⁻¹(x) = (1 + x)/x (σ_w² (x + p)/(1 + x))^L, times (1 + x)^L for Gaussian weights.
    """
    x = np.polynomial.Polynomial([0, 1])
    rise = (sigma_w2 * (x + p)) ** depth
    equation = rise * (1 + x) - lam * x if gaussian else rise - lam * x * (1 + x) ** (depth - 1)
    return -equation.roots().imag / np.pi


@pytest.mark.parametrize("ensemble", isometry.ENSEMBLES)
@pytest.mark.parametrize(("name", "q"), [("relu", 1.0), ("hard-tanh", 0.7), ("hard-tanh", 4.0)])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_zero_one_slopes_against_the_polynomial(name, q, depth, ensemble):
    if depth == 1 and ensemble == "orthogonal":
        pytest.skip("two atoms and no density")
    p = float(reference.slope_square(name, mpf(q)))
    spectrum = isometry.spectrum(name, 1.7, q, depth, ensemble=ensemble)
    # a root of a polynomial of degree 4 keeps half its digits where two meet, at the edges
    inner = slice(20, -20)
    for lam, density in zip(
        np.exp(spectrum.log_lambda[inner]), spectrum.density[inner], strict=True
    ):
        roots = algebraic_densities(p, 1.7, depth, ensemble == "gaussian", lam)
        # of several pairs of roots one is the law's; the mass, tested below, says which
        if lam > 1e-4:
            assert np.min(np.abs(roots - density)) < 1e-8 * density + 1e-10
    assert abs(total(spectrum) - 1) < tolerances.MASS


def test_one_linear_gaussian_layer_is_marchenko_pastur():
    spectrum = isometry.spectrum("linear", 1.3, 1.0, 1, ensemble="gaussian")
    lam = np.exp(spectrum.log_lambda) / 1.3
    np.testing.assert_allclose(
        spectrum.density, np.sqrt(lam * (4 - lam)) / (2 * np.pi), rtol=1e-10, atol=1e-13
    )
    assert spectrum.log_lambda_max == pytest.approx(np.log(4 * 1.3), abs=1e-14)


@pytest.mark.parametrize("depth", [1, 2, 7, 100])
def test_linear_gaussian_moments_are_fuss_catalan(depth):
    exact = [math.log(math.comb((depth + 1) * k, k)) - math.log(depth * k + 1) for k in range(1, 7)]
    ours = isometry.moments("linear", 1.0, 1.0, depth, ensemble="gaussian", order=6)
    np.testing.assert_allclose(ours, exact, rtol=1e-13)


def test_linear_orthogonal_is_one_atom_and_arcsine_for_two_relus():
    linear = isometry.spectrum("linear", 0.9, 1.0, 50)
    assert linear.atoms == ((pytest.approx(50 * np.log(0.9)), 1.0),)
    assert linear.log_lambda.size == 0
    assert linear.continuous_mass == 0
    two = isometry.spectrum("relu", 2.0, 1.0, 2)
    lam = np.exp(two.log_lambda) / 4
    np.testing.assert_allclose(
        two.density, 0.5 * np.sqrt(lam / (1 - lam)) / np.pi, rtol=1e-8, atol=1e-16
    )


def test_one_smooth_orthogonal_layer_is_the_law_of_the_slope():
    """P(sech⁴ h ≤ s) in closed form."""
    spectrum = isometry.spectrum("tanh", 2.0, 0.6, 1)
    log_s = np.linspace(-4, -0.01, 30)
    h = np.arccosh(np.exp(-log_s / 4))
    exact = [math.erfc(v / math.sqrt(1.2)) for v in h]
    np.testing.assert_allclose(spectrum.cdf(log_s + np.log(2.0)), exact, rtol=1e-11)


def test_the_transform_against_thirty_digits():
    """x(w) beside its pole: mpmath's adaptive quadrature with the pole's place as a break."""
    law = SlopeLaw(activations.get("tanh"), 0.8)
    for log_r, theta in ((-0.5, 1e-3), (-3.0, 0.2), (0.01, 1e-6)):
        w = mpmath.exp(mpmath.mpc(log_r, theta))
        pole = mpmath.acosh(mpmath.exp(mpf(-min(log_r, 0.0)) / 4))
        width = mpf(theta) / 4
        near = [pole + s * width * 10**k for s in (-1, 1) for k in range(6)]
        breaks = sorted({mpf(0), pole, *(v for v in near if 0 < v < 10), mpf(10)})
        exact = 2 * mpmath.quad(
            lambda h, w=w: (
                mpmath.sech(h) ** 4
                / (w - mpmath.sech(h) ** 4)
                * mpmath.npdf(h, 0, mpmath.sqrt(mpf(0.8)))
            ),
            breaks,
        )
        s, p = law.rule(np.array([log_r]), np.array([theta]))
        ours = np.sum(p * s / (complex(w) - s))
        assert abs(ours - complex(exact)) < 1e-12 * abs(ours) / min(1.0, theta) ** 0.5


@pytest.mark.parametrize("q", [1e-6, 1e-4, 1e-2])
def test_small_spreads_cost_the_digits_they_must(q):
    """s is known to rounding beside its spread, √2 · 2q for tanh: x is no worse than that."""
    log_r, theta = -1.3 * q, q
    w = mpmath.exp(mpmath.mpc(log_r, theta))
    deviation = mpmath.sqrt(mpf(q))
    breaks = [k * deviation / 4 for k in range(48)]
    exact = 2 * mpmath.quad(
        lambda h: mpmath.sech(h) ** 4 / (w - mpmath.sech(h) ** 4) * mpmath.npdf(h, 0, deviation),
        breaks,
    )
    law = SlopeLaw(activations.get("tanh"), q)
    assert law.spread == pytest.approx(np.sqrt(8) * q, rel=10 * q)
    s, p = law.rule(np.array([log_r]), np.array([theta]))
    ours = np.sum(p * s / (np.exp(log_r + 1j * theta) - s))
    assert abs(ours - complex(exact)) < (4e-15 + 2 * np.finfo(float).eps / law.spread) * abs(ours)


@pytest.mark.parametrize("theta", [1e-6, 1e-9, 1e-12])
def test_the_transform_on_the_axis_is_the_density(theta):
    """−Im x/π → the density of log s, in closed form for s = sech⁴ h, with an error of order θ."""
    q, log_r = 0.8, np.array([-0.3, -2.0, -9.0])
    h = np.arccosh(np.exp(-log_r / 4))
    exact = np.exp(-(h**2) / (2 * q)) / np.sqrt(2 * np.pi * q) / (2 * np.tanh(h))
    s, p = SlopeLaw(activations.get("tanh"), q).rule(log_r, np.full(3, theta))
    ours = -np.sum(p * s / (np.exp(log_r + 1j * theta)[:, None] - s), axis=1).imag / np.pi
    # s is known to rounding: 1e-16/θ of the width of the pole
    np.testing.assert_allclose(ours, exact, rtol=10 * theta + 1e-15 / theta)


def test_the_rule_converges_geometrically():
    """Each half more of nodes must gain a factor, until rounding."""
    law = SlopeLaw(activations.get("silu"), 2.0)
    point = np.array([-1.0]), np.array([0.02])
    values = []
    for law.refine in (0.2, 0.3, 0.45, 1.6):
        s, p = law.rule(*point)
        values.append(np.sum(p * s / (np.exp(-1.0 + 0.02j) - s)))
    errors = np.abs(np.array(values[:3]) - values[3])
    assert np.all(errors[1:] < errors[:-1] / 4)


# --- mass and moments ---


@settings(deadline=None, max_examples=12)
@given(
    name=st.sampled_from(NAMES),
    exponent=st.floats(-4, 1.4),
    log_depth=st.floats(0, 4),
    ensemble=st.sampled_from(isometry.ENSEMBLES),
)
def test_mass_and_moments(name, exponent, log_depth, ensemble):
    q, depth = 10.0**exponent, round(10.0**log_depth)
    sigma_w2 = critical_weights(name, q)
    spectrum = isometry.spectrum(name, sigma_w2, q, depth, ensemble=ensemble)
    assert abs(total(spectrum) - 1) < tolerances.MASS
    closed = isometry.moments(name, sigma_w2, q, depth, ensemble=ensemble)
    for k, log_m in enumerate(closed, 1):
        ours = spectrum.expectation(lambda y, k=k, log_m=log_m: np.exp(k * y - log_m))
        assert abs(ours - 1) < tolerances.SPECTRAL_MOMENT
    # on the critical line the mean is 1
    assert abs(closed[0]) < 1e-13 * depth
    assert np.all(np.diff(spectrum.log_lambda) > 0)
    variance = isometry.relative_variance(name, q, depth, ensemble=ensemble)
    exact = np.expm1(closed[1] - 2 * closed[0])
    # m₂/m₁² − 1 cancels where the slopes hardly differ
    np.testing.assert_allclose(variance, exact, rtol=1e-9, atol=1e-12 * depth)


@pytest.mark.parametrize("depth", [2, 30])
def test_a_callable_with_a_linear_part(depth):
    spectrum = isometry.spectrum(ELU, 1.5, 0.8, depth, ensemble="gaussian")
    assert abs(total(spectrum) - 1) < tolerances.MASS
    closed = isometry.moments(ELU, 1.5, 0.8, depth, ensemble="gaussian")
    second = spectrum.expectation(lambda y: np.exp(2 * y - closed[1]))
    assert abs(second - 1) < tolerances.SPECTRAL_MOMENT


def test_the_cdf_is_the_integral_of_the_density():
    spectrum = isometry.spectrum("gelu", 3.0, 0.5, 12)
    y = np.linspace(-30, spectrum.log_lambda_max - 0.05, 41)
    x, w = np.polynomial.legendre.leggauss(24)
    nodes = (y[:-1, None] + y[1:, None]) / 2 + np.diff(y)[:, None] / 2 * x
    integral = np.sum(spectrum.density_at(nodes) * w, axis=1) * np.diff(y) / 2
    np.testing.assert_allclose(np.diff(spectrum.cdf(y)), integral, atol=1e-10)
    assert spectrum.cdf(np.inf) == pytest.approx(1, abs=1e-12)
    assert spectrum.density_at([-np.inf, spectrum.log_lambda_max + 1]).tolist() == [0.0, 0.0]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("activation", "q", "depth", "ensemble"),
    [
        ("gelu", 0.0137, 3, "gaussian"),  # the bulk ends where the Gaussian has died
        ("gelu", 0.0137, 3, "orthogonal"),
        ("silu", 1e-4, 30, "orthogonal"),
        ("silu", 10.0, 3301, "orthogonal"),
        ("softsign", 5.0, 2, "orthogonal"),
        (EASED, 1e-3, 2, "orthogonal"),
        (SOFTPLUS, 1.3e-5, 1, "orthogonal"),
        (SOFTPLUS, 13.35, 1276, "gaussian"),  # no edge or extremum of φ′ marks where it turns
        ("gelu", 2.6e-3, 3899, "gaussian"),
        (SELU, 30.0, 2, "orthogonal"),  # the atom P(φ′ = a) = 1/2 has just dissolved
        (SELU, 0.3, 2, "orthogonal"),
        (ELU, 30.0, 2, "orthogonal"),
        (SELU, 8.5e-4, 6, "gaussian"),  # the largest slope is beside a kink
        (BENT, 6.1e-3, 1, "gaussian"),  # the bulk ends a little before the Gaussian has died
    ],
)
def test_hard_places(activation, q, depth, ensemble):
    start = time.process_time()
    spectrum = isometry.spectrum(activation, 2.0, q, depth, ensemble=ensemble)
    assert abs(total(spectrum) - 1) < tolerances.MASS
    closed = isometry.moments(activation, 2.0, q, depth, ensemble=ensemble)
    for k, log_m in enumerate(closed, 1):
        ours = spectrum.expectation(lambda y, k=k, log_m=log_m: np.exp(k * y - log_m))
        assert abs(ours - 1) < tolerances.SPECTRAL_MOMENT
    y = np.linspace(spectrum.log_lambda[0] - 1, spectrum.log_lambda_max + 1, 240)
    # terms of order L cancel
    assert np.min(np.diff(spectrum.cdf(y))) > -1e-13 - 1e-15 * depth
    largest = isometry.largest(activation, 2.0, q, depth, ensemble=ensemble)
    assert largest == pytest.approx(spectrum.log_lambda_max, rel=1e-12, abs=1e-12)
    assert spectrum.cdf(largest) == pytest.approx(1, abs=1e-12)
    assert time.process_time() - start < 8 * tolerances.SPECTRUM_SECONDS


def test_atoms():
    p = float(reference.slope_square("hard-tanh", mpf("0.3")))
    spectrum = isometry.spectrum("hard-tanh", 1.1, 0.3, 3)
    (zero, dead), (place, alive) = spectrum.atoms
    assert (zero, dead) == (-np.inf, pytest.approx(1 - p, rel=1e-12))
    assert (place, alive) == (pytest.approx(3 * np.log(1.1)), pytest.approx(3 * p - 2, rel=1e-12))
    assert spectrum.cdf(-1e300) == pytest.approx(dead, rel=1e-12)
    assert spectrum.cdf(place) - spectrum.cdf(place - 1e-6) == pytest.approx(alive, rel=1e-9)
    gaussian = isometry.spectrum("hard-tanh", 1.1, 0.3, 3, ensemble="gaussian")
    assert [a for a, _ in gaussian.atoms] == [-np.inf]


# --- sampling ---


def sampled(name, sigma_w2, q, depth, ensemble, width, seed):
    rng = np.random.default_rng(seed)
    act, product = activations.get(name), np.eye(width)
    for _ in range(depth):
        weights = rng.standard_normal((width, width)) / np.sqrt(width)
        if ensemble == "orthogonal":
            basis, triangle = np.linalg.qr(weights)
            weights = basis * np.sign(np.diag(triangle))
        # equally likely slopes: what is left is the matrices' own fluctuation
        h = np.sqrt(2 * q) * special.erfinv(2 * (np.arange(width) + 0.5) / width - 1)
        slopes = act.d1(rng.permutation(h))
        product = slopes[:, None] * (np.sqrt(sigma_w2) * weights @ product)
    return np.linalg.svd(product, compute_uv=False) ** 2


def distances(name, depth, ensemble, widths, matrices):
    """Return for each width the KS distance of eigenvalues above 1e-6, all matrices pooled."""
    spectrum = isometry.spectrum(name, 1.5, 1.0, depth, ensemble=ensemble)
    probes = spectrum.log_lambda[spectrum.log_lambda > np.log(1e-6)]
    theory, found = spectrum.cdf(probes), []
    for width in widths:
        draws = [
            sampled(name, 1.5, 1.0, depth, ensemble, width, seed=(width, k))
            for k in range(matrices)
        ]
        pooled = np.sort(np.concatenate(draws))
        below = np.searchsorted(pooled, np.exp(probes)) / pooled.size
        found.append(np.max(np.abs(theory - below)))
    return np.array(found)


@pytest.mark.parametrize("ensemble", isometry.ENSEMBLES)
@pytest.mark.parametrize("name", ["tanh", "relu", "gelu"])
def test_sampled_matrices_approach_the_law(name, ensemble):
    """The mean spectrum of N × N matrices differs from the law by order 1/N.

    600 matrices leave noise of about 0.05/N in it, since eigenvalues repel. Orthogonal tanh, whose
    density jumps at the top, falls faster at first. A wrong law gives the slope 0.
    """
    widths = np.array([12, 24, 48, 96])
    found = distances(name, 3, ensemble, widths, 600)
    slope = np.polyfit(np.log(widths), np.log(found), 1)[0]
    assert -1.7 < slope < -0.65
    assert found[-1] < 0.5 / widths[-1]


# --- depth ---


def test_the_largest_grows_linearly_with_depth():
    """λ_max/(e L) → μ₂/μ₁² (Gaussian), μ₂/μ₁² − 1 (orthogonal), with an error of order 1/L."""
    for name in ("tanh", "relu", "silu"):
        sigma_w2, depth = critical_weights(name, 1.0), np.array([100, 1000, 10_000])
        ratio = float(isometry.slope_ratio(name, 1.0))
        for ensemble, slope in (("gaussian", ratio), ("orthogonal", ratio - 1)):
            log_max = isometry.largest(name, sigma_w2, 1.0, depth, ensemble=ensemble)
            error = np.abs(np.exp(log_max - 1) / depth / slope - 1)
            assert np.all(error < 3 / depth)
    edge = isometry.spectrum("tanh", 1.5, 1.0, 40).log_lambda_max
    assert isometry.largest("tanh", 1.5, 1.0, 40) == pytest.approx(edge, abs=1e-12)


@pytest.mark.parametrize(("kind", "name"), [("smooth", "erf"), ("bernoulli", "hard-tanh")])
@pytest.mark.parametrize("variance", [0.4, 2.0])
def test_deep_networks_approach_their_class(kind, name, variance):
    """The distance to the limit falls as 1/L (Bernoulli) or 1/√L (smooth: third cumulant)."""
    limit = isometry.limit(kind, variance)
    assert abs(total(limit) - 1) < tolerances.MASS
    assert limit.expectation(np.exp) == pytest.approx(1, abs=1e-9)
    second = limit.expectation(lambda y: np.exp(2 * y))
    assert second == pytest.approx(1 + variance, rel=1e-9)
    probes = limit.log_lambda[100:-5:20]
    errors = []
    for depth in (400, 1600, 6400):
        point = isometry.critical_point(name, depth, variance=variance)
        finite = isometry.spectrum(name, point.sigma_w2, point.q, depth)
        errors.append(np.max(np.abs(finite.cdf(probes) - limit.cdf(probes))))
    order = np.diff(np.log(errors)) / np.log(4)
    expected = -0.5 if kind == "smooth" else -1.0
    np.testing.assert_allclose(order, expected, atol=0.1)


def test_a_deep_curve_is_fast():
    for name in ("tanh", "hard-tanh", "sigmoid"):
        sigma_w2 = critical_weights(name, 1.0)
        seconds = []
        for _ in range(3):
            start = time.process_time()
            isometry.spectrum(name, sigma_w2, 1.0, 1024)
            seconds.append(time.process_time() - start)
        assert min(seconds) < tolerances.SPECTRUM_SECONDS


# --- the critical line ---


@pytest.mark.parametrize("name", ["tanh", "softsign", "gelu", "erf"])
def test_slope_ratios_against_thirty_digits(name):
    _, slope, kinks = reference.FUNCTIONS[name]
    for q in (0.1, 20.0):
        fourth = reference.mean(lambda h: slope(h) ** 4, mpf(q), kinks)
        exact = float(fourth / reference.slope_square(name, mpf(q)) ** 2)
        assert float(isometry.slope_ratio(name, q)) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("name", ["tanh", "erf", "arctan", "softsign", "hard-tanh"])
def test_sigmoidal_activations_reach_isometry(name):
    least = isometry.least_slope_ratio(name)
    assert (least.ratio, least.q, least.sigma_b2) == (pytest.approx(1, abs=1e-12), 0, 0)


def test_relu_and_the_logistic_sigmoid_cannot():
    assert isometry.least_slope_ratio("relu").ratio == pytest.approx(2, rel=1e-14)
    least = isometry.least_slope_ratio("sigmoid")
    # the end of the line, σ_b² = 0, is the least critical σ_w² of Theorem 1
    assert (least.sigma_b2, least.q) == (
        pytest.approx(0, abs=1e-9),
        pytest.approx(45.624, abs=1e-3),
    )
    exact = float(
        reference.mean(lambda h: reference._logistic_slope(h) ** 4, mpf(least.q))
        / reference.slope_square("sigmoid", mpf(least.q)) ** 2
    )
    assert least.ratio == pytest.approx(exact, rel=1e-10)
    for name in ("relu", "sigmoid"):
        with pytest.raises(ValueError, match="critical"):
            isometry.critical_point(name, 50)


def test_critical_points_have_their_variance():
    for name in ("tanh", "softsign", "hard-tanh"):
        point = isometry.critical_point(name, 300, variance=0.2)
        assert isometry.relative_variance(name, point.q, 300) == pytest.approx(0.2, rel=1e-9)
        actual = mean_field.fixed_point(name, point.sigma_w2, point.sigma_b2)
        assert float(actual.q) == pytest.approx(point.q, rel=1e-9)
        assert float(actual.chi_1) == pytest.approx(1, abs=1e-11)


# --- faults ---


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: isometry.spectrum("tanh", 1.0, 1.0, 0), "depth = 0 must be a whole number"),
        (lambda: isometry.spectrum("tanh", 1.0, 1.0, 2.5), "depth = 2.5 must be a whole number"),
        (lambda: isometry.spectrum("tanh", 1.0, 1.0, True), "depth = True must be"),
        (lambda: isometry.spectrum("tanh", -1.0, 1.0, 3), "sigma_w2 = -1 is out of range"),
        (lambda: isometry.spectrum("tanh", 0.0, 1.0, 3), "sigma_w2 = 0 is out of range"),
        (lambda: isometry.spectrum("tanh", 1.0, -1.0, 3), "q = -1 is out of range"),
        (lambda: isometry.spectrum("tanh", [1.0, 2.0], 1.0, 3), "takes one setting"),
        (lambda: isometry.spectrum("tanh", 1.0, 1.0, 3, ensemble="haar"), "'haar' is not known"),
        (lambda: isometry.spectrum("tanh", 1.0, 1.0, 3, points=2), "points = 2 must be"),
        (lambda: isometry.spectrum("than", 1.0, 1.0, 3), "did you mean 'tanh'"),
        (lambda: isometry.moments("tanh", 1.0, 1.0, 3, order=99), "order = 99 must be"),
        (lambda: isometry.limit("rough", 1.0), "kind = 'rough' is not known"),
        (lambda: isometry.limit("smooth", 0.0), "variance = 0 is out of range"),
        (lambda: isometry.largest("tanh", 1.0, 1.0, 1.5), "whole number of layers"),
        (lambda: isometry.largest("tanh", 0.0, 1.0, 2), "sigma_w2 = 0 is out of range"),
        (lambda: isometry.relative_variance("tanh", np.nan, 2), "q = nan is out of range"),
        (lambda: isometry.critical_point("tanh", 10, variance=-1), "variance = -1 is out of range"),
        (
            lambda: isometry.critical_point("tanh", 10, variance=0.5, ensemble="gaussian"),
            "on its critical line, not 0.5",
        ),
        (lambda: isometry.spectrum("tanh", 1.0, 1.0, 3).cdf(np.nan), "log_lambda = nan"),
    ],
)
def test_bad_inputs_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
