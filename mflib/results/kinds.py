"""What a long computation is to the registry, and the kinds there are.

All are made of shards that the store keeps: networks trained at once (`Trainability`), maps of the
entropies of reconstructions (`Entropies`), or the calls of any other function whose shards' keys
can be listed (`Calls`).
"""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pandas as pd

    from mflib.experiment.entropies import EntropyMap
    from mflib.experiment.store import Store
    from mflib.experiment.training import Grid, Observation


@dataclasses.dataclass(frozen=True)
class Group:
    """Shards that one job computes.

    ``part``: the part of the table that they belong to, recorded as soon as it is complete.
    ``stage``: groups of a lower stage come first, over all computations. ``what``: what the
    computation itself needs to know. ``seconds``: a rough guess of its time on one H200.
    """

    name: str
    part: str
    stage: int
    what: Any
    seconds: float


class Computation(Protocol):
    """What the registry knows of a computation."""

    @property
    def id(self) -> str:
        """Its row in the register."""

    @property
    def title(self) -> str:
        """What it is, in words."""

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules that compute its numbers: a change of theirs makes the table stale."""

    @property
    def data_sets(self) -> tuple[str, ...]:
        """The data sets that it needs."""

    def groups(self) -> tuple[Group, ...]:
        """Return the groups in the order in which to compute them."""

    def keys(self, group: Group, device: str) -> list[dict[str, Any]]:
        """Return the keys of a group's shards on "cuda" or "cpu"; raises DataUnavailable."""

    def compute(self, group: Group, store: Store, device: str, progress: bool) -> None:
        """Put the group's shards that are missing into the store."""

    def table(self, group: Group, shards: list[pd.DataFrame]) -> pd.DataFrame:
        """Return the rows of the recorded table of all shards of the part of ``group``."""

    def settings(self) -> dict[str, Any]:
        """Return all settings, fit for JSON, by the names of its blocks."""

    def block_of(self, part: str) -> str:
        """Return the name of the block that a part of the table is of."""


def _coarse_first(pictures: Sequence[Block | Map], piece: float) -> tuple[Group, ...]:
    """Return groups seed by seed, in each the coarse pictures of all first.

    A group is one picture at one seed, or every n-th share of it where that takes more than about
    ``piece`` seconds.
    """
    found = []
    for one in pictures:
        n = min(len(one.shares), max(1, math.ceil(one.seconds(one.shares) / piece)))
        for later, seed in enumerate(one.seeds):
            part = f"{one.name}-seed{seed}"
            for k in range(n):
                some = one.shares[k::n]
                name, what = f"{part}-{k + 1}of{n}", (one, seed, some)
                group = Group(name, part, one.stage + later, what, one.seconds(some))
                found.append((k, group))
    return tuple(group for _, group in sorted(found, key=lambda each: (each[1].stage, each[0])))


