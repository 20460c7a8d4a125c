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
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import interpolate, special

from mflib.theory import _stable, activations, stable
from mflib.theory._arrays import Array, Rows
from mflib.theory._quadrature import legendre
from mflib.theory.activations import Activation

Complex = NDArray[np.complex128]
Rule = tuple[Array, Array]

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
    share_high = 1.0
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
_NODES, _WEIGHTS = legendre(8)  # of the kernels' panels; neurons may ask for more


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
    count: int = 8,
) -> Side:
    """Return the rule of one half line for functions of log f = ``value`` and of log h.

    ``anchors`` > 0 are kinks and zeros of f, about which the panels are graded. ``lump`` > 0 takes
    the part next to 0 where log f changes by less as one point; the last arm ends where log f
    falls below ``floor``. ``count`` nodes stand on each panel.
    """

    def along(h: Array) -> Array:
        return value(sign * h)

    places = np.concatenate([[0.0], np.sort(anchors[anchors > 0])])
    middles = np.concatenate([(places[1:] + places[:-1]) / 2, [top]])
    at, share = legendre(count)
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
            distance = breaks[:-1, None] * np.exp(width * at)
            order = slice(None, None, int(way))
            nodes.append((anchor + way * distance)[order, :: int(way)])
            weights.append((width * share * distance)[order, :: int(way)])
            lefts.append(
                (anchor + way * breaks[slice(None, -1) if way > 0 else slice(1, None)])[order]
            )
            reached = float(anchor + way * breaks[-1])
    h, weight, left = (np.concatenate(parts) for parts in (nodes, weights, lefts))
    values = along(h)
    start = float(along(np.array(NEAREST)))
    with np.errstate(invalid="ignore"):
        flat = (np.abs(values - start) <= lump) | (values == start)
    flats = int(np.argmin(np.append(flat.all(axis=1), False))) if lump else 0
    low = float(np.append(left, reached)[flats])
    h, weight, values = (a[flats:].ravel() for a in (h, weight, values))
    return Side(sign, h, weight, values, low, reached, start)


def sides(
    act: Activation,
    value: Callable[[Array], Array],
    anchors: Array,
    top: float,
    *,
    floor: float = -np.inf,
    lump: float = 0.0,
    count: int = 8,
) -> tuple[Side, ...]:
    """Return the rules of both half lines, or one that counts twice where φ is odd."""
    if act.odd:
        one = side(value, anchors, 1.0, top, floor=floor, lump=lump, count=count)
        return (replace(one, weight=2 * one.weight, count=2.0),)
    return tuple(
        side(value, s * anchors, s, top, floor=floor, lump=lump, count=count) for s in (1.0, -1.0)
    )


# --- the law of the moduli ------------------------------------------------------------------------

_ROWS = ("scale", "bulk", "log_share", "log_rest", "log_density", "log_level", "log_turn", "log_r")
GRID_STEP = 0.125
DEPTH = 30.0  # the grid in log u begins at e^-30 of the largest slope
_DEEPEST = 1e20  # of −log u: where φ′ falls exponentially, h is then of that size
_ORDER = 12  # points of the interpolation between grid values of log u
_CHOOSE = special.binom(_ORDER - 1, np.arange(_ORDER)) * (-1.0) ** np.arange(_ORDER)


