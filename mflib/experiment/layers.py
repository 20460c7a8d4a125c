"""Affine maps of an ensemble's layers: up, down and the descent of their weights in place.

A state holds the samples last, (E, features, n). A feature map of C channels at P positions has
features = C·P, channel by channel, the order in which ``torch.nn.Flatten`` lays them out: so a
convolution and a dense map read the same tensor, positions are gathered in runs of n numbers, and
every map is a few batched matrix products. Scratch tensors come from a ``Workspace``, so nothing
is allocated after the first step.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Protocol

import torch
from torch import Tensor, nn


class Workspace:
    """Scratch tensors by use and shape, made on first use and then used again."""

    def __init__(self, like: Tensor) -> None:
        self.dtype, self.device = like.dtype, like.device
        self._tensors: dict[tuple[str, tuple[int, ...]], Tensor] = {}

    def __call__(self, use: str, *shape: int) -> Tensor:
        """Return the tensor of that use and shape; its contents are whatever was left there."""
        found = self._tensors.get((use, shape))
        if found is None:
            found = torch.empty(*shape, dtype=self.dtype, device=self.device)
            self._tensors[use, shape] = found
        return found

    @property
    def bytes(self) -> int:
        """Memory held."""
        return sum(t.numel() * t.element_size() for t in self._tensors.values())


class Descend(Protocol):
    """Take the step of one parameter: θ ← θ − (a b), or through the velocity with momentum."""

    def __call__(self, parameter: Tensor, velocity: Tensor | None, a: Tensor, b: Tensor) -> None:
        """``parameter``, ``velocity``: (E, r, s) views; a: (E, r, m), b: (E, m, s)."""


class Layer(Protocol):
    """One affine map: its sizes, and its three operations on tensors of any ensemble.

    ``weight``: as ``weight_shape`` after E; ``bias``: (E, 1, channels_out). ``image_in`` and
    ``image_out`` are the shapes (C, H, W) that features are read in, None where they are flat.
    """

    @property
    def n_in(self) -> int:
        """Number of input features."""

    @property
    def n_out(self) -> int:
        """Number of output features."""

    @property
    def channels_out(self) -> int:
        """Number of biases."""

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of one member's weight."""

    @property
    def image_in(self) -> tuple[int, int, int] | None:
        """Shape of the input."""

    @property
    def image_out(self) -> tuple[int, int, int] | None:
        """Shape of the output."""

    def up(self, weight: Tensor, bias: Tensor, y: Tensor, out: Tensor, work: Workspace) -> None:
        """Write z = W y + b, (E, n_out, n), for y (E, n_in, n); ``out`` is contiguous."""

    def down(
        self,
        weight: Tensor,
        velocity: Tensor | None,
        y: Tensor,
        delta: Tensor,
        passed: Tensor | None,
        descend: Descend,
        work: Workspace,
    ) -> None:
        """Write Wᵀ δ to ``passed`` (E, n_in, n) where it is wanted, then descend along δ yᵀ."""

    def lay_out(self, weight: Tensor) -> Tensor:
        """Return the weight with its numbers in the order in memory that is fast here."""

    def scratch(self) -> int:
        """Return the numbers of scratch per sample that ``up`` and ``down`` may hold."""

    def modules(self, weight: Tensor, bias: Tensor) -> list[nn.Module]:
        """Return plain modules for one member's weight and bias, from ``image_in``'s shape."""


@dataclasses.dataclass(frozen=True)
class Dense:
    """z = y W + b over all features; weight (E, n_in, n_out)."""

    n_in: int
    n_out: int
    image_in = None
    image_out = None

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of one member's weight."""
        return (self.n_in, self.n_out)

    @property
    def channels_out(self) -> int:
        """Number of biases."""
        return self.n_out

    def up(self, weight: Tensor, bias: Tensor, y: Tensor, out: Tensor, work: Workspace) -> None:
        """See ``Layer``."""
        torch.baddbmm(bias.mT, weight.mT, y, out=out)

    def down(
        self,
        weight: Tensor,
        velocity: Tensor | None,
        y: Tensor,
        delta: Tensor,
        passed: Tensor | None,
        descend: Descend,
        work: Workspace,
    ) -> None:
        """See ``Layer``."""
        if passed is not None:
            torch.bmm(weight, delta, out=passed)
        descend(weight, velocity, y, delta.mT)

    def lay_out(self, weight: Tensor) -> Tensor:
        """See ``Layer``."""
        return weight.contiguous()

    def scratch(self) -> int:
        """See ``Layer``."""
        return 0

    def modules(self, weight: Tensor, bias: Tensor) -> list[nn.Module]:
        """See ``Layer``."""
        return [_linear(weight, bias)]


