"""No network, no data, no GPU, a folder that is read-only, a disk that is full.

Each is one sentence, before the work where it can be known, and leaves nothing half-written; once
it is mended the same command succeeds.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mflib import cli, notebooks
from mflib.experiment import data

from .conftest import COUNTS, HERE, Sandbox

CHAPTER = """\
# %% [markdown]
# # A chapter that needs data and a place for shards

# %% tags=["parameters"]
device: str = "auto"  # where it is computed {{auto, cpu, cuda}}
dataset: str = "none"  # what is loaded {{none, mnist}}
keep: bool = False  # keep a shard of 60 kB
fill: int = 0  # bytes that the notebook grows by [0, 1000000]

# %%
if dataset != "none":
    from mflib.experiment import data

    print(data.load(dataset).n_classes)

# %%
if keep:
    import numpy as np

    from mflib.experiment.store import Store

    def compute():
        print("computing")
        return {{"x": np.random.default_rng(0).random(7500)}}

    print(Store().fetch({{"shard": 1}}, compute)["x"].size)

# %%
print("x" * fill)
"""


class Place:
    """A project of one chapter, its cache and its runs."""

    def __init__(self, root: Path, sandbox: Sandbox) -> None:
        self.root = root
        self.sandbox = sandbox
        self.notebooks = root / "notebooks"
        self.cache = root / "cache"
        self.runs = root / "runs"
        (self.notebooks / "profiles").mkdir(parents=True)
        for folder in (self.cache, self.runs, root / "tmp"):
            folder.mkdir()
        (self.notebooks / "some.py").write_text(CHAPTER.format())
        (self.notebooks / "profiles" / "quick.yaml").write_text("some: {}\n")
        needs = "{minutes: 1, memory_gb: 1, cores: 1, gpus: 0}"
        (self.notebooks / "resources.yaml").write_text(f"some: {{quick: {needs}}}\n")

    def environment(self) -> dict[str, str]:
        return {
            "MFLIB_ROOT": str(self.root),
            "MFLIB_CACHE": str(self.cache),
            "MFLIB_RUNS": str(self.runs),
            "MFLIB_DATA": "",
            "PYTHONPATH": str(HERE),
            "TMPDIR": str(self.root / "tmp"),
        }

    def mflib(self, *words: str, options: tuple[str | Path, ...] = ()) -> tuple[int, str]:
        """Run the command line in the sandbox; return its exit code and what it said."""
        done = self.sandbox.run(
            [sys.executable, "-m", "mflib.cli", *words],
            options=options,
            environment=self.environment(),
            folder=self.root,
        )
        return done.returncode, done.stdout + done.stderr

    def python(self, code: str, *, options: tuple[str | Path, ...] = ()) -> tuple[int, str]:
        done = self.sandbox.run(
            [sys.executable, "-c", code],
            options=options,
            environment=self.environment(),
            folder=self.root,
        )
        return done.returncode, done.stdout + done.stderr

    def files(self) -> list[str]:
        return sorted(
            path.relative_to(self.root).as_posix()
            for path in self.root.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        )


@pytest.fixture
def place(tmp_path: Path, sandbox: Sandbox) -> Place:
    return Place(tmp_path / "project", sandbox)


def the_sentence(said: str) -> str:
    """Return the one line that says what is wrong, where there is no other and no traceback."""
    assert "Traceback" not in said, said
    (line,) = [line for line in said.splitlines() if line.startswith("mflib: ")]
    return line


# --- no network, no data, no GPU ------------------------------------------------------------------


def test_without_network_and_data_a_chapter_says_where_to_get_them(place, fault):
    """All but the data works without a network: the notebook's process is reached by files."""
    before = place.files()
    code, said = place.mflib("run", "some", "-p", "dataset=mnist", options=("--unshare-net",))
    assert code == 1, said
    sentence = [line for line in said.splitlines() if line.startswith("mflib: ")]
    assert sentence == [
        "mflib: DataUnavailable: mnist is not on this machine and could not be downloaded: set "
        "MFLIB_DATA to a folder that holds it as torchvision lays it out, or connect to the "
        "network and retry"
    ]
    assert place.files() == sorted([*before, "notebooks/some.failed.ipynb"])
    fault(kind="no network, no data", target="mflib run", outcome="one sentence")

    code, said = place.mflib("run", "some", "-p", "keep=true", options=("--unshare-net",))
    assert code == 0, said
    assert place.files() != before
    fault(kind="no network", target="mflib run", outcome="finished")


