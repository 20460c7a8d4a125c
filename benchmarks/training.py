"""Ensemble training beside one-at-a-time training in the same run; one JSON line per measurement.

    python benchmarks/training.py [--device cpu|cuda] [--members 20] [--width 64] [--repeats 5]

The alternative is a plain ``torch.nn.Sequential`` with autograd and ``torch.optim.SGD``, trained
on the same batches, one network after another. The two take turns, and the fastest of the
repeats counts for both, so that other work on the machine harms neither more. The ratio falls
with the batch: the larger a single network's operations, the less there is to gain.

Convolutional networks are measured against ``Conv2d(padding_mode="circular")``, and each tower
with all activations stored against the same tower checkpointed, in time and in memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch

from mflib.experiment import data, descent
from mflib.experiment.layers import Convolution
from mflib.experiment.networks import Convolutional, FullyConnected, Network

CASES = [  # (depth, batch size, activation); the first is the one with a stated goal
    (10, 32, "tanh"),
    (30, 32, "tanh"),
    (10, 64, "tanh"),
    (30, 64, "tanh"),
    (10, 128, "tanh"),
    (30, 64, "relu"),
]
CONVOLUTIONAL_CASES = [  # (depth, channels, batch size, stride-2 convolutions)
    (20, 16, 32, 1),
    (20, 16, 64, 1),
    (100, 16, 64, 1),
    (20, 32, 32, 1),
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


def draw_convolutional(
    dataset: data.Dataset, members: int, depth: int, channels: int, stride2: int
) -> Convolutional:
    return Convolutional.draw(
        "tanh",
        sigma_w2=[1.0 + 0.02 * k for k in range(members)],
        sigma_b2=1e-3,
        channels=channels,
        depth=depth,
        image_shape=dataset.image_shape,
        n_out=dataset.n_classes,
        seeds=range(members),
        stride2=stride2,
        readout="flatten",
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


def step_flops(network: Network, batch: int) -> float:
    """Return the FLOP of one step: products forward, for the gradient of W, and for that of y."""
    sizes = []
    for layer, weight in zip(network.layers, network.weights, strict=True):
        positions = layer.positions_out if isinstance(layer, Convolution) else 1
        sizes.append(weight[0].numel() * positions)
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
    network: Network,
    dataset: data.Dataset,
    *,
    batch: int,
    steps: int,
    repeats: int,
    peak: float,
    precision: str,
) -> dict[str, object]:
    device = dataset.x_train.device
    members = network.n_members
    rate = 1e-3
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
        "architecture": type(network).__name__,
        "activation": network.activation,
        "members": members,
        "width": network.layers[0].channels_out,
        "depth": network.depth,
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


def checkpointed(
    dataset: data.Dataset, *, depth: int, channels: int, batch: int, repeats: int
) -> dict[str, object]:
    """Time one step of a tower with all activations stored, and with a root of them."""
    device = dataset.x_train.device
    both = []
    for limit in (2**62, 0):
        network = draw_convolutional(dataset, 1, depth, channels, 1)
        trained = descent.Descent(
            network,
            dataset.x_train,
            dataset.y_train,
            learning_rates=[1e-5],
            seeds=[0],
            batch_size=batch,
            momentum=0.9,
            memory_limit=limit,
        )
        trained.advance(5 if device.type == "cuda" else 1)
        both.append(trained)
    spent: list[list[float]] = [[], []]
    for _ in range(repeats):
        for trained, times in zip(both, spent, strict=True):
            times.append(seconds(lambda trained=trained: trained.advance(1), device))
    stored, kept = (min(times) for times in spent)
    return {
        "benchmark": "checkpointing",
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "depth": depth,
        "channels": channels,
        "batch_size": batch,
        "segment": both[1].segment,
        "stored_ms_per_step": round(1e3 * stored, 2),
        "checkpointed_ms_per_step": round(1e3 * kept, 2),
        "time_ratio": round(kept / stored, 2),
        "stored_mib": round(both[0].activation_bytes / 2**20, 2),
        "checkpointed_mib": round(both[1].activation_bytes / 2**20, 2),
        "memory_ratio": round(both[0].activation_bytes / both[1].activation_bytes, 1),
        "stored_us_per_layer_step": round(1e6 * stored / depth, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--members", type=int, default=20)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--steps", type=int, default=11)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tower", type=int, default=1000, help="depth of the deepest tower")
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
        for depth, batch, activation in CASES:
            network = draw(digits, options.members, options.width, depth, activation)
            line = compare(network, digits, batch=batch, steps=options.steps, **common)
            print(json.dumps(line), flush=True)
        for depth, channels, batch, stride2 in CONVOLUTIONAL_CASES:
            deep = draw_convolutional(digits, options.members, depth, channels, stride2)
            line = compare(deep, digits, batch=batch, steps=min(options.steps, 5), **common)
            print(json.dumps(line), flush=True)
        for depth in (100, options.tower):
            line = checkpointed(digits, depth=depth, channels=16, batch=64, repeats=options.repeats)
            print(json.dumps(line), flush=True)
        if cuda:  # the paper's sizes, on noise of MNIST's shape, so that no data is needed
            noise = data.load("noise", n_train=60_000, n_features=784, device=device)
            for depth, batch, activation in PAPER_CASES:
                network = draw(noise, 40, 300, depth, activation)
                line = compare(network, noise, batch=batch, steps=30, **common)
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
