"""Maximum likelihood for the symmetric stable law: Newton's method with the exact Hessian.

The parameters are (α, log σ, μ). With z = (x − μ)/σ and g = log f the log-likelihood is
Σ g(z; α) − n log σ, and the tables hold every derivative of f that its Hessian asks for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.polynomial import Chebyshev
from scipy import optimize, special

from mflib.theory import _stable
from mflib.theory._arrays import Array

LOWEST, HIGHEST = 0.5, 2.0
LEVELS = np.array([0.05, 0.25, 0.5, 0.75, 0.95])

_SUBSET = 20_000  # entries that find the start for all the others
_DONE = 1e-9  # Newton's decrement: squared distance to the maximum, in standard errors
_MOST_STEPS = 200
# from here on alpha = 2 is nearer than any sample tells
_NEAREST = 1e-13
_LARGEST_STEP = 2.0  # in log sigma
_NARROWEST = -25.0  # log sigma, in quartile distances: only repeated values are so close


@dataclass(frozen=True)
class Point:
    """Hold the log-likelihood at (α, log σ, μ), its gradient (p,) and its Hessian (p, p)."""

    theta: Array
    value: float
    gradient: Array
    hessian: Array


def likelihood(x: Array, theta: Array, free: int = 3) -> Point:
    """Return the log-likelihood at ``theta``; with ``free`` 2 only derivatives by (log σ, μ)."""
    alpha, log_sigma, mu = (float(t) for t in theta)
    sigma = np.exp(log_sigma)
    z = (x - mu) / sigma
    size, sign = np.abs(z), np.sign(z)
    law = _stable.law(alpha)
    rows = [_stable.BY_X, _stable.BY_X_X]
    if free == 3:
        rows += [_stable.BY_ALPHA, _stable.BY_X_ALPHA, _stable.BY_ALPHA_ALPHA]
    if alpha == 2:
        slope, bend = -size / 2, np.full_like(size, -0.5)
        value = float(np.sum(law.log_density(size))) - x.size * log_sigma
        ratios = np.empty((0, x.size))
    else:
        f, *values = law.at(size, _stable.DENSITY, *rows)
        ratios = np.asarray(values) / f
        slope, bend = ratios[0], ratios[1] - ratios[0] ** 2
        value = float(np.sum(np.log(f))) - x.size * log_sigma
    u, w = size * slope, size * (size * bend)
    gradient = np.array([0.0, -u.sum() - x.size, -(sign @ slope) / sigma])
    hessian = np.zeros((3, 3))
    hessian[1, 1] = (u + w).sum()
    hessian[1, 2] = hessian[2, 1] = (sign @ (slope + size * bend)) / sigma
    hessian[2, 2] = bend.sum() / sigma**2
    if free == 3:
        _, _, tilt, mixed, curl = ratios
        mixed = mixed - slope * tilt
        gradient[0] = tilt.sum()
        hessian[0, 0] = (curl - tilt**2).sum()
        hessian[0, 1] = hessian[1, 0] = -(size @ mixed)
        hessian[0, 2] = hessian[2, 0] = -(sign @ mixed) / sigma
    kept = slice(3 - free, None)
    return Point(theta, value, gradient[kept], hessian[kept, kept])


def uphill(point: Point) -> Array:
    """Return Newton's step, turned uphill along directions in which the surface is not concave."""
    scale = np.sqrt(np.maximum(np.abs(np.diag(point.hessian)), 1e-300))
    eigenvalues, vectors = np.linalg.eigh(-point.hessian / np.outer(scale, scale))
    eigenvalues = np.maximum(np.abs(eigenvalues), 1e-3)
    return np.asarray(vectors @ ((vectors.T @ (point.gradient / scale)) / eigenvalues) / scale)


def _within(theta: Array, step: Array) -> Array:
    """Return theta + step, or short of it where that would leave the range of alpha."""
    new = theta + step
    room = HIGHEST - theta[0]
    if new[0] >= HIGHEST:
        # the likelihood is steep on the scale of 2 - alpha itself
        new = theta + step * (7 / 8 * room / step[0])
    return np.asarray(np.where([new[0] < LOWEST, False, False], LOWEST, new))


def _climb(x: Array, point: Point, step: Array, free: int) -> Point:
    """Return the point a step away, halved until it is no lower."""
    for halving in range(40):
        part = step * 0.5**halving
        trial = _within(point.theta, part) if free == 3 else point.theta + part
        new = likelihood(x, trial, free)
        # rounding of the sum is all there is to gain at the top
        if new.value >= point.value - 1e-13 * abs(point.value):
            break
    return new


