"""One result of a sweep over the parameters that vary in it, as small multiples.

A claim that is a number becomes lines, one that is words a map of its verdicts, and a figure of the
notebook a sheet of its pictures. The seed is never an axis: runs that differ in it alone are
averaged.
"""

from __future__ import annotations

import base64
import io
import itertools
import json
import math
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mflib import parameters, paths
from mflib.report import claims
from mflib.sweep import tables
from mflib.sweep.runs import FAILED, FINISHED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL import Image

Outcome = Mapping[str, Any] | None

SEED = "seed"

#: Width of the widest figure, in inches.
WIDEST = 11.0

#: As many panels, or pictures, as can still be looked over; the caption says what is left out.
MOST_PANELS = 24
MOST_PICTURES = 36

#: An axis is logarithmic where its values span more decades than this.
DECADES = 1.5

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")

#: Ground and hatch of a verdict. The hatch takes the sign's place where that has no room.
LOOKS = {
    claims.REPRODUCED: ("#8fd4bd", ""),
    claims.PARTLY: ("#f3cf84", "..."),
    claims.NOT_REPRODUCED: ("#e58a5b", "xxx"),
    claims.ERRATUM: ("#a9cdea", ""),
    claims.NOT_CONFIRMED: ("#d9d9d9", "---"),
}


@dataclass(frozen=True)
class Drawn:
    """A drawn figure: the claim or figure it shows (None: the verdicts), picture and words."""

    id: str | None
    png: bytes
    caption: str
    alt: str


@dataclass(frozen=True)
class Axis:
    """A parameter that varies: its name and its values, numbers from low to high."""

    name: str
    levels: tuple[Any, ...]

    @property
    def is_numeric(self) -> bool:
        """Whether the values have places on a line: numbers, and all finite."""
        return all(type(v) in (int, float) and math.isfinite(v) for v in self.levels)

    def at(self, value: Any) -> int:
        """Return the number of a value among the levels."""
        return [_key(level) for level in self.levels].index(_key(value))

    def label(self, value: Any) -> str:
        """Return a level as ``name = value``."""
        return f"{self.name} = {_level(value)}"


@dataclass(frozen=True)
class Run:
    """A finished run: its parameters and its records by id."""

    values: Mapping[str, Any]
    verdicts: Mapping[str, Mapping[str, Any]]
    figures: Mapping[str, Mapping[str, Any]]
    file: Path


def draw(
    manifest: Mapping[str, Any],
    outcomes: Sequence[Outcome],
    runs: Path,
    show: str | None = None,
) -> Drawn | None:
    """Return the figure of a sweep; None where no run is finished or none has a result.

    ``show`` is the id of a claim or of a figure of the notebook. Where it is None, the first claim
    is shown whose number is not the same everywhere, without one the verdicts, and without claims
    the first figure. Raises ValueError where no run has the result ``show``, with the nearest and
    all that there are.
    """
    finished = list(_finished(manifest, outcomes, runs))
    if not finished:
        return None
    known = tables.unique(id_ for run in finished for id_ in run.verdicts)
    figures = tables.unique(id_ for run in finished for id_ in run.figures)
    if show is None:
        show = next((id_ for id_ in known if _varies(finished, id_)), None)
        if not known:
            show = next(iter(figures), None)
    elif show not in known and show not in figures:
        raise ValueError(_unknown(show, known, figures))
    axes = _axes(manifest, outcomes)
    missing = _missing(outcomes)
    with _style():
        if show is None:
            return _verdicts(finished, axes, known, missing) if known else None
        if show in known:
            if any(_number(run, show) is not None for run in finished):
                return _numbers(finished, axes, show, missing)
            return _verdicts_of_one(finished, axes, show, missing)
        return _sheet(finished, axes, show, missing)


