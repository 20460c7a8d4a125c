"""The activations z^0 … z^L of a network, one layer after another, for any network.

A state holds the samples last, (E, features, n), as in ``layers``; features of an image run
channel by channel. E is the number of members of an ensemble, 1 for a module.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from mflib.experiment.layers import Convolution, Workspace
from mflib.experiment.networks import Network
from mflib.experiment.nonlinearities import nonlinearity

Shape = tuple[int, ...]
Visit = Callable[[int, Tensor], None]

READOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda z: z,
    "tanh": torch.tanh,
    "softmax": lambda z: torch.softmax(z, 1),
    "tanh-softmax": lambda z: torch.softmax(torch.tanh(z), 1),
}

# What stands between two states: affine maps, what rescales them, and what only moves numbers.
_WITHIN = (
    nn.Linear,
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.modules.dropout._DropoutNd,
    nn.modules.padding._ConstantPadNd,
    nn.modules.padding._ReflectionPadNd,
    nn.modules.padding._ReplicationPadNd,
    nn.CircularPad1d,
    nn.CircularPad2d,
    nn.Flatten,
    nn.Unflatten,
    nn.Identity,
)

_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.LPPool2d)
_PADS = (
    nn.Conv2d,
    nn.ZeroPad2d,
    nn.ConstantPad2d,
    nn.ReflectionPad2d,
    nn.ReplicationPad2d,
    nn.CircularPad2d,
)


@dataclasses.dataclass(frozen=True)
class Grid:
    """Where the positions of one map lie on another: (p, q) at strides · (p, q) + starts."""

    strides: tuple[int, int]
    starts: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class _Window:
    """What one module does along height or width, from ``large`` positions to ``small``.

    Position p sees stride · p − before … stride · p − before + reach − 1; ``after`` is the padding
    at the other end.
    """

    large: int
    small: int
    stride: int
    reach: int
    before: int
    after: int


@dataclasses.dataclass(frozen=True)
class Chain:
    """A network as its states: ``shapes[l]`` is that of z^l, l = 0 … L, (d,) or (C, H, W).

    ``run(x, visit)`` sends images x (n, d) through it and calls ``visit(l, z^l)`` for l = 0 … L
    in this order, z^l (E, features, n); the tensor may be used again once ``visit`` returns.
    ``wraps`` tells whether convolutions go around the edge of the image; ``names`` are those of
    the layers, 1 … L; ``grids[l−1]`` tells where the positions of z^l lie on z^{l−1}, None where
    one of them is flat. ``again(images)`` is the chain of the same model for images
    (n, C, H, W) of another size, None where the model has only one.
    """

    shapes: tuple[Shape, ...]
    names: tuple[str, ...]
    n_members: int
    wraps: bool
    device: torch.device
    dtype: torch.dtype
    run: Callable[[Tensor, Visit], None]
    grids: tuple[Grid | None, ...]
    again: Callable[[Tensor], Chain] | None = None

    @property
    def depth(self) -> int:
        """Number of layers L."""
        return len(self.shapes) - 1


def chain(
    model: Network | nn.Module,
    images: Tensor,
    *,
    blocks: Sequence[str] | None,
    readout: str | None,
    image_shape: Sequence[int] | None,
    device: str | torch.device,
) -> Chain:
    """Return the states of a model that takes such images."""
    if isinstance(model, Network):
        return _of_network(model, images, blocks, readout, image_shape, device)
    if isinstance(model, nn.Module):
        return _of_module(model, images, blocks, readout, image_shape, device)
    raise ValueError(
        f"a {type(model).__name__} is no network: give one of mflib.experiment.networks, "
        "or a torch.nn.Module"
    )


def _of_network(
    network: Network,
    images: Tensor,
    blocks: Sequence[str] | None,
    readout: str | None,
    image_shape: Sequence[int] | None,
    device: str | torch.device,
) -> Chain:
    if blocks is not None:
        raise ValueError(
            f"blocks={list(blocks)!r}: a {type(network).__name__} has its layers; name blocks of "
            "a torch.nn.Module only"
        )
    if device != "auto":
        network = dataclasses.replace(
            network,
            weights=[w.to(device) for w in network.weights],
            biases=[b.to(device) for b in network.biases],
        )
    first = network.layers[0]
    if images[0].numel() != first.n_in:
        raise ValueError(
            f"images of shape {tuple(images.shape[1:])} do not fit the model: its first layer "
            f"reads {first.n_in} numbers, not {images[0].numel()}"
        )
    layers = network.layers if readout is not None else network.layers[:-1]
    if not layers:
        raise ValueError("the model has no hidden layer, so there is nothing to reconstruct from")
    last = _readout(readout)
    phi = nonlinearity(network.activation)
    seen = tuple(image_shape) if image_shape is not None else first.image_in
    shapes = [_image(seen, images) if first.image_in is None else first.image_in]
    shapes += [layer.image_out or (layer.n_out,) for layer in layers]
    names = tuple(f"layer {k + 1}" for k in range(len(layers)))

    def run(x: Tensor, visit: Visit) -> None:
        work = Workspace(network.weights[0])
        y = x.flatten(1).mT.expand(network.n_members, -1, -1)
        visit(0, y)
        for depth, layer in enumerate(layers):
            z = work(f"state {depth % 2}", network.n_members, layer.n_out, y.shape[2])
            layer.up(network.weights[depth], network.biases[depth], y, z, work)
            if depth < network.depth:
                phi.apply(z, z)
                y = z
            else:
                y = last(z)
            visit(depth + 1, y)

    return Chain(
        tuple(shapes),
        names,
        network.n_members,
        any(isinstance(layer, Convolution) for layer in layers),
        network.weights[0].device,
        network.weights[0].dtype,
        run,
        tuple(
            _grid(name, [], below, above)  # its convolutions pad half their kernel
            for name, (below, above) in zip(names, itertools.pairwise(shapes), strict=True)
        ),
    )


def _of_module(
    model: nn.Module,
    images: Tensor,
    blocks: Sequence[str] | None,
    readout: str | None,
    image_shape: Sequence[int] | None,
    device: str | torch.device,
) -> Chain:
    if device != "auto":
        model = copy.deepcopy(model).to(device)
    names = _blocks(model) if blocks is None else list(blocks)
    found = dict(model.named_modules())
    missing = [name for name in names if name not in found or not name]
    if missing or not names:
        raise ValueError(
            f"blocks={names!r}: {missing[0] if missing else 'nothing'!r} is no submodule of this "
            f"{type(model).__name__}; it has {_listed(found)}"
        )
    if len(set(names)) < len(names):
        raise ValueError(f"blocks={names!r} must name each block once")
    modules = [found[name] for name in names]
    last = _readout(readout)
    # The readout is the model's own output, so it is a state of its own unless a block ends there.
    outputs = len(names) + (readout is not None)
    parameter = next(model.parameters(), torch.empty(0))

    def run(x: Tensor, visit: Visit) -> None:
        order: list[int] = []

        def record(k: int, value: object) -> None:
            if not isinstance(value, Tensor) or value.shape[:1] != x.shape[:1]:
                raise ValueError(
                    f"the output of block {names[k]!r} is not one tensor with an entry per image: "
                    "name a submodule whose output is the layer's activations"
                )
            if k in order:
                raise ValueError(
                    f"module {names[k]!r} runs more than once: give each layer a "
                    f"{type(modules[k]).__name__} of its own"
                )
            order.append(k)
            if k != len(order) - 1:
                raise ValueError(
                    f"block {names[k]!r} ran as number {len(order)} and was named as number "
                    f"{k + 1}: name blocks in the order in which they run"
                )
            visit(k + 1, value.detach().flatten(1).mT.unsqueeze(0))

        handles = [
            module.register_forward_hook(lambda _m, _i, out, k=k: record(k, out))
            for k, module in enumerate(modules)
        ]
        try:
            with _evaluating(model), torch.no_grad():
                visit(0, x.flatten(1).mT.unsqueeze(0))
                out = model(x.clone())  # a first layer may act in place
        finally:
            for handle in handles:
                handle.remove()
        if len(order) < len(names):
            raise ValueError(f"block {names[len(order)]!r} does not run when the model does")
        if readout is not None:
            visit(len(names) + 1, last(out.detach()).flatten(1).mT.unsqueeze(0))

    shapes: list[Shape] = [()] * (outputs + 1)
    shapes[0] = _image(image_shape, images)
    windows: list[list[tuple[_Window, _Window]]] = [[] for _ in range(outputs + 1)]
    ended: list[int] = []

    def end(k: int, out: object) -> None:
        ended.append(k)
        shapes[k + 1] = tuple(out.shape[1:]) if isinstance(out, Tensor) else ()

    def look(module: nn.Module, given: tuple[Any, ...], out: Tensor) -> None:
        if given and len(ended) <= outputs:
            windows[len(ended)].append(_windows(module, given[0], out))

    # First, so that a block that is itself a pooling is looked at before it ends.
    probes = [
        module.register_forward_hook(look)
        for module in model.modules()
        if isinstance(module, _POOLS + _PADS)
    ]
    probes += [
        module.register_forward_hook(lambda _m, _i, out, k=k: end(k, out))
        for k, module in enumerate(modules)
    ]
    try:
        with _evaluating(model), torch.no_grad():
            out = model(images[:2].clone())
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"images of shape {tuple(images.shape[1:])} do not fit the model: {reason}"
        ) from error
    finally:
        for handle in probes:
            handle.remove()
    if readout is not None:
        if not isinstance(out, Tensor):
            raise ValueError(
                f"readout={readout!r} needs a model whose output is one tensor, not a "
                f"{type(out).__name__}: name blocks only"
            )
        shapes[-1] = tuple(out.shape[1:])
    run(images[:2], lambda _layer, _z: None)  # says what is wrong with the blocks before any work
    flat = tuple(shape if len(shape) in (1, 3) else (math.prod(shape),) for shape in shapes)
    titles = (*names, *(["readout"] if readout is not None else []))
    return Chain(
        flat,
        titles,
        1,
        any(
            getattr(m, "padding_mode", "") == "circular"
            or isinstance(m, nn.CircularPad1d | nn.CircularPad2d)
            for m in model.modules()
        ),
        parameter.device,
        parameter.dtype,
        run,
        tuple(
            _grid(name, between, below, above)
            for name, between, (below, above) in zip(
                titles, windows[:outputs], itertools.pairwise(flat), strict=True
            )
        ),
        lambda other: _of_module(model, other, names, readout, None, "auto"),
    )


def _windows(module: nn.Module, given: Tensor, out: Tensor) -> tuple[_Window, _Window]:
    """Return what a convolution, pooling or padding of maps does along height and width."""

    def pair(value: Any) -> tuple[int, int]:
        return (value, value) if isinstance(value, int) else tuple(value)

    strides = reach = (1, 1)
    pads: tuple[int, ...]  # left, right, top, bottom
    if isinstance(module, nn.Conv2d):
        pads = tuple(module._reversed_padding_repeated_twice)
        strides = pair(module.stride)
        reach = _reach(pair(module.kernel_size), pair(module.dilation))
    elif isinstance(module, _POOLS):
        down, across = pair(getattr(module, "padding", 0))
        pads = (across, across, down, down)
        strides = pair(module.stride or module.kernel_size)
        reach = _reach(pair(module.kernel_size), pair(getattr(module, "dilation", 1)))
    else:
        pads = tuple(cast(Any, module.padding))
    height, width = (
        _Window(given.shape[axis], out.shape[axis], stride, side, before, after)
        for axis, stride, side, (before, after) in zip(
            (-2, -1), strides, reach, (pads[2:], pads[:2]), strict=True
        )
    )
    return height, width


def _reach(kernel: tuple[int, int], dilation: tuple[int, int]) -> tuple[int, int]:
    return 1 + dilation[0] * (kernel[0] - 1), 1 + dilation[1] * (kernel[1] - 1)


def _grid(
    name: str, windows: Sequence[tuple[_Window, _Window]], below: Shape, above: Shape
) -> Grid | None:
    """Return where the positions of a block's output lie on its input, None for flat states."""
    if not len(below) == len(above) == 3:
        return None
    lines = [
        _axis(name, [both[axis] for both in windows], below[1 + axis], above[1 + axis])
        for axis in range(2)
    ]
    (down, top), (across, left) = lines
    return Grid((down, across), (top, left))


