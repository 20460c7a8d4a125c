"""What a notebook may not do in the browser of whoever looks at it."""

from __future__ import annotations

import base64
import html.parser
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat.v4 import new_output

pytest.importorskip("nbgrader", reason="needs the classroom's packages: make classroom")

from mflib.classroom import display

ATTACKS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)><script>alert(1)</script></svg>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<a href='javascript:alert(1)'>x</a>",
    "<a href='java&#115;cript:alert(1)'>x</a>",
    "<a href=' JaVaScRiPt:alert(1)'>x</a>",
    "<a href='data:text/html,<script>alert(1)</script>'>x</a>",
    "<img src='data:image/svg+xml,<svg onload=alert(1)>'>",
    "<div style='background:url(javascript:alert(1))'>x</div>",
    "<form action='/shutdown' method=post><button>x</button></form>",
    "<math><mi//xlink:href='data:x,<script>alert(1)</script>'>",
    "<table background='javascript:alert(1)'><td>x</table>",
    "<style>@import 'http://x'</style>",
    "<base href='http://x'><meta http-equiv=refresh content='0;url=http://x'>",
]


# harmless as it stands, and a script once somebody has taken the script out
NESTED = "<scr<script></script>ipt>alert(1)</script>"


class Runs(html.parser.HTMLParser):
    """Collects what a browser would run or load on its own."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        if tag in {"script", "style", "iframe", "object", "embed", "form", "svg", "math", "base"}:
            self.found.append(tag)
        if tag in {"meta", "link", "button", "input"}:
            self.found.append(tag)
        for name, value in attrs:
            link = "".join((value or "").split()).lower()
            if name.startswith("on") or name in {"srcdoc", "background", "action", "xlink:href"}:
                self.found.append(name)
            if link.startswith(("javascript:", "vbscript:", "data:text", "data:image/svg")):
                self.found.append(link)
            if name == "style" and ("url" in link or "expression" in link):
                self.found.append(link)


def runs(page: str) -> list[str]:
    found = Runs()
    found.feed(page)
    found.close()
    return found.found


def test_the_attacks_would_work() -> None:
    assert [attack for attack in ATTACKS if not runs(attack)] == []


@pytest.mark.parametrize("attack", [*ATTACKS, NESTED])
def test_no_attack_survives(attack: str) -> None:
    assert runs(display.clean(attack)) == []
    assert runs(display.safe_markdown({}, f"text\n\n{attack}\n\n- {attack}")) == []
    assert runs(display.safe_markdown({}, f"[x]({attack})")) == []


@given(
    st.lists(
        st.sampled_from([*ATTACKS, NESTED, "<", ">", "'", '"', "`", "$", "&#115;", "<b>", "x"])
    )
)
def test_no_mixture_of_attacks_survives(parts: list[str]) -> None:
    assert runs(display.clean("".join(parts))) == []


def test_links_in_markdown_lead_to_pages_only() -> None:
    text = "[a](javascript:alert(1)) [b][1] <javascript:alert(1)>\n\n[1]: JAVASCRIPT:alert(1)\n"
    shown = display.safe_markdown({}, text)
    assert runs(shown) == []
    assert 'href="https://a.b/c"' in display.safe_markdown({}, "[x](https://a.b/c)")


def test_an_answer_keeps_its_formulas_tables_and_pictures() -> None:
    shown = display.safe_markdown(
        {}, "$a<b$ and **bold**\n\n$$\\int_{x>0} f$$\n\n| q | c |\n| - | - |\n| 1 | 2 |\n\n`a < b`"
    )
    assert "$a&lt;b$" in shown
    assert "\\int_{x&gt;0} f" in shown
    assert "<strong>bold</strong>" in shown
    assert "<td>1</td>" in shown
    assert "<code>a &lt; b</code>" in shown
    picture = base64.b64encode(b"\x89PNG").decode()
    cell = {"attachments": {"plot.png": {"image/png": picture}}}
    assert picture in display.safe_markdown({"cell": cell}, "![plot](attachment:plot.png)")


def test_an_output_keeps_text_and_pictures_only() -> None:
    picture = base64.b64encode(b"\x89PNG").decode()
    output = new_output(
        "display_data",
        data={
            "text/plain": "plain <b>",
            "text/html": "<table><tr><td>1</td></tr></table><script>alert(1)</script>",
            "image/png": picture,
            "image/jpeg": '"><script>alert(1)</script>',
            "image/svg+xml": "<svg onload=alert(1)>",
            "application/javascript": "alert(1)",
            "text/latex": "<script>alert(1)</script>",
            "application/vnd.jupyter.widget-view+json": {"model_id": "x"},
        },
        metadata={"image/png": {"alt": '"><script>alert(1)</script>'}},
    )
    kept = display.safe_output(output)
    assert set(kept.data) == {"text/plain", "text/html", "image/png"}
    assert "<td>1</td>" in kept.data["text/html"]
    assert "script" not in kept.data["text/html"]
    assert kept.metadata == {}
    stream = new_output("stream", text="x")
    assert display.safe_output(stream) == stream


@pytest.mark.parametrize("part", ["<b></i>", "<div>", "<b><p>", "<table><tr><td>"])
def test_cleaning_takes_no_time_that_grows_without_end(part: str) -> None:
    """Tags within tags cost their square, so what is longer than a page is shown as text."""
    begun = time.process_time()
    assert "<pre>" in display.clean(part * 500_000)
    display.clean(part * (100_000 // len(part)))
    assert (
        "text/html"
        not in display.safe_output(
            new_output("display_data", data={"text/plain": "x", "text/html": part * 500_000})
        ).data
    )
    assert time.process_time() - begun < 20
