"""What to watch in networks as they train, for ``training.observed``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from mflib.experiment import _checks, _threads
from mflib.experiment.networks import Network
from mflib.theory import stable


def stable_fits(
    network: Network,
    inputs: torch.Tensor,
    *,
    layers: Sequence[int] | None = None,
    method: str = "likelihood",
    level: float = 0.95,
) -> pd.DataFrame:
    """Fit a symmetric stable law to the entries of every weight of every member.

    One row per (member, layer): alpha_fit with its interval alpha_low, alpha_high of ``level``,
    scale and location of S_α; D_w = 2 N_in scale^α and gain = D_w^{1/α}; log_ratio, the
    log-likelihood of that law less that of the Gaussian of the same mean and variance;
    excess_kurtosis; n entries. All but member, layer and n are NaN where weights are not finite.

    ``layers`` counts from 1, the first weight, to depth + 1, the readout; all unless given.
    ``method``: see ``stable.fit``. Raises ValueError for a layer that is not there, and what
    ``stable.fit`` raises. ``inputs`` are not looked at.

    Source: Qu, Wardak and Gong 2022, §A, fig. 1d-f.
    """

    def row(one: _Entries) -> dict[str, float]:
        found = _fitted(one.entries, one.n_in, method, level)
        return {"member": one.member, "layer": one.layer, "n": one.entries.size, **found}

    found = _threads.of_each(row, _weights(network, layers), device=network.weights[0].device)
    return pd.DataFrame(found)


def tails(
    network: Network,
    inputs: torch.Tensor,
    *,
    layers: Sequence[int] | None = None,
    method: str = "likelihood",
    level: float = 0.95,
    points: int = 40,
) -> pd.DataFrame:
    """Fit a stable law as ``stable_fits`` does, and count entries beyond sizes as ``sizes`` does.

    One row per (member, layer, size), with the columns of both; those of the fit are the same in
    all rows of a layer. So one training gives both. Raises ValueError as they do.
    """
    found = sizes(network, inputs, layers=layers, points=points)
    fits = stable_fits(network, inputs, layers=layers, method=method, level=level)
    return found.merge(fits.drop(columns="n"), on=["member", "layer"], how="left")


def sizes(
    network: Network,
    inputs: torch.Tensor,
    *,
    layers: Sequence[int] | None = None,
    points: int = 40,
) -> pd.DataFrame:
    """Count, for every weight of every member, the share of entries beyond each of some sizes.

    One row per (member, layer, size): ``share`` of entries with |w| ≥ size, at ``points`` sizes
    spaced evenly in log from a tenth of the root mean square to the largest entry; ``rms``, and n
    entries. NaN where weights are not finite or all 0.

    ``layers`` as in ``stable_fits``; ``points`` ≥ 2. Raises ValueError for values out of range.
    ``inputs`` are not looked at. Source: Qu, Wardak and Gong 2022, §A, fig. 1a and d (insets).
    """
    points = _checks.count("points", points, 2)

    def rows(one: _Entries) -> pd.DataFrame:
        found = np.sort(np.abs(one.entries))
        with np.errstate(invalid="ignore"):
            rms = float(np.sqrt(np.mean(found**2)))
        known = np.isfinite(rms) and rms > 0
        at = np.geomspace(0.1 * rms, found[-1], points) if known else np.full(points, np.nan)
        at[-1] = found[-1] if known else np.nan  # rounding must not push it past the largest
        share = (found.size - np.searchsorted(found, at)) / found.size if known else at
        table = {"size": at, "share": share, "rms": rms, "n": found.size}
        return pd.DataFrame({"member": one.member, "layer": one.layer, **table})

    tables = _threads.of_each(rows, _weights(network, layers), device=network.weights[0].device)
    return pd.concat(tables, ignore_index=True)


class _Entries(NamedTuple):
    """The entries of one weight, (n,) in float64, and its number of inputs."""

    member: int
    layer: int
    entries: np.ndarray
    n_in: int


def _weights(network: Network, layers: Sequence[int] | None) -> list[_Entries]:
    """Return the weights of all members once the chosen layers are known to be there."""
    known = range(1, len(network.weights) + 1)
    chosen = list(known) if layers is None else [_checks.count("layers", n, 1) for n in layers]
    for layer in chosen:
        allowed = f"in [1, {known[-1]}]: the weights of the network"
        _checks.require(layer in known, "layers", layer, allowed)
    found = []
    for member in range(network.n_members):
        for layer in chosen:
            weight = network.weights[layer - 1][member]
            entries = weight.double().cpu().numpy().ravel()
            found.append(_Entries(member, layer, entries, _fan_in(weight)))
    return found


def _fan_in(weight: torch.Tensor) -> int:
    """Return N_in of a dense weight (n_in, n_out) or of a kernel (C_out, C_in, k, k)."""
    return weight.shape[0] if weight.ndim == 2 else weight[0].numel()


def _fitted(entries: np.ndarray, n_in: int, method: str, level: float) -> dict[str, float]:
    if not np.isfinite(entries).all():
        return dict.fromkeys(_FITTED, np.nan)
    fit = stable.fit(entries, method=method, level=level)
    low, high = fit.interval("alpha")
    gain = (2 * n_in) ** (1 / fit.alpha) * fit.scale
    centred = entries - entries.mean()
    variance = float((centred**2).mean())
    gaussian = -0.5 * entries.size * (np.log(2 * np.pi * variance) + 1)
    excess = float((centred**4).mean()) / variance**2 - 3
    law = (fit.alpha, low, high, fit.scale, fit.location)
    rest = (gain**fit.alpha, gain, fit.log_likelihood - gaussian, excess)
    return dict(zip(_FITTED, (*law, *rest), strict=True))


_FITTED = (
    "alpha_fit", "alpha_low", "alpha_high", "scale", "location", "D_w", "gain", "log_ratio",
    "excess_kurtosis",
)  # fmt: skip
