"""What the tests of faults have in common: how often each is tried, and the table of them all.

``pytest tests/faults --record results/faults.csv`` writes one row per kind of fault and target,
with its provenance beside it, if every test passed. How many faults are tried is MFLIB_FAULTS:
``small`` (the default) or ``full`` (the default with ``--record``).
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parents[2]
COLUMNS = ("kind", "target", "times", "outcome", "seconds")
TESTED = (
    "mflib.cli",
    "mflib.build",
    "mflib.recorded",
    "mflib.experiment.store",
    "mflib.experiment.data",
    "mflib.experiment.weights",
)


# --- how often -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Counts:
    """How often each kind of fault is tried."""

    kills: int  # of each thing that is killed
    bad_parameters: int  # sets, over all chapters together
    flips: int  # positions, of each file that a byte is flipped in


COUNTS = {
    "small": Counts(kills=2, bad_parameters=40, flips=12),
    "full": Counts(kills=20, bad_parameters=200, flips=200),
}


@pytest.fixture(scope="session")
def counts(pytestconfig: pytest.Config) -> Counts:
    """Return how often each kind of fault is tried."""
    return COUNTS[_how_many(pytestconfig)]


def _how_many(config: pytest.Config) -> str:
    named = os.environ.get("MFLIB_FAULTS") or ("full" if _table(config) else "small")
    if named not in COUNTS:
        raise pytest.UsageError(f"MFLIB_FAULTS={named!r} is not one of {', '.join(COUNTS)}")
    return named


# --- the table of faults --------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """One row: ``kind`` was done to ``target`` so many ``times``, each with this ``outcome``."""

    kind: str
    target: str
    times: int
    outcome: str
    seconds: float


@pytest.fixture
def fault(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Return what a test calls, after its assertions, for each kind of fault that it tried.

    ``fault(kind="one byte flipped", target="shard", times=12, outcome="named, computed again")``.
    ``outcome`` is what the test has seen every one of the ``times``; ``seconds`` is the time since
    the test began unless given. Rows that agree in kind, target and outcome become one, with times
    and seconds added, so parametrised tests and loops may record one by one.
    """
    began = time.perf_counter()

    def row(
        *, kind: str, target: str, outcome: str, times: int = 1, seconds: float | None = None
    ) -> None:
        nonlocal began
        now = time.perf_counter()
        assert times > 0, "a fault that was never tried is no row"
        took = now - began if seconds is None else seconds
        began = now
        # Reports carry this from the processes of pytest-xdist to the one that writes the table.
        found = asdict(Fault(kind, target, times, outcome, took))
        request.node.user_properties.append(("fault", found))

    return row


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--record",
        metavar="FILE",
        help="write the table of faults there (.csv), and where it comes from beside it (.json)",
    )


def _table(config: pytest.Config) -> Path | None:
    # This option is unknown where these tests run among others.
    named = config.getoption("--record", default=None)
    return Path(named) if named else None


class _Recorder:
    """Gathers the rows of all tests, and writes them at the end if every test passed."""

    def __init__(self, output: Path, words: Sequence[str], how_many: str) -> None:
        self.output = output
        self.command = shlex.join(["pytest", *words])
        self.how_many = how_many
        self.started = time.perf_counter()
        self.rows: list[Fault] = []
        self.not_passed: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # An expected failure is reported as skipped.
        if report.outcome != "passed":
            self.not_passed.append(report.nodeid)
        if report.when == "call":
            self.rows += [Fault(**row) for name, row in report.user_properties if name == "fault"]

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if exitstatus == 0 and self.rows and not self.not_passed:
            self.write()
        elif exitstatus == 0:
            # A table that lacks what was skipped would look as if it were whole.
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def write(self) -> None:
        import pandas as pd

        from mflib import recorded, sources

        table = pd.DataFrame([asdict(row) for row in self.rows], columns=list(COLUMNS))
        table = (
            table.groupby(["kind", "target", "outcome"], sort=False, as_index=False)
            .agg(times=("times", "sum"), seconds=("seconds", "sum"))
            .reindex(columns=list(COLUMNS))
        )
        table["seconds"] = table["seconds"].round(1)
        recorded.write(
            self.output,
            table.to_csv(index=False).encode(),
            command=self.command,
            code={module: sources.code_version(module) for module in TESTED},
            seconds=time.perf_counter() - self.started,
            rows=len(table),
            faults=int(table["times"].sum()),
            counts=self.how_many,
        )

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.not_passed:
            terminalreporter.write_line(
                f"--record: {self.output} was not written, since {len(self.not_passed)} did not "
                f"pass, the first being {self.not_passed[0]}"
            )


def pytest_configure(config: pytest.Config) -> None:
    output = _table(config)
    # The processes of pytest-xdist only report to the first one, which has this attribute not.
    if output is None or hasattr(config, "workerinput"):
        return
    if output.suffix != ".csv":
        raise pytest.UsageError(f"--record {output}: give the name of a .csv file")
    words = config.invocation_params.args
    config.pluginmanager.register(_Recorder(output, list(map(str, words)), _how_many(config)))


# --- a place with a fault -------------------------------------------------------------------------


class Sandbox:
    """Runs commands where folders are read-only, disks are small or there is no network."""

    def __init__(self, program: str) -> None:
        self.program = program

    def run(
        self,
        command: Sequence[str | Path],
        *,
        options: Sequence[str | Path] = (),
        environment: dict[str, str] | None = None,
        folder: Path = HERE,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Run ``command`` on this machine's own files, but with bubblewrap's ``options``."""
        everything = (self.program, "--bind", "/", "/", "--dev-bind", "/dev", "/dev")
        words = [*everything, "--die-with-parent", "--chdir", folder, *options, "--", *command]
        return subprocess.run(
            list(map(str, words)),
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """Return a sandbox. Skips where bubblewrap is missing or may do nothing, unless
    MFLIB_REQUIRE_SANDBOX is set, and then fails."""
    found = shutil.which("bwrap")
    why = "bwrap (package bubblewrap) is not installed"
    if found:
        place = Sandbox(found)
        tried = place.run(
            [sys.executable, "-c", ""],
            options=["--unshare-net", "--size", "4096", "--tmpfs", "/mnt"],
        )
        if tried.returncode == 0:
            yield place
            return
        why = f"bwrap does not work here ({tried.stderr.strip()})"
    if os.environ.get("MFLIB_REQUIRE_SANDBOX"):
        pytest.fail(why)
    pytest.skip(why)