class Slopes:
    """Know the law of the eigenvalues' moduli of W·D/D_w^{1/α} for one φ and α, at any q."""

    def __init__(self, act: Activation, alpha: float) -> None:
        self.act, self.alpha = act, alpha
        self.kernels = kernels(alpha)
        self.sides = _slope_sides(act)
        self.peak = peak = _peak(act)
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
        scale = self.scale(log_q)[:, None]
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
        return Law(self, log_q)

    def scale(self, log_q: Array) -> Array:
        """Return the scale of h, (n,); below e^-200 nothing changes any more."""
        return np.asarray(np.exp(np.maximum((log_q - np.log(2)) / self.alpha, -200.0)))

    def below(self, level: Array, scale: Array) -> Array:
        """Return P(log|φ′| < s), (n, k), far below the peak; s (k,), scale (n,).

        It is what lies outside, where |φ′| falls outwards, and beside the zeros of φ′.
        """
        out = np.zeros((scale.size, level.size))
        for side, fall in zip(self.sides, _falls(self.act), strict=True):
            h = np.exp(fall(np.log(np.minimum(self.peak - level, LOWEST))))
            x = np.minimum(h / scale[:, None], 1e200 if self.alpha < 2 else 1e100)
            tail = _stable.law(self.alpha).at(x.ravel(), _stable.TAIL)[0]
            out += side.count * tail.reshape(x.shape)
        for place, curve in _bends(self.act):
            density = stable.pdf(place / scale, self.alpha) / scale
            out += 2 * density[:, None] * np.exp(level) / curve
        return out

    @cached_property
    def _kernel_rule(self) -> tuple[Array, Array, Array]:
        """Return x, and weights with −dG/dx and dM/dx, for averages of what varies slowly."""
        width = 5.0
        at, part = legendre(10)
        breaks = np.arange(-75 / self.alpha, 44.0, width)
        x = (breaks[:, None] + width * at).ravel()
        weight = np.tile(width * part, breaks.size)
        _, _, density, level, turn = self.kernels(x)
        share = weight * density
        rise = weight * (self.alpha / 2 * level - turn)
        # what both sum to is known
        return x, share / share.sum(), rise * (self.kernels.limit / rise.sum())

    def deep(self, v: Array, scale: Array) -> tuple[Array, Array]:
        """Return F and y^α at v = log u below the grid, (n, k), for v (k,) and scale (n,).

        Both are averages of P(log|φ′| < v + x/2) over x = log t with the kernels' slopes: what
        neurons far below the peak add. F is without the atom at 0 and without ``bulk``.
        """
        x, share, level = self._kernel_rule
        at = np.minimum((v[:, None] + x / 2).ravel(), self.peak - _APART)
        below = self.below(at, scale).reshape(-1, v.size, x.size)
        atom = self.atom(scale)[:, None]
        return (below - atom[..., None]) @ share, self.kernels.limit - below @ level

    def atom(self, scale: Array) -> Array:
        """Return P(φ′ = 0), or below 1e-308 in a function of the caller's, (n,)."""
        lost = self.below(np.array([-LOWEST]), scale)[:, 0]
        # a slope that only falls reaches 0 nowhere
        return np.where(self._vanishes, lost, 0.0)

    @cached_property
    def _vanishes(self) -> bool:
        far = np.array([side.sign for side in self.sides]) * FARTHEST
        return bool(np.isneginf(log_slope(self.act, far)).any())

    def bulk(self, weights: Array, rest: Array, scale: Array) -> Array:
        """Return c of F = … + c u² as u → 0: neurons near the peak, G(t) ~ 1/t; (n,)."""
        lowest = self.peak - _APART
        sizes = np.where(np.isneginf(self.value), 0.0, np.exp(-2 * np.maximum(self.value, lowest)))
        # slopes below all nodes, but for those of the atom
        rest = np.maximum(rest - self.atom(scale), 0.0)
        rest = np.where(rest > 1e-12, rest, 0.0)
        return np.asarray(self.kernels.share_high * (weights @ sizes + rest * np.exp(-2 * lowest)))


