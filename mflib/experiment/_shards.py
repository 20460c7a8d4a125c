"""Tables computed shard by shard: side by side on the CPU, kept in a store, stopped and resumed."""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import pandas as pd
import threadpoolctl
import torch
from tqdm import tqdm

from mflib.experiment.store import Store

Item = TypeVar("Item")
Result = TypeVar("Result")
Name = TypeVar("Name", bound=Hashable)
Advance = Callable[[float], None]

CPU = torch.device("cpu")
EARLIER = "seconds of earlier runs"  # an attribute of a table that was begun before this run


class Stopped(Exception):
    """The run is stopping before this shard is done."""


class Bar(tqdm):
    """A progress bar that threads may move at the same time."""

    def __init__(self, total: float, *, title: str, unit: str, progress: bool) -> None:
        # disable=None: no bar where the error stream is no terminal, such as an executed notebook.
        off = None if progress else True
        super().__init__(total=total, desc=title, unit=unit, unit_scale=True, disable=off)

    def update(self, n: float = 1) -> bool | None:
        with self.get_lock():
            return super().update(n)


def side_by_side(
    compute: Callable[[Item, Callable[[], bool]], Result],
    items: Sequence[Item],
    *,
    device: torch.device = CPU,
) -> list[Result]:
    """Return ``compute(item, stopping)`` of every item, in the order of ``items``.

    On the CPU as many run at once as torch has threads, begun in their order, each on one thread.
    That needs no barrier inside an operation, so it holds its speed on a busy machine, and makes
    the results independent of the number of cores. On CUDA they run one after another.

    The first exception of an item, or an interrupt of the caller, stops the rest: no further item
    begins, ``stopping()`` is true from then on, at which those that run may raise ``Stopped``, and
    once all have ended it is raised as it is.
    """
    begin, stop = threading.Event(), threading.Event()
    failures: list[BaseException] = []

    def one(item: Item) -> Result:
        begin.wait()
        if stop.is_set():
            raise Stopped
        try:
            return compute(item, stop.is_set)
        except BaseException as failure:
            failures.append(failure)
            stop.set()  # here, before this thread can begin another item
            raise

    if device.type == "cuda":
        begin.set()
        return [one(item) for item in items]
    with _one_thread_each() as threads:
        pool = concurrent.futures.ThreadPoolExecutor(
            threads, thread_name_prefix="shard", initializer=torch.set_num_threads, initargs=(1,)
        )
        try:
            # all before any begins: the pool does not wait for a thread that it was interrupted in
            # starting, so such a one must find the run stopped
            futures = [pool.submit(one, item) for item in items]
            begin.set()
            for future in futures:
                # in short waits: an interrupt that arrives just as one begins does not end it
                while not stop.is_set() and concurrent.futures.wait([future], timeout=0.1).not_done:
                    pass
        finally:
            stop.set()
            begin.set()
            pool.shutdown(cancel_futures=True)
    if failures:
        raise failures[0]
    return [future.result() for future in futures]


@contextlib.contextmanager
def _one_thread_each() -> Iterator[int]:
    """Keep operations to one thread each; yield how many threads torch had, and restore them."""
    threads = torch.get_num_threads()
    try:
        with threadpoolctl.threadpool_limits(1, user_api="blas"):
            yield threads
    finally:
        torch.set_num_threads(threads)  # the workers' setting is what a new thread would inherit


def gather(
    keys: Mapping[Name, Mapping[str, Any]],
    compute: Callable[[Name, Advance], pd.DataFrame],
    *,
    store: Store | None,
    progress: bool,
    title: str,
    device: torch.device = CPU,
    unit: str = "shard",
    size: Callable[[Name], float] = lambda _: 1.0,
) -> list[pd.DataFrame]:
    """Return the table of every shard, in the order of ``keys``.

    Shards that ``store`` holds are read, the others computed ``side_by_side`` and kept.
    ``compute(name, advance)`` may call ``advance(share)`` after each share of its work: the bar
    then moves by that part of the shard's ``size`` in units, and a run that is to stop does. An
    interrupt says how many shards are kept; the same call then goes on from there. Raises NotKept,
    before any work, where none can be written.
    """
    tables: dict[Name, pd.DataFrame] = {}

    def shard(name: Name, stopping: Callable[[], bool]) -> None:
        left = 1.0

        def advance(share: float) -> None:
            nonlocal left
            if stopping():
                raise Stopped
            left -= share
            bar.update(share * size(name))

        started = time.perf_counter()
        table = compute(name, advance)
        earlier = table.attrs.pop(EARLIER, 0.0)
        if store is not None:
            seconds = round(earlier + time.perf_counter() - started, 3)
            table = store.write(keys[name], table, seconds=seconds)
        tables[name] = table
        bar.update(left * size(name))

    with Bar(sum(map(size, keys)), title=title, unit=unit, progress=progress) as bar:
        try:
            for name, key in keys.items():
                table = store.get(key) if store is not None else None
                if table is not None:
                    tables[name] = table
                    bar.update(size(name))
            missing = [name for name in keys if name not in tables]
            if missing and store is not None:
                store.check()
            side_by_side(shard, missing, device=device)
        except KeyboardInterrupt:
            kept = "all kept" if store is not None else "none kept, for want of a store"
            raise KeyboardInterrupt(
                f"stopped after {len(tables)} of {len(keys)} shards, {kept}"
            ) from None
    return [tables[name] for name in keys]
