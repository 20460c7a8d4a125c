"""Time batched orthogonal draws beside a loop over ``torch.nn.init.orthogonal_``, in the same run.

    OMP_NUM_THREADS=1 python benchmarks/initialise.py [--device cpu|cuda] [--repeats 5]

Prints one JSON line per size: an ensemble of square matrices, all members at once by
``draws.haar_orthogonal`` (a generator for each member) and one after another by PyTorch's
initialiser, both in float32; and one line per convolution: ``delta_orthogonal_`` on a deep tower
beside PyTorch's initialiser on the same kernels, whose operator is not orthogonal. The two take
turns and the fastest of the repeats counts for both. The ratio is that of times: above 1, ours is
faster. It falls with the width, where the decomposition itself is all of the time.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import torch
from torch import nn

from mflib.experiment import draws, initialise, jacobian

CASES = [(1000, 8), (400, 16), (200, 32), (50, 100), (10, 300)]  # (members, width)


def fastest(works: list[Callable[[], object]], device: str, repeats: int) -> list[float]:
    """Return the least wall time of each work over the repeats, in turns, after one unmeasured."""
    best = [float("inf")] * len(works)
    for repeat in range(repeats + 1):
        for k, work in enumerate(works):
            if device == "cuda":
                torch.cuda.synchronize()
            started = time.perf_counter()
            work()
            if device == "cuda":
                torch.cuda.synchronize()
            if repeat:
                best[k] = min(best[k], time.perf_counter() - started)
    return best


def measure_draws(members: int, width: int, device: str, repeats: int) -> dict[str, object]:
    matrices = torch.empty(members, width, width, device=device)

    def batched() -> torch.Tensor:
        generators = draws.generators(range(members), device=device)
        return draws.haar_orthogonal(width, width, generators, dtype=torch.float32)

    def loop() -> None:
        for matrix in matrices:
            nn.init.orthogonal_(matrix)

    ours, theirs = fastest([batched, loop], device, repeats)
    q = batched()
    off = (q @ q.mT - torch.eye(width, device=device)).abs().max().item()
    return {
        "benchmark": "initialise.haar_orthogonal",
        "device": device,
        "members": members,
        "width": width,
        "ours_s": round(ours, 5),
        "torch_loop_s": round(theirs, 5),
        "ratio": round(theirs / ours, 2),
        "largest_deviation_from_orthogonality": float(f"{off:.1e}"),
    }


def measure_tower(depth: int, channels: int, device: str, repeats: int) -> dict[str, object]:
    layers = [
        nn.Conv2d(channels, channels, 3, padding=1, padding_mode="circular") for _ in range(depth)
    ]
    tower = nn.Sequential(*layers).to(device)
    generator = torch.Generator(device=device).manual_seed(0)

    def ours() -> None:
        initialise.delta_orthogonal_(tower, sigma_w2=1.0, sigma_b2=0.0, generator=generator)

    def loop() -> None:
        for layer in tower:
            nn.init.orthogonal_(layer.weight)
            nn.init.zeros_(layer.bias)

    def extremes() -> list[float]:
        x = torch.zeros(1, channels, 4, 4, device=device)
        values = jacobian.singular_values(tower[0], x, method="exact").values
        return [round(float(end), 5) for end in (values.min(), values.max())]

    best = fastest([loop, ours], device, repeats)
    flat = extremes()
    loop()
    return {
        "benchmark": "initialise.delta_orthogonal_",
        "device": device,
        "depth": depth,
        "channels": channels,
        "ours_s": round(best[1], 5),
        "torch_loop_s": round(best[0], 5),
        "ratio": round(best[0] / best[1], 2),
        "singular_values_of_one_layer": flat,
        "singular_values_of_one_layer_torch": extremes(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--largest", type=int, default=300, help="leave out wider cases")
    options = parser.parse_args()
    for members, width in CASES:
        if width <= options.largest:
            row = measure_draws(members, width, options.device, options.repeats)
            print(json.dumps(row), flush=True)
    for depth, channels in ((100, 16), (20, 64)):
        if channels <= options.largest:
            row = measure_tower(depth, channels, options.device, options.repeats)
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
