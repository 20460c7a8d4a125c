"""Checks of what callers pass in: one clear sentence before any work."""

from __future__ import annotations

import numbers
import sys
from typing import Any


def require(holds: bool, name: str, value: object, allowed: str) -> None:
    """Raise ValueError unless ``holds``."""
    if not holds:
        raise ValueError(f"{name}={value!r} must be {allowed}")


def number(name: str, value: Any, kind: type) -> Any:
    """Return a finite number of the kind; an int may stand for a float, never the reverse."""
    whole = kind is int
    good = isinstance(value, numbers.Integral if whole else numbers.Real)
    good = good and not isinstance(value, bool)
    good = good and (whole or abs(value) <= sys.float_info.max)  # false for NaN
    require(good, name, value, "an integer" if whole else "a finite number")
    return kind(value)


def count(name: str, value: Any, least: int) -> int:
    """Return an integer that is at least ``least``."""
    whole = int(number(name, value, int))
    require(whole >= least, name, value, f"at least {least}")
    return whole


def variance(name: str, value: Any) -> float:
    """Return a finite number that is not negative."""
    real = float(number(name, value, float))
    require(real >= 0, name, value, "at least 0: it is a variance")
    return real


def stability(name: str, value: Any) -> float:
    """Return a stability index in (0.5, 2]."""
    real = float(number(name, value, float))
    require(0.5 < real <= 2, name, value, "in (0.5, 2]: it is a stability index")
    return real


def interval(name: str, value: Any) -> tuple[float, float]:
    """Return two finite numbers, the lower before the higher."""
    allowed = "two finite numbers, low before high"
    require(isinstance(value, list | tuple) and len(value) == 2, name, value, allowed)
    low, high = (float(number(name, end, float)) for end in value)
    require(low < high, name, value, allowed)
    return low, high
