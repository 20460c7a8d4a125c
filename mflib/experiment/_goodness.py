"""Goodness of fit of sampled log λ to a law, honest about eigenvalues that repel each other."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from mflib.experiment import _checks, draws

_BOOTSTRAPS = 999
_GRID = 400  # places at which the null distance is taken
_PLACES = 4000


class Law(Protocol):
    """What ``fit`` needs of a theory: ``mflib.theory.isometry.Spectrum`` has it."""

    @property
    def atoms(self) -> Sequence[tuple[float, float]]:
        """(log λ, mass) of each atom; log λ = −inf for λ = 0."""
        ...

    def cdf(self, log_lambda: Any) -> Any:
        """Return the mass up to log λ, atoms counted."""
        ...


@dataclasses.dataclass(frozen=True)
class Fit:
    """How far samples of log λ lie from a law.

    ``ks``: largest distance of the two cumulative distributions, all networks together;
    ``ks_each`` (n_networks,): that of each. ``ks_of_spread``: what ``ks`` would be exceeded by in
    one case of twenty if the law were exact and networks differed as they do; ``p_value``: how
    often it would then be larger than it is. Both NaN for fewer than 5 networks.

    ``w1``, ``w1_error``: Wasserstein-1 distance in log λ between the parts with λ > 0, each
    normalised to mass 1, and its standard error by jackknife over networks. ``zeros`` and
    ``law_zeros``: shares of λ = 0.
    """

    ks: float
    ks_each: np.ndarray
    ks_of_spread: float
    p_value: float
    w1: float
    w1_error: float
    zeros: float
    law_zeros: float


def fit(log_lambda: Any, spectrum: Law, *, seed: int = 0, rounding: float = 1e-9) -> Fit:
    """Hold sampled log λ (n_networks, n) against a law: Kolmogorov-Smirnov and Wasserstein-1.

    Eigenvalues of one network repel each other, so their distribution is far more even than that of
    independent draws, and the textbook p-value of the distance would accept almost anything. The
    judgement here takes whole networks for independent and nothing within one: the deviation
    sup |F̄ − F| is compared with that of random means of F_k − F̄ (Gaussian multipliers over
    Student's denominator, 999 draws from ``seed``). It asks whether the law could be the mean at
    this width; theory at width ∞ is off by O(1/width), by O(1/√width) in the share of exact zeros,
    and enough networks will show it: read ``ks`` against width then.

    Values within ``rounding`` of an atom of the law count as on it; −inf stands for λ = 0.
    Raises ValueError for an empty sample, NaN, +inf, or a shape that is not (n_networks, n).
    """
    try:
        sample = np.array(log_lambda, dtype=np.float64, ndmin=2)
    except (TypeError, ValueError):
        raise ValueError("log_lambda must be an array of numbers (n_networks, n).") from None
    if sample.ndim != 2 or sample.size == 0 or not (sample < np.inf).all():
        raise ValueError(
            f"log_lambda {sample.shape} must be (n_networks, n), not empty, with finite values or "
            "-inf for λ = 0."
        )
    _checks.require(_checks.number("rounding", rounding, float) >= 0, "rounding", rounding,
                    "at least 0")  # fmt: skip
    _checks.number("seed", seed, int)
    for place, _ in spectrum.atoms:
        if np.isfinite(place):
            sample[np.abs(sample - place) <= rounding] = place
    places, before, upto = _tabulate(spectrum, sample)
    law = np.stack([before, upto])
    pooled = _shares(np.sort(sample, axis=None), places)
    atoms = np.isin(places, [place for place, mass in spectrum.atoms if mass])
    each = []
    for row in np.sort(sample, axis=1):
        # between its own values a network's share is constant, and the law can only step at atoms
        own = np.searchsorted(places, row)
        own = np.concatenate([own, np.flatnonzero(atoms)])
        each.append(np.max(np.abs(_shares(row, places[own]) - law[:, own])))
    quantile, p_value = _multipliers(sample, places, law, seed)
    w1, w1_error = _jackknifed_w1(sample, places, before, upto)
    return Fit(
        ks=float(np.max(np.abs(pooled - law))),
        ks_each=np.array(each),
        ks_of_spread=quantile,
        p_value=p_value,
        w1=w1,
        w1_error=w1_error,
        zeros=float(np.mean(sample == -np.inf)),
        law_zeros=_zero_mass(spectrum),
    )


def _shares(ordered: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the shares of a sorted sample below and up to the places, (2, m)."""
    sides = [np.searchsorted(ordered, places, "left"), np.searchsorted(ordered, places, "right")]
    return np.stack(sides) / ordered.size


def _zero_mass(spectrum: Law) -> float:
    return float(sum(mass for place, mass in spectrum.atoms if place == -np.inf))


def _tabulate(spectrum: Law, sample: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return places ascending, and the law's mass below and up to each; the first place is −inf.

    They are −inf, all sampled values, the law's own points and atoms, so that between neighbours
    the sample is constant and the law nearly linear. The continuous part is computed at up to
    some 4000 of them, equally many sampled values apart, and is linear between: at most 1/4000 off,
    and far less off the edges.
    """
    atoms = {place: mass for place, mass in spectrum.atoms if mass}
    ends = np.array([place for place in atoms if np.isfinite(place)])
    values = np.unique(sample[np.isfinite(sample)])
    own = np.asarray(getattr(spectrum, "log_lambda", ()), dtype=np.float64)
    own = np.concatenate([own[np.isfinite(own)], ends])
    known = np.concatenate([values, own])
    even = np.linspace(known.min(), known.max(), 401) if known.size else known
    every = max(1, math.ceil(values.size / _PLACES))
    thinned = np.concatenate([values[::every], values[-1:]])
    knots = np.unique(np.concatenate([thinned, own, even]))
    places = np.r_[-np.inf, np.unique(np.concatenate([known, even]))]
    continuous = np.asarray(spectrum.cdf(knots), dtype=np.float64)
    for place, mass in atoms.items():
        continuous = continuous - mass * (knots >= place)
    smooth = np.r_[0.0, np.interp(places[1:], knots, continuous)] if known.size else np.zeros(1)
    before, upto = smooth.copy(), smooth.copy()
    for place, mass in atoms.items():
        upto += mass * (places >= place)
        before += mass * (places > place)
    return places, before, upto


def _multipliers(
    sample: np.ndarray, places: np.ndarray, law: np.ndarray, seed: int
) -> tuple[float, float]:
    """Return the 95 % quantile of the null distance and the p-value, on a grid of the places."""
    n = len(sample)
    if n < 5:
        return math.nan, math.nan
    chosen = np.unique(np.linspace(0, places.size - 1, _GRID).round().astype(int))
    shares = np.stack([_shares(row, places[chosen]).ravel() for row in np.sort(sample, axis=1)])
    mean = shares.mean(axis=0)
    distance = np.max(np.abs(mean - law[:, chosen].ravel()))
    rng = np.random.default_rng(draws.derive_seed(seed, "fit"))
    null = np.empty(_BOOTSTRAPS)
    for part in np.array_split(np.arange(_BOOTSTRAPS), 10):
        signs = rng.standard_normal((part.size, n)) / math.sqrt(n * (n - 1))
        # the spread itself is known from n networks only: Student's t, not the normal law
        doubt = np.sqrt(rng.chisquare(n - 1, part.size) / (n - 1))
        null[part] = np.max(np.abs(signs @ (shares - mean)), axis=1) / doubt
    # rounding alone separates equal networks from an exact law
    exceeds = int(np.sum(null >= distance - 1e-12))
    return float(np.quantile(null, 0.95)), (1 + exceeds) / (1 + _BOOTSTRAPS)


def _jackknifed_w1(
    sample: np.ndarray, places: np.ndarray, before: np.ndarray, upto: np.ndarray
) -> tuple[float, float]:
    n = len(sample)
    whole = _w1(sample, places, before, upto)
    if n < 2:
        return whole, math.nan
    # ten groups tell the spread as well as n do, at less cost
    groups = np.array_split(np.arange(n), min(n, 10))
    rest = np.array(
        [_w1(np.delete(sample, group, axis=0), places, before, upto) for group in groups]
    )
    count = len(groups)
    return whole, float(np.sqrt((count - 1) / count * np.sum((rest - rest.mean()) ** 2)))


def _w1(sample: np.ndarray, places: np.ndarray, before: np.ndarray, upto: np.ndarray) -> float:
    """Return ∫ |F_n − F| d log λ over λ > 0, both of mass 1 there; NaN where only one has any."""
    finite = np.sort(sample[np.isfinite(sample)])
    mass = 1 - upto[0]
    if finite.size == 0 or mass <= 0:
        return 0.0 if finite.size == 0 and mass <= 0 else math.nan
    share = np.searchsorted(finite, places[1:-1], side="right") / finite.size
    # F_n is constant between neighbours and F close to linear: integrate |a + (b − a) t|
    a = share - (upto[1:-1] - upto[0]) / mass
    b = share - (before[2:] - upto[0]) / mass
    size = np.abs(a) + np.abs(b)
    with np.errstate(invalid="ignore", divide="ignore"):
        area = np.where(a * b < 0, (a * a + b * b) / (2 * size), size / 2)
    return float(np.sum(area * np.diff(places[1:])))
