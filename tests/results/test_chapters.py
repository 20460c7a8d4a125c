"""What chapters show of recorded computations, where there is nothing, a part, or all of it.

Of each chapter only those cells run that call ``recorded.computation``, publish a figure "…-full"
or are tagged "full-scale", and of the cells before them the statements that bind what these read,
with parameters as small as they may be; the tables are rehearsed ones. So what is tested is the
chapter's own code, without its long computations.
"""

from __future__ import annotations

import ast
import builtins
import dataclasses
import json
import re
import shutil

import matplotlib
import matplotlib.pyplot as plt
import pytest

from mflib import notebooks, parameters, paths, recorded, results

TAG = "full-scale"
SHOWS = re.compile(r'recorded\.computation\(|"[a-z0-9-]+-full"')

SMALL = {
    "fc-theory": {
        "n_sigma_w2": 3,
        "depths": [1, 2, 3],
        "sigmoid_depths": [1, 2, 3],
        "sigmoid_line_depths": [1, 2, 3],
        "width": 9,
        "agreement_widths": [8],
        "agreement_rates": [5e-2],
        "n_seeds": 1,
        "steps": 1,
        "tanh_steps": [1, 2],
    },
    "dynamical-isometry": {
        "curve_depth": 2,
        "curve_steps": 10,
        "curve_points": 4,
        "n_seeds": 2,
        "width": 8,
        "scored_samples": 50,
    },
    "cnn-delta-orthogonal": {
        "depths": [3, 4, 5],
        "n_sigma_w2": 3,
        "steps": 2,
        "channels": 3,
        "width": 8,
        "curve_depth": 3,
        "curve_steps": 10,
        "curve_points": 4,
        "n_seeds": 2,
        "deep_depth": 10,
        "deep_steps": 3,
        "deep_seeds": 2,
        "deep_channels": 3,
        "scored_samples": 50,
    },
    "levy-phase-diagram": {
        "finite_widths": [5],
        "finite_depth": 5,
        "finite_networks": 4,
        "fit_widths": [10, 12, 14],
        "eigen_width": 20,
        "eigen_networks": 2,
        "diagram_alphas": 3,
        "diagram_gains": 5,
        "dimension_width": 20,
        "dimension_networks": 2,
        "dimension_points": 3,
        "watched_networks": 2,
        "watched_steps": 4,
        "watched_middle": 2,
        "circle_width": 10,
        "circle_angles": 10,
        "circle_depth": 4,
        "circle_networks": 2,
        "circle_alphas": [1.0, 1.5, 2.0],
        "circle_gains": [0.5, 1.0, 2.0],
        "plane_alphas": [1.0, 1.5, 2.0],
        "plane_gains": [0.5, 1.0, 2.0],
        "plane_width": 8,
        "plane_depth": 6,
        "plane_steps": 10,
        "plane_points": 3,
        "plane_seeds": 1,
        "scored_samples": 50,
        "tail_width": 8,
        "tail_steps": 100,
        "tail_points": 3,
    },
    "reconstruction-entropy": {
        "width": 8,
        "phase_depth": 5,
        "phase_networks": 2,
        "decoder_steps": 10,
        "fitted_images": 400,
        "predict_sigma_w2": [0.8, 1.2, 1.76, 2.6, 3.6],
        "predict_depth": 10,
        "predict_networks": 2,
        "map_sigma_w2": [0.8, 1.76, 2.8],
        "map_depths": [2, 3, 4],
        "map_networks": 1,
        "map_steps": 10,
        "map_scored": [10],
        "depth_points": 5,
        "map_layers": 10,
        "cost_width": 8,
        "cost_depth": 2,
        "cost_steps": 2,
        "cost_repeats": 1,
        "arch_width": 8,
        "arch_depth": 10,
        "arch_sigma_w2": [0.9, 1.2, 1.76, 2.6, 3.4],
        "arch_fit": 100,
        "arch_noise_steps": 10,
        "arch_trained_fit": [100, 100],
        "arch_channels": 2,
        "arch_conv_depth": 10,
        "arch_conv_sigma_w2": [0.6, 1.0, 1.45, 2.5, 3.4],
        "arch_conv_fit": 100,
        "arch_resnet_channels": 2,
        "arch_blocks": 5,
        "arch_resnet_seeds": [2, 2],
        "arch_resnet_sigma_w2": [0.1, 0.6, 1.2, 1.7, 2.5],
        "arch_train_sigma_w2": [0.3, 1.3, 3.0],
        "arch_train_steps": 10,
    },
}


