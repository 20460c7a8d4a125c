"""The table, the figure and the pages of a sweep, from real records of made-up notebooks."""

from __future__ import annotations

import base64
import html
import html.parser
import io
import itertools
import json
import math
import random
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pytest
from book.visits import grave_findings
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from nbformat import v4, writes
from PIL import Image

from mflib.notebooks import Plan
from mflib.sweep import figure, pages, runs, tables

NOTEBOOK = "made-up"


def picture(colour: str = "red") -> str:
    """Return a small PNG of one colour, in base 64."""
    content = io.BytesIO()
    Image.new("RGB", (160, 100), colour).save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


def claim(identifier, ours, verdict="reproduced", kind="claim", **more):
    record = {"kind": kind, "id": identifier, "statement": "It holds.", "paper": None}
    record |= {"ours": ours, "tolerance": None, "checks": {}, "source": "", "note": ""}
    return record | {"verdict": verdict, "provenance": {"command": "mflib run made-up"}} | more


def shown(identifier="fc-line", colour="red", **more):
    record = {"kind": "figure", "id": identifier, "caption": "A $q^2$.", "alt": "from 0 to 1"}
    return record | {"width": "100%", "colour": colour} | more


def write_run(values, records, error=None):
    """Write a notebook that published ``records``, and its outcome as a run writes it."""
    plan = Plan(NOTEBOOK, "quick", values, {})
    outputs = []
    for record in records:
        data = {"text/plain": "x"}
        if record["kind"] == "figure":
            data["image/png"] = picture(record["colour"])
        outputs.append(v4.new_output("display_data", data, metadata={"mflib": record}))
    if error:
        traceback = ["\x1b[31mthe line\x1b[0m", error]
        outputs.append(v4.new_output("error", ename="E", evalue="e", traceback=traceback))
    notebook = v4.new_notebook(cells=[v4.new_code_cell("", outputs=outputs, execution_count=1)])
    file = runs.folder(NOTEBOOK) / f"{plan.point()}{'.failed' * bool(error)}.ipynb"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(writes(notebook))
    runs._write_outcome(plan, file, error=error, seconds=1.5)
    return file


