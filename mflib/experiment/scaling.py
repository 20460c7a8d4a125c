"""Exponents of power laws measured with errors."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def log_slope(x: ArrayLike, y: ArrayLike, error: ArrayLike) -> tuple[float, float]:
    """Return p of |y| ∝ x^p and its standard error, from values y with standard errors.

    A straight line through (log x, log |y|), each point weighted by |y|/error; the error of p
    follows from those of y alone. x > 0, y ≠ 0, error > 0, each (n,), n ≥ 2.

    >>> round(log_slope([1.0, 2.0, 4.0], [3.0, 1.5, 0.75], [0.1, 0.1, 0.1])[0], 9)
    -1.0
    """
    at, values = np.log(np.asarray(x, dtype=float)), np.abs(np.asarray(y, dtype=float))
    line, covariance = np.polyfit(
        at, np.log(values), 1, w=values / np.asarray(error, dtype=float), cov="unscaled"
    )
    return float(line[0]), float(np.sqrt(covariance[0, 0]))
