"""nbgrader's whole cycle on submissions of every kind: marks, feedback, grades.

One course, one small assignment with every kind of cell, and a submission for each way in which a
notebook goes right or wrong. All are graded by one `nbgrader autograde`, as a teacher does it.
"""

from __future__ import annotations

import csv
import html
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_raw_cell

pytest.importorskip("nbgrader", reason="needs the classroom's packages: make classroom")

from nbconvert.exporters import HTMLExporter
from traitlets.config import PyFileConfigLoader

from mflib.classroom import course, display, isolation, tokens

SOURCE = Path(__file__).parent / "assignments" / "halves.py"
NAME = "halves"
ALL = {"token": 1, "half-tests": 4, "own-tests": 2, "fixed-tests": 3}
ANSWER = "def half(x):\n    return np.asarray(x) / 2"
Kind = Callable[["Desk"], NotebookNode]
FORMULA = "def fixed_point(sigma_w2, sigma_b2):\n    return sigma_b2 / (1 - sigma_w2)"

PORT = 9  # replaced by a port that somebody listens on


def at(notebook: NotebookNode, name: str) -> int:
    return next(
        i
        for i, cell in enumerate(notebook.cells)
        if cell.metadata.get("nbgrader", {}).get("grade_id") == name
    )


def write(notebook: NotebookNode, **answers: str) -> NotebookNode:
    """Write answers into solution cells, as a student does."""
    for name, answer in answers.items():
        notebook.cells[at(notebook, name)].source = answer
    return notebook


@dataclass
class Desk:
    """What a student has: the release with a token typed in, and the numbers that follow."""

    notebook: NotebookNode
    token: str
    other: str

    def answered(self, **answers: str) -> NotebookNode:
        right = {"half": ANSWER, "own": "own_half = mine.whole / 2", "fixed": FORMULA}
        return write(self.notebook, **{**right, **answers})


ANSWERS = f"{ANSWER} own_half = {FORMULA}"

# --- what is handed in, and the points of each test cell that it should earn --------------------


def right(desk: Desk) -> NotebookNode:
    return desk.answered(why="The right answer in words.")


def wrong(desk: Desk) -> NotebookNode:
    """One step right, the others not; warnings and prints of its own in every call."""
    noisy = "import sys, warnings\ndef half(x):\n    warnings.warn('mine')\n    print('mine')\n"
    noisy += "    print('mine', file=sys.stderr)\n    return abs(np.asarray(x)) / 2"
    return desk.answered(half=noisy, own="own_half = 17", fixed="fixed_point = None")


def empty(desk: Desk) -> NotebookNode:
    return desk.notebook


def crashing(desk: Desk) -> NotebookNode:
    """One cell leaves Python, one uses too much memory; what is right around them counts."""
    greedy = "def fixed_point(sigma_w2, sigma_b2):\n    return np.ones((10**6, 10**6))"
    return desk.answered(own="import os\nos._exit(3)", fixed=greedy)


def endless(desk: Desk) -> NotebookNode:
    """A loop that swallows interrupts, first in a cell of its own, then within a test."""
    loop = "while True:\n    try:\n        pass\n    except BaseException:\n        pass"
    inner = "def fixed_point(sigma_w2, sigma_b2):\n    while True:\n        pass"
    return desk.answered(own=loop, fixed=inner)


def deleted(desk: Desk) -> NotebookNode:
    """The cells that begin, two test cells and the written answer are gone."""
    notebook = desk.answered()
    gone = {1} | {at(notebook, name) for name in ("numbers", "half-tests", "fixed-tests", "why")}
    notebook.cells = [c for i, c in enumerate(notebook.cells) if i not in gone]
    return notebook


def duplicated(desk: Desk) -> NotebookNode:
    """Every cell twice; of answers, the second copy is as it was handed out."""
    notebook = desk.answered()
    notebook.cells = [c for cell in notebook.cells for c in (cell, nbformat.from_dict(dict(cell)))]
    for index, cell in enumerate(notebook.cells):
        cell.id = f"copy-{index}"
    return notebook


def moved(desk: Desk) -> NotebookNode:
    """Right, with what comes before the answers at the end, as a slip of the mouse leaves it."""
    notebook = desk.answered()
    for name in ("token", "numbers"):
        notebook.cells.append(notebook.cells.pop(at(notebook, name)))
    return notebook


