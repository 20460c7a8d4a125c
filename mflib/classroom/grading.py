"""What nbgrader is configured with: how submissions run, and what feedback shows of them.

nbgrader grades; its notebooks pass through a row of preprocessors, and four of them are ours:

- ``RestoreCells`` gives a submission the cells that its assignment has, each once;
- ``Execute`` runs a submission isolated (``mflib.classroom.isolation``), gives the kernel the
  token of the submission's id, and goes on after a cell that never ended or killed the kernel;
- ``CleanOutputs`` keeps of what cells displayed what cannot run in a browser;
- ``HideTests`` takes the hidden tests out of feedback, and whatever quotes them.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbconvert.preprocessors import ClearMetadataPreprocessor, CSSHTMLHeaderPreprocessor
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output
from nbgrader import preprocessors as standard
from nbgrader import utils
from nbgrader.api import Gradebook
from traitlets import Float, Integer, List, TraitError, Unicode, validate

from mflib.classroom import display, isolation, regions, tokens
from mflib.classroom.notes import NOTES


class RestoreCells(standard.NbGraderPreprocessor):
    """Gives a submission the cells and the roles of cells that its assignment has.

    What a cell is, what it is worth and whether it is locked comes from the gradebook, whatever
    the submission says; cells that claim a role that there is not are cells of the student's own.
    Of copies, the last counts (of a written answer, the last that somebody wrote in). Locked, test
    and written cells that are missing come back, each after a note, where they belong. Locked and
    test cells that the assignment has before its first code to write come before it here too:
    hidden tests there may define what later ones use.
    """

    def preprocess(self, nb: NotebookNode, resources: Any) -> tuple[NotebookNode, Any]:
        """Return the notebook with the assignment's cells, each once."""
        known = resources["nbgrader"]
        with Gradebook(known["db_url"]) as gradebook:
            source = gradebook.find_notebook(known["notebook"], known["assignment"])
            points = {cell.name: cell.max_score for cell in source.grade_cells}
            answers = {cell.name for cell in source.solution_cells}
            kinds = {cell.name: cell.cell_type for cell in source.source_cells}
            copies: dict[str, list[NotebookNode]] = {}
            place = len(nb.cells) - 1  # after which to put what is missing
            for index, cell in enumerate(nb.cells):
                role = cell.get("metadata", {}).get("nbgrader")
                name = role.get("grade_id") if isinstance(role, dict) else None
                # Nothing else that stands there counts: a tag could keep a test from being run.
                cell.metadata = NotebookNode()
                if isinstance(name, str) and name in kinds:
                    place = place if copies else index - 1
                    copies.setdefault(name, []).append(cell)
            to_write = [name for name in answers & copies.keys() if kinds[name] == "code"]
            code = {id(copy) for name in to_write for copy in copies[name]}
            early = True  # no code to write has come yet
            for cell in sorted(source.source_cells, key=_order(known)):
                role = _role(cell, points, answers)
                early = early and not (role["solution"] and cell.cell_type == "code")
                if cell.name in copies:
                    written = [c for c in copies[cell.name] if c.source != cell.source]
                    one = (written if role["solution"] and written else copies[cell.name])[-1]
                    here = _first(nb.cells, {id(one)})
                    first = _first(nb.cells, code)
                    if early and not role["solution"] and first < here:
                        moved = nb.cells.pop(here)
                        here = min(place + 1, first)
                        nb.cells.insert(here, moved)
                    place = here
                    nb.cells[place] = _with_role(one, cell.cell_type, role)
                elif cell.name in points or not role["solution"]:
                    # code that was deleted stays so: its tests say what is missing
                    note = "*The cell below was missing from what was handed in, and was put back.*"
                    nb.cells[place + 1 : place + 1] = [
                        new_markdown_cell(note),
                        _with_role(cell, cell.cell_type, role),
                    ]
                    place += 2
        return nb, resources


def _first(cells: list[NotebookNode], wanted: set[int]) -> int:
    """Return the index of the first cell whose id() is wanted, or the number of cells."""
    return next((i for i, cell in enumerate(cells) if id(cell) in wanted), len(cells))


def _order(known: Any) -> Callable[[Any], int]:
    """Return the key that sorts cells as the assignment has them, which the gradebook forgets."""
    path = Path("source", known["assignment"], f"{known['notebook']}.ipynb")
    cells = nbformat.read(path, as_version=4).cells
    names = [cell.metadata.get("nbgrader", {}).get("grade_id") for cell in cells]
    return lambda cell: names.index(cell.name)


