"""Moments of one activation: E[φ], E[φ²], E[φ′²], dE[φ²]/dq, and E[φ(u_a)φ(u_b)].

Closed forms where the activation has them, otherwise the graded rules at a refinement that is
checked once per activation over q = 1e-12 … 1e6.
"""

from __future__ import annotations

import itertools
import weakref

import numpy as np
from numpy.typing import NDArray

from mflib.theory import _hermite
from mflib.theory._arrays import Array, chunks
from mflib.theory._quadrature import (
    SQRT_2PI,
    conditional_rule,
    difference_rule,
    legendre,
    line_rule,
)
from mflib.theory.activations import Activation, Moments

SMALLEST_Q = 1e-200  # stands for the limit q → 0: its square root still squares to a normal number
_CHECK_Q = 10.0 ** np.arange(-12, 7, 1.0)
_CHECK_TOLERANCE = 1e-12
_EPS = np.finfo(np.float64).eps
COARSEST = 0.8  # tables of E[φ″φ″] may use this much of the refinement
_REFINEMENTS = (1.0, 2.0, 4.0, 8.0, 16.0)

_refinement_of: weakref.WeakKeyDictionary[Activation, float] = weakref.WeakKeyDictionary()


def refinement(activation: Activation) -> float:
    """Return the refinement at which the rules have converged for this activation.

    Raises ValueError where no refinement up to 16 makes E[φ²], E[φ′²] and E[φ″²] agree with the
    next.
    """
    if activation not in _refinement_of:
        previous = _squares(activation, _CHECK_Q, _REFINEMENTS[0])
        for coarse, fine in itertools.pairwise(_REFINEMENTS):
            current = _squares(activation, _CHECK_Q, fine)
            # φ is known to ε·max|φ| at best, which shows in E[φ²] where φ is near a zero of its own
            rounding = 8 * _EPS * np.sqrt(current * current.max(axis=1, keepdims=True))
            change = np.maximum(np.abs(previous - current) - rounding, 0.0)
            gap = float(np.max(change / np.maximum(current, 1e-300)))
            if gap <= _CHECK_TOLERANCE:
                _refinement_of[activation] = coarse
                break
            previous = current
        else:
            raise ValueError(
                f"The Gaussian expectations of activation {activation.name!r} do not converge "
                f"(relative change {gap:.1e}): name all its kinks, and check that it stays finite "
                "up to |x| = 1e4, grows no faster than a power of x and settles far from 0 (a sine "
                "does not)."
            )
    return _refinement_of[activation]


def _squares(activation: Activation, q: Array, refine: float) -> Array:
    """Return E[φ²], E[φ′²], E[φ″²] by a rule coarser than the refinement asks: the margin."""
    x, w = line_rule(q, activation.kinks, even=activation.odd, refine=COARSEST * refine)
    parts = (activation(x), activation.d1(x), activation.d2(x))
    return np.stack([np.sum(w * f * f, axis=-1) for f in parts])


def _rule_moments(activation: Activation, q: Array, refine: float) -> Moments:
    x, w = line_rule(q, activation.kinks, even=activation.odd, refine=refine)
    f, d1 = activation(x), activation.d1(x)
    square = np.sum(w * f * f, axis=-1)
    slope = np.sum(w * d1 * d1, axis=-1)
    # E[uφφ′]/q cancels as q → 0 where φ(0) ≠ 0; E[φ′² + φφ″] cancels as q → ∞
    growth = np.sum(w * x * f * d1, axis=-1) / q
    small = q < 1
    if small.any() and not activation.odd:
        curve = np.sum(w[small] * f[small] * activation.d2(x[small]), axis=-1)
        for k, jump in zip(activation.kinks, activation.jumps, strict=True):
            curve += jump * activation(k) * _density(k, q[small])
        growth[small] = slope[small] + curve
    return square, slope, growth


def _density(x: float | Array, q: Array) -> Array:
    deviation = np.sqrt(q)
    return np.asarray(np.exp(-0.5 * (x / deviation) ** 2) / (SQRT_2PI * deviation))


def _nodes(activation: Activation) -> int:
    x, _ = line_rule(np.array([30.0]), activation.kinks, even=activation.odd)
    return x.size


def moments(activation: Activation, q: Array) -> Moments:
    """Return E[φ²], E[φ′²] and dE[φ²]/dq for u ~ N(0, q); at q = 0 their limits. q any shape."""
    flat = np.maximum(np.ravel(q), SMALLEST_Q)
    if activation.closed is not None:
        out = activation.closed.moments(flat)
    else:
        refine = refinement(activation)
        out = (np.empty_like(flat), np.empty_like(flat), np.empty_like(flat))
        for part in chunks(flat.size, int(_nodes(activation) * refine)):
            for whole, piece in zip(
                out, _rule_moments(activation, flat[part], refine), strict=True
            ):
                whole[part] = piece
    square, slope, growth = (np.reshape(a, np.shape(q)) for a in out)
    return square, slope, growth


def means(activation: Activation, q: Array) -> tuple[Array, Array]:
    """Return E[φ] and E[φ′] for u ~ N(0, q). q (n,)."""
    q = np.maximum(q, SMALLEST_Q)
    mean, slope = np.empty_like(q), np.empty_like(q)
    refine = refinement(activation)
    for part in chunks(q.size, int(2 * _nodes(activation) * refine)):
        x, w = line_rule(q[part], activation.kinks, refine=refine)
        # pairing ±x keeps the mean of an odd function exactly 0
        f = activation(x)
        mean[part] = 0.0 if activation.odd else np.sum(w * f, axis=-1)
        slope[part] = np.sum(w * activation.d1(x), axis=-1)
    return mean, slope


