"""Signals through random networks: exact starts, the right law, real moments."""

import math

import numpy as np
import pytest

from mflib.experiment.signals import sample_covariance, sample_moments
from mflib.theory import convolution


@pytest.mark.parametrize("method", ["matrices", "law"])
def test_sampling_starts_from_exactly_the_given_moments(method):
    moments = sample_moments(
        "tanh", width=30, depth=2, sigma_w2=1.5, sigma_b2=0.1, q_0=0.7, q_0b=1.9, c_0=-0.35,
        n_networks=9, seed=0, method=method,
    )  # fmt: skip
    assert moments.q.shape == moments.q_b.shape == moments.c.shape == (9, 3)
    np.testing.assert_allclose(moments.q[:, 0], 0.7, rtol=1e-13)
    np.testing.assert_allclose(moments.q_b[:, 0], 1.9, rtol=1e-13)
    np.testing.assert_allclose(moments.c[:, 0], -0.35, rtol=1e-12)


def test_linear_networks_have_the_moments_of_a_random_walk():
    """For φ = 1 the ensemble mean of q is exact at any width: q ← σ_w² q + σ_b²."""
    settings = {"width": 50, "depth": 5, "sigma_w2": 0.9, "sigma_b2": 0.2, "q_0": 1.3, "c_0": 0.4}
    expected = [1.3]
    for _ in range(5):
        expected.append(0.9 * expected[-1] + 0.2)
    for method in ("matrices", "law"):
        q = sample_moments("linear", n_networks=4000, seed=1, method=method, **settings).q
        error = q.std(0, ddof=1) / math.sqrt(len(q))
        assert (np.abs(q.mean(0) - expected)[1:] < 5 * error[1:]).all()


@pytest.mark.parametrize("name", ["tanh", "relu"])
def test_both_methods_sample_the_same_distribution(name):
    from scipy import stats

    settings = {"width": 20, "depth": 6, "sigma_w2": 1.8, "sigma_b2": 0.05, "q_0": 1.0, "c_0": 0.6}
    one, two = (
        sample_moments(name, n_networks=3000, seed=seed, method=method, **settings)
        for seed, method in ((5, "matrices"), (6, "law"))
    )
    for a, b in ((one.q, two.q), (one.c, two.c), (one.q_b, two.q_b)):
        assert stats.ks_2samp(a[:, -1], b[:, -1]).pvalue > 1e-4


def test_both_methods_would_differ_if_the_law_were_wrong():
    """The comparison above can fail: another σ_b² is told apart at once."""
    from scipy import stats

    settings = {"width": 20, "depth": 6, "sigma_w2": 1.8, "q_0": 1.0, "c_0": 0.6}
    one, two = (
        sample_moments("tanh", n_networks=3000, seed=5, sigma_b2=b2, method="law", **settings)
        for b2 in (0.05, 0.09)
    )
    assert stats.ks_2samp(one.c[:, -1], two.c[:, -1]).pvalue < 1e-4


def test_sampling_depends_on_the_seed_alone():
    settings = {"width": 8, "depth": 3, "sigma_w2": 2, "sigma_b2": 0, "q_0": 1, "c_0": 0.5}
    first, again, other = (
        sample_moments("erf", n_networks=5, seed=seed, **settings) for seed in (0, 0, 1)
    )
    assert np.array_equal(first.c, again.c)
    assert not np.array_equal(first.c[:, 1:], other.c[:, 1:])


