"""Networks and their draws: the stated variances, the same member in any company, real moments."""

import math

import numpy as np
import pytest
import torch

from mflib.experiment import initialise
from mflib.experiment.networks import (
    NONLINEARITIES,
    FullyConnected,
    nonlinearity,
    sample_moments,
)

DOUBLE = torch.float64


def draw(**changes):
    settings = {
        "activation": "tanh",
        "sigma_w2": [1.5, 2.0, 3.0],
        "sigma_b2": 0.05,
        "width": 40,
        "depth": 4,
        "n_in": 12,
        "n_out": 5,
        "seeds": [3, 4, 5],
        "dtype": DOUBLE,
    }
    return FullyConnected.draw(**{**settings, **changes})


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_chain_is_the_derivative_that_autograd_finds(name):
    phi = nonlinearity(name)
    z = torch.linspace(-4.03, 4.05, 400, dtype=DOUBLE).requires_grad_()
    functional = draw(activation=name).module(0)[1]
    value = functional(z)
    (slope,) = torch.autograd.grad(value.sum(), z)
    torch.testing.assert_close(phi(z.detach()), value.detach(), rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(phi.derivative(z.detach()), slope, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_activations_are_those_of_the_theory(name):
    activations = pytest.importorskip("mflib.theory.activations")
    theory, phi = activations.get(name), nonlinearity(name)
    z = np.linspace(-5.01, 5.03, 201)
    tensor = torch.as_tensor(z)
    np.testing.assert_allclose(phi(tensor).numpy(), theory(z), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(phi.derivative(tensor).numpy(), theory.d1(z), rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(phi.range, theory.range, rtol=1e-7)


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_values_stay_in_the_stated_range(name):
    phi = nonlinearity(name)
    low, high = phi.range
    values = phi(torch.linspace(-60, 60, 100_001, dtype=DOUBLE))
    assert values.min() >= low - 1e-15
    assert values.max() <= high + 1e-15
    assert math.isinf(low) or values.min() < low + 0.04 * max(1, abs(low))
    assert math.isinf(high) or values.max() > high - 0.04


def test_an_unknown_activation_is_named():
    with pytest.raises(ValueError, match="'swish' cannot be trained: choose one of tanh"):
        nonlinearity("swish")


def test_a_member_is_the_same_network_in_any_company():
    together = draw()
    for k, (w2, seed) in enumerate([(1.5, 3), (2.0, 4), (3.0, 5)]):
        alone = draw(sigma_w2=[w2], seeds=[seed])
        pairs = zip(
            (*together.weights, *together.biases), (*alone.weights, *alone.biases), strict=True
        )
        assert all(torch.equal(a[k], b[0]) for a, b in pairs)
    swapped = draw(sigma_w2=[3.0, 1.5], seeds=[5, 3])
    assert torch.equal(swapped.weights[2][0], together.weights[2][2])


def test_batched_outputs_are_those_of_plain_modules():
    network = draw()
    x = torch.randn(7, 12, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    for k in range(3):
        torch.testing.assert_close(network.module(k)(x), network.logits(x)[k])
    per_member = network.logits(x.expand(3, 7, 12).contiguous())
    torch.testing.assert_close(per_member, network.logits(x))


@pytest.mark.parametrize("scheme", initialise.SCHEMES)
@pytest.mark.parametrize("fan", initialise.FANS)
def test_variances_are_the_stated_ones(scheme, fan):
    """Entry variances of all three kinds of layer, within 5 standard errors of the sample's."""
    sizes, w2, b2 = (60, 90, 30), 1.7, 0.3
    network = draw(
        sigma_w2=[w2] * 20, seeds=range(20), sigma_b2=b2, n_in=60, width=90, n_out=30, depth=2,
        initialisation=scheme, fan=fan,
    )  # fmt: skip
    expected_sizes = [(sizes[0], 90), (90, 90), (90, sizes[2])]
    for weight, (n_in, n_out) in zip(network.weights, expected_sizes, strict=True):
        assert weight.shape[1:] == (n_in, n_out)
        stated = w2 / (n_in if fan == "in" else n_out)
        error = 5 * stated * math.sqrt(2 / weight.numel())
        assert abs(weight.var().item() - stated) < error
        assert abs(weight.mean().item()) < 5 * math.sqrt(stated / weight.numel())
    biases = torch.cat([b.flatten() for b in network.biases])
    assert abs(biases.var().item() - b2) < 5 * b2 * math.sqrt(2 / biases.numel())


@pytest.mark.parametrize(("n_in", "n_out"), [(8, 8), (5, 9), (9, 5)])
def test_orthogonal_draws_are_orthogonal(n_in, n_out):
    members = initialise.generators([1, 2])
    weights = initialise.draw_weights(
        n_in, n_out, torch.tensor([1.0, 4.0], dtype=DOUBLE), members, scheme="orthogonal",
        dtype=DOUBLE,
    )  # fmt: skip
    short = min(n_in, n_out)
    gram = weights @ weights.mT if n_in <= n_out else weights.mT @ weights
    scale = torch.tensor([1.0, 4.0], dtype=DOUBLE) * max(n_in, n_out) / n_in
    eye = torch.eye(short, dtype=DOUBLE)
    torch.testing.assert_close(gram, scale.view(-1, 1, 1) * eye, rtol=1e-12, atol=1e-12)


def test_orthogonal_draws_are_uniform_in_sign():
    """Without the sign of R's diagonal, the first column of Q would lean to one side."""
    members = initialise.generators(range(400))
    q = initialise.haar_orthogonal(3, 3, members, dtype=DOUBLE)
    assert q.mean(0).abs().max() < 5 / math.sqrt(3 * 400)
    positive = (torch.linalg.det(q) > 0).double().mean()
    assert abs(positive - 0.5) < 5 * 0.5 / math.sqrt(400)


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


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sigma_w2": [1.5, -2.0, 3.0]}, "sigma_w2=-2.0 must be at least 0"),
        ({"sigma_w2": [1.5, math.nan, 3.0]}, "sigma_w2=nan must be a finite number"),
        ({"sigma_w2": [1.5, "2", 3.0]}, "sigma_w2='2' must be a finite number"),
        ({"sigma_w2": [1.5]}, "1 values of sigma_w2 for 3 seeds"),
        ({"sigma_w2": [], "seeds": []}, "at least one member"),
        ({"sigma_b2": [0.1, 0.2]}, "2 values of sigma_b2 for 3 seeds"),
        ({"sigma_b2": math.inf}, "sigma_b2=inf must be a finite number"),
        ({"width": 0}, "width=0 must be at least 1"),
        ({"depth": -1}, "depth=-1 must be at least 0"),
        ({"depth": 1.0}, "depth=1.0 must be an integer"),
        ({"n_in": 0}, "n_in=0 must be at least 1"),
        ({"activation": "swish"}, "'swish' cannot be trained"),
        ({"initialisation": "xavier"}, "'xavier' is not one of"),
        ({"fan": "both"}, "'both' is not one of"),
    ],
)
def test_drawing_refuses_bad_values(monkeypatch, change, says):
    monkeypatch.setattr(initialise, "standard_normal", None)  # nothing may be drawn
    with pytest.raises(ValueError, match=says) as caught:
        draw(**change)
    assert "\n" not in str(caught.value)


def test_numbers_of_numpy_are_as_good_as_any():
    one = draw(sigma_w2=np.array([1.5, 2.0, 3.0]), width=np.int64(40), sigma_b2=np.float64(1))
    assert torch.equal(one.weights[1], draw(sigma_b2=[1, 1, 1]).weights[1])
