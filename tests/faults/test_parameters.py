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
    if (parameter.rules.exactly or parameter.rules.at_least or 1) > 1:
        kinds.append(st.just(good[0]))
    if parameter.rules.exactly is not None:
        kinds.append(st.just(",".join([*good, good[-1]])))
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
    for file in (*paths.notebooks().glob("*.py"), *paths.notebooks().glob("*.yaml")):
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


def _bad_axis(key: str, parameter: Parameter) -> st.SearchStrategy[tuple[str, list[str]]] | None:
    """Return what after ``--grid`` holds values that a parameter does not take, and these."""
    bad = _bad_value(parameter)
    if bad is None:
        return None
    mark = ";" if parameter.is_list else ","
    one = bad.filter(lambda text: mark not in text and text.strip() and "space(" not in text)
    many = st.lists(one, min_size=1, max_size=4, unique_by=str.strip)
    return many.map(lambda values: (f"{key}={mark.join(values)}", values))


def test_bad_points_of_a_sweep_are_all_listed_and_nothing_is_written(
    call, fault, counts, monkeypatch
):
    """Each has its line, whatever text it holds; the last line counts them."""
    from mflib.sweep import launch

    def begin(*_: object, **__: object) -> None:
        raise AssertionError("a sweep with a bad point was begun")

    monkeypatch.setattr(launch.workflow, "alone", begin)
    known = {name: notebooks.takes(name) for name in notebooks.names()}
    axes = [
        axis.map(lambda found, name=name: (name, *found))
        for name, parameters in known.items()
        for key, parameter in parameters.items()
        if (axis := _bad_axis(key, parameter)) is not None
    ]
    tried: set[tuple[str, str]] = set()
    points = 0
    began = time.perf_counter()

    @settings(
        max_examples=counts.bad_parameters // 4, deadline=None, database=None,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.one_of(axes), st.booleans())
    def check(axis: tuple[str, str, list[str]], beside: bool) -> None:
        nonlocal points
        name, grid, values = axis
        first, second = (["seed=0,1"], 2) if beside and not grid.startswith("seed") else ([], 1)
        words = [word for each in (*first, grid) for word in ("--grid", each)]
        *lines, last = call("sweep", name, *words)
        n = second * len(values)
        assert len(lines) == n, (words, lines)
        assert all(_is_a_sentence(line) for line in lines), (words, lines)
        assert last == f"mflib: {n} of {n} points cannot be run; none was begun"
        tried.add((name, grid))
        points += n

    while len(tried) < counts.bad_parameters // 4:
        check()

    # Good points beside bad ones are not begun either, and what is no grid at all is one line.
    *lines, last = call("sweep", "fc-theory", "--grid", "sigma_b2=0.05,9,nan,0.1")
    assert [line.split(": ")[1] for line in lines] == ["sigma_b2=9", "sigma_b2=nan"]
    assert last == "mflib: 2 of 4 points cannot be run; none was begun"
    for words in (
        ["--grid", "sigma_b2"], ["--grid", "a\nb=1"], ["--grid", "sigma_b2=1,,2"], [],
        ["--grid", "sigma_b2=linspace(0,1,x)"], ["--grid", "sigma_b2=logspace(0,1,3)"],
        ["--grid", "sigma_b2=linspace(0,1,99999999)"], ["--grid", "activation=linspace(0,1,3)"],
        ["--grid", "seed=1", "-p", "seed=2"], ["--grid", "seed=1", "--jobs", "0"],
        ["--grid", "seed=1", "--executor", "a\nb"], ["--grid", "seed=1", "--snakemake", "'"],
        ["--grid", "seed=1", "--profile", "x" * 5000],
    ):  # fmt: skip
        (line,) = call("sweep", "fc-theory", *words)
        assert line.startswith("mflib: ")
        assert line.isprintable()
        assert len(line) < 1000
        points += 1
    fault(
        kind="bad parameters", target="mflib sweep", times=points + 2,
        outcome="exit code 2, one sentence each, nothing written",
        seconds=time.perf_counter() - began,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["alpha\n", "x" * 5000, "\x1b[31m", "../notebooks/fc-theory", ""])
def test_odd_names_are_one_line(call, name):
    for words in (
        ["run", name],
        ["params", name],
        ["run", "fc-theory", "-o", f"no/{name}/x.ipynb"],
    ):
        (line,) = call(*words)
        assert line.startswith("mflib: ")
        assert line.isprintable()
        assert len(line) < 1000
