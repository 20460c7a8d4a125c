"""Tables computed shard by shard: kept in a store, shown on a bar, stopped and resumed."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import pandas as pd
from tqdm import tqdm

from mflib.experiment.store import Store

Name = TypeVar("Name", bound=Hashable)


def gather(
    keys: Mapping[Name, Mapping[str, Any]],
    compute: Callable[[Name], pd.DataFrame],
    *,
    store: Store | None,
    progress: bool,
    title: str,
) -> list[pd.DataFrame]:
    """Return the table of every shard, in the order of ``keys``.

    Shards that ``store`` holds are read, the others computed one after another and kept. An
    interrupt says how many are kept; the same call then goes on from there.
    """
    tables: list[pd.DataFrame] = []
    # disable=None: no bar where the error stream is not a terminal, such as an executed notebook.
    with tqdm(keys.items(), desc=title, unit="shard", disable=None if progress else True) as bar:
        try:
            for name, key in bar:
                table = store.get(key) if store is not None else None
                if table is None:
                    started = time.perf_counter()
                    table = compute(name)
                    if store is not None:
                        seconds = round(time.perf_counter() - started, 3)
                        table = store.write(key, table, seconds=seconds)
                assert isinstance(table, pd.DataFrame)
                tables.append(table)
        except KeyboardInterrupt:
            kept = "all kept" if store is not None else "none kept, for want of a store"
            raise KeyboardInterrupt(
                f"stopped after {len(tables)} of {len(keys)} shards, {kept}"
            ) from None
    return tables
