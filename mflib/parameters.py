"""The parameters cell of a notebook: read, and held to the types and ranges that it states.

A parameter is one line, ``sigma_b2: float = 0.05  # bias variance [0, 4]``. Its comment ends in the
range, ``[lo, hi]`` with either end open as ``(lo`` or ``hi)``, or in the choices, ``{a, b}``; for a
list the range holds for each entry, and ``each`` may stand before it.

Right before that, between commas, a comment may state rules: for a list ``rising`` (each entry
above the one before) and ``at least N`` or ``exactly N`` (entries), as in
``# depths of the grids, rising, at least 3, each [1, 1000]``; for any parameter ``not OTHER`` (its
value differs from that of the parameter OTHER), as in ``# the second set, not dataset {a, b}``.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import io
import itertools
import math
import re
import reprlib
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

TYPES: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool}

_NUMBER = r"[+-]?(?:\d+\*\*\d+|inf|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
_INTERVAL = re.compile(
    rf"(?P<open>[\[(])\s*(?P<low>{_NUMBER})\s*,\s*(?P<high>{_NUMBER})\s*(?P<close>[\])])$"
)
_CHOICES = re.compile(r"\{(?P<items>[^{}]+)\}$")
_RULE = re.compile(
    r",\s*(?:(?P<rising>rising)|at least (?P<at_least>\d+)|exactly (?P<exactly>\d+)"
    r"|not (?P<differs_from>[^\W\d]\w*))$"
)
_RULES: dict[str, type] = {"rising": bool, "at_least": int, "exactly": int, "differs_from": str}


@dataclass(frozen=True)
class Interval:
    """The numbers between two ends, either of which may be left out."""

    low: float
    high: float
    includes_low: bool
    includes_high: bool
    text: str

    def __contains__(self, value: Any) -> bool:
        above = self.low <= value if self.includes_low else self.low < value
        below = value <= self.high if self.includes_high else value < self.high
        return above and below


@dataclass(frozen=True)
class Choices:
    """A few named values."""

    values: tuple[Any, ...]
    text: str

    def __contains__(self, value: Any) -> bool:
        return value in self.values


@dataclass(frozen=True)
class Rules:
    """What a comment states beside a range.

    ``rising``, and ``at_least`` or ``exactly`` so many, are of a list's entries; ``differs_from``
    names another parameter.
    """

    rising: bool = False
    at_least: int | None = None
    exactly: int | None = None
    differs_from: str | None = None

    def words(self) -> list[str]:
        """Return the rules as a comment writes them."""
        words = ["rising"] if self.rising else []
        words += [f"at least {self.at_least}"] if self.at_least is not None else []
        words += [f"exactly {self.exactly}"] if self.exactly is not None else []
        return words + ([f"not {self.differs_from}"] if self.differs_from else [])


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell; ``base`` is the type of the value, or of a list's entries."""

    name: str
    base: str
    is_list: bool
    optional: bool
    default: Any
    meaning: str
    allowed: Interval | Choices | None
    rules: Rules = Rules()

    @property
    def range(self) -> str:
        """All that the comment allows, in its own words: ``rising, at least 3, each [1, 9]``."""
        words = self.rules.words()
        if self.allowed:
            words.append(f"each {self.allowed.text}" if self.is_list else self.allowed.text)
        return ", ".join(words)

    @property
    def type(self) -> str:
        """The type as it is written in a notebook: ``float``, ``list[int]``, ``int | None``."""
        name = f"list[{self.base}]" if self.is_list else self.base
        return f"{name} | None" if self.optional else name


def _number(text: str) -> float:
    base, _, power = text.partition("**")
    return int(base) ** int(power) if power else float(text)


def _scalar(text: str, base: str) -> Any:
    """Return the value that ``text`` writes in the type ``base``; ValueError if it writes none."""
    if base == "str":
        return text
    if base == "bool":
        if text not in ("True", "true", "False", "false"):
            raise ValueError(text)
        return text in ("True", "true")
    return TYPES[base](text)


