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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import interpolate, special

from mflib.theory import _cavity, _extinction, activations, mean_field, stable
from mflib.theory._arrays import Array, broadcast, chunks, number
from mflib.theory._cavity import Law, Side
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

    return _cavity.sides(act, value, anchors, top, count=12)


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


def gain_of(
    activation: str | Activation, alpha: ArrayLike, log_q: ArrayLike, D_b: ArrayLike = 0.0
) -> Array:
    """Return the gain D_w^{1/α} whose fixed point is q: D_w = (q − D_b)/E|φ(h)|^α (eq. 5).

    alpha in (0.5, 2], log_q ≤ 20 and finite, D_b in [0, q], broadcast together. The paper's ordered
    line is that of q* = 0.01. Raises ValueError for values out of range and where E|φ(h)|^α is 0 or
    does not exist.

    >>> float(np.round(gain_of("tanh", 1.5, np.log(0.01)), 4))
    0.7606
    """
    act = activations.get(activation)
    alphas, lengths, biases = broadcast(
        alpha=_alphas(alpha), log_q=_log_lengths(log_q), D_b=number("D_b", D_b, 0.0)
    )
    with np.errstate(under="ignore"):
        excess = np.exp(lengths) - biases
    if np.isneginf(lengths).any() or (excess < 0).any():
        raise ValueError("log_q must be finite and q = e^(log_q) at least D_b: raise log_q.")
    mean = np.empty(alphas.shape)
    for value in np.unique(alphas):
        rows = alphas == value
        mean[rows] = _log_mean(act, float(value), lengths[rows])
    if np.isneginf(mean).any():
        raise ValueError(f"E|phi(h)|^alpha of {act.name!r} is 0 there: give another log_q.")
    with np.errstate(divide="ignore"):
        # without bias the logarithm is kept, where q itself underflows
        log_excess = np.where(biases == 0, lengths, np.log(excess))
    return np.asarray(np.exp((log_excess - mean) / alphas))


def finite_width_gain(
    alpha: ArrayLike, width: ArrayLike, *, activation: str | Activation = "tanh"
) -> Array:
    """Return the gain below which signals die out in networks of N = ``width`` neurons, no bias.

    While pre-activations are small, each layer multiplies their length by D_w T, T = (|φ′(0)|^α/2N)
    Σ_j |Z_j|^α, Z_j ~ S_α(1), independently, so lengths fall to 0 in almost every network where
    log D_w + E log T < 0, and leave 0 where it is above: the gain is exp(−E log T/α). At α = 2 that
    is exp((log(N/2) − ψ(N/2))/2), near 1 + 1/2N; for α < 2 it falls to 0 as (log N)^{−1/α}, though
    at infinite width q* > 0 at every gain.

    alpha in (0.5, 2], width a whole number of at least 1, broadcast together. Relative error at
    most 1e-10. Raises ValueError for values out of range, φ(0) ≠ 0 and φ′(0) = 0, and where φ has a
    kink at 0.

    >>> finite_width_gain([2.0, 1.0], 784).round(6)
    array([1.000638, 0.335823])
    """
    act = activations.get(activation)
    slope = float(np.abs(act.d1(0.0)))
    if float(act(0.0)) != 0 or slope == 0 or 0.0 in act.kinks:
        raise ValueError(
            f"Signals of {act.name!r} do not shrink in proportion near 0: take an activation with "
            "phi(0) = 0 and a slope there, such as tanh."
        )
    alphas, widths = broadcast(alpha=_alphas(alpha), width=number("width", width, 1.0))
    if (widths != np.floor(widths)).any():
        raise ValueError(
            f"width = {widths[widths != np.floor(widths)][0]:g} must be a whole number."
        )
    growth = [
        _extinction.mean_log_growth(float(a), int(n))
        for a, n in zip(alphas.flat, widths.flat, strict=True)
    ]
    return np.asarray(np.exp(-np.reshape(growth, alphas.shape) / alphas) / slope)


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
    point. Relative error at most 1e-6 (in practice 1e-9), but for an absolute 1e-12 where φ′ passes
    through 0 away from h = 0 (GELU). Raises ValueError for values out of range and where there is
    no fixed point.

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