def sweep(grid, show=None, constant=None):
    """Return the manifest of all combinations of a grid's values."""
    combinations = [dict(zip(grid, v, strict=True)) for v in itertools.product(*grid.values())]
    plans = [Plan(NOTEBOOK, "quick", {**c, **(constant or {})}, {}) for c in combinations]
    points = [{"digest": plan.point(), "values": plan.values} for plan in plans]
    return {
        "notebook": NOTEBOOK,
        "profile": "quick",
        "varied": list(grid),
        "points": points,
        "show": show,
    }


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Return the folder of runs of a project of this test alone."""
    monkeypatch.setenv("MFLIB_ROOT", str(tmp_path))
    monkeypatch.setenv("MFLIB_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def finish(manifest, place):
    folder = place / NOTEBOOK / "sweeps" / "one"
    folder.mkdir(parents=True, exist_ok=True)
    return tables.finish(manifest, folder, place), folder


def values_of(manifest):
    return [point["values"] for point in manifest["points"]]


# --- the table ------------------------------------------------------------------------------------


def test_every_point_has_its_row_and_only_sound_records_count(place):
    manifest = sweep({"width": [10, 20], "device": ["cpu", "auto"]}, constant={"sizes": [1, 2]})
    finished, failed, damaged, _ = values_of(manifest)
    write_run(
        finished,
        [
            claim("mft-a", 0.1, "partly"),
            claim("mft-a", 0.3),
            claim("mft-b", "0.2 ± 0.1", "not reproduced"),
            claim("mft-1", 7, "paper erratum", kind="erratum"),
            shown(),
        ],
    )
    write_run(failed, [claim("mft-a", 2)], error="RuntimeError: no\nfixed point")
    spoilt = write_run(damaged, [claim("mft-a", 5.0)])
    spoilt.write_bytes(spoilt.read_bytes().replace(b"It holds", b"It helds", 1))
    frame, folder = finish(manifest, place)

    assert list(frame.columns[:5]) == ["point", "width", "parameter device", "outcome", "error"]
    assert list(frame["point"]) == [point["digest"] for point in manifest["points"]]
    assert list(frame["outcome"]) == ["finished", "failed", "not finished", "not finished"]
    assert frame["error"][1] == "RuntimeError: no\nfixed point"
    assert f"{manifest['points'][2]['digest']}.json or the notebook" in frame["error"][2]
    assert pd.isna(frame["error"][0])
    assert pd.isna(frame["error"][3])
    counts = frame[list(tables.COUNTS)]
    assert counts.iloc[0].tolist() == [1, 0, 1, 1, 0]
    assert counts.iloc[1].tolist() == [1, 0, 0, 0, 0]
    assert counts.iloc[2:].isna().all(axis=None)
    assert frame["ours mft-a"].tolist()[:2] == [0.3, 2.0]
    assert frame["ours mft-a"].dtype == "float64"
    assert frame["ours mft-1"].dtype == "Int64"
    assert frame["ours mft-b"][0] == "0.2 ± 0.1"
    assert frame["verdict mft-b"][0] == "not reproduced"
    assert frame["sizes"].tolist() == [[1, 2]] * 4
    assert (folder / frame["notebook"][1]).resolve().name.endswith(".failed.ipynb")
    assert (folder / frame["notebook"][0]).is_file()
    index = (folder / "index.html").read_text()
    assert "damaged: the point will be run again" in index
    assert "the line" in (folder / f"points/{manifest['points'][1]['digest']}.html").read_text()


def test_the_same_records_give_the_same_files_and_pages_are_not_written_twice(place):
    manifest = sweep({"width": [10, 20, 30], "seed": [0, 1]})
    for number, values in enumerate(values_of(manifest)):
        write_run(values, [claim("mft-a", number / 3), shown()])
    _, folder = finish(manifest, place)
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    assert {f.name for f in before} >= {"table.parquet", "table.csv", "index.html", "figure.png"}
    page = folder / "points" / f"{manifest['points'][0]['digest']}.html"
    written = page.stat().st_mtime_ns
    (folder / "points" / "0123456789abcdef.html").write_text("of a point no longer in the sweep")
    finish(manifest, place)
    assert {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()} == before
    assert page.stat().st_mtime_ns == written
    write_run(values_of(manifest)[0], [claim("mft-a", 99.5), shown()])
    finish(manifest, place)
    assert "99.5" in page.read_text()


TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
KINDS = st.sampled_from(
    [
        st.integers(-(2**63), 2**63 - 1),
        st.integers(2**63, 2**80),
        st.floats(allow_nan=False),
        st.booleans(),
        TEXTS,
        st.lists(st.floats(allow_nan=False), min_size=1, max_size=3),
        st.lists(TEXTS, min_size=1, max_size=3),
        st.lists(st.integers(), min_size=1, max_size=3),
    ]
)


@settings(deadline=None, max_examples=60)
@given(KINDS.flatmap(lambda kind: st.lists(st.none() | kind, min_size=1, max_size=4)))
def test_parameter_values_survive_both_files(values):
    points = [{"digest": str(n), "values": {"p": value}} for n, value in enumerate(values)]
    manifest = {"notebook": NOTEBOOK, "varied": ["p"], "points": points}
    frame = tables.table(manifest, [None] * len(values), Path("a"), Path("b"))
    kind = frame["p"].dtype
    stored = pa.parquet.read_table(io.BytesIO(tables.as_parquet(frame)))["p"].to_pylist()
    in_csv = pyarrow.csv.read_csv(
        io.BytesIO(tables.as_csv(frame)),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types={"p": pa.string()},
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
        ),
    )["p"].to_pylist()
    is_text = all(value is None or isinstance(value, str) for value in values)
    if kind == "string" and not is_text:  # whole numbers too large for a column
        stored = [value and json.loads(value) for value in stored]
    if not is_text:
        read = {"boolean": {"True": True, "False": False}.get, "float64": float}
        in_csv = [
            None if value is None else read.get(str(kind), json.loads)(value) for value in in_csv
        ]
    for found in (stored, in_csv):
        assert found == values
        assert list(map(type, found)) == list(map(type, values))
        assert repr(found) == repr(values)  # -0.0 is not 0.0


# --- the pages ------------------------------------------------------------------------------------

HOSTILE = "</td><script>alert(1)</script><img src=x onerror=alert(1)> \" ' & ${7*7} {{ 7*7 }}"


class Page(html.parser.HTMLParser):
    """What a page would load or run, and its text."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.loads: list[str] = []
        self.handlers: list[str] = []
        self.words: list[str] = []
        self.script = False
        self.feed(content)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.script = tag in ("script", "style")
        for name, value in attributes:
            if name.startswith("on") or (value or "").strip().lower().startswith("javascript:"):
                self.handlers.append(f"{tag} {name}={value}")
            if name in ("src", "href", "srcset", "data", "action"):
                self.loads.append(value or "")
        if tag in ("iframe", "object", "embed", "base", "form", "link"):
            self.handlers.append(tag)

    def handle_endtag(self, tag):
        self.script = False

    def handle_data(self, data):
        (self.scripts if self.script else self.words).append(data)


