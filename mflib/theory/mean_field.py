"""Mean-field maps of wide random networks, their fixed points and depth scales, the critical line.

Pre-activations of a wide layer are Gaussian with variance q and, for two inputs, correlation c
(Poole et al. 2016; Schoenholz et al. 2017). With u ~ N(0, q):

    q' = σ_w² E[φ(u)²] + σ_b²                                   (eq. 3, with its square)
    c' = (σ_w² E[φ(u_a)φ(u_b)] + σ_b²) / √(q_a' q_b')           (eqs. 5–7)
    χ₁ = σ_w² E[φ′(u)²]                                         (eq. 8)
    ξ_q = −1 / log|σ_w² E[φ′² + φφ″]|                           (eq. 9)
    ξ_c = −1 / log χ_c,  χ_c = σ_w² E[φ′(u_a)φ′(u_b)] at c*     (eq. 10, as in eq. 20)

>>> point = fixed_point("tanh", 2.0, 0.05)
>>> round(float(point.chi_1), 4), round(float(point.c), 3)
(1.0477, 0.744)
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mflib.theory import _roots, activations
from mflib.theory._arrays import Array, Rows, broadcast, chunks, number
from mflib.theory._curvature import curvature_means
from mflib.theory._moments import SMALLEST_Q, means, moments, product
from mflib.theory.activations import Activation

Text = NDArray[np.str_]

CRITICAL_TOLERANCE = 1e-11
"""|χ₁ − 1| up to which a point counts as critical: depth scales beyond 1e11 layers are rounding."""

_ALONG = 1e-12  # |F(q)/q − 1| that rounding can make

_NO_LENGTH = "no fixed point q*: the variance grows without bound"
_ANY_LENGTH = "q* is not unique: every q is a fixed point"
_NO_ANGLE = "c* is not defined at q* = 0"
_UNSTABLE = "chi_1 = 1 only where q* is unstable or not the fixed point in use"
_NEVER = "chi_1 = 1 at no q in [1e-12, 1e6]"
_NEGATIVE = "chi_1 = 1 only at a negative sigma_b2"


@dataclass(frozen=True)
class FixedPoint:
    """Hold the fixed point and its depth scales; every field has the broadcast shape.

    ``q`` ≥ 0 and ``c`` in [0, 1]; ``chi_1`` and ``chi_c`` are slopes of the correlation map at 1
    and at c*; ``xi_q`` and ``xi_c`` count layers (∞ on a critical line). NaN stands where a
    quantity is not defined; ``reason`` then says why, and is "" elsewhere.
    """

    q: Array
    c: Array
    chi_1: Array
    chi_c: Array
    xi_q: Array
    xi_c: Array
    reason: Text


@dataclass(frozen=True)
class LengthFixedPoints:
    """Hold all fixed points of one length map, ascending: ``q``, slope ``chi_q``, ``stable``."""

    q: Array
    chi_q: Array
    stable: NDArray[np.bool_]


@dataclass(frozen=True)
class Trajectory:
    """Hold q and c layer by layer, each (depth + 1, …); index 0 is what was given."""

    q: Array
    c: Array


@dataclass(frozen=True)
class CriticalPoint:
    """Hold points of the critical line χ₁ = 1; NaN with a ``reason`` where there is none."""

    sigma_w2: Array
    sigma_b2: Array
    q: Array
    reason: Text


# --- maps -----------------------------------------------------------------------------------


def length_map(
    activation: str | Activation, q: ArrayLike, sigma_w2: ArrayLike, sigma_b2: ArrayLike
) -> Array:
    """Return the next layer's variance, q' = σ_w² E[φ(u)²] + σ_b² with u ~ N(0, q) (eq. 3).

    q, sigma_w2, sigma_b2 ≥ 0, broadcast together. Relative error about 1e-14 for q from 1e-12
    to 1e6. Raises ValueError for values out of range.

    >>> length_map("relu", 1.0, 2.0, 0.1)
    array(1.1)
    """
    act = activations.get(activation)
    q, sigma_w2, sigma_b2 = _checked(q=q, sigma_w2=sigma_w2, sigma_b2=sigma_b2)
    return np.asarray(sigma_w2 * _square(act, q) + sigma_b2)


def correlation_map(
    activation: str | Activation,
    c: ArrayLike,
    sigma_w2: ArrayLike,
    sigma_b2: ArrayLike,
    *,
    q_a: ArrayLike,
    q_b: ArrayLike | None = None,
) -> Array:
    """Return the next layer's correlation of two inputs (eqs. 5–7).

    c' = (σ_w² E[φ(u_a)φ(u_b)] + σ_b²) / √(q_a' q_b'), with variances q_a, q_b (default q_a) and
    correlation c in [−1, 1]. Broadcasts. NaN where a next variance is 0.

    >>> float(correlation_map("erf", 1.0, 2.0, 0.1, q_a=1.0))
    1.0
    """
    act = activations.get(activation)
    correlation = number("c", c, -1.0, 1.0)
    q_a, q_b, sigma_w2, sigma_b2 = _checked(
        q_a=q_a, q_b=q_a if q_b is None else q_b, sigma_w2=sigma_w2, sigma_b2=sigma_b2
    )
    correlation, q_a, q_b, sigma_w2, sigma_b2 = broadcast(
        c=correlation, q_a=q_a, q_b=q_b, sigma_w2=sigma_w2, sigma_b2=sigma_b2
    )
    shape = correlation.shape
    flat = (a.ravel() for a in (correlation, q_a, q_b, sigma_w2, sigma_b2))
    return _correlation_step(act, *flat).reshape(shape)


def chi_1(activation: str | Activation, q: ArrayLike, sigma_w2: ArrayLike) -> Array:
    """Return χ₁ = σ_w² E[φ′(u)²], u ~ N(0, q) (eq. 8); q, sigma_w2 ≥ 0, broadcast together.

    >>> float(chi_1("relu", 3.0, 2.0))
    1.0
    """
    act = activations.get(activation)
    q, sigma_w2 = _checked(q=q, sigma_w2=sigma_w2)
    return np.asarray(sigma_w2 * moments(act, q)[1])


def trajectory(
    activation: str | Activation,
    sigma_w2: ArrayLike,
    sigma_b2: ArrayLike,
    *,
    q_0: ArrayLike,
    c_0: ArrayLike,
    depth: int,
) -> Trajectory:
    """Iterate the length and correlation maps of two inputs of equal variance.

    Starts from the first layer's pre-activation variance q_0 ≥ 0 and correlation c_0 in [−1, 1]
    and applies the maps ``depth`` ≥ 0 times. All inputs broadcast to one shape; the result is
    (depth + 1, *shape). c is NaN where the variance is 0.

    >>> trajectory("linear", 1.0, 0.5, q_0=1.0, c_0=0.0, depth=2).q
    array([1. , 1.5, 2. ])
    """
    act = activations.get(activation)
    if isinstance(depth, bool) or not isinstance(depth, int | np.integer) or depth < 0:
        raise ValueError(f"depth = {depth!r} must be a whole number of layers, at least 0.")
    start = number("c_0", c_0, -1.0, 1.0)
    q_start, sigma_w2, sigma_b2 = _checked(q_0=q_0, sigma_w2=sigma_w2, sigma_b2=sigma_b2)
    q, c, sigma_w2, sigma_b2 = broadcast(
        q_0=q_start, c_0=start, sigma_w2=sigma_w2, sigma_b2=sigma_b2
    )
    shape = q.shape
    q, c, sigma_w2, sigma_b2 = (a.ravel() for a in (q, c, sigma_w2, sigma_b2))
    lengths, correlations = [q], [c]
    for _ in range(depth):
        alive = np.isfinite(c)
        c = np.full_like(c, np.nan)
        c[alive] = _correlation_step(
            act, correlations[-1][alive], q[alive], q[alive], sigma_w2[alive], sigma_b2[alive]
        )
        q = sigma_w2 * _square(act, q) + sigma_b2
        lengths.append(q)
        correlations.append(c)
    stacked = (np.stack(rows).reshape(depth + 1, *shape) for rows in (lengths, correlations))
    return Trajectory(*stacked)


def _checked(**values: ArrayLike) -> tuple[Array, ...]:
    return broadcast(**{name: number(name, value, 0.0) for name, value in values.items()})


def _square(act: Activation, q: Array) -> Array:
    """Return E[φ²], exact at q = 0 too."""
    return np.where(q > 0, moments(act, q)[0], act(0.0) ** 2)


def _correlation_step(
    act: Activation, c: Array, q_a: Array, q_b: Array, sigma_w2: Array, sigma_b2: Array
) -> Array:
    next_a = sigma_w2 * _square(act, q_a) + sigma_b2
    equal = bool(np.all(q_a == q_b))
    next_b = next_a if equal else sigma_w2 * _square(act, q_b) + sigma_b2
    overlap = np.where(
        (q_a > 0) & (q_b > 0), product(act, q_a, q_b, c), act(0.0) * _mean_beside(act, q_a, q_b)
    )
    norm = next_a if equal else np.sqrt(next_a) * np.sqrt(next_b)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.clip((sigma_w2 * overlap + sigma_b2) / norm, -1.0, 1.0)


def _mean_beside(act: Activation, q_a: Array, q_b: Array) -> Array:
    """Return E[φ] of the other input where one variance is 0."""
    out = np.zeros_like(q_a)
    rows = np.flatnonzero((q_a == 0) | (q_b == 0))
    if rows.size and act(0.0) != 0:
        out[rows] = means(act, np.maximum(q_a[rows], q_b[rows]))[0]
    return out


# --- the length map's fixed points ---------------------------------------------------------------


class _LengthScan:
    """Know where the length map of one activation crosses the diagonal, on a grid of q.

    Between grid nodes (0.02 of a decade, 0.1 where E[φ²] is concave and the fixed point therefore
    unique) two crossings that lie closer together than a step are not seen.
    """

    def __init__(self, act: Activation) -> None:
        fine = 10.0 ** np.linspace(-14, 16, 1501)
        # below 1e-14, φ is linear to rounding, so decades are close enough
        far = 10.0 ** np.arange(-150, -14.0)
        square, _, growth = moments(act, np.concatenate([far, fine]))
        concave = np.all(np.diff(growth[far.size :]) <= 1e-12 * growth[far.size])
        keep = np.r_[0 : far.size, far.size : far.size + fine.size : 5 if concave else 1]
        self.q = np.concatenate([far, fine])[keep]
        self.ratio = square[keep] / self.q
        self.start = int(np.searchsorted(self.q, 1.0 - 1e-9))
        self.through_zero = float(act(0.0)) == 0.0

    def excess(self, sigma_w2: Array, sigma_b2: Array) -> Array:
        """Return F(q)/q − 1 on the grid, (n, grid)."""
        return np.asarray(
            sigma_w2[:, None] * self.ratio + sigma_b2[:, None] / self.q - 1, dtype=np.float64
        )

    def above(self, sigma_w2: Array, sigma_b2: Array) -> NDArray[np.bool_]:
        """Return where F(q) > q on the grid, (n, grid)."""
        excess = self.excess(sigma_w2, sigma_b2)
        above = excess > 0
        # Where the map runs along the diagonal, F(q)/q − 1 is rounding, and takes the sign that it
        # has where it last counts: as q → 0 at σ_b² = 0 and a critical slope, as q → ∞ for a φ
        # that ends in a line of slope 1 (GELU, SiLU, ELU, softplus) at σ_w² = 2.
        if self.through_zero:
            for row in np.flatnonzero(sigma_b2 == 0):
                first = int(np.argmax(np.abs(excess[row]) > _ALONG))
                above[row, :first] = above[row, first]
        for row in np.flatnonzero(np.abs(excess[:, -1]) <= _ALONG):
            counts = np.flatnonzero(np.abs(excess[row]) > _ALONG)
            if counts.size:
                above[row, counts[-1] :] = above[row, counts[-1]]
        return above

    def stable_bracket(self, sigma_w2: Array, sigma_b2: Array) -> Rows:
        """Return the grid interval of the fixed point in use; −1 for q* = 0, −2 for none."""
        above = self.above(sigma_w2, sigma_b2)
        falls = above[:, :-1] & ~above[:, 1:]
        index = np.arange(falls.shape[1])
        upward = falls & (index >= self.start)
        first_up = np.where(upward.any(1), upward.argmax(1), -2)
        downward = falls & (index < self.start)
        last_down = index.size - 1 - downward[:, ::-1].argmax(1)
        at_zero = (self.through_zero | (sigma_w2 == 0)) & (sigma_b2 == 0) & ~above[:, 0]
        below = np.where(downward.any(1), last_down, np.where(at_zero, -1, -2))
        return np.where(above[:, self.start] & (first_up >= 0), first_up, below)


_scans: weakref.WeakKeyDictionary[Activation, _LengthScan] = weakref.WeakKeyDictionary()


def _scan(act: Activation) -> _LengthScan:
    if act not in _scans:
        _scans[act] = _LengthScan(act)
    return _scans[act]


def _polish(
    act: Activation, scan: _LengthScan, bracket: Rows, sigma_w2: Array, sigma_b2: Array
) -> Array:
    """Return the fixed point in each grid interval by safeguarded Newton steps in log q."""
    low, high = scan.q[bracket], scan.q[bracket + 1]
    g_low, g_high = (
        sigma_w2 * scan.ratio[i] + sigma_b2 / scan.q[i] - 1 for i in (bracket, bracket + 1)
    )
    sign = np.where(g_low > g_high, 1.0, -1.0)  # rising crossings are solved upside down
    start = low * (high / low) ** (g_low / (g_low - g_high))

    def excess(rows: Rows, q: Array) -> tuple[Array, Array]:
        square, _, growth = moments(act, q)
        ratio = (sigma_w2[rows] * square + sigma_b2[rows]) / q
        return sign[rows] * (ratio - 1), sign[rows] * (sigma_w2[rows] * growth - ratio)

    return _roots.newton_in_bracket(excess, low, high, start)


def _lengths(act: Activation, sigma_w2: Array, sigma_b2: Array) -> tuple[Array, Text]:
    """Return q* and the reason where it is NaN, each (n,)."""
    q = np.full_like(sigma_w2, np.nan)
    reason = np.full(sigma_w2.shape, "", dtype="U80")
    if act.homogeneous:
        gain = sigma_w2 * moments(act, np.ones(1))[0]
        gain[np.abs(gain - 1) <= 4 * _roots.EPS] = 1.0
        with np.errstate(divide="ignore", invalid="ignore"):
            q = np.where(gain < 1, sigma_b2 / (1 - gain), np.where(sigma_b2 == 0, 0.0, np.nan))
        unbounded = np.where(sigma_b2 > 0, gain >= 1, gain > 1)
        free = (gain == 1) & (sigma_b2 == 0)
        q[free | unbounded] = np.nan
        reason[unbounded], reason[free] = _NO_LENGTH, _ANY_LENGTH
        return q, reason
    scan = _scan(act)
    for part in chunks(q.size, scan.q.size):
        bracket = scan.stable_bracket(sigma_w2[part], sigma_b2[part])
        found = np.full(bracket.shape, np.nan)
        found[bracket == -1] = 0.0
        inside = bracket >= 0
        q[part] = np.where(inside, bracket, found)
        reason[part][bracket == -2] = _NO_LENGTH
        q[part][bracket == -1] = -1.0
    inside = q >= 0
    q[q == -1] = 0.0
    q[inside] = _polish(act, scan, q[inside].astype(np.intp), sigma_w2[inside], sigma_b2[inside])
    return q, reason


def length_fixed_points(
    activation: str | Activation, sigma_w2: float, sigma_b2: float
) -> LengthFixedPoints:
    """Return every fixed point of one length map, stable or not, ascending.

    χ_q = σ_w² dE[φ²]/dq is the map's slope; χ_q < 1 is stable, since χ_q ≥ −1/2 at any fixed
    point (q dE[φ²]/dq = E[φ²(u²/q − 1)]/2 ≥ −E[φ²]/2). q = 0 counts where it is a fixed
    point. Raises ValueError where every q is one (ReLU at σ_w² = 2, σ_b² = 0).

    >>> length_fixed_points("gelu", 3.0, 0.0).stable
    array([ True, False])
    """
    act = activations.get(activation)
    w, b = (np.atleast_1d(a) for a in _checked(sigma_w2=sigma_w2, sigma_b2=sigma_b2))
    if w.size != 1:
        raise ValueError("length_fixed_points takes one setting: give scalars.")
    if act.homogeneous:
        q, reason = _lengths(act, w, b)
        if reason[0] == _ANY_LENGTH:
            raise ValueError(f"{act.name} at sigma_w2 = {w[0]:g}, sigma_b2 = 0: {_ANY_LENGTH}.")
        q = np.zeros(1) if b[0] == 0 else q[np.isfinite(q)]
    else:
        scan = _scan(act)
        above = scan.above(w, b)[0]
        crossing = np.flatnonzero(above[:-1] != above[1:])
        ones = np.ones(crossing.size)
        q = _polish(act, scan, crossing, w * ones, b * ones)
        if b[0] == 0 and (scan.through_zero or w[0] == 0):
            q = np.concatenate([[0.0], q])
    chi_q = w * moments(act, q)[2]
    return LengthFixedPoints(q, chi_q, chi_q < 1)


# --- the correlation map's fixed point ---------------------------------------------------------


def _angles(act: Activation, q: Array, target: Array) -> tuple[Array, Array]:
    """Return 1 − c* and (1 − χ_c)/σ_w² where χ₁ > 1, each (n,).

    c* solves q y (b_0 − b_1/2) = target := (χ₁ − 1)/σ_w² for y = 1 − c. The left side is concave
    and increasing in y with derivative q b_1/2 (see ``_curvature``), so Newton's steps from the
    left increase to the root.
    """
    bend = curvature_means(act, q)
    y = np.ones_like(q)
    rows: Rows = np.arange(q.size)
    b_1 = np.empty_like(q)
    for _ in range(60):
        b_0, b_1[rows] = bend(rows, y[rows])
        gap = q[rows] * y[rows] * (b_0 - b_1[rows] / 2)
        new = y[rows] + (target[rows] - gap) / (q[rows] * b_1[rows] / 2)
        # a step from the right may fall below 0: the chord through 0 stays right of the root
        new = np.where(new > 0, np.minimum(new, 1.0), y[rows] * (target[rows] / gap) ** 2)
        moving = np.abs(new - y[rows]) > 4e-16 * new
        y[rows] = new
        rows = rows[moving]
        if rows.size == 0:
            break
    rows = np.arange(q.size)
    b_1 = bend(rows, y)[1]
    return y, q * y * b_1 / 2


def _depth(slope: Array) -> Array:
    """Return −1/log|slope|, ∞ at 1, 0 at 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(-1 / np.log(np.abs(slope)))


