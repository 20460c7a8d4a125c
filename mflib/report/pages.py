"""Stage the book: executed notebooks with their figures and verdicts, and the pages made of them.

``python -m mflib.report.pages --out _build/book`` writes what Jupyter Book then renders: the pages
of ``book/``, with recorded tables where they ask for them, one chapter for each executed notebook
that ``_toc.yml`` names, a scorecard and an errata page made from the notebooks' records, and a
reference made from the docstrings. Everything
is put together in memory first, so that a fault leaves the last good stage as it was, and only
files whose content changed are written, so that Sphinx renders only those again.
"""

from __future__ import annotations

import argparse
import ast
import base64
import csv
import dataclasses
import inspect
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import yaml
from nbformat import NotebookNode, v4
from plotly.offline import get_plotlyjs

from mflib import paths, recorded, sources
from mflib.report import claims, figures, provenance

#: Pages that are made here, not written; `_toc.yml` names them like any other.
GENERATED = ("scorecard", "errata", "api")

#: How an ordinary progress bar looks on stderr; anything else there is a warning to be dealt with.
PROGRESS = re.compile(r"\r|\d+%\||\b(it|s)/(s|it)\b")

#: Tag of a cell whose warnings are known and not meant for the reader.
QUIET_TAG = "remove-stderr"

#: What is kept of a notebook's metadata; the rest (papermill's, widgets') only unsettles the build.
KEPT_METADATA = ("kernelspec", "language_info")

VERDICTS = (*claims.CLAIM_VERDICTS, *claims.ERRATUM_VERDICTS)

#: Short name and citation of each paper; the register's ids begin with the key.
PAPERS = {
    "mft": ("Mean-field theory of training", "pabari2024meanfield"),
    "levy": ("Heavy-tailed criticality", "qu2022extended"),
    "recon": ("Reconstruction entropy", "thurn2024opening"),
}


class PageError(Exception):
    """A fault of the material, in one sentence that says what to do."""


@dataclasses.dataclass(frozen=True)
class Chapter:
    """One executed notebook, taken apart: cells for the book, its pictures, its records."""

    name: str
    title: str
    notebook: NotebookNode
    pictures: dict[str, bytes]
    records: tuple[dict[str, Any], ...]


# --- reading ----------------------------------------------------------------------------------


def load(path: Path) -> NotebookNode:
    """Return the executed notebook at ``path``.

    Raises PageError where it is missing, unreadable, not fully executed, or shows an error.
    """
    name = path.stem
    remedy = f"run `mflib run {name}` or `make book`"
    if not path.exists():
        raise PageError(f"The chapter {name!r} has no executed notebook {path.name}: {remedy}.")
    try:
        notebook = nbformat.read(path, as_version=4)
    except (ValueError, OSError, nbformat.validator.NotebookValidationError) as fault:
        raise PageError(f"{path.name} is not a readable notebook ({fault}): {remedy}.") from fault
    for number, cell in enumerate(notebook.cells, start=1):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        for output in cell.outputs:
            if output.output_type == "error":
                raise PageError(
                    f"{path.name}, cell {number}, ended in {output.ename}: {output.evalue}; "
                    f"mend notebooks/{name}.py and {remedy}."
                )
        if cell.execution_count is None:
            raise PageError(f"{path.name}, cell {number}, was not executed: {remedy}.")
    return notebook


def record_of(output: NotebookNode) -> dict[str, Any]:
    """Return the record that `mflib.report` left in an output's metadata, or an empty one."""
    record: dict[str, Any] = output.get("metadata", {}).get("mflib", {})
    return record


def records(notebook: NotebookNode) -> tuple[dict[str, Any], ...]:
    """Return the claims and errata of a notebook in the order of their cells."""
    return tuple(
        record
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if (record := record_of(output)).get("kind") in ("claim", "erratum")
    )


