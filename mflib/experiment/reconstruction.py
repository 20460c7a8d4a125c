"""Reconstruct the input from every layer of a network, and tell how deep information reaches.

One decoder c^l per layer maps the activations z^l back to z^{l−1}; the cascade C^l = c^1 ∘ … ∘ c^l
then shows what layer l still knows of the image. Entropies of the reconstructions fall or saturate
where nothing is left, before the network has been trained at all. Activations z^l are those after
the nonlinearity, z^0 is the image. (The paper calls z^{l−1} pre-activations of layer l.)
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import numbers
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor, nn
from tqdm import tqdm

from mflib.experiment import _blocks, _checks, _decoders
from mflib.experiment._devices import resolve_device
from mflib.experiment.descent import matmul_precision, sample_order
from mflib.experiment.draws import derive_seed
from mflib.experiment.layers import Dense
from mflib.experiment.networks import ARCHITECTURES, FullyConnected, Network

MODES = ("faithful", "closed-form")
CONVENTIONS = ("printed", "published")
_THRESHOLDS = {"relative": 0.005, "differential": 0.3, "correlation": 0.1}
MEASURES = tuple(_THRESHOLDS)
_REACH = 0.5  # see noise_floor
_MNIST_STEPS = 938
_SHIFT = 1e-12  # what the published code adds to every pixel before it normalises
_ROUNDING = 2.0**-24
_BATCHES = 16  # that go through the network at a time: more gain nothing
_STATES_BYTES = 512 * 2**20  # that their states may take
_FIT_NUMBERS = 2**30  # of a GPU's memory, for the states of a fit and for a stack at work


@dataclasses.dataclass(frozen=True)
class Cascade:
    """Decoders of all layers of a network, and the network's own activations to apply them to.

    ``weights[l−1]``, ``biases[l−1]`` are those of c^l, ``geometries[l−1]`` what it maps.
    ``bounded``: a tanh follows; else ``ranges[l−1]`` (2, E, features, 1), within which z^{l−1}
    lay, clips what c^l returns.
    """

    chain: _blocks.Chain
    geometries: tuple[_decoders.Geometry, ...]
    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    ranges: tuple[Tensor, ...]
    mode: str
    bounded: bool
    image_shape: tuple[int, ...]

    @property
    def depth(self) -> int:
        """Number of layers L."""
        return self.chain.depth

    def reconstruct(
        self,
        images: Tensor,
        layer: int | Sequence[int] | None = None,
        *,
        channels: int | Sequence[int] | None = None,
    ) -> Tensor:
        """Return what layers still know of images: x̄ = C^l(z^l(x)).

        ``images`` (n, …) as the cascade was fitted on. ``layer``: one of 0 … L (0 returns the
        images), several, or None for all of 1 … L, which costs one sweep over the decoders.
        ``channels``: keep only those channels of z^l (units, where it is flat) and set the others
        to zero. Returns (layers, n, …), or (n, …) for a single layer; for an ensemble of E > 1
        networks with E in front.

        Raises ValueError for layers or channels that are not there and images that do not fit.
        """
        states = self.states(images, layer)
        found = self._down({depth: self._only(z, depth, channels) for depth, z in states.items()})
        out = torch.stack([found[depth] for depth in self._layers(layer)], 1).mT
        out = out.reshape(*out.shape[:3], *torch.as_tensor(images).shape[1:])
        if _whole(layer):
            out = out[:, 0]
        return out[0] if self.chain.n_members == 1 else out

    def states(self, images: Tensor, layer: int | Sequence[int] | None = None) -> dict[int, Tensor]:
        """Return the activations of layers as they are decoded: {l: z^l (E, features, n)}.

        ``images`` and ``layer`` as ``reconstruct`` takes them. Raises what that raises.
        """
        wanted = self._layers(layer)
        x = _images(images, self.chain.device, self.chain.dtype, least=1)
        if x[0].numel() != math.prod(self.image_shape):
            raise ValueError(
                f"images of shape {tuple(x.shape[1:])} are not those of the cascade, "
                f"{self.image_shape}"
            )
        found: dict[int, Tensor] = {}

        def keep(depth: int, z: Tensor) -> None:
            if depth in wanted:
                found[depth] = z.clone()

        self.chain.run(x, keep)
        _finite(found, self.chain)
        return found

    def resized(self, image_shape: Sequence[int]) -> Cascade:
        """Return the same decoders for images (C, H, W) of another height and width.

        Transposed convolutions act alike at every position, so decoders fitted on small images
        reconstruct large ones; only the edges differ. What clips a closed-form decoder is then
        one range per channel. Raises ValueError for a model that takes images of one size only,
        a decoder that is a matrix, and a size at which blocks have other strides.
        """
        shape = tuple(_checks.count("image_shape", size, 1) for size in image_shape)
        if self.chain.again is None or not all(g.spatial for g in self.geometries):
            raise ValueError(
                f"image_shape={shape}: this model or one of its decoders is tied to images of "
                f"{self.chain.shapes[0]}; only a torch.nn.Module whose blocks are all feature "
                "maps (C, H, W) takes others"
            )
        chain = self.chain.again(
            torch.zeros(2, *shape, dtype=self.chain.dtype, device=self.chain.device)
        )
        geometries = tuple(
            _decoders.Geometry(source, target, chain.wraps, grid)
            for (target, source), grid in zip(
                itertools.pairwise(chain.shapes), chain.grids, strict=True
            )
        )
        alike = ("channels", "strides", "starts", "kernel")
        for depth, (old, new) in enumerate(zip(self.geometries, geometries, strict=True), 1):
            if any(getattr(old, name) != getattr(new, name) for name in alike):
                raise ValueError(
                    f"image_shape={shape}: block {chain.names[depth - 1]} maps {new.target} to "
                    f"{new.source}, which is another stride or kernel than the {old.target} to "
                    f"{old.source} that its decoder was fitted on; give multiples of the product "
                    "of all strides"
                )
        ranges = tuple(
            _by_channel(part, old, new)
            for part, old, new in zip(self.ranges, self.geometries, geometries, strict=True)
        )
        return dataclasses.replace(
            self, chain=chain, geometries=geometries, ranges=ranges, image_shape=shape
        )

    def decode(self, activations: Tensor, layer: int) -> Tensor:
        """Return the images that a layer's activations stand for: C^l(z), whatever z came from.

        ``activations`` (n, …) of z^l's shape: one-hot vectors at the readout, for one, give the
        network's ideal image of each class. Returns (n, …), with E in front for E > 1 networks.
        Raises ValueError for anything but one layer, and activations that do not fit it.
        """
        _checks.require(_whole(layer), "layer", layer, f"one of 0 … {self.depth}")
        (depth,) = self._layers(layer)
        z = torch.as_tensor(activations, dtype=self.chain.dtype, device=self.chain.device)
        shape = self.chain.shapes[depth]
        if z.ndim < 2 or z[0].numel() != math.prod(shape):
            raise ValueError(
                f"activations of shape {tuple(z.shape)} do not fit layer {depth}, which has "
                f"{shape}: give (n, {math.prod(shape)}) numbers"
            )
        stack = z.flatten(1).mT.expand(self.chain.n_members, -1, -1)
        out = self._down({depth: stack})[depth].mT
        out = out.reshape(*out.shape[:2], *self.image_shape)
        return out[0] if self.chain.n_members == 1 else out

    def _down(self, states: dict[int, Tensor]) -> dict[int, Tensor]:
        """Return C^l(states[l]) for each l: one product per decoder for all that pass it."""
        deepest = max(states)
        stack = states[deepest]
        n = stack.shape[-1]
        order = [deepest]
        for depth in range(deepest, 0, -1):
            if depth in states and depth < deepest:
                order.append(depth)
                stack = torch.cat([stack, states[depth]], 2)
            k = depth - 1
            out = _decoders.decode(self.geometries[k], self.weights[k], self.biases[k], stack)
            stack = out.tanh_() if self.bounded else out.clamp_(*self.ranges[k])
        found = dict(zip(order, stack.split(n, 2), strict=True))
        return found | ({0: states[0]} if 0 in states else {})

    def _only(self, z: Tensor, depth: int, channels: int | Sequence[int] | None) -> Tensor:
        if channels is None:
            return z
        chosen = _several(channels)
        most = self.chain.shapes[depth][0]
        if not chosen or not all(_whole(c) and 0 <= c < most for c in chosen):
            raise ValueError(
                f"channels={chosen} must be among 0 … {most - 1}: layer {depth} has {most}"
            )
        mask = torch.zeros(most, dtype=z.dtype, device=z.device)
        mask[[int(c) for c in chosen]] = 1
        return (z.unflatten(1, (most, -1)) * mask.view(-1, 1, 1)).flatten(1, 2)

    def _layers(self, layer: int | Sequence[int] | None) -> list[int]:
        if layer is None:
            return list(range(1, self.depth + 1))
        wanted = _several(layer)
        for depth in wanted or [-1]:
            if not _whole(depth) or not 0 <= depth <= self.depth:
                raise ValueError(f"layer={layer!r} must be in 0 … {self.depth}")
        return [int(depth) for depth in wanted]


def cascade(
    model: Network | nn.Module,
    images: Tensor,
    *,
    mode: str = "faithful",
    blocks: Sequence[str] | None = None,
    readout: str | None = None,
    image_shape: Sequence[int] | None = None,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    epochs: int = 1,
    steps: int | None = None,
    output: str = "tanh",
    noise: float | None = None,
    device: str | torch.device = "auto",
    seed: int = 0,
    progress: bool = True,
    advance: Callable[[float], None] | None = None,
) -> Cascade:
    """Fit one decoder per layer of a network, all in the same pass over the images.

    ``model``: a network of ``mflib.experiment.networks`` (an ensemble: all members at once), an
    ``nn.Sequential``, or any ``nn.Module`` with ``blocks``, the names of the submodules whose
    outputs are z^1 … z^L in the order in which they run. Without ``blocks`` every part of an
    nn.Sequential ends a block, except affine maps, normalisation, dropout and reshaping. A module
    is read in evaluation mode and left as it was. ``images`` (n, d) or (n, C, H, W), as the model
    takes them; the first decoder of flat ones writes maps of ``image_shape`` where that is given.

    Decoders between flat states are matrices, those between feature maps transposed convolutions
    of side 3 (more where it takes more to reach every position), with the stride of the block,
    going around the edge where the network's own do. The stride, and where unpadded convolutions
    begin, is read from the nn modules of a block that run one after another; where functions
    shrink a map, a whole ratio of sizes counts as the stride.

    - ``mode="faithful"``, the paper's: c(z) = tanh(V z + a) (``output="identity"``: no tanh, for
      activations that leave (−1, 1)), trained on the mean squared error by Adam for ``epochs``
      over the images in batches (an incomplete last batch is left out), or for ``steps`` batches
      in all. Same decoders, to rounding, as training one after another.
    - ``mode="closed-form"``: the best linear decoder of activations that are known only to
      ±``noise`` each: ridge regression on z^{l−1} with noise² on the diagonal of the covariance,
      clipped to the range that z^{l−1} took. A few thousand images do, and nothing is trained.
      It aims at z^{l−1} itself: the same loss as the faithful mode's. Before the tanh, an error
      would count 1/(1 − z²)² times, all of it on saturated units, and a white pixel without end.
      ``noise`` is what "lost" means: without it, regression reads signals that have shrunk to the
      rounding of the numbers. Unless given it is each decoder's ``noise_floor``, with the steps
      of one epoch of MNIST in batches of 64 unless ``steps`` says otherwise: what has shrunk
      below it, the faithful mode would not see either.

    ``readout`` makes the network's outputs one more layer, with "linear", "tanh", "softmax" or, as
    the paper's code has it, "tanh-softmax" on top of the logits. ``device``: "auto" is where
    the model is; else "cpu" or "cuda", to which a copy of the model goes. ``seed`` fixes the
    decoders' initial values and the order of images. ``advance(share)`` is called after each share
    of the work; what it raises ends it.

    Raises ValueError for blocks that cannot be found, images that do not fit, fewer than two
    images, activations that are not finite, blocks that enlarge maps or whose stride cannot
    be told, and arguments out of range.
    """
    _checks.require(mode in MODES, "mode", mode, f"one of {', '.join(MODES)}")
    _checks.require(output in ("tanh", "identity"), "output", output, '"tanh" or "identity"')
    _checks.count("batch_size", batch_size, 1)
    _checks.count("epochs", epochs, 1)
    if steps is not None:
        _checks.count("steps", steps, 1)
    for name, value in (("learning_rate", learning_rate), ("noise", noise)):
        if value is not None:
            _checks.require(_checks.number(name, value, float) > 0, name, value, "above 0")
    if str(device) != "auto":
        device = resolve_device(device)
    where, kind = _home(model, device)
    x = _images(images, where, kind, least=2)
    chain = _blocks.chain(
        model, x, blocks=blocks, readout=readout, image_shape=image_shape, device=device
    )
    geometries = tuple(
        _decoders.Geometry(
            chain.shapes[depth], chain.shapes[depth - 1], chain.wraps, chain.grids[depth - 1]
        )
        for depth in range(1, chain.depth + 1)
    )
    probe: dict[int, Tensor] = {}
    chain.run(x[:2], lambda depth, z: probe.__setitem__(depth, z.clone()))
    _finite(probe, chain)
    if mode == "closed-form":
        noises = [
            noise_floor(g.channels[0] * g.taps, learning_rate, steps or _MNIST_STEPS)
            if noise is None
            else noise
            for g in geometries
        ]
        weights, biases, ranges = _fit(chain, geometries, x, noises, progress, advance)
        bounded = False
    else:
        weights, biases = _train(
            chain, geometries, x, batch_size, learning_rate, epochs, steps, output == "tanh", seed,
            progress, advance,
        )  # fmt: skip
        bounded = output == "tanh"
        limit = torch.tensor([-torch.inf, torch.inf], dtype=kind, device=where)
        ranges = [limit.view(2, 1, 1, 1)] * chain.depth
    if not all(_each_finite(weights)):
        raise ValueError(
            "decoders became infinite: the network's activations are not finite on some images, or "
            "too large for this learning rate"
        )
    return Cascade(
        chain, geometries, tuple(weights), tuple(biases), tuple(ranges), mode, bounded,
        tuple(x.shape[1:]),
    )  # fmt: skip


def _by_channel(ranges: Tensor, old: _decoders.Geometry, new: _decoders.Geometry) -> Tensor:
    """Return ranges (2, E, features, 1) of one shape for another, the same at all positions."""
    if ranges.shape[2] == 1:  # no decoder is clipped
        return ranges
    low, high = ranges.unflatten(2, (old.channels[1], old.positions[1]))
    both = torch.stack([low.amin(2), high.amax(2)])
    return both.repeat_interleave(new.positions[1], 2)


def _train(
    chain: _blocks.Chain,
    geometries: Sequence[_decoders.Geometry],
    x: Tensor,
    batch_size: int,
    learning_rate: float,
    epochs: int,
    steps: int | None,
    bounded: bool,
    seed: int,
    progress: bool,
    advance: Callable[[float], None] | None,
) -> tuple[list[Tensor], list[Tensor]]:
    """Train all decoders in one pass: each batch goes through the network once, then to all.

    The network does not move, so several batches go through it at a time.
    """
    batch = min(batch_size, len(x))
    per_epoch = len(x) // batch
    total = epochs * per_epoch if steps is None else steps
    e = chain.n_members
    held = _held(chain, batch, per_epoch)
    buffers, slots = _places(chain, batch, held)
    runs = _runs(geometries)
    weights: list[Tensor] = [x.new_empty(0)] * chain.depth
    biases = list(weights)
    stacks, work = [], _decoders.Scratch(x)
    for first, last in runs:
        seeds = [
            derive_seed(seed, "decoder", depth, k) for depth in range(first, last) for k in range(e)
        ]
        weight, bias = _decoders.draw(geometries[first - 1], seeds, x.dtype, chain.device)
        stack = _decoders.Stack(
            geometries[first - 1], weight, bias, learning_rate=learning_rate, bounded=bounded,
            batch_size=batch, work=work,
        )  # fmt: skip
        upper, lower = (_stretch(chain, buffers, slots, first - k, last - k) for k in (0, 1))
        stacks.append((stack, upper, lower))
        weights[first - 1 : last - 1] = weight.split(e)
        biases[first - 1 : last - 1] = bias.split(e)

    def place(depth: int, z: Tensor) -> None:
        batches = z.unflatten(2, (-1, batch)).movedim(2, 0)
        buffers[math.prod(chain.shapes[depth])][: len(batches), slots[depth]] = batches

    with (
        torch.no_grad(),
        tqdm(total=total, desc="decoders", unit="batch", disable=None if progress else True) as bar,
    ):
        done = 0
        while done < total:
            epoch, position = divmod(done, per_epoch)
            if position == 0:
                order = sample_order(len(x), seed, epoch, per_epoch, batch).to(chain.device)
            count = min(held, per_epoch - position, total - done)
            chain.run(x[order[position : position + count].flatten()], place)
            for stack, upper, lower in stacks:
                stack.advance(upper[:count], lower[:count])
            done += count
            bar.update(count)
            if advance is not None:
                advance(count / total)
    return weights, biases


def _held(chain: _blocks.Chain, batch: int, most: int) -> int:
    """Return how many batches go through the network before the decoders see any of them."""
    numbers = chain.n_members * batch * sum(math.prod(shape) for shape in chain.shapes)
    return max(1, min(_BATCHES, most, _STATES_BYTES // (numbers * chain.dtype.itemsize)))


def _places(chain: _blocks.Chain, batch: int, held: int) -> tuple[dict[int, Tensor], list[int]]:
    """Return one buffer per size of state, (held, states, E, size, batch), and each one's slot."""
    counts: dict[int, int] = {}
    slots = []
    for shape in chain.shapes:
        size = math.prod(shape)
        slots.append(counts.setdefault(size, 0))
        counts[size] += 1
    return {
        size: torch.empty(
            held, count, chain.n_members, size, batch, dtype=chain.dtype, device=chain.device
        )
        for size, count in counts.items()
    }, slots


