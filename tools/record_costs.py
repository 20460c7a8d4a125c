"""Record what predictions by reconstruction cost in epochs: a table, and where it came from.

    python tools/record_costs.py [-o results/reconstruction-entropy-costs.csv] [--depth 100]

One row per data set and shape of network: MNIST and CIFAR-10, as many units per layer as pixels
(wide), or fewer and fewer down to the classes (shrinking). Each row is one run of
``benchmarks/reconstruction.py`` in a process of its own, so that its peak memory is its own.
MNIST and CIFAR-10 are read from the folder MFLIB_DATA. The full size takes some ten minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd

from mflib import paths, recorded, sources
from mflib.report import provenance

NAME = "reconstruction-entropy-costs.csv"
BENCHMARK = "benchmarks/reconstruction.py"
PIXELS = {"mnist": 784, "cifar10": 1024}
IMAGES = {"mnist": 60_000, "cifar10": 50_000}


def arguments(
    data: str, shape: str, depth: int, steps: int, repeats: int, side: int | None
) -> list[str]:
    """Return the arguments of the benchmark for one row."""
    width = side**2 if side else PIXELS[data]
    sizes = {"width": width, "depth": depth, "images": IMAGES.get(data, 60_000)}
    runs = {"steps": steps, "repeats": repeats} | ({"side": side} if side else {})
    given = [f"--{name}={value}" for name, value in ({"data": data} | sizes | runs).items()]
    return given + (["--shrinking"] if shape == "shrinking" else [])


def row(given: list[str], threads: int) -> dict[str, Any]:
    """Run the benchmark and return its measurements as one row."""
    done = subprocess.run(
        [sys.executable, str(paths.root() / BENCHMARK), *given],
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    print(done.stdout, end="", flush=True)
    if done.returncode:
        raise ValueError(f"{BENCHMARK} {' '.join(given)} failed, as it says above")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    found = {line["measured"]: line for line in lines}
    apart = found["one after another"]
    common = ("data", "shape", "pixels", "width", "depth", "batch_size", "images", "threads")
    return {name: lines[0][name] for name in common} | {
        "epoch_seconds": found["epoch"]["seconds"],
        "faithful_seconds": found["faithful"]["seconds"],
        "reduced_seconds": found["reduced"]["seconds"],
        "closed_form_seconds": found["closed-form"]["seconds"],
        "evaluation_seconds": found["faithful"]["evaluation_seconds"],
        "one_decoder_seconds": apart["one_decoder_seconds"],
        "one_after_another_seconds": apart["seconds"],
        "faithful_epochs": found["faithful"]["epochs"],
        "reduced_epochs": found["reduced"]["epochs"],
        "closed_form_epochs": found["closed-form"]["epochs"],
        "one_after_another_over_batched": apart["times_slower"],
        "peak_mib": max(line["peak_mib"] for line in lines),
    }


def record(
    output: Path, *, datasets: list[str], depth: int, steps: int, repeats: int, threads: int,
    side: int | None = None,
) -> None:  # fmt: skip
    """Measure all rows, and write the table and, beside it, its provenance."""
    started = time.perf_counter()
    runs = [
        arguments(data, shape, depth, steps, repeats, side)
        for data in datasets
        for shape in ("wide", "shrinking")
    ]
    table = pd.DataFrame([row(given, threads) for given in runs])
    small = f" --side {side}" if side else ""
    recorded.write(
        output,
        table.to_csv(index=False).encode(),
        command=f"python tools/record_costs.py -o results/{output.name} "
        f"--data {' '.join(datasets)}{small} --depth {depth} --steps {steps} --repeats {repeats} "
        f"--threads {threads}",
        code=sources.code_version("mflib.experiment.reconstruction"),
        seconds=time.perf_counter() - started,
        rows=len(table),
        device=f"{provenance.device_name('cpu')}, {platform.machine()}",
        threads=threads,
        runs=[f"python {BENCHMARK} {' '.join(given)}" for given in runs],
        clock="processor seconds, the least of the repeats; whole passes from their steps",
    )


def main() -> None:
    """Read the command line and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=paths.results() / NAME)
    parser.add_argument("--data", nargs="+", default=list(PIXELS), help="mnist, cifar10, digits")
    parser.add_argument("--side", type=int, help="resize images to side x side")
    parser.add_argument("--depth", type=int, default=100)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.side is None and set(options.data) - set(PIXELS):
        parser.error(f"give --side for data other than {', '.join(PIXELS)}")
    try:
        record(
            options.output, datasets=options.data, depth=options.depth, steps=options.steps,
            repeats=options.repeats, threads=options.threads, side=options.side,
        )  # fmt: skip
    except ValueError as error:
        print(f"record_costs: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