@dataclasses.dataclass(frozen=True)
class PooledDense:
    """z = ȳ W + b, where ȳ is the mean over the positions; weight (E, channels, n_out)."""

    image_in: tuple[int, int, int]
    n_out: int
    image_out = None

    @property
    def channels(self) -> int:
        """Number of input channels."""
        return self.image_in[0]

    @property
    def positions(self) -> int:
        """Number of positions."""
        return self.image_in[1] * self.image_in[2]

    @property
    def n_in(self) -> int:
        """Number of input features."""
        return self.channels * self.positions

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of one member's weight."""
        return (self.channels, self.n_out)

    @property
    def channels_out(self) -> int:
        """Number of biases."""
        return self.n_out

    def _split(self, y: Tensor) -> Tensor:
        return y.unflatten(1, (self.channels, self.positions))

    def up(self, weight: Tensor, bias: Tensor, y: Tensor, out: Tensor, work: Workspace) -> None:
        """See ``Layer``."""
        pooled = work("pooled", y.shape[0], self.channels, y.shape[2])
        torch.mean(self._split(y), dim=2, out=pooled)
        torch.baddbmm(bias.mT, weight.mT, pooled, out=out)

    def down(
        self,
        weight: Tensor,
        velocity: Tensor | None,
        y: Tensor,
        delta: Tensor,
        passed: Tensor | None,
        descend: Descend,
        work: Workspace,
    ) -> None:
        """See ``Layer``."""
        pooled = work("pooled", y.shape[0], self.channels, y.shape[2])
        if passed is not None:
            torch.bmm(weight, delta, out=pooled)
            self._split(passed).copy_(pooled.div_(self.positions).unsqueeze(2))
        torch.mean(self._split(y), dim=2, out=pooled)
        descend(weight, velocity, pooled, delta.mT)

    def lay_out(self, weight: Tensor) -> Tensor:
        """See ``Layer``."""
        return weight.contiguous()

    def scratch(self) -> int:
        """See ``Layer``."""
        return self.channels

    def modules(self, weight: Tensor, bias: Tensor) -> list[nn.Module]:
        """See ``Layer``."""
        return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), _linear(weight, bias)]


