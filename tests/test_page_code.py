"""Run every ``pycon`` block of the README and of the book's pages, in order, page by page."""

from __future__ import annotations

import doctest
import re

import pytest

from mflib import paths

FENCE = re.compile(r"^```pycon\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [paths.root() / "README.md", *sorted(paths.book().glob("*.md"))]
WITH_CODE = [page for page in PAGES if FENCE.search(page.read_text(encoding="utf-8"))]


def test_some_pages_hold_code():
    assert {page.name for page in WITH_CODE} >= {"README.md", "own-model.md"}


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_code_of_a_page_gives_what_it_shows(page):
    text = "\n".join(FENCE.findall(page.read_text(encoding="utf-8")))
    test = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    failures = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    runner.run(test, out=failures.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(failures)
