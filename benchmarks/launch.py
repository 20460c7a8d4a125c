"""What starting, checking, converting and writing cost per notebook run, beside plain papermill.

    python benchmarks/launch.py [--repeats 5] [--notebooks sigmoid-theorem fc-theory] [--points 4]

``mflib run NAME`` and ``papermill NAME.ipynb out.ipynb``, of the notebook that ``mflib convert``
writes and thus with the same parameters, are whole processes from start to end and take turns, so
that other work on the machine harms neither more. ``ratio`` is that of the fastest of each; each
pair gives a ratio too, and their median and extremes are the spread. ``processor`` says the same in
processor time, which a busy machine unsettles less. Both run once before, so that what the chapter
keeps on disk is there for both. The last line is a sweep over seeds, run one by one, beside
papermill run by run. One JSON line per measurement.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mflib import notebooks

SWEPT = "sigmoid-theorem"


class Spent(NamedTuple):
    """What a command took: seconds on the clock, and of processor time with all it started."""

    clock: float
    processor: float


def spent(command: Sequence[str], environment: dict[str, str]) -> Spent:
    """Run a command to its end. Raises SystemExit with its words if it fails."""
    with tempfile.TemporaryFile("w+") as said:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=said, stderr=subprocess.STDOUT
        )
        _, status, used = os.wait4(process.pid, 0)
        clock = time.perf_counter() - began
        if os.waitstatus_to_exitcode(status) != 0:
            said.seek(0)
            raise SystemExit(f"{' '.join(command)} failed:\n{said.read()}")
    return Spent(clock, used.ru_utime + used.ru_stime)


def papermill(source: Path, output: Path, **parameters: object) -> list[str]:
    """Return the command of a plain run, where the chapter's own run has its working directory."""
    given = [word for name, value in parameters.items() for word in ("-p", name, str(value))]
    place = ["--cwd", str(notebooks.source(SWEPT).parent)]
    return [sys.executable, "-m", "papermill", str(source), str(output), *place, *given]


def compared(pairs: Sequence[tuple[Spent, Spent]]) -> dict[str, Any]:
    """Return the fastest of ours and theirs with their ratio, and the ratios of the pairs."""
    line: dict[str, Any] = {"repeats": len(pairs)}
    for name in Spent._fields:
        ours, theirs = ([getattr(each, name) for each in side] for side in zip(*pairs, strict=True))
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        prefix = "" if name == "clock" else f"{name}_"
        line |= {
            f"{prefix}mflib_s": round(min(ours), 2),
            f"{prefix}papermill_s": round(min(theirs), 2),
            f"{prefix}ratio": round(min(ours) / min(theirs), 3),
            f"{prefix}ratio_of_pairs": round(statistics.median(ratios), 3),
            f"{prefix}ratio_lowest": round(min(ratios), 3),
            f"{prefix}ratio_highest": round(max(ratios), 3),
        }
    return line


def in_turns(
    ours: Callable[[], Spent], theirs: Callable[[], Spent], repeats: int
) -> list[tuple[Spent, Spent]]:
    """Return what both took, in pairs; the one that begins a pair alternates."""
    pairs = []
    for number in range(repeats):
        if number % 2:
            second, first = theirs(), ours()
        else:
            first, second = ours(), theirs()
        pairs.append((first, second))
    return pairs


def run(name: str, repeats: int, folder: Path) -> dict[str, Any]:
    """Compare one chapter's runs."""
    source = notebooks.convert(name, folder / f"{name}.ipynb")
    ours = [sys.executable, "-m", "mflib.cli", "run", name, "-o", str(folder / "ours.ipynb")]
    theirs = papermill(source, folder / "theirs.ipynb")

    def of(command: list[str]) -> Callable[[], Spent]:
        return lambda: spent(command, {})

    in_turns(of(ours), of(theirs), 1)
    pairs = in_turns(of(ours), of(theirs), repeats)
    return {"benchmark": "launch", "notebook": name, **compared(pairs)}


def sweep(points: int, repeats: int, folder: Path) -> dict[str, Any]:
    """Compare a sweep over seeds with the same runs by papermill, one after another."""
    source = notebooks.convert(SWEPT, folder / "swept.ipynb")
    number = 0

    def ours() -> Spent:
        nonlocal number
        number += 1  # a folder of its own, since no point is run twice
        seeds = ",".join(map(str, range(points)))
        command = [sys.executable, "-m", "mflib.cli", "sweep", SWEPT, "--grid", f"seed={seeds}"]
        return spent([*command, "--jobs", "1"], {"MFLIB_RUNS": str(folder / f"runs-{number}")})

    def theirs() -> Spent:
        each = [
            spent(papermill(source, folder / f"point-{seed}.ipynb", seed=seed), {})
            for seed in range(points)
        ]
        return Spent(*map(sum, zip(*each, strict=True)))

    pairs = in_turns(ours, theirs, repeats)
    return {"benchmark": "sweep", "notebook": SWEPT, "points": points, **compared(pairs)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--notebooks", nargs="*", default=["sigmoid-theorem", "fc-theory"])
    parser.add_argument("--points", type=int, default=4, help="of the sweep; 0 for none")
    parser.add_argument("--sweeps", type=int, default=2, help="how often the sweep is repeated")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in options.notebooks:
            print(json.dumps(run(name, options.repeats, Path(folder))), flush=True)
        if options.points:
            line = sweep(options.points, options.sweeps, Path(folder))
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
