"""The chapters: which there are, what they take, what they depend on, and how one is executed.

A chapter is ``notebooks/<name>.py``, a jupytext percent file. Its executed copy,
``notebooks/<name>.ipynb``, is written whole or not at all, and holds in ``metadata["mflib"]`` what
it was executed from, so that whether it is fresh is read from the notebook itself and not from
the times of files.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mflib import parameters, paths, sources
from mflib.files import write_atomically
from mflib.parameters import Parameter

# jsonschema, which nbformat imports, compiles a grammar of international web addresses as it is
# imported: a third of the time that a run takes to begin, for a check that no schema of notebooks
# asks for. It does without where the grammar cannot be imported.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

DEFAULT_PROFILE = "quick"

KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


class CellError(Exception):
    """A cell of a notebook failed; ``kept`` is the partly executed notebook."""

    def __init__(self, message: str, *, source: str, traceback: str, kept: Path) -> None:
        super().__init__(message)
        self.source = source
        self.traceback = traceback
        self.kept = kept


class NotWritten(OSError):
    """An executed notebook cannot be written; the message says where a copy of it is, if any."""


class KernelDied(CellError):
    """The notebook's process ended or could not begin, through no fault that its code tells of."""


# --- which chapters there are, and what they take ---------------------------------------------


def names() -> tuple[str, ...]:
    """Return the names of all chapters, sorted."""
    return tuple(sorted(p.stem for p in paths.notebooks().glob("*.py") if p.stem[0] not in "._"))


def source(name: str) -> Path:
    """Return the file of a chapter. Raises ValueError, with the nearest name, if there is none."""
    known = names()
    if name not in known:
        raise ValueError(f"no notebook {name!r}: {parameters.nearest(name, known)}")
    return paths.notebooks() / f"{name}.py"


def read(name: str) -> Any:
    """Return a chapter as an unexecuted notebook. Raises ValueError if there is no such chapter.

    The same source gives the same notebook, the ids of its cells included.
    """
    import jupytext

    notebook = jupytext.read(source(name), fmt="py:percent")
    notebook.metadata = type(notebook.metadata)(kernelspec=KERNEL)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
    return notebook


def _parameters_cell(name: str, notebook: Any) -> Any:
    cells = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    if len(cells) != 1:
        raise ValueError(
            f"{source(name)} has {len(cells)} cells tagged 'parameters': give it exactly one, "
            "begun by '# %% tags=[\"parameters\"]'"
        )
    return cells[0]


def takes(name: str) -> dict[str, Parameter]:
    """Return the parameters of a chapter, by name, in the order of its cell.

    Raises ValueError if there is no such chapter or its parameters cell is not well formed.
    """
    cell = _parameters_cell(name, read(name))
    try:
        return parameters.parse(cell.source)
    except (ValueError, SyntaxError) as error:
        raise ValueError(f"{source(name)}: {error}") from None


def title(name: str) -> str:
    """Return the title of a chapter: its first heading."""
    for line in source(name).read_text(encoding="utf-8").splitlines():
        if line.startswith("# # "):
            return line.removeprefix("# # ").strip()
    return ""


# --- profiles ----------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """YAML 1.2's numbers and booleans, and no key twice.

    YAML 1.1, which PyYAML reads, takes ``1e-3`` for a string and ``on`` for true.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                line = node.start_mark.line + 1
                raise ValueError(f"{key!r} is given twice in the block at line {line}")
        return super().construct_mapping(node, deep)


_CORE_SCHEMA = {
    "tag:yaml.org,2002:null": r"^(?:~|null|Null|NULL|)$",
    "tag:yaml.org,2002:bool": r"^(?:true|True|TRUE|false|False|FALSE)$",
    "tag:yaml.org,2002:int": r"^[-+]?(?:0|[1-9][0-9]*)$",
    "tag:yaml.org,2002:float": (
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
}


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern in _CORE_SCHEMA.items():
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), None)


