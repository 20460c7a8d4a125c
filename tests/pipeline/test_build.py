"""``make book``: what it executes and what it leaves alone, killed and not, alone and not."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import Project, is_running, make_project, results, wait_for, with_stand_in


@pytest.fixture
def quick(project: Project) -> Project:
    """Return the project with a stand-in for Jupyter Book."""
    return with_stand_in(project)


def made(project: Project) -> list[str]:
    """Bring the book up to date; return which chapters were executed for it."""
    code, said = project.book()
    assert code == 0, said
    assert said.splitlines()[-2] == f"Book: {project.root}/_build/book/_build/html/index.html"
    assert said.splitlines()[-1].startswith("Time: ")
    return project.executed()


def test_only_what_depends_on_a_change_is_executed(quick: Project) -> None:
    root = quick.root
    assert sorted(made(quick)) == ["alpha", "beta"]

    stamp = (root / "_build" / "book.json").stat().st_mtime_ns
    began = time.monotonic()
    assert made(quick) == []
    assert time.monotonic() - began < 20
    assert (root / "_build" / "book.json").stat().st_mtime_ns == stamp, "the pages were built again"

    # New times, as after a git checkout, mean nothing; of the content, only alpha's is new.
    later = time.time() + 60
    quick.edit("mflib/alpha_theory.py", "VALUE = BASE + 1", "VALUE = BASE + 2")
    locked = root / "requirements.lock"
    for file in (*root.glob("mflib/*.py"), *root.glob("notebooks/*.py"), locked):
        os.utime(file, (later, later))
    assert made(quick) == ["alpha"]
    assert " 3\\n" in (root / "notebooks" / "alpha.ipynb").read_text()

    quick.edit("notebooks/profiles/quick.yaml", "beta: {}", "# more bias\nbeta:\n  sigma_b2: 1e-3")
    assert made(quick) == ["beta"]

    quick.edit("mflib/shared.py", "BASE = 1", "BASE = 2")
    assert sorted(made(quick)) == ["alpha", "beta"]

    (root / "mflib" / "unused.py").write_text("NOTHING = 0\n")
    quick.edit("book/index.md", "Words.", "Other words.")
    assert made(quick) == []
    assert "Other words." in results(quick)["index.md"]

    # A notebook run with other parameters is not the book's; nor is one from other tables.
    assert quick.mflib("run", "alpha", "-p", "seed=3")[0] == 0
    quick.executed()
    (root / "results").mkdir()
    (root / "results" / "beta-grid.csv").write_text("1,2\n")
    assert sorted(made(quick)) == ["alpha", "beta"]


def test_a_failing_chapter_stops_the_book_and_is_done_again(quick: Project) -> None:
    quick.edit("notebooks/profiles/quick.yaml", "beta: {}", "beta:\n  broken: true")
    code, said = quick.book()
    assert code == 1
    assert "RuntimeError: broken on purpose" in said
    assert not (quick.root / "_build" / "book.json").exists()
    assert (quick.root / "notebooks" / "beta.failed.ipynb").exists()
    done_already = "alpha" in quick.executed() and (quick.root / "notebooks/alpha.ipynb").exists()
    quick.edit("notebooks/profiles/quick.yaml", "broken: true", "broken: false")
    assert sorted(made(quick)) == (["beta"] if done_already else ["alpha", "beta"])
    assert not (quick.root / "notebooks" / "beta.failed.ipynb").exists()


def test_what_cannot_be_planned_is_one_sentence(quick: Project) -> None:
    quick.edit("notebooks/profiles/quick.yaml", "beta: {}", "beta:\n  sigma_b: 1")
    code, said = quick.book()
    assert code == 1
    assert "make book: profile quick, notebook beta: no parameter 'sigma_b'" in said
    assert "Traceback" not in said
    assert quick.executed() == []


def start_under_a_shell(project: Project) -> subprocess.Popen[str]:
    """Start a build as make does: from a process that can be killed without it."""
    command = f"MFLIB_FOLLOW_PARENT=1 {sys.executable} -m mflib.build book; true"
    return subprocess.Popen(
        ["sh", "-c", command],
        cwd=project.root,
        env=project.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def test_a_killed_make_takes_all_with_it_and_what_was_done_stays_done(quick: Project) -> None:
    quick.edit("notebooks/profiles/quick.yaml", "beta: {}", "beta:\n  wait: 60")
    build = start_under_a_shell(quick)
    # Whichever chapter comes first, beta waits: kill while it does.
    wait_for(lambda: "beta" in quick.trace.read_text(), 60)
    kernel = int(quick.trace.read_text().split()[-1])
    os.kill(build.pid, signal.SIGKILL)
    build.wait()
    wait_for(lambda: not is_running(kernel), 10)
    assert not (quick.root / "notebooks" / "beta.ipynb").exists()
    alpha_is_done = (quick.root / "notebooks" / "alpha.ipynb").exists()
    quick.executed()
    quick.edit("notebooks/profiles/quick.yaml", "wait: 60", "wait: 0")
    assert sorted(made(quick)) == (["beta"] if alpha_is_done else ["alpha", "beta"])


def test_ctrl_c_ends_a_build_in_one_sentence(quick: Project) -> None:
    quick.edit("notebooks/profiles/quick.yaml", "alpha: {}", "alpha:\n  wait: 60")
    quick.edit("notebooks/profiles/quick.yaml", "beta: {}", "beta:\n  wait: 60")
    build = quick.start("mflib.build", "book")
    wait_for(quick.trace.read_text, 60)
    kernel = int(quick.trace.read_text().split()[-1])
    os.killpg(build.pid, signal.SIGINT)  # what a terminal does
    said, _ = build.communicate(timeout=30)
    assert build.returncode == 1
    assert "make book: stopped; what is done is kept" in said
    assert "Traceback" not in said
    wait_for(lambda: not is_running(kernel), 10)


def test_two_builds_at_once_exclude_each_other(quick: Project) -> None:
    quick.edit("notebooks/profiles/quick.yaml", "alpha: {}", "alpha:\n  wait: 4")
    quick.edit("mflib/workflow.py", "PATIENCE = 5.0", "PATIENCE = 0.5")
    first = quick.start("mflib.build", "book")
    wait_for(quick.trace.read_text, 60)
    code, said = quick.book()
    assert code == 1
    assert f"another 'make book' is at work in this folder (process {first.pid})" in said
    assert "Traceback" not in said
    said_first, _ = first.communicate(timeout=120)
    assert first.returncode == 0, said_first
    assert sorted(quick.executed()) == ["alpha", "beta"]
    assert made(quick) == []


def test_jupyter_book_builds_it_and_a_warning_is_an_error_every_time(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project", ["alpha"])
    assert made(project) == ["alpha"]
    pages = project.root / "_build" / "book" / "_build" / "html"
    assert "The alpha chapter" in (pages / "alpha.html").read_text()
    finished = (pages / "index.html").read_bytes()
    project.edit("book/index.md", "Words.", "[Words](nowhere.md).")
    for _ in range(2):
        code, said = project.book()
        assert code == 1
        assert "cross-reference target not found: 'nowhere.md'" in said
    assert (pages / "index.html").read_bytes() == finished, "the book that was is kept"
    project.edit("book/index.md", "[Words](nowhere.md).", "Words.")
    assert made(project) == []


def test_a_path_may_have_spaces(tmp_path: Path) -> None:
    """Both the project's and that of the Python of its environment, which lies in it."""
    project = make_project(tmp_path / "a project (mine)", ["alpha"])
    environment = project.root / ".venv of mine"
    environment.symlink_to(sys.prefix)
    python = environment / Path(sys.executable).relative_to(sys.prefix)
    spaced = dataclasses.replace(project, python=str(python))
    assert made(spaced) == ["alpha"]
    assert (
        "The alpha chapter"
        in (project.root / "_build" / "book" / "_build" / "html" / "alpha.html").read_text()
    )
    assert made(spaced) == []


