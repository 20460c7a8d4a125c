"""Singular values of the input-output Jacobian of wide random networks, by free probability.

J = Π_l D^l W^l with D^l = diag φ′(z^l), z ~ N(0, q*), has squared singular values λ whose law is
the free multiplicative convolution of L factors (Pennington, Schoenholz and Ganguli 2017, 2018).
Its mean is χ₁^L; dynamical isometry asks that all of it stays near 1. Spectra are in the variable
log λ, since their left tails reach e^-1000 at depths that matter.

>>> flat = spectrum("hard-tanh", 1.0, 0.02, 100)  # all but 1e-12 of the neurons are linear
>>> round(flat.atoms[-1][1], 6)
1.0
>>> float(np.round(spectrum("relu", 2.0, 1.0, 2).log_lambda_max, 6))  # an arcsine law on [0, 4]
1.386294
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import flint
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize

from mflib.theory import activations, mean_field
from mflib.theory._arrays import Array, broadcast, chunks, number
from mflib.theory._freeprob import Direct, Graph, Limit, Product, SlopeLaw
from mflib.theory._moments import SMALLEST_Q, refinement
from mflib.theory._moments import moments as gaussian_moments
from mflib.theory._quadrature import line_rule
from mflib.theory._roots import bracketed
from mflib.theory.activations import Activation

ENSEMBLES = ("orthogonal", "gaussian")
DEEPEST = 100_000

_NO_SLOPE = "phi' of {} is 0 everywhere at q = {:g}: J has no spectrum."


@dataclass(frozen=True)
class Spectrum:
    """Hold the law of log λ, λ the squared singular values: a curve and atoms.

    ``log_lambda`` ascending and ``density``, both (n,): the continuous part's density in log λ,
    λρ(λ), at points that follow both the range and the mass. ``atoms``: (log λ, mass), −inf for
    λ = 0. ``log_lambda_min`` and ``log_lambda_max``: edges of the continuous part, −inf where its
    tail has no end, NaN where there is no continuous part. Where φ′² peaks far out in the Gaussian
    (GELU and SiLU at small q), the upper edge is where the mass per unit of log λ falls to 1e-16.

    Plot against ``log_lambda``: λ itself leaves the range of floats at depths that matter.
    """

    log_lambda: Array
    density: Array
    atoms: tuple[tuple[float, float], ...]
    log_lambda_min: float
    log_lambda_max: float
    _source: Graph | Direct = field(repr=False, compare=False)

    @cached_property
    def continuous_mass(self) -> float:
        """Return the integral of the density, by quadrature: 1 less the atoms to about 1e-12."""
        return float(self._source.rule[1].sum())

    def density_at(self, log_lambda: ArrayLike) -> Array:
        """Return the density of log λ, any shape; 0 outside the bands, atoms left out."""
        return self._at(log_lambda)[0]

    def cdf(self, log_lambda: ArrayLike) -> Array:
        """Return P(log λ' ≤ log λ), atoms counted, any shape.

        Not integrated: the imaginary part of an elementary integral (see ``_freeprob``).
        """
        _, below = self._at(log_lambda)
        at = np.asarray(log_lambda, dtype=np.float64)
        for place, mass in self.atoms:
            # a caller's log λ of an atom may differ from ours by rounding
            below = below + mass * (at >= place - 1e-12 * (1 + abs(place)))
        return np.asarray(np.clip(below, 0.0, 1.0))

    def expectation(self, f: Callable[[Array], Array]) -> float:
        """Return E[f(log λ)], atoms counted; f must be finite at −inf where there is an atom at 0.

        >>> round(spectrum("tanh", 1.0, 0.1, 8).expectation(np.ones_like), 9)
        1.0
        """
        y, weight = self._source.rule
        places = np.array([place for place, _ in self.atoms])
        masses = np.array([mass for _, mass in self.atoms])
        return float(weight @ f(y) + (masses @ f(places) if places.size else 0.0))

    def _at(self, log_lambda: ArrayLike) -> tuple[Array, Array]:
        at = np.asarray(log_lambda, dtype=np.float64)
        if np.isnan(at).any():
            raise ValueError("log_lambda = nan is out of range: give real numbers or infinities.")
        density, below = self._source.at(at.ravel())
        return density.reshape(at.shape), below.reshape(at.shape)


def _spectrum(source: Graph | Direct) -> Spectrum:
    edges = source.edges
    return Spectrum(source.log_lambda, source.density, source.atoms, *edges, source)


# --- checks ---------------------------------------------------------------------------------------


def _whole(name: str, value: object, low: int, high: int) -> int:
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and low <= value <= high:
        return int(value)
    raise ValueError(f"{name} = {value!r} must be a whole number in [{low}, {high}].")


def _depths(depth: ArrayLike) -> Array:
    layers = number("depth", depth, 1.0, float(DEEPEST))
    if np.any(layers != np.floor(layers)):
        raise ValueError(f"depth = {depth!r} must be a whole number of layers, at least 1.")
    return layers


def _is_gaussian(ensemble: str) -> bool:
    if ensemble not in ENSEMBLES:
        raise ValueError(
            f"ensemble = {ensemble!r} is not known: give one of {', '.join(ENSEMBLES)}."
        )
    return ensemble == "gaussian"


def _one(name: str, value: ArrayLike, low: float) -> float:
    array = number(name, value, low)
    if array.size != 1:
        raise ValueError(f"{name} has shape {array.shape}: a spectrum takes one setting.")
    return float(array.ravel()[0])


def _setting(
    ensemble: str, sigma_w2: float, q: float, depth: int
) -> tuple[bool, float, float, int]:
    """Return the checked settings of one product of layers, the ensemble as a truth value."""
    return (
        _is_gaussian(ensemble),
        _positive("sigma_w2", _one("sigma_w2", sigma_w2, 0.0)),
        _one("q", q, 0.0),
        _whole("depth", depth, 1, DEEPEST),
    )


def _positive(name: str, value: float) -> float:
    if value <= 0:
        raise ValueError(f"{name} = {value:g} is out of range: give a value above 0.")
    return value


# --- spectra --------------------------------------------------------------------------------------


def spectrum(
    activation: str | Activation,
    sigma_w2: float,
    q: float,
    depth: int,
    *,
    ensemble: str = "orthogonal",
    points: int = 400,
) -> Spectrum:
    """Return the law of the squared singular values of J = Π D W over ``depth`` layers.

    W is σ_w times a Haar orthogonal matrix, or has entries N(0, σ_w²/N); φ′ is taken at N(0, q),
    so give q = q* of ``mean_field``. sigma_w2 > 0, q ≥ 0, depth from 1 to 100,000.

    Density plus atoms integrate to 1 to about 1e-12. For smooth φ, φ′² is known to rounding beside
    its spread: the relative error of the density is about 1e-16 over the relative deviation of φ′²
    (for tanh 1e-14 at q = 0.01, 5e-11 at q = 1e-6), and in tails 1e-16 over the mass left. Slopes
    φ′² below 1e-250 count as 0: for erf a mass of 1e-5 at q = 15 and 2e-3 at q = 30 joins the atom
    at λ = 0, for GELU 6e-6 at q = 30; for tanh and SiLU none. The Gaussian ends at 11 deviations.

    Atoms: P(φ′ = 0) at λ = 0; for orthogonal weights max(0, L P(φ′² = a) − L + 1) at (σ_w² a)^L.

    Raises ValueError for values out of range, and where φ′ = 0 everywhere.

    Source: Pennington, Schoenholz and Ganguli 2017 (master equation), 2018.

    >>> law = spectrum("linear", 1.0, 1.0, 1, ensemble="gaussian")  # Marchenko–Pastur
    >>> round(float(law.density_at(0.0)), 6)  # √3/(2π)
    0.275664
    """
    act = activations.get(activation)
    gaussian, sigma_w2, q, layers = _setting(ensemble, sigma_w2, q, depth)
    points = _whole("points", points, 8, 1_000_000)
    law = _law(act, q)
    if layers == 1 and not gaussian:
        return _spectrum(Direct(law, float(np.log(sigma_w2)), points))
    return _spectrum(Graph(Product(law, float(np.log(sigma_w2)), layers, gaussian), points))


def _law(act: Activation, q: float) -> SlopeLaw:
    law = SlopeLaw(act, q)
    if not law.segments and not np.any(law.atom_s > 0):
        raise ValueError(_NO_SLOPE.format(act.name, q))
    return law


def limit(kind: str, variance: float, *, points: int = 400) -> Spectrum:
    """Return the limit of orthogonal networks, depth → ∞ at χ₁ = 1 and relative variance v fixed.

    "bernoulli": φ′² in {0, 1} (hard-tanh) with L P(φ′ = 0) → v, S(x) = exp(−v x/(1 + x)): an atom
    1 − v at λ = e^v for v < 1, and a density with the tail v/(log λ)². "smooth": φ′² → φ′(0)²
    (tanh, erf, arctan) with L Var(φ′²)/E[φ′²]² → v, S(x) = exp(−v x). Both have mean 1 and
    m₂ = 1 + v. variance in (0, 1e6]. The Bernoulli curve runs to log λ of about −1e10, where 1e-10
    of its mass is left: plot it against log λ, and over the part that matters.

    Source: Pennington, Schoenholz and Ganguli 2018, the two universality classes.

    >>> round(limit("smooth", 0.25).expectation(lambda y: np.exp(2 * y)), 9)
    1.25
    """
    if kind not in ("bernoulli", "smooth"):
        raise ValueError(f"kind = {kind!r} is not known: give 'bernoulli' or 'smooth'.")
    v = _positive("variance", _one("variance", number("variance", variance, 0.0, 1e6), 0.0))
    points = _whole("points", points, 8, 1_000_000)
    return _spectrum(Graph(Limit(kind == "smooth", v), points))


# --- moments --------------------------------------------------------------------------------------


def _slope_moments(act: Activation, q: float, order: int) -> tuple[float, list[float]]:
    """Return log E[s] and E[(s/E[s] − 1)^k], k = 0 … order, s = φ′²."""
    law = _law(act, q)
    _, s, p = law.line()
    s, p = np.concatenate([s, law.atom_s]), np.concatenate([p, law.atom_p])
    mean = float(p @ s)
    centred = s / mean - 1
    return float(np.log(mean)), [float(p @ centred**k) for k in range(order + 1)]


def moments(
    activation: str | Activation,
    sigma_w2: float,
    q: float,
    depth: int,
    *,
    ensemble: str = "orthogonal",
    order: int = 4,
) -> Array:
    """Return log m_1 … log m_order, m_k the k-th moment of λ, shape (order,).

    m_k = [x^{k−1}] ((1 + x)/S(x))^k / k by Lagrange's inversion, S = S_{D²}^L S_{WWᵀ}^L a series of
    the moments of φ′²; order from 1 to 24. Relative error of m_k about 1e-15 k L.

    Raises ValueError for values out of range.

    >>> np.round(np.exp(moments("linear", 1.0, 1.0, 2, ensemble="gaussian")), 9)  # Fuss–Catalan
    array([ 1.,  3., 12., 55.])
    """
    act = activations.get(activation)
    gaussian, sigma_w2, q, layers = _setting(ensemble, sigma_w2, q, depth)
    order = _whole("order", order, 1, 24)
    log_mean, central = _slope_moments(act, q, order)
    k = np.arange(1, order + 1)
    scale = k * layers * (np.log(sigma_w2) + log_mean)
    # exact arithmetic on what the quadrature gave: the series' terms cancel
    with flint.ctx.workprec(256 + 64 * order):
        log_t = _log_t_series(central, order)
        plus = flint.arb_series([1, 1], order).log()
        power = layers * log_t + plus + (layers * plus if gaussian else 0)
        values = [
            float((int(j) * power).exp()[int(j) - 1].log() - flint.arb(int(j)).log()) for j in k
        ]
    return np.asarray(scale + np.array(values))


def _log_t_series(central: list[float], order: int) -> flint.arb_series:
    """Return −log S of s/E[s] as a series in x with ``order`` terms."""
    binomial = [[flint.arb(1)]]
    for n in range(1, order + 1):
        last = binomial[-1]
        middle = [last[i] + last[i + 1] for i in range(n - 1)]
        binomial.append([flint.arb(1), *middle, flint.arb(1)])
    exact = [flint.arb(1), flint.arb(0), *(flint.arb(c) for c in central[2:])]
    raw = [
        sum((b * c for b, c in zip(row, exact, strict=False)), flint.arb(0)) for row in binomial[1:]
    ]
    # x = Σ m_k y^k; y = x S/(1 + x)
    inverse = flint.arb_series([0, *raw], order + 1).reversion()
    ratio = flint.arb_series([inverse[i + 1] for i in range(order)], order)
    return -(ratio.log() + flint.arb_series([1, 1], order).log())


def slope_ratio(activation: str | Activation, q: ArrayLike) -> Array:
    """Return μ₂/μ₁², μ_k = E[φ′(u)^{2k}], u ~ N(0, q): 1 where all slopes are equal.

    q ≥ 0, any shape; q = 0 is the limit. Raises ValueError for values out of range.

    >>> slope_ratio("relu", [0.1, 3.0])
    array([2., 2.])
    """
    act = activations.get(activation)
    return 1 + _slope_variance(act, number("q", q, 0.0))


def _slope_variance(act: Activation, q: Array) -> Array:
    """Return E[(s/E[s] − 1)²], s = φ′², any shape."""
    flat, rows = np.unique(np.maximum(q.ravel(), SMALLEST_Q), return_inverse=True)
    out = np.empty_like(flat)
    refine = 2 * (1.0 if act.piecewise_linear else refinement(act))
    for part in chunks(flat.size, 4000):
        x, w = line_rule(flat[part], act.kinks, even=act.odd, refine=refine)
        s = act.d1(x) ** 2
        mean = np.sum(w * s, axis=1)
        if not np.all(mean > 0):
            at = flat[part][~(mean > 0)][0]
            raise ValueError(
                f"phi' of {act.name} is 0 everywhere at q = {at:g}: J has no spectrum."
            )
        out[part] = np.sum(w * (s / mean[:, None] - 1) ** 2, axis=1)
    return np.asarray(out[rows.ravel()].reshape(q.shape))


def relative_variance(
    activation: str | Activation, q: ArrayLike, depth: ArrayLike, *, ensemble: str = "orthogonal"
) -> Array:
    """Return m₂/m₁² − 1 of λ: L(μ₂/μ₁² − 1) for orthogonal weights, L μ₂/μ₁² for Gaussian ones.

    It does not depend on σ_w². q ≥ 0, depth ≥ 1, broadcast together. Raises ValueError for values
    out of range.

    Source: Pennington, Schoenholz and Ganguli 2017, the variance of the spectrum at criticality.

    >>> relative_variance("relu", 1.0, [10, 20], ensemble="orthogonal")
    array([10., 20.])
    """
    act = activations.get(activation)
    gaussian = _is_gaussian(ensemble)
    variance, layers = broadcast(q=number("q", q, 0.0), depth=_depths(depth))
    return np.asarray(layers * (_slope_variance(act, variance) + gaussian))


def largest(
    activation: str | Activation,
    sigma_w2: ArrayLike,
    q: ArrayLike,
    depth: ArrayLike,
    *,
    ensemble: str = "orthogonal",
) -> Array:
    """Return log λ_max: the upper edge as ``spectrum`` has it, or the atom above it.

    sigma_w2 > 0, q ≥ 0, depth ≥ 1, broadcast together. At χ₁ = 1 and depth → ∞, λ_max/L → e μ₂/μ₁²
    for Gaussian weights and e (μ₂/μ₁² − 1) for orthogonal ones. Absolute error about 1e-15 L.

    Raises ValueError for values out of range.

    Source: Pennington, Schoenholz and Ganguli 2018, whose edge is where dz/dx = 0.

    >>> float(np.round(np.exp(largest("linear", 1.0, 1.0, 1, ensemble="gaussian")), 9))
    4.0
    """
    act = activations.get(activation)
    gaussian = _is_gaussian(ensemble)
    weights, variance, layers = broadcast(
        sigma_w2=number("sigma_w2", sigma_w2, 0.0), q=number("q", q, 0.0), depth=_depths(depth)
    )
    if np.any(weights == 0):
        raise ValueError("sigma_w2 = 0 is out of range: give values above 0.")
    out = np.array(layers * np.log(weights))
    for value in np.unique(variance):
        law = _law(act, float(value))
        for count in np.unique(layers[variance == value]):
            here = (variance == value) & (layers == count)
            out[here] += Product(law, 0.0, int(count), gaussian).upper_edge()
    return out


# --- the critical line ----------------------------------------------------------------------------


@dataclass(frozen=True)
class LeastSlopeRatio:
    """Hold the least μ₂/μ₁² on a critical line and where; q = 0 is a limit, NaN means any q."""

    ratio: float
    q: float
    sigma_w2: float
    sigma_b2: float


@dataclass(frozen=True)
class CriticalPoint:
    """Hold a point of the critical line and the relative variance of λ there."""

    q: float
    sigma_w2: float
    sigma_b2: float
    relative_variance: float


_GRID = 10.0 ** np.linspace(-12, 6, 361)


def _admissible(act: Activation) -> NDArray[np.bool_]:
    """Return where on the grid χ₁ = 1 at a stable q with σ_b² = q − E[φ²]/E[φ′²] ≥ 0."""
    square, slope, growth = gaussian_moments(act, _GRID)
    return _not_negative(1 - square / slope / _GRID) & _not_negative(1 - growth / slope)


def _not_negative(excess: Array) -> NDArray[np.bool_]:
    """Return the sign of a difference along the grid of q.

    It is rounding where φ is still linear: there the sign is that of the leading term, which shows
    at the next q that is large enough.
    """
    clear = np.flatnonzero(np.abs(excess) > 1e-10)
    if clear.size == 0:
        return np.ones(excess.size, dtype=bool)
    first = np.minimum(np.searchsorted(clear, np.arange(excess.size)), clear.size - 1)
    return np.asarray(excess[clear[first]] > 0)


def least_slope_ratio(activation: str | Activation) -> LeastSlopeRatio:
    """Return the least μ₂/μ₁² on the line χ₁ = 1, σ_w² = 1/μ₁(q), σ_b² = q − σ_w² E[φ²] ≥ 0.

    Only stable q count: q → 0 and 1e-12 to 1e6. Dynamical isometry at any depth needs a ratio near
    1, since the relative variance of λ is at least L(ratio − 1). Raises ValueError where the line
    is empty.

    >>> round(least_slope_ratio("sigmoid").ratio, 2)
    4.45
    """
    act = activations.get(activation)
    if act.homogeneous:
        ratio = float(1 + _slope_variance(act, np.ones(1))[0])
        slope = float(gaussian_moments(act, np.ones(1))[1][0])
        return LeastSlopeRatio(ratio, np.nan, 1 / slope, 0.0)
    valid = _admissible(act)
    if not valid.any():
        raise ValueError(f"{act.name} has chi_1 = 1 at no stable q with sigma_b2 >= 0.")
    variance = np.where(valid, _slope_variance(act, _GRID), np.inf)
    i = int(np.argmax(variance <= variance.min() + 1e-13))
    log_q = np.log(_GRID)
    if i == 0:
        origin = np.zeros(1)
        ratio = float(1 + _slope_variance(act, origin)[0])
        slope = float(gaussian_moments(act, origin)[1][0])
        return LeastSlopeRatio(ratio, 0.0, 1 / slope, 0.0)
    low, high = log_q[i - 1], log_q[min(i + 1, log_q.size - 1)]
    for end, beside in ((i - 1, 0), (min(i + 1, valid.size - 1), 1)):
        if not valid[end]:
            edge = _zero_bias(act, *sorted((log_q[i], log_q[end])))
            low, high = (edge, high) if beside == 0 else (low, edge)
    found = optimize.minimize_scalar(
        lambda y: float(_slope_variance(act, np.exp(np.array([y])))[0]),
        bounds=(low, high),
        method="bounded",
        options={"xatol": 1e-9},
    )
    best = min(((float(found.fun), float(found.x)), *_ends(act, low, high)))
    q = float(np.exp(best[1]))
    at = mean_field.critical_at(act, q)
    return LeastSlopeRatio(1 + best[0], q, float(at.sigma_w2), float(at.sigma_b2))


def _ends(act: Activation, low: float, high: float) -> list[tuple[float, float]]:
    values = _slope_variance(act, np.exp(np.array([low, high])))
    return list(zip(values.tolist(), (low, high), strict=True))


def _zero_bias(act: Activation, low: float, high: float) -> float:
    """Return log q where σ_b² = 0 on the critical line."""
    root = bracketed(
        lambda _, y: mean_field._bias_at_criticality(act, np.exp(y)) / np.exp(y),
        np.array([low]),
        np.array([high]),
    )
    return float(root[0])


def critical_point(
    activation: str | Activation,
    depth: int,
    *,
    variance: float = 0.25,
    ensemble: str = "orthogonal",
) -> CriticalPoint:
    """Return the point of least q on χ₁ = 1 where λ at ``depth`` has this relative variance.

    Solves L(μ₂/μ₁² − 1) = v (Gaussian: L μ₂/μ₁² = v) along σ_w² = 1/μ₁(q), σ_b² = q − σ_w² E[φ²];
    for tanh and orthogonal weights q ≈ √(v/8L). Relative error of q about 1e-8 or better.

    Raises ValueError for values out of range and where no such point has σ_b² ≥ 0 and q as its
    fixed point: ReLU and the logistic sigmoid, whose ratio stays far from 1, Gaussian weights
    deeper than v.

    >>> point = critical_point("tanh", 1000, variance=0.1)
    >>> round(point.q, 5), round(point.sigma_w2, 5), round(point.relative_variance, 9)
    (0.0036, 1.00716, 0.1)
    """
    act = activations.get(activation)
    gaussian = _is_gaussian(ensemble)
    layers = _whole("depth", depth, 1, DEEPEST)
    v = _positive("variance", _one("variance", variance, 0.0))
    target = v / layers - gaussian
    where = f"{act.name} at depth {layers} with {ensemble} weights"
    if act.homogeneous:
        value = layers * (float(_slope_variance(act, np.ones(1))[0]) + gaussian)
        raise ValueError(
            f"{where} has relative variance {value:g} at every critical point, never {v:g}: give "
            "an activation whose slope varies with q."
        )
    valid = _admissible(act)
    slope_variance = _slope_variance(act, _GRID)
    excess = np.where(valid, slope_variance, np.nan) - target
    at = np.flatnonzero((excess[:-1] <= 0) & (excess[1:] > 0))
    if not valid.any():
        raise ValueError(f"{act.name} has chi_1 = 1 at no stable q with sigma_b2 >= 0.")
    if target <= 0 or at.size == 0:
        reachable = layers * (slope_variance[valid] + gaussian)
        raise ValueError(
            f"{where} has relative variances from {reachable.min():.4g} to {reachable.max():.4g} "
            f"on its critical line, not {v:g}: give another variance, depth or activation."
        )
    y = bracketed(
        lambda _, y: np.log(np.maximum(_slope_variance(act, np.exp(y)), 1e-300) / target),
        np.log(_GRID[at[:1]]),
        np.log(_GRID[at[:1] + 1]),
    )
    reached = layers * (float(_slope_variance(act, np.exp(y))[0]) + gaussian)
    q = float(np.exp(y[0]))
    at_q = mean_field.critical_at(act, q)
    return CriticalPoint(q, float(at_q.sigma_w2), float(at_q.sigma_b2), reached)
