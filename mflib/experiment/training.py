"""Trainability grids and learning curves: many networks over (σ_w², depth), in shards."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import numbers
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from mflib import sources
from mflib.experiment import _checkpoints, _checks, _shards, data, descent, draws, networks
from mflib.experiment._checkpoints import Checkpoint
from mflib.experiment._checks import number, require
from mflib.experiment._devices import resolve_device
from mflib.experiment.layers import Layer
from mflib.experiment.networks import Network
from mflib.experiment.nonlinearities import NONLINEARITIES
from mflib.experiment.store import Store

DTYPES = {"float32": torch.float32, "float64": torch.float64}
PRECISIONS = ("tf32", "ieee")
_MEASURES = ("train_accuracy", "test_accuracy", "train_loss", "test_loss", "diverged")
_PER_POINT = ("sigma_w2", "sigma_b2", "alpha")
_KERNEL = "mflib.experiment.descent"  # with its imports: all code that decides a number
_SHARD_BYTES = {"cpu": 16 * 2**20, "cuda": 4 * 2**30}  # of weights: near a core's share of cache
_SHARD_WORK = {"cpu": math.inf, "cuda": 2e16}  # floating-point operations: two or three minutes

Observe = Callable[..., pd.DataFrame]


@dataclasses.dataclass(frozen=True)
class Grid:
    """Settings of a trainability grid: one network per (σ_w², learning rate, depth, seed).

    The defaults are the paper's (§4.1, one epoch on MNIST). ``steps`` counts SGD steps in all;
    a new permutation of the training set starts every ``steps_per_epoch`` (all full batches
    unless given; the paper's epoch is 180). ``depths`` counts hidden layers. Weights have
    variance σ_w²/N_in, biases ``sigma_b2``: one number for every σ_w², or one for each, in
    their order. ``initialisation="stable"`` draws heavy tails: ``sigma_w2`` is D_w, ``sigma_b2``
    D_b, and ``alpha`` in (0.5, 2] the stability index, one for all or one for each of
    ``sigma_w2``; then the pairs (α, D_w) must be distinct, and tables have a column ``alpha``.
    ``train_biases=False`` keeps the biases as drawn: at 0, networks without. ``weight_decay`` is
    λ of the loss's term λ|θ|²/2. ``architecture`` is "fully-connected" (of ``width``),
    "convolutional" or "alternating" (both of ``channels``, ``stride2``, ``stem`` and ``readout``,
    see ``networks.Convolutional.draw``; their ``initialisation`` may be "delta-orthogonal" too, and
    ``depths`` counts their first convolutions). ``readout_gain`` multiplies the readout's weights.
    ``input_range`` is the paper's for the activation unless given. ``dataset_options`` are further
    arguments of ``data.load``. ``precision`` is that of float32 matrix products where the device
    has a choice: "tf32" or "ieee". ``evaluation_samples`` scores on the first so many samples of
    each part instead of all.

    Raises ValueError, one sentence naming the value, for settings out of range.

    >>> Grid(sigma_w2=(1.5, 2.0), depths=(10, 20)).n_networks
    4
    """

    sigma_w2: tuple[float, ...]
    depths: tuple[int, ...]
    seeds: tuple[int, ...] = (0,)
    activation: str = "tanh"
    sigma_b2: float | tuple[float, ...] = 0.05
    architecture: str = "fully-connected"
    width: int = 300
    channels: int = 256
    stride2: int = 2
    stem: str | None = None
    readout: str = "pool"
    readout_gain: float = 1.0
    dataset: str = "mnist"
    dataset_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    input_range: tuple[float, float] | None = None
    learning_rate: float | tuple[float, ...] = 1e-3
    momentum: float = 0.0
    batch_size: int = 256
    steps: int = 180
    steps_per_epoch: int | None = None
    initialisation: str = "gaussian"
    fan: str = "in"
    dtype: str = "float32"
    precision: str = "tf32"
    evaluation_samples: int | None = None
    alpha: float | tuple[float, ...] | None = None
    train_biases: bool = True
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        for name, kind in (("depths", int), ("seeds", int)):
            _set(self, name, _distinct(name, getattr(self, name), kind))
        _set(self, "sigma_w2", _numbers("sigma_w2", self.sigma_w2, float))
        if self.alpha is not None:
            each = _per_point("alpha", self.alpha, len(self.sigma_w2), _checks.stability)
            _set(self, "alpha", each)
        if len(set(self.points)) < len(self.points):
            what = "sigma_w2" if self.alpha is None else "(alpha, sigma_w2)"
            raise ValueError(f"{what}={list(self.points)} names a value twice")
        rates = self.learning_rate
        rates = (rates,) if isinstance(rates, numbers.Real) else rates
        _set(self, "learning_rate", _distinct("learning_rate", rates, float))
        options = self.dataset_options
        require(isinstance(options, Mapping), "dataset_options", options, "options by their names")
        _set(self, "dataset_options", dict(options))
        for option in self.dataset_options:
            require(option in data.OPTIONS, "dataset_options", option, f"of {data.OPTIONS}")
        n_points = len(self.sigma_w2)
        _set(self, "sigma_b2", _per_point("sigma_b2", self.sigma_b2, n_points, _checks.variance))
        for name in ("momentum", "readout_gain", "weight_decay"):
            _set(self, name, number(name, getattr(self, name), float))
        for name in ("width", "channels", "batch_size", "steps"):
            _set(self, name, _checks.count(name, getattr(self, name), 1))
        for name in ("steps_per_epoch", "evaluation_samples"):
            if getattr(self, name) is not None:
                _set(self, name, _checks.count(name, getattr(self, name), 1))
        _set(self, "stride2", _checks.count("stride2", self.stride2, 0))
        for w2 in self.sigma_w2:
            require(w2 > 0, "sigma_w2", w2, "above 0")
        for depth in self.depths:
            require(1 <= depth <= 100_000, "depths", depth, "in [1, 100000]")
        for seed in self.seeds:
            require(0 <= seed < 2**63, "seeds", seed, "in [0, 2^63)")
        for rate in self.learning_rates:
            require(rate > 0, "learning_rate", rate, "above 0")
        require(self.readout_gain > 0, "readout_gain", self.readout_gain, "above 0")
        require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "at least 0")
        require(0 <= self.momentum < 1, "momentum", self.momentum, "in [0, 1)")
        dense = self.architecture == "fully-connected"
        for name, choices in (
            ("activation", tuple(NONLINEARITIES)),
            ("dataset", data.names()),
            ("architecture", tuple(networks.ARCHITECTURES)),
            ("readout", networks.READOUTS),
            ("stem", (None, *draws.KERNEL_SCHEMES)),
            ("initialisation", draws.DENSE_SCHEMES if dense else draws.KERNEL_SCHEMES),
            ("fan", draws.FANS),
            ("dtype", tuple(DTYPES)),
            ("precision", PRECISIONS),
        ):
            value = getattr(self, name)
            require(value in choices, name, value, f"one of {', '.join(map(str, choices))}")
        biases = self.train_biases
        require(isinstance(biases, bool), "train_biases", biases, "True or False")
        draws.check_stable(self.alpha is not None, self.initialisation, self.stem)
        if not dense:
            require(self.fan == "in", "fan", self.fan, '"in" for networks with convolutions')
            networks.check_depth(min(self.depths), self.stride2)
        if self.input_range is not None:
            _set(self, "input_range", _checks.interval("input_range", self.input_range))

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """The learning rates, always as a tuple."""
        return self.learning_rate  # type: ignore[return-value]

    @property
    def inputs_within(self) -> tuple[float, float]:
        """The range of the inputs: ``input_range``, or the paper's for the activation."""
        return self.input_range or data.input_range(self.activation)

    @property
    def bias_variances(self) -> tuple[float, ...]:
        """One σ_b² for each σ_w²."""
        if isinstance(self.sigma_b2, tuple):
            return self.sigma_b2
        return (self.sigma_b2,) * len(self.sigma_w2)

    @property
    def alphas(self) -> tuple[float, ...] | None:
        """One α for each σ_w², or None where the initialisation has none."""
        if self.alpha is None or isinstance(self.alpha, tuple):
            return self.alpha
        return (self.alpha,) * len(self.sigma_w2)

    @property
    def points(self) -> tuple[Any, ...]:
        """The σ_w², or the pairs (α, D_w) of heavy-tailed draws: what tells networks apart."""
        if self.alphas is None:
            return self.sigma_w2
        return tuple(zip(self.alphas, self.sigma_w2, strict=True))

    @property
    def n_networks(self) -> int:
        """Number of networks to train."""
        return len(self.sigma_w2) * len(self.learning_rates) * len(self.depths) * len(self.seeds)

    def options(self, dataset: data.Dataset) -> dict[str, Any]:
        """Return what the architecture's ``draw`` needs beside the settings that all share."""
        if self.architecture == "fully-connected":
            return {"width": self.width, "n_in": dataset.x_train.shape[1], "fan": self.fan}
        return {
            "channels": self.channels,
            "image_shape": dataset.image_shape,
            "stride2": self.stride2,
            "stem": self.stem,
            "readout": self.readout,
        }

    def layers(self, dataset: data.Dataset, depth: int) -> list[Layer]:
        """Return the affine maps of a network of this depth.

        Raises ValueError where the data set cannot be the input of such a network.
        """
        kind = networks.ARCHITECTURES[self.architecture]
        sizes = self.options(dataset)
        if issubclass(kind, networks.OnImages):
            sizes["initialisation"] = self.initialisation
        else:
            del sizes["fan"]
        return kind.chain(depth=depth, n_out=dataset.n_classes, **sizes)

    def parts(
        self, dataset: data.Dataset, depth: int, limit: int, work: float = math.inf
    ) -> list[Grid]:
        """Return grids of fewer σ_w² each, as equal as can be, whose weights fit into ``limit``.

        The bytes are those of one depth and seed. ``work``: how many floating-point operations
        the training of a part may take. A part has at least one σ_w².
        """
        layers = self.layers(dataset, depth)
        numbers = sum(math.prod(layer.weight_shape) for layer in layers)
        stored = numbers * DTYPES[self.dtype].itemsize * (2 if self.momentum else 1)
        # a product up and two down, of a multiplication and an addition for each entry and place
        places = sum(math.prod(one.weight_shape) * one.n_out // one.channels_out for one in layers)
        taken = 6 * places * self.batch_size * self.steps
        rates = len(self.learning_rates)
        most = max(1, limit // (stored * rates))
        if math.isfinite(work):
            most = min(most, max(1, int(work // (taken * rates))))
        n = len(self.sigma_w2)
        edges = [n * k // -(-n // most) for k in range(-(-n // most) + 1)]

        def cut(values: Any, here: slice) -> Any:
            return values[here] if isinstance(values, tuple) else values

        return [
            dataclasses.replace(
                self, **{name: cut(getattr(self, name), slice(*ends)) for name in _PER_POINT}
            )
            for ends in itertools.pairwise(edges)
        ]

    def load(self, device: torch.device | str = "cpu") -> data.Dataset:
        """Load the data set of the grid; raises what ``data.load`` raises."""
        return data.load(
            self.dataset,
            input_range=self.inputs_within,
            device=device,
            dtype=DTYPES[self.dtype],
            **self.dataset_options,
        )


def trainability(
    grid: Grid,
    *,
    store: Store | None = None,
    device: torch.device | str = "auto",
    progress: bool = True,
    memory_limit: int | None = None,
    checkpoint_every: float = _checkpoints.EVERY,
    dataset: data.Dataset | None = None,
) -> pd.DataFrame:
    """Train every network of a grid and return one row each.

    Columns: sigma_w2, depth, seed, learning_rate, train_accuracy, test_accuracy, train_loss,
    test_loss (mean NLL in nats), diverged; alpha first where the draws are heavy-tailed. All
    σ_w² and learning rates of one (depth, seed) are trained as one batched computation, one
    shard, or as several where their weights take too much memory: with a ``store``, shards that
    it holds are read, and a run that was stopped goes on where it was. Without one, nothing is
    kept.
    ``memory_limit`` is how many bytes the stored activations of one shard may take
    (``descent.default_memory_limit`` unless given); it changes no number. Networks that do not fit
    into the memory together are trained in halves, down to one alone; a warning says so. On the
    CPU that changes no bit of theirs where ``batch_size`` is a multiple of 32.
    ``checkpoint_every``: with a store, the state of a shard in training is kept after so many
    seconds, at least twenty times as many as that takes, and a run that was stopped goes on from
    there, to the same bits; infinite to keep none. ``dataset`` is what ``grid.load()`` returns, for
    a caller that has it already.

    Raises ValueError for settings that the data cannot satisfy and for a ``dataset`` of another
    name, dtype or range, DataUnavailable where the data set is not to be had, MemoryError where one
    network alone does not fit.
    """
    at = (grid.steps,)
    limits = memory_limit, checkpoint_every
    table = _run(grid, at, None, store, device, progress, *limits, dataset)
    return table.drop(columns="step")


def learning_curves(
    grid: Grid,
    *,
    at: Sequence[int],
    store: Store | None = None,
    device: torch.device | str = "auto",
    progress: bool = True,
    memory_limit: int | None = None,
    checkpoint_every: float = _checkpoints.EVERY,
    dataset: data.Dataset | None = None,
) -> pd.DataFrame:
    """Train as ``trainability`` does, scoring after each number of steps in ``at``.

    ``at``: ascending, within [0, grid.steps]. Returns one row per network and step, with the
    further column ``step``.
    """
    steps = _rising(grid, at)
    limits = memory_limit, checkpoint_every
    return _run(grid, steps, None, store, device, progress, *limits, dataset)


def observed(
    grid: Grid,
    observe: Observe,
    *,
    at: Sequence[int],
    n_inputs: int = 0,
    options: Mapping[str, Any] | None = None,
    store: Store | None = None,
    device: torch.device | str = "auto",
    progress: bool = True,
    memory_limit: int | None = None,
    checkpoint_every: float = _checkpoints.EVERY,
    dataset: data.Dataset | None = None,
) -> pd.DataFrame:
    """Train as ``learning_curves`` does, and let a function look into the networks on the way.

    After each number of steps in ``at`` it is called as ``observe(network, inputs, **options)``:
    ``network`` is the live ensemble (``networks.Network``, to be read and not changed; its E
    members are those of one shard), ``inputs`` (n_inputs, d) the first test samples. It returns a
    table with any rows and columns, and a column ``member`` in 0 … E − 1.

    Returns these rows with the columns of ``learning_curves`` in front, those of the network and
    the step they belong to. With a ``store``, the function must be one of a module of mflib: its
    name, its options and the version of its module's code are part of the shards' keys.

    Raises ValueError as ``learning_curves`` does, for a function that cannot be recorded or
    whose table is not of that form, and for options that JSON cannot hold.
    """
    _checks.count("n_inputs", n_inputs, 0)
    observation = Observation(observe, n_inputs, dict(options or {}))
    if store is not None:
        observation.key()  # said before any work
    steps = _rising(grid, at)
    limits = memory_limit, checkpoint_every
    return _run(grid, steps, observation, store, device, progress, *limits, dataset)


@dataclasses.dataclass(frozen=True)
class Observation:
    """What to observe: the function, how many inputs it sees, and its further arguments."""

    observe: Observe
    n_inputs: int
    options: dict[str, Any]

    def key(self) -> dict[str, Any]:
        """Return what decides the observed numbers. Raises ValueError for a function unknown."""
        module = getattr(self.observe, "__module__", None) or ""
        name = getattr(self.observe, "__qualname__", "")
        if module.split(".")[0] != sources.PACKAGE or not name.isidentifier():
            raise ValueError(
                f"observe={self.observe!r} must be a function of a module of {sources.PACKAGE} "
                "for its numbers to be kept: move it there, or leave out the store"
            )
        return {
            "observe": f"{module}.{name}",
            "observe_code": sources.code_version(module),
            "n_inputs": self.n_inputs,
            "options": self.options,
        }

    def rows(self, network: Network, inputs: Tensor) -> pd.DataFrame:
        """Return what the function sees now. Raises ValueError for a table of another form."""
        with torch.no_grad():
            table = self.observe(network, inputs[: self.n_inputs], **self.options)
        known = isinstance(table, pd.DataFrame) and "member" in table
        if not known or not table["member"].isin(range(network.n_members)).all():
            raise ValueError(
                f"{self.observe!r} must return a DataFrame with a column member in "
                f"[0, {network.n_members}), the network of each row"
            )
        return table


def _rising(grid: Grid, at: Sequence[int]) -> tuple[int, ...]:
    steps = _distinct("at", tuple(at), int)
    if list(steps) != sorted(steps) or not 0 <= steps[0] <= steps[-1] <= grid.steps:
        raise ValueError(f"at={list(steps)} must rise within [0, {grid.steps}], the grid's steps")
    return steps


class Shard(NamedTuple):
    """One batched computation: a grid of the points it trains, one depth, one seed."""

    grid: Grid
    depth: int
    seed: int
    key: dict[str, Any]


def shards(
    grid: Grid,
    dataset: data.Dataset,
    *,
    device: torch.device,
    at: Sequence[int] | None = None,
    observation: Observation | None = None,
) -> Iterator[Shard]:
    """Yield every shard: seed by seed, the deepest first.

    That order gives a whole picture early, and leaves no core alone with a long shard at the end.
    A (depth, seed) whose weights take too many bytes, or whose training takes too long on a GPU,
    is cut into several shards.

    A key holds every setting that decides the numbers of its own points, the data's checksums, the
    version of the code that computes them, and the device type, dtype and matrix precision.
    """
    common = {
        "input_range": dataset.input_range,
        "at": list(at if at is not None else (grid.steps,)),
        "data_checksum": dataset.checksum,
        "data_fingerprint": dataset.fingerprint(),
        "code": sources.code_version(_KERNEL),
        "device": device.type,
        "dtype": grid.dtype,
        "matrix_precision": _matrix_precision(grid, device),
        **({} if observation is None else observation.key()),
    }
    for seed in grid.seeds:
        for depth in sorted(grid.depths, reverse=True):
            limits = _SHARD_BYTES[device.type], _SHARD_WORK[device.type]
            for part in grid.parts(dataset, depth, *limits):
                settings = dict(vars(part))
                for other in ("depths", "seeds", "precision", "dtype", "steps"):
                    del settings[other]
                key = {**settings, **common, "depth": depth, "seed": seed}
                yield Shard(part, depth, seed, key)


def _matrix_precision(grid: Grid, device: torch.device) -> str:
    if grid.dtype == "float32" and device.type == "cuda":
        return grid.precision
    return "ieee"


def _run(
    grid: Grid,
    at: tuple[int, ...],
    observation: Observation | None,
    store: Store | None,
    device: torch.device | str,
    progress: bool,
    memory_limit: int | None,
    checkpoint_every: float,
    known: data.Dataset | None,
) -> pd.DataFrame:
    where = resolve_device(device)
    if memory_limit is not None:
        _checks.count("memory_limit", memory_limit, 0)
    every = _checkpoints.seconds(checkpoint_every)
    dataset = grid.load(where) if known is None else known.to(where)
    data.check_same(dataset, grid.dataset, DTYPES[grid.dtype], grid.inputs_within)
    _check_batches(grid, dataset)
    wanted = list(
        shards(
            grid,
            dataset,
            device=where,
            at=at,
            observation=observation if store is not None else None,
        )
    )
    share = 1 / (1 + at[-1])  # of a step, and of what comes before and after all steps

    def compute(place: int, advance: _shards.Advance) -> pd.DataFrame:
        def step_of(part: float) -> None:
            advance(part * share)  # raises where the run is to stop

        shard = wanted[place]
        checkpoint = Checkpoint(store, shard.key, every)
        table = _train_shard(shard, dataset, at, observation, step_of, memory_limit, checkpoint)
        table.attrs[_shards.EARLIER] = checkpoint.earlier
        return table

    def layers(place: int) -> float:
        return wanted[place].depth * len(wanted[place].grid.sigma_w2) / len(grid.sigma_w2)

    with descent.matmul_precision(_matrix_precision(grid, where)):
        tables = _shards.gather(
            {place: shard.key for place, shard in enumerate(wanted)},
            compute,
            store=store,
            progress=progress,
            title=f"{grid.activation} on {grid.dataset}",
            device=where,
            unit="layer",
            size=layers,
        )
    order = ["depth", "alpha", "sigma_w2", "learning_rate", "seed", "step"]
    table = pd.concat(tables, ignore_index=True)
    by = [name for name in order if name in table]
    # stable: the rows of one network and step stay in the order in which they were observed
    return table.sort_values(by, ignore_index=True, kind="stable")


def _check_batches(grid: Grid, dataset: data.Dataset) -> None:
    n = len(dataset.x_train)
    needed = grid.batch_size * (grid.steps_per_epoch or 1)
    if needed > n:
        raise ValueError(
            f"batch_size={grid.batch_size} with steps_per_epoch={grid.steps_per_epoch} needs "
            f"{needed} training samples, but {grid.dataset} has {n}: lower one of the two"
        )


def _train_shard(
    shard: Shard,
    dataset: data.Dataset,
    at: tuple[int, ...],
    observation: Observation | None,
    step_of: Callable[[float], None],
    memory_limit: int | None,
    checkpoint: Checkpoint,
) -> pd.DataFrame:
    """Train one ensemble, or its halves where it takes too much memory; return its table.

    ``step_of(part)`` is called before each step of a ``part`` of the networks.
    """
    grid = shard.grid
    members = [(k, rate) for k in range(len(grid.sigma_w2)) for rate in grid.learning_rates]

    def train(some: list[tuple[int, float]]) -> list[pd.DataFrame]:
        finished = checkpoint.finished(some)
        if finished is not None:
            return finished
        before_step = functools.partial(step_of, len(some) / len(members))
        with checkpoint.watching(some) as tables:
            tables += _train_some(
                shard, some, len(members), dataset, at, observation, before_step, memory_limit,
                checkpoint,
            )  # fmt: skip
        return tables

    return pd.concat(_in_halves(train, members, shard.depth), ignore_index=True)


def _in_halves(
    train: Callable[[list[Any]], list[pd.DataFrame]],
    members: list[Any],
    depth: int,
    *,
    said: bool = False,
) -> list[pd.DataFrame]:
    """Return ``train(members)``, its tables put together from halves where memory is too small.

    The halves are as equal as multiples of four members allow: then every member's arrays begin at
    multiples of 16 bytes where they did before, as the bits of a matrix product may depend on.

    Raises MemoryError where one network alone does not fit.
    """
    try:
        return train(members)
    except Exception as error:
        if not _out_of_memory(error):
            raise
    # Only here, the error gone, are the tensors free that its traceback held.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    n = len(members)
    if n == 1:
        raise MemoryError(
            f"one network of depth {depth} does not fit into the memory alone: "
            "lower its depth, width or channels, or the batch size"
        )
    if not said:
        warnings.warn(
            f"{n} networks of depth {depth} take too much memory at once: training them in halves",
            RuntimeWarning,
            stacklevel=2,
        )
    half = max(4, n // 8 * 4) if n > 4 else n // 2
    halves = members[:half], members[half:]
    parts = [_in_halves(train, some, depth, said=True) for some in halves]
    return [pd.concat(each, ignore_index=True) for each in zip(*parts, strict=True)]


def _out_of_memory(error: BaseException | None) -> bool:
    """Tell whether this error, or one that it came from, says that memory is used up."""
    while error is not None:
        if isinstance(error, torch.OutOfMemoryError | MemoryError):
            return True
        if isinstance(error, RuntimeError) and "can't allocate memory" in str(error):
            return True  # torch has no class of its own for the CPU
        error = error.__cause__ or error.__context__
    return False


def _train_some(
    shard: Shard,
    members: list[tuple[int, float]],
    group: int,
    dataset: data.Dataset,
    at: tuple[int, ...],
    observation: Observation | None,
    before_step: Callable[[], None],
    memory_limit: int | None,
    checkpoint: Checkpoint,
) -> list[pd.DataFrame]:
    """Train these (σ_w², learning rate) of a shard's ``group``; return one table for each step."""
    grid, depth, seed, _ = shard
    at_point = [k for k, _ in members]
    settings = {"sigma_w2": [grid.sigma_w2[k] for k in at_point]}
    if grid.alphas is not None:
        settings = {"alpha": [grid.alphas[k] for k in at_point], **settings}
    seen: list[pd.DataFrame] = []

    def observe(network: Network) -> None:
        if observation is not None:
            seen.append(observation.rows(network, dataset.x_test))

    def begin(run: descent.Descent, evaluations: list[descent.Evaluation]) -> None:
        for _ in range(checkpoint.begin(members, run, evaluations, seen)):
            before_step()

    def step() -> None:
        checkpoint.step()
        before_step()

    evaluations = descent.train_members(
        (dataset.x_train, dataset.y_train),
        (dataset.x_test, dataset.y_test),
        architecture=grid.architecture,
        options=grid.options(dataset),
        depth=depth,
        n_classes=dataset.n_classes,
        activation=grid.activation,
        sigma_w2=settings["sigma_w2"],
        sigma_b2=[grid.bias_variances[k] for k in at_point],
        alpha=settings.get("alpha"),
        learning_rates=[rate for _, rate in members],
        seeds=[seed] * len(members),
        batch_size=grid.batch_size,
        momentum=grid.momentum,
        steps_per_epoch=grid.steps_per_epoch,
        initialisation=grid.initialisation,
        readout_gain=grid.readout_gain,
        train_biases=grid.train_biases,
        weight_decay=grid.weight_decay,
        evaluation_samples=grid.evaluation_samples,
        at=at,
        observe=observe,
        begin=begin,
        memory_limit=memory_limit,
        before_step=step,
        group=group,
    )
    rows = pd.DataFrame(
        {
            **settings,
            "depth": depth,
            "seed": seed,
            "learning_rate": [rate for _, rate in members],
        }
    )
    scored = [
        rows.assign(step=step, **{name: getattr(result, name) for name in _MEASURES})
        for step, result in zip(at, evaluations, strict=True)
    ]
    if observation is not None:
        scored = [_joined(one, more) for one, more in zip(scored, seen, strict=True)]
    return scored


def _joined(scored: pd.DataFrame, seen: pd.DataFrame) -> pd.DataFrame:
    """Put each network's settings and scores in front of the rows that were observed of it."""
    twice = sorted(set(scored) & set(seen))
    if twice:
        raise ValueError(
            f"observe returns a column {twice[0]!r}, which is one of the network's own: rename it"
        )
    front = scored.iloc[seen["member"].to_numpy()].reset_index(drop=True)
    return pd.concat([front, seen.drop(columns="member").reset_index(drop=True)], axis=1)


def _set(grid: Grid, name: str, value: object) -> None:
    object.__setattr__(grid, name, value)


def _per_point(
    name: str, values: Any, n: int, check: Callable[[str, Any], float]
) -> float | tuple[float, ...]:
    if isinstance(values, Sequence) and not isinstance(values, str | bytes):
        require(len(values) == n, name, values, f"one number, or one for each of {n} sigma_w2")
        return tuple(check(name, value) for value in values)
    return check(name, values)


def _numbers(name: str, values: Any, kind: type) -> tuple[Any, ...]:
    if isinstance(values, str | bytes) or not isinstance(values, Sequence) or not len(values):
        raise ValueError(f"{name}={values!r} must be a list of at least one number")
    return tuple(number(name, value, kind) for value in values)


def _distinct(name: str, values: Any, kind: type) -> tuple[Any, ...]:
    found = _numbers(name, values, kind)
    if len(set(found)) < len(found):
        raise ValueError(f"{name}={list(found)} names a value twice")
    return found
