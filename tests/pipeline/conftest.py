"""A project of two small notebooks to run, change, kill and run again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parents[2]

CHAPTER = """\
# %% [markdown]
# # The {name} chapter
# What it computes is in `mflib.{module}`.

# %% tags=["parameters"]
seed: int = 0  # seed of the draws [0, 2**32)
sigma_b2: float = 0.05  # bias variance [0, 4]
activation: str = "tanh"  # activation function {{tanh, erf}}
depths: list[int] = [5, 10]  # depths of the networks, each [1, 1000]
limit: float | None = None  # largest value shown (0, inf]
wait: float = 0.0  # seconds to wait [0, 100]
broken: bool = False  # fail on purpose

# %%
import os
import time
from pathlib import Path

from mflib import {module}

# A mark outside the notebook, so that a test sees what was begun even where nothing was written.
with open(os.environ["MFLIB_TEST_TRACE"], "a") as trace:
    print("{name}", os.getpid(), file=trace)
for _ in range(10):
    time.sleep(wait / 10)

# %%
print(seed, sigma_b2, activation, depths, limit, {module}.VALUE)

# %%
if broken:
    raise RuntimeError("broken on purpose")

# %%
from IPython.display import display

record = {{
    "kind": "claim",
    "id": "{name}-sum",
    "statement": "A sum.",
    "paper": 0.3,
    "ours": sigma_b2 + len(activation) + seed,
    "tolerance": None,
    "checks": {{"positive": True}},
    "source": "",
    "note": "",
    "verdict": "reproduced",
    "provenance": {{
        "notebook": "{name}",
        "scale": "quick",
        "device": "CPU",
        "seed": seed,
        "commit": "0",
        "versions": {{}},
        "seconds": None,
        "command": os.environ.get("MFLIB_RUN", ""),
    }},
}}
display({{"text/plain": "reproduced"}}, metadata={{"mflib": record}}, raw=True)
"""

# The staging of the scratch book: the pages and the notebooks side by side.
PAGES = """\
import shutil
import sys
import time
from pathlib import Path

from mflib import paths

out = Path(sys.argv[2])
shutil.copytree(paths.book(), out)
for name in ("_config.yml", "_toc.yml"):
    shutil.copy(paths.root() / name, out)
for notebook in paths.notebooks().glob("*.ipynb"):
    if not notebook.stem.endswith(".failed"):
        shutil.copy(notebook, out)
"""


# In the place of Jupyter Book, which takes seconds and is tried in a test of its own.
QUICK_JUPYTER_BOOK = """\
import sys
from pathlib import Path


def main() -> None:
    html = Path(sys.argv[2]) / "_build" / "html"
    html.mkdir(parents=True)
    for page in Path(sys.argv[2]).glob("*.*"):
        (html / page.name).write_bytes(page.read_bytes())
    (html / "index.html").write_text("the book")