def _runs(geometries: Sequence[_decoders.Geometry]) -> list[tuple[int, int]]:
    """Return the runs [first, last) of layers whose decoders are stacked: alike and adjacent."""
    runs: list[tuple[int, int]] = []
    for depth in range(1, len(geometries) + 1):
        if runs and geometries[depth - 1] == geometries[depth - 2]:
            runs[-1] = (runs[-1][0], depth + 1)
        else:
            runs.append((depth, depth + 1))
    return runs


def _stretch(
    chain: _blocks.Chain, buffers: dict[int, Tensor], slots: Sequence[int], first: int, last: int
) -> Tensor:
    """Return states first … last − 1, of one size and adjacent, (held, count·E, size, batch)."""
    buffer = buffers[math.prod(chain.shapes[first])]
    return buffer[:, slots[first] : slots[first] + last - first].flatten(1, 2)


def _fit(
    chain: _blocks.Chain,
    geometries: Sequence[_decoders.Geometry],
    x: Tensor,
    noises: Sequence[float],
    progress: bool,
    advance: Callable[[float], None] | None,
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Regress every layer as the images pass through it: only two states are ever held.

    On a GPU all states are, where they fit, so that decoders of one geometry are solved for
    together: one layer alone would leave most of it idle. Products are in float32 proper there,
    since TF32 would round covariances far above the noise.
    """
    if chain.device.type == "cuda":
        with torch.no_grad(), matmul_precision("ieee"):
            if sum(map(math.prod, chain.shapes)) * chain.n_members * len(x) <= _FIT_NUMBERS:
                return _fit_together(chain, geometries, x, noises, advance)
    weights, biases, ranges = [], [], []
    held: list[Tensor] = []
    with tqdm(
        total=chain.depth, desc="regression", unit="layer", disable=None if progress else True
    ) as bar:

        def visit(depth: int, z: Tensor) -> None:
            _finite({depth: z}, chain)
            if depth:
                weight, bias = _decoders.regress(
                    geometries[depth - 1], z, held[0], noises[depth - 1]
                )
                weights.append(weight)
                biases.append(bias)
                ranges.append(torch.stack(held[0].aminmax(dim=2, keepdim=True)))
                bar.update()
                if advance is not None:
                    advance(1 / chain.depth)
            held[:] = [z.clone()]

        with torch.no_grad():
            chain.run(x, visit)
    return weights, biases, ranges


def _fit_together(
    chain: _blocks.Chain,
    geometries: Sequence[_decoders.Geometry],
    x: Tensor,
    noises: Sequence[float],
    advance: Callable[[float], None] | None,
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Regress runs of layers of one geometry as one stack each."""
    states: dict[int, Tensor] = {}
    chain.run(x, lambda depth, z: states.__setitem__(depth, z.clone()))
    _finite(states, chain)
    weights: list[Tensor] = []
    biases: list[Tensor] = []
    e = chain.n_members
    for first, last in _runs(geometries):
        n = geometries[first - 1].channels[0] * geometries[first - 1].taps
        most = max(1, _FIT_NUMBERS // (4 * e * n * max(n, len(x))))
        for start in range(first, last, most):
            stop = min(start + most, last)
            z, below = (
                torch.cat([states[depth - k] for depth in range(start, stop)]) for k in (0, 1)
            )
            weight, bias = _decoders.regress(geometries[first - 1], z, below, noises[first - 1])
            weights += weight.split(e)
            biases += bias.split(e)
            if advance is not None:
                advance((stop - start) / chain.depth)
    ranges = [
        torch.stack(states[depth].aminmax(dim=2, keepdim=True)) for depth in range(chain.depth)
    ]
    return weights, biases, ranges


def network(
    activation: str,
    widths: Sequence[int],
    *,
    sigma_w2: Sequence[float],
    sigma_b2: float | Sequence[float],
    seeds: Sequence[int],
    device: torch.device | str = "cpu",
) -> FullyConnected:
    """Draw fully connected networks of any ``widths`` (N_0, …, N_L, number of outputs).

    The paper's are (784, …, 784, 400, 10), called wide, and those that shrink linearly from the
    number of pixels to the number of outputs. One member per seed, as ``FullyConnected.draw``
    draws them. Raises ValueError for fewer than two widths and what that raises.
    """
    sizes = [_checks.count("widths", width, 1) for width in widths]
    if len(sizes) < 2:
        raise ValueError(f"widths={widths!r} must name the inputs, hidden layers and outputs")
    layers = [Dense(m, n) for m, n in itertools.pairwise(sizes)]
    return FullyConnected._draw(
        activation, layers, sigma_w2=sigma_w2, sigma_b2=sigma_b2, seeds=seeds,
        initialisation="gaussian", readout_gain=1.0, dtype=torch.float32, device=device,
    )  # fmt: skip


def noise_floor(n_in: int, learning_rate: float = 1e-3, steps: int = _MNIST_STEPS) -> float:
    """Return the noise per activation below which training by Adam reads nothing, τ.

    τ = ½ / (η T √N): Adam moves each weight by about η per step at most, so in T steps a decoder
    of N = ``n_in`` inputs builds up weights of norm η T √N at most along any direction. That is
    the gain it can give to a signal; one of less than ½ of its inverse is not brought back to
    order 1. The size of batches does not matter. The ½ is measured, once: tanh networks of width
    60 to 300 in and near the ordered phase, 80 to 937 steps, digits and MNIST, by matching the
    correlation between images and reconstructions at all depths; single matches lie between 0.3
    and 0.7.

    >>> noise_floor(100, steps=500)
    0.1
    """
    _checks.count("n_in", n_in, 1)
    for name, value in (("learning_rate", learning_rate), ("steps", steps)):
        _checks.require(_checks.number(name, value, float) > 0, name, value, "above 0")
    return _REACH / (learning_rate * steps * math.sqrt(n_in))


def reconstruct(
    model: Cascade | Network | nn.Module,
    image: Tensor,
    layer: int | Sequence[int] | None = None,
    channels: int | Sequence[int] | None = None,
    *,
    images: Tensor | None = None,
    **settings: Any,
) -> Tensor:
    """Return the picture of an image that a layer still holds, or one for every layer.

    ``image`` (C, H, W), (d,), or several with an axis in front; ``model`` a fitted Cascade, or a
    network with the ``images`` to fit one on, with ``settings`` as ``cascade`` takes them.
    ``layer`` and ``channels`` as ``Cascade.reconstruct`` takes them. Returns what that returns,
    without the axis of images for a single one.
    """
    if not isinstance(model, Cascade):
        if images is None:
            raise ValueError(
                "images=None: a network alone says nothing about images; give those to fit its "
                "decoders on, or a Cascade that has been fitted"
            )
        model = cascade(model, images, **settings)
    x = torch.as_tensor(image)
    if x.ndim not in (1, 3):
        return model.reconstruct(x, layer, channels=channels)
    out = model.reconstruct(x.unsqueeze(0), layer, channels=channels)
    return out.squeeze(-1 - x.ndim)


@dataclasses.dataclass(frozen=True)
class Prediction:
    """To which depth a network carries information, before any training.

    ``cutoff``: the mean ℓ* over seeds and batches of images, with ``interval`` (low, high) at
    ``level``. ``curve`` (L,): the mean entropy at layers 1 … L, ``band`` (2, L) the same
    interval of it. ``table``: one row per seed and batch, with its cutoff; ``curves`` (rows, L).
    A cutoff of L is a lower bound: nothing saturated within the network.
    """

    cutoff: float
    interval: tuple[float, float]
    curve: np.ndarray
    band: np.ndarray
    table: pd.DataFrame
    curves: np.ndarray
    level: float


def predict(
    model: Network | nn.Module | Mapping[str, Any] | Callable[[int], Network | nn.Module],
    images: Tensor,
    *,
    measure: str = "relative",
    convention: str = "printed",
    threshold: float | None = None,
    seeds: Sequence[int] = (0,),
    n_batches: int = 4,
    batch: int = 100,
    level: float = 0.95,
    **settings: Any,
) -> Prediction:
    """Predict the depth to which a network can be trained, the cutoff ℓ*, with its uncertainty.

    ``model``: a network; or how to draw one with a seed, as a function of the seed or as a mapping
    with what ``networks.FullyConnected.draw`` takes (``architecture`` names another one), a single
    σ_w². The last ``n_batches`` × ``batch`` images (at most half of all) are kept for evaluation,
    decoders are fitted on the others with ``settings`` as ``cascade`` takes them, for each of the
    distinct ``seeds``: a model given as such keeps its weights, and seeds vary its decoders alone;
    in closed form they vary nothing, and the first is the only one used.

    ``measure``: "relative" averages D(image‖reconstruction) over a batch; with
    ``convention="published"`` it takes the median over images of D_l/D_L, so that ``threshold``
    is relative to the last value (0.005 unless given). "differential" is steadier, and finds the
    remains of information in chaotic networks that the relative entropy does not see (0.3).
    "correlation" (0.1) is not the paper's: use it where ℓ* is to peak at criticality, since it is
    the one whose value at complete loss is known, so that slow loss is not taken for saturation.
    The interval is Student's over seeds and batches of images: all seeds see the same images, so
    that what the batches differ by is added to the scatter of the seeds' means. It is widened by
    half a layer at both ends, since equal cutoffs in whole layers are not yet certain ones, and
    stays within 0 … L. With one seed it is taken over batches, and then says nothing of other
    weights. Raises ValueError for seeds that are not distinct, too few images, and for what
    ``cascade`` refuses.
    """
    _checks.require(measure in MEASURES, "measure", measure, f"one of {', '.join(MEASURES)}")
    _convention(convention)
    _checks.require(0 < _checks.number("level", level, float) < 1, "level", level, "in (0, 1)")
    chosen = _distinct(seeds)
    if "seed" in settings:
        raise ValueError(
            f"seed={settings['seed']!r}: predictions take several, seeds=({settings['seed']!r},)"
        )
    if isinstance(model, Network | nn.Module) and settings.get("mode") == "closed-form":
        chosen = chosen[:1]
    fit, parts = _held_out(images, n_batches, batch)
    if threshold is None:
        threshold = _THRESHOLDS[measure]
    rows, curves = [], []
    for seed, model_ in _drawn(model, chosen, fit[0].numel()):
        fitted = cascade(model_, fit, seed=seed, **settings)
        if fitted.chain.n_members != 1:
            raise ValueError(
                f"an ensemble of {fitted.chain.n_members} networks has as many cutoffs: give one "
                "network, or how to draw it"
            )
        for number, part in enumerate(parts):
            curve = _curve(part, fitted.reconstruct(part).cpu(), measure, convention)
            end = cutoff(curve, threshold, **_ends(part, measure, convention))
            rows.append({"seed": seed, "batch": number, "cutoff": end})
            curves.append(curve)
    table, every = pd.DataFrame(rows), np.array(curves)
    crossed = every.reshape(len(chosen), len(parts), -1)
    cutoffs = table["cutoff"].to_numpy(dtype=float).reshape(crossed.shape[:2])
    return Prediction(
        cutoff=float(cutoffs.mean()),
        interval=_whole_layers(_crossed(cutoffs, level), every.shape[1]),
        curve=every.mean(0),
        band=np.array(_crossed(crossed, level)),
        table=table,
        curves=every,
        level=level,
    )


@dataclasses.dataclass(frozen=True)
class Critical:
    """The critical σ_w²: ``value`` with ``interval``, from ``n_predictions`` values of σ_w².

    ``trace``: one row per σ_w², seed and batch of images in the order of the search, with
    ``score``, the slope of ln(r_l/D_l) per layer: above 0 in the ordered phase, below 0 in the
    chaotic one. ``cutoff`` is the layer up to which it was taken.
    """

    value: float
    interval: tuple[float, float]
    n_predictions: int
    trace: pd.DataFrame


def critical_sigma_w2(
    activation: str,
    sigma_b2: float,
    *,
    width: int,
    depth: int,
    images: Tensor,
    low: float = 0.5,
    high: float = 5.0,
    tolerance: float = 0.05,
    seeds: Sequence[int] = (0,),
    n_batches: int = 4,
    batch: int = 50,
    mode: str = "closed-form",
    noise: float | None = None,
    level: float = 0.95,
    progress: bool = True,
    **settings: Any,
) -> Critical:
    """Find the critical σ_w² of fully connected networks by O(log 1/tolerance) predictions.

    The phases differ in what is lost first. D_l, the deviation of activations z^l over images
    (root of the mean square), dies exponentially with depth in the ordered phase and reaches a
    plateau in the chaotic one; r_l, the ``correlation`` between images and reconstructions, falls
    exponentially in the chaotic phase, and in the ordered one stays until D_l is below the noise
    floor. So the slope

        s(σ_w²) = d ln(r_l / D_l) / dl,  least squares over l from ℓ*/4 to ℓ*,

    is positive in the ordered phase and negative in the chaotic one; at criticality both fall as
    powers of l, so that s = O(1/L). Its zero is the estimate: no constant is fitted to a line that
    is known, and the error falls with depth as 1/L. ℓ* is the last layer with r_l > 0.1, so that
    nothing is read off layers that know nothing. In other words, r_l/D_l is the gain that the
    cascade gives to what it still knows: what inverts a contraction amplifies.

    Bisection in ln σ_w² over [``low``, ``high``] by the sign of the mean of s, until the bracket is
    narrower than ``tolerance``. Each network's own zero lies on the chord over its own change of
    sign among all values visited, the one nearest to the bracket. Each prediction draws the
    ``seeds`` as one ensemble, with the same normal numbers at every σ_w², so that s is smooth in
    it. The last ``n_batches`` × ``batch`` images (at most half of all) are reconstructed, decoders
    fitted on the others, with ``mode``, ``noise`` and further ``settings`` as ``cascade`` takes
    them. The value is the geometric mean of the zeros of all seeds, the interval Student's over
    their logarithms at ``level``; with one seed over batches of images, and then it says nothing
    of other weights. Neither covers what finite depth and width shift: on MNIST 1 to 8 % down at
    depth 60 and width 300, most for small σ_b², and 1 % or less at depth 100 and widths 400 and
    784 (``results/reconstruction-entropy-critical.csv``).

    Raises ValueError where s of any network does not change its sign between ``low`` and ``high``,
    for too few images, and for what ``cascade`` refuses.
    """
    ends = _checks.interval("(low, high)", (low, high))
    _checks.require(low > 0, "low", low, "above 0")
    _checks.require(
        0 < _checks.number("tolerance", tolerance, float) < 1, "tolerance", tolerance, "in (0, 1)"
    )
    _checks.require(0 < _checks.number("level", level, float) < 1, "level", level, "in (0, 1)")
    _checks.count("depth", depth, 4)
    seeds = _distinct(seeds)
    fit, parts = _held_out(images, n_batches, batch)
    layers = np.unique(np.geomspace(1, depth, 4 * depth.bit_length()).round().astype(int))
    rows: list[dict[str, float]] = []
    scores: dict[float, np.ndarray] = {}

    def slope(log_w2: float) -> np.ndarray:
        w2 = math.exp(log_w2)
        network = FullyConnected.draw(
            activation, sigma_w2=[w2] * len(seeds), sigma_b2=sigma_b2, width=width, depth=depth,
            n_in=fit[0].numel(), n_out=1, seeds=seeds,
        )  # fmt: skip
        fitted = cascade(network, fit, mode=mode, noise=noise, progress=False, **settings)
        out = fitted.reconstruct(torch.cat(parts), layers.tolist()).cpu()
        pictures = out.reshape(len(seeds), len(layers), -1, fit[0].numel()).split(len(parts[0]), 2)
        found = np.empty((len(seeds), len(parts)))
        for number, (part, picture) in enumerate(zip(parts, pictures, strict=True)):
            known = correlation(part.flatten(1).cpu(), picture).numpy()
            spread = _deviation(fitted.chain, part)[:, layers]
            for k, seed in enumerate(seeds):
                found[k, number], end = _balance(layers, known[k], spread[k])
                rows.append(
                    {
                        "sigma_w2": w2,
                        "seed": seed,
                        "batch": number,
                        "cutoff": end,
                        "score": found[k, number],
                    }
                )
        bar.update()
        scores[log_w2] = found[0] if len(seeds) == 1 else found.mean(1)
        return scores[log_w2]

    halvings = max(0, math.ceil(math.log2(math.log(ends[1] / ends[0]) / tolerance)))
    with tqdm(
        total=halvings + 2, desc="critical line", unit="prediction",
        disable=None if progress else True,
    ) as bar:  # fmt: skip
        left, right = _bisect(slope, math.log(ends[0]), math.log(ends[1]), halvings)
    zeros = _zeros(scores, (left + right) / 2)
    near, far = (math.exp(end) for end in _student(zeros, level))
    return Critical(math.exp(zeros.mean()), (near, far), len(scores), pd.DataFrame(rows))


def _balance(layers: np.ndarray, known: np.ndarray, spread: np.ndarray) -> tuple[float, int]:
    """Return the slope of ln(r_l/D_l) over l from ℓ*/4 to ℓ*, and ℓ*, the last with r_l > 0.1.

    Three layers are the fewest: where less is known, the slope is that of the first three.
    """
    seen = np.flatnonzero(known > _THRESHOLDS["correlation"])
    last = max(2, int(seen[-1]) if len(seen) else 0)
    first = min(last - 2, int(np.searchsorted(layers, layers[last] / 4)))
    window = slice(first, last + 1)
    held = np.log(np.maximum(known[window], 1e-3) / spread[window])
    share = np.gradient(layers[window].astype(float))  # each layer stands for its neighbours, too
    return float(np.polyfit(layers[window], held, 1, w=np.sqrt(share))[0]), int(layers[last])


def _deviation(chain: _blocks.Chain, images: Tensor) -> np.ndarray:
    """Return D_l = ⟨(z^l − ⟨z^l⟩)²⟩^½ over images and units, (E, L + 1)."""
    found = np.empty((chain.n_members, chain.depth + 1))
    least = torch.finfo(chain.dtype).tiny

    def visit(depth: int, z: Tensor) -> None:
        away = z - z.mean(2, keepdim=True)
        found[:, depth] = away.square().mean((1, 2)).sqrt().clamp_min(least).cpu()

    with torch.no_grad():
        chain.run(images.flatten(1).to(chain.device, chain.dtype), visit)
    return found


def _bisect(
    slope: Callable[[float], np.ndarray], left: float, right: float, halvings: int
) -> tuple[float, float]:
    """Halve [left, right] around the change of sign of the mean slope from above to below 0."""
    for at, sign, phase, remedy in (
        (left, 1, "chaotic", "lower low"), (right, -1, "ordered", "raise high")
    ):  # fmt: skip
        if not (sign * slope(at) > 0).all():
            raise ValueError(
                f"some or all networks with sigma_w2 = {math.exp(at):g} are {phase} already by "
                f"their slope, so low … high holds no critical one: {remedy}, or use a deeper or "
                "wider network"
            )
    for _ in range(halvings):
        middle = (left + right) / 2
        if slope(middle).mean() > 0:
            left = middle
        else:
            right = middle
    return left, right


def _zeros(scores: Mapping[float, np.ndarray], near: float) -> np.ndarray:
    """Return where each column of slopes, by position, falls through 0: the place next to near."""
    at = np.array(sorted(scores))
    slopes = np.array([scores[x] for x in at])
    i, unit = np.nonzero((slopes[:-1] > 0) & (slopes[1:] <= 0))
    drop = slopes[i, unit] - slopes[i + 1, unit]
    places = at[i] + (at[i + 1] - at[i]) * slopes[i, unit] / drop
    return np.array(
        [min(places[unit == k], key=lambda x: abs(x - near)) for k in range(slopes.shape[1])]
    )


def _student(samples: np.ndarray, level: float) -> tuple[Any, Any]:
    """Return Student's interval of the mean over the first axis; a single sample has none."""
    mean = samples.mean(0)
    if len(samples) < 2:
        return mean - math.inf, mean + math.inf
    half = stats.t.ppf((1 + level) / 2, len(samples) - 1) * stats.sem(samples, axis=0)
    return mean - half, mean + half


def _crossed(values: np.ndarray, level: float) -> tuple[Any, Any]:
    """Return Student's interval of the mean over seeds and batches, (S, B, …).

    Var = σ_s²/S + σ_b²/B + σ_e²/SB of an effect of seeds, one of batches and a rest. The variances
    of the seeds' means and of the batches' means, added, hold the rest twice, which is on the safe
    side. Degrees of freedom are Satterthwaite's. One seed alone: over its batches.
    """
    s, b = values.shape[:2]
    if s == 1 or b == 1:
        return _student(values[0] if s == 1 else values[:, 0], level)
    over_seeds = values.mean(1).var(0, ddof=1) / s
    over_batches = values.mean(0).var(0, ddof=1) / b
    variance = over_seeds + over_batches
    share = over_seeds / np.maximum(variance, np.finfo(float).tiny)
    freedom = 1 / (share**2 / (s - 1) + (1 - share) ** 2 / (b - 1))
    half = stats.t.ppf((1 + level) / 2, freedom) * np.sqrt(variance)
    mean = values.mean((0, 1))
    return mean - half, mean + half


def _distinct(seeds: Sequence[int]) -> tuple[int, ...]:
    if not isinstance(seeds, Iterable):
        raise ValueError(f"seeds={seeds!r} must be several integers: name each, as in range(3)")
    found = tuple(_checks.count("seeds", seed, 0) for seed in seeds)
    if not found or len(set(found)) < len(found):
        raise ValueError(f"seeds={found} must be at least one seed, and all of them different")
    return found


def _held_out(images: Tensor, n_batches: int, batch: int) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return the images to fit decoders on, and the batches of others to evaluate them on."""
    _checks.count("n_batches", n_batches, 1)
    _checks.count("batch", batch, 2)
    x = torch.as_tensor(images)
    kept = min(n_batches * batch, len(x) // 2) // n_batches
    if kept < 2:
        raise ValueError(
            f"{len(x)} images are too few for {n_batches} batches to evaluate on and as many to "
            "fit on: give at least 4 per batch, better thousands"
        )
    held = n_batches * kept
    return x[:-held], x[-held:].split(kept)


def _whole_layers(interval: tuple[float, float], depth: int) -> tuple[float, float]:
    """Return the interval of a mean of numbers that were rounded to layers 0 … depth."""
    low, high = interval
    return max(0.0, float(low) - 0.5), min(float(depth), float(high) + 0.5)


def _curve(images: Tensor, out: Tensor, measure: str, convention: str) -> np.ndarray:
    """Return the entropy of one batch's reconstructions (layers, n, …) at each layer."""
    if measure == "correlation":
        return correlation(images.cpu(), out).numpy()
    if measure == "differential":
        return differential_entropy(out.flatten(2), convention=convention).numpy()
    each = relative_entropy(images.cpu(), out, convention=convention)
    if convention == "printed":
        return each.mean(1).numpy()
    last = each[-1].clamp_min(torch.finfo(each.dtype).tiny)
    return (each / last).median(1).values.numpy()


def _ends(images: Tensor, measure: str, convention: str) -> dict[str, Any]:
    """Return what ``cutoff`` is to know of the value of a measure at no loss, or at all."""
    if measure == "correlation":
        return {"lost": 0.0}
    if convention == "published":  # a ratio to the last value: no loss at all is 0/0
        return {}
    return {"lossless": float(_curve(images, images.cpu().unsqueeze(0), measure, convention)[0])}


def _drawn(
    model: Any, seeds: Sequence[int], n_in: int
) -> Iterator[tuple[int, Network | nn.Module]]:
    """Yield a model per seed."""
    for seed in seeds:
        if isinstance(model, Mapping):
            own = dict(model)
            kind = own.pop("architecture", "fully-connected")
            _checks.require(
                kind in ARCHITECTURES, "architecture", kind, f"one of {', '.join(ARCHITECTURES)}"
            )
            own = {"n_out": 10} | ({"n_in": n_in} if kind == "fully-connected" else {}) | own
            w2 = own.pop("sigma_w2", None)
            variance = _checks.variance("sigma_w2", w2)
            try:
                yield seed, ARCHITECTURES[kind].draw(sigma_w2=[variance], seeds=[seed], **own)
            except TypeError as error:
                raise ValueError(f"settings of the network: {error}") from error
        elif isinstance(model, Network | nn.Module):
            yield seed, model
        elif callable(model):
            yield seed, model(seed)
        else:
            raise ValueError(
                f"a {type(model).__name__} is no network: give one, a mapping of its settings, or "
                "a function that draws one with a seed"
            )


def relative_entropy(
    images: Tensor, reconstructed: Tensor, *, convention: str = "printed"
) -> Tensor:
    """Return D(p‖q) = Σ_i p_i ln(p_i/q_i) between images and their reconstructions, in nats.

    p and q are the images as distributions over their pixels: each divided by its sum.
    ``images`` (n, …), ``reconstructed`` (…, n, …) with any axes in front; returns those axes and
    n. Two conventions for values that are no probabilities:

    - "printed" (eq. 1.1): negative values of a reconstruction count as no intensity. A pixel with
      p_i = 0 contributes nothing, and every q_i is at least 1e-12 before normalisation, so that a
      reconstruction that is dark where the image is not stays finite.
    - "published", the paper's code: from each image its own minimum is subtracted and 1e-12 added.

    Raises ValueError for shapes that do not fit, values that are not finite, and, where printed,
    an image with a negative value or without any intensity. (Paper, eq. 1.1.)

    >>> word = torch.tensor([[8.0, 5, 12, 12, 15]])
    >>> round(relative_entropy(word, word + 64).item(), 3)
    0.046
    """
    _convention(convention)
    x, y = _pairs(images, reconstructed)
    if convention == "published":
        p, q = (v - v.amin(-1, keepdim=True) + _SHIFT for v in (x, y))
    else:
        if bool((x < 0).any()) or bool((x.sum(-1) <= 0).any()):
            raise ValueError(
                "an image with a negative value, or with none above 0, is no distribution over its "
                'pixels: scale images to [0, 1], or use convention="published"'
            )
        p, q = x, y.clamp_min(_SHIFT)
    p, q = p / p.sum(-1, keepdim=True), q / q.sum(-1, keepdim=True)
    return (torch.special.xlogy(p, p) - torch.special.xlogy(p, q)).sum(-1)


def differential_entropy(
    reconstructed: Tensor, *, convention: str = "printed", image_axes: int | None = None
) -> Tensor:
    """Return S = ⟨½ ln(2πe σ_i²)⟩_i in nats, σ_i the deviation of pixel i over images.

    ``reconstructed`` (…, n, …image): the last ``image_axes`` axes are one image, the one before
    them counts images, and those in front, layers or networks, stay. Unless given: 1 up to three
    axes in all, (layers, n, d), and 3 beyond, (layers, n, C, H, W).

    - "printed" (eq. 1.4): as they are. - "published", the paper's code: each image is first divided
    by the sum of its pixels, which lowers S by the logarithm of that sum, several nats.

    A deviation below the rounding of float32 at the largest value of the layer, 2⁻²⁴ max|x|, is
    not known, whatever was computed; it counts as that rounding. A pixel that is the same in all
    images (dead) thus lowers the mean by a finite amount, and a layer from which all images look
    the same has the least entropy that the arithmetic can tell. Where all is zero, S = −∞.

    Raises ValueError for fewer than two images, values that are not finite and, as published, an
    image whose pixels sum to 0. (Paper, eq. 1.4.)
    """
    _convention(convention)
    x = torch.as_tensor(reconstructed).double()
    axes = (1 if x.ndim < 4 else 3) if image_axes is None else image_axes
    _checks.count("image_axes", axes, 1)
    if x.ndim < 1 + axes:
        raise ValueError(f"reconstructed has shape {tuple(x.shape)}: give (…, n images, pixels)")
    x = x.flatten(-axes)
    if x.shape[-2] < 2:
        raise ValueError(
            f"{x.shape[-2]} image has no deviation over images: give at least 2, better 100"
        )
    _all_finite("reconstructed", x)
    if convention == "published":
        total = x.sum(-1, keepdim=True)
        if bool((total == 0).any()):
            raise ValueError(
                "an image whose pixels sum to 0 cannot be divided by that sum: use "
                'convention="printed"'
            )
        x = x / total
    floor = _ROUNDING * x.abs().amax((-2, -1)).unsqueeze(-1)
    deviation = torch.maximum(x.std(-2, correction=0), floor)
    return (0.5 * math.log(2 * math.pi * math.e) + deviation.log()).mean(-1)


def correlation(images: Tensor, reconstructed: Tensor) -> Tensor:
    """Return the correlation between images and reconstructions, each about its mean image.

    r = Σ δx δx̄ / √(Σ δx² Σ δx̄²), over images and pixels, δ the deviation from the mean over
    images: 1 for perfect reconstructions, and 0 up to 1/√(n · effective pixels) once images of a
    batch no longer determine theirs, whatever is reconstructed instead. Two saturation values
    that are known, where the entropies have one that is not. ``images`` (n, …),
    ``reconstructed`` (…, n, …): returns the axes in front. Where either does not vary at all,
    r = 0. Raises ValueError for shapes that do not fit, one image, and values not finite.
    """
    x, y = _pairs(images, reconstructed)
    if len(x) < 2:
        raise ValueError("1 image has no deviation over images: give at least 2, better 100")
    x, y = x - x.mean(-2, keepdim=True), y - y.mean(-2, keepdim=True)
    norm = (x.square().sum((-2, -1)) * y.square().sum((-2, -1))).sqrt()
    return torch.where(norm > 0, (x * y).sum((-2, -1)) / norm.clamp_min(1e-300), 0.0)


def _pairs(images: Tensor, reconstructed: Tensor) -> tuple[Tensor, Tensor]:
    """Return both in float64 with the pixels on one axis."""
    x, y = (torch.as_tensor(values).double() for values in (images, reconstructed))
    if x.ndim < 2 or y.ndim < x.ndim or y.shape[y.ndim - x.ndim :] != x.shape:
        raise ValueError(
            f"images {tuple(x.shape)} and reconstructions {tuple(y.shape)} do not fit: give "
            "(n, …) and (…, n, …), pixels last"
        )
    _all_finite("images", x)
    _all_finite("reconstructed", y)
    return x.flatten(1), y.reshape(*y.shape[: y.ndim - x.ndim + 1], -1)


def cutoff(
    entropy: Any,
    threshold: float = 0.005,
    *,
    relative: bool = False,
    lossless: float | None = None,
    lost: float | None = None,
) -> np.ndarray | int:
    """Return the layer ℓ* from which on an entropy stays at its last value, 0 … L.

    ``entropy`` (…, L): values at layers 1 … L. From layer L backwards, the first layer l whose
    value differs from that of layer L by more than ``threshold`` (times the last value with
    ``relative=True``, as the published code has it) gives ℓ* = l + 1. So

    - ℓ* = L where the last step alone exceeds the threshold: no saturation within the network,
      and L is a lower bound of the true cutoff;
    - ℓ* = 0 where no layer exceeds it: the curve is flat, what it says was lost before layer 1.
      (The paper's rule leaves such a curve at its default, L.)

    A flat curve is also what a network shows that loses nothing. ``lossless``, the entropy of
    perfect reconstructions (0 for the relative entropy, that of the images themselves for the
    differential one), tells the two apart: a flat curve that ends within the threshold of it
    gets L. A curve that creeps fools the rule as well: near criticality an entropy may change by
    less than the threshold over many layers with most of the image still there. Where the value
    of complete loss is known, ``lost`` takes the place of the last value (0 for ``correlation``):
    ℓ* is then the layer after the deepest one that differs from it, L where that is layer L
    itself, and 0 where none does.

    Raises ValueError for a NaN, no layer, and a threshold below 0. (Paper, A.2.)

    >>> cutoff([-2.0, -5.0, -9.0, -9.001, -9.0], 0.005), cutoff([-9.0, -9.0], 0.005)
    (3, 0)
    """
    curve = np.asarray(entropy, dtype=float)
    eta = float(_checks.number("threshold", threshold, float))
    _checks.require(eta >= 0, "threshold", threshold, "at least 0")
    if curve.ndim < 1 or curve.shape[-1] < 1:
        raise ValueError(f"entropy has shape {curve.shape}: give one value per layer, (…, L)")
    if np.isnan(curve).any():
        raise ValueError("entropy holds NaN: there is no cutoff of a curve that is not known")
    last = curve[..., -1:] if lost is None else np.float64(lost)
    with np.errstate(invalid="ignore"):  # −∞ − (−∞): equal, so no difference
        away = np.abs(np.where(curve == last, 0.0, curve - last))
    beyond = away > (eta * np.abs(last) if relative else eta)
    layers = curve.shape[-1]
    found = np.where(beyond, np.arange(1, layers + 1), 0).max(-1)
    out = np.where(found > 0, np.minimum(found + 1, layers), 0)
    if lossless is not None:
        kept = np.abs(curve[..., -1] - lossless) <= (eta * abs(lossless) if relative else eta)
        out = np.where((found == 0) & kept, layers, out)
    return int(out) if out.ndim == 0 else out


def _home(model: object, device: str | torch.device) -> tuple[torch.device, torch.dtype]:
    if isinstance(model, Network):
        parameter = model.weights[0]
    elif isinstance(model, nn.Module):
        parameter = next(model.parameters(), torch.empty(0))
    else:
        parameter = torch.empty(0)
    return parameter.device if str(device) == "auto" else torch.device(device), parameter.dtype


def _images(images: Any, device: torch.device, dtype: torch.dtype, *, least: int) -> Tensor:
    x = torch.as_tensor(images)
    if x.ndim not in (2, 4) or x.shape[1:].numel() < 1:
        raise ValueError(
            f"images of shape {tuple(x.shape)} must be (n, pixels) or (n, channels, height, width)"
        )
    if len(x) < least:
        raise ValueError(f"{len(x)} image: a cascade needs at least {least}, better thousands")
    x = x.to(device=device, dtype=dtype)
    _all_finite("images", x)
    return x


def _several(value: Any) -> list[Any]:
    """Return what a sequence holds, or a single value as a list."""
    single = not isinstance(value, Iterable) or getattr(value, "ndim", None) == 0
    return [value] if single else list(value)


def _whole(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _all_finite(name: str, x: Tensor) -> None:
    if not bool(x.isfinite().all()):
        raise ValueError(f"{name}: values must be finite, but there are NaN or infinite ones")


def _each_finite(values: Iterable[Tensor]) -> list[bool]:
    """Tell for each tensor whether all of it is finite; a GPU is waited for once."""
    return [bool(good) for good in torch.stack([x.isfinite().all() for x in values]).tolist()]


def _finite(states: Mapping[int, Tensor], chain: _blocks.Chain) -> None:
    depths = sorted(states)
    for depth, good in zip(depths, _each_finite(states[d] for d in depths), strict=True):
        if not good:
            name = "the images" if depth == 0 else f"layer {depth} ({chain.names[depth - 1]})"
            raise ValueError(
                f"activations of {name} are NaN or infinite: the network itself overflows there, "
                "so there is nothing to reconstruct"
            )


def _convention(name: str) -> None:
    allowed = f"one of {', '.join(CONVENTIONS)}"
    _checks.require(name in CONVENTIONS, "convention", name, allowed)
