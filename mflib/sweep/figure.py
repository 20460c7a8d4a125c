"""One result of a sweep over the parameters that vary in it, as small multiples.

A claim that is a number becomes lines, one that is words a map of its verdicts, and a figure of the
notebook a sheet of its pictures. Where the points are no grid, as those of a random search, every
run is a point of a scatter plot. The seed is never an axis: runs that differ in it alone are
averaged, or points at the same place.
"""

from __future__ import annotations

import base64
import functools
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

#: As many levels of a map's axes as have room, as much height (in inches) as all panels of maps
#: have together, and as many fields as can each have its sign.
MOST_COLUMNS = 60
MOST_ROWS = 40
HIGHEST = 45.0
MOST_SIGNS = 1000

#: As many points as the panels of one figure have together, unless one panel has more.
MOST_POINTS = 40_000

#: As many names of levels as an axis has room for.
MOST_NAMES = 24

#: Numbers beyond this are not drawn: matplotlib squares them and takes their differences.
LARGEST = 1e150

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

#: Marker of a verdict where every run is a point.
VERDICT_MARKERS = dict(zip(LOOKS, ("o", "s", "X", "D", "v"), strict=True))


class UnknownResultError(ValueError):
    """No run has the result that was to be shown."""


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
        """Whether the values have places on a line: numbers, none infinite or too large."""
        return all(_finite(v) is not None for v in self.levels)

    @functools.cached_property
    def numbers(self) -> Mapping[str, int]:
        """The number of each level, by its key."""
        return {_key(level): number for number, level in enumerate(self.levels)}

    def at(self, value: Any) -> int:
        """Return the number of a value among the levels."""
        return self.numbers[_key(value)]

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
    the first figure. Raises UnknownResultError, a ValueError, where no run has the result
    ``show``, with the nearest and all that there are.
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
        raise UnknownResultError(_unknown(show, known, figures))
    axes = _axes(manifest, outcomes)
    is_grid = _is_grid(manifest, outcomes, axes)
    missing = _missing(outcomes)
    with _style():
        if show is None:
            return _verdicts(finished, axes, known, missing, is_grid) if known else None
        if show in known:
            if any(_number(run, show) is not None for run in finished):
                by = _numbers if is_grid else _clouds
                return by(finished, axes, show, missing)
            return _verdicts_of_one(finished, axes, show, missing, is_grid)
        return _sheet(finished, axes, show, missing)


def check_show(show: str, name: str, runs: Path) -> None:
    """Raise UnknownResultError if no run of the notebook ``name`` can have the result ``show``.

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
        raise UnknownResultError(_unknown(show, known, figures))


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


def _is_grid(
    manifest: Mapping[str, Any], outcomes: Sequence[Outcome], axes: Sequence[Axis]
) -> bool:
    """Tell whether the points fill at least half of the grid that their values span."""
    free = [axis for axis in axes if axis.name != SEED]
    values = (tables.parameters_of(p, o) for p, o in zip(manifest["points"], outcomes, strict=True))
    places = {tuple(_key(v.get(axis.name)) for axis in free) for v in values}
    return len(free) < 2 or math.prod(len(axis.levels) for axis in free) <= 2 * len(places)


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
    if type(ours) not in (int, float):
        return None
    try:
        return float(ours)
    except OverflowError:  # a whole number beyond all floats
        return math.copysign(float(np.finfo(float).max), 1 if ours > 0 else -1)


def _finite(value: Any) -> float | None:
    """Return a recorded number that has a place on an axis; None for all else."""
    # Whole numbers of any size compare with a float; not all become one.
    is_drawable = type(value) in (int, float) and -LARGEST <= value <= LARGEST
    return float(value) if is_drawable else None


def _varies(runs: Sequence[Run], id_: str) -> bool:
    return len({n for run in runs if (n := _number(run, id_)) is not None}) > 1


def _undrawn(values: Iterable[float | None]) -> str:
    """Say how many of our numbers have no place on an axis, if any."""
    numbers = [v for v in values if v is not None]
    infinite = sum(not math.isfinite(v) for v in numbers)
    large = sum(math.isfinite(v) and _finite(v) is None for v in numbers)
    words = f" {_several(infinite, 'infinite number')} cannot be drawn." if infinite else ""
    if large:
        words += f" {_several(large, 'number')} beyond ±{LARGEST:g} cannot be drawn."
    return words


def _thinned(axis: Axis, most: int) -> tuple[Axis, str]:
    """Return an axis with at most so many of its levels, evenly taken, and what to say of it."""
    step = math.ceil(len(axis.levels) / most)
    if step == 1:
        return axis, ""
    words = f" Of the {len(axis.levels)} values of {axis.name} one in {step} is drawn."
    return Axis(axis.name, axis.levels[::step]), words


def _on(axis: Axis, runs: Sequence[Run]) -> list[Run]:
    """Return the runs whose value is among an axis's levels."""
    return [run for run in runs if _key(run.values.get(axis.name)) in axis.numbers]