def test_identical_inputs_stay_identical():
    moments = sample_moments(
        "tanh", width=16, depth=10, sigma_w2=3, sigma_b2=0.1, q_0=1, c_0=1, n_networks=20, seed=0,
        method="law",
    )  # fmt: skip
    np.testing.assert_allclose(moments.c, 1, rtol=1e-7)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"c_0": 1.2}, r"c_0=1.2 must be in \[-1, 1\]"),
        ({"c_0": math.nan}, "c_0=nan must be a finite number"),
        ({"q_0": 0}, "q_0=0 must be above 0"),
        ({"q_0b": math.inf}, "q_0b=inf must be a finite number"),
        ({"width": 1}, "width=1 must be at least 2"),
        ({"width": 2.5}, "width=2.5 must be an integer"),
        ({"depth": 1.5}, "depth=1.5 must be an integer"),
        ({"depth": -1}, "depth=-1 must be at least 0"),
        ({"n_networks": 0}, "n_networks=0 must be at least 1"),
        ({"sigma_w2": math.inf}, "sigma_w2=inf must be a finite number"),
        ({"sigma_b2": -1}, "sigma_b2=-1 must be at least 0"),
        ({"seed": 0.5}, "seed=0.5 must be an integer"),
        ({"method": "guess"}, "method='guess' must be one of matrices"),
        ({"initialisation": "xavier"}, "initialisation='xavier' must be one of gaussian"),
        ({"method": "law", "initialisation": "orthogonal"}, "holds for gaussian"),
    ],
)
def test_sampling_refuses_bad_values(change, says):
    settings = {"width": 8, "depth": 3, "sigma_w2": 2, "sigma_b2": 0, "q_0": 1, "c_0": 0.5}
    with pytest.raises(ValueError, match=says) as caught:
        sample_moments("tanh", **{**settings, "n_networks": 2, "seed": 0, **change})
    assert "\n" not in str(caught.value)


# --- convolutions ---------------------------------------------------------------------------------

SKEW = np.array([0.2, 0.5, 0.3])
TORUS = np.multiply.outer(SKEW, [0.6, 0.1, 0.3])
NEAR_ONE = 0.9 * np.ones((4, 4)) + 0.1 * np.eye(4)


def covariance(positions, rank, seed=0):
    """Return a random covariance of that rank, (*positions, *positions)."""
    x = np.random.default_rng(seed).standard_normal((math.prod(positions), rank))
    return (x @ x.T / rank).reshape(*positions, *positions)


def predicted(name, settings):
    """Return Σ of layers 0 … depth by the theory."""
    layers = [np.asarray(settings["sigma_0"], dtype=float)]
    for _ in range(settings["depth"]):
        layers.append(
            convolution.covariance_map(
                name,
                layers[-1],
                settings["sigma_w2"],
                settings["sigma_b2"],
                settings["variances"],
            )
        )
    return np.stack(layers)


RING_SETTINGS = {
    "size": 4, "variances": SKEW, "depth": 3, "sigma_w2": 1.8, "sigma_b2": 0.1,
    "sigma_0": covariance((4,), 8),
}  # fmt: skip
TORUS_SETTINGS = {
    **RING_SETTINGS, "size": (3, 4), "variances": TORUS, "sigma_0": covariance((3, 4), 5)
}  # fmt: skip


@pytest.mark.parametrize("settings", [RING_SETTINGS, TORUS_SETTINGS], ids=["ring", "torus"])
@pytest.mark.parametrize("method", ["law", "matrices"])
def test_fields_start_from_exactly_the_given_covariance(settings, method):
    sigma = sample_covariance("tanh", channels=9, n_networks=5, seed=1, method=method, **settings)
    start = np.asarray(settings["sigma_0"])
    assert sigma.shape == (5, 4, *start.shape)
    np.testing.assert_allclose(sigma[:, 0], np.broadcast_to(start, sigma[:, 0].shape), atol=1e-13)


@pytest.mark.parametrize("settings", [RING_SETTINGS, TORUS_SETTINGS], ids=["ring", "torus"])
@pytest.mark.parametrize("method", ["law", "matrices"])
def test_linear_convolutions_have_the_mean_of_the_theory_at_any_number_of_channels(
    settings, method
):
    """For φ = 1 the map is affine, so that the ensemble mean follows it exactly."""
    settings = {**settings, "sigma_w2": 0.9}
    sigma = sample_covariance(
        "linear", channels=8, n_networks=3000, seed=2, method=method, **settings
    )
    error = sigma.std(0, ddof=1) / math.sqrt(len(sigma))
    gap = np.abs(sigma.mean(0) - predicted("linear", settings))
    assert (gap[1:] < 5 * error[1:]).all()
    # and the error is small enough to see a kernel that runs the other way round
    flipped = predicted("linear", {**settings, "variances": np.flip(settings["variances"])})
    assert (np.abs(sigma.mean(0) - flipped)[1:] > 5 * error[1:]).any()


