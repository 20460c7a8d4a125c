"""A Slurm of this machine alone, and the small project that is swept."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pipeline.conftest import HERE, Project, make_project

TOOL = HERE / "tools" / "slurm.py"
WHERE_DAEMONS_ARE = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin"])


def require(executor: str, *programs: str) -> None:
    """Skip where programs or Snakemake's plugin are not installed; fail where they must be."""
    absent = [name for name in programs if not shutil.which(name, path=WHERE_DAEMONS_ARE)]
    if absent:
        reason = f"no {', '.join(absent)} here: install the packages slurm-wlm, munge and rsync"
    elif importlib.util.find_spec(f"snakemake_executor_plugin_{executor}") is None:
        reason = f"Snakemake's plugin for {executor} is not installed: run 'make cluster'"
    else:
        return
    if os.environ.get("MFLIB_REQUIRE_SLURM") == "1":
        pytest.fail(f"MFLIB_REQUIRE_SLURM=1, and {reason}")
    pytest.skip(reason)


@dataclass(frozen=True)
class Slurm:
    """A Slurm in a folder."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """What makes sbatch, squeue and Snakemake find it."""
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": path}

    def tool(self, what: str, *more: str) -> str:
        """Run tools/slurm.py; return what it said."""
        done = subprocess.run(
            [sys.executable, str(TOOL), what, str(self.folder), *more],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=90, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout

    def ask(self, *command: str) -> list[str]:
        """Return the lines that one of Slurm's programs says."""
        done = subprocess.run(
            command, env=os.environ | self.environment, capture_output=True, text=True,
            timeout=30, check=True,
        )  # fmt: skip
        return done.stdout.splitlines()

    def states(self) -> dict[int, str]:
        """Return the state of every job that Slurm remembers."""
        lines = self.ask("squeue", "--states=all", "--noheader", "--format=%i %T")
        return {int(job): state for job, state in (line.split() for line in lines)}


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """Return a Slurm of four processors."""
    require("slurm", "munged", "slurmctld", "slurmd", "sbatch")
    here = Slurm(tmp_path_factory.mktemp("slurm") / "s")
    # The node is not given up while a slow machine starts it again.
    said = here.tool("start", "--cpus", "4", "--timeout", "60")
    assert f"export SLURM_CONF={here.folder / 'slurm.conf'}" in said
    yield here
    here.tool("stop")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Return a fresh project of one chapter, nothing executed."""
    return make_project(tmp_path / "project", ["alpha"])
