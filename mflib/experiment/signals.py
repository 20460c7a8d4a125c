"""Signals sent through random networks of finite width, and their moments layer by layer."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from mflib.experiment import _checks, draws
from mflib.experiment.nonlinearities import Nonlinearity, nonlinearity
from mflib.theory import convolution

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
KERNEL_SCHEMES = ("gaussian", "delta-orthogonal")


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
    _check_method(method, initialisation, draws.SCHEMES)
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


def _check_method(method: str, initialisation: str, schemes: tuple[str, ...]) -> None:
    for name, value, choices in (
        ("method", method, METHODS),
        ("initialisation", initialisation, schemes),
    ):
        _checks.require(value in choices, name, value, f"one of {', '.join(choices)}")
    if method == "law" and initialisation != "gaussian":
        raise ValueError(f'method "law" holds for gaussian weights, not for {initialisation}')


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


# --- convolutions ---------------------------------------------------------------------------------


def sample_covariance(
    activation: str,
    *,
    channels: int,
    size: int | tuple[int, int],
    variances: ArrayLike,
    depth: int,
    sigma_w2: float,
    sigma_b2: float,
    sigma_0: ArrayLike,
    n_networks: int,
    seed: int,
    method: str = "law",
    initialisation: str = "gaussian",
    device: torch.device | str = "cpu",
) -> np.ndarray:
    """Propagate a field through random convolutional networks; return its covariance by layer.

    Σ^l_{αα′} = Σ_i z^l_i(α) z^l_i(α′)/C over the C channels of one network, where z⁰ has exactly
    the covariance ``sigma_0`` and, with circular boundaries,

        z^l_j(α) = Σ_{i,β} φ(z^{l-1}_i(α + β)) ω_ij(β) + b_j,   ω_ij(β) ~ N(0, σ_w² v_β/C),
        b_j ~ N(0, σ_b²)                                              (the paper's eq. 13).

    ``size``: n for a ring, (n_1, n_2) for a torus; ``variances`` v: (s,) or (s_1, s_2), odd sizes,
    ≥ 0, sum 1; ``sigma_0``: (*size, *size), positive semi-definite, of rank ≤ channels. Returns
    (n_networks, depth + 1, *size, *size), float64.

    ``method="law"`` uses that, given φ(z^{l-1}), the channels of z^l are independent Gaussian
    fields of covariance σ_w²/C · A ⋆ (φᵀφ) + σ_b²: exactly the same distribution from C·P normals
    per layer instead of the C²·s of ``method="matrices"``, which draws every kernel and is the
    only one for ``initialisation="delta-orthogonal"`` (σ_w times a Haar orthogonal matrix at
    β = 0; ``variances`` must be a delta kernel).

    Raises ValueError for values out of range. The result depends on seed and sizes alone.
    """
    for name, count, least in (
        ("channels", channels, 1),
        ("depth", depth, 0),
        ("n_networks", n_networks, 1),
    ):
        _checks.count(name, count, least)
    sigma_w2 = _checks.variance("sigma_w2", sigma_w2)
    sigma_b2 = _checks.variance("sigma_b2", sigma_b2)
    _checks.number("seed", seed, int)
    _check_method(method, initialisation, KERNEL_SCHEMES)
    phi = nonlinearity(activation)
    start, v = convolution.checked(sigma_0, variances)
    sizes = size if isinstance(size, tuple | list) else (size,)
    positions = tuple(_checks.count("size", n, 1) for n in sizes)
    shape = (*positions, *positions)
    _checks.require(start.shape == shape, "sigma_0 of shape", start.shape, f"of shape {shape}")
    if initialisation == "delta-orthogonal":
        middle = float(v[tuple(s // 2 for s in v.shape)])
        _checks.require(middle == 1, "variances", v.tolist(), "a delta kernel, 1 in the middle")
    root = _root(start.reshape(math.prod(positions), -1))
    if root.shape[1] > channels:
        raise ValueError(
            f"channels={channels} must be at least {root.shape[1]}, the rank of sigma_0, "
            "so that z⁰ can have exactly that covariance"
        )
    layer = _Layer(phi, v, positions, sigma_w2, sigma_b2, method, initialisation)
    block = max(1, min(n_networks, _BLOCK_BYTES // (8 * layer.entries(channels))))
    parts = []
    for first in range(0, n_networks, block):
        n = min(block, n_networks - first)
        seeds = [draws.derive_seed(seed, "covariance", first)]
        generator = draws.generators(seeds, device=device)[0]
        z = _field(n, channels, torch.as_tensor(root, device=device), generator)
        rows = [_gram(z)]
        for _ in range(depth):
            z = layer(z, generator)
            rows.append(_gram(z))
        parts.append(torch.stack(rows, dim=1).cpu())
    return torch.cat(parts).numpy().reshape(n_networks, depth + 1, *shape)


def _root(sigma: np.ndarray) -> np.ndarray:
    """Return R, (P, rank), with R Rᵀ = Σ."""
    values, vectors = np.linalg.eigh(sigma)
    keep = values > 1e-12 * np.abs(values).max()
    return np.asarray(vectors[:, keep] * np.sqrt(values[keep]))


def _field(n: int, channels: int, root: Tensor, generator: torch.Generator) -> Tensor:
    """Return fields (n, channels, P) with exactly the covariance R Rᵀ."""
    rank = root.shape[1]
    if rank == 0:
        return torch.zeros(n, channels, root.shape[0], dtype=root.dtype, device=root.device)
    frames = draws.haar_orthogonal(channels, rank, [generator] * n, dtype=torch.float64)
    return math.sqrt(channels) * frames @ root.T


def _gram(z: Tensor) -> Tensor:
    """Return zᵀz/C, (n, P, P), of fields z (n, C, P)."""
    return torch.bmm(z.transpose(1, 2), z) / z.shape[1]


@dataclasses.dataclass(frozen=True)
class _Layer:
    """Draw one layer for each network and send its field through, (n, C, P) → (n, C, P)."""

    phi: Nonlinearity
    v: np.ndarray
    positions: tuple[int, ...]
    sigma_w2: float
    sigma_b2: float
    method: str
    initialisation: str

    def entries(self, channels: int) -> int:
        """Return how many numbers one network needs."""
        places = math.prod(self.positions)
        if self.method == "law":
            return 4 * (channels + places) * places
        return self.v.size * channels * (channels + places) + 3 * channels * places

    def __call__(self, z: Tensor, generator: torch.Generator) -> Tensor:
        y = self.phi(z)
        if self.method == "law":
            return self._by_law(y, generator)
        n, channels, _ = y.shape
        bias = math.sqrt(self.sigma_b2) * _normal((n, channels, 1), generator)
        if self.initialisation == "delta-orthogonal":
            frames = draws.haar_orthogonal(channels, channels, [generator] * n, dtype=torch.float64)
            return torch.baddbmm(bias, frames, y, alpha=math.sqrt(self.sigma_w2))
        for beta, weight in convolution.offsets(self.v):
            kernel = _normal((n, channels, channels), generator)
            scale = math.sqrt(self.sigma_w2 * weight / channels)
            bias = torch.baddbmm(bias, kernel, self._shifted(y, beta, 1), alpha=scale)
        return bias

    def _by_law(self, y: Tensor, generator: torch.Generator) -> Tensor:
        gram = _gram(y)
        covariance = torch.full_like(gram, self.sigma_b2)
        for beta, weight in convolution.offsets(self.v):
            covariance += self.sigma_w2 * weight * self._shifted(gram, beta, 2)
        normal = _normal(tuple(y.shape), generator)
        return normal @ _factor(covariance).transpose(1, 2)

    def _shifted(self, y: Tensor, beta: tuple[int, ...], copies: int) -> Tensor:
        """Return y(α + β) for the last axis, or for both of the last two."""
        grid = y.reshape(*y.shape[: y.ndim - copies], *self.positions * copies)
        axes = tuple(range(grid.ndim - copies * len(beta), grid.ndim))
        return grid.roll(tuple(-b for b in beta) * copies, axes).reshape(y.shape)


def _factor(covariance: Tensor) -> Tensor:
    """Return L with L Lᵀ = covariance, (n, P, P), where that may be singular too."""
    factor, failed = torch.linalg.cholesky_ex(covariance)
    rows = failed.nonzero()[:, 0]
    if len(rows):
        # Cholesky stops at an eigenvalue that rounding made negative; any root serves the law
        values, vectors = torch.linalg.eigh(covariance[rows])
        factor[rows] = vectors * values.clamp(min=0).sqrt().unsqueeze(1)
    return factor
