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
import scipy.linalg
import torch
from numpy.typing import ArrayLike
from scipy import special
from torch import Tensor, nn

from mflib import sources
from mflib.experiment import _checks, _shards, draws
from mflib.experiment.networks import FullyConnected
from mflib.experiment.nonlinearities import MODULES, nonlinearity
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

MATRICES = ("WD", "DW")
SIDES = ("right", "left")
DIAGONALS = ("fixed-point", "propagated")
_POOL = 100_000  # sites over which F(u) is averaged, to about 0.002, …
_LEVELS = 400  # … by as many of their quantiles: no D_q depends on F so closely
_ROUNDING = 1e-14  # residual, relative to |M|, from which a second look at a vector pays
_NEAR_ONE = 1e-2  # |q − 1| below which 1/(1 − q) would magnify the rounding of log IPR


# --- vectors ------------------------------------------------------------------------------------


def inverse_participation(v: ArrayLike, q: ArrayLike) -> np.ndarray:
    """Return IPR_q(v) = Σ_i |v_i|^{2q}, with v scaled to Σ_i |v_i|² = 1.

    ``v``: (..., N), real or complex, N ≥ 2; ``q``: any shape, ≥ 0. Returns (..., *q.shape). IPR_0
    counts the entries that are not 0. Raises ValueError for a vector that is 0 or not finite, and
    for a negative q, whose moment the smallest entries rule.

    Source: the paper, eq. 9.

    >>> inverse_participation([3.0, 4.0j, 0.0], [0, 1, 2]).round(4)
    array([2.    , 1.    , 0.5392])
    """
    orders = _arrays.number("q", q, 0.0)
    return np.exp((1 - orders) * _entropy(v, orders))


def fractal_dimension(v: ArrayLike, q: ArrayLike) -> np.ndarray:
    """Return D_q(v) = log_N IPR_q(v) / (1 − q), and its limit −log_N Π p_i^{p_i} at q = 1.

    p_i = |v_i|²/Σ|v|². Shapes and errors as in ``inverse_participation``. D_0 is log_N of the
    number of entries that are not 0; D_q falls with q and stays within [0, 1].

    Source: the paper, below eq. 9; Evers, Mirlin 2008, §II.C.

    >>> fractal_dimension([1, 1j, 0, 0], [0, 0.5, 1, 2])
    array([0.5, 0.5, 0.5, 0.5])
    """
    return _entropy(v, _arrays.number("q", q, 0.0)) / math.log(np.shape(v)[-1])


def _entropy(v: ArrayLike, q: np.ndarray) -> np.ndarray:
    """Return Rényi's entropies log Σ p^q / (1 − q), (..., *q.shape), of p = |v|²/Σ|v|²."""
    modulus = np.abs(np.asarray(v))
    if modulus.ndim == 0 or modulus.shape[-1] < 2:
        raise ValueError(f"v of shape {modulus.shape} must have at least 2 entries: log N divides")
    largest = modulus.max(axis=-1, keepdims=True)
    if not (np.isfinite(largest) & (largest > 0)).all():
        raise ValueError("v holds a vector that is 0 or not finite, which has no direction")
    with np.errstate(divide="ignore"):
        log_p = 2 * np.log(modulus / largest)
    log_p -= np.log(np.exp(log_p).sum(axis=-1, keepdims=True))
    log_p = np.where(np.isneginf(log_p), np.nan, log_p)  # entries that are 0 take part in no sum
    entropies = [_renyi(log_p, float(order)) for order in q.flat]
    return np.stack(entropies, axis=-1).reshape((*modulus.shape[:-1], *q.shape))


def _renyi(log_p: np.ndarray, q: float) -> np.ndarray:
    if q == 1:
        return -np.nansum(np.exp(log_p) * log_p, axis=-1)
    if abs(q - 1) < _NEAR_ONE:
        excess = np.nansum(np.exp(log_p) * np.expm1((q - 1) * log_p), axis=-1)
        return np.log1p(excess) / (1 - q)
    top = np.nanmax(log_p, axis=-1)
    moment = np.nansum(np.exp(q * (log_p - top[..., None])), axis=-1)
    return (q * top + np.log(moment)) / (1 - q)


