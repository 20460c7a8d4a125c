"""What a long computation is to the registry, and the kinds there are.

All are made of shards that the store keeps: of networks trained at once (`Trainability`), or of
any other function whose shards' keys can be listed (`Calls`).
"""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pandas as pd

    from mflib.experiment.store import Store
    from mflib.experiment.training import Grid, Observation


@dataclasses.dataclass(frozen=True)
class Group:
    """Shards that one job computes.

    ``part``: the part of the table that they belong to, recorded as soon as it is complete.
    ``stage``: groups of a lower stage come first, over all computations. ``what``: what the
    computation itself needs to know.
    """

    name: str
    part: str
    stage: int
    what: Any


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
        """Return all settings, fit for JSON."""


# --- networks trained at once -----------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Block:
    """One picture: networks over (σ_w², depth), at one or more seeds.

    ``grid``: the keyword arguments of ``training.Grid``, seeds included; ``at``: the numbers of
    steps after which the networks are scored, and observed where there is an ``observation``: the
    keyword arguments of ``training.observed``. ``stage``: that of its first seed.
    """

    name: str
    grid: Mapping[str, Any]
    at: tuple[int, ...]
    observation: Mapping[str, Any] | None = None
    stage: int = 0

    def make(self, **changes: Any) -> Grid:
        """Return the grid."""
        from mflib.experiment.training import Grid

        return Grid(**{**self.grid, **changes, "steps": self.at[-1]})

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

    A group is one block at one seed, or, where that is more work than ``piece``, every n-th depth
    of it, so that the first shows the whole picture coarsely. Work is counted in networks × layers
    × steps.
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
        found = []
        for block in self.blocks:
            grid = block.grid
            rates = grid["learning_rate"]
            members = len(grid["sigma_w2"]) * (len(rates) if isinstance(rates, Sequence) else 1)
            work = members * sum(grid["depths"]) * block.at[-1]
            n = min(len(grid["depths"]), math.ceil(work / self.piece))
            for later, seed in enumerate(grid["seeds"]):
                part = f"{block.name}-seed{seed}"
                for k in range(n):
                    what = (block, seed, tuple(grid["depths"][k::n]))
                    group = Group(f"{part}-{k + 1}of{n}", part, block.stage + later, what)
                    found.append((k, group))
        return tuple(group for _, group in sorted(found, key=lambda each: (each[1].stage, each[0])))

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
        if seen is None:
            training.learning_curves(grid, **common)
        else:
            more = {"n_inputs": seen.n_inputs, "options": seen.options}
            training.observed(grid, seen.observe, **more, **common)

    def table(self, group: Group, shards: list[pd.DataFrame]) -> pd.DataFrame:
        """See ``Computation``: the columns of ``training.learning_curves`` with the block's."""
        import pandas as pd

        grid = group.what[0].make()
        rows = pd.concat(shards, ignore_index=True)
        order = ["depth", "alpha", "sigma_w2", "learning_rate", "seed", "step"]
        # stable: what was observed of one network at one step stays in its order
        rows = rows.sort_values([name for name in order if name in rows], kind="stable")
        own = {name: getattr(grid, name) for name in ("activation", "dataset", "sigma_b2")}
        if isinstance(grid.sigma_b2, tuple):  # one for each σ_w²
            own["sigma_b2"] = rows["sigma_w2"].map(
                dict(zip(grid.sigma_w2, grid.sigma_b2, strict=True))
            )
        for place, (name, values) in enumerate(own.items()):
            rows.insert(place, name, values)
        return rows.reset_index(drop=True)

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


def _dataset(grid: Grid) -> Any:
    """Return the grid's data; the last that was loaded stays, since neighbours often share it."""
    from mflib.experiment import data

    wanted = (
        *(grid.dataset, grid.input_range or data.input_range(grid.activation), grid.dtype),
        sorted(grid.dataset_options.items()),
    )
    if not _loaded or _loaded[0][0] != wanted:
        _loaded[:] = [(wanted, grid.load())]
    return _loaded[0][1]


# --- any other function made of shards --------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a computation's function: the arguments that are its own."""

    name: str
    part: str
    stage: int
    arguments: Mapping[str, Any]


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
        found = [Group(one.name, one.part, one.stage, one.arguments) for one in self.calls]
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