def _role(source: Any, points: dict[str, float], answers: set[str]) -> NotebookNode:
    role = NotebookNode(
        grade_id=source.name,
        cell_type=source.cell_type,
        grade=source.name in points,
        solution=source.name in answers,
        locked=source.locked,
        task=False,
        checksum=source.checksum,
        schema_version=3,
    )
    if source.name in points:
        role["points"] = points[source.name]
    return role


def _with_role(cell: Any, kind: str, role: NotebookNode) -> NotebookNode:
    """Return a fresh cell of a kind with a cell's text, and with its pictures if it is text."""
    new = new_code_cell if kind == "code" else new_markdown_cell
    made = new(cell.source, metadata=NotebookNode(nbgrader=role))
    if kind == "markdown" and getattr(cell, "attachments", None):
        made.attachments = cell.attachments
    return made


class Execute(standard.Execute):
    """Runs a submission in an isolated kernel, with a fair end for cells that do not end well.

    A cell that runs longer than ``timeout`` seconds or kills its kernel gets an error that says
    so; the notebook is then run again without it, in a fresh kernel, so that the answers before
    and after keep their marks. After more than ``restarts`` such cells, what follows is not run.
    """

    timeout = Integer(60, help="Seconds that one cell may run.").tag(config=True)
    seconds = Integer(600, help="Seconds that one submission may run, restarts included.").tag(
        config=True
    )
    memory_gib = Float(4.0, help="GiB of memory that one submission may use.").tag(config=True)
    restarts = Integer(3, help="Kernels that a submission may lose.").tag(config=True)
    output_mib = Float(1.0, help="MiB of text that one cell may print; the rest is dropped.").tag(
        config=True
    )
    shown_mib = Float(
        20.0, help="MiB that a submission may show in all, figures included; the rest is dropped."
    ).tag(config=True)
    isolation = Unicode(
        "best",
        help="'best' this machine allows, or no less than 'sandbox', 'network' or 'limits'.",
    ).tag(config=True)

    interrupt_on_timeout = False
    # no tag of a submission keeps a cell from being run
    skip_cells_with_tag = ""

    @validate("memory_gib")
    def _enough_memory(self, proposal: Any) -> float:
        value = float(proposal["value"])
        if value < 0.5:
            raise TraitError(f"memory_gib={value!r} must be at least 0.5: Python itself needs some")
        return value

    @validate("isolation")
    def _known_level(self, proposal: Any) -> str:
        value = str(proposal["value"])
        if value not in ("best", *isolation.LEVELS):
            raise TraitError(
                f"isolation={value!r} must be 'best', 'sandbox', 'network' or 'limits'"
            )
        return value

    def level(self) -> str:
        """Return the level that submissions run at.

        Raises RuntimeError if this machine does not allow the level that the course asks for.
        """
        best = isolation.best_level()
        if self.isolation == "best":
            return best
        if isolation.LEVELS.index(best) > isolation.LEVELS.index(self.isolation):
            raise RuntimeError(
                f"isolation={self.isolation!r} is asked for, and this machine allows {best!r}: "
                "install bubblewrap, or allow users their own namespaces"
            )
        return self.isolation

    def preprocess(self, nb: NotebookNode, resources: Any, km: Any = None) -> tuple[Any, Any]:
        """Run the notebook, as often as it takes to get past cells that kill their kernel."""
        known = resources["nbgrader"]
        # nbgrader works in the course's folder. Files come from there, and not with a submission:
        # a module or a link in it could stand for anything.
        files = Path("source", known["assignment"]).resolve()
        self._token = tokens.make(tokens.load_key(Path(tokens.KEY).resolve()), known["student"])
        self._level = self.level()
        log = self.log.info if self._level == "sandbox" else self.log.warning
        log(isolation.describe(self._level))
        self._end = time.monotonic() + self.seconds
        self._lost: dict[int, str] = {}
        self._earlier: dict[int, list[NotebookNode]] = {}
        self._shown = 0
        while True:
            self._at, self._allowed, self._printed = -1, self.timeout, 0
            self._scratch = isolation.Scratch(files)
            try:
                return super().preprocess(nb, resources, km)
            except CellTimeoutError:
                reason = f"This cell was stopped: it ran longer than {self._allowed} seconds."
            except DeadKernelError:
                reason = (
                    "Python ended while this cell ran: did it use more than "
                    f"{self.memory_gib:g} GiB of memory or {self.seconds} s, or leave Python?"
                )
            finally:
                self._scratch.close()
            if self._at < 0:
                raise RuntimeError(f"the kernel of {known['student']}'s submission does not start")
            self._lost[self._at] = reason
            self.log.warning("Cell %d of %s: %s", self._at, known["student"], reason)

    def create_kernel_manager(self) -> Any:
        """Return a manager of an isolated kernel."""
        limits = isolation.Limits(self.seconds, self.memory_gib)
        self.km = isolation.IsolatedKernelManager.make(
            self._level,
            limits,
            self._scratch,
            hidden=Path.cwd(),  # the course
            kernel_name="python3",
            config=self.config,
        )
        return self.km

    def start_new_kernel(self, **kwargs: Any) -> None:
        """Start the kernel in its scratch folder, told whose submission it runs."""
        kwargs["cwd"] = str(self._scratch.work)
        kwargs["env"] = dict(
            self.km.environment(NBGRADER_EXECUTION="autograde", MFLIB_TOKEN=self._token)
        )
        super().start_new_kernel(**kwargs)

    def preprocess_cell(self, cell: Any, resources: Any, index: int) -> tuple[Any, Any]:
        """Run one cell, or say why it is not run."""
        if cell.cell_type != "code":
            return cell, resources
        left = self._end - time.monotonic()
        if index in self._lost:
            _stop(cell, "NotFinished", self._lost[index])
        elif len(self._lost) > self.restarts and index > max(self._lost):
            _stop(cell, "NotRun", "This cell was not run: too many before it did not end well.")
        elif left < 1 and index in self._earlier:
            # It was run before the notebook began anew without a cell: that counts.
            cell.outputs = self._earlier[index]
        elif left < 1:
            _stop(
                cell,
                "NotRun",
                f"This cell was not run: the notebook had used its {self.seconds} seconds.",
            )
        else:
            self._at = index
            self._printed = 0
            self._allowed = max(1, min(self.timeout, int(left)))
            # A test cell leaves no trace in the history, where later cells could read it.
            self.execute_cell(cell, index, store_history=not _is_test(cell))
            if _is_test(cell):
                cell.outputs = _marks_of(cell)
            self._earlier[index] = cell.outputs
        return cell, resources

    def _get_timeout(self, cell: Any) -> int:
        return self._allowed

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        """Take a kernel's message, and leave out what a submission shows beyond its share."""
        kind, content = msg["msg_type"], msg["content"]
        if kind.startswith("comm_"):
            return None  # widgets have nobody to talk to
        if kind in ("stream", "display_data", "update_display_data", "execute_result", "error"):
            room = int(self.shown_mib * 2**20) - self._shown
            if kind == "stream":
                room = min(room, int(self.output_mib * 2**20) - self._printed)
                self._printed += len(content["text"])
                content["text"] = content["text"][: max(0, room)]
            elif len(str(content)) > room:
                return None
            self._shown += len(str(content))
        return super().process_message(msg, cell, cell_index)


