"""The table of a sweep's runs, made from the outcome records of its points.

Nothing here computes a result: the same records give the same table, byte for byte.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mflib.files import write_atomically
from mflib.report import claims
from mflib.sweep.runs import sound

NOT_FINISHED = "not finished"

#: Column → verdict, in the order of the columns.
COUNTS = {
    verdict.replace(" ", "_"): verdict
    for verdict in (*claims.CLAIM_VERDICTS, *claims.ERRATUM_VERDICTS)
}

#: Columns of their own, behind the varied parameters and before the constant ones.
RUN = ("seconds", "device", "host", "threads", "computed", "commit")
FIXED = ("point", "outcome", "error", *COUNTS, *RUN, "notebook")

_INT64 = range(-(2**63), 2**63)


def finish(manifest: Mapping[str, Any], folder: Path, runs: Path) -> pd.DataFrame:
    """Write the table, figure and pages of a sweep, as far as it has come; return the table.

    Parameters
    ----------
    manifest : what ``sweep.json`` holds: notebook, profile, varied, points, show
    folder : the sweep's folder, where ``table.parquet``, ``table.csv``, ``figure.png``,
        ``index.html`` and ``points/`` go
    runs : the folder of all runs, in which ``<notebook>/<digest>.json`` are the outcome records

    A point whose record is missing, or does not have its notebook's checksum, is "not finished".
    Every file is written whole or not at all. A result to be shown that no run has does not stop
    the rest, nor does a figure that cannot be drawn: the page says so, and so does
    ``frame.attrs["notice"]``, which is empty where there is nothing to say.
    """
    from mflib.sweep import pages

    outcomes = read(manifest, runs)
    frame = table(manifest, outcomes, folder, runs)
    write_atomically(folder / "table.parquet", as_parquet(frame))
    write_atomically(folder / "table.csv", as_csv(frame))
    frame.attrs["notice"] = " ".join(pages.write(manifest, outcomes, frame, folder, runs))
    return frame


def read(manifest: Mapping[str, Any], runs: Path) -> list[dict[str, Any] | None]:
    """Return the sound outcome record of every point, in their order; None where there is none."""
    here = runs / manifest["notebook"]
    return [sound(here / f"{point['digest']}.json") for point in manifest["points"]]


def verdicts(outcome: Mapping[str, Any] | None) -> Iterator[dict[str, Any]]:
    """Yield the claims and errata of a run in the order of its cells, the last of each id."""
    if outcome is not None:
        found = {r["id"]: r for r in outcome["records"] if r.get("kind") in ("claim", "erratum")}
        yield from found.values()


def column_of(name: str) -> str:
    """Return the column of a parameter: its name, unless a column of another meaning has it."""
    return f"parameter {name}" if name in FIXED else name


def parameters_of(point: Mapping[str, Any], outcome: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the parameter values of a point, all those that are known."""
    return {**(outcome or {}).get("parameters", {}), **point["values"]}


def table(
    manifest: Mapping[str, Any],
    outcomes: Sequence[Mapping[str, Any] | None],
    folder: Path,
    runs: Path,
) -> pd.DataFrame:
    """Return the table of runs: one row for each point, in the manifest's order.

    Columns are the point's digest, every varied parameter, the outcome and the error, how many
    claims have which verdict, for each claim its verdict and our number (or words), seconds,
    device, host, threads, time and commit, the path of the executed notebook from ``folder``, and
    the constant parameters. Integers are Int64, numbers float64, truths boolean, text string,
    lists objects; what a point does not have is missing.
    """
    points = manifest["points"]
    values = [parameters_of(p, o) for p, o in zip(points, outcomes, strict=True)]
    names = [*manifest["varied"], *unique(name for v in values for name in v)]
    varied, constant = names[: len(manifest["varied"])], unique(names)[len(manifest["varied"]) :]
    here = runs / manifest["notebook"]

    columns: dict[str, pd.Series] = {"point": series([p["digest"] for p in points], str)}
    for name in varied:
        columns[column_of(name)] = series([v.get(name) for v in values])
    columns["outcome"] = series([o["outcome"] if o else NOT_FINISHED for o in outcomes], str)
    columns["error"] = series(
        [
            o["error"] if o else unsound(here / f"{p['digest']}.json")
            for p, o in zip(points, outcomes, strict=True)
        ],
        str,
    )
    found = [{r["id"]: r for r in verdicts(o)} for o in outcomes]
    for name, verdict in COUNTS.items():
        columns[name] = series(
            [
                sum(r["verdict"] == verdict for r in f.values()) if o else None
                for f, o in zip(found, outcomes, strict=True)
            ],
            int,
        )
    for id_ in unique(id_ for f in found for id_ in f):
        columns[utf8(f"verdict {id_}")] = series(
            [f.get(id_, {}).get("verdict") for f in found], str
        )
        columns[utf8(f"ours {id_}")] = headline([f.get(id_, {}).get("ours") for f in found])
    for name in RUN:
        kind = {"seconds": float, "threads": int}.get(name, str)
        columns[name] = series([o.get(name) if o else None for o in outcomes], kind)
    columns["notebook"] = series(
        [
            Path(os.path.relpath(here / o["file"], folder)).as_posix() if o else None
            for o in outcomes
        ],
        str,
    )
    for name in constant:
        columns[column_of(name)] = series([v.get(name) for v in values])
    return pd.DataFrame(columns)


