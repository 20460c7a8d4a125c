"""What of a submission may be shown in a browser: text and pictures, and nothing that runs.

Formgrader and feedback are pages in which somebody else's notebook is rendered, the first on a
teacher's own Jupyter server. A script there could do what the teacher can.
"""

from __future__ import annotations

import html
import re
from typing import Any

import nh3
from jinja2 import pass_context
from nbconvert.exporters import HTMLExporter
from nbformat import NotebookNode

_TAGS = {
    *("p", "div", "span", "br", "hr", "pre", "code", "kbd", "samp", "blockquote", "q", "cite"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "dl", "dt", "dd", "a", "img"),
    *("b", "i", "u", "s", "em", "strong", "small", "sub", "sup", "del", "ins", "mark", "abbr"),
    *("table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td", "colgroup", "col"),
}
_ATTRIBUTES = {
    "*": {"class", "title", "id", "style"},
    "a": {"href"},
    "img": {"src", "alt", "width", "height"},
    "th": {"colspan", "rowspan", "scope"},
    "td": {"colspan", "rowspan"},
    "table": {"border"},
    "ol": {"start"},
}
_STYLES = {"text-align", "color", "background-color", "font-weight", "font-style", "width"}
_PICTURE = re.compile(r"data:image/(?:png|jpeg|gif);base64,[A-Za-z0-9+/=\s]+")
_BASE64 = re.compile(r"[A-Za-z0-9+/=\s]*")
# Tags within tags cost the square of their number: beyond this, text is shown as text.
_LONGEST = 100_000


def _attribute(tag: str, name: str, value: str) -> str | None:
    if value.strip().lower().startswith("data:"):
        picture = (tag, name) == ("img", "src") and _PICTURE.fullmatch(value.strip())
        return value if picture else None
    return value


def clean(page: str) -> str:
    """Return HTML without scripts, styles of its own, forms, frames and links that run.

    Beyond 100,000 characters, embedded pictures not counted, the HTML is shown as its own text.
    """
    if len(_PICTURE.sub("", page)) > _LONGEST:
        return f"<pre>{html.escape(page)}</pre>"
    return nh3.clean(
        page,
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        attribute_filter=_attribute,
        url_schemes={"http", "https", "mailto", "data", "attachment"},
        filter_style_properties=_STYLES,
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
            if len(text) <= _LONGEST:
                kept[kind] = clean(text)
        elif kind in ("text/plain", "text/markdown") or (
            kind in ("image/png", "image/jpeg") and _BASE64.fullmatch(text)
        ):
            kept[kind] = text
    return NotebookNode({**output, "data": NotebookNode(kept), "metadata": NotebookNode()})
