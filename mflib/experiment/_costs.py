"""What one prediction by reconstruction costs, measured in this process, line by line.

In one run, on one device, for one network: an epoch of training it (``descent``), the faithful
prediction (all decoders, one epoch of Adam), the same with a quarter of the steps, four times as
large, on half as many images each, the closed form, and decoders one after another, each with
torch's module, autograd and fused optimiser. Steps of all kinds take turns and the fastest counts;
whole passes are ``images`` / ``batch_size`` steps, of which ``steps`` are run. Fits, and the
reconstruction of 100 images from all layers, are run whole and counted in each prediction.

A CPU's clock is that of its processor, divided by the threads, so that other work on the machine
does not count; a GPU's is the wall, read once it has done all it was given. There the matrix
products of training, of decoders and of reconstructions are TF32; regression, which inverts
covariances, is in float32 proper.
"""

from __future__ import annotations

import dataclasses
import resource
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from mflib.experiment import _blocks, _checks, data, descent, reconstruction
from mflib.experiment._devices import resolve_device
from mflib.experiment.networks import FullyConnected

RATE = 1e-3
FEWER = 4  # the reduced pass: a quarter of the steps at four times the rate, the reach of Adam
REDUCED_BATCH = 32
SHAPES = ("wide", "shrinking")
PIXELS = {"mnist": 784, "cifar10": 1024}
IMAGES = {"mnist": 60_000, "cifar10": 50_000}
_SHOWN = 100  # images whose reconstructions are part of each prediction
_CLASSES = 10


@dataclasses.dataclass(frozen=True)
class Case:
    """One row: a data set, the shape of the network, and how much of it is run.

    ``shape``: "wide" has ``width`` units in every layer, "shrinking" fewer and fewer from the
    pixels down to the classes. ``side`` resizes images; ``images`` make a whole pass, ``fit`` of
    them the closed form; ``steps`` of each kind are timed, ``repeats`` times, best in multiples of
    the 16 batches that go through the network at a time. ``width`` and ``images`` are the data
    set's own unless given.

    Raises ValueError for another shape or data set, and for numbers out of range.
    """

    data: str = "mnist"
    shape: str = "wide"
    depth: int = 100
    width: int | None = None
    images: int | None = None
    side: int | None = None
    batch_size: int = 64
    fit: int = 2000
    sigma_w2: float = 1.76
    steps: int = 32
    repeats: int = 3

    def __post_init__(self) -> None:
        _checks.require(self.data in data.names(), "data", self.data, f"one of {data.names()}")
        _checks.require(self.shape in SHAPES, "shape", self.shape, f"one of {', '.join(SHAPES)}")
        if self.side is None and self.width is None and self.data not in (*PIXELS, "noise"):
            raise ValueError(
                f"data={self.data!r} has no size of its own here: give side, or width, or take "
                f"one of {', '.join(PIXELS)}"
            )
        own = self.side**2 if self.side else PIXELS.get(self.data, 784)
        object.__setattr__(self, "width", own if self.width is None else self.width)
        all_images = IMAGES.get(self.data, 60_000)
        object.__setattr__(self, "images", all_images if self.images is None else self.images)
        for name in ("depth", "width", "images", "batch_size", "fit", "steps", "repeats"):
            _checks.count(name, getattr(self, name), 1)
        _checks.variance("sigma_w2", self.sigma_w2)

    def arguments(self) -> list[str]:
        """Return what ``benchmarks/reconstruction.py`` takes for this case."""
        named = {
            name: getattr(self, name)
            for name in ("data", "width", "depth", "images", "steps", "repeats", "side")
        }
        given = [f"--{name}={value}" for name, value in named.items() if value is not None]
        if self.batch_size != Case.batch_size:
            given.append(f"--batch={self.batch_size}")
        if self.fit != Case.fit:
            given.append(f"--fit={self.fit}")
        if self.sigma_w2 != Case.sigma_w2:
            given.append(f"--sigma_w2={self.sigma_w2}")
        return given + (["--shrinking"] if self.shape == "shrinking" else [])


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return processor seconds per thread, or a GPU's seconds of the wall."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        torch.cuda.synchronize()
        return time.perf_counter() - started
    started = time.process_time()
    work()
    return (time.process_time() - started) / torch.get_num_threads()


