"""The numbers of a student's own, drawn from the token, and which token counts when.

At the student's desk the token that was typed counts. While a submission is graded the token of
the submission's id counts (nbgrader knows the id; the grader hands the kernel that one token in
``MFLIB_TOKEN``), so that answers to somebody else's numbers are wrong answers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mflib.classroom import tokens
from mflib.classroom.notes import Wrong


@dataclass(frozen=True)
class Range:
    """The values that a number of one's own may have."""

    values: tuple[Any, ...]


def one_of(*choices: Any) -> Range:
    """Return a range of the given values; raises ValueError for fewer than two."""
    if len(choices) < 2:
        raise ValueError(f"choices={choices!r} must be at least two")
    return Range(choices)


def between(low: float, high: float, step: float) -> Range:
    """Return the range low, low + step, … up to high, each rounded to the step's own decimals.

    Raises ValueError unless low < high and step divides high − low.
    """
    steps = round((high - low) / step) if step > 0 else 0
    if steps < 1 or abs(low + steps * step - high) > 1e-9 * max(abs(low), abs(high)):
        raise ValueError(f"({low}, {high}, step={step}) must have low < high and whole steps")
    decimals = max(_decimals(low), _decimals(step))
    whole = all(isinstance(x, int) for x in (low, high, step))
    values = (low + k * step for k in range(steps + 1))
    return Range(tuple(v if whole else round(v, decimals) for v in values))


def _decimals(x: float) -> int:
    return next(d for d in range(16) if round(x, d) == x)


class Numbers(Mapping[str, Any]):
    """A student's numbers: ``numbers.sigma_b2``, and a table when shown; they cannot be changed."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        object.__setattr__(self, "_values", dict(values))

    def __getattr__(self, name: str) -> Any:
        try:
            return object.__getattribute__(self, "_values")[name]
        except KeyError:
            raise AttributeError(f"there is no number {name!r} here: {', '.join(self)}") from None

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("these numbers follow from the token and cannot be changed")

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        width = max(map(len, self), default=0)
        return "\n".join(f"{name:<{width}}  {value!r}" for name, value in self.items())


@dataclass
class _Begun:
    """What this kernel knows: the token that was typed and the assignment that was begun."""

    token: str | None = None
    assignment: str | None = None
    ranges: Mapping[str, Range] | None = None


_begun = _Begun()


def _grader() -> tuple[bool, str | None]:
    """Return whether nbgrader is grading, and the token of the submission's id, which it knows."""
    if os.environ.get("NBGRADER_EXECUTION") != "autograde":
        return False, None
    return True, os.environ.get("MFLIB_TOKEN")


# Looked at once, before any cell of a notebook can change it.
_grading, _expected = _grader()


def grading() -> bool:
    """Tell whether nbgrader is grading, rather than a student working."""
    return _grading


def token(typed: str) -> None:
    """Take a student's token, which decides every number of the assignment.

    Raises tokens.BadToken, with a sentence for the student, if it is not a token. While a
    submission is graded nothing is raised: the token of its id counts, whatever was typed.
    """
    try:
        _begun.token = tokens.read(typed)
    except tokens.BadToken as error:
        _begun.token = None
        if not grading():
            raise
        print(error)
    if grading() and _begun.token not in (None, _expected):
        print(
            "This is not the token of the id under which the notebook was handed in. "
            "It was graded with the numbers of that id."
        )


def check_token() -> None:
    """Raise Wrong unless the token typed is that of the submission's id.

    At a student's desk, where nobody knows the id, a well-formed token passes.
    """
    if _begun.token is None:
        raise Wrong("no token")
    if grading() and _begun.token != _expected:
        raise Wrong("other token")


def begin(assignment: str, **ranges: Range) -> Numbers:
    """Begin an assignment and return the numbers of whoever typed the token.

    ``begin("maps", sigma_b2=between(0.02, 0.2, step=0.01))`` gives an object with ``sigma_b2``.
    Each number depends on the token, the assignment and its own name, and on no other number.

    Raises ValueError if no token was typed, and none is expected either.
    """
    _begun.assignment, _begun.ranges = assignment, ranges
    return graded()


def graded() -> Numbers:
    """Return the numbers that an answer is checked against: those that ``begin`` returned.

    Raises ValueError if no assignment was begun, or no token typed.
    """
    if _begun.assignment is None or _begun.ranges is None:
        raise ValueError("No assignment was begun: run the cells above, from the first one on.")
    counts = _expected or _begun.token
    if counts is None:
        raise ValueError("No token was typed: fill in the first cell and run it.")
    return Numbers(
        {
            name: allowed.values[
                tokens.draw(counts, _begun.assignment, name, count=len(allowed.values))
            ]
            for name, allowed in _begun.ranges.items()
        }
    )
