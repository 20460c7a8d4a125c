"""What learning curves tell: steps to an accuracy, the best learning rate, growth with depth."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from mflib.experiment._checks import require

POINT = ["depth", "alpha", "sigma_w2"]  # α where the draws are heavy-tailed


def smooth(values: ArrayLike, window: int) -> np.ndarray:
    """Return the trailing moving average over ``window`` ≥ 1 points, of the shape of ``values``.

    The first points average what there is so far, so nothing is cut off and nothing looks ahead.

    >>> smooth([0.0, 2.0, 4.0, 6.0], 2)
    array([0., 1., 3., 5.])
    """
    require(window >= 1, "window", window, "at least 1 point")
    series = pd.DataFrame(np.asarray(values, dtype=np.float64))
    out = series.rolling(window, min_periods=1).mean().to_numpy()
    return out.reshape(np.shape(values))


MEASURES = ("train_accuracy", "test_accuracy")


def smoothed(frame: pd.DataFrame, window: int) -> dict[str, pd.DataFrame]:
    """Return the smoothed accuracies of learning curves that differ in their seeds alone.

    ``frame``: rows as of ``training.learning_curves``. Returns, for each of ``MEASURES``, a table
    with a row for each step and a column for each seed, averaged as ``smooth`` does.
    """
    tables = {name: frame.pivot(index="step", columns="seed", values=name) for name in MEASURES}
    return {
        name: pd.DataFrame(smooth(table, window), index=table.index, columns=table.columns)
        for name, table in tables.items()
    }


def at_common_seeds(frames: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return the rows of the seeds that all tables have; no table at all where there is none."""
    common = set.intersection(*(set(frame["seed"]) for frame in frames.values()))
    if not common:
        return {}
    return {name: frame[frame["seed"].isin(common)] for name, frame in frames.items()}


@dataclasses.dataclass(frozen=True)
class Lead:
    """By how much one kind of networks is ahead of another, with its standard error over seeds."""

    value: float
    error: float

    def __str__(self) -> str:
        if np.isfinite(self.error):
            return f"{self.value:.3f} ± {2 * self.error:.3f}"
        return f"{self.value:.3f} (one seed)"


def leads(one: Mapping[str, pd.DataFrame], other: Mapping[str, pd.DataFrame]) -> dict[str, Lead]:
    """Return the lead of ``one`` over ``other``, averaged over the curve, for each measure.

    Both are what ``smoothed`` returns, of the same seeds. The error is NaN for a single seed.
    Raises ValueError where seeds or steps differ.
    """
    found = {}
    for name in MEASURES:
        if not (
            one[name].columns.equals(other[name].columns)
            and one[name].index.equals(other[name].index)
        ):
            raise ValueError("both learning curves must have the same seeds and steps")
        gap = one[name].to_numpy().mean(0) - other[name].to_numpy().mean(0)
        error = gap.std(ddof=1) / np.sqrt(len(gap)) if len(gap) > 1 else np.nan
        found[name] = Lead(float(gap.mean()), float(error))
    return found


def steps_to(
    frame: pd.DataFrame, target: float, *, measure: str = "train_accuracy"
) -> pd.DataFrame:
    """Return the steps after which each network of a learning-curve table reaches a target.

    ``frame`` is what ``training.learning_curves`` returns. One row per (depth, alpha where there
    is one, sigma_w2, learning_rate, seed), with ``steps``: where the line through the scored
    steps first meets ``target``, ∞ where it never does.

    Raises ValueError for a target outside (0, 1] and an unknown measure.
    """
    require(0 < target <= 1, "target", target, "in (0, 1]: it is an accuracy")
    require(measure in frame, "measure", measure, f"one of {', '.join(frame.columns)}")
    network = [*_point(frame), "learning_rate", "seed"]
    groups = frame.sort_values("step").groupby(network, sort=True)
    found = groups[["step", measure]].apply(
        lambda rows: _first_crossing(rows["step"].to_numpy(), rows[measure].to_numpy(), target)
    )
    return found.rename("steps").reset_index()


def _point(frame: pd.DataFrame) -> list[str]:
    return [name for name in POINT if name in frame]


def _first_crossing(steps: np.ndarray, values: np.ndarray, target: float) -> float:
    reached = np.flatnonzero(values >= target)
    if not reached.size:
        return float("inf")
    k = reached[0]
    if k == 0:
        return float(steps[0])
    share = (target - values[k - 1]) / (values[k] - values[k - 1])
    return float(steps[k - 1] + share * (steps[k] - steps[k - 1]))


def at_best_rate(table: pd.DataFrame) -> pd.DataFrame:
    """Keep, for each depth, α and σ_w², the learning rate with the fewest mean steps over seeds.

    ``table`` is what ``steps_to`` returns. A rate at which any seed misses the target has a mean
    of ∞, so it is chosen only where all rates have that. One rate serves all seeds of a point:
    choosing one per seed would reward luck.
    """
    points = _point(table)
    mean = table.groupby([*points, "learning_rate"]).steps.mean().reset_index()
    best = mean.loc[mean.groupby(points).steps.idxmin(), [*points, "learning_rate"]]
    return table.merge(best, on=[*points, "learning_rate"])


@dataclasses.dataclass(frozen=True)
class Growth:
    """Exponent p of steps ∝ depth^p with its 95 % interval, and the depths behind it."""

    exponent: float
    lower: float
    upper: float
    depths: tuple[int, ...]
    missed: tuple[int, ...]


def growth(table: pd.DataFrame) -> Growth:
    """Fit log steps = p log depth + constant over the depths at which every seed got there.

    ``table``: columns depth, seed, steps. Each seed gives a slope of its own; p is their mean, and
    the interval is Student's, which is honest for few seeds (a bootstrap over five is too narrow).
    ``missed`` lists the depths left out because a network did not reach the target.

    Raises ValueError where fewer than three depths or two seeds are left.
    """
    wide = table.pivot(index="seed", columns="depth", values="steps")
    arrived = np.isfinite(wide).all(axis=0)
    kept = tuple(int(d) for d in wide.columns[arrived])
    missed = tuple(int(d) for d in wide.columns[~arrived])
    if len(kept) < 3 or len(wide) < 2:
        raise ValueError(
            f"only depths {list(kept)} reached the target in all of {len(wide)} seeds: train "
            "longer, lower the target, or add depths and seeds; an exponent needs three depths "
            "and two seeds"
        )
    log_depth, log_steps = np.log(np.array(kept, dtype=float)), np.log(wide[list(kept)].to_numpy())
    slopes = np.polyfit(log_depth, log_steps.T, 1)[0]
    half = stats.t.ppf(0.975, len(slopes) - 1) * stats.sem(slopes)
    mean = float(slopes.mean())
    return Growth(mean, float(mean - half), float(mean + half), kept, missed)
