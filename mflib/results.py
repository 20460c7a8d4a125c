"""The papers' long computations at full scale: what they are, how far they are, and their tables.

A computation is named by its row in the register of results, such as ``mft-fig2``. It is made of
shards, which the store keeps, in groups that a GPU computes in a few minutes each, the most telling
first. Snakemake runs the groups that are missing; whatever is complete is put together into a
table in results/, with a record of where it came from. ``rehearse`` does all of it with tiny sizes.

Nothing heavy is imported before it is needed: the command line attaches this module's own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from mflib import paths
from mflib.files import write_json

if TYPE_CHECKING:
    import pandas as pd

    from mflib.experiment.store import Store
    from mflib.experiment.training import Grid

DEVICES = ("cuda", "cpu")  # kinds of device a shard may come from, the preferred first
SNAKEFILE = Path(__file__).with_name("results.smk")

# --- computations -----------------------------------------------------------------------


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


@dataclasses.dataclass(frozen=True)
class Block:
    """One picture: networks over (σ_w², depth), at one or more seeds.

    ``grid``: the keyword arguments of ``training.Grid``, seeds included; ``at``: the numbers of
    steps after which the networks are scored.
    """

    name: str
    grid: Mapping[str, Any]
    at: tuple[int, ...]

    def make(self, **changes: Any) -> Grid:
        """Return the grid."""
        from mflib.experiment.training import Grid

        return Grid(**{**self.grid, **changes, "steps": self.at[-1]})


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
            work = len(grid["sigma_w2"]) * sum(grid["depths"]) * block.at[-1]
            n = math.ceil(work / self.piece)
            for stage, seed in enumerate(grid["seeds"]):
                part = f"{block.name}-seed{seed}"
                for k in range(n):
                    what = (block, seed, tuple(grid["depths"][k::n]))
                    found.append((k, Group(f"{part}-{k + 1}of{n}", part, stage, what)))
        return tuple(group for _, group in sorted(found, key=lambda each: (each[1].stage, each[0])))

    def keys(self, group: Group, device: str) -> list[dict[str, Any]]:
        """See ``Computation``."""
        import torch

        from mflib.experiment import training

        block, seed, depths = group.what
        if (block.name, device) not in self._known:  # one load of the data for all groups
            grid = block.make()
            found = training.shards(grid, _dataset(grid), device=torch.device(device), at=block.at)
            self._known[block.name, device] = list(found)
        known = self._known[block.name, device]
        return [one.key for one in known if one.seed == seed and one.depth in depths]

    def compute(self, group: Group, store: Store, device: str, progress: bool) -> None:
        """See ``Computation``."""
        from mflib.experiment import training

        block, seed, depths = group.what
        grid = block.make(seeds=(seed,), depths=depths)
        training.learning_curves(grid, at=block.at, store=store, device=device, progress=progress)

    def table(self, group: Group, shards: list[pd.DataFrame]) -> pd.DataFrame:
        """See ``Computation``: the columns of ``training.learning_curves`` with the block's."""
        import pandas as pd

        grid = group.what[0].make()
        rows = pd.concat(shards, ignore_index=True)
        rows = rows.sort_values(["depth", "sigma_w2", "learning_rate", "seed", "step"])
        for place, name in enumerate(("activation", "dataset", "sigma_b2")):
            rows.insert(place, name, getattr(grid, name))
        return rows.reset_index(drop=True)

    def settings(self) -> dict[str, Any]:
        """See ``Computation``."""
        return {
            block.name: {**dataclasses.asdict(block.make()), "scored_at": block.at}
            for block in self.blocks
        }


_loaded: list[tuple[Any, Any]] = []


def _dataset(grid: Grid) -> Any:
    """Return the grid's data; the last that was loaded stays, since neighbours often share it."""
    from mflib.experiment import data

    wanted = (grid.dataset, grid.input_range or data.input_range(grid.activation), grid.dtype)
    if not _loaded or _loaded[0][0] != wanted:
        _loaded[:] = [(wanted, grid.load())]
    return _loaded[0][1]