def check_show(show: str, name: str, runs: Path) -> None:
    """Raise ValueError if no run of the notebook ``name`` can have the result ``show``.

    What a notebook publishes is known from its earlier runs and, for ids that it spells out, from
    its source. Where neither tells, nothing is raised: `draw` will know.
    """
    source = paths.notebooks() / f"{name}.py"
    if source.is_file() and re.search(
        rf"[\"']{re.escape(show)}[\"']", source.read_text(encoding="utf-8")
    ):
        return
    found = [r for records in _earlier(name, runs) for r in records]
    known = tables.unique(r["id"] for r in found if r["kind"] in ("claim", "erratum"))
    figures = tables.unique(r["id"] for r in found if r["kind"] == "figure")
    if found and show not in known and show not in figures:
        raise ValueError(_unknown(show, known, figures))


def _earlier(name: str, runs: Path) -> Iterator[list[dict[str, Any]]]:
    """Yield the records of a notebook's earlier runs and of its executed copy in the book."""
    for file in sorted((runs / name).glob("*.json")):
        try:
            outcome = json.loads(file.read_bytes())
            if outcome["outcome"] == FINISHED:
                yield outcome["records"]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # a damaged record is named where the sweep is finished
    try:
        notebook = json.loads((paths.notebooks() / f"{name}.ipynb").read_bytes())
    except (OSError, ValueError):
        return
    outputs = [o for cell in notebook.get("cells", []) for o in cell.get("outputs", [])]
    found = [o.get("metadata", {}).get("mflib", {}) for o in outputs]
    yield [r for r in found if r.get("kind") in ("claim", "erratum", "figure")]


def _unknown(show: str, known: Sequence[str], figures: Sequence[str]) -> str:
    there = [f"claims {', '.join(known)}"] if known else []
    there += [f"figures {', '.join(figures)}"] if figures else []
    near = parameters.nearest(show, [*known, *figures])
    # Where nothing is near, that hint lists everything already.
    listed = f" There are the {' and the '.join(there)}." if "mean" in near else ""
    return f"no result {show!r} to show: {near}{listed or '.'}"


# --- what there is to draw ------------------------------------------------------------------------


def _finished(
    manifest: Mapping[str, Any], outcomes: Sequence[Outcome], runs: Path
) -> Iterator[Run]:
    for point, outcome in zip(manifest["points"], outcomes, strict=True):
        if outcome is not None and outcome["outcome"] == FINISHED:
            yield Run(
                tables.parameters_of(point, outcome),
                {r["id"]: r for r in tables.verdicts(outcome)},
                {r["id"]: r for r in outcome["records"] if r.get("kind") == "figure"},
                runs / manifest["notebook"] / outcome["file"],
            )


def _axes(manifest: Mapping[str, Any], outcomes: Sequence[Outcome]) -> list[Axis]:
    """Return the parameters that vary, the seed among them, in the manifest's order."""
    values = [tables.parameters_of(p, o) for p, o in zip(manifest["points"], outcomes, strict=True)]
    found = []
    for name in manifest["varied"]:
        levels = list({_key(v.get(name)): v.get(name) for v in values}.values())
        axis = Axis(name, tuple(levels))
        found.append(Axis(name, tuple(sorted(levels))) if axis.is_numeric else axis)
    return found


def _missing(outcomes: Sequence[Outcome]) -> str:
    """Say how many points the figure has, if it does not have all."""
    states = Counter(o["outcome"] if o else tables.NOT_FINISHED for o in outcomes)
    if states[FINISHED] == len(outcomes):
        return ""
    rest = [f"{n} {state}" for state in (FAILED, tables.NOT_FINISHED) if (n := states[state])]
    return f" Of {len(outcomes)} points {states[FINISHED]} are drawn; {', '.join(rest)}."


def _number(run: Run, id_: str) -> float | None:
    """Return our number of a claim; None where it is words or not there."""
    ours: Any = run.verdicts.get(id_, {}).get("ours")
    return float(ours) if type(ours) in (int, float) else None


def _finite(value: Any) -> float | None:
    """Return a recorded number that has a place on an axis; None for all else."""
    return float(value) if type(value) in (int, float) and math.isfinite(value) else None


def _varies(runs: Sequence[Run], id_: str) -> bool:
    return len({n for run in runs if (n := _number(run, id_)) is not None}) > 1