# --- networks trained at once -----------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Block:
    """One picture: networks over (σ_w², depth), at one or more seeds.

    ``grid``: the keyword arguments of ``training.Grid``, seeds included; ``at``: the numbers of
    steps after which the networks are scored, and observed where there is an ``observation``: the
    keyword arguments of ``training.observed``, each time about ``each_observation`` seconds of
    the host. ``stage``: that of its first seed.
    """

    name: str
    grid: Mapping[str, Any]
    at: tuple[int, ...]
    observation: Mapping[str, Any] | None = None
    each_observation: float = 0.0
    stage: int = 0

    @property
    def shares(self) -> tuple[Any, ...]:
        """What a group may have every n-th of: the depths."""
        return tuple(self.grid["depths"])

    @property
    def seeds(self) -> tuple[int, ...]:
        """Its seeds."""
        return tuple(self.grid["seeds"])

    def make(self, **changes: Any) -> Grid:
        """Return the grid."""
        from mflib.experiment.training import Grid

        return Grid(**{**self.grid, **changes, "steps": self.at[-1]})

    def seconds(self, depths: Sequence[int]) -> float:
        """Return a rough guess of the time of one seed on an H200: bound, or waiting for kernels.

        A layer of a network takes per step 6 operations per weight and sample, and moves its
        weights some four times and its activations some ten. Rates that can be sustained are taken
        as 1.3e14 operations and 4e12 bytes per second, and the kernels of a layer take
        at least 25 µs, those of a convolution 45 µs.
        """
        known = {"architecture": "fully-connected", "width": 300, "channels": 256, "stride2": 2}
        grid = {**known, "batch_size": 256, "learning_rate": 1e-3, **self.grid}
        rates, samples = grid["learning_rate"], grid["batch_size"]
        n = len(grid["sigma_w2"]) * (len(rates) if isinstance(rates, Sequence) else 1)
        if grid["architecture"] == "fully-connected":
            weights, units, places, least = grid["width"] ** 2, grid["width"], 1, 25e-6
        else:  # 32 x 32 pixels, halved by every stride
            least = 45e-6
            places = (32 >> grid["stride2"]) ** 2
            weights, units = 9 * grid["channels"] ** 2, grid["channels"] * places
        operations = 6 * weights * places * samples / 1.3e14
        traffic = 4 * (4 * weights + 10 * units * samples) / 4e12
        training = max(n * operations, n * traffic, least) * sum(depths) * self.at[-1]
        return training + self.each_observation * len(self.at) * len(depths)

    def observed(self) -> Observation | None:
        """Return what is observed, if anything is."""
        from mflib.experiment.training import Observation

        if self.observation is None:
            return None
        known = self.observation
        function = _named(known["observe"])
        return Observation(function, known.get("n_inputs", 0), dict(known.get("options", {})))


@dataclasses.dataclass(frozen=True)
class Trainability:
    """Grids of trained networks: a row for each network and each time of scoring.

    A group is one block at one seed, or, where that takes more than about ``piece`` seconds, every
    n-th depth of it, so that the first shows the whole picture coarsely.
    """

    id: str
    title: str
    blocks: tuple[Block, ...]
    piece: float
    modules: tuple[str, ...] = ("mflib.experiment.descent",)
    _known: dict[tuple[str, str], list[Any]] = dataclasses.field(
        default_factory=dict, compare=False, repr=False
    )

    @property
    def data_sets(self) -> tuple[str, ...]:
        """See ``Computation``."""
        return tuple(dict.fromkeys(block.grid["dataset"] for block in self.blocks))

    def groups(self) -> tuple[Group, ...]:
        """See ``Computation``: seed by seed, in each the coarse pictures of all blocks first."""
        return _coarse_first(self.blocks, self.piece)

    def keys(self, group: Group, device: str) -> list[dict[str, Any]]:
        """See ``Computation``."""
        import torch

        from mflib.experiment import training

        block, seed, depths = group.what
        if (block.name, device) not in self._known:  # one load of the data for all groups
            grid = block.make()
            found = training.shards(
                grid,
                _dataset(grid),
                device=torch.device(device),
                at=block.at,
                observation=block.observed(),
            )
            self._known[block.name, device] = list(found)
        known = self._known[block.name, device]
        return [one.key for one in known if one.seed == seed and one.depth in depths]

    def compute(self, group: Group, store: Store, device: str, progress: bool) -> None:
        """See ``Computation``."""
        from mflib.experiment import training

        block, seed, depths = group.what
        grid, seen = block.make(seeds=(seed,), depths=depths), block.observed()
        common = {"at": block.at, "store": store, "device": device, "progress": progress}
        common["dataset"] = _dataset(grid)
        if seen is None:
            training.learning_curves(grid, **common)
        else:
            more = {"n_inputs": seen.n_inputs, "options": seen.options}
            training.observed(grid, seen.observe, **more, **common)

    def table(self, group: Group, shards: list[pd.DataFrame]) -> pd.DataFrame:
        """See ``Computation``: the columns of ``training.learning_curves`` with the block's.

        ``chance`` is the accuracy of always guessing the most frequent class.
        """
        import pandas as pd

        grid = group.what[0].make()
        rows = pd.concat(shards, ignore_index=True)
        order = ["depth", "alpha", "sigma_w2", "learning_rate", "seed", "step"]
        # stable: what was observed of one network at one step stays in its order
        rows = rows.sort_values([name for name in order if name in rows], kind="stable")
        own = {name: getattr(grid, name) for name in ("activation", "dataset", "sigma_b2")}
        labels = _dataset(grid).y_train
        own["chance"] = float(labels.bincount().max()) / len(labels)
        if isinstance(grid.sigma_b2, tuple):  # one for each σ_w²
            own["sigma_b2"] = rows["sigma_w2"].map(
                dict(zip(grid.sigma_w2, grid.sigma_b2, strict=True))
            )
        for place, (name, values) in enumerate(own.items()):
            rows.insert(place, name, values)
        return rows.reset_index(drop=True)

    def block_of(self, part: str) -> str:
        """See ``Computation``."""
        return part.rpartition("-seed")[0]

    def settings(self) -> dict[str, Any]:
        """See ``Computation``."""
        return {
            block.name: {
                **dataclasses.asdict(block.make()),
                "scored_at": block.at,
                **({} if block.observation is None else {"observation": dict(block.observation)}),
            }
            for block in self.blocks
        }


