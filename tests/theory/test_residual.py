"""Residual tanh networks: another discretisation, limits, sampled networks, faults."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from mflib.theory import residual

SETTINGS = [(1.0, 0.05), (0.3, 0.05), (2.5, 0.05), (0.5, 0.0), (1.0, 1.0), (4.0, 0.3)]
weights = st.floats(1e-3, 30.0)
biases = st.floats(1e-6, 10.0)


# --- another discretisation: functions of h by Chebyshev interpolation, steps by Gauss–Legendre --


def chebyshev(n):
    """Return points in (−1, 1) and a map of values there to Chebyshev coefficients."""
    points = np.cos(np.pi * (np.arange(n) + 0.5) / n)
    return points, np.linalg.inv(np.polynomial.chebyshev.chebvander(points, n - 1))


def gaussian(n, end=8.6):
    """Return nodes and weights for a standard Gaussian, from a Gauss–Legendre rule."""
    z, w = np.polynomial.legendre.leggauss(n)
    w = w * np.exp(-((end * z) ** 2) / 2)
    return end * z, w / w.sum()


def backward(q, weight, n=80, nodes=200):
    """Return the matrix of f ↦ E[weight(u) f(tanh u)], u = h + g, on Chebyshev points h."""
    h, coefficients = chebyshev(n)
    z, w = gaussian(nodes)
    u = h[:, None] + np.sqrt(q) * z
    values = np.polynomial.chebyshev.chebvander(np.tanh(u), n - 1) @ coefficients
    return np.einsum("j,ij,ijk->ik", w, weight(u), values), h


def reference(sigma_w2, sigma_b2):
    """Iterate lengths from above; take χ as an eigenvalue of the adjoint on functions of h."""
    z, w = gaussian(200)
    q_h = 1.0
    for _ in range(200):
        q_inner = sigma_b2 + sigma_w2 * q_h
        q = sigma_b2 + sigma_w2 * w @ np.tanh(np.sqrt(q_inner) * z) ** 2
        step, h = backward(q, np.ones_like)
        law = np.linalg.matrix_power(step, 1 << 12)[0]
        previous, q_h = q_h, law @ h**2
        if abs(q_h - previous) < 1e-13:
            break
    sech4, _ = backward(q, lambda u: np.cosh(u) ** -4.0)
    gain = sigma_w2**2 * (w @ np.cosh(np.sqrt(q_inner) * z) ** -4.0)
    # δ(h) ← sech⁴u·(δ + gain·mean): what is gained enters at the stationary law
    gained = gain * np.outer(np.ones(h.size), law @ sech4)
    return q_h, q_inner, q, float(np.abs(np.linalg.eigvals(sech4 + gained)).max())


@pytest.mark.parametrize(("sigma_w2", "sigma_b2"), SETTINGS)
def test_another_discretisation_agrees_to_nine_digits(sigma_w2, sigma_b2):
    q_h, q_inner, q, growth = reference(sigma_w2, sigma_b2)
    point = residual.fixed_point(sigma_w2, sigma_b2)
    assert point.q_h == pytest.approx(q_h, rel=1e-9)
    assert point.q_inner == pytest.approx(q_inner, rel=1e-9)
    assert point.q_step == pytest.approx(q, rel=1e-9)
    assert residual.chi(sigma_w2, sigma_b2) == pytest.approx(growth, rel=1e-9)


# --- convergence of the grid -----------------------------------------------------------------


@pytest.mark.parametrize("q", [1e-8, 1e-3, 0.3, 1.0, 30.0])
def test_the_grid_converges_faster_than_any_power(q):
    """Between 0.75 and 1.5 nodes per deviation the order exceeds 6; at the default it is over."""
    fine = residual._Walk(q, nodes=4.0)
    exact = np.array([fine.q_h, fine.response(1.0)[0]])

    def error(nodes):
        walk = residual._Walk(q, nodes=nodes)
        return np.abs(np.array([walk.q_h, walk.response(1.0)[0]]) / exact - 1)

    coarse, middle = error(0.75), error(1.5)
    assert (np.log2(coarse / np.maximum(middle, 1e-16)) > 6).all()
    assert error(residual._NODES).max() < 1e-10


def test_the_stationary_law_is_one_and_nothing_leaks():
    for q in (1e-8, 0.01, 1.0, 50.0):
        walk = residual._Walk(q)
        columns = walk.band.sum(0)
        assert walk.p.min() >= 0
        assert walk.p.sum() == pytest.approx(1, abs=1e-14)
        assert walk.p @ np.abs(columns - 1) < 1e-11


# --- limits -----------------------------------------------------------------------------------


def diffusion(n=80, end=4.2):
    """Return m = E[x²] and γ* of dx = −x³/3 dt + dW, to which the walk tends as q → 0.

    There h = q^¼ x and a block lasts √q; χ = 1 where σ_w⁴ = γ*√q, with 1/γ* = ∫ p v and
    v″/2 − x³v′/3 − 2x²v = −1 (Chebyshev collocation; v is the solution without exp(x⁴/6)).
    """
    points, coefficients = chebyshev(n)
    chebyshev_t = np.polynomial.chebyshev
    unit = np.eye(n)
    first, second = (
        chebyshev_t.chebval(points, chebyshev_t.chebder(unit, k)).T @ coefficients / end**k
        for k in (1, 2)
    )
    x = end * points
    v = np.linalg.solve(second / 2 - (x**3 / 3)[:, None] * first - np.diag(2 * x**2), -np.ones(n))
    p = np.exp(-(x**4) / 6) * np.sqrt(1 - points**2)  # weights of the Gauss–Chebyshev rule
    p /= p.sum()
    return float(p @ x**2), float(1 / (p @ v))


def test_small_steps_are_a_diffusion_in_a_quartic_well():
    m, gamma = diffusion()
    exact = np.sqrt(6) * special.gamma(0.75) / special.gamma(0.25)
    assert m == pytest.approx(exact, rel=1e-9)
    q = np.array([1e-6, 1e-8, 1e-10])
    walks = [residual._Walk(x) for x in q]
    lengths = np.array([walk.q_h for walk in walks]) / (exact * np.sqrt(q)) - 1
    gains = 1 / (gamma * np.sqrt(q) * np.array([walk.response(1.0)[0] for walk in walks])) - 1
    # what is left is of order √q, the length of a block
    for rest in (lengths, gains):
        assert rest[:-1] / rest[1:] == pytest.approx(10.0, rel=0.02)


def test_the_critical_line_starts_as_the_root_of_the_bias_deviation():
    m, gamma = diffusion()
    amplitude = np.sqrt(gamma) * (1 - gamma * m) ** -0.25
    assert gamma * m < 1
    sigma_b2 = np.array([1e-5, 1e-7, 1e-9, 1e-11])
    ratio = residual.critical_sigma_w2(sigma_b2).sigma_w2 / sigma_b2**0.25
    rest = ratio / amplitude - 1
    assert (np.abs(rest) < sigma_b2**0.25).all()
    assert rest[:-1] / rest[1:] == pytest.approx(np.sqrt(10.0), rel=0.1)
    assert amplitude == pytest.approx(1.6512, abs=1e-4)  # as the docstring says


def test_without_biases_lengths_settle_and_chaos_is_everywhere():
    sigma_w2 = np.array([0.02, 0.1, 0.5, 2.0])
    m, _ = diffusion()
    point = residual.fixed_point(sigma_w2, 0.0)
    assert point.q_h[0] == pytest.approx(m**2 * sigma_w2[0] ** 4 / sigma_w2[0] ** 2, rel=0.05)
    assert (residual.chi(sigma_w2, 0.0) > 1).all()
    line = residual.critical_sigma_w2(0.0)
    assert (line.sigma_w2, line.q_h) == (0, 0)


def test_without_weights_distances_only_shrink():
    """χ is then the rate at which E[∏ sech⁴ u] falls along the walk: check by iterating it."""
    step, _ = backward(0.5, lambda u: np.cosh(u) ** -4.0)
    survived = np.ones(step.shape[0])
    for _ in range(60):
        previous, survived = survived, step @ survived
    assert residual.chi(0.0, 0.5) == pytest.approx(float((survived / previous)[0]), rel=1e-9)
    point = residual.fixed_point(0.0, 0.5)
    assert point.q_step == point.q_inner == 0.5
    nothing = residual.fixed_point(0.0, 0.0)
    assert (nothing.q_h, nothing.q_step, residual.chi(0.0, 0.0)) == (0, 0, 1)


# --- sampled networks ----------------------------------------------------------------------------


def sampled(sigma_w2, sigma_b2, width, seed, blocks=40, skipped=6):
    """Return by block ln of the growth of a tangent vector, and E[h²], of one network."""
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return rng.standard_normal(shape, dtype=np.float32)

    def dense(columns):
        return np.sqrt(sigma_w2 / width) * (draw(width, width) @ columns)

    h = np.tanh(draw(width))
    tangent = draw(width)
    growth, squares = [], []
    for _ in range(blocks):
        z, dz = dense(np.stack([h, tangent], axis=1)).T
        t = np.tanh(z + np.sqrt(sigma_b2) * draw(width))
        g, dg = dense(np.stack([t, (1 - t**2) * dz], axis=1)).T
        h = np.tanh(h + g + np.sqrt(sigma_b2) * draw(width))
        new = (1 - h**2) * (tangent + dg)
        growth.append(np.log(np.mean(new**2) / np.mean(tangent**2)))
        squares.append(np.mean(h**2))
        tangent = new / np.sqrt(np.mean(new**2))
    return np.array(growth[skipped:]), np.array(squares[skipped:])


@pytest.mark.parametrize(("sigma_w2", "sigma_b2"), [(0.3, 0.05), (1.0614, 0.05), (2.5, 0.05)])
def test_wide_networks_grow_distances_by_chi(sigma_w2, sigma_b2):
    """Width 600, three networks: four standard errors of the mean over blocks, and 1/width."""
    runs = [sampled(sigma_w2, sigma_b2, 600, seed) for seed in range(3)]
    growth = np.concatenate([g for g, _ in runs])
    error = 4 * growth.std() / np.sqrt(growth.size) + 10 / 600
    assert error < 0.07
    assert abs(growth.mean() - np.log(residual.chi(sigma_w2, sigma_b2))) < error
    squares = np.array([s.mean() for _, s in runs])
    assert squares.mean() == pytest.approx(
        float(residual.fixed_point(sigma_w2, sigma_b2).q_h), rel=0.05
    )


# --- bounds, order, shapes, faults ----------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(weights, biases)
def test_bounds_hold(sigma_w2, sigma_b2):
    point = residual.fixed_point(sigma_w2, sigma_b2)
    assert 0 < point.q_h < 1
    assert sigma_b2 <= point.q_step <= sigma_b2 + sigma_w2
    assert point.q_inner == pytest.approx(sigma_b2 + sigma_w2 * float(point.q_h), rel=1e-12)
    # a contraction by slopes up to 1, and a gain of at most σ_w⁴
    contraction = residual.chi(0.0, point.q_step)
    assert contraction <= residual.chi(sigma_w2, sigma_b2) * (1 + 1e-12)
    assert residual.chi(sigma_w2, sigma_b2) < 1 + sigma_w2**2


@settings(max_examples=20, deadline=None)
@given(st.floats(1e-8, 30.0))
def test_the_line_separates_order_from_chaos(sigma_b2):
    line = residual.critical_sigma_w2(sigma_b2)
    w = float(line.sigma_w2)
    below, at, above = residual.chi([0.98 * w, w, 1.02 * w], sigma_b2)
    assert at == pytest.approx(1, abs=1e-10)
    assert below < 1 < above
    assert line.q_h == pytest.approx(float(residual.fixed_point(w, sigma_b2).q_h), rel=1e-8)


def test_lengths_rise_concavely_and_the_line_rises_with_the_biases():
    """Concavity is what makes the fixed point unique."""
    q = np.linspace(0.002, 20, 200)
    lengths = np.array([residual._Walk(x).q_h for x in q])
    assert (np.diff(lengths) > 0).all()
    assert (np.diff(lengths, 2) < 0).all()
    assert (np.diff(residual.critical_sigma_w2(np.geomspace(1e-8, 50, 20)).sigma_w2) > 0).all()
    assert (np.diff(residual.fixed_point(np.linspace(0, 5, 20), 0.05).q_h) > 0).all()


def test_results_broadcast_and_do_not_depend_on_their_neighbours():
    w, b = np.array([[0.5], [2.0]]), np.array([0.01, 0.05, 1.0])
    point, growth = residual.fixed_point(w, b), residual.chi(w, b)
    assert point.q_h.shape == point.reason.shape == growth.shape == (2, 3)
    assert growth[1, 2] == residual.chi(2.0, 1.0)
    assert point.q_h[0, 1] == residual.fixed_point(0.5, 0.05).q_h
    assert residual.critical_sigma_w2(b[None]).sigma_w2.shape == (1, 3)
    assert residual.chi([], 0.1).shape == (0,)


def test_what_double_precision_loses_has_a_reason():
    point = residual.fixed_point([1e-4, 1.0], 0.0)
    assert np.isnan(point.q_h).tolist() == [True, False]
    assert "double precision" in point.reason[0]
    assert point.reason[1] == ""
    assert np.isnan(residual.chi(1e-4, 0.0))
    line = residual.critical_sigma_w2(1e-14)
    assert np.isnan(line.sigma_w2)
    assert "double precision" in str(line.reason)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: residual.fixed_point(-1.0, 0.1), r"sigma_w2 = -1 is out of range.*\[0, 400\]"),
        (lambda: residual.chi(1.0, np.nan), "sigma_b2 = nan is out of range"),
        (lambda: residual.chi(1e3, 0.1), r"sigma_w2 = 1000 is out of range.*\[0, 400\]"),
        (lambda: residual.critical_sigma_w2(101.0), r"sigma_b2 = 101 is out of range.*\[0, 100\]"),
        (lambda: residual.chi("a", 0.1), "sigma_w2 must be a real number"),
        (lambda: residual.chi([1.0, 2.0], [0.1, 0.2, 0.3]), "do not broadcast"),
    ],
)
def test_faults_are_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