# --- averages over eigenvalues --------------------------------------------------------------------

Measure = Callable[[Array, Array], Array]


def _log_power(log_r: Array, L: Array) -> Array:
    return np.asarray(np.sign(log_r) * np.abs(log_r) ** L)


def _shifted_power(log_r: Array, L: Array) -> Array:
    return np.asarray((np.exp(log_r) - 2) ** L)


def _balance(log_r: Array, L: Array) -> Array:
    return np.tanh(L * log_r / 2)


MEASURES: dict[str, Measure] = {
    "log-power": _log_power,
    "shifted-power": _shifted_power,
    "balance": _balance,
}


def jacobian_average(
    activation: str | Activation,
    alpha: ArrayLike,
    D_w: ArrayLike,
    f: str | Callable[[Array], Array],
    *,
    L: ArrayLike = 1,
    cutoff: tuple[float, float] = (0.0, np.inf),
    rarest: float = 0.0,
    D_b: ArrayLike = 0.0,
    log_q: ArrayLike | None = None,
) -> Array:
    """Return J_f = ⟨f(|λ|)⟩ over the eigenvalues of W·D at the fixed point (eq. 10).

    ``f`` is a function of r ≥ 0 (vectorised, finite at 0, smooth but for r = 1), or

    - "log-power": f₁ = sgn(log r)|log r|^L. The share of tiny moduli falls so slowly, like
      (log 1/r)^{−α} for tanh, that J = −∞ where L ≥ α: with a cutoff it says more of the cutoff.
    - "shifted-power": f₂ = (r − 2)^L, increasing for odd L only. J is finite, and at large L
      ruled by moduli that no sample holds.
    - "balance": (r^L − 1)/(r^L + 1), bounded, increasing, odd in log r. See below.

    ``cutoff`` leaves moduli out of the integral below its first and above its second entry;
    ``rarest`` = 1/n leaves out both tails of that probability: what n eigenvalues do not show.

    Which one when: f₁ and f₂ to compare with the paper, "balance" to conclude. λ^L is what L
    layers do to a direction of eigenvalue λ (§D). f₁ and f₂ reward and punish that without bound,
    so their averages are settled by eigenvalues that are nearly 0 or that do not occur. r^L/(1 +
    r^L) is instead the part of a unit-to-unit mixture of signal r^L and noise 1 that is signal,
    and the balance is twice that less 1: lost directions count −1, however lost, and kept ones
    at most +1. It needs no cutoff, changes by at most p when a share p of the eigenvalues does,
    and r → 1/r turns its sign, so that 0 is the mark between contraction and expansion. It keeps
    the classical edge: at α = 2, where the spectral radius leaves 1 only in the second order of
    D_w − 1, it is largest at D_w = 1 for tanh and every L up to 6. Beyond, it turns into what it
    tends to, the share of moduli above 1 less the share below, which chaos alone makes large.

    alpha in (0.5, 2], D_w > 0, L > 0, log_q broadcast together. Relative error at most 1e-6, of
    the larger of J's positive and negative part. Raises ValueError for values out of range.

    >>> float(np.round(jacobian_average("linear", 2.0, 1.0, "log-power", log_q=0.0), 9))
    -0.5
    """
    act = activations.get(activation)
    cut = _Cut(_cutoff(cutoff), float(number("rarest", rarest, 0.0, 0.5)))
    powers = number("L", L, np.finfo(np.float64).tiny)
    measure = _measure(f)
    alphas, log_gain, lengths, powers = _points(act, alpha, D_w, D_b, log_q, L=powers)
    out = np.empty(alphas.shape)
    for value in np.unique(alphas):
        rows = np.flatnonzero(alphas.ravel() == value)
        for row in (rows[part] for part in chunks(rows.size, 4000)):
            out.flat[row] = _averages(
                _cavity.slopes(act, float(value)).law(lengths.ravel()[row]),
                log_gain.ravel()[row],
                [(measure, powers.ravel()[row])],
                cut,
            )[0]
    return out