def maximise(x: Array, theta: Array, free: int = 3) -> Point:
    """Return the maximum that Newton's method climbs to from ``theta``, alpha held if free = 2."""
    point = likelihood(x, theta, free)
    for _ in range(_MOST_STEPS):
        step = np.zeros(3)
        step[3 - free :] = uphill(point)
        step /= max(1.0, abs(step[1]) / _LARGEST_STEP)
        if free == 3 and point.theta[0] <= LOWEST and step[0] < 0:
            return maximise(x, point.theta, 2)
        decrement = float(step[3 - free :] @ point.gradient)
        point = _climb(x, point, step, free)
        if point.theta[1] < _NARROWEST:
            raise ValueError(
                f"The likelihood of these {x.size} values grows without bound as the scale shrinks "
                f"about {point.theta[2]:.6g} quartile distances from the median: many of them are "
                "equal there; leave out repeated values, or use method='quantiles'."
            )
        if decrement < _DONE or HIGHEST - point.theta[0] < _NEAREST:
            return point
    raise ValueError(
        f"The likelihood of these {x.size} values has no maximum that {_MOST_STEPS} steps of "
        "Newton's method find; look at a histogram, or use method='quantiles'."
    )


def gaussian(x: Array) -> Point:
    """Return the maximum at alpha = 2, which is the mean and half the variance."""
    mean = float(np.mean(x))
    log_sigma = 0.5 * np.log(np.mean((x - mean) ** 2) / 2)
    return likelihood(x, np.array([HIGHEST, log_sigma, mean]), 2)


def rises_to_two(x: Array, top: Point) -> bool:
    """Return whether the likelihood still rises with alpha where it reaches alpha = 2."""
    size = np.abs(x - top.theta[2]) / np.exp(top.theta[1])
    f, tilt = _stable.law(HIGHEST).at(size, _stable.DENSITY, _stable.BY_ALPHA)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        return bool(np.sum(np.where(f > 0, tilt / f, -np.inf)) >= 0)


