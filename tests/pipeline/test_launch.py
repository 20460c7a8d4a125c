"""The recipe for the branch that Binder and Colab open, run as the book prints it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import HERE


def recipe() -> str:
    section = (HERE / "book" / "run.md").read_text(encoding="utf-8").split("## Launch buttons")[1]
    (block,) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    return block


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a checkout of a small repository with an origin and an executed notebook."""
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "A Reader")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "reader@example.org")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    root = tmp_path / "a checkout"
    (root / "notebooks").mkdir(parents=True)
    (root / "mflib").mkdir()
    for name in (".gitignore", "pyproject.toml", "requirements.lock", "mflib/__init__.py"):
        shutil.copy(HERE / name, root / name)
    (root / "notebooks" / "alpha.py").write_text("# %%\n")
    (root / "notebooks" / "alpha.ipynb").write_text("executed once")
    commands = (
        f"git init -q --bare '{tmp_path}/origin.git' && git init -q -b main && git add . && "
        f"git commit -q -m Start && git remote add origin '{tmp_path}/origin.git'"
    )
    subprocess.run(["bash", "-ec", commands], cwd=root, check=True)
    return root


def test_the_branch_holds_the_notebooks_and_what_they_import(checkout: Path) -> None:
    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=checkout, check=True, capture_output=True, text=True
        ).stdout

    for content in ("executed once", "executed again"):
        (checkout / "notebooks" / "alpha.ipynb").write_text(content)
        subprocess.run(["bash", "-ec", recipe()], cwd=checkout, check=True, capture_output=True)
        origin = ("--git-dir", git("remote", "get-url", "origin").strip())
        assert git(*origin, "show", "launch:notebooks/alpha.ipynb") == content
        held = git(*origin, "ls-tree", "-r", "--name-only", "launch").splitlines()
        assert {"mflib/__init__.py", "pyproject.toml", "binder/runtime.txt"} <= set(held)
        for line in git(*origin, "show", "launch:binder/requirements.txt").splitlines():
            option, named = line.split()
            # -r is relative to the file that it stands in, -e to the folder that pip runs in
            place = os.path.normpath(f"binder/{named}" if option == "-r" else "pyproject.toml")
            assert place in held
        assert (checkout / "notebooks" / "alpha.ipynb").read_text() == content
        assert git("branch", "--show-current").strip() == "main"
        assert git("status", "--porcelain") == ""
