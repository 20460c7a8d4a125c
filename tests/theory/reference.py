"""The same quantities in 30-digit arithmetic, computed another way.

One Gaussian: tanh–sinh quadrature on pieces. Two: polar coordinates, in which the kinks at 0 are
fixed angles and every sector is smooth. Nothing here imports the package under test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from mpmath import mp, mpf

mp.dps = 30
REACH = mpf(12)  # exp(−72) = 5e-32


def _sech2(x):
    return 1 / mp.cosh(x) ** 2


def _logistic(x):
    return 1 / (1 + mp.exp(-x))


def _logistic_slope(x):
    return _logistic(x) * _logistic(-x)


def _density(x):
    return mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi)


LEAK = mpf(0.01)

# name -> (φ, φ', kinks)
FUNCTIONS: dict[str, tuple[Callable, Callable, tuple[int, ...]]] = {
    "tanh": (mp.tanh, _sech2, ()),
    "erf": (mp.erf, lambda x: 2 / mp.sqrt(mp.pi) * mp.exp(-x * x), ()),
    "arctan": (mp.atan, lambda x: 1 / (1 + x * x), ()),
    "softsign": (lambda x: x / (1 + abs(x)), lambda x: 1 / (1 + abs(x)) ** 2, (0,)),
    "hard-tanh": (lambda x: max(mpf(-1), min(mpf(1), x)), lambda x: mpf(abs(x) < 1), (-1, 1)),
    "relu": (lambda x: max(x, mpf(0)), lambda x: mpf(x > 0), (0,)),
    "leaky-relu": (lambda x: max(x, LEAK * x), lambda x: mpf(1) if x > 0 else LEAK, (0,)),
    "sigmoid": (_logistic, _logistic_slope, ()),
    "gelu": (lambda x: x * mp.ncdf(x), lambda x: mp.ncdf(x) + x * _density(x), ()),
    "silu": (
        lambda x: x * _logistic(x),
        lambda x: _logistic(x) + x * _logistic_slope(x),
        (),
    ),
    "linear": (lambda x: x, lambda x: mpf(1), ()),
}


def mean(f: Callable, q, kinks: tuple[int, ...] = ()):
    """Return E[f(u)], u ~ N(0, q)."""
    root = mp.sqrt(q)
    marks = {mpf(0), REACH, *(abs(k) / root for k in kinks)}
    marks |= {s / root for s in (mpf(1), mpf(8), mpf(64))} | {mpf(1), mpf(4)}
    marks = sorted(m for m in marks if m <= REACH)
    return mp.quad(lambda z: (f(root * z) + f(-root * z)) * _density(z), marks)


def square(name: str, q):
    """Return E[φ²]."""
    f, _, kinks = FUNCTIONS[name]
    return mean(lambda x: f(x) ** 2, q, kinks)


def slope_square(name: str, q):
    """Return E[φ′²]."""
    _, d1, kinks = FUNCTIONS[name]
    return mean(lambda x: d1(x) ** 2, q, kinks)


def growth(name: str, q):
    """Return dE[φ²]/dq = E[u φ φ′]/q."""
    f, d1, kinks = FUNCTIONS[name]
    return mean(lambda x: x * f(x) * d1(x), q, kinks) / q


@lru_cache(maxsize=8)
def _legendre(n: int):
    """Return Gauss–Legendre nodes and weights on [0, 1] by Newton's iteration."""
    out = []
    for i in range(n):
        x = mp.cos(mp.pi * (i + mpf(3) / 4) / (n + mpf(1) / 2))
        for _ in range(6):
            below, here = mpf(1), x
            for k in range(2, n + 1):
                below, here = here, ((2 * k - 1) * x * here - (k - 1) * below) / k
            slope = n * (x * here - below) / (x * x - 1)
            x -= here / slope
        out.append(((1 + x) / 2, 1 / ((1 - x * x) * slope**2)))
    return out


def _stretched(low, high, scale, n: int):
    """Return nodes and weights on [low, high], dense near ``low`` on the given scale."""
    end = mp.asinh((high - low) / scale)
    return [
        (low + scale * mp.sinh(end * t), scale * mp.cosh(end * t) * end * w)
        for t, w in _legendre(n)
    ]


