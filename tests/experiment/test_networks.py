"""Networks and their draws: the stated variances, the same member in any company."""

import math

import mpmath
import numpy as np
import pytest
import torch

from mflib.experiment import draws
from mflib.experiment.networks import FullyConnected

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


@pytest.mark.parametrize("scheme", draws.SCHEMES)
@pytest.mark.parametrize("fan", draws.FANS)
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
    members = draws.generators([1, 2])
    weights = draws.draw_weights(
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
    members = draws.generators(range(400))
    q = draws.haar_orthogonal(3, 3, members, dtype=DOUBLE)
    assert q.mean(0).abs().max() < 5 / math.sqrt(3 * 400)
    positive = (torch.linalg.det(q) > 0).double().mean()
    assert abs(positive - 0.5) < 5 * 0.5 / math.sqrt(400)


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
        ({"initialisation": "stable"}, '"stable" needs alpha'),
        ({"alpha": [1.5] * 3}, "alpha belongs to initialisation \"stable\", not to 'gaussian'"),
        ({"initialisation": "stable", "alpha": [1.5]}, "1 values of alpha for 3 seeds"),
        ({"initialisation": "stable", "alpha": [2, 0.5, 1]}, r"alpha=0.5 must be in \(0.5, 2\]"),
        ({"initialisation": "stable", "alpha": [2, 2.1, 1]}, r"alpha=2.1 must be in \(0.5, 2\]"),
        ({"initialisation": "stable", "alpha": [2, math.nan, 1]}, "alpha=nan must be a finite"),
    ],
)
def test_drawing_refuses_bad_values(monkeypatch, change, says):
    monkeypatch.setattr(draws, "standard_normal", None)  # nothing may be drawn
    monkeypatch.setattr(draws, "standard_stable", None)
    with pytest.raises(ValueError, match=says) as caught:
        draw(**change)
    assert "\n" not in str(caught.value)


# ---- heavy tails ------------------------------------------------------------------------------


def stable(alpha, n, *, seed=0, dtype=DOUBLE):
    index = torch.tensor([alpha], dtype=DOUBLE)
    return draws.standard_stable((n,), draws.generators([seed]), alpha=index, dtype=dtype)[0]


@pytest.mark.parametrize("alpha", [0.51, 0.7, 0.999, 1.0, 1.001, 1.3, 1.7, 1.95, 2.0])
def test_stable_draws_have_their_characteristic_function(alpha):
    """E cos(uX) = exp(−|u|^α) within 5 standard errors, as E sin(uX) = 0: for any α, all of it."""
    x = stable(alpha, 200_000)
    for u in (0.05, 0.3, 1.0, 2.5, 6.0):
        wave = torch.exp(1j * u * x)
        stated = math.exp(-(u**alpha))
        error = 5 * math.sqrt((1 + math.exp(-((2 * u) ** alpha))) / 2 - stated**2) / len(x) ** 0.5
        assert abs(wave.real.mean().item() - stated) < error
        odd = 5 * math.sqrt((1 - math.exp(-((2 * u) ** alpha))) / 2 / len(x))
        assert abs(wave.imag.mean().item()) < odd


@pytest.mark.parametrize("alpha", [0.6, 1.0, 1.5, 1.9])
def test_stable_draws_have_their_tail(alpha):
    """P(|X| > x) → 2 Γ(α) sin(πα/2)/π · x^{−α}; x is where 500 of 10^6 lie, 5 standard errors.

    The next term of the tail's series is smaller by x^{−α}, here about 1e-3: within the error.
    """
    n, expected = 1_000_000, 500
    factor = 2 * math.gamma(alpha) * math.sin(math.pi * alpha / 2) / math.pi
    x = (factor * n / expected) ** (1 / alpha)
    found = (stable(alpha, n).abs() > x).sum().item()
    assert abs(found - expected) < 5 * math.sqrt(expected)