def fixed_point(
    activation: str | Activation, sigma_w2: ArrayLike, sigma_b2: ArrayLike
) -> FixedPoint:
    """Return q*, c*, χ₁, χ_c, ξ_q and ξ_c (eqs. 3–10 as corrected in this module's head).

    sigma_w2, sigma_b2 ≥ 0, broadcast together; every field has that shape.

    q* is the stable fixed point next to q = 1 in the direction of the first step from there: the
    one that iteration from q = 1 reaches where E[φ²] increases with q, as it does for every named
    activation. Where that iteration grows without bound, it is the largest stable one.
    ``length_fixed_points`` lists all. c* is the stable
    fixed point in [0, 1]: 1 in the ordered phase, and the root below 1 in the chaotic phase,
    which is unique because the map is a power series in c with coefficients ≥ 0. Where
    |χ₁ − 1| ≤ CRITICAL_TOLERANCE, c* = 1 and ξ_c = ∞.

    NaN with a reason: no q* (ReLU with σ_w² ≥ 2 and σ_b² > 0), q* not unique (ReLU at σ_w² = 2,
    σ_b² = 0), c* at q* = 0.

    Relative errors: of q*, about 3e-16/(1 − χ_q) with χ_q = σ_w² dE[φ²]/dq; of χ₁, that of q* and
    some roundings more. Near the critical line 1 − c*, 1 − χ_c and ξ_c inherit the error of χ₁
    divided by |χ₁ − 1|: about 1e-9 at a distance of 1e-6, which is what float64 σ_w² and σ_b²
    determine. Far in the chaotic phase c* and χ_c have absolute errors up to 1e-13 χ₁.

    Raises ValueError for values out of range.

    >>> fixed_point("relu", 2.5, 0.1).reason
    array('no fixed point q*: the variance grows without bound', dtype='<U80')
    """
    act = activations.get(activation)
    sigma_w2, sigma_b2 = _checked(sigma_w2=sigma_w2, sigma_b2=sigma_b2)
    shape = sigma_w2.shape
    w, b = sigma_w2.ravel(), sigma_b2.ravel()
    q, reason = _lengths(act, w, b)
    square_slope, growth = np.full_like(q, np.nan), np.full_like(q, np.nan)
    known = np.isfinite(q)
    _, square_slope[known], growth[known] = moments(act, q[known])
    chi, chi_q = w * square_slope, w * growth
    xi_q = _depth(chi_q)
    xi_q[np.abs(chi_q - 1) <= CRITICAL_TOLERANCE] = np.inf

    c, chi_c, xi_c = (np.full_like(q, np.nan) for _ in range(3))
    reason[q == 0] = _NO_ANGLE
    spread = q > 0
    ordered = spread & (chi <= 1 + CRITICAL_TOLERANCE)
    c[ordered], chi_c[ordered] = 1.0, chi[ordered]
    xi_c[ordered] = _depth(chi[ordered])
    xi_c[spread & (np.abs(chi - 1) <= CRITICAL_TOLERANCE)] = np.inf

    chaotic = spread & (chi > 1 + CRITICAL_TOLERANCE)
    balanced = chaotic & (b == 0) if act.odd else np.zeros_like(chaotic)
    if balanced.any():
        c[balanced] = 0.0
        chi_c[balanced] = w[balanced] * means(act, q[balanced])[1] ** 2
        xi_c[balanced] = _depth(chi_c[balanced])
    solve = np.flatnonzero(chaotic & ~balanced)
    for rows in (solve[part] for part in chunks(solve.size, 128)):
        y, rest = _angles(act, q[rows], (chi[rows] - 1) / w[rows])
        c[rows] = 1 - y
        chi_c[rows] = np.maximum(1 - w[rows] * rest, 0.0)
        with np.errstate(divide="ignore"):
            xi_c[rows] = -1 / np.log1p(-np.minimum(w[rows] * rest, 1.0))
    q, c, chi, chi_c, xi_q, xi_c = (a.reshape(shape) for a in (q, c, chi, chi_c, xi_q, xi_c))
    return FixedPoint(q, c, chi, chi_c, xi_q, xi_c, reason.reshape(shape))