@dataclasses.dataclass(frozen=True)
class Convolution:
    """z_o(p) = Σ_{c,β} W_{ocβ} y_c(s p + β) + b_o on a torus; weight (E, C_out, C_in, k, k).

    ``size`` is the input's (H, W); ``kernel`` k is odd, β runs over −(k−1)/2 … (k−1)/2 in both
    directions, ``stride`` is s, and the output is ⌈H/s⌉ × ⌈W/s⌉.

    Every map needs the products W·(gathered y), Wᵀδ and δ·(gathered y)ᵀ. With stride 1 the last
    two can share one gather of δ, by the inverse table: z costs one gather up, δ one down. That
    wants the weights in memory as (C_in, C_out, k, k) (``lay_out``). It does not pay where C_out
    is larger than C_in, and does not exist for larger strides; there y is gathered twice, and
    Wᵀδ is added tap by tap, since one tap never reads a position twice.
    """

    channels_in: int
    channels_out: int
    size: tuple[int, int]
    kernel: int = 3
    stride: int = 1

    @property
    def size_out(self) -> tuple[int, int]:
        """Height and width of the output."""
        return (-(-self.size[0] // self.stride), -(-self.size[1] // self.stride))

    @property
    def image_in(self) -> tuple[int, int, int]:
        """Shape of the input."""
        return (self.channels_in, *self.size)

    @property
    def image_out(self) -> tuple[int, int, int]:
        """Shape of the output."""
        return (self.channels_out, *self.size_out)

    @property
    def positions_in(self) -> int:
        """Number of input positions."""
        return self.size[0] * self.size[1]

    @property
    def positions_out(self) -> int:
        """Number of output positions."""
        return self.size_out[0] * self.size_out[1]

    @property
    def n_in(self) -> int:
        """Number of input features."""
        return self.channels_in * self.positions_in

    @property
    def n_out(self) -> int:
        """Number of output features."""
        return self.channels_out * self.positions_out

    @property
    def taps(self) -> int:
        """Number of kernel positions."""
        return self.kernel**2

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of one member's weight."""
        return (self.channels_out, self.channels_in, self.kernel, self.kernel)

    @property
    def gathers_delta(self) -> bool:
        """Whether δ is gathered on the way down, rather than y once more."""
        return self.stride == 1 and self.channels_out <= self.channels_in

    def lay_out(self, weight: Tensor) -> Tensor:
        """See ``Layer``."""
        if self.gathers_delta:
            return weight.transpose(1, 2).contiguous().transpose(1, 2)
        return weight.contiguous()

    def up(self, weight: Tensor, bias: Tensor, y: Tensor, out: Tensor, work: Workspace) -> None:
        """See ``Layer``."""
        e, n = out.shape[0], out.shape[-1]
        matrix = weight.flatten(3)
        if self.gathers_delta:
            rows = work("kernel", e, self.channels_out, self.channels_in, self.taps)
            matrix = rows.copy_(matrix)
        torch.baddbmm(
            bias.mT,
            matrix.flatten(2),
            self._gather(y, self.channels_in, _tables(self, y.device)[0], work),
            out=out.view(e, self.channels_out, self.positions_out * n),
        )

    def down(
        self,
        weight: Tensor,
        velocity: Tensor | None,
        y: Tensor,
        delta: Tensor,
        passed: Tensor | None,
        descend: Descend,
        work: Workspace,
    ) -> None:
        """See ``Layer``."""
        e, n = delta.shape[0], delta.shape[-1]
        taken, given = _tables(self, y.device)
        if self.gathers_delta:
            gathered = self._gather(delta, self.channels_out, given, work)
            shape = (e, self.channels_in, self.channels_out * self.taps)
            # A view or nothing: weights in another order must not be descended in a copy.
            matrix = weight.transpose(1, 2).view(shape)
            speed = None if velocity is None else velocity.transpose(1, 2).view(shape)
            if passed is not None:
                torch.bmm(matrix, gathered, out=passed.view(e, self.channels_in, -1))
            descend(matrix, speed, y.reshape(e, self.channels_in, -1), gathered.mT)
            return
        shape = (e, self.channels_out, self.channels_in * self.taps)
        matrix = weight.view(shape)
        speed = None if velocity is None else velocity.view(shape)
        top = delta.view(e, self.channels_out, self.positions_out * n)
        if passed is not None:
            runs = (e * self.channels_in, self.taps, self.positions_out, n)
            parts = work("gathered", e, self.channels_in * self.taps, self.positions_out * n)
            torch.bmm(matrix.mT, top, out=parts)
            below = passed.zero_().view(e * self.channels_in, self.positions_in, n)
            for tap, read in enumerate(taken.view(self.taps, self.positions_out)):
                below.index_add_(1, read, parts.view(runs)[:, tap])
        gathered = self._gather(y, self.channels_in, taken, work)
        descend(matrix, speed, top, gathered.mT)

    def _gather(self, y: Tensor, channels: int, table: Tensor, work: Workspace) -> Tensor:
        """Return y at the positions of ``table``, (E, channels·taps, positions·n)."""
        e, n = y.shape[0], y.shape[-1]
        shared = y.stride(0) == 0 and e > 1  # inputs that all members see are gathered once
        rows = 1 if shared else e
        out = work("gathered", rows, channels * self.taps, len(table) // self.taps * n)
        runs = (y[:1] if shared else y).reshape(rows * channels, -1, n)
        torch.index_select(runs, 1, table, out=out.view(rows * channels, len(table), n))
        return out.expand(e, -1, -1)

    def scratch(self) -> int:
        """See ``Layer``."""
        return self.channels_in * self.taps * self.positions_out

    def modules(self, weight: Tensor, bias: Tensor) -> list[nn.Module]:
        """See ``Layer``."""
        convolution = nn.Conv2d(
            self.channels_in,
            self.channels_out,
            self.kernel,
            self.stride,
            padding=self.kernel // 2,
            padding_mode="circular",
            device=weight.device,
            dtype=weight.dtype,
        )
        convolution.weight = nn.Parameter(weight.clone(memory_format=torch.contiguous_format))
        convolution.bias = nn.Parameter(bias[0].clone())
        return [convolution]


@functools.lru_cache(maxsize=256)
def _tables(layer: Convolution, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the input position of every (tap, output), and the output of every (tap, input).

    Both run over the taps first. The second is the inverse of the first at stride 1; at others
    it is empty.
    """
    height, width = layer.size
    reach = torch.arange(layer.kernel) - layer.kernel // 2
    down, right = torch.meshgrid(reach, reach, indexing="ij")

    def positions(step: int, sign: int, rows: int, columns: int) -> Tensor:
        i = (step * torch.arange(rows) + sign * down.reshape(-1, 1)) % height
        j = (step * torch.arange(columns) + sign * right.reshape(-1, 1)) % width
        return (i.unsqueeze(2) * width + j.unsqueeze(1)).flatten().to(device)

    taken = positions(layer.stride, 1, *layer.size_out)
    given = positions(1, -1, height, width) if layer.stride == 1 else taken[:0]
    return taken, given


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    n_in, n_out = weight.shape
    linear = nn.Linear(n_in, n_out, device=weight.device, dtype=weight.dtype)
    linear.weight = nn.Parameter(weight.T.clone(memory_format=torch.contiguous_format))
    linear.bias = nn.Parameter(bias[0].clone())
    return linear