def _rules(comment: str) -> tuple[str, Rules]:
    """Split the part of a comment before its range into the meaning and the rules."""
    stated: dict[str, Any] = {}
    while found := _RULE.search(comment):
        kind = str(found.lastgroup)
        if kind in stated:
            raise ValueError(f"the comment states {found[0].strip(', ')!r} beside another such")
        stated[kind] = _RULES[kind](found[kind])
        comment = comment[: found.start()].rstrip(" ,")
    return comment, Rules(**stated)


def _range(comment: str, base: str) -> tuple[str, Rules, Interval | Choices | None]:
    """Split a comment into its meaning, the rules, and the range or the choices at its end."""
    if found := _INTERVAL.search(comment):
        low, high = _number(found["low"]), _number(found["high"])
        if not low <= high:
            raise ValueError(f"the range {found[0]} is empty")
        allowed: Interval | Choices = Interval(
            low, high, found["open"] == "[", found["close"] == "]", found[0]
        )
    elif found := _CHOICES.search(comment):
        values = tuple(_scalar(item.strip(), base) for item in found["items"].split(","))
        allowed = Choices(values, found[0])
    elif comment.endswith(("]", "}")):
        raise ValueError(f"the end of the comment {comment!r} is no range like [0, 4] or {{a, b}}")
    else:
        return comment, Rules(), None
    meaning = comment[: found.start()].rstrip(" ,")
    return *_rules(re.sub(r",?\s*\beach$", "", meaning)), allowed


def _annotation(node: ast.expr) -> tuple[str, bool, bool]:
    """Return (base, is_list, optional) of an annotation."""
    text = ast.unparse(node)
    optional = text.endswith(" | None")
    text = text.removesuffix(" | None")
    is_list = text.startswith("list[") and text.endswith("]")
    base = text[len("list[") : -1] if is_list else text
    if base not in TYPES:
        raise ValueError(
            f"the type {ast.unparse(node)} is none of int, float, str, bool, list[...]"
        )
    return base, is_list, optional