class Law:
    """Hold averages over neurons on a grid of v = log u, for gain 1; n laws at once.

    log r = v + log(y^α)/α; all fields (n, grid).
    """

    deepest = _DEEPEST

    def __init__(self, slopes: Slopes, log_q: Array) -> None:
        self.slopes, self.alpha, self.v = slopes, slopes.alpha, slopes.v
        self.scale = slopes.scale(log_q)
        self._quantiles: dict[tuple[float, int], Array] = {}
        weights, rest = slopes.weights(log_q)
        # (5, n, grid): the matrices are shared by all q
        averages = np.matmul(weights, np.swapaxes(slopes.table, 1, 2))
        averages[0] += rest[:, None]
        self.log_share, self.log_rest, self.log_density, self.log_level, self.log_turn = np.log(
            averages
        )
        self.log_density += np.log(2)
        self.log_r = self.v + self.log_level / self.alpha
        self.bulk = slopes.bulk(weights, rest, self.scale)
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
        rest, density[above] = self._beyond(log_r[above])
        share[above] = 1 - rest
        if below.any():
            share[below], density[below] = self._before(log_r[below])
        return share, density

    def deep(self, v: Array) -> tuple[Array, Array]:
        """Return F without its atom and y^α at v below the grid, (n, k)."""
        share, level = self.slopes.deep(v, self.scale)
        return share + self.bulk[:, None] * np.exp(2 * v), level

    @property
    def atom(self) -> Array:
        """Return F(0), (n,)."""
        return self.slopes.atom(self.scale)

    def _solved(self, log_r: Array) -> Array:
        """Return v at log r (k,) below the grid, where y hardly changes; first law."""
        v = log_r
        for _ in range(8):
            v = log_r - np.log(self.deep(v)[1][0]) / self.alpha
        return v

    def _before(self, log_r: Array) -> tuple[Array, Array]:
        """Return F and dF/d log r below the grid, the latter by a polynomial's slope."""
        at = np.maximum(log_r, -_DEEPEST)
        ends = np.concatenate([[0.0], _NODES[:4], [0.5], _NODES[4:], [1.0]])
        near = at[:, None] + 4 * (ends - 0.5)
        v = self._solved(near.ravel())
        slow = self.slopes.deep(v, self.scale)[0][0].reshape(near.shape)
        # y is constant where the bulk, which varies as u², counts
        bulk = self.bulk[0] * np.exp(2 * v.reshape(near.shape)[:, 5])
        slope = np.maximum(slow @ _differentiation(ends)[5] / 4, 0.0) + 2 * bulk
        return np.where(np.isneginf(log_r), 0.0, slow[:, 5] + bulk) + self.atom[0], slope

    def take(self, rows: Rows) -> Law:
        """Return some of the laws."""
        other = copy(self)
        other._quantiles = {key: log_r[rows] for key, log_r in self._quantiles.items()}
        for name in _ROWS:
            setattr(other, name, getattr(self, name)[rows])
        other.growth, other.decay = (
            (pair[0][rows], pair[1][rows]) for pair in (self.growth, self.decay)
        )
        return other

    def rule(self, log_one: Array, log_low: Array, log_high: Array) -> Rule:
        """Return a rule over log r in [log_low, log_high] with a break at log_one, each (n,).

        All of gain 1. What lies below the grid is left out: see ``before``.
        """
        start, one, end = (self.log_u(at[:, None])[:, 0] for at in (log_low, log_one, log_high))
        one = np.clip(one, start, end)
        nodes, weights = [], []
        for left, right in ((start, one), (one, end)):
            count = max(1, int(np.ceil(np.max(right - left) / 1.25)))
            v, weight = _panels(left, right, count)
            nodes.append(v)
            weights.append(weight)
        v, weight = np.concatenate(nodes, axis=1), np.concatenate(weights, axis=1)
        log_r = v + self.read(self.log_level, v) / self.alpha
        mass = weight * np.exp(self.read(self.log_density, v))
        if self.alpha < 2:
            more_r, more_mass = self._tail_rule(log_high)
            log_r, mass = np.concatenate([log_r, more_r], 1), np.concatenate([mass, more_mass], 1)
        return log_r, mass

    def _tail_rule(self, log_high: Array) -> Rule:
        (a, b), (c, d) = ([x[:, None] for x in pair] for pair in (self.growth, self.decay))
        top = self.v[-1]
        with np.errstate(over="ignore"):
            last = (np.exp(self.alpha * log_high) - b[:, 0]) / a[:, 0]
        last = np.clip(last, top, 745 / self.alpha)
        count = max(1, int(np.ceil(np.max(last - top) * self.alpha / 3)))
        v, weight = _panels(np.full_like(last, top), last, count)
        density = np.exp(-self.alpha * v) * (self.alpha * (c * v + d) - c)
        return np.log(a * v + b) / self.alpha, weight * density

    def log_u_anywhere(self, log_r: Array) -> Array:
        """Return v at log r (n,) at or above the grid; ∞ beyond the last eigenvalue."""
        v = self.log_u(log_r[:, None])[:, 0]
        far = log_r > self.log_r[:, -1]
        if self.alpha == 2:
            return np.where(far, np.inf, v)
        a, b = self.growth
        with np.errstate(over="ignore"):
            return np.where(far, (np.exp(self.alpha * np.where(far, log_r, 0)) - b) / a, v)

    def quantile(self, share: float, side: int) -> Array:
        """Return log r (n,) of gain 1 at which F (side −1) or 1 − F (side +1) is ``share``.

        ±∞ where no eigenvalue is that rare.
        """
        if (share, side) not in self._quantiles:
            self._quantiles[share, side] = self._quantile(share, side)
        return self._quantiles[share, side]

    def _quantile(self, share: float, side: int) -> Array:
        v = np.empty(self.log_r.shape[0])
        for row in range(v.size):
            if side < 0:
                v[row] = np.interp(np.log(share), self.log_share[row], self.v, left=-np.inf)
            else:
                v[row] = np.interp(-np.log(share), -self.log_rest[row], self.v, right=np.inf)
        field = self.log_share if side < 0 else self.log_rest
        fine = np.isfinite(v)
        at = np.where(fine, v, self.v[0])[:, None]
        for _ in range(3):
            value = self.read(field, at)
            slope = -side * np.exp(self.read(self.log_density, at) - value)
            at = np.clip(at + np.clip((np.log(share) - value) / slope, -0.2, 0.2), *self.v[[0, -1]])
        log_r = np.where(
            fine, (at + self.read(self.log_level, at) / self.alpha)[:, 0], side * np.inf
        )
        if side < 0 and not fine.all():
            log_r[~fine] = self._deep_quantiles(share, np.flatnonzero(~fine))
        return log_r

    def _deep_quantiles(self, share: float, rows: Rows) -> Array:
        """Return log r at which F is ``share``, below the grid; −∞ for an atom at 0."""
        laws = self.take(rows)
        out = np.full(rows.size, -np.inf)
        start = np.log(-min(self.v[0], -1.0))
        at = np.linspace(start, np.log(_DEEPEST), 45)
        wanted = share - laws.atom
        values = laws.deep(-np.exp(at))[0]
        for k in np.flatnonzero((wanted > 0) & (values[:, -1] < wanted)):
            one = laws.take(np.array([k]))
            above = np.log(np.maximum(values[k], 1e-300) / wanted[k])
            below = max(1, int(np.argmax(above < 0)))
            pair, gap = at[[below - 1, below]], above[[below - 1, below]]
            # nearly a power law: secant steps in both logarithms
            for _ in range(6):
                place = pair[1] - gap[1] * (pair[1] - pair[0]) / (gap[1] - gap[0])
                found = one.deep(-np.exp(np.array([place])))
                value = float(np.log(np.maximum(found[0][0, 0], 1e-300) / wanted[k]))
                pair, gap = np.array([pair[1], place]), np.array([gap[1], value])
                if abs(value) < 1e-10:
                    break
            out[k] = -np.exp(place) + np.log(found[1][0, 0]) / self.alpha
        return out

    def share_at(self, log_r: float) -> float:
        """Return F at log r below the grid; one law."""
        return float(self.deep(self._solved(np.array([log_r])))[0][0, 0] + self.atom[0])

    def before(self, log_low: float) -> tuple[Array, Array, float, float]:
        """Return a rule over log r from ``log_low`` ≥ −∞ up to the grid, gain 1; one law.

        Returns log r and masses (k,), then F at the lower end and p of its law |log r|^{−p} there.
        """
        top = float(-self.v[0])
        last = min(_DEEPEST, max(2 * top, -2 * log_low))
        breaks = top * 2.0 ** np.arange(np.ceil(np.log2(last / top)) + 1)
        if np.isfinite(log_low):
            lowest = -float(self._solved(np.array([log_low]))[0])
            breaks = np.append(breaks[breaks < lowest], lowest)
        width = np.diff(np.log(breaks))[:, None]
        # derivatives of F within a panel, and its ends, from polynomials in log(−v)
        ends = np.concatenate([[0.0], _NODES, [1.0]])
        v = -breaks[:-1, None] * np.exp(width * ends)
        share, level = (a[0].reshape(v.shape) for a in self.deep(v.ravel()))
        slope = share @ _differentiation(ends).T
        mass = -slope[:, 1:-1] * _WEIGHTS
        log_r = v + np.log(level) / self.alpha
        power = -float(slope[-1, -1] / width[-1, 0] / max(share[-1, -1], 1e-300))
        return log_r[:, 1:-1].ravel(), mass.ravel(), float(share[-1, -1]), power

    def _beyond(self, log_r: Array) -> tuple[Array, Array]:
        """Return 1 − F and dF/d log r above the grid; first law."""
        if self.alpha == 2:
            return np.zeros_like(log_r), np.zeros_like(log_r)
        (a, b), (c, d) = ([float(x[0]) for x in pair] for pair in (self.growth, self.decay))
        with np.errstate(over="ignore"):
            power = np.exp(self.alpha * log_r)
        v = (power - b) / a
        fall = np.exp(-self.alpha * v)
        rest = fall * (c * v + d)
        per_v = self.alpha * rest - c * fall
        return rest, per_v * self.alpha * power / a


