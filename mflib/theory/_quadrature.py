"""Graded Gauss rules that resolve a Gaussian of any width and a function of scale one at once.

A function φ varies on the scale 1 of its argument near its anchors (0 and its kinks) while the
Gaussian of variance q has the scale √q. On an arm from an anchor, x = a ± s·sinh t with
s = √(q/(1+q)) makes both smooth on the scale 1 of t, so the number of Gauss–Legendre nodes grows
only with log q. The integrand continued in t is analytic in |Im t| < π/4 or better.
"""

from __future__ import annotations

from functools import lru_cache

import flint
import numpy as np

from mflib.theory._arrays import Array

REACH = 11.0  # beyond 11 deviations E[u⁸] has 1e-19 of its value, E[u¹⁶] 1e-16
SQRT_2PI = np.sqrt(2 * np.pi)
NARROWEST = 1e-140  # a deviation whose square is still a normal number stands for 0


@lru_cache(maxsize=256)
def legendre(n: int) -> tuple[Array, Array]:
    """Return nodes and weights of Gauss–Legendre on [0, 1], each (n,), correct to rounding.

    From ball arithmetic: the weights of numpy and scipy are off by 1e-12 near the ends, where
    graded rules put what matters most.
    """
    with flint.ctx.workprec(120):
        # roots descend from 1: half of them, mirrored
        pairs = [flint.arb.legendre_p_root(n, k, weight=True) for k in range((n + 1) // 2)]
        x = np.array([float((1 - root) / 2) for root, _ in pairs])
        w = np.array([float(weight / 2) for _, weight in pairs])
    rest = slice(n // 2 - 1, None, -1) if n > 1 else slice(0)
    return np.concatenate([x, 1 - x[rest]]), np.concatenate([w, w[rest]])


def arm_nodes(longest: float, refine: float = 1.0) -> int:
    """Return the nodes that an arm of t-length ``longest`` needs for rounding accuracy.

    Analytic width π/4 on length L gives the Bernstein ellipse ρ = d + √(1+d²), d = π/(2L), and
    the error ρ^(−2n); the constant term covers short arms on which the Gaussian itself limits.
    """
    d = np.pi / (2 * max(longest, 1e-3))
    rate = 2 * np.log(d + np.sqrt(1 + d * d))
    # multiples of four, so that few rules serve many lengths
    return 4 * int(np.ceil(refine * (14 + 38 / rate) / 4))


def graded(
    anchors: Array, low: Array, high: Array, scale: Array, refine: float, one_sided: bool = False
) -> tuple[Array, Array]:
    """Return nodes and weights for ∫ over [low, high], graded about sorted ``anchors``.

    anchors (..., A), low, high, scale (...) → x, w (..., M). ``one_sided`` drops the arm to the
    left of the first anchor (for low equal to it).
    """
    a = np.clip(anchors, low[..., None], high[..., None])
    middle = (a[..., 1:] + a[..., :-1]) / 2
    left = a - np.concatenate([low[..., None], middle], axis=-1)
    right = np.concatenate([middle, high[..., None]], axis=-1) - a
    if one_sided:
        left = left[..., 1:]
    length = np.concatenate([left, right], axis=-1)
    start = np.concatenate([a[..., 1:] if one_sided else a, a], axis=-1)
    sign = np.concatenate([-np.ones(left.shape[-1]), np.ones(right.shape[-1])])
    t_max = np.arcsinh(length / scale[..., None])
    n = arm_nodes(float(t_max.max(initial=0.0)), refine)
    t, w = legendre(n)
    grown = np.exp(t_max[..., None] * t)
    shrunk = 1 / grown
    s = scale[..., None, None] / 2
    x = start[..., None] + sign[:, None] * s * (grown - shrunk)
    weight = s * (grown + shrunk) * (t_max[..., None] * w)
    shape = (*x.shape[:-2], -1)
    return x.reshape(shape), weight.reshape(shape)


def scale_of(deviation: Array) -> Array:
    """Return the width that sees both the Gaussian and a feature of width one."""
    return deviation / np.sqrt(1 + deviation**2)


def line_rule(
    q: Array, kinks: tuple[float, ...] = (), *, even: bool = False, refine: float = 1.0
) -> tuple[Array, Array]:
    """Return nodes x and weights w, each (..., M), with E[f(u)] = Σ w f(x), u ~ N(0, q), q > 0.

    ``even`` uses the half line for even integrands.
    """
    anchors = np.array(sorted({0.0, *kinks}))
    reach = REACH * np.sqrt(q)
    if even:
        anchors = anchors[anchors >= 0]
    low = np.zeros_like(q) if even else -reach
    shape = (*q.shape, anchors.size)
    x, w = graded(np.broadcast_to(anchors, shape), low, reach, scale_of(np.sqrt(q)), refine, even)
    density = np.exp(-0.5 * (x * (1 / np.sqrt(q))[..., None]) ** 2) / SQRT_2PI
    w *= density * ((2.0 if even else 1.0) / np.sqrt(q))[..., None]
    return x, w


def difference_rule(
    q: Array, theta: Array, kinks: tuple[float, ...] = (), *, mirrored: bool, refine: float = 1.0
) -> tuple[Array, Array, Array]:
    """Return u_a, u_b and weights for symmetric integrands of a pair with equal variances q.

    The half sum m ~ N(0, q cos²(θ/2)) and the difference d ~ N(0, 4q sin²(θ/2)) are independent,
    so the rule is smooth down to θ = 0 (correlation cos θ). The integrand must not change under
    u_a ↔ u_b; ``mirrored`` says that it does not change under (u_a, u_b) → (−u_a, −u_b) either.
    q, theta (n,) → three arrays (n, M_d, M_m).
    """
    wide = np.sqrt(q) * np.cos(theta / 2)
    narrow = np.maximum(2 * np.sqrt(q) * np.sin(theta / 2), NARROWEST)
    corners = np.array(sorted({0.0, *kinks}))
    gaps = np.unique(np.abs(corners[:, None] - corners[None, :]))
    width = scale_of(narrow)
    if kinks:
        # what the half sum leaves of a pair of kinks is a step of its own width, which closes at π
        floor = 1e-7 * narrow
        width = np.maximum(1 / np.sqrt(1 / width**2 + 1 / np.maximum(wide, floor) ** 2), floor)
    d, w_d = graded(
        np.broadcast_to(gaps, (*q.shape, gaps.size)),
        np.zeros_like(q),
        REACH * narrow,
        width,
        refine,
        one_sided=True,
    )
    z = d / narrow[:, None]
    w_d = w_d * 2 * np.exp(-0.5 * z * z) / (SQRT_2PI * narrow[:, None])
    anchors = np.sort(
        np.concatenate([corners + d[..., None] / 2, corners - d[..., None] / 2], axis=-1), axis=-1
    )
    if mirrored:
        # the half line m > 0 holds the anchors that are not negative
        anchors = anchors[..., corners.size :]
    reach = np.broadcast_to(REACH * wide[:, None], d.shape)
    low = np.zeros_like(reach) if mirrored else -reach
    m, w_m = graded(
        anchors,
        low,
        reach,
        np.broadcast_to(scale_of(wide)[:, None], d.shape),
        refine,
    )
    y = m / wide[:, None, None]
    w_m = w_m * np.exp(-0.5 * y * y) * ((2.0 if mirrored else 1.0) / SQRT_2PI)
    weight = (w_d[..., None] / wide[:, None, None]) * w_m
    half = d[..., None] / 2
    return m + half, m - half, weight


def conditional_rule(
    q_a: Array,
    q_b: Array,
    cos: Array,
    sin: Array,
    kinks_a: tuple[float, ...] = (),
    kinks_b: tuple[float, ...] = (),
    *,
    refine: float = 1.0,
) -> tuple[Array, Array, Array]:
    """Return u_a (n, M_a, 1), u_b (n, M_a, M_b) and weights for any pair of variances.

    Integrates u_b given u_a first, so that kinks of either function are honoured; the outer rule
    is also graded about the images of u_b's kinks, on the width the inner Gaussian leaves.
    """
    n = q_a.shape[0]
    slope = np.sqrt(q_b / q_a) * cos
    spread = np.sqrt(q_b) * sin
    steep = np.where(np.abs(slope) > 1e-8, slope, np.inf)
    own = np.broadcast_to(np.array(sorted({0.0, *kinks_a})), (n, len({0.0, *kinks_a})))
    anchors, width = own, scale_of(np.sqrt(q_a))
    if kinks_b:
        images = np.array(kinks_b)[None, :] / steep[:, None]
        anchors = np.sort(np.concatenate([own, images], axis=-1), axis=-1)
        blur = spread / np.abs(steep)
        blur = np.where(np.isfinite(steep), blur, np.inf)
        # below 1e-7 of the Gaussian's width, what the blur hides is below rounding
        floor = 1e-7 * np.sqrt(q_a)
        width = np.maximum(1 / np.sqrt(1 / width**2 + 1 / np.maximum(blur, floor) ** 2), floor)
    reach = REACH * np.sqrt(q_a)
    u_a, w_a = graded(anchors, -reach, reach, width, refine)
    w_a = w_a * np.exp(-0.5 * u_a**2 / q_a[:, None]) / (SQRT_2PI * np.sqrt(q_a))[:, None]
    mean = slope[:, None] * u_a
    fixed = np.array(sorted({0.0, *kinks_b}))
    spread = np.maximum(spread, NARROWEST)[:, None]
    inner = np.concatenate(
        [np.broadcast_to(fixed, (*mean.shape, fixed.size)), mean[..., None]], axis=-1
    )
    inner = np.sort(inner, axis=-1)
    wing = np.broadcast_to(REACH * spread, mean.shape)
    # integrate the offset from the mean: u_b itself would round a narrow Gaussian away
    offset, w_b = graded(
        inner - mean[..., None],
        -wing,
        wing,
        np.broadcast_to(scale_of(spread), mean.shape),
        refine,
    )
    z = offset / spread[..., None]
    w_b = w_b * np.exp(-0.5 * z * z) / (SQRT_2PI * spread[..., None])
    return u_a[..., None], mean[..., None] + offset, w_a[..., None] * w_b
