"""Where things lie. The one module that knows paths; nothing else guesses the working directory."""

from __future__ import annotations

import os
from pathlib import Path


def root() -> Path:
    """Return the project folder: ``MFLIB_ROOT`` if set, else the checkout this package lies in."""
    named = os.environ.get("MFLIB_ROOT")
    return Path(named).expanduser().resolve() if named else Path(__file__).resolve().parents[1]


def notebooks() -> Path:
    """Return the folder of the chapters' text sources and, beside them, their executed copies."""
    return root() / "notebooks"


def book() -> Path:
    """Return the folder of the book's written pages."""
    return root() / "book"


def build() -> Path:
    """Return the folder that everything made by a build goes to."""
    return root() / "_build"


def results() -> Path:
    """Return the folder of recorded tables: ``MFLIB_RESULTS``, or ``results`` in the project."""
    named = os.environ.get("MFLIB_RESULTS")
    return Path(named).expanduser().resolve() if named else root() / "results"


def runs() -> Path:
    """Return the folder of the runs of sweeps: ``MFLIB_RUNS``, or ``runs`` in the project."""
    named = os.environ.get("MFLIB_RUNS")
    return Path(named).expanduser().resolve() if named else root() / "runs"


def cache() -> Path:
    """Return the folder of data and shards that outlive a build.

    ``MFLIB_CACHE`` if set, else ``mflib`` in the user's cache folder (``XDG_CACHE_HOME``).
    """
    named = os.environ.get("MFLIB_CACHE")
    if named:
        return Path(named).expanduser().resolve()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "mflib"