def peak_mib(device: torch.device) -> int:
    """Return the most memory that this process has held so far, on the GPU if it works there."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() // 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def inputs(case: Case, device: torch.device) -> data.Dataset:
    """Return images in [0, 1]; those of CIFAR-10 as grey values."""
    if case.data == "noise":
        return data.load(
            "noise", input_range=(0.0, 1.0), n_train=case.images, device=device,
            n_features=(case.side or 28) ** 2,
        )  # fmt: skip
    known = data.load(case.data, input_range=(0.0, 1.0), side=case.side, grey=True, device=device)
    n = case.images
    return dataclasses.replace(known, x_train=known.x_train[:n], y_train=known.y_train[:n])


def draw(case: Case, pixels: int, seed: int, device: torch.device) -> FullyConnected:
    """Draw the network of a case: constant widths, or shrinking from pixels to classes."""
    assert case.width is not None
    if case.shape == "shrinking":
        step = (pixels - _CLASSES) / (case.depth + 1)
        widths = [round(pixels - step * layer) for layer in range(case.depth + 2)]
    else:
        widths = [pixels, *[case.width] * case.depth, _CLASSES]
    return reconstruction.network(
        "tanh", widths, sigma_w2=[case.sigma_w2], sigma_b2=0.05, seeds=[seed], device=device
    )


def one_decoder(z: Tensor, below: Tensor, batches: Tensor) -> None:
    """Train a decoder with torch's module, autograd and fused Adam."""
    module = nn.Linear(z.shape[1], below.shape[1], device=z.device)
    optimiser = torch.optim.Adam(module.parameters(), lr=RATE, fused=True)
    for batch in batches:
        optimiser.zero_grad()
        nn.functional.mse_loss(torch.tanh(module(z[batch])), below[batch]).backward()
        optimiser.step()


def _forward(chain: _blocks.Chain, x: Tensor, batches: Tensor) -> None:
    with torch.no_grad():
        for batch in batches:
            chain.run(x[batch], lambda _layer, _z: None)


def measure(case: Case, device: torch.device | str = "auto") -> Iterator[dict[str, Any]]:
    """Measure one case in this process, and yield one line for each kind of pass.

    Raises DataUnavailable, and ValueError for a device that is none.
    """
    where = resolve_device(device)
    precision = "tf32" if where.type == "cuda" else "ieee"
    with descent.matmul_precision(precision):
        yield from _measure(case, where, precision)