def delocalised_dimension(width: int, q: ArrayLike, *, real: bool = False) -> np.ndarray:
    """Return D_q of a random direction in N dimensions, log_N E[IPR_q] / (1 − q).

    |v_i|² of a uniform unit vector follow a Dirichlet law of parameter β = 1 if it is complex, 1/2
    if real, so exactly

        E IPR_q = N Γ(β + q) Γ(βN) / (Γ(β) Γ(βN + q)) → Γ(β + q) N^{1−q} / (Γ(β) β^q):

    D_q is 1 only for N → ∞, and at q = 2 complex vectors of 784 entries have 0.896. What a finite
    layer shows is to be compared with this, not with 1. ``q``: ≥ 0, any shape, which is that of
    the result. Raises ValueError for N < 2.

    >>> delocalised_dimension(784, [0, 1, 2]).round(3)
    array([1.   , 0.937, 0.896])
    """
    n = _checks.count("width", width, 2)
    orders = _arrays.number("q", q, 0.0)
    beta = 0.5 if real else 1.0
    # log E IPR_q vanishes at q = 1: a mean of its slope divides by 1 − q without loss there
    nodes, weights = np.polynomial.legendre.leggauss(64)
    at = 1 + 0.5 * (nodes + 1) * (orders[..., None] - 1)
    slope = special.digamma(beta * n + at) - special.digamma(beta + at)
    return np.asarray(slope @ (0.5 * weights)) / math.log(n)


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


# --- matrices -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Eigensystem:
    """Eigenvalues λ_k (..., N) of matrices M with ``right[..., k, :]`` and ``left[..., k, :]``.

    M r_k = λ_k r_k and l_k M = λ_k l_k, row k of each array a vector of length 1. l_k r_j = 0 for
    λ_k ≠ λ_j; there is no complex conjugate in it.
    """

    values: np.ndarray
    right: np.ndarray
    left: np.ndarray


def eigenvectors(matrix: ArrayLike | Tensor) -> Eigensystem:
    """Return eigenvalues, right and left eigenvectors of square matrices (..., N, N), complex.

    One Schur form gives both sides in the same order; a layer of 784 takes about 0.4 s. Residuals
    |M r − λ r| are of the order of 1e-15 |M|; where |λ| itself is below that, as it is for
    saturated neurons, they reach 1e-4 |M|. Raises ValueError for other shapes and for entries that
    are not finite.
    """
    m = np.asarray(matrix.detach().cpu() if isinstance(matrix, Tensor) else matrix)
    if m.ndim < 2 or m.shape[-1] != m.shape[-2] or m.shape[-1] < 2:
        raise ValueError(f"matrix of shape {m.shape} must be square (..., N, N) with N ≥ 2")
    n = m.shape[-1]
    systems = [_eigensystem(one, SIDES) for one in m.reshape(-1, n, n)]
    values, right, left = (
        np.reshape([getattr(system, name) for system in systems], shape).astype(np.complex128)
        for name, shape in (("values", m.shape[:-1]), ("right", m.shape), ("left", m.shape))
    )
    return Eigensystem(values, right, left)


def _eigensystem(matrix: np.ndarray, sides: Sequence[str]) -> Eigensystem:
    """Return the eigenvectors of one matrix (N, N) on the sides asked for, none on the other."""
    m = matrix.astype(np.float64)
    if not np.isfinite(m).all():
        raise ValueError("matrix holds entries that are not finite")
    none = np.empty((0, len(m)), dtype=np.complex128)
    if "left" not in sides:
        values, right = np.linalg.eig(m)  # as scipy's, but other threads go on meanwhile
        return Eigensystem(values, _refined(m, values, right), none)
    values, left, right = scipy.linalg.eig(m, left=True, check_finite=False)
    # LAPACK's left vectors satisfy vᴴ M = λ vᴴ
    left = _refined(m.T, values, left.conj())
    return Eigensystem(values, _refined(m, values, right) if "right" in sides else none, left)