def _key(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"


# --- words and looks ------------------------------------------------------------------------------


@contextmanager
def _style() -> Iterator[None]:
    """Draw in the book's style, and leave the process's own as it is."""
    import matplotlib as mpl

    from mflib.report import figures

    with mpl.rc_context(), warnings.catch_warnings():
        figures.use_style()
        # A parameter's text may hold letters that the font has not; they become boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def _new(width: float, height: float) -> Figure:
    # Not pyplot's: nothing global to be closed, and no window system.
    from matplotlib.figure import Figure

    return Figure(figsize=(min(width, WIDEST), height))


def _png(fig: Figure) -> bytes:
    from mflib.report.figures import DPI

    picture = io.BytesIO()
    # Without the fixed metadata the same figure would give other bytes on another day.
    fig.savefig(picture, format="png", dpi=DPI, metadata={"Software": None})
    return picture.getvalue()


def _plain(text: str, most: int = 28) -> str:
    """Return text for a figure: one short line, nothing of it taken for a formula."""
    line = " ".join(text.split())
    line = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in line)
    line = line if len(line) <= most else f"{line[: most - 1]}…"
    return line.replace("$", r"\$")


def _level(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_level, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _is_log(values: Iterable[float]) -> bool:
    """Tell whether values belong on a logarithmic axis: many decades, and evener there."""
    sorted_ = np.unique(np.fromiter(values, float))
    if len(sorted_) < 3 or sorted_[0] <= 0 or math.log10(sorted_[-1] / sorted_[0]) <= DECADES:
        return False

    def unevenness(x: np.ndarray) -> float:
        gaps = np.diff(x)
        return float(gaps.std() / gaps.mean())

    return unevenness(np.log(sorted_)) < unevenness(sorted_)


def _several(count: int, word: str) -> str:
    return f"{count} {word}{'s' * (count != 1)}"


def _statement(runs: Sequence[Run], id_: str) -> str:
    """Return what a claim says, as its last run has it, without its full stop."""
    record = next(run.verdicts[id_] for run in reversed(runs) if id_ in run.verdicts)
    return " ".join(str(record.get("statement", "")).split()).rstrip(". ")


def _panels(
    axes: Sequence[Axis], runs: Sequence[Run]
) -> tuple[list[tuple[str, ...]], dict[tuple[str, ...], str], int]:
    """Return the panels that have runs, their titles, and how many stand in a row."""
    combinations = itertools.product(*(axis.levels for axis in axes))
    there = {tuple(_key(run.values[axis.name]) for axis in axes) for run in runs}
    titles = {
        key: "\n".join(_plain(axis.label(v), 40) for axis, v in zip(axes, levels, strict=True))
        for levels in combinations
        if (key := tuple(map(_key, levels))) in there
    }
    keys = list(titles)
    columns = len(axes[-1].levels) if len(axes) > 1 else len(keys)
    if columns > 4:
        columns = 4 if len(keys) > 6 else 3
    return keys, titles, columns


def _label_lowest(panels: np.ndarray, count: int) -> None:
    """Give the lowest panel of each column its tick labels, where the last row is not full."""
    for ax in panels.flat[max(0, count - panels.shape[1]) : count]:
        ax.tick_params(labelbottom=True)


def _left_out(count: int) -> str:
    return f" {count - MOST_PANELS} more panels are left out." if count > MOST_PANELS else ""


# --- numbers --------------------------------------------------------------------------------------

#: Panel, line, place on the x axis → the numbers there, one for each seed.
Cells = Mapping[tuple[tuple[str, ...], int, int], Sequence[float]]


@dataclass(frozen=True)
class Layout:
    """Which parameter goes along the axis, which makes lines, which make panels."""

    x: Axis
    hue: Axis | None
    rest: tuple[Axis, ...]

    def panel(self, run: Run) -> tuple[str, ...]:
        """Return the panel that a run belongs to."""
        return tuple(_key(run.values.get(axis.name)) for axis in self.rest)

    def place(self, run: Run) -> tuple[tuple[str, ...], int, int]:
        """Return panel, line and place of a run."""
        line = 0 if self.hue is None else self.hue.at(run.values.get(self.hue.name))
        return self.panel(run), line, self.x.at(run.values.get(self.x.name))


def _layout(axes: Sequence[Axis]) -> Layout:
    free = [axis for axis in axes if axis.name != SEED]
    numeric = [axis for axis in free if axis.is_numeric]
    x = max(numeric or free or [Axis("", (None,))], key=lambda axis: len(axis.levels))
    rest = [axis for axis in free if axis is not x]
    # More lines than markers cannot be told apart: such a parameter makes panels.
    hue = next((axis for axis in rest if len(axis.levels) <= len(MARKERS)), None)
    return Layout(x, hue, tuple(axis for axis in rest if axis is not hue))


def _numbers(runs: Sequence[Run], axes: Sequence[Axis], id_: str, missing: str) -> Drawn:
    """Draw a claim's number over the parameters, and the paper's where there is one."""
    layout = _layout(axes)
    keys, titles, columns = _panels(layout.rest, runs)
    # A place that has runs and no number is an empty list, which breaks the line.
    cells: dict[tuple[tuple[str, ...], int, int], list[float]] = defaultdict(list)
    infinite = 0
    for run in runs:
        here = cells[layout.place(run)]
        value = _number(run, id_)
        if value is not None and math.isfinite(value):
            here.append(value)
        infinite += value is not None and not math.isfinite(value)

    shown = keys[:MOST_PANELS]
    rows = math.ceil(len(shown) / columns)
    size = {1: 5.8, 2: 4.3}.get(columns, 3.1)
    fig = _new(size * columns + (1.7 if layout.hue else 0), (3.8 if rows == 1 else 2.7) * rows)
    panels = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    log_y = _is_log(value for values in cells.values() for value in values)
    for ax, key in itertools.zip_longest(panels.flat, shown):
        if key is None:
            ax.set_axis_off()
            continue
        _lines(ax, layout, {place[1:]: v for place, v in cells.items() if place[0] == key})
        _paper(
            ax,
            [run.verdicts[id_] for run in runs if layout.panel(run) == key and id_ in run.verdicts],
        )
        ax.set_title(titles[key])
        if log_y:
            ax.set_yscale("log")
    _ticks(panels.flat[0], layout.x)
    _label_lowest(panels, len(shown))
    fig.supxlabel(_plain(layout.x.name, 60), fontsize="medium")
    fig.supylabel(_plain(id_, 60), fontsize="medium")
    handles = {
        label: handle
        for ax in panels.flat
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    if handles:
        if "paper" in handles:  # below the lines, which come in the parameter's order
            handles["paper"] = handles.pop("paper")
        title = _plain(layout.hue.name) if layout.hue else None
        fig.legend(handles.values(), handles.keys(), title=title, loc="outside right upper")
    caption, alt = _number_words(runs, layout, cells, id_, titles)
    if infinite:
        caption += f" {_several(infinite, 'infinite number')} cannot be drawn."
    return Drawn(id_, _png(fig), caption + _left_out(len(keys)) + missing, alt)


def _lines(ax: Axes, layout: Layout, cells: Mapping[tuple[int, int], Sequence[float]]) -> None:
    """Draw one panel: a line for each level of the hue, mean and standard error over seeds."""
    from mflib.report.figures import CYCLE

    x, hue = layout.x, layout.hue
    positions = x.levels if x.is_numeric else range(len(x.levels))
    # Where lines share a place on an axis of words, they stand side by side.
    lines = sorted({line for line, _ in cells})
    for line in lines:
        places = sorted(place for number, place in cells if number == line)
        values = [np.asarray(cells[line, place], float) for place in places]
        at = np.asarray([positions[place] for place in places], float)
        if not x.is_numeric and len(lines) > 1:
            at += 0.3 * (lines.index(line) / (len(lines) - 1) - 0.5)
        means = [v.mean() if len(v) else np.nan for v in values]
        errors = [v.std(ddof=1) / math.sqrt(len(v)) if len(v) > 1 else np.nan for v in values]
        colour = CYCLE[line % len(CYCLE)]
        ax.errorbar(
            at,
            means,
            errors if np.isfinite(errors).any() else None,
            color=colour,
            marker=MARKERS[line],
            markersize=6,
            # Words have no order that a line could follow.
            linestyle="-" if x.is_numeric else "none",
            linewidth=1.3,
            capsize=3,
            label=_plain(_level(hue.levels[line])) if hue else None,
        )
        if not hue and not x.name:
            spread = np.linspace(-0.06, 0.06, len(values[0]))
            ax.plot(spread, values[0], ".", color=colour, alpha=0.4)


def _paper(ax: Axes, records: Sequence[Mapping[str, Any]]) -> None:
    """Draw the paper's number, with its tolerance, if all records of a panel have the same."""
    printed = {(_finite(r.get("paper")), _finite(r.get("tolerance"))) for r in records}
    if len(printed) != 1:
        return
    paper, tolerance = printed.pop()
    if paper is None:
        return
    ax.axhline(paper, color="0.25", linestyle="--", linewidth=1.2, zorder=1, label="paper")
    if tolerance:
        ax.axhspan(paper - tolerance, paper + tolerance, color="0.5", alpha=0.15, linewidth=0)


def _ticks(ax: Axes, x: Axis) -> None:
    """Give an axis its scale and, where its values are words, their names."""
    if not x.name:
        ax.set_xticks([])
        ax.set_xlim(-0.5, 0.5)
    elif not x.is_numeric:
        labels = [_plain(_level(level), 16) for level in x.levels]
        turned = sum(map(len, labels)) > 30
        ax.set_xticks(
            range(len(labels)),
            labels,
            rotation=30 if turned else 0,
            ha="right" if turned else "center",
        )
        ax.set_xlim(-0.5, len(labels) - 0.5)
    elif _is_log(x.levels):
        ax.set_xscale("log")
    elif all(type(level) is int for level in x.levels):
        from matplotlib.ticker import MaxNLocator

        ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _number_words(
    runs: Sequence[Run],
    layout: Layout,
    cells: Cells,
    id_: str,
    titles: Mapping[tuple[str, ...], str],
) -> tuple[str, str]:
    """Return caption and alternative text of a figure of numbers."""
    means = {place: float(np.mean(v)) for place, v in cells.items() if len(v)}
    counts = sorted({len(v) for v in cells.values() if len(v)})
    over = f" over {layout.x.name}" if layout.x.name else ""
    by = f", by {layout.hue.name}" if layout.hue else ""
    panels = (
        f", a panel for each value of {_listed([a.name for a in layout.rest])}"
        if layout.rest
        else ""
    )
    caption = f"{id_}: our number{over}{by}{panels}. The claim: {_statement(runs, id_)}."
    if counts and counts[-1] > 1:
        n = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        caption += f" Mean and standard error over seeds, n = {n}."
    papers = {r.verdicts[id_].get("paper") for r in runs if id_ in r.verdicts}
    paper = papers.pop() if len(papers) == 1 else None
    printed = f" The paper has {_level(paper)}." if type(paper) in (int, float) else ""
    if printed:
        caption += f" Dashed: the paper's number, {_level(paper)}; grey: its tolerance."
    if not means:
        return caption, f"{id_}: no finite number in {_several(len(runs), 'run')}."

    def where(place: tuple[tuple[str, ...], int, int]) -> str:
        parts = [layout.x.label(layout.x.levels[place[2]])] if layout.x.name else []
        parts += [layout.hue.label(layout.hue.levels[place[1]])] if layout.hue else []
        parts += titles[place[0]].splitlines()
        return f" at {_listed(parts)}" if parts else ""

    low, high = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
    if len(means) == 1:
        return caption, f"{id_}: {means[low]:.6g}{where(low)}.{printed}"
    alt = (
        f"{id_}{over}{by}: {len(means)} values, from {means[low]:.6g}{where(low)} "
        f"to {means[high]:.6g}{where(high)}.{printed}"
    )
    return caption, alt


# --- verdicts -------------------------------------------------------------------------------------


def _verdicts(
    runs: Sequence[Run], axes: Sequence[Axis], known: Sequence[str], missing: str
) -> Drawn:
    """Draw the verdicts on all claims: a row for each, or a panel for each that differs."""
    free = sorted((a for a in axes if a.name != SEED), key=lambda a: -len(a.levels))
    differ = [i for i in known if len({r.verdicts.get(i, {}).get("verdict") for r in runs}) > 1]
    caption = "Verdicts on all claims and errata"
    if len(free) > 1 and differ:
        x, y = free[:2]
        groups = {id_: (id_, runs) for id_ in differ[:MOST_PANELS]}
        png = _maps(groups, x, y)
        caption = f"Verdicts over {x.name} and {y.name}, a panel for each claim that differs"
        if len(differ) < len(known):
            caption += f"; the same in all runs: {', '.join(i for i in known if i not in differ)}"
        caption += "." + _left_out(len(differ))
        used = [x, y]
    else:
        x = free[0] if free else Axis("", (None,))
        used = [x]
        png = _rows(runs, x, known)
        caption += f" over {x.name}." if x.name else "."
    counts = Counter(
        r["verdict"] for run in runs for r in run.verdicts.values() if r["id"] in known
    )
    caption += _sharing(axes, used) + missing
    return Drawn(None, png, caption, _verdict_words(counts, len(runs)))


def _verdicts_of_one(runs: Sequence[Run], axes: Sequence[Axis], id_: str, missing: str) -> Drawn:
    """Draw the verdict on one claim over two parameters, a panel for each value of the others."""
    free = sorted((a for a in axes if a.name != SEED), key=lambda a: -len(a.levels))
    counts = Counter(r.verdicts[id_]["verdict"] for r in runs if id_ in r.verdicts)
    left = ""
    if len(free) < 2:
        x = free[0] if free else Axis("", (None,))
        png = _rows(runs, x, [id_])
        over = f" over {x.name}" if x.name else ""
    else:
        x, y, *rest = free
        keys, titles, _ = _panels(rest, runs)
        layout = Layout(x, y, tuple(rest))
        groups = {
            repr(key): (titles[key], [run for run in runs if layout.panel(run) == key])
            for key in keys[:MOST_PANELS]
        }
        png = _maps(groups, x, y, id_)
        over = f" over {x.name} and {y.name}"
        over += f", a panel for each value of {_listed([a.name for a in rest])}" if rest else ""
        left = _left_out(len(keys))
    caption = f"{id_}: verdict{over}. The claim: {_statement(runs, id_)}.{left}"
    alt = f"{id_}{over}: {_verdict_words(counts, len(runs))}"
    return Drawn(id_, png, caption + _sharing(axes, free) + missing, alt)


def _sharing(axes: Sequence[Axis], shown: Sequence[Axis]) -> str:
    """Say which runs of a map share a field, if any do."""
    names = [a.name for a in axes if a not in shown and len(a.levels) > 1]
    if not names:
        return ""
    return f" Runs that differ in {_listed(names)} share a field, divided among their verdicts."


def _listed(words: Sequence[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def _verdict_words(counts: Mapping[str, int], runs: int) -> str:
    words = [f"{counts[v]} times {v}" for v in LOOKS if counts.get(v)]
    return f"verdicts of {_several(runs, 'run')}: {', '.join(words)}."


def _maps(
    groups: Mapping[str, tuple[str, Sequence[Run]]], x: Axis, y: Axis, id_: str | None = None
) -> bytes:
    """Draw a map of verdicts over two parameters for each group: its title and its runs.

    The claim is ``id_``, or each group's own name.
    """
    columns = min(len(groups), 4 if len(x.levels) <= 8 else 2)
    rows = math.ceil(len(groups) / columns)
    size = max(2.6, min(WIDEST / columns, 0.45 * len(x.levels) + 1.4))
    height = 0.32 * len(y.levels) + 0.75
    fig = _new(size * columns, height * rows + 0.9)
    panels = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for ax in panels.flat[len(groups) :]:
        ax.set_axis_off()
    for ax, (name, (title, runs)) in zip(panels.flat, groups.items(), strict=False):
        cells: dict[tuple[int, int], list[str]] = defaultdict(list)
        for run in runs:
            if record := run.verdicts.get(id_ or name):
                place = x.at(run.values.get(x.name)), y.at(run.values.get(y.name))
                cells[place].append(record["verdict"])
        _fields(ax, cells, size / (len(x.levels) + 1.5))
        ax.set_title(title if id_ else _plain(title, 40))
    _name_ticks(panels.flat[0], [_level(v) for v in x.levels], [_level(v) for v in y.levels])
    _label_lowest(panels, len(groups))
    fig.supxlabel(_plain(x.name, 60), fontsize="medium")
    fig.supylabel(_plain(y.name, 60), fontsize="medium")
    if not y.is_numeric:
        panels.flat[0].invert_yaxis()  # words are read downwards, in the sweep's order
    shown = [id_] if id_ else list(groups)
    _verdict_legend(fig, [r for _, runs in groups.values() for r in runs], shown)
    return _png(fig)


def _rows(runs: Sequence[Run], x: Axis, known: Sequence[str]) -> bytes:
    """Draw the verdicts on claims, a row for each, over one parameter."""
    cells: dict[tuple[int, int], list[str]] = defaultdict(list)
    for run in runs:
        for id_, record in run.verdicts.items():
            if id_ in known:
                place = x.at(run.values.get(x.name)) if x.name else 0
                cells[place, len(known) - 1 - known.index(id_)].append(record["verdict"])
    width = min(WIDEST, max(4.5, 0.6 * len(x.levels) + 2.8))
    fig = _new(width, 0.3 * len(known) + 1.5)
    ax = fig.subplots()
    _fields(ax, cells, (width - 2.2) / len(x.levels))
    names = [_level(v) for v in x.levels] if x.name else ["all runs"]
    _name_ticks(ax, names, list(reversed(known)))
    ax.set_xlabel(_plain(x.name, 60))
    _verdict_legend(fig, runs, known)
    return _png(fig)


def _fields(ax: Axes, cells: Mapping[tuple[int, int], Sequence[str]], inches: float) -> None:
    """Fill a field of a map for each place, divided among the verdicts of the runs there."""
    from matplotlib.patches import Rectangle

    for (column, row), found in cells.items():
        left = column - 0.5
        for verdict, count in sorted(Counter(found).items(), key=lambda v: list(LOOKS).index(v[0])):
            share = count / len(found)
            has_room = share * inches > 0.17
            ground, hatch = LOOKS[verdict]
            ax.add_patch(
                Rectangle(
                    (left, row - 0.5),
                    share,
                    1,
                    facecolor=ground,
                    edgecolor="white",
                    hatch="" if has_room else hatch,
                )
            )
            if has_room:
                ax.text(left + share / 2, row, claims.SIGNS[verdict], ha="center", va="center")
            left += share
    ax.grid(False)


def _name_ticks(ax: Axes, columns: Sequence[str], rows: Sequence[str]) -> None:
    # Where there is no room for all names, every second, third ... column has its own.
    step = math.ceil(len(columns) / 24)
    shown = range(0, len(columns), step)
    labels = [_plain(columns[k], 16) for k in shown]
    turned = max(map(len, labels)) > 4 and len(labels) > 3
    ax.set_xticks(shown, labels, rotation=40 if turned else 0, ha="right" if turned else "center")
    ax.set_yticks(range(len(rows)), [_plain(row) for row in rows])
    ax.set(xlim=(-0.5, len(columns) - 0.5), ylim=(-0.5, len(rows) - 0.5))


def _verdict_legend(fig: Figure, runs: Sequence[Run], known: Sequence[str]) -> None:
    from matplotlib.patches import Patch

    found = {run.verdicts[id_]["verdict"] for run in runs for id_ in known if id_ in run.verdicts}
    handles = [
        Patch(facecolor=ground, hatch=hatch, edgecolor="white", label=f"{claims.SIGNS[v]} {v}")
        for v, (ground, hatch) in LOOKS.items()
        if v in found
    ]
    columns = max(1, int(fig.get_figwidth() / 1.7))
    fig.legend(handles=handles, loc="outside upper left", ncols=columns, fontsize="small")


# --- pictures -------------------------------------------------------------------------------------


def _sheet(runs: Sequence[Run], axes: Sequence[Axis], id_: str, missing: str) -> Drawn:
    """Lay out the pictures of one figure: a column for each value of the first parameter."""
    from PIL import Image

    from mflib.report.figures import DPI

    free = [axis for axis in axes if axis.name != SEED] or list(axes)
    seed = next((axis for axis in axes if axis.name == SEED and axis not in free), None)
    # Of runs that differ in the seed alone, the first stands for all.
    by_place: dict[tuple[int, ...], Run] = {}
    for run in sorted(runs, key=lambda run: seed.at(run.values.get(SEED)) if seed else 0):
        if id_ in run.figures:
            place = tuple(axis.at(run.values.get(axis.name)) for axis in free)
            by_place.setdefault(place, run)
    # Rows by the second parameter, then by the others; columns by the first.
    places = sorted(by_place, key=lambda p: (p[1:], p[:1]))
    shown = places[:MOST_PICTURES]
    first = len(free[0].levels) if free else 1
    in_grid = first <= 4 and len(free) > 1
    columns = first if in_grid else min(3, len(shown))
    cells: dict[tuple[int, int], tuple[int, ...]] = {}
    row_of = {p[1:]: k for k, p in enumerate({q[1:]: q for q in shown}.values())}
    for number, place in enumerate(shown):
        cells[(row_of[place[1:]], place[0]) if in_grid else divmod(number, columns)] = place

    pixels = round(WIDEST * DPI)
    gap, head = round(0.12 * DPI), round(0.3 * DPI)
    across = min((pixels - gap * (columns + 1)) // columns, round(7 * DPI))
    images: dict[tuple[int, int], Image.Image] = {}
    for cell, place in cells.items():
        whole = _picture(by_place[place], id_)
        high = round(across * whole.height / whole.width)
        small = whole.resize((across, high), Image.Resampling.LANCZOS)
        images[cell] = Image.new("RGB", small.size, "white")
        images[cell].paste(small, mask=small)
    rows = 1 + max(row for row, _ in cells)
    heights = [max(i.height for (r, _), i in images.items() if r == row) for row in range(rows)]
    total = (across + gap) * columns + gap, sum(heights) + (head + gap) * rows
    fig = _new(total[0] / DPI, total[1] / DPI)
    fig.set_layout_engine("none")
    for (row, column), image in images.items():
        left = gap + column * (across + gap)
        top = sum(heights[:row]) + row * (head + gap)
        place = cells[row, column]
        label = ", ".join(axis.label(axis.levels[k]) for axis, k in zip(free, place, strict=True))
        fig.text(
            left / total[0],
            1 - (top + head * 0.8) / total[1],
            _plain(label, across // 10),
            fontsize=8,
            va="bottom",
        )
        # Pixel for pixel, so that the pictures are not drawn a second time less sharply.
        fig.figimage(np.asarray(image), left, total[1] - top - head - image.height)
    names = _listed([axis.name for axis in free]) if free else ""
    record = by_place[shown[0]].figures[id_]
    caption = f"{id_} for each {names}." if names else f"{id_}."
    if seed:
        caption += f" The first seed of {len(seed.levels)}."
    if len(places) > len(shown):
        caption += f" {len(places) - len(shown)} more pictures are on the pages of their runs."
    alt = f"{_several(len(shown), 'picture')} of {id_}"
    alt += (
        f", by {names}. The first: {record.get('alt', '')}"
        if names
        else f": {record.get('alt', '')}"
    )
    return Drawn(id_, _png(fig), caption + missing, alt)


def _picture(run: Run, id_: str) -> Image.Image:
    """Return a figure of a run's executed notebook; a white one where the notebook has gone."""
    from PIL import Image

    from mflib.sweep import pages

    for record, png in pages.pictures(pages.read_notebook(run.file)):
        if record["id"] == id_:
            return Image.open(io.BytesIO(base64.b64decode(png))).convert("RGBA")
    return Image.new("RGBA", (160, 100), "white")
