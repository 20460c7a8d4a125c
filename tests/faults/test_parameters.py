"""Generated bad input for the real chapters: exit code 2, one sentence, nothing written."""

from __future__ import annotations

import math
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from mflib import cli, notebooks, paths
from mflib.parameters import Choices, Interval, Parameter

# What a shell can hand over: any text but the null character.
ANY_TEXT = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]))
ODD_TEXT = st.sampled_from(
    ["", " ", "\n", "a\nb", "=", "==", "-", "--", "1 2", "[", "]", "[]", ",", "None,", "é", "🙂",
     "٣٫٥", "\u202e1", "\x1b[31m", "'", '"', "x" * 5000, "9" * 5000, "1e", "0x10", "1/2", "nan(1)"]
)  # fmt: skip
NOT_WHOLE = st.sampled_from(["1.5", "1e3", "nan", "inf", "True", "one", "1,5 ", "²"]) | ODD_TEXT
NOT_A_NUMBER = st.sampled_from(["nan", "NaN", "-nan", "True", "one", "1,5", "1..2"]) | ODD_TEXT


def _is(kind: type, text: str) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True


def _outside(allowed: Interval, base: str) -> st.SearchStrategy[str]:
    """Return numbers that an interval does not hold."""
    kinds: list[st.SearchStrategy[float]] = []
    whole = base == "int"
    if math.isfinite(allowed.low):
        kinds.append(st.integers(1, 10**30).map(lambda less: allowed.low - less))
        if not allowed.includes_low:
            kinds.append(st.just(allowed.low))
    if math.isfinite(allowed.high):
        kinds.append(st.integers(1, 10**30).map(lambda more: allowed.high + more))
        if not allowed.includes_high:
            kinds.append(st.just(allowed.high))
    if not whole:
        kinds.append(st.just(math.nan))
        kinds += [st.just(end) for end in (math.inf, -math.inf) if end not in allowed]
    return st.one_of(kinds).map(lambda value: str(int(value)) if whole else repr(value))


def _bad_entry(parameter: Parameter) -> st.SearchStrategy[str]:
    """Return texts that are no value, or no entry, of a parameter."""
    allowed = parameter.allowed
    if isinstance(allowed, Choices):
        known = {str(value) for value in allowed.values}
        return (ODD_TEXT | ANY_TEXT | st.sampled_from(sorted(known)).map(lambda k: f"{k}_")).filter(
            lambda text: text.strip().strip("'\"") not in known and "," not in text
        )
    if parameter.base == "bool":
        words = {"True", "true", "False", "false"}
        return (st.sampled_from(["yes", "1", "TRUE"]) | ODD_TEXT).filter(
            lambda text: text.strip().strip("'\"") not in words and "," not in text
        )
    kinds = [
        (NOT_WHOLE if parameter.base == "int" else NOT_A_NUMBER).filter(
            lambda text: (
                not (
                    _is(int if parameter.base == "int" else float, text.strip().strip("'\""))
                    and "nan" not in text.lower()
                )
            )
        )
    ]
    if isinstance(allowed, Interval):
        kinds.append(_outside(allowed, parameter.base))
    return st.one_of(kinds)


def _bad_value(parameter: Parameter) -> st.SearchStrategy[str] | None:
    """Return texts that a parameter does not take; None where it takes any."""
    if parameter.base == "str" and parameter.allowed is None:
        return None
    bad = _bad_entry(parameter)
    if parameter.optional:
        bad = bad.filter(lambda text: text.strip() not in ("None", "none"))
    if not parameter.is_list:
        return bad
    good = [str(entry) for entry in parameter.default]

    def among(entry: str, place: int) -> str:
        return ",".join([*good[:place], entry, *good[place:]])

    places = st.integers(0, len(good))
    # An empty entry at the end of a whole list would be the list without it, but for its comma.
    kinds = [st.builds(among, bad, places), st.sampled_from(["", "[]", " ", "[ ]"])]
    if parameter.rules.rising and len(good) > 1:
        kinds.append(st.just(",".join(reversed(good))))
        kinds.append(places.map(lambda place: among(good[place - 1], place or len(good))))
    if (parameter.rules.at_least or 1) > 1:
        kinds.append(st.just(good[0]))
    return st.one_of(kinds)


