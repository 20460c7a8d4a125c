"""Record what predictions by reconstruction cost in epochs: a table, and where it came from.

    python tools/record_costs.py [-o results/reconstruction-entropy-costs.csv] [--device cpu]

One row per data set and shape of network: MNIST and CIFAR-10, as many units per layer as pixels
(wide), or fewer and fewer down to the classes (shrinking), measured by ``mflib.experiment._costs``;
on the CPU each in a process of its own, so that its peak memory is its own. MNIST and CIFAR-10 are
read from the folder MFLIB_DATA. The full size takes some ten minutes on a CPU, one on a GPU.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from mflib import paths, recorded, sources
from mflib.experiment import costs, data
from mflib.experiment.training import resolve_device
from mflib.report import provenance

NAME = "reconstruction-entropy-costs.csv"
BENCHMARK = "benchmarks/reconstruction.py"
CLOCKS = {"cpu": "processor seconds", "cuda": "seconds of the wall, the GPU waited for"}


def record(output: Path, cases: Sequence[costs.Case], device: torch.device, command: str) -> None:
    """Measure all rows, and write the table and, beside it, its provenance."""
    started = time.perf_counter()
    table = costs.table(cases, device=device)
    recorded.write(
        output,
        table.to_csv(index=False).encode(),
        command=command,
        code={costs.KERNEL: sources.code_version(costs.KERNEL)},
        seconds=time.perf_counter() - started,
        rows=len(table),
        device=f"{provenance.device_name(device.type)}, {platform.machine()}",
        threads=torch.get_num_threads(),
        runs=[
            f"python {BENCHMARK} --device={device.type} {' '.join(case.arguments())}"
            for case in cases
        ],
        clock=f"{CLOCKS[device.type]}, the least of the repeats; whole passes from their steps",
    )


def main() -> None:
    """Read the command line and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=paths.results() / NAME)
    parser.add_argument("--data", nargs="+", default=list(costs.PIXELS), help="data sets")
    parser.add_argument("--side", type=int, help="resize images to side x side")
    parser.add_argument("--depth", type=int, default=100)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="cpu")
    options = parser.parse_args()
    small = f" --side {options.side}" if options.side else ""
    torch.set_num_threads(options.threads)
    try:
        device = resolve_device(options.device)
        cases = [
            costs.Case(
                data=data, shape=shape, depth=options.depth, side=options.side,
                steps=options.steps, repeats=options.repeats,
            )
            for data in options.data
            for shape in costs.SHAPES
        ]  # fmt: skip
        record(
            options.output, cases, device,
            f"python tools/record_costs.py -o results/{options.output.name} --device {device.type} "
            f"--data {' '.join(options.data)}{small} --depth {options.depth} "
            f"--steps {options.steps} --repeats {options.repeats} --threads {options.threads}",
        )  # fmt: skip
    except (ValueError, data.DataUnavailable) as error:
        print(f"record_costs: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
