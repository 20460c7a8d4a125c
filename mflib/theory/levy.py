"""Mean-field theory of networks with heavy-tailed weights: lengths, eigenvalues, phase diagram.

W_ij ~ S_α((D_w/2N)^{1/α}) and b_i ~ S_α((D_b/2)^{1/α}) make every pre-activation of a wide layer
symmetric α-stable, h ~ S_α((q/2)^{1/α}) (Qu, Wardak and Gong 2022). α = 2 is the Gaussian network
with D_w = σ_w², D_b = σ_b². q falls to e^{−6000} within the paper's phase diagram, so log q is what
is computed. The eigenvalues of W·D, D = diag φ′(h), follow from the cavity equations 7 and 8.

>>> point = fixed_point("tanh", 1.5, 0.5**1.5)
>>> float(np.round(point.log_q, 3))
-11.2
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import interpolate

from mflib.theory import _cavity, activations, mean_field, stable
from mflib.theory._arrays import Array, broadcast, chunks, number
from mflib.theory._cavity import Side
from mflib.theory.activations import Activation

Text = NDArray[np.str_]

LOWEST_ALPHA = 0.5
LARGEST_LOG_Q = 20.0
_NO_LENGTH = "no fixed point q*: q grows beyond e^(40 alpha)"
_LOG_2 = np.log(2.0)


@dataclass(frozen=True)
class FixedPoint:
    """Hold log q* and q* = exp(log q*), which may underflow, with the broadcast shape.

    log q* = −∞ means q* = 0. NaN stands where there is no fixed point; ``reason`` then says why,
    and is "" elsewhere.
    """

    log_q: Array
    q: Array
    reason: Text


# --- checks ---------------------------------------------------------------------------------------


def _alphas(alpha: ArrayLike) -> Array:
    values = number("alpha", alpha, LOWEST_ALPHA, 2.0)
    if np.any(values == LOWEST_ALPHA):
        raise ValueError(
            f"alpha = {LOWEST_ALPHA:g} is out of range: give values above it, up to 2."
        )
    return values


def _log_lengths(log_q: ArrayLike) -> Array:
    try:
        array = np.asarray(log_q, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"log_q must be a real number or an array, not {log_q!r}.") from None
    bad = np.isnan(array) | (array > LARGEST_LOG_Q)
    if bad.any():
        raise ValueError(
            f"log_q = {array[bad].flat[0]:g} is out of range: give log q up to {LARGEST_LOG_Q:g}, "
            "-inf for q = 0."
        )
    return array


# --- the length map -------------------------------------------------------------------------------

_GROWTH = 0.05
_HIGHEST = 40.0  # of log q/alpha: tails beyond 1e25 are then still powers
_TINIEST = -36.0  # at q = e^-36 what the asymptotic form leaves out is of the order of q


class _Length:
    """Know log E|φ(h)|^α as a function of log q for one φ and one α < 2."""

    def __init__(self, act: Activation, alpha: float) -> None:
        self.act, self.alpha = act, alpha
        self.sides = _length_sides(act)
        self._check_growth()
        self.at_zero = float(alpha * _cavity.log_size(act, np.zeros(1))[0])
        self.rise = 0.0
        if np.isneginf(self.at_zero):
            # E|φ|^α = q(level − rise·log q): the core's slope meets the tail of index α
            slopes = np.exp([alpha * _cavity.log_slope(act, s * np.array(1e-30)) for s in (1, -1)])
            self.rise = float(stable.tail_constant(alpha)) / alpha * float(np.mean(slopes))
            reference = float(np.exp(self.exact(np.array([_TINIEST]))[0] - _TINIEST))
            self.level = reference + self.rise * _TINIEST
        grid = np.linspace(_TINIEST, _HIGHEST * alpha, int(2 * (_HIGHEST * alpha - _TINIEST)))
        self.grid = np.concatenate([np.arange(-760.0, _TINIEST, 4.0), grid])
        values = self.exact(grid)
        self._spline = interpolate.make_interp_spline(grid, values, k=5)
        self._slope = self._spline.derivative()

    def _check_growth(self) -> None:
        for side in self.sides:
            if self._fall(side) < _GROWTH:
                raise ValueError(
                    f"E|phi(h)|^alpha does not exist at alpha = {self.alpha:g} for activation "
                    f"{self.act.name!r}, which grows too nearly like |x|: |phi(x)|^alpha must stay "
                    "below a power |x|^p with p < alpha. Take a saturating activation (tanh), or "
                    "alpha = 2."
                )

    def _fall(self, side: Side) -> float:
        """Return p > 0 of |φ|^α f(h) h ~ h^{−p} over the last two decades of the rule."""
        last = side.value[-1]
        before = np.interp(np.log(side.h[-1] / 100), np.log(side.h), side.value)
        if np.isneginf(last):
            return self.alpha
        return float(self.alpha * (1 - (last - before) / np.log(100)))

    def exact(self, log_q: Array) -> Array:
        """Return log E|φ(h)|^α by quadrature, for log q from −36 on; (n,)."""
        total = np.zeros_like(log_q)
        log_scale = (log_q - _LOG_2) / self.alpha
        for side in self.sides:
            size = np.exp(self.alpha * side.value)
            begin = np.exp(self.alpha * side.start)
            for part in chunks(log_q.size, side.h.size):
                scale = np.exp(log_scale[part])
                # what lies 1e-9 of the scale from 0 counts for nothing where φ(0) = 0
                first = 0 if begin else int(np.searchsorted(side.h, 1e-12 * scale.min()))
                density = stable.pdf(side.h[first:] / scale[:, None], self.alpha)
                total[part] += (density @ (side.weight * size)[first:]) / scale
                total[part] += side.count * begin * (0.5 - stable.sf(side.low / scale, self.alpha))
                beyond = stable.sf(side.top / scale, self.alpha) * self.alpha / self._fall(side)
                total[part] += side.count * beyond * size[-1]
        return np.log(total)

    def log_mean(self, log_q: Array) -> Array:
        """Return log E|φ(h)|^α at any log q ≥ −∞, (n,)."""
        out = np.empty_like(log_q)
        near = log_q >= _TINIEST
        out[near] = self.exact(log_q[near])
        out[~near] = self._tiny(log_q[~near])
        return out

    def _tiny(self, log_q: Array) -> Array:
        if np.isfinite(self.at_zero):
            return np.full_like(log_q, self.at_zero)
        with np.errstate(invalid="ignore"):
            tilt = self.level - self.rise * np.minimum(log_q, _TINIEST)
            return np.where(np.isneginf(log_q), -np.inf, log_q + np.log(tilt))

    def _quick(self, log_q: Array) -> Array:
        return np.where(
            log_q >= _TINIEST, self._spline(np.maximum(log_q, _TINIEST)), self._tiny(log_q)
        )

    def fixed_points(self, D_w: Array, D_b: Array) -> Array:
        """Return log q*, (n,)."""
        with np.errstate(divide="ignore"):
            log_w, log_b = np.log(D_w), np.log(D_b)
        out = log_b.copy()
        rows = np.flatnonzero(D_w > 0)
        if np.isneginf(self.at_zero):
            tiny = rows[D_b[rows] == 0]
            rows = np.concatenate(
                [rows[D_b[rows] > 0], tiny[self._search_from_zero(D_w, out, tiny)]]
            )
        if rows.size:
            out[rows] = self._search(log_w[rows], log_b[rows])
        return out

    def _search_from_zero(self, D_w: Array, out: Array, rows: Array) -> NDArray[np.bool_]:
        """Solve 1/D_w = level − rise·log q where the root is tiny; return which rows are left."""
        left: NDArray[np.bool_] = D_w[rows] * (self.level - self.rise * _TINIEST) > 1
        if self.rise > 0:
            out[rows] = (self.level - 1 / D_w[rows]) / self.rise
        else:
            out[rows] = -np.inf
        return left

    def _search(self, log_w: Array, log_b: Array) -> Array:
        """Return the fixed point next to q = 1 in the direction of the first step from there."""
        grid = self.grid
        mean = self._quick(grid)
        start = int(np.searchsorted(grid, 0.0))
        out = np.empty_like(log_w)
        for part in chunks(log_w.size, grid.size):
            excess = np.logaddexp(log_w[part, None] + mean, log_b[part, None]) - grid
            above = excess > 0
            falls = above[:, :-1] & ~above[:, 1:]
            index = np.arange(falls.shape[1])
            up, low = falls & (index >= start), falls & (index < start)
            after = up.argmax(axis=1)
            before = index.size - 1 - low[:, ::-1].argmax(axis=1)
            bracket = np.where(above[:, start] & up.any(axis=1), after, before)
            out[part] = self._polish(grid[bracket], grid[bracket + 1], log_w[part], log_b[part])
            out[part][above[:, start:].all(axis=1)] = np.nan
        return out

    def _polish(self, low: Array, high: Array, log_w: Array, log_b: Array) -> Array:
        """Bisect on the spline, then take Newton steps on the quadrature with its slope."""
        for _ in range(40):
            middle = (low + high) / 2
            above = np.logaddexp(log_w + self._quick(middle), log_b) > middle
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        log_q = (low + high) / 2
        for _ in range(3):
            mean = self.log_mean(log_q)
            new = np.logaddexp(log_w + mean, log_b)
            near = np.maximum(log_q, _TINIEST)
            tiny = 1 - self.rise / (self.level - self.rise * log_q) if self.rise else 1.0
            slope = np.where(log_q >= _TINIEST, self._slope(near), tiny)
            slope = slope * np.exp(log_w + mean - new)
            step = (new - log_q) / np.minimum(slope - 1, -1e-300)
            log_q = log_q - np.clip(step, -0.5, 0.5)
        return log_q


@lru_cache(maxsize=16)
def _length_sides(act: Activation) -> tuple[Side, ...]:
    top = _cavity.reach(act)
    zeros = _cavity.zeros(act)
    kinks = np.array(act.kinks)
    anchors = np.unique(np.concatenate([kinks, zeros]))

    def value(h: Array) -> Array:
        return _cavity.log_size(act, h)

    return _cavity.sides(act, value, anchors, top)


_lengths: weakref.WeakKeyDictionary[Activation, dict[float, _Length]] = weakref.WeakKeyDictionary()


def _length(act: Activation, alpha: float) -> _Length:
    laws = _lengths.setdefault(act, {})
    if alpha not in laws:
        if len(laws) >= 64:
            laws.clear()
        laws[alpha] = _Length(act, alpha)
    return laws[alpha]


def length_map(
    activation: str | Activation,
    alpha: ArrayLike,
    log_q: ArrayLike,
    D_w: ArrayLike,
    D_b: ArrayLike = 0.0,
) -> Array:
    """Return log q' of the next layer, q' = D_w E|φ(h)|^α + D_b, h ~ S_α((q/2)^{1/α}) (eq. 5).

    alpha in (0.5, 2], log_q ≤ 20 (−∞ for q = 0), D_w, D_b ≥ 0, broadcast together. Raises
    ValueError for values out of range, and where E|φ(h)|^α does not exist: for α < 2, where φ
    grows like |x| or nearly so (linear, ReLU, GELU).

    >>> float(np.round(length_map("tanh", 1.0, -np.inf, 1.0, 0.25), 6))
    -1.386294
    """
    act = activations.get(activation)
    alphas, lengths, D_w, D_b = broadcast(
        alpha=_alphas(alpha),
        log_q=_log_lengths(log_q),
        D_w=number("D_w", D_w, 0.0),
        D_b=number("D_b", D_b, 0.0),
    )
    mean = np.empty(alphas.shape)
    for value in np.unique(alphas):
        rows = alphas == value
        mean[rows] = _log_mean(act, float(value), lengths[rows])
    with np.errstate(divide="ignore"):
        return np.asarray(np.logaddexp(np.log(D_w) + mean, np.log(D_b)))


def _log_mean(act: Activation, alpha: float, log_q: Array) -> Array:
    if alpha < 2:
        return _length(act, alpha).log_mean(log_q)
    with np.errstate(divide="ignore"):
        return np.log(mean_field.length_map(act, np.exp(log_q), 1.0, 0.0))


def fixed_point(
    activation: str | Activation, alpha: ArrayLike, D_w: ArrayLike, D_b: ArrayLike = 0.0
) -> FixedPoint:
    """Return q* of q = D_w E|φ(h)|^α + D_b, h ~ S_α((q/2)^{1/α}) (eq. 5), as log q* and q*.

    alpha in (0.5, 2], D_w, D_b ≥ 0, broadcast together. It is the fixed point next to q = 1 in the
    direction of the first step from there, as in ``mean_field.fixed_point``, which serves α = 2.

    For α < 2 and φ(0) = 0, the core of the law (|φ| ~ |φ′(0)h|) meets its tail (index α) in a
    logarithm, E|φ|^α = q(A − a log q) with a = |φ′(0)|^α c_α/α: 0 is never stable, and for weak
    weights log q* = (A − 1/D_w)/a, tiny but not 0. There is no ordered phase in the strict sense.

    Relative error of q* at most 1e-8 (of log q*, where that lies below −36, 1e-12). Raises
    ValueError for values out of range, and where E|φ(h)|^α does not exist: for α < 2, where φ
    grows like |x| or nearly so. That is judged by its growth over the last two decades of the
    floats up to 1e25 at which it is finite.

    >>> fixed_point("tanh", 2.0, 0.9).log_q
    array(-inf)
    """
    act = activations.get(activation)
    alphas, D_w, D_b = broadcast(
        alpha=_alphas(alpha), D_w=number("D_w", D_w, 0.0), D_b=number("D_b", D_b, 0.0)
    )
    log_q = np.empty(alphas.shape)
    reason = np.full(alphas.shape, "", dtype="U80")
    for value in np.unique(alphas):
        rows = alphas == value
        if value < 2:
            log_q[rows] = _length(act, float(value)).fixed_points(D_w[rows], D_b[rows])
            reason[rows] = np.where(np.isnan(log_q[rows]), _NO_LENGTH, "")
            continue
        gaussian = mean_field.fixed_point(act, D_w[rows], D_b[rows])
        with np.errstate(divide="ignore"):
            log_q[rows] = np.log(gaussian.q)
        reason[rows] = np.where(np.isnan(gaussian.q), gaussian.reason, "")
    return FixedPoint(log_q, np.exp(log_q), reason)


# --- eigenvalues ----------------------------------------------------------------------------------


def modulus_cdf(
    activation: str | Activation,
    alpha: ArrayLike,
    D_w: ArrayLike,
    r: ArrayLike,
    *,
    D_b: ArrayLike = 0.0,
    log_q: ArrayLike | None = None,
) -> Array:
    """Return F(|λ| < r) of the eigenvalues of W·D (and of D·W) at the fixed point.

    With u = r/y of eqs. 7 and 8: F = ⟨G(χ²/u²)⟩ and r^α = u^α⟨M(χ²/u²)⟩, χ = D_w^{1/α} φ′(h), G
    and M of ``_cavity``. At α = 2 this is F = r²/D_w for a linear φ: the circular law. An atom at
    0 is P(φ′(h) = 0).

    alpha in (0.5, 2], D_w > 0, r ≥ 0, broadcast together; ``log_q`` takes the place of the fixed
    point. Relative error at most 1e-6 (in practice 1e-9). Raises ValueError for values out of
    range and where there is no fixed point.

    >>> float(np.round(modulus_cdf("linear", 2.0, 4.0, 1.0, log_q=0.0), 12))
    0.25
    """
    return _at_moduli(activation, alpha, D_w, r, D_b, log_q)[0]


def eigenvalue_density(
    activation: str | Activation,
    alpha: ArrayLike,
    D_w: ArrayLike,
    r: ArrayLike,
    *,
    D_b: ArrayLike = 0.0,
    log_q: ArrayLike | None = None,
) -> Array:
    """Return ρ(|z| = r) of W·D per unit area of the complex plane (eq. 7): F′(r)/(2πr).

    Arguments as in ``modulus_cdf``, with r > 0. Both derivatives are averages of their own, not
    differences. An atom at 0 is left out.

    >>> float(np.round(np.pi * eigenvalue_density("linear", 2.0, 4.0, 1.0, log_q=0.0), 12))
    0.25
    """
    number("r", r, np.finfo(np.float64).tiny)
    return _at_moduli(activation, alpha, D_w, r, D_b, log_q)[1]


def _points(
    act: Activation,
    alpha: ArrayLike,
    D_w: ArrayLike,
    D_b: ArrayLike,
    log_q: ArrayLike | None,
    **more: Array,
) -> tuple[Array, ...]:
    """Return alpha, log gain, log q and what else came, checked and broadcast together."""
    weights = number("D_w", D_w, np.finfo(np.float64).tiny)
    if log_q is None:
        point = fixed_point(act, alpha, weights, D_b)
        lengths = point.log_q
        if np.isnan(lengths).any():
            reason = point.reason[np.isnan(lengths)].flat[0]
            raise ValueError(f"These networks have {reason}: give log_q, or other D_w and D_b.")
    else:
        lengths = _log_lengths(log_q)
    alphas, weights, lengths, *rest = broadcast(
        alpha=_alphas(alpha), D_w=weights, log_q=lengths, **more
    )
    return alphas, np.log(weights) / alphas, lengths, *rest


def _at_moduli(
    activation: str | Activation,
    alpha: ArrayLike,
    D_w: ArrayLike,
    r: ArrayLike,
    D_b: ArrayLike,
    log_q: ArrayLike | None,
) -> tuple[Array, Array]:
    act = activations.get(activation)
    alphas, log_gain, lengths, moduli = _points(act, alpha, D_w, D_b, log_q, r=number("r", r, 0.0))
    share, density = np.empty(alphas.shape), np.empty(alphas.shape)
    triples = np.stack([alphas.ravel(), log_gain.ravel(), lengths.ravel()], axis=1)
    distinct, member = np.unique(triples, axis=0, return_inverse=True)
    flat = moduli.ravel()
    for k, (value, gain, length) in enumerate(distinct):
        rows = member.ravel() == k
        law = _cavity.slopes(act, float(value)).law(np.array([length]))
        with np.errstate(divide="ignore"):
            log_r = np.log(flat[rows]) - gain
        below, per_log = law.at_moduli(log_r)
        share.flat[rows] = below
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            density.flat[rows] = per_log * np.exp(-2 * (log_r + gain)) / (2 * np.pi)
    return share, density
