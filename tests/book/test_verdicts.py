"""No verdict may worsen or vanish unnoticed."""

from __future__ import annotations

import json

import pytest

from mflib import paths
from mflib.report import claims, pages

BASELINE = paths.root() / "tests" / "verdicts.json"
UPDATE = "if that is right, run: python -m mflib.report.pages --write-verdicts"


def test_verdicts_are_those_recorded(html):
    baseline = json.loads(BASELINE.read_text(encoding="utf-8"))
    worse, other = pages.compare(baseline, pages.verdicts(paths.root()))
    assert not worse, f"{' '.join(worse)} Mend it, or {UPDATE}"
    assert not other, f"{' '.join(other)} Then {UPDATE}"


def test_every_suspected_erratum_of_these_chapters_has_a_verdict():
    baseline = json.loads(BASELINE.read_text(encoding="utf-8"))
    counts = {"mft": 16, "levy": 10, "recon": 11}
    expected = {f"{paper}-{k}" for paper, n in counts.items() for k in range(1, n + 1)}
    assert expected <= baseline.keys()
    assert set(baseline.values()) <= {*claims.CLAIM_VERDICTS, *claims.ERRATUM_VERDICTS}


@pytest.mark.parametrize(
    ("was", "now", "is_worse"),
    [
        ("reproduced", "partly", True),
        ("partly", "not reproduced", True),
        ("reproduced", None, True),
        ("paper erratum", "not confirmed", True),
        ("reproduced", "paper erratum", True),
        ("partly", "reproduced", False),
        ("not confirmed", "paper erratum", False),
    ],
)
def test_a_change_of_verdict_is_told_for_better_or_worse(was, now, is_worse):
    worse, other = pages.compare({"mft-x": was}, {} if now is None else {"mft-x": now})
    assert bool(worse) == is_worse
    assert bool(other) != is_worse


def test_a_new_record_is_told():
    assert pages.compare({}, {"mft-x": "partly"}) == ([], ["mft-x is new: 'partly'."])
