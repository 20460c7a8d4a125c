"""Ensemble training beside one-at-a-time training in the same run; one JSON line per measurement.

    python benchmarks/training.py [--device cpu|cuda] [--members 20] [--width 64] [--repeats 5]
    python benchmarks/training.py --rehearse        # all of it in tiny sizes, in seconds

The alternative is a plain ``torch.nn.Sequential`` with autograd and ``torch.optim.SGD``, trained
on the same batches, one network after another: step by step, and, on a GPU, with the step captured
as a CUDA graph and replayed; what is faster counts. All take turns, and the fastest of the repeats
counts for each, so that other work on the machine harms none more. The ratio falls with the batch:
the larger a single network's operations, the less there is to gain.

On a GPU the grid's own sizes come first (``--small`` adds the others): what is reached of the rate
of large matrix products and of the memory bandwidth, both measured in the same run, and of the
time that these two set for the operations and for the bytes that a step must move at least; how
often the host waits; and how the time grows with the number of points and with depth.

Convolutional networks are measured against ``Conv2d(padding_mode="circular")``, and each tower
with all activations stored against the same tower checkpointed, in time and in memory.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from mflib.experiment import data, descent
from mflib.experiment._devices import resolve_device
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
FASTER = 30.0  # aimed at: times the throughput of networks one at a time …
SHARE = 0.25  # … and the share of the matrix rate, where the bandwidth allows as much


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The grid's own sizes: all depths at all members, and more of both for the growth."""

    members: int = 40
    width: int = 300
    batch: int = 256
    features: int = 784
    samples: int = 60_000
    depths: tuple[int, ...] = (10, 20, 50, 100)
    growing: tuple[int, ...] = (5, 10, 20, 40)
    at_depth: int = 50
    steps: int = 30
    alone: int = 3  # networks that are timed one at a time; all take the same time


TINY = Sizes(4, 12, 16, 16, 128, (2, 4), (2, 4), 3, 4, 2)


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