def documents(toc: Path) -> list[str]:
    """Return the names of all pages in ``_toc.yml``, in the order of reading."""

    def walk(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            for key in ("root", "file"):
                if key in node:
                    yield node[key]
            for key in ("parts", "chapters", "sections"):
                yield from walk(node.get(key))
        elif isinstance(node, list):
            for item in node:
                yield from walk(item)

    return list(walk(yaml.safe_load(toc.read_text(encoding="utf-8"))))


# --- pieces of MyST ---------------------------------------------------------------------------


def anchor(record: dict[str, Any]) -> str:
    """Return the label of a record's place in its chapter."""
    return "claim-" + re.sub(r"[^a-z0-9]+", "-", record["id"].lower()).strip("-")


def show(value: Any) -> str:
    """Return a recorded number or word as the reader sees it; a dash where there is none."""
    if value is None or value == "":
        return "–"
    return f"{value:.6g}" if isinstance(value, float) else escape(str(value))


def badge(verdict: str) -> str:
    """Return a verdict as sign and word, so that colour is never the only mark."""
    css = "verdict-" + verdict.replace(" ", "-")
    return f"[{claims.SIGNS[verdict]} {verdict}]{{.verdict .{css}}}"


def prose(text: str) -> str:
    """Return ``text`` on one line."""
    return " ".join(text.split())


def plain(text: str) -> str:
    """Return a record's plain text on one line, with Markdown's marks made harmless."""
    return escape(prose(text))


def figure_block(name: str, record: dict[str, Any]) -> str:
    """Return the figure directive of a record: picture, number, caption, provenance below it."""
    alt = json.dumps(record["alt"], ensure_ascii=False)
    source = provenance.line({**record["provenance"], "command": ""})
    source = source.removesuffix("recompute: ").rstrip(" ·")
    return (
        f"````{{figure}} /figures/{name}/{record['id']}.png\n"
        f":name: {record['id']}\n"
        f":alt: {alt}\n"
        f":width: {record['width']}\n\n"
        f"{prose(record['caption'])}\n\n"
        f"{source} · recompute: `{record['provenance']['command']}`\n"
        "````\n"
    )


def interactive_block(record: dict[str, Any], figure: dict[str, Any]) -> str:
    """Return the data of a figure's interactive version; the page's script draws it in its place.

    It stands in an element that no browser renders, so without scripts nothing is missing.
    """
    # Only "</script" could end the element early; JSON may write the slash as it likes.
    data = json.dumps(figure, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
    return (
        "````{raw} html\n"
        f'<script type="application/json" class="interactive-figure" '
        f'data-figure="{record["id"]}">{data}</script>\n'
        "````\n"
    )


def verdict_block(record: dict[str, Any]) -> str:
    """Return a claim's or erratum's verdict as an admonition that can be linked to."""
    verdict = record["verdict"]
    numbers = []
    if record["paper"] is not None:
        numbers.append(f"printed: {show(record['paper'])}")
    numbers.append(f"here: **{show(record['ours'])}**")
    if record["tolerance"] is not None:
        numbers.append(f"tolerance: ±{show(record['tolerance'])}")
    numbers.append(f"scale: {record['provenance']['scale']}")
    checks = [
        f"{'✓' if held else '✗'} {plain(name)}"
        for name, held in record["checks"].items()
        if name != "shown"
    ]
    page = "scorecard" if record["kind"] == "claim" else "errata"
    where = f", {plain(record['source'])}" if record["source"] else ""
    lines = [
        f"({anchor(record)})=",
        f":::{{admonition}} {claims.SIGNS[verdict]} {verdict.capitalize()}",
        f":class: verdict-box verdict-{verdict.replace(' ', '-')}",
        "",
        f"{plain(record['statement'])} ({record['id']}{where})",
        "",
        " · ".join(numbers),
    ]
    if checks:
        lines += ["", "Checked: " + "; ".join(checks) + "."]
    if record["note"]:
        lines += ["", plain(record["note"])]
    lines += ["", f"[All verdicts](/{page}.md)", ":::"]
    return "\n".join(lines) + "\n"


def sentences(*texts: str) -> str:
    """Return texts one after the other, each ended by one full stop."""
    return " ".join(f"{text.rstrip('. ')}." for text in texts if text)


def table(header: Iterable[str], widths: Iterable[int], rows: Iterable[Iterable[str]]) -> str:
    """Return a list-table; its cells may hold any inline MyST, bars in formulas included."""
    lines = [
        "::::{list-table}",
        ":header-rows: 1",
        f":widths: {' '.join(map(str, widths))}",
        ":class: records",
        "",
    ]
    for row in (header, *rows):
        first, *rest = (prose(cell) for cell in row)
        lines += [f"* - {first}", *(f"  - {cell}" for cell in rest)]
    return "\n".join([*lines, "::::", ""])


# --- chapters ---------------------------------------------------------------------------------


def merge_parameters(cells: list[NotebookNode]) -> list[NotebookNode]:
    """Return the cells with papermill's injected values written into the parameters cell.

    The reader sees one cell: each parameter with its comment and the value that was used.
    """
    injected = next((c for c in cells if "injected-parameters" in tags(c)), None)
    if injected is None:
        return cells
    values = {name: text for name, _, text in assignments(injected.source)}
    merged = []
    for cell in cells:
        if cell is injected:
            continue
        if "parameters" in tags(cell):
            cell = v4.new_code_cell(**{**cell, "source": substitute(cell.source, values)})
        merged.append(cell)
    return merged


def folded(cell: NotebookNode) -> NotebookNode:
    """Return the parameters cell as the book shows it: folded, with a heading that says what it is.

    It stands before anything has been explained, and may be seventy lines long.
    """
    said = {"code_prompt_show": "Parameters of this chapter", "code_prompt_hide": "Fold them"}
    metadata = {**cell.metadata, "tags": [*tags(cell), "hide-input"], "mystnb": said}
    return v4.new_code_cell(**{**cell, "metadata": metadata})


def tags(cell: NotebookNode) -> list[str]:
    """Return the tags of a cell."""
    found: list[str] = cell.metadata.get("tags", [])
    return found


def assignments(source: str) -> Iterator[tuple[str, ast.expr, str]]:
    """Yield name, value node and value text of every plain assignment to a name in ``source``."""
    for node in ast.parse(source).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        value = getattr(node, "value", None)
        if isinstance(target, ast.Name) and isinstance(value, ast.expr):
            yield target.id, value, ast.get_source_segment(source, value) or ast.unparse(value)


def substitute(source: str, values: dict[str, str]) -> str:
    """Return ``source`` with the values of its assignments replaced, comments and types kept."""
    encoded = [line.encode() for line in source.splitlines(keepends=True)]
    starts = [0]
    for line in encoded:
        starts.append(starts[-1] + len(line))
    raw = b"".join(encoded)
    known = list(assignments(source))
    # From the end, so that the offsets of what is still to come stay right.
    for name, node, _ in reversed(known):
        if name in values:
            start = starts[node.lineno - 1] + node.col_offset
            stop = starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)
            raw = raw[:start] + values[name].encode() + raw[stop:]
    unknown = [f"{name} = {text}" for name, text in values.items() if name not in dict_of(known)]
    return "\n".join([raw.decode(), *unknown])


def dict_of(found: Iterable[tuple[str, ast.expr, str]]) -> dict[str, str]:
    """Return name → value text of what `assignments` yields."""
    return {name: text for name, _, text in found}


def keep(output: NotebookNode, where: str, quiet: bool) -> bool:
    """Return whether the reader should see an ordinary output.

    Raises PageError for a warning nobody has decided about, and for a picture without a caption.
    """
    if output.output_type == "stream" and output.name == "stderr":
        lines = [line for line in re.split(r"\r?\n", output.text) if line.strip()]
        unexpected = [line for line in lines if not PROGRESS.search(line)]
        if unexpected and not quiet:
            raise PageError(
                f"{where} wrote to stderr: {unexpected[0].strip()!r}; mend its cause, or tag the "
                f"cell {QUIET_TAG!r} if readers need not see it."
            )
        return False
    data = output.get("data", {})
    if "application/vnd.jupyter.widget-view+json" in data:
        return False
    if any(kind.startswith("image/") for kind in data):
        raise PageError(
            f"{where} shows a picture without caption and alternative text: "
            "publish it with mflib.report.figure."
        )
    return True


SHOWN_ABOVE = "# the code is in a cell above"


def split(
    name: str, number: int, cell: NotebookNode
) -> tuple[list[NotebookNode], dict[str, bytes]]:
    """Return a code cell as cells for the book, and the pictures it showed.

    Records become Markdown cells after the code, in the order of the outputs; ordinary outputs
    after a record follow in a cell of their own, whose input is not shown.
    """
    where = f"{name}.ipynb, cell {number},"
    pictures: dict[str, bytes] = {}
    code = v4.new_code_cell(
        source=cell.source,
        metadata=cell.metadata,
        execution_count=cell.execution_count,
    )
    result = [code]
    for output in cell.outputs:
        record = record_of(output)
        match record.get("kind"):
            case "figure":
                if record["id"] in pictures:
                    raise PageError(f"{where} publishes the figure {record['id']!r} twice.")
                pictures[record["id"]] = base64.b64decode(output.data["image/png"])
                result.append(v4.new_markdown_cell(figure_block(name, record)))
                if figures.INTERACTIVE in output.data:
                    block = interactive_block(record, output.data[figures.INTERACTIVE])
                    result.append(v4.new_markdown_cell(block))
            case "claim" | "erratum":
                result.append(v4.new_markdown_cell(verdict_block(record)))
            case "figure-caption":
                pass
            case _ if keep(output, where, QUIET_TAG in tags(cell)):
                if result[-1].cell_type == "markdown":
                    # The renderer drops a cell without source, and its outputs with it.
                    more = v4.new_code_cell(SHOWN_ABOVE, metadata={"tags": ["remove-input"]})
                    more.execution_count = cell.execution_count
                    result.append(more)
                result[-1].outputs.append(output)
    return result, pictures


def chapter(name: str, notebook: NotebookNode) -> Chapter:
    """Return the chapter that an executed notebook becomes.

    Raises PageError for a notebook without title, with a figure published twice, or with a warning
    that nobody has decided about.
    """
    first = next(iter(notebook.cells), v4.new_code_cell())
    head = first.source.strip().splitlines()
    if first.cell_type != "markdown" or not head or not head[0].startswith("# "):
        raise PageError(f"{name}.ipynb does not begin with a Markdown cell '# Title': add one.")
    cells = [
        v4.new_markdown_cell("\n".join([head[0], "", downloads(name, notebook), *head[1:]])),
    ]
    pictures: dict[str, bytes] = {}
    for number, cell in enumerate(merge_parameters(notebook.cells)[1:], start=2):
        if cell.cell_type != "code":
            cells.append(cell)
            continue
        if not cell.source.strip():
            continue
        parts, shown = split(name, number, folded(cell) if "parameters" in tags(cell) else cell)
        if doubled := sorted(set(shown) & set(pictures)):
            raise PageError(f"{name}.ipynb publishes the figure {doubled[0]!r} twice.")
        pictures |= shown
        cells += parts
    staged = v4.new_notebook(
        cells=cells,
        metadata={key: notebook.metadata[key] for key in KEPT_METADATA if key in notebook.metadata},
    )
    for index, cell in enumerate(staged.cells):
        # Ids by position: random ones would make every stage differ and every page rebuild.
        cell["id"] = f"cell-{index}"
    return Chapter(name, head[0].removeprefix("# ").strip(), staged, pictures, records(notebook))


def downloads(name: str, notebook: NotebookNode) -> str:
    """Return the line under a chapter's title: its two files and how they came about."""
    ended = notebook.metadata.get("papermill", {}).get("end_time", "")[:10]
    executed = f" executed {ended}" if ended else ""
    return (
        "{.chapter-files}\n"
        f"{{download}}`Notebook with results (.ipynb) </downloads/{name}.ipynb>` "
        f"{{download}}`Source (.py) </downloads/{name}.py>`"
        f"{executed}\n"
    )


# --- generated pages --------------------------------------------------------------------------


def natural(identifier: str) -> tuple[Any, ...]:
    """Return a key that sorts eq3 before eq10."""
    return tuple(
        int(piece) if piece.isdigit() else piece for piece in re.split(r"(\d+)", identifier)
    )


def link(record: dict[str, Any]) -> str:
    """Return a link to a record's place in its chapter."""
    return f"{{ref}}`see chapter <{anchor(record)}>`"


def by_paper(found: Iterable[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield each paper's heading and citation with its records, sorted by id."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for record in sorted(found, key=lambda r: natural(r["id"])):
        groups.setdefault(record["id"].split("-")[0], []).append(record)
    for key, group in groups.items():
        title, cited = PAPERS[key]
        yield f"## {title}\n\nThe paper is {{cite:t}}`{cited}`.", group


def counts(found: Iterable[dict[str, Any]], kinds: Iterable[str]) -> str:
    """Return how many records have each verdict, as one line."""
    number = Counter(record["verdict"] for record in found)
    return " ".join(f"{badge(kind)} {number[kind]}" for kind in kinds)


def record_page(
    title: str,
    introduction: str,
    found: Iterable[dict[str, Any]],
    verdicts: Iterable[str],
    columns: dict[str, int],
    row: Callable[[dict[str, Any]], Iterable[str]],
) -> str:
    """Return a page of records: how many have each verdict, then a table for each paper.

    ``columns``: heading → relative width; ``row``: a record's cells in that order.
    """
    found = list(found)
    lines = [f"# {title}", "", introduction, "", "{.counts}", counts(found, verdicts), ""]
    for heading, group in by_paper(found):
        lines += [heading, "", table(columns, columns.values(), map(row, group))]
    return "\n".join(lines)


def of_kind(chapters: Iterable[Chapter], kind: str) -> list[dict[str, Any]]:
    """Return all records of one kind, in the order of reading."""
    return [r for c in chapters for r in c.records if r["kind"] == kind]


def cited(record: dict[str, Any]) -> str:
    """Return where the paper says it, in brackets; nothing where that is not recorded."""
    return f" ({plain(record['source'])})" if record["source"] else ""


def scorecard(chapters: Iterable[Chapter]) -> str:
    """Return the page that lists every checked claim with its verdict."""

    def row(r: dict[str, Any]) -> tuple[str, ...]:
        tolerance = "" if r["tolerance"] is None else f" (tolerance ±{show(r['tolerance'])})"
        return (
            f"`{r['id']}` {plain(r['statement'])}{cited(r)}",
            show(r["paper"]),
            show(r["ours"]) + tolerance,
            f"{badge(r['verdict'])}, {r['provenance']['scale']} scale: {link(r)}",
        )

    return record_page(
        "Scorecard",
        "Every claim of the papers that this book has checked so far. A verdict is computed while "
        "the chapter runs, from the two numbers and their tolerance and from further conditions "
        "that the chapter names: *reproduced* if all of them hold, *partly* if some do, *not "
        "reproduced* if none does. *Scale* says what was run: *exact* is theory without sampling, "
        "*quick* a small live experiment, *paper* the settings of the paper, *recorded* a table "
        "that is kept in the project. A dash under *Paper*: the paper gives no number.",
        of_kind(chapters, "claim"),
        claims.CLAIM_VERDICTS,
        {"Claim": 33, "Paper": 14, "Here": 32, "Verdict": 21},
        row,
    )


def errata(chapters: Iterable[Chapter]) -> str:
    """Return the page that lists the papers' slips, each with the number that shows it."""

    def row(r: dict[str, Any]) -> tuple[str, ...]:
        printed = "" if r["paper"] is None else f" Printed: {show(r['paper'])}."
        return (
            f"`{r['id']}` {plain(r['statement'])}{printed}{cited(r)}",
            sentences(show(r["ours"]), plain(r["note"])),
            f"{badge(r['verdict'])}, {link(r)}",
        )

    return record_page(
        "Errata",
        "Places where a paper's text, as we have it, and a computation disagree. Each entry was "
        "suspected first and then put to a computation in the chapter it links to. The numbers "
        "count through a whole paper. *Paper erratum* means the computation shows it, *not "
        "confirmed* that it does not. What a paper concludes often stands all the same; the "
        "chapters say where.",
        of_kind(chapters, "erratum"),
        claims.ERRATUM_VERDICTS,
        {"As printed": 42, "What holds": 40, "Verdict": 18},
        row,
    )


# --- recorded tables on written pages -----------------------------------------------------------


def fault(row: dict[str, str]) -> tuple[str, ...]:
    """Return a row of the table of faults as the reader sees it."""
    times = f"{int(row['times']):,}"
    return plain(row["kind"]), plain(row["target"]), times, plain(row["outcome"])


def overhead(row: dict[str, str]) -> tuple[str, ...]:
    """Return a row of the table of what safety costs as the reader sees it."""

    def ratio(name: str) -> str:
        value = float(row[name])
        return f"{value:.2f}" if row["unit"] == "times" else f"{100 * value:.2g} %"

    spread = f"{ratio('ratio')} ({ratio('lowest')} to {ratio('highest')})"
    seconds = f"{float(row['seconds']):.3g} s"
    beside = f"{float(row['beside_seconds']):.3g} s, {plain(row['beside'])}"
    return plain(row["what"]), seconds, beside, spread, ratio("limit")


#: Recorded tables that a page shows in place of the line ``% recorded: NAME``: heading → relative
#: width of each column, how a row is shown, and what to say where the table has not been made.
RECORDED: dict[str, tuple[dict[str, int], Callable[[dict[str, str]], tuple[str, ...]], str]] = {
    "faults": (
        {"What was done": 25, "To what": 25, "Times": 10, "What came of it, every time": 40},
        fault,
        "No faults have been tried in this copy of the project: `make faults` tries them and "
        "writes the table.",
    ),
    "faults-overhead": (
        {"What": 35, "It takes": 12, "Beside it": 23, "Ratio (spread)": 20, "Limit": 10},
        overhead,
        "The cost has not been measured in this copy of the project: `make faults` measures it.",
    ),
}


def with_recorded(text: str, results: Path) -> str:
    """Return a page with its recorded tables, each with a line on where it comes from.

    The line ``% computations`` becomes the table of all long computations, recorded or not. Raises
    PageError for a table that no page can show, or one that is not as it was written.
    """

    def shown(mark: re.Match[str]) -> str:
        name = mark[1]
        if name not in RECORDED:
            raise PageError(
                f"A page asks for the recorded table {name!r}: there are {', '.join(RECORDED)}."
            )
        columns, row, missing = RECORDED[name]
        file = results / f"{name}.csv"
        if not file.exists():
            return missing
        try:
            rows = list(csv.DictReader(recorded.read(file).decode().splitlines()))
            made = recorded.record(file)
        except recorded.Damaged as damage:
            raise PageError(f"{damage}.") from None
        source = (
            f"Recorded on {made['computed'][:10]} at commit {made['commit']} on "
            f"{plain(made['device'])}, in {made['seconds'] / 60:.0f} minutes."
        )
        return f"{table(columns, columns.values(), sorted(map(row, rows)))}\n{source}"

    text = re.sub(r"^% computations$", lambda _: computations(results), text, flags=re.MULTILINE)
    return re.sub(r"^% recorded: (\S+)$", shown, text, flags=re.MULTILINE)


def computations(results: Path) -> str:
    """Return the table of all long computations, as the registry has them and ``results`` holds.

    Raises PageError for a recorded table that is not as it was written.
    """
    from mflib import results as registry  # what there is to record, not how it is computed

    rows = []
    for name in registry.REGISTRY:
        known = registry.computation(name)
        groups = known.groups()
        parts = {group.part for group in groups}
        rows.append(
            (
                f"`{name}`",
                plain(known.title),
                ", ".join(known.data_sets) or "none",
                f"{len(parts)} / {len(groups)}",
                hours(sum(group.seconds for group in groups)),
                recorded_so_far(results / name / recorded.TABLE),
            )
        )
    columns = {
        "Id": 18, "What": 33, "Data": 13, "Parts / groups": 9, "H200, guessed": 11, "Recorded": 16,
    }  # fmt: skip
    return table(columns, columns.values(), rows)


def hours(seconds: float) -> str:
    """Return a rough time as the reader sees it."""
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"


def recorded_so_far(file: Path) -> str:
    """Return how much of a computation is recorded, on what, and when."""
    if not file.is_file() and not file.with_suffix(".json").is_file():
        return "not yet"
    try:
        recorded.read(file)
        made = recorded.record(file)
    except recorded.Damaged as damage:
        raise PageError(f"{damage}.") from None
    done = len(made["parts"])
    share = "" if not made["missing"] else f"{done} of {done + len(made['missing'])} parts, "
    said = f"{share}{plain(made['device'])}, {made['computed'][:10]}"
    now = {module: sources.code_version(module) for module in made["code"]}
    return said if now == made["code"] else f"{said}, by earlier code"


# --- reference from docstrings ----------------------------------------------------------------


def api() -> str:
    """Return the reference page: public names, signatures and docstrings, read without import.

    Reading the syntax trees instead of importing keeps torch out of the book's build.
    """
    package = Path(__file__).resolve().parents[1]
    lines = [
        "# Reference",
        "",
        "The public names of the package, from their docstrings. `mflib.theory` needs numpy, "
        "scipy and python-flint only; `mflib.experiment` needs torch; `mflib.report` is what the "
        "notebooks record with; `mflib.classroom` is what assignments are written with and "
        "graded by.",
        "",
    ]
    for part in ("theory", "experiment", "report", "classroom"):
        for file in sorted((package / part).glob("*.py")):
            if not file.stem.startswith("_") and file != Path(__file__).resolve():
                lines += module_reference(f"mflib.{part}.{file.stem}", file.read_text("utf-8"))
    return "\n".join(lines)


def module_reference(name: str, source: str) -> list[str]:
    """Return a module's section: its docstring, then each public function and class."""
    tree = ast.parse(source)
    lines = [f"## {name}", "", *docstring(tree), ""]
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            lines += [f"### {name.rsplit('.', 1)[-1]}.{node.name}", "", *described(node)]
            if isinstance(node, ast.ClassDef):
                for method in node.body:
                    if isinstance(method, ast.FunctionDef) and (
                        not method.name.startswith("_") and ast.get_docstring(method)
                    ):
                        lines += [f"#### {node.name}.{method.name}", "", *described(method)]
    return lines


def described(node: ast.FunctionDef | ast.ClassDef) -> list[str]:
    """Return the signature of a function or class as code, and its docstring."""
    return ["```python", signature(node), "```", "", *docstring(node), ""]


def signature(node: ast.FunctionDef | ast.ClassDef) -> str:
    """Return how to call a function, or a class with its public fields."""
    if isinstance(node, ast.ClassDef):
        bases = f"({', '.join(map(ast.unparse, node.bases))})" if node.bases else ""
        fields = [
            f"    {ast.unparse(item)}"
            for item in node.body
            if isinstance(item, ast.AnnAssign)
            and isinstance(item.target, ast.Name)
            and not item.target.id.startswith("_")
        ]
        return "\n".join([f"class {node.name}{bases}", *fields])
    call = f"{node.name}({ast.unparse(node.args)})"
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    if len(call + returns) <= 88:
        return call + returns
    return f"{node.name}(\n" + "".join(f"    {a},\n" for a in arguments(node)) + f"){returns}"


def arguments(node: ast.FunctionDef) -> Iterator[str]:
    """Yield the arguments of a function one by one as they are written."""
    # Splitting the printed list at commas outside brackets spares a second walk over the tree.
    depth, piece = 0, ""
    for sign in ast.unparse(node.args):
        depth += (sign in "([{") - (sign in ")]}")
        if sign == "," and depth == 0:
            yield piece.strip()
            piece = ""
        else:
            piece += sign
    if piece.strip():
        yield piece.strip()


def docstring(node: ast.Module | ast.FunctionDef | ast.ClassDef) -> list[str]:
    """Return a docstring as MyST: prose, definition lists, formulas set as they are typed."""
    text = ast.get_docstring(node)
    lines: list[str] = []
    for block in re.split(r"\n\s*\n", inspect.cleandoc(text)) if text else []:
        rows = block.splitlines()
        if len(rows) > 1 and re.fullmatch(r"-{3,}|={3,}", rows[1]):
            lines += [f"**{rows[0].strip()}**", ""]
            rows = rows[2:]
        if not rows:
            continue
        if rows[0].lstrip().startswith(">>>"):
            lines += ["```pycon", *inspect.cleandoc("\n".join(rows)).splitlines(), "```", ""]
        elif all(row.startswith("    ") for row in rows):
            lines += ["```text", *inspect.cleandoc("\n" + "\n".join(rows)).splitlines(), "```", ""]
        elif re.match(r"\S[^:]* : ", rows[0]):
            lines += [*entries(rows), ""]
        else:
            lines += [*map(escape, rows), ""]
    return lines


def entries(rows: Iterable[str]) -> Iterator[str]:
    """Yield numpydoc entries ``name : meaning`` as a list."""
    for row in rows:
        name, colon, meaning = row.partition(" : ")
        if colon and not row.startswith(" "):
            yield f"- `{name.strip()}`: {escape(meaning)}"
        else:
            yield "  " + escape(row.strip())


def escape(text: str) -> str:
    """Return text with Markdown's marks made harmless, code in backticks kept."""
    pieces = re.split(r"(``.+?``|`[^`]+`)", text)
    return "".join(
        f"`{piece.strip('`')}`"
        if piece.startswith("`") and len(piece) > 1
        else re.sub(r"([\\*_<>\[\]{}$|#])", r"\\\1", piece)
        for piece in pieces
    )


# --- staging ----------------------------------------------------------------------------------


def assemble(root: Path) -> dict[str, bytes]:
    """Return every staged file, path → content.

    Raises PageError where a page of ``_toc.yml`` has no source, a notebook is not fit to be shown,
    or two records or figures carry the same name.
    """
    files = {
        str(file.relative_to(root / "book")): file.read_bytes()
        for file in sorted((root / "book").rglob("*"))
        if file.is_file()
    }
    files |= {
        name: with_recorded(content.decode(), root / "results").encode()
        for name, content in files.items()
        if name.endswith(".md")
    }
    # Sphinx looks for the table of contents beside the pages it builds.
    files |= {name: (root / name).read_bytes() for name in ("_config.yml", "_toc.yml")}
    chapters = []
    for name in documents(root / "_toc.yml"):
        if f"{name}.md" in files or name in GENERATED:
            continue
        if not (root / "notebooks" / f"{name}.py").exists():
            raise PageError(
                f"_toc.yml names {name!r}, but there is neither book/{name}.md "
                f"nor notebooks/{name}.py: add one or take it out."
            )
        executed = root / "notebooks" / f"{name}.ipynb"
        chapters.append(chapter(name, load(executed)))
        files[f"downloads/{name}.ipynb"] = executed.read_bytes()
        files[f"downloads/{name}.py"] = (root / "notebooks" / f"{name}.py").read_bytes()
    check_names(chapters)
    for one in chapters:
        files[f"{one.name}.ipynb"] = nbformat.writes(one.notebook).encode()
        files |= {f"figures/{one.name}/{id_}.png": png for id_, png in one.pictures.items()}
    # Beside the pages and not among their scripts: only a page that needs it loads it.
    files["extra/plotly.min.js"] = get_plotlyjs().encode()
    files["scorecard.md"] = scorecard(chapters).encode()
    files["errata.md"] = errata(chapters).encode()
    files["api.md"] = api().encode()
    return files


def check_names(chapters: Iterable[Chapter]) -> None:
    """Raise PageError where two chapters use one name for a figure, or two records one id."""
    seen: dict[str, str] = {}
    for one in chapters:
        for name in (*one.pictures, *(anchor(record) for record in one.records)):
            if name in seen:
                raise PageError(
                    f"{name!r} is used in {seen[name]}.ipynb and again in {one.name}.ipynb: "
                    "names of figures and ids of claims must be unique in the book."
                )
            seen[name] = one.name


def write_changed(files: dict[str, bytes], out: Path) -> list[str]:
    """Bring the folder ``out`` to hold exactly ``files``; return the paths that changed.

    Each file is replaced whole or not at all. The folder's own ``_build`` is left alone.
    """
    changed = []
    for path, content in files.items():
        target = out / path
        if target.is_file() and target.read_bytes() == content:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        partial.write_bytes(content)
        os.replace(partial, target)
        changed.append(path)
    for file in sorted(out.rglob("*"), reverse=True):
        relative = file.relative_to(out)
        if relative.parts[0] == "_build":
            continue
        if file.is_file() and relative.as_posix() not in files:
            file.unlink()
            changed.append(relative.as_posix())
        elif file.is_dir() and not any(file.iterdir()):
            file.rmdir()
    return changed


def stage(out: Path, root: Path | None = None) -> list[str]:
    """Stage the book of the project ``root`` into ``out`` and return the paths that changed."""
    return write_changed(assemble(root or paths.root()), out)


# --- verdicts ---------------------------------------------------------------------------------


def verdicts(root: Path) -> dict[str, str]:
    """Return id → verdict of every record in the chapters of ``_toc.yml``."""
    names = [
        name
        for name in documents(root / "_toc.yml")
        if (root / "notebooks" / f"{name}.py").exists()
    ]
    found = {
        record["id"]: record["verdict"]
        for name in names
        for record in records(load(root / "notebooks" / f"{name}.ipynb"))
    }
    return dict(sorted(found.items(), key=lambda item: natural(item[0])))


def compare(baseline: dict[str, str], current: dict[str, str]) -> tuple[list[str], list[str]]:
    """Return what worsened against the baseline, and what else differs, as sentences."""
    worse: list[str] = []
    other: list[str] = []
    for id_, was in baseline.items():
        now = current.get(id_)
        if now is None:
            worse.append(f"{id_} was {was!r} and is no longer recorded.")
        elif now != was:
            same_kind = any(
                {was, now} <= set(order)
                for order in (claims.CLAIM_VERDICTS, claims.ERRATUM_VERDICTS)
            )
            better = same_kind and VERDICTS.index(now) < VERDICTS.index(was)
            (other if better else worse).append(f"{id_} was {was!r} and is now {now!r}.")
    other += [f"{id_} is new: {now!r}." for id_, now in current.items() if id_ not in baseline]
    return worse, other


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m mflib.report.pages", description=__doc__)
    parser.add_argument("--out", type=Path, help="folder to stage the book in")
    parser.add_argument(
        "--write-verdicts",
        action="store_true",
        help="record the verdicts of the executed notebooks in tests/verdicts.json",
    )
    options = parser.parse_args(argv)
    if options.out is None and not options.write_verdicts:
        parser.error("give --out FOLDER to stage the book, or --write-verdicts")
    root = paths.root()
    try:
        if options.write_verdicts:
            target = root / "tests" / "verdicts.json"
            found = verdicts(root)
            target.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", "utf-8")
            print(f"{len(found)} verdicts written to {target}")
        if options.out is not None:
            changed = stage(options.out, root)
            print(f"Staged in {options.out}: {len(changed)} files changed.")
    except PageError as fault:
        print(fault, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
