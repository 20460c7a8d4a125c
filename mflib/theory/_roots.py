"""Vectorised root finding inside brackets."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mflib.theory._arrays import Array, Rows

EPS = np.finfo(np.float64).eps


def newton_in_bracket(
    relative: Callable[[Rows, Array], tuple[Array, Array]], low: Array, high: Array, start: Array
) -> Array:
    """Return positive roots x in [low, high] of a function that falls through 0.

    ``relative(rows, x)`` gives g and dg/d(log x) for those rows, g > 0 left of the root. Steps are
    taken in log x, so roots of any magnitude keep their relative accuracy; a step that leaves the
    bracket is replaced by bisection. All arrays (n,).
    """
    low, high, x = low.copy(), high.copy(), start.copy()
    rows: Rows = np.arange(x.size)
    for _ in range(80):
        g, slope = relative(rows, x[rows])
        left = g > 0
        low[rows] = np.where(left, x[rows], low[rows])
        high[rows] = np.where(left, high[rows], x[rows])
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            step = -g / slope
            new = x[rows] * np.exp(step)
            middle = np.sqrt(low[rows]) * np.sqrt(high[rows])
        inside = (new >= low[rows]) & (new <= high[rows])
        settled = (np.abs(step) <= 2 * EPS) | (np.abs(g) <= EPS)
        settled |= high[rows] <= low[rows] * (1 + 2 * EPS)
        x[rows] = np.where(settled & ~inside, x[rows], np.where(inside, new, middle))
        rows = rows[~settled]
        if rows.size == 0:
            break
    return x


def bracketed(f: Callable[[Rows, Array], Array], low: Array, high: Array) -> Array:
    """Return roots of f in [low, high] without derivatives (Chandrupatla 1997). All arrays (n,)."""
    a, b = low.copy(), high.copy()
    rows: Rows = np.arange(a.size)
    f_a, f_b = f(rows, a), f(rows, b)
    c, f_c = a.copy(), f_a.copy()
    t = np.full_like(a, 0.5)
    best = np.where(np.abs(f_a) < np.abs(f_b), a, b)
    for _ in range(120):
        x = a[rows] + t[rows] * (b[rows] - a[rows])
        f_x = f(rows, x)
        same = np.sign(f_x) == np.sign(f_a[rows])
        c[rows] = np.where(same, a[rows], b[rows])
        f_c[rows] = np.where(same, f_a[rows], f_b[rows])
        b[rows] = np.where(same, b[rows], a[rows])
        f_b[rows] = np.where(same, f_b[rows], f_a[rows])
        a[rows], f_a[rows] = x, f_x
        nearer = np.abs(f_a[rows]) < np.abs(f_b[rows])
        best[rows] = np.where(nearer, a[rows], b[rows])
        tolerance = 2 * EPS * np.abs(best[rows]) + 1e-300
        width = np.abs(b[rows] - a[rows])
        done = (width <= 2 * tolerance) | (f_x == 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            xi = (a[rows] - b[rows]) / (c[rows] - b[rows])
            phi = (f_a[rows] - f_b[rows]) / (f_c[rows] - f_b[rows])
            inverse = (phi**2 < xi) & ((1 - phi) ** 2 < 1 - xi)
            quadratic = f_a[rows] / (f_b[rows] - f_a[rows]) * f_c[rows] / (
                f_b[rows] - f_c[rows]
            ) + (c[rows] - a[rows]) / (b[rows] - a[rows]) * f_a[rows] / (
                f_c[rows] - f_a[rows]
            ) * f_b[rows] / (f_c[rows] - f_b[rows])
            edge = tolerance / width
        step = np.where(inverse & np.isfinite(quadratic), quadratic, 0.5)
        t[rows] = np.clip(step, np.minimum(edge, 0.5), np.maximum(1 - edge, 0.5))
        rows = rows[~done]
        if rows.size == 0:
            break
    return best