def test_snakemake_alone_knows_what_to_do(quick: Project) -> None:
    code, said = quick.call("snakemake", "--cores", "1", "--nolock", "-n")
    assert code == 0, said
    assert quick.executed() == []
    for name in ("alpha", "beta"):
        assert f"rule notebook_{name}" in said
        stamp = json.loads((quick.root / "_build" / "inputs" / f"{name}.json").read_text())
        assert f"mflib/{name}_theory.py" in stamp["files"]


LOCKS = ("requirements.lock", "requirements-classroom.lock", "requirements-cluster.lock")


def test_the_stamp_of_the_environment_follows_lock_project_and_place(tmp_path: Path) -> None:
    here = Path(__file__).resolve().parents[2]
    for place in ("one", "two"):
        (tmp_path / place / "tools").mkdir(parents=True)
        for name in (*LOCKS, "pyproject.toml", "tools/environment.py"):
            (tmp_path / place / name).write_bytes((here / name).read_bytes())
    probe = (
        "import json, sys; sys.path.insert(0, 'tools'); import environment; "
        "print(json.dumps(environment.wanted(list(environment.LOCKS))))"
    )

    def wanted(place: str) -> dict[str, str]:
        done = subprocess.run(
            [sys.executable, "-B", "-c", probe],
            cwd=tmp_path / place,
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout)

    def changed(before: dict[str, str]) -> set[str]:
        return {part for part, digest in wanted("one").items() if digest != before[part]}

    first = wanted("one")
    assert changed(first) == set()
    assert wanted("two").items().isdisjoint(first.items())
    # The others are added to the book's packages, and the book needs nothing of them.
    everything = {"book", "classroom", "cluster"}
    for name, parts in zip(LOCKS, (everything, {"classroom"}, {"cluster"}), strict=True):
        before, lock = wanted("one"), tmp_path / "one" / name
        lock.write_text(lock.read_text() + "more==1\n")
        assert changed(before) == parts


def test_an_environment_without_its_mark_is_made_anew(tmp_path: Path) -> None:
    """A half-made one, as a killed setup leaves it, is not taken for whole."""
    here = Path(__file__).resolve().parents[2]
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "environment.py").write_bytes(
        (here / "tools" / "environment.py").read_bytes()
    )
    # Nothing to install but the project itself, which is a module and needs no network.
    (tmp_path / "requirements.lock").write_text("")
    (tmp_path / "pyproject.toml").write_text("")
    half = tmp_path / ".venv" / "bin"
    half.mkdir(parents=True)
    (half / "python").write_text("#!/bin/sh\nexit 1\n")
    (half / "python").chmod(0o755)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "tools" / "environment.py")],
        capture_output=True,
        text=True,
        check=False,
    )
    version = subprocess.run(
        [str(half / "python"), "--version"], capture_output=True, text=True, check=True
    )
    assert version.stdout.startswith("Python 3")
    # Without a build system in it the project cannot be installed; then there must be no mark.
    assert done.returncode != 0
    assert "The installation failed" in done.stderr
    assert not (tmp_path / ".venv" / "complete").exists()
