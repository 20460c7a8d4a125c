"""Time a spectrum by theory beside sampling matrices to the same accuracy, in the same run.

Run from the root of the project:  OMP_NUM_THREADS=1 python benchmarks/isometry.py [ACTIVATION ...]

Prints one JSON line per activation and ensemble: processor time for the theory's curve, and that
for sampled networks whose empirical distribution is within the given KS distance of it. Eigenvalues
of one network repel, so sampling needs width rather than numbers: widths double until it is there.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

from mflib.theory import activations, isometry


def eigenvalues(
    name: str, sigma_w2: float, q: float, depth: int, ensemble: str, width: int, seed: int
) -> np.ndarray:
    rng = np.random.default_rng(seed)
    act, jacobian = activations.get(name), np.eye(width)
    for _ in range(depth):
        weights = rng.standard_normal((width, width)) / np.sqrt(width)
        if ensemble == "orthogonal":
            basis, triangle = np.linalg.qr(weights)
            weights = basis * np.sign(np.diag(triangle))
        slopes = act.d1(np.sqrt(q) * rng.standard_normal(width))
        jacobian = slopes[:, None] * (np.sqrt(sigma_w2) * weights @ jacobian)
    return np.sort(np.linalg.svd(jacobian, compute_uv=False) ** 2)


def measure(
    name: str, ensemble: str, depth: int, accuracy: float, widest: int
) -> dict[str, object]:
    q = 0.5
    # the mean of λ is 1
    sigma_w2 = float(np.exp(-isometry.moments(name, 1.0, q, 1)[0]))
    seconds = []
    for _ in range(3):
        start = time.process_time()
        spectrum = isometry.spectrum(name, sigma_w2, q, depth, ensemble=ensemble)
        seconds.append(time.process_time() - start)
    width, distance, sampling = 50, 1.0, 0.0
    while distance > accuracy and width < widest:
        width *= 2
        start = time.process_time()
        lam = eigenvalues(name, sigma_w2, q, depth, ensemble, width, seed=width)
        sampling = time.process_time() - start
        kept = lam > 1e-10
        below = np.arange(1, width + 1)[kept] / width
        distance = float(np.max(np.abs(spectrum.cdf(np.log(lam[kept])) - below)))
    return {
        "benchmark": "isometry.spectrum",
        "activation": name,
        "ensemble": ensemble,
        "depth": depth,
        "points": spectrum.log_lambda.size,
        "cold_s": round(seconds[0], 4),
        "warm_s": round(min(seconds[1:]), 4),
        "sampled_width": width,
        "sampled_s": round(sampling, 3),
        "sampled_ks": round(distance, 5),
        "reached": distance <= accuracy,
        "times_faster": round(sampling / min(seconds[1:]), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("activation", nargs="*", help="names (default: tanh, erf, hard-tanh, relu)")
    parser.add_argument("--depth", type=int, default=16, help="layers (default 16)")
    parser.add_argument("--accuracy", type=float, default=0.003, help="KS distance (default 0.003)")
    parser.add_argument("--widest", type=int, default=1600, help="widest matrices (default 1600)")
    options = parser.parse_args()
    for name in options.activation or ["tanh", "erf", "hard-tanh", "relu"]:
        for ensemble in isometry.ENSEMBLES:
            row = measure(name, ensemble, options.depth, options.accuracy, options.widest)
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
