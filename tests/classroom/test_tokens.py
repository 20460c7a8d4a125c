"""Tokens and the numbers that follow from them."""

from __future__ import annotations

import hmac
import itertools
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mflib import classroom
from mflib.classroom import numbers, tokens

KEYS = st.binary(min_size=16, max_size=64)
IDS = st.text(min_size=1, max_size=30).filter(lambda s: s.strip())


@given(KEYS, IDS)
def test_a_token_reads_as_itself_however_it_is_typed(key: bytes, student: str) -> None:
    token = tokens.make(key, student)
    assert tokens.read(token) == token
    assert tokens.read(f"  {token.upper().replace('-', ' ')} ") == token
    assert tokens.read(token.replace("-", "")) == token
    assert tokens.make(key, f" {student}\n") == token


@given(KEYS, IDS, st.data())
def test_one_wrong_symbol_or_two_that_swapped_are_found(
    key: bytes, student: str, data: st.DataObject
) -> None:
    symbols = tokens.make(key, student).replace("-", "")
    at = data.draw(st.integers(0, len(symbols) - 1))
    wrong = data.draw(st.sampled_from(tokens.ALPHABET.replace(symbols[at], "")))
    with pytest.raises(tokens.BadToken, match="nobody's token"):
        tokens.read(symbols[:at] + wrong + symbols[at + 1 :])
    one, two = sorted(data.draw(st.lists(st.integers(0, 11), min_size=2, max_size=2, unique=True)))
    swapped = list(symbols)
    swapped[one], swapped[two] = swapped[two], swapped[one]
    if symbols[one] != symbols[two]:
        with pytest.raises(tokens.BadToken, match="nobody's token"):
            tokens.read("".join(swapped))


def test_a_token_is_a_keyed_hash() -> None:
    """The same as HMAC-SHA256 in base 31 by other arithmetic, and another under another key."""
    key = bytes(range(32))
    value = int(hmac.new(key, b"mflib token\0" + b"id-7", "sha256").hexdigest(), 16)
    digits = [value // 31**place % 31 for place in range(11)]
    token = tokens.make(key, "id-7").replace("-", "")
    assert [tokens.ALPHABET.index(symbol) for symbol in token[:-1]] == digits
    weighted = sum(place * tokens.ALPHABET.index(symbol) for place, symbol in enumerate(token, 1))
    assert weighted % 31 == 0
    assert tokens.make(bytes(32), "id-7") != tokens.make(key, "id-7")
    # one id in two spellings of Unicode
    assert tokens.make(key, "e\u0301") == tokens.make(key, "\u00e9")


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("", "Type the token"),
        ("   ", "Type the token"),
        ("abcd-efgh", "has 12 letters and digits, and this has 8"),
        ("0bcd-efgh-jkmn", "No token contains '0'"),
        ("abcd-efgh-jkm", "has 12 letters and digits, and this has 11"),
        (None, "between quotes"),
        (12, "between quotes"),
    ],
)
def test_what_is_not_a_token_gets_one_sentence(typed: object, sentence: str) -> None:
    with pytest.raises(tokens.BadToken, match=sentence):
        tokens.read(typed)


@given(st.text(max_size=40))
def test_any_text_is_a_token_or_refused(typed: str) -> None:
    refused = ""
    try:
        token = tokens.read(typed)
    except tokens.BadToken as error:
        refused = str(error)
        assert refused.endswith(".")
    else:
        assert tokens.read(token) == token
    assert len(refused) < 200


def test_a_key_that_is_missing_or_spoilt_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="or run 'make tokens' to make one"):
        tokens.load_key(tmp_path / "token.key")
    for spoilt in ("not a key", "", "ab12"):
        (tmp_path / "token.key").write_text(spoilt)
        with pytest.raises(ValueError, match="or delete it and run 'make tokens'"):
            tokens.load_key(tmp_path / "token.key")
    with pytest.raises(ValueError, match="at least 16"):
        tokens.make(b"short", "id")
    with pytest.raises(ValueError, match="at least one character"):
        tokens.make(bytes(32), " ")


