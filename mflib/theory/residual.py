"""Residual tanh networks of infinite width: lengths, growth of distances, the line χ = 1.

A block takes h to tanh(h + W₂ tanh(W₁h + b₁) + b₂): two layers inside, added to what enters, and a
tanh behind the addition. Entries of W have variance σ_w²/N_in, biases σ_b². At infinite width the
block adds an independent Gaussian to every unit, so each unit walks by itself,

    h ← tanh(h + g),  g ~ N(0, q),  q = σ_b² + σ_w² E[tanh² z],  z ~ N(0, σ_b² + σ_w² E[h²]),

and lengths settle where E[h²] is that of the walk's own stationary law. Of two nearby inputs, let
D(u) be the mean squared distance of the units that stand at u = h + g. Per block it shrinks by the
tanh's squared slope and gains from its mean over all units,

    D ← sech⁴(u) D, carried along by the walk, + σ_w⁴ E[sech⁴ z] · mean of sech⁴(u) D,

a linear map with positive entries, whose largest eigenvalue χ is the factor per block.

Exact are both equations in the limit of infinite width, weights drawn anew in each block. They
hold for dense matrices, and for convolutions on circular boundaries once lengths and distances no
longer depend on the position; that they do become uniform is assumed. Without the tanh behind the
addition nothing is stationary: Yang and Schoenholz (2017, arXiv:1712.08969) treat that case. The
derivation here is ours, and follows theirs. Both nonlinearities are tanh: other ones can have
several fixed points, which would have to be told apart.

>>> float(critical_sigma_w2(0.05).sigma_w2.round(4))
1.0614
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize
from scipy.linalg import lapack

from mflib.theory import activations
from mflib.theory._arrays import Array, broadcast, number
from mflib.theory._moments import moments

Text = NDArray[np.str_]

LARGEST = 400.0  # variance of weights or biases; the grid grows with its square root
SMALLEST_STEP = 1e-12  # q below which 1 − K, a difference of size √q, loses more than ten digits

_NARROW = f"the walk's variance q is below {SMALLEST_STEP:g}, where double precision loses it"

_NODES = 3.0  # grid nodes per deviation √q of the Gaussian kernel
_WIDEST = 0.2  # step that resolves the poles of tanh
_REACH = 8.6  # deviations beyond which a Gaussian is rounding
_WELL = 4.0  # in units of q^¼: the walk is confined as exp(−h⁴/6q)

_TANH = activations.get("tanh")


@dataclass(frozen=True)
class FixedPoint:
    """Hold the stationary lengths of residual networks; every field has the broadcast shape.

    ``q_h`` = E[h²] of the activations in [0, 1), ``q_inner`` the variance of the argument of the
    inner tanh, ``q_step`` that of what a block adds. NaN stands where they are not computed;
    ``reason`` then says why, and is "" elsewhere.
    """

    q_h: Array
    q_inner: Array
    q_step: Array
    reason: Text


@dataclass(frozen=True)
class CriticalPoint:
    """Hold points of the line χ = 1 with their E[h²]; NaN with a ``reason`` where not computed."""

    sigma_w2: Array
    sigma_b2: Array
    q_h: Array
    reason: Text


def fixed_point(sigma_w2: ArrayLike, sigma_b2: ArrayLike) -> FixedPoint:
    """Return the stationary lengths of a wide residual tanh network.

    q_h = E[h²] under h ← tanh(h + g), g ~ N(0, q_step), q_step = σ_b² + σ_w² E[tanh² z],
    z ~ N(0, q_inner), q_inner = σ_b² + σ_w² q_h. sigma_w2, sigma_b2 in [0, 400], broadcast
    together. Relative error below 1e-10 for q_step from 1e-8 up, about 1e-16/√q_step below.
    Without biases, the fixed point is the one with q_h > 0, which is stable. Raises ValueError for
    values out of range.

    >>> float(fixed_point(1.0, 0.05).q_h.round(4))
    0.3095
    """
    w, b, shape = _settings(sigma_w2, sigma_b2)
    q, reason = _steps(w, b)
    q_h = np.array([_Walk(x).q_h if x > 0 else x for x in q])
    q_h, q, q_inner = (a.reshape(shape) for a in (q_h, q, b + w * q_h))
    return FixedPoint(q_h, q_inner, q, reason.reshape(shape))


def chi(sigma_w2: ArrayLike, sigma_b2: ArrayLike) -> Array:
    """Return χ > 0, the factor per block of small squared distances; χ < 1 is the ordered phase.

    The largest eigenvalue of D ↦ K(sD) + γ p·Σ(sD), with K the walk of u = h + g, p its stationary
    law, s = sech⁴ u and γ = σ_w⁴ E[sech⁴ z]. sigma_w2, sigma_b2 in [0, 400], broadcast together.
    Relative error below 1e-10 (see ``fixed_point``); NaN where that has a ``reason``, and 1 at
    σ_w² = σ_b² = 0. Raises ValueError for values out of range.

    >>> bool(chi(0.5, 0.05) < 1 < chi(2.0, 0.05))
    True
    """
    w, b, shape = _settings(sigma_w2, sigma_b2)
    q, _ = _steps(w, b)
    found = np.where(q == 0, 1.0, np.nan)
    for k in np.flatnonzero(q > 0):
        walk = _Walk(q[k])
        found[k] = walk.growth(_gain(w[k], b[k] + w[k] * walk.q_h))
    return found.reshape(shape)


def critical_sigma_w2(sigma_b2: ArrayLike) -> CriticalPoint:
    """Return the weight variance at which χ = 1, which separates order from chaos.

    sigma_b2 in [0, 100], any shape. Relative error below 1e-9 for σ_b² ≥ 1e-8. Towards σ_b = 0 the
    line goes to 0 as 1.6512·√σ_b. Raises ValueError for values out of range.

    >>> float(critical_sigma_w2(0.0).sigma_w2)
    0.0
    """
    b = number("sigma_b2", sigma_b2, 0.0, 100.0)
    sigma_w2, q_h = np.full(b.size, np.nan), np.full(b.size, np.nan)
    reason = np.full(b.size, "", dtype="U80")
    for k, bias in enumerate(b.flat):
        if bias == 0:
            sigma_w2[k], q_h[k] = 0.0, 0.0
        elif bias < SMALLEST_STEP:
            reason[k] = _NARROW
        else:
            sigma_w2[k], q_h[k] = _critical(bias)
    shape = b.shape
    return CriticalPoint(sigma_w2.reshape(shape), b, q_h.reshape(shape), reason.reshape(shape))


def _settings(sigma_w2: ArrayLike, sigma_b2: ArrayLike) -> tuple[Array, Array, tuple[int, ...]]:
    w, b = broadcast(
        sigma_w2=number("sigma_w2", sigma_w2, 0.0, LARGEST),
        sigma_b2=number("sigma_b2", sigma_b2, 0.0, LARGEST),
    )
    return w.ravel(), b.ravel(), w.shape


def _square(q: float) -> float:
    return float(moments(_TANH, np.array([q]))[0][0]) if q > 0 else 0.0


def _gain(sigma_w2: float, q_inner: float) -> float:
    """Return γ = σ_w⁴ E[sech⁴ z], by which a block multiplies the mean squared distance."""
    slope = float(moments(_TANH, np.array([q_inner]))[1][0]) if q_inner > 0 else 1.0
    return sigma_w2**2 * slope


def _steps(w: Array, b: Array) -> tuple[Array, Text]:
    """Return the variance q of what a block adds at the fixed point, and why it is NaN, each (n,).

    q ↦ σ_b² + σ_w² E[tanh² z] is concave (E[h²] is, in q, and E[tanh² z], in its variance), so
    its positive fixed point is unique, and lies in [σ_b², σ_b² + σ_w²].
    """
    q, reason = np.zeros(w.size), np.full(w.size, "", dtype="U80")
    for k, (sigma_w2, sigma_b2) in enumerate(zip(w, b, strict=True)):
        if sigma_w2 + sigma_b2 > 0:
            q[k] = _step(sigma_w2, sigma_b2)
    reason[np.isnan(q)] = _NARROW
    return q, reason


def _step(sigma_w2: float, sigma_b2: float) -> float:
    low, high = max(sigma_b2, SMALLEST_STEP), sigma_b2 + sigma_w2

    def surplus(log_q: float) -> float:
        # log and exp may round past the ends, where signs are certain
        q = min(max(float(np.exp(log_q)), low), high)
        return _next(q, sigma_w2, sigma_b2) / q - 1

    # small q cost most: bracket from above, a factor 100 at a time
    above, below = high, max(low, high / 100)
    while below > low and surplus(np.log(below)) <= 0:
        above, below = below, max(low, below / 100)
    if high > low and surplus(np.log(below)) > 0:
        return float(np.exp(_root(surplus, np.log(below), np.log(above))))
    return sigma_b2 if sigma_b2 >= SMALLEST_STEP else np.nan


def _next(q: float, sigma_w2: float, sigma_b2: float) -> float:
    """Return what the next block adds, σ_b² + σ_w² E[tanh² z], where this one adds q."""
    return sigma_b2 + sigma_w2 * _square(sigma_b2 + sigma_w2 * _Walk(q).q_h)


def _critical(sigma_b2: float) -> tuple[float, float]:
    """Return σ_w² and E[h²] on the line, looked for along q: each q has its one σ_w²."""

    def weight(walk: _Walk) -> float:
        added = walk.q - sigma_b2

        def surplus(w: float) -> float:
            return w * _square(sigma_b2 + w * walk.q_h) / added - 1

        high = 1.0
        while surplus(high) < 0:
            high *= 4
        return _root(surplus, 0.0, high)

    def excess(log_added: float) -> float:
        walk = _Walk(sigma_b2 + np.exp(log_added))
        w = weight(walk)
        return float(np.log(_gain(w, sigma_b2 + w * walk.q_h) * walk.response(1.0)[0]))

    scale = float(np.log(sigma_b2 / np.sqrt(1 + sigma_b2)))
    walk = _Walk(sigma_b2 + np.exp(_root(excess, scale - 3, scale + 3)))
    return weight(walk), walk.q_h


def _root(f: Callable[[float], float], low: float, high: float) -> float:
    return float(optimize.brentq(f, low, high, xtol=1e-13, rtol=1e-13))


class _Walk:
    """Hold the walk u ← tanh(u) + g, g ~ N(0, q), on a grid of step h, folded onto u > 0.

    Sums over the grid are trapezoidal sums of analytic functions that decay at both ends, so
    their error falls faster than any power of h (as exp(−π²q/h²) for the Gaussian kernel). tanh is
    odd and everything wanted is even, so half the line is enough. K is banded: the walk moves by
    at most a few √q and by u − tanh u.
    """

    def __init__(self, q: float, nodes: float = _NODES) -> None:
        self.q = q
        deviation = np.sqrt(q)
        step = min(deviation / nodes, _WIDEST * _NODES / nodes)
        end = min(1.0, _WELL * q**0.25) + _REACH * deviation
        self.n = int(np.ceil(end / step))
        u = (np.arange(self.n) + 0.5) * step
        self.h = np.tanh(u)
        self.s = (1 - self.h**2) ** 2
        # rows above the diagonal of column j reach down to tanh(u) − 8.6 √q
        back = int(np.ceil(((u - self.h).max() + _REACH * deviation) / step))
        self.up = min(self.n - 1, back)
        self.down = min(self.n - 1, int(np.ceil(_REACH * deviation / step)))
        row = np.arange(-self.up, self.down + 1)[:, None] + np.arange(self.n)
        at = (row + 0.5) * step
        self.band = (step / np.sqrt(2 * np.pi * q)) * (
            np.exp(-((at - self.h) ** 2) / (2 * q)) + np.exp(-((at + self.h) ** 2) / (2 * q))
        )
        self.band[(row < 0) | (row >= self.n)] = 0.0
        self.p = self._stationary()
        self.q_h = float(self.p @ self.h**2)

    def _stationary(self) -> Array:
        """Return p = Kp, Σp = 1, each (n,): with p₀ = 1, the other rows determine the rest."""
        rest = self.band[:, 1:]
        first = np.zeros(self.n - 1)
        below = self.band[self.up + 1 :, 0]
        first[: below.size] = below
        p = np.ones(self.n)
        p[1:] = _Factors(-rest, self.up, self.down, 1.0).solve(first)
        return np.asarray(p / p.sum())

    def response(self, x: float) -> tuple[float, float]:
        """Return f(x) = sᵀ(x − KS)⁻¹p and f′(x); χ is the largest root of γ f(χ) = 1."""
        factors = _Factors(-self.band * self.s, self.up, self.down, x)
        once = factors.solve(self.p)
        return float(self.s @ once), -float(self.s @ factors.solve(once))

    def growth(self, gain: float) -> float:
        """Return χ by Newton's method on 1/f(χ) = γ, which is nearly linear in χ, from above."""
        x = 1.0 + gain
        for _ in range(60):
            f, slope = self.response(x)
            change = f * (1 - gain * f) / slope
            x += change
            if not abs(change) > 1e-14 * x:
                break
        return x


class _Factors:
    """Hold the LU factors of x + A for a banded A, (up + down + 1, n) by diagonals."""

    def __init__(self, band: Array, up: int, down: int, x: float) -> None:
        self.up, self.down = up, down
        padded = np.zeros((2 * down + up + 1, band.shape[1]), order="F")
        padded[down:] = band
        padded[down + up] += x
        self.lu, self.pivots, _ = lapack.dgbtrf(padded, down, up, overwrite_ab=1)

    def solve(self, right: Array) -> Array:
        """Return (x + A)⁻¹ right, (n,)."""
        found, _ = lapack.dgbtrs(self.lu, self.down, self.up, right, self.pivots)
        return np.asarray(found)
