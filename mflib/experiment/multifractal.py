"""Eigenvectors of layers' Jacobians: how far each one spreads over the neurons.

One layer has two Jacobians, W D of the pre-activations (h^l ↦ h^{l+1} = W φ(h^l)) and D W of the
activations, D = diag φ′(h). They share their eigenvalues, and their eigenvectors follow from one
another: where W D r = λ r and l W D = λ l,

    D W (D r) = λ (D r),      (l W) D W = λ (l W),

so right eigenvectors of D W are D times those of W D, and left eigenvectors of W D are those of
D W times D. With independent symmetric entries Wᵀ has the law of W, and (W D)ᵀ = D Wᵀ: the left
eigenvectors of W D have the law of the right ones of D W, and the right ones of W D that of the
left ones of D W. So there are two kinds, not four, wherever W and D are independent.

The spread of a vector v, Σ|v_i|² = 1, is read from IPR_q(v) = Σ|v_i|^{2q} ~ N^{(1−q) D_q}: all
D_q = 1 if it covers all neurons alike, 0 if it sits on a few, and a D_q that falls with q in
between is multifractal.

Which one when: ``sample_dimensions`` for random layers at the fixed point or behind a real pass,
``cavity_dimensions`` for what theory expects of the former, ``observe_dimensions`` for a network at
hand, ``extrapolate`` for N → ∞.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from scipy import special
from torch import Tensor

from mflib import sources
from mflib.experiment import _checks, _eigenvectors, _shards, draws
from mflib.experiment._eigenvectors import (
    MATRICES,
    SIDES,
    Eigensystem,
    delocalised_dimension,
    eigenvectors,
    fractal_dimension,
    inverse_participation,
    layer_jacobian,
    observe_dimensions,
)
from mflib.experiment.nonlinearities import nonlinearity
from mflib.experiment.store import Store
from mflib.theory import _arrays, activations, levy, stable

__all__ = [
    "Eigensystem",
    "Limit",
    "cavity_dimensions",
    "delocalised_dimension",
    "eigenvectors",
    "extrapolate",
    "fractal_dimension",
    "inverse_participation",
    "layer_jacobian",
    "observe_dimensions",
    "sample_dimensions",
]

DIAGONALS = ("fixed-point", "propagated")
_POOL = 100_000  # sites over which F(u) is averaged, to about 0.002, …
_LEVELS = 400  # … by as many of their quantiles: no D_q depends on F so closely


# --- dimensions in the limit ---------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Limit:
    """The line D(N) = value + slope/ln N through measured dimensions, each field (*shape,).

    ``chi2`` is the weighted sum of squared residuals, of ``degrees`` degrees of freedom (0 with
    two widths, which any line fits).
    """

    value: np.ndarray
    error: np.ndarray
    slope: np.ndarray
    slope_error: np.ndarray
    chi2: np.ndarray
    degrees: int


def extrapolate(widths: ArrayLike, values: ArrayLike, errors: ArrayLike) -> Limit:
    """Extrapolate fractal dimensions to N → ∞ by the line D(N) = D_∞ + a/ln N.

    If IPR_q = A N^{(1−q) D}, then log_N IPR_q/(1 − q) = D + ln A/((1−q) ln N) exactly: the
    correction is of order 1/ln N, far slower than any power, and corrections to A of order 1/N
    add only a/(N ln N). Where D itself drifts with ln N, as ``cavity_dimensions`` says of one kind
    of eigenvectors, this is the limit of the line and no more; then compare at each N.

    ``widths``: (n,), at least two different ones; ``values`` and their
    standard errors ``errors`` > 0: (n, *shape), each shape's entry fitted on its own. The errors
    of the result are those that ``errors`` imply. Raises ValueError for other shapes or values.

    >>> import numpy as np
    >>> n = np.array([100, 200, 400])
    >>> float(extrapolate(n, 0.8 - 0.7 / np.log(n), [0.1, 0.1, 0.1]).value.round(9))
    0.8
    """
    n = _arrays.number("widths", widths, 2.0)
    y, error = _arrays.number("values", values, -np.inf), _arrays.number("errors", errors, 0.0)
    if n.ndim != 1 or len(np.unique(n)) < 2:
        raise ValueError(f"widths={n.tolist()} must hold at least two different ones")
    if y.shape[:1] != n.shape or y.shape != error.shape:
        raise ValueError(
            f"values {y.shape} and errors {error.shape} must have a first axis for the "
            f"{len(n)} widths and be of one shape"
        )
    if not (error > 0).all():
        raise ValueError("errors must be above 0: a width without an error would rule the line")
    x = (1 / np.log(n)).reshape(-1, *[1] * (y.ndim - 1))
    weight = error**-2.0
    total = weight.sum(0)
    middle, mean = (weight * x).sum(0) / total, (weight * y).sum(0) / total
    spread = (weight * (x - middle) ** 2).sum(0)
    slope = (weight * (x - middle) * (y - mean)).sum(0) / spread
    value = mean - slope * middle
    residual = y - value - slope * x
    return Limit(
        value=value,
        error=np.sqrt(1 / total + middle**2 / spread),
        slope=slope,
        slope_error=1 / np.sqrt(spread),
        chi2=(weight * residual**2).sum(0),
        degrees=len(n) - 2,
    )


# --- random layers --------------------------------------------------------------------------------


def sample_dimensions(
    activation: str = "tanh",
    *,
    alpha: float | Sequence[float],
    D_w: float | Sequence[float],
    widths: int | Sequence[int],
    n_networks: int,
    seed: int,
    q: Sequence[float] = (2.0,),
    sides: Sequence[str] = ("right",),
    matrices: Sequence[str] = ("WD",),
    diagonal: str = "fixed-point",
    layer: int = 5,
    store: Store | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Measure D_q of all eigenvectors of random heavy-tailed layers, W_ij ~ S_α((D_w/2N)^{1/α}).

    ``alpha`` in (0.5, 2] and ``D_w`` > 0: one number or one for each point, broadcast against each
    other; no bias. ``diagonal`` says where D = diag φ′(h) comes from:

    - "fixed-point": h_i independent, ~ S_α((q*/2)^{1/α}), the theory's law, independent of W;
    - "propagated": h^l of a white input, x_i ~ N(0, 1), sent through ``layer`` = l random layers;
      then W D is W^{l+1} D^l and D W is D^l W^l, whose D and W depend on one another.

    Returns one row per (alpha, D_w, width, matrix, side, q) with ``dimension``, the mean over all
    eigenvectors of all networks, its standard ``error`` over networks (NaN for one), ``spread``,
    the standard deviation over eigenvectors, and ``delocalised``, what complex random directions
    of that width show. Network k of a width has the same underlying uniform draws at every point,
    so differences between points are sharper than their errors. Shards are one network each,
    computed on as many threads as torch has.

    Raises ValueError for values out of range, before anything is drawn.
    Source: the paper, §C and §E, figs. 3 and S2.
    """
    nonlinearity(activation)
    a, d_w = _arrays.broadcast(
        alpha=np.atleast_1d(_arrays.number("alpha", alpha, -np.inf)),
        D_w=np.atleast_1d(_arrays.number("D_w", D_w, 0.0)),
    )
    for value in a.flat:
        _checks.stability("alpha", float(value))
    _checks.require(bool((d_w > 0).all()), "D_w", d_w.tolist(), "above 0")
    sizes = _sizes(widths)
    n_networks = _checks.count("n_networks", n_networks, 1)
    layer = _checks.count("layer", layer, 1)
    _checks.number("seed", seed, int)
    _eigenvectors.choice("diagonal", diagonal, DIAGONALS)
    orders = _eigenvectors.orders_of(q)
    common = {
        "activation": activation,
        "diagonal": diagonal,
        "layer": layer if diagonal == "propagated" else 0,
        "q": list(orders),
        "sides": list(_eigenvectors.names_of("sides", sides, SIDES)),
        "matrices": list(_eigenvectors.names_of("matrices", matrices, MATRICES)),
        "code": sources.code_version(__name__) if store is not None else "",
    }
    points = {
        (float(p), float(d), n, k): {
            **common, "alpha": float(p), "D_w": float(d), "width": n, "network": k, "seed": seed,
        }
        for p, d in zip(a.flat, d_w.flat, strict=True) for n in sizes for k in range(n_networks)
    }  # fmt: skip
    if diagonal == "fixed-point":
        draw, log_q = _fixed_point_layer, _log_lengths(activation, a, d_w)
    else:
        draw, log_q = _propagated_layer, np.full(a.shape, np.nan)
    lengths = {
        (float(p), float(d)): float(length)
        for p, d, length in zip(a.flat, d_w.flat, log_q.flat, strict=True)
    }

    def compute(point: tuple[float, float, int, int], advance: _shards.Advance) -> pd.DataFrame:
        stability, weight, n, k = point
        generator = draws.generators([draws.derive_seed(seed, "layer", n, k)])[0]
        law = _Law(activation, stability, weight, n, layer, lengths[stability, weight])
        found = draw(law, generator)
        tables = []
        for name in matrices:
            advance(1 / (1 + len(matrices)))
            tables.append(
                _eigenvectors.dimensions_of(found[name][None], sides, orders).assign(matrix=name)
            )
        return pd.concat(tables, ignore_index=True).assign(
            alpha=stability, D_w=weight, width=n, network=k
        )

    rows = pd.concat(
        _shards.gather(points, compute, store=store, progress=progress, title="eigenvectors"),
        ignore_index=True,
    )
    by = ["alpha", "D_w", "width", "matrix", "side", "q"]
    groups = rows.groupby(by, sort=False)
    table = groups["dimension"].agg(
        dimension="mean", error=lambda d: d.std(ddof=1) / math.sqrt(len(d))
    )
    within, between = groups["spread"].agg(lambda s: (s**2).mean()), groups["dimension"].var(ddof=0)
    table["spread"] = np.sqrt(within + between)
    table = table.reset_index()
    table["n_networks"] = n_networks
    table["delocalised"] = np.nan
    for n in sizes:
        at = table["width"] == n
        table.loc[at, "delocalised"] = delocalised_dimension(n, table.loc[at, "q"])
    return table


