"""The pages of a sweep: an index of its runs and a page for each, which open without a server.

Everything that comes from a parameter, a notebook or an error is escaped by Jinja; pictures and
styles stand in the pages themselves.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.metadata
import json
import math
import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, StrictUndefined, Template
from markdown_it import MarkdownIt
from markupsafe import Markup
from mdit_py_plugins.dollarmath import dollarmath_plugin

from mflib.files import write_atomically
from mflib.report import claims
from mflib.report.figures import DPI
from mflib.sweep import figure, tables, templates
from mflib.sweep.runs import FAILED, FINISHED

#: A sign beside each word, so that no outcome is told by colour alone.
SIGNS = {FINISHED: "✓", FAILED: "✗", tables.NOT_FINISHED: "…"}

#: Pixels of a page to an inch of a picture.
PIXELS = 96

Outcome = Mapping[str, Any] | None


@dataclass(frozen=True)
class Cell:
    """One cell of the index: what is read, what it is sorted by, where it leads."""

    text: str
    sort: str = ""
    css: str = ""
    sign: str = ""
    link: str = ""
    of: str = ""  # what the link is of, for those who hear it without its row


@dataclass(frozen=True)
class Column:
    """The head of a column of the index."""

    title: str
    number: bool = False
    sign: str = ""


def write(
    manifest: Mapping[str, Any],
    outcomes: Sequence[Outcome],
    frame: pd.DataFrame,
    folder: Path,
    runs: Path,
) -> list[str]:
    """Write ``figure.png``, ``index.html`` and ``points/`` of a sweep.

    Returned is what the page has to say of its figure: that the result to be shown is not there,
    or why nothing could be drawn. ``frame`` is the table of runs. Pages of points that are no
    longer in the sweep go; a page that is there already, made of the same record by the same code,
    is left as it is.
    """
    pictures = folder / "points"
    pictures.mkdir(exist_ok=True)
    mathjax = provide_mathjax(runs)
    digests = [point["digest"] for point in manifest["points"]]
    known = set(digests)
    for file in pictures.glob("*.html"):
        if file.stem not in known:
            file.unlink()
    for number, (entry, outcome) in enumerate(zip(manifest["points"], outcomes, strict=True)):
        around = (
            digests[number - 1] if number else "",
            digests[number + 1] if number + 1 < len(digests) else "",
        )
        write_point(manifest, entry, outcome, around, folder, runs, mathjax)
    drawn, notices = draw(manifest, outcomes, runs)
    if drawn is None:
        (folder / "figure.png").unlink(missing_ok=True)
    else:
        write_atomically(folder / "figure.png", drawn.png)
    page = index(manifest, outcomes, frame, drawn, notices, runs)
    write_atomically(folder / "index.html", encoded(page))
    return notices


def draw(
    manifest: Mapping[str, Any], outcomes: Sequence[Outcome], runs: Path
) -> tuple[figure.Drawn | None, list[str]]:
    """Return the sweep's figure, if there is anything to draw, and what the page has to say of it.

    A result that no run has is named, and another takes its place: what was computed is shown.
    Whatever stops the drawing is named too, and stops nothing else.
    """
    notices: list[str] = []
    try:
        try:
            return figure.draw(manifest, outcomes, runs, manifest.get("show")), notices
        except figure.UnknownResultError as error:
            notices.append(tables.utf8(str(error)))
            drawn = figure.draw(manifest, outcomes, runs, None)
        return drawn, [f"{notices[0]} Another result is shown."] if drawn else notices
    except Exception as error:
        # Recorded values of any kind come here; the libraries that draw raise what they will.
        why = tables.utf8(shortened(f"{type(error).__name__}: {error}", 300))
        return None, [*notices, f"The figure could not be drawn: {why.rstrip('.')}."]


# --- the index ------------------------------------------------------------------------------------


def index(
    manifest: Mapping[str, Any],
    outcomes: Sequence[Outcome],
    frame: pd.DataFrame,
    drawn: figure.Drawn | None,
    notices: list[str],
    runs: Path,
) -> str:
    """Return the index page."""
    states = Counter(frame["outcome"])
    progress = [
        (sign, states[state], state, css(state))
        for state, sign in SIGNS.items()
        if states[state] or state == FINISHED
    ]
    damaged = frame.loc[(frame["outcome"] == tables.NOT_FINISHED) & frame["error"].notna(), "error"]
    columns, rows = index_table(manifest, frame, drawn)
    varied = set(manifest["varied"])
    values: dict[str, Any] = {}
    for point, outcome in zip(manifest["points"], outcomes, strict=True):
        values = tables.parameters_of(point, outcome) | values
    used = [name for name in tables.COUNTS if (frame[name].fillna(0) > 0).any()]
    picture = "" if drawn is None else base64.b64encode(drawn.png).decode()
    return render(
        templates.INDEX,
        made_of="",
        mathjax="",
        title=title(manifest, len(rows)),
        notebook=manifest["notebook"],
        profile=manifest["profile"],
        command=command(manifest),
        progress=progress,
        complete=states[FINISHED] + states[FAILED] == len(rows),
        notices=[*notices, *damaged],
        picture=picture,
        absent="There is no figure: see the notice above."
        if notices
        else "No run has a result to be shown yet.",
        drawn=drawn,
        width=0 if drawn is None else width(drawn.png),
        columns=columns,
        rows=rows,
        legend=", ".join(
            f"{claims.SIGNS[tables.COUNTS[name]]} {tables.COUNTS[name]}" for name in used
        ),
        constant=[(n, written(v)) for n, v in values.items() if n not in varied],
    )


def index_table(
    manifest: Mapping[str, Any], frame: pd.DataFrame, drawn: figure.Drawn | None
) -> tuple[list[Column], list[list[Cell]]]:
    """Return the columns and rows of the index: what varies, what came of it, where it lies."""
    varied = [tables.column_of(name) for name in manifest["varied"]]
    counts = [name for name in tables.COUNTS if (frame[name].fillna(0) > 0).any()]
    shown = tables.utf8(drawn.id) if drawn is not None and drawn.id else None
    ours = [
        str(name)
        for name in frame.columns
        if str(name).startswith("ours ")
        and (
            str(name) == f"ours {shown}"
            or (frame[name].dtype.kind in "if" and frame[name].nunique() > 1)
        )
    ]
    columns = [Column("point")]
    columns += [Column(name, frame[name].dtype.kind in "if") for name in varied]
    columns += [Column("outcome")]
    columns += [
        Column(tables.COUNTS[name], True, claims.SIGNS[tables.COUNTS[name]]) for name in counts
    ]
    columns += [Column(name.removeprefix("ours "), frame[name].dtype.kind in "if") for name in ours]
    columns += [Column("seconds", True), Column("device"), Column("notebook")]
    rows = []
    for row in frame.to_dict("records"):
        digest, outcome = row["point"], row["outcome"]
        reason = "" if pd.isna(row["error"]) else f": {shortened(row['error'])}"
        path = "" if pd.isna(row["notebook"]) else row["notebook"]
        rows.append(
            [
                Cell(digest[:8], digest, link=f"points/{digest}.html"),
                *(cell(row[name], exact=True) for name in varied),
                Cell(
                    outcome + reason,
                    outcome,
                    f"{css(outcome)}{' long' * (len(reason) > 40)}",
                    SIGNS[outcome],
                ),
                *(cell(row[name]) for name in (*counts, *ours, "seconds", "device")),
                Cell("open" if path else "–", path, link=path, of=f"the notebook of {digest[:8]}"),
            ]
        )
    return columns, rows


def cell(value: Any, *, exact: bool = False) -> Cell:
    """Return a value of the table as a cell, a number in six digits or exact; a dash for none."""
    if not isinstance(value, list) and pd.isna(value):
        return Cell("–")
    if isinstance(value, bool) or not isinstance(value, int | float):
        text = written(value)
        return Cell(text, text, "long" if len(text) > 24 else "")
    # JavaScript reads the infinite ones by another name than Python.
    sort = str(value).replace("inf", "Infinity")
    return Cell(written(value) if exact else number(value), sort)


def title(manifest: Mapping[str, Any], count: int) -> str:
    """Return what the page is called: the chapter and what varies in it."""
    varied = listed(manifest["varied"])
    over = f" over {varied}" if varied else ""
    return f"{chapter(manifest['notebook'])}: {count} run{'s' * (count != 1)}{over}"


def chapter(name: str) -> str:
    """Return a notebook's title, or its name where its source is gone."""
    from mflib import notebooks

    try:
        return notebooks.title(name) or name
    except ValueError:
        return name