def tampered(desk: Desk) -> NotebookNode:
    """Tests that give full marks, worth more than they were, and a test made into text."""
    notebook = desk.answered(half="half = None", own="own_half = 0", fixed="fixed_point = None")
    for name in ("half-tests", "own-tests"):
        cell = notebook.cells[at(notebook, name)]
        cell.source = "4.0"
        cell.metadata.nbgrader.points = 400
    cell = notebook.cells[at(notebook, "fixed-tests")]
    cell.cell_type = "markdown"
    del cell["outputs"], cell["execution_count"]
    notebook.metadata.kernelspec = {"name": "no-such", "display_name": "?", "language": "x"}
    return notebook


def wrong_id(desk: Desk) -> NotebookNode:
    """The token and the number of somebody else, with functions that are right."""
    notebook = desk.answered(own=f"own_half = {numbers(desk.other)['whole'] / 2}")
    notebook.cells[1].source = notebook.cells[1].source.replace(desk.token, desk.other)
    return notebook


def no_token(desk: Desk) -> NotebookNode:
    notebook = desk.answered()
    notebook.cells[1].source = notebook.cells[1].source.replace(desk.token, "abc")
    return notebook


def calling(desk: Desk) -> NotebookNode:
    """The answer that is to be one's own, from the package, under another name."""
    code = "from mflib.theory import mean_field as m\nf = m.fixed_point\n"
    code += "def fixed_point(sigma_w2, sigma_b2):\n"
    code += "    f('tanh', 1.5, 0.1)\n    return sigma_b2 / (1 - sigma_w2)"
    return desk.answered(fixed=code)


def prying(desk: Desk) -> NotebookNode:
    """Looks for hidden tests, the key, the gradebook and others' work, and shows what it finds."""
    half = """
import inspect, linecache, sys
seen, stdout = [], sys.stdout
def half(x):
    for frame in inspect.stack():
        if "marks" in frame.frame.f_locals:
            seen.extend(linecache.getlines(frame.filename))
    print(*seen, file=stdout)
    raise ValueError("".join(seen))
"""
    look = f"""
import os, socket
print(''.join(seen), In)
course = os.environ["THE_COURSE"]
found, shared = [], ("/usr", "/proc", "/sys", "/lib", "/lib64", "/opt", "/bin", "/sbin",
                     {sys.prefix!r}, {sys.base_prefix!r})
for a, folders, files in os.walk("/"):
    folders[:] = [f for f in folders if os.path.join(a, f) not in shared]
    found += [os.path.join(a, f) for f in files]
for folder in (".", "..", course, os.path.dirname(course)):
    found += [os.path.join(a, f) for a, _, files in os.walk(folder) for f in files]
print("FOUND", sorted(f for f in found if f.endswith((".key", ".db", ".csv", ".ipynb"))))
try:
    socket.create_connection(("127.0.0.1", {PORT}), 2)
    print("CONNECTED")
except OSError:
    print("NO NETWORK")
print("SECRET", os.environ.get("MFLIB_TEST_SECRET"))
print(open(os.path.join(course, "token.key")).read())
"""
    return desk.answered(half=half, own=look)


def flooding(desk: Desk) -> NotebookNode:
    """Prints without end: that cell is lost, and the teacher's machine is not."""
    # slowly enough that the kernel's own buffers do not end it for want of memory
    code = "import time\nown_half = mine.whole / 2\nwhile True:\n"
    return desk.answered(own=code + "    print('x' * 1000)\n    time.sleep(1e-4)")


def tagged(desk: Desk) -> NotebookNode:
    """Tests that a tag would keep from being run, and one that shows nothing."""
    silent = "half = None\nget_ipython().ast_node_interactivity = 'none'"
    notebook = desk.answered(half="half = None", own="own_half = 0", fixed=silent)
    for name in ("half-tests", "own-tests"):
        notebook.cells[at(notebook, name)].metadata["tags"] = ["skip-execution"]
    return notebook


