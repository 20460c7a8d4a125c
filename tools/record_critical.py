"""Record estimates of the critical line by reconstruction: a table, and where it came from.

    python tools/record_critical.py [-o results/reconstruction-entropy-critical.csv] [--rows 3]

One row per search: activations and bias variances at one size, several widths, several depths,
and decoders that are trained (faithful: an epoch of Adam; reduced: a quarter of its steps at four
times the rate) beside the closed form. MNIST is read from the folder MFLIB_DATA. ``--rows`` runs
only the first so many; all of them take some nine minutes on one thread. Rows that the table
has already, from the same code and settings, are kept with their own date and commit.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from mflib import paths, recorded, sources
from mflib.experiment import data, reconstruction
from mflib.report import provenance
from mflib.theory import mean_field

NAME = "reconstruction-entropy-critical.csv"
MODES: dict[str, dict[str, Any]] = {
    "closed-form": {"mode": "closed-form"},
    "reduced": {"mode": "faithful", "steps": 234, "batch_size": 32, "learning_rate": 4e-3},
    "faithful": {"mode": "faithful", "steps": 934, "batch_size": 64},
}
HELD: dict[str, Any] = {"n_batches": 4, "batch": 50}


@dataclass(frozen=True)
class Search:
    """One search: the networks, how they are read, and the range of σ_w²."""

    activation: str
    sigma_b2: float
    width: int
    depth: int
    mode: str = "closed-form"
    networks: int = 4
    fitted_on: int = 1000
    low: float = 0.6
    high: float = 4.5
    tolerance: float = 0.1
    data: str = "mnist"


# Those that take minutes come last.
SEARCHES = (
    Search("tanh", 0.05, 300, 60),
    Search("tanh", 0.01, 300, 60),
    Search("tanh", 0.2, 300, 60),
    Search("tanh", 0.5, 300, 60),
    Search("erf", 0.05, 300, 60),
    Search("erf", 0.2, 300, 60),
    Search("hard-tanh", 0.05, 300, 60),
    Search("hard-tanh", 0.2, 300, 60),
    Search("tanh", 0.05, 50, 60, networks=8),
    Search("tanh", 0.05, 100, 60, networks=6),
    Search("tanh", 0.05, 200, 60),
    Search("tanh", 0.05, 200, 30),
    Search("tanh", 0.05, 400, 60),
    Search("tanh", 0.05, 400, 100, networks=1),
    Search("tanh", 0.01, 400, 100, networks=1),
    Search("tanh", 0.05, 300, 60, "reduced", 1, 7488, 1.0, 3.0, 0.3),
    Search("tanh", 0.05, 784, 100, networks=1, fitted_on=2000, tolerance=0.2),
    Search("tanh", 0.05, 300, 60, "faithful", 1, 59_776, 1.2, 2.5, 0.4),
)


def row(search: Search) -> dict[str, Any]:
    """Run a search and return it as a row, with its seconds of processor time on one thread."""
    held = HELD["n_batches"] * HELD["batch"]
    images = data.load(search.data, input_range=(0.0, 1.0), n_train=search.fitted_on + held).x_train
    started = time.process_time()
    found = reconstruction.critical_sigma_w2(
        search.activation, search.sigma_b2, width=search.width, depth=search.depth, images=images,
        low=search.low, high=search.high, tolerance=search.tolerance, seeds=range(search.networks),
        progress=False, **HELD, **MODES[search.mode],
    )  # fmt: skip
    seconds = time.process_time() - started
    line = mean_field.critical_sigma_w2(search.activation, search.sigma_b2).sigma_w2
    return asdict(search) | {
        "predictions": found.n_predictions,
        "estimate": round(found.value, 4),
        "interval_low": round(found.interval[0], 4),
        "interval_high": round(found.interval[1], 4),
        "over": "networks" if search.networks > 1 else "batches of images",
        "theory": round(float(line), 4),
        "seconds": round(seconds, 1),
        "computed": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": provenance.commit(),
    }


def code() -> dict[str, str]:
    """Return the versions of the code that searches, and of the theory beside it."""
    modules = ("mflib.experiment.reconstruction", "mflib.theory.mean_field")
    return {module: sources.code_version(module) for module in modules}


def settings() -> dict[str, Any]:
    """Return what every row has in common."""
    return {"held": HELD, "modes": MODES}


def kept(output: Path) -> dict[Search, dict[str, Any]]:
    """Return the rows that the same code and settings have written, by their searches."""
    file = output.with_suffix(".json")
    if not (output.is_file() and file.is_file()):
        return {}
    try:
        beside, content = recorded.record(output), recorded.read(output)
    except recorded.Damaged as damage:
        print(f"record_critical: {damage}; computing all of it again", file=sys.stderr)
        return {}
    if (beside["code"], beside.get("settings")) != (code(), settings()):
        return {}
    names = [field.name for field in fields(Search)]
    rows = pd.read_csv(io.BytesIO(content)).to_dict("records")
    return {Search(**{name: each[name] for name in names}): each for each in rows}


def write(
    rows: list[dict[str, Any]], output: Path, command: str, version: dict[str, str] | None = None
) -> None:
    """Write the table and, beside it, its provenance; ``version`` is the code's, now's if None."""
    recorded.write(
        output,
        pd.DataFrame(rows).to_csv(index=False).encode(),
        command=command,
        code=code() if version is None else version,
        seconds=sum(each["seconds"] for each in rows),
        rows=len(rows),
        images="the first of the training set, scaled to [0, 1], the last of them for evaluation",
        threads=torch.get_num_threads(),
        settings=settings(),
    )


def main() -> None:
    """Read the command line and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=paths.results() / NAME)
    parser.add_argument("--rows", type=int, default=len(SEARCHES), help="only the first so many")
    options = parser.parse_args()
    torch.set_num_threads(1)
    short = f" --rows {options.rows}" if options.rows < len(SEARCHES) else ""
    version, known = code(), kept(options.output)
    try:
        for search in SEARCHES[: options.rows]:
            if search not in known:
                known[search] = row(search)
                rows = [known[each] for each in SEARCHES if each in known]
                write(rows, options.output, f"python tools/record_critical.py{short}", version)
            print(json.dumps(known[search]), flush=True)
    except (ValueError, data.DataUnavailable, data.DataDamaged) as error:
        print(f"record_critical: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