def best(x: Array) -> Point:
    """Return the maximum over alpha in [1/2, 2]: at 2 where the likelihood rises up to it."""
    top = gaussian(x)
    if rises_to_two(x, top):
        return top
    theta = start(x)
    if x.size > 2 * _SUBSET:
        part = np.ascontiguousarray(x[:: x.size // _SUBSET])
        theta = maximise(part, theta).theta
        theta[0] = min(theta[0], HIGHEST - 1e-3)
    return maximise(x, theta)


# --- the interval of alpha beside 2 ---


def boundary_drop(n: int, tail: float) -> float:
    """Return the drop of twice the log-likelihood that Gaussian samples reach with chance ``tail``.

    The score at alpha = 2, r = −∂ log f/∂α ~ 2√π exp(z²/4)/|z|³, has mean 0 and a tail of index 1,
    so the largest of n values decides: with gap ε = 2 − α and r = M at that |z|, and the others'
    sum near its conditional mean −n/z², the log-likelihood rises by log(1 + εM) − εn/z², at most
    log R − 1 + 1/R with R = Mz²/n. Its law is not half a χ², and falls to 0 like 1/log n.
    """
    z = np.array([2 * special.erfcinv(tail / n)])
    f, tilt = _stable.law(HIGHEST).at(z, _stable.DENSITY, _stable.BY_ALPHA)
    rise = float(-tilt[0] / f[0] * z[0] ** 2 / n)
    return 2 * (np.log(rise) - 1 + 1 / rise) if rise > 1 else 0.0


def profile_interval(x: Array, top: Point, level: float) -> tuple[float, float]:
    """Return the interval of alpha by the likelihood ratio, with (σ, μ) at their best.

    The ratio is held to χ² with one degree of freedom, except on the side of alpha = 2: there
    :func:`boundary_drop` is the limit at the end, and χ² takes over as the tail's expected count
    of values beyond the largest Gaussian one, n ε/z², passes 1.
    """
    tail = (1 - level) / 2
    ordinary = float(special.chdtri(1, 1 - level))
    at_two = boundary_drop(x.size, tail)
    spread = 2 * float(special.erfcinv(tail / x.size))
    last = [top.theta]

    def ratio(gap: float) -> float:
        theta = last[0].copy()
        theta[0] = HIGHEST - gap
        # to the top: where (σ, μ) move far with alpha a single step may end anywhere, and the
        # ratio would depend on where the one before it ended
        with np.errstate(over="ignore", invalid="ignore"):  # such steps are halved
            point = maximise(x, theta, 2)
        last[0] = point.theta
        return 2 * (top.value - point.value)

    def below(log_gap: float) -> float:
        return ratio(float(np.exp(log_gap))) - ordinary

    def above(log_gap: float) -> float:
        gap = float(np.exp(log_gap))
        mixture = float(np.exp(-x.size * gap / spread**2))
        return ratio(gap) - at_two * mixture - ordinary * (1 - mixture)

    found = HIGHEST - float(top.theta[0])
    widest = HIGHEST - LOWEST
    low, high = LOWEST, HIGHEST
    near = far = max(found, 1 / x.size)
    while far < widest and below(np.log(far)) < 0:
        near, far = far, min(2 * far, widest)
    if near < far and below(np.log(far)) > 0:
        low = HIGHEST - np.exp(optimize.brentq(below, np.log(near), np.log(far), xtol=1e-3))
    last[0] = top.theta
    if found > 0 and 2 * (top.value - gaussian(x).value) > at_two:
        near, far = found, found / 2
        while above(np.log(far)) < 0:
            near, far = far, far / 2
        high = HIGHEST - np.exp(optimize.brentq(above, np.log(far), np.log(near), xtol=1e-3))
    return float(low), float(high)


# --- quantiles ---


@lru_cache(maxsize=1)
def _upper_quantiles() -> tuple[Chebyshev, Chebyshev]:
    """Return log of the standard law's upper quartile and 95 % quantile, as series in alpha."""
    nodes = np.cos(np.pi * (np.arange(24) + 0.5) / 24)
    tails = 1 - LEVELS[3:]
    alphas = (LOWEST + HIGHEST) / 2 + (HIGHEST - LOWEST) / 2 * nodes
    logs = np.log([_stable.law(float(alpha)).quantile(tails) for alpha in alphas])
    domain = [LOWEST, HIGHEST]
    first, second = (Chebyshev.fit(alphas, column, 23, domain=domain) for column in logs.T)
    return first, second


def standard_quantiles(alpha: float) -> Array:
    """Return the standard law's quantiles at ``LEVELS``, (5,)."""
    quartile, far = (float(np.exp(series(alpha))) for series in _upper_quantiles())
    return np.array([-far, -quartile, 0.0, quartile, far])


def _spread(alpha: float) -> float:
    """Return log (q₉₅/q₇₅) of the standard law, which falls with alpha."""
    quartile, far = (series(alpha) for series in _upper_quantiles())
    return float(far - quartile)


def _alpha_of(spread: float) -> float:
    """Return the alpha of a spread; the ends of its range stand for what is beyond them."""
    if spread <= _spread(HIGHEST):
        return HIGHEST
    if spread >= _spread(LOWEST):
        return LOWEST
    return float(optimize.brentq(lambda a: _spread(a) - spread, LOWEST, HIGHEST, xtol=1e-12))


def by_quantiles(q: Array) -> tuple[float, float, float]:
    """Return (α, σ, μ) from sample quantiles at ``LEVELS``, (5,), as McCulloch (1986) does."""
    alpha = _alpha_of(float(np.log((q[4] - q[0]) / (q[3] - q[1]))))
    return alpha, float((q[3] - q[1]) / (2 * standard_quantiles(alpha)[3])), float(q[2])


def start(x: Array) -> Array:
    """Return (α, log σ, μ) from which the likelihood is climbed."""
    alpha, sigma, mu = by_quantiles(np.quantile(x, LEVELS))
    return np.array([np.clip(alpha, 0.6, 1.95), np.log(sigma), mu])


def covariance_of_quantiles(f: Array, n: int) -> Array:
    """Return cov(q_i, q_j) = p_i (1 − p_j)/(n f_i f_j), i ≤ j, from the densities there, (5, 5)."""
    below = np.minimum.outer(LEVELS, LEVELS) - np.outer(LEVELS, LEVELS)
    return np.asarray(below / np.outer(f, f) / n)


def quantile_errors(q: Array, n: int, level: float) -> tuple[Array, tuple[float, float]]:
    """Return errors of (α, log σ, μ) by :func:`by_quantiles`, (3,), and the interval of alpha.

    By the delta method; the interval is that of the log spread, read as alpha, so that it holds
    at the ends of the range too, where alpha itself is stuck and its error NaN.
    """
    alpha, sigma, _ = by_quantiles(q)
    f = _stable.law(alpha).at(np.abs(standard_quantiles(alpha)), _stable.DENSITY)[0] / sigma
    covariance = covariance_of_quantiles(f, n)
    of_log_quartiles = np.array([0, -1, 0, 1, 0]) / (q[3] - q[1])
    of_spread = np.array([-1, 0, 0, 0, 1]) / (q[4] - q[0]) - of_log_quartiles
    edge = alpha in (LOWEST, HIGHEST)
    quartile, far = (float(series.deriv()(alpha)) for series in _upper_quantiles())
    of_alpha = of_spread * (0.0 if edge else 1 / (far - quartile))
    of_log_sigma = of_log_quartiles - quartile * of_alpha
    slopes = np.stack([of_alpha, of_log_sigma, np.array([0.0, 0, 1, 0, 0])])
    errors = np.sqrt(np.einsum("pi,ij,pj->p", slopes, covariance, slopes))
    if edge:
        errors[0] = np.nan
    spread = float(np.log((q[4] - q[0]) / (q[3] - q[1])))
    reach = float(special.ndtri((1 + level) / 2) * np.sqrt(of_spread @ covariance @ of_spread))
    return errors, (_alpha_of(spread + reach), _alpha_of(spread - reach))
