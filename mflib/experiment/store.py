"""Shards of long computations on disk: atomic, resumable, checked, keyed by content."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
import pandas as pd
import pyarrow as pa

from mflib import paths
from mflib.files import remove_leftovers, write_atomically

_GIVEN_UP = 30 * 24 * 3600.0  # seconds; what nobody has asked for in a month is of other code

Arrays: TypeAlias = dict[str, np.ndarray]
Table: TypeAlias = pd.DataFrame | Arrays


class NotKept(RuntimeError):
    """A shard cannot be written; the message names the folder and says what to do."""


class ShardDamaged(RuntimeError):
    """A shard does not have the checksum of its record; the message names the file."""


def canonical(key: Mapping[str, Any]) -> str:
    """Return a key as JSON that is equal for equal keys: sorted names, shortest exact floats.

    Raises ValueError for a value that JSON cannot hold exactly, such as NaN or an array.

    >>> canonical({"b": (1, 2), "a": 0.1})
    '{"a": 0.1, "b": [1, 2]}'
    """
    try:
        return json.dumps(dict(key), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"a shard's key must hold plain finite numbers, text and lists: {error}"
        ) from None


class Store:
    """A folder of shards, each a table that is a pure function of its key.

    A shard is two files named by the SHA-256 of its key: the table, ``<key>.<checksum>.parquet``
    (``.npz`` for arrays), and a JSON record with the key, the table's checksum, when it was
    computed, by which versions, and in how many seconds. The table comes first, each file whole
    or not at all, so at every moment a shard is there or it is not. Processes that compute the
    same shard at the same time write files that are each complete; the last record wins.

    A shard that is still being computed may have one file more, ``<key>.partial``: how far it is.
    It goes when the shard is written; those of shards that nobody asked for again go after a month.

    ``root`` is ``shards`` in the user's cache unless given.
    """

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        self.root = Path(root) if root is not None else paths.cache() / "shards"

    @staticmethod
    def name(key: Mapping[str, Any]) -> str:
        """Return the name of the shard with this key: 32 hexadecimal digits."""
        return hashlib.sha256(canonical(key).encode()).hexdigest()[:32]

    def record_path(self, key: Mapping[str, Any]) -> Path:
        """Return where the record of this key lies, whether it exists or not."""
        name = self.name(key)
        return self.root / name[:2] / f"{name}.json"

    def has(self, key: Mapping[str, Any]) -> bool:
        """Tell whether a shard is recorded, without reading its table."""
        return self.record_path(key).is_file()

    def record(self, key: Mapping[str, Any]) -> dict[str, Any]:
        """Return the record of a shard. Raises KeyError if there is none, ShardDamaged if torn."""
        path = self.record_path(key)
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            raise KeyError(f"no shard {path.stem} in {self.root}") from None
        try:
            record = json.loads(raw)
            stated = record.pop("record_sha256")
            if stated != _sha256(canonical(record).encode()):
                raise ValueError("checksum")
        except (ValueError, KeyError, AttributeError, TypeError):
            raise ShardDamaged(f"record {path} is damaged") from None
        if canonical(record["key"]) != canonical(key):
            raise ShardDamaged(f"record {path} holds another key")
        return record

    def read(self, key: Mapping[str, Any]) -> Table:
        """Return a shard's table. Raises KeyError if there is none, ShardDamaged if it is wrong."""
        record = self.record(key)
        path = self.record_path(key).with_name(record["table"])
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise ShardDamaged(f"shard {path} is gone, though its record is there") from None
        if _sha256(content) != record["sha256"]:
            raise ShardDamaged(f"shard {path} does not have its recorded checksum")
        try:
            return decode(content, record["kind"])
        except Exception:  # objects, which could run code of their own, or no table at all
            raise ShardDamaged(f"shard {path} is no plain table") from None

    def get(self, key: Mapping[str, Any]) -> Table | None:
        """Return a shard's table, or None where it must be computed; name a damaged one first."""
        try:
            return self.read(key)
        except KeyError:
            return None
        except ShardDamaged as damage:
            warnings.warn(f"{damage}: computing it again", RuntimeWarning, stacklevel=3)
            return None

    def write(self, key: Mapping[str, Any], table: Table, *, seconds: float | None = None) -> Table:
        """Write a shard and return its table as a later read will. Raises NotKept if it cannot."""
        kind, content = encode(table)
        record_path = self.record_path(key)
        digest = _sha256(content)
        table_path = record_path.with_name(f"{record_path.stem}.{digest[:16]}.{kind}")
        record = {
            "key": json.loads(canonical(key)),
            "kind": kind,
            "table": table_path.name,
            "sha256": digest,
            "computed": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": seconds,
            "versions": _versions(),
        }
        record["record_sha256"] = _sha256(canonical(record).encode())
        with self._writing():
            record_path.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(record_path.parent)
            self._remove_old_partials(record_path.parent)
            write_atomically(table_path, content)
            write_atomically(record_path, (json.dumps(record, indent=1) + "\n").encode())
            self.partial_path(key).unlink(missing_ok=True)
        return decode(content, kind)

    def partial_path(self, key: Mapping[str, Any]) -> Path:
        """Return where the file lies that says how far a shard is, whether it exists or not."""
        return self.record_path(key).with_suffix(".partial")

    def write_partial(self, key: Mapping[str, Any], arrays: Arrays) -> None:
        """Keep how far a shard is, instead of what was kept before. Raises NotKept if it cannot.

        ``arrays``: numbers and text by names of one's own, "key" excepted.
        """
        path = self.partial_path(key)
        with self._writing():
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(path.parent)
            write_atomically(
                path,
                lambda file: np.savez(
                    file, allow_pickle=False, key=np.array(canonical(key)), **arrays
                ),
            )

    def get_partial(self, key: Mapping[str, Any]) -> Arrays | None:
        """Return how far a shard is, or None where it must begin; name a damaged file first."""
        path = self.partial_path(key)
        try:
            with np.load(path, allow_pickle=False) as arrays:
                found = {name: arrays[name] for name in arrays.files}
            if str(found.pop("key")) != canonical(key):
                raise ValueError("another shard's")
        except FileNotFoundError:
            return None
        except Exception as error:  # numpy and zipfile have many for a file that is damaged
            warnings.warn(
                f"{path} is damaged ({error}): beginning the shard anew",
                RuntimeWarning,
                stacklevel=3,
            )
            return None
        return found

    def _remove_old_partials(self, folder: Path) -> None:
        for path in folder.glob("*.partial"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _GIVEN_UP:
                    path.unlink()

    def check(self) -> None:
        """Raise NotKept if no shard can be written, which is better known before the work."""
        with self._writing():
            self.root.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.root).close()  # without a name, so none stays behind

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise NotKept(
                f"no shard can be written in {self.root} ({error.strerror}): make room there or "
                "set MFLIB_CACHE to another folder; shards that are kept stay, and the same "
                "command goes on from there"
            ) from None

    @overload
    def fetch(
        self, key: Mapping[str, Any], compute: Callable[[], pd.DataFrame]
    ) -> pd.DataFrame: ...
    @overload
    def fetch(self, key: Mapping[str, Any], compute: Callable[[], Arrays]) -> Arrays: ...
    def fetch(self, key: Mapping[str, Any], compute: Callable[[], Table]) -> Table:
        """Return the shard with this key, computing and keeping it if it is not there.

        ``compute`` returns a DataFrame or a dict of arrays. A damaged shard is named in a
        warning and computed again. Raises NotKept, before the work, where none can be written.
        """
        table = self.get(key)
        if table is not None:
            return table
        self.check()
        started = time.perf_counter()
        table = compute()
        return self.write(key, table, seconds=round(time.perf_counter() - started, 3))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def encode(table: Table) -> tuple[str, bytes]:
    """Return a table's kind and its bytes."""
    buffer = io.BytesIO()
    if isinstance(table, pd.DataFrame):
        table.reset_index(drop=True).to_parquet(buffer, index=False)
        return "parquet", buffer.getvalue()
    np.savez_compressed(buffer, allow_pickle=False, **table)
    return "npz", buffer.getvalue()


def decode(content: bytes, kind: str) -> Table:
    """Return the table of these bytes; raises what a reader of such files does."""
    if kind == "parquet":
        import pyarrow.parquet as pq  # slow to import, and many who import this read no table

        # Not pandas.read_parquet: its threads may still hold a Python object after it returns, and
        # a process that ends just then is aborted, with all its work done (apache/arrow#33975).
        file = pq.ParquetFile(pa.BufferReader(content), pre_buffer=False)
        return file.read(use_threads=False, use_pandas_metadata=True).to_pandas(use_threads=False)
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _versions() -> dict[str, str]:
    versions = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "pandas": pd.__version__,
        "machine": platform.machine(),
    }
    torch = sys.modules.get("torch")  # a table that needed no torch need not wait for it
    if torch is not None:
        versions["torch"] = str(torch.__version__)
        versions["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return versions
