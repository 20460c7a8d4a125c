"""Kernels for code that nobody has read: limits, no network, and no sight of the course.

Three levels, of which the first that this machine allows is taken:

``sandbox``
    bubblewrap: a file system that holds the system's programs, this Python, mflib and an empty
    working folder, all but the last read-only; no network; no other process in sight.
``network``
    util-linux's ``unshare``: no network, but the files of whoever grades.
``limits``
    neither: only the limits on time and memory, which every level has.
"""

from __future__ import annotations

import functools
import os
import resource
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_client.manager import AsyncKernelManager
from traitlets import Instance

import mflib

LEVELS = ("sandbox", "network", "limits")

# What a program needs of the system, where there is such a thing. Nothing in it is private: of
# /etc only what the dynamic linker, fonts and time zones need.
_SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/alternatives", "/etc/fonts", "/etc/localtime"),
)
# What is passed on of the environment: whoever grades may keep secrets in the rest.
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "PYTHONPATH")


@dataclass(frozen=True)
class Limits:
    """What one submission may use: seconds of processor time, GiB of memory, MiB per file."""

    seconds: int = 600
    memory_gib: float = 4.0
    file_mib: int = 100

    def apply(self) -> None:
        """Limit this process and all that it starts; a limit once set cannot be raised again."""
        _limit(resource.RLIMIT_CPU, self.seconds)
        # Private memory, and not address space: libraries map far more than they touch. macOS
        # accepts the limit and does not enforce it.
        _limit(resource.RLIMIT_DATA, int(self.memory_gib * 2**30))
        _limit(resource.RLIMIT_FSIZE, self.file_mib * 2**20)
        _limit(resource.RLIMIT_CORE, 0)


def _limit(what: int, most: int) -> None:
    _, hard = resource.getrlimit(what)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(what, (most, most))


class Scratch:
    """A folder that one kernel may write to, with its sockets beside it; it goes with the kernel.

    ``files`` is a folder whose files are copied into it, but for notebooks, which hold the hidden
    tests, hidden files and links, which may lead anywhere.
    """

    def __init__(self, files: Path | None = None) -> None:
        # in /tmp, since the path of a socket has at most 107 bytes
        self._folder = tempfile.TemporaryDirectory(prefix="mflib-", dir=_short_temporary())
        self.path = Path(self._folder.name).resolve()
        self.work = self.path / "work"
        self.sockets = self.path / "sockets"
        for folder in (self.sockets, self.path / "tmp"):
            folder.mkdir()
        self.work.mkdir()
        if files is not None:
            self._copy(files)

    def _copy(self, files: Path) -> None:
        for path in files.rglob("*"):
            inside = path.relative_to(files)
            if path.is_file() and not path.is_symlink() and _may_be_seen(inside):
                (self.work / inside.parent).mkdir(parents=True, exist_ok=True)
                (self.work / inside).write_bytes(path.read_bytes())

    def close(self) -> None:
        """Remove the folder, whatever a submission made of it."""
        try:
            self._folder.cleanup()
        except (OSError, RecursionError):  # thousands of folders in each other
            subprocess.run(["rm", "-rf", str(self.path)], check=False)


def _may_be_seen(path: Path) -> bool:
    return path.suffix != ".ipynb" and not any(part.startswith(".") for part in path.parts)


def _short_temporary() -> str | None:
    return "/tmp" if os.access("/tmp", os.W_OK) else None


def sandboxed(
    command: Sequence[str], scratch: Path, level: str, hidden: Path | None = None
) -> list[str]:
    """Return the command as it is run at a level, with ``scratch`` as all that it may write to.

    ``hidden`` is a folder that a sandbox must not show even if it lies in one that it shows.
    """
    if level == "limits":
        return list(command)
    if level == "network":
        return ["unshare", "--user", "--map-current-user", "--net", "--", *command]
    seen = [*_SYSTEM, *_python()]
    disk = str(scratch / "tmp")
    return [
        *("bwrap", "--unshare-all", "--die-with-parent", "--new-session"),
        # What is written to a file system in memory would escape the limit on memory. This comes
        # first, as the project itself may lie in /tmp.
        *("--proc", "/proc", "--dev", "/dev", "--bind", disk, "/tmp", "--bind", disk, "/dev/shm"),
        *(word for path in seen for word in ("--ro-bind-try", path, path)),
        *(("--tmpfs", str(hidden)) if hidden and _lies_in(hidden, seen) else ()),
        *("--bind", str(scratch), str(scratch)),
        *("--remount-ro", "/", "--chdir", str(scratch / "work")),
        # A kernel ends when its parent changes, and from in here its parent is process 1.
        *("--setenv", "JPY_PARENT_PID", "1"),
        *("--", *command),
    ]


