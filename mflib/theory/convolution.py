"""Covariances between the positions of a wide convolutional network, layer by layer.

The pre-activations of one channel at all positions α of a ring or a torus are jointly Gaussian;
their covariance Σ obeys, with circular boundaries (Xiao et al. 2018; the paper's eqs. 13–22),

    Σ' = A ⋆ C(Σ)                                               (eq. 14)
    [A ⋆ B]_{α,α′} = Σ_β v_β B_{α+β,α′+β},   Σ_β v_β = 1         (eq. 17, for any v)
    C(Σ)_{αα′} = σ_w² E[φ(h_α)φ(h_α′)] + σ_b²,  h ~ N(0, Σ)      (eq. 16)

with the fixed point Σ* = q*(δ + (1 − δ)c*) of the fully connected network (eq. 18). Near it the
map is block triangular: with δ = Σ − Σ* and a position α′ = α + d,

    δ_αα  → A ⋆ χ_q δ_αα
    δ_αα′ → A ⋆ [χ_c δ_αα′ + κ(δ_αα + δ_α′α′)],   κ = ½ σ_w² E[φ″(h_1)φ(h_2)],

and A ⋆ multiplies the Fourier mode k of the dependence on α, at any d, by
λ_k = Σ_β v_β e^{2πikβ/n}: the eigenvalues are χ_q λ_k and χ_c λ_k. (The text under eq. 21 calls
the λ eigenvalues of the matrix A of eq. 15, which are all 1/(2k+1).)

A covariance has shape (n, n) on a ring of n positions, (n_1, n_2, n_1, n_2) on a torus; v has
shape (s,) or (s_1, s_2), odd sizes, with β = 0 in the middle, and tells the two apart.

>>> v = kernel_variances("uniform", 3)
>>> mode_eigenvalues(v, 6).real.round(3) + 0.0
array([ 1.   ,  0.667,  0.   , -0.333,  0.   ,  0.667])
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mflib.theory import activations, gaussian, mean_field
from mflib.theory._arrays import Array, Rows, broadcast, number
from mflib.theory._moments import moments, product
from mflib.theory.activations import Activation

Complex = NDArray[np.complex128]
Size = int | tuple[int, ...]

KERNELS = ("uniform", "delta")

_EPS = float(np.finfo(np.float64).eps)
_SLACK = 1e-10  # what rounding may take from symmetry and from eigenvalues that are 0
_SUM_SLACK = 1e-12  # and from a sum of variances that is 1


@dataclass(frozen=True)
class FixedPoint:
    """Hold q*, c*, χ_q and χ_c (eqs. 18–20), each of the broadcast shape of σ_w² and σ_b².

    NaN stands where a quantity is not defined; ``reason`` then says why, and is "" elsewhere.
    """

    q: Array
    c: Array
    chi_q: Array
    chi_c: Array
    reason: NDArray[np.str_]

    def covariance(self, size: Size) -> Array:
        """Return Σ* = q*(δ + (1 − δ)c*) (eq. 18), of shape (…, *size, *size)."""
        positions = _positions(size)
        count = int(np.prod(positions))
        same = np.eye(count).reshape(positions * 2)
        q, c = (a.reshape(a.shape + (1,) * same.ndim) for a in (self.q, self.c))
        return np.asarray(q * (same + (1 - same) * c))


@dataclass(frozen=True)
class DepthScales:
    """Hold the depth scale of every Fourier mode, in layers; shapes (…, n) or (…, n_1, n_2).

    ``xi_q``: of variances, −1/log(χ_q|λ_k|); ``xi_c``: of covariances of two positions,
    −1/log(χ_c|λ_k|) (eq. 21); ∞ where the mode does not decay, 0 where one layer erases it.
    ``eigenvalues``: the λ_k.
    """

    xi_q: Array
    xi_c: Array
    eigenvalues: Complex


@dataclass(frozen=True)
class Relaxation:
    """Hold the covariances of layers 0 … depth and their modes, layers first.

    ``sigma`` (depth + 1, …, *size, *size); ``amplitudes``, complex, of the same shape, with the
    difference d of two positions in the place of α and the mode k in the place of α′;
    ``predicted`` (*size, *size): the factor per layer of each amplitude near Σ*; ``point``;
    ``eigenvalues``: the λ_k; ``order``: the power of the covariances' first nonlinear term, 2, or
    3/2 where φ′ jumps and c* = 1.
    """

    sigma: Array
    amplitudes: Complex
    predicted: Complex
    point: FixedPoint
    eigenvalues: Complex
    order: float


@dataclass(frozen=True)
class Rates:
    """Hold measured factors per layer beside the predicted ones, [difference, mode].

    ``rate`` and its ``error`` (…, *size, *size): NaN where the amplitude never rises above
    rounding; ``predicted`` and ``clean`` (*size, *size): True where the linear rate is the
    slowest of all that reach the mode, so that it rules the late layers.
    """

    rate: Complex
    error: Array
    predicted: Complex
    clean: NDArray[np.bool_]


# --- kernels ----------------------------------------------------------------------------------


def kernel_variances(kind: str, size: Size) -> Array:
    """Return the variances v_β of "uniform" (1/size each) or "delta" (1 at β = 0) kernels.

    ``size``: odd; one number for a ring, a pair for a torus. Sums to 1. Raises ValueError for
    another kind or an even size.

    >>> kernel_variances("delta", 3)
    array([0., 1., 0.])
    """
    if kind not in KERNELS:
        raise ValueError(f"kind = {kind!r} must be one of {', '.join(KERNELS)}.")
    sizes = _positions(size)
    _check_odd(sizes)
    v = np.zeros(sizes)
    if kind == "uniform":
        return np.full(sizes, 1 / v.size)
    v[tuple(s // 2 for s in sizes)] = 1.0
    return v


def circulant(v: ArrayLike, size: Size) -> Array:
    """Return the matrix M, (P, P), by which A ⋆ acts on the dependence on α at fixed α′ − α.

    M_{α,α+β} = v_β, circular. Its eigenvalues are ``mode_eigenvalues``; those of eq. 15's A are
    the v_β themselves.

    >>> circulant([0.25, 0.5, 0.25], 3)
    array([[0.5 , 0.25, 0.25],
           [0.25, 0.5 , 0.25],
           [0.25, 0.25, 0.5 ]])
    """
    variances, positions = _kernel_on(v, size)
    flat = np.arange(int(np.prod(positions)))
    out = np.zeros((flat.size, flat.size))
    for offset, weight in offsets(variances):
        target = np.roll(flat.reshape(positions), [-b for b in offset], range(len(positions)))
        out[flat, target.ravel()] += weight
    return out


def mode_eigenvalues(v: ArrayLike, size: Size) -> Complex:
    """Return λ_k = Σ_β v_β exp(2πi k·β/n), one per Fourier mode, (n,) or (n_1, n_2).

    Mode k of a function f of the position is Σ_α f(α) exp(−2πi k·α/n)/P. |λ_k| ≤ λ_0 = 1; all
    are 1 for a delta kernel; real for a symmetric v, and then a Dirichlet kernel for a uniform
    one, with zeros wherever s·k is a multiple of n. Raises ValueError as ``average`` does.

    >>> mode_eigenvalues([0.0, 1.0, 0.0], 4).real
    array([1., 1., 1., 1.])
    """
    variances, positions = _kernel_on(v, size)
    out = variances.astype(np.complex128)
    for axis, n in enumerate(positions):
        k, beta = np.arange(n), _reach(variances.shape[axis])
        phases = np.exp(2j * np.pi * np.outer(k, beta) / n)
        out = np.moveaxis(np.tensordot(phases, out, axes=(1, axis)), 0, axis)
    if np.array_equal(variances, np.flip(variances)):
        out.imag = 0.0
    # the zeros and the ones are exact: rounding would turn them into finite depth scales
    modulus = np.abs(out)
    out[modulus <= 16 * _EPS] = 0.0
    whole = np.abs(modulus - 1) <= 16 * _EPS
    out[whole] /= modulus[whole]
    out[np.abs(out - 1) <= 16 * _EPS] = 1.0
    return out


def offsets(v: Array) -> Iterator[tuple[tuple[int, ...], float]]:
    """Yield (β, v_β) for every v_β > 0, β as a tuple of as many numbers as v has axes."""
    for index in np.argwhere(v > 0):
        beta = tuple(int(i) - s // 2 for i, s in zip(index, v.shape, strict=True))
        yield beta, float(v[tuple(index)])


def _reach(size: int) -> Rows:
    return np.arange(size) - size // 2


# --- checks -----------------------------------------------------------------------------------


def checked(sigma: ArrayLike, v: ArrayLike) -> tuple[Array, Array]:
    """Return Σ, made exactly symmetric, and v as float64 arrays that fit each other.

    Raises ValueError where v has an even or too large size, a negative entry or another sum than
    1, and where Σ has the wrong shape, is not symmetric or has a negative eigenvalue (each beyond
    1e-10 of its largest entry, which rounding explains).
    """
    sigma, variances, count = _fitting(sigma, v)
    flat = sigma.reshape(-1, count, count)
    scale = np.abs(flat).max(axis=(1, 2), initial=0.0)
    gap = np.abs(flat - flat.swapaxes(1, 2)).max(axis=(1, 2), initial=0.0)
    if np.any(gap > _SLACK * scale):
        raise ValueError(
            f"sigma is not symmetric (entries differ by {gap.max():.3g}): give "
            "Σ_{α,α′} = Σ_{α′,α}, as a covariance has."
        )
    flat = (flat + flat.swapaxes(1, 2)) / 2
    lowest = np.linalg.eigvalsh(flat)[:, 0]
    if np.any(lowest < -_SLACK * scale):
        raise ValueError(
            f"sigma has the eigenvalue {lowest.min():.3g}: give a positive semi-definite "
            "covariance, such as X Xᵀ."
        )
    return flat.reshape(sigma.shape), variances


def _fitting(sigma: ArrayLike, v: ArrayLike) -> tuple[Array, Array, int]:
    variances = _kernel(v)
    sigma = number("sigma", sigma, -np.inf)
    axes = variances.ndim
    shape = sigma.shape[-2 * axes :]
    if len(shape) < 2 * axes or shape[:axes] != shape[axes:] or 0 in shape:
        form = "(…, n, n)" if axes == 1 else "(…, n_1, n_2, n_1, n_2)"
        raise ValueError(
            f"sigma has shape {sigma.shape}: with v of shape {variances.shape} give {form}."
        )
    _check_fit(variances, shape[:axes])
    return sigma, variances, int(np.prod(shape[:axes]))


def _kernel(v: ArrayLike) -> Array:
    variances = number("v", v, 0.0)
    if variances.ndim not in (1, 2):
        raise ValueError(
            f"v has shape {variances.shape}: give (s,) for a ring, (s_1, s_2) for a torus."
        )
    _check_odd(variances.shape)
    if abs(variances.sum() - 1) > _SUM_SLACK:
        raise ValueError(f"v sums to {variances.sum():.15g}: divide it by its sum to make that 1.")
    return variances


def _kernel_on(v: ArrayLike, size: Size) -> tuple[Array, tuple[int, ...]]:
    variances, positions = _kernel(v), _positions(size)
    if len(positions) != variances.ndim:
        raise ValueError(
            f"size = {size!r} has {len(positions)} axes and v has {variances.ndim}: "
            "give both for a ring or both for a torus."
        )
    _check_fit(variances, positions)
    return variances, positions


def _positions(size: Any) -> tuple[int, ...]:
    sizes = tuple(size) if isinstance(size, tuple | list) else (size,)
    whole = all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in sizes)
    if not whole or len(sizes) not in (1, 2) or min(sizes) < 1:
        raise ValueError(f"size = {size!r} must be one or two whole numbers, each at least 1.")
    return tuple(int(n) for n in sizes)


def _check_odd(sizes: tuple[int, ...]) -> None:
    for s in sizes:
        if s % 2 == 0:
            raise ValueError(
                f"A kernel of size {s} has no middle: give an odd size, such as {s + 1}."
            )


def _check_fit(v: Array, positions: tuple[int, ...]) -> None:
    for s, n in zip(v.shape, positions, strict=True):
        if s > n:
            raise ValueError(
                f"A kernel of size {s} is larger than the {n} positions it wraps around: "
                f"give a kernel of at most {n - 1 + n % 2} or more positions."
            )


# --- the map ----------------------------------------------------------------------------------


def average(sigma: ArrayLike, v: ArrayLike) -> Array:
    """Return A ⋆ Σ: [A ⋆ Σ]_{α,α′} = Σ_β v_β Σ_{α+β,α′+β}, circular (eq. 17, any v).

    ``v``: (s,) or (s_1, s_2), ≥ 0, sum 1, odd sizes that fit; ``sigma``: (…, n, n) or
    (…, n_1, n_2, n_1, n_2), any finite values. Raises ValueError otherwise.

    >>> average(np.diag([3.0, 0.0, 0.0]), np.ones(3) / 3).diagonal()
    array([1., 1., 1.])
    """
    sigma, variances, _ = _fitting(sigma, v)
    return _average(sigma, variances)


def _average(sigma: Array, v: Array) -> Array:
    axes = tuple(range(-2 * v.ndim, 0))
    out = np.zeros_like(sigma)
    for beta, weight in offsets(v):
        out += weight * np.roll(sigma, tuple(-b for b in beta) * 2, axes)
    return out


def covariance_map(
    activation: str | Activation,
    sigma: ArrayLike,
    sigma_w2: ArrayLike,
    sigma_b2: ArrayLike,
    v: ArrayLike,
) -> Array:
    """Return the next layer's covariance, Σ' = A ⋆ C(Σ) (eqs. 14–17).

    ``sigma``: positive semi-definite, (…, n, n) on a ring or (…, n_1, n_2, n_1, n_2) on a torus,
    by the axes of ``v``; σ_w², σ_b² ≥ 0 broadcast with the axes in front. Relative error of each
    expectation as in ``mean_field``. Smooth or piecewise linear φ take some milliseconds for an
    8 × 8 torus; softsign, and a φ of the caller's with curved pieces between kinks, take seconds
    where all variances differ.

    Raises ValueError for values out of range, and as ``checked`` does. Source: Xiao et al. 2018.

    >>> covariance_map("linear", np.eye(3), 2.0, 0.5, [0.0, 1.0, 0.0])
    array([[2.5, 0.5, 0.5],
           [0.5, 2.5, 0.5],
           [0.5, 0.5, 2.5]])
    """
    act = activations.get(activation)
    sigma, variances = checked(sigma, v)
    w, b, _ = broadcast(
        sigma_w2=number("sigma_w2", sigma_w2, 0.0),
        sigma_b2=number("sigma_b2", sigma_b2, 0.0),
        sigma=np.empty(sigma.shape[: -2 * variances.ndim]),
    )
    return _step(act, sigma, w, b, variances)


def _step(act: Activation, sigma: Array, w: Array, b: Array, v: Array) -> Array:
    expand = (..., *(None,) * (2 * v.ndim))
    return _average(w[expand] * _overlaps(act, sigma, v.ndim) + b[expand], v)


def _overlaps(act: Activation, sigma: Array, axes: int) -> Array:
    """Return E[φ(h_α)φ(h_α′)] for h ~ N(0, Σ), of Σ's shape."""
    count = int(np.prod(sigma.shape[-axes:]))
    flat = sigma.reshape(-1, count, count)
    q = np.maximum(np.diagonal(flat, axis1=1, axis2=2), 0.0)
    i, j = np.triu_indices(count, 1)
    root = np.sqrt(q)
    norm = root[:, i] * root[:, j]
    # where a variance is 0, φ(0) is constant and any correlation gives φ(0)E[φ]
    c = np.divide(flat[:, i, j], norm, out=np.zeros_like(norm), where=norm > 0)
    pairs = product(act, q[:, i].ravel(), q[:, j].ravel(), np.clip(c, -1.0, 1.0).ravel())
    out = np.empty_like(flat)
    out[:, i, j] = out[:, j, i] = pairs.reshape(norm.shape)
    diagonal = np.arange(count)
    out[:, diagonal, diagonal] = np.where(q > 0, moments(act, q)[0], act(0.0) ** 2)
    return out.reshape(sigma.shape)