def _cutoff(cutoff: tuple[float, float]) -> tuple[float, float]:
    try:
        low, high = (float(at) for at in cutoff)
        good = 0 <= low < high
    except (TypeError, ValueError):
        good = False
    if not good:
        raise ValueError(
            f"cutoff = {cutoff!r} must be a pair of moduli, 0 <= inner < outer: (0, inf) cuts "
            "nothing off."
        )
    return low, high


def _measure(f: str | Callable[[Array], Array]) -> Measure:
    if callable(f):
        function = f

        def of_modulus(log_r: Array, _: Array) -> Array:
            with np.errstate(over="ignore"):
                return np.asarray(function(np.exp(log_r)), dtype=np.float64)

        at_zero = of_modulus(np.array([-np.inf]), np.ones(1))
        if at_zero.shape != (1,) or not np.isfinite(at_zero).all():
            raise ValueError(
                "f must map arrays of moduli to arrays of the same shape and be finite at 0: cap "
                "it there, or take 'log-power'."
            )
        return of_modulus
    if f not in MEASURES:
        raise ValueError(
            f"Unknown average {f!r}: give a function of r, or one of {list(MEASURES)}."
        )
    return MEASURES[f]


@dataclass(frozen=True)
class _Cut:
    """Hold what an average leaves out."""

    cutoff: tuple[float, float] = (0.0, np.inf)
    rarest: float = 0.0

    def limits(self, law: Law, log_gain: Array) -> tuple[Array, Array]:
        """Return the lowest and highest log r of gain 1, (n,)."""
        with np.errstate(divide="ignore"):
            low, high = (np.log(at) - log_gain for at in self.cutoff)
        if self.rarest:
            low = np.maximum(low, law.quantile(self.rarest, -1))
            high = np.minimum(high, law.quantile(self.rarest, 1))
        return low, high


def _averages(law: Law, log_gain: Array, measures: list[tuple[Measure, Array]], cut: _Cut) -> Array:
    """Return the average of each measure, with L (n,), for each law, (measures, n)."""
    low, high = cut.limits(law, log_gain)
    log_r, mass = law.rule(-log_gain, low, high)
    log_r += log_gain[:, None]
    out = np.empty((len(measures), log_gain.size))
    with np.errstate(over="ignore", invalid="ignore"):
        for k, (measure, powers) in enumerate(measures):
            values = measure(log_r, powers[:, None])
            # f may overflow where nothing is left
            out[k] = np.sum(np.where(mass > 0, mass * values, 0.0), axis=1)
    for row in np.flatnonzero(low < law.log_r[:, 0]):
        one = law.take(np.array([row]))
        by_share = bool(cut.rarest) and low[row] == one.quantile(cut.rarest, -1)[0]
        known = cut.rarest if by_share and np.isfinite(low[row]) else None
        deep = _Deep(one, float(log_gain[row]), float(low[row]), known)
        for k, (measure, powers) in enumerate(measures):
            out[k, row] += deep.average(measure, float(powers[row]))
    return out


