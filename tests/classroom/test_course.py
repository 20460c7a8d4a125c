"""The course folder, its assignments, and the table of tokens."""

from __future__ import annotations

import csv
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("nbgrader", reason="needs the classroom's packages: make classroom")

from mflib import paths
from mflib.classroom import course, tokens

HALVES = Path(__file__).parent / "assignments" / "halves.py"
SOURCES = course.sources()


@pytest.mark.parametrize("name", SOURCES)
def test_an_assignment_earns_everything_when_solved_and_nothing_when_empty(name: str) -> None:
    """Through nbgrader, within three minutes; its author tries it with many ids."""
    found = course.check(SOURCES[name])
    worth = course.questions(SOURCES[name])
    assert found.automatic == sum(q.points for q in worth if not q.by_hand)
    assert found.by_hand == sum(q.points for q in worth if q.by_hand)
    assert found.seconds < 180


@pytest.mark.parametrize("name", SOURCES)
def test_an_assignment_mixes_derivation_code_and_interpretation(name: str) -> None:
    worth = course.questions(SOURCES[name])
    total = sum(q.points for q in worth)
    by_hand = sum(q.points for q in worth if q.by_hand)
    assert 0.2 < by_hand / total < 0.5
    # For most points the package does not answer the question.
    called = sum(q.points for q in worth if q.relation == "the point")
    assert called <= total / 3
    assert any(q.relation == "noticed" for q in worth)


def test_the_guide_lists_every_question() -> None:
    """The page on assignments has a table for each assignment, and it says what the sources say."""
    page = (paths.book() / "assignments.md").read_text()
    listed = [
        tuple(field.strip() for field in line.strip()[1:-1].split("|"))
        for line in page.splitlines()
        if re.match(r"\|\s*[a-z0-9-]+\s*\|\s*\d+\s*\|\s*by ", line)
    ]
    wanted = [
        (q.name, str(q.points), "by hand" if q.by_hand else "by running", q.relation or "")
        for path in SOURCES.values()
        for q in course.questions(path)
    ]
    assert sorted(listed) == sorted(wanted)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher") / "course"
    said: list[str] = []
    assert course.make(folder, [HALVES], said.append) == ["halves"]
    assert "10 points by running, 5 by hand" in said[-1]
    return folder


