"""Heavy-tailed mean field: closed laws, other quadratures, sampling, matrices, faults."""

from __future__ import annotations

import time
from itertools import pairwise
from math import factorial

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf
from scipy import integrate, special

from mflib.theory import _cavity, activations, levy, mean_field, stable

TANH = activations.get("tanh")


# --- the two functions of the cavity ---


@pytest.mark.parametrize("log_t", [-9.0, -1.3, 0.4, 6.0])
def test_kernels_against_explicit_laws_at_alpha_1(log_t):
    """S = 1/(2πZ²), Z normal: one average is an erfc or a K₀, the other by quadrature."""
    with mp.workdps(20):
        t, c = mp.exp(mpf(log_t)), 1 / (2 * mp.pi)

        def mean(f):
            # in log Z, with the scale of the argument as a break
            place = mp.log(c * mp.sqrt(t))
            breaks = sorted({mpf(v) for v in (-45, -20, -6, -2, 0, 1, 2.4)} | {place})
            weight = mp.sqrt(2 / mp.pi)
            return weight * mp.quad(lambda v: mp.exp(v - mp.exp(2 * v) / 2) * f(mp.exp(v)), breaks)

        def share(z):
            a = c / z * mp.sqrt(t / 2)
            # 1 − √π a e^{a²} erfc(a), whose series takes over where it cancels
            if a > 40:
                return 1 / (2 * a**2) - 3 / (4 * a**4) + 15 / (8 * a**6) - 105 / (16 * a**8)
            return 1 - mp.sqrt(mp.pi) * a * mp.exp(a * a) * mp.erfc(a)

        def level(z):
            b = t * c * c / z**2 / 4
            scaled = mp.exp(b) * mp.besselk(0, b) if b < 1e6 else mp.sqrt(mp.pi / (2 * b))
            return mp.sqrt(t * c / (2 * mp.pi)) * scaled

        exact = [float(mean(share)), float(mean(level))]
    ours = _cavity.kernels(1.0)(np.array([log_t]))[[0, 3], 0]
    np.testing.assert_allclose(ours, exact, rtol=1e-9)


def mellin_nodes(f, line, step=0.02, count=600):
    s = [mp.mpc(line, step * k) for k in range(count)]
    return s, [f(z) * step / mp.pi / (2 if k == 0 else 1) for k, z in enumerate(s)]


@pytest.mark.parametrize("alpha", [0.55, 1.5, 1.999])
def test_kernels_against_mellin_integrals_in_25_digits(alpha):
    """The same integrals on other lines, the integrands multiplied out, in higher precision."""
    with mp.workdps(25):
        a = mpf(alpha)
        k = mp.gamma(1 + a) / (2 * mp.gamma(1 + a / 2))

        def share(s):
            ratio = mp.gamma(1 + 2 * s / a) / mp.gamma(1 + s)
            return mp.gamma(s) * mp.gamma(1 - s) * k ** (-4 * s / a) * ratio**2

        def level(s):
            top = mp.gamma(s) * mp.gamma(a / 2 - s) * mp.gamma(2 * s / a) * mp.gamma(1 + 2 * s / a)
            bottom = mp.gamma(a / 2) * mp.gamma(1 - a / 2 + s) * mp.gamma(1 + s)
            return k ** (1 - 4 * s / a) * top / bottom

        right, left = mellin_nodes(share, mpf("0.45")), mellin_nodes(share, -0.27 * a)
        middle = mellin_nodes(level, 0.22 * a)

        def integral(nodes, t, weight=lambda s: 1):
            return mp.re(sum(v * weight(s) * t**-s for s, v in zip(*nodes, strict=True)))

        for x in (-12.3, -0.7, 0.9, 11.1):
            t = mp.exp(mpf(x))
            scale = t ** (a / 2)
            exact = [
                integral(right, t),
                -integral(left, t),
                integral(left if x < 0 else right, t, lambda s: s),
                scale * integral(middle, t),
                scale * integral(middle, t, lambda s: s),
            ]
            ours = _cavity.kernels(alpha)(np.array([x]))[:, 0]
            np.testing.assert_allclose(ours, [float(v) for v in exact], rtol=3e-10)


