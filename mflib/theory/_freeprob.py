"""Free multiplicative convolution along the polar graph of the subordination function.

The law of s = φ′(h)², h ~ N(0, q), enters through x(w) = E[s/(w − s)] and t(w) = w x/(1 + x), a
mean of s with complex weights. A product of many free factors has M-transform x at the point z with

    orthogonal:  log z = (L − 1) log(σ² t) + log(σ² w)
    Gaussian:    log z = L log(σ² w x) + log(w/t)

and the density of log λ is −Im x/π where z = λ + i0. There w = r e^{iθ} runs along a graph θ = f(r)
(Belinschi and Bercovici 2005; Zhong 2013), so that every radius has one angle, every band of radii
gives one band of the spectrum, and λ increases with r. The integral of x d log z is elementary:

    orthogonal:  L E[log(1 − s/w)] + (L − 1) log(1 + x)
    Gaussian:    L (E[log(1 − s/w)] + x) − log(1 + x)

and its imaginary part over π is the mass above λ, atoms included.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import special

from mflib.theory._arrays import Array, Rows, chunks
from mflib.theory._moments import SMALLEST_Q, refinement
from mflib.theory._quadrature import REACH, SQRT_2PI, graded, legendre, scale_of
from mflib.theory._roots import EPS, bracketed
from mflib.theory.activations import Activation

Complex = NDArray[np.complex128]

LEAST_LOG = -575.0  # slopes below e^-575 = 1e-250 count as 0: 1/s² must not overflow
_NEGLIGIBLE = 1e-16  # mass per unit of log r that no sum notices
_SCARCE = 1e-13  # mass per unit of log r at which a tail may be cut anywhere
_LEAST_ANGLE = -46.0  # of log(θ/(π − θ)): there is no mass
_FLAT = 4 * EPS
_FINEST, _MOST = 9, 32  # halvings of a panel, and panels that may ask for one


class Map(Protocol):
    """Say where a point w of the upper half plane goes: what a spectrum is computed from."""

    @property
    def rounding(self) -> float:
        """Return the error of log z."""
        ...

    @property
    def conditioning(self) -> float:
        """Return the relative error of x."""
        ...

    @property
    def reach(self) -> float:
        """Return how far below a band's upper end log r may go."""
        ...

    @property
    def atoms(self) -> tuple[tuple[float, float], ...]:
        """Return (log λ, mass) of every atom, ascending."""
        ...

    def at(self, log_r: Array, theta: Array) -> tuple[Complex, Complex, Complex]:
        """Return log z, d log z/d log w and x, each (n,)."""
        ...

    def above(self, log_r: Array, theta: Array) -> Array:
        """Return the mass above λ = z at points of the graph, (n,)."""
        ...

    @property
    def marks(self) -> Array:
        """Return log r at which the density may be singular inside a band, (n,)."""
        ...

    def bands(self) -> list[tuple[float, float]]:
        """Return the intervals of log r on which f(r) > 0; −inf for r = 0."""
        ...


# --- the law of the squared slope -----------------------------------------------------------------


@dataclass(frozen=True)
class Segment:
    """Hold a stretch of h on which log s is monotone, with a table of its inverse."""

    low: float
    high: float
    outer_low: bool
    outer_high: bool
    h: Array
    log_s: Array  # ascending

    @property
    def anchors(self) -> tuple[float, ...]:
        """Return what the rule must resolve: 0, and ends but where the Gaussian has died."""
        low = () if self.outer_low else (self.low,)
        high = () if self.outer_high else (self.high,)
        return (*low, *((0.0,) if self.low < 0 < self.high else ()), *high)