def test_a_release_holds_no_solution_no_hidden_test_and_no_way_back(made: Path) -> None:
    source = course.read(HALVES)
    secret = course.secrets(source)
    assert "return np.asarray(x) * 0.5" in secret
    path = made / "release" / "halves" / "halves.ipynb"
    text = path.read_text()
    assert [line for line in secret if line in text] == []
    assert "jupytext" not in text
    release = nbformat.read(path, as_version=4)
    nbformat.validate(release)
    assert not any(cell.get("outputs") for cell in release.cells)
    # What a jupytext that pairs notebooks would do to the source: nothing.
    before = HALVES.read_bytes()
    done = subprocess.run(
        [sys.executable, "-m", "jupytext", "--sync", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "not a paired notebook" in done.stdout + done.stderr
    assert HALVES.read_bytes() == before
    # Without the solution regions the text is the release, cell by cell.
    kept = [c for c in release.cells if "nbgrader" not in c.metadata or c.metadata.nbgrader.locked]
    asked = {c.id: c.source for c in source.cells}
    for cell in kept:
        for line in cell.source.splitlines():
            assert line in asked[cell.id].splitlines()


def test_making_again_makes_nothing_and_a_change_makes_what_changed(
    made: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    assert course.make(made, [HALVES], said.append) == []
    assert said == ["halves: up to date"]
    changed = tmp_path / "halves.py"
    changed.write_text(HALVES.read_text().replace("# # Halves", "# # Halves of numbers"))
    assert course.make(made, [changed], said.append) == ["halves"]
    key = tokens.load_key(made / tokens.KEY)
    release = nbformat.read(made / "release" / "halves" / "halves.ipynb", as_version=4)
    course.hand_in(made, "halves", "id", course.typed(release, tokens.make(key, "id")))
    course.nbgrader(made, "autograde", "halves")
    # Even if nobody remembers what was made: the others are made, and this one is left.
    (made / ".made.json").unlink()
    other = tmp_path / "thirds.py"
    other.write_text(HALVES.read_text())
    with pytest.raises(
        course.CourseError, match=r"halves: changed, and .* holds submissions: make"
    ):
        course.make(made, [HALVES, other], said.append)
    assert "Halves of numbers" in (made / "release" / "halves" / "halves.ipynb").read_text()
    assert (made / "release" / "thirds" / "thirds.ipynb").exists()
    # What did not change may be checked again at any time.
    assert course.make(made, [changed], said.append) == ["halves"]
    assert course.grades(made, "halves")["id"]["token"] == (1, 1)


def test_an_assignment_that_fails_its_check_leaves_the_course_alone(tmp_path: Path) -> None:
    wrong = tmp_path / "halves.py"
    wrong.write_text(HALVES.read_text().replace("np.asarray(x) * 0.5", "np.asarray(x) * 0.6"))
    folder = tmp_path / "course"
    with pytest.raises(course.CourseError, match="does not earn all points of half-tests") as told:
        course.make(folder, [wrong], lambda _: None)
    assert "✗ 0 of 1: Half of 2 is 1." in str(told.value)
    given = tmp_path / "given.py"
    text = HALVES.read_text().replace("    ### BEGIN SOLUTION\n    return np", "    return np", 1)
    region = "* 0.5\n    ### BEGIN SOLUTION\n    ### END SOLUTION"
    given.write_text(text.replace("* 0.5\n    ### END SOLUTION", region))
    with pytest.raises(course.CourseError, match="an empty notebook earns 4 in 'half-tests'"):
        course.make(folder, [given], lambda _: None)
    assert not (folder / "release").exists()
    assert not (folder / "source").exists()


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("locked numbers", "read-only numbers", "must be 'locked ID'"),
        ("solution half", "solution Half", "must be 'locked ID'"),
        ("solution own", "solution half", "'half' is used twice"),
        ("tests own-tests 2", "tests own-tests 3", "parts give 2 points, and the cell 3"),
        ('2" mflib="no help"', '2" mflib="maybe"', "must be one of the point, noticed, no help"),
        ('mflib="noticed"', 'mflib="no help"', "by_hand=True go together"),
        ('"Half of your own number."', 'f"Half of {1}."', "must be written out"),
        ("marks.total()", "marks", "its last line must be"),
    ],
)
def test_a_slip_in_a_source_gets_one_sentence(
    old: str, new: str, sentence: str, tmp_path: Path
) -> None:
    text = HALVES.read_text()
    assert old in text
    path = tmp_path / "slip.py"
    path.write_text(text.replace(old, new))
    with pytest.raises(course.CourseError, match=re.escape(sentence)):
        course.read(path)


def test_an_assignment_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(course.CourseError, match="mean-field-maps"):
        course.known(["no-such"])
    assert course.known(["mean-field-maps"]) == [SOURCES["mean-field-maps"]]
    assert course.known() == list(SOURCES.values())


def test_a_source_survives_the_way_through_a_notebook_and_back() -> None:
    for path in [HALVES, *SOURCES.values()]:
        text = jupytext.reads(path.read_text(), fmt="py:percent")
        again = jupytext.reads(jupytext.writes(text, fmt="py:percent"), fmt="py:percent")
        assert [c.source for c in again.cells] == [c.source for c in text.cells]
        read = course.read(path)
        assert [c.source for c in read.cells] == [c.source for c in text.cells]
        assert read == course.read(path)


# --- tokens ---------------------------------------------------------------------------------------


def table(folder: Path) -> dict[str, str]:
    with open(folder / course.TABLE, newline="") as file:
        return {row["id"]: row["token"] for row in csv.DictReader(file)}


def test_tokens_are_a_table_for_the_teacher_alone(tmp_path: Path) -> None:
    students = tmp_path / "students.csv"
    students.write_text("id,email\nab12,x@y\ncd34,\n")
    folder = tmp_path / "course"
    course.write_tokens(folder, students)
    first = table(folder)
    assert list(first) == [course.TEACHER, "ab12", "cd34"]
    key = tokens.load_key(folder / tokens.KEY)
    assert first == {student: tokens.make(key, student) for student in first}
    for name in (tokens.KEY, course.TABLE):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
        assert name in (folder / ".gitignore").read_text().splitlines()
    # Somebody joins: nobody else's token changes.
    students.write_text("cd34\nef56\nab12\n")
    course.write_tokens(folder, students)
    assert table(folder).items() >= first.items()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "holds no id"),
        ("id,email\n", "holds no id"),
        ("a\nb\na\n", "'a' occurs twice"),
        ("a\nA\n", "'A' occurs twice"),
        ("e\u0301\n\u00e9\n", "occurs twice"),
        ("instructor\n", "'instructor' is yours"),
        ("a/b\n", "names folders by it"),
        ("s[1]\n", "names folders by it"),
        ("*\n", "names folders by it"),
        ("id;name\na;b\n", "names folders by it"),
        ("a\tb\n", "names folders by it"),
        ("..\n", "must not begin with a dot"),
        ("name,email\na,b\n", "none is called 'id'"),
        ("id,email\n,b\n", "names folders by it"),
    ],
)
def test_a_roster_that_cannot_be_used_gets_one_sentence(
    text: str, sentence: str, tmp_path: Path
) -> None:
    path = tmp_path / "students.csv"
    path.write_text(text)
    with pytest.raises(course.CourseError, match=sentence):
        course.write_tokens(tmp_path / "course", path)
    assert not (tmp_path / "course").exists()
    with pytest.raises(course.CourseError, match="one student id per line"):
        course.roster(tmp_path / "none.csv")


@given(st.lists(st.text(max_size=12), max_size=6))
def test_any_roster_is_read_or_refused(tmp_path_factory, lines: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.csv"
    path.write_text("\n".join(lines), encoding="utf-8", errors="surrogatepass")
    try:
        ids = course.roster(path)
    except course.CourseError:
        return
    assert len(set(ids)) == len(ids) > 0
    assert not any(os.sep in student or student != student.strip() for student in ids)


def test_the_commands_say_one_sentence_when_they_fail(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mflib.classroom", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    for arguments in (("tokens", "none.csv"), ("check", "no-such"), ("make", "no-such")):
        done = run(*arguments)
        assert done.returncode == 1
        assert len(done.stderr.strip().splitlines()) == 1
        assert list(tmp_path.iterdir()) == []
    (tmp_path / "a file").write_text("")
    done = run("make", "--course", "a file")
    assert done.returncode == 1
    assert "File exists" in done.stderr.splitlines()[-1]
    done = run("make", "--course", "a [folder]")
    assert "nbgrader finds no folder" in done.stderr
    (tmp_path / "ids.txt").write_bytes(b"ab12\r\n")
    assert run("tokens", "ids.txt").returncode == 0
    assert list(table(tmp_path / "course")) == [course.TEACHER, "ab12"]