def _comments(source: str) -> dict[int, str]:
    """Return the comment on each line that has one."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {
        token.start[0]: token.string.lstrip("# ").rstrip()
        for token in tokens
        if token.type == tokenize.COMMENT
    }


def _assignments(source: str) -> Iterable[ast.AnnAssign]:
    for node in ast.parse(source).body:
        if (
            not isinstance(node, ast.AnnAssign)
            or not isinstance(node.target, ast.Name)
            or node.value is None
        ):
            raise ValueError(
                f"line {node.lineno} of the parameters cell is no 'name: type = value  # meaning'"
            )
        yield node


def parse(source: str) -> dict[str, Parameter]:
    """Return the parameters that the source of a parameters cell defines, by name, in its order.

    Raises ValueError for a line that is no typed assignment of a literal, for an unknown type, for
    a comment whose end looks like a range and is none, and for a default outside its own range.

    >>> parse("depth: int = 5  # layers [1, 100]")["depth"].allowed.text
    '[1, 100]'
    """
    comments = _comments(source)
    found: dict[str, Parameter] = {}
    for node in _assignments(source):
        assert isinstance(node.target, ast.Name)
        assert node.value is not None
        name = node.target.id
        lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
        comment = " ".join(comments[line] for line in lines if line in comments)
        try:
            base, is_list, optional = _annotation(node.annotation)
            meaning, rules, allowed = _range(comment, base)
            of_lists = dataclasses.replace(rules, differs_from=None).words()
            if of_lists and not is_list:
                raise ValueError(f"'{of_lists[0]}' is a rule for lists, and it is none")
            if 0 in (rules.at_least, rules.exactly):
                raise ValueError(f"'{of_lists[-1]}' entries: it must be at least 1")
            if rules.at_least is not None and rules.exactly is not None:
                raise ValueError(f"'{of_lists[-2]}' and '{of_lists[-1]}': one of them is enough")
            default = ast.literal_eval(node.value)
        except ValueError as error:
            raise ValueError(f"parameter {name!r}: {error}") from None
        parameter = Parameter(name, base, is_list, optional, default, meaning, allowed, rules)
        found[name] = _with_checked_default(parameter)
    for parameter in found.values():
        other = parameter.rules.differs_from
        if other is not None and (other not in found or other == parameter.name):
            raise ValueError(
                f"parameter {parameter.name!r}: 'not {other}' names no other parameter"
            )
    _check_differences(found, {name: parameter.default for name, parameter in found.items()})
    return found


def _with_checked_default(parameter: Parameter) -> Parameter:
    return Parameter(**{**vars(parameter), "default": check(parameter, parameter.default)})


_SHORTENED = reprlib.Repr()
_SHORTENED.maxstring = _SHORTENED.maxlong = _SHORTENED.maxother = 80
_SHORTENED.maxlist = 20


def shown(value: Any) -> str:
    """Return a value as an error names it: in one line, without its middle if it is long.

    >>> shown("two\\nlines")
    "'two\\\\nlines'"
    """
    return _SHORTENED.repr(value)


def _advice(parameter: Parameter) -> str:
    """Say what may be given instead."""
    rules = parameter.rules
    within = ", rising" if rules.rising else ""
    if rules.at_least is not None:
        within += f", at least {rules.at_least} long"
    if rules.exactly is not None:
        within += f", exactly {rules.exactly} long"
    if rules.differs_from is not None:
        within += f", other than {rules.differs_from}"
    if parameter.allowed:
        each = "each entry " if parameter.is_list else ""
        within += f", {each}within {parameter.allowed.text}"
    what = f"list of {parameter.base}" if parameter.is_list else parameter.base
    none = " or None" if parameter.optional else ""
    return f"give {_article(what)}{none}{within}, such as {parameter.default!r}"


def _article(what: str) -> str:
    return f"{'an' if what[0] in 'aeiou' else 'a'} {what}"


def _is_no_text(value: str) -> bool:
    """Tell whether a text has what stands for bytes of a command line that are no UTF-8."""
    return any("\ud800" <= character <= "\udfff" for character in value)


def _check_scalar(parameter: Parameter, value: Any) -> Any:
    if parameter.base == "float" and type(value) is int:
        try:
            value = float(value)
        except OverflowError:
            value = math.inf if value > 0 else -math.inf
    if isinstance(value, float):
        value += 0.0  # -0.0 is 0.0, and so one point
    if type(value) is not TYPES[parameter.base]:
        raise ValueError(
            f"{parameter.name} = {shown(value)} is {_article(type(value).__name__)}: "
            f"{_advice(parameter)}"
        )
    if isinstance(value, str) and not value.isprintable() and _is_no_text(value):
        raise ValueError(
            f"{parameter.name} = {shown(value)} has bytes that are no text: {_advice(parameter)}"
        )
    if isinstance(value, float) and math.isnan(value):
        raise ValueError(f"{parameter.name} = nan is not a number: {_advice(parameter)}")
    if parameter.allowed is None:
        if isinstance(value, float) and math.isinf(value):
            raise ValueError(
                f"{parameter.name} = {shown(value)} is not finite: {_advice(parameter)}"
            )
    elif value not in parameter.allowed:
        raise ValueError(f"{parameter.name} = {shown(value)} is out of range: {_advice(parameter)}")
    return value


def check(parameter: Parameter, value: Any) -> Any:
    """Return ``value`` in the parameter's type: an int becomes a float where one is asked for.

    Raises ValueError with one sentence that names the value, what is allowed and an example, if
    the type is another, an entry is out of range, not a number, or a list is empty, shorter or
    longer than it must be or not rising.
    """
    if value is None and parameter.optional:
        return None
    if not parameter.is_list:
        return _check_scalar(parameter, value)
    if not isinstance(value, list):
        raise ValueError(
            f"{parameter.name} = {shown(value)} is {_article(type(value).__name__)}: "
            f"{_advice(parameter)}"
        )
    if not value:
        raise ValueError(f"{parameter.name} = [] is empty: {_advice(parameter)}")
    entries = [_check_scalar(parameter, entry) for entry in value]
    least = parameter.rules.exactly or parameter.rules.at_least or 1
    if len(entries) < least:
        raise ValueError(f"{parameter.name} = {shown(value)} is too short: {_advice(parameter)}")
    if len(entries) > (parameter.rules.exactly or math.inf):
        raise ValueError(f"{parameter.name} = {shown(value)} is too long: {_advice(parameter)}")
    if parameter.rules.rising and any(a >= b for a, b in itertools.pairwise(entries)):
        raise ValueError(f"{parameter.name} = {shown(value)} does not rise: {_advice(parameter)}")
    return entries


def _check_differences(parameters: Mapping[str, Parameter], values: Mapping[str, Any]) -> None:
    """Raise ValueError where a parameter has the value of one from which it must differ."""
    for name, parameter in parameters.items():
        other = parameter.rules.differs_from
        if other is not None and values[name] is not None and values[name] == values[other]:
            raise ValueError(
                f"{name} = {shown(values[name])} is the value of {other} too: {_advice(parameter)}"
            )


def _unquoted(text: str) -> str:
    quoted = len(text) >= 2 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text


def from_text(parameter: Parameter, text: str) -> Any:
    """Return the checked value that ``text`` of a command line means: ``1,2,3`` is a list.

    Raises ValueError as `check` does.
    """
    text = text.strip()
    if parameter.optional and text in ("None", "none"):
        return None
    try:
        if not parameter.is_list:
            return check(parameter, _scalar(_unquoted(text), parameter.base))
        bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
        entries = [_unquoted(entry.strip()) for entry in bare.split(",")] if bare.strip() else []
        value = [_scalar(entry, parameter.base) for entry in entries]
    except ValueError as error:
        if str(error).startswith(f"{parameter.name} = "):
            raise
        raise ValueError(
            f"{parameter.name} = {shown(text)} is not {_article(parameter.type)}: "
            f"{_advice(parameter)}"
        ) from None
    return check(parameter, value)


def to_text(parameter: Parameter, value: Any) -> str:
    """Return how ``value`` is written on a command line, so that `from_text` gives it back.

    An entry of a list of text must hold no comma, which a command line could not tell apart.
    """
    if isinstance(value, list):
        return ",".join(_quoted_if_needed(entry) for entry in value)
    if isinstance(value, str) and parameter.optional and value.strip() in ("None", "none"):
        return f"'{value}'"
    return _quoted_if_needed(value)


def _quoted_if_needed(value: Any) -> str:
    text = str(value)
    return text if text == _unquoted(text.strip()) else f"'{text}'"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the hint that names what ``name`` may have meant, or what is known, at most 20."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    if not known:
        return "there is none"
    more = f" and {len(known) - 20} more" if len(known) > 20 else ""
    return f"known are {', '.join(known[:20])}{more}"


def resolve(parameters: Mapping[str, Parameter], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a value for every parameter: the given ones, checked, and defaults for the others.

    Raises ValueError for an unknown name, with the nearest known one, as `check` does, and for a
    value that must differ from another's and does not.
    """
    for name in given:
        if name not in parameters:
            raise ValueError(f"no parameter {shown(name)}: {nearest(name, parameters)}")
    values = {
        name: check(parameter, given[name]) if name in given else parameter.default
        for name, parameter in parameters.items()
    }
    _check_differences(parameters, values)
    return values


def _literal(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, float) and math.isinf(value):
        # A plain number that overflows: still a literal, so the cell can be read again.
        return "1e999" if value > 0 else "-1e999"
    return repr(value)


def rewrite(source: str, values: Mapping[str, Any]) -> str:
    """Return a parameters cell with ``values`` in the place of its defaults, all else as it is.

    A reader of the executed notebook then sees one cell, with the values that were used.

    >>> rewrite("depth: int = 5  # layers [1, 100]", {"depth": 7})
    'depth: int = 7  # layers [1, 100]'
    """
    lines = source.encode().splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    text = source.encode()
    for node in reversed(list(_assignments(source))):
        assert isinstance(node.target, ast.Name)
        assert node.value is not None
        if values.get(node.target.id, ...) in (..., ast.literal_eval(node.value)):
            continue
        assert node.value.end_lineno is not None
        assert node.value.end_col_offset is not None
        begin = starts[node.value.lineno - 1] + node.value.col_offset
        end = starts[node.value.end_lineno - 1] + node.value.end_col_offset
        text = text[:begin] + _literal(values[node.target.id]).encode() + text[end:]
    return text.decode()