def pair(h: Callable, q, theta, n: int | None = None):
    """Return E[h(u_a, u_b)] at equal variances q and correlation cos θ for symmetric h.

    u_a = √q r cos(ψ + θ/2), u_b = √q r cos(ψ − θ/2); symmetry under u_a ↔ u_b leaves half the
    circle, and u_a = 0 at ψ = (π − θ)/2, u_b = 0 at ψ = (π + θ)/2 divide it into smooth sectors.
    """
    root = mp.sqrt(q)
    scale = 1 / mp.sqrt(1 + q)
    n = n or (44 if q < 2 else 64)
    radii = [(r, w * r * mp.exp(-r * r / 2)) for r, w in _stretched(mpf(0), REACH, scale, n)]
    edge = (mp.pi - theta) / 2
    angles = [(edge - a, w) for a, w in _stretched(mpf(0), edge, scale, n)]  # both positive
    angles += [(edge + a, w) for a, w in _stretched(mpf(0), theta / 2, scale, n)]  # opposite
    total = mpf(0)
    for psi, w_psi in angles:
        a, b = root * mp.cos(psi + theta / 2), root * mp.cos(psi - theta / 2)
        total += w_psi * mp.fsum(w * (h(r * a, r * b) + h(-r * a, -r * b)) for r, w in radii)
    return total / mp.pi


def half_square_difference(name: str, q, theta):
    """Return ½E[(φ(u_a) − φ(u_b))²] = E[φ²] − E[φφ]."""
    if name == "hard-tanh":
        return _hard_tanh_half_square(q, theta)
    f = FUNCTIONS[name][0]
    return pair(lambda x, y: (f(x) - f(y)) ** 2, q, theta) / 2


def slope_product(name: str, q, theta):
    """Return E[φ′φ′]."""
    if name == "hard-tanh":
        return _hard_tanh_slope_product(q, theta)
    d1 = FUNCTIONS[name][1]
    return pair(lambda x, y: d1(x) * d1(y), q, theta)


def _hard_tanh_marks(q, s):
    """Return where integrands over u_a/√q ≥ 0 bend: at the kink, on the width of u_b given u_a."""
    k = 1 / mp.sqrt(q)
    marks = {mpf(0), k, REACH, *(k + m * s for m in (-9, -3, -1, 1, 3, 9)), mpf(2), mpf(5)}
    return sorted(m for m in marks if 0 <= m <= REACH)


def _hard_tanh_slope_product(q, theta):
    """Return P(|u_a| < 1, |u_b| < 1): one integral of normal probabilities."""
    k, c, s = 1 / mp.sqrt(q), mp.cos(theta), mp.sin(theta)
    return 2 * mp.quad(
        lambda x: _density(x) * (mp.ncdf((k - c * x) / s) - mp.ncdf((-k - c * x) / s)),
        [m for m in _hard_tanh_marks(q, s) if m < k] + [min(k, REACH)],
    )


def _hard_tanh_half_square(q, theta):
    """Return E[φ²] − E[φφ], with E[φ(u_b) | u_a] in normal probabilities."""
    root, c, s = mp.sqrt(q), mp.cos(theta), mp.sin(theta)

    def clipped_mean(m, spread):
        a, b = (-1 - m) / spread, (1 - m) / spread
        inside = mp.ncdf(b) - mp.ncdf(a)
        ends = mp.ncdf(-b) - mp.ncdf(a)
        return ends + m * inside + spread * (_density(a) - _density(b))

    f = FUNCTIONS["hard-tanh"][0]
    overlap = 2 * mp.quad(
        lambda x: _density(x) * f(root * x) * clipped_mean(root * c * x, root * s),
        _hard_tanh_marks(q, s),
    )
    return square("hard-tanh", q) - overlap


@dataclass(frozen=True)
class Reference:
    """Hold the 30-digit values that a float64 answer is compared with."""

    q: mpf
    chi_1: mpf
    chi_q: mpf
    y: mpf  # 1 − c*
    chi_c: mpf


def solve(name: str, sigma_w2: float, sigma_b2: float, q_near: float, y_near: float) -> Reference:
    """Return the fixed point next to (q_near, 1 − y_near), by Newton's method from there."""
    w, b, q = mpf(sigma_w2), mpf(sigma_b2), mpf(q_near)
    for _ in range(4):
        chi_q = w * growth(name, q)
        step = (w * square(name, q) + b - q) / (1 - chi_q)
        q += step
        if abs(step) < mpf(10) ** -14 * q:
            break
    chi_1, chi_q = w * slope_square(name, q), w * growth(name, q)
    if y_near == 0:
        return Reference(q, chi_1, chi_q, mpf(0), chi_1)
    y = mpf(y_near)
    for _ in range(3):
        theta = 2 * mp.asin(mp.sqrt(y / 2))
        chord = w * half_square_difference(name, q, theta) / (q * y)  # (1 − map)/(1 − c)
        chi_c = w * slope_product(name, q, theta)
        # d(chord)/dy = (chi_c − chord)/y
        step = (1 - chord) * y / (chi_c - chord)
        y += step
        if abs(step) < mpf(10) ** -9 * y:
            break
    # the last step moved y by 1e-9 at most: its effect on chi_c is first order and tiny
    theta = 2 * mp.asin(mp.sqrt(y / 2))
    return Reference(q, chi_1, chi_q, y, w * slope_product(name, q, theta))
