"""Eigenvectors of layers at hand and how far they spread: what ``observe_dimensions`` sees.

Apart from what draws random layers, so that shards of trained networks, keyed by the version of
this module and of what it imports, stay valid when that or the keeping of shards changes.
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

from mflib.experiment import _checks, _threads
from mflib.experiment.networks import FullyConnected
from mflib.experiment.nonlinearities import MODULES
from mflib.theory import _arrays, activations

MATRICES = ("WD", "DW")
SIDES = ("right", "left")
_DIMENSIONS = ["side", "q", "dimension", "spread"]
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
    choice("matrix", matrix, MATRICES)
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
    standard deviation), delocalised (``delocalised_dimension``, complex). A member whose Jacobian
    is not finite, as that of a network that diverged, has NaN. ``x``: (n, d) or (d,).
    Raises ValueError for a layer that is not square, for inputs that are not finite, and what
    ``layer_jacobian`` raises.
    Source: the paper, §E, figs. 3 and S2: layer 5, sides ("right",).
    """
    for side in names_of("sides", sides, SIDES):
        choice("side", side, SIDES)
    orders = orders_of(q)
    if not bool(x.isfinite().all()):
        raise ValueError("x holds inputs that are not finite: leave those out")
    jacobians = layer_jacobian(network, x if x.ndim == 2 else x[None], layer, matrix=matrix)
    shape = jacobians.shape
    if shape[-1] != shape[-2]:
        raise ValueError(
            f"layer={layer} maps {shape[-1]} neurons to {shape[-2]}: eigenvectors need a square "
            "layer, so choose another"
        )

    def of_member(matrices: np.ndarray) -> pd.DataFrame:
        if np.isfinite(matrices).all():
            return dimensions_of(matrices, sides, orders)
        unknown = [(side, order, math.nan, math.nan) for side in sides for order in orders]
        return pd.DataFrame(unknown, columns=_DIMENSIONS)

    tables = _threads.of_each(
        of_member,
        list(jacobians.reshape(-1, *shape[-3:])),
        device=x.device,
    )
    for member, table in enumerate(tables):
        table.insert(0, "member", member)
    table = pd.concat(tables, ignore_index=True)
    return table.assign(delocalised=delocalised_dimension(shape[-1], table["q"]))


def dimensions_of(matrices: np.ndarray, sides: Sequence[str], q: tuple[float, ...]) -> pd.DataFrame:
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
    return pd.DataFrame(rows, columns=_DIMENSIONS)


# --- checks ---------------------------------------------------------------------------------------


def orders_of(q: Sequence[float]) -> tuple[float, ...]:
    """Return the orders q as floats. Raises ValueError for a negative or repeated one."""
    orders = np.atleast_1d(_arrays.number("q", q, 0.0))
    if orders.ndim != 1 or len(np.unique(orders)) < orders.size:
        raise ValueError(f"q={orders.tolist()} must be a list of different numbers")
    return tuple(orders.tolist())


def names_of(name: str, values: Sequence[str], choices: Sequence[str]) -> Sequence[str]:
    """Return the values. Raises ValueError unless they are different ones of ``choices``."""
    if isinstance(values, str) or not values or len(set(values)) < len(values):
        raise ValueError(f"{name}={values!r} must list different ones of {', '.join(choices)}")
    for value in values:
        choice(name, value, choices)
    return values


def choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise ValueError unless the value is one of ``choices``."""
    _checks.require(value in choices, name, value, f"one of {', '.join(choices)}")
