"""What the papers claim, what we find, and a verdict that is computed, never typed."""

from __future__ import annotations

import html
import math
import re
from typing import Any

from mflib.report import provenance

REPRODUCED = "reproduced"
PARTLY = "partly"
NOT_REPRODUCED = "not reproduced"
ERRATUM = "paper erratum"
NOT_CONFIRMED = "not confirmed"

#: From best to worst for a claim; the scorecard's test compares along this order.
CLAIM_VERDICTS = (REPRODUCED, PARTLY, NOT_REPRODUCED)
ERRATUM_VERDICTS = (ERRATUM, NOT_CONFIRMED)

#: A sign beside each word, so that no verdict is told by colour alone.
SIGNS = {REPRODUCED: "✓", PARTLY: "◐", NOT_REPRODUCED: "✗", ERRATUM: "✎", NOT_CONFIRMED: "–"}


def _identifier(identifier: str) -> str:
    if not re.fullmatch(r"[a-z]+-[a-z0-9][a-z0-9.-]*", identifier):
        raise ValueError(
            f"identifier {identifier!r}: give a register id such as 'mft-phase' or 'mft-fig1-relu'"
        )
    return identifier


def _number(value: Any) -> Any:
    """Return a plain float or int for any real number, text unchanged, None for None."""
    if value is None or isinstance(value, str):
        return value
    as_float = float(value)
    if math.isnan(as_float):
        raise ValueError("a recorded number is NaN: record what was found, in words if need be")
    return int(as_float) if isinstance(value, int) else as_float


def _show(value: Any) -> str:
    if value is None:
        return "—"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def _publish(record: dict[str, Any]) -> None:
    from IPython.display import display

    shown = (
        f"<p><strong>{SIGNS[record['verdict']]} {record['verdict']}</strong> "
        f"(<code>{html.escape(record['id'])}</code>): {html.escape(record['statement'])}<br>"
        f"Paper: {html.escape(_show(record['paper']))} · here: {html.escape(_show(record['ours']))}"
        + (f" · tolerance ±{_show(record['tolerance'])}" if record["tolerance"] is not None else "")
        + (f"<br>{html.escape(record['note'])}" if record["note"] else "")
        + "</p>"
    )
    plain = (
        f"{record['verdict']} ({record['id']}): {record['statement']} "
        f"Paper: {_show(record['paper'])}; here: {_show(record['ours'])}"
    )
    display({"text/html": shown, "text/plain": plain}, metadata={"mflib": record}, raw=True)


def verdict(checks: dict[str, bool]) -> str:
    """Return the verdict on a claim whose named ``checks`` hold or not; at least one is needed.

    >>> verdict({"slope": True, "offset": False})
    'partly'
    """
    held = sum(checks.values())
    return REPRODUCED if held == len(checks) else PARTLY if held else NOT_REPRODUCED


def claim(
    identifier: str,
    *,
    statement: str,
    ours: float | str,
    paper: float | str | None = None,
    tolerance: float | None = None,
    checks: dict[str, bool] | None = None,
    source: str = "",
    scale: str | None = None,
    note: str = "",
) -> None:
    """Record one claim of a paper with its computed verdict, and show it.

    The verdict follows from conditions: the named ``checks``, and ``|ours − paper| ≤ tolerance``
    where both are numbers. All true: "reproduced"; some: "partly"; none: "not reproduced".

    Parameters
    ----------
    identifier : register id, e.g. "mft-phase"; a suffix tells several claims of one row apart
    statement : what the paper claims, in our words
    ours, paper : our number and the paper's (or a few words)
    tolerance : in the numbers' unit; required where both are numbers
    checks : name of a condition → whether it holds
    source : where the paper says so, e.g. "§4.2, fig. 1"
    scale : "exact", "quick" or "paper"; default the notebook's
    note : one sentence on what the verdict rests on

    Raises ValueError where nothing decides the verdict, or numbers come without a tolerance.
    """
    decided = {name: bool(holds) for name, holds in (checks or {}).items()}
    ours, paper = _number(ours), _number(paper)
    if isinstance(ours, int | float) and isinstance(paper, int | float):
        if tolerance is None:
            raise ValueError(f"claim {identifier!r} compares two numbers: give their tolerance")
        decided["within tolerance"] = abs(ours - paper) <= tolerance
    if not decided:
        raise ValueError(f"claim {identifier!r} has nothing to decide it: give numbers or checks")
    _publish(
        {
            "kind": "claim",
            "id": _identifier(identifier),
            "statement": statement,
            "paper": paper,
            "ours": ours,
            "tolerance": None if tolerance is None else float(tolerance),
            "checks": decided,
            "source": source,
            "note": note,
            "verdict": verdict(decided),
            "provenance": provenance.collect(scale=scale),
        }
    )


def erratum(
    identifier: str,
    *,
    statement: str,
    ours: float | str,
    shown: bool,
    paper: float | str | None = None,
    source: str = "",
    scale: str | None = "exact",
    note: str = "",
) -> None:
    """Record one suspected error of a paper, with whether a computation shows it.

    "paper erratum" where ``shown`` is true, "not confirmed" otherwise. ``shown`` must be computed
    in the notebook; ``statement`` says what is printed, ``ours`` what holds instead.
    """
    _publish(
        {
            "kind": "erratum",
            "id": _identifier(identifier),
            "statement": statement,
            "paper": _number(paper),
            "ours": _number(ours),
            "tolerance": None,
            "checks": {"shown": bool(shown)},
            "source": source,
            "note": note,
            "verdict": ERRATUM if shown else NOT_CONFIRMED,
            "provenance": provenance.collect(scale=scale),
        }
    )
