"""The symmetric α-stable law S_α(σ): exact and fast density, tails, score, draws and fits.

Its characteristic function is exp(−|σu|^α), shifted by the location: α = 2 is the Gaussian of
variance 2σ², α = 1 Cauchy's law of half-width σ. Below α = 2 the tails are powers,
P(|X| > x) → (2c_α/α)(x/σ)^{−α} with c_α = Γ(1+α) sin(πα/2)/π, and the variance is infinite.

>>> float(np.round(pdf(0.0, 1.0) * np.pi, 15))
1.0
>>> float(np.round(sf(1e12, 1.5) * 1e18 / (tail_constant(1.5) / 1.5), 12))
1.0
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from mflib.theory import _stable, _stable_fit, _stable_skewed
from mflib.theory._arrays import Array, broadcast, number

LOWEST_ALPHA = 0.5
METHODS = ("likelihood", "quantiles")
FEWEST = 20

# Beyond, where densities and their slopes would underflow, the leading power is all there is.
_FURTHEST = 1e50


def _arguments(
    x: ArrayLike, alpha: ArrayLike, scale: ArrayLike, location: ArrayLike
) -> tuple[Array, Array, Array]:
    """Return (x − location)/scale, alpha and scale, checked and broadcast together."""
    place, alphas, scales, shift = broadcast(
        x=number("x", x, -np.inf),
        alpha=number("alpha", alpha, LOWEST_ALPHA, 2.0),
        scale=number("scale", scale, np.finfo(np.float64).tiny),
        location=number("location", location, -np.inf),
    )
    return (place - shift) / scales, alphas, scales


def _by_alpha(
    compute: Callable[[_stable.Law, Array], Array], z: Array, alphas: Array, rows: int = 1
) -> Array:
    """Return ``compute(law, z)`` for each law's own points, (rows, *z.shape)."""
    out = np.empty((rows, z.size))
    z, flat = z.ravel(), alphas.ravel()
    if not z.size:
        return out.reshape(rows, *alphas.shape)
    if (flat == flat[0]).all():
        out[...] = compute(_stable.law(float(flat[0])), z)
    else:
        distinct, member = np.unique(flat, return_inverse=True)
        order = np.argsort(member, kind="stable")
        ends = np.cumsum(np.bincount(member, minlength=distinct.size))
        for alpha, own in zip(distinct, np.split(order, ends[:-1]), strict=True):
            out[:, own] = compute(_stable.law(float(alpha)), z[own])
    return out.reshape(rows, *alphas.shape)


def pdf(
    x: ArrayLike, alpha: ArrayLike, *, scale: ArrayLike = 1.0, location: ArrayLike = 0.0
) -> Array:
    """Return the density f(x) = (1/π) ∫₀^∞ cos((x − μ)u) exp(−(σu)^α) du.

    x real, alpha in [0.5, 2], scale σ > 0, location μ; they broadcast. The relative error is below
    1e-12 at every x: a table per alpha (some ms, kept), then some 50 ns a point. Raises ValueError
    for what is not finite or out of range. Chambers, Mallows and Stuck 1976; Zolotarev 1986.

    >>> float(np.round(pdf(3.0, 2.0, scale=0.5**0.5) * (2 * np.pi) ** 0.5, 9))  # exp(-9/2)
    0.011108997
    """
    z, alphas, scales = _arguments(x, alpha, scale, location)
    return np.asarray(
        _by_alpha(lambda law, at: law.at(np.abs(at), _stable.DENSITY), z, alphas)[0] / scales
    )


def logpdf(
    x: ArrayLike, alpha: ArrayLike, *, scale: ArrayLike = 1.0, location: ArrayLike = 0.0
) -> Array:
    """Return log f(x), finite also where :func:`pdf` underflows; arguments as there.

    >>> float(np.round(logpdf(100.0, 2.0), 9))  # -100²/4 - log(2√π)
    -2501.265512123
    """
    z, alphas, scales = _arguments(x, alpha, scale, location)
    log_f = _by_alpha(lambda law, at: law.log_density(np.abs(at)), z, alphas)[0]
    return np.asarray(log_f - np.log(scales))


