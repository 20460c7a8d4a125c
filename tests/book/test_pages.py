"""Staging: what becomes of executed notebooks, and what is refused."""

from __future__ import annotations

import base64
import html
import json
import re

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from nbformat import v4

from mflib import recorded, results, sources
from mflib.report import claims, figures, pages

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
SOURCE = {
    "notebook": "one",
    "scale": "quick",
    "device": "CPU",
    "seed": 0,
    "commit": "abc",
    "versions": {"python": "3"},
    "seconds": 1.0,
    "command": "mflib run one",
}


def display(record, **data):
    return v4.new_output("display_data", data=data, metadata={"mflib": record})


def a_figure(identifier="one-fig"):
    record = {
        "kind": "figure",
        "id": identifier,
        "caption": "A line, $x$.",
        "alt": 'From 0 to "1".',
        "width": "100%",
        "provenance": SOURCE,
    }
    return display(record, **{"image/png": PNG})


def a_claim(identifier="mft-x", verdict=claims.PARTLY, kind="claim"):
    record = {
        "kind": kind,
        "id": identifier,
        "statement": "It holds.",
        "paper": 1.0,
        "ours": 1.25,
        "tolerance": None,
        "checks": {"first": True, "second": False},
        "source": "§1",
        "note": "A note.",
        "verdict": verdict,
        "provenance": SOURCE,
    }
    return display(record, **{"text/html": "<p>partly</p>"})


def code(source, *outputs, tags=()):
    cell = v4.new_code_cell(source, outputs=list(outputs), metadata={"tags": list(tags)})
    cell.execution_count = 1
    return cell


def notebook(*cells):
    return v4.new_notebook(cells=[v4.new_markdown_cell("# Title\n\nText."), *cells])


def test_a_figure_becomes_a_directive_with_name_alt_and_provenance():
    chapter = pages.chapter("one", notebook(code("draw()", a_figure())))
    assert chapter.pictures == {"one-fig": base64.b64decode(PNG)}
    text = chapter.notebook.cells[-1].source
    assert ":name: one-fig" in text
    assert json.dumps('From 0 to "1".') in text
    assert "seed 0" in text
    assert "recompute: `mflib run one`" in text
    assert not any(c.get("outputs") for c in chapter.notebook.cells)


def test_an_interactive_figure_keeps_its_picture_and_brings_its_data():
    shown = a_figure()
    shown.data[figures.INTERACTIVE] = {"data": [{"name": "</script><b>"}], "layout": {}}
    chapter = pages.chapter("one", notebook(code("draw()", shown)))
    still, moving = (c.source for c in chapter.notebook.cells[-2:])
    assert ":name: one-fig" in still
    assert moving.count("</script>") == 1
    assert 'data-figure="one-fig"' in moving
    data = moving[moving.index("{", moving.index("data-figure")) : moving.rindex("</script>")]
    assert json.loads(data) == shown.data[figures.INTERACTIVE]


def test_a_claim_becomes_a_verdict_in_words_with_its_conditions():
    chapter = pages.chapter("one", notebook(code("check()", a_claim())))
    text = chapter.notebook.cells[-1].source
    assert "◐ Partly" in text
    assert "✓ first; ✗ second" in text
    assert text.startswith("(claim-mft-x)=")
    assert [r["id"] for r in chapter.records] == ["mft-x"]


def test_records_and_ordinary_outputs_keep_their_order():
    stream = v4.new_output("stream", name="stdout", text="hello")
    chapter = pages.chapter("one", notebook(code("f()", stream, a_claim(), stream)))
    kinds = [c.cell_type for c in chapter.notebook.cells[1:]]
    assert kinds == ["code", "markdown", "code"]
    assert [len(c.outputs) for c in chapter.notebook.cells if c.cell_type == "code"] == [1, 1]
    assert "remove-input" in chapter.notebook.cells[-1].metadata.tags
    assert all(c.source.strip() for c in chapter.notebook.cells)  # else they are not rendered