def image_covariance(
    images: ArrayLike, sigma_w2: ArrayLike, sigma_b2: ArrayLike, v: ArrayLike
) -> Array:
    """Return the covariance Σ⁰ that a wide first convolution makes of images.

    Σ⁰_{αα′} = σ_w² Σ_β v_β x(α+β)·x(α′+β)/C + σ_b², circular, exact for Gaussian kernels of
    variance σ_w² v_β/C and any number of output channels. ``images``: (…, C, n_1, n_2), or
    (…, C, n) with a v of one axis; σ_w², σ_b² ≥ 0, single numbers. Result (…, *size, *size).
    A stride s keeps every s-th position: ``sigma[..., ::s, ::s, ::s, ::s]``.
    Raises ValueError for values or shapes out of range.

    >>> image_covariance(np.ones((3, 2, 2)), 2.0, 0.1, [[1.0]])[0, 0]
    array([[2.1, 2.1],
           [2.1, 2.1]])
    """
    variances = _kernel(v)
    x = number("images", images, -np.inf)
    axes = variances.ndim
    if x.ndim < axes + 1 or 0 in x.shape[-axes - 1 :]:
        form = "(…, C, n)" if axes == 1 else "(…, C, n_1, n_2)"
        raise ValueError(
            f"images have shape {x.shape}: with v of shape {variances.shape} give {form}."
        )
    w, b = _scalars(sigma_w2, sigma_b2)
    positions = x.shape[-axes:]
    _check_fit(variances, positions)
    batch, channels = x.shape[: -axes - 1], x.shape[-axes - 1]
    flat = x.reshape(*batch, channels, -1)
    gram = (np.swapaxes(flat, -1, -2) @ flat).reshape(*batch, *positions, *positions)
    return np.asarray(w / channels * _average(gram, variances) + b)


