"""Ensemble training beside one-at-a-time training in the same run; one JSON line per measurement.

    python benchmarks/training.py [--device cpu|cuda] [--members 20] [--width 64] [--repeats 5]

The alternative is a plain ``torch.nn.Sequential`` with autograd and ``torch.optim.SGD``, trained
on the same batches, one network after another. The two take turns, and the fastest of the
repeats counts for both, so that other work on the machine harms neither more. The ratio falls
with the batch: the larger a single network's operations, the less there is to gain.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch

from mflib.experiment import data, descent
from mflib.experiment.networks import FullyConnected

CASES = [  # (depth, batch size, activation); the first is the one with a stated goal
    (10, 32, "tanh"),
    (30, 32, "tanh"),
    (10, 64, "tanh"),
    (30, 64, "tanh"),
    (10, 128, "tanh"),
    (30, 64, "relu"),
]
PAPER_CASES = [(10, 256, "tanh"), (50, 256, "tanh"), (100, 256, "tanh")]


def seconds(work: Callable[[], None], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def draw(
    dataset: data.Dataset, members: int, width: int, depth: int, activation: str
) -> FullyConnected:
    return FullyConnected.draw(
        activation,
        sigma_w2=[1.5 + 0.05 * k for k in range(members)],
        sigma_b2=0.05,
        width=width,
        depth=depth,
        n_in=dataset.x_train.shape[1],
        n_out=dataset.n_classes,
        seeds=range(members),
        device=dataset.x_train.device,
    )


def alone(module: torch.nn.Module, dataset: data.Dataset, order: torch.Tensor, rate: float) -> None:
    """Train one plain module on the batches of ``order`` (steps, batch size)."""
    optimiser = torch.optim.SGD(module.parameters(), lr=rate)
    loss = torch.nn.CrossEntropyLoss()
    for batch in order:
        optimiser.zero_grad()
        loss(module(dataset.x_train[batch]), dataset.y_train[batch]).backward()
        optimiser.step()


def matmul_rate(device: torch.device, size: int) -> float:
    """Return the measured rate of one large float32 product, in FLOP/s, best of several."""
    a = torch.randn(size, size, device=device)
    out = torch.empty_like(a)
    torch.mm(a, a, out=out)
    repeats = 20 if device.type == "cuda" else 3

    def work() -> None:
        for _ in range(repeats):
            torch.mm(a, a, out=out)

    return 2 * size**3 * repeats / min(seconds(work, device) for _ in range(4))


def step_flops(network: FullyConnected, batch: int) -> float:
    """Return the FLOP of one step: products forward, for the gradient of W, and for that of y."""
    sizes = [w.shape[1] * w.shape[2] for w in network.weights]
    return 2 * batch * network.n_members * (3 * sum(sizes) - sizes[0])


def waits(trained: descent.Descent, steps: int) -> int | None:
    """Return how often the host waits for the GPU in so many steps (None without one)."""
    if not trained.x.is_cuda:
        return None
    import warnings

    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            trained.advance(steps)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(w.message) for w in caught)


def compare(
    dataset: data.Dataset,
    case: tuple[int, int, str],
    *,
    members: int,
    width: int,
    steps: int,
    repeats: int,
    peak: float,
    precision: str,
) -> dict[str, object]:
    depth, batch, activation = case
    device = dataset.x_train.device
    rate = 1e-3
    network = draw(dataset, members, width, depth, activation)
    modules = [network.module(k) for k in range(members)]
    trained = descent.Descent(
        network,
        dataset.x_train,
        dataset.y_train,
        learning_rates=[rate] * members,
        seeds=[0] * members,
        batch_size=batch,
        steps_per_epoch=steps,
    )
    order = descent.sample_order(len(dataset.x_train), 0, 0, steps, batch).to(device)

    def ensemble() -> None:
        trained.advance(steps)

    def one_at_a_time() -> None:
        for module in modules:
            alone(module, dataset, order, rate)

    ensemble()
    alone(modules[0], dataset, order, rate)
    together, apart = [], []
    for _ in range(repeats):
        together.append(seconds(ensemble, device))
        apart.append(seconds(one_at_a_time, device))
    reached = step_flops(network, batch) * steps / min(together)
    return {
        "benchmark": "training",
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "matrix_precision": precision,
        "activation": activation,
        "members": members,
        "width": width,
        "depth": depth,
        "batch_size": batch,
        "steps": steps,
        "ensemble_ms_per_step": round(1e3 * min(together) / steps, 3),
        "one_at_a_time_ms_per_step": round(1e3 * min(apart) / steps, 3),
        "ratio": round(min(apart) / min(together), 2),
        "ratio_of_medians": round(statistics.median(apart) / statistics.median(together), 2),
        "ensemble_gflops": round(reached / 1e9, 1),
        "share_of_matmul_rate": round(reached / peak, 3),
        "waits_per_epoch": waits(trained, steps),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--members", type=int, default=20)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--steps", type=int, default=11)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--precision", choices=["tf32", "ieee"], default="tf32")
    options = parser.parse_args()
    cuda = options.device == "cuda" or (options.device == "auto" and torch.cuda.is_available())
    device = torch.device("cuda" if cuda else "cpu")
    precision = options.precision if cuda else "ieee"
    with descent.matmul_precision(precision):
        peak = matmul_rate(device, 8192 if cuda else 1024)
        print(
            json.dumps(
                {
                    "benchmark": "matmul",
                    "device": torch.cuda.get_device_name() if cuda else "cpu",
                    "threads": torch.get_num_threads(),
                    "matrix_precision": precision,
                    "gflops": round(peak / 1e9, 1),
                }
            ),
            flush=True,
        )
        common = {"repeats": options.repeats, "peak": peak, "precision": precision}
        digits = data.load("digits", device=device)
        for case in CASES:
            sizes = {"members": options.members, "width": options.width, "steps": options.steps}
            print(json.dumps(compare(digits, case, **sizes, **common)), flush=True)
        if cuda:  # the paper's sizes, on noise of MNIST's shape, so that no data is needed
            noise = data.load("noise", n_train=60_000, n_features=784, device=device)
            for case in PAPER_CASES:
                sizes = {"members": 40, "width": 300, "steps": 30}
                print(json.dumps(compare(noise, case, **sizes, **common)), flush=True)


if __name__ == "__main__":
    main()
