"""Jacobians: one spectrum by several roads, known laws, honest distances."""

import dataclasses
import json
import math
import runpy
import sys

import mpmath as mp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from mflib import paths
from mflib.experiment import _graded, draws, initialise, jacobian
from mflib.experiment.networks import Convolutional, FullyConnected
from mflib.experiment.nonlinearities import nonlinearity
from mflib.theory import isometry, mean_field

DOUBLE = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=DOUBLE, generator=seeded(seed))


def network(**changes):
    options = {
        "activation": "tanh", "sigma_w2": [1.2, 1.5, 2.0], "sigma_b2": 0.05, "width": 20,
        "depth": 4, "n_in": 12, "n_out": 9, "seeds": [1, 2, 3], "dtype": DOUBLE,
    }  # fmt: skip
    return FullyConnected.draw(**{**options, **changes})


def critical(activation, q):
    return 1 / float(mean_field.chi_1(activation, q, 1.0))


@dataclasses.dataclass(frozen=True)
class Known:
    """A law by its cumulative distribution in λ."""

    of_lambda: object
    atoms: tuple = ()

    def cdf(self, log_lambda):
        return self.of_lambda(np.exp(log_lambda))


def marchenko_pastur(x):
    """Return the share below x of λ of W Wᵀ, W square with entries N(0, 1/N): quarter circle."""
    s = np.sqrt(np.minimum(x, 4.0))
    return (s * np.sqrt(4 - s * s) / 2 + 2 * np.arcsin(s / 2)) / np.pi


SQUARE_LAW = Known(marchenko_pastur)


# --- graded products --------------------------------------------------------------------------


def product_of(factors, ranks):
    product = _graded.Product(1, factors[0].shape[0])
    columns = torch.eye(factors[0].shape[0], dtype=DOUBLE)[None]
    for factor, rank in zip(factors, ranks, strict=True):
        columns = product.absorb(factor @ columns, torch.tensor([rank]))
    return product.log_singular_values()[0].numpy()


def by_high_precision(factors, digits):
    with mp.workdps(digits):
        whole = mp.eye(factors[0].shape[0])
        for factor in factors:
            whole = mp.matrix(factor.tolist()) * whole
        values = mp.svd_r(whole, compute_uv=False)
        return np.array(sorted(float(mp.log(value)) for value in values))


@pytest.mark.parametrize(("depth", "digits"), [(3, 40), (60, 150), (560, 950)])
def test_every_singular_value_of_a_long_product_has_its_own_accuracy(depth, digits):
    """Down to e^-900 of the largest, where float64 itself ends at e^-745: 12 digits of each."""
    factors = list(normal(depth, 6, 6, seed=depth))
    exact = by_high_precision(factors, digits)
    ours = product_of(factors, [6] * depth)
    np.testing.assert_allclose(ours, exact, rtol=0, atol=1e-12 * (10 + depth))
    if depth == 560:
        assert exact[-1] - exact[0] > 800


def test_rows_of_very_different_size_keep_theirs():
    """A saturated layer's slopes span many decades."""
    factors = [
        torch.exp(-12 * torch.rand(6, dtype=DOUBLE, generator=seeded(k)))[:, None]
        * normal(6, 6, seed=k)
        for k in range(25)
    ]
    np.testing.assert_allclose(
        product_of(factors, [6] * 25), by_high_precision(factors, 150), rtol=0, atol=1e-11
    )


