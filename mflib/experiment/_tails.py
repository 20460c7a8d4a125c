"""How heavy one sample's tails are: rival laws fitted to it, and what speaks for each."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import integrate, optimize, special, stats

from mflib.theory import stable

Array = NDArray[np.float64]
Tail = Callable[[Array], Array]

TAIL_SHARE, TAIL_LEAST = 0.01, 50
"""The tail is this share of the entries, and at least so many of them."""
BALANCED_LEAST = 100
SHAPIRO_VALID = 5000
"""Largest sample for which scipy's p-value of the Shapiro-Wilk test is calibrated."""
LAWS = ("gaussian", "stable", "student_t", "generalised_gaussian")
_LOG_NU = (math.log(0.2), math.log(1e4))
_LOG_EXPONENT = (math.log(0.2), math.log(20.0))


def describe(
    matrix: Array,
    *,
    taps: int,
    floor: float,
    level: float,
    skewed: bool,
    balanced: bool,
    seed: int,
) -> dict[str, Any]:
    """Return what ``weights.fit_weights`` tells of the entries of one matrix that exceed a floor.

    ``matrix``: (rows, columns), finite; ``taps`` neighbouring columns belong to one input. The
    entries with |w| > ``floor`` must not be all equal.
    """
    x = matrix[np.abs(matrix) > floor]
    ordered = np.sort(x)
    n = ordered.size
    mean, spread = float(np.mean(ordered)), float(np.std(ordered))
    law = stable.fit(ordered, level=level)
    quantiles = stable.fit(ordered, method="quantiles", level=level)
    at = {"scale": law.scale, "location": law.location}
    nu, t_location, t_scale = fit_student_t(ordered)
    exponent, g_location, g_scale = fit_generalised_gaussian(ordered)
    # log densities entry by entry: their differences tell how sure a likelihood ratio is
    log_f = {
        "gaussian": stats.norm.logpdf(ordered, mean, spread),
        "stable": stable.logpdf(ordered, law.alpha, **at),
        "student_t": _student_t_logpdf(ordered, nu, t_location, t_scale),
        "generalised_gaussian": stats.gennorm.logpdf(ordered, exponent, g_location, g_scale),
    }
    over_gaussian = {name: float(np.sum(log_f[name] - log_f["gaussian"])) for name in LAWS[1:]}
    if law.alpha == 2:
        over_gaussian["stable"] = 0.0  # the two laws are one; what is left is rounding
    criterion = {"gaussian": 0.0, **{name: gain - 1 for name, gain in over_gaussian.items()}}
    ks = {
        "stable": ks_distance(stable.cdf(ordered, law.alpha, **at)),
        "gaussian": ks_distance(special.ndtr((ordered - mean) / spread)),
        "student_t": ks_distance(special.stdtr(nu, (ordered - t_location) / t_scale)),
        "generalised_gaussian": ks_distance(
            stats.gennorm.cdf(ordered, exponent, g_location, g_scale)
        ),
    }
    if law.alpha == 2:
        ks["stable"] = ks["gaussian"]
    log_p = {name: log_kolmogorov(math.sqrt(n) * distance) for name, distance in ks.items()}
    low, high = law.interval("alpha")
    found: dict[str, Any] = {
        "alpha": law.alpha,
        "alpha_low": low,
        "alpha_high": high,
        "sigma": law.scale,
        "location": law.location,
        "at_boundary": bool(law.at_boundary),
        "alpha_quantiles": quantiles.alpha,
        "sigma_quantiles": quantiles.scale,
        "mean": mean,
        "standard_deviation": spread,
        "excess_kurtosis": excess_kurtosis(ordered),
        "excess_kurtosis_of_rows": excess_kurtosis_of_rows(matrix),
        "nu": nu,
        "exponent": exponent,
        "log_likelihood_gaussian": float(np.sum(log_f["gaussian"])),
        **{f"{name}_over_gaussian": gain for name, gain in over_gaussian.items()},
        "stable_over_gaussian_per_entry": over_gaussian["stable"] / n,
        "log_p_likelihood_ratio": log_p_boundary(2 * over_gaussian["stable"]),
        "student_t_over_stable_z": vuong(log_f["student_t"] - log_f["stable"]),
        "likeliest": max(criterion, key=lambda name: criterion[name]),
        **{f"ks_{name}": distance for name, distance in ks.items()},
        **{f"log_p_ks_{name}": value for name, value in log_p.items()},
        "log_p_ks_ratio": log_p["stable"] - log_p["gaussian"],
        **shapiro_wilk(x, seed),
    }
    if skewed:
        tilted = stable.fit(ordered, skewed=True, level=level)
        found |= {"alpha_skewed": tilted.alpha, "beta": tilted.beta}
    if balanced:
        found |= balanced_indices(matrix, taps, floor, seed)
    return found | _tail(ordered, law, mean, spread, (nu, t_location, t_scale))