class Alone:
    """One plain module, trained as fast as torch does it: eagerly, or by replaying its step.

    ``order`` (steps, batch size) are the batches of ``advance``.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        dataset: data.Dataset,
        order: torch.Tensor,
        rate: float,
        *,
        fused: bool = False,
        graphed: bool = False,
    ) -> None:
        self.module, self.dataset, self.order = module, dataset, order
        self.optimiser = torch.optim.SGD(
            module.parameters(), lr=rate, foreach=not fused, fused=fused
        )
        self.loss = torch.nn.CrossEntropyLoss()
        self.graph: torch.cuda.CUDAGraph | None = None
        if graphed:
            self.row = torch.zeros(1, dtype=torch.int64, device=order.device)
            beside = torch.cuda.Stream()
            beside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(beside):  # as torch's own documentation has it
                for _ in range(3):
                    self.step_of_row()
            torch.cuda.current_stream().wait_stream(beside)
            self.optimiser.zero_grad(set_to_none=True)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.step_of_row()

    def step_of_row(self) -> None:
        """Take the batch at the counter on the device, which no host need know."""
        self.step(self.order.index_select(0, self.row)[0])
        self.row.add_(1).remainder_(len(self.order))

    def step(self, batch: torch.Tensor) -> None:
        x = self.dataset.x_train.index_select(0, batch)
        y = self.dataset.y_train.index_select(0, batch)
        self.optimiser.zero_grad()
        self.loss(self.module(x), y).backward()
        self.optimiser.step()

    def advance(self) -> None:
        """Take the step of every batch."""
        for batch in self.order:
            if self.graph is None:
                self.step(batch)
            else:
                self.graph.replay()


def fastest_optimiser(make: Callable[[bool], Alone], device: torch.device) -> bool:
    """Return whether the fused optimiser is faster than the one over lists, both warm."""
    best = []
    for fused in (False, True):
        one = make(fused)
        one.advance()
        best.append(min(seconds(one.advance, device) for _ in range(2)))
    return best[1] < best[0]


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


def copy_rate(device: torch.device, numbers: int) -> float:
    """Return the measured rate of a large copy in memory, bytes read plus bytes written per s."""
    a = torch.randn(numbers, device=device)
    out = torch.empty_like(a)
    repeats = 10 if device.type == "cuda" else 2

    def work() -> None:
        for _ in range(repeats):
            out.copy_(a)

    return 8 * numbers * repeats / min(seconds(work, device) for _ in range(4))


def products_rate(device: torch.device, members: int, width: int, batch: int) -> float:
    """Return the measured rate of the grid's own products, all members' at once, in FLOP/s."""
    a = torch.randn(members, width, width, device=device)
    b = torch.randn(members, width, batch, device=device)
    out = torch.empty_like(b)

    def work() -> None:
        for _ in range(10):
            torch.bmm(a, b, out=out)

    return 20 * members * width**2 * batch / min(seconds(work, device) for _ in range(4))


def step_bytes(network: Network, batch: int) -> float:
    """Return the fewest bytes that one step of a dense network can move through memory.

    More than a cache holds passes between two uses of a weight or of an activation: so each weight
    is read on the way up, read on the way down and written; each y is written going up and read
    going down; z and δ need never leave the chip.
    """
    numbers = 3 * sum(p.numel() for p in (*network.weights, *network.biases))
    numbers += (
        2
        * batch
        * (
            network.layers[0].n_in
            + network.n_members * sum(layer.n_out for layer in network.layers[:-1])
        )
    )
    return numbers * network.weights[0].element_size()


def step_flops(network: Network, batch: int) -> float:
    """Return the FLOP of one step: products forward, for the gradient of W, and for that of y."""
    sizes = []
    for layer, weight in zip(network.layers, network.weights, strict=True):
        positions = layer.positions_out if isinstance(layer, Convolution) else 1
        sizes.append(weight[0].numel() * positions)
    return 2 * batch * network.n_members * (3 * sum(sizes) - sizes[0])


def waits(trained: descent.Descent) -> dict[str, int | None]:
    """Return how often the host waits for the GPU as an epoch begins, and inside it (or None)."""
    if not trained.x.is_cuda:
        return {"waits_as_an_epoch_begins": None, "waits_inside_an_epoch": None}
    steps = trained.steps_per_epoch
    trained.advance(-trained.steps_done % steps)

    def count(n: int) -> int:
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                trained.advance(n)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return sum("synchroniz" in str(w.message) for w in caught)

    return {"waits_as_an_epoch_begins": count(1), "waits_inside_an_epoch": count(steps - 1)}


@dataclasses.dataclass(frozen=True)
class Rates:
    """What the device does at most, as measured in this run: FLOP/s, and bytes/s of a copy."""

    matrix: float
    copy: float
    precision: str
    rehearsal: bool


def line(name: str, device: torch.device, rates: Rates, **figures: Any) -> None:
    """Print one measurement."""
    common = {
        "benchmark": name,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "matrix_precision": rates.precision,
        **({"rehearsal": True} if rates.rehearsal else {}),
    }
    print(json.dumps(common | figures), flush=True)


def ensemble(
    network: Network, dataset: data.Dataset, batch: int, steps: int, rate: float = 1e-3
) -> descent.Descent:
    """Return the ensemble's training, warm: on a GPU its step is captured."""
    trained = descent.Descent(
        network, dataset.x_train, dataset.y_train, batch_size=batch, steps_per_epoch=steps,
        learning_rates=[rate] * network.n_members, seeds=[0] * network.n_members,
    )  # fmt: skip
    trained.advance(max(steps, 5))
    return trained


