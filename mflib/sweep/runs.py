"""One run of a sweep: where it lies, whether it is done, and how it is executed.

``python -m mflib.sweep.runs MANIFEST DIGEST`` is the job that Snakemake starts, here or on a
cluster. A run is done when its outcome record is there and fits its notebook; the record comes
last. A run whose code failed is done as well: it would fail again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mflib import files, notebooks, paths, workflow

FINISHED = "finished"
FAILED = "failed"

BEGUN = "begun"  # how a log says that a process is at a run

AGAIN = 75  # what a run exits with that is to be tried again: EX_TEMPFAIL of sysexits.h


def folder(notebook: str) -> Path:
    """Return where the runs of a notebook lie."""
    return paths.runs() / notebook


def outcome_file(notebook: str, digest: str) -> Path:
    """Return where the outcome record of a run lies, whether it is there or not."""
    return folder(notebook) / f"{digest}.json"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def sound(file: Path) -> dict[str, Any] | None:
    """Return an outcome record, or None where there is none that can be trusted.

    It must have its own checksum, and its notebook the one that it states.
    """
    try:
        record = json.loads(file.read_bytes())
        stated = record.pop("record_sha256")
        if stated != _sha256(json.dumps(record, sort_keys=True).encode()):
            return None
        if _sha256((file.parent / record["file"]).read_bytes()) != record["sha256"]:
            return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return record if record["digest"] == file.stem else None


def _records(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the claims, errata and figures that an executed notebook recorded, in order."""
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    found = [output.get("metadata", {}).get("mflib") for output in outputs]
    return [record for record in found if isinstance(record, dict)]


def _write_outcome(
    decided: notebooks.Plan, file: Path, *, error: str | None, seconds: float
) -> dict[str, Any]:
    """Write the outcome record of a run whose notebook is ``file``; return it."""
    content = file.read_bytes()
    records = _records(json.loads(content))
    origin: dict[str, Any] = next((r["provenance"] for r in records if "provenance" in r), {})
    record = {
        "digest": decided.point(),
        "notebook": decided.name,
        "profile": decided.profile,
        "parameters": decided.values,
        "outcome": FINISHED if error is None else FAILED,
        "error": error,
        "seconds": round(seconds, 2),
        "device": origin.get("device"),
        "host": platform.node(),
        "threads": int(os.environ.get("OMP_NUM_THREADS") or notebooks.available_cores()),
        "computed": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": origin.get("commit", ""),
        "file": file.name,
        "sha256": _sha256(content),
        "records": records,
    }
    # As JSON holds it, where a tuple is a list, so that it is the same when it is read again.
    record = json.loads(json.dumps(record))
    checksum = _sha256(json.dumps(record, sort_keys=True).encode())
    file = outcome_file(decided.name, decided.point())
    files.write_json(file, {**record, "record_sha256": checksum})
    return record


# --- GPUs ----------------------------------------------------------------------------------------


def visible_gpus() -> list[str]:
    """Return the GPUs that processes here may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [gpu.strip() for gpu in named.split(",") if gpu.strip() not in ("", "-1")]
    from mflib import check

    return [str(number) for number in range(len(check.driver_gpus()))]


@contextlib.contextmanager
def gpu_slot(device: str, *, interval: float = 0.5) -> Iterator[str | None]:
    """Hold one GPU of this machine for this process alone; yield its name, None where none is.

    None as well where ``device`` is "cpu". Within, CUDA_VISIBLE_DEVICES names that GPU. Waits until
    one is free: the locks are the machine's, so that two sweeps share its GPUs. As a job of a
    cluster, which gives a job its own, nothing is changed.
    """
    gpus = visible_gpus() if device != "cpu" else []
    if not gpus or os.environ.get("MFLIB_EXECUTOR", "local") != "local":
        yield None
        return
    # Not the folder for temporary files, which may be another one in each process.
    place = Path("/tmp") / f"mflib-gpus-{os.getuid()}"
    place.mkdir(mode=0o700, exist_ok=True)
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    while True:
        for gpu in gpus:
            with (place / gpu.replace("/", "-")).open("a") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                os.environ["CUDA_VISIBLE_DEVICES"] = gpu
                try:
                    yield gpu
                finally:
                    if before is None:
                        del os.environ["CUDA_VISIBLE_DEVICES"]
                    else:
                        os.environ["CUDA_VISIBLE_DEVICES"] = before
                return
        time.sleep(interval)


# --- one run -------------------------------------------------------------------------------------


class Changed(RuntimeError):
    """A run's files are not what they were when it was planned."""


def execute(decided: notebooks.Plan) -> dict[str, Any]:
    """Execute a point unless it is done; return its outcome record.

    One process at a time does a point, in whichever sweeps it is; another waits, and finds it done.
    Raises KernelDied where the notebook's process ended by no fault of its code, and Changed where
    what it depends on was changed under it: nothing is kept then.
    """
    digest = decided.point()
    file = folder(decided.name) / f"{digest}.ipynb"
    record = outcome_file(decided.name, digest)
    with workflow.alone(file.parent / ".locks" / digest, patience=float("inf")):
        if (done := sound(record)) is not None:
            return done
        record.unlink(missing_ok=True)
        made_from = notebooks.record(file)
        if made_from.get("digest") == decided.digest() and notebooks.is_sound(file):
            # Executed by one that was stopped before it had written the record.
            return _write_outcome(decided, file, error=None, seconds=made_from["seconds"])
        began = time.monotonic()
        error = None
        with gpu_slot(decided.values.get("device", "cpu")):
            try:
                notebooks.execute(decided, file, progress=False)
            except notebooks.KernelDied:
                raise
            except notebooks.CellError as failure:
                error, file = str(failure), failure.kept
        if not notebooks.is_as_planned(decided):
            file.unlink()
            raise Changed(f"{notebooks.CHANGED}: give the command again, which plans it anew")
        return _write_outcome(decided, file, error=error, seconds=time.monotonic() - began)


def main(arguments: list[str]) -> int:
    """Execute the point DIGEST of the sweep MANIFEST; return the exit code for Snakemake.

    It is 0 as well where nothing was done that a second try would do better, such as on a full
    disk: whether a run is done is read from its outcome record, and only from that.
    """
    workflow.follow_parent()
    workflow.stop_on_terminate()
    manifest, digest = json.loads(Path(arguments[0]).read_text(encoding="utf-8")), arguments[1]
    (point,) = (point for point in manifest["points"] if point["digest"] == digest)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    print(f"{BEGUN} {now} on {platform.node()}", flush=True)
    try:
        planner = notebooks.Planner(manifest["notebook"], manifest["profile"])
        decided = planner.typed(point["values"])
        if decided.point() != digest:
            raise Changed(
                "what the notebook depends on was changed after the sweep was begun: give the "
                "command again, which plans it anew"
            )
        record = execute(decided)
    except notebooks.KernelDied as death:
        print(death)
        return AGAIN
    except KeyboardInterrupt:
        print("stopped")
        return AGAIN
    except (ValueError, OSError, Changed, notebooks.NotWritten) as error:
        print(error)
        return 0
    print(record["error"] or record["outcome"])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
