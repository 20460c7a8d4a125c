"""What of a submission may be shown in a browser: text and pictures, and nothing that runs.

Formgrader and feedback are pages in which somebody else's notebook is rendered, the first on a
teacher's own Jupyter server. A script there could do what the teacher can.
"""

from __future__ import annotations

import re
from typing import Any

import bleach
from bleach.css_sanitizer import CSSSanitizer
from jinja2 import pass_context
from nbconvert.exporters import HTMLExporter
from nbformat import NotebookNode

_TAGS = {
    *("p", "div", "span", "br", "hr", "pre", "code", "kbd", "samp", "blockquote", "q", "cite"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "dl", "dt", "dd", "a", "img"),
    *("b", "i", "u", "s", "em", "strong", "small", "sub", "sup", "del", "ins", "mark", "abbr"),
    *("table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td", "colgroup", "col"),
}
_STYLES = ["text-align", "color", "background-color", "font-weight", "font-style", "width"]
_PICTURE = re.compile(r"data:image/(?:png|jpeg|gif);base64,[A-Za-z0-9+/=\s]+")
_BASE64 = re.compile(r"[A-Za-z0-9+/=\s]*")


def _may_have(tag: str, name: str, value: str) -> bool:
    if value.strip().lower().startswith("data:"):
        return (tag, name) == ("img", "src") and _PICTURE.fullmatch(value.strip()) is not None
    if name in ("class", "title", "style", "id"):
        return True
    return name in {
        "a": ("href",),
        "img": ("src", "alt", "width", "height"),
        "th": ("colspan", "rowspan", "scope"),
        "td": ("colspan", "rowspan"),
        "table": ("border",),
        "ol": ("start",),
    }.get(tag, ())


def clean(html: str) -> str:
    """Return HTML without scripts, styles of its own, forms, frames and links that run."""
    without = re.sub(r"(?is)<(script|style)\b.*?(</\1\s*>|\Z)", "", html)
    return bleach.clean(
        without,
        tags=_TAGS,
        attributes=_may_have,
        protocols={"http", "https", "mailto", "data", "attachment"},
        css_sanitizer=CSSSanitizer(allowed_css_properties=_STYLES),
        strip=True,
    )


_EXPORTER = HTMLExporter()


@pass_context
def safe_markdown(context: Any, source: str) -> str:
    """Return Markdown as clean HTML; stands in for nbconvert's filter ``markdown2html``."""
    return clean(_EXPORTER.markdown2html(context, source))


def safe_output(output: NotebookNode) -> NotebookNode:
    """Return an output with its text and its pictures, its HTML cleaned, and nothing else."""
    if "data" not in output:
        return output
    kept = {}
    for kind, value in output.data.items():
        text = "".join(value) if isinstance(value, list) else value
        if not isinstance(text, str):
            continue
        if kind == "text/html":
            kept[kind] = clean(text)
        elif kind in ("text/plain", "text/markdown") or (
            kind in ("image/png", "image/jpeg") and _BASE64.fullmatch(text)
        ):
            kept[kind] = text
    return NotebookNode({**output, "data": NotebookNode(kept), "metadata": NotebookNode()})