class _Deep:
    """Know what moduli below the grid, 1e-13 of the largest slope, add to averages; one law."""

    def __init__(self, law: Law, log_gain: float, low: float, below: float | None) -> None:
        self.law, self.log_gain, self.low, self.below = law, log_gain, low, below

    @cached_property
    def share(self) -> float:
        below = self.below
        if below is None:
            below = self.law.share_at(self.low) if np.isfinite(self.low) else 0.0
        return float(np.exp(self.law.log_share[0, 0]) - below)

    @cached_property
    def rule(self) -> tuple[Array, Array, float, float]:
        return self.law.before(self.low)

    def average(self, measure: Measure, power: float) -> float:
        if measure is not _log_power:
            # to rounding these moduli are 0
            return self.share * float(measure(np.array([-np.inf]), np.array([power]))[0])
        if self.low == -np.inf and self.law.atom[0] > 1e-300:
            return -np.inf
        log_r, mass, share, fall = self.rule
        total = float(mass @ measure(log_r + self.log_gain, np.array(power)))
        # a slope that falls like a power of h leaves nothing further down
        if np.isfinite(self.low) or share < 1e-60:
            return total
        # F ~ |log r|^{-fall} from here to 0
        if fall <= power + 1e-6:
            return -np.inf
        last = self.law.deepest**power
        return float(total - last * share * fall / (fall - power))


# --- the phase diagram ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Averages:
    """Hold one family of Jacobian averages over the phase plane.

    ``L`` (k,); ``average`` (k, alphas, gains); ``level`` (k, alphas), what it is compared with;
    ``interval`` (k, alphas, 2): from the ordered line to the gain at which it falls back to the
    level, found to 1e-6 between the grid's points; NaN where it does not rise from the line, ∞
    where it stays above to the end of the grid.
    """

    L: Array
    average: Array
    level: Array
    interval: Array


@dataclass(frozen=True)
class PhaseDiagram:
    """Hold the phase diagram over ``alpha`` (n,) and ``gain`` = D_w^{1/α} (m,).

    ``log_q`` (n, m). ``ordered`` (n,) is the gain at which q* = 0.01 (the paper's text),
    ``ordered_y`` (n,) that at which y(|z| = 1) = 0.01 y(0) (its public code); NaN outside
    [gain[0], gain[-1]]. y(0) is finite, (2/Γ(1 + α))^{1/α} where φ′ vanishes nowhere, and for
    α < 2 y falls to 0 only as |z| → ∞, so both lines exist at every α.
    ``log_power`` (f₁), ``shifted_power`` (f₂) and ``balance`` are compared with their own values on
    the line ``ordered``; see also ``edge_balance``.
    """

    alpha: Array
    gain: Array
    log_q: Array
    ordered: Array
    ordered_y: Array
    log_power: Averages
    shifted_power: Averages
    balance: Averages

    @property
    def reach(self) -> NDArray[np.int64]:
        """Return the largest L up to which every f₁ average is above its level, (n, m); 0 if none.

        The paper's colours. Its "ratio above 1" means this: both averages are negative.
        """
        above = self.log_power.average > self.log_power.level[:, :, None]
        return np.asarray(np.cumprod(above, axis=0).sum(axis=0))


ORDERED_Q = 0.01
ORDERED_Y = 0.01
_BESIDE = 1e-5