def odd(desk: Desk) -> NotebookNode:
    """Right, in a notebook that has been through a lot."""
    notebook = desk.answered()
    for name, key, value in (
        ("numbers", "tags", ["skip-execution"]),
        ("half", "tags", 5),
        ("own", "nbgrader", {"grade_id": ["own"], "schema_version": 1}),
        ("fixed-tests", "nbgrader", {"grade_id": "fixed-tests", "points": "many"}),
    ):
        notebook.cells[at(notebook, name)].metadata[key] = value
    del notebook.metadata["kernelspec"]
    figure = {"plot.png": {"image/png": "iVBORw0KGgo="}}
    cell = new_markdown_cell("", attachments=figure)
    cell.metadata.nbgrader = notebook.cells[at(notebook, "half")].metadata.nbgrader
    cell.source = notebook.cells[at(notebook, "half")].source
    notebook.cells[at(notebook, "half")] = cell
    notebook.cells += [new_raw_cell("raw"), new_code_cell("")]
    return notebook


def noisy(desk: Desk) -> NotebookNode:
    """Right, with all that a library may do to stderr, large outputs and a labyrinth of folders."""
    half = """
import logging, os, sys, threading, time
logging.basicConfig(level=0)
def half(x):
    logging.warning("from a logger")
    os.write(2, b"from a library")
    def later():
        for _ in range(20):
            print("from a thread", file=sys.stderr)
            time.sleep(0.1)
    threading.Thread(target=later, daemon=True).start()
    return np.asarray(x) / 2
"""
    own = """
from IPython.display import HTML, display
own_half = mine.whole / 2
for _ in range(4):
    display(HTML("x" * (10 * 2**20)))
for _ in range(1500):
    os.mkdir("d"); os.chdir("d")
"""
    return desk.answered(half=half, own=own)


def scripting(desk: Desk) -> NotebookNode:
    """Right, with scripts for whoever looks at it, in an output and in a written answer."""
    show = "from IPython.display import HTML, Javascript, display\nown_half = mine.whole / 2\n"
    show += "display(HTML('<script>alert(4711)</script><b>kept</b>'), Javascript('alert(4711)'))"
    return desk.answered(own=show, why="<img src=x onerror=alert(4711)> $a<b$ **my words**")


KINDS: dict[Kind, dict[str, float]] = {
    right: ALL,
    wrong: {"token": 1, "half-tests": 1},
    empty: {"token": 1},
    crashing: {"token": 1, "half-tests": 4},
    endless: {"token": 1, "half-tests": 4},
    deleted: {**ALL, "token": 0},
    duplicated: ALL,
    moved: ALL,
    tampered: {"token": 1},
    wrong_id: {**ALL, "token": 0, "own-tests": 0},
    no_token: {**ALL, "token": 0},
    calling: {**ALL, "fixed-tests": 0},
    prying: {"token": 1, "fixed-tests": 3},
    scripting: ALL,
    tagged: {"token": 1},
    odd: ALL,
    noisy: ALL,
    flooding: {**ALL, "own-tests": 0},
}


def numbers(token: str) -> dict[str, int]:
    code = "from mflib import classroom as c; import json; "
    code += f"c.token({token!r}); "
    code += "b = c.begin('halves', whole=c.between(10, 5000, step=1)); print(json.dumps(dict(b)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a course in which every kind of submission was graded and got feedback."""
    global PORT
    folder = tmp_path_factory.mktemp("course") / "c"
    course.prepare(folder)
    config = folder / course.CONFIG
    config.write_text(
        config.read_text()
        .replace("c.Execute.timeout = 60", "c.Execute.timeout = 8")
        .replace("memory_gib = 4.0", "memory_gib = 1.5")
    )
    release = course.generate(folder, NAME, course.read(SOURCE))
    key = tokens.load_key(folder / tokens.KEY)
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.MonkeyPatch.context() as patch:
        PORT = listener.getsockname()[1]
        patch.setenv("MFLIB_TEST_SECRET", "a secret of the teacher's")
        for kind in KINDS:
            token = tokens.make(key, kind.__name__)
            desk = Desk(course.typed(release, token), token, tokens.make(key, "right"))
            notebook = kind(desk)
            for cell in notebook.cells:
                cell.source = cell.source.replace('os.environ["THE_COURSE"]', repr(str(folder)))
            handed_in = course.hand_in(folder, NAME, kind.__name__, notebook)
            # files beside a notebook are no part of it: neither a module nor a link to the key
            (handed_in.parent / "numpy.py").write_text("raise SystemExit")
            (handed_in.parent / "marks.csv").symlink_to(folder / tokens.KEY)
        bad = course.hand_in(folder, NAME, "not_a_notebook", release)
        bad.write_text("{ this is not a notebook")
        with pytest.raises(course.CourseError, match="for student 'not_a_notebook'"):
            course.nbgrader(folder, "autograde", NAME)
    shutil.rmtree(bad.parents[1])
    course.nbgrader(folder, "generate_feedback", NAME)
    course.nbgrader(folder, "export", "--to=grades.csv")
    return folder