def phase(
    activation: str | Activation, sigma_w2: ArrayLike, sigma_b2: ArrayLike
) -> NDArray[np.str_]:
    """Return "ordered" (χ₁ < 1), "critical", "chaotic" (χ₁ > 1) or "undefined" (no q*).

    "critical" means |χ₁ − 1| ≤ CRITICAL_TOLERANCE; ReLU at (2, 0), where every q is a fixed point
    and χ₁ = 1 at each, is critical too. sigma_w2, sigma_b2 ≥ 0, broadcast together.

    >>> phase("tanh", [1.0, 2.0], 0.05)
    array(['ordered', 'chaotic'], dtype='<U9')
    """
    act = activations.get(activation)
    sigma_w2, sigma_b2 = _checked(sigma_w2=sigma_w2, sigma_b2=sigma_b2)
    w = sigma_w2.ravel()
    q, reason = _lengths(act, w, sigma_b2.ravel())
    # where every q is a fixed point, χ₁ is the same at all of them
    q[reason == _ANY_LENGTH] = 1.0
    chi = np.full_like(q, np.nan)
    known = np.isfinite(q)
    chi[known] = w[known] * moments(act, q[known])[1]
    names = np.select(
        [np.isnan(chi), np.abs(chi - 1) <= CRITICAL_TOLERANCE, chi < 1],
        ["undefined", "critical", "ordered"],
        "chaotic",
    )
    return np.asarray(names.reshape(sigma_w2.shape))


