"""Kill -9 at random moments, the same command again until done: the final tables are the same."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
from pipeline.conftest import (
    Project,
    make_project,
    results,
    wait_for,
    whole_or_absent,
    with_stand_in,
)

from mflib import files
from mflib.experiment.store import Store
from mflib.sweep import runs

from .conftest import HERE, Counts

KIND = "kill -9 at a random moment"
MARK = "MFLIB_TEST_WORK"  # in the environment of all that a work starts: which work it belongs to
PATIENCE = 15.0  # seconds until the last process of a killed work has ended

# --- what is killed, and how ---------------------------------------------------------------------


@dataclass
class Work:
    """A command that brings something about, and what is to be seen of it on disk."""

    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str]
    scratch: Path
    anew: Callable[[], None]  # take away what it made
    sound: Callable[[], None]  # check that what stands is whole
    table: Callable[[str], Any]  # what it ended with, given all that it said
    kept: Callable[[], dict[str, Any]] = dict  # what must not be made a second time, by name

    def start(self) -> subprocess.Popen[str]:
        """Start it in a process group of its own; what it says goes to a file."""
        for name in ("tmp", "jupyter"):
            (self.scratch / name).mkdir(parents=True, exist_ok=True)
        with (self.scratch / "said").open("w") as said:
            return subprocess.Popen(
                list(self.command),
                cwd=self.folder,
                env={
                    **self.environment,
                    MARK: str(self.scratch),
                    "TMPDIR": str(self.scratch / "tmp"),
                    "JUPYTER_RUNTIME_DIR": str(self.scratch / "jupyter"),
                },
                stdout=said,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )

    def end(self) -> Any:
        """Run it to its end and return its table."""
        process = self.start()
        code = process.wait(timeout=600)
        assert code == 0, self.said()
        self.sound()
        return self.table(self.said())

    def said(self) -> str:
        """Return all that the last run said."""
        return (self.scratch / "said").read_text()

    def processes(self) -> list[psutil.Process]:
        """Return all that it started and that is not dead, whatever group it has moved to."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == str(self.scratch) and is_alive(process):
                    found.append(process)
            except psutil.Error:
                continue  # another's, or gone while we asked
        return found


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill_main(process: subprocess.Popen[str], _: Sequence[psutil.Process]) -> None:
    """Kill the command alone: what it started must end by itself."""
    os.kill(process.pid, signal.SIGKILL)


def kill_group(process: subprocess.Popen[str], _: Sequence[psutil.Process]) -> None:
    """Kill its process group, which a notebook's process is not in: that must end by itself."""
    os.killpg(process.pid, signal.SIGKILL)


def kill_all(process: subprocess.Popen[str], all_of_it: Sequence[psutil.Process]) -> None:
    """Kill all of it, as a power cut or the end of a cluster's job does."""
    os.killpg(process.pid, signal.SIGKILL)
    for one in all_of_it:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()


WAYS = (kill_main, kill_group, kill_all)


def put_to_death(work: Work, kills: int, *, seed: int) -> None:
    """Kill a work ``kills`` times, and let the same command go on after each.

    The moments are uniform over the time that an undisturbed run took, but for one, which is when
    something has just been finished and may not have been noted by whoever asked for it. The next
    run begins at once, while what the killed one left running may still be there. Few kills come
    one after the other before the work may end; of many, each meets it with all before it.
    """
    work.anew()
    began = time.monotonic()
    expected = work.end()
    duration = time.monotonic() - began
    assert expected

    draws, ways = random.Random(seed), itertools.cycle(WAYS)
    moments: list[float | None] = [draws.uniform(0, duration) for _ in range(kills)]
    few = kills <= len(WAYS)
    if work.kept():
        moments[kills - 1 if few else kills :] = [None]
    late = 0
    left: list[psutil.Process] = []  # of all that was killed
    work.anew()
    while moments:
        process = work.start()
        if moments[0] is None:
            wait_for(lambda process=process: work.kept() or process.poll() is not None, 120)
        else:
            time.sleep(moments[0])
        if process.poll() is not None:
            late += 1  # it was quicker this time: that was no kill
            assert late <= 2 + kills, "most runs are over before the moment of their kill"
            moments[0] = draws.uniform(0, duration)
            work.anew()
            continue
        del moments[0]
        all_of_it = work.processes()
        left.extend(all_of_it)
        next(ways)(process, all_of_it)
        process.wait()
        work.sound()
        kept = work.kept()
        if few and moments:
            continue
        assert work.end() == expected
        wait_for(lambda left=left: not any(map(is_alive, left)), PATIENCE)
        # Whatever an orphan might still have written, it has written by now.
        work.sound()
        assert work.table(work.said()) == expected
        assert {name: work.kept().get(name) for name in kept} == kept, "made a second time"
        work.anew()


def times_written(files: Iterator[Path]) -> dict[str, int]:
    return {str(file): file.stat().st_mtime_ns for file in files}


# --- one file -------------------------------------------------------------------------------------


