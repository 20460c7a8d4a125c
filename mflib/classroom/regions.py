"""The regions of a cell that are for the teacher alone: solutions and hidden tests.

A region lies between two lines, as nbgrader marks it: BEGIN SOLUTION and END SOLUTION, or BEGIN
HIDDEN TESTS and END HIDDEN TESTS.
"""

from __future__ import annotations

import re

SOLUTION = "SOLUTION"
HIDDEN_TESTS = "HIDDEN TESTS"

_REGION = re.compile(
    rf"^[^\n]*BEGIN ({SOLUTION}|{HIDDEN_TESTS})[^\n]*\n(.*?)^[^\n]*END \1[^\n]*$",
    re.MULTILINE | re.DOTALL,
)


def inside(source: str, *kinds: str) -> list[str]:
    """Return the lines within all regions of these kinds, without the space around them."""
    found = (region for region in _REGION.finditer(source) if region[1] in kinds)
    return [line.strip() for region in found for line in region[2].splitlines()]


def without(source: str, *kinds: str, note: str = "") -> str:
    """Return a cell's text with a note in the place of each region of these kinds."""
    return _REGION.sub(lambda region: note if region[1] in kinds else region[0], source)