# ---- which cells those are --------------------------------------------------------------------


class Names(ast.NodeVisitor):
    """The top-level names of a cell: ``needed`` before it binds them, ``bound``, and ``changed``.

    ``surely``: bound whatever happens. ``later``: names in the bodies of functions, which are
    needed when these are called; those that the cell does not bind are ``needed`` too. A method
    called for its effect, as ``x.append(y)``, changes x, unless that is a module; and a loop that
    changes what it runs over one by one changes that.
    """

    def __init__(self, source: str) -> None:
        self.needed: set[str] = set()
        self.bound: set[str] = set()
        self.changed: set[str] = set()
        self.surely: set[str] = set()
        self.later: set[str] = set()
        self._scopes: list[set[str]] = []  # the local names of functions and comprehensions
        self._function = self._branch = 0
        self.visit(ast.parse(source))
        self.needed |= self.later - self.bound
        self.needed -= set(dir(builtins))
        self.changed -= set(dir(builtins))

    def _bind(self, name: str) -> None:
        if self._scopes:
            self._scopes[-1].add(name)
            return
        self.bound.add(name)
        if not self._branch:
            self.surely.add(name)

    def _read(self, name: str) -> None:
        if any(name in scope for scope in self._scopes):
            return
        if self._function:
            self.later.add(name)
        elif name not in self.bound:
            self.needed.add(name)

    def visit_Name(self, node: ast.Name) -> None:
        (self._read if isinstance(node.ctx, ast.Load) else self._bind)(node.id)

    def _change(self, node: ast.Subscript | ast.Attribute) -> None:
        base = node.value
        while isinstance(base, ast.Subscript | ast.Attribute):
            base = base.value
        if not isinstance(node.ctx, ast.Load) and isinstance(base, ast.Name) and not self._scopes:
            self.changed.add(base.id)
        self.generic_visit(node)

    visit_Subscript = visit_Attribute = _change  # type: ignore[assignment]

    def visit_Expr(self, node: ast.Expr) -> None:
        called = node.value.func if isinstance(node.value, ast.Call) else None
        if isinstance(called, ast.Attribute) and not self._scopes:
            base = called.value
            while isinstance(base, ast.Subscript | ast.Attribute):
                base = base.value
            if isinstance(base, ast.Name):
                self.changed.add(base.id)
        self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            self.visit(target)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value:
            self.visit(node.value)
        self.visit(node.target)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.visit(node.value)
        if isinstance(node.target, ast.Name):
            self._read(node.target.id)
            if not self._scopes:
                self.changed.add(node.target.id)
        else:
            self.visit(node.target)

    def _imported(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            self._bind((alias.asname or alias.name).split(".")[0])

    visit_Import = visit_ImportFrom = _imported  # type: ignore[assignment]

    def _branches(self, node: ast.AST) -> None:
        if isinstance(node, ast.For):
            self.visit(node.iter)
        self._branch += 1
        for field, value in ast.iter_fields(node):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST) and not (
                    isinstance(node, ast.For) and field == "iter"
                ):
                    self.visit(child)
        self._branch -= 1
        if isinstance(node, ast.For):
            each = {one.id for one in ast.walk(node.target) if isinstance(one, ast.Name)}
            if each & self.changed:
                over = (one for one in ast.walk(node.iter) if isinstance(one, ast.Name))
                self.changed |= {one.id for one in over}

    visit_If = visit_For = visit_While = visit_Try = _branches  # type: ignore[assignment]

    def _define(self, node: ast.FunctionDef | ast.Lambda) -> None:
        if isinstance(node, ast.FunctionDef):
            self._bind(node.name)
        arguments = node.args
        for default in (*arguments.defaults, *filter(None, arguments.kw_defaults)):
            self.visit(default)
        everything = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
        own = {
            each.arg for each in (*everything, *filter(None, (arguments.vararg, arguments.kwarg)))
        }
        self._function += 1
        body = node.body if isinstance(node.body, list) else [node.body]
        # a name that a function binds anywhere is its own throughout
        stored = {
            each.id
            for statement in body
            for each in ast.walk(statement)
            if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
        }
        self._scopes.append(own | stored)
        for statement in body:
            self.visit(statement)
        self._scopes.pop()
        self._function -= 1

    visit_FunctionDef = visit_Lambda = _define  # type: ignore[assignment]

    def _comprehend(self, node: ast.ListComp | ast.DictComp) -> None:
        self._scopes.append(set())
        for generator in node.generators:
            self.visit(generator.iter)
            self.visit(generator.target)
            for condition in generator.ifs:
                self.visit(condition)
        for part in ("key", "value", "elt"):
            if hasattr(node, part):
                self.visit(getattr(node, part))
        self._scopes.pop()

    visit_ListComp = visit_SetComp = visit_GeneratorExp = visit_DictComp = _comprehend  # type: ignore[assignment]


