"""Which files a module or a notebook depends on, and when their code counts as changed."""

from __future__ import annotations

import ast

import pytest

from mflib import paths, sources


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Make a package with one chain of imports, one bystander and one notebook."""
    package = tmp_path / "mflib"
    (package / "deep").mkdir(parents=True)
    (tmp_path / "notebooks").mkdir()
    (package / "__init__.py").write_text('"""Top."""\n')
    (package / "deep" / "__init__.py").write_text("")
    (package / "base.py").write_text("def one():\n    return 1\n")
    (package / "middle.py").write_text("from mflib import base\n\nTWO = base.one() + 1\n")
    (package / "deep" / "late.py").write_text(
        "def load():\n    from ..middle import TWO\n    return TWO\n"
    )
    (package / "bystander.py").write_text("import numpy\n")
    (tmp_path / "notebooks" / "one.py").write_text("from mflib.deep import late\n")
    monkeypatch.setenv("MFLIB_ROOT", str(tmp_path))
    return tmp_path


def names(files):
    return {f.relative_to(paths.root()).as_posix() for f in files}


CHAIN = {
    "mflib/__init__.py",
    "mflib/base.py",
    "mflib/middle.py",
    "mflib/deep/__init__.py",
    "mflib/deep/late.py",
}


def test_closure_follows_imports_inside_functions_and_relative_ones(project):
    assert names(sources.closure("mflib.deep.late")) == CHAIN
    assert names(sources.notebook_closure("one")) == CHAIN


def test_circular_imports_end(project):
    (project / "mflib" / "base.py").write_text("import mflib.middle\n")
    assert "mflib/middle.py" in names(sources.closure("mflib.base"))


def test_unknown_names_are_refused(project):
    with pytest.raises(ValueError, match=r"mflib\.nothing"):
        sources.closure("mflib.nothing")
    with pytest.raises(ValueError, match="the notebooks are one"):
        sources.notebook_closure("two")


def test_code_version_ignores_prose_and_sees_code(project):
    first = sources.code_version("mflib.deep.late")
    base = project / "mflib" / "base.py"
    base.write_text('def one():\n    """Return 1."""\n    # one\n\n    return (1)\n')
    assert sources.code_version("mflib.deep.late") == first
    base.write_text("def one():\n    return 1.0\n")
    changed = sources.code_version("mflib.deep.late")
    assert changed != first
    (project / "mflib" / "bystander.py").write_text("import scipy\n")
    assert sources.code_version("mflib.deep.late") == changed


def test_code_version_is_that_of_python_3_11_on_every_python():
    """Shards are computed by one Python and known to another; each has its own syntax trees."""
    source = 'async def f(x, *, width=3):\n    """Say."""\n    return f"{x:<{width}} end", None\n'
    assert sources._without_prose(ast.parse(source)) == (
        "Module([AsyncFunctionDef('f', arguments([], [arg('x')], kwonlyargs=[arg('width')], "
        "kw_defaults=[Constant(3)], defaults=[]), [Return(Tuple([JoinedStr([FormattedValue("
        "Name('x', Load()), -1, JoinedStr([Constant('<'), FormattedValue(Name('width', Load()), "
        "-1)])), Constant(' end')]), Constant(None)], Load()))], [])], [])"
    )


def test_the_arrows_of_the_package_point_one_way():
    """Theory knows nothing of networks, experiment nothing of reports, the classroom of none.

    Nothing imports sweeps but the command line and what is computed like them.
    """
    allowed = {
        "theory": {"theory"},
        "experiment": {"experiment", "theory"},
        "report": {"report"},
        "classroom": {"classroom"},
        "sweep": {"sweep", "report"},
    }
    for part, may in allowed.items():
        for file in (paths.root() / "mflib" / part).glob("*.py"):
            imported = sources._imports(
                ast.parse(file.read_text()), sources._module_of(file), is_package=False
            )
            used = {n.split(".")[1] for n in imported if n.startswith("mflib.")} & allowed.keys()
            assert used <= may, f"{file.name} of {part} imports {used - may}"


def test_theory_never_imports_torch():
    for file in (paths.root() / "mflib" / "theory").glob("*.py"):
        imported = set(
            sources._imports(ast.parse(file.read_text()), "mflib.theory.x", is_package=False)
        )
        assert not any(n.split(".")[0] in {"torch", "torchvision"} for n in imported), file.name


def test_cache_honours_its_variables(monkeypatch, tmp_path):
    monkeypatch.setenv("MFLIB_CACHE", str(tmp_path / "here"))
    assert paths.cache() == tmp_path / "here"
    monkeypatch.delenv("MFLIB_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert paths.cache() == tmp_path / "mflib"