@pytest.mark.parametrize("settings", [RING_SETTINGS, TORUS_SETTINGS], ids=["ring", "torus"])
@pytest.mark.parametrize("name", ["tanh", "relu"])
def test_law_and_kernels_sample_the_same_covariances(name, settings):
    from scipy import stats

    law, kernels = (
        sample_covariance(name, channels=6, n_networks=2500, seed=seed, method=method, **settings)
        for seed, method in ((3, "law"), (4, "matrices"))
    )
    law, kernels = (s[:, -1].reshape(len(s), -1) for s in (law, kernels))
    count = math.isqrt(law.shape[1])
    for entry in (0, 1, count + 2, law.shape[1] - 1):
        assert stats.ks_2samp(law[:, entry], kernels[:, entry]).pvalue > 1e-4
    # products of entries tell whether entries vary together as they should
    both = (s[:, 0] * s[:, count + 1] - s[:, 1] ** 2 for s in (law, kernels))
    assert stats.ks_2samp(*both).pvalue > 1e-4


def test_the_comparison_of_law_and_kernels_can_fail():
    from scipy import stats

    one, two = (
        sample_covariance(
            "tanh", channels=6, n_networks=2500, seed=3, **{**RING_SETTINGS, "sigma_b2": b2}
        )[:, -1, 0, 1]
        for b2 in (0.1, 0.2)
    )
    assert stats.ks_2samp(one, two).pvalue < 1e-4


def test_finite_channels_leave_a_bias_of_minus_one_and_a_spread_of_minus_one_half():
    """Eight layers deep, over four sizes; each bias stands 8 standard errors above noise or more.

    Each log bias is then known to 1/8, and the slope over a factor of 8 to 0.08 at worst.
    """
    channels = np.array([8, 16, 32, 64])
    settings = {
        "size": 4, "variances": SKEW, "depth": 8, "sigma_w2": 1.2, "sigma_b2": 0.0,
        "sigma_0": NEAR_ONE,
    }  # fmt: skip
    theory = predicted("tanh", settings)[-1]
    bias, spread = [], []
    for c in (int(c) for c in channels):
        sigma = sample_covariance("tanh", channels=c, n_networks=500 * c, seed=5, **settings)
        gap = sigma[:, -1] - theory
        variance = np.trace(gap, axis1=1, axis2=2) / 4
        shared = (gap.sum((1, 2)) - 4 * variance) / 12
        parts = np.stack([variance, shared, variance - shared])
        bias.append(np.abs(parts.mean(1)))
        spread.append(parts.std(1))
        assert (bias[-1] > 8 * spread[-1] / math.sqrt(len(gap))).all()
    x = np.log(channels)
    assert np.polyfit(x, np.log(bias), 1)[0] == pytest.approx([-1] * 3, abs=0.2)
    # the difference of the two is small and fluctuates by its own size at few channels
    assert np.polyfit(x, np.log(spread), 1)[0][:2] == pytest.approx([-0.5] * 2, abs=0.1)


def test_a_linear_delta_orthogonal_network_keeps_every_covariance():
    """Without biases Σ^l = σ_w^{2l} Σ⁰ in each network, not only in the mean."""
    settings = {
        **TORUS_SETTINGS,
        "variances": convolution.kernel_variances("delta", (3, 3)),
        "sigma_b2": 0.0,
    }
    sigma = sample_covariance(
        "linear", channels=7, n_networks=3, seed=0, method="matrices",
        initialisation="delta-orthogonal", **settings,
    )  # fmt: skip
    for layer in range(4):
        expected = np.broadcast_to(1.8**layer * settings["sigma_0"], sigma[:, layer].shape)
        np.testing.assert_allclose(sigma[:, layer], expected, atol=1e-12)