def cavity_dimensions(
    activation: str = "tanh",
    *,
    alpha: float,
    D_w: float,
    widths: int | Sequence[int],
    q: Sequence[float] = (2.0,),
    sides: Sequence[str] = ("right",),
    n_vectors: int = 400,
    seed: int,
) -> pd.DataFrame:
    """Return the mean D_q of eigenvectors of W D at the fixed point that the cavity picture gives.

    Row and column i of W enter through independent one-sided stable sums S, S′ of index α/2,
    E e^{−tS} = exp(−k t^{α/2}), k = Γ(1+α)/(2Γ(1+α/2)), and with χ = D_w^{1/α} φ′(h),
    X = χ² S S′, the share of eigenvalues below a modulus is F = ⟨u²/(u² + X)⟩, u ≥ 0. At that u

        |r_i|² ∝ S_i E_i/(u² + X_i),      |l_i|² ∝ χ_i² S′_i E_i/(u² + X_i),      E_i ~ Exp(1),

    independent over i. ``n_vectors`` such vectors, each of N entries at its own F uniform in
    (0, 1), are drawn and measured. For D W the sides change places.

    So for N → ∞ the two kinds part. |l_i|² is at most E_i/S_i: delocalised, D_q = 1, at every α.
    |r_i|² has no bound where φ′(h_i) → 0, and then the tail of S, of index α/2 < 1: up to
    logarithms (tanh: P(φ′ < ε) ~ |log ε|^{−α}) D_q = (1 − 2q/α)/(1 − q) for q < α/2, and 0
    beyond. The logarithms make that limit slow: a line in 1/ln N does not reach it.

    Columns: width, side, q, dimension, error (of the mean over vectors), spread. Real layers also
    have eigenvectors near the real axis, which are real, and networks that differ: the mean of a
    layer scatters about these values by several times what independent vectors would.

    Raises ValueError for values out of range. Source: Wardak, Gong 2022 (the paper's ref. 22) for
    the sums and F (the paper, eqs. 7, 8); the laws of the entries are argued, and tested here.
    """
    a = _checks.stability("alpha", alpha)
    _checks.require(_checks.number("D_w", D_w, float) > 0, "D_w", D_w, "above 0")
    sizes = _sizes(widths)
    orders, sides = _eigenvectors.orders_of(q), _eigenvectors.names_of("sides", sides, SIDES)
    n_vectors = _checks.count("n_vectors", n_vectors, 2)
    rng = np.random.default_rng(_checks.number("seed", seed, int))
    log_q = _log_lengths(activation, np.array([a]), np.array([float(D_w)]))[0]

    def sites(n: int) -> tuple[np.ndarray, ...]:
        """Draw log χ², log S and log S′, which span more than the floats do once multiplied."""
        h = math.exp((log_q - math.log(2)) / a) * stable.sample(a, n, rng=rng)
        with np.errstate(divide="ignore"):
            log_chi2 = 2 * np.log(activations.get(activation).d1(h)) + 2 / a * math.log(D_w)
        return log_chi2, np.log(_one_sided(a, n, rng)), np.log(_one_sided(a, n, rng))

    log_x = np.sum(sites(_POOL), axis=0)
    alive = np.isfinite(log_x)
    middle = 0.5 * np.quantile(log_x[alive], (np.arange(_LEVELS) + 0.5) / _LEVELS)
    log_u = np.r_[middle[0] - np.arange(8, 0, -1), middle, middle[-1] + np.arange(1, 9)]
    share = 1 - alive.mean() * special.expit(2 * (middle - log_u[:, None])).mean(1)
    rows = []
    for n in sizes:
        found: dict[str, list[np.ndarray]] = {side: [] for side in sides}
        for x in np.interp(rng.uniform(size=n_vectors), share, log_u):
            log_chi2, log_s, log_other = sites(n)
            common = np.log(rng.exponential(size=n))
            common -= np.logaddexp(2 * x, log_chi2 + log_s + log_other)
            for side in sides:
                log_p = common + (log_s if side == "right" else log_chi2 + log_other)
                found[side].append(fractal_dimension(np.exp(0.5 * (log_p - log_p.max())), orders))
        for side, parts in found.items():
            d = np.array(parts)
            error = d.std(0, ddof=1) / math.sqrt(n_vectors)
            columns = zip(orders, d.mean(0), error, d.std(0), strict=True)
            rows += [(n, side, *row) for row in columns]
    return pd.DataFrame(rows, columns=["width", "side", "q", "dimension", "error", "spread"])


