"""The parameters cell is read as it is written, and nothing that it does not allow gets through."""

from __future__ import annotations

import ast
import math
from typing import Any

import pytest
import yaml
from hypothesis import assume, example, given
from hypothesis import strategies as st

from mflib import notebooks, parameters
from mflib.parameters import Choices, Interval, Parameter, Rules

CELL = """\
seed: int = 0  # seed of the draws [0, 2**32)
sigma_b2: float = 0.05  # bias variance [0, 4]
rate: float = 1e-3  # learning rate (0, 1)
activation: str = "tanh"  # activation function {tanh, erf}
depths: list[int] = [
    5,  # the shallowest
    10,
]  # depths, each [1, 1000]
limit: float | None = None  # largest value (0, inf]
plot: bool = True  # whether to draw
note: str = "σ, # and [1, 2]"  # a text (of any kind)
"""
KNOWN = parameters.parse(CELL)

FINITE = st.floats(allow_nan=False, allow_infinity=False)


def float_parameter(low: float, high: float, ends: str = "[]") -> Parameter:
    allowed = Interval(
        low, high, ends[0] == "[", ends[1] == "]", f"{ends[0]}{low}, {high}{ends[1]}"
    )
    return Parameter("x", "float", False, False, low, "", allowed)


def test_every_part_of_a_line_is_read() -> None:
    assert list(KNOWN) == [
        *("seed", "sigma_b2", "rate", "activation", "depths", "limit", "plot", "note"),
    ]
    assert KNOWN["sigma_b2"] == Parameter(
        "sigma_b2",
        "float",
        False,
        False,
        0.05,
        "bias variance",
        Interval(0, 4, True, True, "[0, 4]"),
    )
    assert KNOWN["seed"].allowed == Interval(0, 2**32, True, False, "[0, 2**32)")
    assert KNOWN["activation"].allowed == Choices(("tanh", "erf"), "{tanh, erf}")
    assert KNOWN["depths"].type == "list[int]"
    assert KNOWN["depths"].default == [5, 10]
    assert KNOWN["depths"].meaning.endswith("depths")
    assert KNOWN["limit"].type == "float | None"
    assert KNOWN["plot"].allowed is None
    assert KNOWN["note"].default == "σ, # and [1, 2]"
    assert KNOWN["note"].meaning == "a text (of any kind)"


RULED = parameters.parse(
    """\
depths: list[int] = [1, 2, 3]  # depths, not all that there are, rising, at least 3, each [1, 1000]
first: str = "a"  # one of the sets {a, b}
second: str = "b"  # another of the sets, not first {a, b, c}
third: str | None = None  # a third, not first, {a, b, c}
ends: list[int] = [1, 3]  # two ends, rising, exactly 2, each [1, 1000]
"""
)


def test_the_rules_of_a_comment_are_read_and_shown_with_its_range() -> None:
    depths, second = RULED["depths"], RULED["second"]
    assert depths.rules == Rules(rising=True, at_least=3)
    assert depths.meaning == "depths, not all that there are"
    assert depths.range == "rising, at least 3, each [1, 1000]"
    assert (second.meaning, second.range) == ("another of the sets", "not first, {a, b, c}")
    assert RULED["third"].rules == second.rules
    assert KNOWN["depths"].range == "each [1, 1000]"
    assert KNOWN["note"].range == ""


@given(st.lists(st.integers(1, 6), max_size=5))
def test_a_list_gets_through_exactly_if_it_keeps_its_rules(depths: list[int]) -> None:
    if len(depths) >= 3 and depths == sorted(set(depths)):
        assert parameters.check(RULED["depths"], depths) == depths
    else:
        with pytest.raises(ValueError, match=r"empty|too short|does not rise") as refusal:
            parameters.check(RULED["depths"], depths)
        assert "rising, at least 3 long, each entry within [1, 1000]" in str(refusal.value)