def _told(axis: Axis, runs: Sequence[Run], numbers: Sequence[float]) -> float:
    """Return how much of the numbers' ranks a parameter explains: 1 for all, about 0 for nothing.

    It is the share of their variance between the parameter's levels, or eighths of its range in
    runs where it has more, adjusted for their count. Unlike a correlation it sees any dependence.
    """
    import pandas as pd

    ranks = pd.Series(numbers, dtype="float64").rank()
    groups = pd.Series([axis.at(run.values.get(axis.name)) for run in runs])
    if axis.is_numeric and len(axis.levels) > 8:
        groups = pd.qcut(groups, 8, labels=False, duplicates="drop")
    runs_, groups_ = len(ranks), groups.nunique()
    total = float(((ranks - ranks.mean()) ** 2).sum())
    if groups_ in (0, runs_) or total == 0:
        return 0.0
    within = float(((ranks - ranks.groupby(groups).transform("mean")) ** 2).sum())
    return 1 - within / total * (runs_ - 1) / (runs_ - groups_)


def _by_telling(
    axes: Sequence[Axis], results: Sequence[tuple[Sequence[Run], Sequence[float]]]
) -> list[Axis]:
    """Return the parameters, first those that explain most of any of the results."""
    return sorted(axes, key=lambda axis: -max((_told(axis, r, n) for r, n in results), default=0))


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
    # From the runs, not from the product of all levels, which can have any size.
    there = {tuple(axis.at(run.values.get(axis.name)) for axis in axes) for run in runs}
    titles = {}
    for place in sorted(there):
        levels = [axis.levels[k] for axis, k in zip(axes, place, strict=True)]
        titles[tuple(map(_key, levels))] = "\n".join(
            _plain(axis.label(v), 40) for axis, v in zip(axes, levels, strict=True)
        )
    keys = list(titles)
    columns = len(axes[-1].levels) if len(axes) > 1 else len(keys)
    if columns > 4:
        columns = 4 if len(keys) > 6 else 3
    return keys, titles, columns


def _label_lowest(panels: np.ndarray, count: int) -> None:
    """Give the lowest panel of each column its tick labels, where the last row is not full."""
    for ax in panels.flat[max(0, count - panels.shape[1]) : count]:
        ax.tick_params(labelbottom=True)


def _left_out(count: int, most: int = MOST_PANELS) -> str:
    if count <= most:
        return ""
    return f" {count - most} more {'panels are' if count - most > 1 else 'panel is'} left out."


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
    for run in runs:
        here = cells[layout.place(run)]
        if (value := _finite(_number(run, id_))) is not None:
            here.append(value)

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
    caption += _undrawn(_number(run, id_) for run in runs) + _left_out(len(keys))
    return Drawn(id_, _png(fig), caption + missing, alt)