def feedback(folder: Path, student: str) -> str:
    return html.unescape((folder / "feedback" / student / NAME / f"{NAME}.html").read_text())


def outputs(folder: Path, student: str, cell: str) -> str:
    """Return what a cell wrote while it was graded, hidden or not."""
    path = folder / "autograded" / student / NAME / f"{NAME}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    return json.dumps(notebook.cells[at(notebook, cell)].outputs, ensure_ascii=False)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_kind_of_submission_gets_a_fair_mark(graded: Path, kind: Kind) -> None:
    found = course.grades(graded, NAME)[kind.__name__]
    earned = {cell: score for cell, (score, _) in found.items() if cell != "why"}
    assert earned == {cell: KINDS[kind].get(cell, 0) for cell in ALL}
    # Two wrote an answer in words, and wait for a reader.
    score, most = found["why"]
    assert most == 5
    assert score == (None if kind in (right, scripting) else 0)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_feedback_holds_no_hidden_test_and_no_other_number(graded: Path, kind: Kind) -> None:
    shown = feedback(graded, kind.__name__)
    # Sentences of hidden steps are shown, with the marks they gave; their code never is.
    secret = course.secrets(course.read(SOURCE))
    assert any("hidden_points" in line for line in secret)
    assert [line for line in secret if line in shown and line not in ANSWERS] == []
    key = tokens.load_key(graded / tokens.KEY)
    own = {kind.__name__, "right" if kind is wrong_id else kind.__name__}
    others = {tokens.make(key, other.__name__) for other in KINDS if other.__name__ not in own}
    assert [token for token in others if token in shown] == []
    assert key.hex() not in shown


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (right, "✓ 2 of 2: The formula holds for your own variance."),
        (wrong, "Does it treat signs alike?"),
        (wrong, "It differs from the right answer by more than the tolerance."),
        (wrong, "Your code stopped with an error: TypeError."),
        (empty, "This is not answered yet."),
        (crashing, "Python ended while this cell ran: did it use more than 1.5 GiB of memory"),
        (crashing, "Your code stopped with an error of a package: run it to see which."),
        (endless, "This cell was stopped: it ran longer than 8 seconds."),
        (deleted, "The cell below was missing from what was handed in, and was put back."),
        (wrong_id, "✗ 0 of 1: The token is that of the id under which you hand in."),
        (wrong_id, "It was graded with the numbers of that id."),
        (no_token, "A token has 12 letters and digits, and this has 3"),
        (calling, "This step asks for your own code, and yours calls mflib."),
        (prying, "Your code stopped with an error: ValueError."),
        (prying, "[output withheld: it quotes a test]"),
        (tagged, "The test did not end with its points."),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_feedback_says_what_helps(graded: Path, kind: Kind, sentence: str) -> None:
    assert sentence in feedback(graded, kind.__name__)


@pytest.mark.skipif(isolation.best_level() != "sandbox", reason="needs bubblewrap")
def test_a_submission_sees_nothing_of_the_course_and_no_network(graded: Path) -> None:
    told = outputs(graded, "prying", "own")
    assert "FOUND []" in told
    assert "NO NETWORK" in told
    assert "SECRET None" in told
    assert "FileNotFoundError" in told
    # The hidden test was on the stack, and feedback withholds what that gave away.
    assert "hidden_points" in told


def test_no_script_of_a_submission_reaches_a_browser(graded: Path) -> None:
    page = (graded / "feedback" / "scripting" / NAME / f"{NAME}.html").read_text()
    assert "<b>kept</b>" in page
    assert "<strong>my words</strong>" in page
    assert "$a&lt;b$" in page
    # what stands in code cells is shown, and as text only
    assert "<script>alert(4711)" not in page
    assert "onerror=alert(4711)>" not in page
    assert "Javascript" not in outputs(graded, "scripting", "own").replace("display.Javascript", "")
    # Formgrader renders with the same settings.
    config = PyFileConfigLoader(course.CONFIG, path=str(graded)).load_config()
    exporter = HTMLExporter(config=config)
    assert exporter.environment.filters["markdown2html"] is display.safe_markdown


