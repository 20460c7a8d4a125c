"""Checks of what callers pass in: one clear sentence before any work."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Rows = NDArray[np.signedinteger[Any]]  # positions in a flat array

# Elements that one pass keeps in memory: small enough for the cache, large enough for numpy.
CHUNK_ELEMENTS = 1 << 18


def number(name: str, value: ArrayLike, low: float, high: float = np.inf) -> Array:
    """Return ``value`` as float64 after checking that it is finite and in [low, high]."""
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "iufb":
            raise TypeError
        array = array.astype(np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            f"{name} must be a real number or an array of them, not {value!r}."
        ) from None
    wrong = ~(np.isfinite(array) & (array >= low) & (array <= high))
    if wrong.any():
        first = array[wrong].flat[0]
        limit = f" in [{low:g}, {high:g}]" if np.isfinite(high) else f" of at least {low:g}"
        limit = "" if np.isinf(low) else limit
        raise ValueError(f"{name} = {first:g} is out of range: give finite values{limit}.")
    return array


def broadcast(**named: Array) -> tuple[Array, ...]:
    """Broadcast arrays together, naming them and their shapes when they do not fit."""
    try:
        return tuple(np.array(a) for a in np.broadcast_arrays(*named.values()))
    except ValueError:
        shapes = ", ".join(f"{name} {a.shape}" for name, a in named.items())
        raise ValueError(f"These shapes do not broadcast: {shapes}; add or drop axes.") from None


def chunks(size: int, elements_each: int) -> Iterator[slice]:
    """Yield slices of range(size) that keep one pass near CHUNK_ELEMENTS elements."""
    step = max(1, CHUNK_ELEMENTS // max(1, elements_each))
    for start in range(0, size, step):
        yield slice(start, min(size, start + step))