def test_exact_zeros_are_counted_and_the_rest_is_exact():
    factors, rank, ranks = [], 8, []
    for k in range(6):
        alive = torch.rand(8, generator=seeded(k)) < 0.8
        rank = min(rank, int(alive.sum()))
        ranks.append(rank)
        factors.append(alive[:, None] * normal(8, 8, seed=50 + k))
    ours = product_of(factors, ranks)
    dense = torch.linalg.svdvals(torch.linalg.multi_dot(factors[::-1])).flip(0).log().numpy()
    assert rank < 8
    assert (ours[: 8 - rank] == -np.inf).all()
    np.testing.assert_allclose(ours[8 - rank :], dense[8 - rank :], rtol=0, atol=1e-9)


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 9), depth=st.integers(1, 5))
def test_short_products_agree_with_a_plain_decomposition(seed, size, depth):
    factors = list(normal(depth, size, size, seed=seed))
    whole = torch.eye(size, dtype=DOUBLE)
    for factor in factors:
        whole = factor @ whole
    plain = torch.linalg.svdvals(whole).flip(0).numpy()
    ours = np.exp(product_of(factors, [size] * depth))
    np.testing.assert_allclose(ours, plain, rtol=1e-9, atol=1e-13 * depth * plain.max() * size)


# --- sampled spectra --------------------------------------------------------------------------


@pytest.mark.parametrize("ensemble", draws.SCHEMES)
def test_the_sampled_spectrum_is_that_of_the_network_drawn(ensemble):
    """The chain's own draws, multiplied out by autograd through a plain forward pass.

    σ spans 8 decades, of which a plain decomposition keeps 16 − 8 digits at the lower end.
    """
    width, depth, q, w2 = 15, 7, 0.6, 1.6
    b2 = q - float(mean_field.length_map("tanh", q, w2, 0.0))
    ours = jacobian.sample_spectrum(
        "tanh", width=width, depth=depth, sigma_w2=w2, q=q, n_networks=2, seed=5,
        ensemble=ensemble,
    )  # fmt: skip
    for k in range(2):
        members = draws.generators([draws.derive_seed(5, "jacobian", k)])
        x = draws.standard_normal((width,), members, dtype=DOUBLE)[0]
        x *= math.sqrt((q - b2) / w2 * width) / x.norm()
        layers = []
        for _ in range(depth):
            weight = draws.draw_weights(
                width, width, torch.tensor([w2], dtype=DOUBLE), members, scheme=ensemble,
                dtype=DOUBLE,
            )[0]  # fmt: skip
            bias = math.sqrt(b2) * draws.standard_normal((width,), members, dtype=DOUBLE)[0]
            layers.append((weight, bias))

        def forward(y, layers=layers):
            for weight, bias in layers:
                y = torch.tanh(weight @ y + bias)
            return y

        values = torch.linalg.svdvals(torch.func.jacrev(forward)(x)).flip(0)
        np.testing.assert_allclose(ours[k], 2 * values.log().numpy(), rtol=0, atol=1e-7)


def test_a_network_is_the_same_in_any_company():
    options = {"width": 12, "depth": 5, "sigma_w2": 1.3, "sigma_b2": 0.1, "seed": 2}
    many = jacobian.sample_spectrum("tanh", n_networks=3, **options)
    one = jacobian.sample_spectrum("tanh", n_networks=1, **options)
    np.testing.assert_allclose(many[:1], one, rtol=0, atol=1e-9)
    other = jacobian.sample_spectrum("tanh", n_networks=1, **{**options, "seed": 3})
    assert np.abs(other - one).max() > 1e-3