def _tail(
    ordered: Array, law: Any, mean: float, spread: float, student: tuple[float, float, float]
) -> dict[str, float]:
    """Hold the largest entries against what each fitted law has there."""
    nu, t_location, t_scale = student

    def stable_tail(x: Array) -> Array:
        return 2 * stable.sf(x, law.alpha, scale=law.scale)

    def gaussian_tail(x: Array) -> Array:
        return 2 * special.ndtr(-x / spread)

    def student_tail(x: Array) -> Array:
        return 2 * special.stdtr(nu, -x / t_scale)

    found = {}
    for name, tail, centre in (
        ("stable", stable_tail, law.location),
        ("gaussian", gaussian_tail, mean),
        ("student_t", student_tail, t_location),
    ):
        largest = max(ordered[-1] - centre, centre - ordered[0])
        found[f"beyond_{name}"] = float(ordered.size * tail(np.array([largest]))[0])
    size = np.sort(np.abs(ordered - law.location))
    k = min(max(TAIL_LEAST, math.ceil(TAIL_SHARE * size.size)), size.size - 1)
    threshold = float(size[-k - 1])
    shape = pareto_shape(size[-k:] - threshold)
    return found | {
        "largest": float(size[-1] / law.scale),
        "tail_shape": shape,
        "tail_shape_error": (1 + shape) / math.sqrt(k) if shape > -0.5 else math.nan,
        "hill": hill(size, k),
        "hill_error": hill(size, k) / math.sqrt(k),
        "hill_stable": local_exponent(stable_tail, threshold),
        "hill_gaussian": local_exponent(gaussian_tail, threshold),
        "hill_student_t": local_exponent(student_tail, threshold),
    }


def balanced_indices(matrix: Array, taps: int, floor: float, seed: int) -> dict[str, float]:
    """Return α after outputs and inputs are brought to one scale each, and the same shuffled.

    NaN where an output or an input has fewer than 100 entries: too few to know its scale by.
    """
    if min(matrix.shape[1], matrix.shape[0] * taps) < BALANCED_LEAST:
        return {"alpha_balanced": math.nan, "alpha_balanced_shuffled": math.nan}
    rng = np.random.default_rng([seed, 0x6D6978])
    shuffled = rng.permutation(matrix.ravel()).reshape(matrix.shape)
    kept = np.abs(matrix) > floor
    mixed = np.abs(shuffled) > floor
    return {
        "alpha_balanced": stable.fit(balance(matrix, taps)[kept]).alpha,
        "alpha_balanced_shuffled": stable.fit(balance(shuffled, taps)[mixed]).alpha,
    }


def balance(matrix: Array, taps: int) -> Array:
    """Return a matrix divided by the root mean square of each row, then of each input's columns.

    What is left of w_ij = s_i t_j x_ij is x_ij, up to the errors of s_i and t_j.
    """
    rows = matrix / _root_mean_square(matrix, 1)
    by_input = rows.reshape(len(rows), -1, taps)
    result: Array = (by_input / _root_mean_square(by_input, (0, 2))).reshape(matrix.shape)
    return result


