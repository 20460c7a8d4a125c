"""Which long computations there are, with the papers' settings and those to rehearse them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from mflib.results.kinds import Block, Computation, Group, Trainability

PIECE = 2.5e7
"""Networks × layers × steps of one group at width 300 and batches of 256: about 30 s at the memory
bandwidth of an H200, a lower bound, so that a group of one to three minutes is to be expected."""

SEEDS = (0, 1, 2)


def _between(low: float, high: float, n: int) -> tuple[float, ...]:
    """Return n equally spaced numbers, to the bit those of the chapters (numpy's)."""
    import numpy as np

    return tuple(map(float, np.linspace(low, high, n)))


def _block(
    name: str,
    at: tuple[int, ...],
    *,
    rehearse: bool,
    span: tuple[float, float] = (1.0, 4.0),
    dataset: str = "mnist",
    **settings: Any,
) -> Block:
    """Return a grid of the paper's section 4: 40 × 46 points at width 300; or a tiny one."""
    grid: dict[str, Any] = {"sigma_w2": _between(*span, 40), "depths": tuple(range(10, 101, 2))}
    grid |= {"seeds": SEEDS, "dataset": dataset, "width": 300, "batch_size": 256}
    grid |= {"learning_rate": 1e-3, "momentum": 0.0, **settings}
    if rehearse:
        tiny = {"mnist": "digits", "cifar10": "breast-cancer"}[dataset]
        grid |= {"sigma_w2": _between(*span, 3), "depths": (2, 3, 4), "seeds": SEEDS[:1]}
        grid |= {"dataset": tiny, "width": 8, "batch_size": 16, "evaluation_samples": 64}
        at = tuple(range(1, len(at) + 1))
    return Block(name, grid, at)


def _mft_fig1(rehearse: bool) -> Trainability:
    def block(activation: str, sigma_b2: float, name: str = "", **changes: Any) -> Block:
        """Return the grid of one activation after one epoch of 180 steps."""
        return _block(
            name or activation, (180,), activation=activation, sigma_b2=sigma_b2,
            rehearse=rehearse, **changes,
        )  # fmt: skip

    blocks = (
        block("relu", 2.01e-5),
        block("arctan", 0.05),
        block("softsign", 0.05),
        block("sigmoid", 0.09),
        block("sigmoid", 0.09, name="sigmoid-line", span=(60.0, 160.0)),
    )
    title = "trainability of ReLU, arctan, softsign and sigmoid networks on MNIST, one epoch"
    return Trainability("mft-fig1", title, blocks, 100.0 if rehearse else PIECE)


def _mft_fig2(rehearse: bool) -> Trainability:
    blocks = (
        # MNIST after one epoch too, as the other activations of fig. 1
        _block("mnist", (180, 900), dataset="mnist", sigma_b2=0.05, rehearse=rehearse),
        _block("cifar10", (900,), dataset="cifar10", sigma_b2=0.05, rehearse=rehearse),
    )
    title = "trainability of tanh networks on MNIST and CIFAR-10, five epochs"
    return Trainability("mft-fig2", title, blocks, 30.0 if rehearse else PIECE)


REGISTRY: dict[str, Callable[[bool], Computation]] = {"mft-fig2": _mft_fig2, "mft-fig1": _mft_fig1}
"""What makes each computation, full or to rehearse it; the most telling first."""

TABLES = {
    "levy-phase-diagram-weights.csv": ("mflib.experiment._tails",),
    "reconstruction-entropy-costs.csv": ("mflib.experiment.reconstruction",),
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
