"""Activation functions for tensors, with the derivative that backpropagation needs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

_aten = torch.ops.aten


@dataclasses.dataclass(frozen=True)
class Nonlinearity:
    """φ for tensors, with the product g φ′(z) that backpropagation needs.

    ``apply(z, out)`` writes φ(z); ``chain(g, saved, out)`` writes g φ′(z), where ``saved`` is
    y = φ(z) if ``from_output`` and z otherwise: where φ′ follows from y, z need not be kept.
    ``range`` is the closure of φ's values.
    """

    name: str
    apply: Callable[[Tensor, Tensor], object]
    chain: Callable[[Tensor, Tensor, Tensor], object]
    from_output: bool
    range: tuple[float, float]

    def __call__(self, z: Tensor) -> Tensor:
        """Return φ(z) as a new tensor of z's shape."""
        out = torch.empty_like(z)
        self.apply(z, out)
        return out

    def derivative(self, z: Tensor) -> Tensor:
        """Return φ′(z) as a new tensor of z's shape."""
        out = torch.empty_like(z)
        self.chain(torch.ones_like(z), self(z) if self.from_output else z, out)
        return out


def _softsign(z: Tensor, out: Tensor) -> Tensor:
    return torch.div(z, z.abs().add_(1), out=out)


def _softsign_chain(g: Tensor, y: Tensor, out: Tensor) -> Tensor:
    return torch.mul(g, (1 - y.abs()).square_(), out=out)


def _erf_chain(g: Tensor, z: Tensor, out: Tensor) -> Tensor:
    slope = z.square().neg_().exp_().mul_(2 / math.sqrt(math.pi))
    return torch.mul(g, slope, out=out)


def _leaky_relu_chain(g: Tensor, y: Tensor, out: Tensor) -> Tensor:
    return _aten.leaky_relu_backward.grad_input(g, y, LEAK, True, grad_input=out)


LEAK = 0.01

_UNIT = (-1.0, 1.0)
_LINE = (-math.inf, math.inf)

NONLINEARITIES: dict[str, Nonlinearity] = {
    entry.name: entry
    for entry in (
        Nonlinearity(
            "tanh",
            lambda z, out: torch.tanh(z, out=out),
            lambda g, y, out: _aten.tanh_backward.grad_input(g, y, grad_input=out),
            True,
            _UNIT,
        ),
        Nonlinearity("erf", lambda z, out: torch.erf(z, out=out), _erf_chain, False, _UNIT),
        Nonlinearity(
            "arctan",
            lambda z, out: torch.atan(z, out=out),
            lambda g, z, out: torch.div(g, z.square().add_(1), out=out),
            False,
            (-math.pi / 2, math.pi / 2),
        ),
        Nonlinearity("softsign", _softsign, _softsign_chain, True, _UNIT),
        Nonlinearity(
            "hard-tanh",
            lambda z, out: torch.clamp(z, -1, 1, out=out),
            lambda g, y, out: _aten.hardtanh_backward.grad_input(g, y, -1, 1, grad_input=out),
            True,
            _UNIT,
        ),
        Nonlinearity(
            "relu",
            lambda z, out: torch.clamp(z, min=0, out=out),
            lambda g, y, out: _aten.threshold_backward.grad_input(g, y, 0, grad_input=out),
            True,
            (0.0, math.inf),
        ),
        Nonlinearity(
            "leaky-relu",
            lambda z, out: _aten.leaky_relu.out(z, LEAK, out=out),
            _leaky_relu_chain,
            True,
            _LINE,
        ),
        Nonlinearity(
            "sigmoid",
            lambda z, out: torch.sigmoid(z, out=out),
            lambda g, y, out: _aten.sigmoid_backward.grad_input(g, y, grad_input=out),
            True,
            (0.0, 1.0),
        ),
        Nonlinearity(
            "gelu",
            lambda z, out: _aten.gelu.out(z, out=out),
            lambda g, z, out: _aten.gelu_backward.grad_input(g, z, grad_input=out),
            False,
            (-0.16997120747990369, math.inf),
        ),
        Nonlinearity(
            "silu",
            lambda z, out: _aten.silu.out(z, out=out),
            lambda g, z, out: _aten.silu_backward.grad_input(g, z, grad_input=out),
            False,
            (-0.27846454276107379, math.inf),
        ),
        Nonlinearity(
            "linear",
            lambda z, out: out.copy_(z) if out is not z else out,
            lambda g, y, out: out.copy_(g) if out is not g else out,
            True,
            _LINE,
        ),
    )
}


def nonlinearity(activation: object) -> Nonlinearity:
    """Return the tensor form of an activation given by name (or by an object with ``name``).

    Raises ValueError for a name without one.
    """
    name = getattr(activation, "name", activation)
    if not isinstance(name, str) or name not in NONLINEARITIES:
        raise ValueError(
            f"activation {name!r} cannot be trained: choose one of {', '.join(NONLINEARITIES)}"
        )
    return NONLINEARITIES[name]


class _Pointwise(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


MODULES: dict[str, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh,
    "erf": lambda: _Pointwise(torch.erf),
    "arctan": lambda: _Pointwise(torch.atan),
    "softsign": nn.Softsign,
    "hard-tanh": nn.Hardtanh,
    "relu": nn.ReLU,
    "leaky-relu": lambda: nn.LeakyReLU(LEAK),
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "linear": nn.Identity,
}