def _bad_pair(known: dict[str, Parameter]) -> st.SearchStrategy[tuple[str, ...]]:
    """Return what after ``-p`` names no parameter, or gives it what it does not take."""
    name = st.sampled_from(sorted(known))
    misspelt = name.flatmap(
        lambda n: st.sampled_from([n + "_", n[1:], n.upper(), n.replace("_", "-") + "x"])
    )
    unknown = (misspelt | ODD_TEXT | ANY_TEXT).filter(
        lambda text: text.strip() not in known and "=" not in text
    )
    valued = {key: bad for key, each in known.items() if (bad := _bad_value(each)) is not None}
    wrong = st.sampled_from(sorted(valued)).flatmap(
        lambda key: valued[key].map(lambda text: f"{key}={text}")
    )
    return st.one_of(
        wrong.map(lambda pair: (pair,)),
        wrong.map(lambda pair: (pair,)),
        st.builds(lambda n, value: (f"{n}={value}",), unknown, ANY_TEXT | ODD_TEXT),
        unknown.map(lambda text: (text,)),
        name.map(lambda n: (f"{n}=1", f"{n}=2")),
        unknown.map(lambda n: (f"{n}=1", f"{n}=2")),
    )


@pytest.fixture
def chapters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the chapters of the book and their profiles, to be left as it is."""
    root = tmp_path / "project"
    (root / "notebooks").mkdir(parents=True)
    for file in paths.notebooks().glob("*.py"):
        shutil.copy(file, root / "notebooks")
    shutil.copytree(paths.notebooks() / "profiles", root / "notebooks" / "profiles")
    monkeypatch.setenv("MFLIB_ROOT", str(root))
    monkeypatch.setenv("MFLIB_CACHE", str(root / "cache"))
    monkeypatch.setenv("MFLIB_RUNS", str(root / "runs"))
    monkeypatch.chdir(root)

    def execute(*_: object, **__: object) -> None:
        raise AssertionError("a bad set of parameters was executed")

    monkeypatch.setattr(notebooks, "execute", execute)
    return root


@pytest.fixture
def call(chapters: Path) -> Iterator[Callable[..., list[str]]]:
    """Return what gives bad input to the command line, and what it says, line by line."""
    before = sorted((path, path.stat().st_mtime_ns) for path in chapters.rglob("*"))
    handler = signal.getsignal(signal.SIGTERM)
    runner = CliRunner()

    def say(*words: str) -> list[str]:
        done = runner.invoke(cli.app, list(words), catch_exceptions=False)
        assert done.exit_code == 2, (words, done.output)
        assert done.stdout == ""
        after = sorted((path, path.stat().st_mtime_ns) for path in chapters.rglob("*"))
        assert after == before, words
        assert done.stderr.endswith("\n")
        return done.stderr.removesuffix("\n").split("\n")

    yield say
    signal.signal(signal.SIGTERM, handler)


def _is_a_sentence(line: str) -> bool:
    """Tell whether a line of a terminal says what is wrong and what to do, at a readable length."""
    return (
        line.startswith("mflib: ")
        and line.isprintable()
        and len(line) < 1000
        and any(mark in line for mark in (": give", "did you mean", "known are", ": write"))
    )


def test_bad_parameters_are_one_sentence_and_nothing_is_written(call, fault, counts):
    known = {name: notebooks.takes(name) for name in notebooks.names()}
    tried: set[tuple[str, ...]] = set()
    began = time.perf_counter()

    @settings(
        max_examples=counts.bad_parameters, deadline=None, database=None,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.data())
    def check(data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(known)))
        bad = data.draw(_bad_pair(known[name]))
        first = next(iter(known[name].values()))
        # Good parameters beside it do not help.
        good = data.draw(st.sampled_from([(), (f"{first.name}={first.default}",)]))
        pairs = [
            *bad,
            *(g for g in good if g.partition("=")[0] != bad[0].partition("=")[0].strip()),
        ]
        words = [word for pair in data.draw(st.permutations(pairs)) for word in ("-p", pair)]
        said = call("run", name, *words)
        assert len(said) == 1, (words, said)
        assert _is_a_sentence(said[0]), (words, said)
        tried.add((name, *words))

    while len(tried) < counts.bad_parameters:
        check()
    fault(
        kind="bad parameters", target="mflib run", times=len(tried),
        outcome="exit code 2, one sentence, nothing written", seconds=time.perf_counter() - began,
    )  # fmt: skip
