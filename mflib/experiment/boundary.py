"""Where trained networks end: statistics of trainability grids against ξ_c.

Kept apart from the training itself, so that a better statistic makes no trained network stale.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import optimize, sparse

FloatArray = np.ndarray

_GRID_STEP = 0.02  # of ln k, on which k is searched
_MANY = 1000  # points from which on those of nearly equal depth/ξ_c are put together


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
    (k on a grid of 2 % steps over the observed depth/ξ_c, and between these for more than 1000
    points; s on one of 16 values from 1 to 32; A in closed form). A smooth curve rather than a
    count of points on the wrong side: the bootstrap of such a count's minimum covers too seldom.
    k is NaN where the best curve has its fall at the edge of the observed depth/ξ_c, that is, where
    no fall is seen.

    ``accuracy``, ``depth``, ``xi_c``: equal shapes (n,), one entry per network or point; ξ_c may
    be ∞ (predicted trained at every depth); points where it is NaN are left out. ``groups``
    (n,): points resampled together. Intervals are percentile bootstrap.

    Raises ValueError for shapes that differ or no usable point.
    """
    return _fit(accuracy, depth, xi_c, chance, groups, seed, resamples, level)[0]


def _fit(
    accuracy: ArrayLike,
    depth: ArrayLike,
    xi_c: ArrayLike,
    chance: float,
    groups: ArrayLike | None,
    seed: int,
    resamples: int,
    level: float,
) -> tuple[MultipleFit, FloatArray]:
    """Return ``fit_multiple`` and its k of every resample, (resamples,)."""
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
    ratio = d / xi
    label = None if groups is None else np.asarray(groups).ravel()[use]
    counts = _counts(len(a), label, resamples, seed)
    k, s, height = _least_squares(ratio, a - chance, counts)
    trained = a > chance + height[0] / 2
    base_rate = min(trained.mean(), 1 - trained.mean())
    wrong = float(np.mean((ratio < k[0]) != trained)) if np.isfinite(k[0]) else base_rate
    rank = _spearman(a, ratio, counts)
    found = MultipleFit(
        k=_interval(k[0], k[1:], level),
        plateau=float(chance + height[0]),
        steepness=float(s[0]),
        misclassified=wrong,
        base_rate=float(base_rate),
        spearman=_interval(rank[0], rank[1:], level),
        n=len(a),
    )
    return found, k[1:]


def _counts(n: int, groups: ArrayLike | None, resamples: int, seed: int) -> FloatArray:
    """Return how often each of n points is in all points (row 0) and in each resample."""
    drawn = [np.bincount(i, minlength=n) for i in _resample(n, groups, resamples, seed)]
    return np.stack([np.ones(n, dtype=int), *drawn]).astype(float)