def test_injected_values_stand_in_the_parameters_cell():
    given_cell = code("a: int = 1  # first\nb = [1, 2]  # second", tags=["parameters"])
    injected = code('# Parameters\na = 5\nb = [3]\nc = "new"', tags=["injected-parameters"])
    chapter = pages.chapter("one", notebook(given_cell, injected))
    assert [c.source for c in chapter.notebook.cells[1:]] == [
        'a: int = 5  # first\nb = [3]  # second\nc = "new"'
    ]


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers() | st.text(), min_size=1))
def test_substitution_changes_values_and_nothing_else(values):
    source = "\n".join(f"{name}: object = 'ä{name}'  # meaning of {name}" for name in "abcdef")
    result = pages.substitute(source, {name: repr(value) for name, value in values.items()})
    scope: dict = {}
    exec(result, scope)
    for name in "abcdef":
        assert scope[name] == values.get(name, f"ä{name}")
    assert result.count("# meaning of") == 6


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (v4.new_output("stream", name="stderr", text="UserWarning: odd\n"), "UserWarning: odd"),
        (v4.new_output("display_data", data={"image/png": PNG}), r"mflib\.report\.figure"),
    ],
)
def test_what_readers_should_not_meet_is_refused(output, message):
    with pytest.raises(pages.PageError, match=message):
        pages.chapter("one", notebook(code("f()", output)))


def test_progress_bars_and_decided_warnings_are_dropped():
    bar = v4.new_output("stream", name="stderr", text="50%|█████     | 1/2 [00:01<00:01]\r")
    warning = v4.new_output("stream", name="stderr", text="UserWarning: known\n")
    cells = (code("f()", bar), code("g()", warning, tags=["remove-stderr"]))
    chapter = pages.chapter("one", notebook(*cells))
    assert not any(c.get("outputs") for c in chapter.notebook.cells)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "no executed notebook"),
        (lambda p: p.write_text("{"), "not a readable notebook"),
        (lambda p: nbformat.write(notebook(v4.new_code_cell("f()")), p), "was not executed"),
        (
            lambda p: nbformat.write(
                notebook(code("f()", v4.new_output("error", ename="E", evalue="v", traceback=[]))),
                p,
            ),
            "ended in E: v",
        ),
    ],
)
def test_an_unfit_notebook_is_named_with_a_remedy(tmp_path, make, message):
    path = tmp_path / "one.ipynb"
    make(path)
    with pytest.raises(pages.PageError, match=message) as fault:
        pages.load(path)
    assert "mflib run one" in str(fault.value)


def test_two_chapters_cannot_use_one_name():
    chapters = [pages.chapter(n, notebook(code("f()", a_claim()))) for n in ("one", "two")]
    with pytest.raises(pages.PageError, match=r"used in one\.ipynb and again in two\.ipynb"):
        pages.check_names(chapters)


def test_scorecard_and_errata_list_their_own_kind():
    found = notebook(code("f()", a_claim("mft-a"), a_claim("mft-10", claims.ERRATUM, "erratum")))
    chapter = pages.chapter("one", found)
    score, slips = pages.scorecard([chapter]), pages.errata([chapter])
    assert "mft-a" in score
    assert "mft-10" not in score
    assert "mft-10" in slips
    assert "mft-a" not in slips
    assert "◐ partly" in score