def _root_mean_square(x: Array, axis: int | tuple[int, ...]) -> Array:
    found = np.sqrt(np.mean(np.square(x), axis=axis, keepdims=True))
    return np.where(found > 0, found, 1.0)  # what is 0 throughout stays so


# --- rival laws -------------------------------------------------------------------------------


def fit_student_t(x: Array) -> tuple[float, float, float]:
    """Return (ν, location, scale) of Student's t of highest likelihood; ν in [0.2, 10⁴].

    f(x) = Γ((ν+1)/2) / (Γ(ν/2) √(νπ) s) · (1 + z²/ν)^{−(ν+1)/2}, z = (x − μ)/s; the power-law
    tail has the exponent ν, which may be anything, and the sum of many is Gaussian for ν > 2.
    """
    centre, unit = _centre_and_unit(x)
    y = (x - centre) / unit

    def loss(parameters: Array) -> tuple[float, Array]:
        log_nu, location, log_scale = parameters
        nu, scale = math.exp(log_nu), math.exp(log_scale)
        z = (y - location) / scale
        square = z * z
        log_term = np.log1p(square / nu)
        pull = (nu + 1) / (nu + square)
        value = (
            special.gammaln((nu + 1) / 2)
            - special.gammaln(nu / 2)
            - 0.5 * math.log(nu * math.pi)
            - log_scale
            - 0.5 * (nu + 1) * np.mean(log_term)
        )
        by_nu = 0.5 * (
            special.digamma((nu + 1) / 2)
            - special.digamma(nu / 2)
            - 1 / nu
            - np.mean(log_term)
            + np.mean(pull * square) / nu
        )
        by_location = np.mean(pull * z) / scale
        by_log_scale = np.mean(pull * square) - 1
        return -value, -np.array([nu * by_nu, by_location, by_log_scale])

    found = optimize.minimize(
        loss, [math.log(5.0), 0.0, 0.0], jac=True, method="L-BFGS-B",
        bounds=[_LOG_NU, (-10, 10), (-20, 20)], options={"ftol": 1e-14, "gtol": 1e-9},
    )  # fmt: skip
    log_nu, location, log_scale = found.x
    return math.exp(log_nu), centre + unit * float(location), unit * math.exp(log_scale)


def _student_t_logpdf(x: Array, nu: float, location: float, scale: float) -> Array:
    # scipy's goes through a generic path that costs ten times as much
    z = (x - location) / scale
    constant = (
        special.gammaln((nu + 1) / 2)
        - special.gammaln(nu / 2)
        - 0.5 * math.log(nu * math.pi)
        - math.log(scale)
    )
    result: Array = constant - 0.5 * (nu + 1) * np.log1p(z * z / nu)
    return result


def fit_generalised_gaussian(x: Array) -> tuple[float, float, float]:
    """Return (exponent, location, scale) of the generalised Gaussian of highest likelihood.

    f(x) = b / (2 s Γ(1/b)) · exp(−|(x − μ)/s|^b), b in [0.2, 20]: b = 2 is Gaussian, b = 1
    Laplace's. Its tails are heavier than Gaussian for b < 2 and yet no power law: all moments
    exist. The scale that fits best has a closed form, s^b = b ⟨|x − μ|^b⟩. For b < 1 every entry
    is a cusp of the likelihood as a function of μ; the location is then one near the median, at
    which the likelihood is below its highest by less than about one nat.
    """
    centre, unit = _centre_and_unit(x)
    y = (x - centre) / unit
    # an entry that coincides with the location must not make log 0
    smallest = np.finfo(np.float64).tiny

    def loss(parameters: Array) -> tuple[float, Array]:
        log_b, location = parameters
        b = math.exp(log_b)
        size = np.maximum(np.abs(y - location), smallest)
        log_size = np.log(size)
        power = np.exp(b * log_size)
        mean = float(np.mean(power))
        log_scale = math.log(b * mean) / b
        value = log_b - math.log(2) - special.gammaln(1 / b) - log_scale - 1 / b
        slope = float(np.mean(power * log_size)) / mean
        by_b = 1 / b + special.digamma(1 / b) / b**2 - (1 / b + slope) / b + log_scale / b
        by_b += 1 / b**2
        by_location = float(np.mean(power / size * np.sign(y - location))) / mean
        return -value, -np.array([b * by_b, by_location])

    found = optimize.minimize(
        loss, [math.log(1.5), 0.0], jac=True, method="L-BFGS-B",
        bounds=[_LOG_EXPONENT, (-10, 10)], options={"ftol": 1e-14, "gtol": 1e-9},
    )  # fmt: skip
    b, location = math.exp(found.x[0]), float(found.x[1])
    scale = (b * float(np.mean(np.abs(y - location) ** b))) ** (1 / b)
    return b, centre + unit * location, unit * scale


