"""What long work needs around it: Snakemake, one at a time, and nothing left running.

Snakemake does the scheduling, on this machine, on Slurm or on Kubernetes; here it is only called.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

PATIENCE = 5.0
"""Seconds to wait for another holder: one that was killed needs a moment until its last process
has seen it."""


class Busy(RuntimeError):
    """The lock is held; ``holder`` is the process that holds it, as text."""

    def __init__(self, holder: str) -> None:
        super().__init__(f"held by process {holder}")
        self.holder = holder


class Stopped(RuntimeError):
    """Snakemake ended before all was done; the message is what it said, where nobody knows yet.

    ``interrupted`` says that the user, and not a job, ended it.
    """

    def __init__(self, message: str, *, interrupted: bool) -> None:
        super().__init__(message)
        self.interrupted = interrupted


def follow_parent(*, interval: float = 0.2) -> None:
    """End this process soon after the one that started it has ended, if the latter asks for it.

    A killed ``make`` or Snakemake cannot stop what it started, which would go on to write into
    the next build. It asks by MFLIB_FOLLOW_PARENT in the environment, with its number there or 1; a
    shell does not, so a build started by hand outlives its terminal.
    """
    asked = os.environ.get("MFLIB_FOLLOW_PARENT")
    if not asked:
        return
    # With its number, since it may have ended before this process came here.
    named = int(asked) if asked.isdecimal() else 1
    parent = named if named > 1 else os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(interval)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="follow-parent").start()


def stop_on_terminate() -> None:
    """Make SIGTERM end this process as Ctrl-C does, so that what it started ends too."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)


def settle() -> None:
    """Make the folders that the environment names absolute.

    For whoever starts processes that work in another folder, where a relative name means another
    place.
    """
    for name in ("MFLIB_ROOT", "MFLIB_RUNS", "MFLIB_RESULTS", "MFLIB_CACHE", "MFLIB_DATA"):
        if named := os.environ.get(name):
            os.environ[name] = str(Path(named).expanduser().resolve())


@contextlib.contextmanager
def alone(file: Path, *, patience: float | None = None) -> Iterator[None]:
    """Hold the lock that ``file`` stands for, or raise Busy after ``patience`` seconds.

    The kernel drops it with the process that holds it, so a dead holder never blocks. The folder
    of ``file`` is made.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+", encoding="utf-8") as held:
        deadline = time.monotonic() + (PATIENCE if patience is None else patience)
        while True:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                    raise OSError(
                        error.errno,
                        "the file system has no locks: name a folder on another one",
                        str(file.parent),
                    ) from None
                if not isinstance(error, BlockingIOError):
                    raise
                if time.monotonic() > deadline:
                    held.seek(0)
                    raise Busy(held.read().strip() or "unknown") from None
                time.sleep(0.1)
        held.truncate(0)
        held.write(f"{os.getpid()}\n")
        held.flush()
        yield


@contextlib.contextmanager
def _ending_children(wanted: bool) -> Iterator[None]:
    """End what this process started as soon as it gets SIGINT or SIGTERM, if ``wanted``.

    A terminal sends Ctrl-C to all of a command's processes. A service manager tells only the first,
    in which Snakemake waits for its jobs, which may take hours, until it is killed.
    """
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield
        return
    import psutil

    read, write = os.pipe()
    os.set_blocking(write, False)
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)

    def watch() -> None:
        while number := os.read(read, 1):
            if number[0] in (signal.SIGINT, signal.SIGTERM):
                for child in psutil.Process().children():
                    with contextlib.suppress(psutil.Error):
                        child.terminate()

    thread = threading.Thread(target=watch, daemon=True, name="end-children")
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(write)
        thread.join()
        os.close(read)


def snakemake(*arguments: str, log: Path, end_children: bool = False) -> None:
    """Run Snakemake in this process, so that nothing lies between us and what it starts.

    What it says goes to the file ``log``; what its jobs say, which are processes, goes to the
    terminal. ``end_children``: a signal to this process alone ends its jobs as well. Raises Stopped
    if it fails or is interrupted, with its words where nobody knows why already.
    """
    from snakemake.cli import main

    with (
        log.open("w", encoding="utf-8") as said,
        contextlib.redirect_stderr(said),
        _ending_children(end_children),
    ):
        try:
            main(list(arguments))
        except SystemExit as end:
            code = end.code
        else:
            code = 0
    if code:
        words = log.read_text(encoding="utf-8")
        interrupted = any(w in words for w in ("Terminating processes", "Will exit after"))
        explained = interrupted or "CalledProcessError" in words
        raise Stopped("" if explained else words.strip(), interrupted=interrupted)
