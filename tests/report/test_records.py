"""Figures and verdicts: what is published, and what is refused."""

from __future__ import annotations

import json
import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import plotly.graph_objects
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mflib import recorded, report
from mflib.report import claims, figures, provenance


@pytest.fixture
def published(monkeypatch):
    """Collect what a notebook would show, inside a begun notebook."""
    shown = []

    def display(data, metadata=None, raw=False):
        assert raw
        shown.append((data, metadata))

    monkeypatch.setattr("IPython.display.display", display)
    report.begin("test-chapter", seed=3, device="cpu", scale="quick")
    yield shown
    monkeypatch.setattr(provenance, "_current", None)


def a_figure():
    fig, ax = plt.subplots()
    ax.plot([0, 1], [0, 1])
    return fig


def test_nothing_is_recorded_before_the_notebook_begins(monkeypatch):
    monkeypatch.setattr(provenance, "_current", None)
    with pytest.raises(RuntimeError, match=r"report\.begin"):
        provenance.collect()


def test_a_result_names_the_command_that_its_process_was_told(published, monkeypatch):
    monkeypatch.delenv("MFLIB_RUN", raising=False)
    assert provenance.collect()["command"] == "mflib run test-chapter"
    told = "mflib run test-chapter --profile paper -p activation=erf"
    monkeypatch.setenv("MFLIB_RUN", told)
    assert provenance.collect()["command"] == told
    assert provenance.line(provenance.collect()).endswith(f"recompute: {told}")


def test_figure_carries_picture_caption_alt_and_provenance(published):
    report.figure(a_figure(), "fc-line", caption="A  line\nof $x$.", alt="Rises from 0 to 1.")
    (picture, about), (caption, kind) = published
    assert picture["image/png"].startswith(b"\x89PNG")
    record = about["mflib"]
    assert (record["kind"], record["id"], record["caption"]) == (
        "figure",
        "fc-line",
        "A line of $x$.",
    )
    assert record["provenance"]["seed"] == 3
    assert record["provenance"]["scale"] == "quick"
    assert record["provenance"]["seconds"] >= 0
    assert {"python", "numpy", "scipy"} <= record["provenance"]["versions"].keys()
    assert kind["mflib"] == {"kind": "figure-caption", "id": "fc-line"}
    assert "mflib run test-chapter" in caption["text/markdown"]
    assert plt.get_fignums() == []


def test_a_figure_of_a_recorded_table_says_where_the_table_came_from(
    published, tmp_path, monkeypatch
):
    monkeypatch.setenv("MFLIB_RESULTS", str(tmp_path))
    command = "python tools/record_one.py"
    recorded.write(tmp_path / "one.csv", b"a\n1\n", command=command, code="c", seconds=12.34)
    origin = recorded.origin("one.csv")
    report.figure(a_figure(), "fc-line", caption="A line.", alt="From 0 to 1.", origin=origin)
    line = provenance.line(published[0][1]["mflib"]["provenance"])
    assert line.startswith(
        f"recorded scale · {origin['device']}, {origin['computed'][:10]} · 12.3 s"
    )
    assert "seed" not in line
    assert line.endswith(f"recompute: {command}")
    (tmp_path / "one.json").write_text("{}")
    with pytest.raises(recorded.Damaged, match="not as it was written"):
        recorded.origin("one.csv")


def test_an_interactive_figure_is_shown_beside_its_picture(published):
    moving = plotly.graph_objects.Figure({"data": [{"type": "scatter", "y": np.arange(3.0)}]})
    report.figure(a_figure(), "fc-line", caption="A line.", alt="0 to 1", interactive=moving)
    shown = published[0][0]
    assert shown["image/png"].startswith(b"\x89PNG")
    assert shown[figures.INTERACTIVE]["data"][0]["type"] == "scatter"
    json.dumps(shown[figures.INTERACTIVE])


def test_the_same_figure_gives_the_same_bytes(published):
    for _ in range(2):
        report.figure(a_figure(), "fc-line", caption="A line.", alt="0 to 1")
    assert published[0][0]["image/png"] == published[2][0]["image/png"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"identifier": "Fc_line"}, "lower-case"),
        ({"caption": "  "}, "no caption"),
        ({"alt": "a rising line"}, "no number"),
    ],
)
def test_a_figure_that_does_not_say_what_it_is_is_refused(published, change, message):
    good = {"identifier": "fc-line", "caption": "A line.", "alt": "0 to 1"}
    arguments = good | change
    with pytest.raises(ValueError, match=message):
        report.figure(a_figure(), arguments.pop("identifier"), **arguments)
    assert published == []
    plt.close("all")


