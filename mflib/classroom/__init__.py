"""What a notebook of an assignment calls: a student's numbers, and marks with reasons.

Everything here runs in the notebook's kernel, beside a student's code: first at the student's
desk, later while it is graded. Grading itself is nbgrader's; what it is configured with lies in
``mflib.classroom.grading``, which nothing here imports.
"""

from mflib.classroom.marks import Marks, beside, close, same
from mflib.classroom.numbers import Numbers, begin, between, check_token, graded, one_of, token

__all__ = [
    "Marks",
    "Numbers",
    "begin",
    "beside",
    "between",
    "check_token",
    "close",
    "graded",
    "one_of",
    "same",
    "token",
]
