"""What decides the numbers of circles through networks: the networks, the curves, their measures.

The shards of ``manifold.sweep`` are keyed by the version of this module and of what it imports, so
that a change of how shards are run or kept leaves them valid.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mflib.experiment import _checks, draws
from mflib.experiment.nonlinearities import Nonlinearity, nonlinearity

PLANES = ("axes", "random")
N_SHARES = 5


def circle(
    width: int,
    n_angles: int,
    *,
    radius: float = 1.0,
    plane: str = "axes",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return r (cos θ_k u + sin θ_k v) at θ_k = 2πk/n, (n_angles, width) in float64.

    ``plane="axes"`` takes the first two unit vectors for u and v (the published code's choice),
    "random" a uniformly random orthonormal pair from ``generator``. ``radius`` > 0 is the Euclidean
    length of each point. Raises ValueError for other values, fewer than 3 angles, or width below 2.

    >>> circle(3, 4).round(decimals=9).tolist()[1]
    [0.0, 1.0, 0.0]
    """
    width = _checks.count("width", width, 2)
    n_angles = _checks.count("n_angles", n_angles, 3)
    _checks.require(_checks.number("radius", radius, float) > 0, "radius", radius, "above 0")
    _choice("plane", plane, PLANES)
    theta = angles(n_angles)
    turn = torch.stack([torch.cos(theta), torch.sin(theta)], dim=1)
    if plane == "axes":
        frame = torch.eye(width, 2, dtype=torch.float64)
    else:
        if generator is None:
            raise ValueError('plane="random" needs a generator: give one')
        frame = draws.haar_orthogonal(width, 2, [generator], dtype=torch.float64)[0].cpu()
    return radius * turn @ frame.T


def variation(h: Tensor) -> Tensor:
    """Return CV = std_θ(Δh)/⟨Δh⟩_θ, Δh_k = |h(θ_{k+1}) − h(θ_k)|, of closed curves (..., n, N).

    The last point's neighbour is the first. NaN where all points coincide.
    Source: the paper, eq. 11.
    """
    curve = _scaled(h)[0]
    steps = (curve.roll(-1, dims=-2) - curve).norm(dim=-1)
    return _spread(steps)


