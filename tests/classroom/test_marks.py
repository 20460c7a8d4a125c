"""Marks, as a student sees them and as nbgrader takes them."""

from __future__ import annotations

import concurrent.futures
import contextlib
import math
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mflib.classroom import Marks, beside, close, marks, numbers, same
from mflib.theory import mean_field


@pytest.fixture
def grader(monkeypatch):
    monkeypatch.setattr(numbers, "_grading", True)
    return monkeypatch


def graded(*parts: tuple[float, object], by_hand: bool = False) -> Marks:
    """Return marks of parts, each points and what to call."""
    found = Marks(sum(points for points, _ in parts))
    for points, call in parts:
        with found.part(points, "A step.", hint="A hint.", by_hand=by_hand):
            call()
    return found


def test_each_step_that_is_right_counts(grader, capsys) -> None:
    found = graded((2, lambda: None), (1.5, lambda: 1 / 0), (0.5, lambda: close(1.0, 1.0)))
    assert found.total() == 2.5
    told = capsys.readouterr().out.splitlines()
    assert told == [
        "✓ 2 of 2: A step.",
        "✗ 0 of 1.5: A step.",
        "    Your code stopped with an error: ZeroDivisionError.",
        "    A hint.",
        "✓ 0.5 of 0.5: A step.",
    ]


def test_parts_that_do_not_add_up_are_an_error_of_the_assignment(grader) -> None:
    found = Marks(3)
    with found.part(2, "A step."):
        pass
    with pytest.raises(RuntimeError, match="parts of 2 points in a cell of 3"):
        found.total()


def test_a_student_sees_where_it_goes_wrong_and_that_more_is_to_come(capsys) -> None:
    def mistake() -> None:
        raise KeyError("the key of mine")

    found = Marks(5)
    with found.part(1, "Right."):
        pass
    assert found.total() is None
    assert "The other 4 points are given when the notebook is graded." in capsys.readouterr().out
    with found.part(1, "Wrong."):
        mistake()
    told = capsys.readouterr().out
    assert "the key of mine" in told
    assert "in mistake" in told
    assert str(marks.__file__) not in told
    with pytest.raises(AssertionError, match="1 of the steps above"):
        found.total()


@pytest.mark.parametrize("error", [SystemExit(3), ValueError("x" * 50), AssertionError("x" * 50)])
def test_while_graded_an_error_says_nothing_of_its_own(grader, capsys, error) -> None:
    def leave() -> None:
        raise error

    assert graded((1, leave)).total() == 0
    assert "xxxx" not in capsys.readouterr().out


def test_an_interrupt_is_not_a_mark() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        graded((1, interrupted))


def test_what_an_answer_prints_or_warns_of_is_dropped(grader, capsys) -> None:
    """nbgrader takes anything on stderr for a failure."""

    def noisy() -> None:
        print("mine")
        print("mine", file=sys.stderr)
        warnings.warn("mine", stacklevel=1)
        assert np.isinf(np.float64(1) / 0)

    assert graded((1, noisy)).total() == 1
    told = capsys.readouterr()
    assert told.err == ""
    assert "mine" not in told.out


def call_theory() -> None:
    mean_field.fixed_point("tanh", 1.5, 0.1)


def call_hiding() -> None:
    with contextlib.suppress(BaseException):
        list(map(mean_field.phase, ["tanh"], [1.5], [0.1]))


def call_in_a_thread() -> None:
    with concurrent.futures.ThreadPoolExecutor() as pool:
        pool.submit(call_theory).result()


@pytest.mark.parametrize("call", [call_theory, call_hiding, call_in_a_thread])
def test_code_of_the_package_is_noticed(grader, capsys, call) -> None:
    before = sys.getprofile()
    assert graded((1, call), by_hand=True).total() == 0
    assert "yours calls mflib" in capsys.readouterr().out
    assert graded((1, call), by_hand=False).total() == 1
    assert graded((1, lambda: close(np.linalg.norm([3, 4]), 5.0)), by_hand=True).total() == 1
    assert sys.getprofile() is before