def test_texts_of_parameters_and_notebooks_stay_text(place):
    manifest = sweep({"name": [HOSTILE, "b"], "width": [1]}, constant={"note": HOSTILE})
    good, bad = values_of(manifest)
    caption = f"{HOSTILE} [a](javascript:alert(1)) ![b](https://c.example/d.png) $x<y {HOSTILE}$"
    write_run(
        good,
        [
            claim("mft-a", HOSTILE, statement=HOSTILE, paper=HOSTILE),
            shown(caption=caption, alt=HOSTILE),
        ],
    )
    write_run(bad, [claim("mft-a", "fine")], error=HOSTILE)
    finish({**manifest, "show": HOSTILE, "command": HOSTILE}, place)
    own = {script.strip() for script in (pages.templates.SORT, pages.templates.STYLE)}
    own |= {pages.templates.MATH.strip()}
    files = list((place / NOTEBOOK / "sweeps").rglob("*.html"))
    assert len(files) == 3
    for file in files:
        page = Page(file.read_text())
        assert {script.strip() for script in page.scripts} <= own
        assert page.handlers == []
        assert [u for u in page.loads if u.startswith(("http", "//", "x", "javascript"))] == []
        assert HOSTILE in "".join(page.words)
        assert "49" not in "".join(page.words).replace(file.stem, "")


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        (r"At $\sigma_w^2 = 1.76$.", "At σ_w² = 1.76."),
        (r"$\frac{1}{2}\times10^{-3}$ of *all* `code`", "(1)/(2)×10⁻³ of all code"),
        ("see {numref}`fc-maps` and [there](https://a.example)", "see fc-maps and there"),
        (r"$\mathrm{var}\,\lambda \le \Phi$", "var λ ≤ Φ"),
    ],
)
def test_captions_read_well_without_mathjax(markdown, expected):
    words = "".join(Page(pages.caption(markdown)).words)
    assert words.strip() == expected


def test_the_command_is_that_of_the_grid(place):
    (place.parent / "notebooks" / "profiles").mkdir(parents=True)
    (place.parent / "notebooks" / f"{NOTEBOOK}.py").write_text(
        '# %% [markdown]\n# # Title\n\n# %% tags=["parameters"]\n'
        "width: int = 1  # width [1, 99]\nsizes: list[int] = [1]  # sizes, each [1, 9]\n"
        "depth: int = 3  # depth [1, 99]\n"
    )
    (place.parent / "notebooks/profiles/quick.yaml").write_text(f"{NOTEBOOK}:\n  depth: 5\n")
    manifest = sweep({"width": [1, 2], "sizes": [[1], [2, 3]]}, constant={"depth": 4})
    expected = f"mflib sweep {NOTEBOOK} --profile quick -p depth=4 --grid width=1,2 --grid"
    assert pages.command(manifest) == f"{expected} 'sizes=1;2,3'"
    shown_too = pages.command({**manifest, "show": "mft-a"})
    assert shown_too == f"{expected} 'sizes=1;2,3' --show mft-a"
    manifest["points"].pop()
    assert pages.command(manifest) == ""