def _centre_and_unit(x: Array) -> tuple[float, float]:
    """Return the median and a width that is there even where half the entries are equal."""
    low, centre, high = np.quantile(x, [0.25, 0.5, 0.75])
    return float(centre), float(high - low) / 2 or float(np.std(x))


# --- tests ------------------------------------------------------------------------------------


def ks_distance(cdf: Array) -> float:
    """Return sup |F_n − F| from F at the sample in ascending order."""
    n = cdf.size
    steps = np.arange(n + 1) / n
    return float(max(np.max(steps[1:] - cdf), np.max(cdf - steps[:-1])))


def log_kolmogorov(root_n_distance: float) -> float:
    """Return log P(√n D > λ) by Kolmogorov's limit law, exact far beyond where P underflows.

    P = 2 Σ_{k≥1} (−1)^{k−1} e^{−2k²λ²} = 1 − √(2π)/λ Σ_{k≥1} e^{−(2k−1)²π²/(8λ²)}.

    The second series serves below λ = 1, where the first converges slowly.

    >>> round(log_kolmogorov(100.0), 6)
    -19999.306853
    """
    scaled = root_n_distance
    k = np.arange(1, 8)
    if scaled < 1:
        if scaled <= 0.04:
            return 0.0  # 1 − P is below 1e-300
        terms = np.exp(-((2 * k - 1) ** 2) * math.pi**2 / (8 * scaled**2))
        return math.log1p(-math.sqrt(2 * math.pi) / scaled * float(np.sum(terms)))
    signs = (-1.0) ** k[1:]
    rest = float(np.sum(-signs * np.exp(-2 * (k[1:] ** 2 - 1) * scaled**2)))
    return math.log(2) - 2 * scaled**2 + math.log1p(rest)


def log_p_boundary(ratio: float) -> float:
    """Return log P of a likelihood ratio 2Δℓ where the null lies on the boundary.

    Half the mass at 0, half χ² with one degree of freedom: P = ½ P(χ²₁ > 2Δℓ), and 1 at 0.
    """
    return float(special.log_ndtr(-math.sqrt(ratio))) if ratio > 0 else 0.0


def vuong(difference: Array) -> float:
    """Return Vuong's z of two laws that do not contain each other: Σ d / √(n var d)."""
    spread = float(np.std(difference))
    if spread == 0:
        return 0.0
    return float(math.sqrt(difference.size) * np.mean(difference) / spread)


def shapiro_wilk(x: Array, seed: int) -> dict[str, float]:
    """Return Shapiro-Wilk's W and p of all entries, and of at most 5000 drawn by ``seed``."""
    rng = np.random.default_rng([seed, 0x5368])
    some = x if x.size <= SHAPIRO_VALID else rng.choice(x, SHAPIRO_VALID, replace=False)
    with warnings.catch_warnings():
        # scipy warns of p beyond 5000 entries; the column's description says it
        warnings.filterwarnings("ignore", message=".*p-value may not be accurate.*")
        whole = stats.shapiro(x)
    part = stats.shapiro(some)
    return {
        "shapiro_w": float(whole.statistic),
        "shapiro_p": float(whole.pvalue),
        "shapiro_w_5000": float(part.statistic),
        "shapiro_p_5000": float(part.pvalue),
    }