@given(st.lists(st.integers(1, 6), max_size=4))
def test_a_list_of_a_stated_length_has_that_length(ends: list[int]) -> None:
    assert RULED["ends"].range == "rising, exactly 2, each [1, 1000]"
    if len(ends) == 2 and ends[0] < ends[1]:
        assert parameters.check(RULED["ends"], ends) == ends
    else:
        with pytest.raises(ValueError, match=r"empty|too short|too long|does not rise") as refusal:
            parameters.check(RULED["ends"], ends)
        assert "rising, exactly 2 long, each entry within [1, 1000]" in str(refusal.value)


@given(*(st.sampled_from(choices) for choices in ("ab", "abc", ("a", "b", "c", None))))
def test_parameters_that_must_differ_do(first: str, second: str, third: str | None) -> None:
    values = {"first": first, "second": second, "third": third}
    if first not in (second, third):
        assert parameters.resolve(RULED, values).items() >= values.items()
    else:
        with pytest.raises(
            ValueError, match=r"is the value of first too: give a str.*, other than"
        ):
            parameters.resolve(RULED, values)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("x = 1  # no type", "line 1"),
        ("x: int", "line 1"),
        ("x: complex = 1j", "complex"),
        ("x: int = 1 + n", "x"),
        ("x: int = 5  # too large [0, 4]", "out of range"),
        ("x: int = 1.5  # no int [0, 4]", "float"),
        ("x: float = 1  # ends unclear [0, many]", "no range"),
        ("x: float = 1  # ends exchanged [4, 0]", "empty"),
        ("x: str = 'c'  # not among them {a, b}", "out of range"),
        ("x: list[int] = []  # nothing in it", "empty"),
        ("x: list[int] = [2, 1]  # falling, rising, each [0, 4]", "does not rise"),
        ("x: list[int] = [1]  # few, at least 2, each [0, 4]", "too short"),
        ("x: list[int] = [1]  # many, exactly 2, each [0, 4]", "too short"),
        ("x: list[int] = [1, 2]  # few, exactly 1, each [0, 4]", "too long"),
        ("x: list[int] = [1]  # none, exactly 0, each [0, 4]", "at least 1"),
        ("x: list[int] = [1]  # both, at least 1, exactly 1, each [0, 4]", "one of them"),
        ("x: list[int] = [1, 2]  # said twice, rising, rising, each [0, 4]", "another such"),
        ("x: int = 1  # no list, rising [0, 4]", "rule for lists"),
        ("x: int = 1  # no list, at least 1 [0, 4]", "rule for lists"),
        ("x: int = 1  # no list, exactly 1 [0, 4]", "rule for lists"),
        ("x: int = 1  # about whom, not y [0, 4]", "'not y' names no other"),
        ("x: int = 1  # about itself, not x [0, 4]", "'not x' names no other"),
        ("x: int = 1  # first [0, 4]\ny: int = 1  # second, not x [0, 4]", "value of x too"),
    ],
)
def test_an_ill_formed_line_is_refused(line: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parameters.parse(line)


@given(FINITE, FINITE, FINITE, st.sampled_from(["[]", "(]", "[)", "()"]))
def test_a_value_gets_through_exactly_if_it_lies_in_its_range(
    value: float, one: float, other: float, ends: str
) -> None:
    low, high = sorted((one, other))
    x = float_parameter(low, high, ends)
    inside = low < value < high
    inside = inside or (ends[0] == "[" and low == value) or (ends[1] == "]" and value == high)
    if ends != "[]" and low == high:
        inside = False
    if inside:
        assert parameters.from_text(x, repr(value)) == value
    else:
        with pytest.raises(ValueError, match="out of range"):
            parameters.from_text(x, repr(value))


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=6))
def test_a_list_is_read_from_a_command_line(depths: list[int]) -> None:
    bare = ",".join(map(str, depths))
    for text in (bare, f"[{bare}]", str(depths), f" {bare} "):
        assert parameters.from_text(KNOWN["depths"], text) == depths