def test_staging_writes_what_changed_and_removes_what_went(tmp_path):
    assert pages.write_changed({"a/b.md": b"1", "c.md": b"2"}, tmp_path) == ["a/b.md", "c.md"]
    (tmp_path / "_build").mkdir()
    (tmp_path / "_build" / "page.html").write_text("kept")
    assert pages.write_changed({"c.md": b"2", "d.md": b"3"}, tmp_path) == ["d.md", "a/b.md"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["_build", "c.md", "d.md"]
    assert (tmp_path / "_build" / "page.html").exists()


def test_docstrings_of_the_reference_keep_their_marks():
    assert pages.escape("a*b in [0, 1] and `code*`") == r"a\*b in \[0, 1\] and `code*`"


def test_texts_are_joined_with_single_stops():
    assert pages.sentences("It holds.", "So there") == "It holds. So there."
    assert pages.sentences("Alone", "") == "Alone."


@given(st.text(alphabet="aχ^12 *_$[]|<>{}#\\&", min_size=1, max_size=40))
def test_a_records_text_reads_as_it_was_written(text):
    """χ_q*λ and χ_c*λ must not come out half in italics."""
    shown = html.unescape(MarkdownIt().renderInline(pages.plain(text)))
    assert shown.strip() == " ".join(text.split())


def test_marks_in_a_claim_are_harmless_on_every_page():
    output = a_claim()
    record = output.metadata["mflib"]
    record |= {"statement": "Factors χ_q*λ and χ_c*λ.", "ours": "*a* and *b*", "note": "q*, c*"}
    block = pages.verdict_block(record)
    for mark in (r"χ\_q\*λ and χ\_c\*λ", r"\*a\* and \*b\*", r"q\*, c\*"):
        assert mark in block


def test_a_page_shows_a_recorded_table_or_says_that_there_is_none(tmp_path):
    page = "# Faults\n\n% recorded: faults\n\nMore.\n"
    without = pages.with_recorded(page, tmp_path)
    assert "% recorded" not in without
    assert "`make faults` tries them" in without
    rows = "kind,target,times,outcome,seconds\nkill -9,a *grid*,1200,same table,3.5\n"
    file = tmp_path / "faults.csv"
    recorded.write(file, rows.encode(), command="make faults", code="abc", seconds=90)
    shown = pages.with_recorded(page, tmp_path)
    assert "* - kill -9\n  - a \\*grid\\*\n  - 1,200\n  - same table\n" in shown
    assert "in 2 minutes." in shown
    assert shown.endswith("More.\n")
    file.write_bytes(rows.replace("1200", "1201").encode())
    with pytest.raises(pages.PageError, match=r"does not have its recorded checksum.*make faults"):
        pages.with_recorded(page, tmp_path)
    with pytest.raises(pages.PageError, match="'flaws': there are faults, faults-overhead"):
        pages.with_recorded("% recorded: flaws\n", tmp_path)


def test_a_page_lists_every_long_computation_and_what_of_it_is_recorded(tmp_path):
    first, *others = results.REGISTRY
    known = results.computation(first)
    parts = list(dict.fromkeys(group.part for group in known.groups()))
    file = tmp_path / first / recorded.TABLE
    code = {module: sources.code_version(module) for module in known.modules}

    def record(parts, missing, code):
        recorded.write(
            file, b"rows", command="it", code=code, seconds=1, device="NVIDIA H200",
            computed="2026-12-01T00:00:00+00:00", parts=dict.fromkeys(parts), missing=missing,
        )  # fmt: skip
        return re.split(r"^\* - ", pages.with_recorded("% computations\n", tmp_path), flags=re.M)

    _, header, row, *rest = record(parts, [], code)
    assert header.startswith("Id\n  - What")
    assert row.startswith(f"`{first}`\n  - {known.title}\n  - mnist, cifar10\n")
    assert f"\n  - {len(parts)} / {len(known.groups())}\n" in row
    assert row.endswith("\n  - NVIDIA H200, 2026-12-01\n")
    assert [each.split("`")[1] for each in rest] == others
    assert all("\n  - not yet\n" in each for each in rest)
    assert f"\n  - 1 of {len(parts)} parts, NVIDIA" in record(parts[:1], parts[1:], code)[2]
    assert "2026-12-01, by earlier code\n" in record(parts, [], dict.fromkeys(code, "0"))[2]
    file.write_bytes(b"other rows")
    with pytest.raises(pages.PageError, match="does not have its recorded checksum"):
        pages.with_recorded("% computations\n", tmp_path)


def test_what_safety_costs_is_shown_as_times_or_as_a_share(tmp_path):
    header = "what,seconds,beside,beside_seconds,ratio,lowest,highest,unit,limit\n"
    run = "mflib run one,6.5,plain papermill,6.1,1.0656,0.98,1.2,times,1.2\n"
    kept = "keys of 16 shards,0.25,the whole grid,20.5,0.0122,0.011,0.0134,share,0.02\n"
    file = tmp_path / "faults-overhead.csv"
    recorded.write(file, (header + run + kept).encode(), command="make faults", code="", seconds=1)
    shown = pages.with_recorded("% recorded: faults-overhead", tmp_path)
    assert "  - 6.5 s\n  - 6.1 s, plain papermill\n  - 1.07 (0.98 to 1.20)\n  - 1.20\n" in shown
    assert "  - 1.2 % (1.1 % to 1.3 %)\n  - 2 %\n" in shown


def test_the_parameters_are_folded_under_a_heading_of_their_own():
    source = "seed: int = 0  # seed [0, 9]"
    cell = v4.new_code_cell(source=source, metadata={"tags": ["parameters"]})
    injected = v4.new_code_cell(source="seed = 4", metadata={"tags": ["injected-parameters"]})
    chapter = pages.chapter("one", notebook(cell, injected))
    (shown,) = (c for c in chapter.notebook.cells if "parameters" in pages.tags(c))
    assert shown.source == source.replace("= 0", "= 4")
    assert "hide-input" in shown.metadata["tags"]
    assert shown.metadata["mystnb"]["code_prompt_show"] == "Parameters of this chapter"
