"""What to watch in networks as they train, for ``training.observed``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from mflib.experiment import _checks
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
    known = range(1, len(network.weights) + 1)
    chosen = list(known) if layers is None else [_checks.count("layers", n, 1) for n in layers]
    for layer in chosen:
        allowed = f"in [1, {known[-1]}]: the weights of the network"
        _checks.require(layer in known, "layers", layer, allowed)
    rows = []
    for member in range(network.n_members):
        for layer in chosen:
            weight = network.weights[layer - 1][member].double().cpu()
            found = _fitted(weight.numpy().ravel(), _fan_in(weight), method, level)
            rows.append({"member": member, "layer": layer, "n": weight.numel(), **found})
    return pd.DataFrame(rows)


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
