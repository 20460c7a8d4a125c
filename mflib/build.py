"""Making the book: what is stale is found by content, Snakemake executes it, one build at a time.

``make book`` calls this module. It may be killed at any moment: notebooks and the finished book
are put in place whole, every process it started ends with it, and its lock dies with it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

from mflib import files, notebooks, paths, workflow

# --- what is stale ----------------------------------------------------------------------


def _inputs_dir() -> Path:
    folder = paths.build() / "inputs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _stamp(name: str, content: dict[str, Any], result: Path, *, fresh: bool) -> Path:
    """Return the file that stands for the content of all inputs of ``result``.

    It is newer than ``result`` exactly if that is not from this content. Snakemake, which compares
    times, then does what a comparison of content asks for, and a ``git checkout``, which only
    alters times, costs nothing. Where work is asked for, the time of asking is in the file too:
    Snakemake overlooks a new time if the file is as it was when it last did the work.
    """
    file = _inputs_dir() / f"{name}.json"
    asked = {} if fresh else {"asked for at": time.time_ns()}
    files.write_json(file, {**content, **asked})
    if fresh:
        done = result.stat().st_mtime_ns
        os.utime(file, ns=(done, done))
    return file


def notebook_stamp(name: str) -> Path:
    """Return the stamp of a chapter at the quick profile. Raises ValueError as `notebooks.plan`."""
    wanted = notebooks.plan(name, "quick")
    result = notebooks.executed(name)
    return _stamp(name, vars(wanted), result, fresh=notebooks.is_fresh(wanted))


def book_files() -> list[Path]:
    """Return the files that the book is made from, apart from the executed notebooks.

    All of the package counts, since pages quote its docstrings.
    """
    root = paths.root()
    found = [p for p in paths.book().rglob("*") if p.is_file() and "_build" not in p.parts]
    found += [root / name for name in ("_config.yml", "_toc.yml", "requirements.lock", "README.md")]
    found += [*paths.results().glob("faults*"), *paths.results().glob("*/table.*")]
    found += [p for p in (root / "mflib").rglob("*") if p.suffix != ".pyc"]
    return [p for p in found if p.is_file()]


def _book_content() -> dict[str, str]:
    """Return the hash of each file that the book is made from, executed notebooks included."""
    ran = [file for name in notebooks.names() if (file := notebooks.executed(name)).is_file()]
    return notebooks.hashes([*book_files(), *ran])


def index() -> Path:
    """Return the first page of the finished book."""
    return paths.build() / "book" / "_build" / "html" / "index.html"


def book_record() -> Path:
    """Return the file, written last, that says what the finished book was made from."""
    return paths.build() / "book.json"


def book_stamp() -> Path:
    """Return the stamp of the book's own inputs."""
    content, record = _book_content(), book_record()
    try:
        fresh = index().is_file() and json.loads(record.read_text(encoding="utf-8")) == content
    except (OSError, ValueError):
        fresh = False
    return _stamp("book", content, record, fresh=fresh)


# --- the HTML ---------------------------------------------------------------------------


def _child(*arguments: str, log: IO[str]) -> None:
    """Run a Python command in the project, its output into ``log``. Raises CalledProcessError."""
    subprocess.run(
        [sys.executable, *arguments],
        cwd=paths.root(),
        env={**os.environ, "MFLIB_FOLLOW_PARENT": "1", "MFLIB_ROOT": str(paths.root())},
        stdout=log,
        stderr=subprocess.STDOUT,
        check=True,
    )


_JUPYTER_BOOK = (
    "from mflib.workflow import follow_parent; follow_parent(); "
    "from jupyter_book.cli.main import main; main()"
)


def html() -> None:
    """Stage the book and build its pages, warnings being errors; put them in place if all is well.

    Always from nothing: Sphinx reports a warning only for pages that it reads again, so a second
    build over the remains of one that failed would pass. Raises RuntimeError with the warnings.
    """
    part, log_file = paths.build() / "book.part", paths.build() / "book.log"
    shutil.rmtree(part, ignore_errors=True)
    made_from = _book_content()
    try:
        with log_file.open("w", encoding="utf-8") as log:
            _child("-m", "mflib.report.pages", "--out", str(part), log=log)
            strictly = ("-W", "-n", "--keep-going")
            build = ("build", str(part), "--path-output", str(part), *strictly)
            _child("-c", _JUPYTER_BOOK, *build, log=log)
    except subprocess.CalledProcessError:
        raise RuntimeError(
            f"the pages could not be built:\n{_complaints(log_file)}\nAll of it is in {log_file}"
        ) from None
    book_record().unlink(missing_ok=True)
    shutil.rmtree(paths.build() / "book", ignore_errors=True)
    part.rename(paths.build() / "book")
    files.write_json(book_record(), made_from)


def _complaints(log_file: Path) -> str:
    """Return the lines of a log that say what is wrong, or else its end."""
    lines = log_file.read_text(encoding="utf-8", errors="replace").splitlines()
    words = ("WARNING", "ERROR", "Error:", "SEVERE")
    wrong = list(dict.fromkeys(line for line in lines if any(word in line for word in words)))
    return "\n".join(wrong[:40] or lines[-20:])


# --- make book --------------------------------------------------------------------------


def _snakemake(*arguments: str) -> None:
    """Run Snakemake in the project. Raises RuntimeError if it fails."""
    os.chdir(paths.root())
    log = paths.build() / "snakemake.log"
    try:
        workflow.snakemake(*arguments, log=log)
    except workflow.Stopped as end:
        why = f":\n{end}" if str(end) else ""
        raise RuntimeError(f"stopped; what is done is kept (see also {log}){why}") from None


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def book(started: float) -> int:
    """Bring the book up to date, print its first page and the time taken; return the exit code.

    ``started`` is when it began, in seconds since the epoch.
    """
    try:
        with workflow.alone(paths.build() / "lock"):
            stale = [n for n in notebooks.names() if not notebooks.is_fresh(notebooks.plan(n))]
            print(f"Notebooks to execute: {', '.join(stale) or 'none'}", flush=True)
            # Our lock stands in for Snakemake's, which a killed run leaves behind. What is there is
            # whole, even if Snakemake was killed before it had noted so.
            options = ["--cores", "all", "--nolock", "--ignore-incomplete", "--scheduler", "greedy"]
            # Whatever a profile of the user's says: it is for their own workflows.
            options += ["--executor", "local", "--profile", "none"]
            _snakemake("book", *options, "--rerun-triggers", "mtime")
    except workflow.Busy as busy:
        print(
            "make book: another 'make book' is at work in this folder (process "
            f"{busy.holder}): wait until it has ended, or stop it",
            file=sys.stderr,
        )
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(
            f"make book: {where}{error.strerror or error}: see that the folder can be written and "
            "has room, and repeat; what is done is kept",
            file=sys.stderr,
        )
        return 1
    except (RuntimeError, ValueError, SyntaxError) as error:
        print(f"make book: {error}", file=sys.stderr)
        return 1
    print(f"Book: {index()}")
    print(f"Time: {_duration(time.time() - started)}")
    return 0


def main(arguments: list[str]) -> int:
    """Do what the Makefile and the Snakefile ask for: ``book [START]`` or ``html``."""
    workflow.follow_parent()
    if arguments == ["html"]:
        try:
            html()
        except (RuntimeError, OSError) as error:
            print(error, file=sys.stderr)
            return 1
        return 0
    if arguments[:1] == ["book"] and len(arguments) <= 2:
        return book(float(arguments[1]) if len(arguments) == 2 else time.time())
    print("usage: python -m mflib.build book [seconds since the epoch] | html", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
