"""The symmetric stable law: 30-digit integrals, identities, orders, sampling, fits, faults."""

from __future__ import annotations

import time
from functools import lru_cache

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mpf
from scipy import stats

from mflib.theory import _stable, _stable_fit, _stable_skewed, stable

from . import tolerances

ALPHAS = [0.501, 0.75, 1 - 1e-8, 1.0, 1 + 1e-8, 1.3, 1.7, 1.95, 2 - 1e-6, 2 - 1e-10, 2.0]
NEAR_TWO = [1.99, 2 - 1e-6, 2 - 1e-10, 2 - 2.3e-16]


@lru_cache(maxsize=256)
def integrals(x, alpha, refine=1):
    """Return f, P(X > x) and ∂f/∂α by the Fourier integral along one ray, in 90 digits.

    The trapezoid rule in w, |t| ∝ exp(w − e^{−w}), converges like exp(−c/step), as a test below
    shows. On one ray the power tail is left after cancellation of x^α or, near α = 2, of
    exp(x²/4), for which the digits beyond 30 are.
    """
    with mpmath.workdps(90):
        x, alpha = mpf(float(x)), mpf(alpha)
        angle = mpmath.pi / (4 * max(alpha, 1))
        turn, turn_power = mpmath.expj(angle), mpmath.expj(alpha * angle)
        short = -mpmath.log(1 + x)
        # to where exp(−s^α) or exp(−xs), whichever decays first, is 1e-77 along the ray
        high = mpmath.log(250) / min(alpha, 1) - short
        if x > 1:
            high = min(high, mpmath.log(250) + 1)
        # the strip in which it all stays bounded narrows as alpha nears 2
        step = mpf(1) / (mpf(refine) * (60 if alpha > 1.5 else 30))
        f, tail, by_alpha, w = mpf(0), mpf(0), mpf(0), mpf(-6)
        while w < high:
            grade = mpmath.exp(-w)
            log_s = short + w - grade
            s = mpmath.exp(log_s)
            t, power = s * turn, mpmath.exp(alpha * log_s) * turn_power
            value = mpmath.exp(1j * x * t - power) * (1 + grade)
            f += (value * t).real
            # along the ray dt/t is real; around the pole at 0 an arc makes up the angle
            tail -= value.imag
            by_alpha -= (value * power * mpmath.mpc(log_s, angle) * t).real
            w += step
        tail += (mpmath.pi / 2 - angle) / step
        return tuple(total * step / mpmath.pi for total in (f, tail, by_alpha))


def relative_error(value, exact):
    return float(abs((mpf(float(value)) - exact) / exact))


# --- against 30 digits ---


@pytest.mark.parametrize(("x", "alpha"), [(0.4, 0.501), (0.4, 1.95), (9.0, 1.95)])
def test_reference_has_thirty_digits(x, alpha):
    for coarse, fine in zip(integrals(x, alpha), integrals(x, alpha, 1.5), strict=True):
        with mpmath.workdps(60):
            assert abs(coarse / fine - 1) < mpf(10) ** -30


def test_reference_is_cauchy_and_gauss():
    with mpmath.workdps(40):
        assert abs(integrals(3.0, 1.0)[0] * mpmath.pi * 10 - 1) < mpf(10) ** -30
        assert abs(integrals(3.0, 2.0)[1] / mpmath.erfc(mpf(3) / 2) * 2 - 1) < mpf(10) ** -30


@pytest.mark.parametrize("alpha", ALPHAS)
def test_density_tail_and_score_against_thirty_digits(alpha):
    # from 0 to 1e12, with 20 between, where the tables end and the series begins
    for x in [0.0, 1e-6, 0.02, 0.7, 2.3, 7.0, 19.99, 20.01, 300.0, 1e12]:
        if alpha == 2 and x > 10:
            continue  # more digits than the reference has
        f, tail, by_alpha = integrals(x, alpha)
        assert relative_error(stable.pdf(x, alpha), f) < 1e-12
        assert relative_error(stable.sf(x, alpha), tail) < 1e-12
        assert stable.score(x, alpha)[0] == pytest.approx(float(by_alpha / f), rel=1e-11, abs=1e-11)


