"""Networks and their draws: the stated variances, the same member in any company."""

import math

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
    ],
)
def test_drawing_refuses_bad_values(monkeypatch, change, says):
    monkeypatch.setattr(draws, "standard_normal", None)  # nothing may be drawn
    with pytest.raises(ValueError, match=says) as caught:
        draw(**change)
    assert "\n" not in str(caught.value)


def test_numbers_of_numpy_are_as_good_as_any():
    one = draw(sigma_w2=np.array([1.5, 2.0, 3.0]), width=np.int64(40), sigma_b2=np.float64(1))
    assert torch.equal(one.weights[1], draw(sigma_b2=[1, 1, 1]).weights[1])