# --- the figure -----------------------------------------------------------------------------------


def draw(manifest, place, show=None):
    return figure.draw(manifest, tables.read(manifest, place), place, show)


def test_a_number_is_averaged_over_seeds_which_are_no_axis(place):
    manifest = sweep({"seed": [0, 1, 2, 3], "gain": [0.01, 0.1, 1.0], "kind": ["a", "b"]})
    for v in values_of(manifest):
        if (v["gain"], v["kind"], v["seed"]) != (1.0, "b", 3):
            value = v["gain"] * (10 if v["kind"] == "a" else 20) + v["seed"]
            write_run(v, [claim("mft-same", 1.0), claim("mft-a", value, paper=3.5, tolerance=1.0)])
    drawn = draw(manifest, place)
    assert drawn.id == "mft-a"  # the first number that is not the same everywhere
    assert "over gain, by kind" in drawn.caption
    assert "n = 3 to 4" in drawn.caption
    assert "Of 24 points 23 are drawn; 1 not finished." in drawn.caption
    assert "6 values, from 1.6 at gain = 0.01 and kind = a to 21 at gain = 1 and kind = b" in (
        drawn.alt
    )
    assert "The paper has 3.5." in drawn.alt
    assert Image.open(io.BytesIO(drawn.png)).width <= figure.WIDEST * 160


def test_error_bars_are_standard_errors_and_a_missing_place_breaks_the_line():
    axes = Figure().subplots()
    layout = figure.Layout(figure.Axis("gain", (1, 2, 4)), None, ())
    figure._lines(axes, layout, {(0, 0): [1.0, 2.0, 3.0], (0, 1): [], (0, 2): [5.0]})
    line, _, (bars,) = axes.containers[0].lines
    assert line.get_xdata().tolist() == [1, 2, 4]
    np.testing.assert_array_equal(np.asarray(line.get_ydata(), float), [2, np.nan, 5])
    low, high = bars.get_segments()[0][:, 1]
    assert (high - low) / 2 == pytest.approx(1 / math.sqrt(3))


def test_words_become_a_map_of_verdicts(place):
    manifest = sweep({"gain": [1, 2, 3], "kind": ["a", "b"]})
    for v in values_of(manifest):
        verdict = "reproduced" if v["gain"] < 3 else "partly"
        write_run(v, [claim("mft-w", "words", verdict), claim("mft-c", 1.0)])
    drawn = draw(manifest, place)
    assert drawn.id is None
    assert "the same in all runs: mft-c" in drawn.caption
    assert drawn.alt == "verdicts of 6 runs: 10 times reproduced, 2 times partly."
    one = draw(manifest, place, "mft-w")
    assert one.alt == (
        "mft-w over gain and kind: verdicts of 6 runs: 4 times reproduced, 2 times partly."
    )


def test_pictures_are_laid_out_by_their_parameters(place):
    colours = {(1, "a"): "red", (2, "a"): "lime", (1, "b"): "blue", (2, "b"): "black"}
    manifest = sweep({"seed": [1, 0], "gain": [1, 2], "kind": ["a", "b"]})
    for v in values_of(manifest):
        colour = colours[v["gain"], v["kind"]] if v["seed"] == 0 else "white"
        write_run(v, [shown(colour=colour)])
    drawn = draw(manifest, place)  # without claims the first figure
    assert drawn.id == "fc-line"
    sheet = Image.open(io.BytesIO(drawn.png)).convert("RGB")
    assert sheet.width <= figure.WIDEST * 160
    found = {
        place: sheet.getpixel((round(x * sheet.width), round(y * sheet.height)))
        for place, x, y in [
            ((1, "a"), 0.25, 0.3),
            ((2, "a"), 0.75, 0.3),
            ((1, "b"), 0.25, 0.8),
            ((2, "b"), 0.75, 0.8),
        ]
    }
    wanted = {k: Image.new("RGB", (1, 1), c).getpixel((0, 0)) for k, c in colours.items()}
    assert found == wanted