def listed(words: Sequence[str]) -> str:
    """Return words as a sentence lists them: a, b and c."""
    *most, last = words or [""]
    return f"{', '.join(most)} and {last}" if most else last


def command(manifest: Mapping[str, Any]) -> str:
    """Return the command that makes the sweep: the recorded one, or the grid that it is.

    Empty where none is recorded and the points are no full grid, or the notebook is gone.
    """
    from mflib import notebooks, parameters

    if manifest.get("command"):
        return str(manifest["command"])
    points, varied = manifest["points"], manifest["varied"]
    axes = {
        n: list({repr(p["values"][n]): p["values"][n] for p in points}.values()) for n in varied
    }
    if len(points) != math.prod(map(len, axes.values())):
        return ""
    try:
        known = notebooks.takes(manifest["notebook"])
        block = notebooks.profile(manifest["profile"], manifest["notebook"])
        usual = parameters.resolve(known, block)
        pairs = [("-p", n, [v]) for n, v in points[0]["values"].items() if n not in varied]
        pairs = [pair for pair in pairs if pair[2] != [usual[pair[1]]]]
        pairs += [("--grid", name, axis) for name, axis in axes.items()]
        words = ["mflib", "sweep", manifest["notebook"], "--profile", manifest["profile"]]
        for option, name, values in pairs:
            mark = ";" if known[name].is_list else ","
            texts = [parameters.to_text(known[name], value) for value in values]
            if option == "--grid" and any(mark in text for text in texts):
                return ""
            words += [option, f"{name}={mark.join(texts)}"]
    except (ValueError, KeyError):
        return ""
    return shlex.join([*words, *(["--show", manifest["show"]] if manifest.get("show") else [])])