def killed_before(step: int, write: Callable[[], object]) -> bool:
    """Write in a process that is killed before its ``step``-th call that changes a folder or disk.

    Returns whether it came to that: not if it ends after fewer such calls.
    """
    child = os.fork()
    if child == 0:
        calls = itertools.count()

        def deadly(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                if next(calls) == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments, **options)

            return call

        try:
            for name in ("open", "fsync", "replace"):
                setattr(os, name, deadly(getattr(os, name)))
            write()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def test_a_file_whose_writer_is_killed_at_any_step_is_whole_or_absent(tmp_path, fault) -> None:
    store, key = Store(tmp_path / "shards"), {"depth": 3}
    old, new = {"accuracy": np.arange(3.0)}, {"accuracy": np.arange(5.0)}
    text = tmp_path / "executed.ipynb"
    times = 0

    def both() -> None:
        store.write(key, new)
        files.write_atomically(text, "new " * 1000)

    for before in (None, old):
        for step in itertools.count():
            shutil.rmtree(store.root, ignore_errors=True)
            text.unlink(missing_ok=True)
            if before is not None:
                store.write(key, before)
                text.write_text("old")
            if not killed_before(step, both):
                break
            times += 1
            found = store.get(key)  # a warning, and thus an error here, where it is damaged
            known = [each["accuracy"].tolist() for each in (before, new) if each is not None]
            if before is not None or found is not None:
                assert found["accuracy"].tolist() in known
            assert not text.exists() or text.read_text() in ("old", "new " * 1000)
            for half in store.root.rglob("*.part"):
                assert half.name.startswith(".")  # what no pattern for finished files finds
                os.utime(half, (time.time(), time.time() - 25 * 3600))
            both()
            assert store.get(key)["accuracy"].tolist() == new["accuracy"].tolist()
            assert not list(store.root.rglob("*.part")), "kept for ever"
    assert times >= 2 * 10
    fault(
        kind="kill -9 between two steps", target="one file", times=times, outcome="whole or absent"
    )


def test_a_half_written_file_of_today_is_left_to_its_writer(tmp_path) -> None:
    store, key = Store(tmp_path), {"depth": 3}
    store.write(key, {"accuracy": np.arange(3.0)})
    half = store.record_path(key).with_name(".one.part")
    half.write_bytes(b"on its way")
    store.write(key, {"accuracy": np.arange(3.0)})
    assert half.exists()


# --- a grid --------------------------------------------------------------------------------------

GRID = """
import sys

from mflib.experiment.store import Store
from mflib.experiment.training import Grid, trainability

grid = Grid(
    sigma_w2=(1.2, 1.76, 2.5),
    depths=(3, 5, 8, 12),
    seeds=(0, 1),
    width=60,
    dataset="digits",
    batch_size=32,
    steps=40,
    learning_rate=1e-2,
)
table = trainability(grid, store=Store(sys.argv[1]), device="cpu", progress=False)
print(table.to_csv(index=False))  # every digit
"""


def test_a_killed_grid_goes_on_and_ends_the_same(tmp_path, counts: Counts, fault) -> None:
    root = tmp_path / "shards"

    def anew() -> None:
        for file in root.rglob("*.*"):
            file.unlink()

    def records() -> list[Path]:
        return sorted(root.glob("*/[!.]*.json"))

    def sound() -> None:
        for file in records():
            record = json.loads(file.read_text())
            assert len(Store(root).read(record["key"])) == 3  # its checksum is checked here
        whole = {file.with_suffix("").stem for file in root.glob("*/[!.]*.*")}
        assert all(re.fullmatch("[0-9a-f]{32}", name) for name in whole), whole

    work = Work(
        command=[sys.executable, "-c", GRID, str(root)],
        folder=tmp_path,
        environment={**os.environ, "PYTHONPATH": str(HERE)},
        scratch=tmp_path / "work",
        anew=anew,
        sound=sound,
        table=lambda said: said,
        kept=lambda: times_written(iter(records())),
    )
    put_to_death(work, counts.kills, seed=1)
    fault(kind=KIND, target="grid", times=counts.kills, outcome="same table, nothing twice")


# --- a notebook ----------------------------------------------------------------------------------


def notebook_without_times(file: Path) -> dict[str, Any]:
    """Return an executed notebook, without how long it and its figures took."""
    text = file.read_text(encoding="utf-8")
    # In words too, in the line under a figure and in the sentence under a certificate.
    text = re.sub(r"(· |in )[0-9.e-]+ s\b", r"\1some s", text)
    notebook = json.loads(text)
    assert len(notebook["metadata"]["mflib"]["digest"]) == 16
    for name in ("seconds", "content_sha256"):
        notebook["metadata"]["mflib"].pop(name, None)
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if "mflib" in output.get("metadata", {}):
                output["metadata"]["mflib"].get("provenance", {}).pop("seconds", None)
    return notebook


def is_whole(file: Path) -> None:
    """Check that an executed notebook is absent, or finished to its last cell."""
    if file.exists():
        code = [cell for cell in notebook_without_times(file)["cells"] if "outputs" in cell]
        assert code
        assert all(cell["execution_count"] for cell in code)