@pytest.mark.parametrize("alpha", NEAR_TWO)
def test_where_the_core_meets_the_tail(alpha):
    for x in np.linspace(5.0, 17.0, 5):
        f, tail, _ = integrals(x, alpha)
        assert relative_error(stable.pdf(x, alpha), f) < 1e-12
        assert relative_error(stable.sf(x, alpha), tail) < 1e-12


def test_closed_forms():
    x = np.concatenate([[0.0], np.geomspace(1e-30, 1e30, 400)])
    np.testing.assert_allclose(stable.pdf(x, 1.0), 1 / (np.pi * (1 + x * x)), rtol=1e-13)
    np.testing.assert_allclose(stable.sf(x, 1.0), np.arctan2(1, x) / np.pi, rtol=1e-13)
    x = np.linspace(-30, 30, 400)
    normal = stats.norm(scale=np.sqrt(2))
    np.testing.assert_allclose(stable.logpdf(x, 2.0), normal.logpdf(x), rtol=1e-13)
    np.testing.assert_allclose(stable.cdf(x, 2.0), normal.cdf(x), rtol=1e-12)


@pytest.mark.parametrize("alpha", [0.5, 1.2, 1.9])
def test_far_tail_approaches_the_power_law_at_the_order_of_its_next_term(alpha):
    x = np.array([1e3, 1e4, 1e5]) ** (1 / alpha)
    off = stable.pdf(x, alpha) * x ** (1 + alpha) / stable.tail_constant(alpha) - 1
    slopes = np.diff(np.log(np.abs(off))) / np.diff(np.log(x))
    np.testing.assert_allclose(slopes, -alpha, atol=0.02 * alpha)


def test_tail_constant_just_below_two():
    gap = 2.0**-40
    exact = float(mpmath.gamma(3 - mpf(gap)) * mpmath.sin(mpmath.pi * gap / 2) / mpmath.pi)
    assert stable.tail_constant(2 - gap) == pytest.approx(exact, rel=1e-14)
    assert stable.tail_constant(2.0) == 0


def test_tables_join_without_a_step():
    for alpha in (0.55, 1.0, 1.8, 2 - 1e-9):
        law = _stable.Law(alpha)
        v = np.arange(1, law.panels)
        x = np.sqrt(law._b2 * np.expm1(v / law._per_log))
        left, right = law.at(x * (1 - 1e-14), *range(7)), law.at(x * (1 + 1e-14), *range(7))
        room = np.abs(left) + np.where(np.arange(7) > 1, 1, 0)[:, None] * left[0]
        assert np.all(np.abs(left - right) < 1e-11 * room)


@pytest.mark.parametrize("alpha", [0.6, 1.0, 1.7, 1.97])
def test_second_derivatives_against_differences(alpha):
    x = np.array([0.05, 0.8, 3.0, 11.0, 40.0])

    def rows(d_alpha, d_x, which):
        return _stable.Law(alpha + d_alpha).at(x + d_x, which)[0]

    pairs = [
        (_stable.BY_ALPHA, _stable.BY_ALPHA_ALPHA, 1, 0),
        (_stable.BY_X, _stable.BY_X_ALPHA, 1, 0),
        (_stable.BY_X, _stable.BY_X_X, 0, 1),
        (_stable.BY_ALPHA, _stable.BY_X_ALPHA, 0, 1),
    ]
    for first, second, by_alpha, by_x in pairs:
        exact = _stable.Law(alpha).at(x, second)[0]
        errors = []
        for h in (4e-3, 2e-3):
            if by_x and alpha < 1:
                h /= 10  # the density of small alpha turns over within 0.1
            move = rows(h * by_alpha, h * by_x, first) - rows(-h * by_alpha, -h * by_x, first)
            errors.append(np.abs(move / (2 * h) - exact) / np.abs(exact).max())
        # the error of a central difference falls fourfold, down to rounding
        assert np.all(errors[1] < 0.3 * errors[0] + 1e-10)


# --- identities ---