class SlopeLaw:
    """The law of s = φ′(h)², h ~ N(0, q), as atoms and monotone segments.

    Stretches on which s is constant to rounding (linear parts, tails that have settled) are atoms;
    slopes below 1e-250 count as 0. The Gaussian ends at 11 deviations, where it has 1e-27 of its
    mass.
    """

    def __init__(self, activation: Activation, q: float) -> None:
        self.activation = activation
        self.deviation = float(np.sqrt(max(q, SMALLEST_Q)))
        self.width = float(scale_of(np.asarray(self.deviation)))
        self.fold = 2.0 if activation.odd else 1.0
        self.refine = 1.0 if activation.piecewise_linear else refinement(activation)
        self.segments: list[Segment] = []
        masses: dict[float, float] = {}
        for low, high in self._stretches():
            low, high = self._split(low, high, masses)
            if high > low:
                self._add_segments(low, high)
        self.atom_s = np.array(sorted(masses))
        self.atom_p = np.array([masses[s] for s in self.atom_s.tolist()])

    def log_s(self, h: Array) -> Array:
        """Return log φ′(h)², at least LEAST_LOG."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.maximum(2 * np.log(np.abs(self.activation.d1(h))), LEAST_LOG))

    def growth(self, h: Array) -> Array:
        """Return d log s/dh."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return 2 * self.activation.d2(h) / self.activation.d1(h)

    def density(self, h: Array) -> Array:
        """Return the Gaussian density, doubled where only h > 0 is kept."""
        height = self.fold / (SQRT_2PI * self.deviation)
        return np.asarray(height * np.exp(-0.5 * (h / self.deviation) ** 2))

    def probability(self, low: Array | float, high: Array | float) -> Array:
        """Return P(low < h < high), from the nearer tail."""
        a, b = np.asarray(low) / self.deviation, np.asarray(high) / self.deviation
        a = np.where(a <= -REACH, -np.inf, a)
        b = np.where(b >= REACH, np.inf, b)
        flip = a > 0
        a, b = np.where(flip, -b, a), np.where(flip, -a, b)
        return np.asarray(self.fold * (special.ndtr(b) - special.ndtr(a)))

    def _stretches(self) -> list[tuple[float, float]]:
        reach = REACH * self.deviation
        low = 0.0 if self.activation.odd else -reach
        inner = [k for k in self.activation.kinks if low < k < reach]
        ends = [low, *inner, reach]
        return list(itertools.pairwise(ends))

    def _probe(self, low: float, high: float) -> Array:
        """Return ascending points that see the Gaussian and features of width one."""
        reach = REACH * self.deviation
        # φ′ is asked beside a kink, which from_callable finds to 1e-11, and never at 0 itself
        step = min(2e-11 * max(1.0, abs(low), abs(high)), 1e-4 * (high - low))
        fine = self.width * np.sinh(np.linspace(-1, 1, 1200) * np.arcsinh(reach / self.width))
        even = np.linspace(low, high, 600)
        h = np.concatenate([fine, even, low + fine, high + fine])
        inside = h[(h > low + step) & (h < high - step)]
        return np.unique(np.concatenate([[low + step], inside, [high - step]]))

    def _split(self, low: float, high: float, masses: dict[float, float]) -> tuple[float, float]:
        """Return what is left of a stretch when its constant parts have been counted as atoms."""
        h = self._probe(low, high)
        log_s = self.log_s(h)
        reach = REACH * self.deviation

        def count(value: float, a: float, b: float) -> None:
            s = 0.0 if value <= LEAST_LOG else float(np.exp(value))
            mass = float(self.probability(a, b))
            if mass > EPS:
                masses[s] = masses.get(s, 0.0) + mass

        def settled(i: int) -> NDArray[np.bool_]:
            return np.asarray(np.abs(log_s - log_s[i]) <= _FLAT)

        if settled(0).all():
            exact = self.activation.d1(h[h.size // 2 : h.size // 2 + 1])[0] ** 2
            value = -np.inf if exact < np.exp(LEAST_LOG) else float(np.log(exact))
            s = 0.0 if np.isinf(value) else float(exact)
            masses[s] = masses.get(s, 0.0) + float(self.probability(low, high))
            return low, low
        if high >= reach:
            first = h.size - int(np.argmin(settled(-1)[::-1]))
            if first <= h.size - 2:
                count(float(log_s[-1]), h[first], high)
                high = float(h[first])
        if low <= -reach:
            last = int(np.argmin(settled(0))) - 1
            if last >= 1:
                count(float(log_s[0]), low, h[last])
                low = float(h[last])
        return low, high

    def _add_segments(self, low: float, high: float) -> None:
        h = self._probe(low, high)
        marks: list[float] = []
        for f in (self.activation.d1, self.activation.d2):
            values = f(h)
            # a probe may fall on the root itself; what rounding makes of a settled tail is none
            clear = np.flatnonzero(np.abs(values) > 1e-13 * np.abs(values).max())
            at = np.flatnonzero(np.sign(values[clear[1:]]) != np.sign(values[clear[:-1]]))
            if at.size:
                roots = bracketed(partial(_of_point, f), h[clear[at]], h[clear[at + 1]])
                marks += roots.tolist()
        ends = np.unique([low, *marks, high])
        for a, b in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
            limits = self._beside(a, b), self._beside(b, a)
            logistic = special.expit(np.linspace(-36, 36, 181))
            part = np.unique(np.concatenate([logistic, np.linspace(0, 1, 401)]))
            inside = h[(h > a) & (h < b)]
            grid = np.unique(np.concatenate([a + (b - a) * part, inside]))
            grid = np.clip(grid, *limits)
            y = self.log_s(grid)
            if y[-1] < y[0]:
                grid, y = grid[::-1], y[::-1]
            y = np.maximum.accumulate(y)
            reach = REACH * self.deviation
            self.segments.append(Segment(a, b, a <= -reach, b >= reach, grid, y))

    def _beside(self, end: float, other: float) -> float:
        """Return where to ask φ′ for its value at an end of a segment.

        As near as rounding allows, further where φ′ is still that of the other side of a kink that
        is known to 1e-11, or has lost its digits beside a root.
        """
        length = other - end
        near = end + np.copysign(4 * EPS * max(abs(end), 1e-3 * abs(length)), length)
        far = end + np.copysign(min(1e-12 * max(abs(end), abs(other)), 1e-9 * abs(length)), length)
        log_s = self.log_s(np.array([near, far]))
        return float(near if abs(log_s[1] - log_s[0]) < 1e-8 else far)

    def inverse(self, segment: Segment, y: Array) -> Array:
        """Return h in the segment with log s(h) = y, to rounding where log s changes."""
        at = np.clip(np.searchsorted(segment.log_s, y), 1, segment.h.size - 1)
        ends = segment.h[at - 1], segment.h[at]
        low, high = np.minimum(*ends), np.maximum(*ends)
        h = np.asarray(np.interp(y, segment.log_s, segment.h))
        for _ in range(3):
            slope = self.activation.d1(h)
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                log_s = np.maximum(2 * np.log(np.abs(slope)), LEAST_LOG)
                step = (log_s - y) * slope / (2 * self.activation.d2(h))
            h = np.clip(h - np.where(np.isfinite(step), step, 0.0), low, high)
        return h

    @cached_property
    def support(self) -> list[tuple[float, float]]:
        """Return the support of s as disjoint ascending intervals; atoms are points."""
        parts = [(float(s), float(s)) for s in self.atom_s]
        for seg in self.segments:
            low = 0.0 if seg.log_s[0] <= LEAST_LOG else float(np.exp(seg.log_s[0]))
            parts.append((low, float(np.exp(seg.log_s[-1]))))
        merged: list[tuple[float, float]] = []
        for low, high in sorted(parts):
            # ends that differ by rounding are one: a kink of φ″ only
            if merged and low <= merged[-1][1] * (1 + 1e-9):
                merged[-1] = (merged[-1][0], max(merged[-1][1], high))
            else:
                merged.append((low, high))
        # a smooth s that comes this close to 0 reaches it, or its Gaussian has died there
        if 0 < merged[0][0] < 1e-13 * merged[-1][1] and merged[0][1] > merged[0][0]:
            merged[0] = (0.0, merged[0][1])
        return merged

    def rule(self, log_r: Array, theta: Array) -> tuple[Array, Array]:
        """Return nodes s and weights, each (n, M), that resolve the pole s = r e^{iθ}."""
        values, weights = (
            [np.broadcast_to(self.atom_s, (log_r.size, self.atom_s.size))],
            [np.broadcast_to(self.atom_p, (log_r.size, self.atom_p.size))],
        )
        for seg in self.segments:
            y = np.clip(log_r, seg.log_s[0], seg.log_s[-1])
            pole = self.inverse(seg, y)
            # how far s runs along h until it is as far from s(pole) as w is
            gap = np.minimum(np.hypot(log_r - y, theta), 1.0)
            # by the table alone: its distance from the pole is that of a chord from its curve
            near = np.interp(y, seg.log_s, seg.h)
            reach = [np.abs(np.interp(y + d, seg.log_s, seg.h) - near) for d in (gap, -gap)]
            scale = np.clip(np.maximum(*reach), 1e-15 * (self.width + np.abs(pole)), self.width)
            fixed = np.broadcast_to(np.array(seg.anchors), (log_r.size, len(seg.anchors)))
            anchors = np.sort(np.concatenate([fixed, pole[:, None]], axis=1), axis=1)
            low, high = np.full_like(log_r, seg.low), np.full_like(log_r, seg.high)
            h, w = graded(anchors, low, high, scale, self.refine, one_sided=not seg.outer_low)
            values.append(self.activation.d1(h) ** 2)
            weights.append(w * self.density(h))
        return np.concatenate(values, axis=1), np.concatenate(weights, axis=1)

    @cached_property
    def continuous_probability(self) -> float:
        """Return the probability of the segments."""
        return float(sum(self.probability(seg.low, seg.high) for seg in self.segments))

    @cached_property
    def spread(self) -> float:
        """Return the relative standard deviation of s, 1 for a discrete law."""
        if not self.segments:
            return 1.0
        _, s, p = self.line()
        s, p = np.concatenate([s, self.atom_s]), np.concatenate([p, self.atom_p])
        mean = float(p @ s)
        return float(np.sqrt(p @ (s - mean) ** 2)) / mean

    @cached_property
    def crowded(self) -> bool:
        """Return whether s has mass at its largest values, where a Gaussian may have died."""
        _, s, p = self.line()
        s, p = np.concatenate([s, self.atom_s]), np.concatenate([p, self.atom_p])
        near = self.support[-1][1] * (1 - 0.01 * min(1.0, self.spread))
        return bool(p[s >= near].sum() > 1e-6)

    def line(self) -> tuple[Array, Array, Array]:
        """Return h, s and weights (M,) of the segments: E over the continuous part of s."""
        parts = []
        for seg in self.segments:
            anchors = np.array([seg.anchors])
            ends = np.array([seg.low]), np.array([seg.high])
            if anchors.size == 0:
                anchors = ends[0][None] / 2 + ends[1][None] / 2
            h, w = graded(anchors, *ends, np.array([self.width]), 2 * self.refine)
            parts.append((h[0], w[0] * self.density(h[0])))
        h = np.concatenate([np.zeros(0), *(p[0] for p in parts)])
        w = np.concatenate([np.zeros(0), *(p[1] for p in parts)])
        return h, self.activation.d1(h) ** 2, w


def _of_point(f: Callable[[Array], Array], _: Rows, x: Array) -> Array:
    return f(x)


# --- products of free factors ---------------------------------------------------------------------


@dataclass(frozen=True)
class Product:
    """Map w to the spectrum of J Jᵀ for L layers of slopes ``law`` and weights of variance σ_w²."""

    law: SlopeLaw
    log_sigma_w2: float
    depth: int
    gaussian: bool

    @property
    def rounding(self) -> float:
        """Return what rounding leaves in log z."""
        return 4 * EPS * self.depth

    @property
    def reach(self) -> float:
        """Return how far below a band's upper end log r may go."""
        return LEAST_LOG

    @property
    def conditioning(self) -> float:
        """Return the relative error of x: rounding of s beside the spread of s."""
        return 16 * EPS / max(self.law.spread, 1e-12)

    def _ratios(
        self, log_r: Array, theta: Array, *, potential: bool
    ) -> tuple[Complex, Complex, Complex, Complex, Array]:
        """Return a = E[w/(w − s)], x = E[s/(w − s)], E[(w/(w − s) − a)²], E[s²/(w − s)²] and
        Im E[log(1 − s/w)].
        """
        out = np.empty((4, log_r.size), dtype=np.complex128)
        angle = np.zeros(log_r.size)
        order = np.argsort(np.abs(theta)) if self.law.segments else np.arange(log_r.size)
        for part in chunks(log_r.size, 1600 * max(1, len(self.law.segments))):
            rows = order[part]
            s, p = self.law.rule(log_r[rows], theta[rows])
            # s/w keeps the range of s, which may be e^-570
            v = s * np.exp(-log_r[rows])[:, None]
            turn = np.exp(-1j * theta[rows])[:, None]
            inverse = 1 / (1 - v * turn)
            weighted = p * inverse
            whole = weighted.sum(axis=1)
            spread = inverse - whole[:, None]
            out[0, rows] = whole
            weighted *= v
            out[1, rows] = weighted.sum(axis=1) * turn[:, 0]
            # the mean square about the mean: x(1 + x) + w x′ would cancel beside an atom
            out[2, rows] = np.einsum("ij,ij,ij->i", p, spread, spread)
            if self.gaussian:
                weighted *= v
                out[3, rows] = np.einsum("ij,ij->i", weighted, inverse) * turn[:, 0] ** 2
            if potential:
                angle[rows] = -np.einsum("ij,ij->i", p, np.angle(inverse))
        # x = a − 1: all terms of Im a have one sign, so the density keeps its digits
        out[1].imag = out[0].imag
        return out[0], out[1], out[2], out[3], angle

    def at(self, log_r: Array, theta: Array) -> tuple[Complex, Complex, Complex]:
        """Return log z, d log z/d log w and x; arguments of the real axis are those of r + i0."""
        whole, x, variance, square, _ = self._ratios(log_r, theta, potential=False)
        spread = variance / (x * whole)  # −d log t/d log w
        if self.gaussian:
            slope = 1 + spread - self.depth * square / x
        else:
            slope = 1 - (self.depth - 1) * spread
        return self._log_z(log_r, theta, whole, x), slope, x

    def _log_z(self, log_r: Array, theta: Array, whole: Complex, x: Complex) -> Complex:
        if self.gaussian:
            log_z = self.depth * (self.log_sigma_w2 + log_r + 1j * theta + _log(x))
            return np.asarray(log_z + _log(whole) - _log(x))
        t = x / whole * np.exp(1j * theta)
        log_z = (self.depth - 1) * (log_r + _log(t)) + self.depth * self.log_sigma_w2
        return np.asarray(log_z + log_r + 1j * theta)

    def above(self, log_r: Array, theta: Array) -> Array:
        """Return the mass above: Im of the integral of x d log z, over π.

        A point is on the graph to rounding only: the integral is carried on from there to
        Im log z = 0 by its integrand.
        """
        whole, x, _, _, angle = self._ratios(log_r, theta, potential=True)
        if self.gaussian:
            total = self.depth * (angle + x.imag) - _log(whole).imag
        else:
            total = self.depth * angle + (self.depth - 1) * _log(whole).imag
        left = self._log_z(log_r, theta, whole, x).imag
        return np.asarray((total - x.real * left) / np.pi)

    @cached_property
    def atoms(self) -> tuple[tuple[float, float], ...]:
        """Return (log λ, mass) of every atom."""
        s, p = self.law.atom_s, self.law.atom_p
        found = []
        for i, value in enumerate(s.tolist()):
            # one minus the rest of the law: 1 − p would lose what p near 1 hides
            rest = float(np.delete(p, i).sum()) + float(self.law.continuous_probability)
            if value == 0:
                found.append((-np.inf, float(p[i])))
            elif not self.gaussian and self.depth * rest < 1:
                found.append(
                    (self.depth * (self.log_sigma_w2 + np.log(value)), 1 - self.depth * rest)
                )
        return tuple(sorted(found))

    @property
    def marks(self) -> Array:
        """Return log r of the atoms of s, where the density may be singular."""
        return np.asarray(np.log(self.law.atom_s[self.law.atom_s > 0]))

    def upper_edge(self) -> float:
        """Return the largest log λ: of the last band that has mass, or of the atom above it."""
        top = np.log(self.law.support[-1][1])
        if self.depth == 1 and not self.gaussian:
            return float(self.log_sigma_w2 + top)
        if self.law.crowded:
            return self._regular_edge(top)
        bands = [_living(self, *band) for band in self.bands()]
        last = [band for band in bands if band is not None][-1:]
        ends = [float(_ends(self, band)[1][1]) for band in last]
        return max(ends + [place for place, _ in self.atoms])

    def _regular_edge(self, top: float) -> float:
        """Return log λ where d log z/dw = 0 beyond the support of s, or at its end."""
        low, high = np.array([-30.0]), np.array([np.log(1e3 * self.depth) + 8])

        def place(y: Array) -> Array:
            return np.asarray(top + np.log1p(np.exp(y)))

        def slope(_: Rows, y: Array) -> Array:
            return np.asarray(self.at(place(y), np.zeros_like(y))[1].real)

        # beside a kink a node may fall on w itself: then a little further out
        with np.errstate(divide="ignore", invalid="ignore"):
            first = slope(np.arange(1), low)[0]
        if np.isnan(first) or first < 0:
            low = np.array([-25.0])
            first = slope(np.arange(1), low)[0]
        edge = bracketed(slope, low, high) if first < 0 else low
        return float(self.at(place(edge), np.zeros(1))[0][0].real)

    def _outside(self, w: Array) -> NDArray[np.bool_]:
        """Return which real w > 0 beyond the support of s lie outside every band."""
        # a node may fall on w itself: then it is inside
        with np.errstate(divide="ignore", invalid="ignore"):
            log_z, slope, _ = self.at(np.log(w), np.zeros_like(w))
        return np.asarray((np.abs(log_z.imag) < 1.0) & (slope.real > 0))

    def bands(self) -> list[tuple[float, float]]:
        """Return where f(r) > 0: the support of s without its isolated points, and beyond it."""
        support = self.law.support
        inside = [pair for pair in support if pair[1] > pair[0]]
        lows = [0.0, *(high for _, high in support)]
        highs = [low for low, _ in support] + [np.inf]
        for low, high in zip(lows, highs, strict=True):
            if high > low:
                inside += self._bands_in_gap(low, high)
        merged: list[tuple[float, float]] = []
        for low, high in sorted(inside):
            if merged and low <= merged[-1][1] * (1 + 1e-12):
                merged[-1] = (merged[-1][0], max(merged[-1][1], high))
            else:
                merged.append((low, high))
        with np.errstate(divide="ignore"):
            return [(float(np.log(low)), float(np.log(high))) for low, high in merged]

    def _bands_in_gap(self, low: float, high: float) -> list[tuple[float, float]]:
        if np.isinf(high):
            y = np.linspace(-30, np.log(1e3 * self.depth) + 8, 160)
        else:
            y = np.linspace(-30, 30, 200)

        def place(y: Array) -> Array:
            if np.isinf(high):
                return np.asarray(low * (1 + np.exp(y)))
            # the logistic curve, from the nearer end
            part = (high - low) * special.expit(-np.abs(y))
            return np.asarray(np.where(y < 0, low + part, high - part))

        outside = self._outside(place(y))
        at = np.flatnonzero(outside[1:] != outside[:-1])
        left, right = y[at], y[at + 1]
        for _ in range(54 if at.size else 0):
            middle = (left + right) / 2
            same = self._outside(place(middle)) == outside[at]
            left, right = np.where(same, middle, left), np.where(same, right, middle)
        edges = place((left + right) / 2).tolist()
        if not outside[0]:
            edges = [low, *edges]
        if not outside[-1]:
            edges = [*edges, high]
        return list(zip(edges[::2], edges[1::2], strict=True))


def _log(z: Complex) -> Complex:
    """Return log z for z in the lower half plane, the negative axis at −iπ."""
    angle = np.where((z.imag == 0) & (z.real < 0), -np.pi, np.angle(z))
    return np.asarray(np.log(np.abs(z)) + 1j * angle)


@dataclass(frozen=True)
class Limit:
    """Map w to the limit of depth → ∞ at variance v, with w = (1 + x)/x.

    log z = log w + v/w in the Bernoulli class, log w + v/(w − 1) in the smooth one.
    """

    smooth: bool
    variance: float

    @property
    def rounding(self) -> float:
        """Return what rounding leaves in log z."""
        return 4 * EPS * (1 + self.variance)

    @property
    def conditioning(self) -> float:
        """Return the relative error of x."""
        return 4 * EPS

    @property
    def reach(self) -> float:
        """Return how far log r may go: 1e-10 of the mass is left there, at λ = exp(−1e10)."""
        return -25.0

    def at(self, log_r: Array, theta: Array) -> tuple[Complex, Complex, Complex]:
        """Return log z, d log z/d log w and x."""
        log_w = log_r + 1j * theta
        w: Complex = np.exp(log_w)
        x: Complex = 1 / (w - 1)
        if self.smooth:
            return log_w + self.variance * x, 1 - self.variance * w * x * x, x
        return log_w + self.variance / w, 1 - self.variance / w, x

    def above(self, log_r: Array, theta: Array) -> Array:
        """Return the mass above."""
        w = np.exp(log_r + 1j * theta)
        angle = np.angle(1 - 1 / w)
        if self.smooth:
            return np.asarray((angle + (self.variance / 2 / (w - 1) ** 2).imag) / np.pi)
        # on the graph −Im v/w = θ, without its rounding at small w
        return np.asarray(((1 - self.variance) * angle + theta) / np.pi)

    @property
    def atoms(self) -> tuple[tuple[float, float], ...]:
        """Return the atom of networks without a clipped neuron, mass 1 − v at log λ = v."""
        if self.smooth or self.variance >= 1:
            return ()
        return ((self.variance, 1 - self.variance),)

    @property
    def marks(self) -> Array:
        """Return nothing: the density is smooth inside its band."""
        return np.zeros(0)

    def bands(self) -> list[tuple[float, float]]:
        """Return where f(r) > 0."""
        v = self.variance
        if self.smooth:
            half = float(np.arcsinh(np.sqrt(v) / 2))  # (r − 1)² = v r
            return [(-2 * half, 2 * half)]
        return [(-np.inf, float(np.log(v)))]


# --- curves -----------------------------------------------------------------------------------


def _solve_angle(source: Map, log_r: Array, start: Array | None = None) -> Array:
    """Return θ = f(r), where Im log z = 0, by safeguarded Newton steps in log(θ/(π − θ))."""
    low, high = np.full_like(log_r, _LEAST_ANGLE), np.full_like(log_r, 34.0)
    y = np.zeros_like(log_r)
    if start is not None:
        with np.errstate(divide="ignore"):
            y = np.clip(np.log(start / (np.pi - start)), low, high)
    rows: Rows = np.arange(log_r.size)
    for _ in range(100):
        if rows.size == 0:
            break
        theta = np.pi * special.expit(y[rows])
        log_z, slope, _ = source.at(log_r[rows], theta)
        gap = log_z.imag
        below = gap < 0
        low[rows] = np.where(below, y[rows], low[rows])
        high[rows] = np.where(below, high[rows], y[rows])
        with np.errstate(divide="ignore", invalid="ignore"):
            step = -gap / (slope.real * theta * special.expit(-y[rows]))
        # the step that is Newton's in θ, or π − θ: Im log z is linear there in a tail
        side = np.where(y[rows] < 0, 1.0, -1.0)
        new = y[rows] + side * np.log1p(np.maximum(side * step, -0.9999))
        inside = (new > low[rows]) & (new < high[rows])
        # Newton squares the error: a step of 1e-8 leaves 1e-16
        settled = inside & (np.abs(step) < 1e-8)
        settled |= np.abs(gap) < source.rounding * np.minimum(1.0, theta)
        # θ is known to EPS at best, as s is
        settled |= (high[rows] - low[rows]) * theta < 0.1 * EPS
        y[rows] = np.where(inside, new, np.where(settled, y[rows], (low[rows] + high[rows]) / 2))
        rows = rows[~settled]
    return np.asarray(np.pi * special.expit(y))


@dataclass(frozen=True)
class Band:
    """Hold one band of radii, log r = middle − half cos ψ with ψ in [0, π].

    The density vanishes like a root at a band's ends, which are regular in ψ. ``cut_low`` and
    ``cut_high`` say that an end is only where the mass has died: there is no edge.
    """

    log_r_low: float
    log_r_high: float
    cut_low: bool
    cut_high: bool

    def log_r(self, psi: Array) -> Array:
        """Return log r at ψ, from the nearer end."""
        width = self.log_r_high - self.log_r_low
        low = self.log_r_low + width * np.sin(psi / 2) ** 2
        return np.where(psi < np.pi / 2, low, self.log_r_high - width * np.cos(psi / 2) ** 2)


def _mass_rate(source: Map, log_r: Array, theta: Array) -> tuple[Array, Array, Array]:
    """Return log λ, its density and d log λ/d log r on the graph."""
    log_z, slope, x = source.at(log_r, theta)
    # along Im log z = 0, dθ/d log r = −Im/Re of the slope
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.abs(slope) ** 2 / slope.real
    return log_z.real, -x.imag / np.pi, rate


def _mass(source: Map, log_r: Array) -> Array:
    """Return the mass per unit of log r."""
    _, density, rate = _mass_rate(source, log_r, _solve_angle(source, log_r))
    return density * rate


def _living(source: Map, low: float, high: float) -> Band | None:
    """Return the part of a band that carries mass: ends of tails are where that dies."""
    hard = low > high + source.reach
    low = max(low, high + source.reach)
    width = high - low
    down = width * np.sin(np.linspace(0, np.pi / 2, 42)[1:-1]) ** 2
    if width > 1:
        down = np.concatenate([down / width, np.geomspace(1, width, 40)[:-1]])
    # at a true end the mass vanishes like a root, and is there still this close by
    beside = 1e-8 * np.array([min(width, 1.0), -width]) + np.array([0.0, width])
    log_r = high - np.unique(np.concatenate([down, beside]))[::-1]
    mass = _mass(source, log_r)
    live = np.flatnonzero(mass > _NEGLIGIBLE)
    if live.size == 0:
        return None
    first, last = int(live[0]), int(live[-1])
    cut_low, cut_high = first > 0, last < log_r.size - 1
    if cut_low:
        low = _end_of_life(source, log_r[first], log_r[first - 1], mass[first])
    if cut_high:
        high = _end_of_life(source, log_r[last], log_r[last + 1], mass[last])
    return Band(low, high, cut_low or not hard, cut_high)


def _end_of_life(source: Map, live: float, dead: float, mass: float) -> float:
    """Return log r where the mass ends: to rounding where it drops, as at an edge of the bulk."""
    part = np.linspace(0, 1, 18)
    for _ in range(12):
        if mass < _SCARCE:
            break
        log_r = live + (dead - live) * part
        inner = _mass(source, log_r[1:-1])
        i = int(np.argmin(np.append(inner > _NEGLIGIBLE, False)))
        live, dead = float(log_r[i]), float(log_r[i + 1])
        mass = float(inner[i - 1]) if i else mass
    return dead


def _ends(source: Map, band: Band) -> tuple[Array, Array]:
    """Return θ and log λ at both ends, each (2,)."""
    log_r = np.array([band.log_r_low, band.log_r_high])
    # at an edge the graph has come down to the real axis
    theta = np.full(2, 1e-100)
    cut = np.array([band.cut_low, band.cut_high])
    theta[cut] = _solve_angle(source, log_r[cut])
    return theta, source.at(log_r, theta)[0].real


class Graph:
    """Follow the graph θ = f(r) of a map and read the spectrum off it."""

    def __init__(self, source: Map, points: int) -> None:
        self.source = source
        self.atoms = source.atoms
        found = [_living(source, *band) for band in source.bands()]
        self.bands = [band for band in found if band is not None]
        ends = np.array([[b.log_r_low, b.log_r_high] for b in self.bands]).reshape(-1, 2)
        places = [_ends(source, band) for band in self.bands]
        self.end_theta = np.array([theta for theta, _ in places]).reshape(-1, 2)
        self.end_log_lambda = np.array([y for _, y in places]).reshape(-1, 2)
        theta = self.end_theta.ravel()
        above = source.above(ends.ravel(), theta) if ends.size else np.zeros(0)
        self.end_above = above.reshape(-1, 2)
        self._count_what_underflows()
        self._trace(points)

    def _count_what_underflows(self) -> None:
        """Add what lies below the least radius to the atom at 0, as slopes below e^-575 are."""
        if self.source.reach > LEAST_LOG or not self.bands or not self.bands[0].cut_low:
            return
        dead = sum(mass for place, mass in self.atoms if np.isinf(place))
        rest = 1 - float(self.end_above[0, 0]) - dead
        if rest > 1e-10 + self.source.conditioning:
            alive = tuple(atom for atom in self.atoms if np.isfinite(atom[0]))
            self.atoms = ((-np.inf, dead + rest), *alive)

    @property
    def edges(self) -> tuple[float, float]:
        """Return the ends of the continuous part in log λ: −inf for a tail, NaN for nothing."""
        if not self.bands:
            return np.nan, np.nan
        low = -np.inf if self.bands[0].cut_low else float(self.end_log_lambda[0, 0])
        return low, float(self.end_log_lambda[-1, 1])

    def _trace(self, points: int) -> None:
        """Lay the points of the curve, half of them by ψ and half by mass."""
        log_r, theta, log_lambda, density = [], [], [], []
        masses = self.end_above[:, 0] - self.end_above[:, 1]
        share = 0.5 / max(1, len(self.bands)) + 0.5 * masses / max(masses.sum(), 1e-300)
        counts = np.maximum(np.round(points * share).astype(int), 4)
        if counts.size:
            counts[np.argmax(counts)] += max(points - counts.sum(), 4 - counts.max())
        for band, count, ends in zip(self.bands, counts.tolist(), self.end_theta, strict=True):
            psi = np.linspace(0, np.pi, 49)
            coarse = band.log_r(psi)
            crude = np.concatenate([ends[:1], _solve_angle(self.source, coarse[1:-1]), ends[1:]])
            _, rho, rate = _mass_rate(self.source, coarse[1:-1], crude[1:-1])
            mass = np.concatenate([[0], rho * rate * np.sin(psi[1:-1]), [0]])
            total = np.concatenate([[0], np.cumsum(mass[1:] + mass[:-1])])
            blend = total / max(total[-1], 1e-300) + psi / np.pi
            place = np.interp((np.arange(count) + 0.5) * 2 / count, blend, psi)
            at = band.log_r(place)
            angle = _solve_angle(self.source, at, np.interp(place, psi, crude))
            y, rho, _ = _mass_rate(self.source, at, angle)
            log_r.append(at)
            theta.append(angle)
            log_lambda.append(y)
            density.append(rho)
        join = [np.zeros(0)]
        self.log_r = np.concatenate(join + log_r)
        self.theta = np.concatenate(join + theta)
        self.log_lambda = np.concatenate(join + log_lambda)
        self.density = np.concatenate(join + density)

    @cached_property
    def rule(self) -> tuple[Array, Array]:
        """Return log λ and weights of a rule for the continuous part, each (n,).

        Panels of 16 Gauss nodes in ψ, halved until each has the mass that the elementary integral
        gives to 1e-11 of itself, or to that integral's rounding.
        """
        t, w = legendre(16)
        log_lambda, weights = [np.zeros(0)], [np.zeros(0)]
        for band, sides in zip(self.bands, self.end_above, strict=True):
            # moments live at the top, which a long tail would leave to one panel
            width = band.log_r_high - band.log_r_low
            down = 2.0 ** np.arange(-1, 10)
            top = 2 * np.arccos(np.sqrt(down[down < width] / width))
            # beside a mark: at rounding's distance the graph is rounding
            inside = np.clip((self.source.marks + 1e-9 - band.log_r_low) / width, 0.0, 1.0)
            cuts = np.union1d(np.linspace(0, np.pi, 17), np.r_[top, 2 * np.arcsin(inside**0.5)])
            inner = self._above(band.log_r(cuts[1:-1]))
            above = np.concatenate([sides[:1], inner, sides[1:]])
            left, right, a_left, a_right = cuts[:-1], cuts[1:], above[:-1], above[1:]
            for level in range(_FINEST + 1):
                psi = left[:, None] + (right - left)[:, None] * t
                log_r = band.log_r(psi.ravel())
                angle = _solve_angle(self.source, log_r, self._guess(log_r))
                y, rho, rate = _mass_rate(self.source, log_r, angle)
                half = (band.log_r_high - band.log_r_low) / 2
                mass = (rho * rate * half * np.sin(psi.ravel())).reshape(psi.shape)
                mass *= (right - left)[:, None] * w
                exact = a_left - a_right
                tolerance = max(1e-11, self.source.conditioning)
                floor = 4 * self.source.rounding + 0.01 * self.source.conditioning
                short = exact - mass.sum(axis=1)
                bad = np.abs(short) > tolerance * exact + floor
                if level == _FINEST or bad.sum() > _MOST:
                    # what is left is a singular end or rounding: keep the shape and the mass
                    factor = short / np.maximum(mass.sum(axis=1), 1e-300)
                    mass *= 1 + np.where(bad, np.clip(factor, -1.0, 1.0), 0.0)[:, None]
                    bad[:] = False
                log_lambda.append(y.reshape(psi.shape)[~bad].ravel())
                weights.append(mass[~bad].ravel())
                if not bad.any():
                    break
                middle = (left + right)[bad] / 2
                a_middle = self._above(band.log_r(middle))
                left, right = np.r_[left[bad], middle], np.r_[middle, right[bad]]
                a_left, a_right = np.r_[a_left[bad], a_middle], np.r_[a_middle, a_right[bad]]
        y, mass = np.concatenate(log_lambda), np.concatenate(weights)
        order = np.argsort(y)
        return y[order], mass[order]

    def _guess(self, log_r: Array) -> Array:
        return np.asarray(np.interp(log_r, self.log_r, self.theta))

    def _above(self, log_r: Array) -> Array:
        return self.source.above(log_r, _solve_angle(self.source, log_r, self._guess(log_r)))

    def at(self, log_lambda: Array) -> tuple[Array, Array]:
        """Return the density and the mass of the continuous part below, each (n,)."""
        density, below = np.zeros_like(log_lambda), np.zeros_like(log_lambda)
        for i, band in enumerate(self.bands):
            low, high = self.end_log_lambda[i]
            mass = self.end_above[i, 0] - self.end_above[i, 1]
            below[log_lambda >= high] += mass
            rows = np.flatnonzero((log_lambda > low) & (log_lambda < high))
            if rows.size:
                log_r, theta = self._locate(i, band, log_lambda[rows])
                density[rows] = -self.source.at(log_r, theta)[2].imag / np.pi
                inside = self.end_above[i, 0] - self.source.above(log_r, theta)
                below[rows] += np.clip(inside, 0.0, mass)
        return density, below

    def _locate(self, i: int, band: Band, target: Array) -> tuple[Array, Array]:
        """Return the point of the graph with each log λ: complex Newton steps, else brackets."""
        mine = (self.log_r > band.log_r_low) & (self.log_r < band.log_r_high)
        ends = np.array([band.log_r_low, band.log_r_high])
        knots = np.insert(self.end_log_lambda[i], 1, self.log_lambda[mine])
        log_r = np.interp(target, knots, np.insert(ends, 1, self.log_r[mine]))
        # θ² is close to linear in log λ beside an edge
        square = np.insert(self.end_theta[i], 1, self.theta[mine]) ** 2
        theta = np.sqrt(np.interp(target, knots, square))
        theta = np.clip(theta, 1e-9, np.pi - 1e-9)
        rows: Rows = np.arange(target.size)
        for _ in range(30):
            log_z, slope, _ = self.source.at(log_r[rows], theta[rows])
            gap = target[rows] - log_z
            with np.errstate(divide="ignore", invalid="ignore"):
                step = np.nan_to_num(gap / slope)
            old = theta[rows]
            log_r[rows] = np.clip(log_r[rows] + step.real, *ends)
            theta[rows] = np.clip(old + step.imag, old / 8, old + 0.9 * (np.pi - old))
            # in a tail the graph is the real axis, to rounding
            moving = np.abs(step) > 1e-9 * np.clip(old, 1e-5, 1.0)
            moving &= np.abs(gap) > 4 * self.source.rounding * np.minimum(1.0, old)
            rows = rows[moving]
            if rows.size == 0:
                break
        if rows.size:
            at = np.clip(np.searchsorted(knots, target[rows]), 1, knots.size - 1)
            places = np.insert(ends, 1, self.log_r[mine])
            self._bracket(log_r, theta, rows, target, (places[at - 1], places[at]))
        return log_r, theta

    def _bracket(
        self, log_r: Array, theta: Array, rows: Rows, target: Array, ends: tuple[Array, Array]
    ) -> None:
        """Find log r along the graph at the rows where Newton's steps did not settle."""

        def excess(some: Rows, at: Array) -> Array:
            angle = _solve_angle(self.source, at, self._guess(at))
            return np.asarray(self.source.at(at, angle)[0].real - target[rows[some]])

        log_r[rows] = bracketed(excess, *ends)
        theta[rows] = _solve_angle(self.source, log_r[rows])


class Direct:
    """The spectrum of one layer with orthogonal weights: λ = σ_w² φ′(h)² itself."""

    def __init__(self, law: SlopeLaw, log_sigma_w2: float, points: int) -> None:
        self.law = law
        self.shift = log_sigma_w2
        with np.errstate(divide="ignore"):
            places = np.where(law.atom_s > 0, np.log(law.atom_s) + log_sigma_w2, -np.inf)
        self.atoms = tuple(zip(places.tolist(), law.atom_p.tolist(), strict=True))
        self.edges = (np.nan, np.nan)
        y = np.zeros(0)
        if law.segments:
            low = min(float(seg.log_s[0]) for seg in law.segments)
            high = max(float(seg.log_s[-1]) for seg in law.segments)
            ended = law.support[0][0] > 0 and not self._dies_at(low)
            self.edges = (low + self.shift if ended else -np.inf, high + self.shift)
            psi = np.linspace(0, np.pi, 201)
            trial = low + (high - low) * np.sin(psi / 2) ** 2
            below = self._below(trial)
            start = trial[max(0, int(np.argmax(below > _NEGLIGIBLE)) - 1)]
            trial = start + (high - start) * np.sin(psi / 2) ** 2
            below = self._below(trial)
            blend = below / below[-1] + psi / np.pi
            place = np.interp((np.arange(points) + 0.5) * 2 / points, blend, psi)
            y = start + (high - start) * np.sin(place / 2) ** 2
        self.log_lambda = y + self.shift
        self.density = self.at(self.log_lambda)[0]

    def _dies_at(self, low: float) -> bool:
        """Return whether s is least where the Gaussian has ended."""
        ends = [seg for seg in self.law.segments if seg.log_s[0] <= low]
        places = [float(seg.h[0]) for seg in ends]
        return any(abs(h) > (REACH - 1e-6) * self.law.deviation for h in places)

    def _below(self, y: Array) -> Array:
        """Return the mass of the segments with log s ≤ y."""
        total = np.zeros_like(y)
        for seg in self.law.segments:
            h = self.law.inverse(seg, np.clip(y, seg.log_s[0], seg.log_s[-1]))
            rising = seg.h[-1] > seg.h[0]
            part = self.law.probability(seg.low, h) if rising else self.law.probability(h, seg.high)
            part = np.where(y >= seg.log_s[-1], self.law.probability(seg.low, seg.high), part)
            total += np.where(y <= seg.log_s[0], 0.0, part)
        return total

    def at(self, log_lambda: Array) -> tuple[Array, Array]:
        """Return the density and the mass of the continuous part below, each (n,)."""
        y = log_lambda - self.shift
        density = np.zeros_like(y)
        for seg in self.law.segments:
            rows = np.flatnonzero((y > seg.log_s[0]) & (y < seg.log_s[-1]))
            h = self.law.inverse(seg, y[rows])
            density[rows] += self.law.density(h) / np.abs(self.law.growth(h))
        return density, self._below(y)

    @cached_property
    def rule(self) -> tuple[Array, Array]:
        """Return log λ and weights of a rule for the continuous part, each (n,)."""
        h, _, w = self.law.line()
        return self.law.log_s(h) + self.shift, w