def test_a_result_that_is_not_there_is_named_and_stops_nothing(place):
    manifest = sweep({"gain": [1, 2]}, show="mft-axx")
    for v in values_of(manifest):
        write_run(v, [claim("mft-axis", float(v["gain"])), shown()])
    with pytest.raises(ValueError, match=r"did you mean 'mft-axis'.*figures fc-line"):
        draw(manifest, place, "mft-axx")
    frame, folder = finish(manifest, place)
    assert "did you mean 'mft-axis'" in frame.attrs["notice"]
    assert frame.attrs["notice"].endswith("Another result is shown.")
    assert html.unescape((folder / "index.html").read_text()).count(frame.attrs["notice"]) == 1
    assert finish({**manifest, "show": "mft-axis"}, place)[0].attrs["notice"] == ""
    assert (folder / "figure.png").is_file()
    with pytest.raises(ValueError, match="no result 'fc-lime' to show"):
        figure.check_show("fc-lime", NOTEBOOK, place)
    figure.check_show("fc-line", NOTEBOOK, place)
    figure.check_show("fc-lime", "never-run", place)  # nothing is known of it yet


def test_nothing_finished_is_a_page_without_a_figure(place):
    manifest = sweep({"gain": [1, 2]})
    frame, folder = finish(manifest, place)
    assert frame["outcome"].tolist() == ["not finished"] * 2
    assert not (folder / "figure.png").exists()
    assert "No run has a result to be shown yet." in (folder / "index.html").read_text()


@pytest.mark.parametrize("shape", ["inf", "panels", "words", "alone", "many"])
def test_any_shape_of_a_sweep_can_be_drawn(place, shape):
    grid = {
        "inf": {"limit": [None, 1.0, math.inf], "seed": [0, 1]},
        "panels": {"a": [1, 2, 3], "b": ["x", "y"], "c": [0.1, 0.2], "d": [True, False]},
        "words": {"name": ["$x$ 中文 \n\t\\frac", "b" * 80], "list": [[1, 2], [3]]},
        "alone": {"seed": [0, 1, 2]},
        "many": {"a": [1, 2, 3], "b": list("abcdefghijklmnopqrstuvwxyz")},
    }[shape]
    manifest = sweep(grid)
    for n, v in enumerate(values_of(manifest)):
        ours = math.inf if n == 1 else float(n)
        write_run(v, [claim("mft-n", ours), claim("mft-w", "w", "partly"), shown()])
    for show in (None, "mft-w", "fc-line"):
        drawn = draw(manifest, place, show)
        width, height = Image.open(io.BytesIO(drawn.png)).size
        assert 300 < width <= figure.WIDEST * 160
        assert height < 8000
        assert any(sign.isdigit() for sign in drawn.alt)
        if show is None:
            assert drawn.id == "mft-n"
            assert "1 infinite number cannot be drawn." in drawn.caption


def strewn(count, parameters=8):
    """Return the manifest and the records of a random search; made in memory, to be quick."""
    rng = random.Random(0)
    names = [*(f"p{k}" for k in range(parameters - 1)), "kind", "seed"]
    draws = [
        [*(rng.random() for _ in names[:-2]), rng.choice("abc"), rng.randrange(10**6)]
        for _ in range(count)
    ]
    points = [
        {"digest": f"{n:016x}", "values": dict(zip(names, d, strict=True))}
        for n, d in enumerate(draws)
    ]
    outcomes = []
    for point in points:
        told = point["values"].get("p2", 0)
        verdict = "reproduced" if told > 0.5 else "not reproduced"
        # Noise on a curve that no correlation would see.
        ours = (told - 0.5) ** 2 + 0.01 * rng.random()
        records = [claim("mft-n", ours, paper=0.1), claim("mft-w", "words", verdict), shown()]
        outcome = {"outcome": "finished", "parameters": point["values"], "file": "none.ipynb"}
        outcomes.append({**outcome, "records": records})
    return {"notebook": NOTEBOOK, "varied": names, "points": points}, outcomes


