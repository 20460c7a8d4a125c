"""Shards of long computations and the tables made of them: computed, put together, how far."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mflib import paths
from mflib.results.kinds import Computation, Group
from mflib.results.registry import REGISTRY, TABLES, computation, named_group

if TYPE_CHECKING:
    import pandas as pd

    from mflib.experiment.store import Store

DEVICES = ("cuda", "cpu")  # kinds of device a shard may come from, the preferred first


def table_file(name: str, *, rehearse: bool = False) -> Path:
    """Return where a computation's table lies; a rehearsal's never replaces a recorded one."""
    from mflib import recorded

    folder = paths.build() / "rehearsal" if rehearse else paths.results()
    return folder / name / recorded.TABLE


def opened(store: Store | None) -> Store:
    from mflib.experiment.store import Store

    return Store() if store is None else store


def kind_of(device: str) -> str:
    from mflib.experiment._devices import resolve_device

    return resolve_device(device).type


def kinds_of(device: str) -> tuple[str, ...]:
    """Return the kinds of device whose shards are taken, the preferred first."""
    return DEVICES if device == "auto" else (kind_of(device),)


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

    known, kept = computation(name, rehearse=rehearse), opened(store)
    one, kind = named_group(known, group), kind_of(device)
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


def complete_on(
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

    The table is ``results/<id>/table.parquet``, with its record beside it; None where no part is
    complete. Where all of a part's shards are there from a GPU and from a CPU, the GPU's count.
    Parts that are recorded already stay, if code and settings are the same: their shards may be
    on another machine.
    """
    import io

    import pandas as pd

    from mflib import recorded

    known, kept = computation(name, rehearse=rehearse), opened(store)
    file = table_file(name, rehearse=rehearse)
    before = _recorded_parts(known, file)
    tables = {}
    if before:
        whole = pd.read_parquet(io.BytesIO(recorded.read(file)))
        tables = {part: whole[whole["part"] == part].reset_index(drop=True) for part in before}
    origins, missing = dict(before), []
    for part, members in _parts(known).items():
        found = _from_shards(known, members, kept, kinds_of(device))
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
    if record["code"] != _versions(known):
        return {}
    then, now = record["settings"], _as_json(known.settings())
    blocks = {part: known.block_of(part) for part in _parts(known)}
    return {
        part: origin
        for part, origin in record["parts"].items()
        if part in blocks and then.get(blocks[part]) == now[blocks[part]]
    }


def unrecorded(known: Computation, *, rehearse: bool) -> list[str]:
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

    kind = complete_on(known, members, store, kinds)
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
        "seeds": sorted({key["seed"] for key in keys if "seed" in key}),
        # what says nothing of it is in float64
        "precision": _all_of(
            f"{key.get('dtype', 'float64')}, {key.get('matrix_precision', 'ieee')}" for key in keys
        ),
        "data": {
            key["dataset"]: {what: key[f"data_{what}"] for what in ("checksum", "fingerprint")}
            for key in keys
            if "dataset" in key
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
    kept, found = opened(store), []
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
    counts = {kind: [0, 0] for kind in DEVICES}
    for group in known.groups():  # its data are asked for once for all kinds
        for kind, count in counts.items():
            keys = known.keys(group, kind)
            count[0] += sum(group.part in there or store.has(key) for key in keys)
            count[1] += len(keys)
    done, of = max(counts.values(), key=lambda count: count[0] / count[1])
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