def test_a_flood_of_output_is_cut(graded: Path) -> None:
    path = graded / "autograded" / "flooding" / NAME / f"{NAME}.ipynb"
    assert path.stat().st_size < 2 * 2**20


def test_large_outputs_are_left_out_and_nothing_stays_behind(graded: Path) -> None:
    path = graded / "autograded" / "noisy" / NAME / f"{NAME}.ipynb"
    assert path.stat().st_size < 21 * 2**20
    scratch = isolation.Scratch()
    scratch.close()
    assert not list(scratch.path.parent.glob("mflib-*/work/d/d/d"))


def test_what_was_run_before_the_time_was_used_up_counts(tmp_path: Path) -> None:
    """The notebook begins anew without the cell that took too long, and has no time to."""
    course.prepare(tmp_path)
    config = tmp_path / course.CONFIG
    config.write_text(config.read_text().replace("seconds = 600", "seconds = 12"))
    release = course.generate(tmp_path, NAME, course.read(SOURCE))
    student = "\u00e9 o'x"  # as some lists have them
    token = tokens.make(tokens.load_key(tmp_path / tokens.KEY), student)
    desk = Desk(course.typed(release, token), token, token)
    notebook = desk.answered(own="own_half = mine.whole / 2\nimport time\ntime.sleep(100)")
    course.hand_in(tmp_path, NAME, student, notebook)
    course.nbgrader(tmp_path, "autograde", NAME)
    found = course.grades(tmp_path, NAME)[student]
    assert {cell: found[cell][0] for cell in ALL} == {
        **dict.fromkeys(ALL, 0),
        "token": 1,
        "half-tests": 4,
    }
    assert "it ran longer than" in json.dumps(
        nbformat.read(tmp_path / "autograded" / student / NAME / f"{NAME}.ipynb", 4)
    )


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"best"', '"sandbox"', "install bubblewrap"),
        ('"best"', '"fortress"', "must be 'best', 'sandbox', 'network' or 'limits'"),
        ("memory_gib = 4.0", "memory_gib = 0.01", "must be at least 0.5"),
        ("", "", "run 'make tokens' to make one"),
    ],
)
def test_settings_that_cannot_be_kept_stop_a_grading_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, sentence: str
) -> None:
    course.prepare(tmp_path)
    config = tmp_path / course.CONFIG
    config.write_text(config.read_text().replace(old, new) if old else config.read_text())
    if not old:
        (tmp_path / tokens.KEY).unlink()
    # neither bubblewrap nor unshare
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(course.CourseError) as told:
        course.nbgrader(tmp_path, "autograde", NAME)
    assert sentence in str(told.value)
    assert "Traceback" not in str(told.value)
    assert not (tmp_path / "autograded").exists()


def test_grades_come_as_a_table(graded: Path) -> None:
    with open(graded / "grades.csv", newline="") as file:
        rows = {row["student_id"]: row for row in csv.DictReader(file)}
    # What is not a notebook was handed in, and has no marks until somebody looks at it.
    assert float(rows.pop("not_a_notebook")["score"]) == 0
    assert set(rows) == {kind.__name__ for kind in KINDS}
    for kind, earned in KINDS.items():
        row = rows[kind.__name__]
        assert (row["assignment"], float(row["max_score"])) == (NAME, 15)
        assert float(row["score"]) == sum(earned.values())


def test_marks_by_hand_come_on_top(graded: Path) -> None:
    """What a reader gives for the written answer, which autograding again does not take away."""
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{graded / 'gradebook.db'}") as book:
        grade = book.find_grade("why", NAME, NAME, "right")
        assert grade.needs_manual_grade
        grade.manual_score, grade.needs_manual_grade = 4.0, False
        book.db.commit()
        assert book.find_submission(NAME, "right").score == sum(ALL.values()) + 4
    course.nbgrader(graded, "autograde", NAME, "--student=right", "--force")
    with Gradebook(f"sqlite:///{graded / 'gradebook.db'}") as book:
        assert book.find_submission(NAME, "right").score == sum(ALL.values()) + 4
