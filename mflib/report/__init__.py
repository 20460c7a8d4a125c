"""Figures, verdicts and provenance of the notebooks. Takes arrays and tables, computes no physics.

A notebook calls `begin` once, then `figure` for every figure, and `claim` or `erratum` for every
statement it checks. All three publish what a reader of the notebook sees and, in the output's
metadata under ``"mflib"``, the record from which the book's pages are made.
"""

from mflib.report.claims import claim, erratum
from mflib.report.figures import figure
from mflib.report.provenance import begin

__all__ = ["begin", "claim", "erratum", "figure"]
