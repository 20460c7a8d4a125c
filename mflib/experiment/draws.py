"""Draws of weights and biases with a leading ensemble dimension.

Every member of an ensemble has a generator of its own, so a member is the same network whether it
is drawn alone or beside others.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mflib.experiment import _checks

SCHEMES = ("gaussian", "orthogonal")  # those whose entries have a variance
DENSE_SCHEMES = (*SCHEMES, "stable")
KERNEL_SCHEMES = (*SCHEMES, "delta-orthogonal", "stable")
FANS = ("in", "out")


def derive_seed(*parts: int | float | str) -> int:
    """Turn a seed and what it is used for into a 63-bit seed of its own.

    The parts are hashed, so neighbouring seeds and purposes share no random stream.

    >>> derive_seed(0, "weights") == derive_seed(0, "weights") != derive_seed(1, "weights")
    True
    """
    text = "\x1f".join(repr(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generators(
    seeds: Sequence[int], *, device: torch.device | str = "cpu"
) -> list[torch.Generator]:
    """Return one generator per member, seeded with ``seeds`` (E,)."""
    return [torch.Generator(device=device).manual_seed(int(seed)) for seed in seeds]


def standard_normal(
    shape: Sequence[int], members: Sequence[torch.Generator], *, dtype: torch.dtype
) -> Tensor:
    """Draw independent N(0, 1) entries, (E, *shape), member k from its own generator."""
    out = torch.empty(len(members), *shape, dtype=dtype, device=members[0].device)
    for row, generator in zip(out, members, strict=True):
        row.normal_(generator=generator)
    return out


def standard_stable(
    shape: Sequence[int],
    members: Sequence[torch.Generator],
    *,
    alpha: Tensor,
    dtype: torch.dtype,
) -> Tensor:
    """Draw independent S_α(1) entries, (E, *shape), member k from its own generator with alpha[k].

    The characteristic function is exp(−|u|^α); α = 2 is N(0, 2), α = 1 the Cauchy law.

    X = sin(αV)/cos(V)^{1/α} · (cos((1 − α)V)/T)^{(1−α)/α},  V uniform in (−π/2, π/2), T ~ Exp(1).

    ``alpha``: (E,), in (0.5, 2]. The uniform is drawn as the distance from the nearer end, so far
    tails keep their relative precision, near α = 2 too. For one seed X is continuous in α.

    Raises ValueError for α out of range or not one per member.

    Source: Chambers, Mallows, Stuck 1976, eq. 2.3, symmetric case.

    >>> two = torch.tensor([2.0], dtype=torch.float64)
    >>> x = standard_stable((10_000,), generators([0]), alpha=two, dtype=torch.float64)
    >>> round(x.var().item(), 1)
    2.0
    """
    exponents = check_alpha(alpha.tolist(), len(members))
    out = torch.empty(len(members), *shape, dtype=dtype, device=members[0].device)
    for row, generator, exponent in zip(out, members, exponents, strict=True):
        row.copy_(_stable(shape, generator, exponent))
    return out


def _stable(shape: Sequence[int], generator: torch.Generator, alpha: float) -> Tensor:
    uniform, waiting = (
        torch.empty(*shape, dtype=torch.float64, device=generator.device) for _ in range(2)
    )
    uniform.uniform_(-1, 1, generator=generator)
    waiting.exponential_(generator=generator)
    return chambers_mallows_stuck(uniform, waiting, alpha)


def chambers_mallows_stuck(uniform: Tensor, waiting: Tensor, alpha: float) -> Tensor:
    """Return X of ``standard_stable`` for V = π/2 · ``uniform`` in (−1, 1) and T = ``waiting``."""
    end = (1 - uniform.abs()).clamp_(min=2.0**-54).mul_(math.pi / 2)  # π/2 − |V|, never 0
    # sin(α|V|) as the sine of π − α|V|, cos((1 − α)V) as that of π/2 − |1 − α||V|: near α = 2 both
    # are small in the tail.
    size = torch.sin((2 - alpha) * (math.pi / 2) + alpha * end)
    size *= torch.sin(end).pow_(-1 / alpha)
    if alpha != 1:
        turn = torch.sin(min(alpha, 2 - alpha) * (math.pi / 2) + abs(1 - alpha) * end)
        size *= turn.div_(waiting).pow_((1 - alpha) / alpha)
    return size.copysign_(uniform)


def check_alpha(alpha: Sequence[float], n_members: int) -> list[float]:
    """Return the stability indices as floats; raise ValueError unless one per member in range."""
    if len(alpha) != n_members:
        raise ValueError(f"{len(alpha)} values of alpha for {n_members} seeds: give one per member")
    return [_checks.stability("alpha", value) for value in alpha]


def haar_orthogonal(
    n_in: int, n_out: int, members: Sequence[torch.Generator], *, dtype: torch.dtype
) -> Tensor:
    """Draw semi-orthogonal matrices (E, n_in, n_out) uniformly (Haar measure).

    QR of a Gaussian matrix is uniform only after the signs of R's diagonal are moved into Q.
    The shorter side is orthonormal: Q Qᵀ = 1 if n_in ≤ n_out, else Qᵀ Q = 1.
    """
    tall = standard_normal((max(n_in, n_out), min(n_in, n_out)), members, dtype=dtype)
    if tall.is_cuda:
        q, r = torch.linalg.qr(tall)
    else:
        # One by one, which is no slower: a matrix that begins elsewhere in memory may have other
        # bits, and a member's must not depend on how many come before it.
        q, r = tall.mT.contiguous().mT, tall.new_empty(len(tall), tall.shape[2], tall.shape[2])
        for matrix, triangle in zip(q, r, strict=True):
            orthonormal, upper = torch.linalg.qr(matrix.clone())
            matrix.copy_(orthonormal)
            triangle.copy_(upper)
    sign = torch.where(torch.diagonal(r, dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(dtype)
    q = q * sign.unsqueeze(-2)
    return q if n_in >= n_out else q.transpose(1, 2).contiguous()


def draw_weights(
    n_in: int,
    n_out: int,
    sigma_w2: Tensor,
    members: Sequence[torch.Generator],
    *,
    scheme: str = "gaussian",
    fan: str = "in",
    alpha: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Draw weight matrices (E, n_in, n_out) whose entries have variance σ_w² / N.

    N is ``n_in`` for ``fan="in"`` (the papers' definition) and ``n_out`` for ``fan="out"``.
    ``gaussian`` entries are independent; ``orthogonal`` ones are those of a Haar semi-orthogonal
    matrix, scaled to the same variance: for n_in = n_out it is σ_w times an orthogonal matrix.
    ``stable`` entries are independent S_α((D_w/2N)^{1/α}), with ``sigma_w2`` as D_w and ``alpha``
    (E,) in (0.5, 2]: at α = 2 they are the gaussian ones, below it they have no variance.

    ``sigma_w2``: (E,), ≥ 0. Raises ValueError for an unknown scheme or fan, and for an α that is
    missing, out of range, or given to another scheme.
    """
    if scheme not in DENSE_SCHEMES:
        raise ValueError(f"initialisation {scheme!r} is not one of {', '.join(DENSE_SCHEMES)}")
    if fan not in FANS:
        raise ValueError(f"fan {fan!r} is not one of {', '.join(FANS)}")
    check_stable(alpha is not None, scheme)
    variance = sigma_w2 / (n_in if fan == "in" else n_out)
    if alpha is not None:
        entries = standard_stable((n_in, n_out), members, alpha=alpha, dtype=dtype)
        return entries.mul_(_stable_scale(variance, alpha).to(entries).view(-1, 1, 1))
    if scheme == "gaussian":
        weights = standard_normal((n_in, n_out), members, dtype=dtype)
    else:
        unit = math.sqrt(max(n_in, n_out))  # entries of a semi-orthogonal matrix: variance 1/max
        weights = unit * haar_orthogonal(n_in, n_out, members, dtype=dtype)
    return weights.mul_(variance.sqrt().to(weights).view(-1, 1, 1))