def phase_diagram(
    activation: str | Activation = "tanh",
    alpha: ArrayLike | None = None,
    gain: ArrayLike | None = None,
    D_b: float = 0.0,
    *,
    cutoff: tuple[float, float] = (0.0, np.inf),
    rarest: float = 0.01,
    log_power: Sequence[float] = (1, 2, 3, 4, 5, 6),
    shifted_power: Sequence[float] = tuple(range(1, 102, 10)),
    balance: Sequence[float] = (1, 2, 4, 6),
) -> PhaseDiagram:
    """Return fixed points, ordered lines and Jacobian averages over the phase plane (fig. 2b).

    alpha (n,) in (0.5, 2], default 1, 1.05 … 2; gain (m,) > 0 ascending, default 0.05, 0.1 … 3;
    ``cutoff`` and ``rarest`` as in ``jacobian_average``; the last three name the L of each family.

    The default ``rarest`` is what makes the picture like the printed one, with colours up to 6 and
    eleven nested lines: the middle 98 % of the eigenvalues. Without it (0), f₁ at L ≥ α is −∞
    everywhere for tanh and α < 2, and f₂'s lines at large L are those of moduli never seen. The
    balance does not take part in the cut.

    Raises ValueError for values out of range.

    >>> diagram = phase_diagram(alpha=[1.5], gain=[0.5, 1.0, 1.5])
    >>> diagram.reach.tolist()
    [[0, 5, 1]]
    """
    act = activations.get(activation)
    alphas = np.ravel(_alphas(np.linspace(1, 2, 21) if alpha is None else alpha))
    gains = np.ravel(
        number("gain", np.arange(1, 61) / 20 if gain is None else gain, np.finfo(np.float64).tiny)
    )
    if gains.size < 2 or np.any(np.diff(gains) <= 0):
        raise ValueError("gain must hold at least two values in ascending order.")
    bias = float(number("D_b", D_b, 0.0, ORDERED_Q))
    cut = _Cut(_cutoff(cutoff), float(number("rarest", rarest, 0.0, 0.5)))
    families = (
        (_log_power, _depths("log_power", log_power), cut),
        (_shifted_power, _depths("shifted_power", shifted_power), cut),
        (_balance, _depths("balance", balance), _Cut()),
    )
    columns = [_Column(act, float(value), gains, bias, families) for value in alphas]
    averages = (
        Averages(L, *(np.stack(part, axis=1) for part in zip(*parts, strict=True)))
        for (_, L, _), parts in zip(
            families, zip(*(column.families() for column in columns), strict=True), strict=True
        )
    )
    return PhaseDiagram(
        alphas,
        gains,
        np.array([column.log_q for column in columns]),
        np.array([column.ordered for column in columns]),
        np.array([column.ordered_y() for column in columns]),
        *averages,
    )


def _depths(name: str, depths: Sequence[float]) -> Array:
    return np.ravel(number(name, depths, np.finfo(np.float64).tiny))


Family = tuple[Measure, Array, _Cut]


