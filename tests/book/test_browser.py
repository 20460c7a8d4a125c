"""Open every page of the built book in a browser and look for what a reader would trip over."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlparse

import nbformat
import pytest

from mflib import paths

from .visits import CHAPTERS, PAGES, Visit, grave_findings

pytestmark = pytest.mark.browser

#: Numbers of equations that the formula beside them runs into.
FORMULAS_UNDER_THEIR_NUMBER = """() => [...document.querySelectorAll(".eqno")].filter(n => {
  const formula = n.parentElement.querySelector("mjx-container").getBoundingClientRect();
  return formula.right > n.getBoundingClientRect().left;
}).map(n => n.textContent)"""


@pytest.mark.parametrize("name", PAGES)
def test_page_fits_a_phone(chromium, site, name):
    context = chromium.new_context(viewport={"width": 400, "height": 850})
    try:
        page = Visit(context, site, name).page
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        assert page.evaluate(FORMULAS_UNDER_THEIR_NUMBER) == []
        assert grave_findings(page) == []
    finally:
        context.close()


def test_every_link_leads_somewhere(chromium, site, html):
    context = chromium.new_context()
    anchors: dict[str, set[str]] = {}
    links: dict[str, set[str]] = {}
    try:
        for name in PAGES:
            page = Visit(context, site, name).page
            base = f"{site}/{name}.html"
            anchors[base] = set(page.eval_on_selector_all("[id]", "all => all.map(e => e.id)"))
            links[base] = {
                urljoin(base, href)
                for href in page.eval_on_selector_all(
                    "a[href]", "all => all.map(a => a.getAttribute('href'))"
                )
            }
            page.close()
    finally:
        context.close()
    broken = []
    for base, targets in links.items():
        for target in targets:
            bare, fragment = urldefrag(target)
            if not bare.startswith(site):
                continue  # an address elsewhere is for the reader to follow; nothing is loaded
            file = Path(html, unquote(urlparse(bare).path).lstrip("/") or "index.html")
            if not file.is_file():
                broken.append(f"{base}: {target}")
            elif fragment and bare in anchors and unquote(fragment) not in anchors[bare]:
                broken.append(f"{base}: no anchor {target}")
    assert broken == []
    assert sum(map(len, links.values())) > 100


def test_every_table_that_a_chapter_prints_is_on_its_page(html):
    lost, n_printed = [], 0
    for name in CHAPTERS:
        executed = nbformat.read(paths.notebooks() / f"{name}.ipynb", as_version=4)
        shown = [o.get("data", {}) for cell in executed.cells for o in cell.get("outputs", [])]
        tables = [data["text/html"] for data in shown if "<table" in data.get("text/html", "")]
        page = (html / f"{name}.html").read_text(encoding="utf-8")
        styled = [found for table in tables for found in re.findall(r'<table id="(T_\w+)"', table)]
        lost += [f"{name}: {table}" for table in styled if f'id="{table}"' not in page]
        plain = sum(table.count('class="dataframe"') for table in tables)
        if page.count('class="dataframe"') != plain:
            lost.append(f"{name}: a plain table")
        n_printed += len(tables)
    assert lost == []
    assert n_printed > 10


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapter_offers_its_notebook_and_source(chromium, site, name):
    context = chromium.new_context()
    try:
        page = Visit(context, site, name).page
        links = page.eval_on_selector_all("p.chapter-files a", "all => all.map(a => a.href)")
        by_end = {urlparse(link).path.rsplit(".", 1)[-1]: link for link in links}
        assert by_end.keys() == {"ipynb", "py"}
        body = context.request.get(by_end["ipynb"]).text()
        notebook = nbformat.reads(body, as_version=4)
        nbformat.validate(notebook)
        assert any(o for c in notebook.cells for o in c.get("outputs", []))
        source = (paths.root() / "notebooks" / f"{name}.py").read_text(encoding="utf-8")
        assert context.request.get(by_end["py"]).text() == source
    finally:
        context.close()


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapter_numbers_its_figures_and_gives_their_provenance(chromium, site, name):
    context = chromium.new_context()
    try:
        page = Visit(context, site, name).page
        captions = page.eval_on_selector_all(
            "figure figcaption", "all => all.map(c => c.innerText)"
        )
        assert len(captions) >= 4
        for caption in captions:
            assert re.match(r"Fig\. \d+", caption), caption
            source = (
                r"(seed \d+|(recorded|paper) scale).* commit \w+.*"
                r"recompute: (mflib (results )?run|python tools/record_)"
            )
            assert re.search(source, caption, re.DOTALL), caption
        assert page.locator(".verdict-box").count() > 0
    finally:
        context.close()


def test_an_interactive_figure_moves_without_a_network(chromium, site):
    context = chromium.new_context(viewport={"width": 1400, "height": 1000})
    try:
        visit = Visit(context, site, "levy-phase-diagram")
        page = visit.page
        figure = page.locator("#levy-balance")
        figure.scroll_into_view_if_needed()
        page.wait_for_selector("#levy-balance.is-drawn .main-svg", timeout=20_000)
        figure.scroll_into_view_if_needed()
        box = page.locator("#levy-balance .nsewdrag").first.bounding_box()
        page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"], steps=4)
        label = page.locator("#levy-balance .hovertext", has_text="α = 1.5")
        label.wait_for(timeout=10_000)
        told = label.first.text_content()
        assert "q* = 10^" in told
        assert "reach" in told
        # the still picture keeps its place for print and its words for screen readers
        assert figure.locator("img").get_attribute("alt")
        assert figure.locator("img").bounding_box()["width"] <= 1
        page.emulate_media(media="print")
        assert figure.locator("img").bounding_box()["width"] > 200
        assert not page.locator("#levy-balance .interactive-stage").is_visible()
        assert visit.complaints == []
    finally:
        context.close()


def test_a_page_without_interactive_figures_does_not_load_their_script(chromium, site):
    context = chromium.new_context()
    try:
        page = Visit(context, site, "fc-theory").page
        assert not page.evaluate("!!window.Plotly || !!document.querySelector('[src*=plotly]')")
    finally:
        context.close()


def test_an_interactive_figure_is_a_picture_without_scripts(chromium, site):
    context = chromium.new_context(java_script_enabled=False)
    try:
        page = context.new_page()
        page.goto(f"{site}/levy-phase-diagram.html")
        assert page.locator("#levy-balance img").bounding_box()["width"] > 200
    finally:
        context.close()


def test_search_finds_a_word(chromium, site):
    context = chromium.new_context()
    try:
        page = Visit(context, site, "search").page
        page.goto(f"{site}/search.html?q=susceptibility")
        page.wait_for_selector("#search-results li a", timeout=10_000)
        assert "sigmoid-theorem" in page.inner_html("#search-results")
    finally:
        context.close()


def test_launch_buttons_appear_when_a_repository_is_named(html, tmp_path):
    """Without one there are none; the configuration's one line is all that brings them."""
    assert "mybinder.org" not in (html / "fc-theory.html").read_text(encoding="utf-8")
    stage = html.parents[1]
    shutil.copytree(stage, tmp_path / "book", ignore=shutil.ignore_patterns("_build"))
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: index\nchapters:\n- file: fc-theory\n"
    )
    config = (paths.root() / "_config.yml").read_text(encoding="utf-8")
    named = re.sub(r'url: ""  # (https://\S+)', r"url: \1", config)
    assert named != config
    (tmp_path / "_config.yml").write_text(named)
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", "book", "--quiet"]
    command += ["--config", "_config.yml", "--toc", "_toc.yml", "--path-output", "out"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=300, capture_output=True)
    page = (tmp_path / "out" / "_build" / "html" / "fc-theory.html").read_text(encoding="utf-8")
    assert re.search(
        r"https://mybinder\.org/v2/gh/ORGANISATION/REPOSITORY/launch\S*fc-theory", page
    )
    assert re.search(r"https://colab\.research\.google\.com/github/ORGANISATION/REPOSITORY", page)