@pytest.mark.parametrize("alpha", [0.55, 1.0, 1.7, 1.99])
def test_kernels_join_their_asymptotic_forms(alpha):
    kernels = _cavity.kernels(alpha)
    for edge in (kernels.low, kernels.high):
        x = edge + np.array([-1e-9, 1e-9])
        values = kernels(x)
        np.testing.assert_allclose(values[:, 0], values[:, 1], rtol=1e-7)
    ends = kernels(np.array([-np.inf, np.inf]))
    np.testing.assert_allclose(ends[:, 0], [1, 0, 0, 0, 0], atol=1e-300)
    limit = 2 / special.gamma(1 + alpha)
    np.testing.assert_allclose(ends[:, 1], [0, 1, 0, limit, alpha / 2 * limit], rtol=1e-12)


# --- lengths ---


def cauchy_mean(log_q, phi):
    """E|φ(h)| for h Cauchy of half-width q/2, in 25 digits and the logarithm of h."""
    with mp.workdps(25):
        scale = mp.exp(mpf(log_q)) / 2

        def integrand(w):
            x = mp.exp(w)
            return abs(phi(x)) * scale * x / (x * x + scale * scale)

        middle = mp.log(scale)
        breaks = sorted(
            {middle + d for d in (-60, -9, -3, 0, 3, 9)} | {mpf(v) for v in (-2, 0, 3, 60)}
        )
        return 2 / mp.pi * mp.quad(integrand, breaks)


@pytest.mark.parametrize("log_q", [-60.0, -30.0, -5.0, 0.0, 3.0])
@pytest.mark.parametrize(("name", "phi"), [("tanh", mp.tanh), ("arctan", mp.atan)])
def test_the_length_map_in_25_digits_at_alpha_1(name, phi, log_q):
    exact = mp.log(cauchy_mean(log_q, phi) * 3 + mpf("1e-5"))
    assert float(levy.length_map(name, 1.0, log_q, 3.0, 1e-5) - exact) == pytest.approx(
        0, abs=1e-11
    )


@pytest.mark.parametrize("name", ["tanh", "relu", "sigmoid", "gelu"])
def test_alpha_2_is_the_gaussian_network(name):
    sigma_w2, sigma_b2 = np.array([0.5, 1.0, 1.5, 4.0])[:, None], np.array([0.0, 0.1])
    ours = levy.fixed_point(name, 2.0, sigma_w2, sigma_b2)
    exact = mean_field.fixed_point(name, sigma_w2, sigma_b2).q
    np.testing.assert_allclose(ours.q, exact, rtol=1e-10)
    assert ((ours.reason != "") == np.isnan(exact)).all()


def test_alpha_to_2_tends_to_the_gaussian_network():
    """The distance falls in proportion to 2 − α."""
    gaussian = float(mean_field.fixed_point("tanh", 2.5, 0.1).q)
    near = levy.fixed_point("tanh", 2 - np.array([1e-2, 1e-3, 1e-4]), 2.5, 0.1).q - gaussian
    np.testing.assert_allclose(near[:-1] / near[1:], 10, rtol=0.1)


@given(
    alpha=st.floats(0.51, 2.0),
    gain=st.floats(0.02, 5),
    D_b=st.one_of(st.just(0.0), st.floats(1e-300, 2)),
    name=st.sampled_from(["tanh", "erf", "sigmoid", "arctan", "softsign", "hard-tanh"]),
)
@settings(max_examples=40, deadline=None)
def test_fixed_points_are_fixed(alpha, gain, D_b, name):
    point = levy.fixed_point(name, alpha, gain**alpha, D_b)
    assert point.reason == ""
    if np.isneginf(point.log_q):
        assert (alpha, D_b) == (2, 0)
        return
    after = levy.length_map(name, alpha, point.log_q, gain**alpha, D_b)
    # near α = 2 and a critical gain an error of the map is one of q* divided by 1 − slope
    assert abs(after - point.log_q) <= 1e-12 * max(1.0, abs(point.log_q))


def test_there_is_no_ordered_phase_below_alpha_2():
    """q* > 0 for every D_w, in the paper's plane down to e^−6000, and falls with the gain."""
    gain = np.arange(1, 61) / 20
    for alpha in (1.0, 1.5, 1.9):
        log_q = levy.fixed_point("tanh", alpha, gain**alpha).log_q
        assert np.isfinite(log_q).all()
        assert (np.diff(log_q) > 0).all()
    assert float(levy.fixed_point("tanh", 1.9, 0.05**1.9).log_q) < -6000
    # errata: 1.4e-5 at half the classical gain
    assert float(levy.fixed_point("tanh", 1.5, 0.5**1.5).q) == pytest.approx(1.4e-5, rel=0.05)