def _upper(law: _stable.Law, z: Array) -> Array:
    tail = law.at(np.abs(z), _stable.TAIL)[0]
    return np.asarray(np.where(z < 0, 1 - tail, tail))


def cdf(
    x: ArrayLike, alpha: ArrayLike, *, scale: ArrayLike = 1.0, location: ArrayLike = 0.0
) -> Array:
    """Return P(X ≤ x), to full relative accuracy below the location; arguments as :func:`pdf`.

    Above the location, where it tends to 1, :func:`sf` keeps the digits.

    >>> float(np.round(cdf(-1.0, 1.0), 15))
    0.25
    """
    z, alphas, _ = _arguments(x, alpha, scale, location)
    return np.asarray(_by_alpha(lambda law, at: _upper(law, -at), z, alphas)[0])


def sf(
    x: ArrayLike, alpha: ArrayLike, *, scale: ArrayLike = 1.0, location: ArrayLike = 0.0
) -> Array:
    """Return P(X > x), to full relative accuracy above the location; arguments as :func:`pdf`.

    >>> float(np.round(sf(1e12, 1.0) * np.pi, 24))
    1e-12
    """
    z, alphas, _ = _arguments(x, alpha, scale, location)
    return np.asarray(_by_alpha(_upper, z, alphas)[0])


def ppf(
    p: ArrayLike, alpha: ArrayLike, *, scale: ArrayLike = 1.0, location: ArrayLike = 0.0
) -> Array:
    """Return x with P(X ≤ x) = p, for p in [0, 1]; ∓∞ at its ends. Other arguments as :func:`pdf`.

    The inverse of :func:`cdf` to relative 1e-13 in (x − μ)/σ, but near p = 1/2, where rounding of p
    is all there is. For small upper tails take −ppf of the tail, which loses nothing.

    >>> [float(x) for x in np.round(ppf([0.25, 1e-12], 1.0) * [1, np.pi / 1e12], 12)]
    [-1.0, -1.0]
    """
    levels, alphas, scales, shift = broadcast(
        p=number("p", p, 0.0, 1.0),
        alpha=number("alpha", alpha, LOWEST_ALPHA, 2.0),
        scale=number("scale", scale, np.finfo(np.float64).tiny),
        location=number("location", location, -np.inf),
    )

    def compute(law: _stable.Law, at: Array) -> Array:
        tail = np.minimum(at, 1 - at)
        size = np.full_like(at, np.inf)
        inner = tail > 0
        size[inner] = law.quantile(tail[inner])
        return np.where(at < 0.5, -size, size)

    return np.asarray(shift + scales * _by_alpha(compute, levels, alphas)[0])


def score(
    x: ArrayLike, alpha: ArrayLike, *, scale: ArrayLike = 1.0, location: ArrayLike = 0.0
) -> Array:
    """Return the derivatives of log f(x) by alpha, scale and location, (3, *shape).

    All three from their own integrals, not from differences. Arguments as :func:`pdf`. At
    alpha = 2 the first is the left derivative, of size exp(z²/4)/z³ at z = (x − μ)/σ: its mean is
    0 but its variance infinite, which is why the boundary has no ordinary standard error, and it
    is −inf beyond |z| ≈ 53.

    >>> [float(g) for g in np.round(score(1.0, 2.0, scale=2.0), 12)[1:]]
    [-0.4375, 0.125]
    """
    z, alphas, scales = _arguments(x, alpha, scale, location)

    def compute(law: _stable.Law, at: Array) -> Array:
        size = np.abs(at)
        inner = size if law.alpha == 2 else np.minimum(size, _FURTHEST)
        f, by_x, by_alpha = law.at(inner, _stable.DENSITY, _stable.BY_X, _stable.BY_ALPHA)
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            slope = -size / 2 if law.alpha == 2 else by_x / f
            tilt = np.where(f > 0, by_alpha / f, -np.inf)
            beyond = np.where(size > inner, size / inner, 1.0)
            return np.stack(
                [
                    tilt - np.log(beyond),
                    -1 - inner * slope,
                    -np.sign(at) * slope / beyond,
                ]
            )

    out = _by_alpha(compute, z, alphas, 3)
    out[1:] /= scales
    return out