@lru_cache(maxsize=4)
def _differentiate(ends: tuple[float, ...]) -> Array:
    x = np.array(ends)
    gaps = x[:, None] - x + np.eye(x.size)
    weight = 1 / gaps.prod(axis=1)
    matrix = weight / weight[:, None] / gaps * (1 - np.eye(x.size))
    return np.asarray(matrix - np.diag(matrix.sum(axis=1)))


def _differentiation(ends: Array) -> Array:
    """Return the matrix of the interpolating polynomial's derivative at its own points."""
    return _differentiate(tuple(ends))


def _panels(left: Array, right: Array, count: int) -> Rule:
    """Return nodes and weights (n, k) of ``count`` equal panels over each [left, right] (n,)."""
    width = ((right - left) / count)[:, None, None]
    nodes = left[:, None, None] + width * (np.arange(count)[:, None] + _NODES)
    weights = np.broadcast_to(width * _WEIGHTS, nodes.shape)
    return nodes.reshape(left.size, -1), weights.reshape(left.size, -1)


LOWEST = 1e22  # of −log|φ′| in the tables of where it falls
_APART = 8.0  # slopes within e^-8 of the peak are far above all that is below the grid


@lru_cache(maxsize=32)
def _peak(act: Activation) -> float:
    peak = max(max(side.start, side.value.max(initial=-np.inf)) for side in _slope_sides(act))
    if not np.isfinite(peak):
        raise ValueError(f"phi' of {act.name} is 0 everywhere: W·D has no spectrum.")
    return float(peak)


