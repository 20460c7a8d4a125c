"""Data sets as tensors on one device: bundled real sets, torchvision's, and white noise."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import io
import os
import pickle
import socket
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mflib import paths
from mflib.experiment import _checks
from mflib.experiment.nonlinearities import nonlinearity

OPTIONS = ("side", "resize", "grey", "seed", "n_train", "n_test", "n_features", "n_classes")
_TEST_SHARE = 0.2
_DOWNLOAD_TIMEOUT = 30.0


class DataUnavailable(RuntimeError):
    """A data set is neither on this machine nor reachable; the message says what to do."""


class DataDamaged(RuntimeError):
    """A data file does not have its published checksum; the message names it."""


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set that sits whole on one device.

    ``x_train`` (n, d) and ``x_test`` (m, d) hold values of ``input_range``; ``y_train`` (n,) and
    ``y_test`` (m,) are int64 classes 0 … n_classes − 1. ``image_shape`` is (channels, height,
    width), or (d,) where inputs are not images. ``checksum`` is the SHA-256 of the raw arrays
    before resizing and scaling.
    """

    name: str
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    image_shape: tuple[int, ...]
    n_classes: int
    input_range: tuple[float, float]
    checksum: str

    def fingerprint(self) -> str:
        """Return the SHA-256 of the tensors themselves: what training sees, resized and scaled.

        It is computed once: CIFAR-10 takes seconds.
        """
        if "_fingerprint" not in self.__dict__:
            parts = (self.x_train, self.y_train, self.x_test, self.y_test)
            found = _digest(tensor.cpu().numpy() for tensor in parts)
            object.__setattr__(self, "_fingerprint", found)
        return str(self.__dict__["_fingerprint"])

    def to(self, device: torch.device | str) -> Dataset:
        """Return the same data on a device, with the fingerprint where it was computed already."""
        names = ("x_train", "y_train", "x_test", "y_test")
        moved = {name: getattr(self, name).to(device) for name in names}
        if all(moved[name] is getattr(self, name) for name in names):
            return self
        found = dataclasses.replace(self, **moved)
        if "_fingerprint" in self.__dict__:
            object.__setattr__(found, "_fingerprint", self.__dict__["_fingerprint"])
        return found