def _stable_scale(variance: Tensor, alpha: Tensor) -> Tensor:
    """Return (D/2)^{1/α}, which at α = 2 makes D the variance."""
    pairs = zip(variance.tolist(), alpha.tolist(), strict=True)
    # Each by itself: the last bit of a tensor's power depends on the place in it.
    scales = [(d / 2) ** (1 / a) for d, a in pairs]
    return torch.tensor(scales, dtype=variance.dtype, device=variance.device)


def check_stable(given: bool, *schemes: str | None) -> None:
    """Raise ValueError unless alpha is given exactly where one of the schemes is "stable"."""
    if given and "stable" not in schemes:
        raise ValueError(
            f'alpha belongs to initialisation "stable", not to {schemes[0]!r}: leave it out, or '
            "choose that"
        )
    if not given and "stable" in schemes:
        raise ValueError(
            'initialisation "stable" needs alpha, the stability index in (0.5, 2]: give one per '
            "network"
        )


def check_kernel(channels_in: int, channels_out: int, kernel: int, scheme: str) -> None:
    """Raise ValueError unless ``draw_kernels`` can draw such kernels."""
    if scheme not in KERNEL_SCHEMES:
        raise ValueError(f"initialisation {scheme!r} is not one of {', '.join(KERNEL_SCHEMES)}")
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"kernel={kernel} must be odd and positive: an even one has no centre")
    if scheme == "delta-orthogonal" and channels_out < channels_in:
        raise ValueError(
            f"a delta-orthogonal kernel from {channels_in} to {channels_out} channels cannot keep "
            f"norms: give at least {channels_in} channels, or another initialisation"
        )