def _clouds(runs: Sequence[Run], axes: Sequence[Axis], id_: str, missing: str) -> Drawn:
    """Draw a claim's number as a point for each run, in a panel for each parameter."""
    found = [(run, v) for run in runs if (v := _finite(_number(run, id_))) is not None]
    drawn, values = [run for run, _ in found], [v for _, v in found]
    free = [axis for axis in axes if axis.name != SEED]
    ordered = _by_telling(free, [(drawn, values)])
    shown = ordered[:MOST_PANELS]
    columns = min(len(shown), 2 if len(shown) in (2, 4) else 3 if len(shown) <= 6 else 4)
    rows = math.ceil(len(shown) / columns)
    fig = _new({2: 4.3, 3: 3.4, 4: 2.75}[columns] * columns, (3.6 if rows == 1 else 2.9) * rows)
    panels = fig.subplots(rows, columns, sharey=True, squeeze=False)
    log_y = _is_log(values)
    records = [run.verdicts[id_] for run in runs if id_ in run.verdicts]
    for ax, axis in itertools.zip_longest(panels.flat, shown):
        if axis is None:
            ax.set_axis_off()
            continue
        _paper(ax, records)
        _scatter(ax, _positions(axis, drawn), values, markersize=3 if len(drawn) > 300 else 5)
        if log_y:
            ax.set_yscale("log")
        _ticks(ax, axis)
        ax.set_xlabel(_plain(axis.name, 30))
    fig.supylabel(_plain(id_, 60), fontsize="medium")
    handles, labels = panels.flat[0].get_legend_handles_labels()
    if handles:
        fig.legend(handles, labels, loc="outside upper right")
    caption = (
        f"{id_}: our number, a point for each run, over each of {_listed([a.name for a in free])}. "
        "First is the parameter that explains most of the number's rank. "
        f"The claim: {_statement(runs, id_)}.{_paper_words(records)}"
    )
    caption += _undrawn(_number(run, id_) for run in runs) + _left_out(len(ordered))
    alt = f"{id_}: no finite number in {_several(len(runs), 'run')}."
    if found:

        def where(value: float) -> str:
            run = drawn[values.index(value)]
            return _listed([axis.label(run.values.get(axis.name)) for axis in shown])

        low, high = min(values), max(values)
        alt = (
            f"{id_} over {_listed([a.name for a in shown])}: {_several(len(values), 'run')}, "
            f"from {low:.6g} at {where(low)} to {high:.6g} at {where(high)}."
        )
    return Drawn(id_, _png(fig), caption + missing, alt)


def _positions(axis: Axis, runs: Sequence[Run]) -> list[float]:
    """Return where runs stand on an axis: at their numbers, or beside each other at their words."""
    if axis.is_numeric:
        return [float(run.values[axis.name]) for run in runs]
    # The golden ratio's multiples spread evenly, however many there are, and always alike.
    spread = [0.5 * (k * 0.618033988749895 % 1 - 0.5) for k in range(len(runs))]
    return [axis.at(run.values.get(axis.name)) + d for run, d in zip(runs, spread, strict=True)]


def _scatter(ax: Axes, x: Sequence[float], y: Sequence[float], **looks: Any) -> None:
    """Draw a point for each run."""
    from mflib.report.figures import CYCLE

    alpha = 0.8 if len(x) <= 300 else 0.4
    usual = {"marker": "o", "color": CYCLE[0], "alpha": alpha, "markeredgewidth": 0}
    ax.plot(x, y, **{"linestyle": "none", **usual, **looks})


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
        at = range(0, len(x.levels), math.ceil(len(x.levels) / MOST_NAMES))
        labels = [_plain(_level(x.levels[k]), 16) for k in at]
        turned = sum(map(len, labels)) > 30
        ax.set_xticks(at, labels, rotation=30 if turned else 0, ha="right" if turned else "center")
        ax.set_xlim(-0.5, len(x.levels) - 0.5)
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
    records = [r.verdicts[id_] for r in runs if id_ in r.verdicts]
    printed = f" The paper has {_level(p)}." if (p := _printed(records)) is not None else ""
    caption += _paper_words(records)
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


