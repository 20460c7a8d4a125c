"""Decoders of one layer each, many at a time: trained by Adam, or fitted by ridge regression.

A decoder maps z^l back to z^{l−1}: ẑ_o(i) = ψ(Σ_{c,k} V_{ock} z_c(p(i, k)) + a_o). Between flat
states that is a matrix. Between feature maps it is a transposed convolution with an odd kernel of
side K and stride s: tap k of position p writes to i = s p + t + k − (K − 1)/2, around the edge
where the network's own convolutions go around it, and nowhere beyond the edge otherwise; s p + t
is the middle of what position p saw, t = 0 for a block that pads half its kernel. Positions i
that the same taps write to form a class (s² of them, more where an edge that is gone around is no
multiple of s): within one, the decoder is one matrix acting on gathered activations, so training
and regression are matrix products throughout.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mflib.experiment._blocks import Grid, Shape

_tanh_chain = torch.ops.aten.tanh_backward.grad_input
_CHUNK_BYTES = {"cpu": 8 * 2**20, "cuda": 2**30}
_GATHER_BYTES = 128 * 2**20


@dataclasses.dataclass(frozen=True)
class Class:
    """Positions of z^{l−1} that the same taps write to.

    ``taps``: indices into the kernel; ``reads`` (taps, positions): where each tap reads z^l, the
    number of its positions standing for a zero beyond the edge, which ``padded`` tells of;
    ``writes`` (positions,).
    """

    taps: tuple[int, ...]
    reads: Tensor
    writes: Tensor
    padded: bool = False

    @functools.cached_property
    def index(self) -> Tensor:
        """``taps`` beside ``reads``, made once: every use of a list would wait for a GPU."""
        return torch.tensor(self.taps, device=self.reads.device)


@dataclasses.dataclass(frozen=True)
class Geometry:
    """What a decoder maps: a state of shape ``source`` to one of shape ``target``.

    Shapes are (d,) or (C, H, W); with two maps the decoder is a transposed convolution, else a
    matrix over all features. ``wraps``: whether it goes around the edge. ``grid``: where the
    positions of z^l lie on z^{l−1}; unless given, that of a block that pads half its kernel.
    """

    source: Shape
    target: Shape
    wraps: bool = False
    grid: Grid | None = None

    @property
    def spatial(self) -> bool:
        """Whether the decoder is a transposed convolution."""
        return len(self.source) == len(self.target) == 3

    @property
    def strides(self) -> tuple[int, int]:
        """Stride along height and width."""
        if not self.spatial:
            return (1, 1)
        if self.grid is not None:
            return self.grid.strides
        (_, h, w), (_, above, wide) = self.source, self.target
        return (-(-above // h), -(-wide // w))

    @property
    def starts(self) -> tuple[int, int]:
        """Row and column of z^{l−1} in the middle of what position (0, 0) of z^l saw."""
        return (0, 0) if self.grid is None else self.grid.starts

    @property
    def kernel(self) -> tuple[int, int]:
        """Sides of the kernel: 3, or what it takes to reach every position."""
        if not self.spatial:
            return (1, 1)
        rows, columns = (
            1 + 2 * max(1, stride - 1, start, above - 1 - stride * (small - 1) - start)
            for small, above, stride, start in zip(
                self.source[1:], self.target[1:], self.strides, self.starts, strict=True
            )
        )
        return (rows, columns)

    @property
    def channels(self) -> tuple[int, int]:
        """Channels read and channels written."""
        if self.spatial:
            return self.source[0], self.target[0]
        return math.prod(self.source), math.prod(self.target)

    @property
    def positions(self) -> tuple[int, int]:
        """Positions read and positions written."""
        return math.prod(self.source) // self.channels[0], (
            math.prod(self.target) // self.channels[1]
        )

    @property
    def taps(self) -> int:
        """Number of kernel positions."""
        return math.prod(self.kernel)

    def classes(self, device: torch.device) -> list[Class]:
        """Return the classes of positions; a matrix has one, which reads everything."""
        return _classes(self, device)


@functools.lru_cache(maxsize=256)
def _classes(geometry: Geometry, device: torch.device) -> list[Class]:
    if not geometry.spatial:
        one = torch.zeros(1, dtype=torch.int64, device=device)
        return [Class((0,), one.unsqueeze(0), one)]
    (_, height, width), (_, above, wide) = geometry.source, geometry.target
    rows, columns = (
        _line(small, large, stride, side // 2 - start, side, geometry.wraps)
        for small, large, stride, start, side in zip(
            (height, width), (above, wide), geometry.strides, geometry.starts, geometry.kernel,
            strict=True,
        )
    )  # fmt: skip
    out = []
    for (tall, i, p), (broad, j, q) in itertools.product(rows, columns):
        beyond = (p < 0).view(len(tall), 1, -1, 1) | (q < 0).view(1, len(broad), 1, -1)
        reads = p.view(len(tall), 1, -1, 1) * width + q.view(1, len(broad), 1, -1)
        reads = reads.masked_fill(beyond, height * width).flatten(2).flatten(0, 1)
        taps = tuple(a * geometry.kernel[1] + b for a, b in itertools.product(tall, broad))
        writes = i.unsqueeze(1) * wide + j
        writes = writes.flatten()
        out.append(Class(taps, reads.to(device), writes.to(device), bool(beyond.any())))
    return out


def _line(
    source: int, target: int, stride: int, back: int, side: int, wraps: bool
) -> list[tuple[tuple[int, ...], Tensor, Tensor]]:
    """Return (taps, positions written, positions read (taps, written); −1 beyond) of one axis."""
    found: dict[tuple[int, ...], list[tuple[int, list[int]]]] = {}
    reads: list[dict[int, int]] = [{} for _ in range(target)]
    for p, k in itertools.product(range(source), range(side)):
        i = stride * p + k - back
        if wraps or 0 <= i < target:
            reads[i % target][k] = p
    for i, by_tap in enumerate(reads):
        taps = (
            tuple(sorted(by_tap))
            if wraps
            else tuple(k for k in range(side) if (i + back - k) % stride == 0)
        )
        found.setdefault(taps, []).append((i, [by_tap.get(k, -1) for k in taps]))
    return [
        (taps, torch.tensor([i for i, _ in rows]), torch.tensor([r for _, r in rows]).T)
        for taps, rows in found.items()
    ]


def gather(geometry: Geometry, members: Class, z: Tensor) -> Tensor:
    """Return what the class reads of z (g, features, n), as (g, C·taps, positions·n)."""
    if not geometry.spatial:
        return z
    g, n = z.shape[0], z.shape[-1]
    channels, positions = geometry.channels[0], geometry.positions[0]
    runs = z.reshape(g * channels, positions, n)
    if members.padded:
        runs = torch.nn.functional.pad(runs, (0, 0, 0, 1))
    found = runs.index_select(1, members.reads.flatten())
    return found.view(g, channels * len(members.taps), -1)


def pick(geometry: Geometry, members: Class, z: Tensor) -> Tensor:
    """Return z (g, features, n) where the class writes, as (g, channels, positions·n)."""
    g, n = z.shape[0], z.shape[-1]
    channels, positions = geometry.channels[1], geometry.positions[1]
    runs = z.reshape(g, channels, positions, n)
    if len(members.writes) < positions:
        runs = runs.index_select(2, members.writes)
    return runs.reshape(g, channels, -1)


def decode(geometry: Geometry, weight: Tensor, bias: Tensor, z: Tensor) -> Tensor:
    """Return V z + a, (g, features of the target, n); weight (g, C_from, taps, C_to)."""
    g, n = z.shape[0], z.shape[-1]
    channels, positions = geometry.channels[1], geometry.positions[1]
    classes = geometry.classes(z.device)
    out = z.new_empty(g, channels, positions, n)
    for members in classes:
        part = torch.baddbmm(bias, matrix(weight, members).mT, gather(geometry, members, z))
        if len(members.writes) == positions:
            return part.view(g, channels * positions, n)
        out[:, :, members.writes] = part.view(g, channels, -1, n)
    return out.view(g, channels * positions, n)


def matrix(weight: Tensor, members: Class) -> Tensor:
    """Return the taps of one class as a matrix, (g, C_from·taps, C_to): a view where it is all."""
    if len(members.taps) == weight.shape[2]:
        return weight.flatten(1, 2)
    return weight.index_select(2, members.index).flatten(1, 2)


def draw(
    geometry: Geometry,
    seeds: Sequence[int],
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor]:
    """Draw one decoder per seed as torch's own modules do: uniform within ±1/√fan-in.

    For a transposed convolution torch counts the channels that it writes as its fan-in. Each kind
    of device has numbers of its own, drawn where they are used: to copy them takes longer than to
    train on them.
    """
    source, target = geometry.channels
    bound = 1 / math.sqrt((target if geometry.spatial else source) * geometry.taps)
    weight = torch.empty(len(seeds), source, geometry.taps, target, dtype=dtype, device=device)
    bias = torch.empty(len(seeds), target, 1, dtype=dtype, device=device)
    for k, seed in enumerate(seeds):
        generator = torch.Generator(device=device).manual_seed(seed)
        weight[k].uniform_(-bound, bound, generator=generator)
        bias[k].uniform_(-bound, bound, generator=generator)
    return weight, bias


class Scratch:
    """Memory for what a step needs only until the next one: one run of numbers per use.

    Whatever asks for a shape gets it from the same place, so that it is still in the processor's
    caches, where a tensor for every layer would pass through memory.
    """

    def __init__(self, like: Tensor) -> None:
        self.like = like
        self._flat: dict[str, Tensor] = {}

    def __call__(self, use: str, *shape: int) -> Tensor:
        """Return a tensor of that shape; it overwrites what the use held before."""
        count = math.prod(shape)
        flat = self._flat.get(use)
        if flat is None or len(flat) < count:
            flat = self._flat[use] = self.like.new_empty(count)
        return flat[:count].view(shape)


@dataclasses.dataclass(frozen=True)
class _Run:
    """Decoders that are stepped together: weight and bias, and Adam's moments of both."""

    part: slice
    parameters: list[Tensor]
    first: list[Tensor]
    second: list[Tensor]
    taken: Tensor


