"""What a prediction by reconstruction costs, in epochs of the network; one JSON line each.

    python benchmarks/reconstruction.py [--device cuda] [--depth 100] [--shrinking] [--data mnist]

What is measured, and how: ``mflib.experiment._costs``. The last line of a case compares it with
what is aimed at: a faithful prediction within an epoch, a reduced one within 0.15, the closed form
within 0.05. ``--critical`` adds a search for the critical σ_w², ``--agree`` the cutoffs of each
prediction.

The default takes some minutes on a CPU and less than one on a GPU; ``--rehearse``, or ``--width 64
--depth 40 --side 8 --steps 10 --data digits``, some seconds. ``--data noise`` needs no data.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

import torch
from torch import Tensor

from mflib.experiment import _costs, costs, descent, reconstruction
from mflib.experiment._devices import resolve_device
from mflib.experiment.networks import FullyConnected
from mflib.theory import mean_field

GOALS = {"faithful": 1.0, "reduced": 0.15, "closed-form": 0.05}  # epochs, evaluation included
TINY = ("--data", "digits", "--side", "8", "--width", "16", "--depth", "8", "--images", "640")
TINY += ("--fit", "100", "--steps", "2", "--repeats", "1")


def measure(options: argparse.Namespace) -> None:
    """Measure one case, and what else was asked for."""
    case, device = costs.from_options(options), resolve_device(options.device)
    lines = []
    for line in _costs.measure(case, device):
        lines.append(line)
        print(json.dumps(line), flush=True)
    found = {line["measured"]: line.get("epochs") for line in lines}
    common = {
        name: value
        for name, value in lines[0].items()
        if name not in ("measured", "seconds", "ms_per_step", "peak_mib")
    }

    def report(name: str, **figures: object) -> None:
        print(json.dumps(common | {"measured": name} | figures), flush=True)

    report(
        "goals",
        epochs={name: found[name] for name in GOALS},
        at_most=GOALS,
        reached={name: found[name] <= most for name, most in GOALS.items()},
    )
    if not options.agree and not options.critical:
        return
    dataset = _costs.inputs(case, device)
    precision = "tf32" if device.type == "cuda" else "ieee"
    with descent.matmul_precision(precision):
        if options.agree:

            def drawn(seed: int) -> FullyConnected:
                return _costs.draw(case, dataset.x_train.shape[1], seed, device)

            batch = min(case.batch_size, len(dataset.x_train))
            agreement(drawn, dataset.x_train, dataset.x_test[:400], batch, report)
        if options.critical:
            critical(case, dataset.x_train, device, report)


def agreement(
    drawn: Callable[[int], FullyConnected],
    x: Tensor,
    held: Tensor,
    batch: int,
    report: Callable[..., None],
) -> None:
    """Report the cutoff of three networks after the whole pass, the reduced one, and none."""
    steps = len(x) // batch
    fewer = {"steps": steps // _costs.FEWER, "batch_size": _costs.REDUCED_BATCH}
    fewer["learning_rate"] = _costs.FEWER * _costs.RATE
    for name, images, settings in (
        ("cutoff, faithful", x, {"batch_size": batch}),
        ("cutoff, reduced", x[: fewer["steps"] * _costs.REDUCED_BATCH], fewer),
        ("cutoff, closed-form", x[:4000], {"mode": "closed-form", "steps": steps}),
    ):
        found = reconstruction.predict(
            drawn, torch.cat([images, held]), measure="relative", threshold=0.02, seeds=range(3),
            n_batches=len(held) // 100, progress=False, **settings,
        )  # fmt: skip
        report(name, cutoff=found.cutoff, interval=[round(end, 2) for end in found.interval])


def critical(
    case: _costs.Case, x: Tensor, device: torch.device, report: Callable[..., None]
) -> None:
    """Report the critical σ_w² of a search, beside that of infinite width."""
    exact = float(mean_field.critical_sigma_w2("tanh", 0.05).sigma_w2)
    spent: list[reconstruction.Critical] = []

    def search() -> None:
        spent.append(
            reconstruction.critical_sigma_w2(
                "tanh", 0.05, width=case.width, depth=case.depth,
                images=x[: case.fit + 100], progress=False, device=device,
            )
        )  # fmt: skip

    total = _costs.seconds(search, device)
    found = spent[0]
    report(
        "critical sigma_w2", value=round(found.value, 3), infinite_width=round(exact, 3),
        interval=[round(end, 3) for end in found.interval], predictions=found.n_predictions,
        seconds=round(total, 2),
    )  # fmt: skip


def main() -> None:
    """Read the command line and measure."""
    parser = costs.parser(str(__doc__))
    parser.add_argument("--agree", action="store_true")
    parser.add_argument("--critical", action="store_true")
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes, in a second or two")
    options = parser.parse_args()
    if options.rehearse:
        tiny = vars(parser.parse_args(TINY))
        kept = ("agree", "critical", "device", "shrinking")
        options = argparse.Namespace(**{**tiny, **{name: getattr(options, name) for name in kept}})
    measure(options)


if __name__ == "__main__":
    main()
