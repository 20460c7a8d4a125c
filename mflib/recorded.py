"""Tables that are computed once and kept in results/, each with a record of where it came from.

What is read from there is checked against its record, and what does not agree is never used.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mflib import paths

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


TABLE = "table.parquet"  # of a long computation, in a folder named by its id


class Damaged(RuntimeError):
    """A recorded file or its record is not as it was written; the message says how to mend it."""


def write(
    output: Path,
    content: bytes,
    *,
    command: str,
    code: str | dict[str, str],
    seconds: float,
    beside: Mapping[str, bytes] | None = None,
    **more: Any,
) -> None:
    """Write a table and, beside it (.json), where it came from.

    The record holds the table's name and SHA-256, the date, ``seconds`` that it took, device,
    commit, versions, the ``command`` that makes it, the version of the ``code`` that computed it
    (``sources.code_version``), and ``more``, which takes the place of these where it names them.
    Files that belong to the table, by name, are ``beside``: the record holds their SHA-256 too.
    """
    from mflib.files import write_atomically
    from mflib.report import provenance

    found = {
        "table": output.name,
        "sha256": _sha256(content),
        "computed": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "device": provenance.device_name("cpu"),
        "commit": provenance.commit(),
        "code": code,
        "versions": provenance.versions(),
        "command": command,
    }
    if beside:
        found["beside"] = {name: _sha256(each) for name, each in beside.items()}
    found |= more
    found["record_sha256"] = _of_record(found)
    output.parent.mkdir(parents=True, exist_ok=True)
    for name, each in (beside or {}).items():
        write_atomically(output.with_name(name), each)
    write_atomically(output, content)
    write_atomically(output.with_suffix(".json"), _encoded(found))


def record(file: Path) -> dict[str, Any]:
    """Return the record of a table or of a file beside it that has the same stem.

    Raises Damaged if it is missing or not as it was written.
    """
    path = file.with_suffix(".json")
    try:
        raw = path.read_bytes()
        found = json.loads(raw)
        if found["record_sha256"] != _of_record(found) or raw != _encoded(found):
            raise ValueError("checksum")
    except FileNotFoundError:
        raise Damaged(f"{_place(file)} has no record {path.name}: {_remedy(file)}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Damaged(f"{_place(path)} is not as it was written: {_remedy(file)}") from None
    return dict(found)


def read(file: Path) -> bytes:
    """Return the content of a recorded file.

    Raises Damaged, with what mends it, if the file or its record is missing or not as it was
    written.
    """
    known = record(file)
    stated = {known["table"]: known["sha256"], **known.get("beside", {})}
    if file.name not in stated:
        raise Damaged(
            f"{_place(file)} is not in the record {file.with_suffix('.json').name}: "
            f"{_remedy(file, known)}"
        )
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise Damaged(f"{_place(file)} is missing: {_remedy(file, known)}") from None
    if _sha256(content) != stated[file.name]:
        raise Damaged(f"{_place(file)} does not have its recorded checksum: {_remedy(file, known)}")
    return content


def check(file: Path) -> None:
    """Check a record (.json) and all files that it is of. Raises Damaged as `read`."""
    known = record(file)
    for name in (known["table"], *known.get("beside", {})):
        read(file.with_name(name))


def table(name: str, **options: Any) -> pd.DataFrame:
    """Return a table of results/, by its file's name (.csv or .parquet).

    ``options`` go to pandas. Raises ValueError for another ending, Damaged as `read`.
    """
    import pandas as pd

    readers = {".csv": pd.read_csv, ".parquet": pd.read_parquet}
    suffix = Path(name).suffix
    if suffix not in readers:
        raise ValueError(f"table {name!r} must end in {' or '.join(readers)}")
    return readers[suffix](io.BytesIO(read(paths.results() / name)), **options)


def origin(name: str) -> dict[str, Any]:
    """Return the record of a table of results/, by its file's name, for `report.figure`.

    Raises Damaged as `read`.
    """
    return record(paths.results() / name)


def arrays(name: str) -> dict[str, np.ndarray]:
    """Return the arrays of a file of results/, by its name (.npz).

    Raises Damaged as `read`, and for a file of anything but plain arrays.
    """
    import numpy as np

    file = paths.results() / name
    content = read(file)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            return dict(stored)
    except Exception:  # objects, which could run code of their own, or no archive at all
        raise Damaged(
            f"{_place(file)} holds other things than plain arrays: {_remedy(file)}"
        ) from None


@dataclasses.dataclass(frozen=True)
class Recorded:
    """What is recorded of a long computation: its rows, and where they came from.

    ``table`` has a column ``part``; ``missing`` names the parts that are not in it.
    """

    table: pd.DataFrame
    record: dict[str, Any]

    @property
    def parts(self) -> list[str]:
        """The parts that are recorded."""
        return list(self.record["parts"])

    @property
    def seeds(self) -> list[int]:
        """The seeds of the parts that are recorded, rising."""
        return sorted({seed for part in self.record["parts"].values() for seed in part["seeds"]})

    @property
    def missing(self) -> list[str]:
        """The parts that are not recorded."""
        return list(self.record["missing"])

    def only(self, keep: Callable[[str], bool]) -> Recorded:
        """Return what is recorded of those parts whose names ``keep`` accepts.

        Raises ValueError where none of them is recorded.
        """
        parts = {name: part for name, part in self.record["parts"].items() if keep(name)}
        if not parts:
            raise ValueError(
                f"none of the parts asked for is recorded: {', '.join(self.parts)} are"
            )
        about = {
            "parts": parts,
            "missing": [name for name in self.missing if keep(name)],
            "device": "; ".join(sorted({part["device"] for part in parts.values()})),
            "computed": max(part["computed"] for part in parts.values()),
            "seconds": sum(part["seconds"] for part in parts.values()),
        }
        rows = self.table[self.table["part"].isin(list(parts))].reset_index(drop=True)
        return Recorded(rows, {**self.record, **about})

    def sentence(self) -> str:
        """Say where, how and when it was computed, and what of it is missing."""
        parts = self.record["parts"].values()
        precision = "; ".join(sorted({part["precision"] for part in parts}))
        n, missing = sum(part["shards"] for part in parts), self.missing
        said = (
            f"Recorded on {self.record['device']} ({precision}), {self.record['computed'][:10]}, "
            f"in {_time(self.record['seconds'])}, from {n} shards"
        )
        if self.seeds:
            many = "seeds" if len(self.seeds) > 1 else "seed"
            said += f"; {many} {', '.join(map(str, self.seeds))}"
        of = f" {len(parts)} of {len(parts) + len(missing)} parts so far." if missing else ""
        return f"{said}.{of}"


def computation(name: str) -> Recorded | None:
    """Return what is recorded of a long computation, by its id; None where nothing is.

    Raises Damaged as `read`.
    """
    import pandas as pd

    file = paths.results() / name / TABLE
    if not file.is_file() and not file.with_suffix(".json").is_file():
        return None
    return Recorded(pd.read_parquet(io.BytesIO(read(file))), record(file))


def absent(name: str) -> str:
    """Say that a long computation is not recorded, and what computes it, as Markdown."""
    return (
        f"*At the paper's size this is not recorded yet: `mflib results run {name}` computes it on "
        "a GPU.*"
    )


def _time(seconds: float) -> str:
    """Return a time in words, to two digits or so."""
    if seconds < 100:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _encoded(found: Mapping[str, Any]) -> bytes:
    return (json.dumps(found, indent=1, ensure_ascii=False) + "\n").encode()


def _of_record(found: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a record without its own."""
    rest = {name: value for name, value in found.items() if name != "record_sha256"}
    return _sha256(json.dumps(rest, sort_keys=True, allow_nan=False).encode())


def _place(file: Path) -> str:
    """Return where a file lies, from the project's folder on if it lies there."""
    try:
        return file.resolve().relative_to(paths.root()).as_posix()
    except ValueError:
        return str(file)


def _remedy(file: Path, known: Mapping[str, Any] | None = None) -> str:
    """Return what mends a file: what the project's history holds, or its own command."""
    both = f"{_place(file)} {_place(file.with_suffix('.json'))}"
    again = f", or compute it again with '{known['command']}'" if known else ""
    return f"get it back with 'git checkout -- {both}'{again}"
