"""Gaussian expectations of any function, each with an error bound.

``expectation`` for one Gaussian, ``pair_expectation`` for two correlated ones. Both double their
Gauss rules until successive values agree. For the moments of a named activation, ``mean_field``
is faster: it uses closed forms, series and tables that were checked against these rules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mflib.theory._arrays import Array, Rows, broadcast, chunks, number
from mflib.theory._moments import SMALLEST_Q
from mflib.theory._quadrature import conditional_rule, line_rule

Function = Callable[[Any], Any]

_EPS = np.finfo(np.float64).eps
_REFINEMENTS = (1.0, 1.5, 2.5, 4.0, 8.0, 16.0)


class Expectation(NamedTuple):
    """Hold a value and a bound on its error, both of the broadcast shape."""

    value: Array
    error: Array


def expectation(
    f: Function, q: ArrayLike, *, kinks: Sequence[float] = (), rtol: float = 1e-13
) -> Expectation:
    """Return E[f(u)], u ~ N(0, q), with an error bound.

    ``f`` maps float64 arrays element by element; it may grow like a power of x, and be
    non-smooth at ``kinks``. q ≥ 0, any shape; accurate from q = 1e-12 to 1e6 for functions that
    vary on the scale 1 of x near 0 and the kinks (others take more nodes). Nodes are added until
    two rules agree within ``rtol`` of E|f|, and the bound is then their difference plus the
    rounding of the sum, 8ε E|f|; what f makes of the rounding of its argument, ε E|u f′(u)|,
    comes on top. Where the finest two rules still disagree (an unnamed kink, a fast oscillation),
    nothing is known of the digits of the value, and the bound is |value| + E|f|: look at it.
    Agreement is evidence rather than proof, and the weaker the larger ``rtol``.

    Raises ValueError for q < 0, rtol outside [1e-15, 0.1], or where f returns another shape or a
    value that is not finite.

    >>> value, error = expectation(np.square, 2.0)
    >>> bool(abs(value - 2) <= error < 1e-12)
    True
    """
    q = number("q", q, 0.0)
    places = _places(kinks)

    def rule(rows: Rows, refine: float) -> tuple[Array, Array]:
        x, w = line_rule(np.maximum(q.ravel()[rows], SMALLEST_Q), places, refine=refine)
        return w, _values(f, x)

    return _refined(rule, q.shape, _tolerance(rtol), 500)


def pair_expectation(
    f: Function,
    g: Function,
    q_a: ArrayLike,
    q_b: ArrayLike,
    c: ArrayLike,
    *,
    kinks_f: Sequence[float] = (),
    kinks_g: Sequence[float] = (),
    rtol: float = 1e-12,
) -> Expectation:
    """Return E[f(u_a) g(u_b)] for variances q_a, q_b and correlation c, with an error bound.

    q_a, q_b ≥ 0 and c in [−1, 1] broadcast together. ``f``, ``g``, the kinks, ``rtol``, the bound
    and what is raised are as in ``expectation``; each point costs 10⁴ to 10⁵ evaluations.

    >>> value, error = pair_expectation(np.sign, np.sign, 1, 1, 0.5, kinks_f=[0], kinks_g=[0])
    >>> bool(abs(value - 1 / 3) < 1e-11)
    True
    """
    q_a, q_b = number("q_a", q_a, 0.0), number("q_b", q_b, 0.0)
    a, b, cos = broadcast(q_a=q_a, q_b=q_b, c=number("c", c, -1.0, 1.0))
    shape = cos.shape
    a, b, cos = np.maximum(a.ravel(), SMALLEST_Q), np.maximum(b.ravel(), SMALLEST_Q), cos.ravel()
    sin = np.sqrt((1 - cos) * (1 + cos))
    places = _places(kinks_f), _places(kinks_g)

    def rule(rows: Rows, refine: float) -> tuple[Array, Array]:
        x, y, w = conditional_rule(a[rows], b[rows], cos[rows], sin[rows], *places, refine=refine)
        return w, _values(f, x) * _values(g, y)

    return _refined(rule, shape, _tolerance(rtol), 1 << 18)


def _places(kinks: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(k) for k in np.atleast_1d(number("kinks", list(kinks), -np.inf)))


def _tolerance(rtol: float) -> float:
    return float(number("rtol", rtol, 1e-15, 0.1))


def _values(f: Function, x: Array) -> Array:
    out = np.asarray(f(x))
    if out.shape != x.shape or out.dtype.kind not in "fiu" or not np.all(np.isfinite(out)):
        raise ValueError(
            f"The function returned {out.dtype} values of shape {out.shape} for input of shape "
            f"{x.shape}, up to |x| = {np.abs(x).max():.3g}: it must act element by element and "
            "stay real and finite."
        )
    return out


def _refined(
    rule: Callable[[Rows, float], tuple[Array, Array]],
    shape: tuple[int, ...],
    rtol: float,
    elements_each: int,
) -> Expectation:
    """Refine the rule until it agrees with the one before, point by point.

    The difference of two rules bounds the error of the finer one only where both resolve the
    integrand; where no two agree, only |value − E[f]| ≤ |value| + E|f| is left.
    """

    def evaluate(rows: Rows, refine: float) -> tuple[Array, Array]:
        parts = []
        for part in chunks(rows.size, int(elements_each * refine)):
            w, values = rule(rows[part], refine)
            axes = tuple(range(1, w.ndim))
            w = w * values
            parts.append((w.sum(axis=axes), np.abs(w).sum(axis=axes)))
        value, size = (np.concatenate(p) for p in zip(*parts, strict=True))
        return value, size

    rows: Rows = np.arange(int(np.prod(shape)))
    value, error = np.zeros(rows.size), np.zeros(rows.size)
    if rows.size:
        value, _ = evaluate(rows, _REFINEMENTS[0])
    for refine in _REFINEMENTS[1:]:
        if not rows.size:
            break
        better, size = evaluate(rows, refine)
        change = np.abs(better - value[rows])
        agree = change <= rtol * size
        bound = np.where(agree, change + 8 * _EPS * size, np.abs(better) + size)
        value[rows], error[rows] = better, bound
        rows = rows[~agree]
    return Expectation(value.reshape(shape), error.reshape(shape))