def _printed(records: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the paper's number, if all records have the same."""
    papers = {_finite(record.get("paper")) for record in records}
    return papers.pop() if len(papers) == 1 else None


def _paper_words(records: Sequence[Mapping[str, Any]]) -> str:
    paper = _printed(records)
    if paper is None:
        return ""
    has_tolerance = any(_finite(record.get("tolerance")) for record in records)
    tolerance = "; grey: its tolerance" if has_tolerance else ""
    return f" Dashed: the paper's number, {_level(paper)}{tolerance}."


# --- verdicts -------------------------------------------------------------------------------------


def _verdicts(
    runs: Sequence[Run], axes: Sequence[Axis], known: Sequence[str], missing: str, is_grid: bool
) -> Drawn:
    """Draw the verdicts on all claims: a row for each, or a panel for each that differs."""
    free = sorted((a for a in axes if a.name != SEED), key=lambda a: -len(a.levels))
    differ = [i for i in known if len({r.verdicts.get(i, {}).get("verdict") for r in runs}) > 1]
    caption = "Verdicts on all claims and errata"
    if len(free) > 1 and differ:
        if not is_grid:
            shown = differ[: _most_planes(runs)]
            free = _by_telling(free, [_ranked(runs, id_) for id_ in shown])
        x, y = free[:2]
        groups = {id_: (id_, runs) for id_ in differ}
        png, said = _maps(groups, x, y) if is_grid else _planes(groups, x, y)
        caption = f"Verdicts over {x.name} and {y.name}, a panel for each claim that differs"
        if len(differ) < len(known):
            caption += f"; the same in all runs: {', '.join(i for i in known if i not in differ)}"
        caption += "." + said
        used = [x, y]
    else:
        x = free[0] if free else Axis("", (None,))
        used = [x]
        png, said = _rows(runs, x, known)
        caption += (f" over {x.name}." if x.name else ".") + said
    counts = Counter(
        r["verdict"] for run in runs for r in run.verdicts.values() if r["id"] in known
    )
    caption += (_sharing(axes, used) if is_grid else "") + missing
    return Drawn(None, png, caption, _verdict_words(counts, len(runs)))


def _verdicts_of_one(
    runs: Sequence[Run], axes: Sequence[Axis], id_: str, missing: str, is_grid: bool
) -> Drawn:
    """Draw the verdict on one claim over two parameters, a panel for each value of the others."""
    free = sorted((a for a in axes if a.name != SEED), key=lambda a: -len(a.levels))
    counts = Counter(r.verdicts[id_]["verdict"] for r in runs if id_ in r.verdicts)
    if len(free) < 2:
        x = free[0] if free else Axis("", (None,))
        png, said = _rows(runs, x, [id_])
        over = f" over {x.name}" if x.name else ""
    elif not is_grid:
        free = _by_telling(free, [_ranked(runs, id_)])
        png, said = _planes({id_: (id_, runs)}, *free[:2])
        over = f" over {free[0].name} and {free[1].name}"
    else:
        x, y, *rest = free
        keys, titles, _ = _panels(rest, runs)
        layout = Layout(x, y, tuple(rest))
        panels: dict[tuple[str, ...], list[Run]] = {key: [] for key in keys}
        for run in runs:
            panels[layout.panel(run)].append(run)
        groups = {repr(key): (titles[key], here) for key, here in panels.items()}
        png, said = _maps(groups, x, y, id_)
        over = f" over {x.name} and {y.name}"
        over += f", a panel for each value of {_listed([a.name for a in rest])}" if rest else ""
    caption = f"{id_}: verdict{over}. The claim: {_statement(runs, id_)}.{said}"
    alt = f"{id_}{over}: {_verdict_words(counts, len(runs))}"
    sharing = _sharing(axes, free) if is_grid else ""
    return Drawn(id_, png, caption + sharing + missing, alt)


def _ranked(runs: Sequence[Run], id_: str) -> tuple[list[Run], list[float]]:
    """Return the runs that have a verdict on a claim, and the verdicts' numbers in their order."""
    found = [run for run in runs if id_ in run.verdicts]
    return found, [float(list(LOOKS).index(run.verdicts[id_]["verdict"])) for run in found]


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
) -> tuple[bytes, str]:
    """Draw a map of verdicts over two parameters for each group: its title and its runs.

    The claim is ``id_``, or each group's own name. Returned beside the picture is what is left out.
    """
    x, said_x = _thinned(x, MOST_COLUMNS)
    y, said_y = _thinned(y, MOST_ROWS)
    height = 0.32 * len(y.levels) + 0.75
    most = min(MOST_PANELS, (4 if len(x.levels) <= 8 else 2) * max(1, int(HIGHEST / height)))
    said = said_x + said_y + _left_out(len(groups), most)
    groups = {
        name: (title, _on(x, _on(y, runs)))
        for name, (title, runs) in itertools.islice(groups.items(), most)
    }
    columns = min(len(groups), 4 if len(x.levels) <= 8 else 2)
    rows = math.ceil(len(groups) / columns)
    size = max(2.6, min(WIDEST / columns, 0.45 * len(x.levels) + 1.4))
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
        room = size / (len(x.levels) + 1.5)
        _fields(ax, cells, room if len(groups) * len(cells) <= MOST_SIGNS else 0)
        ax.set_title(title if id_ else _plain(title, 40))
    _name_ticks(panels.flat[0], [_level(v) for v in x.levels], [_level(v) for v in y.levels])
    _label_lowest(panels, len(groups))
    fig.supxlabel(_plain(x.name, 60), fontsize="medium")
    fig.supylabel(_plain(y.name, 60), fontsize="medium")
    if not y.is_numeric:
        panels.flat[0].invert_yaxis()  # words are read downwards, in the sweep's order
    shown = [id_] if id_ else list(groups)
    _verdict_legend(fig, [r for _, runs in groups.values() for r in runs], shown)
    return _png(fig), said