# --- networks -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Settings:
    """What all networks of one call share."""

    activation: str
    width: int
    depth: int
    n_angles: int
    seed: int
    layers: tuple[int, ...]
    radius: float
    plane: str

    @classmethod
    def checked(
        cls,
        activation: str,
        width: int,
        depth: int,
        n_angles: int,
        seed: int,
        layers: Sequence[int] | None,
        radius: float,
        plane: str,
    ) -> Settings:
        """Return the settings once all of them are known to be good."""
        nonlinearity(activation)
        depth = _checks.count("depth", depth, 1)
        _choice("plane", plane, PLANES)
        circle(width, n_angles, radius=radius)
        chosen = range(depth + 1) if layers is None else listed("layers", layers)
        wanted = [_checks.number("layers", layer, int) for layer in chosen]
        for layer in wanted:
            _checks.require(0 <= layer <= depth, "layers", layer, f"in [0, depth={depth}]")
        return cls(
            activation,
            int(width),
            depth,
            int(n_angles),
            _checks.number("seed", seed, int),
            tuple(sorted(distinct("layers", wanted))),
            float(radius),
            plane,
        )

    @property
    def halves(self) -> bool:
        """Tell whether h(θ + π) = −h(θ) in all layers, so that half of the circle says all.

        It does without biases, where φ is odd and every angle has its opposite.
        """
        z = torch.logspace(-300, 300, 2401, dtype=torch.float64)
        phi = nonlinearity(self.activation)
        return self.n_angles % 2 == 0 and torch.equal(phi(-z), -phi(z))

    def states(
        self,
        alpha: float,
        gains: Sequence[float],
        network: int,
        device: torch.device,
        *,
        half: bool = False,
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield (l, h^l) for l = 0 … the last layer wanted, h^l (gains, n_angles, N).

        The tensor is that of the layer before, overwritten. ``half`` leaves out θ ≥ π.
        """
        seed = draws.derive_seed(self.seed, "manifold", self.width, network)
        members = draws.generators([seed], device=device)
        plane = draws.generators([draws.derive_seed(seed, "plane")])[0]
        start = circle(
            self.width, self.n_angles, radius=self.radius, plane=self.plane, generator=plane
        )
        start = start[: self.n_angles // 2] if half else start
        phi: Nonlinearity = nonlinearity(self.activation)
        h = start.to(device).expand(len(gains), -1, -1).clone()
        y = torch.empty_like(h[0])
        stability = torch.tensor([alpha], dtype=torch.float64)
        scale = (0.5 / self.width) ** (1 / alpha)
        yield 0, h
        for layer in range(1, self.layers[-1] + 1):
            shape = (self.width, self.width)
            w = draws.standard_stable(shape, members, alpha=stability, dtype=torch.float64)[0]
            for gain, curve in zip(gains, h, strict=True):
                phi.apply(curve, y)
                torch.matmul(y, w.mT, out=curve).mul_(gain * scale)
            yield layer, h


# --- curves ---------------------------------------------------------------------------------------


def angles(n: int) -> Tensor:
    """Return n equally spaced angles from 0 on, (n,)."""
    return torch.arange(n, dtype=torch.float64) * (2 * math.pi / n)


def _scaled(h: Tensor) -> tuple[Tensor, Tensor]:
    """Return h/s and s = max |h| (1 where h is 0): squares of small curves underflow otherwise."""
    size = h.abs().amax(dim=(-2, -1), keepdim=True)
    size = torch.where(size > 0, size, torch.ones_like(size))
    return h / size, size[..., 0, 0]


def _centred(h: Tensor) -> tuple[Tensor, Tensor]:
    return _scaled(h - h.mean(dim=-2, keepdim=True))


def decomposed(h: Tensor) -> tuple[Tensor, Tensor]:
    """Return log singular values of a centred curve (n, N) and its first three components."""
    curve, size = _centred(h)
    u, s, _ = torch.linalg.svd(curve, full_matrices=False)
    u = u[:, :3]
    largest = u.gather(0, u.abs().argmax(dim=0, keepdim=True))
    return s.log() + size.log(), u * torch.where(largest < 0, -1.0, 1.0)


def described(h: Tensor, *, half: bool = False) -> list[dict[str, float]]:
    """Return the measures of curves (E, n, N), by name; ``half``: of which h is the first half.

    The other half is −h then: the mean is 0, the steps between neighbours repeat, and of the
    singular values half are 0 and the others √2 times those of h. A GPU is waited for once.
    """
    curve, size = _scaled(h) if half else _centred(h)
    n, width = curve.shape[-2:]
    gram = curve @ curve.mT if n <= width else curve.mT @ curve
    squares = torch.linalg.eigvalsh(gram).clamp_(min=0).flip(-1)
    if half:
        squares = torch.nn.functional.pad(2 * squares, (0, n))[:, : min(2 * n, width)]
        n *= 2
        # past the end the curve goes on at −h; the second half of the steps is as the first
        steps = (torch.cat([curve[:, 1:], -curve[:, :1]], dim=1) - curve).norm(dim=-1)
        cv = _spread(steps)
    else:
        cv = variation(h)
    total, log_size = squares.sum(dim=-1), size.log()
    shares = (squares[:, :N_SHARES] / total[:, None]).unbind(dim=1)
    found = {
        "cv": cv,
        "log_variance": (total / n).log() + 2 * log_size,
        "log_top": 0.5 * squares[:, 0].log() + log_size,
        "log_sum": squares.sqrt().sum(dim=-1).log() + log_size,
        **{f"share_{k}": share for k, share in enumerate(shares, 1)},
        "log_median": log_median(h),
    }
    rows = torch.stack(list(found.values()), dim=1).tolist()
    return [dict(zip(found, row, strict=True)) for row in rows]


def _spread(steps: Tensor) -> Tensor:
    return steps.std(dim=-1, correction=0) / steps.mean(dim=-1)


def log_median(h: Tensor) -> Tensor:
    """Return log of the median of |h| over neurons and angles, of which −h has the same; (E,)."""
    return h.abs().flatten(-2).median(dim=-1).values.log()


# --- checks ---------------------------------------------------------------------------------------


def listed(name: str, values: Any) -> Sequence[Any]:
    """Return a list of at least one number. Raises ValueError for anything else."""
    known = np.ndim(values) == 1 and len(values) > 0
    _checks.require(bool(known), name, values, "a list of at least one number")
    return list(values)


def distinct(name: str, values: list[Any]) -> list[Any]:
    """Return the values. Raises ValueError where one comes twice."""
    _checks.require(len(set(values)) == len(values), name, values, "without repetition")
    return values


def _choice(name: str, value: object, choices: Sequence[str]) -> None:
    _checks.require(value in choices, name, value, f"one of {', '.join(choices)}")
