"""A course: assignments as text become nbgrader's source and release notebooks, checked first.

A text source is in jupytext's percent form, and the role of a cell is a few words of its
metadata::

    # %% nbgrader="locked numbers"                          read-only; restored when graded
    # %% nbgrader="solution length-map"                     code to write
    # %% nbgrader="tests length-map-tests 4" mflib="noticed"    graded by running it, 4 points
    # %% [markdown] nbgrader="essay derivation 5"           an answer graded by hand, 5 points

``mflib`` says how the package relates to the question of a test cell: calling it is "the point",
a call is "noticed" and earns nothing, or a call is "no help".
"""

from __future__ import annotations

import ast
import contextlib
import copy
import csv
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbformat import NotebookNode

from mflib import paths
from mflib.classroom import regions, tokens

TABLE = "tokens.csv"
CONFIG = "nbgrader_config.py"
RELATIONS = ("the point", "noticed", "no help")
TEACHER = "instructor"  # the id under which the checked solution is handed in
TOKEN_CELL = 'classroom.token("")'

_ROLE = re.compile(r"(locked|solution) ([a-z0-9-]+)|(tests|essay) ([a-z0-9-]+) (\d+)")


class CourseError(Exception):
    """One sentence on what is wrong with a course, an assignment or a roster, and the remedy."""


@dataclass(frozen=True)
class Question:
    """A cell that earns points: its id, its points, how it is graded, and what mflib is to it."""

    name: str
    points: int
    by_hand: bool
    relation: str | None


def sources() -> dict[str, Path]:
    """Return the text sources of all assignments by name."""
    return {path.stem: path for path in sorted((paths.root() / "assignments").glob("*.py"))}


def read(path: Path) -> NotebookNode:
    """Return a text source as a notebook with nbgrader's metadata and no trace of the text.

    Raises CourseError for a role that is not in the grammar, an id used twice, or a test cell
    whose points, relation to mflib and code do not go together.
    """
    notebook = jupytext.read(path, fmt="py:percent")
    seen: set[str] = set()
    for index, cell in enumerate(notebook.cells):
        cell.id = f"cell-{index}"
        cell.metadata.pop("lines_to_next_cell", None)
        role = cell.metadata.pop("nbgrader", None)
        relation = cell.metadata.pop("mflib", None)
        if role is None:
            continue
        found = _ROLE.fullmatch(str(role))
        if not found:
            raise CourseError(
                f"{path.name}: nbgrader={role!r} must be 'locked ID', 'solution ID', "
                "'tests ID POINTS' or 'essay ID POINTS', with an ID in small letters and hyphens"
            )
        kind, name = found[1] or found[3], found[2] or found[4]
        if name in seen:
            raise CourseError(f"{path.name}: the id {name!r} is used twice; give each cell its own")
        seen.add(name)
        cell.id = name
        cell.metadata["nbgrader"] = {
            "grade_id": name,
            "grade": kind in ("tests", "essay"),
            "solution": kind in ("solution", "essay"),
            "locked": kind in ("locked", "tests"),
            "task": False,
            "schema_version": 3,
        }
        if found[5]:
            cell.metadata["nbgrader"]["points"] = int(found[5])
        if kind == "tests":
            _check_tests(f"{path.name}: {name}", cell.source, int(found[5]), relation)
    # A notebook that named its text source would be written back to it, or filled from it.
    notebook.metadata.pop("jupytext", None)
    return notebook


def _check_tests(where: str, source: str, points: int, relation: str | None) -> None:
    """Raise CourseError unless a test cell gives what it says, and says it in plain text."""
    if relation not in RELATIONS:
        raise CourseError(f"{where}: mflib={relation!r} must be one of {', '.join(RELATIONS)}")
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    parts = [c for c in calls if isinstance(c.func, ast.Attribute) and c.func.attr == "part"]
    given = sum(_literal(where, c.args[0]) for c in parts)
    if given != points:
        raise CourseError(f"{where}: its parts give {given:g} points, and the cell {points}")
    noticed = [_literal(where, k.value) for c in parts for k in c.keywords if k.arg == "by_hand"]
    if any(noticed) != (relation == "noticed"):
        raise CourseError(f"{where}: mflib='noticed' and a part with by_hand=True go together")
    for call in parts:
        words = [call.args[1], *(k.value for k in call.keywords if k.arg == "hint")]
        for word in words:
            _literal(where, word)
    if not source.rstrip().endswith(".total()"):
        raise CourseError(f"{where}: its last line must be marks.total(), which gives the points")