def _measure(case: Case, device: torch.device, precision: str) -> Iterator[dict[str, Any]]:
    assert case.images is not None
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    dataset = inputs(case, device)
    x, kept = dataset.x_train, dataset.x_test[:_SHOWN]
    batch = min(case.batch_size, len(x))
    epoch_steps = max(1, case.images // case.batch_size)
    network = draw(case, x.shape[1], 0, device)
    common = {
        "benchmark": "reconstruction",
        "device": device.type,
        "device_name": torch.cuda.get_device_name() if cuda else "cpu",
        "matrix_precision": precision,
        "threads": torch.get_num_threads(),
        "data": case.data,
        "pixels": x.shape[1],
        "shape": case.shape,
        "width": case.width,
        "depth": case.depth,
        "batch_size": batch,
        "images": case.images,
    }

    def line(name: str, **figures: object) -> dict[str, Any]:
        return {**common, "measured": name, **figures, "peak_mib": peak_mib(device)}

    trained = descent.Descent(
        network.member(0), x, dataset.y_train, learning_rates=[RATE], seeds=[0], batch_size=batch
    )
    # Decoders of shrinking layers differ: their mean over depth, by the midpoint rule.
    tried = 6 if case.shape == "shrinking" else 1
    middles = [max(1, round(network.depth * (k + 0.5) / tried)) for k in range(tried)]
    zs: dict[int, Tensor] = {}
    fit = x[: case.fit]

    def decoders(steps: int, size: int = batch) -> reconstruction.Cascade:
        return reconstruction.cascade(network, x, steps=steps, batch_size=size, progress=False)

    def regression() -> reconstruction.Cascade:
        with descent.matmul_precision("ieee"):
            return reconstruction.cascade(network, fit, mode="closed-form", progress=False)

    def keep(depth: int, z: Tensor) -> None:
        if depth in middles or depth + 1 in middles:
            zs[depth] = z[0].T.clone()

    short = decoders(1)
    short.chain.run(x[: 10 * batch], keep)
    shown = len(zs[middles[0]])
    order = descent.sample_order(shown, 0, 0, shown // batch, batch)
    order = order.repeat(-(-case.steps // len(order)), 1)[: case.steps].to(device)

    def one(k: int) -> float:
        return seconds(lambda: one_decoder(zs[k], zs[k - 1], order), device)

    # What only the first time needs: a graph to capture, libraries that optimisers load.
    trained.advance(5 if cuda else 1)
    one_decoder(zs[middles[0]], zs[middles[0] - 1], order[:1])
    if cuda:
        decoders(2, REDUCED_BATCH)
        short.reconstruct(kept)
        regression()
    times: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[[], object]) -> None:
        times.setdefault(name, []).append(seconds(work, device))

    for _ in range(case.repeats):
        timed("epoch", lambda: trained.advance(case.steps))
        timed("first", lambda: decoders(1))
        timed("steps", lambda: decoders(1 + case.steps))
        timed("small", lambda: decoders(1 + case.steps, REDUCED_BATCH))
        times.setdefault("alone", []).append(sum(map(one, middles)) / tried)
        timed("forward", lambda: _forward(short.chain, x, order))
        timed("evaluation", lambda: short.reconstruct(kept))
        timed("closed", regression)
    best = {name: min(values) for name, values in times.items()}
    epoch = best["epoch"] / case.steps * epoch_steps
    step, short_step = (  # a step that is lost in the noise still takes some time
        max(best[k] - best["first"], 1e-3 * best[k]) / case.steps for k in ("steps", "small")
    )
    alone, passed = (best[name] / case.steps for name in ("alone", "forward"))
    evaluation = best["evaluation"]
    yield line("epoch", seconds=round(epoch, 4), ms_per_step=round(1e3 * epoch / epoch_steps, 4))
    for name, steps, size, rate, each in (
        ("faithful", epoch_steps, batch, RATE, step),
        ("reduced", max(1, epoch_steps // FEWER), REDUCED_BATCH, FEWER * RATE, short_step),
    ):
        total = best["first"] + each * (steps - 1) + evaluation
        yield line(
            name, seconds=round(total, 4), epochs=round(total / epoch, 4), steps=steps,
            batch_of_decoders=size, learning_rate=rate, ms_per_step=round(1e3 * each, 4),
            before_first_step_seconds=round(best["first"], 4),
            evaluation_seconds=round(evaluation, 4),
        )  # fmt: skip
    closed = best["closed"] + evaluation
    yield line(
        "closed-form", seconds=round(closed, 4), epochs=round(closed / epoch, 4),
        fitted_on=len(fit), evaluation_seconds=round(evaluation, 4),
    )  # fmt: skip
    # One pass of the images through the network, then each decoder in turn on what it kept.
    apart = alone * network.depth + passed
    yield line(
        "one after another", one_decoder_seconds=round(alone * epoch_steps, 4),
        forward_seconds=round(passed * epoch_steps, 4), seconds=round(apart * epoch_steps, 4),
        times_slower=round(apart / step, 2),
    )  # fmt: skip