# --- the registry -----------------------------------------------------------------------

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


def _group(known: Computation, group: str | int) -> Group:
    found = known.groups()
    if isinstance(group, int):
        if not 0 <= group < len(found):
            raise ValueError(f"group {group} of {known.id} must be in [0, {len(found)})")
        return found[group]
    for each in found:
        if each.name == group:
            return each
    raise ValueError(f"{known.id} has no group {group!r}: the first is {found[0].name!r}")


# --- shards and tables ------------------------------------------------------------------


def table_file(name: str, *, rehearse: bool = False) -> Path:
    """Return where a computation's table lies; a rehearsal's never replaces a recorded one."""
    folder = paths.build() / "rehearsal" if rehearse else paths.results()
    return folder / name / "networks.parquet"


def _store(store: Store | None) -> Store:
    from mflib.experiment.store import Store

    return Store() if store is None else store


def _kind(device: str) -> str:
    from mflib.experiment import training

    return training.resolve_device(device).type


def _kinds(device: str) -> tuple[str, ...]:
    """Return the kinds of device whose shards are taken, the preferred first."""
    return DEVICES if device == "auto" else (_kind(device),)


def _versions(known: Computation) -> dict[str, str]:
    from mflib import sources

    return {module: sources.code_version(module) for module in known.modules}