def _is_test(cell: NotebookNode) -> bool:
    return cell.cell_type == "code" and utils.is_grade(cell) and not utils.is_solution(cell)


def _marks_of(cell: NotebookNode) -> list[NotebookNode]:
    """Return what a test cell printed and its one number of points, or the error that it is none.

    nbgrader gives all points to a test that shows no number, and none to one with anything on
    stderr, which a student's libraries and threads may write to.
    """
    text = "".join(o.text for o in cell.outputs if o.get("name") == "stdout")
    printed = [new_output("stream", name="stdout", text=text)] if text else []
    errors = [o for o in cell.outputs if o.output_type == "error"]
    results = [o for o in cell.outputs if o.output_type == "execute_result"]
    try:
        (result,) = results
        right = 0 <= float(result.data["text/plain"]) <= cell.metadata.nbgrader.points
    except (ValueError, KeyError):
        right = False
    if errors or right:
        return printed + (errors or results)
    _stop(cell, "NotFinished", "The test did not end with its points.")
    return printed + cell.outputs


def _stop(cell: Any, name: str, sentence: str) -> None:
    """Give a cell the error that says why it has no output of its own."""
    error = new_output("error", ename=name, evalue=sentence, traceback=[f"{name}: {sentence}"])
    cell.outputs = [error]


class CleanOutputs(standard.NbGraderPreprocessor):
    """Takes out of a notebook's outputs what could run in the browser of whoever looks at it."""

    def preprocess_cell(self, cell: Any, resources: Any, cell_index: int) -> tuple[Any, Any]:
        """Return the cell with safe outputs."""
        if cell.cell_type == "code":
            cell.outputs = [display.safe_output(output) for output in cell.outputs]
        return cell, resources


