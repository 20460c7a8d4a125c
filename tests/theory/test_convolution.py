"""The covariance map, its fixed point, the modes' eigenvalues and the measured relaxation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf

from mflib.theory import activations, convolution, gaussian, mean_field

from . import reference

# (activation, σ_w², σ_b²): c* = 1 and c* < 1, odd and not, smooth and with kinks
ORDERED = [("tanh", 1.3, 0.05), ("relu", 1.5, 0.2), ("sigmoid", 6.0, 0.3), ("gelu", 1.2, 0.1)]
CHAOTIC = [
    ("tanh", 2.5, 0.05),
    ("erf", 2.0, 0.1),
    ("sigmoid", 150.0, 0.05),
    ("hard-tanh", 2.5, 0.05),
]
SKEW = np.array([0.5, 0.3, 0.2])


def uniform(size):
    return convolution.kernel_variances("uniform", size)


def delta(size):
    return convolution.kernel_variances("delta", size)


def covariance(positions, seed, scale=1.0):
    """Return a random positive definite covariance, (*positions, *positions)."""
    count = int(np.prod(positions))
    x = np.random.default_rng(seed).standard_normal((count, 2 * count))
    return (scale * x @ x.T / x.shape[1]).reshape(tuple(positions) * 2)


def averaged_by_loops(sigma, v):
    """Return A ⋆ Σ written out, index by index."""
    positions = sigma.shape[: v.ndim]
    out = np.zeros_like(sigma)
    everywhere = list(np.ndindex(*positions))
    for a, b in itertools.product(everywhere, everywhere):
        for index in np.ndindex(*v.shape):
            shift = [i - s // 2 for i, s in zip(index, v.shape, strict=True)]
            moved = [
                tuple((x + s) % n for x, s, n in zip(place, shift, positions, strict=True))
                for place in (a, b)
            ]
            out[a + b] += v[index] * sigma[moved[0] + moved[1]]
    return out


# --- kernels and modes ---------------------------------------------------------------------------


def random_kernel(shape, seed):
    return np.random.default_rng(seed).dirichlet(np.ones(int(np.prod(shape)))).reshape(shape)


@pytest.mark.parametrize(
    ("positions", "shape"), [((5,), (3,)), ((7,), (7,)), ((3, 4), (3, 1)), ((5, 3), (3, 3))]
)
def test_the_average_is_the_sum_over_the_kernel(positions, shape):
    v = random_kernel(shape, seed=3)
    sigma = covariance(positions, seed=4)
    np.testing.assert_allclose(
        convolution.average(sigma, v), averaged_by_loops(sigma, v), rtol=0, atol=1e-15
    )
    stacked = np.stack([sigma, 2 * sigma])
    np.testing.assert_array_equal(
        convolution.average(stacked, v)[1], 2 * convolution.average(sigma, v)
    )


@pytest.mark.parametrize(
    ("positions", "shape"),
    [((1,), (1,)), ((6,), (3,)), ((7,), (5,)), ((4, 3), (3, 3)), ((3, 5), (1, 5))],
)
def test_mode_eigenvalues_are_those_of_the_circulant(positions, shape):
    """Each mode is an eigenvector of the averaging of the α dependence, with λ_k."""
    v = random_kernel(shape, seed=8)
    matrix = convolution.circulant(v, positions)
    values = convolution.mode_eigenvalues(v, positions)
    grid = np.stack(np.unravel_index(np.arange(matrix.shape[0]), positions))
    for k in range(matrix.shape[0]):
        phase = np.sum(grid * (grid[:, k] / np.array(positions))[:, None], axis=0)
        mode = np.exp(2j * np.pi * phase)
        np.testing.assert_allclose(matrix @ mode, values.ravel()[k] * mode, atol=1e-14)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-14)


def test_the_eigenvalues_of_a_are_not_those_of_the_modes():
    """Eq. 15's A has the eigenvalue 1/(2k+1) only; the modes of A ⋆ are a Dirichlet kernel."""
    size, n = 5, 9
    of_a = np.linalg.eigvalsh(np.diag(uniform(size)))
    np.testing.assert_array_equal(of_a, np.full(size, 1 / size))
    x = np.pi * np.arange(1, n) / n
    dirichlet = np.concatenate([[1.0], np.sin(size * x) / (size * np.sin(x))])
    values = convolution.mode_eigenvalues(uniform(size), n)
    np.testing.assert_allclose(values, dirichlet, atol=1e-15)
    on_circle = np.linalg.eigvalsh(convolution.circulant(uniform(size), n))
    np.testing.assert_allclose(on_circle, np.sort(dirichlet), atol=1e-14)
    assert not np.any(np.isclose(of_a[0], dirichlet))


