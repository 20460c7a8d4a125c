"""Convolutional networks trained on photographs, and photographs to send through them.

Both kinds are an ``nn.Sequential`` that reads RGB images (n, 3, H, W) in [0, 1], with their
normalisation as a first 1 × 1 convolution, so that ``reconstruction.cascade`` finds their blocks:
one per rectified convolution and one per max-pooling.

Which one when: ``vgg19_stages`` for the first five convolutions of VGG-19, whose files are small
and come with inverters that were trained end to end (``inverter``); ``vgg16`` for the network of
the paper's figure 7, with all thirteen convolutions.
"""

from __future__ import annotations

import hashlib
import numbers
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import ndimage
from torch import Tensor, nn

from mflib.experiment import _checks, data, weights
from mflib.experiment.reconstruction import Cascade

STAGES = (1, 2, 3)
_FOLDER = "vgg19_stages"
_KINDS = ("vgg_normalised", "feature_invertor")
_VGG16 = (2, 2, 3, 3, 3)  # convolutions before each max-pooling
_PICTURES = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP")
_AT_ONCE = 16  # channels decoded together
# torchvision's normalisation: mean and deviation of ImageNet's red, green and blue.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def vgg19_stages(stage: int = 3, folder: str | os.PathLike[str] | None = None) -> nn.Sequential:
    """Return VGG-19 up to the first convolution of a stage, conv1_1, conv2_1 or conv3_1.

    Reads ``vgg_normalised_conv{stage}_1.pth`` of pietrocarbo/deep-transfer from ``folder``
    (``vgg19_stages`` in MFLIB_DATA or in its folder ``nets``): filters rescaled so that every
    layer's mean activation is 1, edges mirrored. Its outputs are those after the rectifier.

    Raises ValueError for another stage or a file of another layout, DataUnavailable where there
    is no file.
    """
    return _sequence(_state(_KINDS[0], stage, folder), lambda: nn.MaxPool2d(2), True)


def inverter(stage: int, folder: str | os.PathLike[str] | None = None) -> nn.Sequential:
    """Return the published network that maps activations of a stage back to images.

    Reads ``feature_invertor_conv{stage}_1.pth`` beside the stages: it was trained end to end on
    photographs, all its layers at once, where a cascade has decoders of single layers. Raises
    what ``vgg19_stages`` raises.
    """
    return _sequence(_state(_KINDS[1], stage, folder), lambda: nn.Upsample(scale_factor=2), False)


def checksums(folder: str | os.PathLike[str] | None = None) -> dict[str, str]:
    """Return the SHA-256 of every file of the stages and their inverters, by name."""
    files = [_file(kind, stage, folder) for kind in _KINDS for stage in STAGES]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def vgg16() -> nn.Sequential:
    """Return the convolutions, rectifiers and poolings of torchvision's pretrained VGG-16.

    The weights are looked for in the folder MFLIB_DATA and in torch's cache, else downloaded;
    18 blocks, 13 rectified convolutions and 5 max-poolings. Raises DataUnavailable where the
    weights cannot be had.
    """
    return _vgg(weights._read(weights._pretrained("vgg16")))


def photograph(source: str | os.PathLike[str]) -> Tensor:
    """Return a photograph (3, H, W) in [0, 1].

    ``source``: "china" or "flower", the two that come with scikit-learn (CC BY 2.0), or the path
    of a picture. Raises ValueError for a file that is none of these kinds.
    """
    from sklearn.datasets import load_sample_image

    if source in ("china", "flower"):
        pixels = load_sample_image(f"{source}.jpg")
    else:
        from PIL import Image

        try:
            # Only these: PostScript, say, is a program, which Ghostscript would run.
            with Image.open(source, formats=_PICTURES) as opened:
                pixels = np.asarray(opened.convert("RGB"))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            raise ValueError(
                f'photograph {str(source)!r} must be "china", "flower" or the path of a picture '
                f"({', '.join(_PICTURES)})"
            ) from None
    return torch.tensor(pixels, dtype=torch.float32).permute(2, 0, 1).div_(255)


def single_channels(fitted: Cascade, image: Tensor, layer: int) -> Tensor:
    """Return what a layer's channels keep of an image, one at a time: (channels, C, H, W).

    Every other channel is set to zero, as in the paper's figure 7, and the decoders stay those
    that were fitted to all channels together. The same as ``fitted.reconstruct`` with
    ``channels`` one by one, but the image passes through the network once. ``image`` (C, H, W).
    Raises ValueError for a layer that is not a feature map, an ensemble of networks, and what
    ``reconstruct`` raises.
    """
    whole = isinstance(layer, numbers.Integral) and not isinstance(layer, bool)
    shape = fitted.chain.shapes[layer] if whole and 0 <= layer <= fitted.depth else ()
    if len(shape) != 3:
        raise ValueError(
            f"layer={layer!r} must be one of 0 … {fitted.depth} whose state has channels; "
            f"shapes are {fitted.chain.shapes}"
        )
    if fitted.chain.n_members != 1:
        raise ValueError(
            f"the cascade is of {fitted.chain.n_members} networks, whose channels differ: fit it "
            "to one"
        )
    z = fitted.states(torch.as_tensor(image).unsqueeze(0), layer)[layer].view(shape)
    found = []
    for channels in torch.arange(shape[0], device=z.device).split(_AT_ONCE):
        alone = z.new_zeros(len(channels), *shape)
        alone[torch.arange(len(channels)), channels] = z[channels]
        found.append(fitted.decode(alone, layer))
    return torch.cat(found)


