"""Marks for the steps of an answer, each with its reason, as nbgrader takes partial credit.

A test cell of an assignment reads::

    marks = classroom.Marks(3)
    with marks.part(1, "With no input the map returns σ_b²."):
        classroom.close(length_map(0.0), mine.sigma_b2)
    ### BEGIN HIDDEN TESTS
    with marks.part(2, "The map is right elsewhere.", hint="Is σ_w² there?", by_hand=True):
        ...
    ### END HIDDEN TESTS
    marks.total()

nbgrader takes the number that a test cell ends with as its points. A student who runs the cell
sees which of the visible steps hold instead, and what went wrong in the others.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import io
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import numpy as np

from mflib.classroom.notes import NOTES, Wrong
from mflib.classroom.numbers import grading


def close(
    answer: Any,
    right: Any,
    *,
    rtol: float = 0.0,
    atol: float = 0.0,
    standard_error: Any = None,
    sigmas: float = 5.0,
) -> None:
    """Raise Wrong unless every |answer − right| ≤ atol + rtol |right| + sigmas · standard_error.

    ``answer`` is whatever a student's code gave; ``right`` a number or array, and the answer must
    have its shape. ``standard_error`` is the sampling error of answer − right, in its unit: the
    default of 5 of them fails a right answer once in 1.7 million.
    """
    if answer is None:
        raise Wrong("nothing")
    wanted = np.asarray(right)
    try:
        if hasattr(answer, "detach"):  # a tensor may lie on a graph
            answer = answer.detach().cpu()
        found = np.asarray(answer, dtype=complex if np.iscomplexobj(wanted) else float)
    except (TypeError, ValueError):
        raise Wrong("array" if wanted.ndim else "number") from None
    if found.shape != wanted.shape:
        # an array of one number is a number to most people
        if wanted.ndim or found.size != 1:
            raise Wrong("shape" if wanted.ndim else "number")
        found = found.reshape(())
    if not np.isfinite(found).all():
        raise Wrong("finite")
    error = 0.0 if standard_error is None else np.asarray(standard_error)
    if np.any(abs(found - wanted) > atol + rtol * abs(wanted) + sigmas * error):
        raise Wrong("value")


def same(answer: Any, right: Any) -> None:
    """Raise Wrong unless the answer equals ``right``, a word, a truth value or a whole number."""
    if answer is None:
        raise Wrong("nothing")
    if isinstance(answer, str) and isinstance(right, str):
        answer, right = answer.strip().casefold(), right.casefold()
    try:
        equal = bool(answer == right)
    except (TypeError, ValueError):
        equal = False
    if not equal:
        raise Wrong("value")


def beside(check: Callable[[], None], **right: Any) -> None:
    """Run a check beside right versions of earlier answers, or, failing that, beside one's own.

    ``right`` names answers of earlier questions in the notebook, such as a function that the
    answer under test calls. A slip in those is then paid once, where it was made; and an answer
    that fits its author's own earlier ones, in a form of their choice, counts too. Right versions
    may use mflib in a step that is to be done by hand.
    """
    notebook = vars(sys.modules["__main__"])
    right = {name: _unnoticed(it) if callable(it) else it for name, it in right.items()}
    own = {name: notebook[name] for name in right if name in notebook}
    try:
        notebook.update(right)
        check()
    except Exception:
        notebook.update(own)
        check()
    finally:
        for name in right:
            del notebook[name]
        notebook.update(own)


class Marks:
    """The points of one test cell, given step by step.

    ``points`` is what the cell is worth, and its parts must add up to that when all of them, the
    hidden ones too, are there. The cell leaves no names behind: ``total`` puts back those that
    were there before, but for names that begin with an underscore.
    """

    def __init__(self, points: float) -> None:
        self._before = _public_names()
        self.points = points
        self.asked = 0.0
        self.earned = 0.0
        self.failed: list[str] = []

    @contextlib.contextmanager
    def part(
        self, points: float, statement: str, *, hint: str = "", by_hand: bool = False
    ) -> Iterator[None]:
        """Give ``points`` if the block runs to its end, and say so with the ``statement``.

        ``hint`` is shown when it does not. With ``by_hand``, code of the block that reaches
        mflib's own theory or experiments earns nothing. What the block prints or warns of is
        dropped: nbgrader takes a warning for a failure.
        """
        self.asked += points
        try:
            with _silent(), _noticing(by_hand):
                yield
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self._fail(points, statement, hint, error)
        else:
            self.earned += points
            print(f"✓ {points:g} of {points:g}: {statement}")

    def _fail(self, points: float, statement: str, hint: str, error: BaseException) -> None:
        self.failed.append(statement)
        print(f"✗ 0 of {points:g}: {statement}")
        print(f"    {_reason(error)}")
        if hint:
            print(f"    {hint}")
        # An error's own words and place help at one's desk. While grading they could carry the
        # hidden steps, which are on the stack then, into the feedback.
        if not grading() and not isinstance(error, AssertionError):
            print("".join(_own_part(error)))

    def total(self) -> float | None:
        """Return the points earned while grading; at a student's desk, say how it went instead.

        Raises AssertionError at the desk if a visible step fails, so that nbgrader's own
        "validate" sees it; RuntimeError while grading if the parts do not add up to the points.
        """
        _put_back(self._before)
        if grading():
            if abs(self.asked - self.points) > 1e-9:
                raise RuntimeError(f"parts of {self.asked:g} points in a cell of {self.points:g}")
            return _Points(round(self.earned, 6))
        if self.failed:
            raise AssertionError(f"{len(self.failed)} of the steps above do not hold yet.")
        hidden = self.points - self.asked
        if hidden > 0:
            print(f"The other {hidden:g} points are given when the notebook is graded.")
        return None


class _Points(float):
    """A number that is shown as it is, whatever precision a notebook asks for."""

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(float(self)))


def _public_names() -> dict[str, Any]:
    """Return the names of the notebook, and what they stand for."""
    notebook = vars(sys.modules["__main__"])
    return {name: value for name, value in notebook.items() if not name.startswith("_")}


def _put_back(before: dict[str, Any]) -> None:
    notebook = vars(sys.modules["__main__"])
    for name in _public_names().keys() - before.keys():
        del notebook[name]
    notebook.update(before)


def _reason(error: BaseException) -> str:
    """Return one sentence on an error; while grading, one that cannot hold anything else."""
    if isinstance(error, Wrong):
        return NOTES[error.note]
    if type(error) is NameError:
        return NOTES["missing"]
    if type(error) is NotImplementedError:
        return NOTES["open"]
    if isinstance(error, AssertionError):
        return (not grading() and str(error)) or NOTES["check"]
    name = type(error).__name__
    return NOTES[name] if getattr(builtins, name, None) is type(error) else NOTES["error"]


def _own_part(error: BaseException) -> list[str]:
    """Return the traceback of an error without the frames of this module."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    return traceback.format_exception(type(error), error, frames)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Drop what is printed and warned of."""
    sink = io.StringIO()
    with (
        contextlib.redirect_stdout(sink),
        contextlib.redirect_stderr(sink),
        warnings.catch_warnings(),
        np.errstate(all="ignore"),
    ):
        warnings.simplefilter("ignore")
        yield


_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_CLASSROOM = os.path.dirname(os.path.abspath(__file__)) + os.sep


@contextlib.contextmanager
def _noticing(by_hand: bool) -> Iterator[None]:
    """Raise Wrong at the end if the block called a function of mflib, by whatever name."""
    if not by_hand:
        yield
        return
    called = False

    def notice(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal called
        name = frame.f_code.co_filename
        if name.startswith(_PACKAGE) and not name.startswith(_CLASSROOM):
            called = True

    before, elsewhere = sys.getprofile(), threading.getprofile()
    sys.setprofile(notice)
    threading.setprofile(notice)  # threads that begin meanwhile
    try:
        yield
    finally:
        sys.setprofile(before)
        threading.setprofile(elsewhere)
    if called:
        raise Wrong("package")


def _unnoticed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function whose calls into the package are not taken for the student's.

    Nor are those of a function that it is given: what the package makes of such a function may call
    back into the package, as automatic differentiation does.
    """

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        before = sys.getprofile()
        sys.setprofile(None)
        try:
            return function(*arguments, **named)
        finally:
            sys.setprofile(before)

    return call
