"""The command line: ``mflib run``, ``sweep``, ``results``, ``params``, ``list``, ``convert``,
``check``."""

from __future__ import annotations

import contextlib
import errno
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mflib.results.terminal import app as results_app

if TYPE_CHECKING:
    from mflib.sweep.launch import Work

app = typer.Typer(
    help="Mean-field theory of deep networks: run and look into the chapters of the book.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(results_app, name="results")

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
        print(f"mflib: {_in_one_line(str(error))}", file=sys.stderr)
        raise typer.Exit(2) from None


def _in_one_line(text: str) -> str:
    """Return ``text`` for a terminal, whatever was typed: line ends and colours are written out,
    and words of more than 300 characters lose their middle."""
    visible = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return re.sub(r"\S{300,}", lambda word: f"{word[0][:80]}…{word[0][-20:]}", visible)


_STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


@contextlib.contextmanager
def _full_disk_exits_1(place: Path) -> Iterator[None]:
    """Say in one sentence what could not be read or written while work was done.

    ``place`` is where it goes, named where the system does not say which file it was.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _STORAGE:
            where = error.filename or f"{place} or {tempfile.gettempdir()}"
            why = f"{where}: {error.strerror}: make room there, or name another folder"
        else:
            why = str(error)
        print(f"mflib: {_in_one_line(why)}", file=sys.stderr)
        raise typer.Exit(1) from None


def _assignments(pairs: list[str], option: str = "-p", example: str = "seed=1") -> dict[str, str]:
    """Return {name: text} of ``name=text`` pairs; ValueError for anything else or a name twice."""
    from mflib.parameters import shown

    given: dict[str, str] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        name = name.strip()
        if not (name and equals):
            raise ValueError(
                f"{option} {shown(pair)} is no name=value: write, for example, {option} {example}"
            )
        if name in given:
            raise ValueError(f"{option} {shown(name)} is given twice: give it once")
        given[name] = text
    return given


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
    from mflib import notebooks, workflow

    workflow.follow_parent()
    workflow.stop_on_terminate()
    with _bad_input_exits_2():
        wanted = notebooks.plan(name, profile, _assignments(parameter or []))
        target = notebooks.check_output(output or notebooks.executed(name))
    print(f"{name} ({profile} profile)", file=sys.stderr)
    try:
        with _full_disk_exits_1(target.parent):
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
def sweep(
    what: Annotated[
        str, typer.Argument(help="The notebook, as 'mflib list' names it, or a YAML file.")
    ],
    grid: Annotated[
        list[str] | None,
        typer.Option(
            "--grid",
            "-g",
            help="name=first,second or name=linspace(low,high,n) or name=logspace(low,high,n); "
            "values that are lists are parted by ';'. May be repeated: every combination runs.",
        ),
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", help="name=value, the same in every run."),
    ] = None,
    profile: Annotated[
        str | None, typer.Option(help="The set of parameters to start from; quick if not given.")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs", "-j", help="How many runs side by side; as many as fit if not given."
        ),
    ] = None,
    show: Annotated[
        str | None, typer.Option(help="The result that the figure shows: a claim's or figure's id.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="List what would run.")] = False,
    again: Annotated[bool, typer.Option(help="Run again what failed.")] = False,
    executor: Annotated[str, typer.Option(help="local, slurm or kubernetes.")] = "local",
    snakemake: Annotated[
        str, typer.Option(help="Further options for Snakemake, as one text.")
    ] = "",
) -> None:
    """Execute a notebook at many points, none twice; the same command goes on after a stop.

    Exit code 2: something was asked for that is unknown, of a wrong type or out of range; nothing
    was executed or written. Exit code 1: runs failed or did not finish; the others did.
    """
    import shlex

    from mflib import paths, workflow
    from mflib.sweep import figure, launch, points

    workflow.follow_parent()
    workflow.stop_on_terminate()
    workflow.settle()
    with _full_disk_exits_1(paths.runs()), _bad_input_exits_2():
        try:
            more = shlex.split(snakemake)
        except ValueError as error:
            raise ValueError(f"--snakemake {snakemake!r}: {error}: close it") from None
        launch.check_executor(executor)
        if jobs is not None and jobs < 1:
            raise ValueError(f"--jobs {jobs} is no number of runs: give 1 or more")
        if what.endswith((".yaml", ".yml")):
            if grid or parameter or profile:
                raise ValueError(f"{what} says which points: leave --grid, -p and --profile out")
            asked = points.from_file(Path(what), show=show)
        else:
            asked = points.from_options(
                what,
                _assignments(grid or [], "--grid", "seed=0,1,2"),
                profile=profile or "quick",
                fixed=_assignments(parameter or []),
                show=show,
            )
        if asked.show is not None:
            figure.check_show(asked.show, asked.notebook, paths.runs())
        work = launch.prepare(asked, executor=executor)
        if work.bad:
            for bad in work.bad:
                print(f"mflib: {_in_one_line(f'{bad.point}: {bad.why}')}", file=sys.stderr)
            total = len(work.bad) + len(work.plans)
            raise ValueError(f"{len(work.bad)} of {total} points cannot be run; none was begun")
        if dry_run:
            _print_points(work, again)
            return
        options = launch.ready(executor, more)
    with _full_disk_exits_1(paths.runs()):
        try:
            code = launch.run(
                work,
                options,
                # as it was typed, whatever bytes the names of files have
                command=shlex.join(["mflib", *sys.argv[1:]])
                .encode("utf-8", "backslashreplace")
                .decode(),
                jobs=jobs,
                more=more,
                again=again,
            )
        except workflow.Busy as busy:
            print(
                f"mflib: this sweep is at work already (process {busy.holder}): wait until it has "
                "ended, or stop it",
                file=sys.stderr,
            )
            code = 1
        except KeyboardInterrupt:
            print("\nmflib: stopped; what is done is kept", file=sys.stderr)
            code = 130
    raise typer.Exit(code)


def _print_points(work: Work, again: bool) -> None:
    states = work.states()
    if again:
        states = {d: s if s and s["outcome"] == "finished" else None for d, s in states.items()}
    rows = []
    for number, plan in enumerate(work.plans, 1):
        state = states[plan.point()]
        said = "to run" if state is None else f"done ({state['outcome']})"
        rows.append((str(number), *(str(plan.values[name]) for name in work.varied()), said))
    _print_table(("", *work.varied(), "state"), rows)
    left = sum(state is None for state in states.values())
    print(f"{left} of {len(rows)} to run, in {work.folder}")


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
