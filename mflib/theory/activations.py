"""Activation functions: φ, φ′, φ″, kinks, range, and closed Gaussian expectations.

>>> from mflib.theory import activations
>>> activations.get("tanh").d1(0.0)
array(1.)
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from mflib.theory._arrays import Array
from mflib.theory._jets import differentiate

Function = Callable[[Any], Any]
Moments = tuple[Array, Array, Array]


@dataclass(frozen=True)
class ClosedForms:
    """Hold the Gaussian expectations of φ that have closed forms.

    ``moments(q)`` gives E[φ²], E[φ′²] and dE[φ²]/dq for u ~ N(0, q);
    ``product(q_a, q_b, cos, sin)`` gives E[φ(u_a)φ(u_b)] at correlation cos, with sin ≥ 0 given
    apart so that nothing cancels where the correlation is near ±1;
    ``curvature(q, cos, sin)`` gives E[φ″(u_a)φ″(u_b)] at equal variances.
    """

    moments: Callable[[Array], Moments]
    product: Callable[[Array, Array, Array, Array], Array] | None = None
    curvature: Callable[[Array, Array, Array], Array] | None = None


@dataclass(frozen=True, eq=False)
class Activation:
    """Hold an activation function with its derivatives.

    Call it for φ(x); ``d1`` and ``d2`` give φ′ and φ″ away from the ``kinks``, the points where
    φ′ or φ″ jumps. Each takes and returns arrays of any shape. ``odd`` declares the symmetry
    that halves the work, ``homogeneous`` that φ(ax) = aφ(x) for a > 0, ``piecewise_linear`` that
    φ″ vanishes between kinks.
    """

    name: str
    function: Function
    first: Function
    second: Function
    kinks: tuple[float, ...] = ()
    range: tuple[float, float] = (-np.inf, np.inf)
    odd: bool = False
    homogeneous: bool = False
    piecewise_linear: bool = False
    closed: ClosedForms | None = None
    # width of the strip around the real axis in which φ is analytic, 0 where there are kinks: it
    # says where power series are worth trying, and each is checked
    strip: float = 0.0

    def __call__(self, x: ArrayLike) -> Array:
        """Return φ(x)."""
        return np.asarray(self.function(np.asarray(x, dtype=np.float64)), dtype=np.float64)

    def d1(self, x: ArrayLike) -> Array:
        """Return φ′(x)."""
        return np.asarray(self.first(np.asarray(x, dtype=np.float64)), dtype=np.float64)

    def d2(self, x: ArrayLike) -> Array:
        """Return φ″(x) between the kinks."""
        return np.asarray(self.second(np.asarray(x, dtype=np.float64)), dtype=np.float64)

    @cached_property
    def jumps(self) -> Array:
        """Return the jump of φ′ at each kink, shape (len(kinks),); 0 where only φ″ jumps."""
        kinks = np.array(self.kinks, dtype=np.float64)
        step = 1e-9 * np.maximum(1.0, np.abs(kinks))
        right, left = self.d1(kinks + step), self.d1(kinks - step)
        jump = right - left - step * (self.d2(kinks + step) + self.d2(kinks - step))
        return np.where(np.abs(jump) > 1e-9 * np.maximum(np.abs(right), np.abs(left)), jump, 0.0)

    def __repr__(self) -> str:
        return f"Activation({self.name!r})"


# --- smooth functions, stable for every x ---------------------------------------------------


def _sech2(x: Array) -> Array:
    e: Array = np.exp(-2 * np.abs(x))
    return 4 * e / (1 + e) ** 2


def _expit_slope(x: Array) -> Array:
    e: Array = np.exp(-np.abs(x))
    return e / (1 + e) ** 2


def _expit_curve(x: Array) -> Array:
    return -_expit_slope(x) * np.tanh(x / 2)


def _near(x: Array) -> Array:
    # the Gaussians below are 0 beyond 40, where squaring a huge x would overflow
    return np.clip(x, -40.0, 40.0)


def _bell(x: Array) -> Array:
    return np.asarray(2 / np.sqrt(np.pi) * np.exp(-(_near(x) ** 2)))


def _density(x: Array) -> Array:
    return np.asarray(np.exp(-0.5 * _near(x) ** 2) / np.sqrt(2 * np.pi))


def _cauchy(x: Array) -> Array:
    # squaring |x| > 1e154 would overflow
    with np.errstate(over="ignore"):
        return 1 / (1 + x * x)


# --- closed forms -------------------------------------------------------------------------------


def _linear_piece_moments(slope_square: float) -> Callable[[Array], Moments]:
    def moments(q: Array) -> Moments:
        slope = np.full_like(q, slope_square)
        return slope_square * q, slope, slope

    return moments


def _leaky_product(leak: float) -> Callable[[Array, Array, Array, Array], Array]:
    """Return the arc-cosine kernel of max(x, leak·x) (Cho and Saul 2009, order 1)."""

    def product(q_a: Array, q_b: Array, cos: Array, sin: Array) -> Array:
        theta = np.arctan2(sin, cos)
        kernel = (sin + (np.pi - theta) * cos) / (2 * np.pi)
        return np.sqrt(q_a) * np.sqrt(q_b) * (leak * cos + (1 - leak) ** 2 * kernel)

    return product


def _erf_moments(q: Array) -> Moments:
    root = np.sqrt(1 + 4 * q)
    square = 2 / np.pi * np.arctan(2 * q / root)
    return square, 4 / np.pi / root, 4 / np.pi / ((1 + 2 * q) * root)


def _erf_product(q_a: Array, q_b: Array, cos: Array, sin: Array) -> Array:
    """Return the arcsine kernel (Williams 1997)."""
    geometric = np.sqrt(q_a) * np.sqrt(q_b)
    rest = 1 + 2 * q_a + 2 * q_b + 4 * q_a * q_b * sin**2
    return 2 / np.pi * np.arctan(2 * geometric * cos / np.sqrt(rest))


def _erf_curvature(q: Array, cos: Array, sin: Array) -> Array:
    det = 1 + 4 * q + 4 * (q * sin) ** 2
    return 16 / np.pi * q * cos / (det * np.sqrt(det))


def _gelu_moments(q: Array) -> Moments:
    root = np.sqrt(1 + 2 * q)
    both = 0.25 + np.arctan(q / root) / (2 * np.pi)  # E[Φ(u)²]
    square = q * both + q * q / (np.pi * (1 + q) * root)
    slope = both + (2 * q / (1 + q) + q / (1 + 2 * q)) / (2 * np.pi * root)
    growth = (
        both
        + q / (2 * np.pi * (1 + q) * root)
        + (q * (2 + q) / (1 + q) ** 2 - q * q / ((1 + q) * root**2)) / (np.pi * root)
    )
    return square, slope, growth


def _gelu_product(q_a: Array, q_b: Array, cos: Array, sin: Array) -> Array:
    """Return E[u_aΦ(u_a)u_bΦ(u_b)] by Stein's lemma."""
    covariance = np.sqrt(q_a) * np.sqrt(q_b) * cos
    root = np.sqrt(1 + q_a + q_b + q_a * q_b * sin**2)
    both = 0.25 + np.arctan(covariance / root) / (2 * np.pi)
    rest = q_a * q_b - covariance**2 * (q_a / (1 + q_a) - 1 / (1 + q_b))
    return covariance * both + rest / (2 * np.pi * root)