# --- the fixed point and its depth scales --------------------------------------------------------


def fixed_point(
    activation: str | Activation, sigma_w2: ArrayLike, sigma_b2: ArrayLike
) -> FixedPoint:
    """Return q*, c*, χ_q = σ_w² E[φ″φ + φ′²] and χ_c = σ_w² E[φ′(h_1)φ′(h_2)] (eqs. 18–20).

    q* and c* are those of ``mean_field.fixed_point``, for every kernel; σ_w², σ_b² ≥ 0 broadcast.
    Raises ValueError for values out of range.

    >>> point = fixed_point("tanh", 2.0, 0.05)
    >>> round(float(point.chi_q), 3), round(float(point.chi_c), 3)
    (0.487, 0.961)
    """
    act = activations.get(activation)
    point = mean_field.fixed_point(act, sigma_w2, sigma_b2)
    w = np.broadcast_to(np.asarray(sigma_w2, dtype=np.float64), point.q.shape)
    chi_q = np.full_like(point.q, np.nan)
    known = np.isfinite(point.q)
    chi_q[known] = w[known] * moments(act, point.q[known])[2]
    return FixedPoint(point.q, point.c, chi_q, point.chi_c, point.reason)


def depth_scales(
    activation: str | Activation,
    sigma_w2: ArrayLike,
    sigma_b2: ArrayLike,
    v: ArrayLike,
    size: Size,
) -> DepthScales:
    """Return ξ_k = −1/log(χ_c|λ_k|) and its like for variances, for every mode (eqs. 21–22).

    On the critical line χ_c = 1: every mode of a delta kernel has ξ = ∞, of a uniform one only
    k = 0. Shapes (…, n) or (…, n_1, n_2), with the broadcast shape of σ_w² and σ_b² in front;
    NaN where there is no fixed point. Raises ValueError as ``average`` does.

    >>> depth_scales("relu", 1.0, 1.0, [0.0, 1.0, 0.0], 3).xi_c.round(4)
    array([1.4427, 1.4427, 1.4427])
    """
    eigenvalues = mode_eigenvalues(v, size)
    point = mean_field.fixed_point(activation, sigma_w2, sigma_b2)
    expand = (..., *(None,) * eigenvalues.ndim)
    with np.errstate(divide="ignore"):
        decay = -np.log(np.abs(eigenvalues))
        xi_q, xi_c = (1 / (1 / xi[expand] + decay) for xi in (point.xi_q, point.xi_c))
    return DepthScales(xi_q, xi_c, eigenvalues)


