"""One symmetric stable law at a time: density, tail and their derivatives, by contour and table.

With t = |t|e^{iθ} in the upper right quarter, f(x) = (1/π) Re ∫₀^∞ exp(ixt − t^α) dt for x > 0,
along any path that ends in |arg t| < π/2α. The path here goes up the imaginary axis to i·s₀ and
then away along a ray. On the axis the real part is exp(−xs − s^α cos(πα/2)) sin(s^α sin(πα/2)):
the power tail, to full relative accuracy however small sin(πα/2) is. The ray from i·s₀, the
saddle's height where there is one, is the core: at α = 2 it is the whole Gaussian. So neither
drowns in the other's rounding, and α = 1 is no special case.

Both rules are double-exponential, so that t^α at 0 costs nothing. A law keeps polynomials on panels
in log(1 + x²/b²) up to x = 20 and the series in x^{−α} beyond: a point costs one polynomial, not
200 complex exponentials.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev, polynomial
from numpy.typing import NDArray
from scipy import special

from mflib.theory._arrays import Array

Complex = NDArray[np.complexfloating[Any, Any]]

# What an integral's row holds; the derivatives are those of the density, once and twice.
ROWS = 7
DENSITY, TAIL, BY_X, BY_ALPHA, BY_X_X, BY_X_ALPHA, BY_ALPHA_ALPHA = range(ROWS)
_ODD = [BY_X, BY_X_ALPHA]
_WITH_ALPHA = [BY_ALPHA, BY_X_ALPHA, BY_ALPHA_ALPHA]

FAR = 20.0  # the series in x^{-alpha} begins here: its terms fall to 1e-16 for every alpha
_TERMS = 16
_DEGREE = 14
_NEWTON = 5  # steps from a start good to some percent
_LOG_REMOTE = 150.0  # of (tail at FAR)/p, from which on one term of the series is exact
_FEW = 32  # points that are done before a table is
_CHUNK = 1 << 14  # points whose polynomials stay in the cache

_LOG_2_ROOT_PI = np.log(4 * np.pi) / 2

# Twice the step of either costs half the digits; at these all are rounding's.
_AXIS_STEP, _RAY_STEP = 0.0625, 0.09


def axis_rule() -> tuple[Array, Array]:
    """Return nodes and weights on (0, 1)."""
    # the tail's integrand begins as s^(alpha-1): down to s = 1e-33 for alpha = 1/2
    k = np.arange(-63, 57) * _AXIS_STEP
    y = np.pi / 2 * np.sinh(k)
    return special.expit(2 * y), _AXIS_STEP * np.pi / 4 * np.cosh(k) / np.cosh(y) ** 2


def ray_rule(alpha: float) -> tuple[Array, Array]:
    """Return nodes and weights on (0, ∞), for decays on the scale 1."""
    # s = exp(u - e^-u) reaches where s^alpha is 45, or six widths of a Gaussian at x = FAR
    last = 4.2 / alpha if alpha <= 1 else 5.0
    u = np.arange(-3.7, last, _RAY_STEP)
    s = np.exp(u - np.exp(-u))
    return s, _RAY_STEP * s * (1 + np.exp(-u))


def corner(x: Array, alpha: float) -> Array:
    """Return s₀, (n,): the saddle's height, but below the sine's first turn and at least 0.1."""
    cos, sin = -np.cos(np.pi * (2 - alpha) / 2), np.sin(np.pi * (2 - alpha) / 2)
    turn = np.inf if sin == 0 else (1.5 / sin) ** (1 / alpha)
    height = np.full_like(x, turn)
    if alpha > 1 and cos < 0:
        with np.errstate(over="ignore", divide="ignore"):
            saddle = np.exp((np.log(x) - np.log(-alpha * cos)) / (alpha - 1))
        height = np.minimum(height, saddle)
    return np.maximum(height, 0.1)


def _tilts(value: Complex, t: Complex, power: Complex, log_t: Complex) -> Array:
    """Return the shares of ∂f/∂α, ∂²f/∂x∂α and ∂²f/∂α², (3, n), of one piece of the path."""
    first = -value * power * log_t
    return np.stack(
        [
            first.real.sum(1),
            -(first * t).imag.sum(1),
            (first * log_t * (1 - power)).real.sum(1),
        ]
    )


def integrals(x: Array, alpha: float) -> Array:
    """Return f, P(X > x) and the derivatives of f, (ROWS, n), at x in [0, ``FAR``]."""
    rest = np.pi * (2 - alpha) / 2
    turn = complex(-np.cos(rest), np.sin(rest))
    height = corner(x, alpha)[:, None]
    x = x[:, None]
    out = np.empty((ROWS, x.shape[0]))

    # the axis, t = is: the sine is kept by itself, as it may be as small as 2 - alpha
    y, weight = axis_rule()
    s = height * y
    log_s = np.log(s)
    power = np.exp(alpha * log_s)
    size = np.exp(-x * s - turn.real * power) * (weight * height)
    sine = size * np.sin(turn.imag * power)
    out[DENSITY] = sine.sum(1)
    out[TAIL] = (sine / s).sum(1)
    out[BY_X] = -(sine * s).sum(1)
    out[BY_X_X] = (sine * s * s).sum(1)
    value = sine + 1j * (size * np.cos(turn.imag * power))
    out[_WITH_ALPHA] = _tilts(value, 1j * s, power * turn, log_s + 0.5j * np.pi)

    # the ray, t = i s0 + s e^{i angle}; the decay's length is that of exp(-x s) or exp(-s^alpha)
    direction = np.exp(1j * np.pi / 4 * min(1.0, 2 / alpha - 1))
    s, weight = ray_rule(alpha)
    reach = direction / (1 / 1.5 + x)
    t = 1j * height + reach * s
    log_t = np.log(t)
    power_t = np.exp(alpha * log_t)
    value = np.exp(1j * x * t - power_t) * (reach * weight)
    out[DENSITY] += value.real.sum(1)
    out[TAIL] -= (value / t).imag.sum(1)
    out[BY_X] -= (value * t).imag.sum(1)
    out[BY_X_X] -= (value * t * t).real.sum(1)
    out[_WITH_ALPHA] += _tilts(value, t, power_t, log_t)
    return out / np.pi


def _interpolation() -> tuple[Array, Array, Array]:
    """Return Chebyshev's points, the matrix to the Chebyshev series, and on to the power series.

    Two steps, since their product would cancel: its entries are 1e4 times its results.
    """
    k = np.arange(_DEGREE + 1)
    angle = np.pi * (k + 0.5) / (_DEGREE + 1)
    to_series = 2 / (_DEGREE + 1) * np.cos(np.outer(k, angle))
    to_series[0] /= 2
    powers = np.zeros((_DEGREE + 1, _DEGREE + 1))
    for n, unit in enumerate(np.eye(_DEGREE + 1)):
        powers[: n + 1, n] = chebyshev.cheb2poly(unit[: n + 1])
    return np.cos(angle), to_series, powers


POINTS, _TO_SERIES, _TO_POWERS = _interpolation()


def to_powers(values: Array) -> Array:
    """Return the power series on [−1, 1] of values at ``POINTS``, both (..., points, panels)."""
    return np.ascontiguousarray(_TO_POWERS @ (_TO_SERIES @ values))


def curvature_length(alpha: float) -> float:
    """Return (−f/f″)^{1/2} √2 at x = 0, the length on which the density first turns over."""
    return float(np.sqrt(2) * np.exp((special.gammaln(1 / alpha) - special.gammaln(3 / alpha)) / 2))


class Law:
    """Hold the standard symmetric law of one alpha in [0.5, 2]: tables to ``FAR``, series beyond.

    The tables hold even functions, which are smooth in x²: f, f′/x, f″ and so on, and the tail's
    (1/2 − P(X > x))/x up to the quartile or so; beyond, where that would cancel, the tail itself.
    """

    def __init__(self, alpha: float) -> None:
        self.alpha = alpha
        width2 = curvature_length(alpha) ** 2
        # below alpha = 1 the series at 0 diverges, slowly near 1 and fast near 1/2
        inner2 = width2
        width2 *= np.exp(-8 * max(0.0, 1 / alpha - 1.1))
        core2 = 0.0
        if alpha > 1.5:
            # exp(-x^2/4) needs narrow panels, as far out as it counts beside the tail
            core2 = min(4 * (5 - np.log(max(2 - alpha, 1e-30))), FAR**2)
        self._b2 = max(width2, core2 / 2)
        per_log = max(2.5, (self._b2 + core2) / 10)
        length = np.log1p(FAR**2 / self._b2)
        self.panels = int(np.ceil(per_log * length))
        self._per_log = self.panels / length
        self._inner = int(self._per_log * np.log1p(inner2 / self._b2)) + 1

    @cached_property
    def _table(self) -> Array:
        """Return the power series of the even functions, (ROWS, degree + 1, panels)."""
        v = np.arange(self.panels)[:, None] + (1 + POINTS) / 2
        x = np.sqrt(self._b2 * np.expm1(v / self._per_log))
        values = integrals(x.ravel(), self.alpha).reshape(ROWS, *x.shape)
        values[_ODD] /= x
        inner = slice(self._inner)
        values[TAIL, inner] = (0.5 - values[TAIL, inner]) / x[inner]
        return to_powers(np.swapaxes(values, 1, 2))

    @cached_property
    def _series(self) -> Array:
        """Return c_k, dc_k/dα and d²c_k/dα² of f = Σ c_k x^{−αk−1}, k ≥ 1, (3, terms)."""
        k = np.arange(1.0, _TERMS + 1)
        turn = np.pi * k * (2 - self.alpha) / 2
        size = np.exp(special.gammaln(self.alpha * k + 1) - special.gammaln(k + 1)) / np.pi
        sine, cosine = size * np.sin(turn), -size * np.cos(turn) * np.pi * k / 2
        grow = k * special.digamma(self.alpha * k + 1)
        growth = grow**2 + k * k * special.polygamma(1, self.alpha * k + 1)
        first = grow * sine + cosine
        second = (growth - (np.pi * k / 2) ** 2) * sine + 2 * grow * cosine
        return np.stack([sine, first, second])

    def at(self, x: Array, *which: int) -> Array:
        """Return the asked rows of :func:`integrals` at any x ≥ 0, (len(which), n)."""
        out = np.empty((len(which), x.size))
        for start in range(0, x.size, _CHUNK):
            part, room = x[start : start + _CHUNK], out[:, start : start + _CHUNK]
            near = part < FAR
            if near.all():
                room[...] = self._near(part, which)
            else:
                room[:, near] = self._near(part[near], which)
                room[:, ~near] = self._far(part[~near], which)
        return out

    def log_density(self, x: Array) -> Array:
        """Return log f at any x ≥ 0, (n,), finite where f itself underflows."""
        if self.alpha == 2:
            return _gaussian_log(x)
        out = np.log(self.at(np.minimum(x, FAR), DENSITY)[0])
        far = x > FAR
        log_x = np.log(x[far])
        rest = polynomial.polyval(np.exp(-self.alpha * log_x), self._series[0])
        out[far] = np.log(rest) - (1 + self.alpha) * log_x
        return np.asarray(out)

    @cached_property
    def _knots(self) -> tuple[Array, Array]:
        v = np.linspace(0.0, self.panels, 4 * self.panels + 1)
        x = np.sqrt(self._b2 * np.expm1(v / self._per_log))
        return np.log(self.at(x, TAIL)[0])[::-1], x[::-1]

    def quantile(self, tail: Array) -> Array:
        """Return x ≥ 0 with P(X > x) = ``tail`` in (0, 1/2], (n,): Newton on the tail's log."""
        if self.alpha == 2:
            return np.asarray(-np.sqrt(2) * special.ndtri(tail))
        log_tail, knots = self._knots
        log_p = np.log(tail)
        x = np.interp(log_p, log_tail, knots)
        x *= np.exp(np.clip(log_tail[0] - log_p, 0.0, _LOG_REMOTE) / self.alpha)
        for _ in range(_NEWTON):
            f, above = self.at(x, DENSITY, TAIL)
            x = np.maximum(x + above / f * np.log1p((above - tail) / tail), 0.0)
        # so far out that the first term of the series is all, and f may underflow
        remote = log_tail[0] - log_p > _LOG_REMOTE
        with np.errstate(over="ignore"):
            x[remote] = np.exp(
                (np.log(self._series[0, 0] / self.alpha) - log_p[remote]) / self.alpha
            )
        return x

    def _near(self, x: Array, which: tuple[int, ...]) -> Array:
        if x.size <= _FEW and "_table" not in self.__dict__ and self.alpha < 2:
            return integrals(x, self.alpha)[list(which)]
        v = np.log1p(x * x / self._b2)
        v *= self._per_log
        panel = np.minimum(v.astype(np.intp), self.panels - 1)
        v -= panel
        v *= 2
        v -= 1
        out = np.empty((len(which), x.size))
        for row, function in enumerate(which):
            if self.alpha == 2 and function not in _WITH_ALPHA:
                out[row] = _gaussian(x, function)
                continue
            table, total = self._table[function], out[row]
            table[-1].take(panel, out=total)
            for coefficient in table[-2::-1]:
                total *= v
                total += coefficient.take(panel)
            if function in _ODD:
                total *= x
            elif function == TAIL:
                out[row] = np.where(panel < self._inner, 0.5 - x * total, total)
        return out

    def _far(self, x: Array, which: tuple[int, ...]) -> Array:
        c, first, second = self._series
        k = np.arange(1, _TERMS + 1)
        power = self.alpha * k + 1  # of 1/x, in the density
        log_x = np.log(x)
        y = np.exp(-self.alpha * log_x)

        def total(coefficients: Array) -> Array:
            return np.asarray(y * polynomial.polyval(y, coefficients))

        out = np.empty((len(which), x.size))
        for row, function in enumerate(which):
            if self.alpha == 2 and function not in _WITH_ALPHA:
                out[row] = _gaussian(x, function)
            elif function == DENSITY:
                out[row] = total(c) / x
            elif function == TAIL:
                out[row] = total(c / (self.alpha * k))
            elif function == BY_X:
                out[row] = -total(power * c) / x / x
            elif function == BY_X_X:
                out[row] = total(power * (power + 1) * c) / x / x / x
            elif function == BY_ALPHA:
                out[row] = (total(first) - log_x * total(k * c)) / x
            elif function == BY_X_ALPHA:
                out[row] = log_x * total(power * k * c) - total(power * first + k * c)
                out[row] /= x * x
            else:
                out[row] = total(second) - 2 * log_x * total(k * first)
                out[row] += log_x**2 * total(k * k * c)
                out[row] /= x
        return out


def _gaussian_log(x: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.asarray(-x * x / 4 - _LOG_2_ROOT_PI)


def _gaussian(x: Array, function: int) -> Array:
    if function == TAIL:
        return np.asarray(special.erfc(x / 2) / 2)
    density = np.exp(_gaussian_log(x))
    factor = {DENSITY: 1.0, BY_X: -x / 2, BY_X_X: x * x / 4 - 0.5}[function]
    return np.asarray(factor * density)


@lru_cache(maxsize=256)
def law(alpha: float) -> Law:
    """Return the law of alpha, its tables kept."""
    return Law(alpha)