def tail_constant(alpha: ArrayLike) -> Array:
    """Return c_α = Γ(1+α) sin(πα/2)/π, with f(x) → c_α x^{−1−α} as x → ∞ at scale 1.

    alpha in [0.5, 2], any shape; 0 at alpha = 2, to full relative accuracy just below it.

    >>> float(np.round(tail_constant(1.0) * np.pi, 15))
    1.0
    """
    alphas = number("alpha", alpha, LOWEST_ALPHA, 2.0)
    return np.asarray(special.gamma(1 + alphas) * np.sin(np.pi * (2 - alphas) / 2) / np.pi)


def sample(
    alpha: ArrayLike,
    size: int | tuple[int, ...],
    *,
    scale: ArrayLike = 1.0,
    location: ArrayLike = 0.0,
    rng: np.random.Generator,
) -> Array:
    """Draw from S_α(σ) shifted to ``location``; alpha, scale and location broadcast to ``size``.

    X = sin(αU)/cos(U)^{1/α} · (cos((1 − α)U)/W)^{(1−α)/α} with U uniform on (−π/2, π/2) and W
    exponential. The angle is counted from π/2, so that the cosines keep their digits where the
    tails are made, at alpha = 2 and 1 too. Chambers, Mallows and Stuck 1976.

    >>> sample(1.5, (2, 3), rng=np.random.default_rng(0)).shape
    (2, 3)
    """
    if not isinstance(rng, np.random.Generator):
        raise ValueError(f"rng = {rng!r} must be a numpy.random.Generator; make one from a seed.")
    alphas = number("alpha", alpha, LOWEST_ALPHA, 2.0)
    scales = number("scale", scale, np.finfo(np.float64).tiny)
    shift = number("location", location, -np.inf)
    from_edge = 1 - rng.random(size)  # in (0, 1]: 0 would be an infinite draw
    exponential = rng.standard_exponential(size)
    sign = 1.0 - 2.0 * rng.integers(0, 2, size)
    edge = np.pi / 2 * from_edge
    rest = np.pi / 2 * (2 - alphas)
    cosine = np.sin(edge)
    # sin(alpha U) and cos((1 - alpha) U), both turned by pi/2
    numerator = np.sin(rest + alphas * edge)
    ratio = np.sin(rest + (alphas - 1) * edge) / np.maximum(exponential, 1e-300)
    size_of = numerator * cosine ** (-1 / alphas) * ratio ** ((1 - alphas) / alphas)
    return np.asarray(shift + scales * sign * size_of)


# --- fits -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fit:
    """Hold a stable law fitted to ``n`` values, with its errors.

    ``alpha``, ``scale``, ``location`` and ``beta`` (0 unless skewed); ``standard_errors`` and
    ``intervals`` of confidence ``level`` by name, an error NaN where the estimate lies on the edge
    of its range (``at_boundary`` for alpha); ``log_likelihood`` at the estimate.
    """

    alpha: float
    scale: float
    location: float
    beta: float
    standard_errors: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    log_likelihood: float
    n: int
    method: str
    level: float
    at_boundary: bool

    def interval(self, name: str) -> tuple[float, float]:
        """Return the confidence interval (low, high) of "alpha", "scale", "location" or "beta"."""
        if name not in self.intervals:
            known = ", ".join(self.intervals)
            raise ValueError(f"{name!r} is not a parameter of this fit; they are {known}.")
        return self.intervals[name]

    def __str__(self) -> str:
        parts = [
            f"{name} = {getattr(self, name):.6g} [{low:.6g}, {high:.6g}]"
            for name, (low, high) in self.intervals.items()
        ]
        edge = ", alpha at the edge of its range" if self.at_boundary else ""
        return f"Stable law of {self.n} values by {self.method}{edge}: " + ", ".join(parts)


