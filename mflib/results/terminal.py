"""The commands ``mflib results status`` and ``mflib results run``."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from mflib.results.running import pending, run
from mflib.results.tables import status

app = typer.Typer(
    help="The papers' long computations at full scale: how far they are, and running them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@contextlib.contextmanager
def _bad_input_exits_2() -> Iterator[None]:
    from mflib.experiment.data import DataDamaged, DataUnavailable

    try:
        yield
    except (ValueError, DataDamaged, DataUnavailable) as error:
        print(f"mflib: {error}", file=sys.stderr)
        raise typer.Exit(2) from None


Rehearse = Annotated[bool, typer.Option("--rehearse", help="Tiny sizes, into _build/rehearsal.")]


@app.command("status")
def _print_status(rehearse: Rehearse = False) -> None:
    """List every recorded computation: how far, from where, and whether its code has changed."""
    from mflib import cli

    rows = [
        (
            one.name,
            one.shards,
            one.state,
            one.device,
            one.computed,
            one.commit,
            "" if one.seconds is None else f"{one.seconds:g} s",
        )
        for one in status(rehearse=rehearse)
    ]
    header = ("computation", "shards", "state", "device", "date", "commit", "time")
    cli._print_table(header, rows)


@app.command("run")
def _run_from_terminal(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Which; all if none is given.")
    ] = None,
    rehearse: Rehearse = False,
    device: Annotated[str, typer.Option(help="auto, cuda or cpu.")] = "auto",
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Groups side by side.")
    ] = None,
    executor: Annotated[str, typer.Option(help="local, slurm or kubernetes.")] = "local",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Only list what would run.")
    ] = False,
    snakemake: Annotated[str, typer.Option(help="Further options of Snakemake.")] = "",
) -> None:
    """Compute what is missing, the most telling first, and record what is complete.

    Exit code 2: something was asked for that is unknown, or the data are not there; nothing was
    computed. Exit code 1: a group failed or did not finish; the same command goes on.
    """
    from mflib import workflow

    workflow.stop_on_terminate()
    with _bad_input_exits_2():
        if dry_run:
            missing = pending(names or (), rehearse=rehearse, device=device)
            for job in missing:
                print(f"{job.computation} {job.group.name}")
            print(f"Groups to compute: {len(missing)}", file=sys.stderr)
            return
        try:
            code = run(
                names or (), rehearse=rehearse, device=device, jobs=jobs, executor=executor,
                more=shlex.split(snakemake),
            )  # fmt: skip
        except workflow.Busy as busy:
            print(
                f"mflib: these computations are being run already (process {busy.holder}): wait "
                "until they have ended, or stop them",
                file=sys.stderr,
            )
            code = 1
    raise typer.Exit(code)
