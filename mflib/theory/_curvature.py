"""What bends the correlation map: means of E[φ″φ″] between a correlation c and 1.

At equal variances q, d/dc E[φφ] = q E[φ′φ′] and d/dc E[φ′φ′] = q E[φ″φ″] =: q K(c) (Plackett).
With y = 1 − c and the weighted means

    b_0(y) = 1/y ∫_c^1 K dc′,        b_1(y) = 2/y² ∫_c^1 (1 − c′) K dc′,

the correlation map and its slope follow without any difference of nearly equal numbers:

    E[φ′²] − (E[φ²] − E[φφ](c)) / (q y) = q y (b_0 − b_1/2)
    (E[φ²] − E[φφ](c)) / (q y) − E[φ′φ′](c) = q y b_1/2.

K ≥ 0 on c ≥ 0. Kinks where φ′ jumps by J_k contribute J_k J_m × the joint normal density, which
is integrated in closed angles; the smooth part is tabulated in (log q, angle) by Chebyshev
series, built panel by panel when first needed and checked by the decay of its coefficients.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable

import numpy as np

from mflib.theory import _hermite
from mflib.theory._arrays import Array, Rows, chunks
from mflib.theory._moments import COARSEST, refinement
from mflib.theory._quadrature import (
    REACH,
    SQRT_2PI,
    difference_rule,
    graded,
    legendre,
    line_rule,
    scale_of,
)
from mflib.theory.activations import Activation

PANEL = 2.0  # width of a panel in log q; K(q) is analytic off the negative axis, π away
Q_ORDER = 20
ANGLE_ORDERS = (28, 44, 72, 120)
TABLE_TOLERANCE = 1e-12
LIMIT_TOLERANCE = 1e-8


def _angle_scale(q: Array) -> tuple[Array, Array]:
    """Return a and v_max of the graded angle θ = a sinh(v v_max), 0 ≤ v ≤ 1 up to θ = π/2."""
    a = 1 / np.sqrt(1 + q)
    return a, np.arcsinh(np.pi / 2 / a)


def _angle(y: Array) -> Array:
    """Return θ with 1 − cos θ = y."""
    return 2 * np.arcsin(np.sqrt(y / 2))


def _chebyshev(n: int) -> tuple[Array, Array]:
    """Return the n Chebyshev points on [−1, 1] and the matrix from values to coefficients."""
    angle = np.pi * (np.arange(n) + 0.5) / n
    matrix = 2 / n * np.cos(np.arange(n)[:, None] * angle)
    matrix[0] /= 2
    return np.cos(angle), matrix


def _basis(x: Array, n: int) -> Array:
    """Return T_0 … T_(n−1) at x, shape (n, *x.shape)."""
    out = np.empty((n, *x.shape))
    out[0] = 1.0
    out[1] = x
    twice = 2 * x
    for k in range(2, n):
        np.multiply(twice, out[k - 1], out=out[k])
        out[k] -= out[k - 2]
    return out


# --- the smooth part ------------------------------------------------------------------------


def smooth_curvature(activation: Activation, q: Array, theta: Array) -> Array:
    """Return E[φ″φ″] without the kinks' own product; q (m,), θ (m, k) → (m, k)."""
    out = np.empty_like(theta)
    rest = np.ones(q.shape, dtype=bool)
    if activation.strip > 0:
        easy = activation.strip >= _hermite.REACH * np.sqrt(q)
        x, w = line_rule(q, even=activation.odd)
        square = np.sum(w * activation.d2(x) ** 2, axis=-1)
        if easy.any():
            p, converged = _hermite.pair_series(activation.d2, q[easy], square[easy], 1e-13)
            done = np.flatnonzero(easy)[converged]
            out[done] = _hermite.power_sum(p[converged], np.cos(theta[done]))
            rest[done] = False
    if rest.any():
        out[rest] = _direct_curvature(activation, q[rest], theta[rest])
    return out


def _direct_curvature(activation: Activation, q: Array, theta: Array) -> Array:
    shape = theta.shape
    q, theta = np.repeat(q, shape[1]), theta.ravel()
    out = np.empty_like(theta)
    refine = refinement(activation)
    for part in chunks(theta.size, int(10_000 * refine**2)):
        u_a, u_b, w = difference_rule(
            q[part],
            theta[part],
            activation.kinks,
            mirrored=activation.odd,
            refine=COARSEST * refine,
        )
        w *= activation.d2(u_a)
        w *= activation.d2(u_b)
        out[part] = np.sum(w, axis=(1, 2))
    if activation.jumps.any():
        out += _kink_times_smooth(activation, q, theta, refine)
    return out.reshape(shape)


