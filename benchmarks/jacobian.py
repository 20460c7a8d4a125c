"""Time Jacobian spectra beside J written down by autograd and decomposed, in the same run.

    OMP_NUM_THREADS=1 python benchmarks/jacobian.py [--quick]

Prints one JSON line per case, best of the repeats, in turns:

- sample: ``sample_spectrum`` (graded products, all networks at once) beside
  ``torch.func.jacrev`` through the same networks and ``torch.linalg.svdvals``; both in float64.
  ``dense_share_to_1e-6`` is the share of λ that the dense route gives to 1e-6: it loses whatever is
  below 1e-16 of the largest σ. Both times include the draws, which are given apart.
- ensemble: all members' Jacobians at once beside the dense route for one module after another.
- largest: the 6 largest values of a convolutional network by block Lanczos beside the same dense
  route; they agree to 1e-8.
- density: stochastic Lanczos quadrature beside the dense route; the quadrature's accuracy is its
  error bar, which is printed as well as its distance from the dense second moment.

The ratio is that of processor times: above 1, ours is faster.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from mflib.experiment import draws, initialise, jacobian
from mflib.experiment.networks import FullyConnected
from mflib.theory import mean_field

DOUBLE = torch.float64


def fastest(works: list[Callable[[], object]], repeats: int) -> tuple[list[float], list]:
    """Return the least processor time of each work, in turns, and what each returned last."""
    best = [float("inf")] * len(works)
    results: list = [None] * len(works)
    for _ in range(repeats):
        for k, work in enumerate(works):
            started = time.process_time()
            results[k] = work()
            best[k] = min(best[k], time.process_time() - started)
    return best, results


def dense_values(network: Callable, x: torch.Tensor) -> np.ndarray:
    """Return all singular values at one sample x (*shape), ascending."""
    j = torch.func.jacrev(lambda row: network(row[None])[0])(x).reshape(-1, x.numel())
    return torch.linalg.svdvals(j.detach()).flip(0).numpy()


def measure_sample(
    name: str, ensemble: str, width: int, depth: int, n_networks: int, repeats: int
) -> dict[str, object]:
    q = 0.02
    sigma_w2 = 1 / float(mean_field.chi_1(name, q, 1.0))
    sigma_b2 = q - float(mean_field.length_map(name, q, sigma_w2, 0.0))
    options = {"width": width, "depth": depth, "sigma_w2": sigma_w2, "q": q, "ensemble": ensemble}

    def ours() -> np.ndarray:
        return jacobian.sample_spectrum(name, n_networks=n_networks, seed=0, **options)

    def dense() -> np.ndarray:
        rows = []
        for k in range(n_networks):
            members = draws.generators([draws.derive_seed(0, "jacobian", k)])
            x = draws.standard_normal((width,), members, dtype=DOUBLE)[0]
            x *= ((q - sigma_b2) / sigma_w2 * width) ** 0.5 / x.norm()
            variance = torch.tensor([sigma_w2], dtype=DOUBLE)
            layers = []
            for _ in range(depth):
                weight = draws.draw_weights(
                    width, width, variance, members, scheme=ensemble, dtype=DOUBLE
                )[0]
                bias = sigma_b2**0.5 * draws.standard_normal((width,), members, dtype=DOUBLE)[0]
                layers.append((weight, bias))

            def forward(y: torch.Tensor, layers: list = layers) -> torch.Tensor:
                for weight, bias in layers:
                    y = torch.tanh(y @ weight.T + bias)
                return y

            rows.append(2 * np.log(np.maximum(dense_values(forward, x), 1e-300)))
        return np.array(rows)

    def only_draws() -> None:
        variance = torch.full((n_networks,), sigma_w2, dtype=DOUBLE)
        members = draws.generators(range(n_networks))
        for _ in range(depth):
            draws.draw_weights(width, width, variance, members, scheme=ensemble, dtype=DOUBLE)

    seconds, results = fastest([ours, dense, only_draws], repeats)
    gap = np.abs(np.expm1(results[0] - results[1]))
    return {
        "benchmark": "jacobian.sample_spectrum",
        "activation": name,
        "ensemble": ensemble,
        "width": width,
        "depth": depth,
        "networks": n_networks,
        "ours_s": round(seconds[0], 4),
        "dense_s": round(seconds[1], 4),
        "draws_in_both_s": round(seconds[2], 4),
        "ratio": round(seconds[1] / seconds[0], 2),
        "dense_share_to_1e-6": round(float(np.mean(gap < 1e-6)), 3),
        "smallest_log_lambda": round(float(results[0].min()), 1),
    }


def measure_ensemble(members: int, width: int, depth: int, repeats: int) -> dict[str, object]:
    network = FullyConnected.draw(
        "tanh",
        sigma_w2=[1.5] * members,
        sigma_b2=0.05,
        width=width,
        depth=depth,
        n_in=width,
        n_out=width,
        seeds=range(members),
        dtype=DOUBLE,
    )
    x = torch.randn(1, width, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))

    def loop() -> np.ndarray:
        return np.stack([dense_values(network.module(k), x[0]) for k in range(members)])

    seconds, results = fastest([lambda: jacobian.singular_values(network, x), loop], repeats)
    gap = np.abs(results[0].values[:, 0, ::-1] - results[1]) / results[1][:, -1:]
    return {
        "benchmark": "jacobian.singular_values of an ensemble",
        "members": members,
        "width": width,
        "depth": depth,
        "ours_s": round(seconds[0], 4),
        "loop_s": round(seconds[1], 4),
        "ratio": round(seconds[1] / seconds[0], 2),
        "largest_difference_over_largest_value": float(f"{np.max(gap):.1e}"),
    }


def tower(depth: int, channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="circular"),
            nn.Tanh(),
        ]
    module = nn.Sequential(*layers).double()
    generator = torch.Generator().manual_seed(0)
    initialise.critical_(module, "tanh", generator=generator, depth=depth)
    return module


def measure_large(depth: int, channels: int, size: int, repeats: int) -> list[dict[str, object]]:
    module = tower(depth, channels)
    generator = torch.Generator().manual_seed(1)
    x = 0.2 * torch.randn(1, channels, size, size, dtype=DOUBLE, generator=generator)
    seconds, results = fastest(
        [
            lambda: jacobian.singular_values(module, x, method="lanczos", k=6),
            lambda: jacobian.quadrature(module, x, probes=8, steps=20),
            lambda: dense_values(module, x[0]),
        ],
        repeats,
    )
    largest, rule, values = results
    case = {"depth": depth, "channels": channels, "size": size, "rows_of_J": channels * size**2}
    top = values[::-1][:6]
    mean, error = rule.moment(2)
    exact = np.mean(values**4)
    return [
        {
            "benchmark": "jacobian.singular_values",
            **case,
            "lanczos_s": round(seconds[0], 4),
            "dense_s": round(seconds[2], 4),
            "ratio": round(seconds[2] / seconds[0], 2),
            "largest_relative_difference": float(
                f"{np.max(np.abs(largest.values[0] / top - 1)):.1e}"
            ),
        },
        {
            "benchmark": "jacobian.quadrature",
            **case,
            "quadrature_s": round(seconds[1], 4),
            "dense_s": round(seconds[2], 4),
            "ratio": round(seconds[2] / seconds[1], 2),
            "relative_error_of_m2": float(f"{abs(mean[0] / exact - 1):.1e}"),
            "its_error_bar": float(f"{error[0] / exact:.1e}"),
        },
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="small cases only")
    options = parser.parse_args()
    samples = [("tanh", "orthogonal", 16, 8, 4)]
    ensembles = [(5, 8, 3)]
    towers = [(3, 4, 4)]
    if not options.quick:
        samples = [
            ("tanh", "orthogonal", 100, 10, 10),
            ("tanh", "orthogonal", 100, 100, 4),
            ("tanh", "orthogonal", 200, 64, 4),
            ("tanh", "gaussian", 100, 64, 4),
        ]
        ensembles = [(100, 16, 10), (50, 64, 10)]
        towers = [(10, 16, 8), (20, 16, 12)]
    for case in samples:
        print(json.dumps(measure_sample(*case, options.repeats)), flush=True)
    for case in ensembles:
        print(json.dumps(measure_ensemble(*case, options.repeats)), flush=True)
    for case in towers:
        for row in measure_large(*case, options.repeats):
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
