"""Visits of pages of the built book, and what a browser and axe-core find there."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe

from mflib import paths
from mflib.report import pages

PAGES = [*pages.documents(paths.root() / "_toc.yml"), "search", "genindex"]
CHAPTERS = [n for n in PAGES if (paths.root() / "notebooks" / f"{n}.py").exists()]


class Visit:
    """One opening of a page, with everything the browser complained about."""

    def __init__(self, context, site, name):
        self.complaints: list[str] = []
        self.page = context.new_page()
        self.page.on(
            "console",
            lambda m: (
                self.complaints.append(f"console {m.type}: {m.text}")
                if m.type in ("error", "warning")
                else None
            ),
        )
        self.page.on("pageerror", lambda e: self.complaints.append(f"page error: {e}"))
        self.page.on("requestfailed", lambda r: self.complaints.append(f"failed: {r.url}"))
        self.page.on("response", self._status)
        self.page.on("request", lambda r: self._inside(r.url, site))
        self.page.goto(f"{site}/{name}.html", wait_until="load")
        self.page.wait_for_function(
            "() => !document.querySelector('.math') || (window.MathJax?.startup?.promise"
            " && MathJax.startup.promise.then(() => true))"
        )

    def _status(self, response):
        if response.status >= 400:
            self.complaints.append(f"{response.status}: {response.url}")

    def _inside(self, url, site):
        if not url.startswith((site, "data:", "blob:")):
            self.complaints.append(f"request to another host: {url}")


#: The rules of axe-core whose verdict depends on colours.
OF_COLOUR = ("color-contrast", "link-in-text-block")

#: A word of code has the colours that its classes and those around it give it, so one that can be
#: seen stands for all of its kind: a long chapter has thirty thousand, most of what axe-core sees.
ONE_WORD_OF_EACH_KIND = """() => {
  const kinds = new Map();
  for (const word of document.querySelectorAll("main pre span, main .sig span")) {
    let kind = word.style.cssText;
    for (let e = word; e.tagName !== "MAIN"; e = e.parentElement) {
      kind += ">" + e.tagName + "." + e.className;
    }
    if (!kinds.has(kind)) kinds.set(kind, []);
    kinds.get(kind).push(word);
  }
  for (const words of kinds.values()) {  // axe-core skips what is hidden
    const kept = words.find(word => word.checkVisibility()) ?? words[0];
    for (const word of words) {
      if (word !== kept && !word.childElementCount) word.replaceWith(...word.childNodes);
    }
  }
  document.querySelectorAll("main pre, main .sig").forEach(code => code.normalize());
  return kinds.size;
}"""


def grave_findings(page, rules=()):
    """Return what axe-core calls serious or critical, one sentence each; by all rules if none."""
    page.evaluate(ONE_WORD_OF_EACH_KIND)
    only = {"runOnly": {"type": "rule", "values": list(rules)}} if rules else {}
    found = Axe().run(page, options={"resultTypes": ["violations"], **only})
    return [
        f"{v['id']}: {v['help']}: {len(v['nodes'])} times, as in {v['nodes'][0]['html'][:160]}"
        for v in found.response["violations"]
        if v["impact"] in ("serious", "critical")
    ]