def _gelu_curvature(q: Array, cos: Array, sin: Array) -> Array:
    """Return E[φ″φ″], φ″ = (2 − u²) × the normal density, under the tilted Gaussian."""
    det = 1 + 2 * q + (q * sin) ** 2
    variance = q * (1 + q * sin**2) / det
    covariance = q * cos / det
    return ((2 - variance) ** 2 + 2 * covariance**2) / (2 * np.pi * np.sqrt(det))


# ∫₀¹ t² exp(−k²t²/2) dt in powers of k², highest first: 16 terms reach rounding for k ≤ 1
_INSIDE_SERIES = [(-0.5) ** j / (math.factorial(j) * (2 * j + 3)) for j in range(15, -1, -1)]


def _hard_tanh_moments(q: Array) -> Moments:
    k = 1 / np.sqrt(q)
    slope = special.erf(k / np.sqrt(2))
    # E[u²; |u| < 1]/q: the difference cancels for k < 1, where most is clipped
    near = np.minimum(k, 1.0)
    series = np.sqrt(2 / np.pi) * near**3 * np.polyval(_INSIDE_SERIES, near**2)
    inside = np.where(k < 1, series, slope - 2 * k * _density(k))
    return q * inside + special.erfc(k / np.sqrt(2)), slope, inside


