"""What a prediction by reconstruction costs, in epochs of the network: recon-tab1 and its shards.

In one run, on one device, for one network: an epoch of training it, the faithful prediction, the
same with fewer images, the closed form, and decoders one after another. What is timed, and by
which clock: ``_costs``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from mflib import sources
from mflib.experiment import _shards
from mflib.experiment._costs import PIXELS, SHAPES, Case, inputs, measure
from mflib.experiment._devices import resolve_device
from mflib.experiment.store import Store

KERNEL = "mflib.experiment._costs"  # with its imports: the code that is timed, and that times it


def key(case: Case, device: torch.device | str) -> dict[str, Any]:
    """Return the key of the shard of a case on "cuda" or "cpu"."""
    kind = torch.device(device).type
    return {
        **dataclasses.asdict(case),
        "code": sources.code_version(KERNEL),
        "device": kind,
        "dtype": "float32",
        "matrix_precision": "tf32" if kind == "cuda" else "ieee",
    }


def paper_cases(*, rehearse: bool = False, **settings: Any) -> tuple[Case, ...]:
    """Return the four rows of the paper's table 1; tiny ones to rehearse.

    ``settings``: of every ``Case``, such as ``steps``. The network is 100 layers deep.
    """
    if rehearse:
        settings = {
            "data": "digits", "depth": 4, "side": 4, "images": 256, "fit": 64, "steps": 2,
            "repeats": 1, **settings,
        }  # fmt: skip
        return tuple(Case(shape=shape, **settings) for shape in SHAPES)
    return tuple(Case(data=name, shape=shape, **settings) for name in PIXELS for shape in SHAPES)


def table(
    cases: Sequence[Case],
    *,
    store: Store | None = None,
    device: torch.device | str = "auto",
    progress: bool = True,
) -> pd.DataFrame:
    """Return one row per case as ``row`` measures it, one after another; shards in ``store``.

    Raises ValueError as ``row``, DataUnavailable where a data set is not to be had.
    """
    where = resolve_device(device)
    found = []
    for case in cases:  # each alone: side by side they would measure one another
        found += _shards.gather(
            {case: key(case, where)},
            lambda case, _: pd.DataFrame([row(case, where)]),
            store=store, progress=progress, title=f"costs, {case.data} {case.shape}", device=where,
        )  # fmt: skip
    return pd.concat(found, ignore_index=True)


def row(case: Case, device: torch.device | str = "auto") -> dict[str, Any]:
    """Return what one case costs: seconds of each kind of pass, and each in epochs.

    On the CPU it is measured in a process of its own with as many threads, so that its peak memory
    is its own. ``*_seconds`` as the module says, ``*_epochs`` their ratios to ``epoch_seconds``,
    the evaluation included; ``one_after_another_over_batched`` compares steps of training decoders
    alone. Raises ValueError where that process fails, DataUnavailable, and for a device that is
    none.
    """
    where = resolve_device(device)
    inputs(case, torch.device("cpu"))  # says what is missing, here and before any work
    lines = list(measure(case, where)) if where.type == "cuda" else _apart(case)
    return as_row(lines)


def _apart(case: Case) -> list[dict[str, Any]]:
    path = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {"OMP_NUM_THREADS": str(torch.get_num_threads()), "PYTHONPATH": os.pathsep.join(path)}
    done = subprocess.run(
        [sys.executable, "-m", "mflib.experiment.costs", *case.arguments(), "--device=cpu"],
        env=os.environ | own, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ValueError(f"the costs of {' '.join(case.arguments())} were not measured: {said}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def as_row(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the lines of ``measure`` as one row."""
    found = {line["measured"]: line for line in lines}
    common = (
        "data", "shape", "pixels", "width", "depth", "batch_size", "images", "threads", "device",
        "device_name", "matrix_precision",
    )  # fmt: skip
    apart = found["one after another"]
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


# --- the command line -----------------------------------------------------------------------------


def parser(description: str) -> argparse.ArgumentParser:
    """Return the arguments of a case, and ``--device``."""
    found = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument("--data", default="mnist", help="mnist, cifar10, digits or noise")
    found.add_argument("--side", type=int, help="resize images to side x side")
    found.add_argument("--width", type=int, help="units per layer (default: the pixels)")
    found.add_argument("--depth", type=int, default=Case.depth)
    found.add_argument("--sigma_w2", type=float, default=Case.sigma_w2)
    found.add_argument("--shrinking", action="store_true")
    found.add_argument("--batch", type=int, default=Case.batch_size)
    found.add_argument("--images", type=int, help="images of a whole pass (default: all)")
    found.add_argument("--fit", type=int, default=Case.fit, help="images of the closed form")
    found.add_argument("--steps", type=int, default=Case.steps)
    found.add_argument("--repeats", type=int, default=Case.repeats)
    found.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    return found


def from_options(options: argparse.Namespace) -> Case:
    """Return the case that the command line asked for."""
    return Case(
        data=options.data, shape=SHAPES[options.shrinking], depth=options.depth,
        width=options.width, images=options.images, side=options.side, batch_size=options.batch,
        fit=options.fit, sigma_w2=options.sigma_w2, steps=options.steps, repeats=options.repeats,
    )  # fmt: skip


if __name__ == "__main__":
    asked = parser(str(__doc__).splitlines()[0]).parse_args()
    for each in measure(from_options(asked), asked.device):
        print(json.dumps(each), flush=True)
