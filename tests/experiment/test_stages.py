"""Networks rebuilt from state dicts alone, against the same layers written out by hand."""

import runpy
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from mflib import paths, recorded
from mflib.experiment import data, reconstruction, stages, weights
from mflib.experiment.data import DataUnavailable

ENCODER = {1: (0, 2), 2: (0, 2, 5, 9), 3: (0, 2, 5, 9, 12, 16)}
DECODER = {1: (1,), 2: (1, 5, 8), 3: (1, 5, 8, 12, 15)}


def state(places, channels, sides, prefix=""):
    generator = torch.Generator().manual_seed(0)
    out = {}
    for place, (deep, wide), side in zip(places, channels, sides, strict=True):
        weight = torch.randn(wide, deep, side, side, generator=generator) / (deep * side**2) ** 0.5
        out[f"{prefix}{place}.weight"] = weight
        out[f"{prefix}{place}.bias"] = torch.randn(wide, generator=generator) / 10
    return out


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "nets" / "vgg19_stages"
    root.mkdir(parents=True)
    up = [(3, 3), (3, 4), (4, 4), (4, 5), (5, 5), (5, 6)]
    down = [(6, 5), (5, 5), (5, 4), (4, 4), (4, 3)]
    for stage in stages.STAGES:
        n, m = len(ENCODER[stage]), len(DECODER[stage])
        torch.save(
            state(ENCODER[stage], up[:n], [1] + [3] * (n - 1)),
            root / f"vgg_normalised_conv{stage}_1.pth",
        )
        torch.save(
            state(DECODER[stage], down[-m:], [3] * m),
            root / f"feature_invertor_conv{stage}_1.pth",
        )
    return root


def mirrored(x, held, place):
    return F.conv2d(
        F.pad(x, (1, 1, 1, 1), mode="reflect"), held[f"{place}.weight"], held[f"{place}.bias"]
    )


def test_stages_and_inverters_are_the_layers_that_their_files_hold(folder, monkeypatch):
    monkeypatch.setenv("MFLIB_DATA", str(folder.parent.parent))
    x = torch.rand(2, 3, 12, 8, generator=torch.Generator().manual_seed(1))
    held = torch.load(folder / "vgg_normalised_conv3_1.pth", weights_only=True)
    y = F.conv2d(x, held["0.weight"], held["0.bias"])
    y = F.relu(mirrored(F.relu(mirrored(y, held, 2)), held, 5))
    y = F.max_pool2d(y, 2)
    y = F.relu(mirrored(F.relu(mirrored(y, held, 9)), held, 12))
    y = F.relu(mirrored(F.max_pool2d(y, 2), held, 16))
    with torch.no_grad():
        torch.testing.assert_close(stages.vgg19_stages()(x), y)
        held = torch.load(folder / "feature_invertor_conv3_1.pth", weights_only=True)
        z = F.relu(mirrored(y, held, 1)).repeat_interleave(2, 2).repeat_interleave(2, 3)
        z = F.relu(mirrored(F.relu(mirrored(z, held, 5)), held, 8))
        z = z.repeat_interleave(2, 2).repeat_interleave(2, 3)
        z = mirrored(F.relu(mirrored(z, held, 12)), held, 15)
        torch.testing.assert_close(stages.inverter(3)(y), z)
        for stage in (1, 2):
            z = stages.inverter(stage, folder)(stages.vgg19_stages(stage, folder)(x))
            assert z.shape == x.shape


def test_cascades_find_the_blocks_of_the_stages(folder):
    x = torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    fitted = reconstruction.cascade(
        stages.vgg19_stages(folder=folder), x, mode="closed-form", progress=False
    )
    assert [shape[0] for shape in fitted.chain.shapes] == [3, 4, 4, 4, 5, 5, 5, 6]
    assert [g.strides[0] for g in fitted.geometries] == [1, 1, 2, 1, 1, 2, 1]


