"""Time the theory's fixed points beside scipy.integrate.quad and dblquad, in the same run.

Run from the root of the project:  OMP_NUM_THREADS=1 python benchmarks/theory.py [ACTIVATION ...]

Prints one JSON line per activation: processor time for a 100 × 100 grid over σ_w² in [0.1, 25]
and σ_b² in [0, 2] with all six quantities (cold: first call, tables and all; warm: second), the
time per point, and that of adaptive quadrature with root finding at a few points of the grid.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import warnings
from collections.abc import Callable

import numpy as np
from scipy import integrate, optimize

from mflib.theory import activations, mean_field

REACH = 10.0
# below 1 by more than dblquad's error, which decides whether c = 1 attracts
BELOW_ONE = 1 - 1e-4


def density(z: float) -> float:
    return math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)


def gaussian_mean(f: Callable[[float], float]) -> float:
    return float(integrate.quad(lambda z: f(z) * density(z), -REACH, REACH, limit=200)[0])


def depth(slope: float) -> float:
    # quad misses the narrow slope of hard-tanh at some q and returns 0
    return -1 / math.log(abs(slope)) if slope else 0.0


def pair_mean(f: Callable[[float], float], q: float, c: float) -> float:
    root, s = math.sqrt(q), math.sqrt(1 - c * c)

    def integrand(y: float, x: float) -> float:
        return f(root * x) * f(root * (c * x + s * y)) * density(x) * density(y)

    return float(integrate.dblquad(integrand, -REACH, REACH, -REACH, REACH)[0])


def by_adaptive_quadrature(name: str, sigma_w2: float, sigma_b2: float) -> dict[str, float]:
    """Return the six quantities as one would compute them with scipy."""
    act = activations.get(name)

    def phi(x: float) -> float:
        return float(act.function(x))

    def slope(x: float) -> float:
        return float(act.first(x))

    def length(q: float) -> float:
        return sigma_w2 * gaussian_mean(lambda z: phi(math.sqrt(q) * z) ** 2) + sigma_b2

    q = float(optimize.brentq(lambda x: length(x) - x, 1e-8, 1e3, xtol=1e-13, rtol=1e-12))
    root = math.sqrt(q)
    chi_1 = sigma_w2 * gaussian_mean(lambda z: slope(root * z) ** 2)
    chi_q = sigma_w2 / root * gaussian_mean(lambda z: z * phi(root * z) * slope(root * z))

    def excess(c: float) -> float:
        return (sigma_w2 * pair_mean(phi, q, c) + sigma_b2) / q - c

    chaotic = excess(BELOW_ONE) < 0
    c = float(optimize.brentq(excess, 0.0, BELOW_ONE, xtol=1e-10)) if chaotic else 1.0
    chi_c = sigma_w2 * pair_mean(slope, q, c) if chaotic else chi_1
    return {
        "q": q,
        "c": c,
        "chi_1": chi_1,
        "chi_c": chi_c,
        "xi_q": depth(chi_q),
        "xi_c": depth(chi_c),
    }


def sample_points(grid: mean_field.FixedPoint, count: int) -> np.ndarray:
    """Return flat indices of grid points, drawn among those with all six quantities.

    Points so close to criticality that dblquad's error would decide the phase are left out.
    """
    clear = (grid.reason == "") & (np.abs(grid.chi_1 - 1) > 0.02) & (grid.q > 1e-3)
    rng = np.random.default_rng(0)
    return rng.choice(np.flatnonzero(clear), size=count, replace=False)


def measure(name: str, count: int, repeats: int, budget: float) -> dict[str, object]:
    sigma_w2, sigma_b2 = np.meshgrid(
        np.linspace(0.1, 25, 100), np.linspace(0, 2, 100), indexing="ij"
    )
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        grid = mean_field.fixed_point(name, sigma_w2, sigma_b2)
        seconds.append(time.process_time() - start)
    points = sample_points(grid, count)
    start = time.process_time()
    slow = []
    for i in points:
        slow.append(by_adaptive_quadrature(name, sigma_w2.flat[i], sigma_b2.flat[i]))
        # kinks inside the square can take dblquad a minute for one point
        if time.process_time() - start > budget:
            break
    per_point = (time.process_time() - start) / len(slow)
    worst = max(
        abs(row[field] - getattr(grid, field).flat[i])
        for row, i in zip(slow, points, strict=False)
        for field in ("q", "c", "chi_1", "chi_c")
    )
    defined = int(np.isfinite(grid.q).sum())
    ours = seconds[0] / sigma_w2.size
    return {
        "benchmark": "theory.fixed_point",
        "activation": name,
        "grid": sigma_w2.size,
        "points_with_a_fixed_point": defined,
        "cold_s": round(seconds[0], 4),
        "warm_s": round(min(seconds[1:]), 4),
        "ours_us_per_point": round(1e6 * seconds[0] / defined, 3),
        "scipy_ms_per_point": round(1e3 * per_point, 1),
        "scipy_points": len(slow),
        # c* takes some ten dblquads where it lies below 1, and one where the check says it is 1
        "scipy_points_with_c_below_1": sum(row["c"] < 1 for row in slow),
        "times_faster": round(per_point / (seconds[0] / defined)),
        "times_faster_over_the_whole_grid": round(per_point / ours),
        "largest_difference": float(f"{worst:.1e}"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("activation", nargs="*", help="names (default: all)")
    parser.add_argument("--points", type=int, default=3, help="points for scipy (default 3)")
    parser.add_argument("--repeats", type=int, default=3, help="grid evaluations (default 3)")
    parser.add_argument("--budget", type=float, default=30.0, help="seconds of scipy per name")
    options = parser.parse_args()
    # quad warns of slow convergence at kinks; the largest difference shows what it cost
    warnings.simplefilter("ignore", integrate.IntegrationWarning)
    for name in options.activation or activations.names():
        row = measure(name, options.points, max(2, options.repeats), options.budget)
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
