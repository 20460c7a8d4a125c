"""What a prediction by reconstruction costs, in epochs of the network; one JSON line each.

    python benchmarks/reconstruction.py [--width 784] [--depth 100] [--shrinking] [--data mnist]

In one run, on one machine, for one network: an epoch of training it (``descent``), the faithful
prediction (all decoders, one epoch of Adam), the same with a quarter of the steps, four times as
large, on half as many images each, the closed form, and decoders one after another, each with
torch's module, autograd and fused optimiser. Steps of all kinds take turns and the fastest
counts; whole passes are ``--images`` / ``--batch`` steps, of which ``--steps`` are run, best in
multiples of the 16 batches that go through the network at a time. Fits, and the reconstruction of
100 images from all layers, are run whole and counted in each prediction.
``--critical`` adds a search for the critical σ_w², ``--agree`` the cutoffs of each prediction.

The default takes several minutes; ``--width 64 --depth 40 --side 8 --steps 10 --data digits``
some seconds.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from mflib.experiment import _blocks, data, descent, reconstruction
from mflib.experiment.networks import FullyConnected
from mflib.theory import mean_field

RATE = 1e-3
FEWER = 4  # the reduced pass: a quarter of the steps at four times the rate, the reach of Adam
REDUCED_BATCH = 32


def seconds(work: Callable[[], object]) -> float:
    """Return processor seconds per thread: other work on the machine does not count."""
    started = time.process_time()
    work()
    return (time.process_time() - started) / torch.get_num_threads()


def peak_mib() -> int:
    """Return the most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def inputs(name: str, side: int | None, n: int) -> data.Dataset:
    """Return images in [0, 1]; those of CIFAR-10 as grey values."""
    if name == "noise":
        return data.load(name, input_range=(0.0, 1.0), n_train=n, n_features=(side or 28) ** 2)
    known = data.load(name, input_range=(0.0, 1.0), side=side, grey=True)
    return dataclasses.replace(known, x_train=known.x_train[:n], y_train=known.y_train[:n])


def widths(pixels: int, options: argparse.Namespace) -> list[int]:
    """Return the paper's widths: constant, or shrinking linearly from pixels to classes."""
    if options.shrinking:
        step = (pixels - 10) / (options.depth + 1)
        return [round(pixels - step * layer) for layer in range(options.depth + 2)]
    return [pixels, *[options.width] * options.depth, 10]


def one_decoder(z: Tensor, below: Tensor, batches: Tensor) -> None:
    """Train a decoder with torch's module, autograd and fused Adam."""
    module = nn.Linear(z.shape[1], below.shape[1])
    optimiser = torch.optim.Adam(module.parameters(), lr=RATE, fused=True)
    for batch in batches:
        optimiser.zero_grad()
        nn.functional.mse_loss(torch.tanh(module(z[batch])), below[batch]).backward()
        optimiser.step()


def forward(chain: _blocks.Chain, x: Tensor, batches: Tensor) -> None:
    """Send batches through the network."""
    with torch.no_grad():
        for batch in batches:
            chain.run(x[batch], lambda _layer, _z: None)


