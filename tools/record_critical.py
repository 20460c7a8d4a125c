"""Record estimates of the critical line by reconstruction: a table, and where it came from.

    python tools/record_critical.py [-o results/reconstruction-entropy-critical.csv] [--rows 3]

One row per search: activations and bias variances at one size, several widths, several depths,
and decoders that are trained (faithful: an epoch of Adam; reduced: a quarter of its steps at four
times the rate) beside the closed form. MNIST is read from the folder MFLIB_DATA. ``--rows`` runs
only the first so many; all of them take some ten minutes on one thread. Rows that the table has
already, from the same code, are kept.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from mflib import paths, sources
from mflib.experiment import data, reconstruction
from mflib.experiment.store import write_atomically
from mflib.report import provenance
from mflib.theory import mean_field

NAME = "reconstruction-entropy-critical.csv"
MODES: dict[str, dict[str, Any]] = {
    "closed-form": {"mode": "closed-form"},
    "reduced": {"mode": "faithful", "steps": 234, "batch_size": 32, "learning_rate": 4e-3},
    "faithful": {"mode": "faithful", "steps": 934, "batch_size": 64},
}
HELD = 200


@dataclass(frozen=True)
class Search:
    """One search: the networks, how they are read, and the range of σ_w²."""

    activation: str
    sigma_b2: float
    width: int
    depth: int
    mode: str = "closed-form"
    networks: int = 2
    fitted_on: int = 1000
    low: float = 0.6
    high: float = 4.5
    tolerance: float = 0.1
    data: str = "mnist"


SEARCHES = (
    Search("tanh", 0.05, 300, 60),
    Search("tanh", 0.05, 784, 100, networks=1, fitted_on=2000, tolerance=0.2),
    Search("tanh", 0.05, 300, 60, "reduced", 1, 7488, 1.0, 3.0, 0.3),
    Search("tanh", 0.05, 300, 60, "faithful", 1, 59_776, 1.2, 2.5, 0.4),
    Search("tanh", 0.01, 300, 60),
    Search("tanh", 0.2, 300, 60),
    Search("tanh", 0.5, 300, 60),
    Search("erf", 0.05, 300, 60),
    Search("erf", 0.2, 300, 60),
    Search("hard-tanh", 0.05, 300, 60),
    Search("hard-tanh", 0.2, 300, 60),
    Search("tanh", 0.05, 50, 60, networks=8),
    Search("tanh", 0.05, 100, 60, networks=6),
    Search("tanh", 0.05, 200, 60, networks=4),
    Search("tanh", 0.05, 400, 60),
    Search("tanh", 0.05, 200, 30, networks=4),
    Search("tanh", 0.05, 400, 100, networks=1),
    Search("tanh", 0.01, 400, 100, networks=1),
    Search("erf", 0.2, 300, 60, "reduced", 1, 7488, 1.0, 3.0, 0.3),
)


def row(search: Search) -> dict[str, Any]:
    """Run a search and return it as a row, with its seconds of processor time on one thread."""
    images = data.load(search.data, input_range=(0.0, 1.0), n_train=search.fitted_on + HELD).x_train
    started = time.process_time()
    found = reconstruction.critical_sigma_w2(
        search.activation, search.sigma_b2, width=search.width, depth=search.depth, images=images,
        low=search.low, high=search.high, tolerance=search.tolerance, seeds=range(search.networks),
        n_batches=4, batch=HELD // 4, progress=False, **MODES[search.mode],
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
    }


def kept(output: Path) -> dict[Search, dict[str, Any]]:
    """Return the rows that an earlier run of the same code has written, by their searches."""
    record = output.with_suffix(".json")
    if not (output.is_file() and record.is_file()):
        return {}
    if json.loads(record.read_text(encoding="utf-8"))["code"] != code():
        return {}
    names = [field.name for field in fields(Search)]
    rows = pd.read_csv(output).to_dict("records")
    return {Search(**{name: each[name] for name in names}): each for each in rows}


def code() -> str:
    """Return the version of the code that searches."""
    return sources.code_version("mflib.experiment.reconstruction")


def write(rows: list[dict[str, Any]], output: Path, command: str) -> None:
    """Write the table and, beside it, its provenance."""
    content = pd.DataFrame(rows).to_csv(index=False).encode()
    found = {
        "table": output.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "rows": len(rows),
        "images": "the first of the training set, scaled to [0, 1], the last 200 for evaluation",
        "computed": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(sum(each["seconds"] for each in rows), 1),
        "device": provenance.device_name("cpu"),
        "threads": torch.get_num_threads(),
        "commit": provenance.commit(),
        "code": code(),
        "versions": provenance.versions(),
        "command": command,
        "modes": MODES,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(output, content)
    write_atomically(
        output.with_suffix(".json"),
        (json.dumps(found, indent=1, ensure_ascii=False) + "\n").encode(),
    )


def main() -> None:
    """Read the command line and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=paths.results() / NAME)
    parser.add_argument("--rows", type=int, default=len(SEARCHES), help="only the first so many")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    known = kept(options.output)
    try:
        for search in SEARCHES[: options.rows]:
            rows.append(known.get(search) or row(search))
            print(json.dumps(rows[-1]), flush=True)
            short = "" if len(rows) == len(SEARCHES) else f" --rows {len(rows)}"
            write(rows, options.output, f"python tools/record_critical.py{short}")
    except ValueError as error:
        print(f"record_critical: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
