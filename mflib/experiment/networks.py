"""Fully connected networks with a leading ensemble dimension, and their signal propagation."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mflib.experiment import _checks, initialise

_aten = torch.ops.aten
_BLOCK_BYTES = 64 * 2**20


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


@dataclasses.dataclass
class FullyConnected:
    """An ensemble of E fully connected networks, evaluated as one batched computation.

    z¹ = y⁰ W¹ + b¹,  y^l = φ(z^l),  z^{l+1} = y^l W^{l+1} + b^{l+1}  (paper eq. 1, rows as
    samples). ``depth`` counts the hidden layers: affine maps followed by φ. A linear readout
    y^depth → logits follows, so a network has depth + 1 weight matrices. Every entry of every
    weight matrix, the readout's included, has variance σ_w²/N_in, every bias σ_b².

    ``weights[l]``: (E, n_in, n_out), ``biases[l]``: (E, 1, n_out), l = 0 … depth.
    """

    activation: str
    weights: list[Tensor]
    biases: list[Tensor]

    @classmethod
    def draw(
        cls,
        activation: str,
        *,
        sigma_w2: Sequence[float],
        sigma_b2: float | Sequence[float],
        width: int,
        depth: int,
        n_in: int,
        n_out: int,
        seeds: Sequence[int],
        initialisation: str = "gaussian",
        fan: str = "in",
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> FullyConnected:
        """Draw member k with ``sigma_w2[k]``, ``sigma_b2[k]`` from the generator ``seeds[k]``.

        ``fan="in"`` is the definition of the paper. ``fan="out"`` divides σ_w² by the layer's
        output width, as the first public implementation did: it changes the first layer's gain
        to n_in/width and the readout's to width/n_out, and nothing in between.

        Raises ValueError for no member or different numbers of them, a negative or infinite
        variance, a width below 1, a depth below 0, and an unknown name.
        """
        phi = nonlinearity(activation)
        for name, size, least in (
            ("width", width, 1),
            ("depth", depth, 0),
            ("n_in", n_in, 1),
            ("n_out", n_out, 1),
        ):
            _checks.count(name, size, least)
        w2 = _variances("sigma_w2", sigma_w2, len(seeds)).to(device)
        b2 = _variances("sigma_b2", sigma_b2, len(seeds)).to(device)
        members = initialise.generators(seeds, device=device)
        sizes = [n_in, *[width] * depth, n_out]
        weights, biases = [], []
        for m, n in itertools.pairwise(sizes):
            weights.append(
                initialise.draw_weights(
                    m, n, w2, members, scheme=initialisation, fan=fan, dtype=dtype
                )
            )
            biases.append(initialise.draw_biases(n, b2, members, dtype=dtype))
        return cls(phi.name, weights, biases)

    @property
    def n_members(self) -> int:
        """Number of networks E."""
        return self.weights[0].shape[0]

    @property
    def depth(self) -> int:
        """Number of hidden layers."""
        return len(self.weights) - 1

    def pre_activations(self, x: Tensor) -> list[Tensor]:
        """Return z^1 … z^depth and the logits, each (E, n, n_out); x: (n, d) or (E, n, d)."""
        phi = nonlinearity(self.activation)
        y = x.expand(self.n_members, *x.shape[-2:])
        out: list[Tensor] = []
        for weight, bias in zip(self.weights, self.biases, strict=True):
            z = torch.baddbmm(bias, phi(out[-1]) if out else y, weight)
            out.append(z)
        return out

    def logits(self, x: Tensor) -> Tensor:
        """Return logits (E, n, n_classes) for inputs x (n, d) or (E, n, d)."""
        return self.pre_activations(x)[-1]

    def member(self, k: int) -> FullyConnected:
        """Return a copy of member k as an ensemble of one."""
        return FullyConnected(
            self.activation,
            [w[k : k + 1].clone() for w in self.weights],
            [b[k : k + 1].clone() for b in self.biases],
        )

    def module(self, k: int) -> nn.Sequential:
        """Return member k as a plain ``torch.nn.Sequential`` with its own parameters."""
        phi = nonlinearity(self.activation)
        layers: list[nn.Module] = []
        for weight, bias in zip(self.weights, self.biases, strict=True):
            linear = nn.Linear(weight.shape[1], weight.shape[2], device=weight.device)
            linear.weight = nn.Parameter(weight[k].T.clone().contiguous())
            linear.bias = nn.Parameter(bias[k, 0].clone())
            layers += [linear, _MODULES[phi.name]()]
        return nn.Sequential(*layers[:-1])


def _variances(name: str, values: float | Sequence[float], n_members: int) -> Tensor:
    """Return one variance per member, (E,) in float64; a single one stands for all."""
    given = list(values) if isinstance(values, Iterable) else [values] * n_members
    if not n_members or len(given) != n_members:
        raise ValueError(
            f"{len(given)} values of {name} for {n_members} seeds: give one per member, "
            "and at least one member"
        )
    return torch.tensor([_checks.variance(name, value) for value in given], dtype=torch.float64)


class _Pointwise(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


_MODULES: dict[str, Callable[[], nn.Module]] = {
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


@dataclasses.dataclass(frozen=True)
class Moments:
    """Second moments of a pair of inputs by layer, one row per random network.

    ``q``, ``q_b``: mean square of the first and the second input's pre-activations;
    ``c``: their correlation; each (n_networks, depth + 1), float64. Column 0 holds the given
    moments.
    """

    q: np.ndarray
    q_b: np.ndarray
    c: np.ndarray


METHODS = ("matrices", "law")


def sample_moments(
    activation: str,
    *,
    width: int,
    depth: int,
    sigma_w2: float,
    sigma_b2: float,
    q_0: float,
    c_0: float,
    n_networks: int,
    seed: int,
    q_0b: float | None = None,
    initialisation: str = "gaussian",
    method: str = "matrices",
    device: torch.device | str = "cpu",
) -> Moments:
    """Propagate a pair of inputs through random networks and measure q and c layer by layer.

    q_a^l = |z_a^l|²/N and c^l = z_a^l·z_b^l / (N √(q_a^l q_b^l)), with pre-activations z⁰ of
    exactly the given moments q_0, q_0b (= q_0 unless given) and c_0, and
    z^l = W^l φ(z^{l-1}) + b^l. Computed in float64.

    ``method="matrices"`` draws every weight matrix: N² normals per layer, any initialisation.
    ``method="law"`` uses that, given φ(z^{l-1}), the rows of Gaussian W^l make the N pairs
    (z_a, z_b) independent with covariance σ_w²/N · (Gram matrix of φ) + σ_b²: exactly the same
    distribution from 2N normals per layer, so wide or many networks are cheap.

    Raises ValueError for values out of range. The result depends on seed and sizes alone.
    """
    q_b = q_0 if q_0b is None else q_0b
    for name, size, least in (
        ("width", width, 2),
        ("depth", depth, 0),
        ("n_networks", n_networks, 1),
    ):
        _checks.count(name, size, least)
    for name, moment in (("q_0", q_0), ("q_0b", q_b)):
        _checks.require(_checks.number(name, moment, float) > 0, name, moment, "above 0")
    _checks.require(-1 <= _checks.number("c_0", c_0, float) <= 1, "c_0", c_0, "in [-1, 1]")
    sigma_w2 = _checks.variance("sigma_w2", sigma_w2)
    sigma_b2 = _checks.variance("sigma_b2", sigma_b2)
    _checks.number("seed", seed, int)
    for name, value, choices in (
        ("method", method, METHODS),
        ("initialisation", initialisation, initialise.SCHEMES),
    ):
        _checks.require(value in choices, name, value, f"one of {', '.join(choices)}")
    if method == "law" and initialisation != "gaussian":
        raise ValueError(f'method "law" holds for gaussian weights, not for {initialisation}')
    phi = nonlinearity(activation)
    entries = width * width if method == "matrices" else 8 * width
    block = max(1, min(n_networks, _BLOCK_BYTES // (8 * entries)))
    parts = []
    for start in range(0, n_networks, block):
        n = min(block, n_networks - start)
        generator = initialise.generators(
            [initialise.derive_seed(seed, "moments", start)], device=device
        )
        z = _pair(n, width, (q_0, q_b, c_0), generator[0])
        rows = [_moments(z)]
        for _ in range(depth):
            if method == "law":
                z = _next_by_law(phi(z), sigma_w2, sigma_b2, generator[0])
            else:
                z = _next_by_matrices(phi(z), sigma_w2, sigma_b2, initialisation, generator[0])
            rows.append(_moments(z))
        parts.append(torch.stack(rows, dim=1).cpu())
    moments = torch.cat(parts).numpy()
    return Moments(q=moments[..., 0], q_b=moments[..., 1], c=moments[..., 2])


def _normal(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, device=generator.device, generator=generator)


def _pair(
    n: int, width: int, moments: tuple[float, float, float], generator: torch.Generator
) -> Tensor:
    """Return pairs (n, 2, width) with exactly the moments (q_a, q_b, c)."""
    q_a, q_b, c = moments
    u, v = _normal((2, n, width), generator)
    u = u * (math.sqrt(width) / u.norm(dim=1, keepdim=True))
    v = v - u * ((u * v).sum(1, keepdim=True) / width)
    v = v * (math.sqrt(width) / v.norm(dim=1, keepdim=True))
    second = c * u + math.sqrt(1 - c * c) * v
    return torch.stack([math.sqrt(q_a) * u, math.sqrt(q_b) * second], dim=1)


def _moments(z: Tensor) -> Tensor:
    """Return (n, 3): q_a, q_b and c of pairs z (n, 2, width)."""
    q_a, q_b = z.square().mean(2).unbind(1)
    c = (z[:, 0] * z[:, 1]).mean(1) / (q_a * q_b).sqrt()
    return torch.stack([q_a, q_b, c], dim=1)


def _next_by_matrices(
    y: Tensor, sigma_w2: float, sigma_b2: float, scheme: str, generator: torch.Generator
) -> Tensor:
    n, _, width = y.shape
    if scheme == "gaussian":
        weights = _normal((n, width, width), generator).mul_(math.sqrt(sigma_w2 / width))
    else:
        variance = torch.full((n,), sigma_w2, dtype=torch.float64, device=y.device)
        weights = initialise.draw_weights(
            width, width, variance, [generator] * n, scheme=scheme, dtype=torch.float64
        )
    return torch.baddbmm(math.sqrt(sigma_b2) * _normal((n, 1, width), generator), y, weights)


def _next_by_law(y: Tensor, sigma_w2: float, sigma_b2: float, generator: torch.Generator) -> Tensor:
    n, _, width = y.shape
    # Cholesky by hand: the factor stays real and finite when the two inputs coincide.
    gram = torch.bmm(y, y.transpose(1, 2)) * (sigma_w2 / width) + sigma_b2
    s_a = gram[:, 0, 0].sqrt()
    slope = torch.where(s_a > 0, gram[:, 0, 1] / s_a, 0.0)
    rest = (gram[:, 1, 1] - slope.square()).clamp(min=0).sqrt()
    first, second = _normal((2, n, width), generator)
    z_a = s_a[:, None] * first
    return torch.stack([z_a, slope[:, None] * first + rest[:, None] * second], dim=1)