class Stack:
    """Decoders of one geometry, trained together.

    ``weight`` (g, C_from, taps, C_to), ``bias`` (g, C_to, 1).

    The loss of each is the mean over the batch and over all its outputs of (ẑ − z^{l−1})², and
    ∂/∂V of it is one product, so there is no graph. Adam is torch's fused one: one pass over
    parameters and moments, element by element, so a stack moves as its members would alone.
    They are taken in runs small enough to stay in the processor's caches, each through several
    batches before the next, so that weights and moments seldom come from memory; gradients lie in
    ``work``, which all stacks may share. Weights have what they write to last, the order in which
    products are fastest.
    """

    def __init__(
        self,
        geometry: Geometry,
        weight: Tensor,
        bias: Tensor,
        *,
        learning_rate: float,
        bounded: bool,
        batch_size: int,
        work: Scratch,
    ) -> None:
        self.geometry, self.bounded, self.work, self.rate = geometry, bounded, work, learning_rate
        self.classes = geometry.classes(weight.device)
        size = weight.element_size()
        gathered = max(len(c.taps) * len(c.writes) for c in self.classes)
        each = size * (
            4 * weight[0].numel()
            + batch_size * (gathered * geometry.channels[0] + 2 * math.prod(geometry.target))
        )
        run = max(1, min(len(weight), _CHUNK_BYTES[weight.device.type] // each))
        both = (weight, bias)
        first, second = ([torch.zeros_like(whole) for whole in both] for _ in range(2))
        self.runs = [
            _Run(
                part,
                [whole[part] for whole in both],
                [whole[part] for whole in first],
                [whole[part] for whole in second],
                torch.zeros((), device=weight.device),
            )
            for part in (slice(k, k + run) for k in range(0, len(weight), run))
        ]

    def advance(self, z: Tensor, below: Tensor) -> None:
        """Take one step per batch; z (batches, g, features, n) and what it came from, z^{l−1}."""
        scale = 2 / (z.shape[-1] * math.prod(self.geometry.target))
        for run in self.runs:
            for upper, lower in zip(z[:, run.part], below[:, run.part], strict=True):
                gradient = self._gradient(run, upper, lower, scale)
                run.taken.add_(1)
                # What torch.optim.Adam(fused=True) calls, whose own preparations cost as much
                # as a small step.
                torch._fused_adam_(
                    run.parameters, gradient, run.first, run.second, [], [run.taken, run.taken],
                    lr=self.rate, beta1=0.9, beta2=0.999, weight_decay=0.0, eps=1e-8,
                    amsgrad=False, maximize=False,
                )  # fmt: skip

    def _gradient(self, run: _Run, z: Tensor, below: Tensor, scale: float) -> list[Tensor]:
        """Return the gradients of weight and bias, both in scratch."""
        weight, bias = run.parameters
        slope, shift = self.work("slope", *weight.shape), self.work("shift", *bias.shape)
        for position, members in enumerate(self.classes):
            read = gather(self.geometry, members, z)
            part = matrix(weight, members)
            out = self.work("out", len(z), part.shape[2], read.shape[2])
            delta = self.work("delta", *out.shape)
            torch.baddbmm(bias, part.mT, read, out=out)
            if self.bounded:
                torch.tanh(out, out=out)
            torch.sub(out, pick(self.geometry, members, below), out=delta)
            if self.bounded:
                _tanh_chain(delta, out, grad_input=delta)
            if len(members.taps) == self.geometry.taps:
                whole = slope.flatten(1, 2)
                torch.baddbmm(whole, read, delta.mT, beta=0, alpha=scale, out=whole)
            else:
                found = torch.bmm(read, delta.mT).mul_(scale)
                slope.index_copy_(2, members.index, found.unflatten(1, (-1, len(members.taps))))
            if position:
                shift += delta.sum(2, keepdim=True)
            else:
                torch.sum(delta, 2, keepdim=True, out=shift)
        shift *= scale
        return [slope, shift]


def regress(geometry: Geometry, z: Tensor, below: Tensor, noise: float) -> tuple[Tensor, Tensor]:
    """Return the best linear decoder of activations that are known to ±``noise`` each.

    V = C_{z⁻z} (C_{zz} + noise² 1)^{-1} and a = ⟨z⁻⟩ − V ⟨z⟩, with z⁻ = z^{l−1} and the covariances
    over images (and over positions, within each class of them): the minimum of ⟨|z⁻ − V(z + ν) −
    a|²⟩ over V and a for independent ν of variance noise². Where there are several classes they
    share one a, as a transposed convolution has one per channel: the minimum is then at the mean
    of their own a_k, weighted by share_k/(1 + s_k) with s_k = ⟨z⟩ᵀ(C_{zz} + noise² 1)^{-1}⟨z⟩, and
    V_k takes up the rest, (a_k − a) ⟨z⟩ᵀ(C_{zz} + noise² 1)^{-1}/(1 + s_k). A plain mean of a_k
    would draw stripes wherever activations are all of one sign. z (g, features, n).

    Computed in float32, or float64 where z is, and again in float64 where covariances are so large
    that their rounding hides noise². Raises ValueError where they are too large for float64.
    """
    first = torch.promote_types(z.dtype, torch.float32)
    for dtype in dict.fromkeys((first, torch.float64)):
        found = _regress(geometry, z, below, noise, dtype)
        if found is not None:
            weight, bias = found
            return weight.to(z.dtype), bias.to(z.dtype)
    raise ValueError(
        f"noise={noise:g} is below the rounding of activations as large as "
        f"{float(z.abs().max()):g}: give a larger noise, or scale the network down"
    )


def _regress(
    geometry: Geometry, z: Tensor, below: Tensor, noise: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor] | None:
    """Return the decoder as computed in ``dtype``, None where rounding hides the noise."""
    source, target = geometry.channels
    new = functools.partial(torch.zeros, dtype=dtype, device=z.device)
    weight = new(len(z), source, geometry.taps, target)
    bias, shares = new(len(z), target, 1), new(len(z), 1, 1)
    found = []
    # Taken off first: a signal far below the mean would drown in the rounding of mean squares.
    middle = z.reshape(len(z), source, -1).mean(2, dtype=dtype)
    aim = below.reshape(len(z), target, -1).mean(2, keepdim=True, dtype=dtype)
    for members in geometry.classes(z.device):
        taps = len(members.taps)
        level = middle.repeat_interleave(taps, 1).unsqueeze(2)
        gram = new(len(z), source * taps, source * taps)
        cross = new(len(z), source * taps, target)
        sums = new(len(z), source * taps, 1), new(len(z), target, 1)
        each = dtype.itemsize * len(z) * source * taps * len(members.writes)
        batch = max(1, _GATHER_BYTES // each)
        for start in range(0, z.shape[-1], batch):
            columns = slice(start, start + batch)
            read = gather(geometry, members, z[..., columns]).to(dtype) - level
            wanted = pick(geometry, members, below[..., columns]).to(dtype) - aim
            gram.baddbmm_(read, read.mT)
            cross.baddbmm_(read, wanted.mT)
            sums[0].add_(read.sum(2, keepdim=True))
            sums[1].add_(wanted.sum(2, keepdim=True))
        count = z.shape[-1] * len(members.writes)
        seen, hoped = (total / count for total in sums)
        gram.div_(count).baddbmm_(seen, seen.mT, alpha=-1)
        cross.div_(count).baddbmm_(seen, hoped.mT, alpha=-1)
        gram.diagonal(dim1=1, dim2=2).add_(noise**2)
        level = level + seen
        if gram.is_cuda:
            both, failed = solve_in_blocks(gram, torch.cat([cross, level], 2))
            solved, lean = both.split([target, 1], 2)
        else:
            factor, failed = torch.linalg.cholesky_ex(gram)
        if bool(failed.any()):
            return None
        if not gram.is_cuda:
            solved = torch.cholesky_solve(cross, factor)
            lean = torch.cholesky_solve(level, factor)
        tilt = 1 + (lean * level).sum(1, keepdim=True)
        own = aim + hoped - torch.bmm(solved.mT, level)
        found.append((members, solved, lean / tilt, own))
        share = len(members.writes) / tilt
        bias += share * own
        shares += share
    bias /= shares
    for members, solved, lean, own in found:
        both = solved.baddbmm_(lean, (own - bias).mT)
        weight.index_copy_(2, members.index, both.unflatten(1, (source, len(members.taps))))
    return weight, bias


def solve_in_blocks(matrix: Tensor, right: Tensor, size: int = 112) -> tuple[Tensor, Tensor]:
    """Solve M X = R for positive definite M (g, n, n), R (g, n, m); return X and which failed.

    Cholesky's factor M = L Lᵀ block by block, of which only the diagonal ones, of ``size``, are
    factorised and inverted as such; all else are batched products. On a GPU that keeps all
    multiprocessors at work, where one factorisation after another is a chain of small kernels.
    ``matrix`` is overwritten. ``failed`` (g,) is not 0 where M is not positive definite as rounded.
    """
    n = matrix.shape[1]
    out = right.clone()
    failed = torch.zeros(len(matrix), dtype=torch.int32, device=matrix.device)
    ends = [(start, min(start + size, n)) for start in range(0, n, size)]
    kept = []
    for start, end in ends:
        block, wrong = torch.linalg.cholesky_ex(matrix[:, start:end, start:end])
        failed |= wrong
        unit = torch.eye(end - start, dtype=matrix.dtype, device=matrix.device)
        inverse = torch.linalg.solve_triangular(block, unit.expand_as(block), upper=False)
        below = matrix[:, end:, start:end] @ inverse.mT
        matrix[:, end:, end:].baddbmm_(below, below.mT, alpha=-1)
        out[:, start:end] = inverse @ out[:, start:end]
        out[:, end:].baddbmm_(below, out[:, start:end], alpha=-1)
        kept.append((inverse, below))
    for (start, end), (inverse, below) in zip(reversed(ends), reversed(kept), strict=True):
        out[:, start:end].baddbmm_(below.mT, out[:, end:], alpha=-1)
        out[:, start:end] = inverse.mT @ out[:, start:end]
    return out, failed