def draw_kernels(
    channels_in: int,
    channels_out: int,
    kernel: int,
    sigma_w2: Tensor,
    members: Sequence[torch.Generator],
    *,
    scheme: str = "delta-orthogonal",
    alpha: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Draw square convolution kernels, (E, channels_out, channels_in, kernel, kernel).

    - ``delta-orthogonal``: the centre tap is σ_w times a Haar matrix with orthonormal columns,
      all others are 0: W_β = σ_w δ_{β0} H, Hᵀ H = 1. The convolution multiplies every norm by
      σ_w exactly, at every position; so ``channels_out`` must not be below ``channels_in``.
      From C to a larger C′ it is the norm that is kept, so the mean square falls by C/C′.
    - ``gaussian``: all entries independent, of variance σ_w²/(kernel² channels_in).
    - ``orthogonal``: the kernel read as a (kernel² channels_in) × channels_out matrix is Haar
      semi-orthogonal, scaled to entries of that same variance. This is common practice; the
      convolution with it is no isometry, because neighbouring patches overlap.
    - ``stable``: all entries independent, S_α((D_w/2N)^{1/α}) with N = kernel² channels_in,
      ``sigma_w2`` as D_w and ``alpha`` (E,) in (0.5, 2].

    ``sigma_w2``: (E,), ≥ 0. Raises ValueError for an unknown scheme, an even kernel, which has no
    centre, a delta-orthogonal kernel from more channels to fewer, and as ``draw_weights`` for α.

    Source: Xiao et al. 2018, algorithm 1; the paper, §3.3.
    """
    check_kernel(channels_in, channels_out, kernel, scheme)
    check_stable(alpha is not None, scheme)
    if scheme != "delta-orthogonal":
        rows = kernel**2 * channels_in
        flat = draw_weights(
            rows, channels_out, sigma_w2, members, scheme=scheme, alpha=alpha, dtype=dtype
        )
        return flat.mT.reshape(len(members), channels_out, channels_in, kernel, kernel)
    shape = (len(members), channels_out, channels_in, kernel, kernel)
    kernels = torch.zeros(shape, dtype=dtype, device=members[0].device)
    centre = haar_orthogonal(channels_out, channels_in, members, dtype=dtype)
    kernels[..., kernel // 2, kernel // 2] = centre * sigma_w2.sqrt().to(centre).view(-1, 1, 1)
    return kernels


def draw_biases(
    n_out: int,
    sigma_b2: Tensor,
    members: Sequence[torch.Generator],
    *,
    alpha: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Draw biases (E, 1, n_out) with independent N(0, σ_b²) entries; ``sigma_b2``: (E,).

    With ``alpha`` (E,) they are S_α((D_b/2)^{1/α}), ``sigma_b2`` as D_b.
    """
    if alpha is not None:
        heavy = standard_stable((1, n_out), members, alpha=alpha, dtype=dtype)
        return heavy.mul_(_stable_scale(sigma_b2, alpha).to(heavy).view(-1, 1, 1))
    biases = standard_normal((1, n_out), members, dtype=dtype)
    return biases.mul_(sigma_b2.sqrt().to(biases).view(-1, 1, 1))
