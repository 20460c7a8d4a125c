"""From a description to finished runs: what is left to do, Snakemake, and the table at the end.

Nothing is kept here between two calls: which runs are done is read from their outcome records
each time, so the same command goes on after whatever stopped it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mflib import files, notebooks, parameters, paths, workflow
from mflib.notebooks import Plan
from mflib.sweep import points, progress, runs
from mflib.sweep.points import Sweep

EXECUTORS = ("local", "slurm", "kubernetes")

RETRIES = 2  # of a run whose process died

SNAKEFILE = Path(__file__).with_name("Snakefile")

TOLD = ("MFLIB_MANIFEST", "MFLIB_PYTHON", "MFLIB_EXECUTOR")
"""What a Snakefile and its jobs find in the environment: what to do, with which Python, where."""

# Snakemake's options that take many values, of which the last list would replace the others.
_LISTS = ("--default-resources", "--envvars", "--resources")

_NEEDS: dict[str, type] = {"minutes": int, "memory_gb": float, "cores": int, "gpus": int}


# --- what a run needs ----------------------------------------------------------------------------


def resources_file() -> Path:
    """Return the file that says what a run of each notebook takes."""
    return paths.notebooks() / "resources.yaml"


def needs(notebook: str, profile: str) -> dict[str, Any]:
    """Return the minutes, memory (GB), cores and GPUs that a run takes at most.

    Raises ValueError where `resources_file` does not say so, or says anything else.
    """
    file = resources_file()
    if not file.is_file():
        raise ValueError(f"{file} is not there: it says what a run of each notebook takes")
    blocks = notebooks.read_yaml(file)
    block = blocks.get(notebook, {}).get(profile) if isinstance(blocks, dict) else None
    example = f"'{notebook}: {{{profile}: {{minutes: 30, memory_gb: 3, cores: 2, gpus: 0}}}}'"
    if not isinstance(block, dict) or set(block) != set(_NEEDS):
        raise ValueError(f"{file} must say what {notebook} takes, like {example}")
    for key, value in block.items():
        right = type(value) in (int, _NEEDS[key])
        if not right or value < 0 or (value == 0 and key != "gpus"):
            raise ValueError(f"{file}: {key}: {value!r} of {notebook} is no such number: {example}")
    return dict(block)


def total_memory_gb() -> float:
    """Return the memory of this machine in GB, or what a limit leaves of it."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        total = min(total, int(limit)) if limit != "max" else total
    except (OSError, ValueError):
        pass
    given = os.environ.get("SLURM_MEM_PER_NODE", "")  # in MiB, in an allocation of Slurm
    if given.isdecimal():
        total = min(total, int(given) * 2**20)
    return total / 1e9