def product(activation: Activation, q_a: Array, q_b: Array, c: Array) -> Array:
    """Return E[φ(u_a)φ(u_b)] for variances q_a, q_b and correlation c, each (n,)."""
    q_a, q_b = np.maximum(q_a, SMALLEST_Q), np.maximum(q_b, SMALLEST_Q)
    sin = np.sqrt((1 - c) * (1 + c))
    if activation.closed is not None and activation.closed.product is not None:
        return activation.closed.product(q_a, q_b, c, sin)
    if activation.piecewise_linear:
        return _piecewise_linear_product(activation, q_a, q_b, c)
    out, rest = _series_product(activation, q_a, q_b, c)
    equal = q_a == q_b
    refine = refinement(activation)
    by_rule = (rest & equal, _equal_product), (rest & ~equal, _product)
    for rows, rule in ((np.flatnonzero(which), rule) for which, rule in by_rule):
        for row in (rows[part] for part in chunks(rows.size, 20_000)):
            out[row] = rule(activation, q_a[row], q_b[row], c[row], refine)
    return out


def _series_product(
    activation: Activation, q_a: Array, q_b: Array, c: Array
) -> tuple[Array, NDArray[np.bool_]]:
    """Return E[φφ] by Mehler's series and where it has not converged."""
    out, rest = np.empty_like(c), np.ones(c.shape, dtype=bool)
    reach = _hermite.REACH * np.sqrt(np.maximum(q_a, q_b))
    easy = np.flatnonzero(activation.strip > reach)
    for row in (easy[part] for part in chunks(easy.size, 1000)):
        # pairs of many inputs share few variances: one expansion serves each
        q, at = np.unique(np.concatenate([q_a[row], q_b[row]]), return_inverse=True)
        at_a, at_b = at[: row.size], at[row.size :]
        square = moments(activation, q)[0]
        for terms in _hermite.TERMS[:2]:
            table = _hermite.coefficients(activation, q, terms)
            good = np.abs(np.sum(table**2, axis=-1) - square) <= 1e-14 * square
            if good.all():
                break
        a, b = table[at_a], table[at_b]
        converged = good[at_a] & good[at_b]
        total = _hermite.power_sum(a * b, c[row, None])[:, 0]
        out[row[converged]] = total[converged]
        rest[row[converged]] = False
    return out, rest


def _equal_product(activation: Activation, q: Array, _: Array, c: Array, refine: float) -> Array:
    """Return E[φ²] − ½E[(φ(u_a) − φ(u_b))²], which keeps its digits near c = 1."""
    theta = np.arctan2(np.sqrt((1 - c) * (1 + c)), c)
    u_a, u_b, w = difference_rule(
        q, theta, activation.kinks, mirrored=activation.odd, refine=refine
    )
    half = 0.5 * np.sum(w * (activation(u_a) - activation(u_b)) ** 2, axis=(1, 2))
    return np.asarray(moments(activation, q)[0] - half)


def _product(activation: Activation, q_a: Array, q_b: Array, c: Array, refine: float) -> Array:
    sin = np.sqrt((1 - c) * (1 + c))
    kinks = activation.kinks
    u_a, u_b, w = conditional_rule(q_a, q_b, c, sin, kinks, kinks, refine=refine)
    return np.asarray(np.sum(w * activation(u_a) * activation(u_b), axis=(1, 2)))


def _piecewise_linear_product(activation: Activation, q_a: Array, q_b: Array, c: Array) -> Array:
    """Return E[φφ] by Plackett's identity: ∂²E/∂C² is the kinks' joint density, C = √(q_a q_b) c.

    E(C) = E[φ_a]E[φ_b] + C E[φ′_a]E[φ′_b] + ∫₀^C (C − C′) Σ J_i J_j ρ(k_i, k_j; C′) dC′.
    """
    geometric = np.sqrt(q_a) * np.sqrt(q_b)
    (mean_a, slope_a), (mean_b, slope_b) = means(activation, q_a), means(activation, q_b)
    # arcsin c = angle; C′ = √(q_a q_b) sin(angle); graded where the density narrows, near |c| = 1
    total = mean_a * mean_b + geometric * c * slope_a * slope_b
    t, w = legendre(96)
    edge = np.pi / 2
    a = 1 / np.sqrt(1 + geometric)
    end = np.arcsinh(edge / a)
    begin = np.arcsinh((edge - np.arcsin(np.abs(c))) / a)
    v = begin[:, None] + (end - begin)[:, None] * t
    away = a[:, None] * np.sinh(v)  # π/2 − angle
    weight = a[:, None] * np.cosh(v) * (end - begin)[:, None] * w
    sign = np.where(c < 0, -1.0, 1.0)[:, None]
    sin_angle, cos_angle = sign * np.cos(away), np.sin(away)
    below = (c[:, None] - sin_angle) * sign
    r_a, r_b = 1 / np.sqrt(q_a)[:, None], 1 / np.sqrt(q_b)[:, None]
    joint = np.zeros_like(v)
    for k, jump_k in zip(activation.kinks, activation.jumps, strict=True):
        for m, jump_m in zip(activation.kinks, activation.jumps, strict=True):
            x, y = k * r_a, m * r_b
            gap = (x - sign * y) ** 2 + 2 * sign * x * y * (1 - np.cos(away))
            joint += jump_k * jump_m * np.exp(-0.5 * gap / cos_angle**2)
    return np.asarray(total + geometric / (2 * np.pi) * np.sum(weight * below * joint, axis=-1))
