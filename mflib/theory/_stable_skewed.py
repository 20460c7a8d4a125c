"""The skewed stable law in Nolan's continuous (S0) form: density, tails and fits of all four.

log E exp(itX) = −|t|^α (1 + iβ tan(πα/2) sign(t) (|t|^{1−α} − 1)) at scale 1 and location 0, which
is continuous in α through 1. On t > 0 the last term is −iβκ(t) with κ(t) = tan(πα/2)(t − t^α), and
f(x) = (1/π) Re ∫₀^∞ exp(ixt − t^α + iβκ(t)) dt along the path of ``_stable``: up the imaginary axis
and away. Negative x are positive x of the law of −β.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import optimize

from mflib.theory import _stable, _stable_fit
from mflib.theory._arrays import Array, chunks

STEEPEST = 0.999  # of beta: at 1 one tail is gone, and with it the log of the density
_PANEL = 0.3
_FINEST = 1 / 250  # of a bin, in quartile distances near the median
_UNBINNED = 4000  # values that need no bins
_STEPS = np.array([1e-3, 2e-3, 1e-3, 1e-3])  # of (alpha, beta, log sigma, mu): differences


def _curved(t: _stable.Complex, log_t: _stable.Complex, alpha: float) -> _stable.Complex:
    """Return κ(t) = tan(πα/2)(t − t^α), (2/π) t log t at alpha = 1."""
    d = alpha - 1
    if abs(d) < 1e-12:
        return 2 / np.pi * t * log_t
    return np.asarray(t * np.expm1(d * log_t) / np.tan(np.pi * d / 2))


def integrals(x: Array, alpha: float, beta: float) -> Array:
    """Return the density and P(X > x), (2, n), at x ≥ 0."""
    out = np.empty((2, x.size))
    for part in chunks(x.size, 256):
        out[:, part] = _integrals(x[part], alpha, beta)
    return out


def _integrals(x: Array, alpha: float, beta: float) -> Array:
    # far out the axis is all: it ends where exp(-x s) is below rounding beside the power tail
    decayed = (45 + 2 * np.log1p(x)) / (x + 1e-300)
    corner = np.minimum(_stable.corner(x, alpha), decayed)[:, None]
    x = x[:, None]
    y, weight = _stable.axis_rule()
    t = 1j * corner * y
    log_t = np.log(corner * y) + 0.5j * np.pi
    lean = 1j * beta * _curved(t, log_t, alpha)
    value = 1j * np.exp(1j * x * t - np.exp(alpha * log_t) + lean) * (weight * corner)
    out = np.stack([value.real.sum(1), -(value / t).imag.sum(1)])

    shift = beta * np.tan(np.pi * alpha / 2)
    angle = (np.pi / 2 - abs(np.arctan(shift))) / (2 * alpha)
    angle = min(np.pi / 4 * min(1.0, 2 / alpha - 1), angle)
    if alpha < 1:
        # the linear term i(x + shift)t decides where the ray decays
        angle = np.where(x + shift < 0, -angle, angle)
    s, weight = _stable.ray_rule(alpha)
    reach = np.exp(1j * angle) / (1 / 1.5 + x)
    t = 1j * corner + reach * s
    log_t = np.log(t)
    lean = 1j * beta * _curved(t, log_t, alpha)
    value = np.exp(1j * x * t - np.exp(alpha * log_t) + lean) * (reach * weight)
    out += np.stack([value.real.sum(1), -(value / t).imag.sum(1)])
    return out / np.pi


class Law:
    """Hold the skewed law of one (alpha, beta) as polynomials on panels in asinh(x/unit)."""

    def __init__(self, alpha: float, beta: float, furthest: float) -> None:
        self.alpha, self.beta = alpha, beta
        # the density turns over on the scale of its own curvature at 0, 0.13 at alpha = 1/2
        self._unit = min(1.0, _stable.curvature_length(alpha))
        half = int(np.ceil(np.arcsinh(furthest / self._unit) / _PANEL)) + 1
        v = np.arange(half)[:, None] + (1 + _stable.POINTS) / 2
        x = self._unit * np.sinh(_PANEL * v).ravel()
        right, left = integrals(x, alpha, beta), integrals(x, alpha, -beta)
        f = np.concatenate([left[0].reshape(v.shape)[::-1, ::-1], right[0].reshape(v.shape)])
        self._half = half
        self._table = _stable.to_powers(f.T)

    def density(self, x: Array) -> Array:
        """Return f(x), at least the smallest normal float."""
        v = np.arcsinh(x / self._unit) / _PANEL + self._half
        panel = np.clip(v.astype(np.intp), 0, 2 * self._half - 1)
        v = 2 * (v - panel) - 1
        total = self._table[-1].take(panel)
        for coefficient in self._table[-2::-1]:
            total = total * v + coefficient.take(panel)
        return np.asarray(np.maximum(total, np.finfo(np.float64).tiny))

    @staticmethod
    def tail(x: Array, alpha: float, beta: float) -> Array:
        """Return P(X > x)."""
        right = integrals(np.abs(x), alpha, beta)[1]
        left = integrals(np.abs(x), alpha, -beta)[1]
        return np.asarray(np.where(x < 0, 1 - left, right))


# --- likelihood ---


def binned(x: Array) -> tuple[Array, Array]:
    """Return means and counts of x in narrow bins of asinh x, x in quartile distances.

    With the means as places, a bin of width h leaves the relative error h²/24 times the curvature
    of log f in the log-likelihood: 1e-6 for every value, a thousandth of a standard error of σ for
    a million of them.
    """
    if x.size <= _UNBINNED:
        return x, np.ones_like(x)
    bins = np.floor(np.arcsinh(x) / _FINEST).astype(np.int64)
    _, member = np.unique(bins, return_inverse=True)
    counts = np.bincount(member).astype(np.float64)
    return np.bincount(member, x) / counts, counts


class Likelihood:
    """Hold the log-likelihood of (α, β, log σ, μ) on weighted values, its last tables kept."""

    def __init__(self, x: Array, counts: Array) -> None:
        self._x, self._counts = x, counts
        self._law = lru_cache(maxsize=32)(self._build)

    def _build(self, alpha: float, beta: float, reach: float) -> Law:
        return Law(alpha, beta, reach)

    def __call__(self, theta: Array) -> float:
        alpha, beta, log_sigma, mu = (float(t) for t in theta)
        z = (self._x - mu) * np.exp(-log_sigma)
        # rounded up, so that a law serves all scales and locations nearby
        reach = float(np.exp2(np.ceil(np.log2(np.abs(z).max())) + 1))
        f = self._law(alpha, beta, reach).density(z)
        return float(self._counts @ np.log(f)) - float(self._counts.sum()) * log_sigma

    def derivatives(self, theta: Array) -> tuple[float, Array, Array]:
        """Return the value, gradient (4,) and Hessian (4, 4), by differences of second order."""
        steps = np.diag(_STEPS)
        centre = self(theta)
        up = np.array([self(theta + step) for step in steps])
        down = np.array([self(theta - step) for step in steps])
        hessian = np.diag(up + down - 2 * centre)
        for i in range(4):
            for j in range(i):
                both = self(theta + steps[i] + steps[j]) + self(theta - steps[i] - steps[j])
                hessian[i, j] = hessian[j, i] = (
                    both + 2 * centre - up[i] - down[i] - up[j] - down[j]
                ) / 2
        return centre, (up - down) / (2 * _STEPS), hessian / np.outer(_STEPS, _STEPS)


LOW = np.array([_stable_fit.LOWEST + 2e-3, -STEEPEST + 4e-3, -np.inf, -np.inf])
HIGH = np.array([_stable_fit.HIGHEST - 2e-3, STEEPEST - 4e-3, np.inf, np.inf])


def maximise(x: Array, theta: Array) -> tuple[Array, Array, float]:
    """Return the (α, β, log σ, μ) of largest likelihood, their errors (4,) and its value.

    Newton's method from ``theta`` with the derivatives above; what would leave the range stays on
    its edge while the rest goes on, and has NaN for its error.
    """
    likelihood = Likelihood(*binned(x))
    theta = np.clip(theta, LOW, HIGH)
    for _ in range(50):
        value, gradient, hessian = likelihood.derivatives(theta)
        stuck = ((theta <= LOW) & (gradient < 0)) | ((theta >= HIGH) & (gradient > 0))
        free = ~stuck
        point = _stable_fit.Point(theta, value, gradient[free], hessian[np.ix_(free, free)])
        step = np.zeros(4)
        step[free] = _stable_fit.uphill(point)
        decrement = float(step @ gradient)
        for halving in range(30):
            trial = np.clip(theta + step * 0.5**halving, LOW, HIGH)
            if likelihood(trial) >= value - 1e-12 * abs(value):
                break
        theta = trial
        if decrement < 1e-6:
            break
    value, _, hessian = likelihood.derivatives(theta)
    free = (theta > LOW) & (theta < HIGH)
    errors = np.full(4, np.nan)
    errors[free] = np.sqrt(np.diag(np.linalg.inv(-hessian[np.ix_(free, free)])))
    return theta, errors, value


# --- quantiles ---


def quantiles(alpha: float, beta: float) -> Array:
    """Return the standard law's quantiles at ``_stable_fit.LEVELS``, (5,), by Newton's method."""
    levels = 1 - _stable_fit.LEVELS
    x = _stable_fit.standard_quantiles(alpha)
    for _ in range(30):
        f = np.where(
            x < 0,
            integrals(np.abs(x), alpha, -beta)[0],
            integrals(np.abs(x), alpha, beta)[0],
        )
        step = (Law.tail(x, alpha, beta) - levels) / f
        x = x + np.clip(step, -1.0, 1.0)
        if np.abs(step).max() < 1e-10:
            break
    return np.asarray(x)


def _statistics(q: Array) -> Array:
    """Return McCulloch's ν_α and ν_β, the quartiles' distance and the median."""
    spread = q[4] - q[0]
    return np.array(
        [np.log(spread / (q[3] - q[1])), (q[4] + q[0] - 2 * q[2]) / spread, q[3] - q[1], q[2]]
    )


def by_quantiles(q: Array, n: int) -> tuple[Array, Array]:
    """Return (α, β, log σ, μ) by McCulloch's (1986) statistics, and their errors, (4,).

    The two shape statistics are solved for (α, β) with this law's own quantiles; what is beyond
    their range ends on its edge. Errors by the delta method, of the quantiles' joint law.
    """
    target = _statistics(q)

    def off(shape: Array) -> Array:
        ours = _statistics(quantiles(float(shape[0]), float(shape[1])))
        return np.asarray(ours[:2] - target[:2])

    alpha = float(np.clip(_stable_fit.by_quantiles(q)[0], LOW[0] + 0.01, HIGH[0] - 0.01))
    shape = optimize.least_squares(
        off, [alpha, 0.0], bounds=(LOW[:2], HIGH[:2]), diff_step=1e-4, xtol=1e-10
    ).x
    standard = quantiles(float(shape[0]), float(shape[1]))
    sigma = target[2] / (standard[3] - standard[1])
    theta = np.array([*shape, sigma, target[3] - sigma * standard[2]])

    def model(at: Array) -> Array:
        return np.asarray(at[3] + at[2] * quantiles(float(at[0]), float(at[1])))

    # d statistics/d theta and d statistics/d q, both by differences
    steps = np.array([1e-4, 1e-4, 1e-4 * sigma, 1e-4 * sigma])
    by_theta = np.column_stack(
        [
            (_statistics(model(theta + e)) - _statistics(model(theta - e))) / (2 * e.sum())
            for e in np.diag(steps)
        ]
    )
    by_q = np.column_stack(
        [
            (_statistics(q + e) - _statistics(q - e)) / (2 * e.sum())
            for e in np.eye(5) * 1e-5 * sigma
        ]
    )
    size = np.abs(standard)
    f = (
        np.where(
            standard < 0,
            integrals(size, *shape * [1, -1])[0],
            integrals(size, *shape)[0],
        )
        / sigma
    )
    covariance = _stable_fit.covariance_of_quantiles(f, n)
    slopes = np.linalg.solve(by_theta, by_q)
    errors = np.sqrt(np.diag(slopes @ covariance @ slopes.T))
    # of log sigma, as for the likelihood
    errors[2] /= sigma
    theta[2] = np.log(sigma)
    return theta, errors
