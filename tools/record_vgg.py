"""Record what the layers and channels of VGG-19's first stages keep of a photograph.

    python tools/record_vgg.py [FOLDER] [--images 1000] [-o results/reconstruction-entropy-vgg.csv]

FOLDER holds the files of pietrocarbo/deep-transfer, ``vgg19_stages`` in MFLIB_DATA unless given.
Decoders are fitted in closed form on images of CIFAR-10; the photographs, the two that come with
scikit-learn at half their size, are seen only afterwards. Beside the table of numbers lie a
picture (.npz, arrays of bytes) and the provenance (.json).
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mflib import paths, recorded, sources
from mflib.experiment import data, reconstruction, stages

NAME = "reconstruction-entropy-vgg.csv"
PHOTOGRAPHS = ("china", "flower")
SHOWN = "china"
CROP = (slice(40, 160), slice(32, 200))  # rows and columns of it that are shown and whose channels
PART = "all channels, part"
FEATURES = ("brightness", "edges")
BLOCKS = {1: 1, 2: 4, 3: 7}  # stage → block whose output it is
CREDIT = "china.jpg and flower.jpg of scikit-learn: danielbuechele and vultilion, flickr, CC BY 2.0"


def half(photograph: Tensor) -> Tensor:
    """Return a photograph at half its size, each side cut to a multiple of 4."""
    small = torch.nn.functional.interpolate(
        photograph[None], scale_factor=0.5, mode="bilinear", antialias=True
    )[0]
    return small[:, : small.shape[1] // 4 * 4, : small.shape[2] // 4 * 4]


def noise_ratio(image: Tensor, picture: Tensor) -> float:
    """Return the peak signal-to-noise ratio in dB, the peak being 1."""
    return -10 * float((image - picture).square().mean().log10())


def row(image: Tensor, picture: Tensor, **place: object) -> dict[str, object]:
    """Return one row of the table."""
    flat = torch.stack([image.flatten(), picture.flatten()]).double()
    return {
        **place,
        "correlation": float(torch.corrcoef(flat)[0, 1]),
        "psnr": noise_ratio(image, picture),
        **stages.likeness(picture[None], image).iloc[0],
    }


def whole(fitted: reconstruction.Cascade, folder: Path | None, name: str) -> list[dict]:
    """Return the rows of one photograph: all channels of each block, and published inverters."""
    image = half(stages.photograph(name))
    pictures = fitted.resized(image.shape).reconstruct(image[None])[:, 0]
    rows = [
        row(image, picture, photograph=name, block=block, kind="all channels", channel=-1)
        for block, picture in enumerate(pictures, 1)
    ]
    for stage, block in BLOCKS.items():
        with torch.no_grad():
            inverted = stages.inverter(stage, folder)(
                stages.vgg19_stages(stage, folder)(image[None])
            )
        rows.append(
            row(image, inverted[0], photograph=name, block=block, kind="inverter", channel=-1)
        )
    return rows


def channels(
    fitted: reconstruction.Cascade, name: str
) -> tuple[list[dict], dict[int, Tensor], Tensor]:
    """Return rows and pictures of every channel of each stage, alone, on a part of the image."""
    image = half(stages.photograph(name))[:, *CROP]
    sized = fitted.resized(image.shape)
    rows, pictures = [], {}
    known = sized.reconstruct(image[None])[:, 0]
    for block in BLOCKS.values():
        rows.append(
            row(image, known[block - 1], photograph=name, block=block, kind=PART, channel=-1)
        )
        pictures[block] = stages.single_channels(sized, image, block)
        like = stages.likeness(pictures[block], image)
        rows += [
            {"photograph": name, "block": block, "kind": "one channel", "channel": k, **values}
            for k, values in enumerate(like.to_dict("records"))
        ]
    return rows, pictures, image


def chosen(table: pd.DataFrame) -> dict[tuple[int, str], int]:
    """Return the channels of each block most like one feature of the shown photograph.

    That is, by how much its |correlation| exceeds the |correlation| with the other feature.
    """
    alone = table[(table.kind == "one channel") & (table.photograph == SHOWN)]
    first, second = FEATURES
    found = {}
    for block, part in alone.groupby("block"):
        lead = part[first].abs() - part[second].abs()
        found[block, first] = int(part.channel[lead.idxmax()])
        found[block, second] = int(part.channel[lead.idxmin()])
    return found


def stretched(picture: Tensor) -> np.ndarray:
    """Return a picture in grey as bytes, from its darkest to its brightest pixel."""
    grey = picture.mean(0)
    low, high = grey.min(), grey.max()
    return ((grey - low) / (high - low) * 255).round().byte().numpy()


def coloured(picture: Tensor) -> np.ndarray:
    """Return a picture (3, H, W) in [0, 1] as bytes (H, W, 3)."""
    return (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


def record(folder: Path | None, count: int, output: Path) -> None:
    """Fit decoders, measure, and write table, pictures and provenance."""
    started = time.perf_counter()
    network = stages.vgg19_stages(folder=folder)
    fitted_on = data.load("cifar10", input_range=(0.0, 1.0), n_train=count)
    fitted = reconstruction.cascade(
        network, fitted_on.x_train.view(-1, *fitted_on.image_shape), mode="closed-form"
    )
    rows: list[dict] = []
    pictures: dict[str, Any] = {}
    for name in PHOTOGRAPHS:
        rows += whole(fitted, folder, name)
        more, alone, image = channels(fitted, name)
        rows += more
        if name == SHOWN:
            shown, single = image, alone
    table = pd.DataFrame(rows)
    pictures["image"] = coloured(shown)
    known = fitted.resized(shown.shape).reconstruct(shown[None], list(BLOCKS.values()))[:, 0]
    for block, picture in zip(BLOCKS.values(), known, strict=True):
        pictures[f"block{block}"] = coloured(picture)
    for (block, feature), channel in chosen(table).items():
        pictures[f"block{block}_{feature}_channel{channel}"] = stretched(single[block][channel])
    packed = io.BytesIO()
    np.savez_compressed(packed, **pictures)
    recorded.write(
        output,
        table.to_csv(index=False, float_format="%.4g").encode(),
        command=f"python tools/record_vgg.py --images {count} -o results/{output.name}",
        code=sources.code_version("mflib.experiment.stages"),
        seconds=time.perf_counter() - started,
        beside={output.with_suffix(".npz").name: packed.getvalue()},
        photographs=CREDIT,
        decoders=f"closed form, {count} images of CIFAR-10, noise floor of one epoch of MNIST",
        images_sha256=fitted_on.fingerprint(),
        network={
            "origin": "pietrocarbo/deep-transfer, Apache-2.0; VGG: Oxford, CC BY 4.0",
            "files": stages.checksums(folder),
        },
    )


def main() -> None:
    """Read the command line and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="vgg19_stages in MFLIB_DATA")
    parser.add_argument("--images", type=int, default=1000, help="of CIFAR-10, to fit decoders on")
    parser.add_argument("-o", "--output", type=Path, default=paths.results() / NAME)
    options = parser.parse_args()
    try:
        record(options.folder, options.images, options.output)
    except (ValueError, data.DataUnavailable, data.DataDamaged) as error:
        print(f"record_vgg: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