@given(st.text(max_size=8))
def test_text_that_writes_no_int_is_refused(text: str) -> None:
    try:
        int(text)
    except ValueError:
        with pytest.raises(ValueError, match="give an int"):
            parameters.from_text(KNOWN["seed"], text)


@given(st.sampled_from(sorted(KNOWN)), st.data())
def test_a_value_of_another_type_is_refused(name: str, data: st.DataObject) -> None:
    anything: st.SearchStrategy[Any] = st.one_of(
        *(st.integers(), st.floats(), st.booleans(), st.text(), st.none(), st.binary()),
        *(st.lists(st.integers(), max_size=3), st.tuples(st.integers()), st.just({})),
    )
    value = data.draw(anything)
    parameter = KNOWN[name]
    try:
        passed = parameters.check(parameter, value)
    except ValueError:
        with pytest.raises(ValueError, match=f"^{name} = .*give a"):
            parameters.check(parameter, value)
        return
    if passed is None:
        assert parameter.optional
    elif parameter.is_list:
        assert all(type(entry) is parameters.TYPES[parameter.base] for entry in passed)
    else:
        assert type(passed) is parameters.TYPES[parameter.base]
        assert not (isinstance(passed, float) and math.isnan(passed))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(
            ("sigma_b2", text)
            for text in ("nan", "inf", "-1e-9", "4.0000001", "a", "", "1,2", "True")
        ),
        *(("seed", text) for text in ("1.0", "1e3", "-1", str(2**32), "None", "", "0x10")),
        *(("rate", text) for text in ("0", "1")),
        *(("activation", text) for text in ("Tanh", "", "relu", "tanh,erf")),
        *(("depths", text) for text in ("", "[]", "0", "5,", "5,1001", "5,x", "5.0")),
        *(("limit", text) for text in ("0", "nan", "-inf")),
        *(("plot", text) for text in ("1", "yes", "", "tru")),
    ],
)
def test_bad_text_gets_one_sentence_with_what_is_allowed(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} = ") as refusal:
        parameters.from_text(KNOWN[name], text)
    message = str(refusal.value)
    assert "\n" not in message
    assert "give a" in message
    if (allowed := KNOWN[name].allowed) is not None:
        assert allowed.text in message


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("sigma_b2", "1e-3", 1e-3),
        ("sigma_b2", "4", 4.0),
        ("limit", "inf", math.inf),
        ("limit", "None", None),
        ("plot", "false", False),
        ("activation", "'erf'", "erf"),
        ("note", "a=b, [c]", "a=b, [c]"),
        ("seed", str(2**32 - 1), 2**32 - 1),
    ],
)
def test_good_text_becomes_a_typed_value(name: str, text: str, value: object) -> None:
    got = parameters.from_text(KNOWN[name], text)
    assert got == value
    assert type(got) is type(value)


@given(
    st.sampled_from(
        [
            *((KNOWN["note"], text) for text in ("None", "'a'", " a ", "", "a b=c, [d]", '"')),
            *((KNOWN["limit"], value) for value in (None, math.inf, 1e-300, 0.1)),
            (KNOWN["plot"], False),
            (KNOWN["depths"], [3, 1]),
            (parameters.parse("x: str | None = None  # text")["x"], "None"),
            (parameters.parse('x: list[str] = ["a"]  # texts')["x"], [" a", "'b'"]),
        ]
    )
    | st.tuples(st.just(KNOWN["note"]), st.text())
    | st.tuples(st.just(KNOWN["rate"]), st.floats(0, 1, exclude_min=True, exclude_max=True))
)
def test_a_value_written_for_a_command_line_is_read_back(case: tuple[Parameter, Any]) -> None:
    parameter, value = case
    assert parameters.from_text(parameter, parameters.to_text(parameter, value)) == value


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="no parameter 'sigma_b': did you mean 'sigma_b2'"):
        parameters.resolve(KNOWN, {"sigma_b": 1.0})
    with pytest.raises(ValueError, match="known are activation, depths"):
        parameters.resolve(KNOWN, {"qqq": 1.0})


