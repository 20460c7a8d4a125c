"""Growth of a weak signal in a heavy-tailed network of finite width."""

from __future__ import annotations

import numpy as np

from mflib.theory import stable

_STEP = 0.05  # of the trapezoidal rules in log t and log z: halving it changes nothing above 1e-12
_LEAST = -60.0  # of log t: what lies below adds e^-60
_SPENT = 60.0  # an exponent beyond which exp(−x) counts for nothing


def mean_log_growth(alpha: float, width: int) -> float:
    """Return E log T, T = (1/2N) Σ_j |Z_j|^α over N = ``width`` independent Z_j ~ S_α(1).

    By Frullani's integral, E log T = ∫_0^∞ (e^{−t} − E e^{−tT}) dt/t, with E e^{−tT} the N-th power
    of an average over one Z. Both integrands are smooth in the logarithm of their variable and
    fall off at both ends, where the trapezoidal rule converges exponentially.
    """
    # L(t)^N falls as t^{−N/α} at last
    log_t = np.arange(_LEAST, 8 + _SPENT * alpha / width, _STEP)
    t = np.exp(log_t)
    s = t / (2 * width)
    far = np.log(_SPENT / s[0]) / alpha if alpha < 2 else np.log(30.0)
    near = -(_SPENT + max(0.0, float(np.log(s[-1])))) / alpha
    log_z = np.arange(near, far + _STEP, _STEP)
    z = np.exp(log_z)
    weight = 2 * _STEP * z * stable.pdf(z, alpha)
    # 1 − E e^{−s|Z|^α}, whose exponential is 0 beyond the last node
    missing = -np.expm1(-s[:, None] * z**alpha) @ weight
    missing += 2 * stable.sf(z[-1] * np.exp(_STEP / 2), alpha)
    with np.errstate(divide="ignore"):
        left = np.exp(width * np.log1p(-np.minimum(missing, 1.0)))
    return float(_STEP * (np.exp(-t) - left).sum())
