"""Which code a result depends on, read from the import statements.

Two questions are answered here: which files must be unchanged for an executed notebook to stay
valid (`notebook_closure`), and which version of the code computed a recorded table
(`code_version`).
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from mflib import paths

PACKAGE = "mflib"


def _package_dir() -> Path:
    return paths.root() / PACKAGE


def _file_of(module: str) -> Path | None:
    """Return the file that defines ``module``, or None where no such module of ours exists."""
    base = paths.root().joinpath(*module.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _module_of(file: Path) -> str:
    parts = file.relative_to(paths.root()).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.lru_cache(maxsize=512)
def _imports(tree: ast.Module, module: str, *, is_package: bool) -> tuple[str, ...]:
    """Return every dotted name that ``tree`` imports, at any level of nesting.

    ``from a import b`` gives both ``a`` and ``a.b``: b may be a module or an attribute, and only
    the file system knows.
    """
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                keep = len(parts) - node.level + (1 if is_package else 0)
                base = ".".join([*parts[:keep], *([base] if base else [])])
            found += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return tuple(found)


@functools.lru_cache(maxsize=512)
def _parsed(file: Path, _stamp: tuple[int, int]) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


def _parse(file: Path) -> ast.Module:
    stat = file.stat()
    return _parsed(file, (stat.st_mtime_ns, stat.st_size))


def _ours(names: Iterable[str]) -> Iterator[Path]:
    """Yield the files of ours behind ``names``, with the packages that importing them runs."""
    for name in names:
        if name.split(".")[0] != PACKAGE:
            continue
        parts = name.split(".")
        for n in range(1, len(parts) + 1):
            file = _file_of(".".join(parts[:n]))
            if file is not None:
                yield file


def _close(start: Iterable[Path]) -> tuple[Path, ...]:
    found: set[Path] = set()
    waiting = list(start)
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        names = _imports(_parse(file), _module_of(file), is_package=file.name == "__init__.py")
        waiting.extend(_ours(names))
    return tuple(sorted(found))


def closure(module: str) -> tuple[Path, ...]:
    """Return the file of ``module`` and of every module of ours it imports, transitively, sorted.

    Imports inside functions count, since what they bring in computes results too.

    Raises ValueError if ``module`` is not one of ours.
    """
    file = _file_of(module)
    if file is None or module.split(".")[0] != PACKAGE:
        raise ValueError(
            f"no module {module!r} in {_package_dir()}: give a name like 'mflib.theory'"
        )
    return _close(_ours([module]))


def notebook_closure(name: str) -> tuple[Path, ...]:
    """Return the files of ours that ``notebooks/<name>.py`` imports, transitively, sorted.

    Raises ValueError if there is no such notebook.
    """
    source = paths.notebooks() / f"{name}.py"
    if not source.is_file():
        known = ", ".join(sorted(p.stem for p in paths.notebooks().glob("*.py"))) or "none"
        raise ValueError(f"no notebook {name!r}: the notebooks are {known}")
    tree = _parse(source)
    return _close(_ours(_imports(tree, "", is_package=False)))


@functools.lru_cache(maxsize=512)
def _without_prose(tree: ast.Module) -> str:
    """Return a text of the syntax tree in which comments, layout and docstrings do not show."""
    bare = ast.parse(ast.unparse(tree))
    for node in ast.walk(bare):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
    return _dumped(bare)


def _dumped(node: object) -> str:
    """Return what Python 3.11's ``ast.dump(node, annotate_fields=False)`` does, on every Python.

    Later ones have more fields, leave empty lists out, and end some f-strings in an empty text; but
    what one Python computed must be known to another.
    """
    if isinstance(node, list):
        return f"[{', '.join(map(_dumped, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    words, named = [], False
    for name in node._fields:
        value = getattr(node, name, None)
        if isinstance(value, list) and isinstance(node, ast.JoinedStr):
            value = [part for part in value if getattr(part, "value", None) != ""]
        if name == "type_params" and not value:
            continue
        if value is None and getattr(type(node), name, ...) is None:
            named = True  # as its place no longer says which field the next one is
            continue
        words.append(f"{name}={_dumped(value)}" if named else _dumped(value))
    return f"{type(node).__name__}({', '.join(words)})"


def code_version(module: str) -> str:
    """Return a hash of what ``module`` computes with: its closure's code without the prose.

    Sixteen hexadecimal digits of SHA-256. A change of comment, docstring or layout keeps it, so
    that a better explanation does not make recorded results stale; any change of code alters it.
    """
    digest = hashlib.sha256()
    for file in closure(module):
        digest.update(_module_of(file).encode() + b"\0")
        digest.update(_without_prose(_parse(file)).encode() + b"\0")
    return digest.hexdigest()[:16]