def test_delta_orthogonal_networks_approach_the_same_theory():
    settings = {**RING_SETTINGS, "variances": [0.0, 1.0, 0.0]}
    theory = predicted("tanh", settings)[-1]
    gaps = []
    for channels in (16, 256):
        sigma = sample_covariance(
            "tanh", channels=channels, n_networks=64, seed=0, method="matrices",
            initialisation="delta-orthogonal", **settings,
        )  # fmt: skip
        gaps.append(np.sqrt(np.mean((sigma[:, -1] - theory) ** 2)))
    # the spread falls as the root of the channels: by 4
    assert gaps[1] < gaps[0] / 2.5
    assert gaps[1] < 0.1


def test_singular_covariances_are_sampled_too():
    """Equal positions stay equal: the factor of a singular covariance adds no noise of its own."""
    sigma = sample_covariance(
        "tanh", channels=20, n_networks=40, seed=0, **{**RING_SETTINGS, "sigma_0": np.ones((4, 4))}
    )
    np.testing.assert_allclose(sigma, sigma[:, :, :1, :1] * np.ones((4, 4)), rtol=1e-6)
    nothing = sample_covariance(
        "tanh", channels=3, n_networks=2, seed=0,
        **{**RING_SETTINGS, "sigma_b2": 0.0, "sigma_0": np.zeros((4, 4))},
    )  # fmt: skip
    assert not nothing.any()


def test_covariances_depend_on_the_seed_alone():
    for method in ("law", "matrices"):
        first, again, other = (
            sample_covariance(
                "erf", channels=8, n_networks=4, seed=seed, method=method, **RING_SETTINGS
            )
            for seed in (0, 0, 1)
        )
        assert np.array_equal(first, again)
        assert not np.array_equal(first[:, 1:], other[:, 1:])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"channels": 0}, "channels=0 must be at least 1"),
        ({"channels": 3}, "channels=3 must be at least 4, the rank of sigma_0"),
        ({"channels": 8.0}, "channels=8.0 must be an integer"),
        ({"depth": -1}, "depth=-1 must be at least 0"),
        ({"n_networks": 0}, "n_networks=0 must be at least 1"),
        ({"sigma_w2": -1}, "sigma_w2=-1 must be at least 0"),
        ({"sigma_b2": math.nan}, "sigma_b2=nan must be a finite number"),
        ({"seed": 0.5}, "seed=0.5 must be an integer"),
        ({"method": "guess"}, "method='guess' must be one of matrices, law"),
        ({"initialisation": "orthogonal"}, "must be one of gaussian, delta-orthogonal"),
        ({"initialisation": "delta-orthogonal"}, 'method "law" holds for gaussian weights'),
        (
            {"initialisation": "delta-orthogonal", "method": "matrices"},
            r"variances=\[0.2, 0.5, 0.3\] must be a delta kernel",
        ),
        ({"variances": [0.5, 0.5]}, "size 2 has no middle"),
        ({"variances": np.ones(5) / 5}, "size 5 is larger than the 4 positions"),
        ({"variances": [1.5, -0.5, 0]}, "v = -0.5 is out of range"),
        ({"variances": TORUS}, "sigma has shape"),
        ({"sigma_0": np.eye(4) - 0.5}, "sigma has the eigenvalue -1"),
        ({"sigma_0": np.eye(3)}, r"sigma_0 of shape=\(3, 3\) must be of shape \(4, 4\)"),
        ({"size": (2, 2)}, "must be of shape"),
        ({"size": 4.0}, "size=4.0 must be an integer"),
        ({"size": 0}, "size=0 must be at least 1"),
        ({"activation": "sine"}, "activation 'sine' cannot be trained"),
    ],
)
def test_sampling_covariances_refuses_bad_values(change, says):
    settings = {
        "activation": "tanh", **RING_SETTINGS, "channels": 8, "n_networks": 2, "seed": 0, **change
    }  # fmt: skip
    activation = settings.pop("activation")
    with pytest.raises(ValueError, match=says) as caught:
        sample_covariance(activation, **settings)
    assert "\n" not in str(caught.value)