# --- the page of a run ----------------------------------------------------------------------------


def write_point(
    manifest: Mapping[str, Any],
    entry: Mapping[str, Any],
    outcome: Outcome,
    around: tuple[str, str],
    folder: Path,
    runs: Path,
    mathjax: bool,
) -> None:
    """Write the page of a run, unless it is there, made of the same by the same code."""
    target = folder / "points" / f"{entry['digest']}.html"
    material = [CODE, manifest["notebook"], manifest["varied"], entry, outcome, around, mathjax]
    made_of = hashlib.sha256(json.dumps(material, sort_keys=True).encode()).hexdigest()
    mark = f'<meta name="made-of" content="{made_of}">'.encode()
    if target.is_file():
        with target.open("rb") as file:
            if mark in file.read(400):
                return
    page = point(manifest, entry, outcome, around, runs, mathjax, made_of)
    write_atomically(target, encoded(page))


def point(
    manifest: Mapping[str, Any],
    entry: Mapping[str, Any],
    outcome: Outcome,
    around: tuple[str, str],
    runs: Path,
    mathjax: bool,
    made_of: str,
) -> str:
    """Return the page of a run."""
    digest, name = entry["digest"], manifest["notebook"]
    state = outcome["outcome"] if outcome else tables.NOT_FINISHED
    values = tables.parameters_of(entry, outcome)
    varied = list(manifest["varied"])
    notebook = read_notebook(runs / name / outcome["file"]) if outcome else {}
    links = [(f"../../../{outcome['file']}", "Executed notebook")] if outcome else []
    if (runs / name / f"{digest}.log").is_file():
        links.append((f"../../../{digest}.log", "Log"))
    here = [f"{n} = {written(values[n])}" for n in varied if n in values]
    figures = [
        {
            "id": record["id"],
            "picture": picture,
            "alt": record.get("alt", ""),
            "caption": Markup(caption(record.get("caption", ""))),
            "width": width(base64.b64decode(picture)),
        }
        for record, picture in pictures(notebook)
    ]
    needs_math = any("data-tex" in one["caption"] for one in figures)
    return render(
        templates.POINT,
        made_of=made_of,
        mathjax="../../../../_static/mathjax/tex-svg-full.js" if mathjax and needs_math else "",
        title=", ".join(here) or chapter(name),
        digest=digest,
        notebook=name,
        profile=manifest["profile"],
        outcome=state,
        css=css(state),
        sign=SIGNS[state],
        before=around[0],
        after=around[1],
        links=links,
        error=outcome["error"] if outcome else tables.unsound(runs / name / f"{digest}.json"),
        traceback=traceback(notebook),
        verdicts=[
            {
                "id": r["id"],
                "verdict": r["verdict"],
                "sign": claims.SIGNS.get(r["verdict"], ""),
                "css": css(r["verdict"]),
                "statement": r.get("statement", ""),
                "paper": number(r.get("paper")),
                "ours": number(r.get("ours")),
                "tolerance": number(r.get("tolerance")),
            }
            for r in tables.verdicts(outcome)
        ],
        figures=figures,
        parameters=[
            (n, written(values[n]), n in varied)
            for n in tables.unique([*varied, *values])
            if n in values
        ],
        made=made(outcome),
    )