def _data(x: ArrayLike) -> tuple[Array, float, float]:
    """Return the values in units of their quartiles' distance from their median, and both."""
    values = number("x", x, -np.inf).ravel()
    if values.size < FEWEST:
        raise ValueError(f"x has {values.size} values: a fit needs at least {FEWEST}.")
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    unit = float(high - low)
    if not unit > 0:
        raise ValueError(
            f"At least half of the {values.size} values of x are {median:g}: a stable law has no "
            "atoms; leave out repeated values."
        )
    if not np.isfinite(unit):
        raise ValueError("The quartiles of x are further apart than floats reach; rescale x.")
    with np.errstate(over="ignore"):
        values = (values - median) / unit
    furthest = float(np.abs(values).max())
    if furthest > _FURTHEST:
        raise ValueError(
            f"The furthest value of x is {furthest:.1e} quartile distances from the median, beyond "
            f"{_FURTHEST:g}: no law of alpha >= {LOWEST_ALPHA} reaches so far; look for a fault."
        )
    return values, unit, float(median)


def fit(
    x: ArrayLike, *, method: str = "likelihood", skewed: bool = False, level: float = 0.95
) -> Fit:
    """Fit a stable law to values x of any shape.

    "likelihood" maximises Σ log f(x) over (α, σ, μ) on all values, by Newton's method with exact
    derivatives, to 1e-4 of a standard error or better; standard errors from the observed
    information. Intervals of level ``level`` are symmetric in α, log σ and μ, except that of α
    within four standard errors of 2. There the likelihood ratio is inverted: at α = 2 the score
    has infinite variance, and a Gaussian sample has its maximum exactly at 2 nine times in ten, so
    the ratio is not χ² but ruled by the largest value (``_stable_fit.boundary_drop``). The
    interval is equal-tailed; it ends at 2 where 2 is not rejected, and for Gaussian data it
    covers more often than ``level``, since it can miss on one side only.

    "quantiles" is McCulloch's (1986) estimate from the 5, 25, 50, 75 and 95 % quantiles, with
    the quantiles of this law in place of his printed tables, and standard errors by the delta
    method; α's interval is that of the ratio of spreads, read as α. Less efficient, but quick and
    safe where the data are not stable at all.

    ``skewed`` adds β in (−1, 1): log E exp(itX) = −|σt|^α (1 + iβ tan(πα/2) sign(t)
    (|σt|^{1−α} − 1)) + iμt, Nolan's form, continuous through α = 1. Its likelihood is taken over
    bins far narrower than the law, which moves it by a thousandth of a standard error, and its
    errors are by differences. As α nears 2, β loses its meaning: from 1.998 on the symmetric fit
    is returned, with NaN for the error of β and [−1, 1] for its interval.

    Raises ValueError for fewer than 20 values, values not finite or beyond 1e50 quartile distances,
    and for so many equal ones that the likelihood has no bound.

    >>> found = fit(sample(1.5, 10_000, scale=0.1, rng=np.random.default_rng(0)))
    >>> low, high = found.interval("alpha")
    >>> bool(low < 1.5 < high), found.at_boundary
    (True, False)
    """
    if method not in METHODS:
        raise ValueError(f"method = {method!r} is not one of {', '.join(METHODS)}.")
    if not 0 < float(level) < 1:
        raise ValueError(f"level = {level!r} is out of range: give a number between 0 and 1.")
    values, unit, median = _data(x)
    solution = (_SKEWED if skewed else _SYMMETRIC)[method](values, float(level))
    alpha, beta, log_scale, location = (float(t) for t in solution.theta)
    scale, middle = unit * float(np.exp(log_scale)), median + unit * location
    of_alpha, of_beta, of_log_scale, of_location = (float(e) for e in solution.errors)
    reach = float(special.ndtri((1 + level) / 2))
    spread = float(np.exp(reach * of_log_scale))
    away = unit * reach * of_location
    errors = {"alpha": of_alpha, "scale": scale * of_log_scale, "location": unit * of_location}
    intervals = {
        "alpha": solution.alpha_interval,
        "scale": (scale / spread, scale * spread),
        "location": (middle - away, middle + away),
    }
    if skewed:
        errors["beta"] = of_beta
        unknown = 2.0 if np.isnan(of_beta) else reach * of_beta
        intervals["beta"] = (max(beta - unknown, -1.0), min(beta + unknown, 1.0))
    return Fit(
        alpha=alpha,
        scale=scale,
        location=middle,
        beta=beta,
        standard_errors=errors,
        intervals=intervals,
        log_likelihood=solution.log_likelihood - values.size * float(np.log(unit)),
        n=values.size,
        method=method,
        level=float(level),
        at_boundary=bool(np.isnan(of_alpha)),
    )


