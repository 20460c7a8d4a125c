"""Expectations of a Gaussian pair as power series of the correlation.

With normalised Hermite polynomials h_n and a_n(q) = E[f(√q z) h_n(z)],

    E[f(u_a) f(u_b)] = Σ_n a_n(q_a) a_n(q_b) cⁿ                    (Mehler's formula).

For f analytic in |Im x| < δ the terms fall like exp(−2δ√(2n/q)), so the series serves smooth
functions at moderate q; the caller gets the relative tail, measured against E[f²].
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from mflib.theory._arrays import Array

# Spacing 0.04 resolves the fastest oscillation, √n, up to n of some thousands; exp(−z²/4) has
# fallen to 1e-18 at 12.8. Only z ≥ 0 is kept, since h_n(−z) = (−1)ⁿ h_n(z).
_SPACING = 0.04
_NODES = _SPACING * np.arange(321)
TERMS = (192, 768, 3072)
REACH = 0.28  # analytic width over √q from which TERMS suffice


@lru_cache(maxsize=len(TERMS))
def _functions(terms: int) -> Array:
    """Return weights × h_n(z) at the nodes, shape (terms, nodes)."""
    half = np.exp(-(_NODES**2) / 4)
    table = np.empty((terms, _NODES.size))
    table[0] = half
    table[1] = _NODES * half
    root = np.sqrt(np.arange(terms))
    for n in range(1, terms - 1):
        table[n + 1] = (_NODES * table[n] - root[n] * table[n - 1]) / root[n + 1]
    weight = half * _SPACING / np.sqrt(2 * np.pi)
    weight[0] /= 2  # z = 0 is its own mirror image
    table *= weight
    return table


def coefficients(f: Callable[[Array], Array], q: Array, terms: int) -> Array:
    """Return a_n(q) of f, shape (*q.shape, terms)."""
    x = np.sqrt(q)[..., None] * _NODES
    right, left = f(x), f(-x)
    table = _functions(terms)
    out = np.empty((*q.shape, terms))
    out[..., ::2] = (right + left) @ table[::2].T
    out[..., 1::2] = (right - left) @ table[1::2].T
    return out


def power_sum(p: Array, c: Array) -> Array:
    """Return Σ_n p_n cⁿ by Horner's rule; p (m, terms), c (m, k) → (m, k)."""
    total = np.zeros_like(c)
    for term in p.T[::-1]:
        total *= c
        total += term[:, None]
    return total


def pair_series(
    f: Callable[[Array], Array], q: Array, square: Array, tolerance: float
) -> tuple[Array, Array]:
    """Return p_n = a_n(q)² and whether the series reaches E[f²] = ``square`` to ``tolerance``.

    q, square (m,) → p (m, terms), converged (m,).
    """
    for terms in TERMS:
        p = coefficients(f, q, terms) ** 2
        converged = np.abs(p.sum(axis=-1) - square) <= tolerance * square
        if converged.all():
            break
    return p, converged