def made(outcome: Outcome) -> list[tuple[str, str]]:
    """Return where a run was made, in how long, of which commit, by which command."""
    if not outcome:
        return []
    found = [
        (n, outcome.get(n)) for n in ("computed", "seconds", "device", "host", "threads", "commit")
    ]
    commands = [r["provenance"]["command"] for r in outcome["records"] if "provenance" in r]
    found += [("command", commands[-1])] if commands else []
    return [(name, written(value)) for name, value in found if value is not None]


def read_notebook(file: Path) -> dict[str, Any]:
    """Return an executed notebook as JSON, whose outputs are all that is needed of it.

    It is empty where the notebook has gone since its record was read, as when another sweep runs
    again what failed.
    """
    try:
        read: dict[str, Any] = json.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    return read


def outputs(notebook: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the outputs of a notebook in the order of its cells."""
    for one in notebook.get("cells", []):
        yield from one.get("outputs", [])


def pictures(notebook: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the record and the PNG, in base 64, of every published figure."""
    for output in outputs(notebook):
        record = output.get("metadata", {}).get("mflib", {})
        if record.get("kind") == "figure" and "image/png" in output.get("data", {}):
            # The format lets a long text be a list of its lines.
            yield record, re.sub(r"\s", "", "".join(output["data"]["image/png"]))


def traceback(notebook: Mapping[str, Any]) -> str:
    """Return the traceback of the cell that failed, without its colours."""
    lines = [
        line
        for output in outputs(notebook)
        if output.get("output_type") == "error"
        for line in output.get("traceback", [])
    ]
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", "\n".join(lines))


# --- text -----------------------------------------------------------------------------------------


def render(template: str, **values: Any) -> str:
    """Return a page; whatever is put into it is escaped."""
    return _compiled(template).render(
        style=Markup(templates.STYLE),
        math=Markup(templates.MATH),
        sort=Markup(templates.SORT),
        **values,
    )


@functools.cache
def _compiled(template: str) -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(templates.HEAD + template)


def encoded(page: str) -> bytes:
    """Return a page in UTF-8, lone surrogates (bytes of a command that are no text) escaped."""
    return page.encode("utf-8", "backslashreplace")


def css(words: str) -> str:
    """Return the class of an outcome or a verdict."""
    return words.replace(" ", "-")


def written(value: Any) -> str:
    """Return a parameter's value as it is written on a command line."""
    if isinstance(value, list):
        return ", ".join(map(written, value))
    return value if isinstance(value, str) else repr(value)


def number(value: Any) -> str:
    """Return a recorded number or words as they are read; a dash where there is none."""
    if value is None or value == "":
        return "–"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def shortened(text: str, most: int = 120) -> str:
    """Return a text on one line, cut where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1].rstrip()}…"


def width(png: bytes) -> int:
    """Return how wide a picture stands in a page, in px: its width in print."""
    return round(int.from_bytes(png[16:20]) * PIXELS / DPI)


def caption(markdown: str) -> str:
    """Return a caption as HTML: emphasis, code and formulas; links, pictures and HTML are text."""
    # A reference of the book's Markdown leads to another page of the book: its words remain.
    return str(_parser().render(re.sub(r"\{[a-z:]+\}(?=`)", "", tables.utf8(markdown))))


@functools.cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).disable("image")
    parser.use(dollarmath_plugin, double_inline=True)
    for rule in ("link_open", "link_close"):
        parser.add_render_rule(rule, lambda *_: "")
    for rule in ("math_inline", "math_block", "math_inline_double"):
        parser.add_render_rule(rule, lambda _, tokens, at, *__: formula(tokens[at].content))
    return parser


def formula(tex: str) -> str:
    """Return a formula as readable text that carries its TeX, for where MathJax is there."""
    return str(
        Markup('<span class="math" data-tex="{}">{}</span>').format(tex.strip(), readable(tex))
    )


_SIGNS = {
    "times": "×", "cdot": "·", "le": "≤", "leq": "≤", "ge": "≥", "geq": "≥", "approx": "≈",
    "pm": "±", "to": "→", "infty": "∞", "sum": "Σ", "propto": "∝", "ell": "ℓ", "sim": "∼",
    "langle": "⟨", "rangle": "⟩", "in": "∈", "neq": "≠", "ne": "≠", "ll": "≪", "gg": "≫",
    "partial": "∂", "varepsilon": "ε", "varphi": "φ", "prime": "′", "equiv": "≡", "quad": " ",
    "circ": "∘", "star": "*", "ldots": "…", "dots": "…", "cdots": "…", "mid": "|", "int": "∫",
}  # fmt: skip
_RELATIONS = "≤≥≈±→∝∼∈≠≪≫≡"
_RAISED = str.maketrans("0123456789+-*", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻*")


def _command(found: re.Match[str]) -> str:
    name = found[1]
    if name in _SIGNS:
        sign = _SIGNS[name]
        return f" {sign} " if sign in _RELATIONS else sign
    size = "CAPITAL" if name[0].isupper() else "SMALL"
    spelt = {"lambda": "lamda"}.get(name.lower(), name)
    try:
        return unicodedata.lookup(f"GREEK {size} LETTER {spelt.upper()}")
    except KeyError:
        # The name of a function, such as log, is its own text; a change of type has none.
        return (
            ""
            if re.fullmatch(r"math\w+|text\w*|left|right|operatorname|[Bb]igg?[lr]?", name)
            else name
        )


def readable(tex: str) -> str:
    r"""Return simple TeX as text.

    >>> readable(r"\sigma_w^2 \approx 2\times 10^{-5}")
    'σ_w² ≈ 2×10⁻⁵'
    """
    text = re.sub(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"(\1)/(\2)", tex)
    text = re.sub(r"\\sqrt\s*\{([^{}]*)\}", r"√(\1)", text)
    text = re.sub(r"\\([A-Za-z]+)\s*", _command, text)
    text = re.sub(r"\\[,;:!> ]", " ", text)
    text = re.sub(
        r"\^(?:\{([0-9+\-*]+)\}|([0-9*]))", lambda m: (m[1] or m[2]).translate(_RAISED), text
    )
    return " ".join(re.sub(r"[{}\\]", "", text).split())


# --- MathJax --------------------------------------------------------------------------------------


def provide_mathjax(runs: Path) -> bool:
    """Put the one file of MathJax that pages use into ``_static`` of the runs; tell if it is there.

    It comes from the package that the book takes it from. Without that package formulas are text.
    """
    target = runs / "_static" / "mathjax" / "tex-svg-full.js"
    try:
        files = importlib.metadata.files("sphinx-mathjax-offline") or []
    except importlib.metadata.PackageNotFoundError:
        return target.is_file()
    for file in files:
        # With outlines for letters: a browser may not load fonts from another folder's files.
        if file.match("static/mathjax/tex-svg-full.js"):
            content = Path(str(file.locate())).read_bytes()
            if not (target.is_file() and target.read_bytes() == content):
                target.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(target, content)
            return True
    return target.is_file()


#: Of what code a page was made: a page of another one is made again.
CODE = hashlib.sha256(
    Path(__file__).read_bytes() + Path(str(templates.__file__)).read_bytes()
).hexdigest()