def _kink_times_smooth(activation: Activation, q: Array, theta: Array, refine: float) -> Array:
    """Return 2 Σ_k J_k n(k; q) E[φ″(u) | other = k], u ~ N(k cos θ, q sin²θ)."""
    total = np.zeros_like(theta)
    spread = np.sqrt(q) * np.sin(theta)
    corners = np.array(sorted({0.0, *activation.kinks}))
    for k, jump in zip(activation.kinks, activation.jumps, strict=True):
        if jump == 0:
            continue
        mean = k * np.cos(theta)
        anchors = np.sort(
            np.concatenate([corners - mean[:, None], np.zeros((mean.size, 1))], axis=-1), axis=-1
        )
        x, w = graded(anchors, -REACH * spread, REACH * spread, scale_of(spread), refine)
        w *= np.exp(-0.5 * (x / spread[:, None]) ** 2) / (SQRT_2PI * spread[:, None])
        inner = np.sum(w * activation.d2(mean[:, None] + x), axis=-1)
        total += 2 * jump * inner * np.exp(-0.5 * k * k / q) / (SQRT_2PI * np.sqrt(q))
    return total


class CurvatureTable:
    """Tabulate b_0 and b_1 of the smooth part for one activation, panel by panel in log q."""

    def __init__(self, activation: Activation) -> None:
        self._activation = activation
        self._panels: dict[int, tuple[Array, int]] = {}

    def _build(self, panel: int) -> tuple[Array, int]:
        """Return Chebyshev coefficients (Q_ORDER, 2, n) of a panel, and n."""
        nodes, to_coefficients = _chebyshev(Q_ORDER)
        q = np.exp(PANEL * (panel + (nodes + 1) / 2))
        best = np.inf
        for n in ANGLE_ORDERS:
            v_nodes, to_angle = _chebyshev(n)
            values = self._means_at_nodes(q, v_nodes, to_angle)
            series = np.einsum("kq,qbv,nv->kbn", to_coefficients, values, to_angle)
            size = np.abs(series).max(axis=(0, 2))
            tail = np.abs(series[:, :, -3:]).max(axis=(0, 2)) + np.abs(series[-2:]).max(axis=(0, 2))
            best = float(np.max(tail / np.maximum(size, 1e-300)))
            if best <= TABLE_TOLERANCE:
                return series, n
        if best > LIMIT_TOLERANCE:
            raise ValueError(
                f"The correlation map of activation {self._activation.name!r} is not resolved at "
                f"q ≈ {q[q.size // 2]:.3g} (relative error {best:.1e}): name all its kinks."
            )
        return series, n

    def _means_at_nodes(self, q: Array, v_nodes: Array, to_angle: Array) -> Array:
        """Return (1 + (θ/a)²) b at angle nodes, (Q_ORDER, 2, n), from K at those nodes."""
        n = v_nodes.size
        a, v_max = (s[:, None] for s in _angle_scale(q))
        v = (v_nodes + 1) / 2
        # for large q, K falls like 1/θ³ and b_0 like 1/θ²: levelled, what interpolation leaves is
        # small against each value and not only against the largest
        level = np.cosh(v * v_max) ** 2
        curvature = level * smooth_curvature(self._activation, q, a * np.sinh(v * v_max))
        t, w = legendre(n + 20)
        inner = v[:, None] * t  # every b integrates K from angle 0 to its own node
        # from K at the nodes to K at every inner point, by its Chebyshev series
        k = np.tensordot(curvature @ to_angle.T, _basis(2 * inner - 1, n), axes=1)
        grade = v_max[..., None] * inner
        theta = a[..., None] * np.sinh(grade)
        measure = a[..., None] / np.cosh(grade) * v_max[..., None] * (v[:, None] * w)
        near = 2 * np.sin(theta / 2) ** 2
        k *= measure * np.sin(theta)
        y = 2 * np.sin(a * np.sinh(v * v_max) / 2) ** 2
        b_0, b_1 = np.sum(k, axis=-1) / y, 2 * np.sum(k * near, axis=-1) / y**2
        return np.stack([level * b_0, level * b_1], axis=1)

    def at(self, q: Array) -> Callable[[Rows, Array], tuple[Array, Array]]:
        """Return the function (rows, y) → b_0, b_1 for q (n,), with y given for those rows."""
        log_q = np.log(q) / PANEL
        panel = np.floor(log_q).astype(int)
        wanted = np.unique(panel)
        for p in wanted:
            if p not in self._panels:
                self._panels[p] = self._build(int(p))
        order = max((self._panels[p][1] for p in wanted), default=2)
        series = np.zeros((2, order, q.size))
        for p in wanted:
            rows = np.flatnonzero(panel == p)
            coefficients, n = self._panels[p]
            basis = _basis(2 * (log_q[rows] - p) - 1, Q_ORDER)
            series[:, :n, rows] = np.tensordot(coefficients, basis, axes=(0, 0))
        a, v_max = _angle_scale(q)

        def evaluate(rows: Rows, y: Array) -> tuple[Array, Array]:
            grown = _angle(y) / a[rows]
            x = 2 * np.arcsinh(grown) / v_max[rows] - 1
            basis = _basis(np.clip(x, -1.0, 1.0), order)
            mine = series if rows.size == q.size else series[:, :, rows]
            b = np.einsum("bkn,kn->bn", mine, basis) / (1 + grown**2)
            return b[0], b[1]

        return evaluate