def test_stable_draws_at_their_two_known_laws():
    """α = 1 is tan V and α = 2 is 2 sin V √T, to rounding, from the same two variables."""
    generator = torch.Generator().manual_seed(0)
    uniform = torch.empty(1000, dtype=DOUBLE).uniform_(-1, 1, generator=generator)
    waiting = torch.empty(1000, dtype=DOUBLE).exponential_(generator=generator)
    angle = uniform * math.pi / 2
    torch.testing.assert_close(stable(1.0, 1000), torch.tan(angle), rtol=1e-12, atol=1e-14)
    normal = 2 * torch.sin(angle) * waiting.sqrt()
    torch.testing.assert_close(stable(2.0, 1000), normal, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("alpha", [1.0, 2.0, 1.4])
def test_stable_draws_are_continuous_in_alpha(alpha):
    """A step of 1e-9 in α moves no draw by more than its derivative allows, α = 1 included."""
    here, there = stable(alpha, 100_000), stable(alpha - 1e-9, 100_000)
    assert ((there - here).abs() / here.abs().clamp(min=1)).max() < 1e-6


@pytest.mark.parametrize("distance", [1e-3, 1e-9, 1e-15])
def test_the_far_tail_near_alpha_2_keeps_its_precision(distance):
    """At V = π/2 (1 − d), sin αV and cos (1 − α)V are near their zeros; against 40 digits."""
    alpha = 2 - 1e-7
    uniform = torch.tensor([1 - distance], dtype=DOUBLE)
    generator = torch.Generator().manual_seed(3)
    waiting = torch.empty(1, dtype=DOUBLE).exponential_(generator=generator)
    with mpmath.workdps(40):
        a, t = mpmath.mpf(alpha), mpmath.mpf(waiting.item())
        v = mpmath.pi / 2 * mpmath.mpf(uniform.item())
        exact = mpmath.sin(a * v) / mpmath.cos(v) ** (1 / a)
        exact *= (mpmath.cos((1 - a) * v) / t) ** ((1 - a) / a)
    found = draws.chambers_mallows_stuck(uniform, waiting, alpha).item()
    assert found == pytest.approx(float(exact), rel=1e-13)


def test_heavy_tailed_networks_have_the_stated_scales():
    """Mean log|W| = log s + γ_E (1/α − 1) gives s; 5 standard errors, π²/6 (1/α² + 1/2) each."""
    alpha, w2, b2 = [0.8, 1.0, 1.6, 2.0], [0.5, 1.0, 2.0, 3.0], [0.1, 0.2, 0.3, 0.4]
    network = draw(
        sigma_w2=w2, sigma_b2=b2, alpha=alpha, seeds=[1, 2, 3, 4], initialisation="stable",
        n_in=60, width=90, n_out=300, depth=2,
    )  # fmt: skip
    for k, a in enumerate(alpha):
        stated = [(w[k], w2[k] / (2 * w.shape[1])) for w in network.weights]
        stated.append((network.biases[2][k], b2[k] / 2))
        for entries, half in stated:
            found = entries.abs().log().mean().item() - np.euler_gamma * (1 / a - 1)
            error = math.sqrt(math.pi**2 / 6 * (1 / a**2 + 0.5) / entries.numel())
            assert abs(found - math.log(half) / a) < 5 * error


def test_a_heavy_tailed_member_is_the_same_in_any_company():
    both = draw(alpha=[1.2, 2.0, 0.7], initialisation="stable")
    for k, (a, w2, seed) in enumerate([(1.2, 1.5, 3), (2.0, 2.0, 4), (0.7, 3.0, 5)]):
        alone = draw(alpha=[a], sigma_w2=[w2], seeds=[seed], initialisation="stable")
        pairs = zip((*both.weights, *both.biases), (*alone.weights, *alone.biases), strict=True)
        assert all(torch.equal(x[k], y[0]) for x, y in pairs)


def test_no_weight_and_no_bias_draw_at_scale_zero():
    network = draw(sigma_w2=[0.0] * 3, sigma_b2=0, alpha=[1.5] * 3, initialisation="stable")
    assert not any(p.any() for p in (*network.weights, *network.biases))


def test_numbers_of_numpy_are_as_good_as_any():
    one = draw(sigma_w2=np.array([1.5, 2.0, 3.0]), width=np.int64(40), sigma_b2=np.float64(1))
    assert torch.equal(one.weights[1], draw(sigma_b2=[1, 1, 1]).weights[1])
