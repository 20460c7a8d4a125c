"""Networks of the papers with a leading ensemble dimension: dense, convolutional, alternating."""

from __future__ import annotations

import abc
import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from mflib.experiment import _checks, draws
from mflib.experiment.layers import Convolution, Dense, Layer, PooledDense, Workspace
from mflib.experiment.nonlinearities import MODULES, nonlinearity

READOUTS = ("pool", "flatten")


@dataclasses.dataclass
class Network:
    """An ensemble of E networks: affine maps with φ between them, as one batched computation.

    z^{l+1} = W^{l+1} y^l + b^{l+1},  y^l = φ(z^l), and a linear readout after the last φ.
    ``weights[l]``: (E, *layers[l].weight_shape), ``biases[l]``: (E, 1, channels), l = 0 … depth.
    Inputs are flat, images in the order (C, H, W).
    """

    activation: str
    weights: list[Tensor]
    biases: list[Tensor]
    layers: tuple[Layer, ...]

    @classmethod
    def _draw(
        cls,
        activation: str,
        layers: Sequence[Layer],
        *,
        sigma_w2: Sequence[float],
        sigma_b2: float | Sequence[float],
        seeds: Sequence[int],
        initialisation: str,
        readout_gain: float,
        stem: str | None = None,
        fan: str = "in",
        alpha: Sequence[float] | None = None,
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> Self:
        phi = nonlinearity(activation)
        gain = _checks.number("readout_gain", readout_gain, float)
        _checks.require(gain > 0, "readout_gain", readout_gain, "above 0")
        w2 = _variances("sigma_w2", sigma_w2, len(seeds)).to(device)
        b2 = _variances("sigma_b2", sigma_b2, len(seeds)).to(device)
        draws.check_stable(alpha is not None, initialisation, stem)
        index: Tensor | None = None
        if alpha is not None:
            stability = draws.check_alpha(list(alpha), len(seeds))
            index = torch.tensor(stability, dtype=torch.float64, device=device)
        members = draws.generators(seeds, device=device)
        dense = "orthogonal" if initialisation == "delta-orthogonal" else initialisation

        def of(scheme: str) -> Tensor | None:
            return index if scheme == "stable" else None

        weights, biases = [], []
        for position, layer in enumerate(layers):
            if isinstance(layer, Convolution):
                scheme = stem if stem is not None and position == 0 else initialisation
                weight = draws.draw_kernels(
                    layer.channels_in, layer.channels_out, layer.kernel, w2, members,
                    scheme=scheme, alpha=of(scheme), dtype=dtype,
                )  # fmt: skip
            else:
                m, n = layer.weight_shape
                weight = draws.draw_weights(
                    m, n, w2, members, scheme=dense, fan=fan, alpha=of(dense), dtype=dtype
                )
            if layer is layers[-1]:
                weight *= gain
            weights.append(layer.lay_out(weight))
            biases.append(
                draws.draw_biases(layer.channels_out, b2, members, alpha=of(dense), dtype=dtype)
            )
        return cls(phi.name, weights, biases, tuple(layers))

    @property
    def n_members(self) -> int:
        """Number of networks E."""
        return self.weights[0].shape[0]

    @property
    def depth(self) -> int:
        """Number of hidden layers: affine maps followed by φ."""
        return len(self.layers) - 1

    def pre_activations(self, x: Tensor) -> list[Tensor]:
        """Return z^1 … z^depth and the logits; x: (n, d) or (E, n, d).

        Each is (E, n, n_out), that of a convolution (E, n, C, H, W).
        """
        phi, work = nonlinearity(self.activation), Workspace(x)
        y = self._inputs(x)
        out: list[Tensor] = []
        for layer, weight, bias in self._affine():
            z = y.new_empty(self.n_members, layer.n_out, y.shape[2])
            layer.up(weight, bias, y, z, work)
            y = phi(z)
            out.append(z.mT if layer.image_out is None else z.mT.unflatten(2, layer.image_out))
        return out

    def logits(self, x: Tensor) -> Tensor:
        """Return logits (E, n, n_classes) for inputs x (n, d) or (E, n, d)."""
        return self.outputs(x, Workspace(x)).mT

    def outputs(self, x: Tensor, work: Workspace) -> Tensor:
        """Return logits (E, n_classes, n), keeping no layer; they lie in ``work``."""
        phi = nonlinearity(self.activation)
        y = self._inputs(x)
        for depth, (layer, weight, bias) in enumerate(self._affine()):
            z = work(f"state {depth % 2}", self.n_members, layer.n_out, y.shape[2])
            layer.up(weight, bias, y, z, work)
            if depth < self.depth:
                phi.apply(z, z)
            y = z
        return y

    def member(self, k: int) -> Self:
        """Return a copy of member k as an ensemble of one."""
        return dataclasses.replace(
            self,
            weights=[w[k : k + 1].clone() for w in self.weights],
            biases=[b[k : k + 1].clone() for b in self.biases],
        )

    def module(self, k: int) -> nn.Sequential:
        """Return member k as a plain ``torch.nn.Sequential`` with its own parameters.

        It takes the same flat inputs, (n, d).
        """
        phi = nonlinearity(self.activation)
        modules: list[nn.Module] = []
        image: tuple[int, int, int] | None = None
        for layer, weight, bias in self._affine():
            if image is None and layer.image_in is not None:
                modules.append(nn.Unflatten(1, layer.image_in))
            elif image is not None and layer.image_in is None:
                modules.append(nn.Flatten())
            modules += [*layer.modules(weight[k].detach(), bias[k].detach()), MODULES[phi.name]()]
            image = layer.image_out
        return nn.Sequential(*modules[:-1])

    def _affine(self) -> Iterable[tuple[Layer, Tensor, Tensor]]:
        return zip(self.layers, self.weights, self.biases, strict=True)

    def _inputs(self, x: Tensor) -> Tensor:
        """Return x with the samples last, (E, d, n); inputs that all share are not copied."""
        return x.mT.expand(self.n_members, x.shape[-1], x.shape[-2])


@dataclasses.dataclass
class FullyConnected(Network):
    """An ensemble of E fully connected networks, evaluated as one batched computation.

    z¹ = y⁰ W¹ + b¹,  y^l = φ(z^l),  z^{l+1} = y^l W^{l+1} + b^{l+1}  (paper eq. 1, rows as
    samples). ``depth`` counts the hidden layers: affine maps followed by φ. A linear readout
    y^depth → logits follows, so a network has depth + 1 weight matrices. Every entry of every
    weight matrix, the readout's included, has variance σ_w²/N_in, every bias σ_b².

    ``weights[l]``: (E, n_in, n_out), ``biases[l]``: (E, 1, n_out), l = 0 … depth.
    """

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
        alpha: Sequence[float] | None = None,
        readout_gain: float = 1.0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Self:
        """Draw member k with ``sigma_w2[k]``, ``sigma_b2[k]`` from the generator ``seeds[k]``.

        ``initialisation="stable"`` draws heavy tails of stability index ``alpha[k]`` in (0.5, 2]:
        W ~ S_α((D_w/2N)^{1/α}), b ~ S_α((D_b/2)^{1/α}), with ``sigma_w2`` as D_w, ``sigma_b2`` as
        D_b (characteristic function of S_α(s): exp(−|su|^α)). At α = 2 that is "gaussian".
        ``fan="in"`` is the definition of the paper. ``fan="out"`` divides σ_w² by the layer's
        output width, as the first public implementation did: it changes the first layer's gain
        to n_in/width and the readout's to width/n_out, and nothing in between.
        ``readout_gain`` multiplies the readout's weights.

        Raises ValueError for no member or different numbers of them, a negative or infinite
        variance, a width below 1, a depth below 0, an unknown name, and an ``alpha`` that is out
        of range, missing with "stable" or given with another initialisation.
        """
        return cls._draw(
            activation,
            cls.chain(width=width, depth=depth, n_in=n_in, n_out=n_out),
            sigma_w2=sigma_w2,
            sigma_b2=sigma_b2,
            seeds=seeds,
            initialisation=initialisation,
            fan=fan,
            alpha=alpha,
            readout_gain=readout_gain,
            dtype=dtype,
            device=device,
        )

    @classmethod
    def chain(cls, *, width: int, depth: int, n_in: int, n_out: int) -> list[Layer]:
        """Return the layers of such a network, drawing nothing; raises what ``draw`` raises."""
        for name, size, least in (
            ("width", width, 1),
            ("depth", depth, 0),
            ("n_in", n_in, 1),
            ("n_out", n_out, 1),
        ):
            _checks.count(name, size, least)
        sizes = [n_in, *[width] * depth, n_out]
        return [Dense(m, n) for m, n in itertools.pairwise(sizes)]


@dataclasses.dataclass
class OnImages(Network, abc.ABC):
    """What the two kinds of convolutional networks share: their front, readout and draw."""

    @classmethod
    def draw(
        cls,
        activation: str,
        *,
        sigma_w2: Sequence[float],
        sigma_b2: float | Sequence[float],
        channels: int,
        depth: int,
        image_shape: Sequence[int],
        n_out: int,
        seeds: Sequence[int],
        kernel: int = 3,
        stride2: int = 2,
        initialisation: str = "delta-orthogonal",
        stem: str | None = None,
        readout: str = "pool",
        readout_gain: float = 1.0,
        alpha: Sequence[float] | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Self:
        """Draw member k with ``sigma_w2[k]``, ``sigma_b2[k]`` from the generator ``seeds[k]``.

        ``image_shape``: (channels, height, width) of the inputs. ``depth`` counts all hidden
        layers, the stem and the ``stride2`` convolutions of stride 2 included. ``kernel`` is the
        side of every kernel, odd. ``readout``: "pool" averages over the positions before the
        linear map to the ``n_out`` logits, "flatten" maps from every position.
        ``initialisation``: see ``draws.draw_kernels``; dense maps beside (delta-)orthogonal
        kernels, the readout included, are orthogonal, and semi-orthogonal where sizes differ.
        ``stem`` is another scheme for the first kernel alone. A delta kernel there, and those of
        stride 2 behind it, would see every second pixel of every second row only; "orthogonal"
        embeds each patch of pixels isometrically where ``channels`` ≥ kernel² × image channels,
        so every pixel enters, and behind it the tower keeps norms as before. ``readout_gain``
        multiplies the readout's weights: on the critical line at a small q* the logits are of
        order √q*, and all layers together must grow until they are of order 1 before anything is
        classified, unless a gain of about 1/√q* starts them there. ``alpha[k]`` is the stability
        index of "stable" draws, as for ``FullyConnected``, with N = kernel² × input channels.

        Raises ValueError for no member or different numbers of them, a negative or infinite
        variance, sizes below 1, a depth that the front exceeds, an even kernel or one that wraps
        around the image more than once, delta-orthogonal kernels with fewer channels than the
        image has, an unknown name, and an ``alpha`` out of range or out of place.
        """
        layers = cls.chain(
            channels=channels,
            depth=depth,
            image_shape=image_shape,
            n_out=n_out,
            kernel=kernel,
            stride2=stride2,
            initialisation=initialisation,
            stem=stem,
            readout=readout,
        )
        return cls._draw(
            activation,
            layers,
            sigma_w2=sigma_w2,
            sigma_b2=sigma_b2,
            seeds=seeds,
            initialisation=initialisation,
            stem=stem,
            alpha=alpha,
            readout_gain=readout_gain,
            dtype=dtype,
            device=device,
        )

    @classmethod
    def chain(
        cls,
        *,
        channels: int,
        depth: int,
        image_shape: Sequence[int],
        n_out: int,
        kernel: int = 3,
        stride2: int = 2,
        initialisation: str = "delta-orthogonal",
        stem: str | None = None,
        readout: str = "pool",
    ) -> list[Layer]:
        """Return the layers of such a network, drawing nothing; raises what ``draw`` raises."""
        for name, size, least in (
            ("channels", channels, 1),
            ("n_out", n_out, 1),
            ("kernel", kernel, 1),
            ("stride2", stride2, 0),
        ):
            _checks.count(name, size, least)
        check_depth(depth, stride2)
        _checks.require(readout in READOUTS, "readout", readout, f"one of {', '.join(READOUTS)}")
        if len(image_shape) != 3:
            raise ValueError(
                f"image_shape={tuple(image_shape)} must be (channels, height, width): a "
                "convolution needs images"
            )
        c, h, w = (_checks.count("image_shape", size, 1) for size in image_shape)
        draws.check_kernel(c, channels, kernel, initialisation if stem is None else stem)
        draws.check_kernel(channels, channels, kernel, initialisation)
        front = []
        for stride in [1] + [2] * stride2:
            front.append(_convolution((c, h, w), channels, kernel, stride))
            c, h, w = front[-1].image_out
        tower = cls._tower((c, h, w), kernel, depth - len(front))
        top = PooledDense((c, h, w), n_out) if readout == "pool" else Dense(c * h * w, n_out)
        return [*front, *tower, top]

    @classmethod
    @abc.abstractmethod
    def _tower(cls, shape: tuple[int, int, int], kernel: int, depth: int) -> list[Layer]:
        """Return the ``depth`` layers between front and readout, on maps of this shape."""


@dataclasses.dataclass
class Convolutional(OnImages):
    """An ensemble of the paper's convolutional networks (§4.1), on circular boundaries.

    A convolution to ``channels`` (the stem), ``stride2`` of them with stride 2, then stride 1
    up to ``depth`` convolutions in all, φ after each; then the readout. A stride-2 convolution
    with a delta kernel reads every second position of every second row.

    Which readout when: with s = ``stride2`` and φ = 1, "pool" makes the logits functions of the
    4^s sums of pixels over the sublattices of spacing 2^s (where that divides the sides), whatever
    the weights, since an average over all positions forgets where anything was. So a pooled
    network learns through the curvature of φ alone, and slowly at a small q*; "flatten" sees
    every position at once.
    """

    @classmethod
    def _tower(cls, shape: tuple[int, int, int], kernel: int, depth: int) -> list[Layer]:
        return [_convolution(shape, shape[0], kernel, 1)] * depth


@dataclasses.dataclass
class Alternating(OnImages):
    """An ensemble of networks that alternate dense and convolutional layers (paper §1).

    The front is that of ``Convolutional``. After it come by turns a dense map over the whole
    feature map, C·H·W to C·H·W features read as channels and positions again, and a convolution
    of stride 1, up to ``depth`` hidden layers in all; then the readout.
    """

    @classmethod
    def _tower(cls, shape: tuple[int, int, int], kernel: int, depth: int) -> list[Layer]:
        features = shape[0] * shape[1] * shape[2]
        pair = (Dense(features, features), _convolution(shape, shape[0], kernel, 1))
        return [pair[k % 2] for k in range(depth)]


def check_depth(depth: int, stride2: int) -> None:
    """Raise ValueError unless the depth holds the stem and the convolutions of stride 2."""
    _checks.count("depth", depth, 1)
    if depth < 1 + stride2:
        raise ValueError(
            f"depth={depth} must be at least {1 + stride2}: it counts the first convolution and "
            f"the stride2={stride2} of stride 2"
        )


def _convolution(
    shape: tuple[int, int, int], channels: int, kernel: int, stride: int
) -> Convolution:
    if kernel // 2 > min(shape[1:]):
        raise ValueError(
            f"kernel={kernel} wraps around a feature map of {shape[1]} x {shape[2]} positions "
            f"more than once: give at most {2 * min(shape[1:]) + 1}, or a smaller stride2"
        )
    return Convolution(shape[0], channels, (shape[1], shape[2]), kernel, stride)


def _variances(name: str, values: float | Sequence[float], n_members: int) -> Tensor:
    """Return one variance per member, (E,) in float64; a single one stands for all."""
    given = list(values) if isinstance(values, Iterable) else [values] * n_members
    if not n_members or len(given) != n_members:
        raise ValueError(
            f"{len(given)} values of {name} for {n_members} seeds: give one per member, "
            "and at least one member"
        )
    return torch.tensor([_checks.variance(name, value) for value in given], dtype=torch.float64)


ARCHITECTURES: dict[str, type[FullyConnected] | type[Convolutional] | type[Alternating]] = {
    "fully-connected": FullyConnected,
    "convolutional": Convolutional,
    "alternating": Alternating,
}