def _named() -> dict[str, Activation]:
    pi = np.pi
    zero = np.zeros_like
    linear_product = _leaky_product(1.0)
    leak = 0.01
    return {
        a.name: a
        for a in (
            Activation(
                "tanh",
                np.tanh,
                _sech2,
                lambda x: -2 * np.tanh(x) * _sech2(x),
                range=(-1.0, 1.0),
                odd=True,
                strip=pi / 2,
            ),
            Activation(
                "erf",
                special.erf,
                _bell,
                lambda x: -2 * x * _bell(x),
                range=(-1.0, 1.0),
                odd=True,
                closed=ClosedForms(_erf_moments, _erf_product, _erf_curvature),
                strip=1.0,
            ),
            Activation(
                "arctan",
                np.arctan,
                _cauchy,
                lambda x: -2 * x * _cauchy(x) ** 2,
                range=(-pi / 2, pi / 2),
                odd=True,
                strip=1.0,
            ),
            Activation(
                "softsign",
                lambda x: x / (1 + np.abs(x)),
                lambda x: (1 + np.abs(x)) ** -2,
                lambda x: -2 * np.sign(x) * (1 + np.abs(x)) ** -3,
                kinks=(0.0,),
                range=(-1.0, 1.0),
                odd=True,
            ),
            Activation(
                "hard-tanh",
                lambda x: np.clip(x, -1.0, 1.0),
                lambda x: np.where(np.abs(x) < 1, 1.0, 0.0),
                zero,
                kinks=(-1.0, 1.0),
                range=(-1.0, 1.0),
                odd=True,
                piecewise_linear=True,
                closed=ClosedForms(_hard_tanh_moments),
            ),
            Activation(
                "relu",
                lambda x: np.maximum(x, 0.0),
                lambda x: np.where(x > 0, 1.0, 0.0),
                zero,
                kinks=(0.0,),
                range=(0.0, np.inf),
                homogeneous=True,
                piecewise_linear=True,
                closed=ClosedForms(_linear_piece_moments(0.5), _leaky_product(0.0)),
            ),
            Activation(
                "leaky-relu",
                lambda x: np.where(x > 0, x, leak * x),
                lambda x: np.where(x > 0, 1.0, leak),
                zero,
                kinks=(0.0,),
                homogeneous=True,
                piecewise_linear=True,
                closed=ClosedForms(_linear_piece_moments((1 + leak**2) / 2), _leaky_product(leak)),
            ),
            Activation(
                "sigmoid",
                special.expit,
                _expit_slope,
                _expit_curve,
                range=(0.0, 1.0),
                strip=pi,
            ),
            Activation(
                "gelu",
                lambda x: x * special.ndtr(x),
                lambda x: special.ndtr(x) + x * _density(x),
                lambda x: (2 - _near(x) ** 2) * _density(x),
                range=(-0.16997120747990369, np.inf),
                closed=ClosedForms(_gelu_moments, _gelu_product, _gelu_curvature),
                strip=1.0,
            ),
            Activation(
                "silu",
                lambda x: x * special.expit(x),
                lambda x: special.expit(x) + x * _expit_slope(x),
                lambda x: 2 * _expit_slope(x) + x * _expit_curve(x),
                range=(-0.27846454276107380, np.inf),
                strip=pi,
            ),
            Activation(
                "linear",
                lambda x: x + 0.0,
                np.ones_like,
                zero,
                odd=True,
                homogeneous=True,
                piecewise_linear=True,
                closed=ClosedForms(_linear_piece_moments(1.0), linear_product),
                strip=1.0,
            ),
        )
    }


_NAMED = _named()


def names() -> tuple[str, ...]:
    """Return the names that ``get`` knows."""
    return tuple(_NAMED)


def get(activation: str | Activation) -> Activation:
    """Return the activation of that name (an ``Activation`` passes through).

    Raises ValueError for an unknown name, with the nearest known one.

    >>> get("relu").kinks
    (0.0,)
    """
    if isinstance(activation, Activation):
        return activation
    if not isinstance(activation, str):
        raise ValueError(
            f"activation must be a name or an Activation, not {type(activation).__name__}; "
            "make one from a function with activations.from_callable."
        )
    name = activation.strip().lower().replace("_", "-")
    if name not in _NAMED:
        near = difflib.get_close_matches(name, _NAMED, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"Unknown activation {activation!r}: {hint}Known: {', '.join(_NAMED)}.")
    return _NAMED[name]


# --- activations of the caller ----------------------------------------------------------------

_PROBE = np.linspace(-12.0, 12.0, 2400) + 1e-3 / np.e