def test_deep_linear_orthogonal_networks_are_isometries_at_any_scale():
    for w2 in (0.01, 400.0):
        logs = jacobian.sample_spectrum(
            "linear", width=6, depth=1500, sigma_w2=w2, q=1.0, n_networks=1, seed=0,
            independent=True,
        )  # fmt: skip
        np.testing.assert_allclose(logs, 1500 * math.log(w2), rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("name", ["relu", "hard-tanh"])
def test_zeros_are_as_many_as_the_emptiest_layer_leaves(name):
    logs = jacobian.sample_spectrum(
        name, width=40, depth=5, sigma_w2=2.0, q=1.5, n_networks=30, seed=1, independent=True
    )
    share = float(nonlinearity(name).derivative(normal(200_000) * math.sqrt(1.5)).mean())
    assert (np.isneginf(logs).sum(1) >= 40 * (1 - share) - 5 * math.sqrt(40 * share)).all()
    # the minimum of 5 binomials: its mean follows from their distribution
    upto = stats.binom(40, share).cdf(np.arange(-1, 41))
    least = np.diff(1 - (1 - upto) ** 5)
    stated = 40 - np.sum(np.arange(41) * least)
    assert abs(np.isneginf(logs).sum(1).mean() - stated) < 5 * math.sqrt(40 / 4 / 30)
    assert (logs[:, -1] > -10).all()


@pytest.mark.parametrize("ensemble", draws.SCHEMES)
@pytest.mark.parametrize("independent", [True, False])
@pytest.mark.parametrize(
    ("name", "q", "depth"), [("tanh", 0.3, 8), ("erf", 0.5, 5), ("relu", 1, 4)]
)
def test_the_mean_is_chi_1_to_the_depth(name, q, depth, independent, ensemble):
    """E[tr JJᵀ/N] = χ₁^D exactly for independent factors, within O(1/N) in networks."""
    w2 = critical(name, q) * (1.1 if independent else 0.9)
    logs = jacobian.sample_spectrum(
        name, width=40, depth=depth, sigma_w2=w2, n_networks=60, seed=4, q=q, ensemble=ensemble,
        independent=independent,
    )  # fmt: skip
    stated = float(mean_field.chi_1(name, q, w2)) ** depth
    means = np.exp(logs).mean(1)
    error = means.std(ddof=1) / math.sqrt(len(means))
    assert abs(means.mean() - stated) < 5 * error + (0 if independent else stated * depth / 40)


def test_dependence_of_slopes_and_weights_is_a_finite_width_effect():
    """The mean of log λ in networks minus that with independent slopes goes as 1/width."""
    q, gaps, widths = 0.8, [], (2, 16)
    for width in widths:
        means = [
            jacobian.sample_spectrum(
                "tanh", width=width, depth=4, sigma_w2=critical("tanh", q), q=q, seed=8,
                n_networks=3000, independent=independent,
            ).mean(1)
            for independent in (False, True)
        ]  # fmt: skip
        error = math.hypot(*(mean.std(ddof=1) / math.sqrt(3000) for mean in means))
        gaps.append(abs(means[0].mean() - means[1].mean()))
        assert gaps[-1] > 3 * error
    slope = math.log(gaps[1] / gaps[0]) / math.log(widths[1] / widths[0])
    # the second gap is known to a fifth of itself: 0.2/log 8 = 0.1 in the slope, and 1/N² enters
    assert -1.5 < slope < -0.6


# --- the Jacobian of a given network ----------------------------------------------------------


def dense(function, x, step=1e-5):
    """Return J of one sample by central differences."""
    columns = []
    for unit in torch.eye(x.numel(), dtype=DOUBLE):
        shift = step * unit.reshape(x.shape)
        ends = [function((x + s * shift)[None])[0].detach().flatten() for s in (1, -1)]
        columns.append((ends[0] - ends[1]) / (2 * step))
    return torch.stack(columns, dim=1)


@pytest.mark.parametrize("hidden", [False, True])
def test_exact_values_are_those_of_finite_differences_and_of_the_product(hidden):
    net, x = network(), normal(2, 12)
    found = jacobian.singular_values(net, x, hidden=hidden)
    assert found.method == "exact"
    assert found.complete
    assert found.shape == ((20, 12) if hidden else (9, 12))
    phi = nonlinearity("tanh")
    z = net.pre_activations(x)
    for k in range(3):
        module = net.module(k)[:-1] if hidden else net.module(k)
        for n in range(2):
            j = torch.eye(12, dtype=DOUBLE)
            for layer in range(4):
                j = phi.derivative(z[layer][k, n])[:, None] * (net.weights[layer][k].T @ j)
            j = j if hidden else net.weights[4][k].T @ j
            product = torch.linalg.svdvals(j).numpy()
            np.testing.assert_allclose(found.values[k, n], product, rtol=1e-10)
            numeric = torch.linalg.svdvals(dense(module, x[n])).numpy()
            # central differences err by step² and by rounding/step
            np.testing.assert_allclose(found.values[k, n], numeric, rtol=0, atol=1e-8)


def small_cnn(seed=0):
    module = nn.Sequential(
        nn.Conv2d(2, 5, 3, padding=1, padding_mode="circular"), nn.Tanh(),
        nn.Conv2d(5, 4, 3, stride=2, padding=1, padding_mode="circular"), nn.ReLU(),
        nn.Flatten(), nn.Linear(36, 7),
    ).double()  # fmt: skip
    initialise.gaussian_(module, sigma_w2=1.6, sigma_b2=0.1, generator=seeded(seed))
    return module


def test_modules_lists_and_functions_agree():
    first, second, x = small_cnn(0), small_cnn(1), normal(3, 2, 6, 6)
    one = jacobian.singular_values(first, x).values
    both = jacobian.singular_values([first, second], x).values
    np.testing.assert_allclose(both[0], one, rtol=1e-10)
    np.testing.assert_allclose(jacobian.singular_values(lambda x: first(x), x).values, one)
    numeric = torch.linalg.svdvals(dense(second, x[1])).numpy()
    np.testing.assert_allclose(both[1, 1], numeric, rtol=0, atol=1e-7)


@pytest.mark.parametrize("hidden", [False, True])
def test_convolutional_ensembles_are_measured_all_at_once(hidden):
    """Each member and sample beside autograd on that member alone."""
    net = Convolutional.draw(
        "tanh", sigma_w2=[1.1, 1.9], sigma_b2=0.05, channels=4, depth=4, image_shape=(1, 8, 8),
        n_out=5, seeds=[1, 2], dtype=DOUBLE,
    )  # fmt: skip
    x = normal(2, 64)
    found = jacobian.singular_values(net, x, hidden=hidden)
    assert found.shape == ((16 if hidden else 5), 64)
    largest = jacobian.singular_values(net, x, hidden=hidden, method="lanczos", k=3)
    np.testing.assert_allclose(largest.values, found.values[..., :3], rtol=1e-8)
    for k in range(2):
        module = net.module(k)[:-3] if hidden else net.module(k)
        j = torch.func.jacrev(lambda row, module=module: module(row[None]).flatten())(x[1])
        values = torch.linalg.svdvals(j.detach()).numpy()
        np.testing.assert_allclose(found.values[k, 1], values, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(40, 40), (25, 40), (40, 25)])