def _axis(name: str, windows: Sequence[_Window], large: int, small: int) -> tuple[int, int]:
    """Return stride and start of a block along one axis.

    One after another, windows of strides s_1, s_2, … and reaches R_1, R_2, … are one of stride
    Π s and reach 1 + Σ_i (R_i − 1) Π_{j<i} s_j. Where the sizes show that they do not follow one
    another (branches, functions that are no modules), the sizes alone must tell the stride.
    """
    if small == large:
        return 1, 0
    if small > large:
        raise ValueError(
            f"block {name!r} enlarges its maps from {large} to {small} positions along an axis and "
            "has no decoder here: name blocks that keep or reduce their size"
        )
    sizes = [large, *(window.small for window in windows)]
    if sizes[-1] == small and all(
        window.large == size for window, size in zip(windows, sizes, strict=False)
    ):
        stride, reach, before = 1, 1, 0
        for window in windows:
            reach += (window.reach - 1) * stride
            before += window.before * stride
            stride *= window.stride
        return stride, (reach - 1 - 2 * before) // 2
    if all(_aligned(window) for window in windows):
        if large % small == 0:
            return large // small, 0
        strides = [s for s in range(2, large + 1) if small in (large // s, -(-large // s))]
        if len(strides) == 1:
            return strides[0], 0
    raise ValueError(
        f"block {name!r} maps {large} positions to {small} along an axis, and which of them each "
        "one saw cannot be told from its convolutions and poolings: name a block that ends before "
        "or after it, or build it of nn modules that run one after another"
    )


def _aligned(window: _Window) -> bool:
    """Whether position p lies on stride · p: half the kernel is padded, or windows tile."""
    tiles = window.before == 0 and window.reach == window.stride
    return tiles or window.before + window.after == window.reach - 1


def _blocks(model: nn.Module) -> list[str]:
    """Return the parts of an nn.Sequential that end a block, those of nested ones included."""
    names = list(_ends(model, "")) if isinstance(model, nn.Sequential) else []
    if names:
        return names
    raise ValueError(
        f"the blocks of this {type(model).__name__} cannot be found: give blocks=[names of the "
        "submodules whose outputs are z^1 … z^L]; it has "
        f"{_listed(dict(model.named_modules()))}"
    )


def _ends(model: nn.Sequential, prefix: str) -> Iterator[str]:
    for name, child in model.named_children():
        if isinstance(child, nn.Sequential):
            yield from _ends(child, f"{prefix}{name}.")
        elif not isinstance(child, _WITHIN):
            yield prefix + name


def _listed(found: dict[str, nn.Module], most: int = 12) -> str:
    names = [name for name in found if name]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) + more) or "no submodules"


def _image(shape: Sequence[int] | None, images: Tensor) -> Shape:
    """Return the shape of an image: as given, else as the images come."""
    own = tuple(images.shape[1:])
    if shape is None:
        return own if len(own) == 3 else (math.prod(own),)
    given = tuple(int(size) for size in shape)
    if len(given) != 3 or math.prod(given) != math.prod(own):
        raise ValueError(
            f"image_shape={given} must be (channels, height, width) with "
            f"{math.prod(own)} numbers, as many as each image has"
        )
    return given


def _readout(name: str | None) -> Callable[[Tensor], Tensor]:
    if name is not None and name not in READOUTS:
        raise ValueError(f"readout={name!r} must be None or one of {', '.join(READOUTS)}")
    return READOUTS[name or "linear"]


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Set a model to evaluation, then every submodule back to what it was."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training