# --- tails ------------------------------------------------------------------------------------


def hill(size: Array, k: int) -> float:
    """Return Hill's exponent of the k largest of |x| in ascending order: 1/⟨log |x|/u⟩.

    ``u`` is the next smaller one. Exact for a power law P(|x| > r) ∝ r^{−exponent} beyond u; its
    standard error is the exponent over √k.
    """
    return float(1 / np.mean(np.log(size[-k:] / size[-k - 1])))


def pareto_shape(excess: Array) -> float:
    """Return the shape ξ of the generalised Pareto law of highest likelihood.

    P(excess > y) = (1 + ξ y/s)^{−1/ξ}: a power law of exponent 1/ξ for ξ > 0, exponential at 0,
    bounded for ξ < 0. Unlike Hill's exponent it does not depend on where 0 is; far enough out it
    is 1/α ≥ ½ for a stable law with α < 2, and 0 for every law whose moments all exist. ξ is in
    [−1, 10]; its standard error is (1 + ξ)/√n for ξ > −½.
    """
    y = excess / np.mean(excess)

    def loss(parameters: Array) -> float:
        shape, log_scale = parameters
        z = y * math.exp(-log_scale)
        if abs(shape) < 1e-8:
            return float(log_scale + np.mean(z))
        inner = 1 + shape * z
        if inner.min() <= 0:
            return math.inf
        return float(log_scale + (1 + 1 / shape) * np.mean(np.log(inner)))

    found = optimize.minimize(
        loss, [0.1, 0.0], method="Nelder-Mead", bounds=[(-1, 10), (-20, 20)],
        options={"xatol": 1e-6, "fatol": 1e-10},
    )  # fmt: skip
    return float(found.x[0])


def local_exponent(tail: Tail, threshold: float) -> float:
    """Return what Hill's exponent beyond a threshold tends to for a law with P(|x| > r) = tail(r).

    1/⟨log |x|/u⟩ = P(|x| > u) / ∫₀^∞ P(|x| > u e^s) ds.

    For a stable law it approaches α only far out: near α = 2 it is far above 2 at any threshold
    within reach, so an exponent above 2 does not speak against a stable law by itself; one that
    differs from this does. NaN where the law has no mass beyond the threshold that can be told
    from 0.
    """
    s = np.linspace(0.0, 80.0, 8001)
    mass = np.asarray(tail(threshold * np.exp(s)))
    area = float(integrate.simpson(mass, x=s))
    return float(mass[0] / area) if area > 0 else math.nan


def excess_kurtosis(x: Array) -> float:
    """Return ⟨(x − m)⁴⟩/⟨(x − m)²⟩² − 3."""
    square = np.square(x - np.mean(x))
    return float(np.mean(square * square) / np.mean(square) ** 2 - 3)


def excess_kurtosis_of_rows(matrix: Array) -> float:
    """Return the excess kurtosis within rows, each standardised by its own mean and spread.

    A Gaussian matrix whose rows differ in scale has heavy tails as a whole and none within rows.
    For Gaussian rows of m entries the expected value is −6/(m + 1), which is taken out. NaN for
    rows of fewer than 8 entries.
    """
    columns = matrix.shape[1]
    if columns < 8:
        return math.nan
    square = np.square(matrix - matrix.mean(axis=1, keepdims=True))
    variance = square.mean(axis=1)
    live = variance > 0
    fourth = np.mean(np.square(square[live]), axis=1) / variance[live] ** 2
    return float(np.mean(fourth)) - 3 * (columns - 1) / (columns + 1)
