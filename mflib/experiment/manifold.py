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
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from mflib import sources
from mflib.experiment import _checks, _circles, _shards
from mflib.experiment._circles import circle, variation
from mflib.experiment._devices import resolve_device
from mflib.experiment.store import Store

__all__ = ["Curves", "circle", "propagate", "sweep", "sweep_keys", "variation"]

_KERNEL = "mflib.experiment._circles"  # with its imports: all code that decides a number of a sweep


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
    settings = _circles.Settings.checked(
        activation, width, depth, n_angles, seed, layers, radius, plane
    )
    n_networks = _checks.count("n_networks", n_networks, 1)
    alpha = _checks.stability("alpha", alpha)
    where = resolve_device(device)
    networks = []
    for network in range(n_networks):
        found = []
        for layer, h in settings.states(alpha, [D_w ** (1 / alpha)], network, where):
            if layer in settings.layers:
                measures = variation(h[0]), _circles.log_median(h[0])
                found.append((*_circles.decomposed(h[0]), *measures))
        networks.append([torch.stack(parts) for parts in zip(*found, strict=True)])
    values, components, cv, median = (
        torch.stack(parts).cpu().numpy() for parts in zip(*networks, strict=True)
    )
    theta = _circles.angles(settings.n_angles).numpy()
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
    networks: Sequence[int] | None = None,
    layers: Sequence[int] | None = None,
    radius: float = 1.0,
    plane: str = "axes",
    store: Store | None = None,
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> pd.DataFrame:
    """Describe circles over the phase plane: one row per (alpha, gain, network, layer).

    ``gain``: values of D_w^{1/α}, > 0. ``networks``: which of 0 … ``n_networks`` − 1, all unless
    given; some of them have the rows and the shards that they have among all. Columns: alpha, gain,
    network, layer, cv (eq. 11), log_variance (of Σ_i Var_θ h_i), log_top and log_sum (of the
    largest singular value of the centred curve and of the sum of all), share_1 … share_5 of the
    variance, log_median of |h|. Shares and singular values come from the Gram matrix: exact to
    1e-15 of the largest variance.

    W scales with the gain, so one standard matrix per (alpha, network, layer) serves all gains; and
    network k takes the same uniform numbers at every alpha, so the plane is smooth in both
    directions. A shard is all gains of one (alpha, network); on the CPU as many are computed at
    once as torch has threads, each holding the curves of all gains. Where φ is odd and the number
    of angles n even, h(θ + π) = −h(θ), and half of the circle is sent through. Cost per shard and
    layer, then: N² stable draws, and for each gain n N² operations and an eigenvalue problem of
    size n/2 (or N) at each of ``layers``. Without bias and at small gains only the last layers tell
    something.

    Raises ValueError for values out of range.
    Source: the paper, §F, fig. 5 (width 1000, 50 networks).
    """
    where = resolve_device(device)
    plan = _Plan.checked(
        activation, alpha, gain, width, depth, n_angles, n_networks, seed, networks, layers,
        radius, plane,
    )  # fmt: skip
    settings, gains = plan.settings, plan.gains
    code = sources.code_version(_KERNEL) if store is not None else ""
    keys = dict(zip(plan.places, plan.keys(code, where.type), strict=True))
    half = settings.halves
    # a GPU takes the curves of all gains at once; one at a time stays in a core's cache
    many = len(gains) if where.type == "cuda" else 1
    starts = range(0, len(gains), many)
    share = 1 / ((settings.layers[-1] + 1) * len(starts))

    def compute(name: tuple[float, int], advance: _shards.Advance) -> pd.DataFrame:
        stability, network = name
        rows = []
        for layer, h in settings.states(stability, gains, network, where, half=half):
            at = {"alpha": stability, "network": network, "layer": layer}
            for start in starts:
                advance(share)
                if layer in settings.layers:
                    some = slice(start, start + many)
                    found = _circles.described(h[some], half=half)
                    pairs = zip(gains[some], found, strict=True)
                    rows += [{"alpha": stability, "gain": g} | at | row for g, row in pairs]
        return pd.DataFrame(rows)

    tables = _shards.gather(
        keys, compute, store=store, progress=progress, title="circles", device=where
    )
    order = ["alpha", "gain", "network", "layer"]
    return pd.concat(tables).sort_values(order, ignore_index=True)


def sweep_keys(
    activation: str = "tanh",
    *,
    alpha: Sequence[float],
    gain: Sequence[float],
    width: int,
    depth: int,
    n_angles: int,
    n_networks: int,
    seed: int,
    networks: Sequence[int] | None = None,
    layers: Sequence[int] | None = None,
    radius: float = 1.0,
    plane: str = "axes",
    device: torch.device | str = "cpu",
) -> list[dict[str, Any]]:
    """Return the keys of the shards that ``sweep`` puts into a store, computing none.

    The arguments are those of ``sweep``; network by network, one key for each alpha. Of ``device``
    the type counts, which need not be here. A key holds every setting that decides the shard's
    numbers, alpha and network among them, and the version of the code that computes them.
    Raises ValueError as ``sweep``.
    """
    plan = _Plan.checked(
        activation, alpha, gain, width, depth, n_angles, n_networks, seed, networks, layers,
        radius, plane,
    )  # fmt: skip
    kind = resolve_device(device) if str(device) == "auto" else torch.device(device)
    return plan.keys(sources.code_version(_KERNEL), kind.type)


@dataclasses.dataclass(frozen=True)
class _Plan:
    settings: _circles.Settings
    alphas: list[float]
    gains: list[float]
    networks: list[int]

    @classmethod
    def checked(
        cls,
        activation: str,
        alpha: Sequence[float],
        gain: Sequence[float],
        width: int,
        depth: int,
        n_angles: int,
        n_networks: int,
        seed: int,
        networks: Sequence[int] | None,
        layers: Sequence[int] | None,
        radius: float,
        plane: str,
    ) -> _Plan:
        """Return the plan once all of its settings are known to be good."""
        listed, distinct = _circles.listed, _circles.distinct
        settings = _circles.Settings.checked(
            activation, width, depth, n_angles, seed, layers, radius, plane
        )
        n = _checks.count("n_networks", n_networks, 1)
        alphas = distinct("alpha", [_checks.stability("alpha", a) for a in listed("alpha", alpha)])
        gains = distinct("gain", [_checks.number("gain", g, float) for g in listed("gain", gain)])
        for g in gains:
            _checks.require(g > 0, "gain", g, "above 0")
        chosen = range(n) if networks is None else listed("networks", networks)
        wanted = distinct("networks", [_checks.number("networks", k, int) for k in chosen])
        for k in wanted:
            _checks.require(0 <= k < n, "networks", k, f"in [0, n_networks={n})")
        return cls(settings, alphas, gains, wanted)

    @property
    def places(self) -> list[tuple[float, int]]:
        """Every (alpha, network), network by network: the whole plane comes early."""
        return [(a, k) for k in self.networks for a in self.alphas]

    def keys(self, code: str, device: str) -> list[dict[str, Any]]:
        """Return the key of every shard, in the order of ``places``."""
        common = {**dataclasses.asdict(self.settings), "gain": self.gains}
        common |= {"code": code, "device": device}
        return [{**common, "alpha": a, "network": k} for a, k in self.places]