_loaded: list[tuple[Any, Any]] = []
_KEPT = 2  # data sets, of which CIFAR-10 takes most of a gigabyte


def _dataset(settings: Any) -> Any:
    """Return the data of a grid or map; the last ones stay, since neighbours often share them."""
    inside = getattr(settings, "inputs_within", None)
    wanted = (
        *(type(settings), settings.dataset, settings.dtype, inside),
        sorted(settings.dataset_options.items()),
    )
    for known, dataset in _loaded:
        if known == wanted:
            return dataset
    del _loaded[_KEPT - 1 :]
    _loaded.insert(0, (wanted, settings.load()))
    return _loaded[0][1]


# --- entropies of reconstructions -------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Map:
    """One map of entropies over (σ_w², layer), at one or more seeds.

    ``settings``: the keyword arguments of ``entropies.EntropyMap``, seeds included; ``each``:
    guessed seconds of one network on an H200. ``stage``: that of its first seed.
    """

    name: str
    settings: Mapping[str, Any]
    each: float
    stage: int = 0

    @property
    def shares(self) -> tuple[Any, ...]:
        """What a group may have every n-th of: the σ_w²."""
        return tuple(self.settings["sigma_w2"])

    @property
    def seeds(self) -> tuple[int, ...]:
        """Its seeds."""
        return tuple(self.settings["seeds"])

    def seconds(self, sigma_w2: Sequence[float]) -> float:
        """Return a rough guess of the time of these networks at one seed on an H200."""
        return len(sigma_w2) * self.each

    def make(self, **changes: Any) -> EntropyMap:
        """Return the settings."""
        from mflib.experiment.entropies import EntropyMap

        return EntropyMap(**{**self.settings, **changes})