"""


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    """Tell whether a process is there and no zombie."""
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return bool(state.stdout.strip()) and not state.stdout.startswith("Z")


@dataclass(frozen=True)
class Project:
    """A project in a folder of its own, with its own copy of the package."""

    root: Path
    trace: Path
    python: str = sys.executable

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "MFLIB_ROOT": str(self.root),
            "PYTHONPATH": str(self.root),
            "MFLIB_TEST_TRACE": str(self.trace),
            "NO_COLOR": "1",
        }

    def start(self, module: str, *arguments: str) -> subprocess.Popen[str]:
        """Start a command in a process group of its own."""
        return subprocess.Popen(
            [self.python, "-m", module, *arguments],
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def call(self, module: str, *arguments: str) -> tuple[int, str]:
        """Run a command to its end; return its exit code and all that it said."""
        process = self.start(module, *arguments)
        said, _ = process.communicate(timeout=120)
        return process.returncode, said

    def mflib(self, *arguments: str) -> tuple[int, str]:
        return self.call("mflib.cli", *arguments)

    def book(self) -> tuple[int, str]:
        return self.call("mflib.build", "book")

    def executed(self) -> list[str]:
        """Return the chapters whose execution was begun, in order, and forget them."""
        lines = self.trace.read_text().split("\n")[:-1]
        self.trace.write_text("")
        return [line.split()[0] for line in lines]

    def edit(self, path: str, old: str, new: str) -> None:
        file = self.root / path
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    def files(self) -> dict[str, bytes]:
        """Return every file of the project but caches, by its path."""
        return {
            path.relative_to(self.root).as_posix(): path.read_bytes()
            for path in sorted(self.root.rglob("*"))
            if path.is_file() and "__pycache__" not in path.parts
        }


def make_project(root: Path, names: Sequence[str] = ("alpha", "beta")) -> Project:
    """Write a project whose chapter ``<name>`` imports ``mflib.<name>_theory``."""
    package = root / "mflib"
    (root / "notebooks" / "profiles").mkdir(parents=True)
    (root / "book").mkdir()
    (package / "report").mkdir(parents=True)
    for name in (
        "__init__",
        "build",
        "cli",
        "files",
        "notebooks",
        "parameters",
        "paths",
        "sources",
        "workflow",
    ):
        shutil.copy(HERE / "mflib" / f"{name}.py", package)
    shutil.copy(HERE / "Snakefile", root)
    for part in ("results", "sweep"):
        shutil.copytree(HERE / "mflib" / part, package / part)
    (package / "experiment").mkdir()
    for part in ("experiment/__init__", "experiment/store", "report/claims", "report/figures"):
        shutil.copy(HERE / "mflib" / f"{part}.py", package / f"{part}.py")
    shutil.copy(HERE / "mflib" / "report" / "provenance.py", package / "report")
    (package / "report" / "__init__.py").write_text("")
    (package / "report" / "pages.py").write_text(PAGES)
    (package / "shared.py").write_text("BASE = 1\n")
    for name in names:
        module = f"{name}_theory"
        (package / f"{module}.py").write_text("from mflib.shared import BASE\n\nVALUE = BASE + 1\n")
        (root / "notebooks" / f"{name}.py").write_text(CHAPTER.format(name=name, module=module))
    profiles = root / "notebooks" / "profiles"
    (profiles / "quick.yaml").write_text("".join(f"{name}: {{}}\n" for name in names))
    (profiles / "paper.yaml").write_text("".join(f"{name}:\n  sigma_b2: 1e-3\n" for name in names))
    need = "{minutes: 5, memory_gb: 1, cores: 1, gpus: 1}"
    (root / "notebooks" / "resources.yaml").write_text(
        "".join(f"{name}:\n  quick: {need}\n  paper: {need}\n" for name in names)
    )
    (root / "book" / "index.md").write_text("# The book\n\nWords.\n")
    (root / "_config.yml").write_text('title: Book\nexecute:\n  execute_notebooks: "off"\n')
    chapters = "".join(f"- file: {name}\n" for name in names)
    (root / "_toc.yml").write_text(f"format: jb-book\nroot: index\nchapters:\n{chapters}")
    (root / "requirements.lock").write_text("locked==1\n")
    trace = root.parent / f"{root.name}.trace"
    trace.write_text("")
    return Project(root, trace)


def results(project: Project) -> dict[str, Any]:
    """Return what a finished book shows, without how long each notebook took."""
    pages = project.root / "_build" / "book" / "_build" / "html"
    found: dict[str, Any] = {}
    for file in sorted(pages.glob("*.*")):
        found[file.name] = file.read_text()
        if file.suffix == ".ipynb":
            notebook = json.loads(file.read_text())
            for of_this_run in ("seconds", "content_sha256"):
                notebook["metadata"]["mflib"].pop(of_this_run)
            found[file.name] = notebook
    return found


def whole_or_absent(project: Project) -> None:
    """Check that nothing half-written stands where something finished belongs."""
    for name in ("alpha", "beta"):
        file = project.root / "notebooks" / f"{name}.ipynb"
        if file.exists():
            notebook = json.loads(file.read_text())
            assert len(notebook["metadata"]["mflib"]["digest"]) == 16
            assert all(c["execution_count"] for c in notebook["cells"] if c["cell_type"] == "code")
    if (project.root / "_build" / "book.json").exists():
        assert set(results(project)) >= {"index.html", "index.md", "alpha.ipynb", "beta.ipynb"}


def with_stand_in(project: Project) -> Project:
    """Put a stand-in for Jupyter Book, which takes seconds, in its place."""
    stand_in = project.root / "jupyter_book" / "cli"
    stand_in.mkdir(parents=True)
    (stand_in.parent / "__init__.py").write_text("")
    (stand_in / "__init__.py").write_text("")
    (stand_in / "main.py").write_text(QUICK_JUPYTER_BOOK)
    return project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Return a fresh project of two chapters, nothing executed."""
    return make_project(tmp_path / "project")
