"""Circles sent through random heavy-tailed networks: what a layer keeps, shrinks and folds.

A circle h⁰(θ) = r (cos θ u + sin θ v), u ⊥ v unit vectors, is sent through h^{l+1} = W^{l+1} φ(h^l)
without biases, W_ij ~ S_α((D_w/2N)^{1/α}). Its image at layer l is a closed curve in N dimensions,
described by its principal components over θ, by its total variance, and by the coefficient of
variation of the distances between neighbours (eq. 11): small where the layers shrink or stretch the
curve alike everywhere, large where they do one here and the other there.

Which one when: ``propagate`` for the curves of a few networks at one (α, D_w), ``sweep`` for the
phase plane, as shards that ``store`` keeps.

Three conventions matter. The paper's circle has radius 1 in all, so a neuron's mean square starts
at 1/N and needs about log N/log χ layers to leave the linear regime; ``radius = √N`` starts it at
1. And it lies in the plane of two neurons ("axes"): with a large radius φ would saturate those two
and fold the circle before any weight did, so that asks for a random plane. Third, a step
2π/``n_angles`` that chaos stretches beyond the curve's own size measures distances of unrelated
points, which vary little: far in the chaotic phase CV rises with the number of angles, and its
being small there is a statement about a finite step.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mflib import sources
from mflib.experiment import _checks, _shards, draws
from mflib.experiment.nonlinearities import Nonlinearity, nonlinearity
from mflib.experiment.store import Store
from mflib.experiment.training import resolve_device

__all__ = ["Curves", "circle", "propagate", "sweep", "variation"]

PLANES = ("axes", "random")
N_SHARES = 5


def circle(
    width: int,
    n_angles: int,
    *,
    radius: float = 1.0,
    plane: str = "axes",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return r (cos θ_k u + sin θ_k v) at θ_k = 2πk/n, (n_angles, width) in float64.

    ``plane="axes"`` takes the first two unit vectors for u and v (the published code's choice),
    "random" a uniformly random orthonormal pair from ``generator``. ``radius`` > 0 is the Euclidean
    length of each point. Raises ValueError for other values, fewer than 3 angles, or width below 2.

    >>> circle(3, 4).round(decimals=9).tolist()[1]
    [0.0, 1.0, 0.0]
    """
    width = _checks.count("width", width, 2)
    n_angles = _checks.count("n_angles", n_angles, 3)
    _checks.require(_checks.number("radius", radius, float) > 0, "radius", radius, "above 0")
    _choice("plane", plane, PLANES)
    theta = _angles(n_angles)
    turn = torch.stack([torch.cos(theta), torch.sin(theta)], dim=1)
    if plane == "axes":
        frame = torch.eye(width, 2, dtype=torch.float64)
    else:
        if generator is None:
            raise ValueError('plane="random" needs a generator: give one')
        frame = draws.haar_orthogonal(width, 2, [generator], dtype=torch.float64)[0].cpu()
    return radius * turn @ frame.T


def variation(h: Tensor) -> Tensor:
    """Return CV = std_θ(Δh)/⟨Δh⟩_θ, Δh_k = |h(θ_{k+1}) − h(θ_k)|, of closed curves (..., n, N).

    The last point's neighbour is the first. NaN where all points coincide.
    Source: the paper, eq. 11.
    """
    curve = _scaled(h)[0]
    steps = (curve.roll(-1, dims=-2) - curve).norm(dim=-1)
    return steps.std(dim=-1, correction=0) / steps.mean(dim=-1)


@dataclasses.dataclass(frozen=True)
class Curves:
    """Images of a circle by network (E) and layer (L), from ``propagate``.

    ``theta``: (n,); ``layers``: the L layers, 0 being the circle. ``log_singular_values``
    (E, L, min(n, N)): log s_k of the n × N matrix h^l(θ) − ⟨h^l⟩_θ, descending, −inf for 0.
    ``components`` (E, L, n, 3): its first three left singular vectors, the principal components
    with Σ_θ u² = 1, each with its largest entry positive. ``cv`` (E, L): eq. 11.
    ``log_median`` (E, L): log of the median of |h| over neurons and angles.
    """

    theta: np.ndarray
    layers: tuple[int, ...]
    log_singular_values: np.ndarray
    components: np.ndarray
    cv: np.ndarray
    log_median: np.ndarray

    @property
    def log_variance(self) -> np.ndarray:
        """Return log of the total variance Σ_i Var_θ h_i = Σ_k s_k²/n, (E, L)."""
        doubled = 2 * self.log_singular_values
        return np.logaddexp.reduce(doubled, axis=-1) - math.log(len(self.theta))

    @property
    def shares(self) -> np.ndarray:
        """Return each component's share of the variance, s_k²/Σ s², (E, L, min(n, N))."""
        doubled = 2 * self.log_singular_values
        return np.exp(doubled - np.logaddexp.reduce(doubled, axis=-1, keepdims=True))

    @property
    def log_sum(self) -> np.ndarray:
        """Return log Σ_k s_k, (E, L): what the published code prints as the total variance."""
        return np.logaddexp.reduce(self.log_singular_values, axis=-1)