# --- relaxation -----------------------------------------------------------------------------------


def relaxation(
    activation: str | Activation,
    sigma_w2: float,
    sigma_b2: float,
    v: ArrayLike,
    sigma_0: ArrayLike,
    depth: int,
) -> Relaxation:
    """Iterate the exact map ``depth`` ≥ 0 times from Σ⁰ and split Σ^l − Σ* into its eigenvectors.

    With δ = Σ^l − Σ*, D_k the mode k of δ_αα and O_{d,k} that of δ_{α,α+d}, the amplitudes are

        d = 0:  D_k                                            factor χ_q λ_k per layer
        d ≠ 0:  O_{d,k} − κ/(χ_q − χ_c) (1 + e^{2πik·d/n}) D_k  factor χ_c λ_k per layer

    The second form takes out what variances force on covariances; in the ordered phase, where
    κ = ½(χ_q − χ_c), it is the mode of −½E(h_α − h_{α+d})². Near Σ* both follow their factors
    exactly; products of amplitudes come on top, which ``measured_rates`` weighs.

    ``sigma_0``: positive semi-definite, (…, *size, *size). Two positions of correlation 1 stay so
    in the chaotic phase, where Σ* is then not reached. Raises ValueError for values out of range,
    as ``checked`` does, and where Σ* does not exist or χ_q = χ_c with κ ≠ 0.
    """
    act = activations.get(activation)
    sigma, variances = checked(sigma_0, v)
    w, b = _scalars(sigma_w2, sigma_b2)
    if isinstance(depth, bool) or not isinstance(depth, int | np.integer) or depth < 0:
        raise ValueError(f"depth = {depth!r} must be a whole number of layers, at least 0.")
    point = fixed_point(act, w, b)
    if not np.isfinite(point.c):
        raise ValueError(f"There is no covariance to relax to: {point.reason}.")
    positions = sigma.shape[-variances.ndim :]
    eigenvalues = mode_eigenvalues(variances, positions)
    forcing = _forcing(act, point, w)
    layers = [sigma]
    for _ in range(depth):
        layers.append(_step(act, layers[-1], w, b, variances))
    path = np.stack(layers)
    amplitudes = _modes(path - point.covariance(positions), positions)
    shape = (*path.shape[: -2 * variances.ndim], -1, eigenvalues.size)
    amplitudes = amplitudes.reshape(shape)
    amplitudes[..., 1:, :] -= forcing * (1 + _characters(positions)[1:]) * amplitudes[..., :1, :]
    predicted = np.tile(eigenvalues.ravel() * point.chi_c, (eigenvalues.size, 1))
    predicted[0] = eigenvalues.ravel() * point.chi_q
    return Relaxation(
        path,
        amplitudes.reshape(path.shape),
        predicted.reshape(positions * 2),
        point,
        eigenvalues,
        1.5 if point.c == 1 and np.any(act.jumps) else 2.0,
    )