def test_modes_that_vanish_or_stay_are_exact():
    assert np.flatnonzero(convolution.mode_eigenvalues(uniform(3), 9) == 0).tolist() == [3, 6]
    assert np.all(convolution.mode_eigenvalues(delta((3, 5)), (6, 7)) == 1)
    shift = convolution.mode_eigenvalues([0.0, 0.0, 1.0], 7)
    np.testing.assert_allclose(shift, np.exp(2j * np.pi * np.arange(7) / 7), atol=1e-15)
    assert np.all(np.abs(np.log(np.abs(shift))) < 3e-16)


def test_a_separable_kernel_has_the_outer_product_of_eigenvalues():
    rows, columns = random_kernel((3,), 1), random_kernel((5,), 2)
    both = convolution.mode_eigenvalues(np.multiply.outer(rows, columns), (4, 6))
    expected = np.multiply.outer(
        convolution.mode_eigenvalues(rows, 4), convolution.mode_eigenvalues(columns, 6)
    )
    np.testing.assert_allclose(both, expected, atol=1e-15)


@given(st.integers(1, 4), st.integers(0, 6), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_no_mode_grows_and_the_mean_stays(half, more, seed):
    size = 2 * half - 1
    values = convolution.mode_eigenvalues(random_kernel((size,), seed), size + more)
    assert values[0] == 1
    assert np.all(np.abs(values) <= 1 + 1e-15)
    # v is real, so that modes k and −k are conjugate
    np.testing.assert_allclose(np.roll(values[::-1], 1), values.conj(), atol=1e-15)


# --- the map -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", activations.names())
def test_one_position_is_the_length_map(name):
    q = np.array([0.0, 1e-6, 0.7, 5.0])
    ours = convolution.covariance_map(name, q[:, None, None], 1.7, 0.3, [1.0])
    np.testing.assert_allclose(
        ours[:, 0, 0], mean_field.length_map(name, q, 1.7, 0.3), rtol=1e-15, atol=0
    )


@pytest.mark.parametrize("name", activations.names())
def test_equal_variances_and_a_delta_kernel_are_the_correlation_map(name):
    n, q = 6, 1.4
    cosine = np.cos(2 * np.pi * np.subtract.outer(np.arange(n), np.arange(n)) / n)
    sigma = q * (0.5 * np.eye(n) + 0.2 + 0.3 * cosine)
    ours = convolution.covariance_map(name, sigma, 1.7, 0.3, delta(3))
    length = mean_field.length_map(name, q, 1.7, 0.3)
    expected = mean_field.correlation_map(name, sigma / q, 1.7, 0.3, q_a=q)
    np.testing.assert_allclose(ours / length, expected, atol=2e-14)
    np.testing.assert_array_equal(ours, ours.T)


@pytest.mark.parametrize("name", ["tanh", "relu", "sigmoid", "softsign", "hard-tanh"])
def test_unequal_variances_agree_with_independent_quadrature(name):
    act = activations.get(name)
    v, sigma = SKEW, covariance((3,), seed=5, scale=1.5)
    inner = np.empty((3, 3))
    for a, b in np.ndindex(3, 3):
        c = min(sigma[a, b] / math.sqrt(sigma[a, a] * sigma[b, b]), 1.0)
        pair = gaussian.pair_expectation(
            act, act, sigma[a, a], sigma[b, b], c, kinks_f=act.kinks, kinks_g=act.kinks
        )
        inner[a, b] = 1.8 * pair.value + 0.1
    ours = convolution.covariance_map(name, sigma, 1.8, 0.1, v)
    np.testing.assert_allclose(ours, averaged_by_loops(inner, v), rtol=1e-12)


def test_the_map_agrees_with_high_precision_at_unequal_variances():
    """E[φ(h_1)φ(h_2)] for tanh by the trapezoidal rule in 20 digits.

    The nearest pole of tanh(√1.3 z) is 1.38 from the real axis: spacing 0.15 leaves
    exp(−2π·1.38/0.15) ≈ 1e-25, and the end at 8.25 deviations 1e-15.
    """
    sigma = np.array([[1.3, 0.6], [0.6, 0.8]])
    first, second, shared = (mpf(float(sigma[i])) for i in ((0, 0), (1, 1), (0, 1)))
    with mp.workdps(20):
        z = [mpf("0.15") * k for k in range(-55, 56)]
        weight = [mpf("0.15") * mp.npdf(x) for x in z]
        root, rest = mp.sqrt(first), mp.sqrt(second - shared**2 / first)
        inner = [mp.fdot(weight, [mp.tanh(shared / root * x + rest * y) for y in z]) for x in z]
        overlap = mp.fdot([w * mp.tanh(root * x) for w, x in zip(weight, z, strict=True)], inner)
    ours = convolution.covariance_map("tanh", sigma, 1.0, 0.0, [1.0])
    assert abs(float(overlap) / ours[0, 1] - 1) < 1e-13
    assert abs(float(reference.square("tanh", first)) / ours[0, 0] - 1) < 1e-14


def test_positions_without_variance_keep_a_constant():
    sigma = np.diag([0.0, 2.0, 0.5])
    ours = convolution.covariance_map("sigmoid", sigma, 1.0, 0.0, [1.0])
    mean = float(gaussian.expectation(activations.get("sigmoid"), 2.0).value)
    assert ours[0, 0] == 0.25
    assert ours[0, 1] == pytest.approx(0.5 * mean, rel=1e-13)
    assert np.all(convolution.covariance_map("tanh", np.zeros((3, 3)), 2.0, 0.0, SKEW) == 0)


def test_a_batch_is_its_members():
    sigma = np.stack([covariance((3, 3), seed) for seed in range(4)]).reshape(2, 2, 3, 3, 3, 3)
    w = np.array([[0.5], [2.0]])
    v = random_kernel((3, 3), 0)
    together = convolution.covariance_map("tanh", sigma, w, 0.1, v)
    assert together.shape == sigma.shape
    for i, j in np.ndindex(2, 2):
        alone = convolution.covariance_map("tanh", sigma[i, j], w[i, 0], 0.1, v)
        np.testing.assert_allclose(together[i, j], alone, rtol=1e-13)


@given(
    st.sampled_from(["tanh", "relu", "erf", "gelu", "linear"]),
    st.floats(0, 4),
    st.floats(0, 2),
    st.integers(0, 10**6),
    st.sampled_from([(1,), (4,), (5,), (2, 3)]),
)
@settings(max_examples=60, deadline=None)
def test_the_map_keeps_covariances_and_commutes_with_shifts(name, w, b, seed, positions):
    rank_one = seed % 3 == 0
    sigma = covariance(positions, seed)
    if rank_one:
        x = np.random.default_rng(seed).standard_normal(positions)
        sigma = np.multiply.outer(x, x)
    v = random_kernel(tuple(n - 1 + n % 2 for n in positions), seed + 1)
    image = convolution.covariance_map(name, sigma, w, b, v)
    count = int(np.prod(positions))
    flat = image.reshape(count, count)
    assert np.linalg.eigvalsh(flat)[0] >= -1e-12 * max(np.abs(flat).max(), 1e-300)
    axes = tuple(range(2 * v.ndim))
    moved = convolution.covariance_map(name, np.roll(sigma, 1, axes), w, b, v)
    np.testing.assert_allclose(moved, np.roll(image, 1, axes), rtol=1e-12, atol=1e-15)


def test_images_become_the_covariance_of_drawn_stems():
    """Theory against sampling: the mean over drawn kernels, within five standard errors."""
    rng = np.random.default_rng(2)
    images = rng.standard_normal((2, 3, 4, 3))
    v = random_kernel((3, 3), 6)
    ours = convolution.image_covariance(images, 1.7, 0.2, v)
    assert ours.shape == (2, 4, 3, 4, 3)
    draws = 40_000
    kernels = rng.standard_normal((draws, 3, 3, 3)) * np.sqrt(1.7 * v / 3)
    h = np.zeros((draws, 4, 3)) + math.sqrt(0.2) * rng.standard_normal((draws, 1, 1))
    for i, j in np.ndindex(3, 3):
        h += np.einsum(
            "nc,cab->nab", kernels[:, :, i, j], np.roll(images[1], (1 - i, 1 - j), (1, 2))
        )
    h = h.reshape(draws, -1)
    exact = ours[1].reshape(12, 12)
    error = np.sqrt((np.outer(exact.diagonal(), exact.diagonal()) + exact**2) / draws)
    assert np.all(np.abs(h.T @ h / draws - exact) < 5 * error)
    ring = convolution.image_covariance(images[0, :, :, 0], 1.7, 0.2, SKEW)
    assert ring.shape == (4, 4)


# --- the fixed point -----------------------------------------------------------------------------


@pytest.mark.parametrize("setting", ORDERED + CHAOTIC, ids=str)
@pytest.mark.parametrize("v", [uniform(3), SKEW, uniform((3, 3))], ids=["uniform", "skew", "torus"])
def test_the_fixed_point_is_one_for_every_kernel(setting, v):
    point = convolution.fixed_point(*setting)
    size = (4, 3)[: v.ndim]
    star = point.covariance(size)
    np.testing.assert_allclose(
        convolution.covariance_map(setting[0], star, *setting[1:], v), star, rtol=1e-12
    )


def test_chi_q_and_chi_c_agree_with_thirty_digits():
    for name, w, b in (("tanh", 2.5, 0.05), ("erf", 2.0, 0.1)):
        point = convolution.fixed_point(name, w, b)
        exact = reference.solve(name, w, b, float(point.q), 1 - float(point.c))
        assert abs(float(point.chi_q) / float(exact.chi_q) - 1) < 1e-10
        assert abs(float(point.chi_c) / float(exact.chi_c) - 1) < 1e-8


def test_the_fixed_point_broadcasts_and_gives_reasons():
    point = convolution.fixed_point("relu", [1.0, 2.5], [[0.1], [0.2]])
    assert point.q.shape == point.chi_q.shape == point.reason.shape == (2, 2)
    assert np.isnan(point.chi_q[:, 1]).all()
    assert "no fixed point" in str(point.reason[0, 1])
    assert point.covariance((2, 3)).shape == (2, 2, 2, 3, 2, 3)


@pytest.mark.parametrize("v", [uniform(3), delta(3), SKEW], ids=["uniform", "delta", "skew"])
@pytest.mark.parametrize("setting", CHAOTIC, ids=str)
def test_the_whole_spectrum_of_the_jacobian(setting, v):
    """Central differences over all symmetric Σ: n values χ_q λ_k, and χ_c λ_k for each pair.

    Step h leaves h² of the third derivative and 1e-14/h of rounding: about 1e-9 for h = 1e-5.
    """
    name, w, b = setting
    n, h = 5, 1e-5
    point = convolution.fixed_point(name, w, b)
    star = point.covariance(n)
    pairs = list(itertools.combinations_with_replacement(range(n), 2))
    i, j = np.array(pairs).T
    columns = []
    for a, c in pairs:
        step = np.zeros((n, n))
        step[a, c] = step[c, a] = h * float(point.q)
        ahead, back = (convolution.covariance_map(name, star + s * step, w, b, v) for s in (1, -1))
        columns.append((ahead - back)[i, j] / (2 * h * float(point.q)))
    measured = np.linalg.eigvals(np.array(columns).T)
    modes = convolution.mode_eigenvalues(v, n)
    # n(n−1)/2 pairs on an odd ring: (n − 1)/2 differences, each with all n modes
    predicted = np.concatenate([point.chi_q * modes, np.tile(point.chi_c * modes, (n - 1) // 2)])
    assert measured.size == predicted.size
    for value in predicted:
        nearest = np.argmin(np.abs(measured - value))
        # a defective eigenvalue of multiplicity m moves by the m-th root of the error
        assert abs(measured[nearest] - value) < 2e-6
        measured = np.delete(measured, nearest)


# --- depth scales --------------------------------------------------------------------------------


def test_depth_scales_are_minus_one_over_the_logarithm():
    v = random_kernel((3, 3), 4)
    w = np.array([1.2, 2.5])
    ours = convolution.depth_scales("tanh", w, 0.05, v, (5, 4))
    point = convolution.fixed_point("tanh", w, 0.05)
    assert ours.xi_c.shape == ours.xi_q.shape == (2, 5, 4)
    for i in range(2):
        size = np.abs(ours.eigenvalues)
        np.testing.assert_allclose(ours.xi_c[i], -1 / np.log(point.chi_c[i] * size), rtol=1e-9)
        np.testing.assert_allclose(ours.xi_q[i], -1 / np.log(point.chi_q[i] * size), rtol=1e-9)


def test_delta_kernels_carry_every_mode_on_the_critical_line_and_uniform_ones_the_mean():
    w = float(mean_field.critical_sigma_w2("tanh", 0.05).sigma_w2)
    assert np.all(np.isinf(convolution.depth_scales("tanh", w, 0.05, delta(3), 8).xi_c))
    wide = convolution.depth_scales("tanh", w, 0.05, uniform(3), 9)
    assert np.isinf(wide.xi_c[0])
    assert np.all(np.isfinite(wide.xi_c[1:]))
    assert np.flatnonzero(wide.xi_c == 0).tolist() == [3, 6]
    assert np.all(np.isfinite(wide.xi_q))


# --- relaxation ----------------------------------------------------------------------------------

KERNELS = {"uniform": uniform(3), "delta": delta(3), "skew": SKEW}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("setting", ORDERED + CHAOTIC, ids=str)
def test_measured_rates_are_the_predicted_ones(setting, kernel):
    """From far away: every clean amplitude within its own error, which late layers make small.

    Twice that error is allowed: where an amplitude meets rounding early, it is an estimate.
    """
    path = convolution.relaxation(*setting, KERNELS[kernel], covariance((5,), seed=1), 120)
    rates = convolution.measured_rates(path)
    clean = rates.clean
    assert clean.sum() >= 15
    assert np.all(np.isfinite(rates.error[clean]))
    assert np.all(np.abs(rates.rate - rates.predicted)[clean] <= 2 * rates.error[clean])
    assert np.median(rates.error[clean]) < 0.01
    if kernel == "delta":
        assert clean.all()


@pytest.mark.parametrize("kernel", [*KERNELS, "torus", "separable"])
@pytest.mark.parametrize("setting", CHAOTIC + ORDERED[:1] + ORDERED[2:], ids=str)
def test_rates_close_to_the_fixed_point_have_six_digits(setting, kernel):
    """From a distance of 1e-7 q*, products and rounding leave 1e-7 to 1e-6; 1e-5 is asked."""
    torus = {"torus": random_kernel((3, 3), 9), "separable": np.multiply.outer(SKEW, delta(3))}
    v = KERNELS.get(kernel, torus.get(kernel))
    positions = (5,) if v.ndim == 1 else (4, 3)
    point = convolution.fixed_point(*setting)
    start = point.covariance(positions) + 1e-7 * float(point.q) * covariance(positions, seed=12)
    rates = convolution.measured_rates(convolution.relaxation(*setting, v, start, 30))
    clean = rates.clean & np.isfinite(rates.error)
    assert clean.sum() >= 0.3 * clean.size
    assert np.all(np.abs(rates.rate - rates.predicted)[clean] < 1e-5)


def test_the_first_step_misses_its_rate_in_proportion_to_the_distance():
    """The nonlinear terms are of second order: the first ratio's error falls as the distance."""
    star = convolution.fixed_point("tanh", 2.5, 0.05).covariance(5)
    away = covariance((5,), seed=3) - 0.8
    distances = np.array([1e-2, 1e-3, 1e-4])
    misses = []
    for distance in distances:
        path = convolution.relaxation("tanh", 2.5, 0.05, SKEW, star + distance * away, 1)
        ratio = path.amplitudes[1] / path.amplitudes[0]
        misses.append(np.abs(ratio - path.predicted).max())
    slope = np.polyfit(np.log(distances), np.log(misses), 1)[0]
    assert abs(slope - 1) < 0.1


def test_plain_covariances_are_forced_by_variances_and_amplitudes_are_not():
    """Where χ_q > χ_c the plain mode of Σ_{α,α+d} decays as χ_q in the end; the amplitude never.

    φ = √(1 + x²) has E[φ²] = 1 + q, so that χ_q = σ_w².
    """
    act = activations.from_callable(lambda x: np.sqrt(1 + x * x), name="hyperbola")
    point = convolution.fixed_point(act, 0.5, 0.1)
    assert float(point.chi_q) == pytest.approx(0.5, rel=1e-13)
    assert point.chi_c < 0.3
    start = point.covariance(3) + 1e-3 * covariance((3,), seed=0)
    path = convolution.relaxation(act, 0.5, 0.1, delta(1), start, 12)
    plain = (path.sigma - point.covariance(3))[:, 0, 1]
    assert plain[-1] / plain[-2] == pytest.approx(0.5, rel=1e-3)
    amplitude = path.amplitudes[:, 1, 0]
    assert amplitude[7] / amplitude[6] == pytest.approx(float(point.chi_c), rel=1e-3)


def test_a_linear_network_relaxes_exactly():
    """For φ = 1 the map is affine: every ratio of every layer is σ_w² λ_k."""
    path = convolution.relaxation("linear", 0.8, 0.3, SKEW, covariance((4,), seed=2), 6)
    ratio = path.amplitudes[1:] / path.amplitudes[:-1]
    target = 0.8 * convolution.mode_eigenvalues(SKEW, 4)
    np.testing.assert_allclose(ratio, np.broadcast_to(target, ratio.shape), rtol=1e-9)


@given(
    st.sampled_from(["erf", "gelu", "relu"]),
    st.floats(0.2, 1.8),
    st.floats(0.02, 2.0),
    st.sampled_from([((5,), (5,)), ((4,), (3,)), ((3, 2), (3, 1))]),
    st.integers(0, 10**6),
)
@settings(max_examples=40, deadline=None)
def test_rates_are_the_predicted_ones_for_any_kernel_and_variances(name, w, b, shapes, seed):
    positions, shape = shapes
    point = convolution.fixed_point(name, w, b)
    assume(abs(float(mean_field.chi_1(name, point.q, w)) - 1) > 0.02)
    assume(abs(float(point.chi_q - point.chi_c)) > 1e-3 or point.c == 1)
    start = point.covariance(positions) + 1e-6 * float(point.q) * covariance(positions, seed)
    path = convolution.relaxation(name, w, b, random_kernel(shape, seed), start, 12)
    rates = convolution.measured_rates(path)
    seen = rates.clean & (rates.error < 1e-2)
    assert seen.any()
    assert np.all(np.abs(rates.rate - rates.predicted)[seen] <= 3 * rates.error[seen] + 1e-6)


def test_a_mode_of_small_eigenvalue_is_fed_by_products_of_others():
    """λ_2 = 0.04 beside λ_1 = 0.68: in late layers mode 2 decays as (χ_c λ_1)², not as χ_c λ_2.

    Opposite positions (d = 3) have no mode 1, by the symmetry of Σ, and are left out.
    """
    v = np.array([0.32, 0.36, 0.32])
    path = convolution.relaxation("tanh", 1.3, 0.05, v, covariance((6,), seed=1), 20)
    rates = convolution.measured_rates(path)
    assert not rates.clean[:, 2].any()
    late = path.amplitudes[20, [1, 2], 2] / path.amplitudes[19, [1, 2], 2]
    products = (float(path.point.chi_c) * 0.68) ** 2
    np.testing.assert_allclose(late, products, rtol=0.05)
    assert products > 5 * np.abs(rates.predicted[1:, 2]).max()


def test_a_mode_of_eigenvalue_zero_is_gone_after_one_layer():
    """The average comes last, so that nothing feeds the mode either: it has no rate to read."""
    path = convolution.relaxation("tanh", 1.3, 0.05, uniform(3), covariance((6,), seed=1), 8)
    assert np.abs(path.amplitudes[0, :, 2]).min() > 1e-3
    assert np.abs(path.amplitudes[1:, :, 2]).max() < 1e-15
    rates = convolution.measured_rates(path)
    assert np.all(rates.predicted[:, 2] == 0)
    assert np.isnan(rates.error[:, 2]).all()


def test_equal_positions_of_a_delta_kernel_follow_the_two_maps_of_one_pair():
    path = convolution.relaxation("tanh", 2.5, 0.05, delta(3), 1.3 * (0.6 * np.eye(3) + 0.4), 9)
    pair = mean_field.trajectory("tanh", 2.5, 0.05, q_0=1.3, c_0=0.4, depth=9)
    np.testing.assert_allclose(path.sigma[:, 1, 1], pair.q, rtol=1e-13)
    np.testing.assert_allclose(path.sigma[:, 0, 1], pair.q * pair.c, rtol=1e-12)


def test_a_batch_relaxes_as_its_members():
    starts = np.stack([covariance((3, 2), seed) for seed in range(3)])
    v = random_kernel((3, 1), 5)
    together = convolution.relaxation("tanh", 1.2, 0.1, v, starts, 6)
    assert together.sigma.shape == together.amplitudes.shape == (7, 3, 3, 2, 3, 2)
    rates = convolution.measured_rates(together)
    alone = convolution.relaxation("tanh", 1.2, 0.1, v, starts[1], 6)
    np.testing.assert_allclose(together.sigma[:, 1], alone.sigma, rtol=1e-13)
    np.testing.assert_allclose(together.amplitudes[:, 1], alone.amplitudes, atol=1e-14)
    one = convolution.measured_rates(alone)
    np.testing.assert_allclose(rates.rate[1], one.rate, rtol=1e-6)


def test_modes_that_start_at_zero_have_no_rate():
    """A covariance that does not change along the ring has the mode k = 0 only."""
    path = convolution.relaxation("tanh", 1.2, 0.1, uniform(3), np.eye(4) + 0.2, 20)
    rates = convolution.measured_rates(path)
    assert np.isfinite(rates.error[:, 0]).all()
    assert np.isnan(rates.error[:, 1:]).all()


def test_nothing_is_clean_on_the_critical_line():
    w = float(mean_field.critical_sigma_w2("tanh", 0.05).sigma_w2)
    path = convolution.relaxation("tanh", w, 0.05, delta(3), covariance((3,), seed=0), 10)
    clean = convolution.measured_rates(path).clean
    assert not clean[1:].any()
    assert clean[0].all()


# --- faults --------------------------------------------------------------------------------------

SIGMA = np.eye(3)


@pytest.mark.parametrize(
    ("v", "sigma", "says"),
    [
        (np.ones(2) / 2, SIGMA, "size 2 has no middle: give an odd size, such as 3"),
        (np.ones(5) / 5, SIGMA, "size 5 is larger than the 3 positions it wraps around: give a "),
        ([1.2, -0.2, 0.0], SIGMA, "v = -0.2 is out of range: give finite values of at least 0"),
        ([0.2, 0.2, 0.2], SIGMA, "v sums to 0.6: divide it by its sum"),
        ([np.nan, 1, 0], SIGMA, "v = nan is out of range"),
        (1.0, SIGMA, r"v has shape \(\): give \(s,\)"),
        (SKEW, np.eye(3)[:2], r"sigma has shape \(2, 3\): with v of shape \(3,\) give \(…, n, n\)"),
        (uniform((3, 3)), SIGMA, r"give \(…, n_1, n_2, n_1, n_2\)"),
        (SKEW, np.ones(3), r"sigma has shape \(3,\)"),
        (SKEW, "eye", "sigma must be a real number or an array"),
        (SKEW, np.full((3, 3), np.inf), "sigma = inf is out of range"),
    ],
)
def test_bad_kernels_and_shapes_get_one_sentence(v, sigma, says):
    for call in (
        lambda: convolution.average(sigma, v),
        lambda: convolution.covariance_map("tanh", sigma, 1.0, 0.1, v),
        lambda: convolution.relaxation("tanh", 1.0, 0.1, v, sigma, 2),
    ):
        with pytest.raises(ValueError, match=says) as caught:
            call()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("sigma", "says"),
    [
        (np.eye(3) + np.triu(np.ones((3, 3)), 1), "sigma is not symmetric"),
        (np.eye(3) - 0.6, "sigma has the eigenvalue -0.8: give a positive semi-definite"),
        (-np.eye(3), "sigma has the eigenvalue -1"),
    ],
)
def test_what_is_no_covariance_is_refused(sigma, says):
    with pytest.raises(ValueError, match=says):
        convolution.covariance_map("tanh", sigma, 1.0, 0.1, SKEW)
    with pytest.raises(ValueError, match=says):
        convolution.relaxation("tanh", 1.0, 0.1, SKEW, np.stack([SIGMA, sigma]), 2)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: convolution.kernel_variances("box", 3), "kind = 'box' must be one of uniform"),
        (lambda: convolution.kernel_variances("delta", 4), "size 4 has no middle"),
        (lambda: convolution.kernel_variances("delta", 3.0), "size = 3.0 must be one or two whole"),
        (lambda: convolution.kernel_variances("delta", (3, 3, 3)), "one or two whole numbers"),
        (lambda: convolution.mode_eigenvalues(SKEW, (3, 3)), "has 2 axes and v has 1"),
        (lambda: convolution.mode_eigenvalues(SKEW, 0), "each at least 1"),
        (
            lambda: convolution.depth_scales("tanh", 1.0, 0.1, SKEW, 2),
            "larger than the 2 positions",
        ),
        (lambda: convolution.depth_scales("tanh", -1.0, 0.1, SKEW, 3), "sigma_w2 = -1 is out of"),
        (lambda: convolution.covariance_map("tanh", SIGMA, -1.0, 0.1, SKEW), "sigma_w2 = -1 is"),
        (lambda: convolution.covariance_map("tanh", SIGMA, 1.0, -1.0, SKEW), "sigma_b2 = -1 is"),
        (
            lambda: convolution.covariance_map("tanh", [SIGMA, SIGMA], [1.0, 2.0, 3.0], 0.1, SKEW),
            r"do not broadcast: sigma_w2 \(3,\), sigma_b2 \(\), sigma \(2,\)",
        ),
        (lambda: convolution.relaxation("tanh", 1, 0.1, SKEW, SIGMA, -1), "depth = -1 must be"),
        (lambda: convolution.relaxation("tanh", 1, 0.1, SKEW, SIGMA, 1.5), "depth = 1.5 must be"),
        (lambda: convolution.relaxation("tanh", [1], 0.1, SKEW, SIGMA, 1), "give one number"),
        (
            lambda: convolution.relaxation("relu", 2.5, 0.1, SKEW, SIGMA, 1),
            "no covariance to relax to: no fixed point",
        ),
        (
            lambda: convolution.relaxation("tanh", 0.5, 0.0, SKEW, SIGMA, 1),
            r"no covariance to relax to: c\* is not defined at q\* = 0",
        ),
        (
            lambda: convolution.measured_rates(
                convolution.relaxation("tanh", 1, 0.1, SKEW, SIGMA, 2)
            ),
            "depth 2 shows no rate: give depth 4 or more",
        ),
        (lambda: convolution.image_covariance(np.ones(3), 1, 0, SKEW), r"images have shape \(3,\)"),
        (lambda: convolution.image_covariance(np.ones((1, 2)), 1, 0, SKEW), "larger than the 2"),
        (lambda: convolution.covariance_map("tahn", SIGMA, 1, 0, SKEW), "did you mean 'tanh'"),
    ],
)
def test_other_bad_values_get_one_sentence(call, says):
    with pytest.raises(ValueError, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)
