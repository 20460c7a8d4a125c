"""Signals through random networks: exact starts, the right law, real moments."""

import math

import numpy as np
import pytest

from mflib.experiment.signals import sample_moments


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