def _one_sided(alpha: float, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw S > 0 with E e^{−tS} = exp(−k t^{α/2}), k = Γ(1+α)/(2Γ(1+α/2)); 1 at α = 2.

    Source: Kanter 1975 for k = 1.
    """
    a = alpha / 2
    angle, waiting = np.pi * rng.uniform(size=n), rng.exponential(size=n)
    standard = np.sin(a * angle) / np.sin(angle) ** (1 / a)
    standard *= (np.sin((1 - a) * angle) / waiting) ** ((1 - a) / a)
    return (special.gamma(1 + alpha) / (2 * special.gamma(1 + a))) ** (1 / a) * standard


@dataclasses.dataclass(frozen=True)
class _Law:
    activation: str
    alpha: float
    D_w: float
    width: int
    layer: int
    log_q: float

    def weights(self, generator: torch.Generator) -> Tensor:
        scale = (self.D_w / (2 * self.width)) ** (1 / self.alpha)
        return scale * self.standard((self.width, self.width), generator)

    def standard(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        alpha = torch.tensor([self.alpha], dtype=torch.float64)
        return draws.standard_stable(shape, [generator], alpha=alpha, dtype=torch.float64)[0]

    def slope(self, h: Tensor) -> np.ndarray:
        return activations.get(self.activation).d1(h.numpy())


def _log_lengths(activation: str, alpha: np.ndarray, D_w: np.ndarray) -> np.ndarray:
    """Return log q* of every point. Raises ValueError where there is no fixed point."""
    found = levy.fixed_point(activation, alpha, D_w)
    for k in np.flatnonzero(np.isnan(found.log_q)):
        raise ValueError(
            f"{activation} at alpha={alpha.flat[k]:g}, D_w={D_w.flat[k]:g} has no fixed point "
            f'({found.reason.flat[k]}): take diagonal="propagated", or other weights'
        )
    return found.log_q


def _fixed_point_layer(law: _Law, generator: torch.Generator) -> dict[str, np.ndarray]:
    w = law.weights(generator).numpy()
    scale = math.exp((law.log_q - math.log(2)) / law.alpha)
    slope = law.slope(scale * law.standard((law.width,), generator))
    return {"WD": w * slope, "DW": slope[:, None] * w}


def _propagated_layer(law: _Law, generator: torch.Generator) -> dict[str, np.ndarray]:
    phi = nonlinearity(law.activation)
    y = torch.randn(law.width, dtype=torch.float64, generator=generator)
    for _ in range(law.layer):
        w = law.weights(generator)
        h = w @ y
        y = phi(h)
    slope = law.slope(h)
    return {"WD": law.weights(generator).numpy() * slope, "DW": slope[:, None] * w.numpy()}


def _sizes(widths: int | Sequence[int]) -> list[int]:
    found = np.atleast_1d(np.asarray(widths)).tolist()
    _checks.require(len(found) > 0, "widths", widths, "a width, or a list of at least one")
    return [_checks.count("widths", n, 2) for n in found]