def test_the_tiny_root_solves_its_own_equation():
    """E|φ|^α/q = A − (c_α/α) log q: two lengths give A, and the root follows by hand."""
    alpha, D_w = 1.6, 0.2
    log_q = np.array([-30.0, -33.0])
    ratio = np.exp(levy.length_map("tanh", alpha, log_q, 1.0) - log_q)
    rise = float(stable.tail_constant(alpha)) / alpha
    np.testing.assert_allclose(ratio[1] - ratio[0], 3 * rise, rtol=1e-9)
    by_hand = (ratio[0] + rise * log_q[0] - 1 / D_w) / rise
    assert float(levy.fixed_point("tanh", alpha, D_w).log_q) == pytest.approx(by_hand, rel=1e-9)


@pytest.mark.parametrize("name", ["linear", "relu", "leaky-relu", "gelu", "silu"])
def test_no_length_where_phi_grows_like_x(name):
    with pytest.raises(ValueError, match="does not exist"):
        levy.fixed_point(name, 1.9, 1.0)
    assert np.isfinite(levy.fixed_point(name, 2.0, 0.5, 0.1).q)


def test_growth_of_a_callers_activation():
    slow = activations.from_callable(lambda x: np.sign(x) * (np.sqrt(1 + np.abs(x)) - 1), "root")
    assert float(levy.fixed_point(slow, 1.5, 1.0, 0.1).q) > 0
    # little-o of |x| does not suffice: ∫ |φ|^α x^{−1−α} dx = ∫ dx/(x log x) has no end
    almost = activations.from_callable(
        lambda x: x / np.log(np.e + np.abs(x)) ** (1 / 1.5), "almost linear"
    )
    with pytest.raises(ValueError, match="almost linear"):
        levy.fixed_point(almost, 1.5, 1.0)


def test_sampled_lengths():
    """4e6 draws: E|tanh h|^α has a standard error of some 1e-4."""
    rng = np.random.default_rng(3)
    for alpha, log_q in ((1.2, -1.0), (1.8, 0.5)):
        scale = np.exp((log_q - np.log(2)) / alpha)
        power = np.abs(np.tanh(stable.sample(alpha, 4_000_000, scale=scale, rng=rng))) ** alpha
        error = power.std() / np.sqrt(power.size)
        exact = np.exp(levy.length_map("tanh", alpha, log_q, 1.0))
        assert abs(power.mean() - exact) < 4.5 * error


# --- eigenvalues ---


def test_the_circular_law_at_alpha_2():
    r = np.array([1e-9, 1e-3, 0.1, 0.5, 1.0, 1.5, 1.9, 1.9999, 2.0, 2.5])
    exact = np.minimum(r**2 / 4, 1)
    np.testing.assert_allclose(levy.modulus_cdf("linear", 2.0, 4.0, r, log_q=0.0), exact, rtol=1e-8)
    inside = r[r < 1.99]
    density = levy.eigenvalue_density("linear", 2.0, 4.0, inside, log_q=0.0)
    np.testing.assert_allclose(4 * np.pi * density, 1, rtol=1e-7)


def test_an_atom_at_0():
    """ReLU kills half the neurons; hard tanh those beyond 1."""
    np.testing.assert_allclose(levy.modulus_cdf("relu", 2.0, 2.0, [0.0, 1e-200], log_q=0.0), 0.5)
    q = levy.fixed_point("hard-tanh", 1.4, 2.0)
    scale = float((q.q / 2) ** (1 / 1.4))
    np.testing.assert_allclose(
        levy.modulus_cdf("hard-tanh", 1.4, 2.0, 0.0), 2 * stable.sf(1 / scale, 1.4), rtol=1e-8
    )


