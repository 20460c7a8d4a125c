"""Maps of reconstruction entropies over (σ_w², layer) of untrained networks, network by network."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import stats

from mflib import sources
from mflib.experiment import _checks, _entropy, _shards, data, networks, reconstruction
from mflib.experiment._checks import number, require
from mflib.experiment._devices import resolve_device
from mflib.experiment._entropy import residual_network
from mflib.experiment.boundary import Interval
from mflib.experiment.nonlinearities import NONLINEARITIES, nonlinearity
from mflib.experiment.store import Store

__all__ = [
    "ARCHITECTURES",
    "KERNEL",
    "MEASURES",
    "EntropyMap",
    "Shard",
    "entropies",
    "peak",
    "peak_ratio",
    "residual_network",
    "shards",
    "stacked",
    "summit",
]

ARCHITECTURES = ("fully-connected", "convolutional", "residual")
KERNEL = "mflib.experiment._entropy"  # with its imports: all code that decides a number
MEASURES = (
    "differential",
    "differential_published",
    "relative",
    "relative_published",
    "correlation",
)
_INPUT_RANGE = (0.0, 1.0)  # the paper's
_PRECISION = "ieee"
_DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclasses.dataclass(frozen=True)
class EntropyMap:
    """Settings of a map: one untrained network per (σ_w², seed), and its layers.

    The defaults are those of the paper's figure 4 in closed form. ``depth`` counts hidden layers;
    that of a "residual" network its blocks, behind a stem of two layers
    (``residual_network``). ``architecture`` "fully-connected" has ``width`` units per layer,
    "convolutional" ``channels`` and ``stride2`` convolutions of stride 2 behind the first
    (``networks.Convolutional``), "residual" ``channels``, and a tanh behind the addition where
    ``bounded``. Weights have variance σ_w²/N_in, biases ``sigma_b2``. Inputs lie in [0, 1];
    ``dataset_options`` are further arguments of ``data.load``.

    Decoders are fitted on the first ``n_fit`` training images, as ``reconstruction.cascade`` does
    in ``mode``: "closed-form" with the noise floor of ``steps`` batches, "faithful" by ``steps``
    batches of ``batch_size`` (938 of 64 are an epoch of MNIST). The first ``n_shown`` test images
    are reconstructed from ``layers``, all of them unless given.

    Raises ValueError, one sentence naming the value, for settings out of range.

    >>> EntropyMap(sigma_w2=(1.0, 1.76), depth=200, seeds=(0, 1)).n_networks
    4
    """

    sigma_w2: tuple[float, ...]
    depth: int
    sigma_b2: float = 0.05
    seeds: tuple[int, ...] = (0,)
    architecture: str = "fully-connected"
    activation: str = "tanh"
    width: int = 784
    channels: int = 128
    stride2: int = 2
    bounded: bool = True
    dataset: str = "mnist"
    dataset_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    mode: str = "closed-form"
    n_fit: int = 10_000
    batch_size: int = 64
    steps: int = 938
    n_shown: int = 100
    layers: tuple[int, ...] | None = None
    dtype: str = "float32"

    def __post_init__(self) -> None:
        self._set("sigma_w2", _distinct("sigma_w2", self.sigma_w2, float))
        self._set("seeds", _distinct("seeds", self.seeds, int))
        for w2 in self.sigma_w2:
            require(w2 > 0, "sigma_w2", w2, "above 0")
        for seed in self.seeds:
            require(0 <= seed < 2**63, "seeds", seed, "in [0, 2^63)")
        self._set("sigma_b2", _checks.variance("sigma_b2", self.sigma_b2))
        for name, least in (
            ("depth", 1), ("width", 1), ("channels", 1), ("stride2", 0), ("n_fit", 2),
            ("batch_size", 1), ("steps", 1), ("n_shown", 2),
        ):  # fmt: skip
            self._set(name, _checks.count(name, getattr(self, name), least))
        for name, choices in (
            ("architecture", ARCHITECTURES),
            ("activation", tuple(NONLINEARITIES)),
            ("dataset", data.names()),
            ("mode", reconstruction.MODES),
            ("dtype", tuple(_DTYPES)),
        ):
            value = getattr(self, name)
            require(value in choices, name, value, f"one of {', '.join(choices)}")
        require(isinstance(self.bounded, bool), "bounded", self.bounded, "True or False")
        options = self.dataset_options
        require(isinstance(options, Mapping), "dataset_options", options, "options by their names")
        for option in options:
            require(option in data.OPTIONS, "dataset_options", option, f"of {data.OPTIONS}")
        self._set("dataset_options", dict(options))
        if self.architecture == "residual":
            tanh = self.activation == "tanh"
            require(tanh, "activation", self.activation, '"tanh": it is that of residual networks')
        if self.architecture == "convolutional":
            networks.check_depth(self.depth, self.stride2)
        if self.mode == "faithful":
            fits = self.batch_size <= self.n_fit
            require(fits, "batch_size", self.batch_size, f"at most n_fit={self.n_fit}")
        if self.layers is not None:
            layers = _distinct("layers", self.layers, int)
            for layer in layers:
                inside = 1 <= layer <= self.n_layers
                require(inside, "layers", layer, f"in [1, {self.n_layers}], the network's")
            self._set("layers", tuple(sorted(layers)))

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    @property
    def n_layers(self) -> int:
        """Number of layers of a network, the stem of a residual one included."""
        return self.depth + (2 if self.architecture == "residual" else 0)

    @property
    def n_networks(self) -> int:
        """Number of networks, each a shard of its own."""
        return len(self.sigma_w2) * len(self.seeds)

    def load(self, device: torch.device | str = "cpu") -> data.Dataset:
        """Load the data set of the map; raises what ``data.load`` raises."""
        return data.load(
            self.dataset, input_range=_INPUT_RANGE, device=device, dtype=_DTYPES[self.dtype],
            **self.dataset_options,
        )  # fmt: skip


class Shard(NamedTuple):
    """One network of a map."""

    sigma_w2: float
    seed: int
    key: dict[str, Any]


def shards(settings: EntropyMap, dataset: data.Dataset, *, device: torch.device) -> Iterator[Shard]:
    """Yield every shard: seed by seed, in each the whole map coarsely first.

    A key holds every setting that decides the numbers of its own network, the data's checksums, the
    version of the code that computes them, and the device type, dtype and matrix precision. It does
    not depend on which other networks the map has.

    Raises ValueError where the data set cannot be the input of such networks.
    """
    _check(settings, dataset)
    common = dataclasses.asdict(settings)
    for several in ("sigma_w2", "seeds"):
        del common[several]
    common |= {
        "input_range": dataset.input_range,
        "data_checksum": dataset.checksum,
        "data_fingerprint": dataset.fingerprint(),
        "code": sources.code_version(KERNEL),
        "device": device.type,
        "matrix_precision": _PRECISION,
    }
    n = len(settings.sigma_w2)
    # multiples of the highest power of 2 first, from 0 on
    order = sorted(range(n), key=lambda k: -(k & -k or n))
    for seed in settings.seeds:
        for k in order:
            w2 = settings.sigma_w2[k]
            yield Shard(w2, seed, {**common, "sigma_w2": w2, "seed": seed})


def entropies(
    settings: EntropyMap,
    *,
    store: Store | None = None,
    device: torch.device | str = "auto",
    progress: bool = True,
    dataset: data.Dataset | None = None,
) -> pd.DataFrame:
    """Return what the layers of untrained networks still know: a row per (σ_w², seed, layer).

    Columns: sigma_w2, seed, layer; ``differential`` entropy S of the reconstructions in nats, and
    ``differential_published``, of images that are divided by the sum of their pixels (NaN where
    that is 0); ``relative`` entropy between images and reconstructions, the mean over images, and
    ``relative_published``, the median of its ratio to that of the last layer, with images
    normalised as the paper's code does; ``correlation``; mode. See ``reconstruction``.

    Each network is a shard: with a ``store``, those that it holds are read, and a run that was
    stopped goes on where it was. Networks are drawn on the CPU, the same on every device, and all
    else is computed on ``device``, in float32 without TF32 (or in float64). ``dataset`` is what
    ``settings.load()`` returns, for a caller that has it already.

    Raises ValueError for settings that the data cannot satisfy, for a ``dataset`` of another name,
    dtype or range and for activations that overflow, DataUnavailable where the data set is not to
    be had.
    """
    where = resolve_device(device)
    dataset = settings.load(where) if dataset is None else dataset.to(where)
    data.check_same(dataset, settings.dataset, _DTYPES[settings.dtype], _INPUT_RANGE)
    wanted = list(shards(settings, dataset, device=where))

    def compute(place: int, advance: _shards.Advance) -> pd.DataFrame:
        return _network(settings, wanted[place], dataset, where, advance)

    tables = _shards.gather(
        {place: shard.key for place, shard in enumerate(wanted)},
        compute,
        store=store,
        progress=progress,
        title=f"{settings.mode} decoders on {settings.dataset}",
        device=where,
        unit="network",
    )
    by = ["sigma_w2", "seed", "layer"]
    return pd.concat(tables, ignore_index=True).sort_values(by, ignore_index=True)


def _network(
    settings: EntropyMap,
    shard: Shard,
    dataset: data.Dataset,
    device: torch.device,
    advance: _shards.Advance,
) -> pd.DataFrame:
    """Compute one shard."""
    sizes = ("architecture", "activation", "sigma_b2", "depth", "width", "channels", "stride2")
    model = _entropy.drawn(
        **{name: getattr(settings, name) for name in (*sizes, "bounded")},
        sigma_w2=shard.sigma_w2,
        image_shape=dataset.image_shape,
        n_out=dataset.n_classes,
        seed=shard.seed,
        dtype=_DTYPES[settings.dtype],
    )
    fit, shown = dataset.x_train[: settings.n_fit], dataset.x_test[: settings.n_shown]
    if settings.architecture == "residual":
        fit, shown = (x.unflatten(1, dataset.image_shape) for x in (fit, shown))
    rows = _entropy.measured(
        model,
        fit,
        shown,
        mode=settings.mode,
        layers=settings.layers,
        batch_size=settings.batch_size,
        steps=settings.steps,
        output="tanh" if _within_tanh(settings) else "identity",
        seed=shard.seed,
        device=device,
        advance=advance,
    )
    rows.insert(0, "sigma_w2", shard.sigma_w2)
    rows.insert(1, "seed", shard.seed)
    return rows.assign(mode=settings.mode)


def _within_tanh(settings: EntropyMap) -> bool:
    """Tell whether all activations lie in [−1, 1], as decoders that end in a tanh need it."""
    low, high = nonlinearity(settings.activation).range
    return settings.bounded and low >= -1 and high <= 1


def _check(settings: EntropyMap, dataset: data.Dataset) -> None:
    for name, images in (("n_fit", dataset.x_train), ("n_shown", dataset.x_test)):
        part = "training" if name == "n_fit" else "test"
        allowed = f"at most {len(images)}, the {part} images of {dataset.name}"
        require(getattr(settings, name) <= len(images), name, getattr(settings, name), allowed)
    if settings.architecture != "fully-connected" and len(dataset.image_shape) != 3:
        raise ValueError(
            f"dataset={dataset.name!r} holds no images, which {settings.architecture} networks "
            "need: choose another data set"
        )


def _distinct(name: str, values: Any, kind: type) -> tuple[Any, ...]:
    if isinstance(values, str | bytes) or not isinstance(values, Sequence) or not len(values):
        raise ValueError(f"{name}={values!r} must be a list of at least one number")
    found = tuple(number(name, value, kind) for value in values)
    if len(set(found)) < len(found):
        raise ValueError(f"{name}={list(found)} names a value twice")
    return found


def summit(sigma_w2: Sequence[float] | np.ndarray, score: np.ndarray) -> float:
    """Return where the parabola in ln σ_w² through the best score and its neighbours is highest.

    ``sigma_w2`` (n,) rises, ``score`` (n,); a maximum at either end is returned as it is.

    >>> round(summit([1.0, 2.0, 4.0], np.array([-1.0, 0.0, -1.0])), 12)
    2.0
    """
    at, best = np.asarray(sigma_w2, dtype=float), int(np.argmax(score))
    if best in (0, len(at) - 1):
        return float(at[best])
    near = slice(best - 1, best + 2)
    curvature, slope, _ = np.polyfit(np.log(at[near]), np.asarray(score)[near], 2)
    return float(np.exp(-slope / (2 * curvature)))


def stacked(table: pd.DataFrame, measure: str = "differential") -> np.ndarray:
    """Return a measure of a map as an array, (σ_w², networks, layers), each in rising order.

    ``table``: rows as ``entropies`` returns them, of one map. Raises ValueError where a network
    has other layers than the rest, or a seed other σ_w².
    """
    axes = ["sigma_w2", "seed", "layer"]
    sizes = [table[name].nunique() for name in axes]
    if len(table) != math.prod(sizes) or table.duplicated(axes).any():
        raise ValueError(
            f"a map of {' × '.join(map(str, sizes))} (σ_w², seeds, layers) has {len(table)} rows: "
            "give one map, all of its networks with the same layers"
        )
    return table.sort_values(axes)[measure].to_numpy().reshape(sizes)


def peak(
    table: pd.DataFrame, *, share: float = 1.0, level: float = 0.95, resamples: int = 1000,
    seed: int = 0,
) -> Interval:  # fmt: skip
    """Return the σ_w² at which the differential entropy over the deeper layers is highest.

    The geometric mean over networks (seeds, each a network at every σ_w²) of the ``summit`` of S,
    averaged over the deepest ``share`` in (0, 1] of the layers, with Student's interval over the
    logarithms. Of a single network it is a percentile bootstrap over its layers, which says nothing
    of other weights.
    """
    require(0 < number("level", level, float) < 1, "level", level, "in (0, 1)")
    at, values = _deepest(table, share)
    logs = _log_summits(at, values)
    if len(logs) > 1:
        half = stats.t.ppf((1 + level) / 2, len(logs) - 1) * stats.sem(logs)
        low, high = logs.mean() - half, logs.mean() + half
    else:
        rng, layers = np.random.default_rng(seed), values.shape[2]
        drawn = [
            _log_summits(at, values[..., rng.integers(layers, size=layers)])[0]
            for _ in range(resamples)
        ]
        low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    value, low, high = np.exp([logs.mean(), low, high]).tolist()
    return Interval(value, low, high, level, 1.0)


def peak_ratio(
    one: pd.DataFrame, other: pd.DataFrame, *, share: float = 1.0, level: float = 0.95
) -> Interval:
    """Return the ``peak`` of the second map over that of the first, with Welch's interval.

    It is (0, ∞) where one of the maps is of a single network.
    """
    require(0 < number("level", level, float) < 1, "level", level, "in (0, 1)")
    first, second = (_log_summits(*_deepest(table, share)) for table in (one, other))
    difference, half = float(second.mean() - first.mean()), math.inf
    if min(len(first), len(second)) > 1:
        parts = np.array([logs.var(ddof=1) / len(logs) for logs in (first, second)])
        freedom = np.array([len(first) - 1, len(second) - 1])
        total = float(parts.sum())
        degrees = total**2 / float((parts**2 / freedom).sum()) if total > 0 else 1.0
        half = float(stats.t.ppf((1 + level) / 2, degrees)) * math.sqrt(total)
    value, low, high = np.exp([difference, difference - half, difference + half]).tolist()
    return Interval(value, low, high, level, 1.0)


def _deepest(table: pd.DataFrame, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the σ_w² of a map, and S (σ_w², networks, layers) of the deepest layers."""
    require(0 < number("share", share, float) <= 1, "share", share, "in (0, 1]")
    values = stacked(table)
    first = values.shape[2] - max(1, math.ceil(share * values.shape[2]))
    return np.sort(table["sigma_w2"].unique()), values[..., first:]


def _log_summits(at: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.log([summit(at, score) for score in values.mean(2).T])