@dataclasses.dataclass(frozen=True)
class Cell:
    """A code cell or a statement of one, its names, and whether it shows what is recorded."""

    number: int
    source: str
    names: Names
    shows: bool


def code_cells(name: str) -> list[Cell]:
    """Return the code cells of a chapter, but for that of its parameters."""
    found = []
    for number, cell in enumerate(notebooks.read(name).cells):
        tags = cell.metadata.get("tags", [])
        if cell.cell_type == "code" and "parameters" not in tags:
            shows = TAG in tags or bool(SHOWS.search(cell.source))
            found.append(Cell(number, cell.source, Names(cell.source), shows))
    return found


def needed(cells: list[Cell]) -> list[Cell]:
    """Return the cells that show what is recorded, and the statements that these need, in order."""
    steps, modules, bodies = [], set(), {}
    for cell in cells:
        tree = ast.parse(cell.source)
        for statement in tree.body:
            source = ast.unparse(statement)
            names = Names(source)
            if isinstance(statement, ast.Import | ast.ImportFrom):
                modules |= names.bound
            if isinstance(statement, ast.FunctionDef):
                bodies[statement.name] = names.later
            if not cell.shows:
                steps.append(Cell(cell.number, source, names, False))
        if cell.shows:
            steps.append(cell)

    def reached(names: set[str]) -> set[str]:
        """Return the names with those in the bodies of functions among them."""
        found, new = set(), set(names)
        while new:
            found |= new
            new = set().union(*(bodies.get(name, ()) for name in new)) - found
        return found

    kept, wanted = [], set()
    for step in reversed(steps):
        names = step.names
        binds = names.bound | (names.changed - modules)
        if step.shows or step.source.startswith("report.begin(") or wanted & binds:
            wanted = (wanted - names.surely) | reached(names.needed)
            kept.append(step)
    return kept[::-1]


def chapters() -> list[str]:
    return [name for name in notebooks.names() if any(cell.shows for cell in code_cells(name))]


# ---- tables and their display -----------------------------------------------------------------