def _refined(m: np.ndarray, values: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Return eigenvectors (N, N), one in each row, each with the smaller of two residuals.

    LAPACK balances first. Where saturated neurons make columns of W D tiny, undoing that magnifies
    the rounding of those neurons' entries; but M itself is blind to them, so M v is right again.
    For λ near 0, where M v is rounding, v is kept.
    """
    image = _applied(m, vectors)
    rest = np.linalg.norm(image - values * vectors, axis=0)
    (rough,) = np.nonzero(rest > _ROUNDING * np.linalg.norm(m))
    length = np.linalg.norm(image[:, rough], axis=0)
    again = image[:, rough] / np.where(length > 0, length, 1.0)
    change = np.linalg.norm(_applied(m, again) - values[rough] * again, axis=0)
    better = (change < rest[rough]) & (length > 0)
    refined = vectors.T.copy()
    refined[rough[better]] = again.T[better]
    return refined


def _applied(m: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Return m @ vectors for real m and complex vectors: half the work of complex arithmetic."""
    if not vectors.size:
        return vectors
    pairs = np.ascontiguousarray(vectors, dtype=np.complex128).view(np.float64)
    return (m @ pairs).view(np.complex128)


def layer_jacobian(
    network: FullyConnected | nn.Sequential, x: Tensor, layer: int, *, matrix: str = "WD"
) -> np.ndarray:
    """Return W^{l+1} D^l, or D^l W^l, of a network at given inputs, in float64.

    D^l = diag φ′(h^l(x)), l = ``layer`` = 1 … number of hidden layers; W maps columns, so entry
    (i, j) leads from neuron j to neuron i. W^{l+1} of the last hidden layer is the readout.
    ``x``: (d,) or (n, d). Returns (n, N_out, N_in), with the members (E,) in front for an ensemble
    and without n for a single input. A plain Sequential may hold Flatten, Linear and pointwise
    activations by name of ``nonlinearities.MODULES``.

    φ′ is taken from h by formulas that keep its size where neurons saturate: 1 − tanh² rounds to
    exactly 0 from |h| = 19 on, and heavy tails put neurons there.

    Raises ValueError for a layer that the network lacks, and for other modules.
    Source: the paper, §C and §E (W⁶D⁵ of a network of ten layers).
    """
    _choice("matrix", matrix, MATRICES)
    if x.ndim not in (1, 2):
        raise ValueError(f"x of shape {tuple(x.shape)} must be (d,) or (n, d)")
    rows = x if x.ndim == 2 else x[None]
    with torch.no_grad():
        weights, states, name = _affine_maps(network, rows)
    depth = len(weights) - 1
    if not 1 <= _checks.number("layer", layer, int) <= depth:
        raise ValueError(f"layer={layer} must be in [1, {depth}], the hidden layers")
    h = states[layer - 1].double().cpu().numpy()
    slope = activations.get(name).d1(h)
    if matrix == "WD":
        w = weights[layer].double().cpu().numpy()[..., None, :, :]
        jacobians = w * slope[..., None, :]
    else:
        w = weights[layer - 1].double().cpu().numpy()[..., None, :, :]
        jacobians = slope[..., :, None] * w
    return jacobians if x.ndim == 2 else jacobians[..., 0, :, :]


def _affine_maps(
    network: FullyConnected | nn.Sequential, x: Tensor
) -> tuple[list[Tensor], list[Tensor], str]:
    """Return W^1 … as (..., N_out, N_in), h^1 … as (..., n, N), and the activation's name."""
    if isinstance(network, FullyConnected):
        return (
            [w.detach().mT for w in network.weights],
            network.pre_activations(x.to(network.weights[0])),
            network.activation,
        )
    if not isinstance(network, nn.Sequential):
        raise ValueError(
            f"network of type {type(network).__name__} must be a FullyConnected ensemble or an "
            "nn.Sequential of Linear and pointwise modules"
        )
    weights: list[Tensor] = []
    states: list[Tensor] = []
    names = set()
    expects_linear = True
    for module in network:
        if isinstance(module, nn.Flatten) and not weights:
            pass
        elif isinstance(module, nn.Linear) and expects_linear:
            expects_linear = False
            x = x.to(module.weight)
            weights.append(module.weight.detach())
        elif _pointwise(module) is not None and not expects_linear:
            expects_linear = True
            states.append(x)
            names.add(_pointwise(module))
        else:
            raise ValueError(
                f"module {module} does not fit: Linear modules and pointwise activations must "
                "take turns"
            )
        x = module(x)
    if not expects_linear:
        states.append(x)
    if len(names) != 1:
        raise ValueError(f"a network with activations {sorted(map(str, names))} must have one kind")
    return weights, states, str(names.pop())


def _pointwise(module: nn.Module) -> str | None:
    """Return the name of a module's activation, None if it is none of ours."""
    for name, make in MODULES.items():
        ours = make()
        if type(ours) is type(module) and getattr(ours, "function", None) is getattr(
            module, "function", None
        ):
            return name
    return None


# --- dimensions of a network at hand --------------------------------------------------------------


def observe_dimensions(
    network: FullyConnected | nn.Sequential,
    x: Tensor,
    *,
    layer: int = 5,
    q: Sequence[float] = (2.0,),
    matrix: str = "WD",
    sides: Sequence[str] = SIDES,
) -> pd.DataFrame:
    """Measure D_q of all eigenvectors of one layer's Jacobian, one row per (member, side, q).

    Columns: member, side, q, dimension (mean over all eigenvectors at all inputs), spread (their
    standard deviation), delocalised (``delocalised_dimension``, complex). ``x``: (n, d) or (d,).
    Raises ValueError for a layer that is not square, and what ``layer_jacobian`` raises.
    Source: the paper, §E, figs. 3 and S2: layer 5, sides ("right",).
    """
    for side in _names("sides", sides, SIDES):
        _choice("side", side, SIDES)
    orders = _orders(q)
    jacobians = layer_jacobian(network, x if x.ndim == 2 else x[None], layer, matrix=matrix)
    shape = jacobians.shape
    if shape[-1] != shape[-2]:
        raise ValueError(
            f"layer={layer} maps {shape[-1]} neurons to {shape[-2]}: eigenvectors need a square "
            "layer, so choose another"
        )
    tables = []
    for member, of_member in enumerate(jacobians.reshape(-1, *shape[-3:])):
        table = _dimensions(of_member, sides, orders)
        table.insert(0, "member", member)
        tables.append(table)
    table = pd.concat(tables, ignore_index=True)
    return table.assign(delocalised=delocalised_dimension(shape[-1], table["q"]))


def _dimensions(matrices: np.ndarray, sides: Sequence[str], q: tuple[float, ...]) -> pd.DataFrame:
    """Return mean and spread of D_q over all eigenvectors of matrices (n, N, N) by side and q."""
    parts: dict[str, list[np.ndarray]] = {side: [] for side in sides}
    for matrix in matrices:
        system = _eigensystem(matrix, sides)
        for side in sides:
            parts[side].append(fractal_dimension(getattr(system, side), q))
    rows = []
    for side, found in parts.items():
        d = np.concatenate(found)
        columns = zip(q, d.mean(0), d.std(0), strict=True)
        rows += [(side, order, mean, spread) for order, mean, spread in columns]
    return pd.DataFrame(rows, columns=["side", "q", "dimension", "spread"])


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
    _choice("diagonal", diagonal, DIAGONALS)
    orders = _orders(q)
    common = {
        "activation": activation,
        "diagonal": diagonal,
        "layer": layer if diagonal == "propagated" else 0,
        "q": list(orders),
        "sides": list(_names("sides", sides, SIDES)),
        "matrices": list(_names("matrices", matrices, MATRICES)),
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
            tables.append(_dimensions(found[name][None], sides, orders).assign(matrix=name))
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
    orders, sides = _orders(q), _names("sides", sides, SIDES)
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


def _orders(q: Sequence[float]) -> tuple[float, ...]:
    orders = np.atleast_1d(_arrays.number("q", q, 0.0))
    if orders.ndim != 1 or len(np.unique(orders)) < orders.size:
        raise ValueError(f"q={orders.tolist()} must be a list of different numbers")
    return tuple(orders.tolist())


def _names(name: str, values: Sequence[str], choices: Sequence[str]) -> Sequence[str]:
    if isinstance(values, str) or not values or len(set(values)) < len(values):
        raise ValueError(f"{name}={values!r} must list different ones of {', '.join(choices)}")
    for value in values:
        _choice(name, value, choices)
    return values


def _choice(name: str, value: object, choices: Sequence[str]) -> None:
    _checks.require(value in choices, name, value, f"one of {', '.join(choices)}")