# --- the critical line -------------------------------------------------------------------------


_CRITICAL_GRID = 10.0 ** np.linspace(-12, 6, 721)


def _bias_at_criticality(act: Activation, q: Array) -> Array:
    """Return the σ_b² that makes q a fixed point with χ₁ = 1: q − E[φ²]/E[φ′²].

    Written as (q²(b_0 − b_1/2)(c = 0) − E[φ]²)/E[φ′²], which keeps its digits where q → 0.
    """
    b_0, b_1 = curvature_means(act, q)(np.arange(q.size), np.ones_like(q))
    mean, _ = means(act, q)
    return (q * q * (b_0 - b_1 / 2) - mean**2) / moments(act, q)[1]


def _sign_changes(values: Array) -> tuple[Rows, Rows]:
    """Return rows and grid intervals where values (n, grid) change sign."""
    above = values > 0
    rows, intervals = np.nonzero(above[:, :-1] != above[:, 1:])
    return rows, intervals


def _choose(act: Activation, rows: Rows, w: Array, b: Array, q: Array, size: int) -> CriticalPoint:
    """Return the candidates (σ_w², σ_b², q) that are the fixed point in use, lowest σ_w² first."""
    out = [np.full(size, np.nan) for _ in range(3)]
    reason = np.full(size, _NEVER, dtype="U80")
    reason[rows] = _UNSTABLE
    negative = b < -1e-12 * q  # beyond the rounding of a σ_b² that is 0
    b = np.maximum(b, 0.0)
    reason[rows[negative]] = _NEGATIVE
    rows = rows[~negative]
    w, b, q = (a[~negative] for a in (w, b, q))
    actual, _ = _lengths(act, w, b)
    stable = w * moments(act, q)[2] <= 1 + CRITICAL_TOLERANCE
    with np.errstate(invalid="ignore"):
        good = stable & (np.abs(actual - q) <= 1e-3 * q)
    order = np.argsort(-w[good], kind="stable")
    for whole, values in zip(out, (w, b, q), strict=True):
        whole[rows[good][order]] = values[good][order]
    reason[rows[good]] = ""
    return CriticalPoint(out[0], out[1], out[2], reason)