def cauchy_cavity(u, gain, scale):
    """F and r at u for α = 1 and tanh, by nested adaptive quadrature of the explicit laws.

    S = c/Z², Z normal, c = 1/2π: E_{Z'} is an erfcx for G and a K₀ for M.
    """
    c = 1 / (2 * np.pi)

    def over_z(f):
        # in log z: both integrands turn at z of the size of √t
        return (
            2
            * integrate.quad(
                lambda w: f(np.exp(w)) * np.exp(w - np.exp(2 * w) / 2) / np.sqrt(2 * np.pi),
                -30,
                2.4,
                epsrel=1e-9,
                limit=200,
            )[0]
        )

    def share(t):
        def inner(z):
            root = c / z * np.sqrt(t / 2)
            return 1 - np.sqrt(np.pi) * root * special.erfcx(root)

        return over_z(inner)

    def level(t):
        def inner(z):
            return special.k0e(t * c * c / z**2 / 4) / np.sqrt(2 * np.pi)

        return np.sqrt(t * c) * over_z(inner)

    def over_h(f):
        def integrand(w):
            h = np.exp(w)
            slope = 1 / np.cosh(min(h, 300.0)) ** 2
            return f((gain * slope / u) ** 2) * 2 / np.pi * scale * h / (h * h + scale * scale)

        parts = np.log(np.array([1e-14, 1e-3, 0.1, 0.5, 1, 2, 4, 8, 16, 40]))
        return sum(
            integrate.quad(integrand, a, b, epsrel=1e-9, limit=200)[0] for a, b in pairwise(parts)
        )

    beyond = 1 - 2 / np.pi * np.arctan(40 / scale)
    return over_h(share) + beyond, u * over_h(level)


@pytest.mark.parametrize("u", [0.02, 1.0, 40.0])
def test_the_modulus_cdf_by_nested_quadrature_at_alpha_1(u):
    gain = 1.5
    scale = float(levy.fixed_point("tanh", 1.0, gain).q) / 2
    share, r = cauchy_cavity(u, gain, scale)
    assert float(levy.modulus_cdf("tanh", 1.0, gain, r)) == pytest.approx(share, rel=1e-7)