def _spearman(x: FloatArray, y: FloatArray, counts: FloatArray) -> FloatArray:
    """Return the rank correlation of x and y, (n,), in each resample of ``counts`` (m, n).

    The same as of the resample written out, ties included, without a sort for each.
    """

    def ranks(values: FloatArray, weights: FloatArray) -> FloatArray:
        distinct, place = np.unique(values, return_inverse=True)
        equal = np.zeros((len(weights), len(distinct)))
        np.add.at(equal.T, place, weights.T)
        middle = np.cumsum(equal, axis=1) - (equal - 1) / 2
        found: FloatArray = middle[:, place]
        return found - np.average(found, axis=1, weights=weights)[:, None]

    correlations = []
    for some in np.array_split(counts, max(1, counts.size // 10**6)):  # to bound the memory
        u, v = ranks(x, some), ranks(y, some)
        with np.errstate(invalid="ignore", divide="ignore"):  # a constant resample has none
            squares = (some * u**2).sum(1) * (some * v**2).sum(1)
            correlations.append((some * u * v).sum(1) / np.sqrt(squares))
    return np.concatenate(correlations)


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
    many = len(ratio) > _MANY
    if many:
        ratio, weighed, weights = _together(ratio, gain, weights)
    else:
        weighed = weights * gain
    ks = np.exp(np.arange(np.log(seen.min()), np.log(seen.max()) + _GRID_STEP, _GRID_STEP))
    ss = np.geomspace(1, 32, 16)
    best = np.full(len(weights), -np.inf)
    k, s, height = (np.full(len(weights), np.nan) for _ in range(3))
    for exponent in ss:
        with np.errstate(over="ignore"):
            p = 1 / (1 + (ratio[:, None] / ks) ** exponent)  # (n, K)
        cross, square = weighed @ p, weights @ p**2
        # Where no weight lies inside the boundary, there is no accuracy to explain.
        amplitude = np.divide(cross, square, out=np.zeros_like(cross), where=square > 1e-12)
        explained = np.where(amplitude > 0, amplitude * cross, 0.0)
        j = explained.argmax(1)
        row = np.arange(len(weights))
        better = explained[row, j] > best
        inner = (j > 0) & (j < len(ks) - 1)
        at = ks[j] * np.exp(_GRID_STEP * _vertex(explained, j)) if many else ks[j]
        best = np.where(better, explained[row, j], best)
        k = np.where(better, np.where(inner, at, np.nan), k)
        s = np.where(better, exponent, s)
        height = np.where(better, np.maximum(amplitude[row, j], 0), height)
    return k, s, height


def _vertex(values: FloatArray, j: FloatArray) -> FloatArray:
    """Return by how many columns the parabola through each row's largest, j, lies off it."""
    row = np.arange(len(values))
    left, right = (
        values[row, np.maximum(j - 1, 0)],
        values[row, np.minimum(j + 1, -1 + values.shape[1])],
    )
    bend = left - 2 * values[row, j] + right
    return np.divide((left - right) / 2, bend, out=np.zeros(len(values)), where=bend < 0)


def _together(
    ratio: FloatArray, gain: FloatArray, weights: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Put points of nearly equal ratio, to half a step of the search, together.

    Returns their ratios (n',), Σ w gain (m, n') and Σ w (m, n'); n' is some hundreds.
    """
    with np.errstate(divide="ignore"):  # a ratio of 0, where ξ_c = ∞, stays one of its own
        place = np.round(np.log(ratio) / (_GRID_STEP / 2))
    places, member = np.unique(place, return_inverse=True)
    into = sparse.csr_array(
        (np.ones(len(ratio)), (np.arange(len(ratio)), member)), shape=(len(ratio), len(places))
    )
    return np.exp(places * (_GRID_STEP / 2)), (weights * gain) @ into, weights @ into


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


# --- two grids beside each other, and what moves the boundary ---------------------------

MIN_SEEDS = 10
"""From so many seeds on whole seeds are resampled: a bootstrap of fewer covers too seldom."""

_LEVEL = 0.95
_EFFECTS: dict[
    str, tuple[str, Callable[[Any], Any]]
] = {  # name: (column, what of it k is linear in)
    "width": ("width", lambda width: 1 / width),
    "training time": ("step", np.log),
    "learning rate": ("learning_rate", np.log),
}
_AXES = [column for column, _ in _EFFECTS.values()]
_NETWORK = ["sigma_w2", "depth", "seed"]
_TRAINED = [*_NETWORK, "xi_c", "train_accuracy"]


def _require(frame: pd.DataFrame, name: str, columns: list[str]) -> None:
    absent = [column for column in columns if column not in frame]
    if absent or frame.empty:
        what = f"no column {absent[0]!r}" if absent else "no networks"
        raise ValueError(f"the {name} table has {what}: it needs {', '.join(columns)}, a row each")
    twice = frame.duplicated([c for c in ("alpha", *_NETWORK, *_AXES) if c in columns])
    if twice.any():
        row = frame[twice].iloc[0]
        raise ValueError(
            f"the {name} table has two rows for σ_w²={row.sigma_w2:g}, depth {row.depth:g}, seed "
            f"{row.seed:g}: choose one width, learning rate and number of steps"
        )


def _rounded(draws: FloatArray, n: int, rng: np.random.Generator) -> FloatArray:
    """Return k of n points with the error of its search on a grid, where it has one."""
    half = _GRID_STEP / 2 if n <= _MANY else 0.0
    return draws * np.exp(rng.uniform(-half, half, draws.shape))


@dataclasses.dataclass(frozen=True)
class Effects:
    """What moves the boundary: k = k_∞ + a/N + b ln n + c ln η, fitted to grids of networks.

    N: width, n: training steps, η: learning rate. ``terms``: a, b and c by the name of the effect,
    those that the grids vary; k_∞ at some n and η is ``predict`` at width ∞. ``points``: the k of
    each grid with its interval, and what the fit says. ``scatter``: by how much more the points lie
    off the fit than their own errors say, at least 1; all intervals are wider by that.
    ``ranges``: the smallest and the largest that was measured.
    """

    terms: dict[str, Interval]
    points: pd.DataFrame
    scatter: float
    ranges: dict[str, tuple[float, float]]
    level: float
    draws: FloatArray = dataclasses.field(repr=False, compare=False)

    def predict(self, *, width: float, step: float, learning_rate: float) -> Interval:
        """Return the k of a grid of these settings by the fit.

        An effect that the grids do not vary is taken to be none.
        """
        at = {"width": width, "step": step, "learning_rate": learning_rate}
        row = np.array([1.0, *(_EFFECTS[name][1](at[_EFFECTS[name][0]]) for name in self.ranges)])
        k = self.draws @ row
        return _interval(k[0], k[1:], self.level)

    def shift(self, before: Mapping[str, float], after: Mapping[str, float], name: str) -> Interval:
        """Return the change of k by one effect between two settings (width, step, learning_rate).

        Raises ValueError for an effect that the grids do not vary.
        """
        moved = self._shift(before, after, name)
        return _interval(moved[0], moved[1:], self.level)

    def _shift(
        self, before: Mapping[str, float], after: Mapping[str, float], name: str
    ) -> FloatArray:
        if name not in self.ranges:
            known = ", ".join(self.ranges) or "none"
            raise ValueError(f"effect {name!r} is not one of those measured: {known}")
        column, of = _EFFECTS[name]
        slope: FloatArray = self.draws[:, 1 + list(self.ranges).index(name)]
        return slope * (of(float(after[column])) - of(float(before[column])))


def effects(
    frame: pd.DataFrame,
    *,
    chance: float,
    seed: int = 0,
    resamples: int = 400,
    level: float = _LEVEL,
) -> Effects:
    """Fit how the multiple k of ξ_c depends on width, training time and learning rate.

    k = k_∞ + a/N + b ln n + c ln η

    by least squares, each grid's k (``fit_multiple``) weighed with its own bootstrap variance. 1/N
    is what finite width adds to the moments of a signal; for the time and the rate the logarithm is
    the simplest form that cannot reach infinity in a few steps, no theory. ``frame``: one row for
    each network and score, with sigma_w2, depth, seed, xi_c, train_accuracy, width, step and
    learning_rate; ``chance``: the accuracy of guessing.

    Networks of equal (width, σ_w², depth, seed) start from the same weights, and are scored at
    several times: they are resampled together over all steps and rates, and independently between
    widths. Where the grids scatter about the fit by more than their errors, all intervals are wider
    by the root of χ² per degree of freedom (Birge's ratio). Grids without a boundary are left out;
    where too few have one for the terms, these are NaN.

    Raises ValueError for columns that are missing or rows given twice.
    """
    _require(frame, "grids'", [*_TRAINED, *_AXES])
    rng = np.random.default_rng((seed, 1))
    cells, columns = [], []
    for place, (width, rows) in enumerate(frame.groupby("width")):
        networks = rows[_NETWORK].drop_duplicates()
        order = pd.MultiIndex.from_frame(networks)
        groups = networks.seed if networks.seed.nunique() >= MIN_SEEDS else None
        counts = _counts(len(networks), groups, resamples, seed + 10 + place)
        for (step, rate), grid in rows.groupby(["step", "learning_rate"]):
            there = grid.set_index(_NETWORK).reindex(order)
            use = (there.train_accuracy.notna() & there.xi_c.notna()).to_numpy()
            if not use.any():
                continue
            ratio = (there.index.get_level_values("depth") / there.xi_c).to_numpy()[use]
            gain = there.train_accuracy.to_numpy()[use] - chance
            weights = counts[:, use]
            full = weights.sum(1) > 0  # a resample may miss all networks of a small grid
            k = np.full(len(weights), np.nan)
            k[full] = _least_squares(ratio, gain, weights[full])[0]
            if np.isfinite(k[0]) and np.isfinite(k[1:]).mean() > 0.5:
                cells.append((width, step, rate))
                columns.append(np.append(k[0], _rounded(k[1:], len(gain), rng)))
    points = pd.DataFrame(cells, columns=_AXES)
    varied = [name for name, (column, _) in _EFFECTS.items() if frame[column].nunique() > 1]
    design = np.column_stack(
        [np.ones(len(points)), *(_EFFECTS[n][1](points[_EFFECTS[n][0]]) for n in varied)]
    )
    k = np.stack([*columns, np.zeros(1 + resamples)], axis=1)[:, :-1]  # (1 + resamples, grids)
    draws, scatter = _fitted(design, k)
    found = [_interval(column[0], column[1:], level) for column in draws.T]
    spread = [_interval(column[0], column[1:], level) for column in k.T]
    return Effects(
        terms=dict(zip(varied, found[1:], strict=True)),
        points=points.assign(
            k=k[0],
            lower=[each.lower for each in spread],
            upper=[each.upper for each in spread],
            fitted=design @ draws[0],
        ),
        scatter=scatter,
        ranges={
            name: (float(frame[column].min()), float(frame[column].max()))
            for name in varied
            for column in [_EFFECTS[name][0]]
        },
        level=level,
        draws=draws,
    )


def _fitted(design: FloatArray, k: FloatArray) -> tuple[FloatArray, float]:
    """Return the terms (1 + resamples, terms) for k (1 + resamples, grids), and the scatter."""
    n, terms = design.shape
    if np.linalg.matrix_rank(design) < terms:
        return np.full((len(k), terms), np.nan), np.nan
    error = np.nanstd(k[1:], axis=0, ddof=1)
    k = np.where(np.isfinite(k), k, k[0])  # no boundary in this resample: says nothing of it
    draws = k @ (np.linalg.pinv(design / error[:, None]) / error).T
    chi2 = float(np.sum(((k[0] - design @ draws[0]) / error) ** 2))
    scatter = float(np.sqrt(max(1.0, chi2 / (n - terms)))) if n > terms else 1.0
    return draws[0] + scatter * (draws - draws[0]), scatter


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Two grids of trained networks beside each other, the second as against the first.

    ``difference``: the second k minus the first; ``shifts``: what each known effect makes of that;
    ``rest``: the difference less all of them, itself where none is known. ``extrapolated``: the
    effects that were measured over a range which does not hold both grids' settings.

    ``verdict``: "agree within intervals" (the difference's contains 0); "explained by …" (the
    rest's does, and the effects named change k towards the second grid by more than their own
    intervals); "not explained"; "differ" (where no effect is known); "no boundary to compare".
    """

    names: tuple[str, str]
    fits: tuple[MultipleFit, MultipleFit]
    difference: Interval
    shifts: dict[str, Interval]
    rest: Interval
    verdict: str
    extrapolated: tuple[str, ...]

    def row(self) -> dict[str, str]:
        """Return the comparison as a row of a table."""
        both = list(zip(self.names, self.fits, strict=True))
        cells = {f"k, {name}": words(fit.k) for name, fit in both}
        cells["difference"] = words(self.difference, signed=True)
        for name in _EFFECTS:
            if name in self.shifts:
                beyond = " (extrapolated)" if name in self.extrapolated else ""
                cells[f"from {name}"] = words(self.shifts[name], signed=True) + beyond
        cells |= {f"rank correlation, {name}": words(fit.spearman) for name, fit in both}
        return cells | {"verdict": self.verdict}

    def sentence(self) -> str:
        """Say it in a sentence or two."""
        one, two = (
            f"{name} {words(fit.k)}" for name, fit in zip(self.names, self.fits, strict=True)
        )
        said = f"k: {one}, {two}"
        if self.verdict == NO_BOUNDARY:
            return f"{said}: {self.verdict}."
        said += f"; difference {words(self.difference, signed=True)}"
        if self.shifts:
            each = ", ".join(f"{words(x, signed=True)} from {n}" for n, x in self.shifts.items())
            said += f", where one expects {each}, which leaves {words(self.rest, signed=True)}"
        said += f": {self.verdict}."
        if self.extrapolated:
            what = " and ".join(self.extrapolated)
            said += f" The effect of {what} is extrapolated."
        return said


AGREE = "agree within intervals"
DIFFER = "differ"
NOT_EXPLAINED = "not explained"
NO_BOUNDARY = "no boundary to compare"


def agreement(
    live: pd.DataFrame,
    recorded: pd.DataFrame,
    *,
    chance: tuple[float, float],
    known: Effects | None = None,
    names: tuple[str, str] = ("live", "recorded"),
    seed: int = 0,
    resamples: int = 400,
    level: float = _LEVEL,
) -> Agreement:
    """Compare where two grids of trained networks end, and say what explains a difference.

    ``live``, ``recorded``: one row per network, with columns sigma_w2, depth, seed, train_accuracy
    and xi_c; where effects are ``known`` also width, step and learning_rate, each one number.
    ``chance``: the accuracy of guessing in each.

    What is resampled: each network has its own draw of weights, so within each grid networks are;
    whole seeds only from ``MIN_SEEDS`` seeds on, since of one seed there is no bootstrap and of
    two or three a misleading one. Such an interval also holds the scatter of points about the
    curve of ``fit_multiple``, so it is rather wide; what all networks of a seed share (the order
    of the samples) it holds only from so many seeds on. The two grids have no network in common
    and may have other points, so they are resampled independently, and the difference's interval
    is that of the differences of independent draws. The effects' draws are taken as independent
    of both. The multiples are those of the whole grids, as drawn: other ranges of depth are not
    made alike.

    What explains: all known effects together must. The difference less the sum of the shifts
    (``Effects.shift``) must have an interval that contains 0 and be smaller than the difference;
    named are those effects whose own shift goes the difference's way and excludes 0. Effects too
    uncertain to exclude 0 explain nothing.

    Raises ValueError for columns that are missing or rows given twice.
    """
    tables = dict(zip(names, (live, recorded), strict=True))
    at: list[dict[str, float]] = []
    found: list[tuple[MultipleFit, FloatArray]] = []
    rng = np.random.default_rng((seed, 2))
    for place, (name, frame) in enumerate(tables.items()):
        _require(frame, name, [*_TRAINED, *(_AXES if known is not None else ())])
        if known is not None:
            at.append(_setting(frame, name))
        groups = frame.seed if frame.seed.nunique() >= MIN_SEEDS else None
        fit, draws = _fit(
            frame.train_accuracy,
            frame.depth,
            frame.xi_c,
            chance[place],
            groups,
            # another one each: equal draws of equally large grids would rise and fall together
            seed + place,
            resamples,
            level,
        )
        found.append((fit, _rounded(draws, fit.n, rng)))
    (first, k_first), (second, k_second) = found
    gap = np.append(second.k.value - first.k.value, k_second - k_first)
    difference = _interval(gap[0], gap[1:], level)
    shifts, rest, beyond = {}, gap, []
    for name in known.ranges if known is not None else ():
        assert known is not None
        moved = known._shift(at[0], at[1], name)
        shifts[name] = _interval(moved[0], moved[1:], level)
        picked = np.random.default_rng((seed, 3)).integers(1, len(moved), resamples)
        rest = rest - np.append(moved[0], moved[picked])
        column, (low, high) = _EFFECTS[name][0], known.ranges[name]
        if not all(low <= each[column] <= high for each in at):
            beyond.append(name)
    left = _interval(rest[0], rest[1:], level)
    return Agreement(
        names=names,
        fits=(first, second),
        difference=difference,
        shifts=shifts,
        rest=left,
        verdict=_verdict(difference, shifts, left),
        extrapolated=tuple(beyond),
    )


def _setting(frame: pd.DataFrame, name: str) -> dict[str, float]:
    """Return the width, steps and learning rate of a table that has one of each."""
    several = [column for column in _AXES if frame[column].nunique() != 1]
    if several:
        raise ValueError(
            f"the {name} table has {frame[several[0]].nunique()} values of {several[0]!r}: "
            "choose one, or give no known effects"
        )
    return {column: float(frame[column].iloc[0]) for column in _AXES}


def _verdict(difference: Interval, shifts: Mapping[str, Interval], rest: Interval) -> str:
    if not np.isfinite(difference.value) or difference.usable < 0.5:
        return NO_BOUNDARY
    if difference.lower <= 0 <= difference.upper:
        return AGREE
    if not shifts:
        return DIFFER
    way = np.sign(difference.value)
    at_work = [n for n, x in shifts.items() if way * x.value > 0 and x.lower * x.upper > 0]
    covered = rest.lower <= 0 <= rest.upper and abs(rest.value) < abs(difference.value)
    if not covered or not at_work:
        return NOT_EXPLAINED
    return "explained by " + " and ".join(", ".join(at_work).rsplit(", ", 1))


def words(x: Interval, *, signed: bool = False) -> str:
    """Write an estimate with its interval; "none" for NaN.

    >>> words(Interval(4.07, 3.84, 4.33, 0.95, 1.0))
    '4.07 [3.84, 4.33]'
    """
    if not np.isfinite(x.value):
        return "none"
    sign = "+" if signed else ""
    return f"{x.value:{sign}.2f} [{x.lower:{sign}.2f}, {x.upper:{sign}.2f}]".replace("-", "−")