def compare(
    network: Network,
    dataset: data.Dataset,
    rates: Rates,
    *,
    batch: int,
    steps: int,
    repeats: int,
    timed: int | None = None,
    bounded: bool = False,
) -> None:
    """Print the ensemble beside its networks one at a time, of which ``timed`` are timed.

    ``bounded``: beside what the device's rates allow too.
    """
    device, members, rate = dataset.x_train.device, network.n_members, 1e-3
    cuda = device.type == "cuda"
    some = range(members if timed is None else min(timed, members))
    order = descent.sample_order(len(dataset.x_train), 0, 0, steps, batch).to(device)

    def plain(k: int, fused: bool, graphed: bool = False) -> Alone:
        return Alone(network.module(k), dataset, order, rate, fused=fused, graphed=graphed)

    fused = fastest_optimiser(lambda fused: plain(0, fused), device)
    eager = [plain(k, fused) for k in some]
    graphed = [plain(k, fused, graphed=True) for k in some] if cuda else []
    trained = ensemble(network, dataset, batch, steps, rate)
    spent: dict[str, list[float]] = {"together": [], "eager": [], "graphed": []}
    for _ in range(repeats + 1):  # the first of each is not counted
        spent["together"].append(seconds(lambda: trained.advance(steps), device))
        for name, ones in (("eager", eager), ("graphed", graphed)):
            if ones:
                found = sum(seconds(one.advance, device) for one in ones)
                spent[name].append(found * members / len(some))
    counted = {name: times[1:] for name, times in spent.items() if times}
    best = {name: min(times) for name, times in counted.items()}
    apart = min((name for name in best if name != "together"), key=best.__getitem__)
    flops = step_flops(network, batch)
    reached = flops * steps / best["together"]
    figures: dict[str, Any] = {
        "architecture": type(network).__name__,
        "activation": network.activation,
        "members": members,
        "width": network.layers[0].channels_out,
        "depth": network.depth,
        "batch_size": batch,
        "steps": steps,
        "ensemble_ms_per_step": round(1e3 * best["together"] / steps, 4),
        "one_at_a_time_ms_per_step": round(1e3 * best[apart] / steps, 4),
        "one_at_a_time": apart,
        "one_at_a_time_optimiser": "fused" if fused else "foreach",
        "networks_timed_one_at_a_time": len(some),
        "eager_ms_per_step": round(1e3 * best["eager"] / steps, 4),
        "graphed_ms_per_step": (
            round(1e3 * best["graphed"] / steps, 4) if cuda else "skipped: no GPU, no graphs"
        ),
        "ratio": round(best[apart] / best["together"], 2),
        "ratio_to_eager": round(best["eager"] / best["together"], 2),
        "ratio_to_graphed": round(best["graphed"] / best["together"], 2) if cuda else None,
        "ratio_of_medians": round(
            statistics.median(counted[apart]) / statistics.median(counted["together"]), 2
        ),
        "ensemble_gflops": round(reached / 1e9, 1),
        "share_of_matmul_rate": round(reached / rates.matrix, 3),
    }
    if bounded:
        least = step_bytes(network, batch)
        at_best = max(flops / rates.matrix, least / rates.copy)
        allowed = min(SHARE * rates.matrix, flops / least * rates.copy)
        figures |= {
            "gflop_per_step": round(flops / 1e9, 3),
            "least_mb_per_step": round(least / 1e6, 3),
            "least_gb_per_s": round(least * steps / best["together"] / 1e9, 1),
            "share_of_copy_rate": round(least * steps / best["together"] / rates.copy, 3),
            "bound_ms_per_step": round(1e3 * at_best, 4),
            "bound_by": "products" if flops / rates.matrix > least / rates.copy else "bandwidth",
            "share_of_bound": round(at_best * steps / best["together"], 3),
            "goals": {"ratio": FASTER, "gflops": round(allowed / 1e9, 1)},
            "reached": {
                "ratio": best[apart] / best["together"] >= FASTER,
                "gflops": reached >= allowed,
            },
        }
    line("training", device, rates, **figures, **waits(trained))


def growth(
    name: str,
    dataset: data.Dataset,
    rates: Rates,
    sizes: Sizes,
    cases: Sequence[tuple[int, int]],
    repeats: int,
) -> None:
    """Print the time of a step against points or depth: t = a + c n, and its power of n.

    ``cases`` are (members, depth), of which one changes.
    """
    device = dataset.x_train.device
    running = [
        ensemble(draw(dataset, members, sizes.width, depth, "tanh"), dataset, sizes.batch, steps)
        for (members, depth), steps in zip(cases, itertools.repeat(sizes.steps))
    ]
    spent = [
        [seconds(lambda one=one: one.advance(sizes.steps), device) for one in running]
        for _ in range(repeats)
    ]
    n = np.array([case[name == "depth"] for case in cases], dtype=float)
    ms = 1e3 / sizes.steps * np.min(spent, axis=0)
    each, fixed = np.polyfit(n, ms, 1)
    line(
        "growth", device, rates,
        along=name, width=sizes.width, batch_size=sizes.batch,
        cases=[{"members": members, "depth": depth} for members, depth in cases],
        ms_per_step=[round(float(t), 4) for t in ms],
        fitted_ms=round(float(fixed), 5), fitted_ms_each=round(float(each), 6),
        fixed_share_at_the_largest=round(float(fixed / ms[-1]), 3),
        largest_residual=round(float(np.max(np.abs(fixed + each * n - ms) / ms)), 3),
        exponent=round(float(np.polyfit(np.log(n), np.log(ms), 1)[0]), 3),
        exponent_of_the_last_two=round(
            float(math.log(ms[-1] / ms[-2]) / math.log(n[-1] / n[-2])), 3
        ),
    )  # fmt: skip