@pytest.mark.parametrize("show", ["mft-n", "mft-w", "fc-line"])
def test_a_random_search_is_drawn_in_seconds_as_a_point_for_each_run(place, show):
    manifest, outcomes = strewn(10_000)
    start = time.process_time()
    drawn = figure.draw(manifest, outcomes, place, show)
    assert time.process_time() - start < 20  # it had no end, or took minutes
    assert len(drawn.png) < 1_500_000
    assert Image.open(io.BytesIO(drawn.png)).height < 8000
    if show == "mft-n":
        assert drawn.alt.startswith("mft-n over p2, p")
        assert ": 10000 runs, from " in drawn.alt
    if show == "mft-w":
        assert drawn.alt.startswith("mft-w over p2 and p")
        assert "verdicts of 10000 runs" in drawn.alt


def test_points_of_a_random_search_stand_at_their_values(monkeypatch, place):
    manifest, outcomes = strewn(20, parameters=3)
    panels = []
    monkeypatch.setattr(figure, "_png", lambda fig: panels.append(fig.axes) or b"")
    figure.draw(manifest, outcomes, place, "mft-n")
    assert {ax.get_xlabel() for ax in panels[0][:3]} == {"p0", "p1", "kind"}
    numeric = [ax for ax in panels[0] if ax.get_xlabel() in ("p0", "p1")]
    for ax in numeric:
        points = ax.lines[-1]
        expected = [
            (p["values"][ax.get_xlabel()], o["records"][0]["ours"])
            for p, o in zip(manifest["points"], outcomes, strict=True)
        ]
        np.testing.assert_array_equal(points.get_xydata(), expected)


def test_a_map_of_many_levels_leaves_some_out_and_says_so(place):
    levels = [k / 7 for k in range(90)]
    manifest = {"notebook": NOTEBOOK, "varied": ["a", "b"], "points": []}
    outcomes = []
    for n, (a, b) in enumerate(itertools.product(levels, levels)):
        manifest["points"].append({"digest": str(n), "values": {"a": a, "b": b}})
        record = claim("mft-w", "words", "partly" if a > b else "reproduced")
        outcomes.append({"outcome": "finished", "records": [record], "file": "none.ipynb"})
    start = time.process_time()
    drawn = figure.draw(manifest, outcomes, place, "mft-w")
    assert time.process_time() - start < 20
    assert "Of the 90 values of a one in 2 is drawn." in drawn.caption
    assert "Of the 90 values of b one in 3 is drawn." in drawn.caption
    assert drawn.alt.endswith("4095 times reproduced, 4005 times partly.")
    assert Image.open(io.BytesIO(drawn.png)).height < 8000


@pytest.mark.parametrize("ours", [1.7e308, 10**400], ids=["float", "integer"])
def test_numbers_too_large_to_draw_are_counted(place, ours):
    manifest = sweep({"gain": [1, 2, 3]})
    for v, number in zip(values_of(manifest), [ours, -ours, 0.5], strict=True):
        write_run(v, [claim("mft-a", number)])
    frame, folder = finish(manifest, place)
    assert frame.attrs["notice"] == ""
    assert "2 numbers beyond ±1e+150 cannot be drawn." in (folder / "index.html").read_text()
    stored = pd.read_parquet(folder / "table.parquet")["ours mft-a"].tolist()
    assert [json.loads(v) if isinstance(v, str) else v for v in stored] == [ours, -ours, 0.5]


def test_a_figure_that_cannot_be_drawn_stops_nothing(place, monkeypatch):
    manifest = sweep({"gain": [1, 2]})
    for v in values_of(manifest):
        write_run(v, [claim("mft-a", float(v["gain"]))])
    finish(manifest, place)

    def fail(*_):
        raise np.linalg.LinAlgError("Singular matrix")

    monkeypatch.setattr(figure, "_png", fail)
    for show in (None, "mft-b"):
        frame, folder = finish({**manifest, "show": show}, place)
        assert frame.attrs["notice"].endswith(
            "The figure could not be drawn: LinAlgError: Singular matrix."
        )
        assert ("no result 'mft-b' to show" in frame.attrs["notice"]) is bool(show)
        index = html.unescape((folder / "index.html").read_text())
        assert all(part in index for part in frame.attrs["notice"].split(". "))
        assert "No run has a result" not in index
        assert not (folder / "figure.png").exists()