def test_lanczos_values_are_the_dense_ones(shape):
    n_out, n_in = shape
    net = network(width=60, n_in=n_in, n_out=n_out)
    x = normal(2, n_in)
    exact = jacobian.singular_values(net, x, method="exact")
    for k in (1, 4, min(shape)):
        found = jacobian.singular_values(net, x, method="lanczos", k=k)
        assert found.method == "lanczos"
        assert found.complete == (k == min(shape))
        np.testing.assert_allclose(found.values, exact.values[..., :k], rtol=1e-8)
        assert (np.abs(found.values - exact.values[..., :k]) <= found.residual + 1e-12).all()


def test_lanczos_finds_every_copy_of_a_repeated_value():
    """Fourier modes k and −k of a linear convolution have the same values."""
    layer = nn.Conv1d(4, 4, 3, padding=1, padding_mode="circular").double()
    initialise.gaussian_(layer, sigma_w2=1.0, sigma_b2=0.0, generator=seeded(2))
    x = normal(1, 4, 15)
    exact = jacobian.singular_values(layer, x).values
    found = jacobian.singular_values(layer, x, method="lanczos", k=6).values
    np.testing.assert_allclose(found, exact[..., :6], rtol=1e-8)
    assert exact[0, 0] == pytest.approx(exact[0, 1], rel=1e-12)