def _homogeneous_line(act: Activation, w: Array | None, b: Array) -> CriticalPoint:
    """Return the one critical σ_w² of ReLU, leaky ReLU and linear, where any q is fixed."""
    critical = 1 / moments(act, np.ones(1))[1][0]
    on_line = (b == 0) if w is None else np.abs(w / critical - 1) <= CRITICAL_TOLERANCE
    reason = np.where(
        on_line,
        "any q is a fixed point",
        f"chi_1 = 1 only at sigma_w2 = {critical:.10g}, where q* exists only for sigma_b2 = 0",
    )
    point = np.where(on_line, critical if w is None else 0.0, np.nan)
    nothing = np.full(on_line.shape, np.nan)
    if w is None:
        return CriticalPoint(point, b, nothing, reason)
    return CriticalPoint(w, point, nothing, reason)


def _reshaped(point: CriticalPoint, shape: tuple[int, ...]) -> CriticalPoint:
    w, b, q = (a.reshape(shape) for a in (point.sigma_w2, point.sigma_b2, point.q))
    return CriticalPoint(w, b, q, point.reason.reshape(shape))


def critical_sigma_w2(activation: str | Activation, sigma_b2: ArrayLike) -> CriticalPoint:
    """Return the σ_w² at which χ₁ = 1 at q*, for each σ_b² ≥ 0.

    Solves q − E[φ²]/E[φ′²] = σ_b² for q, then σ_w² = 1/E[φ′²]; the smallest σ_w² if several. NaN
    with a reason where χ₁ = 1 only at a q that is unstable or not the fixed point in use, or that
    does not exist. ReLU, leaky ReLU and linear have χ₁ = 1 at one σ_w² whatever q: it is returned
    for σ_b² = 0, with q NaN as any q is fixed; for σ_b² > 0 there is no fixed point and so none.
    Relative error of σ_w² about 1e-13. Raises ValueError for values out of range.

    >>> round(float(critical_sigma_w2("tanh", 0.05).sigma_w2), 5)
    1.76095
    """
    act = activations.get(activation)
    sigma_b2 = number("sigma_b2", sigma_b2, 0.0)
    b = sigma_b2.ravel()
    if act.homogeneous:
        return _reshaped(_homogeneous_line(act, None, b), sigma_b2.shape)
    square, slope, _ = moments(act, _CRITICAL_GRID)
    crude = _CRITICAL_GRID - square / slope
    rows, at = _sign_changes(crude - b[:, None])
    # what rounding leaves of a curve that starts at 0 is no crossing
    real = np.abs(crude[at + 1] - crude[at]) > 1e-14 * _CRITICAL_GRID[at]
    rows, at = rows[real], at[real]
    log_q = np.log(_CRITICAL_GRID)
    q = np.exp(
        _roots.bracketed(
            lambda r, x: _bias_at_criticality(act, np.exp(x)) - b[rows[r]],
            log_q[at],
            log_q[at + 1],
        )
    )
    w = 1 / moments(act, q)[1]
    point = _choose(act, rows, w, b[rows], q, b.size)
    if float(act(0.0)) == 0 and float(act.d1(SMALLEST_Q)) != 0:
        point = _with_origin(act, point, b)
    filled = CriticalPoint(point.sigma_w2, b, point.q, point.reason)
    return _reshaped(filled, sigma_b2.shape)