def test_vgg16_normalises_and_has_eighteen_blocks(tmp_path, monkeypatch):
    places = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    held = state(places, [(3, 4)] + [(4, 4)] * 12, [3] * 13, prefix="features.")
    torch.save(held | {"classifier.0.weight": torch.zeros(2, 4)}, tmp_path / "vgg16.pth")
    monkeypatch.setattr(weights, "_pretrained", lambda name: tmp_path / f"{name}.pth")
    network = stages.vgg16()
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    mean, deviation = (
        torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    y = (x - mean) / deviation
    for place in places:
        weight, bias = (held[f"features.{place}.{part}"] for part in ("weight", "bias"))
        # Zeros beyond the edge stand for the mean colour only after normalisation.
        y = F.relu(F.conv2d(y, weight, bias, padding=1))
        if place in (2, 7, 14, 21, 28):
            y = F.max_pool2d(y, 2)
    with torch.no_grad():
        torch.testing.assert_close(network(x), y)
    fitted = reconstruction.cascade(network, x, mode="closed-form", progress=False)
    assert fitted.depth == 18


def test_photographs_come_with_scikit_learn_or_from_a_file(tmp_path):
    china = stages.photograph("china")
    assert china.shape == (3, 427, 640)
    assert 0 <= china.min() < 0.1
    assert 0.9 < china.max() <= 1
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    Image.fromarray(pixels).save(tmp_path / "own.png")
    own = stages.photograph(tmp_path / "own.png")
    np.testing.assert_allclose(own.permute(1, 2, 0) * 255, pixels, atol=1e-4)


def test_what_is_missing_or_of_another_layout_is_named(folder, tmp_path, monkeypatch):
    monkeypatch.delenv("MFLIB_DATA", raising=False)
    with pytest.raises(DataUnavailable, match=r"conv3_1\.pth is not on this machine: put"):
        stages.vgg19_stages()
    with pytest.raises(DataUnavailable, match="feature_invertor_conv2_1"):
        stages.inverter(2, tmp_path)
    with pytest.raises(ValueError, match="stage=4 must be one of 1, 2, 3"):
        stages.inverter(4, folder)
    with pytest.raises(ValueError, match='must be "china", "flower" or the path'):
        stages.photograph(folder / "vgg_normalised_conv1_1.pth")
    torch.save(state((0, 9), [(3, 3), (3, 4)], [1, 3]), folder / "vgg_normalised_conv1_1.pth")
    with pytest.raises(ValueError, match=r"convolution 9 .* comes 8 places after"):
        stages.vgg19_stages(1, folder)


def test_channels_one_at_a_time_and_what_they_are_like(folder):
    x = torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    fitted = reconstruction.cascade(
        stages.vgg19_stages(folder=folder), x, mode="closed-form", progress=False
    )
    found = stages.single_channels(fitted, x[0], 4)
    assert found.shape == (5, 3, 8, 8)
    for channel in range(5):
        torch.testing.assert_close(
            found[channel], reconstruction.reconstruct(fitted, x[0], 4, channels=channel)
        )
    torch.testing.assert_close(stages.single_channels(fitted, x[0].double(), np.int64(4)), found)
    for layer in (8, True, 1.0):
        with pytest.raises(ValueError, match=f"layer={layer} must be one of 0"):
            stages.single_channels(fitted, x[0], layer)
    with pytest.raises(ValueError, match=r"images of shape \(3, 8, 4\) are not those"):
        stages.single_channels(fitted, x[0, ..., :4], 4)


def test_likeness_tells_brightness_from_edges():
    step = torch.zeros(3, 48, 48)
    step[:, :, 24:] = 1
    edge = torch.zeros(3, 48, 48)
    edge[:, :, 23:25] = 1
    like = stages.likeness(torch.stack([step, -step, edge, torch.ones(3, 48, 48)]), step)
    np.testing.assert_allclose(like["picture"], [1, -1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(like["edges"], [0, 0, 1, 0], atol=1e-6)
    assert 0.95 < like["brightness"][0] < 1


def test_the_recording_tool_writes_table_pictures_and_provenance(folder, tmp_path, monkeypatch):
    x = torch.rand(30, 3 * 32 * 32, generator=torch.Generator().manual_seed(2))
    labels = torch.zeros(30, dtype=torch.int64)
    images = data.Dataset("noise", x, labels, x, labels, (3, 32, 32), 1, (0.0, 1.0), "")
    monkeypatch.setattr(data, "load", lambda *_, **__: images)
    target = tmp_path / "table.csv"
    arguments = ["record_vgg", str(folder), "--images", "30", "-o", str(target)]
    monkeypatch.setattr(sys, "argv", arguments)
    runpy.run_path(str(paths.root() / "tools" / "record_vgg.py"), run_name="__main__")
    table = pd.read_csv(target)
    assert set(table.kind) == {"all channels", "all channels, part", "one channel", "inverter"}
    assert (table.kind == "one channel").sum() == 2 * (4 + 5 + 6)
    record = recorded.record(target)
    assert list(record["beside"]) == ["table.npz"]
    for suffix in (".csv", ".npz"):
        assert recorded.read(target.with_suffix(suffix))
    assert len(record["network"]["files"]) == 6
    with np.load(target.with_suffix(".npz")) as pictures:
        assert pictures["image"].shape == pictures["block7"].shape == (120, 168, 3)
        assert len(pictures.files) == 4 + 2 * 3
