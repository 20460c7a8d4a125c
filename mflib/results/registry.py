"""Which long computations there are, with the papers' settings and those to rehearse them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from mflib.results.kinds import (
    Block,
    Call,
    Calls,
    Computation,
    Entropies,
    Group,
    Map,
    Trainability,
)

PIECE = 30.0
"""Guessed seconds of one group on an H200 (``Block.seconds``); one to three minutes come of it."""

SEEDS = (0, 1, 2)
LAST = 100  # the stage of what comes after everything else


def _piece(rehearse: bool) -> float:
    """Return the guessed seconds of one group; tiny ones too come in several."""
    return 3e-4 if rehearse else PIECE


def _between(low: float, high: float, n: int) -> tuple[float, ...]:
    """Return n equally spaced numbers, to the bit those of the chapters (numpy's)."""
    import numpy as np

    return tuple(map(float, np.linspace(low, high, n)))


def _block(
    name: str,
    at: tuple[int, ...],
    *,
    rehearse: bool,
    fine: bool = True,
    span: tuple[float, float] = (1.0, 4.0),
    dataset: str = "mnist",
    **settings: Any,
) -> tuple[Block, ...]:
    """Return two grids of the paper's section 4 at width 300, or two tiny ones.

    The first has 40 × 46 points and three seeds, the second, ``-fine``, the paper's own 90 × 91 and
    one seed: after all else of the registry. ``fine=False`` leaves it out.
    """
    coarse: dict[str, Any] = {"sigma_w2": _between(*span, 40), "depths": tuple(range(10, 101, 2))}
    finer: dict[str, Any] = {"sigma_w2": _between(*span, 90), "depths": tuple(range(10, 101))}
    common = {"dataset": dataset, "width": 300, "batch_size": 256, "learning_rate": 1e-3}
    common |= {"momentum": 0.0, **settings}
    if rehearse:
        coarse = {"sigma_w2": _between(*span, 3), "depths": (2, 3, 4)}
        finer = {"sigma_w2": _between(*span, 5), "depths": (2, 3, 4, 5)}
        tiny = {"mnist": "digits", "cifar10": "breast-cancer"}[dataset]
        common |= {"dataset": tiny, "width": 8, "batch_size": 16, "evaluation_samples": 64}
        at = tuple(range(1, len(at) + 1))
    coarse["seeds"] = SEEDS[:1] if rehearse else SEEDS
    finer["seeds"] = SEEDS[:1]
    whole = Block(f"{name}-fine", common | finer, at, stage=LAST)
    return Block(name, common | coarse, at), *([whole] if fine else [])


def _mft_fig1(rehearse: bool) -> Trainability:
    def block(
        activation: str, sigma_b2: float, name: str = "", **changes: Any
    ) -> tuple[Block, ...]:
        """Return the grids of one activation after one epoch of 180 steps."""
        return _block(
            name or activation, (180,), activation=activation, sigma_b2=sigma_b2,
            rehearse=rehearse, **changes,
        )  # fmt: skip

    blocks = (
        *block("relu", 2.01e-5),
        *block("arctan", 0.05),
        *block("softsign", 0.05),
        *block("sigmoid", 0.09),
        *block("sigmoid", 0.09, name="sigmoid-line", span=(60.0, 160.0)),
    )
    title = "trainability of ReLU, arctan, softsign and sigmoid networks on MNIST, one epoch"
    return Trainability("mft-fig1", title, blocks, _piece(rehearse))


def _mft_fig2(rehearse: bool) -> Trainability:
    # fine grids are rehearsed by fig. 1
    common: dict[str, Any] = {"sigma_b2": 0.05, "rehearse": rehearse, "fine": not rehearse}
    blocks = (
        # MNIST after one epoch too, as the other activations of fig. 1
        *_block("mnist", (180, 900), dataset="mnist", **common),
        *_block("cifar10", (900,), dataset="cifar10", **common),
    )
    title = "trainability of tanh networks on MNIST and CIFAR-10, five epochs"
    return Trainability("mft-fig2", title, blocks, _piece(rehearse))


# Critical points to the last bit, which is part of shards' keys and of networks' seeds: machines
# may solve for them with other roundings. Tests hold them against theory.
LINE = 1.7609546396067393  # σ_w² of tanh at σ_b² = 0.05
SMALL = (1.0305575107996472, 4.6513332660641365e-06)  # (σ_w², σ_b²) of tanh at q* = 1/64
SMALLEST = (1.000199970011327, 1.3325338316509443e-12)  # at q* = 1e-4


def _mft_fig3(rehearse: bool) -> Trainability:
    steps = (0, 2, 4, 6) if rehearse else tuple(range(0, 18_001, 180))  # a hundred epochs
    points = {"printed": (2.0, 0.05), "critical": (LINE, 0.05), "small": SMALL}

    def block(kind: str, point: str, initialisation: str, stage: int) -> Block:
        sigma_w2, sigma_b2 = points[point]
        grid = {"activation": "tanh", "sigma_w2": (sigma_w2,), "sigma_b2": sigma_b2}
        grid |= {"dataset": "cifar10", "width": 300, "depths": (40,), "learning_rate": 1e-3}
        grid |= {"batch_size": 256, "evaluation_samples": 10_000, "initialisation": initialisation}
        grid["seeds"] = tuple(range(5))
        if kind == "cnn":
            grid |= {
                "architecture": "convolutional",
                "channels": 256,
                "stride2": 2,
                "seeds": (0, 1),
            }
            grid["stem"] = "orthogonal" if initialisation == "delta-orthogonal" else None
        if rehearse:
            grid |= {"dataset": "digits", "depths": (4,), "channels": 8, "stride2": 1, "width": 8}
            grid |= {"batch_size": 16, "evaluation_samples": 64, "seeds": SEEDS[:1]}
        return Block(f"{kind}-{point}-{initialisation}", grid, steps, stage=stage)

    blocks = [
        block("fc", point, kind, 0) for point in points for kind in ("orthogonal", "gaussian")
    ]
    blocks += [
        block("cnn", point, kind, stage)
        for stage, point in enumerate(("printed", "critical"))
        for kind in ("delta-orthogonal", "gaussian")
    ]
    title = "learning curves of Gaussian and orthogonal networks of 40 layers on CIFAR-10"
    return Trainability("mft-fig3", title, tuple(blocks), math.inf)


def _mft_fig4(rehearse: bool) -> Trainability:
    def block(architecture: str, initialisation: str, stem: str | None) -> Block:
        grid = {"activation": "tanh", "sigma_w2": _between(1.0, 4.0, 12), "sigma_b2": 0.05}
        grid |= {"depths": (40, 100, 20, 60, 10, 80, 30, 50), "seeds": (0,), "dataset": "cifar10"}
        grid |= {"architecture": architecture, "initialisation": initialisation, "stem": stem}
        grid |= {"channels": 256, "stride2": 2, "width": 300, "learning_rate": 1e-3}
        grid |= {"batch_size": 256, "evaluation_samples": 10_000}
        if rehearse:
            grid |= {"sigma_w2": _between(1.0, 4.0, 3), "depths": (4, 6, 8), "dataset": "digits"}
            grid |= {"channels": 8, "stride2": 1, "width": 8, "batch_size": 16}
            grid |= {"evaluation_samples": 64}
        return Block(architecture, grid, (2,) if rehearse else (900,))

    blocks = (
        block("convolutional", "delta-orthogonal", "orthogonal"),
        block("fully-connected", "orthogonal", None),
    )
    title = "trainability of tanh convolutional networks on CIFAR-10, five epochs"
    return Trainability("mft-fig4", title, blocks, _piece(rehearse))


def _rising(first: float, last: float, step: float) -> tuple[float, ...]:
    """Return the multiples of a step from the first to the last, to three decimals."""
    n = round((last - first) / step) + 1
    return tuple(round(first + step * k, 3) for k in range(n))


def _recon_fig3(rehearse: bool) -> Trainability:
    epoch = 937  # full batches of 64
    grid: dict[str, Any] = {"sigma_b2": 0.05, "learning_rate": 1e-3, "batch_size": 64}
    grid |= {"seeds": (0,), "input_range": (0.0, 1.0)}
    grid |= {"width": 784, "dataset": "mnist", "depths": (40, 100, 20, 60, 10, 80, 30, 50)}
    grid["sigma_w2"] = (
        *(0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.76, 2.0, 2.2, 2.5, 2.8, 3.1, 3.4, 3.7, 4.0),
    )
    short = tuple(epoch * k for k in (1, 5, 10, 20, 50))
    if rehearse:
        grid |= {"width": 16, "dataset": "digits", "depths": (2, 3, 4)}
        grid["sigma_w2"], epoch, short = (0.8, 1.76, 3.4), 1, (1, 2, 3, 4, 5)
    blocks = (
        Block("epochs50", grid, short),
        Block("epochs200", grid, (*short, 200 * epoch), stage=3),  # when all else has a first seed
    )
    title = "accuracy of tanh networks of width 784 on MNIST, 50 and 200 epochs"
    return Trainability("recon-fig3", title, blocks, _piece(rehearse))


def _maps(name: str, title: str, maps: dict[str, dict[str, Any]], rehearse: bool) -> Entropies:
    """Return maps of entropies; ``each`` and ``stage`` are the map's, the rest its settings."""
    made = []
    for each, given in maps.items():
        settings = dict(given)
        seconds, stage = settings.pop("each"), settings.pop("stage", 0)
        if settings.get("mode") == "faithful":
            settings["n_fit"] = 60_000  # one epoch in batches of 64
        if rehearse:
            dense = settings.get("architecture", "fully-connected") == "fully-connected"
            noise = settings["dataset"] == "noise"
            settings["sigma_w2"], settings["seeds"] = (0.8, 1.8, 3.4), settings["seeds"][:2]
            settings |= {"depth": 8 if dense else 5, "n_fit": 200 if dense else 60, "n_shown": 20}
            settings["batch_size"] = 16
            if settings.get("mode") == "faithful":
                settings["steps"] = 20  # in closed form they set the noise that is assumed
            if dense:
                settings["width"] = 16
            else:
                settings["channels"] = settings["channels"] // 32 + 3
                settings |= {"stride2": 1, "dataset_options": {"side": 8}}
            settings["dataset"] = "noise" if noise else "digits"
            if noise:
                small = {"n_train": 200, "n_test": 20, "n_features": 64, "seed": 0}
                settings["dataset_options"] = small
            seconds = 1e-4
        made.append(Map(each, settings, seconds, stage))
    return Entropies(name, title, tuple(made), _piece(rehearse))


def _recon_fig4(rehearse: bool) -> Entropies:
    deep = {"sigma_w2": _rising(0.6, 4.0, 0.1), "depth": 200, "sigma_b2": 0.05, "width": 784}
    deep["dataset"] = "mnist"
    return _maps(
        "recon-fig4",
        "entropy of reconstructions from 200 layers on MNIST",
        {
            "closed-form": {**deep, "n_fit": 10_000, "seeds": SEEDS, "each": 4.0},
            "faithful": {**deep, "mode": "faithful", "seeds": (0, 1), "each": 8.0},
        },
        rehearse,
    )


def _recon_fig8(rehearse: bool) -> Entropies:
    noise = {"sigma_w2": _rising(0.6, 4.0, 0.1), "depth": 200, "sigma_b2": 0.05, "width": 784}
    noise["dataset"] = "noise"
    noise["dataset_options"] = {"n_train": 60_000, "n_test": 100, "n_features": 784, "seed": 0}
    return _maps(
        "recon-fig8",
        "entropy of reconstructions from 200 layers of white noise",
        {
            "closed-form": {**noise, "n_fit": 10_000, "seeds": SEEDS, "each": 4.0},
            "faithful": {**noise, "mode": "faithful", "seeds": (0,), "each": 8.0},
        },
        rehearse,
    )


def _recon_fig9(rehearse: bool) -> Entropies:
    images = {"architecture": "convolutional", "sigma_w2": _rising(0.6, 4.0, 0.2), "depth": 100}
    images |= {"sigma_b2": 2e-5, "channels": 128, "stride2": 2, "dataset": "mnist"}
    images["dataset_options"] = {"side": 28}
    return _maps(
        "recon-fig9",
        "entropy of reconstructions from a convolutional network of 100 layers on MNIST",
        {
            "channels128": {**images, "n_fit": 5_000, "seeds": (0, 1), "each": 6.0},
            "channels64": {**images, "channels": 64, "n_fit": 5_000, "seeds": (0, 1), "each": 3.0},
            "faithful": {**images, "mode": "faithful", "seeds": (0,), "each": 15.0},
        },
        rehearse,
    )


def _recon_fig5(rehearse: bool) -> Entropies:
    blocks = {"architecture": "residual", "depth": 49, "channels": 32, "dataset": "fashion-mnist"}
    blocks["dataset_options"] = {"side": 28}
    blocks["sigma_w2"] = (
        *(0.1, 0.3, 0.45, 0.6, 0.75, 0.9, 1.05, 1.2, 1.3, 1.5, 1.7, 2.0, 2.5, 3.0, 4.0),
    )
    caption, text = {**blocks, "sigma_b2": 0.05}, {**blocks, "sigma_b2": 2e-5}
    few = {"sigma_w2": (0.3, 0.75, 1.3, 3.0), "bounded": False}
    return _maps(
        "recon-fig5",
        "entropy of reconstructions from residual networks of 49 blocks on Fashion-MNIST",
        {
            "caption": {**caption, "n_fit": 5_000, "seeds": (0, 1, 2, 3), "each": 3.0},
            "text": {**text, "n_fit": 5_000, "seeds": (0, 1), "each": 3.0},
            "caption-faithful": {**caption, "mode": "faithful", "seeds": (0,), "each": 8.0},
            "text-faithful": {**text, "mode": "faithful", "seeds": (0,), "each": 8.0},
            "unbounded": {**caption, **few, "n_fit": 5_000, "seeds": (0,), "each": 3.0},
        },
        rehearse,
    )


def _recon_tab1(rehearse: bool) -> Calls:
    cases = (
        *(("mnist", "wide"), ("mnist", "shrinking"), ("cifar10", "wide"), ("cifar10", "shrinking")),
    )
    calls = tuple(
        Call(f"{data}-{shape}", 0, {"index": k, "rehearse": rehearse}, 20.0)
        for k, (data, shape) in enumerate(cases[:2] if rehearse else cases)
    )
    return Calls(
        "recon-tab1",
        "time of predictions by reconstruction in epochs of the network",
        function="mflib.results.costs:measure",
        lister="mflib.results.costs:keys",
        calls=calls,
        order=("data", "shape"),
        modules=("mflib.experiment._costs",),
        data_sets=("digits",) if rehearse else ("mnist", "cifar10"),
    )


def _mft_10k(rehearse: bool) -> Trainability:
    q = 1e-4
    steps = (0, 2, 4) if rehearse else tuple(range(0, 1801, 300))

    def block(dataset: str, depth: int, stage: int, initialisation: str = "") -> Block:
        """Return one depth; its rate and gain were measured at depths 20 to 2,000."""
        last = q / math.tanh(2 * q * depth)  # the variance that the last layer has
        grid: dict[str, Any] = {"activation": "tanh", "architecture": "convolutional"}
        grid |= {"sigma_w2": SMALLEST[:1], "sigma_b2": SMALLEST[1]}
        grid |= {"depths": (depth,), "seeds": (0,), "dataset": dataset, "readout": "flatten"}
        grid |= {"initialisation": initialisation or "delta-orthogonal"}
        grid |= {"stem": None if initialisation else "orthogonal", "channels": 32, "stride2": 2}
        grid |= {"readout_gain": round(0.7 / math.sqrt(last), 1), "learning_rate": 0.05 / depth}
        grid |= {"momentum": 0.9, "batch_size": 128, "evaluation_samples": 10_000}
        grid["precision"] = "ieee"  # TF32 rounds a weight by more than σ_w² is above 1
        # where signals have so small a variance q, biases move outputs far more than weights do
        grid["train_biases"] = False
        if rehearse:
            grid |= {"dataset": "digits", "depths": (depth // 500,), "channels": 4, "stride2": 1}
            grid |= {"batch_size": 16, "evaluation_samples": 64}
        name = f"{dataset}-{depth}" + (f"-{initialisation}" if initialisation else "")
        return Block(name, grid, steps, stage=stage)

    blocks = (
        block("mnist", 1250, 0),
        block("cifar10", 1250, 0),
        block("cifar10", 10_000, 1),
        block("mnist", 10_000, 1),
        *(block(dataset, depth, 2) for depth in (2500, 5000) for dataset in ("cifar10", "mnist")),
        block("cifar10", 10_000, 3, "gaussian"),
    )
    title = "plain tanh convolutional networks of up to 10,000 layers on MNIST and CIFAR-10"
    return Trainability("mft-10k", title, blocks, math.inf)


ALPHAS = (2.0, 1.5, 1.0, 1.8, 1.2, 1.4, 1.6, 1.9, 1.1, 1.3, 1.7)  # the most telling first
GAINS = tuple(0.25 * k for k in range(1, 13))
WATCHED = "mflib.experiment.multifractal:observe_dimensions"


def _times(first: float, last: int, n: int) -> tuple[int, ...]:
    """Return numbers of steps spaced evenly in log, to the integer those of the chapter."""
    import numpy as np

    return tuple(np.unique(np.geomspace(first, last, n).round().astype(int)).tolist())


def _heavy(rehearse: bool) -> dict[str, Any]:
    """Return FC10: ten heavy-tailed weight matrices without biases."""
    grid: dict[str, Any] = {"activation": "tanh", "depths": (9,), "width": 784, "dataset": "mnist"}
    grid |= {"initialisation": "stable", "sigma_b2": 0.0, "train_biases": False, "seeds": SEEDS}
    grid |= {"learning_rate": 1e-3, "batch_size": 1024, "evaluation_samples": 10_000}
    if rehearse:
        grid |= {"depths": (6,), "width": 16, "dataset": "digits", "seeds": SEEDS[:1]}
        grid |= {"learning_rate": 1e-2, "batch_size": 16, "evaluation_samples": 64}
    return grid


def _levy_fig6(rehearse: bool) -> Trainability:
    gains = (0.5, 1.0, 2.0) if rehearse else GAINS
    watched = {"layer": 5, "q": [2.0], "sides": ["right"]}

    def block(alpha: float) -> Block:
        points = {"alpha": (alpha,) * len(gains), "sigma_w2": tuple(gain**alpha for gain in gains)}
        return Block(
            f"alpha{alpha:g}",
            {**_heavy(rehearse), **points},
            _times(1, 30, 4) if rehearse else _times(10, 38_350, 24),  # 650 epochs of 59
            observation={"observe": WATCHED, "n_inputs": 1, "options": watched},
            each_observation=1e-4 if rehearse else 1.0,
        )

    blocks = tuple(block(alpha) for alpha in (ALPHAS[:3] if rehearse else ALPHAS))
    title = "accuracy and fractal dimensions of heavy-tailed networks on MNIST, 650 epochs"
    modules = ("mflib.experiment.descent", "mflib.experiment._eigenvectors")
    return Trainability("levy-fig6", title, blocks, math.inf, modules)


def _levy_fig3(rehearse: bool) -> Trainability:
    import numpy as np

    options = {"layer": 5, "q": np.round(np.linspace(0, 2, 21), 10).tolist(), "sides": ["right"]}
    points = {"alpha": (1.2, 2.0), "sigma_w2": (1.5**1.2, 1.5**2.0)}
    block = Block(
        "networks",
        {**_heavy(rehearse), **points, "seeds": tuple(range(3 if rehearse else 10))},
        (0, 10, 20) if rehearse else (0, 350 * 59, 650 * 59),
        observation={"observe": WATCHED, "n_inputs": 2, "options": options},
        each_observation=1e-4 if rehearse else 1.0,
    )
    title = "fractal dimensions of eigenvectors while heavy-tailed networks are trained"
    modules = ("mflib.experiment.descent", "mflib.experiment._eigenvectors")
    return Trainability("levy-fig3", title, (block,), math.inf, modules)


def _levy_fig1(rehearse: bool) -> Trainability:
    last = 550 * 469
    grid: dict[str, Any] = {"activation": "tanh", "sigma_w2": (1.0,), "sigma_b2": 0.0}
    grid |= {"depths": (4,), "width": 784, "dataset": "mnist", "learning_rate": 0.1}
    grid |= {"batch_size": 128, "evaluation_samples": 10_000, "seeds": SEEDS}
    if rehearse:
        grid |= {"width": 16, "dataset": "digits", "batch_size": 16, "evaluation_samples": 64}
        grid["seeds"] = SEEDS[:1]
    blocks = tuple(
        Block(
            name,
            {**grid, "weight_decay": decay},
            (0, 2, 5, 10) if rehearse else (0, *_times(last / 50, last, 39)),
            observation={"observe": "mflib.experiment.observers:tails"},
            each_observation=1e-4 if rehearse else 2.0,
        )
        for name, decay in (("decay", 1e-4), ("plain", 0.0))
    )
    title = "stable fits of the weights of a network in training on MNIST, 550 epochs"
    modules = ("mflib.experiment.descent", "mflib.experiment.observers")
    return Trainability("levy-fig1d-f", title, blocks, math.inf, modules)


def _levy_fig5(rehearse: bool) -> Calls:
    plane: dict[str, Any] = {"alpha": sorted(ALPHAS), "gain": list(GAINS), "width": 1000}
    plane |= {"depth": 20, "n_angles": 1000, "n_networks": 50, "seed": 0, "layers": [1, 5, 10, 20]}
    if rehearse:
        plane |= {"alpha": [1.0, 1.5, 2.0], "gain": [0.5, 1.0, 2.0], "width": 20, "depth": 4}
        plane |= {"n_angles": 24, "n_networks": 4, "layers": [1, 2, 4]}
    many = 2 if rehearse else 5
    calls = []
    for first in range(0, plane["n_networks"], many):
        some = list(range(first, first + many))
        name = f"networks{some[0]}-{some[-1]}"
        seconds = 1e-4 if rehearse else 1.0 * len(plane["alpha"]) * many
        calls.append(Call(name, first // many, {**plane, "networks": some}, seconds))
    return Calls(
        "levy-fig5",
        "neighbour distances on a circle through heavy-tailed networks of width 1000",
        function="mflib.experiment.manifold:sweep",
        lister="mflib.experiment.manifold:sweep_keys",
        calls=tuple(calls),
        order=("alpha", "gain", "network", "layer"),
        modules=("mflib.experiment._circles",),
    )


REGISTRY: dict[str, Callable[[bool], Computation]] = {
    "mft-fig2": _mft_fig2,
    "mft-fig1": _mft_fig1,
    "recon-fig4": _recon_fig4,
    "recon-tab1": _recon_tab1,
    "recon-fig5": _recon_fig5,
    "recon-fig9": _recon_fig9,
    "recon-fig8": _recon_fig8,
    "recon-fig3": _recon_fig3,
    "levy-fig6": _levy_fig6,
    "levy-fig3": _levy_fig3,
    "levy-fig5": _levy_fig5,
    "levy-fig1d-f": _levy_fig1,
    "mft-fig3": _mft_fig3,
    "mft-fig4": _mft_fig4,
    "mft-10k": _mft_10k,
}
"""What makes each computation, full or to rehearse it; the most telling first."""

TABLES = {
    "levy-phase-diagram-weights.csv": ("mflib.experiment._tails",),
    "reconstruction-entropy-costs.csv": ("mflib.experiment._costs",),
    "reconstruction-entropy-critical.csv": (
        "mflib.experiment.reconstruction",
        "mflib.theory.mean_field",
    ),
    "reconstruction-entropy-vgg.csv": ("mflib.experiment.stages",),
}
"""The modules that compute the tables of other programs, where their records do not say so."""


@functools.lru_cache(maxsize=16)
def computation(name: str, *, rehearse: bool = False) -> Computation:
    """Return a computation by its id. Raises ValueError for one that is not known."""
    if name not in REGISTRY:
        raise ValueError(f"no computation {name!r}: those known are {', '.join(REGISTRY)}")
    return REGISTRY[name](rehearse)


def groups(name: str, *, rehearse: bool = False) -> tuple[Group, ...]:
    """Return a computation's groups in the order in which to compute them."""
    return computation(name, rehearse=rehearse).groups()


def named_group(known: Computation, group: str | int) -> Group:
    found = known.groups()
    if isinstance(group, int):
        if not 0 <= group < len(found):
            raise ValueError(f"group {group} of {known.id} must be in [0, {len(found)})")
        return found[group]
    for each in found:
        if each.name == group:
            return each
    raise ValueError(f"{known.id} has no group {group!r}: the first is {found[0].name!r}")