def critical_at(activation: str | Activation, q: ArrayLike) -> CriticalPoint:
    """Return the point with χ₁ = 1 at which the length map fixes q.

    σ_w² = 1/E[φ′²], σ_b² = q − E[φ²]/E[φ′²], u ~ N(0, q).

    q > 0, any shape. NaN with a reason where that σ_b² would be negative. σ_b² keeps its digits as
    q → 0, where the difference as written would lose them. Whether iterating the length map leads
    to q is not asked: compare ``fixed_point``. Raises ValueError for values out of range.

    >>> point = critical_at("tanh", 1e-4)
    >>> round(float(point.sigma_w2), 6), float(f"{point.sigma_b2:.3g}")
    (1.0002, 1.33e-12)
    """
    act = activations.get(activation)
    length = number("q", q, SMALLEST_Q)
    flat = length.ravel()
    w = 1 / moments(act, flat)[1]
    # of a homogeneous φ the difference is 0 exactly
    b = np.zeros_like(flat) if act.homogeneous else _bias_at_criticality(act, flat)
    b = np.where((b < 0) & (b > -1e-13 * flat), 0.0, b)  # a 0 that rounding made negative
    missing = b < 0
    point = CriticalPoint(
        np.where(missing, np.nan, w),
        np.where(missing, np.nan, b),
        flat,
        np.where(missing, _NEGATIVE, ""),
    )
    return _reshaped(point, length.shape)


