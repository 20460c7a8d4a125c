"""Data sets: real values, the papers' ranges, and clear words where data is missing or damaged."""

import gzip
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mflib.experiment import data

ORIGINAL_DATA = os.environ.get("MFLIB_DATA")  # noted before the offline fixture clears it
IDX_FOLDERS = {"mnist": "MNIST/raw", "fashion-mnist": "FashionMNIST/raw"}


def given_root(name):
    """Return the folder of MFLIB_DATA if it holds the set, else skip."""
    root = os.environ.get("MFLIB_DATA")
    folder = {**IDX_FOLDERS, "cifar10": "cifar-10-batches-py"}[name]
    if not root or not (Path(root) / folder).is_dir():
        pytest.skip(f"MFLIB_DATA does not hold {name}")
    return Path(root)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No data folder, an empty cache, and no way out to the network."""
    import socket

    def refuse(*args, **kwargs):
        raise OSError("network is unreachable")

    monkeypatch.delenv("MFLIB_DATA", raising=False)
    monkeypatch.setenv("MFLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return tmp_path


def test_digits_are_the_handwritten_digits_of_scikit_learn():
    from sklearn.datasets import load_digits

    digits = data.load("digits")
    assert digits.x_train.shape == (1437, 64)
    assert digits.x_test.shape == (360, 64)
    assert digits.x_train.dtype == torch.float32
    ours = torch.cat([digits.x_train, digits.x_test]).add(0.5).mul(16).round().int()
    labels = torch.cat([digits.y_train, digits.y_test])
    raw = load_digits()
    rows = {(*image.astype(int), int(y)) for image, y in zip(raw.data, raw.target, strict=True)}
    assert {(*image.tolist(), int(y)) for image, y in zip(ours, labels, strict=True)} == rows


def test_split_is_stratified_and_fixed_by_the_seed():
    first, again, other = (data.load("digits", seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.x_train, again.x_train)
    assert not torch.equal(first.x_train, other.x_train)
    assert first.checksum == again.checksum != other.checksum
    share = torch.bincount(first.y_test) / torch.bincount(torch.cat([first.y_train, first.y_test]))
    assert (share - 0.2).abs().max() < 0.01


@pytest.mark.parametrize("span", [(-0.5, 0.5), (0.25, 0.75)])
@pytest.mark.parametrize("name", ["digits", "wine", "breast-cancer", "noise"])
def test_inputs_fill_their_range(name, span):
    loaded = data.load(name, input_range=span)
    assert loaded.x_train.min() >= span[0]
    assert loaded.x_train.max() <= span[1]
    assert loaded.x_train.min() < span[0] + 0.01
    assert loaded.x_train.max() > span[1] - 0.01
    assert loaded.y_train.max() == loaded.n_classes - 1
    assert loaded.y_train.dtype == torch.int64


def test_features_are_standardised_by_the_training_part():
    from sklearn.datasets import load_wine

    wine = data.load("wine", dtype=torch.float64)
    raw = load_wine().data
    spread = raw.std(0).max() / raw.std(0).min()
    assert spread > 1000  # the raw columns are far apart in scale; ours must not be
    inner = wine.x_train.std(0)
    assert inner.max() / inner.min() < 1.5
    assert wine.x_train.mean(0).abs().max() < 0.05


def test_input_range_follows_the_range_of_the_activation():
    assert data.input_range("sigmoid") == (0.25, 0.75)
    for name in ("tanh", "arctan", "softsign", "relu", "erf", "linear"):
        assert data.input_range(name) == (-0.5, 0.5)


def test_upsampling_keeps_the_picture_and_padding_keeps_the_pixels():
    plain = data.load("digits", dtype=torch.float64)
    large = data.load("digits", side=16, dtype=torch.float64)
    assert large.image_shape == (1, 16, 16)
    blocks = large.x_train.view(-1, 8, 2, 8, 2).mean((2, 4)).flatten(1)
    correlation = torch.corrcoef(torch.stack([blocks.flatten(), plain.x_train.flatten()]))[0, 1]
    assert correlation > 0.95
    padded = data.load("digits", side=11, resize="pad", dtype=torch.float64)
    picture = padded.x_train.view(-1, 11, 11)
    assert torch.equal(picture[:, 1:9, 1:9].flatten(1), plain.x_train)
    assert (picture[:, 9:] == -0.5).all()
    assert (picture[:, 0] == -0.5).all()


def test_noise_has_balanced_random_labels_and_the_asked_sizes():
    noise = data.load("noise", n_train=300, n_test=100, n_features=20, n_classes=4, seed=3)
    assert noise.x_train.shape == (300, 20)
    assert noise.image_shape == (20,)
    assert torch.bincount(torch.cat([noise.y_train, noise.y_test])).tolist() == [100] * 4
    assert abs(noise.x_train.double().var().item() - 1 / 12) < 0.005
    assert not torch.equal(noise.x_train, data.load("noise", n_train=300, seed=4).x_train[:, :20])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"name": "digit"}, "'digit' is not one of digits, mnist"),
        ({"name": "digits", "side": 0}, "side=0"),
        ({"name": "digits", "side": 4, "resize": "pad"}, "at least 8"),
        ({"name": "digits", "resize": "cubic"}, "bilinear"),
        ({"name": "wine", "side": 8}, "no images"),
        ({"name": "wine", "grey": True}, "no images, so grey=True"),
        ({"name": "noise", "grey": True}, "no images, so grey=True"),
        ({"name": "digits", "grey": 1}, "grey=1 must be True or False"),
        ({"name": "digits", "n_features": 3}, "belong to noise"),
        ({"name": "digits", "n_train": 5000}, "only 1437"),
        ({"name": "digits", "input_range": (0.5, 0.5)}, "input_range"),
        ({"name": "digits", "input_range": 3}, "input_range=3 must be two finite numbers"),
        ({"name": "digits", "input_range": (0, np.nan)}, "input_range=nan must be a finite number"),
        ({"name": "digits", "n_train": 2.5}, "n_train=2.5 must be an integer"),
        ({"name": "digits", "n_test": True}, "n_test=True must be an integer"),
        ({"name": "digits", "side": "a"}, "side='a' must be an integer"),
        ({"name": "digits", "seed": -1}, r"seed=-1 must be in \[0"),
        ({"name": "digits", "seed": 0.5}, "seed=0.5 must be an integer"),
        ({"name": ["digits"]}, "is not one of digits"),
        ({"name": "noise", "n_classes": 2.5}, "n_classes=2.5 must be an integer"),
        ({"name": "noise", "n_classes": 1}, "n_classes=1"),
        ({"name": "noise", "n_classes": 0}, "n_classes=0"),
        ({"name": "noise", "n_features": 0}, "n_features=0"),
    ],
)
def test_a_bad_argument_is_answered_in_one_sentence(arguments, says):
    with pytest.raises(ValueError, match=says) as caught:
        data.load(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10"])
def test_offline_and_missing_says_what_to_do(offline, name):
    with pytest.raises(data.DataUnavailable, match="set MFLIB_DATA to a folder") as caught:
        data.load(name)
    assert str(caught.value).startswith(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "folder"), IDX_FOLDERS.items())
def test_a_damaged_idx_file_is_named_and_refused(offline, monkeypatch, name, folder):
    raw = offline / "data" / folder
    raw.mkdir(parents=True)
    for file in data._IDX_MD5[folder.split("/")[0]]:
        (raw / file).write_bytes(b"not the real content")
    monkeypatch.setenv("MFLIB_DATA", str(offline / "data"))
    with pytest.raises(data.DataDamaged, match="train-images-idx3-ubyte is damaged"):
        data.load(name)


def test_a_damaged_file_among_good_ones_is_the_one_named(offline, monkeypatch):
    root = Path(ORIGINAL_DATA) if ORIGINAL_DATA else None
    if root is None or not (root / "MNIST/raw").is_dir():
        pytest.skip("MFLIB_DATA does not hold mnist")
    copy = offline / "data" / "MNIST" / "raw"
    copy.mkdir(parents=True)
    for file in data._IDX_MD5["MNIST"]:
        shutil.copy(root / "MNIST/raw" / file, copy / file)
    labels = copy / "t10k-labels-idx1-ubyte"
    content = bytearray(labels.read_bytes())
    content[5000] ^= 1
    labels.write_bytes(content)
    monkeypatch.setenv("MFLIB_DATA", str(offline / "data"))
    with pytest.raises(data.DataDamaged, match="t10k-labels-idx1-ubyte is damaged"):
        data.load("mnist")


@pytest.mark.parametrize(
    ("name", "n_train", "shape"),
    [
        ("mnist", 60000, (1, 28, 28)),
        ("fashion-mnist", 60000, (1, 28, 28)),
        ("cifar10", 50000, (3, 32, 32)),
    ],
)
def test_torchvision_sets_load_whole(name, n_train, shape):
    root = given_root(name)
    loaded = data.load(name)
    assert loaded.x_train.shape == (n_train, np.prod(shape))
    assert loaded.x_test.shape == (10000, np.prod(shape))
    assert loaded.image_shape == shape
    assert torch.bincount(loaded.y_test, minlength=10).min() > 800
    assert loaded.x_train.min() == -0.5
    assert loaded.x_train.max() == 0.5
    if name in IDX_FOLDERS:
        packed = root / IDX_FOLDERS[name] / "t10k-images-idx3-ubyte.gz"
        if packed.exists():  # read past torchvision: header of 16 bytes, then the pixels
            pixels = np.frombuffer(gzip.decompress(packed.read_bytes()), np.uint8, offset=16)
            ours = loaded.x_test.add(0.5).mul(255).round().to(torch.uint8).numpy()
            assert np.array_equal(ours, pixels.reshape(10000, -1))


def test_padding_mnist_centres_the_digit():
    given_root("mnist")
    plain, padded = data.load("mnist"), data.load("mnist", side=32, resize="pad")
    picture = padded.x_test.view(-1, 32, 32)
    assert torch.equal(picture[:, 2:30, 2:30].flatten(1), plain.x_test)


def test_grey_is_the_mean_over_colours(monkeypatch):
    colours = np.random.default_rng(0).integers(0, 256, (6, 3, 4, 5), np.uint8)
    raw = data._Raw(colours[:4], np.arange(4), colours[4:], np.arange(2), 255.0, "images")
    monkeypatch.setitem(data._READERS, "colours", lambda name, seed: raw)
    grey = data.load("colours", grey=True, input_range=(0.0, 1.0))
    assert grey.image_shape == (1, 4, 5)
    want = colours[:4].astype(np.float64).mean(1).reshape(4, 20) / 255
    assert np.abs(grey.x_train.numpy() - want).max() < 1e-6
    assert grey.checksum == data.load("colours").checksum  # of the data as they come


@pytest.mark.parametrize("declared", [False, True])
def test_torchvision_imports_beside_any_torch(declared):
    """A fresh process imports it, also where its operators exist already."""
    code = "import torch\n"
    if declared:
        code += (
            "lib = torch.library.Library('torchvision', 'DEF')\n"
            "for op in ('nms', 'qnms'):\n"
            "    lib.define(op + '(Tensor d, Tensor s, float t) -> Tensor')\n"
        )
    code += (
        "from mflib.experiment.data import import_torchvision\n"
        "print(import_torchvision().datasets.MNIST.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if declared and "same name" in done.stderr:
        pytest.skip("this torchvision brings its own operators")
    assert done.stdout.strip() == "MNIST", done.stderr
