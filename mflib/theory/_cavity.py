"""Averages of the heavy-tailed cavity equations as functions of one variable.

With u = r/y and X = χ²SS′, equations 7 and 8 of Qu, Wardak and Gong (2022) say

    F(|λ| < r) = ⟨G(χ²/u²)⟩,              G(t) = E[1/(1 + tSS′)],
    (r/u)^α    = y^α = ⟨M(χ²/u²)⟩,        M(t) = E[(tS/(1 + tSS′))^{α/2}],

where S and S′ are independent one-sided stable variables with E e^{−sS} = exp(−k s^{α/2}) and
E S^s = k^{2s/α} Γ(1 − 2s/α)/Γ(1 − s). G is the distribution function of one variable, so
F is the law of log u = log χ + ξ with χ and ξ independent: no equation is left to solve.

G and M are Mellin–Barnes integrals whose integrands fall like exp(−2π|Im s|/α), so that the
trapezoidal rule on a vertical line converges geometrically. Where t is small or large the line
lies beyond the first pole, whose residue is added: no digits cancel on either side.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import interpolate, special

from mflib.theory import activations, stable
from mflib.theory._arrays import Array
from mflib.theory._quadrature import legendre
from mflib.theory.activations import Activation

Complex = NDArray[np.complex128]

STEP = 0.05  # of the tables in log t: splines of degree 7 then err by 1e-13
LOW = 56.0  # log t = −LOW/α: what the first pole leaves out is exp(−LOW/2) of it
HIGH = 60.0
_LINES = 200.0  # period in log t of the trapezoidal rule's aliases, over 1/α
_DECAY = 46.0  # exp(−46) of the integrand is left beyond the last node


def laplace_constant(alpha: float) -> float:
    """Return k of E exp(−sS) = exp(−k s^{α/2}): scale (c_α/4c_{α/2})^{2/α} of the paper."""
    return float(special.gamma(1 + alpha) / (2 * special.gamma(1 + alpha / 2)))


def origin(alpha: float) -> float:
    """Return y^α at |z| = 0, E[S^{−α/2}] = 2/Γ(1 + α), where no slope vanishes."""
    return float(2 / special.gamma(1 + alpha))


def _line(alpha: float, real: float) -> tuple[Complex, float]:
    step = 2 * np.pi * alpha / _LINES
    count = int(np.ceil(_DECAY * alpha / (2 * np.pi * step)))
    return np.asarray(real + 1j * step * np.arange(count + 1), dtype=np.complex128), step


def _integral(
    log_integrand: Callable[[Complex], Complex],
    factors: tuple[Callable[[Complex], Complex], ...],
    alpha: float,
    real: float,
    x: Array,
) -> list[Array]:
    """Return (1/2πi)∫ e^{−sx} f(s) Φ(s) ds on Re s = ``real`` for each f of ``factors``."""
    s, step = _line(alpha, real)
    base = np.exp(log_integrand(s)) * (step / np.pi)
    base[0] /= 2
    wave = np.exp(-np.outer(x, 1j * s.imag))
    decay = np.exp(-real * x)
    return [decay * np.real(wave @ (base * f(s))) for f in factors]


class Kernels:
    """Hold G, 1 − G, −dG/d log t, M and N of one α in (0, 2); N = αM/2 − dM/d log t drives r(u).

    Call with x = log t of any shape, −∞ included; relative error about 1e-12.
    """

    def __init__(self, alpha: float) -> None:
        self.alpha = alpha
        self.log_k = float(np.log(laplace_constant(alpha)))
        self.limit = origin(alpha)
        self.low, self.high = -LOW / alpha, HIGH
        self._left_terms()
        # M at small t is t^{α/2}(intercept − slope·log t)
        count = int(np.ceil((self.high - self.low) / STEP)) + 1
        x = np.linspace(self.low, self.high, count)
        table = np.empty((5, count))
        left, right = x < -8 / alpha, x > 8
        for rows, values in (
            (left, self._left),
            (~left & ~right, self._middle),
            (right, self._right),
        ):
            table[:, rows] = values(x[rows])
        self._spline = interpolate.make_interp_spline(x, np.log(table).T, k=7)

    # --- integrands

    def _log_share(self, s: Complex) -> Complex:
        """Return the log of G's Mellin transform without Γ(s)Γ(1 − s)."""
        a = self.alpha
        ratio = special.loggamma(1 + 2 * s / a) - special.loggamma(1 + s)
        return np.asarray(2 * ratio - 4 * s / a * self.log_k)

    def _share(self, x: Array, real: float) -> list[Array]:
        """Return the integrals for G and −G′ on a line."""

        def log_integrand(s: Complex) -> Complex:
            return self._log_share(s) + np.log(np.pi / np.sin(np.pi * s))

        return _integral(
            log_integrand, (lambda s: np.ones_like(s), lambda s: s), self.alpha, real, x
        )

    def _level(self, x: Array, real: float) -> list[Array]:
        """Return the integrals for M and N on a line."""
        a = self.alpha

        def log_integrand(s: Complex) -> Complex:
            return np.asarray(
                special.loggamma(a / 2 - s)
                - special.loggamma(a / 2)
                + (1 - 4 * s / a) * self.log_k
                + 2 * special.loggamma(1 + 2 * s / a)
                - special.loggamma(1 - a / 2 + s)
                - np.log(2 * s * s / a)
            )

        parts = _integral(log_integrand, (lambda s: np.ones_like(s), lambda s: s), a, real, x)
        grow = np.exp(a / 2 * x)
        return [grow * part for part in parts]

    # --- residues

    def _left_terms(self) -> None:
        """Set 1 − G ≈ t^{α/2}(p − m log t) and M ≈ t^{α/2}(b − a log t) of the double poles."""
        a, s = self.alpha, -self.alpha / 2
        psi, one = special.digamma, special.digamma(1.0)
        size = np.pi / np.sin(np.pi * s) * np.exp(2 * self.log_k) * a * a / 4
        size *= special.rgamma(1 + s) ** 2
        slope = psi(s) - psi(1 - s) - 4 / a * self.log_k - 2 * psi(1 + s) + 4 / a * one
        self.share_low = (-size * slope, -size)
        level = a / 2 * np.exp(self.log_k) * special.rgamma(1 - a / 2)
        bend = -psi(a / 2) - 4 / a * self.log_k + 4 / a * one - psi(1 - a / 2)
        self.level_low = (level * bend, level)
        self.share_high = np.exp(-4 / a * self.log_k + 2 * special.loggamma(1 + 2 / a).real)

    def _low_forms(self, x: Array) -> tuple[Array, Array, Array, Array]:
        """Return the residues' part of 1 − G, −G′, M, N at small t."""
        half, t = self.alpha / 2, np.exp(self.alpha / 2 * x)
        p, m = self.share_low
        b, a = self.level_low
        return (
            t * (p - m * x),
            t * (half * (p - m * x) - m),
            t * (b - a * x),
            t * a,
        )

    def _left(self, x: Array) -> Array:
        rest, density, level, turn = self._low_forms(x)
        share = self._share(x, -0.75 * self.alpha)
        more = self._level(x, -0.25 * self.alpha)
        rest, density = rest - share[0], density + share[1]
        return np.array([1 - rest, rest, density, level + more[0], turn + more[1]])

    def _middle(self, x: Array) -> Array:
        share = self._share(x, -0.25 * self.alpha)
        whole = self._share(x, 0.5)
        density = np.where(x < 0, share[1], whole[1])
        return np.array([whole[0], -share[0], density, *self._level(x, 0.25 * self.alpha)])

    def _right(self, x: Array) -> Array:
        share = self._share(x, 1.5)
        level = self._level(x, self.alpha / 2 + 0.5)
        inverse = self.share_high * np.exp(-x)
        whole = inverse + share[0]
        level[0] += self.limit
        level[1] += self.alpha / 2 * self.limit
        return np.array([whole, 1 - whole, inverse + share[1], *level])

    # --- values

    def __call__(self, x: Array) -> Array:
        """Return G, 1 − G, −dG/dx, M, N at x = log t, (5, *x.shape)."""
        flat = np.ravel(x)
        out = np.exp(self._spline(np.clip(flat, self.low, self.high)).T)
        low = np.flatnonzero(flat < self.low)
        if low.size:
            # exp(−1e4) is 0 already, and keeps 0·∞ out
            at = np.maximum(flat[low], -1e4)
            out[1:, low] = self._low_forms(at)
            out[0, low] = 1 - out[1, low]
        high = np.flatnonzero(flat > self.high)
        if high.size:
            fall = np.exp(self.high - flat[high])
            out[0, high] *= fall
            out[2, high] *= fall
            out[1, high] = 1.0
        return np.asarray(out.reshape(5, *np.shape(x)))