@lru_cache(maxsize=32)
def _falls(act: Activation) -> tuple[interpolate.BSpline, ...]:
    """Return for each side log h, beyond which log|φ′| stays e^s below its peak, by log s."""
    at = np.linspace(np.log(_APART - 1), np.log(LOWEST), 1500)
    level = _peak(act) - np.exp(at)
    splines = []
    for side in _slope_sides(act):
        above = np.flatnonzero(side.value > level[0])
        low = np.full(level.shape, np.log(side.h[above[-1]] if above.size else side.low))
        high = np.full(level.shape, np.log(1e150))
        for _ in range(70):
            middle = (low + high) / 2
            higher = log_slope(act, side.sign * np.exp(middle)) > level
            low, high = np.where(higher, middle, low), np.where(higher, high, middle)
        # a jump of φ′ to 0, and the end of floats, are corners that a cubic would overshoot
        splines.append(interpolate.make_interp_spline(at, (low + high) / 2, k=3))
    return tuple(splines)


@lru_cache(maxsize=32)
def _bends(act: Activation) -> tuple[tuple[float, float], ...]:
    """Return where φ′ changes sign, and |φ″| there."""
    places = zeros(act.d1)
    places = places[np.abs(act.d2(places)) > 0]
    return tuple((float(x), float(abs(act.d2(x)))) for x in places)


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
