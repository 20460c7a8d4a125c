"""Every page in a wide window, light and dark: complaints, text left unrendered, contrast."""

from __future__ import annotations

import re

import pytest

from .visits import (
    CHAPTERS,
    OF_COLOUR,
    ONE_WORD_OF_EACH_KIND,
    PAGES,
    Visit,
    grave_findings,
)

pytestmark = pytest.mark.browser

#: Text that a page must not show: formulas left as source, references left open, roles left raw.
UNRENDERED = re.compile(
    r"\\\(|\\\)|\$\$|\$\\|\\begin\{|\[\?\]|\?\?"
    r"|\{(?:eq|ref|numref|cite|doc)\}|\{\.[a-z-]+\}|undefined label"
)

#: The page's text without its code.
PROSE = """() => {
  const main = document.querySelector("main").cloneNode(true);
  main.querySelectorAll("pre, code, script, mjx-container").forEach(e => e.remove());
  return main.textContent;
}"""

#: Colours that fade begin to do so with the next picture, so two are waited for before the fading.
SETTLED = """async () => {
  for (let k = 0; k < 2; k++) await new Promise(requestAnimationFrame);
  await Promise.allSettled(document.getAnimations().map(a => a.finished));
}"""


@pytest.fixture
def context(chromium):
    context = chromium.new_context(
        viewport={"width": 1400, "height": 1000}, color_scheme="light", reduced_motion="reduce"
    )
    yield context
    context.close()


@pytest.mark.parametrize("name", PAGES)
def test_page_is_sound_and_accessible(context, site, name):
    visit = Visit(context, site, name)
    page = visit.page
    assert visit.complaints == []  # here, since axe-core makes requests of its own
    text = page.evaluate(PROSE)
    assert UNRENDERED.findall(text) == []
    assert page.query_selector("mjx-merror, [data-mjx-error]") is None
    assert page.evaluate("document.querySelectorAll('.math').length") == page.evaluate(
        "document.querySelectorAll('.math mjx-container').length"
        " - (document.querySelectorAll('.math mjx-container mjx-container').length)"
    )
    without_alt = page.eval_on_selector_all(
        "img", "all => all.filter(i => !i.alt.trim()).map(i => i.src)"
    )
    assert without_alt == []
    # Folded code is part of the page too.
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate(ONE_WORD_OF_EACH_KIND) >= 20 or name not in CHAPTERS
    # One visit serves both schemes: of what axe-core looks for, only colours change with them.
    for scheme, rules in (("light", ()), ("dark", OF_COLOUR)):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(
            "scheme => document.documentElement.dataset.theme === scheme", arg=scheme
        )
        # Opened code fades in; half faded in, it has half the contrast.
        page.evaluate(SETTLED)
        assert grave_findings(page, rules) == []