@pytest.mark.parametrize(
    ("answer", "right", "note"),
    [
        (None, 1.0, "nothing"),
        ("one", 1.0, "number"),
        ([1, 2], 1.0, "number"),
        ({}, [1.0, 2.0], "array"),
        ([[1, 2], [3]], [1.0, 2.0], "array"),
        (1.0, [1.0, 2.0], "shape"),
        ([1.0, 2.0, 3.0], [1.0, 2.0], "shape"),
        (math.nan, 1.0, "finite"),
        ([1.0, math.inf], [1.0, 2.0], "finite"),
        (1.2, 1.0, "value"),
        (1j, 1.0, "number"),
        (True, 0.0, "value"),
    ],
)
def test_a_wrong_answer_is_told_by_kind(answer, right, note) -> None:
    with pytest.raises(marks.Wrong) as told:
        close(answer, right, atol=0.1)
    assert told.value.note == note


@given(
    right=st.floats(-1e6, 1e6),
    rtol=st.floats(0, 0.1),
    atol=st.floats(0, 1),
    error=st.floats(0, 1),
    times=st.floats(0, 2).filter(lambda x: abs(x - 1) > 1e-3),
    sign=st.sampled_from([-1, 1]),
)
def test_the_tolerance_is_what_it_says(right, rtol, atol, error, times, sign) -> None:
    allowed = atol + rtol * abs(right) + 4 * error
    if allowed < 1e-6 * max(abs(right), 1):
        return  # the sum below would round the difference away
    answer = right + sign * times * allowed
    given = {"rtol": rtol, "atol": atol, "standard_error": error, "sigmas": 4}
    if times < 1:
        close(answer, right, **given)
    else:
        with pytest.raises(marks.Wrong):
            close(answer, right, **given)


def test_arrays_tensors_and_words_are_compared_as_people_would() -> None:
    torch = pytest.importorskip("torch")
    close(torch.ones(3, requires_grad=True) * 2, [2, 2, 2])
    close(np.array([1.0]), 1.0)
    close([1 + 1e-9j], np.array([1 + 0j]), atol=1e-8)
    same(" Chaotic ", "chaotic")
    same(3, 3)
    for answer in (None, "ordered", np.array([1, 2]), 2):
        with pytest.raises(marks.Wrong):
            same(answer, "chaotic")


def test_an_answer_is_judged_beside_right_earlier_ones(monkeypatch) -> None:
    notebook = vars(sys.modules["__main__"])
    monkeypatch.setitem(notebook, "earlier", lambda x: x + 1)  # should have been 2 x
    monkeypatch.delitem(notebook, "open_question", raising=False)
    wrong = notebook["earlier"]

    def uses_the_name() -> None:
        close(notebook["earlier"](3) + notebook["open_question"](), 6)

    beside(uses_the_name, earlier=lambda x: 2 * x, open_question=lambda: 0)
    assert notebook["earlier"] is wrong
    assert "open_question" not in notebook
    # an answer that fits only its author's own counts as well, and one that fits neither does not
    beside(lambda: close(notebook["earlier"](3), 4), earlier=lambda x: 2 * x)
    with pytest.raises(marks.Wrong):
        beside(lambda: close(notebook["earlier"](3), 5), earlier=lambda x: 2 * x)
    assert notebook["earlier"] is wrong


def test_a_test_cell_leaves_no_names_behind_and_spoils_none(monkeypatch, grader) -> None:
    notebook = vars(sys.modules["__main__"])
    monkeypatch.setitem(notebook, "helper", "mine")
    found = Marks(0)
    notebook.update(helper="the test's", scratch=1, _private=2)
    try:
        assert found.total() == 0
        assert notebook["helper"] == "mine"
        assert "scratch" not in notebook
        assert notebook["_private"] == 2
    finally:
        del notebook["_private"]


def test_points_are_shown_as_they_are(grader) -> None:
    from IPython.core.formatters import PlainTextFormatter

    formatter = PlainTextFormatter()
    formatter.float_precision = "%.0f"
    assert formatter(0.5) == "0"
    assert formatter(graded((0.5, lambda: None)).total()) == "0.5"


def test_right_versions_may_use_the_package_and_answers_may_not(monkeypatch, grader) -> None:
    notebook = vars(sys.modules["__main__"])
    monkeypatch.setitem(notebook, "earlier", call_theory)

    def by_right_ones() -> None:
        beside(lambda: notebook["earlier"](), earlier=call_theory)

    def by_its_own() -> None:
        beside(call_theory, earlier=lambda: None)

    assert graded((1, by_right_ones), by_hand=True).total() == 1
    assert graded((1, by_its_own), by_hand=True).total() == 0
    # and what failed beside right ones is not saved by one's own that call the package
    assert (
        graded((1, lambda: beside(lambda: notebook["earlier"](), other=1)), by_hand=True).total()
        == 0
    )