def linear_tower(depth, w2, seed=0):
    tower = nn.Sequential(
        *[nn.Conv2d(3, 3, 3, padding=1, padding_mode="circular") for _ in range(depth)]
    ).double()
    initialise.delta_orthogonal_(tower, sigma_w2=w2, sigma_b2=0.1, generator=seeded(seed))
    return tower


@pytest.mark.parametrize("method", ["exact", "lanczos"])
def test_linear_delta_orthogonal_towers_have_one_singular_value(method):
    found = jacobian.singular_values(linear_tower(12, 1.3), normal(1, 3, 4, 4), method=method, k=48)
    np.testing.assert_allclose(found.values, 1.3**6, rtol=1e-12)
    np.testing.assert_allclose(found.log_lambda, 12 * math.log(1.3), rtol=1e-12)


def test_auto_writes_small_jacobians_down_and_not_large_ones(monkeypatch):
    net, x = network(), normal(2, 12)
    assert jacobian.singular_values(net, x).method == "exact"
    monkeypatch.setattr(jacobian, "_EXACT_ENTRIES", 100)
    large = jacobian.singular_values(net, x)
    assert large.method == "lanczos"
    assert large.values.shape == (3, 2, 6)


# --- quadrature -------------------------------------------------------------------------------


@pytest.mark.parametrize("wide", [False, True])
def test_quadrature_moments_are_traces_within_their_errors(wide):
    net = network(width=60, n_in=80 if wide else 40, n_out=40 if wide else 80)
    x = normal(2, net.weights[0].shape[1])
    exact = jacobian.singular_values(net, x).values ** 2
    rule = jacobian.quadrature(net, x, probes=60, steps=6, seed=1)
    np.testing.assert_allclose(rule.weight.sum(-1), 1, rtol=1e-12)
    assert rule.moment(0)[0] == pytest.approx(np.ones((3, 2)))
    for order in range(1, 6):
        mean, error = rule.moment(order)
        stated = (exact**order).mean(-1)
        assert (np.abs(mean - stated) < 5 * error).all()
        assert (error < 0.5 * stated).all()


def test_quadrature_with_all_steps_is_exact_for_its_vectors():
    """Gauss's rule of full length: every polynomial and the whole distribution of one vector."""
    layer = nn.Linear(10, 10, dtype=DOUBLE)
    initialise.gaussian_(layer, sigma_w2=1.0, sigma_b2=0.0, generator=seeded(3))
    rule = jacobian.quadrature(layer, normal(1, 10), probes=400, steps=10)
    exact = np.log(jacobian.singular_values(layer, normal(1, 10)).values[0, ::-1] ** 2)
    np.testing.assert_allclose(
        np.sort(rule.log_lambda[0], -1), exact[None].repeat(400, 0), atol=1e-8
    )
    middle = (exact[1:] + exact[:-1]) / 2
    share, error = rule.cdf(middle)
    assert (np.abs(share[0] - np.arange(1, 10) / 10) < 5 * error[0]).all()


def test_quadrature_sees_a_flat_spectrum_as_one_node():
    rule = jacobian.quadrature(linear_tower(5, 1.7), normal(1, 3, 4, 4), probes=3, steps=8)
    heavy = rule.weight > 1e-12
    assert (heavy.sum(-1) == 1).all()
    np.testing.assert_allclose(rule.log_lambda[heavy], 5 * math.log(1.7), rtol=1e-12)
    assert rule.moment(2)[0] == pytest.approx(1.7**10)


# --- goodness of fit --------------------------------------------------------------------------


def gaussian_logs(width, count, seed=0):
    return jacobian.sample_spectrum(
        "linear", width=width, depth=1, sigma_w2=1.0, q=1.0, ensemble="gaussian",
        n_networks=count, seed=seed,
    )  # fmt: skip