def paper(sizes: Sizes, device: torch.device, rates: Rates, repeats: int) -> None:
    """Print the grid's own sizes, on noise of MNIST's shape, so that no data is needed."""
    noise = data.load("noise", n_train=sizes.samples, n_features=sizes.features, device=device)
    own = products_rate(device, sizes.members, sizes.width, sizes.batch)
    line(
        "matmul", device, rates, what="the grid's own products", members=sizes.members,
        width=sizes.width, batch_size=sizes.batch, gflops=round(own / 1e9, 1),
        share_of_matmul_rate=round(own / rates.matrix, 3),
    )  # fmt: skip
    for depth in sizes.depths:
        network = draw(noise, sizes.members, sizes.width, depth, "tanh")
        compare(
            network, noise, rates, batch=sizes.batch, steps=sizes.steps, repeats=repeats,
            timed=sizes.alone, bounded=True,
        )  # fmt: skip
    cases = [(members, sizes.at_depth) for members in sizes.growing]
    growth("points", noise, rates, sizes, cases, repeats)
    cases = [(sizes.members, depth) for depth in sizes.depths]
    growth("depth", noise, rates, sizes, cases, repeats)


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


def small(options: argparse.Namespace, device: torch.device, rates: Rates) -> None:
    """Print the small networks of the chapters, dense and convolutional, and the towers."""
    digits = data.load("digits", device=device)
    for depth, batch, activation in CASES[::3] if rates.rehearsal else CASES:
        network = draw(digits, options.members, options.width, depth, activation)
        compare(network, digits, rates, batch=batch, steps=options.steps, repeats=options.repeats)
    for depth, channels, batch, stride2 in CONVOLUTIONAL_CASES[: 1 if rates.rehearsal else None]:
        deep = draw_convolutional(
            digits, options.members, min(depth, options.tower), channels, stride2
        )
        compare(
            deep, digits, rates, batch=batch, steps=min(options.steps, 5), repeats=options.repeats
        )
    for depth in (min(100, options.tower), options.tower):
        found = checkpointed(digits, depth=depth, channels=16, batch=64, repeats=options.repeats)
        print(json.dumps(found), flush=True)


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--members", type=int, default=20)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--steps", type=int, default=11)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tower", type=int, default=1000, help="depth of the deepest tower")
    parser.add_argument("--precision", choices=["tf32", "ieee"], default="tf32")
    parser.add_argument("--small", action="store_true", help="on a GPU, the small networks, too")
    parser.add_argument("--rehearse", action="store_true", help="all of it in tiny sizes")
    options = parser.parse_args()
    device = resolve_device(options.device)
    cuda = device.type == "cuda"
    precision = options.precision if cuda else "ieee"
    tiny = {"members": 2, "width": 8, "steps": 2, "repeats": 1, "tower": 9}
    if options.rehearse:
        options = argparse.Namespace(**{**vars(options), **tiny})
    largest, numbers = (8192, 2**28) if cuda else (1024, 2**25)
    if options.rehearse:
        largest, numbers = 64, 2**14
    with descent.matmul_precision(precision):
        rates = Rates(
            matmul_rate(device, largest), copy_rate(device, numbers), precision, options.rehearse
        )
        line("matmul", device, rates, size=largest, gflops=round(rates.matrix / 1e9, 1))
        line("copy", device, rates, mib=numbers // 2**18, gb_per_s=round(rates.copy / 1e9, 1))
        if cuda or options.rehearse:
            paper(TINY if options.rehearse else Sizes(), device, rates, options.repeats)
        if not cuda or options.small:
            small(options, device, rates)


if __name__ == "__main__":
    main()