def _forcing(act: Activation, point: FixedPoint, w: Array) -> float:
    """Return κ/(χ_q − χ_c), with σ_w² E[h_1φ′(h_1)φ(h_2)]/q* = 2κ + c*χ_c."""
    if point.c == 1:
        return 0.5
    overlap = gaussian.pair_expectation(
        lambda x: x * act.d1(x),
        act,
        point.q,
        point.q,
        point.c,
        kinks_f=act.kinks,
        kinks_g=act.kinks,
    )
    kappa = float(w * overlap.value / point.q - point.c * point.chi_c) / 2
    gap = float(point.chi_q - point.chi_c)
    if abs(kappa) <= 1e-13 * float(w):
        return 0.0
    if abs(gap) <= 1e-10:
        raise ValueError(
            f"chi_q = chi_c = {float(point.chi_c):.6g}: variances force covariances in resonance "
            "and no mode decays by its own factor; change sigma_w2 or sigma_b2."
        )
    return kappa / gap


def _modes(sigma: Array, positions: tuple[int, ...]) -> Complex:
    """Return the Fourier modes in α of Σ_{α,α+d}, (…, *size of d, *size of k)."""
    count = int(np.prod(positions))
    flat = sigma.reshape(-1, count, count)
    along = flat[:, np.arange(count), _partners(positions)].reshape(-1, count, *positions)
    modes = np.fft.fftn(along, axes=range(2, along.ndim)) / count
    return np.asarray(modes.reshape(sigma.shape), dtype=np.complex128)