def unique(names: Iterable[str]) -> list[str]:
    """Return the names in order, each once."""
    return list(dict.fromkeys(names))


def unsound(record: Path) -> str | None:
    """Say what is wrong with a record that is there and is not sound; None where there is none."""
    if not record.exists():
        return None
    return f"{record.name} or the notebook it names is damaged: the point will be run again"


def utf8(text: str) -> str:
    """Return text that UTF-8 can hold: lone surrogates, as of a file's odd name, are escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


def series(values: Sequence[Any], kind: type | None = None) -> pd.Series:
    """Return values as a column of their exact type: ``kind``, or the one that all have.

    Lists stay lists. Values of several types, and whole numbers of more than 64 bits, become
    their JSON text, which no type of a table would hold exactly.
    """
    kinds = {kind} if kind else {type(v) for v in values if v is not None}
    if kinds == {bool}:
        return pd.Series(list(values), dtype="boolean")
    if kinds == {int} and all(v is None or v in _INT64 for v in values):
        return pd.Series(list(values), dtype="Int64")
    if kinds == {float}:
        return pd.Series([np.nan if v is None else v for v in values], dtype="float64")
    if kinds == {list} and entry_type(values) is not None:
        lists = [v and [utf8(e) if isinstance(e, str) else e for e in v] for v in values]
        return pd.Series(lists, dtype=object)
    if kinds <= {str}:
        return pd.Series([v if v is None else utf8(v) for v in values], dtype="string")
    return pd.Series([None if v is None else text(v) for v in values], dtype="string")


def headline(values: Sequence[Any]) -> pd.Series:
    """Return a claim's results as a column: numbers where all are numbers, text otherwise."""
    given = [v for v in values if v is not None]
    if given and all(type(v) in (int, float) for v in given):
        if all(type(v) is int for v in given):
            return series(values)
        try:
            return series([None if v is None else float(v) for v in values], float)
        except OverflowError:  # a whole number beyond all floats: text holds it exactly
            pass
    return pd.Series([None if v is None else shown(v) for v in values], dtype="string")


def shown(value: Any) -> str:
    """Return a value as text that gives it back: text as it is, all else as JSON."""
    return utf8(value) if isinstance(value, str) else text(value)


def text(value: Any) -> str:
    """Return a value as JSON with shortest exact numbers; what is infinite is ``Infinity``."""
    return utf8(json.dumps(value, ensure_ascii=False))


def entry_type(lists: Iterable[Any]) -> pa.DataType | None:
    """Return the type that the entries of all lists have; None if a table has no type for them."""
    entries = [entry for entries in lists if entries is not None for entry in entries]
    kinds = {type(entry) for entry in entries}
    if kinds == {int} and not all(entry in _INT64 for entry in entries):
        return None
    types = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
    return types.get(kinds.pop()) if len(kinds) == 1 else None


def as_parquet(frame: pd.DataFrame) -> bytes:
    """Return a table as parquet, lists as columns of lists."""
    types = {"boolean": pa.bool_(), "Int64": pa.int64(), "float64": pa.float64()}
    fields = [
        pa.field(
            str(name),
            pa.list_(entry_type(column))
            if column.dtype == object
            else types.get(str(column.dtype), pa.string()),
        )
        for name, column in frame.items()
    ]
    whole = pa.Table.from_pandas(frame, schema=pa.schema(fields), preserve_index=False)
    buffer = io.BytesIO()
    pq.write_table(whole, buffer)
    return buffer.getvalue()


def as_csv(frame: pd.DataFrame) -> bytes:
    """Return a table as CSV in UTF-8, from which the same values can be read again.

    Numbers are the shortest exact ones, 1.0 with its point; lists are JSON; text stands in quotes,
    so that an empty text and a missing one, which has none, differ.
    """
    # Neither pandas nor Python 3.11's csv can quote all text and leave the missing bare.
    rows = [list(map(str, frame.columns)), *frame.itertuples(index=False, name=None)]
    return "".join(",".join(map(_cell, row)) + "\n" for row in rows).encode()


def _cell(value: Any) -> str:
    if isinstance(value, list):
        value = text(value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        return '"' + value.replace('"', '""') + '"'
    return "" if value is None or value is pd.NA or value != value else repr(value)