def compute_group(
    name: str,
    group: str | int,
    *,
    store: Store | None = None,
    device: str = "auto",
    rehearse: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Put a group's shards into the store, those skipped that it holds; return a note of them.

    ``group``: its name, or its place in ``groups(name)``. The note says which shards these are, of
    which code, and where and in how many seconds the group was computed.

    Raises ValueError for a group or device that is none, DataUnavailable.
    """
    import platform

    from mflib.report import provenance

    known, kept = computation(name, rehearse=rehearse), _store(store)
    one, kind = _group(known, group), _kind(device)
    started = time.perf_counter()
    known.compute(one, kept, kind, progress)
    return {
        "computation": known.id,
        "group": one.name,
        "code": _versions(known),
        "shards": [kept.name(key) for key in known.keys(one, kind)],
        "seconds": round(time.perf_counter() - started, 1),
        "device": provenance.device_name(kind),
        "host": platform.node(),
    }


def _complete_on(
    known: Computation, wanted: Iterable[Group], store: Store, kinds: Sequence[str]
) -> str | None:
    """Return the kind of device whose shards of all these groups are in the store, if there is."""
    wanted = list(wanted)
    for kind in kinds:
        if all(store.has(key) for group in wanted for key in known.keys(group, kind)):
            return kind
    return None


def collect(
    name: str, *, store: Store | None = None, rehearse: bool = False, device: str = "auto"
) -> Path | None:
    """Put all complete parts of a computation into its table; return the table's file.

    The table is ``results/<id>/networks.parquet``, with its record beside it; None where no part is
    complete. Where all of a part's shards are there from a GPU and from a CPU, the GPU's count.
    Parts that are recorded already stay, if code and settings are the same: their shards may be
    on another machine.
    """
    import io

    import pandas as pd

    from mflib import recorded

    known, kept = computation(name, rehearse=rehearse), _store(store)
    file = table_file(name, rehearse=rehearse)
    before = _recorded_parts(known, file)
    tables = {}
    if before:
        whole = pd.read_parquet(io.BytesIO(recorded.read(file)))
        tables = {part: whole[whole["part"] == part].reset_index(drop=True) for part in before}
    origins, missing = dict(before), []
    for part, members in _parts(known).items():
        found = _from_shards(known, members, kept, _kinds(device))
        if found is not None:
            table = found[0].assign(part=part)
            if part not in tables or not table.equals(tables[part]):
                tables[part], origins[part] = table, found[1]
        elif part not in tables:
            missing.append(part)
    order = [part for part in _parts(known) if part in tables]
    if not tables or origins == before:
        return file if before else None
    buffer = io.BytesIO()
    pd.concat([tables[part] for part in order], ignore_index=True).to_parquet(buffer, index=False)
    recorded.write(
        file,
        buffer.getvalue(),
        title=known.title,
        command=f"mflib results run {name}{' --rehearse' if rehearse else ''}",
        code=_versions(known),
        seconds=sum(origin["seconds"] for origin in origins.values()),
        computed=max(origin["computed"] for origin in origins.values()),
        device=_all_of(origin["device"] for origin in origins.values()),
        versions={
            package: _all_of(origin["versions"].get(package, "") for origin in origins.values())
            for package in sorted({each for o in origins.values() for each in o["versions"]})
        },
        parts={part: origins[part] for part in order},
        missing=missing,
        settings=_as_json(known.settings()),
    )
    return file


def _parts(known: Computation) -> dict[str, list[Group]]:
    """Return the groups of each part."""
    parts: dict[str, list[Group]] = {}
    for group in known.groups():
        parts.setdefault(group.part, []).append(group)
    return parts


def _recorded_parts(known: Computation, file: Path) -> dict[str, Any]:
    """Return where each recorded part came from; none where code or settings are others now."""
    from mflib import recorded

    if not file.is_file():
        return {}
    try:
        recorded.read(file)
        record = recorded.record(file)
    except recorded.Damaged:
        return {}
    now = (_versions(known), _as_json(known.settings()))
    return dict(record["parts"]) if (record["code"], record["settings"]) == now else {}


def _unrecorded(known: Computation, *, rehearse: bool) -> list[str]:
    """Return the parts that are not recorded, or not by the code and settings as they are."""
    there = _recorded_parts(known, table_file(known.id, rehearse=rehearse))
    return [part for part in _parts(known) if part not in there]


def _as_json(settings: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(settings))  # where a tuple is a list


def _from_shards(
    known: Computation, members: Sequence[Group], store: Store, kinds: Sequence[str]
) -> tuple[pd.DataFrame, dict[str, Any]] | None:
    """Return a part's table and where it came from, or None unless all its shards are sound."""
    import pandas as pd

    kind = _complete_on(known, members, store, kinds)
    if kind is None:
        return None
    keys = [key for group in members for key in known.keys(group, kind)]
    shards = [table for key in keys if isinstance(table := store.get(key), pd.DataFrame)]
    if len(shards) < len(keys):  # a damaged one, as a warning has said
        return None
    records = [store.record(key) for key in keys]
    packages = sorted({name for record in records for name in record["versions"]} - {"gpu"})
    origin = {
        "device": _all_of(record["versions"].get("gpu") or "CPU" for record in records),
        "computed": max(record["computed"] for record in records),
        "seconds": round(sum(record["seconds"] or 0.0 for record in records), 3),
        "shards": len(keys),
        "seeds": sorted({key["seed"] for key in keys}),
        "precision": _all_of(f"{key['dtype']}, {key['matrix_precision']}" for key in keys),
        "data": {
            key["dataset"]: {what: key[f"data_{what}"] for what in ("checksum", "fingerprint")}
            for key in keys
        },
        "versions": {
            name: _all_of(record["versions"].get(name, "") for record in records)
            for name in packages
        },
    }
    return known.table(members[0], shards), origin


def _all_of(words: Iterable[str]) -> str:
    return "; ".join(sorted(set(words)))


# --- how far they are -------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Status:
    """One line of ``mflib results status``; what is not known is empty.

    ``shards``: how many of all are done, by the code as it is now: recorded, or in the store.
    """

    name: str
    shards: str
    state: str
    device: str = ""
    computed: str = ""
    commit: str = ""
    seconds: float | None = None


def status(*, store: Store | None = None, rehearse: bool = False) -> list[Status]:
    """Return how far each computation is, and the state of every other recorded table."""
    kept, found = _store(store), []
    for name in REGISTRY:
        known = computation(name, rehearse=rehearse)
        file = table_file(name, rehearse=rehearse)
        shards = _shards_done(known, _recorded_parts(known, file), kept)
        found.append(_status(name, file, known.modules, shards))
    if not rehearse:
        names = {file.with_suffix(".csv").name for file in paths.results().glob("*.json")}
        for table in sorted(names | set(TABLES)):
            file = paths.results() / table
            found.append(_status(Path(table).stem, file, TABLES.get(table, ()), ""))
    return found


def _shards_done(known: Computation, there: Mapping[str, Any], store: Store) -> str:
    """Return "done of all", where ``there`` are the parts recorded; downloads nothing.

    It counts for the kind of device that most are done on.
    """
    from mflib import check
    from mflib.experiment import data

    if set(there) == set(_parts(known)):
        recorded = sum(part["shards"] for part in there.values())
        return f"{recorded} of {recorded}"
    absent = [name for name in known.data_sets if name in check.DATA_SETS and not data.found(name)]
    if absent:
        return f"unknown: no {' and no '.join(absent)} here"
    counts = []
    for kind in DEVICES:
        keys = [(group.part, key) for group in known.groups() for key in known.keys(group, kind)]
        counts.append((sum(part in there or store.has(key) for part, key in keys), len(keys)))
    done, of = max(counts, key=lambda count: count[0] / count[1])
    return f"{done} of {of}"


def _status(name: str, file: Path, modules: Sequence[str], shards: str) -> Status:
    from mflib import recorded

    if not file.is_file() and not file.with_suffix(".json").is_file():
        return Status(name, shards, "not recorded")
    try:
        recorded.read(file)
        record = recorded.record(file)
    except recorded.Damaged as damage:
        return Status(name, shards, f"damaged: {damage}")
    state = "recorded"
    if missing := record.get("missing", []):
        done = len(record["parts"])
        state = f"{done} of {done + len(missing)} parts recorded"
    if changed := _changed(record["code"], modules):
        state = f"stale, {state}: {changed} changed"
    return Status(
        name=name,
        shards=shards,
        state=state,
        device=record["device"],
        computed=record["computed"][:10],
        commit=record["commit"],
        seconds=record["seconds"],
    )


def _changed(code: str | Mapping[str, str], modules: Sequence[str]) -> str:
    """Return the modules whose code is another now than that which computed a table.

    Those are the ones that its record names, and ``modules``; a record of one version alone means
    the first of these.
    """
    then = dict(zip(modules[:1], [code], strict=False)) if isinstance(code, str) else code
    known = dict.fromkeys([*modules, *then])
    return ", ".join(name for name in known if then.get(name) != _version(name))


def _version(module: str) -> str | None:
    """Return the version of a module's code, None where there is no such module any more."""
    from mflib import sources

    try:
        return sources.code_version(module)
    except ValueError:
        return None


# --- running them -----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Job:
    """A group that is to be computed."""

    computation: str
    group: Group

    @property
    def name(self) -> str:
        """The name of its mark, and of the job."""
        return f"{self.computation}-{self.group.name}"


def pending(
    names: Sequence[str] = (),
    *,
    rehearse: bool = False,
    device: str = "auto",
    store: Store | None = None,
) -> list[Job]:
    """Return the groups that are not done, in the order in which to compute them.

    A group is done if its part is recorded, or if the store holds all its shards: sound, and of the
    code as it is. ``names``: ids of computations, all of the registry if empty. Groups of a lower
    stage, such as a first seed, come first over all computations.

    Raises ValueError for an unknown id or device, DataUnavailable.
    """
    kept, kinds = _store(store), _kinds(device)
    known = [computation(name, rehearse=rehearse) for name in dict.fromkeys(names or REGISTRY)]
    jobs = []
    for each in known:
        wanted = _unrecorded(each, rehearse=rehearse)
        for group in each.groups():
            if group.part in wanted and not _done(each, group, kept, kinds):
                jobs.append(Job(each.id, group))
    return sorted(jobs, key=lambda job: job.group.stage)


def _done(known: Computation, group: Group, store: Store, kinds: Sequence[str]) -> bool:
    kind = _complete_on(known, [group], store, kinds)
    return kind is not None and all(store.get(key) is not None for key in known.keys(group, kind))


def job(arguments: list[str]) -> int:
    """Compute one group for Snakemake: ``MANIFEST NAME``; return the exit code.

    What the code itself cannot do is written into the job's mark, and is no failure to Snakemake,
    which tries a job again only where its process died.
    """
    from mflib import workflow
    from mflib.sweep import runs

    workflow.follow_parent()
    manifest, name = Path(arguments[0]), arguments[1]
    work = json.loads(manifest.read_text(encoding="utf-8"))
    one = work["jobs"][name]
    try:
        with runs.gpu_slot(work["device"]):
            note = compute_group(
                one["computation"], one["group"], device=work["device"], progress=False,
                rehearse=work["rehearse"],
            )  # fmt: skip
        said = f"{len(note['shards'])} shards in {note['seconds']:g} s on {note['device']}"
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        note = {**one, "failed": said}
    print(f"{one['computation']} {one['group']}: {said}", file=sys.stderr)
    mark = manifest.parent / "done" / name
    mark.parent.mkdir(exist_ok=True)
    write_json(mark, note)
    return 0


def run(
    names: Sequence[str] = (),
    *,
    rehearse: bool = False,
    device: str = "auto",
    jobs: int | None = None,
    executor: str = "local",
    more: Sequence[str] = (),
) -> int:
    """Compute the groups that are missing and record what is complete; return the exit code.

    0: all is recorded; 1: a group failed or did not finish, the others are kept; 130: interrupted.
    Raises ValueError or DataUnavailable before any work, workflow.Busy where another process is at
    the same.
    """
    from mflib import notebooks, workflow
    from mflib.sweep import launch, runs

    workflow.settle()
    needs = launch.needs("results", "rehearsal" if rehearse else "paper")
    options = launch.ready(executor, more)
    names = list(dict.fromkeys(names or REGISTRY))
    if not rehearse and any(_unrecorded(computation(name), rehearse=False) for name in names):
        _check_there_is_a_gpu(executor, device)
    pending(names, rehearse=rehearse, device=device)  # raises before anything is written
    folder = paths.build() / "results" / ("rehearsal" if rehearse else "full")
    with workflow.alone(folder / ".lock"):
        wanted = pending(names, rehearse=rehearse, device=device)
        if device == "cpu":
            needs["gpus"] = 0
        # A group on the CPU takes all cores, which its shards share.
        gpus = len(runs.visible_gpus()) if needs["gpus"] else 1
        usual = notebooks.available_cores() if rehearse else max(1, gpus)
        needs, many = launch.side_by_side(
            needs, len(wanted), jobs, usual, local=executor == "local"
        )
        code = 0
        if wanted:
            code = _snakemake(wanted, folder, needs, [*options, *many], more, device, rehearse)
        for name in names:
            file: Path | None = table_file(name, rehearse=rehearse)
            if _unrecorded(computation(name, rehearse=rehearse), rehearse=rehearse):
                file = collect(name, rehearse=rehearse, device=device)
            print(f"{name}: {file or 'no part of it is complete'}")
    return code


def _check_there_is_a_gpu(executor: str, device: str) -> None:
    """Raise ValueError where full-scale work would go to the CPU without being asked to."""
    if executor == "local" and device == "auto" and _kind(device) == "cpu":
        raise ValueError(
            "there is no GPU here, and on a CPU each group would take hours to days: give "
            "--executor slurm or kubernetes, --rehearse, or --device cpu to do it all the same"
        )


def _snakemake(
    wanted: Sequence[Job],
    folder: Path,
    needs: Mapping[str, Any],
    options: Sequence[str],
    more: Sequence[str],
    device: str,
    rehearse: bool,
) -> int:
    """Have Snakemake compute the groups, and say which failed; return the exit code."""
    from mflib import workflow
    from mflib.sweep import launch

    manifest, done = folder / "manifest.json", folder / "done"
    work = {job.name: {"computation": job.computation, "group": job.group.name} for job in wanted}
    write_json(manifest, {"device": device, "rehearse": rehearse, "needs": needs, "jobs": work})
    shutil.rmtree(done, ignore_errors=True)  # what is done is asked of the store alone
    code = 0
    try:
        launch.snakemake(SNAKEFILE, manifest, directory=folder, options=options, more=more)
    except workflow.Stopped as end:
        code = 130 if end.interrupted else 1
        print(str(end), end="\n" * bool(str(end)), file=sys.stderr)
    except KeyboardInterrupt:
        code = 130
    notes = {name: _note(done / name) for name in work}
    failed = {name: note["failed"] for name, note in notes.items() if note and "failed" in note}
    for name, why in failed.items():
        print(f"{name} failed: {why}", file=sys.stderr)
    if left := [name for name, note in notes.items() if not note]:
        print(
            f"{len(left)} of {len(work)} groups did not finish; the same command goes on with them",
            file=sys.stderr,
        )
    return code or int(bool(failed or left))


def _note(file: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


# --- the command line -------------------------------------------------------------------

app = typer.Typer(
    help="The papers' long computations at full scale: how far they are, and running them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@contextlib.contextmanager
def _bad_input_exits_2() -> Iterator[None]:
    from mflib.experiment.data import DataDamaged, DataUnavailable

    try:
        yield
    except (ValueError, DataDamaged, DataUnavailable) as error:
        print(f"mflib: {error}", file=sys.stderr)
        raise typer.Exit(2) from None


Rehearse = Annotated[bool, typer.Option("--rehearse", help="Tiny sizes, into _build/rehearsal.")]


@app.command("status")
def _print_status(rehearse: Rehearse = False) -> None:
    """List every recorded computation: how far, from where, and whether its code has changed."""
    from mflib import cli

    rows = [
        (
            one.name,
            one.shards,
            one.state,
            one.device,
            one.computed,
            one.commit,
            "" if one.seconds is None else f"{one.seconds:g} s",
        )
        for one in status(rehearse=rehearse)
    ]
    header = ("computation", "shards", "state", "device", "date", "commit", "time")
    cli._print_table(header, rows)


@app.command("run")
def _run_from_terminal(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Which; all if none is given.")
    ] = None,
    rehearse: Rehearse = False,
    device: Annotated[str, typer.Option(help="auto, cuda or cpu.")] = "auto",
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Groups side by side.")
    ] = None,
    executor: Annotated[str, typer.Option(help="local, slurm or kubernetes.")] = "local",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would run.")] = False,
    snakemake: Annotated[str, typer.Option(help="Further options of Snakemake.")] = "",
) -> None:
    """Compute what is missing, the most telling first, and record what is complete.

    Exit code 2: something was asked for that is unknown, or the data are not there; nothing was
    computed. Exit code 1: a group failed or did not finish; the same command goes on.
    """
    from mflib import workflow

    workflow.stop_on_terminate()
    with _bad_input_exits_2():
        if dry_run:
            missing = pending(names or (), rehearse=rehearse, device=device)
            for job in missing:
                print(f"{job.computation} {job.group.name}")
            print(f"Groups to compute: {len(missing)}", file=sys.stderr)
            return
        try:
            code = run(
                names or (), rehearse=rehearse, device=device, jobs=jobs, executor=executor,
                more=shlex.split(snakemake),
            )  # fmt: skip
        except workflow.Busy as busy:
            print(
                f"mflib: these computations are being run already (process {busy.holder}): wait "
                "until they have ended, or stop them",
                file=sys.stderr,
            )
            code = 1
    raise typer.Exit(code)


if __name__ == "__main__":
    sys.exit(job(sys.argv[1:]))