def _partners(positions: tuple[int, ...]) -> Rows:
    """Return the flat position of α + d, [d, α]."""
    grid = np.stack(np.unravel_index(np.arange(int(np.prod(positions))), positions))
    total = (grid[:, :, None] + grid[:, None, :]) % np.array(positions)[:, None, None]
    return np.asarray(np.ravel_multi_index(tuple(total), positions), dtype=np.intp)


def _characters(positions: tuple[int, ...]) -> Complex:
    """Return e^{2πi k·d/n}, [d, k]."""
    grid = np.stack(np.unravel_index(np.arange(int(np.prod(positions))), positions))
    phase = np.einsum("ad,ak->dk", grid / np.array(positions)[:, None], grid)
    return np.asarray(np.exp(2j * np.pi * phase), dtype=np.complex128)


def measured_rates(path: Relaxation) -> Rates:
    """Return the factor per layer of every amplitude, read from late layers, beside χλ_k.

    The ratio a^{l+1}/a^l tends to χλ_k only where that decays slowest of all that reaches mode k:
    products of amplitudes whose modes add up to k decay by products of their factors, and take
    over where |χλ_k| is smaller than those. ``clean`` marks the others: |χλ_k| > Π|χλ_{k_i}| for
    every two or more k_i that add up to k, with χ = χ_q in the products of variances and the
    larger of χ_q and χ_c in those of covariances, which variances enter too. Where φ′ jumps and
    c* = 1 (ReLU), 1 − c enters as (1 − c)^{3/2}, so that |χλ_k| > χ^{3/2} Π|λ_{k_i}| is asked.
    All modes of a delta kernel are clean off the critical line, none with χ_c = 1. A mode with
    λ_k = 0 is gone after one layer, and has no rate to read: NaN.

    The ratio is read at the layer of the least error: its change to either neighbour, summed as a
    geometric series of the products' factor, plus rounding over |a^l|. Of a late amplitude that
    is a bound; where rounding comes before the late layers, an estimate. The closer Σ⁰ is to
    Σ*, the more digits: a distance ε leaves errors of order ε in every layer. Raises ValueError
    below depth 4.
    """
    layers = path.amplitudes.shape[0]
    if layers < 5:
        raise ValueError(f"A relaxation of depth {layers - 1} shows no rate: give depth 4 or more.")
    positions, axes = path.eigenvalues.shape, path.eigenvalues.ndim
    count = path.eigenvalues.size
    batch = path.amplitudes.shape[1 : -2 * axes]
    a = path.amplitudes.reshape(layers, -1, count, count)
    linear = np.abs(path.predicted).reshape(count, count)
    mixed = _mixed_rates(path)
    clean = linear > mixed * (1 + 1e-9)

    scale = np.abs(path.sigma).max(initial=0.0)
    noise = np.full((count, count), 16 * _EPS * scale)
    # Σ* itself is known to about 1e-13 where c* is far in the chaotic phase
    noise[1:, 0] += 1e-13 * scale if path.point.c < 1 else 0.0
    noise /= np.maximum(1 - linear, 1e-9)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = a[1:] / a[:-1]
        change = np.abs(np.diff(ratio, axis=0))
        tail = np.where(clean, 1 - mixed / linear, 1.0)
        error = np.maximum(change[1:], change[:-1]) / tail + 2 * noise / np.abs(a[1:-2])
        alive = (np.abs(a[1:-2]) > 4 * noise) & np.isfinite(error)
    error = np.where(alive, error, np.inf)
    best = error.argmin(axis=0)[None]
    rate = np.take_along_axis(ratio[1:-1], best, axis=0)[0]
    least = np.take_along_axis(error, best, axis=0)[0]
    rate[np.isinf(least)] = complex(np.nan, np.nan)
    least[np.isinf(least)] = np.nan
    shape = (*batch, *positions, *positions)
    return Rates(
        rate.reshape(shape), least.reshape(shape), path.predicted, clean.reshape(positions * 2)
    )