@pytest.mark.parametrize("alpha", [0.6, 1.0, 1.5, 1.95, 2.0])
@pytest.mark.parametrize("gain", [0.5, 1.5, 3.0])
def test_the_density_is_the_derivative_of_the_cdf(alpha, gain):
    r = np.array([0.01, 0.1, 0.3, 0.7, 1.0])
    step = 1e-4
    log_steps = step * np.array([-2, -1, 1, 2])[:, None]
    below = levy.modulus_cdf("tanh", alpha, gain**alpha, r * np.exp(log_steps))
    density = levy.eigenvalue_density("tanh", alpha, gain**alpha, r)
    per_log = (8 * (below[2] - below[1]) - (below[3] - below[0])) / (12 * step)
    np.testing.assert_allclose(density, per_log / (2 * np.pi * r**2), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("alpha", [1.0, 1.5])
def test_small_moduli_are_as_frequent_as_saturated_neurons(alpha):
    """F → P(φ′(h) < r/…): F(r) ~ (log 1/r)^{−α}, also across the end of the grid."""
    log_r = -np.array([20.0, 28.0, 30.0, 32.0, 200.0, 600.0])
    share = levy.modulus_cdf("tanh", alpha, 1.5**alpha, np.exp(log_r))
    scale = np.exp((levy.fixed_point("tanh", alpha, 1.5**alpha).log_q - np.log(2)) / alpha)
    shape = share * (-log_r) ** alpha
    # log χ at the neuron is log r, up to constants: the ratio tends to 1 like 1/log r
    limit = 2 * float(stable.tail_constant(alpha)) / alpha * (2 * scale) ** alpha
    assert np.all(np.diff(np.abs(shape / limit - 1)) < 0)
    assert shape[-1] == pytest.approx(limit, rel=0.02)


def one_sided(alpha, size, rng):
    """Draw S with E exp(−sS) = exp(−k s^{α/2}) by Kanter's formula."""
    a = alpha / 2
    angle, wait = np.pi * rng.random(size), rng.exponential(size=size)
    k = special.gamma(1 + alpha) / (2 * special.gamma(1 + a))
    core = np.sin(a * angle) / np.sin(angle) ** (1 / a)
    return (k ** (1 / a)) * core * (np.sin((1 - a) * angle) / wait) ** ((1 - a) / a)


@pytest.mark.parametrize(("alpha", "gain"), [(1.1, 0.9), (1.5, 2.0)])
def test_the_cavity_equations_by_sampling(alpha, gain):
    """Equations 7 and 8 as printed, 2e6 samples; the error of y is carried to F."""
    rng, size = np.random.default_rng(11), 2_000_000
    point = levy.fixed_point("tanh", alpha, gain**alpha)
    scale = float(np.exp((point.log_q - np.log(2)) / alpha))
    h = stable.sample(alpha, size, scale=scale, rng=rng)
    chi2 = (gain / np.cosh(np.clip(h, -300, 300)) ** 2) ** 2
    first = chi2 * one_sided(alpha, size, rng)
    both = first * one_sided(alpha, size, rng)
    for u in (0.05, 0.7, 4.0):
        share = u * u / (u * u + both)
        level = (first / (u * u + both)) ** (alpha / 2)
        r = u * level.mean() ** (1 / alpha)
        density = levy.eigenvalue_density("tanh", alpha, gain**alpha, r)
        tilt = 2 * np.pi * r * r * density / (alpha * level.mean())
        error = (share - tilt * level).std() / np.sqrt(size)
        assert abs(share.mean() - levy.modulus_cdf("tanh", alpha, gain**alpha, r)) < 4.5 * error


def test_eigenvalues_of_sampled_matrices_come_closer_with_width():
    """Kolmogorov's distance between one matrix's moduli and F falls like N^{−1/2}.

    It is what differs from matrix to matrix: for α < 2 single entries move eigenvalues at every N.
    """
    alpha, gain = 1.2, 1.5
    rng = np.random.default_rng(5)
    log_q = levy.fixed_point("tanh", alpha, gain**alpha).log_q
    scale = float(np.exp((log_q - np.log(2)) / alpha))
    widths, means = np.array([100, 200, 400, 800]), []
    for width, count in zip(widths, (32, 24, 12, 4), strict=True):
        entries = stable.sample(
            alpha, (count, width, width), scale=gain * (2 * width) ** (-1 / alpha), rng=rng
        )
        slopes = TANH.d1(stable.sample(alpha, (count, 1, width), scale=scale, rng=rng))
        moduli = np.sort(np.abs(np.linalg.eigvals(entries * slopes)), axis=1)
        share = levy.modulus_cdf("tanh", alpha, gain**alpha, np.maximum(moduli, 1e-13))
        steps = np.arange(width + 1) / width
        distance = np.maximum(steps[1:] - share, share - steps[:-1]).max(axis=1)
        means.append(distance.mean())
    slope = np.polyfit(np.log(widths), np.log(means), 1)[0]
    # each mean is known to 10 %, the slope to 0.07
    assert -0.75 < slope < -0.25


@given(
    alpha=st.one_of(st.floats(0.51, 2.0), st.just(2.0)),
    gain=st.floats(0.03, 8),
    D_b=st.sampled_from([0.0, 0.3]),
    name=st.sampled_from(["tanh", "erf", "sigmoid", "arctan", "softsign", "hard-tanh"]),
    log_r=st.lists(st.floats(-100, 4), min_size=12, max_size=12),
)
# an atom of 1e-11, and a share beside it that differs from it in the seventh digit
@example(alpha=1.859709760991461, gain=0.625, D_b=0.0, name="hard-tanh", log_r=[0.0] * 11 + [-20.0])
@settings(max_examples=30, deadline=None)
def test_every_law_is_a_law(alpha, gain, D_b, name, log_r):
    r = np.append(0.0, np.exp(np.sort(log_r)))
    share = levy.modulus_cdf(name, alpha, gain**alpha, r, D_b=D_b)
    assert share[0] >= 0
    assert share[-1] <= 1 + 1e-12
    # neighbours may differ by their errors, of which modulus_cdf promises 1e-6 each
    assert np.all(np.diff(share) >= -2e-6 * share[1:])
    assert np.all(levy.eigenvalue_density(name, alpha, gain**alpha, r[1:], D_b=D_b) >= 0)
    balance = levy.jacobian_average(name, alpha, gain**alpha, "balance", D_b=D_b)
    assert abs(balance) <= 1 + 1e-9


@pytest.mark.parametrize(("name", "alpha"), [("linear", 2.0), ("relu", 2.0), ("gelu", 2.0)])
def test_small_moduli_far_below_the_grid(name, alpha):
    """No seam where the grid ends; a flat density where slopes are bounded away from 0."""
    r = np.array([1e-60, 1e-20, 1e-14, 1e-12])
    share = levy.modulus_cdf(name, alpha, 1.5, r, log_q=0.0)
    density = levy.eigenvalue_density(name, alpha, 1.5, r, log_q=0.0)
    atom = levy.modulus_cdf(name, alpha, 1.5, 0.0, log_q=0.0)
    if name in ("linear", "relu"):
        np.testing.assert_allclose(density, 1 / (np.pi * 1.5), rtol=1e-6)
        np.testing.assert_allclose(share, atom + (1 - atom) * 0, atol=1e-20)
    else:
        # φ′ passes through 0 with a slope: F ~ r, ρ ~ 1/r, up to 1/log r of the left tail
        np.testing.assert_allclose(share, share[0] / r[0] * r, rtol=0.02, atol=1e-12)
        np.testing.assert_allclose(density * 2 * np.pi * r**2, share, rtol=0.02, atol=1e-12)


@pytest.mark.parametrize(("name", "alpha"), [("tanh", 1.0), ("sigmoid", 1.5), ("erf", 1.3)])
def test_no_seam_where_the_grid_ends(name, alpha):
    """Across e^−30, log F is smooth to third differences, and the density its slope."""
    log_r = -np.arange(26.0, 37.0)
    share = levy.modulus_cdf(name, alpha, 1.5, np.exp(log_r))
    thirds = np.diff(np.log(share), 3)
    assert np.abs(thirds).max() < 1e-3
    assert np.ptp(thirds) < 0.7 * np.abs(thirds).max()
    density = levy.eigenvalue_density(name, alpha, 1.5, np.exp(log_r))
    central = (share[:-2] - share[2:]) / 2
    np.testing.assert_allclose(
        2 * np.pi * np.exp(2 * log_r[1:-1]) * density[1:-1], central, rtol=5e-3
    )


# --- averages ---


@pytest.mark.parametrize("L", [1, 2, 3, 6])
def test_averages_of_the_circular_law(L):
    """F = r²: E|log r|^L = L!/2^L, E(r − 2)^L a polynomial's, the balance two digammas."""
    assert float(levy.jacobian_average("linear", 2.0, 1.0, "log-power", L=L, log_q=0.0)) == (
        pytest.approx((-1) * factorial(L) / 2**L, rel=1e-9)
    )
    poly = np.polynomial.Polynomial([-2, 1]) ** L * np.polynomial.Polynomial([0, 2])
    exact = poly.integ()(1.0)
    ours = levy.jacobian_average("linear", 2.0, 1.0, "shifted-power", L=L, log_q=0.0)
    assert float(ours) == pytest.approx(exact, rel=1e-9)
    ours = levy.jacobian_average("linear", 2.0, 1.0, "balance", L=L, log_q=0.0)
    exact = integrate.quad(lambda r: 2 * r * (r**L - 1) / (r**L + 1), 0, 1)[0]
    assert float(ours) == pytest.approx(exact, rel=1e-8)
    assert float(levy.edge_balance(L)) == pytest.approx(exact, rel=1e-10)


@pytest.mark.parametrize("alpha", [0.7, 1.0, 1.6, 2.0])
def test_averages_against_quadrature_of_the_cdf(alpha):
    """J = f(∞) − ∫ f′F dr, by scipy from the distribution function alone."""
    gain = 1.3

    def cdf(r):
        return float(levy.modulus_cdf("tanh", alpha, gain**alpha, r))

    def slope(r):
        return 2 / (1 + r) ** 2

    breaks = [0, 0.01, 0.1, 0.5, 1, 1.5, 2, 4, 8, 30]
    inner = sum(
        integrate.quad(lambda r: slope(r) * cdf(r), a, b, epsrel=1e-8, epsabs=1e-11)[0]
        for a, b in pairwise(breaks)
    )
    # 1 − F is below 1e-9 beyond 30, but for α < 1
    beyond = integrate.quad(lambda s: cdf(1 / s) * 2 / (1 + s) ** 2, 0, 1 / 30)[0]
    exact = 1 - inner - beyond
    assert float(levy.jacobian_average("tanh", alpha, gain**alpha, "balance")) == (
        pytest.approx(exact, abs=1e-7)
    )
    own = levy.jacobian_average("tanh", alpha, gain**alpha, lambda r: 1 - 2 / (r + 1))
    assert float(own) == pytest.approx(exact, abs=1e-7)


@pytest.mark.parametrize("alpha", [0.6, 1.0, 1.5, 1.99, 2.0])
def test_all_eigenvalues_count_once(alpha):
    gain = np.array([0.1, 1.0, 3.0])
    total = levy.jacobian_average("tanh", alpha, gain**alpha, np.ones_like)
    np.testing.assert_allclose(total, 1, rtol=1e-9)
    middle = levy.jacobian_average("tanh", alpha, gain**alpha, np.ones_like, rarest=0.1)
    np.testing.assert_allclose(middle, 0.8, rtol=1e-8)


def test_the_mean_log_exists_above_alpha_1_only():
    """E log r: −∞ at α ≤ 1 for tanh, finite above, and what a deep cutoff tends to."""
    assert np.isneginf(levy.jacobian_average("tanh", 1.0, 1.5, "log-power"))
    assert np.isneginf(levy.jacobian_average("tanh", 1.9, 1.5**1.9, "log-power", L=2))
    assert np.isfinite(levy.jacobian_average("tanh", 2.0, 2.25, "log-power", L=2))
    alpha, inner = 1.5, np.array([1e-40, 1e-80, 1e-160, 1e-300])
    whole = float(levy.jacobian_average("tanh", alpha, 1.5**alpha, "log-power"))
    cut = np.array(
        [
            float(levy.jacobian_average("tanh", alpha, 1.5**alpha, "log-power", cutoff=(r, np.inf)))
            for r in inner
        ]
    )
    # what is left out falls like (log 1/r)^{1−α}
    order = np.polyfit(np.log(-np.log(inner)), np.log(cut - whole), 1)[0]
    assert order == pytest.approx(1 - alpha, abs=0.02)


def test_a_power_tail_of_slopes_has_every_log_moment():
    """φ′ = 1/(1 + h²) falls like a power, so arctan's small moduli do too."""
    value = float(levy.jacobian_average("arctan", 1.5, 1.5**1.5, "log-power", L=4))
    cut = levy.jacobian_average("arctan", 1.5, 1.5**1.5, "log-power", L=4, cutoff=(1e-60, np.inf))
    assert value == pytest.approx(float(cut), rel=1e-6)


def test_a_large_power_is_ruled_by_what_no_sample_holds():
    """Errata 2: α = 1, gain 1.5, L = 101."""
    whole = float(levy.jacobian_average("tanh", 1.0, 1.5, "shifted-power", L=101))
    below = float(
        levy.jacobian_average("tanh", 1.0, 1.5, "shifted-power", L=101, cutoff=(0.0, 4.0))
    )
    assert whole == pytest.approx(8e114, rel=0.05)
    assert below == pytest.approx(-1.8e29, rel=0.05)
    assert 1 - levy.modulus_cdf("tanh", 1.0, 1.5, 10.0) < 1e-7


@pytest.mark.parametrize(
    ("f", "L"), [("log-power", 1), ("balance", 1), ("balance", 3), ("balance", 6)]
)
def test_averages_peak_at_the_classical_edge(f, L):
    gain = np.arange(10, 61) / 20
    average = levy.jacobian_average("tanh", 2.0, gain**2, f, L=L)
    assert gain[np.argmax(average)] == 1.0
    near = levy.jacobian_average("tanh", 2.0, np.array([0.999, 1.0, 1.003]) ** 2, f, L=L)
    assert np.argmax(near) == 1


# --- the phase diagram ---


@pytest.fixture(scope="module")
def diagram():
    return levy.phase_diagram(alpha=[1.0, 1.4, 1.8, 2.0], gain=np.arange(1, 31) / 10)


def test_the_ordered_lines(diagram):
    q = levy.fixed_point("tanh", diagram.alpha, diagram.ordered**diagram.alpha).q
    np.testing.assert_allclose(q, levy.ORDERED_Q, rtol=1e-8)
    assert np.all(np.diff(diagram.ordered) > 0)
    assert np.all(diagram.ordered_y < diagram.ordered)
    # y from its definition: y = r/u with F and u of the cavity, here r = 1
    for alpha, gain in zip(diagram.alpha[:3], diagram.ordered_y[:3], strict=True):
        log_q = levy.fixed_point("tanh", alpha, gain**alpha).log_q
        law = _cavity.slopes(TANH, float(alpha)).law(np.atleast_1d(log_q))
        y = float(np.exp(-np.log(gain) - law.log_u_anywhere(np.array([-np.log(gain)]))[0]))
        assert y == pytest.approx(0.01 * _cavity.origin(alpha) ** (1 / alpha), rel=1e-6)


def test_the_regime_is_extended_and_closes_at_alpha_2(diagram):
    reach = diagram.reach
    assert reach.max() == 6
    width = (reach > 0).sum(axis=1)
    assert width[0] >= width[1] > width[2] > 1
    assert np.flatnonzero(reach[-1] > 0).tolist() == [9]  # gain 1 alone
    # nothing below the ordered line at α < 2
    for row, ordered in zip(reach[:-1], diagram.ordered[:-1], strict=True):
        assert not row[diagram.gain < ordered].any()


def test_lines_are_where_averages_cross(diagram):
    for family, f in (
        (diagram.log_power, "log-power"),
        (diagram.shifted_power, "shifted-power"),
        (diagram.balance, "balance"),
    ):
        cut = 0.0 if f == "balance" else 0.01
        for k, L in enumerate(family.L):
            for n, alpha in enumerate(diagram.alpha):
                end = family.interval[k, n, 1]
                if np.isfinite(end):
                    value = levy.jacobian_average("tanh", alpha, end**alpha, f, L=L, rarest=cut)
                    assert float(value) == pytest.approx(family.level[k, n], rel=1e-4)
        inner = family.interval[:, :3, 1]
        # for larger L, f₁ and f₂ ask for more
        if f != "balance":
            assert np.all(np.diff(inner, axis=0)[np.isfinite(inner[:-1])] < 0)


def test_what_the_cutoff_decides():
    """f₁ at L = 6: the deeper the cutoff, the less is above the ordered line."""
    areas = [
        (levy.phase_diagram(alpha=[1.3], cutoff=(inner, np.inf), rarest=0.0).reach >= 2).sum()
        for inner in (1e-2, 1e-4, 1e-10)
    ]
    assert areas[0] > areas[1] > areas[2]


def test_cost_grows_linearly_with_points():
    levy.phase_diagram(alpha=[1.5], gain=[0.5, 1.0])
    seconds = []
    for points in (200, 800):
        start = time.process_time()
        levy.phase_diagram(alpha=[1.5], gain=np.linspace(0.05, 3, points), shifted_power=[1])
        seconds.append(time.process_time() - start)
    assert seconds[1] < 6 * seconds[0]


# --- faults ---


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: levy.fixed_point("tanh", 0.5, 1.0), "alpha = 0.5 is out of range"),
        (lambda: levy.fixed_point("tanh", 2.1, 1.0), "alpha = 2.1 is out of range"),
        (lambda: levy.fixed_point("tanh", 1.5, -1.0), "D_w = -1 is out of range"),
        (lambda: levy.fixed_point("tanh", [1.2, 1.4], [1.0, 1.0, 1.0]), "do not broadcast"),
        (lambda: levy.fixed_point("tank", 1.5, 1.0), "did you mean 'tanh'"),
        (lambda: levy.length_map("tanh", 1.5, 30.0, 1.0), "log_q = 30 is out of range"),
        (lambda: levy.length_map("tanh", 1.5, "x", 1.0), "log_q must be a real number"),
        (lambda: levy.modulus_cdf("tanh", 1.5, 0.0, 1.0), "D_w = 0 is out of range"),
        (lambda: levy.modulus_cdf("tanh", 1.5, 1.0, -1.0), "r = -1 is out of range"),
        (lambda: levy.eigenvalue_density("tanh", 1.5, 1.0, 0.0), "r = 0 is out of range"),
        (lambda: levy.modulus_cdf("relu", 2.0, 2.0, 1.0, D_b=1.0), "give log_q"),
        (lambda: levy.jacobian_average("tanh", 1.5, 1.0, "log"), "Unknown average 'log'"),
        (lambda: levy.jacobian_average("tanh", 1.5, 1.0, np.log), "finite at 0"),
        (lambda: levy.jacobian_average("tanh", 1.5, 1.0, "balance", L=0), "L = 0 is out of range"),
        (lambda: levy.jacobian_average("tanh", 1.5, 1.0, "balance", cutoff=(2, 1)), "cutoff"),
        (lambda: levy.jacobian_average("tanh", 1.5, 1.0, "balance", cutoff=3), "cutoff"),
        (lambda: levy.jacobian_average("tanh", 1.5, 1.0, "balance", rarest=0.7), "rarest = 0.7"),
        (lambda: levy.phase_diagram(gain=[1.0, 0.5]), "ascending"),
        (lambda: levy.phase_diagram(gain=[1.0]), "at least two"),
        (lambda: levy.phase_diagram(D_b=0.1), "D_b = 0.1 is out of range"),
        (lambda: levy.phase_diagram(log_power=[0]), "log_power = 0 is out of range"),
    ],
)
def test_faults(call, sentence):
    with np.errstate(divide="ignore"), pytest.raises(ValueError, match=sentence):
        call()