class Shown(list):
    """What cells have displayed."""

    def __call__(self, *objects, metadata=None, **_):
        for each in objects:
            if metadata is not None:
                self.append((each, metadata.get("mflib", {})))
            else:
                self.append((self.text(each), {}))

    @staticmethod
    def text(shown) -> str:
        for method in ("_repr_markdown_", "_repr_html_"):
            if hasattr(shown, method):
                return str(getattr(shown, method)())
        return str(shown)

    def figures(self) -> dict:
        return {meta["id"]: meta for _, meta in self if meta.get("kind") == "figure"}

    def words(self) -> str:
        return "\n".join(each for each, meta in self if not meta)


def run(source: str, names: dict, shown: Shown) -> None:
    """Run a cell as a notebook does: its last expression is shown."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    if last is not None:
        value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
        if value is not None:
            shown(value)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Return a function: the folders with one part and with all of the computations asked for."""
    home = tmp_path_factory.mktemp("recorded")
    made = {}

    def make(names):
        some, whole = home / "some", home / "all"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MFLIB_CACHE", str(home / "cache"))
            patch.setattr(paths, "build", lambda: home / "build")
            for name in names:
                if name in made:
                    continue
                groups = results.groups(name, rehearse=True)
                first = [group for group in groups if group.part == groups[0].part]
                rest = [group for group in groups if group.part != groups[0].part]
                for part, folder in ((first, some), (rest, whole)):
                    for group in part:
                        results.compute_group(
                            name, group.name, rehearse=True, device="cpu", progress=False
                        )
                    file = results.collect(name, rehearse=True, device="cpu")
                    shutil.copytree(file.parent, folder / name)
                made[name] = True
        return some, whole

    return make


# ---- the tests --------------------------------------------------------------------------------


def test_chapters_show_what_is_registered_and_no_verdict_depends_on_it():
    read = {}
    for name in notebooks.names():
        last_bound = {}
        for cell in code_cells(name):
            if cell.shows:
                assert not re.search(r"report\.(claim|erratum)\(", cell.source), (name, cell.source)
                found = re.findall(r'recorded\.computation\("([^"]+)"\)', cell.source)
                assert len(re.findall(r"recorded\.computation\(", cell.source)) == len(found)
                read |= dict.fromkeys(found, name)
            else:
                leaked = {each for each in cell.names.needed if last_bound.get(each)}
                assert not leaked, (
                    f"{name}: {leaked} is bound by a cell that shows what is recorded"
                )
            last_bound |= dict.fromkeys(cell.names.bound, cell.shows)
    assert read.keys() <= results.REGISTRY.keys()


@pytest.mark.parametrize("name", chapters())
def test_a_chapter_shows_nothing_a_part_and_all_of_what_is_recorded(
    name, tables, tmp_path, monkeypatch
):
    cells = needed(code_cells(name))
    ids = {
        found: None
        for cell in cells
        if cell.shows
        for found in re.findall(r'recorded\.computation\("([^"]+)"\)', cell.source)
    }
    some, whole = tables(ids)
    nothing, live = Shown(), Shown()
    shown = {tmp_path / "none": nothing, some: Shown(), whole: Shown()}
    own: dict = {folder: {} for folder in shown}
    matplotlib.use("agg")
    monkeypatch.setenv("MFLIB_CACHE", str(tmp_path / "cache"))
    values = parameters.resolve(notebooks.takes(name), SMALL.get(name, {}))
    names: dict = {"__name__": "__main__", **values}
    for cell in cells:
        if not cell.shows:
            monkeypatch.setattr("IPython.display.display", live)
            monkeypatch.delenv("MFLIB_RESULTS", raising=False)
            run(cell.source, names, live)
            continue
        for folder, seen in shown.items():
            monkeypatch.setenv("MFLIB_RESULTS", str(folder))
            monkeypatch.setattr("IPython.display.display", seen)
            here = {**names, "display": seen, **own[folder]}
            before, said = dict(here), len(seen)
            run(cell.source, here, seen)
            assert len(seen) > said, f"nothing is shown by the cell {cell.source!r}"
            own[folder] |= {k: v for k, v in here.items() if before.get(k, own) is not v}
            plt.close("all")
    assert not nothing.figures()
    for each in ids:
        assert f"mflib results run {each}`" in nothing.words()
    few, all_of = shown[some].figures(), shown[whole].figures()
    assert few.keys() <= all_of.keys()
    for identifier, figure in all_of.items():
        assert identifier.endswith("-full")
        origin = figure["provenance"]
        assert origin["scale"] == "paper"
        assert origin["command"].split()[3] in ids
    # each of them is drawn, and says which run it comes from
    drawn = {figure["provenance"]["command"].split()[3] for figure in all_of.values()}
    assert drawn == set(ids)
    assert not re.search(r"\bnan\b", shown[whole].words().lower())