def read_yaml(file: Path) -> Any:
    """Return what a YAML file holds. Raises ValueError, in one sentence, where it is none."""
    try:
        return yaml.load(file.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{file} cannot be read: {' '.join(str(error).split())}") from None


def profiles() -> tuple[str, ...]:
    """Return the names of all profiles, sorted."""
    return tuple(sorted(p.stem for p in (paths.notebooks() / "profiles").glob("*.yaml")))


def profile(which: str, name: str) -> dict[str, Any]:
    """Return the block for the chapter ``name`` in the profile ``which``, unchecked.

    Raises ValueError if there is no such profile, it cannot be read, or it has no such block.
    """
    if which not in profiles():
        raise ValueError(f"no profile {which!r}: {parameters.nearest(which, profiles())}")
    file = paths.notebooks() / "profiles" / f"{which}.yaml"
    blocks = read_yaml(file)
    if not isinstance(blocks, dict) or name not in blocks:
        has = ", ".join(map(str, blocks)) if isinstance(blocks, dict) and blocks else "none"
        raise ValueError(
            f"{file} has no block {name!r} (it has {has}): add '{name}: {{}}' to run the notebook "
            "with its defaults"
        )
    block = blocks[name]
    if not isinstance(block, dict):
        raise ValueError(f"{file}: the block {name!r} is no list of 'parameter: value' lines")
    return block


# --- what an execution depends on ---------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """One execution, decided: all parameter values, and the content of all that it depends on."""

    name: str
    profile: str
    values: dict[str, Any]
    files: dict[str, str] = field(repr=False)

    def text(self) -> str:
        """Return the plan as JSON, the same for the same plan."""
        return json.dumps(vars(self), indent=1, sort_keys=True, ensure_ascii=False) + "\n"

    def digest(self) -> str:
        """Return a hash of the plan: sixteen hexadecimal digits of SHA-256."""
        return hashlib.sha256(self.text().encode()).hexdigest()[:16]

    def point(self) -> str:
        """Return a hash of what the result depends on, which is all but the profile's name."""
        return Plan(self.name, "", self.values, self.files).digest()


def hashes(files: list[Path]) -> dict[str, str]:
    """Return the SHA-256 of each file, by its path in the project."""
    return {
        _place(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(set(files))
    }


def _place(file: Path) -> str:
    """Return a file's path in the project; "results/…" for recorded tables, wherever they lie."""
    for folder, name in ((paths.results(), "results"), (paths.root(), "")):
        if file.is_relative_to(folder):
            return (Path(name) / file.relative_to(folder)).as_posix()
    return file.as_posix()


#: How a chapter asks for what is recorded of a long computation.
_RECORDED = re.compile(r"""recorded\.computation\(\s*["']([\w-]+)["']""")


def inputs(name: str) -> list[Path]:
    """Return the files that a chapter's result depends on, apart from its profile's block.

    They are its source, what it imports of ours, the locked versions, and the recorded tables
    that are its own, which are the files under ``results`` whose path there begins with its name,
    and those of the long computations that it names.
    """
    tables = [p for p in paths.results().glob(f"{name}*") if p.is_file()]
    tables += [p for p in paths.results().glob(f"{name}*/**/*") if p.is_file()]
    for known in _RECORDED.findall(source(name).read_text(encoding="utf-8")):
        tables += [p for p in (paths.results() / known).glob("*") if p.is_file()]
    lock = paths.root() / "requirements.lock"
    locked = [lock] if lock.is_file() else []
    return [source(name), *sources.notebook_closure(name), *locked, *tables]


def _check_results(files: list[Path]) -> None:
    """Raise ValueError where a recorded table among ``files`` is not as its record says."""
    records = [f for f in files if f.suffix == ".json" and paths.results() in f.parents]
    if not records:
        return
    from mflib import recorded

    try:
        for file in records:
            recorded.check(file)
    except recorded.Damaged as damage:
        raise ValueError(str(damage)) from None


def _check_device(device: Any) -> None:
    """Raise ValueError if CUDA is asked for by name and torch has none: no later than here."""
    if device != "cuda":
        return
    import torch

    if not torch.cuda.is_available():
        raise ValueError(
            "device = 'cuda' was asked for, but torch finds no GPU: give auto or cpu, or see "
            "'mflib check'"
        )


class Planner:
    """What decides executions of one chapter at one profile; files are read once, in the making.

    ``elsewhere`` says that another machine executes, so that CUDA may be asked for where there is
    none. Raises ValueError, with one sentence, where there is no such chapter or profile, or the
    profile is not sound.
    """

    def __init__(
        self, name: str, profile_name: str = DEFAULT_PROFILE, *, elsewhere: bool = False
    ) -> None:
        self.name, self.profile, self.elsewhere = name, profile_name, elsewhere
        self.known = takes(name)
        try:
            self.usual = parameters.resolve(self.known, profile(profile_name, name))
        except ValueError as error:
            raise ValueError(f"profile {profile_name}, notebook {name}: {error}") from None
        files = inputs(name)
        _check_results(files)
        self.files = hashes(files)

    def typed(self, values: Mapping[str, Any]) -> Plan:
        """Return the plan with ``values`` over the profile's. Raises ValueError as `plan`."""
        resolved = parameters.resolve(self.known, {**self.usual, **values})
        if not self.elsewhere:
            _check_device(resolved.get("device"))
        return Plan(self.name, self.profile, resolved, self.files)

    def given(self, values: Mapping[str, Any]) -> Plan:
        """Return the plan with ``values``, of which text is read as from a command line."""
        return self.typed(
            {
                key: parameters.from_text(self.known[key], value)
                if isinstance(value, str) and key in self.known
                else value
                for key, value in values.items()
            }
        )


def plan(
    name: str, profile_name: str = DEFAULT_PROFILE, given: Mapping[str, Any] | None = None
) -> Plan:
    """Decide an execution: the profile's values over the defaults, ``given`` over both.

    Entries of ``given`` that are text are read as from a command line. Raises ValueError, with one
    sentence, for whatever is unknown, of a wrong type or out of range, and for CUDA where there is
    none; nothing is executed.
    """
    return Planner(name, profile_name).given(given or {})


def command(decided: Plan) -> str:
    """Return the command that makes a plan again, quoted for a shell.

    It names the profile where that is not the default one, and each parameter whose value is not
    what the profile says.
    """
    known = takes(decided.name)
    usual = parameters.resolve(known, profile(decided.profile, decided.name))
    words = ["mflib", "run", decided.name]
    if decided.profile != DEFAULT_PROFILE:
        words += ["--profile", decided.profile]
    for name, value in decided.values.items():
        if value != usual[name]:
            words += ["-p", f"{name}={parameters.to_text(known[name], value)}"]
    return shlex.join(words)


def executed(name: str) -> Path:
    """Return where the executed copy of a chapter goes, for the book."""
    return paths.notebooks() / f"{name}.ipynb"


def record(file: Path) -> dict[str, Any]:
    """Return what an executed notebook says it was executed from; empty where it says nothing."""
    try:
        metadata = json.loads(file.read_text(encoding="utf-8"))["metadata"]["mflib"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return metadata if isinstance(metadata, dict) else {}


_CHECKSUM = "content_sha256"


def _sealed(notebook: Any) -> str:
    """Return a notebook as text that states its checksum: of the text with zeros in its place."""
    import nbformat

    notebook.metadata["mflib"][_CHECKSUM] = "0" * 64
    text = nbformat.writes(notebook)
    before, after = text.rsplit(_field("0" * 64), 1)
    return f"{before}{_field(hashlib.sha256(text.encode()).hexdigest())}{after}"


def _field(checksum: str) -> str:
    return f'"{_CHECKSUM}": "{checksum}"'


def is_sound(file: Path) -> bool:
    """Tell whether an executed notebook is, to the byte, as it was written."""
    stated = str(record(file).get(_CHECKSUM))
    try:
        text = file.read_bytes()
        before, after = text.rsplit(_field(stated).encode(), 1)
    except (OSError, ValueError):
        return False
    blank = before + _field("0" * 64).encode() + after
    return hashlib.sha256(blank).hexdigest() == stated


def is_fresh(wanted: Plan) -> bool:
    """Tell whether the chapter's executed copy came from exactly this plan, and is as written.

    A copy that was altered since is named in a warning.
    """
    file = executed(wanted.name)
    if record(file).get("digest") != wanted.digest():
        return False
    sound = is_sound(file)
    if not sound:
        print(f"{file} was altered since it was written: executing it again", file=sys.stderr)
    return sound


# --- execution -----------------------------------------------------------------------------------


def check_output(file: Path) -> Path:
    """Return ``file`` with links followed, if a notebook can be written there.

    Raises ValueError if it is a folder, lies in none, is no ``.ipynb``, or may not be written.
    """
    file = file.expanduser().resolve()
    try:
        is_folder = file.is_dir()
    except OSError as error:
        raise ValueError(f"{file} is no place ({error.strerror}): give another") from None
    if is_folder:
        raise ValueError(f"{file} is a folder: give the name of a file in it, like out.ipynb")
    if file.suffix != ".ipynb":
        raise ValueError(f"{file} does not end in .ipynb: give a name that does")
    if not file.parent.is_dir():
        raise ValueError(f"the folder {file.parent} does not exist: make it first")
    try:
        # A file without a name, gone as soon as it is closed, whatever happens.
        tempfile.TemporaryFile(dir=file.parent).close()
    except OSError as error:
        raise ValueError(
            f"cannot write in {file.parent} ({error.strerror}): give another place"
        ) from None
    return file


def convert(name: str, output: Path) -> Path:
    """Write a chapter as an unexecuted notebook, for Jupyter or plain papermill; return where."""
    import nbformat

    output = check_output(output)
    takes(name)
    write_atomically(output, nbformat.writes(read(name)))
    return output


def available_cores() -> int:
    """Return how many cores this process may use: the machine's, its affinity's, its quota's."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):
        pass
    return cores


def _kernel_environment(work: Path, command: str) -> dict[str, str]:
    """Return what a notebook's process is told beside what the user's environment says.

    Its IPython folder is empty, so that nobody's start-up files come into a chapter, and it finds
    the mflib that this process found, even where another copy is the installed one. MFLIB_RUN is
    the ``command`` that makes the same run again, for the records of where results come from.
    """
    package = str(Path(__file__).resolve().parents[1])
    search = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    # MKL and OpenBLAS heed OMP_NUM_THREADS only where their own variable is not set.
    cores = os.environ.get("OMP_NUM_THREADS", str(available_cores()))
    threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {
        "MFLIB_ROOT": str(paths.root()),
        "MFLIB_RUN": command,
        "PYTHONPATH": os.pathsep.join(search),
        "IPYTHONDIR": str(work / "ipython"),
        "PYTHONSTARTUP": "",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        **{name: os.environ.get(name, cores) for name in threads},
    }


def _kernel_manager(work: Path, command: str) -> type:
    """Return a kernel manager whose kernel is this Python, whichever kernels are installed."""
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    spec = KernelSpec(
        argv=[
            *(sys.executable, "-Xfrozen_modules=off", "-m", "ipykernel_launcher"),
            *("-f", "{connection_file}", "--HistoryManager.enabled=False"),
            "--log-level=CRITICAL",
        ],
        display_name=KERNEL["display_name"],
        language=KERNEL["language"],
        env=_kernel_environment(work, command),
    )

    place: dict[str, str] = {}
    connection = work / "kernel.json"
    # The kernel listens on files in a folder of ours alone rather than on network ports, which
    # another program may take first and other users of the machine may reach. The system allows
    # such names little more than a hundred characters, and a folder for temporary files may be
    # deep.
    if len(os.fsencode(connection)) < 90:
        place = {"transport": "ipc", "connection_file": str(connection)}

    class ThisPython(AsyncKernelManager):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**place, **settings)

        @property
        def kernel_spec(self) -> KernelSpec:
            return spec

    return ThisPython


def _finish(notebook: Any, record: dict[str, Any]) -> None:
    """Leave in a notebook what it is, and take out what differs between equal executions."""
    notebook.metadata.pop("papermill", None)
    notebook.metadata["kernelspec"] = dict(KERNEL)
    notebook.metadata["mflib"] = record
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)


def failed_name(output: Path) -> Path:
    """Return where the partly executed notebook is kept when a cell fails."""
    return output.with_suffix(".failed.ipynb")


def execute(wanted: Plan, output: Path | None = None, *, progress: bool = True) -> Path:
    """Execute a chapter as planned, through papermill, and write it to ``output`` when it is done.

    ``output`` is the chapter's place in the book unless given. Returns it. Raises ValueError if
    nothing can be written there, before any work; NotWritten if it cannot be after all; CellError
    if a cell fails, and then the partly executed notebook is kept beside ``output`` as
    ``<name>.failed.ipynb``. One whose files changed while it was executed is written without the
    plan's digest, so that nobody takes it for what was planned.
    """
    import nbformat

    output = check_output(output or executed(wanted.name))
    notebook = read(wanted.name)
    cell = _parameters_cell(wanted.name, notebook)
    cell.source = parameters.rewrite(cell.source, wanted.values)
    record: dict[str, Any] = {
        "notebook": wanted.name,
        "profile": wanted.profile,
        "parameters": wanted.values,
    }
    started = time.monotonic()
    work, kept_open = _work_folder()
    try:
        notebook = _run_papermill(notebook, work, command(wanted), progress=progress)
        record["seconds"] = round(time.monotonic() - started, 1)
        if is_as_planned(wanted):
            record["digest"] = wanted.digest()
        else:
            print(f"{CHANGED}: it is not taken for a result of either", file=sys.stderr)
        _finish(notebook, record)
        _write_or_rescue(output, _sealed(notebook))
        failed_name(output).unlink(missing_ok=True)
        return output
    except CellError as error:
        notebook = nbformat.read(error.kept, as_version=4)
        _finish(notebook, record)
        error.kept = failed_name(output)
        try:
            _write_or_rescue(error.kept, _sealed(notebook))
        except NotWritten as unwritten:
            raise NotWritten(f"{error}; and {unwritten}") from None
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
        os.close(kept_open)


CHANGED = "what the notebook depends on was changed while it was executed"


def is_as_planned(wanted: Plan) -> bool:
    """Tell whether all that a plan depends on still is what it was when the plan was made."""
    try:
        return hashes(inputs(wanted.name)) == wanted.files
    except (OSError, ValueError, SyntaxError):
        return False


_WORK = "mflib-run-"


def _work_folder() -> tuple[Path, int]:
    """Return a new folder for an execution, and the lock that says that it is in use.

    What executions that were killed have left behind is removed first.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{_WORK}*"):
        with contextlib.suppress(OSError):
            lock = os.open(left / "lock", os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(lock)
    made = Path(tempfile.mkdtemp(prefix=_WORK))
    # Locked before it has its name, so that at no moment it looks abandoned.
    lock = os.open(made / "lock.new", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.rename(made / "lock.new", made / "lock")
    return made, lock


def _write_or_rescue(output: Path, text: str) -> None:
    """Write an executed notebook. Raises NotWritten, with a copy elsewhere if that can be."""
    try:
        write_atomically(output, text)
    except OSError as error:
        why = f"{output} cannot be written ({error.strerror})"
        rescued = Path(tempfile.gettempdir()) / output.name
        try:
            write_atomically(rescued, text)
        except OSError:
            raise NotWritten(f"{why}, nor a copy of it: make room and repeat") from None
        raise NotWritten(f"{why}: make room and repeat, or take the copy {rescued}") from None


def _run_papermill(notebook: Any, work: Path, command: str, *, progress: bool) -> Any:
    """Return the executed notebook.

    Raises CellError if a cell fails and KernelDied if the notebook's process ends or cannot begin;
    what was done so far is kept in ``work``.
    """
    import nbformat
    import papermill
    from nbclient.exceptions import DeadKernelError
    from zmq.error import ZMQError

    partial = work / "partial.ipynb"
    partial.write_text(nbformat.writes(notebook), encoding="utf-8")
    try:
        return papermill.execute_notebook(
            notebook,
            partial,
            kernel_name=KERNEL["name"],
            kernel_manager_class=_kernel_manager(work, command),
            progress_bar=progress,
            cwd=paths.notebooks(),
        )
    except papermill.PapermillExecutionError as error:
        raise CellError(
            f"{error.ename}: {error.evalue}",
            source=error.source,
            traceback="\n".join(error.traceback),
            kept=partial,
        ) from None
    except (DeadKernelError, ZMQError, RuntimeError) as error:
        # What a kernel that ends before its first answer raises is a plain RuntimeError.
        if type(error) is RuntimeError and "ernel" not in str(error):
            raise
        began = isinstance(error, DeadKernelError)
        raise KernelDied(
            "the notebook's process died, most often for lack of memory"
            if began
            else f"the notebook's process could not begin ({error})",
            source="",
            traceback="",
            kept=partial,
        ) from None