def test_without_a_gpu_cuda_is_refused_before_any_work(place, fault, monkeypatch):
    import torch

    for name, value in place.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(notebooks, "execute", None)
    before = place.files()
    for words in (["run", "some", "-p"], ["sweep", "some", "--grid"]):
        done = CliRunner().invoke(cli.app, [*words, "device=cuda"], catch_exceptions=False)
        assert done.exit_code == 2
        assert "'cuda' was asked for, but torch finds no GPU: give auto or cpu" in done.stderr
        assert place.files() == before
        fault(
            kind="no GPU",
            target=f"mflib {words[0]}",
            outcome="exit code 2, one sentence, nothing written",
        )


# --- read-only folders ----------------------------------------------------------------------------


def test_read_only_folders_are_one_sentence_before_any_work(place, fault):
    before = place.files()
    for target, folder, words in (
        ("folder of notebooks", place.notebooks, ("run", "some")),
        ("folder of runs", place.runs, ("sweep", "some", "--grid", "fill=1,2")),
    ):
        code, said = place.mflib(*words, options=("--ro-bind", folder, folder))
        assert code == 2, said
        assert the_sentence(said).startswith(f"mflib: cannot write in {folder}")
        assert said.count("\n") == 1
        assert place.files() == before
        fault(kind="read-only", target=target, outcome="exit code 2, one sentence, nothing written")


def test_a_book_that_cannot_be_written_is_one_sentence(place, fault):
    build = place.root / "_build"
    build.mkdir()
    before = place.files()
    done = place.sandbox.run(
        [sys.executable, "-m", "mflib.build", "book"],
        options=("--ro-bind", build, build),
        environment=place.environment(),
        folder=place.root,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"make book: {build / 'lock'}: Read-only file system: see that")
    assert done.stderr.count("\n") == 1
    assert place.files() == before
    fault(kind="read-only", target="folder of the book", outcome="one sentence, nothing written")


FETCH = """
import numpy as np
from mflib.experiment import _shards
from mflib.experiment.store import NotKept, Store

began = []

def compute():
    began.append(1)
    return {"x": np.random.default_rng(0).random(7500)}

def gathered():
    _shards.gather({1: {"shard": 2}}, lambda *_: began.append(1), store=Store(), progress=False,
                   title="")

for work in (lambda: Store().fetch({"shard": 1}, compute), gathered):
    try:
        work()
        print("kept")
    except NotKept as error:
        print(error)
print(len(began), "begun")
"""


def test_a_read_only_cache_is_one_sentence_before_the_work(place, fault):
    code, said = place.python(FETCH, options=("--ro-bind", place.cache, place.cache))
    assert code == 0, said
    first, second, begun = said.splitlines()
    assert first == second
    assert first.startswith(f"no shard can be written in {place.cache / 'shards'} (Read-only file")
    assert "set MFLIB_CACHE to another folder" in first
    assert begun == "0 begun"
    fault(kind="read-only", target="cache", outcome="one sentence before the work", times=2)


def test_a_read_only_cache_still_gives_what_it_has(place, fault):
    fetch = (
        FETCH.split("for work")[0] + "print(Store().fetch({'shard': 1}, compute)['x'].size, began)"
    )
    assert place.python(fetch)[1] == "7500 [1]\n"
    code, said = place.python(fetch, options=("--ro-bind", place.cache, place.cache))
    assert (code, said) == (0, "7500 []\n")
    fault(kind="read-only", target="cache that has the shard", outcome="read from it")


# --- a full disk ----------------------------------------------------------------------------------


TWICE = """
import json, sys
from pathlib import Path

folder, ballast, code = Path(sys.argv[1]), Path(sys.argv[1]) / "ballast", sys.argv[2]
ballast.write_bytes(bytes(int(sys.argv[3])))
for attempt in range(2):
    found = []
    exec(code)
    left = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    print(json.dumps([found, sorted(set(left) - {"ballast"})]))
    ballast.unlink(missing_ok=True)
"""


def twice(
    place: Place, folder: Path, code: str, *, size: int = 128 * 1024
) -> list[tuple[list, list[str]]]:
    """Run Python code where ``folder`` is a disk of ``size`` bytes of which 28 kB are free, and
    again where all of them are.

    Return what the code put into ``found``, and the files in the folder, after each.
    """
    done = place.sandbox.run(
        [sys.executable, "-c", TWICE, folder, code, str(size - 28 * 1024)],
        options=("--size", str(size), "--tmpfs", folder),
        environment=place.environment(),
        folder=place.root,
    )
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def test_a_shard_that_meets_a_full_disk_is_one_sentence_and_nothing_half_written(place, fault):
    code = """
import numpy as np
from mflib.experiment.store import NotKept, Store
try:
    table = Store().fetch({"shard": 1}, lambda: {"x": np.random.default_rng(0).random(7500)})
    found.append(table["x"].size)
except NotKept as error:
    found.append(str(error))
"""
    (said, left), (kept, files) = twice(place, place.cache, code)
    assert len(said) == 1
    assert said[0].startswith(f"no shard can be written in {place.cache / 'shards'} (No space left")
    assert "the same command goes on" in said[0]
    assert left == []
    assert kept == [7500]
    assert sorted(Path(file).suffix for file in files) == [".json", ".npz"]
    fault(
        kind="full disk",
        target="shard",
        outcome="one sentence, nothing half-written; done when there is room",
    )