@pytest.mark.parametrize("alpha", [0.5, 0.9, 1.0, 1.4, 1.9, 2 - 1e-5, 2.0])
def test_density_integrates_to_one_and_to_the_tail(alpha):
    # trapezoid in u, x = sinh(sinh u): exponentially convergent, and out to 1e80
    u = np.linspace(0, 6.0, 1201)
    x = np.sinh(np.sinh(u))
    integrand = stable.pdf(x, alpha) * np.cosh(np.sinh(u)) * np.cosh(u)
    integrand[0] /= 2
    assert 2 * integrand.sum() * (u[1] - u[0]) == pytest.approx(1, abs=tolerances.MASS)
    a = np.array([0.0, 0.3, 4.0, 50.0])[:, None]
    nodes, weights = np.polynomial.legendre.leggauss(60)
    b = a + 1 + a / 4
    inner = (a + b) / 2 + (b - a) / 2 * nodes
    parts = ((b - a)[:, 0] / 2) * (stable.pdf(inner, alpha) @ weights)
    differences = (stable.sf(a, alpha) - stable.sf(b, alpha))[:, 0]
    np.testing.assert_allclose(parts, differences, rtol=1e-8, atol=1e-15)


exponents = st.floats(0.5, 2.0)
places = st.floats(-1e6, 1e6)


