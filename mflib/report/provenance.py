"""Where a result came from: scale, device, seed, commit, versions, time, command."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from typing import Any

from mflib import paths

PACKAGES = ("numpy", "scipy", "torch", "python-flint")


@dataclasses.dataclass
class Context:
    """The run that a notebook is in: set by `begin`, read by every record."""

    notebook: str
    seed: int
    device: str
    scale: str
    started: float
    marked: float


_current: Context | None = None


def device_name(device: str) -> str:
    """Return the device in words: the GPU's name, or the CPU with its number of threads.

    ``device`` is "auto", "cpu" or "cuda". A notebook of pure theory passes "cpu" and never loads
    torch for it.
    """
    if device != "cpu":
        import torch

        if torch.cuda.is_available():
            return str(torch.cuda.get_device_name())
    return f"CPU ({os.cpu_count()} cores)"


def begin(notebook: str, *, seed: int, device: str = "auto", scale: str = "quick") -> Context:
    """Start a notebook's record: its clock, its seed and device, and the style of its figures.

    ``notebook`` is the chapter's name, ``scale`` is "quick" or "paper". Called once, in the first
    code cell after the parameters.
    """
    from mflib.report import figures

    global _current
    now = time.monotonic()
    _current = Context(notebook, seed, device_name(device), scale, now, now)
    figures.use_style()
    return _current


def current() -> Context:
    """Return the running notebook's context.

    Raises RuntimeError before `begin`.
    """
    if _current is None:
        raise RuntimeError("no notebook has begun: call report.begin(name, seed=...) first")
    return _current


def lap() -> float:
    """Return the seconds since the last lap (or since `begin`) and start the next."""
    context = current()
    now = time.monotonic()
    seconds, context.marked = now - context.marked, now
    return seconds


def commit() -> str:
    """Return the short commit of the checkout, with ``+`` where tracked files differ from it.

    "unknown" where the project is not a git checkout or git is missing.
    """

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(paths.root()), *words],
            check=True,
            capture_output=True,
            text=True,
            timeout=20,
        ).stdout.strip()

    try:
        return git("rev-parse", "--short=10", "HEAD") + (
            "+" if git("status", "--porcelain", "--untracked-files=no") else ""
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def collect(
    *,
    seed: int | None = None,
    device: str | None = None,
    scale: str | None = None,
    seconds: float | None = None,
) -> dict[str, Any]:
    """Return the provenance of one result as a dictionary fit for JSON.

    What is not given is taken from `begin`. ``seconds`` is the time the result took, in s. The
    command is the one that `mflib run` told the notebook's process, with its profile and
    parameters; in a notebook executed otherwise it is ``mflib run NAME``.
    """
    context = current()
    return {
        "notebook": context.notebook,
        "scale": scale or context.scale,
        "device": device or context.device,
        "seed": context.seed if seed is None else seed,
        "commit": commit(),
        "versions": versions(),
        "seconds": None if seconds is None else round(seconds, 1),
        "command": os.environ.get("MFLIB_RUN") or f"mflib run {context.notebook}",
    }


def of_record(origin: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the record of a table says of its provenance, as in `collect`.

    One that is not of a long computation has the scale "recorded", and no seed of its own.
    """
    parts = origin.get("parts", {}).values()
    seeds = sorted({seed for part in parts for seed in part["seeds"]})
    return {
        "scale": "paper" if parts else "recorded",
        "device": f"{origin['device']}, {origin['computed'][:10]}",
        "seed": ", ".join(map(str, seeds)) or None,
        **{name: origin[name] for name in ("commit", "versions", "seconds", "command")},
    }


def line(record: dict[str, Any]) -> str:
    """Return the provenance as one line of plain text, as printed under each figure."""
    used = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    took = "" if record["seconds"] is None else f" · {record['seconds']:g} s"
    seed = "" if record["seed"] is None else f" · seed {record['seed']}"
    return (
        f"{record['scale']} scale · {record['device']}{seed}{took} · "
        f"commit {record['commit']} · {used} · recompute: {record['command']}"
    )