def _with_origin(act: Activation, point: CriticalPoint, b: Array) -> CriticalPoint:
    """Add the critical point at q* = 0, σ_b² = 0 where that is the fixed point in use."""
    w = 1 / moments(act, np.zeros(1))[1]
    q, _ = _lengths(act, w, np.zeros(1))
    origin = b == 0
    if not (q[0] <= 1e-12):
        missing = origin & np.isnan(point.sigma_w2)
        reason = np.where(missing, _UNSTABLE, point.reason)
        return CriticalPoint(point.sigma_w2, b, point.q, reason)
    origin &= ~(point.sigma_w2 < w[0])
    return CriticalPoint(
        np.where(origin, w[0], point.sigma_w2),
        b,
        np.where(origin, 0.0, point.q),
        np.where(origin, "", point.reason),
    )


def critical_sigma_b2(activation: str | Activation, sigma_w2: ArrayLike) -> CriticalPoint:
    """Return the σ_b² at which χ₁ = 1 at q*, for each σ_w² ≥ 0.

    Solves E[φ′²] = 1/σ_w² for q, then σ_b² = q − E[φ²]/E[φ′²]; of several, one whose q is the
    fixed point in use. NaN with a reason where there is none or where it would be negative.
    Raises ValueError for values out of range.

    >>> round(float(critical_sigma_b2("tanh", 1.7609499).sigma_b2), 4)
    0.05
    """
    act = activations.get(activation)
    sigma_w2 = number("sigma_w2", sigma_w2, 0.0)
    w = sigma_w2.ravel()
    if act.homogeneous:
        return _reshaped(_homogeneous_line(act, w, np.zeros_like(w)), sigma_w2.shape)
    slope = moments(act, _CRITICAL_GRID)[1]
    rows, at = _sign_changes(w[:, None] * slope - 1)
    log_q = np.log(_CRITICAL_GRID)
    q = np.exp(
        _roots.bracketed(
            lambda r, x: w[rows[r]] * moments(act, np.exp(x))[1] - 1, log_q[at], log_q[at + 1]
        )
    )
    b = _bias_at_criticality(act, q) if q.size else q
    point = _choose(act, rows, w[rows], b, q, w.size)
    origin = moments(act, np.zeros(1))[1][0]
    at_zero = (float(act(0.0)) == 0) & (np.abs(w * origin - 1) <= CRITICAL_TOLERANCE)
    if at_zero.any() and _lengths(act, w[at_zero][:1], np.zeros(1))[0][0] <= 1e-9:
        point = CriticalPoint(
            point.sigma_w2,
            np.where(at_zero, 0.0, point.sigma_b2),
            np.where(at_zero, 0.0, point.q),
            np.where(at_zero, "", point.reason),
        )
    return _reshaped(CriticalPoint(w, point.sigma_b2, point.q, point.reason), sigma_w2.shape)
