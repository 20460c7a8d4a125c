"""The command line: ``mflib run``, ``params``, ``list``, ``convert``, ``check``."""

from __future__ import annotations

import contextlib
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Mean-field theory of deep networks: run and look into the chapters of the book.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Name = Annotated[str, typer.Argument(help="The notebook, as 'mflib list' names it.")]


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"mflib {version('mflib')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


@contextlib.contextmanager
def _bad_input_exits_2() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        print(f"mflib: {error}", file=sys.stderr)
        raise typer.Exit(2) from None


def _assignments(pairs: list[str]) -> dict[str, str]:
    """Return {name: text} of ``name=text`` pairs; ValueError for anything else or a name twice."""
    given: dict[str, str] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        name = name.strip()
        if not (name and equals):
            raise ValueError(f"-p {pair!r} is no name=value: write, for example, -p seed=1")
        if name in given:
            raise ValueError(f"-p {name} is given twice: give it once")
        given[name] = text
    return given


def _stop_on_terminate() -> None:
    """Make SIGTERM end the program as Ctrl-C does, so that the notebook's process ends too."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)


def _plain_unless_terminal(text: str) -> str:
    """Return ``text`` without its colours if it does not go to a terminal."""
    return text if sys.stderr.isatty() else re.sub(r"\x1b\[[0-9;]*m", "", text)


@app.command()
def run(
    name: Name,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", help="name=value; a list is 1,2,3. May be repeated."),
    ] = None,
    profile: Annotated[str, typer.Option(help="The set of parameters to start from.")] = "quick",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Where to write it; notebooks/NAME.ipynb if not given."
        ),
    ] = None,
) -> None:
    """Execute a notebook with checked parameters.

    Exit code 2: something was asked for that is unknown, of a wrong type or out of range; nothing
    was executed or written. Exit code 1: a cell failed; the partly executed notebook is kept.
    """
    from mflib import build, notebooks

    build.follow_parent()
    _stop_on_terminate()
    with _bad_input_exits_2():
        wanted = notebooks.plan(name, profile, _assignments(parameter or []))
        target = notebooks.check_output(output or notebooks.executed(name))
    print(f"{name} ({profile} profile)", file=sys.stderr)
    try:
        notebooks.execute(wanted, target)
    except notebooks.CellError as error:
        print(f"\nThe cell that failed:\n\n{error.source.strip()}\n", file=sys.stderr)
        print(_plain_unless_terminal(error.traceback), file=sys.stderr)
        print(f"\nmflib: {error}\nKept up to there: {error.kept}", file=sys.stderr)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        print("\nmflib: stopped; nothing was written", file=sys.stderr)
        raise typer.Exit(130) from None
    print(f"Written: {target}", file=sys.stderr)
    if output is None and parameter:
        print("The next 'make book' replaces it: keep your own runs with -o.", file=sys.stderr)


@app.command()
def params(name: Name) -> None:
    """Show a notebook's parameters: name, type, default, range, meaning."""
    from mflib import notebooks

    with _bad_input_exits_2():
        known = notebooks.takes(name)
    rows = [(p.name, p.type, repr(p.default), p.range, p.meaning) for p in known.values()]
    _print_table(("name", "type", "default", "range", "meaning"), rows)


def _print_table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, title in enumerate(header):
        table.add_column(title, no_wrap=number == 0, overflow="fold")
    for row in rows:
        table.add_row(*(cell.replace("[", r"\[") for cell in row))
    console = Console()
    if not console.is_terminal:
        # Into a pipe a row must stay one line.
        console.width = 10_000
    console.print(table)


@app.command("list")
def list_notebooks() -> None:
    """List the notebooks and their titles."""
    from mflib import notebooks

    _print_table(("name", "title"), [(n, notebooks.title(n)) for n in notebooks.names()])


@app.command()
def convert(
    name: Name,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write it (.ipynb).")],
) -> None:
    """Write a notebook unexecuted, for Jupyter or plain papermill."""
    from mflib import notebooks

    with _bad_input_exits_2():
        target = notebooks.convert(name, output)
    print(f"Written: {target}", file=sys.stderr)


@app.command()
def check() -> None:
    """Show what computations will use here: device, data, versions, cores, memory."""
    from mflib import check as checks

    _print_table(("what", "found"), checks.findings())
    for advice in checks.advice():
        print(f"\n{advice}")


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
