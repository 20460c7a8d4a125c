"""The description of a sweep: which notebook, at which points. Nothing is executed here.

A sweep is a grid, points listed one by one, or both; a YAML file says the same as the command line.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mflib import notebooks, parameters
from mflib.notebooks import Plan
from mflib.parameters import Parameter

MOST_POINTS = 10_000

RANGES = ("linspace", "logspace")

_KEYS = ("notebook", "profile", "parameters", "grid", "points", "show")

_RANGE = re.compile(
    r"\s*(?P<kind>[a-z]+)\(\s*(?P<low>[^,()]+),(?P<high>[^,()]+),(?P<n>[^,()]+)\)\s*"
)


@dataclass(frozen=True)
class Sweep:
    """What was asked for: values as they were given, text where it came from a command line.

    ``grid`` maps a parameter to its values, of which every combination is a point; ``listed``
    holds further points; ``fixed`` holds at all of them. ``show`` names the result that the figure
    shows.
    """

    notebook: str
    profile: str = notebooks.DEFAULT_PROFILE
    fixed: Mapping[str, Any] = field(default_factory=dict)
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    listed: Sequence[Mapping[str, Any]] = ()
    show: str | None = None

    def given(self) -> list[dict[str, Any]]:
        """Return what each point gives, beside the fixed values: the grid's, then the listed."""
        of_grid = itertools.product(*self.grid.values()) if self.grid else ()
        points = [dict(zip(self.grid, values, strict=True)) for values in of_grid]
        return points + [dict(point) for point in self.listed]

    def varied(self) -> tuple[str, ...]:
        """Return the parameters that points give, in the order in which they are first named."""
        return tuple(dict.fromkeys([*self.grid, *itertools.chain(*self.listed)]))


@dataclass(frozen=True)
class Bad:
    """A point that cannot be run, in the words in which it was given, and why."""

    point: str
    why: str


def evenly(kind: str, low: Any, high: Any, n: Any, parameter: Parameter) -> list[Any]:
    """Return ``n`` numbers from ``low`` to ``high``, at equal steps or (logspace) equal ratios.

    They are rounded to twelve digits, so that 0.3 is 0.3 by whichever steps it was reached, and
    for a parameter of whole numbers to these, none twice. Raises ValueError for what is no range.
    """
    what = f"{parameter.name}: {kind}({low}, {high}, {n})"
    if kind not in RANGES:
        raise ValueError(f"{what} is no range: write linspace(low, high, n) or logspace(...)")
    if parameter.is_list or parameter.base not in ("int", "float"):
        raise ValueError(
            f"{what} is a range, but {parameter.name} is {parameter.type}: list its values"
        )
    try:
        first, last, count = float(low), float(high), int(n)
        if not (math.isfinite(first) and math.isfinite(last)) or count != float(n):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            f"{what} needs two finite numbers and a whole number of points: write "
            "linspace(0.1, 0.5, 5)"
        ) from None
    if not 2 <= count <= MOST_POINTS:
        raise ValueError(f"{what} has {count} points: give 2 to {MOST_POINTS}")
    if kind == "logspace" and not (first > 0 and last > 0):
        raise ValueError(f"{what} is by equal ratios, so both ends must be above 0")
    shares = [i / (count - 1) for i in range(count)]
    if kind == "linspace":
        values = [first + (last - first) * share for share in shares]
    else:
        ends = math.log(first), math.log(last)  # their ratio may be more than a number holds
        values = [math.exp(ends[0] + (ends[1] - ends[0]) * share) for share in shares]
        values[0] = first
    values[-1] = last
    if not all(map(math.isfinite, values)):
        raise ValueError(f"{what} spans more than numbers of a computer do: give closer ends")
    if parameter.base == "int":
        return list(dict.fromkeys(round(value) for value in values))
    return [float(f"{value:.12g}") for value in values]


def _axis(text: str, parameter: Parameter) -> list[Any]:
    """Return the values that the text after ``--grid name=`` writes.

    Commas part them; for a parameter that is a list, whose entries have commas, semicolons do.
    """
    if found := _RANGE.fullmatch(text):
        return evenly(found["kind"], found["low"], found["high"], found["n"], parameter)
    values = [value.strip() for value in text.split(";" if parameter.is_list else ",")]
    if not all(values):
        mark = ";" if parameter.is_list else ","
        raise ValueError(
            f"{parameter.name}={text!r} has an empty value: write {parameter.name}=first{mark}"
            "second, or a range like linspace(0.1, 0.5, 5)"
        )
    return values


def _known(name: str, notebook: str, known: Mapping[str, Parameter]) -> Parameter:
    if name not in known:
        raise ValueError(f"no parameter {name!r} in {notebook}: {parameters.nearest(name, known)}")
    return known[name]


def _check_once(varied: Mapping[str, Any], fixed: Mapping[str, Any]) -> None:
    for name in varied:
        if name in fixed:
            raise ValueError(f"{name} is both fixed and varied: give it once")