class GaussianKernels:
    """Hold the same functions at α = 2, where S = S′ = 1 and G = 1 − M = 1/(1 + t)."""

    alpha = 2.0
    limit = 1.0
    low, high = -LOW / 2, HIGH
    share_low = (0.0, 0.0)
    level_low = (1.0, 0.0)

    def __call__(self, x: Array) -> Array:
        """Return G, 1 − G, −dG/dx, M, N at x = log t, (5, *x.shape)."""
        share, rest = special.expit(-x), special.expit(x)
        return np.array([share, rest, share * rest, rest, rest * rest])


@lru_cache(maxsize=256)
def kernels(alpha: float) -> Kernels | GaussianKernels:
    """Return the kernels of one α in (0, 2]."""
    return GaussianKernels() if alpha == 2 else Kernels(alpha)


# --- the neurons ----------------------------------------------------------------------------------

NEAREST, FARTHEST = 1e-45, 1e25
FLOOR = -130.0  # slopes below exp(-130) count as 0 on the grid
LUMP = 1e-11  # change of log|φ′| that the core, taken as one point, may hide
_TURN = 1.5  # change of the logarithm over one panel; G's strip in it is π/2
_NODES, _WEIGHTS = legendre(10)


def _tanh_slope(h: Array) -> Array:
    size = np.abs(h)
    return np.asarray(np.log(4.0) - 2 * size - 2 * np.log1p(np.exp(-2 * size)))