def _lies_in(folder: Path, places: Sequence[str]) -> bool:
    return any(folder.is_relative_to(place) for place in places)


def _python() -> list[str]:
    """Return the folders of this Python, of its packages and of mflib."""
    folders = [
        sys.prefix,
        sys.base_prefix,
        *(sysconfig.get_paths()[k] for k in ("stdlib", "purelib", "platlib")),
    ]
    folders += [str(Path(sys.executable).resolve().parent.parent), str(Path(mflib.__path__[0]))]
    # the folders of a virtual environment's links lie elsewhere than their targets
    return list(dict.fromkeys(f for path in folders for f in (path, os.path.realpath(path))))


@functools.cache
def best_level() -> str:
    """Return the safest level that works here, found by trying each on a harmless command."""
    for level in LEVELS[:-1]:
        with tempfile.TemporaryDirectory(dir=_short_temporary()) as folder:
            for name in ("work", "tmp"):
                Path(folder, name).mkdir()
            command = sandboxed([sys.executable, "-c", "import mflib"], Path(folder), level)
            try:
                done = subprocess.run(command, capture_output=True, timeout=60)
            except (OSError, subprocess.TimeoutExpired):
                continue
            if done.returncode == 0:
                return level
    return LEVELS[-1]


def describe(level: str) -> str:
    """Return one sentence that says what a level protects and, below the best, the remedy."""
    if level == "sandbox":
        return "Submissions run in a sandbox: no network, and none of your files in sight."
    reach = "your files" if level == "network" else "the network and your files"
    return (
        f"Submissions run with limits on time and memory, but can reach {reach}. "
        "Install bubblewrap, or grade in a container or as a user without rights."
    )


class IsolatedKernelManager(AsyncKernelManager):
    """Starts a kernel at a level of isolation, and talks to it through sockets that are files."""

    scratch = Instance(Scratch)
    limits = Instance(Limits)
    level: str = "limits"
    hidden: Path | None = None

    @classmethod
    def make(
        cls,
        level: str,
        limits: Limits,
        scratch: Scratch,
        hidden: Path | None = None,
        **settings: Any,
    ) -> IsolatedKernelManager:
        """Return a manager whose kernel sees ``scratch``, not ``hidden``, and obeys ``limits``."""
        manager = cls(
            scratch=scratch,
            limits=limits,
            # A kernel without a network hears only what comes through the file system.
            transport="ipc",
            connection_file=str(scratch.sockets / "kernel.json"),
            **settings,
        )
        manager.level, manager.hidden = level, hidden
        return manager

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
        """Return the command that starts the kernel, whatever the notebook's kernelspec says."""
        limits = self.limits
        command = [
            *(sys.executable, "-m", "mflib.classroom.kernel"),
            *(f"{limits.seconds}", f"{limits.memory_gib}", f"{limits.file_mib}"),
            *("-f", self.connection_file, *(extra_arguments or [])),
            # should the cell that imports it have been deleted
            "--IPKernelApp.exec_lines=from mflib import classroom",
        ]
        return sandboxed(command, self.scratch.path, self.level, self.hidden)

    def environment(self, **more: str) -> Mapping[str, str]:
        """Return the environment of the kernel: a few harmless variables and those given."""
        work = str(self.scratch.work)
        kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        return {
            **kept,
            # One thread: several cost more than they bring as soon as anything else runs.
            **{"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
            **{
                "HOME": work,
                "TMPDIR": work,
                "MPLCONFIGDIR": work,
                "IPYTHONDIR": work + "/.ipython",
            },
            **{"JUPYTER_PLATFORM_DIRS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
            **more,
        }
