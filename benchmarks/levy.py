"""Time heavy-tailed mean field beside sampling of the same accuracy and plain quadrature.

Run from the root of the project:  OMP_NUM_THREADS=1 python benchmarks/levy.py

Prints one JSON line per measurement: fixed points of one column of the phase plane beside nested
scipy quadrature, one distribution function beside a Monte-Carlo run whose time is scaled to the
same error, and the whole phase diagram at growing numbers of points.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
from scipy import integrate, optimize, special, stats

from mflib.theory import levy, stable


def timed(work: Callable[[], object], repeats: int = 3) -> tuple[float, object]:
    """Return the least processor time of several runs, and the last result."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        out = work()
        seconds.append(time.process_time() - start)
    return min(seconds), out


def fixed_points(alpha: float, points: int) -> dict[str, object]:
    """Compare a column of fixed points with quad and brentq over scipy's density at one point."""
    gain = np.linspace(0.05, 3.0, points)

    def ours() -> np.ndarray:
        return levy.fixed_point("tanh", alpha, gain**alpha).log_q

    start = time.process_time()
    ours()
    cold = time.process_time() - start
    warm, log_q = timed(ours)
    at = int(np.argmin(np.abs(gain - 2.0)))

    def excess(log_q: float) -> float:
        scale = np.exp((log_q - np.log(2)) / alpha)

        def integrand(x: float) -> float:
            return np.tanh(scale * x) ** alpha * stats.levy_stable.pdf(x, alpha, 0.0)

        inner = integrate.quad(integrand, 0, 40, epsrel=1e-6)[0]
        inner += float(stable.sf(40.0, alpha))  # where tanh is 1
        return np.log(gain[at] ** alpha * 2 * inner) - log_q

    start = time.process_time()
    near = optimize.brentq(excess, log_q[at] - 1, log_q[at] + 1, xtol=1e-6)
    plain = time.process_time() - start
    return {
        "benchmark": "levy.fixed_point",
        "alpha": alpha,
        "points": points,
        "cold_s": round(cold, 4),
        "warm_s": round(warm, 4),
        "scipy_one_point_s": round(plain, 3),
        "scipy_difference": float(f"{near - log_q[at]:.1e}"),
        "times_faster_per_point": round(plain * points / warm),
    }


def sampled_share(alpha: float, gain: float, u: float, size: int, seed: int) -> tuple[float, float]:
    """Return r and F(r) of equations 7 and 8 at u = r/y from samples of h, S and S'."""
    rng = np.random.default_rng(seed)
    scale = np.exp((levy.fixed_point("tanh", alpha, gain**alpha).log_q - np.log(2)) / alpha)
    index = alpha / 2
    factor = (special.gamma(1 + alpha) / (2 * special.gamma(1 + index))) ** (1 / index)

    def one_sided() -> np.ndarray:
        angle, wait = np.pi * rng.random(size), rng.exponential(size=size)
        core = np.sin(index * angle) / np.sin(angle) ** (1 / index)
        return factor * core * (np.sin((1 - index) * angle) / wait) ** ((1 - index) / index)

    h = np.clip(stable.sample(alpha, size, scale=float(scale), rng=rng), -300, 300)
    first = (gain / np.cosh(h) ** 2) ** 2 * one_sided()
    both = first * one_sided()
    level = np.mean((first / (u * u + both)) ** index)
    return u * level ** (1 / alpha), float(np.mean(u * u / (u * u + both)))


def distribution(alpha: float, gain: float, accuracy: float, size: int) -> dict[str, object]:
    """Compare a curve of 400 moduli with the time that samples need for the accuracy at one."""
    r = np.linspace(0.01, 4.0, 400)
    warm, _ = timed(lambda: levy.modulus_cdf("tanh", alpha, gain**alpha, r))
    start = time.process_time()
    errors = []
    for seed in range(8):
        modulus, share = sampled_share(alpha, gain, 0.7, size, seed)
        errors.append(share - float(levy.modulus_cdf("tanh", alpha, gain**alpha, modulus)))
    sampling = (time.process_time() - start) / 8
    deviation = float(np.sqrt(np.mean(np.square(errors))))
    needed = sampling * (deviation / accuracy) ** 2
    return {
        "benchmark": "levy.modulus_cdf",
        "alpha": alpha,
        "gain": gain,
        "points": r.size,
        "warm_s": round(warm, 4),
        "samples": size,
        "sampled_s": round(sampling, 3),
        "sampled_error": float(f"{deviation:.1e}"),
        "sampled_s_at_accuracy": round(needed),
        "accuracy": accuracy,
        "curve_faster_than_sampled_point": float(f"{needed / warm:.1e}"),
    }


def diagrams(alphas: int, gains: tuple[int, ...]) -> list[dict[str, object]]:
    """Time whole diagrams, every contour of the paper's figure, at growing numbers of points."""
    rows = []
    for count in gains:
        gain = np.linspace(0.05, 3.0, count)
        start = time.process_time()
        levy.phase_diagram(alpha=np.linspace(1, 2, alphas), gain=gain)
        seconds = time.process_time() - start
        rows.append(
            {
                "benchmark": "levy.phase_diagram",
                "alphas": alphas,
                "gains": count,
                "points": alphas * count,
                "seconds": round(seconds, 2),
                "ms_per_point": round(1e3 * seconds / (alphas * count), 2),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--accuracy", type=float, default=1e-6, help="of F (default 1e-6)")
    parser.add_argument("--samples", type=int, default=500_000, help="of a run (default 500000)")
    parser.add_argument("--alphas", type=int, default=21, help="columns (default 21)")
    options = parser.parse_args()
    for alpha in (1.2, 1.8):
        print(json.dumps(fixed_points(alpha, 60)), flush=True)
    for alpha, gain in ((1.2, 1.5), (1.8, 1.0)):
        row = distribution(alpha, gain, options.accuracy, options.samples)
        print(json.dumps(row), flush=True)
    # the first pays for the tables
    for row in diagrams(options.alphas, (60, 120, 240)):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