def test_a_full_folder_of_temporary_files_is_one_sentence(place, fault, counts):
    if counts != COUNTS["full"]:
        pytest.skip("only with MFLIB_FAULTS=full: what is on a full disk is tried anyway")
    code = """
import subprocess
words = ["-m", "mflib.cli", "run", "some", "-p", "fill=50000"]
done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
found += [done.returncode, done.stdout + done.stderr]
"""
    temporary = place.root / "tmp"
    ((exit_code, said), left), ((again, _), files) = twice(place, temporary, code, size=96 * 1024)
    assert exit_code == 1
    assert the_sentence(said) == (
        f"mflib: {place.notebooks} or {temporary}: No space left on device: make room there, or "
        "name another folder"
    )
    assert (left, again, files) == ([], 0, [])
    assert notebooks.is_sound(place.notebooks / "some.ipynb")
    fault(
        kind="full disk",
        target="folder of temporary files",
        outcome="one sentence, nothing half-written; done when there is room",
    )


def test_data_that_meet_a_full_disk_are_one_sentence_and_nothing_half_written(
    tmp_path, fault, monkeypatch
):
    data.import_torchvision()
    from torchvision import datasets

    monkeypatch.setenv("MFLIB_CACHE", str(tmp_path))
    monkeypatch.delenv("MFLIB_DATA", raising=False)

    def download(fetched: datasets.MNIST) -> None:
        folder = Path(fetched.raw_folder)
        folder.mkdir(parents=True)
        (folder / "train-images-idx3-ubyte.gz").write_bytes(b"the first part")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(datasets.MNIST, "download", download)
    with pytest.raises(data.DataUnavailable) as caught:
        data.load("mnist")
    assert str(caught.value) == (
        f"mnist cannot be downloaded into {tmp_path / 'data'} (No space left on device): make "
        "room there, set MFLIB_CACHE to another folder, or MFLIB_DATA to one that holds it"
    )
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    fault(kind="full disk", target="download", outcome="one sentence, nothing half-written")


def test_a_sweep_that_meets_a_full_disk_is_one_sentence_and_goes_on_when_there_is_room(
    place, fault, counts
):
    if counts != COUNTS["full"]:
        pytest.skip("only with MFLIB_FAULTS=full: two sweeps take a while")
    code = """
import subprocess
words = ["sweep", "some", "--grid", "fill=20000,21000", "--jobs", "1"]
done = subprocess.run([sys.executable, "-m", "mflib.cli", *words], capture_output=True, text=True)
found += [done.returncode, done.stdout + done.stderr]
"""
    ((exit_code, said), left), ((again, _), files) = twice(place, place.runs, code, size=16 * 2**20)
    assert exit_code == 1
    assert "No space left on device" in the_sentence(said)
    assert not [name for name in left if name.endswith((".ipynb", ".part"))]
    assert again == 0
    assert len([name for name in files if name.endswith(".ipynb")]) == 2
    assert [name for name in files if name.endswith("table.csv")]
    assert not [name for name in files if name.endswith(".part")]
    fault(
        kind="full disk",
        target="mflib sweep",
        outcome="one sentence, nothing half-written; done when there is room",
    )


def test_a_notebook_that_meets_a_full_disk_is_one_sentence_and_nothing_half_written(place, fault):
    out = place.root / "out"
    out.mkdir()
    code = """
from typer.testing import CliRunner
from mflib import cli
words = ["run", "some", "-p", "fill=60000", "-o", str(folder / "mine.ipynb")]
done = CliRunner().invoke(cli.app, words, catch_exceptions=False)
found += [done.exit_code, done.stderr]
"""
    ((exit_code, said), left), ((again, _), files) = twice(place, out, code)
    copy = place.root / "tmp" / "mine.ipynb"
    assert exit_code == 1
    assert the_sentence(said) == (
        f"mflib: {out / 'mine.ipynb'} cannot be written (No space left on device): make room and "
        f"repeat, or take the copy {copy}"
    )
    assert left == []
    assert notebooks.is_sound(copy)
    assert (again, files) == (0, ["mine.ipynb"])
    assert sorted(path.name for path in copy.parent.iterdir()) == [copy.name]
    fault(
        kind="full disk",
        target="executed notebook",
        outcome="one sentence, nothing half-written; done when there is room",
    )