# --- closed forms ------------------------------------------------------------------------------


def _closed_density(activation: Activation) -> Callable[[Array, Array, Array], Array]:
    """Return (q, sin θ/2, cos θ/2) → K(θ) sin θ, of the closed form or of the kinks alone."""
    if activation.closed is not None and activation.closed.curvature is not None:
        curvature = activation.closed.curvature

        def closed(q: Array, sin_half: Array, cos_half: Array) -> Array:
            sin = 2 * sin_half * cos_half
            return curvature(q, 1 - 2 * sin_half**2, sin) * sin

        return closed
    # pairs of kinks with the same (k + m)², (k − m)² have the same density
    weights: dict[tuple[float, float], float] = {}
    for k, jump_k in zip(activation.kinks, activation.jumps, strict=True):
        for m, jump_m in zip(activation.kinks, activation.jumps, strict=True):
            key = ((k + m) ** 2, (k - m) ** 2)
            weights[key] = weights.get(key, 0.0) + jump_k * jump_m

    def density(q: Array, sin_half: Array, cos_half: Array) -> Array:
        # (k² + m² − 2km cos θ) / sin²θ, written so that k = m stays finite at θ = 0
        plus, minus = 0.125 / (q * cos_half**2), 0.125 / (q * sin_half**2)
        total = np.zeros(plus.shape)
        for (sum_square, gap_square), weight in weights.items():
            if weight == 0:
                continue
            exponent = sum_square * plus
            if gap_square:
                exponent += gap_square * minus
            total += weight * np.exp(-exponent)
        return total / (2 * np.pi * q)

    return density


def _closed_means(activation: Activation, q: Array) -> Callable[[Rows, Array], tuple[Array, Array]]:
    density = _closed_density(activation)
    a, _ = _angle_scale(q)
    corners = np.unique(np.abs(np.subtract.outer(activation.kinks, activation.kinks)))
    t, w = legendre(40 if corners.size < 2 else 72)

    def evaluate(rows: Rows, y: Array) -> tuple[Array, Array]:
        grade = a[rows, None]
        v_max = np.arcsinh(_angle(y) / a[rows])[:, None]
        grown = np.expm1(v_max * t)
        shrunk = 1 / (1 + grown)
        half = grade / 4 * (grown + grown * shrunk)  # θ/2, with θ = a sinh v
        sin_half = np.sin(half)
        k = density(q[rows, None], sin_half, np.cos(half))
        k *= grade / 2 * (1 + grown + shrunk) * (v_max * w)
        near = 2 * sin_half**2
        return np.sum(k, axis=-1) / y, 2 * np.sum(k * near, axis=-1) / y**2

    return evaluate


_tables: weakref.WeakKeyDictionary[Activation, CurvatureTable] = weakref.WeakKeyDictionary()


def curvature_means(
    activation: Activation, q: Array
) -> Callable[[Rows, Array], tuple[Array, Array]]:
    """Return the function (rows, y) → b_0, b_1 at the variances q[rows]; q (n,) positive."""
    closed = activation.closed is not None and activation.closed.curvature is not None
    if closed or activation.piecewise_linear:
        return _closed_means(activation, q)
    if activation not in _tables:
        _tables[activation] = CurvatureTable(activation)
    smooth = _tables[activation].at(q)
    if not activation.jumps.any():
        return smooth
    kinked = _closed_means(activation, q)

    def both(rows: Rows, y: Array) -> tuple[Array, Array]:
        (s_0, s_1), (k_0, k_1) = smooth(rows, y), kinked(rows, y)
        return s_0 + k_0, s_1 + k_1

    return both
