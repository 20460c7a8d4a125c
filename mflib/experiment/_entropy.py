"""One network of a map of entropies: drawn, its decoders fitted, what its layers still know.

This module and what it imports are all that decides the numbers of a map, so its code version is
what recorded maps are keyed by.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from mflib.experiment import _checks, descent, networks, reconstruction
from mflib.experiment.networks import Network

_SWEEP_BYTES = {"cpu": 2**30, "cuda": 4 * 2**30}  # of what one decoder gathers for all layers
_FITTING = 0.7  # share of the work, about


class _Residual(nn.Module):
    """Two convolutions around a tanh, added to what enters; a tanh behind where ``bounded``."""

    def __init__(self, first: nn.Module, second: nn.Module, bounded: bool) -> None:
        super().__init__()
        self.first, self.second, self.bounded = first, second, bounded

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = h + self.second(torch.tanh(self.first(h)))
        return torch.tanh(out) if self.bounded else out


def residual_network(
    sigma_w2: float,
    sigma_b2: float,
    *,
    channels: int,
    n_blocks: int,
    seed: int,
    bounded: bool = True,
    inputs: int = 1,
) -> nn.Sequential:
    """Draw a tanh network of residual blocks, z ← tanh(z + W₂ tanh(W₁ z + b₁) + b₂).

    In front a stem of two 3×3 convolutions, the second of stride 2, from ``inputs`` channels to
    ``channels``; all convolutions go around the edge. Weights have variance σ_w²/(9 · channels
    read), biases σ_b². ``bounded=False`` leaves out the tanh behind the addition. Takes images
    (n, ``inputs``, H, W); its layers 1 … ``n_blocks`` + 2 end at the stem's two tanh and at each
    block. Raises ValueError for sizes below 1 and negative variances. (Paper, fig. 5.)
    """
    for name, size in (("channels", channels), ("n_blocks", n_blocks), ("inputs", inputs)):
        _checks.count(name, size, 1)
    w2, b2 = _checks.variance("sigma_w2", sigma_w2), _checks.variance("sigma_b2", sigma_b2)
    generator = torch.Generator().manual_seed(seed)

    def convolution(n_in: int, stride: int = 1) -> nn.Conv2d:
        layer = nn.Conv2d(n_in, channels, 3, stride=stride, padding=1, padding_mode="circular")
        nn.init.normal_(layer.weight, 0, (w2 / (9 * n_in)) ** 0.5, generator)
        assert layer.bias is not None
        nn.init.normal_(layer.bias, 0, b2**0.5, generator)
        return layer

    stem = [convolution(inputs), nn.Tanh(), convolution(channels, 2), nn.Tanh()]
    blocks = [
        _Residual(convolution(channels), convolution(channels), bounded) for _ in range(n_blocks)
    ]
    return nn.Sequential(*stem, *blocks)


def drawn(
    architecture: str,
    *,
    activation: str,
    sigma_w2: float,
    sigma_b2: float,
    depth: int,
    width: int,
    channels: int,
    stride2: int,
    bounded: bool,
    image_shape: Sequence[int],
    n_out: int,
    seed: int,
    dtype: torch.dtype,
) -> Network | nn.Module:
    """Draw one network, on the CPU, so that it is the same one whatever it is asked on."""
    common: dict[str, Any] = {
        "sigma_w2": [sigma_w2], "sigma_b2": sigma_b2, "depth": depth, "n_out": n_out,
        "seeds": [seed], "dtype": dtype,
    }  # fmt: skip
    if architecture == "residual":
        return residual_network(
            sigma_w2, sigma_b2, channels=channels, n_blocks=depth, seed=seed, bounded=bounded,
            inputs=image_shape[0],
        ).to(dtype)  # fmt: skip
    if architecture == "convolutional":
        return networks.Convolutional.draw(
            activation, channels=channels, image_shape=image_shape, stride2=stride2,
            initialisation="gaussian", **common,
        )  # fmt: skip
    n_in = int(torch.Size(image_shape).numel())
    return networks.FullyConnected.draw(activation, width=width, n_in=n_in, **common)


def measured(
    model: Network | nn.Module,
    fit: Tensor,
    shown: Tensor,
    *,
    mode: str,
    layers: Sequence[int] | None,
    batch_size: int,
    steps: int,
    output: str,
    seed: int,
    device: torch.device,
    advance: Callable[[float], None],
) -> pd.DataFrame:
    """Fit decoders on images ``fit`` and return the entropies of ``shown``, one row per layer.

    Columns: layer, differential, differential_published, relative, relative_published,
    correlation. All of it happens where the images are, in float32 without TF32: its 11 bits would
    hide the noise floor of the regression.
    """
    with _full_precision(device):
        cascade = reconstruction.cascade(
            model, fit, mode=mode, batch_size=batch_size, steps=steps, output=output, device=device,
            seed=seed, progress=False, advance=lambda share: advance(_FITTING * share),
        )  # fmt: skip
        chosen = list(range(1, cascade.depth + 1)) if layers is None else list(layers)
        parts = []
        for part in shown.split(_at_once(cascade, len(chosen), device)):
            parts.append(cascade.reconstruct(part, chosen).flatten(2))
            advance((1 - _FITTING) * len(part) / len(shown))
    back, images = torch.cat(parts, 1), shown.flatten(1)  # (layers, images, pixels), without layers
    relative = {
        convention: reconstruction.relative_entropy(images, back, convention=convention)
        for convention in reconstruction.CONVENTIONS
    }
    last = relative["published"][-1].clamp_min(torch.finfo(torch.float64).tiny)
    columns = {
        "differential": reconstruction.differential_entropy(back, image_axes=1),
        "differential_published": _published(back),
        "relative": relative["printed"].mean(1),
        "relative_published": (relative["published"] / last).median(1).values,
        "correlation": reconstruction.correlation(images, back),
    }
    return pd.DataFrame(
        {"layer": chosen} | {name: values.cpu().numpy() for name, values in columns.items()}
    )


def _published(back: Tensor) -> Tensor:
    """Return the entropy of normalised images by layer, NaN where one has nothing to divide by."""
    found = torch.full((len(back),), torch.nan, dtype=torch.float64, device=back.device)
    sound = (back.double().sum(-1) != 0).all(-1)
    if bool(sound.any()):
        found[sound] = reconstruction.differential_entropy(
            back[sound], convention="published", image_axes=1
        )
    return found


def _at_once(cascade: reconstruction.Cascade, n_layers: int, device: torch.device) -> int:
    """Return how many images are to be reconstructed from all layers at a time."""
    each = max(
        geometry.channels[0] * len(members.taps) * len(members.writes)
        for geometry in set(cascade.geometries)
        for members in geometry.classes(device)
    )
    return max(1, _SWEEP_BYTES[device.type] // (each * n_layers * cascade.chain.dtype.itemsize))


@contextlib.contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        if device.type == "cuda":  # convolutions of torch's own modules have a switch of their own
            stack.enter_context(torch.backends.cudnn.flags(enabled=True, allow_tf32=False))
        stack.enter_context(descent.matmul_precision("ieee"))
        yield