@pytest.mark.parametrize(
    ("paper", "ours", "tolerance", "verdict"),
    [
        (1.76, 1.7625, 0.005, claims.REPRODUCED),
        (1.76, 1.755, 0.006, claims.REPRODUCED),
        (2.0, 3.0, 1.0, claims.REPRODUCED),  # the end of the tolerance belongs to it
        (1.76, 1.77, 0.005, claims.NOT_REPRODUCED),
        (1.76, -1.76, 0.005, claims.NOT_REPRODUCED),
        (1.0, 1.0, 0.0, claims.REPRODUCED),
    ],
)
def test_numbers_decide_the_verdict(published, paper, ours, tolerance, verdict):
    report.claim("mft-x", statement="s", paper=paper, ours=ours, tolerance=tolerance)
    ((_, about),) = published
    assert about["mflib"]["verdict"] == verdict
    assert about["mflib"]["checks"] == {"within tolerance": verdict == claims.REPRODUCED}


def test_numbers_and_checks_decide_together(published):
    numbers = {"statement": "s", "paper": 1.0, "ours": 1.1, "tolerance": 0.2}
    report.claim("mft-x", **numbers, checks={"slope": False})
    assert published[0][1]["mflib"]["verdict"] == claims.PARTLY


@given(st.dictionaries(st.text(min_size=1), st.booleans(), min_size=1))
def test_checks_decide_the_verdict(checks):
    held = set(checks.values())
    expected = {True: claims.REPRODUCED, False: claims.NOT_REPRODUCED}
    assert claims.verdict(checks) == (claims.PARTLY if len(held) == 2 else expected[held.pop()])


def test_a_record_at_the_end_of_a_cell_prints_nothing_more(published):
    assert report.claim("mft-x", statement="s", ours="w", checks={"a": True}) is None
    assert report.erratum("mft-1", statement="s", ours=1.0, shown=True) is None
    assert len(published) == 2


def test_claims_that_nothing_decides_are_refused(published):
    with pytest.raises(ValueError, match="nothing to decide"):
        report.claim("mft-x", statement="s", ours="words")
    with pytest.raises(ValueError, match="tolerance"):
        report.claim("mft-x", statement="s", ours=1.0, paper=1.0)
    with pytest.raises(ValueError, match="NaN"):
        report.claim("mft-x", statement="s", ours=math.nan, paper=1.0, tolerance=1.0)
    with pytest.raises(ValueError, match="register id"):
        report.claim("Figure 1", statement="s", ours="w", checks={"a": True})
    assert published == []


def test_an_erratum_is_one_only_when_shown(published):
    for shown in (True, False):
        report.erratum("mft-1", statement="s", ours=1.0, shown=shown)
    record, other = (about["mflib"] for _, about in published)
    assert (record["verdict"], other["verdict"]) == ("paper erratum", "not confirmed")
    assert record["kind"] == "erratum"
    assert record["provenance"]["scale"] == "exact"


def test_text_in_a_record_cannot_become_markup(published):
    report.claim("mft-x", statement="<b>a & b</b>", ours="<i>", checks={"c": True})
    assert "<b>a" not in published[0][0]["text/html"]


def test_accuracy_map_keeps_its_axes_when_a_curve_leaves_them():
    fig, ax = plt.subplots()
    s, d = np.array([1.0, 2.0, 3.0]), np.array([5.0, 10.0])
    mesh = figures.accuracy_map(
        ax, s, d, np.full((2, 3), 0.5), chance=0.1, curves={"ξ": (s, np.array([1.0, 1e9, 3.0]))}
    )
    assert ax.get_ylim()[1] < 20
    assert mesh.get_clim() == (0.1, 1.0)
    plt.close(fig)


def test_learning_curves_are_means_over_networks_with_a_band_for_training():
    train = pd.DataFrame({0: [0.1, 0.5], 1: [0.3, 0.9]}, index=[0, 10])
    races = {
        "a": {"train_accuracy": train, "test_accuracy": train / 2},
        "b": {"train_accuracy": train[[0]], "test_accuracy": train[[1]]},
    }
    fig, axis = plt.subplots()
    figures.learning_curves(
        axis, races, labels={"a": "one", "b": "two"}, colours={"a": "C0", "b": "C1"}
    )
    drawn = {line.get_label(): line for line in axis.get_lines()}
    assert list(drawn) == ["one, training", "one, test", "two, training", "two, test"]
    assert drawn["one, training"].get_xdata().tolist() == [0, 10]
    np.testing.assert_allclose(drawn["one, training"].get_ydata(), [0.2, 0.7])
    np.testing.assert_allclose(drawn["one, test"].get_ydata(), [0.1, 0.35])
    (band,) = axis.collections  # of one network there is no spread
    spread = np.array([0.2, 0.4]) / np.sqrt(2)
    edges = band.get_paths()[0].vertices[:, 1]
    assert edges.min() == pytest.approx(0.2 - spread[0])
    assert edges.max() == pytest.approx(0.7 + spread[1])
    plt.close(fig)
