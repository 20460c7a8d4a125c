"""What keeping shards safe costs: keys, hashes, writing and checking as a share of a quick grid.

    python benchmarks/safety.py [--repeats 3] [--activations tanh relu] [--threads 1]

The grids are those that the chapter on fully connected networks trains at the quick profile. Each
is trained with an empty store and without one; the two take turns. ``share`` is the time spent
inside the store (hashing keys and tables, writing files to disk, reading and checking them) and in
making the keys, which hashes the data and the code, measured as it is spent, over the time of the
whole grid, and must stay under 0.02. The ratio of the two whole
times says the same with the noise of the machine in it. ``again`` is the time of the same grid when
all of its shards are there: every one is read and its checksum computed.
One JSON line per measurement.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from mflib import notebooks
from mflib.experiment import training
from mflib.experiment.store import Store, Table

CHAPTER = "fc-theory"


class Clock:
    """Adds up, over all threads, the time spent in the blocks that it is put around."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._lock = threading.Lock()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self.seconds += time.perf_counter() - began


class TimedStore(Store):
    """A store that measures what it costs."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.clock = Clock()

    def get(self, key: Mapping[str, Any]) -> Table | None:
        with self.clock():
            return super().get(key)

    def write(self, key: Mapping[str, Any], table: Table, *, seconds: float | None = None) -> Table:
        with self.clock():
            return super().write(key, table, seconds=seconds)


def grid(activation: str) -> training.Grid:
    """Return the grid of one activation at the chapter's quick settings."""
    quick = notebooks.plan(CHAPTER, "quick").values
    return training.Grid(
        activation=activation,
        sigma_b2=0.0 if activation == "relu" else quick["sigma_b2"],
        sigma_w2=tuple(map(float, np.linspace(1.0, 4.0, quick["n_sigma_w2"]))),
        depths=tuple(quick["depths"]),
        seeds=tuple(range(quick["n_seeds"])),
        width=quick["width"],
        dataset=quick["dataset"],
        learning_rate=quick["learning_rate"],
        momentum=quick["relu_momentum"] if activation == "relu" else quick["momentum"],
        batch_size=quick["batch_size"],
        steps=quick["steps"],
    )


def seconds(wanted: training.Grid, store: Store | None) -> float:
    """Train a grid; return how long it took."""
    began = time.perf_counter()
    training.trainability(wanted, store=store, device="cpu", progress=False)
    return time.perf_counter() - began


@contextmanager
def keys_timed(clock: Clock) -> Iterator[None]:
    """Add to ``clock`` the time in which the keys of shards are made."""
    make = training.shards

    def timed(*arguments: Any, **options: Any) -> Sequence[training.Shard]:
        with clock():
            return list(make(*arguments, **options))

    with mock.patch.object(training, "shards", timed):
        yield


def measure(activation: str, repeats: int) -> dict[str, Any]:
    """Train one grid with and without a store, in turns."""
    wanted = grid(activation)
    with_store, without, safe, again = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(repeats):
            store = TimedStore(Path(folder) / str(number))
            with keys_timed(store.clock):
                with_store.append(seconds(wanted, store))
            safe.append(store.clock.seconds)
            without.append(seconds(wanted, None))
            again.append(seconds(wanted, store))
        files = [file for file in Path(folder, "0").rglob("*") if file.is_file()]
        size = sum(file.stat().st_size for file in files)
    # The threads' times in the store add up, so they are held against the time of all threads.
    shares = [
        own / (torch.get_num_threads() * whole) for own, whole in zip(safe, with_store, strict=True)
    ]
    return {
        "benchmark": "safety",
        "grid": f"{CHAPTER}, quick, {activation}",
        "threads": torch.get_num_threads(),
        "networks": wanted.n_networks,
        "shards": len(files) // 2,
        "kib_on_disk": round(size / 1024, 1),
        "repeats": repeats,
        "grid_s": round(statistics.median(with_store), 2),
        "store_s": round(statistics.median(safe), 4),
        "share": round(statistics.median(shares), 5),
        "share_lowest": round(min(shares), 5),
        "share_highest": round(max(shares), 5),
        "without_store_s": round(statistics.median(without), 2),
        "ratio": round(
            statistics.median(a / b for a, b in zip(with_store, without, strict=True)), 3
        ),
        "again_s": round(statistics.median(again), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--activations", nargs="+", default=["tanh", "relu"])
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for activation in options.activations:
        print(json.dumps(measure(activation, options.repeats)), flush=True)


if __name__ == "__main__":
    main()