def test_numbers_are_uniform_and_independent() -> None:
    """Chi-squared over many tokens, of one number and of pairs; a limit that 1 in 1e6 exceeds."""
    key, size = bytes(32), 6000
    drawn = [
        tuple(tokens.draw(tokens.make(key, f"id-{k}"), "maps", name, count=5) for name in "ab")
        for k in range(size)
    ]
    for observed, cells, limit in (
        ([a for a, _ in drawn], list(range(5)), 33.4),  # 4 degrees of freedom
        (drawn, list(itertools.product(range(5), repeat=2)), 74.0),  # 24
    ):
        expected = size / len(cells)
        chi2 = sum((observed.count(cell) - expected) ** 2 / expected for cell in cells)
        assert chi2 < limit


@given(
    st.integers(-50, 50),
    st.integers(1, 60),
    st.sampled_from([1, 2, 5, 0.5, 0.25, 0.1, 0.05, 0.01, 0.001]),
)
def test_a_range_runs_from_end_to_end_in_round_numbers(low: int, steps: int, step: float) -> None:
    high = round(low + steps * step, 6)
    values = classroom.between(low, high, step=step).values
    assert len(values) == steps + 1
    assert values[0] == low
    assert values[-1] == high
    assert all(len(repr(float(v))) <= 9 for v in values)


@pytest.mark.parametrize("wrong", [(1, 1, 0.1), (2, 1, 0.1), (0, 1, 0.3), (0, 1, 0), (0, 1, -1)])
def test_a_range_that_is_none_is_refused(wrong: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="whole steps"):
        classroom.between(*wrong)
    with pytest.raises(ValueError, match="at least two"):
        classroom.one_of("only")


@pytest.fixture
def desk(monkeypatch):
    """A fresh desk, where nothing was typed, away from any grader."""
    monkeypatch.setattr(numbers, "_grading", False)
    monkeypatch.setattr(numbers, "_expected", None)
    monkeypatch.setattr(numbers, "_begun", numbers._Begun())
    return monkeypatch


RANGES = {"a": classroom.between(1, 10**6, step=1), "b": classroom.one_of("x", "y")}


def test_numbers_follow_from_the_token_and_cannot_be_changed(desk) -> None:
    token = tokens.make(bytes(32), "id")
    with pytest.raises(ValueError, match="fill in the first cell"):
        classroom.begin("maps", **RANGES)
    classroom.token(token.upper())
    mine = classroom.begin("maps", **RANGES)
    assert mine.a == RANGES["a"].values[tokens.draw(token, "maps", "a", count=10**6)]
    assert mine["b"] in "xy"
    assert list(mine) == ["a", "b"]
    assert f"a  {mine.a}" in repr(mine)
    assert classroom.graded() == mine
    # one number does not depend on which others there are, and does on the assignment
    assert classroom.begin("maps", a=RANGES["a"]).a == mine.a
    assert classroom.begin("tails", **RANGES).a != mine.a
    with pytest.raises(AttributeError, match="cannot be changed"):
        mine.a = 3
    with pytest.raises(AttributeError, match="no number 'c' here: a, b"):
        _ = mine.c


def test_a_submission_is_graded_with_the_numbers_of_its_id(desk, capsys) -> None:
    own, other = (tokens.make(bytes(32), student) for student in ("own", "other"))
    classroom.token(own)
    right = classroom.begin("maps", **RANGES)
    classroom.check_token()
    desk.setattr(numbers, "_grading", True)
    desk.setattr(numbers, "_expected", own)
    for typed, sentence in ((other, "not the token of the id"), ("", "Type"), (own, "")):
        classroom.token(typed)
        told = capsys.readouterr().out
        assert sentence in told
        assert own not in told
        assert classroom.begin("maps", **RANGES) == right
        if typed == own:
            classroom.check_token()
        else:
            with pytest.raises(AssertionError):
                classroom.check_token()


def test_whose_submission_it_is_was_settled_before_a_notebook_begins() -> None:
    code = """
import os
from mflib import classroom
from mflib.classroom import numbers
os.environ["MFLIB_TOKEN"] = "another"
os.environ.pop("NBGRADER_EXECUTION", None)
print(numbers.grading(), numbers._expected)
"""

    def told(**more: str) -> str:
        environment = {k: v for k, v in os.environ.items() if k != "NBGRADER_EXECUTION"}
        return subprocess.run(
            [sys.executable, "-c", code],
            env={**environment, **more},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    assert told(NBGRADER_EXECUTION="autograde", MFLIB_TOKEN="own") == "True own"
    assert told(NBGRADER_EXECUTION="validate", MFLIB_TOKEN="own") == "False None"
    assert told(MFLIB_TOKEN="own") == "False None"