def test_distance_to_the_limit_falls_as_one_over_width():
    """Linear, Gaussian, depth 1: Marchenko-Pastur; E F_N − F is O(1/N), and that is what is left.

    Networks are so many that their spread is small beside the bias: slope −1 in log width.
    """
    widths = np.array([4, 8, 16, 32])
    fits = [jacobian.fit(gaussian_logs(n, 16000 // n), SQUARE_LAW) for n in widths]
    slope = np.polyfit(np.log(widths), np.log([f.ks for f in fits]), 1)[0]
    assert -1.3 < slope < -0.7
    assert fits[-1].w1 < fits[0].w1 / 3


def against_theory(name, q, depth, ensemble, width, count):
    w2 = critical(name, q)
    sample = jacobian.sample_spectrum(
        name, width=width, depth=depth, sigma_w2=w2, q=q, ensemble=ensemble, n_networks=count,
        seed=1,
    )  # fmt: skip
    return jacobian.fit(sample, isometry.spectrum(name, w2, q, depth, ensemble=ensemble))


@pytest.mark.parametrize(
    ("name", "ensemble", "depth"), [("tanh", "orthogonal", 8), ("erf", "gaussian", 3)]
)
def test_smooth_networks_reach_the_free_law_as_one_over_width(name, ensemble, depth):
    """Networks, with slopes that depend on weights: the bias is O(1/N), and no floor is left."""
    widths, counts = np.array([6, 12, 24]), (1500, 750, 375)
    fits = [
        against_theory(name, 0.3, depth, ensemble, n, count)
        for n, count in zip(widths, counts, strict=True)
    ]
    slope = np.polyfit(np.log(widths), np.log([f.ks for f in fits]), 1)[0]
    assert -1.4 < slope < -0.6
    assert fits[-1].w1 < fits[0].w1


def test_wide_networks_pass_and_neighbouring_laws_do_not():
    """At width 64 the O(1/N) bias is below the networks' own spread; two layers fewer are told."""
    q, depth = 0.3, 8
    w2 = critical("tanh", q)
    sample = jacobian.sample_spectrum(
        "tanh", width=64, depth=depth, sigma_w2=w2, q=q, n_networks=24, seed=3
    )
    right, wrong = (
        jacobian.fit(sample, isometry.spectrum("tanh", w2, q, d)) for d in (depth, depth - 2)
    )
    assert right.p_value > 0.01 > wrong.p_value
    assert right.ks < right.ks_of_spread < wrong.ks


def test_deep_gaussian_spectra_far_below_the_range_of_float64():
    """σ from 1 to e^-1700, where float64 ends at e^-745: still on the law."""
    q, depth = 0.01, 600
    w2 = critical("tanh", q)
    sample = jacobian.sample_spectrum(
        "tanh", width=64, depth=depth, sigma_w2=w2, q=q, n_networks=2, seed=0, ensemble="gaussian"
    )
    assert sample.min() < -2 * 1500
    law = isometry.spectrum("tanh", w2, q, depth, ensemble="gaussian")
    assert jacobian.fit(sample, law).ks < 0.04


def test_zeros_of_relu_approach_their_share_as_one_over_the_root_of_width():
    """The emptiest of D layers lacks c √N of N/2 units more than the mean: slope −1/2, not −1."""
    widths, counts = np.array([8, 32, 128]), (600, 300, 40)
    excess = []
    for width, count in zip(widths, counts, strict=True):
        judged = against_theory("relu", 1.0, 4, "orthogonal", width, count)
        assert judged.law_zeros == pytest.approx(0.5, abs=1e-9)
        excess.append(judged.zeros - judged.law_zeros)
    slope = np.polyfit(np.log(widths), np.log(excess), 1)[0]
    assert -0.65 < slope < -0.35


def test_single_networks_lie_far_closer_than_independent_draws_would():
    """Eigenvalues repel: one network's distance is about 1/N, not 1.36/√N."""
    each = jacobian.fit(gaussian_logs(100, 6), SQUARE_LAW).ks_each
    assert (each < 0.4 * 1.36 / math.sqrt(100)).all()


@dataclasses.dataclass(frozen=True)
class Normal:
    """N(0, 1) in log λ, with a share of zeros."""

    zeros: float = 0.0

    @property
    def atoms(self):
        return ((-np.inf, self.zeros),) if self.zeros else ()

    def cdf(self, log_lambda):
        return self.zeros + (1 - self.zeros) * stats.norm.cdf(log_lambda)


def test_the_judgement_is_fair_to_the_law_and_hard_on_another():
    """p-values of the truth are spread over (0, 1); those of a shifted law are small."""
    rng = np.random.default_rng(0)
    right, wrong = [], []
    for seed in range(60):
        sample = rng.standard_normal((12, 20))
        right.append(jacobian.fit(sample, Normal(), seed=seed).p_value)
        wrong.append(jacobian.fit(sample + 0.35, Normal(), seed=seed).p_value)
    assert np.mean(np.array(right) < 0.05) < 0.15
    assert np.mean(right) > 0.3
    assert np.mean(np.array(wrong) < 0.05) > 0.9


def test_distances_are_those_of_scipy_for_a_plain_law():
    sample = np.random.default_rng(1).standard_normal((1, 200))
    found = jacobian.fit(sample, Normal())
    assert found.ks == pytest.approx(stats.kstest(sample[0], "norm").statistic, abs=1e-12)
    quantiles = stats.norm.ppf((np.arange(200_000) + 0.5) / 200_000)
    w1 = stats.wasserstein_distance(sample[0], quantiles)
    assert found.w1 == pytest.approx(w1, abs=2e-3)
    assert math.isnan(found.p_value)


@dataclasses.dataclass(frozen=True)
class TwoAtoms:
    atoms: tuple = ((-np.inf, 0.25), (1.0, 0.75))

    def cdf(self, log_lambda):
        return 0.25 + 0.75 * (np.asarray(log_lambda) >= 1.0)


def test_atoms_count_as_atoms():
    sample = np.tile([-np.inf, 1 - 1e-11, 1.0, 1 + 1e-11], (6, 1))
    found = jacobian.fit(sample, TwoAtoms())
    assert found.ks == pytest.approx(0, abs=1e-12)
    assert found.w1 == pytest.approx(0, abs=1e-9)
    assert found.zeros == found.law_zeros == 0.25
    assert found.p_value == 1.0
    more_zeros = np.tile([-np.inf, -np.inf, 1.0, 1.0], (6, 1))
    assert jacobian.fit(more_zeros, TwoAtoms()).ks == pytest.approx(0.25)
    moved = np.tile([-np.inf, 1.5, 1.5, 1.5], (6, 1))
    assert jacobian.fit(moved, TwoAtoms()).ks == pytest.approx(0.75)
    assert jacobian.fit(moved, TwoAtoms()).w1 == pytest.approx(0.5)


def test_zeros_of_the_law_and_of_the_sample_are_compared():
    rng = np.random.default_rng(2)
    sample = rng.standard_normal((10, 40))
    sample[:, :10] = -np.inf
    assert jacobian.fit(sample, Normal(0.25)).ks < 0.1
    assert jacobian.fit(sample, Normal(0.0)).ks > 0.24


# --- faults -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"width": 0}, "width=0 must be at least 1"),
        ({"depth": 0}, "depth=0 must be at least 1"),
        ({"n_networks": 0}, "n_networks=0 must be at least 1"),
        ({"seed": 0.5}, "seed=0.5 must be an integer"),
        ({"sigma_w2": 0.0}, r"sigma_w2=0.0 must be above 0"),
        ({"ensemble": "uniform"}, "ensemble='uniform' must be gaussian or orthogonal"),
        ({"activation": "tann"}, "activation 'tann' cannot be trained"),
        ({"q": None}, "give one of them"),
        ({"sigma_b2": 0.1}, "give one of them"),
        ({"q": 0.0}, "q=0.0 must be above 0"),
        ({"q": 0.1, "sigma_w2": 3.0}, "q=0.1 is no fixed point .* give a larger q"),
        ({"q": None, "sigma_b2": 0.0, "sigma_w2": 0.5}, r"has no q\* > 0 .* give q instead"),
    ],
)
def test_bad_settings_of_samples_get_one_sentence(changes, sentence):
    options = {
        "activation": "tanh", "width": 5, "depth": 2, "sigma_w2": 1.2, "q": 1.0,
        "n_networks": 1, "seed": 0,
    }  # fmt: skip
    options.update(changes)
    with pytest.raises(ValueError, match=sentence):
        jacobian.sample_spectrum(options.pop("activation"), **options)


@pytest.mark.parametrize(
    ("build", "x", "options", "sentence"),
    [
        (network, normal(2, 12), {"method": "power"}, "method='power' must be one of auto, exact"),
        (network, normal(2, 12), {"k": 0}, "k=0 must be at least 1"),
        (network, normal(2, 12), {"k": 10}, "k=10 must be at most 9"),
        (network, normal(2, 12), {"tolerance": 0.0}, "tolerance=0.0 must be above 0"),
        (network, normal(12), {}, "x must be a real tensor"),
        (network, torch.zeros(2, 12, dtype=torch.int64), {}, "x must be a real tensor"),
        (network, normal(2, 12) * math.inf, {}, "not finite at x"),
        (lambda: 3, normal(2, 12), {}, "cannot be called"),
        (lambda: [], normal(2, 12), {}, "empty list"),
        (lambda: [3], normal(2, 12), {}, "network holds a int"),
        (lambda: torch.tanh, normal(2, 12), {"hidden": True}, "no layers to cut"),
        (lambda: nn.Linear(12, 3), normal(2, 12), {"hidden": True}, "needs a Sequential"),
        (lambda: nn.BatchNorm1d(12), normal(2, 12), {}, r"call eval\(\)"),
        (lambda: nn.Dropout(0.5), normal(2, 12), {}, r"call eval\(\)"),
        (lambda: lambda x: x - x.mean(0), normal(2, 12), {}, "mixes samples"),
        (network, normal(2, 12), {"block": 0}, "block=0 must be at least 1"),
        (lambda: torch.sum, normal(2, 12), {}, "first dimension is still the samples"),
    ],
)
def test_bad_networks_and_inputs_get_one_sentence(build, x, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        jacobian.singular_values(build(), x, **options)


@pytest.mark.parametrize(
    ("sample", "options", "sentence"),
    [
        ([], {}, "not empty"),
        ([[0.0, math.nan]], {}, "with finite values"),
        ([[0.0, math.inf]], {}, "with finite values"),
        (np.zeros((2, 2, 2)), {}, "must be"),
        (["a"], {}, "array of numbers"),
        ([[0.0]], {"rounding": -1.0}, "rounding=-1.0 must be at least 0"),
    ],
)
def test_bad_samples_get_one_sentence(sample, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        jacobian.fit(sample, Normal(), **options)


@pytest.mark.parametrize(
    ("options", "sentence"), [({"probes": 1}, "probes=1"), ({"steps": 0}, "steps=0")]
)
def test_bad_quadratures_get_one_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        jacobian.quadrature(nn.Linear(3, 3), torch.zeros(1, 3), **options)


def test_the_benchmark_prints_json_lines(monkeypatch, capsys):
    script = paths.root() / "benchmarks" / "jacobian.py"
    monkeypatch.setattr(sys, "argv", [str(script), "--repeats", "1", "--quick"])
    runpy.run_path(str(script), run_name="__main__")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 4
    assert all(line["ratio"] > 0 for line in lines)
    assert lines[0]["dense_share_to_1e-6"] == 1.0
    assert lines[2]["largest_relative_difference"] < 1e-7