def from_callable(
    f: Function,
    name: str = "custom",
    d1: Function | None = None,
    d2: Function | None = None,
    kinks: tuple[float, ...] | None = None,
    range: tuple[float, float] = (-np.inf, np.inf),
) -> Activation:
    """Make an activation of a vectorised function of one real variable.

    ``f`` takes and returns float64 arrays of one shape, finite up to |x| = 1e4 at least.
    Derivatives that are not given come from automatic differentiation through numpy and
    scipy.special (exact to rounding), or, where ``f`` uses something that does not follow, from
    complex arguments (a complex step for φ′, Cauchy's integral for φ″; ``f`` must be analytic near
    the real axis). ``kinks`` are the points where φ′
    or φ″ jumps; None looks for them in [−12, 12]. φ itself must be continuous.

    Raises ValueError where ``f`` returns another shape, complex numbers, NaN or infinity, jumps,
    or cannot be differentiated, and where given derivatives contradict ``f``.

    >>> swish = from_callable(lambda x: x / (1 + np.exp(-x)), name="swish")
    >>> bool(abs(swish.d1(1.0) - get("silu").d1(1.0)) < 1e-15)
    True
    """
    if not callable(f):
        raise ValueError(f"Activation {name!r} must be a function, not {f!r}.")
    f = _quiet(f)
    _check_values(f, name)
    first, second = _derivatives(f, name, d1, d2)
    found = _find_kinks(f, first, second, name) if kinks is None else _given_kinks(kinks)
    _check_slope(f, first, "d1", name, found)
    _check_slope(first, second, "d2", name, found)
    values = np.asarray(f(_PROBE))
    odd = bool(np.array_equal(values, -np.asarray(f(-_PROBE))) and all(-k in found for k in found))
    scaled = np.asarray(f(3 * _PROBE))
    return Activation(
        name,
        f,
        first,
        second,
        found,
        range,
        odd=odd,
        homogeneous=bool(np.allclose(scaled, 3 * values, rtol=1e-14, atol=0.0)),
        piecewise_linear=not np.any(np.asarray(second(_PROBE))),
        strip=0.0 if found else np.inf,  # a series that does not converge says so
    )


def _check_values(f: Function, name: str) -> None:
    for x in (_PROBE, _PROBE[:6].reshape(2, 3)):
        try:
            out = np.asarray(f(x))
        except (TypeError, AttributeError) as error:
            raise ValueError(
                f"Activation {name!r} does not take a numpy array ({error}): write it with numpy "
                "functions of one argument that act element by element."
            ) from None
        if out.shape != x.shape:
            raise ValueError(
                f"Activation {name!r} returned shape {out.shape} for input of shape {x.shape}: "
                "write it with numpy functions that act element by element."
            )
        if out.dtype.kind not in "fiu" or not np.all(np.isfinite(out)):
            raise ValueError(
                f"Activation {name!r} returned {out.dtype} values that are not all finite real "
                "numbers on [-12, 12]: it must be real and finite on the whole line."
            )


def _quiet(f: Function) -> Function:
    """Return f without numpy's warnings: that 1/(1 + exp(-x)) overflows on its way to 0 is fine."""

    def silent(x: Any) -> Any:
        with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
            return f(x)

    return silent


def _mended(f: Function, derivative: Function, order: int) -> Function:
    """Return the derivative with quotients of f where its formula is inf·0, far from the origin.

    Out there f has settled to a line or a power, for which a step of x/1000 is small.
    """

    def safe(x: Any) -> Array:
        x = np.asarray(x, dtype=np.float64)
        out = np.array(derivative(x), dtype=np.float64)
        lost = ~np.isfinite(out) & (np.abs(x) > _PROBE[-1])
        if lost.any():
            at = x[lost]
            step = 1e-3 * at
            if order == 1:
                out[lost] = (f(at + step) - f(at - step)) / (2 * step)
            else:
                out[lost] = (f(at + step) - 2 * f(at) + f(at - step)) / step**2
        return out

    return _quiet(safe)


def _derivatives(
    f: Function, name: str, d1: Function | None, d2: Function | None
) -> tuple[Function, Function]:
    if d1 is not None and d2 is not None:
        return d1, d2
    base, order = (f, 0) if d1 is None else (d1, 1)
    try:
        differentiate(base, _PROBE)
        auto: tuple[Function, Function] = (
            lambda x: differentiate(base, np.asarray(x, dtype=np.float64)).d1,
            lambda x: differentiate(base, np.asarray(x, dtype=np.float64)).d2,
        )
    except (TypeError, AttributeError, ValueError):
        auto = _complex_derivatives(base, name)
    if order == 1:
        return base, _mended(base, auto[0], 1)
    return _mended(f, auto[0], 1), _mended(f, auto[1], 2) if d2 is None else d2