@example({"limit": math.inf})
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "seed": st.integers(0, 2**32 - 1),
            "sigma_b2": st.floats(0, 4),
            "activation": st.sampled_from(["tanh", "erf"]),
            "depths": st.lists(st.integers(1, 1000), min_size=1, max_size=5),
            "limit": st.one_of(st.none(), st.floats(0, exclude_min=True)),
            "plot": st.booleans(),
            "note": st.text(st.characters(codec="utf-8")),
        },
    )
)
def test_a_rewritten_cell_defines_the_values_and_keeps_all_comments(values: dict[str, Any]) -> None:
    resolved = parameters.resolve(KNOWN, values)
    cell = parameters.rewrite(CELL, resolved)
    defined: dict[str, Any] = {}
    exec(compile(ast.parse(cell), "cell", "exec"), defined)
    assert {name: defined[name] for name in KNOWN} == resolved
    for name in set(KNOWN) - {"depths", "limit"}:
        assert parameters.parse(cell)[name].meaning == KNOWN[name].meaning


# --- profiles ------------------------------------------------------------------------------------


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_profile_reads_every_way_to_write_a_float(value: float) -> None:
    for text in (f"{value:.17e}", repr(value), f"{value:.3e}".replace("e+", "e")):
        read = yaml.load(f"x: {text}", Loader=notebooks._Loader)["x"]
        assert type(read) is float
        assert read == float(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 1e-3), ("on", "on"), ("no", "no"), ("true", True), ("12", 12), (".inf", math.inf)],
)
def test_a_profile_reads_yaml_1_2(text: str, value: object) -> None:
    assert yaml.load(f"x: {text}", Loader=notebooks._Loader) == {"x": value}


@given(st.text(st.characters(categories=["Ll"]), min_size=1, max_size=5))
def test_a_profile_with_a_key_twice_is_refused(key: str) -> None:
    assume(key not in ("null", "true", "false"))
    with pytest.raises(ValueError, match="twice"):
        yaml.load(f"{key}: 1\n{key}: 2\n", Loader=notebooks._Loader)


# --- the chapters that there are ------------------------------------------------------------


def test_each_profile_has_a_block_for_each_chapter_and_no_other() -> None:
    for which in notebooks.profiles():
        file = notebooks.paths.notebooks() / "profiles" / f"{which}.yaml"
        blocks = yaml.load(file.read_text(), Loader=notebooks._Loader)
        assert sorted(blocks) == list(notebooks.names()), file


@pytest.mark.parametrize("name", notebooks.names())
def test_a_chapter_takes_what_every_chapter_takes(name: str) -> None:
    known = notebooks.takes(name)
    assert known["seed"].type == "int"
    assert known["device"].allowed is not None
    assert known["scale"].allowed is not None
    assert set(known["device"].allowed.values) == {"auto", "cpu", "cuda"}  # type: ignore[union-attr]
    assert set(known["scale"].allowed.values) == {"quick", "paper"}  # type: ignore[union-attr]
    unexplained = [p.name for p in known.values() if not p.meaning]
    assert not unexplained
    unbounded = [p.name for p in known.values() if p.allowed is None and p.base in ("int", "float")]
    assert not unbounded


@pytest.mark.parametrize("which", notebooks.profiles())
@pytest.mark.parametrize("name", notebooks.names())
def test_a_chapter_can_run_at_every_profile(name: str, which: str) -> None:
    assert notebooks.plan(name, which).values["scale"] == which


def test_bytes_that_are_no_text_are_refused():
    note = parameters.parse('note: str = ""  # any text')["note"]
    assert parameters.from_text(note, "café\tfür ∞") == "café\tfür ∞"
    with pytest.raises(ValueError, match="has bytes that are no text"):
        parameters.from_text(note, "caf\udce9")