def run_of(root: Path, environment: dict[str, str], name: str, scratch: Path) -> Work:
    """Return the execution of one notebook into a folder of its own."""
    out = scratch / "out" / "executed.ipynb"
    out.parent.mkdir(parents=True)

    def sound() -> None:
        is_whole(out)
        assert [p for p in out.parent.iterdir() if not p.name.startswith(".")] in ([], [out])

    return Work(
        command=[sys.executable, "-m", "mflib.cli", "run", name, "-o", str(out)],
        folder=root,
        environment=environment,
        scratch=scratch,
        anew=lambda: out.unlink(missing_ok=True),
        sound=sound,
        table=lambda _: notebook_without_times(out),
    )


def test_a_killed_notebook_is_run_again_and_ends_the_same(tmp_path, counts: Counts, fault) -> None:
    project = make_project(tmp_path / "project", ["alpha"])
    work = run_of(project.root, project.environment, "alpha", tmp_path / "work")
    put_to_death(work, counts.kills, seed=2)
    fault(kind=KIND, target="notebook", times=counts.kills, outcome="same notebook")


def test_a_killed_chapter_is_run_again_and_ends_the_same(tmp_path, counts: Counts, fault) -> None:
    if counts.kills < 20:
        pytest.skip("minutes long: with MFLIB_FAULTS=full only")
    work = run_of(HERE, dict(os.environ), "sigmoid-theorem", tmp_path / "work")
    put_to_death(work, counts.kills, seed=3)
    fault(kind=KIND, target="chapter", times=counts.kills, outcome="same notebook, figures too")


# --- make book -----------------------------------------------------------------------------------


def build_of(project: Project, scratch: Path) -> Work:
    """Return the making of the small project's book, as make starts it."""

    def anew() -> None:
        for file in (*project.root.glob("notebooks/*.ipynb"), project.root / "_build/book.json"):
            file.unlink(missing_ok=True)

    def sound() -> None:
        whole_or_absent(project)

    command = f"MFLIB_FOLLOW_PARENT=1 {sys.executable} -m mflib.build book; exit $?"
    return Work(
        command=["sh", "-c", command],
        folder=project.root,
        environment=project.environment,
        scratch=scratch,
        anew=anew,
        sound=sound,
        table=lambda _: results(project),
        kept=lambda: times_written(project.root.glob("notebooks/*.ipynb")),
    )


def test_a_killed_make_book_goes_on_and_ends_the_same(tmp_path, counts: Counts, fault) -> None:
    project = with_stand_in(make_project(tmp_path / "project"))
    put_to_death(build_of(project, tmp_path / "work"), counts.kills, seed=4)
    fault(kind=KIND, target="make book", times=counts.kills, outcome="same book, nothing twice")


# --- a sweep --------------------------------------------------------------------------------------

OF_THIS_TIME = ["seconds", "computed", "host", "threads"]


def sweep_of(project: Project, seeds: Sequence[int], scratch: Path) -> Work:
    """Return a sweep over seeds and two activations, two runs at a time."""
    runs_of_alpha = project.root / "runs" / "alpha"

    def outcomes() -> list[Path]:
        return sorted(runs_of_alpha.glob("[!.]*.json"))

    def sound() -> None:
        for file in outcomes():
            record = runs.sound(file)
            assert record is not None, f"{file} is not sound"
            assert record["outcome"] == runs.FINISHED
        for file in runs_of_alpha.glob("[!.]*.ipynb"):
            is_whole(file)
        for file in runs_of_alpha.glob("sweeps/*/[!.]*.parquet"):
            assert len(pd.read_parquet(file)) == 2 * len(seeds)
        for file in runs_of_alpha.glob("sweeps/*/[!.]*.json"):
            json.loads(file.read_text())

    def table(_: str) -> dict[str, Any]:
        (file,) = runs_of_alpha.glob("sweeps/*/table.parquet")
        frame = pd.read_parquet(file)
        assert list(frame["outcome"]) == ["finished"] * 2 * len(seeds)
        executed = [notebook_without_times(file.parent / name) for name in frame["notebook"]]
        return {"table": frame.drop(columns=OF_THIS_TIME).to_csv(), "notebooks": executed}

    given = ("--grid", f"seed={','.join(map(str, seeds))}", "--grid", "activation=tanh,erf")
    return Work(
        command=[sys.executable, "-m", "mflib.cli", "sweep", "alpha", *given, "--jobs", "2"],
        folder=project.root,
        environment=project.environment,
        scratch=scratch,
        anew=lambda: shutil.rmtree(project.root / "runs", ignore_errors=True),
        sound=sound,
        table=table,
        kept=lambda: times_written(iter(outcomes())),
    )


def test_a_killed_sweep_goes_on_and_ends_the_same(tmp_path, counts: Counts, fault) -> None:
    project = make_project(tmp_path / "project", ["alpha"])
    seeds = [1, 2, 3] if counts.kills >= 20 else [1]
    put_to_death(sweep_of(project, seeds, tmp_path / "work"), counts.kills, seed=5)
    fault(kind=KIND, target="sweep", times=counts.kills, outcome="same table, nothing twice")