def _complex_derivatives(f: Function, name: str) -> tuple[Function, Function]:
    """Return φ′ by complex step and φ″ by Cauchy's integral, or refuse where f is not analytic."""
    tiny, radius, points = 1e-100, 0.05, 12
    circle = np.exp(2j * np.pi * (np.arange(points) + 0.5) / points)

    def first(x: Any) -> Array:
        return np.asarray(np.imag(f(np.asarray(x) + 1j * tiny)) / tiny)

    def contour(x: Any, r: float) -> Array:
        x = np.asarray(x, dtype=np.float64)
        # f may be a slope, so its own derivative's contour is shared with the complex step
        total = sum(np.real(f(x + r * z) * z**-2) for z in circle)
        return np.asarray(2 * total / (points * r * r))

    try:
        slope = first(_PROBE)
        near, far = contour(_PROBE, radius / 2), contour(_PROBE, radius)
        scale = 1 + np.abs(far)
        step = 1e-5
        central = (np.asarray(f(_PROBE + step)) - np.asarray(f(_PROBE - step))) / (2 * step)
        settled = np.abs(near - far) < 1e-9 * scale
        settled &= np.abs(slope - central) < 1e-6 * (1 + np.abs(central))
        good = bool(settled.all())
    except (TypeError, ValueError, ArithmeticError):
        good = False
    if not good:
        raise ValueError(
            f"Activation {name!r} can be differentiated neither automatically nor with complex "
            "arguments: give its derivatives as d1 and d2."
        )
    return first, lambda x: contour(x, radius)


def _given_kinks(kinks: tuple[float, ...]) -> tuple[float, ...]:
    try:
        values = sorted({float(k) for k in kinks})
    except (TypeError, ValueError):
        values = [np.nan]
    if not np.all(np.isfinite(values)):
        raise ValueError(f"kinks = {kinks!r} must be a sequence of finite numbers.")
    return tuple(values)


def _jump_positions(g: Function, tolerance: float) -> Array:
    """Return where g jumps: bisect every local maximum of its change between probes."""
    values = np.asarray(g(_PROBE), dtype=np.float64)
    change = np.abs(np.diff(values))
    peak = np.r_[True, change[1:] >= change[:-1]] & np.r_[change[:-1] >= change[1:], True]
    peak &= change > tolerance
    left, right = _PROBE[:-1][peak], _PROBE[1:][peak]
    # 36 halvings leave 1e-12: a continuous function has then changed by far less than tolerance
    for _ in np.arange(36):
        middle = (left + right) / 2
        g_l, g_m, g_r = (np.asarray(g(x)) for x in (left, middle, right))
        go_left = np.abs(g_m - g_l) >= np.abs(g_r - g_m)
        left, right = np.where(go_left, left, middle), np.where(go_left, middle, right)
    jump = np.abs(np.asarray(g(right)) - np.asarray(g(left))) > tolerance
    return np.unique(np.round((left + right)[jump] / 2, 11)) + 0.0


def _find_kinks(f: Function, d1: Function, d2: Function, name: str) -> tuple[float, ...]:
    if _jump_positions(f, 1e-7).size:
        raise ValueError(
            f"Activation {name!r} jumps at {_jump_positions(f, 1e-7)[0]:g}: φ must be continuous, "
            "or χ₁ is infinite."
        )
    return tuple(float(k) for k in np.union1d(_jump_positions(d1, 1e-6), _jump_positions(d2, 1e-6)))


def _check_slope(
    g: Function, slope: Function, which: str, name: str, kinks: tuple[float, ...]
) -> None:
    x = _PROBE[::7]
    far = np.all(np.abs(x[:, None] - np.array(kinks)[None, :]) > 1e-2, axis=1)
    x = x[far]
    step = 1e-3
    weights = ((1, 2 / 3), (2, -1 / 12))
    central = (
        sum(w * (np.asarray(g(x + k * step)) - np.asarray(g(x - k * step))) for k, w in weights)
        / step
    )
    given = np.asarray(slope(x))
    scale = 1 + np.max(np.abs(central))
    wrong = ~(np.abs(given - central) <= 1e-5 * scale)
    if given.shape != x.shape or wrong.any():
        at = x[wrong][0] if given.shape == x.shape else x[0]
        raise ValueError(
            f"{which} of activation {name!r} is not the derivative near x = {at:.3g} "
            f"(it differs from a central difference): correct it, leave it out, or name the "
            "kink there."
        )