def likeness(pictures: Tensor, image: Tensor) -> pd.DataFrame:
    """Return the correlation of pictures (n, C, H, W) with features of an image, over its pixels.

    All in grey, the mean over colours. Columns: picture, the image itself; brightness, the image
    smoothed by a Gaussian of 1/24 of its shorter side; edges, the size of its gradient (Sobel).
    0 for a picture without contrast.
    """
    grey = image.double().mean(0).cpu().numpy()
    features = {
        "picture": grey,
        "brightness": ndimage.gaussian_filter(grey, min(grey.shape) / 24),
        "edges": np.hypot(ndimage.sobel(grey, 0), ndimage.sobel(grey, 1)),
    }
    seen = pictures.double().mean(1).flatten(1).cpu().numpy()
    seen = seen - seen.mean(1, keepdims=True)
    table = {}
    for name, feature in features.items():
        wanted = feature.ravel() - feature.mean()
        size = np.linalg.norm(seen, axis=1) * np.linalg.norm(wanted)
        table[name] = np.divide(seen @ wanted, size, out=np.zeros(len(seen)), where=size > 1e-9)
    return pd.DataFrame(table)


def _folder(folder: str | os.PathLike[str] | None) -> Path | None:
    """Return the folder with the stages: as given, else in MFLIB_DATA."""
    if folder is not None:
        return Path(folder)
    given = os.environ.get("MFLIB_DATA")
    candidates = [Path(given).expanduser() / part for part in ("", "nets")] if given else []
    return next((root / _FOLDER for root in candidates if (root / _FOLDER).is_dir()), None)


def _state(kind: str, stage: int, folder: str | os.PathLike[str] | None) -> Mapping[str, Tensor]:
    return weights._read(_file(kind, stage, folder))


def _file(kind: str, stage: int, folder: str | os.PathLike[str] | None) -> Path:
    _checks.require(stage in STAGES, "stage", stage, f"one of {', '.join(map(str, STAGES))}")
    found, name = _folder(folder), f"{kind}_conv{stage}_1.pth"
    if found is None or not (found / name).is_file():
        raise data.DataUnavailable(
            f"{name} is not on this machine: put the files of pietrocarbo/deep-transfer into the "
            f"folder {_FOLDER} of MFLIB_DATA"
        )
    return found / name


def _sequence(
    state: Mapping[str, Tensor], between: Callable[[], nn.Module], rectified: bool
) -> nn.Sequential:
    """Return the sequence whose convolutions a state dict holds, by their places in it.

    What has no parameters is told by the gaps: a mirrored edge stands before every convolution
    of side 3, a rectifier after every one that another follows (or after each, with
    ``rectified``), and ``between`` fills what is left.
    """
    at = sorted({int(name.split(".")[0]) for name in state})
    parts: list[nn.Module] = []
    for place in at:
        weight = state[f"{place}.weight"]
        spatial = weight.shape[2] > 1
        gap = place - len(parts)
        rectify = sum(isinstance(part, nn.Conv2d) and part.kernel_size[0] > 1 for part in parts) > 0
        filling = [
            *([nn.ReLU()] if rectify else []),
            *([between()] if gap > rectify + spatial else []),
            *([nn.ReflectionPad2d(1)] if spatial else []),
        ]
        if len(filling) != gap:
            raise ValueError(
                f"the convolution {place} of the state dict comes {gap} places after the one "
                "before it, which no stage of VGG-19 does: give the files of "
                "pietrocarbo/deep-transfer"
            )
        parts += [*filling, _convolution(weight)]
    network = nn.Sequential(*parts)
    network.load_state_dict(dict(state))
    if rectified:
        network.append(nn.ReLU())
    return network.eval()


def _convolution(weight: Tensor, padding: int = 0) -> nn.Conv2d:
    """Return a convolution of the shape of a weight; its values are loaded later."""
    wide, deep, side, _ = weight.shape
    return nn.Conv2d(deep, wide, side, padding=padding)


def _vgg(state: Mapping[str, Tensor]) -> nn.Sequential:
    parts: list[nn.Module] = []
    for count in _VGG16:
        for _ in range(count):
            weight = state[f"features.{len(parts)}.weight"]
            parts += [_convolution(weight, padding=1), nn.ReLU()]
        parts.append(nn.MaxPool2d(2))
    features = nn.Sequential(*parts)
    features.load_state_dict(
        {
            name.removeprefix("features."): values
            for name, values in state.items()
            if name.startswith("features.")
        }
    )
    scale = nn.Conv2d(3, 3, 1)
    with torch.no_grad():
        deviation = torch.tensor(_DEVIATION)
        scale.weight.copy_(torch.diag(1 / deviation).view(3, 3, 1, 1))
        scale.bias.copy_(-torch.tensor(_MEAN) / deviation)  # type: ignore[union-attr]
    return nn.Sequential(scale, *features).eval()