def _sigmoid_slope(h: Array) -> Array:
    size = np.abs(h)
    return np.asarray(-size - 2 * np.log1p(np.exp(-size)))


_LOG_SLOPES: dict[str, Callable[[Array], Array]] = {
    "tanh": _tanh_slope,
    "sigmoid": _sigmoid_slope,
    "erf": lambda h: np.log(2 / np.sqrt(np.pi)) - h * h,
    "arctan": lambda h: -np.log1p(h * h),
    "softsign": lambda h: -2 * np.log1p(np.abs(h)),
}


def log_slope(act: Activation, h: Array) -> Array:
    """Return log|φ′(h)|; −∞ where φ′ is 0, or below 1e-308 in a function of the caller's."""
    known = act.name in _LOG_SLOPES and activations.get(act.name) is act
    return _LOG_SLOPES[act.name](h) if known else _log_size(act.d1, h)


def _log_size(f: Callable[[Any], Array], h: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.asarray(np.log(np.abs(f(h))))


def log_size(act: Activation, h: Array) -> Array:
    """Return log|φ(h)|."""
    return _log_size(act, h)


def reach(act: Activation) -> float:
    """Return how far φ is finite, at most ``FARTHEST``."""
    far = FARTHEST * 4.0 ** -np.arange(35.0)
    with np.errstate(all="ignore"):
        fine = np.isfinite(act(far)) & np.isfinite(act(-far))
    if not fine.any():
        raise ValueError(
            f"Activation {act.name!r} is not finite at |x| = {far[-1]:.1e}: write it so that it is."
        )
    return float(far[fine][0])


def zeros(f: Callable[[Any], Array]) -> Array:
    """Return the places within |x| < 1e4 where f changes sign, on a grid with steps of 2 %."""
    grid = np.geomspace(1e-3, 1e4, 800)
    x = np.concatenate([-grid[::-1], grid])
    sign = np.sign(f(x))
    at = np.flatnonzero(sign[:-1] * sign[1:] < 0)
    low, high, rising = x[at], x[at + 1], sign[at + 1]
    for _ in range(80):
        middle = (low + high) / 2
        beyond = np.sign(f(middle)) == rising
        low, high = np.where(beyond, low, middle), np.where(beyond, middle, high)
    return np.asarray((low + high) / 2)


@dataclass(frozen=True)
class Side:
    """Hold nodes h > 0 and weights for ∫ f(±h) dh from ``low`` to ``top``; values of log f there.

    What lies below ``low`` is at log f(0±) = ``start``. ``count`` = 2 stands for both sides.
    """

    sign: float
    h: Array
    weight: Array
    value: Array
    low: float
    top: float
    start: float
    count: float = 1.0


def _arm(
    value: Callable[[Array], Array], anchor: float, way: float, end: float, floor: float
) -> list[float]:
    """Return breaks of the distance from an anchor, over each of which log f turns little."""
    nearest = NEAREST if anchor == 0 else 1e-13 * abs(anchor)
    breaks, here = [nearest], float(value(np.array(anchor + way * nearest)))
    while breaks[-1] < end and here >= floor:
        step = breaks[-1]
        for _ in range(40):
            there = float(value(np.array(anchor + way * (breaks[-1] + step))))
            if not abs(there - here) > _TURN:  # two values of −∞ do not differ
                break
            step /= 1.5
        breaks.append(min(breaks[-1] + step, end))
        here = there
    return breaks


def side(
    value: Callable[[Array], Array],
    anchors: Array,
    sign: float,
    top: float,
    *,
    floor: float = -np.inf,
    lump: float = 0.0,
) -> Side:
    """Return the rule of one half line for functions of log f = ``value`` and of log h.

    ``anchors`` > 0 are kinks and zeros of f, about which the panels are graded. ``lump`` > 0 takes
    the part next to 0 where log f changes by less as one point; the last arm ends where log f
    falls below ``floor``.
    """

    def along(h: Array) -> Array:
        return value(sign * h)

    places = np.concatenate([[0.0], np.sort(anchors[anchors > 0])])
    middles = np.concatenate([(places[1:] + places[:-1]) / 2, [top]])
    nodes, weights, lefts = [], [], []
    reached = top
    for k, anchor in enumerate(places):
        ways = [(1.0, middles[k] - anchor)]
        if k:
            ways.insert(0, (-1.0, anchor - middles[k - 1]))
        for way, end in ways:
            last = end == ways[-1][1] and k == places.size - 1
            lowest = floor if last else -np.inf
            breaks = np.array(_arm(along, float(anchor), way, float(end), lowest))
            width = np.diff(np.log(breaks))[:, None]
            distance = breaks[:-1, None] * np.exp(width * _NODES)
            order = slice(None, None, int(way))
            nodes.append((anchor + way * distance)[order, :: int(way)])
            weights.append((width * _WEIGHTS * distance)[order, :: int(way)])
            lefts.append(
                (anchor + way * breaks[slice(None, -1) if way > 0 else slice(1, None)])[order]
            )
            reached = float(anchor + way * breaks[-1])
    h, weight, left = (np.concatenate(parts) for parts in (nodes, weights, lefts))
    values = along(h)
    start = float(along(np.array(NEAREST)))
    with np.errstate(invalid="ignore"):
        flat = (np.abs(values - start) <= lump) | (values == start)
    count = int(np.argmin(np.append(flat.all(axis=1), False))) if lump else 0
    low = float(np.append(left, reached)[count])
    h, weight, values = (a[count:].ravel() for a in (h, weight, values))
    return Side(sign, h, weight, values, low, reached, start)


def sides(
    act: Activation,
    value: Callable[[Array], Array],
    anchors: Array,
    top: float,
    *,
    floor: float = -np.inf,
    lump: float = 0.0,
) -> tuple[Side, ...]:
    """Return the rules of both half lines, or one that counts twice where φ is odd."""
    if act.odd:
        one = side(value, anchors, 1.0, top, floor=floor, lump=lump)
        return (replace(one, weight=2 * one.weight, count=2.0),)
    return tuple(side(value, s * anchors, s, top, floor=floor, lump=lump) for s in (1.0, -1.0))


# --- the law of the moduli ------------------------------------------------------------------------

GRID_STEP = 0.1
DEPTH = 30.0  # the grid in log u begins at e^-30 of the largest slope
_ORDER = 10  # points of the interpolation between grid values of log u
_CHOOSE = special.binom(_ORDER - 1, np.arange(_ORDER)) * (-1.0) ** np.arange(_ORDER)


class Slopes:
    """Know the law of the eigenvalues' moduli of W·D/D_w^{1/α} for one φ and α, at any q."""

    def __init__(self, act: Activation, alpha: float) -> None:
        self.act, self.alpha = act, alpha
        self.kernels = kernels(alpha)
        self.sides = _slope_sides(act)
        peak = max(max(side.start, side.value.max(initial=-np.inf)) for side in self.sides)
        if not np.isfinite(peak):
            raise ValueError(f"phi' of {act.name} is 0 everywhere: W·D has no spectrum.")
        bottom, top = peak - DEPTH, peak + LOW / (2 * alpha)
        self.v = np.arange(bottom, top + GRID_STEP, GRID_STEP)
        # slopes below this count as 0 on the whole grid
        lowest = max(FLOOR, bottom - 44 / alpha)
        kept, starts = [], []
        for side in self.sides:
            stays = np.flatnonzero(side.value >= lowest)
            kept.append(slice(stays[0], stays[-1] + 1) if stays.size else slice(0, 0))
            starts.append(side.start)
        self.kept = kept
        self.value = np.concatenate(
            [starts, *(side.value[keep] for side, keep in zip(self.sides, kept, strict=True))]
        )
        self.table = self.kernels(2 * (self.value - self.v[:, None]))

    def weights(self, log_q: Array) -> tuple[Array, Array]:
        """Return probabilities (n, M) of the nodes of ``value``, and those of slope 0 (n,)."""
        scale = np.exp(np.maximum((log_q - np.log(2)) / self.alpha, -500.0))[:, None]
        cores, parts, rest = [], [], np.zeros(log_q.size)
        for side, keep in zip(self.sides, self.kept, strict=True):
            cores.append(side.count * (0.5 - stable.sf(side.low / scale, self.alpha)))
            if keep.stop > keep.start:
                # nothing is left beyond 1e100, where squares would overflow
                density = stable.pdf(np.minimum(side.h[keep] / scale, 1e100), self.alpha)
                parts.append(side.weight[keep] / scale * density)
        weights = np.concatenate([*cores, *parts], axis=1)
        rest = np.maximum(1 - weights.sum(axis=1), 0.0)
        return weights, np.where(rest > 1e-13, rest, 0.0)

    def law(self, log_q: Array) -> Law:
        """Return the law at each of log_q (n,)."""
        return Law(self, *self.weights(log_q))


class Law:
    """Hold averages over neurons on a grid of v = log u, for gain 1; n laws at once.

    log r = v + log(y^α)/α; all fields (n, grid).
    """

    def __init__(self, slopes: Slopes, weights: Array, rest: Array) -> None:
        self.slopes, self.alpha, self.v = slopes, slopes.alpha, slopes.v
        # (5, n, grid): the matrices are shared by all q
        averages = np.matmul(weights, np.swapaxes(slopes.table, 1, 2))
        averages[0] += rest[:, None]
        self.log_share, self.log_rest, self.log_density, self.log_level, self.log_turn = np.log(
            averages
        )
        self.log_density += np.log(2)
        self.log_r = self.v + self.log_level / self.alpha
        self.atom = rest
        self._tail(weights)

    def _tail(self, weights: Array) -> None:
        """Set the forms beyond the grid: r^α = a·v + b, 1 − F = e^{−αv}(c·v + d)."""
        size = weights * np.exp(self.alpha * self.slopes.value)
        k = self.slopes.kernels
        p, m = k.share_low
        b, a = k.level_low
        # slopes of 0 have size 0 and log −∞
        total, shifted = size.sum(axis=1), size @ np.maximum(self.slopes.value, -1e9)
        self.growth = (2 * a * total, b * total - 2 * a * shifted)
        self.decay = (2 * m * total, p * total - 2 * m * shifted)

    def read(self, field: Array, v: Array) -> Array:
        """Return a field between grid points by interpolation; field (n, grid), v (n, k)."""
        place = (v - self.v[0]) / GRID_STEP
        first = np.clip(place.astype(np.intp) - _ORDER // 2 + 1, 0, self.v.size - _ORDER)
        offset = (place - first)[..., None] - np.arange(_ORDER)
        hit = np.abs(offset) < 1e-12
        weight = _CHOOSE / np.where(hit, 1e-12, offset)
        rows = np.arange(field.shape[0])[:, None, None]
        values = field[rows, first[..., None] + np.arange(_ORDER)]
        return np.asarray((weight * values).sum(axis=-1) / weight.sum(axis=-1))

    def log_u(self, log_r: Array) -> Array:
        """Return v at log r (n, k), clipped to the grid."""
        start = np.stack(
            [np.interp(at, own, self.v) for at, own in zip(log_r, self.log_r, strict=True)]
        )
        v = start
        for _ in range(4):
            level = self.read(self.log_level, v)
            slope = 2 / self.alpha * np.exp(self.read(self.log_turn, v) - level)
            step = (log_r - v - level / self.alpha) / slope
            v = np.clip(v + np.clip(step, -0.2, 0.2), self.v[0], self.v[-1])
        return v

    def at_moduli(self, log_r: Array) -> tuple[Array, Array]:
        """Return F and dF/d log r at log r (k,) of the first law."""
        share, density = np.empty_like(log_r), np.empty_like(log_r)
        low, high = self.log_r[0, [0, -1]]
        below, above = log_r < low, log_r > high
        inside = ~below & ~above
        v = self.log_u(log_r[None, inside])
        share[inside] = np.exp(self.read(self.log_share, v)[0])
        level, turn = self.read(self.log_level, v), self.read(self.log_turn, v)
        per_v = self.read(self.log_density, v)
        density[inside] = (np.exp(per_v + level - turn) * self.alpha / 2)[0]
        share[above], density[above] = self._beyond(log_r[above])
        share[below], density[below] = self.atom[0], 0.0
        return share, density

    def _beyond(self, log_r: Array) -> tuple[Array, Array]:
        if self.alpha == 2:
            return np.ones_like(log_r), np.zeros_like(log_r)
        (a, b), (c, d) = ([float(x[0]) for x in pair] for pair in (self.growth, self.decay))
        with np.errstate(over="ignore"):
            power = np.exp(self.alpha * log_r)
        v = (power - b) / a
        fall = np.exp(-self.alpha * v)
        rest = fall * (c * v + d)
        per_v = self.alpha * rest - c * fall
        return 1 - rest, per_v * self.alpha * power / a


@lru_cache(maxsize=32)
def _slope_sides(act: Activation) -> tuple[Side, ...]:
    anchors = np.unique(np.concatenate([np.array(act.kinks), zeros(act.d1)]))

    def value(h: Array) -> Array:
        return log_slope(act, h)

    return sides(act, value, anchors, FARTHEST, floor=FLOOR, lump=LUMP)


_slopes: weakref.WeakKeyDictionary[Activation, dict[float, Slopes]] = weakref.WeakKeyDictionary()


def slopes(act: Activation, alpha: float) -> Slopes:
    """Return what is known of one φ and α, kept."""
    known = _slopes.setdefault(act, {})
    if alpha not in known:
        if len(known) >= 32:
            known.clear()
        known[alpha] = Slopes(act, alpha)
    return known[alpha]
