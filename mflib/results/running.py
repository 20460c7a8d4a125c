"""Computing what is missing: which groups, by Snakemake, each in a process of its own."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mflib import paths
from mflib.files import write_json
from mflib.results.kinds import Computation, Group
from mflib.results.registry import REGISTRY, computation
from mflib.results.tables import (
    collect,
    complete_on,
    compute_group,
    kind_of,
    kinds_of,
    opened,
    table_file,
    unrecorded,
)

if TYPE_CHECKING:
    from mflib.experiment.store import Store

SNAKEFILE = Path(__file__).with_name("Snakefile")


@dataclasses.dataclass(frozen=True)
class Job:
    """A group that is to be computed."""

    computation: str
    group: Group

    @property
    def name(self) -> str:
        """The name of its mark, and of the job."""
        return f"{self.computation}-{self.group.name}"


def pending(
    names: Sequence[str] = (),
    *,
    rehearse: bool = False,
    device: str = "auto",
    store: Store | None = None,
) -> list[Job]:
    """Return the groups that are not done, in the order in which to compute them.

    A group is done if its part is recorded, or if the store holds all its shards: sound, and of the
    code as it is. ``names``: ids of computations, all of the registry if empty. Groups of a lower
    stage, such as a first seed, come first over all computations.

    Raises ValueError for an unknown id or device, DataUnavailable.
    """
    kept, kinds = opened(store), kinds_of(device)
    known = [computation(name, rehearse=rehearse) for name in dict.fromkeys(names or REGISTRY)]
    jobs = []
    for each in known:
        wanted = unrecorded(each, rehearse=rehearse)
        for group in each.groups():
            if group.part in wanted and not _done(each, group, kept, kinds):
                jobs.append(Job(each.id, group))
    return sorted(jobs, key=lambda job: job.group.stage)


def _done(known: Computation, group: Group, store: Store, kinds: Sequence[str]) -> bool:
    kind = complete_on(known, [group], store, kinds)
    return kind is not None and all(store.get(key) is not None for key in known.keys(group, kind))


def job(arguments: list[str]) -> int:
    """Compute one group for Snakemake: ``MANIFEST NAME``; return the exit code.

    What the code itself cannot do is written into the job's mark, and is no failure to Snakemake,
    which tries a job again only where its process died.
    """
    from mflib import workflow
    from mflib.sweep import runs

    workflow.follow_parent()
    manifest, name = Path(arguments[0]), arguments[1]
    work = json.loads(manifest.read_text(encoding="utf-8"))
    one = work["jobs"][name]
    try:
        with runs.gpu_slot(work["device"]):
            note = compute_group(
                one["computation"], one["group"], device=work["device"], progress=False,
                rehearse=work["rehearse"],
            )  # fmt: skip
        said = f"{len(note['shards'])} shards in {note['seconds']:g} s on {note['device']}"
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        note = {**one, "failed": said}
    print(f"{one['computation']} {one['group']}: {said}", file=sys.stderr)
    mark = manifest.parent / "done" / name
    mark.parent.mkdir(exist_ok=True)
    write_json(mark, note)
    return 0


def run(
    names: Sequence[str] = (),
    *,
    rehearse: bool = False,
    device: str = "auto",
    jobs: int | None = None,
    executor: str = "local",
    more: Sequence[str] = (),
) -> int:
    """Compute the groups that are missing and record what is complete; return the exit code.

    0: all is recorded; 1: a group failed or did not finish, the others are kept; 130: interrupted.
    Raises ValueError or DataUnavailable before any work, workflow.Busy where another process is at
    the same.
    """
    from mflib import notebooks, workflow
    from mflib.sweep import launch, runs

    workflow.settle()
    needs = launch.needs("results", "rehearsal" if rehearse else "paper")
    options = launch.ready(executor, more)
    names = list(dict.fromkeys(names or REGISTRY))
    if not rehearse and any(unrecorded(computation(name), rehearse=False) for name in names):
        _check_there_is_a_gpu(executor, device)
    pending(names, rehearse=rehearse, device=device)  # raises before anything is written
    folder = paths.build() / "results" / ("rehearsal" if rehearse else "full")
    with workflow.alone(folder / ".lock"):
        wanted = pending(names, rehearse=rehearse, device=device)
        if device == "cpu":
            needs["gpus"] = 0
        # A group on the CPU takes all cores, which its shards share.
        gpus = len(runs.visible_gpus()) if needs["gpus"] else 1
        usual = notebooks.available_cores() if rehearse else max(1, gpus)
        needs, many = launch.side_by_side(
            needs, len(wanted), jobs, usual, local=executor == "local"
        )
        code = 0
        if wanted:
            code = _snakemake(wanted, folder, needs, [*options, *many], more, device, rehearse)
        for name in names:
            file: Path | None = table_file(name, rehearse=rehearse)
            if unrecorded(computation(name, rehearse=rehearse), rehearse=rehearse):
                file = collect(name, rehearse=rehearse, device=device)
            print(f"{name}: {file or 'no part of it is complete'}")
    return code


def _check_there_is_a_gpu(executor: str, device: str) -> None:
    """Raise ValueError where full-scale work would go to the CPU without being asked to."""
    if executor == "local" and device == "auto" and kind_of(device) == "cpu":
        raise ValueError(
            "there is no GPU here, and on a CPU each group would take hours to days: give "
            "--executor slurm or kubernetes, --rehearse, or --device cpu to do it all the same"
        )


def _snakemake(
    wanted: Sequence[Job],
    folder: Path,
    needs: Mapping[str, Any],
    options: Sequence[str],
    more: Sequence[str],
    device: str,
    rehearse: bool,
) -> int:
    """Have Snakemake compute the groups, and say which failed; return the exit code."""
    from mflib import workflow
    from mflib.sweep import launch

    manifest, done = folder / "manifest.json", folder / "done"
    work = {job.name: {"computation": job.computation, "group": job.group.name} for job in wanted}
    write_json(manifest, {"device": device, "rehearse": rehearse, "needs": needs, "jobs": work})
    shutil.rmtree(done, ignore_errors=True)  # what is done is asked of the store alone
    code = 0
    try:
        launch.snakemake(SNAKEFILE, manifest, directory=folder, options=options, more=more)
    except workflow.Stopped as end:
        code = 130 if end.interrupted else 1
        print(str(end), end="\n" * bool(str(end)), file=sys.stderr)
    except KeyboardInterrupt:
        code = 130
    notes = {name: _note(done / name) for name in work}
    failed = {name: note["failed"] for name, note in notes.items() if note and "failed" in note}
    for name, why in failed.items():
        print(f"{name} failed: {why}", file=sys.stderr)
    if left := [name for name, note in notes.items() if not note]:
        print(
            f"{len(left)} of {len(work)} groups did not finish; the same command goes on with them",
            file=sys.stderr,
        )
    return code or int(bool(failed or left))


def _note(file: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None
