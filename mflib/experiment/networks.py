"""Fully connected networks with a leading ensemble dimension."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from mflib.experiment import _checks, draws
from mflib.experiment.nonlinearities import MODULES, nonlinearity


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
        members = draws.generators(seeds, device=device)
        sizes = [n_in, *[width] * depth, n_out]
        weights, biases = [], []
        for m, n in itertools.pairwise(sizes):
            weights.append(
                draws.draw_weights(m, n, w2, members, scheme=initialisation, fan=fan, dtype=dtype)
            )
            biases.append(draws.draw_biases(n, b2, members, dtype=dtype))
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
            layers += [linear, MODULES[phi.name]()]
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
