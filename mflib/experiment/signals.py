"""Signals sent through random networks of finite width, and their moments layer by layer."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mflib.experiment import _checks, draws
from mflib.experiment.nonlinearities import nonlinearity

_BLOCK_BYTES = 64 * 2**20


@dataclasses.dataclass(frozen=True)
class Moments:
    """Second moments of a pair of inputs by layer, one row per random network.

    ``q``, ``q_b``: mean square of the first and the second input's pre-activations;
    ``c``: their correlation; each (n_networks, depth + 1), float64. Column 0 holds the given
    moments.
    """

    q: np.ndarray
    q_b: np.ndarray
    c: np.ndarray


METHODS = ("matrices", "law")


def sample_moments(
    activation: str,
    *,
    width: int,
    depth: int,
    sigma_w2: float,
    sigma_b2: float,
    q_0: float,
    c_0: float,
    n_networks: int,
    seed: int,
    q_0b: float | None = None,
    initialisation: str = "gaussian",
    method: str = "matrices",
    device: torch.device | str = "cpu",
) -> Moments:
    """Propagate a pair of inputs through random networks and measure q and c layer by layer.

    q_a^l = |z_a^l|²/N and c^l = z_a^l·z_b^l / (N √(q_a^l q_b^l)), with pre-activations z⁰ of
    exactly the given moments q_0, q_0b (= q_0 unless given) and c_0, and
    z^l = W^l φ(z^{l-1}) + b^l. Computed in float64.

    ``method="matrices"`` draws every weight matrix: N² normals per layer, any initialisation.
    ``method="law"`` uses that, given φ(z^{l-1}), the rows of Gaussian W^l make the N pairs
    (z_a, z_b) independent with covariance σ_w²/N · (Gram matrix of φ) + σ_b²: exactly the same
    distribution from 2N normals per layer, so wide or many networks are cheap.

    Raises ValueError for values out of range. The result depends on seed and sizes alone.
    """
    q_b = q_0 if q_0b is None else q_0b
    for name, size, least in (
        ("width", width, 2),
        ("depth", depth, 0),
        ("n_networks", n_networks, 1),
    ):
        _checks.count(name, size, least)
    for name, moment in (("q_0", q_0), ("q_0b", q_b)):
        _checks.require(_checks.number(name, moment, float) > 0, name, moment, "above 0")
    _checks.require(-1 <= _checks.number("c_0", c_0, float) <= 1, "c_0", c_0, "in [-1, 1]")
    sigma_w2 = _checks.variance("sigma_w2", sigma_w2)
    sigma_b2 = _checks.variance("sigma_b2", sigma_b2)
    _checks.number("seed", seed, int)
    for name, value, choices in (
        ("method", method, METHODS),
        ("initialisation", initialisation, draws.SCHEMES),
    ):
        _checks.require(value in choices, name, value, f"one of {', '.join(choices)}")
    if method == "law" and initialisation != "gaussian":
        raise ValueError(f'method "law" holds for gaussian weights, not for {initialisation}')
    phi = nonlinearity(activation)
    entries = width * width if method == "matrices" else 8 * width
    block = max(1, min(n_networks, _BLOCK_BYTES // (8 * entries)))
    parts = []
    for start in range(0, n_networks, block):
        n = min(block, n_networks - start)
        generator = draws.generators([draws.derive_seed(seed, "moments", start)], device=device)
        z = _pair(n, width, (q_0, q_b, c_0), generator[0])
        rows = [_moments(z)]
        for _ in range(depth):
            if method == "law":
                z = _next_by_law(phi(z), sigma_w2, sigma_b2, generator[0])
            else:
                z = _next_by_matrices(phi(z), sigma_w2, sigma_b2, initialisation, generator[0])
            rows.append(_moments(z))
        parts.append(torch.stack(rows, dim=1).cpu())
    moments = torch.cat(parts).numpy()
    return Moments(q=moments[..., 0], q_b=moments[..., 1], c=moments[..., 2])


def _normal(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, device=generator.device, generator=generator)


def _pair(
    n: int, width: int, moments: tuple[float, float, float], generator: torch.Generator
) -> Tensor:
    """Return pairs (n, 2, width) with exactly the moments (q_a, q_b, c)."""
    q_a, q_b, c = moments
    u, v = _normal((2, n, width), generator)
    u = u * (math.sqrt(width) / u.norm(dim=1, keepdim=True))
    v = v - u * ((u * v).sum(1, keepdim=True) / width)
    v = v * (math.sqrt(width) / v.norm(dim=1, keepdim=True))
    second = c * u + math.sqrt(1 - c * c) * v
    return torch.stack([math.sqrt(q_a) * u, math.sqrt(q_b) * second], dim=1)


def _moments(z: Tensor) -> Tensor:
    """Return (n, 3): q_a, q_b and c of pairs z (n, 2, width)."""
    q_a, q_b = z.square().mean(2).unbind(1)
    c = (z[:, 0] * z[:, 1]).mean(1) / (q_a * q_b).sqrt()
    return torch.stack([q_a, q_b, c], dim=1)


def _next_by_matrices(
    y: Tensor, sigma_w2: float, sigma_b2: float, scheme: str, generator: torch.Generator
) -> Tensor:
    n, _, width = y.shape
    if scheme == "gaussian":
        weights = _normal((n, width, width), generator).mul_(math.sqrt(sigma_w2 / width))
    else:
        variance = torch.full((n,), sigma_w2, dtype=torch.float64, device=y.device)
        weights = draws.draw_weights(
            width, width, variance, [generator] * n, scheme=scheme, dtype=torch.float64
        )
    return torch.baddbmm(math.sqrt(sigma_b2) * _normal((n, 1, width), generator), y, weights)


def _next_by_law(y: Tensor, sigma_w2: float, sigma_b2: float, generator: torch.Generator) -> Tensor:
    n, _, width = y.shape
    # Cholesky by hand: the factor stays real and finite when the two inputs coincide.
    gram = torch.bmm(y, y.transpose(1, 2)) * (sigma_w2 / width) + sigma_b2
    s_a = gram[:, 0, 0].sqrt()
    slope = torch.where(s_a > 0, gram[:, 0, 1] / s_a, 0.0)
    rest = (gram[:, 1, 1] - slope.square()).clamp(min=0).sqrt()
    first, second = _normal((2, n, width), generator)
    z_a = s_a[:, None] * first
    return torch.stack([z_a, slope[:, None] * first + rest[:, None] * second], dim=1)