@dataclass(frozen=True)
class _Solution:
    """Hold (α, β, log σ, μ) and their errors, (4,), for values in quartile distances."""

    theta: Array
    errors: Array
    alpha_interval: tuple[float, float]
    log_likelihood: float


def _around(alpha: float, error: float, level: float) -> tuple[float, float]:
    reach = float(special.ndtri((1 + level) / 2)) * error
    if np.isnan(reach):
        return LOWEST_ALPHA, 2.0
    return max(float(alpha - reach), LOWEST_ALPHA), min(float(alpha + reach), 2.0)


def _by_likelihood(values: Array, level: float) -> _Solution:
    top = _stable_fit.best(values)
    alpha, errors = float(top.theta[0]), np.full(3, np.nan)
    errors[3 - top.gradient.size :] = np.sqrt(np.diag(np.linalg.inv(-top.hessian)))
    reach = float(special.ndtri((1 + level) / 2)) * float(errors[0])
    if alpha - reach > LOWEST_ALPHA and alpha + 2 * reach < 2:
        interval = (alpha - reach, alpha + reach)
    else:
        interval = _stable_fit.profile_interval(values, top, level)
    return _Solution(
        np.insert(top.theta, 1, 0.0), np.insert(errors, 1, np.nan), interval, top.value
    )


def _by_quantiles(values: Array, level: float) -> _Solution:
    q = np.quantile(values, _stable_fit.LEVELS)
    alpha, scale, location = _stable_fit.by_quantiles(q)
    errors, interval = _stable_fit.quantile_errors(q, values.size, level)
    theta = np.array([alpha, np.log(scale), location])
    value = _stable_fit.likelihood(values, theta, 2).value
    return _Solution(np.insert(theta, 1, 0.0), np.insert(errors, 1, np.nan), interval, value)


def _by_skewed_likelihood(values: Array, level: float) -> _Solution:
    symmetric = _by_likelihood(values, level)
    if symmetric.theta[0] >= _stable_skewed.HIGH[0]:
        return symmetric
    theta, errors, value = _stable_skewed.maximise(values, symmetric.theta)
    if theta[0] >= _stable_skewed.HIGH[0]:
        return symmetric
    return _Solution(theta, errors, _around(theta[0], errors[0], level), value)


def _by_skewed_quantiles(values: Array, level: float) -> _Solution:
    q = np.quantile(values, _stable_fit.LEVELS)
    theta, errors = _stable_skewed.by_quantiles(q, values.size)
    if theta[0] >= _stable_skewed.HIGH[0] - 1e-6:
        return _by_quantiles(values, level)
    value = _stable_skewed.Likelihood(*_stable_skewed.binned(values))(theta)
    return _Solution(theta, errors, _around(theta[0], errors[0], level), value)


_SYMMETRIC = {"likelihood": _by_likelihood, "quantiles": _by_quantiles}
_SKEWED = {"likelihood": _by_skewed_likelihood, "quantiles": _by_skewed_quantiles}
