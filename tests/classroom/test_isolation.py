"""What a submission may use and reach, level by level, on a real kernel process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("jupyter_client")

from mflib.classroom import isolation

BEST = isolation.LEVELS.index(isolation.best_level())
LEVELS = [
    pytest.param(
        level,
        marks=pytest.mark.skipif(k < BEST, reason=f"this machine does not allow {level!r}"),
    )
    for k, level in enumerate(isolation.LEVELS)
]


@pytest.fixture
def scratch() -> Iterator[isolation.Scratch]:
    made = isolation.Scratch()
    yield made
    made.close()


def run(code: str, scratch: isolation.Scratch, level: str, **limits: float) -> str:
    """Run code as a submission's kernel would, with its limits, at a level."""
    limited = isolation.Limits(**limits)
    header = f"from mflib.classroom.isolation import Limits; {limited!r}.apply()\n"
    command = isolation.sandboxed(
        [sys.executable, "-c", header + textwrap.dedent(code)], scratch.path, level
    )
    done = subprocess.run(
        command, cwd=scratch.work, capture_output=True, text=True, check=False, timeout=120
    )
    return done.stdout + done.stderr + f"\nstatus {done.returncode}"


@pytest.mark.parametrize("level", LEVELS)
def test_memory_is_limited(level: str, scratch: isolation.Scratch) -> None:
    code = "import numpy as np; print(np.ones(2**26).sum())"  # half a GiB
    assert "MemoryError" in run(code, scratch, level, memory_gib=0.4)
    assert "67108864.0" in run(code, scratch, level, memory_gib=1.5)


@pytest.mark.parametrize("level", LEVELS)
def test_processor_time_is_limited(level: str, scratch: isolation.Scratch) -> None:
    told = run("while True: pass", scratch, level, seconds=1)
    # killed by SIGKILL; a sandbox tells it as a shell does
    assert told.strip().endswith(("status -9", "status 137"))


@pytest.mark.parametrize("level", LEVELS)
def test_files_are_limited_and_limits_stay(level: str, scratch: isolation.Scratch) -> None:
    code = """
    import resource
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (10**6, 10**6))
        print("raised")
    except (ValueError, PermissionError):
        print("stays")
    with open("large", "wb") as file:
        file.write(bytes(3 * 2**20))
    """
    told = run(code, scratch, level, file_mib=1)
    assert "File too large" in told
    # Only root outside a sandbox may lift a limit: one more reason not to grade as root.
    if level != "limits" or os.getuid() != 0:
        assert "stays" in told


@pytest.mark.parametrize("level", LEVELS)
def test_the_network_is_out_of_reach(level: str, scratch: isolation.Scratch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        code = (
            f"import socket; socket.create_connection(('127.0.0.1', {port}), 5); print('reached')"
        )
        assert ("reached" in run(code, scratch, level)) == (level == "limits")


@pytest.mark.parametrize("level", LEVELS)
def test_files_are_out_of_sight(level: str, scratch: isolation.Scratch, tmp_path: Path) -> None:
    secret = tmp_path / "gradebook.db"
    secret.write_text("marks")
    code = f"""
    import os
    open("mine.txt", "w").write("kept")
    print(open("mine.txt").read())
    print("sees", os.path.exists({str(secret)!r}))
    try:
        open({str(Path(isolation.__file__))!r}, "a").close()
        print("writes")
    except OSError:
        print("cannot write")
    for folder in ("/", "/etc", "/usr", "/tmp", "/dev/shm"):
        try:
            open(folder + "/x", "w").close()
            print("writes to", folder)
        except OSError:
            pass
    """
    if level != "sandbox":
        code = code[: code.index("    for folder")]  # these would be this machine's own
    told = run(code, scratch, level)
    assert "kept" in told
    if level == "sandbox":
        assert "sees False" in told
        assert "cannot write" in told
        writes = [line.split()[-1] for line in told.splitlines() if line.startswith("writes to")]
        assert writes == ["/tmp", "/dev/shm"]
        # which are both on the disk, and go with the submission
        assert (scratch.path / "tmp" / "x").exists()
        assert not Path("/dev/shm/x").exists()
    else:
        assert "sees True" in told


def test_a_scratch_folder_holds_copies_of_files_but_of_no_notebook(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "table.csv").write_text("1")
    (tmp_path / "data" / "table.csv").chmod(0o444)
    (tmp_path / "hidden-tests.ipynb").write_text("{}")
    (tmp_path / ".secret").write_text("x")
    (tmp_path / "link").symlink_to(__file__)
    scratch = isolation.Scratch(tmp_path)
    assert sorted(p.name for p in scratch.work.rglob("*")) == ["data", "table.csv"]
    assert os.access(scratch.work / "data" / "table.csv", os.W_OK)
    assert (tmp_path / "data" / "table.csv").read_text() == "1"
    scratch.close()
    assert not scratch.path.exists()


def test_the_environment_of_a_kernel_holds_no_secret(
    monkeypatch: pytest.MonkeyPatch, scratch: isolation.Scratch
) -> None:
    monkeypatch.setenv("A_SECRET_TOKEN", "x")
    manager = isolation.IsolatedKernelManager.make("limits", isolation.Limits(), scratch)
    environment = manager.environment(MFLIB_TOKEN="abc")
    assert "A_SECRET_TOKEN" not in environment
    assert environment["MFLIB_TOKEN"] == "abc"
    assert environment["PATH"] == os.environ["PATH"]


def test_every_level_says_what_it_does_not_protect() -> None:
    assert "no network" in isolation.describe("sandbox")
    assert "reach your files" in isolation.describe("network")
    assert "reach the network and your files" in isolation.describe("limits")
