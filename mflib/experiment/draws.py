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

SCHEMES = ("gaussian", "orthogonal")
KERNEL_SCHEMES = (*SCHEMES, "delta-orthogonal")
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


def haar_orthogonal(
    n_in: int, n_out: int, members: Sequence[torch.Generator], *, dtype: torch.dtype
) -> Tensor:
    """Draw semi-orthogonal matrices (E, n_in, n_out) uniformly (Haar measure).

    QR of a Gaussian matrix is uniform only after the signs of R's diagonal are moved into Q.
    The shorter side is orthonormal: Q Qᵀ = 1 if n_in ≤ n_out, else Qᵀ Q = 1.
    """
    tall = standard_normal((max(n_in, n_out), min(n_in, n_out)), members, dtype=dtype)
    q, r = torch.linalg.qr(tall)
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
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Draw weight matrices (E, n_in, n_out) whose entries have variance σ_w² / N.

    N is ``n_in`` for ``fan="in"`` (the papers' definition) and ``n_out`` for ``fan="out"``.
    ``gaussian`` entries are independent; ``orthogonal`` ones are those of a Haar semi-orthogonal
    matrix, scaled to the same variance: for n_in = n_out it is σ_w times an orthogonal matrix.

    ``sigma_w2``: (E,), ≥ 0. Raises ValueError for an unknown scheme or fan.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"initialisation {scheme!r} is not one of {', '.join(SCHEMES)}")
    if fan not in FANS:
        raise ValueError(f"fan {fan!r} is not one of {', '.join(FANS)}")
    if scheme == "gaussian":
        weights = standard_normal((n_in, n_out), members, dtype=dtype)
    else:
        unit = math.sqrt(max(n_in, n_out))  # entries of a semi-orthogonal matrix: variance 1/max
        weights = unit * haar_orthogonal(n_in, n_out, members, dtype=dtype)
    scale = (sigma_w2 / (n_in if fan == "in" else n_out)).sqrt()
    return weights.mul_(scale.to(weights).view(-1, 1, 1))


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

    ``sigma_w2``: (E,), ≥ 0. Raises ValueError for an unknown scheme, an even kernel, which has no
    centre, and a delta-orthogonal kernel from more channels to fewer.

    Source: Xiao et al. 2018, algorithm 1; the paper, §3.3.
    """
    check_kernel(channels_in, channels_out, kernel, scheme)
    if scheme != "delta-orthogonal":
        rows = kernel**2 * channels_in
        flat = draw_weights(rows, channels_out, sigma_w2, members, scheme=scheme, dtype=dtype)
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
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Draw biases (E, 1, n_out) with independent N(0, σ_b²) entries; ``sigma_b2``: (E,)."""
    biases = standard_normal((1, n_out), members, dtype=dtype)
    return biases.mul_(sigma_b2.sqrt().to(biases).view(-1, 1, 1))