def propagate(
    activation: str = "tanh",
    *,
    alpha: float,
    D_w: float,
    width: int,
    depth: int,
    n_angles: int,
    n_networks: int,
    seed: int,
    layers: Sequence[int] | None = None,
    radius: float = 1.0,
    plane: str = "axes",
    device: torch.device | str = "cpu",
) -> Curves:
    """Send a circle through random networks and describe its image at ``layers`` (all of them).

    h^{l+1} = W^{l+1} φ(h^l), W_ij ~ S_α((D_w/2N)^{1/α}), h⁰ the ``circle``. All in float64, where
    amplitudes down to 1e-300 keep their precision: with gain g = D_w^{1/α} an ordered network
    shrinks them like g^l. ``alpha`` in (0.5, 2], ``D_w`` > 0. Network k is that of ``sweep``.
    Raises ValueError for values out of range.
    Source: the paper, §F, figs. 4 and S1 (FC20, one network).
    """
    _checks.require(_checks.number("D_w", D_w, float) > 0, "D_w", D_w, "above 0")
    settings = _Settings.checked(
        activation, width, depth, n_angles, n_networks, seed, layers, radius, plane
    )
    alpha = _checks.stability("alpha", alpha)
    where = resolve_device(device)
    networks = []
    for network in range(settings.n_networks):
        found = []
        for layer, h in settings.states(alpha, [D_w ** (1 / alpha)], network, where):
            if layer in settings.layers:
                found.append((*_decomposed(h[0]), variation(h[0]), _log_median(h[0])))
        networks.append([torch.stack(parts) for parts in zip(*found, strict=True)])
    values, components, cv, median = (
        torch.stack(parts).cpu().numpy() for parts in zip(*networks, strict=True)
    )
    theta = _angles(settings.n_angles).numpy()
    return Curves(theta, settings.layers, values, components, cv, median)


