"""Where trained networks end: statistics of trainability grids against ξ_c.

Kept apart from the training itself, so that a better statistic makes no trained network stale.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import optimize, stats

FloatArray = np.ndarray


@dataclasses.dataclass(frozen=True)
class Interval:
    """An estimate with its bootstrap interval, and the share of resamples that gave a number."""

    value: float
    lower: float
    upper: float
    level: float
    usable: float


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Average a trainability table over seeds.

    One row per (alpha where there is one, sigma_w2, depth, learning_rate): for each measure ``m``
    its mean ``m`` and its sample standard deviation over seeds ``m_std`` (NaN for one seed), the
    number of ``seeds`` and the share ``diverged``.
    """
    by = [c for c in ("alpha", "sigma_w2", "depth", "learning_rate", "step") if c in frame]
    measures = ["train_accuracy", "test_accuracy", "train_loss", "test_loss"]
    groups = frame.groupby(by, sort=True)
    spread = groups[measures].std(ddof=1).add_suffix("_std")
    counts = groups.agg(seeds=("seed", "nunique"), diverged=("diverged", "mean"))
    return groups[measures].mean().join(spread).join(counts).reset_index()


def bootstrap(
    statistic: Callable[[FloatArray], float],
    n: int,
    *,
    seed: int,
    groups: ArrayLike | None = None,
    resamples: int = 1000,
    level: float = 0.95,
) -> Interval:
    """Return ``statistic`` of all points with its percentile bootstrap interval.

    ``statistic(index)`` is evaluated on index arrays into the n points: 0 … n − 1 first, then
    ``resamples`` draws with replacement. With ``groups`` (n,) whole groups are drawn, which is
    right where the points of a group are not independent. Resamples on which the statistic is
    not finite are left out, and their share is told.

    Raises ValueError for no points or a level outside (0, 1).
    """
    if n < 1 or not 0 < level < 1 or resamples < 1:
        raise ValueError(
            f"n={n}, resamples={resamples}, level={level}: "
            "need points, resamples, and a level in (0, 1)"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a resample may be constant; it is counted as unusable
        values = [statistic(drawn) for drawn in _resample(n, groups, resamples, seed)]
    return _interval(statistic(np.arange(n)), np.array(values), level)


def _resample(n: int, groups: ArrayLike | None, resamples: int, seed: int) -> Iterator[FloatArray]:
    """Yield index arrays into n points, drawn with replacement by point or by whole group."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) if groups is None else np.asarray(groups)
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    for _ in range(resamples):
        drawn = rng.integers(len(members), size=len(members))
        yield np.concatenate([members[k] for k in drawn])


def _interval(value: float, values: FloatArray, level: float) -> Interval:
    good = values[np.isfinite(values)]
    tail = 50 * (1 - level)
    lower, upper = np.percentile(good, [tail, 100 - tail]) if len(good) else (np.nan, np.nan)
    return Interval(float(value), float(lower), float(upper), level, len(good) / len(values))


@dataclasses.dataclass(frozen=True)
class MultipleFit:
    """How well depth = k ξ_c separates trained from untrained networks.

    ``k`` with its interval; ``plateau``: the fitted accuracy far inside; ``steepness``: the
    fitted exponent s; ``misclassified``: the share of points for which "accuracy above half-way
    between chance and plateau" and "depth < k ξ_c" disagree; ``base_rate``: that share for the
    better of "all trained" and "none trained"; ``spearman``: the rank correlation of accuracy
    with depth/ξ_c with its interval; ``n``: the points used.
    """

    k: Interval
    plateau: float
    steepness: float
    misclassified: float
    base_rate: float
    spearman: Interval
    n: int


def fit_multiple(
    accuracy: ArrayLike,
    depth: ArrayLike,
    xi_c: ArrayLike,
    *,
    chance: float,
    groups: ArrayLike | None = None,
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
) -> MultipleFit:
    """Fit the multiple k of ξ_c at which accuracy has fallen half-way to chance.

    Criterion: least squares of  a = chance + A / (1 + (D / (k ξ_c))^s)  over k, s and A ≥ 0
    (k on a grid of 2 % steps over the observed depth/ξ_c, s on one of 16 values from 1 to 32,
    A in closed form). A smooth curve rather than a count of points on the wrong side: the
    bootstrap of such a count's minimum covers too seldom. k is NaN where the best curve has its
    fall at the edge of the observed depth/ξ_c, that is, where no fall is seen.

    ``accuracy``, ``depth``, ``xi_c``: equal shapes (n,), one entry per network or point; ξ_c may
    be ∞ (predicted trained at every depth); points where it is NaN are left out. ``groups``
    (n,): points resampled together. Intervals are percentile bootstrap.

    Raises ValueError for shapes that differ or no usable point.
    """
    a, d, xi = (np.asarray(v, dtype=float).ravel() for v in (accuracy, depth, xi_c))
    if not a.shape == d.shape == xi.shape:
        raise ValueError(
            f"accuracy, depth and xi_c have {a.size}, {d.size} and {xi.size} entries: "
            "give one of each per network"
        )
    use = np.isfinite(a) & ~np.isnan(xi) & (d > 0)
    if not use.any():
        raise ValueError("no network has an accuracy, a depth and a xi_c that is a number")
    a, d, xi = a[use], d[use], xi[use]
    label = None if groups is None else np.asarray(groups).ravel()[use]
    ratio = d / xi
    n = len(a)
    counts = np.stack(
        [np.bincount(i, minlength=n) for i in _resample(n, label, resamples, seed)]
    ).astype(float)
    k, s, height = _least_squares(ratio, a - chance, np.concatenate([np.ones((1, n)), counts]))
    trained = a > chance + height[0] / 2
    base_rate = min(trained.mean(), 1 - trained.mean())
    wrong = float(np.mean((ratio < k[0]) != trained)) if np.isfinite(k[0]) else base_rate
    return MultipleFit(
        k=_interval(k[0], k[1:], level),
        plateau=float(chance + height[0]),
        steepness=float(s[0]),
        misclassified=wrong,
        base_rate=float(base_rate),
        spearman=bootstrap(
            lambda i: float(stats.spearmanr(a[i], ratio[i]).statistic),
            n,
            seed=seed,
            groups=label,
            resamples=resamples,
            level=level,
        ),
        n=n,
    )


def _least_squares(
    ratio: FloatArray, gain: FloatArray, weights: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return (k, s, A), each (m,), minimising Σ w (gain − A p)², p = 1/(1 + (ratio/k)^s).

    ``ratio``, ``gain``: (n,); ``weights``: (m, n), one row per (re)sample. For given k and s the
    best A is Σ w gain p / Σ w p², so all (k, s) are searched at once by two matrix products.
    """
    seen = ratio[ratio > 0]
    if not seen.size or seen.min() == seen.max():
        nothing = np.full(len(weights), np.nan)
        return nothing, nothing, np.maximum(weights @ gain / weights.sum(1), 0)
    ks = np.exp(np.arange(np.log(seen.min()), np.log(seen.max()) + 0.02, 0.02))
    ss = np.geomspace(1, 32, 16)
    best = np.full(len(weights), -np.inf)
    k, s, height = (np.full(len(weights), np.nan) for _ in range(3))
    for exponent in ss:
        with np.errstate(over="ignore"):
            p = 1 / (1 + (ratio[:, None] / ks) ** exponent)  # (n, K)
        cross, square = weights @ (gain[:, None] * p), weights @ p**2
        # Where no weight lies inside the boundary, there is no accuracy to explain.
        amplitude = np.divide(cross, square, out=np.zeros_like(cross), where=square > 1e-12)
        explained = np.where(amplitude > 0, amplitude * cross, 0.0)
        j = explained.argmax(1)
        row = np.arange(len(weights))
        better = explained[row, j] > best
        inner = (j > 0) & (j < len(ks) - 1)
        best = np.where(better, explained[row, j], best)
        k = np.where(better, np.where(inner, ks[j], np.nan), k)
        s = np.where(better, exponent, s)
        height = np.where(better, np.maximum(amplitude[row, j], 0), height)
    return k, s, height


@dataclasses.dataclass(frozen=True)
class Fall:
    """How accuracy falls with depth at one σ_w²: a = low + (high − low) / (1 + (D/D_half)^s).

    ``width`` is (D_25 − D_75) / D_half = 3^{1/s} − 3^{−1/s}, with D_75 and D_25 the depths at
    which 75 % and 25 % of the range high − low are left: near 0 for a cliff, above about 1 for
    a slope. ``rms`` is the fit's root mean square residual. All are NaN, with a ``reason``,
    where the accuracies show no fall from above 75 % to below 25 % of their range.
    """

    depth_half: float
    steepness: float
    width: float
    rms: float
    reason: str


def boundary_width(depth: ArrayLike, accuracy: ArrayLike, *, chance: float) -> Fall:
    """Fit how sharply accuracy falls from trained to untrained with depth.

    Least squares of a logistic curve in log depth, from the best accuracy down to ``chance``;
    repeated depths (seeds) enter as separate points. ``depth``, ``accuracy``: (n,).

    Raises ValueError for shapes that differ, or fewer than three depths.
    """
    d, a = (np.asarray(v, dtype=float).ravel() for v in (depth, accuracy))
    if d.shape != a.shape or len(np.unique(d)) < 3:
        raise ValueError(
            f"{d.size} depths ({len(np.unique(d))} different) for {a.size} accuracies: "
            "give one accuracy per depth and at least three depths"
        )
    by_depth = pd.Series(a).groupby(d).mean()
    high = float(by_depth.max())
    left = (by_depth - chance) / (high - chance) if high > chance else by_depth * np.nan
    peak = left.index.get_loc(left.idxmax()) if left.notna().any() else 0
    tail = left.iloc[peak:]
    if high <= chance or tail.iloc[-1] > 0.25:
        reason = "no accuracy above chance" if high <= chance else "accuracy does not fall to 25 %"
        return Fall(np.nan, np.nan, np.nan, np.nan, reason)
    x = np.log(d)

    def curve(x: FloatArray, centre: float, log_s: float) -> FloatArray:
        return chance + (high - chance) / (1 + np.exp(np.exp(log_s) * (x - centre)))

    crossing = int(np.argmax(tail.to_numpy() < 0.5))
    start = np.log(np.sqrt(tail.index[crossing] * tail.index[max(crossing - 1, 0)]))
    with warnings.catch_warnings(), np.errstate(over="ignore"):
        warnings.simplefilter("ignore", optimize.OptimizeWarning)
        try:
            (centre, log_s), _ = optimize.curve_fit(
                curve,
                x,
                a,
                p0=(start, np.log(4.0)),
                # Steeper than the depths can tell apart is not measured: D_75 and D_25 then lie
                # between two neighbouring depths, and the bound says so.
                bounds=([x.min() - 1, np.log(0.1)], [x.max() + 1, np.log(200.0)]),
            )
        except RuntimeError:
            return Fall(np.nan, np.nan, np.nan, np.nan, "the fit did not converge")
    s = float(np.exp(log_s))
    residual = a - curve(x, centre, log_s)
    return Fall(
        depth_half=float(np.exp(centre)),
        steepness=s,
        width=3 ** (1 / s) - 3 ** (-1 / s),
        rms=float(np.sqrt(np.mean(residual**2))),
        reason="",
    )
