"""Automatic differentiation to second order through numpy's own functions.

A jet holds f, f′ and f″ at an array of points. Numpy hands every ufunc applied to a jet to
``__array_ufunc__``, so a user's function written with numpy or scipy.special runs unchanged, and
its derivatives are exact to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from scipy import special

from mflib.theory._arrays import Array

# ufunc -> (f, f', f'') of one argument
Rule = Callable[[Array], tuple[Array, Array, Array]]


# where pieces of a function met: |x| at 0, max(x, y) at x = y
_meetings: ContextVar[list[Array] | None] = ContextVar("_meetings", default=None)


def _meet(at: Array) -> None:
    found = _meetings.get()
    if found is not None and np.any(at):
        found.append(at)


def _absolute(x: Array) -> tuple[Array, Array, Array]:
    _meet(x == 0)
    return np.abs(x), np.sign(x), np.zeros_like(x)


def _logistic(x: Array) -> tuple[Array, Array, Array]:
    s = special.expit(x)
    slope = s * special.expit(-x)
    return s, slope, -slope * np.tanh(x / 2)


def _tanh(x: Array) -> tuple[Array, Array, Array]:
    t = np.tanh(x)
    e = np.exp(-2 * np.abs(x))
    slope = 4 * e / (1 + e) ** 2
    return t, slope, -2 * t * slope


def _erf(x: Array) -> tuple[Array, Array, Array]:
    slope = 2 / np.sqrt(np.pi) * np.exp(-x * x)
    return special.erf(x), slope, -2 * x * slope


def _erfc(x: Array) -> tuple[Array, Array, Array]:
    slope = -2 / np.sqrt(np.pi) * np.exp(-x * x)
    return special.erfc(x), slope, -2 * x * slope


def _ndtr(x: Array) -> tuple[Array, Array, Array]:
    slope = np.exp(-x * x / 2) / np.sqrt(2 * np.pi)
    return special.ndtr(x), slope, -x * slope


_RULES: dict[Any, Rule] = {
    np.negative: lambda x: (-x, -np.ones_like(x), np.zeros_like(x)),
    np.positive: lambda x: (x, np.ones_like(x), np.zeros_like(x)),
    np.absolute: _absolute,
    np.fabs: _absolute,
    np.sign: lambda x: (np.sign(x), np.zeros_like(x), np.zeros_like(x)),
    np.exp: lambda x: (np.exp(x), np.exp(x), np.exp(x)),
    np.expm1: lambda x: (np.expm1(x), np.exp(x), np.exp(x)),
    np.log: lambda x: (np.log(x), 1 / x, -1 / x**2),
    np.log1p: lambda x: (np.log1p(x), 1 / (1 + x), -1 / (1 + x) ** 2),
    np.sqrt: lambda x: (np.sqrt(x), 0.5 / np.sqrt(x), -0.25 * x**-1.5),
    np.square: lambda x: (x * x, 2 * x, np.full_like(x, 2.0)),
    np.reciprocal: lambda x: (1 / x, -1 / x**2, 2 / x**3),
    np.sin: lambda x: (np.sin(x), np.cos(x), -np.sin(x)),
    np.cos: lambda x: (np.cos(x), -np.sin(x), -np.cos(x)),
    np.sinh: lambda x: (np.sinh(x), np.cosh(x), np.sinh(x)),
    np.cosh: lambda x: (np.cosh(x), np.sinh(x), np.cosh(x)),
    np.tanh: _tanh,
    np.arctan: lambda x: (np.arctan(x), 1 / (1 + x * x), -2 * x / (1 + x * x) ** 2),
    np.arcsinh: lambda x: (np.arcsinh(x), (1 + x * x) ** -0.5, -x * (1 + x * x) ** -1.5),
    special.expit: _logistic,
    special.erf: _erf,
    special.erfc: _erfc,
    special.ndtr: _ndtr,
}


def _parts(value: Any) -> tuple[Any, Any, Any]:
    return (value.f, value.d1, value.d2) if isinstance(value, Jet) else (value, 0.0, 0.0)


def _compose(outer: tuple[Array, Array, Array], x: Jet) -> Jet:
    f, slope, curve = outer
    return Jet(f, slope * x.d1, curve * x.d1**2 + slope * x.d2)


def _power(base: Any, exponent: Any) -> Jet:
    if isinstance(exponent, Jet):
        logarithm = np.log(base)
        return np.exp(exponent * logarithm)  # type: ignore[no-any-return]
    p = exponent
    x = base.f
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = p * x ** (p - 1) if p != 0 else np.zeros_like(x)
        curve = p * (p - 1) * x ** (p - 2) if p not in (0, 1) else np.zeros_like(x)
    return _compose((x**p, slope, curve), base)


def _select(mask: Any, a: Any, b: Any) -> Jet:
    chosen = (np.where(mask, u, v) for u, v in zip(_parts(a), _parts(b), strict=True))
    return Jet(*chosen)


class Jet(NDArrayOperatorsMixin):
    """Hold values, first and second derivatives at an array of points."""

    __array_priority__ = 1000

    def __init__(self, f: Array, d1: Array, d2: Array) -> None:
        self.f, self.d1, self.d2 = f, d1, d2

    @property
    def shape(self) -> tuple[int, ...]:
        return self.f.shape

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__" or kwargs:
            return NotImplemented
        if ufunc in _RULES:
            return _compose(_RULES[ufunc](self.f), self)
        if ufunc.nout == 1 and ufunc in _COMPARISONS:
            return ufunc(*(_parts(x)[0] for x in inputs))
        if len(inputs) != 2:
            return NotImplemented
        a, b = inputs
        (f, f1, f2), (g, g1, g2) = _parts(a), _parts(b)
        if ufunc is np.add:
            return Jet(f + g, f1 + g1, f2 + g2)
        if ufunc is np.subtract:
            return Jet(f - g, f1 - g1, f2 - g2)
        if ufunc is np.multiply:
            return Jet(f * g, f1 * g + f * g1, f2 * g + 2 * f1 * g1 + f * g2)
        if ufunc in (np.divide, np.true_divide):
            ratio = f / g
            slope = (f1 - ratio * g1) / g
            return Jet(ratio, slope, (f2 - 2 * slope * g1 - ratio * g2) / g)
        if ufunc in (np.power, np.float_power):
            return _power(a, b)
        if ufunc in (np.maximum, np.fmax, np.minimum, np.fmin):
            _meet(np.equal(f, g))
        if ufunc in (np.maximum, np.fmax):
            return _select(f >= g, a, b)
        if ufunc in (np.minimum, np.fmin):
            return _select(f <= g, a, b)
        if ufunc is np.logaddexp:
            p, rest = special.expit(f - g), special.expit(g - f)
            curve = p * f2 + rest * g2 + p * rest * (f1 - g1) ** 2
            return Jet(np.logaddexp(f, g), p * f1 + rest * g1, curve)
        if ufunc is np.heaviside:
            step = np.heaviside(f, g)
            return Jet(step, np.zeros_like(step), np.zeros_like(step))
        return NotImplemented

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func is np.where and len(args) == 3:
            return _select(_parts(args[0])[0], args[1], args[2])
        if func is np.clip and len(args) == 3:
            low = args[0] if args[1] is None else np.maximum(args[0], args[1])
            return low if args[2] is None else np.minimum(low, args[2])
        if func is np.ones_like:
            return np.ones_like(self.f)
        if func is np.zeros_like:
            return np.zeros_like(self.f)
        return NotImplemented


_COMPARISONS = {
    np.greater,
    np.greater_equal,
    np.less,
    np.less_equal,
    np.equal,
    np.not_equal,
    np.isfinite,
    np.isnan,
    np.signbit,
}


def differentiate(f: Callable[[Any], Any], x: Array) -> Jet:
    """Return f, f′, f″ at x; raise TypeError where f uses something that jets do not follow.

    Where pieces meet, as in max(x, 0) + log(1 + exp(−|x|)) at 0, the rules are no derivative of the
    whole: there f′ and f″ are the means of those beside it, to 1e-18 of f‴ where f is smooth.
    """
    token = _meetings.set([])
    try:
        jet = _follow(f, x)
        found = _meetings.get() or []
    finally:
        _meetings.reset(token)
    for at in found:
        meets = np.broadcast_to(at, x.shape)
        step = 1e-9 * np.maximum(1.0, np.abs(x[meets]))
        right, left = _follow(f, x[meets] + step), _follow(f, x[meets] - step)
        jet.d1[meets], jet.d2[meets] = (right.d1 + left.d1) / 2, (right.d2 + left.d2) / 2
    return jet


def _follow(f: Callable[[Any], Any], x: Array) -> Jet:
    out = f(Jet(x, np.ones_like(x), np.zeros_like(x)))
    if not isinstance(out, Jet):
        raise TypeError("the function did not return a jet")
    return Jet(*(np.broadcast_to(p, x.shape).astype(np.float64) for p in _parts(out)))