def sweep(
    activation: str = "tanh",
    *,
    alpha: Sequence[float],
    gain: Sequence[float],
    width: int,
    depth: int,
    n_angles: int,
    n_networks: int,
    seed: int,
    layers: Sequence[int] | None = None,
    radius: float = 1.0,
    plane: str = "axes",
    store: Store | None = None,
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> pd.DataFrame:
    """Describe circles over the phase plane: one row per (alpha, gain, network, layer).

    ``gain``: values of D_w^{1/α}, > 0. Columns: alpha, gain, network, layer, cv (eq. 11),
    log_variance (of Σ_i Var_θ h_i), log_top and log_sum (of the largest singular value of the
    centred curve and of the sum of all), share_1 … share_5 of the variance, log_median of |h|.
    Shares and singular values come from the Gram matrix: exact to 1e-15 of the largest variance.

    W scales with the gain, so one standard matrix per (alpha, network, layer) serves all gains; and
    network k takes the same uniform numbers at every alpha, so the plane is smooth in both
    directions. A shard is all gains of one (alpha, network); on the CPU as many are computed at
    once as torch has threads, each holding the curves of all gains. Cost per shard and layer: N²
    stable draws, and for each gain 2 n N² operations and an n × n (or N × N) eigenvalue problem at
    each of ``layers``. Without bias and at small gains only the last layers tell something.

    Raises ValueError for values out of range.
    Source: the paper, §F, fig. 5 (width 1000, 50 networks).
    """
    settings = _Settings.checked(
        activation, width, depth, n_angles, n_networks, seed, layers, radius, plane
    )
    alphas = _distinct("alpha", [_checks.stability("alpha", a) for a in _listed("alpha", alpha)])
    gains = _distinct("gain", [_checks.number("gain", g, float) for g in _listed("gain", gain)])
    for g in gains:
        _checks.require(g > 0, "gain", g, "above 0")
    where = resolve_device(device)
    common = {
        **dataclasses.asdict(settings),
        "gain": gains,
        "code": sources.code_version(__name__) if store is not None else "",
        "device": where.type,
    }
    del common["n_networks"]
    # network by network: the whole plane comes early, its errors shrink later
    keys = {
        (a, k): {**common, "alpha": a, "network": k}
        for k in range(settings.n_networks)
        for a in alphas
    }

    share = 1 / ((settings.layers[-1] + 1) * len(gains))

    def compute(name: tuple[float, int], advance: _shards.Advance) -> pd.DataFrame:
        stability, network = name
        rows = []
        for layer, h in settings.states(stability, gains, network, where):
            for g, curve in zip(gains, h, strict=True):
                advance(share)
                if layer in settings.layers:
                    at = {"alpha": stability, "gain": g, "network": network, "layer": layer}
                    rows.append(at | _described(curve))
        return pd.DataFrame(rows)

    tables = _shards.gather(
        keys, compute, store=store, progress=progress, title="circles", device=where
    )
    order = ["alpha", "gain", "network", "layer"]
    return pd.concat(tables).sort_values(order, ignore_index=True)


# --- networks -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Settings:
    activation: str
    width: int
    depth: int
    n_angles: int
    n_networks: int
    seed: int
    layers: tuple[int, ...]
    radius: float
    plane: str

    @classmethod
    def checked(
        cls,
        activation: str,
        width: int,
        depth: int,
        n_angles: int,
        n_networks: int,
        seed: int,
        layers: Sequence[int] | None,
        radius: float,
        plane: str,
    ) -> _Settings:
        """Return the settings once all of them are known to be good."""
        nonlinearity(activation)
        depth = _checks.count("depth", depth, 1)
        _choice("plane", plane, PLANES)
        circle(width, n_angles, radius=radius)
        chosen = range(depth + 1) if layers is None else _listed("layers", layers)
        wanted = [_checks.number("layers", layer, int) for layer in chosen]
        for layer in wanted:
            _checks.require(0 <= layer <= depth, "layers", layer, f"in [0, depth={depth}]")
        return cls(
            activation,
            int(width),
            depth,
            int(n_angles),
            _checks.count("n_networks", n_networks, 1),
            _checks.number("seed", seed, int),
            tuple(sorted(_distinct("layers", wanted))),
            float(radius),
            plane,
        )

    def states(
        self, alpha: float, gains: Sequence[float], network: int, device: torch.device
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield (l, h^l) for l = 0 … the last layer wanted, h^l (gains, n_angles, N).

        The tensor is that of the layer before, overwritten.
        """
        seed = draws.derive_seed(self.seed, "manifold", self.width, network)
        members = draws.generators([seed], device=device)
        plane = draws.generators([draws.derive_seed(seed, "plane")])[0]
        start = circle(
            self.width, self.n_angles, radius=self.radius, plane=self.plane, generator=plane
        )
        phi: Nonlinearity = nonlinearity(self.activation)
        h = start.to(device).expand(len(gains), -1, -1).clone()
        stability = torch.tensor([alpha], dtype=torch.float64)
        scale = (0.5 / self.width) ** (1 / alpha)
        yield 0, h
        for layer in range(1, self.layers[-1] + 1):
            shape = (self.width, self.width)
            w = draws.standard_stable(shape, members, alpha=stability, dtype=torch.float64)[0]
            for gain, curve in zip(gains, h, strict=True):
                torch.matmul(phi(curve), w.mT, out=curve).mul_(gain * scale)
            yield layer, h


# --- curves ---------------------------------------------------------------------------------------


def _angles(n: int) -> Tensor:
    return torch.arange(n, dtype=torch.float64) * (2 * math.pi / n)


def _scaled(h: Tensor) -> tuple[Tensor, Tensor]:
    """Return h/s and s = max |h| (1 where h is 0): squares of small curves underflow otherwise."""
    size = h.abs().amax(dim=(-2, -1), keepdim=True)
    size = torch.where(size > 0, size, torch.ones_like(size))
    return h / size, size[..., 0, 0]


def _centred(h: Tensor) -> tuple[Tensor, Tensor]:
    return _scaled(h - h.mean(dim=-2, keepdim=True))


def _decomposed(h: Tensor) -> tuple[Tensor, Tensor]:
    """Return log singular values of a centred curve (n, N) and its first three components."""
    curve, size = _centred(h)
    u, s, _ = torch.linalg.svd(curve, full_matrices=False)
    u = u[:, :3]
    largest = u.gather(0, u.abs().argmax(dim=0, keepdim=True))
    return s.log() + size.log(), u * torch.where(largest < 0, -1.0, 1.0)


def _described(h: Tensor) -> dict[str, Any]:
    """Return the measures of one curve (n, N), by name."""
    curve, size = _centred(h)
    n, width = curve.shape
    gram = curve @ curve.mT if n <= width else curve.mT @ curve
    squares = torch.linalg.eigvalsh(gram).clamp_(min=0).flip(0)
    total, log_size = squares.sum(), float(size.log())
    shares = (squares[:N_SHARES] / total).tolist()
    return {
        "cv": float(variation(h)),
        "log_variance": float((total / n).log()) + 2 * log_size,
        "log_top": 0.5 * float(squares[0].log()) + log_size,
        "log_sum": float(squares.sqrt().sum().log()) + log_size,
        **{f"share_{k}": share for k, share in enumerate(shares, 1)},
        "log_median": float(_log_median(h)),
    }


def _log_median(h: Tensor) -> Tensor:
    return h.abs().median().log()


# --- checks ---------------------------------------------------------------------------------------


def _listed(name: str, values: Any) -> Sequence[Any]:
    listed = np.ndim(values) == 1 and len(values) > 0
    _checks.require(bool(listed), name, values, "a list of at least one number")
    return list(values)


def _distinct(name: str, values: list[Any]) -> list[Any]:
    _checks.require(len(set(values)) == len(values), name, values, "without repetition")
    return values


def _choice(name: str, value: object, choices: Sequence[str]) -> None:
    _checks.require(value in choices, name, value, f"one of {', '.join(choices)}")