@settings(max_examples=60, deadline=None)
@given(exponents, places, st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_symmetry_scaling_and_complements(alpha, x, scale, location):
    f = stable.pdf(location + scale * x, alpha, scale=scale, location=location)
    moved = (location + scale * x - location) / scale
    assert f * scale == pytest.approx(stable.pdf(moved, alpha), rel=1e-12)
    assert stable.pdf(-x, alpha) == stable.pdf(x, alpha)
    assert stable.cdf(x, alpha) == stable.sf(-x, alpha)
    assert stable.cdf(x, alpha) + stable.sf(x, alpha) == pytest.approx(1, abs=4e-15)
    g, back = stable.score(x, alpha), stable.score(-x, alpha)
    np.testing.assert_array_equal(g * [1, 1, -1], back)


@settings(max_examples=60, deadline=None)
@given(exponents, st.floats(1e-100, 0.49))
def test_quantiles_invert_the_tail(alpha, p):
    x = stable.ppf(p, alpha)
    assert stable.cdf(x, alpha) == pytest.approx(p, rel=1e-11)
    assert stable.ppf(1 - p, alpha) == -stable.ppf(1 - (1 - p), alpha)


def test_quantiles_at_the_ends_and_the_middle():
    for alpha in (0.5, 1.3, 2.0):
        np.testing.assert_array_equal(stable.ppf([0.0, 0.5, 1.0], alpha), [-np.inf, 0, np.inf])
    assert stable.ppf(0.75, 1.0, scale=3.0, location=-2.0) == pytest.approx(1.0, rel=1e-13)


def test_many_alphas_at_once_agree_with_one_at_a_time():
    alphas = np.array([0.6, 1.0, 1.5, 2.0])
    x = np.linspace(-30, 30, 101)[:, None]
    for function in (stable.pdf, stable.cdf, stable.logpdf):
        together = function(x, alphas)
        apart = np.stack([function(x[:, 0], a) for a in alphas], axis=1)
        np.testing.assert_array_equal(together, apart)
    assert stable.score(x, alphas).shape == (3, 101, 4)
    assert stable.pdf(np.empty(0), 1.5).shape == (0,)


def test_a_few_points_need_no_table():
    _stable.law.cache_clear()
    alphas = np.linspace(0.6, 1.9, 300)
    few = stable.pdf(1.2, alphas)
    assert all("_table" not in vars(_stable.law(float(a))) for a in alphas[-5:])
    tabled = [stable.pdf(np.full(100, 1.2), a)[0] for a in alphas[::60]]
    np.testing.assert_allclose(few[::60], tabled, rtol=1e-13)


@pytest.mark.parametrize("alpha", [0.7, 1.0, 1.6, 1.98])
def test_score_is_the_slope_of_the_log_density(alpha):
    x = np.array([-40.0, -1.1, 0.2, 3.0, 1e5])
    at = {"alpha": alpha, "scale": 1.7, "location": 0.4}
    exact = stable.score(x, alpha, scale=1.7, location=0.4)
    for row, name in enumerate(at):
        errors = []
        for h in (4e-3, 2e-3):
            up, down = ({**at, name: at[name] + s * h} for s in (1, -1))
            difference = (stable.logpdf(x, **up) - stable.logpdf(x, **down)) / (2 * h)
            errors.append(np.abs(difference - exact[row]))
        assert np.all(errors[1] < 0.3 * errors[0] + 1e-9)


def test_score_keeps_its_limits_far_out():
    for alpha in (0.6, 1.5, 1.999):
        near, far = stable.score(np.array([1e40, 1e200]), alpha).T
        # log f = log c_α − (1 + α) log x
        assert far[0] - near[0] == pytest.approx(-160 * np.log(10), rel=1e-12)
        assert far[1] == pytest.approx(alpha, rel=1e-12)
        assert far[2] == pytest.approx((1 + alpha) * 1e-200, rel=1e-12)


def test_log_density_where_the_density_underflows():
    x = 1e250
    for alpha in (0.8, 1.5, 1.999):
        exact = np.log(stable.tail_constant(alpha)) - (1 + alpha) * np.log(x)
        assert stable.logpdf(x, alpha) == pytest.approx(exact, rel=1e-13)
    assert stable.logpdf(100.0, 2.0) == pytest.approx(-2500 - np.log(4 * np.pi) / 2, rel=1e-14)


def test_speed_beside_scipy():
    x = np.random.default_rng(0).standard_cauchy(200_000)
    stable.pdf(x, 1.5)
    ours = min(_seconds(lambda: stable.pdf(x, 1.5)) for _ in range(3)) / x.size
    theirs = _seconds(lambda: stats.levy_stable.pdf(x[:100], 1.5, 0)) / 100
    assert theirs > 500 * ours


def _seconds(work):
    started = time.process_time()
    work()
    return time.process_time() - started


# --- draws ---


@pytest.mark.parametrize("alpha", [0.5, 0.9, 1 - 1e-9, 1.0, 1 + 1e-9, 1.5, 1.99, 2 - 1e-12, 2.0])
def test_draws_follow_the_law(alpha):
    x = stable.sample(alpha, 20_000, scale=3.0, location=-1.0, rng=np.random.default_rng(5))
    found = stats.kstest(x, lambda at: stable.cdf(at, alpha, scale=3.0, location=-1.0))
    assert found.pvalue > 1e-3  # one seed of nine laws; false alarms once in a hundred seeds


def test_draws_reach_the_far_tail_near_two():
    # beyond 8 the core has 2e-8 of the mass and the tail 1e-3/64: some 16 of 1e6 draws
    gap, n = 1e-3, 1_000_000
    x = stable.sample(2 - gap, n, rng=np.random.default_rng(0))
    expected = 2 * n * float(stable.sf(8.0, 2 - gap))
    assert stats.poisson.sf(np.sum(np.abs(x) > 8) - 1, expected) > 1e-4
    assert stats.poisson.cdf(np.sum(np.abs(x) > 8), expected) > 1e-4


def test_draws_broadcast_and_repeat():
    def draw():
        rng = np.random.default_rng(1)
        return stable.sample([0.8, 2.0], (50, 2), scale=[[1.0]], location=[5.0, 0.0], rng=rng)

    np.testing.assert_array_equal(draw(), draw())
    assert draw().shape == (50, 2)


# --- fits ---


def draws(alpha, n, seed, scale=0.02, location=0.5):
    rng = np.random.default_rng(seed)
    return stable.sample(alpha, n, scale=scale, location=location, rng=rng)


@pytest.mark.parametrize("method", stable.METHODS)
@pytest.mark.parametrize("alpha", [0.8, 1.0, 1.5, 1.9])
def test_fits_recover_the_law(alpha, method):
    found = stable.fit(draws(alpha, 20_000, 3), method=method)
    for name, value in {"alpha": alpha, "scale": 0.02, "location": 0.5}.items():
        # five standard errors: a false alarm in a million
        assert abs(getattr(found, name) - value) < 5 * found.standard_errors[name]
        low, high = found.interval(name)
        assert low < getattr(found, name) < high
    assert found.standard_errors["alpha"] < 0.05


@pytest.mark.parametrize("alpha", [0.8, 1.4, 1.9])
def test_likelihood_fit_is_the_maximum_over_all_values(alpha):
    # 50,000 values: the start is found on a part of them, the end on all
    x = draws(alpha, 50_000, 4)
    found = stable.fit(x)
    at = {"alpha": found.alpha, "scale": found.scale, "location": found.location}
    total = stable.score(x, **at).sum(1)
    errors = np.array([found.standard_errors[name] for name in at])
    # the gradient in standard errors is the distance to the maximum in standard errors
    assert np.all(np.abs(total * errors) < 1e-3)
    assert found.log_likelihood == pytest.approx(stable.logpdf(x, **at).sum(), rel=1e-12)


def test_standard_errors_are_the_observed_information():
    x = draws(1.5, 3000, 5)
    found = stable.fit(x)
    names = ["alpha", "scale", "location"]
    at = {name: getattr(found, name) for name in names}
    information = np.empty((3, 3))
    for row, name in enumerate(names):
        h = 1e-2 * found.standard_errors[name]
        up, down = ({**at, name: at[name] + s * h} for s in (1, -1))
        slope = (stable.score(x, **up) - stable.score(x, **down)).sum(1) / (2 * h)
        information[row] = -slope
    expected = np.sqrt(np.diag(np.linalg.inv(information)))
    np.testing.assert_allclose([found.standard_errors[n] for n in names], expected, rtol=1e-4)


def test_fit_moves_with_scale_and_location():
    x = draws(1.3, 2000, 6, 1.0, 0.0)
    base, moved = stable.fit(x), stable.fit(1e-150 * x)
    assert moved.alpha == pytest.approx(base.alpha, rel=1e-9)
    assert moved.scale == pytest.approx(1e-150 * base.scale, rel=1e-9)
    shifted = stable.fit(1e4 + 7 * x)
    assert shifted.location == pytest.approx(1e4 + 7 * base.location, abs=1e-8)
    assert shifted.log_likelihood == pytest.approx(
        base.log_likelihood - x.size * np.log(7), rel=1e-9
    )
    np.testing.assert_allclose(shifted.interval("alpha"), base.interval("alpha"), rtol=1e-8)


def test_gaussian_samples_are_mostly_at_the_boundary():
    fits = [stable.fit(draws(2.0, 2000, seed)) for seed in range(20)]
    at = sum(found.at_boundary for found in fits)
    # nine in ten, or six in seven: 9 of 20 or fewer has a chance of 4e-5
    assert at > 9
    for found in fits:
        assert found.at_boundary == (found.alpha == 2)
        low, high = found.interval("alpha")
        assert 1.8 < low < found.alpha <= high
        if found.at_boundary:
            assert np.isnan(found.standard_errors["alpha"])
            assert high == 2
            assert found.standard_errors["location"] == pytest.approx(
                found.scale * np.sqrt(2 / 2000), rel=1e-9
            )


def test_one_outlier_takes_gaussian_data_off_the_boundary():
    x = np.append(draws(2.0, 1000, 1, 1.0, 0.0), 1e3)
    found = stable.fit(x)
    assert not found.at_boundary
    assert found.interval("alpha")[1] < 2
    assert found.log_likelihood - stable.logpdf(x, 2.0, scale=np.std(x) / 2**0.5).sum() > 100


@pytest.mark.parametrize(
    ("alpha", "n", "method"),
    [
        (1.0, 500, "likelihood"),
        (1.7, 500, "likelihood"),
        (2.0, 500, "likelihood"),
        (1.2, 500, "quantiles"),
        (2.0, 500, "quantiles"),
    ],
)
def test_intervals_cover(alpha, n, method):
    covered = {"alpha": 0, "scale": 0, "location": 0}
    for seed in range(24):
        found = stable.fit(draws(alpha, n, [seed, 9]), method=method)
        for name, value in {"alpha": alpha, "scale": 0.02, "location": 0.5}.items():
            low, high = found.interval(name)
            covered[name] += low <= value <= high
    for name, count in covered.items():
        # of 24 at 95 %: fewer than 17 has a chance of 2e-5
        assert count >= 17, name


def test_boundary_drop_is_the_gaussian_samples_own():
    n, repeats, tail = 500, 150, 0.03
    drop = _stable_fit.boundary_drop(n, tail)
    over = 0
    for seed in range(repeats):
        x = draws(2.0, n, [seed, 2])
        flat = _stable_fit.gaussian(x)
        if not _stable_fit.rises_to_two(x, flat):
            over += 2 * (_stable_fit.best(x).value - flat.value) > drop
    # leading order in 1/log n: right within a factor of two, beside the count's own error
    assert stats.poisson.sf(over - 1, 2 * tail * repeats) > 1e-3
    assert stats.poisson.cdf(over, 0.5 * tail * repeats) > 1e-3


def test_fit_of_650_000_entries_is_fast():
    x = draws(1.8, 650_000, 0)
    stable.fit(draws(1.5, 1000, 0))
    assert _seconds(lambda: stable.fit(x)) < 3.0


# --- the skewed law ---


def skewed_integral(x, alpha, beta):
    """Return the density at x by the Fourier integral on the real axis, in Nolan's form."""
    with mpmath.workdps(30):
        x, alpha, beta = mpf(float(x)), mpf(alpha), mpf(beta)

        def integrand(log_t):
            t = mpmath.exp(log_t)
            if alpha == 1:
                bent = 2 / mpmath.pi * t * log_t
            else:
                bent = mpmath.tan(mpmath.pi * alpha / 2) * (t - t**alpha)
            return t * mpmath.cos(x * t + beta * bent) * mpmath.exp(-(t**alpha))

        end = mpmath.log(40) / alpha
        pieces = [-60, -8, -3, -1, 0, *mpmath.linspace(end / 10, end, 10)]
        return mpmath.quad(integrand, pieces) / mpmath.pi


@pytest.mark.parametrize(("alpha", "beta"), [(0.8, 0.7), (1.0, -0.5), (1.6, 0.9)])
def test_skewed_density_against_the_fourier_integral(alpha, beta):
    x = np.array([-6.0, -1.3, 0.4, 5.0])
    law = _stable_skewed.Law(alpha, beta, 10.0)
    exact = [float(skewed_integral(at, alpha, beta)) for at in x]
    # beside the density's largest value: in the light tail half the digits cancel
    np.testing.assert_allclose(law.density(x), exact, rtol=1e-7, atol=1e-8)


def test_skewed_law_without_skew_is_the_symmetric_one():
    x = np.concatenate([-np.geomspace(1e-3, 1e6, 40), np.geomspace(1e-3, 1e6, 40)])
    for alpha in (0.6, 1.0, 1.5, 1.95):
        law = _stable_skewed.Law(alpha, 0.0, 1e6)
        np.testing.assert_allclose(law.density(x), stable.pdf(x, alpha), rtol=1e-7)


def test_skewed_law_has_mass_one_and_its_tails():
    for alpha, beta in ((0.7, -0.6), (1.3, 0.8)):
        u = np.linspace(-18, 18, 4001)
        f = _stable_skewed.Law(alpha, beta, np.sinh(18.0)).density(np.sinh(u)) * np.cosh(u)
        # what lies beyond sinh 18 is a power of it
        missing = 2 * np.sinh(18.0) ** -alpha
        assert f.sum() * (u[1] - u[0]) == pytest.approx(1, abs=1e-7 + missing)
        right, left = (_stable_skewed.Law.tail(np.array([1e6]), alpha, s * beta) for s in (1, -1))
        assert (right / left).item() == pytest.approx((1 + beta) / (1 - beta), rel=1e-3)


def skewed_draws(alpha, beta, n, seed):
    # scipy's draws in its S1 form, moved to Nolan's
    rng = np.random.default_rng(seed)
    draw = stats.levy_stable.rvs(alpha, beta, size=n, random_state=rng)
    return draw - beta * np.tan(np.pi * alpha / 2)


@pytest.mark.parametrize("method", stable.METHODS)
@pytest.mark.parametrize(("alpha", "beta"), [(1.5, 0.5), (0.9, -0.6), (1.8, 0.0)])
def test_skewed_fits_recover_the_law(alpha, beta, method):
    x = 0.2 * skewed_draws(alpha, beta, 6000, 1) - 3.0
    found = stable.fit(x, method=method, skewed=True)
    for name, value in {"alpha": alpha, "beta": beta, "scale": 0.2, "location": -3.0}.items():
        assert abs(getattr(found, name) - value) < 5 * found.standard_errors[name]
        low, high = found.interval(name)
        assert low < getattr(found, name) < high
    assert found.standard_errors["beta"] < 0.2


def test_skewed_likelihood_is_no_lower_and_binning_does_not_move_it():
    x = draws(1.4, 8000, 2)
    symmetric, found = stable.fit(x), stable.fit(x, skewed=True)
    # twice the rise is a chi-squared of one degree: beyond 20 once in 1e5
    assert -1e-3 < found.log_likelihood - symmetric.log_likelihood < 10
    z = (x - 0.5) / 0.04
    places, counts = _stable_skewed.binned(z)
    assert places.size < z.size
    assert counts.sum() == z.size
    assert counts @ places == pytest.approx(z.sum(), rel=1e-9)
    theta, step = np.array([1.4, 0.1, -0.7, 0.0]), np.array([1e-3, 0, 0, 0])
    rises = []
    for data in ((places, counts), (z, np.ones_like(z))):
        likelihood = _stable_skewed.Likelihood(*data)
        rises.append((likelihood(theta + step) - likelihood(theta - step)) / 2e-3)
    # the slope moves by less than a thousandth of its standard deviation, 1/error
    assert abs(rises[0] - rises[1]) < 1e-3 / found.standard_errors["alpha"]


def test_gaussian_data_have_no_skewness_to_fit():
    found = stable.fit(draws(2.0, 1000, 0), skewed=True)
    assert found.beta == 0
    assert np.isnan(found.standard_errors["beta"])
    assert found.interval("beta") == (-1, 1)


# --- quantiles and speed ---


def test_quantile_fit_is_exact_for_exact_quantiles():
    for alpha in (0.6, 1.0, 1.55, 2.0):
        q = stable.ppf(_stable_fit.LEVELS, alpha, scale=0.3, location=7.0)
        found = _stable_fit.by_quantiles(q)
        np.testing.assert_allclose(found, [alpha, 0.3, 7.0], rtol=1e-7)


def test_fit_prints_and_names_its_parameters():
    found = stable.fit(draws(1.5, 500, 1))
    assert str(found).startswith("Stable law of 500 values by likelihood: alpha = 1.")
    with pytest.raises(ValueError, match=r"'gamma' is not a parameter of this fit"):
        found.interval("gamma")


# --- faults ---


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: stable.pdf(0.0, 0.4), r"alpha = 0\.4 is out of range: .*\[0\.5, 2\]"),
        (lambda: stable.pdf(0.0, 2.1), r"alpha = 2\.1 is out of range"),
        (lambda: stable.cdf(np.nan, 1.5), r"x = nan is out of range"),
        (lambda: stable.sf(1.0, 1.5, scale=0.0), r"scale = 0 is out of range"),
        (lambda: stable.ppf(1.2, 1.5), r"p = 1\.2 is out of range"),
        (lambda: stable.pdf([1.0, 2.0], [1.0, 1.2, 1.4]), r"x \(2,\), alpha \(3,\)"),
        (lambda: stable.sample(1.5, 3, rng=0), r"rng = 0 must be a numpy\.random\.Generator"),
        (lambda: stable.fit([1.0, np.inf] * 20), r"x = inf is out of range"),
        (lambda: stable.fit(np.arange(5.0)), r"x has 5 values: a fit needs at least 20"),
        (lambda: stable.fit(np.full(100, 0.1)), r"half of the 100 values of x are 0\.1"),
        (
            lambda: stable.fit(np.append(np.arange(50.0), 1e80)),
            r"furthest value of x is 4\.\de\+78",
        ),
        (
            lambda: stable.fit(np.append(draws(1.0, 600, 0), np.full(400, 0.5))),
            r"grows without bound",
        ),
        (lambda: stable.fit(np.arange(50), method="moments"), r"method = 'moments' is not one of"),
        (lambda: stable.fit(np.arange(50), level=95), r"level = 95 is out of range"),
        (lambda: stable.tail_constant("a"), r"alpha must be a real number"),
    ],
)
def test_faults(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