def usual_jobs(need: Mapping[str, Any], plans: Sequence[Plan]) -> int:
    """Return how many runs go side by side unless the user says: as many as fit on this machine.

    One for each GPU where they want one, else one for each core and for each ``memory_gb``.
    """
    if uses_gpus(need, plans):
        return len(runs.visible_gpus())
    return max(1, min(notebooks.available_cores(), int(total_memory_gb() // need["memory_gb"])))


def side_by_side(
    need: Mapping[str, Any], n: int, jobs: int | None, usual: int, *, local: bool
) -> tuple[dict[str, Any], list[str]]:
    """Return what each of ``n`` jobs takes, and Snakemake's options for how many go side by side.

    ``jobs`` of them, ``usual`` if None. Here they share the cores, and want no GPU where there is
    none; on a cluster, 100 are handed over at a time unless ``jobs`` says.
    """
    if not local:
        return dict(need), ["--jobs", str(jobs or 100)]
    many = max(1, min(jobs or usual, n))
    cores, gpus = max(1, notebooks.available_cores() // many), len(runs.visible_gpus())
    share = {**need, "cores": cores, "gpus": min(need["gpus"], gpus)}
    return share, ["--cores", str(cores * many), "--resources", f"gpu={gpus}"]


def uses_gpus(need: Mapping[str, Any], plans: Sequence[Plan]) -> bool:
    """Tell whether runs go on GPUs of this machine."""
    wanted = any(plan.values.get("device", "cpu") != "cpu" for plan in plans)
    return wanted and bool(runs.visible_gpus())


# --- executors -----------------------------------------------------------------------------------


def _slurm_options() -> list[str]:
    """Return what the Slurm of this machine asks for. Raises ValueError where there is none."""
    try:
        said = subprocess.run(
            ["scontrol", "show", "config"], capture_output=True, text=True, timeout=60, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        raise ValueError(
            "no Slurm answers here ('scontrol show config' fails): give the command on a machine "
            "that can submit jobs, or leave --executor out"
        ) from None
    # Without accounting there is no account to guess, and no sacct to ask for the state of jobs.
    if re.search(r"AccountingStorageType\s*=\s*(accounting_storage/none|\(null\))", said):
        return ["--slurm-no-account", "--slurm-status-command", "squeue"]
    return []


def _kubernetes_options(more: Sequence[str]) -> list[str]:
    """Return what jobs on Kubernetes need. Raises ValueError where they could not run."""
    if not any(word.split("=")[0] == "--container-image" for word in more):
        raise ValueError(
            "Kubernetes needs an image for its jobs: name it by "
            "--snakemake '--container-image IMAGE', as the book's page on clusters says"
        )
    if shutil.which("rsync") is None:
        raise ValueError(
            "rsync is not installed here, and Snakemake needs it to see what jobs on Kubernetes did"
        )
    # A job gets these variables only. By PATH it finds the project's environment, which lies on
    # the volume that all share; its plugin has it install a package by pip.
    named = (name for name in os.environ if name.startswith(("MFLIB_", "PIP_")))
    wanted = sorted({*named, *TOLD})
    wanted += [name for name in ("PATH", "PYTHONPATH") if name in os.environ]
    # Kubernetes refuses a GPU that is requested without a limit, and scale=0 sets limits.
    resources = ("scale=0", "gpu_manufacturer=nvidia")
    storage = ("--default-storage-provider", "fs")
    return [*storage, "--default-resources", *resources, "--envvars", *wanted]


def check_executor(executor: str) -> None:
    """Raise ValueError where there is no such executor."""
    if executor not in EXECUTORS:
        raise ValueError(f"no executor {executor!r}: {parameters.nearest(executor, EXECUTORS)}")


def ready(executor: str, more: Sequence[str] = ()) -> list[str]:
    """Return Snakemake's options for an executor, after all that can be checked before the work.

    Raises ValueError as `executor_options` and `check_place`, and where ``more`` has an option that
    is not the user's to give.
    """
    ours = (
        "--config",
        "--configfile",
        "--directory",
        "-d",
        "--snakefile",
        "-s",
        "--executor",
        "-e",
    )
    for word in more:
        if word.split("=")[0] in ours:
            raise ValueError(
                f"--snakemake: {word.split('=')[0]} is not to be given: it says what is run and "
                "where, which mflib decides"
            )
    check_place()
    return executor_options(executor, more)


def _merged(options: Sequence[str]) -> list[str]:
    """Return options with all values of those that take many together, and these at the end."""
    single: list[str] = []
    many: dict[str, list[str]] = {}
    into = single
    for word in options:
        name, equals, value = word.partition("=")
        if name in _LISTS:
            into = many.setdefault(name, [])
            into += [value] if equals else []
        else:
            into = single if word.startswith("-") else into
            into.append(word)
    return single + [word for name, values in many.items() for word in (name, *values)]


def executor_options(executor: str, more: Sequence[str] = ()) -> list[str]:
    """Return Snakemake's options for an executor, where the user adds ``more``.

    Raises ValueError where it is unknown, its plugin is not installed, or it does not answer.
    """
    check_executor(executor)
    if executor == "local":
        # Whatever a profile of the user's says: that is for their own workflows.
        return ["--executor", "local", "--profile", "none"]
    import importlib.util

    if importlib.util.find_spec(f"snakemake_executor_plugin_{executor}") is None:
        raise ValueError(f"Snakemake's plugin for {executor} is not installed: run 'make cluster'")
    # Files that a job wrote may take a while to be seen through a network file system.
    common = ["--executor", executor, "--latency-wait", "60"]
    return common + (_slurm_options() if executor == "slurm" else _kubernetes_options(more))


def snakemake(
    snakefile: Path,
    manifest: Path,
    *,
    directory: Path,
    options: Sequence[str],
    more: Sequence[str] = (),
) -> None:
    """Run all of a Snakefile's jobs that can be run, in ``directory``, as far as they go.

    ``manifest`` is the file that the Snakefile reads to know what there is to do; ``options`` say
    where (as `ready`) and how many; ``more`` is what the user adds. A job that fails is tried again
    RETRIES times, and does not stop others.
    Whoever calls holds a lock on ``directory``. Raises Stopped as `workflow.snakemake`.
    """
    # What Snakemake remembers of an earlier call is of one that may have been killed.
    shutil.rmtree(directory / ".snakemake", ignore_errors=True)
    executor = options[options.index("--executor") + 1]
    if executor == "kubernetes":
        # Its plugin knows no shared folder: a job unpacks what lies beside us, and puts what it
        # made into the storage, which is this folder again.
        options = [*options, "--default-storage-prefix", str(directory)]
        snakefile = Path(shutil.copy(snakefile, directory / "Snakefile"))
    # By the environment, which Snakemake hands to its jobs as it is: of a value on its command line
    # it makes another where a folder's name has quotes, braces or a number sign.
    told = (str(manifest), sys.executable, executor)
    os.environ.update(zip(TOLD, told, strict=True))
    workflow.snakemake(
        *("--snakefile", str(snakefile), "--directory", str(directory)),
        *("--keep-going", "--nolock", "--retries", str(RETRIES), "--scheduler", "greedy"),
        *("--rerun-triggers", "mtime"),
        *_merged([*options, *more]),
        log=directory / "snakemake.log",
        end_children=executor == "local",
    )


# --- a sweep -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """A sweep decided: its points, the folder that it has, and the state of each point."""

    sweep: Sweep
    plans: list[Plan]
    folder: Path
    needs: dict[str, Any]
    bad: list[points.Bad]

    def varied(self) -> list[str]:
        """Return the given parameters that differ between points; all of them if none does."""
        given = self.sweep.varied()
        first = self.plans[0].values
        return [
            name for name in given if any(plan.values[name] != first[name] for plan in self.plans)
        ] or list(given)

    def states(self) -> dict[str, dict[str, Any] | None]:
        """Return the sound outcome record of each point, by digest; None where it is not done."""
        return {
            digest: runs.sound(runs.outcome_file(plan.name, digest))
            for plan in self.plans
            if (digest := plan.point())
        }

    def manifest(self) -> dict[str, Any]:
        """Return what a job, and the table at the end, must know."""
        return {
            "notebook": self.sweep.notebook,
            "profile": self.sweep.profile,
            "varied": self.varied(),
            "points": [{"digest": plan.point(), "values": plan.values} for plan in self.plans],
            "show": self.sweep.show,
            "resources": self.needs,
        }


def prepare(sweep: Sweep, *, executor: str = "local") -> Work:
    """Decide a sweep: every point checked, nothing written. Raises as `points.decide`."""
    plans, bad = points.decide(sweep, elsewhere=executor != "local")
    need = needs(sweep.notebook, sweep.profile)
    folder = runs.folder(sweep.notebook) / "sweeps" / points.name(sweep, plans)
    return Work(sweep, plans, folder, need, bad)


def check_place() -> None:
    """Raise ValueError, before any work, if nothing can be written where runs go."""
    place = paths.runs()
    there = next(folder for folder in (place, *place.parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"cannot write in {there}: name another folder for the runs by MFLIB_RUNS")


def run(
    work: Work,
    options: Sequence[str],
    *,
    command: str = "",
    jobs: int | None = None,
    more: Sequence[str] = (),
    again: bool = False,
) -> int:
    """Execute the points of a sweep that are not done, then write its table; return the exit code.

    0: all finished; 1: some failed or did not finish; 130: interrupted. ``options`` are what
    `ready` returns; ``command`` is the one that makes the sweep again, for its pages; ``again``
    forgets runs that failed. Raises Busy where another process is at this sweep.
    """
    work.folder.mkdir(parents=True, exist_ok=True)
    with workflow.alone(work.folder / ".lock"):
        began = time.time()
        states = work.states()
        if again:
            _forget_failures(work, states)
        pending = [digest for digest, state in states.items() if state is None]
        manifest = {**work.manifest(), **({"command": command} if command else {})}
        usual = usual_jobs(work.needs, work.plans)
        need, many = side_by_side(work.needs, len(pending), jobs, usual, local="local" in options)
        manifest["resources"] = need
        files.write_json(work.folder / "sweep.json", manifest)
        files.write_json(work.folder / "pending.json", pending)
        shutil.rmtree(work.folder / "done", ignore_errors=True)
        interrupted, said = False, ""
        if pending:
            with progress.Watcher(work.sweep.notebook, manifest, pending):
                try:
                    snakemake(
                        SNAKEFILE,
                        work.folder / "sweep.json",
                        directory=work.folder,
                        options=[*options, *many],
                        more=more,
                    )
                except workflow.Stopped as end:
                    interrupted, said = end.interrupted, str(end)
                except KeyboardInterrupt:
                    interrupted = True
        return _conclude(work, manifest, began, said, interrupted=interrupted)


def _conclude(
    work: Work, manifest: dict[str, Any], began: float, said: str, *, interrupted: bool
) -> int:
    """Say what became of a sweep, write its table, and return the exit code.

    ``began`` is when, in seconds since the epoch; ``said`` are Snakemake's last words.
    """
    from mflib.sweep import tables

    states = work.states()
    failed = {d: s for d, s in states.items() if s is not None and s["outcome"] == runs.FAILED}
    missing = [digest for digest, state in states.items() if state is None]
    progress.report(manifest, failed, missing, work.folder, began, said, interrupted=interrupted)
    try:
        frame = tables.finish(manifest, work.folder, paths.runs())
    except OSError:  # a full disk, which the command line puts in words
        raise
    except Exception as error:  # the runs are done, and what is wrong with a table must not hide it
        print(f"The table could not be made: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(progress.table(frame, manifest))
    if notice := frame.attrs.get("notice"):
        print(f"{notice}\n")
    for name, what in (
        ("index.html", "Index"),
        ("table.csv", "Table"),
        ("table.parquet", ""),
        ("figure.png", "Figure"),
    ):
        if (work.folder / name).is_file():
            print(f"{what + ':' if what else '':7} {work.folder / name}")
    if interrupted and missing:
        return 130
    return 1 if failed or missing else 0


def _forget_failures(work: Work, states: dict[str, dict[str, Any] | None]) -> None:
    for digest, state in states.items():
        if state is not None and state["outcome"] != runs.FINISHED:
            runs.outcome_file(work.sweep.notebook, digest).unlink(missing_ok=True)
            states[digest] = None