class _Column:
    """Compute the phase diagram at one α: each law once for every average over it."""

    def __init__(
        self,
        act: Activation,
        alpha: float,
        gains: Array,
        D_b: float,
        measures: tuple[Family, ...],
    ) -> None:
        self.act, self.alpha, self.gains, self.D_b, self.measures = act, alpha, gains, D_b, measures
        self.slopes = _cavity.slopes(act, alpha)
        gain = float(gain_of(act, alpha, np.log(ORDERED_Q), D_b))
        self.ordered = gain if gains[0] <= gain <= gains[-1] else np.nan
        self.start = gains[-1] if np.isnan(self.ordered) else self.ordered
        self.path = np.append(gains, self.start * np.array([1, 1 + _BESIDE]))
        lengths = self.lengths(self.path)
        self.log_q = lengths[: gains.size]
        self.parts = [
            (part, self.slopes.law(lengths[part])) for part in chunks(self.path.size, 4000)
        ]

    def lengths(self, gain: Array) -> Array:
        point = fixed_point(self.act, self.alpha, gain**self.alpha, self.D_b)
        if np.isnan(point.log_q).any():
            raise ValueError(f"Some of these networks have {point.reason[point.reason != ''][0]}.")
        return np.asarray(point.log_q)

    def order_parameter(self, law: Law, gain: Array) -> Array:
        """Return y(|z| = 1)/y(0), (n,); y(0)^α = P(φ′ ≠ 0) E[S^{−α/2}]."""
        log_gain = np.log(gain)
        at_zero = (self.slopes.kernels.limit * (1 - law.atom)) ** (1 / self.alpha)
        return np.asarray(np.exp(-log_gain - law.log_u_anywhere(-log_gain)) / at_zero)

    def ordered_y(self) -> float:
        """Return the gain at which y(|z| = 1) first rises through 0.01 y(0)."""
        y = [self.order_parameter(law, self.path[part]) for part, law in self.parts]
        above = np.concatenate(y)[: self.gains.size] > ORDERED_Y
        rises = np.flatnonzero(~above[:-1] & above[1:])[:1]

        def gap(gain: Array) -> Array:
            y = self.order_parameter(self.slopes.law(self.lengths(gain)), gain)
            return np.asarray(y - ORDERED_Y)

        return (
            float(_falsi(gap, self.gains[rises], self.gains[rises + 1])[0])
            if rises.size
            else np.nan
        )

    def families(self) -> list[tuple[Array, Array, Array]]:
        """Return averages (k, m), levels (k,) and intervals (k, 2) of each family."""
        values = [
            np.concatenate(
                [
                    _averages(
                        law,
                        np.log(self.path[part]),
                        [(f, np.full(self.path[part].size, power)) for power in L],
                        cut,
                    )
                    for part, law in self.parts
                ],
                axis=1,
            )
            for f, L, cut in self.measures
        ]
        levels = [own[:, -2] + (0 if np.isfinite(self.ordered) else np.nan) for own in values]
        intervals = self.intervals(values, levels)
        return [
            (own[:, :-2], level, interval)
            for own, level, interval in zip(values, levels, intervals, strict=True)
        ]

    def intervals(self, values: list[Array], levels: list[Array]) -> list[Array]:
        """Return from where to where each average stays above its level, (k, 2) per family."""
        after = np.append(
            self.path.size - 1, np.flatnonzero(self.gains > self.start * (1 + _BESIDE))
        )
        places = self.path[after]
        level = np.concatenate(levels)
        with np.errstate(invalid="ignore"):
            above = np.concatenate(values)[:, after] - level[:, None] > 1e-9 * np.abs(
                level[:, None]
            )
        falls = np.where(above.all(axis=1), -1, np.argmin(above, axis=1))
        out = np.full((level.size, 2), np.nan)
        out[above[:, 0], 0] = self.start
        out[above[:, 0] & (falls < 0), 1] = np.inf
        rows = np.flatnonzero(above[:, 0] & (falls > 0))
        family = np.repeat(np.arange(len(levels)), [own.size for own in levels])[rows]
        powers = np.concatenate([L for _, L, _ in self.measures])[rows]

        def gap(gain: Array) -> Array:
            law, found = self.slopes.law(self.lengths(gain)), np.empty(gain.size)
            for k, (f, _, cut) in enumerate(self.measures):
                own = np.flatnonzero(family == k)
                if own.size:
                    one = [(f, powers[own])]
                    found[own] = _averages(law.take(own), np.log(gain[own]), one, cut)[0]
            # averages of high powers vary by decades between two points
            return np.asarray(np.arcsinh((found - level[rows]) / np.abs(level[rows])))

        if rows.size:
            out[rows, 1] = _falsi(gap, places[falls[rows] - 1], places[falls[rows]])
        return np.split(out, np.cumsum([own.size for own in levels])[:-1])


def _falsi(gap: Callable[[Array], Array], low: Array, high: Array) -> Array:
    """Return roots of smooth functions in [low, high], all at once: eight Illinois steps.

    From brackets of 0.05 that leaves some 1e-8; laws are dear, so the steps are counted.
    """
    below, above = gap(low), gap(high)
    for _ in range(8):
        with np.errstate(invalid="ignore", divide="ignore"):
            new = high - above * (high - low) / (above - below)
        new = np.where(np.isfinite(new), new, high)
        value = gap(new)
        crossed = value * above < 0
        low, below = np.where(crossed, high, low), np.where(crossed, above, below / 2)
        high, above = new, value
    return high


def edge_balance(L: ArrayLike) -> Array:
    """Return the balance of the circular law of radius 1: ∫₀¹ 2r (r^L − 1)/(r^L + 1) dr.

    What the classical edge of chaos (α = 2, D_w = 1, odd φ of slope 1, no biases) has; L > 0.

    >>> round(float(edge_balance(2.0)), 6)
    -0.386294
    """
    power = number("L", L, np.finfo(np.float64).tiny)
    psi = special.digamma
    return np.asarray(1 - 2 / power * (psi(1 / power + 0.5) - psi(1 / power)))