def _mixed_rates(path: Relaxation) -> Array:
    """Return the slowest factor of the nonlinear terms that reach each amplitude, (P, P)."""
    positions, modulus = path.eigenvalues.shape, np.abs(path.eigenvalues).ravel()
    chi_q = abs(float(path.point.chi_q))
    chi = max(chi_q, abs(float(path.point.chi_c)))
    if path.order == 2:
        row = _products_of(chi * modulus, positions)
    else:
        row = chi**path.order * np.maximum(modulus, _products_of(modulus, positions))
    mixed = np.tile(row, (modulus.size, 1))
    mixed[0] = _products_of(chi_q * modulus, positions)
    return mixed


def _products_of(rates: Array, positions: tuple[int, ...]) -> Array:
    """Return the largest product of two or more rates whose modes add up to k, for each k."""
    rest = _partners(positions)  # [j, m] → j + m
    best, power = np.zeros_like(rates), rates
    for _ in range(rates.size):
        reached = np.zeros_like(rates)
        np.maximum.at(reached, rest, rates[:, None] * power[None, :])
        if np.all(reached <= best):
            break
        best, power = np.maximum(best, reached), reached
    return best


def _scalars(sigma_w2: ArrayLike, sigma_b2: ArrayLike) -> tuple[Array, Array]:
    w, b = number("sigma_w2", sigma_w2, 0.0), number("sigma_b2", sigma_b2, 0.0)
    for name, value in (("sigma_w2", w), ("sigma_b2", b)):
        if value.ndim:
            raise ValueError(f"{name} has shape {value.shape}: give one number.")
    return w, b