def test_a_damaged_table_is_not_drawn(tables, tmp_path, monkeypatch):
    some, _ = tables(["mft-fig2"])
    folder = shutil.copytree(some / "mft-fig2", tmp_path / "mft-fig2")
    monkeypatch.setenv("MFLIB_RESULTS", str(tmp_path))
    assert recorded.computation("mft-fig2").missing
    record = folder / "table.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"device": "NVIDIA H200"}))
    with pytest.raises(recorded.Damaged, match="is not as it was written"):
        recorded.computation("mft-fig2")


# ---- that the choice of cells is right --------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected", "bound"),
    [
        ("x = y", {"y"}, {"x"}),
        ("fig, axis = f()\naxis.plot(fig)", {"f"}, {"fig", "axis"}),
        ("x = x + 1", {"x"}, {"x"}),
        ("a[k] = v", {"a", "k", "v"}, set()),
        ("n += 1", {"n"}, set()),
        ("for k, v in d.items():\n    t = k\nprint(t)", {"d"}, {"k", "v", "t"}),
        ("z = [i * s for i in r if i > m]", {"s", "r", "m"}, {"z"}),
        (
            "def f(a, *b, c=d, **e):\n    t = a\n    return t, b, c, e, g, h\nh = 1",
            {"d", "g"},
            {"f", "h"},
        ),
        ("import a.b as c, d.e\nfrom q import w", set(), {"c", "d", "w"}),
        ("f = lambda x: x + y", {"y"}, {"f"}),
        ("with o() as p:\n    print(p)", {"o"}, {"p"}),
        ("x: int = 3", set(), {"x"}),
        ("g = {k: f'{v:{w}}' for k, v in t}", {"w", "t"}, {"g"}),
    ],
)
def test_names_of_a_cell_are_found(source, expected, bound):
    names = Names(source)
    assert (names.needed, names.bound) == (expected, bound)


def test_what_a_cell_changes_is_found():
    assert Names("x.append(1)\ny['a'].b = 2\nlen(z)").changed == {"x", "y"}
    assert Names("for a, b in zip(x, y):\n    a['c'] = b").changed == {"a", "x", "y"}


def test_only_what_is_needed_runs():
    sources = [
        "import numpy as np\nimport sys",
        "x = {}\nreport.begin('x')",
        "x = 1 / 0",  # bound again before it is read
        "x = {}\nslow = 1 / 0",
        "def f(a):\n    return g(a) + h",
        "y = [np.zeros(2)]\nnp.seterr(all='raise')",
        "for k in range(3):\n    y.append(k)\n    slow = k",
        "x['a'] = y",
        "z = x\nz.clear()",
        "h = 3\ng = np.abs",
        "print(f(x))",
    ]
    cells = [Cell(n, source, Names(source), n == 10) for n, source in enumerate(sources)]
    assert [(step.number, step.source.split("\n")[0]) for step in needed(cells)] == [
        (0, "import numpy as np"),
        (1, "report.begin('x')"),
        (3, "x = {}"),
        (4, "def f(a):"),
        (5, "y = [np.zeros(2)]"),
        (6, "for k in range(3):"),
        (7, "x['a'] = y"),
        (9, "h = 3"),
        (9, "g = np.abs"),
        (10, "print(f(x))"),
    ]
