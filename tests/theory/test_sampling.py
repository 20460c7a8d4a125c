"""The theory against sampled random networks of finite width.

At width N the ensemble mean differs from the theory by O(1/N) and one network from the mean by
O(1/√N); both exponents are measured over four widths.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from mflib.theory import activations, mean_field

from . import tolerances

WIDTHS = np.array([12, 24, 48, 96])
NETWORKS_PER_WIDTH = 4000  # times the width: the bias falls faster than the spread
BATCH = 1 << 20


@dataclass(frozen=True)
class Setting:
    name: str
    sigma_w2: float
    sigma_b2: float
    q_0: float
    c_0: float
    depth: int = 3


def gram_step(phi, u, v, setting):
    """Return the next layer's variances and covariance in each network; u, v (networks, N)."""
    y_u, y_v = phi(u), phi(v)
    pairs = ((y_u, y_u), (y_v, y_v), (y_u, y_v))
    return [
        setting.sigma_w2 * np.einsum("ni,ni->n", a, b) / a.shape[1] + setting.sigma_b2
        for a, b in pairs
    ]


def sample_by_layers(setting, width, networks, rng):
    """Return q and c of the last layer in each network, one per network.

    Given one layer, fresh Gaussian weights make the next layer's pre-activations exactly
    independent Gaussians with covariance σ_w² y·y′/N + σ_b²: drawing those draws the network.
    """
    phi: Callable = activations.get(setting.name)
    a = np.full(networks, setting.q_0)
    b, x = a.copy(), a * setting.c_0
    for _ in range(setting.depth):
        z = rng.standard_normal((2, networks, width), dtype=np.float32)
        root = np.sqrt(a)
        along = x / root
        across = np.sqrt(np.maximum(b - along**2, 0.0))
        u = root[:, None] * z[0]
        v = along[:, None] * z[0] + across[:, None] * z[1]
        a, b, x = gram_step(phi, u, v, setting)
    return a, x / np.sqrt(a * b)


def sample_by_weights(setting, width, networks, rng):
    """Return the same from networks with all their weights drawn."""
    phi: Callable = activations.get(setting.name)
    z = rng.standard_normal((2, networks, width))
    z[1] = setting.c_0 * z[0] + np.sqrt(1 - setting.c_0**2) * z[1]
    z *= np.sqrt(setting.q_0)
    for _ in range(setting.depth - 1):
        weights = rng.standard_normal((networks, width, width)) * np.sqrt(setting.sigma_w2 / width)
        bias = rng.standard_normal((networks, width)) * np.sqrt(setting.sigma_b2)
        z = np.einsum("nij,xnj->xni", weights, phi(z), optimize=True) + bias
    a, b, x = gram_step(phi, z[0], z[1], setting)
    return a, x / np.sqrt(a * b)


def theory(setting):
    path = mean_field.trajectory(
        setting.name,
        setting.sigma_w2,
        setting.sigma_b2,
        q_0=setting.q_0,
        c_0=setting.c_0,
        depth=setting.depth,
    )
    return path.q[-1], path.c[-1]


def measured(setting, which, seed):
    """Return bias and spread of q (0) or c (1) at each width, and the bias's standard error."""
    rng = np.random.default_rng(seed)
    exact = theory(setting)[which]
    rows = []
    for width in WIDTHS:
        count = int(NETWORKS_PER_WIDTH * width)
        size = BATCH // width
        parts = [
            sample_by_layers(setting, width, size, rng)[which] for _ in range(-(-count // size))
        ]
        values = np.concatenate(parts)
        rows.append((abs(values.mean() - exact), values.std(), values.std() / values.size**0.5))
    return np.array(rows).T


def slope(values):
    return np.polyfit(np.log(WIDTHS), np.log(values), 1)[0]


@pytest.mark.parametrize(
    ("setting", "which"),
    [
        (Setting("tanh", 2.5, 0.1, 2.0, 0.5), 0),
        (Setting("softsign", 6.0, 0.1, 2.0, 0.5), 0),
        (Setting("sigmoid", 20.0, 0.1, 2.0, 0.5), 1),
    ],
    ids=["tanh-q", "softsign-q", "sigmoid-c"],
)
def test_bias_and_spread_fall_with_width(setting, which):
    bias, spread, error = measured(setting, which, seed=11)
    assert np.all(bias > 3 * error)  # otherwise the slope would be that of noise
    expected, within = tolerances.BIAS_SLOPE
    assert slope(bias) == pytest.approx(expected, abs=within)
    expected, within = tolerances.SPREAD_SLOPE
    assert slope(spread) == pytest.approx(expected, abs=within)


def test_layerwise_sampling_is_sampling_of_weights():
    setting = Setting("tanh", 2.5, 0.1, 2.0, 0.5)
    rng = np.random.default_rng(5)
    layers = sample_by_layers(setting, 16, 20_000, rng)
    weights = sample_by_weights(setting, 16, 20_000, rng)
    for a, b in zip(layers, weights, strict=True):
        error = np.sqrt((a.var() + b.var()) / a.size)
        assert abs(a.mean() - b.mean()) < 4 * error
        assert a.std() == pytest.approx(b.std(), rel=0.03)


@pytest.mark.parametrize("name", activations.names())
def test_wide_networks_follow_the_trajectory(name):
    """Width 1000, depth 4: within five standard errors and the 1/N bias, for every activation."""
    setting = Setting(name, 1.5, 0.1, 1.3, 0.6, depth=4)
    q, c = sample_by_layers(setting, 1000, 200, np.random.default_rng(3))
    for values, exact in zip((q, c), theory(setting), strict=True):
        error = values.std() / np.sqrt(values.size)
        assert abs(values.mean() - exact) < 5 * error + 3e-3 * abs(exact)