@dataclasses.dataclass(frozen=True)
class Entropies:
    """Maps of entropies of reconstructions: a row for each network and layer.

    A group is one map at one seed, or every n-th σ_w² of it where that takes more than about
    ``piece`` seconds.
    """

    id: str
    title: str
    maps: tuple[Map, ...]
    piece: float
    modules: tuple[str, ...] = ("mflib.experiment._entropy",)
    _known: dict[tuple[str, str], list[Any]] = dataclasses.field(
        default_factory=dict, compare=False, repr=False
    )

    @property
    def data_sets(self) -> tuple[str, ...]:
        """See ``Computation``."""
        return tuple(dict.fromkeys(one.settings["dataset"] for one in self.maps))

    def groups(self) -> tuple[Group, ...]:
        """See ``Computation``: seed by seed, in each the coarse pictures of all maps first."""
        return _coarse_first(self.maps, self.piece)

    def keys(self, group: Group, device: str) -> list[dict[str, Any]]:
        """See ``Computation``."""
        import torch

        from mflib.experiment import entropies

        one, seed, some = group.what
        if (one.name, device) not in self._known:
            settings = one.make()
            found = entropies.shards(settings, _dataset(settings), device=torch.device(device))
            self._known[one.name, device] = list(found)
        known = self._known[one.name, device]
        return [each.key for each in known if each.seed == seed and each.sigma_w2 in some]

    def compute(self, group: Group, store: Store, device: str, progress: bool) -> None:
        """See ``Computation``."""
        from mflib.experiment import entropies

        one, seed, some = group.what
        settings = one.make(sigma_w2=some, seeds=(seed,))
        dataset = _dataset(settings)
        entropies.entropies(
            settings, store=store, device=device, progress=progress, dataset=dataset
        )

    def table(self, group: Group, shards: list[pd.DataFrame]) -> pd.DataFrame:
        """See ``Computation``: the columns of ``entropies.entropies`` with the map's."""
        import pandas as pd

        rows = pd.concat(shards, ignore_index=True)
        rows = rows.sort_values(["sigma_w2", "seed", "layer"], ignore_index=True)
        settings = group.what[0].make()
        own = ("architecture", "dataset", "sigma_b2", "channels", "bounded")
        for place, name in enumerate(own):
            rows.insert(place, name, getattr(settings, name))
        return rows

    def block_of(self, part: str) -> str:
        """See ``Computation``."""
        return part.rpartition("-seed")[0]

    def settings(self) -> dict[str, Any]:
        """See ``Computation``."""
        return {one.name: dataclasses.asdict(one.make()) for one in self.maps}


# --- any other function made of shards --------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a computation's function, a part of its own; else as ``Group``.

    ``arguments``: those that are its own.
    """

    name: str
    stage: int
    arguments: Mapping[str, Any]
    seconds: float


@dataclasses.dataclass(frozen=True)
class Calls:
    """Calls of one function, each a group, whose table is made of shards.

    ``function`` and ``lister`` are named "module:name". The first takes the arguments of a call
    with ``store``, ``device`` and ``progress``; the second the same with ``device`` alone, and
    returns the keys of the shards that the first would put into the store. ``order``: the columns
    by which rows are sorted.
    """

    id: str
    title: str
    function: str
    lister: str
    calls: tuple[Call, ...]
    order: tuple[str, ...]
    modules: tuple[str, ...]
    data_sets: tuple[str, ...] = ()

    def groups(self) -> tuple[Group, ...]:
        """See ``Computation``."""
        found = [
            Group(one.name, one.name, one.stage, one.arguments, one.seconds) for one in self.calls
        ]
        return tuple(sorted(found, key=lambda group: group.stage))

    def keys(self, group: Group, device: str) -> list[dict[str, Any]]:
        """See ``Computation``."""
        return list(_named(self.lister)(**group.what, device=device))

    def compute(self, group: Group, store: Store, device: str, progress: bool) -> None:
        """See ``Computation``."""
        _named(self.function)(**group.what, store=store, device=device, progress=progress)

    def table(self, group: Group, shards: list[pd.DataFrame]) -> pd.DataFrame:
        """See ``Computation``."""
        import pandas as pd

        rows = pd.concat(shards, ignore_index=True)
        return rows.sort_values(list(self.order), ignore_index=True, kind="stable")

    def block_of(self, part: str) -> str:
        """See ``Computation``: a part is a call."""
        return part

    def settings(self) -> dict[str, Any]:
        """See ``Computation``."""
        return {
            one.name: {name: _plain(value) for name, value in one.arguments.items()}
            for one in self.calls
        }


def _plain(value: Any) -> Any:
    """Return an argument fit for JSON."""
    known = dataclasses.is_dataclass(value) and not isinstance(value, type)
    return dataclasses.asdict(value) if known else value


def _named(place: str) -> Any:
    """Return what a "module:name" names."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