def _most_planes(runs: Sequence[Run]) -> int:
    return max(1, min(MOST_PANELS, MOST_POINTS // len(runs)))


def _planes(groups: Mapping[str, tuple[str, Sequence[Run]]], x: Axis, y: Axis) -> tuple[bytes, str]:
    """Draw the verdicts on each group's claim as points over two parameters, one for each run.

    Returned beside the picture is what it leaves out.
    """
    from matplotlib.lines import Line2D

    most = min(_most_planes(runs) for _, runs in groups.values())
    shown = dict(itertools.islice(groups.items(), most))
    columns = min(len(shown), 3)
    rows = math.ceil(len(shown) / columns)
    fig = _new({1: 5.8, 2: 4.6, 3: 3.6}[columns] * columns, (3.8 if rows == 1 else 2.9) * rows)
    panels = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for ax in panels.flat[len(shown) :]:
        ax.set_axis_off()
    seen = set()
    for ax, (id_, (title, runs)) in zip(panels.flat, shown.items(), strict=False):
        for verdict, (colour, _) in LOOKS.items():
            here = [run for run in runs if run.verdicts.get(id_, {}).get("verdict") == verdict]
            if here:
                seen.add(verdict)
                _scatter(
                    ax,
                    _positions(x, here),
                    _positions(y, here),
                    marker=VERDICT_MARKERS[verdict],
                    color=colour,
                    markeredgecolor="0.3",
                    markeredgewidth=0.5,
                    markersize=4 if len(runs) > 300 else 6,
                )
        ax.set_title(_plain(title, 40))
    _ticks(panels.flat[0], x)
    if y.is_numeric:
        panels.flat[0].set_yscale("log" if _is_log(y.levels) else "linear")
    else:
        at = range(0, len(y.levels), math.ceil(len(y.levels) / MOST_NAMES))
        panels.flat[0].set_yticks(at, [_plain(_level(y.levels[k])) for k in at])
    _label_lowest(panels, len(shown))
    fig.supxlabel(_plain(x.name, 60), fontsize="medium")
    fig.supylabel(_plain(y.name, 60), fontsize="medium")
    handles = [
        Line2D(
            [],
            [],
            linestyle="none",
            marker=VERDICT_MARKERS[verdict],
            color=colour,
            markeredgecolor="0.3",
            label=verdict,
        )
        for verdict, (colour, _) in LOOKS.items()
        if verdict in seen
    ]
    fig.legend(handles=handles, loc="outside upper left", ncols=3, fontsize="small")
    said = " Each point is a run, over the two parameters that explain most of the verdicts."
    return _png(fig), said + _left_out(len(groups), most)


def _rows(runs: Sequence[Run], x: Axis, known: Sequence[str]) -> tuple[bytes, str]:
    """Draw the verdicts on claims, a row for each, over one parameter.

    Returned beside the picture is what it leaves out.
    """
    said = ""
    if x.name:
        x, said = _thinned(x, MOST_COLUMNS)
        runs = _on(x, runs)
    cells: dict[tuple[int, int], list[str]] = defaultdict(list)
    for run in runs:
        for id_, record in run.verdicts.items():
            if id_ in known:
                place = x.at(run.values.get(x.name)) if x.name else 0
                cells[place, len(known) - 1 - known.index(id_)].append(record["verdict"])
    width = min(WIDEST, max(4.5, 0.6 * len(x.levels) + 2.8))
    fig = _new(width, 0.3 * len(known) + 1.5)
    ax = fig.subplots()
    _fields(ax, cells, (width - 2.2) / len(x.levels) if len(cells) <= MOST_SIGNS else 0)
    names = [_level(v) for v in x.levels] if x.name else ["all runs"]
    _name_ticks(ax, names, list(reversed(known)))
    ax.set_xlabel(_plain(x.name, 60))
    _verdict_legend(fig, runs, known)
    return _png(fig), said


def _fields(ax: Axes, cells: Mapping[tuple[int, int], Sequence[str]], inches: float) -> None:
    """Fill a field of a map for each place, divided among the verdicts of the runs there."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline

    # One patch for each look: hatching field by field takes a hundred times as long.
    corners: dict[tuple[str, str], list[list[tuple[float, float]]]] = defaultdict(list)
    for (column, row), found in cells.items():
        left = column - 0.5
        for verdict, count in sorted(Counter(found).items(), key=lambda v: list(LOOKS).index(v[0])):
            share = count / len(found)
            has_room = share * inches > 0.17
            low, high, right = row - 0.5, row + 0.5, left + share
            corners[verdict, "" if has_room else LOOKS[verdict][1]].append(
                [(left, low), (right, low), (right, high), (left, high)]
            )
            if has_room:
                sign = claims.SIGNS[verdict]
                # It lies within its field: the layout need not ask for its size.
                ax.text(left + share / 2, row, sign, ha="center", va="center").set_in_layout(False)
            left = right
    for (verdict, hatch), fields in corners.items():
        ground = LOOKS[verdict][0]
        outline = Outline.make_compound_path_from_polys(np.asarray(fields))
        ax.add_patch(PathPatch(outline, facecolor=ground, edgecolor="white", hatch=hatch))
    ax.grid(False)


def _name_ticks(ax: Axes, columns: Sequence[str], rows: Sequence[str]) -> None:
    # Where there is no room for all names, every second, third ... column has its own.
    step = math.ceil(len(columns) / MOST_NAMES)
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