def from_options(
    notebook: str,
    grid: Mapping[str, str],
    *,
    profile: str = notebooks.DEFAULT_PROFILE,
    fixed: Mapping[str, str] | None = None,
    show: str | None = None,
) -> Sweep:
    """Return the sweep that a command line describes: ``{"sigma_b2": "0.01,0.05"}`` and so on.

    Raises ValueError for a parameter that the notebook does not have or that is given twice, an
    empty grid, and a range that is none.
    """
    known = notebooks.takes(notebook)
    axes = {name: _axis(text, _known(name, notebook, known)) for name, text in grid.items()}
    _check_once(axes, fixed or {})
    if not axes:
        raise ValueError(
            "a sweep needs something that varies: give, for example, --grid seed=0,1,2"
        )
    return Sweep(notebook, profile, dict(fixed or {}), axes, (), show)


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"{what} is no list of 'parameter: value' lines")
    return value


def _file_axis(name: str, values: Any, parameter: Parameter) -> list[Any]:
    if isinstance(values, dict):
        kind, span = next(iter(values.items()), ("", None))
        if len(values) != 1 or not isinstance(span, list) or len(span) != 3:
            raise ValueError(
                f"grid: {name}: {values!r} is no range: write {{linspace: [0.1, 0.5, 5]}} or "
                "{logspace: [0.01, 1, 5]}"
            )
        low, high, n = span
        return evenly(kind, low, high, n, parameter)
    if not isinstance(values, list) or not values:
        raise ValueError(
            f"grid: {name}: {values!r} is no list of values: write [first, second], or a range "
            "like {linspace: [0.1, 0.5, 5]}"
        )
    return values


def from_file(file: Path, *, show: str | None = None) -> Sweep:
    """Return the sweep that a YAML file describes; ``show``, if given, comes over the file's.

    Its keys are ``notebook``, ``profile``, ``parameters`` (the same at every point), ``grid``
    (a list of values or a range for each parameter), ``points`` (a list of points) and ``show``.
    Raises ValueError as `from_options`, and where the file cannot be read or has another key.
    """
    try:
        content = notebooks.read_yaml(file)
    except OSError as error:
        raise ValueError(f"{file} cannot be read ({error.strerror}): give another file") from None
    content = _mapping(content, str(file))
    for key in content:
        if key not in _KEYS:
            raise ValueError(f"{file}: no key {key!r}: {parameters.nearest(key, _KEYS)}")
    name = content.get("notebook")
    if not isinstance(name, str):
        raise ValueError(f"{file}: which notebook? Add a line like 'notebook: fc-theory'")
    profile = content.get("profile", notebooks.DEFAULT_PROFILE)
    if not isinstance(profile, str):
        raise ValueError(f"{file}: profile: {profile!r} is no name: write 'profile: quick'")
    named = content.get("show")
    if named is not None and not isinstance(named, str):
        raise ValueError(f"{file}: show: {named!r} is no name of a result")
    try:
        known = notebooks.takes(name)
        axes = {
            key: _file_axis(key, values, _known(key, name, known))
            for key, values in _mapping(content.get("grid"), "grid").items()
        }
        fixed = _mapping(content.get("parameters"), "parameters")
        _check_once(axes, fixed)
        points = content.get("points") or []
        if not isinstance(points, list):
            raise ValueError("points is no list: write '- {seed: 1}' for each")
        listed = [_mapping(point, f"point {n}") for n, point in enumerate(points, 1)]
        for point in listed:
            _check_once(point, fixed)
        if not axes and not listed:
            raise ValueError("nothing varies: add a grid or points")
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    return Sweep(name, profile, fixed, axes, listed, show or named)


def _written(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except ValueError:  # a list that holds itself, which YAML can write
        return parameters.shown(value)


def words(given: Mapping[str, Any]) -> str:
    """Return a point as a reader would write it: ``sigma_b2=0.05, activation=erf``."""
    return ", ".join(
        f"{name}={value if isinstance(value, str) else _written(value)}"
        for name, value in given.items()
    )


def decide(sweep: Sweep, *, elsewhere: bool = False) -> tuple[list[Plan], list[Bad]]:
    """Return the executions of a sweep, none twice, and the points that cannot be run.

    ``elsewhere`` as in `notebooks.Planner`. Raises ValueError where no point can: there is no such
    notebook or profile, or there are more points than MOST_POINTS.
    """
    n = math.prod(map(len, sweep.grid.values())) if sweep.grid else 0
    if n + len(sweep.listed) > MOST_POINTS:
        raise ValueError(
            f"{n + len(sweep.listed)} points are more than {MOST_POINTS}: make several sweeps"
        )
    planner = notebooks.Planner(sweep.notebook, sweep.profile, elsewhere=elsewhere)
    plans: dict[str, Plan] = {}
    bad: list[Bad] = []
    for given in sweep.given():
        try:
            plan = planner.given({**sweep.fixed, **given})
        except ValueError as error:
            bad.append(Bad(words(given), str(error)))
        else:
            plans.setdefault(plan.point(), plan)
    return list(plans.values()), bad


def name(sweep: Sweep, plans: Sequence[Plan]) -> str:
    """Return the name of a sweep, from its points' values: the same after a change of code."""
    content = json.dumps(
        [sweep.notebook, sweep.profile, [plan.values for plan in plans]], sort_keys=True
    )
    return hashlib.sha256(content.encode()).hexdigest()[:12]