def _literal(where: str, node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise CourseError(
            f"{where}: {ast.unparse(node)!r} must be written out: feedback shows only what stands "
            "in the text"
        ) from None


def questions(path: Path) -> list[Question]:
    """Return the cells of a text source that earn points, in their order."""
    relations = {
        str(cell.metadata["nbgrader"]).split()[1]: cell.metadata.get("mflib")
        for cell in jupytext.read(path, fmt="py:percent").cells
        if "nbgrader" in cell.metadata
    }
    found = [cell.metadata["nbgrader"] for cell in read(path).cells if "nbgrader" in cell.metadata]
    return [
        Question(r["grade_id"], r["points"], r["solution"], relations[r["grade_id"]])
        for r in found
        if r["grade"]
    ]


def typed(notebook: NotebookNode, token: str) -> NotebookNode:
    """Return a copy of a notebook with a token typed into its first code cell, as a student does.

    Raises CourseError if there is no such place.
    """
    notebook = copy.deepcopy(notebook)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    if TOKEN_CELL not in first.source:
        raise CourseError(f"the first code cell must hold {TOKEN_CELL}, for the student to fill in")
    first.source = first.source.replace(TOKEN_CELL, f'classroom.token("{token}")')
    return notebook


# --- nbgrader -----------------------------------------------------------------------------------


def nbgrader(course: Path, *arguments: str) -> str:
    """Run nbgrader's command line in a course folder and return what it wrote.

    Raises CourseError with the end of that if it fails.
    """
    done = subprocess.run(
        [sys.executable, "-m", "nbgrader", *arguments],
        cwd=course,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={
            **os.environ,
            # nbgrader calls alembic by name to bring its gradebook up to date
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
            "JUPYTER_PLATFORM_DIRS": "1",
        },
    )
    if done.returncode:
        end = "\n".join(done.stdout.splitlines()[-12:])
        raise CourseError(f"{end}\nnbgrader {' '.join(arguments)} failed in {course}")
    return done.stdout


def grades(course: Path, assignment: str) -> dict[str, dict[str, tuple[float | None, float]]]:
    """Return each student's automatic points and the most there are, by id and by cell."""
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as book:
        return {
            submission.student.id: {
                grade.cell.name: (grade.auto_score, grade.cell.max_score)
                for notebook in submission.notebooks
                for grade in notebook.grades
            }
            for submission in book.assignment_submissions(assignment)
        }


def hand_in(course: Path, assignment: str, student: str, notebook: NotebookNode) -> Path:
    """Write a notebook where nbgrader looks for a student's submission, and return its path."""
    path = course / "submitted" / student / assignment / f"{assignment}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


_CONFIG = """\
# How nbgrader works in this course. Yours to change: `make assignments` does not write it again.
from mflib.classroom import grading

c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "mean-field-theory"

# Submissions run isolated, and each within these limits.
c.Execute.timeout = 60  # seconds for one cell
c.Execute.seconds = 600  # seconds for one submission
c.Execute.memory_gib = 4.0
# "sandbox" here refuses to grade where submissions could reach the network or your files.
c.Execute.isolation = "best"

grading.configure(c)  # last: it looks at what is set above
"""

_IGNORED = f"""\
# Not for a repository: what decides everybody's numbers, and what is about people.
{tokens.KEY}
{TABLE}
gradebook.db*
submitted/
autograded/
feedback/
*.csv
.nbgrader.log
"""


def prepare(course: Path) -> None:
    """Make a course folder with its settings and its key; what is there is kept.

    Raises CourseError for a folder whose name nbgrader would take for a pattern.
    """
    if re.search(r"[*?\[\]]", str(course.resolve())):
        raise CourseError(f"{course.resolve()}: nbgrader finds no folder with *, ?, [ or ] in it")
    course.mkdir(parents=True, exist_ok=True)
    for name, text in ((CONFIG, _CONFIG), (".gitignore", _IGNORED)):
        if not (course / name).exists():
            _write(course / name, text)
    if not (course / tokens.KEY).exists():
        _write(course / tokens.KEY, tokens.new_key().hex() + "\n", mode=0o600)


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(path.name + ".part")
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as file:
        file.write(text)
    os.replace(part, path)


def generate(course: Path, assignment: str, source: NotebookNode) -> NotebookNode:
    """Write an assignment's source, let nbgrader make its release, and return the release.

    Raises CourseError if the release holds anything that must not leave the teacher's desk.
    """
    path = course / "source" / assignment / f"{assignment}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(source, path)
    nbgrader(course, "generate_assignment", assignment, "--force")
    release = nbformat.read(course / "release" / assignment / f"{assignment}.ipynb", 4)
    _check_release(assignment, source, release)
    return release


def secrets(source: NotebookNode) -> set[str]:
    """Return the lines of solutions and hidden tests that stand nowhere else in a source."""
    kinds = (regions.SOLUTION, regions.HIDDEN_TESTS)
    inside = {line for cell in source.cells for line in regions.inside(cell.source, *kinds)}
    outside = "\n".join(regions.without(cell.source, *kinds) for cell in source.cells)
    return {line for line in inside if len(line) >= 12 and line not in outside}


def _check_release(assignment: str, source: NotebookNode, release: NotebookNode) -> None:
    text = "\n".join(cell.source for cell in release.cells)
    left = [line for line in secrets(source) if line in text]
    if left or "BEGIN SOLUTION" in text or "HIDDEN TESTS" in text:
        raise CourseError(f"{assignment}: the release still holds {(left or ['a marker'])[0]!r}")
    if any(cell.get("outputs") for cell in release.cells):
        raise CourseError(f"{assignment}: the release holds outputs")
    if "jupytext" in release.metadata:
        raise CourseError(f"{assignment}: the release names a text source")


# --- making and checking ------------------------------------------------------------------------


@dataclass(frozen=True)
class Checked:
    """What a check of an assignment found: points by grading and by hand, and seconds to run."""

    automatic: float
    by_hand: float
    seconds: float
    students: int


@contextlib.contextmanager
def scratch_course() -> Iterator[Path]:
    """Give an empty course that goes away, with a key that is always the same."""
    with tempfile.TemporaryDirectory(prefix="mflib-course-") as folder:
        course = Path(folder)
        _write(
            course / tokens.KEY, hashlib.sha256(b"a scratch course").hexdigest() + "\n", mode=0o600
        )
        prepare(course)
        yield course


def check(path: Path, students: int = 1) -> Checked:
    """Grade an assignment's own solution and its empty release, through nbgrader.

    The solution is handed in by ``students`` ids, each with its own numbers, and must earn every
    automatic point each time; the release must earn none.

    Raises CourseError with the cells that do not.
    """
    source, assignment = read(path), path.stem
    hand = {question.name for question in questions(path) if question.by_hand}
    with scratch_course() as course:
        release = generate(course, assignment, source)
        key = tokens.load_key(course / tokens.KEY)
        ids = [TEACHER, *(f"{TEACHER}-{k}" for k in range(1, students))]
        for student in ids:
            hand_in(course, assignment, student, typed(source, tokens.make(key, student)))
        hand_in(course, assignment, "empty", release)
        started = time.monotonic()
        nbgrader(course, "autograde", assignment)
        seconds = (time.monotonic() - started) / students
        found = grades(course, assignment)
        automatic = by_hand = 0.0
        for student in ids:
            _full(course, assignment, student, found[student], hand)
        for cell, (score, most) in found["empty"].items():
            if score:
                raise CourseError(f"{assignment}: an empty notebook earns {score:g} in {cell!r}")
            automatic, by_hand = (
                automatic + most * (cell not in hand),
                by_hand + most * (cell in hand),
            )
        return Checked(automatic, by_hand, seconds, students)


def _full(
    course: Path,
    assignment: str,
    student: str,
    found: dict[str, tuple[float | None, float]],
    hand: set[str],
) -> None:
    """Raise CourseError, with what the tests wrote, unless a student has every automatic point."""
    short = [cell for cell, (score, most) in found.items() if cell not in hand and score != most]
    if not short:
        return
    graded = nbformat.read(
        course / "autograded" / student / assignment / f"{assignment}.ipynb", as_version=4
    )
    told = "\n".join(
        str(output.get("text") or output.get("traceback") or "")
        for cell in graded.cells
        if cell.metadata.get("nbgrader", {}).get("grade_id") in short
        for output in cell.outputs
    )
    raise CourseError(
        f"{assignment}: its own solution, as {student}, does not earn all points of "
        f"{', '.join(short)}:\n{told}"
    )


def known(names: Iterable[str] = ()) -> list[Path]:
    """Return the text sources of the named assignments, or of all; CourseError for a wrong name."""
    there = sources()
    for name in names:
        if name not in there:
            raise CourseError(f"there is no assignment {name!r}; there are {', '.join(there)}")
    if not there:
        raise CourseError(f"there are no assignments in {paths.root() / 'assignments'}")
    return [there[name] for name in names or there]


def make(course: Path, wanted: Sequence[Path], say: Callable[[str], None] = print) -> list[str]:
    """Make or bring up to date a course folder, and return the assignments that were made.

    Each assignment is checked in a course that is thrown away before this one is touched. One
    that is made already from the same text, code and versions is left alone.

    Raises CourseError at once if an assignment fails its check. One that has changed while
    submissions to it are in the gradebook is left as it is, since their marks would no longer mean
    what they did: the others are made, and a CourseError at the end names those that were left.
    """
    made: list[str] = []
    kept: list[str] = []
    prepare(course)
    record = course / ".made.json"
    done: dict[str, str] = json.loads(record.read_text()) if record.exists() else {}
    for path in wanted:
        name, stamp, source = path.stem, _stamp(path), read(path)
        release = course / "release" / name / f"{name}.ipynb"
        if done.get(name) == stamp and release.exists():
            say(f"{name}: up to date")
            continue
        if _has_submissions(course, name) and not _is_source(course, name, source):
            say(f"{name}: left as it is")
            kept.append(name)
            continue
        say(f"{name}: grading its solution and an empty notebook …")
        found = check(path)
        if not release.exists() or not _is_source(course, name, source):
            generate(course, name, source)
        done[name] = stamp
        _write(record, json.dumps(done, indent=1) + "\n")
        made.append(name)
        say(
            f"{name}: {found.automatic:g} points by running, {found.by_hand:g} by hand; "
            f"{found.seconds:.0f} s to grade"
        )
    if kept:
        raise CourseError(
            f"{', '.join(kept)}: changed, and {course / 'gradebook.db'} holds submissions: "
            "make the new version in another folder, as in 'make assignments COURSE=course-2'"
        )
    return made


def _has_submissions(course: Path, name: str) -> bool:
    return (course / "gradebook.db").exists() and bool(grades(course, name))


def _is_source(course: Path, name: str, source: NotebookNode) -> bool:
    """Tell whether a notebook is the one that an assignment of the course was made from."""
    path = course / "source" / name / f"{name}.ipynb"
    return path.exists() and nbformat.read(path, as_version=4) == source


def _stamp(path: Path) -> str:
    """Return a hash of what a check of an assignment depends on: text, code and versions."""
    package = Path(__file__).parents[1]
    code = [
        f for part in ("classroom", "theory", "experiment") for f in (package / part).glob("*.py")
    ]
    locks = paths.root().glob("requirements*.lock")
    digest = hashlib.sha256()
    for file in [path, *sorted(code), *sorted(locks)]:
        digest.update(file.read_bytes())
    return digest.hexdigest()


# --- tokens -------------------------------------------------------------------------------------


def roster(path: Path) -> list[str]:
    """Return the ids of a roster: a CSV file with a column ``id``, or a file of one id per line.

    Raises CourseError for a missing file, an empty roster, an id that occurs twice or cannot be a
    folder's name.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = [row for row in csv.reader(text.splitlines()) if any(field.strip() for field in row)]
    except (OSError, UnicodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise CourseError(
            f"{path} cannot be read ({reason}): name a file with one student id per line, "
            "as in 'make tokens STUDENTS=students.csv'"
        ) from None
    header = [field.strip().lower() for field in rows[0]] if rows else []
    named = [name for name in ("id", "student_id") if name in header]
    if named:
        column = header.index(named[0])
        ids = [row[column].strip() if column < len(row) else "" for row in rows[1:]]
    else:
        ids = [row[0].strip() for row in rows]
        if any(len(row) > 1 for row in rows):
            raise CourseError(f"{path} has several columns, and none is called 'id'")
    _check_ids(path, ids)
    return ids


def _check_ids(path: Path, ids: Iterable[str]) -> None:
    seen = {TEACHER}
    for student in ids:
        if not re.fullmatch(r"[^\s./\\+,;*?\[\]][^\t/\\+,;*?\[\]]*", student):
            raise CourseError(
                f"{path}: the id {student!r} must not begin with a dot or hold any of "
                "/ \\ + , ; * ? [ ]: nbgrader names folders by it"
            )
        # as a token and a disk that ignores capitals see it
        one = unicodedata.normalize("NFC", student).casefold()
        if one in seen:
            whose = "is yours" if one == TEACHER else "occurs twice"
            raise CourseError(f"{path}: the id {student!r} {whose}; give every student one id")
        seen.add(one)
    if seen == {TEACHER}:
        raise CourseError(f"{path} holds no id: write one per line")


def write_tokens(course: Path, students: Path) -> Path:
    """Write the table of ids and tokens for the teacher, readable by its owner only."""
    ids = roster(students)
    prepare(course)
    key = tokens.load_key(course / tokens.KEY)
    rows = [f"{student},{tokens.make(key, student)}" for student in [TEACHER, *ids]]
    _write(course / TABLE, "\n".join(["id,token", *rows]) + "\n", mode=0o600)
    return course / TABLE
