"""A sweep and groups of shards on a real Slurm, against the same here."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pipeline.conftest import HERE, Project, wait_for

from mflib import paths, results

from .conftest import TOOL, Slurm

GRID = ("--grid", "sigma_b2=0.1,0.2,0.3", "--grid", "activation=tanh,erf", "--grid", "seed=1,2")
POINTS = 12
# Snakemake asks Slurm after so long; later by ten more where no job has ended since, else the same.
SOON = ("--executor", "slurm", "--snakemake", "--slurm-init-seconds-before-status-checks 5")
FIG2 = "mft-fig2"
# What may differ between two runs of a point, and no more.
OF_A_RUN = ["seconds", "device", "host", "threads", "computed"]


def start(project: Project, runs: Path, more: dict[str, str], *options: str) -> subprocess.Popen:
    """Start the sweep, its output into a file beside the runs."""
    runs.mkdir()
    with (runs / "said").open("w") as said:
        return subprocess.Popen(
            [project.python, "-m", "mflib.cli", "sweep", "alpha", *GRID, "-p", "wait=2", *options],
            cwd=project.root,
            env=project.environment
            | more
            | {"MFLIB_RUNS": str(runs), "MFLIB_TEST_TRACE": str(runs / "trace")},
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def kernels(runs: Path) -> list[int]:
    """Return the processes of the notebooks that were begun, in their order."""
    with contextlib.suppress(OSError):
        return [int(line.split()[1]) for line in (runs / "trace").read_text().splitlines()]
    return []


def job_of(pid: int) -> int | None:
    """Return the Slurm job that a process belongs to, while it runs."""
    with contextlib.suppress(OSError):
        found = re.search(rb"SLURM_JOB_ID=(\d+)", Path(f"/proc/{pid}/environ").read_bytes())
        return int(found[1]) if found else None
    return None


def running(runs: Path) -> int:
    """Wait until a notebook runs in a job of Slurm; return the job."""
    found: list[int] = []

    def look() -> bool:
        # Of those begun, the last has the longest to go.
        found[:] = [job for pid in kernels(runs)[-1:] if (job := job_of(pid))]
        return bool(found)

    wait_for(look, 120)
    return found[0]


def table(runs: Path) -> pa.Table:
    """Return the table of the only sweep, without what may differ between two runs of a point."""
    (file,) = (runs / "alpha" / "sweeps").glob("*/table.parquet")
    return pq.read_table(file).drop_columns(OF_A_RUN)


def test_a_sweep_survives_a_killed_job_and_a_lost_node(
    slurm: Slurm, project: Project, tmp_path: Path
) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    before = slurm.states()
    on_slurm = start(project, there, slurm.environment, *SOON, "--jobs", str(POINTS))
    local = start(project, here, {}, "--jobs", "2")
    try:
        killed = running(there)
        slurm.ask("scancel", str(killed))
        wait_for(lambda: slurm.states()[killed] == "CANCELLED", 60)

        running(there)
        slurm.tool("stop-node")
        assert not (slurm.folder / "run" / "slurmd.pid").exists()
        assert "RUNNING" in slurm.states().values()
        time.sleep(2)
        assert on_slurm.poll() is None
        slurm.tool("start-node")

        codes = on_slurm.wait(400), local.wait(400)
    finally:
        for process in (on_slurm, local):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
    assert codes == (0, 0), (there / "said").read_text() + (here / "said").read_text()

    # Each point once, and that of the killed job once more; each in a job of its own.
    assert len(kernels(there)) == POINTS + 1
    assert len(kernels(here)) == POINTS
    states = {job: state for job, state in slurm.states().items() if job not in before}
    assert states.pop(killed) == "CANCELLED"
    assert list(states.values()) == ["COMPLETED"] * POINTS
    found, expected = table(there), table(here)
    assert expected["outcome"].to_pylist() == ["finished"] * POINTS
    assert expected["ours alpha-sum"].to_pylist()[:2] == [0.1 + 4 + 1, 0.1 + 4 + 2]
    assert found.equals(expected)


def test_groups_of_shards_make_the_same_table(
    slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_sources = shutil.ignore_patterns("__pycache__", "static")
    shutil.copytree(HERE / "mflib", tmp_path / "project" / "mflib", ignore=no_sources)
    (tmp_path / "project" / "notebooks").mkdir()
    shutil.copy(HERE / "notebooks" / "resources.yaml", tmp_path / "project" / "notebooks")
    monkeypatch.setenv("MFLIB_ROOT", str(tmp_path / "project"))
    monkeypatch.setenv("MFLIB_CACHE", str(tmp_path / "here"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("MFLIB_DATA", raising=False)
    results.computation.cache_clear()
    groups = results.groups(FIG2, rehearse=True)
    for group in groups:
        results.compute_group(FIG2, group.name, rehearse=True, device="cpu", progress=False)
    file = results.collect(FIG2, rehearse=True)
    assert file is not None
    expected = file.read_bytes()
    shutil.rmtree(paths.build())

    before = slurm.states()
    done = subprocess.run(
        [sys.executable, "-c", "from mflib.results.terminal import app; app()",
         "run", FIG2, "--rehearse", "--device", "cpu", *SOON],
        env=os.environ | slurm.environment | {"MFLIB_CACHE": str(tmp_path / "there")},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    states = [state for job, state in slurm.states().items() if job not in before]
    assert states == ["COMPLETED"] * len(groups)
    assert file.read_bytes() == expected


def test_the_scratch_slurm_is_refused_or_taken_down_whole(slurm: Slurm, tmp_path: Path) -> None:
    def call(*arguments: str, path: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, str(TOOL), *arguments], env=os.environ | {"PATH": path},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout

    # Again is not twice; what is not ours stays; a start that fails leaves nothing.
    assert slurm.tool("start") == slurm.tool("start")
    own = tmp_path / "own"
    own.mkdir()
    (own / "file").write_text("mine")
    path = os.environ["PATH"]
    for what in ("start", "stop", "stop-node"):
        code, said = call(what, str(own), path=path)
        assert code == 2
        assert said.count("\n") == 1
    assert [file.name for file in own.iterdir()] == ["file"]
    fake = tmp_path / "fake"
    fake.mkdir()
    (fake / "slurmd").write_text("#!/bin/sh\necho no luck >&2\nexit 1\n")
    (fake / "slurmd").chmod(0o755)
    code, said = call("start", str(tmp_path / "s"), path=f"{fake}{os.pathsep}{path}")
    assert code == 1
    assert "slurmd did not start:\nno luck" in said
    assert not (tmp_path / "s").exists()
    here = str(tmp_path / "s").encode()
    commands = [file.read_bytes() for file in Path("/proc").glob("[0-9]*/cmdline")]
    assert not [command for command in commands if here in command and b"munged" in command]
    code, said = call("start", str(tmp_path / "s"), path=str(tmp_path))
    assert code == 2
    assert "apt install --no-install-recommends slurm-wlm munge" in said