@dataclasses.dataclass(frozen=True)
class _Raw:
    """Arrays as they come: images (n, channels, h, w) in [0, full], or features (n, d)."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    full: float
    scaling: str  # "images"; "features", standardised by the training part; or "none"

    def checksum(self) -> str:
        return _digest((self.x_train, self.y_train, self.x_test, self.y_test))


def _digest(arrays: Iterable[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def input_range(activation: object) -> tuple[float, float]:
    """Return the papers' input range: [0.25, 0.75] if φ's values lie in [0, 1], else [-0.5, 0.5].

    >>> input_range("sigmoid"), input_range("relu")
    ((0.25, 0.75), (-0.5, 0.5))
    """
    low, high = getattr(activation, "range", None) or nonlinearity(activation).range
    return (0.25, 0.75) if low >= 0 and high <= 1 else (-0.5, 0.5)


def load(
    name: str,
    *,
    side: int | None = None,
    resize: str = "bilinear",
    grey: bool = False,
    input_range: tuple[float, float] = (-0.5, 0.5),
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    n_train: int | None = None,
    n_test: int | None = None,
    n_features: int | None = None,
    n_classes: int | None = None,
) -> Dataset:
    """Load a data set whole onto a device, scaled to ``input_range``.

    - ``digits`` (1,797 handwritten digits, 8 × 8), ``breast-cancer`` (569 × 30), ``wine``
      (178 × 13): bundled with scikit-learn; a stratified fifth, fixed by ``seed``, is the test set.
    - ``mnist``, ``fashion-mnist``, ``cifar10``: their own split, read from the folder
      ``MFLIB_DATA`` (a torchvision root), else from the user's cache, else downloaded by
      torchvision into that cache. No code from a file is ever run.
    - ``noise``: white noise, uniform over ``input_range``, with random labels; sizes
      ``n_train``, ``n_test``, ``n_features``, ``n_classes`` (1024, 256, 64, 10 unless given).

    Images map [0, full scale] onto ``input_range`` linearly. Features are standardised by the
    training part, clipped at two standard deviations and mapped linearly. ``side`` resizes
    images to side × side: ``resize="bilinear"`` interpolates, ``"pad"`` surrounds them with
    background. ``grey=True`` averages images over their channels. ``n_train`` and ``n_test`` keep
    the first so many samples of any set (those of ``digits``, ``breast-cancer`` and ``wine`` are
    already shuffled by ``seed``).

    Raises ValueError for a bad argument, DataUnavailable where the data cannot be had, and
    DataDamaged for a file with a wrong checksum; one in the cache is downloaded again first.
    """
    lo, hi = _checks.interval("input_range", input_range)
    for label, value, least in (
        ("side", side, 1),
        ("n_train", n_train, 1),
        ("n_test", n_test, 1),
        ("n_features", n_features, 1),
        ("n_classes", n_classes, 2),
    ):
        if value is not None:
            _checks.count(label, value, least)
    _checks.require(0 <= _checks.number("seed", seed, int) < 2**32, "seed", seed, "in [0, 2^32)")
    if resize not in ("bilinear", "pad"):
        raise ValueError(f'resize={resize!r} must be "bilinear" or "pad"')
    if not isinstance(grey, bool):
        raise ValueError(f"grey={grey!r} must be True or False")
    if name == "noise":
        if side is not None:
            raise ValueError("noise has no side: give n_features, its number of inputs")
        features = 64 if n_features is None else n_features
        classes = 10 if n_classes is None else n_classes
        raw = _noise(n_train or 1024, n_test or 256, features, classes, seed)
    elif not isinstance(name, str) or name not in _READERS:
        raise ValueError(f"data set {name!r} is not one of {', '.join(names())}")
    elif n_features is not None or n_classes is not None:
        raise ValueError(f"n_features and n_classes belong to noise; {name} has its own")
    else:
        raw = _READERS[name](name, seed)
    x_train, x_test = raw.x_train[:n_train], raw.x_test[:n_test]
    y_train, y_test = raw.y_train[:n_train], raw.y_test[:n_test]
    for label, wanted, kept in (("n_train", n_train, x_train), ("n_test", n_test, x_test)):
        if wanted is not None and len(kept) < wanted:
            raise ValueError(f"{label}={wanted}: {name} has only {len(kept)} such samples")
    if raw.scaling == "features":
        x_train, x_test = _standardise(x_train, x_test)
    train, test = (torch.as_tensor(x, dtype=dtype).div(raw.full) for x in (x_train, x_test))
    if raw.scaling == "images":
        if grey:
            train, test = (x.mean(1, keepdim=True) for x in (train, test))
        train, test = (_resize(x, side, resize, name) for x in (train, test))
    elif side is not None or grey:
        given = f"side={side}" if side is not None else "grey=True"
        raise ValueError(f"{name} holds no images, so {given} means nothing for it")

    def scaled(unit: Tensor) -> Tensor:
        return unit.flatten(1).mul(hi - lo).add_(lo).to(device=device)

    return Dataset(
        name=name,
        x_train=scaled(train),
        y_train=torch.as_tensor(y_train.astype(np.int64), device=device),
        x_test=scaled(test),
        y_test=torch.as_tensor(y_test.astype(np.int64), device=device),
        image_shape=tuple(train.shape[1:]),
        n_classes=int(max(raw.y_train.max(), raw.y_test.max())) + 1,
        input_range=(lo, hi),
        checksum=raw.checksum(),
    )


def check_same(
    known: Dataset, name: str, dtype: torch.dtype, input_range: tuple[float, float]
) -> None:
    """Raise ValueError unless a data set is of this name, dtype and range."""
    found = known.name, known.x_train.dtype, tuple(known.input_range)
    if found != (name, dtype, tuple(input_range)):
        raise ValueError(
            f"dataset is {found[0]} as {found[1]} in {list(found[2])}, but the settings ask for "
            f"{name} as {dtype} in {list(input_range)}: give what their load() returns, or none"
        )


def names() -> tuple[str, ...]:
    """Return the names that ``load`` knows."""
    return (*_READERS, "noise")


def cache_root() -> Path:
    """Return the folder into which data sets are downloaded."""
    return paths.cache() / "data"


def roots() -> list[Path]:
    """Return the folders in which torchvision's sets are looked for, in this order."""
    given = os.environ.get("MFLIB_DATA")
    return [*([Path(given).expanduser()] if given else []), cache_root()]


def found(name: str) -> Path | None:
    """Return the folder with all files of mnist, fashion-mnist or cifar10, unread; None without."""
    kind = _kind(name)
    files = (list(_files(kind, root)) for root in roots())
    return next((each[0].parent for each in files if all(path.is_file() for path in each)), None)