class HideTests(standard.NbGraderPreprocessor):
    """Takes hidden tests out of a notebook, their traces in outputs, and what tests did not write.

    Of a test cell's output, the marks stay: lines whose sentences stand in the cell's own text or
    in ``notes.NOTES``. Of an error in it, the kind stays. Of other cells, outputs that quote a
    line of any hidden test go.
    """

    # nbconvert sets this for every preprocessor of a page, and warns of those without it
    display_data_priority = List(["text/html", "image/png", "image/jpeg", "text/plain"]).tag(
        config=True
    )

    def preprocess(self, nb: NotebookNode, resources: Any) -> tuple[NotebookNode, Any]:
        """Return the notebook as its student may see it."""
        secret: set[str] = set()
        for cell in nb.cells:
            if _is_test(cell):
                secret |= _hidden_lines(cell.source)
        # what everybody may see, or wrote, gives nothing away
        seen = {line.strip() for c in nb.cells for line in _without_hidden(c.source).splitlines()}
        secret -= seen
        for cell in nb.cells:
            if cell.cell_type != "code":
                continue
            if _is_test(cell):
                cell.outputs = _marks_only(cell)
                cell.source = _without_hidden(cell.source)
            else:
                cell.outputs = [_withheld(o) if _quotes(o, secret) else o for o in cell.outputs]
        return nb, resources


def _hidden_lines(source: str) -> set[str]:
    """Return the lines of hidden tests that are long enough to tell from everybody's code."""
    lines = regions.inside(source, regions.HIDDEN_TESTS)
    return {line for line in lines if len(line) >= 16 and not line.startswith(("import ", "from "))}


def _without_hidden(source: str) -> str:
    return regions.without(source, regions.HIDDEN_TESTS, note="# hidden tests")


def _sentences(source: str) -> set[str]:
    """Return every text between quotes of a cell; those next to each other are one."""
    nodes = ast.walk(ast.parse(source))
    return {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def _marks_only(cell: NotebookNode) -> list[NotebookNode]:
    allowed = _sentences(cell.source) | set(NOTES.values())
    kept: list[NotebookNode] = []
    for output in cell.outputs:
        if output.output_type == "stream" and output.name == "stdout":
            lines = [line for line in output.text.splitlines() if _is_mark(line, allowed)]
            if lines:
                kept.append(new_output("stream", name="stdout", text="\n".join(lines) + "\n"))
        elif output.output_type == "error":
            ours = output.ename in ("NotFinished", "NotRun")
            text = output.evalue if ours else "The test stopped before its end."
            kept.append(
                new_output("error", ename="NoMarks", evalue=text, traceback=[f"No marks: {text}"])
            )
    return kept


_MARK = re.compile(r"(?:[✓✗] [\d.]+ of [\d.]+: |    )(.*)")


def _is_mark(line: str, allowed: set[str]) -> bool:
    found = _MARK.fullmatch(line)
    return found is not None and found[1] in allowed


def _quotes(output: NotebookNode, secret: set[str]) -> bool:
    """Tell whether an output quotes a hidden line, as text or as Python or JSON would write it."""
    text = json.dumps(output, ensure_ascii=False)
    plain = re.sub(r"\x1b\[[0-9;]*m|\\u001b\[[0-9;]*m", "", text)
    return any(json.dumps(line, ensure_ascii=False)[1:-1] in plain for line in secret)


def _withheld(output: NotebookNode) -> NotebookNode:
    return new_output("stream", name="stdout", text="[output withheld: it quotes a test]\n")


def configure(c: Any) -> None:
    """Set what nbgrader runs on submissions and on feedback; ``c`` is ``get_config()``.

    Called last in a course's settings, it looks at them before a grading begins: exits with one
    sentence if the key is missing or the machine does not allow the isolation that is asked for.
    """
    c.Autograde.sanitize_preprocessors = [
        standard.ClearOutput,
        RestoreCells,
        standard.OverwriteKernelspec,
        standard.OverwriteCells,
        standard.CheckCellMetadata,
    ]
    c.Autograde.autograde_preprocessors = [
        Execute,
        CleanOutputs,
        standard.IgnorePattern,
        ClearMetadataPreprocessor,
        standard.LimitOutput,
        standard.SaveAutoGrades,
        standard.AssignLatePenalties,
        standard.CheckCellMetadata,
    ]
    c.GenerateFeedback.preprocessors = [standard.GetGrades, HideTests, CSSHTMLHeaderPreprocessor]
    c.HTMLExporter.filters = {"markdown2html": display.safe_markdown}
    if sys.argv[1:2] == ["autograde"]:
        try:
            tokens.load_key(Path(tokens.KEY).resolve())
            Execute(config=c).level()
        except (ValueError, RuntimeError, TraitError) as error:
            sys.exit(str(error))