def measure(options: argparse.Namespace) -> None:
    dataset = inputs(options.data, options.side, options.images)
    x, kept = dataset.x_train, dataset.x_test[:100]
    batch = min(options.batch, len(x))
    epoch_steps = options.images // options.batch

    def drawn(seed: int) -> FullyConnected:
        return reconstruction.network(
            "tanh", widths(x.shape[1], options), sigma_w2=[options.sigma_w2], sigma_b2=0.05,
            seeds=[seed],
        )  # fmt: skip

    network = drawn(0)
    common = {
        "threads": torch.get_num_threads(),
        "data": options.data,
        "pixels": x.shape[1],
        "shape": "shrinking" if options.shrinking else "wide",
        "width": options.width,
        "depth": options.depth,
        "batch_size": batch,
        "images": options.images,
    }

    def report(name: str, **figures: object) -> None:
        line = {"benchmark": "reconstruction", "measured": name} | common | figures
        print(json.dumps(line | {"peak_mib": peak_mib()}), flush=True)

    trained = descent.Descent(
        network.member(0), x, dataset.y_train, learning_rates=[RATE], seeds=[0], batch_size=batch
    )
    # Decoders of shrinking layers differ: their mean over depth, by the midpoint rule.
    tried = 6 if options.shrinking else 1
    middles = [max(1, round(network.depth * (k + 0.5) / tried)) for k in range(tried)]
    zs: dict[int, Tensor] = {}
    fit = x[: options.fit]

    def decoders(steps: int, size: int = batch) -> reconstruction.Cascade:
        return reconstruction.cascade(network, x, steps=steps, batch_size=size, progress=False)

    def keep(depth: int, z: Tensor) -> None:
        if depth in middles or depth + 1 in middles:
            zs[depth] = z[0].T.clone()

    short = decoders(1)
    short.chain.run(x[: 10 * batch], keep)
    shown = len(zs[middles[0]])
    order = descent.sample_order(shown, 0, 0, shown // batch, batch)
    order = order.repeat(-(-options.steps // len(order)), 1)[: options.steps]
    trained.advance(1)
    one_decoder(zs[middles[0]], zs[middles[0] - 1], order[:1])  # loads what optimisers need
    times: dict[str, list[float]] = {
        "epoch": [],
        "first": [],
        "steps": [],
        "small": [],
        "alone": [],
        "forward": [],
    }
    for _ in range(options.repeats):
        times["epoch"].append(seconds(lambda: trained.advance(options.steps)))
        times["first"].append(seconds(lambda: decoders(1)))
        times["steps"].append(seconds(lambda: decoders(1 + options.steps)))
        small = seconds(lambda: decoders(1 + options.steps, REDUCED_BATCH))
        times["small"].append(small)
        single = [
            seconds(lambda k=k: one_decoder(zs[k], zs[k - 1], order)) / tried for k in middles
        ]
        times["alone"].append(sum(single))
        times["forward"].append(seconds(lambda: forward(short.chain, x, order)))
    best = {name: min(values) for name, values in times.items()}
    epoch = best["epoch"] / options.steps * epoch_steps
    step, short_step = ((best[k] - best["first"]) / options.steps for k in ("steps", "small"))
    alone, passed = (best[name] / options.steps for name in ("alone", "forward"))
    evaluation = min(seconds(lambda: short.reconstruct(kept)) for _ in range(options.repeats))
    report("epoch", seconds=round(epoch, 3), ms_per_step=round(1e3 * epoch / epoch_steps, 3))
    for name, steps, size, rate, each in (
        ("faithful", epoch_steps, batch, RATE, step),
        ("reduced", epoch_steps // FEWER, REDUCED_BATCH, FEWER * RATE, short_step),
    ):
        total = best["first"] + each * (steps - 1) + evaluation
        report(
            name, seconds=round(total, 3), epochs=round(total / epoch, 3), steps=steps,
            batch_of_decoders=size, learning_rate=rate, ms_per_step=round(1e3 * each, 3),
            evaluation_seconds=round(evaluation, 3),
        )  # fmt: skip
    closed = min(
        seconds(lambda: reconstruction.cascade(network, fit, mode="closed-form", progress=False))
        for _ in range(options.repeats)
    )
    report(
        "closed-form", seconds=round(closed + evaluation, 3),
        epochs=round((closed + evaluation) / epoch, 3), fitted_on=len(fit),
        evaluation_seconds=round(evaluation, 3),
    )  # fmt: skip
    # One pass of the images through the network, then each decoder in turn on what it kept.
    apart = alone * network.depth + passed
    report(
        "one after another", one_decoder_seconds=round(alone * epoch_steps, 4),
        forward_seconds=round(passed * epoch_steps, 3), seconds=round(apart * epoch_steps, 3),
        times_slower=round(apart / step, 2),
    )  # fmt: skip
    if options.agree:
        agreement(drawn, x, dataset.x_test[:400], batch, report)
    if options.critical:
        critical(options, x, report)


def agreement(
    drawn: Callable[[int], FullyConnected],
    x: Tensor,
    held: Tensor,
    batch: int,
    report: Callable[..., None],
) -> None:
    """Report the cutoff of three networks after the whole pass, the reduced one, and none."""
    steps = len(x) // batch
    fewer = {"steps": steps // FEWER, "learning_rate": FEWER * RATE, "batch_size": REDUCED_BATCH}
    for name, images, settings in (
        ("cutoff, faithful", x, {"batch_size": batch}),
        ("cutoff, reduced", x[: fewer["steps"] * REDUCED_BATCH], fewer),
        ("cutoff, closed-form", x[:4000], {"mode": "closed-form", "steps": steps}),
    ):
        found = reconstruction.predict(
            drawn, torch.cat([images, held]), measure="relative", threshold=0.02, seeds=range(3),
            n_batches=len(held) // 100, progress=False, **settings,
        )  # fmt: skip
        report(name, cutoff=found.cutoff, interval=[round(end, 2) for end in found.interval])


def critical(options: argparse.Namespace, x: Tensor, report: Callable[..., None]) -> None:
    """Report the critical σ_w² of a search, beside that of infinite width."""
    exact = float(mean_field.critical_sigma_w2("tanh", 0.05).sigma_w2)
    spent: list[reconstruction.Critical] = []

    def search() -> None:
        spent.append(
            reconstruction.critical_sigma_w2(
                "tanh", 0.05, width=options.width, depth=options.depth,
                images=x[: options.fit + 100], progress=False,
            )
        )  # fmt: skip

    total = seconds(search)
    found = spent[0]
    report(
        "critical sigma_w2", value=round(found.value, 3), infinite_width=round(exact, 3),
        interval=[round(end, 3) for end in found.interval], predictions=found.n_predictions,
        seconds=round(total, 2),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="mnist", help="mnist, cifar10, digits or noise")
    parser.add_argument("--side", type=int, help="resize images to side x side")
    parser.add_argument("--width", type=int, default=784)
    parser.add_argument("--depth", type=int, default=100)
    parser.add_argument("--sigma_w2", type=float, default=1.76)
    parser.add_argument("--shrinking", action="store_true")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--images", type=int, default=60_000, help="images of a whole pass")
    parser.add_argument("--fit", type=int, default=2000, help="images of the closed form")
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--agree", action="store_true")
    parser.add_argument("--critical", action="store_true")
    measure(parser.parse_args())


if __name__ == "__main__":
    main()