def test_a_name_that_is_no_text_and_an_unknown_device_stop_nothing(place, monkeypatch):
    odd, escaped = "caf\udce9.yaml", r"caf\udce9.yaml"
    manifest = sweep({"gain": [1, 2]})
    records = [
        claim(f"mft-{odd}", odd, statement=odd),
        shown(caption=f"{odd} [a](https://a.example/{odd})", alt=odd),
    ]
    outcomes = []
    for v in values_of(manifest):
        file = write_run(v, [shown()])
        point = {"outcome": "finished", "error": None, "device": None, "file": file.name}
        values = {"gain": v["gain"], "name": odd, "names": [odd]}
        outcomes.append({**point, "seconds": 1.0, "parameters": values, "records": records})
    monkeypatch.setattr(tables, "read", lambda *_: outcomes)
    frame, folder = finish({**manifest, "command": f"mflib sweep {odd}", "show": odd}, place)
    assert f"mflib sweep {escaped}" in (folder / "index.html").read_text()
    stored = pd.read_parquet(folder / "table.parquet")
    assert stored["name"].tolist() == [escaped] * 2
    assert stored[f"ours mft-{escaped}"].tolist() == [escaped] * 2
    assert stored["names"][0].tolist() == [escaped]
    assert stored["device"].isna().all()
    assert escaped in (folder / "table.csv").read_text()
    assert escaped in (folder / f"points/{manifest['points'][0]['digest']}.html").read_text()
    assert frame.attrs["notice"].encode()
    assert (folder / "figure.png").is_file()


@pytest.mark.parametrize(
    ("values", "log"),
    [
        ([0.01, 0.1, 1], True),
        ([1, 10], False),
        ([0, 0.01, 0.1, 1], False),
        ([1, 20, 40], False),
        (list(np.linspace(1, 100, 8)), False),
        (list(np.logspace(0, 2, 8)), True),
        ([], False),
    ],
)
def test_an_axis_is_logarithmic_where_the_values_are(values, log):
    assert figure._is_log(values) is log


# --- in a browser ---------------------------------------------------------------------------------


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_open_from_disk_sort_and_are_accessible(place, chromium, scheme):
    manifest = sweep({"gain": [10.0, 9.0, 100.0], "kind": ["a"]})
    for v in values_of(manifest)[:2]:
        caption = r"$\sigma_w^2$, $\boldsymbol{x}$, $\href{https://a.example}{y}$, $\text{\(}$"
        write_run(v, [claim("mft-a", v["gain"], "partly"), shown(caption=caption)])
    write_run(values_of(manifest)[2], [shown()], error="RuntimeError: no")
    _, folder = finish(manifest, place)
    context = chromium.new_context(viewport={"width": 400, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda m: complaints.append(m.text))
    page.on("pageerror", lambda e: complaints.append(str(e)))
    page.on("requestfailed", lambda r: complaints.append(r.url))
    page.on("request", lambda r: r.url.startswith(("file:", "data:")) or complaints.append(r.url))
    page.goto((folder / "index.html").as_uri())
    assert grave_findings(page) == []
    gains = (
        "() => [...document.querySelectorAll('tbody tr')].map(r => r.cells[1].textContent.trim())"
    )
    assert page.evaluate(gains) == ["10.0", "9.0", "100.0"]
    page.get_by_role("button", name="gain").click()
    assert page.evaluate(gains) == ["9.0", "10.0", "100.0"]
    assert page.locator("th[aria-sort=ascending]").inner_text().strip() == "gain"
    page.get_by_role("button", name="mft-a").click()
    page.get_by_role("button", name="mft-a").click()
    assert page.evaluate(gains) == ["10.0", "9.0", "100.0"]  # what has no value comes last
    for digest in (manifest["points"][0]["digest"], manifest["points"][2]["digest"]):
        page.goto((folder / "points" / f"{digest}.html").as_uri())
        page.wait_for_selector("mjx-container svg", state="attached")
        assert page.locator("mjx-container svg").count() == page.locator("[data-tex]").count()
        assert grave_findings(page) == []
        assert page.locator("figcaption a").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") == 400
    context.close()
    assert complaints == []
