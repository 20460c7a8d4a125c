"""What a sweep says while it runs and when it has ended."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from mflib.sweep import points, runs

if TYPE_CHECKING:
    import pandas as pd

NOT_BEGUN = "it did not begin"

SHOWN = 40  # rows of the table on a terminal


def _words(manifest: Mapping[str, Any], digest: str) -> str:
    """Return a point by what tells it from the others."""
    (values,) = (p["values"] for p in manifest["points"] if p["digest"] == digest)
    return points.words({name: values[name] for name in manifest["varied"]})


class Watcher:
    """Says of each pending run when it is done, from its outcome record, wherever it is executed.

    A bar on a terminal; elsewhere a line for each.
    """

    def __init__(
        self, notebook: str, manifest: Mapping[str, Any], pending: Iterable[str], *, every=1.0
    ) -> None:
        self.notebook, self.manifest, self.every = notebook, manifest, every
        self.pending = list(pending)
        self.total = len(self.pending)
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True, name="progress")
        # The stream as it is now: while Snakemake runs, its own words go elsewhere.
        self.stream = sys.stderr

    def __enter__(self) -> Watcher:
        self.bar = tqdm(
            total=self.total,
            desc=self.notebook,
            unit="run",
            file=self.stream,
            disable=None,
            smoothing=0,
        )
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()
        self._look()
        self.bar.close()

    def _watch(self) -> None:
        while not self.stop.wait(self.every):
            self._look()

    def _look(self) -> None:
        for digest in list(self.pending):
            file = runs.outcome_file(self.notebook, digest)
            if not file.exists() or (record := runs.sound(file)) is None:
                continue
            self.pending.remove(digest)
            self.bar.update()
            done = self.total - len(self.pending)
            state = "finished" if record["error"] is None else f"failed ({record['error']})"
            line = (
                f"{done}/{self.total}  {_words(self.manifest, digest)}: {state}, "
                f"{record['seconds']:.1f} s"
            )
            tqdm.write(line, file=self.stream)


def _last_words(log: Path, began: float) -> str:
    """Return why a run did not finish: the last line of its log, if it is of this sweep's time."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        if not lines or log.stat().st_mtime < began:
            return NOT_BEGUN
    except OSError:
        return NOT_BEGUN
    if lines[-1].startswith(runs.BEGUN):
        return "its process was killed, most often for lack of memory"
    return lines[-1]


def report(
    manifest: Mapping[str, Any],
    failed: Mapping[str, Mapping[str, Any]],
    missing: Iterable[str],
    folder: Path,
    began: float,
    said: str,
    *,
    interrupted: bool,
) -> None:
    """Say which runs failed or did not finish, why, and what to do about it.

    ``began`` is when, in seconds since the epoch; ``said`` are Snakemake's last words.
    """
    notebook = manifest["notebook"]
    missing = list(missing)
    for digest, record in failed.items():
        kept = runs.folder(notebook) / record["file"]
        print(f"\nfailed: {_words(manifest, digest)}: {record['error']}\n  kept: {kept}")
    if interrupted and missing:
        done = len(manifest["points"]) - len(missing)
        print(
            f"\nStopped: {done} of {len(manifest['points'])} runs are done and kept; the same "
            "command goes on from there."
        )
    else:
        begun = False
        for digest in missing:
            log = runs.folder(notebook) / f"{digest}.log"
            why = _last_words(log, began)
            begun |= why != NOT_BEGUN
            print(f"\nnot finished: {_words(manifest, digest)}: {why}\n  log: {log}")
        if missing:
            if said and not begun:
                print("\nSnakemake said: " + "\n  ".join(said.splitlines()[-3:]))
            print(f"\nThe same command tries them again; see also {folder / 'snakemake.log'}.")
    if failed:
        print("\nA run whose code failed is not tried again, unless you add --again.")


def table(frame: pd.DataFrame, manifest: Mapping[str, Any]) -> str:
    """Return the first rows of the table of runs as text: what varied, and what came of it."""
    from mflib.sweep import tables

    varied = [tables.column_of(name) for name in manifest["varied"]]
    ours = frame[[name for name in frame if str(name).startswith("ours ")]].select_dtypes("number")
    numbers = [name for name in ours if ours[name].nunique() > 1] or list(ours)
    shown = [*varied, "outcome", *numbers[:3], "seconds"]
    text = frame[shown].head(SHOWN).to_string(index=False, na_rep="", float_format="{:.4g}".format)
    more = len(frame) - SHOWN
    return f"\n{text}\n" + (f"… and {more} more\n" if more > 0 else "")