def _resize(unit: Tensor, side: int | None, resize: str, name: str) -> Tensor:
    """Return images (n, channels, h, w) in [0, 1], brought to side × side where asked."""
    height, width = unit.shape[-2:]
    if side is None or (height, width) == (side, side):
        return unit
    if resize == "bilinear":
        return torch.nn.functional.interpolate(
            unit, size=(side, side), mode="bilinear", align_corners=False, antialias=True
        ).clamp_(0, 1)
    if side < max(height, width):
        raise ValueError(f"side={side}: padding {name} needs at least {max(height, width)}")
    top, left = (side - height) // 2, (side - width) // 2
    margins = (left, side - width - left, top, side - height - top)
    return torch.nn.functional.pad(unit, margins)


def _standardise(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return features in [0, 1]: ±2 standard deviations of the training part, clipped."""
    mean, std = train.mean(0), train.std(0)
    std = np.where(std > 0, std, 1.0)
    halves = [np.clip((x - mean) / (2 * std), -1, 1) for x in (train, test)]
    return (halves[0] + 1) / 2, (halves[1] + 1) / 2


def _noise(n_train: int, n_test: int, n_features: int, n_classes: int, seed: int) -> _Raw:
    rng = np.random.default_rng([seed, 0x6E6F697365])
    x = rng.random((n_train + n_test, n_features))
    # Every class appears equally often in both parts together, in each by chance.
    y = rng.permutation(np.arange(n_train + n_test) % n_classes)
    return _Raw(x[:n_train], y[:n_train], x[n_train:], y[n_train:], 1.0, "none")


def _bundled(name: str, seed: int) -> _Raw:
    from sklearn import datasets, model_selection

    loader = {
        "digits": datasets.load_digits,
        "breast-cancer": datasets.load_breast_cancer,
        "wine": datasets.load_wine,
    }[name]
    bunch = loader()
    x, y = np.asarray(bunch.data, np.float64), np.asarray(bunch.target, np.int64)
    x_train, x_test, y_train, y_test = model_selection.train_test_split(
        x, y, test_size=_TEST_SHARE, stratify=y, random_state=seed
    )
    if name == "digits":
        x_train, x_test = (part.reshape(-1, 1, 8, 8) for part in (x_train, x_test))
        return _Raw(x_train, y_train, x_test, y_test, 16.0, "images")
    return _Raw(x_train, y_train, x_test, y_test, 1.0, "features")


# MD5 of the unpacked IDX files, in this order; torchvision reads them without a check of its own.
_IDX_MD5 = {
    "MNIST": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "FashionMNIST": {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
}
_TORCHVISION = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "cifar10": "CIFAR10"}


def import_torchvision() -> ModuleType:
    """Import torchvision, beside a torch for which its compiled operators were not built too.

    The wheel on the package index is built for the CUDA torch. Beside a CPU-only torch its
    library of operators does not load, and the import then fails with "operator
    torchvision::nms does not exist", because Python shadows of two operators are registered
    at import. Data sets and models need neither, so their signatures are declared here and
    the import repeated. That comes second because a build whose operators do load would
    refuse operators that are declared already.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for module in [m for m in sys.modules if m.split(".")[0] == "torchvision"]:
            del sys.modules[module]
        _DECLARED.append(torch.library.Library("torchvision", "DEF"))
        for operator in ("nms", "qnms"):
            _DECLARED[0].define(
                f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
        import torchvision
    return torchvision


_DECLARED: list[Any] = []  # a torch.library.Library withdraws its operators when it is collected


def _kind(name: str) -> Any:
    """Return torchvision's class of a set, for the names, addresses and checksums of its files."""
    import_torchvision()
    from torchvision import datasets

    return getattr(datasets, _TORCHVISION[name])


def _torchvision(name: str, seed: int) -> _Raw:
    kind, ours = _kind(name), cache_root()
    damage = None
    for root in roots():
        if not all(path.is_file() for path in _files(kind, root)):
            continue
        try:
            return _read(kind, root)
        except DataDamaged as found:
            if root != ours:
                raise
            damage = found
            warnings.warn(f"{damage}: downloading it again", RuntimeWarning, stacklevel=4)
    _download(kind, ours, name, damage)
    return _read(kind, ours)


def _files(kind: Any, root: Path) -> dict[Path, str]:
    """Return the files of a set, those of the training part first, each with its MD5."""
    if kind.__name__ in _IDX_MD5:
        folder = root / kind.__name__ / "raw"
        return {folder / file: md5 for file, md5 in _IDX_MD5[kind.__name__].items()}
    folder = root / kind.base_folder
    return {folder / file: md5 for file, md5 in [*kind.train_list, *kind.test_list]}


def _read(kind: Any, root: Path) -> _Raw:
    """Return the arrays of a set. Raises DataDamaged where a file has a wrong checksum.

    Every file is read once: what is decoded is what was checked, whatever happens to the file.
    """
    files = _files(kind, root)
    if kind.__name__ in _IDX_MD5:
        x_train, y_train, x_test, y_test = (_idx(_intact(*file)) for file in files.items())
        x_train, x_test = x_train[:, None], x_test[:, None]
    else:
        batches = [_cifar_batch(*file) for file in files.items()]
        parts = batches[: len(kind.train_list)], batches[len(kind.train_list) :]
        (x_train, y_train), (x_test, y_test) = (
            (np.concatenate([x for x, _ in part]), np.concatenate([y for _, y in part]))
            for part in parts
        )
    labels = (y_train.astype(np.int64), y_test.astype(np.int64))
    return _Raw(x_train, labels[0], x_test, labels[1], 255.0, "images")


def _intact(path: Path, md5: str) -> bytes:
    """Return the content of a file. Raises DataDamaged where it has another checksum."""
    content = path.read_bytes()
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        raise DataDamaged(f"{path} is damaged (its MD5 is not {md5}): delete it and fetch it again")
    return content


def _idx(content: bytes) -> np.ndarray:
    """Return the array of an IDX file of bytes: its number of axes, their lengths, the entries."""
    axes = content[3]
    shape = np.frombuffer(content, ">i4", axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape).copy()


class _ArraysOnly(pickle.Unpickler):
    """Read a pickle of arrays, numbers, text, lists and dictionaries, and refuse any other.

    torchvision reads the batches of CIFAR-10 by plain pickle, which runs whatever a file says.
    """

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _CLASSES[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is no array") from None


_RECONSTRUCT = np.empty(0).__reduce__()[0]
_CLASSES: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


def _cifar_batch(path: Path, md5: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images (n, 3, 32, 32) and labels (n,) of a batch of CIFAR-10."""
    try:
        batch = _ArraysOnly(io.BytesIO(_intact(path, md5)), encoding="latin1").load()
        return batch["data"].reshape(-1, 3, 32, 32), np.asarray(batch["labels"])
    except (pickle.UnpicklingError, KeyError, TypeError, AttributeError) as error:
        raise DataDamaged(
            f"{path} is no batch of CIFAR-10 ({error}): delete it and fetch it again"
        ) from None


def _download(kind: Any, root: Path, name: str, damage: DataDamaged | None) -> None:
    """Download a set into ``root``, where each of its files is put whole, checked or not at all."""
    from torchvision.datasets import VisionDataset

    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_DOWNLOAD_TIMEOUT)  # a silent network must not hang the caller
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=f".{name}.", suffix=".part") as part:
            # Its own constructor would go on to read what it has downloaded, by plain pickle.
            fetched = kind.__new__(kind)
            VisionDataset.__init__(fetched, part)
            with contextlib.redirect_stdout(sys.stderr):
                fetched.download()
            files = _files(kind, Path(part))
            for path, md5 in files.items():
                _intact(path, md5)
            for path in files:
                target = root / path.relative_to(part)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, target)
    except (OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno in _DISK:
            raise DataUnavailable(
                f"{name} cannot be downloaded into {root} ({os.strerror(error.errno)}): make room "
                "there, set MFLIB_CACHE to another folder, or MFLIB_DATA to one that holds it"
            ) from None
        if damage is not None:
            raise DataDamaged(f"{damage}; it could not be downloaded again") from None
        raise DataUnavailable(
            f"{name} is not on this machine and could not be downloaded: set MFLIB_DATA to a "
            "folder that holds it as torchvision lays it out, or connect to the network and retry"
        ) from None
    finally:
        socket.setdefaulttimeout(timeout)


# What a folder, not a network, has to do with.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


_READERS: dict[str, Callable[[str, int], _Raw]] = {
    "digits": _bundled,
    "mnist": _torchvision,
    "fashion-mnist": _torchvision,
    "cifar10": _torchvision,
    "breast-cancer": _bundled,
    "wine": _bundled,
}
