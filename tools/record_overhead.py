"""Record what starting a run and keeping shards safe cost: a table, and where it came from.

    python tools/record_overhead.py [-o results/faults-overhead.csv] [--repeats 5]

It runs ``benchmarks/launch.py`` and ``benchmarks/safety.py``, which say what is measured, and
writes one row per measurement. Minutes; on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd

from mflib import paths, recorded, sources

NAME = "faults-overhead.csv"
LIMITS = {"launch": 1.2, "sweep": 1.2, "safety": 0.02}
MODULES = ("mflib.cli", "mflib.notebooks", "mflib.sweep.launch", "mflib.experiment.store")


def measured(benchmark: str, *options: str) -> list[dict[str, Any]]:
    """Run a benchmark and return its lines. Raises CalledProcessError if it fails."""
    script = paths.root() / "benchmarks" / f"{benchmark}.py"
    done = subprocess.run(
        [sys.executable, str(script), *options], stdout=subprocess.PIPE, text=True, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def row(line: dict[str, Any]) -> dict[str, Any]:
    """Return a benchmark's line as a row: what took how long, beside what, and their ratio."""
    kind = line["benchmark"]
    if kind == "safety":
        return {
            "what": f"keys, hashes, writing and checking of {line['shards']} shards "
            f"({line['grid']})",
            "seconds": line["store_s"],
            "beside": "the whole grid",
            "beside_seconds": line["grid_s"],
            "ratio": line["share"],
            "lowest": line["share_lowest"],
            "highest": line["share_highest"],
            "unit": "share",
            "limit": LIMITS[kind],
        }
    name = line["notebook"]
    what = f"mflib run {name}" if kind == "launch" else f"mflib sweep {name}, {line['points']} runs"
    return {
        "what": what,
        "seconds": line["mflib_s"],
        "beside": "plain papermill" if kind == "launch" else "plain papermill, run by run",
        "beside_seconds": line["papermill_s"],
        "ratio": line["ratio"],
        "lowest": line["ratio_lowest"],
        "highest": line["ratio_highest"],
        "unit": "times",
        "limit": LIMITS[kind],
    }


def main() -> None:
    """Read the command line, measure and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=paths.results() / NAME)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    began = time.perf_counter()
    repeats = ("--repeats", str(options.repeats))
    lines = [*measured("launch", *repeats), *measured("safety", *repeats)]
    rows = [row(line) for line in lines]
    recorded.write(
        options.output,
        pd.DataFrame(rows).to_csv(index=False).encode(),
        command="python tools/record_overhead.py",
        code={module: sources.code_version(module) for module in MODULES},
        seconds=time.perf_counter() - began,
        rows=len(rows),
        lines=lines,
    )
    for each in rows:
        sign = "under" if each["ratio"] < each["limit"] else "NOT under"
        print(f"{each['what']}: {each['ratio']:.3g}, {sign} {each['limit']}")


if __name__ == "__main__":
    main()
